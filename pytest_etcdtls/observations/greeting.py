"""One ClientHello and what came back: how a server answers an offer, before any certificate is asked for.

A greeting is no attempt of the refusal table: nobody is let in or refused by it, no request is made. Facts
only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pytest_etcdtls.observations.attempt import Attempt, alert_text
from pytest_etcdtls.observations.cipher_suites import suite_name
from pytest_etcdtls.observations.named_groups import MODERN, group_name

SSL3, TLS1_0, TLS1_1, TLS1_2, TLS1_3 = 0x0300, 0x0301, 0x0302, 0x0303, 0x0304

VERSION_NAMES: Mapping[int, str] = {
    SSL3: "SSLv3",
    TLS1_0: "TLSv1.0",
    TLS1_1: "TLSv1.1",
    TLS1_2: "TLSv1.2",
    TLS1_3: "TLSv1.3",
}
"""Protocol versions as their number on the wire."""


def version_name(number: int) -> str:
    """Return ``TLSv1.2`` for 0x0303."""
    return VERSION_NAMES.get(number, f"0x{number:04X}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a ClientHello offers.

    Attributes:
        purpose: a few words for the report.
        version: the highest version offered; only this one and no lower one if it is TLS 1.3.
        suites: numbers of cipher suites and signals, in the order offered.
        groups: numbers of key exchange groups, in the order offered.
        key_share: a TLS 1.3 hello carries a key share for X25519; without one the server names the group
            that it wants in a HelloRetryRequest.
        alpn: protocol names offered (RFC 7301).
        compression: numbers of compression methods; 0 is none.
        grease: reserved values that no server can know stand among the known ones (RFC 8701).
        to_key_exchange: read on to the ServerKeyExchange, which names the group in TLS 1.2.
    """

    purpose: str
    version: int
    suites: tuple[int, ...]
    groups: tuple[int, ...] = tuple(group.code for group in MODERN)
    key_share: bool = True
    alpn: tuple[str, ...] = ()
    compression: tuple[int, ...] = (0,)
    grease: bool = False
    to_key_exchange: bool = False


class Reply(StrEnum):
    """What came back."""

    SERVER_HELLO = "server hello"
    """The server accepted the offer; a HelloRetryRequest counts, as it names what it accepts."""
    ALERT = "alert"
    """The server refused the offer and said so."""
    ENDED = "ended"
    """The connection ended without an answer."""
    SILENCE = "silence"
    """Nothing came in time."""
    OTHER = "other"
    """Something else than TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHello:
    """What a server chose.

    Attributes:
        version: number of the protocol version.
        suite: number of the cipher suite.
        compression: number of the compression method.
        group: number of the key exchange group; ``None`` if it was not named in what was read.
        alpn: the protocol selected, empty if none was named here; TLS 1.3 names it in what is encrypted.
        extensions: numbers of the extensions present.
        retry: it was a HelloRetryRequest.
    """

    version: int
    suite: int
    compression: int = 0
    group: int | None = None
    alpn: str = ""
    extensions: frozenset[int] = frozenset()
    retry: bool = False

    def describe(self) -> str:
        """Return version, suite and group in words."""
        suite = suite_name(self.suite) if self.version < TLS1_3 else f"0x{self.suite:04X}"
        group = f", {group_name(self.group)}" if self.group is not None else ""
        return f"{version_name(self.version)}, {suite}{group}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """One hello, sent on a connection of its own, and what came back.

    Attributes:
        purpose: what it was made for, in a few words.
        offered: the version offered, as a name; empty if nothing was sent.
        reply: what came back.
        server_hello: what the server chose, for :attr:`Reply.SERVER_HELLO`.
        alert: number of the alert, for :attr:`Reply.ALERT`.
        detail: the end in words, for people.
        local_address: our address and port, as the server's log may show it.
        started_at: aware UTC.
        milliseconds: from the first SYN to the answer.
    """

    url: str
    purpose: str
    offered: str
    reply: Reply
    started_at: datetime
    server_hello: ServerHello | None = None
    alert: int | None = None
    detail: str = ""
    local_address: str = ""
    milliseconds: float = 0.0

    @property
    def answered(self) -> bool:
        """Whether the server answered the hello, with its own or with an alert."""
        return self.reply in (Reply.SERVER_HELLO, Reply.ALERT)

    @property
    def outcome(self) -> str:
        """The end in a word, as reports put it beside the ways of attempts."""
        return {Reply.SERVER_HELLO: "answered", Reply.ALERT: "other"}.get(self.reply, "unclear")

    def describe(self) -> str:
        """Return what came back in words: ``alert 70 protocol_version``."""
        if self.server_hello is not None:
            return f"accepted: {self.server_hello.describe()}"
        if self.alert is not None:
            return f"alert {alert_text(self.alert)}"
        return self.detail or str(self.reply)


Connection = Attempt | Greeting
"""A connection that was made, for whatever purpose."""
