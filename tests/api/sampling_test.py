#!/usr/bin/env python3
"""Every option of sampling through /api/generate, on a model whose weights are noise. sampling_test.py HEARTHD

How each sampler draws is unit_sampler's; here is that an option arrives, does what it says to the answer, and
that a wrong one is refused by its name."""
import json
import unittest

from bound_test import Case  # takes HEARTHD from the arguments

GREEDY = {"temperature": 0, "num_predict": 24, "ignore_eos": True}
RANDOM = {"temperature": 1.5, "num_predict": 24, "seed": 7, "ignore_eos": True}
SAMPLERS = [
    {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.2}, {"typical_p": 0.6}, {"top_n_sigma": 1.0},
    {"xtc_probability": 1.0, "xtc_threshold": 0.005}, {"dynatemp_range": 0.9, "dynatemp_exponent": 2.0},
    {"dry_multiplier": 2.0, "dry_allowed_length": 1}, {"mirostat": 1}, {"mirostat": 2, "mirostat_tau": 2.0, "mirostat_eta": 0.3},
    {"repeat_penalty": 1.9, "repeat_last_n": -1}, {"presence_penalty": 1.5}, {"frequency_penalty": 1.5},
]


class Options(Case):
    def answer(self, base, **options):
        r = self.generate(options={**base, "top_k": 0, "top_p": 1.0, **options})
        self.assertEqual(r.status, 200, r.body)
        return r.json

    def text(self, base, **options):
        return self.answer(base, **options)["response"]

    def tokens(self, text):
        return self.d.post("/api/tokenize", {"model": "tiny", "content": text, "parse_special": False}).json["tokens"]

    def test_each_is_heard_and_repeats(self):
        plain = self.text(RANDOM)
        for options in SAMPLERS:
            with self.subTest(**options):
                self.assertEqual(self.text(RANDOM, **options), self.text(RANDOM, **options))
                # one draw may come out alike: some seed's answer must not
                heard = [self.text({**RANDOM, "seed": seed}, **options) != self.text({**RANDOM, "seed": seed}) for seed in range(4)]
                self.assertTrue(any(heard))
        self.assertEqual(self.text(RANDOM), plain)

    def test_order(self):
        self.assertEqual(self.text(RANDOM, samplers=["top_k"], top_k=1), self.text(GREEDY))
        self.assertNotEqual(self.text(RANDOM, samplers=["temperature"], top_k=1), self.text(GREEDY))  # top_k is not in it

    def test_bias(self):
        want = self.tokens("a")
        self.assertEqual(len(want), 1)
        for bias in ({str(want[0]): 1000}, [[want[0], 1000]]):
            self.assertEqual(self.text(GREEDY, logit_bias=bias), "a" * GREEDY["num_predict"])

    def test_what_is_banned_does_not_come(self):
        forced = {"logit_bias": {str(self.tokens("a")[0]): 1000, str(self.tokens("b")[0]): 500}}
        self.assertEqual(self.text(GREEDY, **forced), "a" * 24)
        self.assertEqual(self.text(GREEDY, **forced, banned_tokens=self.tokens("a")), "b" * 24)
        for stream in (False, True):
            r = self.generate(stream=stream, options={**GREEDY, **forced, "banned_strings": ["aaa", "bb"]})
            lines = [json.loads(line) for line in r.body.splitlines()] if stream else [r.json]
            text = "".join(line["response"] for line in lines)
            self.assertNotIn("aaa", text)
            self.assertNotIn("bb", text)
            self.assertGreaterEqual(len(text), 24)

    def test_ends(self):
        a = self.tokens("a")[0]
        eos = {"logit_bias": {str(a): 1000}, "stop_token_ids": [a]}
        j = self.answer(GREEDY, **eos)
        self.assertEqual((j["response"], j["done_reason"]), ("", "stop"))
        j = self.answer(GREEDY, **eos, min_tokens=5)
        self.assertGreaterEqual(j["eval_count"], 5)
        self.assertNotIn("a", j["response"][:4])

    def test_wrong_ones_are_named(self):
        for name, value in [("top_n_sigma", "x"), ("xtc_probability", 1.5), ("mirostat", 3), ("samplers", ["magic"]), ("samplers", "top_k"),
                            ("logit_bias", 3), ("logit_bias", {"x": 1}), ("banned_tokens", ["a"]), ("stop_token_ids", 1),
                            ("banned_strings", [1]), ("min_tokens", -1), ("dry_multiplier", -1)]:
            with self.subTest(name=name, value=value):
                self.refused(self.generate(options={name: value}), name)
        self.refused(self.generate(options={"logit_bias": {"99999999": 1}}), "biased token 99999999")


if __name__ == "__main__":
    unittest.main()
