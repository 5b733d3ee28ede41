#!/usr/bin/env python3
"""Our tokenizer against others', on random texts.

  oracle.py BUILD_DIR pieces [N]   pre-tokenizers against Hugging Face tokenizers' (Oniguruma)
  oracle.py BUILD_DIR bpe [N]      small BPE vocabularies trained here, against tokenizers
  oracle.py BUILD_DIR spm [N]      small SentencePiece vocabularies trained here, against
                                   sentencepiece

Needs the PyPI packages tokenizers, sentencepiece, gguf; takes about a minute. Texts hold only code
points that this Python's Unicode tables know, as newer ones differ between libraries.
"""
import io
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

# What the models' tokenizer.json say: a list of (behaviour, regular expression) by the name in
# tokenizer.ggml.pre. "isolated": a match is a piece.
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + CONTRACTION +
         r"?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + CONTRACTION +
         r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
             r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
KIMI_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
PIECES = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [LLAMA3],
    "qwen2": [LLAMA3.replace("{1,3}", "")],
    "qwen35": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "gpt-4o": [O200K],
    "tekken": [O200K.replace(CONTRACTION + "?", "").replace("{1,3}", "")],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", O200K],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
                   r"|\s*[\r\n]|\s+(?!\S)|\s+"],
    "exaone-moe": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
                   r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"],
    "seed-coder": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}" "\r\n" r"]+|\s*[" "\r\n"
                   r"]+|\s+(?!\S)|\s+"],
    "kimi-k2": [r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?" + KIMI_UPPER + "*" + KIMI_LOWER + "+" + CONTRACTION +
                r"?|[^\r\n\p{L}\p{N}]?" + KIMI_UPPER + "+" + KIMI_LOWER + "*" + CONTRACTION +
                r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "minicpm5": [r"\p{N}{1,3}", LLAMA3.replace("{1,3}", "+")],
    "laguna": [r"[^\n]+|[\n]+", LLAMA3.replace("{1,3}", "")],
    "jais-2": [LLAMA3[:LLAMA3.index(r"|\s+(?!\S)")] +
               "".join(r"|\s{%d}(?!\S)" % (1 << k) for k in range(9, 1, -1)) + r"|\s{1,2}(?!\S)|\s{1}"],
    "bloom": [r" ?[^(\s|[.,!?…。，、।۔،])]+"],
    "viking": [r" ?[^(\s|[.,!?…。，、।۔،])]+", r"\p{N}"],
}


def character(rng):
    """One character, or a few that go together, the odd ones more often than in texts."""
    r = rng.random()
    if r < 0.5:
        return rng.choice("  \n\r\t''stdmrvelainohe019AaZz.,(<|>\u00a0\u3000\u0085_-/")
    if r < 0.7:
        return chr(rng.randint(32, 126))
    if r < 0.85:
        return rng.choice([" the", " and", "ing", " I'm", " don't", " DON'T", "1234567", " 42", "    ", "\n\n", "\r\n"])
    low, high = rng.choice([(0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
                            (0x1F300, 0x1F6FF), (0x3040, 0x30FF), (0x600, 0x6FF), (0x900, 0x97F), (0x2000, 0x206F),
                            (1, 0xFFFF), (0x10000, 0x1FFFF)])
    while True:
        c = chr(rng.randint(low, high))
        if unicodedata.category(c) not in ("Cn", "Cs"):
            return c


def random_texts(seed, n):
    rng = random.Random(seed)
    return ["".join(character(rng) for _ in range(rng.randint(1, 60))) for _ in range(n)]


def ours(build, arguments, texts):
    data = "".join(t + "\0" for t in texts).encode()
    run = subprocess.run([build / "tests" / "tokens", *arguments], input=data, capture_output=True, check=False)
    if run.returncode:
        sys.exit("tokens " + " ".join(map(str, arguments)) + ": " + run.stderr.decode())
    return [[int(x) for x in line.split()] for line in run.stdout.decode().split("\n")[:-1]]


def compare(what, texts, got, want):
    """Prints the first difference and the count; gives the count."""
    bad = [i for i, t in enumerate(texts) if got[i] != want[i]]
    print(f"{what}: {len(texts)} texts, {len(bad)} differ")
    for i in bad[:2]:
        print(f"  {ascii(texts[i])}\n  ours   {got[i]}\n  theirs {want[i]}")
    return len(bad)


def check_pieces(build, n):
    from tokenizers import Regex, pre_tokenizers
    bad = 0
    for name, expressions in PIECES.items():
        split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(x), "isolated") for x in expressions])
        texts = random_texts(name, n)
        want = [[len(p.encode()) for p, _ in split.pre_tokenize_str(t) if p] for t in texts]
        bad += compare(name, texts, ours(build, [name, "pieces"], texts), want)
    return bad


def training_text():
    files = sorted(pathlib.Path("/usr/share/common-licenses").glob("*"))
    text = "\n".join(f.read_text(errors="ignore") for f in files if f.is_file())
    return text + "\n".join(random_texts("training", 2000)).replace("\0", "")


def write_gguf(path, model, pre, tokens, scores, types, merges, **keys):
    from gguf import GGUFWriter
    w = GGUFWriter(path, "llama")
    w.add_tokenizer_model(model)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    if merges is not None:
        w.add_token_merges(merges)
    for key, value in keys.items():
        getattr(w, "add_" + key)(value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def check_bpe(build, n):
    import json
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    bad = 0
    corpus = training_text().split("\n")
    for name, size in (("gpt-2", 700), ("llama-bpe", 4000), ("gpt-4o", 3000), ("deepseek-v3", 2000), ("superbpe", 2000)):
        t = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
        t.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(x), "isolated") for x in PIECES[name]] +
            [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        t.train_from_iterator(corpus, trainers.BpeTrainer(
            vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        t.add_tokens([AddedToken("<user>", normalized=False), AddedToken("  \n", normalized=False)])
        t.add_special_tokens(["<|im_start|>", "<|im_end|>"])
        file = json.loads(t.to_str())["model"]
        vocab = sorted(t.get_vocab(True).items(), key=lambda x: x[1])
        types = [4 if k in ("<user>", "  \n") else 3 if k.startswith("<|im_") else 1 for k, _ in vocab]
        merges = [m if isinstance(m, str) else " ".join(m) for m in file["merges"]]
        with tempfile.TemporaryDirectory() as d:
            path = pathlib.Path(d) / "bpe.gguf"
            write_gguf(path, "gpt2", name, [k for k, _ in vocab], [0.0] * len(vocab), types, merges, add_bos_token=False)
            rng = random.Random(name)
            texts = [x.replace("x", rng.choice(["x", "<user>", "<|im_end|>", "  \n"])) for x in random_texts(name, n)]
            texts += [x for x in corpus if x]
            want = [e.ids for e in t.encode_batch(texts)]
            bad += compare(f"bpe {name} {len(vocab)}", texts, ours(build, [path, "ids", "parse"], texts), want)
    return bad


def check_spm(build, n):
    import sentencepiece
    bad = 0
    corpus = [x for x in training_text().split("\n") if x]
    for size, extra in ((2200, {}), (4000, {"add_dummy_prefix": False}), (3000, {"remove_extra_whitespaces": True}),
                        (2500, {"user_defined_symbols": ["<user>", "==>"]}), (3000, {"byte_fallback": False})):
        settings = dict(byte_fallback=True, remove_extra_whitespaces=False, normalization_rule_name="identity",
                        character_coverage=0.98, allow_whitespace_only_pieces=True, split_digits=True)
        settings.update(extra)
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_writer=model, vocab_size=size, model_type="bpe",
            minloglevel=2, **settings)
        p = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        ids = range(p.get_piece_size())
        types = [2 if p.is_unknown(i) else 3 if p.is_control(i) else 6 if p.is_byte(i) else
                 4 if p.id_to_piece(i) in extra.get("user_defined_symbols", []) else 1 for i in ids]
        with tempfile.TemporaryDirectory() as d:
            path = pathlib.Path(d) / "spm.gguf"
            write_gguf(path, "llama", None, [p.id_to_piece(i) for i in ids], [p.get_score(i) for i in ids], types,
                       None, add_space_prefix=extra.get("add_dummy_prefix", True),
                       remove_extra_whitespaces=settings["remove_extra_whitespaces"])
            texts = [t for t in random_texts(str(extra), n) + corpus if "\u2581" not in t]
            want = [p.encode(t) for t in texts]
            bad += compare(f"spm {size} {extra}", texts, ours(build, [path, "ids"], texts), want)
    return bad


def main():
    checks = {"pieces": check_pieces, "bpe": check_bpe, "spm": check_spm}
    if len(sys.argv) < 3 or sys.argv[2] not in checks:
        sys.exit(__doc__)
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 3000
    sys.exit(1 if checks[sys.argv[2]](pathlib.Path(sys.argv[1]).resolve(), count) else 0)


if __name__ == "__main__":
    main()
