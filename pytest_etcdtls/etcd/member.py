"""Members of an owned cluster: URLs, files, launch, and the target that they are to the checks."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_etcdtls.declared.declaration import DeclaredMember
from pytest_etcdtls.errors import UsageError, did_you_mean
from pytest_etcdtls.etcd.admin import Gateway
from pytest_etcdtls.etcd.config import (
    ClusterConfig,
    command_line,
    member_addresses,
    member_flags,
    render,
)
from pytest_etcdtls.etcd.home import Home, Server
from pytest_etcdtls.etcd.launch import Launch, MemberAddresses, Served
from pytest_etcdtls.etcd.sources import EtcdSource
from pytest_etcdtls.etcd_log.parse import own_log
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI, write_files
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import ExpectedLeaf, Listener, PortCredentials, SigningKey, Target, TrustBundle

if TYPE_CHECKING:
    import httpx  # slow to import, and starting a cluster does not need it


@dataclass(kw_only=True)
class Member:
    """One etcd server of an owned cluster.

    Attributes:
        addresses: its URLs as seen from this host.
        pki_root: the cluster's PKI directory on this host.
        files: paths of its files below ``pki_root``, by logical name. Any other name is a file at the top.
        server: the process or the container that runs its etcd.
    """

    addresses: MemberAddresses
    pki_root: Path
    files: Mapping[str, PurePosixPath] = field(repr=False)
    server: Server = field(repr=False)

    @property
    def name(self) -> str:
        """Its name: ``m0``, ``m1`` ..."""
        return self.addresses.name

    @property
    def client_url(self) -> str:
        """The client listener, reachable from here; its scheme is ``ClusterConfig.client_scheme``."""
        return self.addresses.listen_client[0]

    @property
    def host(self) -> str:
        """Host of the client listener, as in its URL, without brackets."""
        return urlsplit(self.client_url).hostname or ""

    @property
    def port(self) -> int:
        """Port of the client listener."""
        return urlsplit(self.client_url).port or 0

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
        return self.path("server.crt").parent

    @property
    def argv(self) -> tuple[str, ...]:
        """Its command line, for reports. It contains paths but no secret."""
        return (self.server.program, *self.server.launch.arguments)

    @property
    def declared(self) -> DeclaredMember | None:
        """Its declaration, read at this moment; ``None`` if the declaration cannot be read."""
        # Slow to import, and starting a cluster does not need it.
        from pytest_etcdtls.declared.reading import declared_member, from_command_line

        launch = self.server.launch
        file = None if launch.config_file is None else self.pki_root.parent / self.name / "etcd.conf.yml"
        try:
            declaration = from_command_line(
                self.argv,
                launch.environment,
                source=f"the command line of {self.name}",
                find=lambda path: file,
            )
        except UsageError:
            return None
        return declared_member(declaration, None if self.server.sees_host_files else self.pki_root)

    def file(self, name: str) -> Path:
        """Return the path on this host of a file by logical name (``server.crt``, ``client-ca.crt``).

        Raises:
            UsageError: if the cluster has no such file. The message lists those that it has.
        """
        if (path := self.path(name)).exists():
            return path
        extra = {found.name for found in self.pki_root.glob("*") if found.is_file()}
        has = sorted({known for known in self.files if self.path(known).exists()} | extra)
        raise UsageError(
            f"{self.name} has no file {name!r}: it has {', '.join(has)}{did_you_mean(name, has)}"
        )

    def path(self, name: str) -> Path:
        """Return the path on this host of a file by logical name, which need not exist."""
        return self.pki_root / self.files.get(name, name)

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context that trusts the CA of the client listener and presents the client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.file("server-ca.crt"))
        context.load_cert_chain(self.file("client.crt"), self.file("client.key"))
        return context

    def gateway(self) -> Gateway:
        """Return a client of its HTTP endpoints with the cluster's client certificate, for administration."""
        url = self.client_http_url or self.client_url
        return Gateway(url, self.file("client.crt"), self.file("client.key"))

    def client(self) -> httpx.Client:
        """Return an HTTP client with the client certificate. The caller closes it."""
        import httpx

        url = self.client_http_url or self.client_url
        # As the checks connect: without the proxies and the .netrc of the environment.
        return httpx.Client(base_url=url, verify=self.ssl_context(), trust_env=False)

    def replace_files(self, contents: Mapping[str, bytes]) -> None:
        """Replace files by logical name, in the given order. etcd sees the new files and is not notified.

        A process sees either the old file or the new one; in a container the file is missing in between.

        Raises:
            OSError: if the system or the container engine refuses.
        """
        write_files(
            self.pki_root,
            {PurePosixPath(self.files.get(name, name)): content for name, content in contents.items()},
        )
        self.server.copy_files()

    @property
    def running(self) -> bool:
        """Whether the process or container is running."""
        return self.server.running

    @property
    def ready(self) -> bool:
        """Whether it is running and has logged since its last start that it serves clients."""
        return self.running and self.server.readiness().ready

    def log(self) -> str:
        """Return the whole log of this member so far, including earlier starts."""
        return self.server.log()


def build_member(
    home: Home,
    config: ClusterConfig,
    pki: ClusterPKI,
    addresses: Sequence[MemberAddresses],
    index: int,
    *,
    alone: bool,
    joins: bool = False,
) -> Member:
    """Return a member that can be started.

    Args:
        home: its directory, with the keys and certificates. Its token is ``--initial-cluster-token``.
        config: the cluster's configuration.
        pki: the keys and certificates.
        addresses: URLs of all members as seen from this host.
        index: index of this member in ``addresses``.
        alone: it is the only member, and will be.
        joins: it was added to a cluster that runs.

    Raises:
        UsageError: if this version of etcd does not support the configuration.
    """
    own, backend = addresses[index], home.backend
    inside = [backend.listens_on(reached) for reached in addresses]
    paths, files = backend.paths(own.name), pki.paths(own.name, with_ca_keys=True)
    flags = member_flags(
        config, home.etcd.flags(), inside, index, paths, files, token=home.token, alone=alone, joins=joins
    )
    launch = Launch(
        name=own.name,
        label=f"member {own.name} at {own.listen_client[0]}",
        arguments=command_line(flags, config, paths),
        environment={name: paths.fill_in(value) for name, value in config.environment.items()},
        config_file=render(flags, config, paths) if config.config_file else None,
        ports=backend.published(own),
        serves=Served.from_urls((*inside[index].listen_client, *inside[index].listen_client_http)),
    )
    return Member(addresses=own, pki_root=home.pki, files=files, server=home.server(launch))


def owned_target(
    etcd: EtcdSource,
    config: ClusterConfig,
    pki: ClusterPKI,
    members: Sequence[Member],
    *,
    label: str | None = None,
    user: tuple[str, str] | None = None,
) -> Target:
    """Return members with their keys and certificates as a target.

    Args:
        etcd: the etcd that they run.
        config: their configuration.
        pki: their keys and certificates.
        members: the members.
        label: of the target (default: ``etcd-VERSION``).
        user: name and password of the administrator if authentication is enabled.
    """
    clients, peers = config.client_cert_file, config.peer_client_cert_file
    dialling = {Role.CLIENT: clients, Role.CLIENT_HTTP: clients, Role.PEER: peers}
    by_name = {member.name: member for member in members}
    client, peer = owned_credentials(config, pki, [*by_name], lambda name, file: by_name[name].path(file))
    return Target(
        label=label or f"etcd-{etcd.version}",
        origin=etcd.kind,
        listeners=tuple(listener for member in members for listener in _listeners(member.addresses)),
        client=client,
        peer=peer,
        expected=tuple(leaf for member in members for leaf in _expected(pki, member)),
        etcd_version=etcd.version,
        source=etcd.location,
        user=user,
        dials_with_another=frozenset(role for role, file in dialling.items() if file is not None),
        declared={member.name: declared for member in members if (declared := member.declared) is not None},
        logs={member.name: own_log(f"the log of {member.name}", member.log) for member in members},
    )


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
    members = (member_addresses(config, f"m{index}", itertools.count(1)) for index in range(config.size))
    return tuple(replace(listener, port=0) for member in members for listener in _listeners(member))


def owned_credentials(
    config: ClusterConfig, pki: ClusterPKI, names: Sequence[str], path: Callable[[str, str], Path]
) -> tuple[PortCredentials, PortCredentials]:
    """Return the credentials of the client and of the peer ports.

    Args:
        config: the configuration of the cluster.
        pki: its keys and certificates.
        names: of its members.
        path: returns where a file is, by member and logical name; it need not exist.
    """
    name, peer = names[0], pki.peers[names[0]]
    file = partial(path, name)

    def served(setting: str | None) -> tuple[Identity, ...]:
        """Return the certificates that the members serve from the file, if it is one of their own pairs."""
        pairs = {"server.crt": pki.servers, "peer.crt": pki.peers}.get(setting or "", {})
        return tuple(with_files(pairs[each], partial(path, each)) for each in names if pairs)

    return PortCredentials(
        server_ca=_bundle(pki.server_ca, file, "server-ca"),
        identities=(with_files(pki.client, file),),
        client_trust=_bundle(pki.client_ca, file, "client-ca"),
        signing_key=_signing_key(pki.client_ca, file, "client-ca"),
        # etcd refuses every certificate while the CRL is missing, this one too.
        revoked=with_files(pki.revoked, file)
        if config.client_crl_file not in {None, "empty-crl.der", *config.extra_files}
        else None,
        served=served(config.cert_file),
        allowed_hostname=_allowed_names(config.client_cert_allowed_hostname),
    ), PortCredentials(
        server_ca=_bundle(pki.peer_ca, file, "peer-ca"),
        # The first one has no SAN, so that etcd's SAN check accepts it also from a bridge's gateway address.
        identities=(with_files(pki.peer_client, file), with_files(peer, file)),
        client_trust=_bundle(pki.peer_ca, file, "peer-ca"),
        signing_key=_signing_key(pki.peer_ca, file, "peer-ca"),
        served=served(config.peer_cert_file),
        allowed_cn=_allowed_names(config.peer_cert_allowed_cn),
        allowed_hostname=_allowed_names(config.peer_cert_allowed_hostname),
    )


def _allowed_names(value: str | None) -> tuple[str, ...]:
    """Return the names in the value of a flag such as ``--peer-cert-allowed-cn``."""
    return tuple(value.split(",")) if value else ()


def _expected(pki: ClusterPKI, member: Member) -> Iterator[ExpectedLeaf]:
    """Yield the certificates that were generated for the listeners. The configuration may name others."""
    for listener in _listeners(member.addresses):
        if listener.scheme == "http":
            continue
        peer = listener.role is Role.PEER
        identity = (pki.peers if peer else pki.servers)[member.name]
        file = member.path("peer.crt" if peer else "server.crt")
        yield ExpectedLeaf.on(listener, identity.chain[0], str(file))


def _bundle(authority: CertificateAuthority, file: Callable[[str], Path], name: str) -> TrustBundle:
    return TrustBundle((authority.certificate,), str(file(f"{name}.crt")))


def _signing_key(authority: CertificateAuthority, file: Callable[[str], Path], name: str) -> SigningKey:
    key_file = file(f"{name}.key")
    return SigningKey(
        authority.certificate,
        authority.key,
        certificate_file=str(file(f"{name}.crt")),
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
