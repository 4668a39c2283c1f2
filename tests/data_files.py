"""The table beside the pages that programs read: the kill matrix, as CSV and JSON.

``python -m data_files [DIRECTORY]`` writes the kill matrix, by default to ``docs/data``. ``make site`` writes
it into the site and a release into ``docs``, so that no change of a check has to.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zoo.members import ZOO

VERSIONS = ("3.4.23", "3.5.1", "3.5.33", "3.6.16", "3.7.3")
"""The etcds that the misconfigurations are judged on."""


def _files(path: str, rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {f"{path}.csv": _csv(rows), f"{path}.json": json.dumps(rows, indent=1) + "\n"}


def _kills() -> Iterator[Mapping[str, str]]:
    """Yield which check finds which misconfiguration, as the tests compare it with real clusters."""
    for member in ZOO:
        found: dict[tuple[str, str], list[str]] = {}
        for version in filter(member.is_of, VERSIONS):
            for listener, checks in member.found_by(version).items():
                for check in sorted(checks):
                    found.setdefault((listener, check), []).append(version)
        for (listener, check), versions in found.items():
            yield {
                "misconfiguration": member.name,
                "what": member.what,
                "listener": listener,
                "check": check,
                "etcd": " ".join(versions),
            }


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes the kill matrix as CSV and JSON.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path("docs/data"))
    directory = parser.parse_args().directory
    for name, text in _files(str(directory / "kill-matrix"), [*_kills()]).items():
        Path(name).write_text(text, encoding="utf-8")
