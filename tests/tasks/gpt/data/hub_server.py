"""A hub on loopback: the parts of its protocol that fetching a dataset needs, and its faults.

A fault is put into `faults` under the name of a file, `head NAME` for the question before it, or `api`
for the listing, and is used up once:
an HTTP status, `drop` (closes the connection half way), `short` (a whole answer that lacks bytes),
`wrong` (the right size, other bytes), `gated`, `page` (a page of HTML).
"""

import hashlib
import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repository = repository
        self.files = files
        self.faults: dict[str, list] = defaultdict(list)
        self.requests: list[tuple[str, str, str]] = []
        self.token = ""
        self.leaked: list[str] = []
        """Signed addresses that were asked for with a token."""
        self.address = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def take(self, name: str):
        return self.faults[name].pop(0) if self.faults[name] else None

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request, client_address) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self.handle_any()

    def do_GET(self) -> None:
        self.handle_any()

    def handle_any(self) -> None:
        path = unquote(self.path)
        hub = self.server
        hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if path.startswith("/signed/"):
            if self.headers.get("Authorization"):
                hub.leaked.append(path)
            self.send_file(path.removeprefix("/signed/").partition("?")[0])
            return
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self.send_status(401, "RepoNotFound")
            return
        api = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/revision/([^?]+)(\?.*)?", path)
        if api:
            self.send_listing(api[1], api[2])
            return
        resolve = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)(\?.*)?", path)
        if resolve and resolve[3] in hub.files:
            self.send_redirect_to(resolve[3])
            return
        self.send_status(404, "EntryNotFound")

    def send_status(self, status: int, code: str = "", **headers: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_listing(self, repository: str, revision: str) -> None:
        fault = self.server.take("api")
        if isinstance(fault, int):
            self.send_status(fault, Retry_After="0" if fault == 429 else "")
        elif fault == "gated":
            self.send_status(403, "GatedRepo")
        elif repository != self.server.repository:
            self.send_status(404, "RepoNotFound")
        elif revision not in ("main", "v1", COMMIT):
            self.send_status(404, "RevisionNotFound")
        else:
            siblings = [
                {
                    "rfilename": name,
                    "size": len(data),
                    "blobId": hashlib.sha1(data).hexdigest(),
                    "lfs": {
                        "sha256": hashlib.sha256(data).hexdigest(),
                        "size": len(data),
                        "pointerSize": 130,
                    },
                }
                for name, data in self.server.files.items()
            ]
            body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
            if fault == "page":
                body = b"<!DOCTYPE html><title>Sign in</title>"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def send_redirect_to(self, name: str) -> None:
        """Answer as the hub does for a large file: facts in headers, the bytes at a signed address."""
        status = self.server.take(f"head {name}")
        if status:
            self.send_status(status, "EntryNotFound" if status == 404 else "")
            return
        data = self.server.files[name]
        self.send_status(
            302,
            X_Repo_Commit=COMMIT,
            X_Linked_Size=str(len(data)),
            X_Linked_ETag=f'"{hashlib.sha256(data).hexdigest()}"',
            # Another host, as with the real one: a client must not send its token there.
            Location=f"http://localhost:{self.server.server_port}/signed/{name}?signature=abc",
        )

    def send_file(self, name: str) -> None:
        data = self.server.files[name]
        start = int(re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range", "bytes=0-"))[1])
        fault = self.server.take(name) if self.command == "GET" else None
        if isinstance(fault, int):
            self.send_status(fault)
            return
        body = data[start:]
        if fault == "short":
            body = body[: len(body) // 2]
        if fault == "wrong":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "drop":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(body)
