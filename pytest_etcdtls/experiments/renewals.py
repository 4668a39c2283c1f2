"""The served certificate is renewed again and again while good clients make requests without a pause.

The key is kept, so that a renewal is one file, which a process sees before or after and never half. At every
handshake etcd reads certificate and key one after the other: a new key beside an old certificate is half a
pair, which has an experiment of its own.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle

from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.experiments.bench import Bench
from pytest_etcdtls.experiments.traffic import LostError, Traffic, UnclearError
from pytest_etcdtls.observations.attempt import Attempt, Ending, Protocol
from pytest_etcdtls.observations.experiment import RenewalUnderLoad
from pytest_etcdtls.pki.files import encode_certificates
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.probes.admission import status_request
from pytest_etcdtls.probes.attempt import make_attempt
from pytest_etcdtls.target import Role

RENEWALS = 5

_PATIENCE = 50
"""Requests of each client after a renewal, without the new certificate being seen, before it is given up."""

_BETWEEN = 10
"""Requests of each client between two renewals at least."""


def renew_under_load(bench: Bench, served: Identity, renew: Callable[[], Identity]) -> RenewalUnderLoad:
    """Renew the certificate of the client port under load, and put the old one back at the end.

    Args:
        bench: where to.
        served: what is served before.
        renew: issues another certificate for the same key.
    """
    # In a container a file that is replaced is missing for a moment: nobody may connect just then.
    paused = bench.cluster.origin == "container"
    gate: AbstractContextManager[object] = threading.Lock() if paused else nullcontext()
    open_connection = _OpenConnection(bench)
    traffic = Traffic()
    traffic.add("new connections", _NewConnections(bench).request, gate)
    traffic.add("an open connection", open_connection.request, nullcontext())
    seen = 0
    try:
        with traffic:
            traffic.await_requests(_BETWEEN)
            for _ in range(RENEWALS):
                renewed = renew()
                with gate:
                    bench.member.replace_files({"server.crt": encode_certificates(renewed.chain)})
                seen += traffic.await_requests(_PATIENCE, renewed.chain[0].public_bytes(Encoding.DER))
                traffic.await_requests(_BETWEEN)
    finally:
        open_connection.close()
        bench.member.replace_files({"server.crt": encode_certificates(served.chain)})
    return RenewalUnderLoad(
        etcd_version=bench.cluster.version,
        renewals=RENEWALS,
        seen=seen,
        paused=paused,
        tallies=traffic.tallies(),
    )


class _NewConnections:
    """A client that connects for every request: over HTTP/1.1, the gateway and gRPC in turn."""

    def __init__(self, bench: Bench) -> None:
        self._listener = bench.listener(Role.CLIENT)
        self._seconds = bench.seconds
        client = bench.cluster.pki.client
        self._requests = cycle(
            status_request(self._listener, client, None, speech, "renewal under load")
            for speech in (Protocol.HTTP1, Protocol.GATEWAY, Protocol.GRPC)
        )

    def request(self) -> bytes:
        """Make the next request.

        Raises:
            LostError, UnclearError: if it is not answered well.
        """
        attempt = make_attempt(self._listener, next(self._requests), self._seconds)
        if _is_good(attempt):
            return attempt.chain[0]
        said = f"new connection, {attempt.protocol}: {attempt.describe()}"
        raise UnclearError(said) if attempt.ending is Ending.TIMEOUT else LostError(said)


def _is_good(attempt: Attempt) -> bool:
    response = attempt.response
    return (
        response is not None
        and response.status == http.HTTPStatus.OK
        and response.headers.get("grpc-status", "0") == "0"
    )


class _OpenConnection:
    """A client that makes all its requests on one connection; if that breaks, on another."""

    def __init__(self, bench: Bench) -> None:
        listener = bench.listener(Role.CLIENT)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(bench.member.file("client.crt"), bench.member.file("client.key"))
        # http.client connects again by itself when it was closed.
        self._connection = http.client.HTTPSConnection(
            listener.host, listener.port, timeout=bench.seconds, context=context
        )

    def request(self) -> bytes:
        """Make the next request.

        Raises:
            LostError, UnclearError: if it is not answered well.
        """
        try:
            self._connection.request("GET", "/version")
            response = self._connection.getresponse()
            response.read()
        except TimeoutError as error:
            self.close()
            raise UnclearError(f"open connection: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise LostError(f"open connection: {type(error).__name__}: {error}") from error
        if response.status != http.HTTPStatus.OK:
            raise LostError(f"open connection: HTTP {response.status}")
        return b""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
