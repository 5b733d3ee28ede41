#!/usr/bin/env python3
"""hearth verify, prune and list with a filter, from the command to the disk.
care_test.py PATH-OF-HEARTH [unittest arguments]; hearthd lies beside it."""
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hearthd  # noqa: E402
import tiny_gguf  # noqa: E402

HEARTH = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearth"


class Care(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hearth-care-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.file = self.folder + "/Tiny.gguf"
        tiny_gguf.write(self.file)
        self.daemon = hearthd.Daemon(HEARTH + "d", "--device", "ref").start()
        self.addCleanup(self.daemon.stop)
        self.daemon.load("tiny:f32", self.file, reference=False)
        self.blob, = glob.glob(self.daemon.home + "/blobs/*")

    def hearth(self, *args, rc=0):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_") or k == "HEARTH_TEST_SLOW"}
        env["HEARTH_HOST"] = "unix://" + self.daemon.socket
        got = subprocess.run([HEARTH, *args], capture_output=True, env=env, timeout=60 * hearthd.SLOW, text=True)
        self.assertEqual(got.returncode, rc, f"{args}: {got.stdout} {got.stderr}\n{self.daemon.log()[-2000:]}")
        return got.stdout, got.stderr

    def flip(self, path):
        st = os.stat(path)
        os.chmod(path, 0o640)
        with open(path, "r+b") as f:
            f.seek(-1, 2)
            byte = f.read(1)
            f.seek(-1, 2)
            f.write(bytes([byte[0] ^ 1]))
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

    def test_what_is_damaged_is_said_and_mended(self):
        out, _ = self.hearth("verify")
        self.assertRegex(out, r"^1 file of .* verified: all are sound$")
        self.flip(self.blob)
        out, err = self.hearth("verify", "tiny:f32", rc=1)
        self.assertRegex(out, r"model 'tiny:f32': MiB 1 of 1 of blob [0-9a-f]{12} is damaged")
        self.assertIn("1 file is not sound; `hearth verify --repair`", err)
        r = self.daemon.post("/api/generate", {"model": "tiny:f32", "prompt": "a", "stream": False})
        self.assertEqual(r.status, 409)
        self.assertIn("damaged", r.json["error"])
        self.assertIn("was damaged, and is repaired", self.hearth("verify", "--repair")[0])
        with open(self.blob, "rb") as f:
            self.assertEqual("sha256-" + hashlib.sha256(f.read()).hexdigest(), os.path.basename(self.blob))
        self.daemon.ok("/api/generate", {"model": "tiny:f32", "prompt": "a", "stream": False,
                                         "options": {"num_predict": 1}})
        self.hearth("verify")
        self.assertEqual(self.hearth("verify", "none", rc=4)[0], "")

    def test_verify_tells_programs(self):
        self.flip(self.blob)
        lines = self.daemon.post("/api/verify", {}).lines
        self.assertTrue(lines[0]["status"].startswith("verifying "))
        self.assertEqual(lines[0]["total"], os.path.getsize(self.blob))
        last = lines[-1]
        self.assertEqual((last["status"], last["files"], last["bad"], last["repaired"]), ("success", 1, 1, 0))
        bad, = last["damaged"]
        self.assertEqual((bad["model"], bad["mib"], bad["of_mib"], bad["repaired"]), ("tiny:f32", [1], 1, False))
        r = self.daemon.post("/api/verify", {"model": "none", "stream": False})
        self.assertEqual(r.status, 404)
        self.assertEqual(self.daemon.post("/api/verify", "[]").status, 400)
        self.assertEqual(self.daemon.ok("/api/verify", {"stream": False})["bad"], 1)

    def test_prune(self):
        old = self.daemon.home + "/tmp/dl-" + "a" * 64 + ".part"
        new = self.daemon.home + "/tmp/dl-" + "b" * 64 + ".part"
        stranger = self.daemon.home + "/blobs/notes.txt"
        for path in old, new, stranger:
            with open(path, "w") as f:
                f.write("bytes")
        os.utime(old, (time.time() - 90000,) * 2)
        os.utime(new, (time.time() - 10,) * 2)
        out, _ = self.hearth("prune", "--dry-run")
        self.assertIn("1 file would go", out)
        self.assertTrue(os.path.exists(old))
        out, _ = self.hearth("prune")
        self.assertRegex(out, r"download +\S+ \S+ +dl-aaaa")
        self.assertRegex(out, r"stranger +\S+ \S+ +notes.txt")
        self.assertIn("1 file removed", out)
        self.assertEqual([os.path.exists(p) for p in (old, new, stranger, self.blob)], [False, True, True, True])
        got = json.loads(self.hearth("prune", "--older-than", "0s", "--json")[0].splitlines()[-1])
        self.assertEqual([x["kind"] for x in got["removed"]], ["download"])
        self.assertFalse(os.path.exists(new))
        self.hearth("prune", "--older-than", "soon", rc=2)

    def test_list_by_filter(self):
        self.daemon.load("other:f32", self.file, reference=False)
        names = lambda *f: sorted(row.split()[0] for row in self.hearth("list", *f)[0].splitlines()[1:])
        self.assertEqual(names(), ["other:f32", "tiny:f32"])
        self.assertEqual(names("TINY"), ["tiny:f32"])
        self.assertEqual(names("family:llama", "context<=512", "size<1GB"), ["other:f32", "tiny:f32"])
        self.assertEqual(names("cap:vision"), [])
        self.assertIn("a filter compares", self.hearth("list", "colour=red", rc=1)[1])
        entry, = json.loads(self.hearth("list", "tiny", "--json")[0])["models"]
        self.assertEqual((entry["origin"], entry["source"]), ("import", self.file))
        self.assertIn("completion", entry["capabilities"])


if __name__ == "__main__":
    unittest.main()
