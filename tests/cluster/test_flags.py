"""The binary of an etcd, its flags, its configuration file, and the log that says when it serves."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd import sources as binary
from pytest_etcdtls.etcd.config import (
    SECURITY_FIELDS,
    ClusterConfig,
    member_addresses,
    member_flags,
    render,
)
from pytest_etcdtls.etcd.etcd_flags import FlagSet
from pytest_etcdtls.etcd.launch import MemberPaths, ReadinessLog, Served, parse_served
from pytest_etcdtls.etcd.sources import binary_version, find_etcd

VALUES = {"self-signed-cert-validity": "1", "log-level": "info", "tls-max-version": "TLS1.3"}
VALUES |= {"tls-min-version": "TLS1.2", "listen-client-http-urls": "https://127.0.0.1:1"}


def _accepts(binary: Path, *arguments: str) -> str:
    """Return etcd's error about its flags; with ``--version`` it parses all of them and ends."""
    run = subprocess.run(
        [binary, *arguments, "--version"], capture_output=True, encoding="utf-8", check=False
    )
    return "" if run.returncode == 0 else run.stderr


def test_names_of_flags_are_those_of_the_binary(etcd_binary: Path) -> None:
    flags, spelled = find_etcd(binary=etcd_binary).flags(), {}
    for name in (field.replace("_", "-") for field in (*SECURITY_FIELDS, "listen-client-http-urls")):
        try:
            spelled[name] = flags.spell(name)
        except UsageError:
            assert f"flag provided but not defined: -{name}" in _accepts(etcd_binary, f"--{name}=x")
    assert len(spelled) > 15
    assert _accepts(etcd_binary, *(f"--{flag}={VALUES.get(n, 'true')}" for n, flag in spelled.items())) == ""


def _script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines]), encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_binary_is_run_once_until_it_changes_without_variables_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_NAME", "1.2.3")
    runs = tmp_path / "runs"
    etcd = _script(tmp_path / "etcd", f"echo x >> {runs}", 'echo "etcd Version: 3.6.16$ETCD_NAME"')
    assert binary_version(etcd) == binary_version(etcd) == "3.6.16"
    assert "unsafe-no-fsync" in find_etcd(binary=etcd).flags()
    assert runs.read_text(encoding="utf-8").split() == ["x", "x"]
    _script(etcd, "echo 'etcd Version: 3.7.3'")
    assert binary_version(etcd) == "3.7.3"
    monkeypatch.setattr(binary, "_SECONDS", 0.1)
    with pytest.raises(UsageError, match=r"`.*etcd --version` does not end within 0\.1 s"):
        binary_version(_script(etcd, "exec sleep 3600"))
    etcd.unlink()
    with pytest.raises(UsageError, match="is no etcd binary: No such file or directory"):
        binary_version(etcd)


PLACE = MemberPaths(
    data=PurePosixPath("/data"), pki=PurePosixPath("/pki"), config_file=PurePosixPath("/etcd.conf.yml")
)
FILES = {"server.crt": PurePosixPath("m0/server.crt"), "server.key": PurePosixPath("m0/server.key")}


def test_a_config_file_has_the_settings_of_the_flags() -> None:
    config = ClusterConfig(
        cipher_suites=("A", "B"),
        tls_min_version="TLS1.2",
        peer_cert_allowed_cn="one,two",
        client_crl_file="crl.der",
        config_file_omits=("trusted_ca_file",),
        config_file_adds="crl-file: '{pki}/crl.der'\n",
    )
    members = [member_addresses(config, "m0", iter((20000, 20001)))]
    etcd = FlagSet("3.9.9", frozenset(field.replace("_", "-") for field in SECURITY_FIELDS))
    flags = member_flags(config, etcd, members, 0, PLACE, FILES, token="token", alone=True)
    document = yaml.safe_load(render(flags, config, PLACE))
    assert document["crl-file"] == "/pki/crl.der"
    assert document["name"] == "m0"
    assert document["cipher-suites"] == ["A", "B"]
    assert document["tls-min-version"] == "TLS1.2"
    assert document["election-timeout"] == 25
    assert document["client-transport-security"] == {
        "cert-file": "/pki/m0/server.crt",
        "key-file": "/pki/m0/server.key",
        "client-cert-auth": True,
        "client-crl-file": "/pki/crl.der",
    }
    assert document["peer-transport-security"]["allowed-cn"] == ["one", "two"]
    assert document["peer-transport-security"]["client-cert-auth"] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"size": size}, "use 1, 3 or 5") for size in (0, 2, 7)),
        ({"host": "10.0.0.1"}, r"listens on 127\.0\.0\.1 or ::1, not on 10\.0\.0\.1"),
        ({"config_file_omits": ("client_auth",)}, "client_auth"),
        *(({"extra_files": {name: b""}}, "plain file name") for name in ("../server.crt", "m0/x", "..", "")),
    ],
)
def test_configurations_that_no_backend_can_start(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClusterConfig(**changes)


def test_extra_files_are_not_shown() -> None:
    assert "secret" not in repr(ClusterConfig(extra_files={"other.key": b"secret"}))


SECURELY = (
    '{"level":"info","msg":"serving client traffic securely","traffic":"grpc+http","address":"[::1]:12379"}'
)
INSECURELY = (
    '{"level":"info","msg":"serving client traffic insecurely; this is strongly discouraged!",'
    '"traffic":"grpc+http","address":"127.0.0.1:12379"}'
)


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-25 13:03:12.504488 I | embed: ready to serve client requests",
        '{"level":"info","msg":"serving metrics","address":"http://127.0.0.1:12379"}',
        '"serving client traffic securely" is no JSON',
        '{"msg":"serving client traffic securely"}',
        '{"level":"warn","msg":"x","error":"serving client traffic securely","address":"127.0.0.1:12379"}',
        "",
    ],
)
def test_a_line_that_names_no_listener(line: str) -> None:
    assert parse_served(line) is None


def test_a_member_is_ready_when_every_listener_serves() -> None:
    log = ReadinessLog(Served.from_urls(["https://127.0.0.1:12379", "http://127.0.0.1:12379"]))
    log.read(f"{INSECURELY}\n".encode())
    assert not log.ready, "a plain listener on the port of a TLS listener is not that"
    log.read(f"{SECURELY}\n".encode())
    assert log.ready
