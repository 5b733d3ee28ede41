#!/usr/bin/env python3
"""Hearth and llama.cpp on the same file and threads, in one run, alternating; prints ratios of medians.

    versus.py MODEL.gguf [--threads 2] [--rounds 5] [--device X] [--output FILE]

Each round measures both, in turns first: prefill of --prompt tokens, decoding of --gen tokens, and Hearth
with --parallel sessions at once. A figure is the median of --repeat repeats within the round; what is
compared are the medians over the rounds.

The peer is `llama-bench` (--llama-bench, else on the PATH; with `llama-batched-bench` beside it also at
--parallel sequences), else npm's node-llama-cpp (--node: the folder whose node_modules holds it, see
README.md). Its decoding starts from an empty context, Hearth's after the prompt: what favours anybody
favours the peer. --peer-vulkan measures llama.cpp's Vulkan code once.

Hearth is --build's `hearthd`, started for this run with a store and a socket of its own, and `hearth bench`.
Both are held to the first --threads of the CPUs that this process may use; LP_NUM_THREADS tells
Mesa's software Vulkan the same. One unmeasured run of each comes first.
"""

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import platform
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "versus"  # the model's name in the private store
FIGURES = ("prefill", "decode", "decode_parallel")
DISTURBED = 0.1  # CPUs that others may use during a round before it is said

# What issue 3 asks for on a software device: figure, "hearth" or "peer" to divide by, its figure, at least.
TARGETS = [
    ("prefill", "peer", "prefill", 0.6),
    ("decode", "peer", "decode", 0.5),
    ("decode_parallel", "hearth", "decode", 1.8),
    ("decode_parallel", "peer", "decode", 0.9),
]


class Fail(Exception):
    """A sentence for the user."""


def say(line):
    print(line, file=sys.stderr, flush=True)


def run(command, env=None, timeout=900):
    """The standard output of a command; its standard error is shown where it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", env=env, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Fail(str(error)) from error
    if done.returncode:
        raise Fail(f"{shlex.join(command)} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def parse_json(command, text):
    try:
        return json.loads(text)
    except ValueError as error:
        raise Fail(f"{shlex.join(command)} did not print JSON: {text[:400]!r}") from error


# ---------------------------------------------------------------- the peers


class LlamaBench:
    """llama.cpp's own bench."""

    def __init__(self, path, args):
        self.args = args
        self.path = path
        beside = os.path.join(os.path.dirname(path), "llama-batched-bench")
        self.batched = beside if os.access(beside, os.X_OK) else None
        self.version = {}

    def measure(self):
        args = self.args
        command = [self.path, "-m", args.model, "-t", str(args.threads), "-p", str(args.prompt), "-n",
                   str(args.gen), "-r", str(args.repeat), "-o", "json", *shlex.split(args.peer_args)]
        rows = parse_json(command, run(command))
        self.version = {"peer": "llama-bench", "llama_cpp": rows[0]["build_commit"],
                        "build": rows[0]["build_number"], "backends": rows[0]["backends"],
                        "threads": rows[0]["n_threads"]}
        speeds = {"prefill" if row["n_prompt"] else "decode": statistics.median(row["samples_ts"])
                  for row in rows}
        if self.batched and args.parallel > 1:
            speeds["decode_parallel"] = self._measure_parallel()
        return speeds

    def _measure_parallel(self):
        args = self.args
        context = args.parallel * (args.prompt + args.gen)
        command = [self.batched, "-m", args.model, "-t", str(args.threads), "-c", str(context), "-npp",
                   str(args.prompt), "-ntg", str(args.gen), "-npl", str(args.parallel),
                   "--output-format", "jsonl", *shlex.split(args.peer_args)]
        lines = [line for line in run(command).splitlines() if line.startswith("{")]
        if not lines:
            raise Fail(f"{shlex.join(command)} printed no figures")
        return parse_json(command, lines[-1])["speed_tg"]


class NodeLlama:
    """llama.cpp as npm's node-llama-cpp ships it, driven by peer_node.mjs."""

    def __init__(self, folder, args, gpu="false"):
        self.args = args
        self.folder = folder
        self.gpu = gpu
        self.version = {}

    def measure(self):
        args = self.args
        command = ["node", os.path.join(HERE, "peer_node.mjs"), args.model, "--package", self.folder,
                   "--threads", str(args.threads), "--prompt", str(args.prompt), "--gen", str(args.gen),
                   "--repeat", str(args.repeat), "--gpu", self.gpu]
        env = dict(os.environ, NODE_LLAMA_CPP_SKIP_DOWNLOAD="true")
        if self.gpu == "vulkan":
            # Named, it is taken though it be a software device.
            env.setdefault("GGML_VK_VISIBLE_DEVICES", "0")
        got = parse_json(command, run(command, env, timeout=3600))
        self.version = {key: got[key] for key in ("peer", "version", "llama_cpp", "device", "threads")}
        return {"prefill": statistics.median(got["prefill_tokens_per_s"]),
                "decode": statistics.median(got["decode_tokens_per_s"])}


def choose_peer(args):
    bench = args.llama_bench or shutil.which("llama-bench")
    if bench:
        return LlamaBench(os.path.abspath(bench), args)
    if args.node:
        return NodeLlama(args.node, args)
    raise Fail("no llama-bench on the PATH: name it with --llama-bench, or a folder with "
               "node-llama-cpp with --node")


# ---------------------------------------------------------------- Hearth


class Hearth:
    """A daemon of our own for this run, and `hearth bench` against it."""

    def __init__(self, args, folder):
        self.args = args
        self.socket = os.path.join(folder, "s")
        self.log = os.path.join(folder, "log")
        self.command = os.path.join(args.build, "hearth")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        self.env["LP_NUM_THREADS"] = str(args.threads)
        self.version = {}
        daemon = [os.path.join(args.build, "hearthd"), "--home", folder, "--socket", self.socket,
                  "--listen", "off", "--offline", "--keep-alive", "-1"]
        if args.parallel > 1:
            daemon += ["--parallel", str(args.parallel)]
        if args.device:
            daemon += ["--device", args.device]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(daemon, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.env)

    def start(self):
        """Waits until it answers, then gives it the model's file."""
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Fail(f"hearthd did not start:\n{self.last_log()}")
            time.sleep(0.02)
        self.ask("import", self.args.model, NAME)
        self.version = self.ask("version", "--json")

    def ask(self, *words):
        """What `hearth` answers, parsed where it was asked for JSON."""
        command = [self.command, "--host", "unix://" + self.socket, *words]
        text = run(command, self.env)
        return parse_json(command, text) if "--json" in words else text

    def _answers(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(self.socket)
            except OSError:
                return False
        return True

    def last_log(self):
        with open(self.log, errors="replace") as log:
            return log.read()[-2000:]

    def bench(self, parallel):
        args = self.args
        got = self.ask("bench", NAME, "--json", "--prompt", str(args.prompt), "--gen", str(args.gen),
                       "--repeat", str(args.repeat), "--parallel", str(parallel))
        asked = {"prompt_tokens": args.prompt, "gen_tokens": args.gen, "parallel": parallel}
        for key, value in asked.items():
            if got.get(key) != value:
                raise Fail(f"hearth bench: {key} is {got.get(key)}, {value} was asked")
        return got

    def measure(self):
        one = self.bench(1)
        self.version.update(device=one["device"], driver=one["driver"])
        speeds = {"prefill": one["prefill_tokens_per_s"], "decode": one["decode_tokens_per_s"],
                  "ttft_ms": one["ttft_ms"], "load_ms": one["load_ms"], "peak_bytes": one["peak_bytes"]}
        if self.args.parallel > 1:
            speeds["decode_parallel"] = self.bench(self.args.parallel)["decode_tokens_per_s"]
        return speeds

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def started(args):
    """A running Hearth, or None with --peer-only."""
    if args.peer_only:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="hearth-versus-") as folder:
        hearth = Hearth(args, folder)
        try:
            hearth.start()
            yield hearth
        finally:
            hearth.stop()


# ---------------------------------------------------------------- what it ran on


def read_lines(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def after_colon(lines, key):
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), None)


def machine():
    cpu = read_lines("/proc/cpuinfo")
    flags = (after_colon(cpu, "flags") or after_colon(cpu, "Features") or "").split()
    telling = ("avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "asimddp", "i8mm", "sve")
    system = dict(line.split("=", 1) for line in read_lines("/etc/os-release") if "=" in line)
    return {
        "cpu": after_colon(cpu, "model name") or platform.processor() or platform.machine(),
        "family_model": [after_colon(cpu, "cpu family"), after_colon(cpu, "model")],
        "simd": [flag for flag in telling if flag in flags],
        "cpus": os.cpu_count(),
        "cpus_used": sorted(os.sched_getaffinity(0)),
        "memory": after_colon(read_lines("/proc/meminfo"), "MemTotal"),
        "kernel": platform.release(),
        "system": system.get("PRETTY_NAME", "").strip('"'),
    }


def model_file(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"name": os.path.basename(path), "bytes": os.path.getsize(path), "sha256": digest.hexdigest()}


def source_version():
    """The commit of this tree and whether it has changes, where there is git."""
    try:
        text = run(["git", "-C", HERE, "describe", "--always", "--dirty", "--abbrev=12"])
    except Fail:
        return None
    return text.strip()


def cpu_seconds(pids):
    """(used by all of the machine, used by this run), the latter with the children it waited for."""
    tick = os.sysconf("SC_CLK_TCK")
    fields = [int(word) for word in read_lines("/proc/stat")[0].split()[1:8]]
    own = sum(os.times()[:4])
    for pid in pids:
        stat = "".join(read_lines(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        own += sum(map(int, stat[11:13])) / tick if stat else 0
    return (sum(fields) - fields[3] - fields[4]) / tick, own


class Others:
    """How many CPUs the rest of the machine kept busy since this was made."""

    def __init__(self, pids):
        self.pids = pids
        self.began = time.monotonic()
        self.before = cpu_seconds(pids)

    def share(self):
        total, own = (b - a for a, b in zip(self.before, cpu_seconds(self.pids)))
        return max(0.0, total - own) / (time.monotonic() - self.began)


# ---------------------------------------------------------------- the run


def rounds(args, peer, hearth):
    """The speeds of every round, {who: {figure: [one number a round]}}, and the others' CPUs in each."""
    pids = [hearth.process.pid] if hearth else []
    sides = [("peer", peer)] + ([("hearth", hearth)] if hearth else [])
    for name, side in sides:
        say(f"warm-up: {name}")
        side.measure()
    taken, disturbed, again = {name: {} for name, _ in sides}, [], 2 * args.rounds
    while len(disturbed) < args.rounds:
        others = Others(pids)
        turn = sides if len(disturbed) % 2 == 0 else sides[::-1]
        speeds = [(name, side.measure()) for name, side in turn]
        share = round(others.share(), 2)
        say(f"round {len(disturbed) + 1}/{args.rounds}" + "".join(
            f"; {name}" + "".join(f" {figure} {got[figure]:.1f}" for figure in FIGURES if figure in got)
            for name, got in speeds) + f"; others {share} cpu")
        if args.undisturbed and share > DISTURBED and again > 0:
            again -= 1
            continue
        disturbed.append(share)
        for name, got in speeds:
            for figure, value in got.items():
                taken[name].setdefault(figure, []).append(value)
    if max(disturbed) > DISTURBED:
        say("warning: others used the CPU during the rounds; llama.cpp's threads, which wait by spinning, "
            "suffer more from that than Hearth")
    return taken, disturbed


def summary(taken):
    return {who: {figure: {"median": statistics.median(values), "min": min(values),
                           "max": max(values), "rounds": values}
                  for figure, values in figures.items()}
            for who, figures in taken.items()}


def compare(figures):
    """One row a target: the ratio of medians (and the median of the rounds' ratios, which a machine
    that grows slower or faster during the run moves less), what was asked and whether it is met."""
    rows = []
    for figure, who, over, least in TARGETS:
        top = figures.get("hearth", {}).get(figure)
        bottom = figures.get(who, {}).get(over)
        if top and bottom:
            ratio = top["median"] / bottom["median"]
            paired = statistics.median(a / b for a, b in zip(top["rounds"], bottom["rounds"]))
            rows.append({"figure": figure, "over": f"{who} {over}", "ratio": ratio, "paired": paired,
                         "asked": least, "met": ratio >= least})
    return rows


def print_table(report):
    place = report["machine"]
    print(f"{place['cpu']}, {len(place['cpus_used'])} of {place['cpus']} cpus, "
          f"load {report['load_before']:.2f} before; {report['model']['name']}")
    print(f"peer: {report['peer']}")
    if "hearth" in report:
        print(f"hearth: {report['hearth']}")
    print(f"\n{'tokens/s, median (min..max)':28}{'peer':>26}{'hearth':>26}{'hearth/peer':>13}")
    for figure in FIGURES:
        cells, medians = [], []
        for who in ("peer", "hearth"):
            taken = report["figures"].get(who, {}).get(figure)
            cells.append(f"{taken['median']:.1f} ({taken['min']:.1f}..{taken['max']:.1f})" if taken else "-")
            medians.append(taken["median"] if taken else None)
        ratio = f"{medians[1] / medians[0]:.2f}" if all(medians) else "-"
        print(f"{report['labels'][figure]:28}{cells[0]:>26}{cells[1]:>26}{ratio:>13}")
    for row in report["targets"]:
        print(f"{'met   ' if row['met'] else 'MISSED'} {row['figure']} / {row['over']}: "
              f"{row['ratio']:.2f} (round by round {row['paired']:.2f}), asked {row['asked']}")
    vulkan = report.get("peer_vulkan")
    if vulkan:
        for figure, value in vulkan["figures"].items():
            ratio = vulkan["ratios"].get(figure)
            print(f"llama.cpp's Vulkan on {vulkan['version']['device']}, {figure}: {value:.2f} tokens/s"
                  + (f"; Hearth is {ratio:.1f} times that" if ratio else ""))


def vulkan_once(args, figures):
    """llama.cpp's Vulkan code, one repeat of few tokens: on a software device it takes minutes."""
    if not args.node:
        raise Fail("--peer-vulkan needs --node")
    few = argparse.Namespace(**{**vars(args), "repeat": 1, "gen": args.vulkan_gen})
    say("llama.cpp's Vulkan code, once")
    peer = NodeLlama(args.node, few, "vulkan")
    speeds = peer.measure()
    ours = figures.get("hearth", {})
    return {"version": peer.version, "gen_tokens": few.gen, "figures": speeds,
            "ratios": {name: ours[name]["median"] / value for name, value in speeds.items() if name in ours}}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--parallel", type=int, default=8, help="sessions together; 1: leave that out")
    parser.add_argument("--device", help="hearthd's --device")
    parser.add_argument("--build", default=os.path.join(HERE, "..", "..", "build"))
    parser.add_argument("--llama-bench", metavar="BIN")
    parser.add_argument("--peer-args", default="", help="more arguments for llama-bench, as one string")
    parser.add_argument("--node", metavar="DIR", help="the folder whose node_modules holds node-llama-cpp")
    parser.add_argument("--peer-vulkan", action="store_true", help="also llama.cpp's Vulkan code, once")
    parser.add_argument("--vulkan-gen", type=int, default=16, help="tokens to decode there")
    parser.add_argument("--undisturbed", action="store_true",
                        help="measure a round again, at most twice --rounds of them, where others used the CPU")
    parser.add_argument("--peer-only", action="store_true", help="measure the peer alone")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--output", help="write the report there, as JSON")
    args = parser.parse_args()
    args.model = os.path.abspath(args.model)
    if min(args.threads, args.rounds, args.repeat, args.prompt, args.gen, args.parallel) < 1:
        parser.error("counts start at 1")
    return args


def measure(args):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    report = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
              "machine": machine(), "load_before": os.getloadavg()[0], "model": model_file(args.model),
              "settings": {key: getattr(args, key)
                           for key in ("threads", "rounds", "repeat", "prompt", "gen", "parallel")},
              "labels": {"prefill": f"prefill {args.prompt}", "decode": f"decode {args.gen}",
                         "decode_parallel": f"decode {args.gen}, {args.parallel} together"}}
    if report["load_before"] > 0.5:
        say(f"warning: the machine is busy (load {report['load_before']:.2f}); figures will be low and noisy")
    peer = choose_peer(args)
    with started(args) as hearth:
        taken, report["others_cpus"] = rounds(args, peer, hearth)
        report["figures"] = summary(taken)
        report["peer"] = peer.version
        if hearth:
            report["hearth"] = {**hearth.version, "source": source_version()}
    report["targets"] = compare(report["figures"])
    if args.peer_vulkan:
        report["peer_vulkan"] = vulkan_once(args, report["figures"])
    return report


def main():
    args = parse()
    try:
        report = measure(args)
    except (Fail, OSError) as error:
        say(f"versus.py: {error}")
        return 2
    print_table(report)
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")
    return 1 if args.check and not all(row["met"] for row in report["targets"]) else 0


if __name__ == "__main__":
    sys.exit(main())
