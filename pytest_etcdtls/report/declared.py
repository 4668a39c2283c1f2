"""What was declared, what etcd makes of it and what was observed, side by side. Judges nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.listeners import FLAGS
from pytest_etcdtls.declared.standing import ListenerDeclaration, MemberDeclaration
from pytest_etcdtls.observations.admission import Acceptance, Admission
from pytest_etcdtls.observations.attempt import Way
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.probes.declaration import listener_declaration
from pytest_etcdtls.report.model import Seen
from pytest_etcdtls.target import Listener

_OF_A_SIDE: Final = (
    *("cert-file", "client-cert-auth", "trusted-ca-file", "auto-tls"),
    *("crl-file", "cert-allowed-cn", "cert-allowed-hostname"),
)
_OF_BOTH: Final = ("tls-min-version", "tls-max-version", "cipher-suites")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerRow:
    """One listener.

    Attributes:
        declared: the settings that it comes from, each with file and line; empty if nothing declares it.
        effective: what etcd makes of them, in words.
        observed: what the wire said, in words; empty if it was not asked.
    """

    listener: Listener
    declared: tuple[Setting, ...]
    effective: str
    observed: str


def members(seen: Seen) -> Iterator[tuple[MemberDeclaration, tuple[ListenerRow, ...]]]:
    """Yield what each declared member was told, with a row for each of its listeners that was judged."""
    for label, told in sorted(seen.target.declared.items()):
        member = MemberDeclaration.of(label, told, seen.etcd_version)
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
    """Return the flags of that side: some are named for the client's side, some for none."""
    return (f"peer-{word}",) if declaration.side == "peer" else (word, f"client-{word}")


def _observed(seen: Seen, listener: Listener) -> str:
    facts = [fact for label, _, fact in seen.facts if label == listener.label]
    answer = next((fact for fact in facts if isinstance(fact, Answer)), None)
    if answer is None:
        return ""
    if answer.plaintext is not None and answer.plaintext.way is Way.SERVED:
        return "answers plaintext, anybody's"
    versions = ", ".join(answer.offered)
    return "; ".join(part for part in (*_who(facts), versions) if part) or "no answer"


def _who(facts: list[object]) -> Iterator[str]:
    """Yield who was let in and who was not."""
    accepted = next((fact.accepted for fact in facts if isinstance(fact, Acceptance)), None)
    tried = [fact for fact in facts if isinstance(fact, Admission) and fact.cells]
    served = [fact.identity for fact in tried if any(cell.attempt.way is Way.SERVED for cell in fact.cells)]
    refused = [
        fact.identity
        for fact in tried
        if all(cell.attempt.way in (Way.REFUSED, Way.CLOSED) for cell in fact.cells)
    ]
    let_in = list(dict.fromkeys([*([accepted.identity] if accepted else []), *served]))
    if let_in:
        yield f"lets in {', '.join(let_in)}"
    if refused:
        yield f"refuses {', '.join(sorted(refused))}"
