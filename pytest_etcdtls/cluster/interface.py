"""The interface of a running owned cluster, and the target that it provides."""

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
        """The listener of ``--listen-client-http-urls``, if there is one."""

    @property
    def plain_client_url(self) -> str | None:
        """The additional ``http`` client listener, if there is one."""

    @property
    def pki_directory(self) -> Path:
        """Directory of the member's key pairs on this host (0700). Files may be replaced while etcd runs."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line of etcd, for reports. It contains paths but no secret."""

    @property
    def declared(self) -> DeclaredMember | None:
        """Its declaration: command line, environment variables and configuration file."""

    @property
    def running(self) -> bool:
        """Whether the process or container is running."""

    @property
    def ready(self) -> bool:
        """Whether it is running and has logged since its last start that it serves clients."""

    def file(self, name: str) -> Path:
        """Return the path on this host of a file by logical name (``server.crt``, ``client-ca.crt``)."""

    def replace_files(self, contents: Mapping[str, bytes]) -> None:
        """Replace files by logical name, in the given order. etcd sees the new files and is not notified.

        A process sees either the old file or the new one; in a container the file is missing in between.

        Raises:
            OSError: if the system or the container engine refuses.
        """

    def log(self) -> str:
        """Return the whole log of this member so far, including earlier starts."""


class Cluster(Protocol):
    """An owned cluster. As a context manager, it stops the cluster at the end."""

    @property
    def config(self) -> ClusterConfig:
        """The configuration that it was started with."""

    @property
    def pki(self) -> ClusterPKI:
        """The keys and certificates that were generated for it."""

    @property
    def pki_directory(self) -> Path:
        """Directory of the keys and certificates on this host (0700)."""

    @property
    def version(self) -> str:
        """Version as ``etcd --version`` prints it: ``3.6.16``."""

    @property
    def origin(self) -> Literal["process", "container"]:
        """The backend that runs it."""

    @property
    def source(self) -> str:
        """Path of the binary or name of the image."""

    @property
    def members(self) -> tuple[Member, ...]:
        """The members in the order ``m0``, ``m1`` ..."""

    @property
    def user(self) -> tuple[str, str] | None:
        """Name and password of the administrator if authentication is enabled. They are never printed."""

    def target(self, label: str | None = None) -> Target:
        """Return the cluster as a target. The label defaults to ``etcd-VERSION``."""

    def stop(self) -> None:
        """Stop every member within one second and remove every file; do nothing to a kept cluster.

        It may be called repeatedly.
        """

    def stop_member(self, index: int) -> None:
        """Stop one member. Its data is kept."""

    def start_member(self, index: int, *, wait: bool = True) -> None:
        """Start a stopped member again and, if ``wait`` is set, wait until it serves clients.

        Raises:
            ClusterStartError: with ``wait``, if it does not serve clients in time.
            OSError: without ``wait``, if it cannot be run.
        """

    def restart_member(self, index: int) -> None:
        """Stop one member and start it again with the current files."""

    def restart(self) -> None:
        """Stop all members and start them again together."""

    def farewell(self) -> str:
        """Return the commands to use a kept cluster and to stop it, as lines to paste."""

    def __enter__(self) -> Self:
        """Return the cluster."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the cluster."""


_LINES = 40


def start_failure(attempted: str, happened: str, log: str) -> ClusterStartError:
    """Return an error that ends with the last forty lines of etcd's log.

    Args:
        attempted: the etcd that was started: ``etcd 3.6.16 (/usr/bin/etcd), member m0 at https://127.0.0.1:20000``.
        happened: the failure: ``exited with status 1``.
        log: the whole log of etcd.
    """
    tail = log.splitlines()[-_LINES:]
    end = "its log is empty" if not tail else "\n".join(["its log ends:", *tail])
    return ClusterStartError(f"{attempted} did not come up: {happened}; {end}")


def build_target(cluster: Cluster, label: str | None = None) -> Target:
    """Return the target. The label defaults to ``etcd-VERSION``."""
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
        # The first one has no SAN, so that etcd's SAN check accepts it also from a bridge's gateway address.
        identities=(_with_files(pki.peer_client, member), _with_files(peer, member)),
        client_trust=_bundle(pki.peer_ca, member, "peer-ca"),
        signing_key=_signing_key(pki.peer_ca, member, "peer-ca"),
        served=_served(cluster, config.peer_cert_file),
        allowed_cn=_list(config.peer_cert_allowed_cn),
        allowed_hostname=_list(config.peer_cert_allowed_hostname),
    )


def _revokes(crl_file: str | None) -> bool:
    """Whether the CRL revokes a certificate. An unreadable or missing CRL counts as such."""
    return crl_file not in {None, "empty-crl.der"}


def _served(cluster: Cluster, file: str | None) -> tuple[Identity, ...]:
    """Return the certificates that the members serve from the file, if it is one of their own key pairs."""
    pairs = {"server.crt": cluster.pki.servers, "peer.crt": cluster.pki.peers}.get(file or "", {})
    return tuple(_with_files(pairs[member.name], member) for member in cluster.members if pairs)


def _list(value: str | None) -> tuple[str, ...]:
    return tuple(value.split(",")) if value else ()


def _expected(cluster: Cluster, member: Member) -> Iterator[ExpectedLeaf]:
    """Yield the certificates that are expected to be served, whatever the configuration says."""
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
