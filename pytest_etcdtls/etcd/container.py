"""The backend that runs etcd in containers with published ports on a separate network.

It owns the network and the containers, and removes both by their label.

The engine may be on another host, and then sees no file of this one. So files are copied into the container,
not mounted. Members reach each other by their containers' names on the network of the cluster; this host uses
the published ports, which are also the advertised client URLs.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.engine import (
    LABEL,
    WORK_SECONDS,
    connect,
    engine,
    owner_labels,
    published_host,
    reason,
    remove_abandoned,
    remove_all,
)
from pytest_etcdtls.etcd.launch import Launch, MemberAddresses, MemberPaths, ReadinessLog
from pytest_etcdtls.etcd.leftovers import remove_containers
from pytest_etcdtls.etcd.ports import PortTakenError
from pytest_etcdtls.etcd.watchdog import GuardedDirectory, command
from pytest_etcdtls.pki.profile import MemberNames
from pytest_etcdtls.untrusted.printable import pasted

if TYPE_CHECKING:
    import tarfile

    from docker import DockerClient
    from docker.models.containers import Container

_CLIENT, _PEER, _METRICS, _CLIENT_HTTP, _PLAIN = 2379, 2380, 2381, 2382, 2383
"""Ports in the container."""

_TAKEN = ("port is already allocated", "address already in use", "ports are not available")

_EVERYWHERE = "0.0.0.0"  # noqa: S104
HOME = PurePosixPath("/etc/etcd")
_DATA = PurePosixPath("/var/lib/etcd")
_PATHS = MemberPaths(data=_DATA / "data", pki=HOME / "pki", config_file=HOME / "etcd.conf.yml")


class EtcdContainer:
    """An etcd that runs in a container, once or several times with the same data.

    Its methods raise OSError if the engine refuses a request.

    Attributes:
        launch: what it is started with.
        settings: what docker-py creates the container with.
        container: the container, if it exists.
    """

    program = "etcd"
    sees_host_files = False

    def __init__(
        self,
        launch: Launch,
        settings: Mapping[str, Any],
        files: Mapping[PurePosixPath, Path],
    ) -> None:
        """Store the settings; :meth:`start` creates the container.

        Args:
            launch: what etcd is started with.
            settings: what docker-py creates the container with.
            files: files and directories of this host, by their path in the container.
        """
        self.launch = launch
        self.settings = settings
        self.container: Container | None = None
        self._files = files
        self._client: DockerClient | None = None
        self._position = 0
        self._readiness = ReadinessLog(launch.serves)
        self._last_log = self._earlier_log = ""
        self._data = b""

    def take_over(self, before: EtcdContainer) -> None:
        """Begin with the log and the data of a stopped container, which is removed."""
        self._earlier_log = before.log()
        if before.container is None:
            self._data = before._data  # it was never created, and may have the data of one before it
            return
        with _refusals():
            chunks, _ = before.container.get_archive(str(_PATHS.data))
            self._data = b"".join(chunks)  # the engine serves no other request until all is read
        before.remove()

    def start(self) -> None:
        """Create and start the container, or start it again with the current files of the host.

        Raises:
            PortTakenError: if the host refuses one of the ports.
        """
        self._readiness = ReadinessLog(self.launch.serves)
        self._position = len(self._output())
        with _refusals():
            if self.container is None:
                self._client = connect(WORK_SECONDS)
                self.container = self._client.containers.create(**self.settings)
            if self._data:
                self._copy({_DATA: None})
                self.container.put_archive(str(_DATA), self._data)
                self._data = b""
            self.copy_files()
            self.container.start()

    @property
    def running(self) -> bool:
        """Whether the container exists and etcd is running in it."""
        return self.container is not None and self.exit_status is None

    @property
    def exit_status(self) -> int | None:
        """The exit status of etcd; ``None`` while it runs."""
        if self.container is None:
            return None
        with _refusals():
            self.container.reload()
        state = self.container.attrs["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def log(self) -> str:
        """Return the whole log so far, including earlier starts, also after the container is removed."""
        now = self._last_log if self.container is None else self._output().decode(errors="replace")
        return self._earlier_log + now

    def readiness(self) -> ReadinessLog:
        """Read the log since the last call, and return how far the latest start is."""
        output = self._output()[self._position :]
        self._position += len(output)
        return self._readiness.read(output)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most this long; return whether it has ended."""
        # The engine reports the end only in the response to a blocking request.
        time.sleep(seconds)
        return not self.running

    def terminate(self) -> None:
        """Begin to stop etcd."""
        if self.container is not None and self.running:
            with suppress(OSError), _refusals():  # it may have ended by now, which stop accepts
                self.container.kill("SIGTERM")

    def stop(self, seconds: float) -> None:
        """Wait until etcd has ended, and kill it after that time in whole seconds. Its data is kept."""
        if self.container is not None:
            with _refusals():
                self.container.stop(timeout=ceil(seconds))

    def pause(self) -> None:
        """Stop etcd for now: it keeps its connections and answers nothing."""
        if self.container is not None:
            with _refusals():
                self.container.pause()

    def resume(self) -> None:
        """Continue etcd after :meth:`pause`."""
        if self.container is not None:
            with _refusals():
                self.container.unpause()

    def copy_files(self) -> None:
        """Copy the current files of the host over those in the container. Only root can read them."""
        self._copy(self._files)

    def _copy(self, files: Mapping[PurePosixPath, Path | None]) -> None:
        """Copy files and directories; ``None`` stands for an empty directory."""
        import tarfile

        if self.container is None:
            return
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for target, source in files.items():
                name = str(target.relative_to("/"))
                if source is not None:
                    archive.add(source, name, filter=_of_root)
                else:
                    directory = tarfile.TarInfo(name)
                    directory.type, directory.mode = tarfile.DIRTYPE, 0o700
                    archive.addfile(directory)
        with _refusals():
            self.container.put_archive("/", buffer.getvalue())

    def remove(self) -> None:
        """Remove the container. Its log is remembered."""
        if (container := self.container) is not None:
            self._keep_log()
            with _refusals():
                container.remove(force=True, v=True)
            self.forget()

    def forget(self) -> None:
        """Release a container that is about to be removed, or that is kept. Its log is remembered."""
        self._keep_log()
        if self._client is not None:
            self._client.close()
        self.container = self._client = None

    def _keep_log(self) -> None:
        if self.container is not None:
            with suppress(OSError):
                self._last_log = self._output().decode(errors="replace")

    def _output(self) -> bytes:
        if self.container is None:
            return b""
        with _refusals():
            return self.container.logs()


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


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
        text = reason(error)
        if any(mark in text for mark in _TAKEN):
            raise PortTakenError(f"the container engine refuses a port: {text}") from error
        raise OSError(f"the container engine refuses: {text}") from error


def _port(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise ValueError(f"{url} has no port")
    return port


class ContainerBackend:
    """Runs etcds of one owner as containers.

    The PKI is copied in and nothing of the host is mounted, so that an engine on another machine or in
    another container sees the same files. A file that is replaced in the PKI directory while etcd runs
    is copied by :meth:`EtcdContainer.copy_files` and by the next start.
    """

    def __init__(self, directory: GuardedDirectory, config: ClusterConfig) -> None:
        """Run nothing yet. Ports are published on the address of the configuration."""
        self._config = config
        directory.watchdog.order(command=command(remove_abandoned, directory.token))
        self._directory = directory
        self._prepared = False

    def names(self, member: str) -> MemberNames:
        """Return the names and addresses that a member's certificates are issued for."""
        # The other members reach it by its name; we may reach it by the name of the engine's host.
        host = published_host()
        hosts = [*MemberNames(member).hosts, member, *self._names_of(member), *([host] if host else [])]
        return MemberNames(member, tuple(dict.fromkeys(hosts)))

    @property
    def network(self) -> str:
        """Name of the network that the members are on."""
        return self._config.network or self._directory.token

    def _names_of(self, member: str) -> tuple[str, ...]:
        """Return the names of a member on the network, the one that no other member has first.

        ``m0`` would be ambiguous on an existing network, where a member has the name of its container.
        """
        own = self._container(member) if self._config.network else member
        aliases = [alias.replace("{name}", member) for alias in self._config.aliases]
        return tuple(dict.fromkeys([own, *aliases]))

    def _container(self, member: str) -> str:
        return f"{self._directory.token}-{member}"

    def network_url(self, addresses: MemberAddresses) -> str:
        """Return the URL of a member's client listener for others on the network."""
        host = self._names_of(addresses.name)[0]
        return f"{urlsplit(addresses.listen_client[0]).scheme}://{host}:{_CLIENT}"

    def listens_on(self, addresses: MemberAddresses) -> MemberAddresses:
        """Return a member's URLs as etcd gets them.

        The advertised client URLs are the published ones, which are valid on this host, unless those on the
        network are requested. The other members use its name on the network.
        """
        inside = {published: port for port, published in self.published(addresses).items()}

        def listen(url: str) -> str:
            return f"{urlsplit(url).scheme}://{_EVERYWHERE}:{inside[_port(url)]}"

        host = self._names_of(addresses.name)[0]
        peer = tuple(f"{urlsplit(url).scheme}://{host}:{_PEER}" for url in addresses.listen_peer)
        client = addresses.advertise_client
        if self._config.advertise == "network":
            client = (self.network_url(addresses),)
        return replace(
            addresses,
            listen_client=tuple(map(listen, addresses.listen_client)),
            advertise_client=client,
            listen_peer=tuple(map(listen, addresses.listen_peer)),
            advertise_peer=peer,
            listen_metrics=tuple(map(listen, addresses.listen_metrics)),
            listen_client_http=tuple(map(listen, addresses.listen_client_http)),
        )

    def published(self, addresses: MemberAddresses) -> Mapping[int, int]:
        """Return the ports on this host by those that etcd listens on."""
        listeners = {
            _CLIENT: addresses.listen_client[:1],
            _PEER: addresses.listen_peer,
            _METRICS: addresses.listen_metrics,
            _CLIENT_HTTP: addresses.listen_client_http,
            _PLAIN: addresses.plain_client,
        }
        return {inside: _port(urls[0]) for inside, urls in listeners.items() if urls}

    def paths(self, name: str) -> MemberPaths:
        """Return the paths of an etcd's files as it sees them."""
        return _PATHS

    def prepare(self) -> None:
        """Create the network, unless there is one already. It is called again after :meth:`remove`.

        Raises:
            ClusterStartError: if the engine refuses, or the network that the user named does not exist.
        """
        from concurrent.futures import ThreadPoolExecutor

        self._prepared = True
        remove_containers()
        token = self._directory.token
        try:
            # In a thread, so that an interruption waits for the response: a network that is created later
            # would not be removed.
            with engine(WORK_SECONDS) as client, ThreadPoolExecutor(max_workers=1) as pool:
                if self._config.network:
                    self._find_network(client)
                    return
                labels = owner_labels(token, self._directory.owner)
                pool.submit(client.networks.create, token, driver="bridge", labels=labels).result()
        except UsageError as error:
            raise ClusterStartError(f"no network can be created for the members: {error}") from error

    def _find_network(self, client: DockerClient) -> None:
        import docker.errors

        try:
            client.networks.get(self.network)
        except docker.errors.NotFound:
            raise UsageError(
                f"network={self.network!r}: the container engine has no such network: create it, or "
                "leave out network for one of the cluster's own"
            ) from None

    def server(self, image: str, launch: Launch) -> EtcdContainer:
        """Return an etcd that can be started."""
        token, name = self._directory.token, launch.name
        # The loopback address of another host would be unreachable.
        address = _EVERYWHERE if published_host() else self._config.host
        settings: dict[str, Any] = {
            "image": image,
            # The binary itself instead of the image's entry point, and root: only root may read the files.
            "entrypoint": [EtcdContainer.program],
            "command": list(launch.arguments),
            "user": "0",
            "environment": dict(launch.environment),
            "ports": {f"{inside}/tcp": (address, outside) for inside, outside in launch.ports.items()},
            "labels": owner_labels(token, self._directory.owner),
            # Variables of a list of names, no others; and etcd would ask the proxy for its peers.
            "use_config_proxy": False,
        }
        if self._prepared:
            settings |= {"name": self._container(name), "hostname": name, "network": self.network}
            settings["networking_config"] = {self.network: {"Aliases": list(self._names_of(name))}}
        files = {_PATHS.pki: self._directory.path / "pki"}
        if launch.config_file is not None:
            files[_PATHS.config_file] = self._directory.path / name / "etcd.conf.yml"
        return EtcdContainer(launch, settings, files)

    def remove(self) -> None:
        """Remove all containers and the network. It may be called repeatedly, also after an interruption."""
        if self._prepared:
            remove_all(self._directory.token)

    def stop_command(self) -> str:
        """Return the shell command that removes those that are kept, and the network."""
        token = self._directory.token
        removal = "" if self._config.network else f"; {pasted('docker', 'network', 'rm', token)}"
        label = f"label={LABEL}={token}"
        return f"docker rm -fv $({pasted('docker', 'ps', '-aq', '--filter', label)}){removal}"
