"""Where declared files are here: as they are, by a container's mounts, or under a directory that is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from declared.declaring import flags
from pytest_etcdtls.declared.declaration import Encoding, Mount, Whereabouts, require
from pytest_etcdtls.declared.files import read_crl, read_pki_directory, whereabouts
from pytest_etcdtls.declared.reading import read_declaration
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import CALayout, MemberNames, PKIPlan

SHAPES = Path(__file__).parent / "shapes"
SERVER = "/etc/kubernetes/pki/etcd/server.crt"


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (("server.crt",), "server.crt"),
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
    assert Whereabouts(pki_dir=tmp_path).find(SERVER) == expected


def test_with_a_directory_nothing_is_taken_from_elsewhere(tmp_path: Path) -> None:
    _touch(tmp_path / "here/x.crt")
    assert Whereabouts(pki_dir=tmp_path / "copies").find(str(tmp_path / "here/x.crt")) is None
    assert Whereabouts().find(str(tmp_path / "here/x.crt")) == tmp_path / "here/x.crt"


def test_the_api_server_s_client_lies_beside(tmp_path: Path) -> None:
    _touch(tmp_path / "apiserver-etcd-client.crt", tmp_path / "other.crt")
    (tmp_path / "etcd").mkdir()
    where = Whereabouts(pki_dir=tmp_path / "etcd")
    assert (
        where.find("/etc/kubernetes/pki/apiserver-etcd-client.crt") == tmp_path / "apiserver-etcd-client.crt"
    )
    assert where.find("/etc/kubernetes/pki/other.crt") is None


def test_paths_do_not_lead_out_of_the_directory(tmp_path: Path) -> None:
    _touch(tmp_path / "secret", tmp_path / "copies/x")
    assert Whereabouts(pki_dir=tmp_path / "copies").find("/../../secret") is None


def test_mounts_lead_to_the_node(tmp_path: Path) -> None:
    _touch(tmp_path / "node/pki/server.crt", tmp_path / "node/inner/server.crt")
    mounts = (
        Mount("/certs", str(tmp_path / "node/pki")),
        Mount("/certs/inner", str(tmp_path / "node/inner")),
    )
    where = Whereabouts(mounts=mounts)
    assert where.find("/certs/server.crt") == tmp_path / "node/pki/server.crt"
    assert where.find("/certs/inner/server.crt") == tmp_path / "node/inner/server.crt"
    assert where.find("/certsx/server.crt") is None
    copies = Whereabouts(pki_dir=tmp_path / "node", mounts=mounts)
    assert copies.find("/certs/server.crt") == tmp_path / "node/pki/server.crt"


def test_a_missing_file_is_named_with_its_line(tmp_path: Path) -> None:
    declaration = read_declaration(SHAPES / "kubeadm" / "v1.34.yaml")
    setting = declaration.settings["trusted-ca-file"]
    with pytest.raises(
        UsageError, match=r"v1\.34\.yaml:33: --trusted-ca-file=/etc/.*ca.crt is not here: no ending"
    ):
        require(setting, whereabouts(declaration, tmp_path))
    _touch(tmp_path / "ca.crt")
    assert require(setting, whereabouts(declaration, tmp_path)) == tmp_path / "ca.crt"


def test_without_a_directory_the_message_names_the_option() -> None:
    declaration = flags("--cert-file=/nowhere/server.crt")
    with pytest.raises(UsageError, match="name the directory with copies by --etcd-pki-dir"):
        require(declaration.settings["cert-file"], whereabouts(declaration, None))


@pytest.fixture(scope="module")
def kubeadm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What kubeadm writes to ``/etc/kubernetes/pki``, as far as it is etcd's."""
    directory = tmp_path_factory.mktemp("kubernetes")
    pki = ClusterPKI.generate(PKIPlan(layout=CALayout.KUBEADM), [MemberNames("cp1", ("10.0.0.11",))])
    pki.write(directory, with_ca_keys=True)
    return directory / "cp1"


@pytest.mark.parametrize("below", ["etcd", "."])
def test_kubeadm_s_directory_alone(below: str, kubeadm: Path) -> None:
    found = read_pki_directory(kubeadm / below)
    etcd = kubeadm / "etcd"
    assert (found.ca, found.ca_key) == (etcd / "ca.crt", etcd / "ca.key")
    for pair, name in (
        (found.server, "server"),
        (found.peer, "peer"),
        (found.healthcheck_client, "healthcheck-client"),
    ):
        assert pair is not None
        assert (pair.certificate, pair.key) == (etcd / f"{name}.crt", etcd / f"{name}.key")
    assert found.apiserver_etcd_client is not None
    assert found.apiserver_etcd_client.key == kubeadm / "apiserver-etcd-client.key"


def test_a_declaration_of_kubeadm_finds_its_files_there(kubeadm: Path) -> None:
    declaration = read_declaration(SHAPES / "kubeadm" / "v1.34.yaml", pki_dir=kubeadm / "etcd")
    where = whereabouts(declaration, kubeadm / "etcd")
    files = [name for name in declaration.settings if name.endswith("-file")]
    assert len(files) == 6
    for name in files:
        found = require(declaration.settings[name], where)
        assert found.parent == kubeadm / "etcd"
        assert found.name == Path(declaration.text(name) or "").name


def test_directories_that_are_not_kubeadm_s(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_pki_directory(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"holds no ca.crt: without a declaration \(--etcd-config\)"):
        read_pki_directory(tmp_path)
    _touch(tmp_path / "file")
    with pytest.raises(UsageError, match="is a file, not a directory"):
        read_pki_directory(tmp_path / "file")
    _touch(tmp_path / "ca.crt", tmp_path / "server.crt")
    with pytest.raises(UsageError, match=r"server.crt has no server.key beside it"):
        read_pki_directory(tmp_path)


def test_crl_files(pki_files: Path, tmp_path: Path) -> None:
    expected = {
        "crl.der": Encoding.DER,
        "crl.pem": Encoding.PEM,
        "client-ca.crt": Encoding.NEITHER,
        "gone": None,
    }
    for name, encoding in expected.items():
        setting = flags(f"--client-crl-file=/x/{name}").settings["client-crl-file"]
        crl = read_crl(setting, Whereabouts(pki_dir=pki_files))
        assert (crl.declared, crl.encoding, crl.found is not None) == (f"/x/{name}", encoding, name != "gone")
        assert len(crl.serial_numbers) == (encoding in (Encoding.DER, Encoding.PEM))
        assert (crl.next_update is not None) == bool(crl.serial_numbers)
        assert bool(crl.issuer) == bool(crl.serial_numbers)


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_crl_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "crl.der"
    path.touch(mode=0)
    crl = read_crl(flags(f"--client-crl-file={path}").settings["client-crl-file"], Whereabouts())
    assert (crl.found, crl.encoding) == (str(path), None)
