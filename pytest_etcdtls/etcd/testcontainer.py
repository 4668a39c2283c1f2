"""An etcd with TLS by the conventions of testcontainers, for programs and suites with or without pytest."""

from __future__ import annotations

import copy
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import docker.errors
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import WaitStrategy, WaitStrategyTarget

from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.etcd.config import (
    START_SECONDS,
    ClusterConfig,
    ClusterOptions,
    member_addresses,
    names_network,
    ports_needed,
    write_pki,
)
from pytest_etcdtls.etcd.container import HOME, EtcdContainer
from pytest_etcdtls.etcd.engine import image_present, image_version, published_host, pull, remove_all
from pytest_etcdtls.etcd.home import Home, Start
from pytest_etcdtls.etcd.leftovers import remove_containers
from pytest_etcdtls.etcd.member import Member, build_member, owned_target
from pytest_etcdtls.etcd.sources import PULL_SECONDS, EtcdSource
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames
from pytest_etcdtls.target import Target

if TYPE_CHECKING:
    import httpx

_NAME = "m0"
_PRIVATE = 0o600
_DESCRIBED = ("_command", "_kwargs", "_transferable_specs", "env", "ports")
"""What the user describes and a start adds to."""


_RYUK = threading.Lock()


@contextmanager
def _without_ryuk() -> Iterator[None]:
    """Let testcontainers start no Ryuk in this block: the watchdog does its work, and needs no image.

    The setting is one for the process, so the block is as short as possible, and there is one at a time.
    """
    with _RYUK:
        before = testcontainers_config.ryuk_disabled
        testcontainers_config.ryuk_disabled = True
        try:
            yield
        finally:
            testcontainers_config.ryuk_disabled = before


class ServesClients(WaitStrategy):
    """Waits until etcd logs that it serves clients and, if it should be, is healthy to its own client."""

    def __init__(self) -> None:
        super().__init__()
        self._startup_timeout = START_SECONDS

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        """Wait.

        Raises:
            ClusterStartError: if etcd ends or takes too long. The message ends with its last log lines.
        """
        if not isinstance(container, EtcdTLSContainer):
            raise TypeError("this strategy waits for an EtcdTLSContainer")
        container.adopt()
        start = Start(f"etcd {container.version} ({container.source})", self._startup_timeout)
        servers = {member.server: member.gateway().health for member in container.members}
        start.await_served([*servers])
        if container.config.expects_health:
            start.await_health(servers)


class EtcdTLSContainer(DockerContainer):
    """An etcd with one member and mutual TLS on both ports, with keys and certificates of its own.

    .. code-block:: python

        with EtcdTLSContainer("quay.io/coreos/etcd:v3.6.11") as etcd, etcd.client() as client:
            assert client.get("/health").json() == {"health": "true", "reason": ""}

    All ``with_...`` methods of testcontainers apply, before the start: the certificates are also valid for
    the name, the host name and the network aliases that they set, and ``with_command`` adds flags of etcd.
    Nothing of this host is mounted. If this program is killed, a watchdog removes container and files, so
    Ryuk is not started for it. After :meth:`stop` it can be started again: as another container, with other
    keys and no data.

    Attributes:
        config: the configuration.
        pki: the keys and certificates of the latest start.
        version: version of etcd in the latest start.
        members: the one member of the latest start.
    """

    pki: ClusterPKI

    def __init__(
        self,
        image: str,
        config: ClusterConfig | None = None,
        *,
        hosts: tuple[str, ...] = (),
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Describe the container; :meth:`start` starts it.

        Args:
            image: an image with ``etcd`` on its ``PATH``. It is pulled if it is missing.
            config: the configuration (default: mutual TLS on both ports).
            hosts: further DNS names and addresses for the certificates.
            options: those of testcontainers' ``DockerContainer``.

        Raises:
            UsageError: for a configuration with several members or with authentication.
        """
        super().__init__(image, **options)
        self.config = config or ClusterConfig()
        if self.config.size != 1 or self.config.authentication or self.config.config_file:
            raise UsageError(
                "EtcdTLSContainer has one member, whose settings are flags, without users and roles: use "
                "start_cluster(image=...) for other clusters"
            )
        if names_network(self.config):
            raise UsageError(
                "EtcdTLSContainer has testcontainers' own methods for its network: with_network and "
                "with_network_aliases"
            )
        self.version = ""
        self.members: tuple[Member, ...] = ()
        self._hosts = hosts
        self._home: Home | None = None
        self._ryuk = ExitStack()
        self._described: dict[str, Any] = {}
        self.waiting_for(ServesClients())

    def with_config(self, **changes: Unpack[ClusterOptions]) -> Self:
        """Change fields of the :class:`~pytest_etcdtls.ClusterConfig`."""
        self.config = replace(self.config, **changes)
        return self

    def with_hosts(self, *hosts: str) -> Self:
        """Issue the certificates also for these DNS names and addresses."""
        self._hosts += hosts
        return self

    def start(self) -> Self:
        """Generate the PKI, start etcd and wait until it serves clients.

        Raises:
            UsageError: if it is running, no engine answers, the image cannot be pulled or has no etcd, or its
                version does not support the configuration.
            ClusterStartError: if etcd does not serve clients in time.
        """
        if self._container is not None:
            raise UsageError("this EtcdTLSContainer is running: stop it before it is started again")
        try:
            with self._ryuk:
                self._ryuk.enter_context(_without_ryuk())
                super().start()
        except BaseException:
            self.stop()
            raise
        self.adopt()
        return self

    def adopt(self) -> None:
        """Let the member know the container that testcontainers has created."""
        self._server.container = self.get_wrapped_container()

    def stop(self, force: bool = True, delete_volume: bool = True) -> None:
        """Remove the container and all files of it on this host. It may be called repeatedly."""
        if self._home is not None:
            self._home.abandon()  # the log is remembered
        try:
            with suppress(docker.errors.NotFound):  # it was removed by another program
                super().stop(force, delete_volume)
            self._container = self._cached_container_info = None
            vars(self).update(self._described)
            self._described = {}
        finally:
            if self._home is not None:
                remove_all(self._home.token)  # if it fails, the watchdog goes on, and removes them at the end
                self._home.remove()

    @property
    def source(self) -> str:
        """Name of the image."""
        return str(self.image)

    @property
    def endpoint(self) -> str:
        """URL of the client listener, as this host reaches it."""
        return self._member.client_url

    def get_connection_url(self) -> str:
        """Return :attr:`endpoint`, under the name that testcontainers' modules have for it."""
        return self.endpoint

    @property
    def pki_directory(self) -> Path:
        """Directory (0700) of the keys and certificates on this host; it goes with the container."""
        return self._member.pki_root

    def file(self, name: str) -> Path:
        """Return the path of a file: ``server-ca.crt``, ``client.crt``, ``client.key`` ..."""
        return self._member.file(name)

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context that trusts the server's CA and presents the client certificate."""
        return self._member.ssl_context()

    def client(self) -> httpx.Client:
        """Return an HTTP client of etcd's JSON gateway with the client certificate. The caller closes it."""
        return self._member.client()

    def target(self, label: str | None = None) -> Target:
        """Return it as a target, to observe and judge it. The label defaults to ``etcd-VERSION``."""
        return owned_target(self._etcd, self.config, self.pki, self.members, label=label)

    @property
    def _etcd(self) -> EtcdSource:
        return EtcdSource(kind="container", location=self.source, version=self.version, why="the caller's")

    @property
    def _server(self) -> EtcdContainer:
        return cast("EtcdContainer", self._member.server)

    @property
    def _member(self) -> Member:
        if not self.members:
            raise ClusterStartError(
                "the etcd of this container has not been started: use it in a with statement"
            )
        return self.members[0]

    def _configure(self) -> None:
        """Set what :meth:`start` creates the container with. testcontainers calls it."""
        self._ryuk.close()  # testcontainers has decided about it before
        described = vars(self)
        self._described = {name: copy.copy(described[name]) for name in _DESCRIBED}
        remove_containers()
        if not image_present(self.source):
            pull(self.source, PULL_SECONDS)
        self.version = image_version(self.source)
        self._home = home = Home(self._etcd, config=self.config)
        named = (self._name, self._kwargs.get("hostname"), *(self._network_aliases or ()), published_host())
        hosts = (*MemberNames(_NAME).hosts, _NAME, *filter(None, named), *self._hosts)
        try:
            names = MemberNames(_NAME, tuple(dict.fromkeys(hosts)))
            self.pki = ClusterPKI.generate(self.config.pki, [names])
        except ValueError as error:
            raise UsageError(f"the PKI of the container cannot be generated: {error}") from error
        write_pki(self.pki, self.config, home.pki, with_ca_keys=True)

        flags = (self._command,) if isinstance(self._command, str) else tuple(self._command or ())
        config = replace(self.config, extra_flags=(*self.config.extra_flags, *flags))
        ports = iter(home.claim(ports_needed(config)))
        addresses = member_addresses(config, _NAME, ports, home.host)
        self.members = (build_member(home, config, self.pki, [addresses], 0, alone=True),)

        created = dict(self._server.settings)
        self.with_command(created.pop("command")).with_envs(**created.pop("environment"))
        # testcontainers publishes on all addresses; docker-py, which gets these values, also accepts a pair.
        self.ports.update(created.pop("ports"))
        self.with_copy_into_container(home.pki, str(HOME), _PRIVATE)
        del created["image"]
        labels = {**self._kwargs.get("labels", {}), **created.pop("labels")}
        # Alone on its network or on one of the user's, etcd has to resolve its own name.
        self._kwargs = {"extra_hosts": {_NAME: "127.0.0.1"}, **created, **self._kwargs, "labels": labels}
