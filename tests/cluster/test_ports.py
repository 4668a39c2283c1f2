"""Ports are claimed: no two processes get the same, and none that another program may be given."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
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


def test_claims_do_not_overlap_until_released_and_leave_out_ports_in_use() -> None:
    first, second = claim_ports(25, "127.0.0.1"), claim_ports(25, "127.0.0.1")
    assert not set(first.ports) & set(second.ports)
    first.release()
    first.release()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", first.ports[3]))
        listener.listen()
        again = claim_ports(25, "127.0.0.1")
    assert set(again.ports) - set(first.ports)
    assert first.ports[3] not in again.ports
    second.release()
    again.release()


@pytest.mark.parametrize(
    ("setting", "first_ephemeral"),
    [
        ("24000\t60999\n", 24000),
        ("1024\t65535\n", 32768),
        (None, 32768),
    ],
)
def test_claims_are_below_the_ephemeral_range(
    setting: str | None, first_ephemeral: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default range where it cannot be read, or was lowered below all claims."""
    file = tmp_path / "ip_local_port_range"
    if setting is not None:
        file.write_text(setting, encoding="utf-8")
    monkeypatch.setattr(ports, "_EPHEMERAL", file)
    claim = claim_ports(32, "127.0.0.1")
    claim.release()
    assert max(claim.ports) < first_ephemeral


def test_a_host_without_the_address() -> None:
    message = "192.0.2.1: this host does not have that address; the other one is host='::1'"
    with pytest.raises(ClusterStartError, match=message):
        claim_ports(1, "192.0.2.1")


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
        assert "did not start: every local port for connections is in use" in line, done.stderr
        assert "(net.ipv4.ip_local_port_range: 32768-32800): end what holds them, which ss -tan shows" in line
    assert started == "started"
    assert none == (
        "no block of 2 free ports on 127.0.0.1 from 20000 to 32767: all are in use: end what listens there, "
        "which ss -tlnp shows"
    )
