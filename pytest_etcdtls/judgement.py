"""Judging an identity that must be refused, by the refusal table, cell by cell.

Pure; shared by all checks about bad identities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_etcdtls.observations.admission import Admission, Cell
from pytest_etcdtls.refusal import CLOSED_BY_ETCD, ControlState, rule
from pytest_etcdtls.reproduce import curl
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict


def judge(admission: Admission, who: str) -> Iterator[Statement]:
    """Judge an identity that must be refused, by the refusal table, cell by cell.

    Args:
        admission: what was seen of it.
        who: the identity in words.
    """
    served: list[Cell] = []
    for cell in admission.cells:
        control = cell.control.attempt
        state = ControlState(control.way) if control else ControlState.NONE_KNOWN
        ruling = rule(cell.attempt.way, state, etcd_closes=admission.identity in CLOSED_BY_ETCD)
        place = f"{cell.version} {cell.protocol}"
        match ruling.outcome:
            case Outcome.VIOLATES:
                served.append(cell)
            case Outcome.CONFORMS:
                if ruling.note:
                    yield Note(ruling.note)
            case _:
                reason = f"{place}: {cell.attempt.describe()}"
                if control is not None:
                    reason += f"; control {cell.control.identity}: {control.describe()}"
                yield Verdict(
                    ruling.outcome, ruling.note if ruling.outcome is Outcome.NOT_VERIFIED else reason
                )
    if served:
        yield _admitted(admission, served, who)


def observed_in(cells: Iterable[Cell]) -> str:
    """Return what was seen of an identity, TLS version by TLS version and protocol by protocol."""
    return "; ".join(f"{cell.version} {cell.protocol}: {cell.attempt.describe()}" for cell in cells)


def reproduce_in(admission: Admission, cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return the lines that make such an identity, and that try it in these TLS versions and protocols."""
    lines = (
        curl(
            admission.url,
            role=admission.role,
            files=admission.files,
            version=cell.version,
            protocol=cell.protocol,
        )
        for cell in cells
    )
    return admission.recipe + tuple(dict.fromkeys(lines))


_NOBODY_ASKED = (
    "this port asks nobody for a certificate, and so takes every one, see mtls.no-certificate: set "
    "--{peer}client-cert-auth=true together with --{peer}trusted-ca-file, and give --{peer}cert-file "
    "explicitly (auto-tls drops both)"
)


_WITNESSES = {
    "none": "a client without a certificate",
    "self-signed": "a self-signed certificate",
    "foreign-ca": "a certificate of a foreign CA",
}


def _admitted(admission: Admission, served: list[Cell], who: str) -> Finding:
    if admission.instead_of:
        witness = _WITNESSES.get(admission.identity, admission.identity)
        message = f"{who} is not kept out: {witness} is let in"
    else:
        message = f"{who} is let in"
    asked = any(cell.attempt.certificate_requested for cell in served)
    return Finding(
        message=message,
        expected="a certificate alert in every TLS version and protocol",
        observed=observed_in(served),
        evidence={"identity": admission.identity}
        | ({"certificate": admission.certificate} if admission.certificate else {}),
        reproduce=reproduce_in(admission, served),
        remediation="" if asked else _NOBODY_ASKED,
    )
