"""Writes a tiny llama GGUF that the whole way from import to generate can take: one layer, 64 wide,
byte tokens, a chat template. Its weights are noise from a fixed seed. No package is needed.

  tiny_gguf.py FILE [--vocab-only] [--arch NAME]      or write(path, ...)

Token ids: 0 <unk>, 1 <s>, 2 </s>, 3 <|user|>, 4 <|assistant|>, 5 <|system|>, 6 + b for byte b, 262 the blank."""
import array
import random
import struct
import sys

EMBD, FF, HEADS, CTX = 64, 96, 2, 512
TEMPLATE = ("{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
THINKING = TEMPLATE + "{% if enable_thinking is defined and enable_thinking %}<think>{% endif %}"
CALLER = ("{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}{% for m in messages %}<|{{ m.role }}|>"
          "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}"
          "{% for c in m.tool_calls %}<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": "
          "{{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{{ eos_token }}{% endfor %}"
          "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is defined and enable_thinking %}<think>\n"
          "{% endif %}{% endif %}")
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
FORMAT = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if kind == STRING:
        return string(v)
    if isinstance(kind, tuple):
        return struct.pack("<IQ", kind[1], len(v)) + b"".join(value(kind[1], x) for x in v)
    return struct.pack(FORMAT[kind], v)


FIM = ["<fim_pre>", "<fim_suf>", "<fim_mid>"]


TURNS = ("<|user|>", "<|assistant|>", "<|system|>")  # of the family "zephyr"


def vocabulary(more=(), turns=TURNS, words=()):
    special = ["<unk>", "<s>", "</s>", *turns]
    tokens = special + ["<0x%02X>" % b for b in range(256)] + ["\u2581"] + list(more) + list(words)
    types = [2, 3, 3, 3, 3, 3] + [6] * 256 + [1] + [3] * len(more) + [1] * len(words)
    return tokens, types


def metadata(arch, template, more=(), turns=TURNS, words=(), n_ctx=CTX, note=""):
    tokens, types = vocabulary(more, turns, words)
    yield "general.architecture", STRING, arch
    yield "general.name", STRING, "tiny"
    yield "general.file_type", U32, 0
    if note:
        yield "general.description", STRING, note
    for key, v in (("block_count", 1), ("context_length", n_ctx), ("embedding_length", EMBD),
                   ("feed_forward_length", FF), ("attention.head_count", HEADS), ("attention.head_count_kv", HEADS),
                   ("rope.dimension_count", EMBD // HEADS), ("vocab_size", len(tokens))):
        yield "%s.%s" % (arch, key), U32, v
    yield arch + ".attention.layer_norm_rms_epsilon", F32, 1e-5
    yield "tokenizer.ggml.model", STRING, "llama"
    yield "tokenizer.ggml.tokens", (ARRAY, STRING), tokens
    yield "tokenizer.ggml.scores", (ARRAY, F32), [0.0] * len(tokens)
    yield "tokenizer.ggml.token_type", (ARRAY, I32), types
    yield "tokenizer.ggml.bos_token_id", U32, 1
    yield "tokenizer.ggml.eos_token_id", U32, 2
    yield "tokenizer.ggml.unknown_token_id", U32, 0
    yield "tokenizer.ggml.add_bos_token", BOOL, True
    yield "tokenizer.ggml.add_space_prefix", BOOL, False
    if template:
        yield "tokenizer.chat_template", STRING, template
    for key, text in zip(("pre", "suf", "mid"), FIM):
        if text in more:
            yield "tokenizer.ggml.fim_%s_token_id" % key, U32, tokens.index(text)


def tensors(n_vocab):
    yield "token_embd.weight", [EMBD, n_vocab]
    yield "output_norm.weight", [EMBD]
    for name, shape in (("attn_norm", [EMBD]), ("attn_q", [EMBD, EMBD]), ("attn_k", [EMBD, EMBD]),
                        ("attn_v", [EMBD, EMBD]), ("attn_output", [EMBD, EMBD]), ("ffn_norm", [EMBD]),
                        ("ffn_gate", [EMBD, FF]), ("ffn_up", [EMBD, FF]), ("ffn_down", [FF, EMBD])):
        yield "blk.0.%s.weight" % name, shape


def write(path, vocab_only=False, arch="llama", template=TEMPLATE, seed=1, more=(), turns=TURNS, words=(), n_ctx=CTX,
          note=""):
    """more: texts of control tokens, from id 263 on; turns: of the ids 3 to 5; words: of normal tokens behind all;
    note: a description, that makes the file as long as one likes."""
    keys = list(metadata(arch, template, more, turns, words, n_ctx, note))
    weights = [] if vocab_only else list(tensors(263 + len(more) + len(words)))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(weights), len(keys))
    for key, kind, v in keys:
        head += string(key) + struct.pack("<I", ARRAY if isinstance(kind, tuple) else kind) + value(kind, v)
    data, rng = b"", random.Random(seed)
    for name, shape in weights:
        count = 1
        for n in shape:
            count *= n
        head += string(name) + struct.pack("<I", len(shape)) + struct.pack("<%dQ" % len(shape), *shape)
        head += struct.pack("<IQ", 0, len(data))
        norm = len(shape) == 1
        data += array.array("f", (1.0 if norm else rng.gauss(0, 0.3) for _ in range(count))).tobytes()
        data += b"\0" * (-len(data) % 32)
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % 32) + data)


def split(data, n_first=4):
    """The file as two shards: tensors are dealt out, as gguf-split does it."""
    n_tensors, n_keys = struct.unpack_from("<QQ", data, 8)
    at = data.index(struct.pack("<Q", 17) + b"token_embd.weight")
    infos = []
    for _ in range(n_tensors):
        n, = struct.unpack_from("<Q", data, at)
        name = data[at + 8:at + 8 + n]
        n_dims, = struct.unpack_from("<I", data, at + 8 + n)
        dims = struct.unpack_from("<%dQ" % n_dims, data, at + 12 + n)
        at += 12 + n + 8 * n_dims
        _, offset = struct.unpack_from("<IQ", data, at)
        at += 12
        infos.append((name, dims, offset))
    begin = (at + 31) // 32 * 32
    keys = data[24:data.index(struct.pack("<Q", 17) + b"token_embd.weight")]

    def key(name, kind, form, v):
        return string(name) + struct.pack("<I" + form, kind, v)

    def shard(no, some, body, n_body):
        more = key("split.no", 2, "H", no) + key("split.count", 2, "H", 2) + \
            key("split.tensors.count", 5, "i", n_tensors)
        head = struct.pack("<4sIQQ", b"GGUF", 3, len(some), n_body + 3) + body + more
        weights = b""
        for name, dims, offset in some:
            size = 4
            for d in dims:
                size *= d
            head += struct.pack("<Q", len(name)) + name + struct.pack("<I%dQIQ" % len(dims), len(dims), *dims, 0, len(weights))
            weights += data[begin + offset:begin + offset + size]
            weights += b"\0" * (-len(weights) % 32)
        return head + b"\0" * (-len(head) % 32) + weights
    arch = key("general.architecture", 8, "Q", 5) + b"llama"
    return shard(0, infos[:n_first], keys, n_keys), shard(1, infos[n_first:], arch, 1)


if __name__ == "__main__":
    write(sys.argv[1], "--vocab-only" in sys.argv,
          sys.argv[sys.argv.index("--arch") + 1] if "--arch" in sys.argv else "llama")
