#!/usr/bin/env python3
"""The templates that we bring for files without one, against the makers' own of the same family.

  family_oracle.py RENDER DIR

A row says on which conversations they must agree: elsewhere the makers put in what is one model's alone
(dates, a default system text, thinking). Also: Jinja2 and we render ours the same, and take any conversation.
Exit status 77: no jinja2 here."""
import json
import pathlib
import subprocess
import sys

from jinja_oracle import Ours, conversations, flag_sets, oracle

S, A, B, C = ({"role": r, "content": c} for r, c in (("system", "Be terse."), ("user", "Hi,  there"), ("assistant", "Yes?"), ("user", "Why\n*not*?")))
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
ALL = [[A], [S, A], [A, B, C], [S, A, B, C]]
SYSTEM, NO_SYSTEM = [c for c in ALL if S in c], [c for c in ALL if S not in c]
REAL = {  # family: (file, conversations, generation prompt too, what to leave out of theirs)
    "chatml": [("Qwen-Qwen3-0.6B", ALL, True, ""), ("Qwen3-Coder", SYSTEM, True, "")],
    "llama3": [("meta-llama-Llama-3.1-8B-Instruct", SYSTEM, True, DATES), ("meta-llama-Llama-3.3-70B-Instruct", SYSTEM, True, DATES)],
    "kimi": [("Kimi-K2-Instruct", SYSTEM, True, "")],
    "gemma": [("google-gemma-2-2b-it", NO_SYSTEM, True, "")],
    "granite": [("ibm-granite-granite-3.3-2B-Instruct", SYSTEM, True, ""), ("ibm-granite-granite-4.0", SYSTEM, True, "")],
    "deepseek": [("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", ALL, False, "")],
    "mistral-v7": [("unsloth-mistral-Devstral-Small-2507", SYSTEM, True, "")],
    "mistral-tekken": [("mistralai-Mistral-Nemo-Instruct-2407", ALL, True, "")],
    "glm4": [("GLM-4.6", [[A], [S, A]], True, "")],
    "phi3": [("microsoft-Phi-3.5-mini-instruct", ALL, True, "")],
    "seed": [("ByteDance-Seed-OSS", ALL, True, "")],
    "minimax": [("MiniMax-M2", SYSTEM, True, "")],
}


def main():
    render, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    ours = Ours(render)
    families = json.loads(subprocess.run([render, "families"], stdout=subprocess.PIPE, check=True).stdout)
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    wrong = 0
    for name, source in families.items():
        same = total = agreed = 0
        for _, messages in conversations():
            for _, flags in flag_sets():
                v = {**flags, **tokens, "messages": [{k: m.get(k) for k in ("role", "content")} for m in messages if isinstance(m.get("content", ""), (str, list)) and "role" in m]}
                want, why = oracle(source, v)
                got, error = ours.render(source, v)
                total += 1
                same += want == got and want is not None
                if want != got and wrong < 10:
                    print(f"WRONG {name}: jinja2 {want or why!r}, ours {got or error!r}")
                wrong += want != got or want is None
        pairs = REAL.get(name, []) if directory.is_dir() else []
        for file, convs, prompt, without in pairs:
            theirs = (directory / (file + ".jinja")).read_text(encoding="utf-8")
            for messages in convs:
                v = {**tokens, "messages": messages, "add_generation_prompt": prompt}
                want = (oracle(theirs, v)[0] or "").replace(without, "")
                got, error = ours.render(source, v)
                agreed += want == got
                wrong += want != got
                if want != got:
                    print(f"WRONG {name} against {file}: theirs {want!r}, ours {got or error!r}")
        print(f"{name:15} as jinja2 {same}/{total}; " + (f"as its makers' {agreed}/{sum(len(c) for _, c, _, _ in pairs)}" if pairs else "no template here to compare with"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
