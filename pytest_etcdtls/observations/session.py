"""TLS sessions: what a server gives out for resumption, and whom it lets in with it.

Facts only, no secrets.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_etcdtls.observations.attempt import Attempt, TLSVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A ticket of TLS 1.3, what can be said of it openly.

    Attributes:
        lifetime: seconds for which the client may use it.
        max_early_data: octets that the client may send before the handshake; 0 forbids early data.
    """

    lifetime: int
    max_early_data: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTickets:
    """The tickets that the accepted client got on one TLS 1.3 connection.

    Attributes:
        files: certificate and key of the client, for commands to paste.
        tickets: in the order in which they came, empty if none did.
    """

    url: str
    role: str
    files: tuple[str, str] | None
    tickets: tuple[Ticket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """One identity, let in or not afresh, and then with the session that it got.

    Attributes:
        fresh: the attempt on which the session was got.
        again: the attempt that offered it; ``None`` if none was got. The last of its tries.
    """

    version: TLSVersion
    identity: str
    fresh: Attempt
    again: Attempt | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What sessions are worth on the listener that gave them out.

    Attributes:
        files: certificate and key of the good client, for commands to paste.
        good: the accepted client, by TLS version.
        revoked: an identity that TLS lets in and etcd then closes, where one is known.
    """

    url: str
    role: str
    files: tuple[str, str] | None
    good: tuple[Resumed, ...]
    revoked: tuple[Resumed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignSession:
    """A session of the member's other port, presented without any certificate.

    Attributes:
        url: the listener where it was presented.
        other: the listener that gave it out.
        files: certificate and key of the client that got it, for commands to paste.
        presented: TLS version, the attempt that got it, the attempt that presented it.
    """

    url: str
    role: str
    other: str
    files: tuple[str, str] | None
    presented: tuple[tuple[TLSVersion, Attempt, Attempt], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renegotiation:
    """Whether the listener makes a second handshake on a connection (TLS 1.2).

    Attributes:
        announced: its hello says that it knows secure renegotiation (RFC 5746).
        files: certificate and key of the client, for commands to paste.
        attempt: the connection on which it was asked for; ``None`` if it could not be.
        unasked: why it could not be asked for.
    """

    url: str
    role: str
    announced: bool
    files: tuple[str, str] | None = None
    attempt: Attempt | None = None
    unasked: str = ""
