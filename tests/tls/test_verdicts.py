"""A check of TLS that cannot judge ends with the right outcome and reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.conforming import conforming
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.hello import Reply

Change = Callable[[dict[str, Any]], dict[str, Any]]


def _all(field: str, **changes: Any) -> Change:
    """Change the resumed attempt of every client in a resumption."""

    def change(seen: dict[str, Any]) -> dict[str, Any]:
        resumption = seen["resumption"]
        resumed = tuple(
            replace(made, again=replace(made.again, **changes)) for made in getattr(resumption, field)
        )
        return {"resumption": replace(resumption, **{field: resumed})}

    return change


def _fresh_refused(seen: dict[str, Any]) -> dict[str, Any]:
    good = tuple(
        replace(made, fresh=replace(made.fresh, ending=Ending.REFUSED)) for made in seen["resumption"].good
    )
    return {"resumption": replace(seen["resumption"], good=good)}


def _presented(**changes: Any) -> Change:
    def change(seen: dict[str, Any]) -> dict[str, Any]:
        presented = tuple((v, fresh, replace(a, **changes)) for v, fresh, a in seen["foreign"].presented)
        return {"foreign": replace(seen["foreign"], presented=presented)}

    return change


def _unusual(**changes: Any) -> Change:
    return lambda seen: {
        "variant": replace(seen["variant"], unusual=replace(seen["variant"].unusual, **changes))
    }


def _renegotiation(**changes: Any) -> Change:
    return lambda seen: {"renegotiation": replace(seen["renegotiation"], **changes)}


def _first_handshake_failed(seen: dict[str, Any]) -> dict[str, Any]:
    renegotiation = seen["renegotiation"]
    return {"renegotiation": replace(renegotiation, attempt=replace(renegotiation.attempt, version=None))}


def _other_alert(seen: dict[str, Any]) -> dict[str, Any]:
    choices = tuple(replace(choice, alert=80) for choice in seen["alpn"].choices)
    return {"alpn": replace(seen["alpn"], choices=choices)}


def _unclear(seen: dict[str, Any]) -> dict[str, Any]:
    tls12, tls13 = seen["contact"].tls
    return {"contact": replace(seen["contact"], tls=(tls12, replace(tls13, ending=Ending.UNCLEAR)))}


def _unconnected(seen: dict[str, Any]) -> dict[str, Any]:
    silence = seen["silence"]
    exchange = replace(silence.exchange, reply=Reply.ENDED, local_address="")
    return {"silence": replace(silence, exchange=exchange)}


@pytest.mark.parametrize(
    ("id_", "change", "outcome"),
    [
        ("mtls.resumption-keeps-verdict", _fresh_refused, Outcome.NOT_VERIFIED),
        ("mtls.resumption-keeps-verdict", _all("good", ending=Ending.UNCLEAR), Outcome.INCONCLUSIVE),
        ("mtls.resumption-keeps-verdict", _all("good", ending=Ending.CLOSED), Outcome.INCONCLUSIVE),
        ("mtls.resumption-keeps-verdict", _all("revoked", ending=Ending.UNCLEAR), Outcome.INCONCLUSIVE),
        ("mtls.ticket-not-transferable", _presented(ending=Ending.UNCLEAR), Outcome.INCONCLUSIVE),
        ("mtls.ticket-not-transferable", _presented(ending=Ending.SERVED), Outcome.NOT_APPLICABLE),
        (
            "tls.renegotiation",
            _renegotiation(attempt=None, not_requested="pass a client"),
            Outcome.NOT_VERIFIED,
        ),
        ("tls.renegotiation", _first_handshake_failed, Outcome.INCONCLUSIVE),
        ("tls.alpn-unknown-refused", _other_alert, Outcome.INCONCLUSIVE),
        ("tls.tls13-offered", _unclear, Outcome.INCONCLUSIVE),
        ("tls.stalled-handshake", _unconnected, Outcome.INCONCLUSIVE),
    ],
)
def test_no_judgement(id_: str, change: Change, outcome: Outcome) -> None:
    check = catalogue()[id_]
    seen = conforming(check, Role.CLIENT)
    said = list(check.function(**(seen | change(seen))))
    assert {statement.outcome for statement in said if isinstance(statement, CannotJudge)} == {outcome}
    assert not any(isinstance(statement, Finding) for statement in said)


@pytest.mark.parametrize(
    ("id_", "change", "note"),
    [
        (
            "tls.compression",
            _unusual(reply=Reply.ALERT, alert=47, server_hello=None),
            "a hello that offers compression is refused: alert 47 illegal_parameter",
        ),
        (
            "tls.early-data",
            lambda seen: {"tickets": replace(seen["tickets"], tickets=())},
            "the server issues no session ticket",
        ),
    ],
)
def test_a_remark(id_: str, change: Change, note: str) -> None:
    check = catalogue()[id_]
    seen = conforming(check, Role.CLIENT)
    assert list(check.function(**(seen | change(seen)))) == [Note(note)]
