"""The suite changes nothing in an etcd: its state before and after, and every request that is sent to it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile.requests_sent import ALLOWED, Sent, recorded
from plugin.live_etcd import Live
from plugin.runs import Ran, Runner, run
from starting import start_process

from pytest_etcdtls.etcd.admin import Gateway
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.bundle import encode_key
from pytest_etcdtls.pki.profile import CLIENT, PKIPlan

__all__ = ["run"]

_ADD = "in ALLOWED of tests/hostile/requests_sent.py, and run make docs"
NAMELESS = PKIPlan(client=replace(CLIENT, common_name=None, organization="clients"))
"""The gateway refuses every certificate with a common name once authentication is on."""
EVERYBODY = ClusterConfig(
    client_cert_auth=False, trusted_ca_file=None, peer_client_cert_auth=False, peer_trusted_ca_file=None
)
"""It lets everybody in, so that what a stranger would ask is seen too."""
KEY, VALUE = (base64.b64encode(text).decode() for text in (b"config", b"secret"))


def post(gateway: Gateway, path: str, **message: object) -> dict[str, Any]:
    """Call a method of the JSON gateway, as an administrator, and return its answer."""
    status, answer = gateway.post(path, message)
    assert status == 200, f"{path}: {status} {answer}"
    return answer


def state(gateway: Gateway, version: str) -> dict[str, object]:
    """Return what an etcd holds, as far as it tells an administrator: answers without their headers."""

    def body(path: str, **message: object) -> object:
        return {name: value for name, value in post(gateway, path, **message).items() if name != "header"}

    return {
        "revision": post(gateway, "/v3/kv/range", key=KEY)["header"]["revision"],
        # HashKV; before etcd 3.5 the gateway has Hash alone, which is of the whole database.
        "hash": body("/v3/maintenance/hash"),
        "members": body("/v3/cluster/member/list"),
        "alarms": body("/v3/maintenance/alarm", action="GET"),
        "leases": body("/v3/lease/leases"),
        "users": body("/v3/auth/user/list"),
        "roles": body("/v3/auth/role/list"),
        # etcd 3.4 has no AuthStatus.
        "authentication": None if version.startswith("3.4.") else body("/v3/auth/status"),
    }


def raft_index(gateway: Gateway) -> int:
    """Return the index of the last Raft entry, which grows also with what leaves no other trace."""
    return int(post(gateway, "/v3/maintenance/status")["raftIndex"])


@contextmanager
def filled(binary: Path, config: ClusterConfig, *, authentication: bool) -> Iterator[Cluster]:
    """Start an etcd with a key, a lease and, with authentication, a user and a role."""
    with start_process(replace(config, authentication=authentication, pki=NAMELESS), binary) as cluster:
        gateway = cluster.gateway(cluster.members[0])
        lease = post(gateway, "/v3/lease/grant", TTL="86400")["ID"]
        post(gateway, "/v3/kv/put", key=KEY, value=VALUE, lease=lease)
        yield cluster


def options(cluster: Cluster) -> list[str]:
    """Return all that lets the suite do the most: every credential, the CA keys, user and password."""
    files = cluster.pki_directory
    for name, authority in (("client-ca", cluster.pki.client_ca), ("peer-ca", cluster.pki.peer_ca)):
        (files / f"{name}.key").write_bytes(encode_key(authority.key))
    given = [
        *Live.of(cluster).options,
        *(f"--etcd-ca-key={files / 'client-ca.key'}", f"--etcd-trusted-ca={files / 'client-ca.crt'}"),
        *(f"--etcd-peer-ca-key={files / 'peer-ca.key'}", f"--etcd-peer-trusted-ca={files / 'peer-ca.crt'}"),
    ]
    if cluster.user is not None:
        given += [f"--etcd-user={cluster.user[0]}", f"--etcd-password-file={files.parent / 'root-password'}"]
    return given


def judged_everything(ran: Ran) -> None:
    """Assert that the run was the whole suite and found an etcd."""
    assert ran.exit_code in (0, 1), ran.out
    assert ran.counts["conforms"] > 60, ran.counts
    assert not {"broken", "not-run"} & set(ran.counts), ran.counts


@pytest.mark.parametrize("authentication", [False, True], ids=["open", "authentication"])
def test_the_state_of_an_etcd_is_as_before(run: Runner, etcd_binary: Path, authentication: bool) -> None:
    with filled(etcd_binary, ClusterConfig(), authentication=authentication) as cluster:
        (member,) = cluster.members
        gateway = cluster.gateway(member)
        before, first = state(gateway, cluster.version), raft_index(gateway)
        ran = run(*options(cluster), "--etcd-discover")
        last, after = raft_index(gateway), state(gateway, cluster.version)
    judged_everything(ran)
    assert before["leases"] != {}
    assert after == before
    # One for Authenticate, and up to 3.4 one for /health.
    assert last - first == authentication + cluster.version.startswith("3.4.")


@pytest.mark.parametrize(
    ("config", "authentication"),
    [(ClusterConfig(), False), (EVERYBODY, False), (ClusterConfig(), True)],
    ids=["mutual", "everybody", "with-user"],
)
def test_every_request_is_an_allowed_one(
    run: Runner, newest_etcd: Path, config: ClusterConfig, authentication: bool
) -> None:
    with filled(newest_etcd, config, authentication=authentication) as cluster:
        [member] = cluster.members
        with recorded() as requests:
            ran = run(*options(cluster))
    judged_everything(ran)
    client, peer = (
        requests.pop(url.removeprefix("https://")) for url in (member.client_url, member.peer_url)
    )
    assert requests == {}, "a request names another host"
    for sent in (client, peer):
        assert set(sent) - set(ALLOWED) == set(), f"name it, and why it is sent, {_ADD}"
        more = {one: count for one, count in sent.items() if count > ALLOWED[one].at_most}
        assert more == {}, f"it is sent more often than at_most= says, {_ADD}"
    # What is sent is seen.
    assert Sent("grpc", "POST", "/etcdserverpb.KV/Range") in client
    assert Sent("http/1.1", "GET", "/members") in peer
    assert (Sent("grpc", "POST", "/etcdserverpb.Auth/Authenticate") in client) == authentication
