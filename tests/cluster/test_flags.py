"""The binary of an etcd: that it is one, its environment, and the names of its flags."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd import sources as binary
from pytest_etcdtls.etcd.config import SECURITY_FIELDS
from pytest_etcdtls.etcd.etcd_flags import FlagSet
from pytest_etcdtls.etcd.sources import binary_flags, binary_version

VALUES = {"self-signed-cert-validity": "1", "log-level": "info", "tls-max-version": "TLS1.3"}
VALUES |= {"tls-min-version": "TLS1.2", "listen-client-http-urls": "https://127.0.0.1:1"}


def _accepts(binary: Path, *arguments: str) -> str:
    """Return etcd's error about its flags; with ``--version`` it parses all of them and ends."""
    run = subprocess.run(
        [binary, *arguments, "--version"], capture_output=True, encoding="utf-8", check=False
    )
    return "" if run.returncode == 0 else run.stderr


def _spelled(flags: FlagSet) -> dict[str, str]:
    found = {}
    for field in (*SECURITY_FIELDS, "listen-client-http-urls", "unsafe-no-fsync"):
        name = field.replace("_", "-")
        try:
            found[name] = flags.spell(name)
        except UsageError:
            continue
    return found


def test_every_name_that_spell_returns_is_a_flag_of_the_binary(etcd_binary: Path) -> None:
    spelled = _spelled(binary_flags(etcd_binary))
    assert len(spelled) > 15
    assert _accepts(etcd_binary, *(f"--{flag}={VALUES.get(n, 'true')}" for n, flag in spelled.items())) == ""


def test_every_name_that_spell_refuses_is_unknown_to_the_binary(etcd_binary: Path) -> None:
    spelled = _spelled(binary_flags(etcd_binary))
    missing = {field.replace("_", "-") for field in SECURITY_FIELDS} - spelled.keys()
    for name in missing:
        assert f"flag provided but not defined: -{name}" in _accepts(etcd_binary, f"--{name}=x")


def test_experimental_names_are_used_if_there_is_no_other() -> None:
    name = "peer-skip-client-san-verification"
    assert (
        FlagSet.from_help("3.5.33", f"  --experimental-{name} 'false'").spell(name) == f"experimental-{name}"
    )
    both = FlagSet.from_help("3.6.16", f"  --experimental-{name} 'false'\n  --{name} 'false'")
    assert both.spell(name) == name


def _script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines]), encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_missing_binary_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no etcd binary: No such file or directory"):
        binary_version(tmp_path / "etcd")


def test_a_binary_that_does_not_end_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_SECONDS", 0.1)
    with pytest.raises(UsageError, match=r"`.*etcd --version` does not end within 0\.1 s"):
        binary_version(_script(tmp_path / "etcd", "exec sleep 3600"))


def test_a_binary_is_run_once_until_it_changes(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    etcd = _script(tmp_path / "etcd", f"echo x >> {runs}", "echo 'etcd Version: 3.6.16'")
    assert binary_version(etcd) == binary_version(etcd) == "3.6.16"
    assert "unsafe-no-fsync" in binary_flags(etcd)
    assert runs.read_text(encoding="utf-8").split() == ["x", "x"]
    _script(etcd, "echo 'etcd Version: 3.7.3'")
    assert binary_version(etcd) == "3.7.3"


def test_etcd_variables_of_the_user_do_not_reach_the_binary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_NAME", "1.2.3")
    assert binary_version(_script(tmp_path / "etcd", 'echo "etcd Version: 3.6.16$ETCD_NAME"')) == "3.6.16"
