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


def _port(cluster: Cluster) -> int:
    return listener_of(cluster.target(), Role.CLIENT).port


def _to(cluster: Cluster) -> Handler:
    return passing(lambda _: _port(cluster))


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
    files = strict.pki_directory
    return run_apart(
        hosts.parent,
        f"--etcd-endpoint=https://{host}:{port}",
        f"--etcd-cacert={files / 'server-ca.crt'}",
        f"--etcd-cert={files / 'client.crt'}",
        f"--etcd-key={files / 'client.key'}",
        f"--etcd-check={check}",
        *options,
        prefix=_in_namespace(hosts),
    )


def _hosts(file: Path, names: Mapping[str, tuple[str, ...]]) -> None:
    lines = [f"{address} {name}" for name, addresses in names.items() for address in addresses]
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")


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
        ran = _judge(strict, resolving, port, host=name)
    assert ran.found("violates") == {_CHECK}
    assert "::1" in ran.result_of(_CHECK)["findings"][0]["message"]


def _greet(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-test\r\n")


@pytest.mark.ipv6
@pytest.mark.parametrize(
    ("config", "outcome", "observed"),
    [(OTHER_CA, "warns", "CN=etcd peer CA"), (None, "not-verified", "")],
    ids=["another CA", "no etcd"],
)
def test_what_accepts_nobody_at_another_address_is_named(
    config: ClusterConfig | None, outcome: str, observed: str, resolving: Path, newest_etcd: Path
) -> None:
    with (
        start_process(STRICT, newest_etcd) as strict,
        start_process(config or STRICT, newest_etcd) as other,
        _served_at({"127.0.0.1": _to(strict), "::1": _to(other) if config else _greet}) as port,
    ):
        ran = _judge(strict, resolving, port)
    result = ran.result_of(_CHECK)
    assert (result["outcome"], ran.found("violates")) == (outcome, set())
    assert observed in str(result["findings"])


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
