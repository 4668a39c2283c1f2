"""A client without judgement, for tests of the configuration of a cluster."""

from __future__ import annotations

import ssl

import httpx

from pytest_etcdtls.etcd.member import Member

_SECONDS = 60.0
"""After which an answer is missing, also on a machine that has other work."""


def get(
    url: str, member: Member, pair: str | None = "client", *, ca: str | None = None, path: str = "/version"
) -> int:
    """Return the HTTP status that a client gets with that key pair of the member, or with none.

    Without the name of a file of CAs, the server is not verified.
    """
    context = ssl.create_default_context(cafile=member.file(ca) if ca else None)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if pair is not None:
        context.load_cert_chain(member.file(f"{pair}.crt"), member.file(f"{pair}.key"))
    with httpx.Client(verify=context, trust_env=False, timeout=_SECONDS) as client:
        return client.get(f"{url}{path}").status_code


def refused(url: str, member: Member, pair: str | None = None) -> bool:
    """Return whether TLS refuses that client."""
    try:
        get(url, member, pair)
    except (httpx.NetworkError, httpx.ProtocolError):
        return True
    return False
