"""The leaves of a cluster: what each member has, issued by a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_etcdtls.pki import kubeadm
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.pki.plan import CALayout, MemberNames, PKIPlan
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, Profile
from pytest_etcdtls.pki.tree import AuthorityTree


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
    peer_profile = replace(plan.client, common_name="peer-client", subject_alt_names=())
    peer_client = tree.peer_issuer.issue(peer_profile, name="peer-client")
    return {
        member.name: MemberLeaves(
            server=tree.server_issuer.issue(plan.server, name="server", hosts=member.hosts),
            peer=tree.peer_issuer.issue(plan.peer, name="peer", hosts=member.hosts),
            client=client,
            peer_client=peer_client,
        )
        for member in members
    }


def _kubeadm_node(plan: PKIPlan, tree: AuthorityTree, member: MemberNames) -> MemberLeaves:
    authority = tree.client_issuer
    hosts = kubeadm.node_names(member)
    # kubeadm copies the CA's notBefore into everything that it signs.
    start = authority.certificate.not_valid_before_utc

    def issue(name: str, planned: Profile, default: Profile, kubeadms: Profile) -> Identity:
        if planned == default:
            return authority.issue(
                replace(kubeadms, common_name=kubeadms.common_name or member.name),
                name=name,
                hosts=hosts,
                not_before=start,
            )
        return authority.issue(
            replace(planned, common_name=planned.common_name or member.name), name=name, hosts=hosts
        )

    return MemberLeaves(
        server=issue("server", plan.server, SERVER, kubeadm.NODE),
        peer=issue("peer", plan.peer, PEER, kubeadm.NODE),
        client=issue("client", plan.client, CLIENT, kubeadm.APISERVER_ETCD_CLIENT),
        peer_client=issue("peer-client", plan.client, CLIENT, kubeadm.HEALTHCHECK_CLIENT),
    )
