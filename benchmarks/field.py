"""Judges the etcd of each Kubernetes release, and writes what differs into benchmarks/differences.md.

python benchmarks/field.py [--table]    builds these etcds, each with the Go of its release, runs the tests of
                                        misconfigured and of live clusters on each, and writes the table;
                                        with --table, the table alone

What Go alone changes is seen by building the etcd before a step with the Go after it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from differences import CACHE, PAGE, ROOT, cell, differences, measured, subject_of, values

from pytest_etcdtls.versions import version_key

BEGIN, END = (
    "<!-- measured by benchmarks/field.py -->\n",
    "<!-- end of what benchmarks/field.py measured -->\n",
)
FIELD = CACHE / "field"
TESTS = ("tests/zoo/test_zoo.py", "tests/live/test_clean.py")
ABOUT = """
on owned clusters of one member. Kubernetes: the newest patch release of each minor release; etcd: the one
that its kubeadm takes by default; Go: the one with which etcd is released. A row names what differs from the
row above. By Go alone: between the older of the two etcds as it was released, and the same built with the Go
of the newer one and its defaults.
"""


class Shipped(NamedTuple):
    """The etcd that kubeadm of a Kubernetes release takes by default."""

    kubernetes: str
    etcd: str


def output(*command: str | Path) -> str:
    """Return what a program prints; what it complains about is shown."""
    return subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout


def shipped() -> list[Shipped]:
    """Return them from Kubernetes 1.28 to the newest release."""
    return [Shipped(*line.split()) for line in output(ROOT / "docker" / "kubernetes-etcds.sh").splitlines()]


def build(releases: Iterable[str]) -> None:
    """Build the etcds that are not there yet."""
    script = ROOT / "docker" / "build-etcd.sh"
    subprocess.run([script, "--into=field", *dict.fromkeys(releases)], check=True)


def go_of(release: str) -> str:
    """Return the Go that built one: ``go1.24.9``."""
    return output(FIELD / release / "etcd", "--version").partition("Go Version: ")[2].split()[0]


def is_other_go(one: str, another: str) -> bool:
    """Return whether two releases were built with different minor versions of Go."""
    return go_of(one).split(".")[:2] != go_of(another).split(".")[:2]


def changes(old: str, new: str) -> str:
    """Return what differs between two etcds, as a cell of the table says it."""
    found_by = measured([FIELD / name / "etcd" for name in (old, new)])
    between = [target["label"] for target in found_by[0]["targets"]]
    told = [f"{subject_of(one)}: {' → '.join(values(one))}" for one in differences(found_by, between)]
    return "; ".join(map(cell, told)) or "-"


def changed(before: str, after: str) -> tuple[str, str]:
    """Return what differs by Go alone, and what by etcd."""
    if before == after:
        return "-", "-"
    if not is_other_go(before, after):
        return "-", changes(before, after)
    # The older etcd is built with the newer Go: the newer etcd may need it.
    if version_key(go_of(before)) < version_key(go_of(after)):
        between = f"{before}@{go_of(after)}"
        build([between])
        return changes(before, between), changes(between, after)
    between = f"{after}@{go_of(before)}"
    build([between])
    return changes(between, after), changes(before, between)


def rows(released: Sequence[Shipped]) -> Iterator[Sequence[str]]:
    """Yield a row for each Kubernetes release: what its etcd does otherwise than the one before."""
    known: dict[tuple[str, str], tuple[str, str]] = {}
    before = released[0].etcd
    for kubernetes, etcd in released:
        step = before, etcd
        if step not in known:
            known[step] = changed(before, etcd)
        yield kubernetes, etcd, go_of(etcd).removeprefix("go"), *known[step]
        before = etcd


def judge(etcds: Iterable[str]) -> int:
    """Run the tests on these etcds; return pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "--numprocesses=auto", "--dist=worksteal", "--timeout=300"]
    given = [f"--etcd-binary={FIELD / etcd / 'etcd'}" for etcd in etcds]
    return subprocess.run(
        [*command, *given, *TESTS], env={**os.environ, "TESTS": "all"}, cwd=ROOT, check=False
    ).returncode


def main() -> None:
    """Build, judge, and replace the measured part of the page."""
    released = shipped()
    etcds = [*dict.fromkeys(one.etcd for one in released)]
    build(etcds)
    status = judge(etcds) if sys.argv[1:] != ["--table"] else 0
    about = f"Measured on {datetime.now(UTC):%-d %B %Y} ({platform.system()}, {platform.machine()}) {ABOUT}"
    table = "\n".join(
        [
            "| Kubernetes | etcd | Go | differs by Go alone | differs by etcd |",
            "|---|---|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in rows(released)),
        ]
    )
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n".join(textwrap.wrap(about, 118))
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n\n{table}\n\n{END}{after}", encoding="utf-8")
    sys.exit(status)


if __name__ == "__main__":
    main()
