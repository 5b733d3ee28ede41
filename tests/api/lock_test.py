#!/usr/bin/env python3
"""hearth lock and hearth sync, on a daemon with a registry of the test's own. lock_test.py PATH-OF-HEARTH"""
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "store"))
import hearthd  # noqa: E402
import hub_stub  # noqa: E402
import net  # noqa: E402
import tiny_gguf  # noqa: E402

HEARTH = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearth"


class Registry(http.server.ThreadingHTTPServer):
    """Manifests by tag and digest, and blobs."""
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.blobs, self.tags, self.asked = {}, {}, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def add(self, data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest, len(data)

    def model(self, tag, weights):
        (c, cn), (w, wn) = self.add(b"{}"), self.add(weights)
        manifest = ('{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":'
                    '{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"%s","size":%d},"layers":'
                    '[{"mediaType":"application/vnd.ollama.image.model","digest":"%s","size":%d}]}' % (c, cn, w, wn)).encode()
        self.tags[tag] = self.add(manifest)[0]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        s = self.server
        s.asked.append(self.path)
        what = self.path.rsplit("/", 1)[1]
        data = s.blobs.get(s.tags.get(what, what)) if self.path != "/v2/" else b"{}"
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        if "/manifests/" in self.path and data:
            self.send_header("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
        self.end_headers()
        self.wfile.write(data or b"")

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


class Locks(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hearth-lock-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.lock = self.folder + "/hearth.lock"
        self.registry = Registry()
        self.addCleanup(self.registry.server_close)
        self.addCleanup(self.registry.shutdown)
        self.weights = []
        for i in range(3):
            tiny_gguf.write(self.folder + "/m.gguf", seed=i + 1)
            with open(self.folder + "/m.gguf", "rb") as f:
                self.weights.append(f.read())
        self.registry.model("v1", self.weights[0])
        self.name = "http://127.0.0.1:%d/team/m:v1" % self.registry.server_port
        self.short = self.name[7:]
        self.d = self.daemon()

    def daemon(self, *flags, **env):
        d = hearthd.Daemon(HEARTH + "d", "--device", "ref", *flags, env={"HEARTH_OFFLINE": "0", **env}).start()
        self.addCleanup(d.stop)
        return d

    def hearth(self, daemon, *args, rc=0):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        env["HEARTH_HOST"] = "unix://" + daemon.socket
        got = subprocess.run([HEARTH, *args], stdin=subprocess.DEVNULL, capture_output=True, env=env, cwd=self.folder,
                             timeout=60 * hearthd.SLOW)
        self.assertEqual(got.returncode, rc, "%s: %r %r" % (args, got.stdout, got.stderr))
        return got.stdout.decode(), got.stderr.decode()

    def models(self, daemon):
        return {m["name"]: m["digest"] for m in daemon.get("/api/tags").json["models"]}

    def text(self):
        with open(self.lock) as f:
            return f.read()

    def locked(self):
        self.hearth(self.d, "pull", self.name)
        self.hearth(self.d, "lock", self.short)
        return self.models(self.d)[self.short]

    def test_a_line_a_model(self):
        digest = self.locked()
        self.d.load("zz", self.folder + "/m.gguf", reference=False)
        self.d.load("aa", self.folder + "/m.gguf", reference=False)
        self.hearth(self.d, "lock", "zz", "aa")
        rows = self.text().splitlines()
        self.assertEqual(rows[0], "# hearth.lock 1")
        self.assertEqual([r.split()[0] for r in rows[2:]], sorted([self.short, "aa:latest", "zz:latest"]))
        row = next(r for r in rows if r.startswith(self.short))
        self.assertRegex(row, r"^%s sha256:%s \d+ registry \S+ \S+$" % (re.escape(self.short), digest))
        before = self.text()
        self.hearth(self.d, "lock", self.name, "library/ZZ:latest", "registry.ollama.ai/library/aa")
        self.assertEqual(self.text(), before)
        self.hearth(self.d, "lock")
        self.assertEqual(self.text(), before)
        self.assertEqual(sorted(os.listdir(self.folder)), ["hearth.lock", "m.gguf"])
        lines = before.splitlines(True)
        out = self.hearth(self.d, "lock", "zz", "-o", "-")[0]
        self.assertEqual(out, "".join(lines[:2] + [line for line in lines if line.startswith("zz:")]))
        self.assertIn("which models?", self.hearth(self.d, "lock", "-o", "-", rc=2)[1])
        self.assertEqual(sorted(os.listdir(self.folder)), ["hearth.lock", "m.gguf"])
        self.assertIn("not found", self.hearth(self.d, "lock", "none", rc=4)[1])
        self.assertEqual(self.text(), before)

    def test_it_comes_back_at_its_digest(self):
        digest = self.locked()
        self.registry.model("v1", self.weights[1])  # the tag moves on
        other = self.daemon()
        self.hearth(other, "sync")
        self.assertEqual(self.models(other), {self.short: digest})
        asked = len(self.registry.asked)
        self.assertIn("as 'hearth.lock' has it, 0 brought", self.hearth(other, "sync")[0])
        self.assertEqual(len(self.registry.asked), asked)  # all here: nobody is asked
        err = self.hearth(self.daemon("--offline"), "sync", "--frozen", rc=1)[1]
        self.assertIn("'%s' is locked at %s, and here it is not: offline" % (self.short, digest), err)

    def test_frozen(self):
        digest = self.locked()
        self.registry.model("v1", self.weights[1])
        self.hearth(self.d, "pull", self.name)
        moved = self.models(self.d)[self.short]
        self.assertNotEqual(moved, digest)
        err = self.hearth(self.d, "sync")[1]
        self.assertIn("is locked at %s, and here it is %s" % (digest[:12], moved[:12]), err)
        self.assertEqual(self.models(self.d)[self.short], moved)
        self.hearth(self.d, "sync", "--frozen")
        self.assertEqual(self.models(self.d), {self.short: digest})
        # gone from its place: it fails and names both
        self.hearth(self.d, "pull", self.name)
        del self.registry.blobs["sha256:" + digest]
        err = self.hearth(self.d, "sync", "--frozen", rc=4)[1]
        self.assertIn(digest, err)
        self.assertIn(moved, err)
        self.assertEqual(self.models(self.d), {self.short: moved})

    def test_what_no_network_has(self):
        self.d.load("own", self.folder + "/m.gguf", reference=False)
        self.hearth(self.d, "lock", "own")
        other = self.daemon()
        self.assertIn("bring it by `hearth export`", self.hearth(other, "sync", rc=4)[1])
        other.load("same", self.folder + "/m.gguf", reference=False)
        self.hearth(other, "sync")  # the same model under another name
        self.assertEqual(set(self.models(other)), {"same:latest", "own:latest"})

    def hub(self, **files):
        """A hub with one repository, and its daemon."""
        repo = hub_stub.Repo("org/tiny", {k.replace("_", "-", 1) + ".gguf": v for k, v in files.items()},
                             card={"license": "mit"})
        ca = net.Ca(pathlib.Path(self.folder) / "ca")
        hub = hub_stub.Hub(ca.issue("hub", ips=["127.0.0.1"]), [repo])
        self.addCleanup(hub.stop)
        return repo, lambda: self.daemon("--ca-file", str(ca.file), HF_ENDPOINT=hub.url)

    def weights_of(self, daemon):
        path, = os.listdir(daemon.home + "/blobs")
        with open(daemon.home + "/blobs/" + path, "rb") as f:
            return f.read()

    def test_the_hub_by_its_commit(self):
        a, b, c = self.weights
        repo, daemon = self.hub(m_F32=a)
        for name in "hf.co/org/tiny:F32", "https://huggingface.co/org/tiny/blob/main/m-F32.gguf":
            first, here = repo.commit({"m-F32.gguf": a}), daemon()
            self.hearth(here, "pull", name, "--as", "m")
            self.hearth(here, "lock", "m")
            digest = self.models(here)["m:latest"]
            row = self.text().splitlines()[-1].split()
            self.assertEqual((row[0], row[1], row[3], row[5]), ("m:latest", "sha256:" + digest, "hub", first))
            repo.commit({"m-F32.gguf": b, "README.md": b"moved on"})
            there = daemon()
            self.hearth(there, "sync", "--frozen")
            self.assertEqual(self.models(there), {"m:latest": digest})
            self.assertEqual(self.weights_of(there), a)  # and not what `main` has now
            # a model that has moved on goes back
            self.hearth(here, "pull", name, "--as", "m")
            self.assertNotEqual(self.models(here)["m:latest"], digest)
            self.hearth(here, "sync", "--frozen")
            self.assertEqual(self.models(here), {"m:latest": digest})

    def test_the_hub_does_not_have_it_any_more(self):
        a, b, c = self.weights
        repo, daemon = self.hub(m_F32=a)
        first, here = repo.names["main"], daemon()
        name = "hf.co/org/tiny:F32"
        self.hearth(here, "pull", name)
        self.hearth(here, "lock", name)
        digest = self.models(here)[name]
        repo.commit({"m-F32.gguf": b})
        there = daemon()
        # the file is another one, at the same commit
        tree = repo.revisions[first]
        repo.revisions[first] = {"m-F32.gguf": hub_stub.File(c, True)}
        err = self.hearth(there, "sync", "--frozen", rc=1)[1]
        self.assertRegex(err, "'%s' is locked at %s, and what its place gives is [0-9a-f]{64}" % (name, digest))
        self.assertEqual(self.models(there), {})
        # the file is gone
        repo.revisions[first] = {"other-Q8_0.gguf": hub_stub.File(c, True)}
        err = self.hearth(there, "sync", "--frozen", rc=4)[1]
        self.assertIn("'%s' is locked at %s, and here it is not: hf.co/org/tiny has no 'F32'" % (name, digest), err)
        # the commit is gone, and here it has moved on
        del repo.revisions[first]
        self.hearth(there, "pull", name)
        moved = self.models(there)[name]
        err = self.hearth(there, "sync", "--frozen", rc=4)[1]
        self.assertIn("'%s' is locked at %s, and here it is %s: hf.co/org/tiny has no revision '%s'" %
                      (name, digest, moved, first), err)
        self.assertEqual(self.models(there), {name: moved})
        # it is there again
        repo.revisions[first] = tree
        self.assertIn("1 brought", self.hearth(there, "sync", "--frozen")[0])
        self.assertEqual(self.models(there), {name: digest})
        last = json.loads(self.hearth(there, "sync", "--frozen", "--json")[0].splitlines()[-1])
        self.assertEqual(last, {"status": "success", "models": 1, "brought": 0, "wrong": 0})

    def test_broken_files(self):
        row = "a:b sha256:%s 1 url - -\n" % ("0" * 64)
        good = "# hearth.lock 1\n" + row
        for text, sentence in (("", "line 1: it does not begin"), ("x\n", "line 1: it does not begin"),
                               (good + "\n" + row, "line 4: 'a:b' is there twice"),
                               (good + row.replace("a:b", "library/A:B"), "line 3: 'A:B' is there twice"),
                               (good.replace("a:b", "a%1B:b"), "line 2"), (good.replace("url", "u%1Bl"), "line 2"),
                               (good.replace("sha256:0", "sha256:g"), "line 2"), (good.replace(" 1 url", " x url"), "line 2"),
                               (good.replace(" -\n", "\n"), "line 2: NAME sha256:HEX"), (good.replace("url", "%4"), "field 4")):
            with open(self.lock, "w") as f:
                f.write(text)
            said = self.hearth(self.d, "sync", rc=1)[1]
            self.assertIn(sentence, said)
            self.assertNotIn("\x1b", said)
        os.unlink(self.lock)
        for command in "sync", "lock":
            self.assertIn("there is no 'hearth.lock' here", self.hearth(self.d, command, rc=4)[1])


if __name__ == "__main__":
    unittest.main()
