"""A host name with several addresses, and a server behind each; every etcd is real.

The names are those of a file of hosts that a mount namespace shows to the process that judges.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live.passing_proxy import passing
from servers import Handler, ThreadedServer
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.role import Role

pytestmark = pytest.mark.program("mount", "unshare")

_CHECK = "mtls.same-for-every-address"
STRICT = ClusterConfig()
OPEN = ClusterConfig(client_cert_auth=False, trusted_ca_file=None)
PLAIN = ClusterConfig(client_scheme="http")
OTHER_CA = ClusterConfig(trusted_ca_file="peer-ca.crt", expects_health=False)
_BOTH = {"etcd.example": ("127.0.0.1", "::1")}


def _in_namespace(hosts: Path, *command: str) -> list[str]:
    mount = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", *command]


@pytest.fixture
def resolving(tmp_path: Path) -> Path:
    """A file of hosts, if a process can be started that reads it in place of the machine's."""
    file = tmp_path / "hosts"
    file.write_text("127.0.0.1 localhost\n", encoding="utf-8")
    if subprocess.run(_in_namespace(file, "true"), capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a mount namespace")
    return file


def _port(cluster: Cluster) -> int:
    return next(listener.port for listener in cluster.target().listeners if listener.role is Role.CLIENT)


def _to(cluster: Cluster) -> Handler:
    return passing(lambda _: _port(cluster))


@contextmanager
def _served_at(addresses: Mapping[str, Handler]) -> Iterator[int]:
    """Make each address serve so, on one port that is free at all of them."""
    servers: list[ThreadedServer] = []
    for _ in range(20):
        try:
            for address, handler in addresses.items():
                port = servers[0].port if servers else 0
                servers.append(ThreadedServer(handler, host=address, port=port))
        except OSError:
            while servers:
                servers.pop().close()
        else:
            break
    yield servers[0].port
    for server in servers:
        server.close()


def _judge(
    strict: Cluster, hosts: Path, port: int, *options: str, host: str = "etcd.example", check: str = "mtls"
) -> dict[str, Any]:
    files, report = strict.pki_directory, hosts.with_name("report.json")
    command = (sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls", "-p", "no:cacheprovider", "-q")
    subprocess.run(
        _in_namespace(
            hosts,
            *command,
            f"--etcd-endpoint=https://{host}:{port}",
            f"--etcd-cacert={files / 'server-ca.crt'}",
            f"--etcd-cert={files / 'client.crt'}",
            f"--etcd-key={files / 'client.key'}",
            f"--etcd-check={check}",
            f"--etcd-report={report}",
            *options,
        ),
        cwd=hosts.parent,
        capture_output=True,
        timeout=120,
        check=False,
    )
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def _hosts(file: Path, names: Mapping[str, tuple[str, ...]]) -> None:
    lines = [f"{address} {name}" for name, addresses in names.items() for address in addresses]
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _result(report: dict[str, Any]) -> dict[str, Any]:
    [result] = [result for result in report["results"] if result["check"] == _CHECK]
    return dict(result)


def _violated(report: dict[str, Any]) -> set[str]:
    return {result["check"] for result in report["results"] if result["outcome"] == "violates"}


@pytest.mark.ipv6
@pytest.mark.kills("mtls.same-for-every-address")
@pytest.mark.parametrize("second", [OPEN, PLAIN], ids=["open", "plain"])
@pytest.mark.parametrize("name", ["localhost", "etcd.example"])
def test_another_etcd_in_the_other_family_accepts_everybody(
    name: str, second: ClusterConfig, resolving: Path, etcd_binary: Path
) -> None:
    _hosts(resolving, {name: ("127.0.0.1", "::1")})
    with (
        start_process(STRICT, etcd_binary) as strict,
        start_process(second, etcd_binary) as other,
        _served_at({"127.0.0.1": _to(strict), "::1": _to(other)}) as port,
    ):
        report = _judge(strict, resolving, port, host=name)
    assert _violated(report) == {_CHECK}
    assert "::1" in _result(report)["findings"][0]["message"]


def test_each_of_several_records_is_contacted(resolving: Path, newest_etcd: Path) -> None:
    _hosts(resolving, {"etcd.example": ("127.0.0.3", "127.0.0.1", "127.0.0.2")})
    with (
        start_process(STRICT, newest_etcd) as strict,
        start_process(OPEN, newest_etcd) as other,
        _served_at({"127.0.0.1": _to(strict), "127.0.0.2": _to(strict), "127.0.0.3": _to(other)}) as port,
    ):
        report = _judge(strict, resolving, port)
    result = _result(report)
    assert _violated(report) == {_CHECK}
    assert [finding["message"] for finding in result["findings"]] == [
        "127.0.0.3 (etcd.example) accepts a client without a certificate"
    ]


@pytest.mark.ipv6
def test_an_open_etcd_at_the_judged_address_is_the_fault(resolving: Path, newest_etcd: Path) -> None:
    _hosts(resolving, _BOTH)
    with (
        start_process(STRICT, newest_etcd) as strict,
        start_process(OPEN, newest_etcd) as other,
        _served_at({"127.0.0.1": _to(other), "::1": _to(strict)}) as port,
    ):
        report = _judge(strict, resolving, port)
    assert "mtls.no-certificate" in _violated(report)
    assert _result(report)["outcome"] in ("warns", "not-verified")


@pytest.mark.ipv6
def test_another_ca_is_a_warning(resolving: Path, newest_etcd: Path) -> None:
    _hosts(resolving, _BOTH)
    with (
        start_process(STRICT, newest_etcd) as strict,
        start_process(OTHER_CA, newest_etcd) as other,
        _served_at({"127.0.0.1": _to(strict), "::1": _to(other)}) as port,
    ):
        result = _result(_judge(strict, resolving, port))
    assert result["outcome"] == "warns"
    assert "CN=etcd peer CA" in result["findings"][0]["observed"]


@pytest.mark.ipv6
def test_addresses_that_are_alike_are_named(resolving: Path, etcd_binary: Path) -> None:
    """And each is judged in a run of its own."""
    _hosts(resolving, _BOTH)
    with (
        start_process(STRICT, etcd_binary) as strict,
        _served_at({"127.0.0.1": _to(strict), "::1": _to(strict)}) as port,
    ):
        report = _judge(strict, resolving, port)
        there = f"etcd.example:{port}:[::1]:{port}"
        apart = _judge(strict, resolving, port, f"--etcd-connect-to={there}", check=_CHECK)
    result = _result(report)
    assert (result["outcome"], _violated(report)) == ("not-verified", set())
    assert f"--etcd-connect-to {there}" in result["reason"]
    assert _result(apart)["outcome"] == "not-applicable"
    judged = {
        report["attempts"][made["attempt"]]["server_address"]
        for fact in report["observations"]
        if fact["kind"] == "accepted-client"
        for candidate in fact["candidates"]
        for case in candidate["cases"]
        for made in case["tries"]
    }
    assert judged == {"127.0.0.1"}


@pytest.mark.parametrize("at", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.ipv6)])
def test_an_address_that_refuses_connections_is_no_fault(at: str, resolving: Path, etcd_binary: Path) -> None:
    """localhost in both families, and etcd in one."""
    _hosts(resolving, _BOTH)
    with start_process(STRICT, etcd_binary) as strict, _served_at({at: _to(strict)}) as port:
        report = _judge(strict, resolving, port)
    assert (_result(report)["outcome"], _violated(report)) == ("conforms", set())


def test_a_name_with_one_address_costs_no_connection(resolving: Path, newest_etcd: Path) -> None:
    _hosts(resolving, {"etcd.example": ("127.0.0.1",)})
    with start_process(STRICT, newest_etcd) as strict:
        report = _judge(strict, resolving, _port(strict), check=_CHECK)
    assert _result(report)["outcome"] == "conforms"
    assert [connection for connection in report["connections"] if "no certificate" in connection["purpose"]][
        2:
    ] == []


@pytest.mark.ipv6
def test_what_is_no_etcd_at_another_address_is_named(resolving: Path, newest_etcd: Path) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-test\r\n")

    _hosts(resolving, _BOTH)
    with (
        start_process(STRICT, newest_etcd) as strict,
        _served_at({"127.0.0.1": _to(strict), "::1": greet}) as port,
    ):
        report = _judge(strict, resolving, port)
    assert (_result(report)["outcome"], _violated(report)) == ("not-verified", set())
