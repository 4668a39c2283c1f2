"""Members of an owned cluster: URLs, files, readiness, and the target that they are to the checks."""

from __future__ import annotations

import itertools
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct

from pytest_etcdtls.cluster.config import ClusterConfig, FileNames, MemberAddresses, loopback_addresses
from pytest_etcdtls.declared.declaration import DeclaredMember
from pytest_etcdtls.errors import UnreadableJSONError, UsageError
from pytest_etcdtls.etcd_log.parse import OwnLog
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import write_files
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import ExpectedLeaf, Listener, PortCredentials, SigningKey, Target, TrustBundle
from pytest_etcdtls.untrusted import printable, read_json

if TYPE_CHECKING:
    import httpx

    from pytest_etcdtls.cluster.cluster import Cluster
    from pytest_etcdtls.cluster.container import EtcdContainer
    from pytest_etcdtls.cluster.process import EtcdProcess
    from pytest_etcdtls.cluster.testcontainer import EtcdTLSContainer

    Owned: TypeAlias = Cluster | EtcdTLSContainer


# etcd 3.4 logs text by default, 3.5 and later JSON.
_SERVED_TEXT = re.compile(r"embed: serving (insecure )?client requests on (\S+?),?(?: this is |$)")
_SERVED_JSON = re.compile(r"serving client traffic (securely|insecurely)")
_SERVES_PEERS = ('"msg":"serving peer traffic"', "embed: listening for peers on")
_ADDRESS_IN_USE = "bind: address already in use"
_PROBLEM = re.compile(r"not defined|error|fatal|panic|invalid|failed|cannot|could not|required|must", re.I)
_LINES = 8
_COLUMNS = 400


class Served(Struct, frozen=True):
    """A client listener that accepts connections.

    Attributes:
        port: port of the listener. The host in the log may differ from the URL's (``[::]`` for ``0.0.0.0``).
        secure: whether it serves TLS. One port may serve both.
    """

    port: int
    secure: bool

    @classmethod
    def from_urls(cls, urls: Iterable[str]) -> frozenset[Served]:
        """Return the listeners of these URLs."""
        parts = map(urlsplit, urls)
        return frozenset(cls(url.port or 2379, url.scheme == "https") for url in parts)


class ReadinessLog:
    """The readiness of a member according to its log.

    Attributes:
        serves_peers: its peer port answers. There may be no leader yet.
        address_in_use: another program has taken one of its ports.
    """

    def __init__(self, expected: Iterable[Served]) -> None:
        """Expect these listeners."""
        self._missing = set(expected)
        self.serves_peers = False
        self.address_in_use = False

    @property
    def ready(self) -> bool:
        """Whether every listener serves clients."""
        return not self._missing

    def feed(self, lines: Iterable[str]) -> None:
        """Read further lines."""
        for line in lines:
            if (served := parse_served(line)) is not None:
                self._missing.discard(served)
            elif any(mark in line for mark in _SERVES_PEERS):
                self.serves_peers = True
            elif _ADDRESS_IN_USE in line:
                self.address_in_use = True


def why_not_started(happened: str, log: str) -> tuple[str, tuple[str, ...]]:
    """Return why an etcd did not start, with the message that explains it, and the lines of its log.

    Args:
        happened: what was seen from outside: ``it ended with status 1``.
        log: its whole log.
    """
    lines = list(_problem_lines(log.splitlines()))
    explained = printable(_message(lines[0])) if lines else "its log is empty"
    return f"{happened}: {explained}", tuple(printable(line, _COLUMNS) for line in lines)


def with_last_line(happened: str, log: str) -> str:
    """Return how an etcd ended that had served, with its last words, which may not be the reason."""
    lines = [line for line in log.splitlines() if line.strip()]
    return f"{happened}; its log ends: {printable(_message(lines[-1]))}" if lines else happened


def _problem_lines(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines that say why etcd ended, the last one first. etcd's help text is left out."""
    usage = next((number for number, line in enumerate(lines) if line.strip() == "Usage:"), len(lines))
    before = [line for line in lines[:usage] if line.strip()]
    problems = [line for line in before if _PROBLEM.search(line)] or before
    yield from reversed(problems[-_LINES:])


def _message(line: str) -> str:
    """Return the message of a line of etcd's log."""
    try:
        entry = read_json(line)
    except UnreadableJSONError:
        return line
    if not isinstance(entry, dict):
        return line
    return ": ".join(str(entry[key]) for key in ("msg", "error") if entry.get(key)) or line


def parse_served(line: str) -> Served | None:
    """Return the listener that a log line reports as served; ``None`` for every other line."""
    if text := _SERVED_TEXT.search(line):
        return _served(text[2], secure=text[1] is None)
    if "serving client traffic" not in line:
        return None
    try:
        entry = read_json(line)
    except UnreadableJSONError:
        return None
    if not isinstance(entry, dict):
        return None
    message = _SERVED_JSON.match(str(entry.get("msg", "")))
    return _served(str(entry.get("address", "")), secure=message[1] == "securely") if message else None


def _served(address: str, *, secure: bool) -> Served | None:
    port = address.rpartition(":")[2]
    return Served(int(port), secure) if port.isdigit() else None


@dataclass(kw_only=True)
class Member:
    """One etcd server of an owned cluster.

    Attributes:
        addresses: its URLs as seen from this host.
        argv: its command line, for reports. It contains paths but no secret.
        pki_root: the cluster's PKI directory on this host.
        files: paths of its files below ``pki_root``.
        server: the process or the container that runs its etcd.
        listens: the client listeners of its etcd, as etcd sees them.
        variables: environment variables from the configuration.
        config_file: its ``--config-file`` on this host; ``None`` if it has none.
        sees_pki_root: whether etcd sees its files under the same paths. In a container the paths differ.
    """

    addresses: MemberAddresses
    argv: tuple[str, ...]
    pki_root: Path
    files: FileNames = field(repr=False)
    server: EtcdProcess | EtcdContainer = field(repr=False)
    listens: frozenset[Served] = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    config_file: Path | None = None
    sees_pki_root: bool = True
    _readiness: ReadinessLog = field(default_factory=lambda: ReadinessLog(()), init=False, repr=False)

    @property
    def name(self) -> str:
        """Its name: ``m0``, ``m1`` ..."""
        return self.addresses.name

    @property
    def client_url(self) -> str:
        """The client listener, reachable from here; its scheme is ``ClusterConfig.client_scheme``."""
        return self.addresses.listen_client[0]

    @property
    def peer_url(self) -> str:
        """The peer listener, reachable from here."""
        return self.addresses.listen_peer[0]

    @property
    def metrics_url(self) -> str | None:
        """The metrics listener, if there is one."""
        return next(iter(self.addresses.listen_metrics), None)

    @property
    def client_http_url(self) -> str | None:
        """The listener of ``--listen-client-http-urls``, if there is one."""
        return next(iter(self.addresses.listen_client_http), None)

    @property
    def plain_client_url(self) -> str | None:
        """The additional ``http`` client listener, if there is one."""
        return next(iter(self.addresses.plain_client), None)

    @property
    def pki_directory(self) -> Path:
        """Directory of its key pairs on this host (0700). Files may be replaced while etcd runs."""
        return self.file("server.crt").parent

    @property
    def declared(self) -> DeclaredMember | None:
        """Its declaration, read at this moment; ``None`` if the declaration cannot be read."""
        from pytest_etcdtls.declared.reading import declared_member, from_command_line

        try:
            declaration = from_command_line(
                self.argv,
                self.variables,
                source=f"the command line of {self.name}",
                find=lambda path: self.config_file,
            )
        except UsageError:
            return None
        return declared_member(declaration, None if self.sees_pki_root else self.pki_root)

    def file(self, name: str) -> Path:
        """Return the path on this host of a file by logical name (``server.crt``, ``client-ca.crt``)."""
        return self.pki_root / self.files.path(name)

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context that trusts the CA of the client listener and presents the client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.file("server-ca.crt"))
        context.load_cert_chain(self.file("client.crt"), self.file("client.key"))
        return context

    def client(self) -> httpx.Client:
        """Return an HTTP client with the client certificate. The caller closes it."""
        import httpx  # slow to import, and starting a cluster does not need it

        return httpx.Client(base_url=self.client_http_url or self.client_url, verify=self.ssl_context())

    def replace_files(self, contents: Mapping[str, bytes]) -> None:
        """Replace files by logical name, in the given order. etcd sees the new files and is not notified.

        A process sees either the old file or the new one; in a container the file is missing in between.

        Raises:
            OSError: if the system or the container engine refuses.
        """
        write_files(self.pki_root, {self.files.path(name): content for name, content in contents.items()})
        self.server.copy_files()

    @property
    def running(self) -> bool:
        """Whether the process or container is running."""
        return self.server.running

    @property
    def ready(self) -> bool:
        """Whether it is running and has logged since its last start that it serves clients."""
        return self.running and self.readiness().ready

    def log(self) -> str:
        """Return the whole log of this member so far, including earlier starts."""
        return self.server.log()

    def start(self) -> None:
        """Start its etcd. On return the listeners may not be served yet.

        Raises:
            OSError: if it cannot be started.
            PortTakenError: if the container engine finds one of its ports taken.
        """
        self._readiness = ReadinessLog(self.listens)
        self.server.start()

    def readiness(self) -> ReadinessLog:
        """Read the log lines since the last call, and return the member's readiness."""
        self._readiness.feed(self.server.new_lines())
        return self._readiness


def build_target(cluster: Owned, label: str | None = None) -> Target:
    """Return the target. The label defaults to ``etcd-VERSION``."""
    return Target(
        label=label or f"etcd-{cluster.version}",
        origin=cluster.origin,
        listeners=tuple(listener for member in cluster.members for listener in _listeners(member.addresses)),
        client=_client_credentials(cluster),
        peer=_peer_credentials(cluster),
        expected=tuple(leaf for member in cluster.members for leaf in _expected(cluster, member)),
        etcd_version=cluster.version,
        source=cluster.source,
        user=cluster.user,
        dials_with_another=frozenset(_dials_with_another(cluster)),
        declared={
            member.name: declared for member in cluster.members if (declared := member.declared) is not None
        },
        logs={member.name: OwnLog(f"the log of {member.name}", member.log) for member in cluster.members},
    )


def _dials_with_another(cluster: Owned) -> Iterator[Role]:
    if cluster.config.client_cert_file is not None:
        yield from (Role.CLIENT, Role.CLIENT_HTTP)
    if cluster.config.peer_client_cert_file is not None:
        yield Role.PEER


def _listeners(addresses: MemberAddresses) -> Iterator[Listener]:
    lists = (
        (Role.CLIENT, "client", addresses.listen_client[:1]),
        (Role.CLIENT, "client-plain", addresses.plain_client),
        (Role.CLIENT_HTTP, "client-http", addresses.listen_client_http),
        (Role.METRICS, "metrics", addresses.listen_metrics),
        (Role.PEER, "peer", addresses.listen_peer),
    )
    for role, kind, urls in lists:
        for url in map(urlsplit, urls):
            yield Listener(
                role=role,
                scheme="https" if url.scheme == "https" else "http",
                host=url.hostname or "",
                port=url.port or 0,
                member=addresses.name,
                label=f"{kind}-{addresses.name}",
            )


def outline_listeners(config: ClusterConfig) -> tuple[Listener, ...]:
    """Return the listeners that a cluster of this configuration will have. The ports are not known yet."""
    members = (loopback_addresses(config, f"m{index}", itertools.count(1)) for index in range(config.size))
    return tuple(replace(listener, port=0) for member in members for listener in _listeners(member))


def _client_credentials(cluster: Owned) -> PortCredentials:
    pki, config, member = cluster.pki, cluster.config, cluster.members[0]
    return PortCredentials(
        server_ca=_bundle(pki.server_ca, member, "server-ca"),
        identities=(with_files(pki.client, member.file),),
        client_trust=_bundle(pki.client_ca, member, "client-ca"),
        signing_key=_signing_key(pki.client_ca, member, "client-ca"),
        # etcd refuses every certificate while the CRL is missing, this one too.
        revoked=with_files(pki.revoked, member.file)
        if config.client_crl_file not in {None, "empty-crl.der", *config.extra_files}
        else None,
        served=_served_identities(cluster, config.cert_file),
        allowed_hostname=allowed_names(config.client_cert_allowed_hostname),
    )


def _peer_credentials(cluster: Owned) -> PortCredentials:
    pki, config, member = cluster.pki, cluster.config, cluster.members[0]
    peer = pki.peers[member.name]
    return PortCredentials(
        server_ca=_bundle(pki.peer_ca, member, "peer-ca"),
        # The first one has no SAN, so that etcd's SAN check accepts it also from a bridge's gateway address.
        identities=(with_files(pki.peer_client, member.file), with_files(peer, member.file)),
        client_trust=_bundle(pki.peer_ca, member, "peer-ca"),
        signing_key=_signing_key(pki.peer_ca, member, "peer-ca"),
        served=_served_identities(cluster, config.peer_cert_file),
        allowed_cn=allowed_names(config.peer_cert_allowed_cn),
        allowed_hostname=allowed_names(config.peer_cert_allowed_hostname),
    )


def _served_identities(cluster: Owned, file: str | None) -> tuple[Identity, ...]:
    """Return the certificates that the members serve from the file, if it is one of their own key pairs."""
    pairs = {"server.crt": cluster.pki.servers, "peer.crt": cluster.pki.peers}.get(file or "", {})
    return tuple(with_files(pairs[member.name], member.file) for member in cluster.members if pairs)


def allowed_names(value: str | None) -> tuple[str, ...]:
    """Return the names in the value of a flag such as ``--peer-cert-allowed-cn``."""
    return tuple(value.split(",")) if value else ()


def _expected(cluster: Owned, member: Member) -> Iterator[ExpectedLeaf]:
    """Yield the certificates that were generated for the listeners. The configuration may name others."""
    for listener in _listeners(member.addresses):
        if listener.scheme == "http":
            continue
        peer = listener.role is Role.PEER
        identity = (cluster.pki.peers if peer else cluster.pki.servers)[member.name]
        yield ExpectedLeaf(
            role=listener.role,
            certificate=identity.chain[0],
            source=str(member.file("peer.crt" if peer else "server.crt")),
            host=listener.host,
            port=listener.port,
        )


def _bundle(authority: CertificateAuthority, member: Member, name: str) -> TrustBundle:
    return TrustBundle((authority.certificate,), str(member.file(f"{name}.crt")))


def _signing_key(authority: CertificateAuthority, member: Member, name: str) -> SigningKey:
    key_file = member.file(f"{name}.key")
    return SigningKey(
        authority.certificate,
        authority.key,
        certificate_file=str(member.file(f"{name}.crt")),
        key_file=str(key_file) if key_file.exists() else None,
    )


def with_files(identity: Identity, file: Callable[[str], Path]) -> Identity:
    """Return an identity with the paths of its files, for commands to paste, if they are written.

    Args:
        identity: the identity.
        file: returns the path of a file by name (``client.crt``).
    """
    certificate, key = file(f"{identity.name}.crt"), file(f"{identity.name}.key")
    if not certificate.exists():
        return identity
    return replace(identity, origin=str(certificate), certificate_file=str(certificate), key_file=str(key))
