"""What a listener is: whether it answers, what it speaks, what its plaintext side says."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_etcdtls.observations.attempt import Attempt, Stage, TLSVersion, Way

PROTOCOL_VERSION = 70
"""The alert ``protocol_version``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFacts:
    """What is known of the listener before anything is seen of it.

    Attributes:
        role: ``client``, ``peer``, ``metrics`` or ``client-http``.
        scheme: ``https`` or ``http``.
        host: name or address in the URL, without brackets.
        member: label of the member that it belongs to.
    """

    url: str
    role: str
    scheme: str
    host: str
    port: int
    member: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The first contact with a listener.

    Attributes:
        tls: attempts without a certificate, one per TLS version; empty for an ``http`` URL.
        plaintext: the plaintext attempt, where one was made.
        tls_instead: a TLS handshake, made where an ``http`` URL does not answer plain HTTP.
    """

    url: str
    role: str
    tls: tuple[Attempt, ...]
    plaintext: Attempt | None = None
    tls_instead: Attempt | None = None

    @property
    def offered(self) -> tuple[TLSVersion, ...]:
        """The TLS versions that the listener did not refuse with ``protocol_version`` in the hello.

        That alert comes before any certificate is asked for, so it is about the version and about nobody.
        """
        return tuple(
            attempt.asked
            for attempt in self.tls
            if attempt.asked is not None
            and not (attempt.alert == PROTOCOL_VERSION and attempt.stage is Stage.HANDSHAKE)
        )

    @property
    def speaks_tls(self) -> bool:
        """Whether anything of TLS came back."""
        return any(attempt.way is not Way.UNCLEAR for attempt in self.tls)

    @property
    def needs_tls(self) -> bool:
        """Whether an ``http`` URL was asked that speaks TLS alone."""
        return self.tls_instead is not None and self.tls_instead.way is not Way.UNCLEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Plaintext:
    """Plain HTTP sent to the listener.

    Attributes:
        tries: attempts, the last one counts.
        tls_works: a TLS handshake on the same port works.
    """

    url: str
    role: str
    scheme: str
    tries: tuple[Attempt, ...]
    tls_works: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnnamedPorts:
    """Plain HTTP at etcd's usual ports, on the hosts of the member list, where no listener is known.

    Attributes:
        tried: one attempt for each address, without credentials.
        not_tried: why some were not tried, one sentence each.
    """

    tried: tuple[Attempt, ...]
    not_tried: tuple[str, ...] = ()
