"""Starts servers that imitate etcd as the listeners of one target, and judges them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from impostors.impostor import Answer, Answers, answers, impostor
from servers import Handler, Server, etcd_context

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Listener, PortCredentials, SigningKey, Target, TrustBundle


@dataclass
class FakeCluster:
    """Servers that imitate a cluster.

    Attributes:
        pki: the PKI of their certificates.
        directory: the directory of its files.
        serve: starts a server.
        listeners: the listeners so far.
        responses: the responses of the last one; they may be changed while it runs.
    """

    pki: ClusterPKI
    directory: Path
    serve: Callable[[Handler], Server]
    listeners: list[Listener] = field(default_factory=list)
    responses: dict[str, Answer] = field(default_factory=dict)

    def put_up(
        self,
        role: Role = Role.CLIENT,
        *,
        overrides: Answers | None = None,
        version: str = "3.6.16",
        context: Callable[[socket.socket], ssl.SSLContext] | None = None,
        refuses: Callable[[ssl.SSLSocket, bytes], bool] = lambda _stream, _first: False,
    ) -> Listener:
        """Start a server with the responses of an etcd, except for the overrides, and return its listener."""
        self.responses = {**answers(version), **(overrides or {})}
        usual = etcd_context(self.directory, role)
        server = self.serve(impostor(self.responses, context or (lambda _: usual), refuses))
        self.listeners.append(server.listener(role=role))
        return self.listeners[-1]

    def target(self) -> Target:
        """Return the servers as the target of a live cluster."""
        pki = self.pki
        client = PortCredentials(
            server_ca=TrustBundle((pki.server_ca.certificate,), "ca"),
            identities=(pki.client,),
            client_trust=TrustBundle((pki.client_ca.certificate,), "ca"),
            signing_key=SigningKey(pki.client_ca.certificate, pki.client_ca.key),
            revoked=pki.revoked,
        )
        peer = replace(
            client,
            server_ca=TrustBundle((pki.peer_ca.certificate,), "peer ca"),
            identities=(pki.peer_client,),
            signing_key=None,
            revoked=None,
        )
        return Target(
            label="impostor", origin="live", listeners=tuple(self.listeners), client=client, peer=peer
        )

    def judge(self, *checks: str) -> list[CheckResult]:
        """Judge with these checks; one connection at a time, always in the same order."""
        return run_checks(Observer(self.target(), Bounds(timeout=10, concurrency=1)), select(checks))


@pytest.fixture
def fake(pki: tuple[ClusterPKI, Path], serve: Callable[[Handler], Server]) -> FakeCluster:
    """Servers that imitate a cluster."""
    return FakeCluster(*pki, serve)
