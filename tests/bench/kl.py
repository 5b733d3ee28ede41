#!/usr/bin/env python3
"""Perplexity, mean KL divergence and same-top-token share of Hearth against a reference.

    kl.py base    --model M.gguf --text FILE -o BASE      make the reference
    kl.py tokens  BASE -o TOKENS                          the tokens to feed to the program under test
    kl.py compare BASE LOGITS                             judge its logits
    kl.py check   BASE --model M.gguf --device X          the two steps above, through a pipe
    kl.py score   BASE --model NAME --host URL            perplexity through a running daemon's /api/score

Needs the PyPI packages numpy and gguf; `tokenizers` too for a base that is made without llama.cpp.

What is measured. The first --bytes bytes of the text (one newline at their end is dropped) are tokenised as plain text and
cut into windows of W tokens; a last part shorter than W is left out. Each window is begun afresh; where the
model adds a beginning-of-sequence token, that replaces the window's first token. With F = W / 2, the
logits after token i predict token i + 1 for i = F .. W - 2: W - 1 - F predictions a window (255 of 512).
Perplexity is exp of the mean negative log-probability over all windows so far; the divergence is
sum p_base (ln p_base - ln p), the mean over all predictions; the top tokens are the same where both
have their maximum at the same id (the lower id where equal).

BASE (little-endian; the format of llama.cpp's `llama-perplexity --kl-divergence-base`, so that either
tool can read the other's): "_logits_", i32 W, i32 V (vocabulary), i32 N (windows), i32 tokens[N][W] as
tokenised, then for each window W - 1 - F rows of
    f32 scale, f32 low, u16 q[V], and one u16 of padding where V is odd;
    ln p(v) = low + scale * q[v]; what is below the row's maximum - 16 is clipped there.
Terms with ln p_base <= -16 are left out of the divergence.
The base is of the weights dequantised to f32: `llama-quantize` to F32 and `llama-perplexity` where both
are on the PATH (or named), else tests/golden/forward.py (float64, every family, no code of llama.cpp's).

TOKENS: i32 tokens[N][W], little-endian, each window's first token already replaced where the model wants it.

LOGITS: f32 logits[N][W - 1 - F][V], little-endian and nothing else: row r of a window is the model's
output after its token F + r, before any sampling. It is written by

    build/tests/logits_dump MODEL TOKENS OUT --window W --device X

which evaluates each window from an empty session, writes every window's rows in order and flushes them,
and says anything it has to say on stderr. OUT may be a pipe (`check` uses /dev/stdout): it is never seeked.
"""

import argparse
import functools
import http.client
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.parse

import numpy as np

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))

MAGIC = b"_logits_"
CLIP = 16.0  # nats below a row's maximum that the 16-bit codes reach
I32 = np.dtype("<i4")
U16 = np.dtype("<u2")
F32 = np.dtype("<f4")


class Fail(Exception):
    """A sentence for the user."""


# ---------------------------------------------------------------- the base file


def row_units(n_vocab):
    """Length of a base row in 16-bit units: scale and low, then the codes, padded to a whole f32."""
    return 4 + n_vocab + n_vocab % 2


def encode_rows(logits):
    """Logits [rows][V] as rows of the base format; the log-probabilities are rounded to 16 bits."""
    logits = logits.astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    low = np.maximum(logits.min(axis=1, keepdims=True), top - CLIP)
    log_sum = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    scale = ((top - low) / 65535).astype(F32)
    step = np.where(scale > 0, scale, 1).astype(np.float64)
    rows = np.zeros((logits.shape[0], row_units(logits.shape[1])), U16)
    rows[:, 0:2] = scale.view(U16)
    rows[:, 2:4] = (low - log_sum).astype(F32).view(U16)
    codes = np.rint((np.maximum(logits, low) - low) / step)
    rows[:, 4 : 4 + logits.shape[1]] = np.minimum(codes, 65535).astype(U16)
    return rows


class Base:
    """A base file opened for reading, window by window."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            if file.read(8) != MAGIC:
                raise Fail(f"{path}: not a base of log-probabilities")
            self.window, self.n_vocab, self.n_windows = np.fromfile(file, I32, 3).tolist()
            if self.window < 4 or self.n_vocab < 2 or self.n_windows < 1:
                raise Fail(f"{path}: header says window {self.window}, vocabulary {self.n_vocab}, "
                           f"{self.n_windows} windows")
            count = self.window * self.n_windows
            self.tokens = np.fromfile(file, I32, count).reshape(self.n_windows, self.window)
            self.data_at = file.tell()
        self.first = self.window // 2
        self.rows = self.window - 1 - self.first
        self.window_bytes = self.rows * row_units(self.n_vocab) * 2
        want = self.data_at + self.n_windows * self.window_bytes
        if os.path.getsize(path) != want:
            raise Fail(f"{path}: {os.path.getsize(path)} bytes, its header asks for {want}")

    def targets(self, index):
        """The ids that a window's rows predict."""
        return self.tokens[index, self.first + 1 :]

    def log_probs(self, index):
        """ln p [rows][V] of one window, f32."""
        rows = np.fromfile(self.path, U16, self.window_bytes // 2,
                           offset=self.data_at + index * self.window_bytes)
        rows = rows.reshape(self.rows, -1)
        head = np.ascontiguousarray(rows[:, :4]).view(F32)
        codes = rows[:, 4 : 4 + self.n_vocab].astype(np.float32)
        return codes * head[:, 0:1] + head[:, 1:2]


def write_base(out, window, tokens, n_vocab, logits_of):
    """Writes a base for tokens [N][W]; logits_of(index) gives a window's scored rows."""
    with open(out, "wb") as file:
        file.write(MAGIC + np.array([window, n_vocab, len(tokens)], I32).tobytes())
        file.write(tokens.astype(I32).tobytes())
        for index in range(len(tokens)):
            file.write(encode_rows(logits_of(index)).tobytes())


# ---------------------------------------------------------------- text and tokens


def head_of(path, n_bytes):
    """The text to score: the first n_bytes, whole characters, without one newline at the end."""
    with open(path, "rb") as file:
        data = file.read(n_bytes if n_bytes > 0 else -1)
    text = data.decode("utf-8", "ignore")
    return text[:-1] if text.endswith("\n") else text


def pre_tokenizer(name):
    """How a `tokenizer.ggml.pre` cuts text before its merges."""
    from tokenizers import pre_tokenizers as pre

    bytes_of_gpt2 = pre.ByteLevel(add_prefix_space=False, use_regex=True)
    rows = {
        "gpt-2": bytes_of_gpt2,
        "smollm": pre.Sequence([pre.Digits(individual_digits=True), bytes_of_gpt2]),
    }
    if name not in rows:
        raise Fail(f"no pre-tokeniser '{name}' here: give the ids with --tokens, or use llama.cpp")
    return rows[name]


def field(reader, key, default=None):
    """The value of one metadata key of a GGUF, or `default`."""
    entry = reader.get_field(key)
    return default if entry is None else entry.contents()


def tokenize(reader, text):
    """Token ids of plain text under a GGUF's byte-pair vocabulary, by the `tokenizers` package."""
    from tokenizers import Tokenizer, models

    if field(reader, "tokenizer.ggml.model") != "gpt2":
        raise Fail("only byte-pair vocabularies are tokenised here: give the ids with --tokens")
    vocab = {text: i for i, text in enumerate(field(reader, "tokenizer.ggml.tokens"))}
    merges = [tuple(m.split(" ", 1)) for m in field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizer(field(reader, "tokenizer.ggml.pre", "gpt-2"))
    return tokenizer.encode(text, add_special_tokens=False).ids


def window_start(reader):
    """The id that replaces each window's first token, or None."""
    # A file that does not say: SentencePiece vocabularies add it, byte-pair ones do not.
    default = field(reader, "tokenizer.ggml.model") == "llama"
    if not field(reader, "tokenizer.ggml.add_bos_token", default):
        return None
    return field(reader, "tokenizer.ggml.bos_token_id", 1)


def input_windows(tokens, reader):
    """Tokens [N][W] as the model is given them."""
    start = window_start(reader)
    given = tokens.copy()
    if start is not None:
        given[:, 0] = start
    return given


# ---------------------------------------------------------------- making a base


def ids_to_score(args, reader):
    """The ids of --tokens or of the text, as many windows of them as there are: [N][W]."""
    if args.tokens:
        ids = np.fromfile(args.tokens, I32)
    else:
        ids = np.array(tokenize(reader, head_of(args.text, args.bytes)), I32)
        start = window_start(reader)
        if start is not None:
            ids = np.insert(ids, 0, start)
    count = len(ids) // args.window
    if count < 1:
        raise Fail(f"{len(ids)} tokens do not fill one window of {args.window}")
    count = min(count, args.windows or count)
    return ids[: count * args.window].reshape(count, args.window)


def base_by_numpy(args, out):
    """The golden models' forward pass, in float64, with each tensor dequantised once."""
    import forward
    import gguf

    reader = gguf.GGUFReader(args.model)
    arch = field(reader, "general.architecture")
    if arch not in forward.FAMILIES:
        raise Fail(f"{args.model}: forward.py has no family '{arch}'")
    tokens = ids_to_score(args, reader)
    given, first = input_windows(tokens, reader), args.window // 2
    model = forward.Model(args.model, args.window)
    model.tensor = functools.lru_cache(maxsize=None)(model.tensor)
    running = Running()

    def logits_of(index):
        logits = forward.forward(model, given[index], forward.KV[args.kv][0])[first:-1]
        running.add(log_softmax(logits), tokens[index, first + 1 :])
        say(f"window {index + 1}/{len(tokens)}: perplexity {running.perplexity():.4f}")
        return logits

    write_base(out, args.window, tokens, len(model.tensor("token_embd.weight")), logits_of)


def base_by_llama(args, out, perplexity, quantize):
    """llama.cpp's own tools: the file dequantised to F32, then its perplexity run."""
    if args.tokens:
        raise Fail("llama.cpp tokenises by itself: --tokens goes with --by numpy")
    cache = ["-ctk", args.kv, "-ctv", args.kv]
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(out))) as folder:
        text, f32 = os.path.join(folder, "text"), os.path.join(folder, "f32.gguf")
        with open(text, "w", encoding="utf-8", newline="") as file:
            file.write(head_of(args.text, args.bytes))
        run([quantize, "--allow-requantize", args.model, f32, "F32"], args.verbose)
        size = str(args.window)
        command = [perplexity, "-m", f32, "-f", text, "-c", size, "-b", size, *cache,
                   "--kl-divergence-base", out]
        if args.windows:
            command += ["--chunks", str(args.windows)]
        run(command, args.verbose)


def run(command, verbose):
    say("running " + " ".join(command))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if verbose or done.returncode:
        sys.stderr.write(done.stdout)
    if done.returncode:
        raise Fail(f"{command[0]} failed with {done.returncode}")


def make_base(args):
    perplexity = args.llama_perplexity or shutil.which("llama-perplexity")
    quantize = args.llama_quantize or shutil.which("llama-quantize")
    if quantize is None and perplexity:
        beside = os.path.join(os.path.dirname(perplexity), "llama-quantize")
        quantize = beside if os.access(beside, os.X_OK) else None
    by = args.by
    if by == "auto":
        by = "llama" if perplexity and quantize else "numpy"
    part = args.output + ".part"
    if by == "numpy":
        base_by_numpy(args, part)
    elif perplexity and quantize:
        base_by_llama(args, part, perplexity, quantize)
    else:
        raise Fail("no llama-perplexity and llama-quantize on the PATH")
    os.replace(part, args.output)
    base = Base(args.output)
    running = Running()
    for index in range(base.n_windows):
        running.add(base.log_probs(index), base.targets(index))
    show(args, {"base": args.output, "by": by, "window": base.window, "windows": base.n_windows,
                "vocabulary": base.n_vocab, "perplexity": running.perplexity(),
                "running": running.history})
    return 0


# ---------------------------------------------------------------- judging


def log_softmax(logits):
    """ln p [rows][V] in the input's type, its sum in f64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
    return shifted - np.log(total).astype(logits.dtype)


class Running:
    """Perplexity over the windows added so far."""

    def __init__(self):
        self.nll = np.zeros(0)
        self.history = []

    def add(self, log_probs, targets):
        picked = log_probs[np.arange(len(targets)), targets].astype(np.float64)
        self.nll = np.append(self.nll, -picked)
        self.history.append(round(self.perplexity(), 4))

    def perplexity(self):
        return math.exp(self.nll.mean())


def divergence(base_log_probs, log_probs):
    """KL [rows], f64, of the base from what is judged; terms below the base's reach are left out."""
    p = np.exp(base_log_probs)
    terms = np.where(base_log_probs > -CLIP, p * (base_log_probs - log_probs), 0)
    return terms.sum(axis=1, dtype=np.float64)


def read_window(stream, base, index):
    """The next window's logits [rows][V]; a short or non-finite one is an error that says where."""
    count = base.rows * base.n_vocab
    data = stream.read(count * 4)
    if len(data) != count * 4:
        raise Fail(f"the logits end inside window {index + 1} of {base.n_windows}")
    logits = np.frombuffer(data, F32).reshape(base.rows, base.n_vocab)
    if not np.isfinite(logits).all():
        row, token = np.argwhere(~np.isfinite(logits))[0]
        raise Fail(f"window {index + 1}, row {row}: the logit of token {token} is {logits[row, token]}")
    return logits


def judge(base, stream, windows):
    """Reads logits for the first `windows` windows from stream and returns the figures."""
    base_ppl, ppl = Running(), Running()
    kl, same = np.zeros(0), np.zeros(0, bool)
    for index in range(windows):
        log_probs = log_softmax(read_window(stream, base, index))
        expected = base.log_probs(index)
        base_ppl.add(expected, base.targets(index))
        ppl.add(log_probs, base.targets(index))
        kl = np.append(kl, divergence(expected, log_probs))
        same = np.append(same, expected.argmax(axis=1) == log_probs.argmax(axis=1))
        say(f"window {index + 1}/{windows}: perplexity {ppl.perplexity():.4f} (base "
            f"{base_ppl.perplexity():.4f}), KL {kl.mean():.6f}, same top {100 * same.mean():.2f} %")
    if stream.read(1):
        raise Fail("more logits than the base has windows")
    return {
        "windows": windows,
        "predictions": len(kl),
        "perplexity": ppl.perplexity(),
        "perplexity_base": base_ppl.perplexity(),
        "perplexity_off_percent": 100 * (ppl.perplexity() / base_ppl.perplexity() - 1),
        "running": ppl.history,
        "running_base": base_ppl.history,
        "kl_mean": kl.mean(),
        "kl_stderr": kl.std() / math.sqrt(len(kl)),
        "kl_p99": np.quantile(kl, 0.99),
        "kl_max": kl.max(),
        "same_top_percent": 100 * same.mean(),
    }


def verdict(args, figures):
    """Adds what was asked of the figures and whether it was met; returns the exit status."""
    limits = [
        ("kl_mean", args.max_kl, lambda value, limit: value <= limit),
        ("same_top_percent", args.min_same_top, lambda value, limit: value >= limit),
        ("perplexity_off_percent", args.max_off, lambda value, limit: abs(value) <= limit),
    ]
    checks = [{"figure": name, "limit": limit, "met": bool(met(figures[name], limit))}
              for name, limit, met in limits if limit is not None]
    if checks:
        figures["checks"] = checks
    show(args, figures)
    return 0 if all(check["met"] for check in checks) else 1


def compare(args):
    base = Base(args.base)
    windows = min(args.windows or base.n_windows, base.n_windows)
    with (sys.stdin.buffer if args.logits == "-" else open(args.logits, "rb")) as stream:
        return verdict(args, judge(base, stream, windows))


def write_tokens(base, model, windows, out):
    import gguf

    given = input_windows(base.tokens[:windows], gguf.GGUFReader(model)) if model else base.tokens[:windows]
    given.astype(I32).tofile(out)


def tokens(args):
    base = Base(args.base)
    write_tokens(base, args.model, args.windows or base.n_windows, args.output)
    return 0


def check(args):
    base = Base(args.base)
    windows = min(args.windows or base.n_windows, base.n_windows)
    with tempfile.TemporaryDirectory() as folder:
        ids = os.path.join(folder, "tokens")
        write_tokens(base, args.model, windows, ids)
        command = [args.dump, args.model, ids, "/dev/stdout", "--window", str(base.window)]
        command += ["--device", args.device] if args.device else []
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as dump:
            try:
                figures = judge(base, dump.stdout, windows)
            except BaseException:
                dump.kill()
                raise
            if dump.wait():
                raise Fail(f"{args.dump} failed with {dump.returncode}")
    figures["device"] = args.device or "default"
    return verdict(args, figures)


# ---------------------------------------------------------------- through the daemon


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


def connect(host):
    url = urllib.parse.urlsplit(host if "://" in host else "http://" + host)
    if url.scheme == "unix":
        return UnixConnection(url.path)
    return http.client.HTTPConnection(url.hostname, url.port or 11434)


def score(args):
    """One request a window; logprobs[i] is of tokens[i] given those before it, null for the first."""
    import gguf

    base = Base(args.base)
    windows = min(args.windows or base.n_windows, base.n_windows)
    given = base.tokens
    if args.gguf:
        given = input_windows(given, gguf.GGUFReader(args.gguf))
    running, base_ppl = Running(), Running()
    connection = connect(args.host)
    for index in range(windows):
        body = {"model": args.model, "tokens": given[index].tolist(), "window": base.window}
        connection.request("POST", "/api/score", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise Fail(f"/api/score: {answer.status} {data.decode('utf-8', 'replace').strip()}")
        got = json.loads(data)
        if got["tokens"] != body["tokens"] or len(got["logprobs"]) != base.window:
            raise Fail("/api/score did not score the tokens that it was given")
        picked = np.array(got["logprobs"][base.first + 1 :], np.float64)
        running.add(picked[:, None], np.zeros(len(picked), int))
        base_ppl.add(base.log_probs(index), base.targets(index))
        say(f"window {index + 1}/{windows}: perplexity {running.perplexity():.4f} "
            f"(base {base_ppl.perplexity():.4f})")
    off = 100 * (running.perplexity() / base_ppl.perplexity() - 1)
    figures = {"windows": windows, "perplexity": running.perplexity(),
               "perplexity_base": base_ppl.perplexity(), "perplexity_off_percent": off,
               "running": running.history, "running_base": base_ppl.history}
    show(args, figures)
    return 0 if args.max_off is None or abs(off) <= args.max_off else 1


# ---------------------------------------------------------------- the command


def say(line):
    print(line, file=sys.stderr, flush=True)


def show(args, figures):
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        if name == "checks":
            for item in value:
                print(f"{'met' if item['met'] else 'MISSED':24} {item['figure']}, limit {item['limit']}")
        else:
            print(f"{name:24} {value:.6g}" if isinstance(value, float) else f"{name:24} {value}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, call, text):
        sub = commands.add_parser(name, help=text)
        sub.set_defaults(call=call)
        sub.add_argument("--windows", type=int, default=0, help="only the first N windows")
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    def limits(sub):
        sub.add_argument("--max-kl", type=float, help="fail where the mean divergence is above this")
        sub.add_argument("--min-same-top", type=float, help="fail below this many percent")

    sub = command("base", make_base, "make the reference")
    sub.add_argument("--model", required=True)
    sub.add_argument("--text", default="/usr/share/common-licenses/GPL-3")
    sub.add_argument("--bytes", type=int, default=24000, help="score this much of the text; 0: all")
    sub.add_argument("--window", type=int, default=512)
    sub.add_argument("--by", choices=["auto", "llama", "numpy"], default="auto")
    sub.add_argument("--llama-perplexity", metavar="BIN")
    sub.add_argument("--llama-quantize", metavar="BIN")
    sub.add_argument("--tokens", help="i32 ids to use in place of the text (numpy)")
    sub.add_argument("--kv", choices=["f32", "f16"], default="f16", help="what the KV cache rounds to")
    sub.add_argument("--verbose", action="store_true")
    sub.add_argument("-o", "--output", required=True)

    sub = command("tokens", tokens, "write the tokens of a base")
    sub.add_argument("base")
    sub.add_argument("--model", help="the GGUF, to begin windows as it asks")
    sub.add_argument("-o", "--output", required=True)

    sub = command("compare", compare, "judge logits against a base")
    sub.add_argument("base")
    sub.add_argument("logits", help="a file, or - for the standard input")
    limits(sub)

    sub = command("check", check, "dump logits and judge them")
    sub.add_argument("base")
    sub.add_argument("--model", required=True)
    sub.add_argument("--dump", default="build/tests/logits_dump")
    sub.add_argument("--device")
    limits(sub)

    sub = command("score", score, "perplexity through a running daemon")
    sub.add_argument("base")
    sub.add_argument("--model", required=True, help="its name in the daemon's store")
    sub.add_argument("--host", required=True, help="unix:///path or http://host:port")
    sub.add_argument("--gguf", help="the file, to begin windows as it asks")

    for name in ("compare", "check", "score"):
        commands.choices[name].add_argument(
            "--max-off", type=float, help="fail where perplexity is further off the base, in percent")
    return parser.parse_args()


def main():
    args = parse()
    try:
        return args.call(args)
    except Fail as error:
        say(f"kl.py: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
