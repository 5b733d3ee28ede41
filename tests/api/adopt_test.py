#!/usr/bin/env python3
"""hearth adopt: caches of Ollama, LM Studio, the Hugging Face hub and llama.cpp, made here as those programs
make them; listed, taken in place, and not changed in a byte or a time stamp.
adopt_test.py PATH-OF-HEARTH [unittest arguments]; hearthd lies beside it."""
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hearthd  # noqa: E402
import tiny_gguf  # noqa: E402
from tiny_gguf import split  # noqa: E402

HEARTH = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearth"
DIGEST_0 = "sha256:" + "0" * 64


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    return path


def sha(data):
    return hashlib.sha256(data).hexdigest()


def model(seed):
    with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
        tiny_gguf.write(f.name, seed=seed)
        return f.read()


def ollama(root, name, weights, texts, config=b'{"model_format":"gguf"}', change=None):
    """A model as Ollama's pull leaves it. change(manifest) may lie."""
    layers = [("model", weights)] + texts
    for data in [config] + [d for _, d in layers]:
        write(f"{root}/blobs/sha256-{sha(data)}", data)

    def row(kind, data):
        return {"mediaType": kind, "digest": "sha256:" + sha(data), "size": len(data)}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": row("application/vnd.docker.container.image.v1+json", config),
                "layers": [row("application/vnd.ollama.image." + k, d) for k, d in layers]}
    if change:
        change(manifest)
    return write(f"{root}/manifests/{name}", json.dumps(manifest).encode())


def hub(root, repo, commit, files, main=True):
    base = f"{root}/models--" + repo.replace("/", "--")
    for name, data in files.items():
        write(f"{base}/blobs/{sha(data)}", data)
        link = f"{base}/snapshots/{commit}/{name}"
        os.makedirs(os.path.dirname(link), exist_ok=True)
        os.symlink(os.path.relpath(f"{base}/blobs/{sha(data)}", os.path.dirname(link)), link)
    if main:
        write(f"{base}/refs/main", commit.encode())


def picture(folder):
    """All that stat tells of all that is there, looked at without a trace. A link's atime is left out: to follow
    it is to read it, and the kernel notes that."""
    seen = {}
    st = os.lstat(folder)
    link = os.path.islink(folder)
    seen[folder] = (st.st_mode, st.st_ino, st.st_uid, st.st_gid, st.st_size, st.st_nlink, st.st_mtime_ns, st.st_ctime_ns,
                    0 if link else st.st_atime_ns)
    if os.path.isdir(folder) and not link:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME)
        names = os.listdir(fd)
        os.close(fd)
        for name in names:
            seen.update(picture(os.path.join(folder, name)))
    return seen


def settle(folder):
    """Old times, so that a read would show as a newer atime (relatime)."""
    old = 1_600_000_000_000_000_000
    for where, folders, files in os.walk(folder, topdown=False):
        for name in files + folders:
            os.utime(os.path.join(where, name), ns=(old, old + 1_000_000_000), follow_symlinks=False)
    os.utime(folder, ns=(old, old + 1_000_000_000))


class Adopt(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="hearth-adopt-")
        self.addCleanup(shutil.rmtree, self.home, True)
        self.daemon = hearthd.Daemon(HEARTH + "d", "--device", "ref").start()
        self.addCleanup(self.daemon.stop)

    def hearth(self, *args, rc=0, **env):
        clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HEARTH_TEST_SLOW") or k.startswith("LC_")}
        clean.update({"HOME": self.home, "HEARTH_HOST": "unix://" + self.daemon.socket}, **env)
        got = subprocess.run([HEARTH, *args], capture_output=True, env=clean, timeout=120 * hearthd.SLOW, text=True)
        self.assertEqual(got.returncode, rc, f"{args}: {got.stdout} {got.stderr}\n{self.daemon.log()[-2000:]}")
        return got.stdout, got.stderr

    def found(self, *args, **env):
        """{name: row}, notes"""
        last = json.loads(self.hearth("adopt", "--json", *args, **env)[0].splitlines()[-1])
        return {m["name"]: m for m in last["models"]}, {n["path"]: n["why"] for n in last["notes"]}

    def tags(self):
        return {m["name"]: m for m in self.daemon.get("/api/tags").json["models"]}

    def ask(self, name):
        return self.daemon.post("/api/generate", {"model": name, "prompt": "hi", "stream": False,
                                                  "options": {"num_predict": 3, "temperature": 0}})

    def unchanged(self, before):
        now = picture(self.home)
        self.assertEqual({p: (before.get(p), now.get(p)) for p in {*before, *now} if before.get(p) != now.get(p)}, {})

    def test_ollama_with_all_its_texts(self):
        root = self.home + "/.ollama/models"
        texts = [("template", b"{{ .Prompt }}!"), ("system", b"Be kind."), ("license", b"one"), ("license", b"two"),
                 ("params", b'{"stop":["x"],"temperature":0.5}')]
        path = ollama(root, "registry.ollama.ai/library/tiny/1b", model(1), texts)
        ollama(root, "hf.co/some/Repo-GGUF/Q8_0", model(1), [])
        with open(path, "rb") as f:
            digest = sha(f.read())
        settle(self.home)
        before = picture(self.home)
        rows, notes = self.found()
        self.assertEqual(set(rows), {"tiny:1b", "hf.co/some/Repo-GGUF:Q8_0"})
        self.assertEqual(notes, {})
        self.assertEqual((rows["tiny:1b"]["kind"], rows["tiny:1b"]["quantization_level"], rows["tiny:1b"]["here"]),
                         ("ollama", "F32", False))
        self.assertEqual(rows["tiny:1b"]["size"], len(model(1)) + sum(len(d) for _, d in texts))
        self.assertEqual(self.tags(), {})
        out, _ = self.hearth("adopt", "tiny:1b")
        self.assertIn("adopted", out)
        self.assertEqual(self.tags()["tiny:1b"]["digest"], digest)  # the one that Ollama shows
        with sqlite3.connect(f"file:{self.daemon.home}/db?mode=ro", uri=True) as db:
            kept = {bytes(body) for body, in db.execute("SELECT body FROM blobs WHERE body IS NOT NULL")}
        self.assertEqual(kept, {data for _, data in texts} | {b'{"model_format":"gguf"}'})
        self.assertEqual(self.ask("tiny:1b").status, 200)
        self.assertEqual(os.listdir(self.daemon.home + "/blobs"), [])
        self.unchanged(before)
        rows, _ = self.found()
        self.assertTrue(rows["tiny:1b"]["here"])
        self.hearth("adopt", "--all")
        self.assertEqual(set(self.tags()), {"tiny:1b", "hf.co/some/Repo-GGUF:Q8_0"})
        self.hearth("adopt", "tiny:1b")                       # once more is no error
        self.hearth("rm", "tiny:1b", "hf.co/some/Repo-GGUF:Q8_0")
        self.unchanged(before)

    def test_the_others(self):
        one, two = split(model(4))
        hub(self.home + "/.cache/huggingface/hub", "Org/Repo-GGUF", "c" * 40,
            {"tiny-Q8.gguf": model(2), "sub/big-00001-of-00002.gguf": one, "sub/big-00002-of-00002.gguf": two})
        hub(self.home + "/.cache/huggingface/hub", "Org/Repo-GGUF", "d" * 40, {"tiny-Q8.gguf": model(3)}, main=False)
        hub(self.home + "/.cache/huggingface/hub", "Org/Repo-GGUF", "e" * 40, {"again.gguf": model(2)}, main=False)
        write(self.home + "/.lmstudio/models/pub/Repo/Some Model-Q4.gguf", model(5))
        write(self.home + "/.lmstudio/models/pub/Repo/mmproj-F16.gguf", model(6))
        cached = write(self.home + "/.cache/llama.cpp/org_repo_m.gguf", model(7))
        write(cached + ".etag", ('"%s"' % sha(model(7))).encode())
        write(self.home + "/.cache/llama.cpp/other.gguf", model(8))
        write(self.home + "/.cache/llama.cpp/other.gguf.json", json.dumps({"etag": '"%s"' % sha(b"no")}).encode())
        write(self.home + "/.cache/llama.cpp/no.gguf", b"text")
        settle(self.home)
        before = picture(self.home)
        rows, notes = self.found()
        self.assertEqual(set(rows), {
            "hf.co/Org/Repo-GGUF:tiny-Q8.gguf", "hf.co/Org/Repo-GGUF:tiny-Q8.gguf-2",
            "hf.co/Org/Repo-GGUF:big-00001-of-00002.gguf", "some-model-q4:latest", "org_repo_m:latest", "other:latest",
            "no:latest"}, notes)
        self.assertIn("no GGUF", rows["no:latest"]["problem"])
        self.assertEqual(rows["hf.co/Org/Repo-GGUF:big-00001-of-00002.gguf"]["size"], len(one) + len(two))
        self.assertEqual(rows["some-model-q4:latest"]["size"], len(model(5)) + len(model(6)))
        self.assertIn("/" + "c" * 40 + "/", rows["hf.co/Org/Repo-GGUF:tiny-Q8.gguf"]["path"])
        self.hearth("adopt", "nosuch", rc=4)
        for spelt in ("no:latest", "no", "library/No"):
            self.assertIn("no GGUF", self.hearth("adopt", spelt, rc=1)[1])
        _, said = self.hearth("adopt", "other:latest", rc=1)
        self.assertIn("is damaged", said)
        last = json.loads(self.hearth("adopt", "--all", "--json")[0].splitlines()[-1])
        self.assertEqual({m["name"] for m in last["models"] if "problem" in m and not m["adopted"]},
                         {"no:latest", "other:latest"})
        self.assertEqual(len(self.tags()), 5)
        for name in self.tags():
            self.assertEqual(self.ask(name).status, 200, self.ask(name).body)
        self.assertEqual(os.listdir(self.daemon.home + "/blobs"), [])
        self.unchanged(before)

    def test_a_directory_and_places_that_variables_name(self):
        write(self.home + "/mine/deep/er/A-Model.gguf", model(9))
        ollama(self.home + "/moved", "registry.ollama.ai/library/m/t", model(10), [])
        write(self.home + "/lc/x.gguf", model(11))
        hub(self.home + "/hf/hub", "o/r", "a" * 40, {"y.gguf": model(12)})
        self.assertEqual(set(self.found("--from", self.home + "/mine")[0]), {"a-model:latest"})
        self.assertEqual(set(self.found(OLLAMA_MODELS=self.home + "/moved")[0]), {"m:t"})
        self.assertEqual(set(self.found(LLAMA_CACHE=self.home + "/lc")[0]), {"x:latest"})
        self.assertEqual(set(self.found(HF_HOME=self.home + "/hf")[0]), {"hf.co/o/r:y.gguf"})
        self.assertEqual(set(self.found(HF_HUB_CACHE=self.home + "/hf/hub")[0]), {"hf.co/o/r:y.gguf"})
        self.assertEqual(self.found()[0], {})
        self.assertIn("no models", self.hearth("adopt")[0])
        self.hearth("adopt", "--from", self.home + "/nosuch", rc=4)

    def test_a_name_that_is_taken_stays_what_it_is(self):
        other = write(self.home + "/other.gguf", model(20))
        self.daemon.load("tiny:1b", other, reference=False)
        ollama(self.home + "/.ollama/models", "registry.ollama.ai/library/tiny/1b", model(21), [])
        digest = self.tags()["tiny:1b"]["digest"]
        self.assertIn("another model called", self.hearth("adopt", "tiny:1b", rc=1)[1])
        self.hearth("adopt", "--all")
        self.assertEqual(self.tags()["tiny:1b"]["digest"], digest)

    def test_hostile_caches(self):
        root = self.home + "/.ollama/models"

        def put(name, change):
            ollama(root, "registry.ollama.ai/library/" + name, model(1), [("license", b"l")], change=change)
        put("a/x", lambda m: m["layers"][0].update(digest="sha256:../../../../etc/passwd"))
        put("b/x", lambda m: m["layers"][0].update(size=1))
        put("c/x", lambda m: m["layers"][0].update(digest=DIGEST_0))
        put("d/x", lambda m: m.update(layers=[m["layers"][0]] * 5000))
        put("e/x", lambda m: m["layers"].append({"mediaType": "application/x-sh", "digest": DIGEST_0, "size": 1}))
        put("f/x", lambda m: m["layers"][1].update(size=2**70))
        put("-bad-/x", lambda m: None)
        write(root + "/manifests/registry.ollama.ai/library/g/x", b"[" * 100000)
        write(root + "/manifests/registry.ollama.ai/library/h/x", b"")
        os.truncate(write(root + "/manifests/registry.ollama.ai/library/i/x", b""), 1 << 30)
        os.mkfifo(root + "/manifests/registry.ollama.ai/library/i/fifo")
        os.symlink("/dev/zero", root + "/manifests/registry.ollama.ai/library/i/zero")
        os.symlink(".", root + "/manifests/registry.ollama.ai/library/loop")
        os.symlink("nowhere", root + "/manifests/registry.ollama.ai/library/dangling")
        changed = model(33)
        ollama(root, "registry.ollama.ai/library/z/x", changed, [])
        blob = f"{root}/blobs/sha256-{sha(changed)}"
        write(blob, changed[:-1] + b"!")                     # the right size, other bytes
        rows, notes = self.found()
        self.assertEqual(set(rows), {"b:x", "c:x", "z:x"}, (rows, notes))
        self.assertIn("its manifest says 1", rows["b:x"]["problem"])
        self.assertIn("No such file", rows["c:x"]["problem"])
        for model_name in "adefghi":
            self.assertTrue(any(f"/library/{model_name}/x" in p for p in notes), (model_name, notes))
        self.assertIn("is damaged", self.hearth("adopt", "z:x", rc=1)[1])
        self.assertEqual(self.tags(), {})

    def test_loops_and_closed_doors(self):
        top = self.home + "/tree"
        write(top + "/a/m.gguf", model(1))
        for name, to in (("a/up", ".."), ("a/self", "."), ("b", "a"), ("c", "c")):
            os.symlink(to, f"{top}/{name}")
        os.mkdir(top + "/closed")
        write(top + "/closed/n.gguf", model(2))
        os.symlink("/dev/zero", top + "/zero.gguf")
        os.mkfifo(top + "/fifo.gguf")
        if os.geteuid():
            os.chmod(top + "/closed", 0)
            self.addCleanup(os.chmod, top + "/closed", 0o700)
        began = time.monotonic()
        rows, notes = self.found("--from", top)
        self.assertLess(time.monotonic() - began, 10 * hearthd.SLOW)
        self.assertEqual(set(rows) - {"n:latest"}, {"m:latest"})
        self.assertTrue(any(p.endswith("/c") for p in notes), notes)
        if os.geteuid():
            self.assertIn("Permission denied", notes[top + "/closed"])

    def test_who_may(self):
        body = {"roots": [{"kind": "directory", "path": self.home}], "stream": False}
        self.assertEqual(self.daemon.ask("POST", "/api/adopt", body, tcp=True).status, 403)
        for wrong in ({"roots": [{"kind": "nosuch", "path": "/"}]}, {"roots": [{"kind": "directory", "path": "rel"}]},
                      {"roots": [{}]}, {"roots": 7}, {"names": [7]}, {"roots": [{"kind": "directory", "path": "/a\0b"}]}):
            self.assertEqual(self.daemon.post("/api/adopt", {**wrong, "stream": False}).status, 400, wrong)

    def test_a_file_that_changes_is_noticed(self):
        path = write(self.home + "/mine/m.gguf", model(1))
        self.hearth("adopt", "--from", self.home + "/mine", "m:latest")
        self.assertEqual(self.ask("m").status, 200)
        self.daemon.post("/api/generate", {"model": "m", "keep_alive": 0})
        os.truncate(path, os.path.getsize(path) - 64)
        for _ in range(2):
            r = self.ask("m")
            self.assertEqual((r.status, "changed" in r.json["error"]), (409, True), r.body)
        os.rename(path, path + ".away")
        self.assertEqual(self.ask("m").status, 404)
        write(path, model(1))                                # back again, touched, the same bytes
        self.assertEqual(self.ask("m").status, 200)
        self.daemon.post("/api/generate", {"model": "m", "keep_alive": 0})

    def test_a_file_that_shrinks_under_us(self):
        """While it is loaded and asked, and while it is being loaded: an error or an answer, and the daemon lives."""
        path = write(self.home + "/mine/m.gguf", model(1))
        self.hearth("adopt", "--from", self.home + "/mine", "m:latest")
        want = self.ask("m").json["response"]
        os.truncate(path, 4096)
        statuses = {self.ask("m").status for _ in range(3)}
        self.assertLessEqual(statuses, {200, 409})
        write(path, model(1))
        stop = threading.Event()

        def shake():
            while not stop.is_set():
                os.truncate(path, 5000)
                write(path, model(1))
        thread = threading.Thread(target=shake)
        thread.start()
        seen = set()
        try:
            until = time.monotonic() + 3
            while time.monotonic() < until:
                self.daemon.post("/api/generate", {"model": "m", "keep_alive": 0})
                r = self.ask("m")
                seen.add(r.status)
                if r.status == 200:
                    self.assertEqual(r.json["response"], want)
                else:
                    self.assertTrue(r.json["error"])
        finally:
            stop.set()
            thread.join()
        self.assertLessEqual(seen, {200, 400, 404, 409, 500})
        write(path, model(1))
        self.assertEqual(self.ask("m").status, 200)
        self.assertEqual(self.daemon.get("/healthz").status, 200)


if __name__ == "__main__":
    unittest.main()
