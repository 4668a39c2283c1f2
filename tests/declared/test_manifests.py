"""Manifests: the ways to start etcd in a container, and one clear message for other manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from declared.declaring import written
from pytest_etcdtls.declared.reading import read_declaration
from pytest_etcdtls.errors import UsageError

SHAPES = Path(__file__).parent / "shapes"


def _pod(*containers: dict[str, Any], kind: str = "Pod", **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": list(containers)}
    if kind != "Pod":
        spec = {"template": {"spec": spec}}
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "etcd"}, "spec": spec, **more}


def _container(**more: Any) -> dict[str, Any]:
    return {"name": "etcd", "image": "registry.example/etcd:v3.6.4", **more}


ETCD = _container(command=["etcd", "--name=a"])
SCRIPT = """\
#!/bin/sh
set -euo pipefail

etcdctl member list || true
export ETCD_NAME=${NODE}
exec nice -n -19 etcd \\
  --client-cert-auth=true || mv /backup/etcd.yaml /manifests
"""
"""As OpenShift's operator writes it, in short."""

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
        _container(args=["--name=a"]),
        _container(args=["etcd", "--name=a"]),
        _container(command=["etcd", "--name=$(NODE)"], env=[{"name": "NODE", "value": "a"}]),
        _container(command=["etcd"], env=[{"name": "ETCD_NAME", "value": "a"}]),
        _container(
            command=["etcd"], env=[{"name": "N", "value": "a"}, {"name": "ETCD_NAME", "value": "$(N)"}]
        ),
        _container(command=["/bin/sh", "-ec"], args=["set -x\nexec etcd --name=a --data-dir=/d"]),
        _container(
            command=["sh", "-c", "GOMAXPROCS=$(nproc) etcd --name=${NODE}"],
            env=[{"name": "NODE", "value": "a"}],
        ),
        _container(command=["etcd", "--name=b", "--name=a"]),
    ],
)
def test_ways_to_start_etcd(container: dict[str, Any], tmp_path: Path) -> None:
    declaration = written(tmp_path, yaml.safe_dump(_pod(OTHER, container, {"name": "none", "image": "x"})))
    assert declaration.text("name") == "a"
    assert declaration.version == "3.6.4"


@pytest.mark.parametrize("kind", ["Pod", "StatefulSet", "DaemonSet", "Deployment"])
def test_pod_templates(kind: str, tmp_path: Path) -> None:
    assert written(tmp_path, yaml.safe_dump(_pod(ETCD, kind=kind))).text("name") == "a"


def test_json_and_lists(tmp_path: Path) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [_pod(ETCD)]}, indent=1)
    declaration = written(tmp_path, text)
    assert declaration.text("name") == "a"
    line = text.splitlines()[(declaration.settings["name"].place.line or 0) - 1]
    assert "--name=a" in line


def test_several_documents(tmp_path: Path) -> None:
    text = "---\n# nothing\n---\n" + yaml.safe_dump(_pod(OTHER)) + "---\n" + yaml.safe_dump(_pod(ETCD))
    assert written(tmp_path, text).text("name") == "a"


def test_fields_of_a_pod_from_the_api_server_are_resolved(tmp_path: Path) -> None:
    container = _container(
        command=["etcd", "--name=$(NAME)", "--listen-client-urls=https://$(IP):2379"],
        env=[
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
    )
    declaration = written(tmp_path, yaml.safe_dump(_pod(container, status={"podIP": "10.1.2.3"})))
    assert declaration.text("name") == "etcd"
    assert str(declaration.urls("listen-client-urls")[0]) == "https://10.1.2.3:2379"


def test_unknown_and_escaped_references_stay(tmp_path: Path) -> None:
    container = _container(
        command=["etcd", "--name=$$(NODE)$(UNKNOWN)"], env=[{"name": "NODE", "value": "a"}]
    )
    assert written(tmp_path, yaml.safe_dump(_pod(container))).text("name") == "$(NODE)$(UNKNOWN)"


def test_arguments_over_several_lines(tmp_path: Path) -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command:\n    - /bin/sh\n    - -c\n    - |\n"
        "      exec etcd \\\n        --name=a \\\n        --data-dir='/d'\n"
    )
    declaration = written(tmp_path, text)
    assert {name: one.place.line for name, one in declaration.settings.items()} == {
        "name": 10,
        "data-dir": 11,
    }


def test_mounts(tmp_path: Path) -> None:
    pod = _pod(
        _container(
            command=["etcd"],
            volumeMounts=[
                {"name": "pki", "mountPath": "/certs/"},
                {"name": "one", "mountPath": "/x", "subPath": "y"},
                {"name": "secret", "mountPath": "/z"},
            ],
        )
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


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            _pod({"name": "kube-apiserver", "command": ["kube-apiserver", "--etcd-servers=x"]}),
            "neighbour etcd.yaml",
        ),
        (
            _pod(_container(command=["sh", "-c", SCRIPT])),
            "a script of several commands.* is not read: pass the",
        ),
        (
            _pod(_container(command=["sh", "-c", "exec etcd $@", "sh", "--name=a"])),
            "a script and its arguments",
        ),
        (_pod(_container(command=["nice", "etcd", "--name=a"])), "the launcher nice is not read"),
        (_pod(OTHER), "runs backup, and none of these is etcd"),
        (_pod(ETCD, ETCD), "runs etcd 2 times"),
        (
            {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}},
            "a manifest of ConfigMap, not of a pod",
        ),
        (
            {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration"},
            "manifest of ClusterConfiguration",
        ),
        ({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": "none"}}, "a manifest of Pod, not"),
        (
            _pod(_container(command=["etcd"], envFrom=[{"configMapRef": {"name": "x"}}])),
            r"declaration:\d+: etcd takes",
        ),
        (
            _pod(
                _container(
                    command=["etcd"],
                    env=[{"name": "ETCD_CERT_FILE", "valueFrom": {"configMapKeyRef": {"name": "x"}}}],
                )
            ),
            r"declaration:\d+: the value of ETCD_CERT_FILE is not in this file .*comes from a configMapKey",
        ),
        (
            _pod(
                _container(
                    command=["etcd", "--listen-client-urls=https://$(IP):2379"],
                    env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                )
            ),
            r"declaration:\d+: the value of --listen-client-urls is not in this file \(IP\)",
        ),
        (
            _pod(_container(command=["etcd", "--config-file=/etc/gone.yml"])),
            r"declaration:\d+: etcd reads --config-file",
        ),
        (_pod(_container(command=["etcd", "grpc-proxy"])), r"declaration:\d+: etcd grpc-proxy is a proxy"),
    ],
)
def test_manifests_that_are_refused(document: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        written(tmp_path, yaml.safe_dump(document))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_value_without_effect_on_tls_is_noted(tmp_path: Path) -> None:
    source = {"fieldRef": {"fieldPath": "spec.nodeName"}}
    container = _container(command=["etcd"], env=[{"name": "ETCD_NAME", "valueFrom": source}])
    declaration = written(tmp_path, yaml.safe_dump(_pod(container)))
    assert declaration.text("name") is None
    assert "ETCD_NAME" in declaration.notes[0]


def test_the_configuration_file_of_a_manifest_is_found_by_its_mount(tmp_path: Path) -> None:
    pod = _pod(
        _container(
            command=["etcd", "--config-file=/conf/etcd.yml", "--name=hidden"],
            env=[{"name": "ETCD_CERT_FILE", "value": "/hidden"}],
            volumeMounts=[{"name": "conf", "mountPath": "/conf"}],
        )
    )
    pod["spec"]["volumes"] = [{"name": "conf", "hostPath": {"path": str(tmp_path / "node")}}]
    (tmp_path / "node").mkdir()
    (tmp_path / "node/etcd.yml").write_text("name: a\n")
    (tmp_path / "manifests").mkdir()
    declaration = written(tmp_path / "manifests", yaml.safe_dump(pod))
    assert declaration.text("name") == "a"
    assert [setting.written for setting in declaration.hidden] == ["--name=hidden", "ETCD_CERT_FILE=/hidden"]


def test_the_configuration_file_under_the_pki_dir(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    (copies / "etcd").mkdir(parents=True)
    (copies / "etcd/config").write_text("name: a\n")
    pod = tmp_path / "etcd.yaml"
    pod.write_text(yaml.safe_dump(_pod(_container(command=["etcd", "--config-file=/srv/db/etcd/config"]))))
    assert read_declaration(pod, pki_dir=copies).text("name") == "a"


NAMED = _container(
    command=["etcd", "--name=$(POD)", "--listen-client-urls=https://$(POD).etcd.$(NS).svc:2379"],
    env=[
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.{field}"}}}
        for name, field in (("POD", "name"), ("NS", "namespace"))
    ],
)


@pytest.mark.parametrize(("ordinals", "name"), [({}, "etcd-0"), ({"ordinals": {"start": 1}}, "etcd-1")])
def test_pods_of_a_stateful_set_have_ordinals_behind_its_name(
    tmp_path: Path, ordinals: dict[str, Any], name: str
) -> None:
    manifest = _pod(NAMED, kind="StatefulSet")
    manifest["metadata"]["namespace"] = "db"
    manifest["spec"] |= {"replicas": 1, **ordinals}
    declaration = written(tmp_path, yaml.safe_dump(manifest))
    assert declaration.text("name") == name
    assert str(declaration.urls("listen-client-urls")[0]) == f"https://{name}.etcd.db.svc:2379"


def test_a_stateful_set_of_several_members_is_refused(tmp_path: Path) -> None:
    manifest = _pod(NAMED, kind="StatefulSet")
    manifest["spec"]["replicas"] = 3
    with pytest.raises(UsageError, match="a StatefulSet of 3 members: pass the pod of each"):
        written(tmp_path, yaml.safe_dump(manifest))


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_the_name_of_a_pod_that_a_controller_chooses_is_not_guessed(tmp_path: Path, kind: str) -> None:
    manifest = _pod(NAMED, kind=kind)
    with pytest.raises(UsageError, match=r"--listen-client-urls is not in this file \(POD, NS\)"):
        written(tmp_path, yaml.safe_dump(manifest))
