"""kubeadm's directory of etcd's certificates (``--etcd-pki-dir``), used without a declaration.

The user named the directory, so an invalid file in it is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_etcdtls.declared.declaration import exists
from pytest_etcdtls.declared.files import APISERVER, HEALTHCHECK, Pair, read_pki_directory
from pytest_etcdtls.pki.loading import load_identity, load_trust
from pytest_etcdtls.pki.names import names_host
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.credentials import PortDefaults
from pytest_etcdtls.target import ExpectedLeaf, Listener, TrustBundle

_OPTION = "--etcd-pki-dir"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeadmDirectory:
    """The content of kubeadm's directory.

    Attributes:
        ca: the CA of servers, clients and peers.
        server: ``server.crt`` and its key.
        peer: ``peer.crt`` and its key.
        healthcheck: the health check client, which has no subjectAltName.
        apiserver: the API server's client.
        kubernetes_ca: the CA of the Kubernetes cluster, in the parent directory.
    """

    ca: TrustBundle
    server: Identity | None
    peer: Identity | None
    healthcheck: Identity | None
    apiserver: Identity | None
    kubernetes_ca: TrustBundle | None

    @classmethod
    def read(cls, directory: Path) -> KubeadmDirectory:
        """Read the directory.

        Raises:
            UsageError: if there is no ``ca.crt``, or a file's content does not fit its name.
        """
        found = read_pki_directory(directory)
        above = found.ca.parent.parent / "ca.crt"
        return cls(
            ca=_bundle(found.ca),
            server=_identity(found.server, "server"),
            peer=_identity(found.peer, "peer-pair"),
            healthcheck=_identity(found.healthcheck_client, HEALTHCHECK),
            apiserver=_identity(found.apiserver_etcd_client, APISERVER),
            kubernetes_ca=_bundle(above) if found.ca.parent.name == "etcd" and exists(above) else None,
        )

    def defaults(self) -> tuple[PortDefaults, PortDefaults]:
        """Return the default credentials for client ports and for peer ports."""
        return (
            self._defaults((self.healthcheck, self.apiserver), self.server),
            self._defaults((self.healthcheck, self.peer), self.peer),
        )

    def _defaults(self, good: Sequence[Identity | None], served: Identity | None) -> PortDefaults:
        return PortDefaults(
            server_ca=self.ca,
            client_trust=self.ca,
            identities=tuple(one for one in good if one is not None),
            served=(served,) if served else (),
        )

    def expected(self, listeners: Sequence[Listener]) -> Iterator[ExpectedLeaf]:
        """Yield the certificates that https listeners must serve.

        The directory belongs to one node. With listeners on several hosts, only those that the certificate
        covers are included.
        """
        hosts = {listener.host for listener in listeners}
        for listener in listeners:
            pair = self.peer if listener.role is Role.PEER else self.server
            if listener.scheme == "http" or pair is None:
                continue
            leaf = pair.chain[0]
            if len(hosts) == 1 or names_host(leaf, listener.host):
                yield ExpectedLeaf(
                    role=listener.role,
                    certificate=leaf,
                    source=pair.origin,
                    host=listener.host,
                    port=listener.port,
                )


def _bundle(path: Path) -> TrustBundle:
    return TrustBundle(load_trust(path, option=_OPTION), str(path))


def _identity(pair: Pair | None, name: str) -> Identity | None:
    if pair is None:
        return None
    return load_identity(pair.certificate, pair.key, name, options=(_OPTION, _OPTION))
