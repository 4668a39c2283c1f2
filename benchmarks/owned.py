"""Time to qualify an etcd: the whole catalogue on owned clusters, with the experiments."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from timing import Timed, alternate, command

from pytest_etcdtls.etcd.engine import engine_problem, image_present
from pytest_etcdtls.etcd.sources import EtcdSource


def measure(source: EtcdSource, repeat: int, checks: str | None = None) -> list[list[Timed]]:
    """Time it with processes and, where there is an image of that version, with containers.

    Each is compared with the same run with one cluster for experiments after the other.
    """
    image = f"pytest-etcdtls/etcd:{source.version}"
    ways = {"processes": f"--etcd-binary={source.location}"}
    if engine_problem() is None and image_present(image):
        ways["containers"] = f"--etcd-image={image}"
    some = [f"--etcd-check={checks}"] if checks else []
    return [_measured(name, [option, *some], repeat) for name, option in ways.items()]


def _measured(name: str, options: list[str], repeat: int) -> list[Timed]:
    judge = [*(sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls", "-q"), *options]
    judge += ["-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        return alternate(
            {
                f"{name}, experiments one after the other": lambda: command(
                    [*judge, "--etcd-concurrency=1"], directory
                ),
                f"{name}, experiments side by side": lambda: command(judge, directory),
            },
            repeat,
        )
