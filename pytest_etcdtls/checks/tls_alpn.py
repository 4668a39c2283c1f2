"""Protocol names in ALPN (RFC 7301)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.observations.attempt import alert_text
from pytest_etcdtls.observations.protocol import AlpnChoice, AlpnChoices
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import s_client
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_NO_APPLICATION_PROTOCOL = 120


def _chosen(alpn: AlpnChoices, selected: str) -> Mapping[str, Any]:
    choices = tuple(replace(choice, selected=selected, alert=None) for choice in alpn.choices)
    return {"alpn": replace(alpn, choices=choices)}


def _show(choice: AlpnChoice) -> str:
    if choice.alert is not None:
        return f"{choice.version}: alert {alert_text(choice.alert)}"
    return f"{choice.version}: {choice.selected or 'no protocol selected'}"


def _line(alpn: AlpnChoices, choice: AlpnChoice) -> str:
    return s_client(alpn.url, choice.version, f"-alpn {','.join(alpn.offered)}", look='"ALPN"')


@check("tls.alpn-h2", on=frozenset({Role.CLIENT}), counterexample=lambda alpn: _chosen(alpn, "http/1.1"))
def http2_is_selected(alpn: Annotated[AlpnChoices, "known"]) -> Iterator[Statement]:
    """A client that offers h2 and http/1.1 gets h2.

    gRPC needs HTTP/2, and clients of today refuse a connection on which it was not selected. Something before
    etcd that selects http/1.1, or nothing, breaks them all.

    Spec: RFC 7301 section 3.2
    Spec: RFC 9113 section 3.2
    Severity: high
    Level: MUST
    Remediation: let what terminates TLS on this port pass TCP through to etcd, or select h2 in it.
    """
    for choice in alpn.choices:
        if choice.selected != "h2":
            yield Finding(
                message=f"h2 is not selected in {choice.version}",
                expected="h2",
                observed=_show(choice),
                reproduce=(_line(alpn, choice),),
            )


@check("tls.alpn-unknown-refused", on=EVERY_LISTENER, counterexample=lambda alpn: _chosen(alpn, ""))
def an_unknown_protocol_is_refused(alpn: Annotated[AlpnChoices, "unknown"]) -> Iterator[Statement]:
    """A client that offers unknown protocols only is refused.

    A connection that was meant for another protocol could otherwise be turned to etcd (ALPACA). Go refuses it
    since version 1.17.

    Spec: RFC 7301 section 3.2
    Severity: low
    Level: SHOULD
    Remediation: use an etcd that is built with Go 1.17 or newer.
    """
    for choice in alpn.choices:
        if choice.alert is None:
            yield Finding(
                message=f"unknown protocols are ignored in {choice.version}",
                expected="the alert 120 no_application_protocol",
                observed=_show(choice),
                reproduce=(_line(alpn, choice),),
            )
        elif choice.alert != _NO_APPLICATION_PROTOCOL:
            yield Verdict(Outcome.INCONCLUSIVE, f"unknown protocols in {_show(choice)}")
