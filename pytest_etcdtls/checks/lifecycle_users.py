"""Certificates as users once authentication is on, and etcd's own certificates as a client."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.checks.lifecycle_pairs import with_trials
from pytest_etcdtls.expectation import LET_IN, Expected, finding, judge_steps
from pytest_etcdtls.observations.attempt import Protocol, Response
from pytest_etcdtls.observations.experiment import Experiment, ForeignMember, Trial
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import GOOD_CLIENT, STATUS, curl, etcdctl, look_for
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict

_GRPC, _GATEWAY = "over gRPC", "over the gateway"
_MAY = "certificate with the user's name, key that the user may read"
_TOKEN = "token of root"  # noqa: S105 - says who comes
_CLIENT_PORT = "https://127.0.0.1:2379"


def _denied(experiment: Experiment) -> Mapping[str, Any]:
    response = Response(status=200, headers={"grpc-status": "7"})
    return {"experiment": with_trials(experiment, _GRPC, _MAY, response=response)}


@check("lifecycle.cn-is-user", on=set(), counterexample=_denied)
def the_common_name_is_the_user(experiment: Annotated[Experiment, "users"]) -> Iterator[Statement]:
    """With authentication on, a certificate's common name is the user over gRPC, with that user's rights.

    No password is needed then: whoever has a certificate with the name of a user is that user, and nobody
    else is anybody.

    Spec: etcd Documentation, role-based access control, TLS common name
    Spec: etcd tests, TestCtlV3AuthCertCN
    Severity: high
    Level: MUST
    Remediation: use passwords or tokens with this etcd, and check what --client-cert-auth does in it: without
        it no certificate is a user.
    """
    trials = experiment.step(_GRPC).trials
    yield from _unanswered(trials)
    for trial in trials:
        status = _grpc_status(trial)
        if status is not None and (status == "0") != (trial.who == _MAY):
            yield finding(
                experiment,
                experiment.step(_GRPC),
                [trial],
                message=f"{trial.who}: the key {'is read' if status == '0' else 'cannot be read'}",
                expected="the key is read" if trial.who == _MAY else "permission denied",
                reproduce=(
                    etcdctl(
                        _CLIENT_PORT,
                        ("reader.crt", "reader.key"),
                        "get granted",
                        'the key, or "permission denied"',
                    ),
                ),
            )


def _grpc_status(trial: Trial) -> str | None:
    response = trial.attempt.response
    return response.headers.get("grpc-status") if response is not None else None


def _unanswered(trials: tuple[Trial, ...]) -> Iterator[Statement]:
    for trial in trials:
        if trial.attempt.response is None:
            yield Verdict(Outcome.INCONCLUSIVE, trial.describe())


def _taken_for_a_user(experiment: Experiment) -> Mapping[str, Any]:
    who = "certificate without a common name"
    return {"experiment": with_trials(experiment, _GATEWAY, who, response=Response(status=200))}


@check("lifecycle.cn-ignored-by-gateway", on=set(), counterexample=_taken_for_a_user)
def the_gateway_takes_no_certificate_for_a_user(
    experiment: Annotated[Experiment, "users"],
) -> Iterator[Statement]:
    """With authentication on, the JSON gateway takes no certificate for a user, its own included.

    The gateway dials etcd with the server's certificate. Before 3.3.11 the name in that was taken for the
    user of everybody who came by the gateway.

    Spec: CVE-2018-16886
    Spec: etcd Documentation, role-based access control, TLS common name
    Spec: etcd tests, TestCurlV3AuthClientTLSCertAuth
    Severity: critical
    Level: MUST
    Remediation: switch the gateway off with --enable-grpc-gateway=false, and let no user have the name in the
        certificate of --cert-file.
    """
    trials = experiment.step(_GATEWAY).trials
    yield from _unanswered(trials)
    for trial in trials:
        response = trial.attempt.response
        if response is None:
            continue
        served = response.status == 200
        if trial.who == _TOKEN and not served:
            yield Verdict(Outcome.INCONCLUSIVE, f"the gateway serves nobody: {trial.describe()}")
        if trial.who != _TOKEN and served:
            yield finding(
                experiment,
                experiment.step(_GATEWAY),
                [trial],
                message=f"{trial.who}: the gateway reads a key",
                expected="refused without a token",
                reproduce=(
                    look_for(
                        'curl -sS -i -k --cert client.crt --key client.key -d \'{"key": "Z3JhbnRlZA=="}\''
                        " https://127.0.0.1:2379/v3/kv/range",
                        '"kvs": the key is read without a token, while authentication is on',
                    ),
                ),
            )


def _unavailable(experiment: Experiment) -> Mapping[str, Any]:
    who = "good client by the gateway"
    return {"experiment": with_trials(experiment, "started", who, response=Response(status=503))}


@check("lifecycle.separate-client-certificate", on=set(), counterexample=_unavailable)
def the_gateway_dials_with_the_certificate_that_it_was_given(
    experiment: Annotated[Experiment, "separate-client-certificate"],
) -> Iterator[Statement]:
    """With --client-cert-file the gateway works although the served certificate is for servers only.

    Without that flag etcd dials its own port with the served certificate, which then needs the usage
    clientAuth as well; many CAs do not issue that any more.

    Spec: etcd --client-cert-file, --client-key-file
    Spec: RFC 5280 section 4.2.1.12
    Severity: medium
    Level: MUST
    Remediation: issue the certificate of --cert-file with the usages serverAuth and clientAuth.
    """
    yield from judge_steps(experiment, [Expected("started", "good client", LET_IN, control=True)])
    step = experiment.step("started")
    trials = step.of("good client by the gateway")
    yield from _unanswered(trials)
    others = [trial for trial in trials if trial.attempt.response and trial.attempt.response.status != 200]
    if others:
        yield finding(
            experiment,
            step,
            others,
            message="the gateway does not work with a certificate of its own to dial with",
            expected="HTTP 200",
            reproduce=(
                curl(_CLIENT_PORT, role="client", files=GOOD_CLIENT, protocol=Protocol.GATEWAY, look=STATUS),
            ),
        )


def _joined(member: ForeignMember) -> Mapping[str, Any]:
    return {"member": replace(member, rejected="", joined=True)}


@check("lifecycle.member-with-foreign-certificate-cannot-join", on=set(), counterexample=_joined)
def a_member_with_a_foreign_certificate_does_not_join(member: ForeignMember) -> Iterator[Statement]:
    """A member whose peer certificate is of another CA does not take part, and does again with its own.

    A member has the whole key space and a vote.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: etcd --peer-client-cert-auth, --peer-trusted-ca-file
    Spec: CIS Kubernetes 2.5
    Severity: critical
    Level: MUST
    Remediation: set --peer-client-cert-auth=true together with --peer-trusted-ca-file, and give
        --peer-cert-file explicitly.
    """
    if member.joined:
        yield Finding(
            message="a member with a peer certificate of another CA takes part",
            expected="the other members refuse its connections",
            observed="it says that it serves clients, which takes a leader",
            evidence={"etcd": member.etcd_version},
            reproduce=(
                "cp foreign.crt peer.crt; cp foreign.key peer.key  # of one of three; restart that one",
            ),
        )
    elif not member.rejected:
        yield Verdict(Outcome.INCONCLUSIVE, "it did not join, and no other member says that it refused it")
    elif not member.joined_again:
        yield Verdict(Outcome.INCONCLUSIVE, "it does not join with its own certificate either")
