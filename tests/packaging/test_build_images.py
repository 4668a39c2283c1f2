"""docker/build-images.sh and the images that it builds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from programs import run_program

SCRIPT = Path(__file__).parents[2] / "docker" / "build-images.sh"


def build_images(**environment: str) -> subprocess.CompletedProcess[str]:
    return run_program([SCRIPT], environment={"PYTHON": sys.executable, **environment})


@pytest.mark.program("bash")
def test_without_a_container_engine_the_script_says_what_to_do() -> None:
    missing = build_images(DOCKER="no-such-docker")
    assert missing.returncode == 1
    assert "there is no no-such-docker on PATH" in missing.stderr


@pytest.mark.container
@pytest.mark.program("awk", "bash", "docker", "grep")
def test_a_container_engine_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    dead = build_images(DOCKER_HOST=f"unix://{tmp_path / 'docker.sock'}")
    assert dead.returncode == 1
    assert "docker does not answer" in dead.stderr
    assert "DOCKER_HOST" in dead.stderr


@pytest.mark.container
@pytest.mark.program("awk", "bash", "docker", "grep")
def test_a_second_run_builds_nothing() -> None:
    assert build_images().returncode == 0
    again = build_images()
    assert again.returncode == 0, again.stderr
    assert "is there already" in again.stdout
    assert "is ready" not in again.stdout


@pytest.mark.container
@pytest.mark.program("docker")
def test_an_image_holds_etcd_and_etcdctl_and_no_shell(etcd_image: str) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_program(["docker", "run", "--rm", "--network=none", *arguments])

    version = etcd_image.rpartition(":")[2]
    assert f"etcd Version: {version}\n" in run(etcd_image, "--version").stdout
    assert f"etcdctl version: {version}\n" in run("--entrypoint=etcdctl", etcd_image, "version").stdout
    assert run("--entrypoint=sh", etcd_image, "-c", "true").returncode != 0
