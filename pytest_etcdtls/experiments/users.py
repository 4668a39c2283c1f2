"""Authentication on: whose user a certificate is, over gRPC and over the JSON gateway.

Sources: etcd's ``TestCtlV3AuthCertCN`` and its kin, ``TestCurlV3AuthClientTLSCertAuth``; CVE-2018-16886.
Users and roles are made over the gateway before authentication is turned on.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets

from pytest_etcdtls.cluster.gateway import Gateway
from pytest_etcdtls.cluster.owner import gateway_of
from pytest_etcdtls.errors import InconclusiveError
from pytest_etcdtls.experiments.bench import Bench, issue, step
from pytest_etcdtls.observations.attempt import Protocol
from pytest_etcdtls.observations.experiment import Experiment, Trial
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.pki.profile import CLIENT, SERVER
from pytest_etcdtls.probes.protobuf import encode
from pytest_etcdtls.probes.registry import Request

READER = "reader"
"""User, and common name of a certificate, that may read one key."""

_GRANTED, _OTHER = b"granted", b"other"
_RANGE = "/etcdserverpb.KV/Range"


def turn_on(gateway: Gateway) -> str:
    """Make the users and turn authentication on; return the password of ``root``.

    ``reader`` may read one key. The name in the server's own certificate may do everything, which is what a
    gateway that came with it would make of a client without a name.

    Raises:
        InconclusiveError: if etcd refuses.
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


def users(bench: Bench) -> Experiment:
    """Come as several users, over gRPC and over the gateway."""
    password = turn_on(gateway_of(bench.member))
    issuer = bench.cluster.pki.authorities.client_issuer
    reader = issue(issuer, CLIENT, "reader", common_name=READER)
    stranger = issue(issuer, CLIENT, "stranger", common_name="stranger")
    nameless = issue(issuer, CLIENT, "nameless", common_name=None, organization="etcd")
    token = _token(bench, nameless, password)

    def grpc(who: str, identity: Identity, key: bytes = _GRANTED) -> Trial:
        request = Request(
            purpose=f"experiment: {who}", path=_RANGE, speech=Protocol.GRPC, body=encode({1: key, 3: 1, 9: 1})
        )
        return bench.call(who, identity, request)

    def by_gateway(who: str, identity: Identity, token: str = "") -> Trial:
        request = Request(
            purpose=f"experiment: {who}",
            path="/v3/kv/range",
            speech=Protocol.GATEWAY,
            body=json.dumps({"key": _text(_GRANTED), "limit": "1"}).encode(),
            headers={"authorization": token} if token else {},
        )
        return bench.call(who, identity, request)

    return bench.experiment(
        "users",
        step(
            "over gRPC",
            f"users were made, {READER} may read one key; authentication was turned on",
            [
                grpc("certificate with the user's name, key that the user may read", reader),
                grpc("certificate with the user's name, another key", reader, _OTHER),
                grpc("certificate with the name of no user", stranger),
                grpc("certificate without a common name", nameless),
            ],
        ),
        step(
            "over the gateway",
            f"the name in the server's certificate, {SERVER.common_name}, is a user who may do everything",
            [
                by_gateway("token of root", nameless, token),
                by_gateway("certificate with the user's name", reader),
                by_gateway("certificate without a common name", nameless),
            ],
        ),
    )


def _token(bench: Bench, identity: Identity, password: str) -> str:
    """Return a token for ``root``; a client with a common name is not given one over the gateway.

    Raises:
        InconclusiveError: if none comes.
    """
    request = Request(
        purpose="experiment: authenticate",
        path="/v3/auth/authenticate",
        speech=Protocol.GATEWAY,
        body=json.dumps({"name": "root", "password": password}).encode(),
    )
    attempt = bench.call("root", identity, request).attempt
    try:
        return str(json.loads(attempt.response.body if attempt.response else b"")["token"])
    except (ValueError, KeyError, TypeError) as error:
        raise InconclusiveError(f"no token for root: {attempt.describe()}") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _call(gateway: Gateway, method: str, message: dict[str, object]) -> None:
    try:
        status, answer = gateway.post(f"/v3/auth/{method}", message)
    except (OSError, http.client.HTTPException) as error:
        raise InconclusiveError(f"authentication cannot be set up: {method}: {error}") from error
    if status != http.HTTPStatus.OK:
        raise InconclusiveError(f"authentication cannot be set up: {method}: status {status}, {answer}")
