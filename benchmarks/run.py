"""Measures what the plugin costs, in one run, and prints ratios: ``python benchmarks/run.py``.

Nothing here is asserted anywhere. What was measured once is in ``docs/measured.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import runpy
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import clusters
import judging
import latency
import many
import owned
import startup
from timing import Timed

from pytest_etcdtls.etcd.sources import EtcdSource

ROOT = Path(__file__).parents[1]
NAMES = ("startup", "judging", "latency", "owned", "many", "clusters")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments name and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="*", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--repeat", type=int, default=15, help="how often each (default 15)")
    parser.add_argument("--members", type=int, default=100, help="of many (default 100)")
    parser.add_argument("--check", metavar="PATTERNS", help="of latency and owned, to try them: these checks")
    parser.add_argument(
        "--peers",
        metavar="DIRECTORY",
        type=Path,
        help="judging: also measure sslyze and this package alone, in environments that are made there",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was measured there too")
    parser.add_argument("--etcd", metavar="VERSION", help="which of those at hand (default: the newest)")
    options = parser.parse_args(arguments)
    source = _etcd(options.etcd)
    measures: dict[str, Callable[[], Iterator[Sequence[Timed]]]] = {
        "startup": lambda: iter([startup.measure(options.repeat)]),
        "judging": lambda: iter([judging.measure(source, options.repeat, options.peers)]),
        "latency": lambda: iter([latency.measure(source, options.repeat, options.check)]),
        "owned": lambda: iter(owned.measure(source, options.repeat, options.check)),
        "many": lambda: iter([many.measure(source, options.repeat, options.members)]),
        "clusters": lambda: (clusters.measure(source, size, options.repeat) for size in (1, 3)),
    }
    unknown = set(options.what) - set(measures)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(measures)}")
    about = list(_about(source, options.repeat))
    print("\n".join(about))
    written: list[dict[str, object]] = []
    for name in options.what or measures:
        for timed in measures[name]():
            print()
            written += [{"measure": name, "what": one.name, **_figures(one)} for one in timed]
            for line in _table(timed):
                print(line, flush=True)
    print(f"\nload at the end: {_load()}")
    if options.json is not None:
        options.json.write_text(json.dumps({"about": about, "measured": written}, indent=1), encoding="utf-8")
    return 0


def _etcd(version: str | None) -> EtcdSource:
    binaries: dict[str, Path] = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["find_binaries"]()
    if not binaries:
        sys.exit("no etcd is available: run make etcd")
    version = version or list(binaries)[-1]
    if version not in binaries:
        sys.exit(f"etcd {version} is not at hand: there are {', '.join(binaries)}")
    return EtcdSource(kind="process", location=str(binaries[version]), version=version, why="asked for")


def _about(source: EtcdSource, repeat: int) -> Iterator[str]:
    import pytest

    programs = f"{_first_line('openssl', 'version')}, {_first_line('curl', '--version')}"
    yield f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {datetime.now(UTC).date()}"
    yield f"Python {platform.python_version()}, pytest {pytest.__version__},"
    yield f"etcd {source.version}, {programs}"
    yield f"medians of {repeat}, in turn; load at the start: {_load()}"


def _first_line(*arguments: str) -> str:
    if shutil.which(arguments[0]) is None:
        return f"no {arguments[0]}"
    output = subprocess.run(arguments, capture_output=True, encoding="utf-8", check=True).stdout
    return " ".join(output.splitlines()[0].split()[:2])


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


def _figures(timed: Timed) -> dict[str, object]:
    return {"seconds": timed.seconds, "processor": timed.processor}


def _table(timed: Sequence[Timed]) -> Iterator[str]:
    """Yield the table; the first row is what the others are compared with."""
    yield "| what | median | half the middle spread | ratio | processor | ratio |"
    yield "|---|--:|--:|--:|--:|--:|"
    first = timed[0]
    for one in timed:
        ratio, used = one.median / first.median, statistics.median(one.processor)
        compared = used / (statistics.median(first.processor) or 1)
        row = f"| {one.name} | {one.median:.3f} s | {one.spread:.0%} | {ratio:.2f} |"
        yield f"{row} {used:.2f} s | {compared:.2f} |"


if __name__ == "__main__":
    sys.exit(main())
