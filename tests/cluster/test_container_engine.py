"""The engine and its images, with a real engine and without one."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from cluster.registry import registry
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd import engine as engine_module
from pytest_etcdtls.etcd.engine import (
    engine,
    engine_problem,
    image_flags,
    image_present,
    image_version,
    pull,
)

Forget = Callable[[str], str]

DEADLINE = 60
"""Seconds after which something counts as hanging; it is not an expected duration."""
ABSENT = "pytest-etcdtls/no-such-image:1"


@pytest.fixture
def dead_engine(monkeypatch: pytest.MonkeyPatch) -> str:
    host = "unix:///nonexistent/docker.sock"  # the directory of a test may be too long for a socket
    monkeypatch.setenv("DOCKER_HOST", host)
    return host


def test_a_dead_engine_is_named_with_the_remedy(dead_engine: str) -> None:
    problem = engine_problem()
    assert problem is not None
    assert problem.startswith(f"no container engine answers at {dead_engine}: No such file or directory;")
    assert "DOCKER_HOST" in problem


def test_an_engine_that_refuses_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(UsageError, match=r"no container engine answers at tcp://127\.0\.0\.1:1: .*refused"):
        image_present(ABSENT)


def test_an_invalid_docker_host_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "nonsense")
    with pytest.raises(UsageError, match="no container engine answers at nonsense"):
        image_present(ABSENT)


@pytest.mark.usefixtures("dead_engine")
def test_every_function_raises_a_usage_error_without_an_engine() -> None:
    with pytest.raises(UsageError):
        image_version(ABSENT)
    with pytest.raises(UsageError):
        pull(ABSENT, timeout=1)


@pytest.mark.container
def test_present_images_are_found(etcd_images: dict[str, str]) -> None:
    assert engine_problem() is None
    assert all(image_present(image) for image in etcd_images.values())
    assert not image_present(ABSENT)


@pytest.mark.container
def test_the_version_is_printed_by_the_etcd_in_the_image(
    etcd_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_module._run_once.cache_clear()
    monkeypatch.setattr("pytest_etcdtls.etcd.engine.secrets.token_hex", lambda _: f"{os.getpid()}")
    assert image_version(etcd_image) == etcd_image.rpartition(":")[2]
    assert _containers(f"question-{os.getpid()}") == []


ASKS = """
import sys
from docker.models.containers import Container
from pytest_etcdtls.etcd.engine import image_version

def wait(container, **_):
    print(container.labels["pytest-etcdtls"], flush=True)
    sys.stdin.read()

Container.wait = wait
image_version(sys.argv[1])
"""


@pytest.mark.container
def test_a_process_that_is_killed_while_etcd_prints_its_version_leaves_no_container(
    etcd_images: dict[str, str],
) -> None:
    image = list(etcd_images.values())[-1]
    command = [sys.executable, "-c", ASKS, image]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ, encoding="utf-8"
    ) as owner:
        assert owner.stdout is not None
        label = owner.stdout.readline().strip()
        [child] = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text(encoding="utf-8").split()
        watchdog = os.pidfd_open(int(child))
        assert len(_containers(label)) == 1
        owner.kill()
        owner.wait(DEADLINE)
    try:
        assert select.select([watchdog], [], [], DEADLINE)[0], "the watchdog does not end"
    finally:
        os.close(watchdog)
    assert _containers(label) == []


def _containers(label: str) -> list[str]:
    """Return the containers with the label that the engine still has."""
    with engine() as client:
        containers = client.containers.list(
            all=True, filters={"label": f"pytest-etcdtls={label}"}, ignore_removed=True
        )
        return [str(container.name) for container in containers]


@pytest.mark.container
def test_the_flags_are_printed_by_the_etcd_in_the_image(etcd_image: str) -> None:
    version = etcd_image.rpartition(":")[2]
    flags = image_flags(etcd_image, version)
    assert flags.version == version
    assert {"client-cert-auth", "trusted-ca-file", "peer-cert-file"} <= flags.names
    assert ("tls-min-version" in flags) == (version != "3.5.1")


@pytest.mark.container
@pytest.mark.etcd_version("3.7")
def test_an_image_is_pulled(etcd_binaries: dict[str, Path], forgotten: Forget) -> None:
    version, etcd = list(etcd_binaries.items())[-1]
    with registry(etcd) as server:
        image = forgotten(server.image)
        assert not image_present(image)
        pull(image, timeout=60)
        assert image_present(image)
        assert image_version(image) == version


@pytest.mark.container
@pytest.mark.etcd_version("3.7")
@pytest.mark.parametrize("silent_about", ["/v2/", "/blobs/"])
def test_a_pull_from_a_silent_registry_times_out(
    etcd_binaries: dict[str, Path], forgotten: Forget, silent_about: str
) -> None:
    etcd = list(etcd_binaries.values())[-1]
    with registry(etcd, silent_about=silent_about) as server:
        image = forgotten(server.image)
        with pytest.raises(UsageError, match=f"{image} is not pulled after 1 s; pull it beforehand"):
            pull(image, timeout=1)
        assert not image_present(image)


@pytest.mark.container
@pytest.mark.etcd_version("3.7")
def test_an_image_with_another_program_as_etcd_is_a_usage_error(
    etcd_binaries: dict[str, Path], forgotten: Forget
) -> None:
    etcdctl = list(etcd_binaries.values())[-1].with_name("etcdctl")
    with registry(etcdctl) as server:
        image = forgotten(server.image)
        pull(image, timeout=60)
    with pytest.raises(UsageError, match=f"{image} has no etcd that tells its version; .*etcdctl"):
        image_version(image)


@pytest.fixture
def forgotten() -> Iterator[Forget]:
    """Remove images at the end, if they exist."""
    images: list[str] = []

    def forget(image: str) -> str:
        images.append(image)
        return image

    yield forget
    with engine() as client:
        for image in filter(image_present, images):
            client.images.remove(image, force=True)


@pytest.fixture
def empty_image() -> Iterator[str]:
    """An image without an etcd, or anything else."""
    image = "pytest-etcdtls/empty:test"
    archive = io.BytesIO()
    tarfile.open(fileobj=archive, mode="w").close()
    client = docker.from_env()
    client.api.import_image_from_data(archive.getvalue(), repository="pytest-etcdtls/empty", tag="test")
    yield image
    client.images.remove(image)
    client.close()


@pytest.mark.container
def test_an_image_without_etcd_is_a_usage_error(empty_image: str) -> None:
    with pytest.raises(UsageError, match=f"etcd cannot be run in {empty_image}: .*not found"):
        image_version(empty_image)


@pytest.mark.container
def test_a_missing_image_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"refuses: .*[Nn]o such image"):
        image_version(ABSENT)


@pytest.mark.container
def test_a_registry_that_refuses_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="connection refused"):
        pull("127.0.0.1:1/etcd:1", timeout=10)
