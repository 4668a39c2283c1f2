"""Real clusters of containers, on every available image."""

from __future__ import annotations

import io
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import docker.errors
import pytest
from cryptography import x509
from shown_commands import fenced
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import Reaper
from testcontainers.core.labels import LABEL_SESSION_ID

from cluster.clients import get, refused
from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.etcd import home
from pytest_etcdtls.etcd.cluster import Cluster, keep_message, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.engine import engine
from pytest_etcdtls.etcd.ports import PortClaim, PortTakenError, claim_ports
from pytest_etcdtls.etcd.sources import EtcdSource
from pytest_etcdtls.pki.profile import CALayout, PKIPlan
from pytest_etcdtls.role import Role

pytestmark = pytest.mark.container

OK = 200
GOOD = ClusterConfig()
DEADLINE = 60.0
"""Seconds after which something counts as hanging; it is not an expected duration."""

Start = Callable[..., Cluster]


def start_image(config: ClusterConfig, image: str, directory: Path, *, keep: bool = False) -> Cluster:
    version = image.rpartition(":")[2]
    source = EtcdSource(kind="container", location=image, version=version, why="a test")
    return start_cluster(config, source, directory=directory, keep=keep)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster of containers that ends with the test."""
    with ExitStack() as stack:

        def start_one(config: ClusterConfig, image: str, **options: bool) -> Cluster:
            return stack.enter_context(start_image(config, image, tmp_path, **options))

        yield start_one


def left_behind(token: str) -> list[str]:
    """The containers and networks of a cluster that the engine still has."""
    label = f"pytest-etcdtls={token}"
    with engine() as client:
        containers = client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        networks = client.networks.list(filters={"label": label})
        return [str(container.name) for container in containers] + [str(network.name) for network in networks]


def test_a_member_serves_its_own_clients_and_refuses_others(start: Start, etcd_image: str) -> None:
    cluster = start(GOOD, etcd_image)
    (member,) = cluster.members
    assert member.running
    assert get(member.client_url, member, "client", ca="server-ca.crt") == OK
    assert get(member.peer_url, member, "peer-client", ca="peer-ca.crt") == OK
    assert refused(member.client_url, member)
    assert refused(member.peer_url, member, "client")
    assert (cluster.origin, cluster.source, cluster.version) == (
        "container",
        etcd_image,
        etcd_image.rpartition(":")[2],
    )


def test_the_urls_are_valid_on_this_host(start: Start, etcd_image: str) -> None:
    cluster = start(GOOD, etcd_image)
    (member,) = cluster.members
    status, answer = member.gateway().post("/v3/cluster/member/list", {})
    assert status == OK
    assert answer["members"][0]["clientURLs"] == [member.client_url]
    assert urlsplit(member.client_url).hostname == "127.0.0.1"
    served = cluster.pki.servers["m0"].chain[0]
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost", "m0"]
    assert "127.0.0.1" in map(str, names.value.get_values_for_type(x509.IPAddress))


@pytest.mark.oldest_and_newest
def test_three_members_form_one_cluster_by_their_names(start: Start, etcd_image: str) -> None:
    cluster = start(replace(GOOD, size=3), etcd_image)
    assert [member.name for member in cluster.members] == ["m0", "m1", "m2"]
    status, answer = cluster.members[2].gateway().post("/v3/cluster/member/list", {})
    assert status == OK
    assert {(m["name"], *m["peerURLs"]) for m in answer["members"]} == {
        (f"m{index}", f"https://m{index}:2380") for index in range(3)
    }
    assert [get(member.client_url, member, path="/health") for member in cluster.members] == [OK] * 3


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_every_listener_that_is_asked_for_is_published(start: Start, etcd_image: str) -> None:
    config = replace(GOOD, plain_client_listener=True, metrics="https", client_http=True)
    cluster = start(config, etcd_image)
    (member,) = cluster.members
    assert member.plain_client_url is not None
    assert member.metrics_url is not None
    assert member.client_http_url is not None
    assert get(member.client_http_url, member, ca="server-ca.crt") == OK
    assert get(member.metrics_url, member, path="/metrics") == OK
    assert refused(member.metrics_url, member)
    roles = [listener.role for listener in cluster.target().listeners]
    assert sorted(roles) == sorted([Role.CLIENT, Role.CLIENT, Role.CLIENT_HTTP, Role.METRICS, Role.PEER])


@pytest.mark.etcd_version("3.5.1")
def test_a_flag_that_the_etcd_in_the_image_lacks_is_a_usage_error(
    start: Start, etcd_image: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"etcd 3\.5\.1 has no --tls-min-version"):
        start(replace(GOOD, tls_min_version="TLS1.3"), etcd_image)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_listener_on_its_own_port(start: Start, etcd_image: str) -> None:
    (member,) = start(replace(GOOD, plain_client_listener=True), etcd_image).members
    assert member.plain_client_url is not None
    assert get(member.plain_client_url, member, path="/health") == OK
    assert refused(member.client_url, member)


def test_ports_are_published_on_loopback_only(start: Start, newest_image: str) -> None:
    cluster = start(replace(GOOD, metrics="http"), newest_image)
    with engine() as client:
        (container,) = client.containers.list(filters={"label": f"pytest-etcdtls={cluster.directory.name}"})
    bindings = container.attrs["NetworkSettings"]["Ports"]
    assert {port for port, hosts in bindings.items() if hosts} == {"2379/tcp", "2380/tcp", "2381/tcp"}
    assert {host["HostIp"] for hosts in bindings.values() if hosts for host in hosts} == {"127.0.0.1"}


@pytest.mark.ipv6
def test_ipv6_loopback(start: Start, newest_image: str) -> None:
    (member,) = start(replace(GOOD, host="::1"), newest_image).members
    assert urlsplit(member.client_url).hostname == "::1"
    assert get(member.client_url, member, ca="server-ca.crt") == OK


def test_the_pki_is_copied_in_and_only_root_can_read_it(start: Start, newest_image: str) -> None:
    cluster = start(replace(GOOD, extra_files={"more.pem": b"more"}), newest_image)
    with engine() as client:
        (container,) = client.containers.list(filters={"label": f"pytest-etcdtls={cluster.directory.name}"})
        stream, _ = container.get_archive("/etc/etcd/pki")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            entries = archive.getmembers()
    assert container.attrs["Mounts"] == []
    assert {oct(entry.mode & 0o777) for entry in entries if entry.isfile()} == {"0o600"}
    assert {oct(entry.mode & 0o777) for entry in entries if entry.isdir()} == {"0o700"}
    names = {entry.name for entry in entries}
    assert {"pki/m0/server.key", "pki/client-ca.crt", "pki/more.pem"} <= names
    assert not any(name.endswith("-ca.key") for name in names)


def test_the_description_of_a_container_has_no_secret(
    start: Start, newest_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ETCDTLS_KEY_PASSWORD", "ETCDCTL_USER", "VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "s3cret-of-the-run")
    cluster = start(replace(GOOD, authentication=True), newest_image)
    assert cluster.user is not None
    with engine() as client:
        label = f"pytest-etcdtls={cluster.directory.name}"
        (container,) = client.containers.list(filters={"label": label})
        (network,) = client.networks.list(filters={"label": label})
        described = json.dumps([container.attrs, network.attrs])
        assert "pytest-etcdtls" in container.labels
    assert not [text for text in ("s3cret", cluster.user[1], "PRIVATE KEY") if text in described]


@pytest.mark.parametrize(
    "config",
    [
        replace(GOOD, pki=PKIPlan(layout=CALayout.KUBEADM)),
        replace(GOOD, pki=PKIPlan(layout=CALayout.INTERMEDIATE)),
        replace(GOOD, config_file=True),
        replace(GOOD, client_crl_file="crl.der"),
        replace(GOOD, size=3, peer_cert_allowed_cn="etcd-peer"),
    ],
    ids=["kubeadm", "intermediate", "config-file", "crl", "allowed-cn"],
)
def test_configurations(start: Start, newest_image: str, config: ClusterConfig) -> None:
    cluster = start(config, newest_image)
    for member in cluster.members:
        assert get(member.client_url, member, "client", ca="server-ca.crt") == OK
        assert refused(member.client_url, member)
    if config.client_crl_file:
        assert refused(cluster.members[0].client_url, cluster.members[0], "revoked")


def test_files_outside_the_flags_are_found_in_the_container(start: Start, newest_image: str) -> None:
    """Client authentication without a CA means the system's roots; the image has none but these."""
    config = replace(
        GOOD,
        trusted_ca_file=None,
        environment={"SSL_CERT_FILE": "{pki}/client-ca.crt"},
    )
    (member,) = start(config, newest_image).members
    assert get(member.client_url, member) == OK
    assert refused(member.client_url, member)


def test_the_start_error_of_a_container_has_the_log_of_etcd(newest_image: str, tmp_path: Path) -> None:
    config = replace(GOOD, cert_file="missing.crt")
    version = newest_image.rpartition(":")[2]
    with pytest.raises(ClusterStartError) as caught:
        start_image(config, newest_image, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"etcd {version} ({newest_image}), member m0 at https://127.0.0.1:")
    assert "did not come up: it ended with status 1; its log ends:" in message
    assert "/etc/etcd/pki/missing.crt" in message
    assert list(tmp_path.iterdir()) == []


def test_an_engine_without_room_for_another_network(
    newest_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker has about thirty address ranges by default; to take them all would disturb others."""
    words = "could not find an available, non-overlapping IPv4 address pool"

    def create(*_: object, **_options: object) -> NoReturn:
        raise docker.errors.APIError(words)

    monkeypatch.setattr("docker.models.networks.NetworkCollection.create", create)
    with pytest.raises(ClusterStartError, match=f"the members get no network: .*{words}"):
        start_image(GOOD, newest_image, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.oldest_and_newest
def test_members_stop_and_start_with_data_and_log(start: Start, etcd_image: str) -> None:
    cluster = start(replace(GOOD, size=3), etcd_image)
    cluster.stop_member(1)
    first, second, _ = cluster.members
    assert [member.running for member in cluster.members] == [True, False, True]
    assert refused(second.client_url, second, "client")
    key = {"key": "a2V5", "value": "dmFsdWU="}
    assert first.gateway().post("/v3/kv/put", key)[0] == OK
    before = second.log()
    cluster.start_member(1)
    assert second.running
    assert second.log().startswith(before)
    answer = second.gateway().post("/v3/kv/range", {"key": "a2V5"})[1]
    assert answer["kvs"][0]["value"] == "dmFsdWU="
    cluster.restart()
    assert second.gateway().post("/v3/kv/range", {"key": "a2V5"})[1]["kvs"][0]["value"] == "dmFsdWU="


def test_a_restart_copies_the_current_files(start: Start, newest_image: str) -> None:
    cluster = start(GOOD, newest_image)
    (member,) = cluster.members
    bundle = member.file("client-ca.crt")
    bundle.write_bytes(bundle.read_bytes() + member.file("peer-ca.crt").read_bytes())
    assert refused(member.client_url, member, "peer-client")
    cluster.restart_member(0)
    assert get(member.client_url, member, "peer-client") == OK


def test_stop_leaves_nothing_but_the_log(start: Start, newest_image: str, tmp_path: Path) -> None:
    cluster = start(replace(GOOD, size=3), newest_image)
    assert len(left_behind(cluster.directory.name)) == 4
    cluster.stop()
    assert left_behind(cluster.directory.name) == []
    assert list(tmp_path.iterdir()) == []
    assert not cluster.members[0].running
    assert "serving client traffic" in cluster.members[0].log()
    cluster.stop()


@pytest.mark.parametrize("times", [1, 2])
def test_a_port_that_is_taken_during_the_start_is_replaced(
    start: Start, newest_image: str, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Another program takes the first port of the claim, then the second."""
    claims: list[PortClaim] = []
    with ExitStack() as stack:

        def claim_and_lose(count: int, host: str, *, skip: int = 0) -> PortClaim:
            claim = claim_ports(count, host, skip=skip)
            if len(claims) < times:
                other = stack.enter_context(socket.socket())
                # As etcd binds: connections of an earlier test may still be in TIME_WAIT there.
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind((host, claim.ports[len(claims)]))
                other.listen()
            claims.append(claim)
            return claim

        monkeypatch.setattr(home, "claim_ports", claim_and_lose)
        (member,) = start(GOOD, newest_image).members
        assert len(claims) == times + 1
        assert int(member.client_url.rpartition(":")[2]) == claims[-1].ports[0]
        assert get(member.client_url, member, ca="server-ca.crt") == OK


def test_ports_that_are_always_taken_are_a_start_error(
    newest_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        claim = PortClaim((taken, taken), None)
        monkeypatch.setattr(home, "claim_ports", lambda *_, **__: claim)
        with pytest.raises(PortTakenError, match=rf"the container engine refuses a port: .*{taken}"):
            start_image(GOOD, newest_image, tmp_path)
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


@pytest.mark.program("bash", "curl", "docker")
def test_a_kept_cluster_outlives_this_process_and_the_reaper(start: Start, newest_image: str) -> None:
    cluster = start(GOOD, newest_image, keep=True)
    cluster.stop()
    shown = keep_message(cluster)
    try:
        (member,) = cluster.members
        assert get(member.client_url, member, ca="server-ca.crt") == OK
        with engine() as client:
            (container,) = client.containers.list(
                filters={"label": f"pytest-etcdtls={cluster.directory.name}"}
            )
        assert LABEL_SESSION_ID not in container.labels
        curl = next(line.strip() for line in shown.splitlines() if line.strip().startswith("curl "))
        answer = subprocess.run(
            ["bash", "-c", curl], capture_output=True, encoding="utf-8", check=True
        ).stdout
        assert json.loads(answer)["etcdserver"] == cluster.version
    finally:
        stop = shown.splitlines()[-1].strip()
        subprocess.run(["bash", "-c", stop], check=True, stdout=subprocess.DEVNULL)
    assert left_behind(cluster.directory.name) == []
    assert not cluster.directory.exists()


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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "kill"])
def test_an_owner_that_is_killed_leaves_nothing_behind(
    newest_image: str, tmp_path: Path, number: signal.Signals
) -> None:
    program = Path(__file__).parent / "owner.py"
    with subprocess.Popen(
        [sys.executable, program, "image", newest_image, "3", tmp_path, "plain"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        encoding="utf-8",
    ) as owner:
        assert owner.stdout is not None
        state = json.loads(owner.stdout.readline())
        watchdog = os.pidfd_open(state["watchdog"])
        assert len(left_behind(state["token"])) == 4
        owner.send_signal(number)
        owner.wait(DEADLINE)
    try:
        assert select.select([watchdog], [], [], DEADLINE)[0], "the watchdog does not end"
    finally:
        os.close(watchdog)
    assert left_behind(state["token"]) == []
    assert not Path(state["directory"]).exists()


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
    with pytest.raises(
        ClusterStartError, match="network='nowhere': the container engine has no such network"
    ):
        start(replace(GOOD, network="nowhere"), etcd_image)
    with pytest.raises(
        UsageError, match=r"are for containers, and .* is a process: name the image of an etcd"
    ):
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
    command = [
        sys.executable,
        "-c",
        program.replace('"up"', '"up", "--exit-code-from", "service"'),
        repr(named),
    ]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, encoding="utf-8", check=False)
    finally:
        environment = os.environ | {"ETCD_NETWORK": "x", "ETCD_PKI": "x", "ETCD_ENDPOINTS": "x"}
        down = ["docker-compose", "rm", "--force", "--stop"]
        subprocess.run(down, cwd=directory, env=environment, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"{endpoint} is healthy" in done.stdout for endpoint in cluster.network_endpoints)


def test_the_service_of_the_page(etcd_image: str, tmp_path: Path) -> None:
    [example] = [code for code in fenced("docs/fixtures.md", "python") if "put_archive" in code]
    (tmp_path / "test_service.py").write_text(example, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir=.",
        "-c",
        os.devnull,
    ]
    environment = os.environ | {"ETCD_IMAGE": etcd_image}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
