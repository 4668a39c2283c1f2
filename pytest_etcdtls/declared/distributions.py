"""Which program overwrites a declaration, so that a change of it is lost, and where to change it instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pytest_etcdtls.declared.declaration import Declaration, Form

_OF_RANCHER: Final = (
    "{0} overwrites this file when it starts: give keys of its top level, such as tls-min-version, as "
    "etcd-arg in /etc/rancher/{1}/config.yaml; a restart of {0} brings back its own sections for TLS"
)
_WRITERS: Final = (
    (r"/rke2/server/tls/etcd/", _OF_RANCHER.format("RKE2", "rke2")),
    (r"/server/tls/etcd/(server-client|server-ca)\.crt$", _OF_RANCHER.format("k3s", "k3s")),
    (
        r"^/system/secrets/etcd/",
        "Talos starts etcd with flags of its own: give the same in cluster.etcd.extraArgs of the machine "
        "configuration (talosctl edit machineconfig)",
    ),
    (
        r"/k0s/pki/etcd/",
        "k0s starts etcd with flags of its own: give the same in spec.storage.etcd.extraArgs of its "
        "configuration, /etc/k0s/k0s.yaml",
    ),
    (
        r"/pki/[^/]+/clients/[^/]+\.crt$",
        "kOps writes this manifest, and etcd-manager starts etcd: give the same as ETCD_ variables in "
        "etcdClusters[].manager.env (kops edit cluster)",
    ),
    (
        r"/etcd-all-(certs|bundles)/",
        "OpenShift's etcd operator overwrites this manifest: versions and suites of TLS follow from "
        "spec.tlsSecurityProfile (oc edit apiserver cluster), and other flags are the operator's own",
    ),
)
"""What overwrites a declaration, by the path of a certificate, and where to give the same instead."""
_KUBEADM: Final = (
    "kubeadm upgrade overwrites this manifest: give the same flags in etcd.local.extraArgs of its "
    "ClusterConfiguration (kubectl -n kube-system edit configmap kubeadm-config)"
)
_KUBEADM_FILES: Final = ("ca.crt", "server.crt", "peer.crt")


def kubeadm_directory(declaration: Declaration) -> str:
    """Return the directory of etcd's certificates if kubeadm made them, else an empty text."""
    for path in _paths(declaration):
        directory, _, file = path.rpartition("/")
        if declaration.form is Form.MANIFEST and directory.endswith("/pki/etcd") and file in _KUBEADM_FILES:
            return directory
    return ""


def who_overwrites(declaration: Declaration) -> Iterator[str]:
    """Yield which program overwrites a declaration, and where a change is given so that it stays."""
    kind, _, name = declaration.owner.partition(" ")
    if kind == "node":
        yield f"the kubelet of {name or 'a node'} makes this pod of a file in its directory: change that file"
    elif kind:
        yield f"the {kind} {name} owns this object, and its controller overwrites it: give the same there"
    for pattern, sentence in _WRITERS:
        if any(re.search(pattern, path) for path in _paths(declaration)):
            yield sentence
            return
    if kubeadm_directory(declaration):
        yield _KUBEADM


def _paths(declaration: Declaration) -> Iterator[str]:
    for name in ("trusted-ca-file", "peer-trusted-ca-file", "cert-file", "peer-cert-file"):
        if path := declaration.text(name):
            yield path
