"""An owned cluster: its members with their keys and certificates, and what can be changed while it runs.

etcd's log says when a member serves clients; where clients are accepted, ``/health`` is asked too.
"""

from __future__ import annotations

import http.client
import io
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, Self, Unpack

from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.etcd.admin import (
    Gateway,
    MemberChange,
    add_learner,
    change_members,
    enable_authentication,
    promote_member,
    remove_member,
)
from pytest_etcdtls.etcd.clocks import clock_lead, moved_clock
from pytest_etcdtls.etcd.config import (
    START_SECONDS,
    ClusterConfig,
    member_addresses,
    ports_needed,
    write_pki,
)
from pytest_etcdtls.etcd.home import Home, Start, why_ended
from pytest_etcdtls.etcd.launch import MemberAddresses
from pytest_etcdtls.etcd.member import Member, build_member, owned_target
from pytest_etcdtls.etcd.request import ClusterChoices, ClusterRequest
from pytest_etcdtls.etcd.sources import EtcdSource, find_etcd
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates, encode_key, write_files
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.command import without_variables
from pytest_etcdtls.untrusted.printable import pasted

if TYPE_CHECKING:
    import httpx

_PASSWORD = "root-password"  # noqa: S105 - name of the file that has it


def start_cluster(
    config: ClusterConfig | None = None,
    source: EtcdSource | None = None,
    *,
    directory: Path | None = None,
    keep: bool = False,
    seconds: float = START_SECONDS,
    is_given_up: Callable[[], bool] = bool,
    **changes: Unpack[ClusterChoices],
) -> Cluster:
    """Start an owned cluster and wait until it serves clients. As a context manager, it stops the cluster.

    Args:
        config: the configuration (default: one member, mutual TLS on both ports).
        source: the etcd to start, if the changes name none (default: an available one).
        directory: parent of the cluster's directory (default: the system's temporary directory).
        keep: :meth:`Cluster.stop` leaves the cluster running.
        seconds: time that the start may take.
        is_given_up: returns whether nobody waits for a start any more, which then fails.
        changes: changes to fields of the configuration; ``version``, ``binary`` or ``image`` for a certain
            etcd, ``preset``, ``key_type``.

    Raises:
        UsageError: if no such etcd is available, its version does not support the configuration, or the PKI
            cannot be generated.
        ClusterStartError: if it does not start. The message ends with the last lines of etcd's log.
    """
    request = ClusterRequest.read(config, changes)
    actual, etcd = request.config(ClusterConfig()), request.source(lambda: source or find_etcd())
    home = Home(etcd, directory, config=actual, keep=keep)
    return Cluster(actual, home, seconds=seconds, is_given_up=is_given_up)


class Cluster:
    """An owned cluster, started by :func:`start_cluster`. As a context manager, it stops the cluster.

    Attributes:
        config: the configuration that it was started with.
        pki: the keys and certificates that were generated for it.
        members: the members in the order ``m0``, ``m1`` ...
        user: name and password of the administrator if authentication is enabled. They are never printed.
        directory: directory of all files of the cluster on this host (0700).
        pki_directory: directory of the keys and certificates on this host (0700).
    """

    pki: ClusterPKI

    def __init__(
        self, config: ClusterConfig, home: Home, *, seconds: float, is_given_up: Callable[[], bool] = bool
    ) -> None:
        """Start the cluster in its directory; :func:`start_cluster` describes the arguments."""
        self.config = config
        self.members: tuple[Member, ...] = ()
        self.user: tuple[str, str] | None = None
        self.directory = home.path
        self.pki_directory = home.pki
        self._home = home
        self._seconds = seconds
        self._is_given_up = is_given_up
        self._alone = config.size == 1
        self._named = config.size
        self._paused: set[str] = set()
        with home.coming_up(self._etcd):
            self._come_up()
        self._files = _contents(home.pki)
        self._started = self._commands()

    def __enter__(self) -> Self:
        """Return the cluster."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the cluster."""
        self.stop()

    @property
    def version(self) -> str:
        """Version as ``etcd --version`` prints it: ``3.6.16``."""
        return self._home.etcd.version

    @property
    def origin(self) -> Literal["process", "container"]:
        """The kind of backend that runs it."""
        return self._home.etcd.kind

    @property
    def source(self) -> str:
        """Path of the binary or name of the image."""
        return self._home.etcd.location

    @property
    def _etcd(self) -> str:
        return f"etcd {self.version} ({self.source})"

    @property
    def endpoints(self) -> tuple[str, ...]:
        """URLs of the client listeners of all members, reachable from here."""
        return tuple(member.client_url for member in self.members)

    @property
    def network(self) -> str | None:
        """Name of the container engine's network that the members are on; ``None`` for processes."""
        return self._home.backend.network

    @property
    def network_endpoints(self) -> tuple[str, ...]:
        """URLs of the client listeners of all members for other containers on :attr:`network`."""
        return tuple(self._home.backend.network_url(member.addresses) for member in self.members)

    def archive(self, *names: str, directory: str = "") -> bytes:
        """Return files of the PKI as a tar archive, for ``put_archive`` of a container's.

        Args:
            names: logical names (default: what a client needs: ``server-ca.crt``, ``client.crt``,
                ``client.key``).
            directory: directory of the files in the archive.
        """
        import tarfile  # few need it

        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in names or ("server-ca.crt", "client.crt", "client.key"):
                path = self.members[0].file(name)
                entry = tarfile.TarInfo(str(PurePosixPath(directory, name)))
                entry.size, entry.mode = path.stat().st_size, 0o600
                tar.addfile(entry, io.BytesIO(path.read_bytes()))
        return file.getvalue()

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which etcdctl talks to all members as the client.

        ``ETCDCTL_USER`` is among them if authentication is enabled.
        """
        member = self.members[0]
        variables = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(self.endpoints)}
        names = {"CACERT": "server-ca.crt", "CERT": "client.crt", "KEY": "client.key"}
        variables |= {f"ETCDCTL_{name}": str(member.file(file)) for name, file in names.items()}
        return variables | ({"ETCDCTL_USER": ":".join(self.user)} if self.user else {})

    def target(self, label: str | None = None) -> Target:
        """Return the cluster as a target. The label defaults to ``etcd-VERSION``."""
        return owned_target(self._home.etcd, self.config, self.pki, self.members, label=label, user=self.user)

    def difference(self) -> str:
        """Return how the cluster differs from the one that was started, empty if it does not.

        Compared are its processes, its files and its member list, not what etcd stores.
        """
        if self._paused:
            return f"{', '.join(self.paused)} is paused"
        for member in self.members:
            try:
                if not member.running:
                    return f"{member.name} is not running"
            except OSError as error:
                return f"{member.name} cannot be found: {error}"
        return self._other_commands() or self._other_files() or self._other_members()

    def _commands(self) -> dict[str, tuple[str, ...]]:
        """Return what each member runs, by name."""
        return {member.name: (self.source, *member.argv) for member in self.members}

    def _other_commands(self) -> str:
        now = self._commands()
        if now.keys() != self._started.keys():
            return f"members {', '.join(now)} instead of {', '.join(self._started)}"
        changed = [name for name, runs in now.items() if runs != self._started[name]]
        return f"{', '.join(changed)} was started with another command line" if changed else ""

    def _other_files(self) -> str:
        try:
            now = _contents(self.pki_directory)
        except OSError as error:
            return f"its files cannot be read: {error}"
        changed = sorted(
            str(path.relative_to(self.pki_directory))
            for path in self._files.keys() | now.keys()
            if self._files.get(path) != now.get(path)
        )
        return f"other files: {', '.join(changed)}" if changed else ""

    def _other_members(self) -> str:
        """Compare the member list, unless the cluster may refuse its own client."""
        if not self.config.expects_health:
            return ""
        first = self.members[0]
        try:
            status, answer = first.gateway().post("/v3/cluster/member/list", {})
        except (OSError, http.client.HTTPException) as error:
            return f"{first.name} does not answer: {type(error).__name__}: {error}"
        if status != HTTPStatus.OK:
            return ""  # with authentication enabled, etcd may refuse the list to a client without a token
        listed = answer.get("members")
        if not isinstance(listed, list):
            return f"{first.name} answers {answer}"
        # A member that was added and has not started has no name.
        names = sorted(str(entry.get("name", "")) for entry in listed if isinstance(entry, dict))
        started = sorted(member.name for member in self.members)
        return "" if names == started else f"members {', '.join(names)} instead of {', '.join(started)}"

    def ended(self) -> str:
        """Return which member is not running and why, empty if every member runs."""
        whys = (why_ended(f"{self._etcd}, member {member.name}", member.server) for member in self.members)
        return next(filter(None, whys), "")

    def stop(self) -> None:
        """Stop every member within one second and remove every file; do nothing to a kept cluster.

        It may be called repeatedly.
        """
        for index, member in enumerate(self.members):
            # An engine does not stop a paused container.
            if member.name in self._paused and not self._home.keep:
                with suppress(OSError):
                    self.resume_member(index)
        self._home.stop()

    def stop_member(self, index: int) -> None:
        """Stop one member. Its data is kept."""
        self._home.stop_servers([self.members[index].name])

    def start_member(self, index: int, *, wait: bool = True) -> None:
        """Start a stopped member again and, if ``wait`` is set, wait until it serves clients.

        Raises:
            ClusterStartError: with ``wait``, if it does not serve clients in time.
            OSError: without ``wait``, if it cannot be run.
        """
        if wait:
            self._start([self.members[index]])
        else:
            self.members[index].server.start()

    def restart_member(self, index: int) -> None:
        """Stop one member and start it again with the current files."""
        self.stop_member(index)
        self.start_member(index)

    def restart(self) -> None:
        """Stop all members and start them again together."""
        self._home.stop_servers([member.name for member in self.members])
        self._start(self.members)

    def upgrade_member(
        self,
        index: int,
        *,
        version: str | None = None,
        binary: str | Path | None = None,
        image: str | None = None,
    ) -> None:
        """Stop one member and start it again on its data with another etcd, with the flags of that version.

        ``version`` and ``source`` are those of the latest etcd from then on, while other members may run
        another one. A member of 3.7 needs a cluster whose version is 3.6, and so on: see ``etcdcluster`` of
        ``/version``, which follows some seconds after the last member.

        Args:
            index: of the member.
            version: ``3.7`` or ``3.7.3``, one that is available.
            binary: path of an etcd, or a name on ``PATH``, for a cluster of processes.
            image: name of an image, for a cluster of containers.

        Raises:
            UsageError: if not exactly one etcd is named, it is not available, one etcd is a process and the
                other a container, or that version does not support the configuration.
            ClusterStartError: if the member does not serve clients in time.
        """
        request = ClusterRequest(version=version, binary=binary, image=image)
        if not request.names_etcd:
            raise UsageError("upgrade_member needs the new etcd: version=, binary= or image=")
        source = request.source(find_etcd, lambda: [self._home.etcd])
        if source.kind != self.origin:
            raise UsageError(
                f"member {self.members[index].name} runs in a {self.origin}, and {source.location} is for a "
                f"{source.kind}: processes are upgraded to another binary, containers to another image"
            )
        source.flags()  # before the member is stopped, in case that etcd is not there
        self._home.etcd = source
        self._replace(index)

    def _replace(self, index: int) -> None:
        """Stop one member and start it again on its data, with the command line that it has from now on."""
        self.stop_member(index)
        replaced = self._member([member.addresses for member in self.members], index)
        self.members = (*self.members[:index], replaced, *self.members[index + 1 :])
        self._start([replaced])

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
        before = self.pki.files(with_ca_keys=self._home.keep)
        self.pki = self.pki.with_member(self._home.backend.names(name))
        after = self.pki.files(with_ca_keys=self._home.keep)
        write_files(self.pki_directory, {path: after[path] for path in after.keys() - before.keys()})
        ports = iter(self._home.claim(ports_needed(self.config)))
        own = member_addresses(self.config, name, ports, self._home.host)
        addresses = [*(member.addresses for member in self.members), own]
        added = self._member(addresses, len(self.members), joins=True)
        try:
            # Without a vote until it runs: with one, the others would have no quorum until then.
            self._change_members(own, self.members, add_learner)
            start = Start(self._etcd, self._seconds)
            start.run([added.server])
            self._change_members(own, self.members, promote_member)
            self._await_health(start, [*self.members, added])
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
        self._await_health(Start(self._etcd, self._seconds), others)

    def _forget(self, name: str) -> None:
        """Stop a member for good, and remove its data and its keys."""
        self._paused.discard(name)
        self._home.drop(name)
        self.pki = self.pki.without_member(name)

    def _change_members(
        self, addresses: MemberAddresses, others: Sequence[Member], change: MemberChange
    ) -> None:
        """Change the member list by a request to one of the others."""
        running = next((m for m in others if m.running and m.name not in self._paused), None)
        if running is None:
            raise ClusterStartError(
                f"the members of the cluster cannot be changed for {addresses.name}: no other member runs"
            )
        peer_urls = self._home.backend.listens_on(addresses).advertise_peer
        change_members(self.gateway(running), peer_urls, self._seconds, change)

    def gateway(self, member: Member) -> Gateway:
        """Return a client of a member's HTTP endpoints, logged in if authentication is enabled.

        Raises:
            ClusterStartError: if etcd refuses the administrator.
        """
        gateway = member.gateway()
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

    def rotate_client_certificate(self) -> None:
        """Replace certificate and key of the client. etcd accepts the old one too until it expires."""
        self._rotate("client")

    def rotate_ca(self, kind: Literal["client", "server", "peer"]) -> None:
        """Replace a CA and restart all members, since etcd reads its trusted CAs at its start only.

        The CA of ``kind`` is new wherever the plan of the PKI uses it, and so are all certificates. A client
        with the old files is refused.

        Raises:
            ClusterStartError: if a member does not serve clients in time.
        """
        self.pki = self.pki.with_new_ca(kind)
        write_pki(self.pki, self.config, self.pki_directory, with_ca_keys=self._home.keep)
        for member in self.members:
            member.server.copy_files()
        self.restart()

    def _rotate(self, kind: Literal["server", "peer", "client"]) -> None:
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

    @property
    def is_kept(self) -> bool:
        """Whether it is left running at the end."""
        return self._home.keep

    def _come_up(self) -> None:
        config, home = self.config, self._home
        home.etcd.flags()  # before keys are generated, in case that etcd is not there
        lead, client = timedelta(seconds=clock_lead()), config.pki.client
        is_valid = client.valid_from <= -lead < client.valid_from + client.valid_for
        if lead and config.expects_health and not is_valid:
            # Also since cryptography keeps the class datetime of its first use: that of freezegun.
            raise ClusterStartError(f"{self._etcd} is not started{moved_clock()}")
        names = [home.backend.names(f"m{index}") for index in range(config.size)]
        try:
            self.pki = ClusterPKI.generate(config.pki, names)
        except ValueError as error:
            raise UsageError(f"the cluster's PKI cannot be generated: {error}") from error
        write_pki(self.pki, config, home.pki, with_ca_keys=home.keep)
        home.start(ports_needed(config) * config.size, self._start_members)
        if config.authentication:
            self.user = enable_authentication(self.members[0].gateway())
            write_files(self.directory, {PurePosixPath(_PASSWORD): self.user[1].encode()})

    def _start_members(self, ports: Sequence[int]) -> None:
        """Create the members that listen on these ports, and start them."""
        free, size = iter(ports), self.config.size
        addresses = [
            member_addresses(self.config, f"m{index}", free, self._home.host) for index in range(size)
        ]
        self.members = tuple(self._member(addresses, index) for index in range(size))
        self._start(self.members, one_by_one=True)

    def _member(self, addresses: Sequence[MemberAddresses], index: int, *, joins: bool = False) -> Member:
        return build_member(
            self._home, self.config, self.pki, addresses, index, alone=self._alone, joins=joins
        )

    def _start(self, members: Sequence[Member], *, one_by_one: bool = False) -> None:
        start = Start(self._etcd, self._seconds, self._is_given_up)
        start.run([member.server for member in members], one_by_one=one_by_one)
        self._await_health(start, members)

    def _await_health(self, start: Start, members: Sequence[Member]) -> None:
        if self.config.expects_health:
            start.await_health({member.server: member.gateway().health for member in members})


def keep_message(cluster: Cluster) -> str:
    """Return the commands to use a kept cluster and to stop it, as lines to paste."""
    lines = [f"{cluster._etcd} keeps running in {cluster.directory}:"]
    for member in cluster.members:
        urls = (member.client_url, member.plain_client_url, member.client_http_url, member.metrics_url)
        served = ", ".join(url for url in urls if url is not None)
        lines.append(f"  {member.name}: clients {served}; peers {member.peer_url}")
    lines += ["  talk to it:", *(f"    {line}" for line in _client_commands(cluster))]
    return "\n".join([*lines, "  stop it:", f"    {cluster._home.stop_command()}"])


def _client_commands(cluster: Cluster) -> list[str]:
    member = cluster.members[0]
    ca, certificate, key = (str(member.file(name)) for name in ("server-ca.crt", "client.crt", "client.key"))
    # Other users can read the arguments of a process, but not its environment.
    password = f"$({pasted('cat', str(cluster.directory / _PASSWORD))})"
    user = [f'ETCDCTL_USER="root:{password}"'] if cluster.user else []
    begin = [*filter(None, [pasted(*without_variables(os.environ))]), *user]
    endpoints, url = ",".join(cluster.endpoints), member.client_http_url or member.client_url
    credentials = (f"--cacert={ca}", f"--cert={certificate}", f"--key={key}")
    etcdctl = pasted("etcdctl", f"--endpoints={endpoints}", *credentials, "endpoint", "status")
    return [
        " ".join([*begin, etcdctl]),
        pasted("curl", "-g", "--cacert", ca, "--cert", certificate, "--key", key, f"{url}/version"),
    ]


def _contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
