"""A check of TLS that cannot judge ends with the right outcome and reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.conforming import conforming
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.hello import Reply

GOOD, REVOKED, PRESENTED = "resumption.good.*", "resumption.revoked.*", "foreign.presented.*.2"
"""Where the attempts are."""


def _put(value: Any, path: Sequence[str], new: object) -> Any:
    """Return a copy of a value, with something else at a path of fields, numbers and ``*`` for all."""
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(value, dict):
        return value | {head: _put(value[head], rest, new)}
    if isinstance(value, tuple):
        return tuple(
            _put(one, rest, new) if head in ("*", str(number)) else one for number, one in enumerate(value)
        )
    return replace(value, **{head: _put(getattr(value, head), rest, new)})


def _said(id_: str, changes: Mapping[str, object]) -> list[Statement]:
    """Return what a check says of a conforming etcd with these changes."""
    check = catalogue()[id_]
    seen: Any = conforming(check, Role.CLIENT)
    for path, new in changes.items():
        seen = _put(seen, path.split("."), new)
    return list(check.function(**seen))


@pytest.mark.parametrize(
    ("id_", "changes", "outcome"),
    [
        ("mtls.resumption-keeps-verdict", {f"{GOOD}.fresh.ending": Ending.REFUSED}, Outcome.NOT_VERIFIED),
        ("mtls.resumption-keeps-verdict", {f"{GOOD}.again.ending": Ending.UNCLEAR}, Outcome.INCONCLUSIVE),
        ("mtls.resumption-keeps-verdict", {f"{GOOD}.again.ending": Ending.CLOSED}, Outcome.INCONCLUSIVE),
        ("mtls.resumption-keeps-verdict", {f"{REVOKED}.again.ending": Ending.UNCLEAR}, Outcome.INCONCLUSIVE),
        ("mtls.ticket-not-transferable", {f"{PRESENTED}.ending": Ending.UNCLEAR}, Outcome.INCONCLUSIVE),
        ("mtls.ticket-not-transferable", {f"{PRESENTED}.ending": Ending.SERVED}, Outcome.NOT_APPLICABLE),
        (
            "tls.renegotiation",
            {"renegotiation.attempt": None, "renegotiation.not_requested": "pass a client"},
            Outcome.NOT_VERIFIED,
        ),
        ("tls.renegotiation", {"renegotiation.attempt.version": None}, Outcome.INCONCLUSIVE),
        ("tls.alpn-unknown-refused", {"alpn.choices.*.alert": 80}, Outcome.INCONCLUSIVE),
        ("tls.tls13-offered", {"contact.tls.1.ending": Ending.UNCLEAR}, Outcome.INCONCLUSIVE),
        (
            "tls.stalled-handshake",
            {"silence.exchange.reply": Reply.ENDED, "silence.exchange.local_address": ""},
            Outcome.INCONCLUSIVE,
        ),
    ],
)
def test_no_judgement(id_: str, changes: Mapping[str, object], outcome: Outcome) -> None:
    said = _said(id_, changes)
    assert {statement.outcome for statement in said if isinstance(statement, CannotJudge)} == {outcome}
    assert not any(isinstance(statement, Finding) for statement in said)


def test_a_remark() -> None:
    refused = {"reply": Reply.ALERT, "alert": 47, "server_hello": None}
    assert _said("tls.compression", {f"variant.unusual.{name}": new for name, new in refused.items()}) == [
        Note("a hello that offers compression is refused: alert 47 illegal_parameter")
    ]
    assert _said("tls.early-data", {"tickets.tickets": ()}) == [Note("the server issues no session ticket")]
