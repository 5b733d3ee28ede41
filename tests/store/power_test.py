#!/usr/bin/env python3
"""Power cuts, played back. A kill keeps the page cache and so cannot show a sync that is missing.

  power_test.py WORKER [--states N] [--seed N] [--op WORD]... [--without WHAT]... [--dir DIR]

The worker writes down every file operation of the store and of SQLite (record.h) while it does random
work, now and then from the making of the home on, and from where another was killed that had begun with it.
For every prefix of that log this makes homes as a power cut there may leave them: what was synced
is there; of what was not, nothing, everything, a prefix in order, or a random part, a write perhaps torn
at a sector. Each is judged by check_store.py as it lies, opened by the worker, and judged again: what was
acknowledged is there, what was under way is wholly there or wholly not; of a blob that is damaged (which the
medium does, and no power cut undoes) it is still known, where it was, and one that was mended is sound.
Where a pull was begun it is made again in some of the homes, and must give the right model: a piece that was
lost is noticed.

--without part, dl-part, blobs, keys, db-wal, db, home, ...: as if the program did not sync these. Each must end in a
violation (--must-fail turns the exit status round): a playback that finds nothing then would find nothing ever.
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
from kill_test import NAMES, Bench, canonical

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


class Folder(File):
    """A directory: its names are the disk's."""

    def as_left(self, keep):
        return None, super().as_left(keep)[1]


class Disk:
    """What is on the disk for sure, and what has been done since to files and to names."""

    def __init__(self, root, without):
        self.without = without
        self.dirs, self.files = {}, {}     # inode -> path below the root; inode -> File or Folder
        self.live, self.names = {}, {}     # (directory, name) -> File, Folder or link: now; for sure
        self.pending = []                  # changes of names: lists of (directory, name, File or None)
        self.dirs[root.stat().st_ino] = "."
        for path in root.rglob("*"):
            st, where = path.lstat(), (str(path.parent.relative_to(root)), path.name)
            if path.is_symlink():
                self.live[where] = os.readlink(path)
            elif path.is_dir():
                self.live[where] = self.folder(st.st_ino, path.relative_to(root), st.st_mode & 0o7777)
            elif path.is_file() and path.name != "db-shm":
                self.files[st.st_ino] = self.live[where] = File(path.read_bytes(), st.st_mode & 0o7777)
        self.names = dict(self.live)

    def folder(self, inode, path, mode):
        self.dirs[inode], self.files[inode] = str(path), Folder(mode=mode)
        return self.files[inode]

    def role(self, inode):
        if inode in self.dirs:
            return os.path.basename(self.dirs[inode])
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
        elif kind == "F" and inode in self.dirs:
            where = self.dirs[inode]
            self.change((where, name, self.folder(other, os.path.normpath(f"{where}/{name}"), number)))
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
            if inode in self.files:
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
    """What the bench knows of its home is, while a log is played back, what had been acknowledged by then."""

    def __init__(self, bench, where, without):
        self.bench, self.where, self.without = bench, where, without
        self.states = self.violations = self.resumed = self.rotten = 0

    def record(self, rng, n_ops):
        """A disk with a home or none, and the log of what was done to it."""
        b, log = self.bench, self.where / "log"
        root = b.home.parent.parent
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        b.models, b.key, b.damaged = {}, None, {}
        before, ops = [], [b.random_op(rng) for _ in range(n_ops)]
        fresh = rng.random() < 0.2
        if not fresh:
            before = [b.random_op(rng) for _ in range(rng.randrange(4))]
            if not b.given and rng.random() < 0.5:
                before, ops = self.with_damage(rng, before, ops)
            self.work(before, None)
        disk, out = Disk(root, self.without), []
        if fresh and rng.random() < 0.5:
            at = rng.randrange(1, 20)
            subprocess.run([b.worker, b.home, "do", str(at), "open"], env=os.environ | {"HEARTH_TEST_RECORD": str(log)})
            out += records(log)
        state = dict(b.models), b.key, dict(b.damaged), b.mended
        self.work(ops, log)
        b.models, b.key, b.damaged, b.mended = state
        return disk, out + list(records(log)), ops

    def with_damage(self, rng, before, ops):
        """A file that is damaged, and then found to be, or mended."""
        name, b = rng.choice(NAMES), self.bench
        came = rng.choice([["import", name, "copy", b.files[3]], b.pull(name, rng.choice(list(b.registry.models)))])
        story = [came, ["damage", name], rng.choice([["verify", name], ["repair", name], came])]
        n = rng.randrange(1, 3)
        return before + story[:n], story[n:] + ops[:2]

    def work(self, ops, log):
        b, env = self.bench, dict(os.environ)
        if log:
            env["HEARTH_TEST_RECORD"] = str(log)
        lines = "".join(" ".join(op) + "\n" for op in ops)
        r = subprocess.run([b.worker, b.home, "loop"], input=lines, capture_output=True, text=True, env=env, check=True)
        b.heard(r.stdout.splitlines(), ops)

    def play(self, rng, n_ops, each):
        disk, log, ops = self.record(rng, n_ops)
        done, pending, b = 0, None, self.bench
        for record in log:
            if record[0] == "A":
                line = record[6].decode()
                if line.startswith("> ") and line != "> open":
                    pending = ops[done]
                b.hear(line)
                if line.startswith("<"):
                    b.answered(ops[done], line[2:])
                    done, pending = done + 1, None
                continue
            disk.take(record)
            for how in rng.sample(["none", "all", "ordered", "random", "random"], each):
                self.judge(disk.left(rng, how), pending, f"{how} after {record[:1] + record[3:6]}", rng.random() < 0.5)

    def make(self, root, left):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for (where, name), what in sorted(left.items(), key=lambda x: x[0]):
            path = root / where / name
            if not path.parent.is_dir():
                continue  # went with its directory
            if isinstance(what, str):  # a link, which holds for no other home than the first
                os.symlink(what, path)
            elif what[0] is None:
                path.mkdir()
                path.chmod(what[1])
            else:
                path.write_bytes(what[0])
                path.chmod(what[1])

    def judge(self, left, pending, what, go_on):
        b = self.bench
        home = self.where / "left" / b.home.parent.name / b.home.name
        self.make(self.where / "left", left)
        self.states += 1
        self.rotten += any(known is not None for known in b.damaged.values())
        possible = [b.models] + ([b.apply(b.models, pending)] if pending else [])
        faults = self.look(home, possible, pending, True)
        r = subprocess.run([b.worker, home, "list"], capture_output=True, text=True)
        if r.returncode:
            faults.append(f"I8 it does not open: {r.stderr.strip()}")
        else:
            for f in os.listdir(home / "tmp"):
                if "-of-" in f:
                    os.unlink(home / "tmp" / f)
            faults += self.look(home, possible, pending, False)
            if b.key and f"key {b.key}" not in r.stdout.splitlines():
                faults.append(f"the key is no longer {b.key}")
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
        faults = self.bench.faults_of(s, op)
        if s.models().get(canonical("resumed")) != registry.models[what]:
            faults.append(f"the pull that went on gave {s.models()}")
        s.close()
        return faults

    def look(self, home, possible, pending, unopened):
        try:
            s = Store(home, unopened)
        except Exception as e:
            return [f"I7 {e}"]
        try:
            faults = self.bench.faults_of(s, pending)
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
        bench.ops, bench.given = args.op or bench.ops, args.op
        bench.home = where / "root" / "above" / "home"
        p = Player(bench, where, set(args.without))
        rng = random.Random(args.seed)
        while p.states < args.states and not (args.must_fail and p.violations):
            p.play(rng, rng.randrange(1, 5), 2)
    p.violations += bench.violations
    print(f"{p.states} states, {p.rotten} with a damaged blob, {bench.mended} mended, {p.resumed} pulls gone on with, "
          f"{p.violations} violations (seed {args.seed}"
          f"{', without syncs of ' + ', '.join(args.without) if args.without else ''})")
    return 0 if bool(p.violations) == args.must_fail and p.states else 1


if __name__ == "__main__":
    sys.exit(main())
