"""Options that need no session: list the catalogue, explain a check, plan the connections."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence

import pytest

from pytest_etcdtls.checks.registry import Check, catalogue, no_check, select
from pytest_etcdtls.errors import EtcdTLSError
from pytest_etcdtls.options import Values, invocation_of
from pytest_etcdtls.profiles.profiles import NO_PROFILES, Profiles, read_profiles, threshold_text
from pytest_etcdtls.report.baseline import read_baseline
from pytest_etcdtls.report.text import wrapped
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.plan import plan_lines
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.suite.state import clusters_of, run_of
from pytest_etcdtls.untrusted.printable import plural


def answer(config: pytest.Config) -> int:
    """Print the requested output and return the exit code.

    Raises:
        pytest.UsageError: for an unknown id or pattern, or a setting that cannot be used.
    """
    values = Values(config)
    try:
        if values.flag("etcd_list_checks"):
            patterns = values.texts("etcd_check", commas=True)
            _print(_list(select(patterns, opt_in=True), select(patterns), _profiles(values)))
        for identifier in values.texts("etcd_explain"):
            _print(explain(_find(identifier), _profiles(values)))
        if values.flag("etcd_plan"):
            _print(_plans(config))
    except EtcdTLSError as error:
        raise pytest.UsageError(str(error)) from error
    return int(pytest.ExitCode.OK)


def _plans(config: pytest.Config) -> Iterator[str]:
    """Yield the plan of the run, of each cluster of a list."""
    invocation = invocation_of(config)
    if invocation.fleet is None:
        if baseline := run_of(config).settings.baseline:
            read_baseline(baseline)  # the run would refuse it
        yield from plan_lines(run_of(config))
        return
    clusters = clusters_of(config, invocation)
    last = f"part {clusters.shard} of {clusters.where} has no cluster"
    for cluster in clusters.clusters:
        *lines, last = plan_lines(Run(clusters.settings(cluster), discovers=False))
        yield from lines
    yield last


def _profiles(values: Values) -> Profiles:
    names = values.texts("etcd_profile", commas=True)
    return read_profiles(names, lambda name: values.resolve("etcd_profile", name))


def explain(check: Check, profiles: Profiles = NO_PROFILES) -> Iterator[str]:
    """Yield the full description of one check."""
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
    roles = ", ".join(role for role in Role if role in check.roles)
    yield f"  judges:      {roles or 'the whole target'}"
    if check.opt_in:
        yield f"  runs:        only when asked for, with --etcd-check={check.id}"
    if difference := _difference(check, profiles):
        yield from _lines(difference, width, "  profile:     ")
    sides = [*dict.fromkeys(role.prefix for role in check.roles)] or [""]
    roles_shown = [Role.PEER if prefix else Role.CLIENT for prefix in sorted(sides)]
    # With the flags of each side, as a run on it has them.
    for reference in dict.fromkeys(source for role in roles_shown for source in check.sources(role)):
        yield from _lines(reference, width, "  reference:   ")
    for text in dict.fromkeys(check.remedy(role) for role in roles_shown):
        yield from _lines(text, width, "  remedy:      ")


def _find(identifier: str) -> Check:
    try:
        return catalogue()[identifier]
    except KeyError:
        raise pytest.UsageError(f"--etcd-explain: {no_check(identifier)}") from None


def _difference(check: Check, profiles: Profiles) -> str:
    """Return what the profiles change of a check; empty if nothing."""
    roles: list[Role | None] = [*sorted(check.roles)] or [None]
    changed: dict[Role | None, str] = {}
    for role in roles:
        level, own = profiles.level(check, role), str(check.level_on(role))
        if level is not None and level != own:
            changed[role] = f"{level} instead of {own}"
    parts = [f"{text} on {role}" for role, text in changed.items()]
    if len(set(changed.values())) == 1 and len(changed) == len(roles):
        parts = [*set(changed.values())]
    thresholds = profiles.thresholds.get(check.id)
    for name, value in (thresholds.given() if thresholds else {}).items():
        parts.append(f"{name}: {threshold_text(value)}")
    if not parts:
        return ""
    sections = [reference.removeprefix("profile ") for reference in profiles.references(check.id)]
    return f"{'; '.join(parts)} ({'; '.join(sections)})"


def _list(checks: Sequence[Check], selected: Sequence[Check], profiles: Profiles) -> Iterator[str]:
    """Yield a line for each check, with what a profile changes in a second one, and the number of checks."""
    width = max((len(check.id) for check in checks), default=0)
    for check in checks:
        note = f" ({check.level_text})" if check.level_text != check.level else ""
        note += " (only when asked for)" if check.opt_in else ""
        yield f"{check.id:<{width}}  {check.level:<6}  {check.severity:<8}  {check.requirement}{note}"
        if difference := _difference(check, profiles):
            yield f"{'':<{width}}  -> {difference}"
    yield plural(len(selected), "check")
    if further := [check.id for check in checks if check not in selected]:
        yield f"{len(further)} more, only when asked for: {', '.join(further)}"


def _lines(text: str, width: int, first: str) -> Iterator[str]:
    return (line.text for line in wrapped(text, width, first))


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
