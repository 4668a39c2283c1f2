"""What is kept of a judgement: through the Python API, and of a run of pytest on a live cluster.

Only public names are used, and the JSON report, so that the files of two versions of the code can be
compared although everything inside has changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from connections import counted_connections
from msgspec import to_builtins

from pytest_etcdtls import Observer, Target, run_checks
from verdicts.volatile import Volatile

Values = dict[str, Any]
"""JSON values."""


def through_api(target: Target, checks: Sequence[str]) -> Values:
    """Judge a target by the checks that the patterns name, and return the results and the connections."""
    labels = {listener.address: listener.label for listener in target.listeners}
    volatile = Volatile({port: label for (_, port), label in labels.items()})
    with counted_connections() as made:
        results = run_checks(Observer(target), checks or None)
    connections: Counter[str] = Counter()
    for address, number in made.items():
        connections[labels.get(address, "elsewhere")] += number
    return {
        "results": volatile.value(_keyed(to_builtins(results))),
        "connections": volatile.value(dict(connections)),
    }


def through_pytest(
    options: Sequence[str], volatile: Volatile, directory: Path, formats: Sequence[str] = ()
) -> Values:
    """Judge by a run of pytest, and return its plan, its results and all that it printed and wrote.

    Args:
        options: that name the cluster.
        directory: an empty one, in which pytest runs.
        formats: suffixes of further reports.
    """
    run = _run(options, directory, ("json", *formats))
    printed, _, plan = run.stdout.partition(_PLAN)
    path = directory / "report.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if report is not None:
        volatile = volatile.knowing(dict(_ports(report)))
    found: Values = {
        "exit code": run.returncode,
        "plan": _lines(plan, volatile),
        "terminal": _lines(printed, volatile),
    }
    if report is not None:
        found |= volatile.value(_of_report(report))
    for suffix in formats:
        path = directory / f"report.{suffix}"
        found[path.name] = _lines(path.read_text(encoding="utf-8"), volatile) if path.exists() else None
    return found


def _ports(report: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the ports of listeners of which only the run knew, with a name for each."""
    for target in report["targets"]:
        for number, listener in enumerate(target["listeners"]):
            port = urlsplit(listener["url"]).port
            if port is not None:
                yield port, f"{listener['role']}-{number}"


_PLAN = "--- the plan\n"
_RUN_AND_PLAN = f"""
import sys, pytest
code = pytest.main(sys.argv[1:])
print({_PLAN!r}, end="", flush=True)
# In the same process, for Python takes as long to start and to import the plugin as a plan takes.
pytest.main([*sys.argv[1:], "--etcd-plan"])
sys.exit(code)
"""


def _run(options: Sequence[str], directory: Path, formats: Sequence[str]) -> subprocess.CompletedProcess[str]:
    reports = [f"--etcd-report=report.{suffix}" for suffix in formats]
    words = ["-p", "no:randomly", "-p", "no:cacheprovider", "--pyargs", "pytest_etcdtls"]
    return subprocess.run(
        [sys.executable, "-c", _RUN_AND_PLAN, *words, *options, *reports],
        cwd=directory,
        # Wide, so that no number that differs moves a word to another line.
        env={**os.environ, "COLUMNS": "2000"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
        timeout=600,
    )


def _lines(text: str, volatile: Volatile) -> list[str]:
    return [line.rstrip() for line in volatile.text(text).splitlines() if not line.startswith(_OF_MACHINE)]


_OF_MACHINE = ("platform ", "rootdir: ", "plugins: ")


def _keyed(results: Iterable[Mapping[str, Any]]) -> Values:
    """Return results by listener and check, and by target if there are several; without their times."""
    results = list(results)
    several = len({result["target"] for result in results}) > 1
    found: Values = {}
    for result in results:
        values = {name: value for name, value in result.items() if name != "seconds"}
        if cause := values["cause"]:
            values["cause"] = f"{cause['check']} on {cause['listener']}"
        target, listener, check = (values.pop(name) for name in ("target", "listener", "check"))
        found[f"{target} {listener} {check}" if several else f"{listener} {check}"] = values
    return found


def _of_report(document: Mapping[str, Any]) -> Values:
    """Return a JSON report without the times and the values of observations.

    Of these the kinds are kept. Their fields are those of the types in the code.
    """
    rest = {name: value for name, value in document.items() if name not in _COUNTED | _OF_RUN}
    return {
        "results": _keyed(document["results"]),
        "connections": _counted(document["connections"], _OF_CONNECTION),
        "observations": _counted(document["observations"], ("target", "role", "url", "kind", "key")),
        "report": rest,
    }


_COUNTED = {"results", "connections", "attempts", "observations"}
_OF_RUN = {"tool", "started_at", "seconds"}
_OF_CONNECTION = ("url", "purpose", "identity", "tls", "alpn", "outcome", "alert")


def _counted(entries: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> Values:
    counted: Counter[str] = Counter(
        "; ".join(f"{name} {entry[name]}" for name in fields if entry.get(name) is not None)
        for entry in entries
    )
    return dict(sorted(counted.items()))
