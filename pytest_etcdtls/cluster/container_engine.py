"""The container engine and its images: does it answer, is an image there, which etcd is in it.

Finds the engine where testcontainers does (``DOCKER_HOST``, Docker's context, its properties file), so that
podman's socket serves as well. This module does not know what a cluster is.
"""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_etcdtls.errors import UsageError

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

LABEL = "pytest-etcdtls"
"""Label of everything that is created here; its value tells the clusters apart."""

_PATIENCE = 10
"""Seconds that one request to a healthy engine may take; not for pulls."""

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_REMEDY = "start Docker, or point DOCKER_HOST at a running engine (podman's socket will do)"
_ETCD_VERSION = re.compile(r"^etcd Version: (\S+)", re.MULTILINE)


@contextmanager
def engine(timeout: int = _PATIENCE) -> Iterator[docker.DockerClient]:
    """Yield a client of the container engine and close it at the end.

    Args:
        timeout: seconds without an answer after which one request is given up.

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
            timeout=timeout, environment=environment, use_ssh_client=host.startswith("ssh://")
        )
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise UsageError(f"no container engine answers at {host}: {_reason(error)}; {_REMEDY}") from error
    try:
        yield client
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise UsageError(f"the container engine at {host} refuses: {_reason(error)}") from error
    finally:
        client.close()


def _connect(host: str) -> None:
    """Try a local socket; docker-py's own words for a dead one are long, and it leaks its socket.

    Raises:
        OSError: if nobody listens there, or we may not connect.
    """
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PATIENCE)
            probe.connect(host.removeprefix("unix://"))


def _reason(error: BaseException) -> str:
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
        timeout: seconds after which it is given up, also while there is progress.

    Raises:
        UsageError: if no engine answers, the registry refuses or the time is over.
    """
    deadline = time.monotonic() + timeout
    with engine(timeout=math.ceil(timeout)) as client:
        for event in client.api.pull(image, stream=True, decode=True):
            if "error" in event:
                raise UsageError(f"{image} cannot be pulled: {' '.join(event['error'].split())}")
            if time.monotonic() > deadline:
                raise UsageError(f"{image} is not pulled after {timeout:g} s; pull it beforehand")


def image_version(image: str) -> str:
    """Return the version of the etcd in an image, by running ``etcd --version`` in it.

    Raises:
        UsageError: if no engine answers, the image is not there, or there is no etcd in it.
    """
    import docker.errors

    with engine() as client:
        container = client.containers.create(
            image, entrypoint=["etcd"], command=["--version"], network_mode="none", labels={LABEL: "version"}
        )
        try:
            output = _output(container)
        except docker.errors.APIError as error:
            raise UsageError(f"{image} has no etcd on its PATH: {_reason(error)}") from error
        finally:
            container.remove(force=True, v=True)
    found = _ETCD_VERSION.search(output)
    if found is None:
        raise UsageError(
            f"{image} has no etcd that tells its version; `etcd --version` in it gave: {output.strip()!r}"
        )
    return found[1]


def _output(container: Container) -> str:
    """Run a container to its end and return what it wrote."""
    container.start()
    container.wait(timeout=_PATIENCE)
    return container.logs().decode(errors="replace")
