"""Experiments with flags: allowed names, TLS versions, cipher suites, and the CN as user name."""

from __future__ import annotations

import base64
import http.client
import json
import secrets

from pytest_etcdtls.cluster.admin import Gateway, gateway_of
from pytest_etcdtls.errors import InconclusiveError, UnreadableJSONError
from pytest_etcdtls.facts.experiments import Experiment, ExperimentAttempt, SuiteOffer, SuiteOffers
from pytest_etcdtls.lifecycle.lab import Lab, issue, step
from pytest_etcdtls.pki.identities import WRONG_ADDRESS
from pytest_etcdtls.pki.profile import CLIENT, PEER, PEER_CLIENT, SERVER, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.tls.attempt import Request
from pytest_etcdtls.tls.hello import TLS1_2, ClientHello
from pytest_etcdtls.tls.http import encode
from pytest_etcdtls.tls.suites import suite_name
from pytest_etcdtls.untrusted import read_json

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
