"""etcd as its own client: a certificate for servers only is served, and the gateway dials with another one.

Source: etcd's ``TestTLSClusterOf3WithSpecificUsage``; the flag ``--client-cert-file`` is there for that.
"""

from __future__ import annotations

from pytest_etcdtls.experiments.bench import Bench, step
from pytest_etcdtls.observations.attempt import Protocol
from pytest_etcdtls.observations.experiment import Experiment
from pytest_etcdtls.target import Role


def separate(bench: Bench) -> Experiment:
    """Use the gateway of an etcd that dials with another certificate than it serves."""
    client = bench.cluster.pki.client
    return bench.experiment(
        "separate-client-certificate",
        step(
            "started",
            "etcd serves a certificate for servers only and was given another one to dial with",
            [
                bench.trial("good client", Role.CLIENT, client),
                bench.trial("good client by the gateway", Role.CLIENT, client, Protocol.GATEWAY),
            ],
        ),
    )
