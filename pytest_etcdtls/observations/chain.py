"""The served certificates and what they are compared with. Parsed values, no file access."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedChain:
    """What the listener sent in its Certificate message.

    Attributes:
        certificates: leaf first, as sent.
        observed_at: aware UTC; checks of validity use it as their clock.
        host: the name or address that was asked for.
    """

    url: str
    role: str
    host: str
    certificates: tuple[x509.Certificate, ...]
    observed_at: datetime

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate of the server itself."""
        return self.certificates[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathToTrust:
    """Whether a path was found from the served leaf to a trust anchor, by signatures alone, at no time.

    Attributes:
        anchors: the trust anchors, as given.
        source: where they come from: a file's path, or ``generated CA``.
        error: why no path was found, empty if one was.
    """

    url: str
    anchors: tuple[x509.Certificate, ...]
    source: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedCertificate:
    """The certificate that must be served on the listener.

    Attributes:
        source: where it comes from: a file's path, or ``generated certificate``.
    """

    certificate: x509.Certificate
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PortPair:
    """What one member serves on its client and on its peer listener."""

    client: ServedChain
    peer: ServedChain


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedCAs:
    """The distinguished names in the CertificateRequest.

    Attributes:
        requested: a CertificateRequest was seen, by TLS version.
        names: the names, by TLS version.
    """

    url: str
    role: str
    requested: tuple[tuple[str, bool], ...]
    names: tuple[tuple[str, tuple[x509.Name, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrust:
    """The bundle that etcd was told to trust for those who connect to the listener.

    Attributes:
        source: where it comes from.
    """

    certificates: tuple[x509.Certificate, ...]
    source: str
