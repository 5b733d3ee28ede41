#!/usr/bin/env python3
"""Writes the tiny GGUF models that the golden tests run.

    python3 models.py OUT [NAME ...]        write all models (or those named) as OUT/NAME.gguf
    python3 models.py --new OUT [NAME ...]  the same after a change here, for reference.py
    python3 models.py --list                print the names

Needs numpy and gguf (PyPI) only. The files are the same bytes everywhere: weights come from a
counter-based generator in integer arithmetic (splitmix64), never from numpy's distributions, and
manifest.json holds the SHA-256 of each file, which is checked after writing (but not with --new).

A model is a row of MODELS: the configuration as Hugging Face transformers names it (`hf`, which
reference.py passes to transformers unchanged), and from it `metadata` and `tensors` make the keys
and tensors of a GGUF file the way conversion of such a checkpoint lays them out:

  - llama and granite: rows of attn_q and attn_k (and their biases) are permuted inside each head so
    that RoPE turns neighbours (2i, 2i+1); all other families turn (i, i + n_rot/2), and keep the
    rows as they are ("NEOX").
  - gemma2 and gemma3: norm weights are stored with the 1 added that the family's RMSNorm adds.
  - phi3: q, k and v are one tensor attn_qkv; gate and up are one tensor ffn_up, gate rows first.

Weights are random, so "permuted" and "+1" say how the numbers are to be read: reference.py undoes
both before it hands the weights to transformers.
"""
import hashlib
import json
import math
import os
import sys

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T

HERE = os.path.dirname(os.path.abspath(__file__))
N_POS = 48                                            # positions of an ordinary run


# ---- numbers ------------------------------------------------------------------------------------

def key_of(text):
    """64-bit FNV-1a: one stream of random numbers for each model and tensor name."""
    h = 0xcbf29ce484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001b3) & 0xffffffffffffffff
    return h


def words(stream, count):
    """`count` 64-bit words of splitmix64, counted from the stream's key."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
        z += np.uint64(key_of(stream))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
    return z ^ (z >> np.uint64(31))


def bell(stream, shape, std, mean=0.0):
    """f32 array, near normal: the sum of a word's four 16-bit lanes (Irwin-Hall), exact until the
    one multiplication by a constant. |x - mean| < 3.47 std."""
    w = words(stream, int(np.prod(shape)))
    lanes = sum(((w >> np.uint64(s)) & np.uint64(0xffff)).astype(np.int64) for s in (0, 16, 32, 48))
    centred = (lanes - 2 * 65535).astype(np.float64)
    return (mean + centred * (std / 37837.2)).astype(np.float32).reshape(shape)


def some_bytes(stream, count):
    return words(stream, (count + 7) // 8).astype("<u8").view(np.uint8)[:count]


# ---- quantised tensors --------------------------------------------------------------------------

# K-quants are not encoded here but made up: every byte of a block is valid, so blocks are random
# bytes with only the f16 scales chosen. (bytes in a block, offset of d, offset of dmin or None,
# dmin/d that centres the weights on 0, standard deviation of the weights at d = 1)
K_BLOCKS = {
    T.Q2_K: (84, 80, 82, 1.5, 13.9),
    T.Q3_K: (110, 108, None, 0.0, 42.3),
    T.Q4_K: (144, 0, 2, 7.5, 226.0),
    T.Q5_K: (176, 0, 2, 15.5, 457.0),
    T.Q6_K: (210, 208, None, 0.0, 1370.0),
}


def random_k_blocks(stream, shape, std, qtype):
    size, at_d, at_min, ratio, unit = K_BLOCKS[qtype]
    rows, blocks = shape[0], shape[1] // 256
    raw = some_bytes(stream, rows * blocks * size).reshape(rows * blocks, size).copy()
    jitter = some_bytes(stream + "/d", rows * blocks).astype(np.float64) / 256 + 0.5
    d = (jitter * (std / unit)).astype(np.float16)
    raw[:, at_d:at_d + 2] = d.astype("<f2").view(np.uint8).reshape(-1, 2)
    if at_min is not None:
        dmin = (d.astype(np.float64) * ratio).astype(np.float16)
        raw[:, at_min:at_min + 2] = dmin.astype("<f2").view(np.uint8).reshape(-1, 2)
    return raw.reshape(rows, blocks * size)


def encode(stream, shape, std, qtype):
    if qtype in K_BLOCKS:
        return random_k_blocks(stream, shape, std, qtype)
    data = bell(stream, shape, std)
    if qtype == T.F32:
        return data
    return gguf.quants.quantize(data, qtype)


# ---- the models ---------------------------------------------------------------------------------

def rope(theta=10000.0, kind="default", **more):
    return {"rope_type": kind, "rope_theta": theta, **more}


# Some rows have a norm epsilon of 0.02 to 0.05, so that one that is not the file's shows.
def config(vocab, embd, ff, layers, heads, kv, ctx=128, **more):
    return dict(vocab_size=vocab, hidden_size=embd, intermediate_size=ff, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=ctx,
                **more)


def row(name, arch, hf, *, tok, runs=None, types=(T.F32,), gains=None, fused_qkv=False, omit=()):
    """tok: tokenizer section. runs: (suffix, n_ctx, n_pos) per reference. types: tensor types that
    the 2-D tensors take in turn. gains: see GAINS. omit: keys left out of the file, as older
    converters do, where the default must be found."""
    return dict(name=name, arch=arch, hf=hf, tok=tok, runs=runs or [("", 64, N_POS)],
                types=types, gains={**GAINS, **(gains or {})}, fused_qkv=fused_qkv, omit=omit)


# Standard deviation of what each projection gives for an input of unit size (qk: of the attention
# scores' two factors), so that attention is not uniform and logits have a spread of some units.
GAINS = dict(embd=1.0, qk=1.6, v=1.2, o=1.2, up=1.2, down=1.6, out=2.5, norm=1.0, qk_norm=1.6,
             bias=0.4)

LONG = [1.0 + 0.15 * i * i for i in range(12)]         # longrope factors, n_rot/2 of them
SHORT = [1.0 + 0.03 * i for i in range(12)]

MODELS = [
    # llama: Llama 2, 3, 3.1; Mistral; SmolLM2
    row("llama-gqa", "llama",
        config(263, 96, 160, 3, 4, 2, rms_norm_eps=1e-5, rope_parameters=rope()),
        tok="bpe:llama-bpe"),
    row("llama-tied-mqa", "llama",
        config(267, 64, 96, 4, 4, 1, rms_norm_eps=1e-6, tie_word_embeddings=True,
               rope_parameters=rope(100000.0)),
        tok="spm", gains=dict(embd=0.3)),
    row("llama-rope-freqs", "llama",
        config(264, 64, 128, 3, 2, 1, ctx=1024, rms_norm_eps=1e-5,
               rope_parameters=rope(500000.0, "llama3", factor=8.0, low_freq_factor=1.0,
                                    high_freq_factor=4.0, original_max_position_embeddings=128)),
        tok="bpe:llama-bpe"),
    row("llama-window", "llama",
        config(265, 96, 160, 4, 4, 2, rms_norm_eps=1e-5, sliding_window=12,
               rope_parameters=rope()),
        tok="spm"),
    row("llama-linear", "llama",
        config(262, 64, 96, 3, 2, 2, ctx=512, rms_norm_eps=0.03,
               rope_parameters=rope(10000.0, "linear", factor=4.0)),
        tok="spm"),
    row("llama-yarn", "llama",
        config(264, 64, 96, 3, 2, 1, ctx=4096, rms_norm_eps=1e-5,
               rope_parameters=rope(10000.0, "yarn", factor=4.0,
                                    original_max_position_embeddings=1024)),
        tok="spm"),
    row("llama-headdim-bias", "llama",                 # Mistral Nemo's heads, and all the biases
        config(266, 96, 128, 3, 3, 1, rms_norm_eps=1e-5, head_dim=48, attention_bias=True,
               mlp_bias=True, rope_parameters=rope(1000000.0)),
        tok="bpe:tekken"),
    row("llama-seven", "llama",                        # Qwen 2.5 0.5B's: 7 queries to a K/V head
        config(262, 224, 64, 2, 14, 2, rms_norm_eps=1e-5, head_dim=32, rope_parameters=rope()),
        tok="bpe:llama-bpe"),
    row("llama-f16", "llama",
        config(264, 64, 96, 2, 4, 2, rms_norm_eps=1e-5, rope_parameters=rope()),
        tok="spm", types=(T.F16,)),
    row("llama-bf16", "llama",
        config(264, 64, 96, 2, 4, 2, rms_norm_eps=1e-5, rope_parameters=rope()),
        tok="spm", types=(T.BF16,)),
    row("llama-quants", "llama",
        config(264, 96, 160, 3, 4, 2, rms_norm_eps=1e-5, rope_parameters=rope()),
        tok="spm", types=(T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0)),
    row("llama-kquants", "llama",
        config(264, 256, 256, 3, 8, 2, rms_norm_eps=1e-5, rope_parameters=rope()),
        tok="spm", types=(T.Q4_K, T.Q2_K, T.Q6_K, T.Q3_K, T.Q5_K)),

    row("qwen2", "qwen2",
        config(263, 64, 160, 3, 4, 2, rms_norm_eps=0.02, rope_parameters=rope(1000000.0)),
        tok="bpe:qwen2"),
    row("qwen2-yarn-tied", "qwen2",
        config(264, 96, 96, 3, 3, 1, ctx=2048, rms_norm_eps=1e-6, tie_word_embeddings=True,
               rope_parameters=rope(10000.0, "yarn", factor=2.0, beta_fast=16.0, beta_slow=2.0,
                                    attention_factor=1.25,
                                    original_max_position_embeddings=1024)),
        tok="bpe:qwen2", gains=dict(embd=0.3)),

    row("qwen3", "qwen3",
        config(263, 64, 96, 3, 4, 2, rms_norm_eps=0.05, head_dim=32,
               rope_parameters=rope(1000000.0)),
        tok="bpe:qwen2"),
    row("qwen3-tied", "qwen3",
        config(261, 96, 160, 3, 2, 1, rms_norm_eps=1e-6, head_dim=64, tie_word_embeddings=True,
               rope_parameters=rope(1000000.0)),
        tok="bpe:qwen2", gains=dict(embd=0.3)),

    row("phi3-window", "phi3",                         # Phi-3-mini-4k
        config(264, 96, 160, 4, 4, 4, rms_norm_eps=0.03, sliding_window=10,
               original_max_position_embeddings=128, rope_parameters=rope()),
        tok="spm"),
    row("phi3-longrope", "phi3",                       # Phi-4-mini: partial rotary, tied
        config(263, 96, 128, 3, 3, 1, ctx=192, rms_norm_eps=1e-5, tie_word_embeddings=True,
               original_max_position_embeddings=48, sliding_window=262144,
               rope_parameters=rope(10000.0, "longrope", partial_rotary_factor=0.75,
                                    original_max_position_embeddings=48,
                                    long_factor=LONG, short_factor=SHORT)),
        tok="bpe:gpt-4o", gains=dict(embd=0.3),
        runs=[("-short", 48, 48), ("-long", 96, 64)]),

    row("phi2", "phi2",
        config(264, 96, 384, 3, 3, 3, layer_norm_eps=1e-5,
               rope_parameters=rope(partial_rotary_factor=0.4)),
        tok="bpe:gpt-2", gains=dict(down=1.0)),
    row("phi2-fused", "phi2",                          # as files of Microsoft's first checkpoint
        config(262, 64, 256, 3, 2, 2, layer_norm_eps=0.05,
               rope_parameters=rope(partial_rotary_factor=0.5)),
        tok="bpe:gpt-2", fused_qkv=True, gains=dict(down=1.0)),

    row("gemma2", "gemma2",
        config(263, 96, 160, 4, 4, 2, rms_norm_eps=0.02, head_dim=32, query_pre_attn_scalar=32,
               attn_logit_softcapping=5.0, final_logit_softcapping=8.0, sliding_window=9,
               rope_parameters=rope()),
        tok="gemma", gains=dict(embd=0.6, qk=2.0)),
    row("gemma2-46", "gemma2",                         # 27B: 46 layers say n_embd/n_head scaling
        config(262, 64, 64, 46, 2, 1, rms_norm_eps=1e-6, head_dim=16, query_pre_attn_scalar=32,
               attn_logit_softcapping=8.0, final_logit_softcapping=10.0, sliding_window=16,
               rope_parameters=rope()),
        tok="gemma", gains=dict(embd=0.6, qk=1.6)),

    row("gemma3", "gemma3",                            # 7 layers: 5 local, 1 global, 1 local
        config(264, 64, 96, 7, 4, 2, ctx=1024, rms_norm_eps=0.03, head_dim=32,
               query_pre_attn_scalar=32, sliding_window=8, rope_parameters={
                   "full_attention": rope(1000000.0, "linear", factor=8.0),
                   "sliding_attention": rope(10000.0)}),
        tok="gemma", gains=dict(embd=0.25), omit=("rope.freq_base_swa",)),
    row("gemma3-62", "gemma3",                         # 27B: 62 layers say n_embd/n_head scaling
        config(262, 64, 64, 62, 2, 1, ctx=1024, rms_norm_eps=1e-6, head_dim=16,
               query_pre_attn_scalar=32, sliding_window=16, final_logit_softcapping=6.0,
               rope_parameters={"full_attention": rope(500000.0, "linear", factor=8.0),
                                "sliding_attention": rope(5000.0)}),
        tok="gemma", gains=dict(embd=0.5)),

    row("granite", "granite",
        config(263, 96, 160, 3, 4, 2, rms_norm_eps=1e-5, tie_word_embeddings=True,
               embedding_multiplier=3.0, residual_multiplier=0.3, attention_multiplier=0.15,
               logits_scaling=1.5, rope_parameters=rope()),
        tok="bpe:refact", gains=dict(embd=0.35, v=2.0, down=4.0)),
    row("granite-untied", "granite",
        config(262, 64, 96, 4, 4, 1, rms_norm_eps=0.03, embedding_multiplier=0.5,
               residual_multiplier=0.6, attention_multiplier=0.4, logits_scaling=0.5,
               rope_parameters=rope(5000000.0)),
        tok="bpe:refact", gains=dict(out=1.5)),
]

TIED = ("gemma2", "gemma3")                            # families without an output tensor at all


def head_dim(hf):
    return hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"]


def rotary_dim(hf):
    """As converters write it: the part of n_embd that turns, divided among the heads."""
    part = hf["rope_parameters"].get("partial_rotary_factor", 1.0)
    return int(part * hf["hidden_size"]) // hf["num_attention_heads"]


# ---- metadata: a GGUF key for each fact of the configuration ------------------------------------

def metadata(m):
    """Yields (key without the architecture, type, value). Keys that a family's converter does not
    write are not written here either: the reader has to know the default."""
    hf, arch, u32, f32 = m["hf"], m["arch"], "uint32", "float32"
    yield "block_count", u32, hf["num_hidden_layers"]
    yield "context_length", u32, hf["max_position_embeddings"]
    yield "embedding_length", u32, hf["hidden_size"]
    yield "feed_forward_length", u32, hf["intermediate_size"]
    yield "attention.head_count", u32, hf["num_attention_heads"]
    yield "attention.head_count_kv", u32, hf["num_key_value_heads"]
    if arch == "phi2":
        yield "attention.layer_norm_epsilon", f32, hf["layer_norm_eps"]
    else:
        yield "attention.layer_norm_rms_epsilon", f32, hf["rms_norm_eps"]
    if "head_dim" in hf and arch != "granite":
        yield "attention.key_length", u32, hf["head_dim"]
        yield "attention.value_length", u32, hf["head_dim"]
    if arch in ("llama", "granite"):
        yield "vocab_size", u32, hf["vocab_size"]
        yield "rope.dimension_count", u32, head_dim(hf)
    if arch in ("phi2", "phi3"):
        yield "rope.dimension_count", u32, rotary_dim(hf)
    yield from rope_metadata(m)
    if arch == "phi3":                                 # 0 says: none
        yield "attention.sliding_window", u32, hf.get("sliding_window") or 0
    elif hf.get("sliding_window"):
        yield "attention.sliding_window", u32, hf["sliding_window"]
    if "attn_logit_softcapping" in hf:
        yield "attn_logit_softcapping", f32, hf["attn_logit_softcapping"]
    if "final_logit_softcapping" in hf:
        yield "final_logit_softcapping", f32, hf["final_logit_softcapping"]
    for ours, theirs in (("attention.scale", "attention_multiplier"),
                         ("embedding_scale", "embedding_multiplier"),
                         ("residual_scale", "residual_multiplier"),
                         ("logit_scale", "logits_scaling")):
        if theirs in hf:
            yield ours, f32, hf[theirs]


def rope_metadata(m):
    hf, arch, u32, f32 = m["hf"], m["arch"], "uint32", "float32"
    params = hf["rope_parameters"].get("full_attention", hf["rope_parameters"])
    local = hf["rope_parameters"].get("sliding_attention")
    if arch in ("phi2", "gemma2"):                     # no key at all: base 10000, no scaling
        return
    yield "rope.freq_base", f32, params["rope_theta"]
    if local:
        yield "rope.freq_base_swa", f32, local["rope_theta"]
    kind = params["rope_type"]
    if arch == "phi3":                                 # names no scaling type: the tensors tell
        original = hf["original_max_position_embeddings"]
        yield "rope.scaling.original_context_length", u32, original
        if kind == "longrope":
            scale = hf["max_position_embeddings"] / original
            yield "rope.scaling.attn_factor", f32, math.sqrt(1 + math.log(scale) /
                                                             math.log(original))
    elif kind in ("linear", "yarn"):
        yield "rope.scaling.type", "string", kind
        yield "rope.scaling.factor", f32, params["factor"]
    if kind == "yarn":
        yield ("rope.scaling.original_context_length", u32,
               params["original_max_position_embeddings"])
        for ours, theirs in (("attn_factor", "attention_factor"), ("beta_fast", "beta_fast"),
                             ("beta_slow", "beta_slow")):
            if theirs in params:
                yield f"rope.scaling.yarn_{ours}", f32, params[theirs]


# ---- tensors ------------------------------------------------------------------------------------

def tensors(m):
    """Yields (name, shape with rows first, standard deviation, mean). A vector has mean 1 for a
    norm and 0 for a bias; gemma's norms hold 1 + w, so theirs is 1 as well."""
    hf, arch, g = m["hf"], m["arch"], m["gains"]
    n, ff, hd = hf["hidden_size"], hf["intermediate_size"], head_dim(hf)
    q, kv = hf["num_attention_heads"] * hd, hf["num_key_value_heads"] * hd
    phi2, gemma = arch == "phi2", arch in TIED
    biased = phi2 or hf.get("mlp_bias")

    def matrix(name, rows, cols, gain, bias=False):
        yield name + ".weight", (rows, cols), gain / math.sqrt(cols), 0.0
        if bias:
            yield name + ".bias", (rows,), g["bias"], 0.0

    def norm(name, size, mean=None):
        mean = mean or g["norm"]
        yield name + ".weight", (size,), 0.25 * mean, mean
        if phi2:
            yield name + ".bias", (size,), g["bias"], 0.0

    yield "token_embd.weight", (hf["vocab_size"], n), g["embd"], 0.0
    yield from rope_tensors(m)
    for i in range(hf["num_hidden_layers"]):
        b = f"blk.{i}."
        yield from norm(b + "attn_norm", n)
        if arch == "phi3" or m["fused_qkv"]:
            yield from matrix(b + "attn_qkv", q + 2 * kv, n, g["qk"], bias=phi2)
        else:
            bias = phi2 or arch == "qwen2" or hf.get("attention_bias")
            yield from matrix(b + "attn_q", q, n, g["qk"], bias)
            yield from matrix(b + "attn_k", kv, n, g["qk"], bias)
            yield from matrix(b + "attn_v", kv, n, g["v"], bias)
        if arch in ("qwen3", "gemma3"):
            yield from norm(b + "attn_q_norm", hd, g["qk_norm"])
            yield from norm(b + "attn_k_norm", hd, g["qk_norm"])
        yield from matrix(b + "attn_output", n, q, g["o"], phi2 or hf.get("attention_bias"))
        if gemma:
            yield from norm(b + "post_attention_norm", n)
        if not phi2:
            yield from norm(b + "ffn_norm", n)
        if arch not in ("phi2", "phi3"):
            yield from matrix(b + "ffn_gate", ff, n, g["up"], biased)
        yield from matrix(b + "ffn_up", 2 * ff if arch == "phi3" else ff, n, g["up"], biased)
        yield from matrix(b + "ffn_down", n, ff, g["down"], biased)
        if gemma:
            yield from norm(b + "post_ffw_norm", n)
    yield from norm("output_norm", n)
    if not gemma and not hf.get("tie_word_embeddings"):
        yield from matrix("output", hf["vocab_size"], n, g["out"], bias=phi2)


def rope_tensors(m):
    """Frequency factors: the angle of pair i is divided by factor[i]. Yields arrays, not shapes."""
    params = m["hf"]["rope_parameters"]
    if params.get("rope_type") == "longrope":
        yield "rope_factors_long.weight", np.array(params["long_factor"], np.float32), None, None
        yield "rope_factors_short.weight", np.array(params["short_factor"], np.float32), None, None
    if params.get("rope_type") == "llama3":
        yield "rope_freqs.weight", llama3_factors(params, head_dim(m["hf"])), None, None


def llama3_factors(p, dim):
    """Llama 3.1: wavelengths that the original context holds often stay, those longer than it are
    stretched by `factor`, between them a blend."""
    original, low, high = (p["original_max_position_embeddings"], p["low_freq_factor"],
                           p["high_freq_factor"])
    out = []
    for i in range(0, dim, 2):
        wavelen = 2 * math.pi * p["rope_theta"] ** (i / dim)
        smooth = min(max((original / wavelen - low) / (high - low), 0.0), 1.0)
        out.append(1 / ((1 - smooth) / p["factor"] + smooth))
    return np.array(out, np.float32)


# ---- vocabulary ---------------------------------------------------------------------------------

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6            # tokenizer.ggml.token_type


def byte_alphabet():
    """GPT-2's: a printable character for each byte, in the order of its vocabulary files."""
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def bpe_vocab(w, pre, size):
    pairs = ["Ġ t", "h e", "i n", "Ġ a", "Ġt he", "r e", "o n", "e r"]
    merges = pairs[:size - 258]
    tokens = byte_alphabet() + [p.replace(" ", "") for p in merges]
    tokens += ["<|begin|>", "<|end|>"]
    assert len(tokens) == size
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([NORMAL] * (size - 2) + [CONTROL] * 2)
    w.add_token_merges(merges)
    w.add_bos_token_id(size - 2)
    w.add_eos_token_id(size - 1)
    w.add_add_bos_token(False)


def spm_vocab(w, kind, size):
    pieces = ["▁", "e", "t", "a", "▁t", "he", "in", "▁the"]
    special = ["<pad>", "<eos>", "<bos>", "<unk>"] if kind == "gemma" else ["<unk>", "<s>", "</s>"]
    pieces = pieces[:size - 256 - len(special)]
    tokens = special + [f"<0x{b:02X}>" for b in range(256)] + pieces
    assert len(tokens) == size
    types = [UNKNOWN if t == "<unk>" else CONTROL for t in special]
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * (len(special) + 256) + [-float(i) for i in range(len(pieces))])
    w.add_token_types(types + [BYTE] * 256 + [NORMAL] * len(pieces))
    w.add_unk_token_id(special.index("<unk>"))
    w.add_bos_token_id(2 if kind == "gemma" else 1)
    w.add_eos_token_id(1 if kind == "gemma" else 2)
    w.add_add_bos_token(True)
    w.add_add_space_prefix(kind != "gemma")


# ---- the file -----------------------------------------------------------------------------------

FILE_TYPE = {T.F32: 0, T.F16: 1, T.Q4_0: 2, T.BF16: 32, T.Q4_K: 15}


def write(m, path):
    w = gguf.GGUFWriter(path, m["arch"])
    w.add_string("general.type", "model")
    w.add_string("general.name", "hearth golden")
    w.add_uint32("general.file_type", FILE_TYPE[m["types"][0]])
    w.add_uint32("general.quantization_version", 2)
    for key, kind, value in metadata(m):
        if key not in m["omit"]:
            getattr(w, "add_" + kind)(f"{m['arch']}.{key}", value)
    kind, _, pre = m["tok"].partition(":")
    if kind == "bpe":
        bpe_vocab(w, pre, m["hf"]["vocab_size"])
    else:
        spm_vocab(w, kind, m["hf"]["vocab_size"])
    turn = 0
    for name, shape, std, mean in tensors(m):
        stream = m["name"] + "/" + name
        if isinstance(shape, np.ndarray):
            w.add_tensor(name, shape)
        elif len(shape) == 1:                          # norms and biases are always F32
            w.add_tensor(name, bell(stream, shape, std, mean))
        else:
            qtype = m["types"][turn % len(m["types"])]
            turn += 1
            w.add_tensor(name, encode(stream, shape, std, qtype), raw_dtype=qtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def run_tokens(m, suffix, n_pos):
    """Token ids of a reference run: random over the whole vocabulary, every seventh repeated."""
    ids = [int(x % np.uint64(m["hf"]["vocab_size"]))
           for x in words(m["name"] + suffix + "/tokens", n_pos)]
    return [ids[i - 5] if i % 7 == 6 else t for i, t in enumerate(ids)]


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def main(args):
    if args == ["--list"]:
        print("\n".join(m["name"] for m in MODELS))
        return 0
    new = args[:1] == ["--new"]
    args = args[new:]
    if not args or args[0].startswith("-"):
        print(__doc__)
        return 2
    out, wanted, bad, known = args[0], args[1:], [], {}
    if not new:
        with open(os.path.join(HERE, "manifest.json")) as f:
            known = {r["model"]: r["sha256"] for r in json.load(f)["runs"]}
    missing = set(wanted) - {m["name"] for m in MODELS}
    if missing:
        print("models.py: no such model:", *sorted(missing), file=sys.stderr)
        return 2
    os.makedirs(out, exist_ok=True)
    for m in MODELS:
        if wanted and m["name"] not in wanted:
            continue
        path = os.path.join(out, m["name"] + ".gguf")
        write(m, path)
        if known.get(m["name"] + ".gguf", sha256(path)) != sha256(path):
            bad.append(m["name"])
    if bad:
        print("models.py: not the bytes that manifest.json names:", *bad, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
