#!/usr/bin/env python3
"""Pulls from and pushes to Debian's docker-registry, on loopback.

  registry_test.py MOVER [CASE...]     MOVER: tests/store/mover.c
"""
import base64
import json
import os
import pathlib
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import check_store  # noqa: E402
from net import Ca, Hostile, Nginx, flip, free_port, need  # noqa: E402
from net.registry import (DOCKER, IMAGE_CONFIG, OCI, OLLAMA, Registry, TokenMaker, digest, make_manifest,  # noqa: E402
                          put, put_blob)

MOVER = None
CASES = []


def case(f):
    CASES.append(f)
    return f


def gguf(seed, size=3000):
    return b"GGUF" + random.Random(seed).randbytes(size - 4)


def settled(nginx):
    """Its log, when the last request has got into it (that is after its reply)."""
    rows = None
    while rows != (rows := nginx.log()):
        time.sleep(0.1)
    return rows


class Ran:
    def __init__(self, status, out, err):
        self.status, self.err = status, err
        self.rows = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]
        self.allocations = int((re.findall(r"allocations=(\d+)", err) or ["0"])[-1])
        self.events = [r for r in self.rows if "status" in r]
        self.statuses = []
        for e in self.events:
            if not self.statuses or self.statuses[-1] != e["status"]:
                self.statuses.append(e["status"])
        self.sentence = next((line for line in reversed(err.splitlines()) if not line.startswith("ts=")), "")
        self.model = next((r for r in reversed(self.rows) if "manifest" in r), None)
        self.text = out


class Store:
    def __init__(self, folder, *always):
        self.home, self.always = str(folder), always

    def words(self, *words):
        return [MOVER, self.home, *map(str, words), *self.always]

    def __call__(self, *words, good=True):
        r = subprocess.run(self.words(*words), capture_output=True, text=True, timeout=100)
        if r.returncode < 0 or "not given back" in r.stderr or "Sanitizer" in r.stderr:
            raise AssertionError(f"{words}: {r.returncode}\n{r.stderr}")
        if good is not None and (r.returncode == 0) != good:
            raise AssertionError(f"{words}: exit status {r.returncode}\n{r.stdout}{r.stderr}")
        return r.stdout if words[0] == "text" else Ran(r.returncode, r.stdout, r.stderr)


def refused(store, words, code, *parts):
    r = store(*words, good=False)
    for part in (code + ": ", *parts):
        assert part in r.sentence, f"{words}: {r.sentence!r} does not say {part!r}\n{r.err}"
    return r


def check(home):
    """The invariants, as the store was left; and once it was opened again."""
    for unopened in (True, False):
        s = check_store.Store(home, unopened)
        faults = s.check()
        s.close()
        assert not faults, faults
        Store(home)("show", "nothing-of-this-name", good=False)


def write(folder, name, data):
    path = pathlib.Path(folder) / name
    path.write_bytes(data)
    return path


def bytes_of(model, kind="model"):
    return [check_store.file_bytes(f) for f in model["files"] if f["kind"] == kind]


# ---- there and back -------------------------------------------------------------------------------------

@case
def push_and_pull(d):
    """The same bytes and the same digest on another store; what is there is not sent or fetched again."""
    shards = [gguf(1), gguf(2, 5000)]
    files = [write(d, f"m-0000{i + 1}-of-00002.gguf", s) for i, s in enumerate(shards)]
    a, b = Store(d / "a"), Store(d / "b")
    with Registry(d / "r") as r:
        front = free_port()
        conf = f"server {{ listen 127.0.0.1:{front}; location / {{ proxy_pass {r.url}; proxy_set_header Host $http_host; }} }}"
        with Nginx(d / "n", conf, [("127.0.0.1", front)]) as n:
            name = f"http://127.0.0.1:{front}/me/big:v1"
            a("import", "mine", *files)
            mine = a("show", "mine").model
            pushed = a("push", "mine", name)
            assert pushed.statuses == ["retrieving manifest", f"pushing {digest(shards[0])[7:19]}",
                                       f"pushing {digest(shards[1])[7:19]}",
                                       f"pushing {json.loads(mine['manifest'])['config']['digest'][7:19]}",
                                       "pushing manifest", "success"], pushed.statuses
            asked = len(settled(n))
            assert a("push", "mine", name).statuses == pushed.statuses
            assert [m for _, m, *_ in settled(n)[asked:]] == ["HEAD", "HEAD", "HEAD", "PUT"], settled(n)[asked:]

            pulled = b("pull", name)
            assert pulled.statuses == ["pulling manifest", f"pulling {digest(shards[0])[7:19]}",
                                       f"pulling {digest(shards[1])[7:19]}",
                                       f"pulling {json.loads(mine['manifest'])['config']['digest'][7:19]}",
                                       "verifying sha256 digest", "writing manifest", "success"], pulled.statuses
            assert bytes_of(pulled.model) == shards
            for key in ("digest", "manifest", "config"):
                assert pulled.model[key] == mine[key], key
            assert pulled.model["name"] == f"127.0.0.1:{front}/me/big:v1"
            assert pulled.model["source"] == name and pulled.model["origin"] == "registry"
            assert pulled.model["revision"] == "sha256:" + mine["digest"]

            asked = len(settled(n))
            again = b("pull", name)
            assert again.statuses == pulled.statuses and again.model == pulled.model, [(k, again.model[k], pulled.model[k]) for k in again.model if again.model[k] != pulled.model[k]]
            assert [row[1:3] for row in settled(n)[asked:]] == [("GET", "/v2/me/big/manifests/v1")], settled(n)[asked:]

            asked = len(settled(n))
            other = b("pull", name, "here:too").model
            assert other["name"] == "here:too" and other["digest"] == mine["digest"]
            assert len(settled(n)) == asked + 1, settled(n)[asked:]
            assert b("pull", f"{name}@sha256:{mine['digest']}").model["digest"] == mine["digest"]
            assert settled(n)[-1][2] == f"/v2/me/big/manifests/sha256:{mine['digest']}"
            assert b("pull", f"http://127.0.0.1:{front}/me/big@sha256:{mine['digest']}", "pinned").model["name"] == "pinned:latest"
            refused(b, ("pull", f"http://127.0.0.1:{front}/me/big:v2"), "not_found", "me/big:v2", "it has the tags v1")
            refused(b, ("pull", f"http://127.0.0.1:{front}/me/none"), "not_found", "me/none:latest")


@case
def texts(d):
    """Templates, licences and parameters go into the catalog and come out again byte for byte."""
    model, config = gguf(3), b'{"model_format": "gguf", "x": "\\u0000y"}\n'
    layers = [(model, OLLAMA + "model", None), ("{{ .Prompt }} \u00e9".encode(), OLLAMA + "template", None),
              (b"MIT\n", OLLAMA + "license", None), (b"Apache\r\n", OLLAMA + "license", None),
              (b'{"stop":["<|x|>"]}', OLLAMA + "params", None), (b"", OLLAMA + "system", None)]
    a, b = Store(d / "a"), Store(d / "b")
    with Registry(d / "r") as r, Registry(d / "r2") as r2:
        sent = put(r, "lib/x", "1", layers, (config, IMAGE_CONFIG))
        m = a("pull", f"{r.url}/lib/x:1").model
        assert m["manifest"].encode() == sent and m["digest"] == digest(sent)[7:]
        assert a("text", f"{r.host}/lib/x:1", "template", 0).encode() == layers[1][0]
        assert [a("text", f"{r.host}/lib/x:1", "license", i) for i in (0, 1)] == ["MIT\n", "Apache\n"]
        a("push", f"{r.host}/lib/x:1", f"{r2.url}/else/where:9")
        status, got, head = r2.ask("GET", "/v2/else/where/manifests/9", headers={"Accept": DOCKER})
        assert status == 200 and got == sent and head["content-type"] == DOCKER
        for data, *_ in [*layers, (config,)]:
            assert r2.ask("GET", f"/v2/else/where/blobs/{digest(data)}")[1] == data
        assert b("pull", f"{r2.url}/else/where:9").model["digest"] == m["digest"]


@case
def other_shapes(d):
    """What oras and Docker's model runner push, and an index; and what is no model."""
    m, mm, text = gguf(4), gguf(5), b"Apache-2.0"
    a, b = Store(d / "a"), Store(d / "b")
    empty = (b"{}", "application/vnd.oci.empty.v1+json")
    with Registry(d / "r") as r:
        shapes = {
            "oras": put(r, "t/oras", "1", [(m, "application/octet-stream", "dir/model.gguf")], empty, OCI,
                        artifactType="application/vnd.example.model"),
            "odd": put(r, "t/odd", "1", [(m, "application/vnd.example.weights.v7", "Model.GGUF"),
                                         (mm, "application/vnd.example.weights.v7", "mmproj-Model.gguf")], empty, OCI),
            "dmr": put(r, "t/dmr", "1", [(m, "application/vnd.docker.ai.gguf.v3", None),
                                         (text, "application/vnd.docker.ai.license", None),
                                         (mm, "application/vnd.docker.ai.mmproj", None)],
                       (b'{"config":{"format":"gguf"}}', "application/vnd.docker.ai.model.config.v0.1+json"), OCI),
        }
        for shape, sent in shapes.items():
            got = a("pull", f"{r.url}/t/{shape}:1").model
            assert got["manifest"].encode() == sent, shape
            assert bytes_of(got) == [m], shape
            if shape != "oras":
                assert bytes_of(got, "projector") == [mm], shape
            a("push", f"{r.host}/t/{shape}:1", f"{r.url}/again/{shape}:2")
            assert r.ask("GET", f"/v2/again/{shape}/manifests/2", headers={"Accept": OCI})[1] == sent, shape
            assert b("pull", f"{r.url}/again/{shape}:2").model["digest"] == digest(sent)[7:]
        assert a("text", f"{r.host}/t/dmr:1", "license", 0) == text.decode()

        one = {"mediaType": OCI, "digest": digest(shapes["oras"]), "size": len(shapes["oras"])}
        two = {"mediaType": OCI, "digest": digest(put(r, "t/oras", "x", [(b"x", "application/x", None)], empty, OCI)),
               "size": 1}
        index = "application/vnd.oci.image.index.v1+json"

        def put_index(tag, *entries):
            body = json.dumps({"schemaVersion": 2, "mediaType": index, "manifests": entries}).encode()
            assert r.ask("PUT", f"/v2/t/oras/manifests/{tag}", body, {"Content-Type": index})[0] == 201
        two["size"] = len(r.ask("GET", "/v2/t/oras/manifests/x", headers={"Accept": OCI})[1])
        put_index("single", one)
        put_index("told", two, {**one, "artifactType": "application/vnd.example.gguf"})
        put_index("runner", two, {**one, "artifactType": "application/vnd.docker.ai.model.config.v0.1+json"})
        put_index("titled", {**two, "annotations": {"org.opencontainers.image.title": "a.txt"}, "artifactType": "text/plain"},
                  {**one, "annotations": {"org.opencontainers.image.title": "m.gguf"}})
        put_index("many", two, one)
        put_index("both", *({**e, "artifactType": "application/vnd.example.gguf"} for e in (one, two)))
        for tag in ("single", "told", "runner", "titled"):
            assert a("pull", f"{r.url}/t/oras:{tag}").model["digest"] == digest(shapes["oras"])[7:], tag
        for tag in ("many", "both"):
            refused(a, ("pull", f"{r.url}/t/oras:{tag}"), "unsupported", "an index of 2 manifests", "@sha256:")
        refused(a, ("pull", f"{r.url}/t/oras:x"), "unsupported", "layer 1 is 'application/x'")
        put(r, "t/text", "1", [(b"MIT", OLLAMA + "license", None)])
        refused(a, ("pull", f"{r.url}/t/text:1"), "unsupported", "none of its 1 layers is a GGUF model")
        put(r, "t/elf", "1", [(b"\x7fELF" + bytes(100), OLLAMA + "model", None)])
        refused(a, ("pull", f"{r.url}/t/elf:1"), "format", "no GGUF")
        assert not [p for p in (d / "a" / "tmp").iterdir()], "what is no model was kept"


@case
def moved_tag(d):
    """A tag that stands for another model: told with both digests; outdated before, not after."""
    a = Store(d / "a")
    with Registry(d / "r") as r:
        first = put(r, "t/m", "latest", [(gguf(6), OLLAMA + "model", None)])
        name = f"{r.url}/t/m"
        a("pull", name, "mine")
        a("pull", name, "kept")
        assert a("outdated", "mine").rows == [{"outdated": False, "revision": digest(first)}]
        second = put(r, "t/m", "latest", [(gguf(7), OLLAMA + "model", None)])
        assert a("outdated", "mine").rows == [{"outdated": True, "revision": digest(second)}]
        assert a("show", "mine").model["digest"] == digest(first)[7:]
        moved = a("pull", name, "mine")
        assert f"moved from {digest(first)} to {digest(second)}" in moved.statuses, moved.statuses
        assert moved.statuses[-2:] == ["removing unused layers", "success"]
        assert f"from={digest(first)} to={digest(second)}" in moved.err
        assert a("outdated", "mine").rows[0]["outdated"] is False
        assert a("outdated", "kept").rows[0]["outdated"] is True
        f = write(d, "x.gguf", gguf(8))
        a("import", "local", f)
        refused(a, ("outdated", "local"), "unsupported", "was not pulled")


@case
def plans(d):
    a = Store(d / "a")
    m, extra = gguf(9, 70000), gguf(10)
    with Registry(d / "r") as r:
        put(r, "t/m", "1", [(m, OLLAMA + "model", None)])
        put(r, "t/m", "2", [(m, OLLAMA + "model", None), (extra, OLLAMA + "projector", None), (b"MIT", OLLAMA + "license", None)])
        p = a("plan", f"{r.url}/t/m:1").rows[-1]
        assert p["missing"] == p["size"] == len(m) + 2 and not p["present"] and p["room"]
        assert [(f["kind"], f["size"], f["missing"]) for f in p["files"]] == [("config", 2, 2), ("model", len(m), len(m))]
        assert not list((d / "a" / "blobs").iterdir()) and not list((d / "a" / "tmp").iterdir())
        a("pull", f"{r.url}/t/m:1")
        p = a("plan", f"{r.url}/t/m:1").rows[-1]
        assert p["missing"] == 0 and p["present"] and p["name"] == f"{r.host}/t/m:1"
        p = a("plan", f"{r.url}/t/m:2").rows[-1]
        assert p["missing"] == len(extra) + 3 and not p["present"], p


@case
def mounts(d):
    """To another repository of the registry that it came from, no byte is sent."""
    a = Store(d / "a")
    m = gguf(11, 100000)
    with Registry(d / "r") as r:
        front = free_port()
        conf = f"server {{ listen 127.0.0.1:{front}; location / {{ proxy_pass {r.url}; proxy_set_header Host $http_host; }} }}"
        with Nginx(d / "n", conf, [("127.0.0.1", front)]) as n:
            sent = put(r, "from/m", "1", [(m, OLLAMA + "model", None), (b"MIT", OLLAMA + "license", None)])
            a("pull", f"http://127.0.0.1:{front}/from/m:1")
            a("push", f"127.0.0.1:{front}/from/m:1", f"http://127.0.0.1:{front}/to/m:2")
            asked = [row for row in settled(n) if row[2].startswith("/v2/to/m")]
            assert [row[1] for row in asked] == ["HEAD", "POST"] * 3 + ["PUT"], asked
            assert all(f"&from=from%2Fm" in row[2] and row[3] == 201 for row in asked if row[1] == "POST")
            assert r.ask("GET", "/v2/to/m/manifests/2", headers={"Accept": DOCKER})[1] == sent


@case
def urls(d):
    """A file at a URL: its manifest is the one that an import makes; a second pull fetches nothing."""
    a, b = Store(d / "a"), Store(d / "b")
    data, port = gguf(15, 700000), free_port()
    (d / "www").mkdir(mode=0o755)
    os.chmod(d, 0o755)
    write(d / "www", "Tiny-Model.gguf", data)
    with Nginx(d / "n", f"server {{ listen 127.0.0.1:{port}; root {d}/www; }}", [("127.0.0.1", port)]) as n:
        name = f"http://127.0.0.1:{port}/Tiny-Model.gguf"
        got = a("pull", name + "?key=secret#part")
        assert got.model["name"] == "tiny-model:latest" and bytes_of(got.model) == [data]
        assert got.model["source"] == name and got.model["origin"] == "url", got.model
        assert "secret" not in got.err + got.text
        sent = sum(row[4] for row in settled(n))
        assert sent < 1.2 * len(data), sent
        again = a("pull", name)
        assert again.model == got.model
        assert sum(row[4] for row in settled(n)) < sent + 1000, "it was fetched again"
        assert a("plan", name).rows[-1]["present"] and a("outdated", "tiny-model").rows[0]["outdated"] is False
        write(d / "www", "Tiny-Model.gguf", gguf(16, 700000))
        os.utime(d / "www" / "Tiny-Model.gguf", (1, 1))
        assert a("outdated", "tiny-model").rows[0]["outdated"] is True
        assert bytes_of(a("pull", name).model) == [gguf(16, 700000)]
        refused(b, ("pull", f"http://127.0.0.1:{port}/none.gguf"), "not_found", "127.0.0.1")
        refused(b, ("pull", f"file:{d}/www/Tiny-Model.gguf"), "invalid", "imported")
        refused(b, ("pull", name, "x@sha256:" + "0" * 64), "invalid", "")


@case
def urls_that_say_little(d):
    """What has neither ETag nor length is another file each time; an ETag is its URL's alone; a digest is looked for."""
    a, said = Store(d / "a"), {}

    def serve(c, q):
        data, etag = said[q.path]
        if etag:
            return c.reply(200, data, etag=f'"{etag}"')
        c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(data))
        c.send(data + b"\r\n0\r\n\r\n")
        return True
    server = Hostile(serve)
    for i, (path, etag) in enumerate((("/a.gguf", ""), ("/a.gguf", ""), ("/a.gguf", "v1"), ("/b.gguf", "v1"))):
        said[path] = gguf(90 + i), etag
        assert bytes_of(a("pull", server.url + path, "m").model) == [gguf(90 + i)], (path, etag)
    asked = len(server.requests)
    a("pull", f"{server.url}/b.gguf", "m")
    assert [q.method for q in server.requests[asked:]] == ["GET", "HEAD"], "it was fetched again"
    refused(a, ("pull", f"{server.url}/b.gguf@{digest(gguf(90))}", "m"), "format", "was promised")
    server.stop()


@case
def by_reference(d):
    a = Store(d / "a")
    path = write(d, "mine.gguf", gguf(12))
    a("reference", "mine", path)
    with Registry(d / "r") as r:
        a("push", "mine", f"{r.url}/t/mine:1")
        assert r.ask("GET", f"/v2/t/mine/blobs/{digest(gguf(12))}")[1] == gguf(12)
        path.write_bytes(gguf(13))
        refused(a, ("push", "mine", f"{r.url}/t/mine:2"), "conflict", "changed")
        assert r.ask("GET", "/v2/t/mine/manifests/2")[0] == 404


@case
def large(d):
    """In chunks, and what the registry lost is sent again."""
    a, b = Store(d / "a"), Store(d / "b")
    data = gguf(14, 40 << 20)
    a("import", "big", write(d, "big.gguf", data))
    with Registry(d / "r") as r:
        name = f"{r.url}/t/big:1"
        done = a("push", "big", name)
        seen = [e["completed"] for e in done.events if e.get("total") == len(data)]
        assert seen == sorted(seen) and seen[-1] == len(data), seen
        assert b("pull", name).model["digest"] == a("show", "big").model["digest"]
        assert bytes_of(b("show", f"{r.host}/t/big:1").model) == [data]


# ---- who may -----------------------------------------------------------------------------------------------

def certified(d):
    ca = Ca(d / "ca")
    return ca, ca.issue("here", dns=["localhost"], ips=["127.0.0.1"])


@case
def tls(d):
    ca, cert = certified(d)
    with Registry(d / "r", certificate=cert) as r:
        sent = put(r, "t/m", "1", [(gguf(20), OLLAMA + "model", None)])
        stranger, friend = Store(d / "a"), Store(d / "b", "--ca", ca.file)
        refused(stranger, ("pull", f"{r.host}/t/m:1"), "forbidden", "checking the certificate of", r.host)
        refused(friend, ("pull", f"http://{r.host}/t/m:1"), "", r.host)
        m = friend("pull", f"{r.host}/t/m:1").model
        assert m["digest"] == digest(sent)[7:] and m["source"] == f"https://{r.host}/t/m:1"
        friend("push", m["name"], f"{r.host}/t/m:2")
        assert r.ask("GET", "/v2/t/m/manifests/2", headers={"Accept": DOCKER})[1] == sent
    with Registry(d / "p") as r:
        put(r, "t/m", "1", [(gguf(20), OLLAMA + "model", None)])
        refused(Store(d / "c"), ("pull", f"{r.host}/t/m:1"), "io", r.host)
        got = Store(d / "c")("pull", f"{r.host}/t/m:1", "--insecure")
        assert got.model["source"] == f"{r.url}/t/m:1" and "plain http" in got.err
    for host in ("example.org", "127.example.org", "127.0.0.1.example.org:80", "localhost.example.org"):
        refused(Store(d / "c"), ("pull", f"http://{host}/t/m:1"), "invalid", "--insecure")


@case
def unverified(d):
    """--insecure: any certificate of the registry that is named, and of no other place that it leads to."""
    _, cert = certified(d)  # of an authority that nobody here trusts, and for another name besides
    elsewhere = Ca(d / "x").issue("x", dns=["example.org"])
    with Registry(d / "r", certificate=elsewhere) as r:
        sent = put(r, "t/m", "1", [(gguf(20), OLLAMA + "model", None)])
        a = Store(d / "a")
        refused(a, ("pull", f"{r.host}/t/m:1"), "forbidden", "checking the certificate of", r.host)
        got = a("pull", f"{r.host}/t/m:1", "--insecure")
        assert got.model["digest"] == digest(sent)[7:] and got.model["source"] == f"https://{r.host}/t/m:1"
        assert "plain http" not in got.err
        refused(a, ("push", got.model["name"], f"{r.host}/t/m:2"), "forbidden", "checking the certificate of", r.host)
        a("push", got.model["name"], f"{r.host}/t/m:2", "--insecure")
        assert r.ask("GET", "/v2/t/m/manifests/2", headers={"Accept": DOCKER})[1] == sent
        refused(a, ("pull", f"{r.host}/t/m:2"), "forbidden", "checking the certificate of", r.host)
    with Asked(None, cert) as other, Asked(None, cert) as r:
        model = gguf(31)
        r.add("t/m", "1", [(model, OLLAMA + "model", None)])
        own = r.serve

        def led(c, q):
            if digest(model) in q.path:
                return c.reply(302, location=f"{other.url}{q.path}")
            return own(c, q)
        r.server.handler = led
        refused(Store(d / "b"), ("pull", f"{r.host}/t/m:1", "--insecure"), "forbidden", "checking the certificate of", other.host)
        assert not other.server.requests and other.server.connections
        # a realm on the registry's own host, but another origin
        r.server.handler, r.challenge = own, f'Bearer realm="{other.url}/token"'
        refused(Store(d / "c"), ("pull", f"{r.host}/t/m:1", "--insecure", "--user", "ann", "--password", "secret"), "forbidden",
                "checking the certificate of", other.host)
        assert not other.server.requests
        r.challenge = 'Bearer realm="SELF/token"'
        Store(d / "e")("pull", f"{r.host}/t/m:1", "--insecure")
        # the same of a plain URL
        r.files["/m.gguf"], r.challenge = model, None
        refused(Store(d / "f"), ("pull", f"{r.url}/m.gguf"), "forbidden", "checking the certificate of", r.host)
        Store(d / "g")("pull", f"{r.url}/m.gguf", "--insecure")


@case
def passwords(d):
    ca, cert = certified(d)
    a = Store(d / "a", "--ca", ca.file)
    a("import", "m", write(d, "m.gguf", gguf(21)))
    with Registry(d / "r", certificate=cert, users={"ann": "p:w \u00e9"}) as r:
        ann = ("--user", "ann", "--password", "p:w \u00e9")
        refused(a, ("push", "m", f"{r.host}/t/m:1"), "forbidden", r.host, "wants a name and a password")
        wrong = refused(a, ("push", "m", f"{r.host}/t/m:1", "--user", "ann", "--password", "hunter2"), "forbidden", r.host)
        a("push", "m", f"{r.host}/t/m:1", *ann)
        refused(a, ("pull", f"{r.host}/t/m:1"), "forbidden", "wants a name and a password")
        refused(a, ("pull", f"{r.host}/t/m:1", "--user", "a:b", "--password", "x"), "invalid", "':'")
        good = a("pull", f"{r.host}/t/m:1", *ann)
        for text in (wrong.err, wrong.text, good.err, good.text):
            for secret in ("hunter2", "p:w", base64.b64encode("ann:p:w \u00e9".encode()).decode()):
                assert secret not in text, text
    # over plain http too, where that was asked for
    with Registry(d / "p", users={"ann": "pw"}) as r:
        a("push", "m", f"{r.url}/t/m:1", "--user", "ann", "--password", "pw")
        assert a("pull", f"{r.url}/t/m:1", "x", "--user", "ann", "--password", "pw").model["name"] == "x:latest"


def policy(user, password, scopes):
    if user and (user, password) != ("ann", "secret"):
        return None
    return [(n, acts if user else [x for x in acts if x == "pull"]) for n, acts in scopes if user or n.startswith("public/")]


@case
def tokens(d):
    """A token server on the registry's own host; for anybody, for ann, and for nobody with a wrong password."""
    ca, cert = certified(d)
    a, b = Store(d / "a", "--ca", ca.file), Store(d / "b", "--ca", ca.file)
    ann = ("--user", "ann", "--password", "secret")
    a("import", "m", write(d, "m.gguf", gguf(22, 70000)))
    with TokenMaker(d / "t", policy, cert) as maker, Registry(d / "r", certificate=cert, tokens=maker) as r:
        refused(a, ("push", "m", f"{r.host}/public/m:1"), "forbidden", r.host)
        refused(a, ("push", "m", f"{r.host}/public/m:1", "--user", "ann", "--password", "wrong1"), "forbidden",
                "wrong name or password")
        before = len(maker.server.requests)
        a("push", "m", f"{r.host}/public/m:1", *ann)
        assert len(maker.server.requests) <= before + 2, "one token for HEADs and one to write"
        a("push", "m", f"{r.host}/own/m:1", *ann)
        before = len(maker.server.requests)
        b("pull", f"{r.host}/public/m:1")
        assert len(maker.server.requests) == before + 1
        assert "authorization" not in maker.server.requests[-1].headers
        refused(b, ("pull", f"{r.host}/own/m:1"), "forbidden", r.host)
        b("pull", f"{r.host}/own/m:1", *ann)
        b("push", f"{r.host}/own/m:1", f"{r.host}/own/n:1", *ann)
        assert b("outdated", f"{r.host}/public/m:1").rows[0]["outdated"] is False
        for q in maker.server.requests:
            assert "service=models" in q.path and "scope=repository%3A" in q.path, q.path


MIB = 1 << 20


@case
def repairs(d):
    """Only the bad MiB come, with the token that the registry wants; from another model's place where the
    first one refuses; and wrong bytes make nothing worse."""
    ca, cert = certified(d)
    a, ann, front = Store(d / "a", "--ca", ca.file), ("--user", "ann", "--password", "secret"), free_port()
    m = gguf(40, 5 * MIB + 70000)
    with Registry(d / "r") as r:
        put(r, "own/m", "1", [(m, OLLAMA + "model", None)])
        put(r, "public/n", "1", [(m, OLLAMA + "model", None), (b"MIT", OLLAMA + "license", None)])
        stored = next((d / "r/data").rglob(f"{digest(m)[7:]}/data"))
    with TokenMaker(d / "t", policy, cert) as maker, Registry(d / "r", tokens=maker) as r:
        conf = (f"server {{ listen 127.0.0.1:{front} ssl; ssl_certificate {cert[0]}; ssl_certificate_key {cert[1]};"
                f" location / {{ proxy_pass {r.url}; proxy_set_header Host $http_host; proxy_buffering off; }} }}")
        with Nginx(d / "n", conf, [("127.0.0.1", front)]) as n:
            own, public = f"127.0.0.1:{front}/own/m:1", f"127.0.0.1:{front}/public/n:1"
            a("pull", own, *ann)
            blob, = (d / "a/blobs").iterdir()

            def came():
                return sum(row[4] for row in settled(n) if "/blobs/" in row[2] and row[3] < 300)

            def mended(bytes_wanted, *words, more=0):
                before = came()
                got = a("repair", *words)
                assert got.rows[-1]["repaired"] == 1 and got.rows[-1]["bad"] == 0, got.rows[-1]
                assert bytes_wanted <= came() - before <= bytes_wanted + more, (came() - before, bytes_wanted)
                assert blob.read_bytes() == m and digest(blob.read_bytes())[7:] in blob.name
                assert not list((d / "a/tmp").iterdir()) and a("verify", "-").rows[-1]["bad"] == 0
                return got

            flip(blob, MIB + 5, 5 * MIB + 69999)
            damaged = blob.read_bytes()
            for words, code in (((), "wants"), (("--offline", *ann), "offline")):
                got = a("repair", own, *words)
                assert got.rows[-1]["bad"] == 1 and blob.read_bytes() == damaged, got.rows
                verdict = [row["verdict"] for row in got.rows if "verdict" in row][0]
                assert "MiB 2 and 6 of 6" in verdict and "could not be repaired" in verdict and code in verdict, verdict
            refused(a, ("show", own), "conflict", "damaged")
            got = mended(MIB + 70000, own, *ann)
            assert "secret" not in got.text + got.err
            a("show", own)
            os.truncate(blob, 3 * MIB + 9)
            mended(2 * MIB + 70000, own, *ann)
            with open(blob, "ab") as f:
                f.write(b"more")
            mended(0, own, *ann)
            blob.unlink()
            mended(len(m), own, *ann, more=len(m))  # a download: what a slow connection has left may be asked for twice
            # two models have it: the other one's place is open to all, also where all are verified at once
            a("pull", public)
            flip(blob, 0)
            got = mended(MIB, "-")
            assert got.rows[-1]["files"] == 1, got.rows[-1]
            # the place has other bytes: those that are right are not taken either, for they make no whole
            flip(blob, 0, 4 * MIB)
            damaged = blob.read_bytes()
            flip(stored, 7)
            got = a("repair", "-", *ann)
            assert got.rows[-1]["bad"] == 1 and blob.read_bytes() == damaged and not list((d / "a/tmp").iterdir())
            assert "is another file now" in got.text, got.text
            # a file that has what the registry lacks: each gives what is right of it
            flip(stored, 7)
            mended(2 * MIB, "-")
    check(d / "a")


@case
def repair_tells_its_secret_to_the_named_alone(d):
    """The model's name says one registry, and it came from another: that one is not shown the password."""
    a = Store(d / "a")
    m = gguf(41, 70000)
    with Registry(d / "r", users={"ann": "pw"}) as r, Registry(d / "o") as other:
        ann = ("--user", "ann", "--password", "pw")
        a("import", "x", write(d, "x.gguf", m))
        a("push", "x", f"{r.url}/t/m:1", *ann)
        a("remove", "x")
        a("pull", f"{r.url}/t/m:1", *ann)
        a("pull", f"{r.url}/t/m:1", f"{other.host}/t/m:1", *ann)
        blob, = (d / "a/blobs").iterdir()
        flip(blob, 9)
        got = a("repair", f"{other.host}/t/m:1", *ann)
        assert got.rows[-1]["bad"] == 1 and "wants a name and a password" in got.text, got.text
        assert a("repair", f"{r.host}/t/m:1", *ann).rows[-1]["repaired"] == 1
        assert blob.read_bytes() == m


class Asked:
    """A registry of our own that wants a token, and shows whom it was asked with."""
    def __init__(self, challenge, cert=None, token="tok"):
        self.challenge, self.token, self.files, self.tokens = challenge, token, {}, []
        self.server = Hostile(self.serve, certificate=cert)
        self.url, self.host = self.server.url, self.server.url.split("//")[1]

    def add(self, repo, tag, layers, config=(b"{}", IMAGE_CONFIG)):
        body = make_manifest(layers, config)
        self.files[f"/v2/{repo}/manifests/{tag}"] = body
        for data, *_ in [*layers, config]:
            self.files[f"/v2/{repo}/blobs/{digest(data)}"] = data
        return body

    def serve(self, c, q):
        if q.path.startswith("/token"):
            self.tokens.append(q)
            return c.reply(200, json.dumps({"token": self.token}).encode())
        if self.challenge and q.headers.get("authorization") != f"Bearer {self.token}":
            return c.reply(401, b"" if q.method == "HEAD" else b"{}",
                           www_authenticate=self.challenge.replace("SELF", self.url))
        data = self.files.get(q.path)
        return c.reply(200, data) if data is not None else c.reply(404, b'{"errors":[{"message":"no \\u0007such"}]}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop()


@case
def realms(d):
    """A realm elsewhere hears nothing, unless the user has paired it with the registry."""
    ca, cert = certified(d)
    a = Store(d / "a", "--ca", ca.file)
    ann = ("--user", "ann", "--password", "secret")
    with Asked(None, cert) as other, Asked("", cert) as r:
        r.token = other.token
        r.challenge = f'Bearer realm="{other.url}/token",service="s",scope="repository:t/m:pull"'
        r.add("t/m", "1", [(gguf(30), OLLAMA + "model", None)])
        name = f"localhost:{r.server.port}/t/m:1"
        for who in ((), ann):
            got = refused(a, ("pull", name, *who), "forbidden", "another host", "127.0.0.1", f"--realms localhost:{r.server.port}=127.0.0.1")
            assert not other.server.requests and not other.server.connections, "the realm was asked"
            assert "secret" not in got.err
        refused(a, ("pull", name, "--realms", "localhost=127.0.0.1"), "forbidden", "another host")
        a("pull", name, *ann, "--realms", f"example.org=1.2.3.4,localhost:{r.server.port}=127.0.0.1")
        assert other.tokens[0].headers["authorization"] == "Basic " + base64.b64encode(b"ann:secret").decode()
        assert not [q for q in r.server.requests if q.headers.get("authorization", "").startswith("Basic")]
        # its own host on another port
        r.challenge = f'Bearer realm="https://localhost:{other.server.port}/token"'
        a("pull", name, "again", *ann)
        assert len(other.tokens) == 2 and "scope=repository%3At%2Fm%3Apull" in other.tokens[1].path
        for bad, code, part in ((f'Bearer realm="http://localhost:{other.server.port}/token"', "forbidden", "plain http"),
                                ('Bearer realm="file:///etc/passwd"', "format", "no URL"),
                                ('Bearer realm="https://u:p@localhost/token"', "format", "no URL"),
                                ('Bearer realm="https://localhost/token#x"', "format", "no URL"),
                                ('Bearer service="x"', "format", "no realm"), ('Bearer realm="', "format", "cannot be read"),
                                ("Negotiate abc==", "forbidden", "no kind that is known"),
                                ("", "forbidden", "no kind that is known")):
            r.challenge = bad or "X-Odd"
            refused(a, ("pull", name, "bad", *ann), code, part)
        assert len(other.tokens) == 2


@case
def loops_end(d):
    """A registry that is never content is asked twice."""
    a = Store(d / "a")
    with Asked('Bearer realm="SELF/token"') as r:
        r.files = {}
        r.serve_token = r.token
        r.challenge = 'Bearer realm="SELF/token"'

        def never(c, q):
            if q.path.startswith("/token"):
                r.tokens.append(q)
                return c.reply(200, b'{"token":"t"}')
            return c.reply(401, b"{}", www_authenticate=f'Bearer realm="{r.url}/token"')
        r.server.handler = never
        refused(a, ("pull", f"{r.url}/t/m:1"), "forbidden", r.host)
        assert len(r.tokens) == 1 and len(r.server.requests) == 3, [q.path for q in r.server.requests]


@case
def bad_tokens(d):
    a = Store(d / "a")
    with Asked('Bearer realm="SELF/token"') as r:
        for reply, code, part in ((b'{"token":"a b"}', "format", "none that can be sent"),
                                  (b'{"token":"a\\r\\nX: y"}', "format", "none that can be sent"),
                                  (b'{"token":""}', "format", "none that can be sent"), (b"{}", "format", "none that can"),
                                  (b'{"token":7}', "format", "none that can be sent"), (b"[]", "format", "none that can"),
                                  (b"<html>", "format", "no JSON"), (b'{"token":"' + b"x" * 70000 + b'"}', "too_large", ""),
                                  (b'{"token":"' + b"x" * 40000 + b'"}', "format", "none that can be sent"),
                                  (b"[" * 10000, "format", "no JSON")):
            def serve(c, q, reply=reply):
                if q.path.startswith("/token"):
                    return c.reply(200, reply)
                return c.reply(401, b"{}", www_authenticate=f'Bearer realm="{r.url}/token"')
            r.server.handler = serve
            refused(a, ("pull", f"{r.url}/t/m:1"), code, part)


@case
def ollamas_key(d):
    """The pair as ssh-keygen has it, and the signature that Ollama's registry looks for."""
    need("ssh-keygen", "openssl")
    a, b = Store(d / "a"), Store(d / "b")
    public = a("key").text.strip()
    folder = d / "a" / "keys"
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert oct((folder / "id_ed25519").stat().st_mode & 0o777) == "0o600"
    assert (folder / "id_ed25519.pub").read_text() == public + " hearth\n"
    made = subprocess.run(["ssh-keygen", "-y", "-f", folder / "id_ed25519"], capture_output=True, text=True, check=True)
    assert made.stdout.split()[:2] == public.split(), made
    assert a("key").text.strip() == public
    # one of ssh-keygen's is used as it is; one with a passphrase, or that is none, is refused
    os.makedirs(d / "b" / "keys", 0o700)
    key = d / "b" / "keys" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a long comment here", "-f", key], check=True)
    assert b("key").text.split() == (d / "b" / "keys" / "id_ed25519.pub").read_text().split()[:2]
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", key], check=True, capture_output=True)
    refused(b, ("key",), "conflict", "passphrase")
    for data in (b"", b"x", key.read_bytes()[:100], b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"):
        key.write_bytes(data)
        refused(b, ("key",), "format", "no ed25519 key")

    with Asked('Bearer realm="SELF/token?x=1",service="ollama.com",scope="repository:t/m:pull repository:t/n:pull"') as r:
        r.add("t/m", "1", [(gguf(31), OLLAMA + "model", None)])
        a("pull", f"{r.url}/t/m:1")
        assert "authorization" not in r.tokens[0].headers, "the key is not for everybody"
        a("pull", f"{r.url}/t/m:1", "again", "--key-hosts", r.host)
        q = r.tokens[1]
        keys = [pair.split("=")[0] for pair in q.path.split("?")[1].split("&")]
        assert keys == ["x", "nonce", "scope", "scope", "service", "ts"], q.path
        shown, signature = q.headers["authorization"].split(":")
        assert shown == public.split()[1]
        empty = base64.b64encode(b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").decode()
        write(d, "text", f"GET,{r.url}{q.path},{empty}".encode())
        write(d, "signature", base64.b64decode(signature))
        write(d, "key.der", bytes.fromhex("302a300506032b6570032100") + base64.b64decode(shown)[-32:])
        subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", d / "key.der", "-keyform", "DER", "-rawin",
                        "-in", d / "text", "-sigfile", d / "signature"], check=True, capture_output=True)
        a("pull", f"{r.url}/t/m:1", "third", "--key-hosts", r.host, "--user", "ann", "--password", "pw")
        assert r.tokens[2].headers["authorization"].startswith("Basic ")
        honest = r.server.handler
        r.server.handler = lambda c, q: c.reply(401, b"{}") if q.path.startswith("/token") else honest(c, q)
        refused(a, ("pull", f"{r.url}/t/m:1", "fourth", "--key-hosts", r.host), "forbidden", "id_ed25519.pub) is not known there")
        refused(a, ("pull", f"{r.url}/t/m:1", "fourth"), "forbidden", "wants a name and a password")


# ---- mirrors, and lies ---------------------------------------------------------------------------------------

@case
def mirror(d):
    """Asked first, without a credential; what it lacks or lies about comes from the registry."""
    m, text = gguf(40), b"a licence"
    ann = ("--user", "ann", "--password", "secret")
    challenge = 'Bearer realm="SELF/token"'
    with Asked(challenge) as r, Asked(None) as mirrored:
        layers = [(m, OLLAMA + "model", None), (text, OLLAMA + "license", None)]
        sent = r.add("t/m", "1", layers)
        name = f"{r.url}/t/m:1"

        def at_mirror(c, q):
            path, query = q.path.split("?")
            assert query == f"ns={r.host}", query
            data = mirrored.files.get(path)
            return c.reply(200, data) if data is not None else c.reply(404)
        mirrored.server.handler = at_mirror
        pull = ("pull", name, *ann, "--mirror", mirrored.url)
        assert Store(d / "lacks")(*pull).model["digest"] == digest(sent)[7:]
        assert mirrored.server.requests and r.server.requests
        mirrored.add("t/m", "1", layers)
        r.server.requests.clear()
        assert Store(d / "has")(*pull).model["digest"] == digest(sent)[7:]
        assert not r.server.requests, [q.path for q in r.server.requests]
        for path in list(mirrored.files):
            if "/blobs/" in path:
                mirrored.files[path] = mirrored.files[path][:-1] + b"#"
        got = Store(d / "lies")(*pull)
        assert got.model["digest"] == digest(sent)[7:] and bytes_of(got.model) == [m]
        mirrored.files["/v2/t/m/manifests/" + digest(sent)] = sent + b" "
        r.files["/v2/t/m/manifests/" + digest(sent)] = sent
        pinned = Store(d / "pinned")("pull", f"{r.url}/t/m@{digest(sent)}", *ann, "--mirror", mirrored.url)
        assert pinned.model["digest"] == digest(sent)[7:] and "passed over" in pinned.err
        assert not [q for q in mirrored.server.requests if "authorization" in q.headers]


@case
def lies(d):
    """Each a row: what the registry says of a manifest, and the sentence that it earns."""
    m = gguf(41)
    good = json.loads(make_manifest([(m, OLLAMA + "model", None)]))

    def changed(**more):
        return json.dumps({**good, **more}).encode()

    def layer(**more):
        return changed(layers=[{**good["layers"][0], **more}])
    rows = [
        (b"", "format", "not valid JSON"), (b"{", "format", "not valid JSON"), (b"[]", "format", "no JSON object"),
        (b"null", "format", ""), (b"{}", "format", "schema version 2"), (b"\xff\xfe{}", "format", "not valid JSON"),
        (b'{"schemaVersion":2}\0', "format", "NUL"), (b'{"a":' * 100 + b"1" + b"}" * 100, "format", "nested"),
        (changed(schemaVersion=1), "format", "schema version"), (changed(schemaVersion="2"), "format", "schema version"),
        (b'{"schemaVersion":1,"fsLayers":[]}', "unsupported", "schema version"),
        (changed(layers=[]), "unsupported", "0 layers"), (changed(layers={}), "format", "list of layers"),
        (changed(layers=None), "format", "list of layers"), (changed(layers=[1]), "format", "layer 1"),
        (changed(layers=[[]]), "format", "layer 1"), (changed(config=None), "format", "config"),
        (changed(layers=good["layers"] * 3000), "too_large", "3000 layers"),
        (layer(digest="sha256:../../../../etc/passwd"), "format", "the digest of layer 1"),
        (layer(digest="sha256:" + "../" * 21 + "x"), "format", "the digest of layer 1"),
        (layer(digest="sha256:" + "0" * 63), "format", "64 hex digits"), (layer(digest="sha512:" + "0" * 128), "format", "64 hex"),
        (layer(digest=7), "format", "64 hex digits"), (layer(digest=digest(m) + "\u0000"), "format", ""),
        (layer(size=-1), "format", "no number of bytes"), (layer(size=1.5), "format", ""),
        (layer(size="5"), "format", ""), (layer(size=1 << 62), "", ""),
        (changed(layers=[{**good["layers"][0], "size": 10 ** 30}]), "format", ""),
        (layer(mediaType=""), "", ""), (layer(mediaType="a\nb"), "format", "control character"),
        (layer(mediaType="x" * 300), "too_large", "media type"), (layer(mediaType="application/x-executable"), "unsupported", "no part"),
        (layer(mediaType="application/x-sh", annotations={"org.opencontainers.image.title": "../../x.sh"}), "unsupported", "no part"),
        (changed(layers=[*good["layers"], {**good["layers"][0], "mediaType": OLLAMA + "license", "size": 5 << 20}]), "", ""),
        (layer(mediaType=OLLAMA + "license", size=5 << 20), "too_large", "license"),
        (layer(mediaType=OLLAMA + "tensor"), "unsupported", "no part"),
        (changed(layers=[*good["layers"], {**good["layers"][0], "size": 7}]), "format", "is said to have"),
        (json.dumps({"schemaVersion": 2, "manifests": []}).encode(), "unsupported", "index of 0"),
        (json.dumps({"schemaVersion": 2, "manifests": [{"digest": "x"}]}).encode(), "format", "without a usable digest"),
        (b" " * ((4 << 20) + 1), "too_large", ""),
    ]
    a = Store(d / "a")
    with Asked(None) as r:
        for i, (body, code, part) in enumerate(rows):
            r.files = {"/v2/t/m/manifests/1": body}
            got = refused(a, ("pull", f"{r.url}/t/m:1"), code, part)
            assert got.sentence.isprintable(), (i, got.sentence)
        r.add("t/m", "1", [(m, OLLAMA + "model", None), (b"MIT", OLLAMA + "license", None)])
        true = dict(r.files)
        r.files[f"/v2/t/m/blobs/{digest(b'MIT')}"] = b"GPL"
        refused(a, ("pull", f"{r.url}/t/m:1"), "format", "instead of " + digest(b"MIT"))
        r.files[f"/v2/t/m/blobs/{digest(b'MIT')}"] = b"MIT license, and more"
        refused(a, ("pull", f"{r.url}/t/m:1"), "")
        r.files = dict(true)
        del r.files[f"/v2/t/m/blobs/{digest(b'MIT')}"]
        refused(a, ("pull", f"{r.url}/t/m:1"), "not_found", "pulling " + digest(b"MIT")[7:19])
        r.files = true
        for value, good_one in (("sha256:" + "0" * 64, False), ("../../etc/passwd", False), ("sha512:" + "0" * 128, False),
                                (digest(true["/v2/t/m/manifests/1"]), True)):
            def serve(c, q, value=value):
                data = r.files.get(q.path)
                return c.reply(404) if data is None else c.reply(200, data, docker_content_digest=value)
            r.server.handler = serve
            if good_one:
                a("pull", f"{r.url}/t/m:1")
            else:
                refused(a, ("pull", f"{r.url}/t/m:1"), "format", "not the one that it states")
        refused(a, ("pull", f"{r.url}/t/m:1@sha256:{'1' * 64}", "pinned"), "")
        asked = []

        def busy(c, q):
            asked.append(q.path)
            return (c.reply(429, b"{}", retry_after="0") if len(asked) < 3 else c.reply(503, b"{}") if len(asked) == 3
                    else c.reply(200, r.files[q.path]))
        r.server.handler = busy
        a("pull", f"{r.url}/t/m:1")
        assert len(asked) == 4
        r.server.handler = lambda c, q: c.reply(418, b'{"errors":[{"message":"a\\u001b[31m\\u202ebad ' + b"x" * 400 + b'"}]}')
        got = refused(a, ("pull", f"{r.url}/t/m:1"), "format", "answered 418", "a?[31m?bad")
        assert len(got.sentence) < 400 and got.sentence.isprintable()
    here = sorted(p.name for p in (d / "a").iterdir() if not p.name.startswith("db"))
    assert here == ["blobs", "tmp"] and not list((d / "a" / "tmp").iterdir()), here


@case
def tags_are_told(d):
    """Of a tag that is not there: which are, as far as they are tags at all."""
    a = Store(d / "a")
    for tags, says in (([f"v{i}" for i in range(13)], "does not have t/m:1; it has the tags v0, v1, v2, v3"), (["a", "b"], "the tags a, b"),
                       (["a b", "", "../x", "x" * 200, 7, None, "\u202ey", "ok"], "it has the tags ok"), ([], ""), ("v1", ""), (None, "")):
        for status in (200, 500):
            def serve(c, q, tags=tags, status=status):
                if "/tags/list" not in q.path:
                    return c.reply(404)
                return c.reply(status, b"no JSON" if tags is None else json.dumps({"tags": tags}).encode())
            server = Hostile(serve)
            got = refused(a, ("pull", f"{server.url}/t/m:1"), "not_found", "does not have t/m:1", says if status == 200 else "")
            assert got.sentence.isprintable() and len(got.sentence) < 500, got.sentence
            assert ("the tags" in got.sentence) == (status == 200 and says != ""), got.sentence
            assert got.sentence.endswith(", ...") == ("the tags" in got.sentence and len(tags) > 2), got.sentence
            server.stop()
    silent = Hostile(lambda c, q: c.reply(404) if "/tags/" not in q.path else c.reset())
    refused(a, ("pull", f"{silent.url}/t/m:1"), "not_found", "does not have t/m:1")
    silent.stop()


@case
def bytes_that_come_twice(d):
    """A layer that is there twice is fetched once; and what is for this machine alone needs no https."""
    a, m = Store(d / "a"), gguf(43)
    with Asked(None) as r:
        r.add("t/m", "1", [(m, OLLAMA + "model", None), (b"MIT", OLLAMA + "license", None), (b"MIT", OLLAMA + "license", None)])
        got = a("pull", f"{r.url}/t/m:1".replace("127.0.0.1", "localhost")).model
        assert bytes_of(got) == [m]
        asked = [q.path for q in r.server.requests]
        assert asked.count(f"/v2/t/m/blobs/{digest(b'MIT')}") == 1, asked
        for i in range(2):
            assert a("text", got["name"], "license", i) == "MIT"
        # a file that is two parts of it, whichever comes first
        r.add("t/m", "2", [(m + b"2", OLLAMA + "projector", None), (m + b"2", OLLAMA + "model", None)])
        assert a("plan", f"{r.url}/t/m:2").rows[-1]["missing"] == len(m) + 1
        assert bytes_of(a("pull", f"{r.url}/t/m:2").model) == [m + b"2"]
        check(d / "a")
        other = f"http://{r.host}/t/m:1".replace("127.0.0.1", "0.0.0.0")  # leads there, and is no name of this machine
        refused(Store(d / "b"), ("pull", other), "invalid", "--insecure allows it")
        assert bytes_of(Store(d / "b")("pull", other, "--insecure").model) == [m]
    for host in ("192.0.2.1:1", "127.evil.example", "localhost.example", "1.127.0.1"):
        refused(a, ("pull", f"http://{host}/t/m:1"), "invalid", "--insecure allows it")


@case
def what_is_here_is_looked_at(d):
    """Bytes that are here are taken from here: of the size that is said, a file as a file and a text as a text."""
    a, m, both = Store(d / "a"), gguf(42), b"GGUF" + b"x" * 3000
    with Asked(None) as r:
        r.add("t/m", "1", [(m, OLLAMA + "model", None), (both, OLLAMA + "license", None)])
        a("pull", f"{r.url}/t/m:1")
        doc = json.loads(r.files["/v2/t/m/manifests/1"])
        doc["layers"][0]["size"] += 1
        r.files["/v2/t/m/manifests/2"] = json.dumps(doc).encode()
        refused(a, ("pull", f"{r.url}/t/m:2"), "format", "3001 bytes, but that digest has 3000")
        refused(a, ("plan", f"{r.url}/t/m:2"), "format", "3001 bytes, but that digest has 3000")
        r.add("t/m", "3", [(both, OLLAMA + "model", None)])
        assert bytes_of(a("pull", f"{r.url}/t/m:3").model) == [both]
        b = Store(d / "b")
        b("pull", f"{r.url}/t/m:3")
        r.add("t/m", "4", [(m, OLLAMA + "model", None), (both, OLLAMA + "license", None)])
        b("pull", f"{r.url}/t/m:4")
        assert b("text", f"{r.host}/t/m:4", "license", 0).encode() == both
        for home in ("a", "b"):
            check(d / home)


@case
def pushes_that_are_refused(d):
    a = Store(d / "a")
    files = [write(d, f"m-0000{i}-of-00002.gguf", gguf(42 + i)) for i in (1, 2)]
    a("reference", "m", *files)
    with Asked(None) as r, Asked(None) as other:
        refused(a, ("push", "m", f"{r.url}/t/m@{digest(gguf(43))}"), "invalid", "gets a tag")
        for to in ("hf.co/org/repo", "https://example.org/m.gguf"):
            refused(a, ("push", "m", to), "unsupported", "is no registry")
        # what is let pass by plain http is the registry alone
        r.server.handler = lambda c, q: c.reply(404) if q.method == "HEAD" else c.reply(202, location=f"{other.url}/up")
        refused(a, ("push", "m", f"{r.url}/t/m:1"), "forbidden", "plain http, which nobody has allowed")
        assert not other.server.connections

        def appends(c, q):
            """To the second file, when the first is asked for."""
            if files[1].stat().st_size == 3000:
                files[1].write_bytes(gguf(44) + b"more")
            return c.reply(200)
        r.server.handler = appends
        refused(a, ("push", "m", f"{r.url}/t/m:1"), "conflict", "a file of 'm", "has changed")
        assert [q.method for q in r.server.requests][-1] == "HEAD"
        # a catalog that somebody has cut
        a("import", "n", write(d, "n.gguf", gguf(45)))
        r.server.handler = lambda c, q: c.reply(200)
        cut = sqlite3.connect(d / "a" / "db")
        assert cut.execute("DELETE FROM layers WHERE media_type = ?", (IMAGE_CONFIG,)).rowcount > 0
        cut.commit()
        cut.close()
        refused(a, ("push", "n", f"{r.url}/t/n:1"), "not_found", "has lost a part of it")


@case
def offline(d):
    a = Store(d / "a", "--offline")
    with Asked(None) as r:
        got = refused(a, ("pull", f"{r.url}/t/m:1"), "conflict", "offline")
        assert not got.events
        refused(a, ("plan", f"{r.url}/t/m:1"), "conflict", "offline")
        a("import", "m", write(d, "m.gguf", gguf(50)))
        assert not refused(a, ("push", "m", f"{r.url}/t/m:1"), "conflict", "offline", "was not pushed").events
        assert not r.server.connections


# ---- uploads that break -------------------------------------------------------------------------------------

class Resuming:
    """Takes chunks and says how far it is; breaks off after `cut` bytes of a chunk, `cuts` times."""
    def __init__(self, cut, cuts, cert=None):
        self.cut, self.cuts, self.data, self.blobs, self.manifest, self.got, self.opened = cut, cuts, b"", {}, None, 0, 0
        self.server = Hostile(self.serve, certificate=cert)

    def serve(self, c, q):
        n, path = int(q.headers.get("content-length", 0)), q.path.split("?")[0]
        if q.method == "HEAD":
            return c.reply(200 if path.split("/")[-1] in self.blobs else 404)
        if q.method == "POST":
            self.data, self.opened = b"", self.opened + 1
            return c.reply(202, location="/v2/t/m/blobs/uploads/1?state=0")
        if q.method == "GET":
            return c.reply(204, range=f"0-{max(len(self.data) - 1, 0)}", location=f"/v2/t/m/blobs/uploads/1?state={len(self.data)}")
        if q.method == "PATCH":
            first, last = map(int, q.headers["content-range"].split("-"))
            if first != len(self.data) or f"state={first}" not in q.path or last - first + 1 != n:
                return c.reply(416)
            if self.cuts and len(self.data) + n > self.cut:
                self.cuts -= 1
                part = c.read(self.cut)
                self.data, self.got = self.data + part, self.got + len(part)
                c.reset()
                return False
            part = c.read(n)
            self.data, self.got = self.data + part, self.got + len(part)
            return c.reply(202, range=f"0-{len(self.data) - 1}", location=f"/v2/t/m/blobs/uploads/1?state={len(self.data)}")
        body = c.read(n)
        if "/manifests/" in path:
            self.manifest = body
            return c.reply(201)
        self.data, self.got = self.data + body, self.got + len(body)
        self.blobs[digest(self.data)] = self.data
        return c.reply(201 if f"digest={digest(self.data).replace(':', '%3A')}" in q.path else 400)


@case
def broken_uploads(d):
    a = Store(d / "a")
    data = gguf(60, 33 << 20)
    a("import", "m", write(d, "m.gguf", data))
    config = a("show", "m").model["config"].encode()
    for cut, cuts in ((1, 1), (5 << 20, 3), (20 << 20, 1)):
        r = Resuming(cut, cuts)
        done = a("push", "m", f"{r.server.url}/t/m:1")
        assert r.blobs[digest(data)] == data and r.manifest == a("show", "m").model["manifest"].encode()
        assert r.opened == (2 if cut > 1 else 3), r.opened
        assert r.got <= len(data) + len(config) + 1, "what was there was sent again"
        seen = [e["completed"] for e in done.events if e.get("total") == len(data)]
        assert seen == sorted(seen) and seen[-1] == len(data)
        r.server.stop()


@case
def uploads_that_are_told_wrongly(d):
    """How far a registry says that it is, where that cannot be, is not gone on from."""
    a, data = Store(d / "a"), gguf(61, 17 << 20)
    a("import", "m", write(d, "m.gguf", data))
    for told in (10 ** 14, 17 << 20, 5, "5x", ""):
        r = Resuming(0, 0)

        def lying(c, q, honest=r.server.handler, r=r, told=told):
            if q.method != "PATCH" or (not r.data and told == 5):
                return honest(c, q)
            r.data += c.read(int(q.headers["content-length"]))
            return c.reply(202, range=f"0-{told}", location=f"/v2/t/m/blobs/uploads/1?state={len(r.data)}")
        r.server.handler = lying
        a("push", "m", f"{r.server.url}/t/m:1")
        asked = [q.method for q in r.server.requests]
        assert r.blobs[digest(data)] == data and asked[:5] == ["HEAD", "POST", "PATCH", "PATCH", "PUT"], (told, asked)
        r.server.stop()


@case
def registries_that_do_less(d):
    """No HEAD, no word of how far, an upload that is gone: what goes through in the end, and within how many tries."""
    a, data = Store(d / "a"), gguf(62, 17 << 20)
    a("import", "m", write(d, "m.gguf", data))

    class Less(Resuming):
        """at: which PATCH (the first is 1) is answered with `status`. tells: how far it is (a text: so far), or
        None: with no word of it, False: by breaking off. how: the status of that answer. post: that of a POST."""
        def __init__(self, status, at=2, head=404, tells=True, how=204, post=0):
            super().__init__(0, 0)
            self.status, self.at, self.head, self.tells, self.patches = status, at, head, tells, 0
            self.how, self.post = how, post
            self.honest, self.server.handler = self.server.handler, self.less

        def less(self, c, q):
            if q.method == "HEAD" and self.head != 404:
                return c.reply(self.head)
            if q.method == "GET" and self.tells is not True:
                return c.reset() if self.tells is False else c.reply(self.how, range=self.tells)
            if q.method == "POST" and self.post:
                return c.reply(self.post, location="/v2/t/m/blobs/uploads/1?state=0")
            self.patches += q.method == "PATCH"
            if q.method == "PATCH" and self.patches == self.at:
                c.read(int(q.headers["content-length"]))
                return c.reply(self.status)
            return self.honest(c, q)

    for status, tells, opened in (*((n, True, 2) for n in (404, 408, 429)),
                                  *((500, tells, 3) for tells in (None, False, "0-99999999999", f"0-{len(data)}", "0-9 of 20"))):
        r = Less(status, tells=tells)
        a("push", "m", f"{r.server.url}/t/m:1")
        assert r.blobs[digest(data)] == data and r.opened == opened, (status, tells, r.opened)
        r.server.stop()
    r = Less(500, tells=f"0-{(16 << 20) - 1}", how=404)  # as far as that, but it is no more
    a("push", "m", f"{r.server.url}/t/m:1")
    assert r.blobs[digest(data)] == data and r.opened == 3, r.opened
    r.server.stop()
    r = Less(0, at=0, post=200)
    refused(a, ("push", "m", f"{r.server.url}/t/m:1"), "format", "answered 200")
    r.server.stop()
    r = Less(400)
    refused(a, ("push", "m", f"{r.server.url}/t/m:1"), "format", "answered 400")
    assert r.patches == 2
    r.server.stop()
    r = Less(0, at=0, head=405)
    a("push", "m", f"{r.server.url}/t/m:1")
    assert r.blobs[digest(data)] == data
    r.server.stop()


@case
def kills(d):
    """SIGKILL in the middle of a pull and of a push: the store is sound after each, and the next one goes on."""
    rounds = int(os.environ.get("HEARTH_KILLS", "12"))
    chance = random.Random(5)
    layers = [(gguf(70, 3 << 20), OLLAMA + "model", None), (gguf(71, 2 << 20), OLLAMA + "projector", None),
              (b"MIT", OLLAMA + "license", None)]

    def killed(store, *words):
        p = subprocess.Popen(store.words(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            p.wait(chance.uniform(0.02, 0.5))
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        assert p.returncode in (0, -9), p.returncode
        return p.returncode != 0

    a = Store(d / "a")
    with Registry(d / "r") as r, Registry(d / "to") as to:
        sent = put(r, "t/m", "1", layers)
        hits, fetched = 0, 0
        for i in range(rounds):
            hits += killed(a, "pull", f"{r.url}/t/m:1", f"k:{i}", "--rate", 6 << 20)
            check(a.home)
            if i % 4 == 3:
                for tag in range(i - 3, i + 1):
                    a("pull", f"{r.url}/t/m:1", f"k:{tag}")
                m = a("show", f"k:{i}").model
                assert m["digest"] == digest(sent)[7:] and bytes_of(m) == [layers[0][0]]
                check(a.home)
                if i + 1 < rounds:
                    for tag in range(i - 3, i + 1):
                        a("remove", f"k:{tag}")
        assert hits > rounds // 3, f"only {hits} of {rounds} were killed in the middle"
        name, hits = f"k:{rounds - 1}", 0
        for i in range(rounds):
            hits += killed(a, "push", name, f"{to.url}/t/m:{i}", "--rate", 6 << 20)
            assert to.ask("GET", f"/v2/t/m/manifests/{i}", headers={"Accept": DOCKER})[0] in (200, 404)
            a("push", name, f"{to.url}/t/m:{i}")
            assert to.ask("GET", f"/v2/t/m/manifests/{i}", headers={"Accept": DOCKER})[1] == sent
            if i + 1 < rounds:  # so that the next one has something to send
                for data, *_ in layers:
                    assert to.ask("DELETE", f"/v2/t/m/blobs/{digest(data)}")[0] in (202, 404)
        check(a.home)
        assert hits > rounds // 3, f"only {hits} of {rounds} were killed in the middle"
        b = Store(d / "b")
        assert bytes_of(b("pull", f"{to.url}/t/m:{rounds - 1}").model) == [layers[0][0]]


@case
def without_memory(d):
    """Every n-th allocation of a pull and of a push fails: a sentence, no leak, and the next call goes well."""
    ann = ("--user", "ann", "--password", "secret")
    a = Store(d / "a")
    with Asked('Bearer realm="SELF/token",service="s"') as r:
        r.add("t/m", "1", [(gguf(90), OLLAMA + "model", None), (b"MIT", OLLAMA + "license", None)])
        for words, undo in ((("pull", f"{r.url}/t/m:1", *ann), ("remove", f"{r.host}/t/m:1")),
                            (("push", f"{r.host}/t/m:1", f"{r.url}/t/n:1", *ann), None)):
            a.home = str(d / words[0])
            if not undo:
                a("pull", f"{r.url}/t/m:1", *ann)
                good = r.server.handler

                def taking(c, q, good=good):
                    c.read(int(q.headers.get("content-length", 0)))
                    if q.method == "HEAD" and "authorization" in q.headers:
                        return c.reply(404)
                    if q.method == "POST":
                        return c.reply(202, location="/v2/t/n/blobs/uploads/1")
                    return c.reply(201) if q.method == "PUT" else good(c, q)
                r.server.handler = taking
            total = a(*words).allocations
            assert total > 100, total
            failed = 0
            for n in [*range(1, 30), *range(30, total + 1, max(1, total // 40))]:
                if undo:
                    a(*undo, good=None)
                got = a(*words, "--fail-alloc", n, good=None)
                failed += got.status != 0
                assert got.status in (0, 1) and (got.status == 0 or got.sentence), (n, got.status, got.err)
            assert failed > 20, failed
            check(a.home)
            a(*words)


@case
def a_text_that_stalls(d):
    """It is asked for again, as one that breaks off is."""
    m = gguf(82)
    with Asked(None) as r:
        r.add("t/m", "1", [(m, OLLAMA + "model", None), (b"MIT", OLLAMA + "license", None)])
        asked = []

        def once(c, q):
            if digest(b"MIT") in q.path:
                asked.append(q)
                if len(asked) == 1:
                    time.sleep(3)
                    return c.reset()
            return r.serve(c, q)
        r.server.handler = once
        got = Store(d / "a")("pull", f"{r.url}/t/m:1", "--stall", 1)
        assert len(asked) == 2 and Store(d / "a")("text", got.model["name"], "license", 0) == "MIT"


def stops(words, ready, within=1.5):
    """Ctrl-C ends it within a second, whatever it waits for."""
    p = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not ready():
        assert p.poll() is None, p.communicate()
        time.sleep(0.02)
    time.sleep(0.1)
    p.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = p.communicate(timeout=20)
    took = time.monotonic() - began
    assert took < within and p.returncode == 130 and "cancelled" in err, (took, p.returncode, err)


@case
def cancelled(d):
    """Ctrl-C ends a pull within a second and keeps what came; the next one fetches the rest alone."""
    a = Store(d / "a")
    m = gguf(80, 8 << 20)
    with Registry(d / "r") as r:
        put(r, "t/m", "1", [(m, OLLAMA + "model", None)])
        p = subprocess.Popen(a.words("pull", f"{r.url}/t/m:1", "--rate", 4 << 20), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        for line in p.stdout:
            if json.loads(line).get("completed", 0) > 3 << 20:
                break
        p.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, err = p.communicate(timeout=20)
        assert time.monotonic() - began < 1.5 and p.returncode == 130 and "cancelled" in err, (p.returncode, err)
        check(a.home)
        plan = a("plan", f"{r.url}/t/m:1").rows[-1]
        assert 0 < plan["missing"] <= len(m) - (2 << 20), plan
        done = a("pull", f"{r.url}/t/m:1")
        first = next(e for e in done.events if e.get("total") == len(m))
        assert first["completed"] >= 2 << 20, first
        assert bytes_of(done.model) == [m]
    with Asked(None) as r:
        def seen(part, r=r):
            return sum(part in f"{q.method} {q.path}" for q in r.server.requests)

        def half(c, q):  # of a manifest
            c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            time.sleep(3)
        r.server.handler = half
        stops(a.words("pull", f"{r.url}/t/m:1"), lambda: seen("/manifests/"))
        r.add("t/m", "2", [(m, OLLAMA + "model", None), (b"MIT", OLLAMA + "license", None)])
        r.server.handler = lambda c, q: c.reply(503) if digest(b"MIT") in q.path else r.serve(c, q)
        stops(a.words("pull", f"{r.url}/t/m:2"), lambda: seen(digest(b"MIT")) > 3, 1.2)  # in a pause of 1.6 seconds
        r.server.handler = lambda c, q: c.reply(429, retry_after="30")
        stops(a.words("pull", "hf.co/o/r", "--hf-endpoint", r.url), lambda: seen("o/r"))

        def troubled(c, q):
            c.read(int(q.headers.get("content-length", 0)))
            return c.reply(404) if q.method == "HEAD" else c.reply(202, location="/up") if q.method == "POST" else c.reply(500)
        r.server.handler = troubled
        stops(a.words("push", done.model["name"], f"{r.url}/t/m:2"), lambda: seen("PUT") >= 3)  # in its pause of a second
        assert seen("PUT") == 3


def main():
    global MOVER
    MOVER = sys.argv[1]
    wanted = sys.argv[2:]
    need("docker-registry", "openssl")
    for f in CASES:
        if wanted and f.__name__ not in wanted:
            continue
        with tempfile.TemporaryDirectory(prefix="hearth-registry-") as d:
            f(pathlib.Path(d))
        print(f"ok {f.__name__}", flush=True)


if __name__ == "__main__":
    main()
