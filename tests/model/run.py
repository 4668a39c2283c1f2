"""Draws configurations and compares the model with each available etcd: ``python -m model.run``.

``tests`` must be on the path. Exit code 1 if something differs.
"""

from __future__ import annotations

import argparse
import os
import runpy
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from model.comparing import Place, compare
from model.drawing import draw
from pytest_etcdtls.versions import version_key

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    options = draw_options("model", __doc__, 3000).parse_args(arguments)
    binaries: dict[str, Path] = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["find_binaries"]()
    chosen = {version: path for version, path in binaries.items() if version in (options.etcd or binaries)}
    if not chosen:
        sys.exit(f"no such etcd is available: there are {', '.join(binaries) or 'none'}; run make etcd")
    numbers = options.number or range(options.first, options.first + options.draws)
    say(f"seed {options.seed}: {len(numbers)} draws on etcd {', '.join(chosen)}")
    drawn, started, attempts, explained = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    differing: list[int] = []
    began = time.monotonic()
    versions = sorted(chosen, key=version_key)
    with (
        tempfile.TemporaryDirectory(prefix="etcdtls-model-") as directory,
        Place.within(Path(directory)) as place,
    ):
        for number in numbers:
            # Each draw goes to one etcd in turn; those that are named go to all.
            for version in versions if options.number else [versions[number % len(versions)]]:
                done = compare(draw(options.seed, number), chosen[version], place, options.seed)
                drawn[version] += 1
                started[version] += done.started
                explained[done.explained] += bool(done.explained)
                attempts[version] += done.attempts
                if done.differences:
                    differing.append(number)
                    say(f"--- draw {number} on etcd {version}\n{done.describe()}")
            if not (number + 1) % 250:
                say(f"{sum(drawn.values())} draws in {time.monotonic() - began:.0f} s")
    for version in versions:
        say(
            f"etcd {version}: {drawn[version]} draws, {started[version]} started, "
            f"{attempts[version]} connections compared"
        )
    for why, times in explained.items():
        if times:
            say(f"{times} differ on purpose: {why}")
    say(
        f"seed {options.seed}: {sum(drawn.values())} draws in {time.monotonic() - began:.0f} s, "
        f"{len(differing)} differ{': ' + ', '.join(map(str, differing)) if differing else ''}"
    )
    return 1 if differing else 0


def say(text: str) -> None:
    """Print a line at once, to be read while the program runs."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def draw_options(prog: str, about: str | None, draws: int) -> argparse.ArgumentParser:
    """Return a parser with the options of a program that draws; PROG_DRAWS is the variable of how many."""
    parser = argparse.ArgumentParser(prog=prog, description=(about or "").partition("\n")[0])
    parser.add_argument(
        "--draws",
        type=int,
        default=int(os.environ.get(f"{prog.upper()}_DRAWS") or draws),
        help="how many, over all etcds",
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="what is drawn; printed")
    parser.add_argument("--first", type=int, default=0, help="the number of the first draw")
    parser.add_argument(
        "--number", type=int, action="append", help="this draw alone, on every etcd; repeatable"
    )
    parser.add_argument("--etcd", action="append", metavar="VERSION", help="on this etcd alone; repeatable")
    return parser


if __name__ == "__main__":
    sys.exit(main())
