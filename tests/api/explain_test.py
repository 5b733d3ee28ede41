#!/usr/bin/env python3
"""hearthd --explain: what a model compiles to, for the device that is here and for those that are not, beside
a daemon that has the store open. explain_test.py HEARTHD [unittest arguments]"""
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_gguf  # noqa: E402
from hearthd import SLOW, Daemon  # noqa: E402

HEARTHD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearthd"
PROGRAM = re.compile(r"^program for tiles of (\d+): (\d+) launches, at most (\d+) a layer, (\d+) pipelines, "
                     r"(\d+) bytes of weights a tile$")
LAUNCH = re.compile(r"^ +(\d+|-)  (\S.*?) +(\w+) +local (\d+) .*groups (.*?)(?: weights (\d+))?  ")
DEVICE = re.compile(r"^(real|software|ref) device of subgroup (\d+) and (\d+) cores, workgroups of at most (\d+), "
                    r"bindings of (\d+) MiB; (\d+) pipelines in all; reproducible$", re.MULTILINE)


class Explain(unittest.TestCase):
    def setUp(self):
        files = tempfile.TemporaryDirectory(prefix="hearth-explain-")
        self.addCleanup(files.cleanup)
        self.home, self.file = files.name + "/home", files.name + "/tiny.gguf"
        tiny_gguf.write(self.file)

    def run_it(self, *flags, model=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        return subprocess.run([HEARTHD, "--home", self.home, "--explain", model or self.file, *flags], env=env,
                              capture_output=True, text=True, timeout=60 * SLOW, check=False)

    def explain(self, *flags, model=None):
        got = self.run_it(*flags, model=model)
        self.assertEqual(got.returncode, 0, got.stderr)
        return got.stdout

    def refused(self, status, words, *flags, model=None):
        got = self.run_it(*flags, model=model)
        self.assertEqual((got.returncode, got.stdout), (status, ""), got.stderr)
        self.assertIn(words, got.stderr)

    def test_a_device_that_is_not_here(self):
        text = self.explain("--subgroup", "64", "--cores", "128", "--max-local", "256", "--max-range", "128")
        self.assertEqual(DEVICE.search(text).groups()[:5], ("real", "64", "128", "256", "128"))
        text = self.explain("--cores", "7")
        self.assertEqual(DEVICE.search(text).groups()[:5], ("real", "32", "7", "1024", "2048"))
        text = self.explain("--subgroup", "8")
        self.assertEqual(DEVICE.search(text).groups()[:2], ("software", "8"))
        self.assertFalse(os.path.exists(self.home), "a file needs no store")

    def test_totals(self):
        text = self.explain("--subgroup", "32", "--cores", "128")
        programs, total = [], int(DEVICE.search(text).group(6))
        for line in text.splitlines():
            head, launch = PROGRAM.match(line), LAUNCH.match(line)
            if head:
                programs.append([[int(n) for n in head.groups()], []])
            elif launch:
                programs[-1][1].append(launch)
        self.assertEqual([p[0][0] for p in programs][0], 1)
        for (_, launches, a_layer, pipelines, weights), found in programs:
            self.assertEqual(launches, len(found))
            self.assertEqual(a_layer, sum(f.group(1) == "0" for f in found))
            self.assertEqual(weights, sum(int(f.group(6) or 0) for f in found))
            self.assertLessEqual(pipelines, min(launches, total))
        vocab = len(tiny_gguf.vocabulary()[0])
        embd, ff = tiny_gguf.EMBD, tiny_gguf.FF
        self.assertGreaterEqual(programs[0][0][4], 4 * (4 * embd * embd + 3 * embd * ff + embd * vocab))

    def test_the_device_that_is_here(self):
        text = self.explain("--device", "ref")
        self.assertEqual(text.splitlines()[0], "ref, C twins on the CPU")
        self.assertEqual(DEVICE.search(text).group(1), "ref")
        self.refused(1, "no such device anywhere", "--device", "no such device anywhere")

    def test_settings_of_the_daemon_count(self):
        text = self.explain("--cores", "2", "--context", "128", "--parallel", "3")
        self.assertIn("context 128 x 3 sessions", text)
        f16, f32 = (int(re.search(r"KV (\d+)", self.explain("--cores", "2", "--kv-type", t)).group(1))
                    for t in ("f16", "f32"))
        self.assertEqual(f32, 2 * f16)

    def test_beside_a_daemon(self):
        os.mkdir(self.home)
        daemon = Daemon(HEARTHD, "--device", "ref", home=self.home, listen="off").start()
        self.addCleanup(daemon.stop)
        daemon.load("small", self.file)
        alone = self.explain("--cores", "4").splitlines()
        self.assertEqual(self.explain("--cores", "4", model="small").splitlines(), alone)
        daemon.ok("/api/generate", {"model": "small", "prompt": "x", "stream": False,
                                    "options": {"num_predict": 1}})
        self.refused(1, "nothing", "--cores", "4", model="nothing")
        daemon.stop()
        self.assertEqual(self.explain("--cores", "4", model="small").splitlines(), alone)

    def test_what_cannot_be_done_is_said(self):
        self.refused(1, "no store", "--cores", "4", model="small")
        self.refused(1, "48", "--subgroup", "48")
        self.refused(2, "--cores", "--cores", "many")
        self.refused(1, "64", "--max-local", "16")
        tiny_gguf.write(self.file, vocab_only=True)
        self.refused(1, "weights", "--cores", "4")


if __name__ == "__main__":
    unittest.main()
