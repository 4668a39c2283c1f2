"""The kill matrix: which misconfigured cluster is found by which checks, on which etcd, as a page of docs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_etcdtls.versions import version_key

TESTS = Path(__file__).parents[1]

PROPERTY = "zoo"
"""Under which a test tells name and version of a cluster that was found as expected."""

_KILLS = re.compile(r'pytest\.mark\.kills\(\s*((?:"[^"]+",?\s*)+)\)')


@dataclass(frozen=True)
class Row:
    """One cluster that was started and judged exactly as expected.

    Attributes:
        name: of the member of the zoo.
        version: of its etcd.
        killed: ids of the checks that found what is wrong, by listener.
    """

    name: str
    what: str
    version: str
    killed: Mapping[str, frozenset[str]]


def killed_elsewhere() -> dict[str, list[str]]:
    """Return the checks that tests outside the zoo prove, on real etcds or fake servers, and where.

    Such a test carries ``@pytest.mark.kills("family.fact")``; a ``FakeEtcd`` of the zoo names them itself.
    """
    from zoo.members import FAKES  # imports every other module of this folder

    found: dict[str, list[str]] = defaultdict(list)
    for fake in FAKES:
        for check in fake.violated:
            found[check].append("tests/zoo/test_fake_servers.py")
    for path in sorted(TESTS.rglob("test_*.py")):
        for match in _KILLS.finditer(path.read_text(encoding="utf-8")):
            for check in re.findall(r'"([^"]+)"', match[1]):
                found[check].append(str(path.relative_to(TESTS.parent)))
    return dict(found)


def render(rows: Iterable[Row], checks: Iterable[str]) -> str:
    """Return the page.

    Args:
        rows: of a run in which nothing failed.
        checks: ids of the whole catalogue.
    """
    rows, checks = sorted(rows, key=lambda row: row.name), sorted(checks)
    versions = sorted({row.version for row in rows}, key=version_key)
    lines = [
        "# The kill matrix",
        "",
        "Every row is a real cluster that was misconfigured on purpose. The listed checks, and no others,",
        "found the fault: the tests compare the sets of violated, warned, not verified and inconclusive",
        "checks for equality. Warnings that a clean cluster of the same version has too are omitted. The",
        "numbers are numbers of findings. A hyphen means that this etcd release cannot have the fault.",
        "Written by `make kill-matrix`.",
        "",
        sums(rows, checks),
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
    clusters = Counter(row.version for row in rows)
    lines += [
        f"| **clusters** | {len(rows)} | {' | '.join(str(clusters[version]) for version in versions)} |"
    ]
    return "\n".join([*lines, "", *_by_check(rows), ""])


def sums(rows: Iterable[Row], checks: Iterable[str]) -> str:
    """Return the sums in one sentence, for the page and the README."""
    rows, checks = list(rows), set(checks)
    here = {check for row in rows for ids in row.killed.values() for check in ids}
    elsewhere = set(killed_elsewhere()) - here
    versions = sorted({row.version for row in rows}, key=version_key)
    return (
        f"{len({row.name for row in rows})} misconfigurations, {len(rows)} clusters on etcd "
        f"{', '.join(versions)}: each is found by exactly the expected checks, with 0 false alarms. "
        f"Of {len(checks)} checks {len(checks & here)} are proved on these clusters, "
        f"{len(checks & elsewhere)} in separate tests, on other real etcds or on fake servers."
    )


def _line(rows: list[Row], versions: list[str]) -> str:
    cells = {row.version: sum(len(ids) for ids in row.killed.values()) for row in rows}
    everywhere: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for listener, ids in row.killed.items():
            everywhere[listener] |= ids
    found = "; ".join(
        f"{where}: {', '.join(f'`{check}`' for check in sorted(ids))}"
        for where, ids in sorted(everywhere.items())
    )
    counts = " | ".join(str(cells.get(version, "-")) for version in versions)
    return f"| **{rows[0].name}**: {rows[0].what} | {found} | {counts} |"


def _by_check(rows: Iterable[Row]) -> list[str]:
    found_on: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for ids in row.killed.values():
            for check in ids:
                found_on[check].add(row.name)
    lines = [
        "## By check",
        "",
        "Separate tests prove the other checks: see [needs and proofs](facts.md#needs-and-proofs).",
        "",
        "| check | proved by |",
        "|---|---|",
    ]
    return lines + [
        f"| `{check}` | {', '.join(sorted(names))} |" for check, names in sorted(found_on.items())
    ]
