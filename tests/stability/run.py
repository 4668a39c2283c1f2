"""Judges the same clusters many times in a row and says which verdicts differ: ``python -m stability.run``.

Needs ``tests`` on the path. Exit code 1 if a verdict differs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import runpy
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from pytest_etcdtls._version import __version__
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.errors import UsageError
from stability.record import Judgement, Record
from stability.subjects import Subject, subjects

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with the arguments and return the exit code."""
    options = _options(arguments)
    binaries = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["find_binaries"]()
    missing = [version for version in options.etcd if version not in binaries]
    if missing:
        sys.exit(f"etcd {missing[0]} is not available: there are {', '.join(binaries)}")
    chosen = {version: path for version, path in binaries.items() if version in (options.etcd or binaries)}
    presets = options.preset or ([] if options.zoo else ["default"])
    try:
        todo = subjects(chosen, presets=presets, zoo=options.zoo, checks=options.check)
    except UsageError as error:
        sys.exit(str(error))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    record = Record(about=_about(options, presets, chosen))
    for number, judgements, load in _runs(todo, options.runs, options.jobs):
        record.add(number, judgements, load)
        options.output.write_text(record.to_json(), encoding="utf-8")
        differ = len(list(record.differences()))
        _say(f"run {number}: {len(judgements)} clusters, load {load}, {differ} verdicts differ so far")
    differences = list(record.differences())
    for difference in differences:
        _say(str(difference))
    _say(f"{options.runs} runs, {record.counted()} verdicts, {len(differences)} differ; see {options.output}")
    return 1 if differences else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stability", description=(__doc__ or "").partition("\n")[0])

    def several(option: str, metavar: str, help_: str) -> None:
        parser.add_argument(option, metavar=metavar, action="append", default=[], help=f"{help_}; repeatable")

    parser.add_argument("--runs", type=int, default=20, help="how many in a row (default 20)")
    several("--etcd", "VERSION", "only on this one of those available")
    several("--preset", "NAME", "a preset, or all (default: the default one, without --zoo)")
    several("--zoo", "NAME", "a member of the zoo, or all")
    several("--check", "PATTERN", "judge presets by these checks, as --etcd-check")
    parser.add_argument("--jobs", type=int, default=1, help="clusters at a time (default 1)")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "stability.json", help="JSON file to write"
    )
    return parser.parse_args(arguments)


def _runs(todo: list[Subject], runs: int, jobs: int) -> Iterator[tuple[int, list[Judgement], float]]:
    # Spawned and kept, so that all runs are made by the same code.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=select) as pool:
        for number in range(1, runs + 1):
            yield number, _made(pool.map(_judge, todo)), os.getloadavg()[0]


def _made(judgements: Iterable[Judgement | None]) -> list[Judgement]:
    return [judgement for judgement in judgements if judgement is not None]


def _judge(subject: Subject) -> Judgement | None:
    """Judge the subject once; ``None`` if that etcd cannot be started so."""
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="stability-"))
    try:
        results = subject.judge(directory)
    except UsageError:
        return None
    except Exception as error:
        return Judgement.failed(str(subject), error, time.monotonic() - started)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return Judgement.of(str(subject), results, time.monotonic() - started)


def _about(options: argparse.Namespace, presets: list[str], binaries: Iterable[str]) -> dict[str, object]:
    return {
        "pytest_etcdtls": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "etcd": list(binaries),
        "presets": presets,
        "zoo": options.zoo,
        "checks": options.check,
        "jobs": options.jobs,
    }


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
