"""Answers that need no session: the catalogue, one check in full, the plan of connections.

Written to standard output; no connection is made.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence

import pytest

from pytest_etcdtls.catalog import catalogue, select
from pytest_etcdtls.conformance.plan import plan_lines
from pytest_etcdtls.errors import EtcdTLSError
from pytest_etcdtls.options.state import run_of
from pytest_etcdtls.options.values import Values
from pytest_etcdtls.registry import Check
from pytest_etcdtls.report.text import wrapped
from pytest_etcdtls.target import Role


def answer(config: pytest.Config) -> int:
    """Print what was asked for and return the exit code.

    Raises:
        pytest.UsageError: for an unknown id or pattern, or a setting that cannot be used.
    """
    values = Values(config)
    try:
        if values.flag("etcd_list_checks"):
            patterns = values.texts("etcd_check", commas=True)
            _print(_list(select(patterns, opt_in=True), len(select(patterns))))
        for identifier in values.texts("etcd_explain"):
            _print(explain(_find(identifier)))
        if values.flag("etcd_plan"):
            _print(plan_lines(run_of(config)))
    except EtcdTLSError as error:
        raise pytest.UsageError(str(error)) from error
    return int(pytest.ExitCode.OK)


def explain(check: Check) -> Iterator[str]:
    """Yield one check in full."""
    width = shutil.get_terminal_size().columns
    yield check.id
    yield from _lines(check.requirement, width, "  ")
    yield ""
    if check.explanation:
        for paragraph in check.explanation.split("\n\n"):
            yield from _lines(" ".join(paragraph.split()), width, "  ")
            yield ""
    yield f"  level:       {check.level_text}"
    yield f"  severity:    {check.severity}"
    yield f"  judges:      {_judges(check)}"
    if check.opt_in:
        yield f"  runs:        only when asked for, with --etcd-check={check.id}"
    for reference in check.references:
        yield from _lines(reference, width, "  reference:   ")
    role = Role.PEER if check.roles == {Role.PEER} else None
    yield from _lines(check.remedy(role), width, "  remediation: ")


def _find(identifier: str) -> Check:
    try:
        return catalogue()[identifier]
    except KeyError:
        raise pytest.UsageError(
            f"--etcd-explain {identifier!r}: there is no check of that id; --etcd-list-checks shows them all"
        ) from None


def _list(checks: Sequence[Check], selected: int) -> Iterator[str]:
    """Yield a line for each check, and how many a run has: those that must be asked for are counted apart."""
    width = max((len(check.id) for check in checks), default=0)
    for check in checks:
        note = f" ({check.level_text})" if check.level_text != check.level else ""
        note += " (only when asked for)" if check.opt_in else ""
        yield f"{check.id:<{width}}  {check.level:<6}  {check.severity:<8}  {check.requirement}{note}"
    yield f"{selected} checks"
    if more := len(checks) - selected:
        yield f"{more} more, only when asked for"


def _judges(check: Check) -> str:
    return ", ".join(role for role in Role if role in check.roles) or "the whole target"


def _lines(text: str, width: int, first: str) -> Iterator[str]:
    return (line.text for line in wrapped(text, width, first))


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
