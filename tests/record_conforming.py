"""Makes ``pytest_etcdtls/run/conforming.json`` from etcds that it starts: ``python -m record_conforming``.

It asks for every fact of every check, for each role, so the file has exactly the requests that proving a
check may make, and some more that a check of a user's own may ask for.
"""

from __future__ import annotations

import dataclasses
import json
import runpy
import sys
import threading
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from conforming import roles_of
from msgspec.structs import asdict, fields
from starting import start_process
from unrecorded import add_unrecorded

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.conforming import (
    BOUNDS,
    CLUSTERS,
    FILE,
    certificate_names,
    hello_key,
    observed,
    request_key,
    views,
)
from pytest_etcdtls.run.observer import Network, Observer
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Request
from pytest_etcdtls.tls.hello import ClientHello, HelloExchange

VERSION = "3.6.16"
"""The etcd that is recorded."""

Answers = dict[str, dict[str, dict[str, Any]]]
"""By label of the listener and key of the request."""

OF_THE_REQUEST = {"url", "purpose", "identity", "protocol", "offered_version", "offered"}
OF_THE_RUN = {"started_at", "local_address", "server_address", "milliseconds", "proved"}

FURTHER = [
    f"{method} {path}" for path in ("/version", "/health") for method in ("HEAD", "POST", "PUT", "DELETE")
]
"""Exchanges that no check of ours needs, for those of users."""

_METRICS = (
    "etcd_server_",
    "etcd_cluster_",
    "etcd_debugging_server",
    "etcd_network_active_peers",
    "go_info",
    "process_start",
)


class Recorder(Network):
    """Connects, and notes what was answered.

    Args:
        names: of certificates and of subjects of CAs, by DER.
    """

    def __init__(self, names: Mapping[bytes, str]) -> None:
        self.answers: Answers = {}
        self._names = names
        self._silent: dict[str, dict[str, HelloExchange]] = {}
        self._lock = threading.Lock()

    def attempt(self, there: Listener, request: Request, timeout: float) -> Attempt:
        """Connect and note the attempt."""
        attempt = super().attempt(there, request, timeout)
        answer = self._written(attempt)
        if request.keep is not None and request.keep.session is not None:
            answer["tickets"] = [asdict(ticket) for ticket in request.keep.tickets]
        self._note(there, request_key(there, request), answer)
        return attempt

    def hello(self, there: Listener, hello: ClientHello, timeout: float) -> HelloExchange:
        """Send the hello and note the reply."""
        exchange = super().hello(there, hello, timeout)
        self._note(there, hello_key(there, hello), self._written(exchange))
        return exchange

    def silence(self, there: Listener, purpose: str, seconds: float) -> HelloExchange:
        """Keep silent once, since it takes long, and note the end."""
        if purpose not in self._silent.setdefault(there.label, {}):
            self._silent[there.label][purpose] = super().silence(there, purpose, seconds)
        exchange = self._silent[there.label][purpose]
        connected = {"local_address": "127.0.0.1:0"} if exchange.local_address else {}
        self._note(there, purpose, self._written(exchange) | connected)
        return exchange

    def _note(self, there: Listener, key: str, answer: dict[str, Any]) -> None:
        with self._lock:
            before = self.answers.setdefault(there.label, {}).setdefault(key, answer)
            before |= {name: answer[name] for name in ("tickets",) if name in answer}
        for name in ("ending", "reply", "alert", "phase", "version", "server_hello"):
            if before.get(name) != answer.get(name):
                raise AssertionError(
                    f"{there.label} answers '{key}' with {answer}, and before with {before}: if these are "
                    "two requests, give each its purpose"
                )

    def _written(self, connection: Attempt | HelloExchange) -> dict[str, Any]:
        return {
            name: self._value(name, value)
            for name, value in _differing(connection)
            if name not in OF_THE_REQUEST | OF_THE_RUN
        }

    def _value(self, name: str, value: Any) -> Any:
        if name in ("chain", "announced_ca"):
            return [self._names[der] for der in value]
        if name == "response":
            return {
                "status": value.status,
                "headers": {of: "" if of == "date" else text for of, text in sorted(value.headers.items())},
                "body": _body(value.body),
            }
        if name == "first_bytes":
            return _plain(value.partition(b"\r\n")[0])
        if name == "server_hello":
            return {of: _plain(one) for of, one in _differing(value)}
        return _plain(value)


def _differing(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and value of the fields that differ from their defaults."""
    for field in fields(value):
        its = getattr(value, field.name)
        if its != field.default:
            yield field.name, its


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, frozenset):
        return sorted(value)
    return value.value if isinstance(value, Enum) else value


def _body(body: bytes) -> str:
    """Return a body as text; of metrics, those about versions and the server."""
    text = body.decode("latin-1")
    if not text.startswith("# HELP"):
        return text
    return "".join(line for line in text.splitlines(keepends=True) if line.startswith(_METRICS))


def ask(observer: Observer, had: set[tuple[str, Role | None]]) -> None:
    """Ask for the facts of every check, each on a listener of each role, and for the further exchanges.

    Args:
        observer: of a recorded target.
        had: checks and roles for which a target before had all facts; those of this one are added.
    """
    add_unrecorded(observer)
    for check in catalogue().values():
        for role in roles_of(check):
            here = observer.target.first_of(role)
            if (check.id, role) in had or (role is not None and here is None):
                continue
            if not observed(check, observer, here)[1]:
                had.add((check.id, role))
    for role in (Role.CLIENT, Role.METRICS, Role.PEER):
        here = observer.target.first_of(role)
        for key in FURTHER if here else ():
            if (key, role) not in had:
                had.add((key, role))
                observer.get(ClientExchange, key, here)


def record(binary: Path) -> dict[str, Any]:
    """Start the clusters with that etcd, ask them, and return the document."""
    clusters: dict[str, Any] = {}
    version = ""
    had: set[tuple[str, Role | None]] = set()
    for name, config in CLUSTERS.items():
        with start_process(config, binary) as cluster:
            recorder = Recorder(certificate_names(cluster.pki))
            for target in views(cluster.target()):
                ask(Observer(target, dataclasses.replace(BOUNDS, concurrency=4), recorder), had)
            version = cluster.version
            clusters[name] = {
                "ports": sorted(listener.port for listener in cluster.target().listeners),
                "arguments": {
                    member.name: [
                        "etcd",
                        *(one.replace(str(cluster.directory), "{directory}") for one in member.argv[1:]),
                    ]
                    for member in cluster.members
                },
                "answers": recorder.answers,
            }
    return {"etcd": version, "clusters": clusters}


def render(document: Mapping[str, Any]) -> str:
    """Return the file: a line for each answer, in order, so that a difference can be read."""

    def lines(value: Any, depth: int) -> Iterator[str]:
        if not isinstance(value, dict) or depth == 5:
            yield json.dumps(value, sort_keys=True)
            return
        yield "{\n"
        for number, (key, inner) in enumerate(sorted(value.items())):
            yield ",\n" * (number > 0) + " " * (depth + 1) + json.dumps(key) + ": "
            yield from lines(inner, depth + 1)
        yield f"\n{' ' * depth}}}"

    return "".join(lines(document, 0)) + "\n"


def main() -> int:
    """Write the file and return the exit code."""
    conftest = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    binaries: dict[str, Path] = conftest["find_binaries"]()
    if VERSION not in binaries:
        sys.exit(f"there is no etcd {VERSION}: run make etcd")
    FILE.write_text(render(record(binaries[VERSION])), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
