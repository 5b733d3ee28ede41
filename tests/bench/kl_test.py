#!/usr/bin/env python3
"""kl.py judged on numbers that can be had another way. Needs numpy."""

import argparse
import contextlib
import io
import math
import os
import sys
import tempfile
import unittest

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kl  # noqa: E402  (it stands beside this file)

WINDOW, VOCAB, WINDOWS = 8, 7, 3  # an odd vocabulary: its rows are padded
ROWS = WINDOW - 1 - WINDOW // 2


def exact_log_probs(logits):
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "base")
        rng = np.random.default_rng(7)
        self.tokens = rng.integers(0, VOCAB, (WINDOWS, WINDOW)).astype(np.int32)
        self.logits = rng.normal(0, 2, (WINDOWS, ROWS, VOCAB)).astype(np.float32)
        self.other = (self.logits + rng.normal(0, 0.3, self.logits.shape)).astype(np.float32)
        kl.write_base(self.path, WINDOW, self.tokens, VOCAB, lambda index: self.logits[index])
        # What the tool says to its user as it goes is not what is tested.
        quiet = contextlib.redirect_stderr(io.StringIO())
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)

    def judge(self, logits, windows=WINDOWS):
        data = np.ascontiguousarray(logits, "<f4").tobytes()
        return kl.judge(kl.Base(self.path), io.BytesIO(data), windows)

    def test_codes_are_within_half_a_step(self):
        base = kl.Base(self.path)
        self.assertEqual((base.window, base.n_vocab, base.n_windows), (WINDOW, VOCAB, WINDOWS))
        np.testing.assert_array_equal(base.tokens, self.tokens)
        for index in range(WINDOWS):
            spread = np.ptp(self.logits[index], axis=1).max()
            off = np.abs(base.log_probs(index) - exact_log_probs(self.logits[index])).max()
            self.assertLess(off, 0.51 * spread / 65535 + 2e-6)

    def test_far_tail_is_clipped_and_equal_logits_are_kept(self):
        rows = np.array([[0, -50, 3, 1], [2, 2, 2, 2]], np.float32)
        kl.write_base(self.path, 6, np.zeros((1, 6), np.int32), 4, lambda index: rows)
        got = kl.Base(self.path).log_probs(0)
        exact = exact_log_probs(rows)
        self.assertAlmostEqual(got[0, 1], exact[0, 2] - kl.CLIP, places=4)
        np.testing.assert_allclose(got[:, [0, 2, 3]], exact[:, [0, 2, 3]], atol=2e-4)

    def test_figures(self):
        figures = self.judge(self.other)
        p, q = exact_log_probs(self.logits), exact_log_probs(self.other)
        self.assertAlmostEqual(figures["kl_mean"], (np.exp(p) * (p - q)).sum(-1).mean(), places=5)
        first = WINDOW // 2
        nll = [-q[w, r, self.tokens[w, first + 1 + r]] for w in range(WINDOWS) for r in range(ROWS)]
        self.assertAlmostEqual(figures["perplexity"], math.exp(np.mean(nll)), places=4)
        self.assertAlmostEqual(figures["running"][0], math.exp(np.mean(nll[:ROWS])), places=3)
        same = (p.argmax(-1) == q.argmax(-1)).mean() * 100
        self.assertAlmostEqual(figures["same_top_percent"], same)
        self.assertEqual(figures["predictions"], WINDOWS * ROWS)

    def test_itself_is_no_distance_away(self):
        figures = self.judge(self.logits)
        self.assertLess(abs(figures["kl_mean"]), 1e-6)
        self.assertEqual(figures["same_top_percent"], 100)

    def test_logits_that_are_not_as_announced(self):
        for bad, words in ((self.other[:2], "end inside window 3"),
                           (np.concatenate([self.other, self.other[:1]]), "more logits")):
            with self.assertRaisesRegex(kl.Fail, words):
                self.judge(bad)
        self.other[1, 2, 5] = np.nan
        with self.assertRaisesRegex(kl.Fail, "window 2, row 2: the logit of token 5 is nan"):
            self.judge(self.other)

    def test_a_base_that_was_cut(self):
        os.truncate(self.path, os.path.getsize(self.path) - 2)
        with self.assertRaisesRegex(kl.Fail, "its header asks for"):
            kl.Base(self.path)

    def test_limits_decide_the_exit_status(self):
        figures = {"kl_mean": 0.003, "same_top_percent": 96.5, "perplexity_off_percent": -0.9}
        rows = [((0.0033, 96.0, 1.0), 0), ((0.002, None, None), 1), ((None, 97.0, None), 1),
                ((None, None, 0.5), 1), ((None, None, None), 0)]
        for (max_kl, same_top, off), status in rows:
            args = argparse.Namespace(max_kl=max_kl, min_same_top=same_top, max_off=off, json=True)
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(kl.verdict(args, dict(figures)), status, (max_kl, same_top, off))


if __name__ == "__main__":
    unittest.main()
