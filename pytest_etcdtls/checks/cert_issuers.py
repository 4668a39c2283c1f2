"""The CAs: allowed to issue what is served, and not those of Kubernetes."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509

from pytest_etcdtls.observations.chain import CAsInUse, CertificationPath, Issuers, KubernetesCA
from pytest_etcdtls.pki.go_verify import allows_servers, constraint_fault, issuer_faults, policy_fault
from pytest_etcdtls.pki.names import subject_alt_names
from pytest_etcdtls.pki.profile import AUTHORITY, OtherExtension
from pytest_etcdtls.pki.reading import public_key, purposes, shown
from pytest_etcdtls.pki.specimen import specimen
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import ANNOUNCED, s_client, show_chain
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role


def _no_ca(issuers: Issuers) -> Mapping[str, Any]:
    return {"issuers": replace(issuers, certificates=specimen()[:1])}


@check("cert.issuer-is-ca", on=EVERY_LISTENER, counterexample=_no_ca)
def every_issuer_is_a_ca(issuers: Issuers) -> Iterator[Statement]:
    """Every certificate above the served one is a CA's that may issue it.

    It says CA:TRUE, its path length suffices, its key usage, if there is one, allows keyCertSign, and its
    extended key usage, if there is one, allows serverAuth: Go applies that of a CA to what it issued.

    Spec: RFC 5280 section 4.2.1.9
    Spec: RFC 5280 section 4.2.1.3
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with a CA certificate (basicConstraints CA:TRUE,
        keyUsage keyCertSign).
    """
    for below, issuer in enumerate(issuers.certificates):
        is_last = issuer is issuers.certificates[-1]
        problems = list(_problems(issuer, below, is_last=is_last))
        if problems:
            yield Finding(
                message=f"{shown(issuer)} may not have issued what is served",
                expected="CA:TRUE, a path length that suffices, keyCertSign, no usage that excludes servers",
                observed=", ".join(problems),
                reproduce=(show_chain(issuers.url),),
            )


def _problems(issuer: x509.Certificate, cas_below: int, *, is_last: bool) -> Iterator[str]:
    yield from issuer_faults(issuer, cas_below, is_anchor=is_last)
    if not allows_servers(issuer):
        yield f"extendedKeyUsage {', '.join(purposes(issuer) or ())}"


def _only_for_others(path: CertificationPath) -> Mapping[str, Any]:
    # permittedSubtrees: dNSName example.
    other = OtherExtension("2.5.29.30", bytes.fromhex("300da00b300982076578616d706c65"), critical=True)
    restricted = replace(AUTHORITY, other_extensions=(other,))
    return {"path": replace(path, certificates=specimen(authority=restricted))}


@check("cert.ca-constraints", on=EVERY_LISTENER, counterexample=_only_for_others)
def the_cas_may_issue_these_names(path: CertificationPath) -> Iterator[Statement]:
    """The name and policy constraints of the CAs admit what they issued.

    A CA that is restricted to some names cannot issue a certificate with any other name in it, wanted or not.
    Go compares every name of the subjectAltName, and never the common name.

    Spec: RFC 5280 section 4.2.1.10
    Spec: RFC 5280 section 4.2.1.11
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with names that its CA may certify, or with
        another CA.
    """
    for fault in (constraint_fault(path.certificates), policy_fault(path.certificates)):
        if fault:
            yield Finding(
                message=f"the constraints of a CA exclude what is served: {fault}",
                expected="names and policies that every CA above the certificate admits",
                observed=", ".join(subject_alt_names(path.certificates[0])) or "no subjectAltName",
                evidence={"path": "; ".join(shown(certificate) for certificate in path.certificates)},
                reproduce=(show_chain(path.url),),
            )


def _shared(in_use: CAsInUse, kubernetes: KubernetesCA) -> Mapping[str, Any]:
    return {"in_use": replace(in_use, known=((kubernetes.certificates[0], "is trusted for clients"),))}


@check(
    "cert.ca-not-shared-with-kubernetes",
    on=frozenset({Role.CLIENT, Role.PEER}),
    counterexample=_shared,
)
def kubernetes_has_another_ca(in_use: CAsInUse, kubernetes: KubernetesCA) -> Iterator[Statement]:
    """No CA of etcd is the CA of the Kubernetes cluster; keys are compared, not paths.

    Every kubelet and every user has a client certificate of the Kubernetes CA. Where etcd trusts it, each of
    them reads and writes every secret of the cluster, past all of Kubernetes' authorisation.

    Spec: CIS Kubernetes 2.7
    Severity: high
    Level: SHOULD
    Remediation: give etcd a CA of its own: --{peer}trusted-ca-file and the pair of --{peer}cert-file, and the
        API server its client certificate of it (--etcd-certfile).
    """
    keys = [public_key(certificate) for certificate in kubernetes.certificates]
    shared = [(found, words) for found, words in in_use.known if public_key(found) in keys]
    if shared:
        yield Finding(
            message="etcd and Kubernetes share a CA",
            expected=f"a CA of its own, other than {kubernetes.source}",
            observed="; ".join(dict.fromkeys(f"{shown(found)} {words}" for found, words in shared)),
            reproduce=(s_client(in_use.url, look=ANNOUNCED),),
        )
        return
    subjects = {certificate.subject.public_bytes() for certificate in kubernetes.certificates}
    alike = [name.rfc4514_string() for name in in_use.announced if name.public_bytes() in subjects]
    if alike and not in_use.trust_is_known:
        yield Verdict(
            Outcome.NOT_VERIFIED,
            f"a CA of the same name is announced, {', '.join(alike)}, but its key is not known: "
            "pass --etcd-trusted-ca or --etcd-peer-trusted-ca",
        )
