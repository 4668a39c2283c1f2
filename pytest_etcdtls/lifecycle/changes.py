"""The facts of experiments, and those experiments that need more than a :class:`Lab` offers.

The others are beside the checks that judge them. A fact of an experiment reads the results of the setting
that has it. So the facts that the selected checks read say which clusters are started. At the end is a
renewal under load, with the clients that make the requests.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.errors import ClusterStartError, InconclusiveError, UnobservedError
from pytest_etcdtls.etcd.admin import USER, Gateway, call, enable_authentication
from pytest_etcdtls.etcd.clocks import until
from pytest_etcdtls.facts.access import status_request
from pytest_etcdtls.facts.experiments import (
    Counts,
    Experiment,
    ExperimentAttempt,
    ForeignMember,
    RenewalUnderLoad,
    Step,
    is_of_experiment,
)
from pytest_etcdtls.facts.fact import Observation, Planned, Work, fact, fact_of
from pytest_etcdtls.lifecycle.lab import Lab, der, start_like
from pytest_etcdtls.lifecycle.settings import MEASUREMENTS, SETTINGS, measures, runs, setting_of
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_pair
from pytest_etcdtls.pki.profile import SERVER, Identity
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Request, StreamEnd
from pytest_etcdtls.tls.connection import make_attempt
from pytest_etcdtls.tls.http import encode

if TYPE_CHECKING:
    from pytest_etcdtls.lifecycle.settings import Measurement


T = TypeVar("T")


class ExperimentResults(Struct, frozen=True):
    """The results of a setting's experiments by name: an observation, or why there is none."""

    outcomes: Mapping[str, Any]

    def of(self, type_: type[T], experiment: str) -> T:
        """Return the observation of an experiment, which is of that type.

        Raises:
            UnobservedError: if it has none.
        """
        outcome = self.outcomes[experiment]
        if isinstance(outcome, UnobservedError):
            raise outcome.again()
        return cast("T", outcome)


@fact(reported=False)
def experiment_results(key: str, target: Target, work: Work) -> ExperimentResults:
    """Start the cluster of a setting and run its experiments, one after the other."""
    setting = SETTINGS[key]
    cluster = start_like(target, setting.config, work.is_abandoned)
    work.on_finish(cluster.stop)
    lab = Lab(cluster, work.timeout, work.is_abandoned)
    outcomes = {}
    for name in setting.experiments:
        with work.alone() if name == setting.alone else nullcontext():
            outcomes[name] = _run(MEASUREMENTS[name], lab)
        if why := cluster.ended():  # what its clients saw was not because of the experiment
            outcomes[name] = InconclusiveError(f"etcd ended during the experiment: {why}")
    return ExperimentResults(outcomes)


def _run(experiment: Measurement, lab: Lab) -> Any:  # noqa: ANN401 - an observation of any type
    try:
        return experiment(lab)
    except UnobservedError as unobserved:
        return unobserved
    except (ClusterStartError, OSError) as error:
        return InconclusiveError(f"the experiment failed: {error}")


def _setting(planned: Planned) -> tuple[str | None]:
    return (setting_of(str(planned.key)),)


@fact
def experiment(key: str, results: Annotated[ExperimentResults, _setting]) -> Experiment:
    """Return the steps of an experiment and the attempts in each."""
    return results.of(Experiment, key)


@fact
def renewal_under_load(results: Annotated[ExperimentResults, "files"]) -> RenewalUnderLoad:
    """Return the requests that were made while certificates were renewed."""
    return results.of(RenewalUnderLoad, "rotation-loses-no-request")


@fact
def foreign_member(results: Annotated[ExperimentResults, "three-members"]) -> ForeignMember:
    """Return whether a member with a certificate of another CA could join."""
    return results.of(ForeignMember, "member-with-foreign-certificate-cannot-join")


def settings_for(target: Target, observations: Iterable[Observation]) -> list[str]:
    """Return the names of the clusters that are started for these observations, longest first."""
    wanted = {
        name
        for type_, key in observations
        if is_of_experiment(type_)
        for _, name in fact_of(type_).reads(Planned(target, None, key))
    }
    return [name for name in SETTINGS if name in wanted]


_REJECTION_SECONDS = 15.0
_REJECTED = re.compile(r"^.*rejected connection.*unknown authority.*$", re.MULTILINE)
_TIMES = 2
"""How often each other member must have refused it, so that a retry has failed too."""
_LAST = 2
"""Index of the member that is restarted. The other two are a quorum."""


@measures("member-with-foreign-certificate-cannot-join")
def _foreign_member(lab: Lab) -> ForeignMember:
    """Restart a member with a foreign peer certificate, then with its own."""
    cluster, pki = lab.cluster, lab.cluster.pki
    names = pki.members[_LAST]
    own = pki.peers[names.name]
    foreign = CertificateAuthority.create("another CA").issue(pki.plan.peer, name="peer", hosts=names.hosts)
    before = [len(member.log()) for member in cluster.members[:_LAST]]
    cluster.stop_member(_LAST)
    cluster.members[_LAST].replace_files(encode_pair(foreign, "peer"))
    cluster.start_member(_LAST, wait=False)
    rejected, joined = _await_rejection(lab, before)
    cluster.stop_member(_LAST)
    cluster.members[_LAST].replace_files(encode_pair(own, "peer"))
    try:
        cluster.start_member(_LAST)
        joined_again = True
    except ClusterStartError:
        joined_again = False
    return ForeignMember(
        etcd_version=cluster.version, rejected=rejected, joined=joined, joined_again=joined_again
    )


def _await_rejection(lab: Lab, before: list[int]) -> tuple[str, bool]:
    """Wait until the other members log that they refused it, or until it logs that it serves clients."""
    members = lab.cluster.members

    def rejected_or_joined() -> tuple[str, bool] | None:
        lab.raise_if_given_up()
        refused = [
            _REJECTED.findall(member.log()[length:]) for member, length in zip(members, before, strict=False)
        ]
        if members[_LAST].ready:
            return "", True
        return (refused[0][0].strip(), False) if all(len(lines) >= _TIMES for lines in refused) else None

    return until(rejected_or_joined, _REJECTION_SECONDS) or ("", False)


READER = "reader"
"""The user, and the common name of its certificate, that may read one key."""

_GRANTED, _OTHER_KEY = b"granted", b"other"
_RANGE = "/etcdserverpb.KV/Range"


def _turn_on(gateway: Gateway) -> tuple[str, str]:
    """Create the users and enable authentication. Return name and password of ``root``.

    ``reader`` may read one key. The common name of the server's own certificate has the role ``root``: if the
    gateway used this identity for a client without a name, that client could do everything.

    Raises:
        ClusterStartError: if etcd refuses a request.
    """
    for name in (READER, str(SERVER.common_name)):
        call(gateway, "auth/user/add", {"name": name, "options": {"no_password": True}})
    call(gateway, "auth/user/grant", {"user": SERVER.common_name, "role": USER})
    call(gateway, "auth/role/add", {"name": "readers"})
    permission = {"permType": "READ", "key": _base64(_GRANTED)}
    call(gateway, "auth/role/grant", {"name": "readers", "perm": permission})
    call(gateway, "auth/user/grant", {"user": READER, "role": "readers"})
    return enable_authentication(gateway)


@runs("users")
def _users(lab: Lab) -> Iterator[Step]:
    """Make requests as several users, over gRPC and over the gateway."""
    lab.cluster.user = _turn_on(lab.member.gateway())
    reader = lab.issue(Role.CLIENT, "reader", common_name=READER)
    other = lab.issue(Role.CLIENT, "other", common_name="other")
    nameless = lab.issue(Role.CLIENT, "nameless", common_name=None, organization="etcd")
    token = lab.cluster.gateway(lab.member).token

    def grpc(who: str, identity: Identity, key: bytes = _GRANTED) -> ExperimentAttempt:
        # RangeRequest of etcd's rpc.proto: key, limit, count_only.
        body = encode({1: key, 3: 1, 9: 1})
        return lab.call(who, identity, path=_RANGE, protocol=Protocol.GRPC, body=body)

    def by_gateway(who: str, identity: Identity, token: str = "") -> ExperimentAttempt:
        body = json.dumps({"key": _base64(_GRANTED), "limit": "1"}).encode()
        headers = {"authorization": token} if token else {}
        gateway = Protocol.GATEWAY
        return lab.call(who, identity, path="/v3/kv/range", protocol=gateway, body=body, headers=headers)

    yield Step(
        name="over gRPC",
        done=f"users were created, {READER} may read one key; authentication was enabled",
        attempts=(
            grpc("certificate with the user's name, key that the user may read", reader),
            grpc("certificate with the user's name, another key", reader, _OTHER_KEY),
            grpc("certificate with the name of no user", other),
            grpc("certificate without a common name", nameless),
        ),
    )
    yield Step(
        name="over the gateway",
        done=f"the name in the server's certificate, {SERVER.common_name}, is a user with every permission",
        attempts=(
            by_gateway("token of root", nameless, token),
            by_gateway("certificate with the user's name", reader),
            by_gateway("certificate without a common name", nameless),
        ),
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


RENEWALS = 5

_EXAMPLES = 3
_TRAFFIC_SECONDS = 15.0
"""The longest wait for requests. Each request has its own time-out."""

_AFTER_RENEWAL = 50
"""How many new connections are made after a renewal, without the new certificate, before the wait ends."""

_BETWEEN_RENEWALS = 10
"""The least number of requests of each client between two renewals."""

Answer = tuple[Literal["served", "lost", "unclear"], str, bytes]
"""How a request ended, that in words if it was not served, and the certificate of a new connection."""


class Client(threading.Thread):
    """A client that makes one request after the other until it is stopped.

    Args:
        request: makes a request.
        gate: a context manager that is entered for every request.

    Attributes:
        counts: of its requests.
        leaf: the certificate that was served last, if it is known.
    """

    def __init__(self, request: Callable[[], Answer], gate: AbstractContextManager[object]) -> None:
        super().__init__(daemon=True)  # it does not block the exit of the interpreter after an interrupt
        self._request = request
        self._gate = gate
        self._is_over = False
        self.counts = Counts(served=0)
        self.leaf = b""

    def run(self) -> None:
        """Make the requests."""
        while not self._is_over:
            with self._gate:
                ending, why, leaf = self._request()
            counts = self.counts
            examples = (*counts.examples, why) if why else counts.examples
            self.leaf = leaf or self.leaf
            self.counts = replace(
                counts, examples=examples[:_EXAMPLES], **{ending: getattr(counts, ending) + 1}
            )

    @property
    def requests(self) -> int:
        """Number of its requests."""
        return self.counts.served + self.counts.lost + self.counts.unclear

    def stop(self) -> None:
        """Make no further request."""
        self._is_over = True
        self.join()


@measures("rotation-loses-no-request")
def _renew_under_load(lab: Lab) -> RenewalUnderLoad:
    """Renew the certificate of the client port under load, with the same key."""
    served, listener = lab.served(Role.CLIENT), lab.listener(Role.CLIENT)
    requests = cycle(
        status_request(listener, lab.cluster.pki.client, None, protocol, "renewal under load")
        for protocol in (Protocol.HTTP1, Protocol.GATEWAY, Protocol.GRPC)
    )
    # In a container, a file is missing for a moment while it is replaced: no client may connect then.
    paused = lab.cluster.origin == "container"
    gate: AbstractContextManager[object] = threading.Lock() if paused else nullcontext()
    new = Client(lambda: _connect(listener, next(requests), lab.seconds), gate)
    # http.client reconnects automatically after the connection is closed.
    connection = lab.member.gateway().connection()
    connection.timeout = lab.seconds
    clients = {"new connections": new, "an open connection": Client(lambda: _ask(connection), nullcontext())}

    def go_on() -> None:
        least = {client: client.requests + _BETWEEN_RENEWALS for client in clients.values()}
        until(lambda: all(one.requests >= number for one, number in least.items()), _TRAFFIC_SECONDS)

    seen = 0
    for client in clients.values():
        client.start()
    try:
        go_on()
        for _ in range(RENEWALS):
            lab.raise_if_given_up()
            renewed, most = lab.another_pair(Role.CLIENT, same_key=True), new.requests + _AFTER_RENEWAL
            leaf = der(renewed)
            with gate:
                lab.member.replace_files({"server.crt": encode_certificates(renewed.chain)})
            until(lambda: new.leaf == leaf or new.requests >= most, _TRAFFIC_SECONDS)  # noqa: B023
            seen += new.leaf == leaf
            go_on()
    finally:
        for client in clients.values():
            client.stop()
        connection.close()
        lab.member.replace_files({"server.crt": encode_certificates(served.chain)})
    return RenewalUnderLoad(
        etcd_version=lab.cluster.version,
        renewals=RENEWALS,
        seen=seen,
        paused=paused,
        counts={name: client.counts for name, client in clients.items()},
    )


def _connect(listener: Listener, request: Request, seconds: float) -> Answer:
    """Make a request on a connection of its own."""
    attempt = make_attempt(listener, request, seconds)
    response = attempt.response
    if (
        response is not None
        and response.status == http.HTTPStatus.OK
        and response.headers.get("grpc-status", "0") == "0"
    ):
        return "served", "", attempt.chain[0]
    ending: Literal["lost", "unclear"] = "unclear" if attempt.stream_end is StreamEnd.TIMEOUT else "lost"
    return ending, f"new connection, {attempt.protocol}: {attempt.describe()}", b""


def _ask(connection: http.client.HTTPConnection) -> Answer:
    """Make a request on a connection that is open, or open another if it broke."""
    try:
        connection.request("GET", "/version")
        response = connection.getresponse()
        response.read()
    except TimeoutError as error:
        connection.close()
        return "unclear", f"open connection: {error}", b""
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return "lost", f"open connection: {type(error).__name__}: {error}", b""
    if response.status != http.HTTPStatus.OK:
        return "lost", f"open connection: HTTP {response.status}", b""
    return "served", "", b""
