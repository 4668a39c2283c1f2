"""Served certificates, the path to a trust anchor, and the certificates that they are compared with."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from dataclasses import field, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.files import DeclaredLeaf
from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.facts.listener import (
    FirstContact,
    Tried,
    listener_of,
    tls_answer,
    tls_listener,
    version_path,
)
from pytest_etcdtls.facts.probe import (
    SAMPLED_AT,
    Context,
    SampleListener,
    observed,
    probe,
    sample,
    sample_pki,
)
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.certificate import extension, load, name_text
from pytest_etcdtls.pki.go_verify import Path, faults, find_path, is_self_signed, issuers_among, verified_path
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target, TrustBundle
from pytest_etcdtls.tls.attempt import Attempt, Request
from pytest_etcdtls.tls.connection import sni


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateMessage:
    """The Certificate message as it was sent, and the CAs that belong to it.

    Reports show both as ServedChain and Issuers, as far as they can be parsed.

    Attributes:
        certificates: DER, leaf first, as sent; also those that cannot be parsed.
        issuers: the CAs above the leaf, and all CAs of the listener's CA file; empty if they are not known.
    """

    url: str
    certificates: tuple[bytes, ...] = field(repr=False)
    issuers: tuple[x509.Certificate, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedChain:
    """What the listener sent in its Certificate message.

    Attributes:
        certificates: leaf first, as sent; those that cannot be parsed are left out.
        observed_at: aware UTC; checks of validity use it as their clock.
        host: the name or address in the listener's URL.
        unparsable: number of certificates after the leaf that cannot be parsed.
    """

    url: str
    role: str
    host: str
    certificates: tuple[x509.Certificate, ...]
    observed_at: datetime
    unparsable: int = 0

    @property
    def leaf(self) -> x509.Certificate:
        """The server's own certificate."""
        return self.certificates[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathToTrust:
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
        verified: a Go client accepts the served chain at the time of the handshake; the host name is not
            considered.
    """

    url: str
    anchors: tuple[x509.Certificate, ...]
    source: str
    error: str
    path: tuple[x509.Certificate, ...] = ()
    missing: tuple[x509.Certificate, ...] = ()
    unknown_issuer: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True)
class ServerProof:
    """The certificates by which the server at a discovered address has proved who it is.

    Attributes:
        leaves: DER; at least one. A credential is presented to a server of one of them alone.
    """

    leaves: frozenset[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificationPath:
    """The path that is judged: to a trust anchor if there is one, else as far as certificates are known.

    Attributes:
        certificates: the served leaf first.
        anchors: the trust anchors, as given; empty if none are.
    """

    url: str
    certificates: tuple[x509.Certificate, ...]
    anchors: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuers:
    """The CAs above the served leaf: those of the path to a trust anchor, else as far as they are known.

    Attributes:
        certificates: the issuer of the leaf first; at least one.
    """

    url: str
    certificates: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedCertificate:
    """The certificate that must be served on the listener.

    Attributes:
        source: where it comes from: a file's path, or ``generated certificate``.
    """

    certificate: x509.Certificate
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PortPair:
    """The certificates that one member serves on its client and on its peer listener."""

    client: ServedChain
    peer: ServedChain


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFit:
    """What one port serves, compared with what belongs to it and to the other port of its member.

    Attributes:
        expected: the file or the CA that belongs to the port.
        own: the served certificate is the one in that file, or has a path to that CA.
        other: the same for what belongs to the other port.
        by_file: ``expected`` is the file of a certificate, not of a CA.
    """

    chain: ServedChain
    label: str
    expected: str
    own: bool
    other: bool
    by_file: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFits:
    """The client and peer port of each member, if a file or CA is expected that differs between them."""

    pairs: tuple[tuple[PortFit, PortFit], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedCAs:
    """The distinguished names in the CertificateRequest.

    Attributes:
        requested: whether a CertificateRequest was seen, by TLS version.
        names: the names, by TLS version.
    """

    url: str
    role: str
    requested: tuple[tuple[str, bool], ...]
    names: tuple[tuple[str, tuple[x509.Name, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrust:
    """The CA bundle that etcd is declared to trust for clients of the listener.

    Attributes:
        source: where it comes from.
        declared: it is known only from the declaration of a live cluster.
    """

    certificates: tuple[x509.Certificate, ...]
    source: str
    declared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialling:
    """The certificate that etcd presents as a client of the listener's port, as far as it is known.

    Attributes:
        with_another: etcd is declared to present a certificate other than the served one; ``None`` if that
            is not known, since connections to the listener do not show it.
        members: number of members of the cluster; ``None`` if it is not known.
    """

    with_another: bool | None
    members: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedByMembers:
    """The chains that the TLS listeners of at least two members serve, with the member's label."""

    chains: tuple[tuple[str, ServedChain], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesCA:
    """The CA of the Kubernetes cluster that the etcd serves.

    Attributes:
        source: where it comes from.
    """

    certificates: tuple[x509.Certificate, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CAsInUse:
    """The CAs in use on a listener: those that issued the served chain, and those that it trusts.

    Attributes:
        known: certificates, each with its use in words.
        announced: names in the CertificateRequest.
        trust_is_known: ``known`` includes the bundle that etcd is declared to trust there.
    """

    url: str
    known: tuple[tuple[x509.Certificate, str], ...]
    announced: tuple[x509.Name, ...]
    trust_is_known: bool


@probe(ServedChain, cost=0, needs=[FirstContact])
def _served(context: Context) -> ServedChain:
    listener = listener_of(context)
    attempt = _with_certificates(context)
    leaf, *others = map(_parsed, attempt.chain)
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


def _parsed(der: bytes) -> x509.Certificate | None:
    try:
        return load(der)
    except ValueError:
        return None


@probe(CertificateMessage, cost=0, needs=[FirstContact, Issuers])
def _message(context: Context) -> CertificateMessage:
    attempt, listener = _with_certificates(context), listener_of(context)
    issuers = observed(context, Issuers)
    # A client loads its whole CA file, whether it uses each certificate or not.
    bundle = context.target.credentials(listener.role).server_ca
    known = dict.fromkeys(
        (*(issuers.certificates if issuers else ()), *(bundle.certificates if bundle else ()))
    )
    return CertificateMessage(url=listener.url, certificates=attempt.chain, issuers=tuple(known))


@probe(ExpectedCertificate, cost=0)
def _expected(context: Context) -> ExpectedCertificate:
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


@probe(PortPair, cost=0, needs=[ServedChain], across=True)
def _pair(context: Context) -> PortPair:
    listener = listener_of(context)
    clients = context.target.siblings(listener, Role.CLIENT)
    client = next((one for one in clients if one.scheme == "https"), None)
    if client is None:
        raise NotVerifiedError("needs a client listener of the same member: pass --etcd-endpoint")
    return PortPair(client=context.get(ServedChain, listener=client), peer=context.get(ServedChain))


@probe(ServedByMembers, cost=0, needs=[ServedChain], across=True)
def _by_members(context: Context) -> ServedByMembers:
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


@probe(AnnouncedCAs, cost=0, needs=[FirstContact])
def _announced(context: Context) -> AnnouncedCAs:
    answer = tls_answer(context)
    seen = [attempt for attempt in answer.tls if attempt.offered_version in answer.offered]
    return AnnouncedCAs(
        url=answer.url,
        role=answer.role,
        requested=tuple((str(attempt.offered_version), attempt.certificate_requested) for attempt in seen),
        names=tuple(
            (str(attempt.offered_version), tuple(_parsable_names(attempt.announced_ca))) for attempt in seen
        ),
    )


def _parsable_names(names: Iterable[bytes]) -> Iterator[x509.Name]:
    for der in names:
        # No given CA has a name that cannot be parsed, since such a file is refused.
        with contextlib.suppress(ValueError, TypeError):
            yield x509.Name.from_bytes(der)


@probe(ClientTrust, cost=0, needs=[AnnouncedCAs])
def _trust(context: Context) -> ClientTrust:
    listener = tls_listener(context)
    bundle = context.target.credentials(listener.role).client_trust
    if bundle is None:
        if not any(requested for _, requested in context.get(AnnouncedCAs).requested):
            raise NotApplicableError("no client certificate is requested, see mtls.announced-ca-present")
        raise NotVerifiedError(
            f"needs the bundle that etcd trusts: pass --etcd-{listener.role.prefix}trusted-ca"
        )
    return ClientTrust(
        certificates=bundle.certificates, source=bundle.source, declared=_is_declared(context, bundle.source)
    )


def _is_declared(context: Context, source: str) -> bool:
    """Return whether the source is the file named by a live cluster's declaration."""
    listener = listener_of(context)
    declared = context.target.declared.get(listener.member)
    flag = f"{listener.role.prefix}trusted-ca-file"
    by_user = context.target.configured_by_user
    return by_user and declared is not None and str(declared.file(flag)) == source


_UNPARSABLE = "a certificate behind the served one cannot be parsed: see cert.well-formed and cert.parsable"


@probe(PathToTrust, cost=0, needs=[ServedChain])
def _path(context: Context) -> PathToTrust:
    listener = listener_of(context)
    served = context.get(ServedChain)
    bundle = context.target.credentials(listener.role).server_ca
    if bundle is None:
        raise NotVerifiedError(
            f"needs the CA of the served certificate: pass --etcd-{listener.role.prefix}cacert"
        )
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


@probe(
    PortFits,
    reported=False,
    cost=0,
    needs=[ServedChain, ExpectedCertificate, DeclaredLeaf, PathToTrust],
    across=True,
)
def _fits(context: Context) -> PortFits:
    https = [found for found in context.target.listeners if found.scheme == "https"]
    pairs = [
        (client, peer)
        for peer in https
        if peer.role is Role.PEER
        for client in [one for one in https if (one.member, one.role) == (peer.member, Role.CLIENT)][:1]
    ]
    if not pairs:
        raise NotApplicableError("no member has both a client and a peer port with TLS")
    compared = [found for client, peer in pairs if (found := _compared(context, client, peer)) is not None]
    if not compared:
        raise NotApplicableError("no two files and no two CAs tell the certificates of the ports apart")
    return PortFits(pairs=tuple(compared))


def _compared(context: Context, client: Listener, peer: Listener) -> tuple[PortFit, PortFit] | None:
    """Compare by the files that belong to the ports if both are known and differ, else by the CAs."""
    chains = [chain for one in (client, peer) if (chain := observed(context, ServedChain, listener=one))]
    if len(chains) < 2:
        return None
    files = [found for one in (client, peer) if (found := _expected_file(context, one)) is not None]
    by_file = len({leaf for leaf, _ in files}) > 1
    if by_file:
        belongs = [[chain.leaf == leaf for leaf, _ in files] for chain in chains]
        names = [source for _, source in files]
    else:
        paths = [path for one in (client, peer) if (path := observed(context, PathToTrust, listener=one))]
        if len(paths) < 2:
            return None
        belongs = [[_leads_to(chain, path) for path in paths] for chain in chains]
        names = [path.source for path in paths]
    first, second = (
        PortFit(
            chain=chains[port],
            label=(client, peer)[port].label,
            expected=names[port],
            own=belongs[port][port],
            other=belongs[port][1 - port],
            by_file=by_file,
        )
        for port in (0, 1)
    )
    return first, second


def _expected_file(context: Context, listener: Listener) -> tuple[x509.Certificate, str] | None:
    """Return the certificate that belongs to the listener, by an option or the declaration, and its file."""
    by_option = observed(context, ExpectedCertificate, listener=listener)
    fact = by_option or observed(context, DeclaredLeaf, listener=listener)
    return (fact.certificate, fact.source) if fact else None


def _leads_to(chain: ServedChain, path: PathToTrust) -> bool:
    leaf, *sent = chain.certificates
    return find_path(leaf, sent, path.anchors, chain.observed_at) is not None


@probe(ServerProof, reported=False, cost=0, needs=[FirstContact, PathToTrust], across=[FirstContact])
def _proof(context: Context) -> ServerProof:
    """Judge who answers at a discovered address, by the first contact, which presents nothing.

    Raises:
        NotVerifiedError: if the server has not proved who it is.
    """
    listener = listener_of(context)
    if listener.scheme == "http":
        raise _unverified(listener, "it is plain HTTP, which anybody can answer")
    answer = context.get(FirstContact)
    leaves = {attempt.chain[0] for attempt in answer.tls if attempt.chain and attempt.key_proved}
    if not leaves:
        raise _unverified(listener, "it did not prove that it holds the key of a certificate")
    known = _leaves_of_the_named(context)
    if not leaves <= known:
        try:
            path = context.get(PathToTrust)
        except UnobservedError as unobserved:
            raise _unverified(listener, unobserved.reason) from unobserved
        if not leads_to_anchor(path):
            why = path.error or "its certificate is not that of a server, or no CA has signed it"
            raise _unverified(listener, f"no path leads to {path.source}: {why}")
        if not leaves <= known | {path.path[0].public_bytes(Encoding.DER)}:
            raise _unverified(listener, "it serves several certificates")
    return ServerProof(frozenset(leaves))


def _unverified(listener: Listener, why: str) -> NotVerifiedError:
    return NotVerifiedError(
        f"unverified server at {listener.url}, which a member list advertises: {why}. Nothing was presented "
        "to it; name it to have it judged all the same, or pass its CA with "
        f"--etcd-{listener.role.prefix}cacert"
    )


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


def _leaves_of_the_named(context: Context) -> set[bytes]:
    """Return the leaves of the listeners that the user named, as far as the servers proved the key."""
    found: set[bytes] = set()
    for listener in context.target.listeners:
        if not listener.discovered and listener.scheme == "https":
            answer = observed(context, FirstContact, listener=listener)
            for attempt in answer.tls if answer else ():
                found |= {attempt.chain[0]} if attempt.chain and attempt.key_proved else set()
    return found


@probe(CertificationPath, cost=0, needs=[ServedChain, PathToTrust])
def _certification_path(context: Context) -> CertificationPath:
    listener = listener_of(context)
    served = context.get(ServedChain)
    leaf, *sent = served.certificates
    trust = observed(context, PathToTrust)
    anchors = trust.anchors if trust else ()
    if trust is not None and trust.path:
        return CertificationPath(url=listener.url, certificates=trust.path, anchors=anchors)
    if trust is None and served.unparsable:
        return CertificationPath(url=listener.url, certificates=(leaf,))
    above = issuers_among(leaf, (*sent, *_given(context.target)), served.observed_at)
    return CertificationPath(url=listener.url, certificates=(leaf, *above), anchors=anchors)


@probe(Issuers, cost=0, needs=[CertificationPath])
def _issuers(context: Context) -> Issuers:
    listener = listener_of(context)
    leaf, *above = context.get(CertificationPath).certificates
    if above:
        return Issuers(url=listener.url, certificates=tuple(above))
    if is_self_signed(leaf):
        raise NotApplicableError("the served certificate is signed by itself: it has no other issuer")
    if context.get(ServedChain).unparsable:
        raise NotVerifiedError(_UNPARSABLE)
    raise NotVerifiedError(
        f"needs the certificate of the issuer {name_text(leaf.issuer)}, which is neither served nor "
        f"given: pass --etcd-{listener.role.prefix}cacert"
    )


def _given(target: Target) -> Path:
    """Return the CA certificates that were given for any purpose."""
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
    """Return why there is no path, and the issuer whose certificate is not known."""
    top = (leaf, *issuers_among(leaf, (*known, *bundle.certificates), when))[-1]
    if is_self_signed(top):
        if top == leaf:
            return "the certificate is signed by itself", ""
        return f"the chain ends at {name_text(top.subject)}, which is not the given CA", ""
    issuer = name_text(top.issuer)
    if any(top.issuer == anchor.subject for anchor in bundle.certificates):
        return f"the given CA has the name {issuer} of the issuer, but another key made the signature", ""
    return f"the chain ends at the issuer {issuer}, of which no certificate is served or given", issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloVariant(Tried):
    """One kind of ClientHello.

    Attributes:
        hello: how it differs, in words: ``TLSv1.2``, ``ALPN h2``, ``SNI localhost``.
        options: options of ``openssl s_client`` that send the same hello.
    """

    hello: str
    options: str

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER of the served certificates, leaf first; empty if none were served."""
        return self.attempt.chain


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloVariants:
    """ClientHellos that differ in TLS version, ALPN and SNI, and their answers, the plain one first.

    Attributes:
        steady: two hellos that got different chains got the same ones again each time they were repeated.
    """

    url: str
    variants: tuple[HelloVariant, ...]
    steady: bool = True


UNKNOWN_NAME = "unknown.invalid"
"""A name that no server has (RFC 6761 section 6.4)."""

_REPEATS = 2
"""How often two hellos that got different chains are each repeated."""

_OPTIONS = {TLSVersion.TLS1_2: "-tls1_2", TLSVersion.TLS1_3: "-tls1_3"}


@dataclass(frozen=True, slots=True)
class _Hello:
    """A hello to send: in words, as options of ``openssl s_client``, and as a request."""

    text: str
    options: str
    request: Request


@probe(HelloVariants, cost=4 + 2 * _REPEATS, needs=[FirstContact, ServedChain])
def _variants(context: Context) -> HelloVariants:
    listener = listener_of(context)
    answer = tls_answer(context)
    plain = Request(purpose="another hello, no certificate", path=version_path(listener.role))
    seen = {attempt.offered_version: attempt for attempt in answer.tls if attempt.chain}
    first = [
        _Hello(str(version), _OPTIONS[version], replace(plain, version=version))
        for version in answer.offered
        if version in seen
    ]
    made: list[tuple[Attempt, ...]] = [(seen[hello.request.version],) for hello in first]
    together, *single, unknown = _others(listener, context.get(ServedChain).leaf, plain)
    usual = made[-1][-1].chain
    tries, of_unknown = context.attempt(together.request, unknown.request)
    others, found = [together], [tries]
    if tries[-1].chain != usual:
        alone = context.attempt(*(hello.request for hello in single))
        explained = any(one[-1].chain != usual for one in alone)
        others, found = [*others[explained:], *single], [*found[explained:], *alone]
    others.append(unknown)
    made += [*found, of_unknown]
    variants = tuple(
        HelloVariant(hello=hello.text, options=hello.options, tries=tries)
        for hello, tries in zip((*first, *others), made, strict=True)
    )
    steady = _is_steady(context, variants, [hello.request for hello in (*first, *others)])
    return HelloVariants(url=listener.url, variants=variants, steady=steady)


def _others(listener: Listener, leaf: x509.Certificate, plain: Request) -> list[_Hello]:
    """Return the hellos that the first contact did not send. The first combines the next two."""
    names = extension(leaf, x509.SubjectAlternativeName)
    served = names.get_values_for_type(x509.DNSName) if names else []
    # A certificate may hold names that SNI cannot: with empty or long labels, NUL, octets above 127.
    own = next((name for name in served if sni(name) == name != sni(listener.host)), "localhost")
    over_http2 = replace(plain, protocol=Protocol.HTTP2)
    return [
        _Hello(f"ALPN h2 and SNI {own}", f"-alpn h2 -servername {own}", replace(over_http2, server_name=own)),
        _Hello("ALPN h2", "-alpn h2", over_http2),
        *(
            _Hello(f"SNI {name}", f"-servername {name}", replace(plain, server_name=name))
            for name in (own, UNKNOWN_NAME)
        ),
    ]


def _is_steady(context: Context, variants: tuple[HelloVariant, ...], requests: list[Request]) -> bool:
    """Return whether the first hello, and the first that got another chain, get the same chains again.

    If not, the certificate was renewed in the meantime, or several servers answer in turn.
    """
    first = variants[0].chain
    different = [number for number, found in enumerate(variants) if found.chain and found.chain != first]
    if not different:
        return True
    numbers = (0, different[0]) * _REPEATS
    repeated = context.attempt(*(requests[number] for number in numbers))
    return all(
        tries[-1].chain == variants[number].chain for tries, number in zip(repeated, numbers, strict=True)
    )


@sample(ServedChain)
def sample_chain(listener: SampleListener) -> ServedChain:
    """Return the conforming chain of a listener."""
    return ServedChain(
        url=listener.url,
        role=listener.role,
        host="127.0.0.1",
        certificates=listener.chain,
        observed_at=SAMPLED_AT,
    )


@sample(PathToTrust)
def _sample_path(listener: SampleListener) -> PathToTrust:
    anchors = ((sample_pki().peer_ca if listener.role is Role.PEER else sample_pki().server_ca).certificate,)
    return PathToTrust(
        url=listener.url,
        anchors=anchors,
        source="ca.crt",
        error="",
        path=(listener.chain[0], *anchors),
        verified=True,
    )


@sample(CertificateMessage)
def _sample_message(listener: SampleListener) -> CertificateMessage:
    return CertificateMessage(
        url=listener.url,
        certificates=tuple(found.public_bytes(Encoding.DER) for found in listener.chain),
        issuers=_sample_path(listener).anchors,
    )


@sample(CertificationPath)
def _sample_certification_path(listener: SampleListener) -> CertificationPath:
    path = _sample_path(listener)
    return CertificationPath(url=listener.url, certificates=path.path, anchors=path.anchors)


@sample(Issuers)
def _sample_issuers(listener: SampleListener) -> Issuers:
    return Issuers(url=listener.url, certificates=_sample_path(listener).anchors)


@sample(HelloVariants)
def _sample_variants(listener: SampleListener) -> HelloVariants:
    hellos = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3", "ALPN h2": "-alpn h2"}
    return HelloVariants(
        url=listener.url,
        variants=tuple(
            HelloVariant(hello=hello, options=options, tries=(listener.refused(),))
            for hello, options in hellos.items()
        ),
    )


@sample(ServedByMembers)
def _sample_by_members(_: SampleListener) -> ServedByMembers:
    client, peer = (sample_chain(SampleListener(role)) for role in (Role.CLIENT, Role.PEER))
    return ServedByMembers(chains=(("m0", client), ("m1", peer)))


@sample(PortPair)
def _sample_pair(_: SampleListener) -> PortPair:
    client, peer = (sample_chain(SampleListener(role)) for role in (Role.CLIENT, Role.PEER))
    return PortPair(client=client, peer=peer)


@sample(PortFits)
def _sample_fits(_: SampleListener) -> PortFits:
    client, peer = (
        PortFit(
            chain=sample_chain(SampleListener(role)),
            label=f"{role}-m0",
            expected=file,
            own=True,
            other=False,
            by_file=True,
        )
        for role, file in ((Role.CLIENT, "server.crt"), (Role.PEER, "peer.crt"))
    )
    return PortFits(pairs=((client, peer),))


@sample(CAsInUse)
def _sample_in_use(listener: SampleListener) -> CAsInUse:
    return CAsInUse(
        url=listener.url,
        known=((listener.trusted, "is trusted for clients"),),
        announced=(listener.trusted.subject,),
        trust_is_known=True,
    )


@sample(KubernetesCA)
@functools.cache
def _sample_kubernetes_ca(_: SampleListener) -> KubernetesCA:
    certificate = CertificateAuthority.create("kubernetes").certificate
    return KubernetesCA(certificates=(certificate,), source="ca.crt of Kubernetes")


@sample(AnnouncedCAs)
def _sample_announced(listener: SampleListener) -> AnnouncedCAs:
    return AnnouncedCAs(
        url=listener.url,
        role=listener.role,
        requested=tuple((str(version), True) for version in TLSVersion),
        names=tuple((str(version), (listener.trusted.subject,)) for version in TLSVersion),
    )


@sample(ClientTrust)
def _sample_trust(listener: SampleListener) -> ClientTrust:
    return ClientTrust(certificates=(listener.trusted,), source="ca.crt")


@sample(ExpectedCertificate)
def _sample_expected(listener: SampleListener) -> ExpectedCertificate:
    return ExpectedCertificate(certificate=listener.chain[0], source="server.crt")


@sample(Dialling)
def _sample_dialling(_: SampleListener) -> Dialling:
    return Dialling(with_another=False)
