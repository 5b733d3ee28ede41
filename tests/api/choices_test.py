#!/usr/bin/env python3
"""Several answers to one prompt ("n"). choices_test.py HEARTHD [...]

The i-th answer is what a request for one with the seed + i gets, to the byte; the prompt is computed once. `Real` is
the same on a model that knows what it says, on the software device."""
import json
import os
import time
import unittest

from bound_test import PERSON, TOOLS, USER, Case, jsonschema  # takes HEARTHD from the arguments
import tiny_gguf

N = 4


class Checks(Case):
    name = "tiny"
    prompt = "x" * 60
    options = {"num_predict": 30, "seed": 11, "temperature": 1.3, "top_k": 0, "top_p": 1.0}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model("caller", template=tiny_gguf.CALLER, n_ctx=4096)

    def ask(self, path="/api/generate", n=N, **more):
        start = {"messages": USER} if path == "/api/chat" else {"prompt": self.prompt}
        options = {**self.options, **more.pop("options", {})}
        r = self.d.post(path, {"model": self.name, "stream": False, "n": n, **start, "options": options, **more})
        self.assertEqual(r.status, 200, r.body)
        return r

    def singles(self, path="/api/generate", n=N, **more):
        options = more.pop("options", {})
        return [self.ask(path, 1, options={**options, "seed": self.options["seed"] + i}, **more).json for i in range(n)]

    def same(self, choice, single):
        for key in "response", "done_reason", "eval_count", "logprobs", "thinking":
            self.assertEqual(choice.get(key), single.get(key), key)
        for key in "content", "thinking":
            self.assertEqual(choice.get("message", {}).get(key), single.get("message", {}).get(key), key)
        calls = [[c["function"] for c in m.get("message", {}).get("tool_calls", [])] for m in (choice, single)]
        self.assertEqual(*calls)

    def check_whole(self, path="/api/generate", **more):
        r = self.ask(path, **more).json
        singles = self.singles(path, **more)
        self.assertEqual([c["index"] for c in r["choices"]], list(range(N)))
        for choice, single in zip(r["choices"], singles):
            self.same(choice, single)
        self.assertEqual({k: r.get(k) for k in ("response", "done_reason")}, {k: singles[0].get(k) for k in ("response", "done_reason")})
        if path == "/api/generate":
            self.assertEqual(r["context"], singles[0]["context"])
        self.assertEqual(r["eval_count"], sum(c["eval_count"] for c in r["choices"]))
        self.assertEqual(r["prompt_eval_count"], singles[0]["prompt_eval_count"])
        return r

    def check_stream(self, path="/api/generate", **more):
        lines = self.ask(path, **more, stream=True).lines
        whole = self.ask(path, **more).json["choices"]
        part = (lambda c: c["message"]["content"]) if path == "/api/chat" else (lambda c: c["response"])
        thought = (lambda c: c["message"].get("thinking", "")) if path == "/api/chat" else (lambda c: c.get("thinking", ""))
        last = lines.pop()
        self.assertNotIn("index", last)
        self.assertTrue(last["done"])
        for i, want in enumerate(whole):
            mine = [c for c in lines if c["index"] == i]
            self.assertEqual("".join(map(part, mine)), part(want))
            self.assertEqual("".join(map(thought, mine)), thought(want))
            self.assertEqual([p for c in mine for p in c.get("logprobs", [])], want.get("logprobs", []))
            calls = [c["function"] for m in mine for c in m.get("message", {}).get("tool_calls", [])]
            self.assertEqual(calls, [c["function"] for c in want.get("message", {}).get("tool_calls", [])])
            self.assertEqual([c.get("done_reason") for c in mine], [None] * (len(mine) - 1) + [want["done_reason"]])
            self.assertEqual((last["choices"][i]["eval_count"], last["choices"][i]["done_reason"]),
                             (want["eval_count"], want["done_reason"]))
        self.assertFalse(any(c["done"] for c in lines))
        return lines, last

    def check_once(self):
        def rows():
            m = self.d.get("/metrics").body.decode()
            return int(next(line.split()[1] for line in m.splitlines() if line.startswith("hearth_step_prefill_rows_total ")))
        prompt = str(time.monotonic_ns()) + "".join(chr(97 + (i * 7 + 3) % 26) for i in range(250))
        self.ask(n=1, options={"num_predict": 1, "num_ctx": 1024})
        before = rows()
        r = self.ask(n=8, prompt=prompt, options={"num_predict": 2, "num_ctx": 1024}).json
        n = r["prompt_eval_count"] - r.get("prompt_cached_count", 0)
        self.assertGreater(n, 100)
        self.assertLess(rows() - before, n + 8 * 32)
        self.assertGreaterEqual(rows() - before, n)


class Choices(Checks):
    def test_each_is_the_answer_of_its_seed(self):
        r = self.check_whole()
        self.assertEqual(len({c["response"] for c in r["choices"]}), N)
        self.assertEqual(self.ask().json["choices"], r["choices"])
        self.check_stream()

    def test_in_conversation(self):
        self.check_whole("/api/chat", logprobs=True, top_logprobs=2)
        self.check_stream("/api/chat", logprobs=True, top_logprobs=2)

    def test_one_is_as_ever(self):
        r = self.ask(n=1).json
        self.assertFalse({"choices", "index"} & set(r))
        self.assertFalse(any({"choices", "index"} & set(c) for c in self.ask(n=1, stream=True).lines))

    def test_stop_strings_end_each_by_itself(self):
        text = self.ask(n=1, options={"seed": self.options["seed"] + 2}).json["response"]
        more = {"options": {"stop": [text[3:5]]}}
        r = self.check_whole(**more)
        self.assertEqual(r["choices"][2]["done_reason"], "stop")
        self.check_stream(**more)

    def test_echo(self):
        for logprobs in False, True:
            r = self.check_whole(echo=True, logprobs=logprobs)
            self.assertTrue(all(self.prompt in c["response"] for c in r["choices"]))
            self.check_stream(echo=True, logprobs=logprobs)

    @unittest.skipUnless(jsonschema, "the package jsonschema is not installed")
    def test_formats_bind_each(self):
        more = {"format": PERSON, "options": {"num_predict": 60}}
        for path in "/api/generate", "/api/chat":
            r = self.check_whole(path, **more)
            texts = [c["response"] if "response" in c else c["message"]["content"] for c in r["choices"]]
            for text in texts:
                self.valid(text, PERSON)
            self.check_stream(path, **more)
        self.refused(self.d.post("/api/generate", {"model": self.name, "prompt": "x", "n": N, "format": PERSON,
                                                   "options": {"num_predict": 3}}), "tokens")

    def test_greedy_ones_are_alike(self):
        r = self.ask(options={"temperature": 0}).json
        self.assertEqual(len({c["response"] for c in r["choices"]}), 1)

    def test_the_prompt_is_computed_once(self):
        self.check_once()

    def test_no_more_than_eight(self):
        for n in (0, 9, -1, 1.5, "2", [1]):
            for path in "/api/generate", "/api/chat":
                self.refused(self.d.post(path, {"model": self.name, "prompt": "x", "messages": USER, "n": n}), '"n" must be')

    def test_who_leaves_frees_all(self):
        for after in range(6):
            c = self.d.connection()
            c.request("POST", "/api/generate", json.dumps({"model": self.name, "prompt": self.prompt, "n": 8,
                                                           "options": {"num_predict": 4000, "ignore_eos": True}}))
            r = c.getresponse()
            for _ in range(after * 3):
                r.readline()
            c.close()
        until = time.monotonic() + 30
        while any(m["active"] for m in self.d.get("/api/ps").json["models"]) and time.monotonic() < until:
            time.sleep(0.02)
        self.assertEqual([m["active"] for m in self.d.get("/api/ps").json["models"] if m["active"]], [])
        self.ask(n=1)


class Tools(Choices):
    """What needs a template with tools; a random model says whatever the mask lets it say."""
    name = "caller"

    def test_calls(self):
        for think in True, False:
            more = {"tools": TOOLS, "tool_choice": "required", "think": think, "options": {"num_predict": 200}}
            r = self.check_whole("/api/chat", **more)
            self.assertEqual(len({c["id"] for m in r["choices"] for c in m["message"]["tool_calls"]}),
                             sum(len(m["message"]["tool_calls"]) for m in r["choices"]))
            self.check_stream("/api/chat", **more)


@unittest.skipUnless(os.path.isfile(os.environ.get("HEARTH_TEST_MODEL", "")), "HEARTH_TEST_MODEL is not set")
class Real(Checks):
    device = []
    name = "real"
    prompt = "Once upon a time there was a lighthouse on an island far out in the northern sea, and its keeper"
    options = {"num_predict": 12, "seed": 3, "temperature": 0.9}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.d.load("real", os.environ["HEARTH_TEST_MODEL"])

    def test_each_is_the_answer_of_its_seed(self):
        r = self.check_whole()
        self.assertEqual(len({c["response"] for c in r["choices"]}), N)

    def test_in_a_stream(self):
        self.check_stream("/api/chat", logprobs=True, top_logprobs=2)

    def test_the_prompt_is_computed_once(self):
        self.check_once()


if __name__ == "__main__":
    unittest.main()
