"""Connecting to a listener, and the names on either end. Knows nothing of what is spoken then."""

from __future__ import annotations

import re
import socket
import time
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
    try:
        connected = socket.create_connection((host, port), timeout=max(0.001, deadline - time.monotonic()))
    except TimeoutError as error:
        raise DialError(Ending.TIMEOUT, f"no TCP connection to {host} port {port} in time") from error
    except OSError as error:
        text = f"no TCP connection to {host} port {port}: {error.strerror or error}"
        raise DialError(Ending.FAILED, text) from error
    except UnicodeError as error:
        raise DialError(Ending.FAILED, f"{host!r} is not a host name: {error}") from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


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
