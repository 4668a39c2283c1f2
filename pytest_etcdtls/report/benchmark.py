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

from msgspec.structs import replace

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.declaration import Declaration, Setting, Via
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.profiles.profiles import CIS_KUBERNETES, WORST_OF_SECTION
from pytest_etcdtls.report.document import BenchmarkEntry
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.role import CLUSTER, Role, Side

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


def read_flags(declaration: Declaration, member: str) -> Iterator[BenchmarkEntry]:
    """Yield every item of section 2 as judged by a flag reader, for a member, without what the wire says."""
    flags = {setting.name: setting for setting in _on_the_command_line(declaration)}
    true = {name for name, setting in flags.items() if setting.value.lower() == "true"}
    for number, _, title, names, wanted in _ITEMS:
        is_true = true.issuperset(names)
        passes = {"given": flags.keys() >= {*names}, "true": is_true, "not true": not is_true}[wanted]
        reads = tuple(flags[name].written if name in flags else f"--{name} not given" for name in names)
        yield BenchmarkEntry(
            source="CIS Kubernetes Benchmark",
            item=number,
            member=member,
            title=title,
            reads=reads,
            flags_say="pass" if passes else "fail",
            wire_says=None,
            checks=(),
            differs=False,
        )


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
        item
        for member, declared in sorted(seen.target.declared.items())
        for item in read_flags(declared.declaration, member)
    ]
    judging = {number: _judging(number) for number in {item.item for item in items}}
    return tuple(
        _compared(item, [*by_member.get(item.member, []), *whole], judging[item.item]) for item in items
    )


def judged_items(report: Report, seen: Recording) -> list[BenchmarkEntry]:
    """Return the items that a check of this run judges."""
    return [item for item in compare(report, seen) if item.wire_says is not None]


def is_decided(item: BenchmarkEntry) -> bool:
    """Return whether the wire agrees with the flags or contradicts them."""
    return item.wire_says in _DECIDED


def _compared(item: BenchmarkEntry, results: Sequence[CheckResult], judging: Set[str]) -> BenchmarkEntry:
    outcomes: dict[Outcome, set[str]] = {}
    for result in results:
        if result.role in (CLUSTER, *_roles(item.item)) and _cites(result.references, item.item):
            outcomes.setdefault(result.outcome, set()).add(result.check)
    if outcomes and (missing := judging - set[str]().union(*outcomes.values())):
        outcomes.setdefault(Outcome.NOT_VERIFIED, set()).update(missing)
    wire = next((worst for worst in WORST_OF_SECTION if worst in outcomes), None)
    checks = outcomes[wire] if wire else ()
    differs = wire in _WRONG if item.flags_say == "pass" else wire is Outcome.CONFORMS
    return replace(item, wire_says=wire, checks=tuple(sorted(checks)), differs=differs)


def _judging(item: str) -> set[str]:
    """Return the checks that judge the item on any cluster. Experiments need one that the run starts."""
    return {
        check.id
        for check in catalogue().values()
        if not check.opt_in
        and check.family != "lifecycle"
        and (not check.roles or check.roles & _roles(item))
        and _cites(check.references, item)
    }


def _roles(item: str) -> set[Role]:
    of_peers = (item, "peer") in [one[:2] for one in _ITEMS]
    return {Role.PEER} if of_peers else {*Role} - {Role.PEER}


def _cites(references: Iterable[str], item: str) -> bool:
    return any(
        item in re.findall(r"\d+\.\d+", reference)
        for reference in references
        if reference.startswith(_SOURCE)
    )
