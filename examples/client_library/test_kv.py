"""The client works with TLS, says when it is refused, and survives a new certificate of the server."""

import pytest
from kv import KV, EtcdRefusedError

from pytest_etcdtls import ClusterFactory, Credentials


def client(credentials: Credentials, name: str) -> KV:
    return KV(credentials.listener.url, credentials[name].ssl_context())


def test_put_and_get(etcd_credentials: Credentials) -> None:
    kv = client(etcd_credentials, "client")
    kv.put("colour", "green")
    assert kv.get("colour") == "green"
    assert kv.get("nothing") is None


@pytest.mark.parametrize("name", ["none", "foreign-ca", "expired", "not-yet-valid", "server-auth-only"])
def test_a_refusal_is_an_error_of_ours(etcd_credentials: Credentials, name: str) -> None:
    with pytest.raises(EtcdRefusedError, match="https://127"):
        client(etcd_credentials, name).get("colour")


def test_a_new_certificate_of_the_server(etcd_cluster_factory: ClusterFactory) -> None:
    with etcd_cluster_factory() as cluster, cluster.client() as plain:
        assert plain.get("/version").status_code == 200
        cluster.rotate_server_certificate()
        with cluster.client() as another:
            assert another.get("/version").status_code == 200
