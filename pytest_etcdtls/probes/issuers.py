"""Who issued what is served: the path to trust, and the CAs on it. Makes no connection of its own."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from OpenSSL import crypto

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.chain import Issuers, PathToTrust, ServedChain
from pytest_etcdtls.pki.path import Path, find_path, is_self_signed, issuers_among
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Role, Target, TrustBundle

_NO_CHECK_TIME = 0x200000
"""OpenSSL's ``X509_V_FLAG_NO_CHECK_TIME``: validity has checks of its own."""

_NAME_CONSTRAINTS = range(47, 54)
"""X509_V_ERR_PERMITTED_VIOLATION to X509_V_ERR_UNSUPPORTED_NAME_SYNTAX (OpenSSL's x509_vfy.h)."""


@probe(PathToTrust, cost=0, needs=[(ServedChain, None)])
def _path(context: Context, key: str | None) -> PathToTrust:
    listener = listener_of(context)
    served = context.get(ServedChain)
    bundle = context.target.credentials(listener.role).server_ca
    if bundle is None:
        side = "peer-" if listener.role is Role.PEER else ""
        raise NotVerifiedError(f"needs the CA of what is served: pass --etcd-{side}cacert")
    leaf, *sent = served.certificates
    known = (*sent, *_given(context.target))
    when = served.observed_at
    path = find_path(leaf, sent, bundle.certificates, when) or find_path(
        leaf, known, bundle.certificates, when
    )
    if path is None and served.unparsable:
        raise NotVerifiedError(
            "a certificate behind the served one cannot be parsed: see cert.well-formed and cert.parsable"
        )
    if path is None:
        error, unknown_issuer = _no_path(leaf, known, bundle, when)
        return PathToTrust(
            url=listener.url,
            anchors=bundle.certificates,
            source=bundle.source,
            error=error,
            unknown_issuer=unknown_issuer,
        )
    return PathToTrust(
        url=listener.url,
        anchors=bundle.certificates,
        source=bundle.source,
        error=_constraint_error(path),
        path=path,
        missing=tuple(found for found in path[1:-1] if found not in sent),
    )


@probe(Issuers, cost=0, needs=[(ServedChain, None), (PathToTrust, None)])
def _issuers(context: Context, key: str | None) -> Issuers:
    listener = listener_of(context)
    leaf, *sent = context.get(ServedChain).certificates
    above = _on_the_path(context)
    if above is None:
        when = context.get(ServedChain).observed_at
        above = issuers_among(leaf, (*sent, *_given(context.target)), when)
    if above:
        return Issuers(url=listener.url, certificates=above)
    if is_self_signed(leaf):
        raise NotApplicableError("the served certificate is signed by itself: it has no other issuer")
    side = "peer-" if listener.role is Role.PEER else ""
    raise NotVerifiedError(
        f"needs the certificate of the issuer {leaf.issuer.rfc4514_string()}, which is neither served nor "
        f"given: pass --etcd-{side}cacert"
    )


def _on_the_path(context: Context) -> Path | None:
    """Return the CAs of the path to trust, ``None`` if there is no such path."""
    try:
        path = context.get(PathToTrust).path
    except UnobservedError:
        return None
    return path[1:] or None


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


def _constraint_error(path: Path) -> str:
    """Return which nameConstraints of a CA exclude the leaf (RFC 5280 section 4.2.1.10), empty for none.

    OpenSSL judges them; whatever else it finds has checks of its own.
    """
    leaf, *above = (crypto.X509.from_cryptography(certificate) for certificate in path)
    if not above:
        return ""
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | _NO_CHECK_TIME)
    store.add_cert(above[-1])
    try:
        crypto.X509StoreContext(store, leaf, above[:-1] or None).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error) if error.errors[0] in _NAME_CONSTRAINTS else ""
    return ""
