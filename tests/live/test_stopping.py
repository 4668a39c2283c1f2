"""An etcd that is stopping: its ports close one after the other, which is no fault of its configuration."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from judged import listener_of
from live.target_kinds import only
from starting import start_process

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.reading import declared_member, from_command_line
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.member import Member
from pytest_etcdtls.etcd.presets import PRESETS
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import CLOSED_ON_LOOPBACK, Network, Observer
from pytest_etcdtls.target import Bounds, Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Request

CHECK = "config.listeners-as-declared"
LOOK = "whether it refuses connections"


@pytest.fixture
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(PRESETS["kubeadm"].config, newest_etcd) as running:
        yield running


@contextmanager
def _watch(member: Member) -> Iterator[Callable[[], None]]:
    """Hold a watch, as an API server does; yield what ends it."""
    url = httpx.URL(member.client_url)
    connection = http.client.HTTPSConnection(url.host, url.port, context=member.ssl_context())
    connection.request("POST", "/v3/watch", '{"create_request": {"key": "eA=="}}')
    response = connection.getresponse()
    assert b"created" in response.readline()
    stream = connection.sock

    def end() -> None:
        with suppress(OSError):  # it has ended
            stream.shutdown(socket.SHUT_RDWR)

    with closing(response), closing(connection):
        yield end


class _At(Network):
    """Calls a function before the attempt of that number, of those for a purpose if it is given."""

    def __init__(self, number: int, then: Callable[[], object], purpose: str = "") -> None:
        self._left, self._then, self._purpose = number, then, purpose

    def attempt(self, there: Listener, request: Request, timeout: float) -> Attempt:
        self._left -= self._purpose in request.purpose
        if not self._left:
            self._left = -1
            self._then()
        return super().attempt(there, request, timeout)


def _is_closed(listener: Listener) -> bool:
    with socket.socket() as one:
        return one.connect_ex(listener.address) != 0


@contextmanager
def _stopping(cluster: Cluster, target: Target) -> Iterator[Callable[[], object]]:
    """Let the member stop, with a watch that is still open, and yield what ends the watch."""
    [member] = cluster.members
    with _watch(member) as end_watch:
        member.server.terminate()
        while not _is_closed(listener_of(target, Role.CLIENT)):
            pass
        yield end_watch


needs_a_stop_that_waits = pytest.mark.etcd_version("3.6", "3.7")
"""etcd 3.4 and early releases of 3.5 close all ports at once."""


@needs_a_stop_that_waits
def test_a_run_that_begins_while_etcd_waits_for_its_watches(cluster: Cluster) -> None:
    target = cluster.target()
    with _stopping(cluster, target):
        [result] = run_checks(Observer(target, Bounds(timeout=1)), [CHECK])
    assert result.outcome is Outcome.INCONCLUSIVE, result
    client, peer = (listener_of(target, role).url for role in (Role.CLIENT, Role.PEER))
    assert result.reason.startswith(f"run again: {client} refuses TCP connections, and ")
    assert f"{peer} answers, as while etcd stops" in result.reason


@needs_a_stop_that_waits
@pytest.mark.parametrize(
    ("restarts", "begins", "ends"),
    [
        (False, "etcd is stopping or restarting, run again: ", " stopped answering during the run"),
        (True, "etcd was restarted, run again: ", " accepts them now"),
    ],
    ids=["ends", "opens again"],
)
def test_a_stop_that_ends_during_the_run(cluster: Cluster, restarts: bool, begins: str, ends: str) -> None:
    target = cluster.target()
    with _stopping(cluster, target) as end_watch:

        def end() -> None:
            end_watch()
            if restarts:
                cluster.restart_member(0)
            while not restarts and not all(map(_is_closed, target.listeners)):
                pass

        [result] = run_checks(Observer(target, Bounds(timeout=1), _At(1, end, LOOK)), [CHECK])
    assert result.outcome is Outcome.INCONCLUSIVE, result
    assert result.reason.startswith(begins)
    assert result.reason.endswith(ends)


@pytest.mark.parametrize(
    ("flag", "role", "scheme", "reason"),
    [
        (
            "listen-client-urls",
            Role.CLIENT,
            "https",
            "; if it stays so, etcd was started with other settings",
        ),
        ("listen-metrics-urls", Role.METRICS, "http", ""),
        ("listen-peer-urls", Role.PEER, "https", ""),
    ],
)
def test_only_a_client_port_that_stays_closed_may_be_a_stop(
    cluster: Cluster, flag: str, role: Role, scheme: str, reason: str
) -> None:
    """etcd closes the others later."""
    target = _with_another(cluster, flag, role, scheme)
    [result] = run_checks(Observer(target), [CHECK])
    assert result.outcome is (Outcome.INCONCLUSIVE if reason else Outcome.VIOLATES)
    assert result.reason.endswith(reason)


def _with_another(cluster: Cluster, flag: str, role: Role, scheme: str) -> Target:
    """Return the cluster with one more listener that is declared and judged; nothing listens there."""
    [member] = cluster.members
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"{scheme}://127.0.0.1:{port}"
    argv = [f"{one},{url}" if one.startswith(f"--{flag}=") else one for one in member.argv]
    target = cluster.target()
    listener = replace(listener_of(target, role), port=port, label=f"{role}-closed")
    declared = {member.name: declared_member(from_command_line(argv))}
    return replace(target, listeners=(*target.listeners, listener), declared=declared)


@pytest.mark.parametrize("number", [12, 40])
def test_an_etcd_that_is_killed_during_the_run(cluster: Cluster, number: int) -> None:
    network = _At(number, lambda: cluster.members[0].server.stop(0))
    observer = Observer(cluster.target(), Bounds(timeout=1, max_connections=50), network)
    results = run_checks(observer, ["mtls", "config", "tls.version-floor"])
    reasons = {result.reason for result in results if result.outcome is Outcome.INCONCLUSIVE}
    assert [result for result in results if result.outcome is Outcome.VIOLATES] == []
    assert str(CLOSED_ON_LOOPBACK) in reasons
    assert max(observer.used.values()) == 50
    assert not [reason for reason in reasons if "--etcd-max-connections" in reason]


def test_a_certificate_that_is_renewed_during_the_run(cluster: Cluster) -> None:
    """Another one was served before the file was replaced."""
    target = replace(only(cluster.target(), lambda one: one.role is Role.CLIENT), expected=())
    observer = Observer(target, Bounds(concurrency=1), _At(2, cluster.rotate_server_certificate))
    [result] = run_checks(observer, ["config.served-file"])
    assert result.outcome is Outcome.INCONCLUSIVE, result
    assert result.reason.endswith("server.crt was replaced during the run, as at a renewal: run again")
