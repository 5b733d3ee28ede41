"""A GGUF file taken apart into keys, tensors and data, so that a test can put it together wrongly."""
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMAT = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B",
          U64: "<Q", I64: "<q", F64: "<d"}


class Raw(bytes):
    """A value (or name) that is written as it is, without its length."""


def string(data):
    if isinstance(data, Raw):
        return data
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if isinstance(v, Raw):
        return v
    if kind == STRING:
        return string(v)
    if kind == ARRAY:
        of, items = v
        return struct.pack("<IQ", of, len(items)) + b"".join(value(of, x) for x in items)
    return struct.pack(FORMAT[kind], v)


class Tensor:
    def __init__(self, name, shape, kind, offset):
        self.name, self.shape, self.kind, self.offset = name, shape, kind, offset
        self.n_dims = None  # what is written, when it is not len(shape)


class File:
    """keys: {name: [type, value]}, an array's value (type, [values]); tensors: [Tensor]; data: bytes."""
    def __init__(self, raw):
        self.raw, self.at = raw, 4
        self.magic, self.version = raw[:4], self.take("<I")
        n_tensors, n_keys = self.take("<Q"), self.take("<Q")
        self.keys = {}
        for _ in range(n_keys):
            name = self.string().decode()
            kind = self.take("<I")
            self.keys[name] = [kind, self.value(kind)]
        self.tensors = [self.tensor() for _ in range(n_tensors)]
        self.header_end = self.at
        self.data = raw[-(-self.at // 32) * 32:]
        self.more_keys = []  # written after the others: [name, type, value]
        self.n_tensors = self.n_keys = None  # what is written, when it is not the truth

    def take(self, fmt):
        v, = struct.unpack_from(fmt, self.raw, self.at)
        self.at += struct.calcsize(fmt)
        return v

    def string(self):
        n = self.take("<Q")
        self.at += n
        return self.raw[self.at - n:self.at]

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            of, n = self.take("<I"), self.take("<Q")
            return of, [self.value(of) for _ in range(n)]
        return self.take(FORMAT[kind])

    def tensor(self):
        name = self.string().decode()
        shape = [self.take("<Q") for _ in range(self.take("<I"))]
        return Tensor(name, shape, self.take("<I"), self.take("<Q"))

    def named(self, name):
        return next(t for t in self.tensors if t.name == name)

    def bytes(self):
        keys = [[name, *v] for name, v in self.keys.items()] + self.more_keys
        out = self.magic + struct.pack("<IQQ", self.version,
                                       len(self.tensors) if self.n_tensors is None else self.n_tensors,
                                       len(keys) if self.n_keys is None else self.n_keys)
        for name, kind, v in keys:
            out += string(name) + struct.pack("<I", kind) + value(kind & 15, v)
        for t in self.tensors:
            out += string(t.name) + struct.pack("<I", len(t.shape) if t.n_dims is None else t.n_dims)
            out += b"".join(struct.pack("<Q", d % (1 << 64)) for d in t.shape)
            out += struct.pack("<IQ", t.kind, t.offset)
        return out + b"\0" * (-len(out) % 32) + self.data
