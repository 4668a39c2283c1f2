"""What each cause of a rejected connection means, and what to do.

:mod:`pytest_etcdtls.etcd_log.parse` reads the cause from a line. Where a text below says what etcd does, a
comment names the function in etcd's source.
:mod:`pytest_etcdtls.checks.refused_clients` finds the cause where the client's certificate is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from pytest_etcdtls.etcd_log.parse import Cause


class Explanation(Struct, frozen=True):
    """The explanation of a cause.

    Attributes:
        meaning: what happened, in one sentence.
        advice: what to do.
        alerts: that some release of Go sends for it in any TLS version. Measured: up to Go 1.19
            bad_certificate (42) for every cause, from 1.24 specific alerts.
    """

    meaning: str
    advice: str
    alerts: tuple[int, ...] = ()


EXPLANATIONS: Final[Mapping[Cause, Explanation]] = {
    Cause.NO_CERTIFICATE: Explanation(
        "A client connected with TLS and presented no certificate.",
        "Give it a certificate of the trusted CA, or find out what scans the port: health checks of load "
        "balancers and monitoring are the usual ones, and belong on --listen-metrics-urls.",
        alerts=(42,),
    ),
    # transport.TLSInfo.ServerConfig reads the bundle once; GetCertificate of baseConfig reads the served pair
    # for each handshake (SERVED_PAIR).
    Cause.UNKNOWN_CA: Explanation(
        "A client presented a certificate that no CA in the trusted bundle has signed.",
        "Compare its issuer with --trusted-ca-file (--peer-trusted-ca-file for members); after a change of "
        "CA etcd must be restarted, since it reads the bundle at start only.",
        alerts=(42, 48),
    ),
    Cause.EXPIRED: Explanation(
        "A client presented a certificate that has expired, or the clocks differ.",
        "Renew it; compare the two times in the message with the clock of this machine.",
        alerts=(42, 45),
    ),
    Cause.NOT_YET_VALID: Explanation(
        "A client presented a certificate that is not valid yet, or the clocks differ.",
        "Compare the two times in the message with the clocks of both machines.",
        alerts=(42, 45),
    ),
    # embed.Etcd.grpcGatewayDial connects to the client port with the ServerConfig, whose certificate as a
    # client is the served one unless --client-cert-file is given (GetClientCertificate of baseConfig).
    Cause.USAGE: Explanation(
        "A client presented a certificate whose extended key usage does not allow it to be a client.",
        "Issue it with clientAuth. From etcd's own address it is the gateway or a member that presents the "
        "served certificate: that needs both clientAuth and serverAuth, or --client-cert-file.",
        alerts=(42,),
    ),
    Cause.EXTENSION: Explanation(
        "A client presented a certificate with a critical extension that Go does not know.",
        "Issue it without that extension, or with it not marked critical.",
        alerts=(42,),
    ),
    Cause.NAME_NOT_ALLOWED: Explanation(
        "A certificate of the trusted CA does not have one of the allowed names.",
        "See --client-cert-allowed-hostname, --peer-cert-allowed-cn, --peer-cert-allowed-hostname; the "
        "served certificate needs such a name as well, since the gateway presents it.",
        alerts=(42,),
    ),
    # transport.wrapTLS passes checkSAN for peer and metrics listeners; the client listener is made in
    # serveCtx.serve with NewTLSListener, which has no such check. checkCertSAN lets a certificate without
    # names pass.
    Cause.ADDRESS: Explanation(
        "A certificate has names, and none of them covers the address that the connection comes from; etcd "
        "compares them on peer and https metrics listeners.",
        "Issue it with the client's address or a name that resolves to it, or without any; behind NAT etcd "
        "sees the gateway's address.",
    ),
    Cause.REVOKED: Explanation(
        "A client presented a certificate whose serial number is in the CRL.",
        "If it should work, renew it; if not, find out who still uses it.",
    ),
    # transport.checkCRL: x509.ParseCRL up to 3.5, which takes PEM, x509.ParseRevocationList from 3.6. It is
    # called only if the client has sent a certificate.
    Cause.CRL_UNREADABLE: Explanation(
        "etcd cannot read its CRL, and therefore refuses every client that presents a certificate.",
        "Put a CRL in DER where --client-crl-file or --peer-crl-file says; PEM is read up to 3.5 only.",
    ),
    Cause.PLAINTEXT: Explanation(
        "The first bytes were not TLS: usually HTTP in plaintext.",
        "Use https:// in the client; a port scanner and a TCP health check look the same.",
    ),
    # Up to 3.5, embed.Etcd.servePeers gives a gRPC server with TLS credentials what the TLS listener has
    # accepted.
    Cause.HTTP2_ON_PEER_PORT: Explanation(
        "A client used HTTP/2 on the peer port. Up to 3.5 etcd hands that to a gRPC server which expects a "
        "second TLS handshake inside the first one.",
        "The peer port serves HTTP/1.1 to members only: use curl --http1.1, and gRPC on the client port.",
    ),
    Cause.PROTOCOL_VERSION: Explanation(
        "The client offered only TLS versions that etcd does not support.",
        "TLS 1.2 is the lowest; see --tls-min-version and --tls-max-version. A scanner looks the same.",
        alerts=(70,),
    ),
    Cause.CIPHER_SUITE: Explanation(
        "The client offered only cipher suites that etcd does not allow.",
        "See --cipher-suites, and the key type of the served certificate. A scanner looks the same.",
        alerts=(40,),
    ),
    # transport.TLSInfo.ServerConfig: NextProtos.
    Cause.ALPN: Explanation(
        "The client offered only application protocols that etcd does not support.",
        "etcd announces h2; offer that or nothing.",
        alerts=(120,),
    ),
    Cause.SERVED_PAIR: Explanation(
        "etcd cannot load the certificate and key that it should serve: a file is missing, or the two do not "
        "belong together. No client gets a connection.",
        "Put both files in place; the next handshake reads them, without a restart.",
        alerts=(80,),
    ),
    Cause.REFUSED_BY_CLIENT: Explanation(
        "The client ended the handshake because it does not accept etcd's certificate.",
        "Check the CA that the client trusts and the name that it connects to. In TLS 1.3 a client's alert "
        "arrives unreadable and is logged as bad record MAC.",
    ),
    Cause.GONE: Explanation(
        "The client closed or lost the connection before the handshake was over.",
        "Harmless when it is rare: TCP health checks and port scans do it.",
    ),
    Cause.SILENT: Explanation(
        "A client connected and did not finish the handshake in time.",
        "Harmless when it is rare; many of them are an attack or a broken middlebox.",
    ),
    Cause.STOPPING: Explanation(
        "etcd was about to stop and closed the connection itself.", "Nothing, if it was stopped on purpose."
    ),
    Cause.OTHER: Explanation(
        "An unknown error.", "See the text; it comes from Go's TLS or from etcd's listener."
    ),
}
