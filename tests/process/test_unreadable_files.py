"""Files that the user of a running etcd cannot read, as after a renewal by root."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from declared.declaring import POD, UNIT, read_declaration, write_declaration
from kubeadm.judging import judged
from starting import running_etcd

from process.containers import address_of_worker, as_root, target
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.files import read_member_files
from pytest_etcdtls.declared.reading import declared_member
from pytest_etcdtls.declared.running import Process, find_process
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan

pytestmark = as_root

OTHER, GROUP = 54321, 54322
"""The user and group of etcd, and a group that it does not have."""
PAIR, BUNDLE = "config.key-matches-certificate", "config.trusted-ca-usable"
ADDRESS = address_of_worker(59)
CLIENT, PEER = f"https://{ADDRESS}:2379", f"https://{ADDRESS}:2380"


@dataclass(frozen=True)
class OfAnother:
    """An etcd of another user, and its files."""

    process: Process
    pki: Path
    words: tuple[str, ...]

    def judge(self, *checks: str) -> list[CheckResult]:
        """Judge it."""
        return judged(target(self.process), *checks)


@pytest.fixture
def pki() -> Iterator[Path]:
    """Keys and certificates of that user, in a directory that others can pass."""
    with TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        ClusterPKI.generate(PKIPlan(), [MemberNames("m0")]).write(directory / "pki")
        (directory / "data").mkdir()
        for path in (directory / "data", directory / "pki", *(directory / "pki").rglob("*")):
            os.chown(path, OTHER, OTHER)
        yield directory / "pki"


def words_of(etcd: Path, pki: Path) -> tuple[str, ...]:
    """Return the command line of an etcd with mutual TLS on both ports."""
    return (
        *(str(etcd), "--name=m0", f"--data-dir={pki.parent / 'data'}", f"--initial-cluster=m0={PEER}"),
        *(f"--listen-client-urls={CLIENT}", f"--advertise-client-urls={CLIENT}"),
        *(f"--listen-peer-urls={PEER}", f"--initial-advertise-peer-urls={PEER}"),
        *(f"--cert-file={pki}/m0/server.crt", f"--key-file={pki}/m0/server.key", "--client-cert-auth"),
        *(f"--peer-cert-file={pki}/m0/peer.crt", f"--peer-key-file={pki}/m0/peer.key"),
        *(f"--trusted-ca-file={pki}/client-ca.crt", f"--peer-trusted-ca-file={pki}/peer-ca.crt"),
        "--peer-client-cert-auth",
    )


def start(etcd: Path, pki: Path) -> Iterator[OfAnother]:
    """Run an etcd as that user."""
    program = pki.parent / "etcd"  # the directories above the original one may be root's alone
    shutil.copy(etcd, program)
    words = words_of(program, pki)
    with running_etcd(words, pki.parent / "log", user=OTHER) as running:
        assert running.serves(), running.text
        yield OfAnother(find_process(running.process.pid), pki, words)


@pytest.fixture
def each(etcd_binary: Path, pki: Path) -> Iterator[OfAnother]:
    """Each etcd, as that user."""
    yield from start(etcd_binary, pki)


@pytest.fixture
def etcd(newest_etcd: Path, pki: Path) -> Iterator[OfAnother]:
    """The newest etcd, as that user."""
    yield from start(newest_etcd, pki)


def permit(path: Path, owner: int, group: int, mode: int) -> None:
    """Set owner, group and mode."""
    os.chown(path, owner, group)
    path.chmod(mode)


@pytest.mark.kills("config.key-matches-certificate")
def test_a_key_that_root_has_renewed(each: OfAnother) -> None:
    """Every handshake fails. The fault names the user, and the command that it prints mends it."""
    key = each.pki / "m0/server.key"
    permit(key, 0, 0, 0o600)
    results = each.judge(PAIR, "listener.answers")
    [pair] = [one for one in results if one.check == PAIR]
    [answers] = [one for one in results if one.check == "listener.answers" and one.url == CLIENT]
    [finding] = pair.findings
    here = f"{each.process.root}{key}"
    assert finding.message == (
        f"m0: a declared file cannot be used: user {OTHER} ({each.process.name}) may not read {here}: "
        "mode 0600, owner 0, group 0"
    )
    command = f"chown {OTHER} {here}"
    assert pair.remediation == (
        f"let that user or its group read it, not others: {command}; etcd reads it at the next handshake"
    )
    assert answers.outcome is Outcome.VIOLATES
    assert "internal_error" in answers.findings[0].message
    subprocess.run(["sh", "-c", command], check=True)
    assert {one.outcome for one in each.judge(PAIR, "listener.answers")} == {Outcome.CONFORMS}


REFUSED = {
    "a group that etcd has": ("m0/server.key", (0, OTHER, 0o600), PAIR, "chmod g+r {}"),
    "a group that it lacks": ("m0/server.key", (0, GROUP, 0o640), PAIR, f"chown {OTHER} {{}}"),
    "its owner": ("m0/server.key", (OTHER, OTHER, 0o044), PAIR, "chmod u+r {}"),
    "its group, but not others": ("m0/server.key", (0, OTHER, 0o604), PAIR, "chmod g+r {}"),
    "a certificate": ("m0/peer.crt", (0, 0, 0o600), PAIR, f"chown {OTHER} {{}}"),
    "a directory": ("m0", (0, 0, 0o700), PAIR, f"chown :{OTHER} {{0}} && chmod g+x {{0}}"),
    "a bundle": ("client-ca.crt", (0, 0, 0o600), BUNDLE, f"chown {OTHER} {{}}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_missing_is_given_to_no_others(etcd: OfAnother, case: str) -> None:
    """What is printed mends it, and of every path above it others have no more rights than before."""
    name, rights, check, command = REFUSED[case]
    path = etcd.pki / name
    permit(path, *rights)
    others = path.stat().st_mode & 0o007
    [result] = etcd.judge(check)
    remedy = command.format(f"{etcd.process.root}{path}")
    verb = "pass" if path.is_dir() else "read it"
    assert result.remediation.startswith(f"let that user or its group {verb}, not others: {remedy}")
    assert f"user {OTHER} ({etcd.process.name}) may not {verb.split()[0]} " in result.findings[0].message
    subprocess.run(["sh", "-c", remedy], check=True)
    [result] = etcd.judge(check)
    assert result.outcome is Outcome.CONFORMS, result
    assert path.stat().st_mode & 0o007 == others


def _acl(user: int) -> bytes:
    """Return an access list with which a user may read (linux/posix_acl_xattr.h)."""
    entries = ((0x01, 6, 0xFFFFFFFF), (0x02, 4, user), (0x04, 0, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF))
    return b"".join(struct.pack("<HHI", *one) for one in (*entries, (0x20, 0, 0xFFFFFFFF)))


@pytest.mark.parametrize("kind", ["group", "access list"])
def test_root_has_renewed_it_with_care(etcd: OfAnother, kind: str) -> None:
    key = etcd.pki / "m0/server.key"
    permit(key, 0, OTHER if kind == "group" else 0, 0o640 if kind == "group" else 0o600)
    if kind == "access list":
        try:
            os.setxattr(key, "system.posix_acl_access", struct.pack("<I", 2) + _acl(OTHER))
        except OSError as error:
            pytest.skip(f"this file system has no access lists: {error.strerror}")
    results = etcd.judge(PAIR, "listener.answers")
    assert {one.outcome for one in results} == {Outcome.CONFORMS}, results


@pytest.mark.parametrize(("text", "place"), [(UNIT, "2: User="), (POD, "6: runAsUser")], ids=["unit", "pod"])
def test_a_declared_user_is_told_the_same(pki: Path, text: str, place: str) -> None:
    file = write_declaration(pki.parent, text, OTHER, words_of(Path("/usr/bin/etcd"), pki))
    declared = declared_member(read_declaration(file))
    key = pki / "m0/server.key"
    for rights, command in (((0, 0, 0o600), f"chown {OTHER} {key}"), ((0, OTHER, 0o600), f"chmod g+r {key}")):
        permit(key, *rights)
        fact = read_member_files("m0", declared, own=True).pairs[0].key
        mode = f"mode 0600, owner 0, group {rights[1]}"
        assert fact.problem == f"user {OTHER} ({file}:{place}) may not read {key}: {mode}"
        assert fact.remedy == f"let that user or its group read it, not others: {command}"
    permit(key, 0, OTHER, 0o640)
    assert not read_member_files("m0", declared, own=True).pairs[0].key.problem
