"""Declared TLS versions and cipher suites are in force."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.checks.config_in_force import not_in_force, undeclared
from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.standing import ListenerDeclaration
from pytest_etcdtls.observations.attempt import Attempt, Stage, TLSVersion, Way
from pytest_etcdtls.observations.cipher_suites import SUITES
from pytest_etcdtls.observations.listener import PROTOCOL_VERSION, Answer
from pytest_etcdtls.observations.protocol import SuiteSupport
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import s_client
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict

_VERSIONS = {"TLS1.2": TLSVersion.TLS1_2, "TLS1.3": TLSVersion.TLS1_3}
_CHACHA = "_CHACHA20_POLY1305"


def _floor_missed(declaration: ListenerDeclaration, answer: Answer) -> Mapping[str, Any]:
    tls = tuple(
        replace(attempt, way=Way.OTHER, stage=Stage.HANDSHAKE, alert=PROTOCOL_VERSION)
        for attempt in answer.tls
    )
    return {"answer": replace(answer, tls=tls)}


@check("config.version-range-in-force", on=EVERY_LISTENER, counterexample=_floor_missed)
def declared_versions_are_in_force(declaration: ListenerDeclaration, answer: Answer) -> Iterator[Statement]:
    """The TLS versions that are spoken are the declared ones; undeclared, TLS 1.2 is among them.

    --tls-min-version and --tls-max-version are for every TLS listener of the member. Without a ceiling Go
    decides whether TLS 1.3 is spoken, and etcd 3.5.0 to 3.5.7 do not speak it.

    Spec: etcd --tls-min-version, --tls-max-version
    Spec: RFC 8446 section 4.2.1
    Severity: high
    Level: MUST
    Remediation: give --tls-min-version and --tls-max-version where etcd reads them, and restart it.
    """
    if not answer.tls:
        yield Verdict(
            Outcome.NOT_APPLICABLE, f"{answer.url} is asked for plain HTTP: there is no TLS to judge"
        )
        return
    if declaration.listener is None:
        yield from undeclared(declaration)
        return
    for attempt in answer.tls:
        if attempt.asked is None:
            continue
        if attempt.way is Way.UNCLEAR:
            yield Verdict(Outcome.INCONCLUSIVE, f"{attempt.asked}: {attempt.describe()}")
        else:
            yield from _version(declaration, attempt, attempt.asked, spoken=attempt.asked in answer.offered)


def _version(
    declaration: ListenerDeclaration, attempt: Attempt, version: TLSVersion, *, spoken: bool
) -> Iterator[Statement]:
    minimum, maximum = (declaration.member.as_read(f"tls-{end}-version") for end in ("min", "max"))
    floor, ceiling = _of(minimum) or TLSVersion.TLS1_2, _of(maximum)
    if spoken and version < floor:
        yield _spoken_or_not(declaration, minimum, attempt, spoken=spoken)
    elif spoken and ceiling is not None and version > ceiling:
        yield _spoken_or_not(declaration, maximum, attempt, spoken=spoken)
    elif not spoken and floor <= version <= (ceiling or floor):
        # Without a ceiling Go decides what is spoken above the floor.
        bound = maximum if version is ceiling else minimum
        yield _spoken_or_not(declaration, bound, attempt, spoken=spoken)


def _of(setting: Setting | None) -> TLSVersion | None:
    return _VERSIONS.get(setting.value) if setting is not None else None


def _spoken_or_not(
    declaration: ListenerDeclaration, setting: Setting | None, attempt: Attempt, *, spoken: bool
) -> Finding:
    return not_in_force(
        declaration,
        setting,
        says="" if setting else f"{attempt.asked} is not spoken, and nothing in {{}} forbids it",
        expected=f"{attempt.asked} is {'refused' if spoken else 'spoken'}",
        observed=f"{attempt.asked}: {attempt.describe()}",
        reproduce=(s_client(attempt.url, attempt.asked),),
    )


def _one_more(declaration: ListenerDeclaration, support: SuiteSupport) -> Mapping[str, Any]:
    more = tuple(suite for suite in SUITES if suite.name == "TLS_RSA_WITH_AES_128_GCM_SHA256")
    return {"support": replace(support, accepted=(*support.accepted, *more))}


@check("config.suites-in-force", on=EVERY_LISTENER, counterexample=_one_more)
def declared_suites_are_in_force(
    declaration: ListenerDeclaration, support: SuiteSupport
) -> Iterator[Statement]:
    """Where cipher suites are declared, no other is accepted in TLS 1.2.

    TLS 1.3 has suites of its own, which --cipher-suites does not touch. A declared suite that is not accepted
    is no fault: those for another kind of key cannot be, and HTTP/2 forbids some.

    Spec: etcd --cipher-suites
    Spec: RFC 5246 section 7.4.1.3
    Severity: medium
    Level: MUST
    Remediation: give --cipher-suites where etcd reads it, and restart it.
    """
    if declaration.listener is None:
        yield from undeclared(declaration)
        return
    setting = declaration.member.as_read("cipher-suites")
    if setting is None or not setting.value:
        yield Verdict(Outcome.NOT_APPLICABLE, "no --cipher-suites are declared: Go decides")
        return
    listed = {_iana(name) for name in setting.value.split(",")}
    accepted = {suite.name: suite for suite in support.accepted}
    others = sorted(accepted.keys() - listed)
    if others:
        options = f"-cipher '{':'.join(accepted[name].openssl_name for name in others)}:@SECLEVEL=0'"
        yield not_in_force(
            declaration,
            setting,
            expected="no other suite of TLS 1.2 is accepted",
            observed=f"accepted as well: {', '.join(others)}",
            reproduce=(s_client(support.url, TLSVersion.TLS1_2, options),),
        )
    elif missing := sorted(listed & {suite.name for suite in SUITES} - accepted.keys()):
        yield Note(f"declared and not accepted here: {', '.join(missing)}")


def _iana(name: str) -> str:
    """Return the registered name of a suite: Go knows two by shorter ones, too."""
    return f"{name}_SHA256" if name.endswith(_CHACHA) else name
