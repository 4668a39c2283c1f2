"""Times several things in turn, so that other load slows all of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timed:
    """The measurements of one thing.

    Attributes:
        seconds: of each repetition, in order.
        processor: seconds of the processor of each, children included, in order.
    """

    name: str
    seconds: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, as a part of the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median


def alternate(what: Mapping[str, Callable[[], object]], repeat: int) -> list[Timed]:
    """Time each so many times, one after the other in turn, after one turn that does not count.

    The order is reversed in every second turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in what}
    processor: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(repeat + 1):
        for name in list(what)[:: 1 if turn % 2 else -1]:
            started, used = time.perf_counter(), sum(os.times()[:4])
            what[name]()
            if turn:
                seconds[name].append(time.perf_counter() - started)
                processor[name].append(sum(os.times()[:4]) - used)
    return [Timed(name, tuple(times), tuple(processor[name])) for name, times in seconds.items()]


def command(arguments: Sequence[str], directory: Path, *, may_fail: bool = False) -> None:
    """Run a command there, which must succeed unless it may fail, with nothing to read.

    Python keeps its bytecode below that directory, so that only the first run has to compile.
    """
    ours = ("PYTHON", "PYTEST")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment["PYTHONPYCACHEPREFIX"] = str(directory / "bytecode")
    subprocess.run(
        arguments,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=not may_fail,
    )
