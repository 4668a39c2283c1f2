"""Operations on a running member: files are replaced, and a start is not waited for."""

from __future__ import annotations

import socket
import ssl
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starting import start_container

from cluster.conftest import Start
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.member import Member
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import SERVER

DEADLINE = 30.0


def _another_pair(cluster: Cluster) -> dict[str, bytes]:
    pki = cluster.pki
    pair = pki.authorities.server_issuer.issue(SERVER, name="server", hosts=pki.members[0].hosts)
    assert pair.key is not None
    return {"server.crt": encode_certificates(pair.chain), "server.key": encode_key(pair.key)}


def _served(member: Member) -> str:
    url = urlsplit(member.client_url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(member.file("client.crt"), member.file("client.key"))
    with (
        socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=DEADLINE) as connection,
        context.wrap_socket(connection) as tls,
    ):
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")


def _await(reached: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.01)
    return reached()


def _replaced_files_are_served(cluster: Cluster) -> None:
    (member,) = cluster.members
    before, files = _served(member), _another_pair(cluster)
    member.replace_files(files)
    after = _served(member)
    assert after != before
    assert after.split() == files["server.crt"].decode().split()
    for name in files:
        assert member.file(name).read_bytes() == files[name]
        assert stat.S_IMODE(member.file(name).stat().st_mode) == 0o600


def test_a_process_serves_files_that_were_replaced(start: Start, etcd_binary: Path) -> None:
    _replaced_files_are_served(start(ClusterConfig(), etcd_binary))


@pytest.mark.container
def test_a_container_serves_files_that_were_replaced(etcd_image: str) -> None:
    with start_container(ClusterConfig(), etcd_image) as cluster:
        _replaced_files_are_served(cluster)


def test_a_member_can_be_started_without_waiting(start: Start, newest_etcd: Path) -> None:
    cluster = start(ClusterConfig(), newest_etcd)
    assert cluster.members[0].ready
    cluster.stop_member(0)
    assert [member.ready for member in cluster.members] == [False]
    cluster.start_member(0, wait=False)
    assert cluster.members[0].running
    assert _await(lambda: cluster.members[0].ready)
    assert _served(cluster.members[0])


def test_a_member_without_a_leader_is_not_ready(start: Start, newest_etcd: Path) -> None:
    cluster = start(replace(ClusterConfig(), size=3), newest_etcd)
    member = cluster.members[0]
    for index in range(3):
        cluster.stop_member(index)
    before = len(member.log())
    cluster.start_member(0, wait=False)
    # It asks for votes, and gets none.
    assert _await(lambda: "candidate" in member.log()[before:])
    assert member.running
    assert not member.ready
