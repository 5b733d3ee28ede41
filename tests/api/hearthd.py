"""A private daemon for a test: its own home and socket, gone with the test."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SLOW = float(os.environ.get("HEARTH_TEST_SLOW", "1"))


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout * SLOW)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def lines(self):
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]


class Daemon:
    """Daemon(program, flags...).start(); orders: what hearthd_fake is told (fake_runtime.c)."""
    def __init__(self, program, *flags, home=None, env=None, listen="127.0.0.1:0", orders=None):
        self.program, self.flags, self.listen = program, list(flags), listen
        self.own_home = home is None
        self.home = home or tempfile.mkdtemp(prefix="hearth-api-")
        self.socket = self.home + "/s"
        self.log_path = self.home + "/log"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        self.env["HEARTH_OFFLINE"] = "1"  # no test goes anywhere unless it means to
        self.env.update(env or {}, HEARTH_FAKE=self.home + "/orders")
        self.orders(**(orders or {}))
        self.process, self.port = None, None

    def orders(self, **orders):
        with open(self.home + "/orders", "w") as f:
            f.write("".join("%s %d\n" % item for item in orders.items()))

    def command(self):
        return [self.program, "--home", self.home, "--socket", self.socket, "--listen", self.listen] + self.flags

    def start(self, wait=True, **popen):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.env, **popen)
        if wait:
            self.wait_ready()
        return self

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def wait_ready(self):
        until = time.monotonic() + 20 * SLOW
        while "msg=ready" not in self.log():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError("the daemon did not start:\n" + self.log())
            time.sleep(0.01)
        for line in self.log().splitlines():
            if "address=127.0.0.1:" in line:
                self.port = int(line.rsplit(":", 1)[1])

    def connection(self, tcp=False):
        if tcp:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * SLOW)
        return UnixConnection(self.socket)

    def ask(self, method, path, body=None, tcp=False, headers=None):
        connection = self.connection(tcp)
        try:
            data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, body, **more):
        return self.ask("POST", path, body, **more)

    def ok(self, path, body):
        reply = self.post(path, body)
        assert reply.status == 200, (path, body, reply.status, reply.body)
        return reply.json

    def load(self, name, path, reference=True):
        return self.ok("/api/import", {"model": name, "path": path, "reference": reference})

    def rss(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))

    def stop(self, expect=0):
        """Ends it by SIGTERM and says how long that took."""
        if not os.path.exists(self.log_path):
            return 0  # stopped before
        began = time.monotonic()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        took = time.monotonic() - began
        code = self.process.returncode if self.process else expect
        log = self.log()
        if self.own_home:
            shutil.rmtree(self.home, ignore_errors=True)
        assert code == expect, "exit status %s, not %s:\n%s" % (code, expect, log[-4000:])
        return took


def stray(program):
    """True when the program is built with a sanitizer: then its memory says nothing."""
    with open(program, "rb") as f:
        data = f.read()
    return b"__asan_init" in data or b"__tsan_init" in data


if __name__ == "__main__":
    sys.exit(__doc__)
