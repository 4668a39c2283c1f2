"""Hostile servers on loopback, and runs of pytest in a child process that is pointed at them."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hostile.child_run import ChildRun, Ended
from impostors.impostor import Answer, answers, impostor
from servers import Handler, Server, etcd_context

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, MemberNames, PKIPlan, Profile
from pytest_etcdtls.report.document import schema

FORGED = "149 passed, 0 failed"
"""A line that a hostile server wants to stand in the terminal."""
CONTROLS = f"\r\n{FORGED}\n\x1b[2K\x07\x7f\u009b\u202e\u200b"
"""That line, and what moves the cursor, rings, erases and reorders."""


@dataclass
class Hostile:
    """Puts up servers that pass as an etcd but for given responses.

    Attributes:
        directory: for the PKIs.
    """

    directory: Path
    server: Profile = SERVER
    authority: Profile = AUTHORITY
    _servers: list[Server] = field(default_factory=list)

    @cached_property
    def pki(self) -> Path:
        """The directory of the PKI, of certificates with these profiles."""
        directory = self.directory / "pki"
        plan = PKIPlan(server=self.server, client_authority=self.authority)
        ClusterPKI.generate(plan, [MemberNames("m0")]).write(directory)
        return directory

    def etcd(self, overrides: Mapping[str, Answer] | None = None) -> str:
        """Return the URL of a server with an etcd's answers, but for those that are given."""
        responses = {**answers("3.6.16"), **(overrides or {})}
        context = etcd_context(self.pki)
        return f"https://127.0.0.1:{self.raw(impostor(responses, lambda _: context))}"

    def options(self, *urls: str) -> list[str]:
        """Return the options that judge these endpoints."""
        return [
            *(f"--etcd-endpoint={url}" for url in urls),
            f"--etcd-cacert={self.pki / 'client-ca.crt'}",
            f"--etcd-cert={self.pki / 'client.crt'}",
            f"--etcd-key={self.pki / 'client.key'}",
        ]

    def raw(self, handler: Handler) -> int:
        """Return the port of a server that does this with each connection."""
        self._servers.append(Server(handler, seconds=None))
        return self._servers[-1].port


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Hostile]:
    """Puts up hostile servers, which are closed at the end."""
    servers = Hostile(tmp_path)
    yield servers
    for server in servers._servers:
        server.close()


@cache
def bomb(layers: int) -> bytes:
    """Return 1 GiB of zeros, compressed so many times with gzip."""
    if layers > 1:
        return gzip.compress(bomb(layers - 1), 9, mtime=0)
    packing, zeros = zlib.compressobj(9, wbits=31), bytes(1024 * 1024)
    return b"".join([*(packing.compress(zeros) for _ in range(1024)), packing.flush()])


@dataclass(frozen=True, kw_only=True)
class Judged(Ended):
    """What a run in a child process came to.

    Attributes:
        written: the reports by path.
    """

    written: Mapping[Path, bytes]

    @cached_property
    def report(self) -> dict[str, Any]:
        """The first report, which keeps its schema and is strict JSON."""
        (text, *_) = self.written.values()
        document: dict[str, Any] = json.loads(text.decode("utf-8"), parse_constant=_refuse)
        jsonschema.validate(document, schema())
        return document

    def results(self, url: str) -> dict[str, dict[str, Any]]:
        """Return the results by check, of one listener."""
        found = self.report["results"]
        return {one["check"]: one for one in found if one["url"] == url and one["role"] != "cluster"}

    def outcomes(self, url: str) -> dict[str, str]:
        """Return outcome by check, of one listener."""
        return {check: result["outcome"] for check, result in self.results(url).items()}


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


Judging = Callable[..., Judged]


@pytest.fixture
def judge(tmp_path: Path) -> Judging:
    """Runs the suite alone in a child process, with a JSON report."""

    def run(
        *options: str,
        reports: tuple[Path, ...] = (tmp_path / "report.json",),
        shell: str = "",
        plugin: str = "",
    ) -> Judged:
        (tmp_path / "sabotage.py").write_text(plugin, encoding="utf-8")
        path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
        ended = ChildRun(
            tmp_path,
            [
                *("--pyargs", "pytest_etcdtls", "-p", "sabotage", *options),
                *(f"--etcd-report={report}" for report in reports),
            ],
            environment={"COLUMNS": os.environ.get("COLUMNS", "80"), "PYTHONPATH": path, "PYTHONUTF8": "1"},
            shell=shell,
        ).end()
        written = {report: report.read_bytes() for report in reports if report.is_file()}
        return Judged(**asdict(ended), written=written)

    return run


def raw_characters(data: bytes) -> set[str]:
    """Return the characters of a text that a terminal could act on, line ends apart."""
    return {
        character
        for character in data.decode("utf-8", "surrogateescape")
        if not character.isprintable() and character != "\n"
    }
