"""One etcd container: created by testcontainers with its files copied in, started, stopped, its log.

Does not know what the flags mean, nor when etcd is ready.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_etcdtls.cluster.container_engine import LABEL, reason
from pytest_etcdtls.cluster.container_reaper import reaper_off
from pytest_etcdtls.cluster.launch import PortTakenError

if TYPE_CHECKING:
    from docker.models.containers import Container
    from testcontainers.core.container import DockerContainer

_STOP_SECONDS = 1
"""How long etcd may take to stop by itself; whole seconds, the engine knows no others."""

_PRIVATE = 0o600

_TAKEN = ("port is already allocated", "address already in use", "ports are not available")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """What to create.

    Attributes:
        image: with an ``etcd`` on its ``PATH``.
        name: of the container, unique to the engine.
        host_name: under which the other members reach it on the network.
        network: name of the network.
        cluster: value of the label by which the container is found and removed.
        argv: command line, ``etcd`` first.
        environment: of etcd, beside the image's own.
        ports: on the host, by port in the container.
        address: of the host on which they are published.
        files: what is copied in, and where to: a directory of the host into that one, content as that file.
        keep: whether the container shall outlive this process.
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
    """An etcd in a container, created, started and stopped; OSError means that the engine refuses."""

    def __init__(self, plan: ContainerPlan) -> None:
        """Nothing is created yet."""
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
        """Whether it has not ended yet."""
        return self.exit_status is None

    @property
    def exit_status(self) -> int | None:
        """What etcd ended with; ``None`` while it runs."""
        with _refusals():
            self._container.reload()
        state = self._container.attrs["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def log(self) -> str:
        """Return everything that it has logged, earlier starts included."""
        return self._output().decode(errors="replace")

    def new_lines(self) -> list[str]:
        """Return the complete lines that were logged since the last call."""
        text = self._output()[self._position :]
        end = text.rfind(b"\n") + 1
        self._position += end
        return text[:end].decode(errors="replace").splitlines()

    def stop(self) -> None:
        """Ask etcd to stop, kill it after a second; its data stay."""
        with _refusals():
            self._container.stop(timeout=_STOP_SECONDS)

    def start(self) -> None:
        """Start it again with the host's files as they are now.

        Raises:
            PortTakenError: if somebody has taken one of its ports meanwhile.
        """
        self.copy_files()
        with _refusals():
            self._container.start()

    def copy_files(self) -> None:
        """Copy the host's files as they are now over those in the container."""
        with _refusals():
            for source, target in self._plan.files:
                self._outer.copy_into_container(source, target, _PRIVATE)

    def close(self) -> None:
        """Close the connection to the engine; the container is left as it is."""
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
    """Word what the engine refuses as the system's errors are.

    Raises:
        PortTakenError: if a port on the host is taken.
        OSError: for everything else.
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
    # Without the prefix that testcontainers may be told to put before names: this image was found by its own.
    container.image = plan.image
    container.with_name(plan.name).with_command(list(plan.argv[1:])).with_envs(**plan.environment)
    for inside, outside in plan.ports.items():
        # testcontainers publishes on all addresses; docker-py, which gets this, takes a pair as well.
        container.ports[f"{inside}/tcp"] = (plan.address, outside)  # type: ignore[assignment]
    for source, target in plan.files:
        container.with_copy_into_container(source, target, _PRIVATE)
    api = container.get_docker_client().client.api
    return container.with_kwargs(
        # The binary itself, whatever script the image begins with, as root: the files are root's alone.
        entrypoint=[plan.argv[0]],
        user="0",
        hostname=plan.host_name,
        labels={LABEL: plan.cluster},
        network=plan.network,
        networking_config={plan.network: api.create_endpoint_config(aliases=[plan.host_name])},
    )
