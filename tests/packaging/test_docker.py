"""The images of docker; Jobs have no further rights, run no code of a volume, and judge each cluster once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from programs import run_program

from pytest_etcdtls.__main__ import main
from pytest_etcdtls.settings.cluster_list import read_shard

DOCKER = Path(__file__).parents[2] / "docker"
JOBS = ("control-plane-job.yaml", "control-plane-cronjob.yaml", "fleet-job.yaml")


def build_images(**environment: str) -> subprocess.CompletedProcess[str]:
    return run_program([DOCKER / "build-images.sh"], environment={"PYTHON": sys.executable, **environment})


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


def _job(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return a job without further rights, its pod and its container."""
    job = yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))["spec"]
    job = job.get("jobTemplate", {"spec": job})["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not pod["automountServiceAccountToken"]
    assert pod["restartPolicy"] == "Never"
    return job, pod, container


def test_the_job_of_a_node_mounts_what_it_reads() -> None:
    _, pod, container = _job("control-plane-job.yaml")
    *mounts, of_temporary = container["volumeMounts"]
    *of_host, temporary = pod["volumes"]
    assert (of_temporary["name"], of_temporary["mountPath"]) == (temporary["name"], "/tmp")  # noqa: S108
    assert "emptyDir" in temporary
    directories = {volume["name"]: volume["hostPath"]["path"] for volume in of_host}
    for mount in mounts:
        assert mount["readOnly"]
        assert Path(directories[mount["name"]], mount.get("subPath", "")) == Path(mount["mountPath"])
    files = [mount["mountPath"] for mount in mounts]
    assert not [file for file in files if Path(file).name in ("ca.key", "sa.key")]
    config, directory = (argument.partition("=")[2] for argument in container["args"][:2])
    assert config in files
    assert any(Path(file).parent == Path(directory) for file in files)


def test_the_job_for_a_list_has_a_part_for_each_pod() -> None:
    job, _, container = _job("fleet-job.yaml")
    options = dict(argument.split("=", 1) for argument in container["args"])
    assert job["completionMode"] == "Indexed"
    assert {str(job["completions"]), str(job["parallelism"])} == {options["--etcd-shard"]}
    assert str(read_shard(options["--etcd-shard"], {"JOB_COMPLETION_INDEX": "9"})) == "10/10"
    assert options["--etcd-report"].endswith("/"), "each cluster has a file, so the parts share the directory"


def _runner() -> dict[str, str]:
    """Return the instructions of the image ``pytest-etcdtls/runner`` with their values."""
    text = (DOCKER / "runner.Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    lines = (line.partition(" ") for line in text.splitlines() if line[:1].isupper())
    return {name: value for name, _, value in lines}


def test_what_others_write_to_a_volume_of_the_runner_is_no_code() -> None:
    """Where a run stands, conftest.py and pytest.ini are code for pytest, and modules for Python."""
    runner = _runner()
    [program] = json.loads(runner["ENTRYPOINT"])
    assert program == "/opt/etcd-tls/bin/pytest-etcdtls"
    assert "PYTHONSAFEPATH=1" in runner["ENV"].split()
    for name in JOBS:
        _, _, container = _job(name)
        volumes = [PurePosixPath(mount["mountPath"]) for mount in container["volumeMounts"]]
        assert not [volume for volume in volumes if PurePosixPath(runner["WORKDIR"]).is_relative_to(volume)]
        assert "workingDir" not in container


@pytest.mark.parametrize("name", JOBS)
def test_the_runner_takes_the_arguments_of_a_job_and_writes_to_a_volume(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, container = _job(name)
    passed_on: set[str] = set()

    def start(arguments: list[str], _: object) -> int:
        passed_on.update(arguments)
        return 0

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(pytest, "main", start)
    assert main(container["args"]) == 0
    assert {*container["args"]} <= passed_on
    written = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    reports = [word.partition("=")[2] for word in container["args"] if word.startswith("--etcd-report=")]
    assert all(any(PurePosixPath(one).is_relative_to(path) for path in written) for one in reports)
