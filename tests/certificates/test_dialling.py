"""With which certificate etcd dials itself and other members, and why that fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from judged import judged
from starting import start_process

from pytest_etcdtls.checks.results import Level, Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, CALayout, PKIPlan
from pytest_etcdtls.target import Target

_FOR_SERVERS = ("serverAuth",)
SEPARATE = ClusterConfig(
    pki=PKIPlan(
        server=replace(SERVER, extended_key_usage=_FOR_SERVERS),
        peer=replace(PEER, extended_key_usage=_FOR_SERVERS),
    ),
    client_cert_file="client.crt",
    client_key_file="client.key",
    peer_client_cert_file="peer-client.crt",
    peer_client_key_file="peer-client.key",
)


def outcomes(target: Target) -> dict[str, Outcome]:
    results = judged(target, "cert.client-usage")
    return {result.listener: result.outcome for result in results}


@pytest.mark.etcd_version("3.5", "3.6", "3.7")
@pytest.mark.parametrize(("size", "peer"), [(1, Outcome.VIOLATES), (3, Outcome.NOT_VERIFIED)])
def test_the_gateway_shows_how_a_live_cluster_dials(etcd_binary: Path, size: int, peer: Outcome) -> None:
    """One that is alone has never dialled anybody; several must have dialled with something."""
    with start_process(replace(SEPARATE, size=size), etcd_binary) as cluster:
        seen = outcomes(replace(cluster.target(), origin="live", dials_with_another=None))
    expected = {"client": Outcome.CONFORMS, "peer": peer}
    assert seen == {f"{role}-m{n}": expected[role] for role in expected for n in range(size)}


def test_a_client_without_a_certificate_reaches_the_gateway_too(etcd_binary: Path) -> None:
    """Where no certificate is needed, the gateway is judged without an available client certificate."""
    config = ClusterConfig(
        client_cert_auth=False,
        trusted_ca_file=None,
        pki=PKIPlan(server=replace(SERVER, extended_key_usage=_FOR_SERVERS)),
    )
    with start_process(config, etcd_binary) as cluster:
        target = replace(cluster.target(), origin="live", dials_with_another=None)
        target = replace(target, client=replace(target.client, identities=(), signing_key=None))
        (result,) = (found for found in judged(target, "cert.client-usage") if found.role == "client")
    assert (result.outcome, result.level) == (Outcome.CONFORMS, Level.SHOULD)
    assert "the gateway works nevertheless" in result.reason


_EXPIRED = replace(SERVER, valid_from=timedelta(days=-2), valid_for=timedelta(days=1, hours=23))
_NAMED = replace(CLIENT, subject_alt_names=("localhost",))
_GATEWAY = {
    "a CA per role": (
        ClusterConfig(pki=PKIPlan(layout=CALayout.PER_ROLE)),
        ["its CA, CN=etcd server CA, is not trusted (trusted: CN=etcd client CA)"],
        "--client-cert-file",
    ),
    "for servers only": (
        ClusterConfig(pki=PKIPlan(server=replace(SERVER, extended_key_usage=_FOR_SERVERS))),
        ["its extendedKeyUsage (serverAuth) has no clientAuth"],
        "both clientAuth and serverAuth",
    ),
    "expired": (
        ClusterConfig(pki=PKIPlan(server=_EXPIRED)),
        ["and is refused: its certificate expired "],
        "as cert.valid-now says",
    ),
    "an allowed hostname": (
        ClusterConfig(pki=PKIPlan(client=_NAMED), client_cert_allowed_hostname="localhost"),
        ["--client-cert-allowed-hostname localhost", "cannot satisfy that rule"],
        "use gRPC",
    ),
}


@pytest.mark.kills("api.gateway-works")
@pytest.mark.parametrize(("config", "words", "remedy"), list(_GATEWAY.values()), ids=list(_GATEWAY))
def test_the_finding_has_the_reason_of_the_gateway(
    config: ClusterConfig, words: list[str], remedy: str, etcd_binary: Path
) -> None:
    """From what is served and trusted, since many versions answer "connection closed" and no more."""
    with start_process(config, etcd_binary) as cluster:
        target = cluster.target()
        [result] = judged(target, "api.gateway-works")
    assert (result.outcome, result.level) == (Outcome.WARNS, Level.SHOULD)
    assert [word for word in words if word not in result.findings[0].message] == []
    assert remedy in result.remediation
    if remedy == "--client-cert-file":
        assert "--client-key-file" in result.remediation
