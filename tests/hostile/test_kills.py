"""Runs that are killed while they start, judge or stop three members leave nothing behind."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hostile.kills import Trial, carry_out, draw

DEADLINE = 60.0
"""Seconds after which something is left for good."""

_TRIALS = draw(random.Random(10), "binary", "image", longest=8.0, count=12)  # noqa: S311
_PROCESSES = [trial for trial in _TRIALS if not trial.container]
_CONTAINERS = [trial for trial in _TRIALS if trial.container]

FAULTS = {
    "test_a_killed_run_of_processes_leaves_nothing": (
        "SIGINT, SIGTERM or SIGKILL at a random moment of a run with three etcd processes, also under -n 2",
        "no process and no file of it is left",
        "3 s after its end (`python -m hostile.kills`)",
    ),
    "test_a_killed_run_of_containers_leaves_nothing": (
        "The same with three containers",
        "no process, container, network and no file of it is left",
        "3 s after its end (`python -m hostile.kills`)",
    ),
}


def _leaves_nothing(trial: Trial, source: str) -> None:
    # `python -m hostile.kills` asserts three seconds. Here other tests take the processors.
    assert carry_out(replace(trial, source=source), within=DEADLINE).left == ()


@pytest.mark.parametrize("trial", _PROCESSES[:3], ids=str)
def test_a_killed_run_of_processes_leaves_nothing(newest_etcd: Path, trial: Trial) -> None:
    _leaves_nothing(trial, str(newest_etcd))


@pytest.mark.container
@pytest.mark.program("docker")
@pytest.mark.parametrize("trial", _CONTAINERS[:1], ids=str)
def test_a_killed_run_of_containers_leaves_nothing(etcd_images: dict[str, str], trial: Trial) -> None:
    _leaves_nothing(trial, list(etcd_images.values())[-1])
