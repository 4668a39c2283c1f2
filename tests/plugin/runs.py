"""Runs of pytest in a user's directory, with their results."""

from __future__ import annotations

import codecs
import importlib
import json
import pkgutil
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hostile.child_run import ChildRun
from programs import run_program

import pytest_etcdtls
from pytest_etcdtls.checks import registry
from pytest_etcdtls.checks.registry import import_checks, registered
from pytest_etcdtls.report.document import schema

HOUSE = Path(__file__).parent / "house.py"
"""Checks of a user, one for every outcome, that need no observation."""

_APART = ("-W", "--timeout")
"""Prefixes of options that may change the process."""


# The whole plugin, before any run: what a run in this process imports itself is forgotten at its end.
for _module in pkgutil.walk_packages(pytest_etcdtls.__path__, "pytest_etcdtls."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)
importlib.import_module(
    "httpcore"
)  # httpx does that with its first client, and keeps the names of its errors
# A codec is one too. A thread that looks it up while a run ends does not find it, and Python remembers that.
codecs.lookup("utf-8-sig")


@dataclass
class Ran:
    """The result of a run of pytest."""

    result: pytest.RunResult
    path: Path
    written: str | None = None

    @property
    def exit_code(self) -> int:
        return int(self.result.ret)

    @property
    def out(self) -> str:
        return self.result.stdout.str()

    @property
    def verdict(self) -> str:
        """What the run says last, without its line breaks."""
        return " ".join(self.out[self.out.rindex("etcd TLS: ") :].split())

    @property
    def err(self) -> str:
        return self.result.stderr.str()

    @property
    def report(self) -> dict[str, Any]:
        """The JSON report, which keeps its schema."""
        assert self.written is not None, "no report was written"
        document: dict[str, Any] = json.loads(self.written)
        jsonschema.validate(document, schema())
        return document

    @property
    def outcomes(self) -> Mapping[str, str]:
        """Outcome by ``LISTENER::CHECK``; each pair is in the report once."""
        results = self.report["results"]
        by_id = {f"{result['listener']}::{result['check']}": result["outcome"] for result in results}
        assert len(by_id) == len(results)
        return by_id

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.outcomes.values())

    @property
    def connections(self) -> int:
        return len(self.report["connections"])

    def found(self, outcome: str) -> set[str]:
        """Return the checks with that outcome."""
        return {result["check"] for result in self.report["results"] if result["outcome"] == outcome}

    def result_of(self, check: str, listener: str | None = None) -> dict[str, Any]:
        """Return the only result of a check (on that listener)."""
        (found,) = (
            result
            for result in self.report["results"]
            if result["check"] == check and listener in (None, result["listener"])
        )
        return dict(found)


def run_apart(
    directory: Path,
    *options: str,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run the suite alone in a process of its own, and return what it came to.

    Args:
        directory: where it runs and writes its report.
        options: of pytest.
        prefix: the program that runs it, with its arguments.
        environment: variables besides those that every child has.
    """
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    suite = ("-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "pytest_etcdtls")
    done = run_program(
        [*prefix, sys.executable, *suite, *options, f"--etcd-report={report}"],
        directory,
        {"COLUMNS": "80", "PYTEST_ADDOPTS": "", **(environment or {})},
    )
    assert report.exists(), done.stdout + done.stderr
    result = pytest.RunResult(done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), 0.0)
    return Ran(result, report, report.read_text(encoding="utf-8"))


def ran_in_a_child(child: ChildRun) -> Ran:
    """Wait for a run whose report is ``report.json`` in its directory, and return what it came to."""
    ended, report = child.end(), child.directory / "report.json"
    result = pytest.RunResult(ended.exit_code, ended.output.splitlines(), [], ended.seconds)
    return Ran(result, report, report.read_text(encoding="utf-8") if report.exists() else None)


class Runner:
    """Runs pytest from a user's directory.

    In this process, which saves the start of Python and the imports; in one of its own where an option
    changes the process.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self.directory = pytester.path
        self.report = pytester.path / "report.json"
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, report: bool = True) -> Ran:
        """Run pytest with these arguments, and a JSON report."""
        self.report.unlink(missing_ok=True)
        options = [f"--etcd-report={self.report}"] if report else []
        result = self._result([*options, *arguments])
        return Ran(
            result, self.report, self.report.read_text(encoding="utf-8") if self.report.exists() else None
        )

    def _result(self, arguments: list[str]) -> pytest.RunResult:
        if any(argument.startswith(_APART) for argument in arguments):
            return self.pytester.runpytest_subprocess(*arguments, timeout=300)
        checks = registered()
        try:
            return self.pytester.runpytest_inprocess(*arguments)
        finally:
            # Those of a house are no others' business.
            registry._CHECKS.clear()
            registry._CHECKS.update(checks)
            import_checks.cache_clear()

    def write(self, **files: str) -> None:
        """Write Python files of the user's."""
        self.pytester.makepyfile(**files)

    def ini(self, text: str) -> None:
        """Write ``pytest.ini``."""
        self.pytester.makefile(".ini", pytest=f"[pytest]\n{text}\n")

    def waive(self, *checks: str, listener: str = "*", expires: str = "2999-12-31") -> str:
        """Write a file of waivers and return its option."""
        path = self.directory / "waivers.toml"
        text = f'[[waiver]]\nlistener = "{listener}"\nreason = "we know"\nexpires = {expires}\n'
        path.write_text("".join(f'{text}check = "{check}"\n' for check in checks), encoding="utf-8")
        return f"--etcd-waivers={path}"

    def read(self, name: str) -> str:
        """Return the text of a file in the directory."""
        return (self.directory / name).read_text(encoding="utf-8")

    def with_house(self) -> None:
        """Add the house's own checks: a plugin of the user's, named by ``PYTEST_PLUGINS``."""
        (self.directory / "house.py").write_text(HOUSE.read_text(encoding="utf-8"), encoding="utf-8")
        self._monkeypatch.setenv("PYTEST_PLUGINS", "house")
        self._monkeypatch.setenv("PYTHONPATH", str(self.directory), prepend=":")
        self._monkeypatch.syspath_prepend(self.directory)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Runs pytest as a user does, without variables of the environment that change the result."""
    for name in (
        "PYTEST_ADDOPTS",
        "PYTEST_PLUGINS",
        "ETCDCTL_CACERT",
        "ETCDCTL_CERT",
        "ETCDCTL_KEY",
        "ETCDCTL_USER",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return Runner(pytester, monkeypatch)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A port that records connections, for runs that must make none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def nobody_came(server: socket.socket) -> bool:
    """Return whether there was no connection."""
    try:
        server.accept()
    except BlockingIOError:
        return True
    return False


def url_of(server: socket.socket) -> str:
    """Return the URL of the socket."""
    return f"https://127.0.0.1:{server.getsockname()[1]}"
