"""The served certificates and what they are compared with. Parsed values, no file access."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateMessage:
    """The Certificate message as it was sent, and the CAs that belong to it.

    Reports show both as ServedChain and Issuers, as far as they can be parsed.

    Attributes:
        certificates: DER, leaf first, as sent; whether it can be parsed or not.
        issuers: the CAs above the leaf, and all of the CA file for the listener; empty if they are not known.
    """

    url: str
    certificates: tuple[bytes, ...] = field(repr=False)
    issuers: tuple[x509.Certificate, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedChain:
    """What the listener sent in its Certificate message.

    Attributes:
        certificates: leaf first, as sent; those that cannot be parsed are left out.
        observed_at: aware UTC; checks of validity use it as their clock.
        host: the name or address that was asked for.
        unparsable: how many certificates behind the leaf cannot be parsed.
    """

    url: str
    role: str
    host: str
    certificates: tuple[x509.Certificate, ...]
    observed_at: datetime
    unparsable: int = 0

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate of the server itself."""
        return self.certificates[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathToTrust:
    """Whether a path leads from the served leaf to a trust anchor, by names and signatures alone.

    Of several it is one that a Go client accepts, if there is one.

    Attributes:
        anchors: the trust anchors, as given.
        source: where they come from: a file's path, or ``generated CA``.
        error: why no path was found, empty if one was.
        path: leaf first, anchor last; empty if there is none.
        missing: those of the path that are neither served nor an anchor: they were given to us elsewhere.
        unknown_issuer: the issuer at which the served chain ends, if nobody gave us its certificate.
        verified: a Go client accepts it, with what is served alone, at the time of the handshake; the host
            apart.
    """

    url: str
    anchors: tuple[x509.Certificate, ...]
    source: str
    error: str
    path: tuple[x509.Certificate, ...] = ()
    missing: tuple[x509.Certificate, ...] = ()
    unknown_issuer: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificationPath:
    """The path that is judged: to trust if there is one, else as far as certificates are served or given.

    Attributes:
        certificates: the served leaf first.
        anchors: the trust anchors, as given; empty if none were.
    """

    url: str
    certificates: tuple[x509.Certificate, ...]
    anchors: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuers:
    """The CAs above the served leaf: those of the path to trust, else as far as served or given to us.

    Attributes:
        certificates: the leaf's own issuer first; at least one.
    """

    url: str
    certificates: tuple[x509.Certificate, ...]


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
        declared: it is known from the declaration of a live cluster alone.
    """

    certificates: tuple[x509.Certificate, ...]
    source: str
    declared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialling:
    """What is known of the certificate that etcd presents where it is a client of the listener's port.

    Attributes:
        with_another: it was told to present another one than the one that it serves; ``None`` if that is
            not known, since no connection of ours shows it.
        members: how many the cluster has; ``None`` if it was not asked, or did not say.
    """

    with_another: bool | None
    members: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedByMembers:
    """What the TLS listeners of at least two members serve: member's label and chain, by listener."""

    chains: tuple[tuple[str, ServedChain], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesCA:
    """The CA of the Kubernetes cluster that the etcd serves.

    Attributes:
        source: where it comes from.
    """

    certificates: tuple[x509.Certificate, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CAsInUse:
    """The CAs that matter on a listener: those that issued what it serves, and those that it trusts.

    Attributes:
        known: certificates, with words for what they do there.
        announced: names of the CertificateRequest.
        trust_is_known: the bundle that etcd was told to trust there is among the known.
    """

    url: str
    known: tuple[tuple[x509.Certificate, str], ...]
    announced: tuple[x509.Name, ...]
    trust_is_known: bool
