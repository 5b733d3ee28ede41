#!/usr/bin/env python3
"""The command against a daemon that says what the test wants: exit codes, framing, Ctrl-C, the
conversation through a pty. cli_test.py PATH-OF-HEARTH [unittest arguments]"""
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HEARTH = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearth"
SLOW = float(os.environ.get("HEARTH_TEST_SLOW", "1"))


def chunked(*parts):
    body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts if p)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def lines(*objects):
    return [json.dumps(o).encode() + b"\n" for o in objects]


def plain(value, status="200 OK"):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def piece(text):
    return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "response": text, "done": False}


def said(text):
    return {"model": "m", "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": text}, "done": False}


DONE = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "response": "", "done": True, "done_reason": "stop",
        "total_duration": 1500000000, "load_duration": 2000000, "prompt_eval_count": 12,
        "prompt_eval_duration": 60000000, "eval_count": 11, "eval_duration": 100000000}
CHAT_DONE = {**{k: v for k, v in DONE.items() if k != "response"}, "message": {"role": "assistant", "content": ""}}
LOADED = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "response": "", "done": True, "done_reason": "load"}


# Takes a while to listen, answers once, and ends.
FAKE_HEARTHD = """#!%(python)s
import socket, time
open("%(folder)s/started", "w").close()
time.sleep(0.2)
listener = socket.socket(socket.AF_UNIX)
listener.bind("%(folder)s/hearth.sock")
listener.listen()
listener.settimeout(5)
connection = listener.accept()[0]
connection.recv(9999)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 13\\r\\n\\r\\n{\\"models\\":[]}")
connection.close()
"""


class Daemon:
    """Answers each request from `script`: path -> bytes, or a function (request, connection) -> bytes."""
    def __init__(self, address, script):
        self.script, self.requests, self.gone = script, [], threading.Event()
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.bind(address)
        self.socket.listen(16)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            got = connection.recv(65536)
            if not got:
                return
            data += got
        head, body = data.split(b"\r\n\r\n", 1)
        length = re.search(rb"content-length: (\d+)", head, re.I)
        while length and len(body) < int(length.group(1)):
            body += connection.recv(65536)
        request = {"line": head.split(b"\r\n")[0].decode(), "head": head.decode(),
                   "path": head.split()[1].decode(), "body": json.loads(body) if body else None}
        self.requests.append(request)
        answer = self.script.get(request["path"], plain({"error": "no such route"}, "404 Not Found"))
        try:
            connection.sendall(answer(request, connection) if callable(answer) else answer)
        except OSError:
            self.gone.set()
        connection.close()

    def close(self):
        if self.thread.is_alive():
            self.socket.shutdown(socket.SHUT_RDWR)
            self.thread.join()  # before its descriptor's number can be another's
            self.socket.close()


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hearth-cli-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.socket = self.folder + "/hearth.sock"
        self.env = {"PATH": "/nonexistent", "HOME": self.folder, "TERM": "xterm", "LC_ALL": "C.UTF-8",
                    "XDG_RUNTIME_DIR": self.folder}
        self.env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        self.hearth_path = HEARTH
        self.daemon = None

    def serve(self, script):
        self.daemon = Daemon(self.socket, script)
        self.addCleanup(self.daemon.close)
        return self.daemon

    def alone(self):
        """The command away from hearthd, so that none is beside it."""
        os.mkdir(self.folder + "/bin")
        shutil.copy(HEARTH, self.folder + "/bin/hearth")
        self.hearth_path = self.folder + "/bin/hearth"

    def hearth(self, *args, stdin=b"", rc=0, env=None):
        got = subprocess.run([self.hearth_path, *args], input=stdin, capture_output=True, timeout=30 * SLOW,
                             env={**self.env, **(env or {})})
        self.assertEqual(got.returncode, rc, f"{args}: {got.stdout!r} {got.stderr!r}")
        return got.stdout.decode(), got.stderr.decode()


class Usage(Case):
    def test_help_lists_every_command_and_each_has_its_own(self):
        out, _ = self.hearth("help")
        commands = re.findall(r"^  (\w+) ", out, re.M)
        for name in ("run", "list", "ps", "show", "import", "rm", "cp", "stop", "tokenize", "bench", "serve", "version"):
            self.assertIn(name, commands)
        for name in commands:
            text, _ = self.hearth("help", name)
            self.assertIn(f"usage: hearth {name}", text)
            if name not in ("serve",):
                self.assertEqual(self.hearth(name, "--help")[0], text)
        self.assertEqual(self.hearth("--help")[0], out)

    def test_wrong_usage_is_2(self):
        for args in ([], ["nosuch"], ["help", "nosuch"], ["run"], ["run", "--nosuch", "m"], ["cp", "a"], ["bench"],
                     ["bench", "m", "--prompt", "x"], ["bench", "m", "--prompt", "0"], ["bench", "m", "--prompt"],
                     ["list", "--host", "ftp:/x"], ["list", "--host", "https://a"], ["list", "--host", "http://:1"],
                     ["list", "--host", "unix://rel"], ["list", "--host", "a:99999"], ["completion", "fish"],
                     ["list", "--host", "unix:///" + "x" * 200]):
            _, err = self.hearth(*args, rc=2)
            self.assertTrue(err, args)
        self.assertIn("the option -x", self.hearth("list", "-xy", rc=2)[1])

    def test_options_are_checked_before_anything_is_sent(self):
        d = self.serve({})
        for args in (["-o", "nope=1"], ["-o", "temperature"], ["-o", "temperature=x"], ["--keepalive", "soon"]):
            self.hearth("run", "m", "hi", *args, rc=2)
        self.hearth("tokenize", "m", "--decode", "1", "x", rc=2)
        self.hearth("import", __file__, "--copy", "--reference", rc=2)
        self.assertEqual(d.requests, [])

    def test_completion_is_bash_and_knows_the_commands(self):
        out, _ = self.hearth("completion", "bash")
        probe = out + '\nCOMP_WORDS=(hearth imp) COMP_CWORD=1; _hearth; echo "${COMPREPLY[@]}"' \
                      '\nCOMP_WORDS=(hearth bench --perp) COMP_CWORD=2; _hearth; echo "${COMPREPLY[@]}"'
        got = subprocess.run(["/bin/bash", "-c", probe], capture_output=True, text=True, check=True)
        self.assertEqual(got.stdout.split(), ["import", "--perplexity"])
        self.assertIn(".SS \"run MODEL [PROMPT...]\"", self.hearth("completion", "man")[0])


class NoDaemon(Case):
    def test_none_and_none_to_start_is_3(self):
        self.alone()
        _, err = self.hearth("list", rc=3)
        self.assertIn("hearthd", err)
        self.assertIn("no daemon is running", self.hearth("version")[0])

    def test_a_named_one_is_never_replaced(self):
        self.fake_hearthd()
        for host in ("http://127.0.0.1:9", "unix://" + self.folder + "/none.sock", "127.0.0.1:9"):
            _, err = self.hearth("list", "--host", host, rc=3)
            self.assertIn("no daemon answers at", err)
            self.hearth("list", env={"HEARTH_HOST": host}, rc=3)
            self.hearth("--host", host, "list", rc=3)
        self.assertFalse(os.path.exists(self.folder + "/started"))

    def test_a_socket_that_refuses_is_an_error(self):
        self.fake_hearthd()
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(self.socket)
        stale.close()
        _, err = self.hearth("list", rc=3)
        self.assertIn("hearth serve", err)
        self.assertFalse(os.path.exists(self.folder + "/started"))

    def fake_hearthd(self, body=None):
        self.alone()
        path = self.folder + "/bin/hearthd"
        with open(path, "w") as f:
            f.write(body or FAKE_HEARTHD % {"python": sys.executable, "folder": self.folder})
        os.chmod(path, 0o755)

    def test_one_is_started_and_awaited(self):
        self.fake_hearthd()
        out, _ = self.hearth("list", env={"PATH": os.environ["PATH"]})
        self.assertEqual(out.split(), ["NAME", "ID", "SIZE", "MODIFIED"])
        self.assertTrue(os.path.exists(self.folder + "/.local/state/hearth/hearthd.log"))

    def test_one_that_ends_at_once_is_told(self):
        self.fake_hearthd("#!/bin/sh\necho hello >&2\nprintf 'hearthd: no \\033[2Jroom\\n' >&2\nexit 1\n")
        _, err = self.hearth("list", rc=3)
        self.assertRegex(err, r"ended with status 1: no \S*room \(its log is \S+hearthd.log\)")
        self.assertNotIn("\033", err)
        log = re.search(r"log is (\S+)\)", err).group(1)
        with open(log) as f:
            self.assertIn("hello", f.read())

    def test_one_that_finds_the_last_one_ending_is_started_again(self):
        self.fake_hearthd("#!%s\nimport os, sys\nif not os.path.exists('%s/ended'):\n"
                          "    open('%s/ended', 'w').close()\n    sys.exit(3)\n" % (sys.executable, self.folder, self.folder)
                          + FAKE_HEARTHD.split("\n", 1)[1] % {"folder": self.folder})
        self.assertIn("NAME", self.hearth("list")[0])

    def test_serve_hands_its_options_on(self):
        self.fake_hearthd("#!/bin/sh\necho \"$@\"\n")
        self.assertEqual(self.hearth("serve", "--listen", "off", "--help")[0], "--listen off --help\n")


class Talk(Case):
    def test_an_answer_in_pieces_of_any_size(self):
        body = b"".join(lines(piece("Hel"), piece("lo \u20ac"), piece("!"), DONE))

        def slowly(request, connection):
            for byte in chunked(*[body[i:i + 7] for i in range(0, len(body), 7)]):
                connection.sendall(bytes([byte]))
            return b""
        d = self.serve({"/api/generate": slowly})
        out, err = self.hearth("run", "m", "say", "hello", "-o", "temperature=0", "-o", "stop=X", "--keepalive", "10m",
                               "--system", "be brief", "--verbose")
        self.assertEqual(out, "Hello \u20ac!\n")
        sent = d.requests[0]["body"]
        self.assertEqual(sent["prompt"], "say hello")
        self.assertEqual(sent["system"], "be brief")
        self.assertEqual(sent["options"], {"temperature": 0, "stop": ["X"]})
        self.assertIn(sent["keep_alive"], ("10m0s", "10m", 600))
        self.assertEqual(err.splitlines(), [
            "total duration:       1.5s", "load duration:        2ms", "prompt eval count:    12 token(s)",
            "prompt eval duration: 60ms", "prompt eval rate:     200.00 tokens/s", "eval count:           11 token(s)",
            "eval duration:        100ms", "eval rate:            100.00 tokens/s"])

    def test_a_body_that_ends_with_the_connection(self):
        self.serve({"/api/generate": b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(lines(piece("a"), DONE))[:-1]})
        self.assertEqual(self.hearth("run", "m", "x")[0], "a\n")

    def test_an_interim_reply_is_passed_over(self):
        self.serve({"/api/generate": b"HTTP/1.1 100 Continue\r\n\r\n" + chunked(*lines(piece("a"), DONE))})
        self.assertEqual(self.hearth("run", "m", "x")[0], "a\n")

    def test_input_goes_before_the_words(self):
        d = self.serve({"/api/generate": chunked(*lines(DONE))})
        self.hearth("run", "m", "sum", "up", stdin="l\u00f6ng text".encode())
        self.hearth("run", "m", stdin=b"only this")
        self.assertEqual([r["body"]["prompt"] for r in d.requests], ["l\u00f6ng text sum up", "only this"])

    def test_json_is_the_stream_itself(self):
        self.serve({"/api/generate": chunked(*lines(piece("a"), DONE))})
        out, _ = self.hearth("run", "m", "x", "--json")
        self.assertEqual([json.loads(line) for line in out.splitlines()], [piece("a"), DONE])

    def test_a_cut_answer_says_so(self):
        self.serve({"/api/generate": chunked(*lines(piece("a"), {**DONE, "done_reason": "length"}))})
        self.assertIn("cut after 11 tokens", self.hearth("run", "m", "x")[1])

    def test_exit_codes_of_errors(self):
        for status, rc in (("404 Not Found", 4), ("503 Service Unavailable", 5), ("400 Bad Request", 1),
                           ("500 Internal Server Error", 1), ("418 Teapot", 1)):
            d = Daemon(self.socket, {"/api/generate": plain({"error": "the reason"}, status)})
            _, err = self.hearth("run", "m", "x", rc=rc)
            self.assertIn("the reason", err)
            d.close()
            os.unlink(self.socket)

    def test_an_error_inside_the_stream(self):
        self.serve({"/api/generate": chunked(*lines(piece("half"), {"error": "the device was lost"}))})
        out, err = self.hearth("run", "m", "x", rc=1)
        self.assertEqual(out, "half\n")
        self.assertIn("the device was lost", err)

    def test_what_is_no_reply(self):
        for reply, word in ((b"", "closed"), (b"SSH-2.0-x\r\n", "HTTP"), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "closed"),
                            (chunked(*lines(piece("a")))[:-5], "closed"), (chunked(b"{nope}\n"), "JSON"),
                            (chunked(b"x" * (9 << 20)), "longer"), (b"HTTP/1.1 502 Bad\r\nContent-Length: 4\r\n\r\n<a/>", "502")):
            d = Daemon(self.socket, {"/api/generate": reply})
            _, err = self.hearth("run", "m", "x", rc=3 if b"502" in reply[:20] else 1)
            self.assertIn(word, err, reply[:40])
            d.close()
            os.unlink(self.socket)

    def test_ctrl_c_is_130_and_closes_the_connection(self):
        def endless(_request, connection):
            connection.sendall(chunked(*lines(piece("tick")))[:-5])
            while connection.send(b"1\r\n \r\n") and not time.sleep(0.01):
                pass
        d = self.serve({"/api/generate": endless})
        child = subprocess.Popen([HEARTH, "run", "m", "x"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env=self.env)
        self.assertEqual(child.stdout.read(4), b"tick")
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=10 * SLOW)
        self.assertEqual(child.returncode, 130)
        self.assertTrue(d.gone.wait(10 * SLOW))

    def test_over_tcp_with_a_key(self):
        d = Daemon(("127.0.0.1", 0), {"/api/tags": plain({"models": []})})
        self.addCleanup(d.close)
        port = d.socket.getsockname()[1]
        self.hearth("list", "--host", f"http://localhost:{port}/", env={"HEARTH_API_KEY": "k1"})
        head = d.requests[0]["head"]
        self.assertIn(f"\r\nHost: localhost:{port}\r\n", head)
        self.assertIn("\r\nAuthorization: Bearer k1", head)


class Models(Case):
    DETAILS = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
               "parameter_size": "134.5M", "quantization_level": "Q4_1"}

    def test_list(self):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 185))
        reply = {"models": [{"name": n, "model": n, "modified_at": now, "size": s, "digest": "ab" * 32, "details": self.DETAILS}
                            for n, s in (("smollm2:135m", 98765432), ("Big\u6f22:x", 4200000000))]}
        self.serve({"/api/tags": plain(reply)})
        self.assertEqual(self.hearth("ls")[0].splitlines(), [
            "NAME            ID              SIZE      MODIFIED",
            "smollm2:135m    abababababab    99 MB     3 minutes ago",
            "Big\u6f22:x         abababababab    4.2 GB    3 minutes ago"])
        self.daemon.script["/api/tags?filter=BIG+size%3C5GB+a%2Bb%25"] = plain({"models": reply["models"][1:]})
        self.assertEqual(len(self.hearth("list", "BIG", "size<5GB", "a+b%")[0].splitlines()), 2)
        self.assertEqual(json.loads(self.hearth("list", "--json")[0]), reply)

    def test_ps(self):
        def row(name, size, vram, until):
            return {"name": name, "model": name, "size": size, "size_vram": vram, "digest": "cd" * 32,
                    "details": self.DETAILS, "context_length": 4096, "expires_at": until}
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 241))
        self.serve({"/api/ps": plain({"models": [
            row("a:x", 10 ** 9, 0, soon), row("b:x", 10 ** 9, 10 ** 9, "2318-01-01T00:00:00Z"),
            row("c:x", 10 ** 9, 25 * 10 ** 7, "2020-01-01T00:00:00Z"), row("d:x", 0, 5, soon)]})})
        rows = [re.split(r" {2,}", r) for r in self.hearth("ps")[0].splitlines()]
        self.assertEqual(rows[0], ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"])
        self.assertEqual(rows[1][3:], ["100% CPU", "4096", "4 minutes from now"])
        self.assertEqual(rows[2][3:], ["100% GPU", "4096", "Forever"])
        self.assertEqual(rows[3][3:], ["75%/25% CPU/GPU", "4096", "Stopping..."])
        self.assertEqual(rows[4][3], "Unknown")

    def test_cp_rm_stop(self):
        d = self.serve({"/api/copy": plain(b""), "/api/delete": plain(b""),
                        "/api/generate": plain({**LOADED, "done_reason": "unload"})})
        self.assertEqual(self.hearth("cp", "a", "b")[0], "copied 'a' to 'b'\n")
        self.assertEqual(self.hearth("rm", "a", "b")[0], "deleted 'a'\ndeleted 'b'\n")
        self.hearth("stop", "a")
        self.assertEqual([r["line"].split()[0] for r in d.requests], ["POST", "DELETE", "DELETE", "POST"])
        self.assertIn(d.requests[-1]["body"]["keep_alive"], (0, "0s", "0"))

    def test_missing_models_are_4(self):
        gone = plain({"error": "model 'x' not found"}, "404 Not Found")
        self.serve({p: gone for p in ("/api/copy", "/api/delete", "/api/generate", "/api/show", "/api/tokenize")})
        for args in (["cp", "x", "b"], ["rm", "x"], ["show", "x"], ["run", "x", "hi"], ["tokenize", "x", "hi"]):
            self.assertIn("model 'x' not found", self.hearth(*args, rc=4)[1])
        self.assertIn("couldn't find model \"x\" to stop", self.hearth("stop", "x", rc=4)[1])

    def test_show(self):
        reply = {"details": self.DETAILS, "model_info": {"general.architecture": "llama", "llama.context_length": 8192,
                 "llama.embedding_length": 576, "evil": "\u001b[2Jx"}, "capabilities": ["completion"],
                 "parameters": "stop \"<|im_end|>\"", "license": "one\ntwo\nthree", "modified_at": "2026-01-01T00:00:00Z"}
        d = self.serve({"/api/show": plain(reply)})
        out = self.hearth("show", "m")[0]
        for row in (r"architecture +llama", r"parameters +134.5M", r"context length +8192", r"quantization +Q4_1", "completion"):
            self.assertRegex(out, row)
        self.assertNotIn("three", out)
        out = self.hearth("show", "-v", "m")[0]
        self.assertIn("general.architecture", out)
        self.assertNotIn("\x1b", out)
        self.assertTrue(d.requests[-1]["body"]["verbose"])

    def test_import_makes_the_path_absolute(self):
        file = self.folder + "/Some Model-Q4_1-00001-of-00002.gguf"
        with open(file, "w") as f:
            f.write("x")
        d = self.serve({"/api/import": chunked(*lines({"status": "copying", "total": 10, "completed": 5}, {"status": "success"}))})
        here = os.getcwd()
        os.chdir(self.folder)
        self.addCleanup(os.chdir, here)
        out, _ = self.hearth("import", os.path.basename(file))
        self.assertEqual(d.requests[0]["body"], {"model": "some-model-q4_1", "path": os.path.realpath(file), "stream": True})
        self.assertIn("'some-model-q4_1'", out)
        self.hearth("import", "--reference", file, "a:b")
        self.assertEqual(d.requests[1]["body"], {"model": "a:b", "path": os.path.realpath(file), "reference": True,
                                                 "stream": True})
        _, err = self.hearth("import", "nothere.gguf", rc=1)
        self.assertIn("nothere.gguf", err)

    def test_tokenize(self):
        d = self.serve({"/api/tokenize": plain({"tokens": [1, 22], "pieces": ["a\n", [226, 130]]}),
                        "/api/detokenize": plain({"content": "ab"})})
        self.assertEqual(self.hearth("tokenize", "m", "x y")[0], "       1 'a\\n'\n      22 e2 82\n2 tokens\n")
        self.hearth("tokenize", "m", "--special", stdin=b"from input")
        self.assertEqual(d.requests[1]["body"]["content"], "from input")
        self.assertTrue(d.requests[1]["body"]["add_special"])
        self.assertEqual(self.hearth("tokenize", "m", "--decode", "[1, 22]", "3")[0], "ab\n")
        self.assertEqual(d.requests[2]["body"]["tokens"], [1, 22, 3])


class Pty:
    """The command on a terminal of its own."""
    def __init__(self, args, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(HEARTH, [HEARTH, *args], env)
        self.seen = ""

    def until(self, text, seconds=15 * SLOW):
        end = time.time() + seconds
        while text not in self.seen:
            if time.time() > end or not select.select([self.fd], [], [], max(0, end - time.time()))[0]:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
            except OSError as gone:
                raise AssertionError(f"ended without {text!r}: {self.seen!r}") from gone
        before, self.seen = self.seen.split(text, 1)
        return before

    def type(self, text):
        os.write(self.fd, text.encode())

    def type_all(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self.fd, data[:4096]):]

    def wait(self, seconds=15 * SLOW):
        end = time.time() + seconds
        while time.time() < end:
            try:
                while select.select([self.fd], [], [], 0.05)[0]:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
            except OSError:
                pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(f"did not end: {self.seen!r}")


MODEL_SHA = "sha256:" + "ab" * 32
PULL = [{"status": "pulling manifest"},
        {"status": "pulling " + "ab" * 6, "digest": MODEL_SHA, "total": 1000000000, "completed": 0},
        {"status": "pulling " + "ab" * 6, "digest": MODEL_SHA, "total": 1000000000, "completed": 380000000},
        {"status": "pulling " + "ab" * 6, "digest": MODEL_SHA, "total": 1000000000, "completed": 1000000000},
        {"status": "verifying sha256 digest"}, {"status": "writing manifest"},
        {"status": "success", "model": "m:latest"}]
PLAN = {"status": "plan", "model": "m:latest", "source": "https://registry.example/v2", "revision": "abc", "license": "MIT",
        "present": False, "size": 1000, "missing": 1000, "disk_free": 900, "fits_disk": False, "device": "Toy", "device_budget": 5000,
        "device_needs": 2000, "fits_device": True,
        "files": [{"name": "a.gguf", "kind": "model", "size": 1000, "missing": 1000}]}


class Transfers(Case):
    """How far a pull is, its end by Ctrl-C, and the secrets that go with it."""
    def pull(self, answer, *args, path="/api/pull", command="pull", **more):
        self.serve({path: answer})
        return self.hearth(command, *args, **more)

    def sent(self):
        return {k: v for k, v in self.daemon.requests[-1]["body"].items()}

    def test_lines_in_a_pipe(self):
        out, err = self.pull(chunked(*lines(*PULL)), "m")
        self.assertEqual(err.splitlines(), ["pulling manifest", "pulling: 0 B of 1.0 GB (0%)", "verifying sha256 digest",
                                            "writing manifest", "success", "pulling: 1.0 GB of 1.0 GB (100%)"])
        self.assertEqual(out, "")
        self.assertEqual(self.sent(), {"model": "m"})

    def test_a_line_a_second(self):
        def slowly(request, connection):
            connection.sendall(chunked(*lines(*PULL[:1]))[:-5])
            for i in range(25):
                line = json.dumps({**PULL[1], "completed": i * 10000000}).encode() + b"\n"
                connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))
                time.sleep(0.1)
            return chunked(*lines(*PULL[-1:])).split(b"\r\n\r\n", 1)[1]
        err = self.pull(slowly, "m")[1]
        said = [line for line in err.splitlines() if line.startswith("pulling:")]
        self.assertIn(len(said), (3, 4, 5), err)
        self.assertRegex(said[2], r"^pulling: \d+ MB of 1.0 GB \(\d+%\), \d+ MB/s, \d+s left$")

    def test_bars_on_a_terminal(self):
        self.serve({"/api/pull": chunked(*lines(*PULL))})
        p = Pty(["pull", "m"], self.env)
        self.assertEqual(p.wait(), 0)
        self.assertIn("pulling abababababab   0%", p.seen)
        self.assertIn("pulling abababababab 100%", p.seen)
        self.assertIn("1.0 GB", p.seen)
        last = p.seen.split("\x1b[J")[-1]
        self.assertIn("success", last)
        self.assertEqual(p.seen.count("\x1b["), p.seen.count("A\r\x1b[J") + p.seen.count("\x1b[J"))

    def test_json_is_what_came(self):
        out, err = self.pull(chunked(*lines(*PULL)), "m", "--json")
        self.assertEqual([json.loads(line) for line in out.splitlines()], PULL)
        self.assertEqual(err, "")

    def test_errors_first_and_later(self):
        err = self.pull(plain({"error": "no such model there"}, "404 Not Found"), "m", rc=4)[1]
        self.assertIn("hearth: no such model there", err)
        self.daemon.close()
        os.unlink(self.socket)
        err = self.pull(chunked(*lines(PULL[0], {"error": "it is not there", "code": "not_found"})), "m", rc=4)[1]
        self.assertIn("hearth: it is not there", err)
        self.daemon.close()
        os.unlink(self.socket)
        err = self.pull(chunked(*lines(*PULL[:3], {"error": "reset", "code": "io"})), "m", "--as", "n", rc=1)[1]
        self.assertIn("`hearth pull m --as n` goes on from what has arrived", err)
        self.daemon.script["/api/pull"] = chunked(*lines(PULL[0], {"error": "no such host", "code": "io"}))
        self.assertNotIn("arrived", self.hearth("pull", "m", rc=1)[1])  # nothing has

    def test_offline_says_so(self):
        err = self.pull(plain({"error": "offline: nothing is pulled"}, "409 Conflict"), "m", rc=1)[1]
        self.assertIn("hearth: offline: nothing is pulled", err)
        self.assertNotIn("arrived", err)

    def test_ctrl_c_says_how_to_go_on(self):
        def forever(request, connection):
            connection.sendall(chunked(*lines(*PULL[:3]))[:-5])
            while connection.recv(100):
                pass
            self.daemon.gone.set()
            return b""
        self.serve({"/api/pull": forever})
        p = Pty(["pull", "m"], self.env)
        p.until("38%")
        p.type("\x03")
        self.assertEqual(p.wait(), 130)
        self.assertIn("`hearth pull m` continues where it stopped", p.seen)
        self.assertTrue(self.daemon.gone.wait(5 * SLOW))

    def test_detach_leaves_when_it_has_begun(self):
        def forever(request, connection):
            connection.sendall(chunked(*lines(*PULL[:1]))[:-5])
            while connection.recv(100):
                pass
            self.daemon.gone.set()
            return b""
        out, _ = self.pull(forever, "m", "--detach")
        self.assertIn("goes on in the daemon", out)
        self.assertTrue(self.sent()["detach"])
        self.assertTrue(self.daemon.gone.wait(5 * SLOW))

    def test_options_go_along(self):
        self.pull(chunked(*lines(*PULL)), "r.example/n/m", "--as", "x", "--insecure", "--limit-rate", "1.5M")
        self.assertEqual(self.sent(), {"model": "r.example/n/m", "as": "x", "insecure": True, "limit_rate": 1500000})
        self.assertIn("it is called 'm:latest' here\n", self.hearth("pull", "r.example/n/m")[1])
        for args in ["m", "--limit-rate", "fast"], ["m", "--all"], [], ["--all", "--as", "x"]:
            self.hearth("pull", *args, rc=2)

    def test_plan(self):
        out = self.pull(chunked(*lines(PULL[0], PLAN)), "m", "--dry-run")[0]
        self.assertTrue(self.sent()["dry_run"])
        self.assertRegex(out, r"licence +MIT")
        self.assertRegex(out, r"a\.gguf +model +1\.0 KB +1\.0 KB")
        self.assertIn("1.0 KB to fetch, 900 B free: does not fit", out)
        self.assertIn("about 2.0 KB wanted, 5.0 KB of Toy: fits", out)

    def test_push(self):
        self.pull(chunked(*lines({"status": "pushing manifest"}, {"status": "success"})), "m", "r.example/n/m",
                  path="/api/push", command="push")
        self.assertEqual(self.sent(), {"model": "m", "destination": "r.example/n/m"})

    def test_secrets(self):
        os.makedirs(self.folder + "/.docker")
        with open(self.folder + "/.docker/config.json", "w") as f:
            json.dump({"auths": {"https://r.example/v1/": {"auth": "bWU6b3Blbjpzay=="}, "s.example:5000": {"auth": "!"}}}, f)
        os.makedirs(self.folder + "/.cache/huggingface")
        with open(self.folder + "/.cache/huggingface/token", "w") as f:
            f.write("hf_file\n")
        self.serve({"/api/pull": chunked(*lines(*PULL))})
        env = {"HEARTH_REGISTRY_USER": "u", "HEARTH_REGISTRY_PASSWORD": "p"}
        expected = [("m", {}, {}), ("m", env, {}), ("n/m", env, {}),
                    ("r.example/n/m", env, {"username": "me", "password": "open:sk"}),
                    ("https://r.example/n/m", {}, {"username": "me", "password": "open:sk"}),
                    ("s.example:5000/m", env, {"username": "u", "password": "p"}),
                    ("hf.co/o/r", env, {"hf_token": "hf_file"}),
                    ("https://huggingface.co/o/r/x.gguf", {"HF_TOKEN": "hf_env"}, {"hf_token": "hf_env"}),
                    ("hf.co/o/r", {"HF_TOKEN": " ", "HUGGING_FACE_HUB_TOKEN": "hf_old"}, {"hf_token": "hf_old"}),
                    ("hub.local:80/o/r", {"HF_ENDPOINT": "http://hub.local:80/x"}, {"hf_token": "hf_file"}),
                    ("hf.co.evil.example/o/r", {"HF_TOKEN": "hf_env"}, {})]
        for name, more, secrets in expected:
            self.hearth("pull", name, env=more)
            self.assertEqual(self.sent(), {"model": name, **secrets})

    def test_secrets_do_not_leave_this_machine(self):
        env = {"HF_TOKEN": "hf_env", "HEARTH_REGISTRY_USER": "u", "HEARTH_REGISTRY_PASSWORD": "p"}
        d = Daemon(("127.0.0.1", 0), {"/api/pull": chunked(*lines(*PULL))})
        self.addCleanup(d.close)
        port = d.socket.getsockname()[1]
        self.hearth("pull", "hf.co/o/r", "--host", f"127.0.0.1:{port}", env=env)
        self.assertEqual(d.requests[-1]["body"]["hf_token"], "hf_env")
        for name in ("hf.co/o/r", "r.example/n/m"):  # an address that is not loopback, though it leads here
            self.hearth("pull", name, "--host", f"0.0.0.0:{port}", env=env)
            self.assertEqual(d.requests[-1]["body"], {"model": name})

    def test_all_that_is_outdated(self):
        models = [{"name": "a:latest", "source": "hf.co/o/a", "outdated": True, "revision": "r2"},
                  {"name": "b:latest", "source": "hf.co/o/b", "outdated": False},
                  {"name": "c:latest", "source": "https://r.example/n/c:latest", "outdated": False,
                   "error": "does not answer"}]
        self.serve({"/api/outdated": plain({"models": models}), "/api/pull": chunked(*lines(*PULL))})
        out = self.hearth("list", "--outdated")[0]
        self.assertRegex(out, r"a:latest +outdated +r2\nc:latest +not known +does not answer\n$")
        out, err = self.hearth("pull", "--all", "--insecure")
        self.assertEqual([r["body"] for r in self.daemon.requests if r["path"] == "/api/pull"],
                         [{"model": "hf.co/o/a", "as": "a:latest", "insecure": True}])  # under its name here
        self.assertIn("1 of 3 models brought anew", out)
        self.daemon.script["/api/pull"] = chunked(*lines(PULL[0], PLAN))
        self.assertIn("1 of 3 models would be brought anew", self.hearth("pull", "--all", "--dry-run")[0])

    def asked(self, *args, path, env=None, rc=0):
        """The bodies that a command sends there."""
        self.daemon.requests.clear()
        self.hearth(*args, env=env, rc=rc)
        return [r["body"] for r in self.daemon.requests if r["path"] == path]

    def test_what_goes_along_to_ask(self):
        verified = {"status": "success", "files": 1, "bytes": 1, "bad": 0, "repaired": 0, "damaged": []}
        self.serve({"/api/outdated": plain({"models": []}), "/api/verify": chunked(*lines(verified))})
        self.assertEqual(self.asked("list", "--outdated", path="/api/outdated"), [{}])
        self.assertEqual(self.asked("list", "--outdated", "--insecure", "qwen", "size<4GB", path="/api/outdated"),
                         [{"filter": "qwen size<4GB", "insecure": True}])
        self.assertEqual(self.asked("verify", "--repair", "--insecure", path="/api/verify"),
                         [{"repair": True, "insecure": True, "stream": True}])
        for args in ("list", "--insecure"), ("verify", "--insecure"):
            self.assertEqual(self.asked(*args, path="/api/verify", rc=2), [])

    def test_a_registry_with_a_login_is_asked_with_it(self):
        os.makedirs(self.folder + "/.docker")
        with open(self.folder + "/.docker/config.json", "w") as f:
            json.dump({"auths": {"r.example": {"auth": "bWU6b3Blbjpzay=="}}}, f)
        models = [{"name": n, "source": s, "outdated": False, "error": "unauthorized"}
                  for n, s in (("a:latest", "https://r.example/n/a"), ("b:latest", "https://s.example/n/b"),
                               ("c:latest", "hf.co/o/c"))]
        def outdated(request, connection):
            if request["body"].get("username") == "me":
                return plain({"models": [{"name": "a:latest", "source": "https://r.example/n/a",
                                          "outdated": True, "revision": "r2"}]})
            return plain({"models": models})
        self.serve({"/api/outdated": outdated})
        env = {"HEARTH_REGISTRY_USER": "u", "HEARTH_REGISTRY_PASSWORD": "p"}  # of a registry that is named, and none is
        sent = self.asked("list", "--outdated", path="/api/outdated", env=env)
        self.assertEqual(sent, [{}, {"model": "a:latest", "username": "me", "password": "open:sk"}])
        self.assertRegex(self.hearth("list", "--outdated", env=env)[0],
                         r"a:latest +outdated +r2\nb:latest +not known +unauthorized\nc:latest +not known")

    def test_under_way(self):
        entry = {"name": "m", "kind": "pull", "status": "pulling abab", "completed": 250, "total": 1000,
                 "started_at": "2026-01-01T00:00:00Z", "detached": True}
        self.serve({"/api/ps": plain({"models": [], "transfers": [entry]}), "/api/tags": plain({"models": []})})
        for command in "ps", "list":
            self.assertRegex(self.hearth(command)[0], r"m +pull \(detached\) +pulling abab +250 B of 1\.0 KB \(25%\)")

    def test_run_pulls_what_is_missing(self):
        here = []
        def generate(request, connection):
            return chunked(*lines(piece("hello"), DONE)) if here else plain({"error": "model 'm' not found"}, "404 Not Found")
        def pull(request, connection):
            here.append(1)
            return chunked(*lines(*PULL))
        self.serve({"/api/generate": generate, "/api/pull": pull})
        out, err = self.hearth("run", "m", "hi")
        self.assertTrue(out.endswith("hello\n"), out)
        self.assertIn("'m' is not here: pulling it", err)
        here.clear()
        self.daemon.script["/api/pull"] = plain({"error": "offline"}, "409 Conflict")
        err = self.hearth("run", "m", "hi", rc=4)[1]
        self.assertIn("hearth: model 'm' not found (", err)


class Conversation(Case):
    def start(self, chat, *args):
        d = self.serve({"/api/generate": chunked(*lines(LOADED)), "/api/chat": chat})
        p = Pty(["run", "m", *args], self.env)
        p.until(">>> ")
        return d, p

    def test_history_goes_along_and_ctrl_d_leaves(self):
        d, p = self.start(chunked(*lines(said("Hi "), said("you"), CHAT_DONE)), "--verbose")
        p.type("hello\n")
        p.until("Hi you")
        p.until("eval rate:            100.00 tokens/s")
        p.until(">>> ")
        p.type("again\n")
        p.until(">>> ")
        p.type("\x04")
        self.assertEqual(p.wait(), 0)
        self.assertEqual(d.requests[0]["body"]["prompt"], "")
        chats = [r["body"]["messages"] for r in d.requests[1:]]
        self.assertEqual(chats[0], [{"role": "user", "content": "hello"}])
        self.assertEqual(chats[1], [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi you"},
                                    {"role": "user", "content": "again"}])

    def test_slash_commands(self):
        d, p = self.start(chunked(*lines(said("ok"), CHAT_DONE)))
        for text, answer in (("/set system be kind", "Set the system prompt."), ("/set parameter temperature 0.5", "Set parameter"),
                             ("/set parameter nope 1", "error"), ("/set parameter temperature hot", "error"),
                             ("/show system", "be kind"), ("/show parameters", "\"temperature\":0.5"), ("/nope", "Unknown command"),
                             ("/?", "/clear"), ("/set", "/set system"), ("one", "ok"), ("/clear", "Forgot"), ("two", "ok")):
            p.type(text + "\n")
            p.until(answer)
            p.until(">>> ")
        p.type("/bye\n")
        self.assertEqual(p.wait(), 0)
        last = d.requests[-1]["body"]
        self.assertEqual(last["messages"], [{"role": "system", "content": "be kind"}, {"role": "user", "content": "two"}])
        self.assertEqual(last["options"], {"temperature": 0.5})

    def test_format_and_think(self):
        d, p = self.start(chunked(*lines(said("ok"), CHAT_DONE)))
        asked = []
        for text, answer in (("/set format json", "in this format"), ("one", "ok"), ('/set format {"type": "string"}', "in this format"),
                             ("/set think high", "Set 'think' mode to high"), ("two", "ok"), ("/set format nothing.json", "error"),
                             ("/set think much", "error"), ("/set noformat", "free"), ("/set nothink", "nothink"), ("three", "ok"),
                             ("/set think", "Set 'think' mode."), ("four", "ok")):
            p.type(text + "\n")
            p.until(answer)
            p.until(">>> ")
            if answer == "ok":
                body = d.requests[-1]["body"]
                asked.append((body.get("format"), body.get("think")))
        p.type("/bye\n")
        self.assertEqual(p.wait(), 0)
        self.assertEqual(asked, [("json", None), ({"type": "string"}, "high"), (None, False), (None, True)])

    def test_blocks(self):
        d, p = self.start(chunked(*lines(said("ok"), CHAT_DONE)))
        p.type('"""one\n')
        p.until("... ")
        p.type('  two\n')
        p.until("... ")
        p.type('three"""\n')
        p.until("ok")
        p.until(">>> ")
        p.type('"""in a line"""\n')
        p.until("ok")
        p.until(">>> ")
        p.type('/set system """a\n')
        p.until("... ")
        p.type('b\n')
        p.until("... ")
        p.type('"""\n')
        p.until("Set the system prompt")
        p.until(">>> ")
        p.type('"""given up\n')
        p.until("... ")
        p.type("\x03")
        p.until(">>> ")
        p.type("last\n")
        p.until("ok")
        p.type("\x04")
        self.assertEqual(p.wait(), 0)
        contents = [r["body"]["messages"] for r in d.requests[1:]]
        self.assertEqual(contents[0][0]["content"], "one\n  two\nthree")
        self.assertEqual(contents[1][-1]["content"], "in a line")
        self.assertEqual(contents[2][0], {"role": "system", "content": "a\nb"})
        self.assertEqual(contents[2][-1]["content"], "last")

    def test_ctrl_c_stops_the_answer_and_the_talk_goes_on(self):
        def endless(_request, connection):
            connection.sendall(chunked(*lines(said("tick")))[:-5])
            while connection.send(b"1\r\n \r\n") and not time.sleep(0.01):
                pass
        d, p = self.start(endless)
        p.type("go\n")
        p.until("tick")
        p.type("\x03")
        p.until(">>> ")
        self.assertTrue(d.gone.wait(10 * SLOW))
        p.type("\x03")
        p.until("Ctrl-D or /bye")
        p.until(">>> ")
        d.script["/api/chat"] = chunked(*lines(said("ok"), CHAT_DONE))
        p.type("more\n")
        p.until("ok")
        p.type("/exit\n")
        self.assertEqual(p.wait(), 0)
        self.assertEqual([m["content"] for m in d.requests[-1]["body"]["messages"]], ["go", "tick", "more"])

    KEYS = (  # what is typed, what arrives
        ("helo\x1b[Dl\n", "hello"), ("world\x01hello \n", "hello world"), ("ab\x02\x02\x1b[3~\n", "b"),
        ("one two three\x17\x17four\n", "one four"), ("abc\x02\x0b\n", "ab"), ("abc\x02\x15\n", "c"),
        ("na\u00efve\u6f22\x7f\x7f\n", "na\u00efv"), ("x\x1b[H\x1b[Cy\x1bbz\x1b[Fw\n", "zxyw"),
        ("\x1b[A\x7f!\n", "zxy!"), ("\x1b[A\x1b[A\x1b[B\n", "zxy!"), ("draft\x1b[A\x1b[B done\n", "draft done"),
        ("a\x1b[99;99Xb\x1b[200~p\tq\rr\x1b[Ds\x1b[201~c\n", "abp q\nr[Dsc"), ("w" * 5000 + "\n", "w" * 5000),
        ("\u6f22" * 60 + "\x1b[D" * 59 + "x\n", "\u6f22x" + "\u6f22" * 59), ("del\x02\x02\x02\x04\n", "el"))

    def test_keys_of_the_line_editor(self):
        d, p = self.start(chunked(*lines(said("ok"), CHAT_DONE)))
        for keys, _ in self.KEYS:
            p.type(keys)
            p.until("ok")
            p.until(">>> ")
        p.type("\x04")
        self.assertEqual(p.wait(), 0)
        self.assertEqual([r["body"]["messages"][-1]["content"] for r in d.requests[1:]], [text for _, text in self.KEYS])

    def test_a_large_paste_is_one_message(self):
        text = "".join(f"line {i} of what was pasted\n" for i in range(20000)).strip()
        d, p = self.start(chunked(*lines(said("ok"), CHAT_DONE)))
        feeder = threading.Thread(target=p.type_all, args=("\x1b[200~" + text + "\x1b[201~\n",))
        feeder.start()
        p.until("\x1b[?2004l", 60 * SLOW)
        p.until("ok")
        feeder.join()
        p.type("\x04")
        self.assertEqual(p.wait(), 0)
        self.assertEqual(d.requests[1]["body"]["messages"][0]["content"], text)

    def test_where_the_terminal_is_dumb_lines_are_read_as_they_come(self):
        self.env["TERM"] = "dumb"
        d, p = self.start(chunked(*lines(said("ok"), CHAT_DONE)))
        p.type("plain\n")
        p.until("ok")
        p.until(">>> ")
        p.type("\x04")
        self.assertEqual(p.wait(), 0)
        self.assertNotIn("\x1b", p.seen)
        self.assertEqual(d.requests[1]["body"]["messages"][0]["content"], "plain")

    def test_an_error_does_not_end_the_talk(self):
        d, p = self.start(plain({"error": "too many tokens"}, "400 Bad Request"))
        p.type("long\n")
        p.until("error: too many tokens")
        p.until(">>> ")
        d.script["/api/chat"] = chunked(*lines(said("ok"), CHAT_DONE))
        p.type("short\n")
        p.until("ok")
        p.type("\x04")
        self.assertEqual(p.wait(), 0)
        self.assertEqual([m["content"] for m in d.requests[-1]["body"]["messages"]], ["short"])

    def test_a_model_cannot_drive_the_terminal(self):
        _, p = self.start(chunked(*lines(said("a\u001b]0;owned\u0007b\u009bc\rd"), CHAT_DONE)))
        p.type("x\n")
        shown = p.until(">>> ")
        self.assertIn("a\ufffd]0;owned\ufffdb\ufffdc\ufffdd", shown.replace("\x1b[K", "").replace("\x1b[2m", "").replace("\x1b[0m", ""))
        p.type("\x04")
        p.wait()

    def test_a_model_that_is_not_there_ends_it(self):
        self.serve({"/api/generate": plain({"error": "model 'm' not found"}, "404 Not Found")})
        p = Pty(["run", "m"], self.env)
        self.assertEqual(p.wait(), 4)
        self.assertIn("model 'm' not found, and it cannot be pulled: no such route", p.seen)


if __name__ == "__main__":
    unittest.main()
