"""A declaration in the report: declared, effective and observed settings, and the result of a flag reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import FLAGS, Declaration, Setting, Via
from pytest_etcdtls.declared.effective import Side
from pytest_etcdtls.facts.access import AcceptedClient, AccessMatrix
from pytest_etcdtls.facts.configuration import ListenerDeclaration, MemberDeclaration, listener_declaration
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending

Flags = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkItem:
    """One benchmark item as judged by a flag reader, which reads flags only.

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


@dataclass(frozen=True, slots=True)
class _Rule:
    item: str
    side: Side
    title: str
    flags: tuple[str, ...]
    passes: Callable[[Flags, tuple[str, ...]], bool]


def _all_given(flags: Flags, names: tuple[str, ...]) -> bool:
    return all(name in flags for name in names)


def _all_true(flags: Flags, names: tuple[str, ...]) -> bool:
    return all(name in flags and flags[name].value.lower() == "true" for name in names)


def _none_true(flags: Flags, names: tuple[str, ...]) -> bool:
    return not any(name in flags and flags[name].value.lower() == "true" for name in names)


_RULES: Final = (
    _Rule("2.1", "client", "certificate and key are set", ("cert-file", "key-file"), _all_given),
    _Rule("2.2", "client", "client certificates are requested", ("client-cert-auth",), _all_true),
    _Rule("2.3", "client", "certificates are not generated", ("auto-tls",), _none_true),
    _Rule("2.4", "peer", "the peers' pair is set", ("peer-cert-file", "peer-key-file"), _all_given),
    _Rule("2.5", "peer", "peers' certificates are requested", ("peer-client-cert-auth",), _all_true),
    _Rule("2.6", "peer", "the peers' certificates are not generated", ("peer-auto-tls",), _none_true),
    _Rule("2.7", "client", "a separate CA for etcd is set", ("trusted-ca-file",), _all_given),
)


def read_flags(declaration: Declaration) -> tuple[BenchmarkItem, ...]:
    """Return every item of section 2 as judged by a flag reader.

    Source: the audit commands of the CIS Kubernetes Benchmark, section 2, which read the process list.
    """
    flags = {setting.name: setting for setting in _on_the_command_line(declaration)}
    return tuple(
        BenchmarkItem(
            item=rule.item,
            side=rule.side,
            title=rule.title,
            passes=rule.passes(flags, rule.flags),
            reads=tuple(_reading(flags, name) for name in rule.flags),
        )
        for rule in _RULES
    )


def _reading(flags: Flags, name: str) -> str:
    return flags[name].written if name in flags else f"--{name} not given"


def _on_the_command_line(declaration: Declaration) -> Iterator[Setting]:
    """Yield flags and variables, the ones that a flag reader prefers last. It reads no configuration file."""
    every = (
        *declaration.shadowed,
        *declaration.overridden,
        *declaration.hidden,
        *declaration.settings.values(),
    )
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
        names += [name for word in _OF_A_SIDE for name in _spellings(declaration, word)]
        names += _OF_BOTH
    yield from (found for name in names if (found := declaration.setting(name)) is not None)


def _spellings(declaration: ListenerDeclaration, word: str) -> tuple[str, ...]:
    """Return the flag names of this side: ``peer-WORD``, or ``WORD`` and ``client-WORD`` for clients."""
    return (f"peer-{word}",) if declaration.side == "peer" else (word, f"client-{word}")


def _observed(seen: Seen, listener: Listener) -> str:
    facts = [fact for _, fact in seen.facts_of.get(listener.label, ())]
    answer = seen.known(listener.label, FirstContact)
    if answer is None:
        return ""
    if answer.plaintext is not None and answer.plaintext.ending is Ending.SERVED:
        return "answers plaintext of every client"
    versions = ", ".join(answer.offered)
    return "; ".join(part for part in (*_who(facts), versions) if part) or "no answer"


def _who(facts: Sequence[object]) -> Iterator[str]:
    """Yield which identities were accepted and which were refused."""
    accepted = next((fact.accepted for fact in facts if isinstance(fact, AcceptedClient)), None)
    tried = [fact for fact in facts if isinstance(fact, AccessMatrix) and fact.cells]
    served = [
        fact.identity for fact in tried if any(cell.attempt.ending is Ending.SERVED for cell in fact.cells)
    ]
    refused = [
        fact.identity
        for fact in tried
        if all(cell.attempt.ending in (Ending.REFUSED, Ending.CLOSED) for cell in fact.cells)
    ]
    clients = list(dict.fromkeys([*([accepted.identity] if accepted else []), *served]))
    if clients:
        yield f"accepts {', '.join(clients)}"
    if refused:
        yield f"refuses {', '.join(sorted(refused))}"
