"""A host name with several addresses, and a server behind each; every etcd is real.

The names are those of a file of hosts that a mount namespace shows to the process that judges.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from judged import listener_of
from live.passing_proxy import passing
from plugin.live_etcd import Live
from plugin.runs import Ran, run_apart
from servers import Handler, Server
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


def _in_namespace(hosts: Path) -> list[str]:
    mount = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]


@pytest.fixture
def resolving(tmp_path: Path) -> Path:
    """A file of hosts with a name of two addresses, if a process can read it in place of the machine's."""
    file = tmp_path / "hosts"
    _hosts(file, {"etcd.example": ("127.0.0.1", "::1")})
    if subprocess.run([*_in_namespace(file), "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a mount namespace")
    return file


def _to(cluster: Cluster) -> Handler:
    return passing(lambda _: listener_of(cluster.target(), Role.CLIENT).port)


@contextmanager
def _served_at(addresses: Mapping[str, Handler]) -> Iterator[int]:
    """Make each address serve so, on one port that is free at all of them."""
    servers: list[Server] = []
    for _ in range(20):
        try:
            for address, handler in addresses.items():
                port = servers[0].port if servers else 0
                servers.append(Server(handler, host=address, port=port))
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
) -> Ran:
    given = (f"--etcd-endpoint=https://{host}:{port}", *Live.of(strict).credentials[:3])
    return run_apart(hosts.parent, *given, f"--etcd-check={check}", *options, prefix=_in_namespace(hosts))


def _hosts(file: Path, names: Mapping[str, tuple[str, ...]]) -> None:
    lines = [f"{address} {name}" for name, addresses in names.items() for address in addresses]
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _greet(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-test\r\n")


@pytest.mark.ipv6
@pytest.mark.kills("mtls.same-for-every-address")
@pytest.mark.parametrize(
    ("name", "second", "outcome", "said"),
    [
        *(
            (name, config, "violates", "::1")
            for name in ("localhost", "etcd.example")
            for config in (OPEN, PLAIN)
        ),
        ("etcd.example", OTHER_CA, "warns", "CN=etcd peer CA"),
        ("etcd.example", None, "not-verified", ""),
    ],
)
def test_what_serves_at_the_address_of_the_other_family(
    name: str, second: ClusterConfig | None, outcome: str, said: str, resolving: Path, etcd_binary: Path
) -> None:
    """Another etcd that accepts everybody or others, or no etcd."""
    _hosts(resolving, {name: ("127.0.0.1", "::1")})
    with (
        start_process(STRICT, etcd_binary) as strict,
        start_process(second or STRICT, etcd_binary) as other,
        _served_at({"127.0.0.1": _to(strict), "::1": _to(other) if second else _greet}) as port,
    ):
        ran = _judge(strict, resolving, port, host=name)
    result = ran.result_of(_CHECK)
    assert (result["outcome"], ran.found("violates") - {_CHECK}) == (outcome, set())
    assert said in str(result["findings"])


def test_each_of_several_records_is_contacted(resolving: Path, newest_etcd: Path) -> None:
    _hosts(resolving, {"etcd.example": ("127.0.0.3", "127.0.0.1", "127.0.0.2")})
    with (
        start_process(STRICT, newest_etcd) as strict,
        start_process(OPEN, newest_etcd) as other,
        _served_at({"127.0.0.1": _to(strict), "127.0.0.2": _to(strict), "127.0.0.3": _to(other)}) as port,
    ):
        ran = _judge(strict, resolving, port)
    result = ran.result_of(_CHECK)
    assert ran.found("violates") == {_CHECK}
    assert [finding["message"] for finding in result["findings"]] == [
        "127.0.0.3 (etcd.example) accepts a client without a certificate"
    ]


@pytest.mark.ipv6
def test_addresses_that_are_alike_are_named(resolving: Path, etcd_binary: Path) -> None:
    """And each is judged in a run of its own."""
    with (
        start_process(STRICT, etcd_binary) as strict,
        _served_at({"127.0.0.1": _to(strict), "::1": _to(strict)}) as port,
    ):
        ran = _judge(strict, resolving, port)
        there = f"etcd.example:{port}:[::1]:{port}"
        apart = _judge(strict, resolving, port, f"--etcd-connect-to={there}", check=_CHECK)
    result = ran.result_of(_CHECK)
    assert (result["outcome"], ran.found("violates")) == ("not-verified", set())
    assert f"--etcd-connect-to {there}" in result["reason"]
    assert apart.result_of(_CHECK)["outcome"] == "not-applicable"
    judged = {
        ran.report["attempts"][made["attempt"]]["server_address"]
        for fact in ran.report["observations"]
        if fact["kind"] == "accepted-client"
        for candidate in fact["candidates"]
        for case in candidate["cases"]
        for made in case["tries"]
    }
    assert judged == {"127.0.0.1"}


@pytest.mark.parametrize("at", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.ipv6)])
def test_an_address_that_refuses_connections_is_no_fault(at: str, resolving: Path, etcd_binary: Path) -> None:
    """localhost in both families, and etcd in one."""
    with start_process(STRICT, etcd_binary) as strict, _served_at({at: _to(strict)}) as port:
        ran = _judge(strict, resolving, port)
    assert (ran.result_of(_CHECK)["outcome"], ran.found("violates")) == ("conforms", set())
