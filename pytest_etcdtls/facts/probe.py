"""The probe contract: one function per observation type, the context that it uses, and a conforming sample.

A probe makes its connections through its :class:`Context`, which bounds and records every one. A probe that
cannot make its observation raises an :class:`~pytest_etcdtls.errors.UnobservedError`.

Checks are tested on samples, without a network: see :func:`sample`.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from email.utils import format_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import RegistrationError, UnobservedError
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Request, Response, StreamEnd

if TYPE_CHECKING:
    from pytest_etcdtls.pki.bundle import ClusterPKI
    from pytest_etcdtls.tls.hello import ClientHello, Connection, HelloExchange


SAMPLED_AT: Final = datetime.now(UTC)
"""When every sample is observed."""

SAMPLE_FILES: Final = ("client.crt", "client.key")
"""Certificate and key of the accepted client."""

ETCD_PATHS: Final = {
    "/version": b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}',
    "/health": b'{"health":"true","reason":""}',
    "/livez": b"ok",
    "/readyz": b"ok",
    "/metrics": b'etcd_server_version{server_version="3.6.16"} 1\n',
    "/debug/vars": b"{}",
    "/members": b"[]",
}
"""Responses of a good etcd without further flags to GET."""

_OF_EVERY_LISTENER = frozenset({"/health", "/livez", "/readyz", "/metrics"})


@functools.cache
def sample_pki() -> ClusterPKI:
    """Return the PKI of all samples."""
    from pytest_etcdtls.pki.bundle import ClusterPKI
    from pytest_etcdtls.pki.profile import MemberNames, PKIPlan

    return ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])


def etcd_response(method: str, path: str, role: Role) -> Response:
    """Return the response of a good etcd to an accepted client; 404 if such a port does not serve the path.

    Args:
        method: of the request.
        path: of the URL, without a query.
        role: of the listener.
    """
    gateway = path.startswith("/v3/") and role in (Role.CLIENT, Role.CLIENT_HTTP)
    served = _OF_EVERY_LISTENER if role is Role.METRICS else ETCD_PATHS
    if gateway:
        status, body = (200, b"{}") if method == "POST" else (501, b'{"code":12,"message":"Not Implemented"}')
    elif path not in served:
        status, body = 404, b"404 page not found\n"
    elif method in ("GET", "HEAD"):
        status, body = 200, ETCD_PATHS[path]
    else:
        status, body = 405, b"Method Not Allowed\n"
    kind = "application/json" if gateway or status == 200 else "text/plain; charset=utf-8"
    headers = {"content-type": kind, "date": format_datetime(SAMPLED_AT, usegmt=True)}
    return Response(status=status, headers=headers, body=body)


@dataclass(frozen=True, slots=True)
class SampleListener:
    """A listener of a good etcd."""

    role: Role

    @property
    def url(self) -> str:
        """Its URL."""
        return "https://127.0.0.1:2380" if self.role is Role.PEER else "https://127.0.0.1:2379"

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The served certificates."""
        return (sample_pki().peers if self.role is Role.PEER else sample_pki().servers)["m0"].chain

    @property
    def trusted(self) -> x509.Certificate:
        """The CA that is trusted for clients."""
        return (sample_pki().peer_ca if self.role is Role.PEER else sample_pki().client_ca).certificate

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The protocols that are served."""
        if self.role is Role.PEER:
            return (Protocol.HTTP1,)
        return (Protocol.HTTP1, Protocol.GATEWAY, Protocol.GRPC)

    def attempt(self, **changes: Any) -> Attempt:  # noqa: ANN401 - fields of Attempt
        """Return an attempt of the accepted client that was served, with these fields changed."""
        facts: dict[str, Any] = {
            "url": self.url,
            "purpose": "sample",
            "identity": "client",
            "protocol": Protocol.HTTP1,
            "offered_version": TLSVersion.TLS1_3,
            "ending": Ending.SERVED,
            "phase": Phase.READ,
            "started_at": SAMPLED_AT,
            "version": "TLSv1.3",
            "cipher": "TLS_AES_128_GCM_SHA256",
            "group": "x25519",
            "certificate_requested": True,
            "key_proved": True,
            "announced_ca": (self.trusted.subject.public_bytes(),),
            "chain": tuple(certificate.public_bytes(Encoding.DER) for certificate in self.chain),
            "response": etcd_response("GET", "/version", Role.CLIENT),
            "first_bytes": b"HTTP/1.1 200 OK",
        }
        return Attempt(**(facts | changes))

    def refused(self, **changes: Any) -> Attempt:  # noqa: ANN401 - fields of Attempt
        """Return an attempt that was refused with a certificate alert, with these fields changed."""
        facts = {
            "ending": Ending.REFUSED,
            "alert": 42,
            "stream_end": StreamEnd.ALERT,
            "response": None,
            "first_bytes": b"",
        }
        return self.attempt(**(facts | changes))


T = TypeVar("T")


Observation = tuple[type[Any], str | None]
"""An observation of a listener: its type, with the key if there are several of that type."""


@dataclass(frozen=True, slots=True)
class SharedAttempts:
    """The attempts of requests that may share a connection.

    Attributes:
        tries: of the first request, as :meth:`Context.attempt` returns them.
        more: the attempts of all others on the same connection; empty if its course was unusual, so that each
            needs a connection of its own.
    """

    tries: tuple[Attempt, ...]
    more: tuple[Attempt, ...] = ()


class Context(typing.Protocol):
    """The context of a probe. ``listener`` is ``None`` for an observation of the whole target."""

    @property
    def target(self) -> Target:
        """The target."""
        ...

    @property
    def listener(self) -> Listener | None:
        """The listener to observe."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds that one attempt may take."""
        ...

    @property
    def connections(self) -> Sequence[Connection]:
        """Every connection that was made to the target so far, for any purpose.

        They depend on the observations made before, so a fact that a check judges must not depend on them.
        """
        ...

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        """Return another observation, of this listener unless another is named.

        Raises:
            UnobservedError: if it cannot be made.
        """
        ...

    def attempt(self, *requests: Request) -> list[tuple[Attempt, ...]]:
        """Make the connections concurrently and return the tries of each, in the order of the requests.

        An unclear attempt is repeated at most twice.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
            NotVerifiedError: if the listener stopped answering, or is a discovered one whose server has not
                proved who it is.
        """
        ...

    def attempt_shared(self, *sequences: Sequence[Request]) -> list[SharedAttempts]:
        """Make a connection for each sequence of requests, concurrently, and return the attempts.

        Raises:
            InconclusiveError, NotVerifiedError: as for :meth:`attempt`.
        """
        ...

    def shared_requests(self) -> Mapping[Observation, Request]:
        """Return the requests that can be sent on the connection of an accepted client, by observation.

        They are those of the observations of this listener that the run needs: see
        :attr:`Probe.shared_request`.
        """
        ...

    def send_hellos(self, *hellos: ClientHello) -> list[HelloExchange]:
        """Send each ClientHello on a connection of its own, concurrently, and return the replies in order.

        A hello without an answer is sent again at most twice, unless it is for once; the last reply counts.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
            NotVerifiedError: as for :meth:`attempt`.
        """
        ...

    def attempt_elsewhere(self, *requests: tuple[Listener, Request]) -> list[Attempt]:
        """Connect once to each of these addresses, none of which is a listener of the target.

        The attempts present no credentials and are not repeated. They share one cap on connections, and the
        plan counts them separately: see :attr:`Probe.elsewhere`.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...

    def is_abandoned(self) -> bool:
        """Return whether nobody waits for this observation any more."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Return a context that waits until nothing else is observed or experimented with."""
        ...

    def on_finish(self, work: Callable[[], object]) -> None:
        """Call a function after the observation has been handed over, also after an error."""
        ...

    def finish(self) -> None:
        """Call the functions that were passed to :meth:`on_finish`. The observer calls it."""
        ...

    def keep_silent(self, purpose: str, seconds: float) -> HelloExchange:
        """Connect once, send nothing for so many seconds, and return whether the server closed.

        Raises:
            InconclusiveError: if the cap on connections would be exceeded.
        """
        ...


def observed(
    context: Context, type_: type[T], key: str | None = None, listener: Listener | None = None
) -> T | None:
    """Return another observation as :meth:`Context.get` does, ``None`` if it cannot be made."""
    try:
        return context.get(type_, key, listener)
    except UnobservedError:
        return None


@dataclass(frozen=True, slots=True)
class Planned:
    """An observation that may be made: of which target, on which listener, with which key.

    Attributes:
        listener: ``None`` for an observation of the whole target.
        key: ``None`` if there is only one of its type.
    """

    target: Target
    listener: Listener | None = None
    key: str | None = None


Wanted = type[Any] | Observation
"""An observation that a probe requests: its type, with the key if there are several of that type."""

Cost = Callable[[Planned], int]
Needs = Callable[[Planned], Sequence[Wanted]]
SharedRequest = Callable[[Planned], Request | None]


def _not_shared(_planned: Planned) -> Request | None:
    return None


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Probe:
    """The function that makes observations of a type, and its bounds.

    Attributes:
        observation: its class.
        module: name of the module with the probe.
        function: makes the observation, with the key.
        keys: whether there are several observations of the type: ``none``, ``optional`` or ``needed``.
        cost: maximum number of connections that it makes itself, without retries.
        needs: the other observations (type, key) that it may request, on the same listener.
        across: which of them it requests of other listeners of the target too; true for all.
        elsewhere: maximum number of connections to addresses that are no listeners of the target.
        advertised: observations that it may request of each client URL that a member advertises and that is
            no listener of the target.
        reported: the observation may be in the report; false if it holds keys or tokens, or is reported in
            another form.
        before_proof: it may connect to a discovered listener whose server has not proved who it is. Its
            requests hold no credential.
        shared_request: returns the request of the observation if it can be sent on the connection on which
            the listener accepted the client; else ``None``.
    """

    observation: type[Any]
    module: str
    function: Callable[[Context, str | None], Any]
    keys: Literal["none", "optional", "needed"]
    cost: Cost
    needs: Callable[[Planned], Sequence[Observation]]
    across: bool | frozenset[type[Any]] = False
    elsewhere: Callable[[Target], int] | None = None
    advertised: tuple[type[Any], ...] = ()
    reported: bool = True
    before_proof: bool = False
    shared_request: SharedRequest = _not_shared

    def crosses(self, needed: type[Any]) -> bool:
        """Return whether it requests that observation of other listeners of the target too."""
        return self.across if isinstance(self.across, bool) else needed in self.across

    def check_key(self, key: str | None) -> None:
        """Check that the probe takes the key, or takes none.

        Raises:
            RegistrationError: if there is a key and the probe takes none, or none and it needs one.
        """
        name = self.observation.__name__
        if key is None and self.keys == "needed":
            raise RegistrationError(f'{name} needs a key: write Annotated[{name}, "..."], see {self.module}')
        if key is not None and self.keys == "none":
            raise RegistrationError(f"{name} has no key, and {key!r} is one: write {name} alone")


_PROBES: dict[type[Any], Probe] = {}
_SAMPLES: dict[type[Any], Callable[[SampleListener, str | None], Any]] = {}


def probe(
    type_: type[Any],
    *,
    cost: Cost | int,
    needs: Needs | Sequence[Wanted] = (),
    across: bool | Collection[type[Any]] = False,
    elsewhere: Callable[[Target], int] | None = None,
    advertised: Sequence[type[Any]] = (),
    reported: bool = True,
    before_proof: bool = False,
    shared_request: SharedRequest = _not_shared,
) -> Callable[[F], F]:
    """Register the function that makes observations of a type.

    The function takes the context. If there are several observations of the type on one listener, it takes
    a second parameter ``key``: ``key: str`` if it needs one, ``key: str | None`` if it can do without.

    Args:
        type_: the observation's class.
        cost: maximum number of connections without retries; a number or a function.
        needs: every other observation that it may request, its type or (type, key); or a function that
            returns them.
        across: which of them are requested of every listener of the target; true for all.
        elsewhere: maximum number of connections to addresses that are no listeners of the target.
        advertised: observations requested of client URLs that members advertise.
        reported: it may be in the report: it holds neither keys nor tokens.
        before_proof: it may connect to a discovered listener whose server has not proved who it is.
        shared_request: returns the request that can share the connection of the accepted client.

    Raises:
        RegistrationError: if the type has a probe already.
    """

    def register(function: F) -> F:
        if type_ in _PROBES:
            raise RegistrationError(f"observation type {type_.__name__} has a probe already")
        keys, called = _with_key(function)
        _PROBES[type_] = Probe(
            observation=type_,
            module=function.__module__,
            function=called,
            keys=keys,
            cost=cost if callable(cost) else lambda _: cost,
            needs=lambda planned: tuple(
                wanted if isinstance(wanted, tuple) else (wanted, None)
                for wanted in (needs(planned) if callable(needs) else needs)
            ),
            across=across if isinstance(across, bool) else frozenset(across),
            elsewhere=elsewhere,
            advertised=tuple(advertised),
            reported=reported,
            before_proof=before_proof,
            shared_request=shared_request,
        )
        return function

    return register


def sample(type_: type[Any]) -> Callable[[F], F]:
    """Register the function that returns a conforming observation of a type.

    No check has a finding about it, and counterexamples are made from it. The function takes the listener of
    the sample and, if there are several observations of the type, the key. Every observation that a check
    asks for needs one.

    Raises:
        RegistrationError: if the type has a sample already.
    """

    def register(function: F) -> F:
        if type_ in _SAMPLES:
            raise RegistrationError(f"observation type {type_.__name__} has a sample already")
        _SAMPLES[type_] = _with_key(function)[1]
        return function

    return register


def _with_key(
    function: Callable[..., Any],
) -> tuple[Literal["none", "optional", "needed"], Callable[[Any, str | None], Any]]:
    """Return whether a function takes a key, and a function that is always called with one."""
    _, *more = inspect.signature(function).parameters.values()
    if not more:

        @functools.wraps(function)
        def called(first: Any, _key: str | None) -> Any:  # noqa: ANN401 - of any probe or sample
            return function(first)

        return "none", called
    return ("needed" if more[0].annotation in ("str", str) else "optional"), function


def probes() -> Mapping[type[Any], Probe]:
    """Return the registered probes by observation type."""
    return MappingProxyType(_PROBES)


def samples() -> Mapping[type[Any], Callable[[SampleListener, str | None], Any]]:
    """Return the functions that return conforming observations, by observation type."""
    return MappingProxyType(_SAMPLES)


def probe_for(type_: type[Any]) -> Probe:
    """Return the probe of an observation type.

    Raises:
        RegistrationError: if it has none.
    """
    try:
        return _PROBES[type_]
    except KeyError:
        raise RegistrationError(
            f"no probe gets observations of type {type_.__name__}: add one with "
            f"@probe({type_.__name__}, ...) in {type_.__module__}"
        ) from None


def sample_for(type_: type[Any], key: str | None, role: Role) -> Any:  # noqa: ANN401 - of that type
    """Return a conforming observation.

    Args:
        type_: its class.
        key: which one of that class, ``None`` if there is only one.
        role: of the listener.

    Raises:
        RegistrationError: if the type has no sample.
    """
    if type_ not in _SAMPLES:
        made_in = _PROBES[type_].module if type_ in _PROBES else type_.__module__
        raise RegistrationError(
            f"{type_.__name__} has no conforming sample: add a function with @sample({type_.__name__}) in "
            f"{made_in.replace('.', '/')}.py"
        )
    return _SAMPLES[type_](SampleListener(role), key)
