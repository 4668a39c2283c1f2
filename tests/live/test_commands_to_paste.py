"""The commands of findings reach an etcd behind a tunnel; ``remedies`` runs those of the zoo."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from live.target_kinds import tunnelled
from starting import start_process

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.bundle import encode_key
from pytest_etcdtls.pki.profile import SERVER, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import SigningKey

OPEN = ClusterConfig(
    pki=PKIPlan(server=replace(SERVER, subject_alt_names=("etcd.example",))),
    client_cert_auth=False,
    trusted_ca_file=None,
    extra_flags=("--enable-pprof", "--advertise-client-urls=http://127.0.0.1:1031"),
)
"""One in which findings print nearly every kind of command."""

_CHECKS = ("mtls.no-certificate", "mtls.announced*", "api", "cert", "cluster")


def paste(command: str, directory: Path, etcd: Path) -> str:
    """Return what a command prints in a shell of its own."""
    exported = {name: value for name, value in os.environ.items() if name.startswith("ETCDCTL_")}
    environment = {"PATH": f"{etcd.parent}:{os.environ['PATH']}", "HOME": str(directory), **exported}
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.program("curl", "diff", "grep", "openssl")
@pytest.mark.etcd_version("3.5.1", "3.6", "3.7")
def test_each_command_shows_what_to_look_for(
    etcd_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By way of a tunnel, in a shell that exports credentials for another endpoint."""
    if not etcd_binary.with_name("etcdctl").exists():
        pytest.skip(f"needs etcdctl beside {etcd_binary}")
    with start_process(OPEN, etcd_binary) as cluster:
        monkeypatch.setenv("ETCDCTL_ENDPOINTS", "https://127.0.0.1:1")
        monkeypatch.setenv("ETCDCTL_CERT", str(cluster.members[0].file("client.crt")))
        monkeypatch.setenv("ETCDCTL_KEY", str(cluster.members[0].file("client.key")))
        target = tunnelled(cluster.target())
        results = run_checks(Observer(target), _CHECKS)
        commands = dict.fromkeys(
            command for result in results for finding in result.findings for command in finding.commands
        )
        for command in commands:
            output = paste(command, tmp_path, etcd_binary)
            look = command.partition("\n# look for ")[2]
            wanted = re.findall('"([^"]+)"', look) + (["HTTP/"] if "HTTP status" in look else [])
            assert not look or output.strip(), command
            assert not wanted or any(word in output for word in wanted), f"{command}\n{output}"
            assert "unknown authority" not in output, command
    assert {"curl", "etcdctl", "openssl"} <= {word for command in commands for word in command.split()}
    assert any("etcdctl" in command and "--cert" not in command for command in commands)
    assert any("etcdctl" in command and "member list" in command for command in commands)


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
        results = run_checks(Observer(replace(target, client=held)), ["api.pprof-hidden"])
        [finding] = next(result.findings for result in results if result.role == Role.CLIENT)
        output = "".join(paste(command, tmp_path, newest_etcd) for command in finding.commands)
    assert "HTTP/1.1 200 OK" in output
    assert "--cert issued.crt --key issued.key" in finding.commands[-1]
