#!/usr/bin/env python3
"""Shapes that nobody picked: random small models of every family, and their logits by forward.py.

    sweep.py OUT [--count 16] [--seed 1]

Writes OUT/*.gguf, OUT/*.logits and OUT/manifest.json, for `golden_test OUT OUT/manifest.json`. A model's
family goes by turns; head sizes, heads to a K/V head, widths, layers, windows, rotation and output are
drawn from the seed. Needs numpy and gguf (PyPI)."""
import json
import os
import random
import sys

import numpy as np

import forward
import models

FAMILIES = ("llama", "qwen2", "qwen3", "phi3", "phi2", "gemma2", "gemma3", "granite")
HEAD_SIZES = (4, 8, 10, 16, 20, 24, 32, 36, 40, 48, 64, 72, 80, 96, 100, 112, 128)
N_CTX = 64


def rotation(r, arch, head):
    base = r.choice((10000.0, 500000.0, 1000000.0))
    if arch == "gemma3":
        return {"full_attention": models.rope(base, "linear", factor=8.0), "sliding_attention": models.rope(10000.0)}
    if arch in ("phi2", "gemma2"):
        base = 10000.0
    part = r.choice((0.25, 0.5, 0.75, 1.0)) if arch in ("phi2", "phi3") else 1.0
    if int(part * head) % 2 or int(part * head) < 2:
        part = 1.0
    if arch in ("llama", "qwen2", "qwen3") and r.random() < 0.3:
        return models.rope(base, "linear", factor=r.choice((2.0, 4.0)))
    return models.rope(base, **({"partial_rotary_factor": part} if part < 1 else {}))


def draw(r, i):
    arch = FAMILIES[i % len(FAMILIES)]
    apart = arch in ("qwen3", "gemma2", "gemma3") or (arch == "llama" and r.random() < 0.5)
    while True:  # a head size that the family can say
        head, kv, shared = r.choice(HEAD_SIZES), r.randint(1, 4), r.randint(1, 6)
        heads = kv * shared
        n_embd = r.choice((32 * r.randint(1, 8), r.randint(8, 200))) if apart else heads * head
        if n_embd <= 768 and heads <= 16:
            break
    hf = models.config(r.choice((262, 263, 264, 266)), n_embd, r.choice((4, 30, 44, 64, 100, 160, 257)), r.randint(1, 4),
                       heads, kv, rope_parameters=rotation(r, arch, head))
    hf["layer_norm_eps" if arch == "phi2" else "rms_norm_eps"] = r.choice((1e-6, 1e-5, 0.02))
    if apart:
        hf["head_dim"] = head
    if arch in ("gemma2", "gemma3"):
        hf["query_pre_attn_scalar"] = head
        hf["sliding_window"] = r.randint(1, 40)
        if arch == "gemma2":
            hf.update(attn_logit_softcapping=5.0, final_logit_softcapping=8.0)
    elif arch == "phi3":
        hf.update(original_max_position_embeddings=128, sliding_window=r.choice((0, 7, 33)))
    elif arch == "llama" and r.random() < 0.3:
        hf["sliding_window"] = r.randint(1, 40)
    if arch == "granite":
        hf.update(embedding_multiplier=3.0, residual_multiplier=0.3, attention_multiplier=0.15, logits_scaling=1.5)
    if arch not in ("phi2", "gemma2", "gemma3") and r.random() < 0.5:
        hf["tie_word_embeddings"] = True
    tok = {"gemma2": "gemma", "gemma3": "gemma", "phi3": "spm", "llama": "spm"}.get(arch, "bpe:gpt-2")
    types = [models.T.F32] if r.random() < 0.7 or n_embd % 32 else [models.T.F16]
    return models.row(f"sweep-{i:03}-{arch}", arch, hf, tok=tok, types=types, gains=dict(embd=0.5))


def main(args):
    if not args or args[0].startswith("-"):
        print(__doc__)
        return 2
    options = dict(zip(args[1::2], args[2::2]))
    r, runs, out = random.Random(int(options.get("--seed", 1))), [], args[0]
    os.makedirs(out, exist_ok=True)
    for i in range(int(options.get("--count", 16))):
        m = draw(r, i)
        path = os.path.join(out, m["name"] + ".gguf")
        models.write(m, path)
        tokens = models.run_tokens(m, "", models.N_POS)
        logits = forward.forward(forward.Model(path, N_CTX), tokens).astype("<f4")
        logits.tofile(os.path.join(out, m["name"] + ".logits"))
        hf = m["hf"]
        runs.append({"name": m["name"], "arch": m["arch"], "model": m["name"] + ".gguf", "logits": m["name"] + ".logits",
                     "n_ctx": N_CTX, "n_vocab": hf["vocab_size"], "n_pos": len(tokens),
                     "spread": float(np.ptp(logits)), "types": [t.name for t in m["types"]], "tokens": tokens,
                     "shape": f"n_embd {hf['hidden_size']} heads {hf['num_attention_heads']}/"
                              f"{hf['num_key_value_heads']} of {models.head_dim(hf)} n_ff {hf['intermediate_size']}"})
    with open(os.path.join(out, "manifest.json"), "w") as f:
        json.dump({"runs": runs}, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
