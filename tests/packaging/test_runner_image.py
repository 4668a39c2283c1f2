"""The image that judges a node without Python, and the Job that runs it there.

RUNNER_BASE names the base of the image: one with Python that the engine has. Without it, only the Job is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from starting import start_process, write_manifest

from pytest_etcdtls import PRESETS
from pytest_etcdtls.settings.cluster_list import read_shard

ROOT = Path(__file__).parents[2]
JOB = ROOT / "docker" / "control-plane-job.yaml"
IMAGE = "pytest-etcdtls/runner"


def _pod() -> Any:
    return yaml.safe_load(JOB.read_text(encoding="utf-8"))["spec"]["template"]["spec"]


def test_the_job_has_no_further_rights() -> None:
    pod = _pod()
    [container] = pod["containers"]
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not pod["automountServiceAccountToken"]
    assert pod["restartPolicy"] == "Never"
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
    job = yaml.safe_load((ROOT / "docker" / "fleet-job.yaml").read_text(encoding="utf-8"))["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    options = dict(argument.split("=", 1) for argument in container["args"])
    assert job["completionMode"] == "Indexed"
    assert {str(job["completions"]), str(job["parallelism"])} == {options["--etcd-shard"]}
    assert str(read_shard(options["--etcd-shard"], {"JOB_COMPLETION_INDEX": "9"})) == "10/10"
    assert options["--etcd-report"].endswith("/"), "each cluster has a file, so the parts share the directory"
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not pod["automountServiceAccountToken"]


@pytest.fixture(scope="module")
def image(program: Callable[[str], str | None]) -> str:
    """The image, built from this tree."""
    base = os.environ.get("RUNNER_BASE")
    if base is None:
        pytest.skip("needs RUNNER_BASE: an image with Python and venv that the engine has")
    program("bash")
    program("docker")
    subprocess.run([ROOT / "docker" / "build-runner.sh", base], check=True, capture_output=True)
    return IMAGE


@pytest.fixture(scope="module")
def node(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a control-plane node: kubeadm's files, and an etcd that runs with them."""
    root = tmp_path_factory.mktemp("node")
    with start_process(PRESETS["kubeadm"].config, newest_etcd) as cluster:
        [member] = cluster.members
        (root / "manifests").mkdir()
        write_manifest(member, root / "manifests" / "etcd.yaml")
        shutil.copytree(member.file("server.crt").parent, root / "pki")
        (root / "pki").chmod(0o755)  # as kubeadm leaves it; keys are 0600
        yield root


def _run(image: str, node: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the image as the Job does."""
    mounts = {"manifests": "/etc/kubernetes/manifests", "pki": "/etc/kubernetes/pki/etcd"}
    [container] = _pod()["containers"]
    return subprocess.run(
        [
            *("docker", "run", "--rm", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--network=host"),
            "--security-opt=no-new-privileges",
            *(f"--volume={node / name}:{place}:ro" for name, place in mounts.items()),
            *arguments,
            image,
            *(word for word in container["args"] if not word.startswith("--etcd-log=")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.container
@pytest.mark.program("docker")
def test_the_job_judges_a_node(image: str, node: Path) -> None:
    ran = _run(image, node, "--user=0:0")
    assert ran.returncode == 0, ran.stdout
    assert "CHECKS CLEAN (without config.ca-key-beside)" in ran.stdout


@pytest.mark.container
@pytest.mark.program("docker")
def test_a_key_that_may_not_be_read_is_reported(image: str, node: Path) -> None:
    """As the user that the image has by itself."""
    ran = _run(image, node)
    said = " ".join(ran.stdout.split())
    assert ran.returncode == 0, ran.stdout
    assert "healthcheck-client.crt: may not be read by this user; run as a user who may read it" in said
    assert "refuses all 4 bad identities" in said


@pytest.mark.container
@pytest.mark.program("docker")
def test_a_directory_that_may_not_be_listed_ends_the_run(image: str, node: Path) -> None:
    (node / "pki").chmod(0o700)
    ran = _run(image, node)
    (node / "pki").chmod(0o755)
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR, ran.stdout
    said = " ".join(ran.stdout.split())
    assert "--etcd-pki-dir /etc/kubernetes/pki/etcd may not be listed by this user" in said
