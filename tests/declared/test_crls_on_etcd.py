"""CRL files in many encodings: each etcd refuses the clients that are expected from the file's content."""

from __future__ import annotations

from pathlib import Path

from judged import listener_of
from oracle.crls import files, pem, signed
from starting import start_process

from pytest_etcdtls.declared.files import crl_file
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, Identity
from pytest_etcdtls.role import Role
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
        listener = listener_of(cluster.target(), Role.CLIENT)
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
