"""Writes the fixtures beside it: what real etcds logged because of what was done to them, case by case.

Run by hand for one binary, ``python tests/etcd_log/collect.py PATH``, when an etcd is to be added; the file
``lines/VERSION.jsonl`` is replaced. A case is one connection: what was done, how it ended on our side, and
the lines that etcd logged meanwhile. Nothing in the files is written by hand.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from starting import start_process

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Request
from pytest_etcdtls.tls.connection import make_attempt

LINES = Path(__file__).parent / "lines"
GOOD = ClusterConfig(metrics="https")
LOOSE = replace(GOOD, expects_health=False)
_QUIET_SECONDS = 0.4

_OF_OTHER_THINGS = re.compile("took too long|storage.version|schema version|serializable")

Case = dict[str, Any]


def _identities(cluster: Cluster, listener: Listener) -> Iterator[Identity]:
    authority = cluster.pki.peer_ca if listener.role is Role.PEER else cluster.pki.client_ca
    issuer = CertificateAuthority.from_key(authority.certificate, authority.key)
    yield NO_CERTIFICATE
    yield cluster.pki.peer_client if listener.role is Role.PEER else cluster.pki.client
    yield identities.self_signed()
    yield identities.foreign_ca()
    yield identities.lookalike_ca([authority.certificate.subject], [authority.certificate])
    yield from identities.issue_identities(issuer).values()


class Log:
    """The log of the first member, line by line."""

    def __init__(self, cluster: Cluster) -> None:
        self._member = cluster.members[0]
        self._seen = len(self._lines())

    def _lines(self) -> list[str]:
        text = self._member.log()
        return text[: text.rfind("\n") + 1].splitlines()

    def news(self, quiet: float = _QUIET_SECONDS) -> list[str]:
        """Return what was logged since the last call, once nothing more has come for a while."""
        lines, deadline = self._lines(), time.monotonic() + quiet
        while time.monotonic() < deadline:
            time.sleep(0.02)
            now = self._lines()
            if len(now) > len(lines):
                lines, deadline = now, time.monotonic() + quiet / 4
        new, self._seen = lines[self._seen :], len(lines)
        return [line for line in new if not _OF_OTHER_THINGS.search(line)]


def attempted(what: str, listener: Listener, request: Request, log: Log, timeout: float = 5) -> Case:
    """Make an attempt; return it as a case."""
    attempt = make_attempt(listener, request, timeout)
    return {"what": what, "role": str(listener.role), "attempt": facts(attempt), "log": log.news()}


def facts(attempt: Attempt) -> dict[str, Any]:
    """Return what a case keeps of an attempt."""
    return {
        "url": attempt.url,
        "identity": attempt.identity,
        "protocol": str(attempt.protocol),
        "ending": str(attempt.ending),
        "phase": str(attempt.phase),
        "stream_end": str(attempt.stream_end),
        "alert": attempt.alert,
        "asked": attempt.offered_version,
        "version": attempt.version,
        "local_address": attempt.local_address,
        "started_at": attempt.started_at.isoformat(),
        "plaintext": "plaintext" in attempt.purpose,
    }


def of_identities(cluster: Cluster, what: str, only: tuple[str, ...] = ()) -> Iterator[Case]:
    """Try identities on every listener, in both TLS versions."""
    log = Log(cluster)
    for listener in cluster.target().listeners:
        for identity in _identities(cluster, listener):
            if only and identity.name not in only:
                continue
            for version in TLSVersion:
                request = Request(purpose=what, identity=identity, version=version)
                yield attempted(f"{what}: {identity.name}", listener, request, log)


def of_protocols(cluster: Cluster) -> Iterator[Case]:
    """Speak what the listener does not."""
    log = Log(cluster)
    for listener in cluster.target().listeners:
        good = cluster.pki.peer_client if listener.role is Role.PEER else cluster.pki.client
        plain = replace(listener, scheme="http")
        for request in (
            Request(purpose="plaintext", plaintext=True),
            Request(purpose="plaintext HTTP/2", plaintext=True, protocol=Protocol.HTTP2),
            Request(purpose="HTTP/2", identity=good, protocol=Protocol.HTTP2),
            Request(
                purpose="gRPC", identity=good, protocol=Protocol.GRPC, path="/grpc.health.v1.Health/Check"
            ),
            Request(purpose="unknown ALPN", identity=good, alpn=("nonsense",)),
        ):
            where = plain if request.plaintext else listener
            yield attempted(request.purpose, where, request, log, timeout=3)


def by_socket(cluster: Cluster) -> Iterator[Case]:
    """What no attempt does: leave at once, reset, send junk, refuse the server's certificate."""
    log = Log(cluster)
    for listener in cluster.target().listeners:
        for what, act in (
            ("leaves at once", _leave),
            ("resets", _reset),
            ("sends junk", _junk),
            ("leaves inside the handshake", _half),
            ("refuses the server's certificate in TLS 1.2", _distrust_in_1_2),
            ("refuses the server's certificate in TLS 1.3", _distrust_in_1_3),
        ):
            address = act(listener)
            yield {"what": what, "role": str(listener.role), "local_address": address, "log": log.news()}
        for flags in (["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], ["-tls1_2", "-cipher", "AES256-SHA256"]):
            command = ["openssl", "s_client", "-connect", listener.authority, *flags]
            subprocess.run(command, input=b"", capture_output=True, check=False, timeout=20)
            yield {
                "what": " ".join(["openssl s_client", *flags]),
                "role": str(listener.role),
                "log": log.news(),
            }


def _connect(listener: Listener) -> socket.socket:
    return socket.create_connection(listener.address, timeout=5)


def _name(connection: socket.socket) -> str:
    host, port = connection.getsockname()[:2]
    return f"{host}:{port}"


def _leave(listener: Listener) -> str:
    with _connect(listener) as connection:
        return _name(connection)


def _reset(listener: Listener) -> str:
    with _connect(listener) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.sendall(b"\x16\x03\x01")
        time.sleep(0.05)
        return _name(connection)


def _junk(listener: Listener) -> str:
    with _connect(listener) as connection:
        connection.sendall(b"\x00" * 64)
        time.sleep(0.05)
        return _name(connection)


def _half(listener: Listener) -> str:
    with _connect(listener) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        time.sleep(0.05)
        return _name(connection)


def _distrust_in_1_2(listener: Listener) -> str:
    return _distrust(listener, ssl.TLSVersion.TLSv1_2)


def _distrust_in_1_3(listener: Listener) -> str:
    return _distrust(listener, ssl.TLSVersion.TLSv1_3)


def _distrust(listener: Listener, version: ssl.TLSVersion) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.maximum_version = version
    with _connect(listener) as connection:
        address = _name(connection)
        try:
            context.wrap_socket(connection).close()
        except ssl.SSLError:
            return address
    raise SystemExit("the server's certificate should not have been trusted")


def silent(cluster: Cluster) -> Iterator[Case]:
    """Connect and say nothing for longer than the listener waits."""
    log = Log(cluster)
    for listener in cluster.target().listeners:
        with _connect(listener) as connection:
            address = _name(connection)
            connection.settimeout(13)
            try:
                connection.recv(1)
            except TimeoutError:
                continue
        yield {
            "what": "says nothing",
            "role": str(listener.role),
            "local_address": address,
            "log": log.news(),
        }


CONFIGURATIONS: tuple[tuple[str, ClusterConfig, tuple[str, ...]], ...] = (
    ("CRL", replace(LOOSE, client_crl_file="crl.der", peer_crl_file="crl.der"), ("client", "peer-client")),
    ("PEM CRL", replace(LOOSE, client_crl_file="crl.pem", peer_crl_file="crl.pem"), ("none", "client")),
    ("no CRL file", replace(LOOSE, client_crl_file="gone.der"), ("none", "client")),
    ("allowed hostname", replace(LOOSE, client_cert_allowed_hostname="good.example"), ("client",)),
    ("system roots", replace(LOOSE, trusted_ca_file=None), ("client",)),
    (
        "HTTP split off, CRL",
        replace(GOOD, client_http=True, client_crl_file="crl.der"),
        ("none", "foreign-ca"),
    ),
    ("auto-tls", replace(LOOSE, auto_tls=True, cert_file=None, key_file=None), ("none", "client")),
)


def collect(binary: Path) -> Iterator[Case]:
    """Yield every case that this etcd can express."""
    with start_process(GOOD, binary) as cluster:
        yield {"what": "start", "log": cluster.members[0].log().splitlines()}
        yield from of_identities(cluster, "mutual TLS")
        yield from of_protocols(cluster)
        yield from by_socket(cluster)
        yield from silent(cluster)
        log = Log(cluster)
        cluster.members[0].file("server.key").unlink()
        for listener in cluster.target().listeners:
            request = Request(purpose="key gone", identity=cluster.pki.client)
            yield attempted("the served key is gone", listener, request, log)
    for what, config, only in CONFIGURATIONS:
        try:
            cluster = start_process(config, binary)
        except UsageError:
            continue
        with cluster:
            yield from of_identities(cluster, what, only)
            if "CRL" in what and config.client_crl_file == "crl.der":
                yield from _revoked(cluster)


def _revoked(cluster: Cluster) -> Iterator[Case]:
    log = Log(cluster)
    for listener in cluster.target().listeners:
        for version in TLSVersion:
            request = Request(purpose="revoked", identity=cluster.pki.revoked, version=version)
            yield attempted("revoked", listener, request, log)


def main(binary: Path) -> None:
    """Write the file of one binary."""
    output = subprocess.run([binary, "--version"], capture_output=True, encoding="utf-8", check=True).stdout
    version = re.search(r"etcd Version: (\S+)", output)
    go = re.search(r"Go Version: (\S+)", output)
    assert version is not None
    assert go is not None
    cases = list(collect(binary))
    LINES.mkdir(exist_ok=True)
    head = {"etcd": version[1], "go": go[1]}
    kept = [case for case in cases if case["log"] and not _repeats(case)]
    text = "\n".join(json.dumps(document) for document in (head, *kept))
    text = text.replace(str(binary), "/usr/local/bin/etcd")
    (LINES / f"{version[1]}.jsonl").write_text(text + "\n", encoding="utf-8")


def _repeats(case: Case) -> bool:
    """Return whether a case is of a listener on which the others say the same, and of an identity as well."""
    identity = case.get("attempt", {}).get("identity")
    return case.get("role") == "metrics" and case["what"].startswith("mutual TLS") and identity != "wrong-san"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
