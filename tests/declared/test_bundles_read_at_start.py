"""Which files of trusted CAs an etcd reads at its start: it ends if one of them is a private key."""

from __future__ import annotations

from pathlib import Path

import pytest

from declared.conftest import Workplace
from declared.etcd_itself import run
from pytest_etcdtls.declared.files import read_member_files
from pytest_etcdtls.declared.reading import declared_member, from_command_line

PLAIN = ("--listen-client-urls=http://{client}", "--advertise-client-urls=http://{client}")
SECURE = ("--listen-client-urls=https://{client}", "--advertise-client-urls=https://{client}")
PAIR = ("--cert-file={pki}/server.crt", "--key-file={pki}/server.key")
PEER_PAIR = ("--peer-cert-file={pki}/peer.crt", "--peer-key-file={pki}/peer.key")
KEY = "--trusted-ca-file={pki}/client.key"
PEER_KEY = "--peer-trusted-ca-file={pki}/peer.key"

CASES = {
    "https": (*SECURE, *PAIR, KEY),
    "plaintext": (*PLAIN, KEY),
    "plaintext with a pair": (*PLAIN, *PAIR, KEY),
    "https metrics beside plaintext": (*PLAIN, *PAIR, KEY, "--listen-metrics-urls=https://{other}"),
    "generated": (*SECURE, "--auto-tls", KEY),
    "peers in plaintext": (*PLAIN, PEER_KEY),
    "peers in plaintext with a pair": (*PLAIN, *PEER_PAIR, PEER_KEY),
    "peers with generated certificates": (*PLAIN, "--peer-auto-tls", PEER_KEY),
}


@pytest.mark.parametrize("case", CASES)
def test_etcd_ends_if_it_reads_a_key(case: str, etcd_binary: Path, workplace: Workplace) -> None:
    argv = [*workplace.member(), *map(workplace.fill_in, CASES[case])]
    files = read_member_files("m0", declared_member(from_command_line(["etcd", *argv])))
    read = any(bundle.read_at_start for bundle in files.bundles.values())
    seen = run(etcd_binary, argv, {}, workplace.directory)
    assert seen.started is not read, seen.log
