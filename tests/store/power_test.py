#!/usr/bin/env python3
"""Power cuts, played back. A kill keeps the page cache and so cannot show a sync that is missing.

  power_test.py WORKER [--states N] [--seed N] [--op WORD]... [--without WHAT]... [--dir DIR]

The worker writes down every file operation of the store and of SQLite (record.h) while it does random
work. For every prefix of that log this makes homes as a power cut there may leave them: what was synced
is there; of what was not, nothing, everything, a prefix in order, or a random part, a write perhaps torn
at a sector. Each is judged by check_store.py as it lies, opened by the worker, and judged again: what was
acknowledged is there, what was under way is wholly there or wholly not. Where a pull was begun it is made
again in some of the homes, and must give the right model: a piece that was lost is noticed.

--without part, dl-part, blobs, keys, db-wal, db, ...: as if the program did not sync these. Each must end in a violation
(--must-fail turns the exit status round): a playback that finds nothing then would find nothing ever.
"""
import argparse
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

from check_store import Store
from kill_test import Bench, canonical

HEAD = struct.Struct("<B7xQQQIIQ")
SECTOR = 512


def records(path):
    data, at = path.read_bytes(), 0
    while at < len(data):
        kind, inode, other, number, n_name, n_to, n_data = HEAD.unpack_from(data, at)
        at += HEAD.size
        name = os.fsdecode(data[at:at + n_name])
        to = os.fsdecode(data[at + n_name:at + n_name + n_to])
        at += n_name + n_to
        yield chr(kind), inode, other, number, name, to, data[at:at + n_data]
        at += n_data


class File:
    def __init__(self, data=b"", mode=0o600):
        self.data, self.mode, self.pending = bytearray(data), mode, []

    def as_left(self, keep):
        data, mode = bytearray(self.data), self.mode
        for op in self.pending:
            part = keep(op)
            if part:
                mode = apply(data, mode, op if part is True else torn(op, part))
        return data, mode

    def sync(self):
        for op in self.pending:
            self.mode = apply(self.data, self.mode, op)
        self.pending = []


def torn(op, part):
    kind, number, data = op
    return (kind, number, data[:int(len(data) * part) // SECTOR * SECTOR]) if kind == "W" else op


def apply(data, mode, op):
    kind, number, new = op
    if kind == "W":
        if len(data) < number:
            data.extend(bytes(number - len(data)))
        data[number:number + len(new)] = new
    elif kind == "T" and number < len(data):
        del data[number:]
    elif kind in "TG" and number > len(data):
        data.extend(bytes(number - len(data)))
    elif kind == "M":
        mode = number & 0o7777
    return mode


class Disk:
    """What is on the disk for sure, and what has been done since to files and to names."""

    def __init__(self, home, without):
        self.without = without
        self.dirs, self.files = {}, {}     # inode -> path below the home; inode -> File
        self.live, self.names = {}, {}     # (directory, name) -> File or link: now; for sure
        self.pending = []                  # changes of names: lists of (directory, name, File or None)
        for path in [home, *home.rglob("*")]:
            st = path.lstat()
            if path.is_symlink():
                self.live[str(path.parent.relative_to(home)), path.name] = os.readlink(path)
            elif path.is_dir():
                self.dirs[st.st_ino] = str(path.relative_to(home))
            elif path.is_file() and path.name != "db-shm":
                self.files[st.st_ino] = f = File(path.read_bytes(), st.st_mode & 0o7777)
                self.live[str(path.parent.relative_to(home)), path.name] = f
        self.names = dict(self.live)

    def role(self, inode):
        if inode in self.dirs:
            return "home" if self.dirs[inode] == "." else self.dirs[inode]
        name = next((n for (_, n), f in self.live.items() if f is self.files.get(inode)), "")
        return re.sub(r"^(part|sha256)-.*", r"\1", re.sub(r"^dl-.*\.", "dl-", name))

    def change(self, *edits):
        self.pending.append(edits)
        for where, name, what in edits:
            if what is None:
                self.live.pop((where, name), None)
            else:
                self.live[where, name] = what

    def sync_names(self, where):
        rest = []
        for edits in self.pending:
            if any(d == where for d, _, _ in edits):
                put(self.names, edits)
                done = {(d, n) for d, n, _ in edits}
                rest = [e for e in ([x for x in old if x[:2] not in done] for old in rest) if e]
            else:
                rest.append(edits)
        self.pending = rest

    def take(self, record):
        kind, inode, other, number, name, to, data = record
        if kind in "WTGM" and inode in self.files:
            self.files[inode].pending.append((kind, number, data))
        elif kind == "C" and inode in self.dirs:
            self.files[other] = File(mode=number)
            self.change((self.dirs[inode], name, self.files[other]))
        elif kind == "U" and inode in self.dirs:
            self.change((self.dirs[inode], name, None))
        elif kind == "L" and inode in self.dirs:
            self.change((self.dirs[inode], name, to))
        elif kind == "H" and inode in self.dirs:
            where = self.dirs[inode]
            self.change((where, name, self.live[where, to]))
        elif kind == "R":
            a, b = self.dirs[inode], self.dirs[other]
            self.change((a, name, None), (b, to, self.live[a, name]))
        elif kind == "S" and self.role(inode) not in self.without:
            if inode in self.dirs:
                self.sync_names(self.dirs[inode])
            elif inode in self.files:
                self.files[inode].sync()

    def left(self, rng, how):
        """One way in which it may lie after a power cut."""
        ops = [op for f in set(self.files.values()) for op in f.pending]
        order = {id(o): i for i, o in enumerate(ops + list(self.pending))}
        if how == "ordered":
            most = rng.randrange(len(order) + 1)
            keep = lambda op: order[id(op)] < most
        elif how in ("none", "all"):
            keep = lambda op: how == "all"
        else:
            p = rng.choice([0.1, 0.5, 0.9])
            keep = lambda op: rng.random() < p and (rng.random() < 0.7 or rng.random())
        names = dict(self.names)
        for edits in self.pending:
            if keep(edits):
                put(names, edits)
        memo = {}
        out = {}
        for where, f in names.items():
            if isinstance(f, File) and id(f) not in memo:
                memo[id(f)] = f.as_left(keep)
            out[where] = memo[id(f)] if isinstance(f, File) else f
        return out


def put(names, edits):
    for where, name, what in edits:
        if what is None:
            names.pop((where, name), None)
        else:
            names[where, name] = what


class Player:
    def __init__(self, bench, where, without):
        self.bench, self.where, self.without = bench, where, without
        self.states = self.violations = self.resumed = 0
        self.key = None

    def record(self, rng, n_ops):
        """A home, the log of what was done to it, and what it held before."""
        b = self.bench
        shutil.rmtree(b.home, ignore_errors=True)
        b.models, b.key = {}, None
        self.work([], None)
        (b.home / "keys").mkdir(mode=0o700)  # making directories is not recorded
        self.work([b.random_op(rng) for _ in range(rng.randrange(4))], None)
        before, disk = (dict(b.models), b.key), Disk(b.home, self.without)
        log = self.where / "log"
        ops = [b.random_op(rng) for _ in range(n_ops)]
        self.work(ops, log)
        return before, disk, list(records(log)), ops

    def work(self, ops, log):
        b, env = self.bench, dict(os.environ)
        if log:
            env["HEARTH_TEST_RECORD"] = str(log)
        lines = "".join(" ".join(op) + "\n" for op in ops)
        r = subprocess.run([b.worker, b.home, "loop"], input=lines, capture_output=True, text=True, env=env, check=True)
        for op, code in zip(ops, re.findall(r"^< (\w+)", r.stdout, re.M)):
            b.models = b.apply(b.models, op) if code == "ok" else b.models
        b.key = next(iter(re.findall(r"^= (.*)", r.stdout, re.M)), b.key)

    def play(self, rng, n_ops, each):
        (models, self.key), disk, log, ops = self.record(rng, n_ops)
        done, pending, key = 0, None, None
        for record in log:
            if record[0] == "A":
                line = record[6].decode()
                if line.startswith("> ") and line != "> open":
                    pending = ops[done]
                elif line.startswith("= "):
                    key = line[2:]
                elif line.startswith("<"):
                    self.key = key or self.key
                    models = self.bench.apply(models, ops[done]) if line.startswith("< ok") else models
                    done, pending = done + 1, None
                continue
            disk.take(record)
            for how in rng.sample(["none", "all", "ordered", "random", "random"], each):
                self.judge(disk.left(rng, how), models, pending, f"{how} after {record[:1] + record[3:6]}",
                           rng.random() < 0.5)

    def make(self, home, left):
        shutil.rmtree(home, ignore_errors=True)
        for d in (".", "blobs", "tmp", "keys"):
            (home / d).mkdir(mode=0o700 if d in ("tmp", "keys") else 0o750)
        if not any(d == "keys" for d, _ in left):
            (home / "keys").rmdir()
        for (where, name), what in left.items():
            path = home / where / name
            if isinstance(what, str):  # a link, which holds for no other home than the first
                os.symlink(what, path)
            else:
                path.write_bytes(what[0])
                path.chmod(what[1])

    def judge(self, left, models, pending, what, go_on):
        home, b = self.where / "left", self.bench
        self.make(home, left)
        self.states += 1
        possible = [models] + ([b.apply(models, pending)] if pending else [])
        faults = self.look(home, possible, True)
        r = subprocess.run([b.worker, home, "list"], capture_output=True, text=True)
        if r.returncode:
            faults.append(f"I8 it does not open: {r.stderr.strip()}")
        else:
            for f in os.listdir(home / "tmp"):
                if "-of-" in f:
                    os.unlink(home / "tmp" / f)
            faults += self.look(home, possible, False)
            if self.key and f"key {self.key}" not in r.stdout.splitlines():
                faults.append(f"the key is no longer {self.key}")
        if not faults and go_on:
            faults = self.go_on(home)
        for f in faults:
            self.violations += 1
            if self.violations <= 5:
                print(f"VIOLATION {what}, under way {pending}: {f}"[:600], flush=True)

    def go_on(self, home):
        """A pull that was begun is made again on what is left of it: what was lost is noticed."""
        registry = self.bench.registry
        begun = {f.name[3:67] for f in (home / "tmp").glob("dl-*")}
        what = next((m for m in registry.models if begun & set(registry.files(m))), None)
        if not what:
            return []
        self.resumed += 1
        op = self.bench.pull("resumed", what)
        r = subprocess.run([self.bench.worker, home, "do", "0", *op], capture_output=True, text=True)
        if "\n< ok" not in r.stdout:
            return [f"the pull that goes on: {r.stdout} {r.stderr}"]
        s = Store(home)
        faults = s.check()
        if s.models().get(canonical("resumed")) != registry.models[what]:
            faults.append(f"the pull that went on gave {s.models()}")
        s.close()
        return faults

    def look(self, home, possible, unopened):
        try:
            s = Store(home, unopened)
        except Exception as e:
            return [f"I7 {e}"]
        try:
            faults = s.check()
            have = s.models()
        except Exception as e:
            return [f"I7 {e}"]
        finally:
            s.close()
        if have not in possible:
            faults.append(f"I1..I3 listed {have}, possible {possible}")
        return faults


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("worker")
    ap.add_argument("--states", type=int, default=1000)
    ap.add_argument("--seed", type=int, default=11)
    ap.add_argument("--without", action="append", default=[])
    ap.add_argument("--op", action="append", help="do this only: an operation's first word")
    ap.add_argument("--must-fail", action="store_true")
    ap.add_argument("--dir", default="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    args = ap.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as where:
        where = pathlib.Path(where)
        bench = Bench(os.path.abspath(args.worker), where, (150_000, 90_000, 20_000))
        bench.make_bundle(bench.files[1], bench.files[3])
        bench.files = bench.files[:4]  # small ones: what counts is the order
        bench.ops = args.op or bench.ops
        p = Player(bench, where, set(args.without))
        rng = random.Random(args.seed)
        while p.states < args.states and not (args.must_fail and p.violations):
            p.play(rng, rng.randrange(1, 5), 2)
    print(f"{p.states} states, {p.resumed} pulls gone on with, {p.violations} violations (seed {args.seed}"
          f"{', without syncs of ' + ', '.join(args.without) if args.without else ''})")
    return 0 if bool(p.violations) == args.must_fail and p.states else 1


if __name__ == "__main__":
    sys.exit(main())
