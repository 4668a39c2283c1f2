"""A served pair of certificate and key is replaced while etcd runs: what the next handshake gets."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.expectation import LET_IN, NO_HANDSHAKE, Expected, finding, judge_steps
from pytest_etcdtls.observations.attempt import Response, Stage, Way
from pytest_etcdtls.observations.experiment import Experiment, RenewalUnderLoad, Tally, Trial
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import look_for
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict

_GOOD = "good client"


def with_trials(experiment: Experiment, step: str, who: str, **changes: Any) -> Experiment:  # noqa: ANN401
    """Return the experiment with the attempts of one identity in one step changed; for counterexamples."""

    def changed(trial: Trial) -> Trial:
        return replace(trial, attempt=replace(trial.attempt, **changes)) if trial.who == who else trial

    experiment.step(step).of(who)
    steps = tuple(
        replace(found, trials=tuple(map(changed, found.trials))) if found.name == step else found
        for found in experiment.steps
    )
    return replace(experiment, steps=steps)


SERVED: Mapping[str, Any] = {
    "way": Way.SERVED,
    "stage": Stage.READ,
    "alert": None,
    "response": Response(status=200),
}
"""What changes in an attempt that is let in."""


def _paste(port: str, file: str) -> tuple[str, ...]:
    show = "openssl s_client -connect 127.0.0.1:%s </dev/null 2>/dev/null | openssl x509 -noout -fingerprint"
    return (
        show % port,
        f"cp new.crt {file}.crt; cp new.key {file}.key  # etcd runs with --cert-file and --key-file of these",
        show % port,
        look_for("openssl x509 -in new.crt -noout -fingerprint", "this fingerprint in the second handshake"),
    )


def _served_from_disk(
    experiment: Experiment, step: str, reproduce: tuple[str, ...] = ()
) -> Iterator[Statement]:
    """Judge that every good client is served, with the certificate that is on disk."""
    yield from judge_steps(experiment, [Expected(step, _GOOD, LET_IN)], reproduce)
    stale = [
        trial
        for trial in experiment.step(step).of(_GOOD)
        if trial.attempt.way is Way.SERVED and trial.attempt.chain[:1] != (trial.on_disk,)
    ]
    if stale:
        yield finding(
            experiment,
            experiment.step(step),
            stale,
            message=f"another certificate is served ({experiment.step(step).done})",
            expected="the certificate that is on disk",
            reproduce=reproduce,
        )


def _stale(step: str) -> Any:  # noqa: ANN401
    def counterexample(experiment: Experiment) -> Mapping[str, Any]:
        return {"experiment": with_trials(experiment, step, _GOOD, chain=(b"0",))}

    return counterexample


@check("lifecycle.leaf-reload", on=set(), counterexample=_stale("replaced"))
def a_new_pair_is_served_without_a_restart(
    experiment: Annotated[Experiment, "leaf-reload"],
) -> Iterator[Statement]:
    """The next handshake on the client port gets the pair that is on disk, without a restart.

    Short-lived certificates rest on it: an etcd that keeps the pair it was started with serves an expired
    certificate one day, and every client is gone at once.

    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Spec: etcd tests, TestTLSReloadAtomicReplace and TestTLSReloadCopy
    Spec: etcd --cert-file, --key-file
    Severity: high
    Level: MUST
    Remediation: restart this etcd, member by member, after every renewal of --cert-file and --key-file, and
        report it: etcd has read them at every handshake since 3.2.
    """
    reproduce = _paste("2379", "server")
    yield from _served_from_disk(experiment, "replaced", reproduce)
    yield from judge_steps(experiment, [Expected("before", _GOOD, LET_IN, control=True)])


@check("lifecycle.peer-leaf-reload", on=set(), counterexample=_stale("replaced"))
def a_new_peer_pair_is_served_without_a_restart(
    experiment: Annotated[Experiment, "peer-leaf-reload"],
) -> Iterator[Statement]:
    """The next handshake on the peer port gets the pair that is on disk, without a restart.

    Members connect rarely: a stale certificate is noticed when one comes back, and then it cannot.

    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Spec: etcd tests, TestTLSReloadAtomicReplace and TestTLSReloadCopy
    Spec: etcd --peer-cert-file, --peer-key-file
    Severity: high
    Level: MUST
    Remediation: restart this etcd, member by member, after every renewal of --peer-cert-file and
        --peer-key-file, and report it: etcd has read them at every handshake since 3.2.
    """
    reproduce = _paste("2380", "peer")
    yield from _served_from_disk(experiment, "replaced", reproduce)
    yield from judge_steps(experiment, [Expected("before", _GOOD, LET_IN, control=True)])


def _half_is_served(experiment: Experiment) -> Mapping[str, Any]:
    return {"experiment": with_trials(experiment, "half", _GOOD, **SERVED)}


@check("lifecycle.half-pair-refused", on=set(), counterexample=_half_is_served)
def half_a_pair_is_refused_until_it_is_whole(
    experiment: Annotated[Experiment, "half-pair-refused"],
) -> Iterator[Statement]:
    """While certificate and key on disk do not belong together nobody is served, and then everybody again.

    Handshakes end with the alert internal_error (80) meanwhile. A renewal that changes the key has such a
    moment, however short; one that keeps the key and renames the new certificate over the old one has none.

    Spec: etcd --cert-file, --key-file
    Spec: RFC 8446 section 6.2
    Severity: medium
    Level: MUST
    Remediation: if half a pair is served, renewals are not read at all: see lifecycle.leaf-reload. If a whole
        one is not served again, restart etcd after a renewal of --cert-file and --key-file, and report it.
    """
    expectations = [Expected("half", _GOOD, NO_HANDSHAKE), Expected("empty", _GOOD, NO_HANDSHAKE)]
    yield from judge_steps(
        experiment,
        expectations,
        (
            "cp new.crt server.crt  # its key is not there yet",
            look_for("openssl s_client -connect 127.0.0.1:2379 </dev/null", '"alert internal error"'),
        ),
    )
    yield from _served_from_disk(experiment, "whole")


def _one_lost(load: RenewalUnderLoad) -> Mapping[str, Any]:
    tally = Tally(served=10, lost=1, examples=("new connection, http/1.1: unclear in connect: refused",))
    return {"load": replace(load, tallies={**load.tallies, "new connections": tally})}


@check("lifecycle.rotation-loses-no-request", on=set(), counterexample=_one_lost)
def a_renewal_loses_no_request(load: RenewalUnderLoad) -> Iterator[Statement]:
    """While the certificate is renewed no request of a good client is lost, on open connections or new ones.

    The certificate is replaced by renaming, its key kept, so that what is on disk is a pair at any moment. A
    renewal that restarts etcd, as many do, loses what is under way.

    Spec: etcd tests, TestTLSReloadAtomicReplace
    Spec: etcd --cert-file, --key-file
    Severity: medium
    Level: MUST
    Remediation: let nothing restart etcd on a renewal of --cert-file, and replace files by renaming within
        one directory.
    """
    lost = {client: tally for client, tally in load.tallies.items() if tally.lost}
    if lost:
        yield Finding(
            message=f"requests are lost while the certificate is renewed {load.renewals} times",
            expected="every request served",
            observed="; ".join(
                f"{client}: {tally.lost} of {tally.lost + tally.served + tally.unclear} lost"
                for client, tally in lost.items()
            ),
            evidence={
                "etcd": load.etcd_version,
                **{client: "; ".join(tally.examples) for client, tally in lost.items()},
            },
            reproduce=(
                "while :; do curl -fsS -k --cert client.crt --key client.key https://127.0.0.1:2379/version"
                " || echo lost; done",
                look_for(
                    "cp renewed.crt server.crt.new; mv server.crt.new server.crt  # in another shell",
                    '"lost" in the first shell',
                ),
            ),
        )
    for client, tally in load.tallies.items():
        if tally.unclear:
            told = "; ".join(tally.examples)
            yield Verdict(
                Outcome.INCONCLUSIVE, f"{client}: {tally.unclear} without an answer in time: {told}"
            )
    if load.seen < load.renewals:
        yield Verdict(
            Outcome.NOT_VERIFIED,
            f"{load.seen} of {load.renewals} renewals were served: see lifecycle.leaf-reload",
        )
    served = ", ".join(f"{tally.served} by {client}" for client, tally in load.tallies.items())
    yield Note(f"{load.renewals} renewals, requests served: {served}")
    if load.paused:
        yield Note("nobody connected while files were replaced, which is not atomic in a container")
