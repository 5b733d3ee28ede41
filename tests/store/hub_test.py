#!/usr/bin/env python3
"""Names of the hub and plain URLs, asked of hub_stub.py and of nginx over TLS: what is chosen, what is pinned, where
a token goes, and what each refusal says.

  hub_test.py REMOTE     REMOTE is the program of remote.c
"""
import collections
import hashlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import hub_stub
import net

FAULTS = []
GGUF = b"GGUF" + bytes(range(256)) * 64
NAME = "org/tiny-GGUF"
FILES = {
    "README.md": b"# Tiny\n", "LICENSE": "Do what you like \u00a9\n".encode(),
    "tiny-Q4_K_M.gguf": GGUF + b"4", "tiny-IQ4_K_M.gguf": GGUF + b"i", "tiny-Q8_0.gguf": GGUF + b"8",
    "BF16/tiny-BF16-00002-of-00002.gguf": GGUF + b"two", "BF16/tiny-BF16-00001-of-00002.gguf": GGUF + b"one",
    "mmproj-F16.gguf": GGUF + b"p", "imatrix.gguf": GGUF + b"m", "tiny.imatrix.dat": b"m",
    "template": b"{{ .Prompt }}", "system": b"You are tiny.", "params": b'{"temperature": 0.5}',
}


def truth(what, good, told=""):
    if not good:
        FAULTS.append(f"{what} {told}")


class Remote:
    def __init__(self, program, folder, ca):
        self.program, self.folder, self.ca, self.n = program, pathlib.Path(folder), ca, 0

    def __call__(self, what, text, *options, hub=None):
        self.n += 1
        words = [self.program, self.folder / f"home{self.n}", what, text, "--ca", self.ca, *options]
        words += ["--endpoint", hub.url] if hub else []
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "HF_TOKEN"}
        r = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=120, env=env)
        if r.returncode:
            raise RuntimeError(f"{words}: {r.returncode} {r.stderr}")
        answer = json.loads(r.stdout)
        answer["log"] = r.stderr
        return collections.defaultdict(lambda: [collections.defaultdict(str)], answer) if answer["error"] else answer

    def refuses(self, code, says, text, *options, hub=None, what="open"):
        got = self(what, text, *options, hub=hub)
        truth(text, got["code"] == code and says in got["error"], f"{got['code']}: {got['error']}")
        return got


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check_model(remote, hub, text, files, name, *options):
    """files: [(kind, path)]"""
    sha = hub.repos[NAME].names["main"]
    got = remote("open", text, *options, hub=hub)
    expected = [{"kind": kind, "file": path, "digest": sha256(FILES[path]), "size": len(FILES[path]), "etag": "",
                 "url": f"{hub.url}/{NAME}/resolve/{sha}/{path}", "mirror": ""} for kind, path in files]
    layers = [{k: v for k, v in row.items() if k != "media_type"} for row in got.get("layers", [])]
    truth(text, got["code"] == "ok", got["error"])
    truth(text, layers == expected, f"{layers} is not {expected}")
    truth(text, (got.get("name"), got.get("kind"), got.get("revision")) == (name, "hub", sha), str(got))
    truth(text, got.get("license") == "apache-2.0", str(got))
    return got


TEXTS = [("template", "template"), ("system", "system"), ("params", "params"), ("license", "LICENSE")]
BESIDE = [("projector", "mmproj-F16.gguf"), *TEXTS]


def choices(remote, hub):
    q4, q8 = [("model", "tiny-Q4_K_M.gguf"), *BESIDE], [("model", "tiny-Q8_0.gguf"), *BESIDE]
    bf16 = [("model", f"BF16/tiny-BF16-0000{i}-of-00002.gguf") for i in (1, 2)] + BESIDE
    check_model(remote, hub, f"hf.co/{NAME}", q4, f"hf.co/{NAME}:latest")
    check_model(remote, hub, f"hf.co/{NAME}:q8_0", q8, f"hf.co/{NAME}:q8_0")
    check_model(remote, hub, f"huggingface.co/{NAME}:tiny-Q8_0.gguf", q8, f"hf.co/{NAME}:tiny-Q8_0.gguf")
    check_model(remote, hub, f"hf.co/{NAME}:BF16", bf16, f"hf.co/{NAME}:BF16")
    check_model(remote, hub, f"hf.co/{NAME}:Q8_0", q8, "mine:latest", "--as", "mine")
    got = check_model(remote, hub, f"https://huggingface.co/{NAME}/blob/main/tiny-Q8_0.gguf", q8, f"hf.co/{NAME}:tiny-Q8_0.gguf")
    again = check_model(remote, hub, got["source"], q8, f"hf.co/{NAME}:tiny-Q8_0.gguf")
    truth("a source is read again", again["source"] == got["source"], str(again))
    remote.refuses("not_found", "has no 'Q2_K'; there is: BF16, IQ4_K_M, Q4_K_M, Q8_0", f"hf.co/{NAME}:Q2_K", hub=hub)
    hub.page_size = 2
    check_model(remote, hub, f"hf.co/{NAME}:q8_0", q8, f"hf.co/{NAME}:q8_0")
    hub.page_size = 1000


def revisions(remote, hub):
    repo = hub.repos[NAME]
    old = repo.names["main"]
    got = remote("open", f"hf.co/{NAME}:Q8_0", hub=hub)
    new = repo.commit({"tiny-Q8_0.gguf": GGUF + b"newer"})
    truth("revision", remote("revision", got["source"], hub=hub)["revision"] == new)
    truth("a pinned one", remote("revision", f"hf.co/{NAME}:Q8_0@{old}", hub=hub)["revision"] == old)
    got = remote("open", f"hf.co/{NAME}:Q8_0@{old}", hub=hub)
    truth("pinned", got["revision"] == old and got["layers"][0]["digest"] == sha256(FILES["tiny-Q8_0.gguf"]), str(got))
    truth("pinned source", got["source"] == f"hf.co/{NAME}:Q8_0@{old}" and got["name"] == f"hf.co/{NAME}:Q8_0", str(got))
    repo.commit({"pr.gguf": GGUF}, branch="refs/pr/1")
    got = remote("open", f"hf.co/{NAME}@refs/pr/1", hub=hub)
    truth("a branch with slashes", got["code"] == "ok" and got["layers"][0]["file"] == "pr.gguf", got["error"])
    remote.refuses("not_found", f"hf.co/{NAME} has no revision 'v9'", f"hf.co/{NAME}@v9", hub=hub)
    hub.lies[f"/api/models/{NAME}/revision/{old}"] = lambda h: h.answer(200, {"sha": new})
    remote.refuses("format", f"was asked for commit {old} and answered with {new}", f"hf.co/{NAME}@{old}", hub=hub)
    hub.lies.clear()
    repo.commit({"m.gguf": GGUF}, branch="z" * 40)
    got = remote("open", f"hf.co/{NAME}@{'z' * 40}", hub=hub)
    truth("a branch as long as a commit", got["code"] == "ok" and got["layers"][0]["file"] == "m.gguf", got["error"])
    repo.names["main"] = old


def closed_doors(remote, hub):
    remote.refuses("not_found", "no hf.co/org/none that is open to all", "hf.co/org/none", hub=hub)
    remote.refuses("not_found", "the account of HF_TOKEN may not see it", "hf.co/org/none", "--token", "hf_known", hub=hub)
    remote.refuses("not_found", "if it is private, set HF_TOKEN", "hf.co/org/private", hub=hub)
    truth("private", remote("open", "hf.co/org/private", "--token", "hf_let_in\n", hub=hub)["code"] == "ok")
    remote.refuses("forbidden", f"accept its terms at {hub.url}/org/gated, then set HF_TOKEN", "hf.co/org/gated", hub=hub)
    remote.refuses("forbidden", "the account of HF_TOKEN may not read it", "hf.co/org/gated", "--token", "hf_known", hub=hub)
    got = remote("open", "hf.co/org/gated", "--token", "hf_let_in", hub=hub)
    truth("gated", got["code"] == "ok" and got["authorization"] == "Bearer hf_let_in", str(got))
    got = remote.refuses("forbidden", f"does not take the token in HF_TOKEN", "hf.co/org/gated", "--token", "hf_unknown", hub=hub)
    truth("no token is told", "hf_unknown" not in got["error"] + got["log"])
    for token, says in (("a\nX-Evil: b", "HF_TOKEN holds a byte"), ("a\x7fb", "HF_TOKEN holds a byte"), ("caf\u00e9", "HF_TOKEN holds a byte"),
                        ("x" * 5000, "HF_TOKEN has 5000 characters")):
        remote.refuses("invalid", says, "hf.co/org/gated", "--token", token, hub=hub)
    remote.refuses("not_found", "the hub has no hf.co/org/none", "hf.co/org/none@v1", "--token", "hf_known", hub=hub)


def patience(remote, hub):
    hub.throttle = [(429, 1), (503, 0)]
    begun = time.monotonic()
    truth("after 429 and 503", remote("open", f"hf.co/{NAME}", hub=hub)["code"] == "ok")
    truth("Retry-After was kept", time.monotonic() - begun >= 1)
    hub.throttle = [(429, 3600)]
    remote.refuses("busy", "takes no more requests for now (status 429, too many)", f"hf.co/{NAME}", hub=hub)
    hub.throttle = [(503, 0)] * 9
    remote.refuses("busy", "status 503", f"hf.co/{NAME}", hub=hub)
    truth("tries are counted", len(hub.throttle) == 4)
    hub.throttle = []


# ---- lies: what is at a path instead, what is said of it ------------------------------------------

def tree_of(*rows):
    return lambda h: h.answer(200, list(rows))


def file_row(path="m.gguf", size=5, oid="0" * 40, **more):
    return {"type": "file", "path": path, "size": size, "oid": oid, **more}


def lfs(oid="0" * 64, size=5):
    return {"oid": oid, "size": size, "pointerSize": 130}


def lies(remote, hub):
    sha = hub.repos[NAME].names["main"]
    info, tree = f"/api/models/{NAME}", f"/api/models/{NAME}/tree/{sha}"
    rows = [
        (info, lambda h: h.answer(200, {"sha": "../../../etc/passwd"}), "format", "a commit has 40 hex digits"),
        (info, lambda h: h.answer(200, b"<html>", Content_Type="text/html"), "format", "not valid JSON"),
        (info, lambda h: h.answer(200, b"[" * 100000), "format", "nested deeper"),
        (info, lambda h: h.answer(200, b" " * (5 << 20)), "too_large", ""),
        (info, lambda h: h.answer(200, b"[" + b"{}," * 400000 + b"{}]"), "too_large", "more than 100000 values"),
        (info, lambda h: h.answer(500, b"oops"), "io", "status 500"),
        (info, lambda h: h.answer(418, b"oops"), "format", "status 418"),
        (info, lambda h: h.answer(403, b"oops"), "forbidden", "status 403"),
        *((info, lambda h, n=n, text=text: h.answer(n, text), "forbidden", "is gated, and the account of HF_TOKEN may not")
          for n in (401, 403) for text in (b"a gated repo", b"Access to model org/x is restricted")),
        (info, lambda h: h.answer(302, b"", Location="http://127.0.0.1:1/x"), "forbidden", ""),
        (info, lambda h: h.answer(302, b"", Location="file:///etc/passwd"), "forbidden", ""),
        (tree, tree_of(file_row("../../m.gguf")), "format", "a file's path is relative"),
        (tree, tree_of(file_row("/etc/m.gguf")), "format", "a file's path is relative"),
        (tree, tree_of(file_row("m\n.gguf")), "format", "a file's path is relative"),
        (tree, tree_of(file_row("x" * 2000 + ".gguf")), "format", "a file's path is relative"),
        (tree, tree_of(file_row(size=-1)), "format", "a file's size"),
        (tree, tree_of(file_row(size=1 << 60)), "format", "a file's size"),
        (tree, tree_of(file_row(size=1.5)), "format", "a file's size"),
        (tree, tree_of(file_row(size="5")), "format", "a file's size"),
        (tree, tree_of(file_row(oid="../x")), "format", "a file's oid"),
        (tree, tree_of(file_row(oid="0" * 41)), "format", "a file's oid"),
        (tree, tree_of(file_row(lfs=lfs("/" * 64))), "format", "64 hex digits"),
        (tree, tree_of(file_row(lfs=lfs(size=6))), "format", "two sizes"),
        (tree, tree_of(7), "format", "has a type"),
        (tree, lambda h: h.answer(200, {"error": "x"}), "format", "are a list"),
        (tree, tree_of(*[file_row(f"{i}", lfs=None) for i in range(10001)]), "too_large", "more than 10000 files"),
        (tree, tree_of(), "not_found", "holds no GGUF model"),
        (tree, tree_of(file_row(), file_row("template", 14, oid="0" * 64)), "format", "other bytes for 'template'"),
        (tree, tree_of(file_row(), file_row("template", 13, lfs=lfs(size=13))), "format", "other bytes for 'template'"),
        (tree, lambda h: h.answer(200, [], Link=f'<{hub.url}{tree}>; rel="next"'), "too_large", "more than 50 pages"),
        (tree, lambda h: h.answer(200, [], Link='<https://127.0.0.1:1/x>; rel="next"'), "forbidden", "a next page at another place"),
        (tree, lambda h: h.answer(200, [], Link='<file:///etc/passwd>; rel="next"'), "format", "a next page that is no URL"),
        (f"/{NAME}/resolve/{sha}/template", lambda h: h.answer(200, b"other bytes!!"), "format", "other bytes for 'template'"),
        (f"/{NAME}/resolve/{sha}/template", lambda h: h.answer(200, b"shorter"), "format", "other bytes for 'template'"),
        (f"/{NAME}/resolve/{sha}/template", lambda h: h.answer(200, b"x" * 99999), "too_large", ""),
        (f"/{NAME}/resolve/{sha}/params", lambda h: h.answer(404, b"x"), "not_found", ""),
    ]
    for path, lie, code, says in rows:
        hub.lies[path] = lie
        remote.refuses(code, says, f"hf.co/{NAME}", "--token", "hf_known", hub=hub)
        hub.lies.clear()
    for files, says in (({"params": b"[1]"}, "not a JSON object"), ({"params": b"{"}, "not valid JSON"),
                        ({"system": b"\xff\xfe"}, "not UTF-8"), ({"template": b"x" * (5 << 20)}, "bytes; at most")):
        hub.repos["org/odd"] = hub_stub.Repo("org/odd", {"m.gguf": GGUF, **files})
        got = remote("open", "hf.co/org/odd", hub=hub)
        truth(f"odd {list(files)}", got["code"] != "ok" and says in got["error"], got["error"])


def texts(remote, hub):
    """One that is kept as a large file has a SHA-256 beforehand; one of no bytes is none."""
    text = b"{{ .Prompt }}"
    hub.repos["org/texts"] = repo = hub_stub.Repo("org/texts", {"m.gguf": GGUF, "template": text, "system": b""})
    row = file_row("template", len(text), lfs=lfs(sha256(text)[7:], len(text)))
    hub.lies[f"/api/models/org/texts/tree/{repo.names['main']}"] = tree_of(file_row(size=len(GGUF)), row, file_row("system", 0))
    got = remote("open", "hf.co/org/texts", hub=hub)
    truth("texts", [la["file"] for la in got["layers"]] == ["m.gguf", "template"], str(got))
    hub.lies.clear()


# ---- where a token goes ----------------------------------------------------------------------------

def tokens(remote, hub, ca, folder):
    hub.log.clear()
    got = remote("open", f"hf.co/{NAME}", "--token", "hf_known", hub=hub)
    truth("the API is asked with the token", got["code"] == "ok" and
          all(row[3] == "Bearer hf_known" for row in hub.log if row[0] == "api"), str(hub.log))
    truth("the token is nowhere else", not hub.leaks and "hf_known" not in got["log"] + got["error"])
    # an API that sends us elsewhere
    with hub_stub.Hub(ca.issue("other", ips=["127.0.0.1"]), list(hub.repos.values()), hub.tokens) as other:
        sha = hub.repos[NAME].names["main"]
        hub.lies[f"/api/models/{NAME}"] = lambda h: h.answer(307, b"", Location=f"{other.url}/api/models/{NAME}")
        got = remote("open", f"hf.co/{NAME}", "--token", "hf_known", hub=hub)
        truth("no token behind a redirect", other.log and not any(row[3] for row in other.log), f"{other.log} {got}")
        hub.lies.clear()
        # a mirror is asked first, and never with a token
        other.log.clear(), hub.log.clear()
        got = remote("open", f"hf.co/{NAME}", "--token", "hf_known", "--mirror", other.url + "/", hub=hub)
        truth("the mirror answers", got["code"] == "ok" and other.log and not hub.log, str(hub.log))
        truth("the mirror sees no token", not any(row[3] for row in other.log), str(other.log))
        truth("layers name both", got["layers"][0]["mirror"] == f"{other.url}/{NAME}/resolve/{sha}/tiny-Q4_K_M.gguf" and
              got["layers"][0]["url"].startswith(hub.url), str(got["layers"][0]))
        text = f"/{NAME}/resolve/{sha}/LICENSE"
        for lie in (lambda h: h.answer(404, b""), lambda h: h.answer(200, b"x" * len(hub.repos[NAME].revisions[sha]["LICENSE"].data))):
            other.lies[text] = lie
            got = remote("open", f"hf.co/{NAME}", "--token", "hf_known", "--mirror", other.url, hub=hub)
            truth("a text past a mirror", got["code"] == "ok" and "license" in [x["kind"] for x in got["layers"]], got["error"])
        other.lies.clear()
        del other.repos[NAME]
        got = remote("open", f"hf.co/{NAME}", "--mirror", other.url, hub=hub)
        truth("past a mirror that has it not", got["code"] == "ok", got["error"])
    got = remote("open", f"hf.co/{NAME}", "--mirror", other.url, hub=hub)
    truth("past a mirror that is down", got["code"] == "ok", got["error"])
    with hub_stub.Hub(None, list(hub.repos.values())) as plain:
        truth("a mirror of plain http", remote("open", f"hf.co/{NAME}", "--mirror", plain.url, hub=hub)["plain"])
    # an endpoint that stands in for the hub hands out the hub's own links
    hub.page_size, hub.link_origin = 3, "https://huggingface.co"
    truth("the hub's own links", remote("open", f"hf.co/{NAME}", hub=hub)["code"] == "ok")
    hub.page_size, hub.link_origin = 1000, None


def endpoints(remote, repos):
    with hub_stub.Hub(None, repos) as plain:
        truth("plain http on loopback", remote("open", f"hf.co/{NAME}", hub=plain)["plain"])
    for url, code, says in (("http://192.0.2.1", "forbidden", "HF_ENDPOINT is plain http"), ("ftp://x", "invalid", "is not a URL"),
                            ("https://u:p@h", "invalid", "is not a URL"), ("https://h/?q", "invalid", "without a query"),
                            ("https://h/#q", "invalid", "without a query"), ("https://h/" + "x" * 1024, "invalid", "at most 1024"),
                            ("http://127.0.0.1.evil.example", "forbidden", "plain http")):
        remote.refuses(code, says, f"hf.co/{NAME}", "--endpoint", url)
    remote.refuses("io", "", f"hf.co/{NAME}", "--endpoint", f"https://127.0.0.1:{net.free_port()}")
    remote.refuses("conflict", "", f"hf.co/{NAME}", "--offline", "--endpoint", f"https://127.0.0.1:{net.free_port()}")


# ---- plain URLs, of a real nginx -------------------------------------------------------------------

def urls(remote, ca, folder):
    www = folder / "www/a"
    www.mkdir(parents=True)
    for name, data in {"Tiny-Q8_0.gguf": GGUF, "t-00001-of-00002.gguf": GGUF + b"1", "t-00002-of-00002.gguf": GGUF + b"2",
                       "no.gguf": b"#!/bin/sh\n", "empty.gguf": b"", "half-00001-of-00002.gguf": GGUF}.items():
        (www / name).write_bytes(data)
    cert, key = ca.issue("nginx", ips=["127.0.0.1"])
    port, plain = net.free_port(), net.free_port()
    tls = f"listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; root {folder}/www;"
    conf = (f"server {{ {tls} location /once/ {{ alias {folder}/www/a/; max_ranges 0; etag off; }}\n"
            f"location /page/ {{ default_type text/html; alias {folder}/www/a/; max_ranges 0; }}\n"
            f"location /closed/ {{ return 403; }} location /gone/ {{ return 410; }} location /odd/ {{ return 418; }}\n"
            f"location /busy/ {{ return 500; }} location /long/ {{ alias {folder}/www/a/; etag off; add_header ETag '\"{'e' * 100}\"'; }} }}\n"
            f"server {{ listen 127.0.0.1:{plain}; root {folder}/www; }}")
    with net.Nginx(folder / "nginx", conf, [("127.0.0.1", port), ("127.0.0.1", plain)]):
        base = f"https://127.0.0.1:{port}"
        url, digest = f"{base}/a/Tiny-Q8_0.gguf", hashlib.sha256(GGUF).hexdigest()
        got = remote("open", url + "?secret=1")
        layer = got["layers"][0]
        truth("a URL", (got["name"], got["kind"], got["source"]) == ("tiny-q8_0:latest", "url", url), str(got))
        truth("its layer", (layer["size"], layer["digest"], layer["url"]) == (len(GGUF), "", url + "?secret=1"), str(layer))
        truth("its revision", got["revision"] and f'"{got["revision"]}"' == layer["etag"], str(got))
        first = got["revision"]
        truth("revision again", remote("revision", got["source"])["revision"] == got["revision"])
        for pin in (f"@sha256:{digest}", f"#sha256={digest.upper()}"):
            truth(pin, remote("open", url + pin)["layers"][0]["digest"] == f"sha256:{digest}")
        truth("--as", remote("open", url, "--as", "my/tiny:x")["name"] == "my/tiny:x")
        got = remote("open", f"{base}/a/t-00002-of-00002.gguf")
        truth("shards", [(la["size"], la["url"]) for la in got["layers"]] ==
              [(len(GGUF) + 1, f"{base}/a/t-0000{i}-of-00002.gguf") for i in (1, 2)] and got["name"] == "t:latest", str(got))
        truth("shards' revision", len(got["revision"]) == 64)
        got = remote("open", f"{base}/once/Tiny-Q8_0.gguf")
        truth("no ranges, no etag", got["layers"][0]["size"] == len(GGUF) and got["revision"] == f"length={len(GGUF)}", str(got))
        got = remote("open", f"{base}/long/Tiny-Q8_0.gguf")
        truth("a long ETag", got["revision"] == hashlib.sha256(b"e" * 100).hexdigest(), str(got))
        (www / "one-00001-of-00001.gguf").write_bytes(GGUF)
        truth("one shard, pinned", remote("open", f"{base}/a/one-00001-of-00001.gguf@sha256:{digest}")["code"] == "ok")
        for host in ("127.0.0.1", "localhost", "LocalHost"):
            truth(f"http on {host}", remote("open", f"http://{host}:{plain}/a/Tiny-Q8_0.gguf")["plain"])
        (www / "Tiny-Q8_0.gguf").write_bytes(GGUF + b"new")
        truth("a new revision", remote("revision", url)["revision"] not in ("", first))
        for text, code, says in (
                (f"{base}/a/none.gguf?secret=1", "not_found", f"there is no file at {base}/a/none.gguf (status 404)"),
                (f"{base}/gone/x.gguf", "not_found", "status 410"), (f"{base}/closed/x.gguf", "forbidden", "not open to all"),
                (f"{base}/a/no.gguf", "format", "is not GGUF"), (f"{base}/a/empty.gguf", "format", ""),
                (f"{base}/page/no.gguf", "format", "is a page"), (f"{base}/a/half-00001-of-00002.gguf", "not_found", "half-00002"),
                (f"{base}/a/x-00003-of-00002.gguf", "invalid", "shard 3 of 2"), (f"{base}/a/x-00001-of-09999.gguf", "invalid", "of 9999"),
                (f"{base}/a/x-00000-of-00002.gguf", "invalid", "shard 0 of 2"), (f"{base}/a/x-00001-of-00000.gguf", "invalid", "shard 1 of 0"),
                (f"{base}/odd/x.gguf", "format", "answered with status 418"), (f"{base}/busy/x.gguf", "io", "answered with status 500"),
                (url + "@sha256:12", "invalid", "64 hex digits"), (url + "#sha256=" + "g" * 64, "invalid", "64 hex digits"),
                (f"{base}/a/t-00001-of-00002.gguf@sha256:{digest}", "invalid", "a digest pins one file"),
                ("http://192.0.2.1/x.gguf", "forbidden", "is plain http"), ("https://user:secret@127.0.0.1/x.gguf", "invalid", "user or a password"),
                (f"https://127.0.0.1:{plain}/x.gguf", "io", "")):
            got = remote.refuses(code, says, text)
            truth("no secret is told", "secret" not in got["error"] + got["log"], got["error"])


def main():
    net.need("openssl", "nginx")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ca = net.Ca(folder / "ca")
        remote = Remote(sys.argv[1], folder, ca.file)
        repos = [hub_stub.Repo(NAME, FILES, card={"license": "apache-2.0"}),
                 hub_stub.Repo("org/gated", {"m.gguf": GGUF}, gated="manual"),
                 hub_stub.Repo("org/private", {"m.gguf": GGUF}, private=True)]
        known = {"hf_known": [], "hf_let_in": ["org/gated", "org/private"]}
        with hub_stub.Hub(ca.issue("hub", ips=["127.0.0.1"]), repos, known) as hub:
            choices(remote, hub)
            revisions(remote, hub)
            closed_doors(remote, hub)
            patience(remote, hub)
            lies(remote, hub)
            texts(remote, hub)
            tokens(remote, hub, ca, folder)
            truth("no credential reached the CDN", not hub.leaks, str(hub.leaks))
        endpoints(remote, repos)
        urls(remote, ca, folder)
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        truth("memory", most <= 64 or b"__asan_init" in pathlib.Path(sys.argv[1]).read_bytes(), f"{most} MiB")
        print(f"{remote.n} questions, {len(FAULTS)} faults, at most {most} MiB of memory")
    for fault in FAULTS:
        print(fault)
    return 1 if FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
