"""A cluster of etcd containers with published ports on a separate network.

It owns the network and the containers, and removes both.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pytest_etcdtls.cluster.command_line import (
    FileNames,
    FlagSet,
    MemberAddresses,
    MemberPaths,
    command_line,
    render,
)
from pytest_etcdtls.cluster.docker import (
    LABEL,
    cleanup_command,
    engine,
    image_flags,
    published_host,
    reaper_off,
    reason,
    remove_cluster,
)
from pytest_etcdtls.cluster.owned import OwnedCluster, PortTakenError, farewell
from pytest_etcdtls.cluster.owned_member import ReachableMember, ReadinessLog, Served
from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.pki.pki_plan import MemberNames

if TYPE_CHECKING:
    from docker.models.containers import Container
    from testcontainers.core.container import DockerContainer


CLIENT, PEER, METRICS, CLIENT_HTTP, PLAIN = 2379, 2380, 2381, 2382, 2383
"""Ports in the container."""


def published_ports(outside: MemberAddresses) -> Mapping[int, int]:
    """Return the ports on the host by port in the container."""
    client = _port(outside.listen_client[0])
    listeners = {
        CLIENT: outside.listen_client[:1],
        PEER: outside.listen_peer,
        METRICS: outside.listen_metrics,
        CLIENT_HTTP: outside.listen_client_http,
        PLAIN: tuple(url for url in outside.listen_client if _port(url) != client),
    }
    return {inside: _port(urls[0]) for inside, urls in listeners.items() if urls}


def inside_addresses(outside: MemberAddresses) -> MemberAddresses:
    """Return the URLs that the etcd in the container listens on and advertises.

    The advertised client URLs are the published ones, which are valid on this host. Peers reach each other by
    name on the cluster's network.

    Args:
        outside: the URLs that are published on the host.
    """
    inside = {published: port for port, published in published_ports(outside).items()}

    def listen(urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{urlsplit(url).scheme}://0.0.0.0:{inside[_port(url)]}" for url in urls)

    return MemberAddresses(
        name=outside.name,
        listen_client=listen(outside.listen_client),
        advertise_client=outside.advertise_client,
        listen_peer=listen(outside.listen_peer),
        advertise_peer=tuple(
            f"{urlsplit(url).scheme}://{outside.name}:{PEER}" for url in outside.listen_peer
        ),
        listen_metrics=listen(outside.listen_metrics),
        listen_client_http=listen(outside.listen_client_http),
    )


def at_host(addresses: MemberAddresses, host: str) -> MemberAddresses:
    """Return the addresses with the host of a remote engine."""
    authority = f"[{host}]" if ":" in host else host

    def move(urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{urlsplit(url).scheme}://{authority}:{_port(url)}" for url in urls)

    return MemberAddresses(
        name=addresses.name,
        listen_client=move(addresses.listen_client),
        advertise_client=move(addresses.advertise_client),
        listen_peer=move(addresses.listen_peer),
        advertise_peer=move(addresses.advertise_peer),
        listen_metrics=move(addresses.listen_metrics),
        listen_client_http=move(addresses.listen_client_http),
    )


def _port(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise ValueError(f"{url} has no port")
    return port


_STOP_SECONDS = 1
"""Seconds that etcd may take to stop; the engine accepts whole seconds only."""

_PRIVATE = 0o600

_TAKEN = ("port is already allocated", "address already in use", "ports are not available")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """The settings of a container to create.

    Attributes:
        image: an image with ``etcd`` on its ``PATH``.
        name: name of the container, unique in the engine.
        host_name: host name that the other members reach it under on the network.
        network: name of the network.
        cluster: value of the label by which the container is found and removed.
        argv: command line, ``etcd`` first.
        environment: variables for etcd, in addition to the image's.
        ports: ports on the host, by port in the container.
        address: address of the host on which the ports are published.
        files: files to copy in, with their destination. A directory of the host is copied into the
            destination, bytes are written as the destination file.
        keep: whether the container outlives this process.
    """

    image: str
    name: str
    host_name: str
    network: str
    cluster: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    ports: Mapping[int, int]
    address: str
    files: Sequence[tuple[Path | bytes, str]] = field(repr=False)
    keep: bool


class EtcdContainer:
    """An etcd in a container. Its methods raise OSError if the engine refuses the request."""

    def __init__(self, plan: ContainerPlan) -> None:
        """Store the plan; :meth:`create` creates the container."""
        with _refusals():
            self._outer = _describe(plan)
        self._plan = plan
        self._position = 0

    def create(self) -> None:
        """Create the container, copy the files in, and start it for the first time.

        Raises:
            PortTakenError: if the host refuses one of the ports.
        """
        with _refusals(), reaper_off(self._plan.image, keep=self._plan.keep):
            self._outer.start()

    @property
    def running(self) -> bool:
        """Whether etcd is running."""
        return self.exit_status is None

    @property
    def exit_status(self) -> int | None:
        """The exit status of etcd; ``None`` while it runs."""
        with _refusals():
            self._container.reload()
        state = self._container.attrs["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def log(self) -> str:
        """Return the whole log, including earlier starts."""
        return self._output().decode(errors="replace")

    def new_lines(self) -> list[str]:
        """Return the complete lines logged since the last call."""
        text = self._output()[self._position :]
        end = text.rfind(b"\n") + 1
        self._position += end
        return text[:end].decode(errors="replace").splitlines()

    def stop(self) -> None:
        """Stop etcd and kill it after one second. Its data is kept."""
        with _refusals():
            self._container.stop(timeout=_STOP_SECONDS)

    def start(self) -> None:
        """Start it again with the current files of the host.

        Raises:
            PortTakenError: if another program has taken one of its ports meanwhile.
        """
        self.copy_files()
        with _refusals():
            self._container.start()

    def copy_files(self) -> None:
        """Copy the current files of the host over those in the container."""
        with _refusals():
            for source, target in self._plan.files:
                self._outer.copy_into_container(source, target, _PRIVATE)

    def close(self) -> None:
        """Close the connection to the engine. The container is not changed."""
        self._outer.get_docker_client().client.close()

    @property
    def _container(self) -> Container:
        return self._outer.get_wrapped_container()

    def _output(self) -> bytes:
        if self._outer.status == "not_started":
            return b""
        with _refusals():
            return self._container.logs()


@contextmanager
def _refusals() -> Iterator[None]:
    """Translate errors of the engine into system errors.

    Raises:
        PortTakenError: if a port on the host is taken.
        OSError: for every other error.
    """
    import docker.errors
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        words = reason(error)
        if any(mark in words for mark in _TAKEN):
            raise PortTakenError(f"the container engine refuses a port: {words}") from error
        raise OSError(f"the container engine refuses: {words}") from error


def _describe(plan: ContainerPlan) -> DockerContainer:
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(plan.image)
    # Without the image name prefix of testcontainers: this image was found by its full name.
    container.image = plan.image
    container.with_name(plan.name).with_command(list(plan.argv[1:])).with_envs(**plan.environment)
    for inside, outside in plan.ports.items():
        # testcontainers publishes on all addresses; docker-py, which gets this value, also accepts a pair.
        container.ports[f"{inside}/tcp"] = (plan.address, outside)  # type: ignore[assignment]
    for source, target in plan.files:
        container.with_copy_into_container(source, target, _PRIVATE)
    api = container.get_docker_client().client.api
    return container.with_kwargs(
        # Run the binary itself instead of the image's entry point, as root: only root may read the files.
        entrypoint=[plan.argv[0]],
        user="0",
        hostname=plan.host_name,
        labels={LABEL: plan.cluster},
        network=plan.network,
        networking_config={plan.network: api.create_endpoint_config(aliases=[plan.host_name])},
    )


@dataclass(kw_only=True)
class ContainerMember(ReachableMember):
    """An etcd server that runs in a container.

    Attributes:
        plan: settings of its container.
        listen_urls: URLs on which it serves clients, as seen in the container.
    """

    plan: ContainerPlan = field(repr=False)
    listen_urls: tuple[str, ...]
    container: EtcdContainer | None = field(default=None, repr=False)
    _progress: ReadinessLog = field(default_factory=lambda: ReadinessLog(()), repr=False)
    _last_log: str = field(default="", repr=False)

    @property
    def running(self) -> bool:
        """Whether its container is running."""
        return self.container is not None and self.container.running

    @property
    def ready(self) -> bool:
        """Whether it is running and has logged since its last start that it serves clients."""
        return self.running and self.progress().ready

    @property
    def exit_status(self) -> int | None:
        """The exit status of its etcd; ``None`` while it runs."""
        return None if self.container is None else self.container.exit_status

    def log(self) -> str:
        """Return the whole log so far, also after the container is removed."""
        return self._last_log if self.container is None else self.container.log()

    def start(self) -> None:
        """Start its container. On return the listeners may not be served yet.

        Raises:
            OSError: if the engine refuses.
            PortTakenError: if one of its ports is taken.
        """
        self._progress = ReadinessLog(Served.from_urls(self.listen_urls))
        if self.container is None:
            self.container = EtcdContainer(self.plan)
            self.container.create()
        else:
            self.container.start()

    def progress(self) -> ReadinessLog:
        """Read the log lines since the last call, and return the member's readiness."""
        if self.container is not None:
            self._progress.feed(self.container.new_lines())
        return self._progress

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most this long; return whether it has ended."""
        # The engine reports the end only in the response to a blocking request.
        time.sleep(seconds)
        return not self.running

    def copy_files(self) -> None:
        """Copy the current files of the PKI directory on this host to etcd."""
        if self.container is not None:
            self.container.copy_files()

    def forget(self) -> None:
        """Release a container that is about to be removed. Its log is kept."""
        if self.container is None:
            return
        with suppress(OSError):
            self._last_log = self.container.log()
        self.container.close()
        self.container = None


_EVERYWHERE = "0.0.0.0"  # noqa: S104
_HOME = PurePosixPath("/etc/etcd")
_PLACE = MemberPaths(
    data=PurePosixPath("/var/lib/etcd/data"), pki=_HOME / "pki", config_file=_HOME / "etcd.conf.yml"
)


class ContainerCluster(OwnedCluster[ContainerMember]):
    """Containers of one image, started by the constructor. The source is the image's name.

    The PKI is copied in and nothing of the host is mounted, so that an engine on another machine or in
    another container sees the same files. A file that is replaced in ``pki_directory`` while a member runs
    is copied by :meth:`~pytest_etcdtls.cluster.container.ContainerMember.copy_files` and by the next start.
    """

    origin: Literal["process", "container"] = "container"

    def farewell(self) -> str:
        """Return the commands to use a kept cluster and to stop it."""
        label = shlex.quote(f"label={LABEL}={self.token}")
        stop = (
            f"docker rm -fv $(docker ps -aq --filter {label}); "
            f"docker network rm {self._network}; rm -rf {shlex.quote(str(self.directory))}"
        )
        password_file = self._password_file if self.user else None
        return farewell(self, self.directory, stop, password_file=password_file)

    @property
    def _network(self) -> str:
        return self.token

    def _known_flags(self) -> FlagSet:
        return image_flags(self.source, self.version)

    def _names(self, name: str) -> MemberNames:
        # The other members reach it by its name; we may reach it by the name of the engine's host.
        host = published_host()
        return MemberNames(name, (*MemberNames(name).hosts, name, *([host] if host else [])))

    def _addresses(self, name: str, ports: Iterator[int]) -> MemberAddresses:
        addresses, host = super()._addresses(name, ports), published_host()
        return at_host(addresses, host) if host else addresses

    def _prepare(self) -> None:
        self._watchdog.guard_command(cleanup_command(self.token))
        try:
            with engine() as client:
                client.networks.create(self._network, driver="bridge", labels={LABEL: self.token})
        except UsageError as error:
            raise ClusterStartError(f"the members' network cannot be created: {error}") from error

    def _member(self, addresses: Sequence[MemberAddresses], index: int) -> ContainerMember:
        own, inside = addresses[index], [inside_addresses(published) for published in addresses]
        flags = self._member_flags(inside, index, _PLACE)
        files: list[tuple[Path | bytes, str]] = [(self.pki_directory, str(_HOME))]
        config_file = self.directory / f"{own.name}.conf.yml" if self.config.config_file else None
        if config_file is not None:
            config_file.write_text(render(flags, self.config, _PLACE))
            files.append((config_file.read_bytes(), str(_PLACE.config_file)))
        argv = command_line("etcd", flags, self.config, _PLACE)
        variables = {name: _PLACE.fill_in(value) for name, value in self.config.environment.items()}
        plan = ContainerPlan(
            image=self.source,
            name=f"{self.token}-{own.name}",
            host_name=own.name,
            network=self._network,
            cluster=self.token,
            argv=argv,
            environment=variables,
            ports=published_ports(own),
            # The loopback address of another host would be unreachable.
            address=_EVERYWHERE if published_host() else self.config.host,
            files=files,
            keep=self._keep,
        )
        return ContainerMember(
            addresses=own,
            argv=argv,
            pki_root=self.pki_directory,
            files=FileNames.of_member(self.pki, own.name),
            variables=variables,
            config_file=config_file,
            sees_pki_root=False,
            plan=plan,
            listen_urls=(*inside[index].listen_client, *inside[index].listen_client_http),
        )

    def _stop(self, members: Sequence[ContainerMember]) -> None:
        containers = [member.container for member in members if member.container is not None]
        with ThreadPoolExecutor(max_workers=len(containers) or 1) as pool:
            for stopped in [pool.submit(container.stop) for container in containers]:
                stopped.result()

    def _discard(self) -> None:
        for member in self.members:
            member.forget()
        remove_cluster(self.token)

    def _abandon(self) -> None:
        for member in self.members:
            member.forget()
