"""The container engine: its client, the images of etcd, and the removal of what an owner has made.

A request that was sent is executed even if its sender dies. So what a dead owner has left is looked for
several times, by a label that all its containers and networks have.

docker-py and testcontainers take most of a second to import. So functions import them, and what else is not
needed to start processes.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_etcdtls.children import child_environment
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.etcd_flags import printed_version
from pytest_etcdtls.etcd.watchdog import OWNER, command, this_process

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container
    from docker.models.networks import Network

    Made = Container | Network

LABEL = "pytest-etcdtls"
"""Label of all containers and networks that are created here. Its value identifies their owner."""

_REQUEST_SECONDS = 10
"""Seconds that a question to a healthy engine may take."""

WORK_SECONDS = 60
"""Seconds in which a healthy engine makes, starts or stops a container; docker-py's default too."""

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_THIS_HOST = (None, "", "localhost", "127.0.0.1", "::1")
_REMEDY = "start Docker, or point DOCKER_HOST at a running engine (podman's socket works too)"

_EMPTY_ROUNDS, _MOST_ROUNDS, _PAUSE_SECONDS = 3, 60, 0.75


def connect(seconds: int) -> docker.DockerClient:
    """Return a client of the container engine. The caller closes it.

    Args:
        seconds: that one request may take.

    Raises:
        UsageError: if there is no engine, it does not answer, or this user has no home directory.
    """
    import docker.errors
    import requests

    host = _host()
    try:
        if host.startswith("unix://"):  # on a dead socket docker-py has a long message and leaks its own
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_REQUEST_SECONDS)
                probe.connect(host.removeprefix("unix://"))
        return docker.from_env(
            timeout=seconds,
            environment={**os.environ, "DOCKER_HOST": host},
            use_ssh_client=host.startswith("ssh://"),
        )
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise UsageError(f"no container engine answers at {host}: {reason(error)}; {_REMEDY}") from error


@contextmanager
def engine(seconds: int = _REQUEST_SECONDS) -> Iterator[docker.DockerClient]:
    """Yield a client of the container engine and close it at the end.

    Args:
        seconds: that one request may take.

    Raises:
        UsageError: if there is no engine, if it does not answer, or if it refuses a request.
    """
    import docker.errors
    import requests

    client = connect(seconds)
    try:
        yield client
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise UsageError(f"the container engine at {_host()} refuses: {reason(error)}") from error
    finally:
        client.close()


def _host() -> str:
    try:
        from testcontainers.core.docker_client import get_docker_host
    except RuntimeError as error:  # it looks for a file in the home directory as it is imported
        raise UsageError(
            "testcontainers looks for its settings in the home directory, and this user has none: set HOME"
        ) from error
    return get_docker_host() or _DEFAULT_HOST


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

    host = testcontainers_config.tc_host_override or urlsplit(_host()).hostname
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
    """Pull an image; without a tag, ``latest``.

    Raises:
        UsageError: if no engine answers, the registry refuses, or the pull takes longer than the time-out.
    """
    # In a child process: docker-py waits without limit, and the engine stops when its client is gone.
    try:
        run = subprocess.run(
            command(pull_without_limit, image),
            env=child_environment(engine=True),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=timeout,
            encoding="utf-8",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{image} was not pulled within {timeout:g} s; pull it beforehand") from error
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
    output = ask_image(image, "--version")
    version = printed_version(output)
    if version is None:
        raise UsageError(
            f"{image} has no etcd that prints its version; `etcd --version` gave {output.strip()!r}"
        )
    return version


def ask_image(image: str, argument: str) -> str:
    """Return the output of etcd. It is cached by the id of the image, which changes with its content.

    Raises:
        UsageError: if no engine answers, the image is missing, or it has no etcd.
    """
    with engine() as client:
        identifier = client.images.get(image).id
    return _ask_once(image, argument, identifier)


@functools.cache
def _ask_once(image: str, argument: str, _identifier: str | None) -> str:
    import docker.errors

    token = f"question-{secrets.token_hex(8)}"
    try:
        with engine(WORK_SECONDS) as client:
            # Run the binary itself instead of the image's entry point, which may be a script.
            container = client.containers.create(
                image,
                entrypoint=["etcd"],
                command=[argument],
                network_mode="none",
                labels=owner_labels(token, this_process()),
                use_config_proxy=False,
            )
            try:
                container.start()
                container.wait(timeout=WORK_SECONDS)
                return container.logs().decode(errors="replace")
            except docker.errors.APIError as error:
                raise UsageError(f"etcd cannot be run in {image}: {reason(error)}") from error
    finally:
        with suppress(UsageError):
            remove_all(token)


def owner_labels(token: str, owner: str) -> dict[str, str]:
    """Return the labels of an owner's containers and networks; ``owner`` is empty if they may outlive it."""
    return {LABEL: token} | ({OWNER: owner} if owner else {})


def remove_all(token: str) -> int:
    """Remove all containers, then all networks, with this value of the label; return how many there were.

    It is no error if another process removes them too.

    Raises:
        UsageError: if no engine answers.
    """
    with engine() as client:
        return remove(made_here(client, f"{LABEL}={token}"))


def made_here(client: docker.DockerClient, *labels: str) -> list[Made]:
    """Return the containers and networks that were created with labels, in this order.

    A container also has the labels of its image, which may have been committed from one of ours. These do not
    count: it is another's.
    """
    filters: dict[str, str | list[str] | bool] = {"label": [*labels]}
    containers = client.containers.list(all=True, filters=filters, ignore_removed=True)
    return [
        *(one for one in containers if labels_of(one)[LABEL] != _label_of_image(client, one)),
        *client.networks.list(filters=filters),
    ]


def labels_of(made: Made) -> dict[str, str]:
    """Return the labels of a container or network."""
    labels: dict[str, str] = made.attrs.get("Labels") or made.attrs["Config"]["Labels"]
    return labels


def _label_of_image(client: docker.DockerClient, container: Container) -> str | None:
    import docker.errors

    with suppress(docker.errors.NotFound):  # it was removed, so it cannot be asked
        labels: dict[str, str] = client.images.get(container.attrs["Image"]).labels
        return labels.get(LABEL)
    return None


def remove(made: Sequence[Made]) -> int:
    """Remove containers, then networks, and return how many there were."""
    from docker.models.containers import Container

    _at_once([partial(one.remove, force=True, v=True) for one in made if isinstance(one, Container)])
    _at_once([one.remove for one in made if not isinstance(one, Container)])
    return len(made)


def _at_once(removals: Sequence[Callable[[], object]]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import docker.errors

    def remove(removal: Callable[[], object]) -> None:
        with suppress(docker.errors.APIError):  # it is already removed, or being removed
            removal()

    with ThreadPoolExecutor(max_workers=5) as pool:
        list(pool.map(remove, removals))


def remove_abandoned(token: str) -> None:
    """Remove what a dead owner has left, as a program that its watchdog runs, until nothing is found."""
    empty = 0
    for _ in range(_MOST_ROUNDS):
        try:
            empty = 0 if remove_all(token) else empty + 1
        except UsageError:  # the engine may be busy
            empty = 0
        if empty == _EMPTY_ROUNDS:
            break
        time.sleep(_PAUSE_SECONDS)
