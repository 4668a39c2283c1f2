"""A listener on a Unix domain socket is judged by way of its process, and nobody else's socket is."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from kubeadm.judging import judged
from live.test_commands_to_paste import paste
from plugin.runs import Runner, run
from starting import start_process

from process.containers import (
    Container,
    as_root,
    assert_nothing_changes,
    container,
    in_each_network,
    target,
    targets,
)
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Target
from pytest_etcdtls.versions import version_key

__all__ = ["prefix", "run"]

prefix = in_each_network
pytestmark = as_root

PATH, PLAIN = "/run/client.sock", "/run/plain.sock"
OPEN = replace(ClusterConfig(), client_cert_auth=False, trusted_ca_file=None)


@contextmanager
def started(config: ClusterConfig, binary: Path, url: str, directory: Path, peer: str = "") -> Iterator[int]:
    """Start an etcd of which a socket is the only client listener, and yield its process ID.

    With ``peer`` it is the only peer listener.
    """
    path = directory / url.partition("://")[2]
    with start_process(config, binary) as cluster:
        server = cluster.members[0].server
        assert isinstance(server, EtcdProcess)
        cluster.stop_member(0)
        flags = (word for word in server.launch.arguments if not word.startswith("--listen-client-urls="))
        with (directory / "log").open("wb") as log:
            argv = [server.program, *flags, f"--listen-client-urls={url}"]
            if peer:
                argv = [word for word in argv if not word.startswith("--listen-peer-urls=")]
                argv.append(f"--listen-peer-urls={peer}")
            process = subprocess.Popen(argv, cwd=directory, stdout=log, stderr=log)
        try:
            while not path.exists():
                assert process.poll() is None
            yield process.pid
        finally:
            process.kill()
            process.wait()


RELATIVE = "unixs://localhost:9"
"""A URL of the form that every version takes: the name is a path in the working directory."""


@pytest.mark.etcd_version("3.4", "3.5.1", "3.5", "3.6", "3.7")
def test_the_only_client_listener(etcd_binary: Path, tmp_path: Path, run: Runner) -> None:
    """It is clean, its log names no stranger, and the restart is rehearsed on a socket of its own."""
    with started(ClusterConfig(), etcd_binary, RELATIVE, tmp_path) as pid:
        options = ("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", "--etcd-rehearse")
        ran = run(*options, f"--etcd-log={tmp_path / 'log'}")
    assert ran.verdict.startswith(f"etcd TLS: CLEAN, ALSO AFTER A RESTART (m0: {RELATIVE}, etcd "), ran.out
    assert " rejected connections are ours, 0 are not" in ran.out


@pytest.mark.etcd_version("3.4", "3.5.1", "3.5", "3.6", "3.7")
def test_no_port_at_all(etcd_binary: Path, tmp_path: Path, pids: list[int]) -> None:
    """It is found among all processes, and both sockets are judged."""
    with started(ClusterConfig(), etcd_binary, RELATIVE, tmp_path, peer="unixs://localhost:10") as pid:
        pids.append(pid)
        [live] = targets(etcd_pid="auto")
        [declared] = judged(live, "config.listeners-as-declared")
    assert [one.is_socket for one in live.listeners] == [True] * 2
    serves_tls = version_key(binary_version(etcd_binary)) < (3, 5)  # transport.newListener: not for peers
    assert ("no TLS on a Unix domain socket for peers or metrics" in declared.message) != serves_tls
    assert (declared.outcome is Outcome.CONFORMS) == serves_tls


@pytest.mark.etcd_version("3.4", "3.5.1", "3.5", "3.6", "3.7")
def test_everybody_is_let_in(etcd_binary: Path, tmp_path: Path, run: Runner) -> None:
    with started(OPEN, etcd_binary, RELATIVE, tmp_path) as pid:
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}")
    assert ran.verdict.startswith("etcd TLS: NOT CLEAN: 1 fault ("), ran.out
    assert "1. mtls.no-certificate (critical) on client-" in ran.out


@pytest.mark.program("curl", "openssl")
@pytest.mark.etcd_version("3.6")
def test_commands_to_paste(etcd_binary: Path, tmp_path: Path) -> None:
    """They reach the socket in the root directory of its process."""
    config = replace(OPEN, extra_flags=("--enable-pprof",))
    with started(config, etcd_binary, f"unixs://{tmp_path}/client.sock", tmp_path) as pid:
        [live] = targets(etcd_pid=str(pid))
        results = [one for one in judged(live, "mtls", "cert", "api") if one.role == Role.CLIENT]
        findings = [finding for one in results for finding in one.findings]
        commands = [command for finding in findings for command in finding.commands]
        outputs = {command: paste(command, tmp_path, etcd_binary) for command in commands}
    for command, output in outputs.items():
        look = command.partition("\n# look for ")[2]
        wanted = re.findall('"([^"]+)"', look) + (["HTTP/"] if "HTTP status" in look else [])
        assert any(word in output for word in wanted), f"{command}\n{output}"
        assert f"/proc/{pid}/root{tmp_path}/client.sock" in command
    programs = {word for command in commands for word in command.split()}
    assert {"curl", "openssl"} <= programs
    assert "etcdctl" in programs or not etcd_binary.with_name("etcdctl").exists()


@pytest.mark.etcd_version("3.6")
def test_what_etcds_client_verifies(etcd_binary: Path, tmp_path: Path) -> None:
    """The warning is true: etcdctl expects the name of the file, and takes a certificate that has it."""
    etcdctl = etcd_binary.with_name("etcdctl")
    if not etcdctl.exists():
        pytest.skip(f"needs etcdctl beside {etcd_binary}")
    for name, outcome in (("client.sock", Outcome.WARNS), ("localhost", Outcome.CONFORMS)):
        directory = tmp_path / name
        directory.mkdir()
        url = f"unixs://{directory / name}"
        with started(OPEN, etcd_binary, url, directory) as pid:
            [live] = targets(etcd_pid=str(pid))
            arguments = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
            [certificate] = [word for word in arguments if word.startswith("--cert-file=")]
            authority = Path(certificate.partition("=")[2]).parents[1] / "server-ca.crt"
            words = [str(etcdctl), f"--endpoints={url}", f"--cacert={authority}", "endpoint", "health"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            [found] = judged(live, "cert.covers-endpoint")[:1]
        assert found.outcome is outcome
        assert (done.returncode == 0) is (outcome is Outcome.CONFORMS), done.stderr


@pytest.fixture(scope="module")
def node(
    newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory, prefix: tuple[str, ...]
) -> Iterator[Container]:
    if binary_version(newest_etcd) == "3.5.1":
        pytest.skip("not to be expressed in this version: etcd 3.5.1 takes no path in a URL of a socket")
    with container(tmp_path_factory.mktemp("sockets"), newest_etcd, "127.0.0.56", prefix) as made:
        (made.node.root / "run").mkdir()
        urls = f"{made.settings['listen-client-urls']},unixs://{PATH},unix://{PLAIN}"
        socketed = replace(made, added={"listen-client-urls": urls})
        socketed.start()
        yield socketed


def label_of_socket(live: Target) -> str:
    [found] = [one.label for one in live.listeners if one.is_socket]
    return found


def test_in_a_root_directory_of_its_own(node: Container) -> None:
    process = node.process()
    live = target(process)
    label = label_of_socket(live)
    results = [one for one in judged(live, "mtls", "cert", "tls") if one.listener == label]
    assert {one.outcome for one in results} >= {Outcome.CONFORMS}
    assert {one.check for one in results if one.outcome is Outcome.VIOLATES} <= {"cert.covers-endpoint"}
    assert_nothing_changes(live)
    [plain] = [one for one in live.unreached if one.url == f"unix://{PLAIN}"]
    assert "without TLS: the mode of its file decides who may connect" in plain.reason


def _received_of_us(server: socket.socket) -> Iterator[bytes]:
    """Yield what came on each of our connections; etcd's gateway dials that path, too."""
    with suppress(TimeoutError):
        while True:
            connection, _ = server.accept()
            with connection:
                sender = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                if int.from_bytes(sender[:4], sys.byteorder) == os.getpid():
                    yield connection.recv(1)


@pytest.mark.parametrize("linked", [False, True])
def test_the_socket_of_another_process(linked: bool, node: Container, tmp_path: Path) -> None:
    """What was put in its place gets nothing, whoever listens there."""
    process = node.process()
    path = node.node.root / PATH.lstrip("/")
    kept = path.rename(path.with_suffix(".kept"))
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s" if linked else path))
            server.listen()
            server.settimeout(1)
            if linked:
                path.symlink_to(tmp_path / "s")
            live = target(process)
            results = {one.listener: one for one in judged(live, "mtls.no-certificate")}
            received = list(_received_of_us(server))
    finally:
        path.unlink(missing_ok=True)
        kept.rename(path)
    assert not any(received)
    result = results[label_of_socket(live)]
    assert result.outcome is Outcome.NOT_VERIFIED
    assert ("No such file" if linked else f"process {os.getpid()} listens there") in result.reason
