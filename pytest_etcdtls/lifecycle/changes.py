"""Experiments: what etcd does when its files or its flags change.

Files: certificates and keys, CA bundles and CRLs. Flags: allowed names, TLS versions, cipher suites, users. A
renewal under load is at the end, with the clients that make the requests.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle
from typing import Literal, Self

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.cluster.admin import Gateway, call
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


class Port(Struct, frozen=True):
    """The client port or the peer port, with the identity that it serves and a good client."""

    role: Role
    file: str
    served: Identity
    client: Identity


def _port(lab: Lab, role: Role) -> Port:
    """Return the client port or the peer port of the first member."""
    pki, name = lab.cluster.pki, lab.member.name
    if role is Role.PEER:
        return Port(role, "peer", pki.peers[name], pki.peer_client)
    return Port(role, "server", pki.servers[name], pki.client)


def _another_pair(lab: Lab, role: Role, *, same_key: bool = False) -> Identity:
    """Issue another identity that the first member can serve on a port."""
    pki, plan, tree = lab.cluster.pki, lab.cluster.config.pki, lab.cluster.pki.authorities
    peer = role is Role.PEER
    issuer, profile = (tree.peer_issuer, plan.peer) if peer else (tree.server_issuer, plan.server)
    port = _port(lab, role)
    key = port.served.key if same_key else None
    return issuer.issue(profile, name=port.file, key=key, hosts=pki.members[0].hosts)


def _attempts_of_good_client(lab: Lab, port: Port, on_disk: Identity) -> tuple[ExperimentAttempt, ...]:
    return lab.attempts("good client", port.role, port.client, _der(on_disk))


def _der(identity: Identity) -> bytes:
    """Return the DER encoding of the leaf, as sent in the handshake."""
    return identity.chain[0].public_bytes(Encoding.DER)


def reload_pair(lab: Lab, role: Role) -> Experiment:
    """Replace the certificate and key of a port, and observe which certificate new handshakes get."""
    port, new = _port(lab, role), _another_pair(lab, role)
    before = _attempts_of_good_client(lab, port, port.served)
    lab.member.replace_files(as_files(new, port.file))
    after = _attempts_of_good_client(lab, port, new)
    lab.member.replace_files(as_files(port.served, port.file))
    return lab.experiment(
        "leaf-reload" if role is Role.CLIENT else "peer-leaf-reload",
        step("before", "the cluster was started", before),
        step("replaced", f"{port.file}.crt and {port.file}.key were replaced by another pair", after),
    )


def mismatched_pair(lab: Lab) -> Experiment:
    """Replace a certificate before its key, then empty its file, and observe which clients are served."""
    ports = [_port(lab, role) for role in (Role.CLIENT, Role.PEER)]
    new = {port.role: _another_pair(lab, port.role) for port in ports}

    def put(files: Callable[[Port], Mapping[str, bytes]]) -> list[ExperimentAttempt]:
        """Replace files of both ports, then make attempts on both."""
        lab.member.replace_files({name: data for port in ports for name, data in files(port).items()})
        return [made for port in ports for made in _attempts_of_good_client(lab, port, new[port.role])]

    half = put(lambda port: {f"{port.file}.crt": encode_certificates(new[port.role].chain)})
    whole = put(lambda port: as_files(new[port.role], port.file))
    empty = put(lambda port: {f"{port.file}.crt": b""})
    put(lambda port: as_files(port.served, port.file))
    return lab.experiment(
        "half-pair-refused",
        step("half", "the certificate was replaced, its key was not yet", half),
        step("whole", "the key was replaced too", whole),
        step("empty", "the certificate's file was emptied", empty),
    )


Clients = Mapping[str, Mapping[Role, Identity]]
"""Clients by their description and the role of the port on which they are tried."""


def _good_clients(lab: Lab) -> Mapping[Role, Identity]:
    return {Role.CLIENT: lab.cluster.pki.client, Role.PEER: lab.cluster.pki.peer_client}


def _attempts(lab: Lab, clients: Clients) -> list[ExperimentAttempt]:
    return [
        made
        for who, identities in clients.items()
        for role, identity in identities.items()
        for made in lab.attempts(who, role, identity)
    ]


def ca_bundle(lab: Lab) -> Experiment:
    """Add a CA to the bundles and remove it again, each time with attempts before and after a restart."""
    pki = lab.cluster.pki
    added = CertificateAuthority.create("another CA")
    clients: Clients = {
        "client of another CA": {
            Role.CLIENT: added.issue(pki.plan.client, name="client-of-another-ca"),
            Role.PEER: added.issue(pki.plan.peer_client, name="peer-of-another-ca"),
        },
        "good client": _good_clients(lab),
    }

    def trust(*others: CertificateAuthority) -> None:
        lab.member.replace_files(
            {
                "client-ca.crt": encode_certificates(ca.certificate for ca in (pki.client_ca, *others)),
                "peer-ca.crt": encode_certificates(ca.certificate for ca in (pki.peer_ca, *others)),
            }
        )

    before = _attempts(lab, clients)
    trust(added)
    added_running = _attempts(lab, clients)
    lab.cluster.restart()
    added_restarted = _attempts(lab, clients)
    trust()
    removed_running = _attempts(lab, clients)
    lab.cluster.restart()
    removed_restarted = _attempts(lab, clients)
    return lab.experiment(
        "ca-bundle",
        step("before", "the bundles hold one CA each", before),
        step("added", "another CA was added to both bundles", added_running),
        step("added, restarted", "etcd was restarted", added_restarted),
        step("removed", "the other CA was taken out of both bundles", removed_running),
        step("removed, restarted", "etcd was restarted", removed_restarted),
    )


CRL_FILE = "empty-crl.der"
"""The file of the CRL in force. At first the CRL is empty."""


def _clients_of_crl(lab: Lab) -> Clients:
    pki = lab.cluster.pki
    revoked_peer = pki.authorities.peer_issuer.issue(pki.plan.peer_client, name="revoked-peer")
    return {
        "named client": {Role.CLIENT: pki.revoked, Role.PEER: revoked_peer},
        "good client": _good_clients(lab),
    }


def _replace_crl(lab: Lab, named: Iterable[Identity] = (), encoding: Literal["der", "pem"] = "der") -> None:
    """Replace the CRL by one that lists exactly these identities."""
    signing = lab.cluster.pki.authorities.client_issuer
    # The same name and key, without the certificates that the cluster's own CA has revoked.
    issuer = CertificateAuthority.from_key(signing.certificate, signing.key)
    for identity in named:
        issuer.revoke(identity.chain[0])
    lab.member.replace_files({CRL_FILE: issuer.crl(encoding)})


def reload_crl(lab: Lab) -> Experiment:
    """Add certificates to the CRL and remove them again."""
    clients = _clients_of_crl(lab)
    empty = _attempts(lab, clients)
    _replace_crl(lab, clients["named client"].values())
    listed = _attempts(lab, clients)
    _replace_crl(lab)
    taken_off = _attempts(lab, clients)
    return lab.experiment(
        "crl-reload",
        step("empty", "the list is empty", empty),
        step("listed", "the list was replaced by one with the named client's certificate", listed),
        step("taken off", "the list was replaced by an empty one again", taken_off),
    )


def crl_encoding(lab: Lab) -> Experiment:
    """Replace a CRL in DER by one in PEM, then by a file that is not a CRL."""
    clients = _clients_of_crl(lab)
    _replace_crl(lab, clients["named client"].values(), encoding="pem")
    pem = _attempts(lab, clients)
    lab.member.replace_files({CRL_FILE: b"this is no list\n"})
    unreadable = _attempts(lab, clients)
    _replace_crl(lab)
    der = _attempts(lab, clients)
    return lab.experiment(
        "crl-encoding",
        step("pem", "the list with the named client's certificate is encoded as PEM", pem),
        step("unreadable", "the list's file was replaced by a file that is no list", unreadable),
        step("der", "the list is an empty one in DER", der),
    )


_REJECTION_SECONDS = 15.0
_GLANCE_SECONDS = 0.01
_REJECTED = re.compile(r"^.*rejected connection.*unknown authority.*$", re.MULTILINE)
_TIMES = 2
"""How often each other member must have refused it, so that a retry has failed too."""
_LAST = 2
"""Index of the member that is restarted. The other two are a quorum."""


def foreign_member(lab: Lab) -> ForeignMember:
    """Restart a member with a foreign peer certificate, then with its own."""
    cluster, pki = lab.cluster, lab.cluster.pki
    names = pki.members[_LAST]
    own = pki.peers[names.name]
    foreign = CertificateAuthority.create("another CA").issue(pki.plan.peer, name="peer", hosts=names.hosts)
    before = [len(member.log()) for member in cluster.members[:_LAST]]
    cluster.stop_member(_LAST)
    cluster.members[_LAST].replace_files(as_files(foreign, "peer"))
    cluster.start_member(_LAST, wait=False)
    rejected, joined = _await_rejection(lab, before)
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


ADMITTED = "localhost"
"""The allowed hostname. The served certificate covers it too, since the gateway dials with it."""

_OTHER = "other.invalid"


def allowed_hostname(lab: Lab, role: Role) -> Experiment:
    """Connect to a port with the allowed hostname, with another, and with none."""
    tree = lab.cluster.pki.authorities
    name, who, issuer, profile = "allowed-hostname", "client", tree.client_issuer, CLIENT
    done = f"etcd was started to allow {ADMITTED}"
    addresses: tuple[str, ...] = ()
    if role is Role.PEER:
        name, who, issuer, profile = "peer-allowed-hostname", "peer", tree.peer_issuer, PEER_CLIENT
        # The peer port also requires that a certificate with SANs covers the client's address.
        addresses = (lab.seen_as(role),)
        done += f"; the client's address is {addresses[0]}"
    named = issue(issuer, profile, "named", subject_alt_names=(ADMITTED, *addresses))
    other = issue(issuer, profile, "other-name", subject_alt_names=(_OTHER, *addresses))
    nameless = issue(issuer, profile, "no-name", common_name=ADMITTED)
    return lab.started(
        name,
        done,
        lab.attempts(f"{who} with the hostname", role, named),
        lab.attempts(f"{who} with another hostname", role, other),
        lab.attempts(f"{who} with the hostname as common name only", role, nameless),
    )


def peer_cn(lab: Lab) -> Experiment:
    """Connect to the peer port with the allowed common name, with another, and with none."""
    issuer = lab.cluster.pki.authorities.peer_issuer
    return lab.started(
        "peer-allowed-cn",
        f"etcd was started to allow {PEER.common_name}",
        lab.attempts("peer with the common name", Role.PEER, issue(issuer, PEER_CLIENT, "named")),
        lab.attempts(
            "peer with another common name",
            Role.PEER,
            issue(issuer, PEER_CLIENT, "other-cn", common_name="another-peer"),
        ),
        lab.attempts(
            "peer without a common name",
            Role.PEER,
            issue(issuer, PEER_CLIENT, "no-cn", common_name=None, organization="etcd"),
        ),
    )


def peer_san(lab: Lab) -> Experiment:
    """Connect to the peer port with certificates that name our address, another one, or none."""
    issuer, us = lab.cluster.pki.authorities.peer_issuer, lab.seen_as(Role.PEER)
    named = {
        "peer with another address": (WRONG_ADDRESS,),
        "peer with our address": (us,),
        "peer with our address among others": (WRONG_ADDRESS, us),
        "peer without a name": (),
    }
    return lab.started(
        "peer-san",
        f"the client's address is {us}",
        *(
            lab.attempts(who, Role.PEER, issue(issuer, PEER_CLIENT, "peer", subject_alt_names=names))
            for who, names in named.items()
        ),
    )


LISTED = (0xC02B, 0xCCA9)
"""ECDHE-ECDSA with AES-128-GCM, which etcd requires in order to start, and with ChaCha20-Poly1305."""

UNLISTED = (0xC02C, 0xC009, 0xC00A)
"""ECDHE-ECDSA with AES-256-GCM and AES-CBC-SHA. Every etcd offers them by default."""


def versions(lab: Lab, name: str) -> Experiment:
    """Offer each TLS version separately, on both ports."""
    return lab.started(
        name,
        f"etcd was started with {' '.join(lab.flags)}",
        (
            lab.attempt(f"good client offering {version} only", role, identity, version=version)
            for role, identity in _good_clients(lab).items()
            for version in TLSVersion
        ),
    )


def suites(lab: Lab) -> SuiteOffers:
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


def separate_client_certificate(lab: Lab) -> Experiment:
    """Use the gateway of an etcd that serves one certificate and dials with another."""
    client = lab.cluster.pki.client
    return lab.started(
        "separate-client-certificate",
        "etcd serves a certificate for servers only and was given another one to dial with",
        [
            lab.attempt("good client", Role.CLIENT, client),
            lab.attempt("good client by the gateway", Role.CLIENT, client, Protocol.GATEWAY),
        ],
    )


READER = "reader"
"""The user, and the common name of its certificate, that may read one key."""

_GRANTED, _OTHER_KEY = b"granted", b"other"
_RANGE = "/etcdserverpb.KV/Range"


def turn_on(gateway: Gateway) -> str:
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


def users(lab: Lab) -> Experiment:
    """Make requests as several users, over gRPC and over the gateway."""
    password = turn_on(lab.member.gateway())
    issuer = lab.cluster.pki.authorities.client_issuer
    reader = issue(issuer, CLIENT, "reader", common_name=READER)
    other = issue(issuer, CLIENT, "other", common_name="other")
    nameless = issue(issuer, CLIENT, "nameless", common_name=None, organization="etcd")
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

    return lab.experiment(
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


def renew_under_load(lab: Lab) -> RenewalUnderLoad:
    """Renew the certificate of the client port under load, with the same key."""
    served = _port(lab, Role.CLIENT).served
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
                renewed = _another_pair(lab, Role.CLIENT, same_key=True)
                with gate:
                    lab.member.replace_files({"server.crt": encode_certificates(renewed.chain)})
                seen += traffic.await_requests(_AFTER_RENEWAL, _der(renewed))
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
