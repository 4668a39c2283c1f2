"""What is declared, in force and observed of a target, for the reports.

The texts about what a client observes do not depend on the machine, the time or the PKI:
:mod:`pytest_etcdtls.report.differences` compares them, and a later run reads them in the JSON report. An
attempt without an end (a time-out, a reset) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pytest_etcdtls.baseline import BUILD, SEPARATOR, Behaviour, CheckOutcome, Snapshot
from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import FLAGS, Declaration, Setting, Via
from pytest_etcdtls.declared.effective import Side
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
from pytest_etcdtls.facts.configuration import ListenerDeclaration, MemberDeclaration, listener_declaration
from pytest_etcdtls.facts.experiments import Experiment, ForeignMember, RenewalUnderLoad, SuiteOffers
from pytest_etcdtls.facts.listener import FirstContact
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
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.target import Listener
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

Flags = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkItem:
    """One benchmark item as judged by a flag reader.

    Attributes:
        item: its number: ``2.2``.
        side: the port that it is about: client or peer.
        title: its requirement.
        passes: whether it passes according to the flags.
        reads: the flags that were read, as written; ``not given`` for a missing flag.
    """

    item: str
    side: Side
    title: str
    passes: bool
    reads: tuple[str, ...]


def _are_given(flags: Flags, names: tuple[str, ...]) -> bool:
    return all(name in flags for name in names)


def _is_true(flags: Flags, names: tuple[str, ...]) -> bool:
    return all(name in flags and flags[name].value.lower() == "true" for name in names)


def _is_not_true(flags: Flags, names: tuple[str, ...]) -> bool:
    return not _is_true(flags, names)


_RULES: Final[
    tuple[tuple[str, Side, str, tuple[str, ...], Callable[[Flags, tuple[str, ...]], bool]], ...]
] = (
    ("2.1", "client", "certificate and key are set", ("cert-file", "key-file"), _are_given),
    ("2.2", "client", "client certificates are requested", ("client-cert-auth",), _is_true),
    ("2.3", "client", "certificates are not generated", ("auto-tls",), _is_not_true),
    ("2.4", "peer", "the peers' pair is set", ("peer-cert-file", "peer-key-file"), _are_given),
    ("2.5", "peer", "peers' certificates are requested", ("peer-client-cert-auth",), _is_true),
    ("2.6", "peer", "the peers' certificates are not generated", ("peer-auto-tls",), _is_not_true),
    ("2.7", "client", "a separate CA for etcd is set", ("trusted-ca-file",), _are_given),
)


def read_flags(declaration: Declaration) -> tuple[BenchmarkItem, ...]:
    """Return every item of section 2 as judged by a flag reader.

    Source: the audit commands of the CIS Kubernetes Benchmark, section 2, which read the process list.
    """
    flags = {setting.name: setting for setting in _on_the_command_line(declaration)}
    return tuple(
        BenchmarkItem(
            item=item,
            side=side,
            title=title,
            passes=passes(flags, names),
            reads=tuple(flags[name].written if name in flags else f"--{name} not given" for name in names),
        )
        for item, side, title, names, passes in _RULES
    )


def _on_the_command_line(declaration: Declaration) -> Iterator[Setting]:
    """Yield flags and variables, the ones that a flag reader prefers last. It reads no configuration file."""
    unused = (*declaration.shadowed, *declaration.overridden, *declaration.hidden)
    every = (*unused, *declaration.settings.values())
    yield from (setting for setting in every if setting.via is not Via.KEY)


_SOURCE = "CIS Kubernetes "
_WORST_FIRST = (
    *(Outcome.VIOLATES, Outcome.BROKEN, Outcome.INCONCLUSIVE, Outcome.WARNS, Outcome.WAIVED),
    *(Outcome.CONFORMS, Outcome.NOT_VERIFIED, Outcome.NOT_RUN, Outcome.NOT_APPLICABLE),
)
_WRONG = frozenset({Outcome.VIOLATES, Outcome.WARNS, Outcome.WAIVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One item of the benchmark for one member.

    Attributes:
        member: label of the member.
        flags: the item as judged by a flag reader.
        wire: the worst outcome of the checks that judge the same on the wire; ``None`` if none was selected.
        checks: the checks with this outcome.
    """

    member: str
    flags: BenchmarkItem
    wire: Outcome | None
    checks: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the wire contradicts the flags. An undecided outcome does not."""
        if self.flags.passes:
            return self.wire in _WRONG
        return self.wire is Outcome.CONFORMS


def compare(report: Report, seen: Seen) -> tuple[Comparison, ...]:
    """Return the comparison for every declared member of a target, item by item."""
    member_of = {listener.label: listener.member for listener in seen.target.listeners}
    by_member: dict[str, list[CheckResult]] = {}
    whole: list[CheckResult] = []
    for result in report.results:
        if result.target == seen.target.label:
            of_member = result.listener in member_of
            (by_member.setdefault(member_of[result.listener], []) if of_member else whole).append(result)
    return tuple(
        _comparison(member, item, [*by_member.get(member, []), *whole])
        for member, declared in sorted(seen.target.declared.items())
        for item in read_flags(declared.declaration)
    )


def _comparison(member: str, item: BenchmarkItem, results: Sequence[CheckResult]) -> Comparison:
    counterparts = [result for result in results if _is_about(result, item)]
    wire = next(
        (worst for worst in _WORST_FIRST if any(found.outcome is worst for found in counterparts)), None
    )
    checks = {found.check for found in counterparts if found.outcome is wire}
    return Comparison(member=member, flags=item, wire=wire, checks=tuple(sorted(checks)))


def _is_about(result: CheckResult, item: BenchmarkItem) -> bool:
    side = "peer" if result.role == Role.PEER else "client"
    if result.role in set(Role) and side != item.side:
        return False
    return any(
        item.item in re.findall(r"\d+\.\d+", reference)
        for reference in result.references
        if reference.startswith(_SOURCE)
    )


_OF_A_SIDE: Final = (
    *("cert-file", "client-cert-auth", "trusted-ca-file", "auto-tls"),
    *("crl-file", "cert-allowed-cn", "cert-allowed-hostname"),
)
_OF_BOTH: Final = ("tls-min-version", "tls-max-version", "cipher-suites")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerRow:
    """The declared, effective and observed settings of one listener.

    Attributes:
        declared: the settings that define it, each with file and line; empty if it is not declared.
        effective: the resulting behaviour of etcd, as text.
        observed: the observed behaviour, as text; empty if it was not observed.
    """

    listener: Listener
    declared: tuple[Setting, ...]
    effective: str
    observed: str


def members(seen: Seen) -> Iterator[tuple[MemberDeclaration, tuple[ListenerRow, ...]]]:
    """Yield the declaration of each declared member, with a row for each of its judged listeners."""
    for label, declared in sorted(seen.target.declared.items()):
        member = MemberDeclaration.of(label, declared, seen.etcd_version)
        listeners = [listener for listener in seen.target.listeners if listener.member == label]
        yield member, tuple(_row(seen, listener, member) for listener in listeners)


def _row(seen: Seen, listener: Listener, member: MemberDeclaration) -> ListenerRow:
    declaration = listener_declaration(seen.target, listener, member)
    found = declaration.listener
    return ListenerRow(
        listener=listener,
        declared=tuple(_settings(declaration)) if found else (),
        effective=found.describe() if found else "nothing declares a listener there",
        observed=_observed(seen, listener),
    )


def _settings(declaration: ListenerDeclaration) -> Iterator[Setting]:
    names = [FLAGS[declaration.role]]
    if declaration.listener is not None and declaration.listener.tls:
        prefixes = ("peer-",) if declaration.side == "peer" else ("", "client-")
        names += [f"{prefix}{name}" for name in _OF_A_SIDE for prefix in prefixes]
        names += _OF_BOTH
    yield from (found for name in names if (found := declaration.setting(name)) is not None)


def _observed(seen: Seen, listener: Listener) -> str:
    facts = [fact for _, fact in seen.facts_of.get(listener.label, ())]
    answer = seen.known(listener.label, FirstContact)
    if answer is None:
        return ""
    if answer.plaintext is not None and answer.plaintext.ending is Ending.SERVED:
        return "answers plaintext of every client"
    versions = ", ".join(answer.offered)
    return "; ".join(part for part in (*_identities(facts), versions) if part) or "no answer"


def _identities(facts: Sequence[object]) -> Iterator[str]:
    accepted = next((fact.accepted for fact in facts if isinstance(fact, AcceptedClient)), None)
    tried = [fact for fact in facts if isinstance(fact, AccessMatrix) and fact.cases]
    served = [
        fact.identity for fact in tried if any(case.attempt.ending is Ending.SERVED for case in fact.cases)
    ]
    refused = [
        fact.identity
        for fact in tried
        if all(case.attempt.ending in (Ending.REFUSED, Ending.CLOSED) for case in fact.cases)
    ]
    clients = list(dict.fromkeys([*([accepted.identity] if accepted else []), *served]))
    if clients:
        yield f"accepts {', '.join(clients)}"
    if refused:
        yield f"refuses {', '.join(sorted(refused))}"


_ENDINGS: Final = {
    Ending.SERVED: "accepted",
    Ending.REFUSED: "refused",
    Ending.CLOSED: "refused",
    Ending.OTHER: "refused",
}
_NO_ALERT = "close_notify, no alert"
_CLOSED_WITHIN: Final = (3, 7, 15)
"""Seconds. The time until a silent connection is closed is reported as the next of these."""

Entries = Iterator[tuple[str, str, str, str]]
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
            # Without the directories of files, which depend on the machine.
            effective = re.sub(r"(?:/[^\s/;,]+)*/([^\s/;,]+)", r"\1", row.effective)
            yield Behaviour(row.listener.label, "declaration", "what is declared comes to", "", effective)
        traps = SEPARATOR.join(sorted({trap.id for trap in member.traps}))
        yield Behaviour(CLUSTER, "declaration", "settings that do not do what they say", "", traps or "none")
        starts = "yes" if member.starts else "no"
        yield Behaviour(CLUSTER, "declaration", "etcd starts with it", "", starts)


def _several(values: Iterable[str]) -> str:
    return SEPARATOR.join(sorted(set(values))) or "none"


def _version(name: str) -> str:
    return name.replace("TLSv", "TLS ")


def _ended(attempts: Sequence[Attempt]) -> tuple[str, str] | None:
    """Return how attempts with several protocols ended, and the alerts; ``None`` if one has no end."""
    if not attempts or any(attempt.ending not in _ENDINGS or attempt.local for attempt in attempts):
        return None
    refused = [attempt for attempt in attempts if attempt.ending is not Ending.SERVED]
    alerts = [_NO_ALERT if one.alert is None else alert_text(one.alert) for one in refused]
    return _several(_ENDINGS[attempt.ending] for attempt in attempts), _several(alerts)


def _identity(name: str, tries: Mapping[str, Sequence[Attempt]]) -> Entries:
    for version, attempts in tries.items():
        if (ended := _ended(attempts)) is not None:
            yield "access", name, _version(version), ended[0]
            if ended[0] != "accepted":
                yield "alert", name, _version(version), ended[1]


def _matrix(fact: AccessMatrix, _: str | None) -> Entries:
    if not fact.instead_of:
        tries: dict[str, list[Attempt]] = {}
        for case in fact.cases:
            tries.setdefault(case.version, []).append(case.attempt)
        yield from _identity(fact.identity, tries)


def _accepted(fact: AcceptedClient, _: str | None) -> Entries:
    for candidate in fact.candidates:
        tries: dict[str, list[Attempt]] = {}
        for version, _protocol, made in candidate.tries:
            tries.setdefault(version, []).append(made[-1])
        yield from _identity(candidate.identity, tries)
    if fact.versions:
        yield "versions", "TLS versions", "", _several(map(_version, fact.versions))


def _old_versions(fact: OldVersions, _: str | None) -> Entries:
    for exchange in fact.exchanges:
        if value := _reply(exchange):
            yield "versions", f"a hello of {_version(exchange.offered)}", "", value


def _reply(exchange: HelloExchange) -> str:
    if exchange.reply is Reply.SERVER_HELLO:
        return "accepted"
    return f"alert {alert_text(exchange.alert)}" if exchange.alert is not None else ""


def _suites(fact: SuiteSupport, _: str | None) -> Entries:
    if fact.complete:
        yield "suites", "TLS 1.2 suites", "", _several(suite.name for suite in fact.accepted)


def _tls13_suites(fact: TLS13Suites, _: str | None) -> Entries:
    yield "suites", "unusual TLS 1.3 suites", "", _several(fact.accepted)


def _groups(fact: GroupSupport, _: str | None) -> Entries:
    weak = fact.weak.name if fact.weak else "none"
    if fact.complete:
        accepted = _several(one.name for one in fact.accepted)
        yield "groups", "key exchange groups", _version(fact.version), accepted
    yield "groups", "weak group", _version(fact.version), weak


def _alpn(fact: AlpnChoices, key: str | None) -> Entries:
    for choice in fact.choices:
        value = f"alert {alert_text(choice.alert)}" if choice.alert is not None else choice.selected or "none"
        yield "alpn", f"ALPN for {key or 'known'} names", _version(choice.version), value


def _hello(fact: UnusualClientHello, key: str | None) -> Entries:
    if value := _reply(fact.unusual):
        yield "hello", f"hello with {(key or '').replace('-', ' ')}", "", value


def _silence(fact: SilentConnection, _: str | None) -> Entries:
    seconds = fact.exchange.milliseconds / 1000
    bound = next((bound for bound in _CLOSED_WITHIN if seconds < bound), fact.patience)
    is_open = fact.exchange.reply is Reply.SILENCE
    value = f"open for {fact.patience:g} s" if is_open else f"closed within {bound:g} s"
    yield "silence", "a connection on which nothing is sent", "", value


def _announced(fact: AnnouncedCAs, _: str | None) -> Entries:
    for version, requested in fact.requested:
        value = "requested" if requested else "not requested"
        yield "announced", "client certificate", _version(version), value
    for version, names in fact.names:
        yield "announced", "announced CAs", _version(version), _several(map(name_text, names))


def _served(fact: ServedChain, _: str | None) -> Entries:
    leaf = fact.leaf
    yield "certificate", "key", "", describe_key(public_key(leaf))
    yield "certificate", "signature", "", signature_hash(leaf) or "unknown"
    yield "certificate", "usages", "", _several(purposes(leaf) or ())
    yield "certificate", "certificates sent", "", str(len(fact.certificates))


def _answer(attempt: Attempt) -> str:
    """Return the status of an answer, else how the attempt ended; empty if it has no end."""
    if attempt.response is not None:
        return f"HTTP {attempt.response.status}"
    return _ENDINGS.get(attempt.ending, "")


def _exchange(fact: ClientExchange | UnauthenticatedExchange, _: str | None) -> Entries:
    client = "" if isinstance(fact, ClientExchange) else " without a certificate"
    if value := _answer(fact.attempt):
        yield "api", f"{fact.method} {fact.path}{client}", "", value
    response = fact.attempt.response
    if fact.path == "/version" and response is not None:
        try:
            body = read_json(response.body)
        except UnreadableJSONError:
            return
        if isinstance(body, dict):
            yield "api", "fields of /version", "", _several(map(printable, list(body)[:32]))


def _gateway(fact: GatewayAnswer, _: str | None) -> Entries:
    if fact.tries and (value := _answer(fact.attempt)):
        yield "api", "JSON gateway", "", value


def _range(fact: RangeAnswer, _: str | None) -> Entries:
    if fact.status is not None:
        yield "api", "gRPC Range", "", f"gRPC status {fact.status}"


def _over_http1(fact: GRPCOverHTTP1, _: str | None) -> Entries:
    if value := _answer(fact.attempt):
        yield "api", "gRPC over HTTP/1.1", "", value


def _negotiated(fact: NegotiatedExchange, _: str | None) -> Entries:
    if value := _answer(fact.attempt):
        yield "api", "HTTP/1.1 after h2 was negotiated", "", value


def _tickets(fact: SessionTickets, _: str | None) -> Entries:
    lifetimes = _several(str(ticket.lifetime) for ticket in fact.tickets)
    yield "sessions", "session tickets", "TLS 1.3", f"{len(fact.tickets)} (lifetime {lifetimes})"


def _resumption(fact: Resumption, _: str | None) -> Entries:
    for one in fact.good:
        if one.again is None or one.again.ending is Ending.SERVED:
            value = "resumed" if one.again is not None and one.again.resumed else "not resumed"
            yield "sessions", "session of a good client", _version(one.version), value


def _renegotiation(fact: Renegotiation, _: str | None) -> Entries:
    if fact.attempt is not None:
        value = "made" if fact.attempt.renegotiated else "refused"
        yield "sessions", "renegotiation", "TLS 1.2", value


def _go(fact: GoRelease, _: str | None) -> Entries:
    yield BUILD, "Go", "", fact.text


def _of_listeners(reader: Callable[[Any, str | None], Entries]) -> Callable[[Any, str | None], Iterator[Any]]:
    def read(fact: object, key: str | None) -> Iterator[tuple[str, str, str, str, str]]:
        yield from (("", *entry) for entry in reader(fact, key))

    return read


def _experiment(fact: Experiment, _: str | None) -> Iterator[tuple[str, str, str, str, str]]:
    for step in fact.steps:
        tries: dict[tuple[str, str], list[Attempt]] = {}
        for made in step.attempts:
            tries.setdefault((made.role, made.who), []).append(made.attempt)
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
    for client, counts in fact.counts.items():
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
