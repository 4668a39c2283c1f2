"""docker/etcd-*: each module carries the ``go`` line of the etcd that it pins, which decides TLS defaults."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = sorted((Path(__file__).parents[2] / "docker").glob("etcd-*"))
SERVER = "go.etcd.io/etcd/server/v3"


def go_line(text: str) -> str:
    found = re.search(r"^go (\S+)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def pin(text: str, module: str) -> str:
    found = re.search(rf"^\s*{re.escape(module)} v(\S+)$", text, re.MULTILINE)
    assert found is not None, module
    return found[1]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_server_and_etcdctl_are_one_version_of_the_line(module: Path) -> None:
    text = (module / "go.mod").read_text()
    version = pin(text, SERVER)
    assert pin(text, "go.etcd.io/etcd/etcdctl/v3") == version
    assert module.name == f"etcd-{version.rpartition('.')[0]}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_the_go_line_is_that_of_etcds_own_server(module: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs Go, to read the go.mod of etcd's server")
    answer = subprocess.run(
        [go, "list", "-m", "-json", SERVER],
        cwd=module,
        env={**os.environ, "GOPROXY": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        pytest.skip(f"needs etcd's server module in Go's cache, run make etcd: {answer.stderr.strip()}")
    upstream = Path(json.loads(answer.stdout)["GoMod"])
    assert go_line((module / "go.mod").read_text()) == go_line(upstream.read_text())
