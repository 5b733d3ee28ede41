#!/usr/bin/env python3
"""Quantising against the gguf package.

    python3 quantize_oracle.py QUANTIZE

QUANTIZE is build/tests/quantize. Three things are held:
  encoders  F16, BF16, Q8_0, Q4_0, Q5_0, Q5_1: the blocks are those of gguf.quants.quantize, bit for
            bit, of random weights and of hostile ones. K types: decoded by gguf.quants.dequantize
            they are as near to the weights as LLAMA says, or nearer.
  files     keys keep order and bytes, but for the two that must change; tensors decode to what went
            in; one thread and many give the same bytes; a set of shards gives the bytes of the whole.
  refusals  each with its sentence, and no crash.
Exit 77: gguf or numpy are not there.
"""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from gguf import GGMLQuantizationType as Type, GGUFReader, GGUFWriter
    from gguf.constants import GGML_QUANT_SIZES
    from gguf.quants import dequantize, quantize
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

EXACT = ["F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q5_1"]
# RMSE / standard deviation of llama.cpp's quantize_row_*_ref (commit d32676d77) on the fills below, and
# 2 % more is let pass.
LLAMA = {
    "Q4_K": {"normal": 0.07118, "laplace": 0.08449, "uniform": 0.05459, "heavy": 0.09220,
             "positive": 0.05831, "negative": 0.13727, "outliers": 0.09094,
             "large": 0.07129, "sparse": 0.05038, "steps": 0.00951},
    "Q5_K": {"normal": 0.03598, "laplace": 0.04277, "uniform": 0.02760, "heavy": 0.04667,
             "positive": 0.02884, "negative": 0.11671, "outliers": 0.04794,
             "large": 0.03613, "sparse": 0.03657, "steps": 0.01330},
    "Q6_K": {"normal": 0.01771, "laplace": 0.02163, "uniform": 0.01320, "heavy": 0.02550,
             "positive": 0.02629, "negative": 0.78113, "outliers": 0.03145,
             "large": 0.01776, "sparse": 0.00820, "steps": 0.00760},
}
FILES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"]
NEAR = {"F32": 0, "F16": 1e-3, "BF16": 4e-3, "Q8_0": 0.01, "Q6_K": 0.03, "Q5_K": 0.05, "Q5_1": 0.06,
        "Q5_0": 0.07, "Q4_K": 0.1, "Q4_0": 0.12}       # RMSE / standard deviation of normal weights
problems = []


def check(good, what):
    if not good:
        problems.append(what)
        print(f"FAILED: {what}")


def fills(n):
    rng = np.random.default_rng(5)
    wild = np.where(rng.random(n) < 0.003, 30, 1)
    rows = {
        "normal": rng.normal(0, 0.02, n), "laplace": rng.laplace(0, 0.02, n),
        "uniform": rng.uniform(-1, 1, n), "heavy": rng.standard_t(3, n) * 0.02,
        "positive": rng.uniform(0, 1, n), "negative": rng.normal(0, 0.01, n) - 1,
        "outliers": rng.normal(0, 0.02, n) * wild, "large": rng.normal(0, 5000, n),
        "sparse": np.where(rng.random(n) < 0.1, rng.normal(0, 0.02, n), 0.0),
        "steps": rng.integers(-8, 8, n) * 0.125,
    }
    return {name: x.astype("<f4") for name, x in rows.items()}


def hostile():
    """Blocks of 256: zeros of both signs, one weight alone, equal ones, ties, the largest and the
    smallest that a half holds, floats below that."""
    rng = np.random.default_rng(6)
    rows = [np.zeros(256), -np.zeros(256), np.full(256, 1.0), np.full(256, -1.0),
            np.full(256, 65504.0), np.full(256, -65504.0), np.full(256, 6e-8), np.full(256, 1e-12),
            np.full(256, 1e-30), np.full(256, -1e-30), np.full(256, 2.0**-14), np.full(256, 2.0**-15),
            np.arange(256) - 128.0, np.arange(256) * 0.5 - 64, np.tile([1.0, -1.0], 128),
            np.tile([8.0, -8.0, 7.5, -7.5, 0.5, -0.5, 0, 4], 32),
            np.linspace(-65504, 65504, 256), 1 + np.arange(256) * 2.0**-11,
            2049 + np.arange(256.0) * 2, 2.0**-25 * np.arange(256), 2.0**-24 * np.arange(256)]
    for at in (0, 31, 32, 255):
        for value in (1.0, -1.0, 65504.0, 1e-7):
            row = np.zeros(256)
            row[at] = value
            rows.append(row)
    rows += [10.0**rng.uniform(-9, 4, 256) * rng.choice([-1, 1], 256) for _ in range(200)]
    rows += [rng.integers(-3, 4, 256) * 2.0**rng.integers(-20, 10) for _ in range(50)]
    return np.concatenate(rows).astype("<f4")


def encode(tool, name, x):
    run = subprocess.run([tool, "--encode", name], input=x.tobytes(), stdout=subprocess.PIPE, check=True)
    return np.frombuffer(run.stdout, np.uint8)


def check_exact(tool, name, x, what):
    with np.errstate(all="ignore"):
        want = quantize(x.reshape(-1, 256), Type[name]).view(np.uint8).reshape(-1)
    got = encode(tool, name, x)
    length, size = GGML_QUANT_SIZES[Type[name]]
    if got.size != want.size:
        return check(False, f"{name} {what}: {got.size} bytes, not {want.size}")
    same = got == want
    at = int(np.argmin(same)) // size
    return check(same.all(), f"{name} {what}: {np.count_nonzero(~same)} bytes differ, first in block {at} "
                             f"of {x[at * length:(at + 1) * length]}")


def distance(tool, name, x):
    got = encode(tool, name, x).reshape(-1, GGML_QUANT_SIZES[Type[name]][1])
    y = dequantize(got, Type[name]).reshape(-1).astype(np.float64)
    return np.sqrt(np.mean((y - x)**2)) / np.std(x.astype(np.float64))


def check_encoders(tool):
    weights = fills(256 * 400)
    for name in EXACT:
        for what, x in weights.items():
            check_exact(tool, name, x, what)
        check_exact(tool, name, hostile(), "hostile")
        print(f"{name:5} equal on {len(weights)} fills and {hostile().size // 256} hostile blocks")
    for name, bounds in LLAMA.items():
        check(bounds.keys() == weights.keys(), f"{name}: a bound for each fill")
        worst = 0
        for what, bound in bounds.items():
            d = distance(tool, name, weights[what])
            check(d <= bound * 1.02, f"{name} {what}: RMSE {d:.5f}, llama.cpp's is {bound:.5f}")
            worst = max(worst, d / bound)
        y = dequantize(encode(tool, name, hostile()).reshape(-1, GGML_QUANT_SIZES[Type[name]][1]),
                       Type[name])
        check(np.isfinite(y).all(), f"{name}: hostile blocks decode to numbers")
        print(f"{name:5} RMSE at most {worst:.4f} of llama.cpp's")


# ---- files ---------------------------------------------------------------------------------------

def write_model(path, dtype, extra=None, change=None, named=True):
    """Two layers; rows of 256, of 96 (no K type) and of 40 (no block type at all)."""
    rng = np.random.default_rng(7)
    w = GGUFWriter(path, "llama")
    w.add_string("general.name", "a \u2603 name")
    if named:
        w.add_file_type(1)
    w.add_block_count(2)
    w.add_array("tokenizer.ggml.tokens", ["a", "", "\u00e9\u00e9", "d" * 300])
    w.add_array("tokenizer.ggml.scores", [0.5, 1.5, -2.0])
    w.add_bool("x.flag", True)
    w.add_float64("x.double", 1.25)
    w.add_uint64("x.wide", 2**63)
    w.add_array("x.numbers", [1, 2, 3])
    tensors = {"token_embd.weight": (64, 256), "blk.0.attn_norm.weight": (256,),
               "blk.0.attn_v.weight": (33, 256), "blk.0.ffn_down.weight": (256, 96),
               "blk.1.attn_v.weight": (64, 256), "blk.1.ffn_up.weight": (24, 40),
               "blk.1.ffn_gate_inp.weight": (4, 256), "blk.1.ffn_gate_exps.weight": (3, 16, 512),
               "blk.1.attn_q.bias": (2, 256), "output_norm.weight": (256,)}
    values = {}
    for name, shape in tensors.items():
        if Type[dtype] not in (Type.F32, Type.F16, Type.BF16) and shape[-1] % 32:
            continue
        x = rng.normal(0, 0.05, shape).astype(np.float32)
        if change and name == change[0]:
            x.reshape(-1)[-3] = change[1]
        if dtype == "F32" or len(shape) == 1:
            w.add_tensor(name, x)
        elif dtype == "F16":
            with np.errstate(over="ignore"):
                w.add_tensor(name, x.astype(np.float16))
        else:
            w.add_tensor(name, quantize(x, Type[dtype]), raw_dtype=Type[dtype])
        values[name] = x
    if extra:
        w.add_tensor(*extra[:2], raw_dtype=extra[2])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return values


def run(tool, *args):
    r = subprocess.run([tool, *map(str, args)], stderr=subprocess.PIPE, text=True, check=False)
    check(r.returncode in (0, 1, 2), f"{args}: status {r.returncode}: {r.stderr}")
    return r.returncode, r.stderr


def key_bytes(reader):
    return {f.name: b"".join(p.tobytes() for p in f.parts) for f in reader.fields.values()
            if not f.name.startswith("GGUF.")}


def check_file(tool, folder, dtype, target):
    source, out = f"{folder}/{dtype}.gguf", f"{folder}/out.gguf"
    code, said = run(tool, source, out, target)
    check(code == 0, f"{dtype} to {target}: {said}")
    if code:
        return
    a, b = GGUFReader(source), GGUFReader(out)
    before, after = key_bytes(a), key_bytes(b)
    check(list(before) + ["general.quantization_version"] == list(after), f"{target}: keys in order")
    check(all(before[k] == after[k] for k in before if k != "general.file_type"), 
          f"{target}: keys as they were")
    check(int(b.fields["general.quantization_version"].parts[-1][0]) == 2, f"{target}: version 2")
    check([t.name for t in a.tensors] == [t.name for t in b.tensors], f"{target}: tensors in order")
    for s, t in zip(a.tensors, b.tensors):
        x = dequantize(s.data, s.tensor_type).astype(np.float64).reshape(-1)
        y = dequantize(t.data, t.tensor_type).astype(np.float64).reshape(-1)
        kind = Type(t.tensor_type).name
        check(list(s.shape) == list(t.shape), f"{target} {s.name}: shape")
        check(np.sqrt(np.mean((x - y)**2)) <= NEAR[kind] * np.std(x), f"{target} {s.name}: far off as {kind}")
        left = t.name.endswith(("norm.weight", "gate_inp.weight", "bias"))
        check(not left or s.tensor_type == t.tensor_type, f"{target} {s.name}: to be left alone")
    for threads in (1, 7):
        run(tool, source, f"{out}.{threads}", target, threads)
        with open(out, "rb") as one, open(f"{out}.{threads}", "rb") as other:
            check(one.read() == other.read(), f"{target}: {threads} threads give other bytes")


def check_shards(tool, folder):
    """The writer cuts a set; its result is the whole file's."""
    rng = np.random.default_rng(8)
    for path, options in ((f"{folder}/whole.gguf", {}), (f"{folder}/cut.gguf", {"split_max_tensors": 2})):
        rng = np.random.default_rng(8)
        w = GGUFWriter(path, "llama", **options)
        w.add_file_type(1)
        w.add_uint32("general.quantization_version", 1)
        w.add_block_count(1)
        for i in range(5):
            w.add_tensor(f"blk.{i}.attn_v.weight", rng.normal(0, 1, (8, 256)).astype(np.float16))
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
    names = sorted(n for n in os.listdir(folder) if n.startswith("cut-"))
    check(len(names) == 3, f"shards: {names}")
    check(run(tool, f"{folder}/whole.gguf", f"{folder}/w.out", "Q4_K_M")[0] == 0, "the whole file")
    check(run(tool, f"{folder}/{names[0]}", f"{folder}/c.out", "Q4_K_M")[0] == 0, "the shards")
    with open(f"{folder}/w.out", "rb") as one, open(f"{folder}/c.out", "rb") as other:
        check(one.read() == other.read(), "shards give the bytes of the whole")


def check_refusals(tool, folder):
    source, out = f"{folder}/bad.gguf", f"{folder}/bad.out"
    for value, target, sentence in ((float("nan"), "Q4_K_M", "no number"), (float("inf"), "Q8_0", "infinite"),
                                    (float("-inf"), "F16", "infinite"), (1e6, "Q6_K", "more than Q6_K can"),
                                    (70000, "F16", "more than F16 can"), (3.4e38, "BF16", "more than BF16")):
        write_model(source, "F32", change=("token_embd.weight", value))
        code, said = run(tool, source, out, target)
        check(code == 1 and sentence in said and "token_embd.weight" in said, f"{value} to {target}: {said}")
    write_model(source, "Q8_0")
    code, said = run(tool, source, out, "Q4_0")
    check(code == 1 and "quantised already" in said and "Q8_0" in said, f"of Q8_0: {said}")
    write_model(source, "F32", extra=("blk.0.x.weight", np.ones((2, 256), np.int32), Type.I32))
    code, said = run(tool, source, out, "Q4_0")
    check(code == 1 and "is I32" in said, f"of integers: {said}")
    code, said = run(tool, source, out, "IQ1_S")
    check(code == 1 and all(t in said for t in FILES), f"an unknown target: {said}")
    write_model(source, "F16")
    with open(source, "r+b") as f:
        f.truncate(os.path.getsize(source) - 700)
    code, said = run(tool, source, out, "Q4_0")
    check(code == 1, f"a file that is too short: {said}")


def check_vocabulary(tool, folder):
    source, out = f"{folder}/vocab.gguf", f"{folder}/vocab.out"
    w = GGUFWriter(source, "llama")
    w.add_file_type(0)
    w.add_array("tokenizer.ggml.tokens", ["a", "b"])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    check(run(tool, source, out, "Q4_K_M")[0] == 0, "a vocabulary alone")
    with open(source, "rb") as one, open(out, "rb") as other:
        check(one.read().rstrip(b"\0") == other.read().rstrip(b"\0"), "a vocabulary passes through")


def main(args):
    if not args:
        print(__doc__)
        return 2
    check_encoders(args[0])
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("F32", "F16", "BF16"):
            write_model(f"{folder}/{dtype}.gguf", dtype, named=dtype != "BF16")
            for target in FILES if dtype == "F16" else ("Q4_K_M", "F16"):
                if dtype != "BF16":
                    check_file(args[0], folder, dtype, target)
                else:
                    check(run(args[0], f"{folder}/BF16.gguf", f"{folder}/b.out", target)[0] == 0, "of BF16")
                    check("general.file_type" in GGUFReader(f"{folder}/b.out").fields, "file_type is added")
        check_shards(args[0], folder)
        check_refusals(args[0], folder)
        check_vocabulary(args[0], folder)
    print("files and refusals are as they should be" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
