"""Debian's docker-registry on loopback, in a folder of its own, for tests of pull and push."""
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

PROGRAM = shutil.which("docker-registry")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
MEDIA = "application/vnd.ollama.image."


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="hearth-registry-")
        self.port = free_port()
        self.host = "127.0.0.1:%d" % self.port
        config = {"version": 0.1, "log": {"level": "warn"}, "http": {"addr": self.host, "secret": "x"},
                  "storage": {"filesystem": {"rootdirectory": self.folder + "/data"}, "delete": {"enabled": True}}}
        with open(self.folder + "/config.yml", "w") as f:
            json.dump(config, f)  # JSON is YAML
        self.log = open(self.folder + "/log", "wb")
        env = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
        self.process = subprocess.Popen([PROGRAM, "serve", self.folder + "/config.yml"], stdout=self.log,
                                        stderr=self.log, env=env)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if self.ask("GET", "/v2/")[0] == 200:
                    return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise AssertionError("docker-registry did not start")

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def blob(self, name, data):
        where = digest(data)
        if self.ask("HEAD", "/v2/%s/blobs/%s" % (name, where))[0] != 200:
            status, headers, _ = self.ask("POST", "/v2/%s/blobs/uploads/" % name)
            assert status == 202, status
            at = headers["Location"].split(self.host, 1)[-1]
            status, _, text = self.ask("PUT", at + ("&" if "?" in at else "?") + "digest=" + where, data,
                                       {"Content-Type": "application/octet-stream"})
            assert status == 201, (status, text)
        return {"digest": where, "size": len(data)}

    def model(self, name, tag, gguf, more=()):
        """more: pairs of a kind ("license", "template", ...) and its bytes. Gives the manifest's digest, bare."""
        config = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": "60K",
                  "file_type": "F32", "architecture": "amd64", "os": "linux"}
        layers = [("model", gguf), *more]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                    "config": {"mediaType": CONFIG, **self.blob(name, json.dumps(config).encode())},
                    "layers": [{"mediaType": MEDIA + kind, **self.blob(name, data)} for kind, data in layers]}
        data = json.dumps(manifest).encode()
        status, _, text = self.ask("PUT", "/v2/%s/manifests/%s" % (name, tag), data, {"Content-Type": MANIFEST})
        assert status == 201, (status, text)
        return digest(data)[7:]

    def manifest(self, name, tag):
        status, _, data = self.ask("GET", "/v2/%s/manifests/%s" % (name, tag), headers={"Accept": MANIFEST})
        return data if status == 200 else None

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
