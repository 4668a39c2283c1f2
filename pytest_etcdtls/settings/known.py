"""What is known of a live cluster besides the options that name each thing: listeners, files, declarations.

Puts together what declarations tell, or what lies in kubeadm's directory where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.settings.declared import pki_directory, read_members
from pytest_etcdtls.settings.declared_credentials import (
    declared_defaults,
    kubernetes_ca,
    roles_that_dial_with_another,
)
from pytest_etcdtls.settings.declared_listeners import add_declared
from pytest_etcdtls.settings.defaults import PortDefaults
from pytest_etcdtls.settings.found_files import FoundFiles
from pytest_etcdtls.settings.kubeadm_directory import KubeadmDirectory
from pytest_etcdtls.settings.source import Source
from pytest_etcdtls.settings.urls import complete, read_named
from pytest_etcdtls.target import ExpectedLeaf, Listener, Role, TrustBundle, Unreached


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known besides the options that name each thing; the fields are those of a target.

    Attributes:
        listeners: those that were named among them.
        defaults: for client ports and for peer ports.
    """

    listeners: tuple[Listener, ...]
    defaults: tuple[PortDefaults, PortDefaults] | None = None
    expected: tuple[ExpectedLeaf, ...] = ()
    kubernetes_ca: TrustBundle | None = None
    dials_with_another: frozenset[Role] | None = None
    declared: Mapping[str, DeclaredMember] = field(default_factory=lambda: MappingProxyType({}))
    unreached: tuple[Unreached, ...] = ()
    remarks: tuple[str, ...] = ()


def read_known(source: Source) -> Known:
    """Return what is known.

    Raises:
        UsageError: if an endpoint, a declaration or ``--etcd-pki-dir`` cannot be used.
    """
    named, members = read_named(source), read_members(source)
    if not members:
        return _undeclared(source, complete(source, named))
    found, unreached = add_declared(named, members)
    listeners = complete(source, found)
    files = FoundFiles()
    defaults = declared_defaults(members, files)
    labels = {member.label for member in members}
    every = all(listener.member in labels for listener in listeners)
    return Known(
        listeners=listeners,
        defaults=defaults,
        kubernetes_ca=kubernetes_ca(members, files),
        dials_with_another=roles_that_dial_with_another(members) if every else None,
        declared=MappingProxyType({member.label: member.told for member in members}),
        unreached=unreached,
        remarks=files.problems,
    )


def _undeclared(source: Source, listeners: tuple[Listener, ...]) -> Known:
    directory = pki_directory(source)
    if directory is None:
        return Known(listeners=listeners)
    kubeadm = KubeadmDirectory.read(directory)
    return Known(
        listeners=listeners,
        defaults=kubeadm.defaults(),
        expected=tuple(kubeadm.expected(listeners)),
        kubernetes_ca=kubeadm.kubernetes_ca,
    )
