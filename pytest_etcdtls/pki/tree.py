"""A cluster's CAs: which role's leaves are signed by which, and under which trust anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytest_etcdtls.pki import kubeadm
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.plan import CALayout, PKIPlan
from pytest_etcdtls.pki.profile import AUTHORITY, KeyType, Profile

_ONE_CA: Final = (CALayout.SHARED, CALayout.KUBEADM)


@dataclass(frozen=True, slots=True)
class AuthorityTree:
    """The CAs that sign the leaves of each role; the trust anchor is the root of each.

    Attributes:
        client_issuer: signs clients.
        server_issuer: signs what is served on client ports.
        peer_issuer: signs what is served and presented on peer ports.
    """

    client_issuer: CertificateAuthority
    server_issuer: CertificateAuthority
    peer_issuer: CertificateAuthority

    @property
    def client_ca(self) -> CertificateAuthority:
        """The CA whose certificate etcd trusts for its clients."""
        return self.client_issuer.root

    @property
    def server_ca(self) -> CertificateAuthority:
        """The trust anchor of what is served on client ports."""
        return self.server_issuer.root

    @property
    def peer_ca(self) -> CertificateAuthority:
        """The CA whose certificate the members trust for each other."""
        return self.peer_issuer.root


def key_type(plan: PKIPlan) -> KeyType:
    """Return the kind of the keys of a plan: the one that it names, else what is usual for its layout."""
    if plan.key_type is not None:
        return plan.key_type
    return KeyType.RSA_2048 if plan.layout is CALayout.KUBEADM else KeyType.ECDSA_P256


def authority_tree(plan: PKIPlan) -> AuthorityTree:
    """Generate the CAs of a plan.

    Raises:
        ValueError: if a profile asks for what cannot be encoded.
    """
    client = _authority(plan, _ca_name(plan), plan.client_authority)
    if plan.layout in _ONE_CA:
        return AuthorityTree(client, client, client)
    peer = _authority(plan, "etcd peer CA", plan.peer_authority)
    server = client
    if plan.layout is CALayout.PER_ROLE:
        server = _authority(plan, "etcd server CA", plan.server_authority)
    return AuthorityTree(client, server, peer)


def _ca_name(plan: PKIPlan) -> str:
    if plan.layout is CALayout.KUBEADM:
        return kubeadm.CA_COMMON_NAME
    match plan.layout:
        case CALayout.SHARED:
            return "etcd CA"
        case CALayout.PER_ROLE:
            return "etcd client CA"
    # It signs servers and clients of the client port: not "client CA", which would be that of clients alone.
    return "etcd client-port CA"


def _authority(plan: PKIPlan, common_name: str, profile: Profile) -> CertificateAuthority:
    if plan.layout is CALayout.KUBEADM:
        profile = kubeadm.AUTHORITY if profile == AUTHORITY else profile
    root = CertificateAuthority.create(common_name, key_type(plan), profile=profile)
    if plan.layout is not CALayout.INTERMEDIATE:
        return root
    return root.intermediate(f"{common_name} intermediate", profile=plan.intermediate_authority)
