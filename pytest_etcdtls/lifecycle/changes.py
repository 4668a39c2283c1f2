"""Experiments: what etcd does when its files or its flags change.

Files: certificates and keys, CA bundles and CRLs, renewal under load. Flags: allowed names, TLS versions,
cipher suites, and the CN as user name.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field
from itertools import cycle
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.cluster.admin import Gateway, gateway_of
from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import ClusterStartError, InconclusiveError, UnreadableJSONError
from pytest_etcdtls.facts.access import status_request
from pytest_etcdtls.facts.experiments import (
    Counts,
    Experiment,
    ExperimentAttempt,
    ForeignMember,
    RenewalUnderLoad,
    SuiteOffer,
    SuiteOffers,
)
from pytest_etcdtls.lifecycle.lab import Lab, as_files, issue, step
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.identities import WRONG_ADDRESS
from pytest_etcdtls.pki.profile import CLIENT, PEER, PEER_CLIENT, SERVER, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Request, StreamEnd
from pytest_etcdtls.tls.connection import make_attempt
from pytest_etcdtls.tls.hello import TLS1_2, ClientHello
from pytest_etcdtls.tls.http import encode
from pytest_etcdtls.tls.suites import suite_name
from pytest_etcdtls.untrusted import read_json

_EXAMPLES = 3
_TRAFFIC_SECONDS = 15.0
"""The longest wait for requests. Each request has its own time-out."""


class UnclearError(Exception):
    """A request got no answer within its time-out."""


class LostError(Exception):
    """A request was refused, answered with an error, or cut off."""


@dataclass
class _Count:
    """The counts of one client so far. The condition of :class:`Traffic` guards them."""

    served: int = 0
    lost: int = 0
    unclear: int = 0
    examples: list[str] = field(default_factory=list)
    leaf: bytes = b""

    @property
    def requests(self) -> int:
        return self.served + self.lost + self.unclear

    def tally(self) -> Counts:
        return Counts(served=self.served, lost=self.lost, unclear=self.unclear, examples=tuple(self.examples))


class Traffic:
    """Clients that make requests until they are stopped."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stop = False
        self._counts: dict[str, _Count] = {}
        self._threads: list[threading.Thread] = []

    def add(self, client: str, request: Callable[[], bytes], gate: AbstractContextManager[object]) -> None:
        """Add a client.

        Args:
            client: a description of the client.
            request: makes a request and returns the served certificate in DER, if it is known.
            gate: a context manager that is entered for every request.
        """
        self._counts[client] = _Count()
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
            start = {name: count.requests for name, count in self._counts.items()}

            def made(least: int) -> bool:
                return all(count.requests - start[name] >= least for name, count in self._counts.items())

            def seen() -> bool:
                return leaf is not None and any(count.leaf == leaf for count in self._counts.values())

            self._changed.wait_for(lambda: made(number) or (seen() and made(1)), _TRAFFIC_SECONDS)
            return seen()

    def tallies(self) -> dict[str, Counts]:
        """Return the counts of every client."""
        with self._changed:
            return {name: count.tally() for name, count in self._counts.items()}

    def _work(self, client: str, request: Callable[[], bytes], gate: AbstractContextManager[object]) -> None:
        count = self._counts[client]
        while not self._stop:
            try:
                with gate:
                    leaf = request()
            except UnclearError as error:
                self._note(count, lost=False, what=str(error))
            except LostError as error:
                self._note(count, lost=True, what=str(error))
            else:
                with self._changed:
                    count.served += 1
                    count.leaf = leaf
                    self._changed.notify_all()

    def _note(self, count: _Count, *, lost: bool, what: str) -> None:
        with self._changed:
            count.lost += lost
            count.unclear += not lost
            if len(count.examples) < _EXAMPLES:
                count.examples.append(what)
            self._changed.notify_all()


RENEWALS = 5

_PATIENCE = 50
"""How many requests each client makes after a renewal, without the new certificate, before the wait ends."""

_BETWEEN = 10
"""The least number of requests of each client between two renewals."""


def renew_under_load(bench: Lab, served: Identity, renew: Callable[[], Identity]) -> RenewalUnderLoad:
    """Renew the certificate of the client port under load, and restore the old one at the end.

    Args:
        bench: the cluster.
        served: the identity that is served before.
        renew: issues another certificate for the same key.
    """
    # In a container, a file is missing for a moment while it is replaced: no client may connect then.
    paused = bench.cluster.origin == "container"
    gate: AbstractContextManager[object] = threading.Lock() if paused else nullcontext()
    open_connection = _OpenConnection(bench)
    traffic = Traffic()
    traffic.add("new connections", _NewConnections(bench).request, gate)
    traffic.add("an open connection", open_connection.request, nullcontext())
    seen = 0
    try:
        with traffic:
            traffic.await_requests(_BETWEEN)
            for _ in range(RENEWALS):
                bench.go_on()
                renewed = renew()
                with gate:
                    bench.member.replace_files({"server.crt": encode_certificates(renewed.chain)})
                seen += traffic.await_requests(_PATIENCE, renewed.chain[0].public_bytes(Encoding.DER))
                traffic.await_requests(_BETWEEN)
    finally:
        open_connection.close()
        bench.member.replace_files({"server.crt": encode_certificates(served.chain)})
    return RenewalUnderLoad(
        etcd_version=bench.cluster.version,
        renewals=RENEWALS,
        seen=seen,
        paused=paused,
        tallies=traffic.tallies(),
    )


class _NewConnections:
    """A client that opens a connection for every request: over HTTP/1.1, the gateway and gRPC in turn."""

    def __init__(self, bench: Lab) -> None:
        self._listener = bench.listener(Role.CLIENT)
        self._seconds = bench.seconds
        client = bench.cluster.pki.client
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
        said = f"new connection, {attempt.protocol}: {attempt.describe()}"
        raise UnclearError(said) if attempt.stream_end is StreamEnd.TIMEOUT else LostError(said)


def _is_good(attempt: Attempt) -> bool:
    response = attempt.response
    return (
        response is not None
        and response.status == http.HTTPStatus.OK
        and response.headers.get("grpc-status", "0") == "0"
    )


class _OpenConnection:
    """A client that makes all requests on one connection, and opens another only if that breaks."""

    def __init__(self, bench: Lab) -> None:
        listener = bench.listener(Role.CLIENT)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(bench.member.file("client.crt"), bench.member.file("client.key"))
        # http.client reconnects automatically after the connection is closed.
        self._connection = http.client.HTTPSConnection(
            listener.host, listener.port, timeout=bench.seconds, context=context
        )

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


@dataclass(frozen=True, slots=True)
class Port:
    """The client port or the peer port, with the identity that it serves and a good client."""

    role: Role
    file: str
    served: Identity
    client: Identity


def port(bench: Lab, role: Role) -> Port:
    """Return the client port or the peer port of the first member."""
    pki, name = bench.cluster.pki, bench.member.name
    if role is Role.PEER:
        return Port(role, "peer", pki.peers[name], pki.peer_client)
    return Port(role, "server", pki.servers[name], pki.client)


def another_pair(bench: Lab, role: Role, *, same_key: bool = False) -> Identity:
    """Issue another identity that the first member can serve on a port."""
    pki, plan, tree = bench.cluster.pki, bench.cluster.config.pki, bench.cluster.pki.authorities
    peer = role is Role.PEER
    issuer, profile = (tree.peer_issuer, plan.peer) if peer else (tree.server_issuer, plan.server)
    key = port(bench, role).served.key if same_key else None
    return issuer.issue(profile, name=port(bench, role).file, key=key, hosts=pki.members[0].hosts)


def reload_pair(bench: Lab, role: Role) -> Experiment:
    """Replace the certificate and key of a port, and observe which certificate new handshakes get."""
    side, new = port(bench, role), another_pair(bench, role)
    before = _good(bench, side, side.served)
    bench.member.replace_files(as_files(new, side.file))
    after = _good(bench, side, new)
    bench.member.replace_files(as_files(side.served, side.file))
    return bench.experiment(
        "leaf-reload" if role is Role.CLIENT else "peer-leaf-reload",
        step("before", "the cluster was started", before),
        step("replaced", f"{side.file}.crt and {side.file}.key were replaced by another pair", after),
    )


def half_a_pair(bench: Lab) -> Experiment:
    """Replace a certificate before its key, then empty its file, and observe which clients are served."""
    sides = [port(bench, role) for role in (Role.CLIENT, Role.PEER)]
    new = {side.role: another_pair(bench, side.role) for side in sides}

    def put(files: Callable[[Port], Mapping[str, bytes]]) -> list[ExperimentAttempt]:
        """Replace files of both ports, then make attempts on both."""
        bench.member.replace_files({name: data for side in sides for name, data in files(side).items()})
        return [trial for side in sides for trial in _good(bench, side, new[side.role])]

    half = put(lambda side: {f"{side.file}.crt": encode_certificates(new[side.role].chain)})
    whole = put(lambda side: as_files(new[side.role], side.file))
    empty = put(lambda side: {f"{side.file}.crt": b""})
    put(lambda side: as_files(side.served, side.file))
    return bench.experiment(
        "half-pair-refused",
        step("half", "the certificate was replaced, its key was not yet", half),
        step("whole", "the key was replaced too", whole),
        step("empty", "the certificate's file was emptied", empty),
    )


def renewals(bench: Lab) -> RenewalUnderLoad:
    """Renew the certificate of the client port under load."""
    served = port(bench, Role.CLIENT).served
    return renew_under_load(bench, served, lambda: another_pair(bench, Role.CLIENT, same_key=True))


def _good(bench: Lab, side: Port, on_disk: Identity) -> tuple[ExperimentAttempt, ...]:
    return bench.trials("good client", side.role, side.client, der(on_disk.chain[0]))


def der(certificate: x509.Certificate) -> bytes:
    """Return the DER encoding of a certificate, as sent in the handshake."""
    return certificate.public_bytes(Encoding.DER)


def bundle(bench: Lab) -> Experiment:
    """Add a CA to the bundles and remove it again, each time with attempts before and after a restart."""
    pki = bench.cluster.pki
    added = CertificateAuthority.create("another CA")
    theirs = {
        Role.CLIENT: added.issue(pki.plan.client, name="client-of-another-ca"),
        Role.PEER: added.issue(pki.plan.peer_client, name="peer-of-another-ca"),
    }
    ours = {Role.CLIENT: pki.client, Role.PEER: pki.peer_client}

    def trust(*more: CertificateAuthority) -> None:
        bench.member.replace_files(
            {
                "client-ca.crt": encode_certificates(ca.certificate for ca in (pki.client_ca, *more)),
                "peer-ca.crt": encode_certificates(ca.certificate for ca in (pki.peer_ca, *more)),
            }
        )

    def tried() -> list[ExperimentAttempt]:
        return [
            trial
            for who, identities in (("client of another CA", theirs), ("good client", ours))
            for role, identity in identities.items()
            for trial in bench.trials(who, role, identity)
        ]

    before = tried()
    trust(added)
    added_running = tried()
    bench.cluster.restart()
    added_restarted = tried()
    trust()
    removed_running = tried()
    bench.cluster.restart()
    removed_restarted = tried()
    return bench.experiment(
        "ca-bundle",
        step("before", "the bundles hold one CA each", before),
        step("added", "another CA was added to both bundles", added_running),
        step("added, restarted", "etcd was restarted", added_restarted),
        step("removed", "the other CA was taken out of both bundles", removed_running),
        step("removed, restarted", "etcd was restarted", removed_restarted),
    )


CRL_FILE = "empty-crl.der"
"""The file of the CRL in force. At first the CRL is empty."""


@dataclass(frozen=True, slots=True)
class _Clients:
    """The clients that the CRL lists and the good clients, by the role of the port."""

    named: dict[Role, Identity]
    good: dict[Role, Identity]


def _clients(bench: Lab) -> _Clients:
    pki, tree = bench.cluster.pki, bench.cluster.pki.authorities
    return _Clients(
        named={
            Role.CLIENT: pki.revoked,
            Role.PEER: tree.peer_issuer.issue(pki.plan.peer_client, name="revoked-peer"),
        },
        good={Role.CLIENT: pki.client, Role.PEER: pki.peer_client},
    )


def _list(bench: Lab, *named: Identity, encoding: Literal["der", "pem"] = "der") -> dict[str, bytes]:
    """Return a CRL that lists exactly these identities."""
    pki = bench.cluster.pki
    # A CA with the same name and key that has not revoked a certificate yet.
    issuer = CertificateAuthority.from_key(
        pki.authorities.client_issuer.certificate, pki.authorities.client_issuer.key
    )
    for identity in named:
        issuer.revoke(identity.chain[0])
    return {CRL_FILE: issuer.crl(encoding)}


def _tried(bench: Lab, clients: _Clients) -> list[ExperimentAttempt]:
    return [
        trial
        for who, identities in (("named client", clients.named), ("good client", clients.good))
        for role, identity in identities.items()
        for trial in bench.trials(who, role, identity)
    ]


def reload_crl(bench: Lab) -> Experiment:
    """Add certificates to the CRL and remove them again."""
    clients = _clients(bench)
    empty = _tried(bench, clients)
    bench.member.replace_files(_list(bench, *clients.named.values()))
    listed = _tried(bench, clients)
    bench.member.replace_files(_list(bench))
    taken_off = _tried(bench, clients)
    return bench.experiment(
        "crl-reload",
        step("empty", "the list is empty", empty),
        step("listed", "the list was replaced by one with the named client's certificate", listed),
        step("taken off", "the list was replaced by an empty one again", taken_off),
    )


def encoding(bench: Lab) -> Experiment:
    """Replace a CRL in DER by one in PEM, then by a file that is not a CRL."""
    clients = _clients(bench)
    bench.member.replace_files(_list(bench, *clients.named.values(), encoding="pem"))
    pem = _tried(bench, clients)
    bench.member.replace_files({CRL_FILE: b"this is no list\n"})
    unreadable = _tried(bench, clients)
    bench.member.replace_files(_list(bench))
    der = _tried(bench, clients)
    return bench.experiment(
        "crl-encoding",
        step("pem", "the list with the named client's certificate is encoded as PEM", pem),
        step("unreadable", "the list's file was replaced by a file that is no list", unreadable),
        step("der", "the list is an empty one in DER", der),
    )


def separate(bench: Lab) -> Experiment:
    """Use the gateway of an etcd that serves one certificate and dials with another."""
    client = bench.cluster.pki.client
    return bench.experiment(
        "separate-client-certificate",
        step(
            "started",
            "etcd serves a certificate for servers only and was given another one to dial with",
            [
                bench.trial("good client", Role.CLIENT, client),
                bench.trial("good client by the gateway", Role.CLIENT, client, Protocol.GATEWAY),
            ],
        ),
    )


_REJECTION_SECONDS = 15.0
_GLANCE_SECONDS = 0.01
_REJECTED = re.compile(r"^.*rejected connection.*unknown authority.*$", re.MULTILINE)
_TIMES = 2
"""How often each other member must have refused it, so that a retry has failed too."""

_LAST = 2
"""Index of the member that is restarted. The other two are a quorum."""


def comes_back(bench: Lab) -> ForeignMember:
    """Restart a member with a foreign peer certificate, then with its own."""
    cluster, pki = bench.cluster, bench.cluster.pki
    names = pki.members[_LAST]
    own = pki.peers[names.name]
    foreign = CertificateAuthority.create("another CA").issue(pki.plan.peer, name="peer", hosts=names.hosts)
    before = [len(member.log()) for member in cluster.members[:_LAST]]
    cluster.stop_member(_LAST)
    cluster.members[_LAST].replace_files(as_files(foreign, "peer"))
    cluster.start_member(_LAST, wait=False)
    rejected, joined = _await_word(bench, before)
    cluster.stop_member(_LAST)
    cluster.members[_LAST].replace_files(as_files(own, "peer"))
    try:
        cluster.start_member(_LAST)
        joined_again = True
    except ClusterStartError:
        joined_again = False
    return ForeignMember(
        etcd_version=cluster.version, rejected=rejected, joined=joined, joined_again=joined_again
    )


def _await_word(bench: Lab, before: list[int]) -> tuple[str, bool]:
    """Wait until the other members log that they refused it, or until it logs that it serves clients."""
    cluster = bench.cluster
    deadline = time.monotonic() + _REJECTION_SECONDS
    while time.monotonic() < deadline:
        bench.go_on()
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


ADMITTED = "localhost"
"""The allowed hostname. The served certificate covers it too, since the gateway dials with it."""

_OTHER = "other.invalid"


def client_hostname(bench: Lab) -> Experiment:
    """Connect to the client port with the allowed hostname, with another, and with none."""
    issuer = bench.cluster.pki.authorities.client_issuer
    named = issue(issuer, CLIENT, "named", subject_alt_names=(ADMITTED,))
    other = issue(issuer, CLIENT, "other-name", subject_alt_names=(_OTHER,))
    nameless = issue(issuer, CLIENT, "no-name", common_name=ADMITTED)
    return bench.experiment(
        "allowed-hostname",
        step(
            "started",
            f"etcd was started to allow {ADMITTED}",
            bench.trials("client with the hostname", Role.CLIENT, named),
            bench.trials("client with another hostname", Role.CLIENT, other),
            bench.trials("client with the hostname as common name only", Role.CLIENT, nameless),
        ),
    )


def peer_cn(bench: Lab) -> Experiment:
    """Connect to the peer port with the allowed common name, with another, and with none."""
    issuer = bench.cluster.pki.authorities.peer_issuer
    return bench.experiment(
        "peer-allowed-cn",
        step(
            "started",
            f"etcd was started to allow {PEER.common_name}",
            bench.trials("peer with the common name", Role.PEER, issue(issuer, PEER_CLIENT, "named")),
            bench.trials(
                "peer with another common name",
                Role.PEER,
                issue(issuer, PEER_CLIENT, "other-cn", common_name="another-peer"),
            ),
            bench.trials(
                "peer without a common name",
                Role.PEER,
                issue(issuer, PEER_CLIENT, "no-cn", common_name=None, organization="etcd"),
            ),
        ),
    )


def peer_san(bench: Lab) -> Experiment:
    """Connect to the peer port with certificates that name our address, another one, or none."""
    issuer, us = bench.cluster.pki.authorities.peer_issuer, bench.seen_as(Role.PEER)
    named = {
        "peer with another address": (WRONG_ADDRESS,),
        "peer with our address": (us,),
        "peer with our address among others": (WRONG_ADDRESS, us),
        "peer without a name": (),
    }
    return bench.experiment(
        "peer-san",
        step(
            "started",
            f"the client's address is {us}",
            *(
                bench.trials(who, Role.PEER, issue(issuer, PEER_CLIENT, "peer", subject_alt_names=names))
                for who, names in named.items()
            ),
        ),
    )


def peer_hostname(bench: Lab) -> Experiment:
    """Connect to the peer port with the allowed hostname, with another, and with none."""
    issuer, us = bench.cluster.pki.authorities.peer_issuer, bench.seen_as(Role.PEER)
    named = issue(issuer, PEER_CLIENT, "named", subject_alt_names=(ADMITTED, us))
    other = issue(issuer, PEER_CLIENT, "other-name", subject_alt_names=(_OTHER, us))
    nameless = issue(issuer, PEER_CLIENT, "no-name", common_name=ADMITTED)
    return bench.experiment(
        "peer-allowed-hostname",
        step(
            "started",
            f"etcd was started to allow {ADMITTED}; the client's address is {us}",
            bench.trials("peer with the hostname", Role.PEER, named),
            bench.trials("peer with another hostname", Role.PEER, other),
            bench.trials("peer with the hostname as common name only", Role.PEER, nameless),
        ),
    )


LISTED = (0xC02B, 0xCCA9)
"""ECDHE-ECDSA with AES-128-GCM, which etcd requires in order to start, and with ChaCha20-Poly1305."""

UNLISTED = (0xC02C, 0xC009, 0xC00A)
"""ECDHE-ECDSA with AES-256-GCM and AES-CBC-SHA. Every etcd offers them by default."""


def versions(bench: Lab, name: str) -> Experiment:
    """Offer each TLS version separately, on both ports."""
    pki = bench.cluster.pki
    good = {Role.CLIENT: pki.client, Role.PEER: pki.peer_client}
    return bench.experiment(
        name,
        step(
            "started",
            f"etcd was started with {' '.join(bench.flags)}",
            (
                bench.trial(f"good client offering {version} only", role, identity, version=version)
                for role, identity in good.items()
                for version in TLSVersion
            ),
        ),
    )


def suites(bench: Lab) -> SuiteOffers:
    """Offer each cipher suite separately, on both ports."""
    offers = [
        SuiteOffer(
            role=role,
            suite=suite_name(code),
            listed=code in LISTED,
            exchange=bench.greet(
                role, ClientHello(purpose=f"experiment: {suite_name(code)}", version=TLS1_2, suites=(code,))
            ),
        )
        for role in (Role.CLIENT, Role.PEER)
        for code in LISTED + UNLISTED
    ]
    return SuiteOffers(etcd_version=bench.cluster.version, flags=bench.flags, offers=tuple(offers))


READER = "reader"
"""The user, and the common name of its certificate, that may read one key."""

_GRANTED, _OTHER_KEY = b"granted", b"other"
_RANGE = "/etcdserverpb.KV/Range"


def turn_on(gateway: Gateway) -> str:
    """Create the users and enable authentication. Return the password of ``root``.

    ``reader`` may read one key. The common name of the server's own certificate has the role ``root``: if the
    gateway used this identity for a client without a name, that client could do everything.

    Raises:
        InconclusiveError: if etcd refuses a request.
    """
    password = secrets.token_urlsafe(18)
    _call(gateway, "user/add", {"name": "root", "password": password})
    _call(gateway, "role/add", {"name": "root"})
    _call(gateway, "user/grant", {"user": "root", "role": "root"})
    for name in (READER, str(SERVER.common_name)):
        _call(gateway, "user/add", {"name": name, "options": {"no_password": True}})
    _call(gateway, "user/grant", {"user": SERVER.common_name, "role": "root"})
    _call(gateway, "role/add", {"name": "readers"})
    permission = {"permType": "READ", "key": _text(_GRANTED)}
    _call(gateway, "role/grant", {"name": "readers", "perm": permission})
    _call(gateway, "user/grant", {"user": READER, "role": "readers"})
    _call(gateway, "enable", {})
    return password


def users(bench: Lab) -> Experiment:
    """Make requests as several users, over gRPC and over the gateway."""
    password = turn_on(gateway_of(bench.member))
    issuer = bench.cluster.pki.authorities.client_issuer
    reader = issue(issuer, CLIENT, "reader", common_name=READER)
    other = issue(issuer, CLIENT, "other", common_name="other")
    nameless = issue(issuer, CLIENT, "nameless", common_name=None, organization="etcd")
    token = _token(bench, nameless, password)

    def grpc(who: str, identity: Identity, key: bytes = _GRANTED) -> ExperimentAttempt:
        request = Request(
            purpose=f"experiment: {who}",
            path=_RANGE,
            protocol=Protocol.GRPC,
            body=encode({1: key, 3: 1, 9: 1}),
        )
        return bench.call(who, identity, request)

    def by_gateway(who: str, identity: Identity, token: str = "") -> ExperimentAttempt:
        request = Request(
            purpose=f"experiment: {who}",
            path="/v3/kv/range",
            protocol=Protocol.GATEWAY,
            body=json.dumps({"key": _text(_GRANTED), "limit": "1"}).encode(),
            headers={"authorization": token} if token else {},
        )
        return bench.call(who, identity, request)

    return bench.experiment(
        "users",
        step(
            "over gRPC",
            f"users were created, {READER} may read one key; authentication was enabled",
            [
                grpc("certificate with the user's name, key that the user may read", reader),
                grpc("certificate with the user's name, another key", reader, _OTHER_KEY),
                grpc("certificate with the name of no user", other),
                grpc("certificate without a common name", nameless),
            ],
        ),
        step(
            "over the gateway",
            f"the name in the server's certificate, {SERVER.common_name}, is a user with every permission",
            [
                by_gateway("token of root", nameless, token),
                by_gateway("certificate with the user's name", reader),
                by_gateway("certificate without a common name", nameless),
            ],
        ),
    )


def _token(bench: Lab, identity: Identity, password: str) -> str:
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
    attempt = bench.call("root", identity, request).attempt
    try:
        body = read_json(attempt.response.body if attempt.response else b"", raw=True)
    except UnreadableJSONError as error:
        raise InconclusiveError(f"no token for root: {attempt.describe()}") from error
    if not isinstance(body, dict) or "token" not in body:
        raise InconclusiveError(f"no token for root: {attempt.describe()}")
    return str(body["token"])


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _call(gateway: Gateway, method: str, message: dict[str, object]) -> None:
    try:
        status, answer = gateway.post(f"/v3/auth/{method}", message)
    except (OSError, http.client.HTTPException) as error:
        raise InconclusiveError(f"authentication cannot be set up: {method}: {error}") from error
    if status != http.HTTPStatus.OK:
        raise InconclusiveError(f"authentication cannot be set up: {method}: status {status}, {answer}")
