#!/usr/bin/env python3
"""Checks a closed store against the invariants I1..I9, with nothing of the store's own code.

  check_store.py HOME              a line for every violation; exit status 1 when there is one
  check_store.py HOME --unopened   as a kill left it: before the store was opened again

I1..I3 (what is listed) need to know what was done: kill_test.py compares models(). The rest:
I4 what a listed model is made of hashes to its name; the manifest is Ollama's, and agrees
I5 nothing but blobs/ tmp/ kv/ keys/ db* and the socket is there, and no file in blobs/ is nobody's
I6 tmp/ is empty but for what a download left that can be resumed     I7 the catalog is sound      I9 nothing is more open than it may be
"""
import hashlib
import json
import os
import pathlib
import re
import shutil
import sqlite3
import stat
import sys
import tempfile

KNOWN = {"blobs", "tmp", "kv", "keys", "hearth.sock", "db", "db-journal", "db-wal", "db-shm",
         "db.lock", "db.reserve"}
RESUMABLE = re.compile("dl-[0-9a-f]{64}[.](part|journal)")
TEXT_MAX = 4 << 20
MODES = {"tmp": 0o700, "kv": 0o700, "keys": 0o700}


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    return h.digest()


def file_bytes(file):
    """Of a row of a model's `files`. The names that shards are loaded by lie in tmp/ and go with the process."""
    path = pathlib.Path(file["path"])
    if path.parent.name == "tmp":
        path = path.parent.parent / "blobs" / file["digest"].replace(":", "-")
    return path.read_bytes()


class Store:
    def __init__(self, home, unopened=False):
        self.home = pathlib.Path(home)
        self.unopened = unopened
        self.faults = []
        self.hashes = {}
        # a copy, so that reading it recovers nothing in the original
        self.copy = tempfile.TemporaryDirectory()
        for name in ("db", "db-journal", "db-wal"):
            if (self.home / name).exists():
                shutil.copy(self.home / name, pathlib.Path(self.copy.name) / name)
        self.db = sqlite3.connect(pathlib.Path(self.copy.name) / "db")

    def close(self):
        self.db.close()
        self.copy.cleanup()

    def say(self, text):
        self.faults.append(text)

    def rows(self, sql, *args):
        return self.db.execute(sql, args).fetchall()

    def fresh(self):
        return not self.rows("SELECT 1 FROM sqlite_master LIMIT 1")

    def models(self):
        """{host/namespace/model:tag: hex digests of its layers}"""
        if self.fresh():
            return {}
        return {f"{h}/{n}/{m}:{t}": tuple(d.hex() for (d,) in self.rows(
                    "SELECT digest FROM layers WHERE model_id = ? AND position > 0 ORDER BY position", i))
                for h, n, m, t, i in self.rows("SELECT host, namespace, model, tag, model_id FROM tags")}

    def file_hash(self, path):
        st = os.stat(path)
        key = (path, st.st_ino, st.st_mtime_ns, st.st_size)
        if key not in self.hashes:
            self.hashes[key] = sha256(path)
        return self.hashes[key]

    def check_blob(self, name, digest, size):
        row = self.rows("SELECT size, body FROM blobs WHERE digest = ?", digest)
        if not row:
            return self.say(f"I4 {name}: blob {digest.hex()} has no row")
        if row[0][0] != size:
            self.say(f"I4 {name}: blob {digest.hex()} has size {row[0][0]}, its manifest says {size}")
        if row[0][1] is not None and len(row[0][1]) > TEXT_MAX:
            self.say(f"I4 {name}: the text {digest.hex()} is too long for a catalog")
        if row[0][1] is not None:
            if hashlib.sha256(row[0][1]).digest() != digest:
                self.say(f"I4 {name}: the body of {digest.hex()} is another")
            return
        places = self.rows("SELECT path FROM files WHERE digest = ?", digest)
        if not places:
            self.say(f"I4 {name}: blob {digest.hex()} is nowhere")
        for (path,) in places:
            real = os.fsdecode(path) if path else self.home / "blobs" / f"sha256-{digest.hex()}"
            try:
                if self.file_hash(str(real)) != digest:
                    self.say(f"I4 {name}: {real} does not hash to its name")
            except OSError as e:
                self.say(f"I4 {name}: {real}: {e.strerror}")

    def check_models(self):
        for mid, digest, manifest, size in self.rows("SELECT id, digest, manifest, size FROM models"):
            name = digest.hex()[:12]
            if hashlib.sha256(manifest).digest() != digest:
                self.say(f"I4 {name}: the manifest is another")
            m = json.loads(manifest)
            parts = [m["config"]] + m["layers"]
            rows = self.rows("SELECT digest, media_type FROM layers WHERE model_id = ? ORDER BY position", mid)
            if [(p["digest"], p["mediaType"]) for p in parts] != [("sha256:" + d.hex(), t) for d, t in rows]:
                self.say(f"I4 {name}: layers and manifest differ")
            if sum(p["size"] for p in m["layers"]) != size:
                self.say(f"I4 {name}: size {size} is not that of its layers")
            for p in parts:
                self.check_blob(name, bytes.fromhex(p["digest"].removeprefix("sha256:")), p["size"])
        if self.rows("SELECT 1 FROM models WHERE id NOT IN (SELECT model_id FROM tags)"):
            self.say("I3 a model has no name")

    def check_files(self):
        named = {d.hex() for (d,) in self.rows("SELECT digest FROM files WHERE path = x''")}
        trash = {d.hex() for (d,) in self.rows("SELECT digest FROM trash")}
        if self.unopened:
            named |= trash
        elif trash:
            self.say("I6 the trash was not emptied")
        layers = {d.hex() for (d,) in self.rows("SELECT digest FROM layers")}
        blobs = {d.hex() for (d,) in self.rows("SELECT digest FROM blobs")}
        self.check_chunks()
        if blobs - layers and not self.unopened:  # a lease ends with its process
            self.say(f"I3 blobs that no model names: {sorted(blobs - layers)}")
        there = set(os.listdir(self.home / "blobs"))
        if there - {"sha256-" + h for h in named}:
            self.say(f"I5 files in blobs/ that nothing names: {sorted(there)}")

    def check_chunks(self):
        if self.rows("PRAGMA user_version")[0][0] < 2:
            return
        for digest, hashes in self.rows("SELECT digest, hashes FROM chunks"):
            path = self.home / "blobs" / f"sha256-{digest.hex()}"
            if not path.exists() or self.file_hash(str(path)) != digest:
                continue  # by reference, or damaged and said to be so
            with open(path, "rb") as f:
                parts = [hashlib.sha256(p).digest() for p in iter(lambda: f.read(1 << 20), b"")]
            if b"".join(parts) != hashes:
                self.say(f"I4 the hashes of the parts of {digest.hex()} are others")

    def check_home(self):
        for entry in os.listdir(self.home):
            if entry not in KNOWN:
                self.say(f"I5 '{entry}' is in the home")
        left = [n for n in os.listdir(self.home / "tmp") if not RESUMABLE.fullmatch(n)]
        if not self.unopened and left:
            self.say(f"I6 tmp/ holds {left}")
        for path in [self.home, *self.home.rglob("*")]:
            st = path.lstat()
            if stat.S_ISLNK(st.st_mode):
                continue
            secret = path.parent.name in ("keys", "kv")
            most = MODES.get(path.name, 0o750) if path.is_dir() else 0o600 if secret else 0o640
            if stat.S_IMODE(st.st_mode) & ~most:
                self.say(f"I9 {path} has mode {stat.S_IMODE(st.st_mode):o}")

    def check(self):
        if [r[0] for r in self.rows("PRAGMA integrity_check")] != ["ok"]:
            self.say("I7 integrity_check")
        if self.rows("PRAGMA foreign_key_check"):
            self.say("I7 foreign_key_check")
        if not self.fresh():
            self.check_models()
            if (self.home / "blobs").is_dir():
                self.check_files()
        if (self.home / "tmp").is_dir():
            self.check_home()
        return self.faults


def main():
    s = Store(sys.argv[1], "--unopened" in sys.argv[2:])
    faults = s.check()
    for f in faults:
        print(f)
    s.close()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
