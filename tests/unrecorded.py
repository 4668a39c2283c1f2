"""Conforming facts that no recording has, each with the reason.

- **Experiments** start clusters of their own and change files while these run. What they come to takes
  minutes to make, and a few words to write.
- **etcd's log** is about all connections of a run. A replay makes those of one check.
- **Several addresses of a host name** depend on the resolver of the machine.
- **A process** is compared with a file where it runs, and its restart is rehearsed there.
- **A second look at a member** is taken only where some of its listeners refuse connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pytest_etcdtls.checks.expectations import ACCEPTED, EXPECTED, NO_HANDSHAKE, REFUSED, REFUSED_OR_CLOSED
from pytest_etcdtls.facts.alternatives import OtherAddress, ServerAddresses
from pytest_etcdtls.facts.etcd_log import EtcdLogs, ReadLog
from pytest_etcdtls.facts.experiments import (
    Counts,
    Experiment,
    ExperimentAttempt,
    ForeignMember,
    RenewalUnderLoad,
    Step,
)
from pytest_etcdtls.facts.process_comparison import ProcessComparison, ProcessComparisons
from pytest_etcdtls.facts.rehearsal import Rehearsal, Rehearsals
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.rehearsal import COMPARED
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Response, StreamEnd

_NOW = datetime.now(UTC)


def add_unrecorded(observer: Observer) -> None:
    """Add these facts to the recording of a target."""
    add = observer.recording.add
    of_target: list[tuple[type[Any], str | None, Any]] = [(type(fact), None, fact) for fact in _OF_TARGET]
    experiments = dict(_as_expected()) | _EXPERIMENTS
    of_target += [(Experiment, name, experiment_of(name, steps)) for name, steps in experiments.items()]
    for listener in (None, *observer.target.listeners):  # who reads a fact of the target may name a listener
        label = listener.label if listener else None
        for type_, key, fact in of_target:
            add((label, type_, key), fact)
        if listener is not None:
            add((label, ServerAddresses, None), _addresses(listener))


_ATTEMPT: dict[str, Any] = {
    "url": "https://127.0.0.1:2379",
    "purpose": "conforming",
    "identity": "client",
    "protocol": Protocol.HTTP1,
    "started_at": _NOW,
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


def experiment_of(name: str, steps: Mapping[str, Mapping[str, str]]) -> Experiment:
    """Return an experiment with the endings of its attempts, by step and client."""

    def step_of(step: str, endings: Mapping[str, str]) -> Step:
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
        steps=tuple(step_of(step, endings) for step, endings in steps.items()),
    )


_EXPERIMENTS: dict[str, dict[str, dict[str, str]]] = {
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


_AS_EXPECTED = {
    ACCEPTED: "accepted",
    REFUSED: "refused",
    REFUSED_OR_CLOSED: "closed",
    NO_HANDSHAKE: "no handshake",
}


def _as_expected() -> Iterator[tuple[str, dict[str, dict[str, str]]]]:
    """Yield the experiments as their checks expect that they end."""
    for name, expectations in EXPECTED.items():
        steps: dict[str, dict[str, str]] = {}
        for expected in expectations:
            steps.setdefault(expected.step, {})[expected.who] = _AS_EXPECTED[expected.endings]
        yield name, steps


def _refused(here: Listener, version: TLSVersion, **changes: Any) -> Attempt:
    facts: dict[str, Any] = {"ending": Ending.REFUSED, "alert": 42, "stream_end": StreamEnd.ALERT}
    return Attempt(
        **_ATTEMPT
        | {"url": here.url, "identity": "none", "offered_version": version, "version": str(version)}
        | facts
        | changes
    )


def _addresses(here: Listener) -> ServerAddresses:
    gone = {"ending": Ending.UNCLEAR, "phase": Phase.CONNECT, "stream_end": StreamEnd.CONNECTION_REFUSED}
    other = OtherAddress(
        address="::1",
        url=f"https://[::1]:{here.port}",
        tls=tuple(_refused(here, version, alert=None, **gone) for version in TLSVersion),
    )
    return ServerAddresses(
        judged="127.0.0.1",
        usual=tuple(_refused(here, version) for version in TLSVersion),
        others=(other,),
    )


_RELEASE = "3.6.16"
_COUNTS = {"new connections": Counts(served=50)}
_OF_TARGET = (
    RenewalUnderLoad(etcd_version=_RELEASE, renewals=5, seen=5, paused=False, counts=_COUNTS),
    ForeignMember(etcd_version=_RELEASE, rejected="rejected connection", joined=False, joined_again=True),
    EtcdLogs(logs=(ReadLog(source="/var/log/etcd.log", members=("m0",)),)),
    Rehearsals(members=(Rehearsal(member="m0", source="process 1", compared=tuple(COMPARED)),)),
    ProcessComparisons((ProcessComparison(pid=1, source="etcd.yaml"),)),
)
