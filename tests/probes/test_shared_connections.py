"""Several requests on one connection; one with an unusual course gives no evidence."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from servers import ThreadedServer, reset

from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Bounds, PortCredentials, Target
from pytest_etcdtls.tls.attempt import Ending, Request
from pytest_etcdtls.tls.connection import make_attempts

VERSION = b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0"}'
PATHS = ("/version", "/health", "/debug/pprof/", "/v2/keys")
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"
WRONG = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"


def _ok(body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), more, body)


def _answer(path: str) -> bytes:
    """Return what etcd answers on a connection of its own."""
    return {"/version": _ok(VERSION), "/health": _ok(b'{"health":"true"}')}.get(path, MISSING)


class Kept:
    """A TLS server that keeps connections, and answers the requests after the first as the test says.

    Args:
        behave: gets the stream, the path and the number of the request on its connection, from 1 on; returns
            whether the connection goes on.

    Attributes:
        asked: the paths, one list for each connection.
    """

    def __init__(self, context: ssl.SSLContext, behave: Callable[[ssl.SSLSocket, str, int], bool]) -> None:
        self._context, self._behave = context, behave
        self.asked: list[list[str]] = []
        self.server = ThreadedServer(self._handle)

    def _handle(self, connection: socket.socket) -> None:
        with self._context.wrap_socket(connection, server_side=True) as stream:
            asked: list[str] = []
            self.asked.append(asked)
            while head := self._head(stream):
                path, closes = head.split()[1].decode(), b"connection: close" in head.lower()
                asked.append(path)
                if len(asked) == 1:
                    stream.sendall(_answer(path))
                elif not self._behave(stream, path, len(asked)):
                    return
                if closes:
                    stream.unwrap()
                    return

    def _head(self, stream: ssl.SSLSocket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = stream.recv(4096)
            if not chunk:
                return b""
            data += chunk
        return data


def _last(path: str, number: int) -> bytes:
    """Return the answer, which announces the close behind the last request."""
    more = b"\r\nConnection: close\r\n\r\n" if number == len(PATHS) else b"\r\n\r\n"
    return _answer(path).replace(b"\r\n\r\n", more)


def _well(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(_last(path, number))
    return True


def _well_and_late(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    """Close late, as etcd's peer port does."""
    stream.sendall(_last(path, number))
    if number == len(PATHS):
        stream.recv(1)
    return True


def _idle_closed(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    return False


def _reset(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    reset(stream)
    return False


def _wrong_and_closing(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(_ok(b"wrong", b"Connection: close\r\n"))
    return False


def _out_of_step(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    """Send a response that nobody asked for before the second one."""
    stream.sendall((WRONG if number == 2 else b"") + _last(path, number))
    return True


def _one_behind(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    """Answer each request but the first with what answers the one before."""
    stream.sendall(WRONG if number == 2 else _last(path, number - 1))
    return True


def _one_too_many(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(_last(path, number) + (WRONG if number == len(PATHS) else b""))
    return True


def _too_long_idle(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    return False


def _overloaded(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    return True


def _no_http(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(b"+OK\r\n")
    return False


def _cut_short(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nwrong")
    return False


def _trickles(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nwrong")
    stream.recv(1)
    return False


def _keeps_on_answering(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(WRONG)
    return True


def _upgrades(stream: ssl.SSLSocket, path: str, number: int) -> bool:
    stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + WRONG)
    return True


MISBEHAVING = pytest.mark.parametrize(
    "behave",
    [
        *(_idle_closed, _reset, _wrong_and_closing, _out_of_step, _one_behind, _one_too_many),
        *(_too_long_idle, _overloaded, _no_http, _cut_short, _trickles, _keeps_on_answering, _upgrades),
    ],
    ids=lambda behave: behave.__name__.strip("_").replace("_", "-"),
)


def _requests(paths: Sequence[str] = PATHS) -> list[Request]:
    return [Request(purpose=f"GET {path}", path=path) for path in paths]


@pytest.mark.parametrize("behave", [_well, _well_and_late])
def test_requests_share_a_connection_and_each_has_its_own_record(
    tls_context: ssl.SSLContext, behave: Callable[[ssl.SSLSocket, str, int], bool]
) -> None:
    kept = Kept(tls_context, behave)
    made = make_attempts(kept.server.listener(), _requests(), 5)
    kept.server.close()
    assert (made.trusted, kept.asked) == (True, [list(PATHS)])
    attempts = [made.first, *made.further]
    assert [one.response and one.response.status for one in attempts] == [200, 200, 404, 404]
    assert [one.reused for one in attempts] == [False, True, True, True]
    assert [one.purpose for one in attempts] == [f"GET {path}" for path in PATHS]
    assert {one.ending for one in attempts} == {Ending.SERVED}
    assert len({one.local_address for one in attempts}) == 1
    assert [one.started_at for one in attempts] == sorted(one.started_at for one in attempts)
    assert {one.first_bytes[:15] for one in attempts} == {b"HTTP/1.1 200 OK", b"HTTP/1.1 404 No"}
    assert made.first.chain == made.further[-1].chain != ()


@MISBEHAVING
def test_a_connection_with_an_unusual_course_is_not_trusted(
    tls_context: ssl.SSLContext, behave: Callable[[ssl.SSLSocket, str, int], bool]
) -> None:
    kept = Kept(tls_context, behave)
    made = make_attempts(kept.server.listener(), _requests(), 2)
    kept.server.close()
    assert not made.trusted
    assert made.first.response is not None
    assert made.first.response.body == VERSION


@pytest.mark.parametrize(
    "answer",
    [
        _ok(VERSION, b"Connection: close\r\n"),
        _ok(VERSION).replace(b"HTTP/1.1", b"HTTP/1.0"),
        _ok(VERSION) + WRONG,
        _ok(VERSION) + b"\0",
    ],
    ids=["not kept", "HTTP/1.0", "a second response", "an octet too many"],
)
def test_nothing_is_sent_after_a_response_that_ends_the_connection(
    tls_context: ssl.SSLContext, answer: bytes
) -> None:
    asked: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        with tls_context.wrap_socket(connection, server_side=True) as stream:
            asked.append(stream.recv(4096))
            stream.sendall(answer)
            while data := stream.recv(4096):
                asked.append(data)

    server = ThreadedServer(handle)
    made = make_attempts(server.listener(), _requests(), 5)
    server.close()
    assert (made.further, made.trusted, len(asked)) == ((), False, 1)
    assert made.first.response is not None
    assert made.first.response.body == VERSION


def test_nothing_more_is_sent_when_the_run_ends(tls_context: ssl.SSLContext) -> None:
    kept = Kept(tls_context, _well)
    made = make_attempts(kept.server.listener(), _requests(), 5, lambda: False)
    kept.server.close()
    assert (made.further, made.trusted, kept.asked) == ((), False, [["/version"]])


@pytest.fixture
def observed(tls_context: ssl.SSLContext, pki: tuple[ClusterPKI, Path]) -> Callable[..., Observer]:
    """Return an observer of a server, that is going to be asked for the paths."""

    def observer_of(kept: Kept) -> Observer:
        generated, _ = pki
        listener = kept.server.listener(role=Role.PEER)
        target = Target(
            label="t",
            origin="live",
            listeners=(listener,),
            peer=PortCredentials(identities=(generated.peer_client,)),
        )
        observer = Observer(target, Bounds(timeout=2))
        observer.expect(lambda: [(listener, ClientExchange, path) for path in PATHS[1:]])
        return observer

    return observer_of


def _statuses(observer: Observer) -> list[int | None]:
    [listener] = observer.target.listeners
    found = [observer.get(ClientExchange, path, listener).attempt.response for path in PATHS]
    return [one.status if one else None for one in found]


def test_expected_requests_are_sent_on_the_connection_of_the_accepted_client(
    tls_context: ssl.SSLContext, observed: Callable[..., Observer]
) -> None:
    kept = Kept(tls_context, _well)
    observer = observed(kept)
    assert _statuses(observer) == [200, 200, 404, 404]
    observer.get(AcceptedClient, None, observer.target.listeners[0])
    kept.server.close()
    assert ["/version", "/debug/pprof/", "/health", "/v2/keys"] in kept.asked
    assert sum(map(len, kept.asked)) == len(kept.asked) + 3
    assert observer.used["peer-m0"] == len(kept.asked) == kept.server.accepted
    assert [one.reused for one in observer.connections].count(True) == 3  # type: ignore[union-attr]


@MISBEHAVING
def test_a_kept_connection_that_misbehaves_changes_no_observation(
    tls_context: ssl.SSLContext,
    observed: Callable[..., Observer],
    behave: Callable[[ssl.SSLSocket, str, int], bool],
) -> None:
    kept = Kept(tls_context, behave)
    observer = observed(kept)
    assert _statuses(observer) == [200, 200, 404, 404]
    kept.server.close()
    [listener] = observer.target.listeners
    for path in PATHS:
        # On a busy machine one may be repeated.
        assert not any(attempt.reused for attempt in observer.get(ClientExchange, path, listener).tries), path
    assert observer.used["peer-m0"] == kept.server.accepted


def test_a_server_that_stops_at_a_request_on_a_shared_connection_gets_it_again(
    tls_context: ssl.SSLContext, observed: Callable[..., Observer]
) -> None:
    """Its response has no length, and it closes only if it is asked to."""

    def handle(connection: socket.socket) -> None:
        with tls_context.wrap_socket(connection, server_side=True) as stream:
            head = stream.recv(4096)
            stream.sendall(_answer(head.split()[1].decode()).replace(b"Content-Length", b"X"))
            if b"connection: close" in head.lower():
                stream.unwrap()
            else:
                stream.recv(1)

    kept = Kept(tls_context, _well)
    kept.server.close()
    kept.server = ThreadedServer(handle)
    assert _statuses(observed(kept)) == [200, 200, 404, 404]
    kept.server.close()


def test_credentials_and_bodies_of_a_key_get_a_connection_of_their_own(
    tls_context: ssl.SSLContext, observed: Callable[..., Observer]
) -> None:
    kept = Kept(tls_context, _well)
    observer = observed(kept)
    [listener] = observer.target.listeners
    keys = ["GET /health\nAuthorization: secret", "POST /health", "GET /health\n\nbody"]
    observer.expect(lambda: [(listener, ClientExchange, key) for key in keys])
    for key in keys:
        assert not observer.get(ClientExchange, key, listener).attempt.reused
    kept.server.close()
    assert {len(asked) for asked in kept.asked} == {1}
