"""Runs mutants against the tests that kill them: ``python -m mutants.run``, with ``tests`` on the path.

The package is copied, so the work tree stays as it is and several runs go side by side. A killer counts if it
passes without the mutant and fails with it. Exit code 1 if a mutant survives, or applies no more.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree

import msgspec
from msgspec.structs import replace
from zoo.members import ZOO

from mutants.drawing import PACKAGE, ROOT, Mutant, draw
from pytest_etcdtls.checks.registry import catalogue

LIST = Path(__file__).with_name("mutants.json")
STEP = 20
"""By how many mutants a turn moves on: as many as two cores run in the time that CI has for it."""

FIRST = "tests/test_checks.py"
NEAR = ("tests/unit", "tests/declared")
FAR = ("tests/pki", "tests/report", "tests/certificates", "tests/discovery", "tests/etcd_log", "tests/replay")
MEMBERS = 8
"""Of how many members of the zoo one is searched that kills a mutant."""


class Pool:
    """Copies of the package, for as many runs at the same time."""

    def __init__(self, directory: Path, jobs: int) -> None:
        self._free: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            copytree(PACKAGE, directory / str(number) / PACKAGE.name)
            self._free.put(directory / str(number))
        self._passes: dict[str, bool] = {}

    def killer(self, tests: str, mutant: Mutant) -> str:
        """Return the test that fails with the mutant and passes without; empty if all pass.

        Raises:
            LookupError: if that test fails without the mutant too, or is not run.
        """
        passed, output = self._run(tests, mutant)
        if passed:
            return ""
        failed = re.search(r"^(?:FAILED|ERROR) (\S+\.py::.+?)(?: - .*)?$", output, re.MULTILINE)
        test = failed[1] if failed and "::" not in tests and not tests.startswith("zoo:") else tests
        # A parameter with the version of an etcd changes when that is built anew.
        test = re.sub(r"\[.*\d+\.\d+\.\d+.*\]$", "", test)
        # One run shows that all counterexamples of the checks pass.
        plain = FIRST if test.startswith(FIRST) else test
        if plain not in self._passes:
            passed, output = self._run(plain)
            self._passes[plain] = passed and " passed" in output
        if not self._passes[plain]:
            raise LookupError(f"{plain} does not pass without the mutant, or is gone")
        return "" if test != tests and self._run(test, mutant)[0] else test

    def _run(self, tests: str, mutant: Mutant | None = None) -> tuple[bool, str]:
        """Run tests up to the first that fails; return whether none does, and the output."""
        copy = self._free.get()
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
        environment["PYTHONPATH"] = f"{copy}:{ROOT / 'tests'}"
        environment["TESTS"] = "all"
        # -P: the package of the directory does not come before the copy.
        command = [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-xq",
            "-rfE",
            "--no-header",
            "--tb=no",
            "--timeout=120",
        ]
        command += ["-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={copy / 'tmp'}", _node(tests)]
        path = copy / PACKAGE.name / (mutant.module if mutant else "py.typed")
        source = path.read_text(encoding="utf-8")
        try:
            _write(path, (mutant.apply(source) if mutant else source) or "")
            run = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
        finally:
            _write(path, source)
            self._free.put(copy)
        return run.returncode == 0, run.stdout


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    # Python tells a stale compiled module by whole seconds and the size.
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def _node(tests: str) -> str:
    """Return what pytest is given for a killer: a member of the zoo has the newest etcd that it is for."""
    if not tests.startswith("zoo:"):
        return tests
    name = tests.removeprefix("zoo:")
    [*members] = (member for member in ZOO if member.name == name)
    binaries = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["find_binaries"]()
    version = next((binary for binary in reversed(binaries) if members and members[0].is_of(binary)), "none")
    return f"tests/zoo/test_zoo.py::test_the_expected_checks_find_the_fault[{version}-{name}]"


def candidates(mutant: Mutant) -> Iterator[str]:
    """Yield what may kill a mutant, cheapest first."""
    module = f"pytest_etcdtls.{mutant.module.removesuffix('.py').replace('/', '.')}"
    tests = sorted((ROOT / "tests").glob("*/test_*.py"))
    own = [
        str(path.relative_to(ROOT))
        for path in tests
        if re.search(rf"\b{module}\b", path.read_text(encoding="utf-8"))
    ]
    yield FIRST
    yield from sorted(own, key=lambda path: not path.startswith(NEAR))
    yield from NEAR
    users = {
        path.stem
        for path in PACKAGE.glob("checks/*.py")
        if f"{module} import" in path.read_text(encoding="utf-8")
    }
    users.add(module.rpartition(".")[2])
    checks = [one for one in catalogue().values() if one.function.__module__.rpartition(".")[2] in users]
    checks.sort(key=lambda check: check.function.__name__ != mutant.function)
    members = dict.fromkeys(member.name for check in checks for member in ZOO if check.id in member.proves())
    yield from (f"zoo:{name}" for name in [*members][:MEMBERS])
    yield from FAR


def search(pool: Pool, mutant: Mutant) -> str:
    """Return what kills a mutant, empty if nothing does."""
    for tests in candidates(mutant):
        try:
            if test := pool.killer(tests, mutant):
                return test
        except LookupError as error:
            print(f"mutant {mutant.id}: {error}", flush=True)
    return ""


def problem(mutant: Mutant, pool: Pool) -> str:
    """Return what is wrong with a mutant or its killer; nothing if it is killed."""
    try:
        if not mutant.killer:
            return "nothing is listed that kills it"
        return "" if pool.killer(mutant.killer, mutant) else f"survives {mutant.killer}"
    except LookupError as error:
        return str(error)


def update(mutants: list[Mutant], seed: int) -> list[Mutant]:
    """Return the list with other mutants instead of those that apply no more."""
    gone = [mutant for mutant in mutants if not applies(mutant)]
    for mutant in gone:
        print(f"{mutant}\nis replaced, since it applies no more", flush=True)
    kept = [mutant for mutant in mutants if mutant not in gone]
    return [*kept, *draw(kept, seed, after=max((mutant.id for mutant in mutants), default=0))]


def applies(mutant: Mutant) -> bool:
    """Return whether the lines of a mutant are still in its function."""
    return mutant.path.exists() and mutant.apply(mutant.path.read_text(encoding="utf-8")) is not None


def save(mutants: list[Mutant]) -> None:
    """Write the list."""
    LIST.write_bytes(msgspec.json.format(msgspec.json.encode(mutants), indent=1) + b"\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    options = _options().parse_args(arguments)
    mutants = msgspec.json.decode(LIST.read_bytes(), type=list[Mutant])
    if options.update:
        mutants = update(mutants, options.seed)
        save(mutants)
    began, wrong, run = time.monotonic(), list[int](), list[int]()

    def judge(place: int) -> None:
        mutant = mutants[place]
        if not applies(mutant):
            text = "applies no more: python -m mutants.run --update"
        elif time.monotonic() - began > options.seconds:
            return
        else:
            text = problem(mutant, pool)
            run.append(mutant.id)
        if text and options.update:
            mutants[place] = replace(mutant, killer=search(pool, mutant))
            save(mutants)
            text = "" if mutants[place].killer else "survives: delete code that nobody sees, or test it"
        if text:
            wrong.append(mutant.id)
            print(f"{mutant}\n{text}\n", flush=True)

    start = options.turn * STEP % len(mutants)
    places = [place % len(mutants) for place in range(start, start + len(mutants))]
    chosen = [place for place in places if not options.id or mutants[place].id in options.id]
    with tempfile.TemporaryDirectory(prefix="etcdtls-mutants-") as directory:
        pool = Pool(Path(directory), options.jobs)
        with ThreadPoolExecutor(options.jobs) as threads:
            list(threads.map(judge, chosen))
    print(
        f"{len(run)} of {len(mutants)} mutants run in {time.monotonic() - began:.0f} s; "
        f"not killed: {', '.join(map(str, sorted(wrong))) or 'none'}"
    )
    return 1 if wrong else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mutants", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--id", type=int, action="append", help="this mutant alone; repeatable")
    add("--turn", type=int, default=0, help=f"begin with another mutant: {STEP} later for each turn")
    add("--seconds", type=float, default=float("inf"), help="start no further one after this time")
    add("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="how many run at the same time")
    add("--update", action="store_true", help="replace mutants that apply no more, and search for killers")
    add("--seed", type=int, default=1, help="which mutants are drawn")
    return parser


if __name__ == "__main__":
    sys.exit(main())
