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
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.errors import ClusterStartError, InconclusiveError, UnobservedError, UnreadableJSONError
from pytest_etcdtls.etcd.admin import Gateway, call
from pytest_etcdtls.facts.access import status_request
from pytest_etcdtls.facts.experiments import (
    Counts,
    Experiment,
    ExperimentAttempt,
    ForeignMember,
    RenewalUnderLoad,
    Step,
    SuiteOffer,
    SuiteOffers,
    is_of_experiment,
)
from pytest_etcdtls.facts.fact import Observation, Planned, Work, fact, fact_of
from pytest_etcdtls.lifecycle.lab import Lab, der, start_like
from pytest_etcdtls.lifecycle.settings import LISTED, MEASUREMENTS, SETTINGS, measures, runs, setting_of
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_pair
from pytest_etcdtls.pki.profile import SERVER, Identity
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.attempt import Attempt, Request, StreamEnd
from pytest_etcdtls.tls.connection import make_attempt
from pytest_etcdtls.tls.hello import TLS1_2, ClientHello
from pytest_etcdtls.tls.http import encode
from pytest_etcdtls.tls.suites import suite_name
from pytest_etcdtls.untrusted import read_json

if TYPE_CHECKING:
    from pytest_etcdtls.lifecycle.settings import Measurement

T = TypeVar("T")


class ExperimentResults(Struct, frozen=True):
    """The results of a setting's experiments by name: an observation, or why there is none."""

    outcomes: Mapping[str, Any]

    def of(self, type_: type[T], experiment: str) -> T:
        """Return the observation of an experiment.

        Raises:
            UnobservedError: if it has none.
        """
        outcome = self.outcomes[experiment]
        if isinstance(outcome, UnobservedError):
            raise type(outcome)(outcome.reason)
        if not isinstance(outcome, type_):
            raise TypeError(
                f"the experiment {experiment} gives {type(outcome).__name__}, not {type_.__name__}"
            )
        return outcome


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
def suite_offers(results: Annotated[ExperimentResults, "suites"]) -> SuiteOffers:
    """Return the cipher suites that etcd accepts when it is started with ``--cipher-suites``."""
    return results.of(SuiteOffers, "cipher-suites")


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
_GLANCE_SECONDS = 0.01
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
    cluster = lab.cluster
    deadline = time.monotonic() + _REJECTION_SECONDS
    while time.monotonic() < deadline:
        lab.raise_if_given_up()
        refused = [
            _REJECTED.findall(member.log()[length:])
            for member, length in zip(cluster.members, before, strict=False)
        ]
        if cluster.members[_LAST].ready:
            return "", True
        if all(len(lines) >= _TIMES for lines in refused):
            return str(refused[0][0]).strip(), False
        threading.Event().wait(_GLANCE_SECONDS)
    return "", False


UNLISTED = (0xC02C, 0xC009, 0xC00A)
"""ECDHE-ECDSA with AES-256-GCM and AES-CBC-SHA. Every etcd offers them by default."""


@measures("cipher-suites")
def _suites(lab: Lab) -> SuiteOffers:
    """Offer each cipher suite separately, on both ports."""
    offers = [
        SuiteOffer(
            role=role,
            suite=suite_name(code),
            listed=code in LISTED,
            exchange=lab.send_hello(
                role, ClientHello(purpose=f"experiment: {suite_name(code)}", version=TLS1_2, suites=(code,))
            ),
        )
        for role in (Role.CLIENT, Role.PEER)
        for code in LISTED + UNLISTED
    ]
    return SuiteOffers(etcd_version=lab.cluster.version, flags=lab.flags, offers=tuple(offers))


READER = "reader"
"""The user, and the common name of its certificate, that may read one key."""

_GRANTED, _OTHER_KEY = b"granted", b"other"
_RANGE = "/etcdserverpb.KV/Range"


def _turn_on(gateway: Gateway) -> str:
    """Create the users and enable authentication. Return the password of ``root``.

    ``reader`` may read one key. The common name of the server's own certificate has the role ``root``: if the
    gateway used this identity for a client without a name, that client could do everything.

    Raises:
        ClusterStartError: if etcd refuses a request.
    """
    password = secrets.token_urlsafe(18)
    call(gateway, "auth/user/add", {"name": "root", "password": password})
    call(gateway, "auth/role/add", {"name": "root"})
    call(gateway, "auth/user/grant", {"user": "root", "role": "root"})
    for name in (READER, str(SERVER.common_name)):
        call(gateway, "auth/user/add", {"name": name, "options": {"no_password": True}})
    call(gateway, "auth/user/grant", {"user": SERVER.common_name, "role": "root"})
    call(gateway, "auth/role/add", {"name": "readers"})
    permission = {"permType": "READ", "key": _base64(_GRANTED)}
    call(gateway, "auth/role/grant", {"name": "readers", "perm": permission})
    call(gateway, "auth/user/grant", {"user": READER, "role": "readers"})
    call(gateway, "auth/enable", {})
    return password


@runs("users")
def _users(lab: Lab) -> Iterator[Step]:
    """Make requests as several users, over gRPC and over the gateway."""
    password = _turn_on(lab.member.gateway())
    reader = lab.issue(Role.CLIENT, "reader", common_name=READER)
    other = lab.issue(Role.CLIENT, "other", common_name="other")
    nameless = lab.issue(Role.CLIENT, "nameless", common_name=None, organization="etcd")
    token = _token(lab, nameless, password)

    def grpc(who: str, identity: Identity, key: bytes = _GRANTED) -> ExperimentAttempt:
        request = Request(
            purpose=f"experiment: {who}",
            path=_RANGE,
            protocol=Protocol.GRPC,
            # RangeRequest of etcd's rpc.proto: key, limit, count_only.
            body=encode({1: key, 3: 1, 9: 1}),
        )
        return lab.call(who, identity, request)

    def by_gateway(who: str, identity: Identity, token: str = "") -> ExperimentAttempt:
        request = Request(
            purpose=f"experiment: {who}",
            path="/v3/kv/range",
            protocol=Protocol.GATEWAY,
            body=json.dumps({"key": _base64(_GRANTED), "limit": "1"}).encode(),
            headers={"authorization": token} if token else {},
        )
        return lab.call(who, identity, request)

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


def _token(lab: Lab, identity: Identity, password: str) -> str:
    """Return a token for ``root``. The gateway issues none to a client with a common name.

    Raises:
        InconclusiveError: if etcd issues no token.
    """
    request = Request(
        purpose="experiment: authenticate",
        path="/v3/auth/authenticate",
        protocol=Protocol.GATEWAY,
        body=json.dumps({"name": "root", "password": password}).encode(),
    )
    attempt = lab.call("root", identity, request).attempt
    try:
        body = read_json(attempt.response.body if attempt.response else b"", raw=True)
    except UnreadableJSONError as error:
        raise InconclusiveError(f"no token for root: {attempt.describe()}") from error
    if not isinstance(body, dict) or "token" not in body:
        raise InconclusiveError(f"no token for root: {attempt.describe()}")
    return str(body["token"])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


RENEWALS = 5

_EXAMPLES = 3
_TRAFFIC_SECONDS = 15.0
"""The longest wait for requests. Each request has its own time-out."""

_AFTER_RENEWAL = 50
"""How many requests each client makes after a renewal, without the new certificate, before the wait ends."""

_BETWEEN_RENEWALS = 10
"""The least number of requests of each client between two renewals."""


class UnclearError(Exception):
    """A request got no answer within its time-out."""


class LostError(Exception):
    """A request was refused, answered with an error, or cut off."""


class Traffic:
    """Clients that make requests until they are stopped."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the counts and the leaves
        self._stop = False
        self._counts: dict[str, Counts] = {}
        self._leaves: dict[str, bytes] = {}
        self._threads: list[threading.Thread] = []

    def add(self, client: str, request: Callable[[], bytes], gate: AbstractContextManager[object]) -> None:
        """Add a client.

        Args:
            client: a description of the client.
            request: makes a request and returns the served certificate in DER, if it is known.
            gate: a context manager that is entered for every request.
        """
        self._counts[client] = Counts(served=0)
        # A daemon thread does not block the exit of the interpreter after an interrupt.
        thread = threading.Thread(target=self._work, args=(client, request, gate), name=client, daemon=True)
        self._threads.append(thread)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stop = True
        for thread in self._threads:
            thread.join()

    def await_requests(self, number: int, leaf: bytes | None = None) -> bool:
        """Wait until every client has made a number of further requests, or one has got the certificate.

        In the latter case, every client has made at least one further request. Return whether a client has
        got the certificate.
        """
        with self._changed:
            start = self._requests()

            def made(least: int) -> bool:
                return all(requests - start[name] >= least for name, requests in self._requests().items())

            def seen() -> bool:
                return leaf is not None and leaf in self._leaves.values()

            self._changed.wait_for(lambda: made(number) or (seen() and made(1)), _TRAFFIC_SECONDS)
            return seen()

    def counts(self) -> dict[str, Counts]:
        """Return the counts of every client."""
        with self._changed:
            return dict(self._counts)

    def _requests(self) -> dict[str, int]:
        return {name: counts.served + counts.lost + counts.unclear for name, counts in self._counts.items()}

    def _work(self, client: str, request: Callable[[], bytes], gate: AbstractContextManager[object]) -> None:
        while not self._stop:
            ending, leaf = "served", b""
            examples: tuple[str, ...] = ()
            try:
                with gate:
                    leaf = request()
            except UnclearError as error:
                ending, examples = "unclear", (str(error),)
            except LostError as error:
                ending, examples = "lost", (str(error),)
            with self._changed:
                counts = self._counts[client]
                self._counts[client] = replace(
                    counts,
                    examples=(*counts.examples, *examples)[:_EXAMPLES],
                    **{ending: getattr(counts, ending) + 1},
                )
                self._leaves[client] = leaf or self._leaves.get(client, b"")
                self._changed.notify_all()


@measures("rotation-loses-no-request")
def _renew_under_load(lab: Lab) -> RenewalUnderLoad:
    """Renew the certificate of the client port under load, with the same key."""
    served = lab.served(Role.CLIENT)
    # In a container, a file is missing for a moment while it is replaced: no client may connect then.
    paused = lab.cluster.origin == "container"
    gate: AbstractContextManager[object] = threading.Lock() if paused else nullcontext()
    open_connection = _OpenConnection(lab)
    traffic = Traffic()
    traffic.add("new connections", _NewConnections(lab).request, gate)
    traffic.add("an open connection", open_connection.request, nullcontext())
    seen = 0
    try:
        with traffic:
            traffic.await_requests(_BETWEEN_RENEWALS)
            for _ in range(RENEWALS):
                lab.raise_if_given_up()
                renewed = lab.another_pair(Role.CLIENT, same_key=True)
                with gate:
                    lab.member.replace_files({"server.crt": encode_certificates(renewed.chain)})
                seen += traffic.await_requests(_AFTER_RENEWAL, der(renewed))
                traffic.await_requests(_BETWEEN_RENEWALS)
    finally:
        open_connection.close()
        lab.member.replace_files({"server.crt": encode_certificates(served.chain)})
    return RenewalUnderLoad(
        etcd_version=lab.cluster.version,
        renewals=RENEWALS,
        seen=seen,
        paused=paused,
        counts=traffic.counts(),
    )


class _NewConnections:
    """A client that opens a connection for every request: over HTTP/1.1, the gateway and gRPC in turn."""

    def __init__(self, lab: Lab) -> None:
        self._listener = lab.listener(Role.CLIENT)
        self._seconds = lab.seconds
        client = lab.cluster.pki.client
        self._requests = cycle(
            status_request(self._listener, client, None, protocol, "renewal under load")
            for protocol in (Protocol.HTTP1, Protocol.GATEWAY, Protocol.GRPC)
        )

    def request(self) -> bytes:
        """Make the next request.

        Raises:
            LostError, UnclearError: if it is not answered well.
        """
        attempt = make_attempt(self._listener, next(self._requests), self._seconds)
        if _is_good(attempt):
            return attempt.chain[0]
        message = f"new connection, {attempt.protocol}: {attempt.describe()}"
        raise UnclearError(message) if attempt.stream_end is StreamEnd.TIMEOUT else LostError(message)


def _is_good(attempt: Attempt) -> bool:
    response = attempt.response
    return (
        response is not None
        and response.status == http.HTTPStatus.OK
        and response.headers.get("grpc-status", "0") == "0"
    )


class _OpenConnection:
    """A client that makes all requests on one connection, and opens another only if that breaks."""

    def __init__(self, lab: Lab) -> None:
        # http.client reconnects automatically after the connection is closed.
        self._connection = lab.member.gateway().connection()
        self._connection.timeout = lab.seconds

    def request(self) -> bytes:
        """Make the next request.

        Raises:
            LostError, UnclearError: if it is not answered well.
        """
        try:
            self._connection.request("GET", "/version")
            response = self._connection.getresponse()
            response.read()
        except TimeoutError as error:
            self.close()
            raise UnclearError(f"open connection: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise LostError(f"open connection: {type(error).__name__}: {error}") from error
        if response.status != http.HTTPStatus.OK:
            raise LostError(f"open connection: HTTP {response.status}")
        return b""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
