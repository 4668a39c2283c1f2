"""Where a run stands is not where its code comes from: nothing of the working directory is executed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from planting import acted, plant
from programs import run_program
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.engine import pull_without_limit
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.etcd.watchdog import command

PROGRAM = Path(sys.executable).with_name("pytest-etcdtls")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("planted")
    plant(directory)
    return directory


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(), newest_etcd) as started:
        yield started


@pytest.fixture(scope="module")
def places(cluster: Cluster, newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What stands for the words in braces of a command line."""
    [member] = cluster.members
    assert isinstance(member.server, EtcdProcess)
    listed = tmp_path_factory.mktemp("list") / "clusters.toml"
    entry = '[[cluster]]\nlabel = "{}"\nendpoints = ["{}"]\ncacert = "{}"\n'
    authority = member.file("server-ca.crt")
    listed.write_text(
        "".join(entry.format(label, member.client_url, authority) for label in "ab"), encoding="utf-8"
    )
    return {
        "url": member.client_url,
        "pid": str(member.server.pid),
        "ca": str(authority),
        "list": str(listed),
        "etcd": str(newest_etcd),
    }


RUNS = {
    "clean": "clean",
    "list-checks": "--list-checks",
    "plan": "{url} --plan",
    "endpoint": "{url} --cacert={ca} --check=listener,cert.trusted",
    "pid": "--pid={pid} --check=listener,config",
    "rehearse": "--pid={pid} --check=listener,restart --rehearse",
    "binary": "--binary={etcd} --check=listener",
    "clusters": "--clusters={list} --check=listener --allow-unverified",
}


@pytest.mark.parametrize("workers", ["", " -n2"], ids=["alone", "workers"])
@pytest.mark.parametrize("name", RUNS)
def test_the_program_imports_nothing_of_its_working_directory(
    name: str, workers: str, planted: Path, places: dict[str, str]
) -> None:
    words = (RUNS[name] + (workers if name != "clean" else "")).format_map(places).split()
    ran = run_program([PROGRAM, *words], planted, {"PYTHONDONTWRITEBYTECODE": "1"})
    assert acted(planted) == []
    assert ran.returncode in (0, 1), ran.stderr
    assert ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


def test_the_directory_acts_where_python_trusts_it(planted: Path) -> None:
    """Else the tests above would show nothing."""
    run_program([sys.executable, "-m", "pytest"], planted, {"PYTHONDONTWRITEBYTECODE": "1"})
    assert acted(planted)


def test_a_child_of_the_run_imports_nothing_of_its_working_directory(planted: Path) -> None:
    """The one that pulls an image."""
    subprocess.run(
        command(pull_without_limit, "none"),
        cwd=planted,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
    )
    assert acted(planted) == []
