"""Declarations and files that differ from a running kubeadm node, and exactly what is found for each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from kubeadm.judging import Found
from kubeadm.nodes import PKI, Cluster, Node, changed
from pytest_etcdtls.pki import bundle
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import Identity

ETCD = f"{PKI}/etcd"
JUDGED = (
    *("config", "listener", "cert", "mtls.trusted-client", "mtls.announced-ca-expected"),
    *("mtls.client-certificate-expires", "mtls.client-ca-expires"),
)
"""What can tell of a drift; the rest is about what everybody sees, whatever is declared."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A declaration or a file that differs from what runs.

    Attributes:
        flags: of the manifest that are other than those etcd runs with; ``None`` for one that is left out.
            ``{address}``, ``{client}``, ``{peer}`` and ``{metrics}`` stand for the node's.
        files: changes the copy of ``/etc/kubernetes/pki``.
        options: further ones, with the same words in them, and ``{pki}``.
        checks: patterns of ``--etcd-check``.
        found: exactly; on a node without any drift nothing is.
    """

    flags: Mapping[str, str | None] = field(default_factory=dict)
    files: Callable[[Cluster, Node, Path], None] = lambda cluster, node, pki: None
    options: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[str, ...] = JUDGED
    found: Found = field(default_factory=dict)

    def declare(self, cluster: Cluster, node: Node, directory: Path) -> dict[str, str]:
        """Write the manifest and the copy of ``/etc/kubernetes/pki``; return the options that name them."""
        pki, manifest = directory / "pki", directory / "etcd.yaml"
        shutil.copytree(node.pki, pki)
        for place in (pki, pki / "etcd"):
            place.chmod(0o755)
        self.files(cluster, node, pki)
        words = {
            "address": node.address,
            "client": str(node.client),
            "peer": str(node.peer),
            "metrics": str(node.metrics),
            "pki": str(pki),
        }
        flags = {name: value and value.format(**words) for name, value in self.flags.items()}
        manifest.write_text(changed(node.text, flags), encoding="utf-8")
        options = {name: value.format(**words) for name, value in self.options.items()}
        return {"etcd_config": str(manifest), "etcd_pki_dir": str(pki), **options}


def put(pki: Path, name: str, pair: Identity) -> None:
    """Write a pair, ``NAME.crt`` and ``NAME.key``."""
    assert pair.key is not None
    (pki / f"{name}.crt").write_bytes(encode_certificates(pair.chain))
    key = pki / f"{name}.key"
    key.write_bytes(encode_key(pair.key))
    key.chmod(0o600)


def _issue(cluster: Cluster, node: Node, issuer: CertificateAuthority | None = None) -> Identity:
    hosts = bundle.node_names(cluster.pki.members[0])
    authority = issuer or cluster.pki.client_ca
    return authority.issue(replace(bundle.KUBEADM_NODE, common_name=node.name), name="new", hosts=hosts)


def _renewed(cluster: Cluster, node: Node, pki: Path) -> None:
    put(pki / "etcd", "renewed", _issue(cluster, node))


def _another_bundle(cluster: Cluster, node: Node, pki: Path) -> None:
    other = CertificateAuthority.create("etcd-ca-of-another-cluster")
    (pki / "etcd" / "other.crt").write_bytes(other.certificate.public_bytes(Encoding.PEM))


def _same_name(cluster: Cluster, node: Node, pki: Path) -> None:
    """The CA was created again under its old name; its certificates were not issued again."""
    new = CertificateAuthority.create("etcd-ca")
    (pki / "etcd" / "ca.crt").write_bytes(new.certificate.public_bytes(Encoding.PEM))


def _without_intermediate(cluster: Cluster, node: Node, pki: Path) -> None:
    intermediate = cluster.pki.peer_ca.intermediate("etcd-intermediate")
    pair = _issue(cluster, node, intermediate)
    put(pki / "etcd", "peer", replace(pair, chain=pair.chain[:1]))


def _expired_client(cluster: Cluster, node: Node, pki: Path) -> None:
    profile = replace(
        bundle.HEALTHCHECK_CLIENT, valid_from=timedelta(days=-366), valid_for=timedelta(days=365)
    )
    put(pki / "etcd", "healthcheck-client", cluster.pki.client_ca.issue(profile, name="old"))


def _expires_next_week(cluster: Cluster, node: Node, pki: Path) -> None:
    profile = replace(bundle.APISERVER_ETCD_CLIENT, valid_for=timedelta(days=7))
    put(pki, "apiserver-etcd-client", cluster.pki.client_ca.issue(profile, name="ends"))


def _served_next_week(cluster: Cluster, node: Node, pki: Path) -> None:
    profile = replace(bundle.KUBEADM_NODE, common_name=node.name, valid_for=timedelta(days=7))
    hosts = bundle.node_names(cluster.pki.members[0])
    put(pki / "etcd", "server", cluster.pki.client_ca.issue(profile, name="ends", hosts=hosts))


def _half_renewed(cluster: Cluster, node: Node, pki: Path) -> None:
    key = _issue(cluster, node).key
    assert key is not None
    (pki / "etcd" / "server.key").write_bytes(encode_key(key))


def _a_request(cluster: Cluster, node: Node, pki: Path) -> None:
    text = (pki / "etcd" / "peer.crt").read_text(encoding="utf-8")
    (pki / "etcd" / "peer.crt").write_text(
        text.replace("CERTIFICATE", "CERTIFICATE REQUEST"), encoding="utf-8"
    )


def _open_key(cluster: Cluster, node: Node, pki: Path) -> None:
    (pki / "etcd" / "peer.key").chmod(0o644)


def _open_key_in_a_shut_directory(cluster: Cluster, node: Node, pki: Path) -> None:
    _open_key(cluster, node, pki)
    (pki / "etcd").chmod(0o700)


def _key_in_the_certificate(cluster: Cluster, node: Node, pki: Path) -> None:
    certificate = pki / "etcd" / "server.crt"
    certificate.write_bytes(certificate.read_bytes() + (pki / "etcd" / "server.key").read_bytes())
    certificate.chmod(0o644)


def _open_client_key(cluster: Cluster, node: Node, pki: Path) -> None:
    (pki / "apiserver-etcd-client.key").chmod(0o604)


def _open_ca_key(cluster: Cluster, node: Node, pki: Path) -> None:
    (pki / "etcd" / "ca.key").chmod(0o640)


def _old_list(cluster: Cluster, node: Node, pki: Path) -> None:
    (pki / "etcd" / "crl.der").write_bytes(cluster.pki.client_ca.crl(valid_for=timedelta(minutes=1)))


_NO_BUNDLE = {"client": {"mtls.announced-ca-expected"}}
_AUTO = {"client": {"cert.complete", "cert.trusted", "mtls.announced-ca-expected"}}
_OF_THE_CA = {
    *("cert.ca-expires-soon", "cert.ca-valid-now", "cert.complete", "cert.issuer-is-ca"),
    *("cert.issuer-key-strength", "cert.key-identifiers", "cert.trusted"),
}
_OPENED = (
    "listener",
    "config.listeners-as-declared",
    "config.http-listener-beside-tls",
    "mtls.plaintext-refused",
)

DRIFTS: Mapping[str, Drift] = {
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
    "the peers' file declared for clients": Drift(
        flags={"cert-file": f"{ETCD}/peer.crt", "key-file": f"{ETCD}/peer.key"},
        found={"violates": {"client": {"config.served-file"}}},
    ),
    "another CA of clients": Drift(
        flags={"trusted-ca-file": f"{ETCD}/other.crt"},
        files=_another_bundle,
        found={"violates": {"client": {"config.trusted-ca-in-force"}}},
    ),
    "another CA of peers": Drift(
        flags={"peer-trusted-ca-file": f"{ETCD}/other.crt"},
        files=_another_bundle,
        found={
            "violates": {"peer": {"config.peer-trusted-ca-in-force"}, "cluster": {"config.chain-closes"}},
        },
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
    "an intermediate is missing": Drift(
        files=_without_intermediate,
        found={
            "violates": {"peer": {"config.peer-served-file"}, "cluster": {"config.chain-closes"}},
            "not-verified": {"peer": {"cert.complete", "cert.trusted"}},
        },
    ),
    "an expired client": Drift(
        files=_expired_client, found={"warns": {"cluster": {"mtls.client-certificate-expires"}}}
    ),
    "a client that expires": Drift(
        files=_expires_next_week, found={"warns": {"cluster": {"mtls.client-certificate-expires"}}}
    ),
    "a pair that expires, not served yet": Drift(
        files=_served_next_week,
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
            "not-verified": {"peer": {"cert.complete", "cert.trusted", "config.peer-served-file"}},
        },
    ),
    "a key for everybody": Drift(files=_open_key, found={"warns": {"cluster": {"config.key-file-mode"}}}),
    "a key for everybody in a directory for root": Drift(files=_open_key_in_a_shut_directory, found={}),
    "a key in a certificate's file": Drift(
        files=_key_in_the_certificate, found={"warns": {"cluster": {"config.key-file-mode"}}}
    ),
    "a client's key for everybody": Drift(
        files=_open_client_key, found={"warns": {"cluster": {"config.key-file-mode"}}}
    ),
    "the CA's key for a group": Drift(
        files=_open_ca_key, found={"warns": {"cluster": {"config.ca-key-beside"}}}
    ),
    "TLS 1.3 at least": Drift(
        flags={"tls-min-version": "TLS1.3"},
        found={
            "violates": {
                "client": {"config.version-range-in-force"},
                "peer": {"config.version-range-in-force"},
            }
        },
    ),
    "other suites": Drift(
        flags={"cipher-suites": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
        found={"violates": {"client": {"config.suites-in-force"}, "peer": {"config.suites-in-force"}}},
    ),
    "a listener that is not open": Drift(
        flags={"listen-metrics-urls": "http://127.0.0.1:{metrics},http://127.0.0.1:1"},
        checks=_OPENED,
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
    "https declared where http is spoken": Drift(
        flags={"listen-metrics-urls": "https://127.0.0.1:{metrics}"},
        checks=_OPENED,
        found={
            "violates": {"metrics": {"mtls.plaintext-refused"}, "cluster": {"config.listeners-as-declared"}},
            "not-verified": {"metrics": {"listener.answers", "listener.is-etcd"}},
        },
    ),
    "http declared where https is spoken": Drift(
        flags={"listen-peer-urls": "http://{address}:{peer}"},
        checks=_OPENED,
        found={
            "violates": {"cluster": {"config.http-listener-beside-tls", "config.listeners-as-declared"}},
            "inconclusive": {"peer": {"listener.answers"}},
            "not-verified": {"peer": {"listener.is-etcd", "mtls.plaintext-refused"}},
        },
    ),
    "clients by name": Drift(
        flags={"client-cert-allowed-hostname": "clients.example"},
        options={"etcd_ca_key": "{pki}/etcd/ca.key"},
        found={"violates": {"client": {"config.allowed-names-in-force"}}},
    ),
    "peers by common name": Drift(
        flags={"peer-cert-allowed-cn": "etcd-peer"},
        options={"etcd_peer_ca_key": "{pki}/etcd/ca.key"},
        found={"violates": {"peer": {"config.allowed-names-in-force"}}},
    ),
    "no client authentication declared": Drift(
        flags={"client-cert-auth": None, "trusted-ca-file": None},
        found={
            "violates": {"client": {"config.client-auth-in-force"}},
            "not-verified": _NO_BUNDLE,
        },
    ),
    "client authentication without a CA": Drift(
        flags={"trusted-ca-file": None},
        found={
            "violates": {"cluster": {"config.client-auth-without-ca"}},
            "not-verified": _NO_BUNDLE,
        },
    ),
    "auto-tls instead of files": Drift(
        flags={"cert-file": None, "key-file": None, "auto-tls": "true"},
        found={"violates": {"cluster": {"config.auto-tls-drops-client-auth"}}, "not-verified": _AUTO},
    ),
    "a revocation list that is out of date": Drift(
        flags={"client-crl-file": f"{ETCD}/crl.der"},
        files=_old_list,
        found={"warns": {"cluster": {"config.crl-fresh"}}},
    ),
    # Nobody is accepted or kept out by it.
    "another name": Drift(flags={"name": "cp9"}),
}
