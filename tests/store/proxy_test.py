#!/usr/bin/env python3
"""The usual proxy variables, with proxies of the test's own: CONNECT and SOCKS5, with a name and a password.

  proxy_test.py FETCH MOVER     fetch.c, mover.c

The origin's name is known to the proxies alone, so that what comes came through one. In a network of its own
(exit 77 where that is not allowed).
"""
import base64
import json
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading

import net
from net import Hostile
from net.registry import OLLAMA, digest, make_manifest

FAULTS = []
BODY = random.Random(9).randbytes(3 << 20)
MODEL = b"GGUF" + BODY
ORIGIN = "origin.example"  # nobody but a proxy knows where it is
USER, PASSWORD = "ann", "pw-Zq7secret"
LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, LOGIN)


def truth(what, good, told=""):
    if not good:
        FAULTS.append(f"{what} {told}")


# ---- proxies -------------------------------------------------------------------------------------

def pump(a, b, count):
    try:
        while data := a.recv(65536):
            b.sendall(data)
            count(len(data))
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Proxy:
    """targets: what was asked for; logins: what came with it; carried: bytes, both ways."""

    def __init__(self):
        self.targets, self.logins, self.carried, self.lock = [], [], 0, threading.Lock()

    def count(self, n):
        with self.lock:
            self.carried += n

    def connect(self, host, port):
        self.targets.append(host)
        return socket.create_connection(("127.0.0.1" if host == ORIGIN else host, port))

    def carry(self, client, origin):
        other = threading.Thread(target=pump, args=(origin, client, self.count), daemon=True)
        other.start()
        pump(client, origin, self.count)
        other.join()
        origin.close()

    def asked(self):
        return self.server.connections

    def stop(self):
        self.server.stop()


class Connect(Proxy):
    """HTTP CONNECT. Its own answer has a head that would be refused of an origin."""
    HEAD = b"HTTP/1.1 200 Done\r\nContent-Encoding: gzip\r\nETag: \"of the proxy\"\r\n\r\n"

    def __init__(self, answer=None):
        super().__init__()
        self.answer, self.server = answer, Hostile(self.serve)
        self.url = f"http://{USER}:{PASSWORD}@127.0.0.1:{self.server.port}"

    def serve(self, c, r):
        if r.method != "CONNECT" or self.answer:
            c.reply(self.answer or 400, b"no", proxy_authenticate='Basic realm="p"')
            return False
        self.logins.append(r.headers.get("proxy-authorization", "").removeprefix("Basic "))
        host, port = r.path.rsplit(":", 1)
        with self.connect(host, int(port)) as origin:
            c.send(self.HEAD)
            origin.sendall(c.pending)
            self.carry(c.sock, origin)
        return False


class Socks5(Proxy):
    """RFC 1928, with the login of RFC 1929. names: whether it is to look up the names (socks5h)."""

    def __init__(self, names=True):
        super().__init__()
        self.server = Hostile(None, on_connect=self.serve)
        self.url = f"socks5{'h' if names else ''}://{USER}:{PASSWORD}@127.0.0.1:{self.server.port}"

    def serve(self, sock):
        def take(n):
            return sock.recv(n, socket.MSG_WAITALL)
        version, n = take(2)
        if version != 5 or 2 not in take(n):
            return sock.sendall(b"\5\xff")
        sock.sendall(b"\5\2")
        user = take(take(2)[1]).decode()
        self.logins.append(base64.b64encode(f"{user}:{take(take(1)[0]).decode()}".encode()).decode())
        sock.sendall(b"\1\0")
        kind = take(4)[3]
        host = socket.inet_ntoa(take(4)) if kind == 1 else take(take(1)[0]).decode()
        with self.connect(host, struct.unpack(">H", take(2))[0]) as origin:
            sock.sendall(b"\5\0\0\1" + bytes(6))
            self.carry(sock, origin)


# ---- what goes through them ------------------------------------------------------------------------

class World:
    def __init__(self, folder):
        self.folder, self.ca = folder, net.Ca(folder / "ca")
        self.tls = self.ca.issue("origin", dns=[ORIGIN, "localhost"], ips=["127.0.0.1"])
        self.told, self.heads, self.n = "", [], 0

    def serve(self, c, r):
        self.heads.append(f"{r.method} {r.path} {r.headers}")
        manifest = make_manifest([(MODEL, OLLAMA + "model", None)])
        files = {"/v2/t/m/manifests/1": manifest, f"/v2/t/m/blobs/{digest(MODEL)}": MODEL,
                 f"/v2/t/m/blobs/{digest(b'{}')}": b"{}"}
        if r.path == "/led":
            return c.reply(302, location=f"https://localhost:{r.headers['host'].split(':')[1]}/x")
        data = files.get(r.path, BODY)
        if "range" not in r.headers:
            return c.reply(200, data)
        first, last = r.range()
        return c.reply(206, data[first:last + 1], content_range=f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}")

    def ask(self, program, *words, **env):
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        r = subprocess.run([program, *map(str, words), "--ca", self.ca.file], capture_output=True, text=True, timeout=60,
                           env={**clean, **env})
        self.told += r.stdout + r.stderr
        return r

    def fetch(self, url, *words, how="get", **env):
        self.n += 1
        where = ("--out", self.folder / "out") if how == "get" else ("--home", self.folder / f"home{self.n}")
        r = self.ask(sys.argv[1], how, url, *where, *words, **env)
        return json.loads(r.stdout.splitlines()[0]) if r.stdout else {"code": "none", "error": r.stderr}


def through(w, origin):
    """A request, a download in ranges, a pull: all by the proxy, which alone is told the password."""
    url, local = f"https://{ORIGIN}:{origin.port}/x", f"https://localhost:{origin.port}/x"
    for what, make, variable, at in (
            ("CONNECT", Connect, "https_proxy", url), ("CONNECT, in capitals", Connect, "HTTPS_PROXY", url),
            ("CONNECT for all", Connect, "all_proxy", url), ("SOCKS5", Socks5, "https_proxy", url),
            ("SOCKS5 for all", Socks5, "ALL_PROXY", url), ("SOCKS5, names looked up here", lambda: Socks5(False), "all_proxy", local)):
        proxy = make()
        got = w.fetch(at, **{variable: proxy.url})
        truth(what, (got["code"], got["body"], got["length"], got["etag"]) == ("ok", len(BODY), len(BODY), ""), got)
        truth(f"{what}: other bytes", (w.folder / "out").read_bytes() == BODY)
        got = w.fetch(at, how="blob", **{variable: proxy.url})
        truth(f"{what}: a download", got["code"] == "ok" and got["digest"] == digest(BODY)[7:], got)
        truth(f"{what}: beside the proxy", origin.connections == proxy.asked() and proxy.carried > 2 * len(BODY),
              (origin.connections, proxy.asked(), proxy.carried))
        truth(f"{what}: the password", set(proxy.logins) == {LOGIN}, proxy.logins)
        truth(f"{what}: the target", set(proxy.targets) == ({ORIGIN} if at == url else {"127.0.0.1"}), proxy.targets)
        proxy.stop()
        origin.connections = 0
    for proxy in (Connect(), Socks5()):
        r = w.ask(sys.argv[2], w.folder / f"pulled{proxy.server.port}", "pull", f"{ORIGIN}:{origin.port}/t/m:1", https_proxy=proxy.url)
        truth("a pull", r.returncode == 0 and digest(MODEL)[7:] in r.stdout, r.stderr)
        truth("a pull: beside the proxy", origin.connections == proxy.asked() > 0)
        # what leads elsewhere leads through the proxy too, whose own address is not where it was led to
        got = w.fetch(f"https://{ORIGIN}:{origin.port}/led", all_proxy=proxy.url)
        truth("led on", got["code"] == "ok" and set(proxy.targets) == {ORIGIN, "localhost"}, (got, proxy.targets))
        proxy.stop()
        origin.connections = 0


def beside(w, origin):
    """no_proxy; and http_proxy, which says nothing of https."""
    url = f"https://localhost:{origin.port}/x"
    for proxy in (Connect(), Socks5()):
        for variables in ({"no_proxy": "localhost"}, {"NO_PROXY": "example.org, localhost"}, {"no_proxy": "*"}):
            got = w.fetch(url, all_proxy=proxy.url, **variables)
            truth(f"{variables}", got["code"] == "ok" and not proxy.asked(), got)
        got = w.fetch(url, http_proxy=proxy.url)
        truth("http_proxy for https", got["code"] == "ok" and not proxy.asked(), got)
        got = w.fetch(url, all_proxy=proxy.url, no_proxy="example.org")
        truth("no_proxy of others", got["code"] == "ok" and proxy.asked() == 1, got)
        proxy.stop()


def broken(w, origin):
    """A proxy that refuses, is not there, or is written wrongly: a sentence without the password, and no way around."""
    url, refusing = f"https://localhost:{origin.port}/x", [Connect(answer=n) for n in (403, 407)]
    before = origin.connections
    login = f"{USER}:{PASSWORD}"
    for proxy, code, says in (
            (refusing[0].url, "io", "403"), (refusing[1].url, "io", "407"),
            (f"http://{login}@127.0.0.1:1", "io", "connecting to"), (f"socks5h://{login}@127.0.0.1:1", "io", ""),
            (f"http://{login}@nowhere.example:1", "io", "looking up the proxy"),
            (f"ftp://{login}@127.0.0.1:1", "invalid", "the proxy"), (f"http://{login}@127.0.0.1:1x", "invalid", "the proxy"),
            (f"http://{login} @127.0.0.1:1", "invalid", "the proxy"), (f"http://{login}@", "invalid", "the proxy")):
        got = w.fetch(url, https_proxy=proxy)
        truth(f"{proxy}", got["code"] == code and says in got["error"], got)
    truth("around a broken proxy", origin.connections == before)
    for proxy in refusing:
        proxy.stop()


def main():
    net.own_network()
    net.need("openssl")
    with tempfile.TemporaryDirectory() as folder:
        w = World(pathlib.Path(folder))
        with Hostile(w.serve, certificate=w.tls) as origin:
            through(w, origin)
            beside(w, origin)
            broken(w, origin)
        for secret in SECRETS:
            truth("the password was told", secret not in w.told, [x for x in w.told.splitlines() if secret in x][:3])
            truth("the password got to the origin", w.heads and not [h for h in w.heads if secret in h])
            kept = [str(p) for p in w.folder.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]
            truth("the password is kept", not kept, kept)
        truth("what is the proxy's got to the origin", not [h for h in w.heads if "proxy-" in h])
    for f in FAULTS:
        print("FAULT", f)
    print(f"{len(FAULTS)} faults")
    return 1 if FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
