#!/usr/bin/env python3
"""Hyper-parameters, RoPE tables and tensors of the golden models, as the model room reads them,
against tests/golden/forward.py, which reads the same files by itself.

    python3 plan_oracle.py PLAN MODELS

PLAN is build/tests/plan. MODELS is a folder of the golden models; where it has none, models.py
writes them there. Exit 77: gguf or numpy are not there.
"""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(os.path.dirname(HERE), "golden")
sys.path.insert(0, GOLDEN)

try:
    import numpy as np
    import forward
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

EXACT = ("arch", "n_layer", "n_embd", "n_head", "n_head_kv", "head_k", "head_v", "n_rot", "window")
CLOSE = ("eps", "embd_scale", "residual_scale", "logit_scale", "query_scale", "attn_cap",
         "final_cap")


def differences(plan, m, run):
    for key in EXACT:
        if plan[key] != getattr(m, key):
            yield f"{key} is {plan[key]}, expected {getattr(m, key)}"
    for key in CLOSE:
        if not np.isclose(plan[key], getattr(m, key), rtol=2e-7, atol=0):
            yield f"{key} is {plan[key]!r}, expected {getattr(m, key)!r}"
    if plan["n_vocab"] != run["n_vocab"]:
        yield f"n_vocab is {plan['n_vocab']}, expected {run['n_vocab']}"
    local = [int(m.is_local(i)) for i in range(m.n_layer)]
    if plan["local"] != local:
        yield f"local is {plan['local']}, expected {local}"
    for key in ("rope_global", "rope_local"):
        freq, scale = getattr(m, key)
        if len(freq) != len(plan[key]["freq"]) or \
                not np.allclose(plan[key]["freq"], freq, rtol=1e-7, atol=0):
            yield f"{key}'s frequencies are {plan[key]['freq']}, expected {list(freq)}"
        if not np.isclose(plan[key]["scale"], scale, rtol=3e-7, atol=0):
            yield f"{key}'s scale is {plan[key]['scale']}, expected {scale}"
    size = sum(int(t.n_bytes) for t in m.tensors.values())
    if plan["weights"] != size or plan["unused"] != 0:
        yield f"{plan['weights']} bytes, {plan['unused']} tensors left; expected {size} and 0"
    kv = 2 * m.n_layer * m.n_head_kv * (m.head_k + m.head_v)
    if plan["kv"] != kv:
        yield f"{plan['kv']} bytes of KV a token, expected {kv}"
    if plan["tied"] != int("output.weight" not in m.tensors):
        yield f"tied is {plan['tied']}"
    if plan["qkv_fused"] != int("blk.0.attn_qkv.weight" in m.tensors):
        yield f"qkv_fused is {plan['qkv_fused']}"


def main(args):
    if len(args) != 2:
        print(__doc__)
        return 2
    tool, models = args
    with open(os.path.join(GOLDEN, "manifest.json")) as f:
        runs = json.load(f)["runs"]
    if not all(os.path.exists(os.path.join(models, run["model"])) for run in runs):
        os.makedirs(models, exist_ok=True)
        subprocess.run([sys.executable, os.path.join(GOLDEN, "models.py"), models], check=True,
                       stdout=subprocess.DEVNULL)
    failed = 0
    for run in runs:
        path = os.path.join(models, run["model"])
        said = subprocess.run([tool, path, str(run["n_ctx"])], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        if said.returncode != 0:
            problems = [said.stderr.strip()]
        else:
            problems = list(differences(json.loads(said.stdout),
                                        forward.Model(path, run["n_ctx"]), run))
        print(f"{run['name']:22} {'FAILED' if problems else 'same'}")
        for p in problems:
            print(f"    {p}")
        failed += bool(problems)
    return 1 if failed or not runs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
