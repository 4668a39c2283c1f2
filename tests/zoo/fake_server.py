"""A server that answers like a good etcd except for some requests, for faults that no etcd can have."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from impostors.impostor import Answer, answers, impostor
from servers import Server
from tls.etcd_alike import Files, judge

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Response

Answers = Mapping[str, Response]
"""Responses by method and path: ``{"GET /health": Response(status=503)}``."""


@dataclass(frozen=True, kw_only=True)
class FakeEtcd:
    """An etcd with one fault in what it answers over HTTP.

    It serves TLS 1.2 and 1.3 and wants a client certificate, as etcd does. It serves no gRPC.

    Attributes:
        name: in the ids of tests.
        what: what is wrong, one sentence.
        answers: the answers that differ from those of a good etcd, by method and path without the query.
        violated: exactly the checks that find something because of them, MUST and SHOULD. Every check of
            their families is run, and once more without ``answers``, where none of them may find anything.
        role: of the listener.
        to_everybody: clients without a certificate get the answers as well.
    """

    name: str
    what: str
    answers: Answers = field(default_factory=dict)
    violated: Iterable[str]
    role: Role = Role.CLIENT
    to_everybody: bool = False

    def proves(self) -> set[str]:
        """Return the ids of the checks that find the fault."""
        return set(self.violated)

    def judged(self, directory: Path, *, good: bool = False) -> dict[str, CheckResult]:
        """Start it, judge it by the families of ``violated`` and return the results by check.

        Args:
            directory: for its certificates.
            good: without its fault.
        """
        if unknown := self.proves() - set(catalogue()):
            raise AssertionError(
                f"{self.name}: there is no check {', '.join(sorted(unknown))}: correct violated= in tests/zoo"
            )
        families = {check.partition(".")[0] for check in self.violated}
        # This one waits for a quarter of a minute.
        patterns = [*sorted(families), *(["!tls.stalled-handshake"] if "tls" in families else [])]
        fake = replace(self, answers={}, to_everybody=False) if good else self
        with fake.started(directory) as (files, listener):
            results = judge(files.target(listener), *patterns)
        return {result.check: result for result in results}

    @contextmanager
    def started(self, directory: Path) -> Iterator[tuple[Files, Listener]]:
        """Start it on a free port of loopback, and stop it at the end."""
        pki = ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])
        pki.write(directory)
        files = Files(pki, directory)
        context = files.context(self.role)
        if self.to_everybody:
            context.verify_mode = ssl.CERT_OPTIONAL

        given = {
            request: Answer(answer.status or 200, answer.body, answer.headers)
            for request, answer in self.answers.items()
        }
        served = answers("3.6.16")
        if self.role is Role.METRICS:
            served = {path: served[path] for path in ("/health", "/livez", "/readyz", "/metrics")}
        handler = impostor({**served, **given}, lambda _: context)
        with Server(handler, seconds=10) as server:
            yield files, server.listener(role=self.role)
