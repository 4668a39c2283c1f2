"""Keeps what the code judges as a file: ``python -m verdicts.record OUT.json.gz``.

``tests`` must be on the path. The subjects are the zoo and the presets on each etcd. Only public names are
used, so that the files of two versions of the code can be compared although everything inside has changed.
The exit code is 1 if something could not be judged.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from accounting import counted_connections
from msgspec import to_builtins
from zoo.members import ZOO
from zoo.model import Misconfigured, start_member

from pytest_etcdtls import (
    PRESETS,
    ClusterStartError,
    Observer,
    Target,
    UsageError,
    run_checks,
)
from verdicts.volatile import Volatile

Values = dict[str, Any]
"""JSON values."""

_FOREIGN = ("ETCD_", "ETCDCTL_")
"""How the names of variables begin that etcd and etcdctl read."""


SUBJECTS = {f"zoo/{member.name}": member for member in ZOO} | {
    f"presets/{preset.name}": Misconfigured(name=preset.name, what=preset.what, config=preset.config)
    for preset in PRESETS.values()
}


def _judge(name: str, binary: Path) -> Values:
    directory = Path(tempfile.mkdtemp(prefix="verdicts-"))
    member = SUBJECTS[name]
    try:
        with start_member(member, binary, directory) as cluster:
            return judged(cluster.target(), member.checks)
    except (UsageError, ClusterStartError) as error:
        # A release that has no such flag, or that does not start so.
        return {"not started": Volatile({}).text(f"{type(error).__name__}: {error}")}
    except Exception:
        return {"failed": traceback.format_exc()}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def judged(target: Target, checks: Sequence[str]) -> Values:
    """Judge a target by the checks that the patterns name, and return the results and the connections."""
    labels = {listener.address: listener.label for listener in target.listeners}
    volatile = Volatile({port: label for (_, port), label in labels.items()})
    with counted_connections() as made:
        results = run_checks(Observer(target), checks or None)
    connections: Counter[str] = Counter()
    for address, number in made.items():
        connections[labels.get(address, "elsewhere")] += number
    return {
        "results": volatile.value(_keyed(to_builtins(results))),
        "connections": volatile.value(dict(connections)),
    }


def _keyed(results: Iterable[Mapping[str, Any]]) -> Values:
    """Return results by listener and check, without their times."""
    found: Values = {}
    for result in results:
        values = {name: value for name, value in result.items() if name not in ("seconds", "target")}
        if cause := values["cause"]:
            values["cause"] = f"{cause['check']} on {cause['listener']}"
        found[f"{values.pop('listener')} {values.pop('check')}"] = values
    return found


def append(path: Path, name: str, values: Values) -> None:
    """Append a subject: a line of JSON, compressed by itself. A run that ends early loses nothing."""
    line = json.dumps({"subject": name, "values": values}, ensure_ascii=False)
    with path.open("ab") as file:
        file.write(gzip.compress(f"{line}\n".encode()))


def read(path: Path) -> dict[str, Values]:
    """Return the subjects of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        subjects: list[dict[str, Any]] = list(map(json.loads, file))
    return {subject["subject"]: subject["values"] for subject in subjects}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    parser = argparse.ArgumentParser(prog="verdicts.record", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path, metavar="OUT.json.gz")
    parser.add_argument("--name", action="append", help="these subjects alone; repeatable")
    parser.add_argument("--etcd", action="append", metavar="VERSION", help="on this etcd; repeatable")
    parser.add_argument("--jobs", type=int, default=2, help="subjects at a time (default 2)")
    options = parser.parse_args(arguments)
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    conftest = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))
    binaries: dict[str, Path] = conftest["find_binaries"]()
    options.output.write_bytes(b"")
    failed = 0
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {
            pool.submit(_judge, name, binaries[version]): f"{name}/{version}"
            for version in options.etcd or binaries
            for name, member in SUBJECTS.items()
            if member.is_of(version) and member.name in (options.name or [member.name])
        }
        for number, done in enumerate(as_completed(waiting), 1):
            values = done.result()
            append(options.output, waiting[done], values)
            if "failed" in values:
                failed += 1
                print(f"{waiting[done]} could not be judged: {values['failed']}", flush=True)
            if not number % 20 or number == len(waiting):
                print(f"{number} of {len(waiting)}, now {waiting[done]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
