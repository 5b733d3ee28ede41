#!/usr/bin/env python3
"""Which bytes of a rendered prompt came from its variables: what the renderer says against the text itself.

  origin_oracle.py templates RENDER DIR [--every N]  DIR/*.jinja x conversations of marked letters; one of N
  origin_oracle.py snippets RENDER COUNT [--seed N]  random operations on marked texts

Marked letters are ones that no template writes (U+9F00 to U+9FA5), so the output itself shows where
content stands, after any operation. Exit status 77: no jinja2 here.
"""
import argparse
import itertools
import json
import pathlib
import random
import re
import sys

from jinja_oracle import Ours, conversations, flag_sets

FIRST, LAST = 0x9F00, 0x9FA5
ESCAPE = re.compile(r"\\u9f[0-9a-f]{2}")
CONTROL = re.compile(r"<[|/]?[\w|/:.-]{1,48}>|\[/?[A-Z_]{2,24}\]|<｜[^｜<>]{1,40}｜>|\[gMASK\]|<[sS]>", re.UNICODE)
TAG = re.compile(r"<[^<>\s]{1,40}>|/\w+")
KEEP = {"role", "type", "id", "tool_call_id"}  # what templates compare with their own words


def letters(s, at=0):
    return "".join(chr(FIRST + (ord(c) * 7 + i + at) % (LAST - FIRST)) for i, c in enumerate(s))


def marked(value, whole):
    """Texts become marked letters; with `whole` all of a text, else its letters outside of tags."""
    if isinstance(value, str):
        if whole:
            return letters(value)
        out, at = "", 0
        for m in itertools.chain(TAG.finditer(value), [None]):
            end = m.start() if m else len(value)
            out += "".join(letters(c) if c.isalnum() else c for c in value[at:end])
            if m:
                out += m.group()
                at = m.end()
        return out
    if isinstance(value, list):
        return [marked(v, whole) for v in value]
    if isinstance(value, dict):
        return {k: v if k in KEEP else marked(v, whole) for k, v in value.items()}
    return value


def strings(value):
    """The texts that are left in marked variables: keys, roles, types."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for v in value:
            yield from strings(v)
    elif isinstance(value, dict):
        for k, v in value.items():
            yield k
            yield from strings(v)
    elif value is None or isinstance(value, (bool, int, float)):
        yield from (json.dumps(value), str(value))


def is_mark(c):
    return FIRST <= ord(c) <= LAST


def flags(raw, spans):
    """One bool a byte."""
    said = bytearray(len(raw))
    last = -1
    for begin, end in zip(spans[::2], spans[1::2]):
        if not (last < begin < end <= len(raw)):
            raise ValueError(f"ranges out of order: {spans}")
        said[begin:end] = b"\1" * (end - begin)
        last = end
    return said


def explained(text, words):
    """Is text a row of these words?"""
    ends = {0}
    for i in range(len(text)):
        if i in ends:
            ends.update(i + len(w) for w in words if w and text.startswith(w, i))
    return len(text) in ends


class Judge:
    def __init__(self, ours):
        self.ours = ours
        self.bytes = self.content = self.texts = self.refused = self.wrong = 0

    def complain(self, label, why, text):
        self.wrong += 1
        if self.wrong <= 30:
            print(f"WRONG {label}: {why}: {text!r}")

    def render(self, source, variables):
        text, _, spans = self.ours.render_spans(source, variables)
        if text is None:
            self.refused += 1
            return None, None
        raw = text.encode()
        said = flags(raw, spans)
        self.texts += 1
        self.bytes += len(raw)
        self.content += sum(said)
        return text, said

    def missing(self, label, text, said):
        """Marked letters, and their escapes, that are not said to be content."""
        must = [m.span() for m in ESCAPE.finditer(text)] + [(i, i + 1) for i, c in enumerate(text) if is_mark(c)]
        offset = list(itertools.accumulate((len(c.encode()) for c in text), initial=0))
        for a, b in must:
            if not all(said[offset[a]:offset[b]]):
                self.complain(label, "content is taken for the template's", text[max(0, a - 30):b + 30])
                return

    def pieces(self, text, said):
        """The runs of content, as text."""
        run, out, at = [], [], 0
        for c in text:
            n = len(c.encode())
            if any(said[at:at + n]):
                run.append(c)
            elif run:
                out.append("".join(run))
                run = []
            at += n
        return out + (["".join(run)] if run else [])

    def too_much(self, label, text, said, words):
        for piece in self.pieces(text, said):
            rest = ESCAPE.sub("", "".join(c for c in piece if not is_mark(c)))
            if not explained(rest, words):
                self.complain(label, "the template's words are taken for content", piece)
                return

    def control(self, label, source, text, said, variables):
        """Control text that the template wrote is the template's."""
        own = {m.group() for m in CONTROL.finditer(source)}
        given = json.dumps(variables, ensure_ascii=False)
        at = 0
        for m in CONTROL.finditer(text):
            if m.group() not in own or m.group() in given:
                continue
            at = len(text[:m.start()].encode())
            if any(said[at:at + len(m.group().encode())]):
                self.complain(label, f"{m.group()} is taken for content", text[max(0, m.start() - 30):m.end() + 30])
                return

    def done(self):
        print(f"{self.texts} texts of {self.bytes} bytes, {self.content} of them content; {self.refused} refused, "
              f"{self.wrong} wrong")
        return 1 if self.wrong or not self.content else 0


def templates(args):
    judge = Judge(Ours(args.render))
    turn = 0
    files = sorted(pathlib.Path(args.dir).glob("*.jinja"))
    for path in files:
        source = path.read_text(encoding="utf-8")
        assert not any(is_mark(c) for c in source)
        for (m, messages), (f, more), whole in itertools.product(conversations(), flag_sets(), (True, False)):
            turn += 1
            if turn % args.every:
                continue
            ours = {k: v for k, v in more.items() if k.endswith("_token")}
            given = {"messages": messages, **{k: v for k, v in more.items() if k not in ours}}
            given = marked(given, whole)
            if "reasoning_effort" in more:
                given["reasoning_effort"] = more["reasoning_effort"]
            label = f"{path.name}: {m}, {f}, {'whole' if whole else 'letters'}"
            text, said = judge.render(source, {**given, **ours})
            if text is None:
                continue
            judge.missing(label, text, said)
            judge.control(label, source, text, said, given)
            if whole:
                words = {w for s in strings(given) for w in (s, json.dumps(s)[1:-1], repr(s)[1:-1], s.strip(), s.upper(), s.capitalize(), s.title())}
                judge.too_much(label, text, said, words)
    print(f"{len(files)} templates: ", end="")
    return judge.done()


# ---- random operations ----

LITERAL = set("xyzXYZsSnN0123456789.,-_:;|/ ()[]{}'\"%\\\n\t+*&#=<>")


class Maker:
    """Expressions over the content c, d, e (no letter of which a literal has), and literals."""

    def __init__(self, rng):
        self.r = rng

    def pick(self, *options):
        return self.r.choice(options)

    def literal(self):
        return self.pick("'x'", "'yz'", "', '", "'<x>'", "'x-y'", "'{}'", "'%s'", "'z z'", "'\\n'", "' '", "''", "'<|x|>'")

    def text(self, depth):
        if depth <= 0:
            return self.pick("c", "d", "e", "k['c']", "l[0]", "l[-1]", self.literal(), "c")
        a, b = lambda: self.text(depth - 1), lambda: self.text(depth - 2)
        kind = self.r.randrange(14)
        if kind < 3:
            return f"({a()} {self.pick('+', '~', '~')} {b()})"
        if kind == 3:
            return f"({a()})[{self.pick('0:2', '1:', '::-1', ':-1', '::2', '-2:', '1:3')}]"
        if kind < 7:
            return f"({a()})|" + self.pick("upper", "lower", "title", "capitalize", "trim", "string", "indent(2)", "indent(1, true)", "center(9)", "truncate(3, true, 'x', 0)", "tojson",
                                           "reverse", "default('x')", f"replace('x', {b()})", "replace(c, 'y')", f"replace(c[:1], {b()})",
                                           f"format({b()})", "list|join('-')", "list|join", "list|string", "first|default('')", "last|default('')", "wordcount", "length")
        if kind < 9:
            return f"({a()})." + self.pick("upper()", "lower()", "title()", "strip()", "lstrip()", "rstrip()", "swapcase()", "capitalize()", "strip(c)", "split()|join('x')", "split('x')|join",
                                           "rsplit('x', 1)|last", "split(c[1:2])|first", "partition('x')|join(',')", "rpartition(c[:1])|join(',')", f"replace('x', {b()}, 1)", f"replace('', {b()})", "removeprefix(c[:1])",
                                           "removesuffix('x')", "zfill(9)", "center(9, '*')", "ljust(9, c[:1])", "rjust(7, '.')", "expandtabs()", "splitlines()|join('x')")
        if kind == 9:
            return f"{self.pick(self.literal(), 'c', 'd')}.join([{a()}, {b()}, {a()}])"
        if kind == 10:
            return self.pick(f"'x%sy%5s' % ({a()}, {b()})", f"'%-5s|%.2s' % ({a()}, {b()})", f"'{{}}x{{:>5}}'.format({a()}, {b()})", f"'{{a!r}}'.format(a={a()})", f"'x{{0}}{{0}}'.format({a()})")
        if kind == 11:
            return self.pick(f"m({a()})", f"m({a()}, b={b()})", f"[{a()}, {b()}]|join('x')", f"[{a()}]|string", f"{{'x': {a()}}}|tojson", f"{{{a()}: 'y'}}|string", f"dict(x={a()}).x", f"({a()}, 'z')|tojson(indent=1)",
                             f"({a()}|tojson)|from_json", f"namespace(x={a()}).x", f"[{a()}, {b()}]|map('upper')|join", f"[{a()}, {b()}]|sort|join('-')", "k|tojson", "k|string", "k.items()|list|string", "k|dictsort|string", "m(**k)", "l|join(', ')")
        if kind == 12:
            return f"({a()} * {self.pick('2', '3')})"
        return f"({a()} if {self.pick('1', '0')} else {b()})"

    def statement(self, depth):
        e = self.text(depth)
        return self.pick(*["{{ " + e + " }}"] * 4, "{{ (" + e + ")|" + self.pick("escape", "urlencode", "tojson(ensure_ascii=true)", "forceescape|string|tojson") + " }}", "{% set x %}y" + "{{ " + e + " }}z{% endset %}{{ x }}{{ x|upper }}", "{% set x = " + e + " %}{{ x }}",
                         "{% for x in " + e + " %}{{ x }}y{% endfor %}", "{% filter upper %}x{{ " + e + " }}{% endfilter %}", "{% call m('y') %}{{ " + e + " }}{% endcall %}",
                         "{% set n.x = n.x + " + e + " %}{{ n.x }}", "{% for x in l %}{% set n.x = n.x ~ x ~ 'y' %}{% endfor %}{{ n.x }}", "{% with x = " + e + " %}{{ x }}{% endwith %}",
                         "{% for x in l recursive %}{{ x }}{{ loop([" + e + "]) if loop.depth < 2 }}{% endfor %}", "{% for x in [1, 2] %}z{% set t %}{{ " + e + " }}{% break %}{% endset %}{% endfor %}")

    def template(self):
        return ("{% macro m(a='x', b='y', c='z') %}<{{ a }}|{{ b }}{{ caller() if caller }}{{ kwargs|join }}>{% endmacro %}{% set n = namespace(x='') %}"
                + "".join(self.pick("", "x", " y ", "<|z|>") + self.statement(self.pick(1, 2, 3)) for _ in range(self.pick(1, 1, 2))) + "z")


MARKED = {"c": letters("abc"), "d": letters("de") + " " + letters("f"), "e": "ﬀǆﬁ" + chr(0x10428), "k": {"c": letters("gh"), letters("key"): letters("i")}, "l": [letters("jk"), letters("l") + "é"]}


def snippets(args):
    judge = Judge(Ours(args.render))
    rng = random.Random(args.seed)
    for _ in range(args.count):
        source = Maker(rng).template()
        text, said = judge.render(source, MARKED)
        if text is None:
            continue
        plain = re.sub(r"\\u[0-9a-f]{4}|%[89A-F][0-9A-F]", lambda m: "\u9f00" * len(m.group()), text)
        plain = re.sub(r"&(lt|gt|amp|#3[49]);|%[0-7][0-9A-F]", lambda m: (" " if m.group() == "%20" else "x") * len(m.group()), plain)
        at = 0
        for c, shown in zip(text, plain):
            n = len(c.encode())
            content = shown not in LITERAL
            if content != bool(said[at]) and shown not in " c":  # d has a space, k a key that is its name
                judge.complain(repr(source), f"at {at} is " + ("content" if content else "the template's"), text)
                break
            at += n
    return judge.done()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(required=True)
    q = sub.add_parser("templates")
    q.add_argument("render")
    q.add_argument("dir")
    q.add_argument("--every", type=int, default=1, help="a prime leaves out no kind of conversation")
    q.set_defaults(run=templates)
    q = sub.add_parser("snippets")
    q.add_argument("render")
    q.add_argument("count", type=int)
    q.add_argument("--seed", type=int, default=1)
    q.set_defaults(run=snippets)
    args = p.parse_args()
    if args.run is templates and not pathlib.Path(args.dir).is_dir():
        return 77
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
