"""The plan of a cluster's PKI: which CAs there are, what they issue, for whom. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, PEER, PEER_CLIENT, SERVER, KeyType, Profile


class CALayout(StrEnum):
    """Which CA signs what."""

    PER_PORT = "per-port"
    """client-ca signs servers and clients, peer-ca the peers."""
    SHARED = "shared"
    """One CA for everything."""
    PER_ROLE = "per-role"
    """server-ca, client-ca and peer-ca. The gateway of such an etcd needs ``--client-cert-file``, since it
    dials its own port, and ``server.crt`` is no client certificate of client-ca."""
    INTERMEDIATE = "intermediate"
    """As per port, with an intermediate CA between each root and its leaves."""
    KUBEADM = "kubeadm"
    """kubeadm's one CA, files, subjects, usages and names."""


class SentChain(StrEnum):
    """What a member sends besides its leaf."""

    COMPLETE = "complete"
    """Every intermediate, as it should be."""
    LEAF_ONLY = "leaf-only"
    """Nothing, so that what an intermediate has signed cannot be verified."""
    WITH_ROOT = "with-root"
    """The intermediates and the root, which nobody needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PKIPlan:
    """What to generate for a cluster.

    In kubeadm's layout a profile that is left at its default means kubeadm's own, and a common name of
    ``None`` the node's name.

    Attributes:
        layout: which CA signs what.
        key_type: of all keys whose profile does not say otherwise; ``None`` means ECDSA P-256, in kubeadm's
            layout RSA 2048. RSA keys take a tenth of a second to a second each.
        server: what is issued for the members' client ports.
        peer: what is issued for the members' peer ports.
        client: what is issued for clients, the revoked one included.
        peer_client: what is issued for clients of peer ports.
        client_authority: the CA whose certificate etcd trusts for its clients; the only CA in some layouts.
        server_authority: the CA of what is served on client ports, where the layout has one for that.
        peer_authority: the CA of the peers, likewise.
        intermediate_authority: the CAs between root and leaves, likewise.
        server_exceptions: instead of ``server``, by member name: members that are not alike.
        sent_chain: what the members send; not in kubeadm's layout, which has no intermediates.
        one_key: all members have one and the same key on both ports; not in kubeadm's layout.
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
    """A member's name, and the names and addresses under which it is reached."""

    name: str
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
