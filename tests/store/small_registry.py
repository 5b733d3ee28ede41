"""A registry of a few small models for tests that stop a pull: it answers as one does, with ranges, and
counts the bytes of each blob that it gave away. Its content is the same each time; its port is not."""
import hashlib
import http.server
import json
import random
import re
import struct
import threading

PREFIX = "application/vnd.ollama.image."
PIECE = 65536
HEAD, RECORD = 592, struct.Struct("=QQQ")  # of a journal: journal.c


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class SmallRegistry:
    """sizes: of its two models' weights and of a projector"""

    def __init__(self, sizes):
        self.served = {}      # digest -> bytes
        self.lock = threading.Lock()
        self.fill(*sizes)
        registry = self

        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                try:
                    registry.answer(self)
                except OSError:
                    self.close_connection = True  # who asked was killed

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *args):
                pass

        self.server = Server(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def fill(self, *sizes):
        rng = random.Random(3)
        one, two, eye = map(rng.randbytes, sizes)
        self.blobs, self.kinds, self.models, self.manifests = {}, {}, {}, {}
        self.add("tiny", ("model", one))
        self.add("full", ("model", one), ("projector", eye), ("template", b"{{ .Prompt }}"), ("license", b"any"))
        self.add("other", ("model", two), ("system", b"be brief"))

    def name(self, model):
        return f"http://127.0.0.1:{self.server.server_port}/test/{model}:latest"

    def add(self, name, *layers):
        config = json.dumps({"model_format": "gguf", "model_family": "llama", "file_type": "F32"}).encode()
        rows = []
        for kind, data in [("config", config), *layers]:
            digest = sha256(data)
            self.blobs[digest], self.kinds[digest] = data, kind
            media = "application/vnd.docker.container.image.v1+json" if kind == "config" else PREFIX + kind
            rows.append({"mediaType": media, "digest": "sha256:" + digest, "size": len(data)})
        self.models[name] = tuple(r["digest"][7:] for r in rows[1:])
        self.manifests[name] = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": rows[0], "layers": rows[1:]}).encode()

    def files(self, name):
        """digests of what a download brings"""
        return [d for d in self.models[name] if self.kinds[d] in ("model", "projector")]

    def answer(self, r):
        asked = re.fullmatch("/v2/test/[^/]+/(manifests|blobs)/(.*)", r.path)
        if not asked:
            self.send(r, 404, b"{}", None, "application/json")
            return
        kind, which = asked.groups()
        if kind == "manifests":
            name = r.path.split("/")[3]
            self.send(r, 200, self.manifests[name], 0, "application/vnd.docker.distribution.manifest.v2+json")
            return
        data = self.blobs[which.removeprefix("sha256:")]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", r.headers.get("Range", ""))
        if not wanted:
            self.send(r, 200, data, 0, "application/octet-stream", which[7:])
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        self.send(r, 206, data[first:last + 1], (first, last, len(data)), "application/octet-stream", which[7:])

    def send(self, r, status, data, part, media, digest=None):
        r.send_response(status)
        r.send_header("Content-Type", media)
        r.send_header("Content-Length", str(len(data)))
        r.send_header("Accept-Ranges", "bytes")
        if part:
            r.send_header("Content-Range", "bytes %d-%d/%d" % part)
        r.end_headers()
        for at in range(0, len(data), PIECE):
            r.wfile.write(data[at:at + PIECE])
            if digest:
                with self.lock:
                    self.served[digest] = self.served.get(digest, 0) + len(data[at:at + PIECE])

    def verified(self, tmp, digest):
        """Bytes of the blob that lie in tmp/, with a record that says so, and are right."""
        part, journal, true = tmp / f"dl-{digest}.part", tmp / f"dl-{digest}.journal", self.blobs[digest]
        if not part.exists() or not journal.exists():
            return 0
        have, lines, pieces = part.read_bytes(), journal.read_bytes()[HEAD:], set()
        for at in range(0, len(lines) - RECORD.size + 1, RECORD.size):
            i = RECORD.unpack_from(lines, at)[0]
            if have[i * PIECE:(i + 1) * PIECE] == true[i * PIECE:(i + 1) * PIECE]:
                pieces.add(i)
        return sum(len(true[i * PIECE:(i + 1) * PIECE]) for i in pieces)
