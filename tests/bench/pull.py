#!/usr/bin/env python3
"""How fast the store downloads, as ratios, from an nginx on this machine over TLS:

  speed    download (with hashes and sync) against `curl -o F && sha256sum F && sync F`, in turns: median
           of the ratios of time; at most 1.0
  line     a line of 250 MB/s (tc's token bucket on the loopback of a network namespace): the part of it
           that is reached, from the start of the process to its end; at least 0.98
  memory   the most private memory during it, above what the process had before; at most 16 MiB
  waste    bytes fetched twice after a SIGKILL in the middle, less those that were still in the kernel;
           at most 1 MiB

  pull.py FETCH [--mib 512] [--line 250000000] [--rounds 5] [--out FILE] [--only speed,line,memory,waste]
"""
import argparse
import hashlib
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "store"))
import net  # noqa: E402

CONNECTIONS = 8


class Bench:
    def __init__(self, args, where):
        self.fetch, self.where, self.home = os.path.abspath(args.fetch), where, where / "home"
        self.size, self.rate = args.mib << 20, args.line
        (where / "www").mkdir()
        self.digest = hashlib.sha256()
        with open(where / "www/blob", "wb") as f:
            for _ in range(args.mib):
                piece = os.urandom(1 << 20)
                self.digest.update(piece)
                f.write(piece)
        self.digest = self.digest.hexdigest()
        self.ca = net.Ca(where / "ca")
        pair = self.ca.issue("here", ips=["127.0.0.1"])
        self.port = net.free_port()
        conf = (f"server {{ listen 127.0.0.1:{self.port} ssl; ssl_certificate {pair[0]}; ssl_certificate_key {pair[1]};"
                f" root {where}/www; location /line/ {{ limit_rate {args.line // CONNECTIONS}; alias {where}/www/; }} }}")
        self.nginx = net.Nginx(where / "nginx", conf, [("127.0.0.1", self.port)])
        self.base = f"https://127.0.0.1:{self.port}"

    def words(self, path):
        return [self.fetch, "blob", self.base + path, "--ca", str(self.ca.file), "--home", str(self.home), "--digest",
                self.digest, "--size", str(self.size), "--connections", str(CONNECTIONS), "--keep"]

    def fresh(self):
        shutil.rmtree(self.home, ignore_errors=True)
        subprocess.run([self.fetch, "blob", "http://127.0.0.1:1/x", "--home", self.home], capture_output=True)  # the store itself
        (self.where / "plain").unlink(missing_ok=True)
        os.sync()

    def ours(self, path="/blob"):
        self.fresh()
        start = time.monotonic()
        done = subprocess.run(self.words(path), capture_output=True, text=True)
        took = time.monotonic() - start
        got = json.loads(done.stdout.splitlines()[-1])
        if got["code"] != "ok" or got["fetched"] != self.size:
            raise RuntimeError(got["error"] or done.stderr)
        return took

    def theirs(self):
        self.fresh()
        f = self.where / "plain"
        start = time.monotonic()
        subprocess.run(["sh", "-c", f"curl -s --cacert {self.ca.file} -o {f} {self.base}/blob && sha256sum {f} && sync {f}"],
                       check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - start

    def speed(self, rounds):
        self.ours(), self.theirs()  # the server's file is in memory from now on
        pairs = [(self.ours(), self.theirs()) for _ in range(rounds)]
        return {"ratio": statistics.median(a / b for a, b in pairs), "ours_s": [a for a, _ in pairs],
                "theirs_s": [b for _, b in pairs]}

    def curls(self, n):
        """curl alone, in n ranges at once: what a line gives to whoever neither hashes nor syncs"""
        self.fresh()
        step = -(-self.size // n)
        words = [["curl", "-s", "--cacert", str(self.ca.file), "-o", str(self.where / f"plain{i}"), "-r",
                  f"{i * step}-{min(self.size, (i + 1) * step) - 1}", self.base + "/blob"] for i in range(n)]
        start = time.monotonic()
        for process in [subprocess.Popen(w) for w in words]:
            if process.wait():
                raise RuntimeError("curl failed")
        took = time.monotonic() - start
        for i in range(n):
            (self.where / f"plain{i}").unlink()
        return took

    def line(self, rounds):
        subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", f"{self.rate * 8}bit", "burst", "512k",
                        "latency", "100ms"], check=True)
        try:
            ways = {"ours": self.ours, "curl_hash_sync": self.theirs, "curl": lambda: self.curls(1),
                    "curl_8": lambda: self.curls(CONNECTIONS)}
            rates, cpu = {name: [] for name in ways}, {name: [] for name in ways}
            for _ in range(rounds):
                for name, way in ways.items():
                    before = resource.getrusage(resource.RUSAGE_CHILDREN)
                    rates[name].append(round(self.size / way()))
                    after = resource.getrusage(resource.RUSAGE_CHILDREN)
                    cpu[name].append([round(after.ru_utime - before.ru_utime, 2), round(after.ru_stime - before.ru_stime, 2)])
        finally:
            subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
        parts = {name: statistics.median(r) / self.rate for name, r in rates.items()}
        return {"part": parts["ours"], "line_bytes_s": self.rate, "parts": parts, "bytes_s": rates,
                "user_and_system_s": cpu, "of_curl_8": statistics.median(a / b for a, b in zip(rates["ours"], rates["curl_8"]))}

    def memory(self, _):
        self.fresh()
        process = subprocess.Popen(self.words("/blob"), stdout=subprocess.PIPE, text=True)
        most = 0
        while process.poll() is None:
            for row in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if row.startswith("RssAnon:"):
                    most = max(most, int(row.split()[1]))
            time.sleep(0.002)
        idle = json.loads(process.stdout.read().splitlines()[-1])["idle_kib"]
        return {"idle_kib": idle, "most_kib": most, "above_mib": (most - idle) / 1024}

    def waste(self, rounds):
        found = []
        for i in range(rounds):
            self.fresh()
            self.nginx.asked.write_text("")
            process = subprocess.Popen(self.words("/line/blob"), stdout=subprocess.DEVNULL)
            time.sleep(0.2 + 0.8 * self.size / self.rate * i / rounds)
            unread = net.kill_between(process, self.port)
            process.wait()
            got = json.loads(subprocess.run(self.words("/line/blob"), capture_output=True, text=True).stdout.splitlines()[-1])
            time.sleep(0.3)
            sent = sum(row[4] for row in self.nginx.log())
            found.append({"resumed": got["resumed"], "twice": sent - self.size - unread, "unread": unread})
        return {"most_bytes": max(f["twice"] for f in found), "rounds": found}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fetch")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--line", type=int, default=250_000_000, help="bytes a second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--dir", help="where the files lie (a folder on the disk to be measured)")
    parser.add_argument("--only", default="speed,line,memory,waste")
    args = parser.parse_args()
    net.own_network()
    net.need("nginx", "openssl", "curl", "tc")
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        bench = Bench(args, pathlib.Path(folder))
        with bench.nginx:
            result = {"bytes": bench.size, "processors": os.cpu_count()}
            for what in args.only.split(","):
                result[what] = getattr(bench, what)(args.rounds)
                print(what, json.dumps(result[what]))
    bounds = (("speed", "ratio", 1.0, 1), ("line", "part", 0.98, -1), ("memory", "above_mib", 16, 1), ("waste", "most_bytes", 1 << 20, 1))
    missed = [what for what, key, bound, sign in bounds if what in result and sign * result[what][key] > sign * bound]
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print("missed: " + ", ".join(missed) if missed else "all within bounds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
