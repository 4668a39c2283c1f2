"""A name whose address changes during the run: the password goes to the server that proved who it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ETCD, OTHER = "127.0.0.1", "127.0.0.2"


def _in_namespaces(directory: Path, *command: str) -> list[str]:
    (directory / "resolv.conf").write_text(
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", encoding="utf-8"
    )
    mount = f'mount --bind {directory / "resolv.conf"} "$(readlink -f /etc/resolv.conf)" && exec "$@"'
    return ["unshare", "--mount", "--net", "--map-root-user", "sh", "-c", mount, "sh", *command]


@pytest.mark.whole
@pytest.mark.program("ip", "mount", "unshare")
@pytest.mark.parametrize(
    "addresses",
    [[ETCD, OTHER], [OTHER, ETCD], [ETCD, OTHER] * 100, [ETCD, ETCD, ETCD, OTHER], [ETCD] * 10 + [OTHER]],
    ids=["after-the-first", "before", "in-turns", "after-three", "after-ten"],
)
def test_a_password_does_not_follow_a_name(newest_etcd: Path, tmp_path: Path, addresses: list[str]) -> None:
    if subprocess.run(_in_namespaces(tmp_path, "true"), capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make namespaces")
    program = [sys.executable, "-m", "hostile.rebinding", str(newest_etcd), str(tmp_path), *addresses]
    ran = subprocess.run(
        _in_namespaces(tmp_path, *program),
        env={**os.environ, "PYTHONPATH": str(TESTS), "COLUMNS": "120"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["contacted"] or found["to etcd"], found["output"]
    assert not found["received"], found["output"]
    assert "Traceback" not in found["output"]
