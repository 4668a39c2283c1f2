"""Which owned clusters a run has, and what is known of each before it runs. Starts none."""

from __future__ import annotations

from pytest_etcdtls.cluster.discovery import Announce, find_etcd
from pytest_etcdtls.cluster.source import EtcdSource
from pytest_etcdtls.settings.model import Owned, Settings
from pytest_etcdtls.target import Listener, Role, Target


def owned_sources(owned: Owned, announce: Announce | None, *, pulls: bool = True) -> list[EtcdSource]:
    """Return what each owned cluster is started from.

    Args:
        owned: what the user asked for.
        announce: is told before an image is pulled.
        pulls: a missing one is.

    Raises:
        UsageError: if there is nothing to start one from.
    """
    if not owned.images and not owned.binaries:
        return [find_etcd(owned.backend, announce=announce, pulls=pulls)]
    return [
        *(find_etcd("container", image=image, announce=announce, pulls=pulls) for image in owned.images),
        *(find_etcd("process", binary=binary) for binary in owned.binaries),
    ]


def owned_outline(label: str, source: EtcdSource, settings: Settings) -> Target:
    """Return the members and the roles of their listeners; which ports they have is not known."""
    config = settings.owned.config
    listeners = [
        Listener(
            role=role,
            scheme="https",
            host=config.host,
            port=0,
            member=f"m{number}",
            label=f"{role}-m{number}",
        )
        for number in range(config.size)
        for role in (Role.CLIENT, Role.PEER)
    ]
    return Target(
        label=label,
        origin=source.kind,
        listeners=tuple(listeners),
        etcd_version=source.version,
        source=source.location,
    )
