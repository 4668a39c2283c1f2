"""What our platform promises of its etcd."""

import httpx
import pytest

from pytest_etcdtls import BoundCheck, Cluster, Credentials, Listener, Observer, assert_conforms
from pytest_etcdtls.facts import ServedChain


@pytest.mark.etcd_checks("mtls.no-certificate", "mtls.foreign-ca", "cert.trusted", "tls.version-floor")
def test_every_port(etcd_check: BoundCheck) -> None:
    etcd_check.require()


def test_who_is_refused(etcd_observer: Observer) -> None:
    assert_conforms(etcd_observer, "mtls.expired", "mtls.revoked-*", "mtls.server-auth-only")


def test_no_certificate_lives_longer_than_a_year(etcd_endpoint: Listener, etcd_observer: Observer) -> None:
    leaf = etcd_observer.get(ServedChain, listener=etcd_endpoint).leaf
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days <= 366


def test_a_client_of_yesterday_is_refused(etcd_cluster: Cluster, etcd_credentials: Credentials) -> None:
    with etcd_credentials["revoked"].client() as client, pytest.raises(httpx.TransportError):
        client.get(etcd_cluster.members[0].client_url + "/version")
