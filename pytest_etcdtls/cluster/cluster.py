"""An owned cluster: its directory, PKI and ports, its start and its end.

Nothing of a cluster outlives its owner, however that ends: a watchdog knows the directory before it is
created, and finds processes by a mark in their environment and containers by their label. A port is free or
not only when etcd binds it, so a start that finds one taken is made again with others. etcd's own log says
when a member serves clients, because a connection to a port shows only that it is bound; where clients are
accepted, ``/health`` is asked too.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, Self

from pytest_etcdtls.cluster.admin import (
    Condition,
    Gateway,
    add_learner,
    enable_authentication,
    gateway_of,
    promote_member,
    remove_member,
)
from pytest_etcdtls.cluster.config import (
    ClusterConfig,
    FileNames,
    FlagSet,
    MemberAddresses,
    PortClaim,
    PortTakenError,
    claim_ports,
    command_line,
    loopback_addresses,
    member_flags,
    ports_needed,
    render,
    write_pki,
)
from pytest_etcdtls.cluster.member import (
    Member,
    ReadinessLog,
    Served,
    build_target,
    why_not_started,
    with_last_line,
)
from pytest_etcdtls.cluster.process import ProcessBackend
from pytest_etcdtls.cluster.sources import EtcdSource
from pytest_etcdtls.cluster.watchdog import GuardedDirectory
from pytest_etcdtls.command import without_variables
from pytest_etcdtls.errors import ClusterStartError, EtcdFailedError, UsageError, blocked_sockets
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates, encode_key, write_files
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.target import Target
from pytest_etcdtls.untrusted import shell_word

if TYPE_CHECKING:
    import httpx

    from pytest_etcdtls.cluster.container import ContainerBackend

START_SECONDS = 30.0
"""Seconds that a cluster may take to start on a busy machine."""

_GLANCE_SECONDS = 0.005
_HEALTH_GLANCE_SECONDS = 0.05
_LOG_LINES = 40

_ATTEMPTS = 5
"""Number of attempts to start with other ports if a port turns out to be taken."""


def start_cluster(
    config: ClusterConfig,
    source: EtcdSource,
    *,
    directory: Path | None = None,
    keep: bool = False,
    seconds: float = START_SECONDS,
    is_given_up: Callable[[], bool] = bool,
) -> Cluster:
    """Start a cluster and wait until it serves clients.

    Args:
        config: the cluster's configuration.
        source: the etcd to start, from :func:`~pytest_etcdtls.cluster.sources.find_etcd`.
        directory: parent of the cluster's directory (default: the system's temporary directory).
        keep: leave the cluster running at the end.
        seconds: time that the start may take.
        is_given_up: returns whether nobody waits for a start any more, which then fails.

    Raises:
        UsageError: if this version of etcd does not support the configuration, or the PKI cannot be
            generated.
        ClusterStartError: if the cluster does not start. The message ends with the last lines of its log.
    """
    try:
        home = GuardedDirectory(directory)
    except OSError as error:
        raise ClusterStartError(f"the directory of the cluster cannot be made: {error}") from error
    backend: ProcessBackend | ContainerBackend
    if source.kind == "container":
        # Imported here: the container libraries are slow to import, and processes do not need them.
        from pytest_etcdtls.cluster.container import ContainerBackend

        backend = ContainerBackend(source.location, source.version, home, address=config.host, keep=keep)
    else:
        backend = ProcessBackend(source.location, home)
    return Cluster(config, source.version, backend, home, keep=keep, seconds=seconds, is_given_up=is_given_up)


class Cluster:
    """An owned cluster, started by :func:`start_cluster`. As a context manager, it stops the cluster.

    Attributes:
        config: the configuration that it was started with.
        pki: the keys and certificates that were generated for it.
        version: version as ``etcd --version`` prints it: ``3.6.16``.
        members: the members in the order ``m0``, ``m1`` ...
        user: name and password of the administrator if authentication is enabled. They are never printed.
        directory: directory of all files of the cluster on this host (0700).
        pki_directory: directory of the keys and certificates on this host (0700).
    """

    pki: ClusterPKI

    def __init__(
        self,
        config: ClusterConfig,
        version: str,
        backend: ProcessBackend | ContainerBackend,
        home: GuardedDirectory,
        *,
        keep: bool,
        seconds: float,
        is_given_up: Callable[[], bool] = bool,
    ) -> None:
        """Start the cluster in its directory; :func:`start_cluster` describes the arguments."""
        self.config = config
        self.version = version
        self.members: tuple[Member, ...] = ()
        self.user: tuple[str, str] | None = None
        self.directory = home.path
        self.pki_directory = home.path / "pki"
        self._backend = backend
        self._home = home
        self._keep = keep
        self._seconds = seconds
        self._claims: list[PortClaim] = []
        self._alone = config.size == 1
        self._named = config.size
        self._paused: set[str] = set()
        self._is_given_up = is_given_up
        try:
            self._come_up()
        except OSError as error:
            self._remove()
            raise ClusterStartError(f"{self._etcd} did not come up: {error}") from error
        except BaseException as error:
            self._remove()
            if blocked := blocked_sockets(error):
                raise ClusterStartError(f"{self._etcd} did not come up: {blocked}") from error
            raise
        self._condition = Condition(self)
        if keep:
            home.watchdog.dismiss()

    def __enter__(self) -> Self:
        """Return the cluster."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the cluster."""
        self.stop()

    @property
    def origin(self) -> Literal["process", "container"]:
        """The kind of backend that runs it."""
        return self._backend.origin

    @property
    def source(self) -> str:
        """Path of the binary or name of the image."""
        return self._backend.source

    @property
    def _etcd(self) -> str:
        return f"etcd {self.version} ({self.source})"

    @property
    def token(self) -> str:
        """A token that is unique to this cluster."""
        return self._home.token

    def target(self, label: str | None = None) -> Target:
        """Return the cluster as a target. The label defaults to ``etcd-VERSION``."""
        return build_target(self, label)

    def difference(self) -> str:
        """Return how the cluster differs from the one that was started, empty if it does not.

        Compared are its processes, its files and its member list, not what etcd stores.
        """
        return self._condition.difference()

    def ended(self) -> str:
        """Return which member is not running and why, empty if every member runs."""
        for member in self.members:
            name = f"{self._etcd}, member {member.name}"
            try:
                if not member.running:
                    happened = f"{name} ended with status {member.server.exit_status}"
                    return with_last_line(happened, member.log())
            except OSError as error:
                return f"{name} cannot be found: {error}"
        return ""

    def stop(self) -> None:
        """Stop every member within one second and remove every file; do nothing to a kept cluster.

        It may be called repeatedly.
        """
        self._condition.close()
        if self._keep:
            self._backend.abandon()
            self._release_ports()
        else:
            self._remove()

    def stop_member(self, index: int) -> None:
        """Stop one member. Its data is kept."""
        self._backend.stop([self.members[index].name])

    def start_member(self, index: int, *, wait: bool = True) -> None:
        """Start a stopped member again and, if ``wait`` is set, wait until it serves clients.

        Raises:
            ClusterStartError: with ``wait``, if it does not serve clients in time.
            OSError: without ``wait``, if it cannot be run.
        """
        if wait:
            self._launch(self.members[index])
        else:
            self.members[index].start()

    def restart_member(self, index: int) -> None:
        """Stop one member and start it again with the current files."""
        self.stop_member(index)
        self.start_member(index)

    def restart(self) -> None:
        """Stop all members and start them again together."""
        self._backend.stop([member.name for member in self.members])
        self._launch(*self.members)

    def upgrade_member(self, index: int, source: EtcdSource) -> None:
        """Stop one member and start it again on its data with another etcd, with the flags of that version.

        ``version`` and ``source`` are those of the latest etcd from then on, while other members may run
        another one. A member of 3.7 needs a cluster whose version is 3.6, and so on: see ``etcdcluster`` of
        ``/version``, which follows some seconds after the last member.

        Raises:
            UsageError: if one etcd is a process and the other a container, or that version does not support
                the configuration.
            ClusterStartError: if the member does not serve clients in time.
        """
        if source.kind != self.origin:
            raise UsageError(
                f"member {self.members[index].name} runs in a {self.origin} and cannot go on with "
                f"{source.location}, which is for a {source.kind}: processes are upgraded to another binary, "
                "containers to another image"
            )
        self._backend.use(source.location, source.version)
        self.version, self._flags = source.version, self._backend.flags()
        self._replace(index)

    def _replace(self, index: int) -> None:
        """Stop one member and start it again on its data, with the command line that it has from now on."""
        self.stop_member(index)
        replaced = self._member([member.addresses for member in self.members], index)
        self.members = (*self.members[:index], replaced, *self.members[index + 1 :])
        self._launch(replaced)

    def add_member(self) -> Member:
        """Add a voting member with certificates of its own, wait until it serves clients, and return it.

        It is ``members[-1]`` from then on, with a name that no member had before. A cluster of one member is
        restarted before, with timeouts that several members can keep. etcd adds a third member only when the
        first two have been connected for five seconds: that is waited for.

        Raises:
            ClusterStartError: if etcd refuses the member, or it does not serve clients in time.
        """
        if self._alone:
            self._alone = False
            self._replace(0)
        name = f"m{self._named}"
        self._named += 1
        before = self.pki.files(with_ca_keys=self._keep)
        self.pki = self.pki.with_member(self._backend.names(name))
        after = self.pki.files(with_ca_keys=self._keep)
        write_files(self.pki_directory, {path: after[path] for path in after.keys() - before.keys()})
        claim = claim_ports(ports_needed(self.config), self.config.host, skip=len(self._claims))
        self._claims.append(claim)
        own = self._backend.reached_at(loopback_addresses(self.config, name, iter(claim.ports)))
        addresses = [*(member.addresses for member in self.members), own]
        added = self._member(addresses, len(self.members), joins=True)
        try:
            # Without a vote until it runs: with one, the others would have no quorum until then.
            self._change_members(own, self.members, add_learner)
            launch = Launch(self._etcd, self._seconds)
            launch.start([added], one_by_one=False)
            self._change_members(own, self.members, promote_member)
            if self.config.expects_health:
                launch.await_health([*self.members, added])
        except BaseException:
            self._forget(name)
            with suppress(ClusterStartError):  # the first error says more
                self._change_members(own, self.members, remove_member)
            raise
        self.members = (*self.members, added)
        return added

    def remove_member(self, index: int) -> None:
        """Remove one member from the cluster, stop it for good, and remove its data and its keys.

        The indexes of those after it are one less from then on. etcd removes a member only when those that
        are left have been connected for five seconds: that is waited for.

        Raises:
            UsageError: if it is the only member.
            ClusterStartError: if etcd refuses, or no other member runs.
        """
        leaving = self.members[index]
        others = tuple(member for member in self.members if member is not leaving)
        if not others:
            raise UsageError(
                f"{leaving.name} is the only member and cannot be removed: stop() ends the cluster"
            )
        self._change_members(leaving.addresses, others, remove_member)
        self.members = others
        self._forget(leaving.name)
        if self.config.expects_health:
            Launch(self._etcd, self._seconds).await_health(others)

    def _forget(self, name: str) -> None:
        """Stop a member for good, and remove its data and its keys."""
        self._paused.discard(name)
        self._backend.drop(name)
        self.pki = self.pki.without_member(name)
        for directory in (self.directory, self.pki_directory):
            shutil.rmtree(directory / name, ignore_errors=True)

    def _change_members(
        self,
        addresses: MemberAddresses,
        others: Sequence[Member],
        change: Callable[[Member, Gateway, Sequence[str], float], None],
    ) -> None:
        """Change the member list by a function of :mod:`pytest_etcdtls.cluster.admin`."""
        running = next((m for m in others if m.running and m.name not in self._paused), None)
        if running is None:
            raise ClusterStartError(
                f"the members of the cluster cannot be changed for {addresses.name}: no other runs"
            )
        peer_urls = self._backend.listens_on(addresses).advertise_peer
        change(running, self.gateway(running), peer_urls, self._seconds)

    def gateway(self, member: Member) -> Gateway:
        """Return a client of a member's HTTP endpoints, logged in if authentication is enabled.

        Raises:
            ClusterStartError: if etcd refuses the administrator.
        """
        gateway = gateway_of(member)
        if self.user is None:
            return gateway
        # etcd's gateway refuses every certificate with a common name where authentication is enabled
        # ("CommonName of client sending a request against gateway will be ignored").
        nameless = replace(self.config.pki.client, common_name=None, organization="administrators")
        identity = self.pki.authorities.client_issuer.issue(nameless, name="administrator")
        files = {
            PurePosixPath("administrator.crt"): encode_certificates(identity.chain),
            PurePosixPath("administrator.key"): encode_key(identity.key) if identity.key else b"",
        }
        write_files(self.directory, files)
        gateway = Gateway(gateway.url, *(self.directory / name for name in files))
        gateway.log_in(self.user)
        return gateway

    def pause_member(self, index: int) -> None:
        """Let one member answer nothing, with its connections open, until :meth:`resume_member`."""
        self.members[index].server.pause()
        self._paused.add(self.members[index].name)

    def resume_member(self, index: int) -> None:
        """Continue a paused member."""
        self.members[index].server.resume()
        self._paused.discard(self.members[index].name)

    @property
    def paused(self) -> tuple[str, ...]:
        """Names of the members that are paused."""
        return tuple(sorted(self._paused))

    def rotate_server_certificate(self) -> None:
        """Replace certificate and key of every member's client port. etcd reads them at the next handshake.

        A handshake between the two replacements may fail. ``pki`` has the new ones from then on.
        """
        self._rotate("server")

    def rotate_peer_certificate(self) -> None:
        """Do the same for the peer ports."""
        self._rotate("peer")

    def _rotate(self, kind: Literal["server", "peer"]) -> None:
        self.pki = self.pki.renewed(kind)
        for member in self.members:
            member.replace_files(self.pki.contents(member.name, f"{kind}.crt", f"{kind}.key"))

    def revoke(self, identity: Identity | None = None) -> None:
        """Add a client certificate to the revocation list that etcd reads at the next handshake.

        Args:
            identity: issued by the client CA (default: the client of the cluster).

        Raises:
            UsageError: if the cluster was started without that list.
        """
        lists = {self.config.client_crl_file, self.config.peer_crl_file} & {"crl.der", "crl.pem"}
        if not lists:
            raise UsageError("the cluster reads no revocation list: start it with client_crl_file='crl.der'")
        self.pki.authorities.client_issuer.revoke((identity or self.pki.client).chain[0])
        for member in self.members:
            member.replace_files(self.pki.contents(member.name, "crl.der", "crl.pem"))

    def log(self) -> str:
        """Return the logs of all members so far, one after the other."""
        return "".join(member.log() for member in self.members)

    def client(self, index: int = 0) -> httpx.Client:
        """Return an HTTP client of one member with the client certificate. The caller closes it."""
        return self.members[index].client()

    def keep_message(self) -> str:
        """Return the commands to use a kept cluster and to stop it, as lines to paste."""
        lines = [f"{self._etcd} is left standing in {self.directory}:"]
        for member in self.members:
            urls = (member.client_url, member.plain_client_url, member.client_http_url, member.metrics_url)
            served = ", ".join(url for url in urls if url is not None)
            lines.append(f"  {member.name}: clients {served}; peers {member.peer_url}")
        stop = f"{self._backend.stop_command()}; rm -rf {shell_word(str(self.directory))}"
        lines += ["  talk to it:", *(f"    {line}" for line in self._client_commands())]
        return "\n".join([*lines, "  stop it:", f"    {stop}"])

    def _client_commands(self) -> list[str]:
        member = self.members[0]
        ca, certificate, key = (
            shell_word(str(member.file(name))) for name in ("server-ca.crt", "client.crt", "client.key")
        )
        endpoints = ",".join(m.client_url for m in self.members)
        # Other users can read the arguments of a process, but not its environment.
        password = f"$(cat {shell_word(str(self._password_file))})"
        user = [f'ETCDCTL_USER="root:{password}"'] if self.user else []
        begin = [*map(shell_word, without_variables(os.environ)), *user, "etcdctl"]
        url = member.client_http_url or member.client_url
        credentials = f"--cacert={ca} --cert={certificate} --key={key}"
        return [
            " ".join([*begin, f"--endpoints={shell_word(endpoints)}", credentials, "endpoint status"]),
            f"curl -g --cacert {ca} --cert {certificate} --key {key} {shell_word(url + '/version')}",
        ]

    @property
    def _password_file(self) -> Path:
        return self.directory / "root-password"

    def _come_up(self) -> None:
        self._flags = self._backend.flags()
        names = [self._backend.names(f"m{index}") for index in range(self.config.size)]
        try:
            self.pki = ClusterPKI.generate(self.config.pki, names)
        except ValueError as error:
            raise UsageError(f"the PKI that the cluster shall have cannot be generated: {error}") from error
        write_pki(self.pki, self.config, self.pki_directory, with_ca_keys=self._keep)
        for attempt in range(_ATTEMPTS):
            self._backend.prepare()
            self._claim_ports(attempt)
            try:
                self._launch(*self.members, one_by_one=True)
                break
            except PortTakenError:
                if attempt == _ATTEMPTS - 1:
                    raise
                self._backend.discard()
                for member in self.members:
                    shutil.rmtree(self.directory / member.name, ignore_errors=True)
                self._release_ports()
        if self.config.authentication:
            self.user = enable_authentication(gateway_of(self.members[0]))
            descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self.user[1])

    def _claim_ports(self, attempt: int) -> None:
        """Claim ports, and create the members that listen on them."""
        needed = ports_needed(self.config) * self.config.size
        claim = claim_ports(needed, self.config.host, skip=attempt)
        self._claims.append(claim)
        ports = iter(claim.ports)
        addresses = [
            self._backend.reached_at(loopback_addresses(self.config, f"m{index}", ports))
            for index in range(self.config.size)
        ]
        self.members = tuple(self._member(addresses, index) for index in range(self.config.size))

    def _member(self, addresses: Sequence[MemberAddresses], index: int, *, joins: bool = False) -> Member:
        return build_member(
            self._backend,
            self.config,
            self._flags,
            self.pki,
            addresses,
            index,
            home=self._home,
            alone=self._alone,
            joins=joins,
        )

    def _launch(self, *members: Member, one_by_one: bool = False) -> None:
        launch = Launch(self._etcd, self._seconds, self._is_given_up)
        launch.start(members, one_by_one=one_by_one)
        if self.config.expects_health:
            launch.await_health(members)

    def _remove(self) -> None:
        """Remove the cluster completely. It may be called repeatedly, also after an interruption."""
        for index, member in enumerate(self.members):
            if member.name in self._paused:  # an engine does not stop a paused container
                with suppress(OSError):
                    self.resume_member(index)
        self._backend.discard()
        self._release_ports()
        self._home.remove()

    def _release_ports(self) -> None:
        for claim in self._claims:
            claim.release()


def build_member(
    backend: ProcessBackend | ContainerBackend,
    config: ClusterConfig,
    known: FlagSet,
    pki: ClusterPKI,
    addresses: Sequence[MemberAddresses],
    index: int,
    *,
    home: GuardedDirectory,
    alone: bool,
    joins: bool = False,
) -> Member:
    """Return a member that can be started.

    Args:
        backend: runs it.
        config: the cluster's configuration.
        known: the flags of this version of etcd.
        pki: the keys and certificates, which are written already.
        addresses: URLs of all members as seen from this host.
        index: index of this member in ``addresses``.
        home: the cluster's directory. Its token is ``--initial-cluster-token``.
        alone: it is the only member, and will be.
        joins: it was added to a cluster that runs.

    Raises:
        UsageError: if this version of etcd does not support the configuration.
    """
    own = addresses[index]
    inside = [backend.listens_on(reached) for reached in addresses]
    paths, files = backend.paths(own.name), FileNames.of_member(pki, own.name)
    flags = member_flags(
        config, known, inside, index, paths, files, token=home.token, alone=alone, joins=joins
    )
    directory = home.path / own.name
    directory.mkdir(mode=0o700, exist_ok=True)  # it has data if the member is upgraded
    config_file = directory / "etcd.conf.yml" if config.config_file else None
    if config_file is not None:
        config_file.write_text(render(flags, config, paths))
    argv = command_line(backend.program, flags, config, paths)
    variables = {name: paths.fill_in(value) for name, value in config.environment.items()}
    return Member(
        addresses=own,
        argv=argv,
        pki_root=home.path / "pki",
        files=files,
        server=backend.server(own, argv, variables, config_file),
        listens=Served.from_urls((*inside[index].listen_client, *inside[index].listen_client_http)),
        variables=variables,
        config_file=config_file,
        sees_pki_root=backend.sees_host_files,
    )


class Launch:
    """One start of one or more members.

    Args:
        description: of the start, for messages.
        seconds: time that the whole start may take.
        is_given_up: as for :func:`start_cluster`.
    """

    def __init__(self, description: str, seconds: float, is_given_up: Callable[[], bool] = bool) -> None:
        self._description = description
        self._seconds = seconds
        self._is_given_up = is_given_up
        self._deadline = time.monotonic() + seconds

    def start(self, members: Sequence[Member], *, one_by_one: bool) -> None:
        """Start members and wait until etcd's own log says that they serve clients.

        Args:
            members: the members to start.
            one_by_one: start each member when the port of the previous one answers; for members without
                data. Each asks the others whether it was a member before, and a bound port that does not
                answer yet delays it by one second.

        Raises:
            PortTakenError: if a port is taken.
            ClusterStartError: if a member ends, or the deadline passes.
        """
        for member in members:
            try:
                member.start()
            except OSError as error:
                raise self._failure(member, f"it cannot be run: {error}") from error
            if one_by_one and member is not members[-1]:
                self._await(
                    [member], lambda readiness: readiness.serves_peers, "its peer port does not answer"
                )
        self.await_served(members)

    def await_served(self, members: Sequence[Member]) -> None:
        """Wait until the log of every member says that it serves clients. It raises as :meth:`start` does."""
        self._await(members, lambda readiness: readiness.ready, "it does not serve clients")

    def await_health(self, members: Sequence[Member]) -> None:
        """Wait until every member reports itself healthy on an authenticated ``/health``.

        Raises:
            ClusterStartError: if a member ends, or the deadline passes.
        """
        for member in members:
            gateway = gateway_of(member)
            while (problem := gateway.health()) is not None:
                if self._is_over():
                    raise self._failure(member, f"not healthy after {self._seconds:g} s: {problem}")
                if member.server.wait(_HEALTH_GLANCE_SECONDS):
                    raise self._failure(member, f"it has ended; last answer: {problem}")

    def _await(
        self, members: Sequence[Member], reached: Callable[[ReadinessLog], bool], problem: str
    ) -> None:
        pending = list(members)
        while pending := [member for member in pending if not self._reached(member, reached)]:
            if self._is_over():
                raise self._failure(pending[0], f"{problem} after {self._seconds:g} s")
            # wait returns at once when the member ends; its log is read in between.
            pending[0].server.wait(_GLANCE_SECONDS)

    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline or self._is_given_up()

    def _reached(self, member: Member, reached: Callable[[ReadinessLog], bool]) -> bool:
        # In this order, so that the last lines of a member that has ended are read.
        ended = not member.running
        readiness = member.readiness()
        if readiness.address_in_use:
            raise PortTakenError(str(self._failure(member, "one of its ports is taken")))
        if ended:
            raise self._failure(member, f"it ended with status {member.server.exit_status}")
        return reached(readiness)

    def _failure(self, member: Member, happened: str) -> EtcdFailedError:
        """Return an error that ends with the last lines of etcd's log."""
        attempted = f"{self._description}, member {member.name} at {member.client_url}"
        tail = member.log().splitlines()[-_LOG_LINES:]
        end = "its log is empty" if not tail else "\n".join(["its log ends:", *tail])
        reason, log = why_not_started(happened, member.log())
        return EtcdFailedError(
            f"{attempted} did not come up: {happened}; {end}", member=member.name, reason=reason, log=log
        )
