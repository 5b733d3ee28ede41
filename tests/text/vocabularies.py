#!/usr/bin/env python3
"""Our tokenizer against others' with the vocabularies of real models, on random texts.

  vocabularies.py BUILD_DIR shared [N [NAME]]
                                         the six of ../shared/data/tokenizers, against tokenizers and
                                         sentencepiece made from the same tokens, merges and scores
  vocabularies.py BUILD_DIR npm [N [NAME]]
                                         Llama 3, Llama 2, cl100k and o200k as npm has them, against
                                         the packages' own JavaScript and tokenizers

N texts a vocabulary; 100000 takes a few minutes each. npm packages go to BUILD_DIR/tests/npm. Exits
with 77 where the data, node or npm is missing.
"""
import base64
import json
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

import oracle

SHARED = pathlib.Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "tokenizers"
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)


def read_keys(path):
    """The keys of a GGUF file; the package's own reader takes seconds for a vocabulary."""
    data, at = path.read_bytes(), 24

    def number(code):
        nonlocal at
        at += struct.calcsize(code)
        return struct.unpack_from("<" + code, data, at - struct.calcsize(code))[0]

    def value(kind):
        nonlocal at
        if kind == 8:
            n = number("Q")
            at += n
            return data[at - n:at].decode(errors="surrogateescape")
        if kind == 9:
            kind, n = number("I"), number("Q")
            return [value(kind) for _ in range(n)]
        return number("BbHhIif?..Qqd"[kind])
    count = struct.unpack_from("<Q", data, 16)[0]
    return {value(8): value(number("I")) for _ in range(count)}


class Vocabulary:
    def __init__(self, path):
        keys = read_keys(path)
        get = lambda key, default=None: keys.get("tokenizer.ggml." + key, default)
        self.path = path
        self.model, self.pre = get("model"), get("pre", "default")
        self.tokens, self.types = get("tokens"), get("token_type")
        self.merges, self.scores = get("merges"), get("scores")
        self.fim = {t for t in self.tokens if "fim" in t and t[0] == "<"}  # control, whatever the file says

    def of_type(self, *types):
        return [t for t, k in zip(self.tokens, self.types) if k in types]


def texts_for(vocabulary, n, extra=()):
    """Random texts, some with pieces of the vocabulary in them: these merge more."""
    rng = random.Random(str(vocabulary.path.name))
    plain = [t.replace("\u2581", " ") for t in vocabulary.of_type(NORMAL) if "\u0120" not in t and len(t) > 2]
    special = [t for t in vocabulary.of_type(CONTROL, USER, UNKNOWN) if len(t) > 1 and "\u2581" not in t]
    out = []
    for text in oracle.random_texts(str(vocabulary.path.name), n - n // 10):
        kind = rng.random()
        if kind < 0.3:
            text = "".join(rng.choice([text[i:i + 3], rng.choice(plain)]) for i in range(0, len(text), 3))
        elif kind < 0.4 and special:
            text = rng.choice(special).join([text[:7], text[7:20], text[20:]])
        out.append(text)
    for _ in range(n // 10):  # long runs and near repeats, where merges race
        unit = rng.choice([rng.choice(plain), oracle.character(rng), rng.choice("aA1 \n'-=") * 2])
        out.append((unit * 120)[:rng.randint(2, 150)] + oracle.character(rng))
    return [t for t in out if "\0" not in t and "\u2581" not in t and not set(extra) & set(t)]


def add_tokens(t, v, strip=()):
    from tokenizers import AddedToken
    control = {*v.of_type(CONTROL, UNKNOWN), *v.fim}
    make = lambda text: AddedToken(text, normalized=False, special=text in control, rstrip=text in strip)
    t.add_special_tokens([make(text) for text in v.tokens if text in control])
    t.add_tokens([make(text) for text in v.of_type(USER) if text not in control])


def byte_bpe(v):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    vocab = {t: i for i, t in reversed(list(enumerate(v.tokens)))}
    merges = [tuple(m.split(" ")) for m in v.merges]
    t = Tokenizer(models.BPE(vocab, merges, ignore_merges=v.pre == "llama-bpe"))
    steps = [pre_tokenizers.Split(Regex(x), "isolated") for x in oracle.PIECES[v.pre]]
    t.pre_tokenizer = pre_tokenizers.Sequence(
        steps + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    add_tokens(t, v)
    return t


def word_piece(v):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    bare = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    names = [t if t in bare or t.startswith("[unused") else t[1:] if t[0] == "\u2581" else "##" + t for t in v.tokens]
    t = Tokenizer(models.WordPiece({x: i for i, x in enumerate(names)}, unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.add_special_tokens(v.of_type(CONTROL, UNKNOWN))
    return t


def llama_bpe(v):
    """Llama as transformers converts it: the merges are all ways to cut a token in two that are there."""
    from tokenizers import Tokenizer, models, normalizers
    vocab = {t: i for i, t in enumerate(v.tokens)}
    merges = []
    for token, score in zip(v.tokens, v.scores):
        cuts = [(token[:k], token[k:]) for k in range(1, len(token)) if token[:k] in vocab and token[k:] in vocab]
        cuts.sort(key=lambda c: (vocab[c[0]], vocab[c[1]]))
        merges += [(score, c) for c in cuts] if v.types[vocab[token]] == NORMAL else []
    merges.sort(key=lambda m: -m[0])
    t = Tokenizer(models.BPE(vocab, [c for _, c in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    strip = set(v.of_type(CONTROL, USER, UNKNOWN)) - {"<unk>", "<s>", "<|endoftext|>"} if len(v.tokens) > 32000 else ()
    add_tokens(t, v, strip)
    return t


def sentence_piece(v):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    proto = pb.ModelProto()
    for text, score, kind in zip(v.tokens[:32000], v.scores, v.types):
        proto.pieces.add(piece=text, score=score, type=kind if kind != USER else CONTROL)
    proto.trainer_spec.model_type = pb.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.normalizer_spec.add_dummy_prefix = True
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = True
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def check_shared(build, n, name=""):
    if not SHARED.is_dir():
        return 77
    bad = 0
    makers = {"gpt2": byte_bpe, "bert": word_piece, "llama": llama_bpe}
    for path in sorted(p for p in SHARED.glob("*.gguf") if name in p.name):
        v = Vocabulary(path)
        newer = oracle.newer_characters() if v.model == "bert" else ()
        texts = texts_for(v, n, newer)
        got = oracle.ours(build, [path, "ids", "parse"], texts)
        want = [e.ids for e in makers[v.model](v).encode_batch(texts, add_special_tokens=False)]
        bad += oracle.compare(f"{path.stem} tokenizers", texts, got, want)
        if v.model == "llama":
            p = sentence_piece(v)
            bad += oracle.compare(f"{path.stem} sentencepiece", texts, oracle.ours(build, [path, "ids"], texts),
                                  [p.encode(t) for t in texts])
        if v.model != "bert" and "starcoder" not in path.name:  # starcoder's vocabulary lacks bytes
            bad += round_trip(build, v, texts, got)
    return min(bad, 1)


def round_trip(build, v, texts, ids):
    lines = "".join(" ".join(map(str, x)) + "\n" for x in ids)
    run = subprocess.run([build / "tests" / "tokens", v.path, "text"], input=lines.encode(), capture_output=True, check=True)
    back = run.stdout.decode().split("\0")[:-1]
    if v.model == "llama":  # a space stands before what follows a special token, as before a text
        special = v.of_type(CONTROL, UNKNOWN, USER)
        kept = [i for i, t in enumerate(texts) if not any(s in t for s in special)]
        texts, back = [texts[i] for i in kept], [back[i] for i in kept]
    return oracle.compare(f"{v.path.stem} round trip", texts, back, texts)


NODE = """
import fs from "node:fs";
import { Tiktoken } from "js-tiktoken/lite";
import llama3 from "llama3-tokenizer-js";
import llama from "llama-tokenizer-js";
const texts = fs.readFileSync(process.argv[3], "utf8").split("\\0").slice(0, -1);
let encode;
if (process.argv[2] === "llama3") encode = t => llama3.encode(t, { bos: false, eos: false });
else if (process.argv[2] === "llama") encode = t => llama.encode(t, false, true);
else {
  const rank = (await import("js-tiktoken/ranks/" + process.argv[2])).default;
  const t = new Tiktoken(rank);
  encode = x => t.encode(x, [], []);
}
if (texts.length) for (const t of texts) console.log(Array.from(encode(t)).join(" "));
else if (process.argv[2].startsWith("llama")) {
  const t = process.argv[2] === "llama" ? llama : llama3;
  const pairs = [...t.merges.entries()].sort((a, b) => a[1] - b[1]).map(x => x[0]);
  console.log(JSON.stringify({ vocab: t.vocabById, merges: pairs }));
} else console.log(JSON.stringify((await import("js-tiktoken/ranks/" + process.argv[2])).default));
"""


def node(where, name, texts):
    with tempfile.NamedTemporaryFile() as f:
        f.write("".join(t + "\0" for t in texts).encode())
        f.flush()
        run = subprocess.run(["node", where / "ask.mjs", name, f.name], capture_output=True, check=False)
    if run.returncode:
        sys.exit("node: " + run.stderr.decode())
    return run.stdout.decode()


def rank_merges(ranks):
    """tiktoken's ranks as merges: a token's two parts are what the tokens before it make of its bytes."""
    out = []
    for token, rank in sorted(ranks.items(), key=lambda x: x[1]):
        parts = [bytes([b]) for b in token]
        while len(parts) > 2:
            best = min(((ranks.get(parts[i] + parts[i + 1], rank), i) for i in range(len(parts) - 1)))
            if best[0] >= rank:
                break
            parts[best[1]:best[1] + 2] = [parts[best[1]] + parts[best[1] + 1]]
        if len(parts) == 2:
            out.append(tuple(parts))
    return out


def byte_letters():
    """GPT-2's characters of the bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {**{b: chr(b) for b in shown}, **{b: chr(256 + i) for i, b in enumerate(hidden)}}


def write_tiktoken(path, data, pre):
    ranks = {}
    for line in data["bpe_ranks"].split("\n"):
        _, first, *tokens = line.split(" ")
        ranks.update({base64.b64decode(t): int(first) + i for i, t in enumerate(tokens)})
    letters = byte_letters()
    show = lambda token: "".join(letters[b] for b in token)
    size = max(*ranks.values(), *data["special_tokens"].values()) + 1
    tokens, types = [f"<|unused{i}|>" for i in range(size)], [UNUSED] * size
    for token, rank in ranks.items():
        tokens[rank], types[rank] = show(token), NORMAL
    for token, rank in data["special_tokens"].items():
        tokens[rank], types[rank] = token, CONTROL
    merges = [show(a) + " " + show(b) for a, b in rank_merges(ranks)]
    oracle.write_gguf(path, "gpt2", pre, tokens, [0.0] * size, types, merges, add_bos_token=False)


def write_llama(path, data):
    """Llama 2: a token's score is the place of the first merge that makes it."""
    tokens = data["vocab"]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (len(tokens) - 259)
    made = {}
    for place, merge in enumerate(data["merges"]):
        made.setdefault(merge.replace(" ", ""), -float(place))
    scores = [made.get(t, 0.0) for t in tokens]
    oracle.write_gguf(path, "llama", None, tokens, scores, types, None, add_space_prefix=True)


def write_llama3(path, data):
    tokens = data["vocab"]
    types = [NORMAL if i < 128000 else CONTROL for i in range(len(tokens))]
    oracle.write_gguf(path, "gpt2", "llama-bpe", tokens, [0.0] * len(tokens), types, data["merges"], add_bos_token=False)


def check_npm(build, n, only=""):
    if not shutil.which("node") or not shutil.which("npm"):
        return 77
    where = build / "tests" / "npm"
    where.mkdir(parents=True, exist_ok=True)
    (where / "package.json").write_text('{"private": true}')
    if not (where / "node_modules" / "js-tiktoken").is_dir() and subprocess.run(
            ["npm", "install", "--silent", "llama3-tokenizer-js", "llama-tokenizer-js", "js-tiktoken"],
            cwd=where, check=False).returncode:
        return 77
    (where / "ask.mjs").write_text(NODE)
    bad = 0
    for name, pre in (("llama3", "llama-bpe"), ("llama", None), ("cl100k_base", "dbrx"), ("o200k_base", "gpt-4o")):
        path = where / (name + ".gguf")
        if only not in name:
            continue
        if not path.exists():
            data, part = json.loads(node(where, name, [])), path.with_suffix(".part")
            if name == "llama":
                write_llama(part, data)
            elif name == "llama3":
                write_llama3(part, data)
            else:
                write_tiktoken(part, data, pre)
            part.rename(path)
        v = Vocabulary(path)
        # JavaScript's \s is not Unicode's; it has no (?i:) either, so that U+017F is no s to it.
        texts = [t for t in texts_for(v, n, "\x85\ufeff\u180e\u017f") if "<|" not in t and "<s>" not in t
                 and "</s>" not in t and "<unk>" not in t]
        got = oracle.ours(build, [path, "ids"], texts)
        theirs = [[int(x) for x in line.split()] for line in node(where, name, texts).split("\n")[:-1]]
        bad += oracle.compare(f"{name} javascript", texts, got, theirs)
        if name != "llama":
            v.pre = "llama-bpe" if pre == "dbrx" else pre
            t = byte_bpe(v)
            t.model.ignore_merges = pre == "llama-bpe"
            want = [e.ids for e in t.encode_batch(texts, add_special_tokens=False)]
            bad += oracle.compare(f"{name} tokenizers", texts, got, want)
    return min(bad, 1)


def main():
    checks = {"shared": check_shared, "npm": check_npm}
    if len(sys.argv) < 3 or sys.argv[2] not in checks:
        sys.exit(__doc__)
    try:
        import gguf, sentencepiece, tokenizers  # noqa: F401, E401
    except ImportError as e:
        print(e)
        sys.exit(77)
    build, what, *rest = sys.argv[1:]
    sys.exit(checks[what](pathlib.Path(build).resolve(), int(rest[0]) if rest else 5000, *rest[1:]))


if __name__ == "__main__":
    main()
