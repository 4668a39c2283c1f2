"""Declarations as real tools write them, each read to its settings and effective configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from declared.declaring import effective, find_traps, read_declaration
from pytest_etcdtls.declared.declaration import Form, Via, advertised, declared_listeners
from pytest_etcdtls.declared.effective import ClientAuthentication
from pytest_etcdtls.declared.reading import read_declarations
from pytest_etcdtls.role import Role

SHAPES = Path(__file__).parent / "shapes"


@pytest.mark.parametrize(("name", "version"), [("v1.28", "3.5.9"), ("v1.34", "3.6.4")])
def test_kubeadm(name: str, version: str) -> None:
    declaration = read_declaration(SHAPES / "kubeadm" / f"{name}.yaml")
    assert (declaration.form, declaration.version) == (Form.MANIFEST, version)
    assert declaration.text("name") == "cp1"
    assert [str(listener.url) for listener in declared_listeners(declaration)] == [
        "https://127.0.0.1:2379",
        "https://10.0.0.11:2379",
        "http://127.0.0.1:2381",
        "https://10.0.0.11:2380",
    ]
    assert [str(url) for url in advertised(declaration, Role.CLIENT)] == ["https://10.0.0.11:2379"]
    sides = effective(declaration).sides
    assert {side.client_auth for side in sides.values()} == {ClientAuthentication.TRUSTED_CA}
    assert {side.trusted_ca for side in sides.values()} == {"/etc/kubernetes/pki/etcd/ca.crt"}
    assert sides["client"].certificate == "/etc/kubernetes/pki/etcd/server.crt"
    assert sides["peer"].dials_with == "/etc/kubernetes/pki/etcd/peer.crt"
    assert [(mount.inside, mount.outside) for mount in declaration.mounts] == [
        ("/var/lib/etcd", "/var/lib/etcd"),
        ("/etc/kubernetes/pki/etcd", "/etc/kubernetes/pki/etcd"),
    ]
    assert not find_traps(declaration)
    for nothing in (declaration.unknown, declaration.mistakes, declaration.notes, declaration.overridden):
        assert not nothing
    place = declaration.settings["cert-file"].place
    assert "--cert-file" in Path(place.file).read_text(encoding="utf-8").splitlines()[(place.line or 0) - 1]


def test_kubeadms_second_control_plane_with_an_extra_argument() -> None:
    """IPv6, an existing cluster, and ``extraArgs`` for a flag that is given: the later one wins."""
    declaration = read_declaration(SHAPES / "kubeadm" / "v1.34-joined.yaml")
    assert [str(listener.url) for listener in declared_listeners(declaration)] == [
        "https://[::1]:2379",
        "https://[fd00::12]:2379",
        "https://[fd00::12]:2381",
        "https://[fd00::12]:2380",
    ]
    assert declaration.words("initial-cluster")[0] == "cp1=https://[fd00::11]:2380"
    assert [setting.written for setting in declaration.overridden] == [
        "--listen-metrics-urls=http://[::1]:2381"
    ]
    (metrics,) = effective(declaration).at(Role.METRICS)
    assert metrics.san_rule
    assert metrics.client_auth is ClientAuthentication.TRUSTED_CA
    assert [trap.id for trap in find_traps(declaration)] == ["flag-given-twice"]


def test_an_old_kubeadm_manifest_does_not_start_3_7() -> None:
    declaration = read_declaration(SHAPES / "kubeadm" / "v1.28.yaml")
    assert not find_traps(declaration, "3.6.4")
    traps = find_traps(declaration, "3.7.3")
    assert [(trap.id, trap.starts, trap.settings[0].spelled) for trap in traps] == [
        ("flag-unknown-to-version", False, "--experimental-initial-corrupt-check"),
        ("flag-unknown-to-version", False, "--experimental-watch-progress-notify-interval"),
    ]


def test_rke2_finds_the_configuration_beside_the_manifest() -> None:
    declaration = read_declaration(SHAPES / "rke2" / "etcd.yaml")
    assert (declaration.form, declaration.version) == (Form.MANIFEST, "3.5.21")
    assert declaration.config_file == "/var/lib/rancher/rke2/server/db/etcd/config"
    assert declaration.settings["cert-file"].place.file == str(SHAPES / "rke2" / "config")
    assert not declaration.hidden
    assert not find_traps(declaration)


@pytest.mark.parametrize("name", ["etcd.env", "etcd.service"])
def test_kubespray(name: str) -> None:
    declaration = read_declaration(SHAPES / "kubespray" / name)
    assert declaration.text("name") == "etcd1"
    assert {setting.via for setting in declaration.settings.values()} == {Via.VARIABLE}
    assert Path(declaration.settings["cert-file"].place.file).name == "etcd.env"
    assert declaration.etcdctl["ETCDCTL_CERT"] == "/etc/ssl/etcd/ssl/admin-node1.pem"
    assert effective(declaration).sides["peer"].client_cert_auth
    assert not find_traps(declaration, "3.5.16")
    assert not find_traps(declaration, "3.7.3"), "variables that are gone are none about TLS"


def test_debians_defaults_declare_nothing() -> None:
    declaration = read_declaration(SHAPES / "debian" / "etcd")
    assert (declaration.form, dict(declaration.settings)) == (Form.ENVIRONMENT_FILE, {})
    assert [str(listener.url) for listener in declared_listeners(declaration)] == [
        "http://localhost:2379",
        "http://localhost:2380",
    ]
    assert not find_traps(declaration)


def test_debians_unit() -> None:
    declaration = read_declaration(SHAPES / "debian" / "etcd.service")
    assert declaration.form is Form.UNIT
    assert {name: setting.value for name, setting in declaration.settings.items()} == {
        "data-dir": "/var/lib/etcd/default"
    }
    (note,) = declaration.notes
    assert "ETCD_NAME" in note
    assert "%H" in note


def test_a_unit_with_drop_ins() -> None:
    declaration = read_declaration(SHAPES / "systemd" / "etcd.service")
    assert {name: setting.value for name, setting in declaration.settings.items()} == {
        "name": "node1",
        "listen-client-urls": "https://10.0.0.41:2379",
        "advertise-client-urls": "https://10.0.0.41:2379",
        "cert-file": "/etc/etcd/pki/server.crt",
        "key-file": "/etc/etcd/pki/server.key",
        "trusted-ca-file": "/etc/etcd/pki/ca.crt",
        "client-cert-auth": "true",
        "tls-min-version": "TLS1.3",
    }
    assert declaration.go_environment == {"GODEBUG": "tlsrsakex=1"}
    lines = {name: setting.place.line for name, setting in declaration.settings.items()}
    assert (lines["name"], lines["advertise-client-urls"], lines["trusted-ca-file"]) == (7, 10, 12)
    assert Path(declaration.settings["tls-min-version"].place.file).name == "20-more.conf"
    assert not declaration.shadowed


def test_a_configuration_with_tls() -> None:
    declaration = read_declaration(SHAPES / "yaml" / "tls.yml")
    new, old = effective(declaration, "3.6.16"), effective(declaration, "3.5.1")
    assert new.sides["client"].allowed_cn == ("kube-apiserver-etcd-client", "backup")
    assert old.sides["client"].allowed_cn == ()
    assert (new.sides["peer"].skips_san_rule, old.sides["peer"].skips_san_rule) == (True, False)
    assert new.listeners[0].cipher_suites[1] == "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
    assert {trap.id for trap in find_traps(declaration, "3.6.16")} == {"unknown-key", "san-check-off"}
    unread = [
        trap.settings[0].spelled for trap in find_traps(declaration, "3.5.1") if trap.id == "unknown-key"
    ]
    assert sorted(unread) == [
        "client-transport-security.allowed-cn",
        "client-transport-security.crl-file",
        "peer-transport-security.skip-client-san-verification",
        "tls-min-version",
    ]


@pytest.mark.parametrize(
    "path", sorted(SHAPES.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_every_setting_has_its_line(path: Path) -> None:
    if path.is_dir():
        return
    for setting in read_declarations(path)[-1].settings.values():
        assert setting.place.line is not None
        line = Path(setting.place.file).read_text(encoding="utf-8").splitlines()[setting.place.line - 1]
        assert setting.spelled.rpartition(".")[2] in line, (setting, line)
