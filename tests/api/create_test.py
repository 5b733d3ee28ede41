#!/usr/bin/env python3
"""Models that are made here: uploads, /api/create, and what their layers do. create_test.py HEARTHD [unittest arguments]"""
import hashlib
import io
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_gguf  # noqa: E402
from hearthd import Daemon, stray  # noqa: E402

try:
    import ollama
except ImportError:
    ollama = None

HEARTHD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearthd"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.TemporaryDirectory(prefix="hearth-create-")
        cls.path = cls.files.name + "/tiny.gguf"
        tiny_gguf.write(cls.path, n_ctx=4096)
        with open(cls.path, "rb") as f:
            cls.data = f.read()
        cls.digest = digest_of(cls.data)
        cls.d = Daemon(HEARTHD, "--device", "ref").start()

    @classmethod
    def tearDownClass(cls):
        cls.d.stop()
        cls.files.cleanup()

    def upload(self, data, digest=None, **more):
        return self.d.post("/api/blobs/" + (digest or digest_of(data)), data, tcp=True, **more).status

    def head(self, digest):
        return self.d.ask("HEAD", "/api/blobs/" + digest, tcp=True).status

    def create(self, **body):
        reply = self.d.post("/api/create", {k.rstrip("_"): v for k, v in body.items()})
        lines = reply.lines
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(lines[-1], {"status": "success"}, lines)
        return [line["status"] for line in lines]

    def refused(self, status, sentence, path="/api/create", tcp=False, **body):
        reply = self.d.post(path, {k.rstrip("_"): v for k, v in body.items()}, tcp=tcp)
        error = reply.lines[-1].get("error", "")
        self.assertIn(sentence, error)
        if reply.status != 200:
            self.assertEqual(reply.status, status, reply.body)
        return error

    def tiny(self, name="tiny", **more):
        if self.head(self.digest) != 200:
            self.assertEqual(self.upload(self.data), 201)
        return self.create(model=name, files={"tiny.gguf": self.digest}, **more)

    def show(self, name, **more):
        return self.d.ok("/api/show", dict(model=name, **more))

    def manifest(self, name):
        return next(m["digest"] for m in self.d.get("/api/tags").json["models"] if m["name"] == name)

    def tmp(self):
        return os.listdir(self.d.home + "/tmp")

    def until(self, what, seconds=10):
        end = time.monotonic() + seconds
        while not what():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)


class Blobs(Base):
    def test_made_there_and_wrong(self):
        data = os.urandom(3_000_001)
        digest = digest_of(data)
        self.assertEqual(self.head(digest), 404)
        self.assertEqual(self.upload(data), 201)
        self.assertEqual(self.head(digest), 200)
        self.assertEqual(self.upload(data), 200)
        self.assertEqual(self.upload(data, "sha256-" + digest[7:].upper()), 200)
        self.assertEqual(self.upload(b""), 201)

    def test_what_is_refused(self):
        before = set(self.tmp())
        other = digest_of(b"other")
        reply = self.d.post("/api/blobs/" + other, b"this", tcp=True)
        self.assertEqual(reply.status, 400)
        self.assertIn("digest mismatch", reply.json["error"])
        self.assertEqual(self.head(other), 404)
        for bad in ("sha256:" + "0" * 63, "sha256:" + "g" * 64, "sha1:" + "0" * 64, "../x", "sha256:" + "0" * 65):
            for reply in (self.d.post("/api/blobs/" + bad, b"x", tcp=True), self.d.ask("HEAD", "/api/blobs/" + bad, tcp=True)):
                self.assertEqual(reply.status, 400, bad)
        reply = self.d.ask("GET", "/api/blobs/" + other, tcp=True)
        self.assertEqual((reply.status, reply.headers["Allow"]), (405, "HEAD, POST, OPTIONS"))
        self.assertEqual(set(self.tmp()), before)

    def raw(self, head, timeout=10):
        s = socket.create_connection(("127.0.0.1", self.d.port), timeout=timeout)
        s.sendall(head)
        return s

    def test_more_than_the_disk_has(self):
        s = self.raw(b"POST /api/blobs/" + digest_of(b"big").encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 1099511627776\r\nExpect: 100-continue\r\n\r\n")
        answer = s.recv(65536)
        if answer.startswith(b"HTTP/1.1 100"):
            answer = answer[25:] or s.recv(65536)
        s.close()
        self.assertRegex(answer, rb"^HTTP/1.1 (500|413) ")
        s = self.raw(b"POST /api/blobs/" + digest_of(b"big").encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 1099511627777\r\n\r\n")
        self.assertIn(b" 413 ", s.recv(65536).split(b"\r\n")[0])
        s.close()
        self.until(lambda: not [f for f in self.tmp() if os.path.getsize(self.d.home + "/tmp/" + f) > 1 << 30])

    def test_chunked(self):
        data = os.urandom(200_000)
        s = self.raw(b"POST /api/blobs/" + digest_of(data).encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(data), 70_000):
            piece = data[at:at + 70_000]
            s.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
        s.sendall(b"0\r\n\r\n")
        self.assertTrue(s.recv(65536).startswith(b"HTTP/1.1 201 "))
        s.close()
        self.assertEqual(self.head(digest_of(data)), 200)

    def test_a_client_that_leaves(self):
        before = set(self.tmp())
        for close in (lambda s: s.close(), lambda s: s.shutdown(socket.SHUT_WR)):
            s = self.raw(b"POST /api/blobs/" + digest_of(b"never").encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                         b"Content-Length: 100000000\r\n\r\n" + b"x" * 2_000_000)
            self.until(lambda: set(self.tmp()) - before)
            close(s)
            self.until(lambda: set(self.tmp()) == before)
            s.close()
        self.assertEqual(self.head(digest_of(b"never")), 404)

    def test_two_that_send_the_same(self):
        data = os.urandom(4_000_000)
        statuses = []
        threads = [threading.Thread(target=lambda: statuses.append(self.upload(data))) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertLessEqual(set(statuses), {200, 201})
        self.assertIn(201, statuses)
        self.assertEqual(self.head(digest_of(data)), 200)

    def test_so_many_at_once_and_no_more(self):
        head = b"POST /api/blobs/" + digest_of(b"never").encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        held = [self.raw(head + b"x") for _ in range(32)]
        self.until(lambda: len(self.tmp()) >= 32)
        self.assertEqual(self.upload(b"one more"), 503)
        for s in held:
            s.close()
        self.until(lambda: self.upload(b"one more") == 201)

    def test_memory_and_other_requests_meanwhile(self):
        """96 MB go through a few MB, and the loop stays quick."""
        before = self.d.rss()
        block = os.urandom(1 << 20)
        total = 96
        h = hashlib.sha256()
        for _ in range(total):
            h.update(block)
        s = self.raw(b"POST /api/blobs/sha256:" + h.hexdigest().encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: %d\r\n\r\n" % (total << 20), timeout=120)
        slowest, most, stop = [0.0], [0], threading.Event()

        def ask():
            while not stop.is_set():
                began = time.monotonic()
                self.assertEqual(self.d.get("/api/version").status, 200)
                slowest[0] = max(slowest[0], time.monotonic() - began)
                most[0] = max(most[0], self.d.rss())
        asker = threading.Thread(target=ask)
        asker.start()
        try:
            for _ in range(total):
                s.sendall(block)
            self.assertTrue(s.recv(65536).startswith(b"HTTP/1.1 201 "))
        finally:
            stop.set()
            asker.join()
            s.close()
        if not stray(HEARTHD):
            self.assertLess(most[0] - before, 16 << 20)
        self.assertLess(slowest[0], 1.0)

    def test_killed_in_the_middle(self):
        d = Daemon(HEARTHD, "--device", "ref").start()
        try:
            s = socket.create_connection(("127.0.0.1", d.port), timeout=10)
            s.sendall(b"POST /api/blobs/" + digest_of(b"never").encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                      b"Content-Length: 100000000\r\n\r\n" + b"x" * 3_000_000)
            self.until(lambda: any(os.path.getsize(d.home + "/tmp/" + f) for f in os.listdir(d.home + "/tmp")))
            d.process.send_signal(signal.SIGKILL)
            d.process.wait()
            s.close()
            self.assertTrue(os.listdir(d.home + "/tmp"))
            os.unlink(d.log_path)
            d.start()
            self.assertEqual(os.listdir(d.home + "/tmp"), [])
            self.assertEqual(os.listdir(d.home + "/blobs"), [])
        finally:
            d.stop()

    def test_going_down_in_the_middle(self):
        d = Daemon(HEARTHD, "--device", "ref").start()
        s = socket.create_connection(("127.0.0.1", d.port), timeout=10)
        s.sendall(b"POST /api/blobs/" + digest_of(b"never").encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
                  b"Content-Length: 100000000\r\n\r\n" + b"x" * 3_000_000)
        time.sleep(0.1)
        self.assertLess(d.stop(), 4)
        s.close()


class Create(Base):
    def test_from_files_and_from_a_model(self):
        said = self.tiny("one", system="You are one.", license=["L1", "L2"], parameters={"temperature": 0.5, "stop": ["a"]})
        self.assertEqual(said[0], "parsing GGUF")
        self.assertEqual(said[-2], "writing manifest")
        self.assertIn(self.digest, said[1])
        self.assertEqual(len([s for s in said if " layer sha256:" in s]), 5)
        said = self.create(model="two", from_="one", system="You are two.", license="L3", parameters={"top_k": 3})
        self.assertEqual(said[0], "using existing layer " + self.digest)
        self.assertEqual(len([s for s in said if s.startswith("using existing layer")]), 3)
        self.assertEqual(len([s for s in said if s.startswith("creating new layer")]), 3)
        self.assertIn("sha256-" + self.digest[7:], os.listdir(self.d.home + "/blobs"))

    def test_the_same_input_gives_the_same_digest(self):
        body = {"system": "S", "template": "{{ .Prompt }}", "parameters": {"top_k": 1}}
        self.tiny("a1", **body)
        self.tiny("a2", **body)
        self.create(model="a3", from_="a1")
        self.create(model="a4", from_="a1", system="other")
        self.create(model="a5", from_="a4", system="S", parameters={"top_k": 1})
        one = self.manifest("a1:latest")
        self.assertEqual([self.manifest("a%d:latest" % i) for i in (2, 3)], [one, one])
        self.assertNotEqual(self.manifest("a4:latest"), one)

    def test_a_base_in_need_of_its_file_is_not_pulled(self):
        """What is here under that name may be no model of a registry's."""
        path = self.files.name + "/away.gguf"
        tiny_gguf.write(path, n_ctx=512)
        self.create(model="own", paths=[path], reference=True)
        os.unlink(path)
        reply = self.d.post("/api/create", {"model": "x", "from": "own", "stream": False})
        self.assertEqual(reply.status, 404, reply.body)
        self.assertIn("is gone: put it back", reply.json["error"])
        self.assertNotIn("pulled", reply.json["error"])
        self.assertIn("cannot be pulled: offline", self.d.post("/api/create", {"model": "x", "from": "none"}).json["error"])

    def test_what_is_refused(self):
        self.tiny("base")
        other = digest_of(b"nobody has this")
        self.refused(404, "model 'none' not found", model="x", from_="none")
        self.refused(400, "neither 'from' or 'files'", model="x")
        self.refused(400, "not from both", model="x", from_="base", files={"a.gguf": self.digest})
        self.refused(404, "upload it first", model="x", files={"a.gguf": other})
        self.refused(400, "must be relative", model="x", files={"/etc/a.gguf": self.digest})
        for name in ("../a.gguf", "", "a//b", "./a", "a/.", "a/../b", "a/", "x" * 4097):
            self.refused(400, "must be relative", model="x", files={name: self.digest})
        for field in ({"model": "x\0y"}, {"from_": "base\0"}, {"quantize": "Q8_0\0"}, {"paths": [self.path + "\0"]}):
            self.refused(400, "NUL" if "paths" not in field else '"paths"', **{"model": "x", "from_": "base", **field})
        self.refused(400, "models run here", model="x", from_="base", remote_host="https://ollama.com")
        self.refused(400, "draft", model="x", from_="base", draft_files={"d.gguf": self.digest})
        self.refused(400, "at most", model="x", from_="base", license=["l"] * 1025)
        self.refused(400, "invalid digest", model="x", files={"a.gguf": "sha256:12"})
        self.refused(400, "object of file names and digests", model="x", files={"a.gguf": 3})
        self.refused(400, "no GGUF file", model="x", files={"model.safetensors": self.digest})
        self.refused(400, "template error", model="x", from_="base", template="{{ if }}")
        self.refused(400, "option \"top_k\" must be of type integer", model="x", from_="base", parameters={"top_k": "a"})
        self.refused(400, "\"parameters\"", model="x", from_="base", parameters=[1])
        self.refused(400, "message 1 needs a role", model="x", from_="base", messages=[{"role": "boss", "content": ""}])
        self.refused(400, "message 2 needs", model="x", from_="base", messages=[{"role": "user", "content": "a"}, {"role": "user", "content": 3}])
        self.refused(400, "\"license\"", model="x", from_="base", license=3)
        self.refused(400, "info field \"context_length\"", model="x", from_="base", info={"context_length": "long"})
        self.refused(400, "only one adapter", model="x", from_="base", adapters={"a.gguf": self.digest, "b.gguf": self.digest})
        self.refused(400, "\"model\" is missing", from_="base")
        self.refused(400, "model", model="a b", from_="base")
        self.refused(403, "only over the Unix socket", model="x", paths=[self.path], tcp=True)
        self.refused(404, "opening", model="x", paths=[self.path + "no"])
        self.refused(400, "absolute", model="x", paths=["tiny.gguf"])
        self.refused(400, "two models", model="x", files={"a.gguf": self.digest, "b.gguf": self.digest})
        junk = os.urandom(5000)
        self.assertEqual(self.upload(junk), 201)
        self.refused(400, "x.gguf", model="x", files={"x.gguf": digest_of(junk)})
        self.assertNotIn("x:latest", [m["name"] for m in self.d.get("/api/tags").json["models"]])
        self.assertEqual(self.head(digest_of(junk)), 200)  # it still waits

    def test_a_path_of_the_same_user(self):
        for reference in (False, True):
            name, path = "path%d" % reference, "%s/own%d.gguf" % (self.files.name, reference)
            tiny_gguf.write(path, n_ctx=1024 + reference)
            said = self.create(model=name, paths=[path], reference=reference)
            self.assertIn("parsing GGUF", said)
            entry = next(m for m in self.d.get("/api/tags").json["models"] if m["name"] == name + ":latest")
            self.assertEqual(entry.get("referenced", False), reference)

    def test_without_a_stream(self):
        self.tiny("base")
        reply = self.d.ok("/api/create", {"model": "quiet", "from": "base", "stream": False})
        self.assertEqual(reply, {"status": "success"})

    def test_config(self):
        self.tiny("configured", requires="0.1.0", renderer="r", parser="p",
                  info={"model_family": "special", "context_length": 77, "capabilities": ["completion"]})
        details = self.show("configured")["details"]
        self.assertEqual(details["family"], "special")

    def test_requires_renderer_and_parser(self):
        now = "0.32.0"  # Ollama's, in which REQUIRES counts
        said = self.tiny("kept", requires=now, renderer="qwen3-coder", parser="\u00e9" * 59 + "x\u20ac")
        warned = [s for s in said if s.startswith("warning: ")]
        self.assertEqual(len(warned), 2, said)
        self.assertIn("'qwen3-coder' is kept, but not known here", warned[0])
        self.assertIn("not known here", warned[1])
        show = self.show("kept")
        self.assertEqual((show["requires"], show["renderer"], show["parser"][:59]), (now, "qwen3-coder", "\u00e9" * 59))
        self.d.ok("/api/generate", {"model": "kept", "prompt": "a", "stream": False, "options": {"num_predict": 1}})
        for late in ("999.0.0", "v999", "999.0.1-rc.1"):
            said = self.refused(400, "requires Ollama's version " + late, model="late", files={"tiny.gguf": self.digest}, requires=late)
            self.assertIn("this Hearth speaks that of " + now, said)
        self.refused(400, "must be a version", model="late", files={"tiny.gguf": self.digest}, requires="soon")

    def test_a_model_that_came_and_requires_more(self):
        """Its config is another program's: it is in the store, can be looked at, and is not run."""
        config = b'{"model_format":"gguf","requires":"v77.0.0"}'

        def entry(kind, data, **more):
            return dict({"mediaType": kind, "digest": digest_of(data), "size": len(data)}, **more)
        manifest = json.dumps({"schemaVersion": 2, "config": entry("application/vnd.docker.container.image.v1+json", config),
                               "layers": [entry("application/vnd.ollama.image.model", self.data)]}).encode()
        index = {"schemaVersion": 2, "manifests": [entry("application/vnd.oci.image.manifest.v1+json", manifest, annotations={
            "org.opencontainers.image.ref.name": "older:1"})]}
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
        files.update(("blobs/sha256/" + digest_of(data)[7:], data) for data in (config, manifest, self.data))
        bundle = self.files.name + "/older.tar"
        with tarfile.open(bundle, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        self.d.ok("/api/import", {"path": bundle, "stream": False})
        self.assertEqual(self.show("older:1")["requires"], "v77.0.0")
        for path, body in (("/api/generate", {"prompt": "a"}), ("/api/chat", {"messages": [{"role": "user", "content": "q"}]})):
            reply = self.d.post(path, dict(body, model="older:1", stream=False))
            self.assertEqual(reply.status, 400)
            self.assertIn("requires Ollama's version v77.0.0, and this Hearth speaks that of", reply.json["error"])

    def test_removed_with_its_texts(self):
        d = Daemon(HEARTHD, "--device", "ref").start()
        try:
            d.ok("/api/create", {"model": "x", "paths": [self.path], "system": "S", "stream": False})
            d.ok("/api/create", {"model": "y", "from": "x", "system": "T", "stream": False})
            for name in "xy":
                self.assertEqual(d.ask("DELETE", "/api/delete", {"model": name}).status, 200)
            self.assertEqual(os.listdir(d.home + "/blobs"), [])
        finally:
            d.stop()


class Layers(Base):
    """What a model's texts do where requests are rendered and answered."""
    CAN = {  # by the template of the layer, and by the file's where there is none
        "": ["completion"],
        "{{ range .Messages }}{{ .Content }}{{ end }}": ["completion"],
        "{{ .Prompt }}{{ .Suffix }}": ["completion", "insert"],
        "{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}{{ .Content }}{{ range .ToolCalls }}<tool_call>"
        '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>{{ end }}{{ end }}':
            ["completion", "tools"],
        "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}{{ end }}":
            ["completion", "thinking"],
    }

    def test_what_it_can_do_is_one_thing_everywhere(self):
        self.tiny("bare")
        call = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        asked = {"insert": ("/api/generate", {"prompt": "a", "suffix": "b"}),
                 "tools": ("/api/chat", {"messages": self.chat("q"), "tools": [call]}),
                 "thinking": ("/api/chat", {"messages": self.chat("q"), "think": True})}
        for i, (template, can) in enumerate(self.CAN.items()):
            for name, source in (("a%d" % i, None), ("b%d" % i, "bare")):
                more = {"template": template} if template else {}
                self.create(model=name, from_=source, **more) if source else self.tiny(name, **more)
                self.assertEqual(self.show(name)["capabilities"], can, template)
                entry = next(m for m in self.d.get("/api/tags").json["models"] if m["name"] == name + ":latest")
                self.assertEqual(entry["capabilities"], can, template)
                for what, (path, body) in asked.items():
                    reply = self.d.post(path, dict(body, model=name, stream=False, options={"num_predict": 1}))
                    self.assertEqual(reply.status == 200, what in can, (what, template, reply.body))

    GO = "{{ range .Messages }}[{{ .Role }}]{{ .Content }}{{ end }}>"

    def render(self, model, **body):
        return self.d.ok("/api/render", dict(model=model, **body))["prompt"]

    def chat(self, *texts):
        return [{"role": "user" if i % 2 == 0 else "assistant", "content": t} for i, t in enumerate(texts)]

    def test_system_history_and_template(self):
        self.tiny("plain")
        self.create(model="dressed", from_="plain", system="SYS", template=self.GO, messages=self.chat("q", "a"))
        said = self.chat("hello")
        self.assertEqual(self.render("dressed", messages=said), "[system]SYS[user]q[assistant]a[user]hello>")
        self.assertEqual(self.render("dressed", prompt="hello"), "[system]SYS[user]q[assistant]a[user]hello>")
        own = [{"role": "system", "content": "MINE"}] + said
        self.assertEqual(self.render("dressed", messages=own), "[user]q[assistant]a[system]MINE[user]hello>")
        self.assertEqual(self.render("dressed", prompt="hello", system="MINE"), "[system]MINE[user]q[assistant]a[user]hello>")
        self.assertEqual(self.render("dressed", prompt="hello", raw=True), "hello")
        self.assertEqual(self.render("dressed", prompt="hello", template="({{ .Prompt }})"), "(q)a(hello)")
        self.assertEqual(self.render("plain", messages=said), "<s><|user|>hello</s><|assistant|>")

    def test_a_jinja_template(self):
        self.tiny("jinja", template="{% for m in messages %}<{{ m.content }}>{% endfor %}", system="S")
        self.assertEqual(self.render("jinja", messages=self.chat("x")), "<S><x>")

    def test_a_template_replaces_and_another_stays(self):
        self.tiny("t0", template="a{{ .Prompt }}")
        self.create(model="t1", from_="t0", template="b{{ .Prompt }}")
        self.create(model="t2", from_="t1", system="unused")
        for _ in range(2):
            self.assertEqual([self.render("t%d" % i, prompt="x") for i in range(3)], ["ax", "bx", "bx"])

    def test_parameters_are_defaults(self):
        self.tiny("params", template="{{ .Prompt }}", parameters={"num_predict": 3, "temperature": 0, "num_ctx": 256, "seed": 1})
        ask = {"model": "params", "prompt": "hello", "stream": False}
        self.assertEqual(self.d.ok("/api/generate", ask)["eval_count"], 3)
        self.assertEqual(self.d.ok("/api/generate", dict(ask, options={"num_predict": 5}))["eval_count"], 5)
        running = next(m for m in self.d.get("/api/ps").json["models"] if m["context_length"] == 256)
        entry = next(m for m in self.d.get("/api/tags").json["models"] if m["name"] == "params:latest")
        for key in "parameter_size", "quantization_level", "family":
            self.assertEqual(running["details"][key], entry["details"][key])
        # merged key by key: the new one over the old
        self.create(model="params2", from_="params", parameters={"num_predict": 4})
        self.assertEqual(self.d.ok("/api/generate", dict(ask, model="params2"))["eval_count"], 4)
        self.assertIn("num_ctx", self.show("params2")["parameters"])

    def test_stops_of_the_model(self):
        self.tiny("free", template="{{ .Prompt }}", parameters={"num_predict": 40, "temperature": 0})
        whole = self.d.ok("/api/generate", {"model": "free", "prompt": "hello", "stream": False})["response"]
        word = whole[5:6] or whole[:1]
        self.create(model="bound", from_="free", parameters={"stop": [word]})
        cut = self.d.ok("/api/generate", {"model": "bound", "prompt": "hello", "stream": False})
        self.assertEqual((cut["response"], cut["done_reason"]), (whole[:whole.index(word)], "stop"))
        other = self.d.ok("/api/generate", {"model": "bound", "prompt": "hello", "stream": False, "options": {"stop": ["\0none"]}})
        self.assertEqual(other["response"], whole)

    def test_weights_are_shared(self):
        d = Daemon(HEARTHD, "--device", "ref").start()
        try:
            for name, template in (("s1", "a{{ .Prompt }}"), ("s2", "b{{ .Prompt }}")):
                d.ok("/api/create", {"model": name, "paths": [self.path], "template": template, "stream": False})
                d.ok("/api/generate", {"model": name, "prompt": "x", "stream": False, "options": {"num_predict": 1}})
            self.assertEqual(len(d.get("/api/ps").json["models"]), 1)
        finally:
            d.stop()

    def test_show(self):
        self.tiny("shown", template=self.GO, system="Two\nlines", license=["MIT", "and \"more\"\nof it"],
                  parameters={"stop": ["<a>", " b"], "top_p": 0.5}, messages=self.chat("q", "a"))
        shown = self.show("shown")
        self.assertEqual(shown["system"], "Two\nlines")
        self.assertEqual(shown["template"], self.GO)
        self.assertEqual(shown["license"], 'MIT\nand "more"\nof it')
        self.assertEqual(shown["parameters"].split("\n"), ['%-30s "<a>"' % "stop", '%-30s " b"' % "stop", "%-30s 0.5" % "top_p"])
        self.assertEqual(shown["messages"], self.chat("q", "a"))
        for line in ('SYSTEM "Two\nlines"\n', 'PARAMETER stop <a>\n', 'PARAMETER stop " b"\n', "PARAMETER top_p 0.5\n",
                     'LICENSE """and "more"\nof it"""\n', "MESSAGE user q\n", "TEMPLATE " + self.GO + "\n"):
            self.assertIn(line, shown["modelfile"])

    def test_messages_as_a_chat_takes_them(self):
        self.tiny("told", messages=[{"role": "User", "content": "q"}, {"role": "ASSISTANT"}])
        self.assertEqual(self.show("told")["messages"], [{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}])

    def test_show_as_if(self):
        self.tiny("asif", system="own", template="{{ .Prompt }}")
        shown = self.show("asif", system="other", template="[{{ .Prompt }}]")
        self.assertEqual((shown["system"], shown["template"]), ("other", "[{{ .Prompt }}]"))
        self.assertIn("SYSTEM other\n", shown["modelfile"])
        self.assertIn("TEMPLATE [{{ .Prompt }}]\n", shown["modelfile"])
        self.assertEqual(self.show("asif")["system"], "own")
        self.refused(400, '"system" must be a string', "/api/show", model="asif", system=3)

    def test_lengths_are_details(self):
        self.tiny("long")
        entry = next(m for m in self.d.get("/api/tags").json["models"] if m["name"] == "long:latest")
        for details in (entry["details"], self.show("long")["details"]):
            self.assertEqual((details["context_length"], details["embedding_length"]), (4096, tiny_gguf.EMBD))

    def test_an_adapter_is_kept_and_not_run(self):
        self.tiny("lora", adapters={"lora.gguf": self.digest})
        self.assertIn("ADAPTER /", self.show("lora")["modelfile"])
        self.refused(400, "has an adapter", "/api/generate", model="lora", prompt="x")
        self.refused(400, "has an adapter", "/api/chat", model="lora", messages=self.chat("x"))


class Quantized(Base):
    def test_from_files_and_from_a_model(self):
        self.tiny("float")
        self.tiny("q1", quantize="q8_0", system="S")
        self.create(model="q2", from_="float", quantize="Q8_0", system="S")
        for name in ("q1", "q2"):
            self.assertEqual(self.show(name)["details"]["quantization_level"], "Q8_0")
            self.assertEqual(self.show(name)["system"], "S")
            self.d.ok("/api/generate", {"model": name, "prompt": "x", "stream": False, "options": {"num_predict": 2}})
        files = [self.show(name)["modelfile"].split("FROM /")[1].split("\n")[0] for name in ("q1", "q2")]
        self.assertEqual(files[0], files[1])
        self.refused(400, "", model="x", from_="float", quantize="Q9_Z")
        self.refused(400, "", model="x", from_="q1", quantize="Q8_0")

    def test_from_parts_that_were_uploaded(self):
        """The same bytes as of the file in one piece; in whatever order they are named, and once more from the store."""
        parts = tiny_gguf.split(self.data)
        for part in parts:
            self.assertIn(self.upload(part), (200, 201))  # another test's are the same
        files = {"m-0000%d-of-00002.gguf" % (i + 1): digest_of(part) for i, part in enumerate(parts)}
        self.create(model="parts", files=dict(reversed(files.items())), quantize="Q8_0")
        self.tiny("whole", quantize="Q8_0")
        shown = [self.show(name) for name in ("parts", "whole")]
        self.assertEqual(shown[0]["details"], shown[1]["details"])
        paths = [s["modelfile"].split("FROM ")[-1].split("\n")[0] for s in shown]
        self.assertEqual(os.path.getsize(paths[0]), os.path.getsize(paths[1]))
        asked = {"prompt": "x", "stream": False, "raw": True, "options": {"num_predict": 4, "temperature": 0}}
        said = [self.d.ok("/api/generate", dict(asked, model=name))["response"] for name in ("parts", "whole")]
        self.assertEqual(said[0], said[1])
        self.create(model="kept", files=files)  # in the store, by two blobs without a name
        self.create(model="again", files=files, quantize="Q8_0")
        self.assertEqual(self.manifest("again:latest"), self.manifest("parts:latest"))
        bundle = self.files.name + "/parts.tar"
        self.d.ok("/api/export", {"models": ["kept"], "path": bundle, "stream": False})
        before = self.manifest("kept:latest")
        self.assertEqual(self.d.ask("DELETE", "/api/delete", {"model": "kept"}).status, 200)
        self.d.ok("/api/import", {"model": "back", "path": bundle, "stream": False})
        self.assertEqual(self.manifest("back:latest"), before)
        self.d.ok("/api/generate", dict(asked, model="back"))
        self.refused(400, "2 parts, and 1 came", model="x", files=dict(list(files.items())[:1]), quantize="Q8_0")
        self.assertEqual([f for f in self.tmp() if f.startswith("parts-")], [])

    def test_a_file_in_parts_is_imported(self):
        self.tiny("whole")
        paths = ["%s/m-0000%d-of-00002.gguf" % (self.files.name, i) for i in (1, 2)]
        for path, part in zip(paths, tiny_gguf.split(self.data)):
            with open(path, "wb") as f:
                f.write(part)
        asked = {"prompt": "x", "stream": False, "raw": True, "options": {"num_predict": 4, "temperature": 0}}
        for reference in (False, True):
            for path in paths:  # any of them stands for all
                self.d.ok("/api/import", {"model": "pieces", "path": path, "reference": reference, "stream": False})
                said = [self.d.ok("/api/generate", dict(asked, model=name))["response"] for name in ("pieces", "whole")]
                self.assertEqual(said[0], said[1])
                size = next(m["size"] for m in self.d.get("/api/tags").json["models"] if m["name"] == "pieces:latest")
                self.assertGreater(size, sum(map(os.path.getsize, paths)) - 1)
        os.unlink(paths[1])
        reply = self.d.post("/api/import", {"model": "less", "path": paths[0], "stream": False})
        self.assertEqual((reply.status, paths[1] in reply.json["error"]), (404, True), reply.body)
        other = self.files.name + "/m-00000-of-00000.gguf"
        with open(other, "wb") as f:
            f.write(self.data)
        self.d.ok("/api/import", {"model": "odd", "path": other, "stream": False})


class Command(Base):
    """hearth create, over the Unix socket and over TCP."""
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="hearth-create-command-")
        self.addCleanup(self.dir.cleanup)

    def write(self, name, text):
        path = self.dir.name + "/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        return path

    def hearth(self, *args, tcp=False, input=None, cwd=None, code=0):
        host = "http://127.0.0.1:%d" % self.d.port if tcp else "unix://" + self.d.socket
        env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        r = subprocess.run([os.path.join(os.path.dirname(HEARTHD), "hearth"), *args, "--host", host], input=input,
                           capture_output=True, text=True, cwd=cwd or self.dir.name, env=env, timeout=60)
        self.assertEqual(r.returncode, code, (args, r.stdout, r.stderr))
        return r.stdout if code == 0 else r.stderr

    ALL = ("# mine\nfrom ./sub/m.gguf\nPARAMETER stop <a>\nparameter stop \" b\"\nPARAMETER temperature 0.25\n"
           "PARAMETER num_gpu 3\nTEMPLATE \"\"\"{{ .System }}\n{{ .Prompt }}\"\"\"\nSYSTEM one\nSYSTEM two\nLICENSE L1\n"
           "LICENSE \"L2\"\nMESSAGE user hi: there\nMESSAGE assistant ho\nREQUIRES v0.1.0\nRENDERER r\nPARSER p\n")

    def test_all_of_it_both_ways(self):
        self.write("sub/m.gguf", self.data)
        file = self.write("Modelfile", self.ALL)
        self.assertIn("created 'local'", self.hearth("create", "local"))
        self.assertIn("created 'sent'", self.hearth("create", "sent", "-f", file, tcp=True, cwd="/"))
        self.assertEqual(self.manifest("local:latest"), self.manifest("sent:latest"))
        shown = self.show("local")
        self.assertEqual((shown["system"], shown["license"]), ("two", "L1\nL2"))
        self.assertEqual(shown["messages"][0], {"role": "user", "content": "hi: there"})
        for line in ('stop                           "<a>"', 'stop                           " b"', "temperature                    0.25",
                     "num_gpu                        3"):
            self.assertIn(line, shown["parameters"])
        self.assertEqual(self.hearth("show", "local", "--system").strip(), "two")
        # what show prints makes the same model again
        printed = self.hearth("show", "local", "--modelfile")
        self.hearth("create", "again", "-f", self.write("Printed", printed))
        again = self.show("again")
        for key in ("system", "template", "license", "messages", "parameters"):
            self.assertEqual(again[key], shown[key])
        self.assertEqual(self.manifest("again:latest"), self.manifest("local:latest"))

    def test_other_ways_to_say_it(self):
        self.tiny("base")
        self.hearth("create", "stdin", "-f", "-", input="FROM base\nSYSTEM from stdin")
        self.assertEqual(self.show("stdin")["system"], "from stdin")
        self.write("Modelfile", ("FROM base\r\nSYSTEM \u00fcber").encode("utf-16"))
        self.hearth("create", "wide")
        self.assertEqual(self.show("wide")["system"], "\u00fcber")
        long = self.write("-Very " + 90 * "n" + "\u00e4.gguf", self.data)
        self.assertIn("as 'very-%s'" % (75 * "n"), self.hearth("import", "./" + os.path.basename(long)))
        self.hearth("cp", "base", "hf.co/o/r:m.gguf")
        self.hearth("create", "hub", "-f", "-", input="FROM hf.co/o/r:m.gguf")
        self.hearth("cp", "base", "hf.co/o/r.gguf")
        self.hearth("create", "hub", "-f", "-", input="FROM hf.co/o/r.gguf\nPARAMETER use_mmap 1")
        self.assertIn("use_mmap                       true", self.show("hub")["parameters"])
        self.write("one/m.gguf", self.data)
        self.write("one/.hidden.gguf", b"x")
        for tcp in (False, True):  # what may be no path is sent
            self.hearth("import", "one/m.gguf", "whole:%d" % tcp, tcp=tcp)
            self.hearth("quantize", "one/m.gguf", "small:%d" % tcp, "Q8_0", tcp=tcp)
        for name in ("whole", "small"):
            self.assertEqual(self.manifest(name + ":1"), self.manifest(name + ":0"))
        self.assertIn("--reference: only", self.hearth("import", "--reference", "one/m.gguf", tcp=True, code=2))
        for tcp in (False, True):
            self.hearth("create", "folder", "-f", self.write("F", "FROM one"), tcp=tcp)
        self.hearth("create", "here", "--reference", "-f", self.write("F", "FROM ./one/m.gguf"))
        self.assertEqual(self.hearth("create", "quant", "-q", "q8_0", "-f", self.write("F", "FROM base")), "created 'quant'\n")
        self.assertEqual(self.show("quant")["details"]["quantization_level"], "Q8_0")

    def test_save_of_a_conversation(self):
        self.tiny("talk", template="{{ .Prompt }}", parameters={"num_predict": 4, "temperature": 0})
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(os.path.join(os.path.dirname(HEARTHD), "hearth"), ["hearth", "run", "talk", "--host", "unix://" + self.d.socket],
                      {"TERM": "dumb", "HOME": self.dir.name, "PATH": os.environ["PATH"]})
        seen = [""]

        def until(text, seconds=15):
            end = time.monotonic() + seconds
            while text not in seen[0]:
                self.assertTrue(select.select([fd], [], [], max(0, end - time.monotonic()))[0], seen[0])
                seen[0] += os.read(fd, 4096).decode(errors="replace")
            seen[0] = seen[0].split(text, 1)[1]
        until(">>> ")
        for typed, said in (("/set system Be brief.", "Set the system prompt"), ("/set parameter top_k 7", "top_k"), ("hello", ">>> "),
                            ("/save saved", "Created new model 'saved'")):
            os.write(fd, (typed + "\r").encode())
            until(said)
        os.write(fd, b"/bye\r")
        os.waitpid(pid, 0)
        os.close(fd)
        shown = self.show("saved")
        self.assertEqual(shown["system"], "Be brief.")
        self.assertEqual([m["role"] for m in shown["messages"]], ["user", "assistant"])
        self.assertEqual(shown["messages"][0]["content"], "hello")
        self.assertIn("top_k                          7", shown["parameters"])
        self.assertIn("num_predict                    4", shown["parameters"])

    def test_what_is_refused(self):
        self.tiny("base")
        self.write("two/a.gguf", self.data)
        self.write("two/b.gguf", self.data)
        self.write("st/model.safetensors", b"x")
        self.write("none/x.txt", b"x")
        rows = [("FROM base\nPARAMETER unknown 1", 1, "line 2: unknown parameter 'unknown'"),
                ("FROM base\nPARAMETER top_k x", 1, "line 2: option \"top_k\" must be of type integer"),
                ("FORM base", 1, "line 1: 'FORM' is not a command"),
                ("SYSTEM x", 1, "no FROM"),
                ("FROM ./nothing.gguf", 4, "line 1: there is no file './nothing.gguf'"),
                ("FROM nothing", 4, "not found"),
                ("FROM base\nADAPTER ./nothing", 4, "line 2: cannot open"),
                ("FROM two", 1, "2 models"),
                ("FROM st", 1, "no GGUF file"),
                ("FROM none", 4, "no model file"),
                ("FROM base\nDRAFT x", 1, "DRAFT"),
                ("FROM base\nFROM two/a.gguf", 1, "one or the other"),
                ("FROM base\nTEMPLATE {{ if }}", 1, "template error")]
        for text, code, sentence in rows:
            self.assertIn(sentence, self.hearth("create", "x", "-f", self.write("F", text), code=code), text)
        self.assertIn("cannot read the Modelfile", self.hearth("create", "x", "-f", "absent", code=4))
        self.assertIn("--reference", self.hearth("create", "x", "--reference", "-f", self.write("F", "FROM two/a.gguf"), tcp=True, code=2))
        self.assertIn("warning", subprocess.run([os.path.join(os.path.dirname(HEARTHD), "hearth"), "create", "old", "-f",
                                                 self.write("F", "FROM base\nPARAMETER f16_kv true"), "--host", "unix://" + self.d.socket],
                                                capture_output=True, text=True).stderr)


@unittest.skipUnless(ollama, "the package ollama is not installed")
class Client(Base):
    def test_create_from_an_uploaded_file(self):
        client = ollama.Client(host="http://127.0.0.1:%d" % self.d.port)
        for _ in range(2):  # the second finds it there
            self.assertEqual(client.create_blob(self.path), self.digest)
        said = [p.status for p in client.create("theirs", files={"tiny.gguf": self.digest}, system="Be kind.",
                                                parameters={"temperature": 0, "num_predict": 4}, license=["MIT"],
                                                messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
                                                stream=True)]
        self.assertEqual(said[-1], "success")
        self.assertEqual(client.create("mine", from_="theirs", system="Be brief.").status, "success")
        with self.assertRaises(ollama.ResponseError) as caught:
            client.create("x", from_="none")
        self.assertIn("not found", str(caught.exception))
        shown = client.show("mine")
        self.assertEqual(shown.license, "MIT")
        self.assertIn("Be brief.", shown.modelfile)
        self.assertLessEqual(client.chat("mine", [{"role": "user", "content": "hi"}]).eval_count, 4)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[1:])
