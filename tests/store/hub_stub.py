#!/usr/bin/env python3
"""A hub and its CDN on this machine: as much of Hugging Face's API as a client needs to list a repository
and fetch its files, checked with the hub's own Python client (hub_client_test.py).

  Hub(certificate, repos, ...)   .url is the API's origin, .cdn_url the origin that files are fetched from

  GET  /api/models/ORG/REPO[/revision/REV]   ?blobs=true, ?expand=...
  GET  /api/models/ORG/REPO/tree/REV[/PATH]  ?recursive=true&limit=N; Link: <...>; rel="next"
  HEAD, GET /ORG/REPO/resolve/REV/FILE       large: 302 to the CDN, by a signed URL that expires
                                             small: 307 to /api/resolve-cache/...

Every request is a row of .log, and of .heads with all its headers. A credential that reaches the CDN is a row of .leaks."""
import hashlib
import hmac
import http.server
import json
import secrets
import ssl
import threading
import time
import urllib.parse

LARGE = (".gguf", ".bin", ".safetensors", ".dat")


def git_blob(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class File:
    def __init__(self, data, large):
        self.data, self.large, self.size = data, large, len(data)
        self.sha256 = hashlib.sha256(data).hexdigest()
        pointer = (f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(data)}\n").encode()
        self.pointer_size = len(pointer)
        self.oid = git_blob(pointer if large else data)


class Repo:
    """files: {path: bytes}. large: paths that are in LFS beside those that end in LARGE; small: not."""

    def __init__(self, name, files, card=None, private=False, gated=False, small=()):
        self.name, self.card, self.private, self.gated = name, card or {}, private, gated
        self.revisions, self.names = {}, {}
        self.commit(files, small=small)

    def commit(self, files, branch="main", small=()):
        tree = {p: File(d, p.endswith(LARGE) and p not in small) for p, d in files.items()}
        told = branch + self.name + "".join(f"{p}{f.oid}" for p, f in sorted(tree.items()))
        sha = hashlib.sha1(told.encode()).hexdigest()
        self.revisions[sha] = tree
        self.names[branch] = sha
        return sha

    def sha(self, revision):
        return revision if revision in self.revisions else self.names.get(revision)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # a client that leaves is no fault of ours


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def setup(self):
        if self.server.context:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def answer(self, status, body=b"", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        rows = {"Content-Type": "application/json; charset=utf-8", "Content-Length": len(data)}
        rows.update({k.replace("_", "-"): v for k, v in headers.items() if v is not None})
        self.hub.note(self, status)
        self.send_response(status)
        for k, v in rows.items():
            self.send_header(k, str(v))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_HEAD(self):
        self.do_GET()


class Api(Handler):
    def refuse(self, status, code, message, **more):
        self.answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message, **more)

    def account(self):
        """None: nobody; False: a token that is not known; else its row."""
        value = self.headers.get("Authorization")
        if value is None:
            return None
        return self.hub.tokens.get(value.removeprefix("Bearer "), False)

    def repo(self, name):
        who, repo = self.account(), self.hub.repos.get(name)
        if who is False:
            return self.refuse(401, None, "Invalid credentials in Authorization header")
        if repo and (not repo.private or (who and name in who)):
            return repo
        if who is None:
            return self.refuse(401, None, "Invalid username or password.")
        return self.refuse(404, "RepoNotFound", "Repository not found")

    def revision(self, repo, revision):
        sha = repo.sha(revision)
        if sha is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def do_GET(self):
        self.hub = self.server.hub
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        parts = [urllib.parse.unquote(p) for p in url.path.split("/")[1:]]
        if self.hub.throttle:
            status, wait = self.hub.throttle.pop(0)
            return self.refuse(status, None, "Too many requests", Retry_After=wait)
        lie = self.hub.lies.get(url.path)
        if lie is not None:
            return lie(self)
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            return self.models("/".join(parts[2:4]), parts[4:], query)
        if parts[:3] == ["api", "resolve-cache", "models"] and len(parts) > 6:
            return self.resolve("/".join(parts[3:5]), parts[5], "/".join(parts[6:]), cached=True)
        if len(parts) > 4 and parts[2] == "resolve":
            return self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]), cached=False)
        return self.refuse(404, None, "Sorry, we can't find the page you are looking for.")

    def models(self, name, rest, query):
        if not (repo := self.repo(name)):
            return None
        if not rest:
            return self.info(repo, "main", query)
        if len(rest) == 2 and rest[0] == "revision":
            return self.info(repo, rest[1], query)
        if len(rest) >= 2 and rest[0] == "tree":
            return self.tree(repo, rest[1], "/".join(rest[2:]), query)
        return self.refuse(404, None, "Sorry, we can't find the page you are looking for.")

    def info(self, repo, revision, query):
        if not (sha := self.revision(repo, revision)):
            return None
        blobs = "true" in [v.lower() for v in query.get("blobs", [])]
        siblings = []
        for path, f in sorted(repo.revisions[sha].items()):
            row = {"rfilename": path}
            if blobs:
                row.update(size=f.size, blobId=f.oid)
                if f.large:
                    row["lfs"] = {"sha256": f.sha256, "size": f.size, "pointerSize": f.pointer_size}
            siblings.append(row)
        told = {"_id": sha[:24], "id": repo.name, "modelId": repo.name, "author": repo.name.split("/")[0], "sha": sha,
                "lastModified": "2025-01-02T03:04:05.000Z", "createdAt": "2025-01-02T03:04:05.000Z",
                "private": repo.private, "gated": repo.gated, "disabled": False, "downloads": 1, "likes": 0,
                "tags": ["gguf"], "library_name": "gguf", "cardData": repo.card, "siblings": siblings}
        asked = [v for key in ("expand", "expand[]") for v in query.get(key, [])]
        if asked:
            told = {k: v for k, v in told.items() if k in ["_id", "id", *asked]}
        return self.answer(200, told)

    def entries(self, tree, under, recursive):
        rows, folders = [], set()
        for path, f in sorted(tree.items()):
            if under and not path.startswith(under + "/"):
                continue
            inner = path[len(under) + 1:] if under else path
            pieces = inner.split("/")
            for i in range(1, len(pieces)):
                folder = "/".join(([under] if under else []) + pieces[:i])
                if folder not in folders and (recursive or i == 1):
                    folders.add(folder)
                    rows.append({"type": "directory", "oid": hashlib.sha1(folder.encode()).hexdigest(), "size": 0,
                                 "path": folder})
            if len(pieces) > 1 and not recursive:
                continue
            row = {"type": "file", "oid": f.oid, "size": f.size, "path": path}
            if f.large:
                row["lfs"] = {"oid": f.sha256, "size": f.size, "pointerSize": f.pointer_size}
                row["xetHash"] = hashlib.sha256(f.sha256.encode()).hexdigest()
            rows.append(row)
        return rows

    def tree(self, repo, revision, under, query):
        if not (sha := self.revision(repo, revision)):
            return None
        rows = self.entries(repo.revisions[sha], under, "true" in [v.lower() for v in query.get("recursive", [])])
        size = min(int(query.get("limit", [self.hub.page_size])[0]), self.hub.page_size)
        first = int(query.get("cursor", ["0"])[0])
        link = None
        if first + size < len(rows):
            more = {**{k: v[0] for k, v in query.items()}, "cursor": first + size}
            place = f"/api/models/{repo.name}/tree/{urllib.parse.quote(revision, safe='')}"
            link = f'<{self.hub.link_origin or self.hub.url}{place}?{urllib.parse.urlencode(more)}>; rel="next"'
        return self.answer(200, rows[first:first + size], Link=link)

    def resolve(self, name, revision, path, cached):
        if not (repo := self.repo(name)):
            return None
        if repo.gated and name not in (self.account() or ()):
            told = f"Access to model {name} is restricted"
            if self.account() is None:
                return self.refuse(401, "GatedRepo", told + ". You must have access to it and be authenticated to "
                                   "access it. Please log in.")
            return self.refuse(403, "GatedRepo", told + " and you are not in the authorized list.")
        if not (sha := self.revision(repo, revision)):
            return None
        f = repo.revisions[sha].get(path)
        if f is None:
            return self.refuse(404, "EntryNotFound", "Entry not found", X_Repo_Commit=sha)
        rows = {"X_Repo_Commit": sha, "Accept_Ranges": "bytes"}
        if f.large:
            return self.answer(302, b"Found. Redirecting", Location=self.hub.sign(f), X_Linked_Size=f.size,
                               X_Linked_Etag=f'"{f.sha256}"', Content_Type="text/plain", **rows)
        if not cached:
            where = f"/api/resolve-cache/models/{name}/{sha}/{urllib.parse.quote(path, safe='')}"
            return self.answer(307, b"Temporary Redirect", Location=where, ETag=f'"{f.oid}"', **rows)
        return self.answer(200, f.data, ETag=f'"{f.oid}"', Content_Type="text/plain; charset=utf-8", **rows)


class Cdn(Handler):
    def do_GET(self):
        self.hub = self.server.hub
        url = urllib.parse.urlsplit(self.path)
        query = {k: v[0] for k, v in urllib.parse.parse_qs(url.query).items()}
        digest = url.path.rsplit("/", 1)[1]
        if "Authorization" in self.headers:
            self.hub.leaks.append((self.path, self.headers["Authorization"]))
            return self.answer(400, b"<Error>Only one auth mechanism allowed</Error>")
        expires = query.get("Expires", "0")
        if query.get("Signature") != self.hub.signature(digest, expires) or float(expires) < time.time():
            return self.answer(403, b"<Error><Code>AccessDenied</Code></Error>", Content_Type="application/xml")
        f = self.hub.by_digest(digest)
        asked = self.headers.get("Range", "")
        rows = {"ETag": f'"{digest}"', "Accept_Ranges": "bytes", "Content_Type": "binary/octet-stream"}
        if self.hub.cut_after is not None:
            return self.cut(f.data)
        if not self.hub.ranges or not asked.startswith("bytes="):
            return self.answer(200, f.data, **{**rows, "Accept_Ranges": "bytes" if self.hub.ranges else None})
        first, last = asked.removeprefix("bytes=").split("-")
        first, last = (int(first), int(last or f.size - 1)) if first else (f.size - int(last), f.size - 1)
        last = min(last, f.size - 1)
        if first > last:
            return self.answer(416, Content_Range=f"bytes */{f.size}")
        return self.answer(206, f.data[first:last + 1], Content_Range=f"bytes {first}-{last}/{f.size}", **rows)

    def cut(self, data):
        """The connection ends in the middle of the body."""
        self.hub.note(self, 200)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:self.hub.cut_after])
        self.close_connection = True


class Hub:
    """certificate: (certificate, key), None for plain http. tokens: {token: [repositories it may read]}.
    throttle: [(status, seconds)], one for each of the next requests. lies: {path: function(handler)}.
    link_origin: another origin for the next pages' links. expires_s: of signed URLs."""

    def __init__(self, certificate, repos, tokens=None, host="127.0.0.1", page_size=1000, expires_s=3600):
        self.repos, self.tokens = {r.name: r for r in repos}, tokens or {}
        self.page_size, self.expires_s, self.ranges, self.cut_after = page_size, expires_s, True, None
        self.throttle, self.lies, self.log, self.leaks, self.heads, self.link_origin = [], {}, [], [], [], None
        self.secret = secrets.token_bytes(16)
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, certificate))
        self.servers = []
        for handler in (Api, Cdn):
            server = Server((host, 0), handler)
            server.hub, server.context = self, context
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self.servers.append(server)
        scheme = "https" if certificate else "http"
        self.url, self.cdn_url = (f"{scheme}://{host}:{s.server_address[1]}" for s in self.servers)

    def note(self, handler, status):
        place = "api" if isinstance(handler, Api) else "cdn"
        self.heads.append((place, f"{handler.path} {handler.headers}"))
        self.log.append((place, handler.command, handler.path, handler.headers.get("Authorization"),
                         handler.headers.get("Range"), status))

    def signature(self, digest, expires):
        return hmac.new(self.secret, f"{digest} {expires}".encode(), "sha256").hexdigest()

    def sign(self, f):
        expires = str(time.time() + self.expires_s)
        query = urllib.parse.urlencode({"Expires": expires, "Signature": self.signature(f.sha256, expires)})
        return f"{self.cdn_url}/xet-bridge/{f.sha256}?{query}"

    def by_digest(self, digest):
        return next(f for r in self.repos.values() for t in r.revisions.values() for f in t.values()
                    if f.sha256 == digest)

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
