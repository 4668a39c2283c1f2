"""Draws clusters and compares our verdict with the truth on each available etcd: ``python -m truth.run``.

``tests`` must be on the path. Exit code 1 if something differs.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.run import draw_options, say

from pytest_etcdtls.versions import version_key
from truth.asking import GoClient
from truth.comparing import Comparer
from truth.drawing import Scenario, draw, singles
from truth.judging import CHECKS
from truth.setting_up import Place

ROOT = Path(__file__).parents[2]
_CONFIRMED = 11
"""Every so many draws are confirmed by curl and etcdctl; with five etcds, on each in turn."""
_WHOLE = 7
"""Every so many draws are judged by the whole catalogue."""


@dataclass
class _Cause:
    """The differences that one set of changes shows, and the draws in which it was found."""

    kinds: frozenset[str] = frozenset()
    where: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    options = _options(arguments)
    binaries: dict[str, Path] = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["find_binaries"]()
    chosen = {version: path for version, path in binaries.items() if version in (options.etcd or binaries)}
    if not chosen:
        sys.exit(f"no such etcd is available: there are {', '.join(binaries) or 'none'}; run make etcd")
    versions = sorted(chosen, key=version_key)
    with (
        tempfile.TemporaryDirectory(prefix="etcdtls-truth-") as directory,
        Place.within(Path(directory)) as place,
        GoClient.built_in(Path(directory)) as go,
    ):
        comparer = Comparer(place, go)
        if options.change:
            scenario = Scenario(0, dict(one.split("=", 1) for one in options.change))
            return _each(comparer, [scenario], chosen, versions, options, alone=True)
        if options.singles:
            return _each(comparer, singles()[options.first :], chosen, versions, options, alone=False)
        numbers = options.number or range(options.first, options.first + options.draws)
        say(f"seed {options.seed}: {len(numbers)} draws on etcd {', '.join(versions)}")
        added = dict(one.split("=", 1) for one in options.added or ())
        drawn = [draw(options.seed, number).with_changes(added) for number in numbers]
        return _each(comparer, drawn, chosen, versions, options, alone=bool(options.number))


def _each(
    comparer: Comparer,
    drawn: Sequence[Scenario],
    chosen: dict[str, Path],
    versions: Sequence[str],
    options: argparse.Namespace,
    *,
    alone: bool,
) -> int:
    done, started, connections, explained = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    seconds, verdicts = Counter[str](), Counter[str]()
    causes: dict[str, _Cause] = {}
    began = time.monotonic()
    # Each draw goes to one etcd in turn; those that are named go to all.
    turns = [
        (scenario, version)
        for scenario in drawn
        for version in (versions if alone or options.every else [versions[scenario.number % len(versions)]])
    ]
    try:
        for place, (scenario, version) in enumerate(turns):
            confirm = alone or not scenario.number % _CONFIRMED
            checks = () if alone or not scenario.number % _WHOLE else CHECKS
            compared = comparer.compare(scenario, chosen[version], confirm=confirm, checks=checks)
            done[version] += 1
            started[version] += compared.started
            connections[version] += compared.connections
            explained.update(compared.explained)
            seconds.update(compared.seconds)
            verdicts[compared.verdict.line.partition(":")[0] or "does not start"] += 1
            if options.table:
                say(f"{version} {compared.scenario}: {compared.verdict.faults or compared.log[-300:]}")
            if compared.differences:
                small = (
                    compared
                    if options.as_drawn
                    else comparer.shrink(compared, chosen[version], checks=checks)
                )
                cause = causes.setdefault(str(small.scenario), _Cause())
                if not small.kinds <= cause.kinds:
                    say(f"--- draw {scenario.number}\n{small.describe()}")
                cause.kinds |= small.kinds
                cause.where.append(f"{scenario.number} on {version}")
            elif alone:
                say(f"--- no difference\n{compared.describe()}")
                if not compared.started:
                    say(compared.log)
            if not (place + 1) % 50:
                say(f"{place + 1} draws in {time.monotonic() - began:.0f} s")
    except KeyboardInterrupt:
        say(f"stopped: --first={scenario.number} goes on")
    for version in versions:
        say(
            f"etcd {version}: {done[version]} draws, {started[version]} started, "
            f"{connections[version]} connections of the Go client"
        )
    say(f"verdicts: {', '.join(f'{number} {line}' for line, number in verdicts.most_common())}")
    say(f"seconds: {', '.join(f'{name} {value:.1f}' for name, value in seconds.items())}")
    for why, times in explained.items():
        say(f"{times} differ on purpose: {why}")
    for changes, cause in sorted(causes.items()):
        say(f"{len(cause.where)} times [{changes}]: {', '.join(cause.where[:4])}")
        for kind in sorted(cause.kinds):
            say(f"    {kind}")
    say(f"{sum(done.values())} draws in {time.monotonic() - began:.0f} s, {len(causes)} causes")
    return 1 if causes else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = draw_options("truth", __doc__, 1000)
    parser.add_argument(
        "--change",
        action="append",
        metavar="PROPERTY=VALUE",
        help="the good cluster with this change, on every etcd; repeatable",
    )
    parser.add_argument(
        "--with", dest="added", action="append", metavar="PROPERTY=VALUE", help="in every draw; repeatable"
    )
    parser.add_argument("--singles", action="store_true", help="each change alone, in place of draws")
    parser.add_argument("--every", action="store_true", help="each draw on every etcd")
    parser.add_argument("--table", action="store_true", help="a line for each draw with its faults, to read")
    parser.add_argument("--as-drawn", action="store_true", help="do not look for the changes that matter")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
