"""Conforming samples of experiments: what every etcd did in them when its files or flags were changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pytest_etcdtls.facts.experiments import (
    Counts,
    Experiment,
    ExperimentAttempt,
    ForeignMember,
    RenewalUnderLoad,
    Step,
    SuiteOffer,
    SuiteOffers,
)
from pytest_etcdtls.lifecycle.rules import LISTED, UNLISTED
from pytest_etcdtls.role import Protocol
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Response
from pytest_etcdtls.tls.hello import TLS1_2, HelloExchange, Reply, ServerHello
from pytest_etcdtls.tls.suites import suite_name

_NOW = datetime.now(UTC)
_OLD, _NEW = b"the DER of one certificate", b"the DER of another"

_WAYS: Mapping[str, dict[str, Any]] = {
    "accepted": {"ending": Ending.SERVED, "phase": Phase.READ, "response": Response(status=200)},
    "refused": {"ending": Ending.REFUSED, "phase": Phase.READ, "alert": 42},
    "closed": {"ending": Ending.CLOSED, "phase": Phase.READ},
    "no handshake": {"ending": Ending.OTHER, "phase": Phase.HANDSHAKE, "alert": 80},
}


def trial(
    who: str, what: str, *, role: str = "client", leaf: bytes = _OLD, **changes: Any
) -> ExperimentAttempt:
    """Return a trial that ended as said."""
    facts = {"chain": (leaf,) if what == "accepted" else (), **_WAYS[what], **changes}
    return ExperimentAttempt(
        who=who,
        role=role,
        attempt=Attempt(
            url="https://127.0.0.1:2379",
            purpose="sample",
            identity="client",
            protocol=Protocol.HTTP1,
            started_at=_NOW,
            **facts,
        ),
        on_disk=leaf,
    )


def experiment(name: str, steps: Mapping[str, list[ExperimentAttempt]]) -> Experiment:
    """Return an experiment with these steps."""
    return Experiment(
        name=name,
        etcd_version="3.6.16",
        flags=(),
        steps=tuple(Step(name=step, done=f"{step} was done", trials=tuple(t)) for step, t in steps.items()),
    )


def _reload() -> dict[str, list[ExperimentAttempt]]:
    good = "good client"
    return {"before": [trial(good, "accepted")], "replaced": [trial(good, "accepted", leaf=_NEW)]}


def _by_client(**clients: str) -> list[ExperimentAttempt]:
    return [trial(who.replace("_", " "), what) for who, what in clients.items()]


def _names(
    *, good: tuple[str, ...], bad: tuple[str, ...], how: str = "refused"
) -> dict[str, list[ExperimentAttempt]]:
    return {"started": [*(trial(who, "accepted") for who in good), *(trial(who, how) for who in bad)]}


_STRANGER = "client of another CA"
_VERSIONS = ("good client offering TLSv1.2 only", "good client offering TLSv1.3 only")


def _bundle_step(stranger: str) -> list[ExperimentAttempt]:
    return [trial("good client", "accepted"), trial(_STRANGER, stranger)]


def _user(who: str, status: str) -> ExperimentAttempt:
    return trial(who, "accepted", response=Response(status=200, headers={"grpc-status": status}))


def _gateway(who: str, status: int) -> ExperimentAttempt:
    return trial(who, "accepted", response=Response(status=status))


EXPERIMENTS: Mapping[str, Mapping[str, list[ExperimentAttempt]]] = {
    "leaf-reload": _reload(),
    "peer-leaf-reload": _reload(),
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
    "allowed-hostname": _names(
        good=("client with the hostname",),
        bad=("client with another hostname", "client with the hostname as common name only"),
    ),
    "peer-allowed-cn": _names(
        good=("peer with the common name",),
        bad=("peer with another common name", "peer without a common name"),
    ),
    "peer-allowed-hostname": _names(
        good=("peer with the hostname",),
        bad=("peer with another hostname", "peer with the hostname as common name only"),
    ),
    "peer-san": _names(
        good=("peer with our address", "peer with our address among others", "peer without a name"),
        bad=("peer with another address",),
        how="closed",
    ),
    "version-floor": _names(good=_VERSIONS[1:], bad=_VERSIONS[:1], how="no handshake"),
    "version-ceiling": _names(good=_VERSIONS[:1], bad=_VERSIONS[1:], how="no handshake"),
    "users": {
        "over gRPC": [
            _user("certificate with the user's name, key that the user may read", "0"),
            _user("certificate with the user's name, another key", "7"),
            _user("certificate with the name of no user", "7"),
            _user("certificate without a common name", "7"),
        ],
        "over the gateway": [
            _gateway("token of root", 200),
            _gateway("certificate with the user's name", 400),
            _gateway("certificate without a common name", 400),
        ],
    },
    "separate-client-certificate": {
        "started": [trial("good client", "accepted"), trial("good client by the gateway", "accepted")]
    },
}


def _greeting(code: int, *, accepted: bool) -> HelloExchange:
    return HelloExchange(
        url="https://127.0.0.1:2379",
        purpose="sample",
        offered="TLSv1.2",
        reply=Reply.SERVER_HELLO if accepted else Reply.ALERT,
        started_at=_NOW,
        server_hello=ServerHello(version=TLS1_2, suite=code) if accepted else None,
        alert=None if accepted else 40,
    )


def _offers(place: object, key: str | None) -> SuiteOffers:
    offers = tuple(
        SuiteOffer(
            role=role,
            suite=suite_name(code),
            listed=code in LISTED,
            greeting=_greeting(code, accepted=code in LISTED),
        )
        for role in ("client", "peer")
        for code in LISTED + UNLISTED
    )
    return SuiteOffers(etcd_version="3.6.16", flags=(), offers=offers)


SAMPLES: Mapping[type[Any], Any] = {
    Experiment: lambda place, key: experiment(str(key), EXPERIMENTS[str(key)]),
    SuiteOffers: _offers,
    RenewalUnderLoad: lambda place, key: RenewalUnderLoad(
        etcd_version="3.6.16",
        renewals=5,
        seen=5,
        paused=False,
        tallies={"new connections": Counts(served=50)},
    ),
    ForeignMember: lambda place, key: ForeignMember(
        etcd_version="3.6.16", rejected="rejected connection", joined=False, joined_again=True
    ),
}
