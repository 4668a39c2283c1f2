"""The members that the user's declarations tell of (``--etcd-config``), each with its files here.

Reads files; connects to nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.files import is_directory
from pytest_etcdtls.declared.listeners import advertised, declared_listeners
from pytest_etcdtls.declared.member import FILES, DeclaredMember
from pytest_etcdtls.declared.pki_directory import require_directory
from pytest_etcdtls.declared.reach import Reach, reach, runs_here
from pytest_etcdtls.declared.reading import declared_member, read_declaration
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.settings.borrowed_files import disown
from pytest_etcdtls.settings.own_addresses import own_among
from pytest_etcdtls.settings.source import Source, option
from pytest_etcdtls.target import Role, safe, unique

CONFIG = "etcd_config"
PKI_DIR = "etcd_pki_dir"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldMember:
    """One declared member.

    Attributes:
        label: unique among the members, safe in node ids.
        told: the declaration and its files here.
        here: the member runs on this machine.
        reaches: how to get to its listeners.
    """

    label: str
    told: DeclaredMember
    here: bool
    reaches: tuple[Reach, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names and addresses that are the member's own: advertised, or listened on."""
        return hosts_of(self.told.declaration)


def read_members(source: Source) -> tuple[ToldMember, ...]:
    """Return the declared members in the order in which they were named.

    Raises:
        UsageError: if a declaration cannot be read, two are of one member, or ``--etcd-pki-dir`` holds none
            of the declared files.
    """
    directory = pki_directory(source)
    declarations = [
        read_declaration(source.resolve(CONFIG, text), pki_dir=directory) for text in source.texts(CONFIG)
    ]
    _refuse_duplicates(declarations)
    told = [declared_member(one, _own_directory(directory, one)) for one in declarations]
    _refuse_strange_directory(directory, told)
    own = own_among(host for one in declarations for host in hosts_of(one))
    here = [runs_here(one, own) for one in declarations]
    told = [
        replace(one, others=disown(one, hosts_of(one.declaration), is_here, told))
        for one, is_here in zip(told, here, strict=True)
    ]
    return tuple(
        ToldMember(label=label, told=one, here=is_here, reaches=reach(one.declaration, own))
        for label, one, is_here in zip(_labels(declarations), told, here, strict=True)
    )


def hosts_of(declaration: Declaration) -> tuple[str, ...]:
    """Return the names and addresses that are a member's own, none that every machine has.

    Where nothing but loopback is declared, those that it advertises are returned, or else listens on.
    """
    told = [url for role in (Role.CLIENT, Role.PEER) for url in advertised(declaration, role)]
    every = [*told, *(listener.url for listener in declared_listeners(declaration))]
    every = [url for url in every if not (url.is_wildcard or url.is_socket)]
    beyond = [url for url in every if not url.is_loopback]
    return tuple(dict.fromkeys(url.host for url in beyond or told or every))


def pki_directory(source: Source) -> Path | None:
    """Return ``--etcd-pki-dir``.

    Raises:
        UsageError: if it is no directory.
    """
    directory = source.path(PKI_DIR)
    if directory is not None:
        require_directory(directory, option(PKI_DIR))
    return directory


def _own_directory(directory: Path | None, declaration: Declaration) -> Path | None:
    """Return the directory of one member's files: that of its name below the one given, if there is one."""
    name = declaration.text("name")
    if directory is None or name is None or safe(name) != name or name.strip(".") == "":
        return directory
    return directory / name if is_directory(directory / name) else directory


def _refuse_strange_directory(directory: Path | None, told: Sequence[DeclaredMember]) -> None:
    if directory is None:
        return
    named = [path for one in told for name in FILES if (path := one.declaration.text(name))]
    if named and not any(one.file(name) for one in told for name in FILES):
        files = ", ".join(dict.fromkeys(named))
        raise UsageError(
            f"--etcd-pki-dir {directory} holds none of the declared files: {files} were looked for under it, "
            "each by its whole path, by every ending of that, and at last by its name alone"
        )


def _refuse_duplicates(declarations: Sequence[Declaration]) -> None:
    seen: dict[str, Declaration] = {}
    for declaration in declarations:
        for url in sorted({str(url) for role in Role for url in advertised(declaration, role)}):
            first = seen.setdefault(url, declaration)
            if first is not declaration:
                raise UsageError(
                    f"--etcd-config {first.source} and {declaration.source} both advertise {url}, so they "
                    "are of one member: name one file for each member"
                )


def _labels(declarations: Sequence[Declaration]) -> list[str]:
    """Return a label for each: its name, and its host where names are alike."""
    names = [safe(declaration.text("name") or "default") for declaration in declarations]
    often = Counter(names)
    longer = [
        name if often[name] == 1 else f"{name}-{safe(next(iter(hosts_of(declaration)), 'nowhere'))}"
        for name, declaration in zip(names, declarations, strict=True)
    ]
    labels: list[str] = []
    for label in longer:
        labels.append(unique(label, labels))
    return labels
