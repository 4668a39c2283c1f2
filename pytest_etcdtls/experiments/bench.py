"""What an experiment may do with its cluster: try identities, replace files, say what was done.

The connections made here go to a cluster of the experiment's own: no plan counts them and no cap bounds them,
as those are for the listeners of the target. Judges nothing.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pytest_etcdtls.cluster.command_line import SECURITY_FIELDS
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.interface import Cluster, Member
from pytest_etcdtls.errors import InconclusiveError
from pytest_etcdtls.observations.attempt import Attempt, Protocol, TLSVersion, Way
from pytest_etcdtls.observations.experiment import Experiment, Step, Trial
from pytest_etcdtls.observations.greeting import Greeting, Hello
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.files import encode_certificates, encode_key
from pytest_etcdtls.pki.identity import NO_CERTIFICATE, Identity
from pytest_etcdtls.pki.profile import Profile
from pytest_etcdtls.probes.admission import status_request
from pytest_etcdtls.probes.attempt import make_attempt
from pytest_etcdtls.probes.greeting import make_greeting
from pytest_etcdtls.probes.registry import Request
from pytest_etcdtls.target import Listener, Role

_TRIES = 3
_GLANCE_SECONDS = 0.005
_REMOTE = re.compile(r'(?:"remote-addr":"|rejected connection from ")(\S+?):\d+"')

_PLACES: Mapping[Role, tuple[tuple[Protocol, TLSVersion | None], ...]] = {
    Role.CLIENT: (
        (Protocol.HTTP1, None),
        (Protocol.HTTP1, TLSVersion.TLS1_2),
        (Protocol.GRPC, None),
    ),
    Role.PEER: ((Protocol.HTTP1, None), (Protocol.HTTP1, TLSVersion.TLS1_2)),
}
"""What an identity is tried by: every etcd speaks TLS 1.2, and the best version where that is another."""


class Bench:
    """A running cluster on which an experiment is made.

    Args:
        cluster: made for it.
        seconds: for one attempt, and for a line to appear in etcd's log.
    """

    def __init__(self, cluster: Cluster, seconds: float) -> None:
        self.cluster = cluster
        self.seconds = seconds
        self._listeners = {
            (listener.member, listener.role): listener for listener in cluster.target().listeners
        }

    @property
    def member(self) -> Member:
        """The first member, or the only one."""
        return self.cluster.members[0]

    def listener(self, role: Role) -> Listener:
        """Return the first member's listener of that role."""
        return self._listeners[self.member.name, role]

    def attempt(self, role: Role, request: Request) -> Attempt:
        """Make a connection; one that ends unclear is made again, at most twice."""
        attempt = make_attempt(self.listener(role), request, self.seconds)
        for _ in range(_TRIES - 1):
            if attempt.way is not Way.UNCLEAR or attempt.local:
                break
            attempt = make_attempt(self.listener(role), request, self.seconds)
        return attempt

    def greet(self, role: Role, hello: Hello) -> Greeting:
        """Send a hello; one that is not answered is sent again, at most twice."""
        greeting = make_greeting(self.listener(role), hello, self.seconds)
        for _ in range(_TRIES - 1):
            if greeting.answered:
                break
            greeting = make_greeting(self.listener(role), hello, self.seconds)
        return greeting

    def trials(
        self, who: str, role: Role, identity: Identity, on_disk: bytes | None = None
    ) -> tuple[Trial, ...]:
        """Try an identity by every way in which that port is used."""
        return tuple(
            self.trial(who, role, identity, speech, version, on_disk) for speech, version in _PLACES[role]
        )

    def trial(
        self,
        who: str,
        role: Role,
        identity: Identity,
        speech: Protocol = Protocol.HTTP1,
        version: TLSVersion | None = None,
        on_disk: bytes | None = None,
    ) -> Trial:
        """Try an identity once."""
        request = status_request(self.listener(role), identity, version, speech, f"experiment: {who}")
        return Trial(who=who, role=role, attempt=self.attempt(role, request), on_disk=on_disk)

    def call(self, who: str, identity: Identity, request: Request) -> Trial:
        """Make a request of its own on the client port."""
        attempt = self.attempt(Role.CLIENT, replace(request, identity=identity))
        return Trial(who=who, role=Role.CLIENT, attempt=attempt)

    def seen_as(self, role: Role) -> str:
        """Return our address as the member sees it, by what it logs of a client without a certificate.

        Where it does not refuse that one, our own word counts, which is right on one host.

        Raises:
            InconclusiveError: if it refuses and logs nothing.
        """
        attempt = self.trial("nobody", role, NO_CERTIFICATE).attempt
        if attempt.way is Way.SERVED:
            return attempt.local_address.rpartition(":")[0].strip("[]")
        deadline = time.monotonic() + self.seconds
        while not (found := _REMOTE.findall(self.member.log())):
            if time.monotonic() > deadline:
                raise InconclusiveError(
                    "etcd's log does not say where the connection came from that it refused"
                )
            threading.Event().wait(_GLANCE_SECONDS)
        return str(found[-1]).strip("[]").partition("%")[0]

    def experiment(self, name: str, *steps: Step) -> Experiment:
        """Return the experiment with what it was made on."""
        return Experiment(name=name, etcd_version=self.cluster.version, flags=self.flags, steps=steps)

    @property
    def flags(self) -> tuple[str, ...]:
        """In what the cluster's flags differ from the default ones."""
        config, default = self.cluster.config, ClusterConfig()
        return tuple(
            f"--{field.replace('_', '-')}={_worded(getattr(config, field))}"
            for field in SECURITY_FIELDS
            if getattr(config, field) != getattr(default, field)
        )


def step(name: str, done: str, *trials: Iterable[Trial]) -> Step:
    """Return a step with all these trials."""
    return Step(name=name, done=done, trials=tuple(trial for group in trials for trial in group))


def issue(authority: CertificateAuthority, profile: Profile, name: str, **changes: object) -> Identity:
    """Return an identity of that CA with a profile that is changed in some fields."""
    return authority.issue(replace(profile, **changes), name=name)  # type: ignore[arg-type]


def as_files(identity: Identity, name: str) -> dict[str, bytes]:
    """Return certificate and key as the files ``NAME.crt`` and ``NAME.key``."""
    if identity.key is None:
        raise ValueError(f"the identity {identity.name} has no key")
    return {f"{name}.crt": encode_certificates(identity.chain), f"{name}.key": encode_key(identity.key)}


def _worded(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "true" if value is True else str(value or "")
