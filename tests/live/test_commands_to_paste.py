"""The commands of findings run on a real etcd, and print what their comments say to look for."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.bundle import encode_key
from pytest_etcdtls.pki.profile import SERVER, PKIPlan
from pytest_etcdtls.results import CheckResult
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import SigningKey, Target

OPEN = ClusterConfig(
    pki=PKIPlan(server=replace(SERVER, subject_alt_names=("etcd.example",))),
    client_cert_auth=False,
    trusted_ca_file=None,
    extra_flags=(
        "--enable-pprof",
        "--advertise-client-urls=http://127.0.0.1:1031",
    ),
)
"""One in which findings print nearly every kind of command."""

_NEED_THE_CA_KEY = {"expired", "not-yet-valid", "server-auth-only", "intermediate-missing"}
"""Identities whose recipes want the key of the CA, which is in memory only here; tests/pki runs them."""

_VARYING = re.compile(r"https?://\S+|(?<=-connect )\S+|(?<=-cipher )\S+|\S*/\S+")


def _shape(command: str) -> str:
    """Return the command without what differs from one etcd to another."""
    return _VARYING.sub("_", command.partition("\n")[0])


def _by_shape(results: list[CheckResult]) -> dict[str, tuple[str, ...]]:
    """Return all commands of a finding, which may build on each other, by the shape of one of them."""
    return {
        _shape(command): finding.commands
        for result in results
        for finding in result.findings
        for command in finding.commands
        if "# look for" in command and finding.evidence.get("identity") not in _NEED_THE_CA_KEY
    }


def _paste(command: str, directory: Path, etcd: Path) -> str:
    exported = {name: value for name, value in os.environ.items() if name.startswith("ETCDCTL_")}
    environment = {"PATH": f"{etcd.parent}:{os.environ['PATH']}", "HOME": str(directory), **exported}
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.stdout.decode("utf-8", "replace")


def _tunnelled(target: Target) -> Target:
    """Return the target under a name that does not resolve, with a way to each listener."""
    listeners = tuple(
        replace(listener, host="etcd.example", connect_to=(listener.host, listener.port))
        for listener in target.listeners
    )
    return replace(target, listeners=listeners)


@pytest.mark.program("curl", "diff", "grep", "openssl")
@pytest.mark.etcd_version("3.5.1", "3.6", "3.7")
@pytest.mark.parametrize("tunnel", [False, True], ids=["directly", "connect-to"])
def test_each_shape_of_command_shows_what_to_look_for(
    etcd_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tunnel: bool
) -> None:
    if not etcd_binary.with_name("etcdctl").exists():
        pytest.skip(f"needs etcdctl beside {etcd_binary}")
    with start_process(OPEN, etcd_binary) as cluster:
        target = cluster.target()
        if tunnel:
            target = _tunnelled(target)
            monkeypatch.setenv("ETCDCTL_ENDPOINTS", "https://127.0.0.1:1")
            monkeypatch.setenv("ETCDCTL_CERT", str(cluster.members[0].file("client.crt")))
            monkeypatch.setenv("ETCDCTL_KEY", str(cluster.members[0].file("client.key")))
        results = run_checks(Observer(target), select(["!lifecycle", "!tls.stalled-handshake"]))
        shapes = _by_shape(results)
        ran: set[str] = set()
        for commands in shapes.values():
            for command in commands:
                if command in ran:
                    continue
                ran.add(command)
                output = _paste(command, tmp_path, etcd_binary)
                _, _, look = command.partition("\n# look for ")
                wanted = re.findall('"([^"]+)"', look) + (["HTTP/"] if "HTTP status" in look else [])
                assert not look or output.strip(), command
                if wanted:
                    assert [word for word in wanted if word in output], f"{command}\n{output}"
                assert "unknown authority" not in output, command
    assert {"curl", "etcdctl", "openssl"} <= {word for shape in shapes for word in shape.split()}
    assert any("etcdctl" in shape and "--cert" not in shape for shape in shapes)
    assert any("etcdctl" in shape and "member list" in shape for shape in shapes)


@pytest.mark.program("openssl", "diff")
def test_swapped_files_are_shown_by_diff(newest_etcd: Path, tmp_path: Path) -> None:
    swapped = ClusterConfig(
        cert_file="peer.crt",
        key_file="peer.key",
        peer_cert_file="server.crt",
        peer_key_file="server.key",
        expects_health=False,
    )
    with start_process(swapped, newest_etcd) as cluster:
        results = run_checks(Observer(cluster.target()), select(["cert.ports-not-swapped"]))
        (finding,) = results[0].findings
        compared = [command for command in finding.commands if " diff - " in command]
        for command, file in zip(compared, ("peer.crt", "server.crt"), strict=True):
            assert f"diff - {cluster.members[0].file(file)} " in command
            assert _paste(command, tmp_path, newest_etcd).splitlines() == ["same"], command


@pytest.mark.program("openssl", "curl")
def test_an_issued_client_is_made_before_it_is_presented(newest_etcd: Path, tmp_path: Path) -> None:
    with start_process(ClusterConfig(extra_flags=("--enable-pprof",)), newest_etcd) as cluster:
        target, authority = cluster.target(), cluster.pki.client_ca
        (tmp_path / "ca.key").write_bytes(encode_key(authority.key))
        signing = SigningKey(
            certificate=authority.certificate,
            key=authority.key,
            certificate_file=str(cluster.members[0].file("client-ca.crt")),
            key_file=str(tmp_path / "ca.key"),
        )
        held = replace(target.client, identities=(), signing_key=signing)
        results = run_checks(Observer(replace(target, client=held)), select(["api.pprof-hidden"]))
        [finding] = next(result.findings for result in results if result.role == Role.CLIENT)
        output = "".join(_paste(command, tmp_path, newest_etcd) for command in finding.commands)
    assert "HTTP/1.1 200 OK" in output
    assert "--cert issued.crt --key issued.key" in finding.commands[-1]
