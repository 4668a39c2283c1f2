"""Draws clusters and compares our verdict with the truth on each available etcd: ``python -m truth.run``.

``tests`` must be on the path. Each draw goes to one etcd in turn; those that are named go to all. Exit code 1
if something differs.
"""

from __future__ import annotations

import argparse
import runpy
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pytest_etcdtls.versions import version_key
from truth.asking import GoClient
from truth.comparing import Comparer
from truth.drawing import Scenario, draw
from truth.judging import CHECKS
from truth.setting_up import Place

ROOT = Path(__file__).parents[2]
_WHOLE = 7
"""Every so many draws are judged by the whole catalogue."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    options = _options(arguments)
    binaries: dict[str, Path] = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["find_binaries"]()
    versions = sorted((one for one in binaries if one in (options.etcd or binaries)), key=version_key)
    if not versions:
        sys.exit(f"no such etcd is available: there are {', '.join(binaries) or 'none'}; run make etcd")
    named = bool(options.number or options.change)
    drawn = [draw(options.seed, number) for number in options.number or range(options.draws)]
    if options.change:
        drawn = [Scenario(0, dict(change.split("=", 1) for change in options.change))]
    print(f"seed {options.seed}: {len(drawn)} draws on etcd {', '.join(versions)}", flush=True)
    counts, explained = Counter[str](), Counter[str]()
    causes: dict[str, set[str]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="etcdtls-truth-") as directory,
        Place.within(Path(directory)) as place,
        GoClient.built_in(Path(directory)) as go,
    ):
        comparer = Comparer(place, go)
        for scenario in drawn:
            checks = () if named or not scenario.number % _WHOLE else CHECKS
            for version in versions if named else [versions[scenario.number % len(versions)]]:
                compared = comparer.compare(scenario, binaries[version], checks=checks)
                counts.update({"draws": 1, "started": compared.started, "connections": compared.connections})
                explained.update(compared.explained)
                if compared.differences:
                    small = comparer.shrink(compared, binaries[version], checks=checks)
                    if not small.kinds <= causes.setdefault(str(small.scenario), set()):
                        print(f"--- draw {scenario.number}\n{small.describe()}", flush=True)
                    causes[str(small.scenario)] |= small.kinds
                elif named:
                    print(f"--- no difference\n{compared.describe()}", flush=True)
    for why, times in explained.items():
        print(f"{times} differ on purpose: {why}")
    for changes, kinds in sorted(causes.items()):
        print(f"[{changes}]: {', '.join(sorted(kinds))}")
    print(f"{dict(counts)}, {len(causes)} causes of differences")
    return 1 if causes else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="truth.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=1000, help="how many, over all etcds (default 1000)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="what is drawn; printed")
    parser.add_argument("--number", type=int, action="append", help="this draw alone; repeatable")
    parser.add_argument("--etcd", action="append", metavar="VERSION", help="on this etcd alone; repeatable")
    parser.add_argument(
        "--change", action="append", metavar="PROPERTY=VALUE", help="the good cluster, changed; repeatable"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
