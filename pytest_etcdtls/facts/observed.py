"""What a client observes of a target, of facts: one function for each type of fact.

A value says only what stays equal as long as etcd and its settings do: no address, port, path, time, serial
number or key, sets sorted, a duration as a bound. An attempt without an end (a time-out, a reset) is left
out, because it ends in another way in the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import singledispatch
from typing import Final

from pytest_etcdtls.facts.access import AcceptedClient, Access
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.api import (
    ClientExchange,
    GRPCOverHTTP1,
    NegotiatedExchange,
    UnauthenticatedExchange,
)
from pytest_etcdtls.facts.behaviour import BUILD, GATEWAY, SEPARATOR, Behaviour
from pytest_etcdtls.facts.calls import GatewayAnswer, RangeAnswer
from pytest_etcdtls.facts.certificates import AnnouncedCAs
from pytest_etcdtls.facts.experiments import Experiment, ForeignMember, RenewalUnderLoad
from pytest_etcdtls.facts.listener import ServedChain, Tried
from pytest_etcdtls.facts.protocol import (
    AlpnChoices,
    GroupSupport,
    OldVersions,
    SilentConnection,
    SuiteSupport,
    TLS13Suites,
    UnusualClientHello,
)
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.facts.release import GoRelease
from pytest_etcdtls.facts.sessions import Renegotiation, Resumption, SessionTickets
from pytest_etcdtls.pki.certificate import describe_key, name_texts, public_key, purposes, signature_hash
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.tls.attempt import Attempt, Ending, alert_text
from pytest_etcdtls.tls.hello import HelloExchange, Reply
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, printable

_ENDINGS: Final = {
    Ending.SERVED: "accepted",
    Ending.REFUSED: "refused",
    Ending.CLOSED: "refused",
    Ending.OTHER: "refused",
}
_NO_ALERT = "close_notify, no alert"
_CLOSED_WITHIN: Final = (3, 7, 15)
"""Seconds. The time until a silent connection is closed is reported as the next of these."""


def observed_behaviour(seen: Recording) -> tuple[Behaviour, ...]:
    """Return what a client observes of a target, in its own order; of one thing the first observation."""
    first: dict[tuple[str, str, str, str], Behaviour] = {}
    for listener, key, fact in seen.observations():
        for one in texts(fact, listener.label if listener else CLUSTER, key):
            place = (one.listener, one.topic, printable(one.subject), printable(one.detail))
            first.setdefault(place, Behaviour(*place, printable(one.value, LINE_LIMIT)))
    return tuple(sorted(first.values()))


@singledispatch
def texts(_fact: object, _listener: str, _key: str | None) -> Iterator[Behaviour]:
    """Yield the texts about an observation; none if its type has no function below.

    Args:
        _fact: the observation.
        _listener: the label of its listener, or ``cluster``.
        _key: its key; ``None`` if its type has no keys.
    """
    return iter(())


def _several(values: Iterable[str]) -> str:
    return SEPARATOR.join(sorted(set(values))) or "none"


def _version(name: str) -> str:
    return name.replace("TLSv", "TLS ")


def _ended(attempts: Sequence[Attempt]) -> tuple[str, str] | None:
    """Return how attempts with several protocols ended, and the alerts; ``None`` if one has no end."""
    if not attempts or any(attempt.ending not in _ENDINGS or attempt.local for attempt in attempts):
        return None
    refused = [attempt for attempt in attempts if attempt.ending is not Ending.SERVED]
    alerts = [_NO_ALERT if attempt.alert is None else alert_text(attempt.alert) for attempt in refused]
    return _several(_ENDINGS[attempt.ending] for attempt in attempts), _several(alerts)


def _identity(at: str, name: str, cases: Access) -> Iterator[Behaviour]:
    for version in cases.versions:
        if (ended := _ended(cases.within(version).attempts)) is not None:
            access, alerts = ended
            yield Behaviour(at, "access", name, _version(version), access)
            if access != "accepted":
                yield Behaviour(at, "alert", name, _version(version), alerts)


@texts.register(AccessMatrix)
def _matrix(fact: AccessMatrix, at: str, _: str | None) -> Iterator[Behaviour]:
    if not fact.instead_of:
        yield from _identity(at, fact.identity, fact.cases)


@texts.register(AcceptedClient)
def _accepted(fact: AcceptedClient, at: str, _: str | None) -> Iterator[Behaviour]:
    for candidate in fact.candidates:
        yield from _identity(at, candidate.identity, candidate.cases)
    if fact.versions:
        yield Behaviour(at, "versions", "TLS versions", "", _several(map(_version, fact.versions)))


@texts.register(OldVersions)
def _old_versions(fact: OldVersions, at: str, _: str | None) -> Iterator[Behaviour]:
    for exchange in fact.exchanges:
        if value := _reply(exchange):
            yield Behaviour(at, "versions", f"a hello of {_version(exchange.offered)}", "", value)


def _reply(exchange: HelloExchange) -> str:
    if exchange.reply is Reply.SERVER_HELLO:
        return "accepted"
    return f"alert {alert_text(exchange.alert)}" if exchange.alert is not None else ""


@texts.register(SuiteSupport)
def _suites(fact: SuiteSupport, at: str, _: str | None) -> Iterator[Behaviour]:
    if fact.complete:
        yield Behaviour(at, "suites", "TLS 1.2 suites", "", _several(suite.name for suite in fact.accepted))


@texts.register(TLS13Suites)
def _tls13_suites(fact: TLS13Suites, at: str, _: str | None) -> Iterator[Behaviour]:
    yield Behaviour(at, "suites", "unusual TLS 1.3 suites", "", _several(fact.accepted))


@texts.register(GroupSupport)
def _groups(fact: GroupSupport, at: str, _: str | None) -> Iterator[Behaviour]:
    weak = fact.weak.name if fact.weak else "none"
    if fact.complete:
        accepted = _several(group.name for group in fact.accepted)
        yield Behaviour(at, "groups", "key exchange groups", _version(fact.version), accepted)
    yield Behaviour(at, "groups", "weak group", _version(fact.version), weak)


@texts.register(AlpnChoices)
def _alpn(fact: AlpnChoices, at: str, key: str | None) -> Iterator[Behaviour]:
    for choice in fact.choices:
        value = f"alert {alert_text(choice.alert)}" if choice.alert is not None else choice.selected or "none"
        yield Behaviour(at, "alpn", f"ALPN for {key or 'known'} names", _version(choice.version), value)


@texts.register(UnusualClientHello)
def _hello(fact: UnusualClientHello, at: str, key: str | None) -> Iterator[Behaviour]:
    if value := _reply(fact.unusual):
        yield Behaviour(at, "hello", f"hello with {(key or '').replace('-', ' ')}", "", value)


@texts.register(SilentConnection)
def _silence(fact: SilentConnection, at: str, _: str | None) -> Iterator[Behaviour]:
    seconds = fact.exchange.milliseconds / 1000
    bound = next((bound for bound in _CLOSED_WITHIN if seconds < bound), fact.patience)
    is_open = fact.exchange.reply is Reply.SILENCE
    value = f"open for {fact.patience:g} s" if is_open else f"closed within {bound:g} s"
    yield Behaviour(at, "silence", "a connection on which nothing is sent", "", value)


@texts.register(AnnouncedCAs)
def _announced(fact: AnnouncedCAs, at: str, _: str | None) -> Iterator[Behaviour]:
    for version, requested in fact.requested:
        value = "requested" if requested else "not requested"
        yield Behaviour(at, "announced", "client certificate", _version(version), value)
    for version, names in fact.names:
        yield Behaviour(at, "announced", "announced CAs", _version(version), _several(name_texts(names)))


@texts.register(ServedChain)
def _served(fact: ServedChain, at: str, _: str | None) -> Iterator[Behaviour]:
    leaf = fact.leaf
    yield Behaviour(at, "certificate", "key", "", describe_key(public_key(leaf)))
    yield Behaviour(at, "certificate", "signature", "", signature_hash(leaf) or "unknown")
    yield Behaviour(at, "certificate", "usages", "", _several(purposes(leaf) or ()))
    yield Behaviour(at, "certificate", "certificates sent", "", str(len(fact.certificates)))


def _answer(attempt: Attempt) -> str:
    """Return the status of an answer, else how the attempt ended; empty if it has no end."""
    if attempt.response is not None:
        return f"HTTP {attempt.response.status}"
    return _ENDINGS.get(attempt.ending, "")


@texts.register(ClientExchange)
@texts.register(UnauthenticatedExchange)
def _exchange(fact: ClientExchange | UnauthenticatedExchange, at: str, _: str | None) -> Iterator[Behaviour]:
    client = "" if isinstance(fact, ClientExchange) else " without a certificate"
    if value := _answer(fact.attempt):
        yield Behaviour(at, "api", f"{fact.method} {fact.path}{client}", "", value)
    response = fact.attempt.response
    if fact.path == "/version" and response is not None and response.fields:
        names = list(response.fields)[:32]
        yield Behaviour(at, "api", "fields of /version", "", _several(names))


_CALLS: Final[Mapping[type[Tried], str]] = {
    GRPCOverHTTP1: "gRPC over HTTP/1.1",
    NegotiatedExchange: "HTTP/1.1 after h2 was negotiated",
}


@texts.register(GatewayAnswer)
def _gateway(fact: GatewayAnswer, at: str, _: str | None) -> Iterator[Behaviour]:
    if fact.state:
        yield Behaviour(at, GATEWAY, "JSON gateway", "", fact.state)


@texts.register(GRPCOverHTTP1)
@texts.register(NegotiatedExchange)
def _call(fact: Tried, at: str, _: str | None) -> Iterator[Behaviour]:
    if fact.tries and (value := _answer(fact.attempt)):
        yield Behaviour(at, "api", _CALLS[type(fact)], "", value)


@texts.register(RangeAnswer)
def _range(fact: RangeAnswer, at: str, _: str | None) -> Iterator[Behaviour]:
    if fact.status is not None:
        yield Behaviour(at, "api", "gRPC Range", "", f"gRPC status {fact.status}")


@texts.register(SessionTickets)
def _tickets(fact: SessionTickets, at: str, _: str | None) -> Iterator[Behaviour]:
    lifetimes = _several(str(ticket.lifetime) for ticket in fact.tickets)
    yield Behaviour(
        at, "sessions", "session tickets", "TLS 1.3", f"{len(fact.tickets)} (lifetime {lifetimes})"
    )


@texts.register(Resumption)
def _resumption(fact: Resumption, at: str, _: str | None) -> Iterator[Behaviour]:
    for session in fact.good:
        again = session.again
        if again is None or again.ending is Ending.SERVED:
            value = "resumed" if again is not None and again.resumed else "not resumed"
            yield Behaviour(at, "sessions", "session of a good client", _version(session.version), value)


@texts.register(Renegotiation)
def _renegotiation(fact: Renegotiation, at: str, _: str | None) -> Iterator[Behaviour]:
    if fact.attempt is not None:
        value = "made" if fact.attempt.renegotiated else "refused"
        yield Behaviour(at, "sessions", "renegotiation", "TLS 1.2", value)


@texts.register(GoRelease)
def _go(fact: GoRelease, at: str, _: str | None) -> Iterator[Behaviour]:
    yield Behaviour(at, BUILD, "Go", "", fact.text)


@texts.register(Experiment)
def _experiment(fact: Experiment, _: str, __: str | None) -> Iterator[Behaviour]:
    for step in fact.steps:
        tries: dict[tuple[str, str], list[Attempt]] = {}
        for made in step.attempts:
            tries.setdefault((made.role, made.who), []).append(made.attempt)
        for (role, who), attempts in tries.items():
            if (ended := _ended(attempts)) is not None:
                yield Behaviour(role, "lifecycle", f"{fact.name}, {step.name}", who, ended[0])


@texts.register(ForeignMember)
def _foreign_member(fact: ForeignMember, _: str, __: str | None) -> Iterator[Behaviour]:
    for detail, joined in (("of another CA", fact.joined), ("with its own certificate", fact.joined_again)):
        yield Behaviour(
            CLUSTER, "lifecycle", "a member that joins", detail, "joined" if joined else "did not join"
        )


@texts.register(RenewalUnderLoad)
def _renewal(fact: RenewalUnderLoad, _: str, __: str | None) -> Iterator[Behaviour]:
    for client, counts in fact.counts.items():
        if not counts.unclear:
            value = "some lost" if counts.lost else "none lost"
            yield Behaviour(CLUSTER, "lifecycle", "requests while certificates are renewed", client, value)
