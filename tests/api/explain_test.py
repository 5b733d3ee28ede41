#!/usr/bin/env python3
"""hearthd --explain: what a model compiles to, for the device that is here and for those that are not, beside
a daemon that has the store open. explain_test.py HEARTHD [unittest arguments]"""
import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_gguf  # noqa: E402
from hearthd import SLOW, Daemon  # noqa: E402

HEARTHD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearthd"
MOST_A_LAYER = 6 # as in plan_test.c
PROGRAM = re.compile(r"^program for tiles of (\d+): (\d+) launches, at most (\d+) a layer, (\d+) pipelines, "
                     r"(\d+) bytes of weights a tile$")
LAUNCH = re.compile(r"^ +(\d+|-)  (\S.*?) +(\w+) +local (\d+) .*groups (.*?)(?: weights (\d+))?  ")
DEVICE = re.compile(r"^(real|software|ref) device of subgroup (\d+) and (\d+) cores, workgroups of at most (\d+), "
                    r"bindings of (\d+) MiB; (\d+) pipelines in all; reproducible$", re.MULTILINE)


def write_8b(path):
    """Llama-3.1-8B in Q4_0 (its logits' matrix too), a hole where the weights would be. Bytes of what a decode
    step reads of them."""
    keys = [("general.architecture", tiny_gguf.STRING, "llama"), ("llama.attention.layer_norm_rms_epsilon",
                                                                  tiny_gguf.F32, 1e-5)]
    keys += [("llama." + k, tiny_gguf.U32, v) for k, v in (
        ("context_length", 131072), ("embedding_length", 4096), ("block_count", 32), ("feed_forward_length", 14336),
        ("attention.head_count", 32), ("attention.head_count_kv", 8))]
    weights = [("token_embd", 4096, 128256), ("output", 4096, 128256), ("output_norm", 4096)]
    for i in range(32):
        weights += [("blk.%d.%s" % (i, name), *shape) for name, *shape in (
            ("attn_norm", 4096), ("attn_q", 4096, 4096), ("attn_k", 4096, 1024), ("attn_v", 4096, 1024),
            ("attn_output", 4096, 4096), ("ffn_norm", 4096), ("ffn_gate", 4096, 14336), ("ffn_up", 4096, 14336),
            ("ffn_down", 14336, 4096))]
    head, at = struct.pack("<4sIQQ", b"GGUF", 3, len(weights), len(keys)), 0
    for key, kind, v in keys:
        head += tiny_gguf.string(key) + struct.pack("<I", kind) + tiny_gguf.value(kind, v)
    for name, *shape in weights:
        head += tiny_gguf.string(name + ".weight") + struct.pack("<I%dQ" % len(shape), len(shape), *shape)
        head += struct.pack("<IQ", 2 if len(shape) == 2 else 0, at) # Q4_0, F32
        at += shape[0] * shape[1] // 32 * 18 if len(shape) == 2 else shape[0] * 4
    with open(path, "wb") as f:
        f.write(head)
        f.truncate(len(head) + 32 + at)
    return at - 128256 * 4096 // 32 * 18


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

    def test_8b_on_128_cores(self):
        weights = write_8b(self.file)
        for subgroup in "32", "64":
            text = self.explain("--subgroup", subgroup, "--cores", "128")
            self.assertLessEqual(int(DEVICE.search(text).group(6)), 60)
            for line in text.splitlines():
                head, launch = PROGRAM.match(line), LAUNCH.match(line)
                if head:
                    # the first layer's norm; embedding, last norm, logits
                    self.assertLessEqual(int(head.group(3)), MOST_A_LAYER + 1)
                    self.assertLessEqual(int(head.group(2)), 32 * MOST_A_LAYER + 1 + 3)
                    self.assertLessEqual(int(head.group(5)), 1.05 * weights)
                    self.assertGreaterEqual(int(head.group(5)), 0.99 * weights)
                elif launch:
                    self.assertLessEqual(int(launch.group(4)), 256)
                    groups = int(launch.group(5).split()[0]) if launch.group(6) else 256
                    self.assertTrue(256 <= groups <= 65535, line)

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
