"""What clusters of processes and of containers have in common."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.clients import get, refused
from cluster.conftest import Start, left_behind
from pytest_etcdtls.errors import ClusterStartError
from pytest_etcdtls.etcd import home
from pytest_etcdtls.etcd.cluster import keep_message
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.ports import PortClaim, PortTakenError, claim_ports
from pytest_etcdtls.etcd.sources import EtcdSource, find_etcd

OK = 200
GOOD = ClusterConfig()
KEY = {"key": "a2V5"}


IN_A_CONTAINER = pytest.param("container", marks=[pytest.mark.container, pytest.mark.program("docker")])


@pytest.fixture(params=["process", IN_A_CONTAINER])
def etcd(request: pytest.FixtureRequest) -> EtcdSource:
    """The newest etcd, as a process and in a container."""
    if request.param == "process":
        return find_etcd(binary=request.getfixturevalue("newest_etcd"))
    return find_etcd(image=request.getfixturevalue("newest_image"))


def test_members_serve_their_own_clients_and_are_stopped_and_started(
    start: Start, etcd: EtcdSource, tmp_path: Path
) -> None:
    cluster = start(replace(GOOD, size=3), etcd)
    assert [member.name for member in cluster.members] == ["m0", "m1", "m2"]
    assert (cluster.origin, cluster.source, cluster.version) == (etcd.kind, etcd.location, etcd.version)
    first, second, _ = cluster.members
    for member in cluster.members:
        assert get(member.client_url, member, "client", ca="server-ca.crt", path="/health") == OK
        assert get(member.peer_url, member, "peer-client", ca="peer-ca.crt") == OK
        assert refused(member.client_url, member)
        assert refused(member.peer_url, member, "client")
    listed = first.gateway().post("/v3/cluster/member/list", {})[1]["members"]
    assert {url for member in listed for url in member["clientURLs"]} == {*cluster.endpoints}
    cluster.stop_member(1)
    assert [member.running for member in cluster.members] == [True, False, True]
    assert refused(second.client_url, second, "client")
    assert first.gateway().post("/v3/kv/put", KEY | {"value": "dmFsdWU="})[0] == OK
    before = second.log()
    cluster.start_member(1)
    assert second.running
    assert second.log().startswith(before)
    cluster.restart()
    assert second.gateway().post("/v3/kv/range", KEY)[1]["kvs"][0]["value"] == "dmFsdWU="
    cluster.stop()
    cluster.stop()
    assert not any(member.running for member in cluster.members)
    assert left_behind(cluster.directory.name) == []
    assert list(tmp_path.iterdir()) == []


def test_the_start_error_ends_with_the_log_of_etcd(start: Start, etcd: EtcdSource, tmp_path: Path) -> None:
    with pytest.raises(ClusterStartError) as caught:
        start(replace(GOOD, cert_file="missing.crt"), etcd)
    first, *log = str(caught.value).splitlines()
    assert first.startswith(f"etcd {etcd.version} ({etcd.location}), member m0 at https://127.0.0.1:")
    assert first.endswith("did not start: it ended with status 1; its log ends:")
    assert 0 < len(log) <= 40
    assert "/pki/missing.crt" in "\n".join(log)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_port_that_is_taken_during_the_start_is_replaced(
    start: Start, etcd: EtcdSource, monkeypatch: pytest.MonkeyPatch, times: int
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
        (member,) = start(GOOD, etcd).members
        assert len(claims) == times + 1
        assert member.port == claims[-1].ports[0]
        assert get(member.client_url, member, ca="server-ca.crt") == OK
    assert "address already in use" not in member.log()


def test_ports_that_are_always_taken_are_a_start_error(
    start: Start, etcd: EtcdSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        claim = PortClaim((taken, taken), None)
        monkeypatch.setattr(home, "claim_ports", lambda *_, **__: claim)
        with pytest.raises(
            PortTakenError, match=r"the container engine refuses a port|one of its ports is taken"
        ):
            start(GOOD, etcd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.program("bash", "curl")
def test_a_kept_cluster_keeps_running_and_its_commands_work(
    start: Start, etcd: EtcdSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENDPOINTS", "CERT", "USER"):
        monkeypatch.setenv(f"ETCDCTL_{name}", "of another cluster")
    cluster = start(replace(GOOD, authentication=True), etcd, keep=True)
    cluster.stop()
    lines = [line.strip() for line in keep_message(cluster).splitlines()]

    def pasted(line: str) -> str:
        return subprocess.check_output(["bash", "-c", line], encoding="utf-8")

    try:
        (member,) = cluster.members
        assert get(member.client_url, member) == OK
        assert member.file("client-ca.key").exists()
        assert f'"etcdserver":"{cluster.version}"' in pasted(
            next(one for one in lines if one.startswith("curl "))
        )
        etcdctl = Path(etcd.location).with_name("etcdctl")
        if etcdctl.exists():
            line = next(line for line in lines if " etcdctl " in f" {line}")
            assert "--user" not in line, "other users can read arguments"
            assert cluster.version in pasted(line.replace("etcdctl", str(etcdctl), 1))
    finally:
        pasted(lines[-1])
    assert left_behind(cluster.directory.name) == []
    assert not cluster.directory.exists()
