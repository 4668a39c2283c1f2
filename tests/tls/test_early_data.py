"""Tickets are read as RFC 8448 printed them, and out of real connections; early data is read from them.

Early data is that of OpenSSL's own server, since etcd does not offer it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from impostors.impostor import answers, over_http1
from impostors.staging import FakeCluster

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ticket, read_tickets

pytestmark = pytest.mark.program("openssl")


@contextmanager
def _s_server(fake: FakeCluster, directory: Path, *options: str) -> Iterator[None]:
    """Run ``openssl s_server``; it serves the requested file, which includes the headers."""
    (directory / "version").write_bytes(over_http1(answers("3.6.16")["/version"]))
    pair = fake.directory / "m0"
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-HTTP", "-tls1_3"]
    command += ["-cert", str(pair / "peer.crt"), "-key", str(pair / "peer.key")]
    command += ["-Verify", "3", "-verify_return_error", "-CAfile", str(fake.directory / "peer-ca.crt")]
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
            port = int(line.rpartition(":")[2])
            fake.listeners.append(
                Listener(
                    role=Role.PEER,
                    scheme="https",
                    host="127.0.0.1",
                    port=port,
                    member="m0",
                    label="peer-m0",
                )
            )
            yield
        finally:
            process.kill()


@pytest.mark.kills("tls.early-data")
@pytest.mark.parametrize(
    "suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
)
def test_tickets_that_allow_early_data_violate(fake: FakeCluster, tmp_path: Path, suite: str) -> None:
    options = ("-max_early_data", "4711", "-ciphersuites", suite)
    with _s_server(fake, tmp_path, *options):
        (result,) = fake.judge("tls.early-data")
    assert result.outcome is Outcome.VIOLATES, result
    assert [finding.observed for finding in result.findings] == ["up to 4711 octets of early data"]


def test_tickets_without_early_data_conform(fake: FakeCluster, tmp_path: Path) -> None:
    with _s_server(fake, tmp_path):
        (result,) = fake.judge("tls.early-data")
    assert (result.outcome, result.reason) == (Outcome.CONFORMS, ""), result


# RFC 8448 section 3: the server's application traffic secret, and the record with its NewSessionTicket.
SECRET = bytes.fromhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
TICKET = bytes.fromhex(
    "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d4"
    "1d6af8f6b580dcf3d11d63c758db289a015940252f55713e061dc13e078891a3"
    "8efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e0"
    "9c30ba1e62972ac46f75f7b981be63439b2999ce13064615139891d5e4c5b406"
    "f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c01346755f69232c8651"
    "9d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe5137121c74"
    "bc2697687e248746d6df353005f3bce18696129c8153556b3b6c6779b37bf159"
    "85684f"
)
# A record of the same handshake under another key: the client's Finished.
OF_THE_HANDSHAKE = bytes.fromhex(
    "170303003575ec4dc238cce60b298044a71e219c56cc77b0517fe9b93c7a4bfc"
    "44d87f38f80338ac98fc46deb384bd1caeacab6867d726c40546"
)
SUITE = "TLS_AES_128_GCM_SHA256"
SAID = Ticket(lifetime=30, max_early_data=1024)


def test_the_ticket_of_rfc_8448() -> None:
    assert read_tickets(TICKET, SECRET, SUITE) == (SAID,)
    before = b"\x16\x03\x03\x00\x02\x00\x00" + b"\x14\x03\x03\x00\x01\x01" + OF_THE_HANDSHAKE
    assert read_tickets(before + TICKET, SECRET, SUITE) == (SAID,)  # records under other keys are skipped


def test_what_is_no_ticket() -> None:
    for size in (0, 4, 5, 100, len(TICKET) - 1):
        assert read_tickets(TICKET[:size], SECRET, SUITE) == ()
    assert read_tickets(TICKET, bytes(32), SUITE) == ()
    with pytest.raises(KeyError):
        read_tickets(TICKET, SECRET, "ECDHE-RSA-AES128-SHA")
