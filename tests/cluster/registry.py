"""A registry on loopback that serves one image at once, slowly or not at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry(ThreadingHTTPServer):
    """Source: the registry's HTTP API V2, as far as an engine needs it to pull."""

    daemon_threads = True

    def __init__(self, etcd: Path, *, silent_about: str | None = None) -> None:
        """Serve an image with this etcd.

        Args:
            etcd: a static binary.
            silent_about: part of a path to which no answer is given until the end.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self.image = f"127.0.0.1:{self.server_address[1]}/etcd:test"
        self.silent_about = silent_about
        self.ended = threading.Event()
        layer = _layer(etcd)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        packed = gzip.compress(layer, compresslevel=1)
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "size": len(config), "digest": _digest(config)},
            "layers": [{"mediaType": _LAYER, "size": len(packed), "digest": _digest(packed)}],
        }
        self.blobs = {_digest(blob): blob for blob in (config, packed)}
        self.manifest = json.dumps(manifest).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        if self.server.silent_about is not None and self.server.silent_about in self.path:
            self.server.ended.wait()
            return
        if "/manifests/" in self.path:
            self._answer(self.server.manifest, _MANIFEST)
        elif "/blobs/" in self.path:
            self._answer(self.server.blobs[self.path.rpartition("/")[2]], "application/octet-stream")
        else:
            self._answer(b"{}", "application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", _digest(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def registry(etcd: Path, *, silent_about: str | None = None) -> Iterator[Registry]:
    """Run a registry for as long as the context lasts."""
    with Registry(etcd, silent_about=silent_about) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def _layer(etcd: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("usr/local/bin/etcd")
        entry.size = etcd.stat().st_size
        entry.mode = 0o755
        with etcd.open("rb") as file:
            tar.addfile(entry, file)
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
