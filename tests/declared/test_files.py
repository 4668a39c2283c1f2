"""Declared files on this machine: at their path, through a container's mounts, or under --etcd-pki-dir."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from declared.declaring import GOOD, URLS, flags
from pytest_etcdtls.declared.declaration import DeclaredPaths, Mount
from pytest_etcdtls.declared.effective import CRLEffect, effective_of
from pytest_etcdtls.declared.files import read_crl, read_member_files, require_directory
from pytest_etcdtls.declared.reading import declared_member
from pytest_etcdtls.declared.traps import traps_of
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.settings.port_credentials import read_directory

SERVER = "/etc/kubernetes/pki/etcd/server.crt"


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (("etcd/server.crt", "server.crt"), "etcd/server.crt"),
        (("pki/etcd/server.crt", "etcd/server.crt"), "pki/etcd/server.crt"),
        (("etc/kubernetes/pki/etcd/server.crt", "server.crt"), "etc/kubernetes/pki/etcd/server.crt"),
        (("other.crt",), None),
        (("server.crt/a-directory",), None),
    ],
)
def test_the_longest_suffix_counts(there: tuple[str, ...], found: str | None, tmp_path: Path) -> None:
    _touch(*(tmp_path / name for name in there))
    expected = tmp_path / found if found else None
    assert DeclaredPaths(pki_dir=tmp_path).find(SERVER) == expected


def test_a_pki_dir_is_the_only_directory_that_is_searched(tmp_path: Path) -> None:
    _touch(tmp_path / "here/x.crt", tmp_path / "secret", tmp_path / "copies/x")
    assert DeclaredPaths(pki_dir=tmp_path / "copies").find("/../../secret") is None
    assert DeclaredPaths(pki_dir=tmp_path / "copies").find(str(tmp_path / "here/x.crt")) is None
    assert DeclaredPaths().find(str(tmp_path / "here/x.crt")) == tmp_path / "here/x.crt"


def test_the_api_servers_client_is_found_in_the_parent(tmp_path: Path) -> None:
    _touch(tmp_path / "apiserver-etcd-client.crt", tmp_path / "other.crt")
    (tmp_path / "etcd").mkdir()
    where = DeclaredPaths(pki_dir=tmp_path / "etcd")
    assert (
        where.find("/etc/kubernetes/pki/apiserver-etcd-client.crt") == tmp_path / "apiserver-etcd-client.crt"
    )
    assert where.find("/etc/kubernetes/pki/other.crt") is None


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        *(("gone.crt", "does not exist"), ("there.crt/x", "does not exist"), ("directory", "is a directory")),
        *((f"{'x' * 300}.crt", "has too long a name"), ("loop.crt", "has too many symbolic links")),
    ],
)
def test_what_a_member_of_this_machine_does_not_find(declared: str, problem: str, tmp_path: Path) -> None:
    _touch(tmp_path / "there.crt", tmp_path / "directory/x")
    (tmp_path / "loop.crt").symlink_to("loop.crt")
    path = tmp_path / declared
    assert DeclaredPaths().missing(str(path)) == (path, f"{path} {problem}")
    mounted = DeclaredPaths(mounts=(Mount("/certs", str(tmp_path)),))
    assert mounted.missing(f"/certs/{declared}") == (path, f"{path} {problem}")


@pytest.mark.parametrize(
    ("paths", "declared"),
    [
        (DeclaredPaths(), "{here}/there.crt"),
        (DeclaredPaths(pki_dir=Path("/copies")), "/nowhere/gone.crt"),
        (DeclaredPaths(mounts=(Mount("/certs", "/nowhere"),)), "/in-the-image/gone.crt"),
        (DeclaredPaths(root=Path("/proc/0/root"), working="/"), "/nowhere/gone.crt"),
        (DeclaredPaths(root=Path("/proc/self/root"), working="/nowhere"), "gone.crt"),
    ],
)
def test_what_a_member_of_this_machine_may_find(paths: DeclaredPaths, declared: str, tmp_path: Path) -> None:
    _touch(tmp_path / "there.crt")
    assert paths.missing(declared.format(here=tmp_path)) is None


def test_files_that_are_missing_for_etcd_too(tmp_path: Path) -> None:
    """Of a list, etcd looks for one file; a pair that no listener of TLS reads is not missing."""
    several, pair = f"{tmp_path}/a.crt,{tmp_path}/b.crt", (f"{tmp_path}/x.crt", f"{tmp_path}/x.key")
    member = declared_member(
        flags(f"--peer-trusted-ca-file={several}", f"--cert-file={pair[0]}", f"--key-file={pair[1]}")
    )
    anywhere, own = (read_member_files("m0", member, own=own) for own in (False, True))
    assert anywhere.bundles["peer"].file.absent.endswith(
        "is not here: run on the member, or name copies by --etcd-pki-dir"
    )
    file = own.bundles["peer"].file
    assert (file.absent, file.problem) == (
        "",
        f"{several} does not exist, and --peer-trusted-ca-file names one file, not a list",
    )
    [of_clients] = own.pairs
    assert (of_clients.certificate.problem, of_clients.key.problem) == ("", "")


def test_mounts_map_paths_to_the_node(tmp_path: Path) -> None:
    _touch(tmp_path / "node/pki/server.crt", tmp_path / "node/inner/server.crt")
    mounts = (
        Mount("/certs", str(tmp_path / "node/pki")),
        Mount("/certs/inner", str(tmp_path / "node/inner")),
    )
    where = DeclaredPaths(mounts=mounts)
    assert where.find("/certs/server.crt") == tmp_path / "node/pki/server.crt"
    assert where.find("/certs/inner/server.crt") == tmp_path / "node/inner/server.crt"
    assert where.find("/certsx/server.crt") is None
    copies = DeclaredPaths(pki_dir=tmp_path / "node", mounts=mounts)
    assert copies.find("/certs/server.crt") == tmp_path / "node/pki/server.crt"


def test_directories_without_kubeadms_files_are_refused(pki_files: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        require_directory(tmp_path / "gone", "--etcd-pki-dir")
    with pytest.raises(UsageError, match=r"holds no ca.crt: without a declaration \(--etcd-config\)"):
        read_directory(tmp_path, "", ())
    _touch(tmp_path / "file", tmp_path / "server.crt")
    with pytest.raises(UsageError, match="is a file, not a directory"):
        require_directory(tmp_path / "file", "--etcd-pki-dir")
    shutil.copy(pki_files / "client-ca.crt", tmp_path / "ca.crt")
    with pytest.raises(UsageError, match=r"server.crt has no server.key beside it"):
        read_directory(tmp_path, "", ())
    (tmp_path / "server.crt").rename(tmp_path / "tls.crt")
    with pytest.raises(UsageError, match=f"holds tls.crt, .* pass --etcd-secret {tmp_path}"):
        read_directory(tmp_path, "", ())


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_crl_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "crl.der"
    path.touch(mode=0)
    crl = read_crl(flags(f"--client-crl-file={path}").settings["client-crl-file"], DeclaredPaths())
    assert (crl.path, crl.known, bool(crl.unread)) == (str(path), False, True)


def test_etcd_does_not_read_a_certificate_in_der(pki_files: Path, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate((pki_files / "server.crt").read_bytes())
    der = tmp_path / "server.der"
    der.write_bytes(certificate.public_bytes(Encoding.DER))
    pair = (f"--cert-file={der}", f"--key-file={pki_files}/server.key")
    (found,) = read_member_files("m0", declared_member(flags(*URLS, *pair))).pairs
    assert "etcd reads PEM alone" in found.certificate.problem
    assert "openssl x509" in found.certificate.problem
    assert found.chain == ()


def test_a_member_knows_its_files(pki_files: Path) -> None:
    declaration = flags(*GOOD, "--client-crl-file=/pki/crl.pem", "--peer-crl-file=/pki/gone.der")
    member = declared_member(declaration, pki_files)
    assert member.file("cert-file") == pki_files / "server.crt"
    assert member.file("client-cert-file") is None
    assert member.file("peer-crl-file") is None
    assert effective_of(member, "3.5.33").sides["client"].crl is CRLEffect.ENFORCED
    assert effective_of(member, "3.6.16").sides["client"].crl is CRLEffect.REFUSES_ALL
    assert {trap.id for trap in traps_of(member, "3.6.16")} == {"crl-encoding", "crl-missing"}
