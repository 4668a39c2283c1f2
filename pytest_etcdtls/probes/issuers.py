"""Who issued what is served: the path to trust, and the CAs on it. Makes no connection of its own."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.chain import CertificationPath, Issuers, PathToTrust, ServedChain
from pytest_etcdtls.pki.go_verify import Path, verified_path
from pytest_etcdtls.pki.path import faults, find_path, is_self_signed, issuers_among
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Role, Target, TrustBundle

_UNPARSABLE = "a certificate behind the served one cannot be parsed: see cert.well-formed and cert.parsable"


@probe(PathToTrust, cost=0, needs=[(ServedChain, None)])
def _path(context: Context, key: str | None) -> PathToTrust:
    listener = listener_of(context)
    served = context.get(ServedChain)
    bundle = context.target.credentials(listener.role).server_ca
    if bundle is None:
        side = "peer-" if listener.role is Role.PEER else ""
        raise NotVerifiedError(f"needs the CA of what is served: pass --etcd-{side}cacert")
    leaf, *sent = served.certificates
    anchors, when = bundle.certificates, served.observed_at
    known = (*sent, *_given(context.target))
    verified = verified_path(leaf, sent, anchors, when)
    if verified is None and served.unparsable:
        raise NotVerifiedError(_UNPARSABLE)
    path = verified or find_path(leaf, sent, anchors, when) or find_path(leaf, known, anchors, when)
    if path is None:
        error, unknown_issuer = _no_path(leaf, known, bundle, when)
        return PathToTrust(
            url=listener.url,
            anchors=anchors,
            source=bundle.source,
            error=error,
            unknown_issuer=unknown_issuer,
        )
    missing = tuple(found for found in path[1:-1] if found not in sent)
    unexplained = verified is None and not missing and not any(faults(path, when))
    return PathToTrust(
        url=listener.url,
        anchors=anchors,
        source=bundle.source,
        error="clients written in Go give up: too many certificates are served to try" if unexplained else "",
        path=path,
        missing=missing,
        verified=verified is not None,
    )


@probe(CertificationPath, cost=0, needs=[(ServedChain, None), (PathToTrust, None)])
def _certification_path(context: Context, key: str | None) -> CertificationPath:
    listener = listener_of(context)
    served = context.get(ServedChain)
    leaf, *sent = served.certificates
    anchors: Path = ()
    try:
        trust = context.get(PathToTrust)
    except UnobservedError:
        if served.unparsable:
            return CertificationPath(url=listener.url, certificates=(leaf,))
    else:
        anchors = trust.anchors
        if trust.path:
            return CertificationPath(url=listener.url, certificates=trust.path, anchors=anchors)
    above = issuers_among(leaf, (*sent, *_given(context.target)), served.observed_at)
    return CertificationPath(url=listener.url, certificates=(leaf, *above), anchors=anchors)


@probe(Issuers, cost=0, needs=[(CertificationPath, None)])
def _issuers(context: Context, key: str | None) -> Issuers:
    listener = listener_of(context)
    leaf, *above = context.get(CertificationPath).certificates
    if above:
        return Issuers(url=listener.url, certificates=tuple(above))
    if is_self_signed(leaf):
        raise NotApplicableError("the served certificate is signed by itself: it has no other issuer")
    if context.get(ServedChain).unparsable:
        raise NotVerifiedError(_UNPARSABLE)
    side = "peer-" if listener.role is Role.PEER else ""
    raise NotVerifiedError(
        f"needs the certificate of the issuer {leaf.issuer.rfc4514_string()}, which is neither served nor "
        f"given: pass --etcd-{side}cacert"
    )


def _given(target: Target) -> Path:
    """Return the CA certificates that we were given for whatever purpose."""
    found: dict[x509.Certificate, None] = {}
    for credentials in (target.client, target.peer):
        for bundle in (credentials.server_ca, credentials.client_trust):
            found |= dict.fromkeys(bundle.certificates if bundle else ())
        for identity in credentials.identities:
            found |= dict.fromkeys(identity.chain[1:])
        if credentials.signing_key is not None:
            found[credentials.signing_key.certificate] = None
    return tuple(found)


def _no_path(leaf: x509.Certificate, known: Path, bundle: TrustBundle, when: datetime) -> tuple[str, str]:
    """Return why there is no path, and the issuer that nobody gave us."""
    top = (leaf, *issuers_among(leaf, (*known, *bundle.certificates), when))[-1]
    if is_self_signed(top):
        if top == leaf:
            return "the certificate is signed by itself", ""
        return f"the chain ends at {top.subject.rfc4514_string()}, which is not the given CA", ""
    issuer = top.issuer.rfc4514_string()
    if any(top.issuer == anchor.subject for anchor in bundle.certificates):
        return f"the given CA has the name {issuer} of the issuer, but another key made the signature", ""
    return f"the chain ends at the issuer {issuer}, of which no certificate is served or given", issuer
