"""A good client that is refused: the finding has the reason and its remedy; every etcd is real."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from starting import start_process, start_where_possible

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.certificate import shown
from pytest_etcdtls.pki.profile import CLIENT, CALayout, Identity, PKIPlan
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target
from pytest_etcdtls.versions import version_key

GOOD = ClusterConfig()
BROKEN = ClusterConfig(expects_health=False)
_EXPIRED = replace(CLIENT, valid_from=timedelta(days=-2), valid_for=timedelta(days=1, hours=21))
_LATER = replace(CLIENT, valid_from=timedelta(days=1))
_FOR_SERVERS = replace(CLIENT, extended_key_usage=("serverAuth",))
_TELLING = [
    (_EXPIRED, "its certificate expired 3 hours ago", "renew this certificate"),
    (_LATER, "its certificate is not valid before", "from then on"),
    (_FOR_SERVERS, "its extendedKeyUsage (serverAuth) has no clientAuth", "with extendedKeyUsage clientAuth"),
    (replace(CLIENT, self_signed=True), "is not trusted (trusted: ", "put this CA into --trusted-ca-file"),
]


def _judge(
    target: Target, identity: Identity | None = None, check: str = "mtls.trusted-client"
) -> CheckResult:
    """Judge it on the client port with one good identity, by default the first that is known."""
    listener = next(listener for listener in target.listeners if listener.role is Role.CLIENT)
    alone = replace(
        target.client, identities=(identity or target.client.identities[0],), signing_key=None, served=()
    )
    return Judge(Observer(replace(target, client=alone))).result(catalogue()[check], listener)


def test_the_certificate_gives_the_reason_of_a_refusal(etcd_binary: Path) -> None:
    """Up to Go 1.19 the alert is 42 for every reason."""
    with start_process(GOOD, etcd_binary) as cluster:
        authority = cluster.pki.client_ca
        results = [_judge(cluster.target(), authority.issue(made, name="client")) for made, _, _ in _TELLING]
    for result, (_, why, remedy) in zip(results, _TELLING, strict=True):
        assert result.outcome is Outcome.VIOLATES
        assert why in result.findings[0].message
        assert remedy in result.remediation
        assert "crl" not in result.remediation


def test_a_close_after_the_handshake_is_attributed_to_revocation(newest_etcd: Path) -> None:
    with start_process(replace(BROKEN, client_crl_file="gone.der"), newest_etcd) as cluster:
        result = _judge(cluster.target())
    assert "accepted by TLS and closed by etcd" in result.findings[0].message
    assert "--client-crl-file" in result.remediation


def test_without_a_certificate_request_no_proxy_is_suspected(newest_etcd: Path) -> None:
    with start_process(replace(GOOD, client_cert_auth=False, trusted_ca_file=None), newest_etcd) as cluster:
        result = _judge(cluster.target(), check="mtls.lookalike-ca")
    assert result.outcome is Outcome.VIOLATES
    assert result.remediation.startswith("this port requests no certificate")
    assert "terminates" not in result.remediation


_NO_LIST = b"no list"
_PEM_LIST = CertificateAuthority.create("clients").crl("pem")
_WITH_LISTS_IN_TLS = ("3.5.33", "3.6", "3.7")
"""Where the port for gRPC looks at the revocation list, in tls.Config.VerifyPeerCertificate."""


@pytest.mark.parametrize(
    ("crl", "lines", "why", "remedy"),
    [
        (_NO_LIST, _WITH_LISTS_IN_TLS, "is not a CRL that etcd can read", "replace it by a CRL in DER"),
        (_PEM_LIST, ("3.6", "3.7"), "is PEM, which etcd reads up to 3.5 only", "-outform DER"),
    ],
    ids=["no list", "PEM"],
)
def test_a_revocation_list_refuses_in_the_handshake_of_a_grpc_only_port(
    etcd_binary: Path, crl: bytes, lines: tuple[str, ...], why: str, remedy: str
) -> None:
    config = replace(BROKEN, client_http=True, client_crl_file="list.crl", extra_files={"list.crl": crl})
    with start_where_possible(config, etcd_binary) as cluster:
        result = _judge(cluster.target())
    if not any(binary_version(etcd_binary).startswith(line) for line in lines):
        assert result.outcome is Outcome.CONFORMS
        return
    message = result.findings[0].message
    assert "is refused: a port for gRPC alone reads the revocation list in the handshake" in message
    assert why in message
    assert remedy in result.remediation


def test_a_bundle_that_was_replaced_after_the_start_is_not_in_force(etcd_binary: Path) -> None:
    former = CertificateAuthority.create("former CA").certificate.public_bytes(Encoding.PEM)
    config = replace(BROKEN, trusted_ca_file="clients.crt", extra_files={"clients.crt": former})
    with start_process(config, etcd_binary) as cluster:
        (member,) = cluster.members
        member.file("clients.crt").write_bytes(member.file("client-ca.crt").read_bytes())
        result = _judge(cluster.target())
    message = result.findings[0].message
    assert "etcd was started before its CA, CN=etcd client-port CA, was in " in message
    assert "(trusted: CN=former CA)" in message
    assert result.remediation == "restart etcd, which reads --trusted-ca-file at start only"


def test_a_rule_about_names_is_named(etcd_binary: Path) -> None:
    config = replace(BROKEN, client_cert_allowed_hostname="client.internal")
    with start_process(config, etcd_binary) as cluster:
        target = cluster.target()
        undeclared = replace(
            target, declared={}, client=replace(target.client, allowed_hostname=(), allowed_cn=())
        )
        result, unknown = _judge(target), _judge(undeclared)
    assert result.outcome is Outcome.NOT_VERIFIED
    assert "a declared rule about names excludes" in result.reason
    assert "nothing in the certificate explains: an allowed name may" in unknown.findings[0].message


@pytest.mark.etcd_version("3.6", "3.7")
def test_a_sent_key_above_8192_bits_is_named(newest_etcd: Path) -> None:
    """Go refuses it in any certificate that is sent, on the path or not."""
    key = rsa.RSAPublicNumbers(65537, (1 << 8199) + 1).public_key()
    issuer = CertificateAuthority.create("long key")
    name = issuer.certificate.subject
    stray = (
        x509.CertificateBuilder(name, name, key, 7)
        .not_valid_before(issuer.certificate.not_valid_before_utc)
        .not_valid_after(issuer.certificate.not_valid_after_utc)
        .sign(issuer.key, hashes.SHA256())
    )
    with start_process(GOOD, newest_etcd) as cluster:
        good = cluster.target().client.identities[0]
        result = _judge(cluster.target(), replace(good, chain=(*good.chain, stray)))
    assert (
        "the CA CN=long key that it sends has RSA 8200 bits, and Go takes 8192" in result.findings[0].message
    )
    assert "replace it in the client's certificate file" in result.remediation


@pytest.mark.parametrize("sent", [0, 1], ids=["the client", "its CA"])
def test_a_revocation_list_is_compared_with_every_certificate_that_is_sent(
    etcd_binary: Path, sent: int
) -> None:
    authority = CertificateAuthority.create("lists")
    config = replace(
        BROKEN,
        pki=PKIPlan(layout=CALayout.INTERMEDIATE),
        client_crl_file="list.crl",
        extra_files={"list.crl": authority.crl()},
    )
    with start_process(config, etcd_binary) as cluster:
        client = cluster.target().client.identities[0]
        accepted = _judge(cluster.target())
        authority.revoke(client.chain[sent])
        (member,) = cluster.members
        path = member.file("list.crl")
        path.write_bytes(authority.crl())
        result = _judge(cluster.target())
    assert accepted.outcome is Outcome.CONFORMS
    whom = ("its certificate", f"the CA {shown(client.chain[1])}, which it sends")[sent]
    assert f"accepted by TLS and closed by etcd: {path} revokes {whom}" in (result.findings[0].message)
    assert "correct the list of --client-crl-file" in result.remediation


def test_a_list_in_pem_is_the_reason_whoever_is_on_it(etcd_binary: Path) -> None:
    """etcd 3.6 and newer cannot read it, so a new certificate would not help; older ones find the client."""
    authority = CertificateAuthority.create("lists")
    files = {"list.crl": _in_pem(authority)}
    with start_process(
        replace(BROKEN, client_crl_file="list.crl", extra_files=files), etcd_binary
    ) as cluster:
        authority.revoke(cluster.target().client.identities[0].chain[0])
        (member,) = cluster.members
        member.file("list.crl").write_bytes(_in_pem(authority))
        result = _judge(cluster.target())
    is_read = version_key(cluster.version) < version_key("3.6")
    message = result.findings[0].message
    assert "closed by etcd" in message
    assert ("revokes its certificate" in message, "is PEM" in message) == (is_read, not is_read), message


def _in_pem(authority: CertificateAuthority) -> bytes:
    return x509.load_der_x509_crl(authority.crl()).public_bytes(Encoding.PEM)
