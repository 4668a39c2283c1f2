"""Removes the containers and the network of a cluster, found by their label, whoever created them.

Also from a program of its own, which the watchdog runs when the owner is gone. Removes only; this module does
not know how a cluster is started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from pytest_etcdtls.cluster.container_engine import LABEL, engine
from pytest_etcdtls.cluster.subprogram import command
from pytest_etcdtls.errors import UsageError

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
