"""The target that an owned cluster is to the checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.member import Member
from pytest_etcdtls.etcd_log.parse import OwnLog
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import ExpectedLeaf, Listener, PortCredentials, SigningKey, Target, TrustBundle

if TYPE_CHECKING:
    from pytest_etcdtls.cluster.cluster import Cluster
    from pytest_etcdtls.cluster.testcontainer import EtcdTLSContainer

    Owned: TypeAlias = Cluster | EtcdTLSContainer


def build_target(cluster: Owned, label: str | None = None) -> Target:
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


def _dials_with_another(cluster: Owned) -> Iterator[Role]:
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


def outline_listeners(config: ClusterConfig) -> tuple[Listener, ...]:
    """Return the listeners that a cluster of this configuration will have. The ports are not known yet."""
    return tuple(
        Listener(role=role, scheme=scheme, host=config.host, port=0, member=name, label=f"{kind}-{name}")
        for name in (f"m{number}" for number in range(config.size))
        for role, kind, scheme in _kinds(config)
    )


def _kinds(config: ClusterConfig) -> Iterator[tuple[Role, str, Literal["https", "http"]]]:
    yield Role.CLIENT, "client", config.client_scheme
    if config.plain_client_listener:
        yield Role.CLIENT, "client-plain", "http"
    if config.client_http:
        yield Role.CLIENT_HTTP, "client-http", config.client_scheme
    if config.metrics is not None:
        yield Role.METRICS, "metrics", config.metrics
    yield Role.PEER, "peer", config.peer_scheme


def _client_credentials(cluster: Owned) -> PortCredentials:
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


def _peer_credentials(cluster: Owned) -> PortCredentials:
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


def _served(cluster: Owned, file: str | None) -> tuple[Identity, ...]:
    """Return the certificates that the members serve from the file, if it is one of their own key pairs."""
    pairs = {"server.crt": cluster.pki.servers, "peer.crt": cluster.pki.peers}.get(file or "", {})
    return tuple(_with_files(pairs[member.name], member) for member in cluster.members if pairs)


def _list(value: str | None) -> tuple[str, ...]:
    return tuple(value.split(",")) if value else ()


def _expected(cluster: Owned, member: Member) -> Iterator[ExpectedLeaf]:
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
