"""Served certificates, the path to a trust anchor, and the certificates that they are compared with.

A server sends its certificate and the CAs above it in the Certificate message (RFC 8446 section 4.4.2). etcd
reads its certificate file at each handshake (``GetCertificate`` in client/pkg/transport/listener.go), so the
wire shows its present content. The CertificateRequest names the CAs that etcd trusts for clients, which it
reads only at start. Both messages come before the client presents anything. So the facts here are computed
from the first contact, and none of them connects.

A path (RFC 5280 section 6.1) is searched for in three ways, until one finds it: as a Go client does, at the
time of the handshake (``Certificate.Verify`` in crypto/x509, see :mod:`pytest_etcdtls.pki.go_verify`); by
names and signatures, among the served certificates; and among all certificates that were given. What only
the last one finds is missing in the served chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from pytest_etcdtls.declared.declaration import SourceLine
from pytest_etcdtls.errors import (
    NotApplicableError,
    NotVerifiedError,
    Reason,
    UnobservedError,
    missing,
    needs,
)
from pytest_etcdtls.facts.fact import Each, Lazy, fact
from pytest_etcdtls.facts.listener import (
    FirstContact,
    ServedChain,
    TLSContact,
    require_tls,
    with_certificates,
)
from pytest_etcdtls.pki.certificate import describe_key, name_text, public_key, read_name
from pytest_etcdtls.pki.go_verify import (
    CLIENT_AUTH,
    Path,
    faults,
    find_path,
    is_self_signed,
    issuers_among,
    verified_path,
)
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target, TrustBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateMessage:
    """The Certificate message as it was sent, and the CAs that belong to it.

    Reports show both as ServedChain and Issuers, as far as they can be parsed.

    Attributes:
        certificates: DER, leaf first, as sent; also those that cannot be parsed.
        issuers: the CAs above the leaf, and all CAs of the listener's CA file; empty if they are not known.
    """

    certificates: tuple[bytes, ...] = field(repr=False)
    issuers: tuple[x509.Certificate, ...] = field(default=(), repr=False)


class PathToTrust(Struct, frozen=True, kw_only=True):
    """Whether a path leads from the served leaf to a trust anchor, by names and signatures only.

    If there are several, it is one that a Go client accepts, if any.

    Attributes:
        anchors: the trust anchors, as given.
        source: where they come from: a file's path, or ``generated CA``.
        error: why no path was found, empty if one was.
        path: leaf first, anchor last; empty if there is none.
        missing: certificates of the path that are neither served nor an anchor; they are known from other
            files.
        unknown_issuer: the issuer at which the served chain ends, if its certificate is not known.
        remark: that of the bundle, if there is no path.
        verified: a Go client accepts the served chain at the time of the handshake; the host name is not
            considered.
    """

    anchors: tuple[x509.Certificate, ...]
    source: str
    error: str
    path: tuple[x509.Certificate, ...] = ()
    missing: tuple[x509.Certificate, ...] = ()
    unknown_issuer: str = ""
    remark: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True)
class ServerProof:
    """The certificates by which the server at a discovered address has proved who it is.

    Attributes:
        leaves: DER; at least one. A credential is presented to a server of one of them alone.
    """

    leaves: frozenset[bytes] = field(repr=False)


class CertificationPath(Struct, frozen=True, kw_only=True):
    """The path that is judged: to a trust anchor if there is one, else as far as certificates are known.

    Attributes:
        certificates: the served leaf first.
        anchors: the trust anchors, as given; empty if none are.
    """

    certificates: tuple[x509.Certificate, ...]
    anchors: tuple[x509.Certificate, ...] = ()


class Issuers(Struct, frozen=True, kw_only=True):
    """The CAs above the served leaf: those of the path to a trust anchor, else as far as they are known.

    Attributes:
        certificates: the issuer of the leaf first; at least one.
    """

    certificates: tuple[x509.Certificate, ...]


class ExpectedCertificate(Struct, frozen=True, kw_only=True):
    """The certificate that must be served on the listener.

    Attributes:
        source: where it comes from: a file's path, or ``generated certificate``.
    """

    certificate: x509.Certificate
    source: str


class DeclaredLeaf(Struct, frozen=True, kw_only=True):
    """The certificate in the file that is declared for a listener.

    Attributes:
        said: the setting as it is written, with file and line.
        source: the path of the file on this machine.
        place: where the setting is written.
    """

    certificate: x509.Certificate
    said: str
    source: str
    place: SourceLine | None = None


class ServedKey(Struct, frozen=True, kw_only=True):
    """The key of the listener's certificate.

    Attributes:
        text: its type, as in ``RSA 2048 bits`` or ``Ed25519``; empty if it is not known.
        source: the file that has the certificate, if none was served; empty otherwise.
    """

    text: str
    source: str = ""

    @property
    def suites(self) -> str:
        """How Go's suites for such a key begin (``processClientHello`` in ``handshake_server.go``)."""
        if not self.text:
            return ""
        return "TLS_ECDHE_RSA_" if self.text.startswith("RSA") else "TLS_ECDHE_ECDSA_"


class AnnouncedCAs(Struct, frozen=True, kw_only=True):
    """The distinguished names in the CertificateRequest.

    Go announces the subject of each certificate of its pool. The pool holds each certificate once, so a name
    that is announced twice is that of two certificates (crypto/x509, ``CertPool.addCertFunc`` and
    ``CertPool.Subjects``).

    Attributes:
        requested: whether a CertificateRequest was seen, by TLS version.
        names: the names as they were sent, by TLS version.
    """

    requested: tuple[tuple[str, bool], ...]
    names: tuple[tuple[str, tuple[x509.Name, ...]], ...]

    @property
    def most(self) -> tuple[x509.Name, ...]:
        """Each name as often as the TLS version that repeats it most, in order of encoding."""
        most: Counter[x509.Name] = Counter()
        for _, names in self.names:
            most |= Counter(names)
        return tuple(sorted(most.elements(), key=x509.Name.public_bytes))


def subjects(certificates: Iterable[x509.Certificate]) -> Counter[bytes]:
    """Return what a pool of these certificates announces: each subject in DER, with its number."""
    return Counter(certificate.subject.public_bytes() for certificate in dict.fromkeys(certificates))


class ClientTrust(Struct, frozen=True, kw_only=True):
    """The CA bundle that etcd is meant to trust for clients of the listener.

    Attributes:
        certificates: of an inferred bundle, and of the intermediates below it that are known, those whose
            subject is announced.
        source: where it comes from.
        declared: it is known only from the declaration of a live cluster.
        inferred: it is the bundle that verifies served certificates, and the good client's as well.
        unannounced: number of certificates of an inferred bundle whose subject is not announced.
        sole_signer: the only announced CA has signed the good client.
        remark: what etcd makes of the file, if that differs.
    """

    certificates: tuple[x509.Certificate, ...]
    source: str
    declared: bool = False
    inferred: bool = False
    unannounced: int = 0
    sole_signer: bool = False
    remark: str = ""


class Dialling(Struct, frozen=True, kw_only=True):
    """The certificate that etcd presents as a client of the listener's port, as far as it is known.

    Attributes:
        with_another: etcd is declared to present a certificate other than the served one; ``None`` if that
            is not known, since connections to the listener do not show it.
        own: the certificates of that declared file, leaf first; empty if it is not here.
        members: number of members of the cluster; ``None`` if it is not known.
    """

    with_another: bool | None
    own: tuple[x509.Certificate, ...] = ()
    members: int | None = None


class ServedByMembers(Struct, frozen=True, kw_only=True):
    """The chains that the TLS listeners of at least two members serve."""

    chains: tuple[tuple[Listener, ServedChain], ...]


@fact
def certificate_message(
    here: Listener, target: Target, contact: TLSContact, issuers: Issuers | None
) -> CertificateMessage:
    """Return the first Certificate message of the first contact, with the CAs that clients load for it."""
    attempt = with_certificates(here, contact)
    # A client loads its whole CA file, whether it uses each certificate or not.
    bundle = target.credentials(here.role).server_ca
    known = dict.fromkeys(
        (*(issuers.certificates if issuers else ()), *(bundle.certificates if bundle else ()))
    )
    return CertificateMessage(certificates=attempt.chain, issuers=tuple(known))


@fact
def expected_certificate(here: Listener, target: Target) -> ExpectedCertificate:
    """Return the certificate that an option names for the listener."""
    for expected in target.expected:
        if (
            expected.role is here.role
            and expected.host in (None, here.host)
            and expected.port in (None, here.port)
        ):
            return ExpectedCertificate(certificate=expected.certificate, source=expected.source)
    if here.member in target.declared:
        raise NotApplicableError("no option names it; the declared file is judged by config.served-file")
    option = "--etcd-expect-peer-cert" if here.role is Role.PEER else "--etcd-expect-cert"
    raise NotVerifiedError(needs("the certificate that must be served", option))


@fact
def served_by_members(target: Target, chains: Each[ServedChain]) -> ServedByMembers:
    """Return what every listener serves, where two members are judged."""
    served: list[tuple[Listener, ServedChain]] = []
    reasons: list[Reason] = []
    for listener in target.listeners:
        try:
            served.append((listener, chains.at(listener)))
        except UnobservedError as unobserved:
            reasons.append(unobserved.why)
    members = {listener.member for listener in target.listeners if listener.scheme == "https"}
    if len(members) < 2:
        raise NotApplicableError("there is one member only")
    if len({listener.member for listener, _ in served}) < 2:
        why = Reason.together(reasons)
        raise NotVerifiedError(needs("what two members serve", *why.every_option, ending=f": {why}"))
    return ServedByMembers(chains=tuple(served))


@fact
def served_key(
    chain: ServedChain | None, expected: ExpectedCertificate | None, declared: Lazy[DeclaredLeaf]
) -> ServedKey:
    """Return the key of the served certificate, else of the one in the file that belongs to the listener."""
    if chain is not None:
        return ServedKey(text=describe_key(public_key(chain.leaf)))
    leaf = expected or declared.known()
    if leaf is None:
        return ServedKey(text="")
    return ServedKey(text=describe_key(public_key(leaf.certificate)), source=leaf.source)


@fact
def announced_cas(here: Listener, contact: TLSContact) -> AnnouncedCAs:
    """Return the names in the CertificateRequests of the first contact."""
    seen = [
        (str(attempt.offered_version), attempt.certificate_requested, attempt.announced_ca)
        for attempt in contact.tls
        if attempt.offered_version in contact.offered and attempt.certificate_requested is not None
    ]
    if not seen:
        how = contact.limit or "; ".join(dict.fromkeys(attempt.describe() for attempt in contact.tls))
        raise NotVerifiedError(
            f"no handshake with {here.url} got as far as a request for a certificate: {how}"
        )
    return AnnouncedCAs(
        requested=tuple((version, requested) for version, requested, _ in seen),
        names=tuple((version, tuple(map(read_name, names))) for version, _, names in seen),
    )


@fact
def client_trust(here: Listener, target: Target, announced: Lazy[AnnouncedCAs]) -> ClientTrust:
    """Return the bundle that is given, declared or inferred for the listener's clients."""
    require_tls(here)
    credentials = target.credentials(here.role)
    bundle = credentials.client_trust
    if bundle is None:
        if not any(requested for _, requested in announced.get().requested):
            raise NotApplicableError("no client certificate is requested, see mtls.announced-ca-present")
        raise NotVerifiedError(needs("the bundle that etcd trusts", f"--etcd-{here.role.prefix}trusted-ca"))
    if bundle.inferred:
        return _inferred(bundle, announced.get().most, credentials.identities[:1], given_authorities(target))
    return ClientTrust(
        certificates=bundle.certificates,
        source=bundle.source,
        declared=_is_declared(here, target, bundle.source),
        remark=bundle.remark,
    )


def _inferred(
    bundle: TrustBundle, names: Sequence[x509.Name], good: Sequence[Identity], given: Path
) -> ClientTrust:
    """Return what of the bundle of a server is announced, and so may be trusted for clients too.

    An intermediate below a CA of the bundle is expected as well: whoever trusts the CA trusts its clients.
    """
    announced, now = {name.public_bytes() for name in names}, datetime.now(UTC)

    def of(pool: Path) -> Path:
        return tuple(authority for authority in pool if authority.subject.public_bytes() in announced)

    others = (authority for authority in of(given) if authority not in bundle.certificates)
    below = tuple(one for one in others if verified_path(one, given, bundle.certificates, now, CLIENT_AUTH))
    certificates = (*(own := of(bundle.certificates)), *below)
    signed = any(find_path(identity.chain[0], identity.chain[1:], certificates, now) for identity in good)
    return ClientTrust(
        certificates=certificates,
        source=bundle.source,
        inferred=True,
        unannounced=len(bundle.certificates) - len(own),
        sole_signer=signed and len(names) == 1,
    )


def _is_declared(here: Listener, target: Target, source: str) -> bool:
    """Return whether the source is the file named by a live cluster's declaration."""
    declared = target.declared.get(here.member)
    flag = f"{here.role.prefix}trusted-ca-file"
    return target.configured_by_user and declared is not None and str(declared.file(flag)) == source


_UNPARSABLE = "a certificate behind the served one cannot be parsed: see cert.well-formed and cert.parsable"


@fact
def path_to_trust(here: Listener, target: Target, served: ServedChain) -> PathToTrust:
    """Look for a path from the served leaf to the CA that is given for the listener's role."""
    bundle = target.credentials(here.role).server_ca
    if bundle is None:
        raise NotVerifiedError(needs("the CA of the served certificate", f"--etcd-{here.role.prefix}cacert"))
    leaf, *sent = served.certificates
    anchors, when = bundle.certificates, served.observed_at
    known = (*sent, *given_authorities(target))
    verified = verified_path(leaf, sent, anchors, when)
    if verified is None and served.unparsable:
        raise NotVerifiedError(_UNPARSABLE)
    path = verified or find_path(leaf, sent, anchors, when) or find_path(leaf, known, anchors, when)
    if path is None:
        error, unknown_issuer = _no_path(leaf, known, bundle, when)
        return PathToTrust(
            anchors=anchors,
            source=bundle.source,
            error=error,
            unknown_issuer=unknown_issuer,
            remark=bundle.remark,
        )
    missing = tuple(certificate for certificate in path[1:-1] if certificate not in sent)
    unexplained = verified is None and not missing and not any(faults(path, when))
    return PathToTrust(
        anchors=anchors,
        source=bundle.source,
        error="clients written in Go stop: too many candidate certificates are served" if unexplained else "",
        path=path,
        missing=missing,
        verified=verified is not None,
    )


@fact(reported=False)
def server_proof(
    here: Listener,
    target: Target,
    contact: Lazy[FirstContact],
    contacts: Each[FirstContact],
    path: Lazy[PathToTrust],
) -> ServerProof:
    """Judge who answers at a discovered address, by the first contact, which presents nothing.

    Raises:
        NotVerifiedError: if the server has not proved who it is.
    """
    if why := target.credentials(here.role).unproved:
        raise _unverified(here, why)
    if here.scheme == "http":
        raise _unverified(here, "it is plain HTTP, which anybody can answer")
    leaves = _proved_leaves(contact.get())
    if not leaves:
        raise _unverified(here, "it did not prove that it holds the key of a certificate")
    known = {
        leaf
        for listener in target.listeners
        if not listener.discovered and not target.searched and listener.scheme == "https"
        if (named := contacts.known(listener))
        for leaf in _proved_leaves(named)
    }
    if not leaves <= known:
        try:
            to_anchor = path.get()
        except UnobservedError as unobserved:
            raise _unverified(here, str(unobserved)) from unobserved
        if not leads_to_anchor(to_anchor):
            why = to_anchor.error or "its certificate is not that of a server, or no CA has signed it"
            raise _unverified(here, f"no path leads to {to_anchor.source}: {why}")
        if not leaves <= known | {to_anchor.path[0].public_bytes(Encoding.DER)}:
            raise _unverified(here, "it serves several certificates")
    return ServerProof(leaves)


def _proved_leaves(contact: FirstContact) -> frozenset[bytes]:
    """Return the leaves that were served, as far as the server proved that it holds the key."""
    return frozenset(attempt.chain[0] for attempt in contact.tls if attempt.chain and attempt.key_proved)


def _unverified(listener: Listener, why: str) -> NotVerifiedError:
    option = f"--etcd-{listener.role.prefix}cacert"
    ending = (
        f", which a member list advertises: {why}. Nothing was presented to it; name it to have it judged "
        f"all the same, or pass its CA with {option}"
    )
    return NotVerifiedError(missing(f"unverified server at {listener.url}", option, ending=ending))


def leads_to_anchor(path: PathToTrust) -> bool:
    """Return whether a path is that of a server certificate of the CA, valid at some time.

    A certificate that has expired still leads to its CA. One that is not for servers does not, since every
    client of the cluster has one.
    """
    if path.error or not path.path:
        return False
    if path.verified or len(path.path) == 1:
        return True
    when = max(certificate.not_valid_before_utc for certificate in path.path)
    return not any(faults(path.path, when))


@fact
def certification_path(target: Target, served: ServedChain, trust: PathToTrust | None) -> CertificationPath:
    """Return the path to the trust anchor, else the leaf and the issuers that are known."""
    leaf, *sent = served.certificates
    anchors = trust.anchors if trust else ()
    if trust is not None and trust.path:
        return CertificationPath(certificates=trust.path, anchors=anchors)
    if trust is None and served.unparsable:
        return CertificationPath(certificates=(leaf,))
    above = issuers_among(leaf, (*sent, *given_authorities(target)), served.observed_at)
    return CertificationPath(certificates=(leaf, *above), anchors=anchors)


@fact
def issuers(here: Listener, target: Target, served: ServedChain, path: CertificationPath) -> Issuers:
    """Return the CAs of the path, without the leaf."""
    leaf, *above = path.certificates
    if above:
        return Issuers(certificates=tuple(above))
    if is_self_signed(leaf):
        raise NotApplicableError("the served certificate is signed by itself: it has no other issuer")
    if served.unparsable:
        raise NotVerifiedError(_UNPARSABLE)
    bundle = target.credentials(here.role).server_ca
    if bundle and bundle.remark:
        issuer = name_text(leaf.issuer)
        raise NotVerifiedError(needs(f"a CA certificate in {bundle.source}, that of the issuer {issuer}"))
    needed = f"the certificate of the issuer {name_text(leaf.issuer)}"
    if bundle:
        ending = f", which is neither served nor in {bundle.source}: see cert.trusted"
        raise NotVerifiedError(needs(needed, ending=ending))
    option = f"--etcd-{here.role.prefix}cacert"
    raise NotVerifiedError(needs(f"{needed}, which is neither served nor given", option))


def given_authorities(target: Target) -> Path:
    """Return the CA certificates that were given for any purpose."""
    authorities: dict[x509.Certificate, None] = {}
    for credentials in (target.client, target.peer):
        for bundle in (credentials.server_ca, credentials.client_trust):
            authorities |= dict.fromkeys(bundle.certificates if bundle else ())
        for identity in credentials.identities:
            authorities |= dict.fromkeys(identity.chain[1:])
        if credentials.signing_key is not None:
            authorities[credentials.signing_key.certificate] = None
    return tuple(authorities)


def _no_path(leaf: x509.Certificate, known: Path, bundle: TrustBundle, when: datetime) -> tuple[str, str]:
    """Return why there is no path, and the issuer whose certificate is not known."""
    top = (leaf, *issuers_among(leaf, (*known, *bundle.certificates), when))[-1]
    if is_self_signed(top):
        if top == leaf:
            return "the certificate is signed by itself", ""
        return f"the chain ends at {name_text(top.subject)}, which is not the given CA", ""
    issuer = name_text(top.issuer)
    if any(top.issuer == anchor.subject for anchor in bundle.certificates):
        return f"the given CA has the name {issuer} of the issuer, but another key made the signature", ""
    return f"the chain ends at the issuer {issuer}, whose certificate is neither served nor given", issuer
