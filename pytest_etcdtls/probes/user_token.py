"""A token for the user that was given, where authentication is on. It is kept in memory and never shown.

The password, and later the token, goes only to a server whose certificate leads to the given CA and names the
host, over a connection that serves that very certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.observations.admission import ServedClient
from pytest_etcdtls.observations.attempt import Attempt, Protocol
from pytest_etcdtls.observations.chain import PathToTrust, ServedChain
from pytest_etcdtls.pki.names import names_host
from pytest_etcdtls.probes.api import accepted_client
from pytest_etcdtls.probes.protobuf import encode, fields, grpc_message
from pytest_etcdtls.probes.registry import Context, Request, probe

_AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"


@dataclass(frozen=True, slots=True)
class UserToken:
    """What ``Auth/Authenticate`` gave."""

    user: str
    token: str = field(repr=False)


def trusted_leaf(context: Context) -> bytes:
    """Return the DER of the leaf that the listener serves, if secrets may be sent to it.

    Raises:
        NotVerifiedError: if a client that verifies would refuse it.
        UnobservedError: if that cannot be judged.
    """
    served, path = context.get(ServedChain), context.get(PathToTrust)
    if not path.verified or not names_host(served.leaf, served.host):
        raise NotVerifiedError("the password was not sent: the server's certificate is not trusted")
    return served.leaf.public_bytes(Encoding.DER)


@probe(
    UserToken,
    cost=lambda target, _listener, _key: int(target.user is not None),
    needs=[(ServedClient, None), (ServedChain, None), (PathToTrust, None)],
)
def _user_token(context: Context, key: str | None) -> UserToken:
    if context.target.user is None:
        raise NotVerifiedError("no user was given")
    name, password = context.target.user
    _, identity = accepted_client(context)
    request = Request(
        purpose="gRPC Authenticate",
        identity=identity,
        path=_AUTHENTICATE,
        speech=Protocol.GRPC,
        body=encode({1: name.encode(), 2: password.encode()}),
        only_to=trusted_leaf(context),
    )
    attempt = context.attempt(request)[0][-1]
    if not (token := _token_in(attempt)):
        response = attempt.response
        said = response.headers.get("grpc-message", "no token came") if response else attempt.describe()
        raise NotVerifiedError(f"no token for user {name}: {said}")
    return UserToken(name, token)


def _token_in(attempt: Attempt) -> str:
    try:
        found = fields(grpc_message(attempt.response.body)) if attempt.response else {}
    except ValueError:
        return ""
    token = found.get(2, [b""])[0]
    return token.decode("ascii", "replace") if isinstance(token, bytes) else ""
