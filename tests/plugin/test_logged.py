"""What is logged of a run, which pytest shows with --log-level=DEBUG: no password and no token."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from h2.connection import H2Connection
from hpack import Encoder, NeverIndexedHeaderTuple
from plugin.live_etcd import Live
from plugin.runs import Runner
from starting import start_process
from tls.test_grpc_call import LISTENER, OK, REQUEST, Wire

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.role import Protocol
from pytest_etcdtls.tls.attempt import Request
from pytest_etcdtls.tls.http import make_request

SECRET = "s3cret.token.12"
USER = "--etcd-user=root"


def _answers(http: H2Connection) -> None:
    http.send_headers(1, OK, end_stream=True)


@pytest.mark.parametrize(
    "request_",
    [
        Request(purpose="call", protocol=Protocol.GRPC, path=REQUEST.path, headers={"token": SECRET}),
        Request(purpose="get", protocol=Protocol.HTTP2, path="/version", headers={"authorization": SECRET}),
    ],
    ids=lambda request: request.purpose,
)
def test_a_token_is_never_indexed_and_never_logged(
    request_: Request, caplog: pytest.LogCaptureFixture
) -> None:
    (name,) = request_.headers
    wire = Wire(_answers)
    with caplog.at_level(logging.DEBUG):
        assert make_request(wire, LISTENER, request_).status == 200
        assert caplog.text == ""
        Encoder().encode([("x-of-a-test", "kept")])
    assert "kept" in caplog.text
    assert wire.request[name] == SECRET
    (header,) = [header for header in wire.headers if header[0] == name]
    assert isinstance(header, NeverIndexedHeaderTuple)


def test_debug_logs_of_a_run_have_no_secret(run: Runner, newest_etcd: Path) -> None:
    with start_process(ClusterConfig(authentication=True), newest_etcd) as cluster:
        target = cluster.target()
        assert target.user is not None
        (run.directory / "password").write_text(target.user[1], encoding="utf-8")
        ran = run(
            *("--pyargs", "pytest_etcdtls", *Live.of(cluster).options, USER, "--etcd-password-file=password"),
            *(
                "-o",
                "log_cli=true",
                "--log-level=DEBUG",
                "-rA",
                "-l",
                "--setup-show",
                "--junit-xml=junit.xml",
            ),
            *("-o", "junit_logging=all", "--etcd-check=api"),
        )
    assert [*ran.outcomes.values()].count("conforms") > 10
    assert {outcome for name, outcome in ran.outcomes.items() if "grpc-range" in name} == {"conforms"}
    shown = ran.out + ran.err + run.read("junit.xml")
    assert target.user[1] not in shown
    assert not re.search(r"token'|hpack", shown), "etcd's token is in what is shown"
