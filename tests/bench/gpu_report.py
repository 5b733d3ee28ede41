#!/usr/bin/env python3
"""What a GPU does: one JSON of device, driver and figures, for anyone to run and send.

  gpu_report.py BUILD [--model FILE.gguf] [--device X] [--output FILE]

Runs a daemon of its own: `hearth bench` at several prompt lengths and numbers of sequences, perplexity
of a known text where it is there, and the kernels' speed by tensor type."""
import argparse
import datetime
import json
import os
import platform
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "api"))
import hearthd  # noqa: E402

TEXT = "/usr/share/common-licenses/GPL-3"
TEXT_BYTES = 24000
# prompt tokens, generated tokens, sequences at once
SHAPES = ((128, 64, 1), (512, 128, 1), (2048, 128, 1), (128, 64, 8), (128, 64, 32))


def run(build, daemon, *args):
    env = {**os.environ, "HEARTH_HOST": "unix://" + daemon.socket}
    got = subprocess.run([build + "/hearth", *args], capture_output=True, text=True, env=env, check=False)
    if got.returncode != 0:
        return {"error": got.stderr.strip(), "exit": got.returncode}
    return json.loads(got.stdout)


def perplexity(build, daemon):
    if not os.path.exists(TEXT):
        return None
    path = daemon.home + "/text"
    with open(TEXT, "rb") as source, open(path, "wb") as target:
        target.write(source.read(TEXT_BYTES))
    return run(build, daemon, "bench", "report", "--perplexity", path, "--json")


def kernels(build, device):
    command = [build + "/tests/check_kernels", "--bench", "--json"] + (["--device", device] if device else [])
    got = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(got.stdout)
    except ValueError:
        return {"error": got.stderr.strip()[-500:], "exit": got.returncode}


def model_report(build, model, device):
    flags = ["--parallel", "32"] + (["--device", device] if device else [])
    daemon = hearthd.Daemon(build + "/hearthd", *flags, listen="off").start()
    try:
        daemon.load("report", model)
        bench = [run(build, daemon, "bench", "report", "--prompt", str(p), "--gen", str(g), "--parallel", str(n),
                     "--repeat", "3", "--json") for p, g, n in SHAPES]
        return {"perplexity": perplexity(build, daemon), "bench": bench, "health": daemon.get("/healthz").json}
    finally:
        daemon.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--model", default=os.environ.get("HEARTH_TEST_MODEL", ""))
    parser.add_argument("--device", default="")
    parser.add_argument("--output")
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    report = {"date": datetime.date.today().isoformat(), "machine": platform.machine(), "kernel": platform.release(),
              "version": subprocess.run([build + "/hearthd", "--version"], capture_output=True, text=True).stdout.strip()}
    if args.model:
        measured = model_report(build, args.model, args.device)
        health = measured.pop("health")
        report.update({k: health.get(k) for k in ("device", "driver", "software")}, model=os.path.basename(args.model), **measured)
    report["kernels"] = kernels(build, args.device)
    text = json.dumps(report, indent=1)
    print(text)
    if args.output:
        with open(args.output, "w") as f:
            f.write(text + "\n")
    failed = [b for b in report.get("bench", []) + [report.get("perplexity") or {}] if "error" in b]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
