"""The kill matrix: which misconfigured cluster is found by which checks, on which etcd, as a page of docs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]

_KILLS = re.compile(r'pytest\.mark\.kills\(\s*((?:"[^"]+",?\s*)+)\)')


@dataclass(frozen=True)
class Row:
    """What was seen of one member of the zoo on one etcd.

    Attributes:
        killed: check ids that found something, by listener.
    """

    name: str
    what: str
    version: str
    killed: Mapping[str, frozenset[str]]


def killed_elsewhere() -> dict[str, list[str]]:
    """Return the checks that no etcd can be brought to violate, and the test files whose servers do.

    Such a test carries ``@pytest.mark.kills("family.fact")``.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for match in _KILLS.finditer(path.read_text()):
            for check in re.findall(r'"([^"]+)"', match[1]):
                found[check].append(str(path.relative_to(TESTS.parent)))
    return dict(found)


def render(rows: Iterable[Row], checks: Iterable[str]) -> str:
    """Return the page."""
    rows = sorted(rows, key=lambda row: row.name)
    versions = sorted({row.version for row in rows}, key=_by_version)
    lines = [
        "# The kill matrix",
        "",
        "Every row is a deliberately misconfigured cluster that was started for real. What is listed was",
        "found on it, and nothing else was: the sets are asserted equal. Written by `make kill-matrix`.",
        "",
        f"{len({row.name for row in rows})} misconfigurations on etcd {', '.join(versions)}:",
        f"{len(rows)} clusters, {len(rows)} caught, 0 false alarms.",
        "",
        "## By misconfiguration",
        "",
        f"| misconfiguration | found by | {' | '.join(versions)} |",
        f"|---|---|{'---|' * len(versions)}",
    ]
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_name[row.name].append(row)
    lines += [_line(members, versions) for members in by_name.values()]
    return "\n".join([*lines, "", *_by_check(rows, checks), ""])


def _line(rows: list[Row], versions: list[str]) -> str:
    cells = {row.version: sum(len(ids) for ids in row.killed.values()) for row in rows}
    everywhere: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for listener, ids in row.killed.items():
            everywhere[listener] |= ids
    found = "; ".join(f"{where}: {', '.join(sorted(ids))}" for where, ids in sorted(everywhere.items()))
    counts = " | ".join(str(cells.get(version, "-")) for version in versions)
    return f"| **{rows[0].name}**: {rows[0].what} | {found} | {counts} |"


def _by_check(rows: list[Row], checks: Iterable[str]) -> list[str]:
    killers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for ids in row.killed.values():
            for check in ids:
                killers[check].add(row.name)
    elsewhere = killed_elsewhere()
    lines = ["## By check", "", "| check | proved by |", "|---|---|"]
    for check in sorted(checks):
        proofs = sorted(killers[check]) + [f"`{path}`" for path in sorted(set(elsewhere.get(check, [])))]
        lines.append(f"| `{check}` | {', '.join(proofs)} |")
    return lines


def _by_version(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
