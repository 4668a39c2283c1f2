"""The report of a run: what every format is made from. Values only."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.backends.openssl.backend import backend

from pytest_etcdtls._version import __version__
from pytest_etcdtls.observations.api import Exchange
from pytest_etcdtls.observations.chain import ServedChain
from pytest_etcdtls.observations.greeting import Connection
from pytest_etcdtls.report.facts import is_reported
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.target import Listener, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A target, and what was seen of it.

    Attributes:
        facts: listener label (``None`` for the whole target), key, observation.
        connections: every connection that was made, in order.
    """

    target: Target
    facts: tuple[tuple[str | None, str | None, Any], ...] = ()
    connections: tuple[Connection, ...] = ()

    def observations(self) -> Iterator[tuple[Listener | None, str | None, Any]]:
        """Yield listener, key and observation, those left out that probes only hand to each other."""
        by_label = {listener.label: listener for listener in self.target.listeners}
        for label, key, fact in self.facts:
            if is_reported(fact):
                yield by_label.get(label or ""), key, fact

    def served(self, label: str) -> ServedChain | None:
        """Return what a listener served, if that was seen."""
        return next(
            (fact for at, _, fact in self.facts if at == label and isinstance(fact, ServedChain)), None
        )

    @property
    def etcd_version(self) -> str | None:
        """As known beforehand, else as the first listener said that answered ``/version``."""
        if self.target.etcd_version is not None:
            return self.target.etcd_version
        return next((found for _, _, fact in self.facts if (found := _version(fact)) is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run came to.

    Attributes:
        started_at: aware UTC.
        seconds: how long it took.
        partial: it ended before everything selected was judged.
        results: one per selected check and listener.
    """

    started_at: datetime
    seconds: float
    partial: bool
    seen: tuple[Seen, ...]
    results: tuple[CheckResult, ...]

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many results there are of each outcome, zeros included."""
        counted = Counter(result.outcome for result in self.results)
        return {outcome: counted[outcome] for outcome in Outcome}

    @property
    def connections(self) -> int:
        """How many connections were made."""
        return sum(len(seen.connections) for seen in self.seen)


def tool() -> dict[str, str]:
    """Return what made the report."""
    return {
        "name": "pytest-etcdtls",
        "version": __version__,
        "python": platform.python_version(),
        "openssl": openssl_version(),
    }


def openssl_version() -> str:
    """Return the version of the OpenSSL that makes the handshakes."""
    return backend.openssl_version_text()


def _version(fact: object) -> str | None:
    if not isinstance(fact, Exchange) or fact.path != "/version" or fact.attempt.response is None:
        return None
    try:
        body = json.loads(fact.attempt.response.body)
    except ValueError:
        return None
    version = body.get("etcdserver") if isinstance(body, dict) else None
    return version if isinstance(version, str) else None
