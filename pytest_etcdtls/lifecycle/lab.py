"""Clusters for experiments, and the operations of an experiment.

An experiment changes what a running etcd has: its files, its users, its members. It must not change the
cluster that is judged, so it has one of its own, with the same etcd:
:mod:`pytest_etcdtls.lifecycle.settings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.errors import ClusterStartError, InconclusiveError, NotApplicableError, UsageError
from pytest_etcdtls.etcd.clocks import until
from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
from pytest_etcdtls.etcd.config import SECURITY_FIELDS, ClusterConfig
from pytest_etcdtls.etcd.etcd_flags import UnknownFlagError
from pytest_etcdtls.etcd.member import Member
from pytest_etcdtls.etcd.sources import EtcdSource
from pytest_etcdtls.facts.access import status_request
from pytest_etcdtls.facts.experiments import ExperimentAttempt, Step
from pytest_etcdtls.pki.profile import CLIENT, NO_CERTIFICATE, PEER_CLIENT, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request
from pytest_etcdtls.tls.connection import make_attempt

_TRIES = 3
# The log of 3.5 and newer in JSON, and the plain text of 3.4.
_REMOTE = re.compile(r'(?:"remote-addr":"|rejected connection from ")(\S+?):\d+"')

_OFFERS: Mapping[Role, tuple[tuple[Protocol, TLSVersion | None], ...]] = {
    Role.CLIENT: (
        (Protocol.HTTP1, None),
        (Protocol.HTTP1, TLSVersion.TLS1_2),
        (Protocol.GRPC, None),
    ),
    Role.PEER: ((Protocol.HTTP1, None), (Protocol.HTTP1, TLSVersion.TLS1_2)),
}
"""Protocol and TLS version of an identity's attempts; ``None`` offers every version."""


Clients = Mapping[str, Mapping[Role, Identity]]
"""Clients by their description and the role of the port on which they are tried."""


class Lab:
    """A running cluster for experiments.

    Args:
        cluster: the dedicated cluster.
        seconds: the time-out of one attempt, and of waiting for a line in etcd's log.
        is_given_up: returns whether the result is no longer needed.
    """

    def __init__(self, cluster: Cluster, seconds: float, is_given_up: Callable[[], bool] = bool) -> None:
        self.cluster = cluster
        self.seconds = seconds
        self._is_given_up = is_given_up
        self._listeners = {
            (listener.member, listener.role): listener for listener in cluster.target().listeners
        }

    @property
    def member(self) -> Member:
        """The first member."""
        return self.cluster.members[0]

    def listener(self, role: Role) -> Listener:
        """Return the first member's listener of that role."""
        return self._listeners[self.member.name, role]

    def file_of(self, role: Role) -> str:
        """Return the name of the files with the certificate and the key of a port."""
        return "peer" if role is Role.PEER else "server"

    def served(self, role: Role) -> Identity:
        """Return the identity that the first member serves on a port from its start."""
        pki, name = self.cluster.pki, self.member.name
        return pki.peers[name] if role is Role.PEER else pki.servers[name]

    def another_pair(self, role: Role, *, same_key: bool = False) -> Identity:
        """Issue another identity that the first member can serve on a port."""
        pki, plan, tree = self.cluster.pki, self.cluster.config.pki, self.cluster.pki.authorities
        peer = role is Role.PEER
        issuer, profile = (tree.peer_issuer, plan.peer) if peer else (tree.server_issuer, plan.server)
        key = self.served(role).key if same_key else None
        return issuer.issue(profile, name=self.file_of(role), key=key, hosts=pki.members[0].hosts)

    def issue(self, role: Role, name: str, **changes: object) -> Identity:
        """Issue an identity for clients of that port, with some fields of the profile changed."""
        tree = self.cluster.pki.authorities
        peer = role is Role.PEER
        issuer, profile = (tree.peer_issuer, PEER_CLIENT) if peer else (tree.client_issuer, CLIENT)
        return issuer.issue(replace(profile, **changes), name=name)  # type: ignore[arg-type]

    @property
    def good_clients(self) -> Mapping[Role, Identity]:
        """A good client of each port."""
        return {Role.CLIENT: self.cluster.pki.client, Role.PEER: self.cluster.pki.peer_client}

    def raise_if_given_up(self) -> None:
        """Raise InconclusiveError if the run was interrupted, so that nobody needs the result."""
        if self._is_given_up():
            raise InconclusiveError("the run was interrupted")

    def _make(self, role: Role, request: Request) -> Attempt:
        """Make an attempt. If its ending is unclear and that is not our doing, repeat it, at most twice."""
        self.raise_if_given_up()
        for _ in range(_TRIES):
            attempt = make_attempt(self.listener(role), request, self.seconds)
            if attempt.ending is not Ending.UNCLEAR or attempt.local:
                break
        return attempt

    def attempts(
        self, who: str, role: Role, identity: Identity, on_disk: bytes | None = None
    ) -> tuple[ExperimentAttempt, ...]:
        """Make attempts with an identity, one for each protocol and TLS version of that port."""
        return tuple(
            self.attempt(who, role, identity, protocol, version, on_disk)
            for protocol, version in _OFFERS[role]
        )

    def step(self, name: str, done: str, clients: Clients) -> Step:
        """Make attempts with each client on each of its ports, and return them as a step."""
        attempts = (
            made
            for who, identities in clients.items()
            for role, identity in identities.items()
            for made in self.attempts(who, role, identity)
        )
        return Step(name=name, done=done, attempts=tuple(attempts))

    def good_client(self, role: Role, on_disk: Identity) -> tuple[ExperimentAttempt, ...]:
        """Make attempts with the good client of a port, whose file has that certificate."""
        return self.attempts("good client", role, self.good_clients[role], der(on_disk))

    def attempt(
        self,
        who: str,
        role: Role,
        identity: Identity,
        protocol: Protocol = Protocol.HTTP1,
        version: TLSVersion | None = None,
        on_disk: bytes | None = None,
        suites: str = "",
    ) -> ExperimentAttempt:
        """Make one attempt with an identity."""
        request = status_request(self.listener(role), identity, version, protocol, f"experiment: {who}")
        attempt = self._make(role, replace(request, suites=suites))
        return ExperimentAttempt(who=who, role=role, attempt=attempt, on_disk=on_disk)

    def call(self, who: str, identity: Identity, **request: Any) -> ExperimentAttempt:  # noqa: ANN401
        """Make a request on the client port, with these fields."""
        request |= {"purpose": f"experiment: {who}", "identity": identity}
        made = self._make(Role.CLIENT, Request(**request))
        return ExperimentAttempt(who=who, role=Role.CLIENT, attempt=made)

    def seen_as(self, role: Role) -> str:
        """Return our address as the member sees it, from its log line about a client without a certificate.

        If the member accepts that client, return the local address, which is correct on one host.

        Raises:
            InconclusiveError: if the member refuses the client and logs no line.
        """
        attempt = self.attempt("client without a certificate", role, NO_CERTIFICATE).attempt
        if attempt.ending is Ending.SERVED:
            return attempt.local_address.rpartition(":")[0].strip("[]")
        addresses = until(lambda: _REMOTE.findall(self.member.log()), self.seconds)
        if not addresses:
            raise InconclusiveError("etcd's log does not have the address of the refused connection")
        return str(addresses[-1]).strip("[]").partition("%")[0]

    @property
    def flags(self) -> tuple[str, ...]:
        """The cluster's flags that differ from the defaults."""
        config, default = self.cluster.config, ClusterConfig()
        return tuple(
            f"--{field.replace('_', '-')}={_value(getattr(config, field))}"
            for field in SECURITY_FIELDS
            if getattr(config, field) != getattr(default, field)
        )


def der(identity: Identity) -> bytes:
    """Return the DER encoding of the leaf, as sent in the handshake."""
    return identity.chain[0].public_bytes(Encoding.DER)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "true" if value is True else str(value or "")


def start_like(target: Target, config: ClusterConfig, is_given_up: Callable[[], bool]) -> Cluster:
    """Start another cluster with the same etcd as a target.

    Args:
        target: the target.
        config: of the other cluster.
        is_given_up: returns whether the cluster is no longer needed.

    Raises:
        NotApplicableError: if the target is live, or its etcd lacks a flag that the configuration needs.
        InconclusiveError: if the cluster does not start.
    """
    if target.origin == "live" or target.source is None or target.etcd_version is None:
        raise NotApplicableError("only on a cluster of our own: it restarts etcd and changes its files")
    source = EtcdSource(
        kind=target.origin, location=target.source, version=target.etcd_version, why="as the one judged"
    )
    try:
        return start_cluster(config, source, is_given_up=is_given_up)
    except UnknownFlagError as error:
        raise NotApplicableError(str(error)) from error
    except (ClusterStartError, UsageError) as error:
        why, *log = str(error).split("\n")
        raise InconclusiveError(f"the cluster for the experiment did not start: {why}", *log) from error
