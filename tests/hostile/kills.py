"""Runs that start clusters are killed at random, and nothing is left: ``python -m hostile.kills``.

Needs ``tests`` on the path. Each run has a temporary directory, a mark in its
environment and a name of its image of its own, by which everything of it is found. Exit code 1 if anything is
left.
"""

from __future__ import annotations

import argparse
import os
import random
import runpy
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_etcdtls.etcd.engine import LABEL

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LEFT_SECONDS = 3.0
"""After which nothing of a run that has ended may be there, where nothing else takes the processors."""
_END_SECONDS = 60.0
_MARK = "PYTEST_ETCDTLS_KILLS"


@dataclass(frozen=True)
class Trial:
    """One run and how it ends.

    Attributes:
        source: a binary, or a local image if ``container``.
        workers: of pytest-xdist; 0 for a plain run.
        number: the signal; to the process that the user started.
        after: seconds from its start.
    """

    source: str
    container: bool
    workers: int
    number: signal.Signals
    after: float

    def __str__(self) -> str:
        backend = "containers" if self.container else "processes"
        return f"{backend}, -n{self.workers}, {self.number.name} after {self.after:.2f} s"


@dataclass(frozen=True)
class Ended:
    """What was seen of a run.

    Attributes:
        by_itself: whether it had ended before the signal.
        status: of the process.
        left: descriptions of what was there at the end of the time for it.
        seconds: from its end until nothing was there.
    """

    by_itself: bool
    status: int
    left: tuple[str, ...]
    seconds: float = 0.0


def draw(
    random_: random.Random, binary: str, image: str | None, *, longest: float = 15.0, count: int = 1
) -> list[Trial]:
    """Return random trials, every signal in turn on each backend, plain and with two workers."""
    kinds = [
        (container, workers, number)
        for number in SIGNALS
        for workers in (0, 2)
        for container in ((False, True) if image else (False,))
    ]
    random_.shuffle(kinds)
    return [
        Trial(
            image if container and image else binary,
            container,
            workers,
            number,
            # Containers take longer to start.
            random_.uniform(0.1, longest * (2 if container else 1)),
        )
        for container, workers, number in (kinds[at % len(kinds)] for at in range(count))
    ]


def carry_out(trial: Trial, within: float = LEFT_SECONDS) -> Ended:
    """Start the run, kill it, and look for what it has left.

    Args:
        trial: the run.
        within: seconds from its end that it may take until nothing is left.
    """
    token = secrets.token_hex(6)
    with _directory() as scratch, _source(trial, token) as source:
        temporary, cwd = scratch / "tmp", scratch / "cwd"
        temporary.mkdir()
        cwd.mkdir()
        networks = set(_networks()) if trial.container else set()
        option = "--etcd-image" if trial.container else "--etcd-binary"
        command = [
            *(sys.executable, "-m", "pytest", "--etcd-conformance", f"{option}={source}", "--etcd-size=3"),
            *("-p", "no:cacheprovider", "-p", "no:randomly", f"-n{trial.workers}"),
        ]
        environment = {**os.environ, "TMPDIR": str(temporary), _MARK: token}
        with subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as run:
            with suppress(subprocess.TimeoutExpired):
                run.wait(trial.after)
            by_itself = run.poll() is not None
            run.send_signal(trial.number)
            try:
                status = run.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                run.kill()
                return Ended(by_itself, 0, (f"the run itself, {_END_SECONDS:g} s after the signal",))
        ended = time.monotonic()
        left = _await_nothing(token, temporary, source if trial.container else None, ended + within)
        seconds = time.monotonic() - ended
        left += _await_workers(token, temporary, ended + _END_SECONDS)
        if trial.container:
            left += [f"network {name}" for name in _forgotten_networks(networks)]
        for pid, _ in _processes(token, temporary):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return Ended(by_itself, status, tuple(left), seconds)


def _await_nothing(token: str, temporary: Path, image: str | None, deadline: float) -> list[str]:
    while True:
        left = [f"process {pid}: {what}" for pid, what in _processes(token, temporary) if _WORKER not in what]
        # pytest keeps the base directory of its own, which xdist makes, for the last three runs.
        left += [path.name for path in temporary.iterdir() if not path.name.startswith("pytest-of-")]
        left += _containers(image) if image is not None else []
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


_WORKER = "exec(eval(sys.stdin.readline()))"
"""In the command line of a worker of pytest-xdist. One whose controller was killed holds nothing of ours;
execnet, which started it, waits five seconds before it interrupts it."""


def _await_workers(token: str, temporary: Path, deadline: float) -> list[str]:
    """Return what is left when the workers of pytest-xdist have had their time."""
    while left := [f"process {pid}: {what}" for pid, what in _processes(token, temporary)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def _containers(image: str) -> list[str]:
    lines = _docker("ps", "-a", "--format={{.Image}} {{.Names}}")
    return [f"container {line.split()[1]}" for line in lines if line.split()[0] == image]


def _forgotten_networks(before: set[str]) -> set[str]:
    """Return the networks of clusters that are new and stay without a container.

    Runs of somebody else make networks too, and put containers on them soon.
    """
    deadline = time.monotonic() + _END_SECONDS
    while True:
        found = {name for name in set(_networks()) - before if not _is_used(name)}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _networks() -> list[str]:
    return _docker("network", "ls", f"--filter=label={LABEL}", "--format={{.Name}}")


def _is_used(network: str) -> bool:
    lines = _docker("network", "inspect", "--format={{len .Containers}}", network)
    return lines != ["0"]


def _docker(*arguments: str) -> list[str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, encoding="utf-8", check=False)
    return done.stdout.splitlines()


def _processes(token: str, temporary: Path) -> Iterator[tuple[int, str]]:
    mark, place = f"{_MARK}={token}".encode(), os.fsencode(temporary)
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # A zombie has neither.
            arguments = (entry / "cmdline").read_bytes()
            if place in arguments or mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name), arguments.replace(b"\0", b" ").decode(errors="replace")[:200]


@contextmanager
def _directory() -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _source(trial: Trial, token: str) -> Iterator[str]:
    if not trial.container:
        yield trial.source
        return
    name = f"pytest-etcdtls-kills/etcd:{token}"
    subprocess.run(["docker", "tag", trial.source, name], check=True)
    try:
        yield name
    finally:
        if left := [line.split()[1] for line in _containers(name)]:
            _docker("rm", "-fv", *left)
        _docker("rmi", name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out random trials and return the exit code."""
    parser = argparse.ArgumentParser(prog="kills", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--seed", type=int, default=None, help="of the random numbers (default: a new one)")
    parser.add_argument("--longest", type=float, default=15.0, help="latest kill of processes, in seconds")
    parser.add_argument(
        "--within", type=float, default=LEFT_SECONDS, help="seconds until nothing may be left (default 3)"
    )
    options = parser.parse_args(arguments)
    # A shell starts its background jobs with SIGINT ignored, and the runs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    found = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))
    binaries, (images, missing) = found["find_binaries"](), found["find_images"]()
    if not binaries:
        sys.exit("there is no etcd: run make etcd")
    image = list(images.values())[-1] if images else None
    _say(f"seed {seed}; {missing or image}")
    trials = draw(
        random.Random(seed),  # noqa: S311
        str(list(binaries.values())[-1]),
        image,
        longest=options.longest,
        count=options.runs,
    )
    failed = early = 0
    for number, trial in enumerate(trials, 1):
        ended = carry_out(trial, options.within)
        failed += bool(ended.left)
        early += ended.by_itself
        left = ", ".join(ended.left) or f"nothing left after {ended.seconds:.1f} s"
        _say(f"{number}: {trial}: status {ended.status}; {left}")
    _say(f"{len(trials)} runs, {early} of them over before the signal; {failed} left something")
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
