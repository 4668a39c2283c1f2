"""A declaration or a file that differs from what runs is found, by exactly the expected checks.

The running node conforms; the manifests and the copies of its certificates are changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kubeadm.judging import Found, explain, found, judged, target
from kubeadm.nodes import PKI, Cluster, changed
from pytest_etcdtls.checks.results import CheckResult
from pytest_etcdtls.pki import bundle
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates, encode_key
from pytest_etcdtls.pki.profile import Identity

ETCD = f"{PKI}/etcd"
JUDGED = (
    *("config", "listener", "cert", "mtls.trusted-client", "mtls.announced-ca-expected"),
    *("mtls.client-certificate-expires", "mtls.client-ca-expires"),
)
"""What can tell of a drift; the rest is about what everybody sees, whatever is declared."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Flags of the manifest and files of ``/etc/kubernetes/pki/etcd`` that differ from what runs.

    ``{metrics}`` in a value stands for the node's port. On a node without any drift nothing is found.
    """

    flags: Mapping[str, str | None] = field(default_factory=dict)
    files: Callable[[ClusterPKI, Path], object] = lambda cluster, etcd: None
    options: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[str, ...] = JUDGED
    found: Found = field(default_factory=dict)

    def judged(self, cluster: Cluster, directory: Path) -> list[CheckResult]:
        """Judge the running node by a manifest and a copy of ``/etc/kubernetes/pki`` that differ from it."""
        [node] = cluster.nodes
        pki, manifest = directory / "pki", directory / "etcd.yaml"
        shutil.copytree(node.pki, pki)
        for place in (pki, pki / "etcd"):
            place.chmod(0o755)
        self.files(cluster.pki, pki / "etcd")
        flags = {name: value and value.format(metrics=node.metrics) for name, value in self.flags.items()}
        manifest.write_text(changed(node.text, flags), encoding="utf-8")
        options = {name: value.format(metrics=node.metrics) for name, value in self.options.items()}
        return judged(target(etcd_config=manifest, etcd_pki_dir=pki, **options), *self.checks)


def _put(pair: Identity, directory: Path, name: str) -> None:
    assert pair.key is not None
    (directory / f"{name}.crt").write_bytes(encode_certificates(pair.chain))
    key = directory / f"{name}.key"
    key.write_bytes(encode_key(pair.key))
    key.chmod(0o600)


def _issued(cluster: ClusterPKI, **changes: Any) -> Identity:
    profile = replace(bundle.KUBEADM_NODE, common_name="cp1", **changes)
    return cluster.client_ca.issue(profile, name="new", hosts=bundle.node_names(cluster.members[0]))


def _renewed(cluster: ClusterPKI, etcd: Path) -> None:
    _put(_issued(cluster), etcd, "renewed")


def _half_renewed(cluster: ClusterPKI, etcd: Path) -> None:
    certificate = (etcd / "server.crt").read_bytes()
    _put(_issued(cluster), etcd, "server")
    (etcd / "server.crt").write_bytes(certificate)


def _same_name(cluster: ClusterPKI, etcd: Path) -> None:
    """The CA was created again under its old name; its certificates were not issued again."""
    (etcd / "ca.crt").write_bytes(encode_certificates([CertificateAuthority.create("etcd-ca").certificate]))


def _expires_next_week(cluster: ClusterPKI, etcd: Path) -> None:
    profile = replace(bundle.APISERVER_ETCD_CLIENT, valid_for=timedelta(days=7))
    _put(cluster.client_ca.issue(profile, name="ends"), etcd.parent, "apiserver-etcd-client")


def _a_request(cluster: ClusterPKI, etcd: Path) -> None:
    text = (etcd / "peer.crt").read_text(encoding="utf-8")
    (etcd / "peer.crt").write_text(text.replace("CERTIFICATE", "CERTIFICATE REQUEST"), encoding="utf-8")


def _open_key_in_a_shut_directory(cluster: ClusterPKI, etcd: Path) -> None:
    (etcd / "peer.key").chmod(0o644)
    etcd.chmod(0o700)


def _key_in_the_certificate(cluster: ClusterPKI, etcd: Path) -> None:
    with (etcd / "server.crt").open("ab") as certificate:
        certificate.write((etcd / "server.key").read_bytes())


_OF_THE_CA = {
    *("cert.ca-expires-soon", "cert.ca-valid-now", "cert.complete", "cert.issuer-is-ca"),
    *("cert.issuer-key-strength", "cert.key-identifiers", "cert.trusted"),
}
_READABLE_KEY: Found = {"warns": {"cluster": {"config.key-file-mode"}}}

DRIFTS: Mapping[str, Drift] = {
    "none": Drift(),
    "renewed in another place": Drift(
        flags={"cert-file": f"{ETCD}/renewed.crt", "key-file": f"{ETCD}/renewed.key"},
        files=_renewed,
        found={"violates": {"client": {"config.served-file"}}},
    ),
    "renewed for peers in another place": Drift(
        flags={"peer-cert-file": f"{ETCD}/renewed.crt", "peer-key-file": f"{ETCD}/renewed.key"},
        files=_renewed,
        found={"violates": {"peer": {"config.peer-served-file"}}},
    ),
    "a CA made anew": Drift(
        files=_same_name,
        found={
            "violates": {
                "client": {"config.trusted-ca-in-force"},
                "peer": {"config.peer-trusted-ca-in-force"},
                "cluster": {"config.chain-closes"},
            },
            "not-verified": {"client": _OF_THE_CA, "peer": _OF_THE_CA},
        },
    ),
    "a client that expires": Drift(
        files=_expires_next_week, found={"warns": {"cluster": {"mtls.client-certificate-expires"}}}
    ),
    "a pair that expires, not served yet": Drift(
        files=lambda cluster, etcd: _put(_issued(cluster, valid_for=timedelta(days=7)), etcd, "server"),
        found={
            "violates": {"client": {"config.served-file"}},
            "warns": {"cluster": {"config.credentials-expire-soon"}},
        },
    ),
    "half a renewed pair": Drift(
        files=_half_renewed, found={"violates": {"cluster": {"config.key-matches-certificate"}}}
    ),
    "a request in the place of a certificate": Drift(
        files=_a_request,
        found={
            "violates": {"cluster": {"config.key-matches-certificate"}},
            "not-verified": {
                "peer": {"cert.complete", "cert.trusted", "config.peer-served-file"},
                "cluster": {"config.chain-closes"},
            },
        },
    ),
    "a key for everybody": Drift(
        files=lambda cluster, etcd: (etcd / "peer.key").chmod(0o644), found=_READABLE_KEY
    ),
    "a key for everybody in a directory for root": Drift(files=_open_key_in_a_shut_directory),
    "a key in a certificate's file": Drift(files=_key_in_the_certificate, found=_READABLE_KEY),
    "the CA's key for a group": Drift(
        files=lambda cluster, etcd: (etcd / "ca.key").chmod(0o640),
        found={"warns": {"cluster": {"config.ca-key-beside"}}},
    ),
    "a listener that is not open": Drift(
        flags={"listen-metrics-urls": "http://127.0.0.1:{metrics},http://127.0.0.1:1"},
        checks=("listener", "config.listeners-as-declared", "mtls.plaintext-refused"),
        found={
            "inconclusive": {"metrics": {"listener.answers"}},
            "not-verified": {"metrics": {"listener.is-etcd", "mtls.plaintext-refused"}},
            "violates": {"cluster": {"config.listeners-as-declared"}},
        },
    ),
    "a listener that is not declared": Drift(
        flags={"listen-metrics-urls": None},
        options={"etcd_metrics_endpoint": "http://127.0.0.1:{metrics}"},
        found={"violates": {"cluster": {"config.listeners-as-declared"}}},
    ),
    "a revocation list that is out of date": Drift(
        flags={"client-crl-file": f"{ETCD}/crl.der"},
        files=lambda cluster, etcd: (etcd / "crl.der").write_bytes(
            cluster.client_ca.crl(valid_for=timedelta(minutes=1))
        ),
        found={"warns": {"cluster": {"config.crl-fresh"}}},
    ),
    # Nobody is accepted or kept out by it.
    "another name": Drift(flags={"name": "cp9"}),
}


@pytest.mark.kills(
    "mtls.client-certificate-expires",
    "config.served-file",
    "config.peer-served-file",
    "config.key-matches-certificate",
    "config.credentials-expire-soon",
    "config.crl-fresh",
    "config.key-file-mode",
    "config.ca-key-beside",
    "config.listeners-as-declared",
)
@pytest.mark.parametrize("drift", DRIFTS)
def test_the_expected_checks_find_the_fault(drift: str, control_plane: Cluster, open_directory: Path) -> None:
    results = DRIFTS[drift].judged(control_plane, open_directory)
    assert found(results) == DRIFTS[drift].found, explain(results)
    if drift == "none":
        assert {result.check for result in results if result.outcome == "conforms"} > {
            *("config.served-file", "config.peer-served-file", "config.key-matches-certificate"),
            *("config.chain-closes", "mtls.client-certificate-expires", "config.key-file-mode"),
            *("config.ca-key-beside", "config.trusted-ca-in-force", "config.client-auth-in-force"),
            "config.listeners-as-declared",
        }
