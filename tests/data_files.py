"""The table beside the pages that programs read: the kill matrix, as CSV.

``python -m data_files [DIRECTORY]`` writes it, by default to ``docs/data``. ``make site`` writes it into the
site and a release into ``docs``, so that no change of a check has to.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from zoo.members import ZOO

VERSIONS = ("3.4.23", "3.5.1", "3.5.33", "3.6.16", "3.7.3")
"""The etcds that the misconfigurations are judged on."""


def kills() -> Iterator[tuple[str, ...]]:
    """Yield which check finds which misconfiguration, as the tests compare it with real clusters."""
    yield ("misconfiguration", "what", "listener", "check", "etcd")
    for member in ZOO:
        found: dict[tuple[str, str], list[str]] = {}
        for version in filter(member.is_of, VERSIONS):
            for listener, checks in member.found_by(version).items():
                for check in sorted(checks):
                    found.setdefault((listener, check), []).append(version)
        for (listener, check), versions in found.items():
            yield (member.name, member.what, listener, check, " ".join(versions))


if __name__ == "__main__":
    [directory] = sys.argv[1:] or ["docs/data"]
    with Path(directory, "kill-matrix.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(kills())
