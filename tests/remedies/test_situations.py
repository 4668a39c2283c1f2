"""Remedies that know the situation, on etcds: the cause is named, and what is printed ends the fault.

Each case is one that users reported. etcd is judged with the declaration that has the fault.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from kubeadm.judging import judged, target
from starting import manifest, running_etcd, start_process

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.member import Member
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, PEER, SERVER, Identity, Profile
from pytest_etcdtls.role import Role

LISTENS = re.compile(r"serving peer traffic|listening for peers on")


@dataclass(frozen=True)
class Node:
    """The only member of a cluster, its etcd, and a directory for other files."""

    member: Member
    binary: Path
    directory: Path
    client_ca: CertificateAuthority
    peer_ca: CertificateAuthority

    def words(self, changes: Mapping[str, object]) -> list[str]:
        """Return the arguments with other flags; ``None`` leaves one out."""
        kept = [word for word in self.member.argv[1:] if word[2:].partition("=")[0] not in changes]
        return [*kept, *(f"--{name}={value}" for name, value in changes.items() if value is not None)]

    def declare(self, changes: Mapping[str, object], file: Path | None = None) -> Path:
        """Write a manifest with other flags."""
        path = file or self.directory / "etcd.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(manifest(["etcd", *self.words(changes)]), encoding="utf-8")
        return path

    def command(self, changes: Mapping[str, object]) -> list[str | Path]:
        return [self.binary, *self.words(changes)]

    def stop(self) -> None:
        self.member.server.terminate()
        self.member.server.stop(5)

    def starts(self, words: list[str]) -> bool:
        """Return whether etcd serves clients with these arguments, and new data."""
        fresh = [*(word for word in words if not word.startswith("--data-dir=")), "--data-dir=fresh"]
        with running_etcd([self.binary, *fresh], self.directory / "etcd.log") as etcd:
            return etcd.serves()

    def options(self, declaration: Path) -> dict[str, str]:
        """Return what the operator of the node passes."""
        files = {"cacert": "server-ca.crt", "cert": "client.crt", "key": "client.key"}
        files |= {"peer_cacert": "peer-ca.crt", "peer_cert": "peer-client.crt", "peer_key": "peer-client.key"}
        given = {f"etcd_{name}": str(self.member.file(file)) for name, file in files.items()}
        return {"etcd_config": str(declaration), **given}

    def judge(self, declaration: Path, *checks: str, **options: str) -> list[CheckResult]:
        return judged(target(**{**self.options(declaration), **options}), *checks)


@pytest.fixture
def node(etcd_binary: Path, tmp_path: Path) -> Iterator[Node]:
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        yield Node(cluster.members[0], etcd_binary, tmp_path, cluster.pki.client_ca, cluster.pki.peer_ca)


def write(identity: Identity, directory: Path, name: str) -> None:
    assert identity.key is not None
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.crt").write_bytes(encode_certificates(identity.chain))
    (directory / f"{name}.key").write_bytes(encode_key(identity.key))


def ca_key(node: Node) -> bytes:
    assert node.client_ca.key is not None
    return encode_key(node.client_ca.key)


def one_fault(results: list[CheckResult]) -> CheckResult:
    [fault] = [result for result in results if result.outcome in (Outcome.VIOLATES, Outcome.WARNS)]
    return fault


def test_the_key_of_a_ca_as_its_certificate(node: Node) -> None:
    """A file with a private key is left as it is: its certificate lies beside it."""
    certificate, key = node.directory / "ca.crt", node.directory / "ca.key"
    certificate.write_bytes(encode_certificates([node.client_ca.certificate]))
    key.write_bytes(before := ca_key(node))
    fault = one_fault(node.judge(node.declare({"trusted-ca-file": key}), "config.trusted-ca-usable"))
    [removed, written] = fault.settings
    assert removed.startswith(f"- --trusted-ca-file={key}  # ")
    assert written.startswith(f"+ --trusted-ca-file={certificate}  # ")
    assert f"{key} is a private key, and {certificate}, beside it, is its certificate" in fault.remediation
    assert "keep in the file" not in fault.remediation
    assert fault.findings[0].place is not None
    node.stop()
    assert not node.starts(node.words({"trusted-ca-file": key}))
    assert node.starts(node.words({"trusted-ca-file": certificate}))
    assert key.read_bytes() == before


def test_a_key_in_the_file_of_trusted_cas(node: Node) -> None:
    bundle = node.directory / "ca.pem"
    bundle.write_bytes(encode_certificates([node.client_ca.certificate]) + ca_key(node))
    fault = one_fault(node.judge(node.declare({"trusted-ca-file": bundle}), "config.trusted-ca-usable"))
    assert f"{bundle} contains a private key, so do not change it" in fault.remediation
    assert "into another file" in fault.remediation
    assert not fault.settings


@pytest.mark.parametrize("wrong", ["key", "crt"])
def test_half_of_another_pair(node: Node, wrong: str) -> None:
    """The right half lies beside the wrong one, and no file is replaced."""
    for name in ("server", "other"):
        issued = node.client_ca.issue(SERVER, name=name, hosts=("localhost", "127.0.0.1", "::1"))
        write(issued, node.directory, name)
    if wrong == "crt":  # the key of the wrong certificate is not here
        (node.directory / "other.key").unlink()
    names = {"crt": "cert-file", "key": "key-file"}
    files = {names[end]: node.directory / f"server.{end}" for end in names}
    declared = node.declare(files | {names[wrong]: node.directory / f"other.{wrong}"})
    fault = one_fault(node.judge(declared, "config.key-matches-certificate"))
    [_, written] = fault.settings
    assert written.startswith(f"+ --{names[wrong]}={node.directory}/server.{wrong}  # ")
    assert f"{node.directory}/server.{wrong}" in fault.remediation
    assert "replace both" not in fault.remediation
    node.stop()
    assert node.starts(node.words(files))


def test_a_generated_certificate_that_expired(node: Node) -> None:
    """It is no pair of ``--cert-file``: etcd makes another if the old one is moved away."""
    node.stop()
    made = node.directory / "data" / "fixtures" / "client"
    old = Profile(common_name=None, organization="etcd", self_signed=True, extended_key_usage=("serverAuth",))
    expired = replace(old, valid_from=timedelta(days=-9), valid_for=timedelta(days=8))
    write(CertificateAuthority.create("any").issue(expired, name="etcd"), made, "cert")
    (made / "cert.crt").rename(made / "cert.pem")
    (made / "cert.key").rename(made / "key.pem")
    changes: dict[str, object] = dict.fromkeys(
        ("cert-file", "key-file", "trusted-ca-file", "client-cert-auth")
    )
    changes |= {"auto-tls": "true", "data-dir": made.parents[1]}
    declared, command = node.declare(changes), node.command(changes)
    with running_etcd(command, node.directory / "etcd.log") as etcd:
        assert etcd.serves()
        results = node.judge(declared, "cert.valid-now")
        fault = one_fault([result for result in results if result.role == Role.CLIENT])
    assert "renew the pair" not in fault.remediation
    moved = re.search(r"mv \S+ \S+(?=,)", fault.remediation)
    assert moved, fault.remediation
    subprocess.run(shlex.split(moved[0]), check=True)
    with running_etcd(command, node.directory / "etcd.log") as etcd:
        assert etcd.serves()
        results = node.judge(declared, "cert.valid-now")
        assert not [one for one in results if one.role == Role.CLIENT and one.outcome is Outcome.VIOLATES]


def test_a_member_list_that_cannot_be_changed(node: Node) -> None:
    """Without a quorum the client port is silent, and etcdctl is of no use."""
    node.stop()
    peer, name = node.member.peer_url.replace("https:", "http:"), node.member.name
    changes: dict[str, object] = {"data-dir": node.directory / "data", "initial-advertise-peer-urls": peer}
    changes |= {"initial-cluster": f"{name}={peer},b=http://127.0.0.1:1"}
    declared = node.declare(changes)
    with running_etcd(node.command(changes), node.directory / "etcd.log") as etcd:
        assert etcd.serves(said_by=LISTENS)
        results = node.judge(declared, "listener", "cluster.peer-urls-https", etcd_timeout="2")
    [fault] = [result for result in results if result.check == "cluster.peer-urls-https"]
    assert fault.outcome is Outcome.VIOLATES, fault.reason
    assert "lacks now" in fault.remediation
    assert "etcdctl" not in fault.remediation


@pytest.mark.program("openssl")
def test_an_intermediate_that_forbids_clients(node: Node) -> None:
    """The file of trusted CAs is right, and the command that is printed shows the fault."""
    usage = replace(AUTHORITY, extended_key_usage=("serverAuth",))
    files = {"peer-cert-file": node.directory / "peer.crt", "peer-key-file": node.directory / "peer.key"}
    declared = node.declare(files)
    for profile in (usage, AUTHORITY):
        between = node.peer_ca.intermediate("between", profile=profile)
        write(between.issue(PEER, name="peer", hosts=("127.0.0.1",)), node.directory, "peer")
        own = {"etcd_peer_cert": str(files["peer-cert-file"]), "etcd_peer_key": str(files["peer-key-file"])}
        results = node.judge(declared, "config.chain-closes", "mtls.trusted-client", **own)
        at_peers = [result for result in results if result.role == Role.PEER]
        if profile is AUTHORITY:
            assert not [one for one in results if one.outcome is Outcome.VIOLATES]
            continue
        assert [result.outcome for result in at_peers] == [Outcome.VIOLATES]  # etcd refuses it
        [fault] = [result for result in results if result.check == "config.chain-closes"]
        assert "issue the certificate of CN=between again" in fault.remediation
        assert "the file of the trusted CAs is right" in fault.remediation
        assert "back into the file" not in fault.remediation
        [command] = fault.findings[0].commands
        shown = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
        assert "error" in shown.stdout + shown.stderr


def test_kubeadms_node(node: Node) -> None:
    """kubeadm's own command renews, and keeps the names."""
    node.stop()
    pki = node.directory / "pki" / "etcd"
    expired = replace(SERVER, valid_from=timedelta(days=-9), valid_for=timedelta(days=8))
    write(
        node.client_ca.issue(expired, name="server", hosts=("localhost", "127.0.0.1", "::1")), pki, "server"
    )
    files = {"cert-file": pki / "server.crt", "key-file": pki / "server.key"}
    declared = node.declare(files, node.directory / "manifests" / "etcd.yaml")
    with running_etcd(node.command(files), node.directory / "etcd.log") as etcd:
        assert etcd.serves()
        results = node.judge(declared, "cert.valid-now", "config.trusted-ca-in-force")
    fault = one_fault([result for result in results if result.role == Role.CLIENT])
    renew = f"kubeadm certs renew etcd-server --cert-dir {node.directory}/pki, which keeps its names"
    assert fault.remediation.startswith(f"kubeadm made it: {renew}")


def test_the_ca_of_kubernetes(node: Node) -> None:
    """Nobody is told to make clients of etcd from the CA of Kubernetes."""
    node.stop()
    ca = node.directory / "kubernetes" / "pki" / "ca.crt"
    ca.parent.mkdir(parents=True)
    ca.write_bytes(encode_certificates([CertificateAuthority.create("kubernetes").certificate]))
    declared, changes = node.declare({"trusted-ca-file": ca}), {"trusted-ca-file": ca}
    with running_etcd(node.command(changes), node.directory / "etcd.log") as etcd:
        assert etcd.serves()
        results = node.judge(declared, "mtls.trusted-client", "cert.ca-not-shared-with-kubernetes")
    of_client = {result.check: result for result in results if result.role == Role.CLIENT}
    fault = of_client["mtls.trusted-client"]
    assert fault.outcome is Outcome.VIOLATES
    assert "use a certificate of a CA that is there" not in fault.remediation
    assert "instead of the CA of Kubernetes" in fault.remediation
    assert of_client["cert.ca-not-shared-with-kubernetes"].outcome is Outcome.WARNS


def test_a_wildcard_without_a_name_of_the_address(node: Node) -> None:
    """etcd makes a reverse lookup of the address, so the missing name is told."""
    wild = node.peer_ca.issue(replace(CLIENT, subject_alt_names=("*.example.invalid",)), name="wild")
    write(wild, node.directory, "wild")
    given = {
        "etcd_peer_endpoint": node.member.peer_url,
        "etcd_peer_cacert": str(node.member.file("peer-ca.crt")),
    }
    given |= {
        f"etcd_peer_{name}": str(node.directory / f"wild.{end}")
        for name, end in (("cert", "crt"), ("key", "key"))
    }
    [result] = judged(target(**given), "mtls.trusted-client")
    assert result.outcome is Outcome.NOT_VERIFIED
    assert (
        "finds no name below example.invalid: give 1.0.0.127.in-addr.arpa such a name (PTR)" in result.reason
    )
    assert "run on the member" not in result.reason
