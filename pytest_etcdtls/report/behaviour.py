"""What a client observes of a target, in words that do not depend on the machine, the moment or the PKI.

Made of the observations of a run, for :mod:`pytest_etcdtls.report.differences` and for the JSON report, in
which a later run finds it. What did not come to an end (a time-out, a reset) is no behaviour and left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pytest_etcdtls.baseline import BUILD, SEPARATOR, Behaviour, CheckOutcome, Snapshot
from pytest_etcdtls.errors import UnreadableJSONError
from pytest_etcdtls.facts.access import AcceptedClient, AccessMatrix
from pytest_etcdtls.facts.api import (
    ClientExchange,
    GatewayAnswer,
    GRPCOverHTTP1,
    NegotiatedExchange,
    RangeAnswer,
    UnauthenticatedExchange,
)
from pytest_etcdtls.facts.certificates import AnnouncedCAs, ServedChain
from pytest_etcdtls.facts.experiments import Experiment, ForeignMember, RenewalUnderLoad, SuiteOffers
from pytest_etcdtls.facts.protocol import (
    AlpnChoices,
    GroupSupport,
    OldVersions,
    SilentConnection,
    SuiteSupport,
    TLS13Suites,
    UnusualClientHello,
)
from pytest_etcdtls.facts.release import GoRelease
from pytest_etcdtls.pki.certificate import describe_key, name_text, public_key, purposes, signature_hash
from pytest_etcdtls.report.flag_reader import members
from pytest_etcdtls.report.model import Seen
from pytest_etcdtls.results import CheckResult
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.tls.attempt import (
    Attempt,
    Ending,
    Renegotiation,
    Resumption,
    SessionTickets,
    alert_text,
)
from pytest_etcdtls.tls.hello import HelloExchange, Reply
from pytest_etcdtls.untrusted import printable, read_json

_WORDS: Final = {
    Ending.SERVED: "accepted",
    Ending.REFUSED: "refused",
    Ending.CLOSED: "refused",
    Ending.OTHER: "refused",
}
_NO_ALERT = "close_notify, no alert"
_PATIENCE: Final = (3, 7, 15)
"""Seconds; the bounds between which the time until a silent connection is closed falls."""

Words = Iterator[tuple[str, str, str, str]]
"""Topic, subject, detail and value."""


def snapshot(seen: Seen, results: Iterable[CheckResult]) -> Snapshot:
    """Return what is compared of a target."""
    return Snapshot(
        label=seen.target.label,
        etcd_version=seen.etcd_version,
        live=seen.target.live,
        listeners=tuple((listener.label, str(listener.role)) for listener in seen.target.listeners),
        outcomes={
            (result.listener, result.check): CheckOutcome(
                result.outcome, result.cause is not None, result.message if result.findings else ""
            )
            for result in results
            if result.target == seen.target.label
        },
        behaviour=behaviour(seen),
    )


def behaviour(seen: Seen) -> tuple[Behaviour, ...]:
    """Return what a client observes of a target, in its own order; of one thing the first observation."""
    found: dict[tuple[str, str, str, str], Behaviour] = {}
    for one in _every(seen):
        found.setdefault((one.listener, one.topic, one.subject, one.detail), one)
    return tuple(sorted(found.values()))


def _every(seen: Seen) -> Iterator[Behaviour]:
    for listener, key, fact in seen.observations():
        reader = _READERS.get(type(fact))
        if reader is not None:
            for place, topic, subject, detail, value in reader(fact, key):
                label = place or (listener.label if listener else CLUSTER)
                yield Behaviour(label, topic, printable(subject), printable(detail), printable(value, 2048))
    for member, rows in members(seen):
        for row in rows:
            yield Behaviour(
                row.listener.label,
                "declaration",
                "what is declared comes to",
                "",
                _without_paths(row.effective),
            )
        traps = SEPARATOR.join(sorted({trap.id for trap in member.traps}))
        yield Behaviour(CLUSTER, "declaration", "settings that do not do what they say", "", traps or "none")
        starts = "yes" if member.starts else "no"
        yield Behaviour(CLUSTER, "declaration", "etcd starts with it", "", starts)


def _without_paths(text: str) -> str:
    return re.sub(r"(?:/[^\s/;,]+)*/([^\s/;,]+)", r"\1", text)


def _several(values: Iterable[str]) -> str:
    return SEPARATOR.join(sorted(set(values))) or "none"


def _version(name: str) -> str:
    return name.replace("TLSv", "TLS ")


def _ended(attempts: Sequence[Attempt]) -> tuple[str, str] | None:
    """Return how attempts with several protocols ended, and the alerts; ``None`` if one came to no end."""
    if not attempts or any(attempt.ending not in _WORDS or attempt.local for attempt in attempts):
        return None
    words = _several(_WORDS[attempt.ending] for attempt in attempts)
    refused = [attempt for attempt in attempts if attempt.ending is not Ending.SERVED]
    alerts = [_NO_ALERT if one.alert is None else alert_text(one.alert) for one in refused]
    return words, _several(alerts)


def _identity(name: str, tries: Mapping[str, Sequence[Attempt]]) -> Words:
    for version, attempts in tries.items():
        if (ended := _ended(attempts)) is not None:
            yield "access", name, _version(version), ended[0]
            if ended[0] != "accepted":
                yield "alert", name, _version(version), ended[1]


def _matrix(fact: AccessMatrix, _: str | None) -> Words:
    if not fact.instead_of:
        tries: dict[str, list[Attempt]] = {}
        for cell in fact.cells:
            tries.setdefault(cell.version, []).append(cell.attempt)
        yield from _identity(fact.identity, tries)


def _accepted(fact: AcceptedClient, _: str | None) -> Words:
    for candidate in fact.candidates:
        tries: dict[str, list[Attempt]] = {}
        for version, _protocol, made in candidate.tries:
            tries.setdefault(version, []).append(made[-1])
        yield from _identity(candidate.identity, tries)
    if fact.versions:
        yield "versions", "TLS versions", "", _several(map(_version, fact.versions))


def _old_versions(fact: OldVersions, _: str | None) -> Words:
    for exchange in fact.exchanges:
        if value := _reply(exchange):
            yield "versions", f"a hello of {_version(exchange.offered)}", "", value


def _reply(exchange: HelloExchange) -> str:
    if exchange.reply is Reply.SERVER_HELLO:
        return "accepted"
    return f"alert {alert_text(exchange.alert)}" if exchange.alert is not None else ""


def _suites(fact: SuiteSupport, _: str | None) -> Words:
    if fact.complete:
        yield "suites", "TLS 1.2 suites", "", _several(suite.name for suite in fact.accepted)


def _tls13_suites(fact: TLS13Suites, _: str | None) -> Words:
    yield "suites", "unusual TLS 1.3 suites", "", _several(fact.accepted)


def _groups(fact: GroupSupport, _: str | None) -> Words:
    weak = fact.weak.name if fact.weak else "none"
    if fact.complete:
        accepted = _several(one.name for one in fact.accepted)
        yield "groups", "key exchange groups", _version(fact.version), accepted
    yield "groups", "weak group", _version(fact.version), weak


def _alpn(fact: AlpnChoices, key: str | None) -> Words:
    for choice in fact.choices:
        value = f"alert {alert_text(choice.alert)}" if choice.alert is not None else choice.selected or "none"
        yield "alpn", f"ALPN for {key or 'known'} names", _version(choice.version), value


def _hello(fact: UnusualClientHello, key: str | None) -> Words:
    if value := _reply(fact.odd):
        yield "hello", f"hello with {(key or '').replace('-', ' ')}", "", value


def _silence(fact: SilentConnection, _: str | None) -> Words:
    seconds = fact.exchange.milliseconds / 1000
    bound = next((bound for bound in _PATIENCE if seconds < bound), None)
    ended = fact.exchange.reply is not Reply.SILENCE
    value = f"open for {fact.patience:g} s" if not ended else f"closed within {bound or fact.patience:g} s"
    yield "silence", "a connection on which nothing is sent", "", value


def _announced(fact: AnnouncedCAs, _: str | None) -> Words:
    for version, requested in fact.requested:
        yield (
            "announced",
            "client certificate",
            _version(version),
            "requested" if requested else "not requested",
        )
    for version, names in fact.names:
        yield "announced", "announced CAs", _version(version), _several(map(name_text, names))


def _served(fact: ServedChain, _: str | None) -> Words:
    leaf = fact.leaf
    yield "certificate", "key", "", describe_key(public_key(leaf))
    yield "certificate", "signature", "", signature_hash(leaf) or "unknown"
    yield "certificate", "usages", "", _several(purposes(leaf) or ())
    yield "certificate", "certificates sent", "", str(len(fact.certificates))


def _answer(attempt: Attempt) -> str:
    """Return the status of an answer, else how the attempt ended; empty if it came to no end."""
    if attempt.response is not None:
        return f"HTTP {attempt.response.status}"
    return _WORDS.get(attempt.ending, "")


def _exchange(fact: ClientExchange | UnauthenticatedExchange, _: str | None) -> Words:
    stranger = "" if isinstance(fact, ClientExchange) else " without a certificate"
    if value := _answer(fact.attempt):
        yield "api", f"{fact.method} {fact.path}{stranger}", "", value
    response = fact.attempt.response
    if fact.path == "/version" and response is not None:
        try:
            body = read_json(response.body)
        except UnreadableJSONError:
            return
        if isinstance(body, dict):
            yield "api", "fields of /version", "", _several(map(printable, list(body)[:32]))


def _gateway(fact: GatewayAnswer, _: str | None) -> Words:
    if fact.tries and (value := _answer(fact.attempt)):
        yield "api", "JSON gateway", "", value


def _range(fact: RangeAnswer, _: str | None) -> Words:
    if fact.status is not None:
        yield "api", "gRPC Range", "", f"gRPC status {fact.status}"


def _over_http1(fact: GRPCOverHTTP1, _: str | None) -> Words:
    if value := _answer(fact.attempt):
        yield "api", "gRPC over HTTP/1.1", "", value


def _negotiated(fact: NegotiatedExchange, _: str | None) -> Words:
    if value := _answer(fact.attempt):
        yield "api", "HTTP/1.1 after h2 was negotiated", "", value


def _tickets(fact: SessionTickets, _: str | None) -> Words:
    lifetimes = _several(str(ticket.lifetime) for ticket in fact.tickets)
    yield "sessions", "session tickets", "TLS 1.3", f"{len(fact.tickets)} (lifetime {lifetimes})"


def _resumption(fact: Resumption, _: str | None) -> Words:
    for one in fact.good:
        if one.again is None or one.again.ending is Ending.SERVED:
            value = "resumed" if one.again is not None and one.again.resumed else "not resumed"
            yield "sessions", "session of a good client", _version(one.version), value


def _renegotiation(fact: Renegotiation, _: str | None) -> Words:
    if fact.attempt is not None:
        value = "made" if fact.attempt.renegotiated else "refused"
        yield "sessions", "renegotiation", "TLS 1.2", value


def _go(fact: GoRelease, _: str | None) -> Words:
    yield BUILD, "Go", "", fact.text


def _of_listeners(reader: Callable[[Any, str | None], Words]) -> Callable[[Any, str | None], Iterator[Any]]:
    def read(fact: object, key: str | None) -> Iterator[tuple[str, str, str, str, str]]:
        yield from (("", *words) for words in reader(fact, key))

    return read


def _experiment(fact: Experiment, _: str | None) -> Iterator[tuple[str, str, str, str, str]]:
    for step in fact.steps:
        tries: dict[tuple[str, str], list[Attempt]] = {}
        for trial in step.trials:
            tries.setdefault((trial.role, trial.who), []).append(trial.attempt)
        for (role, who), attempts in tries.items():
            if (ended := _ended(attempts)) is not None:
                yield role, "lifecycle", f"{fact.name}, {step.name}", who, ended[0]


def _suite_offers(fact: SuiteOffers, _: str | None) -> Iterator[tuple[str, str, str, str, str]]:
    for offer in fact.offers:
        if value := _reply(offer.exchange):
            listed = "listed" if offer.listed else "not listed"
            yield offer.role, "lifecycle", f"--cipher-suites, {listed}", offer.suite, value


def _foreign_member(fact: ForeignMember, _: str | None) -> Iterator[tuple[str, str, str, str, str]]:
    for detail, joined in (("of another CA", fact.joined), ("with its own certificate", fact.joined_again)):
        yield CLUSTER, "lifecycle", "a member that joins", detail, "joined" if joined else "did not join"


def _renewal(fact: RenewalUnderLoad, _: str | None) -> Iterator[tuple[str, str, str, str, str]]:
    for client, counts in fact.tallies.items():
        if not counts.unclear:
            yield (
                CLUSTER,
                "lifecycle",
                "requests while certificates are renewed",
                client,
                ("some lost" if counts.lost else "none lost"),
            )


_READERS: Mapping[type, Callable[[Any, str | None], Iterator[tuple[str, str, str, str, str]]]] = {
    **{
        type_: _of_listeners(reader)
        for type_, reader in (
            *((AccessMatrix, _matrix), (AcceptedClient, _accepted), (OldVersions, _old_versions)),
            *((SuiteSupport, _suites), (TLS13Suites, _tls13_suites), (GroupSupport, _groups)),
            *((AlpnChoices, _alpn), (UnusualClientHello, _hello), (SilentConnection, _silence)),
            *((AnnouncedCAs, _announced), (ServedChain, _served), (ClientExchange, _exchange)),
            *((UnauthenticatedExchange, _exchange), (GatewayAnswer, _gateway), (RangeAnswer, _range)),
            *((GRPCOverHTTP1, _over_http1), (NegotiatedExchange, _negotiated), (GoRelease, _go)),
            *((SessionTickets, _tickets), (Resumption, _resumption), (Renegotiation, _renegotiation)),
        )
    },
    Experiment: _experiment,
    SuiteOffers: _suite_offers,
    ForeignMember: _foreign_member,
    RenewalUnderLoad: _renewal,
}
