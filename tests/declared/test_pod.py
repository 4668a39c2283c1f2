"""Pods: the ways to start etcd in a container that are read, and one clear message for other manifests."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from declared.declaring import find_traps, read_declaration, written
from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.reading import read_declarations
from pytest_etcdtls.errors import UsageError


def _pod(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    spec = {"containers": [deepcopy(container) for container in containers]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd"}, "spec": spec, **more}


def _container(**more: Any) -> dict[str, Any]:
    return {"name": "etcd", "image": "registry.example/etcd:v3.6.4", **more}


def _of(**container: Any) -> dict[str, Any]:
    """Return a pod with a container of etcd."""
    return _pod(_container(**container))


ETCD = _container(command=["etcd", "--name=a"])
OTHER = {
    "name": "backup",
    "image": "x",
    "command": ["etcdctl", "--endpoints=https://127.0.0.1:2379", "snapshot"],
}


@pytest.mark.parametrize(
    "container",
    [
        ETCD,
        _container(command=["etcd"], args=["--name=a"]),
        _container(command=["/usr/local/bin/etcd", "--name", "a"]),
        _container(command=["etcd", "--name=$(NODE)"], env=[{"name": "NODE", "value": "a"}]),
        _container(
            command=["etcd"], env=[{"name": "N", "value": "a"}, {"name": "ETCD_NAME", "value": "$(N)"}]
        ),
        _container(command=["etcd", "--name=$(a node)"], env=[{"name": "a node", "value": "a"}]),
    ],
)
def test_ways_to_start_etcd(container: dict[str, Any], tmp_path: Path) -> None:
    declaration = written(tmp_path, yaml.safe_dump(_pod(OTHER, container, {"name": "none", "image": "x"})))
    assert declaration.text("name") == "a"
    assert declaration.version == "3.6.4"


def test_json_lists_and_several_documents(tmp_path: Path) -> None:
    compact = json.dumps({"items": [_pod(ETCD)], "kind": "List"}, separators=(",", ":"))
    assert written(tmp_path, compact).text("name") == "a"
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [_pod(ETCD)]}, indent=1)
    declaration = written(tmp_path, text)
    assert declaration.text("name") == "a"
    line = text.splitlines()[(declaration.settings["name"].place.line or 0) - 1]
    assert "--name=a" in line
    several = "---\n# nothing\n---\n" + yaml.safe_dump(_pod(OTHER)) + "---\n" + yaml.safe_dump(_pod(ETCD))
    assert written(tmp_path, several).text("name") == "a"


def test_unknown_and_escaped_references_stay(tmp_path: Path) -> None:
    container = _container(
        command=["etcd", "--name=$$(NODE)$(UNKNOWN)$$x$y$("], env=[{"name": "NODE", "value": "a"}]
    )
    assert written(tmp_path, yaml.safe_dump(_pod(container))).text("name") == "$(NODE)$(UNKNOWN)$x$y$("


def test_mounts(tmp_path: Path) -> None:
    pod = _of(
        command=["etcd"],
        volumeMounts=[
            {"name": "pki", "mountPath": "/certs/"},
            {"name": "one", "mountPath": "/x", "subPath": "y"},
            {"name": "secret", "mountPath": "/z"},
            {"name": "one", "mountPath": "/e", "subPathExpr": "$(NODE)"},
        ],
        env=[{"name": "NODE", "value": "n"}],
    )
    pod["spec"]["volumes"] = [
        {"name": "pki", "hostPath": {"path": "/etc/kubernetes/pki/etcd"}},
        {"name": "one", "hostPath": {"path": "/srv"}},
        {"name": "secret", "secret": {"secretName": "s"}},
    ]
    mounts = written(tmp_path, yaml.safe_dump(pod)).mounts
    assert [(mount.inside, mount.outside) for mount in mounts] == [
        ("/certs", "/etc/kubernetes/pki/etcd"),
        ("/x", "/srv/y"),
    ]


WAY = "pass --etcd-pid=auto on the node of etcd, or a copy of the running process as --etcd-config"


def _set() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "e"},
        "spec": {"template": _pod(ETCD)},
    }


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            _pod({"name": "kube-apiserver", "command": ["kube-apiserver", "--etcd-servers=x"]}),
            "runs kube-apiserver, and none of these is etcd: pass etcd.yaml beside it",
        ),
        # By a shell, a launcher, a script, an image.
        (
            _of(command=["sh", "-c", "exec etcd --name=a"]),
            rf"declaration:\d+: the container etcd starts sh, not etcd itself: {WAY}",
        ),
        (_pod({"name": "db", "command": ["tini", "etcd"]}), "the container db starts tini, not etcd itself"),
        (_of(args=["--name=a"]), "the container etcd starts what its image decides, not etcd"),
        # The program is known, and what it is given is not.
        (
            _of(command=["etcd"], envFrom=[{"secretRef": {"name": "x"}}]),
            r"declaration:\d+: envFrom \(pod etcd, container etcd\), which may set anything, is not read",
        ),
        (
            _of(command=["etcd"], env=[_from_field("ETCD_CERT_FILE", "metadata.name")]),
            r"declaration:\d+: the value of ETCD_CERT_FILE is not in this file \(valueFrom: pod etcd, "
            r"container etcd\): pass a copy with the value written out, or --etcd-pid",
        ),
        (
            _of(
                command=["etcd", "--listen-client-urls=https://$(IP):2379"],
                env=[_from_field("IP", "status.podIP")],
            ),
            r"declaration:\d+: the value of --listen-client-urls is not in this file \(IP, valueFrom: pod "
            r"etcd, container etcd\)",
        ),
        (
            _of(command=["etcd", "--cert-file=$(DB_SERVICE_HOST)"]),
            r"the value of --cert-file is not in this file \(DB_SERVICE_HOST, of a Service: pod etcd",
        ),
        (
            _of(command=["etcd", "--config-file=/etc/gone.yml"]),
            r"declaration:\d+: etcd reads --config-file",
        ),
        (_of(command=["etcd", "grpc-proxy"]), r"declaration:\d+: etcd grpc-proxy is a proxy"),
        (_pod(ETCD, ETCD), "the pod etcd runs etcd 2 times"),
        # Other objects.
        (_set(), f"has StatefulSet, and no pod that runs: {WAY}"),
        ({"kind": "Secret"}, "has Secret, and no pod that runs: .*; a Secret is passed as --etcd-secret"),
        ({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": "none"}}, "has Pod, and no pod"),
        ({"apiVersion": "v1", "kind": "List", "items": []}, "has no objects: kubectl found none"),
    ],
)
def test_manifests_that_are_refused(document: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        written(tmp_path, yaml.safe_dump(document))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_value_without_effect_on_tls_is_noted(tmp_path: Path) -> None:
    container = _container(command=["etcd"], env=[_from_field("ETCD_NAME", "spec.nodeName")])
    declaration = written(tmp_path, yaml.safe_dump(_pod(container)))
    assert declaration.text("name") is None
    assert "ETCD_NAME" in declaration.notes[0]


def test_the_configuration_file_of_a_manifest_is_found_by_its_mount(tmp_path: Path) -> None:
    pod = _of(
        command=["etcd", "--config-file=/conf/etcd.yml", "--name=hidden"],
        env=[{"name": "ETCD_CERT_FILE", "value": "/hidden"}],
        volumeMounts=[{"name": "conf", "mountPath": "/conf"}],
    )
    pod["spec"]["volumes"] = [{"name": "conf", "hostPath": {"path": str(tmp_path / "node")}}]
    (tmp_path / "node").mkdir()
    (tmp_path / "node/etcd.yml").write_text("name: a\n", encoding="utf-8")
    (tmp_path / "manifests").mkdir()
    declaration = written(tmp_path / "manifests", yaml.safe_dump(pod))
    assert declaration.text("name") == "a"
    assert [setting.written for setting in declaration.hidden] == ["--name=hidden", "ETCD_CERT_FILE=/hidden"]


def test_the_configuration_file_under_the_pki_dir(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    (copies / "etcd").mkdir(parents=True)
    (copies / "etcd/config").write_text("name: a\n", encoding="utf-8")
    pod = tmp_path / "etcd.yaml"
    pod.write_text(
        yaml.safe_dump(_of(command=["etcd", "--config-file=/srv/db/etcd/config"])), encoding="utf-8"
    )
    assert read_declaration(pod, pki_dir=copies).text("name") == "a"


def _declared(directory: Path, *objects: dict[str, Any]) -> dict[str, Declaration]:
    path = directory / "declaration"
    listed = {"apiVersion": "v1", "kind": "List", "items": [deepcopy(one) for one in objects]}
    path.write_text(yaml.safe_dump(listed), encoding="utf-8")
    return {one.pod: one for one in read_declarations(path)}


def _live(name: str, container: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """Return a pod as the API server has it."""
    pod = _pod(container, status={"phase": "Running", "podIP": "10.1.2.3", "hostIP": "10.0.0.1"})
    pod["metadata"] = {"name": name, "namespace": "db", **metadata}
    return pod


def test_every_pod_of_a_list_that_runs_etcd_is_a_member(tmp_path: Path) -> None:
    pods = [
        _live(f"etcd-cp{number}", _container(command=["etcd", f"--name=cp{number}"])) for number in (1, 2)
    ]
    declared = _declared(tmp_path, _live("backup", OTHER), *pods)
    assert {pod: one.text("name") for pod, one in declared.items()} == {
        "db/etcd-cp1": "cp1",
        "db/etcd-cp2": "cp2",
    }
    assert [*_declared(tmp_path, pods[0])] == ["db/etcd-cp1"]
    with pytest.raises(UsageError, match="has the pod db/etcd-cp1 twice"):
        _declared(tmp_path, pods[0], pods[0])


def test_more_members_than_a_cluster_has(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than 1000 members: keep those of one cluster"):
        _declared(tmp_path, *(_live(f"p{number}", ETCD) for number in range(1001)))


def test_other_objects_in_the_file_do_not_matter(tmp_path: Path) -> None:
    """Whether they are no pods, write about etcd, or have ended."""
    script = "etcdctl snapshot save /b\necho saved etcd\n"
    waiting = {"name": "b", "image": "x", "command": ["sh", "-c", script]}
    evicted = {**_live("etcd-old", ETCD), "status": {"phase": "Failed"}}
    objects = (_set(), {"kind": "Service"}, evicted, _live("other", waiting), _live("etcd-a", ETCD))
    assert [*_declared(tmp_path, *objects)] == ["db/etcd-a"]
    assert written(tmp_path, yaml.safe_dump(_pod(waiting, ETCD))).text("name") == "a"


def test_a_member_that_is_started_by_a_shell_is_not_left_out(tmp_path: Path) -> None:
    by_shell = _live("etcd-b", _container(command=["sh", "-c", "exec etcd --name=b"]))
    with pytest.raises(UsageError, match="the container etcd starts sh, not etcd itself"):
        _declared(tmp_path, _live("etcd-a", ETCD), by_shell)


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ({}, ""),
        (
            {"ownerReferences": [{"kind": "EtcdCluster", "name": "main", "controller": True}]},
            "EtcdCluster main",
        ),
        ({"annotations": {"kubernetes.io/config.mirror": "hash"}}, "node "),
    ],
)
def test_what_overwrites_a_pod(tmp_path: Path, metadata: dict[str, Any], owner: str) -> None:
    assert _declared(tmp_path, _live("etcd-0", ETCD, **metadata))["db/etcd-0"].owner == owner


def test_an_ipv4_address_in_brackets(tmp_path: Path) -> None:
    """Go since 1.25.2 refuses it, and earlier etcds listen there."""
    container = _container(command=["/usr/bin/etcd", "--listen-client-urls=https://[10.1.2.3]:2379"])
    declaration = written(tmp_path, yaml.safe_dump(_pod(container)))
    assert [str(one) for one in declaration.urls("listen-client-urls")] == ["https://10.1.2.3:2379"]
    assert declaration.mistakes == ()


def test_many_open_references_take_linear_time(tmp_path: Path) -> None:
    pod = _of(command=["etcd", "--name=$$" + "$(" * 300_000])
    assert (written(tmp_path, yaml.safe_dump(pod)).text("name") or "")[:5] == "$$($("


def _variable(value: str) -> dict[str, str]:
    return {"name": "ETCD_CLIENT_CERT_AUTH", "value": value}


@pytest.mark.parametrize(
    ("more", "is_said"),
    [
        ({"env": [_variable("true"), _variable("false")]}, True),
        ({"env": [_variable("true"), _variable("1")]}, False),
        ({"env": [{"name": "ETCD_CLIENT_CERT_AUTH", "valueFrom": {}}, _variable("false")]}, False),
    ],
)
def test_a_variable_that_is_given_twice(tmp_path: Path, more: dict[str, Any], is_said: bool) -> None:
    """The kubelet takes the last one."""
    declaration = written(tmp_path, yaml.safe_dump(_of(command=["etcd"], **more)))
    traps = [trap.summary for trap in find_traps(declaration, "3.6.16") if trap.id == "flag-given-twice"]
    said = "ETCD_CLIENT_CERT_AUTH is given 2 times, and etcd takes ETCD_CLIENT_CERT_AUTH=false"
    assert [text.partition(" (")[0] for text in traps] == [said] * is_said
    assert declaration.settings["client-cert-auth"].value == more["env"][-1]["value"]


NEW = ["etcd", "--name=cp1", "--initial-advertise-peer-urls=https://10.0.0.11:2380"]
OLD = "--initial-advertise-peer-urls=http://10.0.0.11:2380"


def test_the_kubelet_runs_the_last_of_the_files_of_a_pod(tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for name in ("etcd.old", "etcd.yaml", "etcd.yaml~"):
        (manifests / name).write_text(yaml.safe_dump(_of(command=NEW)), encoding="utf-8")
    beside = read_declaration(manifests / "etcd.yaml").beside
    assert [(Path(one.file).name, one.runs) for one in beside] == [("etcd.old", False), ("etcd.yaml~", True)]


@pytest.mark.parametrize(
    ("name", "pod", "container", "is_run"),
    [
        ("etcd.yaml.bak", "etcd", _container(command=NEW), True),
        ("etcd.yaml~", "etcd", _container(command=["etcd", "--name=cp1", OLD]), True),
        ("etcd2.json", "etcd", _container(command=["etcd", "--name=cp1", OLD.replace("11", "99")]), True),
        ("x", "etcd", _container(command=["sh", "-c", f"exec etcd --name cp1 {OLD}"]), True),
        ("z", "etcd", _container(command=["etcd"]), True),
        ("etcd-1.yaml", "etcd-old", _container(command=["etcd", OLD]), True),
        ("bak.yaml", "etcd", _container(command=["etcd", OLD]), False),
        ("cp2.yaml", "etcd", _container(command=["etcd", "--name=cp2", OLD.replace("11", "12")]), None),
        ("events.yaml", "etcd-events", _container(command=["etcd", OLD.replace("2380", "2381")]), None),
        ("scheduler.yaml", "etcd", _container(command=["kube-scheduler", "--name=cp1"]), None),
        (".etcd.yaml.swp", "etcd", _container(command=NEW), None),
    ],
)
def test_other_files_of_a_kubelets_directory(
    tmp_path: Path, name: str, pod: str, container: dict[str, Any], is_run: bool | None
) -> None:
    """It runs a backup that was written before TLS was configured, and no other node's pod is meant."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    manifest = manifests / "etcd.yaml"
    manifest.write_text(json.dumps(_of(command=NEW)), encoding="utf-8")
    (manifests / name).write_text(json.dumps(_pod(container, metadata={"name": pod})), encoding="utf-8")
    (manifests / "etcd.d").mkdir()
    beside = read_declaration(manifest).beside
    assert [(one.file, one.runs, one.has_same_name) for one in beside] == (
        [] if is_run is None else [(str(manifests / name), is_run, pod == "etcd")]
    )
