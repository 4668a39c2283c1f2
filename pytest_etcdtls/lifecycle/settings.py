"""The clusters on which experiments run.

Starting a cluster takes longer than most experiments. So those that need the same configuration share a
cluster, a *setting*, one after the other, and each restores what it changed. Settings are independent of each
other and run in parallel. An experiment is registered beside the checks that judge it, or in
:mod:`pytest_etcdtls.lifecycle.changes` where it needs more than a :class:`Lab`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.experiments import Experiment, Step
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, PKIPlan

if TYPE_CHECKING:
    from pytest_etcdtls.lifecycle.lab import Lab

    Measurement = Callable[[Lab], Any]
    """Runs one experiment and returns its fact. It restores the files at the end."""
    Procedure = Callable[[Lab], Iterator[Step]]
    """Yields the steps of an experiment, in order. It restores the files at the end."""


class LabCluster(Struct, frozen=True):
    """A cluster for experiments.

    Attributes:
        experiments: the names of those that run on it, in order.
        alone: the one that waits until nothing else is going on, since it measures under load.
    """

    name: str
    config: ClusterConfig
    experiments: tuple[str, ...]
    alone: str = ""


MEASUREMENTS: dict[str, Measurement] = {}
"""By name of the experiment."""


def measures(name: str) -> Callable[[Measurement], Measurement]:
    """Register an experiment that returns a fact of its own."""

    def register(measurement: Measurement) -> Measurement:
        MEASUREMENTS[name] = measurement
        return measurement

    return register


def runs(name: str) -> Callable[[Procedure], Procedure]:
    """Register an experiment of some steps."""

    def register(procedure: Procedure) -> Procedure:
        def experiment(lab: Lab) -> Experiment:
            steps = tuple(procedure(lab))
            return Experiment(name=name, etcd_version=lab.cluster.version, flags=lab.flags, steps=steps)

        measures(name)(experiment)
        return procedure

    return register


CRL_FILE = "empty-crl.der"
"""The file of the CRL in force. At first the CRL is empty."""

ADMITTED = "localhost"
"""The allowed hostname. The served certificate covers it too, since the gateway dials with it."""

LISTED = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""OpenSSL's names of suites, one of which etcd requires in order to start."""

_SETTINGS = (  # longest first
    LabCluster(
        "files",
        ClusterConfig(client_crl_file=CRL_FILE, peer_crl_file=CRL_FILE),
        (
            *("leaf-reload", "peer-leaf-reload", "half-pair-refused", "crl-reload", "crl-encoding"),
            # By then the other clusters have had the time that it would have had to wait for them.
            "rotation-loses-no-request",
        ),
        alone="rotation-loses-no-request",
    ),
    LabCluster("three-members", ClusterConfig(size=3), ("member-with-foreign-certificate-cannot-join",)),
    LabCluster("bundles", ClusterConfig(), ("ca-bundle",)),
    LabCluster(
        "names",
        ClusterConfig(
            pki=PKIPlan(client=replace(CLIENT, subject_alt_names=(ADMITTED,))),
            client_cert_allowed_hostname=ADMITTED,
            peer_cert_allowed_cn=PEER.common_name,
        ),
        ("allowed-hostname", "peer-allowed-cn", "peer-san"),
    ),
    LabCluster(
        "users-and-peer-hostname",
        # The cheapest password hash of etcd: the passwords are for tests only.
        ClusterConfig(peer_cert_allowed_hostname=ADMITTED, extra_flags=("--bcrypt-cost=4",)),
        ("peer-allowed-hostname", "users"),
    ),
    LabCluster("suites", ClusterConfig(cipher_suites=tuple(LISTED)), ("cipher-suites",)),
    LabCluster(
        "dialling",
        ClusterConfig(
            pki=PKIPlan(server=replace(SERVER, extended_key_usage=("serverAuth",))),
            client_cert_file="client.crt",
            client_key_file="client.key",
        ),
        ("separate-client-certificate",),
    ),
    LabCluster("ceiling", ClusterConfig(tls_max_version="TLS1.2"), ("version-ceiling",)),
    LabCluster("floor", ClusterConfig(tls_min_version="TLS1.3"), ("version-floor",)),
)
SETTINGS = {setting.name: setting for setting in _SETTINGS}


def setting_of(experiment: str) -> str | None:
    """Return the name of an experiment's setting; ``None`` if there is no such experiment."""
    return next((setting.name for setting in _SETTINGS if experiment in setting.experiments), None)
