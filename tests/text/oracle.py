#!/usr/bin/env python3
"""Our tokenizer against others', on random texts.

  oracle.py BUILD_DIR pieces [N]   pre-tokenizers against Hugging Face tokenizers' (Oniguruma)
  oracle.py BUILD_DIR bpe [N]      small BPE vocabularies trained here, against tokenizers
  oracle.py BUILD_DIR spm [N]      small SentencePiece vocabularies trained here, against
                                   sentencepiece
  oracle.py BUILD_DIR ugm [N]      unigram vocabularies, against sentencepiece and tokenizers
  oracle.py BUILD_DIR wpm [N]      WordPiece vocabularies, against tokenizers

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
SCRIPTS = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+"
ASIAN = (r"[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f"
         r"\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+")
# Letters that have case, as DeepSeek's tokenizer.json lists them.
CASED = ("A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-"
         "\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-"
         "\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf"
         "\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-"
         "\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
         "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115"
         "\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e"
         "\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-"
         "\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
         "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-"
         "\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")
# Rows that share a row's expressions.
SAME = {
    "gpt-2": "phi-2 mpt olmo jais exaone4 trillion granite-docling gigachat a.x-4.0 mellum modern-bert roberta-bpe jina-es "
             "jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code",
    "smollm": "starcoder refact command-r codeshell exaone minerva-7b mellum2",
    "llama-bpe": "llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx smaug-bpe chatglm-bpe glm4",
    "qwen2": "deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
    "gpt-4o": "llama4 kanana2 talkie minimax-m2 granite-embed-multi-97m",
    "deepseek-v3": "hunyuan-dense joyai-llm",
    "tiny_aya": "cohere2moe",
    "bailingmoe": "bailingmoe2 llada-moe",
    "bloom": "poro-chat gpt3-finnish",
    "gemma4": "granite-embed-multi-311m sarvam-moe",
}
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
    "deepseek-llm": [r"[\r\n]", r"\s?[" + CASED + "]+", r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
                     r"\s+$", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}+"],
    "youtu": [SCRIPTS, O200K.replace("{1,3}", "")],
    "afmoe": [r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", ASIAN, DEEPSEEK3],
    "default": [r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "falcon": [r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"],
    "chameleon": ["<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", r"[\t\n]|    |  ", r"\p{N}", r"[\p{P}!-/:-@\[-`{-~]", GPT2],
    "gemma4": [r"[^\n]+|[\n]+"],
    "whitespace": [r"\S+"],
    "viking": [r" ?[^(\s|[.,!?…。，、।۔،])]+", r"\p{N}"],
}

PIECES.update({name: PIECES[row] for row, names in SAME.items() for name in names.split()})


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
    names = subprocess.run([build / "tests" / "tokens", "-", "rows"], capture_output=True, check=True).stdout.decode().split()
    print("rows without an oracle:", " ".join(sorted(set(names) - set(PIECES))))
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
    for key, value in keys.pop("bools", {}).items():
        w.add_bool(key, value)
    for key, value in keys.items():
        if value is not None:
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


def unigram_of(p, charsmap):
    """The same model as Hugging Face's converter makes it."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    vocab = [(p.id_to_piece(i), p.get_score(i)) for i in range(p.get_piece_size())]
    t = Tokenizer(models.Unigram(vocab, p.unk_id()))
    steps = [normalizers.Precompiled(charsmap)] if charsmap else []
    t.normalizer = normalizers.Sequence(steps + [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    t.decoder = decoders.Metaspace()
    return t


def charsmap_of(model):
    from sentencepiece import sentencepiece_model_pb2 as pb
    proto = pb.ModelProto()
    proto.ParseFromString(model)
    return proto.normalizer_spec.precompiled_charsmap


def best_sum(p, ids):
    """What SentencePiece maximises; unknown ones cost what it says."""
    least = min(p.get_score(i) for i in range(p.get_piece_size())
                if not (p.is_control(i) or p.is_unknown(i) or p.is_byte(i)))
    return sum(p.get_score(i) if i != p.unk_id() else least - 10 for i in ids)


def check_ugm(build, n):
    import sentencepiece
    bad = 0
    corpus = [x for x in training_text().split("\n") if x]
    for size, extra in ((2000, {}), (3000, {"normalization_rule_name": "nmt_nfkc_cf", "split_digits": True}),
                        (2500, {"add_dummy_prefix": False, "remove_extra_whitespaces": False}),
                        (2500, {"remove_extra_whitespaces": False, "normalization_rule_name": "identity"}),
                        (2500, {"byte_fallback": True}),
                        (2500, {"split_by_whitespace": False, "normalization_rule_name": "nfkc"})):
        settings = dict(normalization_rule_name="nmt_nfkc", character_coverage=0.98)
        settings.update(extra)
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_writer=model, vocab_size=size, model_type="unigram",
            minloglevel=2, **settings)
        p = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        charsmap = charsmap_of(model.getvalue())
        ids = range(p.get_piece_size())
        types = [2 if p.is_unknown(i) else 3 if p.is_control(i) else 6 if p.is_byte(i) else 1 for i in ids]
        with tempfile.TemporaryDirectory() as d:
            path = pathlib.Path(d) / "ugm.gguf"
            write_gguf(path, "t5", None, [p.id_to_piece(i) for i in ids], [p.get_score(i) for i in ids], types,
                       None, add_space_prefix=extra.get("add_dummy_prefix", True), unk_token_id=p.unk_id(),
                       remove_extra_whitespaces=settings.get("remove_extra_whitespaces", True),
                       precompiled_charsmap=charsmap or None)
            texts = [t for t in random_texts(str(extra), n) + corpus if "\u2581" not in t]
            want = [p.encode(t) for t in texts]
            got = ours(build, [path, "ids"], texts)
            # Of equally good cuttings, which one is found is a matter of rounding.
            ties = [i for i, t in enumerate(texts) if got[i] != want[i] and p.decode(got[i]) == p.decode(want[i]) and
                    abs(best_sum(p, got[i]) - best_sum(p, want[i])) < 1e-3]
            print(f"  {len(ties)} ties")
            for i in ties:
                want[i] = got[i]
            bad += compare(f"ugm {size} {extra} sentencepiece", texts, got, want)
            if not set(extra) - {"normalization_rule_name", "split_digits"}:
                # Hugging Face normalises whole grapheme clusters, SentencePiece the longest texts it knows.
                t = unigram_of(p, charsmap)
                same = [i for i, x in enumerate(texts) if "\u2581" + t.normalizer.normalize_str(x).replace(" ", "\u2581")
                        == p.normalize(x)]
                theirs = [e.ids for e in t.encode_batch([texts[i] for i in same], add_special_tokens=False)]
                bad += compare(f"ugm {size} {extra} tokenizers", [texts[i] for i in same], [got[i] for i in same], theirs)
    return bad


WHITE = {9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
IDEOGRAPHS = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
              (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]


def bert_words(c):
    """What becomes of "a" + c + "b", by BERT's rules and this Python's Unicode tables."""
    kind = unicodedata.category(c)
    if c in "\0\ufffd" or c not in "\t\n\r" and kind in ("Cc", "Cf", "Co", "Cs"):
        return ["ab"]
    if ord(c) in WHITE:
        return ["a", "b"]
    out = "".join(x for x in unicodedata.normalize("NFD", c) if unicodedata.category(x) != "Mn").lower()
    if any(low <= ord(c) <= high for low, high in IDEOGRAPHS):
        return ["a", out, "b"]
    words = ["a"]
    for x in out:
        sign = unicodedata.category(x)[0] == "P" or x in "$+<=>^`|~"
        words += [x, ""] if sign else []
        words[-1] += "" if sign else x
    words[-1] += "b"
    return words


def newer_characters():
    """Those that Hugging Face's Unicode tables take for something else, being older, or Python's do not know."""
    from tokenizers import normalizers, pre_tokenizers
    normal, cut = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    known = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    return {c for c in known if unicodedata.category(c) == "Cn" or
            [w for w, _ in cut.pre_tokenize_str(normal.normalize_str("a" + c + "b"))] != bert_words(c)}


def check_wpm(build, n):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    bad = 0
    corpus = training_text().split("\n")
    newer = newer_characters()
    print(f"  {len(newer)} characters are left out: newer than some library")
    characters = [chr(c) for c in range(1, 0x110000, 1 if n > 10000 else 5) if not 0xD800 <= c < 0xE000]
    for size, lower, strip in ((2000, True, None), (3000, False, None), (3000, True, False), (2500, False, True)):
        t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        t.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=strip)
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        t.train_from_iterator(corpus, trainers.WordPieceTrainer(
            vocab_size=size, show_progress=False, special_tokens=special))
        vocab = sorted(t.get_vocab(True).items(), key=lambda x: x[1])
        texts = random_texts(str((lower, strip)), n) + [x for x in corpus if x] + ["a" + c + "b" for c in characters]
        texts = [x for x in texts if "\0" not in x and not newer & set(x)]
        want = [e.ids for e in t.encode_batch(texts)]
        types = [3 if k in special else 1 for k, _ in vocab]
        for phantom in (True, False):
            tokens = [k if not phantom or k in special else k[2:] if k.startswith("##") else "\u2581" + k
                      for k, _ in vocab]
            with tempfile.TemporaryDirectory() as d:
                path = pathlib.Path(d) / "wpm.gguf"
                keys = {} if strip is None else {"tokenizer.ggml.normalizer.strip_accents": strip}
                keys["tokenizer.ggml.normalizer.lowercase"] = lower
                write_gguf(path, "bert", "bert", tokens, [0.0] * len(vocab), types, None, unk_token_id=1,
                           bos_token_id=2, sep_token_id=3, pad_token_id=0, bools=keys)
                bad += compare(f"wpm {size} lower {lower} strip {strip} {'phantom' if phantom else '##'}", texts,
                               ours(build, [path, "ids", "parse"], texts), want)
    return bad


def main():
    checks = {"pieces": check_pieces, "bpe": check_bpe, "spm": check_spm, "ugm": check_ugm, "wpm": check_wpm}
    if len(sys.argv) < 3 or sys.argv[2] not in checks:
        sys.exit(__doc__)
    try:
        import gguf, sentencepiece, tokenizers  # noqa: F401, E401
    except ImportError as e:
        print(e)
        sys.exit(77)
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 3000
    sys.exit(1 if checks[sys.argv[2]](pathlib.Path(sys.argv[1]).resolve(), count) else 0)


if __name__ == "__main__":
    main()
