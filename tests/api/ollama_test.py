#!/usr/bin/env python3
"""Ollama's own Python client against the daemon. ollama_test.py HEARTHD [unittest arguments]
Skipped where the package `ollama` is not installed."""
import asyncio
import json
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_gguf  # noqa: E402
from hearthd import Daemon  # noqa: E402

try:
    import ollama
except ImportError:
    ollama = None

HEARTHD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearthd"
OPTIONS = {"temperature": 0, "num_predict": 8}
HELLO = [{"role": "user", "content": "hello"}]


@unittest.skipUnless(ollama, "the package ollama is not installed")
class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.TemporaryDirectory(prefix="hearth-ollama-")
        tiny_gguf.write(cls.files.name + "/tiny.gguf")
        cls.d = Daemon(HEARTHD, "--device", "ref").start()
        tiny_gguf.write(cls.files.name + "/caller.gguf", template=tiny_gguf.CALLER, n_ctx=4096,
                        more=["<tool_call>", "</tool_call>", "<think>", "</think>"])
        cls.d.load("caller", cls.files.name + "/caller.gguf")
        cls.d.load("tiny", cls.files.name + "/tiny.gguf")
        cls.client = ollama.Client(host="http://127.0.0.1:%d" % cls.d.port)

    @classmethod
    def tearDownClass(cls):
        cls.d.stop()
        cls.files.cleanup()

    def test_generate(self):
        whole = self.client.generate("tiny", "hello", options=OPTIONS)
        self.assertTrue(whole.done)
        self.assertEqual((whole.done_reason, whole.eval_count), ("length", 8))
        self.assertGreater(whole.total_duration, 0)
        parts = list(self.client.generate("tiny", "hello", options=OPTIONS, stream=True))
        self.assertGreater(len(parts), 2)
        self.assertEqual("".join(p.response for p in parts), whole.response)
        self.assertEqual(parts[-1].context, whole.context)

    def test_chat(self):
        whole = self.client.chat("tiny", HELLO, options=OPTIONS)
        self.assertEqual(whole.message.role, "assistant")
        parts = list(self.client.chat("tiny", HELLO, options=OPTIONS, stream=True))
        self.assertEqual("".join(p.message.content for p in parts), whole.message.content)
        self.assertTrue(parts[-1].done)

    def test_async(self):
        async def both():
            client = ollama.AsyncClient(host="http://127.0.0.1:%d" % self.d.port)
            one, two = await asyncio.gather(client.chat("tiny", HELLO, options=OPTIONS),
                                            client.generate("tiny", "other", options=OPTIONS))
            return one.message.content, two.response
        chat, generate = asyncio.run(both())
        self.assertEqual(chat, self.client.chat("tiny", HELLO, options=OPTIONS).message.content)
        self.assertEqual(generate, self.client.generate("tiny", "other", options=OPTIONS).response)

    def test_format(self):
        schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"]}
        for r in (self.client.generate("tiny", "x", format=schema, options={"num_predict": 60}).response,
                  self.client.chat("tiny", HELLO, format=schema, options={"num_predict": 60}).message.content):
            person = json.loads(r)
            self.assertIsInstance(person["name"], str)
            self.assertIsInstance(person["age"], (int, float))
        self.assertIsInstance(json.loads(self.client.generate("tiny", "x", format="json", options={"num_predict": 30}).response), dict)
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.generate("tiny", "x", format={"frob": 1})
        self.assertEqual(caught.exception.status_code, 400)

    def test_tools(self):
        def add(a: int, b: int) -> int:
            """A sum.

            Args:
              a: one
              b: other
            """
            return a + b
        # The opening token is made likely: what follows is a call.
        options = {"num_predict": 200, "logit_bias": {"263": 8}, "temperature": 1, "seed": 1}
        r = self.client.chat("caller", HELLO, tools=[add], options=options)
        self.assertTrue(r.message.tool_calls)
        for call in r.message.tool_calls:
            self.assertEqual(call.function.name, "add")
            self.assertLessEqual({"a", "b"}, set(call.function.arguments))
        talk = [*HELLO, r.message, {"role": "tool", "content": "3", "tool_name": "add"}]
        self.assertTrue(self.client.chat("caller", talk, tools=[add], options={"num_predict": 4}).done)
        parts = list(self.client.chat("caller", HELLO, tools=[add], options=options, stream=True))
        self.assertEqual([c.function for p in parts for c in p.message.tool_calls or []],
                         [c.function for c in r.message.tool_calls])
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.chat("tiny", HELLO, tools=[add])
        self.assertIn("does not support tools", caught.exception.error)

    def test_think_suffix_logprobs(self):
        r = self.client.chat("caller", HELLO, think=True, options=OPTIONS)
        self.assertTrue(r.message.thinking)
        self.assertFalse(self.client.chat("caller", HELLO, think=False, options=OPTIONS).message.thinking)
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.generate("tiny", "x", suffix="y")
        self.assertIn("does not support insert", caught.exception.error)
        self.assertEqual(len(self.client.generate("tiny", "x", logprobs=True, top_logprobs=2, options=OPTIONS).logprobs), 8)

    def test_load_list_ps_show(self):
        self.assertEqual(self.client.generate("tiny").done_reason, "load")
        self.assertEqual([m.model for m in self.client.ps().models], ["tiny:latest"])
        listed = self.client.list().models[0]
        self.assertEqual((listed.model, listed.details.family), ("tiny:latest", "llama"))
        self.assertEqual(len(listed.digest), 64)
        shown = self.client.show("tiny")
        self.assertEqual(shown.modelinfo["general.architecture"], "llama")
        self.assertIn("completion", shown.capabilities)

    def test_copy_delete_errors(self):
        self.assertEqual(self.client.copy("tiny", "second").status, "success")
        self.assertIn("second:latest", [m.model for m in self.client.list().models])
        self.assertEqual(self.client.delete("second").status, "success")
        for call in (lambda: self.client.show("nobody"), lambda: self.client.generate("nobody", "x"),
                     lambda: self.client.delete("nobody"), lambda: list(self.client.chat("nobody", HELLO, stream=True))):
            with self.assertRaises(ollama.ResponseError) as caught:
                call()
            self.assertEqual(caught.exception.status_code, 404)
            self.assertIn("nobody", caught.exception.error)


if __name__ == "__main__":
    unittest.main(verbosity=1)
