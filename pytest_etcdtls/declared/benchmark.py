"""What a benchmark that reads a process's flags says of a declaration: CIS Kubernetes Benchmark 2.1 to 2.7.

Reads as such tools do: the flags and ``ETCD_`` variables that etcd was started with, each by itself, and no
configuration file. What etcd makes of them, and what the wire says, is not its business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pytest_etcdtls.declared.declaration import Declaration, Setting, Via
from pytest_etcdtls.declared.sides import Side

Flags = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkItem:
    """One item as a reader of flags judges it.

    Attributes:
        item: its number: ``2.2``.
        side: whose port it is about.
        title: what it asks for.
        passes: what the reader of flags says.
        reads: the flags that it has read, as they are written; ``not given`` for one that is not there.
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
    _Rule("2.2", "client", "client certificates are asked for", ("client-cert-auth",), _all_true),
    _Rule("2.3", "client", "certificates are not generated", ("auto-tls",), _none_true),
    _Rule("2.4", "peer", "the peers' pair is set", ("peer-cert-file", "peer-key-file"), _all_given),
    _Rule("2.5", "peer", "peers' certificates are asked for", ("peer-client-cert-auth",), _all_true),
    _Rule("2.6", "peer", "the peers' certificates are not generated", ("peer-auto-tls",), _none_true),
    _Rule("2.7", "client", "a CA of etcd's own is named", ("trusted-ca-file",), _all_given),
)


def read_flags(declaration: Declaration) -> tuple[BenchmarkItem, ...]:
    """Return every item of section 2 as a reader of flags judges it.

    Source: the audit commands of the CIS Kubernetes Benchmark, section 2, which look at the process list.
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
    """Yield the flags and variables, those last that such a reader takes; a configuration file is not one."""
    every = (
        *declaration.shadowed,
        *declaration.overridden,
        *declaration.hidden,
        *declaration.settings.values(),
    )
    yield from (setting for setting in every if setting.via is not Via.KEY)
