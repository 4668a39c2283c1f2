"""A declared member as a whole, and from where its listeners can be reached."""

from __future__ import annotations

from pathlib import Path

from declared.declaring import GOOD, flags
from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.effective import CRLEffect, effective_of
from pytest_etcdtls.declared.reading import declared_member
from pytest_etcdtls.declared.traps import traps_of
from pytest_etcdtls.settings.endpoints import listeners_from_here, runs_here
from pytest_etcdtls.target import Listener, Unreached


def _reached(declaration: Declaration) -> tuple[Listener | Unreached, ...]:
    return listeners_from_here("m0", declaration, here=runs_here(declaration, ()))


def test_a_wildcard_listener_is_reached_at_the_advertised_address() -> None:
    declaration = flags(
        "--listen-client-urls=https://0.0.0.0:2379",
        "--advertise-client-urls=https://node1.example:2379",
        "--listen-peer-urls=https://[::]:2380",
        "--initial-advertise-peer-urls=https://10.0.0.11:2380",
        "--listen-metrics-urls=http://0.0.0.0:2381",
    )
    assert {listener.url for listener in _reached(declaration)} == {
        "https://node1.example:2379",
        "https://10.0.0.11:2380",
        "http://node1.example:2381",
    }


def test_listeners_that_cannot_be_reached_have_a_reason() -> None:
    wildcard, socket, _ = _reached(flags("--listen-client-urls=https://0.0.0.0:2379,unixs://s:1"))
    assert isinstance(wildcard, Unreached)
    assert "pass the member's URL" in wildcard.reason
    assert isinstance(socket, Unreached)
    assert "is a socket" in socket.reason


def test_a_member_knows_its_files(pki_files: Path) -> None:
    declaration = flags(*GOOD, "--client-crl-file=/pki/crl.pem", "--peer-crl-file=/pki/gone.der")
    member = declared_member(declaration, pki_files)
    assert member.file("cert-file") == pki_files / "server.crt"
    assert member.file("client-cert-file") is None
    assert member.file("peer-crl-file") is None
    assert effective_of(member, "3.5.33").sides["client"].crl is CRLEffect.ENFORCED
    assert effective_of(member, "3.6.16").sides["client"].crl is CRLEffect.REFUSES_ALL
    assert {trap.id for trap in traps_of(member, "3.6.16")} == {"crl-encoding", "crl-missing"}
