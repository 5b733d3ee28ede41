#!/usr/bin/env python3
"""Makes the golden logits: Hugging Face transformers on the models of models.py.

    python3 models.py --new OUT && python3 reference.py OUT [RUN ...]

For each run it builds the family's model from the row's configuration, loads the weights of the
GGUF file (dequantised, the converter's permutation and the +1 of gemma's norms undone), runs the
tokens in one forward pass with eager attention, and writes NAME.logits beside this script and
manifest.json. The model runs in float64; transformers itself holds some steps (RoPE's angles, the
softmax, RMS norms) in float32. A float32 pass is made too and its distance is printed.

Needs torch and transformers; see README.md for the versions. Everything else in this folder needs
neither.
"""
import json
import os
import platform
import sys

import numpy as np
import gguf
import torch
import transformers

import models

HERE = os.path.dirname(os.path.abspath(__file__))

CLASSES = {                                            # architecture: (config, model)
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    "phi3": ("Phi3Config", "Phi3ForCausalLM"),
    "phi2": ("PhiConfig", "PhiForCausalLM"),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM"),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
    "granite": ("GraniteConfig", "GraniteForCausalLM"),
}

TOP = {                                                # GGUF tensor: parameter in transformers
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
FAMILY = {                                             # where a family's names differ
    "phi3": {"ffn_up": "mlp.gate_up_proj"},
    "phi2": {"output_norm": "model.final_layernorm", "attn_output": "self_attn.dense",
             "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"},
    "gemma2": {"post_attention_norm": "post_attention_layernorm",
               "ffn_norm": "pre_feedforward_layernorm",
               "post_ffw_norm": "post_feedforward_layernorm"},
}
FAMILY["gemma3"] = FAMILY["gemma2"]


def to_gguf_rows(w, heads):
    """Conversion of q and k for families whose RoPE turns neighbours: rows i and i + half of each
    head, which transformers turns together, become rows 2i and 2i + 1."""
    half = w.shape[0] // heads // 2
    return w.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(w.shape)


def from_gguf_rows(w, heads):
    half = w.shape[0] // heads // 2
    out = w.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(w.shape)
    assert np.array_equal(to_gguf_rows(out, heads), w)
    return out


def parameters(m, path):
    """Yields (name in transformers, float64 array) for each tensor of the file."""
    arch, hf = m["arch"], m["hf"]
    for t in gguf.GGUFReader(path).tensors:
        if t.name.startswith("rope_f"):                # made from the configuration there
            continue
        base, _, kind = t.name.rpartition(".")
        w = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
        part = base.split(".")[-1]
        if arch in ("llama", "granite") and part == "attn_q":
            w = from_gguf_rows(w, hf["num_attention_heads"])
        if arch in ("llama", "granite") and part == "attn_k":
            w = from_gguf_rows(w, hf["num_key_value_heads"])
        if arch in ("gemma2", "gemma3") and part.endswith("norm"):
            w = w - 1.0
        name = FAMILY.get(arch, {}).get(part) or {**TOP, **LAYER}[part]
        prefix = f"model.layers.{base.split('.')[1]}." if base.startswith("blk.") else ""
        if arch == "phi2" and part == "attn_qkv":
            size = hf["hidden_size"]
            for i, p in enumerate("qkv"):
                yield f"{prefix}self_attn.{p}_proj.{kind}", w[i * size:(i + 1) * size]
        else:
            yield f"{prefix}{name}.{kind}", w


def build(m, path):
    config_class, model_class = CLASSES[m["arch"]]
    if m["arch"] == "llama" and "sliding_window" in m["hf"]:
        config_class, model_class = "MistralConfig", "MistralForCausalLM"
    hf = json.loads(json.dumps(m["hf"]))
    hf.setdefault("tie_word_embeddings", m["arch"] in models.TIED)
    config = getattr(transformers, config_class)(
        **hf, pad_token_id=None, bos_token_id=1, eos_token_id=2, attn_implementation="eager")
    model = getattr(transformers, model_class)(config).to(torch.float64).eval()
    state = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in parameters(m, path)}
    loaded = model.load_state_dict(state, strict=False)
    allowed = {"lm_head.weight"} if hf["tie_word_embeddings"] else set()
    assert not loaded.unexpected_keys and set(loaded.missing_keys) <= allowed, loaded
    model.tie_weights()
    return model


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].to(torch.float64).numpy()


def make(m, suffix, n_ctx, n_pos, folder):
    """One run -> its row of the manifest; writes its logits."""
    path = os.path.join(folder, m["name"] + ".gguf")
    name, tokens = m["name"] + suffix, models.run_tokens(m, suffix, n_pos)
    model = build(m, path)
    logits = logits_of(model, tokens)
    single = logits_of(model.to(torch.float32), tokens)
    spread = float(logits.max() - logits.min())
    top = np.sort(logits, axis=1)[:, -2:]
    print(f"{name:22} spread {spread:6.2f} std {logits.std():5.2f}  f32 pass off by "
          f"{np.abs(single - logits).max() / spread:.1e}  median gap of the best two "
          f"{np.median(top[:, 1] - top[:, 0]) / spread:.1%}")
    logits.astype("<f4").tofile(os.path.join(HERE, name + ".logits"))
    return dict(name=name, arch=m["arch"], model=m["name"] + ".gguf", sha256=models.sha256(path),
                logits=name + ".logits", n_ctx=n_ctx, n_vocab=m["hf"]["vocab_size"], n_pos=n_pos,
                spread=spread, std=float(logits.std()),
                types=[t.name for t in m["types"]], tokens=tokens)


def main(args):
    if not args or args[0].startswith("-"):
        print(__doc__)
        return 2
    torch.manual_seed(0)
    torch.set_num_threads(1)
    manifest = os.path.join(HERE, "manifest.json")
    old = {}
    if args[1:] and os.path.exists(manifest):
        with open(manifest) as f:
            old = {r["name"]: r for r in json.load(f)["runs"]}
    rows = []
    for m in models.MODELS:
        for suffix, n_ctx, n_pos in m["runs"]:
            name = m["name"] + suffix
            if args[1:] and name not in args[1:]:
                rows += [old[name]] if name in old else []
            else:
                rows.append(make(m, suffix, n_ctx, n_pos, args[0]))
    head = {
        "what": "logits: float32 little-endian [n_pos][n_vocab]; spread: largest less smallest "
                "logit of the run; std: their standard deviation",
        "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
        "numpy": np.__version__, "python": platform.python_version(),
    }
    with open(manifest, "w") as f:
        body = ",\n".join("  " + json.dumps(r) for r in rows)
        f.write(json.dumps(head, indent=1)[:-2] + f',\n "runs": [\n{body}\n ]\n}}\n')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
