"""A certificate revocation list that is replaced while etcd runs, in DER, in PEM, and by what is no list.

Sources: etcd's ``TestCtlV3GetRevokedCRL`` and ``TestNewListenerWithACRLFile``. etcd reads nothing but serial
numbers in it, so one list is in force on both ports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_etcdtls.experiments.bench import Bench, step
from pytest_etcdtls.observations.experiment import Experiment, Trial
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.target import Role

CRL_FILE = "empty-crl.der"
"""The list in force; at first it is what its name says."""


@dataclass(frozen=True, slots=True)
class _Clients:
    """Whom the list names, and who stays good, by the port that they come to."""

    named: dict[Role, Identity]
    good: dict[Role, Identity]


def _clients(bench: Bench) -> _Clients:
    pki, tree = bench.cluster.pki, bench.cluster.pki.authorities
    return _Clients(
        named={
            Role.CLIENT: pki.revoked,
            Role.PEER: tree.peer_issuer.issue(pki.plan.peer_client, name="revoked-peer"),
        },
        good={Role.CLIENT: pki.client, Role.PEER: pki.peer_client},
    )


def _list(bench: Bench, *named: Identity, encoding: Literal["der", "pem"] = "der") -> dict[str, bytes]:
    """Return a list that names these, and nobody else."""
    pki = bench.cluster.pki
    # A CA of the same name and key that has revoked nothing yet.
    issuer = CertificateAuthority.from_key(
        pki.authorities.client_issuer.certificate, pki.authorities.client_issuer.key
    )
    for identity in named:
        issuer.revoke(identity.chain[0])
    return {CRL_FILE: issuer.crl(encoding)}


def _tried(bench: Bench, clients: _Clients) -> list[Trial]:
    return [
        trial
        for who, identities in (("named client", clients.named), ("good client", clients.good))
        for role, identity in identities.items()
        for trial in bench.trials(who, role, identity)
    ]


def reload(bench: Bench) -> Experiment:
    """Put certificates on the list and take them off again."""
    clients = _clients(bench)
    empty = _tried(bench, clients)
    bench.member.replace_files(_list(bench, *clients.named.values()))
    listed = _tried(bench, clients)
    bench.member.replace_files(_list(bench))
    taken_off = _tried(bench, clients)
    return bench.experiment(
        "crl-reload",
        step("empty", "the list names nobody", empty),
        step("listed", "the list was replaced by one with the named client's certificate", listed),
        step("taken off", "the list was replaced by an empty one again", taken_off),
    )


def encoding(bench: Bench) -> Experiment:
    """Put a list in PEM in the place of one in DER, then something that is no list."""
    clients = _clients(bench)
    bench.member.replace_files(_list(bench, *clients.named.values(), encoding="pem"))
    pem = _tried(bench, clients)
    bench.member.replace_files({CRL_FILE: b"this is no list\n"})
    unreadable = _tried(bench, clients)
    bench.member.replace_files(_list(bench))
    der = _tried(bench, clients)
    return bench.experiment(
        "crl-encoding",
        step("pem", "the list with the named client's certificate is encoded as PEM", pem),
        step("unreadable", "the list's file holds something else", unreadable),
        step("der", "the list is an empty one in DER", der),
    )
