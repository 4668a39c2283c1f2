"""Connecting to a listener, and the names on either end. Knows nothing of what is spoken then."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Sequence
from typing import Final

from pytest_etcdtls.observations.attempt import Ending
from pytest_etcdtls.pki.names import is_address
from pytest_etcdtls.target import Listener

_LONGEST_NAME: Final = 253
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


class DialError(Exception):
    """There is no TCP connection.

    Attributes:
        ending: a time-out, or a failure that the operating system named.
    """

    def __init__(self, ending: Ending, detail: str) -> None:
        super().__init__(detail)
        self.ending = ending


def dial(listener: Listener, deadline: float) -> socket.socket:
    """Return a connected socket, for the caller to close.

    Args:
        listener: where to.
        deadline: ``time.monotonic()`` at which it is too late.

    Raises:
        DialError: if there is no connection.
    """
    host, port = listener.address
    patience = max(0.001, deadline - time.monotonic())
    try:
        connected = socket.create_connection((host, port), timeout=patience, all_errors=True)
    except ExceptionGroup as group:
        raise _no_connection(host, port, group.exceptions) from group
    except OSError as error:
        raise _no_connection(host, port, [error]) from error
    except UnicodeError as error:
        raise DialError(Ending.FAILED, f"{host!r} is not a host name: {error}") from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _no_connection(host: str, port: int, errors: Sequence[Exception]) -> DialError:
    """Return what the last address of a host came to; it is a refusal only if every address refused."""
    last = errors[-1]
    if isinstance(last, TimeoutError):
        return DialError(Ending.TIMEOUT, f"no TCP connection to {host} port {port} in time")
    refused = all(isinstance(error, ConnectionRefusedError) for error in errors)
    why = (last.strerror if isinstance(last, OSError) else None) or last
    text = f"no TCP connection to {host} port {port}: {why}"
    return DialError(Ending.CONNECTION_REFUSED if refused else Ending.FAILED, text)


def addresses_of(host: str, seconds: float) -> frozenset[str]:
    """Return the addresses of a host; none if it has none or the resolver does not tell them in time."""
    found: list[str] = []

    def look() -> None:
        try:
            answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend(str(address[0]) for *_, address in answers)

    # The resolver cannot be interrupted; a thread that waits for it may be left behind.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    return frozenset(found)


def local_address(sock: socket.socket) -> str:
    """Return our ``host:port`` as Go's log writes it."""
    host, port, *_ = sock.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server_name(listener: Listener) -> str | None:
    """Return the name for SNI, ``None`` for a host that cannot be sent there."""
    return sni(listener.host)


def sni(host: str) -> str | None:
    """Return a host as it is sent by SNI: without trailing dot (RFC 6066 section 3), as Go's client does.

    Returns:
        ``None`` for an address, and for what is no host name in ASCII: empty labels, or long ones. It is not
        asked whether a label such as ``xn--n3h`` is valid IDNA: clients of etcd do not ask either.
    """
    name = host.rstrip(".")
    if is_address(name) or len(name) > _LONGEST_NAME or not _HOST_NAME.fullmatch(name):
        return None
    return name
