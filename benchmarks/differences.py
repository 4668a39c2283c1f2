"""Measures what differs between lines and patches of etcd, and writes it into benchmarks/differences.md.

python benchmarks/differences.py        judges each etcd at hand: the newest of each line, the oldest where
                                        there are several, and the next one, with ECDSA and with RSA keys
"""

from __future__ import annotations

import json
import os
import platform
import re
import runpy
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_etcdtls.facts.behaviour import SEPARATOR
from pytest_etcdtls.report.differences import OUTCOME, TOPICS, Direction

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "benchmarks" / "differences.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-etcdtls"
BEGIN, END = "<!-- measured by benchmarks/differences.py -->\n", "<!-- end of what was measured -->\n"
LINE = re.compile(r"\d+\.\d+")
EVERYTHING = "--etcd-check=*,tls.stalled-handshake"
"""The check that waits for a connection to be closed must be asked for."""


def judged(binaries: Sequence[Path], *options: str) -> dict[str, Any]:
    """Return the report of a run with these etcds."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--pyargs",
            "pytest_etcdtls",
            "-q",
            "-p",
            "no:cacheprovider",
        ]
        command += [f"--etcd-binary={binary}" for binary in binaries]
        ended = subprocess.run(
            [*command, f"--etcd-report={report}", *options],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
        if not report.exists():
            sys.exit(ended.stdout)
        document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return document


def chains(versions: Sequence[str]) -> list[list[str]]:
    """Return the newest of each line, and for lines with several the oldest and the newest."""
    lines: dict[str, list[str]] = {}
    for version in versions:
        if (line := LINE.match(version)) is not None:
            lines.setdefault(line[0], []).append(version)
    patches = [[found[0], found[-1]] for found in lines.values() if len(found) > 1]
    return [[found[-1] for found in lines.values()], *patches]


def sections(chain: Sequence[str], binaries: Mapping[str, Path]) -> Iterator[str]:
    """Yield a table for each step of a chain of versions."""
    found_by = measured([binaries[version] for version in chain])
    report = found_by[0]
    go = {
        target["label"]: next(one["value"] for one in target["behaviour"] if one["topic"] == "build")
        for target in report["targets"]
    }
    for old, new in pairwise(chain):
        between = [f"etcd-{old}", f"etcd-{new}"]
        yield f"### {old} → {new}"
        yield f"Built with {go[between[0]]} and {go[between[1]]}."
        found = differences(found_by, between)
        if found:
            said = [one["meaning"] for one in found]
            rows = [row(one, seen=one["meaning"] in said[:number]) for number, one in enumerate(found)]
            yield "\n".join(["| where | what | before | after | meaning |", "|---|---|---|---|---|", *rows])
        else:
            yield "No difference."


def measured(etcds: Sequence[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the reports of runs with these etcds, with ECDSA and with RSA keys."""
    return judged(etcds, EVERYTHING), judged(etcds, "--etcd-check=tls", "--etcd-key-type=rsa-2048")


def differences(
    found_by: tuple[Mapping[str, Any], Mapping[str, Any]], between: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what differs between two targets of such runs, the most important first."""
    report, rsa = found_by
    return sorted([*_differences(report, between), *_with_rsa(rsa, report, between)], key=_importance)


def _differences(report: Mapping[str, Any], between: Sequence[str]) -> list[dict[str, Any]]:
    return [one for one in report["differences"] if one["between"] == between and not one["follows"]]


def _with_rsa(
    rsa: Mapping[str, Any], report: Mapping[str, Any], between: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the differences that occur with RSA keys only."""
    known = {
        (one["topic"], subject, one["after"])
        for one in _differences(report, between)
        for subject in one["subjects"]
    }
    for one in _differences(rsa, between):
        new = [name for name in one["subjects"] if (one["topic"], name, one["after"]) not in known]
        if new:
            yield {**one, "subjects": new, "subject": f"{one['subject']}, with an RSA key", "rsa": True}


def _importance(one: Mapping[str, Any]) -> tuple[int, int]:
    """Return what orders differences of two runs as one run does."""
    topic = TOPICS.index(one["topic"]) if one["topic"] in TOPICS else len(TOPICS)
    judgement = one["judgement"]
    last = one["topic"] == OUTCOME and judgement == Direction.CHANGED
    return [*Direction].index(judgement), len(TOPICS) + 1 if last else topic


def values(one: Mapping[str, Any]) -> tuple[str, str]:
    """Return what is different before and after, without the values that both have."""
    before, after = one["before"], one["after"]
    if SEPARATOR in before + after:
        old, new = before.split(SEPARATOR), after.split(SEPARATOR)
        before = ", ".join(value for value in old if value not in new) or "-"
        after = ", ".join(value for value in new if value not in old) or "-"
    return before, after


def subject_of(one: Mapping[str, Any]) -> str:
    """Return what a difference is about, as a table says it."""
    if one["topic"] != OUTCOME:
        return str(one["subject"])
    subject = ", ".join(f"`{check}`" for check in one["subjects"])
    return subject + (", with an RSA key" if one.get("rsa") else "")


def cell(text: str) -> str:
    """Return a text as a cell of a table in Markdown."""
    return text.replace("|", "/").replace("_", "\\_")


def row(one: Mapping[str, Any], *, seen: bool) -> str:
    """Return a row of a table; a meaning that a row above has is not repeated."""
    places = ", ".join(listener.removesuffix("-m0") for listener in one["listeners"])
    before, after = values(one)
    subject = subject_of(one)
    source = f" ({one['source']})" if one["source"] and one["meaning"] else ""
    meaning = "as above" if seen and one["meaning"] else f"{one['meaning']}{source}"
    worse = f"**{one['judgement']}** " if one["judgement"] != Direction.CHANGED else ""
    cells = (places, f"{worse}{subject}", before, after, meaning)
    return f"| {' | '.join(map(cell, cells))} |"


def main() -> None:
    """Measure, and replace the measured part of the page."""
    binaries: dict[str, Path] = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["find_binaries"]()
    binaries |= {etcd.parent.name: etcd for etcd in sorted((CACHE / "next").glob("*/etcd"))[-1:]}
    found = chains([*binaries])
    about = (
        f"Measured on {datetime.now(UTC):%-d %B %Y} ({platform.system()}, {platform.machine()}, Python "
        f"{platform.python_version()}) on owned clusters of one member, with ECDSA P-256 keys unless the row "
        "says otherwise. A row is a difference that is the same on the listeners and in the cases that it "
        "names."
    )
    parts = [
        "\n".join(textwrap.wrap(about, 118)),
        *(part for chain in found for part in sections(chain, binaries)),
    ]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{(chr(10) * 2).join(parts)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
