"""The other end of the store's network calls, all of it on this machine.

  own_network()        goes on with a network of its own, with public-looking addresses, and mounts (or exits 77)
  free_port(host)      a port that was free a moment ago
  Ca(folder)           a private CA; .issue(NAME, dns=, ips=, expired=) gives (certificate, key)
  flip(path, places)   damages a file
  kill_between(process, ports)  SIGKILL, and how many bytes never reached it
  Nginx(folder, conf)  a real nginx with these server blocks; .log() is what was asked of it
  Hostile(handler)     a server that sends whatever handler(connection, request) sends

All are context managers, and may be used without a namespace, on 127.0.0.1.
"""
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

OWN = "HEARTH_TEST_OWN_NETWORK"
PUBLIC, OTHER = "192.0.2.1", "198.51.100.1"  # documentation addresses: no private ones


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def need(*programs):
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    for program in programs:
        if not shutil.which(program):
            skip(f"there is no {program}")


def own_network():
    """Starts this program again with a network (loopback, PUBLIC, OTHER) and mounts of its own."""
    need("unshare", "ip")
    if not os.environ.get(OWN):
        for how in (["unshare", "-nm"], ["unshare", "-rnm"]):
            if subprocess.run([*how, "true"], capture_output=True).returncode == 0:
                os.environ[OWN] = "1"
                sys.stdout.flush()
                os.execvp("unshare", [*how, sys.executable, *sys.argv])
        skip("no network namespace of our own here")
    for words in (["link", "set", "lo", "up"], ["addr", "add", f"{PUBLIC}/24", "dev", "lo"],
                  ["addr", "add", f"{OTHER}/24", "dev", "lo"], ["addr", "add", "10.1.2.3/24", "dev", "lo"],
                  ["addr", "add", "169.254.169.254/16", "dev", "lo"]):
        if subprocess.run(["ip", *words], capture_output=True).returncode:
            skip("no addresses of our own here: ip " + " ".join(words))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        os.environ.pop(name, None)


def free_port(host="127.0.0.1"):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, 0))
        return s.getsockname()[1]


def queued(*ports):
    """Bytes on their way from these ports of ours: sent, as a server counts, and read by nobody yet."""
    total = 0
    for row in pathlib.Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        local, remote, _, queues = row.split()[1:5]
        sending, unread = (int(n, 16) for n in queues.split(":"))
        total += sending if int(local.split(":")[1], 16) in ports else 0
        total += unread if int(remote.split(":")[1], 16) in ports else 0
    return total


def kill_between(process, *ports):
    """SIGKILL; gives the bytes that were on their way to it from these ports."""
    process.send_signal(signal.SIGSTOP)
    before = -1
    while before != (before := queued(*ports)):
        time.sleep(0.1)
    process.kill()
    return before


def wait_for(host, port, process=None, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process and process.poll() is not None:
            break
        with socket.socket() as s:
            if s.connect_ex((host, port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError(f"nothing listens on {host}:{port}")


def flip(path, *places):
    """Another byte at these offsets, as a bad disk leaves it: neither size nor time tell."""
    st = os.stat(path)
    os.chmod(path, 0o640)
    with open(path, "r+b") as f:
        for at in places:
            f.seek(at)
            byte = f.read(1)
            f.seek(at)
            f.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    os.chmod(path, st.st_mode & 0o777)


class Ca:
    def __init__(self, folder):
        need("openssl")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-keyout", self.key, "-out", self.file, "-days", "30", "-subj", "/CN=a CA for tests")

    def openssl(self, *words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=self.folder)

    def issue(self, name, dns=(), ips=(), expired=False):
        key, request, cert, more = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
        names = [f"DNS:{n}" for n in dns] + [f"IP:{n}" for n in ips]
        more.write_text("subjectAltName=" + ",".join(names) + "\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                     "-out", request, "-subj", f"/CN={name}")
        if not expired:
            self.openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.key, "-CAcreateserial",
                         "-out", cert, "-days", "30", "-extfile", more)
            return cert, key
        (self.folder / "index.txt").write_text("")
        config = self.folder / "ca.conf"
        config.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/index.txt\nnew_certs_dir={self.folder}\n"
                          "default_md=sha256\npolicy=p\nrand_serial=yes\n[p]\ncommonName=supplied\n")
        self.openssl("ca", "-batch", "-config", config, "-cert", self.file, "-keyfile", self.key, "-in", request,
                     "-out", cert, "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-extfile", more)
        return cert, key


class Nginx:
    """conf: server blocks. `wait`: [(host, port)] that must listen before it counts as up."""
    FORMAT = "log_format asked '$server_port $request_method $request_uri $status $body_bytes_sent \"$http_range\"';"

    def __init__(self, folder, conf, wait, workers=1):
        need("nginx")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.asked = self.folder / "asked.log"
        d = self.folder
        user = "user root;" if os.getuid() == 0 else ""
        (d / "nginx.conf").write_text(
            f"{user} daemon off; worker_processes {workers}; pid {d}/nginx.pid; error_log {d}/error.log;\n"
            f"events {{ worker_connections 256; }}\nhttp {{ {self.FORMAT} access_log {self.asked} asked;\n"
            f"client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4;\n"
            f"scgi_temp_path {d}/t5; client_max_body_size 0; sendfile on; default_type application/octet-stream;\n"
            f"{conf}\n}}\n")
        self.process = subprocess.Popen(["nginx", "-p", d, "-c", d / "nginx.conf", "-e", d / "start.log"])
        try:
            for host, port in wait:
                wait_for(host, port, self.process)
        except RuntimeError as e:
            self.stop()
            raise RuntimeError((d / "start.log").read_text() + (d / "error.log").read_text()) from e

    def log(self):
        """[(port, method, path, status, body bytes, range)] of all requests that have ended."""
        rows = []
        for line in self.asked.read_text().splitlines() if self.asked.exists() else []:
            port, method, path, status, sent, asked = line.split(" ", 5)
            rows.append((int(port), method, path, int(status), int(sent), asked.strip('"')))
        return rows

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Request:
    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.path = (lines[0].split(" ") + ["", ""])[:2]
        self.headers = {k.strip().lower(): v.strip() for k, v in
                        (line.split(":", 1) for line in lines[1:] if ":" in line)}

    def range(self):
        first, last = self.headers["range"].removeprefix("bytes=").split("-")
        return int(first), int(last)


class Connection:
    def __init__(self, sock, server):
        self.sock, self.server, self.pending = sock, server, b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def reply(self, status, body=b"", **headers):
        """An honest reply. Header names: underscores stand for dashes; None leaves one out."""
        rows = {"Content-Length": str(len(body))}
        rows.update({k.replace("_", "-").title(): v for k, v in headers.items()})
        self.send(f"HTTP/1.1 {status} x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in rows.items() if v is not None) + "\r\n")
        self.send(body)
        return True

    def read(self, n):
        while len(self.pending) < n:
            more = self.sock.recv(65536)
            if not more:
                break
            self.pending += more
        data, self.pending = self.pending[:n], self.pending[n:]
        return data

    def request(self):
        while b"\r\n\r\n" not in self.pending:
            more = self.sock.recv(65536)
            if not more:
                return None
            self.pending += more
        head, self.pending = self.pending.split(b"\r\n\r\n", 1)
        return Request(head)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


class Hostile:
    """handler(connection, request) sends what it likes; true: another request may follow on this
    connection. certificate: (certificate, key) for TLS; tls: of this version alone, however old.
    on_connect(socket): before anything is read."""

    def __init__(self, handler, host="127.0.0.1", certificate=None, on_connect=None, tls=None, port=0):
        self.handler, self.host, self.on_connect = handler, host, on_connect
        self.requests, self.connections, self.stopping = [], 0, threading.Event()
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*map(str, certificate))
        if tls:
            self.context.set_ciphers("DEFAULT:@SECLEVEL=0")
            self.context.minimum_version = self.context.maximum_version = tls
        self.listener = socket.create_server((host, port), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if certificate else 'http'}://{host}:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            if self.on_connect and not self.on_connect(sock):
                return
            if self.context:
                sock = self.context.wrap_socket(sock, server_side=True)
            connection = Connection(sock, self)
            while (request := connection.request()) is not None:
                self.requests.append(request)
                if not self.handler(connection, request):
                    break
            if self.context:
                sock.unwrap()
        except (OSError, ValueError):
            pass
        finally:
            sock.close()

    def stop(self):
        self.stopping.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # or who waits in accept goes on with the next socket of this number
        except OSError:
            pass
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
