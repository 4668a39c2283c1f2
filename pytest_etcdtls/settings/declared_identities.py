"""Good identities that declarations lead to: kubeadm's clients, etcdctl's, and what etcd itself dials with.

Reads files; connects to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cryptography import x509

from pytest_etcdtls.declared.client_files import APISERVER, ETCDCTL, HEALTHCHECK, client_files
from pytest_etcdtls.declared.effective import effective_of
from pytest_etcdtls.declared.sides import Side, prefix
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.pki.reading import extension, is_for
from pytest_etcdtls.settings.credentials import leads_to
from pytest_etcdtls.settings.declared import ToldMember
from pytest_etcdtls.settings.found_files import FoundFiles, said
from pytest_etcdtls.target import TrustBundle, unique

Bundles = Sequence[TrustBundle]


def client_identities(
    members: Sequence[ToldMember], trusted: Bundles, files: FoundFiles
) -> tuple[Identity, ...]:
    """Return who may be a good client, in the order in which they are tried.

    Args:
        members: that are declared.
        trusted: the bundles that they were told to trust for clients, as far as they are here.
        files: loads them.
    """
    found = [
        *(_client(member, HEALTHCHECK, files) for member in _here_first(members)),
        *(_client(member, APISERVER, files) for member in _here_first(members)),
        *(_client(member, ETCDCTL, files) for member in _here_first(members)),
        *(_diallers(member, "client", trusted, files) for member in _here_first(members)),
    ]
    return _chosen(found, trusted)


def peer_identities(
    members: Sequence[ToldMember], trusted: Bundles, files: FoundFiles
) -> tuple[Identity, ...]:
    """Return who may be a good peer, in the order in which they are tried.

    kubeadm's client comes first: it has no subjectAltName, so that it is let in from any address.
    """
    found = [
        *(_client(member, HEALTHCHECK, files) for member in _here_first(members)),
        *(_diallers(member, "peer", (), files) for member in _here_first(members)),
    ]
    return _chosen(found, trusted)


def _here_first(members: Sequence[ToldMember]) -> list[ToldMember]:
    """Return the member that runs here first: its certificate has our address."""
    return sorted(members, key=lambda member: not member.here)


def _client(member: ToldMember, name: str, files: FoundFiles) -> Identity | None:
    found = next((one for one in client_files(member.told) if one.name == name), None)
    return None if found is None else files.pair(found.certificate, found.key, name, found.said)


def _diallers(member: ToldMember, side: Side, trusted: Bundles, files: FoundFiles) -> Identity | None:
    """Return what a member presents where it is a client itself.

    On client ports that is its gateway, with what it serves unless it was told otherwise; such a certificate
    is a client's only if it comes from the CA of clients.
    """
    told, p = member.told, prefix(side)
    tls = effective_of(told).sides[side]
    if tls.dials_with is None:
        return None
    own = f"{p}client-" if told.declaration.text(f"{p}client-cert-file") == tls.dials_with else p
    names = (f"{own}cert-file", f"{own}key-file")
    words = (said(told, names[0]), said(told, names[1]))
    pair = files.pair(told.file(names[0]), told.file(names[1]), f"{side}-{member.label}", words)
    if pair is not None and side == "client" and not (trusted and _leads(pair, trusted)):
        return None
    return pair


def _chosen(found: Sequence[Identity | None], trusted: Bundles) -> tuple[Identity, ...]:
    """Return those that may be clients, each once.

    Those that are valid now and come from the trusted CAs go without the others, which would rightly be
    refused; where there are none such, others are kept, for somebody's refusal tells more than nobody.
    """
    clients = [one for one in found if one is not None and is_for(one.chain[0], "clientAuth")]
    valid = [one for one in clients if _is_valid(one)]
    good = [one for one in valid if _leads(one, trusted)]
    return _distinct(good or valid or clients)


def _is_valid(identity: Identity) -> bool:
    leaf = identity.chain[0]
    return leaf.not_valid_before_utc <= datetime.now(UTC) <= leaf.not_valid_after_utc


def _leads(identity: Identity, trusted: Bundles) -> bool:
    """Return whether it comes from one of the bundles; ``True`` if none is known."""
    return not trusted or any(leads_to(identity.chain, bundle.certificates) for bundle in trusted)


def _distinct(identities: Sequence[Identity]) -> tuple[Identity, ...]:
    """Return one of each name and issuer, with a name of its own."""
    kinds: set[tuple[str, bytes, bytes]] = set()
    named: dict[str, Identity] = {}
    for identity in identities:
        leaf = identity.chain[0]
        issuer = extension(leaf, x509.AuthorityKeyIdentifier)
        identifier = issuer.key_identifier if issuer else None
        kind = (identity.name, leaf.issuer.public_bytes(), identifier or b"")
        if kind in kinds or leaf in [one.chain[0] for one in named.values()]:
            continue
        kinds.add(kind)
        name = unique(identity.name, named)
        named[name] = replace(identity, name=name)
    return tuple(named.values())
