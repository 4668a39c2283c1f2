"""The declared files, as they are now on this machine.

etcd reads certificates, keys and revocation lists at each connection, and the files of trusted CAs only at
start (``GetCertificate`` and ``ServerConfig`` in client/pkg/transport/listener.go, ``checkCRL`` in
listener_tls.go). So what is in a certificate file must be what is served, while a file of trusted CAs says
what the next start does. Which content etcd takes for a certificate depends on its Go
(:func:`pytest_etcdtls.pki.certificate.read_pool`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.declared.declaration import FILES, DeclaredMember
from pytest_etcdtls.declared.files import (
    BundleFact,
    MemberFiles,
    PairFact,
    lie_beside,
    read_member_files,
    read_served,
)
from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError, missing
from pytest_etcdtls.facts.certificates import AnnouncedCAs, DeclaredLeaf, ExpectedCertificate, Issuers
from pytest_etcdtls.facts.clock import MemberClock
from pytest_etcdtls.facts.configuration import ListenerDeclaration
from pytest_etcdtls.facts.fact import Each, Lazy, fact
from pytest_etcdtls.facts.listener import ServedChain, require_tls
from pytest_etcdtls.facts.release import EtcdReleases, GoReleases
from pytest_etcdtls.pki.certificate import CertPool, read_pool, shown
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.target import Listener, PortCredentials, Target
from pytest_etcdtls.untrusted.process_root import status_of


class DeclaredFiles(Struct, frozen=True, kw_only=True):
    """The files of all declared members, in the order of their labels.

    Attributes:
        anchors: the server CAs that the user named.
        reader: the user ID that pytest runs as; ``None`` on a system without one.
        observed_at: the time of the observation, aware UTC; checks use it as their clock.
    """

    members: tuple[MemberFiles, ...]
    anchors: tuple[x509.Certificate, ...] = ()
    reader: int | None = None
    observed_at: datetime


class TrustedFile(Struct, frozen=True, kw_only=True):
    """A file of trusted CAs, as the etcd of its member reads it at its next start.

    Attributes:
        member: label of the member.
        source: its declaration.
        pool: what that etcd has of it; ``None`` if the file could not be read here.
        revoked: its certificates that the declared revocation list of the side names.
    """

    member: str
    source: str
    bundle: BundleFact
    pool: CertPool | None
    revoked: tuple[x509.Certificate, ...] = ()


class TrustedFiles(Struct, frozen=True):
    """The files of trusted CAs that the declared members read; never empty."""

    files: tuple[TrustedFile, ...]


class HeldCertificate(Struct, frozen=True, kw_only=True):
    """A certificate from a declared or given file.

    Attributes:
        name: how messages call it.
        source: where it comes from: the path of a file, or a description.
    """

    name: str
    source: str
    certificate: x509.Certificate


class HeldCertificates(Struct, frozen=True, kw_only=True):
    """Certificates of one kind, each once, without those that a listener serves.

    The kinds are client certificates (key ``clients``), the CAs that etcd trusts for them
    (``client-cas``), and without a key all other declared certificates.

    Attributes:
        observed_at: the time of the observation, aware UTC; checks use it as their clock.
        members_time: the same moment by the clocks of members that differ from the local clock.
    """

    certificates: tuple[HeldCertificate, ...]
    observed_at: datetime
    members_time: tuple[datetime, ...] = ()


@fact(reported=False)
def declared_files(target: Target, chains: Each[ServedChain]) -> DeclaredFiles:
    """Read the declared files of all members, as far as they are on this machine.

    A file that is not on the machine of its member is missing for etcd too. The files of a process are looked
    up where the process has them. Others are the member's own if etcd serves one of them.
    """
    if not target.declared:
        text = "the declared files of the members are not known"
        passing = "a member's manifest or configuration with --etcd-config"
        raise NotApplicableError(missing(text, "--etcd-config", passing=passing))
    given = target.client.server_ca
    return DeclaredFiles(
        members=tuple(
            _files_of(label, declared, target, chains) for label, declared in sorted(target.declared.items())
        ),
        anchors=given.certificates if given else (),
        reader=os.geteuid() if os.name == "posix" else None,
        observed_at=datetime.now(UTC),
    )


def _files_of(label: str, declared: DeclaredMember, target: Target, chains: Each[ServedChain]) -> MemberFiles:
    if target.runs and declared.paths.working:
        return read_member_files(label, declared, own=True)
    files = read_member_files(label, declared)
    declaration = declared.declaration
    missing = (declared.paths.missing(path) for name in FILES if (path := declaration.text(name)))
    if not target.runs or not (declaration.run_as or any(missing)):
        return files
    served = {chain.leaf for listener, chain in chains if listener.member == label}
    return read_member_files(label, declared, own=True) if lie_beside(files, served) else files


@fact(reported=False)
def trusted_files(
    target: Target, files: DeclaredFiles, gos: Lazy[GoReleases], etcds: Lazy[EtcdReleases]
) -> TrustedFiles:
    """Read the files of trusted CAs as the Go does that each member's etcd was built with."""
    bundles = [
        (member, bundle)
        for member in files.members
        for bundle in member.bundles.values()
        if bundle.read_at_start
    ]
    if not bundles:
        raise NotApplicableError("no file of trusted CAs is declared that etcd reads")
    lines = _go_lines(target, gos.known(), etcds.known()) if target.runs else {}
    return TrustedFiles(
        tuple(
            TrustedFile(
                member=member.label,
                source=target.declared[member.label].declaration.source,
                bundle=bundle,
                pool=read_pool(bundle.content, lines.get(member.label))
                if bundle.content is not None
                else None,
                revoked=tuple(_revoked(member, bundle)),
            )
            for member, bundle in bundles
        )
    )


def _revoked(member: MemberFiles, bundle: BundleFact) -> Iterator[x509.Certificate]:
    """Yield the CAs of a bundle that their issuer has revoked. Serial numbers are the issuer's own."""
    lists = [crl for setting, crl in member.crls if setting.name == f"{bundle.side}-crl-file"]
    for certificate in bundle.certificates:
        serial = abs(details(certificate).serial_number)
        if any(crl.issuer == certificate.issuer and serial in crl.serial_numbers for crl in lists):
            yield certificate


def _go_lines(
    target: Target, gos: GoReleases | None, etcds: EtcdReleases | None
) -> dict[str, tuple[int, int]]:
    """Return the line of Go whose defaults a member's etcd has, by member, as far as it is known.

    GODEBUG may select the defaults of an older Go, and so does the go line of the module that etcd was built
    in. That line is no older than the one of etcd's server module: 1.23 or newer from etcd 3.6 on.
    """
    new = {etcd.listener.member for etcd in (etcds.members if etcds else ()) if etcd.release.line >= (3, 6)}
    lines: dict[str, tuple[int, int]] = {}
    for go in gos.members if gos else ():
        declared = target.declared.get(go.listener.member)
        debug = declared.declaration.go_environment.get("GODEBUG", "") if declared else ""
        if (go.listener.member in new or go.release.line < (1, 21)) and "x509negativeserial" not in debug:
            lines[go.listener.member] = go.release.line
    return lines


@fact(reported=False)
def declared_leaf(
    here: Listener,
    target: Target,
    declaration: Lazy[ListenerDeclaration],
    expected: ExpectedCertificate | None,
    chain: ServedChain | None,
) -> DeclaredLeaf:
    """Read the certificate file that is declared for the listener, after what it serves was seen.

    Raises:
        InconclusiveError: if another one is served, and the file was replaced since.
    """
    require_tls(here)
    declared = declaration.get()
    served = read_served(declared.member.declared, declared.side)
    if served is None or declared.tls.certificate is None:
        raise NotApplicableError(f"no file is declared with a certificate for {here.url}")
    file, certificates = served
    if target.generated or not certificates:
        raise NotVerifiedError(target.generated or file.absent or file.problem)
    if expected is not None and expected.certificate == certificates[0]:
        raise NotApplicableError("same file as --etcd-expect-cert; see cert.matches-expected-file")
    if (
        chain is not None
        and chain.leaf != certificates[0]
        and _is_replaced(str(file.path), chain.observed_at)
    ):
        raise InconclusiveError(f"{file.path} was replaced during the run, as at a renewal: run again")
    return DeclaredLeaf(certificate=certificates[0], said=file.said, source=str(file.path), place=file.place)


_CLOCK_TICK: Final = timedelta(milliseconds=20)
"""By which the clock of a file system is behind at most."""


def _is_replaced(path: str, since: datetime) -> bool:
    """Return whether a file was written or renamed since; cp -p keeps its time of modification, not this."""
    with suppress(OSError):
        return datetime.fromtimestamp(status_of(Path(path)).st_ctime, UTC) >= since - _CLOCK_TICK
    return False


_OF_WHOM = {"clients": "of a client ", "client-cas": "of a CA of clients ", None: ""}


@fact(reported=False)
def held_certificates(
    key: str | None,
    target: Target,
    files: DeclaredFiles | None,
    announced: Each[AnnouncedCAs],
    chains: Each[ServedChain],
    issuers: Each[Issuers],
    clocks: Each[MemberClock],
) -> HeldCertificates:
    """Return the certificates of the kind, without those that the checks of the family ``cert`` judge."""
    if target.generated:
        target = replace(target, client=PortCredentials(), peer=PortCredentials())
    members = files.members if files else ()
    held: dict[x509.Certificate, HeldCertificate] = {}
    judged = {chain.leaf for _, chain in chains}
    judged |= {certificate for _, above in issuers for certificate in above.certificates}
    if key == "clients":
        candidates = [*_clients(target, members)]
    elif key == "client-cas":
        candidates = [*_client_cas(target, members, announced)]
    else:
        others = (*_clients(target, members), *_client_cas(target, members, announced))
        judged |= {other.certificate for other in others}
        candidates = [_leaf_of(member, pair) for member in members for pair in _pairs(member, dials=False)]
    for candidate in candidates:
        if candidate.certificate not in judged:
            held.setdefault(candidate.certificate, candidate)
    if not held:
        raise NotApplicableError(f"no certificate {_OF_WHOM[key]}is available that no other check judges")
    now = datetime.now(UTC)
    members_time = dict.fromkeys(time for _, clock in clocks for time in clock.times(now)[1:])
    return HeldCertificates(
        certificates=tuple(held.values()), observed_at=now, members_time=tuple(members_time)
    )


def _clients(target: Target, members: tuple[MemberFiles, ...]) -> Iterator[HeldCertificate]:
    """Yield the certificates of good identities, of etcd as a client, and of client files of a member."""
    served = {pair.chain[0] for member in members for pair in _pairs(member, dials=False)}
    for identity in (*target.client.identities, *target.peer.identities):
        for certificate in () if served.intersection(identity.chain[:1]) else identity.chain:
            named = "the certificate of" if certificate == identity.chain[0] else "a CA certificate sent by"
            yield HeldCertificate(
                name=f"{named} {identity.name}", source=identity.origin, certificate=certificate
            )
    for member in members:
        yield from (_leaf_of(member, pair) for pair in _pairs(member, dials=True))
        yield from (_leaf_of(member, client) for client in member.clients if client.chain)


def _client_cas(
    target: Target, members: tuple[MemberFiles, ...], announced: Each[AnnouncedCAs]
) -> Iterator[HeldCertificate]:
    """Yield the CAs that etcd is declared to trust, and issuers of served certificates that it announces."""
    for credentials, side in ((target.client, "clients"), (target.peer, "peers")):
        bundle = credentials.client_trust
        if bundle is None or bundle.inferred:
            continue  # an inferred bundle is that of a server, which follows
        for certificate in bundle.certificates:
            name = f"the trusted CA of {side} {shown(certificate)}"
            yield HeldCertificate(name=name, source=bundle.source, certificate=certificate)
    for member in members:
        for declared in member.bundles.values():
            for certificate in declared.certificates:
                name = f"{member.label}: the CA {shown(certificate)} in {declared.file.said}"
                yield HeldCertificate(name=name, source=str(declared.file.path), certificate=certificate)
    subjects = {name.public_bytes() for _, cas in announced for _, names in cas.names for name in names}
    for credentials in (target.client, target.peer):
        bundle = credentials.server_ca
        for certificate in bundle.certificates if bundle else ():
            if bundle is not None and certificate.subject.public_bytes() in subjects:
                name = f"the announced CA {shown(certificate)}"
                yield HeldCertificate(name=name, source=bundle.source, certificate=certificate)


def _pairs(member: MemberFiles, *, dials: bool) -> Iterator[PairFact]:
    yield from (pair for pair in member.pairs if pair.chain and pair.dials is dials)


def _leaf_of(member: MemberFiles, files: PairFact) -> HeldCertificate:
    file = files.certificate
    return HeldCertificate(
        name=f"{member.label}: {file.said}", source=str(file.path), certificate=files.chain[0]
    )
