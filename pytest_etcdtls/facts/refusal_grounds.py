"""Why etcd may refuse a good client: what is known besides its certificate and the alert.

etcd trusts the CAs of one bundle, which it reads at its start (client/pkg/transport, ``TLSInfo.baseConfig``),
so the declared file may have changed since then. Its rules about names (``VerifyPeerCertificate`` there) and
its revocation list (``checkCRL`` in listener_tls.go) come on top. Which alert Go sends, and which rules its
verifier has, depends on the Go release (crypto/tls, ``processCertsFromClient``; crypto/x509, ``Verify``).
:mod:`pytest_etcdtls.checks.refused_clients` compares a refusal with all of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.declared.effective import ClientAuthentication, CRLEffect
from pytest_etcdtls.declared.system_roots import read_system_roots
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.certificates import ClientTrust, given_authorities
from pytest_etcdtls.facts.configuration import ListenerDeclaration
from pytest_etcdtls.facts.fact import Lazy, fact
from pytest_etcdtls.facts.good_identities import credentials_at
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.facts.release import GoRelease
from pytest_etcdtls.pki.certificate import load_trusted_file
from pytest_etcdtls.pki.go_verify import Path
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.versions import Release


class DeclaredRevocation(Struct, frozen=True, kw_only=True):
    """A declared revocation list.

    Attributes:
        problem: why it refuses every client, and the remedy; ``None`` if it does not.
        serial_numbers: that it revokes.
        source: its path here.
        in_handshake: etcd looks at it in the handshake, as on a port for gRPC alone; elsewhere it closes the
            connection after the handshake.
    """

    problem: tuple[str, str] | None = None
    serial_numbers: frozenset[int] = frozenset()
    source: str = ""
    in_handshake: bool = False


class RefusalGrounds(Struct, frozen=True, kw_only=True):
    """What is known about a listener that refuses a good client.

    Attributes:
        bundle: the CAs that etcd is meant to trust: the declared file as it is now, else the known bundle;
            empty if it is not known.
        source: where the bundle comes from.
        is_file: the bundle is the declared file, which etcd has read at its start.
        roots: what the system's root store is made of, if etcd is declared to trust that; else empty.
        authorities: CA certificates that were given for any purpose.
        allowed: the declared rules about names, in words; empty if none is known.
        revocation: the declared revocation list, if etcd looks at it on this port; ``None`` if it does not.
        go: the Go release that etcd was built with, ``None`` if it is not known.
        kubernetes: the CA of the Kubernetes cluster; empty if it is not known.
        alerts_differ: etcd's Go has an alert for each reason, as a client without a certificate shows.
    """

    bundle: Path = ()
    source: str = ""
    is_file: bool = False
    roots: str = ""
    authorities: Path = ()
    allowed: str = ""
    revocation: DeclaredRevocation | None = None
    go: Release | None = None
    alerts_differ: bool = True
    kubernetes: Path = ()


_SINCE_ALERTS_DIFFER = frozenset({40, 116})
"""Alerts for a client without a certificate, where older releases of Go send 42 for every client."""


@fact(reported=False)
def refusal_grounds(
    here: Listener,
    target: Target,
    contact: FirstContact,
    client: AcceptedClient,
    declaration: ListenerDeclaration | None,
    trust: ClientTrust | None,
    release: Lazy[GoRelease],
) -> RefusalGrounds:
    """Return what is known of the bundle and the rules, and the Go release where a client is refused."""
    credentials = credentials_at(here, target)
    declared = _declared_bundle(declaration) if declaration and not target.generated else None
    bundle = declared or ((trust.certificates, trust.source) if trust is not None else None)
    go = None if all(candidate.served for candidate in client.candidates) else release.known()
    allowed = [
        *(f"common name {name}" for name in credentials.allowed_cn),
        *(f"hostname {name}" for name in credentials.allowed_hostname),
    ]
    return RefusalGrounds(
        bundle=bundle[0] if bundle else (),
        source=bundle[1] if bundle else "",
        is_file=declared is not None,
        roots=_roots(declaration) if declaration else "",
        authorities=given_authorities(target),
        allowed=" or ".join(allowed),
        revocation=_revocation(declaration) if declaration else None,
        go=go.release if go else None,
        kubernetes=target.kubernetes_ca.certificates if target.kubernetes_ca else (),
        alerts_differ=any(attempt.alert in _SINCE_ALERTS_DIFFER for attempt in contact.tls),
    )


def _roots(declaration: ListenerDeclaration) -> str:
    of_system = declaration.tls.client_auth is ClientAuthentication.SYSTEM_ROOTS
    return declaration.tls.roots if of_system else ""


def _declared_bundle(declaration: ListenerDeclaration) -> tuple[tuple[x509.Certificate, ...], str] | None:
    """Return the CAs in the declared file and its path, or of the system; ``None`` if they are not here."""
    declared = declaration.tls.trusted_ca
    if _roots(declaration):
        roots = read_system_roots(declaration.member.declared)
        return (roots.certificates, roots.source) if roots else None
    path = declaration.member.declared.paths.find(declared) if declared else None
    if path is None:
        return None
    try:
        return load_trusted_file(path, option=str(declared))[0], str(path)
    except UsageError:
        return None


def _revocation(declaration: ListenerDeclaration) -> DeclaredRevocation | None:
    listener = declaration.listener
    effect = listener.crl if listener is not None else declaration.tls.crl
    if effect in (CRLEffect.NONE, CRLEffect.IGNORED):
        return None
    crl = declaration.member.declared.crls.get(declaration.tls.crl_file or "")
    return DeclaredRevocation(
        problem=next(_crl_problems(declaration), None),
        serial_numbers=crl.read_by(declaration.member.version).serial_numbers if crl else frozenset(),
        source=(crl.path if crl else None) or str(declaration.tls.crl_file),
        in_handshake=listener is not None and listener.protocols == {"grpc"},
    )


def _crl_problems(declaration: ListenerDeclaration) -> Iterator[tuple[str, str]]:
    for id_ in ("crl-missing", "crl-encoding"):
        for trap in declaration.traps(id_):
            yield trap.summary, f"{trap.remedy} (--{declaration.side}-crl-file)"
