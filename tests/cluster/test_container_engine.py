"""The engine and its images, with a real engine and without one."""

from __future__ import annotations

import io
import socket
import tarfile
from pathlib import Path

import docker
import pytest

from cluster.conftest import left_behind
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd import engine as engine_module
from pytest_etcdtls.etcd.engine import engine_problem, image_present, image_version, pull
from pytest_etcdtls.etcd.sources import find_etcd

ABSENT = "pytest-etcdtls/no-such-image:1"


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("unix:///nonexistent/docker.sock", "No such file or directory"),
        ("tcp://127.0.0.1:1", ".*refused"),
        ("nonsense", ""),
    ],
)
def test_a_dead_engine_is_named_with_the_remedy(host: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    message = f"no container engine answers at {host}: {why}.*; start Docker, or point DOCKER_HOST at"
    for ask in (image_present, image_version, lambda image: pull(image, timeout=10)):
        with pytest.raises(UsageError, match=message):
            ask(ABSENT)
    assert (engine_problem() or "").startswith(f"no container engine answers at {host}: ")


@pytest.mark.container
def test_version_and_flags_are_printed_by_the_etcd_in_the_image(
    etcd_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_module._ask_once.cache_clear()
    monkeypatch.setattr("pytest_etcdtls.etcd.engine.secrets.token_hex", lambda _: "of-a-test")
    assert (engine_problem(), image_present(etcd_image)) == (None, True)
    version = image_version(etcd_image)
    assert version == etcd_image.rpartition(":")[2]
    flags = find_etcd(image=etcd_image).flags()
    assert flags.version == version
    assert {"client-cert-auth", "trusted-ca-file", "peer-cert-file"} <= flags.names
    assert ("tls-min-version" in flags) == (version != "3.5.1")
    assert left_behind("question-of-a-test") == []


@pytest.mark.container
@pytest.mark.parametrize(
    ("program", "problem"),
    [(None, "etcd cannot be run in {}: .*not found"), ("etcdctl", "{} has no etcd that prints its version")],
)
def test_an_image_without_etcd_is_a_usage_error(program: str | None, problem: str, newest_etcd: Path) -> None:
    """One without any program, and one with another program of that name."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        if program:
            tar.add(newest_etcd.with_name(program), "usr/local/bin/etcd")
    image = "pytest-etcdtls/other:test"
    client = docker.from_env()
    client.api.import_image_from_data(archive.getvalue(), repository="pytest-etcdtls/other", tag="test")
    try:
        with pytest.raises(UsageError, match=problem.format(image)):
            image_version(image)
    finally:
        client.images.remove(image)
        client.close()


@pytest.mark.container
def test_an_image_that_cannot_be_had_is_a_usage_error() -> None:
    assert not image_present(ABSENT)
    with pytest.raises(UsageError, match=r"refuses: .*[Nn]o such image"):
        image_version(ABSENT)
    with pytest.raises(UsageError, match="connection refused"):
        pull("127.0.0.1:1/etcd:1", timeout=10)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/etcd:1"
        with pytest.raises(UsageError, match=f"{image} was not pulled within 1 s; pull it beforehand"):
            pull(image, timeout=1)
