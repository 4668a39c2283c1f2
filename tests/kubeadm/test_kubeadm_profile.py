"""The profile kubeadm is selected automatically for a declaration with kubeadm's layout, and for no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from declared.declaring import read_declaration, written
from given import Given
from plugin.runs import Runner

from kubeadm.conftest import ADDRESS
from kubeadm.judging import found
from kubeadm.nodes import SHAPES, Cluster, changed
from pytest_etcdtls.declared.reading import declared_member
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.settings.read import Settings, is_kubeadm, read_settings

CHECKS = {
    *("mtls.client-certificate-on-peer-port", "mtls.peer-certificate-on-client-port"),
    "mtls.server-certificate-as-client",
}


def settings(**values: str | Path | list[str]) -> Settings:
    return read_settings(Given(**values), live=True)


def names(read: Settings) -> list[str]:
    return [profile.name for profile in read.profiles.profiles]


def test_a_kubeadm_manifest_selects_the_profile(control_plane: Cluster) -> None:
    node = control_plane.nodes[0]
    read = settings(etcd_config=node.manifest, etcd_pki_dir=node.root)
    assert names(read) == ["kubeadm"]
    for given, expected in (("none", []), ("cis-kubernetes", ["cis-kubernetes"])):
        named = settings(etcd_config=node.manifest, etcd_pki_dir=node.root, etcd_profile=[given])
        assert names(named) == expected
    assert names(settings(etcd_endpoint=f"https://{ADDRESS}:2379")) == []
    [live] = read.live
    results = run_checks(Observer(live), sorted(CHECKS), profiles=read.profiles)
    assert not found(results).get("warns")
    assert any("a note by profile kubeadm, etcd-ca" in result.reason for result in results)


@pytest.mark.parametrize(
    "shape",
    [
        *("kubeadm/v1.28.yaml", "kubeadm/v1.34.yaml", "kubeadm/v1.34-joined.yaml"),
        *("rke2/etcd.yaml", "yaml/tls.yml", "kubespray/etcd.env"),
    ],
)
def test_kubeadms_manifests_and_no_others_are_recognised(shape: str) -> None:
    declaration = read_declaration(SHAPES.parent / shape)
    assert is_kubeadm(declared_member(declaration)) is shape.startswith("kubeadm")


def test_a_manifest_with_two_cas_is_not_recognised_as_kubeadm(tmp_path: Path) -> None:
    text = (SHAPES / "v1.34.yaml").read_text(encoding="utf-8")
    declaration = written(tmp_path, changed(text, {"peer-trusted-ca-file": "/etc/ca.crt"}))
    assert not is_kubeadm(declared_member(declaration))


def test_a_run_says_which_profile_it_applies_and_its_notes(control_plane: Cluster, run: Runner) -> None:
    node = control_plane.nodes[0]
    options = (f"--etcd-config={node.manifest}", f"--etcd-pki-dir={node.root}")
    ran = run(*options, f"--etcd-check={','.join(sorted(CHECKS))}", "--etcd-report=r.md")
    said = " ".join(ran.out.split())
    assert (
        f"profile kubeadm, as {node.manifest} has kubeadm's layout; --etcd-profile=none applies none" in said
    )
    note = "a client's certificate on the peer port is accepted: a note by profile kubeadm, etcd-ca"
    assert note in said.partition("notes of profiles")[2]
    row = (
        "accepts the client certificate (healthcheck-client) too: clients of its CA are accepted as peers, "
        "one CA for both ports, as kubeadm makes it"
    )
    assert row in said.rpartition("live (live, etcd ")[2]
    markdown = (run.directory / "r.md").read_text(encoding="utf-8")
    assert "### Notes of profiles" in markdown
    assert row in markdown
    named = run(*options, "--etcd-profile=kubeadm", "--etcd-check=listener", report=False)
    assert "  profile kubeadm\n" in named.out


def test_a_cluster_on_the_command_line_replaces_that_of_the_ini_file(run: Runner) -> None:
    manifest = SHAPES / "v1.34.yaml"
    run.ini("etcd_endpoint = https://10.0.0.99:2379\netcd_peer_endpoint = https://10.0.0.99:2380")
    collected = run(f"--etcd-config={manifest}", "--collect-only", "-q", report=False).out
    assert "10.0.0.99" not in collected
    assert "etcdtls::live::client-10.0.0.11-2379::config.served-file" in collected
    run.ini(f"etcd_config = {manifest}")
    collected = run("--etcd-endpoint=https://10.0.0.99:2379", "--collect-only", "-q", report=False).out
    assert "10.0.0.11" not in collected
    assert "etcdtls::live::client-10.0.0.99-2379::cert.trusted" in collected
