"""The commands of findings show what they say, where they are pasted: in a shell that exports credentials."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from judged import judged
from zoo.members import ZOO
from zoo.model import ALL_BUT_LIFECYCLE, Misconfigured, start_or_skip

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.role import Role

pytestmark = pytest.mark.program("bash", "curl", "diff", "etcdctl", "grep", "openssl")

WRONG_HERE = {
    "client-certificate-sha1": "ca md too weak",
    "client-certificate-weak-key": "ee key too small",
    "client-rsa-1024": "ee key too small",
    "client-sha1": "md too weak",
}
"""What curl itself refuses, by name of the misconfigured cluster."""
UNSUPPORTED = "no cipher match|no suitable groups|SSL_CONF_cmd.-groups,.* failed"
"""What an openssl prints that lacks a cipher suite or a group."""
NOT_IN_THE_FILE = {"client-intermediate-not-served"}
"""The run presents the served certificate with its intermediate, which is in no file."""


@pytest.mark.parametrize("member", [pytest.param(one, id=one.name) for one in ZOO])
def test_every_command_shows_its_finding(member: Misconfigured, newest_etcd: Path, tmp_path: Path) -> None:
    if member.checks != ALL_BUT_LIFECYCLE or member.name in NOT_IN_THE_FILE:
        pytest.skip("it is not reproduced by hand")
    with pytest.MonkeyPatch.context() as patch, start_or_skip(member, newest_etcd, tmp_path) as cluster:
        patch.setenv("https_proxy", "http://127.0.0.1:9")
        for name in ("CERT", "KEY"):
            patch.setenv(f"ETCDCTL_{name}", str(cluster.directory / "pki" / f"client.{name.lower()[:3]}"))
        tried, unsupported = 0, False
        for result in judged(cluster.target(), *member.checks):
            place = tmp_path / f"{result.check}-{result.listener}"
            place.mkdir()
            _write_authority(cluster, result.role, place)
            for text in (text for finding in result.findings for text in finding.commands):
                shown = _pasted(text, place)
                if re.search(UNSUPPORTED, shown):
                    unsupported = True
                    continue
                tried += 1
                refused_by_curl = member.name in WRONG_HERE and WRONG_HERE[member.name] in shown
                assert refused_by_curl or _is_seen(text, shown), f"{result.check}:\n{text}\n\n{shown}"
        if unsupported and not tried:
            pytest.skip("needs an openssl that has the cipher suites or groups which the commands offer")
        assert tried


def _write_authority(cluster: Cluster, role: str, directory: Path) -> None:
    """Write what a comment says to write: the CA that has issued the identities of the run in memory."""
    signing = cluster.target().credentials(Role.PEER if role == Role.PEER else Role.CLIENT).signing_key
    if signing is not None:
        (directory / "ca.crt").write_bytes(encode_certificates((signing.certificate,)))
        (directory / "ca.key").write_bytes(encode_key(signing.key))


def _pasted(text: str, directory: Path) -> str:
    """Return what a text prints that is pasted into a shell."""
    ran = subprocess.run(
        ["bash", "-c", text],
        cwd=directory,
        env={**os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=60,
    )
    return ran.stdout.decode(errors="replace")


def _is_seen(text: str, shown: str) -> bool:
    """Return whether the output has what the last line of a text says to look for."""
    look = text.rpartition("\n# look for ")[2]
    if "No such file" in shown:
        return '"BEGIN"' in look or "No such file" in look  # that the file is missing is the finding
    if ("HTTP status" in look and "HTTP/" in shown) or ("no output" in look and not shown):
        return True
    phrases = re.findall(r'"([^"]+)"', look)
    return any(phrase in shown for phrase in phrases) or (not phrases and bool(shown.strip()))
