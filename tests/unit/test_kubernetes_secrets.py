"""Secrets of Kubernetes as credentials: which are read, which are refused, and that no value is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from given import Given
from made import made_secret
from unit.test_settings import ENDPOINT, PEER

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates, encode_key
from pytest_etcdtls.pki.profile import SERVER, CALayout, MemberNames, PKIPlan
from pytest_etcdtls.settings.cluster_list import ClusterList, Shard
from pytest_etcdtls.settings.read import read_settings
from pytest_etcdtls.target import Target

Make = Callable[..., dict[str, Any]]
TLS, OPAQUE, CLUSTER_API = "kubernetes.io/tls", "Opaque", "cluster.x-k8s.io/secret"
NAME = "Secret kube-system/etcd-client"
CLIENT, KEY, CA = "healthcheck-client.crt", "healthcheck-client.key", "ca.crt"
OTHER, OTHER_KEY = "apiserver-etcd-client.crt", "apiserver-etcd-client.key"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The files of kubeadm's layout, and a pair for servers alone."""
    directory = tmp_path_factory.mktemp("pki")
    plan = PKIPlan(layout=CALayout.KUBEADM)
    ClusterPKI.generate(plan, [MemberNames("m0")]).write(directory, with_ca_keys=True)
    files = {path.name: path.read_bytes() for path in directory.rglob("*.*")}
    foreign = CertificateAuthority.create("foreign")
    alone = foreign.issue(replace(SERVER, extended_key_usage=("serverAuth",)), name="serving")
    assert alone.key is not None
    return files | {
        "foreign-ca.crt": encode_certificates([foreign.certificate]),
        "foreign-ca.key": encode_key(foreign.key),
        "serving.crt": encode_certificates(alone.chain),
        "serving.key": encode_key(alone.key),
    }


@pytest.fixture
def secret(pki: Mapping[str, bytes]) -> Make:
    """Return a Secret with files of the PKI under other names."""

    def make(kind: str, files: Mapping[str, str], name: str = "etcd-client") -> dict[str, Any]:
        return made_secret(name, kind, {key: pki[path] for key, path in files.items()})

    return make


def _target(
    directory: Path, stdin: str = "", environment: Mapping[str, str] | None = None, **values: Any
) -> Target:
    named = {"etcd_endpoint": ENDPOINT, "etcd_peer_endpoint": PEER, "etcd_secret": "-", **values}
    settings = read_settings(Given(directory, environment, stdin.encode(), **named), live=True)
    [live] = settings.live
    return live


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        (TLS, {"ca.crt": CA, "tls.crt": CLIENT, "tls.key": KEY}),
        (OPAQUE, {"etcd-ca": CA, "etcd-cert": CLIENT, "etcd-key": KEY}),
        (OPAQUE, {"ca.crt": CA, "cert.pem": CLIENT, "key.pem": KEY}),
        (OPAQUE, {"ca.crt": CA, CLIENT: CLIENT, KEY: KEY, OTHER: OTHER, OTHER_KEY: OTHER_KEY}),
    ],
    ids=["cert-manager", "Calico", "Bitnami", "kubeadm"],
)
def test_a_client(
    tmp_path: Path, pki: Mapping[str, bytes], secret: Make, kind: str, files: Mapping[str, str]
) -> None:
    (tmp_path / "password").write_text("s3cret\n", encoding="utf-8")
    text = json.dumps(secret(kind, files))
    live = _target(tmp_path, text, {}, etcd_user="root", etcd_password_file="password")
    assert live.password_withheld == "", "the CA of the Secret verifies the server"
    [client] = live.client.identities
    certificate = next(name for name, path in files.items() if path == CLIENT)
    assert encode_certificates(client.chain) == pki[CLIENT]
    assert (client.name, client.origin) == ("client", f"{NAME} {certificate}")
    assert (client.certificate_file, client.key_file) == (None, None)
    assert live.client.server_ca is not None
    assert live.client.server_ca.source.startswith(NAME)
    assert [identity.chain for identity in live.peer.identities] == [client.chain]
    assert live.client.signing_key is None
    escaped = certificate.replace(".", r"\.")
    assert client.recipe[0] == (
        f"kubectl get -n kube-system secret/etcd-client -o 'jsonpath={{.data.{escaped}}}' "
        "| base64 -d > client.crt"
    )


def test_forms(tmp_path: Path, pki: Mapping[str, bytes], secret: Make) -> None:
    tls = secret(TLS, {"ca.crt": CA, "tls.crt": CLIENT, "tls.key": KEY})
    in_text = {
        **tls,
        "data": {},
        "stringData": {"tls.crt": pki[CLIENT].decode(), "tls.key": pki[KEY].decode()},
    }
    token = {"kind": "Secret", "metadata": {"name": "token"}, "data": {"token": "YQ=="}}
    listed = {"kind": "List", "items": [token, tls]}
    (tmp_path / "secret.yaml").write_text(yaml.safe_dump(tls, width=70), encoding="utf-8")
    for live in (
        _target(tmp_path, etcd_secret="secret.yaml"),
        _target(tmp_path, yaml.safe_dump(in_text)),
        _target(tmp_path, yaml.safe_dump(listed)),
        _target(tmp_path, yaml.safe_dump_all([token, tls])),
    ):
        assert [encode_certificates(identity.chain) for identity in live.client.identities] == [pki[CLIENT]]


def test_the_ca_of_cluster_api_signs_clients_and_peers(
    tmp_path: Path, pki: Mapping[str, bytes], secret: Make
) -> None:
    """Its other Secrets are of other CAs; that of Kubernetes is one that etcd should not trust."""
    etcd = secret(CLUSTER_API, {"tls.crt": CA, "tls.key": "ca.key"}, "prod-etcd")
    kubernetes = secret(CLUSTER_API, {"tls.crt": "foreign-ca.crt", "tls.key": "foreign-ca.key"}, "prod-ca")
    proxy = {**kubernetes, "metadata": {"name": "prod-proxy"}}
    live = _target(tmp_path, json.dumps({"kind": "List", "items": [proxy, kubernetes, etcd]}))
    for port in (live.client, live.peer):
        assert port.identities == ()
        assert port.signing_key is not None
        assert port.server_ca is not None
        assert port.client_trust is not None
        assert encode_certificates([port.signing_key.certificate]) == pki[CA]
        assert (
            port.server_ca.certificates == port.client_trust.certificates == (port.signing_key.certificate,)
        )
        assert (port.signing_key.key_file, port.signing_key.origin) == (None, "Secret kube-system/prod-etcd")
    assert live.kubernetes_ca is not None
    assert encode_certificates(live.kubernetes_ca.certificates) == pki["foreign-ca.crt"]


def test_an_option_comes_first_and_etcdctls_variables_last(
    tmp_path: Path, pki: Mapping[str, bytes], secret: Make
) -> None:
    for name, content in pki.items():
        (tmp_path / name).write_bytes(content)
    text = yaml.safe_dump(secret(TLS, {"ca.crt": CA, "tls.crt": CLIENT, "tls.key": KEY}))
    variables = {
        "ETCDCTL_CACERT": str(tmp_path / "foreign-ca.crt"),
        "ETCDCTL_CERT": str(tmp_path / OTHER),
        "ETCDCTL_KEY": str(tmp_path / OTHER_KEY),
    }
    from_secret = _target(tmp_path, text, variables)
    named = _target(tmp_path, text, etcd_cert=OTHER, etcd_key=OTHER_KEY, etcd_cacert="foreign-ca.crt")
    assert [identity.origin for identity in from_secret.client.identities] == [f"{NAME} tls.crt"]
    assert [identity.origin for identity in named.client.identities] == [str(tmp_path / OTHER)]
    sources = [live.client.server_ca and live.client.server_ca.source for live in (from_secret, named)]
    assert sources == [f"{NAME} ca.crt", str(tmp_path / "foreign-ca.crt")]


_CERTIFICATE_ONLY = {"ca.crt": CA, "tls.crt": CLIENT}
_SERVING = {"tls.crt": "serving.crt", "tls.key": "serving.key"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (_CERTIFICATE_ONLY, f"--etcd-secret -, {NAME} has tls.crt and no tls.key: a client needs both"),
        ({"tls.crt": CLIENT, "tls.key": OTHER_KEY}, "tls.key: does not belong to the first certificate"),
        ({"tls.crt": KEY, "tls.key": KEY}, f"{NAME} tls.crt: holds no certificate but a "),
        ({"token": CLIENT}, "has no certificate under a known name: it has token; known names are ca.crt,"),
        (_SERVING, "tls.crt is not a certificate for clients (extendedKeyUsage)"),
    ],
)
def test_a_secret_that_cannot_be_used(
    tmp_path: Path, pki: Mapping[str, bytes], secret: Make, files: Mapping[str, str], message: str
) -> None:
    _refused(tmp_path, yaml.safe_dump(secret(TLS, files)), message, pki)


def _refused(directory: Path, text: str, message: str, pki: Mapping[str, bytes], **values: Any) -> None:
    with pytest.raises(UsageError) as refused:
        _target(directory, text, **values)
    said = str(refused.value)
    assert message in said
    assert "\n" not in said
    assert "s3cret" not in said
    assert not [
        line for content in pki.values() for line in content.decode().splitlines()[1:-1] if line in said
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--etcd-secret -: standard input is empty: see the error of the command before the pipe"),
        ("kind: Pod\nspec: {}\n", "--etcd-secret - has a Pod, not a Secret: pass a Secret as kubectl get"),
        ("NAME  TYPE  DATA\nx  Opaque  3\n", "has something without a kind, not a Secret"),
        ("a: [s3cret\nb: *s3cret", "--etcd-secret -, line 1 or 2, is neither YAML nor JSON"),
        ("kind: Secret\nmetadata: {name: x}\n", "--etcd-secret -, Secret x has no data"),
        ("kind: Secret\ndata: {tls.crt: 's3cret!'}\n", "the value of tls.crt in data is not base64"),
        ("-----BEGIN CERTIFICATE-----\n", "is PEM, not a Secret: name it with --etcd-cacert, --etcd-cert"),
    ],
)
def test_files_that_are_not_secrets(tmp_path: Path, text: str, message: str) -> None:
    _refused(tmp_path, text, message, {})


@pytest.fixture
def mounted(tmp_path: Path, pki: Mapping[str, bytes]) -> Callable[..., Path]:
    """Mount a Secret as kubelet does: links to a directory that it can replace."""

    def mount(**files: str) -> Path:
        directory = tmp_path / "mounted"
        (directory / "..2026_11_29").mkdir(parents=True)
        (directory / "..data").symlink_to("..2026_11_29")
        for name, path in files.items():
            (directory / "..data" / name.replace("__", ".")).write_bytes(pki.get(path, b""))
            (directory / name.replace("__", ".")).symlink_to(Path("..data", name.replace("__", ".")))
        return directory

    return mount


def test_a_mounted_secret_is_a_directory(tmp_path: Path, mounted: Callable[..., Path]) -> None:
    """Commands to paste name its files."""
    directory = mounted(**{"etcd-ca": CA, "etcd-cert": CLIENT, "etcd-key": KEY, "token": ""})
    live = _target(tmp_path, etcd_secret="mounted")
    [client] = live.client.identities
    assert (client.certificate_file, client.key_file) == (
        str(directory / "etcd-cert"),
        str(directory / "etcd-key"),
    )
    assert live.client.server_ca is not None
    assert live.client.server_ca.source == str(directory / "etcd-ca")


def test_a_mounted_ca_issues_clients(tmp_path: Path, mounted: Callable[..., Path]) -> None:
    directory = mounted(tls__crt=CA, tls__key="ca.key")
    live = _target(tmp_path, etcd_secret="mounted")
    assert live.client.signing_key is not None
    assert live.client.signing_key.files == (str(directory / "tls.crt"), str(directory / "tls.key"))
    assert live.peer.signing_key is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no certificate under a known name: it has no value; known names are ca.crt, etcd-ca,"),
        ({"tls__crt": "", "tls__key": ""}, "mounted/tls.crt: is empty;"),
    ],
)
def test_a_mounted_secret_that_cannot_be_used(
    tmp_path: Path, mounted: Callable[..., Path], files: Mapping[str, str], message: str
) -> None:
    mounted(**files)
    _refused(tmp_path, "", message, {}, etcd_secret="mounted")


def test_an_empty_ca_counts_as_missing(tmp_path: Path, secret: Make, mounted: Callable[..., Path]) -> None:
    """cert-manager leaves ``ca.crt`` empty if the issuer gives no CA."""
    text = secret(TLS, {"tls.crt": CLIENT, "tls.key": KEY})
    text["data"]["ca.crt"] = ""
    mounted(ca__crt="", tls__crt=CLIENT, tls__key=KEY)
    for live in (_target(tmp_path, json.dumps(text)), _target(tmp_path, etcd_secret="mounted")):
        assert len(live.client.identities) == 1
        assert live.client.server_ca is None


def test_one_of_two_clients_or_cas_is_not_guessed(
    tmp_path: Path, pki: Mapping[str, bytes], secret: Make
) -> None:
    two = [
        secret(TLS, {"tls.crt": CLIENT, "tls.key": KEY}, "a"),
        secret(TLS, {"tls.crt": OTHER, "tls.key": OTHER_KEY}, "b"),
    ]
    message = "Secret kube-system/a tls.crt and Secret kube-system/b tls.crt are two clients: pass the one"
    _refused(tmp_path, yaml.safe_dump_all(two), message, pki)
    cas = [secret(OPAQUE, {"ca.crt": one}, one) for one in (CA, "foreign-ca.crt")]
    _refused(tmp_path, yaml.safe_dump_all(cas), "are two client CAs", pki)
    (tmp_path / "trusted.crt").write_bytes(pki["foreign-ca.crt"])
    text = yaml.safe_dump(secret(CLUSTER_API, {"tls.crt": CA, "tls.key": "ca.key"}, "prod-etcd"))
    message = "Secret kube-system/prod-etcd is the key of none of the CAs in"
    _refused(tmp_path, text, message, pki, etcd_trusted_ca="trusted.crt")


def test_a_cluster_of_a_list_has_a_secret_of_its_own(
    tmp_path: Path, pki: Mapping[str, bytes], secret: Make
) -> None:
    """It takes the place of the CA and the client that the run has for all clusters."""
    for name, content in pki.items():
        (tmp_path / name).write_bytes(content)
    tls = secret(TLS, {"ca.crt": CA, "tls.crt": CLIENT, "tls.key": KEY})
    (tmp_path / "secret.json").write_text(json.dumps(tls), encoding="utf-8")
    of_run = Given(tmp_path, etcd_cacert="foreign-ca.crt", etcd_cert=OTHER, etcd_key=OTHER_KEY)
    entry = f'[[cluster]]\nlabel = "a"\nendpoints = ["{ENDPOINT}"]\nsecret = '

    def settings(value: str) -> Target:
        clusters = ClusterList("a.toml", f'{entry}"{value}"\n', of_run, Shard())
        [live] = clusters.settings(clusters.clusters[0]).live
        return live

    live = settings("secret.json")
    assert live.client.server_ca is not None
    assert live.client.server_ca.source == f"{NAME} ca.crt"
    assert [identity.origin for identity in live.client.identities] == [f"{NAME} tls.crt"]
    with pytest.raises(UsageError, match="standard input is for the command line: name a file"):
        settings("-")
