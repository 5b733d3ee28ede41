#!/usr/bin/env python3
"""What a template renders of an assistant's turn, read back by the output parser.

  round_trip.py OUTPUT RENDER DIR [--verbose] [--only NAME] [--seed N]

For every DIR/*.jinja and every case (calls, arguments, content, reasoning): the turn is rendered,
what lies behind the prompt is what the model would have said. It is fed whole, one byte at a time
and cut at random; the calls, the content and the reasoning must come back. A part that the
template leaves out is not expected; a case of which it renders nothing new is "-".
OUTPUT and RENDER are build/tests/output and build/tests/render. Exit status 77: no DIR.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys

# What ends an answer: the engine stops there, so the parser never sees it.
ENDS = ["<|im_end|>", "<|eot_id|>", "</s>", "<｜end▁of▁sentence｜>", "<|end_of_text|>", "<end_of_turn>", "<turn|>",
        "[e~[", "<SPECIAL_12>", "<seed:eos>", "<|END_OF_TURN_TOKEN|>", "<sep>", "</assistant>", "<|return|>",
        "<｜hy_eos:opensource｜>", "<|endoftext|>", "<|eom_id|>", "<|assistant_end|>", "<|eos|>",
        "<end_of_sentence>", "<|role_end|>", "<|tool_response>", "<|eot|>"]
LAST_ENDS = ["<|message_sep|>", "<|calls|>", "<|end|>", "<|call|>"]

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather at a place.", "parameters": {
            "type": "object", "required": ["place"], "properties": {
                "place": {"type": "string", "description": "Where."},
                "days": {"type": "integer", "description": "How many."},
                "ratio": {"type": "number", "description": "A part."},
                "exact": {"type": "boolean", "description": "Whether."},
                "note": {"type": ["string", "null"], "description": "Any."},
                "more": {"type": "object", "description": "Deep.", "properties": {
                    "list": {"type": "array", "items": {"type": "integer"}},
                    "name": {"type": "string"}, "in": {"type": "object", "properties": {"k": {"type": "string"}}}}},
                "tags": {"type": "array", "description": "Words.", "items": {"type": "string"}}}}}},
    {"type": "function", "function": {
        "name": "get_weather_map", "description": "A map.", "parameters": {
            "type": "object", "properties": {"zoom": {"type": "integer", "description": "How near."}}}}},
    {"type": "function", "function": {
        "name": "stop", "description": "Stops.", "parameters": {"type": "object", "properties": {}}}}]

PLAIN_TOOLS = json.loads(json.dumps(TOOLS).replace('["string", "null"]', '"string"'))  # for those who refuse TOOLS

SIMPLE = {"place": "Paris"}
ARGUMENTS = {
    "text": SIMPLE,
    "none": {},
    "number": {"place": "x", "days": -3, "ratio": 2.5},
    "bool": {"place": "x", "exact": True},
    "false": {"place": "x", "exact": False},
    "null": {"place": "x", "note": None},
    "nested": {"place": "x", "more": {"list": [1, 2], "name": "a b", "in": {"k": "v"}}, "tags": ["p", "q"]},
    "unicode": {"place": "Zürich 東京 🌧 é", "tags": ["ñ"]},
    "marks": {"place": "a < b > c & \"d\" {e} [f], (g) \\ h: i"},
    "lines": {"place": "def f():\n    return 1\n\n# end"},
    "edges": {"place": " two  spaces "},
    "digits": {"place": "0123"},
    "word": {"place": "true"},
    "empty": {"place": ""},
}
ASK = [{"role": "user", "content": "What now?"}]
CONTENT = "Let me look."
THOUGHT = "The user wants weather.\nSo I call."


def call(name, arguments, i):
    return {"id": f"callid00{i}", "type": "function", "function": {"name": name, "arguments": arguments}}


def cases():
    """name -> (content, reasoning, calls)"""
    yield "content", (CONTENT, None, [])
    yield "reasoning", (CONTENT, THOUGHT, [])
    for name, arguments in ARGUMENTS.items():
        yield "call " + name, ("", None, [("get_weather", arguments)])
    yield "call map", ("", None, [("get_weather_map", {"zoom": 3})])
    yield "call stop", ("", None, [("stop", {})])
    two = [("get_weather", ARGUMENTS["nested"]), ("get_weather_map", {"zoom": 3})]
    yield "two", ("", None, two)
    yield "three", ("", None, two + [("stop", {})])
    yield "content+call", (CONTENT, None, two[:1])
    yield "content+two", (CONTENT, None, two)
    yield "reasoning+call", ("", THOUGHT, two[:1])
    yield "reasoning+two", ("", THOUGHT, two)
    yield "all", (CONTENT, THOUGHT, two)


class Server:
    def __init__(self, path):
        self.p = subprocess.Popen([path, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, **request):
        self.p.stdin.write(json.dumps(request).encode() + b"\n")
        self.p.stdin.flush()
        answer = self.p.stdout.readline()
        if not answer:
            sys.exit(f"{self.p.args} died on {request}")
        return json.loads(answer)


class Trip:
    def __init__(self, args):
        self.output, self.render = Server(args.output), Server(args.render)
        self.rng = random.Random(args.seed)
        self.verbose = args.verbose
        self.ok = self.absent = self.differ = 0

    def text(self, source, messages, generate, extra):
        v = {"messages": messages, "tools": self.tools, "add_generation_prompt": generate, "bos_token": "<s>",
             "eos_token": "</s>", **extra}
        return self.render.ask(template=source, vars=v, now=1764000000).get("text")

    def said(self, source, message, extra, think_open):
        """(prompt, what the model said behind it), or None."""
        whole = self.text(source, ASK + [message], False, extra)
        prompt = self.text(source, ASK, True, extra)
        if whole is None or prompt is None:
            return None
        n = next((i for i, (a, b) in enumerate(zip(whole, prompt)) if a != b), min(len(whole), len(prompt)))
        if n < len(prompt):  # the prompt opened or closed a thought that this turn does not have
            n = max(whole.rfind(ASK[0]["content"], 0, n) + len(ASK[0]["content"]), self.tag_begin(whole, n))
        said = whole[n:]
        if said.startswith(THOUGHT) and not whole[:n].rstrip().endswith(think_open):
            whole, n = prompt + said, len(prompt)  # its opening stands in the prompt alone
        ends = [said.find(e) for e in ENDS if e in said]
        said = said[:min(ends)] if ends else said
        for e in LAST_ENDS:
            if said.rstrip().endswith(e):
                said = said.rstrip()[:-len(e)]
        return whole[:n], said

    @staticmethod
    def tag_begin(text, n):
        """n, or the beginning of the tag that it is inside of."""
        open_ = max(text.rfind("<", 0, n), text.rfind("[", 0, n))
        close = max(text.rfind(">", 0, n), text.rfind("]", 0, n))
        return open_ if open_ > close and n - open_ < 40 and "\n" not in text[open_:n] else n

    def message(self, source, content, reasoning, calls, as_text):
        m = {"role": "assistant", "content": content}
        if reasoning:
            m |= {"reasoning_content": reasoning, "reasoning": reasoning, "thinking": reasoning}
        if calls:
            m["tool_calls"] = [call(n, json.dumps(a, ensure_ascii=False) if as_text else a, i)
                               for i, (n, a) in enumerate(calls)]
        return m

    def one(self, source, name, case):
        content, reasoning, calls = case
        info = self.output.ask(template=source, text="")["format"]
        for extra in ({}, {"enable_thinking": True, "thinking": True}):
            got = self.said(source, self.message(source, content, reasoning, calls, info["arguments_text"]), extra,
                            info["think_open"])
            if got and (not reasoning or THOUGHT.split("\n")[1] in got[1]):
                break
        if not got:
            return "-", "refused"
        prompt, said = got
        if reasoning and THOUGHT.split("\n")[1] not in said:
            return "-", "no reasoning rendered"
        if calls and not all(n in said for n, _ in calls):
            return "-", "a call is not rendered"
        if calls and self.tools is PLAIN_TOOLS and None in calls[0][1].values():
            return "-", "no tool takes null"
        if calls and calls[0][1].get("note", 0) is None and "null" not in said and "None" not in said:
            return "-", "null is left out"
        opened = info["think_open"] and prompt.rstrip().endswith(info["think_open"])
        if opened and info["think_close"] not in said:
            return "-", "the turn is rendered inside of the thought that the prompt opened"
        if content and content not in said:
            content = ""
            if not calls:
                return "-", "no content rendered"
        return self.read(source, prompt, said, content, reasoning or "", calls)

    def read(self, source, prompt, said, content, reasoning, calls):
        first = None
        for cuts in ([1 << 20], [1], [self.rng.randint(1, 9) for _ in range(50)], [2, 1, 40]):
            a = self.output.ask(template=source, text=said, prompt=prompt, tools=self.tools, cuts=cuts)
            a.pop("format", None)
            first = first or a
            if a != first:
                return "DIFFER", f"cuts {cuts[:5]}: {a} is not {first}"
        try:
            got = [(c["name"], json.loads(c["arguments"])) for c in first["calls"]]
        except (ValueError, KeyError) as e:
            return "DIFFER", f"{e}: {first}"
        if (got, first["content"], first["reasoning"]) != (calls, content, reasoning):
            return "DIFFER", f"said {said!r} behind {prompt[-60:]!r}\n     got {first}"
        return "ok", ""

    def template(self, path):
        source = path.read_text(encoding="utf-8")
        row, notes, self.tools = {}, [], TOOLS
        if self.text(source, ASK, True, {}) is None:
            self.tools = PLAIN_TOOLS
        for name, case in cases():
            row[name], note = self.one(source, name, case)
            if row[name] == "DIFFER" or (note and self.verbose):
                notes.append(f"   {row[name]} {name}: {note}")
        count = {k: sum(v == k for v in row.values()) for k in ("ok", "-", "DIFFER")}
        self.ok, self.absent, self.differ = self.ok + count["ok"], self.absent + count["-"], self.differ + count["DIFFER"]
        f = self.output.ask(template=source, text="")["format"]
        print(f"{path.stem[:46]:46} {f['name']:16} {f['style']:14} {count['ok']:3} ok {count['-']:3} not in the template "
              f"{count['DIFFER']:3} differ")
        print("".join(note + "\n" for note in (notes if self.verbose else notes[:3])), end="")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("output", "render", "dir"):
        p.add_argument(name)
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--only", default="")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    if not pathlib.Path(args.dir).is_dir():
        return 77
    trip = Trip(args)
    for path in sorted(pathlib.Path(args.dir).glob("*.jinja")):
        if args.only in path.name:
            trip.template(path)
    print(f"{trip.ok} ok, {trip.absent} not in the template, {trip.differ} differ")
    return 1 if trip.differ else 0


if __name__ == "__main__":
    sys.exit(main())
