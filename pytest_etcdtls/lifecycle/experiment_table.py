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


_OLD, _NEW = b"the DER of one certificate", b"the DER of another"

_WAYS: Mapping[str, dict[str, Any]] = {
    "accepted": {"ending": Ending.SERVED, "phase": Phase.READ, "response": Response(status=200)},
    "refused": {"ending": Ending.REFUSED, "phase": Phase.READ, "alert": 42},
    "closed": {"ending": Ending.CLOSED, "phase": Phase.READ},
    "no handshake": {"ending": Ending.OTHER, "phase": Phase.HANDSHAKE, "alert": 80},
}


def sample_attempt(
    who: str,
    what: str,
    *,
    role: str = "client",
    leaf: bytes = _OLD,
    **changes: Any,  # noqa: ANN401 - fields of Attempt
) -> ExperimentAttempt:
    """Return an attempt that ended so."""
    facts = {"chain": (leaf,) if what == "accepted" else (), **_WAYS[what], **changes}
    return ExperimentAttempt(
        who=who,
        role=role,
        attempt=Attempt(
            url="https://127.0.0.1:2379",
            purpose="sample",
            identity="client",
            protocol=Protocol.HTTP1,
            started_at=SAMPLED_AT,
            **facts,
        ),
        on_disk=leaf,
    )


def sample_experiment(name: str, steps: Mapping[str, list[ExperimentAttempt]]) -> Experiment:
    """Return an experiment with these steps."""
    return Experiment(
        name=name,
        etcd_version="3.6.16",
        flags=(),
        steps=tuple(Step(name=step, done=f"{step} was done", trials=tuple(t)) for step, t in steps.items()),
    )


def _sample_of_reload() -> dict[str, list[ExperimentAttempt]]:
    good = "good client"
    return {
        "before": [sample_attempt(good, "accepted")],
        "replaced": [sample_attempt(good, "accepted", leaf=_NEW)],
    }


def _by_client(**clients: str) -> list[ExperimentAttempt]:
    return [sample_attempt(who.replace("_", " "), what) for who, what in clients.items()]


def _sample_of_names(
    *, good: tuple[str, ...], bad: tuple[str, ...], how: str = "refused"
) -> dict[str, list[ExperimentAttempt]]:
    return {
        "started": [
            *(sample_attempt(who, "accepted") for who in good),
            *(sample_attempt(who, how) for who in bad),
        ]
    }


_STRANGER = "client of another CA"
_VERSIONS = ("good client offering TLSv1.2 only", "good client offering TLSv1.3 only")


def _bundle_step(unauthenticated: str) -> list[ExperimentAttempt]:
    return [sample_attempt("good client", "accepted"), sample_attempt(_STRANGER, unauthenticated)]


def _sample_of_user(who: str, status: str) -> ExperimentAttempt:
    return sample_attempt(who, "accepted", response=Response(status=200, headers={"grpc-status": status}))


def _sample_of_gateway(who: str, status: int) -> ExperimentAttempt:
    return sample_attempt(who, "accepted", response=Response(status=status))


_SAMPLE_EXPERIMENTS: Mapping[str, Mapping[str, list[ExperimentAttempt]]] = {
    "leaf-reload": _sample_of_reload(),
    "peer-leaf-reload": _sample_of_reload(),
    "half-pair-refused": {
        "half": _by_client(good_client="no handshake"),
        "whole": _by_client(good_client="accepted"),
        "empty": _by_client(good_client="no handshake"),
    },
    "crl-reload": {
        "empty": _by_client(good_client="accepted", named_client="accepted"),
        "listed": _by_client(good_client="accepted", named_client="closed"),
        "taken off": _by_client(good_client="accepted", named_client="accepted"),
    },
    "crl-encoding": {
        "pem": _by_client(good_client="closed", named_client="closed"),
        "unreadable": _by_client(good_client="closed", named_client="closed"),
        "der": _by_client(good_client="accepted", named_client="accepted"),
    },
    "ca-bundle": {
        "before": _bundle_step("refused"),
        "added": _bundle_step("refused"),
        "added, restarted": _bundle_step("accepted"),
        "removed": _bundle_step("accepted"),
        "removed, restarted": _bundle_step("refused"),
    },
    "allowed-hostname": _sample_of_names(
        good=("client with the hostname",),
        bad=("client with another hostname", "client with the hostname as common name only"),
    ),
    "peer-allowed-cn": _sample_of_names(
        good=("peer with the common name",),
        bad=("peer with another common name", "peer without a common name"),
    ),
    "peer-allowed-hostname": _sample_of_names(
        good=("peer with the hostname",),
        bad=("peer with another hostname", "peer with the hostname as common name only"),
    ),
    "peer-san": _sample_of_names(
        good=("peer with our address", "peer with our address among others", "peer without a name"),
        bad=("peer with another address",),
        how="closed",
    ),
    "version-floor": _sample_of_names(good=_VERSIONS[1:], bad=_VERSIONS[:1], how="no handshake"),
    "version-ceiling": _sample_of_names(good=_VERSIONS[:1], bad=_VERSIONS[1:], how="no handshake"),
    "users": {
        "over gRPC": [
            _sample_of_user("certificate with the user's name, key that the user may read", "0"),
            _sample_of_user("certificate with the user's name, another key", "7"),
            _sample_of_user("certificate with the name of no user", "7"),
            _sample_of_user("certificate without a common name", "7"),
        ],
        "over the gateway": [
            _sample_of_gateway("token of root", 200),
            _sample_of_gateway("certificate with the user's name", 400),
            _sample_of_gateway("certificate without a common name", 400),
        ],
    },
    "separate-client-certificate": {
        "started": [
            sample_attempt("good client", "accepted"),
            sample_attempt("good client by the gateway", "accepted"),
        ]
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
        tallies={"new connections": Counts(served=50)},
    )


@sample(ForeignMember)
def _sample_foreign_member(_: SampleListener) -> ForeignMember:
    return ForeignMember(
        etcd_version="3.6.16", rejected="rejected connection", joined=False, joined_again=True
    )
