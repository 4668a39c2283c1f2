"""Declared rules about the names in certificates are in force."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.checks.config_in_force import not_in_force, undeclared
from pytest_etcdtls.checks.mtls_refusals import let_in
from pytest_etcdtls.declared.beside import DeclaredNames, NameRule
from pytest_etcdtls.declared.standing import ListenerDeclaration
from pytest_etcdtls.judgement import judge, observed_in, reproduce_in
from pytest_etcdtls.observations.admission import Cell
from pytest_etcdtls.observations.attempt import Way
from pytest_etcdtls.registry import check
from pytest_etcdtls.results import Finding, Statement
from pytest_etcdtls.target import Role


def _broken(declaration: ListenerDeclaration, names: DeclaredNames) -> Mapping[str, Any]:
    rules = tuple(replace(rule, admission=let_in(rule.admission)["admission"]) for rule in names.rules)
    return {"names": DeclaredNames(rules)}


@check(
    "config.allowed-names-in-force",
    on={Role.CLIENT, Role.CLIENT_HTTP, Role.PEER},
    counterexample=_broken,
)
def declared_rules_about_names_are_in_force(
    declaration: ListenerDeclaration, names: DeclaredNames
) -> Iterator[Statement]:
    """A certificate that a declared rule about names excludes is refused.

    Where a CA signs for others too, such a rule alone keeps them out. It is dropped with generated
    certificates, and hidden by a configuration file that does not have it.

    Spec: etcd --{side}-cert-allowed-hostname, --peer-cert-allowed-cn
    Severity: high
    Level: MUST
    Remediation: give --{side}-cert-allowed-hostname, or for peers --peer-cert-allowed-cn, where etcd reads
        it, and restart it.
    """
    if declaration.listener is None:
        yield from undeclared(declaration)
        return
    for rule in names.rules:
        served = [cell for cell in rule.admission.cells if cell.attempt.way is Way.SERVED]
        if served:
            yield _not_kept(declaration, rule, served)
        else:
            yield from judge(rule.admission, "a client whose names are not allowed")


def _not_kept(declaration: ListenerDeclaration, rule: NameRule, served: list[Cell]) -> Finding:
    admission = rule.admission
    return not_in_force(
        declaration,
        rule.setting,
        expected=f"a certificate that is not allowed is refused ({admission.certificate})",
        observed=observed_in(served),
        reproduce=reproduce_in(admission, served),
    )
