"""The plan of a cluster's PKI: its CAs and the certificates that they issue. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, PEER, PEER_CLIENT, SERVER, KeyType, Profile


class CALayout(StrEnum):
    """Which CA signs which certificates."""

    PER_PORT = "per-port"
    """client-ca signs server and client certificates, peer-ca signs peer certificates."""
    SHARED = "shared"
    """One CA for everything."""
    PER_ROLE = "per-role"
    """server-ca, client-ca and peer-ca. etcd's gateway needs ``--client-cert-file`` with this layout: it
    dials its own port, and client-ca did not sign ``server.crt``."""
    INTERMEDIATE = "intermediate"
    """As ``per-port``, with an intermediate CA between each root and its leaves."""
    KUBEADM = "kubeadm"
    """kubeadm's single CA, files, subjects, usages and names."""


class SentChain(StrEnum):
    """The certificates that a member sends in addition to its leaf."""

    COMPLETE = "complete"
    """Every intermediate, as required."""
    LEAF_ONLY = "leaf-only"
    """None. A leaf that an intermediate signed cannot be verified."""
    WITH_ROOT = "with-root"
    """The intermediates and the root, which is not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PKIPlan:
    """The PKI to generate for a cluster.

    In kubeadm's layout, a profile at its default means kubeadm's own profile, and a common name of ``None``
    means the node's name.

    Attributes:
        layout: which CA signs which certificates.
        key_type: type of all keys whose profile sets none. ``None`` means ECDSA P-256, in kubeadm's layout
            RSA 2048. Generating an RSA key takes 0.1 to 1 second.
        server: profile of the certificates for the members' client ports.
        peer: profile of the certificates for the members' peer ports.
        client: profile of client certificates, including the revoked one.
        peer_client: profile of the certificates for clients of peer ports.
        client_authority: profile of the CA that etcd trusts for client certificates; the only CA in some
            layouts.
        server_authority: profile of the CA of the certificates on client ports, if the layout has one.
        peer_authority: profile of the peers' CA, if the layout has one.
        intermediate_authority: profile of the CAs between root and leaves, if the layout has them.
        server_exceptions: profiles that replace ``server``, by member name.
        sent_chain: the chain that the members send. It is ignored in kubeadm's layout, which has no
            intermediates.
        one_key: all members use the same key on both ports. It is ignored in kubeadm's layout.
    """

    layout: CALayout = CALayout.PER_PORT
    key_type: KeyType | None = None
    server: Profile = SERVER
    peer: Profile = PEER
    client: Profile = CLIENT
    peer_client: Profile = PEER_CLIENT
    client_authority: Profile = AUTHORITY
    server_authority: Profile = AUTHORITY
    peer_authority: Profile = AUTHORITY
    intermediate_authority: Profile = AUTHORITY
    server_exceptions: Mapping[str, Profile] = field(default_factory=lambda: MappingProxyType({}))
    sent_chain: SentChain = SentChain.COMPLETE
    one_key: bool = False


@dataclass(frozen=True, slots=True)
class MemberNames:
    """A member's name, and the host names and addresses that it is reached under."""

    name: str
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
