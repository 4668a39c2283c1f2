"""The served certificate: trusted, the right one, and its own on each port."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from pytest_etcdtls.observations.chain import ExpectedCertificate, PathToTrust, PortPair, ServedChain
from pytest_etcdtls.pki.identities import self_signed
from pytest_etcdtls.pki.reading import public_key, serial_number
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_chain, show_leaf
from pytest_etcdtls.results import Finding, Statement
from pytest_etcdtls.target import Role


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 fingerprint as ``openssl x509 -fingerprint -sha256`` writes it."""
    return certificate.fingerprint(SHA256()).hex(":").upper()


def shown_in_full(certificate: x509.Certificate) -> str:
    """Return subject, serial number and fingerprint, for reports."""
    subject = certificate.subject.rfc4514_string() or "(empty subject)"
    return f"{subject}, serial {serial_number(certificate):x}, SHA-256 {fingerprint(certificate)}"


def _no_path(path: PathToTrust, chain: ServedChain) -> Mapping[str, Any]:
    return {"path": replace(path, error="unable to get local issuer certificate")}


@check("cert.trusted", on=EVERY_LISTENER, counterexample=_no_path)
def the_served_certificate_is_trusted(path: PathToTrust, chain: ServedChain) -> Iterator[Statement]:
    """A path leads from the served certificate to the given CA.

    Path and signatures only; validity, names and usage have checks of their own.

    Spec: RFC 5280 section 6.1
    Spec: RFC 8446 section 4.4.2
    Severity: high
    Level: MUST
    Remediation: serve a certificate of that CA with --{peer}cert-file, intermediates behind it in the same
        file, or name the CA that signed it.
    """
    if path.error:
        anchors = ", ".join(sorted(anchor.subject.rfc4514_string() for anchor in path.anchors))
        yield Finding(
            message="no path leads from the served certificate to the given CA",
            expected=f"a certificate that leads to {anchors} ({path.source})",
            observed=f"{path.error}; issuer {chain.leaf.issuer.rfc4514_string()}",
            evidence={"served": "; ".join(shown_in_full(certificate) for certificate in chain.certificates)},
            reproduce=(show_chain(path.url),),
        )


def _another(chain: ServedChain, expected: ExpectedCertificate) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=self_signed().chain)}


@check("cert.matches-expected-file", on=frozenset({Role.CLIENT, Role.PEER}), counterexample=_another)
def the_expected_certificate_is_served(
    chain: ServedChain, expected: ExpectedCertificate
) -> Iterator[Statement]:
    """The certificate that is served is the one that is expected.

    The file on disk and what is on the wire differ after a rotation that went to the wrong place, with
    swapped files, behind a proxy, or where a configuration file hides the flags.

    Spec: etcd --{peer}cert-file
    Severity: high
    Level: MUST
    Remediation: put the expected certificate, with its key, where --{peer}cert-file points; etcd reads it at
        the next handshake.
    """
    if chain.leaf != expected.certificate:
        yield Finding(
            message="another certificate is served than the expected one",
            expected=f"{shown_in_full(expected.certificate)} ({expected.source})",
            observed=shown_in_full(chain.leaf),
            reproduce=(show_leaf(chain.url, '"Serial Number"'),),
        )


def _shared(ports: PortPair) -> Mapping[str, Any]:
    return {"ports": replace(ports, client=ports.peer)}


@check("cert.own-certificate-per-port", on=frozenset({Role.PEER}), counterexample=_shared)
def each_port_serves_its_own_certificate(ports: PortPair) -> Iterator[Statement]:
    """Client and peer port serve certificates and keys of their own.

    A key that serves clients and joins the cluster opens both doors when it leaks; etcd's threat model wants
    dedicated peer certificates. Two certificates for one key are no better than one.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: CIS Kubernetes 2.4
    Severity: medium
    Level: SHOULD
    Remediation: give --peer-cert-file and --peer-key-file a pair of their own.
    """
    same = ports.client.leaf == ports.peer.leaf
    key = public_key(ports.client.leaf)
    if same or (key is not None and key == public_key(ports.peer.leaf)):
        yield Finding(
            message=f"both ports serve the same {'certificate' if same else 'key, in two certificates'}",
            expected="a certificate and key of its own on each port",
            observed=shown_in_full(ports.peer.leaf),
            evidence={"client port": ports.client.url, "peer port": ports.peer.url},
            reproduce=(
                show_leaf(ports.client.url, '"Serial Number" and the public key'),
                show_leaf(ports.peer.url, '"Serial Number" and the public key'),
            ),
        )
