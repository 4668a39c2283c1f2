"""The served certificates, and what they are compared with. Makes no connection of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from cryptography import x509

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.attempt import Attempt
from pytest_etcdtls.observations.chain import (
    AnnouncedCAs,
    CertificateMessage,
    ClientTrust,
    ExpectedCertificate,
    Issuers,
    PortPair,
    ServedByMembers,
    ServedChain,
)
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.pki.reading import load
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Role


@probe(ServedChain, cost=0, needs=[(Answer, None)])
def _served(context: Context, key: str | None) -> ServedChain:
    listener = listener_of(context)
    attempt = _with_certificates(context)
    leaf, *others = (_loaded(der) for der in attempt.chain)
    if leaf is None:
        raise NotVerifiedError(
            "this client cannot parse the served certificate: see cert.well-formed and cert.parsable"
        )
    issuers = tuple(found for found in others if found is not None)
    return ServedChain(
        url=listener.url,
        role=listener.role,
        host=listener.host,
        certificates=(leaf, *issuers),
        observed_at=attempt.started_at,
        unparsable=len(others) - len(issuers),
    )


def _with_certificates(context: Context) -> Attempt:
    attempt = next((found for found in tls_answer(context).tls if found.chain), None)
    if attempt is None:
        raise InconclusiveError(f"{listener_of(context).url} sent no certificate")
    return attempt


def _loaded(der: bytes) -> x509.Certificate | None:
    try:
        return load(der)
    except ValueError:
        return None


@probe(CertificateMessage, cost=0, needs=[(Answer, None), (Issuers, None)])
def _message(context: Context, key: str | None) -> CertificateMessage:
    attempt, listener = _with_certificates(context), listener_of(context)
    try:
        issuers = context.get(Issuers).certificates
    except UnobservedError:
        issuers = ()
    # A client reads its whole CA file, whatever of it is of use.
    bundle = context.target.credentials(listener.role).server_ca
    known = dict.fromkeys((*issuers, *(bundle.certificates if bundle else ())))
    return CertificateMessage(url=listener.url, certificates=attempt.chain, issuers=tuple(known))


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
    if listener.member in context.target.declared:
        raise NotApplicableError("no option names it; the declared file is judged by config.served-file")
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


@probe(ServedByMembers, cost=0, needs=[(ServedChain, None)], across=True)
def _by_members(context: Context, key: str | None) -> ServedByMembers:
    chains: list[tuple[str, ServedChain]] = []
    reasons: list[str] = []
    for listener in context.target.listeners:
        try:
            chains.append((listener.member, context.get(ServedChain, listener=listener)))
        except UnobservedError as unobserved:
            reasons.append(unobserved.reason)
    members = {listener.member for listener in context.target.listeners if listener.scheme == "https"}
    if len(members) < 2:
        raise NotApplicableError("there is one member only")
    if len({member for member, _ in chains}) < 2:
        raise NotVerifiedError("needs what two members serve: " + "; ".join(dict.fromkeys(reasons)))
    return ServedByMembers(chains=tuple(chains))


@probe(AnnouncedCAs, cost=0, needs=[(Answer, None)])
def _announced(context: Context, key: str | None) -> AnnouncedCAs:
    answer = tls_answer(context)
    seen = [attempt for attempt in answer.tls if attempt.asked in answer.offered]
    return AnnouncedCAs(
        url=answer.url,
        role=answer.role,
        requested=tuple((str(attempt.asked), attempt.certificate_requested) for attempt in seen),
        names=tuple((str(attempt.asked), tuple(_parsable_names(attempt.announced_ca))) for attempt in seen),
    )


def _parsable_names(names: Iterable[bytes]) -> Iterator[x509.Name]:
    for der in names:
        # A CA whose name cannot be parsed is no CA that we were given: such a file is refused.
        with contextlib.suppress(ValueError, TypeError):
            yield x509.Name.from_bytes(der)


@probe(ClientTrust, cost=0, needs=[(AnnouncedCAs, None)])
def _trust(context: Context, key: str | None) -> ClientTrust:
    listener = listener_of(context)
    if listener.scheme == "http":
        raise NotApplicableError(f"{listener.url} is asked for plain HTTP: there is no TLS to judge")
    bundle = context.target.credentials(listener.role).client_trust
    if bundle is None:
        if not any(requested for _, requested in context.get(AnnouncedCAs).requested):
            raise NotApplicableError("no client certificate is asked for, see mtls.announced-ca-present")
        side = "peer-" if listener.role is Role.PEER else ""
        raise NotVerifiedError(f"needs the bundle that etcd was told to trust: pass --etcd-{side}trusted-ca")
    return ClientTrust(
        certificates=bundle.certificates, source=bundle.source, declared=_is_declared(context, bundle.source)
    )


def _is_declared(context: Context, source: str) -> bool:
    """Return whether it is the file that the declaration names, and no owned cluster's."""
    listener = listener_of(context)
    told = context.target.declared.get(listener.member)
    side = "peer-" if listener.role is Role.PEER else ""
    live = context.target.origin == "live"
    return live and told is not None and str(told.file(f"{side}trusted-ca-file")) == source
