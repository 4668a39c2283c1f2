"""The leaves of a cluster: what each member has, issued by a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography import x509

from pytest_etcdtls.pki import kubeadm
from pytest_etcdtls.pki.identity import Identity, PrivateKey
from pytest_etcdtls.pki.plan import CALayout, MemberNames, PKIPlan, SentChain
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, PEER, PEER_CLIENT, SERVER, Profile, generate_key
from pytest_etcdtls.pki.tree import AuthorityTree, key_type


@dataclass(frozen=True, slots=True)
class MemberLeaves:
    """The identities of one member, and those of the clients that come with it."""

    server: Identity
    peer: Identity
    client: Identity
    peer_client: Identity


def issue_leaves(
    plan: PKIPlan, tree: AuthorityTree, members: Sequence[MemberNames]
) -> Mapping[str, MemberLeaves]:
    """Issue what every member has, by its name.

    Raises:
        ValueError: if a profile asks for what cannot be encoded.
    """
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
    """Issue what a member serves on its client port and on its peer port."""
    profile = plan.server_exceptions.get(member.name, plan.server)
    server = tree.server_issuer.issue(profile, name="server", key=key, hosts=member.hosts)
    peer = tree.peer_issuer.issue(plan.peer, name="peer", key=key, hosts=member.hosts)
    return (
        _with_chain(server, tree.server_ca.certificate, plan.sent_chain),
        _with_chain(peer, tree.peer_ca.certificate, plan.sent_chain),
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
    authority, hosts = tree.client_issuer, kubeadm.node_names(member)
    # kubeadm copies its CA's notBefore into everything that it signs.
    start = authority.certificate.not_valid_before_utc if plan.client_authority == AUTHORITY else None

    def issue(name: str, planned: Profile, default: Profile, kubeadms: Profile) -> Identity:
        untouched = planned == default
        profile = kubeadms if untouched else planned
        profile = replace(profile, common_name=profile.common_name or member.name)
        return authority.issue(profile, name=name, hosts=hosts, not_before=start if untouched else None)

    server = plan.server_exceptions.get(member.name, plan.server)
    return MemberLeaves(
        server=issue("server", server, SERVER, kubeadm.NODE),
        peer=issue("peer", plan.peer, PEER, kubeadm.NODE),
        client=issue("client", plan.client, CLIENT, kubeadm.APISERVER_ETCD_CLIENT),
        peer_client=issue("peer-client", plan.peer_client, PEER_CLIENT, kubeadm.HEALTHCHECK_CLIENT),
    )
