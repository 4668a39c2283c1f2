"""The bundle of trusted CAs and the revocation list are replaced while etcd runs."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pytest_etcdtls.checks.lifecycle_pairs import SERVED, with_trials
from pytest_etcdtls.expectation import KEPT_OUT, LET_IN, REFUSED, Expected, finding, judge_steps
from pytest_etcdtls.observations.attempt import Way
from pytest_etcdtls.observations.experiment import Experiment
from pytest_etcdtls.observations.release import Release
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import GOOD_CLIENT, curl
from pytest_etcdtls.results import Note, Outcome, Statement, Verdict

_GOOD, _STRANGER, _NAMED = "good client", "client of another CA", "named client"
_PEM_ENDS = Release(3, 6, 0, final=False)
"""The first release that reads a list in DER only."""

_TRY = curl("https://127.0.0.1:2379", role="client", files=("other.crt", "other.key"))


def _still_trusted(experiment: Experiment) -> Mapping[str, Any]:
    return {"experiment": with_trials(experiment, "removed, restarted", _STRANGER, **SERVED)}


@check("lifecycle.ca-bundle-read-at-start", on=set(), counterexample=_still_trusted)
def a_restarted_etcd_trusts_what_is_in_the_bundle(
    experiment: Annotated[Experiment, "ca-bundle"],
) -> Iterator[Statement]:
    """After a restart etcd trusts the CAs that are in the bundle on disk, all of them and no other.

    Both directions of a change of CA rest on it: a new one is trusted, an old one is trusted no longer.

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
            Expected("before", _GOOD, LET_IN, control=True),
            Expected("before", _STRANGER, REFUSED),
            Expected("added, restarted", _STRANGER, LET_IN),
            Expected("added, restarted", _GOOD, LET_IN),
            Expected("removed, restarted", _STRANGER, REFUSED),
            Expected("removed, restarted", _GOOD, LET_IN),
        ],
        ("cat other-ca.crt >> ca.crt  # or take it out again; then restart etcd", _TRY),
    )


def _trusted_at_once(experiment: Experiment) -> Mapping[str, Any]:
    return {"experiment": with_trials(experiment, "added", _STRANGER, **SERVED)}


@check("lifecycle.ca-bundle-needs-restart", on=set(), counterexample=_trusted_at_once)
def a_running_etcd_trusts_what_it_was_started_with(
    experiment: Annotated[Experiment, "ca-bundle"],
) -> Iterator[Statement]:
    """A CA that is added to the bundle, or taken out of it, changes nothing until a restart.

    etcd reads the bundle at its start only, unlike certificates and revocation lists. Whoever takes a CA out
    and does not restart goes on trusting it; an etcd that does otherwise needs other instructions.

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
            Expected("before", _GOOD, LET_IN, control=True),
            Expected("added, restarted", _STRANGER, LET_IN, control=True),
            Expected("added", _STRANGER, REFUSED),
            Expected("added", _GOOD, LET_IN),
            Expected("removed", _STRANGER, LET_IN),
            Expected("removed", _GOOD, LET_IN),
        ],
        ("cat other-ca.crt >> ca.crt  # do not restart etcd", _TRY),
    )


def _list_ignored(experiment: Experiment) -> Mapping[str, Any]:
    return {"experiment": with_trials(experiment, "listed", _NAMED, **SERVED)}


@check("lifecycle.crl-reload", on=set(), counterexample=_list_ignored)
def a_new_revocation_list_is_in_force_at_once(
    experiment: Annotated[Experiment, "crl-reload"],
) -> Iterator[Statement]:
    """A certificate is refused from the connection on after a list that names it was put on disk.

    Revoking is for keys that were stolen: it has to work now, not at the next restart.

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
            Expected("empty", _GOOD, LET_IN, control=True),
            Expected("empty", _NAMED, LET_IN, control=True),
            Expected("listed", _NAMED, KEPT_OUT),
            Expected("listed", _GOOD, LET_IN),
            Expected("taken off", _NAMED, LET_IN),
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
    """A list in PEM is read up to 3.5 and refuses everybody from 3.6 on; one that is no list admits nobody.

    From 3.6 on etcd reads DER only. A cluster that is upgraded with a list in PEM refuses every client that
    shows a certificate; the one thing worse would be to let them all in.

    Spec: etcd --client-crl-file, --peer-crl-file
    Spec: RFC 5280 section 5
    Severity: high
    Level: MUST
    Remediation: convert the file of --client-crl-file to DER (openssl crl -outform DER) before an upgrade to
        3.6; if somebody is let in with a list that cannot be read, do not rely on revocation with this etcd.
    """
    reproduce = (
        "openssl crl -inform DER -in crl.der -out crl.pem  # etcd runs with --client-crl-file=crl.pem",
        curl("https://127.0.0.1:2379", role="client", files=GOOD_CLIENT),
    )
    yield from judge_steps(
        experiment,
        [
            Expected("der", _GOOD, LET_IN, control=True),
            Expected("pem", _NAMED, KEPT_OUT),
            Expected("unreadable", _NAMED, KEPT_OUT),
            Expected("unreadable", _GOOD, KEPT_OUT),
        ],
        reproduce,
    )
    if all(trial.attempt.way in KEPT_OUT for trial in experiment.step("pem").of(_NAMED)):
        yield from _as_known(experiment, reproduce)


def _as_known(experiment: Experiment, reproduce: tuple[str, ...]) -> Iterator[Statement]:
    """Judge what a list in PEM does to good clients, by the version."""
    release = Release.parse(experiment.etcd_version)
    if release is None:
        yield Verdict(Outcome.NOT_VERIFIED, f"{experiment.etcd_version} is no version to expect anything of")
        return
    reads_pem = release < _PEM_ENDS
    expected = LET_IN if reads_pem else KEPT_OUT
    others = [trial for trial in experiment.step("pem").of(_GOOD) if trial.attempt.way not in expected]
    if any(trial.attempt.way is Way.UNCLEAR for trial in others):
        yield Verdict(Outcome.INCONCLUSIVE, "; ".join(trial.describe() for trial in others))
    elif others:
        yield finding(
            experiment,
            experiment.step("pem"),
            others,
            message="a list in PEM does not have the effect that this version is known for",
            expected="good clients let in, the list read" if reads_pem else "everybody refused",
            reproduce=reproduce,
        )
    else:
        yield Note("a list in PEM is read" if reads_pem else "a list in PEM refuses everybody: use DER")
