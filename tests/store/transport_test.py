#!/usr/bin/env python3
"""The rules of store/transport.h, against a real nginx and servers that break every one of them, in a
network namespace with documentation addresses (exit 77 where that is not allowed).

  transport_test.py FETCH
"""
import gzip
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import time

import net
from net import OTHER, PUBLIC

FAULTS = []
BODY = bytes(range(256)) * 4096  # 1 MiB


class Fetch:
    def __init__(self, program, ca, out):
        self.program, self.ca, self.out = program, ca, out

    def lines(self, url, *options, env=None):
        words = [self.program, "get", url, "--ca", self.ca, "--out", self.out, *map(str, options)]
        r = subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})})
        if r.returncode:
            raise RuntimeError(f"{words}: {r.returncode} {r.stderr}")
        return [json.loads(line) for line in r.stdout.splitlines()]

    def __call__(self, url, *options, env=None):
        return self.lines(url, *options, env=env)[0]


def check(what, got, **expected):
    for key, value in expected.items():
        if key == "says":
            if value not in got["error"]:
                FAULTS.append(f"{what}: '{got['error']}' does not say '{value}'")
        elif got.get(key) != value:
            FAULTS.append(f"{what}: {key} is {got.get(key)!r}, not {value!r} ({got['error']})")


def truth(what, good):
    if not good:
        FAULTS.append(what)


# ---- nginx ---------------------------------------------------------------------------------------

def with_nginx(fetch, ca, where):
    (where / "www").mkdir()
    (where / "www/blob").write_bytes(BODY)
    port, second, wrong, old = (net.free_port(PUBLIC) for _ in range(4))
    tls = ca.issue("public", ips=[PUBLIC, OTHER], dns=["localhost"])
    named, expired = ca.issue("elsewhere", dns=["elsewhere.example"]), ca.issue("old", ips=[PUBLIC], expired=True)

    def server(at, pair, more):
        return (f"server {{ listen {at} ssl; ssl_certificate {pair[0]}; ssl_certificate_key {pair[1]};"
                f" root {where}/www; {more} }}\n")

    conf = server(f"{PUBLIC}:{port}", tls, f"""
        location /moved {{ return 302 https://{OTHER}:{second}/blob?key=secret; }}
        location /busy {{ add_header Retry-After 7 always; return 503; }}
        location /gone {{ return 404; }}
        location /whole {{ max_ranges 0; alias {where}/www/blob; }}
        location /zip {{ gzip on; gzip_types *; gzip_min_length 1; alias {where}/www/blob; }}
        location /slow {{ limit_rate 100k; alias {where}/www/blob; }}""")
    conf += server(f"{OTHER}:{second}", tls, "")
    conf += server(f"{PUBLIC}:{wrong}", named, "") + server(f"{PUBLIC}:{old}", expired, "")
    base = f"https://{PUBLIC}:{port}"
    with net.Nginx(where / "nginx", conf, [(PUBLIC, port), (OTHER, second)]):
        check("a file", fetch(f"{base}/blob"), code="ok", status=200, body=len(BODY), length=len(BODY),
              accepts_ranges=True)
        truth("a file: other bytes", pathlib.Path(fetch.out).read_bytes() == BODY)
        check("a range", fetch(f"{base}/blob", "--range", "1000-1999"), code="ok", status=206, body=1000,
              first=1000, last=1999, total=len(BODY))
        truth("a range: other bytes", pathlib.Path(fetch.out).read_bytes() == BODY[1000:2000])
        check("no ranges", fetch(f"{base}/whole", "--range", "1000-1999"), code="ok", status=200, body=len(BODY))
        check("not asked to zip", fetch(f"{base}/zip"), code="ok", body=len(BODY), length=len(BODY))
        check("redirect", fetch(f"{base}/moved"), code="ok", status=200, body=len(BODY),
              url=f"https://{OTHER}:{second}/blob?key=secret")
        check("redirect kept", fetch(f"{base}/moved", "--no-redirect"), code="ok", status=302,
              location=f"https://{OTHER}:{second}/blob?key=secret")
        check("busy", fetch(f"{base}/busy"), code="ok", status=503, retry_after=7)
        check("gone", fetch(f"{base}/gone"), code="ok", status=404)
        check("head", fetch(f"{base}/blob", "--method", "HEAD", "--max", 10), code="ok", status=200, body=0,
              length=len(BODY))
        check("cap", fetch(f"{base}/blob", "--max", 1000), code="too_large", body=0, says="more than 1000")
        check("wrong name", fetch(f"https://{PUBLIC}:{wrong}/blob"), code="forbidden", status=0, says="certificate")
        check("expired", fetch(f"https://{PUBLIC}:{old}/blob"), code="forbidden", status=0, says="expired")
        check("unknown CA", fetch(f"{base}/blob", "--ca", named[0]), code="forbidden", says="certificate")
        check("offline", fetch(f"{base}/blob", "--offline"), code="conflict", says="offline")
        check("neither http nor https", fetch(f"ftp://{PUBLIC}/blob"), code="invalid", says="must be http or https")
        check("name in URL", fetch(f"https://me:word@{PUBLIC}:{port}/blob"), code="invalid")
        got = fetch(f"{base}/slow", "--cancel-ms", 300)
        check("cancel", got, code="cancelled")
        truth("cancel took long", got["ms"] < 1300)
        got = fetch(f"{base}/blob", "--rate", 1 << 20)
        check("rate", got, code="ok", body=len(BODY))
        truth(f"1 MiB at 1 MiB/s took {got['ms']} ms", 800 < got["ms"] < 1900)
        truth("a connection is not kept", all(x["code"] == "ok" for x in fetch.lines(f"{base}/blob", "--times", 5)))
    check("nobody there", fetch(f"{base}/blob"), code="io", says="connecting to")


# ---- replies that lie -----------------------------------------------------------------------------

def endless_head(c, _):
    c.send("HTTP/1.1 200 OK\r\n")
    while True:
        c.send("X-More: " + "x" * 1000 + "\r\n")


def endless_line(c, _):
    c.send("HTTP/1.1 200 OK\r\nX-More: ")
    while True:
        c.send("x" * 4096)


def dribble_head(c, _):
    c.send("HTTP/1.1 200 OK\r\n")
    while not c.server.stopping.wait(0.1):
        c.send("X: y\r\n")


def silent(c, _):
    c.server.stopping.wait(20)


def stall_in_body(c, _):
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
    c.server.stopping.wait(20)


def reset_in_body(c, _):
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + "x" * 1000)
    time.sleep(0.1)
    c.reset()


def endless_error(c, _):
    c.send("HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n")
    while True:
        c.send("x" * 65536)


def endless_body(c, _):
    c.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        c.send("x" * 65536)


def endless_trailers(c, _):
    c.send(CHUNKED + "3\r\nabc\r\n0\r\n")
    while True:
        c.send("X-More: " + "x" * 1000 + "\r\n")


def sends(*parts):
    def handler(c, _):
        for p in parts:
            c.send(p)
        return False
    return handler


OK = "HTTP/1.1 200 OK\r\n"
CHUNKED = OK + "Transfer-Encoding: chunked\r\n\r\n"
PACKED = gzip.compress(b"0" * 100000)
LIES = [  # what, handler, options, expectations
    ("endless head", endless_head, [], dict(code="too_large", says="head of more than")),
    ("endless line", endless_line, [], dict(code="too_large", says="head of more than")),
    ("dribbled head", dribble_head, ["--stall", 1], dict(code="timeout", says="nothing for 1 seconds")),
    ("no answer", silent, ["--stall", 1], dict(code="timeout", status=0)),
    ("stall", stall_in_body, ["--stall", 1], dict(code="timeout", status=200, body=3)),
    ("reset", reset_in_body, [], dict(code="io", status=200, says="receiving from")),
    ("closed at once", lambda c, r: False, [], dict(code="io", status=0)),
    ("reset at once", lambda c, r: c.reset(), [], dict(code="io", status=0)),
    ("endless error", endless_error, [], dict(code="ok", status=500)),
    ("endless body", endless_body, ["--max", 100000], dict(code="too_large", says="more than 100000")),
    ("long by its own word", sends(OK + "Content-Length: 100\r\n\r\nabc"), ["--max", 10],
     dict(code="too_large", body=0, says="sends 100 bytes")),
    ("long by its own word, after a POST", sends(OK + "Content-Length: 100\r\n\r\nabc"), ["--max", 10, "--method", "POST"],
     dict(code="too_large", body=0, says="sends 100 bytes")),
    ("endless trailers", endless_trailers, [], dict(code="io", status=200, body=3)),
    ("trailers", sends(CHUNKED + "3\r\nabc\r\n0\r\nContent-Encoding: gzip\r\nETag: late\r\n\r\n"), [],
     dict(code="ok", body=3, etag="")),
    ("one length twice", sends(OK + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), [], dict(code="ok", body=3)),
    ("no coding", sends(OK + "Content-Encoding:\r\nContent-Length: 1\r\n\r\nx"), [], dict(code="ok", body=1)),
    ("short", sends(OK + "Content-Length: 10\r\n\r\nabc"), [], dict(code="io", body=3)),
    ("long", sends(OK + "Content-Length: 3\r\n\r\nabcdef"), [], dict(code="ok", body=3)),
    ("chunked", sends(CHUNKED + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), [], dict(code="ok", body=5, length=-1)),
    ("chunked, cut", sends(CHUNKED + "3\r\nabc\r\n2\r\nd"), [], dict(code="io")),
    ("chunked, not hex", sends(CHUNKED + "zz\r\nabc"), [], dict(code="io")),
    ("gzip", sends(OK + f"Content-Encoding: gzip\r\nContent-Length: {len(PACKED)}\r\n\r\n", PACKED), [],
     dict(code="forbidden", body=0, says="content-encoding")),
    ("gzip by transfer", sends(OK + "Transfer-Encoding: gzip, chunked\r\n\r\n", b"%x\r\n" % len(PACKED) + PACKED), [],
     dict(code="forbidden", body=0)),
    ("identity", sends(OK + "Content-Encoding: identity\r\nContent-Length: 1\r\n\r\nx"), [], dict(code="ok", body=1)),
    ("two lengths", sends(OK + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), [], dict(code="forbidden")),
    ("a length below 0", sends(OK + "Content-Length: -1\r\n\r\nabcd"), [], dict(code="forbidden")),
    ("a length of words", sends(OK + "Content-Length: many\r\n\r\nabcd"), [], dict(code="forbidden")),
    ("an endless length", sends(OK + "Content-Length: 99999999999999999999999\r\n\r\nabcd"), [], dict(code="forbidden")),
    ("no HTTP", sends("hello\r\n\r\n"), [], dict(code="forbidden", status=0)),
    ("HTTP/0.9", sends("<html>"), [], dict(code="forbidden", status=0)),
    ("interim replies", sends("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nContent-Length: 9\r\n\r\n" + OK +
                              "Content-Length: 1\r\n\r\nx"), [], dict(code="ok", status=200, body=1, length=1)),
    ("bytes in a header", sends(OK + "ETag: \"\xff\xfe\"\r\nContent-Type: a\tb\x1b[31m\r\nContent-Length: 0\r\n\r\n"), [],
     dict(code="ok", etag="", content_type="")),
    ("a header too long", sends(OK + "ETag: " + "x" * 5000 + "\r\nContent-Length: 0\r\n\r\n"), [], dict(code="ok", etag="")),
    ("range, odd", sends("HTTP/1.1 206 x\r\nContent-Range: bytes 0-99999999999999999999/5\r\nContent-Length: 0\r\n\r\n"), [],
     dict(code="ok", status=206, first=None)),
    ("range, shifted", sends("HTTP/1.1 206 x\r\nContent-Range: bytes 5-4/10\r\nContent-Length: 0\r\n\r\n"), [],
     dict(code="ok", status=206, first=None)),
    ("retry, a date", sends("HTTP/1.1 429 x\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n"), [],
     dict(code="ok", status=429, retry_after=0)),
    ("retry, a date and more", sends("HTTP/1.1 429 x\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT 2\r\nContent-Length: 0\r\n\r\n"), [],
     dict(code="ok", status=429, retry_after=-1)),
    ("retry, a long date", sends("HTTP/1.1 429 x\r\nRetry-After: Fri," + " " * 99 + "31 Dec 1999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n"),
     [], dict(code="ok", status=429, retry_after=-1)),
    ("retry, nonsense", sends("HTTP/1.1 429 x\r\nRetry-After: -7\r\nContent-Length: 0\r\n\r\n"), [],
     dict(code="ok", status=429, retry_after=-1)),
    ("link", sends(OK + "Link: </b?x=1>; rel=\"prev\", </c?x=2>; rel=\"next\"\r\nContent-Length: 0\r\n\r\n"), [],
     dict(code="ok", next_url="/c?x=2")),
    ("link, without quotes", sends(OK + "Link: </c>; rel=next\r\nContent-Length: 0\r\n\r\n"), [], dict(code="ok", next_url="/c")),
    ("link, without an end", sends(OK + "Link: </c; rel=next\r\nContent-Length: 0\r\n\r\n"), [], dict(code="ok", next_url="")),
]


def lies(fetch):
    for what, handler, options, expected in LIES:
        with net.Hostile(handler) as server:
            got = fetch(server.url + "/x", "--plain", *options)
            check(what, got, **expected)
            truth(f"{what}: took long", got["ms"] < 6000)
    with net.Hostile(silent) as server:
        check("plain, not allowed", fetch(server.url + "/x"), code="forbidden", says="plain http")
        truth("plain, not allowed: connected all the same", server.connections == 0)
    with net.Hostile(lambda c, r: c.reply(200)) as server:
        url = server.url + "/"
        check("a long URL", fetch(url + "x" * (16383 - len(url)), "--plain"), code="ok", status=200)
        check("a URL too long", fetch(url + "x" * (16384 - len(url)), "--plain"), code="invalid", says="16384 bytes")
    with net.Hostile(silent, on_connect=lambda sock: time.sleep(30)) as server:
        url = server.url.replace("http://", "https://")
        got = fetch(url + "/x", "--cancel-ms", 200)
        check("no handshake", got, code="cancelled")
        truth("no handshake: cancel took long", got["ms"] < 6000)


# ---- old TLS ---------------------------------------------------------------------------------------

def old_tls(fetch, ca, where):
    """Not even where the system itself would let it pass."""
    lax = where / "openssl.cnf"
    lax.write_text("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
                   "MinProtocol = TLSv1\nCipherString = DEFAULT:@SECLEVEL=0\n")
    pair = ca.issue("versions", ips=["127.0.0.1"])
    for name in ("TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"):
        with net.Hostile(lambda c, r: c.reply(200), certificate=pair, tls=ssl.TLSVersion[name]) as server:
            got = [fetch(server.url), fetch(server.url, env={"OPENSSL_CONF": str(lax)})]
        for g in got:
            if name in ("TLSv1", "TLSv1_1"):
                check(name, g, code="io", status=0, says="TLS 1.2 is the oldest")
            else:
                check(name, g, code="ok", status=200)
        truth(f"{name}: a request went out", len(server.requests) == (2 if name in ("TLSv1_2", "TLSv1_3") else 0))


# ---- redirects -------------------------------------------------------------------------------------

def redirects(fetch, ca):
    tls = ca.issue("all", ips=[PUBLIC, OTHER, "127.0.0.1", "10.1.2.3", "169.254.169.254"], dns=["localhost"])

    def target(c, r):
        return c.reply(200, r.headers.get("authorization", "none").encode())

    def to(url, status=302, body=b""):
        return lambda c, r: c.reply(status, body, location=url) if r.path == "/x" else target(c, r)

    def ask(what, url, *options, host=PUBLIC, certificate=tls, status=302, body=b"", **expected):
        with net.Hostile(to(url, status, body), host=host, certificate=certificate) as first:
            got = fetch(first.url + "/x", "--auth", "Bearer token", *options)
            check(what, got, **expected)
        return first, pathlib.Path(fetch.out).read_bytes()

    with net.Hostile(target, host=OTHER, certificate=tls) as other, \
            net.Hostile(target, host="127.0.0.1", certificate=tls) as loopback, \
            net.Hostile(target, host="10.1.2.3", certificate=tls) as private, \
            net.Hostile(target, host="169.254.169.254", certificate=tls) as metadata, \
            net.Hostile(target, host=OTHER) as plain:
        for status in (301, 302, 303, 307, 308):
            _, body = ask(f"{status} to another origin", other.url + "/y", status=status, code="ok")
            truth(f"{status}: the token went along", body == b"none")
        _, body = ask("same origin", "/y?z", code="ok", status=302)
        truth("same origin: the token stayed behind", body == b"Bearer token")
        ask("a body beside it", other.url + "/y", body=b"x" * 30000, code="ok")
        ask("an endless body beside it", other.url + "/y", body=b"x" * 3000000, code="ok")
        for what, url, says in (
                ("to http", plain.url, "only https"), ("to file", "file:///etc/passwd", "only https"),
                ("to ftp", f"ftp://{OTHER}/x", "only https"), ("to nothing", "", "no URL"),
                ("with a name", f"https://me@{OTHER}/x", "not taken"), ("with bytes", "https://\x01/", "no URL"),
                ("too long", other.url + "/" + "x" * 9000, "no URL"),
                ("to loopback", loopback.url, "127.0.0.1"), ("by name", f"https://localhost:{loopback.port}/", "localhost"),
                ("in a coat", f"https://[::ffff:127.0.0.1]:{loopback.port}/", "127.0.0.1"),
                ("to a number", f"https://2130706433:{loopback.port}/", "127.0.0.1"),
                ("to private", private.url, "10.1.2.3"), ("to metadata", metadata.url, "169.254.169.254")):
            ask(what, url, code="forbidden", says=says)
        for server in (loopback, private, metadata, plain):
            truth(f"{server.url} was connected to", server.connections == 0)
        ask("loopback to loopback", loopback.url, host="127.0.0.1", code="ok", status=302)
        ask("loopback to public", other.url, host="127.0.0.1", code="ok")
        truth("a token leaked", all("authorization" not in r.headers for s in (other, loopback, private) for r in s.requests))
        kept_connection(fetch, tls, loopback)
    back = []
    with net.Hostile(lambda c, r: c.reply(302, location=back[0] + "/y"), host=OTHER, certificate=tls) as far, \
            net.Hostile(to(far.url + "/z"), host=PUBLIC, certificate=tls) as first:
        back.append(first.url)
        check("there and back", fetch(first.url + "/x", "--auth", "Bearer token"), code="ok")
        truth("there and back: the token came again", pathlib.Path(fetch.out).read_bytes() == b"none")
    with net.Hostile(lambda c, r: c.reply(302, location="/x"), host=PUBLIC, certificate=tls) as loop:
        check("round and round", fetch(loop.url + "/x"), code="forbidden", says="after 5 redirects")
        truth("round and round: too often", len(loop.requests) == 6)
    plain_origin(fetch, to, target, tls)


def kept_connection(fetch, tls, loopback):
    """A connection that an earlier request made counts as well."""
    def inwards(c, r):
        return c.reply(302, location=loopback.url + "/y")

    with net.Hostile(inwards, host=PUBLIC, certificate=tls) as first:
        got = fetch.lines(f"{first.url}/x", "--times", 2)
        truth("twice to loopback", all(g["code"] == "forbidden" for g in got))
        before = len(loopback.requests)
        got = fetch.lines(f"{loopback.url}/y", "--times", 2, "--then", f"{first.url}/x")
        truth("to loopback on a kept connection", [g["code"] for g in got] == ["ok", "forbidden"])
        truth("to loopback on a kept connection: asked", len(loopback.requests) == before + 1)
    with net.Hostile(inwards) as proxy:
        before = loopback.connections
        check("inwards past the proxy", fetch("http://nowhere.example/x", "--plain", env={
            "http_proxy": proxy.url, "no_proxy": "127.0.0.0/8"}), code="forbidden", says="127.0.0.1")
        truth("inwards past the proxy: connected", proxy.requests and loopback.connections == before)


def plain_origin(fetch, to, target, tls):
    with net.Hostile(lambda c, r: c.reply(302, location="/y") if r.path == "/x" else target(c, r)) as first, \
            net.Hostile(target) as other, net.Hostile(target, certificate=tls) as secure:
        check("plain, same origin", fetch(first.url + "/x", "--plain"), code="ok")
        for what, url, code in (("plain to other", other.url, "forbidden"), ("plain to https", secure.url, "ok")):
            with net.Hostile(to(url)) as server:
                check(what, fetch(server.url + "/x", "--plain"), code=code)
    down = []
    with net.Hostile(lambda c, r: c.reply(302, location=down[0]), certificate=tls) as server:
        down.append(server.url.replace("https:", "http:") + "/y")
        check("down to http, same host and port", fetch(server.url + "/x", "--plain"), code="forbidden", says="only https")


# ---- what is sent ----------------------------------------------------------------------------------

def sent_again(fetch, upload):
    """A body goes out whole a second time: to where a redirect leads, and where a kept connection is closed."""
    def take(c, r):
        n = int(r.headers.get("content-length", 0))
        got.append((r.method, n, c.read(n) == BODY[:n]))
        if r.path.startswith("/x"):
            return c.reply(int(r.path[2:]), location="/y")
        c.asked = getattr(c, "asked", 0) + 1
        return c.asked == 1 and c.reply(200)

    whole, nothing = len(BODY), 0
    for status, *expected in ((303, "GET", nothing), (307, "PUT", whole), (308, "PUT", whole), (302, "PUT", whole)):
        got = []
        with net.Hostile(take) as server:
            check(f"{status} of a PUT", fetch(f"{server.url}/x{status}", "--plain", "--method", "PUT", "--body-file", upload),
                  code="ok", status=200)
        truth(f"{status} of a PUT: {got}", got == [("PUT", whole, True), (*expected, True)])
    with net.Hostile(take) as server:
        got = []
        check("303 of a HEAD", fetch(f"{server.url}/x303", "--plain", "--method", "HEAD"), code="ok", status=200)
        truth(f"303 of a HEAD: {got}", [g[0] for g in got] == ["HEAD", "HEAD"])
        took = fetch(f"{server.url}/y", "--plain", "--method", "PUT", "--body-file", upload, "--rate", 1 << 20)["ms"]
        truth(f"1 MiB sent at 1 MiB/s took {took} ms", took > 800)
    shrinks(fetch, upload.with_name("shrinks"))
    got = []
    with net.Hostile(take) as server:
        answers = fetch.lines(f"{server.url}/y", "--plain", "--method", "PUT", "--body-file", upload, "--times", 2)
        truth(f"closed after the body: {answers}", [a["code"] for a in answers] == ["ok", "ok"])
        truth(f"closed after the body: {got}", got == [("PUT", whole, True)] * 3 and server.connections == 2)


def shrinks(fetch, upload):
    """A file that is cut while it is sent."""
    upload.write_bytes(bytes(64 << 20))

    def cut(c, r):
        os.truncate(upload, 1 << 20)
        while c.read(1 << 20):
            pass

    with net.Hostile(cut) as server:
        check("a file that shrinks", fetch(f"{server.url}/y", "--plain", "--method", "PUT", "--body-file", upload),
              code="io", says="shorter than it was")


def sent(fetch, where):
    upload = where / "upload"
    upload.write_bytes(BODY)

    def echo(c, r):
        n = int(r.headers.get("content-length", -1))
        return c.reply(200, json.dumps([r.method, r.headers, n, c.read(n) == BODY[:n] if n > 0 else None]).encode())

    with net.Hostile(echo) as server:
        def ask(*options, env=None):
            check("sent", fetch(server.url + "/x", "--plain", *options, env=env), code="ok")
            return json.loads(pathlib.Path(fetch.out).read_bytes())
        method, headers, _, _ = ask("--header", "Accept:text/plain")
        truth("Accept-Encoding is asked for", "accept-encoding" not in headers)
        truth("GET or its headers", method == "GET" and headers["accept"] == "text/plain" and
              headers["user-agent"].startswith("hearth/"))
        truth("PUT", ask("--method", "PUT", "--body-file", upload)[::2] == ["PUT", len(BODY)])
        truth("PUT: other bytes", ask("--method", "PUT", "--body-file", upload)[3])
        truth("PATCH", ask("--method", "PATCH", "--body", "")[::2] == ["PATCH", 0])
        truth("POST without a body", ask("--method", "POST")[::2] == ["POST", 0])
        truth("DELETE", ask("--method", "DELETE")[0] == "DELETE")
        home = where / "home"
        home.mkdir()
        (home / ".netrc").write_text("default login me password word\n")
        truth(".netrc is read", "authorization" not in ask(env={"HOME": str(home)})[1])
        check("a header that splits", fetch(server.url, "--plain", "--header", "A:b\r\nC: d"), code="invalid")
        check("a header's name that splits", fetch(server.url, "--plain", "--header", "A\r\nB:c"), code="invalid")
        check("a header with DEL", fetch(server.url, "--plain", "--header", "A:\x7f"), code="invalid")
        check("a login by the back door", fetch(server.url, "--plain", "--header", "Authorization:x"), code="invalid")
        check("a token that splits", fetch(server.url, "--plain", "--auth", "b\r\nC: d"), code="invalid")
    with net.Hostile(lambda c, r: c.reply(200, r.path.encode())) as proxy:
        check("proxy", fetch("http://nowhere.example/x", "--plain", env={"http_proxy": proxy.url}), code="ok", status=200)
        truth("proxy: not asked", proxy.requests and proxy.requests[0].path == "http://nowhere.example/x")
        got = fetch(proxy.url + "/y", "--plain", env={"http_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.0/8"})
        check("no_proxy", got, code="ok")
        asked = len(proxy.requests)
        fetch("https://127.0.0.1:1/x", env={"HTTP_PROXY": proxy.url})
        truth("HTTP_PROXY is for https as well", len(proxy.requests) == asked)


def main():
    net.own_network()
    net.need("nginx", "openssl")
    with tempfile.TemporaryDirectory() as folder:
        where = pathlib.Path(folder)
        ca = net.Ca(where / "ca")
        fetch = Fetch(os.path.abspath(sys.argv[1]), ca.file, where / "out")
        with_nginx(fetch, ca, where)
        lies(fetch)
        old_tls(fetch, ca, where)
        redirects(fetch, ca)
        sent(fetch, where)
        sent_again(fetch, where / "upload")
    for f in FAULTS:
        print("FAULT", f)
    print(f"{len(FAULTS)} faults")
    return 1 if FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
