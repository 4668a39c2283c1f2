"""A cluster's whole PKI: generates it by a plan and writes it as files.

Does not know etcd's flags, nor where the cluster runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.files import encode_certificates, encode_key, write_files
from pytest_etcdtls.pki.identity import Identity, PrivateKey
from pytest_etcdtls.pki.layout import file_paths
from pytest_etcdtls.pki.leaves import MemberLeaves, issue_leaves
from pytest_etcdtls.pki.plan import CALayout, MemberNames, PKIPlan, SentChain
from pytest_etcdtls.pki.tree import AuthorityTree, authority_tree

__all__ = ["CALayout", "ClusterPKI", "MemberNames", "PKIPlan", "SentChain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPKI:
    """Everything that a cluster and its clients need, in memory.

    Attributes:
        plan: by which it was made.
        members: for whom.
        authorities: the CAs.
        leaves: what each member has, by its name. The clients are the same for all but in kubeadm's layout.
        revoked: a client that is on the lists of ``crl.der`` and ``crl.pem``.
        empty_crl: a list without entries, DER.
    """

    plan: PKIPlan
    members: tuple[MemberNames, ...]
    authorities: AuthorityTree
    leaves: Mapping[str, MemberLeaves]
    revoked: Identity
    empty_crl: bytes

    @classmethod
    def generate(cls, plan: PKIPlan, members: Sequence[MemberNames]) -> Self:
        """Generate all keys and certificates of a plan.

        Raises:
            ValueError: if there is no member, if two have one name, or if a profile asks for what cannot be
                encoded.
        """
        names = [member.name for member in members]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a PKI needs members with distinct names, got {names}")
        tree = authority_tree(plan)
        leaves = issue_leaves(plan, tree, members)
        empty_crl = tree.client_issuer.crl()
        revoked = tree.client_issuer.issue(plan.client, name="revoked")
        tree.client_issuer.revoke(revoked.chain[0])
        return cls(
            plan=plan,
            members=tuple(members),
            authorities=tree,
            leaves=leaves,
            revoked=revoked,
            empty_crl=empty_crl,
        )

    @property
    def servers(self) -> Mapping[str, Identity]:
        """Identity of each member's client port, by member name."""
        return {name: leaves.server for name, leaves in self.leaves.items()}

    @property
    def peers(self) -> Mapping[str, Identity]:
        """Identity of each member's peer port, by member name."""
        return {name: leaves.peer for name, leaves in self.leaves.items()}

    @property
    def client(self) -> Identity:
        """A good client; in kubeadm's layout the first node's apiserver-etcd-client."""
        return self.leaves[self.members[0].name].client

    @property
    def peer_client(self) -> Identity:
        """A good client for peer ports; in kubeadm's layout the first node's healthcheck-client.

        It has no subjectAltName, so that etcd's SAN rule passes it from any address.
        """
        return self.leaves[self.members[0].name].peer_client

    @property
    def client_ca(self) -> CertificateAuthority:
        """The CA whose certificate etcd trusts for its clients."""
        return self.authorities.client_ca

    @property
    def server_ca(self) -> CertificateAuthority:
        """The trust anchor of what is served on client ports."""
        return self.authorities.server_ca

    @property
    def peer_ca(self) -> CertificateAuthority:
        """The CA whose certificate the members trust for each other."""
        return self.authorities.peer_ca

    def paths(self, member: str, *, with_ca_keys: bool = False) -> Mapping[str, PurePosixPath]:
        """Return where :meth:`write` puts each file, relative to its directory, by logical name."""
        return file_paths(self.plan.layout, member, with_ca_keys=with_ca_keys)

    def files(self, *, with_ca_keys: bool = False) -> Mapping[PurePosixPath, bytes]:
        """Return the contents of all files by their paths, relative to the PKI's directory."""
        cluster = dict(self._cluster_contents())
        files: dict[PurePosixPath, bytes] = {}
        for member in self.members:
            contents = {**cluster, **dict(self._member_contents(member.name))}
            paths = self.paths(member.name, with_ca_keys=with_ca_keys)
            files |= {path: contents[name] for name, path in paths.items()}
        return files

    def write(self, directory: Path, *, with_ca_keys: bool = False) -> None:
        """Write all files below the directory, 0600 each, 0700 the directories that are not there yet.

        Raises:
            OSError: if the system refuses.
        """
        write_files(directory, self.files(with_ca_keys=with_ca_keys))

    def _cluster_contents(self) -> Iterator[tuple[str, bytes]]:
        anchors = {"client-ca": self.client_ca, "server-ca": self.server_ca, "peer-ca": self.peer_ca}
        for name, authority in anchors.items():
            yield f"{name}.crt", encode_certificates([authority.certificate])
            yield f"{name}.key", self._key(authority.key)
        yield from self._pair(self.revoked)
        crl = self.authorities.client_issuer.crl()
        yield "crl.der", crl
        yield "crl.pem", x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM)
        yield "empty-crl.der", self.empty_crl

    def _member_contents(self, member: str) -> Iterator[tuple[str, bytes]]:
        leaves = self.leaves[member]
        for identity in (leaves.server, leaves.peer, leaves.client, leaves.peer_client):
            yield from self._pair(identity)

    def _pair(self, identity: Identity) -> Iterator[tuple[str, bytes]]:
        yield f"{identity.name}.crt", encode_certificates(identity.chain)
        if identity.key is not None:
            yield f"{identity.name}.key", self._key(identity.key)

    def _key(self, key: PrivateKey) -> bytes:
        return encode_key(key, traditional=self.plan.layout is CALayout.KUBEADM)
