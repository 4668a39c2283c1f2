"""Tests of a service that stores its data in an etcd with mutual TLS."""

from __future__ import annotations

import httpx
import pytest
from etcd_checks import etcd_is_reached_without_a_proxy

from pytest_etcdtls import (
    BoundCheck,
    Cluster,
    ClusterFactory,
    Credentials,
    KeyType,
    Listener,
    Member,
    Observer,
    Outcome,
    Target,
    assert_conforms,
    prove_check,
)


def test_the_check_can_fail() -> None:
    """Our check is silent on a good etcd, and finds its counterexample."""
    prove_check(etcd_is_reached_without_a_proxy)


def test_the_check_can_fail_on_a_real_etcd(etcd_observer: Observer) -> None:
    """The etcd of the fixtures answers what no recorded etcd did."""
    prove_check(etcd_is_reached_without_a_proxy, observer=etcd_observer)


@pytest.mark.etcd_checks("company.no-proxy")
def test_our_check(etcd_check: BoundCheck) -> None:
    """Each listener is judged by it."""
    assert etcd_check.require().outcome is Outcome.CONFORMS


def test_what_fixtures_give(
    etcd_cluster: Cluster,
    etcd_client: httpx.Client,
    etcd_target: Target,
    etcd_observer: Observer,
    etcd_endpoint: Listener,
    etcd_credentials: Credentials,
    etcd_cluster_factory: ClusterFactory,
) -> None:
    """Every fixture has a type that can be imported."""
    member: Member = etcd_cluster.members[0]
    assert etcd_cluster.config.pki.key_type is KeyType.ECDSA_P384
    assert str(etcd_client.base_url) == member.client_url
    assert etcd_endpoint in etcd_target.listeners
    assert etcd_credentials["client"].identity.chain[0] == etcd_cluster.pki.client.chain[0]
    assert callable(etcd_cluster_factory)
    assert_conforms(etcd_observer, "company.no-proxy", "mtls.no-certificate")
