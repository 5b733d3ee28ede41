#!/usr/bin/env python3
"""What a GPU does: one JSON of device, driver and figures, for anyone to run and send.

  gpu_report.py BUILD [--model FILE.gguf] [--device X] [--tests JUNIT.xml] [--brief] [--output FILE]

Runs a daemon of its own on the best real GPU, or on --device (or $HEARTH_TEST_DEVICE). The JSON:

  date machine kernel version   when, on what, of which Hearth
  device driver software        as the daemon names them; software: a CPU
  plan        what a model compiles to here: the device's limits, launches, pipelines, bytes (of `model`)
  tests       [{name outcome seconds output}], of ctest's result (kernel judge, goldens, equal bits)
  model       the file measured; null: none was given, and bench and perplexity are empty
  bench       `hearth bench` at several prompt lengths and numbers of sequences
  perplexity  of a known text (the first 24,000 bytes of GPL-3), where it is there
  kernels     GMAC/s of every tensor type, and its time against Q4_0's

--brief: few and short measurements, for a test of this program. Exit: 0, or 1 when a measurement failed."""
import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "api"))
import hearthd  # noqa: E402
import tiny_gguf  # noqa: E402

TEXT = "/usr/share/common-licenses/GPL-3"
TEXT_BYTES = 24000
# prompt tokens, generated tokens, sequences at once
SHAPES = ((128, 64, 1), (512, 128, 1), (2048, 128, 1), (128, 64, 8), (128, 64, 32))
BRIEF = ((16, 8, 1), (16, 8, 4))


def run(build, daemon, *args):
    env = {**os.environ, "HEARTH_HOST": "unix://" + daemon.socket}
    got = subprocess.run([build + "/hearth", *args], capture_output=True, text=True, env=env, check=False)
    if got.returncode != 0:
        return {"error": got.stderr.strip(), "exit": got.returncode}
    return json.loads(got.stdout)


def perplexity(build, daemon, brief):
    if not os.path.exists(TEXT):
        return None
    path = daemon.home + "/text"
    with open(TEXT, "rb") as source, open(path, "wb") as target:
        target.write(source.read(TEXT_BYTES // 16 if brief else TEXT_BYTES))
    return run(build, daemon, "bench", "report", "--perplexity", path, "--json")


def bench(build, daemon, shape, brief):
    prompt, gen, parallel = map(str, shape)
    return run(build, daemon, "bench", "report", "--prompt", prompt, "--gen", gen, "--parallel", parallel,
               "--repeat", "1" if brief else "3", "--json")


def kernels(build, device, brief):
    command = [build + "/tests/check_kernels", "--bench", "--json"]
    command += (["--device", device] if device else []) + (["--only", "matmul_q4_0_f"] if brief else [])
    got = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(got.stdout)
    except ValueError:
        return [{"error": got.stderr.strip()[-500:], "exit": got.returncode}]


def plan(build, model, device):
    """The lines of --explain that are no launch."""
    command = [build + "/hearthd", "--explain", model] + (["--device", device] if device else [])
    got = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = got.stdout if got.returncode == 0 else got.stderr
    return [line for line in lines.splitlines() if line and not line.startswith(" ")]


def test_results(path):
    """Of ctest's JUnit file: an outcome is run (passed), fail or notrun (skipped, disabled)."""
    found = []
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        found.append({"name": case.get("name"), "outcome": case.get("status"), "seconds": float(case.get("time")),
                      "output": output.strip().splitlines()[-100:]})
    return found


def measure(build, model, real, device, brief):
    """model: what a daemon loads; real: worth measuring."""
    flags = ["--parallel", "4" if brief else "32"] + (["--device", device] if device else [])
    daemon = hearthd.Daemon(build + "/hearthd", *flags, listen="off").start()
    try:
        daemon.load("report", model)
        daemon.ok("/api/generate", {"model": "report", "stream": False}) # loads
        health = daemon.get("/healthz").json
        return {**{k: health.get(k) for k in ("device", "driver", "software")},
                "bench": [bench(build, daemon, s, brief) for s in (BRIEF if brief else SHAPES) if real],
                "perplexity": perplexity(build, daemon, brief) if real else None}
    finally:
        daemon.stop()


def report(build, args):
    with tempfile.TemporaryDirectory(prefix="hearth-report-") as files:
        model = args.model or files + "/tiny.gguf"
        if not args.model:
            tiny_gguf.write(model)
        version = subprocess.run([build + "/hearthd", "--version"], capture_output=True, text=True, check=False)
        return {"date": datetime.date.today().isoformat(), "machine": platform.machine(),
                "kernel": platform.release(), "version": version.stdout.strip(),
                "model": os.path.basename(args.model) or None, "plan": plan(build, model, args.device),
                "tests": test_results(args.tests) if args.tests else [],
                **measure(build, model, bool(args.model), args.device, args.brief),
                "kernels": kernels(build, args.device, args.brief)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--model", default=os.environ.get("HEARTH_TEST_MODEL", ""))
    parser.add_argument("--device", default=os.environ.get("HEARTH_TEST_DEVICE", ""))
    parser.add_argument("--tests")
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--output")
    args = parser.parse_args()
    made = report(os.path.abspath(args.build), args)
    text = json.dumps(made, indent=1)
    print(text)
    if args.output:
        with open(args.output, "w") as f:
            f.write(text + "\n")
    measured = made["bench"] + made["kernels"] + [made["perplexity"] or {}]
    sys.exit(any("error" in m for m in measured))


if __name__ == "__main__":
    main()
