"""The Jobs in ``docker`` have no further rights, and judge each cluster once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pytest_etcdtls.settings.cluster_list import read_shard

ROOT = Path(__file__).parents[2]


def _job(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return a job without further rights, its pod and its container."""
    job = yaml.safe_load((ROOT / "docker" / name).read_text(encoding="utf-8"))["spec"]
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
