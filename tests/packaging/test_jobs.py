"""The Jobs in ``docker`` have no further rights, and judge each cluster once."""

from __future__ import annotations

from pathlib import Path

import yaml

from pytest_etcdtls.settings.cluster_list import read_shard

ROOT = Path(__file__).parents[2]


def test_the_job_has_no_further_rights() -> None:
    job = yaml.safe_load((ROOT / "docker" / "control-plane-job.yaml").read_text(encoding="utf-8"))
    pod = job["spec"]["template"]["spec"]
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
