"""OpenSSL's own binary, one CA of every key type, and an etcd that runs on a written PKI."""

from __future__ import annotations

import functools
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import Identity, KeyType

OpenSSL = Callable[..., "subprocess.CompletedProcess[str]"]
DEADLINE = 60.0
"""Seconds after which something counts as hanging; it is not an expected duration."""
# NOTE: not "ready to serve client requests": after that line etcd still reads the pair for its listener.
_SERVES = "serving client traffic securely"


@pytest.fixture(scope="session")
def openssl(program: Callable[[str], str]) -> OpenSSL:
    """Run ``openssl`` with the arguments and return the result."""
    binary = program("openssl")

    def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        # In an ASCII locale, Python cannot pass other letters as text.
        command: list[str | bytes] = [binary]
        command += [str(argument).encode("utf-8", "surrogateescape") for argument in arguments]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=DEADLINE)
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result

    return run


@functools.cache
def _authority(key_type: KeyType) -> CertificateAuthority:
    return CertificateAuthority.create(f"{key_type} CA", key_type)


@pytest.fixture(params=[key_type for key_type in KeyType if key_type is not KeyType.RSA_4096])
def authority(request: pytest.FixtureRequest) -> CertificateAuthority:
    """A root CA, once of every key type; RSA 4096 takes half a second a key and shows no more than 2048."""
    return _authority(request.param)


@pytest.fixture
def ca() -> CertificateAuthority:
    """A root CA, ECDSA."""
    return CertificateAuthority.create("test CA")


@dataclass(frozen=True)
class Files:
    """An identity in files."""

    certificate: Path
    key: Path


def store(identity: Identity, directory: Path) -> Files:
    """Write an identity for tools that want files."""
    files = Files(directory / f"{identity.name}.crt", directory / f"{identity.name}.key")
    assert identity.key is not None
    files.certificate.write_bytes(encode_certificates(identity.chain))
    files.key.write_bytes(encode_key(identity.key))
    return files


@dataclass
class RunningEtcd:
    """One etcd process with TLS on both ports."""

    process: subprocess.Popen[str]
    client_port: int
    peer_port: int
    lines: list[str] = field(default_factory=list)
    serves: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if _SERVES in line:
                self.serves.set()
        self.ended.set()
        self.serves.set()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def version(self, server_ca: Path, client: Files | None, *, port: int | None = None) -> str:
        """Return the result of a GET of ``/version``, as :meth:`ask` does."""
        return self.ask(server_ca, client, "GET", "/version", port=port)

    def gateway(self, server_ca: Path, client: Files) -> str:
        """Return the result of a range request to the JSON gateway, as :meth:`ask` does."""
        return self.ask(server_ca, client, "POST", "/v3/kv/range", '{"key": "YQ=="}')

    def ask(
        self,
        server_ca: Path,
        client: Files | None,
        method: str,
        path: str,
        body: str | None = None,
        *,
        port: int | None = None,
    ) -> str:
        """Return the HTTP status, ``closed``, or OpenSSL's name of the alert."""
        context = ssl.create_default_context(cafile=server_ca)
        # Under TLS 1.3 the alert comes after the handshake and is lost if our request fails to be written.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        connection = HTTPSConnection("127.0.0.1", port or self.client_port, timeout=DEADLINE, context=context)
        try:
            connection.request(method, path, body)
            return str(connection.getresponse().status)
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as error:
            return str(error.reason).lower().replace("_", " ")
        except ConnectionError:
            return "closed"
        finally:
            connection.close()


EtcdStarter = Callable[..., RunningEtcd]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def _command(binary: Path, data: Path, pki: Path, paths: Mapping[str, Path], ports: list[int]) -> list[str]:
    client, peer = (f"https://127.0.0.1:{port}" for port in ports)
    flags = {
        "name": "m0",
        "data-dir": data,
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"m0={peer}",
        "cert-file": pki / paths["server.crt"],
        "key-file": pki / paths["server.key"],
        "trusted-ca-file": pki / paths["client-ca.crt"],
        "client-cert-auth": "true",
        "peer-cert-file": pki / paths["peer.crt"],
        "peer-key-file": pki / paths["peer.key"],
        "peer-trusted-ca-file": pki / paths["peer-ca.crt"],
        "peer-client-cert-auth": "true",
        "logger": "zap",
    }
    return [str(binary), *(f"--{name}={value}" for name, value in flags.items())]


@pytest.fixture
def start_etcd(tmp_path: Path) -> Iterator[EtcdStarter]:
    """Start an etcd on a written PKI and wait until its log says that it serves; it is stopped at the end."""
    running: list[RunningEtcd] = []

    def start(binary: Path, pki: Path, paths: Mapping[str, Path], *flags: str) -> RunningEtcd:
        for attempt in range(5):
            ports = _free_ports(2)
            command = _command(binary, tmp_path / f"data-{len(running)}-{attempt}", pki, paths, ports)
            process = subprocess.Popen(
                [*command, *flags],
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                encoding="utf-8",
                env={"PATH": os.environ["PATH"]},
            )
            etcd = RunningEtcd(process, client_port=ports[0], peer_port=ports[1])
            running.append(etcd)
            threading.Thread(target=etcd.read_log, daemon=True).start()
            assert etcd.serves.wait(DEADLINE), etcd.log
            if "address already in use" not in etcd.log:
                break
        assert not etcd.ended.is_set(), etcd.log
        return etcd

    yield start
    for etcd in running:
        etcd.process.kill()
        etcd.process.wait(DEADLINE)
        assert etcd.ended.wait(DEADLINE)
        assert etcd.process.stderr is not None
        etcd.process.stderr.close()
