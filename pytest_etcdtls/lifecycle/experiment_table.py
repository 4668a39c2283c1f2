"""All experiments and the clusters that they run on.

A fact of an experiment reads the results of the setting that has it. So the facts that the selected checks
read say which clusters are started.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.facts.experiments import (
    Experiment,
    ForeignMember,
    RenewalUnderLoad,
    SuiteOffers,
    is_of_experiment,
)
from pytest_etcdtls.facts.fact import Observation, Planned, fact, fact_of
from pytest_etcdtls.lifecycle import changes
from pytest_etcdtls.lifecycle.lab import ExperimentResults, in_order, setting, setting_of
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.suites import suite_name

FILES = setting(
    "files",
    ClusterConfig(client_crl_file=changes.CRL_FILE, peer_crl_file=changes.CRL_FILE),
    {
        "leaf-reload": lambda lab: changes.reload_pair(lab, Role.CLIENT),
        "peer-leaf-reload": lambda lab: changes.reload_pair(lab, Role.PEER),
        "half-pair-refused": changes.mismatched_pair,
        "crl-reload": changes.reload_crl,
        "crl-encoding": changes.crl_encoding,
        "rotation-loses-no-request": changes.renew_under_load,
    },
    # Last, when the other clusters have had the time that it would have had to wait for them.
    alone=["rotation-loses-no-request"],
)

THREE_MEMBERS = setting(
    "three-members",
    ClusterConfig(size=3),
    {"member-with-foreign-certificate-cannot-join": changes.foreign_member},
)

BUNDLES = setting("bundles", ClusterConfig(), {"ca-bundle": changes.ca_bundle})

NAMES = setting(
    "names",
    ClusterConfig(
        pki=PKIPlan(client=replace(CLIENT, subject_alt_names=(changes.ADMITTED,))),
        client_cert_allowed_hostname=changes.ADMITTED,
        peer_cert_allowed_cn=PEER.common_name,
    ),
    {
        "allowed-hostname": lambda lab: changes.allowed_hostname(lab, Role.CLIENT),
        "peer-allowed-cn": changes.peer_cn,
        "peer-san": changes.peer_san,
    },
)

USERS_AND_PEER_HOSTNAME = setting(
    "users-and-peer-hostname",
    # The cheapest password hash of etcd: the passwords are for tests only.
    ClusterConfig(peer_cert_allowed_hostname=changes.ADMITTED, extra_flags=("--bcrypt-cost=4",)),
    {"peer-allowed-hostname": lambda lab: changes.allowed_hostname(lab, Role.PEER), "users": changes.users},
)

SUITES = setting(
    "suites",
    ClusterConfig(cipher_suites=tuple(suite_name(code) for code in changes.LISTED)),
    {"cipher-suites": changes.suites},
)

DIALLING = setting(
    "dialling",
    ClusterConfig(
        pki=PKIPlan(server=replace(SERVER, extended_key_usage=("serverAuth",))),
        client_cert_file="client.crt",
        client_key_file="client.key",
    ),
    {"separate-client-certificate": changes.separate_client_certificate},
)

CEILING = setting(
    "ceiling",
    ClusterConfig(tls_max_version="TLS1.2"),
    {"version-ceiling": lambda lab: changes.versions(lab, "version-ceiling")},
)

FLOOR = setting(
    "floor",
    ClusterConfig(tls_min_version="TLS1.3"),
    {"version-floor": lambda lab: changes.versions(lab, "version-floor")},
)


def _setting(planned: Planned) -> tuple[str | None]:
    return (setting_of(str(planned.key)),)


@fact
def experiment(key: str, results: Annotated[ExperimentResults, _setting]) -> Experiment:
    """Return the steps of an experiment and the attempts in each."""
    return results.of(Experiment, key)


@fact
def suite_offers(results: Annotated[ExperimentResults, "suites"]) -> SuiteOffers:
    """Return which cipher suites a cluster with a list of them accepts."""
    return results.of(SuiteOffers, "cipher-suites")


@fact
def renewal_under_load(results: Annotated[ExperimentResults, "files"]) -> RenewalUnderLoad:
    """Return the requests that were made while certificates were renewed."""
    return results.of(RenewalUnderLoad, "rotation-loses-no-request")


@fact
def foreign_member(results: Annotated[ExperimentResults, "three-members"]) -> ForeignMember:
    """Return whether a member with a certificate of another CA could join."""
    return results.of(ForeignMember, "member-with-foreign-certificate-cannot-join")


def settings_for(target: Target, observations: Iterable[Observation]) -> list[str]:
    """Return the names of the clusters that are started for these observations, longest first."""
    return in_order(
        name
        for type_, key in observations
        if is_of_experiment(type_)
        for _, name in fact_of(type_).reads(Planned(target, None, key))
    )
