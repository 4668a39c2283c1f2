"""What declarations say of trust and of names, as defaults for what no option says.

Reads files that are declared and are here; opens no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pytest_etcdtls.declared.effective import effective_of
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.declared.sides import Side, TLSSide, prefix
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.settings.credentials import leads_to
from pytest_etcdtls.settings.declared import ToldMember
from pytest_etcdtls.settings.declared_identities import client_identities, peer_identities
from pytest_etcdtls.settings.defaults import PortDefaults
from pytest_etcdtls.settings.found_files import FoundFiles, said
from pytest_etcdtls.target import Role, TrustBundle

_ROLES: Final[dict[Side, tuple[Role, ...]]] = {
    "client": (Role.CLIENT, Role.CLIENT_HTTP, Role.METRICS),
    "peer": (Role.PEER,),
}


def declared_defaults(members: Sequence[ToldMember], files: FoundFiles) -> tuple[PortDefaults, PortDefaults]:
    """Return what the declarations tell of client ports and of peer ports."""
    client, peer = (_trusted(members, side, files) for side in ("client", "peer"))
    return (
        PortDefaults(
            server_ca=_server_ca(members, "client", files) or _etcdctls_ca(members, files),
            client_trust=_agreed(client),
            identities=client_identities(members, client, files),
            served=_served(members, "client", files),
            allowed_hostname=_same(_side(one.told, "client").allowed_hostname for one in members),
        ),
        PortDefaults(
            server_ca=_server_ca(members, "peer", files),
            client_trust=_agreed(peer),
            identities=peer_identities(members, peer, files),
            served=_served(members, "peer", files),
            allowed_cn=_same(_side(one.told, "peer").allowed_cn for one in members),
            allowed_hostname=_same(_side(one.told, "peer").allowed_hostname for one in members),
        ),
    )


def roles_that_dial_with_another(members: Sequence[ToldMember]) -> frozenset[Role]:
    """Return the roles of the ports where a member dials with another certificate than it serves."""
    return frozenset(
        role
        for side, roles in _ROLES.items()
        for member in members
        if (tls := _side(member.told, side)).certificate is not None and tls.dials_with != tls.certificate
        for role in roles
    )


def kubernetes_ca(members: Sequence[ToldMember], files: FoundFiles) -> TrustBundle | None:
    """Return kubeadm's own CA, ``ca.crt`` in the directory above etcd's."""
    for member in members:
        found = member.told.file("trusted-ca-file")
        if found is not None and found.parent.name == "etcd":
            bundle = files.bundle(found.parent.parent / "ca.crt", "the CA of Kubernetes")
            if bundle is not None:
                return bundle
    return None


def _side(told: DeclaredMember, side: Side) -> TLSSide:
    """Return one side as the declaration's own version makes it, else as today's etcd does."""
    return effective_of(told).sides[side]


def _trusted(members: Sequence[ToldMember], side: Side, files: FoundFiles) -> tuple[TrustBundle, ...]:
    """Return the bundles that the members were told to trust on a side, as far as they are here."""
    found = (_bundle(one.told, side, files) for one in members)
    return tuple(bundle for bundle in found if bundle is not None)


def _bundle(told: DeclaredMember, side: Side, files: FoundFiles) -> TrustBundle | None:
    name = f"{prefix(side)}trusted-ca-file"
    if _side(told, side).trusted_ca is None:
        return None
    return files.bundle(told.file(name), said(told, name))


def _agreed(bundles: Sequence[TrustBundle]) -> TrustBundle | None:
    """Return the bundle if it is the same for every member: what is trusted is not known else."""
    different = {frozenset(bundle.certificates) for bundle in bundles}
    return bundles[0] if len(different) == 1 else None


def _server_ca(members: Sequence[ToldMember], side: Side, files: FoundFiles) -> TrustBundle | None:
    """Return the bundles that a member's own certificate leads to.

    What a member trusts need not be what has signed its own certificate.
    """
    bundles: dict[TrustBundle, None] = {}
    for member in members:
        bundle = _bundle(member.told, side, files)
        name = f"{prefix(side)}cert-file"
        chain = files.chain(member.told.file(name), said(member.told, name))
        if bundle and chain and leads_to(chain, bundle.certificates):
            bundles[bundle] = None
    certificates = dict.fromkeys(found for bundle in bundles for found in bundle.certificates)
    sources = dict.fromkeys(bundle.source for bundle in bundles)
    return TrustBundle(tuple(certificates), ", ".join(sources)) if bundles else None


def _etcdctls_ca(members: Sequence[ToldMember], files: FoundFiles) -> TrustBundle | None:
    for member in members:
        path = member.told.declaration.etcdctl.get("ETCDCTL_CACERT")
        found = member.told.where.find(path) if path else None
        if bundle := files.bundle(found, "ETCDCTL_CACERT"):
            return bundle
    return None


def _served(members: Sequence[ToldMember], side: Side, files: FoundFiles) -> tuple[Identity, ...]:
    pairs = (_pair(member, side, files) for member in members)
    return tuple(pair for pair in pairs if pair is not None)


def _pair(member: ToldMember, side: Side, files: FoundFiles) -> Identity | None:
    told, p = member.told, prefix(side)
    if _side(told, side).certificate is None:
        return None
    certificate, key = f"{p}cert-file", f"{p}key-file"
    name, words = f"{p}server-{member.label}", (said(told, certificate), said(told, key))
    return files.pair(told.file(certificate), told.file(key), name, words)


def _same(values: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return what all members have in common, nothing if they differ."""
    different = set(values)
    return different.pop() if len(different) == 1 else ()
