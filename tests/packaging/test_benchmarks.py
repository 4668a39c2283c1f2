"""The benchmarks run; their measurements are not asserted."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from programs import run_program
from shown_commands import section

from pytest_etcdtls.etcd.cluster import start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import find_etcd

ROOT = Path(__file__).parents[2]
COMPARED = {
    "startup": ["pytest -p no:etcdtls", "pytest, plugin installed and unused", "the same with -p no:anyio"],
    "latency": ["directly", "through 50 ms", "through 50 ms, --etcd-concurrency=1"],
    "owned": ["processes, experiments one after the other", "processes, experiments side by side"],
    "clusters": ["start of 1 member, etcd's own timing", "start of 1 member", "start of 3 members"],
}


QUICK = {"DOCKER_HOST": "unix:///nowhere/docker.sock", "PYTEST_ADDOPTS": "--etcd-check=listener"}
"""Without an engine, which makes some take minutes, and scanning for little."""


def run(*arguments: str, program: str = "run.py") -> subprocess.CompletedProcess[str]:
    """Run a benchmark."""
    return run_program([sys.executable, ROOT / "benchmarks" / program, *arguments], environment=QUICK)


@pytest.mark.whole
@pytest.mark.usefixtures("etcd_binaries")
@pytest.mark.parametrize("what", COMPARED)
def test_each_benchmark_compares_what_it_names(what: str) -> None:
    result = run("--repeat=1", "--check=listener", what)
    assert result.returncode == 0, result.stderr
    assert [name for name in COMPARED[what] if f"| {name} | " not in result.stdout] == []


@pytest.mark.whole
@pytest.mark.etcd_version("3.6")
@pytest.mark.usefixtures("etcd_binary")
def test_the_comparison_has_a_row_for_each_cluster(tmp_path: Path) -> None:
    """With this tool alone: the others come from registries."""
    json_file = tmp_path / "compare.json"
    result = run("--only=pytest-etcdtls", f"--json={json_file}", program="compare.py")
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^\| `([\w-]+)`: .* \| (\*\*rated\*\*|shown|nothing)", result.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == list(json.loads(json_file.read_text(encoding="utf-8"))["clusters"])[
        1:
    ]


@pytest.mark.etcd_version("3.7")
def test_the_connections_on_the_page_of_measurements_are_current(
    newest_etcd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    judging = runpy.run_path(str(ROOT / "benchmarks" / "judging.py"))
    with start_cluster(ClusterConfig(), find_etcd("process", binary=newest_etcd)) as cluster:
        today = judging["connections_of_judging"](cluster, tmp_path)
    page = section("docs/measured.md", "Judging one etcd")
    [first, *others] = map(int, re.findall(r"(\d+) (?:connections|times `openssl)", page))
    # The table is of the day when it was measured.
    assert all(abs(other - first) <= first / 10 for other in others)
    assert abs(today - first) <= first / 20, f"{today} today: measure docs/measured.md anew"
