"""Items of the CIS Kubernetes Benchmark as a reader of flags judges them, beside what the wire shows.

Section 2 of the benchmark audits etcd by its process list (``ps -ef | grep etcd``): a certificate, a key and
``--client-cert-auth`` among the flags pass, whatever etcd does with them. etcd ignores all flags beside a
configuration file, and ``--auto-tls`` replaces the declared settings, so an item can pass where every client
is accepted, and fail where each is refused. The checks that cite an item judge the same on the wire, all of
them together: an item of which one was not selected is not verified, and a finding of which a profile makes a
note still counts. The comparison belongs to the profile ``cis-kubernetes``, and no other run has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.declared.declaration import Declaration, Setting, Via
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.profiles.profiles import CIS_KUBERNETES, WORST_OF_SECTION
from pytest_etcdtls.report.document import BenchmarkEntry
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import CLUSTER, Role, Side


class BenchmarkItem(Struct, frozen=True, kw_only=True):
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


_ITEMS: Final[tuple[tuple[str, Side, str, tuple[str, ...], str], ...]] = (
    ("2.1", "client", "certificate and key are set", ("cert-file", "key-file"), "given"),
    ("2.2", "client", "client certificates are requested", ("client-cert-auth",), "true"),
    ("2.3", "client", "certificates are not generated", ("auto-tls",), "not true"),
    ("2.4", "peer", "the peers' pair is set", ("peer-cert-file", "peer-key-file"), "given"),
    ("2.5", "peer", "peers' certificates are requested", ("peer-client-cert-auth",), "true"),
    ("2.6", "peer", "the peers' certificates are not generated", ("peer-auto-tls",), "not true"),
    ("2.7", "client", "a separate CA for etcd is set", ("trusted-ca-file",), "given"),
)
"""Number, side and title of each item of section 2, the flags that it reads, and what they must be.

Source: the audit commands of the CIS Kubernetes Benchmark, section 2, which read the process list.
"""


def read_flags(declaration: Declaration) -> Iterator[BenchmarkItem]:
    """Yield every item of section 2 as judged by a flag reader."""
    flags = {setting.name: setting for setting in _on_the_command_line(declaration)}
    true = {name for name, setting in flags.items() if setting.value.lower() == "true"}
    for number, side, title, names, wanted in _ITEMS:
        is_true = true.issuperset(names)
        passes = {"given": flags.keys() >= {*names}, "true": is_true, "not true": not is_true}[wanted]
        reads = tuple(flags[name].written if name in flags else f"--{name} not given" for name in names)
        yield BenchmarkItem(item=number, side=side, title=title, passes=passes, reads=reads)


def _on_the_command_line(declaration: Declaration) -> Iterator[Setting]:
    """Yield flags and variables, the ones that a flag reader prefers last. It reads no configuration file."""
    unused = (*declaration.shadowed, *declaration.overridden, *declaration.hidden)
    every = (*unused, *declaration.settings.values())
    yield from (setting for setting in every if setting.via is not Via.KEY)


_SOURCE = "CIS Kubernetes "
_WRONG = frozenset({Outcome.VIOLATES, Outcome.WARNS, Outcome.WAIVED})


_DECIDED = _WRONG | {Outcome.CONFORMS}
"""Outcomes that agree with the flags or contradict them."""


def compare(report: Report, seen: Recording) -> tuple[BenchmarkEntry, ...]:
    """Return every item for every declared member of a target; none without the profile."""
    if not any(profile.name == CIS_KUBERNETES for profile in report.profiles.profiles):
        return ()
    member_of = {listener.label: listener.member for listener in seen.target.listeners}
    noted = {(result.check, result.target, result.listener) for result in report.profile_notes}
    by_member: dict[str, list[CheckResult]] = {}
    whole: list[CheckResult] = []
    for result in report.results:
        if result.target == seen.target.label:
            if (result.check, result.target, result.listener) in noted:
                result = replace(result, outcome=Outcome.WARNS)
            of_member = result.listener in member_of
            (by_member.setdefault(member_of[result.listener], []) if of_member else whole).append(result)
    items = [
        (member, item)
        for member, declared in sorted(seen.target.declared.items())
        for item in read_flags(declared.declaration)
    ]
    judging = {number: _judging(item) for number, item in {item.item: item for _, item in items}.items()}
    return tuple(
        _compared(member, item, [*by_member.get(member, []), *whole], judging[item.item])
        for member, item in items
    )


def judged_items(report: Report, seen: Recording) -> list[BenchmarkEntry]:
    """Return the items that a check of this run judges."""
    return [item for item in compare(report, seen) if item.wire_says is not None]


def is_decided(item: BenchmarkEntry) -> bool:
    """Return whether the wire agrees with the flags or contradicts them."""
    return item.wire_says in _DECIDED


def _compared(
    member: str, item: BenchmarkItem, results: Sequence[CheckResult], judging: Set[str]
) -> BenchmarkEntry:
    outcomes: dict[Outcome, set[str]] = {}
    for result in results:
        if result.role in (CLUSTER, *_roles(item.side)) and _cites(result.references, item.item):
            outcomes.setdefault(result.outcome, set()).add(result.check)
    if outcomes and (missing := judging - set[str]().union(*outcomes.values())):
        outcomes.setdefault(Outcome.NOT_VERIFIED, set()).update(missing)
    wire = next((worst for worst in WORST_OF_SECTION if worst in outcomes), None)
    checks = outcomes[wire] if wire else ()
    return BenchmarkEntry(
        source="CIS Kubernetes Benchmark",
        item=item.item,
        member=member,
        title=item.title,
        reads=item.reads,
        flags_say="pass" if item.passes else "fail",
        wire_says=wire,
        checks=tuple(sorted(checks)),
        differs=wire in _WRONG if item.passes else wire is Outcome.CONFORMS,
    )


def _judging(item: BenchmarkItem) -> set[str]:
    """Return the checks that judge the item on any cluster. Experiments need one that the run starts."""
    return {
        check.id
        for check in catalogue().values()
        if not check.opt_in
        and check.family != "lifecycle"
        and (not check.roles or check.roles & _roles(item.side))
        and _cites(check.references, item.item)
    }


def _roles(side: Side) -> set[Role]:
    return {Role.PEER} if side == "peer" else {*Role} - {Role.PEER}


def _cites(references: Iterable[str], item: str) -> bool:
    return any(
        item in re.findall(r"\d+\.\d+", reference)
        for reference in references
        if reference.startswith(_SOURCE)
    )
