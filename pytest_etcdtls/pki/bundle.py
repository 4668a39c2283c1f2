"""Generates a cluster's PKI from a plan and writes it as files.

A plan says which CA signs which certificate (:class:`CALayout`) and what each kind of certificate has in it.
In kubeadm's layout, files, names, usages and validity are those that kubeadm makes
(cmd/kubeadm/app/phases/certs). Files are replaced by a rename, never written in place, since etcd reads
certificate and key in every handshake.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Final, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec import Struct, structs

from pytest_etcdtls.pki.authority import CertificateAuthority, general_name
from pytest_etcdtls.pki.profile import (
    AUTHORITY,
    CLIENT,
    PEER,
    PEER_CLIENT,
    SERVER,
    CALayout,
    Identity,
    KeyType,
    MemberNames,
    PKIPlan,
    PrivateKey,
    Profile,
    SentChain,
    generate_key,
)

_OF_MEMBER = ("server.crt", "server.key", "peer.crt", "peer.key")
_OF_CLUSTER = (
    *("client-ca.crt", "server-ca.crt", "peer-ca.crt"),
    *("client.crt", "client.key", "peer-client.crt", "peer-client.key"),
    *("revoked.crt", "revoked.key", "crl.der", "crl.pem", "empty-crl.der"),
)
_CA_KEYS = ("client-ca.key", "server-ca.key", "peer-ca.key")


# kubeadm's etcd PKI, after its certificate list (cmd/kubeadm/app/phases/certs).
_ONE_YEAR = timedelta(days=365)
_BACKDATED = timedelta(minutes=-5)

KUBEADM_CA_COMMON_NAME: Final = "etcd-ca"

KUBEADM_AUTHORITY: Final = Profile(
    common_name=KUBEADM_CA_COMMON_NAME,
    subject_alt_names=(KUBEADM_CA_COMMON_NAME,),
    key_usage=frozenset({"digitalSignature", "keyEncipherment", "keyCertSign"}),
    valid_from=_BACKDATED,
    valid_for=10 * _ONE_YEAR - _BACKDATED,
    ca=True,
    authority_key_identifier=False,
)
"""``etcd/ca.crt``, ten years; client-go's ``NewSelfSignedCACert`` puts the CN in as a DNS name."""

_KUBEADM_LEAF = Profile(
    common_name=None,
    key_usage=frozenset({"digitalSignature", "keyEncipherment"}),
    extended_key_usage=("clientAuth",),
    valid_from=_BACKDATED,
    valid_for=_ONE_YEAR - _BACKDATED,
    subject_key_identifier=False,
)

KUBEADM_NODE: Final = replace(
    _KUBEADM_LEAF, subject_alt_names=None, extended_key_usage=("serverAuth", "clientAuth")
)
"""``etcd/server.crt`` and ``etcd/peer.crt``; the common name is the node's."""

HEALTHCHECK_CLIENT: Final = replace(_KUBEADM_LEAF, common_name="kube-etcd-healthcheck-client")
APISERVER_ETCD_CLIENT: Final = replace(_KUBEADM_LEAF, common_name="kube-apiserver-etcd-client")

KUBEADM_PATHS: Final = {
    f"{name}.{ending}": f"{path}.{ending}"
    for name, path in (
        *(("client-ca", "etcd/ca"), ("server-ca", "etcd/ca"), ("peer-ca", "etcd/ca")),
        *(("server", "etcd/server"), ("peer", "etcd/peer")),
        *(("peer-client", "etcd/healthcheck-client"), ("client", "apiserver-etcd-client")),
    )
    for ending in ("crt", "key")
}
"""Paths of a node's files below its PKI directory, by the logical names of the other layouts."""


def node_names(member: MemberNames) -> tuple[str, ...]:
    """Return the subjectAltNames of a node: its name, localhost, its addresses, 127.0.0.1, ::1.

    DNS names come first, in alphabetical order, as Go and kubeadm's ``RemoveDuplicateAltNames`` order them.
    """
    names = {member.name, "localhost", *member.hosts, "127.0.0.1", "::1"}
    addresses = {name for name in names if isinstance(general_name(name), x509.IPAddress)}
    return (*sorted(names - addresses), *sorted(addresses))


def encode_certificates(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return the certificates as PEM, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def encode_pair(identity: Identity, name: str) -> dict[str, bytes]:
    """Return certificate and key as the files ``NAME.crt`` and ``NAME.key``."""
    if identity.key is None:
        raise ValueError(f"the identity {identity.name} has no key")
    return {f"{name}.crt": encode_certificates(identity.chain), f"{name}.key": encode_key(identity.key)}


def encode_key(key: PrivateKey, *, traditional: bool = False) -> bytes:
    """Return the key as unencrypted PEM, which every version of etcd reads.

    Args:
        key: the private key.
        traditional: ``RSA PRIVATE KEY`` or ``EC PRIVATE KEY`` as kubeadm writes them, instead of PKCS #8.
    """
    # Ed25519 has no traditional form.
    traditional = traditional and not isinstance(key, ed25519.Ed25519PrivateKey)
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def write_files(directory: Path, files: Mapping[PurePosixPath, bytes]) -> None:
    """Write files below the directory with mode 0600, and create missing directories with mode 0700.

    Files and directories are created with these modes, so that a key is never readable by others. An
    existing file is replaced, never written in place.

    Raises:
        OSError: if a file or directory cannot be written.
    """
    _make_directory(directory)
    for path, content in files.items():
        for parent in reversed(path.parents):
            _make_directory(directory / parent)
        _replace_file(directory / path, content)


def _make_directory(directory: Path) -> None:
    # Path.mkdir(parents=True) makes the parents with the default mode, not with this one.
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)


def _replace_file(path: Path, content: bytes) -> None:
    # Renamed into place: etcd reads the files at every handshake, and must not find a part of one.
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


class AuthorityTree(Struct, frozen=True):
    """The CAs that sign the leaves of each role. The root of each CA is the trust anchor.

    Attributes:
        client_issuer: signs client certificates.
        server_issuer: signs the certificates served on client ports.
        peer_issuer: signs the certificates served and presented on peer ports.
    """

    client_issuer: CertificateAuthority
    server_issuer: CertificateAuthority
    peer_issuer: CertificateAuthority


def key_type(plan: PKIPlan) -> KeyType:
    """Return the key type of a plan: the one that it sets, else the default of its layout."""
    if plan.key_type is not None:
        return plan.key_type
    return KeyType.RSA_2048 if plan.layout is CALayout.KUBEADM else KeyType.ECDSA_P256


def _authority_tree(plan: PKIPlan) -> AuthorityTree:
    """Generate the CAs of a plan."""
    names = {
        CALayout.KUBEADM: KUBEADM_CA_COMMON_NAME,
        CALayout.SHARED: "etcd CA",
        CALayout.PER_ROLE: "etcd client CA",
    }
    # In the other layouts it signs server and client certificates of the client port.
    client = _authority(plan, names.get(plan.layout, "etcd client-port CA"), plan.client_authority)
    if plan.layout in (CALayout.SHARED, CALayout.KUBEADM):
        return AuthorityTree(client, client, client)
    peer = _authority(plan, "etcd peer CA", plan.peer_authority)
    server = client
    if plan.layout is CALayout.PER_ROLE:
        server = _authority(plan, "etcd server CA", plan.server_authority)
    return AuthorityTree(client, server, peer)


def _authority(plan: PKIPlan, common_name: str, profile: Profile) -> CertificateAuthority:
    if plan.layout is CALayout.KUBEADM and profile == AUTHORITY:
        profile = KUBEADM_AUTHORITY
    root = CertificateAuthority.create(common_name, key_type(plan), profile=profile)
    if plan.layout is not CALayout.INTERMEDIATE:
        return root
    return root.intermediate(f"{common_name} intermediate", profile=plan.intermediate_authority)


class MemberLeaves(Struct, frozen=True):
    """The identities of one member and of its clients."""

    server: Identity
    peer: Identity
    client: Identity
    peer_client: Identity


def _issue_leaves(
    plan: PKIPlan, tree: AuthorityTree, members: Sequence[MemberNames]
) -> Mapping[str, MemberLeaves]:
    """Issue the leaves of every member, by member name."""
    if plan.layout is CALayout.KUBEADM:
        return {member.name: _kubeadm_node(plan, tree, member) for member in members}
    client = tree.client_issuer.issue(plan.client, name="client")
    peer_client = tree.peer_issuer.issue(plan.peer_client, name="peer-client")
    key = generate_key(key_type(plan)) if plan.one_key else None
    return {
        member.name: MemberLeaves(*_served(plan, tree, member, key), client, peer_client)
        for member in members
    }


def _served(
    plan: PKIPlan, tree: AuthorityTree, member: MemberNames, key: PrivateKey | None
) -> tuple[Identity, Identity]:
    """Issue the certificates that a member serves on its client port and on its peer port."""
    profile = plan.server_exceptions.get(member.name, plan.server)
    server = tree.server_issuer.issue(profile, name="server", key=key, hosts=member.hosts)
    peer = tree.peer_issuer.issue(plan.peer, name="peer", key=key, hosts=member.hosts)
    return (
        _with_chain(server, tree.server_issuer.root.certificate, plan.sent_chain),
        _with_chain(peer, tree.peer_issuer.root.certificate, plan.sent_chain),
    )


def _with_chain(identity: Identity, root: x509.Certificate, sent: SentChain) -> Identity:
    match sent:
        case SentChain.COMPLETE:
            return identity
        case SentChain.LEAF_ONLY:
            return replace(identity, chain=identity.chain[:1])
        case SentChain.WITH_ROOT:
            return replace(identity, chain=(*identity.chain, root))


def _kubeadm_node(plan: PKIPlan, tree: AuthorityTree, member: MemberNames) -> MemberLeaves:
    authority, hosts = tree.client_issuer, node_names(member)
    # kubeadm copies its CA's notBefore into every certificate that it signs.
    start = authority.certificate.not_valid_before_utc if plan.client_authority == AUTHORITY else None

    def issue(name: str, planned: Profile, default: Profile, kubeadm: Profile) -> Identity:
        is_default = planned == default
        profile = kubeadm if is_default else planned
        profile = replace(profile, common_name=profile.common_name or member.name)
        return authority.issue(profile, name=name, hosts=hosts, not_before=start if is_default else None)

    server = plan.server_exceptions.get(member.name, plan.server)
    return MemberLeaves(
        server=issue("server", server, SERVER, KUBEADM_NODE),
        peer=issue("peer", plan.peer, PEER, KUBEADM_NODE),
        client=issue("client", plan.client, CLIENT, APISERVER_ETCD_CLIENT),
        peer_client=issue("peer-client", plan.peer_client, PEER_CLIENT, HEALTHCHECK_CLIENT),
    )


class ClusterPKI(Struct, frozen=True, kw_only=True):
    """The keys and certificates of a cluster and its clients, in memory.

    Attributes:
        plan: the plan that it was generated from.
        members: the members that it was generated for.
        authorities: the CAs.
        leaves: the leaves of each member, by member name. Except in kubeadm's layout, all members have the
            same client identities.
        revoked: a client identity that is listed in ``crl.der`` and ``crl.pem``.
        empty_crl: a CRL without entries, DER.
    """

    plan: PKIPlan
    members: tuple[MemberNames, ...]
    authorities: AuthorityTree
    leaves: Mapping[str, MemberLeaves]
    revoked: Identity
    empty_crl: bytes

    @classmethod
    def generate(
        cls, plan: PKIPlan, members: Sequence[MemberNames], authorities: AuthorityTree | None = None
    ) -> Self:
        """Generate all keys and certificates of a plan, with new CAs unless ``authorities`` are given.

        Raises:
            ValueError: if there is no member, if two members have the same name, or if a profile cannot be
                encoded.
        """
        names = [member.name for member in members]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a PKI needs members with distinct names, got {names}")
        tree = authorities or _authority_tree(plan)
        leaves = _issue_leaves(plan, tree, members)
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

    def renewed(self, kind: Literal["server", "peer", "client"]) -> Self:
        """Return the PKI with new keys and certificates of one kind, of the same CAs."""
        fresh = _issue_leaves(self.plan, self.authorities, self.members)
        leaves = {
            name: structs.replace(old, **{kind: getattr(fresh[name], kind)})
            for name, old in self.leaves.items()
        }
        return structs.replace(self, leaves=leaves)

    def with_new_ca(self, kind: Literal["server", "peer", "client"]) -> Self:
        """Return the PKI with another CA of that kind, wherever the plan uses it, and with new leaves."""
        old, fresh = self.authorities, _authority_tree(self.plan)
        replaced, new = getattr(old, f"{kind}_issuer"), getattr(fresh, f"{kind}_issuer")
        issuers = (old.client_issuer, old.server_issuer, old.peer_issuer)
        tree = AuthorityTree(*(new if issuer is replaced else issuer for issuer in issuers))
        return self.generate(self.plan, self.members, tree)

    def with_member(self, member: MemberNames) -> Self:
        """Return the PKI with a further member, whose leaves are signed by the same CAs."""
        fresh = _issue_leaves(self.plan, self.authorities, [member])[member.name]
        if self.plan.layout is not CALayout.KUBEADM:
            fresh = structs.replace(fresh, client=self.client, peer_client=self.peer_client)
        return structs.replace(
            self, members=(*self.members, member), leaves={**self.leaves, member.name: fresh}
        )

    def without_member(self, name: str) -> Self:
        """Return the PKI without the leaves of a member."""
        members = tuple(member for member in self.members if member.name != name)
        return structs.replace(
            self, members=members, leaves={member.name: self.leaves[member.name] for member in members}
        )

    def contents(self, member: str, *names: str) -> dict[str, bytes]:
        """Return the contents of files of a member by logical name, as they are written."""
        files, paths = self.files(), self.paths(member)
        return {name: files[paths[name]] for name in names}

    @property
    def servers(self) -> Mapping[str, Identity]:
        """The identity of each member's client port, by member name."""
        return {name: leaves.server for name, leaves in self.leaves.items()}

    @property
    def peers(self) -> Mapping[str, Identity]:
        """The identity of each member's peer port, by member name."""
        return {name: leaves.peer for name, leaves in self.leaves.items()}

    @property
    def client(self) -> Identity:
        """A valid client identity; in kubeadm's layout the first node's apiserver-etcd-client."""
        return self.leaves[self.members[0].name].client

    @property
    def peer_client(self) -> Identity:
        """A valid client identity for peer ports; in kubeadm's layout the first node's healthcheck-client.

        It has no subjectAltName, so that etcd's SAN check accepts it from any address.
        """
        return self.leaves[self.members[0].name].peer_client

    @property
    def client_ca(self) -> CertificateAuthority:
        """The CA that etcd trusts for client certificates."""
        return self.authorities.client_issuer.root

    @property
    def server_ca(self) -> CertificateAuthority:
        """The trust anchor of the certificates served on client ports."""
        return self.authorities.server_issuer.root

    @property
    def peer_ca(self) -> CertificateAuthority:
        """The CA that the members trust for peer certificates."""
        return self.authorities.peer_issuer.root

    def paths(self, member: str, *, with_ca_keys: bool = False) -> Mapping[str, PurePosixPath]:
        """Return the path of each file of :meth:`write`, relative to its directory, by logical name.

        kubeadm's layout has no CRL, no revoked identity, and always the CA key.
        """
        if self.plan.layout is CALayout.KUBEADM:
            return {name: PurePosixPath(member, path) for name, path in KUBEADM_PATHS.items()}
        own = {name: PurePosixPath(member, name) for name in _OF_MEMBER}
        shared = (*_OF_CLUSTER, *(_CA_KEYS if with_ca_keys else ()))
        return own | {name: PurePosixPath(name) for name in shared}

    def files(self, *, with_ca_keys: bool = False) -> Mapping[PurePosixPath, bytes]:
        """Return the contents of all files by path, relative to the PKI directory."""
        contents = self._cluster_contents()
        files: dict[PurePosixPath, bytes] = {}
        for member in self.members:
            leaves = self.leaves[member.name]
            for identity in (leaves.server, leaves.peer, leaves.client, leaves.peer_client):
                contents |= self._pair(identity)
            paths = self.paths(member.name, with_ca_keys=with_ca_keys)
            files |= {path: contents[name] for name, path in paths.items()}
        return files

    def write(self, directory: Path, *, with_ca_keys: bool = False) -> None:
        """Write all files below the directory, as :func:`write_files` does."""
        write_files(directory, self.files(with_ca_keys=with_ca_keys))

    def _cluster_contents(self) -> dict[str, bytes]:
        crl = self.authorities.client_issuer.crl()
        contents = {
            **self._pair(self.revoked),
            "crl.der": crl,
            "crl.pem": x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM),
            "empty-crl.der": self.empty_crl,
        }
        anchors = {"client-ca": self.client_ca, "server-ca": self.server_ca, "peer-ca": self.peer_ca}
        for name, authority in anchors.items():
            contents[f"{name}.crt"] = encode_certificates([authority.certificate])
            contents[f"{name}.key"] = self._key(authority.key)
        return contents

    def _pair(self, identity: Identity) -> dict[str, bytes]:
        key = {} if identity.key is None else {f"{identity.name}.key": self._key(identity.key)}
        return {f"{identity.name}.crt": encode_certificates(identity.chain), **key}

    def _key(self, key: PrivateKey) -> bytes:
        return encode_key(key, traditional=self.plan.layout is CALayout.KUBEADM)
