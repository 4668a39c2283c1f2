"""Whether a listener makes a second handshake on a connection when the client asks for it."""

from __future__ import annotations

from dataclasses import replace

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError
from pytest_etcdtls.observations.admission import ServedClient
from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.observations.session import Renegotiation
from pytest_etcdtls.probes.admission import status_request
from pytest_etcdtls.probes.api import accepted_client
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.probes.versions import PlainHello

_RENEGOTIATION_INFO = 0xFF01


@probe(Renegotiation, cost=1, needs=[(PlainHello, str(TLSVersion.TLS1_2)), (ServedClient, None)])
def _renegotiation(context: Context, key: str | None) -> Renegotiation:
    listener = listener_of(context)
    if TLSVersion.TLS1_2 not in tls_answer(context).offered:
        raise NotApplicableError(f"{listener.url} does not offer TLS 1.2, and TLS 1.3 has no renegotiation")
    hello = context.get(PlainHello, str(TLSVersion.TLS1_2)).greeting.server_hello
    seen = Renegotiation(
        url=listener.url,
        role=listener.role,
        announced=hello is not None and _RENEGOTIATION_INFO in hello.extensions,
    )
    try:
        accepted, identity = accepted_client(context)
    except NotVerifiedError as missing:
        return replace(seen, unasked=missing.reason)
    request = status_request(
        listener, identity, TLSVersion.TLS1_2, accepted.spoken[0], f"renegotiation by {identity.name}"
    )
    attempt = context.attempt(replace(request, renegotiate=True))[0][-1]
    return replace(seen, files=accepted.files, attempt=attempt)
