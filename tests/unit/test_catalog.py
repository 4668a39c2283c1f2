"""Selection by id, glob, family and source."""

from __future__ import annotations

import pytest

from pytest_etcdtls.checks.registry import catalogue, select
from pytest_etcdtls.errors import UsageError


def _ids(*patterns: str) -> list[str]:
    return [check.id for check in select(patterns)]


def test_an_id() -> None:
    assert _ids("mtls.no-certificate") == ["mtls.no-certificate"]


def test_globs_families_and_what_is_left_out() -> None:
    assert _ids() == sorted(_ids())
    assert {"mtls.announced-ca-present", "mtls.announced-ca-expected"} <= set(_ids("mtls.announced-*"))
    assert _ids("cert") == [id_ for id_ in catalogue() if id_.startswith("cert.")]
    assert set(_ids("!mtls")) == {id_ for id_ in _ids() if not id_.startswith("mtls.")}
    assert set(_ids("mtls", "!mtls.no-*")) == set(_ids("mtls")) - {"mtls.no-certificate"}


@pytest.mark.parametrize(("pattern", "source"), [("cis", "CIS Kubernetes"), ("rfc5280", "RFC 5280 ")])
def test_a_source(pattern: str, source: str) -> None:
    chosen = select([pattern])
    assert chosen
    assert all(any(line.startswith(source) for line in check.references) for check in chosen)


OPT_IN = "tls.stalled-handshake"


@pytest.mark.parametrize(
    ("patterns", "named"),
    [
        *((patterns, False) for patterns in ((), ("*",), ("tls",), ("!mtls",), ("rfc8446",))),
        *((patterns, True) for patterns in ((OPT_IN,), ("tls.stalled-*",), ("!mtls", OPT_IN))),
        (("tls.version-floor", OPT_IN, f"!{OPT_IN}"), False),
    ],
)
def test_an_opt_in_check_runs_if_it_is_named(patterns: tuple[str, ...], named: bool) -> None:
    assert _ids(*patterns)
    assert (OPT_IN in _ids(*patterns)) is named


def test_the_list_of_all_checks_has_the_opt_in_checks() -> None:
    assert OPT_IN in [check.id for check in select(opt_in=True)]
    assert OPT_IN not in [check.id for check in select(["mtls"], opt_in=True)]


@pytest.mark.parametrize("pattern", ["mtls.no-such-check", "!nothing", "rfc1"])
def test_a_pattern_that_matches_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(UsageError, match="matches no check"):
        select([pattern])
