"""The checks that compare declared with observed name the setting and the reason why it is not in force."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from conforming import sample, sample_listener, served
from made import made_result
from msgspec.structs import replace

from declared.declaring import CA, GOOD, PAIR, URLS, flags, without, written
from pytest_etcdtls.checks.judgement import altered
from pytest_etcdtls.checks.mtls_refusals import as_if_accepted
from pytest_etcdtls.checks.registry import catalogue, causes_of
from pytest_etcdtls.checks.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.declared.declaration import declared_listeners
from pytest_etcdtls.declared.reading import declared_member
from pytest_etcdtls.declared.traps.trap import FoundTrap
from pytest_etcdtls.errors import InconclusiveError, NotVerifiedError
from pytest_etcdtls.facts.access import AcceptedClient, Access
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.configuration import (
    Declarations,
    DeclaredNames,
    ListenerDeclaration,
    MemberDeclaration,
)
from pytest_etcdtls.facts.declared_files import TrustedFiles
from pytest_etcdtls.facts.discovery import LoopbackAttempt, LoopbackElsewhere
from pytest_etcdtls.facts.fact import Each, Need
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.facts.protocol import SuiteSupport
from pytest_etcdtls.facts.refusal import SANRule
from pytest_etcdtls.facts.rehearsal import Rehearsal, Rehearsals
from pytest_etcdtls.role import CLUSTER, Role, TLSVersion
from pytest_etcdtls.run.conforming import conforming
from pytest_etcdtls.target import StartFailure
from pytest_etcdtls.tls.attempt import Ending, Phase

TWELVE, THIRTEEN = TLSVersion


def _judge(id_: str, **observations: Any) -> list[Statement]:
    check = catalogue()[id_]
    given = conforming(check)
    assert set(observations) <= set(given)
    return list(check.function(**(given | observations)))


def _declared(
    *arguments: str, version: str | None = "3.6.16", role: Role = Role.CLIENT
) -> ListenerDeclaration:
    member = MemberDeclaration.of("m0", declared_member(flags(*arguments)), version)
    listener = member.effective.at(role)[0]
    return ListenerDeclaration(here=sample_listener(role), member=member, listener=listener)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--listen-peer-urls=https://127.0.0.1:2380",), "--listen-peer-urls=https://127.0.0.1:2380 ("),
        ((), "http://localhost:2380, which is etcd's default: no answer"),
    ],
)
def test_a_loopback_listener_that_answers_at_another_address(arguments: tuple[str, ...], said: str) -> None:
    *_, declared = declared_listeners(flags(*arguments))
    elsewhere = LoopbackAttempt(declared=declared, address=("10.0.0.11", 2380), attempt=served())
    [found] = _judge("config.listeners-as-declared", elsewhere=LoopbackElsewhere(attempts=(elsewhere,)))
    assert isinstance(found, Finding)
    assert found.expected.startswith(said), found.expected
    assert "HTTP 200 '" in found.observed


def _message(statements: Iterable[Statement]) -> str:
    (finding,) = statements
    assert isinstance(finding, Finding)
    return finding.message


def _outcome(statements: Iterable[Statement]) -> Outcome:
    (verdict,) = statements
    assert isinstance(verdict, CannotJudge)
    return verdict.outcome


def _none() -> AccessMatrix:
    found: AccessMatrix = sample(Need(AccessMatrix, "none"), "client")
    return found


def _open() -> AccessMatrix:
    matrix: AccessMatrix = as_if_accepted(matrix=_none())["matrix"]
    return matrix


PER_LISTENER = sorted(
    check.id
    for check in catalogue().values()
    if any(need.type is ListenerDeclaration for need in check.needs.values())
    and check.id not in ("config.crl-missing",)
    and check.function.__module__.rpartition(".")[2].startswith("config_")
    and not check.function.__module__.rpartition(".")[2].startswith("config_files")
)


@pytest.mark.parametrize("id_", PER_LISTENER)
def test_an_undeclared_listener_has_no_findings(id_: str) -> None:
    check = catalogue()[id_]
    counterexample = check.counterexample(**conforming(check, sorted(check.roles)[-1]))
    with pytest.raises(NotVerifiedError, match=r"config\.listeners-as-declared"):
        _judge(id_, **{**counterexample, "declaration": replace(_declared(*GOOD), listener=None)})


# Client authentication


def test_a_finding_names_the_setting_its_line_and_its_trap() -> None:
    declaration = _declared(*without("cert-file", "key-file"), "--auto-tls")
    (finding,) = _judge("config.client-auth-in-force", declaration=declaration, matrix=_open())
    assert isinstance(finding, Finding)
    assert finding.message.startswith(
        "--client-cert-auth=true (the command line) is not in force: --auto-tls"
    )
    assert finding.evidence["trap"] == "config.auto-tls-drops-client-auth"
    assert finding.evidence["effective"].startswith("every client")
    assert finding.evidence["declared"] == "--client-cert-auth=true (the command line)"


@pytest.mark.parametrize("misspelt", ["client-cert-auht: true", "client-ca-file: /ca"])
def test_that_everybody_is_accepted_follows_from_a_misspelt_key(misspelt: str, tmp_path: Path) -> None:
    text = "listen-client-urls: https://127.0.0.1:2379\nadvertise-client-urls: https://127.0.0.1:2379\n"
    text += f"client-transport-security: {{cert-file: /c, key-file: /k, {misspelt}}}\n"
    member = MemberDeclaration.of("m0", declared_member(written(tmp_path, text)), "3.6.16")
    listener = member.effective.at(Role.CLIENT)[0]
    declaration = ListenerDeclaration(here=sample_listener(Role.CLIENT), member=member, listener=listener)
    (finding,) = _judge("config.client-auth-in-force", declaration=declaration, matrix=_open())
    assert isinstance(finding, Finding)
    assert finding.evidence["trap"] == "config.unknown-key"


_SERVED = "cert-file: /c, key-file: /k, client-cert-auth: true"


@pytest.mark.parametrize(
    ("text", "id_", "follows"),
    [
        (f"client-transport-security: {{{_SERVED}, trusted-ca-fil: /ca}}", "client-auth-without-ca", True),
        (f"client-transport-securty: {{{_SERVED}, trusted-ca-file: /ca}}", "does-not-start", True),
        (
            f"client-transport-security: {{{_SERVED}}}\npeer-transport-security: {{trusted-ca-fil: /ca}}",
            "client-auth-without-ca",
            False,
        ),
        (
            f"client-transport-security: {{{_SERVED}}}\nexperimental-initial-corrupt-check: true",
            "client-auth-without-ca",
            False,
        ),
    ],
)
@pytest.mark.parametrize("version", ["3.7.3", None])
def test_what_lacks_a_setting_follows_from_its_misspelt_key(
    text: str, id_: str, follows: bool, version: str | None, tmp_path: Path
) -> None:
    """A misspelt key of the other port, or of what is no TLS, explains nothing."""
    text += "\nlisten-client-urls: https://127.0.0.1:2379\nadvertise-client-urls: https://127.0.0.1:2379\n"
    member = MemberDeclaration.of("m0", declared_member(written(tmp_path, text)), version)
    results = {}
    for check in (f"config.{id_}", "config.unknown-key"):
        findings = tuple(
            each for each in _judge(check, declarations=Declarations((member,))) if isinstance(each, Finding)
        )
        results[check] = made_result(
            Outcome.VIOLATES if findings else Outcome.CONFORMS, check, listener=CLUSTER, findings=findings
        )
    listeners = [dataclasses.replace(sample_listener(role), member="m0") for role in (Role.CLIENT, Role.PEER)]
    assert results[f"config.{id_}"].findings
    causes = causes_of(results[f"config.{id_}"], listeners, lambda check, _: results.get(check))
    assert any(cause.check == "config.unknown-key" for cause in causes) is follows


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (GOOD, "etcd 3.6.16, started with this declaration, would behave differently: it was not restarted"),
        ((*GOOD, "--client-cert-ath"), "etcd 3.6.16 does not start with this declaration"),
        (without("client-cert-auth"), f"{CA} (the command line) is not in force"),
    ],
)
def test_a_finding_distinguishes_drift_from_the_declaration(arguments: tuple[str, ...], said: str) -> None:
    """A bundle declares client authentication from 3.4 on."""
    declaration = _declared(*arguments)
    assert said in _message(_judge("config.client-auth-in-force", declaration=declaration, matrix=_open()))


def test_a_bundle_declares_no_client_authentication_up_to_3_3() -> None:
    old = _declared(*without("client-cert-auth"), version="3.3.27")
    (note,) = _judge("config.client-auth-in-force", declaration=old, matrix=_open())
    assert isinstance(note, Note)


def test_undeclared_client_authentication_is_not_in_force() -> None:
    declaration = _declared(*URLS, *PAIR)
    assert _judge("config.client-auth-in-force", declaration=declaration, matrix=_open())[0] == Note(
        "every client is accepted, as declared"
    )
    judged = _message(_judge("config.client-auth-in-force", declaration=declaration))
    assert judged.startswith(
        "clients without a certificate are refused, and nothing in the command line requires one"
    )


def test_a_trap_that_is_not_in_force_is_noted() -> None:
    declaration = _declared(*without("cert-file", "key-file"), "--auto-tls")
    (note,) = _judge("config.client-auth-in-force", declaration=declaration)
    assert isinstance(note, Note)
    assert "started with other settings" in note.text


def test_an_unclear_attempt_is_inconclusive() -> None:
    unclear = altered(_none(), "cases.*.tries.*", ending=Ending.UNCLEAR)
    assert _outcome(_judge("config.client-auth-in-force", matrix=unclear)) is Outcome.INCONCLUSIVE


# Versions and suites


def _answer(*served_protocols: TLSVersion) -> FirstContact:
    contact: FirstContact = sample(Need(FirstContact), "client")
    tls = tuple(
        attempt
        if attempt.offered_version in served_protocols
        else replace(attempt, ending=Ending.OTHER, phase=Phase.HANDSHAKE, alert=70)
        for attempt in contact.tls
    )
    return replace(contact, tls=tls)


MIN, MAX = "--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"


@pytest.mark.parametrize(
    ("arguments", "served_protocols", "named"),
    [
        ((), (TWELVE, THIRTEEN), None),
        ((), (THIRTEEN,), "TLSv1.2 is not supported, and nothing in the command line excludes it"),
        ((MIN,), (THIRTEEN,), None),
        ((MIN,), (TWELVE, THIRTEEN), f"{MIN} (the command line) is not in force"),
        ((MAX,), (TWELVE, THIRTEEN), f"{MAX} (the command line) is not in force"),
        (("--tls-max-version=TLS1.3",), (TWELVE,), "--tls-max-version=TLS1.3 (the command line) is not"),
    ],
)
def test_versions(
    arguments: tuple[str, ...], served_protocols: tuple[TLSVersion, ...], named: str | None
) -> None:
    declaration = _declared(*GOOD, *arguments)
    judged = _judge(
        "config.version-range-in-force", declaration=declaration, answer=_answer(*served_protocols)
    )
    assert (_message(judged).startswith(named)) if named else judged == []


def test_an_unclear_tls_version_is_inconclusive() -> None:
    answer = _answer(TWELVE, THIRTEEN)
    answer = replace(answer, tls=tuple(replace(one, ending=Ending.UNCLEAR) for one in answer.tls[:1]))
    assert _outcome(_judge("config.version-range-in-force", answer=answer)) is Outcome.INCONCLUSIVE


def test_go_has_shorter_names_of_two_suites() -> None:
    support: SuiteSupport = sample(Need(SuiteSupport), "client")
    chacha = tuple(suite for suite in support.accepted if "CHACHA" in suite.name)
    declaration = _declared(
        *GOOD, "--cipher-suites=TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305,TLS_RSA_WITH_RC4_128_SHA"
    )
    (note,) = _judge(
        "config.suites-in-force", declaration=declaration, support=replace(support, accepted=chacha)
    )
    assert note == Note("declared and not accepted here: TLS_RSA_WITH_RC4_128_SHA")


# Names and listeners


def test_a_rule_is_not_judged_where_everybody_is_refused() -> None:
    names: DeclaredNames = sample(Need(DeclaredNames), "client")
    (rule,) = names.rules
    cases = Access(replace(case, control=replace(case, good=True)) for case in rule.matrix.cases)
    refused = replace(rule, matrix=replace(rule.matrix, cases=cases))
    judged = _judge("config.allowed-names-in-force", names=DeclaredNames((refused,)))
    assert {one.outcome for one in judged if isinstance(one, CannotJudge)} == {Outcome.NOT_VERIFIED}


LISTENERS = catalogue()["config.listeners-as-declared"]


def test_a_listener_that_does_not_answer_is_not_verified() -> None:
    contacts: Each[FirstContact] = Each.of(
        {listener: InconclusiveError("silence") for listener, _ in conforming(LISTENERS)["plaintexts"]}
    )
    judged = _judge(LISTENERS.id, contacts=contacts)
    assert {said.outcome for said in judged if isinstance(said, CannotJudge)} == {Outcome.NOT_VERIFIED}


def test_a_declared_listener_that_is_not_judged_is_not_verified() -> None:
    given = conforming(LISTENERS)
    first = given["declarations"].members[0]
    [metrics] = [one for one in given["target"].listeners if one.label == "metrics-m0"]
    others = dataclasses.replace(
        given["target"], listeners=tuple(one for one in given["target"].listeners if one != metrics)
    )
    [said] = _judge(LISTENERS.id, target=others, declarations=Declarations((first,)))
    text = f"{metrics.url} is not among the endpoints: pass --etcd-metrics-endpoint for it"
    assert isinstance(said, CannotJudge)
    assert (said.outcome, str(said.reason)) == (Outcome.NOT_VERIFIED, text)


# Traps


def _with_trap(**facts: Any) -> Declarations:
    trap = FoundTrap(id="does-not-start", summary="it does not", remedy="correct it", **facts)
    (first, *_) = sample(Need(Declarations), "client").members
    return Declarations((replace(first, traps=(trap,)),))


def test_an_uncertain_trap_is_not_verified() -> None:
    judged = _judge("config.does-not-start", declarations=_with_trap(certain=False))
    assert _outcome(judged) is Outcome.NOT_VERIFIED


def test_a_running_etcd_was_started_with_another_declaration() -> None:
    running = _with_trap(starts=False)
    assert "runs, so it was started with other settings" in _message(
        _judge("config.does-not-start", declarations=running)
    )
    unknown = Declarations((replace(running.members[0], version=None),))
    assert _message(_judge("config.does-not-start", declarations=unknown)) == "m0: it does not"


def _rehearsed(source: str, failure: StartFailure | None = None) -> Rehearsals:
    return Rehearsals(members=(Rehearsal(member="m0", source=source, failure=failure),))


@pytest.mark.parametrize("certain", [True, False])
def test_a_rehearsal_with_it_counts_more(certain: bool) -> None:
    """A start that was rehearsed is an observation; what the declaration means is a model."""
    predicted = _with_trap(starts=False, certain=certain)
    source = predicted.members[0].declared.declaration.source
    started = _rehearsed(source)
    failed = _rehearsed(source, StartFailure(member="m0", reason="it ends", log=()))
    judged = _judge("config.does-not-start", declarations=predicted, rehearsals=started)
    assert judged == [Note(f"m0: it does not; but a rehearsal with {source} has started")]
    for other in (None, failed, _rehearsed("another file")):
        [said] = _judge("config.does-not-start", declarations=predicted, rehearsals=other)
        assert isinstance(said, Finding if certain else CannotJudge)


@pytest.mark.parametrize("doubt", ["refused", "doubtful", "unjudged"])
def test_a_rehearsal_with_a_bundle_counts_more(doubt: str) -> None:
    (first, *_) = sample(Need(TrustedFiles), "client").files
    assert first.pool is not None
    pool = replace(first.pool, **{doubt: "block 2"})
    files = TrustedFiles((replace(first, pool=pool),))
    started = _rehearsed(first.source)
    failed = _rehearsed(first.source, StartFailure(member="m0", reason="it ends", log=()))
    [said] = _judge("config.trusted-ca-usable", files=files, rehearsals=started)
    assert isinstance(said, Note)
    assert said.text.endswith(f": block 2; but a rehearsal with {first.source} has started")
    for other in (None, failed, _rehearsed("another file")):
        [said] = _judge("config.trusted-ca-usable", files=files, rehearsals=other)
        assert isinstance(said, Finding if doubt == "refused" else CannotJudge)
    skipped = TrustedFiles((replace(first, pool=replace(pool, skipped=1)),))
    assert isinstance(_judge("config.trusted-ca-usable", files=skipped, rehearsals=started)[0], Finding)


def _good_client(ending: Ending, *, rule: SANRule = SANRule.ACCEPTS, role: str = "client") -> AcceptedClient:
    client: AcceptedClient = sample(Need(AcceptedClient), role)

    candidates = tuple(
        replace(altered(found, "cases.*.tries.*", ending=ending), san_rule=rule)
        for found in client.candidates
    )
    return replace(client, accepted=None, candidates=candidates)


@pytest.mark.parametrize(
    ("client", "outcome"),
    [
        (_good_client(Ending.CLOSED), Outcome.VIOLATES),
        (_good_client(Ending.CLOSED, rule=SANRule.MAY_CLOSE, role="peer"), Outcome.NOT_VERIFIED),
        (_good_client(Ending.REFUSED), Outcome.NOT_VERIFIED),
        (sample(Need(AcceptedClient), "client"), Outcome.NOT_VERIFIED),
    ],
)
def test_a_close_shows_that_etcd_does_not_find_the_crl(client: AcceptedClient, outcome: Outcome) -> None:
    declaration = _declared(*GOOD, "--client-crl-file=/nowhere/crl.der")
    (judged,) = _judge("config.crl-missing", declaration=declaration, client=client)
    found = Outcome.VIOLATES if isinstance(judged, Finding) else getattr(judged, "outcome", None)
    assert found is outcome


def test_a_crl_that_etcd_ignores_may_be_missing() -> None:
    split = "--listen-client-http-urls=https://10.0.0.11:2382"
    declaration = _declared(*GOOD, "--client-crl-file=/nowhere/crl.der", split, version="3.5.21")
    (judged,) = _judge("config.crl-missing", declaration=declaration, client=_good_client(Ending.CLOSED))
    assert isinstance(judged, Note)
