"""Which files an etcd reads at its start: it ends if one is missing, or a bundle is a key."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hostile.test_other_users import OTHER, second_user

from declared.conftest import Workplace
from declared.declaring import POD, UNIT, read_declaration, write_declaration
from declared.etcd_itself import run
from declared.test_starting import PAIR, PLAIN
from declared.test_starting import URLS as SECURE
from pytest_etcdtls.declared.files import read_member_files
from pytest_etcdtls.declared.reading import declared_member, from_command_line

PEER_PAIR = ("--peer-cert-file={pki}/peer.crt", "--peer-key-file={pki}/peer.key")
KEY = "--trusted-ca-file={pki}/client.key"
PEER_KEY = "--peer-trusted-ca-file={pki}/peer.key"

OF_KEYS = {
    "https": (*SECURE, *PAIR, KEY),
    "plaintext": (*PLAIN, KEY),
    "plaintext with a pair": (*PLAIN, *PAIR, KEY),
    "https metrics beside plaintext": (*PLAIN, *PAIR, KEY, "--listen-metrics-urls=https://{other}"),
    "generated": (*SECURE, "--auto-tls", KEY),
    "peers in plaintext": (*PLAIN, PEER_KEY),
    "peers in plaintext with a pair": (*PLAIN, *PEER_PAIR, PEER_KEY),
    "peers with generated certificates": (*PLAIN, "--peer-auto-tls", PEER_KEY),
}


@pytest.fixture
def shared(newest_etcd: Path) -> Iterator[Path]:
    """A directory that other users can pass, with etcd and a directory for its data."""
    with TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copy(newest_etcd, directory / "etcd")
        (directory / "work").mkdir()
        os.chown(directory / "work", OTHER, OTHER)
        (directory / "work").chmod(0o700)
        yield directory


@second_user
@pytest.mark.parametrize("text", [POD, UNIT], ids=["runAsUser", "User"])
@pytest.mark.parametrize(
    ("mode", "group", "directory"),
    [
        (0o600, 0, 0o755),
        (0o640, OTHER, 0o755),
        (0o644, 0, 0o700),
        (0o604, OTHER, 0o755),
    ],
)
def test_etcd_ends_if_its_user_cannot_read_the_key(
    text: str, mode: int, group: int, directory: int, shared: Path, workplace: Workplace
) -> None:
    pki = shared / "pki"
    shutil.copytree(workplace.pki, pki)
    for file in pki.glob("*.crt"):
        file.chmod(0o644)
    os.chown(pki / "server.key", 0, group)
    (pki / "server.key").chmod(mode)
    pki.chmod(directory)
    placed = dataclasses.replace(workplace, directory=shared / "work", pki=pki)
    argv = [*placed.member(), *map(placed.fill_in, (*SECURE, *PAIR))]
    declaration = write_declaration(shared, text, OTHER, ["/usr/bin/etcd", *argv])
    [pair] = read_member_files("m0", declared_member(read_declaration(declaration)), own=True).pairs
    seen = run(shared / "etcd", argv, {}, placed.directory, user=OTHER)
    assert seen.started is not bool(pair.key.problem), (pair.key, seen.log)


CASES = {
    **OF_KEYS,
    **{
        f"{name}, without the bundle": tuple(
            word.replace(".key", ".gone") if "ca-file" in word else word for word in words
        )
        for name, words in OF_KEYS.items()
    },
    "a list of bundles": (*SECURE, *PAIR, "--trusted-ca-file={pki}/client-ca.crt,{pki}/peer-ca.crt"),
    "a bundle that is a directory": (*SECURE, *PAIR, "--trusted-ca-file={pki}"),
    "no certificate": (*SECURE, "--cert-file={pki}/gone.crt", PAIR[1]),
    "no key": (*SECURE, PAIR[0], "--key-file={pki}/gone.key"),
    "no pair in plaintext": (*PLAIN, "--cert-file={pki}/gone.crt", "--key-file={pki}/gone.key"),
    "no pair of peers in plaintext": (*PLAIN, "--peer-cert-file={pki}/gone.crt", PEER_PAIR[1]),
    "everything": (*SECURE, *PAIR, "--trusted-ca-file={pki}/client-ca.crt", *PEER_PAIR),
    "no list": (*SECURE, *PAIR, "--trusted-ca-file={pki}/client-ca.crt", "--client-crl-file={pki}/gone.der"),
}
DIALING = {
    "no pair of the gateway": ("--client-cert-file={pki}/gone.crt", "--client-key-file={pki}/gone.key"),
    "no pair to dial peers with": (
        "--peer-client-cert-file={pki}/gone.crt",
        "--peer-client-key-file={pki}/gone.key",
    ),
}


def _ends_if_one_is_unusable(words: tuple[str, ...], binary: Path, workplace: Workplace) -> None:
    argv = [*workplace.member(), *map(workplace.fill_in, words)]
    files = read_member_files("m0", declared_member(from_command_line(["etcd", *argv])), own=True)
    read = [file for pair in files.pairs for file in (pair.certificate, pair.key)]
    for bundle in files.bundles.values():
        read += [bundle.file, *(bundle.keys if bundle.read_at_start else ())]
    seen = run(binary, argv, {}, workplace.directory)
    assert seen.started is not any(file.problem or file.has_key for file in read), seen.log
    assert all(crl.missing for _, crl in files.crls)


@pytest.mark.parametrize("case", CASES)
def test_etcd_ends_if_a_file_is_missing_or_a_key(case: str, etcd_binary: Path, workplace: Workplace) -> None:
    _ends_if_one_is_unusable(CASES[case], etcd_binary, workplace)


@pytest.mark.etcd_version("3.5", "3.6", "3.7")
@pytest.mark.parametrize("case", DIALING)
def test_etcd_ends_if_a_pair_to_dial_with_is_missing(
    case: str, etcd_binary: Path, workplace: Workplace
) -> None:
    _ends_if_one_is_unusable((*SECURE, *PAIR, *PEER_PAIR, *DIALING[case]), etcd_binary, workplace)
