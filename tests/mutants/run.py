"""Runs mutants against the tests that kill them: ``python -m mutants.run``, with ``tests`` on the path.

The package is copied, so the work tree stays as it is and several runs go side by side. A killer counts if it
passes without the mutant and fails with it. Exit code 1 if a mutant survives, or applies no more.
"""

from __future__ import annotations

import argparse
import os
import queue
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree

import msgspec
from zoo.members import ZOO

from mutants.drawing import PACKAGE, ROOT, Mutant

LIST = Path(__file__).with_name("mutants.json")
STEP = 20
"""By how many mutants a turn moves on: as many as two cores run in the time that CI has for it."""

FIRST = "tests/test_checks.py"


class Pool:
    """Copies of the package, for as many runs at the same time."""

    def __init__(self, directory: Path, jobs: int) -> None:
        self._free: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            copytree(PACKAGE, directory / str(number) / PACKAGE.name)
            self._free.put(directory / str(number))
        self._passes: dict[str, bool] = {}

    def problem(self, mutant: Mutant) -> str:
        """Return what is wrong with a mutant or its killer; nothing if it is killed."""
        # One run shows that all counterexamples of the checks pass.
        plain = FIRST if mutant.killer.startswith(FIRST) else mutant.killer
        if plain not in self._passes:
            passed, output = self._run(plain)
            self._passes[plain] = passed and " passed" in output
        if not self._passes[plain]:
            return f"{plain} does not pass without the mutant, or is gone"
        return f"survives {mutant.killer}" if self._run(mutant.killer, mutant)[0] else ""

    def _run(self, tests: str, mutant: Mutant | None = None) -> tuple[bool, str]:
        """Run a test; return whether it passes, and the output."""
        copy = self._free.get()
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
        environment["PYTHONPATH"] = f"{copy}:{ROOT / 'tests'}"
        environment["TESTS"] = "all"
        # -P: the package of the directory does not come before the copy.
        command = [sys.executable, "-P", "-m", "pytest", "-xq", "--tb=no", "--timeout=120"]
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


def applies(mutant: Mutant) -> bool:
    """Return whether the lines of a mutant are still in its function."""
    return mutant.path.exists() and mutant.apply(mutant.path.read_text(encoding="utf-8")) is not None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    options = _options().parse_args(arguments)
    mutants = msgspec.json.decode(LIST.read_bytes(), type=list[Mutant])
    began, wrong, run = time.monotonic(), list[int](), list[int]()

    def judge(place: int) -> None:
        mutant = mutants[place]
        if not applies(mutant):
            text = "applies no more: change it with the code"
        elif time.monotonic() - began > options.seconds:
            return
        else:
            text = pool.problem(mutant)
            run.append(mutant.id)
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
    return parser


if __name__ == "__main__":
    sys.exit(main())
