#!/usr/bin/env python3
"""Bodies of requests to the store's routes, as clients may send them. body_test.py HEARTH [unittest arguments]"""
import json
import os
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_gguf  # noqa: E402
from hearthd import Daemon  # noqa: E402

HEARTH = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearth"
HEARTHD = os.path.join(os.path.dirname(HEARTH), "hearthd")


class Bodies(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.TemporaryDirectory(prefix="hearth-body-")
        tiny_gguf.write(cls.files.name + "/tiny.gguf")
        cls.d = Daemon(HEARTHD, "--device", "ref").start()
        cls.d.load("base", cls.files.name + "/tiny.gguf", reference=False)

    @classmethod
    def tearDownClass(cls):
        cls.d.stop()
        cls.files.cleanup()

    def test_a_long_body_is_read_beside_the_loop(self):
        """Others are answered all the while: 80 times in the time that one such call takes."""
        body = json.dumps({"model": "long", "from": "base", "system": "s" * 12_000_000, "stream": False}).encode()
        for last in False, False, True:
            connection, done, slowest = self.d.connection(), threading.Event(), [0.0]
            began = time.monotonic()
            caller = threading.Thread(target=lambda: (self.d.post("/api/create", body), done.set()))
            caller.start()
            while not done.is_set():
                asked = time.monotonic()
                connection.request("GET", "/api/version")
                connection.getresponse().read()
                slowest[0] = max(slowest[0], time.monotonic() - asked)
            caller.join()
            connection.close()
            if last or 4 * slowest[0] < time.monotonic() - began:
                break
        self.assertLess(4 * slowest[0], time.monotonic() - began)

    def test_values_without_end(self):
        """A tree takes far more memory than its text."""
        reply = self.d.post("/api/generate", b'{"model":"base","context":[' + b"1," * 7_000_000 + b"1]}")
        self.assertEqual(reply.status, 413)
        self.assertIn("more than 1048576 values", reply.json["error"])

    def test_both_names_of_a_name(self):
        """Ollama's own client sends "model" and "name", and one of them is empty."""
        for more in {"model": "", "name": "base"}, {"name": "", "model": "base"}, {"name": "other", "model": "base"}:
            self.assertEqual(self.d.post("/api/show", more).status, 200, more)
            self.assertEqual(self.d.post("/api/push", more).status, 409, more)  # offline
            reply = self.d.post("/api/pull", more)
            self.assertEqual((reply.status, reply.json["error"]), (409, "offline: base was not asked for"), more)
            made = {k: v.replace("base", "made") for k, v in more.items()}
            self.d.ok("/api/create", {"from": "base", "stream": False, "quantize": "", "quantization": "Q8_0", **made})
            self.assertEqual(self.d.ok("/api/show", {"model": "made"})["details"]["quantization_level"], "Q8_0")
            self.assertEqual(self.d.ask("DELETE", "/api/delete", made).status, 200, more)
        for more in {"model": "", "name": ""}, {}, {"model": None}:
            for path in "/api/show", "/api/pull", "/api/push", "/api/create":
                self.assertEqual(self.d.post(path, more).status, 400, (path, more))

    def test_long_bodies_of_all_routes(self):
        """They are read elsewhere than short ones, and mean the same."""
        more = {"unknown": "x" * 20_000}
        self.assertEqual(self.d.ok("/api/show", dict(more, model="base"))["details"]["format"], "gguf")
        self.d.ok("/api/create", dict(more, model="long", stream=False, **{"from": "base"}))
        for method, path, body, status in (
                ("POST", "/api/copy", {"source": "long", "destination": "longer"}, 200),
                ("DELETE", "/api/delete", {"model": "longer"}, 200), ("DELETE", "/api/delete", {"model": "longer"}, 404),
                ("POST", "/api/pull", {"model": "a b", "stream": False}, 400), ("DELETE", "/api/pull", {"model": "x"}, 404),
                ("POST", "/api/push", {"model": "none", "stream": False}, 409), ("POST", "/api/outdated", {"model": "base"}, 200),
                ("POST", "/api/outdated", {"model": "x"}, 404),
                ("POST", "/api/import", {"model": "x", "path": "none"}, 400), ("POST", "/api/export", {"models": []}, 400),
                ("POST", "/api/quantize", {"model": "base", "destination": "q", "quantize": "Q9"}, 400),
                ("POST", "/api/adopt", {"all": 1}, 400), ("POST", "/api/verify", {"stream": False}, 200),
                ("POST", "/api/prune", {"stream": False}, 200)):
            reply = self.d.ask(method, path, dict(body, **more))
            self.assertEqual(reply.status, status, (path, reply.body))
        for bad, sentence, status in ((b"{" + b" " * 20_000, "not valid JSON", 400), (b"[]" + b" " * 20_000, "must be a JSON object", 400),
                                      (b'{"a":[' + b"1," * 40_000 + b"1]}", "more than 32768 values", 413)):
            for path in "/api/create", "/api/show", "/api/pull":
                reply = self.d.post(path, bad)
                self.assertEqual(reply.status, status)
                self.assertIn(sentence, reply.json["error"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[1:])
