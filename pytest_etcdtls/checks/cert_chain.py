"""The served chain: complete, without other certificates, and the same for every ClientHello."""

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from pytest_etcdtls.checks.cert_form import ends_soon, not_judged, not_valid_now, state_of
from pytest_etcdtls.checks.judgement import altered, changed, serving
from pytest_etcdtls.checks.registry import CLIENT_AND_PEER, EVERY_LISTENER, check
from pytest_etcdtls.checks.results import Finding, Statement, inconclusive, not_applicable, not_verified
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, missing, needs
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.alternatives import Alternative, HelloVariants
from pytest_etcdtls.facts.certificates import (
    AnnouncedCAs,
    CertificationPath,
    ClientTrust,
    DeclaredLeaf,
    ExpectedCertificate,
    Issuers,
    PathToTrust,
)
from pytest_etcdtls.facts.clock import MemberClock
from pytest_etcdtls.facts.fact import Each
from pytest_etcdtls.facts.listener import Policy, ServedChain
from pytest_etcdtls.pki.authority import specimen
from pytest_etcdtls.pki.certificate import (
    load,
    name_list,
    name_text,
    public_key,
    purposes,
    shown,
)
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.pki.go_verify import (
    Path,
    Rule,
    allows,
    ancestors,
    constraint_faults,
    find_path,
    is_self_signed,
    issuer_faults,
    signed_by,
    subject_alt_names,
)
from pytest_etcdtls.pki.identities import self_signed
from pytest_etcdtls.pki.profile import AUTHORITY, OtherExtension
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target, TrustBundle
from pytest_etcdtls.tls.command import (
    ANNOUNCED,
    DIFFERENT,
    FINGERPRINT,
    HASHED_KEY,
    Command,
    compare,
    compare_leaf,
    s_client,
    show_chain,
    show_file,
    show_files_certificates,
    show_leaf,
)
from pytest_etcdtls.untrusted.printable import listed, plural


def subjects(certificates: tuple[x509.Certificate, ...]) -> str:
    """Return the subjects, in order."""
    return ", ".join(shown(certificate) for certificate in certificates)


def _one_missing(path: PathToTrust, **_: object) -> Mapping[str, Any]:
    return {"path": replace(path, missing=path.path[1:])}


@check("cert.complete", on=EVERY_LISTENER, counterexample=_one_missing)
def the_chain_is_complete(here: Listener, path: PathToTrust, chain: ServedChain) -> Iterator[Statement]:
    """Every intermediate CA up to the given CA is served.

    Clients have only the root and do not look for intermediates elsewhere, so they refuse an incomplete
    chain. The check detects a missing intermediate only if it is available here: in the chain of a client
    certificate, or in another bundle.

    Spec: RFC 8446 section 4.4.2
    Spec: RFC 5246 section 7.4.2
    Severity: high
    Level: MUST
    Remediation: append the intermediates, starting with the issuer of the leaf, to the file of
        --{peer}cert-file; etcd serves them at the next handshake.
    """
    if path.missing:
        yield Finding(
            message="an intermediate CA is not served",
            expected=subjects(path.path[:-1]),
            observed=subjects(chain.certificates),
            evidence={"missing": subjects(path.missing)},
            reproduce=(show_chain(here.url),),
        )
    elif path.unknown_issuer:
        yield not_verified(
            f"the issuer {path.unknown_issuer} is not known, nor are those above it: see cert.trusted"
        )


def _with_a_stray(chain: ServedChain, **_: object) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=(*chain.certificates, *self_signed().chain))}


@check("cert.no-stray-certificates", on=EVERY_LISTENER, counterexample=_with_a_stray)
def only_the_chain_is_served(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """Only the certificate and its issuers are served, each after what it signed.

    Some clients look for the issuer only in the next certificate and refuse another order. A certificate
    outside the path is usually left over from an earlier one.

    Spec: RFC 8446 section 4.4.2
    Spec: RFC 5246 section 7.4.2
    Severity: low
    Level: SHOULD
    Remediation: keep only the certificate and its intermediates, in order, in the file of --{peer}cert-file.
    """
    leaf, *others = chain.certificates
    issuers = ancestors(leaf, others)
    strays = tuple(
        found
        for number, found in enumerate(others)
        if found not in issuers or found in chain.certificates[: number + 1]
    )
    if strays:
        message, observed = "certificates are served that do not belong to the chain", subjects(strays)
    elif not _in_order(chain.certificates, issuers):
        message, observed = "the chain is not in order", subjects(chain.certificates)
    else:
        return
    yield Finding(
        message=message,
        expected="the certificate, then the issuer of each certificate behind it",
        observed=observed,
        reproduce=(show_chain(here.url),),
    )


def _in_order(certificates: tuple[x509.Certificate, ...], issuers: frozenset[x509.Certificate]) -> bool:
    """Return whether each certificate has signed an earlier one; cross-signed CAs may be adjacent."""
    return all(
        any(signed_by(before, found) for before in certificates[:number])
        for number, found in enumerate(certificates)
        if found in issuers
    )


def _another_for_h2(hellos: HelloVariants, **_: object) -> Mapping[str, Any]:
    der = self_signed().chain[0].public_bytes(Encoding.DER)
    return {"hellos": altered(hellos, "variants.1.tries.*", chain=(der,))}


@check("cert.same-for-every-hello", on=EVERY_LISTENER, counterexample=_another_for_h2)
def every_hello_gets_the_same_chain(here: Listener, hellos: HelloVariants) -> Iterator[Statement]:
    """TLS version, ALPN and SNI do not change which chain is served.

    etcd has one certificate per port. If the certificate depends on the ClientHello, something else
    terminates TLS, and results from one ClientHello do not hold for another.

    Spec: etcd --{peer}cert-file
    Spec: RFC 6066 section 3
    Severity: high
    Level: MUST
    Remediation: let clients reach etcd's own --listen-{role}-urls, not a proxy that chooses certificates.
    """
    first, *others = [found for found in hellos.variants if found.chain]
    different = [found for found in others if found.chain != first.chain]
    if different and not hellos.steady:
        yield not_verified(
            "the same ClientHello gets different certificates: one was just renewed, or several servers "
            "answer in turn. Run it again, or name each member by its own address"
        )
    elif different:
        yield Finding(
            message="the served certificate depends on the ClientHello",
            expected=f"{first.way}: {_leaf(first)} for every hello",
            observed="; ".join(f"{found.way}: {_leaf(found)}" for found in different),
            reproduce=tuple(
                s_client(here.url, options=found.options, look='"s:" and "i:": the certificate served')
                for found in (first, *different)
            ),
        )


def _leaf(variant: Alternative) -> str:
    try:
        leaf = load(variant.chain[0])
    except ValueError:
        return f"a certificate that cannot be parsed, SHA-256 {sha256(variant.chain[0]).hexdigest()}"
    self_signed_text = ", signed by itself" if is_self_signed(leaf) else ""
    length = plural(len(variant.chain), "certificate")
    return f"{shown(leaf)}, serial {details(leaf).serial_number:x}{self_signed_text}, {length}"


def shown_in_full(certificate: x509.Certificate) -> str:
    """Return subject, serial number and fingerprint, for reports."""
    subject = name_text(certificate.subject) or "(empty subject)"
    # As openssl x509 -fingerprint -sha256 writes it.
    fingerprint = certificate.fingerprint(SHA256()).hex(":").upper()
    return f"{subject}, serial {details(certificate).serial_number:x}, SHA-256 {fingerprint}"


_no_path = changed("path", error="unable to get local issuer certificate")


@check("cert.trusted", on=EVERY_LISTENER, counterexample=_no_path)
def the_served_certificate_is_trusted(
    here: Listener, target: Target, path: PathToTrust, chain: ServedChain
) -> Iterator[Statement]:
    """A path leads from the served certificate to the given CA.

    Clients that trust this CA refuse the server. This check judges path and signatures only; validity, names
    and usage have checks of their own. Peers may have a separate CA: that of the client port can verify a
    peer's certificate, and shows nothing where it does not.

    Spec: RFC 5280 section 6.1
    Spec: RFC 8446 section 4.4.2
    Follows: cert.ports-not-swapped, cert.generated, cert.matches-expected-file, cert.complete,
        cert.well-formed, listener.is-etcd
    Severity: high
    Level: MUST
    Remediation: serve a certificate of that CA with --{peer}cert-file, followed by its intermediates in the
        same file, or name the CA that signed it with --etcd-{peer}cacert.
    """
    bundle = target.credentials(here.role).server_ca
    if path.error and not path.path and bundle and bundle.inferred:
        source = f"{path.source}, the CA of the client port,"
        text = f"{source} does not verify the served certificate, as where peers have a separate CA"
        yield not_verified(missing(text, "--etcd-peer-cacert"))
    elif path.error:
        anchors = name_list(anchor.subject for anchor in path.anchors)
        which = f": the file {path.remark}"
        yield Finding(
            message=f"no CA of {path.source} verifies the served certificate{path.remark and which}",
            expected=f"a certificate with a path to {anchors} ({path.source})",
            observed=f"{path.error}; issuer {name_text(chain.leaf.issuer)}",
            evidence={"served": "; ".join(shown_in_full(certificate) for certificate in chain.certificates)},
            reproduce=(show_chain(here.url),),
        )


def self_signed_chain(chain: ServedChain, **_: object) -> Mapping[str, Any]:
    """Return the counterexample of every check that compares the served certificate with another one."""
    return {"chain": replace(chain, certificates=self_signed().chain)}


@check("cert.matches-expected-file", on=CLIENT_AND_PEER, counterexample=self_signed_chain)
def the_expected_certificate_is_served(
    here: Listener, chain: ServedChain, expected: ExpectedCertificate
) -> Iterator[Statement]:
    """The served certificate is the expected one.

    A rotation went to the wrong path, files are swapped, a proxy terminates TLS, or a configuration file
    hides the flags. The certificate on the wire is then not the one that is maintained, and may expire
    unnoticed.

    Spec: etcd --{peer}cert-file
    Follows: cert.ports-not-swapped, cert.generated, cert.own-certificate-per-port
    Severity: high
    Level: MUST
    Remediation: put the expected certificate and its key at the path of --{peer}cert-file, which etcd reads
        at the next handshake; if another one is expected, name it with --etcd-expect-{peer}cert.
    """
    if chain.leaf != expected.certificate:
        yield Finding(
            message=f"another certificate is served than that of {expected.source}",
            expected=f"{shown_in_full(expected.certificate)} ({expected.source})",
            observed=shown_in_full(chain.leaf),
            reproduce=(
                *compare(
                    show_file(expected.source, FINGERPRINT), show_leaf(here.url, FINGERPRINT), look=DIFFERENT
                ),
                show_leaf(here.url, FINGERPRINT),
            ),
        )


def _shared(here: Listener, chains: Each[ServedChain], **_: object) -> Mapping[str, Any]:
    return {"chains": Each.of({listener: chains.at(here) for listener, _ in chains})}


@check("cert.own-certificate-per-port", on={Role.PEER}, counterexample=_shared)
def each_port_serves_its_own_certificate(
    here: Listener, target: Target, chains: Each[ServedChain]
) -> Iterator[Statement]:
    """Client port and peer port serve different certificates and keys.

    If a shared key leaks, it compromises both ports: it serves clients and can join the cluster. etcd's
    threat model requires dedicated peer certificates. Two certificates for one key have the same risk.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: CIS Kubernetes 2.4
    Severity: medium
    Level: SHOULD
    Remediation: use a separate certificate and key for --peer-cert-file and --peer-key-file.
    """
    if not target.siblings(here, Role.CLIENT):
        yield not_verified(needs("a client listener of the same member", Role.CLIENT.option))
        return
    client_port = _client_port(target, here)
    if client_port is None:
        yield not_applicable("the client listener of the same member has no TLS")
        return
    client, peer = chains.known(client_port), chains.at(here)
    if client is None:
        reason = f"{client_port.url} sent no certificate that can be read: see listener.answers there"
        yield not_verified(reason)
        return
    same = client.leaf == peer.leaf
    key = public_key(client.leaf)
    if same or (key is not None and key == public_key(peer.leaf)):
        yield Finding(
            message=f"both ports serve the same {'certificate' if same else 'key, in two certificates'}",
            expected="a certificate and key of its own on each port",
            observed=shown_in_full(peer.leaf),
            evidence={"client port": client_port.url, "peer port": here.url},
            reproduce=compare(
                show_leaf(client_port.url, HASHED_KEY),
                show_leaf(here.url, HASHED_KEY),
                look="the same hash from both: one key",
            ),
        )


def _swapped(target: Target, chains: Each[ServedChain], **_: object) -> Mapping[str, Any]:
    client, peer = _both_ports(target)[0]
    return {"chains": Each.of(dict(chains) | {client: chains.at(peer), peer: chains.at(client)})}


@check("cert.ports-not-swapped", on=set(), counterexample=_swapped)
def the_certificates_of_the_ports_are_not_swapped(
    target: Target,
    chains: Each[ServedChain],
    expected: Each[ExpectedCertificate],
    declared: Each[DeclaredLeaf],
    paths: Each[PathToTrust],
) -> Iterator[Statement]:
    """No member serves its peer certificate to clients and its client port's to peers.

    Clients refuse the certificate if each port has a CA of its own. Otherwise nobody notices until one of the
    files is renewed or revoked for its purpose, and the other port changes.

    Spec: etcd --cert-file, --peer-cert-file
    Severity: high
    Level: MUST
    Remediation: exchange the values of --cert-file and --peer-cert-file, and of --key-file and
        --peer-key-file, or the contents of the files.
    """
    members = _both_ports(target)
    if not members:
        yield not_applicable("no member has both a client and a peer port with TLS")
        return
    compared = False
    for ports in members:
        served = [chain for port in ports if (chain := chains.known(port))]
        if len(served) < 2:
            continue
        files = [leaf for port in ports if (leaf := expected.known(port) or declared.known(port))]
        to_anchors = [path for port in ports if (path := paths.known(port))]
        by_file = len({leaf.certificate for leaf in files}) > 1
        if by_file:
            sources = [leaf.source for leaf in files]
            belongs = [[chain.leaf == leaf.certificate for leaf in files] for chain in served]
        elif len(to_anchors) == 2:
            sources = [path.source for path in to_anchors]
            belongs = [[_leads_to(chain, path) for path in to_anchors] for chain in served]
        else:
            continue
        compared = True
        if belongs != [[False, True], [True, False]]:
            continue
        yield Finding(
            message="the certificates of client port and peer port are swapped",
            expected=f"on the client port the certificate of {sources[0]}, on the peer port that of "
            f"{sources[1]}",
            observed="on each port the certificate that belongs to the other",
            evidence={port.url: shown_in_full(chain.leaf) for port, chain in zip(ports, served, strict=True)},
            reproduce=tuple(
                command
                for port, other in zip(ports, reversed(sources), strict=True)
                for command in ((compare_leaf(port.url, other),) if by_file else ()) + (show_chain(port.url),)
            ),
            concerns=tuple(port.label for port in ports),
        )
    if not compared:
        yield not_applicable("no two files and no two CAs tell the certificates of the ports apart")


def _both_ports(target: Target) -> list[tuple[Listener, Listener]]:
    """Return the first client listener with each peer listener of a member that has both, with TLS."""
    https = (listener for listener in target.listeners if listener.scheme == "https")
    peers = (listener for listener in https if listener.role is Role.PEER)
    return [(client, peer) for peer in peers if (client := _client_port(target, peer))]


def _client_port(target: Target, peer: Listener) -> Listener | None:
    """Return the first client listener with TLS of a peer listener's member."""
    clients = target.siblings(peer, Role.CLIENT)
    return next((client for client in clients if client.scheme == "https"), None)


def _leads_to(chain: ServedChain, path: PathToTrust) -> bool:
    leaf, *sent = chain.certificates
    return find_path(leaf, sent, path.anchors, chain.observed_at) is not None


def _no_ca(issuers: Issuers, **_: object) -> Mapping[str, Any]:
    return {"issuers": replace(issuers, certificates=specimen()[:1])}


@check("cert.issuer-is-ca", on=EVERY_LISTENER, counterexample=_no_ca)
def every_issuer_is_a_ca(here: Listener, issuers: Issuers) -> Iterator[Statement]:
    """Every certificate above the served one is a CA that may issue it.

    Clients refuse the chain otherwise. The CA must have CA:TRUE and a sufficient path length. Its key usage,
    if present, must allow keyCertSign. Its extended key usage, if present, must allow serverAuth: Go applies
    a CA's extended key usage to the certificates below it.

    Spec: RFC 5280 section 4.2.1.9
    Spec: RFC 5280 section 4.2.1.3
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with a CA certificate (basicConstraints CA:TRUE,
        keyUsage keyCertSign).
    """
    for below, issuer in enumerate(issuers.certificates):
        faults = issuer_faults(issuer, below, is_anchor=issuer is issuers.certificates[-1])
        problems = [problem for _, problem in faults]
        if not allows(issuer):
            problems.append(f"extendedKeyUsage {', '.join(purposes(issuer) or ())}")
        if problems:
            yield Finding(
                message=f"{shown(issuer)} must not issue the served certificate",
                expected="CA:TRUE, a path length that suffices, keyCertSign, no usage that excludes servers",
                observed=", ".join(problems),
                reproduce=(show_chain(here.url),),
            )


# permittedSubtrees: dNSName example.
_other_names = OtherExtension("2.5.29.30", bytes.fromhex("300da00b300982076578616d706c65"), critical=True)
_only_for_others = serving("path", dataclasses.replace(AUTHORITY, other_extensions=(_other_names,)))


@check("cert.ca-constraints", on=EVERY_LISTENER, counterexample=_only_for_others)
def the_cas_may_issue_these_names(here: Listener, path: CertificationPath) -> Iterator[Statement]:
    """The CAs' name constraints permit the served certificate.

    Clients refuse a certificate that contains any name that its CA may not certify, even an unused one. Go
    compares every name of the subjectAltName and never the common name. DNS names and addresses are judged.
    Constraints on mailboxes and URIs, and on certificate policies, are not: they make the check inconclusive.

    Spec: RFC 5280 section 4.2.1.10
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with names that its CA may certify, or use another
        CA.
    """
    for flaw in constraint_faults(path.certificates):
        if flaw.rule is Rule.UNJUDGED:
            yield inconclusive(not_judged(shown(flaw.certificate), flaw.text))
        else:
            yield Finding(
                message=f"the constraints of a CA exclude the served certificate: {flaw.text}",
                expected="names that every CA above the certificate permits",
                observed=listed(subject_alt_names(path.certificates[0]), ", ") or "no subjectAltName",
                evidence={"path": "; ".join(shown(certificate) for certificate in path.certificates)},
                reproduce=(show_chain(here.url),),
            )


def _with_kubernetes(target: Target, **_: object) -> Mapping[str, Any]:
    bundle = TrustBundle(specimen()[1:], "ca.crt of Kubernetes")
    return {"target": dataclasses.replace(target, kubernetes_ca=bundle)}


def _shared_with_kubernetes(target: Target, **_: object) -> Mapping[str, Any]:
    bundle = _kubernetes_ca(target)
    return {"trust": ClientTrust(certificates=bundle.certificates, source=bundle.source)}


@check(
    "cert.ca-not-shared-with-kubernetes",
    on=CLIENT_AND_PEER,
    counterexample=_shared_with_kubernetes,
    conforming=_with_kubernetes,
)
def etcd_and_kubernetes_have_separate_cas(
    here: Listener,
    target: Target,
    announced: AnnouncedCAs,
    chain: ServedChain | None,
    issuers: Issuers | None,
    trust: ClientTrust | None,
    client: AcceptedClient | None,
) -> Iterator[Statement]:
    """No CA of etcd is the CA of the Kubernetes cluster.

    Every kubelet and every user has a client certificate of the Kubernetes CA. If etcd trusts it, each of
    them can read and write every Secret and bypass Kubernetes' authorisation. The check compares keys, not
    paths.

    Spec: CIS Kubernetes 2.7
    Severity: high
    Level: SHOULD
    Remediation: use a separate CA for etcd: in --{peer}trusted-ca-file, for --{peer}cert-file, and for the
        API server's client certificate (--etcd-certfile).
    """
    kubernetes = _kubernetes_ca(target)
    keys = [public_key(certificate) for certificate in kubernetes.certificates]
    # Of an inferred bundle, names alone show what etcd trusts.
    trusted = trust.certificates if trust is not None and not trust.inferred else ()
    in_use = (
        *((ca, "issued the served certificate") for ca in (issuers.certificates if issuers else ())),
        *((ca, "issued the served certificate") for ca in _root(chain, kubernetes)),
        *((ca, "is trusted for clients") for ca in trusted),
        *((ca, "has signed the client that is accepted") for ca in _signers(client, announced, kubernetes)),
    )
    shared = [(ca, words) for ca, words in in_use if public_key(ca) in keys]
    if shared:
        yield Finding(
            message="etcd and Kubernetes share a CA",
            expected=f"a CA of its own, other than {kubernetes.source}",
            observed="; ".join(dict.fromkeys(f"{shown(ca)} {words}" for ca, words in shared)),
            reproduce=(s_client(here.url, look=ANNOUNCED),),
        )
        return
    subjects = {certificate.subject.public_bytes() for certificate in kubernetes.certificates}
    alike = [name_text(name) for name in dict.fromkeys(announced.most) if name.public_bytes() in subjects]
    if alike and not trusted:
        text = f"a CA of the same name is announced, {', '.join(alike)}, but its key is not known"
        options = ("--etcd-trusted-ca", "--etcd-peer-trusted-ca")
        yield not_verified(missing(text, *options, passing=" or ".join(options)))


def _kubernetes_ca(target: Target) -> TrustBundle:
    bundle = target.kubernetes_ca
    if bundle is None and target.origin != "live":
        raise NotApplicableError("this cluster was started here and serves no Kubernetes")
    if bundle is None:
        option, needed = "--etcd-kubernetes-ca", "the CA of the Kubernetes cluster that uses this etcd"
        raise NotVerifiedError(needs(needed, option, passing=f"{option} (/etc/kubernetes/pki/ca.crt)"))
    return bundle


def _root(chain: ServedChain | None, kubernetes: TrustBundle) -> Path:
    """Return the CA of Kubernetes above the served certificate, also where no CA of servers was given."""
    if chain is None:
        return ()
    leaf, *sent = chain.certificates
    path = find_path(leaf, sent, kubernetes.certificates, chain.observed_at)
    return path[-1:] if path else ()


def _signers(client: AcceptedClient | None, announced: AnnouncedCAs, kubernetes: TrustBundle) -> Path:
    """Return the CA of Kubernetes that has signed the accepted client where certificates are requested.

    Such a CA is trusted there, whatever is known of the bundle.
    """
    accepted = client.accepted if client else None
    if accepted is None or not accepted.chain or not any(requested for _, requested in announced.requested):
        return ()
    leaf, *sent = accepted.chain
    path = find_path(leaf, sent, kubernetes.certificates, accepted.attempts[0].started_at)
    return path[-1:] if path else ()


def _ca_expired(issuers: Issuers, chain: ServedChain, **_: object) -> Mapping[str, Any]:
    after = max(found.not_valid_after_utc for found in issuers.certificates) + timedelta(days=1)
    return {"chain": replace(chain, observed_at=after)}


@check("cert.ca-valid-now", on=EVERY_LISTENER, counterexample=_ca_expired)
def the_issuers_are_valid_now(
    here: Listener, issuers: Issuers, chain: ServedChain, clock: MemberClock, path: PathToTrust | None
) -> Iterator[Statement]:
    """Every CA above the served certificate is valid at the time of the handshake.

    Go verifies the validity of the root as well. Once a CA has expired, clients refuse every certificate that
    it issued.

    Spec: RFC 5280 section 6.1.3
    Severity: critical
    Level: MUST
    Remediation: renew the CA, distribute the new one to clients and to --{peer}trusted-ca-file (read only at
        start), then renew the certificate of --{peer}cert-file.
    """
    for issuer in issuers.certificates:
        times = clock.times(chain.observed_at)
        show = show_issuer(here, issuer, chain, path)
        yield from not_valid_now(issuer, f"the CA {shown(issuer)}", times, show)


def _ca_has_an_hour(issuers: Issuers, chain: ServedChain, **_: object) -> Mapping[str, Any]:
    last = issuers.certificates[-1].not_valid_after_utc
    return {"chain": replace(chain, observed_at=last - timedelta(hours=1))}


@check("cert.ca-expires-soon", on=EVERY_LISTENER, counterexample=_ca_has_an_hour)
def the_issuers_do_not_expire_soon(
    here: Listener,
    issuers: Issuers,
    chain: ServedChain,
    policy: Policy,
    clock: MemberClock,
    path: PathToTrust | None,
) -> Iterator[Statement]:
    """Every CA of the served certificate is valid for longer than --etcd-expiry-days.

    When the CA expires, clients refuse every certificate that it issued. Replacing a CA takes longer than
    replacing a certificate, since etcd reads its bundle only at start.

    Spec: RFC 5280 section 6.1.3
    Spec: etcd --{peer}trusted-ca-file
    Severity: medium
    Level: SHOULD
    Remediation: add the new CA to --{peer}trusted-ca-file and the clients' bundles, restart member by member,
        then renew the certificates, then remove the old CA.
    """
    times = clock.times(chain.observed_at)
    if expired := [
        shown(found) for found in issuers.certificates if any(state_of(found, now) for now in times)
    ]:
        yield not_applicable(f"{', '.join(expired)} is not valid now, see cert.ca-valid-now")
        return
    for issuer in issuers.certificates:
        show = show_issuer(here, issuer, chain, path)
        yield from ends_soon(issuer, f"the CA {shown(issuer)}", times, policy, show)


def show_issuer(
    here: Listener, issuer: x509.Certificate, chain: ServedChain, path: PathToTrust | None
) -> Command:
    """Return a command that shows the dates of a CA: where it is served, else in the file that has it."""
    if path is None or issuer not in path.anchors or issuer in chain.certificates:
        return show_chain(here.url, '"NotBefore" and "NotAfter" of each certificate that is served')
    return show_files_certificates(path.source)
