"""The etcd of these tests is as ours in production: with a revocation list, and Ed25519 keys."""

from collections.abc import Iterator

import pytest

from pytest_etcdtls import Cluster, ClusterFactory


@pytest.fixture(scope="session")
def etcd_cluster(etcd_session_cluster_factory: ClusterFactory) -> Iterator[Cluster]:
    """Replace the plugin's cluster; its other fixtures follow."""
    with etcd_session_cluster_factory(key_type="ed25519", client_crl_file="crl.der") as cluster:
        yield cluster
