"""The conditions of a C source, and the source with a way to take each one's effect away. Wants libclang (PyPI).

What an `if` or `?:` asks is made false, and so is each alternative of an `||`; each requirement of an `&&`, and what a
function of truth values returns, is made true. A condition `refuses` where an error, or a function's answer, hangs on it.
"""
import glob
import pathlib
import shlex

import clang.cindex
from clang.cindex import CursorKind as Kind

COATS = (Kind.PAREN_EXPR, Kind.UNEXPOSED_EXPR)
COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
ERRORS = ("err_set", "err_errno", "ERR_", "goto ", "fail", "refuse")
HEADERS = sorted(glob.glob("/usr/lib/llvm-*/lib/clang/*/include"))


def bare(cursor):
    while cursor.kind in COATS and len(inner := list(cursor.get_children())) == 1:
        cursor = inner[0]
    return cursor


def operator(cursor):
    """Of a binary expression; None of any other."""
    sides = list(cursor.get_children())
    if cursor.kind != Kind.BINARY_OPERATOR or len(sides) != 2:
        return None
    between = (t.spelling for t in cursor.get_tokens() if t.extent.start.offset >= sides[0].extent.end.offset)
    return next((t for t in between if t != ")"), None)


class Source:
    def __init__(self, path, command):
        self.path, self.bytes, self.found = pathlib.Path(path), pathlib.Path(path).read_bytes(), {}
        words = [w for w in shlex.split(command)[1:] if w.startswith(("-I", "-D", "-std"))]
        unit = clang.cindex.Index.create().parse(str(path), args=words + [f"-I{h}" for h in HEADERS[-1:]])
        for f in unit.cursor.get_children():
            if f.kind == Kind.FUNCTION_DECL and f.is_definition() and f.location.file.name == str(path):
                self.function, self.of_truth = f.spelling, f.result_type.spelling in ("bool", "_Bool")
                self.walk(f, False)

    def text(self, cursor):
        return self.bytes[cursor.extent.start.offset:cursor.extent.end.offset].decode()

    def add(self, cursor, value, after):
        text = self.text(cursor)
        if cursor.extent.start.file and text and "#" not in text and text.count("(") == text.count(")"):
            where = (cursor.extent.start.offset, cursor.extent.end.offset)
            self.found[*where, value] = {
                "file": self.path.name, "line": cursor.extent.start.line, "function": self.function, "text": text, "value": value,
                "refuses": any(e in after for e in ERRORS), "from": where[0], "to": where[1]}

    def parts(self, cursor, alone, after, parent=None):
        """The parts of one question. alone: what the whole of it becomes; None: it is not touched."""
        inner = bare(cursor)
        if operator(inner) in ("&&", "||"):
            for side in inner.get_children():
                self.parts(side, alone, after, operator(inner))
            if operator(inner) == "&&" and parent is None and alone is False:
                self.add(cursor, False, after)
        elif parent or alone is not None:
            self.add(cursor, {"||": False, "&&": True}.get(parent, alone), after)

    def walk(self, cursor, asked):
        children = list(cursor.get_children())
        if cursor.kind in (Kind.IF_STMT, Kind.CONDITIONAL_OPERATOR):
            self.parts(children[0], False, self.text(children[1]))
            self.walk(children[0], True)
            children, asked = children[1:], False
        elif operator(cursor) in ("&&", "||") and not asked:
            self.parts(cursor, None, "ERR_" if self.of_truth else "")
            asked = True
        elif cursor.kind == Kind.RETURN_STMT and self.of_truth and children:
            if operator(bare(children[0])) in COMPARISONS or bare(children[0]).kind == Kind.CALL_EXPR:
                self.add(children[0], True, "ERR_")
        elif cursor.kind not in (*COATS, Kind.BINARY_OPERATOR, Kind.UNARY_OPERATOR):
            asked = False
        for child in children:
            self.walk(child, asked)

    def write(self, conditions):
        """conditions: those of found, with an `id` each."""
        edits = []
        for c in conditions:
            edits.append((c["from"], 1, -c["to"], b"(("))
            edits.append((c["to"], 0, -c["from"], b") %s mutate_is(%d))" % (b"||" if c["value"] else b"&& !", c["id"])))
        out, at = b"", 0
        for offset, *_, text in sorted(edits):
            out += self.bytes[at:offset] + text
            at = offset
        self.path.write_bytes(out + self.bytes[at:])
