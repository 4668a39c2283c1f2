"""The answers of clients to a case: Go as in etcd's clients, OpenSSL, Python, Python's cryptography."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import ssl
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from OpenSSL import SSL, crypto
from oracle.chains import Case

SOURCE = Path(__file__).with_name("verify")


@dataclass(frozen=True)
class GoAnswer:
    """The answer of the Go client.

    Attributes:
        phase: where it refuses: ``roots``, ``parse``, ``size``, ``verify``, ``handshake``.
        error: its words, empty if it accepts.
    """

    refused: bool
    phase: str
    error: str


@dataclass(frozen=True)
class GoList:
    """What Go reads of a revocation list: an error, or serial numbers without sign and nextUpdate."""

    error: str
    serials: tuple[int, ...]
    next_update: int


@dataclass(frozen=True)
class GoLists:
    """What Go's two functions read of a file, and the first PEM block that it finds there."""

    parse_crl: GoList
    parse_revocation_list: GoList
    block: tuple[bytes, bytes] | None


class GoClient:
    """The program of ``tests/oracle/verify``, built with the installed Go."""

    def __init__(self, directory: Path) -> None:
        self._binary = directory / "oracle"
        environment = {"GOTOOLCHAIN": "local", "GOFLAGS": "", "CGO_ENABLED": "0"}
        subprocess.run(
            ["go", "build", "-o", str(self._binary), "."],
            cwd=SOURCE,
            env=_environment() | environment,
            check=True,
            capture_output=True,
            encoding="utf-8",
        )
        self.version = subprocess.run(
            [self._binary, "version"], check=True, capture_output=True, encoding="utf-8"
        ).stdout.strip()

    def ask(self, cases: Sequence[Case]) -> list[GoAnswer]:
        """Return its answer to each case."""
        lines = "\n".join(json.dumps(_as_json(case)) for case in cases)
        done = subprocess.run([self._binary], input=lines, check=True, capture_output=True, encoding="utf-8")
        return [GoAnswer(**json.loads(line)) for line in done.stdout.splitlines()]

    def read_lists(self, files: Sequence[bytes]) -> list[GoLists]:
        """Return what it reads of each file of a revocation list."""
        lines = "\n".join(json.dumps({"data": base64.b64encode(data).decode()}) for data in files)
        done = subprocess.run(
            [self._binary, "crl"], input=lines, check=True, capture_output=True, encoding="utf-8"
        )
        return [_lists(json.loads(line)) for line in done.stdout.splitlines()]


def _lists(answer: dict[str, Any]) -> GoLists:
    old, new = (
        GoList(found["error"], tuple(map(int, found["serials"])), found["next_update"])
        for found in (answer["parse_crl"], answer["parse_revocation_list"])
    )
    block = answer["block"]
    return GoLists(old, new, None if block is None else (answer["label"].encode(), base64.b64decode(block)))


def why_no_go() -> str:
    """Return why the program cannot be built here, empty if it can."""
    if shutil.which("go") is None:
        return "Go, to compare verdicts on certificates with its verifier"
    wanted = next(
        line.split()[1]
        for line in (SOURCE / "go.mod").read_text(encoding="utf-8").splitlines()
        if line.startswith("go ")
    )
    said = subprocess.run(
        ["go", "env", "GOVERSION"],
        env=_environment() | {"GOTOOLCHAIN": "local"},
        cwd="/",
        check=False,
        capture_output=True,
        encoding="utf-8",
    ).stdout.strip()
    version = tuple(int(part) for part in said.removeprefix("go").split(".")[:2] if part.isdigit())
    if version < tuple(map(int, wanted.split("."))):
        return f"Go {wanted} or newer, to compare verdicts on certificates with its verifier; there is {said}"
    return ""


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def _as_json(case: Case) -> dict[str, object]:
    def encoded(ders: Sequence[bytes]) -> list[str]:
        return [base64.b64encode(der).decode() for der in ders]

    return {
        "roots": encoded(case.roots),
        "chain": encoded(case.chain),
        "host": case.host,
        "time": case.now.isoformat(),
    }


# -- OpenSSL and Python: a handshake in memory ---------------------------------------------------------

PYTHON_3_13 = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
"""What ``ssl.create_default_context`` adds from Python 3.13 on."""


def handshake(case: Case, flags: ssl.VerifyFlags) -> str | None:
    """Return why a client of this Python's OpenSSL refuses, empty if it does not.

    ``None`` stands for a case that cannot be served. The clock is the machine's: cases are made for now.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= flags
    try:
        for der in case.roots:
            client.load_verify_locations(cadata=der)
    except ssl.SSLError as error:
        return f"CA file: {error.reason}"
    server = _server(case)
    if server is None:
        return None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = client.wrap_bio(incoming, outgoing, server_hostname=case.host.removesuffix("."))
    for _ in range(6):
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except (ssl.SSLError, ssl.CertificateError) as error:
            return str(error)
        else:
            return ""
        server.bio_write(outgoing.read() or b"")
        with contextlib.suppress(SSL.WantReadError, SSL.Error):
            server.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            while True:
                incoming.write(server.bio_read(65536))
    return "no end of the handshake"


def _server(case: Case) -> SSL.Connection | None:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    if case.key.private is None:
        return None
    try:
        leaf, *others = (crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in case.chain)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context.use_certificate(leaf)
            context.use_privatekey(crypto.PKey.from_cryptography_key(case.key.private))
            for other in others:
                context.add_extra_chain_cert(other)
    except (SSL.Error, crypto.Error, TypeError, ValueError):
        return None
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    return connection


def by_cryptography(case: Case) -> str:
    """Return why Python's cryptography refuses, empty if it does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            leaf, *others = (x509.load_der_x509_certificate(der) for der in case.chain)
            roots = [x509.load_der_x509_certificate(der) for der in case.roots]
            try:
                subject: x509.IPAddress | x509.DNSName = x509.IPAddress(ip_address(case.host))
            except ValueError:
                subject = x509.DNSName(case.host.removesuffix("."))
            verifier = (
                PolicyBuilder()
                .store(Store(roots))
                .time(case.now.replace(tzinfo=None))
                .build_server_verifier(subject)
            )
            verifier.verify(leaf, others)
    except (VerificationError, ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        return str(error) or type(error).__name__
    return ""


def key_pem(case: Case) -> bytes:
    """Return the key of the leaf as PEM."""
    pem: bytes = case.key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def each(cases: Sequence[Case], go: GoClient) -> Iterator[tuple[Case, GoAnswer]]:
    """Yield each case with Go's answer."""
    yield from zip(cases, go.ask(cases), strict=True)
