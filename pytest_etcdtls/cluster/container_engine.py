"""The container engine: where it is, and whether it answers.

Finds it where testcontainers does (``DOCKER_HOST``, Docker's context, its properties file), so that podman's
socket serves as well. This module does not know what is done with it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
