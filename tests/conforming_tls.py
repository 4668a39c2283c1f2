"""Conforming samples of the observations about TLS itself: hellos, suites, groups, sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_etcdtls.facts.protocol import (
    AlpnChoice,
    AlpnChoices,
    GroupSupport,
    NewestVersion,
    OldVersions,
    SilentConnection,
    SuiteSupport,
    UnusualClientHello,
)
from pytest_etcdtls.role import TLSVersion
from pytest_etcdtls.tls.attempt import (
    Ending,
    ForeignSession,
    Renegotiation,
    Resumed,
    Resumption,
    SessionTickets,
    StreamEnd,
    Ticket,
)
from pytest_etcdtls.tls.hello import TLS1_2, HelloExchange, Reply, ServerHello
from pytest_etcdtls.tls.suites import HYBRIDS, MODERN, SUITES, Weakness

if TYPE_CHECKING:
    from conforming import Place

NOW = datetime.now(UTC)
_FILES = ("client.crt", "client.key")


def _greeting(place: Place, offered: str, **changes: Any) -> HelloExchange:
    facts: dict[str, Any] = {
        "url": place.url,
        "purpose": "sample",
        "offered": offered,
        "reply": Reply.SERVER_HELLO,
        "started_at": NOW,
        "server_hello": ServerHello(version=TLS1_2, suite=0xC02F, group=29, extensions=frozenset({0xFF01})),
        "local_address": "127.0.0.1:50000",
    }
    return HelloExchange(**(facts | changes))


def _alert(place: Place, offered: str, number: int) -> HelloExchange:
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


def _variant(place: Place, key: str | None) -> UnusualClientHello:
    plain = _greeting(place, "TLSv1.2")
    odd = _alert(place, "TLSv1.2", 86) if key == "fallback" else plain
    return UnusualClientHello(url=place.url, role=place.role, version=TLSVersion.TLS1_2, plain=plain, odd=odd)


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

    closed = {
        "ending": Ending.CLOSED,
        "stream_end": StreamEnd.CLOSE_NOTIFY,
        "first_bytes": b"",
        "response": None,
    }
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
        asked=TLSVersion.TLS1_2,
        version="TLSv1.2",
        ending=Ending.OTHER,
        alert=10,
        response=None,
        first_bytes=b"",
    )
    return Renegotiation(url=place.url, role=place.role, announced=True, files=_FILES, attempt=attempt)


SAMPLES: dict[type[Any], Any] = {
    NewestVersion: _newest,
    OldVersions: _old,
    SuiteSupport: _suites,
    GroupSupport: _groups,
    UnusualClientHello: _variant,
    AlpnChoices: _alpn,
    SilentConnection: _silence,
    SessionTickets: _tickets,
    Resumption: _resumption,
    ForeignSession: _foreign,
    Renegotiation: _renegotiation,
}
