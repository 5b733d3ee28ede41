#!/usr/bin/env python3
"""What a request costs beside the arithmetic: a cold start, a warm token, the host's share of a step.

    latency.py MODEL.gguf [--rounds 5] [--device X] [--build DIR] [--output FILE] [--check]

cold      a daemon that has just been started, every cache warm (files, pipelines, the driver's shaders, which
          a first round fills): from its start to the first token of /api/generate; its resident memory before
          that, what of the time was the load, and how long a plain read and copy of the file takes
warm      /api/generate of one token on a loaded model whose prompt is known: the round trip less the
          engine's own step (/metrics), and for comparison that of /healthz
overhead  a decode step less its time on the device, greedy and with the default sampler, and the blocks of
          heap that a step leaves

All over the Unix socket; medians of --rounds (cold) and of --repeat (warm). --check: exit status 1 where a
target is missed. Close other programs first."""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "latency"

# figure, unit, at most
TARGETS = [
    ("first_token_ms", 1500),
    ("load_per_copy", 4),
    ("resident_mib", 12),
    ("warm_over_step_ms", 1),
    ("overhead_greedy_ms", 0.2),
    ("overhead_sampled_ms", 0.4),
]


class Connection(http.client.HTTPConnection):
    """Kept open, over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=600)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(600)
        self.sock.connect(self.path)


class Daemon:
    def __init__(self, args, folder):
        self.socket = os.path.join(folder, "s")
        self.log = open(os.path.join(folder, "log"), "ab")
        env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        env["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
        command = [os.path.join(args.build, "hearthd"), "--home", os.path.join(folder, "home"), "--socket",
                   self.socket, "--listen", "off", "--offline", "--keep-alive", "-1"]
        if args.device:
            command += ["--device", args.device]
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=env)
        self.http = Connection(self.socket)
        while True:
            try:
                self.http.connect()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > self.began + 30:
                    raise SystemExit(f"hearthd did not start: see {self.log.name}")
                time.sleep(0.001)

    def ask(self, method, path, body=None):
        self.http.request(method, path, json.dumps(body) if body else None)
        reply = self.http.getresponse()
        data = reply.read()
        if reply.status != 200:
            raise SystemExit(f"{path}: {reply.status} {data.decode(errors='replace')}")
        return data

    def generate(self, prompt, n, **options):
        body = {"model": NAME, "prompt": prompt, "stream": False, "raw": True,
                "options": {"num_predict": n, "ignore_eos": True, **options}}
        return json.loads(self.ask("POST", "/api/generate", body))

    def metrics(self):
        rows = (line.split() for line in self.ask("GET", "/metrics").decode().splitlines() if line[0] != "#")
        return {name.removeprefix("hearth_"): float(value) for name, value in rows}

    def resident_mib(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS:"))

    def stop(self):
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()


def copy_ms(path):
    """A plain read of the file and a copy of what was read."""
    began = time.monotonic()
    with open(path, "rb", buffering=0) as f:
        data = bytearray(os.fstat(f.fileno()).st_size)
        f.readinto(data)
    bytes(data)
    return (time.monotonic() - began) * 1e3


def cold(args, folder):
    d = Daemon(args, folder)
    resident = d.resident_mib()
    got = d.generate("Once upon a time", 1, temperature=0)
    first = (time.monotonic() - d.began) * 1e3
    d.stop()
    copy = copy_ms(args.model)
    load = got["load_duration"] / 1e6
    return {"first_token_ms": first, "resident_mib": resident, "load_ms": load, "copy_ms": copy,
            "load_per_copy": load / copy}


def warm_once(d):
    before = d.metrics()
    began = time.monotonic()
    d.generate("Once upon a time", 1, temperature=0)
    trip = (time.monotonic() - began) * 1e3
    after = d.metrics()
    step = (after["step_seconds_total"] - before["step_seconds_total"]) * 1e3
    began = time.monotonic()
    d.ask("GET", "/healthz")
    return {"warm_trip_ms": trip, "warm_step_ms": step, "warm_over_step_ms": trip - step,
            "healthz_ms": (time.monotonic() - began) * 1e3}


def overhead(d, **options):
    before = d.metrics()
    d.generate("Once upon a time", 128, **options)
    after = d.metrics()
    steps = after["steps_total"] - before["steps_total"]
    host = sum(sign * (after[k] - before[k]) for k, sign in
               (("step_seconds_total", 1), ("step_device_seconds_total", -1)))
    return host / steps * 1e3, after["heap_blocks"] - before["heap_blocks"]


def warm(args, folder):
    d = Daemon(args, folder)
    d.generate("Once upon a time", 64, temperature=0)  # every program is recorded
    time.sleep(2)
    took = [warm_once(d) for _ in range(args.repeat)]
    out = {key: statistics.median(t[key] for t in took) for key in took[0]}
    for name, options in (("greedy", {"temperature": 0}), ("sampled", {})):
        pairs = [overhead(d, **options) for _ in range(3)]
        out[f"overhead_{name}_ms"] = statistics.median(p[0] for p in pairs)
        out[f"overhead_{name}_blocks"] = pairs[-1][1]
    d.stop()
    return out


def measure(args, folder):
    first = Daemon(args, folder)
    subprocess.run([os.path.join(args.build, "hearth"), "--host", "unix://" + first.socket, "import", args.model,
                    NAME], check=True, stdout=subprocess.DEVNULL)
    first.generate("Once upon a time", 8, temperature=0)
    time.sleep(2)
    first.stop()
    took = [cold(args, folder) for _ in range(args.rounds)]
    figures = {key: statistics.median(t[key] for t in took) for key in took[0]}
    figures.update(warm(args, folder))
    return {"figures": figures, "cold": took}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--device")
    parser.add_argument("--build", default=os.path.join(HERE, "..", "..", "build"))
    parser.add_argument("--output")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="hearth-latency-")
    try:
        report = measure(args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    missed = 0
    for key, value in report["figures"].items():
        most = next((m for name, m in TARGETS if name == key), None)
        missed += most is not None and value > most
        print(f"{key:24} {value:10.3f}" + (f"   at most {most:g}{'' if value <= most else ': MISSED'}" if most else ""))
    if args.output:
        with open(args.output, "w") as f:
            json.dump(report, f, indent=1)
    return 1 if args.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
