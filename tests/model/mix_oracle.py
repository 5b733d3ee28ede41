#!/usr/bin/env python3
"""Which type each tensor gets, against llama.cpp's choice.

    python3 mix_oracle.py QUANTIZE MIXES

QUANTIZE is build/tests/quantize. MIXES (mixes.txt) has what llama_tensor_get_type of llama.cpp (commit
d32676d77) answers for every tensor of the shapes below, one line a shape and target: the kinds of
tensors, and along the layers how many times which type. The files are made here, of holes for weights.
Exit 77: gguf or numpy are not there.
"""
import itertools
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from gguf import GGMLQuantizationType as Type, GGUFWriter
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

#          arch, layers, width, ffn, heads, kv heads, words, tied, experts, one qkv
SHAPES = {
    "smol": ("llama", 30, 576, 1536, 9, 3, 49152, True, 0, False),
    "eight": ("llama", 32, 4096, 14336, 32, 8, 128256, False, 0, False),
    "mixtral": ("llama", 32, 1024, 2048, 16, 4, 32000, False, 8, False),
    "experts": ("qwen2moe", 24, 1024, 768, 16, 16, 32000, False, 60, False),
    "seventy": ("llama", 80, 1024, 2816, 64, 8, 32000, False, 0, False),
    "qwen": ("qwen2", 80, 1024, 2816, 16, 16, 32000, True, 0, False),
    "falcon": ("falcon", 32, 1024, 4096, 16, 1, 32000, False, 0, True),
    "phi": ("phi3", 24, 3072, 8192, 32, 32, 32064, False, 0, True),
    "narrow": ("llama", 9, 288, 800, 6, 6, 32000, False, 0, False),
}


def tensors(shape):
    _, layers, d, ff, heads, kv, words, tied, experts, one = shape
    rows = [("token_embd.weight", (d, words))]
    kv *= d // heads
    block = [("attn_norm.weight", (d,)), ("attn_output.weight", (d, d)), ("ffn_norm.weight", (d,))]
    block += [("attn_qkv.weight", (d, d + 2 * kv))] if one else \
        [("attn_q.weight", (d, d)), ("attn_k.weight", (d, kv)), ("attn_v.weight", (d, kv))]
    if experts:
        block += [("ffn_gate_inp.weight", (d, experts)), ("ffn_gate_exps.weight", (d, ff, experts)),
                  ("ffn_up_exps.weight", (d, ff, experts)), ("ffn_down_exps.weight", (ff, d, experts))]
    else:
        block += [("ffn_gate.weight", (d, ff)), ("ffn_up.weight", (d, ff)), ("ffn_down.weight", (ff, d))]
    for i in reversed(range(layers)):                  # a file may have them in any order
        rows += [(f"blk.{i}.{name}", dims) for name, dims in block]
    rows.append(("output_norm.weight", (d,)))
    return rows + ([] if tied else [("output.weight", (d, words))])


def write(path, shape):
    arch, layers, d, _, heads, kv, *_, experts, _ = shape
    w = GGUFWriter(path, arch)
    w.add_block_count(layers)
    w.add_embedding_length(d)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    if experts:
        w.add_expert_count(experts)
    size = 0
    for name, dims in tensors(shape):
        single = len(dims) == 1
        n = int(np.prod(dims)) * (4 if single else 2)
        w.add_tensor_info(name, dims[::-1], np.dtype("f4" if single else "f2"), n,
                          raw_dtype=Type.F32 if single else Type.F16)
        size += (n + 31) // 32 * 32
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    w.fout[0].flush()
    at = w.fout[0].tell()
    w.close()
    with open(path, "r+b") as f:
        f.truncate((at + 31) // 32 * 32 + size)


def line(types):
    """{name: type} as a line of mixes.txt."""
    kinds = {}
    for name, kind in types.items():
        parts = name.split(".")
        layer = int(parts[1]) if parts[0] == "blk" else -1
        kinds.setdefault(name.split(".", 2)[2] if layer >= 0 else name, []).append((layer, kind.upper()))
    text = []
    for name in sorted(kinds):
        runs = [(k, len(list(g))) for k, g in itertools.groupby(k for _, k in sorted(kinds[name]))]
        text.append(name.removesuffix(".weight") + "=" + ",".join(f"{k}*{n}" if n > 1 else k for k, n in runs))
    return " ".join(text)


def main(args):
    if len(args) != 2:
        print(__doc__)
        return 2
    with open(args[1], encoding="utf-8") as f:
        rows = [r.split(" ", 2) for r in f.read().splitlines() if not r.startswith("#")]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in SHAPES.items():
            write(f"{folder}/{name}.gguf", shape)
        for name, target, want in rows:
            said = subprocess.run([args[0], "--types", f"{folder}/{name}.gguf", target], check=True, text=True,
                                  stdout=subprocess.PIPE).stdout
            got = line(dict(r.split() for r in said.splitlines()))
            if got != want:
                failed += 1
                print(f"FAILED: {name} to {target}:\n  got  {got}\n  want {want}")
    missing = {(n, t) for n in SHAPES for t in ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q4_0")}
    missing -= {(n, t) for n, t, _ in rows}
    print(f"{len(rows)} mixes, {failed} differ" + (f", none for {sorted(missing)}" if missing else ""))
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
