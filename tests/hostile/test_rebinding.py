"""A name whose address changes during the run: the password goes to the server that proved who it is."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from impostors.impostor import Answer, answers, impostor
from impostors.staging import FakeCluster
from servers import Handler, Server, etcd_context

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds


@pytest.mark.parametrize("turns", [1, 5, 1000])
def test_a_password_does_not_follow_a_name(
    pki: tuple[ClusterPKI, Path], serve: Callable[[Handler], Server], tmp_path: Path, turns: int
) -> None:
    """So many connections reach one server, the following as many the other one, and so on."""
    ClusterPKI.generate(PKIPlan(), [MemberNames("m0")]).write(tmp_path)
    another = etcd_context(tmp_path, verify=ssl.CERT_NONE)
    contexts = [etcd_context(pki[1]), another]
    number, here, receivers = itertools.count(), threading.local(), set()

    def reached(_: socket.socket) -> ssl.SSLContext:
        context = here.context = contexts[next(number) // turns % 2]
        return context

    class Responses(dict[str, Answer]):
        def get(self, path: str, default: Answer | None = None) -> Answer | None:  # type: ignore[override]
            if path == "/etcdserverpb.Auth/Authenticate":
                receivers.add(here.context)
            return super().get(path, default)

    responses = Responses(answers("3.6.16"))
    responses["/etcdserverpb.KV/Range"] = Answer(grpc_status=16)  # without a token
    fake = FakeCluster(*pki, serve)
    server = serve(impostor(responses, reached))
    fake.listeners.append(server.listener())
    target = replace(fake.target(), user=("root", "s3cret-password"))
    run_checks(
        Observer(target, Bounds(timeout=2, concurrency=1)), select(["api.grpc-range", "api.gateway-works"])
    )
    assert another not in receivers
    assert receivers or turns < 1000
