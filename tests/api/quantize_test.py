#!/usr/bin/env python3
"""hearth quantize and /api/quantize, on the C twins and tiny models.
quantize_test.py PATH-OF-HEARTH [unittest arguments]; hearthd lies beside it."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hearthd  # noqa: E402
import tiny_gguf  # noqa: E402

HEARTH = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearth"
TYPES = ["F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q4_0"]


def grow(path, megabytes):
    """A tiny model with one more tensor, of zeros that take no room on the disk."""
    tiny_gguf.write(path)
    with open(path, "rb") as f:
        data = f.read()
    n_tensors, = struct.unpack_from("<Q", data, 8)
    last = b"blk.0.ffn_down.weight"
    at = data.index(last) + len(last)
    n_dims, = struct.unpack_from("<I", data, at)
    end = at + 4 + 8 * n_dims + 4 + 8
    begin = (end + 31) // 32 * 32
    weights = data[begin:] + b"\0" * (-len(data[begin:]) % 32)
    head = data[:8] + struct.pack("<Q", n_tensors + 1) + data[16:end]
    head += tiny_gguf.string("extra.weight") + struct.pack("<IQQIQ", 2, 1024, megabytes * 256, 0, len(weights))
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % 32) + weights)
        f.truncate(f.tell() + (megabytes << 20))


class Quantize(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hearth-quantize-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.file = cls.folder + "/Tiny.gguf"
        tiny_gguf.write(cls.file)
        cls.daemon = hearthd.Daemon(HEARTH + "d", "--device", "ref").start()
        cls.addClassCleanup(cls.daemon.stop)
        cls.daemon.load("tiny:f32", cls.file)

    def hearth(self, *args, rc=0):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_") or k == "HEARTH_TEST_SLOW"}
        env["HEARTH_HOST"] = "unix://" + self.daemon.socket
        got = subprocess.run([HEARTH, *args], capture_output=True, env=env, timeout=120 * hearthd.SLOW, text=True)
        self.assertEqual(got.returncode, rc, f"{args}: {got.stdout} {got.stderr}\n{self.daemon.log()[-2000:]}")
        return got.stdout, got.stderr

    def models(self):
        return {m["name"]: m for m in json.loads(self.daemon.get("/api/tags").body)["models"]}

    def test_every_type_runs(self):
        for kind in TYPES:
            name = "tiny:" + kind.lower()
            out, _ = self.hearth("quantize", "tiny:f32", name, kind.lower())
            self.assertIn("is 'tiny:f32' in", out)
            self.assertEqual(self.models()[name]["details"]["quantization_level"], kind)
            r = self.daemon.ok("/api/generate", {"model": name, "prompt": "hi", "stream": False,
                                                 "options": {"num_predict": 4, "temperature": 0}})
            self.assertEqual(r["eval_count"], 4)
        sizes = [self.models()["tiny:" + k.lower()]["size"] for k in ("F32", "F16", "Q8_0", "Q4_0")]
        self.assertEqual(sizes, sorted(sizes, reverse=True))

    def test_events_and_the_last_word(self):
        r = self.daemon.post("/api/quantize", {"model": "tiny:f32", "destination": "e:q", "quantize": "Q8_0"})
        self.assertEqual(r.status, 200)
        self.assertEqual(r.lines[0]["status"], "quantizing F32 model to Q8_0")
        self.assertTrue(all(x["completed"] <= x["total"] for x in r.lines if "total" in x))
        self.assertEqual(r.lines[-1]["status"], "success")
        self.assertEqual(r.lines[-1]["model"], "e:q")
        self.assertEqual([x["status"] for x in r.lines].count("success"), 1)
        r = self.daemon.post("/api/quantize", {"model": "tiny:f32", "destination": "e:q2", "quantize": "Q8_0",
                                               "stream": False})
        self.assertEqual(r.json["digest"], self.models()["e:q"]["digest"])  # the same bytes, the same model

    def test_a_file(self):
        self.hearth("quantize", self.file, "file:q8", "Q8_0")
        self.hearth("cp", "tiny:f32", "hf.co/o/r:tiny.gguf")
        self.hearth("quantize", "hf.co/o/r:tiny.gguf", "file:same", "Q8_0")
        models = self.models()
        self.assertEqual(models["file:q8"]["size"], models["file:same"]["size"])
        r = self.daemon.ask("POST", "/api/quantize", {"path": self.file, "destination": "x", "quantize": "Q8_0"}, tcp=True)
        self.assertEqual(r.status, 403)

    def test_refusals(self):
        rows = [({"model": "tiny:f32", "destination": "x", "quantize": "Q9"}, 400, "Q4_K_M"),
                ({"model": "nosuch", "destination": "x", "quantize": "Q8_0"}, 404, "nosuch"),
                ({"model": "tiny:f32", "destination": "../x", "quantize": "Q8_0"}, 400, "name"),
                ({"model": "tiny:f32", "quantize": "Q8_0"}, 400, "destination"),
                ({"model": "tiny:f32", "destination": "x"}, 400, "quantize"),
                ({"destination": "x", "quantize": "Q8_0"}, 400, "model"),
                ({"path": "relative.gguf", "destination": "x", "quantize": "Q8_0"}, 400, "absolute"),
                ({"path": "/nosuch.gguf", "destination": "x", "quantize": "Q8_0"}, 404, "nosuch.gguf"),
                ({"path": HEARTH, "destination": "x", "quantize": "Q8_0"}, 400, "GGUF")]
        for body, status, sentence in rows:
            r = self.daemon.post("/api/quantize", {**body, "stream": False})
            self.assertEqual((r.status, sentence in r.json["error"]), (status, True), r.body)
        self.hearth("quantize", "tiny:f32", "again:q8", "Q8_0")
        _, said = self.hearth("quantize", "again:q8", "again:q4", "Q4_0", rc=1)
        self.assertRegex(said, r"'again:q8' is quantised already")  # and not a file of the store
        self.assertNotIn("again:q4", self.models())

    def test_who_leaves_stops_it(self):
        big = self.folder + "/big.gguf"
        grow(big, 3000)
        c = self.daemon.connection()
        body = json.dumps({"path": big, "destination": "left:q", "quantize": "Q4_K_M"})
        c.request("POST", "/api/quantize", body, {"Content-Type": "application/json"})
        reply = c.getresponse()
        self.assertEqual(json.loads(reply.readline())["status"], "quantizing F32 model to Q4_K_M")
        self.assertEqual(len(os.listdir(self.daemon.home + "/tmp")), 1)
        reply.close()
        c.close()
        until = time.monotonic() + 5 * hearthd.SLOW
        while os.listdir(self.daemon.home + "/tmp") and time.monotonic() < until:
            time.sleep(0.02)
        self.assertEqual(os.listdir(self.daemon.home + "/tmp"), [])
        self.assertNotIn("left:q", self.models())
        os.unlink(big)


if __name__ == "__main__":
    unittest.main()
