"""Real clusters of processes, on every available etcd."""

from __future__ import annotations

import math
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.clients import get, refused
from cluster.conftest import Start, process_of
from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.etcd import ports
from pytest_etcdtls.etcd.admin import Gateway
from pytest_etcdtls.etcd.cluster import keep_message
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.ports import claim_ports
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.pki.profile import CALayout, PKIPlan

OK = 200
GOOD = ClusterConfig()


def _modes(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*") if path.is_file()}


def test_a_member_serves_its_own_clients_and_refuses_others(start: Start, etcd_binary: Path) -> None:
    cluster = start(GOOD, etcd_binary)
    (member,) = cluster.members
    assert get(member.client_url, member, "client", ca="server-ca.crt") == OK
    assert get(member.peer_url, member, "peer-client", ca="peer-ca.crt") == OK
    assert refused(member.client_url, member)
    assert refused(member.peer_url, member, "client")
    assert cluster.version == binary_version(etcd_binary)
    assert (cluster.origin, cluster.source) == ("process", str(etcd_binary))


@pytest.mark.parametrize("size", [3, 5])
def test_several_members_form_one_cluster(start: Start, etcd_binary: Path, size: int) -> None:
    cluster = start(replace(GOOD, size=size), etcd_binary)
    assert [member.name for member in cluster.members] == [f"m{index}" for index in range(size)]
    assert all(member.running for member in cluster.members)
    assert [get(member.client_url, member, path="/health") for member in cluster.members] == [OK] * size


@pytest.mark.ipv6
def test_several_members_on_ipv6(start: Start, newest_etcd: Path) -> None:
    cluster = start(replace(GOOD, size=3, host="::1"), newest_etcd)
    assert all(get(m.client_url, m, ca="server-ca.crt", path="/health") == OK for m in cluster.members)


@pytest.mark.ipv6
def test_every_configured_listener_is_served(start: Start, etcd_binary: Path) -> None:
    config = replace(GOOD, plain_client_listener=True, metrics="https", host="::1")
    (member,) = start(config, etcd_binary).members
    assert member.plain_client_url is not None
    assert member.metrics_url is not None
    assert member.client_http_url is None
    assert "[::1]" in member.client_url
    assert get(member.client_url, member, ca="server-ca.crt") == OK
    assert get(member.plain_client_url, member) == OK
    assert get(member.metrics_url, member, path="/metrics") == OK
    assert refused(member.metrics_url, member)


def test_http_metrics_and_a_shared_port(start: Start, etcd_binary: Path) -> None:
    (member,) = start(replace(GOOD, plaintext_on_client_port=True, metrics="http"), etcd_binary).members
    assert member.plain_client_url is None
    assert member.metrics_url is not None
    assert get(member.metrics_url, member, path="/metrics") == OK
    assert get(member.client_url, member) == OK
    assert get(member.client_url.replace("https://", "http://"), member) == OK
    assert refused(member.client_url, member)


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


def test_the_start_error_ends_with_the_log_of_etcd(start: Start, etcd_binary: Path, tmp_path: Path) -> None:
    with pytest.raises(ClusterStartError) as caught:
        start(replace(GOOD, cipher_suites=("TLS_NONSENSE",)), etcd_binary)
    first, *log = str(caught.value).splitlines()
    assert re.search(
        rf"etcd {re.escape(binary_version(etcd_binary))} .*m0 at https://127\.0\.0\.1:\d+", first
    )
    assert first.endswith("its log ends:")
    assert 0 < len(log) <= 40
    assert "TLS_NONSENSE" in "\n".join(log)
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


def test_taken_ports_are_replaced(start: Start, etcd_binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program takes a port between the claim and the start of etcd."""
    look = ports._is_free
    claim = claim_ports(1, "127.0.0.1")
    claim.release()
    taken = claim.ports[0]
    monkeypatch.setattr(ports, "_is_free", lambda host, port: port == taken or look(host, port))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", taken))
        other.listen()
        (member,) = start(replace(GOOD, metrics="http"), etcd_binary).members
        assert get(member.client_url, member) == OK
    assert f":{taken}" not in member.client_url
    assert "address already in use" not in member.log()


def test_the_start_fails_after_five_attempts_with_taken_ports(
    start: Start, newest_etcd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_etcdtls.etcd.ports._is_free", lambda host, port: True)
    with ExitStack() as stack:
        for attempt in range(5):
            other = stack.enter_context(socket.socket())
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            claim = claim_ports(1, "127.0.0.1", skip=attempt)
            # One that cannot be bound is taken by somebody else, which is as good.
            with suppress(OSError):
                other.bind(("127.0.0.1", claim.ports[0]))
                other.listen()
            claim.release()
        with pytest.raises(ClusterStartError, match="one of its ports is taken; its log ends:"):
            start(GOOD, newest_etcd)
    assert list(tmp_path.iterdir()) == []


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


def test_etcd_variables_of_the_user_do_not_reach_etcd(
    start: Start, etcd_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_LISTEN_METRICS_URLS", "http://127.0.0.1:1")
    monkeypatch.setenv("ETCD_CLIENT_CERT_AUTH", "nonsense")
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "https://elsewhere.example:2379")
    monkeypatch.setenv("GODEBUG", "tlsrsakex=1")
    (member,) = start(replace(GOOD, client_cert_auth=False, trusted_ca_file=None), etcd_binary).members
    environment = Path(f"/proc/{process_of(member).pid}/environ").read_text(encoding="utf-8").split("\0")
    assert [each for each in environment if each.startswith(("ETCD", "GODEBUG"))] == []
    assert get(member.client_url, member, None) == OK


def test_files_are_private_and_nothing_of_them_is_shown(start: Start, newest_etcd: Path) -> None:
    cluster = start(replace(GOOD, extra_files={"extra.key": b"secret"}), newest_etcd)
    assert stat.S_IMODE(cluster.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(cluster.pki_directory.stat().st_mode) == 0o700
    assert _modes(cluster.pki_directory) == {0o600}
    assert _modes(process_of(cluster.members[0]).log_file.parent) <= {0o600}
    shown = repr(cluster.members) + repr(cluster.target())
    assert "PRIVATE KEY" not in shown
    assert "secret" not in shown


def test_the_command_line_can_be_shown(start: Start, newest_etcd: Path) -> None:
    config = replace(GOOD, extra_flags=("--trusted-ca-file={pki}/server-ca.crt",))
    cluster = start(config, newest_etcd)
    argv = cluster.members[0].argv
    assert argv[0] == str(newest_etcd)
    assert f"--cert-file={cluster.pki_directory}/m0/server.crt" in argv
    assert argv[-1] == f"--trusted-ca-file={cluster.pki_directory}/server-ca.crt"


def test_members_stop_and_start_with_their_data(start: Start, etcd_binary: Path) -> None:
    cluster = start(replace(GOOD, size=3), etcd_binary)
    cluster.stop_member(1)
    assert [member.running for member in cluster.members] == [True, False, True]
    survivor = cluster.members[0]
    assert get(survivor.client_url, survivor, path="/health") == OK
    before = cluster.members[1].log()
    cluster.start_member(1)
    assert cluster.members[1].running
    assert cluster.members[1].log().startswith(before)
    assert get(cluster.members[1].client_url, cluster.members[1], path="/health") == OK


def test_a_restart_reads_the_current_files(start: Start, etcd_binary: Path) -> None:
    cluster = start(GOOD, etcd_binary)
    (member,) = cluster.members
    assert refused(member.client_url, member, "peer-client")
    bundle = member.file("client-ca.crt")
    bundle.write_bytes(bundle.read_bytes() + member.file("peer-ca.crt").read_bytes())
    cluster.restart_member(0)
    assert get(member.client_url, member, "peer-client") == OK
    cluster.restart()
    assert get(member.client_url, member, "peer-client") == OK


def test_kubeadms_layout(start: Start, etcd_binary: Path) -> None:
    cluster = start(replace(GOOD, pki=PKIPlan(layout=CALayout.KUBEADM)), etcd_binary)
    (member,) = cluster.members
    assert member.pki_directory == cluster.pki_directory / "m0" / "etcd"
    assert get(member.client_url, member, "client", ca="server-ca.crt") == OK
    assert get(member.peer_url, member, "peer-client") == OK


def test_a_pki_that_cannot_be_generated_is_a_usage_error(
    start: Start, newest_etcd: Path, tmp_path: Path
) -> None:
    plan = PKIPlan(server=replace(PKIPlan().server, key_usage=frozenset({"no such usage"})))
    with pytest.raises(UsageError, match="the PKI that the cluster shall have cannot be generated"):
        start(replace(GOOD, pki=plan), newest_etcd)
    assert list(tmp_path.iterdir()) == []


def test_stop_may_be_called_twice(start: Start, etcd_binary: Path) -> None:
    cluster = start(replace(GOOD, size=3), etcd_binary)
    cluster.stop()
    cluster.stop()
    assert not any(member.running for member in cluster.members)
    assert not cluster.directory.exists()


@pytest.mark.program("curl")
def test_a_kept_cluster_keeps_running_and_its_commands_work(
    start: Start, etcd_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENDPOINTS", "CERT", "USER"):
        monkeypatch.setenv(f"ETCDCTL_{name}", "of another cluster")
    cluster = start(replace(GOOD, authentication=True), etcd_binary, keep=True)
    cluster.stop()
    try:
        (member,) = cluster.members
        assert get(member.client_url, member) == OK
        assert member.file("client-ca.key").exists()
        lines = keep_message(cluster).splitlines()
        curl = next(line for line in lines if line.strip().startswith("curl"))
        answer = subprocess.run(curl, shell=True, capture_output=True, encoding="utf-8", check=True)  # noqa: S602
        assert '"etcdserver"' in answer.stdout
        etcdctl = etcd_binary.parent / "etcdctl"
        if etcdctl.exists():
            line = next(line for line in lines if " etcdctl " in f" {line}")
            assert "--user" not in line, "other users can read arguments"
            line = line.replace("etcdctl", str(etcdctl), 1)
            answer = subprocess.run(line, shell=True, capture_output=True, encoding="utf-8", check=True)  # noqa: S602
            assert cluster.version in answer.stdout
    finally:
        subprocess.run(keep_message(cluster).splitlines()[-1], shell=True, check=True)  # noqa: S602
    assert not cluster.directory.exists()


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
        print(str(error).splitlines()[0])

HARD = 150
start(HARD)
start(len(os.listdir("/dev/fd")))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    of_etcd, of_python = ran.stdout.splitlines()
    assert (
        "ended with status 1, since it may open 150 files and needs more than 150: raise that with ulimit -n;"
        in of_etcd
    )
    assert re.search(
        r"Too many open files; this process may open \d+ files: raise that with ulimit -n, or", of_python
    )


def test_a_member_that_dies_is_not_running(start: Start, newest_etcd: Path) -> None:
    cluster = start(GOOD, newest_etcd)
    (member,) = cluster.members
    process_of(member).signal(signal.SIGKILL)
    assert process_of(member).wait(60)
    assert not member.running
