#!/usr/bin/env python3
"""Bundles by the command and the daemon, and what other tools see in them. bundle_test.py PATH-OF-HEARTH

A judge of its own reads the tar by OCI's image-layout.md, and skopeo where it is installed."""
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hearthd  # noqa: E402
import tiny_gguf  # noqa: E402

HEARTH = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearth"
REF_NAME = "org.opencontainers.image.ref.name"


class Layout:
    """What the specification asks of a layout in a tar."""
    def __init__(self, data):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            self.names = tar.getnames()
            self.files = {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}
            for m in tar.getmembers():
                assert m.isfile() or m.isdir(), m.name
                assert (m.mtime, m.uid, m.gid, m.uname, m.gname) == (0, 0, 0, "", ""), m.name
        assert len(self.names) == len(set(self.names)), "an entry twice"
        assert json.loads(self.files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
        for name, data in self.files.items():
            if name.startswith("blobs/"):
                assert name == "blobs/sha256/" + hashlib.sha256(data).hexdigest(), name
        index = json.loads(self.files["index.json"])
        assert index["schemaVersion"] == 2
        self.models, reached = {}, set()
        for d in index["manifests"]:
            name = d["annotations"][REF_NAME]
            assert re.fullmatch(r"[A-Za-z0-9]+(([-._:@/+]|--)[A-Za-z0-9]+)*", name), name
            manifest = json.loads(self.blob(d, reached))
            assert d["mediaType"] == "application/vnd.oci.image.manifest.v1+json" and manifest["schemaVersion"] == 2
            self.blob(manifest["config"], reached)
            self.models[name] = (d["digest"], [self.blob(x, reached) for x in manifest["layers"]])
        assert reached == {n for n in self.files if n.startswith("blobs/")}, "a blob that nothing names"

    def blob(self, descriptor, reached):
        algorithm, digest = descriptor["digest"].split(":")
        name = "blobs/%s/%s" % (algorithm, digest)
        assert len(self.files[name]) == descriptor["size"]
        reached.add(name)
        return self.files[name]


class Bundles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hearth-bundle-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.files = []
        for i in range(2):
            cls.files.append("%s/m%d.gguf" % (cls.folder, i))
            tiny_gguf.write(cls.files[i], seed=i + 1)

    def setUp(self):
        self.d = hearthd.Daemon(HEARTH + "d", "--device", "ref").start()
        self.addCleanup(self.d.stop)
        self.other = hearthd.Daemon(HEARTH + "d", "--device", "ref").start()
        self.addCleanup(self.other.stop)
        self.d.load("one", self.files[0], reference=False)
        self.d.load("team/two:v2", self.files[1], reference=True)

    def hearth(self, daemon, *args, rc=0, **how):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        env["HEARTH_HOST"] = "unix://" + daemon.socket
        got = subprocess.run([HEARTH, *args], stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=120 * hearthd.SLOW, **how)
        self.assertEqual(got.returncode, rc, "%s: %r %r" % (args, got.stdout[-500:], got.stderr))
        return got.stdout, got.stderr.decode()

    def models(self, daemon):
        return {m["name"]: m["digest"] for m in daemon.get("/api/tags").json["models"]}

    def test_there_and_back(self):
        path = self.folder + "/two.tar"
        out, _ = self.hearth(self.d, "export", "one", "team/two:v2", "-o", path)
        self.assertIn(b"exported 2 models", out)
        with open(path, "rb") as f:
            data = f.read()
        layout = Layout(data)
        self.assertEqual({n: d for n, (d, _) in layout.models.items()}, {n: "sha256:" + d for n, d in self.models(self.d).items()})
        for name, file in zip(("one:latest", "team/two:v2"), self.files):
            with open(file, "rb") as f:
                self.assertEqual(layout.models[name][1], [f.read()])
        self.assertEqual(sorted(os.listdir(self.folder)), ["m0.gguf", "m1.gguf", "two.tar"])  # no leftover
        out, _ = self.hearth(self.other, "import", path)
        self.assertEqual(out.decode().splitlines(), ["imported 'one:latest'", "imported 'team/two:v2'"])
        self.assertEqual(self.models(self.other), self.models(self.d))
        ask = {"model": "one", "prompt": "x", "stream": False, "options": {"seed": 1, "num_predict": 8}}
        self.assertEqual(self.d.ok("/api/generate", ask)["response"], self.other.ok("/api/generate", ask)["response"])
        # the same bytes, from the other one, to standard output
        self.assertEqual(self.hearth(self.other, "export", "team/two:v2", "one", "-o", "-")[0], data)
        os.unlink(path)

    def test_two_texts_of_a_kind(self):
        path = self.folder + "/texts.tar"
        self.d.ok("/api/create", {"model": "said", "from": "one", "license": ["L1", "L2"], "stream": False})
        self.hearth(self.d, "export", "said", "-o", path)
        with open(path, "rb") as f:
            self.assertEqual(Layout(f.read()).models["said:latest"][1][1:], [b"L1", b"L2"])
        self.hearth(self.other, "import", path)
        self.assertEqual(self.models(self.other)["said:latest"], self.models(self.d)["said:latest"])
        os.unlink(path)

    def test_one_of_another_name(self):
        path = self.folder + "/one.tar"
        self.hearth(self.d, "export", "one", "-o", os.path.basename(path), cwd=self.folder)
        self.hearth(self.other, "import", path, "renamed:1")
        self.assertEqual(self.models(self.other), {"renamed:1": self.models(self.d)["one:latest"]})
        os.unlink(path)

    def test_what_goes_wrong_is_said(self):
        path = self.folder + "/x.tar"
        self.assertIn("not found", self.hearth(self.d, "export", "none", "-o", path, rc=4)[1])
        self.assertIn("say where to", self.hearth(self.d, "export", "one", rc=2)[1])
        self.hearth(self.d, "export", "one", "-o", path)
        self.assertIn("are copied out of it", self.hearth(self.d, "import", "--reference", path, rc=2)[1])
        os.unlink(path)
        self.assertIn("no such file", self.hearth(self.d, "export", "one", "-o", self.folder + "/none/x.tar", rc=1)[1].lower())
        self.assertIn("no plain file", self.hearth(self.d, "export", "one", "-o", self.folder, rc=1)[1])
        self.assertFalse(os.path.exists(path))
        with open(path, "wb") as f:
            with tarfile.open(fileobj=f, mode="w") as tar:
                link = tarfile.TarInfo("blobs")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc"
                tar.addfile(link)
        self.assertIn("'blobs' is a symbolic link", self.hearth(self.other, "import", path, rc=1)[1])
        os.unlink(path)
        for route, body in (("export", {"models": ["one"], "path": path}), ("import", {"path": path})):
            r = self.d.post("/api/" + route, body, tcp=True)
            self.assertEqual((r.status, "over the Unix socket" in r.json["error"]), (403, True), r.body)
        r = self.d.post("/api/import", {"path": self.files[0], "stream": False})
        self.assertEqual((r.status, r.json["error"]), (400, "model is required"))
        for body in ({}, {"models": []}, {"models": [1], "path": "/x"}, {"models": ["one"], "path": "x"}, {"models": ["a\0"], "path": "/x"},
                     {"models": ["one"], "path": "/x\0"}, {"models": ["one"], "path": ""}, {"models": ["one"] * 257, "path": "/x"}):
            self.assertEqual(self.d.post("/api/export", body).status, 400)
        for where, status in (("/none/x.tar", 404), ("/m0.gguf/x.tar", 500)):
            r = self.d.post("/api/export", {"models": ["one"], "path": self.folder + where, "stream": False})
            self.assertEqual((r.status, "for writing" in r.json["error"]), (status, True), r.body)
        with open(self.files[1], "rb") as f:
            good = f.read()
        st = os.stat(self.files[1])
        with open(self.files[1], "r+b") as f:
            f.seek(-1, 2)
            f.write(bytes([good[-1] ^ 1]))
        os.utime(self.files[1], ns=(st.st_atime_ns, st.st_mtime_ns))
        self.assertIn("no longer what it was", self.hearth(self.d, "export", "team/two:v2", "-o", path, rc=1)[1])
        self.assertEqual([n for n in os.listdir(self.folder) if "tar" in n], [])
        with open(self.files[1], "wb") as f:
            f.write(good)

    def test_a_reader_that_leaves(self):
        tmp = self.folder + "/t"
        os.mkdir(tmp)
        env = {**os.environ, "HEARTH_HOST": "unix://" + self.d.socket, "TMPDIR": tmp}
        p = subprocess.Popen([HEARTH, "export", "one", "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
        p.stdout.read(10)
        p.stdout.close()
        self.assertEqual((p.wait(60), os.listdir(tmp)), (1, []))
        os.rmdir(tmp)
        until = time.monotonic() + 30 * hearthd.SLOW
        while self.d.get("/api/ps").json.get("transfers") and time.monotonic() < until:
            time.sleep(0.02)
        self.assertFalse(self.d.get("/api/ps").json.get("transfers"))

    @unittest.skipUnless(shutil.which("skopeo"), "skopeo is not installed")
    def test_skopeo_reads_it(self):
        path = self.folder + "/s.tar"
        self.hearth(self.d, "export", "one", "team/two:v2", "-o", path)
        raw = subprocess.run(["skopeo", "--tmpdir", self.folder, "inspect", "--raw", "oci-archive:%s:one:latest" % path], capture_output=True)
        self.assertEqual(raw.returncode, 0, raw.stderr)
        self.assertEqual(hashlib.sha256(raw.stdout).hexdigest(), self.models(self.d)["one:latest"])
        # and what it writes in its turn is taken
        copy = self.folder + "/copy.tar"
        done = subprocess.run(["skopeo", "--insecure-policy", "--tmpdir", self.folder, "copy", "--preserve-digests", "--all",
                               "oci-archive:%s:one:latest" % path, "oci-archive:%s:mine:1" % copy], capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.hearth(self.other, "import", copy)
        self.assertEqual(self.models(self.other), {"mine:1": self.models(self.d)["one:latest"]})
        os.unlink(path)
        os.unlink(copy)


if __name__ == "__main__":
    unittest.main()
