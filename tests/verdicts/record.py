"""Keeps what the code judges as a file: ``python -m verdicts.record OUT.json.gz``.

``tests`` must be on the path. Exit code 1 if something could not be judged.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from model.run import say

from pytest_etcdtls import ClusterStartError, UsageError
from pytest_etcdtls.versions import version_key
from verdicts.files import Values, append, create, read
from verdicts.judging import Etcd
from verdicts.subjects import GROUPS
from verdicts.volatile import Volatile

_FOREIGN = ("ETCD_", "ETCDCTL_", "PYTEST_", "PYTHONDONTWRITEBYTECODE")
"""How the names of variables begin that etcd, etcdctl and pytest read. Without compiled modules each run of
pytest compiles the whole plugin."""


@dataclass(frozen=True)
class Subject:
    """A subject of a group, on an etcd. Small, so that it can be sent to another process."""

    group: str
    name: str
    etcd: Etcd

    def __str__(self) -> str:
        alone = GROUPS[self.group].alone
        return f"{self.group}/{self.name}" if alone else f"{self.group}/{self.name}/{self.etcd.version}"

    def is_in(self, name: str) -> bool:
        """Return whether a name in a file is that of this subject, or of one of several."""
        return name == str(self) or (GROUPS[self.group].several and name.startswith(f"{self}/"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    options = _options(arguments)
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    subjects = _subjects(options.only or list(GROUPS), options.etcd, options.name)
    judged = read(options.output) if options.resume and options.output.exists() else {}
    subjects = [subject for subject in subjects if not any(subject.is_in(name) for name in judged)]
    if not judged:
        create(options.output)
    began, failed = time.monotonic(), 0
    say(f"{len(subjects)} subjects")
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(_judge, subject): str(subject) for subject in subjects}
        for number, done in enumerate(as_completed(waiting), 1):
            name, values = waiting[done], done.result()
            if GROUPS[name.partition("/")[0]].several and "failed" not in values:
                for part, its in values.items():
                    append(options.output, f"{name}/{part}", its)
            else:
                append(options.output, name, values)
            if "failed" in values:
                failed += 1
                say(f"{name} could not be judged: {values['failed']}")
            if not number % 20 or number == len(subjects):
                say(f"{number} of {len(subjects)} in {time.monotonic() - began:.0f} s, now {name}")
    say(f"{options.output}: {len(subjects)} subjects, {failed} could not be judged")
    return 1 if failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="verdicts.record", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path, metavar="OUT.json.gz")
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="this group alone; repeatable")
    parser.add_argument("--name", action="append", help="these subjects of the groups alone; repeatable")
    parser.add_argument(
        "--etcd", action="append", metavar="VERSION", help="on this etcd, or those of a line; repeatable"
    )
    parser.add_argument("--resume", action="store_true", help="add the subjects that the file does not have")
    parser.add_argument("--jobs", type=int, default=2, help="subjects at a time (default 2)")
    return parser.parse_args(arguments)


def _subjects(
    groups: Sequence[str], wanted: Sequence[str] | None, names: Sequence[str] | None
) -> list[Subject]:
    binaries: dict[str, Path] = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))[
        "find_binaries"
    ]()
    versions = sorted((version for version in binaries if _is_wanted(version, wanted)), key=version_key)
    if not versions:
        sys.exit(f"no such etcd is available: there are {', '.join(binaries) or 'none'}; run make etcd")
    # Not of the chosen ones, so that a file of some etcds has what one of all has.
    newest = max(binaries, key=version_key)
    return [
        Subject(group, name, Etcd(version, binaries[version], version == newest))
        for group in groups
        for version in versions
        if version == newest or not GROUPS[group].alone
        for name in GROUPS[group].subjects(version)
        if names is None or name in names
    ]


def _is_wanted(version: str, wanted: Sequence[str] | None) -> bool:
    return wanted is None or any(version == one or version.startswith(f"{one}.") for one in wanted)


def _judge(subject: Subject) -> Values:
    directory = Path(tempfile.mkdtemp(prefix="verdicts-"))
    try:
        return GROUPS[subject.group].judge(subject.name, subject.etcd, directory)
    except (UsageError, ClusterStartError) as error:
        # A release that has no such flag, or that does not start so.
        return {"not started": Volatile({}).text(f"{type(error).__name__}: {error}")}
    except Exception:
        return {"failed": traceback.format_exc()}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
