"""Images of etcd: whether one is there, getting one, which etcd is in it and which flags that has.

This module does not know what a cluster is.
"""

from __future__ import annotations

import functools
import re
import secrets
import subprocess
import sys
from contextlib import suppress

from pytest_etcdtls.cluster.container_cleanup import cleanup_command, remove_cluster
from pytest_etcdtls.cluster.container_engine import LABEL, PATIENCE, engine, reason
from pytest_etcdtls.cluster.flags import FlagSet
from pytest_etcdtls.cluster.subprogram import command
from pytest_etcdtls.cluster.watchdog import Watchdog
from pytest_etcdtls.errors import UsageError

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
