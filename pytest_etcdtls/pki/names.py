"""Whether a certificate names a host, by the rules of Go's ``x509.Certificate.VerifyHostname`` (RFC 6125).

Knows nothing of trust. The common name is never looked at.
"""

from __future__ import annotations

import ipaddress

from cryptography import x509

from pytest_etcdtls.pki.reading import extension


def subject_alt_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names as ``DNS:localhost`` and ``IP:127.0.0.1``, other kinds with their type's name."""
    names = extension(certificate, x509.SubjectAlternativeName)
    return tuple(_show(name) for name in names or ())


def is_address(name: str) -> bool:
    """Return whether a host is an IP address rather than a name; a zone is ignored."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host is the machine itself, whoever asks (RFC 6761 section 6.3 for names)."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def names_host(certificate: x509.Certificate, host: str) -> bool:
    """Return whether the subjectAltName covers a host.

    Args:
        certificate: the server's.
        host: a DNS name, or an IP address without brackets; a zone is ignored.
    """
    names = extension(certificate, x509.SubjectAlternativeName)
    if names is None:
        return False
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return any(_matches(name, host) for name in names.get_values_for_type(x509.DNSName))
    return address in names.get_values_for_type(x509.IPAddress)


def _matches(pattern: str, host: str) -> bool:
    wanted, given = host.rstrip(".").lower().split("."), pattern.rstrip(".").lower().split(".")
    if len(wanted) != len(given) or "" in wanted:
        return False
    # A wildcard stands for the whole leftmost label and only for that (RFC 6125 section 6.4.3).
    first_matches = given[0] == wanted[0] or (given[0] == "*" and len(given) > 1)
    return first_matches and given[1:] == wanted[1:]


def _show(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.IPAddress():
            return f"IP:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
    return type(name).__name__
