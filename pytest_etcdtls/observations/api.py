"""What etcd answers, to an accepted client and to a stranger: version, health, members, gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from pytest_etcdtls.observations.attempt import Attempt, Response

_WORDS_OF_ETCD = (b'"etcdserver"', b'"cluster_id"', b'"health"', b'"code"')


def is_of_etcd(response: Response) -> bool:
    """Return whether an HTTP answer has etcd's shape: of ``/version``, ``/health`` or the JSON gateway."""
    return any(word in response.body for word in _WORDS_OF_ETCD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One GET by the accepted good identity.

    Attributes:
        path: of the URL.
        tries: attempts, the last one counts.
    """

    url: str
    role: str
    path: str
    tries: tuple[Attempt, ...]

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangerExchange:
    """One GET without a certificate.

    Attributes:
        path: of the URL.
        tries: attempts, the last one counts.
        control: the attempt with a good identity that counts; ``None`` if no good identity is known.
    """

    url: str
    role: str
    path: str
    tries: tuple[Attempt, ...]
    control: Attempt | None

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiatedExchange:
    """One GET over HTTP/1.1 on a connection for which ``h2`` was offered by ALPN.

    Attributes:
        tries: attempts, the last one counts.
    """

    url: str
    role: str
    tries: tuple[Attempt, ...]

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPCOverHTTP1:
    """A gRPC call sent over HTTP/1.1 by the accepted good identity.

    Attributes:
        tries: attempts, the last one counts.
    """

    url: str
    tries: tuple[Attempt, ...]

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAnswer:
    """What the JSON gateway answered to the accepted good identity.

    Attributes:
        tries: attempts, the last one counts.
        identity: its name.
        files: of its certificate and key.
        user: the user whose token was presented, empty if none was.
        why_not: why the user that was given could not be used, empty if there is no such reason.
    """

    url: str
    role: str
    tries: tuple[Attempt, ...]
    identity: str
    files: tuple[str, str] | None = None
    user: str = ""
    why_not: str = ""

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayDial:
    """What is known of the connection that the gateway makes to etcd's own client port.

    Attributes:
        served: what the client port serves, leaf first; empty where that is not known.
        observed_at: when it was served, aware UTC.
        with_another: etcd was told to dial with another certificate; ``None`` if that is not known.
        trusted: the bundle that etcd was told to trust for clients; ``None`` if it is not known.
        trust_source: where the bundle comes from.
        announced: subjects of the CAs that the client port announces.
        allowed_hostname: names, one of which etcd was told to demand of client certificates.
    """

    served: tuple[x509.Certificate, ...]
    observed_at: datetime | None
    with_another: bool | None
    trusted: tuple[x509.Certificate, ...] | None
    trust_source: str
    announced: tuple[x509.Name, ...]
    allowed_hostname: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """The alarms that the member named in the status that it gave to the accepted client.

    Attributes:
        texts: as etcd writes them, ``memberID:1 alarm:NOSPACE``; empty also where no status was given.
    """

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeAnswer:
    """What ``etcdserverpb.KV/Range`` of one key gave, counted only, so that no value is sent.

    Attributes:
        tries: attempts, the last one counts.
        status: the gRPC status code; ``None`` if the server sent none.
        message: the gRPC status message.
        well_formed: a RangeResponse came back.
        user: the user whose token was presented, empty if none was.
        why_not: why the user that was given could not be used, empty if there is no such reason.
    """

    url: str
    tries: tuple[Attempt, ...]
    status: int | None
    message: str = ""
    well_formed: bool = False
    user: str = ""
    why_not: str = ""

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """One member as etcd lists it.

    Attributes:
        id: the member ID, in lower-case hexadecimal without leading zeros.
        name: empty until the member has been started.
        client_urls: likewise none until then.
        learner: it has no vote yet; no part of what makes two records equal.
    """

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberLists:
    """The member list by two ways.

    Attributes:
        by_peer: what the peer listener's ``/members`` says.
        by_client: what ``MemberList`` on a client listener says.
    """

    url: str
    by_peer: tuple[MemberRecord, ...]
    by_client: tuple[MemberRecord, ...]
    client_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionAnswers:
    """``/version`` of a member's listeners: pairs of URL and parsed body, the peer listener first."""

    answers: tuple[tuple[str, dict[str, str]], ...]
