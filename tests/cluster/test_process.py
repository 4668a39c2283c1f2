"""Real clusters of processes, on every available etcd."""

from __future__ import annotations

import math
import re
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.conftest import Start
from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.etcd.admin import Gateway
from pytest_etcdtls.etcd.cluster import keep_message
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.pki.profile import SERVER, PKIPlan

GOOD = ClusterConfig()


def _modes(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*") if path.is_file()}


@pytest.mark.etcd_version("3.4", "3.5.1")
@pytest.mark.parametrize(
    ("config", "flag"),
    [
        (replace(GOOD, client_http=True), "listen-client-http-urls"),
        (replace(GOOD, tls_min_version="TLS1.2"), "tls-min-version"),
    ],
)
def test_an_unsupported_configuration_leaves_nothing_behind(
    start: Start, etcd_binary: Path, tmp_path: Path, config: ClusterConfig, flag: str
) -> None:
    with pytest.raises(UsageError, match=f"etcd {binary_version(etcd_binary)} has no --{flag}"):
        start(config, etcd_binary)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stops_time", [False, True], ids=["", "in a test that stops time"])
def test_a_cluster_without_leader_is_given_up(
    start: Start, newest_etcd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stops_time: bool
) -> None:
    if stops_time:
        monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
        monkeypatch.setattr(subprocess, "_time", lambda: 1000.0)  # as freezegun does
    config = replace(GOOD, size=3, peer_trusted_ca_file="client-ca.crt", expects_health=False)
    with pytest.raises(ClusterStartError, match=r"m0 at .*: it does not serve clients after 2 s"):
        start(config, newest_etcd, seconds=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "config",
    [
        replace(GOOD, trusted_ca_file="peer-ca.crt"),
        replace(GOOD, client_crl_file="missing.der"),
    ],
    ids=["another CA", "no CRL where one should be"],
)
def test_the_start_ends_at_once_if_etcd_refuses_the_client_of_its_cluster(
    start: Start, etcd_binary: Path, config: ClusterConfig
) -> None:
    with pytest.raises(
        ClusterStartError, match=r"m0 at .* it refuses the client of this cluster .*expects_health"
    ):
        start(config, etcd_binary, seconds=math.inf)


def test_certificates_of_a_moved_clock_are_explained(
    start: Start, newest_etcd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "the time of this process is .* etcd has the time of the system: start the cluster before"
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with pytest.raises(ClusterStartError, match=rf"is not started; {said}"):
        start(GOOD, newest_etcd)
    yesterday = time.clock_gettime(time.CLOCK_REALTIME) - 86400.0
    monkeypatch.setattr(time, "time", lambda: yesterday)
    with pytest.raises(ClusterStartError, match=rf"it refuses the client of this cluster .*; {said}"):
        start(replace(GOOD, trusted_ca_file="peer-ca.crt"), newest_etcd)
    start(GOOD, newest_etcd).stop()


def test_a_binary_that_is_no_longer_executable_is_a_start_error(
    start: Start, newest_etcd: Path, tmp_path: Path
) -> None:
    wrapper = _wrapper(tmp_path / "etcd", f'exec {newest_etcd} "$@"')
    start(GOOD, wrapper).stop()
    wrapper.chmod(0o600)
    with pytest.raises(ClusterStartError, match=r"m0 at .*: it cannot be run: .*; its log is empty"):
        start(GOOD, wrapper)


def test_an_etcd_that_ends_before_it_is_healthy_is_a_start_error(
    start: Start, newest_etcd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gateway, "health", lambda _: "HTTP status 503, {}")
    wrapper = _wrapper(tmp_path / "etcd", f'exec timeout 1 {newest_etcd} "$@"')
    with pytest.raises(ClusterStartError, match="it has ended; last answer: HTTP status 503"):
        start(GOOD, wrapper)
    with pytest.raises(ClusterStartError, match="not healthy after 1 s: HTTP status 503"):
        start(GOOD, newest_etcd, seconds=1)


def _wrapper(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o700)
    return path


def test_files_are_private_and_nothing_of_them_is_shown(start: Start, newest_etcd: Path) -> None:
    cluster = start(replace(GOOD, extra_files={"extra.key": b"secret"}), newest_etcd)
    assert stat.S_IMODE(cluster.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(cluster.pki_directory.stat().st_mode) == 0o700
    assert _modes(cluster.pki_directory) == {0o600}
    assert list(cluster.pki_directory.rglob("*-ca.key")) == []
    server = cluster.members[0].server
    assert isinstance(server, EtcdProcess)
    assert _modes(server.log_file.parent) <= {0o600}
    shown = repr(cluster.members) + repr(cluster.target())
    assert "PRIVATE KEY" not in shown
    assert "secret" not in shown


def test_a_pki_that_cannot_be_generated_is_a_usage_error(
    start: Start, newest_etcd: Path, tmp_path: Path
) -> None:
    plan = PKIPlan(server=replace(PKIPlan().server, key_usage=frozenset({"no such usage"})))
    with pytest.raises(UsageError, match="the cluster's PKI cannot be generated"):
        start(replace(GOOD, pki=plan), newest_etcd)
    assert list(tmp_path.iterdir()) == []


def test_limits_of_open_files_are_named(newest_etcd: Path) -> None:
    """etcd's own, which it inherits and must be above 150, and that of the process that starts clusters."""
    program = f"""
import os, resource
from pytest_etcdtls import EtcdTLSError, start_cluster

def start(limit):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, HARD))
    try:
        start_cluster(binary={str(newest_etcd)!r})
    except EtcdTLSError as error:
        print(" ".join(str(error).splitlines()))

HARD = 150
start(HARD)
start(len(os.listdir("/dev/fd")))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    of_etcd, of_python = ran.stdout.splitlines()
    assert "file descriptor limit of etcd process is too low" in of_etcd
    assert re.search(
        r"Too many open files; this process may open \d+ files: raise that with ulimit -n, or", of_python
    )


def test_the_password_is_in_a_private_file_and_never_shown(start: Start, newest_etcd: Path) -> None:
    cluster = start(replace(GOOD, authentication=True), newest_etcd)
    assert cluster.user is not None
    password = cluster.user[1]
    file = cluster.directory / "root-password"
    assert file.read_text(encoding="utf-8") == password
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = [repr(cluster), repr(cluster.target()), keep_message(cluster), cluster.members[0].log()]
    assert not any(password in text for text in [*shown, *cluster.members[0].argv])


def test_a_gateway_that_fails_cannot_enable_authentication(start: Start, etcd_binary: Path) -> None:
    """etcd's gateway dials etcd with the served certificate, which here has no clientAuth."""
    plan = PKIPlan(server=replace(SERVER, extended_key_usage=("serverAuth",)))
    with pytest.raises(ClusterStartError, match="cannot be administered: auth/user/add: status 503"):
        start(replace(GOOD, authentication=True, pki=plan), etcd_binary)
