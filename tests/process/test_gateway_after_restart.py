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
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.facts.calls import GatewayAnswer
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_pair
from pytest_etcdtls.pki.profile import CLIENT, Profile
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.versions import version_key

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


_MIXED = replace(_OWN, plain_client_listener=True)
_ALIKE = replace(_OWN, plaintext_on_client_port=True)
_WITHOUT_CLIENT_AUTH = _issued(replace(_GATEWAY, extended_key_usage=("serverAuth",)))
_CHANCE = "works or not by chance: at each start etcd picks a client listener"


def _another_bundle(_: Cluster) -> Mapping[str, bytes]:
    authority = CertificateAuthority.create("other")
    return {"client-ca.crt": encode_certificates([authority.certificate])}


@pytest.mark.etcd_version("3.5", "3.6", "3.7")
@pytest.mark.parametrize(
    ("config", "change", "by_chance"),
    [
        (_MIXED, _WITHOUT_CLIENT_AUTH, True),
        (_MIXED, _issued(_EXPIRED), True),
        (_MIXED, _another_bundle, True),
        (replace(_MIXED, client_http=True), _WITHOUT_CLIENT_AUTH, True),
        (_MIXED, _issued(_GATEWAY), False),
        (_ALIKE, _WITHOUT_CLIENT_AUTH, False),
        (replace(_MIXED, extra_flags=("--enable-grpc-gateway=false",)), _WITHOUT_CLIENT_AUTH, False),
    ],
    ids=["usage", "expired", "bundle", "http-apart", "renewed", "one-address", "switched-off"],
)
def test_a_gateway_that_works_by_chance(
    config: ClusterConfig, change: Change, by_chance: bool, etcd_binary: Path
) -> None:
    """Over plain HTTP it works, over TLS it does not, and etcd picks (``pickGRPCGatewayServeContext``)."""
    with _started(replace(config, expects_health=False), etcd_binary, _GATEWAY) as cluster:
        cluster.members[0].replace_files(change(cluster))
        found = [rehearsed(target(process_of(cluster.members[0].server)))["restart.gateway"] for _ in "12"]
    picks = version_key(binary_version(etcd_binary)) >= (3, 5, 8)  # before, each listener dials itself
    assert [_CHANCE in one.message for one in found] == [by_chance and picks] * 2, found
    assert len({one.message for one in found}) == 1


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_a_gateway_that_works_by_chance_now(etcd_binary: Path) -> None:
    """Also if nothing was changed, and if the running etcd has picked the listener that refuses it."""
    states = set()
    with _started(replace(_MIXED, expects_health=False), etcd_binary, _GATEWAY) as cluster:
        cluster.members[0].replace_files(_WITHOUT_CLIENT_AUTH(cluster))
        for _ in range(20):
            cluster.restart()
            if (state := _state(cluster, Role.CLIENT)) not in states:
                states.add(state)
                gateway = rehearsed(target(process_of(cluster.members[0].server)))["restart.gateway"]
                assert gateway.outcome is Outcome.VIOLATES
                assert f"{state} -> {_CHANCE}" in gateway.message
            if len(states) == 2:
                break
    assert states == {"works", "does not work"}
