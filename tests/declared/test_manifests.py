"""Manifests: the ways to start etcd in a container, and one clear message for other manifests."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from declared.declaring import written
from pytest_etcdtls.declared.declaration import Change, Declaration, DeclaredPaths
from pytest_etcdtls.declared.editing import edit, merged
from pytest_etcdtls.declared.reading import read_declaration, read_declarations
from pytest_etcdtls.declared.traps import find_traps
from pytest_etcdtls.errors import NotEditableError, UsageError

SHAPES = Path(__file__).parent / "shapes"


def _pod(*containers: dict[str, Any], kind: str = "Pod", **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": list(containers)}
    if kind != "Pod":
        spec = {"template": {"spec": spec}}
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "etcd"}, "spec": spec, **more}


def _container(**more: Any) -> dict[str, Any]:
    return {"name": "etcd", "image": "registry.example/etcd:v3.6.4", **more}


ETCD = _container(command=["etcd", "--name=a"])
KEY = {"name": "x", "key": "cert"}
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
        _container(command=["sh", "-c", "exec etcd --name=$$NODE"], env=[{"name": "NODE", "value": "a"}]),
        _container(command=["bash", "-euxo", "pipefail", "-c", "etcd --name=a"]),
        _container(command=["etcd", "--name=$(a node)"], env=[{"name": "a node", "value": "a"}]),
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
    compact = json.dumps({"items": [_pod(ETCD)], "kind": "List"}, separators=(",", ":"))
    assert written(tmp_path, compact).text("name") == "a"
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
        command=["etcd", "--name=$$(NODE)$(UNKNOWN)$$x$y$("], env=[{"name": "NODE", "value": "a"}]
    )
    assert written(tmp_path, yaml.safe_dump(_pod(container))).text("name") == "$(NODE)$(UNKNOWN)$x$y$("


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
                {"name": "one", "mountPath": "/e", "subPathExpr": "$(NODE)"},
                {"name": "one", "mountPath": "/u", "subPathExpr": "$(POD)"},
            ],
            env=[
                {"name": "NODE", "value": "n"},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
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
        ("/z", "s"),
        ("/e", "/srv/n"),
    ]


def test_files_of_secrets_are_found_by_the_names_of_secret_and_key(tmp_path: Path) -> None:
    """Also if the pod has them at other paths. A copy at the end of a path is the second choice."""
    pod = _pod(
        _container(
            command=["etcd"],
            volumeMounts=[
                {"name": "server", "mountPath": "/tls/server"},
                {"name": "all", "mountPath": "/tls/peer"},
                {"name": "server", "mountPath": "/tls/one.crt", "subPath": "server.crt"},
                {"name": "cas", "mountPath": "/tls/ca"},
            ],
        )
    )
    keys = [{"key": f"tls.{end}", "path": f"server.{end}"} for end in ("crt", "key")]
    pod["spec"]["volumes"] = [
        {"name": "server", "secret": {"secretName": "etcd-server", "items": keys}},
        {"name": "all", "projected": {"sources": [{"secret": {"name": "etcd-peer"}}]}},
        {"name": "cas", "configMap": {"name": "etcd-ca"}},
    ]
    declaration = written(tmp_path, yaml.safe_dump(pod))
    pki = tmp_path / "pki"
    for name in (
        "etcd-server/tls.crt",
        "etcd-peer/tls.crt",
        "etcd-ca/ca.crt",
        "ca/ca.crt",
        "server.key",
        "tls.crt",
    ):
        (pki / name).parent.mkdir(parents=True, exist_ok=True)
        (pki / name).touch()
    paths = DeclaredPaths(pki_dir=pki, mounts=declaration.mounts)
    expected = {
        "/tls/server/server.crt": "etcd-server/tls.crt",
        "/tls/server/server.key": "server.key",
        "/tls/one.crt": "etcd-server/tls.crt",
        "/tls/peer/tls.crt": "etcd-peer/tls.crt",
        "/tls/ca/ca.crt": "etcd-ca/ca.crt",
    }
    assert {path: paths.find(path) for path in expected} == {a: pki / b for a, b in expected.items()}
    assert DeclaredPaths(mounts=declaration.mounts).find("/tls/peer/tls.crt") is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            _pod({"name": "kube-apiserver", "command": ["kube-apiserver", "--etcd-servers=x"]}),
            "neighbour etcd.yaml",
        ),
        (
            _pod(_container(command=["sh", "-c", "exec etcd $@", "sh", "--name=a"])),
            "a script and its arguments",
        ),
        (_pod(_container(command=["tini", "etcd", "--name=a"])), "the launcher tini is not read"),
        (_pod(OTHER), "runs backup, and none of these is etcd"),
        (_pod(_container(args=["--name=a"])), "runs etcd, and none of these is etcd"),
        (_pod(ETCD, ETCD), "runs etcd 2 times"),
        (
            {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}},
            "a manifest of ConfigMap, not of a pod .*: put it into one file with the pods",
        ),
        (
            {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration"},
            "manifest of ClusterConfiguration",
        ),
        ({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": "none"}}, "a manifest of Pod, not"),
        (
            _pod(_container(command=["etcd"], envFrom=[{"configMapRef": {"name": "x"}}])),
            r"declaration:\d+: etcd takes variables from the ConfigMap x, which is not in this file",
        ),
        (
            _pod(_container(command=["etcd"], envFrom=[{"secretRef": {"name": "x"}, "prefix": "ETCD"}])),
            r"etcd takes variables from the Secret x, which is not read, .*: pass the running etcd's",
        ),
        (
            _pod(
                _container(
                    command=["etcd", "--cert-file=$(X_CERT)"],
                    envFrom=[{"secretRef": {"name": "x"}, "prefix": "X_"}],
                )
            ),
            r"the value of --cert-file is not in this file \(X_CERT, of a Secret or ConfigMap: pod etcd",
        ),
        (
            {"apiVersion": "k0s.k0sproject.io/v1beta1", "kind": "ClusterConfig"},
            "k0s starts etcd without a file: pass the command line of the running etcd",
        ),
        (
            _pod(_container(command=["/scripts/run.sh"])),
            "none of these is etcd itself: etcd starts /scripts/run.sh. If that starts etcd, pass",
        ),
        ({"apiVersion": "v1", "kind": "List", "items": []}, "has no objects: kubectl found none"),
        (
            _pod(
                _container(
                    command=["etcd"],
                    env=[{"name": "ETCD_CERT_FILE", "valueFrom": {"configMapKeyRef": KEY}}],
                )
            ),
            r"declaration:\d+: the value of ETCD_CERT_FILE is not in this file \(key cert of the ConfigMap "
            r"x: pod etcd, container etcd\)",
        ),
        (
            _pod(
                _container(
                    command=["etcd", "--listen-client-urls=https://$(IP):2379"],
                    env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                )
            ),
            r"declaration:\d+: the value of --listen-client-urls is not in this file \(IP, status.podIP: pod "
            r"etcd, container etcd; kubectl get pod -o yaml has it\)",
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


def _declared(directory: Path, *objects: dict[str, Any]) -> dict[str, Declaration]:
    path = directory / "declaration"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    return {one.pod: one for one in read_declarations(path)}


def _set(replicas: int, container: dict[str, Any], **more: Any) -> dict[str, Any]:
    manifest = _pod(container, kind="StatefulSet")
    manifest["metadata"]["namespace"] = "db"
    manifest["spec"] |= {"replicas": replicas, "serviceName": "etcd", **more}
    return manifest


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
    with pytest.raises(UsageError, match=r"declares 2 members \(db/etcd-cp1, db/etcd-cp2\)"):
        read_declaration(tmp_path / "declaration")
    assert [*_declared(tmp_path, pods[0])] == ["db/etcd-cp1"]
    with pytest.raises(UsageError, match="has the pod db/etcd-cp1 twice"):
        _declared(tmp_path, pods[0], pods[0])


def test_every_replica_of_a_stateful_set_is_a_member(tmp_path: Path) -> None:
    declared = _declared(tmp_path, _set(3, NAMED, ordinals={"start": 5}))
    assert [str(one.urls("listen-client-urls")[0]) for one in declared.values()] == [
        f"https://etcd-{number}.etcd.db.svc:2379" for number in (5, 6, 7)
    ]
    for wrong in (0, 100, "many"):
        with pytest.raises(UsageError, match=r"0 replicas|100 members|not a number of pods"):
            _declared(tmp_path, _set(wrong, NAMED))  # type: ignore[arg-type]


def test_pods_stand_for_their_stateful_set(tmp_path: Path) -> None:
    owner = {"kind": "StatefulSet", "name": "etcd", "controller": True}
    pod = _live("etcd-0", NAMED, ownerReferences=[owner])
    assert [*_declared(tmp_path, _set(3, NAMED), pod)] == ["db/etcd-0"]
    evicted = {**pod, "status": {"phase": "Failed"}}
    assert len(_declared(tmp_path, _set(3, NAMED), evicted)) == 3


def test_the_hostname_in_a_script_is_that_of_the_pod(tmp_path: Path) -> None:
    script = _container(command=["sh", "-c", "exec etcd --name=${HOSTNAME} --cert-file=/pki/${HOSTNAME}.crt"])
    first, second = _declared(tmp_path, _set(2, script)).values()
    assert [first.text("name"), second.text("cert-file")] == ["etcd-0", "/pki/etcd-1.crt"]
    named = _set(1, script)
    named["spec"]["template"]["spec"] |= {"hostNetwork": False, "hostname": "other"}
    assert [one.text("name") for one in _declared(tmp_path, named).values()] == ["other"]
    literal = _container(command=["etcd", "--name=$(HOSTNAME)"])
    assert [one.text("name") for one in _declared(tmp_path, _set(1, literal)).values()] == ["$(HOSTNAME)"]
    on_the_node = _set(1, script)
    on_the_node["spec"]["template"]["spec"]["hostNetwork"] = True
    with pytest.raises(UsageError, match=r"--cert-file is not in this file \(HOSTNAME\)"):
        _declared(tmp_path, on_the_node)


def test_more_pods_than_a_cluster_has(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than 1000 pods: leave those of etcd"):
        _declared(tmp_path, *(_live(f"p{number}", {"name": "x"}) for number in range(1001)))


def test_other_workloads_in_the_file_do_not_matter(tmp_path: Path) -> None:
    """Whatever their number of replicas, and whether they write about etcd or have ended."""
    redis = _set(0, {"name": "redis", "image": "redis"})
    redis["metadata"]["name"] = "redis"
    many = copy.deepcopy(redis)
    many["spec"]["replicas"] = 200
    waiting = {
        "name": "b",
        "image": "x",
        "command": ["sh", "-c", "etcdctl snapshot save /b\necho saved etcd\n"],
    }
    evicted = {**_live("etcd-old", ETCD), "status": {"phase": "Failed"}}
    earlier = {**_pod(ETCD, kind="ReplicaSet")}
    earlier["spec"]["replicas"] = 0
    objects = (redis, many, evicted, earlier, _live("other", waiting), _live("etcd-a", ETCD))
    assert [*_declared(tmp_path, *objects)] == ["db/etcd-a"]
    beside = _pod(waiting, ETCD)
    assert written(tmp_path, yaml.safe_dump(beside)).text("name") == "a"


def test_a_sidecar_among_the_initial_containers_runs_all_the_time(tmp_path: Path) -> None:
    pod = _pod(OTHER)
    pod["spec"]["initContainers"] = [{**ETCD, "restartPolicy": "Always"}]
    assert written(tmp_path, yaml.safe_dump(pod)).text("name") == "a"
    pod["spec"]["initContainers"] = [ETCD]
    with pytest.raises(UsageError, match="runs backup, and none of these is etcd"):
        written(tmp_path, yaml.safe_dump(pod))


@pytest.mark.parametrize("kind", ["Pod", "StatefulSet", "DaemonSet"])
def test_a_typed_list_of_the_api(tmp_path: Path, kind: str) -> None:
    """``kubectl get --raw`` prints it: its objects have no kind."""
    one = {key: value for key, value in _pod(ETCD, kind=kind).items() if key not in ("kind", "apiVersion")}
    [declared] = _read(tmp_path, {"apiVersion": "v1", "kind": f"{kind}List", "items": [one]})
    assert declared.pod == ("etcd-0" if kind == "StatefulSet" else "etcd")


def _read(directory: Path, document: dict[str, Any]) -> tuple[Declaration, ...]:
    path = directory / "declaration"
    path.write_text(yaml.safe_dump(document))
    return read_declarations(path)


def test_labels_that_a_stateful_set_adds(tmp_path: Path) -> None:
    paths = ("metadata.labels['apps.kubernetes.io/pod-index']", "metadata.labels['app']")
    env = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in zip("AB", paths, strict=True)
    ]
    manifest = _set(2, _container(command=["etcd", "--name=$(B)-$(A)"], env=env))
    manifest["spec"]["template"]["metadata"] = {"labels": {"app": "x"}}
    assert [one.text("name") for one in _declared(tmp_path, manifest).values()] == ["x-0", "x-1"]


def test_labels_and_addresses_of_a_live_pod(tmp_path: Path) -> None:
    paths = {"A": "metadata.labels['app/x']", "B": "status.hostIP", "C": "metadata.namespace"}
    paths |= {"D": "metadata.labels['none']", "E": "status.podIPs"}
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in paths.items()]
    pod = _live(
        "etcd-0",
        _container(command=["etcd", "--name=$(A)-$(B)-$(C)-$(D)-$(E)"], env=env),
        labels={"app/x": "l"},
    )
    pod["status"]["podIPs"] = [{"ip": "10.1.2.3"}, {"ip": "fd00::3"}]
    assert _declared(tmp_path, pod)["db/etcd-0"].text("name") == "l-10.0.0.1-db--10.1.2.3,fd00::3"


def test_the_name_of_a_static_pod_is_not_that_of_its_file(tmp_path: Path) -> None:
    """The kubelet appends the node's name. A mirror pod, which the API server has, is called so."""
    pod = _pod(NAMED, status={})
    pod["metadata"]["namespace"] = "db"
    with pytest.raises(UsageError, match=r"not in this file \(POD, metadata.name"):
        _declared(tmp_path, pod)
    mirror = _live("etcd-cp1", NAMED, annotations={"kubernetes.io/config.mirror": "hash"})
    assert _declared(tmp_path, mirror)["db/etcd-cp1"].text("name") == "etcd-cp1"


def _config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "db"},
        "data": data,
    }


def test_variables_from_config_maps_in_the_file(tmp_path: Path) -> None:
    """env comes before envFrom, and $(NAME) in a value stands for variables of env only."""
    container = _container(
        command=["etcd", "--initial-cluster=$(ETCD_INITIAL_CLUSTER_TOKEN)"],
        envFrom=[{"configMapRef": {"name": "state"}}],
        env=[
            {"name": "ETCD_CERT_FILE", "valueFrom": {"configMapKeyRef": {"name": "files", "key": "cert"}}},
            {"name": "ETCD_NAME", "value": "$(ETCD_INITIAL_CLUSTER_TOKEN)"},
            {
                "name": "ETCD_KEY_FILE",
                "valueFrom": {"configMapKeyRef": {"name": "files", "key": "no", "optional": True}},
            },
        ],
    )
    maps = [
        _config_map("state", ETCD_INITIAL_CLUSTER_TOKEN="t", ETCD_CERT_FILE="/other"),
        _config_map("files", cert="/pki/server.crt"),
    ]
    [declared] = _declared(tmp_path, *maps, _set(1, container)).values()
    assert {name: one.value for name, one in declared.settings.items()} == {
        "initial-cluster-token": "t",
        "cert-file": "/pki/server.crt",
        "name": "$(ETCD_INITIAL_CLUSTER_TOKEN)",
        "initial-cluster": "t",
    }
    with pytest.raises(UsageError, match="variables from the ConfigMap state, which is not in this file"):
        _declared(tmp_path, maps[1], _set(1, container))


def test_a_configuration_file_in_a_config_map(tmp_path: Path) -> None:
    """Its settings have the lines of the manifest, where it is a literal block."""
    container = _container(
        command=["etcd", "--config-file=/conf/etcd.yaml"],
        volumeMounts=[{"name": "conf", "mountPath": "/conf/"}],
    )
    pod = _pod(container)
    volume = {"name": "conf", "configMap": {"name": "c", "items": [{"key": "k", "path": "etcd.yaml"}]}}
    pod["spec"]["volumes"] = [volume]
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  k: |\n    name: a\n"
        "    client-transport-security:\n      cert-file: /pki/server.crt\n---\n" + yaml.safe_dump(pod)
    )
    declared = written(tmp_path, text)
    assert {one.name: one.place.line for one in declared.settings.values()} == {"name": 7, "cert-file": 9}
    after = edit(declared, [Change("cert-file", "/pki/new.crt")])
    [(before, now)] = after.texts.values()
    assert now == before.replace("/pki/server.crt", "/pki/new.crt")
    quoted = json.dumps([_config_map("c", k="name: a\n"), pod])
    declared = written(tmp_path, f'{{"apiVersion": "v1", "kind": "List", "items": {quoted}}}')
    assert declared.settings["name"].place.file.endswith("declaration: k of the ConfigMap c")


def test_a_change_of_one_pod_is_right_for_the_others(tmp_path: Path) -> None:
    """A StatefulSet has one line for all of its pods, a List has lines for each."""
    first, second, _ = _declared(tmp_path, _set(3, NAMED)).values()
    both = [edit(one, [Change("client-cert-auth", "true")]).texts for one in (first, second)]
    [(path, (before, after))] = both[0].items()
    assert merged(before, after, both[1][path][1]) == after
    with pytest.raises(
        NotEditableError, match="db/etcd-1 has the same line, and another value of listen-client"
    ):
        edit(first, [Change("listen-client-urls", "https://etcd-0.etcd.db.svc:3379")])
    pods = [_live(f"etcd-{number}", copy.deepcopy(NAMED)) for number in (0, 1)]
    first, second = _declared(tmp_path, *pods).values()
    texts = [
        edit(one, [Change("listen-client-urls", f"https://new-{one.text('name')}:2379")]).texts
        for one in (first, second)
    ]
    [(path, (before, after))] = texts[0].items()
    text = merged(before, after, texts[1][path][1])
    assert [text.count(f"https://new-etcd-{number}:2379") for number in (0, 1)] == [1, 1]
    with pytest.raises(NotEditableError, match="different changes of one line"):
        merged("a\n", "b\n", "c\n")


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_the_name_of_a_pod_that_a_controller_chooses_is_not_guessed(tmp_path: Path, kind: str) -> None:
    manifest = _pod(NAMED, kind=kind)
    with pytest.raises(UsageError, match=r"not in this file \(POD, metadata.name: .*, NS, metadata.name"):
        written(tmp_path, yaml.safe_dump(manifest))


def _beside(
    directory: Path, *files: tuple[str, str], name: str = "etcd.yaml"
) -> list[tuple[str, bool, bool]]:
    """Return the other pods of a manifest's member: file, whether it runs, whether it is a second one."""
    manifests = directory / "manifests"
    manifests.mkdir(exist_ok=True)
    for earlier in manifests.iterdir():
        earlier.unlink()
    own = _of_kubelet("etcd", "a")
    for file, text in ((name, own), *files):
        (manifests / file).write_text(text)
    [declaration] = read_declarations(manifests / name)
    return [(Path(one.file).name, one.runs, not one.has_same_name) for one in declaration.beside]


def _of_kubelet(pod: str, member: str, **metadata: str) -> str:
    url = f"https://{member}.example:2380"
    container = _container(command=["etcd", f"--name={member}", f"--initial-advertise-peer-urls={url}"])
    return yaml.safe_dump({**_pod(container), "metadata": {"name": pod, **metadata}})


def test_files_that_a_kubelet_runs_beside_a_manifest(tmp_path: Path) -> None:
    backup = _of_kubelet("etcd", "a").replace("v3.6.4", "v3.5.1")
    assert _beside(tmp_path, ("etcd.yaml.bak", backup)) == [("etcd.yaml.bak", True, False)]
    assert _beside(tmp_path, ("etcd.old", backup)) == [("etcd.old", False, False)]
    first, last = ("etcd.old", backup), ("etcd.yaml~", backup)
    assert _beside(tmp_path, first, last) == [("etcd.old", False, False), ("etcd.yaml~", True, False)]
    renamed = _of_kubelet("etcd-old", "a")
    assert _beside(tmp_path, ("etcd-old.yaml", renamed)) == [("etcd-old.yaml", True, True)]


def test_files_that_are_no_pod_of_the_member(tmp_path: Path) -> None:
    server = yaml.safe_dump({**_pod(OTHER), "metadata": {"name": "kube-apiserver"}})
    files = {
        ".etcd.yaml.swp": _of_kubelet("etcd", "a"),
        "another-node.yaml": _of_kubelet("etcd", "b"),
        "etcd-events.yaml": _of_kubelet("etcd-events", "events"),
        "kube-apiserver.yaml": server,
        "notes.txt": "etcd: see the wiki",
        "broken.yaml": "kind: Pod\nspec: [",
    }
    assert _beside(tmp_path, *files.items()) == []
    elsewhere = tmp_path / "copies"
    elsewhere.mkdir()
    for name in ("etcd.yaml", "etcd.yaml.bak"):
        (elsewhere / name).write_text(_of_kubelet("etcd", "a"))
    assert read_declaration(elsewhere / "etcd.yaml").beside == ()


NEW = ["etcd", "--name=cp1", "--initial-advertise-peer-urls=https://10.0.0.11:2380"]
OLD = "--initial-advertise-peer-urls=http://10.0.0.11:2380"


@pytest.mark.parametrize(
    ("name", "pod", "container", "is_run"),
    [
        ("etcd.yaml.bak", "etcd", _container(command=NEW), True),
        ("etcd.yaml~", "etcd", _container(command=["etcd", "--name=cp1", OLD]), True),
        ("etcd.yaml.orig", "etcd", _container(command=["etcd", *OLD.split("="), "--name", "old"]), True),
        ("etcd.yaml.rpmsave", "etcd", _container(command=["etcd", "--name=cp1"]), True),
        ("etcd2.json", "etcd", _container(command=["etcd", "--name=cp1", OLD.replace("11", "99")]), True),
        ("x", "etcd", _container(command=["sh", "-c", f"exec etcd --name cp1 {OLD}"]), True),
        ("y", "etcd", _container(command=["etcd"], env=[{"name": "ETCD_NAME", "value": "cp1"}]), True),
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
    manifest.write_text(json.dumps(_pod(_container(command=NEW))))
    (manifests / name).write_text(json.dumps(_pod(container, metadata={"name": pod})))
    (manifests / "etcd.d").mkdir()
    beside = read_declaration(manifest).beside
    assert [(one.file, one.runs) for one in beside] == (
        [] if is_run is None else [(str(manifests / name), is_run)]
    )


def test_a_pod_that_has_no_address_yet(tmp_path: Path) -> None:
    container = _container(
        command=["etcd", "--listen-client-urls=https://$(IP):2379"],
        env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    )
    pod = {**_live("etcd-1", container), "status": {"phase": "Pending"}}
    with pytest.raises(
        UsageError, match=r"\(IP, status.podIP: pod etcd-1, container etcd; its phase is Pending"
    ):
        _declared(tmp_path, pod)


def test_an_ipv4_address_in_brackets(tmp_path: Path) -> None:
    """As Cilium's clustermesh writes it. Go since 1.25.2 refuses it, and earlier etcds listen there."""
    container = _container(
        command=["/usr/bin/etcd", "--listen-client-urls=https://[$(IP)]:2379"],
        env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    )
    declaration = _declared(tmp_path, _live("clustermesh", container))["db/clustermesh"]
    assert [str(one) for one in declaration.urls("listen-client-urls")] == ["https://10.1.2.3:2379"]
    assert declaration.mistakes == ()


def test_many_open_references_take_linear_time(tmp_path: Path) -> None:
    pod = _pod(_container(command=["etcd", "--name=$$" + "$(" * 300_000]))
    assert (written(tmp_path, yaml.safe_dump(pod)).text("name") or "")[:5] == "$$($("


def _variable(value: str) -> dict[str, str]:
    return {"name": "ETCD_CLIENT_CERT_AUTH", "value": value}


@pytest.mark.parametrize(
    ("more", "is_said"),
    [
        ({"env": [_variable("true"), _variable("false")]}, True),
        ({"env": [_variable("true"), _variable("1")]}, False),
        ({"env": [_variable("false")], "envFrom": [{"configMapRef": {"name": "etcd"}}]}, False),
        ({"env": [{"name": "ETCD_CLIENT_CERT_AUTH", "valueFrom": {}}, _variable("false")]}, False),
    ],
)
def test_a_variable_that_is_given_twice(tmp_path: Path, more: dict[str, Any], is_said: bool) -> None:
    """The kubelet takes the last one. One that replaces a variable of a ConfigMap is meant."""
    of_map = {"kind": "ConfigMap", "metadata": {"name": "etcd"}, "data": {"ETCD_CLIENT_CERT_AUTH": "true"}}
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump_all([of_map, _pod(_container(command=["etcd"], **more))]))
    declaration = read_declaration(path)
    traps = [trap.summary for trap in find_traps(declaration, "3.6.16") if trap.id == "flag-given-twice"]
    assert [text.partition(" (")[0] for text in traps] == (
        ["ETCD_CLIENT_CERT_AUTH is given 2 times, and etcd takes ETCD_CLIENT_CERT_AUTH=false"]
        if is_said
        else []
    )
    assert declaration.settings["client-cert-auth"].value == more["env"][-1]["value"]
