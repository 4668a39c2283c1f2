"""Selection by id, glob, family and source."""

from __future__ import annotations

import pytest

from pytest_etcdtls.checks.registry import catalogue, select
from pytest_etcdtls.errors import UsageError


def _ids(*patterns: str) -> list[str]:
    return [check.id for check in select(patterns)]


def test_no_pattern_is_everything_in_order_of_id() -> None:
    assert _ids() == sorted(_ids())
    assert "mtls.no-certificate" in _ids()


def test_an_id() -> None:
    assert _ids("mtls.no-certificate") == ["mtls.no-certificate"]


def test_a_glob() -> None:
    assert {"mtls.announced-ca-present", "mtls.announced-ca-expected"} <= set(_ids("mtls.announced-*"))


def test_a_family() -> None:
    assert _ids("cert") == [id_ for id_ in catalogue() if id_.startswith("cert.")]


def test_a_source() -> None:
    chosen = select(["cis"])
    assert "mtls.no-certificate" in [check.id for check in chosen]
    assert all(any(line.startswith("CIS Kubernetes") for line in check.references) for check in chosen)


def test_an_rfc() -> None:
    chosen = select(["rfc5280"])
    assert chosen
    assert all(any(line.startswith("RFC 5280 ") for line in check.references) for check in chosen)


def test_leaving_out() -> None:
    assert set(_ids("!mtls")) == {id_ for id_ in _ids() if not id_.startswith("mtls.")}
    assert set(_ids("mtls", "!mtls.no-*")) == set(_ids("mtls")) - {"mtls.no-certificate"}


OPT_IN = "tls.stalled-handshake"


@pytest.mark.parametrize("patterns", [(), ("*",), ("tls",), ("tls.*",), ("!mtls",), ("rfc8446",)])
def test_an_opt_in_check_is_deselected_by_default(patterns: tuple[str, ...]) -> None:
    assert _ids(*patterns)
    assert OPT_IN not in _ids(*patterns)


@pytest.mark.parametrize(
    "patterns", [(OPT_IN,), ("tls.stalled-*",), ("*", OPT_IN), (OPT_IN, "!mtls"), ("mtls", "tls.stalled*")]
)
def test_an_opt_in_check_runs_if_it_is_named(patterns: tuple[str, ...]) -> None:
    assert OPT_IN in _ids(*patterns)


def test_an_opt_in_check_can_be_deselected() -> None:
    assert _ids(OPT_IN, "tls.version-floor", f"!{OPT_IN}") == ["tls.version-floor"]


def test_the_list_of_all_checks_has_the_opt_in_checks() -> None:
    assert OPT_IN in [check.id for check in select(opt_in=True)]
    assert OPT_IN not in [check.id for check in select(["mtls"], opt_in=True)]


@pytest.mark.parametrize("pattern", ["mtls.no-such-check", "!nothing", "rfc1", "mtsl"])
def test_a_pattern_that_matches_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(UsageError, match="matches no check"):
        select([pattern])
