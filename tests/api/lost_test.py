#!/usr/bin/env python3
"""A daemon whose Vulkan device is lost again and again: whoever was served is told, and the next one
is served by a new device. lost_test.py HEARTHD_LOSING [unittest arguments]"""
import concurrent.futures
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_gguf  # noqa: E402
from hearthd import Daemon  # noqa: E402

HEARTHD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/tests/hearthd_losing"


class Lost(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="hearth-lost-")
        self.addCleanup(folder.cleanup)
        tiny_gguf.write(folder.name + "/tiny.gguf")
        self.file = folder.name + "/tiny.gguf"

    def start(self, **env):
        d = Daemon(HEARTHD, env=env).start()
        self.addCleanup(d.stop)
        d.load("tiny", self.file)
        return d

    def ask(self, d, prompt="hello"):
        reply = d.post("/api/generate", {"model": "tiny", "prompt": prompt, "stream": False, "options":
                                         {"temperature": 0, "num_predict": 8, "ignore_eos": True}})
        return reply.status, reply.json.get("response"), reply.json.get("error")

    def lost(self, d):
        rows = [line.split() for line in d.get("/metrics").body.decode().splitlines()]
        return next(float(row[1]) for row in rows if row[0] == "hearth_device_lost_total")

    def test_one_after_another(self):
        status, right, error = self.ask(self.start())
        self.assertEqual((status, error), (200, None))
        d = self.start(HEARTH_TEST_LOSE="83", HEARTH_CPU_THREADS="2")
        answers = [self.ask(d) for _ in range(12)]
        self.check(d, answers, {right})
        for one, next_one in zip(answers, answers[1:]):
            self.assertIn(200, (one[0], next_one[0]))  # 83 calls are more than one answer takes

    def test_several_at_once(self):
        prompts = ["a", "bc", "def", "ghij"]
        sound = self.start()
        right = {self.ask(sound, p)[1] for p in prompts}
        d = self.start(HEARTH_TEST_LOSE="83", HEARTH_CPU_THREADS="2")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda p: self.ask(d, p), prompts * 8))
        self.check(d, answers, right)

    def check(self, d, answers, right):
        told = [error for status, _, error in answers if status != 200]
        self.assertGreater(len(answers) - len(told), 0)
        self.assertGreater(self.lost(d), 1)
        self.assertGreaterEqual(len(told), self.lost(d))
        for status, response, error in answers:
            if status == 200:
                self.assertIn(response, right)
            else:
                self.assertIn("lost", error)
        self.assertIsNone(d.process.poll())
        self.assertEqual(self.lost(d), d.log().count('msg="device lost"'))


if __name__ == "__main__":
    unittest.main()
