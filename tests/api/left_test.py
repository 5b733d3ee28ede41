#!/usr/bin/env python3
"""Clients that leave in the middle of a call leave nothing behind. left_test.py HEARTH [unittest arguments]"""
import hashlib
import json
import os
import random
import socket
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "store")]
import small_registry  # noqa: E402
import tiny_gguf  # noqa: E402
from hearthd import SLOW, Daemon  # noqa: E402

HEARTH = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearth"
HEARTHD = os.path.join(os.path.dirname(HEARTH), "hearthd")
CALLS, AT_ONCE = 48, 8
OWN = 2  # descriptors of the connections that ask for the figures, as they come and go


class Left(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.TemporaryDirectory(prefix="hearth-left-")
        cls.path = cls.files.name + "/here.gguf"
        tiny_gguf.write(cls.path, note="x" * (2 << 20))
        tiny_gguf.write(cls.files.name + "/there.gguf", note="y" * (2 << 20), seed=2)
        with open(cls.files.name + "/there.gguf", "rb") as f:
            cls.there = f.read()
        cls.registry = small_registry.SmallRegistry([300, 200, 100])
        cls.registry.add("there", ("model", cls.there), ("template", b"{{ .Prompt }}"))
        cls.name = cls.registry.name("there").replace("http://", "")
        cls.d = Daemon(HEARTHD, "--device", "ref", env={"HEARTH_OFFLINE": "0"}).start()
        cls.rng = random.Random(5)

    @classmethod
    def tearDownClass(cls):
        cls.d.stop()
        cls.registry.server.shutdown()
        cls.registry.server.server_close()
        cls.files.cleanup()

    def setUp(self):
        self.d.load("here", self.path, reference=False)
        self.settle()

    def figures(self):
        proc = "/proc/%d/" % self.d.process.pid
        blocks = [int(line.split()[1]) for line in self.d.get("/metrics").body.decode().splitlines()
                  if line.startswith("hearth_heap_blocks ")]
        return len(os.listdir(proc + "fd")), len(os.listdir(proc + "task")), blocks[0]

    def settle(self):
        """Waits until nothing is under way, and its files are closed."""
        end, last = time.monotonic() + 20 * SLOW, None
        while self.d.get("/api/ps").json["transfers"] or last != self.figures():
            self.assertLess(time.monotonic(), end)
            last = self.figures()
            time.sleep(0.1)
        return last

    def leave(self, head, body, seconds):
        """Sends, reads what comes for a while, and is gone."""
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.d.socket)
        s.settimeout(0.3)  # an upload has no answer yet
        try:
            s.sendall(head + b"\r\n\r\n" + body)
            if seconds is None:
                s.recv(100)
            else:
                time.sleep(seconds)
        except OSError:
            pass  # it was refused: another call has what this one wanted
        s.close()

    def many(self, make):
        before = self.settle()
        for _ in range(0, CALLS, AT_ONCE):
            calls = [threading.Thread(target=self.leave, args=(*make(), self.rng.choice((None, 0, 0.002, 0.01, 0.1))))
                     for _ in range(AT_ONCE)]
            for c in calls:
                c.start()
            for c in calls:
                c.join()
        after, end = self.settle(), time.monotonic() + 20 * SLOW
        while (after[0] > before[0] + OWN or after[1] > before[1]) and time.monotonic() < end:
            after = self.settle()
        self.assertLessEqual(after[0], before[0] + OWN)
        self.assertLessEqual(after[1], before[1])
        return after[2] - before[2]

    def call(self, route, **body):
        def make():
            text = json.dumps({k.rstrip("_"): v() if callable(v) else v for k, v in body.items()}).encode()
            return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d" % (route.encode(), len(text)), text
        return make

    def blob(self):
        data = self.rng.randbytes(600_000)
        return (b"POST /api/blobs/sha256:%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d"
                % (hashlib.sha256(data).hexdigest().encode(), len(data)), data[:self.rng.choice((0, 1, 70_000, 599_999))])

    def test_every_streaming_route(self):
        text = lambda: "%x" % self.rng.getrandbits(60)  # noqa: E731
        rows = {
            "pull": self.call("/api/pull", model=self.name, insecure=True, limit_rate="3M"),
            "pull, planned": self.call("/api/pull", model=self.name, insecure=True, dry_run=True),
            "push": self.call("/api/push", model="here", destination=self.name, insecure=True),
            "create of a file": self.call("/api/create", model="made", paths=[self.path], system=text),
            "create of a model": self.call("/api/create", model="made", from_="here", system=text),
            "quantize": self.call("/api/quantize", model="here", destination="small", quantize="Q8_0"),
            "import": self.call("/api/import", model="again", path=self.path, stream=True),
            "verify": self.call("/api/verify"),
            "prune": self.call("/api/prune"),
            "export": self.call("/api/export", models=["here"], path=self.files.name + "/out.tar"),
            "upload": self.blob,
        }
        for what, make in rows.items():
            with self.subTest(what):
                self.assertLess(self.many(make), CALLS)  # blocks of memory: of a cache at the most
        self.assertEqual([f for f in os.listdir(self.files.name) if f.endswith(".part")], [])
        for model in self.d.get("/api/tags").json["models"]:
            self.assertEqual(self.d.ask("DELETE", "/api/delete", {"model": model["name"]}).status, 200)
        self.d.ok("/api/prune", {"older_s": 0, "stream": False})
        self.assertEqual((os.listdir(self.d.home + "/blobs"), os.listdir(self.d.home + "/tmp")), ([], []))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[1:])
