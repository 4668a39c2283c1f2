"""--etcd-config on a command line, in an ini file, and with listing options: no run judges by accident."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from plugin.runs import Runner
from plugin.unvisited import nobody_came, url_of

from kubeadm.nodes import SHAPES, changed

CHECK = "--etcd-check=config.served-file"


@pytest.fixture
def manifest(listening: socket.socket, tmp_path: Path) -> Path:
    """A manifest of a member at the listening socket."""
    url = url_of(listening)
    flags = dict.fromkeys(("advertise-client-urls", "listen-client-urls"), url)
    peers = dict.fromkeys(("initial-advertise-peer-urls", "listen-peer-urls"), "https://127.0.0.1:1")
    path = tmp_path / "etcd.yaml"
    path.write_text(
        changed(
            (SHAPES / "v1.34.yaml").read_text(encoding="utf-8"),
            {**flags, **peers, "listen-metrics-urls": None},
        ),
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("option", ["--etcd-plan", "--collect-only"])
def test_listing_options_make_no_connection(
    option: str, run: Runner, manifest: Path, listening: socket.socket
) -> None:
    ran = run(f"--etcd-config={manifest}", option, report=False)
    assert ran.exit_code == 0, ran.out + ran.err
    assert f"client-127.0.0.1-{listening.getsockname()[1]}" in ran.out
    if option == "--etcd-plan":
        assert re.search(r"^live peer-127\.0\.0\.1-1, https://\S+: at most [1-9]", ran.out, re.MULTILINE)
    assert nobody_came(listening)


def test_a_declaration_in_the_ini_file_counts_with_the_option(run: Runner, manifest: Path) -> None:
    run.ini(f"etcd_config = {manifest.name}")
    (run.directory / manifest.name).write_text(manifest.read_text(encoding="utf-8"), encoding="utf-8")
    ran = run("--etcd-conformance", "--collect-only", "-q", CHECK, report=False)
    assert ran.exit_code == 0
    assert re.search(r"^etcdtls::live::client-127\.0\.0\.1-\d+::config\.served-file$", ran.out, re.MULTILINE)


def test_a_cluster_on_the_command_line_replaces_that_of_the_ini_file(run: Runner, manifest: Path) -> None:
    run.ini("etcd_endpoint = https://10.0.0.99:2379\netcd_peer_endpoint = https://10.0.0.99:2380")
    ran = run(f"--etcd-config={manifest}", "--collect-only", "-q", CHECK, report=False)
    assert "10.0.0.99" not in ran.out
    run.ini(f"etcd_config = {manifest}")
    trusted = "--etcd-check=cert.trusted"
    ran = run("--etcd-endpoint=https://10.0.0.99:2379", "--collect-only", "-q", trusted, report=False)
    assert "127.0.0.1" not in ran.out
    assert "etcdtls::live::client-10.0.0.99-2379::cert.trusted" in ran.out


def test_a_directory_without_the_declared_files_is_refused(
    run: Runner, manifest: Path, listening: socket.socket
) -> None:
    ran = run(f"--etcd-config={manifest}", "--etcd-pki-dir=.", report=False)
    assert ran.exit_code == pytest.ExitCode.USAGE_ERROR, ran.out + ran.err
    assert "holds none of the declared files" in ran.err
    assert nobody_came(listening)
