#!/usr/bin/env python3
"""Takes the effect of one condition of store/ away after the other: does a test notice?

  mutate.py WORK cover                     a tree in WORK with all conditions in it; which test reaches which
  mutate.py WORK run [--seconds S] [FILE...]   runs what reaches each, S seconds long at most; adds to WORK/results
  mutate.py WORK tell                      how many were noticed; those that were not, with their places

Wants root, for namespaces of its own, two hours, and libclang (pip install libclang; clang's own headers). Conditions on
which an error or an answer hangs come first. What is not noticed is not all at fault: much is said by another check too,
saves work, or keeps a call from what has failed before; each is worth a look.
"""
import argparse
import ast
import json
import os
import pathlib
import shlex
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
UNITS = ("adopt bundle create derive download filter hub keys manifest modelfile name session store store_commit store_fault "
         "store_guard store_job transport verify protocol protocol_types protocol_transfer").split()
TARGETS = [*(f"unit_{u}" for u in UNITS), "hearth", "hearthd", "store_fetch", "store_mover", "store_remote", "store_worker"]
NETWORK = (("transport", "store_fetch"), ("download", "store_fetch"), ("hub", "store_remote"), ("hub_pull", "store_mover"),
           ("proxy", "store_fetch", "store_mover"))
API = (("create", "hearthd"), ("pull", "hearth"), ("body", "hearth"), ("adopt", "hearth"), ("bundle", "hearth"), ("lock", "hearth"),
       ("hearth", "hearth"))
MOST = 16384  # mutate.h


class Work:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.source, self.build, self.state, self.temporary = (self.folder / n for n in ("source", "build", "state", "tmp"))
        self.conditions, self.cover, self.results = (self.folder / n for n in ("conditions.json", "cover.json", "results"))

    # ---- the tree ------------------------------------------------------------------------------------------------

    def make(self):
        for folder in (self.source, self.state, self.temporary):
            folder.mkdir(parents=True)
        tree = subprocess.run(["git", "-C", ROOT, "archive", "HEAD"], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", self.source], input=tree, check=True)
        with open(self.source / "store/CMakeLists.txt", "a") as f:
            f.write("foreach(library hearth_store hearth_names hearth_modelfile)\n  target_compile_options(${library} PRIVATE -w "
                    f"-include {HERE}/mutate.h -DMUTATE_STATE=\"{self.state}\")\nendforeach()\n")
        subprocess.run(["cmake", "-S", self.source, "-B", self.build, "-G", "Ninja", "-DHEARTH_TESTS=ON",
                        f"-DPython3_EXECUTABLE={sys.executable}"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", self.build, *TARGETS], check=True, stdout=subprocess.DEVNULL)
        self.instrument()
        subprocess.run(["ninja", "-C", self.build, *TARGETS], check=True, stdout=subprocess.DEVNULL)

    def instrument(self):
        from conditions import Source  # libclang is wanted here alone
        everything = []
        for entry in json.loads((self.build / "compile_commands.json").read_text()):
            if pathlib.Path(entry["file"]).parent != self.source / "store":
                continue
            source = Source(entry["file"], entry["command"])
            found = self.compiling(source, entry, list(source.found.values()), len(everything))
            everything += found
        assert len(everything) < MOST
        self.conditions.write_text(json.dumps(everything))

    def compiling(self, source, entry, found, first):
        """Those that can be written as they are: a macro's inside cannot."""
        while True:
            for i, c in enumerate(found):
                c["id"] = first + i
            source.write(found)
            r = subprocess.run([*shlex.split(entry["command"]), "-fsyntax-only"], capture_output=True, text=True, cwd=entry["directory"])
            bad = {int(line.split(":")[1]) for line in r.stderr.splitlines() if line.startswith(entry["file"]) and " error: " in line}
            if not r.returncode:
                return found
            assert bad, r.stderr
            found = [c for c in found if c["line"] not in bad]

    # ---- tests ---------------------------------------------------------------------------------------------------

    def tests(self):
        """By name: the words of a command, each a small part of a test."""
        folder, programs, python = self.source / "tests", self.build / "tests", [sys.executable, "-W", "ignore"]
        all_of_them = {f"unit_{u}": [programs / f"unit_{u}"] for u in UNITS}
        registry = folder / "store/registry_test.py"
        for f in ast.parse(registry.read_text()).body:
            if isinstance(f, ast.FunctionDef) and "case" in [d.id for d in f.decorator_list if isinstance(d, ast.Name)]:
                all_of_them[f"registry {f.name}"] = [*python, registry, programs / "store_mover", f.name]
        for name, *wanted in NETWORK:
            all_of_them[name] = [*python, folder / f"store/{name}_test.py", *(programs / w for w in wanted)]
        sys.path.insert(0, str(folder / "store"))
        import hostile_rows
        for row in hostile_rows.rows():
            all_of_them[f"hostile {row.name}"] = [*python, folder / "store/hostile_test.py", programs / "store_mover", row.name]
        for name, program in API:
            script = folder / f"api/{name}_test.py"
            for c in ast.parse(script.read_text()).body:
                for m in c.body if isinstance(c, ast.ClassDef) else ():
                    if isinstance(m, ast.FunctionDef) and m.name.startswith("test"):
                        all_of_them[f"{name} {c.name}.{m.name}"] = [*python, script, self.build / program, f"{c.name}.{m.name}"]
        return all_of_them

    def ask(self, worker, command, condition, limit):
        """(what a shell would say, seconds, the conditions that took effect), in folders and with processes of its own."""
        own = self.folder / f"worker{worker}"
        own.mkdir(exist_ok=True)
        (own / "id").write_text(str(condition))
        (own / "reached").write_bytes(bytes(MOST))
        script = (f"mount -t tmpfs -o mode=1777 t {self.temporary} && mount -t tmpfs -o mode=1777 t /dev/shm && "
                  f"mount --bind {own} {self.state} && cd {self.source} && exec \"$@\"")
        began, clean = time.monotonic(), {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        with open(own / "log", "wb") as log:
            p = subprocess.Popen(["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", script, "sh", *map(str, command)],
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**clean, "TMPDIR": str(self.temporary)})
            try:
                status = p.wait(limit)
            except subprocess.TimeoutExpired:
                p.kill()
                status = p.wait() or 1
        return status, time.monotonic() - began, [i for i, b in enumerate((own / "reached").read_bytes()) if b]


def side_by_side(jobs, items, f):
    waiting, lock = iter(items), threading.Lock()

    def work(worker):
        while True:
            with lock:
                item = next(waiting, None)
            if item is None:
                return
            f(worker, item)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def cover(w, args):
    if not w.conditions.exists():
        w.make()
    tests, seen = w.tests(), {}

    def one(worker, name):
        status, seconds, reached = w.ask(worker, tests[name], -1, 600)
        if status:
            print(f"not used, it fails as it is: {name} (worker{worker}/log)", flush=True)
        else:
            seen[name] = {"seconds": seconds, "reached": reached}
    side_by_side(args.jobs, tests, one)
    w.cover.write_text(json.dumps(seen))
    print(f"{len(seen)} tests; {len(set().union(*(s['reached'] for s in seen.values())))} of "
          f"{len(json.loads(w.conditions.read_text()))} conditions take effect")


def run(w, args):
    tests, seen = w.tests(), json.loads(w.cover.read_text())
    done = {r["id"] for r in results(w)}
    wanted = [c for c in json.loads(w.conditions.read_text()) if c["id"] not in done and (not args.files or c["file"] in args.files)]
    wanted.sort(key=lambda c: not c["refuses"])

    def one(worker, c):
        reach = [n for n in seen if c["id"] in seen[n]["reached"]]
        reach.sort(key=lambda n: seen[n]["seconds"] * len(seen[n]["reached"]) ** 0.5)  # what is quick, and about little
        spent, noticed, left = 0, None, 0
        for name in reach:
            if spent and spent + seen[name]["seconds"] > args.seconds:
                left += 1
                continue
            status, seconds, _ = w.ask(worker, tests[name], c["id"], seen[name]["seconds"] * 5 + 10)
            spent += seconds
            if status:
                noticed = name
                break
        if reach:
            with open(w.results, "a") as f:
                f.write(json.dumps({**c, "noticed": noticed, "left": left}) + "\n")
    side_by_side(args.jobs, wanted, one)
    tell(w, args)


def results(w):
    return [json.loads(line) for line in open(w.results)] if w.results.exists() else []


def tell(w, _):
    all_of_them = results(w)
    unseen = [r for r in all_of_them if not r["noticed"]]
    for r in sorted(unseen, key=lambda r: (not r["refuses"], r["file"], r["line"])):
        left = f" ({r['left']} tests were not run)" if r["left"] else ""
        print(f"store/{r['file']}:{r['line']} {r['function']}: always {str(r['value']).lower()}, and nothing notices{left}: "
              f"{' '.join(r['text'].split())[:120]}")
    print(f"{len(all_of_them)} conditions, {len(all_of_them) - len(unseen)} noticed; of {sum(r['refuses'] for r in all_of_them)} on "
          f"which an error or an answer hangs {sum(r['refuses'] for r in unseen)} were not")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("work")
    parser.add_argument("what", choices=("cover", "run", "tell"))
    parser.add_argument("files", nargs="*")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() + 1)
    args = parser.parse_intermixed_args()
    {"cover": cover, "run": run, "tell": tell}[args.what](Work(args.work), args)


if __name__ == "__main__":
    main()
