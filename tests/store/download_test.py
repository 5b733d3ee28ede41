#!/usr/bin/env python3
"""Downloads from a real nginx over TLS: with and without ranges, redirected, slow, killed with SIGKILL at
random moments and resumed (bytes counted from nginx's log: at most 1 MiB twice), changed on the way, on
a disk that is full. In a network and mount namespace of its own (exit 77 where that is not allowed).

  download_test.py FETCH [KILLS]
"""
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import net
from net import OTHER, PUBLIC

FAULTS = []
MIB = 1 << 20
SIZE = 24 * MIB + 321


def truth(what, good, *more):
    if not good:
        FAULTS.append(" ".join(map(str, (what, *more))))


class World:
    def __init__(self, program, where):
        self.program, self.where, self.home = program, where, where / "home"
        self.www = where / "www"
        self.www.mkdir()
        self.port, self.second = net.free_port(PUBLIC), net.free_port(OTHER)
        self.base = f"https://{PUBLIC}:{self.port}"
        self.ca = net.Ca(where / "ca")
        tls = self.ca.issue("all", ips=[PUBLIC, OTHER])

        def server(at, more):
            return (f"server {{ listen {at} ssl sndbuf=64k; ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};"
                    f" root {self.www}; {more} }}\n")
        conf = server(f"{PUBLIC}:{self.port}", f"""
            location /whole/ {{ max_ranges 0; alias {self.www}/; }}
            location /uneven/ {{ limit_rate $pace; alias {self.www}/; }}
            location /slow/ {{ limit_rate 2m; alias {self.www}/; }}
            location /unmarked/ {{ limit_rate 2m; etag off; add_header Last-Modified ""; alias {self.www}/; }}
            location /moved/ {{ rewrite ^/moved/(.*) https://{OTHER}:{self.second}/$1?signed=1 redirect; }}""")
        conf += 'map $http_range $pace { default 0; "~^bytes=0-" 512k; }\n'  # the first stretch's connection is slow
        self.nginx = net.Nginx(where / "nginx", conf + server(f"{OTHER}:{self.second}", ""),
                               [(PUBLIC, self.port), (OTHER, self.second)])

    def file(self, name, data):
        (self.www / f"{name}.new").write_bytes(data)
        os.rename(self.www / f"{name}.new", self.www / name)
        return hashlib.sha256(data).hexdigest()

    def start(self, path, *options):
        words = [self.program, "blob", self.base + path, "--ca", self.ca.file, "--home", self.home, "--keep", *options]
        return subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __call__(self, path, *options):
        process = self.start(path, *options)
        out, self.told = process.communicate(timeout=120)
        if process.returncode:
            raise RuntimeError(f"{path} {options}: {process.returncode} {self.told}")
        return [json.loads(line) for line in out.splitlines()]

    def begun(self, process):
        """Waits until a first piece is written down."""
        end = time.monotonic() + 20
        while time.monotonic() < end and process.poll() is None:
            if any(j.stat().st_size > 1024 for j in (self.home / "tmp").glob("dl-*.journal")):
                return
            time.sleep(0.005)

    def fresh(self):
        shutil.rmtree(self.home, ignore_errors=True)
        self.nginx.asked.write_text("")

    def served(self):
        """Bytes that nginx sent, when all its requests have ended."""
        before, end = None, time.monotonic() + 5
        while time.monotonic() < end and before != (before := len(self.nginx.log())) or not before:
            time.sleep(0.15)
        return sum(row[4] for row in self.nginx.log() if row[3] in (200, 206))

    def check(self, what, got, data):
        truth(what, got["code"] == "ok", got["error"])
        if got["code"] != "ok":
            return
        part = self.home / "tmp" / got["part"]
        if not got["part"].startswith("part-"):  # a second name that a sharer got goes with it
            truth(f"{what}: other bytes", part.read_bytes() == data)
        truth(f"{what}: digest", got["digest"] == hashlib.sha256(data).hexdigest())
        chunks = [hashlib.sha256(data[i:i + MIB]).hexdigest() for i in range(0, len(data), MIB)]
        truth(f"{what}: chunks", got["chunks"] == chunks)


def ways(w, data, digest):
    for path in ("/blob", "/whole/blob", "/moved/blob"):
        for options in ([], ["--digest", digest], ["--digest", digest, "--size", SIZE]):
            w.fresh()
            w.check(f"{path} {len(options)}", w(path, *options)[0], data)
    moved = [row for row in w.nginx.log() if row[0] == w.second]
    truth("the redirect is not asked each time", len(w.nginx.log()) - len(moved) <= 2, w.nginx.log())
    for n in (0, 1, 5 * MIB):
        for path in ("/small", "/whole/small"):
            w.fresh()
            small = data[:n]
            w.file("small", small)
            w.check(f"{path} of {n}", w(path)[0], small)
            w.check(f"{path} of {n}, promised", w(path, "--digest", hashlib.sha256(small).hexdigest(), "--size", n)[0], small)
    w.fresh()
    got = w("/slow/blob", "--digest", digest, "--size", SIZE, "--threads", 3)
    for one in got:
        w.check("shared", one, data)
    truth("shared: served", w.served() <= SIZE + MIB, w.served())
    w.fresh()
    got = w("/slow/blob", "--digest", digest, "--cancel-ms", 300)[0]
    truth("cancel", got["code"] == "cancelled" and got["ms"] < 1300, got)
    w.check("after a cancel", w("/blob", "--digest", digest)[0], data)
    truth("after a cancel: waste", w.served() <= SIZE + MIB, w.served() - SIZE)


def slow_connection(w, data, digest):
    """4 MiB at 512 KiB a second would take 8 seconds: the idle connections help."""
    for options in (["--digest", digest, "--size", SIZE], []):
        w.fresh()
        got = w("/uneven/blob", *options)[0]
        w.check("uneven", got, data)
        truth("uneven: in time", got["ms"] < 5000, got["ms"])
        truth("uneven: waste", w.served() <= SIZE + MIB, w.served() - SIZE)
        truth("uneven: helped", len(w.nginx.log()) > 8, w.nginx.log())
        truth("uneven: help is no interruption", "interrupted" not in w.told, w.told)
    w.fresh()
    got = w("/uneven/blob", "--digest", digest, "--connections", 1, "--give-up", 30)[0]
    w.check("uneven, alone", got, data)


def kills(w, data, digest, rounds, rng):
    worst, resumed = 0, 0
    for i in range(rounds):
        w.fresh()
        options = ["--digest", digest, "--size", SIZE] if i % 3 else []
        process = w.start("/slow/blob", *options)
        w.begun(process)
        time.sleep(rng.uniform(0, 1.2))
        unread = net.kill_between(process, w.port)
        process.communicate()
        got = w("/slow/blob", *options)[0]
        w.check(f"kill {i}", got, data)
        waste = w.served() - SIZE - unread
        worst, resumed = max(worst, waste), resumed + (got["resumed"] > 0)
        truth(f"kill {i}: bytes twice", waste <= MIB, waste)
    truth("no kill left anything", resumed > rounds / 2, resumed)
    return worst


def changes(w, data, rng):
    other = rng.randbytes(SIZE - 5)
    for how, options in (("url", []), ("digest", ["--digest", hashlib.sha256(other).hexdigest()])):
        w.fresh()
        w.file("blob2", data)
        truth("cancelled", w("/slow/blob2", *options, "--cancel-ms", 400)[0]["code"] == "cancelled")
        w.file("blob2", other)
        got = w("/blob2", *options)[0]
        w.check(f"changed after a resume, by {how}", got, other)
    w.fresh()  # of the same size, and without an ETag nothing tells one from the other
    w.file("blob2", data)
    process = w.start("/unmarked/blob2")
    w.begun(process)
    process.kill()
    process.communicate()
    other2 = rng.randbytes(SIZE)
    w.file("blob2", other2)
    got = w("/unmarked/blob2")[0]
    w.check("resumed without an ETag", got, other2)
    truth("resumed without an ETag: what was there counts", got["code"] != "ok" or got["resumed"] == 0, got)
    w.fresh()
    w.file("blob2", data)
    process = w.start("/slow/blob2")
    w.begun(process)
    w.file("blob2", other)
    out, err = process.communicate(timeout=60)
    truth("changed on the way: not told", "begins anew" in err or json.loads(out)["size"] == SIZE, err)
    if json.loads(out)["size"] != SIZE:
        w.check("changed on the way", json.loads(out), other)


def full_disk(w, data, digest):
    w.fresh()
    w.home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", w.home], capture_output=True).returncode:
        print("no tmpfs of our own: the full disk is left out")
        return
    try:
        big = data + data
        w.file("big", big)
        got = w("/big", "--size", len(big), "--digest", hashlib.sha256(big).hexdigest())[0]
        truth("too large for the disk", got["code"] == "io" and "too full" in got["error"] and str(len(big)) in got["error"], got)
        truth("too large for the disk: asked for", w.served_now() == 0)
        filler = w.home / "filler"
        filler.write_bytes(b"x" * (10 * MIB))
        for path in ("/blob", "/whole/blob"):
            got = w(path, "--digest", digest)[0]
            truth(f"full: {path}", got["code"] == "io" and ("full" in got["error"] or "space" in got["error"]), got)
        filler.unlink()
        w.check("after the disk was full", w("/blob", "--digest", digest)[0], data)
    finally:
        subprocess.run(["umount", w.home], check=True)


def main():
    net.own_network()
    net.need("nginx", "openssl", "mount")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    rng = random.Random(11)
    data = rng.randbytes(SIZE)
    with tempfile.TemporaryDirectory() as folder:
        w = World(os.path.abspath(sys.argv[1]), pathlib.Path(folder))
        World.served_now = lambda self: sum(row[4] for row in self.nginx.log())
        with w.nginx:
            digest = w.file("blob", data)
            ways(w, data, digest)
            slow_connection(w, data, digest)
            worst = kills(w, data, digest, rounds, rng)
            changes(w, data, rng)
            full_disk(w, data, digest)
    for f in FAULTS:
        print("FAULT", f)
    print(f"{rounds} kills, at most {worst} bytes twice; {len(FAULTS)} faults")
    return 1 if FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
