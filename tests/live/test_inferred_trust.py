"""What etcd trusts is inferred from a file with other CAs too: only a CA that it lacks is a fault."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from live.target_kinds import live, without_ca_keys
from starting import start_process

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.certificates import ClientTrust
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.profile import AUTHORITY, CALayout, PKIPlan
from pytest_etcdtls.profiles.profiles import FAILED
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target, TrustBundle

_SOON = replace(AUTHORITY, valid_for=timedelta(days=3))
PUBLIC = tuple(
    CertificateAuthority.create(f"Public CA {number}", profile=_SOON).certificate for number in range(5)
)
EXPECTED = "mtls.announced-ca-expected"


@pytest.fixture
def cluster(etcd_binary: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(), etcd_binary) as running:
        yield running


def _restarted(cluster: Cluster, *trusted: x509.Certificate) -> x509.Certificate:
    """Restart etcd with these CAs besides the clients' CA, which is returned."""
    own = cluster.pki.client_ca.certificate
    cluster.members[0].file("client-ca.crt").write_bytes(encode_certificates([own, *trusted]))
    cluster.restart()
    return own


def _as_given(cluster: Cluster, *anchors: x509.Certificate) -> Target:
    """Return the target as it is known with ``--etcd-cacert``, ``--etcd-cert`` and ``--etcd-key`` alone."""
    target, bundle = without_ca_keys(live(cluster, Role.CLIENT)), TrustBundle(anchors, "cacert.pem")
    client = replace(target.client, server_ca=bundle, client_trust=replace(bundle, inferred=True))
    return replace(target, client=client, declared={}, expected=())


def _judged(target: Target, *checks: str) -> dict[str, CheckResult]:
    return {result.check: result for result in run_checks(Observer(target), checks)}


def test_a_broad_file_with_the_only_announced_ca(cluster: Cluster) -> None:
    """As with the system's bundle. The CAs that etcd does not announce are not CAs of clients."""
    target = _as_given(cluster, *PUBLIC, cluster.pki.client_ca.certificate)
    results = _judged(target, "mtls", "cert")
    assert results[EXPECTED].outcome is Outcome.CONFORMS
    assert {result.outcome for result in results.values()} <= {
        *(Outcome.CONFORMS, Outcome.NOT_APPLICABLE, Outcome.NOT_VERIFIED, Outcome.WARNS)
    }
    assert not any("Public CA" in f"{result.findings}{result.reason}" for result in results.values())
    trust = Observer(target).get(ClientTrust, None, target.listeners[0])
    assert (len(trust.certificates), trust.unannounced) == (1, len(PUBLIC))


def test_a_ca_is_announced_besides_that_of_clients(cluster: Cluster) -> None:
    own = _restarted(cluster, PUBLIC[0])
    files = ((own, PUBLIC[0]), (*PUBLIC, own), (own,), (own, *PUBLIC[1:]))
    same, broad, *without = (_judged(_as_given(cluster, *file), EXPECTED)[EXPECTED] for file in files)
    assert same.outcome is Outcome.CONFORMS
    assert (broad.outcome, broad.reason) == (
        Outcome.NOT_VERIFIED,
        "cacert.pem has 6 CAs, and etcd's trusted CAs are unknown: pass etcd's bundle with --etcd-trusted-ca",
    )
    for result in without:
        assert result.outcome is Outcome.VIOLATES
        assert [finding.observed for finding in result.findings] == ["CN=Public CA 0"]
        assert "pass the bundle of --trusted-ca-file with --etcd-trusted-ca" in result.remediation


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param(b"\x03\x14\x05Gr\xf6\xdfe", b"Gr\xf6\xdfe".hex(), id="T61String with umlauts"),
        pytest.param(b"\x06\x0c\x05Groxe", "C=Groxe", id="long country code"),
    ],
)
def test_an_announced_name_that_the_library_does_not_like(cluster: Cluster, name: bytes, shown: str) -> None:
    """Go reads it. The broken signature of a trusted CA does not matter to it."""
    der = CertificateAuthority.create("Groxe").certificate.public_bytes(Encoding.DER)
    odd = ssl.DER_cert_to_PEM_cert(der.replace(b"\x03\x0c\x05Groxe", name))
    bundle = cluster.members[0].file("client-ca.crt")
    bundle.write_bytes(bundle.read_bytes() + odd.encode())
    cluster.restart()
    results = _judged(
        _as_given(cluster, cluster.pki.client_ca.certificate), "listener", "mtls", "cert", "api"
    )
    assert {check: result.outcome for check, result in results.items() if result.outcome in FAILED} == {
        EXPECTED: Outcome.VIOLATES
    }
    [finding] = results[EXPECTED].findings
    assert shown in finding.observed
    assert results["mtls.lookalike-ca"].outcome is Outcome.CONFORMS


@pytest.mark.parametrize(
    ("bundle", "outcome"),
    [
        ("root and intermediate", Outcome.CONFORMS),
        ("intermediate", Outcome.CONFORMS),
        ("intermediate and another", Outcome.VIOLATES),
    ],
)
def test_an_intermediate_of_the_given_ca_is_expected(
    bundle: str, outcome: Outcome, etcd_binary: Path
) -> None:
    with start_process(ClusterConfig(pki=PKIPlan(layout=CALayout.INTERMEDIATE)), etcd_binary) as cluster:
        root = cluster.pki.client_ca.certificate
        intermediate = cluster.target().client.identities[0].chain[1]
        known = {"root": root, "intermediate": intermediate, "another": PUBLIC[0]}
        trusted = [known[word] for word in bundle.split(" and ")]
        cluster.members[0].file("client-ca.crt").write_bytes(encode_certificates(trusted))
        cluster.restart()
        results = _judged(_as_given(cluster, root), EXPECTED, "mtls.trusted-client")
    assert results["mtls.trusted-client"].outcome is Outcome.CONFORMS
    found = results[EXPECTED]
    assert found.outcome is outcome, found
    assert [finding.observed for finding in found.findings] == ["CN=Public CA 0"] * (
        outcome is Outcome.VIOLATES
    )


def test_no_announced_ca(etcd_binary: Path) -> None:
    config = ClusterConfig(trusted_ca_file="empty.pem", extra_files={"empty.pem": b""}, expects_health=False)
    with start_process(config, etcd_binary) as cluster:
        result = _judged(_as_given(cluster, cluster.pki.client_ca.certificate, *PUBLIC), EXPECTED)[EXPECTED]
    assert (result.outcome, result.reason) == (
        Outcome.NOT_APPLICABLE,
        "the list of announced CAs is empty, see mtls.announced-ca-present",
    )
