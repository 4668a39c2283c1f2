"""The files that members were told to use, and the certificates that we hold. Opens files alone.

Nothing of a private key is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from cryptography import x509

from pytest_etcdtls.declared.file_facts import (
    DeclaredFiles,
    DeclaredLeaf,
    HeldCertificate,
    HeldCertificates,
    MemberFiles,
)
from pytest_etcdtls.declared.file_reading import read_member_files, read_served
from pytest_etcdtls.declared.standing import ListenerDeclaration
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.chain import ExpectedCertificate, Issuers, ServedChain
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.registry import Context, probe


@probe(DeclaredFiles, cost=0)
def _files(context: Context, key: str | None) -> DeclaredFiles:
    target = context.target
    if not target.declared:
        raise NotApplicableError(
            "nothing says which files the members were told to use: --etcd-config names a member's manifest "
            "or configuration"
        )
    given = target.client.server_ca
    return DeclaredFiles(
        members=tuple(read_member_files(label, told) for label, told in sorted(target.declared.items())),
        anchors=given.certificates if given else (),
        reader=os.geteuid() if os.name == "posix" else None,
        observed_at=datetime.now(UTC),
    )


@probe(
    DeclaredLeaf,
    cost=0,
    needs=[(ListenerDeclaration, None), (ExpectedCertificate, None)],
)
def _leaf(context: Context, key: str | None) -> DeclaredLeaf:
    listener = listener_of(context)
    if listener.scheme == "http":
        raise NotApplicableError(f"{listener.url} is asked for plain HTTP: no certificate is served")
    declaration = context.get(ListenerDeclaration)
    served = read_served(declaration.member.told, declaration.side)
    if served is None or declaration.tls.certificate is None:
        raise NotApplicableError(f"no file is declared with a certificate for {listener.url}")
    file, chain = served
    if not chain:
        raise NotVerifiedError(file.absent or file.problem)
    if _expected(context) == chain[0]:
        raise NotApplicableError(
            "the very certificate of the declared file is expected anyhow: see cert.matches-expected-file"
        )
    return DeclaredLeaf(certificate=chain[0], said=file.said, source=str(file.path))


def _expected(context: Context) -> x509.Certificate | None:
    try:
        return context.get(ExpectedCertificate).certificate
    except UnobservedError:
        return None


@probe(
    HeldCertificates, cost=0, needs=[(ServedChain, None), (Issuers, None), (DeclaredFiles, None)], across=True
)
def _held(context: Context, key: str | None) -> HeldCertificates:
    seen = set(_seen(context))
    held: dict[x509.Certificate, HeldCertificate] = {}
    for one in (*_clients(context), *_declared(context)):
        if one.certificate not in seen:
            held.setdefault(one.certificate, one)
    if not held:
        raise NotApplicableError("no certificate is held besides those that are served")
    return HeldCertificates(certificates=tuple(held.values()), observed_at=datetime.now(UTC))


def _seen(context: Context) -> Iterator[x509.Certificate]:
    """Yield what listeners serve, and what stands above it: others judge how long these are valid."""
    for listener in context.target.listeners:
        with suppress(UnobservedError):
            yield context.get(ServedChain, listener=listener).leaf
            yield from context.get(Issuers, listener=listener).certificates


def _clients(context: Context) -> Iterator[HeldCertificate]:
    target = context.target
    for identity in (*target.client.identities, *target.peer.identities):
        if identity.chain:
            what = f"the certificate of {identity.name}"
            yield HeldCertificate(what=what, source=identity.origin, certificate=identity.chain[0])


def _declared(context: Context) -> Iterator[HeldCertificate]:
    try:
        members = context.get(DeclaredFiles).members
    except UnobservedError:
        return
    for member in members:
        yield from _of_member(member)


def _of_member(member: MemberFiles) -> Iterator[HeldCertificate]:
    leaves = [(pair.certificate, pair.chain[:1]) for pair in member.pairs]
    leaves += [(client.certificate, client.chain[:1]) for client in member.clients]
    for file, chain in leaves:
        for leaf in chain:
            what = f"{member.label}: {file.said}"
            yield HeldCertificate(what=what, source=str(file.path), certificate=leaf)
    for bundle in member.bundles.values():
        for certificate in bundle.certificates:
            yield HeldCertificate(
                what=f"{member.label}: a CA in {bundle.file.said}",
                source=str(bundle.file.path),
                certificate=certificate,
            )
