"""Operations on an owned cluster: pause, rotate, revoke, request, and compare."""

from __future__ import annotations

import dataclasses
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pytest_etcdtls import (
    PRESETS,
    Cluster,
    ClusterConfig,
    Credentials,
    Observer,
    Outcome,
    UsageError,
    run_checks,
    start_cluster,
)
from pytest_etcdtls.etcd.config import ClusterOptions
from pytest_etcdtls.etcd.request import ClusterRequest
from pytest_etcdtls.etcd.sources import find_etcd


@pytest.fixture
def cluster(etcd_binary: Path) -> Iterator[Cluster]:
    config = ClusterConfig(client_crl_file="crl.der")
    with start_cluster(config, binary=etcd_binary) as started:
        yield started


def served(cluster: Cluster) -> bytes:
    """Return the certificate that the client port serves."""
    with cluster.client() as client, client.stream("GET", "/version") as response:
        certificate = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)
    return bytes(certificate)


def test_an_owned_cluster_is_rotated_paused_and_revoked(cluster: Cluster) -> None:
    assert cluster.difference() == ""
    with cluster.client() as client:
        version = client.get("/version").json()["etcdserver"]
    assert version == cluster.version
    assert "ready to serve client requests" in cluster.log()

    before = served(cluster)
    cluster.rotate_server_certificate()
    cluster.rotate_peer_certificate()
    assert served(cluster) != before
    assert "server.crt" in cluster.difference()
    assert "peer.key" in cluster.difference()
    results = run_checks(Observer(cluster.target()), ["cert.matches-expected-file", "cert.trusted"])
    assert {str(result.outcome) for result in results} == {"conforms"}

    cluster.pause_member(0)
    assert cluster.difference() == "m0 is paused"
    with cluster.client() as client, pytest.raises(httpx.TimeoutException):
        client.get("/version", timeout=0.2)
    cluster.resume_member(0)
    with cluster.client() as client:
        assert client.get("/version").status_code == 200

    cluster.revoke()
    with cluster.client() as client, pytest.raises(httpx.TransportError):
        client.get("/version")


_ALL = ("cert.*", "mtls.*", "cluster.*", "!mtls.server-certificate-as-client")
"""All but one that warns of the default layout."""


def _credentials(cluster: Cluster) -> Credentials:
    return Credentials(Observer(cluster.target()))


def _version(context: ssl.SSLContext, cluster: Cluster) -> str:
    with httpx.Client(verify=context, trust_env=False) as client:
        return str(client.get(f"{cluster.endpoints[0]}/version").json()["etcdserver"])


def test_a_client_and_the_cas_are_rotated(newest_etcd: Path) -> None:
    with start_cluster(binary=newest_etcd, size=3) as cluster:
        old, old_context = _credentials(cluster)["client"], cluster.members[0].ssl_context()
        cluster.rotate_client_certificate()
        assert _credentials(cluster)["client"].certificate_pem != old.certificate_pem
        for context in (cluster.members[0].ssl_context(), old_context):
            assert _version(context, cluster) == cluster.version
        for kind in ("client", "peer"):
            before, old_context = cluster.pki, cluster.members[0].ssl_context()
            cluster.rotate_ca(kind)
            new = cluster.pki.client_ca is not before.client_ca, cluster.pki.peer_ca is not before.peer_ca
            assert new == (kind == "client", kind == "peer")
            if kind == "client":
                with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                    _version(old_context, cluster)  # of the same CA in this layout
                refused = _credentials(cluster).of(before.client).client()
                with refused, pytest.raises(httpx.TransportError):
                    refused.get("/version")
            results = run_checks(Observer(cluster.target()), _ALL)
            assert {result.outcome for result in results} <= {Outcome.CONFORMS, Outcome.NOT_APPLICABLE}


def test_the_ca_of_every_layout_is_rotated(newest_etcd: Path) -> None:
    for preset in ("one-ca", "ca-per-role", "intermediate-ca", "kubeadm"):
        with start_cluster(binary=newest_etcd, preset=preset, key_type="ecdsa-p256") as cluster:
            for kind in ("client", "server", "peer"):
                cluster.rotate_ca(kind)
                assert _version(cluster.members[0].ssl_context(), cluster) == cluster.version


def test_a_cluster_has_credentials_and_names_its_files(
    newest_etcd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clients use no proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with start_cluster(binary=newest_etcd) as cluster:
        for own in (cluster.client(), cluster.members[0].client()):
            with own:
                assert own.get("/version").json()["etcdserver"] == cluster.version
        credentials = _credentials(cluster)
        certificate, key = credentials["expired"].files()
        assert [certificate.is_file(), key.is_file()] == [True, True]
        assert credentials["expired"] is credentials["expired"]
        for name, refused in (("client", False), ("expired", True), ("foreign-ca", True)):
            with credentials[name].client() as client:
                if refused:
                    with pytest.raises(httpx.TransportError):
                        client.get("/version")
                else:
                    assert client.get("/version").status_code == 200
        with pytest.raises(UsageError) as error:
            cluster.members[0].file("clinet.crt")
        assert str(error.value) == (
            "m0 has no file 'clinet.crt': it has client-ca.crt, client.crt, client.key, crl.der, crl.pem, "
            "empty-crl.der, peer-ca.crt, peer-client.crt, peer-client.key, peer.crt, peer.key, revoked.crt, "
            "revoked.key, server-ca.crt, server.crt, server.key; did you mean 'client.crt'?"
        )
        with pytest.raises(UsageError, match=r"m0 has no file 'ca\.crt'"):
            cluster.archive("ca.crt")


def test_a_paused_cluster_is_stopped(newest_etcd: Path) -> None:
    with start_cluster(binary=newest_etcd, key_type="ed25519") as cluster:
        cluster.pause_member(0)
        with pytest.raises(UsageError, match="client_crl_file"):
            cluster.revoke()
    assert not cluster.members[0].running
    assert cluster.difference() == "m0 is not running"


def test_keyword_arguments_are_the_fields_of_the_configuration() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(ClusterConfig)}
    options = {name: hint.__forward_arg__ for name, hint in ClusterOptions.__annotations__.items()}
    assert options == fields


@pytest.mark.program("etcdctl")
@pytest.mark.parametrize("authentication", [False, True])
def test_etcdctl_talks_to_all_members(newest_etcd: Path, *, authentication: bool) -> None:
    with start_cluster(size=3, binary=newest_etcd, authentication=authentication) as cluster:
        assert [f"https://{member.host}:{member.port}" for member in cluster.members] == [*cluster.endpoints]
        command = ["etcdctl", "endpoint", "status", "--write-out=json"]
        environment = cluster.environment() | {"PATH": os.environ["PATH"]}
        ran = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stderr
    assert {load["Endpoint"] for load in json.loads(ran.stdout)} == {*cluster.endpoints}


def test_a_member_goes_on_with_another_etcd(newest_etcd: Path) -> None:
    with start_cluster(binary=newest_etcd) as cluster:
        with pytest.raises(UsageError, match="needs the new etcd: version=, binary= or image="):
            cluster.upgrade_member(0)
        with pytest.raises(UsageError, match=r"there is no etcd 9\.9 to start: those available are"):
            cluster.upgrade_member(0, version="9.9")
        assert cluster.difference() == ""
        cluster.upgrade_member(0, version=cluster.version)
        with cluster.client() as client:
            assert client.get("/version").json()["etcdserver"] == cluster.version


def test_a_cluster_request_is_made_of_names_and_configurations(newest_etcd: Path) -> None:
    default = ClusterConfig(size=3)
    assert ClusterRequest.of("hardened").config(default) == PRESETS["hardened"].config
    assert ClusterRequest.of(ClusterConfig()).config(default) == ClusterConfig()
    changed = ClusterRequest.of({"key_type": "rsa-2048", "metrics": "http"}).config(default)
    assert (changed.size, changed.metrics, str(changed.pki.key_type)) == (3, "http", "rsa-2048")
    assert ClusterRequest.of("3.6").version == "3.6"
    given = ClusterRequest.of({"binary": newest_etcd}).source(find_etcd)
    assert given.location == str(newest_etcd)
    for wrong in (7, {"size": 2}, {"preset": "none"}, {"key_type": "dsa"}, {"colour": "red"}):
        with pytest.raises(UsageError):
            ClusterRequest.of(wrong).config(default)
    with pytest.raises(UsageError, match="give one of them"):
        ClusterRequest.of({"version": "3.6", "image": "etcd"}).source(find_etcd)


@pytest.mark.container
def test_a_container_is_paused_and_compared(etcd_images: dict[str, str]) -> None:
    image = [*etcd_images.values()][-1]
    with start_cluster(image=image) as cluster:
        assert cluster.difference() == ""
        cluster.rotate_server_certificate()
        assert cluster.difference().startswith("other files: ")
        with cluster.client() as client:
            assert client.get("/version").status_code == 200
        cluster.pause_member(0)
        assert cluster.difference() == "m0 is paused"
