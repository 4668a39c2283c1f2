"""What is served depends on the hello: on servers of ours, since an etcd has one certificate per port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from certificates.choosing_server import Choice, choosing, server_name
from servers import Handler, Server
from tls.hello_server import TLS1_3, ClientHello, alert

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.facts.alternatives import UNKNOWN_NAME, HelloVariants
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import SERVER
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Target

Serve = Callable[[Handler], Server]

_CA = CertificateAuthority.create("CA")
ONE, OTHER = (
    _CA.issue(replace(SERVER, common_name=name), name=name, hosts=("localhost", "127.0.0.1"))
    for name in ("one", "other")
)
UNRECOGNIZED_NAME = 112


def judge(serve: Serve, choose: Choice) -> tuple[CheckResult, int]:
    """Return the result and how many connections the observation took; the gates make others after it."""
    server = serve(choosing(choose))
    listener = server.listener()
    observer = Observer(
        Target(label="choosing", origin="live", listeners=(listener,)), Bounds(timeout=10, concurrency=1)
    )
    observer.get(HelloVariants, listener=listener)
    connections = server.accepted
    (result,) = run_checks(observer, select(["cert.same-for-every-hello"]))
    return result, connections


def test_one_certificate_conforms_with_four_connections(serve: Serve) -> None:
    result, connections = judge(serve, lambda hello, number: ONE)
    assert result.outcome is Outcome.CONFORMS, result
    assert connections == 4


@pytest.mark.kills("cert.same-for-every-hello")
@pytest.mark.parametrize(
    ("other", "hellos", "made"),
    [
        (lambda hello: server_name(hello) == UNKNOWN_NAME, {f"SNI {UNKNOWN_NAME}"}, 4),
        (lambda hello: server_name(hello) is not None, {"SNI localhost", f"SNI {UNKNOWN_NAME}"}, 6),
        (lambda hello: "h2" in hello.alpn, {"ALPN h2"}, 6),
        (lambda hello: "h2" in hello.alpn and server_name(hello), {"ALPN h2 and SNI localhost"}, 6),
        (
            lambda hello: TLS1_3 not in hello.versions,
            {"TLSv1.3", "ALPN h2 and SNI localhost", f"SNI {UNKNOWN_NAME}"},
            4,
        ),
    ],
    ids=["name", "any name", "ALPN", "ALPN and name", "version"],
)
def test_another_certificate_for_some_hellos_violates(
    serve: Serve, other: Callable[[ClientHello], bool], hellos: set[str], made: int
) -> None:
    result, connections = judge(serve, lambda hello, number: OTHER if other(hello) else ONE)
    assert result.outcome is Outcome.VIOLATES, result
    (finding,) = result.findings
    assert {part.partition(": ")[0] for part in finding.observed.split("; ")} == hellos
    assert len(finding.reproduce) == 1 + len(hellos)
    assert connections == made + 4


def test_a_refused_hello_is_no_other_certificate(serve: Serve) -> None:
    def choose(hello: ClientHello, number: int) -> object:
        return alert(UNRECOGNIZED_NAME) if server_name(hello) else ONE

    result, _ = judge(serve, choose)  # type: ignore[arg-type]
    assert result.outcome is Outcome.CONFORMS, result


def test_several_servers_behind_one_address_are_no_verdict(serve: Serve) -> None:
    result, _ = judge(serve, lambda hello, number: OTHER if number in (2, 6) else ONE)
    assert result.outcome is Outcome.NOT_VERIFIED, result
    assert "by its own address" in result.reason


def test_a_renewal_during_the_run_is_no_verdict(serve: Serve) -> None:
    result, _ = judge(serve, lambda hello, number: ONE if number < 2 else OTHER)
    assert result.outcome is Outcome.NOT_VERIFIED, result
