"""Rules of etcd around a refusal: what it closes by itself, and which answers are its own.

By its SAN rule etcd closes the connection of a good client although nothing is wrong with the listener. An
answer that is not etcd's, of a proxy in front of it, does not show that etcd accepts a client.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import unquote

from cryptography import x509
from msgspec.structs import replace

from pytest_etcdtls.declared.declaration import is_address
from pytest_etcdtls.pki.go_parser import DNS, IP, details
from pytest_etcdtls.pki.go_verify import names_host
from pytest_etcdtls.tls.attempt import Attempt, Ending, Response

CLOSED_BY_ETCD = frozenset({"revoked", "wrong-san"})
"""Identities that etcd itself closes after the handshake, without an alert."""


class SANRule(StrEnum):
    """What etcd's SAN rule does to the connection of a client with some certificate."""

    ACCEPTS = "accepts"
    MAY_CLOSE = "may close"
    CLOSES = "closes"


def san_rule(leaf: x509.Certificate, host: str) -> SANRule:
    """Return what etcd's SAN rule does to a client certificate: ``checkCertSAN`` in its listener_tls.go.

    Only IP addresses and DNS names count: without both, the rule accepts the certificate from anywhere. etcd
    looks DNS names up with its own resolver, so nobody else knows whether they match. A DNS name that is
    written as an address is not looked up (``LookupHost`` in Go's net package).

    Args:
        leaf: the client's certificate.
        host: the client's address as etcd sees it; empty if that is not known.
    """
    fields = details(leaf)
    dns_names = fields.texts(DNS)
    if not dns_names and not any(tag == IP for tag, _ in fields.names):
        return SANRule.ACCEPTS
    if host and (host in dns_names or names_host(leaf, host)):
        return SANRule.ACCEPTS
    looked_up = [name for name in dns_names if not is_address(name)]
    return SANRule.CLOSES if host and not looked_up else SANRule.MAY_CLOSE


_ERROR_FIELDS = frozenset({"error", "code", "message", "details"})
"""The fields of the gateway's errors: version 1 of grpc-gateway up to etcd 3.5, version 2 from 3.6 on."""
_GRPC_CODES = range(17)
"""The codes of ``google.golang.org/grpc/codes``."""
_EXPVAR = frozenset({"cmdline", "memstats"})
"""What Go's ``expvar`` publishes at ``/debug/vars``."""
_ERRORS = (
    *("etcdserver: ", "auth: "),
    # Of the gRPC client of etcd's grpc-proxy (picker_wrapper.go in grpc-go), while no etcd answers it.
    *("connection error: ", "last connection error: ", "all SubConns are in TransientFailure"),
)
"""How the messages of gRPC errors begin."""
_MISDIRECTED = b"etcd received your request"
"""In etcd's answer to a Host header that ``--host-whitelist`` does not have (``embed/serve.go``)."""


def is_of_etcd(response: Response) -> bool:
    """Return whether a response has etcd's format.

    It is that of ``/version`` (``etcdhttp/version.go``), ``/health`` (``etcdhttp/health.go``), ``/metrics``,
    ``/debug/vars``, the JSON gateway with its errors, or a gRPC call with etcd's errors
    (``rpctypes/error.go``): a client that etcd does not authorise was let in by TLS, as was one whose call
    etcd's grpc-proxy cannot pass on. Another proxy writes a page.
    """
    if response.headers.get("content-type", "").startswith("application/grpc"):
        message = unquote(response.headers.get("grpc-message", ""))
        return response.grpc_status in (None, 0) or message.startswith(_ERRORS)
    if "grpc-metadata-content-type" in response.headers:
        return True
    if not response.body.startswith(b"{"):
        return _MISDIRECTED in response.body or b"# HELP etcd_" in response.body
    if not response.fields:  # cut at the limit of a body
        return b'"memstats"' in response.body
    return _is_of_etcd(response.fields)


def _is_of_etcd(fields: Mapping[str, object]) -> bool:
    if "etcdserver" in fields or "health" in fields or fields.keys() >= _EXPVAR:
        return True
    header, code = fields.get("header"), fields.get("code")
    if isinstance(header, dict):
        return "cluster_id" in header
    return code in _GRPC_CODES and fields.keys() <= _ERROR_FIELDS


def by_etcd(attempt: Attempt, control: Attempt | None) -> Attempt:
    """Return an attempt as it counts: unclear if another server than etcd answers it.

    Args:
        attempt: with a bad identity.
        control: the same with a good one. An answer that it gets too counts, as from a gateway that is off.
    """
    if attempt.ending is not Ending.SERVED:
        return attempt
    response, known = attempt.response, control.response if control is not None else None
    if response is None:
        is_ours, detail = attempt.is_http or not attempt.first_bytes, "what answers is not HTTP"
    else:
        alike = known is not None and (known.status, known.body) == (response.status, response.body)
        is_ours = alike or is_of_etcd(response)
        detail = f"HTTP {response.status}, '{response.excerpt(60)}', is not etcd's answer"
    return attempt if is_ours else replace(attempt, ending=Ending.UNCLEAR, detail=detail)
