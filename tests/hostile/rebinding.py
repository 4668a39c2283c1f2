"""A program in a network namespace of its own: a name whose addresses change, an etcd, and another server.

The resolver answers each look-up with the next of the given addresses, and the last one from then on. The
etcd has authentication enabled. The other server has a certificate for the name from another CA, and records
what clients send to it. Both listen on one port, at 127.0.0.1 and at 127.0.0.2.
"""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from servers import Server
from starting import start_process

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import SERVER, MemberNames, PKIPlan

HOST = "rebind.example"
SECRET = "s3cret-password"
_NAMED = PKIPlan(server=replace(SERVER, dns_names=(HOST, "localhost")))
_A, _IN, _SECONDS_TO_LIVE = 1, 1, 0


def answer_names(addresses: list[str]) -> None:
    """Answer DNS queries on 127.0.0.1 in a thread (RFC 1035 section 4)."""
    resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    resolver.bind(("127.0.0.1", 53))
    following = itertools.chain(addresses, itertools.repeat(addresses[-1]))

    def serve() -> None:
        while True:
            query, client = resolver.recvfrom(512)
            end = query.index(b"\0", 12) + 5
            kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
            answers = b""
            if kind == _A:
                address = socket.inet_aton(next(following))
                answers = b"\xc0\x0c" + struct.pack("!HHIH", _A, _IN, _SECONDS_TO_LIVE, 4) + address
            header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if answers else 0, 0, 0)
            resolver.sendto(header + query[12:end] + answers, client)

    threading.Thread(target=serve, daemon=True).start()


def record(directory: Path, received: list[bytes], port: int) -> Server:
    """Serve TLS at 127.0.0.2 with a certificate of another CA, and record what clients send."""
    ClusterPKI.generate(_NAMED, [MemberNames("m0")]).write(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "m0" / "server.crt", directory / "m0" / "server.key")
    context.set_alpn_protocols(["h2"])

    def handle(connection: socket.socket) -> None:
        received.append(b"")
        with suppress(OSError, ssl.SSLError), context.wrap_socket(connection, server_side=True) as stream:
            stream.settimeout(5)
            while data := stream.recv(65536):
                received.append(data)

    return Server(handle, host="127.0.0.2", port=port)


def main(binary: Path, directory: Path, addresses: list[str]) -> None:
    """Judge the name, and print what the other server received."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    answer_names(addresses)
    received: list[bytes] = []
    (directory / "password").write_text(f"{SECRET}\n", encoding="utf-8")
    with start_process(ClusterConfig(authentication=True, pki=_NAMED), binary) as cluster:
        files, port = cluster.pki_directory, int(cluster.members[0].client_url.rpartition(":")[2])
        server = record(directory / "other", received, port)
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls", "-p", "no:cacheprovider"),
                f"--etcd-endpoint=https://{HOST}:{port}",
                f"--etcd-cacert={files / 'server-ca.crt'}",
                f"--etcd-cert={files / 'client.crt'}",
                f"--etcd-key={files / 'client.key'}",
                "--etcd-user=root",
                f"--etcd-password-file={directory / 'password'}",
                "--etcd-check=api,mtls,cert.trusted",
                "--etcd-timeout=2",
            ],
            cwd=directory,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        server.close()
    sent = b"".join(received)
    print(
        json.dumps(
            {
                "output": ran.stdout + ran.stderr,
                "contacted": len(received) > 0,
                "received": SECRET in sent.decode("latin-1"),
                "to etcd": "etcd refuses the user root" in ran.stdout,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
