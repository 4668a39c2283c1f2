"""What is switched on or off by declaration and has nothing to do with certificates: gateway, profiles."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.checks.api_status import answered_with, show, unanswered
from pytest_etcdtls.checks.config_in_force import not_in_force, undeclared
from pytest_etcdtls.declared.standing import ListenerDeclaration
from pytest_etcdtls.declared.version import version_key
from pytest_etcdtls.observations.api import Exchange, GatewayAnswer
from pytest_etcdtls.observations.attempt import Protocol, Response
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import GOOD_CLIENT, STATUS, curl
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_CLIENT_PORTS = frozenset({Role.CLIENT, Role.CLIENT_HTTP})
_ABSENT = 404


def _off(declaration: ListenerDeclaration, answer: GatewayAnswer) -> Mapping[str, Any]:
    return {"answer": replace(answer, tries=(replace(answer.attempt, response=Response(status=_ABSENT)),))}


@check("config.gateway-as-declared", on=_CLIENT_PORTS, counterexample=_off)
def the_gateway_is_as_declared(
    declaration: ListenerDeclaration, answer: GatewayAnswer
) -> Iterator[Statement]:
    """The JSON gateway answers where it is declared, or not declared to be off, and nowhere else.

    It is on by default, but off in 3.4 if a configuration file says nothing of it.

    Spec: etcd --enable-grpc-gateway
    Severity: low
    Level: MUST
    Remediation: give --enable-grpc-gateway where etcd reads it, and restart it.
    """
    if declaration.listener is None:
        yield from undeclared(declaration)
    elif version_key(declaration.member.version) < (3, 4):
        yield Verdict(Outcome.NOT_APPLICABLE, "the gateway of etcd 3.3 has another path")
    elif answer.attempt.response is None:
        yield Verdict(Outcome.INCONCLUSIVE, f"{answer.url} gateway: {answer.attempt.describe()}")
    else:
        is_on = answer.attempt.response.status != _ABSENT
        if is_on is not declaration.member.effective.gateway:
            line = curl(
                answer.url, role=answer.role, files=answer.files, protocol=Protocol.GATEWAY, look=STATUS
            )
            yield _otherwise(
                declaration, "enable-grpc-gateway", answer.attempt.response, line, what="JSON gateway"
            )


def _served(declaration: ListenerDeclaration, exchange: Exchange) -> Mapping[str, Any]:
    return {"exchange": answered_with(exchange, Response(status=200, body=b"profiles"))}


@check("config.pprof-as-declared", on=_CLIENT_PORTS, counterexample=_served)
def profiles_are_as_declared(
    declaration: ListenerDeclaration, exchange: Annotated[Exchange, "/debug/pprof/"]
) -> Iterator[Statement]:
    """Profiles are served where that is declared, and nowhere else.

    Log level debug declares them as well from 3.5 on; before, --debug does.

    Spec: etcd --enable-pprof, --log-level
    Severity: low
    Level: MUST
    Remediation: give --enable-pprof and --log-level where etcd reads them, and restart it.
    """
    if declaration.listener is None:
        yield from undeclared(declaration)
        return
    yield from unanswered(exchange)
    response = exchange.attempt.response
    if response is not None and (response.status != _ABSENT) is not declaration.member.effective.pprof:
        line = curl(exchange.url, role=exchange.role, path=exchange.path, files=GOOD_CLIENT, look=STATUS)
        yield _otherwise(declaration, "enable-pprof", response, line, what="handler of profiles")


def _otherwise(
    declaration: ListenerDeclaration, name: str, response: Response, line: str, *, what: str
) -> Finding:
    there = response.status != _ABSENT
    says = f"the {what} {'answers' if there else 'does not answer'}, and {{}} does not say so"
    return not_in_force(
        declaration,
        declaration.member.as_read(name),
        says=says,
        expected="HTTP 404" if there else "an answer",
        observed=show(response),
        reproduce=(line,),
    )
