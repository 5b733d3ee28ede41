#!/usr/bin/env python3
"""How fast `hearth verify` is beside `openssl dgst -sha256` on the same file (in the page cache).

  store_speed.py PATH-OF-HEARTH [MEGABYTES] [ROUNDS]

Prints both medians and their ratio; exit status 1 below 1.0. (A list of 1,000 models: unit_store prints it.)"""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "api"))
import hearthd  # noqa: E402

HEARTH = os.path.abspath(sys.argv[1])
MEGABYTES = int(sys.argv[2]) if len(sys.argv) > 2 else 512
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 5
sys.argv[1:] = [HEARTH]
from quantize_test import grow  # noqa: E402


def seconds(*command, env=None):
    t = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    return time.monotonic() - t


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/big.gguf"
        grow(path, MEGABYTES)
        daemon = hearthd.Daemon(HEARTH + "d", "--device", "ref").start()
        try:
            daemon.load("big", path)
            env = {**os.environ, "HEARTH_HOST": "unix://" + daemon.socket}
            ours, theirs = [], []
            for _ in range(ROUNDS):
                theirs.append(seconds("openssl", "dgst", "-sha256", path))
                ours.append(seconds(HEARTH, "verify", "big", env=env))
        finally:
            daemon.stop()
    a, b = statistics.median(theirs), statistics.median(ours)
    print(f"{MEGABYTES} MiB: openssl {a:.3f} s, hearth verify {b:.3f} s on {os.cpu_count()} cores, ratio {a / b:.2f}")
    return 0 if a >= b else 1


if __name__ == "__main__":
    sys.exit(main())
