#!/usr/bin/env python3
"""The C decoders of tensor_type.c against gguf.quants, bit for bit (the payload of a NaN excepted).

    python3 quants_oracle.py DECODE [BLOCKS]

DECODE is build/tests/decode. For each type that it lists: BLOCKS (default 20000) blocks of random
bytes, which give every quant and every scale, infinities and NaNs among them; then blocks whose
halves are set to each of a list of hostile values (zeros of both signs, subnormals, the largest,
infinities, NaN), with random, all-zero and all-one quants behind them. Exit 77: gguf or numpy are
not there.
"""
import itertools
import subprocess
import sys

try:
    import numpy as np
    from gguf import GGMLQuantizationType
    from gguf.constants import GGML_QUANT_SIZES
    from gguf.quants import dequantize
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

HOSTILE = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF,
           0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFE00, 0xFFFF]
HALVES = {                                             # where a block's halves are
    "F16": [0], "BF16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "F32": [0, 2],
}


def hostile_blocks(name, size, rng):
    places = HALVES[name]
    rows = []
    for values in itertools.product(HOSTILE, repeat=len(places)):
        for fill in (None, 0x00, 0xFF):
            block = rng.integers(0, 256, size, np.uint8) if fill is None else \
                np.full(size, fill, np.uint8)
            for at, value in zip(places, values):
                block[at:at + 2] = np.array([value], "<u2").view(np.uint8)
            rows.append(block)
    return np.stack(rows)


def check(tool, name, length, size, n, rng):
    kind = GGMLQuantizationType[name]
    if GGML_QUANT_SIZES[kind] != (length, size):
        return f"block is {length}/{size}, gguf has {GGML_QUANT_SIZES[kind]}"
    blocks = np.concatenate([rng.integers(0, 256, (n, size), np.uint8),
                             hostile_blocks(name, size, rng)])
    with np.errstate(all="ignore"):
        want = dequantize(blocks, kind).astype(np.float32).reshape(-1)
    run = subprocess.run([tool, name], input=blocks.tobytes(), stdout=subprocess.PIPE, check=True)
    got = np.frombuffer(run.stdout, "<f4")
    if got.shape != want.shape:
        return f"{got.size} floats came, not {want.size}"
    same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
    if not same.all():
        at = int(np.argmin(same))
        return (f"{np.count_nonzero(~same)} differ; block {at // length} weight {at % length}: "
                f"{got[at]!r}, gguf {want[at]!r}; {blocks[at // length].tobytes().hex()}")
    print(f"{name:5} {len(blocks):6} blocks, {got.size:8} weights equal, "
          f"{np.isnan(want).sum():7} NaN, {np.isinf(want).sum():7} infinite")
    return None


def main(args):
    if not args:
        print(__doc__)
        return 2
    n = int(args[1]) if len(args) > 1 else 20000
    rng = np.random.default_rng(20)
    listed = subprocess.run([args[0], "--list"], stdout=subprocess.PIPE, check=True, text=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    failed = 0
    for name, length, size in rows:
        problem = check(args[0], name, int(length), int(size), n, rng)
        if problem:
            failed += 1
            print(f"{name}: FAILED: {problem}")
    missing = set(HALVES) - {r[0] for r in rows}
    if missing:
        print(f"FAILED: no decoder for {', '.join(sorted(missing))}")
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
