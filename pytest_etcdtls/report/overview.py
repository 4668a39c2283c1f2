"""What the reports for people show: verdict, access matrix, certificates, listeners, declared settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache

from cryptography import x509
from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import GATES, catalogue, family_of, select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import Reason, ReasonKind
from pytest_etcdtls.facts.access import AcceptedClient, Access, Candidate, ServedClient
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.api import OtherPort
from pytest_etcdtls.facts.bad_identities import NOT_ISSUED
from pytest_etcdtls.facts.good_identities import ISSUED
from pytest_etcdtls.facts.listener import FirstContact, ServedChain
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.pki.certificate import fingerprint
from pytest_etcdtls.pki.identities import ISSUED_NAMES
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.profiles.profiles import KUBEADM
from pytest_etcdtls.report.model import Fault, Report, versions_of
from pytest_etcdtls.report.text import shown_name
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import LIVE, Listener, Target
from pytest_etcdtls.tls.attempt import Ending, alert_text
from pytest_etcdtls.untrusted.printable import plural, some

WITHOUT_VERDICT = (Outcome.INCONCLUSIVE, Outcome.BROKEN, Outcome.NOT_RUN)
"""Outcomes without a verdict. A run with one of them is not clean."""

_INTERRUPTED = 2
"""pytest's exit code of a run that a signal ended."""
_NAMED = 5
"""Maximum number of targets or versions that are named in a line."""
_CHECKS = 3
"""Maximum number of checks that are named in a verdict."""
_MEMBERS = 3
"""Maximum number of members that are named of the listeners of a fault."""
RESTART = "restart"
"""The family of the checks of the next restart."""

CLEAN = "CLEAN"
"""Every check that the options allow was selected, and nothing is waived."""
BUT_WAIVED = "CLEAN BUT FOR WAIVED FAULTS"
SOME_CHECKS = "SOME CHECKS CLEAN"
"""Checks are deselected, so nothing is known of what they judge."""
FROM_OUTSIDE = "NO FAULT FOUND FROM OUTSIDE"
"""The verdict where nothing fails and no client certificate was given: no refusal has a control then."""
NOT_CLEAN = "NOT CLEAN"
NOT_AFTER_RESTART = "CLEAN NOW, NOT AFTER A RESTART"
"""How the verdict begins where every fault is one of the next restart; its kind is :data:`NOT_CLEAN`."""
NOT_AS_BEFORE = "NOT AS BEFORE"
NO_VERDICT = "NO VERDICT"
PASSING = (CLEAN, BUT_WAIVED, SOME_CHECKS, FROM_OUTSIDE)
"""The kinds of verdict with which a run ends with exit code 0, the best first."""
KINDS = (*PASSING, NOT_CLEAN, NOT_AS_BEFORE, NO_VERDICT)


class Verdict(Struct, frozen=True):
    """The verdict on a run.

    Attributes:
        kind: one of :data:`KINDS`.
        text: one line. Before its first colon it has the kind, with numbers and names where there are some.
    """

    kind: str
    text: str


def colour_of(kind: str) -> str:
    """Return the colour of a kind of verdict on a terminal."""
    return "green" if kind == CLEAN else "yellow" if kind in PASSING else "red"


WORST_FIRST = (
    *(Outcome.VIOLATES, Outcome.BROKEN, Outcome.INCONCLUSIVE, Outcome.NOT_RUN, Outcome.WARNS),
    *(Outcome.WAIVED, Outcome.NOT_VERIFIED, Outcome.NOT_APPLICABLE, Outcome.CONFORMS),
)
"""All outcomes, in the order in which a person reads them."""


def conclusion(report: Report) -> Verdict:
    """Return the verdict on a run."""
    faults, counts = report.faults, report.counts
    # Without a result, a problem says why.
    early = _ended_early(report) if report.results or not report.problems else ""
    if faults:
        checks = sum(fault.size for fault in faults)
        begin = NOT_AFTER_RESTART if _is_clean_now(report) else NOT_CLEAN
        found = f"{begin}: {plural(len(faults), 'fault')} ({plural(checks, 'check')})"
        return Verdict(NOT_CLEAN, ", ".join(filter(None, (found, early, _unjudged(report)))))
    others = [problem for problem in report.problems if problem not in report.not_as_before]
    unjudged = _unjudged(report) if others else ""
    if reasons := [text for text in (_without_evidence(report), early, unjudged) if text] or others[:1]:
        return Verdict(NO_VERDICT, f"{NO_VERDICT}: {', '.join(reasons).removesuffix('.')}")
    if not counts[Outcome.CONFORMS] + counts[Outcome.WARNS] + counts[Outcome.WAIVED]:
        return Verdict(NO_VERDICT, f"{NO_VERDICT}: nothing was judged")
    if report.not_as_before:
        shown = [one for compared in report.comparisons for one in compared.differences if not one.follows]
        text = f"{NOT_AS_BEFORE}: no fault, {plural(len(shown), 'difference')}"
        return Verdict(NOT_AS_BEFORE, text)
    of, but = _selected(report), _but(report)
    if not any(_is_outside(seen.target) for seen in report.seen):
        if of:
            return Verdict(SOME_CHECKS, f"{of[0]} CHECKS CLEAN ({of[1]}){but}")
        later = (
            ", ALSO AFTER A RESTART" if all(_changes_nothing(report, seen) for seen in report.seen) else ""
        )
        return Verdict(BUT_WAIVED if but else CLEAN, f"{CLEAN}{but}{later}")
    said = [f"{FROM_OUTSIDE}{but}: no client certificate was given"]
    said += [f"{of[0].lower()} checks ({of[1]})"] if of else []
    unverified = counts[Outcome.NOT_VERIFIED]
    said += [f"{plural(unverified, 'result')} not verified"] if unverified else []
    return Verdict(FROM_OUTSIDE, ", ".join(said))


def _is_clean_now(report: Report) -> bool:
    """Return whether all faults are of the next restart, and the run would be clean without them."""
    return (
        all(family_of(fault.first.check) == RESTART for fault in report.faults)
        and not (report.problems or _ended_early(report) or _without_evidence(report) or _selected(report))
        and not any(_is_outside(seen.target) for seen in report.seen)
    )


def rehearsed(report: Report, seen: Recording) -> list[CheckResult]:
    """Return the results of a target about its restart; empty if none is rehearsed."""
    label = seen.target.label
    return [
        result
        for (target, _, check), result in report.by_place.items()
        if target == label and family_of(check) == RESTART
    ]


def _changes_nothing(report: Report, seen: Recording) -> bool:
    results = rehearsed(report, seen)
    return bool(results) and all(result.outcome is Outcome.CONFORMS for result in results)


def _but(report: Report) -> str:
    """Return how many faults are waived and which, and the targets not judged, for the verdict."""
    names = list(dict.fromkeys(fault.first.check for fault in report.waived))
    number = plural(len(report.waived), "WAIVED FAULT").upper()
    accepted = [f"{number} ({some(names, _CHECKS)})"] if names else []
    unjudged, between, labels = _unjudged(report).partition(" (")
    accepted += [f"{unjudged.upper()}{between}{labels}"] if unjudged else []
    return f" BUT FOR {' AND '.join(accepted)}" if accepted else ""


def _unjudged(report: Report) -> str:
    """Return how many targets cannot be judged, and which; empty if all can."""
    labels = [seen.target.label for seen in report.seen if seen.target.unjudged]
    return f"{plural(len(labels), 'target')} not judged ({some(labels, _NAMED)})" if labels else ""


def _selected(report: Report) -> tuple[str, str] | None:
    """Return how many of all checks were judged and which, for the verdict; ``None`` if all were selected."""
    if not report.deselected:
        return None
    ran = {result.check for result in report.results if result.outcome is not Outcome.NOT_VERIFIED}
    number = f"{len(ran)} OF {len({check.id for check in select()} | ran)}"
    with_, without = (_by_family(ids, ran | report.deselected) for ids in (ran, report.deselected - ran))
    is_rest = bool(without) and len(without) < len(with_) > _CHECKS
    names = f"without {some(without, _CHECKS)}" if is_rest else some(with_, _CHECKS)
    # A check that ran here and was deselected there.
    return number, names if report.deselected.isdisjoint(ran) else f"{names}; not on every listener"


def _by_family(ids: Collection[str], every: Collection[str]) -> list[str]:
    """Return the checks by id, those of a family that has no other one by the family."""
    others = {family_of(id_) for id_ in every if id_ not in ids}
    families = {id_: family_of(id_) for id_ in sorted(ids)}
    alone = Counter(families.values())
    return list(
        dict.fromkeys(
            id_ if family in others or alone[family] == 1 else family for id_, family in families.items()
        )
    )


def _without_evidence(report: Report) -> str:
    """Return which checks have no evidence, in a few words; empty if all have it."""
    found = [*without_evidence(report)]
    gates = [result for result in found if result.check == GATES[0]]
    if len({gate.why for gate in gates}) == 1:
        others = f", nor {plural(len(gates) - 1, 'other port')} there" if len(gates) > 1 else ""
        texts = [gates[0].why.headline + others]
    else:
        texts = [f"{len(gates)} listeners do not answer"] if gates else []
    said = {gate.why for gate in gates}
    counts = Counter(result.outcome for result in found if result.why not in said)
    return ", ".join([*texts, *(f"{counts[one]} {one}" for one in WITHOUT_VERDICT[:2] if counts[one])])


def without_evidence(report: Report) -> Iterator[CheckResult]:
    """Yield the results without evidence. A member that does not answer is named once, with one reason.

    The ports of its host have the reason of the first, and so have results of others that say the same.
    """
    found = [result for result in report.results if result.outcome in (Outcome.INCONCLUSIVE, Outcome.BROKEN)]
    reasons: dict[tuple[Reason, ...], Reason] = {}
    silent: dict[str, Reason] = {}
    for gate in found:
        parts = tuple(gate.why.each()) if gate.check == GATES[0] else ()
        if urls := [part.subject for part in parts if part.kind is ReasonKind.SILENT]:
            silent[urls[0]] = reasons.setdefault(tuple(map(_on_any_port, parts)), gate.why)
    for result in found:
        same = (silent[part.subject] for part in result.why.each() if part.subject in silent)
        yield replace(result, why=next(same, result.why))


def _on_any_port(reason: Reason) -> Reason:
    return replace(reason, subject=reason.subject.rpartition(":")[0], ending="")


def _ended_early(report: Report) -> str:
    """Return that the run ended before every check was judged; empty if it did not."""
    left = report.counts[Outcome.NOT_RUN]
    if not report.partial and not left:
        return ""
    ended = "interrupted" if report.status == _INTERRUPTED else "stopped early"
    return f"{ended}, {plural(left, 'check')} not run" if left else ended


def judged(report: Report) -> str:
    """Return of what the verdict is: the label that the user gave, members, first endpoint and version."""
    instead = f", not that of {report.not_read}" if report.not_read else ""
    every = [seen for seen in report.worst_first if not seen.target.unjudged] or report.seen
    if len(every) != 1:
        apart = [f"{seen.target.label}: {seen.target.apart}" for seen in every if seen.target.apart]
        compared = f"; not compared: {some(apart, _NAMED)}" if apart else ""
        return some([seen.target.label for seen in every], _NAMED) + compared + _unreached(every) + instead
    (seen,) = every
    target = seen.target
    etcd = " ".join(["etcd", *versions_of(seen)[:_NAMED]])
    number = len({listener.member for listener in target.listeners})
    of_members = f"{number} members of " if number > 1 else ""
    if not target.live:
        started = "that replays the declaration" if target.replay else "that this run started"
        started += " with generated keys and certificates" if target.generated else ""
        return f"{of_members}{etcd} {started}{instead}"
    clients = [listener for listener in target.listeners if listener.role is Role.CLIENT]
    # That of a kubeadm node on loopback is the same on every node.
    listeners = sorted(clients or target.listeners, key=lambda listener: listener.is_local)
    parts = [f"{of_members}{listener.url}" for listener in listeners[:1]]
    parts += [etcd] if versions_of(seen) else []
    label = f"{target.label}: " if target.label != LIVE else ""
    return f"{label}{', '.join(parts)}{_unreached(every)}"


def _unreached(every: Iterable[Recording]) -> str:
    """Return which declared listeners are not judged; empty if all are."""
    urls = dict.fromkeys(other.url for seen in every for other in seen.target.unreached if other.url)
    return f"; not judged: {some([*urls], _NAMED)}" if urls else ""


def numbered(faults: Iterable[Fault]) -> Iterator[tuple[str, Fault]]:
    """Yield faults with their numbers; those of several targets, as of members, with one remedy are one.

    Its number is then ``1-3``.
    """
    alike: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        alike.setdefault((fault.first.check, fault.first.remediation), []).append(fault)
    done = 0
    for same in alike.values():
        results = tuple(result for fault in same for result in fault.results)
        following = tuple(result for fault in same for result in fault.consequences)
        last = done + len(same)
        number = f"{last}" if len(same) == 1 else f"{done + 1}-{last}"
        yield number, Fault(results=results, consequences=following)
        done = last


def is_of_several(fault: Fault) -> bool:
    """Return whether a fault is of several targets, whose listeners may have the same labels."""
    return len({result.target for result in fault.results}) > 1


def places(fault: Fault, seen: Sequence[Recording]) -> str:
    """Return the listeners of a fault by role and member, or target, which is shorter than their labels."""
    roles = {(one.target.label, on.label): on for one in seen for on in one.target.listeners}
    several = is_of_several(fault)
    members: dict[str, list[str]] = {}
    for result in fault.results:
        known = roles.get((result.target, result.listener))
        name = result.target if several else known.member if known else ""
        members.setdefault(f"{known.role} port" if known else result.listener, []).append(name)
    parts = []
    for what, names in members.items():
        *others, last = dict.fromkeys(names)
        few = f"{', '.join(others)} and {last}" if others else last
        different = few if len(others) < _MEMBERS else some([*others, last], _MEMBERS)
        where = plural(len(names), what) if what.endswith(" port") else what
        parts.append(f"{where} of {different}" if different else where)
    return ", ".join(parts)


_BY_START = ("mtls", "tls", "api", "config")
"""The families whose faults are in flags and bundles, which etcd reads at its start."""


def since(report: Report, fault: Fault) -> str:
    """Return since when a fault exists, by its check, the certificate or etcd's start; empty if not known."""
    for finding in fault.first.findings:
        if text := finding.evidence.get("since"):
            return text
    seen = next((seen for seen in report.seen if seen.target.label == fault.first.target), None)
    if seen is None:
        return ""
    family = family_of(fault.first.check)
    if family == "cert" and (chain := seen.known(ServedChain, label=fault.first.listener)):
        is_ended = fault.first.check == "cert.valid-now"
        time = chain.leaf.not_valid_after_utc if is_ended else chain.leaf.not_valid_before_utc
        name = "notAfter" if is_ended else "notBefore"
        return f"{time:%Y-%m-%d %H:%M} UTC, {name} of the certificate" if time < report.started_at else ""
    listener = seen.target.labelled(fault.first.listener)
    member = listener.member if listener else next(iter(seen.target.running), "")
    is_of_one = listener is not None or len(seen.target.running) == 1
    if family in _BY_START and is_of_one and (running := seen.target.running.get(member)):
        return f"{running.process.started_at:%Y-%m-%d %H:%M} UTC, the start of etcd"
    return ""


def _is_outside(target: Target) -> bool:
    """Return whether a TLS listener is judged without a client certificate, given or issued for it."""
    held = [target.credentials(listener.role) for listener in target.listeners if listener.scheme == "https"]
    return any(not credentials.identities and credentials.signing_key is None for credentials in held)


def about_commands(report: Report) -> str:
    """Return what to know before a command of a report is pasted; empty if there is nothing to know."""
    has_commands = any(finding.commands for result in report.results for finding in result.findings)
    stopped = not report.keeps and any(seen.target.runs and not seen.target.live for seen in report.seen)
    if not has_commands or not stopped:
        return ""
    return "The etcd that the commands name was stopped at the end of the run: --etcd-keep leaves it running."


def exit_reason(report: Report) -> str:
    """Return the exit code and its reason."""
    undecided, status = report.counts[Outcome.INCONCLUSIVE] + report.counts[Outcome.BROKEN], report.status
    if status != 1:
        names = {0: _nothing_failed(report), 2: "interrupted", 3: "internal error", 5: "nothing was run"}
        return f"exit code {status}: {names.get(status, 'see above')}"
    reasons = [plural(len(report.faults), "fault")] if report.faults else []
    reasons += [f"{plural(undecided, 'check')} without evidence"] if undecided else []
    reasons += [plural(len(report.problems), "problem")] if report.problems else []
    return f"exit code 1: {', '.join(reasons) or 'a test failed that is not of this suite'}"


def _nothing_failed(report: Report) -> str:
    """Return what exit code 0 says of a run."""
    if report.waived:
        return "no fault that is not waived"
    return "no fault in the selected checks" if report.deselected else "no fault in TLS or in who is let in"


class Mark(StrEnum):
    """How a cell of the access matrix is judged."""

    AS_EXPECTED = "as expected"
    FAULT = "not as expected"
    WARNING = "a warning"
    WAIVED = "waived"
    UNDECIDED = "undecided"


class Cell(Struct, frozen=True):
    """One identity on one listener in one TLS version.

    Attributes:
        ending: how the attempts ended; ``served`` if any protocol served the identity.
        alert: number and name of the alert, as in ``42 bad_certificate``; empty if there was none.
        good: the identity is one that the listener should accept.
    """

    ending: Ending
    alert: str
    good: bool
    mark: Mark

    @property
    def text(self) -> str:
        """The ending for people: ``accepted``, ``refused`` ..."""
        return {Ending.SERVED: "accepted", Ending.OTHER: "other alert"}.get(self.ending, str(self.ending))


class AccessRow(Struct, frozen=True):
    """Who is accepted by one listener: the TLS versions that were tried, and for each identity its cells."""

    listener: Listener
    versions: tuple[TLSVersion, ...]
    cells: tuple[Mapping[TLSVersion, Cell], ...]


class AccessTable(Struct, frozen=True):
    """Who is accepted by one target; good identities first, then ``none``, by name."""

    identities: tuple[str, ...]
    rows: tuple[AccessRow, ...]


def access(report: Report, seen: Recording) -> AccessTable:
    """Return the table of who is accepted by a target."""
    found: dict[str, dict[str, dict[TLSVersion, Cell]]] = {}
    for listener in seen.target.listeners:
        for identity, version, cell in _cells(report, seen, listener):
            found.setdefault(identity, {}).setdefault(listener.label, {}).setdefault(version, cell)
    good = {name for name, at in found.items() for row in at.values() if any(c.good for c in row.values())}
    names = sorted(found, key=lambda name: (name not in good, name != NO_CERTIFICATE.name, name))
    rows = []
    for listener in seen.target.listeners:
        cells = tuple(found[name].get(listener.label, {}) for name in names)
        if versions := tuple(version for version in TLSVersion if any(version in row for row in cells)):
            rows.append(AccessRow(listener, versions, cells))
    return AccessTable(tuple(names), tuple(rows))


def _cells(report: Report, seen: Recording, listener: Listener) -> Iterator[tuple[str, TLSVersion, Cell]]:
    facts = seen.facts_of.get(listener.label, ())
    for _, fact in facts:
        if isinstance(fact, AcceptedClient):
            for candidate in fact.candidates:
                yield from _good_cells(report, seen, listener, candidate)
    for key, fact in facts:
        if isinstance(fact, AccessMatrix) and not fact.instead_of:
            outcome = _worst(report, seen, listener, _judging(key or fact.identity))
            for version in fact.cases.versions:
                ending, alert = _ended(fact.cases.within(version))
                yield fact.identity, version, Cell(ending, alert, False, _mark(ending, outcome))


def _good_cells(
    report: Report, seen: Recording, listener: Listener, candidate: Candidate
) -> Iterator[tuple[str, TLSVersion, Cell]]:
    outcome = _worst(report, seen, listener, ("mtls.trusted-client",))
    for version in candidate.cases.versions:
        ending, alert = _ended(candidate.cases.within(version))
        if candidate.excluded:
            mark = Mark.FAULT if ending is Ending.SERVED else Mark.AS_EXPECTED
        elif ending is Ending.SERVED:
            mark = Mark.AS_EXPECTED
        else:
            mark = Mark.FAULT if outcome is Outcome.VIOLATES else Mark.UNDECIDED
        yield candidate.identity, version, Cell(ending, alert, not candidate.excluded, mark)


def _ended(cases: Access) -> tuple[Ending, str]:
    """Return one ending for cases with several protocols, and the alerts of those that ended so."""
    order = (Ending.SERVED, Ending.UNCLEAR, Ending.OTHER, Ending.CLOSED, Ending.REFUSED)
    ending = next(ending for ending in order if ending in cases.endings)
    alerts = [attempt.alert for attempt in cases.ended(ending).attempts if attempt.alert is not None]
    return ending, ", ".join(map(alert_text, dict.fromkeys(alerts)))


@cache
def _judging(key: str) -> tuple[str, ...]:
    """Return the checks that judge whether an identity is accepted."""
    judging = []
    for check in catalogue().values():
        needs = check.needs.values()
        keys = [need.key for need in needs if need.type is AccessMatrix]
        # Checks with a need of AcceptedClient judge something else about the same attempts.
        if check.family == "mtls" and keys[:1] == [key] and not any(n.type is AcceptedClient for n in needs):
            judging.append(check.id)
    return tuple(judging)


def _worst(report: Report, seen: Recording, listener: Listener, checks: Iterable[str]) -> Outcome | None:
    outcomes = {
        result.outcome
        for check in checks
        if (result := report.by_place.get((seen.target.label, listener.label, check))) is not None
    }
    return next((outcome for outcome in WORST_FIRST if outcome in outcomes), None)


_SERVED_MARKS: Mapping[Outcome | None, Mark] = {
    Outcome.WARNS: Mark.WARNING,
    Outcome.WAIVED: Mark.WAIVED,
    Outcome.CONFORMS: Mark.AS_EXPECTED,
    Outcome.NOT_APPLICABLE: Mark.UNDECIDED,
}


def _mark(ending: Ending, outcome: Outcome | None) -> Mark:
    """Return the mark of an identity that should be refused."""
    if ending is Ending.SERVED:
        return _SERVED_MARKS.get(outcome, Mark.FAULT)
    if ending in (Ending.REFUSED, Ending.CLOSED) and outcome in (
        *(Outcome.CONFORMS, Outcome.VIOLATES, Outcome.WARNS, Outcome.WAIVED),
    ):
        return Mark.AS_EXPECTED  # a finding is about another version
    return Mark.UNDECIDED


_IN_ORDER = (*NOT_ISSUED, *ISSUED_NAMES)
"""The bad identities in the order in which they are named."""
_CALLED = {"none": "clients without a certificate", ISSUED: "a client that the run issued with the CA key"}
"""Identities whose name would read as something else after "accepts"."""
_OF_OTHER_ROLES = {
    "client-certificate": "the client certificate",
    "peer-certificate": "the peer certificate",
    "server-certificate": "the served certificate",
}
"""The keys of the good identities that are tried on a listener of another role."""


def access_in_words(report: Report, seen: Recording, listener: Listener, s: str = "s") -> Iterator[str]:
    """Yield who is accepted and refused by a listener, in a few sentences without a full stop.

    Args:
        report: of the run.
        seen: its target and the observations.
        listener: the listener, or the first of several of which the same is said.
        s: the ending of verbs; empty for several listeners.
    """
    if _is_foreign(seen, listener):
        yield f"answer{s}, but not as etcd does"
        return
    other = seen.known(OtherPort, label=listener.label)
    if other is not None and other.is_proxy:
        yield "is etcd's grpc-proxy" if s else "are etcd's grpc-proxies"
    contact = seen.known(FirstContact, label=listener.label)
    if contact is not None and contact.plaintext is not None and contact.plaintext.answers_plaintext:
        yield f"answer{s} plain HTTP: accept{s} every client"
        return
    accepted = seen.known(AcceptedClient, label=listener.label)
    if accepted is None:
        return
    facts = seen.facts_of.get(listener.label, ())
    tried = {key or fact.identity: fact for key, fact in facts if isinstance(fact, AccessMatrix)}
    tried = {
        key: fact for key in sorted(tried, key=_rank) if (fact := tried[key]).cases and not fact.instead_of
    }
    bad = {key: fact for key, fact in tried.items() if key not in _OF_OTHER_ROLES}
    numbers = ", ".join(str(version).removeprefix("TLSv") for version in accepted.versions)
    versions = f"TLS {numbers}" if numbers else ""
    only_grpc = accepted.accepted is not None and accepted.accepted.served_protocols == (Protocol.GRPC,)
    alone = f"serve{s} gRPC only, HTTP is on another port" if only_grpc else ""
    words = [_good_in_words(accepted, s), *_bad_in_words(bad.values(), s), versions, alone]
    yield "; ".join(filter(None, words))
    if not any(key == NO_CERTIFICATE.name and fact.cases.accepted for key, fact in bad.items()):
        others = {key: fact for key, fact in tried.items() if key in _OF_OTHER_ROLES}
        yield from _others_in_words(report, listener, others, s)


def _is_foreign(seen: Recording, listener: Listener) -> bool:
    """Return whether a listener serves clients and no answer is that of a port of etcd."""
    served = seen.known(ServedClient, label=listener.label)
    other = seen.known(OtherPort, label=listener.label)
    if served is None or (other is not None and (other.role or other.is_proxy)):
        return False
    client = served.client
    return served.stranger is not None or (client is not None and not client.of_etcd)


def _rank(key: str) -> tuple[int, str]:
    return (_IN_ORDER.index(key) if key in _IN_ORDER else len(_IN_ORDER)), key


def _good_in_words(accepted: AcceptedClient, s: str) -> str:
    if accepted.accepted is not None:
        name = accepted.accepted.identity
        return f"accept{s} {_CALLED.get(name, name)}"
    if not accepted.candidates:
        return "no client certificate was given"
    given = [candidate.identity for candidate in accepted.candidates if not candidate.issued]
    issued = [_CALLED[ISSUED]] if len(given) < len(accepted.candidates) else []
    names = " and ".join([f"the given {some(given, _NAMED)}"] * bool(given) + issued)
    is_refused = any(candidate.endings <= _REFUSED for candidate in accepted.candidates)
    return f"refuse{s} {names}" if is_refused else f"give{s} no clear answer to {names}"


def _bad_in_words(matrices: Collection[AccessMatrix], s: str) -> Iterator[str]:
    refuse, accept, unclear = f"refuse{s}", f"accept{s}", f"give{s} no clear answer to"
    by_ending: dict[str, list[str]] = {refuse: [], accept: [], unclear: []}
    for matrix in matrices:
        endings = matrix.cases.endings
        text = accept if Ending.SERVED in endings else refuse if endings <= _REFUSED else unclear
        by_ending[text].append(_CALLED.get(matrix.identity, matrix.identity))
    number = len(by_ending[refuse])
    if matrices:
        if number == len(matrices):
            yield f"{refuse} all {number} bad identities" if number > 1 else f"{refuse} 1 bad identity"
        else:
            yield f"{refuse} {number or 'none'} of {len(matrices)} bad identities"
    for text in (accept, unclear):
        if by_ending[text]:
            yield f"{text} {some(by_ending[text], _NAMED)}"


def _others_in_words(
    report: Report, listener: Listener, matrices: Mapping[str, AccessMatrix], s: str
) -> Iterator[str]:
    """Yield whether the good clients of another role are accepted, and what that means."""
    # The name of the served one has that of the member: with it, no two members would say the same.
    named = {
        key: text if key == "server-certificate" else f"{text} ({matrices[key].identity})"
        for key, text in _OF_OTHER_ROLES.items()
        if key in matrices
    }
    accepted = [text for key, text in named.items() if matrices[key].cases.accepted]
    refused = [text for key, text in named.items() if matrices[key].cases.endings <= _REFUSED]
    if refused:
        yield f"refuse{s} {' and '.join(refused)}"
    if accepted:
        is_peer = listener.role is Role.PEER
        meaning = ": clients of its CA are accepted as peers" if is_peer else ""
        if any(profile.name == KUBEADM for profile in report.profiles.profiles):
            meaning += f"{', ' if is_peer else ': '}one CA for both ports, as kubeadm makes it"
        yield f"accept{s} {' and '.join(accepted)} too{meaning}"


_REFUSED = {Ending.REFUSED, Ending.CLOSED}


class Validity(StrEnum):
    """The state of a certificate at the start of the run."""

    EXPIRED = "expired"
    NOT_YET = "not yet valid"
    SOON = "expires soon"
    VALID = "valid"


class SeenCertificate(Struct):
    """A certificate that was served, or that we hold, and where.

    Attributes:
        where: ``served by LISTENER``, ``ours: IDENTITY`` or ``trusted: FILE``, each once.
        served: whether a listener served it.
        soon: it expires soon in this number of days before its end.
    """

    certificate: x509.Certificate
    soon: int
    where: list[str] = []
    served: bool = False

    @property
    def subject(self) -> str:
        """The subject's distinguished name."""
        return shown_name(self.certificate.subject)

    def validity(self, now: datetime) -> Validity:
        """Return its state at that time."""
        end = self.certificate.not_valid_after_utc
        if end < now:
            return Validity.EXPIRED
        if self.certificate.not_valid_before_utc > now:
            return Validity.NOT_YET
        return Validity.SOON if end - now <= timedelta(days=self.soon) else Validity.VALID


def certificates(seen: Sequence[Recording]) -> list[SeenCertificate]:
    """Return every certificate of these targets that was served or is ours, the first to expire first."""
    by_fingerprint: dict[str, SeenCertificate] = {}
    for recording in seen:
        several = f" of {recording.target.label}" if len(seen) > 1 else ""
        for certificate, where, served in _held(recording):
            entry = by_fingerprint.setdefault(
                fingerprint(certificate), SeenCertificate(certificate, recording.target.expiry_days)
            )
            entry.served |= served
            if (text := f"{where}{several}") not in entry.where:
                entry.where.append(text)
    return sorted(by_fingerprint.values(), key=lambda entry: entry.certificate.not_valid_after_utc)


def _held(seen: Recording) -> Iterator[tuple[x509.Certificate, str, bool]]:
    target = seen.target
    for listener in target.listeners:
        if (chain := seen.known(ServedChain, label=listener.label)) is not None:
            for certificate in chain.certificates:
                yield certificate, f"served by {listener.label}", True
    for held in (target.client, target.peer):
        for identity in held.identities:
            for certificate in identity.chain:
                yield certificate, f"ours: {identity.name}", False
        for bundle in (held.server_ca, held.client_trust):
            for certificate in bundle.certificates if bundle else ():
                yield certificate, f"trusted: {bundle.source if bundle else ''}", False


class Undecided(Struct, frozen=True):
    """Checks that could not be judged for one reason.

    Attributes:
        checks: the labels of the listeners by id of the check.
    """

    why: Reason
    checks: Mapping[str, tuple[str, ...]]

    @property
    def reason(self) -> str:
        """The reason in English."""
        return str(self.why) or "no reason given"

    @property
    def options(self) -> tuple[str, ...]:
        """The options that would help."""
        return self.why.every_option

    @property
    def listeners(self) -> list[str]:
        """The labels of the listeners, each once."""
        return list(dict.fromkeys(label for labels in self.checks.values() for label in labels))

    @property
    def number(self) -> int:
        """The number of results."""
        return sum(map(len, self.checks.values()))


def undecided(results: Iterable[CheckResult]) -> list[Undecided]:
    """Return results without a verdict by reason, the reason of most results first.

    Reasons that differ in the option to pass alone, as that of each role, are one.
    """
    groups: dict[Reason, dict[str, list[str]]] = {}
    whys: dict[Reason, list[Reason]] = {}
    for result in results:
        same = result.why.without_options()
        whys.setdefault(same, []).append(result.why)
        groups.setdefault(same, {}).setdefault(result.check, []).append(result.listener)
    by_reason = (
        Undecided(Reason.merged(whys[same]), {check: tuple(labels) for check, labels in checks.items()})
        for same, checks in groups.items()
    )
    return sorted(by_reason, key=lambda group: -group.number)
