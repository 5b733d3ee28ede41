#!/usr/bin/env python3
"""Holds the house's habits, and names the offending file:line.

  tidy.py arrows|banned|size|state [--root DIR] [--build DIR]
  tidy.py self-test        plants one offence of every kind and demands that it is found

arrows  who may include whom, and who may include which library
banned  functions that we do not call, and what is called instead
size    length of functions and files; known long ones are rows of size.txt, which only shrink
state   mutable file-scope variables, read from the symbol tables of a built tree
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOMS = ("runtime", "store", "daemon", "cli", "shaders")

# Folder (the longest that matches a file counts) -> prefixes of our own headers it may include.
ARROWS = {
    "shaders/":         ["shaders/"],
    "runtime/base/":    ["runtime/base/"],
    "runtime/gpu/":     ["runtime/gpu/", "runtime/base/", "shaders/"],
    "runtime/model/":   ["runtime/model/", "runtime/base/", "shaders/push.h"],
    "runtime/text/":    ["runtime/text/", "runtime/base/"],
    "runtime/engine/":  ["runtime/engine/", "runtime/model/", "runtime/gpu/gpu.h", "runtime/gpu/kernels.h",
                         "runtime/text/", "runtime/base/", "shaders/"],
    "store/":           ["store/", "runtime/base/"],
    "daemon/":          ["daemon/", "store/", "runtime/engine/runtime.h", "runtime/text/", "runtime/base/"],
    "daemon/protocol":  ["daemon/protocol", "runtime/base/"],
    "store/modelfile":  ["store/modelfile", "runtime/base/"],
    "store/name":       ["store/name", "store/digest", "runtime/base/"],
    "cli/":             ["cli/", "daemon/protocol", "store/modelfile", "store/name", "runtime/base/"],
    "tests/":           [""],
}

# Library header (prefix) -> the only places that include it.
LIBRARIES = {
    "vulkan/":   ["runtime/gpu/", "tests/"],
    "volk":      ["runtime/gpu/", "tests/"],
    "curl/":     ["store/transport_curl_lib.h"],
    "sqlite3":   ["store/", "tests/"],
    "openssl/":  ["store/", "cli/create.c", "tests/"],
    "uv.h":      ["daemon/", "tests/"],
    "llhttp":    ["daemon/", "cli/", "tests/"],
    "pcre2":     ["runtime/text/", "tests/"],
    "utf8proc":  ["runtime/text/", "cli/", "tests/"],
}

# Function -> what to call instead, and where it may stand all the same.
BANNED = {
    "strcpy":   ("snprintf or a struct buf", []),
    "strcat":   ("a struct buf", []),
    "strncpy":  ("snprintf or memcpy", []),
    "strtok":   ("struct str", []),
    "sprintf":  ("snprintf", []),
    "vsprintf": ("vsnprintf", []),
    "gets":     ("getline", []),
    "atoi":     ("strtol with its end checked", []),
    "atol":     ("strtol with its end checked", []),
    "atoll":    ("strtoll with its end checked", []),
    "atof":     ("strtod with its end checked", []),
    "system":   ("posix_spawn or execv", []),
    "popen":    ("posix_spawn", []),
    "alloca":   ("an arena", []),
    "rand":     ("a seeded generator", []),
    "malloc":   ("mem_alloc", ["runtime/base/mem.c", "tests/"]),
    "calloc":   ("mem_zero", ["runtime/base/mem.c", "tests/"]),
    "realloc":  ("mem_resize", ["runtime/base/mem.c", "tests/"]),
    "free":     ("mem_free", ["runtime/base/mem.c", "tests/"]),
    "strdup":   ("mem_strdup", ["tests/"]),
    "strndup":  ("mem_strndup", ["tests/"]),
    "asprintf": ("a struct buf", []),
}

MAX_FUNCTION = 80
MAX_FILE = 1000
MAX_TEST_FILE = 2000


class Line:
    """One line of code with comments and the contents of strings blanked."""
    def __init__(self, number, code, raw):
        self.number, self.code, self.raw = number, code, raw


TOKENS = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def lines_of(path):
    text = path.read_text(encoding="utf-8", errors="replace")

    def blank(match):
        token = match.group(0)
        if token[0] in "\"'":
            return token[0] + " " * (len(token) - 2) + token[0]
        return re.sub(r"[^\n]", " ", token)

    code = TOKENS.sub(blank, text)
    raw = text.split("\n")
    return [Line(n, c, r) for n, (c, r) in enumerate(zip(code.split("\n"), raw), 1)]


def sources(root, rooms=ROOMS + ("tests",)):
    for room in rooms:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in (".c", ".h", ".comp", ".glsl") and path.is_file():
                yield path.relative_to(root).as_posix(), path


def longest_prefix(table, name):
    found = [prefix for prefix in table if name.startswith(prefix)]
    return max(found, key=len) if found else None


def check_include(root, name, line, quoted, target):
    if not quoted:
        for library, places in LIBRARIES.items():
            if target.startswith(library) and not any(name.startswith(p) for p in places):
                yield f"{name}:{line}: includes <{target}>, which only {', '.join(places)} may"
        return
    room = longest_prefix(ARROWS, name)
    if room is None:
        yield f"{name}:{line}: no row in ARROWS for this folder"
    elif not any(target.startswith(allowed) for allowed in ARROWS[room]):
        yield f"{name}:{line}: includes \"{target}\", but {room} may only include {', '.join(ARROWS[room])}"
    if name.endswith((".c", ".h")) and "/" not in target:
        yield f"{name}:{line}: \"{target}\" is not written from the project's root"


def arrows(root, _build):
    for name, path in sources(root):
        for line in lines_of(path):
            match = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line.raw)
            if not match or not line.code.strip().startswith("#"):
                continue
            quoted, target = match.group(1) == '"', match.group(2)
            if name.startswith("shaders/") and "/" not in target:
                continue  # GLSL includes its neighbours by bare name
            yield from check_include(root, name, line.number, quoted, target)


def banned(root, _build):
    call = re.compile(r"(?<![\w.])(?<!->)(" + "|".join(BANNED) + r")\s*\(")
    for name, path in sources(root):
        if not name.endswith((".c", ".h")):
            continue
        for line in lines_of(path):
            for match in call.finditer(line.code):
                instead, places = BANNED[match.group(1)]
                if not any(name.startswith(p) for p in places):
                    yield f"{name}:{line.number}: calls {match.group(1)}(): use {instead}"


def functions(lines):
    """(name, first line, length) of each function: a body opens with { in the first column."""
    head, start = "", 0
    for line in lines:
        code = line.code
        if code.startswith("{"):
            start = line.number
        elif code.startswith("}") and start:
            match = re.search(r"(\w+)\s*\(", head)
            if match and not code.startswith("};") and not re.match(r"\}\s*\w", code):
                yield match.group(1), start, line.number - start + 1
            start = 0
        elif not start and code and not code[0].isspace() and not code.startswith("#"):
            head = code


def known_long(root):
    table = {}
    path = root / "tests/tidy/size.txt"
    for row in path.read_text().splitlines() if path.exists() else []:
        row = row.split("#")[0].split()
        if row:
            table[row[0]] = int(row[1])
    return table


def size(root, _build):
    known, seen = known_long(root), set()
    for name, path in sources(root):
        if name.endswith((".comp", ".glsl")):
            continue
        lines = lines_of(path)
        longest = MAX_TEST_FILE if name.startswith("tests/") else MAX_FILE
        measures = [(name, 1, len(lines), longest, "the file")]
        measures += [(f"{name}:{f}", at, n, MAX_FUNCTION, f"{f}()") for f, at, n in functions(lines)]
        for key, at, n, limit, what in measures:
            allowed = known.get(key, limit)
            seen.add(key)
            if n > allowed:
                yield f"{name}:{at}: {what} has {n} lines, more than {allowed} (a reason? a row in tests/tidy/size.txt)"
            elif key in known and n <= limit:
                yield f"tests/tidy/size.txt: {key} has {n} lines now: remove its row"
    for key in known.keys() - seen:
        yield f"tests/tidy/size.txt: {key} is gone: remove its row"


def known_state(root):
    path = root / "tests/tidy/state.txt"
    rows = path.read_text().splitlines() if path.exists() else []
    return {tuple(row.split("#")[0].split()) for row in rows if row.split("#")[0].strip()}


def state(root, build):
    known = known_state(root)
    objects = [p for room in ROOMS for p in sorted((build / room).rglob("*.c.o"))]
    if not objects:
        yield f"{build}: holds no object file: build first"
        return
    for path in objects:
        name = re.sub(r"CMakeFiles/[^/]+/(.*)\.o$", r"\1", path.relative_to(build).as_posix())
        if not (root / name).exists():
            continue  # left over from a source that is gone
        out = subprocess.run(["objdump", "-t", str(path)], capture_output=True, text=True, check=True).stdout
        for row in out.splitlines():
            match = re.match(r"^[0-9a-f]+ .{5}(.)(.) (\S+)\s+[0-9a-f]+ (?:\.hidden )?(\S+)$", row)
            if not match or match.group(2) != "O":
                continue
            section, symbol = match.group(3), re.sub(r"\.\d+$", "", match.group(4))
            mutable = section.startswith((".data", ".bss", ".tdata", ".tbss", "*COM*"))
            if mutable and not section.startswith(".data.rel.ro") and (name, symbol) not in known:
                yield f"{name}: `{symbol}` is mutable file-scope state ({section}); pass it, or give a reason in tests/tidy/state.txt"


CHECKS = {"arrows": arrows, "banned": banned, "size": size, "state": state}

# Offences: check, file, content, and what the finding must name.
PLANTED = [
    ("arrows", "runtime/base/x.c", '\n#include "store/store.h"\n', "runtime/base/x.c:2"),
    ("arrows", "runtime/text/x.c", '#include "runtime/gpu/gpu.h"\n', "runtime/text/x.c:1"),
    ("arrows", "runtime/engine/x.c", '#include "runtime/gpu/gpu_priv.h"\n', "runtime/engine/x.c:1"),
    ("arrows", "store/x.c", '#include "runtime/engine/runtime.h"\n', "store/x.c:1"),
    ("arrows", "cli/x.c", '#include "daemon/http.h"\n', "cli/x.c:1"),
    ("arrows", "cli/x.c", '#include "client.h"\n', "cli/x.c:1"),
    ("arrows", "daemon/x.c", '#include "runtime/engine/session.h"\n', "daemon/x.c:1"),
    ("arrows", "daemon/protocol.c", '#include "daemon/http.h"\n', "daemon/protocol.c:1"),
    ("arrows", "runtime/engine/x.c", "#include <vulkan/vulkan.h>\n", "runtime/engine/x.c:1"),
    ("arrows", "store/pull.c", "/* a\n b */\n#include <curl/curl.h>\n", "store/pull.c:3"),
    ("banned", "cli/x.c", "int f(void) {\n    return system(0);\n}\n", "cli/x.c:2"),
    ("banned", "store/x.c", "void f(char *p) {\n    free(p);\n}\n", "store/x.c:2"),
    ("banned", "store/x.c", '/* strcpy(a, b) */ const char *s = "gets(x)";\n', None),
    ("banned", "store/x.c", "void f(struct ops *o) {\n    o->free(o);\n    mem_free(o);\n}\n", None),
    ("size", "cli/x.c", "int f(void)\n{\n" + "    ;\n" * 90 + "}\n", "cli/x.c:2"),
    ("size", "cli/x.c", "int a;\n" * 1200, "cli/x.c:1"),
    ("size", "cli/x.c", "int f(void)\n{\n" + "    ;\n" * 60 + "}\n", None),
]


def compile_state(root):
    """A tree whose one object holds mutable state beside a constant table."""
    folder = root / "build/cli/CMakeFiles/hearth.dir"
    folder.mkdir(parents=True)
    source = root / "cli/main.c"
    source.parent.mkdir()
    source.write_text("static int counter;\nextern const char *const table[];\n"
                      "const char *const table[] = { \"a\" };\nint next(void);\n"
                      "int next(void) { return ++counter; }\n")
    subprocess.run(["cc", "-fPIC", "-c", str(source), "-o", str(folder / "main.c.o")], check=True)
    return root / "build"


def self_test():
    failures = 0
    for check, name, content, expected in PLANTED:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / name).parent.mkdir(parents=True)
            (root / name).write_text(content)
            found = list(CHECKS[check](root, None))
        good = not found if expected is None else any(f.startswith(expected) for f in found)
        if not good:
            failures += 1
            print(f"{check} on {name} {content[:40]!r}: expected {expected}, found {found}")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        found = list(state(root, compile_state(root)))
        if len(found) != 1 or "counter" not in found[0] or not found[0].startswith("cli/main.c"):
            failures += 1
            print(f"state: expected `counter` of cli/main.c alone, found {found}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("check", choices=[*CHECKS, "self-test"])
    parser.add_argument("--root", type=pathlib.Path, default=HERE.parent.parent)
    parser.add_argument("--build", type=pathlib.Path)
    args = parser.parse_args()
    if args.check == "self-test":
        sys.exit(1 if self_test() else 0)
    found = list(CHECKS[args.check](args.root, args.build or args.root / "build"))
    for finding in found:
        print(finding)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
