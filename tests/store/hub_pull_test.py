#!/usr/bin/env python3
"""Models of the hub and of plain URLs, pulled into a store from hub_stub.py and nginx over TLS.

  hub_pull_test.py MOVER     MOVER is the program of mover.c
"""
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import check_store
import hub_stub
import net

FAULTS = []
NAME = "org/tiny-GGUF"


def gguf(seed, size):
    return b"GGUF" + random.Random(seed).randbytes(size - 4)


BIG = gguf(1, 3_000_000)
FILES = {"tiny-Q4_K_M.gguf": BIG, "tiny-Q8_0.gguf": gguf(2, 50_000), "mmproj-F16.gguf": gguf(3, 9000),
         "BF16/tiny-BF16-00001-of-00002.gguf": gguf(4, 300_000), "BF16/tiny-BF16-00002-of-00002.gguf": gguf(5, 200_000),
         "template": b"{{ .Prompt }}", "system": b"You are tiny.", "params": b'{"temperature": 0.5}',
         "LICENSE": b"Do what you like.\n"}
TEXTS = ("template", "system", "params", "license")


def truth(what, good, told=""):
    if not good:
        FAULTS.append(f"{what} {told}")


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Store:
    def __init__(self, program, home, *always):
        self.program, self.home, self.always = program, pathlib.Path(home), always

    def __call__(self, what, *words):
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        r = subprocess.run([self.program, str(self.home), what, *map(str, words), *map(str, self.always)],
                           capture_output=True, timeout=120, env=env)
        lines = [json.loads(line) for line in r.stdout.splitlines() if line.startswith(b'{"')]
        told = [line for line in r.stderr.decode().splitlines() if not line.startswith("ts=")]
        return r.returncode, (lines[-1] if lines else {}), (told[-1] if told else ""), r.stdout, lines

    def good(self, what, *words):
        status, answer, told, _, _ = self(what, *words)
        truth(" ".join(map(str, (what, *words))), status == 0, f"{status} {told}")
        return answer

    def bad(self, says, *words):
        status, _, told, _, _ = self(*words)
        truth(" ".join(words), status != 0 and says in told, f"{status} '{told}' does not say '{says}'")

    def text(self, name, kind):
        return self("text", name, kind, 0)[3]

    def files(self):
        return sorted(p.name for p in (self.home / "blobs").iterdir()) if (self.home / "blobs").exists() else []

    def parts(self):
        return [p.name for p in (self.home / "tmp").iterdir()]


def check_files(what, model, paths):
    got = [(f["digest"], check_store.file_bytes(f)) for f in model.get("files", [])]
    truth(what, got == [(digest(FILES[p]), FILES[p]) for p in paths], str(model.get("files")))


def pulls(make, hub):
    s, sha = make("one"), hub.repos[NAME].names["main"]
    plan = s.good("plan", f"hf.co/{NAME}")
    size = sum(len(FILES[p]) for p in ("tiny-Q4_K_M.gguf", "mmproj-F16.gguf", "template", "system", "params", "LICENSE"))
    truth("the plan", (plan.get("size"), plan.get("missing"), plan.get("license"), plan.get("revision")) ==
          (size, size, "apache-2.0", sha), str(plan))
    truth("its files", [f["kind"] for f in plan.get("files", [])] == ["model", "projector", *TEXTS], str(plan))
    truth("a plan fetches nothing", not s.files() and not any(row[0] == "cdn" for row in hub.log))
    m = s.good("pull", f"hf.co/{NAME}")
    check_files("the default", m, ["tiny-Q4_K_M.gguf", "mmproj-F16.gguf"])
    truth("where from", (m.get("origin"), m.get("revision"), m.get("source")) == ("hub", sha, f"hf.co/{NAME}"), str(m))
    truth("its licence", m.get("license") == "apache-2.0", str(m))
    for kind, path in zip(TEXTS, ("template", "system", "params", "LICENSE")):
        truth(kind, s.text(f"hf.co/{NAME}", kind) == FILES[path], str(s.text(f"hf.co/{NAME}", kind)))
    hub.log.clear()
    again = s.good("pull", f"hf.co/{NAME}")
    truth("again", again.get("digest") == m.get("digest") and not any(row[0] == "cdn" for row in hub.log), str(hub.log))
    check_files("shards", s.good("pull", f"hf.co/{NAME}:bf16"),
                [f"BF16/tiny-BF16-0000{i}-of-00002.gguf" for i in (1, 2)] + ["mmproj-F16.gguf"])
    truth("not outdated", s.good("outdated", f"hf.co/{NAME}") == {"outdated": False, "revision": sha})
    new = hub.repos[NAME].commit({**FILES, "tiny-Q4_K_M.gguf": gguf(6, 70_000)})
    truth("outdated", s.good("outdated", f"hf.co/{NAME}") == {"outdated": True, "revision": new})
    old = s.good("pull", f"hf.co/{NAME}:Q4_K_M@{sha}", "pinned")
    check_files("an old commit", old, ["tiny-Q4_K_M.gguf", "mmproj-F16.gguf"])
    truth("what is pinned is not outdated", s.good("outdated", "pinned") == {"outdated": False, "revision": sha})
    m = s.good("pull", f"hf.co/{NAME}")
    truth("the newer", m.get("revision") == new and m["files"][0]["size"] == 70_000, str(m))
    hub.repos[NAME].names["main"] = sha


def moves_on(make, hub):
    """A commit that leaves the model's files as they are does not make it outdated."""
    name, small = "org/moves", gguf(30, 4000)
    files = {"m-Q8_0.gguf": gguf(31, 90_000), "m-F16.gguf": small, "template": b"{{ .Prompt }}", "README.md": b"one"}
    repo = hub.repos[name] = hub_stub.Repo(name, files, small=("m-F16.gguf",))  # one file is not in LFS
    s, first = make("moves"), repo.names["main"]
    m, of_git = s.good("pull", f"hf.co/{name}:Q8_0"), s.good("pull", f"hf.co/{name}:F16")
    truth("a file that git holds", of_git["files"][0]["digest"] == digest(small), str(of_git))
    second = repo.commit({**files, "README.md": b"two", "m-Q4_0.gguf": gguf(32, 5000)}, small=("m-F16.gguf",))
    for quant in "Q8_0", "F16":
        hub.log.clear()
        answer = s.good("outdated", f"hf.co/{name}:{quant}")
        truth(f"another README, {quant}", answer == {"outdated": False, "revision": second}, str(answer))
        fetched = [row for row in hub.log if row[0] == "cdn" or ".gguf" in row[2]]
        truth(f"the files are not fetched, {quant}", not fetched, str(fetched))
    truth("asking changes nothing", s.good("show", f"hf.co/{name}:Q8_0").get("revision") == first)
    hub.log.clear()
    again = s.good("pull", f"hf.co/{name}:Q8_0")
    noted = again.get("revision"), again.get("digest")
    truth("a pull notes the revision", noted == (second, m["digest"]), str(again))
    truth("and fetches nothing", not any(row[0] == "cdn" for row in hub.log), str(hub.log))
    for what, changed, quant in (("a template", {"template": b"{{ .System }}"}, "Q8_0"),
                                 ("the file itself", {"m-Q8_0.gguf": gguf(33, 90_000)}, "Q8_0"),
                                 ("a file of git's", {"m-F16.gguf": gguf(34, 4000)}, "F16"),
                                 ("one more text", {"system": b"You are."}, "F16"),
                                 ("a projector", {"mmproj-F16.gguf": gguf(35, 300)}, "Q8_0")):
        new = repo.commit({**files, **changed}, small=("m-F16.gguf",))
        truth(what, s.good("outdated", f"hf.co/{name}:{quant}") == {"outdated": True, "revision": new})
    repo.commit({"m-F16.gguf": small}, small=("m-F16.gguf",))
    s.bad("has no 'Q8_0'; there is: F16", "outdated", f"hf.co/{name}:Q8_0")
    repo.names["main"] = second
    repo.revisions[second]["m-F16.gguf"].data = gguf(36, 4000)  # other bytes than the list tells
    s = make("other bytes")
    s.bad("is not the file that the place's list tells of", "pull", f"hf.co/{name}:F16")
    truth("they are not kept", not s.files() and not s.parts(), f"{s.files()} {s.parts()}")


def same_everywhere(make, hub):
    """Two stores make the same model of the same files."""
    digests = {make(f"same{i}").good("pull", f"hf.co/{NAME}:Q8_0").get("digest") for i in range(2)}
    truth("one digest", len(digests) == 1 and None not in digests, str(digests))


def tokens(make, hub):
    s = make("closed", "--hf-token", "hf_let_in")
    hub.log.clear()
    m = s.good("pull", "hf.co/org/gated")
    truth("gated", len(m.get("files", [])) == 1)
    truth("the token went along", any(row[3] == "Bearer hf_let_in" for row in hub.log))
    truth("to the API alone", not hub.leaks and not any(row[3] for row in hub.log if row[0] == "cdn"), str(hub.leaks))
    kept = b"".join(p.read_bytes() for p in s.home.rglob("*") if p.is_file())
    truth("it is kept nowhere", b"hf_let_in" not in kept)
    make("none").bad("is gated: accept its terms", "pull", "hf.co/org/gated")
    make("wrong", "--hf-token", "hf_known").bad("may not read it", "pull", "hf.co/org/gated")


def cdns(make, hub):
    hub.ranges = False
    check_files("a CDN without ranges", make("whole").good("pull", f"hf.co/{NAME}:Q4_K_M"), ["tiny-Q4_K_M.gguf", "mmproj-F16.gguf"])
    hub.ranges = True
    s, right = make("wrong bytes"), hub.by_digest(digest(BIG)[7:])
    right.data = BIG[:-1] + bytes([BIG[-1] ^ 1])
    s.bad("was promised", "pull", f"hf.co/{NAME}:Q4_K_M")
    truth("nothing of it is visible", not s.files() and s("show", f"hf.co/{NAME}:Q4_K_M")[0] == 4, str(s.files()))
    right.data = BIG
    check_files("the right ones, later", s.good("pull", f"hf.co/{NAME}:Q4_K_M"), ["tiny-Q4_K_M.gguf", "mmproj-F16.gguf"])
    hub.repos["org/late"] = hub_stub.Repo("org/late", {"m-Q8_0.gguf": b"MZ" + bytes(500), "readme": b""})
    s = make("no gguf")
    s.bad("GGUF", "pull", "hf.co/org/late")
    truth("what is no GGUF is not kept", not s.files(), str(s.files()))


def urls(make, ca, folder):
    www = folder / "www"
    www.mkdir()
    for name in ("tiny-Q8_0.gguf", "tiny-Q4_K_M.gguf"):
        (www / name).write_bytes(FILES[name])
    for i in (1, 2):
        (www / f"t-0000{i}-of-00002.gguf").write_bytes(FILES[f"BF16/tiny-BF16-0000{i}-of-00002.gguf"])
    cert, key = ca.issue("nginx", ips=["127.0.0.1"])
    port = net.free_port()
    conf = (f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; root {www};\n"
            f"location /once/ {{ alias {www}/; max_ranges 0; }}\n"
            f"location /blind/ {{ alias {www}/; max_ranges 0; etag off; chunked_transfer_encoding on; gzip off; }} }}")
    with net.Nginx(folder / "nginx", conf, [("127.0.0.1", port)]):
        base, s = f"https://127.0.0.1:{port}", make("urls")
        m = s.good("pull", f"{base}/tiny-Q4_K_M.gguf?key=verysecret")
        check_files("a URL", m, ["tiny-Q4_K_M.gguf"])
        truth("its name", m.get("name") == "tiny-q4_k_m:latest" and m.get("origin") == "url", str(m))
        truth("its source", m.get("source") == f"{base}/tiny-Q4_K_M.gguf" and m.get("revision"), str(m))
        kept = b"".join(p.read_bytes() for p in s.home.rglob("*") if p.is_file())
        truth("no query is kept", b"verysecret" not in kept)
        check_files("without ranges", make("once").good("pull", f"{base}/once/tiny-Q4_K_M.gguf"), ["tiny-Q4_K_M.gguf"])
        check_files("without an ETag", make("blind").good("pull", f"{base}/blind/tiny-Q4_K_M.gguf", "b:c"), ["tiny-Q4_K_M.gguf"])
        check_files("shards", s.good("pull", f"{base}/t-00002-of-00002.gguf"),
                    [f"BF16/tiny-BF16-0000{i}-of-00002.gguf" for i in (1, 2)])
        check_files("pinned", s.good("pull", f"{base}/tiny-Q8_0.gguf@{digest(FILES['tiny-Q8_0.gguf'])}"), ["tiny-Q8_0.gguf"])
        make("pin").bad("was promised", "pull", f"{base}/tiny-Q8_0.gguf@{digest(BIG)}")
        plan = make("plan").good("plan", f"{base}/tiny-Q4_K_M.gguf")
        truth("the plan of a URL", plan.get("size") == plan.get("missing") == len(BIG), str(plan))
        truth("not outdated", s.good("outdated", "tiny-q4_k_m").get("outdated") is False)
        (www / "tiny-Q4_K_M.gguf").write_bytes(BIG + b"more")
        truth("outdated", s.good("outdated", "tiny-q4_k_m").get("outdated") is True)


MIB = 1 << 20


def repaired(s, name, wants, counted, what):
    """counted(): bytes that came so far"""
    before = counted()
    answer = s.good("repair", name)
    truth(what, (answer.get("repaired"), answer.get("bad")) == (1, 0), str(answer))
    truth(f"{what}: bytes", counted() - before == wants, f"{counted() - before}, not {wants}")
    for p in (s.home / "blobs").iterdir():
        truth(f"{what}: whole", digest(p.read_bytes()) == p.name.replace("-", ":"), p.name)
    truth(f"{what}: sound", s.good("verify", name).get("bad") == 0)


def repairs(make, hub, ca, folder):
    s, big = make("mended", "--hf-token", "hf_let_in"), gguf(8, 3 * MIB + 5000)
    hub.repos["org/big"] = hub_stub.Repo("org/big", {"m-Q8_0.gguf": big}, gated="manual")
    hub.tokens["hf_let_in"] = ["org/gated", "org/big"]

    def from_cdn():
        ranges = [row[4].split("=")[1].split("-") for row in hub.log if row[0] == "cdn" and row[4] and row[5] == 206]
        return sum(int(last) - int(first) + 1 for first, last in ranges)

    m = s.good("pull", "hf.co/org/big")
    blob = pathlib.Path(m["files"][0]["path"])
    net.flip(blob, 5, 3 * MIB + 4000)
    repaired(s, "hf.co/org/big", MIB + 5000, from_cdn, "the hub's, with a token")
    # main has moved on: the bytes are those of the commit that was pulled
    hub.repos["org/big"].commit({"m-Q8_0.gguf": gguf(9, 70_000)})
    net.flip(blob, 2 * MIB)
    repaired(s, "hf.co/org/big", MIB, from_cdn, "of the commit that was pulled")
    net.flip(blob, 2 * MIB)
    right = hub.by_digest(digest(big)[7:])
    right.data = big[:2 * MIB] + bytes([big[2 * MIB] ^ 9]) + big[2 * MIB + 1:]
    before = blob.read_bytes()
    answer = s.good("repair", "hf.co/org/big")
    truth("wrong bytes of the hub", answer.get("bad") == 1 and blob.read_bytes() == before and not s.parts(), str(answer))
    right.data = big
    repaired(s, "hf.co/org/big", MIB, from_cdn, "the right ones, later")
    truth("the token did not reach the CDN", not hub.leaks, str(hub.leaks))
    repaired_after_a_kill(make, hub)
    repaired_urls(make, ca, folder)


def repaired_after_a_kill(make, hub):
    """A blob that is missing as a whole comes as a pull brings it: what arrived before a kill is not fetched again."""
    s, data = make("killed"), gguf(50, 4 * MIB + 10)
    hub.repos["org/killed"] = hub_stub.Repo("org/killed", {"m-Q8_0.gguf": data})
    blob = pathlib.Path(s.good("pull", "hf.co/org/killed")["files"][0]["path"])
    blob.unlink()
    hub.cut_after = 2 * MIB  # and no ranges: it gets no further
    process = subprocess.Popen([s.program, s.home, "repair", "hf.co/org/killed", *map(str, s.always)],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for line in process.stdout:
        if json.loads(line).get("completed", 0) > MIB:
            break
    process.kill()
    process.wait()
    truth("it was killed on the way", not blob.exists() and any(p.endswith(".journal") for p in s.parts()), str(s.parts()))
    hub.cut_after = None
    hub.log.clear()
    answer = s.good("repair", "hf.co/org/killed")
    truth("mended after a kill", (answer.get("repaired"), answer.get("bad")) == (1, 0), str(answer))
    first = min(int(row[4].split("=")[1].split("-")[0]) for row in hub.log if row[0] == "cdn" and row[4])
    truth("from where it was", MIB <= first < len(data), str(first))
    truth("the bytes", blob.read_bytes() == data and not s.parts(), str(s.parts()))
    truth("each MiB is known again", s.good("verify", "hf.co/org/killed").get("bad") == 0)


def repaired_urls(make, ca, folder):
    www = folder / "www2"
    www.mkdir()
    shards = [gguf(20 + i, 2 * MIB + 100) for i in range(2)]  # of one size: the hashes tell which is which
    for i, data in enumerate(shards):
        (www / f"t-0000{i + 1}-of-00002.gguf").write_bytes(data)
    cert, key = ca.issue("nginx2", ips=["127.0.0.1"])
    port = net.free_port()
    conf = f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; root {www}; }}"
    with net.Nginx(folder / "nginx2", conf, [("127.0.0.1", port)]) as nginx:
        def served():
            rows = None
            while rows != (rows := nginx.log()):
                time.sleep(0.1)
            return sum(row[4] for row in rows if row[4] > 4)

        s = make("mended urls")
        m = s.good("pull", f"https://127.0.0.1:{port}/t-00001-of-00002.gguf", "shards")
        first, second = (s.home / "blobs" / f["digest"].replace(":", "-") for f in m["files"])
        net.flip(first, MIB)
        repaired(s, "shards", MIB, served, "a URL's first shard")
        net.flip(second, 2 * MIB + 99)
        repaired(s, "shards", 200, served, "a URL's second shard")  # the first was looked at, and is another
        net.flip(first, 9)
        for i in (1, 2):
            (www / f"t-0000{i}-of-00002.gguf").write_bytes(shards[0] + b"longer")
        answer = s.good("repair", "shards")
        truth("a URL's file has changed", answer.get("bad") == 1, str(answer))
        (www / "t-00001-of-00002.gguf").write_bytes(shards[0])
        (www / "t-00002-of-00002.gguf").unlink()
        answer = s.good("repair", "shards")
        truth("a URL's file is gone", answer.get("bad") == 1, str(answer))


def insecure(ca, folder):
    """A certificate that nobody vouches for: a pull, a look and a repair take it when they are told to."""
    www, data = folder / "www3", gguf(40, 2 * MIB)
    www.mkdir()
    (www / "m.gguf").write_bytes(data)
    cert, key = ca.issue("nginx3", ips=["127.0.0.1"])
    port = net.free_port()
    conf = f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; root {www}; }}"
    with net.Nginx(folder / "nginx3", conf, [("127.0.0.1", port)]):
        s = Store(sys.argv[1], folder / "careless")
        s.bad("certificate", "pull", f"https://127.0.0.1:{port}/m.gguf", "m")
        m = s.good("pull", f"https://127.0.0.1:{port}/m.gguf", "m", "--insecure")
        s.bad("certificate", "outdated", "m")
        truth("a look", s.good("outdated", "m", "--insecure").get("outdated") is False)
        blob = pathlib.Path(m["files"][0]["path"])
        net.flip(blob, 9)
        answer = s.good("repair", "m")
        truth("a repair that was not told to", (answer.get("repaired"), answer.get("bad")) == (0, 1), str(answer))
        answer = s.good("repair", "m", "--insecure")
        truth("a repair", (answer.get("repaired"), answer.get("bad")) == (1, 0), str(answer))
        truth("the bytes", blob.read_bytes() == data)


def main():
    net.need("openssl", "nginx")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ca = net.Ca(folder / "ca")
        repos = [hub_stub.Repo(NAME, FILES, card={"license": "apache-2.0"}),
                 hub_stub.Repo("org/gated", {"m.gguf": gguf(7, 9000)}, gated="manual")]
        known = {"hf_known": [], "hf_let_in": ["org/gated"]}
        with hub_stub.Hub(ca.issue("hub", ips=["127.0.0.1"]), repos, known) as hub:
            def make(name, *options):
                return Store(sys.argv[1], folder / name, "--ca", ca.file, "--hf-endpoint", hub.url, *options)
            pulls(make, hub)
            moves_on(make, hub)
            same_everywhere(make, hub)
            tokens(make, hub)
            cdns(make, hub)
            urls(make, ca, folder)
            insecure(ca, folder)
            repairs(make, hub, ca, folder)
            truth("no credential reached the CDN", not hub.leaks, str(hub.leaks))
    for fault in FAULTS:
        print(fault)
    print(f"{len(FAULTS)} faults")
    return 1 if FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
