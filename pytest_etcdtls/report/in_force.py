"""What is declared and in force of a target, and what a client observes, for the reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import FLAGS, Setting
from pytest_etcdtls.facts.behaviour import SEPARATOR, Behaviour
from pytest_etcdtls.facts.configuration import ListenerDeclaration, MemberDeclaration, listener_declaration
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.report.model import version_of
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.target import Listener
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, printable

_OF_A_SIDE: Final = (
    *("cert-file", "client-cert-auth", "trusted-ca-file", "auto-tls"),
    *("crl-file", "cert-allowed-cn", "cert-allowed-hostname"),
)
_OF_BOTH: Final = ("tls-min-version", "tls-max-version", "cipher-suites")


class ListenerRow(Struct, frozen=True, kw_only=True):
    """The declared and effective settings of one listener.

    Attributes:
        declared: the settings that define it, each with file and line; empty if it is not declared.
        effective: the resulting behaviour of etcd, as text.
    """

    listener: Listener
    declared: tuple[Setting, ...]
    effective: str


def members(seen: Recording) -> Iterator[tuple[MemberDeclaration, tuple[ListenerRow, ...]]]:
    """Yield the declaration of each declared member, with a row for each of its judged listeners."""
    for label, declared in sorted(seen.target.declared.items()):
        member = MemberDeclaration.of(label, declared, version_of(seen))
        listeners = [listener for listener in seen.target.listeners if listener.member == label]
        yield member, tuple(_row(seen, listener, member) for listener in listeners)


def _row(seen: Recording, listener: Listener, member: MemberDeclaration) -> ListenerRow:
    declaration = listener_declaration(seen.target, listener, member)
    in_force = declaration.listener
    return ListenerRow(
        listener=listener,
        declared=tuple(_settings(declaration)) if in_force else (),
        effective=printable(in_force.describe(), LINE_LIMIT)
        if in_force
        else "nothing declares a listener there",
    )


def _settings(declaration: ListenerDeclaration) -> Iterator[Setting]:
    names = [FLAGS[declaration.here.role]]
    if declaration.listener is not None and declaration.listener.tls:
        prefixes = ("peer-",) if declaration.side == "peer" else ("", "client-")
        names += [f"{prefix}{name}" for name in _OF_A_SIDE for prefix in prefixes]
        names += _OF_BOTH
    yield from filter(None, map(declaration.member.declared.declaration.settings.get, names))


def declared_behaviour(seen: Recording) -> Iterator[Behaviour]:
    """Yield what is declared of a target, as it is compared."""
    for member, rows in members(seen):
        for row in rows:
            # Without the directories of files, which depend on the machine.
            effective = re.sub(r"(?:/[^\s/;,]+)*/([^\s/;,]+)", r"\1", row.effective)
            yield Behaviour(row.listener.label, "declaration", "effective configuration", "", effective)
        traps = SEPARATOR.join(sorted({trap.id for trap in member.traps}))
        yield Behaviour(CLUSTER, "declaration", "ineffective settings", "", traps or "none")
        starts = "yes" if member.starts else "no"
        yield Behaviour(CLUSTER, "declaration", "etcd starts with it", "", starts)
