"""The container engine, images, clean-up by label, and testcontainers' reaper."""

from __future__ import annotations

import functools
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_etcdtls.cluster.command_line import FlagSet
from pytest_etcdtls.cluster.watchdog import Watchdog, command
from pytest_etcdtls.errors import UsageError

if TYPE_CHECKING:
    import docker


LABEL = "pytest-etcdtls"
"""Label of everything that is created here; its value tells the clusters apart."""

PATIENCE = 10
"""Seconds that one request to a healthy engine may take."""

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_THIS_HOST = (None, "", "localhost", "127.0.0.1", "::1")
_REMEDY = "start Docker, or point DOCKER_HOST at a running engine (podman's socket will do)"


@contextmanager
def engine() -> Iterator[docker.DockerClient]:
    """Yield a client of the container engine and close it at the end.

    Raises:
        UsageError: if there is none, if it does not answer, or if it refuses what is asked of it.
    """
    import docker.errors
    import requests
    from testcontainers.core.docker_client import get_docker_host

    host = get_docker_host() or _DEFAULT_HOST
    try:
        _connect(host)
        environment = {**os.environ, "DOCKER_HOST": host}
        client = docker.from_env(
            timeout=PATIENCE, environment=environment, use_ssh_client=host.startswith("ssh://")
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
    """Try a local socket; docker-py's own words for a dead one are long, and it leaks its socket.

    Raises:
        OSError: if nobody listens there, or we may not connect.
    """
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PATIENCE)
            probe.connect(host.removeprefix("unix://"))


def reason(error: BaseException) -> str:
    """Return the engine's or the system's own words on one line."""
    explanation = getattr(error, "explanation", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(explanation).split())


def engine_problem() -> str | None:
    """Return why containers cannot be started here; ``None`` if an engine answers."""
    try:
        with engine() as client:
            client.ping()
    except UsageError as error:
        return str(error)
    return None


def engine_available() -> bool:
    """Tell whether a container engine answers."""
    return engine_problem() is None


def published_host() -> str | None:
    """Return the name or address of the host that publishes ports; ``None`` if it is this one.

    It is that of an engine reached over the network, or what ``TESTCONTAINERS_HOST_OVERRIDE`` says, for an
    engine whose socket was lent to the container that we run in.
    """
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.docker_client import get_docker_host

    host = testcontainers_config.tc_host_override or urlsplit(get_docker_host() or "").hostname
    return None if host in _THIS_HOST else host


_VERSION = re.compile(r"^etcd Version: (\S+)", re.MULTILINE)


def image_present(image: str) -> bool:
    """Tell whether the engine has the image, so that nothing need be pulled.

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


def local_images(repository: str) -> tuple[str, ...]:
    """Return the names with tags of the images of a repository that the engine has.

    Raises:
        UsageError: if no engine answers.
    """
    with engine() as client:
        tags = [tag for image in client.images.list(name=repository) for tag in image.tags]
    # podman writes "localhost/" before what was built locally; the short name works there too.
    return tuple(sorted(tag.removeprefix("localhost/") for tag in tags))


def pull(image: str, timeout: float) -> None:
    """Pull an image.

    Args:
        image: its name; without a tag ``latest``.
        timeout: seconds after which it is given up, whatever is under way.

    Raises:
        UsageError: if no engine answers, the registry refuses or the time is over.
    """
    # From another process: docker-py waits without limit, and an engine stops when its client is gone.
    try:
        run = subprocess.run(
            command(pull_without_limit, image),
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
    """Pull an image as a program that says on standard output why it fails."""
    try:
        with engine() as client:
            for event in client.api.pull(image, stream=True, decode=True):
                if "error" in event:
                    raise UsageError(" ".join(event["error"].split()))
    except UsageError as error:
        sys.stdout.write(str(error))
        sys.exit(1)


def image_version(image: str) -> str:
    """Return what ``etcd --version`` says in an image.

    Raises:
        UsageError: if no engine answers, the image is not there, or there is no etcd in it.
    """
    output = _ask(image, "--version")
    found = _VERSION.search(output)
    if found is None:
        raise UsageError(
            f"{image} has no etcd that tells its version; `etcd --version` gave {output.strip()!r}"
        )
    return found[1]


def image_flags(image: str, version: str) -> FlagSet:
    """Return the flags that ``etcd --help`` lists in an image.

    Raises:
        UsageError: as :func:`image_version`.
    """
    return FlagSet.from_help(version, _ask(image, "--help"))


def _ask(image: str, argument: str) -> str:
    """Return the output of etcd; an image that has not changed is asked once."""
    with engine() as client:
        identifier = client.images.get(image).id
    return _ask_once(image, argument, identifier or "")


@functools.cache
def _ask_once(image: str, argument: str, _identifier: str) -> str:
    import docker.errors

    token = f"question-{secrets.token_hex(8)}"
    # As a cluster's: whoever is killed while the container is there leaves none behind.
    watchdog = Watchdog(token)
    try:
        watchdog.guard_command(cleanup_command(token))
        with engine() as client:
            # Whatever the image's own entry point is, a script perhaps: the binary itself is asked.
            container = client.containers.create(
                image, entrypoint=["etcd"], command=[argument], network_mode="none", labels={LABEL: token}
            )
            try:
                container.start()
                container.wait(timeout=PATIENCE)
                return container.logs().decode(errors="replace")
            except docker.errors.APIError as error:
                raise UsageError(f"etcd cannot be run in {image}: {reason(error)}") from error
    finally:
        with suppress(UsageError):
            remove_cluster(token)
        watchdog.dismiss()


_ROUNDS = 3
"""A request that was under way when its sender died may still be carried out: look again, and once more."""


def remove_cluster(cluster: str) -> int:
    """Remove what carries the cluster's label, all members at once.

    Args:
        cluster: value of the label.

    Returns:
        How much there was to remove; what somebody else removes meanwhile does no harm.

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
        # Gone already, or being removed at this moment.
        with suppress(docker.errors.APIError):
            removal()

    with ThreadPoolExecutor(max_workers=5) as pool:
        list(pool.map(remove, removals))


def cleanup_command(cluster: str) -> tuple[str, ...]:
    """Return the command line that removes the cluster when its owner is gone."""
    return command(remove_abandoned, cluster)


def remove_abandoned(cluster: str) -> None:
    """Remove what a dead owner has left; an engine that does not answer is asked again."""
    for _ in range(_ROUNDS):
        with suppress(UsageError):
            remove_cluster(cluster)
        time.sleep(1)


_SWITCH = threading.Lock()


@contextmanager
def reaper_off(image: str, *, keep: bool) -> Iterator[None]:
    """Switch the reaper off for what is started inside, and put back whatever was set.

    Args:
        image: the image that is started inside.
        keep: whether the container shall outlive this process. Then it also must not carry the label by which
            a neighbour's reaper would remove it; testcontainers leaves that out for the reaper's own image
            alone, so ours stands in for it.
    """
    from testcontainers.core.config import testcontainers_config as settings

    # Not through the property: reading it would fix what a neighbour may still set in the environment.
    ours: dict[str, object] = {"_ryuk_disabled": True}
    if keep:
        ours["ryuk_image"] = image
    with _SWITCH:
        before = {name: getattr(settings, name) for name in ours}
        for name, value in ours.items():
            setattr(settings, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(settings, name, value)
