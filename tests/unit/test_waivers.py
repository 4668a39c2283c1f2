from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from made import made_result

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.profiles.waivers import Waiver, read_waivers, review, waive

TODAY = dt.date(2030, 6, 15)


def result(outcome: Outcome) -> CheckResult:
    return made_result(outcome, reason="as it was", findings=())


def waiver(check: str = "cert.trusted", listener: str = "*", expires: dt.date = TODAY) -> Waiver:
    return Waiver(
        check=check, listener=listener, reason="known", expires=expires, source="waivers.toml, waiver 1"
    )


def write(directory: Path, text: str) -> Path:
    path = directory / "waivers.toml"
    path.write_text(text, encoding="utf-8")
    return path


WHOLE = {"check": '"cert.trusted"', "reason": '"r"', "expires": "2030-06-15"}


def table(**values: str | None) -> str:
    lines = [f"{key} = {value}\n" for key, value in (WHOLE | values).items() if value is not None]
    return "[[waiver]]\n" + "".join(lines)


def test_a_file_of_waivers_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, table(listener='"peer-*"') + table(check='"tls.version-floor"'))
    first, second = read_waivers(path)
    assert first == Waiver(
        check="cert.trusted", listener="peer-*", reason="r", expires=TODAY, source=f"{path}, waiver 1"
    )
    assert (second.check, second.listener, second.expires) == ("tls.version-floor", "*", TODAY)
    assert read_waivers(write(tmp_path, "# none\n")) == ()
    with pytest.raises(UsageError, match=r"missing\.toml does not exist: check the path"):
        read_waivers(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[waiver]", "is not TOML"),
        ("[[waivers]]\n", r"unknown key 'waivers' \(known: waiver\)"),
        ('"x` - at `$.waiver[0].check.y" = 1\n', "unknown key"),
        (table(check=None), r"waiver\[0\]: the key 'check' is missing"),
        (table(reason='" "'), r"waiver\[0\]\.reason: a text that is not empty"),
        (table(expires='"2030-01-01"'), r"expires: a date such as 2030-01-31, without quotes"),
        (
            table() + table(check='"cert.trustd"'),
            r"waiver\[1\]\.check: .*did you mean 'cert.trusted'\?$",
        ),
        (table(check='"config.next-version"'), r"check: config.next-version was removed: start that version"),
        (table(listener="1"), r"waiver\[0\]\.listener: a text in quotation marks"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_message(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_waivers(write(tmp_path, text))


@pytest.mark.parametrize("outcome", Outcome)
def test_a_finding_is_waived_with_the_reason(outcome: Outcome) -> None:
    given = result(outcome)
    waived = waive(given, [waiver()], TODAY)
    if outcome in (Outcome.VIOLATES, Outcome.WARNS):
        assert waived.outcome is Outcome.WAIVED
        assert "known" in waived.reason
        assert outcome in waived.reason
    else:
        assert waived is given


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        (waiver(check="tls.floor"), False),
        (waiver(listener="peer-*"), False),
        (waiver(expires=TODAY - dt.timedelta(days=1)), False),
        (waiver(listener="client-*"), True),
        (waiver(listener="https://10.0.0.11:*"), True),
    ],
)
def test_a_waiver_counts_for_its_check_and_listener_until_it_expires(given: Waiver, counts: bool) -> None:
    assert (waive(result(Outcome.VIOLATES), [given], TODAY).outcome is Outcome.WAIVED) == counts


@pytest.mark.parametrize(
    ("given", "outcomes", "became"),
    [
        (waiver(), [Outcome.WAIVED], "used"),
        (waiver(), [Outcome.CONFORMS], "the check conforms now"),
        (waiver(), [Outcome.CONFORMS, Outcome.NOT_VERIFIED], "the check conforms now"),
        (waiver(expires=dt.date(2030, 6, 14)), [Outcome.VIOLATES], "it expired on 2030-06-14"),
        (waiver(), [], "unused"),
        (waiver(), [Outcome.NOT_VERIFIED], "unused"),
        (waiver(listener="peer-*"), [Outcome.CONFORMS], "unused"),
    ],
)
def test_a_waiver_is_used_stale_or_unused(given: Waiver, outcomes: list[Outcome], became: str) -> None:
    found = review([given], [result(outcome) for outcome in outcomes], TODAY)
    assert (len(found.used), len(found.unused)) == (became == "used", became == "unused")
    stale = [why for _, why in found.stale]
    assert stale == [] if became in ("used", "unused") else stale[0].startswith(became)
    assert all(why for _, why in found.unused)
