"""One greeting: connect, send a hello or nothing at all, and read what comes back.

A greeting never raises for what the server or the network did: that is its result. Completes no handshake.
"""

from __future__ import annotations

import contextlib
import socket
import time
from datetime import UTC, datetime

from pytest_etcdtls.observations.attempt import Ending
from pytest_etcdtls.observations.greeting import Greeting, Hello, Reply, ServerHello, version_name
from pytest_etcdtls.probes.client_hello import client_hello
from pytest_etcdtls.probes.dial import DialError, dial, local_address, server_name
from pytest_etcdtls.probes.server_hello import NotTLSError, read_answer
from pytest_etcdtls.target import Listener

_LIMIT = 256 * 1024
_FAREWELL = 1.0
"""Seconds that the server may take to see that we are done."""


def make_greeting(listener: Listener, hello: Hello, timeout: float) -> Greeting:
    """Send a hello on a connection of its own and return what came back.

    Args:
        listener: where to.
        hello: what to offer.
        timeout: seconds for the whole greeting.
    """
    record = client_hello(hello, server_name(listener))
    exchange = _Exchange(listener, time.monotonic() + timeout)
    with exchange:
        exchange.send(record)
        exchange.read_answer(to_key_exchange=hello.to_key_exchange)
    return exchange.greeting(hello.purpose, version_name(hello.version))


def keep_silent(listener: Listener, purpose: str, patience: float) -> Greeting:
    """Connect, send nothing, and return whether the server ended that.

    Args:
        listener: where to.
        purpose: a few words for the report.
        patience: seconds to wait.
    """
    exchange = _Exchange(listener, time.monotonic() + patience)
    with exchange:
        exchange.read_answer(to_key_exchange=False)
    return exchange.greeting(purpose, "")


class _Exchange:
    """A connection, as a context manager, and what was seen on it."""

    def __init__(self, listener: Listener, deadline: float) -> None:
        self._listener = listener
        self._deadline = deadline
        self._started_at, self._started = datetime.now(UTC), time.monotonic()
        self._milliseconds = 0.0
        self._socket: socket.socket | None = None
        self._local_address = ""
        self._reply, self._detail = Reply.SILENCE, ""
        self._server_hello: ServerHello | None = None
        self._alert: int | None = None

    def __enter__(self) -> None:
        try:
            self._socket = dial(self._listener, self._deadline)
        except DialError as error:
            self._end(Reply.SILENCE if error.ending is Ending.TIMEOUT else Reply.ENDED, str(error))
        else:
            self._local_address = local_address(self._socket)

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._say_goodbye(self._socket)
            self._socket.close()

    def send(self, record: bytes) -> None:
        """Send, if there is a connection; that this fails is seen in what comes back."""
        if self._socket is not None:
            self._socket.settimeout(self._left())
            with contextlib.suppress(OSError):
                self._socket.sendall(record)

    def read_answer(self, *, to_key_exchange: bool) -> None:
        """Read until the server has answered, or the connection or the time has ended."""
        data = b""
        while self._socket is not None and self._answer(data, to_key_exchange) is None:
            try:
                self._socket.settimeout(self._left())
                chunk = self._socket.recv(65536)
            except TimeoutError:
                return self._end(Reply.SILENCE, "nothing came in time")
            except OSError as error:
                return self._end(Reply.ENDED, f"connection reset ({error.strerror})")
            if not chunk:
                return self._end(Reply.ENDED, "the connection was closed without an answer")
            data += chunk
            if len(data) > _LIMIT:
                return self._end(Reply.OTHER, f"no answer of TLS in {_LIMIT} octets")
        return None

    def greeting(self, purpose: str, offered: str) -> Greeting:
        """Return what was seen."""
        return Greeting(
            url=self._listener.url,
            purpose=purpose,
            offered=offered,
            reply=self._reply,
            started_at=self._started_at,
            server_hello=self._server_hello,
            alert=self._alert,
            detail=self._detail,
            local_address=self._local_address,
            milliseconds=self._milliseconds,
        )

    def _answer(self, data: bytes, to_key_exchange: bool) -> Reply | None:
        try:
            answer = read_answer(data, to_key_exchange=to_key_exchange)
        except NotTLSError as error:
            self._end(Reply.OTHER, str(error))
            return Reply.OTHER
        if answer is None:
            return None
        if isinstance(answer, ServerHello):
            self._server_hello = answer
            self._end(Reply.SERVER_HELLO, "")
        else:
            self._alert = answer
            self._end(Reply.ALERT, "")
        return self._reply

    def _end(self, reply: Reply, detail: str) -> None:
        self._reply, self._detail = reply, detail
        self._milliseconds = round((time.monotonic() - self._started) * 1000, 3)

    def _left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    def _say_goodbye(self, sock: socket.socket) -> None:
        """Close our side and read on to the server's, so that what is unread does not become a reset."""
        deadline = time.monotonic() + _FAREWELL
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                if not sock.recv(65536):
                    return
