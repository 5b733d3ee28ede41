"""Debian's docker-registry, its tokens, and models put into it by hand.

  Registry(folder, certificate=, users=, tokens=)   .url, .host ("127.0.0.1:PORT")
  TokenMaker(folder, certificate, policy)           signs tokens as the registry wants them (RS256, x5c)
  put(registry, repo, tag, layers, ...)             blobs and a manifest, without the code under test
"""
import base64
import hashlib
import http.client
import json
import os
import pathlib
import ssl
import subprocess
import time
import urllib.parse

from . import Hostile, free_port, need, skip, wait_for

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
OLLAMA = "application/vnd.ollama.image."
IMAGE_CONFIG = "application/vnd.docker.container.image.v1+json"


def bcrypt(password):
    try:
        import crypt
        return crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << 4))
    except (ImportError, AttributeError):
        skip("there is no bcrypt here")


class Registry:
    def __init__(self, folder, certificate=None, users=None, tokens=None, more=""):
        need("docker-registry")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if certificate else 'http'}://{self.host}"
        self.context = None
        http_part = f"http: {{addr: '{self.host}', secret: s, relativeurls: false"
        if certificate:
            http_part += f", tls: {{certificate: {certificate[0]}, key: {certificate[1]}}}"
            self.context = ssl._create_unverified_context()
        auth = ""
        if users:
            file = self.folder / "users"
            file.write_text("".join(f"{u}:{bcrypt(p)}\n" for u, p in users.items()))
            auth = f"auth: {{htpasswd: {{realm: models, path: {file}}}}}\n"
        if tokens:
            auth = (f"auth: {{token: {{realm: '{tokens.url}/token', service: models, issuer: maker, "
                    f"rootcertbundle: {tokens.certificate}}}}}\n")
        (self.folder / "config.yml").write_text(
            "version: 0.1\nlog: {level: info, accesslog: {disabled: false}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.folder}/data}}, delete: {{enabled: true}}}}\n"
            f"{http_part}}}\n{auth}{more}")
        self.start()

    def start(self):
        self.output = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(["docker-registry", "serve", self.folder / "config.yml"],
                                        stdout=self.output, stderr=self.output,
                                        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"})
        wait_for("127.0.0.1", self.port, self.process)

    def ask(self, method, path, body=None, headers=None):
        where = urllib.parse.urlsplit(self.url)
        c = (http.client.HTTPSConnection(where.netloc, context=self.context) if self.context
             else http.client.HTTPConnection(where.netloc))
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, r.read(), dict((k.lower(), v) for k, v in r.getheaders())
        finally:
            c.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.output.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def put_blob(registry, repo, data):
    status, _, head = registry.ask("POST", f"/v2/{repo}/blobs/uploads/")
    assert status == 202, status
    place = head["location"]
    place = place[place.index("/v2/"):]
    status, body, _ = registry.ask("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest(data)}", data,
                                   {"Content-Type": "application/octet-stream"})
    assert status == 201, body
    return digest(data)


def entry(data, media_type, title=None):
    e = {"mediaType": media_type, "digest": digest(data), "size": len(data)}
    if title:
        e["annotations"] = {"org.opencontainers.image.title": title}
    return e


def make_manifest(layers, config=(b"{}", IMAGE_CONFIG), media_type=DOCKER, **more):
    """layers: [(bytes, media type, title or None)]"""
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "config": entry(*config),
                       "layers": [entry(*layer) for layer in layers], **more}).encode()


def put(registry, repo, tag, layers, config=(b"{}", IMAGE_CONFIG), media_type=DOCKER, **more):
    for data, *_ in [*layers, config]:
        put_blob(registry, repo, data)
    body = make_manifest(layers, config, media_type, **more)
    status, answer, head = registry.ask("PUT", f"/v2/{repo}/manifests/{tag}", body, {"Content-Type": media_type})
    assert status == 201, answer
    assert head["docker-content-digest"] == digest(body)
    return body


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenMaker:
    """policy(user or None, password, scopes: [(repo, actions)]) -> granted scopes, or None: refused"""
    def __init__(self, folder, policy, certificate):
        need("openssl")
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.key, self.certificate = folder / "maker.key", folder / "maker.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.key, "-out",
                        self.certificate, "-subj", "/CN=maker", "-days", "30"], check=True, capture_output=True)
        der = subprocess.run(["openssl", "x509", "-in", self.certificate, "-outform", "DER"], check=True,
                             capture_output=True).stdout
        self.x5c = base64.b64encode(der).decode()
        self.policy, self.made = policy, 0
        self.server = Hostile(self.serve, certificate=certificate)
        self.url = self.server.url

    def sign(self, data):
        return subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=data, check=True,
                              capture_output=True).stdout

    def token(self, granted, user):
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self.x5c]}
        claims = {"iss": "maker", "sub": user or "", "aud": "models", "exp": now + 300, "nbf": now - 10, "iat": now,
                  "jti": f"{now}-{self.made}",
                  "access": [{"type": "repository", "name": n, "actions": a} for n, a in granted]}
        self.made += 1
        text = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
        return f"{text}.{b64(self.sign(text.encode()))}"

    def serve(self, c, request):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)
        user = password = None
        if (value := request.headers.get("authorization", "")).startswith("Basic "):
            user, password = base64.b64decode(value[6:]).decode().split(":", 1)
        scopes = [(s.split(":")[1], s.split(":")[2].split(",")) for s in query.get("scope", [])]
        granted = self.policy(user, password, scopes)
        if granted is None:
            return c.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong name or password"}]}')
        body = json.dumps({"access_token": self.token(granted, user), "expires_in": 300}).encode()
        return c.reply(200, body, content_type="application/json")

    def stop(self):
        self.server.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
