"""The served certificates, and what they are compared with. Makes no connection of its own."""

from __future__ import annotations

from cryptography import x509
from OpenSSL import crypto

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError
from pytest_etcdtls.observations.chain import (
    AnnouncedCAs,
    ClientTrust,
    ExpectedCertificate,
    PathToTrust,
    PortPair,
    ServedChain,
)
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Role

_NO_CHECK_TIME = 0x200000
"""OpenSSL's ``X509_V_FLAG_NO_CHECK_TIME``: validity has checks of its own."""


@probe(ServedChain, cost=0, needs=[(Answer, None)])
def _served(context: Context, key: str | None) -> ServedChain:
    listener = listener_of(context)
    attempt = next((found for found in tls_answer(context).tls if found.chain), None)
    if attempt is None:
        raise InconclusiveError(f"{listener.url} sent no certificate")
    try:
        certificates = tuple(x509.load_der_x509_certificate(der) for der in attempt.chain)
    except ValueError as error:
        raise InconclusiveError(
            f"{listener.url} sent a certificate that cannot be parsed: {error}"
        ) from error
    return ServedChain(
        url=listener.url,
        role=listener.role,
        host=listener.host,
        certificates=certificates,
        observed_at=attempt.started_at,
    )


@probe(PathToTrust, cost=0, needs=[(ServedChain, None)])
def _path(context: Context, key: str | None) -> PathToTrust:
    listener = listener_of(context)
    served = context.get(ServedChain)
    bundle = context.target.credentials(listener.role).server_ca
    if bundle is None:
        side = "peer-" if listener.role is Role.PEER else ""
        raise NotVerifiedError(f"needs the CA of what is served: pass --etcd-{side}cacert")
    return PathToTrust(
        url=listener.url,
        anchors=bundle.certificates,
        source=bundle.source,
        error=_path_error(served.certificates, bundle.certificates),
    )


def _path_error(chain: tuple[x509.Certificate, ...], anchors: tuple[x509.Certificate, ...]) -> str:
    """Return why no path leads from the leaf to an anchor, empty if one does.

    As in Go, every certificate of the bundle is an anchor, an intermediate one too.
    """
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | _NO_CHECK_TIME)
    for anchor in anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
    leaf, *others = (crypto.X509.from_cryptography(certificate) for certificate in chain)
    try:
        crypto.X509StoreContext(store, leaf, others or None).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    return ""


@probe(ExpectedCertificate, cost=0)
def _expected(context: Context, key: str | None) -> ExpectedCertificate:
    listener = listener_of(context)
    for expected in context.target.expected:
        if (
            expected.role is listener.role
            and expected.host in (None, listener.host)
            and expected.port in (None, listener.port)
        ):
            return ExpectedCertificate(certificate=expected.certificate, source=expected.source)
    option = "--etcd-expect-peer-cert" if listener.role is Role.PEER else "--etcd-expect-cert"
    raise NotVerifiedError(f"needs the certificate that must be served: pass {option}")


@probe(PortPair, cost=0, needs=[(ServedChain, None)], across=True)
def _pair(context: Context, key: str | None) -> PortPair:
    listener = listener_of(context)
    siblings = [
        other
        for other in context.target.listeners
        if other.member == listener.member and other.role is Role.CLIENT and other.scheme == "https"
    ]
    if not siblings:
        raise NotVerifiedError("needs a client listener of the same member: pass --etcd-endpoint")
    return PortPair(client=context.get(ServedChain, listener=siblings[0]), peer=context.get(ServedChain))


@probe(AnnouncedCAs, cost=0, needs=[(Answer, None)])
def _announced(context: Context, key: str | None) -> AnnouncedCAs:
    answer = tls_answer(context)
    seen = [attempt for attempt in answer.tls if attempt.asked in answer.offered]
    return AnnouncedCAs(
        url=answer.url,
        role=answer.role,
        requested=tuple((str(attempt.asked), attempt.certificate_requested) for attempt in seen),
        names=tuple(
            (str(attempt.asked), tuple(x509.Name.from_bytes(der) for der in attempt.announced_ca))
            for attempt in seen
        ),
    )


@probe(ClientTrust, cost=0)
def _trust(context: Context, key: str | None) -> ClientTrust:
    listener = listener_of(context)
    if listener.scheme == "http":
        raise NotApplicableError(f"{listener.url} is asked for plain HTTP: there is no TLS to judge")
    bundle = context.target.credentials(listener.role).client_trust
    if bundle is None:
        side = "peer-" if listener.role is Role.PEER else ""
        raise NotVerifiedError(f"needs the bundle that etcd was told to trust: pass --etcd-{side}trusted-ca")
    return ClientTrust(certificates=bundle.certificates, source=bundle.source)
