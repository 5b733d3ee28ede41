"""The rows of hostile_test.py: what a place does, and what the store says to it.

A lie is f(place, connection, request): it answers, and gives what Hostile's handlers give (true: another request may
follow), or None where the place is to be honest.
"""
import dataclasses
import gzip
import json
import os
import ssl
import time
import typing
import zlib

from net import OTHER, PUBLIC
from net.registry import IMAGE_CONFIG, OCI, OLLAMA, digest

USER, PASSWORD, TOKEN, HF_TOKEN = "ann", "pw-Zq7secret", "tok-Zq7secret", "hf_Zq7secret"
MODEL = b"GGUF" + os.urandom(300_000)
BIG = b"GGUF" + os.urandom(9 << 20)
LICENSE = b"Do what you like.\n"
REPO, SHARDED = "org/tiny", "org/shards"


@dataclasses.dataclass
class Row:
    name: str
    lie: typing.Any
    code: str                      # of enum err_code; "ok": the bytes come all the same
    says: str                      # is in the sentence
    command: str = "pull"          # push; resume: the lies begin when a pull was killed half-way
    big: bool = False              # a model of several ranges
    seconds: float = 10
    give_up: int = 2
    room: str = ""                 # a disk of so much
    how: typing.Any = None         # f(world) -> what the registry's server is started with
    challenge: typing.Any = None   # f(world, place) -> WWW-Authenticate
    source: typing.Any = None      # f(world, place) -> what is pulled
    more: typing.Any = None        # f(world) -> more words for the command
    hub: typing.Any = None         # f(world, hub): a hub is started, and lies
    after: typing.Any = None       # f(world, place): what else must be true
    sanitized: bool = False        # whose memory is not the store's alone


# ---- which request ---------------------------------------------------------------------------------------------

def is_manifest(p, q):
    return "/manifests/" in q.path


def is_model(p, q):
    return q.path.split("?")[0].endswith(digest(p.world.model)) and q.method == "GET"


def is_license(p, q):
    return q.path.endswith(digest(LICENSE))


def is_token(p, q):
    return q.path.startswith("/token")


def is_file(p, q):
    return q.path.startswith("/m.gguf")


def is_any(p, q):
    return True


def at(where, answer, times=None):
    """answer: bytes as they are, or f(place, connection, request). times: then the place is honest."""
    def lie(p, c, q):
        if not where(p, q) or (times and p.count() > times):
            return None
        if callable(answer):
            return answer(p, c, q)
        c.send(answer)
        return False
    return lie


def both(*lies):
    def lie(p, c, q):
        return next((a for f in lies if (a := f(p, c, q)) is not None), None)
    return lie


# ---- answers -----------------------------------------------------------------------------------------------------

def status(n, body=b"", **headers):
    return lambda p, c, q: c.reply(n, body, **headers)


def ok(head, body=b""):
    return f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body


def changed(change):
    """The true manifest, changed: change(document) gives bytes, another document, or None (it changed it itself)."""
    def answer(p, c, q):
        doc = json.loads(p.data(q))
        new = change(doc)
        return c.reply(200, new if isinstance(new, bytes) else json.dumps(doc if new is None else new).encode())
    return at(is_manifest, answer)


def layer(**keys):
    return changed(lambda doc: doc["layers"][0].update(keys))


def raw_layer(text):
    """The first layer's row, with `text` before its end: what json.dumps would not write."""
    def change(doc):
        doc["layers"][0]["HERE"] = 1
        return json.dumps(doc).encode().replace(b'"HERE": 1', text)
    return changed(change)


def forever(head, chunk, pause=0.0):
    def answer(p, c, q):
        c.send(head)
        while not p.server.stopping.wait(pause):
            c.send(chunk)
        return False
    return answer


def hang(head=b""):
    def answer(p, c, q):
        c.send(head)
        p.server.stopping.wait(30)
        return False
    return answer


def reset(head=b""):
    def answer(p, c, q):
        c.send(head)
        time.sleep(0.05)
        c.reset()
        return False
    return answer


def ranged(change):
    """A 206 whose parts have been changed: change(data, first, last) -> (bytes, {header: value})"""
    def answer(p, c, q):
        data = p.data(q)
        first, last = q.range() if "range" in q.headers else (0, len(data) - 1)
        last = min(last, len(data) - 1)
        body, headers = change(data, first, last)
        return c.reply(206, body, **headers)
    return answer


def part(first, last, total, unit="bytes"):
    return {"content_range": f"{unit} {first}-{last}/{total}"}


def true_part(data, first, last):
    return data[first:last + 1], part(first, last, len(data))


def to(url, n=302):
    """A redirect; url: f(world) or text."""
    return lambda p, c, q: c.reply(n, b"", location=url(p.world) if callable(url) else url)


def packed(kind, n):
    squeeze = {"gzip": gzip.compress, "deflate": zlib.compress}[kind]
    body = squeeze(bytes(n))
    return status(200, body, content_encoding=kind)


# ---- lengths, hashes, ends -----------------------------------------------------------------------------------------

def cut_body(p, c, q):
    data, _ = true_part(p.data(q), *q.range()) if "range" in q.headers else (p.data(q), 0)
    first = q.range()[0] if "range" in q.headers else 0
    total = len(p.data(q))
    c.send(f"HTTP/1.1 206 x\r\nContent-Length: {len(data)}\r\nContent-Range: bytes {first}-{first + len(data) - 1}/{total}"
           "\r\n\r\n")
    c.send(data[:-1])
    return False


def flipped(data, first, last):
    body, headers = true_part(data, first, last)
    return bytes([body[0] ^ 1]) + body[1:], headers


def lengths():
    yield Row("a size one too long", changed(lambda d: d["layers"][0].update(size=d["layers"][0]["size"] + 1)), "format",
              "where 300005 were promised")
    yield Row("a size one too short", changed(lambda d: d["layers"][0].update(size=d["layers"][0]["size"] - 1)), "format",
              "where 300003 were promised")
    yield Row("a size of 0", layer(size=0), "format", "promised")
    yield Row("a text one too long", changed(lambda d: d["layers"][1].update(size=19)), "format", "18 bytes came instead of 19")
    yield Row("a text one too short", changed(lambda d: d["layers"][1].update(size=17)), "format", "18 bytes came instead of 17")
    yield Row("a text far too short", changed(lambda d: d["layers"][1].update(size=3)), "too_large", "more than 4")
    yield Row("more total than there is", at(is_model, ranged(lambda d, a, b: (d[a:b + 1], part(a, b, len(d) + 9)))), "format",
              "where 300004 were promised")
    yield Row("Content-Length too long", at(is_model, cut_body), "io", "gave up after 2 seconds")
    yield Row("Content-Length too short", at(is_model, lambda p, c, q: c.reply(
        206, b"xy", content_length="1", content_range=f"bytes 0-300003/300004")), "format", "other bytes than it was asked for")
    yield Row("two Content-Lengths", at(is_model, ok("Content-Length: 3\r\nContent-Length: 4", b"abcd")), "forbidden", "")
    yield Row("Content-Length of 2^64", at(is_model, ok("Content-Length: 18446744073709551616", b"abcd")), "forbidden", "")
    yield Row("wrong bytes", at(is_model, ranged(flipped)), "format", "and not the")
    yield Row("wrong bytes of a text", at(is_license, status(200, LICENSE[::-1])), "format", "instead of")
    yield Row("wrong bytes in one range of several", at(is_model, ranged(
        lambda d, a, b: true_part(d, a, b) if a else flipped(d, a, b))), "format", "thrown away", big=True)
    yield Row("truncated each time", at(is_model, cut_body), "io", "gave up after 2 seconds", big=True)
    yield Row("truncated once", at(is_model, cut_body, times=1), "ok", "")
    yield Row("a manifest truncated", at(is_manifest, ok("Content-Length: 1000", b"{")), "io", "receiving from")
    yield Row("a body that never ends", at(is_model, forever(ok("Connection: close"), b"x" * 65536)), "format", "more bytes")
    yield Row("a manifest that never ends", at(is_manifest, forever(ok("Connection: close"), b" " * 65536)), "too_large",
              "more than 4194304")
    yield Row("chunked without end", at(is_manifest, forever(ok("Transfer-Encoding: chunked"), b"10000\r\n" + b" " * 65536 + b"\r\n")),
              "too_large", "more than 4194304")
    yield Row("a chunk of 2^64 bytes", at(is_manifest, ok("Transfer-Encoding: chunked", b"fffffffffffffffff\r\nx")), "io", "")
    yield Row("0 bytes a second", at(is_model, hang(ok("Content-Length: 300004", b"GGUF"))), "timeout", "sent nothing for 1 seconds")
    yield Row("a manifest at 0 bytes a second", at(is_manifest, hang(ok("Content-Length: 1000", b"{"))), "timeout", "sent nothing for 1",
              seconds=15)
    yield Row("a text at 0 bytes a second", at(is_license, hang(ok("Content-Length: 18", b"D"))), "timeout", "sent nothing for 1",
              seconds=20)
    yield Row("no answer", at(is_manifest, hang()), "timeout", "sent nothing for 1 seconds", seconds=15)
    yield Row("a head that drips", at(is_manifest, forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.1)), "timeout", "sent nothing for 1",
              seconds=15)
    yield Row("a blob's head that drips", at(is_model, forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.1)), "timeout", "gave up")
    yield Row("a head without end", at(is_manifest, forever(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000 + b"\r\n")), "too_large",
              "a head of more than")
    yield Row("a header without end", at(is_manifest, forever(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536)), "too_large", "a head of more")
    yield Row("interim replies without end", at(is_manifest, forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n")), "too_large", "a head of more")


def resets():
    yield Row("reset before the head", at(is_manifest, reset()), "io", "")
    yield Row("reset within the head", at(is_manifest, reset(b"HTTP/1.1 200 OK\r\nContent-Le")), "io", "")
    yield Row("reset after the head", at(is_manifest, reset(ok("Content-Length: 1000"))), "io", "receiving from")
    yield Row("reset in the body", at(is_manifest, reset(ok("Content-Length: 1000", b"{"))), "io", "receiving from")
    yield Row("reset after the last byte", at(is_manifest, lambda p, c, q: reset(ok(f"Content-Length: {len(p.data(q))}", p.data(q)))(p, c, q)),
              "ok", "")
    yield Row("a blob reset before the head", at(is_model, reset()), "io", "gave up")
    yield Row("a blob reset in the body", at(is_model, reset(ok("Content-Length: 300004", b"GGUF" * 20000))), "io", "")
    yield Row("a blob reset three times", at(is_model, reset(), times=3), "ok", "", give_up=5)
    yield Row("closed at once", at(is_manifest, lambda p, c, q: False), "io", "")
    yield Row("no HTTP", at(is_manifest, b"hello\r\n\r\n"), "forbidden", "understanding")
    yield Row("HTTP/0.9", at(is_manifest, b"{}"), "forbidden", "understanding")
    yield Row("HTTP/9", at(is_manifest, b"HTTP/9 200 OK\r\n\r\n{}"), "forbidden", "")
    yield Row("status 99999", at(is_manifest, b"HTTP/1.1 99999 x\r\nContent-Length: 0\r\n\r\n"), "forbidden", "")
    yield Row("status 000", at(is_manifest, b"HTTP/1.1 000 x\r\nContent-Length: 0\r\n\r\n"), "forbidden", "understanding")


def codings():
    for what, where in (("manifest", is_manifest), ("blob", is_model), ("text", is_license)):
        for kind in ("gzip", "deflate"):
            yield Row(f"a bomb of {kind} as {what}", at(where, packed(kind, 32 << 20)), "forbidden", "content-encoding")
        yield Row(f"a coding of no name as {what}", at(where, status(200, b"x", content_encoding="hearth")), "forbidden", "content-encoding")
    yield Row("two codings", at(is_manifest, status(200, b"x", content_encoding="identity, gzip")), "forbidden", "content-encoding")
    yield Row("gzip by transfer", at(is_manifest, ok("Transfer-Encoding: gzip, chunked", b"1\r\nx\r\n0\r\n\r\n")), "forbidden", "transfer-encoding")
    yield Row("a coded token", at(is_token, packed("gzip", 1 << 20)), "forbidden", "content-encoding", challenge=bearer)


# ---- ranges ---------------------------------------------------------------------------------------------------------

def ranges():
    rows = [
        ("206 without Content-Range", lambda d, a, b: (d[a:b + 1], {})),
        ("206 of another unit", lambda d, a, b: (d[a:b + 1], part(a, b, len(d), "items"))),
        ("206 shifted", lambda d, a, b: (d[a + 1:b + 2], part(a + 1, b + 1, len(d) + 1))),
        ("206 that overlaps", lambda d, a, b: (d[max(0, a - 9):b + 1], part(max(0, a - 9), b, len(d))) if a else (d[a:b + 10], part(a, b + 9, len(d)))),
        ("206 that overflows", lambda d, a, b: (d[a:b + 1], {"content_range": f"bytes {2**64 + a}-{2**64 + b}/{len(d)}"})),
        ("206 below 0", lambda d, a, b: (d[a:b + 1], {"content_range": f"bytes -{a}-{b}/{len(d)}"})),
        ("206 backwards", lambda d, a, b: (d[a:b + 1], part(b, a, len(d)))),
        ("206 of an unknown total", lambda d, a, b: (d[a:b + 1], part(a, b, "*"))),
        ("206 beyond its total", lambda d, a, b: (d[a:b + 1], part(a, b, b))),
        ("multipart/byteranges", lambda d, a, b: (b"--x\r\nContent-Range: bytes 0-1/300004\r\n\r\nGG\r\n--x--\r\n",
                                                 {"content_type": "multipart/byteranges; boundary=x"})),
        ("206 one byte short", lambda d, a, b: (d[a:b], part(a, b - 1, len(d)))),
    ]
    for name, change in rows:
        yield Row(name, at(is_model, ranged(change)), "format", "other bytes than it was asked for")
    yield Row("200 to each range", at(is_model, lambda p, c, q: c.reply(200, p.data(q))), "ok", "", big=True)
    yield Row("200 to the second range", at(is_model, lambda p, c, q: c.reply(200, p.data(q)) if p.count() > 1 else None), "ok", "", big=True)
    yield Row("200 with more than there is", at(is_model, lambda p, c, q: c.reply(200, p.data(q) + b"more")), "format", "were promised")
    yield Row("200 of unknown length with more", at(is_model, lambda p, c, q: c.reply(200, p.data(q) + b"more", content_length=None)),
              "format", "more bytes")
    yield Row("416", at(is_model, status(416, content_range="bytes */300004")), "format", "has not so many bytes")
    yield Row("another ETag each time", at(is_model, lambda p, c, q: ranged(lambda d, a, b: (
        d[a:b + 1], {**part(a, b, len(d)), "etag": f'"{p.count()}"'}))(p, c, q)), "conflict", "the file changes each time", big=True)
    yield Row("other bytes under one ETag", at(is_model, lambda p, c, q: ranged(lambda d, a, b: (
        (flipped if p.count() > 1 else true_part)(d, a, b)[0], {**part(a, b, len(d)), "etag": '"one"'}))(p, c, q)),
        "format", "thrown away", big=True)
    yield Row("two places with ETags of their own", at(is_model, lambda p, c, q: None if q.range()[0] % 2 else (
        to(lambda w: w.place("second", may=()).url + "/m.gguf") if q.range()[0] else
        ranged(lambda d, a, b: (d[a:b + 1], {**part(a, b, len(d)), "etag": '"one"'})))(p, c, q)), "ok", "", big=True,
        how=lambda w: w.place("second", may=(), lie=at(is_file, ranged(lambda d, a, b: (d[a:b + 1], {**part(a, b, len(d)), "etag": '"two"'})))) and {})
    yield Row("an ETag longer than is kept", at(is_model, ranged(lambda d, a, b: (d[a:b + 1], {**part(a, b, len(d)), "etag": '"' + "e" * 900 + '"'}))),
              "ok", "", big=True)
    yield Row("206 to who asked for the whole", at(is_model, lambda p, c, q: c.reply(200, p.data(q)) if "range" in q.headers and q.range()[0] else
              ranged(true_part)(p, c, q)), "format", "other bytes than it was asked for", big=True, seconds=20)
    one = {"command": "resume", "big": True, "give_up": 3, "seconds": 15}
    yield Row("resumed, honestly", None, "ok", "", **one)
    yield Row("resumed with other bytes", at(is_model, ranged(flipped)), "format", "thrown away", **one)
    yield Row("resumed with another ETag", at(is_model, ranged(lambda d, a, b: (d[a:b + 1], {**part(a, b, len(d)), "etag": '"two"'}))),
              "ok", "", **one)
    yield Row("resumed with another size", at(is_model, ranged(lambda d, a, b: (d[a:b + 1], part(a, b, len(d) + 1)))), "format",
              "were promised", **one)
    yield Row("resumed without ranges", at(is_model, lambda p, c, q: c.reply(200, p.data(q))), "ok", "", **one)
    yield Row("resumed with 416", at(is_model, status(416)), "format", "not so many bytes", **one)
    yield Row("resumed with a tag that moved", changed(lambda d: d["layers"][0].update(digest=digest(LICENSE), size=len(LICENSE))), "format", "GGUF", **one)


# ---- manifests -------------------------------------------------------------------------------------------------------

def manifests():
    for name, text in (("a path", "sha256:../../x"), ("a long path", "sha256:" + "../" * 21 + "x"), ("63 digits", "sha256:" + "a" * 63),
                       ("65 digits", "sha256:" + "a" * 65), ("sha512", "sha512:" + "a" * 128), ("nothing", ""), ("no digits", "sha256:"),
                       ("digits of another script", "sha256:" + "\u0661" * 64), ("a NUL", "sha256:" + "a" * 63 + "\0"),
                       ("a NUL behind it", "sha256:" + "a" * 64 + "\0/../x"), ("a slash", "sha256:" + "a" * 63 + "/"),
                       ("another mark", "sha256-" + "a" * 64), ("SHA256:", "SHA256:" + "a" * 64), ("a newline", "sha256:" + "a" * 63 + "\n")):
        yield Row(f"a digest of {name}", layer(digest=text), "format", "")
        if name in ("a path", "63 digits", "sha512", "another mark"):
            yield Row(f"Docker-Content-Digest of {name}", at(is_manifest, lambda p, c, q, text=text: c.reply(
                200, p.data(q), docker_content_digest=text)), "format", "not the one that it states")
    yield Row("a digest in capitals", changed(lambda d: d["layers"][0].update(digest="sha256:" + d["layers"][0]["digest"][7:].upper())), "format", "small")
    yield Row("the digest of another manifest", at(is_manifest, lambda p, c, q: c.reply(200, p.data(q), docker_content_digest=digest(b""))),
              "format", "not the one that it states")
    yield Row("10^6 layers", changed(lambda d: b'{"schemaVersion":2,"layers":[' + b"{}," * 999999 + b"{}]}"), "too_large", "")
    yield Row("10^6 layers of numbers", changed(lambda d: b'{"schemaVersion":2,"layers":[' + b"1," * 999999 + b"1]}"), "too_large", "")
    yield Row("a manifest of 1 GiB", at(is_manifest, forever(ok(f"Content-Length: {1 << 30}"), b" " * 65536)), "too_large", "1073741824 bytes")
    yield Row("a manifest of 1 GiB in chunks", at(is_manifest, lambda p, c, q: (c.send(ok("Transfer-Encoding: chunked", b"40000000\r\n")),
                                                                              forever(b"", b" " * 65536)(p, c, q))[1]), "too_large", "more than 4194304")
    yield Row("a manifest of 4 MiB and 1", at(is_manifest, status(200, b" " * ((4 << 20) + 1))), "too_large", "4194305 bytes")
    yield Row("deep lists", changed(lambda d: b"[" * 100_000), "format", "nested")
    yield Row("deep objects", changed(lambda d: b'{"a":' * 100_000), "format", "nested")
    yield Row("a key twice", changed(lambda d: json.dumps(d).encode()[:-1] + b',"layers":[]}'), "unsupported", "0 layers")
    yield Row("bytes that are no UTF-8", raw_layer(b'"x": "\xff\xfe"'), "format", "")
    yield Row("half a surrogate", raw_layer(b'"x": "\\ud800"'), "format", "")
    yield Row("a number of 1e400", raw_layer(b'"x": 1e400'), "format", "")
    yield Row("a size of 1e400", raw_layer(b'"size": 1e400'), "format", "")
    for n in (-1, -2 ** 63, 2 ** 63, 2 ** 64, 10 ** 30, 1.5, "300004", None, True, []):
        yield Row(f"a size of {n!r}", layer(size=n), "format", "")
    yield Row("a size of 2^62", layer(size=1 << 62), "io", "the disk is too full")
    yield Row("sizes that add up to more than 2^63", changed(lambda d: d["layers"].extend(
        {**d["layers"][0], "digest": digest(str(i).encode()), "size": 1 << 62} for i in range(3))), "format", "more bytes than there can be")
    yield Row("more than the disk", None, "io", "free", room="8m", big=True)
    yield Row("layers that are more than the disk together", changed(lambda d: d["layers"].extend(
        {**d["layers"][0], "digest": digest(str(i).encode())} for i in range(3))), "io", "free", room="24m", big=True)
    yield Row("a layer twice, and a disk for one", changed(lambda d: d["layers"].append({**d["layers"][0], "mediaType": OLLAMA + "projector"})),
              "ok", "", room="14m", big=True)
    yield Row("a config of 1 TiB", changed(lambda d: d["config"].update(size=1 << 40)), "too_large", "config")
    yield Row("a media type of a kilobyte", layer(mediaType="x" * 1024), "too_large", "media type")
    yield Row("a media type with an escape", layer(mediaType="\x1b[31m"), "format", "control character")
    yield Row("an image index", changed(lambda d: {"schemaVersion": 2, "manifests": [
        {"digest": digest(str(i).encode()), "size": 9, "platform": {"os": "linux"}} for i in range(2)]}), "unsupported", "index of 2")
    yield Row("an index of itself", at(is_manifest, lambda p, c, q: c.reply(200, json.dumps(
        {"schemaVersion": 2, "manifests": [{"digest": digest(p.data(q) or b""), "size": 9}]}).encode())), "format", "")
    yield Row("an index of an index", at(is_manifest, index_of_index), "unsupported", "an index of an index")
    for name, entry in ("nothing", {}), ("null", None), ("a number", {"digest": 5}):
        yield Row(f"an index of {name}", changed(lambda d, entry=entry: {"schemaVersion": 2, "manifests": [entry]}), "format",
                  "an index without a usable digest")
    yield Row("an index of a path", changed(lambda d: {"schemaVersion": 2, "manifests": [{"digest": "sha256:../../x"}]}), "format",
              "usable digest")
    for name, kind in (("a Docker image", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
                       ("an OCI image", "application/vnd.oci.image.layer.v1.tar+gzip"), ("a tar", "application/vnd.oci.image.layer.v1.tar"),
                       ("a program", "application/x-executable"), ("a script", "application/x-sh"), ("a web page", "text/html")):
        yield Row(f"layers of {name}", layer(mediaType=kind), "unsupported", "no part of a model")
    yield Row("a tar with a path for a name", layer(mediaType="application/vnd.oci.image.layer.v1.tar", annotations={
        "org.opencontainers.image.title": "../../../etc/passwd"}), "unsupported", "no part of a model")
    yield Row("a model with a path for a name", layer(mediaType="application/octet-stream", annotations={
        "org.opencontainers.image.title": "../../../etc/cron.d/x.gguf"}), "ok", "")
    yield Row("a name with an escape", layer(mediaType="application/octet-stream", annotations={
        "org.opencontainers.image.title": "a\x1b]0;x.gguf"}), "format", "control character")
    yield Row("a name of a kilobyte", layer(mediaType="application/octet-stream", annotations={
        "org.opencontainers.image.title": "x" * 1024 + ".gguf"}), "too_large", "title")
    for name, data in (("ELF", b"\x7fELF" + bytes(3000)), ("a script", b"#!/bin/sh\nrm -rf ~\n"), ("a zip", b"PK\3\4" + bytes(3000)),
                       ("nothing", b""), ("three bytes", b"GGU")):
        yield Row(f"{name} as a model", both(at(lambda p, q, data=data: q.path.endswith(digest(data)), lambda p, c, q, data=data: serve(c, q, data)),
                                             layer(digest=digest(data), size=len(data))), "format", "GGUF")


def serve(c, q, data):
    if "range" not in q.headers or not data:
        return c.reply(416 if "range" in q.headers else 200, data)
    first, last = q.range()
    last = min(last, len(data) - 1)
    return c.reply(206, data[first:last + 1], **part(first, last, len(data)))


def index_of_index(p, c, q):
    inner = json.dumps({"schemaVersion": 2, "manifests": [{"digest": digest(b""), "size": 0}]}).encode()
    outer = json.dumps({"schemaVersion": 2, "manifests": [{"digest": digest(inner), "size": len(inner)}]}).encode()
    return c.reply(200, inner if q.path.endswith(digest(inner)) else outer)


# ---- redirects --------------------------------------------------------------------------------------------------------

def bearer(world, place):
    return f'Bearer realm="{place.url}/token",service="s"'


def trapped(host, name=None, **how):
    return lambda w: f"{'https' if how.get('tls', True) else 'http'}://{name or host}:{w.trap(host, **how).port}/x"


def redirects():
    rows = [
        ("http", trapped(OTHER, tls=False), "only https"), ("its own plain port", trapped(PUBLIC, tls=False), "only https"),
        ("file:", "file:///etc/passwd", "only https"), ("ftp:", f"ftp://{OTHER}/x", "only https"),
        ("gopher:", f"gopher://{OTHER}:6379/_FLUSHALL", "only https"), ("data:", "data:application/json,{}", "redirects"),
        ("javascript:", "javascript:alert(1)", "redirects"), ("a socket", "unix:///var/run/docker.sock", "redirects"),
        ("a socket over http", "http+unix://%2Fvar%2Frun%2Fdocker.sock/x", "redirects"),
        ("nothing", "", "but to no URL"), ("a user's name", lambda w: f"https://me:word@{OTHER}:{w.other().port}/x", "not taken"),
        ("bytes", "https://\x01\x02/", "no URL"), ("a scheme alone", "https://", "redirects"), ("another host by //", lambda w: f"//127.0.0.1:{w.trap('127.0.0.1').port}/", "127.0.0.1"),
        ("loopback", trapped("127.0.0.1"), "127.0.0.1"), ("::1", "https://[::1]:443/x", "::1"), ("0.0.0.0", trapped("127.0.0.1", "0.0.0.0"), "0.0.0.0"),
        ("127.1", trapped("127.0.0.1", "127.1"), "127.0.0.1"), ("2130706433", trapped("127.0.0.1", "2130706433"), "127.0.0.1"),
        ("0x7f000001", trapped("127.0.0.1", "0x7f000001"), "127.0.0.1"), ("017700000001", trapped("127.0.0.1", "017700000001"), "127.0.0.1"),
        ("loopback in a coat", trapped("127.0.0.1", "[::ffff:127.0.0.1]"), "127.0.0.1"), ("[::]", trapped("127.0.0.1", "[::]"), "::"),
        ("a name of loopback's", trapped("127.0.0.1", "inside.example"), "127.0.0.1"), ("localhost", trapped("127.0.0.1", "localhost"), "localhost"),
        ("the cloud's metadata", trapped("169.254.169.254"), "169.254.169.254"), ("its name", trapped("169.254.169.254", "cloud.example"), "169.254.169.254"),
        ("10/8", trapped("10.1.2.3"), "10.1.2.3"), ("172.16/12", trapped("172.16.5.5"), "172.16.5.5"),
        ("192.168/16", trapped("192.168.7.7"), "192.168.7.7"), ("100.64/10", trapped("100.64.0.9"), "100.64.0.9"),
    ]
    for name, url, says in rows:
        yield Row(f"a manifest redirected to {name}", at(is_manifest, to(url)), "forbidden", says, challenge=bearer)
        yield Row(f"a blob redirected to {name}", at(is_model, to(url)), "forbidden", says, challenge=bearer)
    for n in (301, 302, 303, 307, 308):
        yield Row(f"a blob redirected to another origin by {n}", at(is_model, to(lambda w: f"{w.other().url}/m.gguf", n)), "ok", "",
                  challenge=bearer)
    yield Row("a blob redirected to the same port elsewhere", at(is_model, lambda p, c, q: to(
        lambda w: f"{w.other(port=p.port).url}/m.gguf")(p, c, q)), "ok", "", challenge=bearer)
    yield Row("a manifest redirected to the same port elsewhere", at(is_manifest, lambda p, c, q: to(
        lambda w: f"{w.other(port=p.port).url}/v2/t/m/manifests/1")(p, c, q) if "authorization" in q.headers else None), "ok", "",
              challenge=bearer)
    yield Row("a manifest redirected to another origin", at(is_manifest, to(lambda w: f"{w.other().url}/v2/t/m/manifests/1")), "ok", "",
              challenge=bearer)
    yield Row("a text redirected to another origin", at(is_license, to(lambda w: f"{w.other().url}/v2/t/m/blobs/{digest(LICENSE)}")), "ok", "",
              challenge=bearer)
    yield Row("another origin that wants a login", at(is_model, to(lambda w: w.other(at(is_any, status(
        401, www_authenticate='Basic realm="x"'))).url + "/m.gguf")), "forbidden", "", challenge=bearer)
    yield Row("another origin that wants our token", at(is_model, to(lambda w: w.other(at(is_any, lambda p, c, q: c.reply(
        401, www_authenticate=f'Bearer realm="{p.url}/token"'))).url + "/m.gguf")), "forbidden", "", challenge=bearer)
    yield Row("another origin that leads to loopback", at(is_model, to(lambda w: w.other(at(is_any, to(trapped("127.0.0.1")))).url + "/m.gguf")),
              "forbidden", "127.0.0.1", challenge=bearer, big=True)
    yield Row("there and back with the token", at(is_model, lambda p, c, q: None if "back" in q.path else to(
        lambda w: w.other(at(is_any, to(p.url + "/back"))).url)(p, c, q)), "forbidden", "", challenge=bearer)
    yield Row("round and round", at(is_manifest, to("/v2/t/m/manifests/1")), "forbidden", "after 5 redirects")
    yield Row("a blob round and round", at(is_model, lambda p, c, q: to(q.path)(p, c, q)), "forbidden", "after 5 redirects")
    yield Row("six hops", at(is_any, lambda p, c, q: to(f"/hop/{p.count()}")(p, c, q) if is_manifest(p, q) or p.asked < 9 else None), "forbidden",
              "after 5 redirects")
    yield Row("a relative path out of the root", at(is_manifest, lambda p, c, q: to("../../../../../../m.gguf")(p, c, q)), "format", "")
    yield Row("a location of 100 KB", at(is_manifest, to("https://x.example/" + "x" * 100_000)), "too_large", "a head of more")
    yield Row("a location that splits", at(is_manifest, b"HTTP/1.1 302 x\r\nLocation: /a\rX: b\r\nContent-Length: 0\r\n\r\n"), "forbidden", "")


# ---- tokens -------------------------------------------------------------------------------------------------------------

def realm(url):
    return lambda w, p: f'Bearer realm="{url(w, p) if callable(url) else url}",service="s"'


def tokens():
    yield Row("a realm on another host", None, "forbidden", "which is another host", challenge=realm(lambda w, p: f"{w.trap(OTHER).url}/token"))
    yield Row("a realm of plain http", None, "forbidden", "by plain http", challenge=realm(lambda w, p: f"{w.trap(PUBLIC, tls=False).url}/token"))
    yield Row("a realm on loopback", None, "forbidden", "another host", challenge=realm(lambda w, p: f"{w.trap('127.0.0.1').url}/token"))
    yield Row("a realm at the cloud's metadata", None, "forbidden", "", challenge=realm(
        lambda w, p: f"{w.trap('169.254.169.254', tls=False).url}/token"))
    for name, text in (("of a file", "file:///etc/passwd"), ("with a user", f"https://u:p@{PUBLIC}/token"), ("of a path", "/token"),
                       ("with a fragment", f"https://{PUBLIC}/token#x"), ("with blanks", f"https://{PUBLIC}/a b"), ("of ftp", f"ftp://{PUBLIC}/")):
        yield Row(f"a realm {name}", None, "format", "no URL", challenge=realm(text))
    for name, text, code, says in (
            ("no realm", 'Bearer service="x"', "format", "names no realm"), ("an empty realm", 'Bearer realm=""', "format", "names no realm"),
            ("an open quote", 'Bearer realm="', "format", "cannot be read"), ("only commas", ",,,,", "forbidden", "no kind that is known"),
            ("bytes", "\xff\xfe", "forbidden", "no kind"), ("an equals sign", "=", "format", "cannot be read"),
            ("8 KB", "Bearer realm=\"https://x/" + "x" * 8000, "format", "at most 4096"), ("Digest", 'Digest realm="x", nonce="y"', "forbidden", "no kind that is known"),
            ("Negotiate", "Negotiate YII=", "forbidden", "no kind that is known"), ("a newline", 'Bearer realm="a\\\r\n b"', "format", "cannot be read"),
            ("a tab in the realm", 'Bearer realm="https://a\tb"', "forbidden", "no kind")):
        yield Row(f"a challenge of {name}", at(is_manifest, lambda p, c, q, text=text: c.reply(401, b"{}", www_authenticate=text)), code, says)
    yield Row("a challenge of nothing", at(is_manifest, status(401, b"{}")), "forbidden", "no kind that is known")
    for name, body, code, says in (
            ("64 KiB and 1", b'{"token":"' + b"x" * 65526 + b'"}', "too_large", ""), ("32 KiB and 1", b'{"token":"' + b"x" * 32769 + b'"}', "format", "none that can be sent"),
            ("a number", b'{"token":7}', "format", "none that can be sent"), ("a list", b'["t"]', "format", "none that can be sent"),
            ("null", b'{"token":null}', "format", "none that can be sent"), ("nothing", b"", "format", "no JSON"), ("a page", b"<html>", "format", "no JSON"),
            ("two lines", b'{"token":"a\\r\\nX-Evil: 1"}', "format", "none that can be sent"), ("a NUL", b'{"token":"a\\u0000b"}', "format", ""),
            ("another script", '{"token":"\u0442\u043e\u043a\u0435\u043d"}'.encode(), "format", "none that can be sent"), ("deep lists", b"[" * 60000, "format", "no JSON")):
        yield Row(f"a token of {name}", at(is_token, status(200, body)), code, says, challenge=bearer)
    yield Row("a token that lives for -10^18 s", at(is_token, status(200, json.dumps({"token": TOKEN, "expires_in": -10 ** 18}).encode())), "ok", "", challenge=bearer)
    yield Row("a token that lives for ever", at(is_token, status(200, json.dumps({"token": TOKEN, "expires_in": 2 ** 63 - 1}).encode())), "ok", "", challenge=bearer)
    yield Row("a token server that redirects", at(is_token, to(trapped(OTHER))), "format", "answered 302", challenge=bearer)
    yield Row("a token server that never answers", at(is_token, hang()), "timeout", "sent nothing for 1", challenge=bearer)
    yield Row("a token server that never ends", at(is_token, forever(ok("Connection: close"), b" " * 65536)), "too_large", "", challenge=bearer)
    yield Row("a token server that wants a token", at(is_token, status(401, b"{}", www_authenticate='Bearer realm="https://x.example/"')), "forbidden", "",
              challenge=bearer)
    yield Row("a token server with troubles", at(is_token, status(500)), "io", "answered 500", challenge=bearer)
    yield Row("401 again and again", at(is_manifest, lambda p, c, q: c.reply(401, b"{}", www_authenticate=bearer(None, p))), "forbidden", "wants a name")
    yield Row("401 with a new challenge each time", at(is_manifest, lambda p, c, q: c.reply(401, b"{}", www_authenticate=f'Bearer realm="{p.url}/token",scope="s:{p.count()}"')),
              "forbidden", "wants a name")
    yield Row("401 to each blob", at(is_model, lambda p, c, q: c.reply(401, b"{}", www_authenticate=bearer(None, p))), "forbidden", "")
    yield Row("401 to each text", at(is_license, lambda p, c, q: c.reply(401, b"{}", www_authenticate=bearer(None, p))), "forbidden", "")
    yield Row("401 to a text, once", at(is_license, lambda p, c, q: c.reply(401, b"{}", www_authenticate=bearer(None, p)), times=1), "ok", "",
              challenge=bearer)
    yield Row("403", at(is_manifest, status(403, b'{"errors":[{"message":"no\\u001b[2J\\u202ey\\u0085\\u00e9"}]}')), "forbidden", "no?[2J?y?\u00e9")
    yield Row("403 to a blob", at(is_model, status(403)), "forbidden", "answered 403")
    yield Row("Basic asked for by a blob's place", at(is_model, to(lambda w: w.other(at(is_any, status(401, www_authenticate='Basic realm="x"'))).url)), "forbidden", "")


def busy():
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 86400))
    for name, value in (("10^9 seconds", "1000000000"), ("a day by its date", date)):
        yield Row(f"429, come back in {name}", at(is_manifest, status(429, b"{}", retry_after=value)), "io", "too often")
    for name, value in (("1 second", "1"), ("-7 seconds", "-7"), ("nonsense", "soon"), ("a date gone by", "Fri, 31 Dec 1999 23:59:59 GMT"), ("2^80 seconds", str(2 ** 80)), ("nothing", None)):
        yield Row(f"429, come back in {name}", at(is_manifest, status(429, b"{}", retry_after=value)), "io", "too often")
        yield Row(f"a blob's 429, come back in {name}", at(is_model, status(429, b"", retry_after=value)), "io", "too many requests")
    yield Row("a blob's 429, come back in 10^9 seconds", at(is_model, status(429, b"", retry_after="1000000000")), "io", "too many requests")
    yield Row("429 to a text, twice", at(is_license, status(429), times=2), "ok", "")
    yield Row("429 once", at(is_any, status(429, b"", retry_after="0"), times=2), "ok", "")
    for n in (500, 502, 503, 504):
        yield Row(f"{n} for ever", at(is_manifest, status(n, b"<html>")), "io", f"answered {n}")
        yield Row(f"a blob's {n} for ever", at(is_model, status(n, b"<html>")), "io", f"answered {n}")
        yield Row(f"a text's {n} for ever", at(is_license, status(n)), "io", f"answered {n}")
    yield Row("503 and then the blob", at(is_model, status(503), times=2), "ok", "", give_up=6)
    yield Row("500 and then the manifest", at(is_manifest, status(500), times=2), "ok", "")
    yield Row("an error without end", at(is_manifest, forever(b"HTTP/1.1 500 x\r\nConnection: close\r\n\r\n", b"x" * 65536)), "io", "answered 500")
    yield Row("404 to the blob", at(is_model, status(404)), "not_found", "it is not there")
    yield Row("204", at(is_manifest, status(204)), "format", "answered 204")
    yield Row("204 to the blob", at(is_model, status(204)), "io", "answered 204")
    yield Row("304", at(is_manifest, status(304)), "format", "answered 304")


def tls():
    for name in ("elsewhere", "expired", "stranger"):
        yield Row(f"a certificate of {name}", None, "forbidden", "checking the certificate of", how=lambda w, name=name: {"certificate": w.certificates[name]})
    yield Row("no TLS on its port", None, "io", "TLS", how=lambda w: {"wire": lambda s: s.sendall(b"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n")})
    yield Row("a handshake that never ends", None, "timeout", "connecting to", how=lambda w: {"wire": lambda s: time.sleep(30)}, seconds=70)
    yield Row("a handshake cut", None, "io", "TLS", how=lambda w: {"wire": lambda s: s.close()})
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        yield Row(f"{version.name} alone", None, "io", "TLS 1.2 is the oldest", how=lambda w, version=version: {"version": version})
    yield Row("another TLS", None, "io", "TLS", how=lambda w: {"wire": lambda s: s.sendall(b"\x15\x03\x01\x00\x02\x02\x28")})


# ---- the hub --------------------------------------------------------------------------------------------------------------

def on_hub(name="org/tiny:Q8_0"):
    return lambda w, p: f"hf.co/{name}"


def tree_of(hub, repo):
    return f"/api/models/{repo}/tree/{hub.repos[repo].names['main']}"


def listing(hub, repo):
    """What the hub would say itself."""
    rows = []
    for path, f in hub.repos[repo].revisions[hub.repos[repo].names["main"]].items():
        rows.append({"type": "file", "oid": f.oid, "size": f.size, "path": path})
        if f.large:
            rows[-1]["lfs"] = {"oid": f.sha256, "size": f.size, "pointerSize": f.pointer_size}
    return rows


def listed(change, repo=REPO):
    """The list of files, changed: change(rows) gives bytes, another list, or None."""
    def lie(world, hub):
        def answer(h):
            rows = listing(hub, repo)
            new = change(rows)
            return h.answer(200, new if isinstance(new, bytes) else rows if new is None else new)
        hub.lies[tree_of(hub, repo)] = answer
    return lie


def first_file(**keys):
    def change(rows):
        rows[next(i for i, r in enumerate(rows) if r["path"].endswith(".gguf"))].update(keys)
    return listed(change)


def about(change):
    def lie(world, hub):
        def answer(h):
            doc = {"sha": hub.repos[REPO].names["main"], "gated": False, "cardData": {}}
            new = change(doc)
            return h.answer(200, new if isinstance(new, bytes) else doc)
        hub.lies[f"/api/models/{REPO}"] = answer
    return lie


def paged(link):
    def lie(world, hub):
        hub.lies[tree_of(hub, REPO)] = lambda h: h.answer(200, [], Link=f'<{link(world, hub)}>; rel="next"')
    return lie


def resolved(answer, name="tiny-Q8_0.gguf"):
    """What is said where the model's file should be: f(world, handler)."""
    def lie(world, hub):
        hub.lies[f"/{REPO}/resolve/{hub.repos[REPO].names['main']}/{name}"] = lambda h: answer(world, h)
    return lie


def damage(world, hub):
    file = hub.by_digest(digest(world.model)[7:])
    file.data = file.data[:-1] + bytes([file.data[-1] ^ 1])


def shorten(world, hub):
    file = hub.by_digest(digest(world.model)[7:])
    file.data = file.data[:-5]
    file.size = len(file.data)


def hubs():
    for name, path in (("..", "../../etc/x-Q8_0.gguf"), (".. within", "a/../../x-Q8_0.gguf"), ("a root", "/etc/x-Q8_0.gguf"), ("a newline", "x\n-Q8_0.gguf"),
                       ("an escape", "\x1b[2J-Q8_0.gguf"), ("a NUL", "x\0-Q8_0.gguf"), ("a backslash", "..\\x-Q8_0.gguf"), ("nothing", ""),
                       ("a number", 7), ("10,000 letters", "x" * 10_000 + "-Q8_0.gguf"), ("two slashes", "a//x-Q8_0.gguf")):
        yield Row(f"hub: a file's name of {name}", None, "format", "", source=on_hub(), hub=first_file(path=path))
    yield Row("hub: 10^6 files", None, "too_large", "", source=on_hub(), hub=listed(lambda r: b"[" + b'{"type":"file"},' * 999_999 + b"{}]"))
    yield Row("hub: a page to itself", None, "too_large", "more than", source=on_hub(), hub=paged(lambda w, h: h.url + tree_of(h, REPO)), seconds=30)
    yield Row("hub: a page elsewhere", None, "forbidden", "at another place", source=on_hub(), hub=paged(lambda w, h: w.trap(OTHER).url + "/x"))
    yield Row("hub: a page on loopback", None, "forbidden", "at another place", source=on_hub(), hub=paged(lambda w, h: w.trap("127.0.0.1").url + "/x"))
    yield Row("hub: a page by http", None, "forbidden", "at another place", source=on_hub(), hub=paged(lambda w, h: h.url.replace("https", "http") + "/x"))
    yield Row("hub: a page in a file", None, "format", "no URL", source=on_hub(), hub=paged(lambda w, h: "file:///etc/passwd"))
    yield Row("hub: other bytes", None, "format", "thrown away", source=on_hub(), hub=damage)
    yield Row("hub: a shorter file", None, "format", "thrown away", source=on_hub(), hub=shorten)
    for n in (-1, 2 ** 63, 2 ** 62, 1.5, "7", None):
        yield Row(f"hub: a file's size of {n!r}", None, "format", "", source=on_hub(), hub=first_file(size=n))
    yield Row("hub: two sizes", None, "format", "two sizes", source=on_hub(), hub=first_file(size=5))
    yield Row("hub: a digest of a path", None, "format", "64 hex digits", source=on_hub(), hub=first_file(lfs={"oid": "../" * 21 + "x", "size": 300004}))
    yield Row("hub: an oid of a path", None, "format", "40 hex digits", source=on_hub(), hub=first_file(oid="../../x"))
    yield Row("hub: a shard missing", None, "format", "number 2 is missing", source=on_hub(SHARDED), hub=listed(lambda r: [x for x in r if "00002-of" not in x["path"]], SHARDED))
    yield Row("hub: a shard of 99999", None, "format", "1 to 1024 are taken", source=on_hub(SHARDED), hub=listed(lambda r: [{**x, "path": x["path"].replace("00002.g", "99999.g")} for x in r], SHARDED))
    yield Row("hub: no list", None, "format", "list", source=on_hub(), hub=listed(lambda r: b"{}"))
    yield Row("hub: a list of nothing", None, "not_found", "", source=on_hub(), hub=listed(lambda r: []))
    yield Row("hub: deep lists", None, "format", "nested", source=on_hub(), hub=listed(lambda r: b"[" * 100_000))
    yield Row("hub: a list without end", None, "too_large", "", source=on_hub(), hub=listed(lambda r: b" " * (20 << 20)))
    yield Row("hub: a page for the list", None, "format", "JSON", source=on_hub(), hub=listed(lambda r: b"<html>sign in</html>"))
    for name, sha in (("a path", "../../../x"), ("39 digits", "a" * 39), ("nothing", ""), ("a number", 7), ("a newline", "a" * 39 + "\n")):
        yield Row(f"hub: a commit of {name}", None, "format", "commit", source=on_hub(), hub=about(lambda d, sha=sha: d.update(sha=sha)))
    yield Row("hub: a licence with an escape", None, "ok", "", source=on_hub(), hub=about(lambda d: d["cardData"].update(license="\x1b[2Jx")),
              after=lambda w, p: b"\x1b" in w.told and w.fault("an escape was told"))
    yield Row("hub: a page for the file", None, "format", "", source=on_hub(), hub=resolved(lambda w, h: h.answer(200, b"<html>sign in</html>", Content_Type="text/html")))
    yield Row("hub: a file on loopback", None, "forbidden", "127.0.0.1", source=on_hub(), hub=resolved(lambda w, h: h.answer(302, b"", Location=w.trap("127.0.0.1").url)))
    yield Row("hub: a file at the cloud's metadata", None, "forbidden", "169.254", source=on_hub(), hub=resolved(lambda w, h: h.answer(302, b"", Location=w.trap("169.254.169.254").url)))
    yield Row("hub: a file by http", None, "forbidden", "only https", source=on_hub(), hub=resolved(lambda w, h: h.answer(302, b"", Location=w.trap(OTHER, tls=False).url)))
    yield Row("hub: a file elsewhere that wants a login", None, "forbidden", "", source=on_hub(), hub=resolved(lambda w, h: h.answer(
        302, b"", Location=w.other(at(is_any, status(401, www_authenticate="Basic"))).url)))
    yield Row("hub: 429, come back in 10^9 seconds", None, "busy", "too many", source=on_hub(), hub=lambda w, h: h.throttle.extend([(429, 10 ** 9)] * 9))
    yield Row("hub: 503 once", None, "ok", "", source=on_hub(), hub=lambda w, h: h.throttle.append((503, 0)))
    yield Row("hub: 500 for ever", None, "io", "status 500", source=on_hub(), hub=lambda w, h: h.throttle.extend([(500, None)] * 50))
    yield Row("hub: a redirect of its API elsewhere", None, "ok", "", source=on_hub(), hub=lambda w, h: h.lies.update(
        {f"/api/models/{REPO}": lambda k: k.answer(307, b"", Location=w.other(at(is_any, status(200, json.dumps({"sha": h.repos[REPO].names["main"]}).encode()))).url)}))
    yield Row("hub: a packed list", None, "forbidden", "content-encoding", source=on_hub(), hub=lambda w, h: h.lies.update(
        {tree_of(h, REPO): lambda k: k.answer(200, gzip.compress(bytes(1 << 20)), Content_Encoding="gzip")}))


# ---- plain URLs, mirrors ---------------------------------------------------------------------------------------------------

def url(path="/m.gguf"):
    return lambda w, p: f"{p.url}{path}"


def no_goodbye(p, c, q):
    """Ends as if somebody else had cut the line: TLS would say so."""
    c.send(ok("Connection: close", p.data(q)[:200_000]))
    c.sock.close()
    return False


def urls():
    yield Row("url: honest", None, "ok", "", source=url())
    yield Row("url: honest, by plain http, as is allowed", None, "ok", "", source=url(), how=lambda w: {"tls": False}, more=lambda w: ("--insecure",))
    yield Row("url: a page", at(is_file, status(200, b"<html>GGUF</html>", content_type="text/html")), "format", "is a page", source=url())
    yield Row("url: a page in parts", at(is_file, status(206, b"<htm", content_range="bytes 0-3/900")), "format", "not GGUF", source=url())
    yield Row("url: a size of 2^63", at(is_file, lambda p, c, q: c.reply(206, b"GGUF", content_range=f"bytes 0-3/{2 ** 63}")), "too_large", "bytes", source=url())
    yield Row("url: no file", at(is_file, status(404)), "not_found", "no file", source=url())
    yield Row("url: empty", at(is_file, status(416, content_range="bytes */0")), "format", "empty", source=url())
    yield Row("url: a body that never ends", at(is_file, forever(ok("Transfer-Encoding: chunked"), b"10000\r\n" + b"GGUF" * 16384 + b"\r\n")), "io", "and the disk has room for no more", source=url(), room="24m",
              after=lambda w, p: any((w.home / "tmp").iterdir()) and w.fault("what nobody can go on with fills the disk"))
    yield Row("url: a stream without a goodbye", at(is_file, no_goodbye), "format", "neither its length nor its end", source=url())
    yield Row("url: changes between ranges", at(is_file, lambda p, c, q: ranged(lambda d, a, b: (d[a:b + 1], {**part(a, b, len(d)), "etag": f'"{p.count()}"'}))(p, c, q)),
              "conflict", "changes each time", source=url(), big=True)
    yield Row("url: grows between ranges", at(is_file, lambda p, c, q: ranged(lambda d, a, b: (d[a:b + 1], part(a, b, len(d) + p.count())))(p, c, q)),
              "format", "", source=url(), big=True)
    yield Row("url: HEAD says less than GET", at(is_file, lambda p, c, q: c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") or True
                                               if q.method == "HEAD" else c.reply(200, p.data(q))), "format", "where 9 were promised", source=url())
    yield Row("url: pinned, and other bytes", at(is_file, ranged(lambda d, a, b: true_part(d, a, b) if b < 9 else flipped(d, a, b))), "format", "thrown away",
              source=lambda w, p: f"{p.url}/m.gguf@{digest(w.model)}")
    yield Row("url: to loopback", at(is_file, to(trapped("127.0.0.1"))), "forbidden", "127.0.0.1", source=url())
    yield Row("url: wants a login", at(is_file, status(401, www_authenticate='Basic realm="x"')), "forbidden", "not open to all", source=url())
    yield Row("url: wants a login later", at(is_file, lambda p, c, q: None if q.range()[1] == 3 else c.reply(401)), "forbidden", "not open to all (status 401)",
              source=url())
    yield Row("url: a packed file", at(is_file, packed("gzip", 1 << 20)), "forbidden", "content-encoding", source=url())
    yield Row("url: a folder for a name", None, "not_found", "no file", source=url("/..%2f..%2fx.gguf"))
    yield Row("url: with a user", None, "invalid", "", source=lambda w, p: f"https://u:p@{p.name}/m.gguf")


def mirrored(lie):
    return lambda w: ("--mirror", w.place("mirror", host=OTHER, may=(), lie=lie).url)


def mirrors():
    for name, lie in (("wrong bytes", at(is_model, ranged(flipped))), ("another manifest with its digest", at(is_manifest, lambda p, c, q: c.reply(200, b"{}", docker_content_digest=digest(p.data(q))))),
                      ("resets", at(is_any, reset())), ("500", at(is_any, status(500))), ("401", at(is_any, status(401, www_authenticate='Basic realm="x"'))),
                      ("a bomb", at(is_any, packed("gzip", 1 << 20))), ("a longer blob", at(is_model, ranged(lambda d, a, b: (d[a:b + 1], part(a, b, len(d) + 1))))),
                      ("no ranges", at(is_model, lambda p, c, q: c.reply(200, p.data(q)))), ("truncated blobs", at(is_model, cut_body)),
                      ("no answer to blobs", at(is_model, hang())), ("a redirect to loopback", at(is_model, to(trapped("127.0.0.1")))), ("a wrong text", at(is_license, status(200, LICENSE[::-1])))):
        yield Row(f"a mirror of {name}", lie and None, "ok", "", more=mirrored(lie), challenge=bearer, give_up=6, seconds=15)
    yield Row("a mirror's manifest that is no model", None, "ok", "", more=mirrored(at(is_manifest, status(200, b"{}"))), challenge=bearer)


# ---- pushes ----------------------------------------------------------------------------------------------------------------

def is_post(p, q):
    return q.method == "POST"


def is_put_blob(p, q):
    return q.method == "PUT" and "/manifests/" not in q.path


def is_bytes(p, q):
    return q.method in ("PUT", "PATCH") and "/manifests/" not in q.path


def is_put_manifest(p, q):
    return q.method == "PUT" and is_manifest(p, q)


def drained(answer):
    """Takes the body, and then answers."""
    def f(p, c, q):
        c.read(int(q.headers.get("content-length", 0)))
        return answer(p, c, q)
    return f


def pushes():
    push = {"command": "push", "challenge": bearer}
    yield Row("push: honest", None, "ok", "", **push)
    yield Row("push: to another origin", at(is_post, lambda p, c, q: c.reply(202, location=p.world.other().url + "/v2/t/m/blobs/uploads/1")), "ok", "", **push)
    for name, where in (("loopback", trapped("127.0.0.1")), ("the cloud's metadata", trapped("169.254.169.254")), ("http", trapped(OTHER, tls=False)),
                        ("its own plain port", trapped(PUBLIC, tls=False))):
        yield Row(f"push: to {name}", at(is_post, lambda p, c, q, where=where: c.reply(202, location=where(p.world))), "forbidden", "", **push)
    for name, where in (("a file", "file:///etc/passwd"), ("a socket", "unix:///x"), ("a user", "https://u:p@192.0.2.1/"), ("//", "//192.0.2.1/x"),
                        ("a path upwards", "../../../x")):
        yield Row(f"push: to {name}", at(is_post, lambda p, c, q, where=where: c.reply(202, location=where)), "format", "no URL", **push)
    yield Row("push: to bytes", at(is_post, status(202, location="https://\x01/")), "format", "without saying where", **push)
    yield Row("push: 202 without a location", at(is_post, status(202)), "format", "without saying where", **push)
    yield Row("push: 200 to the beginning", at(is_post, status(200)), "format", "answered 200", **push)
    yield Row("push: 201 to the beginning", at(is_post, status(201)), "format", "answered 201", **push)
    yield Row("push: another digest answered", at(is_put_blob, drained(status(201, docker_content_digest=digest(b"")))), "format", "and not as", **push)
    yield Row("push: another digest of the manifest", at(is_put_manifest, drained(status(201, docker_content_digest=digest(b"")))), "format", "and not as", **push)
    for name, where in (("a layer", is_put_blob), ("the manifest", is_put_manifest)):
        yield Row(f"push: {name} by SHA-512", at(where, drained(status(201, docker_content_digest="sha512:" + "0" * 128))), "format", "as sha512:", **push)
    yield Row("push: 413", at(is_bytes, drained(status(413))), "too_large", "takes no more bytes", **push)
    yield Row("push: 400", at(is_bytes, drained(status(400, b'{"errors":[{"message":"DIGEST_INVALID"}]}'))), "format", "DIGEST_INVALID", **push)
    yield Row("push: 403", at(is_post, status(403)), "forbidden", "has refused", **push)
    yield Row("push: 401 again and again", at(is_any, drained(lambda p, c, q: None if is_token(p, q) else c.reply(401, b"", www_authenticate=bearer(None, p)))), "forbidden", "", **push)
    yield Row("push: never content", at(is_bytes, drained(status(500))), "io", "answered 500", **{**push, "seconds": 40})
    yield Row("push: reset in the middle", at(is_bytes, reset()), "io", "", **{**push, "seconds": 40})
    yield Row("push: no answer", at(is_bytes, drained(hang())), "timeout", "sent nothing for 1", **{**push, "seconds": 40})
    yield Row("push: redirected to loopback", at(is_bytes, drained(to(trapped("127.0.0.1"), 307))), "forbidden", "127.0.0.1", **push)
    yield Row("push: redirected to another origin", at(is_bytes, drained(to(lambda w: w.other().url + "/v2/t/m/blobs/uploads/2", 307))), "ok", "", **push)
    yield Row("push: HEAD says it is there", lambda p, c, q: c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") or True if q.method == "HEAD" else None, "ok", "", **push)
    yield Row("push: has more than it was sent", at(is_bytes, drained(lambda p, c, q: c.reply(202 if q.method == "PATCH" else 416, range="0-99999999999999", location=q.path))), "format", "answered 416", **{**push, "seconds": 40})
    yield Row("push: has 2^64 bytes", at(is_bytes, drained(lambda p, c, q: c.reply(202, range="0-18446744073709551615", location=q.path))), "ok", "", **push)
    yield Row("push: the manifest refused", at(is_put_manifest, drained(status(400, b'{"errors":[{"code":"MANIFEST_INVALID"}]}'))), "format", "MANIFEST_INVALID", **push)
    yield Row("push: an endless answer", at(is_bytes, drained(forever(b"HTTP/1.1 400 x\r\nConnection: close\r\n\r\n", b"x" * 65536))), "format", "answered 400", **push)
    yield Row("push: a packed answer", at(is_post, packed("gzip", 1 << 20)), "forbidden", "content-encoding", **push)


def rows():
    return [row for part in (lengths, resets, codings, ranges, manifests, redirects, tokens, busy, tls, hubs, urls, mirrors, pushes) for row in part()]
