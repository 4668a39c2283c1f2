"""Starts an etcd with the user's own declaration, moved to this machine, and makes a target of it.

The target has the declared URLs: names are judged as declared, and connections go to the ports on loopback
that etcd really listens on. An etcd that does not start is a result, with the lines of its log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace as with_values

from pytest_etcdtls.declared.declaration import (
    FLAGS,
    Declaration,
    DeclaredListener,
    DeclaredMember,
    DeclaredURL,
    advertised,
    declared_listeners,
    in_force,
    reached_host,
)
from pytest_etcdtls.declared.effective import effective_of
from pytest_etcdtls.errors import EtcdFailedError, UsageError
from pytest_etcdtls.etcd.config import START_SECONDS
from pytest_etcdtls.etcd.home import LOOPBACK, Home, Server, Start, why_ended
from pytest_etcdtls.etcd.member import with_files
from pytest_etcdtls.etcd.relocation import MEMBER, Place, moved_urls, relocate, replacements
from pytest_etcdtls.etcd.replay_files import CLIENTS, ReplayFiles, replay_files
from pytest_etcdtls.etcd.sources import EtcdSource
from pytest_etcdtls.etcd_log.parse import own_log
from pytest_etcdtls.pki.bundle import write_files
from pytest_etcdtls.pki.profile import KeyType
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import (
    ConnectTo,
    Listener,
    PortCredentials,
    StartFailure,
    Target,
    Unreached,
    safe,
    unique,
)

_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - in a container, whose ports are published on loopback
_TIMING: Final = {"heartbeat-interval": "5", "election-timeout": "25"}
"""For a fast start: a single member elects itself. Each limits the other, so both are given or none."""


class ReplayPlan(Struct, frozen=True, kw_only=True, dict=True):
    """A declaration to replay, and what is known of its files.

    Attributes:
        target: the declared member with its label and what is known of its files, without listeners.
        key_type: type of generated keys where no certificate shows it.
    """

    target: Target
    key_type: KeyType | None = None

    @property
    def label(self) -> str:
        """Label of the declared member."""
        return self.target.label

    @property
    def declared(self) -> DeclaredMember:
        """The declared member."""
        return self.target.declared[self.label]

    @property
    def declaration(self) -> Declaration:
        """The declaration of the member."""
        return self.declared.declaration

    @cached_property
    def files(self) -> ReplayFiles:
        """The files that etcd gets: made once, the same for every version.

        Raises:
            UsageError: if certificates of the declared shape cannot be issued.
        """
        return replay_files(self.declared, self.target.client, self.target.peer, key_type=self.key_type)

    @property
    def generated(self) -> str:
        """Why etcd gets generated keys and certificates, in a sentence; empty if it gets the declared."""
        why = self.files.generated
        return f"keys and certificates are generated in the declared shape: {why}" if why else ""

    @property
    def notes(self) -> Iterator[str]:
        """How the replay differs from the declaration, one sentence each."""
        if self.generated:
            yield self.generated
        yield from replacements(self.declaration)
        yield from self.target.remarks

    def outline(self, label: str, source: EtcdSource) -> Target:
        """Return the target before etcd is started.

        Raises:
            UsageError: if no declared listener can be judged, or certificates of the declared shape cannot be
                issued.
        """
        listeners, unreached = _listeners(self, source.version)
        if not listeners:
            raise UsageError(
                f"--etcd-config {self.declaration.source}: none of the declared listeners can be replayed: a "
                "socket is not probed, and etcd listens on addresses only"
            )
        return replace(
            self.target,
            label=label,
            origin=source.kind,
            listeners=listeners,
            client=self.files.client,
            peer=self.files.peer,
            etcd_version=source.version,
            source=source.location,
            unreached=unreached,
            remarks=tuple(self.notes),
            replay=self.declaration.source,
            generated=self.generated,
        )


def _judged(declaration: Declaration, version: str) -> Iterator[DeclaredListener]:
    """Yield the listeners that this version opens in a replay."""
    moved = moved_urls(in_force(declaration, version))
    for listener in declared_listeners(declaration):
        if listener.url in moved[FLAGS[listener.role]]:
            yield listener


def _listeners(plan: ReplayPlan, version: str) -> tuple[tuple[Listener, ...], tuple[Unreached, ...]]:
    listeners: list[Listener] = []
    judged = list(_judged(plan.declaration, version))
    sides = effective_of(plan.declared, version).sides
    for declared in judged:
        url, side = declared.url, sides[declared.role.side]
        # A certificate that etcd generates is for the address that it listens on.
        host = "" if url.secure and side.generated else reached_host(declared, plan.declaration)
        host = host or LOOPBACK
        scheme: Literal["https", "http"] = "https" if url.secure else "http"
        # A finding about a member says which listeners it concerns by their role and the member's label.
        label = f"{declared.role}-{plan.label}-{safe(host)}-{url.port}"
        label = unique(label, [other.label for other in listeners])
        listeners.append(
            Listener(
                role=declared.role, scheme=scheme, host=host, port=url.port, member=plan.label, label=label
            )
        )
    unreached = tuple(
        Unreached(
            member=plan.label,
            role=declared.role,
            url=str(declared.url),
            reason=f"{declared.url} is not opened by etcd {version} in a replay",
        )
        for declared in declared_listeners(plan.declaration)
        if declared not in judged
    )
    return tuple(listeners), unreached


class ReplayedEtcd:
    """An etcd that replays a declaration.

    Attributes:
        failure: why it does not run; ``None`` if it runs.
        directory: directory of all its files on this host (0700).
    """

    def __init__(
        self,
        plan: ReplayPlan,
        source: EtcdSource,
        *,
        directory: Path | None = None,
        keep: bool = False,
        seconds: float = START_SECONDS,
    ) -> None:
        """Start it, and wait until it serves clients or has ended.

        Args:
            plan: the declaration and its files.
            source: the etcd to start.
            directory: parent of its directory (default: the system's temporary directory).
            keep: leave it running at the end.
            seconds: time that the start may take.

        Raises:
            ClusterStartError: if it cannot be tried: no directory, no port, no container engine.
        """
        self.failure: StartFailure | None = None
        self._plan = plan
        self._name = f"etcd {source.version} ({source.location}) with {plan.declaration.source}"
        self._seconds = seconds
        self._server: Server | None = None
        self._home = Home(source, directory, keep=keep)
        self.directory = self._home.path
        with self._home.coming_up(self._name):
            write_files(self._home.pki, plan.files.contents)
            try:
                self._home.start(max(1, len(self._addresses)), self._start)
            except EtcdFailedError as error:
                if isinstance(error.__cause__, OSError):  # it is not about the declaration
                    raise
                self.failure = with_values(error.failure, member=plan.label)
                self._home.keep = False
                self._home.discard()

    @property
    def _addresses(self) -> list[str]:
        urls = (url for listed in moved_urls(self._plan.declaration).values() for url in listed)
        return list(dict.fromkeys(url.address for url in urls))

    def _start(self, ports: Sequence[int]) -> None:
        declaration, etcd = self._plan.declaration, self._home.etcd
        self._ports = dict(zip(self._addresses, ports, strict=False))
        place = Place(
            listen=_EVERYWHERE if etcd.kind == "container" else LOOPBACK,
            ports=self._ports,
            paths=self._home.backend.paths(MEMBER),
        )
        # For a fast start and a log that can be read, where the declaration does not say otherwise.
        additions = {} if _TIMING.keys() & declaration.settings.keys() else dict(_TIMING)
        if "log-outputs" in etcd.flags():
            additions["log-outputs"] = "stderr"
        launch = relocate(declaration, etcd.version, place, additions=additions)
        self._server = self._home.server(launch)
        Start(self._name, self._seconds).run([self._server])

    def target(self, label: str) -> Target:
        """Return it as a target of that label."""
        outline = self._plan.outline(label, self._home.etcd)
        host = self._home.host
        listeners = tuple(
            replace(listener, connect_to=(host, self._ports[declared.url.address]))
            for listener, declared in zip(
                outline.listeners, _judged(self._plan.declaration, self._home.etcd.version), strict=True
            )
        )
        log = own_log(f"the log of {self._plan.label}", self._log)
        return replace(
            outline,
            listeners=listeners,
            client=self._with_files(outline.client),
            peer=self._with_files(outline.peer),
            connect_to=tuple(self._connect_to(host)),
            logs=MappingProxyType({self._plan.label: log}),
            failure=self.failure,
        )

    def _connect_to(self, host: str) -> Iterator[ConnectTo]:
        """Yield where connections to declared and advertised URLs go: never to the machine that has them."""
        declaration = self._plan.declaration
        listed = moved_urls(declaration)
        for urls in listed.values():
            for url in urls:
                yield _to(url, host, self._ports[url.address])
        for role in (Role.CLIENT, Role.PEER):
            first = next(iter(listed[FLAGS[role]]), None)
            for url in advertised(declaration, role):
                same = next((other for other in listed[FLAGS[role]] if other.port == url.port), first)
                if same is not None and not url.is_socket:
                    yield _to(url, host, self._ports[same.address])

    def _log(self) -> str:
        return self._server.log() if self._server is not None else ""

    def _with_files(self, held: PortCredentials) -> PortCredentials:
        """Return generated credentials with the paths of their files, for commands to paste."""
        if not self._plan.files.generated:
            return held

        directory = self._home.pki / CLIENTS
        return replace(held, identities=tuple(with_files(one, directory.joinpath) for one in held.identities))

    def ended(self) -> str:
        """Return why it is not running any more, empty if it runs or did not start."""
        return "" if self.failure or self._server is None else why_ended(self._name, self._server)

    @property
    def is_kept(self) -> bool:
        """Whether it is left running at the end."""
        return self._home.keep

    def keep_message(self) -> str:
        """Return where a kept etcd listens, and how it is stopped, as lines to paste."""
        ports = ", ".join(f"{address} at {LOOPBACK}:{port}" for address, port in self._ports.items())
        return "\n".join(
            [
                f"{self._name} keeps running in {self.directory}:",
                *(f"  {ports}", "  stop it:", f"    {self._home.stop_command()}"),
            ]
        )

    def stop(self) -> None:
        """Stop it and remove its files; do nothing to a kept one. It may be called repeatedly."""
        self._home.stop()


def _to(url: DeclaredURL, host: str, port: int) -> ConnectTo:
    return ConnectTo(text="the replay", host=url.host, port=url.port, to_host=host, to_port=port)
