from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_etcdtls.errors import ClusterStartError
from pytest_etcdtls.etcd import ports
from pytest_etcdtls.etcd.ports import claim_ports

CLAIM = """
import json, sys
from pytest_etcdtls.etcd import ports
ports.os.getpid = lambda: 7  # all begin at the same block
claim = ports.claim_ports(25, "127.0.0.1")
print(json.dumps(claim.ports), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claim = claim_ports(1, "127.0.0.1")
        listener.bind(("127.0.0.1", claim.ports[0]))
        listener.listen()
        claim.release()
        yield listener


def test_concurrent_processes_never_share_a_port() -> None:
    with ExitStack() as stack:
        claimants = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CLAIM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    encoding="utf-8",
                )
            )
            for _ in range(6)
        ]
        claimed = [port for each in claimants for port in json.loads(each.stdout.readline())]  # type: ignore[union-attr]
        for each in claimants:
            each.communicate()
    assert len(claimed) == len(set(claimed)) == 6 * 25


def test_two_claims_of_one_process_do_not_overlap_until_released() -> None:
    first, second = claim_ports(25, "127.0.0.1"), claim_ports(25, "127.0.0.1")
    assert not set(first.ports) & set(second.ports)
    first.release()
    first.release()
    again = claim_ports(25, "127.0.0.1")
    assert again.ports == first.ports
    second.release()
    again.release()


def test_a_port_in_use_is_left_out(taken: socket.socket) -> None:
    claim = claim_ports(25, "127.0.0.1")
    assert taken.getsockname()[1] not in claim.ports
    claim.release()


@pytest.mark.parametrize("first_ephemeral", [24000, 32768])
def test_claims_are_below_the_ephemeral_range(
    first_ephemeral: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ip_local_port_range").write_text(f"{first_ephemeral}\t60999\n", encoding="utf-8")
    monkeypatch.setattr(ports, "_EPHEMERAL", tmp_path / "ip_local_port_range")
    claim = claim_ports(32, "127.0.0.1")
    assert max(claim.ports) < first_ephemeral
    claim.release()


def test_blocks_are_skipped_after_a_failure() -> None:
    own, following, *_ = ports._blocks(0)
    assert next(ports._blocks(1)) == following
    claim = claim_ports(1, "127.0.0.1", skip=1)
    # Others may have taken some of its ports, or the whole of it.
    assert claim.ports[0] not in range(own, own + 33)
    claim.release()


def test_a_block_whose_first_port_is_taken_is_left_out() -> None:
    first = claim_ports(1, "127.0.0.1")
    start = first.ports[0] - (first.ports[0] - 20000) % 33
    first.release()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", start))
        claim = claim_ports(1, "127.0.0.1")
        assert claim.ports[0] not in range(start, start + 33)
        claim.release()


def test_a_claim_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with claim_ports(3, "127.0.0.1")._guard:  # type: ignore[union-attr]
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", [None, "1024\t65535\n", "nonsense"])
def test_the_default_ephemeral_range_is_used_if_it_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str | None
) -> None:
    file = tmp_path / "ip_local_port_range"
    if setting is not None:
        file.write_text(setting, encoding="utf-8")
    monkeypatch.setattr("pytest_etcdtls.etcd.ports._EPHEMERAL", file)
    claim = claim_ports(32, "127.0.0.1")
    claim.release()
    assert max(claim.ports) < 32768


@pytest.mark.ipv6
def test_ports_of_ipv6_loopback_are_claimed() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claim = claim_ports(1, "::1")
        listener.bind(("::1", claim.ports[0]))
        claim.release()


def test_a_claim_larger_than_a_block_is_refused() -> None:
    with pytest.raises(ClusterStartError, match="no block of 33 free ports on"):
        claim_ports(33, "127.0.0.1")


TAKEN = """
import socket
from pathlib import Path
from pytest_etcdtls import ClusterStartError, start_cluster

def start(size):
    try:
        with start_cluster(binary={binary!r}, size=size):
            print("started")
    except ClusterStartError as error:
        print(str(error).splitlines()[0])

Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("32768 32800")
held = [socket.create_server(("0.0.0.0", port)) for port in range(32768, 32801)]
start(1)
start(3)
while len(held) > 10:
    held.pop().close()
start(1)
held += [socket.create_server(("0.0.0.0", port)) for port in range(20000, 32768)]
start(1)
"""


@pytest.mark.program("ip", "unshare")
def test_a_host_without_free_ports(newest_etcd: Path) -> None:
    setup = 'ip link set lo up && ulimit -n $(ulimit -H -n) && exec "$0" -c "$1"'
    program = TAKEN.format(binary=str(newest_etcd))
    command = ["unshare", "--net", "sh", "-c", setup, sys.executable, program]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=100)
    if "unshare failed" in done.stderr:
        pytest.skip(f"needs the right to make a network namespace: {done.stderr.strip()}")
    one, three, started, none = done.stdout.splitlines() or [done.stderr]
    for line in (one, three):
        assert "did not come up: every local port for connections is in use" in line, done.stderr
        assert "(net.ipv4.ip_local_port_range: 32768-32800): end what holds them, which ss -tan shows" in line
    assert started == "started"
    assert none == (
        "no block of 2 free ports on 127.0.0.1 from 20000 to 32767: all are in use: end what listens there, "
        "which ss -tlnp shows"
    )


@pytest.mark.program("ip", "unshare")
def test_a_host_that_has_no_ipv4(newest_etcd: Path) -> None:
    program = f"""
from pytest_etcdtls import ClusterStartError, start_cluster
with start_cluster(binary={str(newest_etcd)!r}, size=3) as cluster, cluster.client() as client:
    assert client.get("/version").status_code == 200
    print([member.host for member in cluster.members])
try:
    start_cluster(binary={str(newest_etcd)!r}, host="127.0.0.1")
except ClusterStartError as error:
    print(error)
"""
    setup = 'ip link set lo up && ip addr del 127.0.0.1/8 dev lo && exec "$0" -c "$1"'
    command = ["unshare", "--net", "sh", "-c", setup, sys.executable, program]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if "unshare failed" in done.stderr:
        pytest.skip(f"needs the right to make a network namespace: {done.stderr.strip()}")
    assert done.stdout.splitlines() == [
        "['::1', '::1', '::1']",
        "no port can be bound on 127.0.0.1: this host does not have that address; it has ::1",
    ], done.stderr
