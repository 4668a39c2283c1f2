"""The profile kubeadm is selected automatically for a declaration with kubeadm's layout, and for no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from declared.declaring import read_declaration
from given import Given
from plugin.runs import Runner

from kubeadm.conftest import ADDRESS
from kubeadm.judging import found
from kubeadm.nodes import SHAPES, Cluster
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.declared.reading import declared_member
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.settings.read import Settings, is_kubeadm, read_settings

DECLARED = Path(__file__).parents[1] / "declared" / "shapes"
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
    [live] = read.live
    results = run_checks(Observer(live), select(sorted(CHECKS)), profiles=read.profiles)
    assert not found(results).get("warns")
    assert any("a note by profile kubeadm, etcd-ca" in result.reason for result in results)


@pytest.mark.parametrize(("given", "expected"), [("none", []), ("cis-kubernetes", ["cis-kubernetes"])])
def test_a_named_profile_replaces_the_kubeadm_profile(
    control_plane: Cluster, given: str, expected: list[str]
) -> None:
    node = control_plane.nodes[0]
    read = settings(etcd_config=node.manifest, etcd_pki_dir=node.root, etcd_profile=[given])
    assert names(read) == expected


def test_endpoints_alone_select_no_profile() -> None:
    assert names(settings(etcd_endpoint=f"https://{ADDRESS}:2379")) == []


@pytest.mark.parametrize("path", sorted(SHAPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_release_of_kubeadm_is_recognised(path: Path) -> None:
    assert is_kubeadm(declared_member(read_declaration(path)))


@pytest.mark.parametrize("shape", ["rke2/config", "yaml/tls.yml", "kubespray/etcd.env"])
def test_other_declarations_are_not_recognised_as_kubeadm(shape: str, tmp_path: Path) -> None:
    path = tmp_path / Path(shape).name
    shutil.copy(DECLARED / shape, path)
    assert not is_kubeadm(declared_member(read_declaration(path)))


def test_a_manifest_with_two_cas_is_not_recognised_as_kubeadm(tmp_path: Path) -> None:
    path = tmp_path / "etcd.yaml"
    text = (SHAPES / "v1.34.yaml").read_text(encoding="utf-8")
    path.write_text(
        text.replace(
            "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt", "--peer-trusted-ca-file=/etc/ca.crt"
        ),
        encoding="utf-8",
    )
    assert not is_kubeadm(declared_member(read_declaration(path)))


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
