"""``--etcd-rehearse``: the JSON gateway works now, and not after a restart; compared with a real one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from judged import listener_of
from starting import start_where_possible

from process.containers import as_root, process_of, rehearsed, target, wrong
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.calls import GatewayAnswer
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_pair
from pytest_etcdtls.pki.profile import CLIENT, Profile
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Observer

pytestmark = as_root

Change = Callable[[Cluster], Mapping[str, bytes]]

_GATEWAY = replace(CLIENT, common_name="gateway")
_EXPIRED = replace(_GATEWAY, valid_from=timedelta(days=-2), valid_for=timedelta(days=1))
_OWN = ClusterConfig(
    client_cert_file="gateway.crt",
    client_key_file="gateway.key",
    extra_files=encode_pair(CertificateAuthority.create("other").issue(_GATEWAY, name="gateway"), "gateway"),
)
_SERVED = ClusterConfig()


def _issued(profile: Profile) -> Change:
    """Return a change of the gateway's pair into another one of the CA of the clients."""
    return lambda cluster: encode_pair(cluster.pki.client_ca.issue(profile, name="gateway"), "gateway")


def _of_another_ca(_: Cluster) -> Mapping[str, bytes]:
    return _OWN.extra_files


def _of_the_server(cluster: Cluster) -> Mapping[str, bytes]:
    plan = replace(cluster.pki.plan.server, extended_key_usage=("serverAuth",))
    return encode_pair(cluster.pki.server_ca.issue(plan, name="server"), "server")


def _unchanged(_: Cluster) -> Mapping[str, bytes]:
    return {}


def _state(cluster: Cluster, role: Role) -> str:
    """Return whether the gateway works, by a request."""
    live = target(process_of(cluster.members[0].server))
    return Observer(live).get(GatewayAnswer, None, listener_of(live, role)).state


@contextmanager
def _started(config: ClusterConfig, binary: Path, profile: Profile) -> Iterator[Cluster]:
    """Start etcd, with such a pair of the gateway: up to 3.6 the gateway dials when etcd starts."""
    with start_where_possible(config, binary) as cluster:
        if config.client_cert_file:
            cluster.members[0].replace_files(_issued(profile)(cluster))
            cluster.restart()
        yield cluster


def _http_port() -> tuple[str, ...]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return (f"--listen-client-http-urls=http://127.0.0.1:{free.getsockname()[1]}",)


_CASES: dict[str, tuple[ClusterConfig, Change, str]] = {
    "expired": (_OWN, _issued(_EXPIRED), "and is refused: its certificate expired 24 hours ago"),
    "without-clientAuth": (
        *(_OWN, _issued(replace(_GATEWAY, extended_key_usage=("serverAuth",)))),
        "its extendedKeyUsage (serverAuth) has no clientAuth",
    ),
    "of-another-ca": (_OWN, _of_another_ca, "does not work: the gateway dials etcd with"),
    "served-without-clientAuth": (_SERVED, _of_the_server, "its extendedKeyUsage (serverAuth)"),
    "renewed": (_OWN, _issued(_GATEWAY), ""),
    "unchanged": (_OWN, _unchanged, ""),
    "served-unchanged": (_SERVED, _unchanged, ""),
    "switched-off": (replace(_OWN, extra_flags=("--enable-grpc-gateway=false",)), _issued(_EXPIRED), ""),
}


@pytest.mark.kills("restart.gateway")
@pytest.mark.parametrize("name", _CASES)
def test_the_gateway_after_a_restart(name: str, etcd_binary: Path) -> None:
    _compare(etcd_binary, *_CASES[name], switched_off=name == "switched-off")


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
@pytest.mark.parametrize("flags", [(), ("http",)], ids=["https", "http"])
def test_a_port_of_the_gateway_of_its_own(flags: tuple[str, ...], etcd_binary: Path) -> None:
    """Also of plain HTTP: the gateway there dials the port of gRPC."""
    config = replace(_OWN, client_http=not flags, extra_flags=flags and _http_port(), expects_health=False)
    why = "does not work" if flags else _CASES["expired"][2]
    _compare(etcd_binary, config, _issued(_EXPIRED), why, Role.CLIENT_HTTP)


def _compare(
    binary: Path,
    config: ClusterConfig,
    change: Change,
    why: str,
    role: Role = Role.CLIENT,
    *,
    switched_off: bool = False,
) -> None:
    """Compare what a rehearsal says of a change with what a restart really does."""
    with _started(config, binary, _GATEWAY) as cluster:
        before = _state(cluster, role)  # so it has a connection
        cluster.members[0].replace_files(change(cluster))
        results = rehearsed(target(process_of(cluster.members[0].server)))
        cluster.restart()
        after = _state(cluster, role)
    gateway = results["restart.gateway"]
    assert before == ("switched off" if switched_off else "works")
    assert (gateway.outcome is Outcome.VIOLATES) == bool(why) == (after != before), gateway
    assert set(wrong(results)) <= {"restart.gateway"}
    assert gateway.outcome in (Outcome.VIOLATES, Outcome.CONFORMS), gateway.reason
    assert why in gateway.message


@pytest.mark.etcd_version("3.5", "3.6", "3.7")
def test_a_gateway_that_does_not_work_now(etcd_binary: Path) -> None:
    """That is no fault of the restart."""
    with _started(_OWN, etcd_binary, replace(_GATEWAY, extended_key_usage=("serverAuth",))) as cluster:
        assert _state(cluster, Role.CLIENT) == "does not work"
        results = rehearsed(target(process_of(cluster.members[0].server)))
    assert not wrong(results)
    assert results["restart.gateway"].outcome is Outcome.CONFORMS
