"""What a running owned cluster offers, whichever backend started it.

Protocols only. This module does not know how etcd is started or stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.target import Target


class Member(Protocol):
    """One etcd server of an owned cluster."""

    @property
    def name(self) -> str:
        """``m0``, ``m1`` ..."""

    @property
    def client_url(self) -> str:
        """The client listener, reachable from here; its scheme is ``ClusterConfig.client_scheme``."""

    @property
    def peer_url(self) -> str:
        """The peer listener, reachable from here."""

    @property
    def metrics_url(self) -> str | None:
        """The metrics listener, if there is one."""

    @property
    def client_http_url(self) -> str | None:
        """The HTTP listener of a split set-up, if there is one."""

    @property
    def plain_client_url(self) -> str | None:
        """The ``http`` client listener beside the ``https`` one, if there is one."""

    @property
    def pki_directory(self) -> Path:
        """The member's own key pairs on this host (0700); files may be replaced while etcd runs."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line that etcd was started with, for reports: paths, never a secret."""

    @property
    def declared(self) -> DeclaredMember | None:
        """What it was told to be: its command line, its variables, its configuration file."""

    @property
    def running(self) -> bool:
        """Whether the process or container is alive now."""

    @property
    def ready(self) -> bool:
        """Whether it runs and has said since its last start that it serves its clients."""

    def file(self, name: str) -> Path:
        """Return where a file of that logical name (``server.crt``, ``client-ca.crt``) is on this host."""

    def replace_files(self, contents: Mapping[str, bytes]) -> None:
        """Replace files by logical name, in that order, and let etcd see them; it is told nothing.

        A process sees the old file or the new one at any moment; in a container it is missing in between.

        Raises:
            OSError: if the system or the container engine refuses.
        """

    def log(self) -> str:
        """Return everything that this member has logged so far, earlier starts included."""


class Cluster(Protocol):
    """An owned cluster. As a context manager it stops itself at the end."""

    @property
    def config(self) -> ClusterConfig:
        """What was asked for."""

    @property
    def pki(self) -> ClusterPKI:
        """Every key and certificate that was generated for it."""

    @property
    def pki_directory(self) -> Path:
        """Where they are on this host (0700)."""

    @property
    def version(self) -> str:
        """As ``etcd --version`` prints it: ``3.6.16``."""

    @property
    def origin(self) -> Literal["process", "container"]:
        """Which backend runs it."""

    @property
    def source(self) -> str:
        """Path of the binary, or name of the image."""

    @property
    def members(self) -> tuple[Member, ...]:
        """In the order ``m0``, ``m1`` ..."""

    @property
    def user(self) -> tuple[str, str] | None:
        """Name and password of the administrator where authentication is on; never shown."""

    def target(self, label: str | None = None) -> Target:
        """Return the cluster as a target to judge; the label defaults to ``etcd-VERSION``."""

    def stop(self) -> None:
        """Stop every member within a second and remove every file; a kept cluster is left standing.

        May be called again.
        """

    def stop_member(self, index: int) -> None:
        """Stop one member and keep its data."""

    def start_member(self, index: int, *, wait: bool = True) -> None:
        """Start a stopped member again and wait until it serves clients, or do not wait for that.

        Raises:
            ClusterStartError: if it is waited for and does not.
            OSError: if it is not waited for and cannot be run at all.
        """

    def restart_member(self, index: int) -> None:
        """Stop one member and start it again with the files as they are now."""

    def restart(self) -> None:
        """Stop all members and start them again, together."""

    def farewell(self) -> str:
        """Return how to talk to a kept cluster and how to stop it, as lines to paste."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
