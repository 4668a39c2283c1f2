"""The commands of findings run on a real etcd, and print what their comments say to look for."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from starting import start_process

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.pki.profile import SERVER, PKIPlan
from pytest_etcdtls.registry import select
from pytest_etcdtls.results import CheckResult
from pytest_etcdtls.runner import run_checks

OPEN = ClusterConfig(
    pki=PKIPlan(server=replace(SERVER, subject_alt_names=("etcd.example",))),
    client_cert_auth=False,
    trusted_ca_file=None,
    enable_pprof=True,
    extra_flags=("--advertise-client-urls=http://127.0.0.1:1",),
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
        _shape(command): finding.reproduce
        for result in results
        for finding in result.findings
        for command in finding.reproduce
        if "# look for" in command and finding.evidence.get("identity") not in _NEED_THE_CA_KEY
    }


def _paste(command: str, directory: Path, etcd: Path) -> str:
    environment = {"PATH": f"{etcd.parent}:{os.environ['PATH']}", "HOME": str(directory)}
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.stdout.decode("utf-8", "replace")


@pytest.mark.program("openssl", "curl")
@pytest.mark.etcd_version("3.5.1", "3.6", "3.7")
def test_each_shape_of_command_shows_what_to_look_for(etcd_binary: Path, tmp_path: Path) -> None:
    if not etcd_binary.with_name("etcdctl").exists():
        pytest.skip(f"needs etcdctl beside {etcd_binary}")
    with start_process(OPEN, etcd_binary) as cluster:
        results = run_checks(Observer(cluster.target()), select(["!lifecycle", "!tls.stalled-handshake"]))
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
    kinds = {shape.split()[0] for shape in shapes}
    assert {"curl", "etcdctl", "openssl"} <= kinds
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
        for command, file in zip(finding.reproduce, ("peer.crt", "server.crt"), strict=True):
            assert f"diff - {cluster.members[0].file(file)} " in command
            assert _paste(command, tmp_path, newest_etcd).splitlines() == ["same"], command


def test_every_command_names_existing_files(newest_etcd: Path) -> None:
    with start_process(OPEN, newest_etcd) as cluster:
        results = run_checks(
            Observer(cluster.target()), select(["cluster.advertised-https", "api.pprof-hidden"])
        )
        lines = [line for result in results for finding in result.findings for line in finding.reproduce]
        files = [name for line in lines for name in re.findall(r"--(?:cert|key)[ =](\S+)", line)]
        assert len(files) == 4
        assert all(Path(name).is_file() for name in files)
