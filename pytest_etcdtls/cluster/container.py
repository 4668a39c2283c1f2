"""The backend that runs etcd in containers with published ports on a separate network.

It owns the network and the containers, and removes both: itself, by label, or by testcontainers' reaper.

The engine may be on another host, and then sees no file of this one. So files are copied into the container,
not mounted. Members reach each other by their containers' names on the network of the cluster; this host uses
the published ports, which are also the advertised client URLs.

A request that was sent is executed even if its sender dies. So removal looks for containers of the cluster's
label until there are none, several times.
"""

from __future__ import annotations

import functools
import io
import os
import secrets
import shlex
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from msgspec.structs import replace

from pytest_etcdtls.cluster import abandoned
from pytest_etcdtls.cluster.config import (
    FlagSet,
    MemberAddresses,
    MemberPaths,
    PortTakenError,
    printed_version,
)
from pytest_etcdtls.cluster.watchdog import GuardedDirectory, Watchdog, child_environment, command
from pytest_etcdtls.declared.declaration import authority
from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.pki.profile import MemberNames

if TYPE_CHECKING:
    import docker
    from testcontainers.core.container import DockerContainer


LABEL = "pytest-etcdtls"
"""Label of all containers and networks that are created here. Its value identifies the cluster."""

REQUEST_SECONDS = 10
"""Seconds that one request to a healthy engine may take."""

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_THIS_HOST = (None, "", "localhost", "127.0.0.1", "::1")
_REMEDY = "start Docker, or point DOCKER_HOST at a running engine (podman's socket will do)"


_ROUNDS = 3
"""Number of searches. A request that was sent before its sender died may be executed after the first."""

CLIENT, PEER, METRICS, CLIENT_HTTP, PLAIN = 2379, 2380, 2381, 2382, 2383
"""Ports in the container."""

_STOP_SECONDS = 1
"""Seconds that etcd may take to stop; the engine accepts whole seconds only."""

_PRIVATE = 0o600

_TAKEN = ("port is already allocated", "address already in use", "ports are not available")

_EVERYWHERE = "0.0.0.0"  # noqa: S104
_HOME = PurePosixPath("/etc/etcd")
PATHS = MemberPaths(
    data=PurePosixPath("/var/lib/etcd/data"), pki=_HOME / "pki", config_file=_HOME / "etcd.conf.yml"
)


@contextmanager
def engine() -> Iterator[docker.DockerClient]:
    """Yield a client of the container engine and close it at the end.

    Raises:
        UsageError: if there is no engine, if it does not answer, or if it refuses a request.
    """
    import docker.errors
    import requests
    from testcontainers.core.docker_client import get_docker_host

    host = get_docker_host() or _DEFAULT_HOST
    try:
        _connect(host)
        environment = {**os.environ, "DOCKER_HOST": host}
        client = docker.from_env(
            timeout=REQUEST_SECONDS, environment=environment, use_ssh_client=host.startswith("ssh://")
        )
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise UsageError(f"no container engine answers at {host}: {reason(error)}; {_REMEDY}") from error
    try:
        yield client
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise UsageError(f"the container engine at {host} refuses: {reason(error)}") from error
    finally:
        client.close()


def _connect(host: str) -> None:
    """Try to connect to a local socket. On a dead one docker-py has a long message and leaks its socket.

    Raises:
        OSError: if nothing listens there, or access is denied.
    """
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(REQUEST_SECONDS)
            probe.connect(host.removeprefix("unix://"))


def reason(error: BaseException) -> str:
    """Return the message of the engine or the system on one line."""
    explanation = getattr(error, "explanation", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(explanation).split())


def engine_problem() -> str | None:
    """Return why containers cannot be started; ``None`` if an engine answers."""
    try:
        with engine() as client:
            client.ping()
    except UsageError as error:
        return str(error)
    return None


def published_host() -> str | None:
    """Return the name or address of the host that publishes ports; ``None`` if it is this host.

    It is the host of an engine that is reached over the network, or ``TESTCONTAINERS_HOST_OVERRIDE`` for an
    engine whose socket is mounted into the container that we run in.
    """
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.docker_client import get_docker_host

    host = testcontainers_config.tc_host_override or urlsplit(get_docker_host() or "").hostname
    return None if host in _THIS_HOST else host


def image_present(image: str) -> bool:
    """Return whether the engine has the image, so that it need not be pulled.

    Raises:
        UsageError: if no engine answers.
    """
    import docker.errors

    with engine() as client:
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            return False
    return True


def pull(image: str, timeout: float) -> None:
    """Pull an image.

    Args:
        image: name of the image; without a tag, ``latest``.
        timeout: seconds after which the pull is aborted.

    Raises:
        UsageError: if no engine answers, the registry refuses, or the pull times out.
    """
    # In a child process: docker-py waits without limit, and the engine stops when its client is gone.
    try:
        run = subprocess.run(
            command(pull_without_limit, image),
            env=child_environment(engine=True),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=timeout,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{image} is not pulled after {timeout:g} s; pull it beforehand") from error
    if run.returncode:
        raise UsageError(f"{image} cannot be pulled: {run.stdout.strip() or f'exit code {run.returncode}'}")


def pull_without_limit(image: str) -> None:
    """Pull an image as a program. It prints the reason of a failure on standard output."""
    try:
        with engine() as client:
            for event in client.api.pull(image, stream=True, decode=True):
                if "error" in event:
                    raise UsageError(" ".join(event["error"].split()))
    except UsageError as error:
        sys.stdout.write(str(error))
        sys.exit(1)


def image_version(image: str) -> str:
    """Return the version that ``etcd --version`` prints in an image.

    Raises:
        UsageError: if no engine answers, the image is missing, or it contains no etcd.
    """
    output = _run(image, "--version")
    version = printed_version(output)
    if version is None:
        raise UsageError(
            f"{image} has no etcd that tells its version; `etcd --version` gave {output.strip()!r}"
        )
    return version


def image_flags(image: str, version: str) -> FlagSet:
    """Return the flags that ``etcd --help`` lists in an image.

    Raises:
        UsageError: as :func:`image_version`.
    """
    return FlagSet.from_help(version, _run(image, "--help"))


def image_id(image: str) -> str:
    """Return the id of an image, which changes with its content.

    Raises:
        UsageError: if no engine answers, or the image is missing.
    """
    with engine() as client:
        return client.images.get(image).id or ""


def _run(image: str, argument: str) -> str:
    """Return the output of etcd. It is cached while the image is unchanged."""
    return _run_once(image, argument, image_id(image))


@functools.cache
def _run_once(image: str, argument: str, _identifier: str) -> str:
    import docker.errors

    token = f"question-{secrets.token_hex(8)}"
    # As for a cluster: the container is removed even if this process is killed.
    watchdog = Watchdog(token)
    try:
        watchdog.guard_command(cleanup_command(token))
        with engine() as client:
            # Run the binary itself instead of the image's entry point, which may be a script.
            container = client.containers.create(
                image, entrypoint=["etcd"], command=[argument], network_mode="none", labels={LABEL: token}
            )
            try:
                container.start()
                container.wait(timeout=REQUEST_SECONDS)
                return container.logs().decode(errors="replace")
            except docker.errors.APIError as error:
                raise UsageError(f"etcd cannot be run in {image}: {reason(error)}") from error
    finally:
        with suppress(UsageError):
            remove_cluster(token)
        watchdog.dismiss()


def remove_cluster(cluster: str) -> int:
    """Remove all containers and networks with this value of the label, all members at once.

    Return the number of objects that were found. It is no error if another process removes them too.

    Raises:
        UsageError: if no engine answers.
    """
    label: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={cluster}"}
    with engine() as client:
        containers = client.containers.list(all=True, filters=label, ignore_removed=True)
        _at_once([partial(container.remove, force=True, v=True) for container in containers])
        networks = client.networks.list(filters={"label": f"{LABEL}={cluster}"})
        _at_once([network.remove for network in networks])
    return len(containers) + len(networks)


def _at_once(removals: Sequence[Callable[[], object]]) -> None:
    import docker.errors

    def remove(removal: Callable[[], object]) -> None:
        # It is already removed, or being removed.
        with suppress(docker.errors.APIError):
            removal()

    with ThreadPoolExecutor(max_workers=5) as pool:
        list(pool.map(remove, removals))


def cleanup_command(cluster: str) -> tuple[str, ...]:
    """Return the command line that removes the cluster after its owner has ended."""
    from testcontainers.core.docker_client import get_docker_host

    host = get_docker_host() or _DEFAULT_HOST
    if host.startswith("unix://"):
        return abandoned.command(host.removeprefix("unix://"), f"{LABEL}={cluster}")
    return command(remove_abandoned, cluster)


def remove_abandoned(cluster: str) -> None:
    """Remove what a dead owner has left on a remote engine. Try again if the engine does not answer."""
    for _ in range(_ROUNDS):
        with suppress(UsageError):
            remove_cluster(cluster)
        time.sleep(1)


_SWITCH = threading.Lock()
_off = 0
"""How many containers start now with the reaper disabled."""
_before: bool | None = None
"""The setting before the first of them."""


@contextmanager
def reaper_off(image: str, *, keep: bool) -> Iterator[None]:
    """Disable testcontainers' reaper within the context, and restore the previous settings.

    Args:
        image: the image that is started within the context.
        keep: whether the container outlives this process. It then must not have the label by which the reaper
            of another user of testcontainers removes it. testcontainers omits the label for the reaper's
            image only, so the image is set as the reaper's image.
    """
    from testcontainers.core.config import testcontainers_config as settings

    global _off, _before
    # Not through the property: reading it would cache what other code may still set in the environment.
    with _SWITCH:
        if not _off:
            _before, settings._ryuk_disabled = settings._ryuk_disabled, True
        _off += 1
    try:
        with _reaper_is(image) if keep else nullcontext():
            yield
    finally:
        with _SWITCH:
            _off -= 1
            if not _off:
                settings._ryuk_disabled = _before


_KEEPING = threading.Lock()


@contextmanager
def _reaper_is(image: str) -> Iterator[None]:
    from testcontainers.core.config import testcontainers_config as settings

    with _KEEPING:
        before, settings.ryuk_image = settings.ryuk_image, image
        try:
            yield
        finally:
            settings.ryuk_image = before


def published_ports(outside: MemberAddresses) -> Mapping[int, int]:
    """Return the ports on the host by port in the container."""
    listeners = {
        CLIENT: outside.listen_client[:1],
        PEER: outside.listen_peer,
        METRICS: outside.listen_metrics,
        CLIENT_HTTP: outside.listen_client_http,
        PLAIN: outside.plain_client,
    }
    return {inside: _port(urls[0]) for inside, urls in listeners.items() if urls}


def _port(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise ValueError(f"{url} has no port")
    return port


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """The settings of a container to create.

    Attributes:
        image: an image with ``etcd`` on its ``PATH``.
        name: name of the container, unique in the engine; empty for the one that it has.
        host_name: host name that the other members reach it under on the network.
        network: name of the network; empty for the one that it has.
        cluster: value of the label by which the container is found and removed.
        argv: command line, ``etcd`` first.
        environment: variables for etcd, in addition to the image's.
        ports: ports on the host, by port in the container.
        address: address of the host on which the ports are published.
        files: files to copy in, with their destination. A directory of the host is copied into the
            destination, bytes are written as the destination file.
        keep: whether the container outlives this process.
        data: a data directory on this host to begin with; ``None`` for an empty one.
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
    data: Path | None = None


class EtcdContainer:
    """An etcd that runs in a container, once or several times with the same data.

    Its methods raise OSError if the engine refuses a request.
    """

    def __init__(self, plan: ContainerPlan, earlier: str = "", outer: DockerContainer | None = None) -> None:
        """Store the settings; :meth:`start` creates the container.

        Args:
            plan: the settings.
            earlier: log of the container whose data it has.
            outer: the container if another program starts and removes it.
        """
        self._plan = plan
        self._earlier = earlier
        self._outer = outer
        self._position = 0
        self._last_log = ""

    def start(self) -> None:
        """Create and start the container, or start it again with the current files of the host.

        Raises:
            PortTakenError: if the host refuses one of the ports.
        """
        if self._outer is not None:
            self.copy_files()
            with _refusals():
                self._outer.get_wrapped_container().start()
            return
        from testcontainers.core.container import DockerContainer

        with _refusals():
            self._outer = DockerContainer(self._plan.image)
            # Without the image name prefix of testcontainers: this image was found by its full name.
            self._outer.image = self._plan.image
            describe(self._outer, self._plan)
        with _refusals(), reaper_off(self._plan.image, keep=self._plan.keep):
            self._outer.start()

    @property
    def created(self) -> bool:
        """Whether the container exists."""
        return self._outer is not None

    @property
    def running(self) -> bool:
        """Whether the container exists and etcd is running in it."""
        return self._outer is not None and self.exit_status is None

    @property
    def exit_status(self) -> int | None:
        """The exit status of etcd; ``None`` while it runs."""
        if self._outer is None:
            return None
        container = self._outer.get_wrapped_container()
        with _refusals():
            container.reload()
        state = container.attrs["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def log(self) -> str:
        """Return the whole log so far, including earlier starts, also after the container is removed."""
        now = self._last_log if self._outer is None else self._output().decode(errors="replace")
        return self._earlier + now

    def new_lines(self) -> list[str]:
        """Return the complete lines logged since the last call."""
        text = self._output()[self._position :]
        end = text.rfind(b"\n") + 1
        self._position += end
        return text[:end].decode(errors="replace").splitlines()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most this long; return whether it has ended."""
        # The engine reports the end only in the response to a blocking request.
        time.sleep(seconds)
        return not self.running

    def stop(self) -> None:
        """Stop etcd and kill it after one second. Its data is kept."""
        if self._outer is not None:
            with _refusals():
                self._outer.get_wrapped_container().stop(timeout=_STOP_SECONDS)

    def pause(self) -> None:
        """Stop etcd for now: it keeps its connections and answers nothing."""
        if self._outer is not None:
            with _refusals():
                self._outer.get_wrapped_container().pause()

    def resume(self) -> None:
        """Continue etcd after :meth:`pause`."""
        if self._outer is not None:
            with _refusals():
                self._outer.get_wrapped_container().unpause()

    def copy_files(self) -> None:
        """Copy the current files of the host over those in the container."""
        if self._outer is not None:
            with _refusals():
                for source, target in self._plan.files:
                    self._outer.copy_into_container(source, target, _PRIVATE)

    def save_data(self, directory: Path) -> Path:
        """Copy the data of a stopped etcd into a directory of this host, and return the copy."""
        if self._outer is not None:
            with _refusals():
                chunks, _ = self._outer.get_wrapped_container().get_archive(str(PATHS.data))
                with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                    archive.extractall(directory, filter="data")
        return directory / PATHS.data.name

    def remove(self) -> None:
        """Remove the container. Its log is remembered."""
        if self._outer is not None:
            self._keep_log()
            with _refusals():
                self._outer.stop()
            self._outer = None

    def forget(self) -> None:
        """Release a container that is about to be removed, or that is kept. Its log is remembered."""
        if self._outer is None:
            return
        self._keep_log()
        self._outer.get_docker_client().client.close()
        self._outer = None

    def _keep_log(self) -> None:
        with suppress(OSError):
            self._last_log = self._output().decode(errors="replace")

    def _output(self) -> bytes:
        if self._outer is None or self._outer.status == "not_started":
            return b""
        with _refusals():
            return self._outer.get_wrapped_container().logs()


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


def describe(container: DockerContainer, plan: ContainerPlan) -> None:
    """Set what testcontainers creates a container with. The settings that it has already are kept."""
    container.with_command(list(plan.argv[1:])).with_envs(**plan.environment)
    for inside, outside in plan.ports.items():
        # testcontainers publishes on all addresses; docker-py, which gets this value, also accepts a pair.
        container.ports[f"{inside}/tcp"] = (plan.address, outside)  # type: ignore[assignment]
    for source, target in plan.files:
        container.with_copy_into_container(source, target, _PRIVATE)
    if plan.data is not None:
        container.with_copy_into_container(plan.data, str(PATHS.data.parent), _PRIVATE)
    # The binary itself is run instead of the image's entry point, as root: only root may read the files.
    settings: dict[str, Any] = {"entrypoint": [plan.argv[0]], "user": "0"}
    if plan.network:
        api = container.get_docker_client().client.api
        networking = {plan.network: api.create_endpoint_config(aliases=[plan.host_name])}
        settings |= {"hostname": plan.host_name, "network": plan.network, "networking_config": networking}
    settings |= container._kwargs  # with_kwargs replaces them all
    settings["labels"] = {**settings.get("labels", {}), LABEL: plan.cluster}
    if plan.name:
        container.with_name(plan.name)
    container.with_kwargs(**settings)


class ContainerBackend:
    """Runs the members of one cluster as containers of an image.

    The PKI is copied in and nothing of the host is mounted, so that an engine on another machine or in
    another container sees the same files. A file that is replaced in the PKI directory while a member runs
    is copied by :meth:`EtcdContainer.copy_files` and by the next start.
    """

    origin: Literal["process", "container"] = "container"
    program = "etcd"
    sees_host_files = False

    def __init__(
        self,
        image: str,
        version: str,
        home: GuardedDirectory,
        *,
        address: str,
        keep: bool,
        outer: DockerContainer | None = None,
    ) -> None:
        """Run nothing yet.

        Args:
            image: name of the image.
            version: version of the etcd in it.
            home: the cluster's directory.
            address: address of this host on which the ports are published.
            keep: whether the containers outlive this process.
            outer: as for :class:`EtcdContainer`, for a cluster of one member, with its name and network.
        """
        self.source = image
        self._outer = outer
        self._version = version
        self._home = home
        self._address = address
        self._keep = keep
        self._servers: dict[str, EtcdContainer] = {}
        self._prepared = False

    def use(self, image: str, version: str) -> None:
        """Run another image from now on."""
        self.source, self._version = image, version

    def flags(self) -> FlagSet:
        """Return the flags of this etcd.

        Raises:
            UsageError: if no engine answers, or the image is missing.
        """
        return image_flags(self.source, self._version)

    def names(self, member: str) -> MemberNames:
        """Return the names and addresses that a member's certificates are issued for."""
        # The other members reach it by its name; we may reach it by the name of the engine's host.
        host = published_host()
        return MemberNames(member, (*MemberNames(member).hosts, member, *([host] if host else [])))

    def reached_at(self, addresses: MemberAddresses) -> MemberAddresses:
        """Return a member's URLs as seen from this host, which differ if the engine is elsewhere."""
        host = published_host()
        if host is None:
            return addresses

        def move(url: str) -> str:
            return f"{urlsplit(url).scheme}://{authority(host, _port(url))}"

        return replace(
            addresses.listening_at(move),
            advertise_client=tuple(map(move, addresses.advertise_client)),
            advertise_peer=tuple(map(move, addresses.advertise_peer)),
        )

    def listens_on(self, addresses: MemberAddresses) -> MemberAddresses:
        """Return a member's URLs as etcd gets them.

        The advertised client URLs are the published ones, which are valid on this host. The other members
        use its name on the cluster's network.
        """
        inside = {published: port for port, published in published_ports(addresses).items()}

        def listen(url: str) -> str:
            return f"{urlsplit(url).scheme}://{_EVERYWHERE}:{inside[_port(url)]}"

        peer = tuple(f"{urlsplit(url).scheme}://{addresses.name}:{PEER}" for url in addresses.listen_peer)
        return replace(addresses.listening_at(listen), advertise_peer=peer)

    def paths(self, member: str) -> MemberPaths:
        """Return the paths of a member's files as etcd sees them."""
        return PATHS

    def prepare(self) -> None:
        """Create the network. It is called again after :meth:`discard`.

        Raises:
            ClusterStartError: if the engine refuses.
        """
        self._prepared = True
        self._home.watchdog.guard_command(cleanup_command(self._home.token))
        try:
            # In a thread, so that an interruption waits for the response: a network that is created later
            # would not be removed.
            with engine() as client, ThreadPoolExecutor(max_workers=1) as pool:
                label = {LABEL: self._home.token}
                pool.submit(client.networks.create, self._home.token, driver="bridge", labels=label).result()
        except UsageError as error:
            raise ClusterStartError(f"the members' network cannot be created: {error}") from error

    def server(
        self,
        addresses: MemberAddresses,
        argv: Sequence[str],
        variables: Mapping[str, str],
        config_file: Path | None,
        ports: Sequence[int] = (),
    ) -> EtcdContainer:
        """Return an etcd that can be started, with the data of the stopped one of that name if there is one.

        With ``ports``, these are published under the same numbers, instead of those of its URLs.
        """
        files: list[tuple[Path | bytes, str]] = [(self._home.path / "pki", str(_HOME))]
        if config_file is not None:
            files.append((config_file.read_bytes(), str(PATHS.config_file)))
        earlier, data = "", None
        if (before := self._servers.get(addresses.name)) is not None and before.created:
            earlier, data = before.log(), before.save_data(self._home.path / addresses.name)
            before.remove()
        plan = ContainerPlan(
            image=self.source,
            name="" if self._outer else f"{self._home.token}-{addresses.name}",
            host_name=addresses.name,
            network="" if self._outer else self._home.token,
            cluster=self._home.token,
            argv=argv,
            environment=variables,
            ports={port: port for port in ports} or published_ports(addresses),
            # The loopback address of another host would be unreachable.
            address=_EVERYWHERE if published_host() else self._address,
            files=files,
            keep=self._keep,
            data=data,
        )
        if self._outer is not None:
            describe(self._outer, plan)
        server = EtcdContainer(plan, earlier, self._outer)
        self._servers[addresses.name] = server
        return server

    def stop(self, members: Iterable[str]) -> None:
        """Stop members together. Their data is kept."""
        with ThreadPoolExecutor(max_workers=len(self._servers) or 1) as pool:
            for stopped in [pool.submit(self._servers[name].stop) for name in members]:
                stopped.result()

    def drop(self, member: str) -> None:
        """Remove one member for good."""
        self._servers.pop(member).remove()

    def discard(self) -> None:
        """Remove all members and the network. It may be called repeatedly, also after an interruption."""
        self.abandon()
        if self._prepared:
            remove_cluster(self._home.token)

    def abandon(self) -> None:
        """Leave the members running after this process ends."""
        for server in self._servers.values():
            server.forget()

    def stop_command(self) -> str:
        """Return the shell command that stops a kept cluster."""
        label = shlex.quote(f"label={LABEL}={self._home.token}")
        return f"docker rm -fv $(docker ps -aq --filter {label}); docker network rm {self._home.token}"
