"""Conforming samples of the observations about TLS itself: hellos, suites, groups, sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_etcdtls.observations.attempt import Ending, TLSVersion, Way
from pytest_etcdtls.observations.cipher_suites import SUITES, Weakness
from pytest_etcdtls.observations.greeting import TLS1_2, Greeting, Reply, ServerHello
from pytest_etcdtls.observations.named_groups import HYBRIDS, MODERN
from pytest_etcdtls.observations.protocol import (
    AlpnChoice,
    AlpnChoices,
    GroupSupport,
    NewestVersion,
    OddHello,
    OldVersions,
    SilentConnection,
    SuiteSupport,
)
from pytest_etcdtls.observations.session import (
    ForeignSession,
    Renegotiation,
    Resumed,
    Resumption,
    SessionTickets,
    Ticket,
)

if TYPE_CHECKING:
    from conforming import Place

NOW = datetime.now(UTC)
_FILES = ("client.crt", "client.key")


def _greeting(place: Place, offered: str, **changes: Any) -> Greeting:
    facts: dict[str, Any] = {
        "url": place.url,
        "purpose": "sample",
        "offered": offered,
        "reply": Reply.SERVER_HELLO,
        "started_at": NOW,
        "server_hello": ServerHello(version=TLS1_2, suite=0xC02F, group=29, extensions=frozenset({0xFF01})),
        "local_address": "127.0.0.1:50000",
    }
    return Greeting(**(facts | changes))


def _alert(place: Place, offered: str, number: int) -> Greeting:
    return _greeting(place, offered, reply=Reply.ALERT, server_hello=None, alert=number)


def _newest(place: Place, key: str | None) -> NewestVersion:
    return NewestVersion(url=place.url, role=place.role, offered=True, attempt=place.refused(identity="none"))


def _old(place: Place, key: str | None) -> OldVersions:
    greetings = tuple(_alert(place, name, 70) for name in ("SSLv3", "TLSv1.0", "TLSv1.1"))
    return OldVersions(url=place.url, role=place.role, greetings=greetings)


def _suites(place: Place, key: str | None) -> SuiteSupport:
    strong = tuple(
        suite
        for suite in SUITES
        if suite.weakness is Weakness.NONE and suite.name.startswith("TLS_ECDHE_ECDSA_")
    )
    return SuiteSupport(url=place.url, role=place.role, accepted=strong)


def _groups(place: Place, key: str | None) -> GroupSupport:
    return GroupSupport(
        url=place.url, role=place.role, version=TLSVersion.TLS1_3, accepted=(HYBRIDS[0], *MODERN[:4])
    )


def _variant(place: Place, key: str | None) -> OddHello:
    plain = _greeting(place, "TLSv1.2")
    odd = _alert(place, "TLSv1.2", 86) if key == "fallback" else plain
    return OddHello(url=place.url, role=place.role, version=TLSVersion.TLS1_2, plain=plain, odd=odd)


def _alpn(place: Place, key: str | None) -> AlpnChoices:
    known = key == "known"
    return AlpnChoices(
        url=place.url,
        role=place.role,
        offered=("h2", "http/1.1") if known else ("unknown",),
        choices=tuple(
            AlpnChoice(version=version, selected="h2") if known else AlpnChoice(version=version, alert=120)
            for version in TLSVersion
        ),
    )


def _silence(place: Place, key: str | None) -> SilentConnection:
    ended = _greeting(place, "", reply=Reply.ENDED, server_hello=None, detail="closed without an answer")
    return SilentConnection(url=place.url, role=place.role, patience=20, greeting=ended)


def _tickets(place: Place, key: str | None) -> SessionTickets:
    ticket = Ticket(lifetime=604800, max_early_data=0)
    return SessionTickets(url=place.url, role=place.role, files=_FILES, tickets=(ticket,))


def _resumption(place: Place, key: str | None) -> Resumption:
    def resumed(version: TLSVersion, identity: str, **changes: Any) -> Resumed:
        attempt = place.attempt(asked=version, identity=identity, **changes)
        return Resumed(version=version, identity=identity, fresh=attempt, again=attempt)

    closed = {"way": Way.CLOSED, "ending": Ending.CLOSE_NOTIFY, "first_bytes": b"", "response": None}
    return Resumption(
        url=place.url,
        role=place.role,
        files=_FILES,
        good=tuple(resumed(version, "client") for version in TLSVersion),
        revoked=tuple(resumed(version, "revoked", **closed) for version in TLSVersion),
    )


def _foreign(place: Place, key: str | None) -> ForeignSession:
    return ForeignSession(
        url=place.url,
        role=place.role,
        other="https://127.0.0.1:2381",
        files=_FILES,
        presented=tuple(
            (version, place.attempt(asked=version), place.refused(asked=version, identity="none"))
            for version in TLSVersion
        ),
    )


def _renegotiation(place: Place, key: str | None) -> Renegotiation:
    attempt = place.attempt(
        asked=TLSVersion.TLS1_2, version="TLSv1.2", way=Way.OTHER, alert=10, response=None, first_bytes=b""
    )
    return Renegotiation(url=place.url, role=place.role, announced=True, files=_FILES, attempt=attempt)


SAMPLES: dict[type[Any], Any] = {
    NewestVersion: _newest,
    OldVersions: _old,
    SuiteSupport: _suites,
    GroupSupport: _groups,
    OddHello: _variant,
    AlpnChoices: _alpn,
    SilentConnection: _silence,
    SessionTickets: _tickets,
    Resumption: _resumption,
    ForeignSession: _foreign,
    Renegotiation: _renegotiation,
}
