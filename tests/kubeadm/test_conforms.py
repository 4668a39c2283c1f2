"""A cluster created by kubeadm needs two options, and conforms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from zoo.baseline import warned

from kubeadm.conftest import ADDRESS
from kubeadm.judging import Found, explain, found, judged, target
from kubeadm.nodes import Cluster, running
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.role import Role

ONE_CA: Mapping[str, set[str]] = {
    "client": {"mtls.peer-certificate-on-client-port"},
    "peer": {"mtls.client-certificate-on-peer-port"},
}
"""What kubeadm's one CA for clients and peers is warned about."""
_NEEDS_A_CA_KEY = {
    *("mtls.expired", "mtls.not-yet-valid", "mtls.server-auth-only", "mtls.intermediate-missing"),
}
NOT_VERIFIED: Mapping[str, set[str]] = {
    "client": _NEEDS_A_CA_KEY,
    "peer": {*_NEEDS_A_CA_KEY, "mtls.wrong-san"},
}
"""What the key of the CA, which is never taken not_requested, would tell."""


def usual(version: str) -> Found:
    """Return what is found on a conforming node of kubeadm's with that version of etcd."""
    warnings = warned(version, rsa=True)
    for role, checks in ONE_CA.items():
        warnings.setdefault(role, set()).update(checks)
    return {"warns": warnings, "not-verified": NOT_VERIFIED}


def test_a_node_of_every_version(etcd_binary: Path, tmp_path: Path) -> None:
    with running(tmp_path, etcd_binary, [ADDRESS]) as cluster:
        node = cluster.nodes[0]
        results = judged(target(etcd_config=node.manifest, etcd_pki_dir=node.root), "!lifecycle")
    assert found(results) == usual(cluster.version), explain(results)
    assert sum(result.outcome is Outcome.CONFORMS for result in results) > 200


def test_with_the_ca_keys_everything_is_verified(control_plane: Cluster) -> None:
    node = control_plane.nodes[0]
    key = node.pki / "etcd" / "ca.key"
    results = judged(
        target(etcd_config=node.manifest, etcd_pki_dir=node.pki, etcd_ca_key=key, etcd_peer_ca_key=key),
        *("mtls", "config", "listener"),
    )
    assert not {"not-verified", "violates"} & set(found(results)), explain(results)


def test_an_issued_client_is_used_if_there_is_no_other(control_plane: Cluster, tmp_path: Path) -> None:
    node = control_plane.nodes[0]
    for name in ("ca.crt", "ca.key"):
        (tmp_path / name).write_bytes((node.pki / "etcd" / name).read_bytes())
    key = tmp_path / "ca.key"
    live = target(etcd_config=node.manifest, etcd_pki_dir=tmp_path, etcd_ca_key=key, etcd_peer_ca_key=key)
    assert (live.client.identities, live.peer.identities) == ((), ())
    results = judged(live, "mtls.trusted-client", "mtls.expired")
    assert {result.outcome for result in results} == {Outcome.CONFORMS, Outcome.NOT_APPLICABLE}
    accepted = [one.reason for one in results if one.check == "mtls.trusted-client" and one.role != "metrics"]
    assert all("issued" in reason for reason in accepted), accepted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.crt", "ca.key"]


def test_kubeadms_directory_without_a_declaration(control_plane: Cluster) -> None:
    node = control_plane.nodes[0]
    live = target(
        etcd_endpoint=f"https://{ADDRESS}:{node.client}",
        etcd_peer_endpoint=f"https://{ADDRESS}:{node.peer}",
        etcd_pki_dir=node.pki / "etcd",
    )
    # Without a declaration nobody knows whether there is a revocation list.
    results = judged(live, "!lifecycle", "!mtls.revoked-*")
    assert found(results) == usual(control_plane.version), explain(results)
    conforming = {result.check for result in results if result.outcome is Outcome.CONFORMS}
    assert {"cert.matches-expected-file", "cert.trusted", "cert.ca-not-shared-with-kubernetes"} <= conforming


def test_the_same_expected_file_is_judged_once(control_plane: Cluster) -> None:
    node = control_plane.nodes[0]
    options = {"etcd_config": node.manifest, "etcd_pki_dir": node.pki}
    checks = ("config.served-file", "cert.matches-expected-file")
    usual = judged(target(**options), *checks)
    named = judged(target(**options, etcd_expect_cert=node.pki / "etcd" / "server.crt"), *checks)
    another = judged(target(**options, etcd_expect_cert=node.pki / "etcd" / "peer.crt"), *checks)

    def of_clients(results: list[CheckResult]) -> dict[str, Outcome]:
        return {result.check: result.outcome for result in results if result.role == Role.CLIENT}

    served, matches = "config.served-file", "cert.matches-expected-file"
    assert of_clients(usual) == {served: Outcome.CONFORMS, matches: Outcome.NOT_APPLICABLE}
    assert of_clients(named) == {served: Outcome.NOT_APPLICABLE, matches: Outcome.CONFORMS}
    assert of_clients(another) == {served: Outcome.CONFORMS, matches: Outcome.VIOLATES}


@pytest.fixture(scope="module")
def three_nodes(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    addresses = [f"127.0.0.{number}" for number in (21, 22, 23)]
    with running(tmp_path_factory.mktemp("nodes"), newest_etcd, addresses) as cluster:
        yield cluster


def test_three_nodes_in_the_list_that_kubectl_prints(three_nodes: Cluster, tmp_path: Path) -> None:
    """kubectl get pod -l component=etcd -n kube-system: mirror pods, each as its node's manifest."""
    pods = []
    for node in three_nodes.nodes:
        pod = yaml.safe_load(node.text)
        pod["metadata"]["name"] = f"etcd-{node.name}"
        pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "hash"
        pods.append({**pod, "status": {"phase": "Running", "podIP": node.address, "hostIP": node.address}})
    listed = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": pods}
    path = tmp_path / "pods.yaml"
    path.write_text(yaml.safe_dump(listed), encoding="utf-8")
    live = target(etcd_config=path, etcd_pki_dir=three_nodes.nodes[0].root.parent)
    assert set(live.declared) == {"cp1", "cp2", "cp3"}
    results = judged(live, "config", "cluster", "mtls.trusted-client")
    assert found(results) == {}, explain(results)
    served = [
        result for result in results if result.check == "config.served-file" and result.role == Role.CLIENT
    ]
    assert [one.outcome for one in served] == [Outcome.CONFORMS] * 6


def test_three_nodes_and_the_files_of_one(three_nodes: Cluster) -> None:
    """Copies of one node's files do not show what the others serve."""
    first = three_nodes.nodes[0]
    live = target(etcd_config=[node.manifest for node in three_nodes.nodes], etcd_pki_dir=first.pki)
    results = judged(live, "listener", "config", "cluster", "cert", "mtls.trusted-client")
    assert found(results) == {
        "not-verified": {
            "client": {"config.served-file"},
            "peer": {"config.peer-served-file"},
            "cluster": {"config.key-matches-certificate", "config.chain-closes"},
        }
    }, explain(results)
    [first_label, *others] = [result for result in results if result.check == "config.peer-served-file"]
    assert first_label.outcome is Outcome.CONFORMS
    assert all("another member's" in other.reason for other in others)


def test_a_member_that_trusts_another_ca(three_nodes: Cluster) -> None:
    *_, last = three_nodes.nodes
    bundle = last.pki / "etcd" / "ca.crt"
    before = bundle.read_bytes()
    kubernetes = (last.pki / "ca.crt").read_bytes()
    three_nodes.stop(last)
    try:
        # Its peers it knows by another file, so that it still is a member.
        (last.pki / "etcd" / "peers.crt").write_bytes(before)
        bundle.write_bytes(kubernetes)
        three_nodes.start(last, changes={"peer-trusted-ca-file": "/etc/kubernetes/pki/etcd/peers.crt"})
        live = target(
            etcd_config=[node.manifest for node in three_nodes.nodes],
            etcd_pki_dir=three_nodes.nodes[0].root.parent,
        )
        assert live.client.client_trust is None
        results = judged(live, "cluster.same-ca", "mtls.trusted-client", "cert.ca-not-shared-with-kubernetes")
    finally:
        three_nodes.stop(last)
        bundle.write_bytes(before)
        three_nodes.start(last)
    assert found(results)["violates"]["cluster"] == {"cluster.same-ca"}, explain(results)
