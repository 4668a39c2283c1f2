"""Hostile servers on loopback, and runs of pytest in a child process that is pointed at them."""

from __future__ import annotations

import gzip
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hostile.child_run import NOTING_ITS_PEAK, mebibytes
from impostors.impostor import Answer, answers, impostor
from servers import Handler, Server

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

    @cached_property
    def context(self) -> ssl.SSLContext:
        """Of a server that wants a certificate, as etcd does."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pki / "m0" / "server.crt", self.pki / "m0" / "server.key")
        context.load_verify_locations(self.pki / "client-ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2"])
        return context

    def etcd(self, overrides: Mapping[str, Answer] | None = None) -> str:
        """Return the URL of a server with an etcd's answers, but for those that are given."""
        responses = {**answers("3.6.16"), **(overrides or {})}
        return f"https://127.0.0.1:{self.raw(impostor(responses, lambda _: self.context))}"

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


@dataclass(frozen=True)
class Judged:
    """What a run in a child process came to.

    Attributes:
        out: standard output and standard error, as octets.
        memory: the most that the process held, in MiB; not a number if it was killed.
    """

    exit_code: int
    out: bytes
    seconds: float
    memory: float
    written: Mapping[Path, bytes]

    @property
    def report(self) -> dict[str, Any]:
        """The first report, which keeps its schema and is strict JSON."""
        (text, *_) = self.written.values()
        document: dict[str, Any] = json.loads(text.decode("utf-8"), parse_constant=_refuse)
        jsonschema.validate(document, schema())
        return document

    def outcomes(self, url: str) -> dict[str, str]:
        """Return outcome by check, of one listener."""
        found = self.report["results"]
        return {
            one["check"]: one["outcome"] for one in found if one["url"] == url and one["role"] != "cluster"
        }

    def result_of(self, check: str, url: str) -> dict[str, Any]:
        """Return the only result of a check on a listener."""
        (found,) = (
            result for result in self.report["results"] if (result["check"], result["url"]) == (check, url)
        )
        return dict(found)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


Judging = Callable[..., Judged]


@pytest.fixture
def judge(tmp_path: Path) -> Judging:
    """Runs the suite alone in a child process, with a JSON report."""

    def run(
        *options: str,
        reports: tuple[Path, ...] = (tmp_path / "report.json",),
        stdout: Callable[[], int] | None = None,
        shell: str = "",
        plugin: str = "",
    ) -> Judged:
        command = [sys.executable, "-c", NOTING_ITS_PEAK, str(tmp_path / "peak")]
        command += ["--pyargs", "pytest_etcdtls", "-p", "no:cacheprovider"]
        if plugin:
            (tmp_path / "sabotage.py").write_text(plugin, encoding="utf-8")
            command += ["-p", "sabotage"]
        command += [*options, *(f"--etcd-report={report}" for report in reports)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        path = os.pathsep.join(filter(None, (str(tmp_path), environment.get("PYTHONPATH"))))
        environment = {"COLUMNS": "80", **environment, "PYTHONPATH": path, "PYTHONUTF8": "1"}
        output = tmp_path / "output"
        began = time.monotonic()
        with output.open("wb") as file:
            child = subprocess.Popen(
                ["sh", "-c", f'"$@" {shell}', "sh", *command] if shell else command,
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout() if stdout else file,
                stderr=file,
            )
            timer = threading.Timer(400, child.kill)
            timer.start()
            _, status = os.waitpid(child.pid, 0)
            timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        return Judged(
            exit_code=child.returncode,
            out=output.read_bytes(),
            seconds=time.monotonic() - began,
            memory=mebibytes(tmp_path / "peak"),
            written={report: report.read_bytes() for report in reports if report.is_file()},
        )

    return run


def raw_characters(data: bytes) -> set[str]:
    """Return the characters of a text that a terminal could act on, line ends apart."""
    return {
        character
        for character in data.decode("utf-8", "surrogateescape")
        if not character.isprintable() and character != "\n"
    }
