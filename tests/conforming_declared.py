"""Conforming samples of what was declared, and of what was seen of it; part of ``conforming``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from typing import Protocol as Shape

from pytest_etcdtls.declared.reading import declared_member, from_command_line
from pytest_etcdtls.facts.configuration import (
    Declarations,
    DeclaredBundle,
    DeclaredNames,
    ListenerDeclaration,
    ListenersSeen,
    MemberDeclaration,
    NameRule,
    SeenListener,
)
from pytest_etcdtls.role import Role
from pytest_etcdtls.tls.suites import SUITES

_SUITES = [suite.name for suite in SUITES if suite.name.startswith("TLS_ECDHE_ECDSA_")]
_ARGUMENTS = (
    *("--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379"),
    *("--listen-peer-urls=https://127.0.0.1:2380", "--initial-advertise-peer-urls=https://127.0.0.1:2380"),
    "--listen-metrics-urls=https://127.0.0.1:2381",
    *("--cert-file=/pki/server.crt", "--key-file=/pki/server.key"),
    *("--client-cert-auth=true", "--trusted-ca-file=/pki/ca.crt", "--client-cert-allowed-hostname=a.example"),
    *("--peer-cert-file=/pki/peer.crt", "--peer-key-file=/pki/peer.key"),
    *(
        "--peer-client-cert-auth=true",
        "--peer-trusted-ca-file=/pki/ca.crt",
        "--peer-cert-allowed-cn=etcd-peer",
    ),
    *("--tls-min-version=TLS1.2", "--tls-max-version=TLS1.3", f"--cipher-suites={','.join(_SUITES)}"),
)


class Place(Shape):
    """What is used of ``conforming.Place``."""

    @property
    def url(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def trusted(self) -> Any: ...


@functools.cache
def _member(label: str = "m0") -> MemberDeclaration:
    declaration = from_command_line(("etcd", *_ARGUMENTS))
    return MemberDeclaration.of(label, declared_member(declaration), "3.6.16")


def _of_listener(place: Place, key: str | None) -> ListenerDeclaration:
    role, member = Role(place.role), _member()
    declared = member.effective.at(Role.CLIENT if role is Role.CLIENT_HTTP else role)
    return ListenerDeclaration(url=place.url, role=role, member=member, listener=declared[0])


def _bundle(place: Place, key: str | None) -> DeclaredBundle:
    setting = _of_listener(place, key).setting(f"{'peer-' if place.role == 'peer' else ''}trusted-ca-file")
    assert setting is not None
    return DeclaredBundle(
        setting=setting, certificates=(place.trusted,), source="ca.crt", accepted="client", signed=True
    )


def names(place: Place, admission: Any) -> DeclaredNames:
    """Return the declared rule about names, kept as the admission shows."""
    name = "peer-cert-allowed-cn" if place.role == "peer" else "client-cert-allowed-hostname"
    setting = _of_listener(place, None).setting(name)
    assert setting is not None
    return DeclaredNames((NameRule(setting=setting, admission=admission),))


def _seen(place: Place, key: str | None) -> ListenersSeen:
    declaration = _of_listener(place, key)
    seen = SeenListener(declaration=declaration, tls=True, plaintext=False, said="refused")
    return ListenersSeen(seen=(seen,))


SAMPLES: dict[type[Any], Callable[[Any, str | None], Any]] = {
    ListenerDeclaration: _of_listener,
    Declarations: lambda place, key: Declarations((_member(), _member("m1"))),
    DeclaredBundle: _bundle,
    ListenersSeen: _seen,
}
