"""All experiments and the clusters that they run on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.facts.experiments import Experiment, ForeignMember, RenewalUnderLoad, SuiteOffers
from pytest_etcdtls.facts.probe import Context, probe
from pytest_etcdtls.lifecycle import rotation, rules
from pytest_etcdtls.lifecycle.lab import outcome, setting, setting_of
from pytest_etcdtls.pki.pki_plan import PKIPlan
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER
from pytest_etcdtls.role import Role
from pytest_etcdtls.tls.suites import suite_name

FILES = setting(
    "files",
    ClusterConfig(client_crl_file=rotation.CRL_FILE, peer_crl_file=rotation.CRL_FILE),
    {
        "rotation-loses-no-request": rotation.renewals,
        "leaf-reload": lambda bench: rotation.reload_pair(bench, Role.CLIENT),
        "peer-leaf-reload": lambda bench: rotation.reload_pair(bench, Role.PEER),
        "half-pair-refused": rotation.half_a_pair,
        "crl-reload": rotation.reload_crl,
        "crl-encoding": rotation.encoding,
        "ca-bundle": rotation.bundle,
    },
)

NAMES = setting(
    "names",
    ClusterConfig(
        pki=PKIPlan(client=replace(CLIENT, subject_alt_names=(rules.ADMITTED,))),
        client_cert_allowed_hostname=rules.ADMITTED,
        peer_cert_allowed_cn=PEER.common_name,
    ),
    {
        "allowed-hostname": rules.client_hostname,
        "peer-allowed-cn": rules.peer_cn,
        "peer-san": rules.peer_san,
    },
)

USERS_AND_PEER_HOSTNAME = setting(
    "users-and-peer-hostname",
    # The cheapest password hash of etcd: the passwords are for tests only.
    ClusterConfig(peer_cert_allowed_hostname=rules.ADMITTED, extra_flags=("--bcrypt-cost=4",)),
    {"peer-allowed-hostname": rules.peer_hostname, "users": rules.users},
)

FLOOR = setting(
    "floor",
    ClusterConfig(tls_min_version="TLS1.3"),
    {"version-floor": lambda bench: rules.versions(bench, "version-floor")},
)

CEILING = setting(
    "ceiling",
    ClusterConfig(tls_max_version="TLS1.2"),
    {"version-ceiling": lambda bench: rules.versions(bench, "version-ceiling")},
)

SUITES = setting(
    "suites",
    ClusterConfig(cipher_suites=tuple(suite_name(code) for code in rules.LISTED)),
    {"cipher-suites": rules.suites},
)

DIALLING = setting(
    "dialling",
    ClusterConfig(
        pki=PKIPlan(server=replace(SERVER, extended_key_usage=("serverAuth",))),
        client_cert_file="client.crt",
        client_key_file="client.key",
    ),
    {"separate-client-certificate": rotation.separate},
)

THREE_MEMBERS = setting(
    "three-members",
    ClusterConfig(size=3),
    {"member-with-foreign-certificate-cannot-join": rotation.comes_back},
)

_NAMES: dict[type[Any], str] = {
    SuiteOffers: "cipher-suites",
    RenewalUnderLoad: "rotation-loses-no-request",
    ForeignMember: "member-with-foreign-certificate-cannot-join",
}
"""Experiments whose observation has its own type."""


@probe(Experiment, cost=0)
def _experiment(context: Context, key: str | None) -> Experiment:
    return outcome(context, Experiment, str(key))


@probe(SuiteOffers, cost=0)
def _suite_offers(context: Context, key: str | None) -> SuiteOffers:
    return outcome(context, SuiteOffers, _NAMES[SuiteOffers])


@probe(RenewalUnderLoad, cost=0)
def _renewal_under_load(context: Context, key: str | None) -> RenewalUnderLoad:
    return outcome(context, RenewalUnderLoad, _NAMES[RenewalUnderLoad])


@probe(ForeignMember, cost=0)
def _foreign_member(context: Context, key: str | None) -> ForeignMember:
    return outcome(context, ForeignMember, _NAMES[ForeignMember])


def clusters_for(needs: Iterable[tuple[type[Any], str | None]]) -> int:
    """Return the number of clusters that are started for these observations, one after the other."""
    settings = {setting_of(_NAMES.get(type_, str(key))) for type_, key in needs if _is_of_experiment(type_)}
    return len(settings - {None})


def _is_of_experiment(type_: type[Any]) -> bool:
    return type_ is Experiment or type_ in _NAMES
