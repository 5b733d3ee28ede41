#!/usr/bin/env python3
"""Random sentences of the grammars of schemas, validated by Python's jsonschema with its format checks.

  schema_walks.py ACCEPTS [WALKS]

SCHEMAS are of the kinds that people use for structured output and for tools. WALKS (8) documents are drawn for each;
all must parse and validate. Numbers are read as decimals, so that multipleOf 0.01 means what it says. Also timed:
how long a schema takes to compile. Exit status 77: jsonschema is not here.
"""
import decimal
import json
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    sys.exit(77)


def obj(required=None, closed=True, **properties):
    schema = {"type": "object", "properties": properties}
    schema["required"] = list(properties) if required is None else required
    if closed:
        schema["additionalProperties"] = False
    return schema


S, I, N, B = ({"type": t} for t in ("string", "integer", "number", "boolean"))


def arr(items, **more):
    return {"type": "array", "items": items, **more}


def text(**more):
    return {"type": "string", **more}


def tagged(name, **properties):
    return obj(kind={"const": name}, **properties)


SCHEMAS = {
    "weather tool": obj(["location"], location=text(description="City and state"), unit={"enum": ["celsius", "fahrenheit"]}),
    "search tool": obj(["query"], query=text(minLength=1, maxLength=200), limit={**I, "minimum": 1, "maximum": 50, "default": 10},
                       site=text(format="hostname"), safe=B),
    "calendar event": obj(["title", "start"], title=S, start=text(format="date-time"), end=text(format="date-time"),
                          attendees=arr(text(format="email"), maxItems=5)),
    "sentiment": {"type": "string", "enum": ["positive", "neutral", "negative"]},
    "score": obj(label={"enum": ["spam", "ham"]}, confidence={**N, "minimum": 0, "maximum": 1}),
    "person": obj(name=S, age={**I, "minimum": 0, "maximum": 150}, email={"anyOf": [text(format="email"), {"type": "null"}]}),
    "open person": obj(["name"], closed=False, name=S, age=I),
    "address": obj(street=S, city=S, zip=text(pattern=r"^\d{5}(-\d{4})?$"), country=text(pattern="^[A-Z]{2}$")),
    "rgb": arr({**I, "minimum": 0, "maximum": 255}, minItems=3, maxItems=3),
    "point": {"type": "array", "prefixItems": [N, N], "items": False, "minItems": 2},
    "mixed tuple": {"type": "array", "prefixItems": [S, I, {"enum": [True, None]}], "items": B, "minItems": 1, "maxItems": 6},
    "draft 7 tuple": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [S, N], "additionalItems": I},
    "tree": {"$ref": "#/$defs/node", "$defs": {"node": obj(value=I, children=arr({"$ref": "#/$defs/node"}, maxItems=3))}},
    "list cell": {"$defs": {"cell": obj(head=S, tail={"anyOf": [{"$ref": "#/$defs/cell"}, {"type": "null"}]})},
                  "$ref": "#/$defs/cell"},
    "expression": {"$defs": {"e": {"oneOf": [tagged("num", value=N), tagged("neg", of={"$ref": "#/$defs/e"}),
                                             tagged("add", left={"$ref": "#/$defs/e"}, right={"$ref": "#/$defs/e"})]}},
                   "$ref": "#/$defs/e"},
    "shapes": {"oneOf": [tagged("circle", r={**N, "exclusiveMinimum": 0}), tagged("square", side={**N, "exclusiveMinimum": 0}),
                         tagged("rect", w=N, h=N)]},
    "discriminated allOf": {"type": "object", "properties": {"id": I}, "required": ["id"],
                            "anyOf": [{"properties": {"kind": {"const": "a"}, "x": S}, "required": ["kind", "x"]},
                                      {"properties": {"kind": {"const": "b"}, "y": I}, "required": ["kind", "y"]}]},
    "allOf base": {"allOf": [{"type": "object", "properties": {"id": text(format="uuid")}, "required": ["id"]},
                             {"type": "object", "properties": {"name": text(minLength=2)}, "required": ["name"]}]},
    "pydantic": {"$defs": {"Role": {"enum": ["admin", "user"], "title": "Role", "type": "string"},
                           "User": {"properties": {"name": {"title": "Name", "type": "string"}, "role": {"$ref": "#/$defs/Role"},
                                                   "tags": {"default": [], "items": S, "title": "Tags", "type": "array"}},
                                    "required": ["name", "role"], "title": "User", "type": "object"}},
                 "properties": {"users": {"items": {"$ref": "#/$defs/User"}, "title": "Users", "type": "array", "minItems": 1}},
                 "required": ["users"], "title": "Users", "type": "object"},
    "pydantic optional": {"properties": {"a": {"anyOf": [I, {"type": "null"}], "default": None, "title": "A"},
                                         "b": {"anyOf": [arr(S), {"type": "null"}], "default": None}}, "type": "object"},
    "zod": {"$schema": "http://json-schema.org/draft-07/schema#", **obj(["a"], a=text(minLength=1), b={"type": ["string", "null"]},
                                                                     c={"not": {}})},
    "reasoning steps": obj(steps=arr(obj(explanation=S, output=S), minItems=1, maxItems=4), final_answer=S),
    "line items": obj(invoice=text(pattern=r"^INV-\d{4,8}$"), items=arr(obj(sku=text(pattern="^[A-Z0-9]{3,10}$"),
                      quantity={**I, "minimum": 1}, price={**N, "minimum": 0, "multipleOf": 0.01}), minItems=1), total={**N, "minimum": 0}),
    "date only": text(format="date"), "time only": text(format="time"), "stamp": text(format="date-time"),
    "uuid": text(format="uuid"), "email": text(format="email"), "host": text(format="hostname"), "v4": text(format="ipv4"),
    "v6": text(format="ipv6"), "uri": text(format="uri"), "uri reference": text(format="uri-reference"),
    "pointer": text(format="json-pointer"), "relative pointer": text(format="relative-json-pointer"),
    "template": text(format="uri-template"), "duration": text(format="duration"),
    "short uri": text(format="uri", maxLength=30), "date in a year": text(format="date", pattern="^2024-"),
    "two digits": {**I, "minimum": 10, "maximum": 99}, "percent": {**N, "minimum": 0, "maximum": 100},
    "temperature": {**N, "exclusiveMinimum": -273.15, "maximum": 1000.5}, "even": {**I, "multipleOf": 2},
    "seven": {**I, "multipleOf": 7, "minimum": -1000, "maximum": 1000}, "quarter": {**N, "multipleOf": 0.25, "minimum": -3, "maximum": 3},
    "not zero": {**I, "not": {"const": 0}}, "int or big": {"oneOf": [{**I, "maximum": 3}, {**N, "minimum": 10.5}]},
    "any number": N, "any integer": I, "int32": {**I, "format": "int32"}, "anything": True, "any object": {"type": "object"},
    "any array": {"type": "array"}, "json values": {"enum": [1, 2.5, "x", None, True, [1, {"a": "b"}], {"k": []}]},
    "const object": {"const": {"a": 1, "b": [True, None, "\u00fc\n"]}},
    "map of integers": {"type": "object", "additionalProperties": I, "maxProperties": 3},
    "map, not empty": {"type": "object", "additionalProperties": B, "minProperties": 1, "propertyNames": {"pattern": "^[a-z]{1,8}$"}},
    "headers": {"type": "object", "patternProperties": {"^X-": S, "^x_\\d+$": I}, "additionalProperties": False},
    "patterns meet": {"type": "object", "patternProperties": {"a": {"minimum": 3, **I}, "b": {"maximum": 5, **I}}, "additionalProperties": {"type": "null"}},
    "at most two": {**obj([], a=I, b=I, c=I, d=I), "minProperties": 1, "maxProperties": 2},
    "dependent": {**obj([], card=S, billing=S, cvc=text(pattern=r"^\d{3}$")), "dependentRequired": {"card": ["billing", "cvc"]}},
    "dependent schema": {"type": "object", "properties": {"a": B, "b": I}, "additionalProperties": False,
                         "dependentSchemas": {"a": {"properties": {"b": {"minimum": 7}}, "required": ["b"]}}},
    "if then else": {"type": "object", "properties": {"country": {"enum": ["US", "NL"]}, "code": S}, "required": ["country", "code"],
                     "if": {"properties": {"country": {"const": "US"}}},
                     "then": {"properties": {"code": {"pattern": "^[0-9]{5}$"}}},
                     "else": {"properties": {"code": {"pattern": "^[0-9]{4}[A-Z]{2}$"}}}, "additionalProperties": False},
    "forbidden": {"type": "object", "properties": {"a": I, "b": I}, "not": {"required": ["a", "b"]}},
    "unicode keys": obj(**{"na\u00efve \"q\"": S, "emoji \U0001F600": I, "back\\slash": B, "new\nline": N}),
    "unicode text": text(pattern="^[\u00e9-\u00ff\u4e00-\u4fff]{1,6}$"), "letters": text(pattern=r"^[A-Z][a-z]*$"),
    "not a word": text(pattern=r"^[^a-z\s]+$"), "search": text(pattern="b.*d"), "code": text(pattern=r"^(?:[A-Z]{2}|\d{3})(-[a-f0-9]{4}){1,3}$"),
    "window": text(minLength=3, maxLength=8), "pattern window": text(pattern="^(ab|c)*$", minLength=4, maxLength=9),
    "nested arrays": arr(arr(arr(I, maxItems=2), minItems=1, maxItems=2), maxItems=3),
    "nested objects": obj(a=obj(b=obj(c=obj(d=arr(obj(e=S)))))), "anchors": {"$defs": {"p": {"$anchor": "pos", **I, "minimum": 1}}, "properties": {"n": {"$ref": "#pos"}}, "type": "object"},
    "ids": {"$id": "http://example.com/root.json", "$defs": {"i": {"$id": "item.json", "type": "object", "properties": {"v": {"$ref": "#/$defs/v"}},
            "$defs": {"v": {"enum": [1, 2]}}}}, "type": "array", "items": {"$ref": "item.json"}},
    "wide": obj([], **{f"field_{i}": [S, I, B, N][i % 4] for i in range(40)}),
    "wide, required": obj(**{f"field_{i}": [S, I, B, N][i % 4] for i in range(40)}),
    "many words": {"enum": [f"option-{i * 7919 % 1000}" for i in range(300)]},
    "openapi": obj(["id", "status"], id={**I, "format": "int64"}, status=text(enum=["a", "b"]), data=text(format="byte"), example={**S, "example": "x", "nullable": True}),
}


def validator(schema):
    exact = json.loads(json.dumps(schema), parse_float=decimal.Decimal)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    # A Decimal of a whole value is an integer, as 1.0 is.
    whole = kind.TYPE_CHECKER.redefine("integer", lambda _, v: not isinstance(v, bool) and (
        isinstance(v, int) or (isinstance(v, (float, decimal.Decimal)) and v == int(v))))
    return jsonschema.validators.extend(kind, type_checker=whole)(exact, format_checker=kind.FORMAT_CHECKER)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    walks = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    requests = [json.dumps({"schema": json.dumps(s, ensure_ascii=False), "walks": walks, "seed": i + 1})
                for i, s in enumerate(SCHEMAS.values())]
    out = subprocess.run([sys.argv[1]], input="\n".join(requests) + "\n", capture_output=True, text=True, check=True).stdout
    failures, documents, slowest = [], 0, (0.0, "")
    for (name, schema), line in zip(SCHEMAS.items(), out.splitlines(), strict=True):
        answer = json.loads(line)
        if "error" in answer:
            failures.append(f"{name}: {answer['error']}")
            continue
        slowest = max(slowest, (answer["ms"], name))
        check = validator(schema)
        if len(answer["walks"]) != walks:
            failures.append(f"{name}: {len(answer['walks'])} walks came back")
        for doc in answer["walks"]:
            documents += 1
            try:
                for problem in check.iter_errors(json.loads(doc, parse_float=decimal.Decimal)):
                    failures.append(f"{name}: {doc[:300]}: {problem.message[:200]}")
            except ValueError as problem:
                failures.append(f"{name}: {doc[:300]}: {problem}")
    print(f"{len(SCHEMAS)} schemas, {documents} documents, {len(failures)} failures; "
          f"the slowest to compile: {slowest[1]}, {slowest[0]:.1f} ms")
    print("\n".join(failures))
    sys.exit(1 if failures or documents < 500 else 0)


main()
