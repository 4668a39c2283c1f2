"""A target: one etcd cluster, its members' listeners, the credentials that we hold, and what is known of it.

The values are the same for live and owned clusters. Functions classify the hosts of listeners.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Self

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.declared.declaration import DeclaredMember, authority, exists, is_address, is_loopback
from pytest_etcdtls.pki.profile import Identity, PrivateKey
from pytest_etcdtls.pki.thresholds import Thresholds
from pytest_etcdtls.role import Role as Role
from pytest_etcdtls.untrusted.printable import shell_word

if TYPE_CHECKING:
    from pytest_etcdtls.declared.running import RunningMember
    from pytest_etcdtls.etcd_log.parse import LogSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits that the user set.

    Attributes:
        timeout: seconds that one attempt may take (``--etcd-timeout``).
        concurrency: concurrent attempts per listener (``--etcd-concurrency``).
        pause: seconds between two attempts (``--etcd-gentle``).
        max_connections: maximum number of connections per listener (``--etcd-max-connections``).
        processes: number of processes that share the user's maximum; ``max_connections`` is the share of one.
    """

    timeout: float = 5.0
    concurrency: int = 4
    pause: float = 0.0
    max_connections: int = 200
    processes: int = 1


class Carrier(Struct, frozen=True):
    """What carries connections: a process each (``--etcd-via``).

    Attributes:
        command: with ``{host}`` and ``{port}``.
        variables: names of environment variables that it inherits besides those of every child.
    """

    command: str
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One URL that a member listens on.

    Attributes:
        scheme: ``https`` or ``http``.
        host: name or address in the URL, without brackets; for a Unix domain socket, its path.
        port: in the URL; 0 for a Unix domain socket, which is reached by way of its process.
        member: label of the member, which is its host until the member's ID is known.
        label: unique in the target, safe in node ids (no ``::``, ``[``, ``]``, ``/``, ``@``).
        connect_to: host and port to connect to instead, as with curl's ``--connect-to``; for a socket, its
            absolute path in the root directory of its process, and 0.
        via: what carries each connection instead of TCP.
        process: the process that listens, which must run for a connection to be made (``--etcd-pid``).
        in_its_network: connections are made in the network namespace of that process, which is not ours.
        discovered: a member list advertises it, and the user did not name it. It gets no credential before
            its server has proved who it is.
        unannounced: a declaration has it as a listen URL, and neither the user nor that declaration tells
            clients its host.
        may_be_local: a discovered host name may lead to this machine.
    """

    role: Role
    scheme: Literal["https", "http"]
    host: str
    port: int
    member: str
    label: str
    connect_to: tuple[str, int] | None = None
    via: Carrier | None = None
    process: int | None = None
    in_its_network: bool = False
    discovered: bool = False
    unannounced: bool = False
    may_be_local: bool = False

    @property
    def url(self) -> str:
        """The URL, an IPv6 address in brackets."""
        return f"{'unixs' if self.is_socket else self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """``host:port``, an IPv6 address in brackets; the path of a Unix domain socket."""
        return self.host if self.is_socket else authority(self.host, self.port)

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix domain socket."""
        return self.port == 0

    @property
    def place(self) -> int | str:
        """Its port, or the path of its socket as etcd was given it."""
        return self.port or self.host

    @property
    def socket_file(self) -> Path:
        """The path of its socket, in the root directory of the process (``/proc/PID/root``)."""
        return Path(f"/proc/{self.process}/root{self.address[0]}")

    @property
    def name(self) -> str:
        """The name that a client sends by SNI and that the served certificate must cover."""
        return socket_name(self.host) if self.is_socket else self.host

    @property
    def is_local(self) -> bool:
        """Whether only clients on the member's machine reach it."""
        return self.is_socket or is_loopback(self.host)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to connect to."""
        return self.connect_to or (self.host, self.port)

    @property
    def has_one_address(self) -> bool:
        """Whether it is certain that every connection reaches the same server."""
        return bool(self.via) or self.is_socket or is_address(self.address[0])

    @property
    def is_forwarded(self) -> bool:
        """Whether something carries the connections, so that etcd sees another client address than ours."""
        # A process that listens on every address is reached by loopback, which nothing forwards.
        return (self.connect_to is not None and self.process is None) or bool(self.via)


UNNAMED: Final = "@"
"""The address of a client on a Unix domain socket, as Go writes it (``sockaddrToUnix``)."""


def socket_name(path: str) -> str:
    """Return the name that etcd's clients verify on a Unix domain socket: the last part of its path.

    What follows a colon does not belong to it (``translateEndpoint`` in etcd's
    ``client/v3/internal/endpoint/endpoint.go``).
    """
    return path.rpartition("/")[2].partition(":")[0]


def entered_process(listeners: Iterable[Listener]) -> int | None:
    """Return the process in whose network namespace connections are made; ``None`` if it is ours."""
    return next((listener.process for listener in listeners if listener.in_its_network), None)


def safe(text: str) -> str:
    """Return a text safe in node ids: all but letters, digits, ``.`` and ``_`` become hyphens.

    It is cut where no name of a host is (RFC 1035 section 2.3.4): each result has it, of each check.
    """
    return re.sub(r"[^A-Za-z0-9._-]", "-", text[:255])


LIVE: Final = "live"
"""The label of a live cluster that the user does not name."""

LABEL: Final = "letters, digits, '.', '_' and '-', at most 100 characters"
"""What a label of the user's consists of."""


def is_label(text: str) -> bool:
    """Return whether a text can be the label of a target, which is part of node ids."""
    return bool(text) and safe(text) == text and len(text) <= 100


def unique(label: str, taken: Container[str]) -> str:
    """Return the label; if it is taken, the first free one of ``label-2``, ``label-3``, ..."""
    free, number = label, 2
    while free in taken:
        free, number = f"{label}-{number}", number + 1
    return free


class ConnectTo(Struct, frozen=True, kw_only=True):
    """A rule of ``--etcd-connect-to``: some URLs, and where to connect to for them.

    Attributes:
        text: the rule as it was given.
        host: host of the URLs that it applies to; empty for any.
        port: port of the URLs that it applies to; 0 for any.
        to_host: host to connect to; empty for the URL's own.
        to_port: port to connect to; 0 for the URL's own.
    """

    text: str
    host: str = ""
    port: int = 0
    to_host: str = ""
    to_port: int = 0

    def redirected(self, host: str, port: int) -> tuple[str, int] | None:
        """Return host and port to connect to instead, ``None`` if the rule does not apply."""
        if self.host not in ("", host) or self.port not in (0, port):
            return None
        return self.to_host or host, self.to_port or port


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """Certificates of CAs and where they come from (a file's path, or words).

    Attributes:
        inferred: etcd is assumed to trust them for clients, since one of them has signed the good client. The
            bundle may have further CAs, such as the system's. For a served certificate: they are those of
            the client port, and peers may have others.
        remark: what etcd makes of the file, if that differs; empty if it is the same or not etcd's file.
    """

    certificates: tuple[x509.Certificate, ...]
    source: str
    inferred: bool = False
    remark: str = ""


def key_beside(bundle: TrustBundle | None) -> str:
    """Return ``=FILE`` for the key of a CA that lies beside its bundle, for advice; else an empty text.

    Whether it is that CA's key is for the reader: it is not opened.
    """
    if bundle is None:
        return ""
    path = Path(bundle.source)
    for name in (f"{path.stem}.key", f"{path.stem}-key{path.suffix}"):
        if exists(path.with_name(name)):
            return f"={shell_word(str(path.with_name(name)))}"
    return ""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key of a CA, held to issue identities in memory.

    Attributes:
        certificate: the CA certificate.
        key: the private key; never shown, never written.
        key_file: its path, for commands to paste; ``None`` if it is only in memory.
        origin: where the key is from, for reports, if it is in no file.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    certificate_file: str | None = None
    key_file: str | None = None
    origin: str = "in memory"

    @property
    def files(self) -> tuple[str, str]:
        """Paths of the certificate and the key, for commands to paste."""
        return self.certificate_file or "ca.crt", self.key_file or "ca.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCredentials:
    """The credentials that we hold for one kind of port: client or peer.

    Attributes:
        server_ca: trust anchors for the served certificate; ``None`` if not given.
        identities: good identities, in the order in which they are tried.
        named: the one of them that the user named for this kind of port; ``None`` if all were found.
        client_trust: the bundle that etcd is declared to trust for its clients, or an inferred one; ``None``
            if unknown.
        signing_key: key of a CA in that bundle; ``None`` if not given.
        revoked: an identity that the CRL in force revokes; ``None`` if none is known.
        served: key pairs that members serve on that kind of port, as far as we hold them.
        allowed_cn: the only common names that etcd is declared to accept; empty if no such rule is known.
        allowed_hostname: names, one of which an accepted certificate must cover; empty if no such rule is
            known.
        unproved: why no server at a discovered address can prove who it is; empty if one can.
    """

    server_ca: TrustBundle | None = None
    identities: tuple[Identity, ...] = ()
    named: Identity | None = None
    client_trust: TrustBundle | None = None
    signing_key: SigningKey | None = None
    revoked: Identity | None = None
    served: tuple[Identity, ...] = ()
    allowed_cn: tuple[str, ...] = ()
    allowed_hostname: tuple[str, ...] = ()
    unproved: str = ""


class ExpectedLeaf(Struct, frozen=True, kw_only=True):
    """A certificate that must be served.

    Attributes:
        host: host of the listeners that must serve it, ``None`` for all.
        source: where it comes from: a file's path, or words.
    """

    role: Role
    certificate: x509.Certificate
    source: str
    host: str | None = None
    port: int | None = None

    @classmethod
    def on(cls, listener: Listener, certificate: x509.Certificate, source: str) -> Self:
        """Return a certificate that a listener must serve."""
        return cls(
            role=listener.role,
            certificate=certificate,
            source=source,
            host=listener.host,
            port=listener.port,
        )


class Unreached(Struct, frozen=True, kw_only=True):
    """A declared listener that is not judged.

    Attributes:
        member: label of the member.
        url: as declared; empty if the declaration cannot be read.
        reason: why it is not judged, and what to do.
        next_start: it is opened when etcd is started again: its configuration file was changed meanwhile.
    """

    member: str
    role: Role
    url: str
    reason: str
    next_start: bool = False


class StartFailure(Struct, frozen=True, kw_only=True):
    """The start of an etcd that ended or did not serve its clients.

    Attributes:
        member: label of the member.
        reason: what happened, with the message of its log that explains it.
        log: the lines of its log that do so, the last one first, printable and bounded.
    """

    member: str
    reason: str
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One etcd cluster to judge.

    Attributes:
        label: safe in node ids: ``live``, ``etcd-3.6.16``.
        origin: ``live``, ``process`` or ``container``.
        etcd_version: where known beforehand (owned clusters), else ``None``.
        source: image or binary of an owned cluster.
        client: credentials for client, client-http and metrics listeners.
        peer: credentials for peer listeners.
        user: name and password for clusters with authentication on.
        password_withheld: why the password is sent to no server; empty if it may be sent to one whose
            certificate is trusted.
        expiry_days: certificates that expire within this number of days cause a warning
            (``--etcd-expiry-days``).
        thresholds: what the named profiles allow, by the id of the check (``--etcd-profile``).
        kubernetes_ca: the CA of the Kubernetes cluster that the etcd serves; ``None`` if not given.
        dials_with_another: roles of the ports where etcd, as a client, presents a certificate other than the
            served one (``--client-cert-file``, ``--peer-client-cert-file``); ``None`` if that is not known.
        declared: declarations by the label of the member (``--etcd-config``, or the command lines of an owned
            cluster); empty if none is known.
        running: processes by the label of the member, which they declare (``--etcd-pid``).
        apart: why another process may be a member of the cluster, and is not joined; empty if none may be.
        searched: the processes were found, not named (``--etcd-pid=auto``), so they may be a stranger's.
        rehearses: the next restart of the processes is rehearsed (``--etcd-rehearse``).
        completed: how each endpoint without a scheme is read, in words.
        unreached: declared listeners that are not judged, since they cannot be reached from here; of a
            process about which nothing can be determined, the reason.
        remarks: files that were found and cannot be used, and why, one sentence each.
        connect_to: rules for URLs that are not known yet; they are already applied to ``listeners``.
        discover: the cluster is asked for its members, and their listeners are judged too
            (``--etcd-discover``).
        logs: logs of members, by their label or host; under the empty string, the log of all others
            (``--etcd-log``, or those of an owned cluster).
        replay: the source of the declaration that the etcd replays; ``None`` for every other target.
        generated: why the replayed etcd has generated keys and certificates, in a sentence. They prove
            nothing of the declared ones. Empty if it has those.
        failure: why an etcd that was started for this run does not run; ``None`` if it runs.
        sparing: only cipher suites and groups that decide a verdict are looked for (``--etcd-gentle``, if no
            declaration, profile or baseline lists them).
    """

    label: str
    origin: Literal["live", "process", "container"]
    listeners: tuple[Listener, ...]
    client: PortCredentials = PortCredentials()
    peer: PortCredentials = PortCredentials()
    expected: tuple[ExpectedLeaf, ...] = ()
    etcd_version: str | None = None
    source: str | None = None
    user: tuple[str, str] | None = field(default=None, repr=False)
    password_withheld: str = ""
    expiry_days: int = 30
    thresholds: Mapping[str, Thresholds] = field(default_factory=lambda: MappingProxyType({}))
    kubernetes_ca: TrustBundle | None = None
    dials_with_another: frozenset[Role] | None = None
    declared: Mapping[str, DeclaredMember] = field(default_factory=lambda: MappingProxyType({}))
    running: Mapping[str, RunningMember] = field(default_factory=lambda: MappingProxyType({}))
    apart: str = ""
    searched: bool = False
    rehearses: bool = False
    completed: tuple[str, ...] = ()
    unreached: tuple[Unreached, ...] = ()
    remarks: tuple[str, ...] = ()
    connect_to: tuple[ConnectTo, ...] = ()
    discover: bool = False
    logs: Mapping[str, LogSource] = field(default_factory=lambda: MappingProxyType({}))
    replay: str | None = None
    generated: str = ""
    failure: StartFailure | None = None
    sparing: bool = False

    @property
    def runs(self) -> bool:
        """Whether etcd runs; false if one that was started for this run does not start."""
        return self.failure is None

    @property
    def unjudged(self) -> str:
        """Why nothing of it is judged, as of a process that cannot be read; empty if it has a listener."""
        reasons = dict.fromkeys(other.reason for other in self.unreached)
        return "; ".join(reasons) if self.live and not self.listeners else ""

    @property
    def url(self) -> str:
        """The URL of its first client listener, else of any; empty if it has none."""
        first = self.first_of(Role.CLIENT) or next(iter(self.listeners), None)
        return first.url if first else ""

    @property
    def configured_by_user(self) -> bool:
        """Whether its configuration is the user's: it is live, or replays the user's declaration."""
        return self.live or self.replay is not None

    @property
    def live(self) -> bool:
        """Whether it is a live cluster, not one that was started for this run."""
        return self.origin == "live"

    def first_of(self, role: Role | None) -> Listener | None:
        """Return the first listener of a role; ``None`` if there is none, and for the whole target."""
        return next((listener for listener in self.listeners if listener.role is role), None)

    def labelled(self, label: str | None) -> Listener | None:
        """Return the listener of that label; ``None`` if there is none, and for the whole target."""
        return next((listener for listener in self.listeners if listener.label == label), None)

    def siblings(self, listener: Listener, *roles: Role) -> list[Listener]:
        """Return the other listeners of the same member that have one of the roles."""
        return [
            other
            for other in self.listeners
            if other.member == listener.member and other.role in roles and other is not listener
        ]

    def process_of(self, file: str) -> RunningMember | None:
        """Return the process in whose root directory a file was found; ``None`` if it was not in one."""
        return next(
            (each for each in self.running.values() if file.startswith(f"{each.process.root}/")), None
        )

    def log_of(self, listener: Listener) -> LogSource | None:
        """Return the log of a listener's member, ``None`` if there is none."""
        return self.logs.get(listener.member) or self.logs.get(listener.host) or self.logs.get("")

    def credentials(self, role: Role) -> PortCredentials:
        """Return the credentials that we hold for a listener of that role."""
        return self.peer if role is Role.PEER else self.client


_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
"""Addresses of metadata services of clouds that are not link-local."""

_NOWHERE = tuple(map(ipaddress.IPv4Network, ("0.0.0.0/8", "240.0.0.0/4")))
"""IPv4 networks without machines (RFC 791 section 3.2, RFC 1112 section 4); 0.0.0.0/8 may mean this one."""

_TRANSLATED = tuple(
    map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
)
"""IPv6 networks with an IPv4 address in the last 32 bits (RFC 4291 section 2.5.5.1, RFC 2765 section 2.1,
RFC 6052, RFC 8215)."""

_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""The first half of an interface identifier whose second half is an IPv4 address (RFC 5214 section 6.1)."""


def no_machine(address: str) -> str:
    """Return why an address is not that of a machine of a cluster; empty if it may be.

    Loopback may be: it leads to a member on the member's own machine.

    Args:
        address: an IP address without brackets.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and not parsed.is_loopback and not parsed.is_unspecified:
        if parsed.ipv4_mapped is not None:
            return no_machine(str(parsed.ipv4_mapped))
        inside = _inside(parsed)
        if inside is not None and (inside.is_loopback or no_machine(str(inside))):
            return f"{address} holds {inside}, which some resolvers read"
    if parsed.is_unspecified:
        return f"{address} means every address of the client's own machine"
    if isinstance(parsed, ipaddress.IPv4Address) and any(parsed in network for network in _NOWHERE):
        return f"{address} is in a network without machines"
    if parsed.is_multicast:
        return f"{address} is not the address of one machine"
    if parsed.is_link_local or parsed in _METADATA:
        return f"{address} is link-local, or the address of a cloud's metadata service"
    return ""


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address holds, other than an IPv4-mapped one."""
    if any(address in network for network in _TRANSLATED) or int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.teredo[1] if address.teredo else address.sixtofour


def is_number(host: str) -> bool:
    """Return whether a host that is no IP address is read as one by some resolvers: ``127.1``, ``0x7f.1``.

    Its last label is then a decimal or hexadecimal number (inet_aton(3); WHATWG URL, "ends in a number").
    """
    return re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", host.rstrip(".").rpartition(".")[2]) is not None
