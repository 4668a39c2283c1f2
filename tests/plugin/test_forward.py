"""A forward that ends at each reset, and is started again, gives the verdicts of direct connections."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from plugin.runs import Runner
from starting import start_process

from pytest_etcdtls import PRESETS
from pytest_etcdtls.cluster.cluster import Cluster
from pytest_etcdtls.cluster.ports import claim_ports
from pytest_etcdtls.observer import FORWARD_ENDED
from pytest_etcdtls.role import Role

FORWARD = Path(__file__).with_name("forward.py")
FEW = "--etcd-check=listener,mtls.no-certificate,mtls.foreign-ca,mtls.trusted-client,api.peer-members"


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(PRESETS["kubeadm"].config, newest_etcd) as started:
        yield started


@contextmanager
def forwarded(ports: dict[int, int], ended: Path, *, again: bool = True) -> Iterator[None]:
    """Forward ports of ours to those of an etcd.

    Args:
        ports: those of an etcd by ours.
        ended: gets a line each time that the forward ends.
        again: whether it is started again then.
    """
    words = [sys.executable, str(FORWARD), *(f"{ours}:{theirs}" for ours, theirs in ports.items())]
    once = f"{shlex.join(words)}; echo ended >> {shlex.quote(str(ended))}"
    loop = f"while :; do {once}; done" if again else once
    with subprocess.Popen(["sh", "-c", loop], start_new_session=True, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            for port in ports:
                while not _listens(port):
                    assert time.monotonic() < deadline
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.mark.whole
@pytest.mark.parametrize("checks", [FEW, "--etcd-max-connections=400"])
def test_verdicts_are_those_of_direct_connections(
    checks: str, run: Runner, cluster: Cluster, tmp_path: Path
) -> None:
    listeners = cluster.target().listeners
    pki = cluster.members[0].file("server.crt").parent
    options = [
        *("--pyargs", "pytest_etcdtls", f"--etcd-pki-dir={pki}", checks, "--etcd-timeout=30"),
        *(f"{listener.role.option}={listener.url}" for listener in listeners),
    ]
    direct = run(*options)
    ended = tmp_path / "ended"
    claim = claim_ports(len(listeners), "127.0.0.1")
    ports = dict(zip(claim.ports, (listener.port for listener in listeners), strict=True))
    rules = [f"--etcd-connect-to=127.0.0.1:{theirs}:127.0.0.1:{ours}" for ours, theirs in ports.items()]
    with forwarded(ports, ended):
        through = run(*options, *rules)
    claim.release()
    assert through.outcomes == direct.outcomes
    assert through.exit_code == direct.exit_code
    assert len(ended.read_text().split()) > 2


def test_one_that_is_not_started_again_is_the_reason(run: Runner, cluster: Cluster, tmp_path: Path) -> None:
    [listener] = [one for one in cluster.target().listeners if one.role is Role.CLIENT]
    claim = claim_ports(1, "127.0.0.1")
    [port] = claim.ports
    with forwarded({port: listener.port}, tmp_path / "ended", again=False):
        ran = run(
            *("--pyargs", "pytest_etcdtls", f"--etcd-endpoint={listener.url}", "--etcd-timeout=1"),
            f"--etcd-connect-to=127.0.0.1:{listener.port}:127.0.0.1:{port}",
            "--etcd-check=listener,mtls",
        )
    claim.release()
    assert FORWARD_ENDED in {one["reason"] for one in ran.report["results"]}
    assert "NO VERDICT" in ran.verdict
