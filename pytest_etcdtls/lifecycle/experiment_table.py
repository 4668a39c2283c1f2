"""All experiments and the clusters that they run on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.errors import RegistrationError
from pytest_etcdtls.facts.experiments import (
    Counts,
    Experiment,
    ExperimentAttempt,
    ForeignMember,
    RenewalUnderLoad,
    Step,
    SuiteOffer,
    SuiteOffers,
    is_of_experiment,
)
from pytest_etcdtls.facts.probe import SAMPLED_AT, Context, SampleListener, Wanted, probe, sample
from pytest_etcdtls.lifecycle import changes
from pytest_etcdtls.lifecycle.lab import ExperimentResults, outcome, setting, setting_of, settings_of
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, PKIPlan
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Response
from pytest_etcdtls.tls.hello import TLS1_2, HelloExchange, Reply, ServerHello
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

_NAMES: dict[type[Any], str] = {
    SuiteOffers: "cipher-suites",
    RenewalUnderLoad: "rotation-loses-no-request",
    ForeignMember: "member-with-foreign-certificate-cannot-join",
}
"""Experiments whose observation has its own type."""


def _results(experiment: str) -> list[Wanted]:
    return [(ExperimentResults, setting_of(experiment))]


@probe(Experiment, cost=0, needs=lambda planned: _results(str(planned.key)))
def _experiment(context: Context, key: str) -> Experiment:
    return outcome(context, Experiment, key)


@probe(SuiteOffers, cost=0, needs=_results(_NAMES[SuiteOffers]))
def _suite_offers(context: Context) -> SuiteOffers:
    return outcome(context, SuiteOffers, _NAMES[SuiteOffers])


@probe(RenewalUnderLoad, cost=0, needs=_results(_NAMES[RenewalUnderLoad]))
def _renewal_under_load(context: Context) -> RenewalUnderLoad:
    return outcome(context, RenewalUnderLoad, _NAMES[RenewalUnderLoad])


@probe(ForeignMember, cost=0, needs=_results(_NAMES[ForeignMember]))
def _foreign_member(context: Context) -> ForeignMember:
    return outcome(context, ForeignMember, _NAMES[ForeignMember])


def settings_for(needs: Iterable[tuple[type[Any], str | None]]) -> list[str]:
    """Return the names of the clusters that are started for these observations, longest first."""
    return settings_of(_NAMES.get(type_, str(key)) for type_, key in needs if is_of_experiment(type_))


_ATTEMPT: dict[str, Any] = {
    "url": "https://127.0.0.1:2379",
    "purpose": "sample",
    "identity": "client",
    "protocol": Protocol.HTTP1,
    "started_at": SAMPLED_AT,
    "phase": Phase.READ,
}
_SERVED: dict[str, Any] = _ATTEMPT | {"ending": Ending.SERVED, "chain": (b"the DER of the certificate",)}
_ENDINGS: Mapping[str, Attempt] = {
    "accepted": Attempt(**_SERVED, response=Response(status=200)),
    "HTTP 400": Attempt(**_SERVED, response=Response(status=400)),
    "gRPC status 0": Attempt(**_SERVED, response=Response(status=200, headers={"grpc-status": "0"})),
    "gRPC status 7": Attempt(**_SERVED, response=Response(status=200, headers={"grpc-status": "7"})),
    "refused": Attempt(**_ATTEMPT, ending=Ending.REFUSED, alert=42),
    "closed": Attempt(**_ATTEMPT, ending=Ending.CLOSED),
    "no handshake": Attempt(**_ATTEMPT | {"phase": Phase.HANDSHAKE}, ending=Ending.OTHER, alert=80),
    "unclear": Attempt(**_ATTEMPT, ending=Ending.UNCLEAR),
}


def sample_experiment(name: str, steps: Mapping[str, Mapping[str, str]]) -> Experiment:
    """Return an experiment in which the attempts of each step ended so, by client."""

    def sample_step(step: str, endings: Mapping[str, str]) -> Step:
        attempts = (
            ExperimentAttempt(
                who=who, role="client", attempt=_ENDINGS[ending], on_disk=b"the DER of the certificate"
            )
            for who, ending in endings.items()
        )
        return Step(name=step, done=f"{step} was done", attempts=tuple(attempts))

    return Experiment(
        name=name,
        etcd_version="3.6.16",
        flags=(),
        steps=tuple(sample_step(step, endings) for step, endings in steps.items()),
    )


_RELOADED = {"before": {"good client": "accepted"}, "replaced": {"good client": "accepted"}}
_SAMPLE_EXPERIMENTS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "leaf-reload": _RELOADED,
    "peer-leaf-reload": _RELOADED,
    "half-pair-refused": {
        "half": {"good client": "no handshake"},
        "whole": {"good client": "accepted"},
        "empty": {"good client": "no handshake"},
    },
    "crl-reload": {
        "empty": {"good client": "accepted", "named client": "accepted"},
        "listed": {"good client": "accepted", "named client": "closed"},
        "taken off": {"good client": "accepted", "named client": "accepted"},
    },
    "crl-encoding": {
        "pem": {"good client": "closed", "named client": "closed"},
        "unreadable": {"good client": "closed", "named client": "closed"},
        "der": {"good client": "accepted", "named client": "accepted"},
    },
    "ca-bundle": {
        "before": {"good client": "accepted", "client of another CA": "refused"},
        "added": {"good client": "accepted", "client of another CA": "refused"},
        "added, restarted": {"good client": "accepted", "client of another CA": "accepted"},
        "removed": {"good client": "accepted", "client of another CA": "accepted"},
        "removed, restarted": {"good client": "accepted", "client of another CA": "refused"},
    },
    "allowed-hostname": {
        "started": {
            "client with the hostname": "accepted",
            "client with another hostname": "refused",
            "client with the hostname as common name only": "refused",
        }
    },
    "peer-allowed-cn": {
        "started": {
            "peer with the common name": "accepted",
            "peer with another common name": "refused",
            "peer without a common name": "refused",
        }
    },
    "peer-allowed-hostname": {
        "started": {
            "peer with the hostname": "accepted",
            "peer with another hostname": "refused",
            "peer with the hostname as common name only": "refused",
        }
    },
    "peer-san": {
        "started": {
            "peer with our address": "accepted",
            "peer with our address among others": "accepted",
            "peer without a name": "accepted",
            "peer with another address": "closed",
        }
    },
    "version-floor": {
        "started": {
            "good client offering TLSv1.2 only": "no handshake",
            "good client offering TLSv1.3 only": "accepted",
        }
    },
    "version-ceiling": {
        "started": {
            "good client offering TLSv1.2 only": "accepted",
            "good client offering TLSv1.3 only": "no handshake",
        }
    },
    "users": {
        "over gRPC": {
            "certificate with the user's name, key that the user may read": "gRPC status 0",
            "certificate with the user's name, another key": "gRPC status 7",
            "certificate with the name of no user": "gRPC status 7",
            "certificate without a common name": "gRPC status 7",
        },
        "over the gateway": {
            "token of root": "accepted",
            "certificate with the user's name": "HTTP 400",
            "certificate without a common name": "HTTP 400",
        },
    },
    "separate-client-certificate": {
        "started": {"good client": "accepted", "good client by the gateway": "accepted"}
    },
}


def _sample_reply(code: int, *, accepted: bool) -> HelloExchange:
    return HelloExchange(
        url="https://127.0.0.1:2379",
        purpose="sample",
        offered="TLSv1.2",
        reply=Reply.SERVER_HELLO if accepted else Reply.ALERT,
        started_at=SAMPLED_AT,
        server_hello=ServerHello(version=TLS1_2, suite=code) if accepted else None,
        alert=None if accepted else 40,
    )


@sample(SuiteOffers)
def _sample_offers(_: SampleListener) -> SuiteOffers:
    offers = tuple(
        SuiteOffer(
            role=role,
            suite=suite_name(code),
            listed=code in changes.LISTED,
            exchange=_sample_reply(code, accepted=code in changes.LISTED),
        )
        for role in ("client", "peer")
        for code in changes.LISTED + changes.UNLISTED
    )
    return SuiteOffers(etcd_version="3.6.16", flags=(), offers=offers)


@sample(Experiment)
def _sample_of_experiment(_: SampleListener, key: str) -> Experiment:
    if key not in _SAMPLE_EXPERIMENTS:
        raise RegistrationError(
            f"the experiment {key!r} has no conforming sample: see _SAMPLE_EXPERIMENTS in {__name__}"
        )
    return sample_experiment(key, _SAMPLE_EXPERIMENTS[key])


@sample(RenewalUnderLoad)
def _sample_renewals(_: SampleListener) -> RenewalUnderLoad:
    return RenewalUnderLoad(
        etcd_version="3.6.16",
        renewals=5,
        seen=5,
        paused=False,
        counts={"new connections": Counts(served=50)},
    )


@sample(ForeignMember)
def _sample_foreign_member(_: SampleListener) -> ForeignMember:
    return ForeignMember(
        etcd_version="3.6.16", rejected="rejected connection", joined=False, joined_again=True
    )
