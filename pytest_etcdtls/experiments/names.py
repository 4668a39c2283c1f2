"""Clients by what their certificates name, where etcd was told whom to admit, and by their address.

Sources: etcd's ``TestEtcdPeerCNAuth``, ``TestEtcdPeerNameAuth``, ``TestNewListenerTLSInfo...``. Where a DNS
name would make etcd ask its resolver, the certificate has our address as well, which etcd looks at first.
"""

from __future__ import annotations

from pytest_etcdtls.experiments.bench import Bench, issue, step
from pytest_etcdtls.observations.experiment import Experiment
from pytest_etcdtls.pki.minted import WRONG_ADDRESS
from pytest_etcdtls.pki.profile import CLIENT, PEER, PEER_CLIENT
from pytest_etcdtls.target import Role

ADMITTED = "localhost"
"""The hostname to be admitted. The served certificate covers it too, since the gateway dials with that."""

_OTHER = "other.invalid"


def client_hostname(bench: Bench) -> Experiment:
    """Come to the client port with the hostname that is admitted, with another, with none."""
    issuer = bench.cluster.pki.authorities.client_issuer
    named = issue(issuer, CLIENT, "named", subject_alt_names=(ADMITTED,))
    other = issue(issuer, CLIENT, "other-name", subject_alt_names=(_OTHER,))
    nameless = issue(issuer, CLIENT, "no-name", common_name=ADMITTED)
    return bench.experiment(
        "allowed-hostname",
        step(
            "started",
            f"etcd was told to admit {ADMITTED}",
            bench.trials("client with the hostname", Role.CLIENT, named),
            bench.trials("client with another hostname", Role.CLIENT, other),
            bench.trials("client with the hostname as common name only", Role.CLIENT, nameless),
        ),
    )


def peer_cn(bench: Bench) -> Experiment:
    """Come to the peer port with the common name that is admitted, with another, with none."""
    issuer = bench.cluster.pki.authorities.peer_issuer
    return bench.experiment(
        "peer-allowed-cn",
        step(
            "started",
            f"etcd was told to admit {PEER.common_name}",
            bench.trials("peer with the common name", Role.PEER, issue(issuer, PEER_CLIENT, "named")),
            bench.trials(
                "peer with another common name",
                Role.PEER,
                issue(issuer, PEER_CLIENT, "other-cn", common_name="another-peer"),
            ),
            bench.trials(
                "peer without a common name",
                Role.PEER,
                issue(issuer, PEER_CLIENT, "no-cn", common_name=None, organization="etcd"),
            ),
        ),
    )


def peer_san(bench: Bench) -> Experiment:
    """Come to the peer port with certificates that name our address, others, or none."""
    issuer, us = bench.cluster.pki.authorities.peer_issuer, bench.seen_as(Role.PEER)
    named = {
        "peer with another address": (WRONG_ADDRESS,),
        "peer with our address": (us,),
        "peer with our address among others": (WRONG_ADDRESS, us),
        "peer without a name": (),
    }
    return bench.experiment(
        "peer-san",
        step(
            "started",
            f"we come from {us}",
            *(
                bench.trials(who, Role.PEER, issue(issuer, PEER_CLIENT, "peer", subject_alt_names=names))
                for who, names in named.items()
            ),
        ),
    )


def peer_hostname(bench: Bench) -> Experiment:
    """Come to the peer port with the hostname that is admitted, with another, with none."""
    issuer, us = bench.cluster.pki.authorities.peer_issuer, bench.seen_as(Role.PEER)
    named = issue(issuer, PEER_CLIENT, "named", subject_alt_names=(ADMITTED, us))
    other = issue(issuer, PEER_CLIENT, "other-name", subject_alt_names=(_OTHER, us))
    nameless = issue(issuer, PEER_CLIENT, "no-name", common_name=ADMITTED)
    return bench.experiment(
        "peer-allowed-hostname",
        step(
            "started",
            f"etcd was told to admit {ADMITTED}; we come from {us}",
            bench.trials("peer with the hostname", Role.PEER, named),
            bench.trials("peer with another hostname", Role.PEER, other),
            bench.trials("peer with the hostname as common name only", Role.PEER, nameless),
        ),
    )
