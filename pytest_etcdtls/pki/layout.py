"""Where the files of a cluster's PKI are, by layout. Knows names and paths, no contents."""

from __future__ import annotations

from pathlib import PurePosixPath

from pytest_etcdtls.pki import kubeadm
from pytest_etcdtls.pki.plan import CALayout

_OF_MEMBER = ("server.crt", "server.key", "peer.crt", "peer.key")
_OF_CLUSTER = (
    *("client-ca.crt", "server-ca.crt", "peer-ca.crt"),
    *("client.crt", "client.key", "peer-client.crt", "peer-client.key"),
    *("revoked.crt", "revoked.key", "crl.der", "crl.pem", "empty-crl.der"),
)
_CA_KEYS = ("client-ca.key", "server-ca.key", "peer-ca.key")


def file_paths(layout: CALayout, member: str, *, with_ca_keys: bool = False) -> dict[str, PurePosixPath]:
    """Return where each file is, relative to the PKI directory, by its logical name.

    Args:
        layout: kubeadm's has no CRL, no revoked identity, and always its CA key.
        member: the member's name.
        with_ca_keys: whether ``client-ca.key``, ``server-ca.key`` and ``peer-ca.key`` are there.
    """
    if layout is CALayout.KUBEADM:
        return {name: PurePosixPath(member, path) for name, path in kubeadm.PATHS.items()}
    paths = {name: PurePosixPath(member, name) for name in _OF_MEMBER}
    paths |= {name: PurePosixPath(name) for name in _OF_CLUSTER}
    if with_ca_keys:
        paths |= {name: PurePosixPath(name) for name in _CA_KEYS}
    return paths
