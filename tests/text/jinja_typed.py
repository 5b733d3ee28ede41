"""Random templates that mostly succeed: expressions are made by the type that they should have, so that
features meet each other instead of an early refusal. For jinja_oracle.py."""

VARIABLES = {
    "s": "Some Text, here.", "p": " pad\n\ttwo  ", "u": "Ünï 日本 🎉 ß", "q": "it's \"q\" <b>&\\", "w": "a-b_c d,e,,f", "empty": "",
    "i": 7, "j": -3, "z": 0, "f": 2.5, "g": -0.125, "t": True, "n": None,
    "xs": ["b", "A", "c", "b"], "ys": [3, 1, 2, 1], "d": {"k": "v", "a": 1, "Z": None, "e": [1, "x"]},
    "rows": [{"a": 2, "b": "x"}, {"a": 1, "b": "Y"}, {"a": 2, "b": "z", "c": {"d": "deep"}}], "pairs": [["p", 1], ["q", 2]],
    "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hi <there>\n"}, {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {"x": 1.5, "y": ["é", False]}}]}],
}


class Typed:
    def __init__(self, rng):
        self.r = rng
        self.names = []  # set by the template: (name, type)

    def pick(self, *options):
        return self.r.choice(options)

    def known(self, kind, *always):
        return self.pick(*always, *[n for n, k in self.names if k == kind])

    def of(self, kind, depth):
        return getattr(self, kind)(depth)

    # ---- texts ----

    def literal(self):
        return self.pick("''", "'a'", "' '", "'Hello World'", "\"it's\"", "'x,y,,z'", "'\\n'", "'é'", "'<|im_end|>'", "'ab'", "'-'", "', '", "'A'", "'\\u65e5'", "'b'", "'</think>'")

    def str(self, depth):
        if depth <= 0:
            return self.known("str", "s", "p", "u", "q", "w", "empty", "d.k", "rows[0].b", "messages[1].content", "messages[0]['role']", self.literal(), self.literal())
        s, t, x, n, k = (lambda: self.str(depth - 1)), (lambda: self.str(depth - 2)), self.literal, (lambda: self.int(depth - 2)), lambda: self.any(depth - 1)
        return self.pick(
            lambda: f"({s()} + {t()})", lambda: f"({s()} ~ {k()})", lambda: f"({k()} ~ {s()} ~ {t()})", lambda: f"({s()} * {self.pick('0', '1', '2', '3')})", lambda: f"({s()})[{self.slice(depth)}]",
            lambda: f"({s()})." + self.pick("upper()", "lower()", "title()", "capitalize()", "swapcase()", "strip()", "lstrip()", "rstrip()", f"strip({x()})", f"lstrip({x()})", f"rstrip({x()})", "casefold()", "expandtabs(3)",
                                           f"replace({x()}, {t()})", f"replace({x()}, {t()}, {self.pick('0', '1', '2', '-1')})", f"removeprefix({x()})", f"removesuffix({x()})", f"center({self.pick('3', '9', '20')}, '*')", "center(12)",
                                           "ljust(9)", "rjust(9, '.')", "zfill(8)", f"join({self.strs(depth - 1)})", f"join({t()})"),
            lambda: f"({s()})." + self.pick(f"split({self.pick(chr(39) + ',' + chr(39), chr(39) + ' ' + chr(39), chr(39) + 'b' + chr(39))})", "split()", "splitlines()", "rsplit(none, 1)", "split(' ', 1)", "partition(',')", "rpartition('b')") + self.pick("[0]", "[-1]", "|first|default('none')", "|last|default('none')", "|join('|')", "|string"),
            lambda: f"({s()}|" + self.pick("upper", "lower", "title", "capitalize", "trim", f"trim({x()})", "string", "e", "safe", "escape|string", "forceescape", "striptags", "urlencode", "reverse", "indent", "indent(2, true)", f"indent({x()})", "indent(1, blank=true)", "center(11)", "tojson",
                                           "truncate(4)", "truncate(5, true)", "truncate(6, false, '~')", "truncate(3, true, '', 0)", f"replace({x()}, {t()})", f"replace({x()}, {t()}, 1)", "first|default('')", "last|default('')", "default('dd')", "d('dd', true)",
                                           "list|join('.')", "sort|join", "unique|join", "map('upper')|join", "select('in', 'abAB')|join", "batch(3)|map('join')|join('/')", "max|default('')", "min|default('')") + ")",
            lambda: f"({k()}|" + self.pick("string", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'))", "tojson(sort_keys=true, indent=1)", "tojson(indent='\\t', separators=(' ;', '='))") + ")",
            lambda: f"({self.strs(depth - 1)}|join({x()}))", lambda: f"({self.ints(depth - 1)}|join('-'))", lambda: f"(rows|map(attribute='b')|join({x()}))", lambda: f"({self.rows(depth - 1)}|join(',', attribute='a'))",
            lambda: f"'{self.pick('%s', '%5s', '%-6s|', '%.2s', '%r', 'x%sy%%')}' % ({k()},)", lambda: f"'{self.pick('%d', '%5d', '%-5d|', '%05d', '%+d', '%x', '%X', '%o', '%i')}' % ({n()})", lambda: f"'{self.pick('%f', '%.2f', '%8.3f', '%e', '%g', '%G', '%.0f', '%+.1f', '%#.3g')}' % ({self.number(depth - 1)})",
            lambda: f"'%(a)s-%(b)s' % {{'a': {s()}, 'b': {k()}}}", lambda: f"('%s:%s'|format({k()}, {t()}))",
            lambda: f"'{self.pick('{}', '{0}{0}', '[{}]', '{!r}', '{!s:>12}', '{{{}}}')}'.format({k()})" if self.r.random() < 0.7 else f"'{{:{self.pick('>9', '<9', '^9', '*^9', '.3', '>8.2')}}}|'.format({s()})",
            lambda: f"'{{:{{}}}}|{{!r:{{w}}}}'.format({s()}, {self.pick('3', '12')}, {k()}, w={self.pick('1', '15')})", lambda: f"'{{:{self.pick('d', '5', '05d', ',', '+', 'x', '#x', 'b', '_', '>6', '^7', 'e', '.2f', '%', ' ', '=+6')}}}'.format({n()})", lambda: f"'{{:{self.pick('f', '.2f', '8.3f', 'e', 'g', '.3g', ',', '%', '.1%', '+.2f', '010.2f', '.5')}}}'.format({self.float(depth - 1)})", lambda: f"'{{a}}{{b[0]}}{{c.k}}'.format(a={k()}, b={self.strs(0)}, c=d)",
            lambda: f"({s()} if {self.bool(depth - 1)} else {t()})", lambda: f"({t()} or {s()})", lambda: f"({self.bool(depth - 2)} and {s()} or {t()})", lambda: f"({s()}|default({t()}))",
            lambda: f"(d.get({x()}, {s()}))", lambda: f"({{'a': {s()}, 'b': {t()}}}).a", lambda: f"([{s()}, {t()}][{self.pick('0', '1', '-1')}])", lambda: f"m({s()})", lambda: f"m({k()}, b={t()})", lambda: f"m(b={s()}, a={k()}, {self.pick('c', 'zz')}={t()})", lambda: f"m(*{self.strs(depth - 1)})", lambda: f"m(**{{'b': {k()}}})", "r(2)".__str__,
            lambda: f"({s()}|tojson|from_json)", lambda: f"(namespace(x={s()}).x)", lambda: f"cycler({s()}, {t()}).next()", lambda: f"strftime_now('{self.pick('%Y-%m-%d', '%d %b %Y', '%A, %B', '%H:%M:%S', '%j', '%y%%', '%I %p', '%a %-d')}')",
            lambda: f"({self.bool(depth - 1)}|string)", lambda: f"({self.number(depth - 1)}|string)", lambda: f"({n()}|filesizeformat)", lambda: f"(({self.float(depth - 1)}|abs * 1000000)|filesizeformat({self.pick('true', 'false')}))")()

    # ---- numbers ----

    def int(self, depth):
        if depth <= 0:
            return self.known("int", "i", "j", "z", "d.a", "ys[0]", "1", "2", "10", "-1", "0", "0x1F", "1_000", "100", "true")
        a, b = (lambda: self.int(depth - 1)), lambda: self.int(depth - 2)
        return self.pick(lambda: f"({a()} {self.pick('+', '-', '*')} {b()})", lambda: f"({a()} {self.pick('//', '%')} {self.pick('2', '-3', '7', '1')})", lambda: f"({b()} ** {self.pick('0', '1', '2', '3')})", lambda: f"(-{b()})", lambda: f"({self.str(depth - 1)}|length)", lambda: f"({self.strs(depth - 1)}|count)", lambda: f"({self.ints(depth - 1)}|{self.pick('sum', 'max|default(0)', 'min|default(0)', 'first|default(1)', 'last|default(1)', 'length', 'sum(start=5)')})",
                         lambda: f"({self.str(depth - 1)}|int)", lambda: f"({self.str(depth - 1)}|int(4, 16))", lambda: f"({self.number(depth - 1)}|int)", lambda: f"({self.str(depth - 1)}.{self.pick('find', 'rfind', 'count')}({self.literal()}))", lambda: f"({a()}|abs)", lambda: f"({self.str(depth - 1)}|wordcount)", lambda: f"({a()} if {self.bool(depth - 1)} else {b()})", lambda: f"(rows|map(attribute='a')|sum)",
                         lambda: f"(range({self.pick('3', '1, 6', '9, 0, -2')})|{self.pick('sum', 'last', 'max', 'length')})", lambda: f"({self.strs(depth - 1)}.count({self.literal()}))", lambda: f"([{a()}, {b()}]|sort|first)", lambda: f"({a()}|round|int)", lambda: f"({a()} or {b()})")()

    def float(self, depth):
        if depth <= 0:
            return self.known("float", "f", "g", "1.5", "0.1", "-2.0", "1e16", "1e-5", "3.14159", "1e22", "100.0", "2.675", "1234567.891")
        a, b = (lambda: self.number(depth - 1)), lambda: self.float(depth - 2)
        return self.pick(lambda: f"({a()} {self.pick('+', '-', '*')} {b()})", lambda: f"({a()} / {self.pick('2', '3.0', '-7', '0.1')})", lambda: f"({b()} {self.pick('//', '%')} {self.pick('2', '0.3', '-1.5')})", lambda: f"({a()}|float)", lambda: f"({b()}|round({self.pick('0', '1', '2', '3', '-1')}))", lambda: f"({b()}|round({self.pick('1', '2')}, {self.pick(chr(39) + 'ceil' + chr(39), chr(39) + 'floor' + chr(39))}))", lambda: f"({b()}|abs)", lambda: f"({self.str(depth - 1)}|float(1.5))", lambda: f"(-{b()})", lambda: f"({b()} ** 2)", lambda: f"([{b()}, {a()}]|sum * 1.0)")()

    def number(self, depth):
        return self.pick(self.int, self.float)(depth)

    # ---- truth ----

    def bool(self, depth):
        if depth <= 0:
            return self.known("bool", "t", "true", "false", "i > 1", "s", "xs", "n", "nope", "z")
        k, l = (lambda: self.any(depth - 1)), lambda: self.any(depth - 2)
        return self.pick(lambda: f"({k()} {self.pick('==', '!=')} {l()})", lambda: f"({self.number(depth - 1)} {self.pick('<', '<=', '>', '>=', '==', '!=')} {self.number(depth - 2)})", lambda: f"({self.str(depth - 1)} {self.pick('<', '>', '<=', '==', 'in', 'not in')} {self.str(depth - 2)})", lambda: f"({self.int(depth - 1)} < {self.int(depth - 2)} {self.pick('<', '<=', '!=')} {self.int(depth - 2)})", lambda: f"({self.str(depth - 1)} in {self.strs(depth - 1)})", lambda: f"({self.literal()} {self.pick('in', 'not in')} d)",
                         lambda: f"(not {k()})", lambda: f"({self.bool(depth - 1)} {self.pick('and', 'or')} {self.bool(depth - 2)})", lambda: f"({k()} is {self.pick('', 'not ')}{self.pick('defined', 'none', 'string', 'number', 'mapping', 'sequence', 'iterable', 'boolean', 'true', 'false', 'integer', 'float', 'undefined', 'callable', 'escaped')})", lambda: f"({self.int(depth - 1)} is {self.pick('odd', 'even', 'divisibleby 3', 'divisibleby(2)', 'gt 1', 'lt(2)', 'eq 1', 'in [1, 2]', 'ne(3)')})",
                         lambda: f"({self.str(depth - 1)}.{self.pick('isdigit()', 'isalpha()', 'isupper()', 'islower()', 'isspace()', 'isalnum()', 'istitle()', 'isascii()', 'isidentifier()', 'isprintable()', 'isnumeric()', 'isdecimal()')})", lambda: f"({self.str(depth - 1)}.{self.pick('startswith', 'endswith')}({self.pick(self.literal(), '(' + self.literal() + ', ' + self.literal() + ')')}))", lambda: f"({self.str(depth - 1)} is {self.pick('lower', 'upper', 'eq ' + self.literal(), 'in [' + self.literal() + ', s]', 'sameas none')})", lambda: f"({self.strs(depth - 1)} == {self.strs(depth - 2)})", lambda: f"(d.{self.pick('k', 'nope', 'e', 'Z')} is {self.pick('defined', 'none', 'string')})", lambda: f"({self.ints(depth - 1)} < {self.ints(depth - 2)})")()

    # ---- sequences ----

    def slice(self, depth):
        return self.pick("0:2", "1:", ":-1", "::-1", "::2", "-3:", ":", "1:5:2", "5:1:-2", "-2::-1", f"{self.pick('i', 'j', 'z')}:", f":{self.pick('i', 'j', 'n')}")

    def strs(self, depth):
        if depth <= 0:
            return self.known("strs", "xs", "['x', 'Y']", "w.split(',')", "['b', s]", "[]", "('p', 'q')", "d|list", "s.split()")
        a = lambda: self.strs(depth - 1)
        return self.pick(lambda: f"[{self.str(depth - 1)}, {self.str(depth - 2)}]", lambda: f"({a()}|list + [{self.str(depth - 2)}])", lambda: f"({a()}|list)[{self.slice(depth)}]", lambda: f"({a()}|{self.pick('sort', 'sort(reverse=true)', 'sort(case_sensitive=true)', 'unique|list', 'reverse|list', 'unique(true)|list')})", lambda: f"({a()}|map('{self.pick('upper', 'lower', 'trim', 'string', 'title', 'reverse', 'tojson', 'escape')}')|list)",
                         lambda: f"({a()}|map('replace', {self.literal()}, {self.str(depth - 2)})|list)", lambda: f"({a()}|{self.pick('select', 'reject')}({self.pick(chr(39) + 'lower' + chr(39), chr(39) + 'in' + chr(39) + ', xs', chr(39) + 'eq' + chr(39) + ', s', chr(39) + 'string' + chr(39))})|list)", lambda: f"({a()}|select|list)", lambda: f"({self.str(depth - 1)}|list)", lambda: f"({self.str(depth - 1)}.split({self.pick('', chr(39) + ' ' + chr(39), chr(39) + ',' + chr(39))}))", lambda: f"({self.str(depth - 1)}.splitlines({self.pick('', 'true')}))", lambda: f"(rows|map(attribute='b')|list)", lambda: f"({a()}|batch(2)|map('join')|list)", lambda: f"({a()}|slice(2)|map('join', ',')|list)", lambda: f"(d.keys()|list)", lambda: f"({a()}|list * 2)", lambda: f"(({a()})|groupby('{self.pick('0', 'nope')}', default='?')|map(attribute='{self.pick('grouper', '0', 'list')}')|map('string')|list)")()

    def ints(self, depth):
        if depth <= 0:
            return self.known("ints", "ys", "[1, 2]", "range(4)|list", "[]", "[i, j]", "(1, 2)")
        a = lambda: self.ints(depth - 1)
        return self.pick(lambda: f"[{self.int(depth - 1)}, {self.int(depth - 2)}]", lambda: f"({a()}|list + [{self.int(depth - 2)}])", lambda: f"({a()}|list)[{self.slice(depth)}]", lambda: f"({a()}|{self.pick('sort', 'sort(reverse=true)', 'unique|list', 'reverse|list')})", lambda: f"({a()}|map('{self.pick('abs', 'int', 'round', 'float')}')|list)", lambda: f"({a()}|{self.pick('select', 'reject')}({self.pick(chr(39) + 'odd' + chr(39), chr(39) + 'gt' + chr(39) + ', 1', chr(39) + 'in' + chr(39) + ', [1, 2]', chr(39) + '>=' + chr(39) + ', i')})|list)", lambda: "(rows|map(attribute='a')|list)", lambda: f"({self.strs(depth - 1)}|map('length')|list)", lambda: f"({self.rows(depth - 1)}|map(attribute='a', default=0)|list)")()

    def rows(self, depth):
        if depth <= 0:
            return self.known("rows", "rows", "rows[:2]", "[]", "[{'a': 5, 'b': 'B'}]")
        a = lambda: self.rows(depth - 1)
        return self.pick(lambda: f"({a()}|sort(attribute='a'))", lambda: f"({a()}|sort(attribute='{self.pick('b', 'a,b')}', reverse={self.pick('true', 'false')}))", lambda: f"({a()}|selectattr('a', '{self.pick('odd', 'even', 'defined')}')|list)", lambda: f"({a()}|rejectattr('a', 'equalto', {self.pick('1', '2')})|list)", lambda: f"({a()}|selectattr('b', 'in', {self.strs(depth - 2)})|list)", lambda: f"({a()}|selectattr('c')|list)", lambda: f"({a()}|groupby('a')|map(attribute=1)|first|default([]))", lambda: f"({a()}|unique(attribute='a')|list)", lambda: f"({a()}|list + [{{'a': {self.int(depth - 2)}, 'b': {self.str(depth - 2)}}}])", lambda: f"({a()}|reverse|list)")()

    def dict(self, depth):
        if depth <= 0:
            return self.known("dict", "d", "rows[2]", "{}", "{'x': 1}", "messages[2]")
        return self.pick(lambda: f"{{{self.str(depth - 2)}: {self.any(depth - 1)}, 'k': {self.any(depth - 2)}}}", lambda: f"dict(a={self.any(depth - 1)}, b={self.any(depth - 2)})", lambda: f"dict({self.dict(depth - 1)}, z={self.any(depth - 2)})", lambda: f"dict({self.dict(depth - 1)}|dictsort)", lambda: f"({self.dict(depth - 1)}|items|list|string|length and d)", lambda: f"dict({self.dict(depth - 1)}.items())", lambda: f"({self.dict(depth - 1)}.copy())")()

    def any(self, depth):
        kind = self.pick("str", "str", "str", "int", "int", "float", "bool", "strs", "ints", "dict", "rows", "other")
        return self.of(kind, depth)

    def other(self, depth):
        return self.pick("none", "n", "nope", "d.Z", "d.e", "pairs", "messages[2].content", "messages[2].tool_calls", f"({self.dict(depth - 1)}|dictsort)", f"({self.dict(depth - 1)}.values()|list)", f"({self.dict(depth - 1)}.items()|list)", "(1, 'x', none)", "range(3)", f"({self.rows(depth - 1)}|groupby('a')|list)", "loop.index" if self.r.random() < 0.3 else "none")

    # ---- statements ----

    def tag(self, inner):
        return "{%" + self.pick("", "", "", "-", "+") + " " + inner + " " + self.pick("", "", "", "-", "+") + "%}"

    def text(self):
        return self.pick("", "", "x", " ", "\n", "  \n  ", " y ", "  z\n", "\n  w", "<|im_start|>", "\r\n\t", "{ }")

    def show(self, depth):
        return "{{" + self.pick("", "", "-") + " " + self.any(depth) + " " + self.pick("", "", "-") + "}}"

    def set(self, depth):
        kind = self.pick("str", "str", "int", "strs", "ints", "dict", "bool", "rows")
        name = self.pick("v1", "v2", "v3", "v4")
        value = self.of(kind, depth)
        self.names = [(n, k) for n, k in self.names if n != name] + [(name, kind)]
        return self.tag(f"set {name} = {value}")

    def loop(self, depth):
        before = list(self.names)
        kind, seq = self.pick(("str", self.strs), ("int", self.ints), ("str", self.str))
        head = f"for v in {seq(depth)}" + self.pick("", "", f" if {self.bool(1)}", " if v")
        self.names = [(n, k) for n, k in self.names if n != "v"] + [("v", kind)]
        inner = self.pick("{{ loop.index }}", "{{ loop.last }}", "{{ loop.previtem|default('-') }}{{ loop.nextitem|default('-') }}", "{{ loop.cycle('a', 'b') }}", "{{ loop.changed(v) }}", "{{ loop.length }}{{ loop.revindex0 }}", "{{ loop.first }}{{ v }}", "{% set ns.x = ns.x ~ v %}", "{% set ns.y = ns.y + loop.index %}", "")
        leave = self.pick("", "", "", self.tag("if loop.index > 2") + self.tag("break") + self.tag("endif"), self.tag("if v == 'b' or v == 1") + self.tag("continue") + self.tag("endif"))
        out = self.tag(head) + inner + leave + self.body(depth - 1) + self.pick("", self.tag("else") + self.text()) + self.tag("endfor")
        self.names = before
        return out

    def statement(self, depth):
        before = list(self.names)
        if depth <= 0:
            return self.show(self.pick(1, 2))
        kind = self.r.randrange(16)
        out = ""
        if kind < 4:
            return self.show(self.pick(1, 2, 3))
        if kind < 7:
            return self.set(self.pick(1, 2))
        if kind < 9:
            out = self.tag("if " + self.bool(2)) + self.body(depth - 1) + self.pick("", self.tag("elif " + self.bool(1)) + self.text()) + self.pick("", self.tag("else") + self.body(depth - 1)) + self.tag("endif")
        elif kind < 11:
            return self.loop(self.pick(1, 2) if depth > 1 else 1)
        elif kind == 11:
            out = self.tag(f"for a, b in {self.pick('d.items()', 'd|items', 'd|dictsort', 'pairs', 'rows|groupby(' + chr(39) + 'a' + chr(39) + ')')}") + "{{ a }}={{ b }}" + self.pick("", "{{ loop.index0 }},") + self.tag("endfor")
        elif kind == 12:
            out = self.tag("set " + self.pick("v1", "v2") + self.pick("", "|upper", "|trim", "|replace('x', 'y')|title")) + self.body(depth - 1) + self.tag("endset") + "{{ v1 }}{{ v2 }}"
        elif kind == 13:
            out = self.pick(self.tag(self.pick("call m(1)", "call m(s, b=i)", "call(k) c(2)")) + "<{{ k }}>" + self.body(depth - 1) + self.tag("endcall"), self.tag("filter " + self.pick("upper", "trim", "indent(2)", "replace('x', 'y')|title", "tojson")) + self.body(depth - 1) + self.tag("endfilter"))
        elif kind == 14:
            out = self.tag(f"with v1 = {self.any(2)}, v5 = s") + "{{ v1 }}{{ v5 }}" + self.body(depth - 1) + self.tag("endwith")
        else:
            out = self.pick(self.tag("generation") + self.body(depth - 1) + self.tag("endgeneration"), "{% for x in pairs recursive %}{{ x if x is string else loop(x) if x is iterable else x }}{{ loop.depth }}{% endfor %}",
                            "{% set ns.x = " + self.str(1) + " %}{{ ns.x }}", "{{ ns.x }}{{ ns.y }}{{ ns.nope }}", "{% for g in rows|groupby('a') %}{{ g.grouper }}{{ g.list }}{{ g }}{% endfor %}", "{#- note -#}", "{% raw %}{{ x }}{% endraw %}", "{% macro m(a, b='new') %}[{{ a }}:{{ b }}]{% endmacro %}", "{% for m2 in messages %}{{ m2.role }}{{ m2['content'] }}{{ m2.tool_calls[0].arguments|tojson if m2.tool_calls }}{% if not loop.last %};{% endif %}{% endfor %}")
        self.names = before
        return out

    def body(self, depth):
        return self.text() + "".join(self.statement(depth) + self.text() for _ in range(self.pick(1, 1, 2)))

    def template(self):
        return ("{% set ns = namespace(x='', y=0) %}{% macro m(a='A', b='B', c=none) %}<{{ a }}{{ b }}{{ c if c is not none }}{{ caller() if caller }}{{ kwargs|length }}{{ varargs|length }}>{% endmacro %}"
                "{% macro c(x) %}({{ caller(x) }}{{ caller('k') }}){% endmacro %}{% macro r(n) %}{{ n }}{% if n %}{{ r(n - 1) }}{% endif %}{% endmacro %}" + self.body(self.pick(1, 2, 3)))
