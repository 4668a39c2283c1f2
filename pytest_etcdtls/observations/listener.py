"""What a listener is: whether it answers, what it speaks, what its plaintext side says."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_etcdtls.observations.attempt import Attempt, Protocol, TLSVersion


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
    """

    tls: tuple[Attempt, ...]
    plaintext: Attempt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plaintext:
    """Plain HTTP sent to the listener.

    Attributes:
        tries: attempts, the last one counts.
        tls_works: a TLS handshake on the same port works.
    """

    tries: tuple[Attempt, ...]
    tls_works: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The good identities tried on the listener, in order, until one was accepted.

    Attributes:
        tried: attempts in the order made, several per identity.
        identity: name of the one accepted, ``None`` if none was.
        accepted: its attempt.
        versions: TLS versions that it was served in.
        protocols: protocols that it was served in, of those that the listener is asked for.
        candidates: names of the good identities known for this listener.
        san_rule_explains: every candidate that was closed has SANs and the listener applies etcd's SAN rule.
    """

    tried: tuple[Attempt, ...]
    identity: str | None
    accepted: Attempt | None
    versions: tuple[TLSVersion, ...]
    protocols: tuple[Protocol, ...]
    candidates: tuple[str, ...]
    san_rule_explains: bool = False
