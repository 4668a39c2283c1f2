"""Early data is read from the tickets of OpenSSL's own server, since etcd does not offer it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tls.etcd_alike import ANSWER, Files, judge

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener

pytestmark = pytest.mark.program("openssl")


@contextmanager
def _s_server(files: Files, directory: Path, *options: str) -> Iterator[Listener]:
    """Run ``openssl s_server``; it serves the requested file, which includes the headers."""
    (directory / "version").write_bytes(ANSWER)
    pair = files.directory / "m0"
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-HTTP", "-tls1_3"]
    command += ["-cert", str(pair / "peer.crt"), "-key", str(pair / "peer.key")]
    command += ["-Verify", "3", "-verify_return_error", "-CAfile", str(files.directory / "peer-ca.crt")]
    with subprocess.Popen(
        [*command, *options],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("ACCEPT 127.0.0.1:"))
            yield Listener(
                role=Role.PEER,
                scheme="https",
                host="127.0.0.1",
                port=int(line.rpartition(":")[2]),
                member="m0",
                label="peer-m0",
            )
        finally:
            process.kill()


@pytest.mark.kills("tls.early-data")
@pytest.mark.parametrize(
    "suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
)
def test_tickets_that_allow_early_data_violate(
    pki: tuple[ClusterPKI, Path], tmp_path: Path, suite: str
) -> None:
    files = Files(*pki)
    options = ("-max_early_data", "4711", "-ciphersuites", suite)
    with _s_server(files, tmp_path, *options) as listener:
        (result,) = judge(files.target(listener), "tls.early-data")
    assert result.outcome is Outcome.VIOLATES, result
    assert [finding.observed for finding in result.findings] == ["up to 4711 octets of early data"]


def test_tickets_without_early_data_conform(pki: tuple[ClusterPKI, Path], tmp_path: Path) -> None:
    files = Files(*pki)
    with _s_server(files, tmp_path) as listener:
        (result,) = judge(files.target(listener), "tls.early-data")
    assert (result.outcome, result.reason) == (Outcome.CONFORMS, ""), result
