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
    ClientFact,
    DeclaredFiles,
    DeclaredLeaf,
    HeldCertificate,
    HeldCertificates,
    MemberFiles,
    PairFact,
)
from pytest_etcdtls.declared.file_reading import read_member_files, read_served
from pytest_etcdtls.declared.standing import ListenerDeclaration
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.chain import AnnouncedCAs, ExpectedCertificate, Issuers, ServedChain
from pytest_etcdtls.pki.reading import shown
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
    HeldCertificates,
    cost=0,
    needs=[(ServedChain, None), (Issuers, None), (DeclaredFiles, None), (AnnouncedCAs, None)],
    across=True,
)
def _held(context: Context, key: str | None) -> HeldCertificates:
    kinds = {"clients": _clients, "client-cas": _client_cas, None: _declared_pairs}
    words = {"clients": "of a client ", "client-cas": "of a CA of clients ", None: ""}
    others = () if key is not None else (*_clients(context), *_client_cas(context))
    judged = {*_seen(context), *(one.certificate for one in others)}
    held: dict[x509.Certificate, HeldCertificate] = {}
    for one in kinds[key](context):
        if one.certificate not in judged:
            held.setdefault(one.certificate, one)
    if not held:
        raise NotApplicableError(f"no certificate {words[key]}is held besides those that other checks judge")
    return HeldCertificates(certificates=tuple(held.values()), observed_at=datetime.now(UTC))


def _seen(context: Context) -> Iterator[x509.Certificate]:
    """Yield what listeners serve, and what stands above it: the checks of ``cert`` judge these."""
    for listener in context.target.listeners:
        with suppress(UnobservedError):
            yield context.get(ServedChain, listener=listener).leaf
            yield from context.get(Issuers, listener=listener).certificates


def _clients(context: Context) -> Iterator[HeldCertificate]:
    """Yield what good identities present, what etcd dials with, and clients' files beside a member's."""
    served = {pair.chain[0] for member in _members(context) for pair in _pairs(member, dials=False)}
    for identity in (*context.target.client.identities, *context.target.peer.identities):
        for certificate in () if served.intersection(identity.chain[:1]) else identity.chain:
            what = "the certificate of" if certificate == identity.chain[0] else "a CA certificate sent by"
            yield HeldCertificate(
                what=f"{what} {identity.name}", source=identity.origin, certificate=certificate
            )
    for member in _members(context):
        yield from (_leaf_of(member, pair) for pair in _pairs(member, dials=True))
        yield from (_leaf_of(member, client) for client in member.clients if client.chain)


def _client_cas(context: Context) -> Iterator[HeldCertificate]:
    """Yield the CAs that etcd is told to trust, and those of what is served that it announces as trusted."""
    target = context.target
    for credentials, side in ((target.client, "clients"), (target.peer, "peers")):
        bundle = credentials.client_trust
        for certificate in bundle.certificates if bundle else ():
            what = f"the trusted CA of {side} {shown(certificate)}"
            yield HeldCertificate(what=what, source=bundle.source if bundle else "", certificate=certificate)
    for member in _members(context):
        for declared in member.bundles.values():
            for certificate in declared.certificates:
                what = f"{member.label}: the CA {shown(certificate)} in {declared.file.said}"
                yield HeldCertificate(what=what, source=str(declared.file.path), certificate=certificate)
    announced = set(_announced(context))
    for credentials in (target.client, target.peer):
        bundle = credentials.server_ca
        for certificate in bundle.certificates if bundle else ():
            if bundle is not None and certificate.subject.public_bytes() in announced:
                what = f"the announced CA {shown(certificate)}"
                yield HeldCertificate(what=what, source=bundle.source, certificate=certificate)


def _announced(context: Context) -> Iterator[bytes]:
    for listener in context.target.listeners:
        with suppress(UnobservedError):
            for _, names in context.get(AnnouncedCAs, listener=listener).names:
                yield from (name.public_bytes() for name in names)


def _members(context: Context) -> tuple[MemberFiles, ...]:
    try:
        return context.get(DeclaredFiles).members
    except UnobservedError:
        return ()


def _declared_pairs(context: Context) -> Iterator[HeldCertificate]:
    for member in _members(context):
        yield from (_leaf_of(member, pair) for pair in _pairs(member, dials=False))


def _pairs(member: MemberFiles, *, dials: bool) -> Iterator[PairFact]:
    yield from (pair for pair in member.pairs if pair.chain and pair.dials is dials)


def _leaf_of(member: MemberFiles, one: PairFact | ClientFact) -> HeldCertificate:
    file = one.certificate
    return HeldCertificate(
        what=f"{member.label}: {file.said}", source=str(file.path), certificate=one.chain[0]
    )
