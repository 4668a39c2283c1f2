"""The binary of an etcd: that it is one, its environment, and the names of its flags."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd import sources as binary
from pytest_etcdtls.etcd.config import SECURITY_FIELDS
from pytest_etcdtls.etcd.sources import binary_flags, binary_version

VALUES = {"self-signed-cert-validity": "1", "log-level": "info", "tls-max-version": "TLS1.3"}
VALUES |= {"tls-min-version": "TLS1.2", "listen-client-http-urls": "https://127.0.0.1:1"}


def _accepts(binary: Path, *arguments: str) -> str:
    """Return etcd's error about its flags; with ``--version`` it parses all of them and ends."""
    run = subprocess.run(
        [binary, *arguments, "--version"], capture_output=True, encoding="utf-8", check=False
    )
    return "" if run.returncode == 0 else run.stderr


def test_names_of_flags_are_those_of_the_binary(etcd_binary: Path) -> None:
    flags, spelled = binary_flags(etcd_binary), {}
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
    assert "unsafe-no-fsync" in binary_flags(etcd)
    assert runs.read_text(encoding="utf-8").split() == ["x", "x"]
    _script(etcd, "echo 'etcd Version: 3.7.3'")
    assert binary_version(etcd) == "3.7.3"
    monkeypatch.setattr(binary, "_SECONDS", 0.1)
    with pytest.raises(UsageError, match=r"`.*etcd --version` does not end within 0\.1 s"):
        binary_version(_script(etcd, "exec sleep 3600"))
    etcd.unlink()
    with pytest.raises(UsageError, match="is no etcd binary: No such file or directory"):
        binary_version(etcd)
