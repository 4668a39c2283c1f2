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
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_etcdtls.cluster import abandoned
from pytest_etcdtls.cluster.command_line import FlagSet
from pytest_etcdtls.cluster.watchdog import Watchdog, command
from pytest_etcdtls.errors import UsageError

if TYPE_CHECKING:
    import docker


LABEL = "pytest-etcdtls"
"""Label of all containers and networks that are created here. Its value identifies the cluster."""

PATIENCE = 10
"""Seconds that one request to a healthy engine may take."""

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_THIS_HOST = (None, "", "localhost", "127.0.0.1", "::1")
_REMEDY = "start Docker, or point DOCKER_HOST at a running engine (podman's socket will do)"


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
    """Try to connect to a local socket. On a dead one docker-py has a long message and leaks its socket.

    Raises:
        OSError: if nothing listens there, or access is denied.
    """
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PATIENCE)
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


_VERSION = re.compile(r"^etcd Version: (\S+)", re.MULTILINE)


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


def image_id(image: str) -> str:
    """Return the id of an image, which changes with its content.

    Raises:
        UsageError: if no engine answers, or the image is missing.
    """
    with engine() as client:
        return client.images.get(image).id or ""


def _ask(image: str, argument: str) -> str:
    """Return the output of etcd. It is cached while the image is unchanged."""
    return _ask_once(image, argument, image_id(image))


@functools.cache
def _ask_once(image: str, argument: str, _identifier: str) -> str:
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
                container.wait(timeout=PATIENCE)
                return container.logs().decode(errors="replace")
            except docker.errors.APIError as error:
                raise UsageError(f"etcd cannot be run in {image}: {reason(error)}") from error
    finally:
        with suppress(UsageError):
            remove_cluster(token)
        watchdog.dismiss()


def remove_cluster(cluster: str) -> int:
    """Remove all containers and networks with the cluster's label, all members at once.

    Args:
        cluster: value of the label.

    Returns:
        The number of objects that were found. It is no error if another process removes them meanwhile.

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


_ROUNDS = 3
"""Number of searches. A request that was sent before its sender died may be executed after the first."""


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
