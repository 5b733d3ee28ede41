#!/usr/bin/env python3
"""A transformer in float64 numpy, from a GGUF file alone: the golden models' second opinion.

    python3 forward.py MODELS [--kv f32|f16|q8_0] [RUN ...]

Runs every run of manifest.json (or those named) on MODELS/*.gguf and compares the logits with
NAME.logits, which transformers made. It knows of a model what an engine knows, the file, and is
written to be read as a specification: which key and which tensor drives which step, and what
holds where a key is absent. Fails where the error exceeds 1e-4 of the spread (1e-2 with a KV cache
of less than 32 bits, where also the top token must agree wherever the best two are further apart
than twice that).

Shapes: a matrix is [rows out][columns in] as numpy reads it; x is [position][n_embd].
Needs numpy and gguf (PyPI).
"""
import json
import math
import os
import sys

import numpy as np
import gguf

HERE = os.path.dirname(os.path.abspath(__file__))


# ---- what a family is: the facts that no key of the file tells ----------------------------------

def family(norm="rms", pairs="half", act="silu", parallel=False, qk_norm=False, sandwich=False,
           embd_sqrt=False, period=1, window=0, attn_cap=0.0, final_cap=0.0, deep=None):
    """norm: "rms", or "layer" (mean taken off, and a bias).
    pairs: which two values of a head RoPE turns together: "next" (2i, 2i+1) or "half"
    (i, i + n_rot/2).
    act: of the gate (or of up, where there is no gate); gelu is the tanh approximation.
    parallel: attention and ffn read the same normed x and are added together.
    qk_norm: RMS norm of each head of q and k (attn_q_norm, attn_k_norm) before RoPE.
    sandwich: also a norm of what attention and ffn give (post_attention_norm, post_ffw_norm).
    embd_sqrt: embeddings are multiplied by sqrt(n_embd).
    period: with a window, layer i looks through it unless (i + 1) % period == 0; 1 = all layers do
    and period counts nothing.
    window, attn_cap, final_cap: defaults of the keys of these names.
    deep: the n_layer of the one size whose queries are scaled by 1/sqrt(n_embd/n_head) and not
    1/sqrt(head size): no key tells them apart."""
    return dict(locals())


FAMILIES = {
    "llama":   family(pairs="next"),
    "granite": family(pairs="next"),
    "qwen2":   family(),
    "qwen3":   family(qk_norm=True),
    "phi3":    family(),
    "phi2":    family(norm="layer", act="gelu", parallel=True),
    "gemma2":  family(act="gelu", sandwich=True, embd_sqrt=True, period=2, window=4096,
                      attn_cap=50.0, final_cap=30.0, deep=46),
    "gemma3":  family(act="gelu", qk_norm=True, sandwich=True, embd_sqrt=True, period=6, deep=62),
}


class Model:
    """The file's keys as hyper-parameters, with the defaults of absent ones, and its tensors."""

    def __init__(self, path, n_ctx):
        reader = gguf.GGUFReader(path)
        self.fields = reader.fields
        self.tensors = {t.name: t for t in reader.tensors}
        self.arch = self.fields["general.architecture"].contents()
        self.family = FAMILIES[self.arch]
        self.n_ctx = n_ctx

        self.n_layer = self.key("block_count")
        self.n_embd = self.key("embedding_length")
        self.n_head = self.key("attention.head_count")
        self.n_head_kv = self.key("attention.head_count_kv", self.n_head)
        self.head_k = self.key("attention.key_length", self.n_embd // self.n_head)
        self.head_v = self.key("attention.value_length", self.n_embd // self.n_head)
        self.n_rot = self.key("rope.dimension_count", self.head_k)   # the rest of a head stays
        self.eps = self.key("attention.layer_norm_epsilon" if self.family["norm"] == "layer"
                            else "attention.layer_norm_rms_epsilon")

        self.embd_scale = math.sqrt(self.n_embd) if self.family["embd_sqrt"] else 1.0
        self.embd_scale *= self.key("embedding_scale", 1.0)          # granite
        self.residual_scale = self.key("residual_scale", 1.0)        # granite
        self.logit_scale = self.key("logit_scale", 1.0)              # granite: logits are divided
        per_head = self.head_k
        if self.n_layer == self.family["deep"]:
            per_head = self.n_embd // self.n_head
        self.query_scale = self.key("attention.scale", 1 / math.sqrt(per_head))
        self.attn_cap = self.key("attn_logit_softcapping", self.family["attn_cap"])    # 0: none
        self.final_cap = self.key("final_logit_softcapping", self.family["final_cap"])

        self.window = self.key("attention.sliding_window", self.family["window"])      # 0: none
        self.period = self.key("attention.sliding_window_pattern", self.family["period"])
        self.rope_global = self.rope(swa=False)
        self.rope_local = self.rope(swa=True)

    def key(self, name, default=None):
        field = self.fields.get(f"{self.arch}.{name}")
        if field is None and default is None:
            raise KeyError(f"{self.arch}.{name}")
        return default if field is None else field.contents()

    def tensor(self, name):
        """float64, or None where the file has none."""
        t = self.tensors.get(name)
        if t is None:
            return None
        return gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)

    def is_local(self, layer):
        """Does the layer look through the window?"""
        return self.window > 0 and (self.period == 1 or (layer + 1) % self.period != 0)

    def rope(self, swa):
        """-> (angle per position of each pair [n_rot/2], factor on cosine and sine).

        gemma3's local layers have a base of their own, 10000 where the file names none, and are
        never scaled; everybody else's have the global one."""
        pair = np.arange(0, self.n_rot, 2)
        base = self.key("rope.freq_base", 10000.0)
        if swa and self.arch == "gemma3":
            return self.key("rope.freq_base_swa", 10000.0) ** (-pair / self.n_rot), 1.0
        kind = self.key("rope.scaling.type", "linear")               # "none" scales nothing
        factor = self.key("rope.scaling.factor", self.key("rope.scale_linear", 0.0)) or 1.0
        if kind == "none":
            factor = 1.0
        angle = base ** (-pair / self.n_rot)
        if kind == "yarn":
            angle, size = self.yarn(angle, base, factor)
        else:
            angle, size = angle / factor, 1.0
        divisor = self.frequency_divisors()
        if divisor is not None:
            angle = angle / divisor
        return angle, size * self.key("rope.scaling.attn_factor", 1.0)

    def yarn(self, angle, base, factor):
        """Pairs that turn often within the original context keep their angle, those that turn less
        than beta_slow times are slowed by `factor`, a ramp between them (arXiv:2309.00071)."""
        original = self.key("rope.scaling.original_context_length", self.key("context_length"))

        def pair_turning(times):
            return self.n_rot * math.log(original / (times * 2 * math.pi)) / (2 * math.log(base))

        low = max(0, math.floor(pair_turning(self.key("rope.scaling.yarn_beta_fast", 32.0))))
        high = min(self.n_rot - 1,
                   math.ceil(pair_turning(self.key("rope.scaling.yarn_beta_slow", 1.0))))
        ramp = np.clip((np.arange(self.n_rot // 2) - low) / max(0.001, high - low), 0, 1)
        size = 1 + 0.1 * math.log(factor) if factor > 1 else 1.0
        return (angle * (1 - ramp) + angle / factor * ramp,
                self.key("rope.scaling.yarn_attn_factor", size))

    def frequency_divisors(self):
        """Llama 3.1's rope_freqs; or longrope's long factors for a session whose context exceeds
        the original one, and else the short ones. The choice is the session's, not the token's."""
        freqs = self.tensor("rope_freqs.weight")
        if freqs is not None:
            return freqs
        original = self.key("rope.scaling.original_context_length", self.key("context_length"))
        long = self.n_ctx > original
        return self.tensor(f"rope_factors_{'long' if long else 'short'}.weight")


# ---- the steps ----------------------------------------------------------------------------------

def linear(m, name, x):
    """x W^T, and its bias where the file has one."""
    y = x @ m.tensor(name + ".weight").T
    bias = m.tensor(name + ".bias")
    return y if bias is None else y + bias


def norm(m, name, x):
    """Over the last axis. Gemma's weights have their 1 added in the file already."""
    weight, bias = m.tensor(name + ".weight"), m.tensor(name + ".bias")
    if m.family["norm"] == "layer":
        x = x - x.mean(-1, keepdims=True)
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + m.eps) * weight
    return y if bias is None else y + bias


def activation(kind, x):
    if kind == "silu":
        return x / (1 + np.exp(-x))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def softcap(x, cap):
    return cap * np.tanh(x / cap) if cap else x


def turn(m, x, angles):
    """RoPE on x [position][head][head size]; angles = (per position and pair, size)."""
    per_pair, size = angles
    theta = np.arange(x.shape[0])[:, None] * per_pair
    cos, sin = np.cos(theta)[:, None] * size, np.sin(theta)[:, None] * size
    half = m.n_rot // 2
    y = x.copy()
    if m.family["pairs"] == "next":
        a, b = slice(0, m.n_rot, 2), slice(1, m.n_rot, 2)
    else:
        a, b = slice(0, half), slice(half, m.n_rot)
    y[..., a] = x[..., a] * cos - x[..., b] * sin
    y[..., b] = x[..., a] * sin + x[..., b] * cos
    return y


def qkv(m, blk, x):
    """-> q, k, v, each [position][head][head size]. One tensor attn_qkv (rows of q, of k, of v) or
    three; any family may have either."""
    q_rows, kv_rows = m.n_head * m.head_k, m.n_head_kv * m.head_k
    if blk + "attn_qkv.weight" in m.tensors:
        q, k, v = np.split(linear(m, blk + "attn_qkv", x), [q_rows, q_rows + kv_rows], axis=1)
    else:
        q, k, v = (linear(m, blk + "attn_" + c, x) for c in "qkv")
    return (q.reshape(-1, m.n_head, m.head_k), k.reshape(-1, m.n_head_kv, m.head_k),
            v.reshape(-1, m.n_head_kv, m.head_v))


def attention(m, layer, x, kv_round):
    """x normed -> what attention adds to the residual, before sandwich norm and scale."""
    blk = f"blk.{layer}."
    local = m.is_local(layer)
    q, k, v = qkv(m, blk, x)
    if m.family["qk_norm"]:
        q, k = norm(m, blk + "attn_q_norm", q), norm(m, blk + "attn_k_norm", k)
    angles = m.rope_local if local else m.rope_global
    q, k = turn(m, q, angles), turn(m, k, angles)
    k, v = kv_round(k), kv_round(v)                    # what the cache holds

    shared = m.n_head // m.n_head_kv                   # query head h reads kv head h / shared
    k, v = np.repeat(k, shared, axis=1), np.repeat(v, shared, axis=1)
    scores = softcap(np.einsum("qhd,khd->hqk", q, k) * m.query_scale, m.attn_cap)
    back = np.arange(len(x))[:, None] - np.arange(len(x))[None, :]
    seen = (back >= 0) & (back < m.window) if local else back >= 0
    scores = np.where(seen, scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    out = np.einsum("hqk,khd->qhd", p, v).reshape(len(x), -1)
    return linear(m, blk + "attn_output", out)


def feed_forward(m, layer, x):
    """Gated where there is a ffn_gate, or where ffn_up has twice the rows: gate's, then up's."""
    blk, act = f"blk.{layer}.", m.family["act"]
    up = linear(m, blk + "ffn_up", x)
    if blk + "ffn_gate.weight" in m.tensors:
        up = activation(act, linear(m, blk + "ffn_gate", x)) * up
    elif up.shape[1] == 2 * m.key("feed_forward_length"):
        gate, up = np.split(up, 2, axis=1)
        up = activation(act, gate) * up
    else:
        up = activation(act, up)
    return linear(m, blk + "ffn_down", up)


def block(m, layer, x, kv_round):
    blk, scale = f"blk.{layer}.", m.residual_scale
    normed = norm(m, blk + "attn_norm", x)
    attn = attention(m, layer, normed, kv_round)
    if m.family["parallel"]:
        return x + attn + feed_forward(m, layer, normed)
    if m.family["sandwich"]:
        attn = norm(m, blk + "post_attention_norm", attn)
    x = x + attn * scale
    ffn = feed_forward(m, layer, norm(m, blk + "ffn_norm", x))
    if m.family["sandwich"]:
        ffn = norm(m, blk + "post_ffw_norm", ffn)
    return x + ffn * scale


def forward(m, tokens, kv_round=lambda x: x):
    """-> logits [position][n_vocab], float64."""
    x = m.tensor("token_embd.weight")[tokens] * m.embd_scale
    for layer in range(m.n_layer):
        x = block(m, layer, x, kv_round)
    x = norm(m, "output_norm", x)
    tied = "output.weight" not in m.tensors            # then the embeddings are the output matrix
    logits = x @ m.tensor("token_embd.weight").T if tied else linear(m, "output", x)
    return softcap(logits / m.logit_scale, m.final_cap)


# ---- comparison ---------------------------------------------------------------------------------

def round_f16(x):
    return x.astype(np.float16).astype(np.float64)


def round_q8_0(x):
    """Blocks of 32 along the head with an f16 scale; heads of other sizes in shorter blocks."""
    y = x.copy()
    for at in range(0, x.shape[-1], 32):
        part = x[..., at:at + 32]
        scale = np.abs(part).max(-1, keepdims=True) / 127
        scale = np.where(scale == 0, 1, scale)
        y[..., at:at + 32] = np.round(part / scale) * round_f16(scale)
    return y


KV = {"f32": (lambda x: x, 1e-4), "f16": (round_f16, 1e-2), "q8_0": (round_q8_0, None)}


def compare(run, models, kv):
    """-> (largest error / spread, share of equal top tokens, top tokens wrongly different)"""
    rounding, limit = KV[kv]
    want = np.fromfile(os.path.join(HERE, run["logits"]), "<f4").astype(np.float64)
    want = want.reshape(run["n_pos"], run["n_vocab"])
    m = Model(os.path.join(models, run["model"]), run["n_ctx"])
    got = forward(m, run["tokens"], rounding)
    best = np.sort(want, axis=1)[:, -2:]
    clear = best[:, 1] - best[:, 0] > 2 * (limit or 0) * run["spread"]
    same = got.argmax(1) == want.argmax(1)
    return np.abs(got - want).max() / run["spread"], same.mean(), int((clear & ~same).sum())


def main(args):
    kv = "f32"
    if "--kv" in args:
        at = args.index("--kv")
        kv = args[at + 1]
        del args[at:at + 2]
    if not args or args[0].startswith("-") or kv not in KV:
        print(__doc__)
        return 2
    with open(os.path.join(HERE, "manifest.json")) as f:
        runs = [r for r in json.load(f)["runs"] if not args[1:] or r["name"] in args[1:]]
    failed, limit = 0, KV[kv][1]
    print(f"{'run':22} {'error/spread':>12} {'same top':>9}   kv {kv}")
    for run in runs:
        error, same, wrong = compare(run, args[0], kv)
        bad = limit is not None and (not error <= limit or wrong > 0)
        failed += bad
        print(f"{run['name']:22} {error:12.2e} {same:9.1%}{'   FAILED' if bad else ''}")
    return 1 if failed or not runs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
