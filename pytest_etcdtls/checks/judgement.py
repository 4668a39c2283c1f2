"""What checks share: judgements on identities that must be refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.checks.refusal_table import ControlState, Ruling, rule
from pytest_etcdtls.checks.registry import Counterexample
from pytest_etcdtls.checks.results import CannotJudge, Finding, Note, Outcome, Statement, inconclusive
from pytest_etcdtls.facts.access import Case
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.certificates import CertificateMessage, Issuers, ServedKey
from pytest_etcdtls.pki.authority import specimen
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, Profile
from pytest_etcdtls.tls.attempt import Ending, Phase, Response
from pytest_etcdtls.tls.command import Command, curl


def changed(path: str, **fields: Any) -> Counterexample:  # noqa: ANN401 - fields of any fact
    """Return a counterexample: what is at a path of a parameter has other fields, as :func:`altered` does."""
    name, _, rest = path.partition(".")
    return lambda **facts: {name: altered(facts[name], rest, **fields)}


def altered(value: Any, path: str, **fields: Any) -> Any:  # noqa: ANN401
    """Return a value with other fields of what is at a path; for counterexamples.

    A path has names of fields, a number for one of several, and ``*`` for each of them.
    """
    step, _, rest = path.partition(".")
    if not step:
        return (dataclasses.replace if dataclasses.is_dataclass(value) else replace)(value, **fields)
    if step == "*":
        return type(value)(altered(each, rest, **fields) for each in value)
    if step.isdecimal():
        before, after = value[: int(step)], value[int(step) + 1 :]
        return (*before, altered(value[int(step)], rest, **fields), *after)
    return replace(value, **{step: altered(getattr(value, step), rest, **fields)})


EVERY_ANSWER = "served.client.cases.*.tries.*"
EVERY_TRY = "candidates.*.cases.*.tries.*"
"""The paths of what the served client got, and of what each good client did."""


def serving(
    name: str,
    authority: Profile = AUTHORITY,
    /,
    **profile: Any,  # noqa: ANN401 - fields of Profile
) -> Counterexample:
    """Return a counterexample: the fact of this parameter has a certificate of this profile, or its CA's."""

    def counterexample(**facts: Any) -> Mapping[str, Any]:  # noqa: ANN401 - any facts
        leaf, issuer = specimen(dataclasses.replace(SERVER, **profile), authority=authority)
        certificates: dict[str, Any] = {"certificates": (leaf, issuer)}
        match facts[name]:
            case CertificateMessage():
                certificates = {"certificates": (leaf.public_bytes(Encoding.DER),), "issuers": (issuer,)}
            case Issuers():
                certificates = {"certificates": (issuer,)}
            case held if isinstance(held.certificates[0], Struct):  # HeldCertificates
                certificates = {"certificates": (replace(held.certificates[0], certificate=leaf),)}
        return {name: altered(facts[name], "", **certificates)}

    return counterexample


SERVED: Mapping[str, Any] = {
    "ending": Ending.SERVED,
    "phase": Phase.READ,
    "alert": None,
    "response": Response(status=200, body=b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0"}'),
}
"""The fields that change in an attempt that is accepted, for counterexamples."""


def judge(matrix: AccessMatrix, who: str) -> Iterator[Statement]:
    """Judge an identity that must be refused, ``who`` in words, by the refusal table, case by case."""
    served: list[Case] = []
    if by_another := matrix.cases.where(lambda case: case.is_by_another):
        yield inconclusive(
            "a server in front of etcd answers, so name the listener of etcd itself: "
            + observed_in(by_another)
        )
    for case in matrix.cases.where(lambda case: not case.is_by_another):
        ruling = ruling_of(case)
        place = f"{case.version} {case.protocol}"
        match ruling.outcome:
            case Outcome.VIOLATES:
                served.append(case)
            case Outcome.CONFORMS:
                if ruling.note:
                    yield Note(ruling.note)
            case _:
                reason = f"{place}: {case.attempt.describe()}"
                if case.control is not None:
                    reason += f"; control {case.control.identity}: {case.control.attempt.describe()}"
                yield CannotJudge(
                    ruling.outcome, ruling.note if ruling.outcome is Outcome.NOT_VERIFIED else reason
                )
    if served:
        yield _wrongly_accepted(matrix, served, who)


def ruling_of(case: Case) -> Ruling:
    """Return what the refusal table says about one case of a bad identity."""
    state = ControlState(case.control.attempt.ending) if case.control else ControlState.NONE_KNOWN
    return rule(case.attempt.ending, state, etcd_closes=case.closes)


def observed_in(cases: Iterable[Case]) -> str:
    """Return in words how the attempts of an identity ended, by TLS version and protocol."""
    alike: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        alike.setdefault((case.version, case.attempt.describe()), []).append(case.protocol)
    return "; ".join(f"{version} {', '.join(over)}: {ended}" for (version, ended), over in alike.items())


def commands_for(cases: Iterable[Case]) -> tuple[Command, ...]:
    """Return commands that present the identity of each case in its TLS version and protocol."""
    commands = (
        curl(case.attempt.url, client=case.identity, version=case.version, protocol=case.protocol)
        for case in cases
    )
    return tuple(dict.fromkeys(commands))


_NO_REQUEST = (
    "this port requests no certificate and accepts every client, see mtls.no-certificate: set "
    "--{peer}client-cert-auth=true together with --{peer}trusted-ca-file, and give --{peer}cert-file "
    "explicitly (auto-tls drops both)"
)


_UNTRUSTED_IDENTITIES = {
    "none": "a client without a certificate",
    "self-signed": "a self-signed certificate",
    "foreign-ca": "a certificate of a foreign CA",
}


def _wrongly_accepted(matrix: AccessMatrix, served: list[Case], who: str) -> Finding:
    if matrix.instead_of:
        untrusted = _UNTRUSTED_IDENTITIES.get(matrix.identity, matrix.identity)
        message = f"{who} is not refused: {untrusted} is accepted"
    else:
        message = f"{who} is accepted"
    requested = any(case.attempt.certificate_requested for case in served)
    return Finding(
        message=message,
        expected="a certificate alert in every TLS version and protocol",
        observed=observed_in(served),
        evidence={"identity": matrix.identity}
        | ({"certificate": matrix.certificate} if matrix.certificate else {}),
        reproduce=commands_for(served),
        remediation="" if requested or matrix.identity == "none" else _NO_REQUEST,
    )


def key_in_words(key: ServedKey) -> str:
    """Return the key of a listener's certificate, for a sentence about cipher suites."""
    return f"the key of this port, {key.text}" if key.text else "the type of the key of this port"
