"""Checks of a company's own: pytest --etcd-checks-file=etcd_checks.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec.structs import replace

from pytest_etcdtls import EVERY_LISTENER, Finding, Listener, Statement, check
from pytest_etcdtls.facts import ClientExchange, Response


def _with_server(exchange: ClientExchange, **_: object) -> Mapping[str, Any]:
    attempt = replace(
        exchange.attempt, response=Response(status=200, headers={"server": "nginx"}, body=b"{}")
    )
    return {"exchange": replace(exchange, tries=(attempt,))}


@check("company.no-proxy", on=EVERY_LISTENER, counterexample=_with_server)
def etcd_is_reached_without_a_proxy(
    here: Listener, exchange: Annotated[ClientExchange, "/version"]
) -> Iterator[Statement]:
    """No proxy answers instead of etcd.

    Our network policy allows none between the API server and etcd.

    Spec: Company network policy, section 4
    Severity: medium
    Level: MUST
    Remediation: let clients reach etcd directly.
    """
    response = exchange.attempt.response
    if response is not None and "server" in response.headers:
        yield Finding(
            message=f"a proxy answers at {here.url}",
            expected="no header Server, which etcd does not send",
            observed=f"Server: {response.headers['server']}",
        )
