"""A server that answers like a good etcd except for some requests, for faults that no etcd can have."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from servers import Server
from tls.etcd_alike import Files, judge

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.results import CheckResult
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Response

Answers = Mapping[str, Response]
"""Responses by method and path: ``{"GET /health": Response(status=503)}``."""

ETCD_PATHS = {
    "/version": b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}',
    "/health": b'{"health":"true","reason":""}',
    "/livez": b"ok",
    "/readyz": b"ok",
    "/metrics": b'etcd_server_version{server_version="3.6.16"} 1\n',
    "/debug/vars": b"{}",
    "/members": b"[]",
}
"""Responses of a good etcd without further flags to GET."""

_OF_EVERY_LISTENER = frozenset({"/health", "/livez", "/readyz", "/metrics"})


def etcd_response(method: str, path: str, role: Role) -> Response:
    """Return the response of a good etcd to an accepted client; 404 if such a port does not serve the path.

    Args:
        method: of the request.
        path: of the URL, without a query.
        role: of the listener.
    """
    gateway = path.startswith("/v3/") and role in (Role.CLIENT, Role.CLIENT_HTTP)
    served = _OF_EVERY_LISTENER if role is Role.METRICS else ETCD_PATHS
    if gateway:
        status, body = (200, b"{}") if method == "POST" else (501, b'{"code":12,"message":"Not Implemented"}')
    elif path not in served:
        status, body = 404, b"404 page not found\n"
    elif method in ("GET", "HEAD"):
        status, body = 200, ETCD_PATHS[path]
    else:
        status, body = 405, b"Method Not Allowed\n"
    kind = "application/json" if gateway or status == 200 else "text/plain; charset=utf-8"
    headers = {"content-type": kind, "date": format_datetime(datetime.now(UTC), usegmt=True)}
    return Response(status=status, headers=headers, body=body)


@dataclass(frozen=True, kw_only=True)
class FakeEtcd:
    """An etcd with one fault in what it answers over HTTP.

    It serves TLS 1.2 and 1.3 and wants a client certificate, as etcd does. It serves no gRPC.

    Attributes:
        name: in the ids of tests.
        what: what is wrong, one sentence.
        answers: the answers that differ from those of a good etcd, by method and path without the query.
        violated: exactly the checks that find something because of them, MUST and SHOULD. Every check of
            their families is run, and once more without ``answers``, where none of them may find anything.
        role: of the listener.
        to_everybody: clients without a certificate get the answers as well.
    """

    name: str
    what: str
    answers: Answers = field(default_factory=dict)
    violated: Iterable[str]
    role: Role = Role.CLIENT
    to_everybody: bool = False

    def proves(self) -> set[str]:
        """Return the ids of the checks that find the fault."""
        return set(self.violated)

    def judged(self, directory: Path, *, good: bool = False) -> dict[str, CheckResult]:
        """Start it, judge it by the families of ``violated`` and return the results by check.

        Args:
            directory: for its certificates.
            good: without its fault.
        """
        if unknown := self.proves() - set(catalogue()):
            raise AssertionError(
                f"{self.name}: there is no check {', '.join(sorted(unknown))}: correct violated= in tests/zoo"
            )
        families = {check.partition(".")[0] for check in self.violated}
        # This one waits for a quarter of a minute.
        patterns = [*sorted(families), *(["!tls.stalled-handshake"] if "tls" in families else [])]
        fake = replace(self, answers={}, to_everybody=False) if good else self
        with fake.started(directory) as (files, listener):
            results = judge(files.target(listener), *patterns)
        return {result.check: result for result in results}

    @contextmanager
    def started(self, directory: Path) -> Iterator[tuple[Files, Listener]]:
        """Start it on a free port of loopback, and stop it at the end."""
        pki = ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])
        pki.write(directory)
        files = Files(pki, directory)
        context = files.context(self.role)
        if self.to_everybody:
            context.verify_mode = ssl.CERT_OPTIONAL

        def handle(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as stream:
                _Answering(stream, self._answer)

        with Server(handle, seconds=10) as server:
            yield files, server.listener(role=self.role)

    def _answer(self, method: str, path: str) -> Response:
        path = path.partition("?")[0]
        if given := self.answers.get(f"{method} {path}"):
            return given
        return etcd_response(method, path, self.role)


class _Answering(BaseHTTPRequestHandler):
    """Answers the requests of a connection."""

    protocol_version = "HTTP/1.1"

    def __init__(self, stream: ssl.SSLSocket, answer: Callable[[str, str], Response]) -> None:
        self._answer = answer
        super().__init__(stream, ("", 0), None)  # type: ignore[arg-type]  # no server is asked for anything

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._respond
        raise AttributeError(name)

    def _respond(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        response = self._answer(self.command, self.path)
        self.send_response_only(response.status)
        for header, value in response.headers.items():
            self.send_header(header, value)
        self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
