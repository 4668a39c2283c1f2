"""The listener of the conforming samples: what a good etcd serves there, and whom it lets in.

Samples are what checks are tried on without a network: each must be silent about them, and find what its
counterexample changes. They stand beside their observation, see :func:`pytest_etcdtls.facts.probe.sample`.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Response, StreamEnd

if TYPE_CHECKING:
    from pytest_etcdtls.pki.bundle import ClusterPKI

SAMPLED_AT: Final = datetime.now(UTC)
"""When every sample is observed."""

SAMPLE_FILES: Final = ("client.crt", "client.key")
"""Certificate and key of the accepted client."""

ETCD_PATHS: Final = {
    "/version": b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}',
    "/health": b'{"health":"true","reason":""}',
    "/livez": b"ok",
    "/readyz": b"ok",
    "/metrics": b'etcd_server_version{server_version="3.6.16"} 1\n',
    "/debug/vars": b"{}",
    "/members": b"[]",
}
"""What a good etcd answers to GET without further flags."""

_OF_EVERY_LISTENER = frozenset({"/health", "/livez", "/readyz", "/metrics"})


@functools.cache
def sample_pki() -> ClusterPKI:
    """Return the PKI of all samples."""
    from pytest_etcdtls.pki.bundle import ClusterPKI
    from pytest_etcdtls.pki.profile import MemberNames, PKIPlan

    return ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])


def etcd_response(method: str, path: str, role: Role) -> Response:
    """Return what a good etcd answers to an accepted client: 404 to what it does not serve on such a port.

    Args:
        method: of the request.
        path: of the URL, without a query.
        role: of the listener.
    """
    gateway = path.startswith("/v3/") and role in (Role.CLIENT, Role.CLIENT_HTTP)
    served = _OF_EVERY_LISTENER if role is Role.METRICS else ETCD_PATHS
    if gateway:
        status, body = (200, b"{}") if method == "POST" else (501, b'{"code":12,"message":"Not Implemented"}')
    elif path not in served:
        status, body = 404, b"404 page not found\n"
    elif method in ("GET", "HEAD"):
        status, body = 200, ETCD_PATHS[path]
    else:
        status, body = 405, b"Method Not Allowed\n"
    kind = "application/json" if gateway or status == 200 else "text/plain; charset=utf-8"
    headers = {"content-type": kind, "date": format_datetime(SAMPLED_AT, usegmt=True)}
    return Response(status=status, headers=headers, body=body)


@dataclass(frozen=True, slots=True)
class SampleListener:
    """A listener of a good etcd."""

    role: Role

    @property
    def url(self) -> str:
        """Its URL."""
        return "https://127.0.0.1:2380" if self.role is Role.PEER else "https://127.0.0.1:2379"

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The served certificates."""
        return (sample_pki().peers if self.role is Role.PEER else sample_pki().servers)["m0"].chain

    @property
    def trusted(self) -> x509.Certificate:
        """The CA that is trusted for clients."""
        return (sample_pki().peer_ca if self.role is Role.PEER else sample_pki().client_ca).certificate

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The protocols that are served."""
        if self.role is Role.PEER:
            return (Protocol.HTTP1,)
        return (Protocol.HTTP1, Protocol.GATEWAY, Protocol.GRPC)

    def attempt(self, **changes: Any) -> Attempt:  # noqa: ANN401 - fields of Attempt
        """Return an attempt of the accepted client that was served, with these fields changed."""
        facts: dict[str, Any] = {
            "url": self.url,
            "purpose": "sample",
            "identity": "client",
            "protocol": Protocol.HTTP1,
            "offered_version": TLSVersion.TLS1_3,
            "ending": Ending.SERVED,
            "phase": Phase.READ,
            "started_at": SAMPLED_AT,
            "version": "TLSv1.3",
            "cipher": "TLS_AES_128_GCM_SHA256",
            "group": "x25519",
            "certificate_requested": True,
            "key_proved": True,
            "announced_ca": (self.trusted.subject.public_bytes(),),
            "chain": tuple(certificate.public_bytes(Encoding.DER) for certificate in self.chain),
            "response": etcd_response("GET", "/version", Role.CLIENT),
            "first_bytes": b"HTTP/1.1 200 OK",
        }
        return Attempt(**(facts | changes))

    def refused(self, **changes: Any) -> Attempt:  # noqa: ANN401 - fields of Attempt
        """Return an attempt that was refused with a certificate alert, with these fields changed."""
        facts = {
            "ending": Ending.REFUSED,
            "alert": 42,
            "stream_end": StreamEnd.ALERT,
            "response": None,
            "first_bytes": b"",
        }
        return self.attempt(**(facts | changes))
