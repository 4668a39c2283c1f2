"""What etcd does when its files change."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.facts.experiments import Counts, Experiment, ExperimentAttempt, RenewalUnderLoad
from pytest_etcdtls.facts.release import Release
from pytest_etcdtls.judgement import (
    ACCEPTED,
    GOOD_CLIENT,
    NO_HANDSHAKE,
    REFUSED,
    REFUSED_OR_CLOSED,
    Expected,
    curl,
    finding,
    judge_steps,
    look_for,
)
from pytest_etcdtls.registry import check
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.tls.attempt import Ending, Phase, Response

_GOOD = "good client"


def with_trials(experiment: Experiment, step: str, who: str, **changes: Any) -> Experiment:  # noqa: ANN401
    """Return the experiment with one identity's attempts in one step changed; for counterexamples."""

    def changed(trial: ExperimentAttempt) -> ExperimentAttempt:
        return replace(trial, attempt=replace(trial.attempt, **changes)) if trial.who == who else trial

    experiment.step(step).of(who)
    steps = tuple(
        replace(found, trials=tuple(map(changed, found.trials))) if found.name == step else found
        for found in experiment.steps
    )
    return replace(experiment, steps=steps)


SERVED: Mapping[str, Any] = {
    "ending": Ending.SERVED,
    "phase": Phase.READ,
    "alert": None,
    "response": Response(status=200),
}
"""The fields that change in an attempt that is accepted."""


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
    """Judge whether every good client is served with the certificate that is on disk."""
    yield from judge_steps(experiment, [Expected(step, _GOOD, ACCEPTED)], reproduce)
    stale = [
        trial
        for trial in experiment.step(step).of(_GOOD)
        if trial.attempt.ending is Ending.SERVED and trial.attempt.chain[:1] != (trial.on_disk,)
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
    """A renewed certificate is served on the client port without a restart.

    Short-lived certificates depend on it: an etcd that keeps the certificate from its start serves an expired
    one eventually, and every client loses its connection at once.

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
    yield from judge_steps(experiment, [Expected("before", _GOOD, ACCEPTED, control=True)])


@check("lifecycle.peer-leaf-reload", on=set(), counterexample=_stale("replaced"))
def a_new_peer_pair_is_served_without_a_restart(
    experiment: Annotated[Experiment, "peer-leaf-reload"],
) -> Iterator[Statement]:
    """A renewed certificate is served on the peer port without a restart.

    Members connect rarely, so a stale certificate is noticed only when a member returns, and then it cannot
    join.

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
    yield from judge_steps(experiment, [Expected("before", _GOOD, ACCEPTED, control=True)])


def _half_is_served(experiment: Experiment) -> Mapping[str, Any]:
    return {"experiment": with_trials(experiment, "half", _GOOD, **SERVED)}


@check("lifecycle.half-pair-refused", on=set(), counterexample=_half_is_served)
def half_a_pair_is_refused_until_it_is_whole(
    experiment: Annotated[Experiment, "half-pair-refused"],
) -> Iterator[Statement]:
    """Handshakes fail exactly while certificate and key on disk do not match.

    An etcd that serves during the mismatch does not read renewals; one that fails afterwards loses all its
    clients. Handshakes end with the alert internal_error (80) meanwhile. A renewal that changes the key has
    such a moment, however short. A renewal that keeps the key and renames the new certificate over the old
    one has none.

    Spec: etcd --cert-file, --key-file
    Spec: RFC 8446 section 6.2
    Severity: medium
    Level: MUST
    Remediation: if etcd serves during the mismatch, it does not read renewals at all: see
        lifecycle.leaf-reload. If it does not serve a matching pair again, restart etcd after a renewal of
        --cert-file and --key-file, and report it.
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
    tally = Counts(served=10, lost=1, examples=("new connection, http/1.1: unclear in connect: refused",))
    return {"load": replace(load, tallies={**load.tallies, "new connections": tally})}


@check("lifecycle.rotation-loses-no-request", on=set(), counterexample=_one_lost)
def a_renewal_loses_no_request(load: RenewalUnderLoad) -> Iterator[Statement]:
    """No request of a good client fails while the certificate is renewed.

    Otherwise every renewal interrupts clients. Both open and new connections are judged. The certificate is
    replaced by renaming and its key is kept, so that the files on disk match at any moment. A renewal that
    restarts etcd, as many do, loses the requests in progress.

    Spec: etcd tests, TestTLSReloadAtomicReplace
    Spec: etcd --cert-file, --key-file
    Severity: medium
    Level: MUST
    Remediation: do not restart etcd on a renewal of --cert-file, and replace files by renaming within one
        directory.
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
            examples = "; ".join(tally.examples)
            yield CannotJudge(
                Outcome.INCONCLUSIVE, f"{client}: {tally.unclear} without an answer in time: {examples}"
            )
    if load.seen < load.renewals:
        yield CannotJudge(
            Outcome.NOT_VERIFIED,
            f"{load.seen} of {load.renewals} renewals were served: see lifecycle.leaf-reload",
        )
    served = ", ".join(f"{tally.served} by {client}" for client, tally in load.tallies.items())
    yield Note(f"{load.renewals} renewals, requests served: {served}")
    if load.paused:
        yield Note("no client connected while files were replaced, which is not atomic in a container")


_GOOD_CLIENT, _OTHER_CA, _NAMED = "good client", "client of another CA", "named client"
_PEM_ENDS = Release(3, 6, 0, final=False)
"""The first release that reads a list in DER only."""

_TRY = curl("https://127.0.0.1:2379", role="client", files=("other.crt", "other.key"))


def _still_trusted(experiment: Experiment) -> Mapping[str, Any]:
    return {"experiment": with_trials(experiment, "removed, restarted", _OTHER_CA, **SERVED)}


@check("lifecycle.ca-bundle-read-at-start", on=set(), counterexample=_still_trusted)
def a_restarted_etcd_trusts_what_is_in_the_bundle(
    experiment: Annotated[Experiment, "ca-bundle"],
) -> Iterator[Statement]:
    """After a restart etcd trusts exactly the CAs in the bundle on disk.

    Otherwise a CA cannot be replaced: clients of a new CA are refused, or clients of a removed CA are still
    accepted.

    Spec: etcd --trusted-ca-file, --peer-trusted-ca-file
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: make sure that --trusted-ca-file and --peer-trusted-ca-file name the files that are replaced,
        and that etcd itself is restarted.
    """
    yield from judge_steps(
        experiment,
        [
            Expected("before", _GOOD_CLIENT, ACCEPTED, control=True),
            Expected("before", _OTHER_CA, REFUSED),
            Expected("added, restarted", _OTHER_CA, ACCEPTED),
            Expected("added, restarted", _GOOD_CLIENT, ACCEPTED),
            Expected("removed, restarted", _OTHER_CA, REFUSED),
            Expected("removed, restarted", _GOOD_CLIENT, ACCEPTED),
        ],
        ("cat other-ca.crt >> ca.crt  # or take it out again; then restart etcd", _TRY),
    )


def _trusted_at_once(experiment: Experiment) -> Mapping[str, Any]:
    return {"experiment": with_trials(experiment, "added", _OTHER_CA, **SERVED)}


@check("lifecycle.ca-bundle-needs-restart", on=set(), counterexample=_trusted_at_once)
def a_running_etcd_trusts_what_it_was_started_with(
    experiment: Annotated[Experiment, "ca-bundle"],
) -> Iterator[Statement]:
    """A change of the CA bundle has no effect until etcd is restarted.

    etcd reads the bundle only at start, unlike certificates and revocation lists. If a CA is removed and etcd
    is not restarted, the CA stays trusted. An etcd that behaves differently needs other instructions.

    Spec: etcd --trusted-ca-file, --peer-trusted-ca-file
    Spec: etcd issue 11555
    Severity: low
    Level: SHOULD
    Remediation: adapt the instructions for changing the CA in --trusted-ca-file: this etcd does not do what
        every release up to 3.7 does.
    """
    yield from judge_steps(
        experiment,
        [
            Expected("before", _GOOD_CLIENT, ACCEPTED, control=True),
            Expected("added, restarted", _OTHER_CA, ACCEPTED, control=True),
            Expected("added", _OTHER_CA, REFUSED),
            Expected("added", _GOOD_CLIENT, ACCEPTED),
            Expected("removed", _OTHER_CA, ACCEPTED),
            Expected("removed", _GOOD_CLIENT, ACCEPTED),
        ],
        ("cat other-ca.crt >> ca.crt  # do not restart etcd", _TRY),
    )


def _list_ignored(experiment: Experiment) -> Mapping[str, Any]:
    return {"experiment": with_trials(experiment, "listed", _NAMED, **SERVED)}


@check("lifecycle.crl-reload", on=set(), counterexample=_list_ignored)
def a_new_revocation_list_is_in_force_at_once(
    experiment: Annotated[Experiment, "crl-reload"],
) -> Iterator[Statement]:
    """A new revocation list applies to the next connection.

    A certificate is revoked because its key was stolen. If the list applies only after a restart, the thief
    has access until then.

    Spec: etcd tests, TestCtlV3GetRevokedCRL
    Spec: etcd --client-crl-file, --peer-crl-file
    Spec: RFC 5280 section 5
    Severity: high
    Level: MUST
    Remediation: restart etcd after every change of --client-crl-file and --peer-crl-file, and report it:
        every release reads them at each connection.
    """
    yield from judge_steps(
        experiment,
        [
            Expected("empty", _GOOD_CLIENT, ACCEPTED, control=True),
            Expected("empty", _NAMED, ACCEPTED, control=True),
            Expected("listed", _NAMED, REFUSED_OR_CLOSED),
            Expected("listed", _GOOD_CLIENT, ACCEPTED),
            Expected("taken off", _NAMED, ACCEPTED),
        ],
        (
            "openssl crl -in list.pem -outform DER -out crl.der  # etcd runs with --client-crl-file=crl.der",
            curl("https://127.0.0.1:2379", role="client", files=("revoked.crt", "revoked.key")),
        ),
    )


def _pem_ignored(experiment: Experiment) -> Mapping[str, Any]:
    return {"experiment": with_trials(experiment, "pem", _NAMED, **SERVED)}


@check("lifecycle.crl-encoding", on=set(), counterexample=_pem_ignored)
def a_list_that_cannot_be_read_admits_nobody(
    experiment: Annotated[Experiment, "crl-encoding"],
) -> Iterator[Statement]:
    """No client is accepted with a revocation list that this etcd cannot read.

    If clients are accepted with an unreadable list, revoked ones are among them. etcd up to 3.5 reads PEM and
    DER, 3.6 and newer read DER only: after an upgrade with a list in PEM, etcd refuses every client that
    presents a certificate.

    Spec: etcd --client-crl-file, --peer-crl-file
    Spec: RFC 5280 section 5
    Severity: high
    Level: MUST
    Remediation: convert the file of --client-crl-file to DER (openssl crl -outform DER) before an upgrade to
        3.6; if a client is accepted with a list that cannot be read, do not rely on revocation with this
        etcd.
    """
    reproduce = (
        "openssl crl -inform DER -in crl.der -out crl.pem  # etcd runs with --client-crl-file=crl.pem",
        curl("https://127.0.0.1:2379", role="client", files=GOOD_CLIENT),
    )
    yield from judge_steps(
        experiment,
        [
            Expected("der", _GOOD_CLIENT, ACCEPTED, control=True),
            Expected("pem", _NAMED, REFUSED_OR_CLOSED),
            Expected("unreadable", _NAMED, REFUSED_OR_CLOSED),
            Expected("unreadable", _GOOD_CLIENT, REFUSED_OR_CLOSED),
        ],
        reproduce,
    )
    if all(trial.attempt.ending in REFUSED_OR_CLOSED for trial in experiment.step("pem").of(_NAMED)):
        yield from _as_known(experiment, reproduce)


def _as_known(experiment: Experiment, reproduce: tuple[str, ...]) -> Iterator[Statement]:
    """Judge the effect of a list in PEM on good clients, by etcd's version."""
    release = Release.parse(experiment.etcd_version)
    if release is None:
        yield CannotJudge(
            Outcome.NOT_VERIFIED, f"{experiment.etcd_version} is a version without known behaviour"
        )
        return
    reads_pem = release < _PEM_ENDS
    expected = ACCEPTED if reads_pem else REFUSED_OR_CLOSED
    others = [
        trial for trial in experiment.step("pem").of(_GOOD_CLIENT) if trial.attempt.ending not in expected
    ]
    if any(trial.attempt.ending is Ending.UNCLEAR for trial in others):
        yield CannotJudge(Outcome.INCONCLUSIVE, "; ".join(trial.describe() for trial in others))
    elif others:
        yield finding(
            experiment,
            experiment.step("pem"),
            others,
            message="a list in PEM does not have the effect that is known for this version",
            expected="good clients accepted, the list read" if reads_pem else "every client refused",
            reproduce=reproduce,
        )
    else:
        yield Note(
            "a list in PEM is read" if reads_pem else "with a list in PEM every client is refused: use DER"
        )
