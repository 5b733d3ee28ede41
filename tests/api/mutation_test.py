#!/usr/bin/env python3
"""Mutations of a model's file through `hearth import` and `hearth run`: each is refused with a
sentence that says what is wrong with which key or tensor, or runs; the daemon stays, and the next
request is answered.

  mutation_test.py PATH-OF-HEARTH GOOD.gguf [MODEL.gguf]     hearthd lies beside hearth

GOOD answers the next request each time; MODEL is what is mutated (else GOOD too). What is planted by
name is a row of `planted`; random damage from a fixed seed makes up 300. VERBOSE=1 shows each outcome."""
import math
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gguf_file  # noqa: E402
import hearthd  # noqa: E402
from gguf_file import ARRAY, BOOL, F32, I32, STRING, U32, U64, Raw  # noqa: E402

COUNT = 300
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
PATIENCE = 20 * hearthd.SLOW
RUNS = object()  # it must run, whatever it says


# ---- what is planted: (what, change of the file or of its bytes, words that the error must hold) ------

def keyed(key, kind, v):
    def change(f):
        f.keys[key] = [kind, v]
    return change


def without(key):
    return lambda f: f.keys.pop(key)


def extra(name, kind, v):
    return lambda f: f.more_keys.append([name, kind, v])


def field(name, v):
    return lambda f: setattr(f, name, v)


def tensor(which, **to):
    def change(f):
        t = f.named(which)
        for k, v in to.items():
            setattr(t, k, v)
    return change


def poked(name, at, data):
    """Bytes of a tensor's data."""
    def change(f):
        begin = f.named(name).offset + at
        f.data = f.data[:begin] + data + f.data[begin + len(data):]
    return change


def cut(n):
    return lambda raw, f: raw[:n(f) if callable(n) else n]


def swapped(a, b, what):
    def change(f):
        a_, b_ = f.named(a), f.named(b)
        for k in what:
            x, y = getattr(a_, k), getattr(b_, k)
            setattr(a_, k, y)
            setattr(b_, k, x)
    return change


def of_numbers(f, arch):
    """Known numbers, each too small, too large, of another type, and gone."""
    need = ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"]
    for name in need + ["attention.head_count_kv", "rope.dimension_count"]:
        key = arch + name
        if name in need:
            yield "no " + key, without(key), key
        yield key + " 0", keyed(key, U32, 0), name
        yield key + " 2^32-1", keyed(key, U32, 2**32 - 1), name
        yield key + " as 2^63", keyed(key, U64, 2**63), name
        yield key + " below 0", keyed(key, I32, -1), name
        yield key + " a string", keyed(key, STRING, "eight"), key
        yield key + " of strings", keyed(key, ARRAY, (STRING, ["8"] * 100)), key
    yield "one layer more", keyed(arch + "block_count", U32, f.keys[arch + "block_count"][1] + 1), "blk."
    yield "wider than its tensors", keyed(arch + "embedding_length", U32, f.keys[arch + "embedding_length"][1] * 2), "tensor '"
    yield "3 of 4 heads", keyed(arch + "attention.head_count_kv", U32, 5), "head_count_kv"
    yield "an odd rotation", keyed(arch + "rope.dimension_count", U32, 7), "rope.dimension_count"
    for name, v in (("attention.layer_norm_rms_epsilon", math.nan), ("attention.layer_norm_rms_epsilon", -1.0),
                    ("attention.layer_norm_rms_epsilon", math.inf), ("rope.freq_base", 0.0),
                    ("rope.freq_base", math.nan), ("rope.scaling.factor", -4.0), ("rope.scaling.factor", math.inf)):
        yield f"{name} {v}", keyed(arch + name, F32, v), name
    yield "an unknown scaling", keyed(arch + "rope.scaling.type", STRING, "sideways"), "rope.scaling.type"
    yield "experts", keyed(arch + "expert_count", U32, 8), "expert_count"
    yield "a window of 1", keyed(arch + "attention.sliding_window", U32, 1), None


def of_general(f, arch):
    a = "general.architecture"
    yield "no family", without(a), a
    yield "an unknown family", keyed(a, STRING, "armadillo"), "armadillo"
    yield "an empty family", keyed(a, STRING, ""), None
    yield "a family of 100000 bytes", keyed(a, STRING, "x" * 100000), None
    yield "a family with a NUL", keyed(a, STRING, b"llama\0"), None
    yield "a family that is a number", keyed(a, U32, 1), a
    yield "another family", keyed(a, STRING, "phi3"), "phi3"
    yield "an adapter", keyed("general.type", STRING, "adapter"), "general.type"
    yield "a name that is no text", keyed("general.name", STRING, b"\xff\xfe"), None
    yield "a file type that is none", keyed("general.file_type", U32, 9999), None
    yield "a file type that is text", keyed("general.file_type", STRING, "Q4"), "general.file_type"
    for v in 0, 3, 48:
        yield f"alignment {v}", keyed("general.alignment", U32, v), "general.alignment"
    yield "alignment 2^31", keyed("general.alignment", U32, 2**31), None
    yield "alignment 4096", keyed("general.alignment", U32, 4096), None
    yield "alignment in words", keyed("general.alignment", STRING, "32"), "general.alignment"
    yield "one shard of two", keyed("split.count", U32, 2), "shard"
    yield "70000 shards", keyed("split.count", U32, 70000), "split.count"
    yield "the second of two", lambda f: (keyed("split.count", U32, 2)(f), keyed("split.no", U32, 1)(f)), "shard"
    yield "a count of shards that is text", keyed("split.count", STRING, "2"), "split.count"


def of_words(f, arch):
    t = "tokenizer.ggml."
    tokens = f.keys[t + "tokens"][1][1]
    n = len(tokens)
    yield "tokens that are numbers", keyed(t + "tokens", ARRAY, (U32, [1] * n)), t + "tokens"
    yield "no tokens at all", keyed(t + "tokens", ARRAY, (STRING, [])), t + "tokens"
    yield "a token less", keyed(t + "tokens", ARRAY, (STRING, tokens[:-1])), None
    yield "two tokens are one", keyed(t + "tokens", ARRAY, (STRING, tokens[:-2] + [tokens[0]] * 2)), None
    yield "a token of 20 MB", keyed(t + "tokens", ARRAY, (STRING, tokens[:-1] + [b"x" * (20 << 20)])), None
    yield "an empty token", keyed(t + "tokens", ARRAY, (STRING, tokens[:-1] + [b""])), None
    yield "types of another length", keyed(t + "token_type", ARRAY, (I32, [1] * (n - 3))), t + "token_type"
    yield "types that are none", keyed(t + "token_type", ARRAY, (I32, [77] * n)), None
    yield "types in words", keyed(t + "token_type", ARRAY, (STRING, ["normal"] * n)), t + "token_type"
    yield "a kind of tokenizer that is none", keyed(t + "model", STRING, "abacus"), "abacus"
    yield "no kind of tokenizer", without(t + "model"), t + "model"
    yield "a kind of tokenizer that is a number", keyed(t + "model", U32, 3), t + "model"
    for name in "bos_token_id", "eos_token_id":
        for v in n + 5, 2**32 - 1:  # such files are about
            yield f"{name} {v}", keyed(t + name, U32, v), RUNS
        yield f"{name} in words", keyed(t + name, STRING, "</s>"), t + name
    yield "add_bos_token 1.5", keyed(t + "add_bos_token", F32, 1.5), t + "add_bos_token"
    c = "tokenizer.chat_template"
    yield "a template that is broken", keyed(c, STRING, "{% for m in %}{{ m }"), c
    yield "a template that ends nowhere", keyed(c, STRING, "{% for i in range(1000000000) %}{% for k in range(1000000000) %}x{% endfor %}{% endfor %}"), None
    yield "a template that grows", keyed(c, STRING, "{% for i in range(100000) %}" + "x" * 5000 + "{% endfor %}"), None
    yield "a template that is deep", keyed(c, STRING, "{{ " + "(" * 50000 + "1" + ")" * 50000 + " }}"), None
    yield "a template that throws", keyed(c, STRING, "{{ raise_exception('not today') }}"), "not today"
    yield "a template that is no text", keyed(c, STRING, b"\xff{{ messages }}"), None
    yield "a template that is a number", keyed(c, U32, 1), c


def of_header(f, arch):
    yield "another magic", field("magic", b"GGUT"), "not a GGUF"
    for v in 0, 1, 4, 2**24 * 3, 2**32 - 1:
        yield f"version {v}", field("version", v), "GGUF"
    for v in 0, 1, len(f.keys) + 1, 2**20, 2**63, 2**64 - 1:
        yield f"{v} keys", field("n_keys", v), None
    for v in 1, len(f.tensors) + 1, 2**20, 2**63, 2**64 - 1:
        yield f"{v} tensors", field("n_tensors", v), None
    yield "a key of no name", extra("", U32, 1), f"key {len(f.keys)}"
    yield "a key of 2^63 bytes", extra(Raw(struct.pack("<Q", 2**63)), U32, 1), f"key {len(f.keys)}"
    yield "a key of 1 MB", extra("k" * (1 << 20), U32, 1), f"key {len(f.keys)}"
    yield "a key that is no text", extra(b"\xff\xfe", U32, 1), f"key {len(f.keys)}"
    yield "a key with a line break", extra("a\nb", U32, 1), f"key {len(f.keys)}"
    yield "a key twice", extra("general.name", STRING, "again"), "general.name"
    yield "a type that is none", extra("my.key", 16 + U32, 1), "my.key"
    yield "a string of 2^62 bytes", extra("my.key", STRING, Raw(struct.pack("<Q", 2**62))), "my.key"
    yield "an array of 2^61 numbers", extra("my.key", ARRAY, Raw(struct.pack("<IQ", U32, 2**61))), "my.key"
    yield "an array of arrays", extra("my.key", ARRAY, Raw(struct.pack("<IQ", ARRAY, 1) + b"\0" * 12)), "my.key"
    yield "an array of nothing known", extra("my.key", ARRAY, Raw(struct.pack("<IQ", 99, 1))), "my.key"
    yield "a bool of 7", extra("my.key", BOOL, 7), "my.key"
    yield "a bool of 1", extra("my.key", BOOL, 1), RUNS
    yield "keys that nobody knows", extra("my.key", ARRAY, (STRING, ["x"] * 1000)), RUNS


def of_tensors(f, arch):
    q, k, embd, gate = "blk.0.attn_q.weight", "blk.0.attn_k.weight", "token_embd.weight", "blk.0.ffn_gate.weight"
    shape = f.named(q).shape
    yield "a tensor of no name", tensor(q, name=""), "tensor "
    yield "a tensor's name of 2^63 bytes", tensor(q, name=Raw(struct.pack("<Q", 2**63))), "tensor "
    yield "a tensor's name of 1000 bytes", tensor(q, name="n" * 1000), "tensor "
    yield "a tensor's name that is no text", tensor(q, name=b"\xc3"), "tensor "
    yield "a tensor of another name", tensor(q, name="blk.0.attn_x.weight"), q
    yield "a tensor twice", tensor(k, name=q), q
    for v in 0, 1, 5, 2**32 - 1:
        yield f"{v} dimensions", tensor(q, n_dims=v), None
    yield "a dimension of 0", tensor(q, shape=[shape[0], 0]), q
    yield "a dimension of 2^63", tensor(q, shape=[shape[0], 2**63]), q
    yield "dimensions of 2^70 together", tensor(q, shape=[2**40, 2**30]), q
    yield "a row more", tensor(f.tensors[-1].name, shape=[f.tensors[-1].shape[0]] + [n + 1 for n in f.tensors[-1].shape[1:]] or [1]), None
    yield "a row less", tensor(q, shape=[shape[0], shape[1] - 1]), q
    yield "rows of another length", tensor(q, shape=[shape[0] * 2, shape[1] // 2]), q
    yield "rows that are no blocks", tensor(gate, shape=[f.named(gate).shape[0] - 1, f.named(gate).shape[1]]), gate
    yield "gate the other way round", tensor(gate, shape=f.named(gate).shape[::-1]), gate
    for v in 4, 16, 39, 100, 2**32 - 1:
        yield f"type {v}", tensor(q, kind=v), q
    yield "F32 where there are fewer bytes", tensor(embd, kind=0), embd
    yield "a norm of quantised numbers", tensor("output_norm.weight", kind=2), "output_norm.weight"
    yield "an offset that is not aligned", tensor(q, offset=f.named(q).offset + 1), q
    yield "an offset behind the file", tensor(q, offset=len(f.data) // 32 * 32 + 4096), q
    yield "an offset of 2^64-32", tensor(q, offset=2**64 - 32), q
    yield "one on the other", tensor(q, offset=f.named(k).offset), "overlap"
    yield "one into the other", tensor(q, offset=f.named(k).offset - 32), "overlap"
    yield "a tensor less", lambda f: f.tensors.remove(f.named(q)), q
    yield "a vocabulary without its embedding", lambda f: f.tensors.remove(f.named(embd)), embd
    yield "no tensors", field("tensors", []), "weights"
    yield "a tensor that nobody wants", lambda f: f.tensors.append(gguf_file.Tensor("my.tensor", [8], 0, 0)), "overlap"
    up = gate.replace("gate", "up")
    yield "offsets exchanged", swapped("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", ["offset"]), RUNS
    yield "names exchanged", swapped("blk.0.attn_norm.weight", "output_norm.weight", ["name"]), RUNS
    yield "infos exchanged", swapped(embd, q, ["name"]), "tensor '"
    yield "types and offsets exchanged", swapped(gate, up, ["kind", "offset"]), RUNS
    yield "infos in another order", lambda f: f.tensors.reverse(), RUNS


def of_numbers_in_data(f, arch):
    norm, v, gate, embd = "blk.0.attn_norm.weight", "blk.0.attn_v.weight", "blk.0.ffn_gate.weight", "token_embd.weight"
    for name, bits in (("NaN", 0x7fc00000), ("inf", 0x7f800000), ("3e38", 0x7f61b1e6), ("0", 0)):
        yield f"a norm of {name}", poked(norm, 0, struct.pack("<I", bits) * 16), RUNS
    for name, bits in ("NaN", 0x7e00), ("inf", 0x7c00), ("-65504", 0xfbff), ("0", 0):
        for where in v, gate, embd:
            yield f"scales of {where} {name}", poked(where, 0, struct.pack("<H", bits) * 512), RUNS
    yield "weights of 0", lambda f: field("data", b"\0" * len(f.data))(f), RUNS
    yield "weights of 1s", lambda f: field("data", b"\xff" * len(f.data))(f), RUNS


def of_length(f, arch):
    for n in 0, 3, 4, 8, 23, 24, 100:
        yield f"{n} bytes", cut(n), "" if n else None
    for share in 0.2, 0.5, 0.9:
        yield f"{share} of the header", cut(lambda f, s=share: int(f.header_end * s)), None
    yield "the header and nothing else", cut(lambda f: f.header_end), "tensor '"
    for share in 0.1, 0.5, 0.9:
        yield f"{share} of the data", cut(lambda f, s=share: len(f.raw) - int(len(f.data) * (1 - s))), "tensor '"
    yield "a byte less", cut(lambda f: f.header_end + len(f.data) // 32 * 32 - 1), None
    yield "more than a file", lambda raw, f: raw + b"more", RUNS
    yield "something else", lambda raw, f: b"#!/bin/sh\n" + raw[10:], "not a GGUF"


def planted(original):
    f = gguf_file.File(original)
    arch = f.keys["general.architecture"][1].decode() + "."
    for rows in (of_header, of_length, of_general, of_numbers, of_words, of_tensors, of_numbers_in_data):
        for what, change, words in rows(f, arch):
            if rows is of_length:
                raw = change(original, f)
            else:
                g = gguf_file.File(original)
                change(g)
                raw = g.bytes()
            yield what, raw, words


def damage(original, rng, header_end):
    """Bits, bytes and words of the header (mostly) and of the data."""
    raw = bytearray(original)
    kind = rng.choice(["bits", "byte", "word", "block", "data"])
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(header_end, len(raw)) if kind == "data" else rng.randrange(header_end)
        if kind in ("bits", "data"):
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == "byte":
            raw[at] = rng.choice([0, 1, 0x7f, 0x80, 0xff])
        elif kind == "word":
            raw[at:at + 8] = struct.pack("<Q", rng.choice([0, 1, 2**31, 2**32, 2**63, 2**64 - 1, rng.getrandbits(64)]))
        else:
            n = rng.randrange(1, 64)
            to = rng.randrange(header_end)
            raw[to:to + n] = raw[at:at + n]
    return "damage: " + kind, bytes(raw[:len(original)]), None


# ---- the run ------------------------------------------------------------------------------------------

class Test:
    def __init__(self, hearth, good, model):
        self.hearth, self.good, self.failed = hearth, good, []
        self.folder = tempfile.mkdtemp(prefix="hearth-mutations-")
        self.file = self.folder + "/mutant.gguf"
        with open(model, "rb") as f:
            self.original = f.read()
        base = gguf_file.File(self.original)
        if "tokenizer.chat_template" not in base.keys:
            base.keys["tokenizer.chat_template"] = [STRING, TEMPLATE]
            self.original = base.bytes()
        self.daemon = hearthd.Daemon(hearth + "d", "--device", "ref").start()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        self.env["HEARTH_HOST"] = "unix://" + self.daemon.socket
        self.outcomes = {"refused at import": 0, "refused at run": 0, "ran": 0}

    @staticmethod
    def write(path, data):
        with open(path, "wb") as f:
            f.write(data)

    def command(self, *args):
        try:
            got = subprocess.run([self.hearth, *args], stdin=subprocess.DEVNULL, capture_output=True, env=self.env,
                                 timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return None, "it hangs: hearth " + " ".join(args)
        return got.returncode, got.stderr.decode("utf-8", "replace").strip()

    def answer(self, name="good"):
        """What the sound model says, and how: None when it is not an answer."""
        reply = self.daemon.post("/api/generate", {
            "model": name, "prompt": "hello", "stream": False, "keep_alive": -1,
            "options": {"temperature": 0, "num_predict": 3, "ignore_eos": True, "num_ctx": 64}})
        return reply.json.get("response") if reply.status == 200 else None

    def sane(self, rc, err):
        """None, or what is wrong with an exit status and its sentence."""
        if rc is None:
            return err
        if rc not in (0, 1):
            return f"exit status {rc}: {err}"
        if rc == 1 and not re.match(r"hearth: .{8}", err, re.S):
            return f"no sentence: {err!r}"
        if rc == 1 and len(err.splitlines()) > 2:
            return f"more than a sentence: {err[:400]!r}"
        if rc == 0 and "rror" in err:
            return f"0 with an error: {err!r}"
        return None

    def judge(self, what, words, reference):
        """None, or what is wrong with how the file was taken."""
        rc, err = self.command("import", *(["--reference"] if reference else ["--copy"]), self.file, "mutant")
        wrong = self.sane(rc, err)
        outcome = "refused at import"
        if not wrong and rc == 0:
            rc, err = self.command("run", "mutant", "hi", "-o", "num_predict=1", "-o", "temperature=0", "-o", "num_ctx=64")
            wrong = self.sane(rc, err)
            outcome = "refused at run" if rc else "ran"
            self.command("rm", "mutant")
        if wrong:
            return wrong
        self.outcomes[outcome] += 1
        if words is RUNS and rc:
            return f"it should run: {err}"
        if isinstance(words, str) and (rc == 0 or words not in err):
            return f"{outcome}; nothing about {words!r}: {err or 'no error'}"
        if os.environ.get("VERBOSE"):
            print(f"{what}: {outcome}: {err}")
        return None

    def one(self, what, words, reference):
        wrong = self.judge(what, words, reference)
        if not wrong and self.daemon.process.poll() is not None:
            wrong = "the daemon is gone"
        if not wrong and self.answer() != self.right:
            wrong = "the next request is not answered as before"
        if wrong:
            self.fail(f"{what} ({'reference' if reference else 'copy'}): {wrong}")
            if self.daemon.process.poll() is not None:
                raise AssertionError(self.failed[-1] + "\n" + self.daemon.log()[-3000:])

    def fail(self, line):
        self.failed.append(line)
        print("FAILED:", line, flush=True)

    def mutations(self):
        n, rng = 0, random.Random(20260731)
        header_end = gguf_file.File(self.original).header_end
        for n, row in enumerate(planted(self.original), 1):
            yield row
        for _ in range(n, COUNT):
            yield damage(self.original, rng, header_end)

    def changed_later(self, what, data, loaded):
        """None, or what is wrong when a file that was imported by reference becomes `data`."""
        self.write(self.file, self.reference)
        rc, err = self.command("import", "--reference", self.file, "mutant")
        if rc != 0:
            return err
        if loaded and self.answer("mutant") is None:
            return "it does not run"
        os.unlink(self.file) if data is None else self.write(self.file, data)
        rc, err = self.command("run", "mutant", "hi", "-o", "num_predict=1", "-o", "num_ctx=64")
        wrong = self.sane(1 if rc == 4 else rc, err)
        if os.environ.get("VERBOSE"):
            print(f"{what}, {'loaded' if loaded else 'not loaded'}: {rc}: {err}")
        if wrong or rc == 0 or "mutant" not in err:
            return wrong or f"status {rc}: {err!r}"
        self.write(self.file, self.reference)
        rc, err = self.command("import", "--reference", self.file, "mutant")
        return err if rc else None if self.answer("mutant") is not None else "the file put back does not run"

    def after_the_import(self):
        self.reference = self.original[:-64] + bytes(64)  # not what `good` has
        other = self.original[:-64] + bytes(63) + b"x"
        rows = (("cut", self.reference[:len(self.reference) // 2]), ("empty", b""), ("no model", b"x" * len(other)),
                ("another", other), ("gone", None))
        for loaded in False, True:
            for what, data in rows:
                wrong = self.changed_later(what, data, loaded)
                if not wrong and self.answer() != self.right:
                    wrong = "the next request is not answered as before"
                if wrong:
                    self.fail(f"{what} after the import{', loaded' if loaded else ''}: {wrong}")
                self.command("rm", "mutant")

    def run(self):
        began, n = time.monotonic(), 0
        assert self.command("import", self.good, "good")[0] == 0
        self.right = self.answer()
        assert self.right is not None
        pid = self.daemon.process.pid
        for n, (what, raw, words) in enumerate(self.mutations(), 1):
            self.write(self.file, raw)
            self.one(what, words, reference=n % 2 == 0)
        self.after_the_import()
        assert self.daemon.process.pid == pid and n >= COUNT
        print(f"{n} mutations in {time.monotonic() - began:.0f} s: {self.outcomes}")
        return not self.failed

    def end(self):
        self.daemon.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    test = Test(os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[-1])
    try:
        good = test.run()
    finally:
        test.end()
    sys.exit(not good)


if __name__ == "__main__":
    main()
