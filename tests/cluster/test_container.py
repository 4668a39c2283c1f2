"""Real clusters of containers, on every available image."""

from __future__ import annotations

import io
import json
import os
import secrets
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import docker.errors
import pytest
from shown_commands import fenced
from starting import start_container
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import Reaper
from zoo.baseline import warned
from zoo.model import explain, found

from cluster.clients import get, refused
from cluster.conftest import DEADLINE, Start
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.engine import engine
from pytest_etcdtls.pki.profile import CALayout, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer

pytestmark = pytest.mark.container

OK = 200
GOOD = ClusterConfig()


def test_every_listener_that_is_asked_for_is_published(start: Start, newest_image: str) -> None:
    cluster = start(replace(GOOD, plain_client_listener=True, metrics="https"), newest_image)
    (member,) = cluster.members
    assert member.plain_client_url is not None
    assert member.metrics_url is not None
    assert get(member.plain_client_url, member, path="/health") == OK
    assert get(member.metrics_url, member, path="/metrics") == OK
    assert refused(member.metrics_url, member)
    roles = [listener.role for listener in cluster.target().listeners]
    assert sorted(roles) == sorted([Role.CLIENT, Role.CLIENT, Role.METRICS, Role.PEER])
    (apart,) = start(replace(GOOD, client_http=True), newest_image).members
    assert apart.client_http_url is not None
    assert get(apart.client_http_url, apart, ca="server-ca.crt") == OK


@pytest.mark.ipv6
def test_ipv6_loopback(start: Start, newest_image: str) -> None:
    (member,) = start(replace(GOOD, host="::1"), newest_image).members
    assert urlsplit(member.client_url).hostname == "::1"
    assert get(member.client_url, member, ca="server-ca.crt") == OK


def test_what_the_engine_has_of_a_cluster(
    start: Start, newest_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ports on loopback alone, a PKI that only root can read, and a description without secrets."""
    for name in ("ETCDTLS_KEY_PASSWORD", "ETCDCTL_USER", "VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "s3cret-of-the-run")
    config = replace(GOOD, metrics="http", authentication=True, extra_files={"more.pem": b"more"})
    cluster = start(config, newest_image)
    assert cluster.user is not None
    with engine() as client:
        label = f"pytest-etcdtls={cluster.directory.name}"
        (container,) = client.containers.list(filters={"label": label})
        (network,) = client.networks.list(filters={"label": label})
        stream, _ = container.get_archive("/etc/etcd/pki")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            entries = archive.getmembers()
    bindings = container.attrs["NetworkSettings"]["Ports"]
    assert {port for port, hosts in bindings.items() if hosts} == {"2379/tcp", "2380/tcp", "2381/tcp"}
    assert {host["HostIp"] for hosts in bindings.values() if hosts for host in hosts} == {"127.0.0.1"}
    assert container.attrs["Mounts"] == []
    assert {oct(entry.mode & 0o777) for entry in entries if entry.isfile()} == {"0o600"}
    assert {oct(entry.mode & 0o777) for entry in entries if entry.isdir()} == {"0o700"}
    names = {entry.name for entry in entries}
    assert {"pki/m0/server.key", "pki/client-ca.crt", "pki/more.pem"} <= names
    assert not any(name.endswith("-ca.key") for name in names)
    described = json.dumps([container.attrs, network.attrs])
    assert "pytest-etcdtls" in container.labels
    assert not [text for text in ("s3cret", cluster.user[1], "PRIVATE KEY") if text in described]


@pytest.mark.parametrize(
    "config",
    [
        replace(GOOD, pki=PKIPlan(layout=CALayout.KUBEADM)),
        replace(GOOD, config_file=True),
        replace(GOOD, trusted_ca_file=None, environment={"SSL_CERT_FILE": "{pki}/client-ca.crt"}),
    ],
    ids=["kubeadm", "config-file", "files outside the flags"],
)
def test_configurations(start: Start, newest_image: str, config: ClusterConfig) -> None:
    """Client authentication without a CA means the system's roots; the image has none but these."""
    (member,) = start(config, newest_image).members
    assert get(member.client_url, member, "client", ca="server-ca.crt") == OK
    assert refused(member.client_url, member)


def test_an_engine_without_room_for_another_network(
    start: Start, newest_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker has about thirty address ranges by default; to take them all would disturb others."""
    words = "could not find an available, non-overlapping IPv4 address pool"

    def create(*_: object, **_options: object) -> NoReturn:
        raise docker.errors.APIError(words)

    monkeypatch.setattr("docker.models.networks.NetworkCollection.create", create)
    with pytest.raises(ClusterStartError, match=f"no network can be created for the members: .*{words}"):
        start(GOOD, newest_image)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [None, True, False])
def test_containers_of_another_testcontainers_user_are_kept(
    start: Start, newest_image: str, monkeypatch: pytest.MonkeyPatch, before: bool | None
) -> None:
    monkeypatch.delenv("TESTCONTAINERS_RYUK_DISABLED", raising=False)
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", before)
    settings = dict(vars(testcontainers_config))
    environment = dict(os.environ)
    cluster = start(GOOD, newest_image)
    cluster.restart()
    cluster.stop()
    assert dict(vars(testcontainers_config)) == settings
    assert dict(os.environ) == environment
    assert Reaper._instance is None


def test_an_engine_on_another_host(start: Start, newest_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another address of the loopback network stands for the host of the engine."""
    monkeypatch.setattr(testcontainers_config, "tc_host_override", "127.0.0.2")
    cluster = start(replace(GOOD, metrics="https"), newest_image)
    (member,) = cluster.members
    assert member.metrics_url is not None
    for url in (member.client_url, member.peer_url, member.metrics_url):
        assert urlsplit(url).hostname == "127.0.0.2"
    assert get(member.client_url, member, ca="server-ca.crt") == OK
    assert get(member.peer_url, member, "peer-client", ca="peer-ca.crt") == OK


def _beside(cluster: Cluster, *arguments: str) -> str:
    """Return the output of an etcdctl in another container on the network of the cluster, with its PKI."""
    files = [
        f"--{option}=/pki/{name}" for option, name in (("cacert", "server-ca.crt"), ("cert", "client.crt"))
    ]
    command = ["etcdctl", *files, "--key=/pki/client.key", *arguments]
    with engine() as client:
        container = client.containers.create(cluster.source, command, entrypoint=[], network=cluster.network)
        try:
            container.put_archive("/", cluster.archive(directory="pki"))
            container.start()
            status = container.wait(timeout=DEADLINE)["StatusCode"]
            output = container.logs().decode()
        finally:
            container.remove(force=True, v=True)
    assert status == 0, output
    return output


@pytest.mark.parametrize("external", [False, True], ids=["a network of its own", "an existing network"])
def test_a_cluster_for_other_containers(start: Start, etcd_image: str, *, external: bool) -> None:
    """A client in another container follows the member list."""
    name = f"etcdtls-test-{secrets.token_hex(4)}"
    with engine() as client:
        network = client.networks.create(name, driver="bridge") if external else None
    try:
        config = replace(GOOD, size=3, advertise="network", aliases=("etcd-{name}.test",))
        cluster = start(replace(config, network=name) if external else config, etcd_image)
        assert (cluster.network == name) == external
        first = f"https://{cluster.directory.name}-m0:2379" if external else "https://m0:2379"
        assert cluster.network_endpoints[0] == first
        for endpoint in (first, "https://etcd-m0.test:2379"):
            listed = _beside(cluster, f"--endpoints={endpoint}", "endpoint", "status", "--cluster")
            assert all(each in listed for each in cluster.network_endpoints)
        with cluster.client() as here:
            assert here.get("/version").status_code == OK
        cluster.stop()
        if network is not None:
            network.reload()  # it is not the cluster's, and stays
    finally:
        if network is not None:
            network.remove()


def test_a_network_is_for_containers_and_exists(start: Start, etcd_image: str, newest_etcd: Path) -> None:
    no_such = "network='nowhere': the container engine has no such network"
    with pytest.raises(ClusterStartError, match=no_such):
        start(replace(GOOD, network="nowhere"), etcd_image)
    a_process = r"are for containers, and .* is a process: name the image of an etcd"
    with pytest.raises(UsageError, match=a_process):
        start_cluster(advertise="network", binary=newest_etcd)


@pytest.mark.program("docker-compose")
def test_the_compose_file_of_the_page(
    start: Start, etcd_image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("compose")
    [compose] = fenced("docs/fixtures.md", "yaml")
    [up] = [code for code in fenced("docs/fixtures.md", "python") if "docker-compose" in code]
    files = "--cacert=/pki/server-ca.crt --cert=/pki/client.crt --key=/pki/client.key"
    run = f"etcdctl {files} --endpoints=${{ETCD_ENDPOINTS}} endpoint health --cluster"
    service = f"image: {etcd_image}\n    entrypoint: []\n    command: {run}"
    (directory / "docker-compose.yml").write_text(
        'version: "3"\n' + compose.replace("image: my-service", service), encoding="utf-8"
    )
    cluster = start(replace(GOOD, size=3, advertise="network"), etcd_image)
    program = f"{up}\nimport sys, types\ncompose_up(types.SimpleNamespace(**eval(sys.argv[1])))"
    named = {
        "network": cluster.network,
        "pki_directory": str(cluster.pki_directory),
        "network_endpoints": cluster.network_endpoints,
    }
    program = program.replace('"up"', '"up", "--exit-code-from", "service"')
    command = [sys.executable, "-c", program, repr(named)]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, encoding="utf-8", check=False)
    finally:
        environment = os.environ | {"ETCD_NETWORK": "x", "ETCD_PKI": "x", "ETCD_ENDPOINTS": "x"}
        down = ["docker-compose", "rm", "--force", "--stop"]
        subprocess.run(down, cwd=directory, env=environment, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"{endpoint} is healthy" in done.stdout for endpoint in cluster.network_endpoints)


def test_the_service_of_the_page(etcd_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = [code for code in fenced("docs/fixtures.md", "python") if "put_archive" in code]
    (tmp_path / "test_service.py").write_text(example, encoding="utf-8")
    monkeypatch.setenv("ETCD_IMAGE", etcd_image)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=.", "-c", os.devnull]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.oldest_and_newest
def test_conforming_clusters_conform(etcd_image: str, size: int) -> None:
    with start_container(ClusterConfig(size=size), etcd_image) as cluster:
        results = run_checks(Observer(cluster.target()), ["!lifecycle"])
    rest: dict[str, dict[str, set[str]]] = {"violates": {}, "inconclusive": {}, "broken": {}}
    expected = rest | {"warns": warned(cluster.version), "not-verified": {}}
    assert found(results) == expected, explain(results)
    assert Counter(result.outcome for result in results)[Outcome.CONFORMS] > 40 * size
