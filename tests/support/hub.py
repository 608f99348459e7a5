"""A server that answers as the Hugging Face hub does, for one model."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "maker/tiny"


class Hub(ThreadingHTTPServer):
    """Answers as the hub does for one public model; counts what is asked for.

    Attributes:
        gated: the status with which its files are refused for want of an accepted licence, or 0.
        asked: the files whose contents were asked for, in order.
        stalled: is set when half of the weights were sent and the rest waits for `go_on`.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.files |= {"pytorch_model.bin": b"pickle", "modeling.py": b"code"}
        self.files |= {"original/params.json": b"{}"}
        self.gated = 0
        self.asked: list[str] = []
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub_with(checkpoint: Path) -> Iterator[Hub]:
    """A hub that serves the files of a folder as its model."""
    server = Hub(checkpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.go_on.set()
    server.shutdown()


class _Answer(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        kind, _, rest = path.removeprefix("/api/models/").removeprefix(f"{MODEL}/").partition("/")
        if MODEL not in path:
            self._refuse(404, "RepoNotFound")
        elif kind == "auth-check":
            self._refuse(self.server.gated, "GatedRepo") if self.server.gated else self._json({})
        elif kind == "revision" and rest in ("main", COMMIT):
            self._json({"id": MODEL, "sha": COMMIT})
        elif kind == "tree" and rest == COMMIT:
            entries = self.server.files.items()
            self._json(
                [{"type": "file", "path": n, "oid": _oid(c), "size": len(c)} for n, c in entries]
            )
        elif f"/resolve/{COMMIT}/" in path:
            self._file(path.partition(f"/resolve/{COMMIT}/")[2])
        else:
            self._refuse(404, "RevisionNotFound")

    def _file(self, name: str) -> None:
        if self.server.gated:
            return self._refuse(self.server.gated, "GatedRepo")
        if name not in self.server.files:
            return self._refuse(404, "EntryNotFound")
        content = self.server.files[name]
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_oid(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            return None
        self.server.asked.append(name)
        half = start + (len(content) - start) // 2
        self.wfile.write(content[start:half])
        if name == "model.safetensors" and not self.server.go_on.is_set():
            self.wfile.flush()
            self.server.stalled.set()
            self.server.go_on.wait(30)
        self.wfile.write(content[half:])
        return None

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
