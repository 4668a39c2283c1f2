"""Hostile servers on loopback, and runs of pytest in a child process that is pointed at them."""

from __future__ import annotations

import gzip
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from impostors.impostor import Answer, answers, impostor
from servers import Handler

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.pki_plan import MemberNames, PKIPlan
from pytest_etcdtls.pki.profile import SERVER, Profile
from pytest_etcdtls.report.json import schema

FORGED = "149 passed, 0 failed"
"""A line that a hostile server wants to stand in the terminal."""


class ThreadedServer:
    """Hands each connection to a function in a thread of its own."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._handler(connection)
            except (OSError, ValueError):
                return

    def close(self) -> None:
        """Stop accepting."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(timeout=10)


@dataclass
class Hostile:
    """Puts up servers that pass as an etcd but for what they are told.

    Attributes:
        directory: for the PKIs.
    """

    directory: Path
    _servers: list[ThreadedServer]

    def etcd(self, lies: Mapping[str, Answer] | None = None, *, server: Profile = SERVER) -> list[str]:
        """Return the options that judge a server with these answers and a certificate of that profile."""
        directory = self.directory / f"pki-{len(self._servers)}"
        ClusterPKI.generate(PKIPlan(server=server), [MemberNames("m0")]).write(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "m0" / "server.crt", directory / "m0" / "server.key")
        context.load_verify_locations(directory / "client-ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2"])
        told = {**answers("3.6.16"), **(lies or {})}
        port = self.raw(impostor(told, lambda _: context))
        return [
            f"--etcd-endpoint=https://127.0.0.1:{port}",
            f"--etcd-cacert={directory / 'client-ca.crt'}",
            f"--etcd-cert={directory / 'client.crt'}",
            f"--etcd-key={directory / 'client.key'}",
        ]

    def raw(self, handler: Handler) -> int:
        """Return the port of a server that does this with each connection."""
        self._servers.append(ThreadedServer(handler))
        return self._servers[-1].port


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Hostile]:
    """Puts up hostile servers, which are closed at the end."""
    servers: list[ThreadedServer] = []
    yield Hostile(tmp_path, servers)
    for server in servers:
        server.close()


def garbage(connection: socket.socket) -> None:
    """Answer anything with what is neither TLS nor HTTP."""
    connection.recv(65536)
    connection.sendall(b"SSH-2.0-garbage\r\n")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))


def bomb(layers: int) -> bytes:
    """Return zeros, compressed so many times with gzip: a few hundred octets that stand for gigabytes."""
    data = gzip.compress(bytes(300 * 1024 * 1024), 9, mtime=0)
    for _ in range(layers - 1):
        data = gzip.compress(data, 9, mtime=0)
    return data


@dataclass(frozen=True)
class Judged:
    """What a run in a child process came to.

    Attributes:
        out: standard output and standard error, as octets.
        memory: the most that the process and its own children held, in MiB.
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

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcome by check, of one listener."""
        return {result["check"]: result["outcome"] for result in self.report["results"]}

    def result_of(self, check: str) -> dict[str, Any]:
        """Return the only result of a check."""
        (found,) = (result for result in self.report["results"] if result["check"] == check)
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
        command = [sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls", "-p", "no:cacheprovider"]
        if plugin:
            (tmp_path / "sabotage.py").write_text(plugin)
            command += ["-p", "sabotage"]
        command += [*options, *(f"--etcd-report={report}" for report in reports)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment |= {"COLUMNS": "80", "PYTHONPATH": str(tmp_path), "PYTHONUTF8": "1"}
        output = tmp_path / "output"
        began = time.monotonic()
        with output.open("wb") as file:
            child = subprocess.Popen(
                ["/bin/sh", "-c", f'"$@" {shell}', "sh", *command] if shell else command,
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout() if stdout else file,
                stderr=file,
            )
            timer = threading.Timer(240, child.kill)
            timer.start()
            _, status, usage = os.wait4(child.pid, 0)
            timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        return Judged(
            exit_code=child.returncode,
            out=output.read_bytes(),
            seconds=time.monotonic() - began,
            memory=usage.ru_maxrss / 1024,
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
