#!/usr/bin/env python3
"""Compares the template interpreter with Jinja2 as transformers sets it up.

  jinja_oracle.py templates RENDER DIR [--verbose]   every DIR/*.jinja x a family of conversations: a table
  jinja_oracle.py snippets RENDER COUNT [--seed N]   random small templates, half of them by types
  jinja_oracle.py bench RENDER DIR                   100 messages through every template: a table; 2 ms are
                                                     the most
  jinja_oracle.py one TEMPLATE VARS.json             what Jinja2 makes of it

The same bytes, or both refuse. RENDER is build/tests/render. Exit status 77: no jinja2 here.
"""
import argparse
import datetime
import itertools
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import warnings

import jinja_typed

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:
    sys.exit(77)

NOW = 1764000000
warnings.simplefilter("ignore")  # Python's, about the code that Jinja2 makes


class Generation(jinja2.ext.Extension):
    """{% generation %}: a call block around what the assistant says."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])
    env.filters["tojson"] = tojson
    env.filters["from_json"] = json.loads
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(NOW).strftime(f)
    return env


ENV = environment()


def oracle(source, variables, compiled={}):
    """(text, None) or (None, why)."""
    try:
        if source not in compiled:
            if len(compiled) > 200:
                compiled.clear()
            compiled[source] = ENV.from_string(source)
        text = compiled[source].render(**variables)
        text.encode("utf-8")
        return text, None
    except Exception as e:  # whatever Jinja2 or Python raise is a refusal
        return None, f"{type(e).__name__}: {e}"


class Ours:
    def __init__(self, render):
        self.p = subprocess.Popen([render, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, source, variables):
        return self.render_spans(source, variables)[:2]

    def render_spans(self, source, variables):
        line = json.dumps({"template": source, "vars": variables, "now": NOW})
        self.p.stdin.write(line.encode() + b"\n")
        self.p.stdin.flush()
        answer = self.p.stdout.readline()
        if not answer:
            sys.exit(f"the renderer died on {source!r}")
        answer = json.loads(answer)
        return answer.get("text"), answer.get("error"), answer["content"]


# Where only we refuse: Python's integers have any length; and Jinja2 folds constants, so that it never looks at
# the other operand of `true or x is nope`, and gives nothing for a slice of a constant's method.
KNOWN = "integer of 64 bits", "more than 64 bits", "named 'nope'", "'method' object cannot be sliced"


class Score:
    def __init__(self, ours, verbose):
        self.ours, self.verbose = ours, verbose
        self.same = self.refused = self.different = 0

    def compare(self, source, variables, label):
        want, why = oracle(source, variables)
        got, error = self.ours.render(source, variables)
        if want is None and got is None:
            self.refused += 1
            if self.verbose:
                print(f"both refuse {label}: {why} / {error}")
        elif want == got:
            self.same += 1
        elif got is None and any(w in error for w in KNOWN):
            self.refused += 1
        else:
            self.different += 1
            self.show(label, source, want, why, got, error)

    def show(self, label, source, want, why, got, error):
        if self.different > 40:
            return
        print(f"DIFFERENT {label}")
        if want is None or got is None:
            print(f"  jinja2: {'refuses: ' + why if want is None else repr(want[:200])}")
            print(f"  ours:   {'refuses: ' + error if got is None else repr(got[:200])}")
            return
        at = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
        print(f"  at {at}\n  jinja2: {want[max(0, at - 60):at + 80]!r}\n  ours:   {got[max(0, at - 60):at + 80]!r}")

    def counts(self):
        return self.same, self.refused, self.different

    def done(self):
        total = self.same + self.refused + self.different
        print(f"{total} compared: {self.same} the same text, {self.refused} both refuse, "
              f"{self.different} different")
        return 1 if self.different else 0


# ---- conversations ----

TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather at a place.\nIn °C.", "parameters": {
        "type": "object", "required": ["place"], "properties": {
            "place": {"type": "string", "description": "Town, e.g. \"Köln\""},
            "days": {"type": "integer", "default": 3, "minimum": 1},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}}}}}}
TOOL2 = {"type": "function", "function": {
    "name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}
TOOL3 = {"type": "function", "function": {
    "name": "add", "description": "Adds <b> & 'c'", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number", "description": "b"}},
        "required": ["a", "b"]}, "return": {"type": "number", "description": "the sum"},
    "response": {"type": "object", "properties": {"x": {"type": "string"}}}}}
TOOL4 = {"type": "function", "function": {  # some templates recurse without end over these
    "name": "odd", "parameters": {"type": "object", "properties": {
        "any": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "kind": {"type": ["string", "null"]}}}}}
ARGUMENTS = {"place": "Köln 🌦️", "days": 2, "where": {"lat": 50.9375, "lon": 6.9603, "deep": [1, [2.5, None], {"a": True}]},
             "tags": ["x", "y\"z"], "e": 1e22, "tiny": 1e-7, "none": None, "text": "a\nb\t\\"}


def call(name, arguments, i=0, **more):
    return {"id": f"call_{i:05d}", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def conversations():
    user = {"role": "user", "content": "What is the capital of France?"}
    system = {"role": "system", "content": "You are terse.  "}
    said = {"role": "assistant", "content": "Paris."}
    thinks = {"role": "assistant", "content": "It is Paris.", "reasoning_content": "France -> Paris\n\nsure"}
    inline = {"role": "assistant", "content": "<think>\nhm, Paris\n</think>\n\nParis it is."}
    result = {"role": "tool", "name": "get_weather", "tool_call_id": "call_00000", "content": "{\"t\": 21.5}"}
    asks = {"role": "assistant", "content": "", "tool_calls": [call("get_weather", ARGUMENTS)]}
    yield "plain", [user]
    yield "system", [system, user]
    yield "developer", [{"role": "developer", "content": "Be nice."}, user]
    yield "turns", [user, said, {"role": "user", "content": "And of Spain?"}]
    yield "system turns", [system, user, said, {"role": "user", "content": "And of Spain?"}, {"role": "assistant", "content": "Madrid."}]
    yield "space", [{"role": "user", "content": "  \n hello \u00a0\u3000\n"}]
    yield "empty", [{"role": "user", "content": ""}]
    yield "empty system", [{"role": "system", "content": ""}, user]
    yield "unicode", [{"role": "user", "content": "naïve café — 日本語 🎉 \u200b\u2028 ß İ ﬁ <|im_end|> {{ x }} {% raw %} \\n \x07"}]
    yield "parts", [{"role": "user", "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]}]
    yield "image", [{"role": "user", "content": [{"type": "image", "image": "x"}, {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "u"}}]}]
    yield "system parts", [{"role": "system", "content": [{"type": "text", "text": "Terse."}]}, user]
    yield "reasoning", [user, thinks, {"role": "user", "content": "Why?"}]
    yield "reasoning field", [user, {"role": "assistant", "content": "P", "reasoning": "r", "thinking": "t"}, {"role": "user", "content": "Why?"}]
    yield "inline reasoning", [user, inline, {"role": "user", "content": "Why?"}, inline]
    yield "ends with assistant", [user, said]
    yield "ends thinking", [user, thinks]
    yield "tool call", [user, asks]
    yield "tool result", [system, user, asks, result]
    yield "tool done", [user, asks, result, said, user]
    yield "string arguments", [user, {"role": "assistant", "content": None, "tool_calls": [call("get_weather", json.dumps(ARGUMENTS))]}, result]
    yield "no arguments", [user, {"role": "assistant", "content": "", "tool_calls": [call("now", {})]}, {"role": "tool", "content": "12:00", "name": "now", "tool_call_id": "call_00000"}]
    yield "no content", [user, {"role": "assistant", "tool_calls": [call("now", {})]}, result]
    yield "two calls", [user, {"role": "assistant", "content": "Let me see.", "tool_calls": [call("get_weather", ARGUMENTS, 0), call("add", {"a": 1, "b": -2.5}, 1)]},
                        result, {"role": "tool", "name": "add", "tool_call_id": "call_00001", "content": "-1.5"}, said, user]
    yield "think and call", [user, {**thinks, "tool_calls": [call("add", {"a": 1, "b": 2})]}, {**result, "content": {"t": [1, 2.0, "x"]}}, thinks, user]
    yield "nine ids", [user, {"role": "assistant", "content": "", "tool_calls": [{**call("add", {"a": 1}), "id": "abcdef123"}]}, {"role": "tool", "content": "1", "tool_call_id": "abcdef123", "name": "add"}, said]
    yield "flat call", [user, {"role": "assistant", "content": "", "tool_calls": [{"name": "add", "arguments": {"a": 1}, "id": "functions.add:0"}]}, {"role": "tool", "content": "1", "tool_call_id": "functions.add:0"}]
    yield "tool parts", [user, asks, {**result, "content": [{"type": "text", "text": "21"}, {"type": "text", "text": "°"}]}]
    yield "tool list", [user, asks, {**result, "content": [{"t": 1}, {"t": 2}]}]
    yield "tool first", [result, user]
    yield "two users", [user, user]
    yield "two systems", [system, system, user]
    yield "late system", [user, system, said, user]
    yield "odd role", [{"role": "critic", "content": "hm"}, user]
    yield "null", [{"role": "user", "content": None}]
    yield "number", [{"role": "user", "content": 42}]
    yield "nothing", []
    yield "no role", [{"content": "x"}]
    yield "extra", [{"role": "user", "content": "x", "name": "Ann", "mode": "m", "prefix": True, "thinking_mode": "chat"}, {"role": "assistant", "content": "y", "prefix": True}]
    yield "commands", [{"role": "user", "content": "x /no_think"}, said, {"role": "user", "content": "y /think"}, {"role": "assistant", "content": "</think>z"}, {"role": "user", "content": "<tool_response>\nq\n</tool_response>"}]
    yield "many", [m for i in range(12) for m in ({"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}" * (i + 1), "reasoning_content": f"r{i}"})] + [user]


def flag_sets():
    base = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tools = [TOOL, TOOL2, TOOL3]
    yield "prompt", {**base, "add_generation_prompt": True}
    yield "no prompt", {**base, "add_generation_prompt": False}
    yield "tools", {**base, "add_generation_prompt": True, "tools": tools}
    yield "odd tools", {**base, "add_generation_prompt": True, "tools": [TOOL4]}
    yield "no tools", {**base, "add_generation_prompt": True, "tools": None, "documents": None}
    yield "empty tools", {**base, "add_generation_prompt": True, "tools": []}
    yield "flat tools", {**base, "add_generation_prompt": True, "tools": [t["function"] for t in tools]}
    yield "thinking", {**base, "add_generation_prompt": True, "enable_thinking": True, "thinking": True, "reasoning_effort": "high", "tools": tools}
    yield "no thinking", {**base, "add_generation_prompt": True, "enable_thinking": False, "thinking": False, "reasoning_effort": "low", "tools": tools}
    yield "budget", {**base, "add_generation_prompt": True, "thinking_budget": 512, "enable_thinking": True, "preserve_thinking": True, "keep_past_thinking": True, "clear_thinking": False}
    yield "dates", {**base, "add_generation_prompt": True, "date_string": "26 Jul 2024", "tools_in_user_message": False, "tools": tools, "builtin_tools": ["brave_search", "code_interpreter"], "custom_tools": tools}
    yield "documents", {**base, "add_generation_prompt": True, "documents": [{"title": "A", "text": "aaa", "doc_id": 1}, {"title": "B", "content": "bbb"}], "controls": {"length": "long", "originality": "high"}, "citations": True}
    yield "kwargs", {**base, "add_generation_prompt": True, "enable_thinking": False, "custom_instructions": "Say \"x\".", "lang": "de", "max_tool_calls": 2, "nested": {"a": [1, None]}, "add_vision_id": True, "reasoning_effort": None}
    yield "bare", {}
    yield "schema", {**base, "add_generation_prompt": True, "tools": [{"type": "function", "function": {"name": "x"}}, {"type": "function", "function": {"name": "y", "parameters": None, "description": None}}], "response_format": {"type": "object"}, "xml_tools": tools, "python_tools": tools, "json_schema": {"a": 1}, "model_identity": "M"}


def templates(args):
    score = Score(Ours(args.render), args.verbose)
    files = sorted(pathlib.Path(args.dir).glob("*.jinja"))
    print("   equal  both refuse  differ  template")
    for path in files:
        source = path.read_text(encoding="utf-8")
        before = score.counts()
        for (m, messages), (f, flags) in itertools.product(conversations(), flag_sets()):
            score.compare(source, {"messages": messages, **flags}, f"{path.name}: {m}, {f}")
        print("%8d %12d %7d  %s" % (*(b - a for a, b in zip(before, score.counts())), path.stem))
    print(f"{len(files)} templates: ", end="")
    return score.done()


# ---- random small templates ----

class Maker:
    """Templates that use much of the language; many fail, which must be on both sides."""

    def __init__(self, rng):
        self.r = rng

    def pick(self, *options):
        return self.r.choice(options)

    def name(self):
        return self.pick("a", "b", "s", "n", "xs", "d", "m", "ns", "u", "loop", "f", "t", "k", "e")

    def string(self):
        return self.pick("''", "'a'", "'Hello World'", "\"it's\"", "'x,y,,z'", "'  pad '", "'é日本🎉'", "'a\\nb\\n\\nc'", "'%s-%d'",
                         "'{} {}'", "'\\u00e9\\x41\\t'", "'12'", "'-3.5'", "'aXbX'", "'ß'", "'<b>&'", "'a' 'b'", "'Ünï'", "'Aa'", "'ǆ ŉ ΑΣ'")

    def number(self):
        return self.pick("0", "1", "-1", "2", "3", "7", "10", "100", "1.5", "0.1", "-2.5", "1e16", "1e-5", "12345", "0x1F", "1_000", "2.0", "1e22", "0b11", "3.14159")

    def atom(self, depth):
        kind = self.r.randrange(12)
        if kind < 3:
            return self.string()
        if kind < 5:
            return self.number()
        if kind < 9 or depth <= 0:
            return self.name()
        if kind == 9:
            return self.pick("true", "false", "none", "True", "None")
        if kind == 10:
            return "[" + ", ".join(self.expr(depth - 1) for _ in range(self.r.randrange(4))) + "]"
        return self.pick(
            "{" + ", ".join(f"{self.string()}: {self.expr(depth - 1)}" for _ in range(self.r.randrange(3))) + "}",
            "(" + "".join(self.expr(depth - 1) + ", " for _ in range(self.r.randrange(3))) + ")",
            "(" + self.expr(depth - 1) + ")")

    def index(self, depth):
        return self.pick("0", "1", "-1", "5", "'a'", "'k'", "'items'", "1:", ":2", "::-1", "1:-1", "::2", "-2:", ":", "5:1:-2", self.expr(depth - 1))

    def postfix(self, depth):
        e = self.atom(depth)
        if e[0] in "-0123456789TFNtfn{(" and e not in ("ns", "t", "n", "f"):
            return e  # Jinja2 folds a slice of such constants into nothing
        for _ in range(self.pick(0, 0, 1, 1, 2)):
            e += self.pick(f"[{self.index(depth)}]", "." + self.pick("a", "k", "items", "x", "upper", "__class__", "index", "0", "get", "_p"),
                           self.method(depth), "")
        return e

    def method(self, depth):
        x, y, i = self.string(), self.string(), self.pick("0", "1", "2", "-1", "5")
        return "." + self.pick(
            "upper()", "lower()", "title()", "capitalize()", "swapcase()", "strip()", f"strip({x})", f"lstrip({x})", f"rstrip({x})",
            "split()", f"split({x})", f"split({x}, {i})", f"rsplit({x}, {i})", f"split(maxsplit={i})", f"rsplit(none, {i})", "splitlines()",
            f"startswith({x})", f"endswith(({x}, {y}))", f"startswith({x}, {i})", f"replace({x}, {y})", f"replace({x}, {y}, {i})",
            f"find({x})", f"rfind({x})", f"count({x})", f"index({x})", f"join({self.expr(depth - 1)})", f"zfill({i})", f"center({self.pick('5', '8', '13')}, '*')",
            f"ljust({self.pick('3', '9')})", f"rjust({self.pick('4', '9')}, '.')", f"partition({x})", f"rpartition({x})", "isdigit()", "isalpha()",
            "isupper()", "islower()", "isspace()", "isalnum()", "istitle()", "isidentifier()", "isnumeric()", f"removeprefix({x})", f"removesuffix({x})", "expandtabs(4)",
            "keys()", "values()", "items()", "get('a')", f"get({x}, {y})", "keys()|list", "copy()", f"format({self.expr(depth - 1)}, {x})",
            f"format(a={x}, b={self.number()})", "append(1)", "update({})", "__len__()", "bit_length()", "is_integer()", "find('l', 2, -1)")

    def filter(self, depth):
        e, i = self.expr(depth - 1), self.pick("0", "1", "2", "3", "8", "20")
        test = self.pick("'odd'", "'even'", "'string'", "'number'", "'defined'", "'none'", "'equalto', 1", "'in', [1, 2]", "'>', 1", "'mapping'")
        return "|" + self.pick(
            "upper", "lower", "title", "capitalize", "trim", f"trim({self.string()})", "length", "count", "list", "first", "last", "string", "int", "float", "int(7)", "int(base=16)",
            "float(2)", "abs", "round", f"round({self.pick('1', '2', '-1')})", "round(method='floor')", "round(1, 'ceil')", "sort", "sort(reverse=true)", "sort(attribute='a')",
            "sort(case_sensitive=true)", "unique", "unique|list", "reverse", "reverse|list", "join", "join(', ')", "join('-', attribute='a')", "min", "max", "sum", "sum(start=10)",
            "sum(attribute='a')", f"default({e})", f"d({e}, true)", "tojson", f"tojson(indent={i})", "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'))",
            "tojson(sort_keys=true)", "from_json", "items|list", "dictsort", "dictsort(by='value')", "dictsort(true, reverse=true)", f"replace({self.string()}, {self.string()})",
            f"indent({i})", f"indent({i}, true)", f"indent({i}, true, true)", "indent('> ')", f"center({i})", f"truncate({i})", f"truncate({i}, true, '..', 0)", "wordcount", "urlencode",
            "escape", "e", "safe", "striptags", "forceescape", f"batch({i})|list", f"batch({i}, 'x')|list", f"slice({i})|list", f"slice({i}, 0)|list",
            "map('upper')|list", "map(attribute='a')|list", "map(attribute='a', default=0)|list", "map('default', 1)|list", "map('int')|join(',')", f"select({test})|list", f"reject({test})|list",
            "select|list", "selectattr('a')|list", f"selectattr('a', {test})|list", f"rejectattr('a', {test})|list", "groupby('a')|list", "filesizeformat", f"format({e})", "attr('a')", "nope",
            "map('nope')|list", "list|length", "string|length")

    def test(self, depth):
        return self.pick(" is ", " is not ") + self.pick(
            "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence", "iterable", "callable", "odd", "even",
            "divisibleby 3", "divisibleby(2)", "lower", "upper", "in [1, 'a']", "sameas none", "eq 1", "gt(1)", "escaped", "filter", "nope", "equalto 'a'", "ne 2", "lessthan 3")

    def expr(self, depth):
        if depth <= 0:
            return self.atom(0)
        kind = self.r.randrange(16)
        if kind < 4:
            return self.postfix(depth)
        if kind < 6:
            return self.postfix(depth) + "".join(self.filter(depth) for _ in range(self.pick(1, 1, 2)))
        if kind < 8:
            return self.pick(self.string, lambda: self.pick("s", "b", "k"))() + self.method(depth)
        if kind < 10:
            op = self.pick("+", "-", "*", "/", "//", "%", "**", "~", "+", "~")
            return f"{self.expr(depth - 1)} {op} {self.expr(depth - 1)}"
        if kind == 10:
            op = self.pick("==", "!=", "<", "<=", ">", ">=", "in", "not in", "==")
            tail = f" {self.pick('<', '==', '>=')} {self.expr(depth - 1)}" if self.r.random() < 0.2 else ""
            return f"{self.expr(depth - 1)} {op} {self.expr(depth - 1)}{tail}"
        if kind == 11:
            return f"{self.expr(depth - 1)} {self.pick('and', 'or')} {self.expr(depth - 1)}"
        if kind == 12:
            return self.pick("not ", "-", "+", "- ") + self.expr(depth - 1)
        if kind == 13:
            tail = f" else {self.expr(depth - 1)}" if self.r.random() < 0.7 else ""
            return f"{self.expr(depth - 1)} if {self.expr(depth - 1)}{tail}"
        if kind == 14:
            return self.postfix(depth) + self.test(depth)
        return self.pick(f"range({self.pick('3', '1, 5', '5, 0, -2', '0')})", f"dict(a={self.expr(depth - 1)})", f"namespace(a={self.expr(depth - 1)})", f"m({self.expr(depth - 1)})",
                         f"m(b={self.expr(depth - 1)}, a=1)", "m()", "cycler(1, 2).next()", "joiner('|')", f"f({self.expr(depth - 1)})", "m(*xs)", "m(**d)", "range", "raise_exception('no')",
                         "strftime_now('%d %b %Y %H:%M')", "caller()", "loop.index", "loop.last", "loop.first", "loop.previtem", "loop.nextitem", "loop.length", "loop.revindex", "loop.cycle('o', 'e')",
                         "loop.changed(a)", "loop.depth0", "varargs", "kwargs")

    def tag(self, inner):
        return "{%" + self.pick("", "", "", "-", "+") + " " + inner + " " + self.pick("", "", "", "-", "+") + "%}"

    def text(self):
        return self.pick("", "x", " ", "\n", "  \n  ", "\n\n", " y ", "\t", "  z\n", "\n  w", "é", "{ }", "%", "\r\n", "}}"[:1])

    def show(self, depth):
        return "{{" + self.pick("", "", "-", "+") + " " + self.expr(depth) + " " + self.pick("", "", "-") + "}}"

    def target(self):
        return self.pick("a", "b", "a", "x", "a, b", "ns.a", "(a, b), k", "n", "t", "loop")

    def statement(self, depth):
        kind = self.r.randrange(18)
        e, body = self.expr(min(depth, 2)), lambda: self.body(depth - 1)
        if kind < 5 or depth <= 0:
            return self.show(depth)
        if kind < 7:
            return self.tag("set " + self.target() + " = " + e)
        if kind < 9:
            out = self.tag("if " + e) + body()
            for _ in range(self.pick(0, 0, 1)):
                out += self.tag("elif " + self.expr(1)) + body()
            if self.r.random() < 0.5:
                out += self.tag("else") + body()
            return out + self.tag("endif")
        if kind < 12:
            head = f"for {self.pick('a', 'b', 'x', 'a, b', 'k')} in {self.pick('xs', 'd', 'd.items()', 'range(3)', e, 't', 's')}"
            head += self.pick("", "", f" if {self.expr(1)}", " recursive")
            out = self.tag(head) + body()
            if self.r.random() < 0.2:
                out += self.tag("if " + self.expr(1)) + self.tag(self.pick("break", "continue")) + self.tag("endif") + self.text()
            if self.r.random() < 0.1:
                out += "{{ loop(" + self.pick("a", "xs[:1]", "[]") + ") }}"
            if self.r.random() < 0.2:
                out += self.tag("else") + body()
            return out + self.tag("endfor")
        if kind == 12:
            params = self.pick("a", "a, b=2", "a='x', b=a", "", "b, caller=none")
            return self.tag(f"macro {self.pick('m', 'f')}({params})") + body() + self.tag("endmacro")
        if kind == 13:
            return self.tag("set " + self.pick("a", "b", "x", "ns.a") + self.pick("", "|upper", "|trim|length")) + body() + self.tag("endset")
        if kind == 14:
            return self.tag(self.pick("call m(1)", "call(k) m()", "call f(b=2)")) + body() + self.tag("endcall")
        if kind == 15:
            return self.tag("filter " + self.pick("upper", "trim", "indent(2)", "replace('x', 'y')|title")) + body() + self.tag("endfilter")
        if kind == 16:
            return self.pick("{#" + self.pick("", "-", "+") + " note " + self.pick("", "-", "+") + "#}",
                             self.tag("raw").replace("+%}", "%}") + self.pick("{{ x }}", " {% if %} ", "\n{#\n") + self.tag("endraw"),
                             self.tag("generation") + body() + self.tag("endgeneration"))
        return self.tag(f"with a = {e}, x = b") + body() + self.tag("endwith")

    def body(self, depth):
        return self.text() + "".join(self.statement(depth) + self.text() for _ in range(self.r.randrange(1, 4)))

    def template(self):
        if self.r.random() < 0.6:
            return self.text() + self.show(self.pick(1, 2, 3)) + self.text()
        return self.body(self.pick(1, 2, 2, 3))


VARIABLES = {"a": 1, "b": "bee", "s": "Some Text, here.\n second line", "n": None, "xs": [3, 1, 2, 1],
             "d": {"a": 1, "k": "v", "items": [1, 2], "Z": None, "nested": {"x": [1, {"y": "é"}]}}, "f": 2.5, "t": [["p", 1], ["q", 2]],
             "e": [{"a": 2, "b": "x"}, {"a": 1, "b": "Y"}, {"b": "z"}], "k": "k"}


def snippets(args):
    rng = random.Random(args.seed)
    score = Score(Ours(args.render), args.verbose)
    for i in range(args.count):
        if i % 2:
            source = jinja_typed.Typed(rng).template()
            score.compare(source, jinja_typed.VARIABLES, repr(source))
            continue
        source = Maker(rng).template()
        if i % 3 == 0:  # of the even ones
            source = "{% set ns = namespace(a=0) %}{% macro m(a, b='B') %}<{{ a }}{{ b }}>{% endmacro %}" + source
        wanted, _ = oracle(source, VARIABLES)
        if wanted and re.search(" at 0[xy]|_at_0|%20at%200", wanted, re.I):
            continue  # addresses of objects
        score.compare(source, VARIABLES, repr(source))
    return score.done()


def bench(args):
    messages = []
    for i in range(50):
        messages += [{"role": "user", "content": f"Question {i}: " + "lorem ipsum dolor " * 10},
                     {"role": "assistant", "content": f"Answer {i}: " + "sit amet consectetur " * 10}]
    messages.append({"role": "user", "content": "And now?"})
    usual = {"messages": [{"role": "system", "content": "You are terse."}] + messages[2:], "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", "tools": [TOOL, TOOL2]}
    plain = {**usual, "messages": messages, "tools": None}  # two templates take no system's message, or no tools
    slow = 0
    print(" parse us render us    bytes template")
    for path in sorted(pathlib.Path(args.dir).glob("*.jinja")):
        for variables in usual, plain:
            with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
                json.dump(variables, f)
                f.flush()
                p = subprocess.run([args.render, "bench", str(path), f.name], stdout=subprocess.PIPE, text=True)
            if p.returncode == 0:
                break
        print(p.stdout.replace(args.dir.rstrip("/") + "/", ""), end="")
        slow += p.returncode != 0 or float(p.stdout.split()[1]) > 2000
    print(f"{slow} over 2 ms or refused")
    return 1 if slow else 0


def one(args):
    source = pathlib.Path(args.template).read_text(encoding="utf-8")
    text, why = oracle(source, json.loads(pathlib.Path(args.vars).read_text(encoding="utf-8")))
    sys.stdout.write(text if text is not None else "")
    if why:
        print(why, file=sys.stderr)
    return 1 if why else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="what", required=True)
    for name, run, words in (("templates", templates, ("render", "dir")), ("bench", bench, ("render", "dir")),
                             ("one", one, ("template", "vars"))):
        q = sub.add_parser(name)
        for w in words:
            q.add_argument(w)
        q.set_defaults(run=run)
        q.add_argument("--verbose", action="store_true")
    q = sub.add_parser("snippets")
    q.add_argument("render")
    q.add_argument("count", type=int)
    q.add_argument("--seed", type=int, default=1)
    q.add_argument("--verbose", action="store_true")
    q.set_defaults(run=snippets)
    args = p.parse_args()
    if args.what in ("templates", "bench") and not pathlib.Path(args.dir).is_dir():
        return 77
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
