"""A served certificate for servers only is no fault where etcd dials with another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from starting import start_process

from pytest_etcdtls.catalog import select
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.pki.bundle import PKIPlan
from pytest_etcdtls.pki.profile import PEER, SERVER
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.runner import run_checks
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
    results = run_checks(Observer(target), select(["cert.client-usage"]))
    return {result.listener: result.outcome for result in results}


@pytest.mark.etcd_version("3.5", "3.6", "3.7")
def test_an_owned_cluster_is_known_to_dial_with_another(etcd_binary: Path) -> None:
    """The members have found each other, so they do dial with it."""
    with start_process(replace(SEPARATE, size=3), etcd_binary) as cluster:
        assert set(outcomes(cluster.target()).values()) == {Outcome.CONFORMS}


@pytest.mark.etcd_version("3.5", "3.6", "3.7")
@pytest.mark.parametrize(("size", "peer"), [(1, Outcome.VIOLATES), (3, Outcome.NOT_VERIFIED)])
def test_of_a_live_one_only_the_gateway_tells(etcd_binary: Path, size: int, peer: Outcome) -> None:
    """One that is alone has never dialled anybody; several must have dialled with something."""
    with start_process(replace(SEPARATE, size=size), etcd_binary) as cluster:
        seen = outcomes(replace(cluster.target(), origin="live", dials_with_another=None))
    expected = {"client": Outcome.CONFORMS, "peer": peer}
    assert seen == {f"{role}-m{n}": expected[role] for role in expected for n in range(size)}
