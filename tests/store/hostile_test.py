#!/usr/bin/env python3
"""Registries, token servers, hubs, mirrors and URLs that lie: each a row of what they do, and of the sentence it earns.

  hostile_test.py MOVER [--show] [--jobs N] [PART OF A NAME...]     MOVER: tests/store/mover.c

In a network and with mounts of its own, so that an address counts as public (exit 77 where that is not allowed).
After every row: no credential at a server it is not for, and none kept or told; at most 64 MiB; within its time;
the store sound, nothing written beside it; and an honest pull goes well. The rows are in hostile_rows.py.
"""
import argparse
import base64
import json
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import check_store
import hub_stub
import net
from hostile_rows import BIG, HF_TOKEN, LICENSE, MODEL, PASSWORD, REPO, SHARDED, TOKEN, USER, rows
from net import OTHER, PUBLIC, Hostile
from net.registry import OLLAMA, digest, make_manifest

SECRETS = {"password": PASSWORD, "login": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(), "token": TOKEN,
           "hub's token": HF_TOKEN}
MOST_KIB = 64 << 10
ADDRESSES = ("127.0.0.1", "10.1.2.3", "172.16.5.5", "192.168.7.7", "169.254.169.254", "100.64.0.9")
NAMES = {"inside.example": "127.0.0.1", "cloud.example": "169.254.169.254", "public.example": PUBLIC}


class Place:
    """A registry, its token server, a mirror and a place for files in one. What `lie` answers is not answered
    honestly; None: it has nothing to say to that. may: the secrets that it may be told."""

    def __init__(self, world, host=PUBLIC, tls=True, may=("login", "token"), lie=None, certificate=None, wire=None,
                 version=None, port=0):
        self.world, self.lie, self.may, self.files, self.uploads = world, lie, may, {}, 0
        self.challenge, self.asked, self.lock = None, 0, threading.Lock()
        pair = certificate or (world.certificates["all"] if tls else None)
        self.server = Hostile(self.serve, host=host, certificate=pair, on_connect=wire, tls=version, port=port)
        self.url, self.port = self.server.url, self.server.port
        self.name = f"{host}:{self.port}"

    def add(self, model, texts=((LICENSE, OLLAMA + "license"),)):
        layers = [(model, OLLAMA + "model", None), *[(t, kind, None) for t, kind in texts]]
        self.files["/v2/t/m/manifests/1"] = manifest = make_manifest(layers)
        self.files["/v2/t/m/manifests/" + digest(manifest)] = manifest
        for data, *_ in [*layers, (b"{}",)]:
            self.files[f"/v2/t/m/blobs/{digest(data)}"] = data
        self.files["/m.gguf"] = model

    def count(self):
        """How often this was called."""
        with self.lock:
            self.asked += 1
            return self.asked

    def data(self, q):
        return self.files.get(q.path.split("?")[0])

    def serve(self, c, q):
        answer = self.lie(self, c, q) if self.lie else None
        return self.honest(c, q) if answer is None else answer

    def honest(self, c, q):
        path, n = q.path.split("?")[0], int(q.headers.get("content-length", 0))
        if path == "/token":
            return c.reply(200, json.dumps({"token": TOKEN}).encode())
        if self.challenge and q.headers.get("authorization") != f"Bearer {TOKEN}":
            c.read(n)
            return c.reply(401, b"" if q.method == "HEAD" else b"{}", www_authenticate=self.challenge)
        if q.method in ("GET", "HEAD"):
            return self.give(c, q, path)
        sent = c.read(n)
        if q.method == "PUT" and "/blobs/" in path:
            self.files[path] = sent
        if q.method == "PUT":
            return c.reply(201)
        return c.reply(202, location="/v2/t/m/blobs/uploads/1", range=f"0-{max(n - 1, 0)}")

    def give(self, c, q, path):
        data = self.files.get(path)
        if data is None:
            return c.reply(404)
        if q.method == "HEAD":
            c.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n")
            return True
        if "range" not in q.headers:
            return c.reply(200, data)
        first, last = q.range()
        last = min(last, len(data) - 1)
        if first > last:
            return c.reply(416, content_range=f"bytes */{len(data)}")
        return c.reply(206, data[first:last + 1], content_range=f"bytes {first}-{last}/{len(data)}")


class World:
    """One row's: its folder, its servers, and the store that asks them."""

    def __init__(self, row, folder, shared):
        self.row, self.certificates, self.ca, self.mover = row, shared["certificates"], shared["ca"], shared["mover"]
        self.above = pathlib.Path(folder) / "above"
        self.home, self.faults, self.places, self.hub, self.lock = self.above / "home", [], {}, None, threading.Lock()
        for name in ("home", "user", "etc"):
            (self.above / name).mkdir(parents=True, mode=0o700)
        (self.above / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
        self.model = BIG if row.big else MODEL
        self.told = b""
        if row.room:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={row.room},mode=700", "tmpfs", self.home], check=True)

    def fault(self, text):
        self.faults.append(text)

    def place(self, name, **how):
        """The server of this name, started when it is asked for first."""
        with self.lock:
            if name not in self.places:
                self.places[name] = Place(self, **how)
                self.places[name].add(self.model)
            return self.places[name]

    def trap(self, host, **how):
        """One that nobody may connect to."""
        return self.place(f"trap {host} {how}", host=host, may=(), **how)

    def other(self, lie=None, port=0):
        """Another origin, which may be asked, but told nothing."""
        return self.place("other", host=OTHER, may=(), lie=lie, port=port)

    def start_hub(self):
        files = {"tiny-Q8_0.gguf": self.model, "LICENSE": LICENSE, "README.md": b"# Tiny\n"}
        shards = {f"s-Q8_0-0000{i}-of-00002.gguf": MODEL[:-i] for i in (1, 2)}
        repos = [hub_stub.Repo(REPO, files), hub_stub.Repo(SHARDED, shards)]
        self.hub = hub_stub.Hub(self.certificates["all"], repos, {HF_TOKEN: [REPO, SHARDED]}, host=PUBLIC)

    def words(self, *words):
        login = ("--user", USER, "--password", PASSWORD, "--hf-token", HF_TOKEN)
        hub = ("--hf-endpoint", self.hub.url) if self.hub else ()
        return [self.mover, self.home, *words, "--ca", self.ca, "--stall", 1, "--give-up", self.row.give_up, *login, *hub]

    def start(self, *words, more=()):
        env = {"HOME": str(self.above / "user"), "PATH": os.environ["PATH"], "TMPDIR": str(self.above / "user")}
        return subprocess.Popen([str(w) for w in self.words(*words, *more)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                cwd=self.above, env=env)

    def finish(self, process, seconds):
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.fault(f"was not done after {seconds} seconds")
        self.told += out + err
        lines = [line for line in err.decode(errors="replace").splitlines() if line and not line.startswith("ts=")]
        peak = int((re.findall(rb"peak_kib=(\d+)", err) or [b"-1"])[-1])
        if b"not given back" in err or b"Sanitizer" in err or process.returncode < 0:
            self.fault(f"exit status {process.returncode}: {err.decode(errors='replace')[-2000:]}")
        return (lines[-1] if lines else "ok: "), peak, out

    def stop(self):
        for p in self.places.values():
            p.server.stop()
        if self.hub:
            self.hub.stop()
        if self.row.room:
            subprocess.run(["umount", "-l", self.home], check=False)


def seen_beside(world):
    """All that is in the folder above the home, without the home."""
    seen = {}
    for folder, names, files in os.walk(world.above):
        if pathlib.Path(folder) == world.above:
            names.remove("home")
        for name in [*names, *files]:
            path = pathlib.Path(folder) / name
            st = path.lstat()
            seen[str(path)] = (st.st_mode, st.st_size, path.read_bytes() if path.is_file() else b"")
    return seen


# ---- a row is run ----------------------------------------------------------------------------------------------

def run_pull(world, place):
    row = world.row
    name = row.source(world, place) if row.source else f"{place.url.removeprefix('https://')}/t/m:1"
    return world.start("pull", name, "mine:1", more=row.more(world) if row.more else ())


def run_push(world, place):
    (world.above / "m.gguf").write_bytes(world.model)
    line, _, _ = world.finish(world.start("import", "mine", world.above / "m.gguf"), 20)
    (world.above / "m.gguf").unlink()
    if not line.startswith("ok"):
        world.fault(f"import: {line}")
    for path in list(place.files):
        if "/blobs/" in path:
            del place.files[path]
    return world.start("push", "mine", f"{place.url.removeprefix('https://')}/t/m:1")


def run_resume(world, place):
    """A pull that is killed when a third of the bytes have been sent: then the place begins to lie."""
    sent, lie = [0], place.lie

    def slow(p, c, q):
        if "/blobs/" not in q.path or "range" not in q.headers or len(p.data(q)) < 1000:
            return None
        first, last = q.range()
        data = p.data(q)
        last = min(last, len(data) - 1)
        c.send(f"HTTP/1.1 206 x\r\nContent-Length: {last + 1 - first}\r\nETag: \"one\"\r\n"
               f"Content-Range: bytes {first}-{last}/{len(data)}\r\n\r\n")
        c.send(data[first:first + (2 << 20)])
        sent[0] += min(2 << 20, last + 1 - first)
        p.server.stopping.wait(20)
        return False
    place.lie = slow
    process = run_pull(world, place)
    end = time.monotonic() + 10
    while sent[0] < len(world.model) // 3 and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if not [p for p in (world.home / "tmp").iterdir() if p.name.endswith(".part")]:
        world.fault("nothing was left to go on with")
    place.lie = lie
    return run_pull(world, place)


COMMANDS = {"pull": run_pull, "push": run_push, "resume": run_resume}


def check_result(world, line, peak, took, out):
    row = world.row
    code, _, sentence = line.partition(": ")
    if code != row.code or row.says not in sentence:
        world.fault(f"'{line}' is not '{row.code}: ...{row.says}...'")
    if code != "ok" and (len(sentence) < 20 or not sentence.isprintable() or len(sentence) > 900):
        world.fault(f"'{line}' is no sentence")
    if peak < 0 or (peak > MOST_KIB and not world.row.sanitized):
        world.fault(f"{peak} KiB of memory")
    if took > row.seconds:
        world.fault(f"took {took:.1f} seconds, more than {row.seconds}")
    if code == "ok" and row.command != "push":
        check_bytes(world, out)


def check_bytes(world, out):
    models = [json.loads(line) for line in out.splitlines() if line.startswith(b'{"name"')]
    files = [f for m in models for f in m["files"] if f["kind"] == "model"]
    if not files or pathlib.Path(files[0]["path"]).read_bytes() != world.model:
        world.fault("what came is not the model")


def check_secrets(world):
    asked = [(name, p.may, f"{q.method} {q.path} {q.headers}") for name, p in world.places.items() for q in p.server.requests]
    if world.hub:
        asked += [(place, ("hub's token",) if place == "api" else (), told) for place, told in world.hub.heads]
    for name, may, text in asked:
        for what, secret in SECRETS.items():
            if what not in may and secret in text:
                world.fault(f"the {what} got to '{name}': {text}")
    for what, secret in SECRETS.items():
        if secret.encode() in world.told:
            world.fault(f"the {what} was told: {world.told.decode(errors='replace')}")
        for path in world.above.rglob("*"):
            if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
                world.fault(f"the {what} is kept in {path.name}")
    for name, p in world.places.items():
        if name.startswith("trap") and p.server.connections:
            world.fault(f"{name} was connected to: {[q.path for q in p.server.requests]}")


def check_sound(world, unopened):
    store = check_store.Store(world.home, unopened)
    for fault in store.check():
        world.fault(fault)
    store.close()


def check_honest(world):
    """The same bytes, from a place that does not lie."""
    place = world.place("honest", may=())
    line, _, out = world.finish(world.start("pull", f"{place.name}/t/m:1", "after:1"), 30)
    if not line.startswith("ok"):
        world.fault(f"an honest pull afterwards: {line}")
    else:
        check_bytes(world, out)


def run_row(row, folder, shared):
    world = World(row, folder, shared)
    try:
        if row.hub:
            world.start_hub()
            row.hub(world, world.hub)
        place = world.place("registry", **(row.how(world) if row.how else {}))
        place.lie = row.lie
        place.challenge = row.challenge(world, place) if row.challenge else None
        before = seen_beside(world)
        process = COMMANDS[row.command](world, place)
        began = time.monotonic()
        line, peak, out = world.finish(process, row.seconds + 10)
        took = time.monotonic() - began
        check_result(world, line, peak, took, out)
        if row.after:
            row.after(world, place)
        check_sound(world, True)
        if not row.room:
            check_honest(world)
            check_sound(world, False)
        check_secrets(world)
        if seen_beside(world) != before:
            world.fault(f"beside the store: {set(seen_beside(world).items()) ^ set(before.items())}")
    finally:
        world.stop()
    return line, peak, took, world.faults


# ---- all of them ------------------------------------------------------------------------------------------------

def work(job):
    i, shared = job
    row = shared["rows"][i]
    with tempfile.TemporaryDirectory(prefix="hearth-hostile-") as folder:
        try:
            return (i, *run_row(row, folder, shared))
        except Exception:
            return i, "", 0, 0, [traceback.format_exc()]


def in_haste(row, line, took, faults):
    """It may be the machine that was slow."""
    slow = took > row.seconds * 0.7 or any("was not done" in f for f in faults)
    return slow or (line.startswith("timeout") and row.code != "timeout") or "SSL connection timeout" in line


SHARED = {}


def work_on(i):
    return work((i, SHARED))


def results(n, jobs):
    """Those that failed for want of time once more, one by one: a busy machine is no fault."""
    again = []
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=20) as pool:
        for r in pool.imap_unordered(work_on, range(n), chunksize=1):
            if r[4] and in_haste(SHARED["rows"][r[0]], r[1], r[3], r[4]):
                again.append(r[0])
            else:
                yield r
    for i in again:
        yield work_on(i)


def prepare(folder):
    """Names and addresses of this network, and what speaks for them."""
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in NAMES.items()))
    if subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], capture_output=True).returncode:
        net.skip("no names of our own here: mount --bind")
    for address in ADDRESSES:
        subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], capture_output=True)
    ca, stranger = net.Ca(folder / "ca"), net.Ca(folder / "stranger")
    ips = [PUBLIC, OTHER, *ADDRESSES]
    return {"ca": str(ca.file), "certificates": {
        "all": ca.issue("all", dns=["localhost", *NAMES], ips=ips), "elsewhere": ca.issue("elsewhere", dns=["elsewhere.example"]),
        "expired": ca.issue("expired", ips=ips, expired=True), "stranger": stranger.issue("stranger", ips=ips)}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mover")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--jobs", type=int, default=4)
    args = parser.parse_args()
    net.own_network()
    net.need("openssl", "mount", "umount")
    wanted = [r for r in rows() if not args.names or any(n in r.name for n in args.names)]
    sanitized = b"__asan_init" in pathlib.Path(args.mover).read_bytes() or b"__tsan_init" in pathlib.Path(args.mover).read_bytes()
    for row in wanted:
        row.sanitized = sanitized
    wanted.sort(key=lambda r: -r.seconds)
    faults, slowest, most = 0, (0, ""), 0
    with tempfile.TemporaryDirectory(prefix="hearth-hostile-") as folder:
        SHARED.update(prepare(pathlib.Path(folder)), rows=wanted, mover=os.path.abspath(args.mover))
        for i, line, peak, took, found in results(len(wanted), args.jobs):
            faults += len(found)
            slowest, most = max(slowest, (took, wanted[i].name)), max(most, peak)
            if args.show:
                print(f"{took:5.1f} s {peak:6} KiB  {wanted[i].name}: {line}", flush=True)
            for f in found:
                print(f"FAULT {wanted[i].name}: {f}", flush=True)
        subprocess.run(["umount", "-l", "/etc/hosts"], capture_output=True)
    print(f"slowest: {slowest[1]}, {slowest[0]:.1f} s; at most {most} KiB of memory")
    print(f"{len(wanted)} cases, {faults} faults")
    return 1 if faults or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
