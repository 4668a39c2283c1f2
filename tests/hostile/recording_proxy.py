"""A proxy before an etcd that ends TLS, passes all on with the good client's identity, and records requests.

It holds the key of the port that it stands for, so that the suite sees the cluster's own certificate. What
the suite sends is recorded as etcd would read it: HTTP/1.1 request lines, ``:path`` of HTTP/2 requests.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import hpack
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame
from servers import Server, etcd_context

from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SECONDS = 30.0
_HANDSHAKE_RECORD = 22


@dataclass(frozen=True, order=True)
class Sent:
    """One request.

    Attributes:
        protocol: ``http/1.1``, ``grpc`` or ``h2``; ``plaintext`` for what comes without TLS; ``other``.
        method: of HTTP.
        path: as it is in the request.
    """

    protocol: str
    method: str
    path: str


class RecordingProxy(Server):
    """Listens on a port of its own for one listener of an etcd.

    Attributes:
        sent: how often each request came; complete after :meth:`close`.
        url: of the proxy.
    """

    def __init__(self, pki: Path, listener: Listener, *, asks: bool = True) -> None:
        """Start it.

        Args:
            pki: directory of the files of the cluster.
            listener: the one of ``m0`` that it stands for.
            asks: whether it requires a client certificate of the CA, as etcd does; else everybody is let in,
                and what a stranger would ask is seen too.
        """
        self.sent: Counter[Sent] = Counter()
        self._etcd, self._pki, self._role = (listener.host, listener.port), pki, listener.role
        self._verify = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
        self._lock = threading.Lock()
        super().__init__(self._record, seconds=_SECONDS)
        self.url = f"https://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop accepting, and wait for the connections that are open."""
        super().close()
        for thread in self.threads:
            thread.join(_SECONDS)

    def _record(self, connection: socket.socket) -> None:
        received = bytearray()
        tls = connection.recv(1, socket.MSG_PEEK) == bytes([_HANDSHAKE_RECORD])
        with contextlib.suppress(OSError):
            if tls:
                self._relay(connection, received)
            else:
                received += connection.recv(65536)
        with self._lock:
            if tls:
                self.sent.update(requests(bytes(received)))
            elif received:
                self.sent.update(
                    Sent("plaintext", request.method, request.path) for request in requests(bytes(received))
                )

    def _relay(self, connection: socket.socket, received: bytearray) -> None:
        context = etcd_context(self._pki, self._role, self._verify, ("h2", "http/1.1"))
        with (
            context.wrap_socket(connection, server_side=True) as client,
            socket.create_connection(self._etcd, timeout=_SECONDS) as opened,
            self._upstream(client.selected_alpn_protocol()).wrap_socket(opened) as etcd,
        ):
            while True:
                ready = [side for side in (client, etcd) if side.pending()]
                ready = ready or select.select([client, etcd], [], [], _SECONDS)[0]
                if not ready:
                    return
                for side in ready:
                    data = _arrived(side)
                    if data is None:
                        continue
                    if not data:
                        with contextlib.suppress(OSError):
                            client.unwrap()
                        return
                    if side is client:
                        received += data
                    (etcd if side is client else client).sendall(data)

    def _upstream(self, protocol: str | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = self._pki / ("peer-client" if self._role is Role.PEER else "client")
        context.load_cert_chain(client.with_suffix(".crt"), client.with_suffix(".key"))
        if protocol is not None:
            context.set_alpn_protocols([protocol])
        return context


def _arrived(side: ssl.SSLSocket) -> bytes | None:
    """Return what has arrived, empty at the end of the stream, ``None`` for a record without data.

    A socket is readable also when session tickets come, which TLS 1.3 servers send right after the handshake.
    A read that waits for data then waits for the answer to a request that is not passed on.
    """
    side.settimeout(0)
    try:
        return side.recv(65536)
    except ssl.SSLWantReadError:
        return None
    finally:
        side.settimeout(_SECONDS)


def requests(data: bytes) -> list[Sent]:
    """Return the requests in what one client sent on one connection."""
    if data.startswith(_PREFACE):
        return _http2(data[len(_PREFACE) :])
    found: list[Sent] = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if not separator or len(words) != 3 or not words[2].startswith("HTTP/1"):
            return [*found, Sent("other", "", repr(head[:40]))]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        data = data[int(headers.get("content-length", 0)) :]
        found.append(Sent("http/1.1", words[0], words[1]))
    return found


def _http2(data: bytes) -> list[Sent]:
    decoder, block = hpack.Decoder(), b""
    found: list[Sent] = []
    while len(data) >= 9:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        data = data[9 + length :]
        if isinstance(frame, HeadersFrame | ContinuationFrame):
            block += frame.data
            if "END_HEADERS" in frame.flags:
                headers = {str(name): str(value) for name, value in decoder.decode(block)}
                grpc = headers.get("content-type", "").startswith("application/grpc")
                found.append(Sent("grpc" if grpc else "h2", headers[":method"], headers[":path"]))
                block = b""
    return found or [Sent("h2", "", "(no request)")]
