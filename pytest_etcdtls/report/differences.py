"""Differences between targets of one run, and between a run and an earlier one. Values in, values out.

Compared is what both snapshots have. What was observed of one of them alone is no difference: other options,
other credentials or a listener that stalled cause it.

They are for the reviewer of an update: the worst first, each with what to do. What only says in other words
what a check says, or comes of it, *follows* and is counted: that the good client is refused says
``mtls.trusted-client``, and what needs an accepted client is then not verified.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict, replace

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import Outcome, Severity
from pytest_etcdtls.facts.behaviour import BUILD, GATEWAY, BehaviourChange, changes, merged
from pytest_etcdtls.report.baseline import Baseline, Snapshot, paired_labels, pairs
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.untrusted.printable import some

OUTCOME: Final = "outcome"
"""The topic of a difference between outcomes of a check."""

TOPICS: Final = (
    *(OUTCOME, "access", "lifecycle", "declaration", "versions", "suites", "groups", "alpn", "announced"),
    *("api", GATEWAY, "alert", "silence", "hello", "sessions", "certificate"),
)
"""What is compared, in the order in which it matters to clients. Others come last."""

_RANKS: Final = {Outcome.WARNS: 1, Outcome.VIOLATES: 2}
_NO_EVIDENCE: Final = frozenset({Outcome.NOT_VERIFIED, Outcome.INCONCLUSIVE, Outcome.BROKEN})
_SOME: Final = 4


class Direction(StrEnum):
    """Whether something got worse."""

    WORSE = "worse"
    CHANGED = "changed"
    BETTER = "better"


class TargetDifference(BehaviourChange, frozen=True, kw_only=True):
    """Something that is different between two targets, also the outcome of a check.

    Attributes:
        direction: whether it got worse. What breaks no check only changed.
        follows: a violation that follows from another one, or followed.
        meaning: what it means, in a sentence; empty if that is not known.
        source: where that is documented.
        remedies: what to do about it; empty if nothing is to be done.
    """

    direction: Direction = Direction.CHANGED
    follows: bool = False
    meaning: str = ""
    source: str = ""
    remedies: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The listeners, empty for the whole target."""
        return some([label for label in self.listeners if label != CLUSTER], _SOME)

    @property
    def sentence(self) -> str:
        """Where, what and how, in one line."""
        return f"{self.where}{': ' if self.where else ''}{self.about}: {self.change}"


class ComparedTargets(Struct, frozen=True, kw_only=True):
    """The differences between two targets.

    Attributes:
        before: label, then what is known of the build, for people.
        after: the same of the later one.
        labels: the labels alone.
        baseline: ``before`` is of an earlier run.
        differences: what matters most first.
        not_started: which of them does not start, and what it says itself; empty if both do.
        remarks: what could not be compared, in sentences.
    """

    before: str
    after: str
    labels: tuple[str, str]
    baseline: bool
    differences: tuple[TargetDifference, ...]
    not_started: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[TargetDifference, ...]:
        """What follows from nothing else."""
        return tuple(difference for difference in self.differences if not difference.follows)

    @property
    def headline(self) -> str:
        """What is compared, and how much differs."""
        counts = Counter(difference.direction for difference in self.shown)
        text = ", ".join(f"{counts[direction]} {direction}" for direction in Direction if counts[direction])
        old = f"{self.before} of the baseline" if self.baseline else self.before
        return f"{old} -> {self.after}: {text or 'no difference'}"

    @property
    def worse(self) -> tuple[TargetDifference, ...]:
        """What got worse and follows from nothing else."""
        return tuple(difference for difference in self.shown if difference.direction is Direction.WORSE)


def comparisons(now: Sequence[Snapshot], baseline: Baseline | None) -> tuple[ComparedTargets, ...]:
    """Return each started target compared with the one before it, then each with that in the baseline.

    Live clusters are not compared with each other: they have different purposes.
    """
    compared = [compare(old, new) for old, new in pairwise(snapshot for snapshot in now if not snapshot.live)]
    if baseline is not None:
        together = pairs(baseline.snapshots, now, lambda snapshot: snapshot.label)
        compared += [
            compare(old, new, baseline=True, remarks=_unpaired(baseline, now, together) if not number else ())
            for number, (old, new) in enumerate(together)
        ]
    return tuple(compared)


def _unpaired(
    baseline: Baseline, now: Sequence[Snapshot], together: Iterable[tuple[Snapshot, Snapshot]]
) -> tuple[str, ...]:
    remarks = [f"the run of {baseline.source} ended early"] if baseline.partial else []
    paired = {id(snapshot) for pair in together for snapshot in pair}
    for name, targets in (("the baseline", baseline.snapshots), ("this run", now)):
        alone = [target.label for target in targets if id(target) not in paired]
        remarks += [f"without a counterpart: {some(alone, _SOME)} of {name}"] if alone else []
    return tuple(remarks)


def compare(
    before: Snapshot, after: Snapshot, *, baseline: bool = False, remarks: Sequence[str] = ()
) -> ComparedTargets:
    """Return the differences between two targets."""
    labels = paired_labels(before, after)
    differences = [*_outcomes(before, after, labels), *_behaviours(before, after, labels)]
    names = ("the baseline", "this run") if baseline else (before.label, after.label)
    remarks = [*remarks, *_remarks(before, after, labels, names)]
    not_started = tuple(_not_started((before, after)))
    if not_started:
        differences = [one for one in differences if not {one.before, one.after} & _NO_EVIDENCE]
        remarks.append("only what is declared is compared")
    differences = [_explained(difference) for difference in _without_repetition(differences)]
    return ComparedTargets(
        before=_described(before),
        after=_described(after),
        labels=(before.label, after.label),
        baseline=baseline,
        differences=tuple(sorted(differences, key=_importance)),
        not_started=not_started,
        remarks=tuple(remarks),
    )


def _not_started(snapshots: Iterable[Snapshot]) -> Iterator[str]:
    for snapshot in snapshots:
        start = snapshot.outcomes.get((CLUSTER, _STARTS))
        if start is not None and start.outcome is Outcome.VIOLATES:
            yield f"{snapshot.label}: {start.message}" if start.message else f"{snapshot.label} did not start"


_STARTS: Final = "config.starts"
_GOOD_CLIENT: Final = "mtls.trusted-client"


def _without_repetition(differences: Sequence[TargetDifference]) -> Iterator[TargetDifference]:
    """Yield the differences. One that only repeats how a check changed is marked: it follows from that."""
    judged: dict[str, set[str]] = {}
    for difference in differences:
        is_waived = Outcome.WAIVED in (difference.before, difference.after)
        if difference.topic == OUTCOME and (is_waived or difference.direction is not Direction.CHANGED):
            for label in difference.listeners:
                judged.setdefault(label, set()).update(difference.subjects)
    for difference in differences:
        yield replace(difference, follows=True) if _repeats(difference, judged) else difference


def _repeats(difference: TargetDifference, judged: Mapping[str, set[str]]) -> bool:
    """Return whether a difference says what a check says, or comes of it.

    Args:
        difference: any difference.
        judged: the checks whose outcome got worse or better, or was waived before or after, by listener.
    """
    here = [judged.get(label, set()) for label in difference.listeners]
    declared = judged.get(CLUSTER, set())
    if difference.topic == OUTCOME:
        unverified = {difference.before, difference.after} & _NO_EVIDENCE
        return bool(unverified) and any(_GOOD_CLIENT in checks for checks in judged.values())
    if difference.topic == "access":
        identities = set(difference.subjects)
        return all(_GOOD_CLIENT in checks or _judged_identities(checks) >= identities for checks in here)
    if difference.topic == "lifecycle":
        return all(f"config.{subject.partition(',')[0]}" in declared for subject in difference.subjects)
    if difference.topic != "declaration":
        return False
    if difference.subjects == ("ineffective settings",):
        return declared.issuperset(f"config.{trap}" for pair in difference.removed_and_added for trap in pair)
    return _STARTS in declared or all(any(check.startswith("mtls.") for check in checks) for checks in here)


def _judged_identities(checks: Iterable[str]) -> set[str | None]:
    """Return the identities whose access the checks judge, such as ``none`` for mtls.no-certificate."""
    needs = [known.needs.get("matrix") for check in checks if (known := catalogue().get(check))]
    return {need.key for need in needs if need is not None}


def _described(snapshot: Snapshot) -> str:
    go = next((entry.value for entry in snapshot.behaviour if entry.topic == BUILD), "")
    version = snapshot.etcd_version
    etcd = f"etcd {version}" if version and version not in snapshot.label else ""
    about = ", ".join(filter(None, (etcd, go)))
    return f"{snapshot.label} ({about})" if about else snapshot.label


def _importance(difference: TargetDifference) -> tuple[object, ...]:
    topic, direction, after = difference.topic, difference.direction, difference.after
    place = TOPICS.index(topic) if topic in TOPICS else len(TOPICS)
    if topic == OUTCOME and direction is Direction.CHANGED and after not in _NO_EVIDENCE:
        place = len(TOPICS) + 1  # a check that has a subject in one version only
    refused = topic in ("access", "lifecycle") and after == "refused"
    worst_first = list(Direction).index(direction)
    severities = [known.severity for check in difference.subjects if (known := catalogue().get(check))]
    severity = min(map(list(Severity).index, severities), default=0)
    harm = (worst_first, not difference.remedies, place, not refused, severity)
    return difference.follows, *harm, difference.subjects, difference.details


def _remarks(
    before: Snapshot, after: Snapshot, labels: Mapping[str, str], names: tuple[str, str]
) -> Iterator[str]:
    if not before.behaviour and after.behaviour:
        yield f"{before.label} has no record of its behaviour: only outcomes are compared"
    alone = [label for label, _ in before.listeners if label not in labels]
    alone += [label for label, _ in after.listeners if label not in labels.values()]
    if alone:
        yield f"without a counterpart: {some(alone, _SOME)}"
    paired = {(labels.get(label, label), check) for label, check in before.outcomes}
    both = (paired, set(after.outcomes))
    for name, own, others in zip(names, both, reversed(both), strict=True):
        if left := {check for label, check in others - own if label in labels.values()}:
            yield f"no result in {name}, so not compared: {some(sorted(left), _SOME)}"


def _outcomes(before: Snapshot, after: Snapshot, labels: Mapping[str, str]) -> list[TargetDifference]:
    differences = []
    for (label, check), old in before.outcomes.items():
        new = after.outcomes.get((labels.get(label, ""), check))
        change = None if new is None else direction(old.outcome, new.outcome)
        if new is not None and change is not None:
            follows = new.follows if change is Direction.WORSE else old.follows and change is Direction.BETTER
            differences.append(
                TargetDifference(
                    topic=OUTCOME,
                    subjects=(check,),
                    details=("",),
                    listeners=(labels[label],),
                    before=old.outcome,
                    after=new.outcome,
                    direction=change,
                    follows=follows,
                    meaning=new.message,
                    remedies=new.remedies,
                )
            )
    return merged(differences, _apart)


def direction(before: Outcome, after: Outcome) -> Direction | None:
    """Return whether an outcome got worse; ``None`` if it is the same, or one of them was not run.

    Only a new finding is worse, and only what is judged again, or has no subject any more, is better: a check
    that cannot be verified any longer only changed, and a waived finding is accepted.
    """
    if before is after or Outcome.NOT_RUN in (before, after):
        return None
    if Outcome.WAIVED in (before, after):
        return Direction.WORSE if after in _RANKS else Direction.CHANGED
    old, new = _RANKS.get(before, 0), _RANKS.get(after, 0)
    if new > old:
        return Direction.WORSE
    return Direction.BETTER if new < old and after not in _NO_EVIDENCE else Direction.CHANGED


def _behaviours(before: Snapshot, after: Snapshot, labels: Mapping[str, str]) -> list[TargetDifference]:
    roles = {role for _, role in (*before.listeners, *after.listeners)}

    def place(listener: str) -> str:
        return labels.get(listener, listener if listener in roles else "")

    return [TargetDifference(**asdict(one)) for one in changes(before.behaviour, after.behaviour, place)]


def _apart(one: TargetDifference) -> Hashable:
    """Return what must be equal in merged differences; a check that got worse is merged with no other."""
    return one.direction, one.follows, one.subjects if one.direction is Direction.WORSE else ()


class Meaning(Struct, frozen=True):
    """A sentence about some differences.

    Attributes:
        topic: their topic.
        subject: pattern of a subject or detail.
        gone: pattern of the value before; of several values, of one that was removed.
        new: pattern of the value after; of several values, of one that was added.
        remedy: what to do; empty if nothing is to be done.
    """

    topic: str
    subject: str
    gone: str
    new: str
    text: str
    source: str
    remedy: str = ""

    def matches(self, difference: TargetDifference) -> bool:
        """Return whether the sentence is about that difference."""
        values = (difference.before,), (difference.after,)
        gone, new = difference.removed_and_added if difference.has_several else values
        return (
            difference.topic == self.topic
            and _any(self.subject, (*difference.subjects, *difference.details))
            and (not self.gone or _any(self.gone, gone))
            and (not self.new or _any(self.new, new))
        )


def _any(pattern: str, texts: Iterable[str]) -> bool:
    return any(re.search(pattern, text) for text in texts)


_GO = "Go release notes"
_ALERTS = "Go, crypto/tls/handshake_server.go, processCertsFromClient"
_CRL = "etcd, client/pkg/transport/listener_tls.go; Go, crypto/x509.ParseRevocationList"

MEANINGS: Final = (
    Meaning(
        *("lifecycle", "crl-encoding, pem", "accepted", "refused"),
        "With a revocation list in PEM, which was read before, every client is now refused.",
        _CRL,
        "If --client-crl-file or --peer-crl-file is PEM, convert it before the update: "
        "`openssl crl -in crl.pem -outform DER -out crl.der`.",
    ),
    Meaning(
        *("lifecycle", "crl-encoding, pem", "refused", "accepted"),
        "A revocation list in PEM is read, with which the other version refuses every client.",
        _CRL,
        "If --client-crl-file or --peer-crl-file is PEM, convert it to DER, which every version reads.",
    ),
    Meaning(
        *("versions", "", "", "TLS 1.3"),
        "TLS 1.3 is negotiated, and was not: a refused client learns of it with its first read only.",
        "etcd CHANGELOG-3.5, 3.5.8; RFC 8446, section 4.4.2",
        "Have clients and probes take the first answer for success, not the handshake.",
    ),
    Meaning(
        *("suites", "", "TLS_RSA_", ""),
        "Clients that offer RSA key exchange alone are refused; --cipher-suites can name it again.",
        f"{_GO} 1.22 (RSA key exchange) and 1.23 (triple DES), crypto/tls",
        "Update these clients, or name their suites.",
    ),
    Meaning(
        *("suites", "", "3DES", ""),
        "Clients that offer triple DES alone are refused.",
        f"{_GO} 1.23, crypto/tls",
        "Update these clients.",
    ),
    Meaning(
        *("groups", "", "", "X25519MLKEM768"),
        "A hybrid group against quantum computers is negotiated with clients that offer it.",
        f"{_GO} 1.24, crypto/tls",
    ),
    Meaning(
        *("groups", "", "", "SecP256r1MLKEM768|SecP384r1MLKEM1024"),
        "More hybrid groups against quantum computers are accepted from clients that offer them alone.",
        f"{_GO} 1.24 and 1.26, crypto/tls",
    ),
    Meaning(
        *("groups", "", "MLKEM", ""),
        "Hybrid groups are no longer accepted: a quantum computer could decrypt what is recorded today.",
        f"{_GO} 1.24, crypto/tls",
        "Find out how it was built: an older Go, or GODEBUG, switches them off.",
    ),
    Meaning(
        *("alpn", "unknown", "", "120"),
        "A client that offers only unknown names by ALPN is refused; before, it was served.",
        f"{_GO} 1.17, crypto/tls",
        "Have such clients offer h2 or http/1.1, or no ALPN.",
    ),
    Meaning(
        *("alert", "", "42", "116|48|45|40"),
        "Refused as before; the alert names the reason, so clients and monitoring see another error text.",
        _ALERTS,
        "Change what looks for the old text: alerts, rules for logs, tests of clients.",
    ),
    Meaning(
        *("alert", "", "42|48|116", "close_notify"),
        "Refused after the handshake, without an alert: the client sees an empty reply.",
        "etcd, client/pkg/transport/listener_tls.go",
        "Change what looks for the alert: alerts, rules for logs, tests of clients.",
    ),
    Meaning(
        *("api", "livez|readyz", "404", "200"),
        "The path answers, which newer kubeadm manifests use for their probes.",
        "etcd CHANGELOG 3.4.29, 3.5.11 and 3.6.0",
    ),
    Meaning(
        *("api", "livez|readyz", "200", "404"),
        "The path is gone: probes of newer kubeadm manifests fail.",
        "etcd CHANGELOG 3.4.29, 3.5.11 and 3.6.0",
        "Write /health into the probes.",
    ),
    Meaning(
        *("api", "fields of /version", "", "storage"),
        "/version has one more field, storage; it reads unknown for a moment after the start.",
        "etcd CHANGELOG-3.6, 3.6.0",
    ),
    Meaning(
        *("api", "/v2/", "200", "404"),
        "The API of version 2 is gone: clients of it fail.",
        "etcd CHANGELOG-3.6, 3.6.0",
        "Move these clients to the API of version 3 before the update.",
    ),
    Meaning(
        *("hello", "sha1", "accepted", "alert"),
        "A TLS 1.2 client that verifies SHA-1 signatures only is refused.",
        f"{_GO} 1.25, crypto/tls",
        "Update these clients.",
    ),
    Meaning(
        *("silence", "", "open", "closed"),
        "A connection that never sends anything no longer holds its resources.",
        "GHSA-6vch-q96h-7gc3",
    ),
    Meaning(
        *("silence", "", "closed", "open"),
        "A connection that never sends anything is kept open: many of them exhaust etcd's file descriptors.",
        "GHSA-6vch-q96h-7gc3",
        "Take a release that closes them, or limit who reaches the port.",
    ),
    Meaning(
        *("access", "", "refused", "accepted"),
        "A client is accepted that was refused.",
        "",
        "Before the update, find out why this client is accepted: it may be a mistake.",
    ),
    Meaning(
        *("access", "", "accepted", "refused"),
        "A client is refused that was accepted.",
        "",
        "Before the update, issue it a certificate that is accepted, or change what refuses it.",
    ),
)
"""What is known of differences; the first one that matches counts."""


def _explained(difference: TargetDifference) -> TargetDifference:
    if difference.topic == OUTCOME:
        return _of_check(difference)
    meaning = next((meaning for meaning in MEANINGS if meaning.matches(difference)), None)
    if meaning is None:
        return replace(difference, remedies=(_UNKNOWN,))
    remedies = (meaning.remedy,) if meaning.remedy else ()
    return replace(difference, meaning=meaning.text, source=meaning.source, remedies=remedies)


_UNKNOWN: Final = "Find out which clients, probes and scripts depend on it."
_UNVERIFIED: Final = "Run it with -v, which says what is missing."


def _of_check(difference: TargetDifference) -> TargetDifference:
    """Add the requirement of a check, unless there is a message of a finding, and its first source."""
    check = catalogue().get(difference.subjects[0])
    if difference.after in _NO_EVIDENCE:
        difference = replace(difference, remedies=(_UNVERIFIED,))
    if check is None or len(difference.subjects) > 1:
        return difference
    source = next(iter(check.sources(None)), "")
    if difference.after in _NO_EVIDENCE:
        return replace(difference, meaning=f"No longer verified: {check.requirement}", source=source)
    return replace(difference, meaning=difference.meaning or check.requirement, source=source)
