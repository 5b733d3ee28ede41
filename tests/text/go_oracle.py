#!/usr/bin/env python3
"""Compares the Go template interpreter with Go's own text/template, run as Ollama runs it.

  go_oracle.py snippets GO_RENDER REF COUNT [--seed N]   random templates over random conversations
  go_oracle.py templates GO_RENDER REF [--every N]       go_templates/*.gotmpl x conversations

The same bytes, or both refuse. GO_RENDER is build/tests/go_render; REF is built from
go_template_ref. Exit status 77: there is no REF here, or its Go is older than 1.24.
"""
import argparse
import itertools
import json
import pathlib
import random
import re
import subprocess
import sys

NOW = 1764000000
HERE = pathlib.Path(__file__).resolve().parent
CHUNK = 200


class Both:
    """The two programs; ask() gives their answers to a list of requests."""
    def __init__(self, ours, ref):
        self.programs = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                         for command in ([ours, "serve"], [ref])]

    def ask(self, requests):
        text = "".join(json.dumps({"template": t, "vars": v, "now": NOW}) + "\n" for t, v in requests)
        answers = []
        for p in self.programs:
            lines = []
            for line in text.encode().splitlines(keepends=True):
                p.stdin.write(line)
                p.stdin.flush()
                lines.append(p.stdout.readline().decode("utf-8", "replace").rstrip("\n"))
            answers.append(lines)
        return zip(*answers)


def shown(answer):
    return bytes.fromhex(answer[2:]) if answer.startswith("T ") else answer


# What we refuse and Go does not: see go_template.h.
REFUSED = re.compile(r"of a float|numbered arguments|%#[vq]|%p$|width of printf|address in memory"
                     r"|image cannot|overflows int$")
COMPLEX = re.compile(r"[0-9.]i\b|[0-9][+-]\.?[0-9]")


def same(ours, ref, template):
    """True, False, or None for what is not compared."""
    if ours == ref or (ours.startswith("E ") and ref.startswith("E ")):
        return True
    if ours.startswith("E ") and (REFUSED.search(ours) or COMPLEX.search(template)):
        return None
    return False


def compare(both, cases, verbose=False):
    counts = {True: 0, False: 0, None: 0}
    refused = 0
    cases = iter(cases)
    while chunk := list(itertools.islice(cases, CHUNK)):
        for (name, template, variables), (ours, ref) in zip(chunk, both.ask([c[1:] for c in chunk])):
            verdict = same(ours, ref, template)
            counts[verdict] += 1
            refused += ref.startswith("E ")
            if verdict is False and counts[False] <= 12:
                print(f"DIFFERENT {name}\n  template {template!r}\n  vars {json.dumps(variables)}\n"
                      f"  ours {shown(ours)!r}\n  Go   {shown(ref)!r}")
            elif verbose:
                print(name, shown(ours))
    total = sum(counts.values())
    print(f"{total} cases: {counts[True]} equal ({refused} refused by Go), {counts[None]} not compared, "
          f"{counts[False]} different")
    return 1 if counts[False] or not total or counts[None] > total / 20 else 0


# ---- random data ------------------------------------------------------------------------------

KEYS = ["a", "b", "city", "n", "list", "nested", "x y", "Ü", "type"]
WORDS = ["", "hi", "Hello <b> & 'you'\n", "Grüße, 世界", "  two  words ", "<|im_end|>", "0", "a\"b\\c",
         "line\nline\n", "\u2028", "x" * 40]


def random_text(r):
    return r.choice(WORDS) if r.random() < .8 else r.choice(WORDS) + r.choice(WORDS)


def random_json(r, depth=3):
    kind = r.randrange(8 if depth else 5)
    if kind == 0:
        return random_text(r)
    if kind == 1:
        return r.choice([0, 1, -3, 42, 1000000, 2.5, 1e21, 1e-7, 123456789, 0.1])
    if kind == 2:
        return r.random() < .5
    if kind == 3:
        return None
    if kind < 6:
        return random_text(r)
    if kind == 6:
        return [random_json(r, depth - 1) for _ in range(r.randrange(4))]
    return random_object(r, depth - 1)


def random_object(r, depth=3):
    return {k: random_json(r, depth) for k in r.sample(KEYS, r.randrange(5))}


def random_property(r, depth=2):
    p = {}
    if r.random() < .9:
        p["type"] = r.choice(["string", "integer", "object", "array", "weird",
                              ["string", "null"], ["number"], []])
    if r.random() < .7:
        p["description"] = random_text(r)
    if r.random() < .3:
        p["enum"] = [random_json(r, 1) for _ in range(r.randrange(4))]
    if r.random() < .2:
        p["items"] = random_json(r)
    if r.random() < .2:
        p["required"] = r.sample(KEYS, 2)
    if depth and r.random() < .2:
        p["anyOf"] = [random_property(r, depth - 1) for _ in range(2)]
    if depth and r.random() < .2:
        p["properties"] = {k: random_property(r, depth - 1) for k in r.sample(KEYS, 2)}
    return p


def random_tool(r):
    parameters = {"type": "object"}
    if r.random() < .9:
        parameters["properties"] = {k: random_property(r) for k in r.sample(KEYS, r.randrange(4))}
    if r.random() < .5:
        parameters["required"] = r.sample(KEYS, r.randrange(3))
    if r.random() < .1:
        parameters["$defs"] = random_object(r)
    function = {"name": r.choice(["get_weather", "add"]), "description": random_text(r)}
    if r.random() < .9:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


def random_call(r, i):
    call = {"function": {"name": r.choice(["get_weather", "add"]), "index": i}}
    if r.random() < .9:
        call["function"]["arguments"] = random_object(r)
    if r.random() < .5:
        call["id"] = "call_1"
    return call


def random_message(r):
    m = {"role": r.choice(["user", "assistant", "user", "assistant", "system", "tool", "User", "odd role"]),
         "content": random_text(r)}
    if r.random() < .2:
        m["thinking"] = random_text(r)
    if m["role"] == "assistant" and r.random() < .6:
        m["tool_calls"] = [random_call(r, i) for i in range(r.randrange(3))]
    if m["role"] == "tool":
        m["tool_name"] = "add"
        if r.random() < .5:
            m["tool_call_id"] = "call_1"
    return m


def random_vars(r):
    v = {"messages": [random_message(r) for _ in range(r.randrange(6))]}
    if r.random() < .5:
        v["tools"] = [random_tool(r) for _ in range(r.randrange(3))]
    if r.random() < .4:
        v["think"] = r.choice([True, False, "high", "low"])
    if r.random() < .1:
        v["prompt"], v["suffix"] = random_text(r), random_text(r)
    return v


# ---- random templates -------------------------------------------------------------------------

FIELDS = {
    "root": {"Messages": "msgs", "System": "str", "Tools": "tools", "Response": "str", "Think": "bool",
             "ThinkLevel": "str", "IsThinkSet": "bool", "Prompt": "str", "Suffix": "str", "Nope": "any"},
    "msg": {"Role": "str", "Content": "str", "Thinking": "str", "ToolCalls": "calls", "ToolName": "str",
            "ToolCallID": "str", "Images": "images"},
    "call": {"ID": "str", "Function": "fn"},
    "fn": {"Name": "str", "Arguments": "args", "Index": "int"},
    "tool": {"Type": "str", "Function": "tfn", "Items": "any", "String": "str"},
    "tfn": {"Name": "str", "Description": "str", "Parameters": "params"},
    "params": {"Type": "str", "Required": "strs", "Properties": "props", "Defs": "any", "Items": "any"},
    "prop": {"Type": "strs", "Description": "str", "Enum": "anys", "Items": "any", "AnyOf": "plist",
             "Required": "strs", "ToTypeScriptType": "str", "Properties": "ordered"},
    "ordered": {"Len": "int", "ToMap": "props"},
    "args": {"a": "any", "b": "any", "city": "any", "list": "any", "nested": "any", "String": "str"},
    "props": {"a": "prop", "city": "prop"},
    "any": {"a": "any", "b": "any"},
}
ELEMENT = {"msgs": "msg", "calls": "call", "tools": "tool", "strs": "str", "props": "prop", "args": "any",
           "anys": "any", "plist": "prop", "any": "any"}
MAPS = ("props", "args")
VERBS = ["%s", "%d", "%v", "%q", "%5s|", "%-6v|", "%05d", "%x", "%t", "%.2f", "%+d", "%c", "%U", "%%", "%+v",
         "%6.2f", "%.3s", "%T", "%e", "%g", "%o", "%b", "%X", "% x", "%z", "%*d", "%08.3f", "%+q", "%#x", "%!"]
TEXTS = ["text", " ", "\n", "  \n  ", "<|start|>", "a\n\n", "{ ", "}", "-", " - ", "{ { ", "% }", "ü", ""]


class Templates:
    def __init__(self, r):
        self.r = r
        self.vars = [("$", "root")]
        self.loops = 0
        self.defined = 0
        self.count = 0
        self.names = []

    def pick(self, *choices):
        return self.r.choice(choices)

    def chance(self, p):
        return self.r.random() < p

    # -- expressions --

    def source(self, dot):
        name, kind = self.r.choice(self.vars)
        return ("", dot) if self.chance(.5) else (name, kind)

    def path(self, kind, dot):
        """A chain of fields that ends in this kind, or None."""
        for _ in range(12):
            text, at = self.source(dot)
            for _ in range(4):
                if at == kind and (text or self.chance(.5)):
                    return text or "."
                if at not in FIELDS:
                    break
                name = self.r.choice(list(FIELDS[at]))
                text, at = text + "." + name, FIELDS[at][name]
            if at == kind:
                return text or "."
        return None

    def string(self):
        return json.dumps(self.pick("", "user", "assistant", "a", "hi\n", "ü", "%s", "tool", "x y")) \
            if self.chance(.8) else "`" + self.pick("raw", "a\\n", "\n", "") + "`"

    def number(self):
        return self.pick("0", "1", "2", "3", "-1", "0xF", "'\\t'", "1_0", "0b11", "007", "1e2", "2.5", "'\\n'")

    def literal(self, kind):
        if kind == "int":
            return self.number()
        if kind == "bool":
            return self.pick("true", "false")
        return self.string()

    def call(self, kind, dot, depth):
        e = lambda k: self.arg(k, dot, depth - 1)  # noqa: E731
        lists = ("msgs", "calls", "tools", "strs", "anys", "str")
        kinds = ("str", "int", "any", "msgs", "bool", "args", "prop", "tools")
        if kind == "bool":
            return self.pick(
                lambda: f"eq {e('str')} {e('str')}", lambda: f"eq {e('str')} {e('str')} {self.string()}",
                lambda: f"ne {e('str')} {e('str')}", lambda: f"{self.pick('lt', 'le', 'gt', 'ge')} {e('int')} {e('int')}",
                lambda: f"not {e(self.r.choice(kinds))}", lambda: f"eq {e('any')} {e('any')}",
                lambda: f"eq {e(self.r.choice(kinds))} nil", lambda: f"lt {e('str')} {e('str')}",
                lambda: f"eq {e('int')} {e('int')}")()
        if kind == "int":
            return self.pick(lambda: f"len {e(self.r.choice(lists + MAPS))}",
                             lambda: f"index {self.string()} {self.number()}")()
        if kind == "str":
            return self.pick(
                lambda: f"slice {e('str') if self.chance(.2) else self.string()} {self.pick('0', '0', '1')} {self.pick('', '1')}",
                lambda: "print " + " ".join(e(self.r.choice(kinds)) for _ in range(self.r.randrange(4))),
                lambda: f"printf {json.dumps(''.join(self.r.choice(VERBS + TEXTS) for _ in range(3)))} "
                        + " ".join(e(self.r.choice(kinds)) for _ in range(self.r.randrange(4))),
                lambda: f"json {e(self.r.choice(kinds))}",
                lambda: f"{self.pick('html', 'js', 'urlquery', 'println')} {e(self.r.choice(kinds))}",
                lambda: self.pick("currentDate", "yesterdayDate", "currentDate \"x\""),
                lambda: f"toTypeScriptType {e('prop')}")()
        if kind == "any":
            return f"index {e('args')} {json.dumps(self.r.choice(KEYS))}"
        for whole, part in ELEMENT.items():
            if part == kind and whole not in MAPS:
                return f"index {e(whole)} {self.pick('0', '0', '0', '1')}"
        if kind in ELEMENT:
            return f"slice {e(kind)} {self.pick('', '', '0', '0', '1')}"
        return f"{self.pick('and', 'or')} {e(kind)} {e(kind)}"

    def expr(self, kind, dot, depth):
        """What a pipeline may begin with."""
        if self.chance(.01):
            kind = self.r.choice(list(FIELDS) + list(ELEMENT))
        if depth > 0 and self.chance(.4):
            if self.chance(.2):
                return f"{self.pick('and', 'or')} " + " ".join(
                    self.arg(kind, dot, depth - 1) for _ in range(self.r.randrange(1, 4)))
            return self.call(kind, dot, depth)
        return self.path(kind, dot) or self.literal(kind)

    def arg(self, kind, dot, depth):
        if self.chance(.02):
            return "nil"
        e = self.expr(kind, dot, depth)
        if " " in e or self.chance(.1):
            e = f"({e})"
            if self.chance(.1):
                e += "." + self.r.choice(list(FIELDS[self.r.choice(list(FIELDS))]))
        return e

    def pipe(self, kind, dot, depth=3):
        e = self.expr(kind, dot, depth)
        if self.chance(.1):
            e += f" | {self.pick('print', 'json', 'len', 'not', 'printf', 'html', 'eq 1', 'and 1', 'or false', 'index', 'js')}"
        return e

    # -- statements --

    def action(self, inner):
        left = self.pick("{{", "{{ ", "{{- ", "{{-\n", "{{\t")
        right = self.pick("}}", " }}", " -}}", "\n-}}")
        return left + inner + right

    def fresh(self):
        self.count += 1
        return f"$v{self.count}"

    def any_kind(self):
        return self.pick("str", "str", "str", "int", "any", "bool", "args", "tools", "calls", "prop", "tool")

    def block(self, dot, depth):
        mark = len(self.vars)
        text = self.body(dot, depth - 1)
        del self.vars[mark:]
        return text

    def if_(self, dot, depth):
        out = self.action("if " + self.pipe(self.any_kind(), dot)) + self.block(dot, depth)
        while self.chance(.25):
            out += self.action("else if " + self.pipe("bool", dot)) + self.block(dot, depth)
        if self.chance(.4):
            out += self.action("else") + self.block(dot, depth)
        return out + self.action("end")

    def with_(self, dot, depth):
        kind = self.r.choice(list(FIELDS) + ["str", "str"])
        mark = len(self.vars)
        e = self.pipe(kind, dot)
        if self.chance(.3):
            name = self.fresh()
            e = f"{name} := {e}"
            self.vars.append((name, kind))
        out = self.action("with " + e) + self.block(kind, depth)
        if self.chance(.2):
            out += self.action("else with " + self.pipe("str", dot)) + self.block("str", depth)
        if self.chance(.3):
            out += self.action("else") + self.block(dot, depth)
        del self.vars[mark:]
        return out + self.action("end")

    def range_(self, dot, depth):
        kind = self.r.choice(list(ELEMENT) + ["msgs", "msgs", "int"])  # not over len: nests to billions of turns
        element = ELEMENT.get(kind, "int")
        mark = len(self.vars)
        e = self.number() if kind == "int" else \
            self.path(kind, dot) or "$.Nope" if self.chance(.8) else self.pipe(kind, dot, 1)
        if e[0] in "\"`":
            e = "$.Nope" if self.vars[0][1] == "root" else "2"
        shape = self.r.randrange(4)
        if shape == 1:
            name = self.fresh()
            e = f"{name} := {e}"
            self.vars.append((name, element))
        elif shape == 2:
            i, name = self.fresh(), self.fresh()
            e = f"{i}, {name} := {e}"
            self.vars += [(i, "str" if kind in MAPS else "int"), (name, element)]
        elif shape == 3 and self.chance(.2) and len(self.vars) > 1:
            e = f"{self.vars[-1][0]} = {e}"
        self.loops += 1
        out = self.action("range " + e) + self.block(element, depth)
        self.loops -= 1
        if self.chance(.3):
            out += self.action("else") + self.block(dot, depth)
        del self.vars[mark:]
        return out + self.action("end")

    def variable(self, dot, depth):
        kind = self.any_kind()
        if self.chance(.3) and len(self.vars) > 1:
            name, kind = self.r.choice(self.vars[1:])
            return self.action(f"{name} = {self.pipe(kind, dot)}")
        name = self.fresh()
        out = self.action(f"{name} := {self.pipe(kind, dot)}")
        self.vars.append((name, kind))
        return out

    def jump(self, dot, depth):
        if not self.loops:
            return self.pick("", "{{ break }}") if self.chance(.05) else ""
        return self.action("if " + self.pipe("bool", dot)) + self.action(self.pick("break", "continue")) + \
            self.action("end")

    def template(self, dot, depth):
        kind = self.any_kind()
        if not self.names and self.chance(.95):
            return ""
        name = json.dumps(self.r.choice(self.names) if self.names and self.chance(.95) else "three")
        if self.chance(.3):
            outer, self.vars, loops, self.loops = self.vars, [("$", kind)], self.loops, 0
            body = self.block(kind, depth)
            self.vars, self.loops = outer, loops
            self.defined += 1
            return self.action(f"block \"b{self.defined}\" {self.pipe(kind, dot)}") + body + self.action("end")
        return self.action(f"template {name} {self.pipe(kind, dot) if self.chance(.9) else ''}")

    def statement(self, dot, depth):
        if depth <= 0 or self.chance(.5):
            return self.pick(lambda: self.r.choice(TEXTS), lambda: self.action(self.pipe(self.any_kind(), dot)),
                             lambda: self.action(self.path("str", dot) or "."),
                             lambda: self.pick("{{/* c */}}", "{{- /* c\n */ -}}"))()
        return self.pick(self.if_, self.if_, self.with_, self.range_, self.range_, self.range_, self.variable,
                         self.variable, self.jump, self.template)(dot, depth)

    def body(self, dot, depth):
        return "".join(self.statement(dot, depth) for _ in range(self.r.randrange(1, 5)))

    def whole(self):
        text = ""
        for name in ("one", "two"):
            if self.chance(.2):
                self.vars, self.loops = [("$", "str")], 0
                text += self.action(f"define \"{name}\"") + self.body("str", 2) + self.action("end")
                self.names.append(name)  # only now: one that calls itself may never end
        self.vars = [("$", "root")]
        if self.chance(.8):
            text += self.action("range $i, $m := .Messages")
            self.vars += [("$i", "int"), ("$m", "msg")]
            self.loops += 1
            text += self.body("msg", 3) + self.action("end")
            self.loops -= 1
            del self.vars[1:]
        return text + self.body("root", 3)


SYNTAX = ["{{", "}}", "-", " ", "|", "(", ")", ".", "$", "\"", "`", "'", "end", "else", ":=", "=", ",", "range", "if",
          "with", "nil", "0", "x", "\\", "\n", "/*", "*/", "_", "e", "+", "define", "true", "{{- ", " -}}", "ü", "é.", "@"]


def mutated(r, text):
    for _ in range(r.randrange(1, 3)):
        i = r.randrange(len(text) + 1)
        what = r.random()
        if what < .4:
            text = text[:i] + r.choice(SYNTAX) + text[i:]
        elif what < .8:
            text = text[:i] + text[i + r.randrange(1, 3):]
        else:
            text = text[:i] + r.choice(SYNTAX) + text[i + 1:]
    return text


def snippets(count, seed):
    for i in range(count):
        r = random.Random(seed * 1000003 + i)
        text = Templates(r).whole()
        if r.random() < .12:
            text = mutated(r, text)
        yield f"snippet {i}", text, random_vars(r)


# ---- templates in the styles of models --------------------------------------------------------

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather in a city <now> & later",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "The city's name"},
        "unit": {"type": ["string", "null"], "enum": ["C", "F"], "description": "Unit"}}}}}
ADD = {"type": "function", "function": {
    "name": "add", "description": "Adds", "parameters": {"type": "object", "properties": {
        "a": {"type": "number"}, "b": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]}}}}}


def conversations():
    user = {"role": "user", "content": "What is <b>&nbsp;\n2 + 2?"}
    system = {"role": "system", "content": "Be terse."}
    reply = {"role": "assistant", "content": "4"}
    thought = {"role": "assistant", "content": "It is 4.", "thinking": "2 + 2 = 4"}
    call = {"role": "assistant", "content": "", "tool_calls": [
        {"id": "c0", "function": {"name": "get_weather", "arguments": {"unit": None, "city": "Köln", "n": [1, 2.5, {"z": True}]}}}]}
    calls = {"role": "assistant", "content": "Both.", "tool_calls": [
        {"function": {"name": "add", "index": 0, "arguments": {"b": 1000000, "a": 1}}},
        {"function": {"name": "add", "index": 1, "arguments": {}}}]}
    result = {"role": "tool", "content": "{\"t\": 21}", "tool_name": "get_weather", "tool_call_id": "c0"}
    yield "empty", []
    yield "user", [user]
    yield "system", [system, user]
    yield "turns", [system, user, reply, user]
    yield "long", [system] + [user, reply] * 6 + [user]
    yield "prefill", [user, {"role": "assistant", "content": "The answer"}]
    yield "thought", [user, thought, user]
    yield "two users", [user, user, reply, reply, user]
    yield "late system", [user, reply, system, user]
    yield "two systems", [system, system, user, system]
    yield "call", [system, user, call, result]
    yield "calls", [user, calls, result, result, reply, user]
    yield "call then", [user, call, result, thought, user]
    yield "no content", [{"role": "user", "content": ""}, {"role": "assistant"}, user]


def requests():
    for (name, messages), (tools_name, tools), (think_name, think) in itertools.product(
            conversations(), (("", None), (" one tool", [WEATHER]), (" tools", [WEATHER, ADD])),
            (("", {}), (" think", {"think": True}), (" no think", {"think": False}), (" high", {"think": "high"}))):
        variables = {"messages": messages, **think}
        if tools:
            variables["tools"] = tools
        yield name + tools_name + think_name, variables
    yield "suffix", {"prompt": "def add(a, b):\n", "suffix": "\n    return c"}
    yield "prompt without suffix", {"messages": [], "prompt": "", "suffix": "x"}


def templates():
    for path in sorted((HERE / "go_templates").glob("*.gotmpl")):
        text = path.read_text(encoding="utf-8")
        for name, variables in requests():
            yield f"{path.name} {name}", text, variables


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["snippets", "templates"])
    parser.add_argument("ours")
    parser.add_argument("ref")
    parser.add_argument("count", nargs="?", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="only each N-th case")
    parser.add_argument("--verbose", action="store_true")
    a = parser.parse_args()
    if not pathlib.Path(a.ref).exists():
        print("no reference: it needs Go 1.24 or newer")
        return 77
    both = Both(a.ours, a.ref)
    probe = "{{ range 2 }}x{{ else }}{{ with 1 }}{{ else with 2 }}{{ end }}{{ end }}"
    if list(both.ask([(probe, {"messages": []})]))[0][1] != "T 7878":
        print("the reference's Go is older than 1.24")
        return 77
    return compare(both, snippets(a.count, a.seed) if a.what == "snippets" else
                   itertools.islice(templates(), 0, None, a.every), a.verbose)


sys.exit(main())
