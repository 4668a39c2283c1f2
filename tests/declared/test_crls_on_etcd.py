"""CRL files in many encodings: each etcd refuses the clients that are expected from the file's content."""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle.crls import files, pem, signed
from starting import start_process

from declared.declaring import flags
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.declared.declaration import DeclaredPaths
from pytest_etcdtls.declared.effective import effective
from pytest_etcdtls.declared.files import crl_file, read_crl
from pytest_etcdtls.declared.traps import find_traps
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, Identity
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending, Request
from pytest_etcdtls.tls.connection import make_attempt

_FILE = "empty-crl.der"


def _ending(listener: Listener, identity: Identity) -> Ending:
    request = Request(purpose="a list", identity=identity, path="/version")
    return make_attempt(listener, request, 5).ending


def test_every_etcd_reads_each_encoding_as_expected(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(client_crl_file=_FILE), etcd_binary) as cluster:
        issuer, (member,) = cluster.pki.authorities.client_issuer, cluster.members
        clients = {name: issuer.issue(CLIENT, name=name) for name in ("unlisted", "first", "second")}
        first, second = (clients[name].chain[0].serial_number for name in ("first", "second"))
        named = files(issuer, first, second)
        # Neither the issuer nor the signature of a list is verified.
        another = CertificateAuthority.create("another CA", profile=AUTHORITY)
        named["DER of another CA"] = signed(another, first)
        named["PEM, two lists of two CAs"] = pem(signed(issuer, first)) + pem(signed(another, second))
        (listener,) = (one for one in cluster.target().listeners if one.role is Role.CLIENT)
        path, different = member.file(_FILE), []
        for name, data in named.items():
            member.replace_files({_FILE: data})
            reading = crl_file(_FILE, str(path), data).read_by(cluster.version)
            expected = {
                client: Ending.CLOSED
                if reading.error or identity.chain[0].serial_number in reading.serial_numbers
                else Ending.SERVED
                for client, identity in clients.items()
            }
            seen = {client: _ending(listener, identity) for client, identity in clients.items()}
            if seen != expected:
                different.append(f"{name}: expected {expected}, seen {seen} ({reading.error})")
        assert different == []


@pytest.mark.etcd_version("3.6", "3.7")
def test_a_newline_after_der_is_no_fault_from_3_6_on(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(client_crl_file="crl.der"), etcd_binary) as cluster:
        (member,) = cluster.members
        member.replace_files({"crl.der": member.file("crl.der").read_bytes() + b"\n"})
        chosen = select(("config", "mtls.revoked-http", "mtls.revoked-grpc", "mtls.trusted-client"))
        results = run_checks(Observer(cluster.target()), chosen)
        bad = [
            result.check
            for result in results
            if result.outcome not in (Outcome.CONFORMS, Outcome.NOT_APPLICABLE)
        ]
        assert bad == []
        assert {result.outcome for result in results if result.check == "mtls.revoked-http"} >= {
            Outcome.CONFORMS
        }


def test_a_list_that_revokes_an_intermediate_refuses_clients_that_send_it(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(client_crl_file=_FILE), etcd_binary) as cluster:
        (member,) = cluster.members
        intermediate = cluster.pki.authorities.client_issuer.intermediate("intermediate")
        client = intermediate.issue(CLIENT, name="of an intermediate")
        (listener,) = (one for one in cluster.target().listeners if one.role is Role.CLIENT)
        assert _ending(listener, client) is Ending.SERVED
        member.replace_files(
            {_FILE: signed(cluster.pki.authorities.client_issuer, client.chain[1].serial_number)}
        )
        assert _ending(listener, client) is Ending.CLOSED


def test_a_directory_is_as_a_missing_file(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(client_crl_file=_FILE), etcd_binary) as cluster:
        (member,) = cluster.members
        (listener,) = (one for one in cluster.target().listeners if one.role is Role.CLIENT)
        path = member.file(_FILE)
        path.unlink()
        path.mkdir()
        declaration = flags(*member.argv[1:])
        crl = read_crl(declaration.settings["client-crl-file"], DeclaredPaths())
        assert (crl.found, crl.known) == (None, False)
        crls = {crl.declared: crl}
        assert [trap.id for trap in find_traps(declaration, cluster.version, crls)] == ["crl-missing"]
        assert effective(declaration, cluster.version, crls).at(Role.CLIENT)[0].crl.name == "UNKNOWN"
        assert _ending(listener, cluster.pki.client) is Ending.CLOSED
