from __future__ import annotations

from pathlib import Path

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd import sources as binary
from pytest_etcdtls.etcd.sources import binary_flags, binary_version


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
