"""Listeners and credentials from --etcd-config and --etcd-pki-dir; faults are one message."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubeadm.judging import target

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki import bundle
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates, encode_key
from pytest_etcdtls.pki.profile import CALayout, Identity, KeyType, MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Target

SHAPES = Path(__file__).parents[1] / "declared" / "shapes"
ADDRESS = "192.0.2.11"
"""Of the manifest: an address that no machine of a test has."""

ForNode = Callable[[str], Path]


@pytest.fixture(scope="module")
def nodes() -> ClusterPKI:
    plan = PKIPlan(layout=CALayout.KUBEADM, key_type=KeyType.ECDSA_P256)
    return ClusterPKI.generate(
        plan, [MemberNames(f"cp{number}", (f"192.0.2.1{number}",)) for number in (1, 2, 3)]
    )


@pytest.fixture
def pki(nodes: ClusterPKI, tmp_path: Path) -> Path:
    """What is ``/etc/kubernetes/pki`` on cp1, with copies of the others' beside it."""
    nodes.write(tmp_path / "pki")
    return tmp_path / "pki" / "cp1"


@pytest.fixture
def manifest(tmp_path: Path) -> ForNode:
    """Writes kubeadm's manifest of a node; what is there is replaced by pairs of words."""

    def write(name: str = "cp1", *changes: tuple[str, str]) -> Path:
        number = name[-1]
        text = (SHAPES / "kubeadm" / "v1.34.yaml").read_text(encoding="utf-8")
        text = text.replace("10.0.0.11", f"192.0.2.1{number}").replace("--name=cp1", f"--name={name}")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def add(text: str) -> tuple[str, str]:
    """Return the change of a manifest that adds a flag."""
    return ("    - etcd\n", f"    - etcd\n    - {text}\n")


def put(directory: Path, name: str, pair: Identity) -> None:
    assert pair.key is not None
    (directory / f"{name}.crt").write_bytes(encode_certificates(pair.chain))
    (directory / f"{name}.key").write_bytes(encode_key(pair.key))


def labels(live: Target) -> list[str]:
    return [f"{listener.member} {listener.label}" for listener in live.listeners]


def names(identities: Sequence[Identity]) -> list[str]:
    return [identity.name for identity in identities]


# Listeners


def test_a_member_that_advertises_the_name_of_this_machine_is_local(
    manifest: Any, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cp1.example"
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    change = (f"advertise-client-urls=https://{ADDRESS}", f"advertise-client-urls=https://{name}")
    live = target(etcd_config=manifest("cp1", change), etcd_pki_dir=pki)
    assert [str(listener.role) for listener in live.listeners] == ["client", "client", "metrics", "peer"]
    assert live.unreached == ()


def test_an_endpoint_option_decides_its_role_alone(manifest: Any, pki: Path) -> None:
    live = target(etcd_config=manifest(), etcd_pki_dir=pki, etcd_metrics_endpoint=f"http://{ADDRESS}:2381")
    assert labels(live) == [
        f"cp1 metrics-{ADDRESS}-2381",
        f"cp1 client-{ADDRESS}-2379",
        f"cp1 peer-{ADDRESS}-2380",
    ]
    assert [one.role for one in live.unreached] == [Role.CLIENT]
    assert "run pytest on the member's machine" in live.unreached[0].reason


@pytest.mark.parametrize(
    ("declared", "endpoints", "members"),
    [
        # Two members on one machine, the declaration of one: the other's ports are not compared with it.
        (["cp1"], [f"https://{ADDRESS}:2379", f"https://{ADDRESS}:12379"], ["cp1", ADDRESS]),
        (["cp1"], [f"https://{ADDRESS}:12379"], ["cp1"]),
        (["cp1"], ["https://tunnel.example:9999"], ["cp1"]),
        (["cp1", "cp2"], [f"https://{ADDRESS}:12379"], ["cp1"]),
        (["cp1", "cp2"], ["https://etcd.example:2379"], ["etcd.example"]),
        (["cp1", "cp2"], [f"https://{ADDRESS}:2379", "https://192.0.2.12:2379"], ["cp1", "cp2"]),
        (["cp1", "cp2"], [f"https://{ADDRESS}:2379", "https://10.0.0.99:2379"], ["cp1", "10.0.0.99"]),
    ],
)
def test_a_named_listener_belongs_to_the_member_that_declares_it(
    declared: list[str], endpoints: list[str], members: list[str], manifest: Any, pki: Path
) -> None:
    live = target(etcd_config=[*map(manifest, declared)], etcd_pki_dir=pki, etcd_endpoint=endpoints)
    assert [listener.member for listener in live.listeners if listener.role is Role.CLIENT] == members


def test_a_tunnel_leads_to_declared_listeners_too(manifest: Any, pki: Path) -> None:
    live = target(etcd_config=manifest(), etcd_pki_dir=pki, etcd_connect_to=f"{ADDRESS}::localhost:")
    assert {listener.address for listener in live.listeners} == {("localhost", 2379), ("localhost", 2380)}


def test_labels_of_members_without_a_unique_name(manifest: Any, pki: Path) -> None:
    first, second = (manifest(name, (f"--name={name}", "--name=a/b")) for name in ("cp1", "cp2"))
    live = target(etcd_config=[first, second], etcd_pki_dir=pki)
    assert set(live.declared) == {"a-b-192.0.2.11", "a-b-192.0.2.12"}


def test_one_member_declared_twice(manifest: Any, pki: Path) -> None:
    with pytest.raises(UsageError, match="both advertise") as caught:
        target(etcd_config=[manifest("cp1"), manifest("cp1")], etcd_pki_dir=pki)
    assert f"https://{ADDRESS}:2379" in str(caught.value)


def test_no_listener_can_be_reached(tmp_path: Path) -> None:
    config = tmp_path / "etcd.env"
    config.write_text(
        "ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:2379\nETCD_ADVERTISE_CLIENT_URLS=http://192.0.2.11:2379\n"
        "ETCD_LISTEN_PEER_URLS=http://127.0.0.1:2380\n",
        encoding="utf-8",
    )
    with pytest.raises(UsageError, match="none of the declared listeners can be judged from here") as caught:
        target(etcd_config=config)
    assert "http://127.0.0.1:2379" in str(caught.value)


# Files


def test_kubeadms_credentials_are_in_the_order_of_the_attempts(manifest: Any, pki: Path) -> None:
    live = target(etcd_config=manifest(), etcd_pki_dir=pki / "etcd")
    assert names(live.client.identities) == ["healthcheck-client", "apiserver-etcd-client", "client-cp1"]
    assert names(live.peer.identities) == ["healthcheck-client", "peer-cp1"]
    for held in (live.client, live.peer):
        assert held.server_ca is not None
        assert held.client_trust is not None
        assert held.server_ca.source == held.client_trust.source == str(pki / "etcd" / "ca.crt")
        assert held.signing_key is None
        assert len(held.served) == 1
    assert live.dials_with_another == frozenset()
    assert live.remarks == ()
    assert live.expected == ()


def test_named_credentials_come_first(manifest: Any, pki: Path, nodes: ClusterPKI, tmp_path: Path) -> None:
    mine = nodes.client_ca.issue(replace(bundle.HEALTHCHECK_CLIENT, common_name="me"), name="mine")
    put(tmp_path, "mine", mine)
    pair = {"etcd_cert": tmp_path / "mine.crt", "etcd_key": tmp_path / "mine.key"}
    live = target(etcd_config=manifest(), etcd_pki_dir=pki, **pair)
    assert names(live.client.identities)[0] == "client"
    assert names(live.peer.identities) == ["healthcheck-client", "peer-cp1", "client"]
    peer = {f"etcd_peer_{name.removeprefix('etcd_')}": path for name, path in pair.items()}
    live = target(etcd_config=manifest(), etcd_pki_dir=pki, **peer)
    assert names(live.peer.identities) == ["peer", "healthcheck-client", "peer-cp1"]


def test_a_certificate_both_named_and_found_is_tried_once(manifest: Any, pki: Path) -> None:
    found = pki / "etcd" / "healthcheck-client.crt"
    live = target(
        etcd_config=manifest(), etcd_pki_dir=pki, etcd_cert=found, etcd_key=found.with_suffix(".key")
    )
    assert names(live.client.identities) == ["client", "apiserver-etcd-client", "client-cp1"]


def test_one_expired_client_is_left_out_and_all_are_kept(manifest: Any, pki: Path, nodes: ClusterPKI) -> None:
    old = {"valid_from": timedelta(days=-9), "valid_for": timedelta(days=8)}
    put(
        pki / "etcd",
        "healthcheck-client",
        nodes.client_ca.issue(replace(bundle.HEALTHCHECK_CLIENT, **old), name="old"),  # type: ignore[arg-type]
    )
    live = target(etcd_config=manifest(), etcd_pki_dir=pki)
    assert names(live.client.identities) == ["apiserver-etcd-client", "client-cp1"]
    for name in ("apiserver-etcd-client", "etcd/server"):
        put(pki, name, nodes.client_ca.issue(replace(bundle.KUBEADM_NODE, **old), name="old"))  # type: ignore[arg-type]
    live = target(etcd_config=manifest(), etcd_pki_dir=pki)
    assert names(live.client.identities) == ["healthcheck-client", "apiserver-etcd-client", "client-cp1"]


def test_a_bundle_that_did_not_sign_the_served_certificate_is_not_an_anchor(
    manifest: Any, pki: Path, tmp_path: Path
) -> None:
    other = CertificateAuthority.create("some other CA", KeyType.ECDSA_P256)
    (pki / "etcd" / "ca.crt").write_bytes(encode_certificates([other.certificate]))
    live = target(etcd_config=manifest(), etcd_pki_dir=pki)
    assert live.client.server_ca is None
    assert live.client.client_trust is not None
    # None of the clients comes from that CA: all are tried.
    assert names(live.client.identities)[:2] == ["healthcheck-client", "apiserver-etcd-client"]


def test_this_machines_files_are_not_another_members(manifest: Any, pki: Path) -> None:
    here = ("/etc/kubernetes/pki", str(pki))
    live = target(etcd_config=manifest("cp2", here))
    assert live.declared["cp2"].file("cert-file") is None
    assert live.client.client_trust is not None
    live = target(etcd_config=manifest("cp2", here), etcd_pki_dir=pki / "etcd")
    assert live.declared["cp2"].file("cert-file") is None
    live = target(etcd_config=manifest("cp1", here))
    assert live.declared["cp1"].file("cert-file") == pki / "etcd" / "server.crt"


def test_a_directory_that_holds_none_of_the_files(manifest: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="holds none of the declared files") as caught:
        target(etcd_config=manifest(), etcd_pki_dir=empty)
    assert "/etc/kubernetes/pki/etcd/server.crt" in str(caught.value)
    with pytest.raises(UsageError, match="does not exist"):
        target(etcd_config=manifest(), etcd_pki_dir=tmp_path / "nowhere")


def test_unusable_files_are_remarks(manifest: Any, pki: Path) -> None:
    (pki / "etcd" / "server.key").write_bytes((pki / "etcd" / "peer.key").read_bytes())
    (pki / "apiserver-etcd-client.crt").write_text("no certificate", encoding="utf-8")
    live = target(etcd_config=manifest(), etcd_pki_dir=pki)
    assert names(live.client.identities) == ["healthcheck-client"]
    assert live.client.served == ()
    assert len(live.remarks) == 2
    assert any("does not belong to the first certificate" in remark for remark in live.remarks)
    assert any("apiserver-etcd-client.crt" in remark for remark in live.remarks)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may become somebody else")
def test_keys_that_this_user_may_not_read_are_remarks(manifest: Any, pki: Path) -> None:
    # Not below pytest's own directory or TMPDIR, which may be root's alone.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        shutil.copytree(pki, directory / "pki")
        config = Path(shutil.copy(manifest(), directory))
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o600 if path.suffix == ".key" else 0o755)
        os.seteuid(65534)
        try:
            live = target(etcd_config=config, etcd_pki_dir=directory / "pki")
            with pytest.raises(UsageError, match="may not be listed by this user"):
                target(etcd_config=config, etcd_pki_dir=pki)
        finally:
            os.seteuid(0)
    assert live.client.identities == ()
    assert live.client.server_ca is not None
    assert any("may not be read by this user" in remark for remark in live.remarks)


def test_rules_about_names_and_other_client_certificates(manifest: Any, pki: Path) -> None:
    live = target(
        etcd_config=manifest(
            "cp1",
            add("--peer-cert-allowed-cn=cp1,cp2"),
            add("--client-cert-file=/etc/kubernetes/pki/apiserver-etcd-client.crt"),
            add("--client-key-file=/etc/kubernetes/pki/apiserver-etcd-client.key"),
        ),
        etcd_pki_dir=pki,
    )
    assert live.peer.allowed_cn == ("cp1", "cp2")
    assert live.dials_with_another == frozenset({Role.CLIENT, Role.CLIENT_HTTP, Role.METRICS})


def test_etcdctls_certificate_is_found_in_the_environment_of_etcd(tmp_path: Path, nodes: ClusterPKI) -> None:
    text = (SHAPES / "kubespray" / "etcd.env").read_text(encoding="utf-8")
    (tmp_path / "etcd.env").write_text(text, encoding="utf-8")
    pki = tmp_path / "ssl"
    pki.mkdir()
    leaves = nodes.leaves["cp1"]
    (pki / "ca.pem").write_bytes(encode_certificates([nodes.client_ca.certificate]))
    for name, pair in {"member-node1": leaves.server, "admin-node1": leaves.client}.items():
        put(pki, name, pair)
        (pki / f"{name}.crt").rename(pki / f"{name}.pem")
        (pki / f"{name}.key").rename(pki / f"{name}-key.pem")
    live = target(etcd_config=tmp_path / "etcd.env", etcd_pki_dir=pki)
    assert names(live.client.identities) == ["etcdctl", "client-etcd1"]
    assert names(live.peer.identities) == ["peer-etcd1"]


def test_kubeadms_directory_is_that_of_one_node(pki: Path) -> None:
    live = target(etcd_endpoint=[f"https://{ADDRESS}:2379", "https://192.0.2.12:2379"], etcd_pki_dir=pki)
    assert [one.host for one in live.expected] == [ADDRESS]


def test_the_ca_of_the_served_certificate_is_beside_it(manifest: Any, pki: Path) -> None:
    """Where no trusted CA is declared, the directory still has the CA that verifies the server."""
    ca = "/etc/kubernetes/pki/etcd/ca.crt"
    file = manifest(
        "cp1", (f"    - --trusted-ca-file={ca}\n", ""), (f"    - --peer-trusted-ca-file={ca}\n", "")
    )
    live = target(etcd_config=file, etcd_pki_dir=pki)
    for held in (live.client, live.peer):
        assert held.server_ca is not None
        assert held.server_ca.source == str(pki / "etcd" / "ca.crt")
        assert held.client_trust is None
