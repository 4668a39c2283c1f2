"""What a running owned cluster offers, and the target that it is to judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self
from urllib.parse import urlsplit

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.declared.declaration import DeclaredMember
from pytest_etcdtls.errors import ClusterStartError
from pytest_etcdtls.etcd_log.parse import OwnLog
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import ExpectedLeaf, Listener, PortCredentials, SigningKey, Target, TrustBundle


class Member(Protocol):
    """One etcd server of an owned cluster."""

    @property
    def name(self) -> str:
        """``m0``, ``m1`` ..."""

    @property
    def client_url(self) -> str:
        """The client listener, reachable from here; its scheme is ``ClusterConfig.client_scheme``."""

    @property
    def peer_url(self) -> str:
        """The peer listener, reachable from here."""

    @property
    def metrics_url(self) -> str | None:
        """The metrics listener, if there is one."""

    @property
    def client_http_url(self) -> str | None:
        """The HTTP listener of a split set-up, if there is one."""

    @property
    def plain_client_url(self) -> str | None:
        """The ``http`` client listener beside the ``https`` one, if there is one."""

    @property
    def pki_directory(self) -> Path:
        """The member's own key pairs on this host (0700); files may be replaced while etcd runs."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line that etcd was started with, for reports: paths, never a secret."""

    @property
    def declared(self) -> DeclaredMember | None:
        """What it was told to be: its command line, its variables, its configuration file."""

    @property
    def running(self) -> bool:
        """Whether the process or container is alive now."""

    @property
    def ready(self) -> bool:
        """Whether it runs and has said since its last start that it serves its clients."""

    def file(self, name: str) -> Path:
        """Return where a file of that logical name (``server.crt``, ``client-ca.crt``) is on this host."""

    def replace_files(self, contents: Mapping[str, bytes]) -> None:
        """Replace files by logical name, in that order, and let etcd see them; it is told nothing.

        A process sees the old file or the new one at any moment; in a container it is missing in between.

        Raises:
            OSError: if the system or the container engine refuses.
        """

    def log(self) -> str:
        """Return everything that this member has logged so far, earlier starts included."""


class Cluster(Protocol):
    """An owned cluster. As a context manager it stops itself at the end."""

    @property
    def config(self) -> ClusterConfig:
        """What was asked for."""

    @property
    def pki(self) -> ClusterPKI:
        """Every key and certificate that was generated for it."""

    @property
    def pki_directory(self) -> Path:
        """Where they are on this host (0700)."""

    @property
    def version(self) -> str:
        """As ``etcd --version`` prints it: ``3.6.16``."""

    @property
    def origin(self) -> Literal["process", "container"]:
        """Which backend runs it."""

    @property
    def source(self) -> str:
        """Path of the binary, or name of the image."""

    @property
    def members(self) -> tuple[Member, ...]:
        """In the order ``m0``, ``m1`` ..."""

    @property
    def user(self) -> tuple[str, str] | None:
        """Name and password of the administrator where authentication is on; never shown."""

    def target(self, label: str | None = None) -> Target:
        """Return the cluster as a target to judge; the label defaults to ``etcd-VERSION``."""

    def stop(self) -> None:
        """Stop every member within a second and remove every file; a kept cluster is left standing.

        May be called again.
        """

    def stop_member(self, index: int) -> None:
        """Stop one member and keep its data."""

    def start_member(self, index: int, *, wait: bool = True) -> None:
        """Start a stopped member again and wait until it serves clients, or do not wait for that.

        Raises:
            ClusterStartError: if it is waited for and does not.
            OSError: if it is not waited for and cannot be run at all.
        """

    def restart_member(self, index: int) -> None:
        """Stop one member and start it again with the files as they are now."""

    def restart(self) -> None:
        """Stop all members and start them again, together."""

    def farewell(self) -> str:
        """Return how to talk to a kept cluster and how to stop it, as lines to paste."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""


_LINES = 40


def start_failure(attempted: str, happened: str, log: str) -> ClusterStartError:
    """Return an error that ends with the last forty lines of etcd's log.

    Args:
        attempted: what was started: ``etcd 3.6.16 (/usr/bin/etcd), member m0 at https://127.0.0.1:20000``.
        happened: ``exited with status 1``.
        log: everything that etcd has logged.
    """
    tail = log.splitlines()[-_LINES:]
    end = "its log is empty" if not tail else "\n".join(["its log ends:", *tail])
    return ClusterStartError(f"{attempted} did not come up: {happened}; {end}")


def build_target(cluster: Cluster, label: str | None = None) -> Target:
    """Return the target; the label defaults to ``etcd-VERSION``."""
    return Target(
        label=label or f"etcd-{cluster.version}",
        origin=cluster.origin,
        listeners=tuple(listener for member in cluster.members for listener in _listeners(member)),
        client=_client_credentials(cluster),
        peer=_peer_credentials(cluster),
        expected=tuple(leaf for member in cluster.members for leaf in _expected(cluster, member)),
        etcd_version=cluster.version,
        source=cluster.source,
        user=cluster.user,
        dials_with_another=frozenset(_dials_with_another(cluster)),
        declared={member.name: told for member in cluster.members if (told := member.declared) is not None},
        logs={member.name: OwnLog(f"the log of {member.name}", member.log) for member in cluster.members},
    )


def _dials_with_another(cluster: Cluster) -> Iterator[Role]:
    if cluster.config.client_cert_file is not None:
        yield from (Role.CLIENT, Role.CLIENT_HTTP)
    if cluster.config.peer_client_cert_file is not None:
        yield Role.PEER


def _listeners(member: Member) -> Iterator[Listener]:
    yield _listener(Role.CLIENT, "client", member.client_url, member)
    if member.plain_client_url is not None:
        yield _listener(Role.CLIENT, "client-plain", member.plain_client_url, member)
    if member.client_http_url is not None:
        yield _listener(Role.CLIENT_HTTP, "client-http", member.client_http_url, member)
    if member.metrics_url is not None:
        yield _listener(Role.METRICS, "metrics", member.metrics_url, member)
    yield _listener(Role.PEER, "peer", member.peer_url, member)


def _listener(role: Role, kind: str, url: str, member: Member) -> Listener:
    parts = urlsplit(url)
    scheme: Literal["https", "http"] = "https" if parts.scheme == "https" else "http"
    return Listener(
        role=role,
        scheme=scheme,
        host=parts.hostname or "",
        port=parts.port or 0,
        member=member.name,
        label=f"{kind}-{member.name}",
    )


def _client_credentials(cluster: Cluster) -> PortCredentials:
    pki, config, member = cluster.pki, cluster.config, cluster.members[0]
    return PortCredentials(
        server_ca=_bundle(pki.server_ca, member, "server-ca"),
        identities=(_with_files(pki.client, member),),
        client_trust=_bundle(pki.client_ca, member, "client-ca"),
        signing_key=_signing_key(pki.client_ca, member, "client-ca"),
        revoked=_with_files(pki.revoked, member) if _revokes(config.client_crl_file) else None,
        served=_served(cluster, config.cert_file),
        allowed_hostname=_list(config.client_cert_allowed_hostname),
    )


def _peer_credentials(cluster: Cluster) -> PortCredentials:
    pki, config, member = cluster.pki, cluster.config, cluster.members[0]
    peer = pki.peers[member.name]
    return PortCredentials(
        server_ca=_bundle(pki.peer_ca, member, "peer-ca"),
        # The first one has no SAN, so that etcd's SAN rule lets it in also from a bridge's gateway.
        identities=(_with_files(pki.peer_client, member), _with_files(peer, member)),
        client_trust=_bundle(pki.peer_ca, member, "peer-ca"),
        signing_key=_signing_key(pki.peer_ca, member, "peer-ca"),
        served=_served(cluster, config.peer_cert_file),
        allowed_cn=_list(config.peer_cert_allowed_cn),
        allowed_hostname=_list(config.peer_cert_allowed_hostname),
    )


def _revokes(crl_file: str | None) -> bool:
    """Whether somebody is on that list, be it unreadable or not there."""
    return crl_file not in {None, "empty-crl.der"}


def _served(cluster: Cluster, file: str | None) -> tuple[Identity, ...]:
    """Return what the members serve from that file, where it is one of their own pairs."""
    pairs = {"server.crt": cluster.pki.servers, "peer.crt": cluster.pki.peers}.get(file or "", {})
    return tuple(_with_files(pairs[member.name], member) for member in cluster.members if pairs)


def _list(value: str | None) -> tuple[str, ...]:
    return tuple(value.split(",")) if value else ()


def _expected(cluster: Cluster, member: Member) -> Iterator[ExpectedLeaf]:
    """Yield what was meant to be served, whatever the configuration makes of it."""
    for listener in _listeners(member):
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


def _with_files(identity: Identity, member: Member) -> Identity:
    certificate, key = member.file(f"{identity.name}.crt"), member.file(f"{identity.name}.key")
    if not certificate.exists():
        return identity
    return replace(identity, origin=str(certificate), certificate_file=str(certificate), key_file=str(key))
