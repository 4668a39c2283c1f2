"""A declared member as a whole, and from where its listeners can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from declared.declaring import GOOD, flags
from pytest_etcdtls.declared.declaration import FILES
from pytest_etcdtls.declared.effective import CRLEffect, effective_of
from pytest_etcdtls.declared.flags import EVERY_FLAG
from pytest_etcdtls.declared.reading import declared_member, read_declaration
from pytest_etcdtls.declared.traps import traps_of
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.endpoints import listener_addresses

SHAPES = Path(__file__).parent / "shapes"
KUBEADM = SHAPES / "kubeadm" / "v1.34.yaml"


def _hosts(*arguments: str, own: tuple[str, ...] = ()) -> dict[str, str | None]:
    return {str(one.declared.url): one.host for one in listener_addresses(flags(*arguments), own)}


@pytest.mark.parametrize(
    ("own", "loopback"), [(("10.0.0.11",), "127.0.0.1"), (("10.0.0.99",), None), ((), None)]
)
def test_loopback_is_probed_only_where_the_member_runs(own: tuple[str, ...], loopback: str | None) -> None:
    found = listener_addresses(read_declaration(KUBEADM), own)
    assert [(str(one.declared.role), one.host, one.port) for one in found] == [
        ("client", loopback, 2379),
        ("client", "10.0.0.11", 2379),
        ("metrics", loopback, 2381),
        ("peer", "10.0.0.11", 2380),
    ]
    for one in found:
        assert bool(one.reason) is (one.host is None)


def test_a_wildcard_listener_is_reached_at_the_advertised_address() -> None:
    assert _hosts(
        "--listen-client-urls=https://0.0.0.0:2379",
        "--advertise-client-urls=https://node1.example:2379",
        "--listen-peer-urls=https://[::]:2380",
        "--initial-advertise-peer-urls=https://10.0.0.11:2380",
        "--listen-metrics-urls=http://0.0.0.0:2381",
    ) == {
        "https://0.0.0.0:2379": "node1.example",
        "https://[::]:2380": "10.0.0.11",
        "http://0.0.0.0:2381": "node1.example",
    }


def test_listeners_that_cannot_be_reached_have_a_reason() -> None:
    found = listener_addresses(flags("--listen-client-urls=https://0.0.0.0:2379,unixs://s:1"), ())
    assert [one.host for one in found if one.declared.role is Role.CLIENT] == [None, None]
    assert "pass its URL" in found[0].reason
    assert "is a socket" in found[1].reason


def test_a_member_that_advertises_loopback_runs_here() -> None:
    url = "https://127.0.0.1:2379"
    assert _hosts(f"--listen-client-urls={url}", f"--advertise-client-urls={url}")[url] == "127.0.0.1"


def test_a_member_knows_its_files(pki_files: Path) -> None:
    declaration = flags(*GOOD, "--client-crl-file=/pki/crl.pem", "--peer-crl-file=/pki/gone.der")
    member = declared_member(declaration, pki_files)
    assert member.file("cert-file") == pki_files / "server.crt"
    assert member.file("client-cert-file") is None
    assert member.file("peer-crl-file") is None
    assert effective_of(member, "3.5.33").sides["client"].crl is CRLEffect.ENFORCED
    assert effective_of(member, "3.6.16").sides["client"].crl is CRLEffect.REFUSES_ALL
    assert [trap.id for trap in traps_of(member, "3.6.16")] == ["crl-encoding", "crl-missing"]


def test_a_member_is_read_with_its_version() -> None:
    member = declared_member(read_declaration(KUBEADM))
    assert effective_of(member).version == "3.6.4"
    assert effective_of(member, "3.7.3").version == "3.7.3"
    assert traps_of(member) == ()


def test_files_are_flags() -> None:
    assert set(FILES) <= EVERY_FLAG
