"""Why etcd rejected a connection: the causes behind the error texts.

The texts are those of Go's ``crypto/tls`` and ``crypto/x509`` and of etcd's own listener, in every version
from 3.4 to 3.7. Does not know who connected.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Cause(StrEnum):
    """Why a connection was rejected."""

    NO_CERTIFICATE = "no client certificate"
    UNKNOWN_CA = "certificate of another CA"
    EXPIRED = "expired certificate"
    NOT_YET_VALID = "certificate not yet valid"
    USAGE = "certificate is not for this use"
    EXTENSION = "certificate with an unknown critical extension"
    NAME_NOT_ALLOWED = "name in the certificate is not allowed"
    ADDRESS = "names in the certificate do not fit the address"
    REVOKED = "revoked certificate"
    CRL_UNREADABLE = "CRL cannot be read"
    PLAINTEXT = "plaintext on a TLS port"
    HTTP2_ON_PEER_PORT = "HTTP/2 on the peer port"
    PROTOCOL_VERSION = "no common TLS version"
    CIPHER_SUITE = "no common cipher suite"
    ALPN = "no common application protocol"
    SERVED_PAIR = "etcd cannot load its own certificate"
    REFUSED_BY_CLIENT = "the client refused etcd's certificate"
    GONE = "the client went away"
    SILENT = "the client said nothing"
    STOPPING = "etcd was stopping"
    OTHER = "another error"


_PATTERNS: Final[tuple[tuple[re.Pattern[str], Cause], ...]] = tuple(
    (re.compile(pattern), cause)
    for pattern, cause in (
        (r"didn't provide a certificate", Cause.NO_CERTIFICATE),
        (r"certificate signed by unknown authority", Cause.UNKNOWN_CA),
        (r"x509: unhandled critical extension", Cause.EXTENSION),
        (r"has expired or is not yet valid.* is before ", Cause.NOT_YET_VALID),
        (r"has expired or is not yet valid", Cause.EXPIRED),
        (r"incompatible key usage", Cause.USAGE),
        (r"client certificate authentication failed", Cause.NAME_NOT_ALLOWED),
        (
            r"does not match any of DNSNames|certificate is (?:not )?valid for|contain any IP SANs",
            Cause.ADDRESS,
        ),
        (r"certificate serial \w+ revoked", Cause.REVOKED),
        (r"malformed crl|asn1: ", Cause.CRL_UNREADABLE),
        (r"first record does not look like a TLS handshake", Cause.PLAINTEXT),
        (
            r"unsupported versions|protocol version not supported|unsupported, maximum protocol",
            Cause.PROTOCOL_VERSION,
        ),
        (r"no cipher suite supported by both", Cause.CIPHER_SUITE),
        (r"unsupported application protocols", Cause.ALPN),
        (
            r"private key does not match|failed to find any PEM data|failed to parse private key",
            Cause.SERVED_PAIR,
        ),
        (r"remote error: tls: |local error: tls: bad record MAC", Cause.REFUSED_BY_CLIENT),
        (r"use of closed network connection", Cause.STOPPING),
        (r"i/o timeout|context deadline exceeded", Cause.SILENT),
        (r"connection reset by peer|broken pipe|EOF$", Cause.GONE),
    )
)
_FILE = re.compile(r"\bopen (.+): (?:no such file or directory|permission denied|is a directory)")


def cause_of(error: str, *, certificate_seen: bool) -> Cause:
    """Return the cause behind an error's text.

    Args:
        error: as the log has it.
        certificate_seen: the client had presented a certificate by then, so that the handshake was over.
    """
    if _FILE.search(error):
        return Cause.CRL_UNREADABLE if certificate_seen else Cause.SERVED_PAIR
    return next((cause for pattern, cause in _PATTERNS if pattern.search(error)), Cause.OTHER)
