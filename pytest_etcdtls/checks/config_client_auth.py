"""Declared client authentication is in force: who shows no certificate is refused where it is declared."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pytest_etcdtls.checks.config_in_force import not_in_force, undeclared
from pytest_etcdtls.checks.mtls_refusals import let_in
from pytest_etcdtls.declared import sides
from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.standing import ListenerDeclaration
from pytest_etcdtls.judgement import observed_in
from pytest_etcdtls.observations.admission import Admission, Cell
from pytest_etcdtls.observations.attempt import Way
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import curl
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_REFUSED = "a client without a certificate is refused"


def _open(declaration: ListenerDeclaration, admission: Admission) -> Mapping[str, Any]:
    return let_in(admission)


@check("config.client-auth-in-force", on={Role.CLIENT, Role.CLIENT_HTTP}, counterexample=_open)
def declared_client_authentication_is_in_force(
    declaration: ListenerDeclaration, admission: Annotated[Admission, "none"]
) -> Iterator[Statement]:
    """Clients without a certificate are refused where that is declared, and only there.

    A reader of --client-cert-auth=true believes that they are. The flag is dropped by --auto-tls, hidden by a
    configuration file, or was added without restarting etcd.

    Spec: etcd --client-cert-auth, --trusted-ca-file
    Spec: CIS Kubernetes 2.2
    Severity: critical
    Level: MUST
    Remediation: give --client-cert-auth=true, --trusted-ca-file and --cert-file where etcd reads them, and
        restart it.
    """
    yield from _judge(declaration, admission)


@check("config.peer-auth-in-force", on={Role.PEER}, counterexample=_open)
def declared_peer_authentication_is_in_force(
    declaration: ListenerDeclaration, admission: Annotated[Admission, "none"]
) -> Iterator[Statement]:
    """Peers without a certificate are refused where that is declared, and only there.

    A reader of --peer-client-cert-auth=true believes that they are. The flag is dropped by --peer-auto-tls,
    hidden by a configuration file, or was added without restarting etcd.

    Spec: etcd --peer-client-cert-auth, --peer-trusted-ca-file
    Spec: CIS Kubernetes 2.5
    Severity: critical
    Level: MUST
    Remediation: give --peer-client-cert-auth=true, --peer-trusted-ca-file and --peer-cert-file where etcd
        reads them, and restart it.
    """
    yield from _judge(declaration, admission)


@check("config.metrics-as-declared", on={Role.METRICS}, counterexample=_open)
def metrics_are_open_to_whom_they_are_declared(
    declaration: ListenerDeclaration, admission: Annotated[Admission, "none"]
) -> Iterator[Statement]:
    """Over https, metrics are served to whom the client port's settings let in.

    --listen-metrics-urls has no TLS flags of its own: its https URLs take those of the client port, client
    authentication included. On http URLs anybody reads them, as declared.

    Spec: etcd --listen-metrics-urls, --client-cert-auth
    Severity: high
    Level: MUST
    Remediation: give --client-cert-auth=true, --trusted-ca-file and --cert-file where etcd reads them, and
        restart it.
    """
    yield from _judge(declaration, admission)


def _judge(declaration: ListenerDeclaration, admission: Admission) -> Iterator[Statement]:
    if declaration.listener is None:
        yield from undeclared(declaration)
        return
    served = [cell for cell in admission.cells if cell.attempt.way is Way.SERVED]
    unclear = [cell for cell in admission.cells if cell.attempt.way not in (Way.SERVED, Way.REFUSED)]
    asks, wanted = _declared(declaration)
    enforced = declaration.tls.admission is not sides.Admission.ANYBODY
    if not served and unclear:
        yield Verdict(Outcome.INCONCLUSIVE, observed_in(unclear))
    elif served and wanted:
        yield _differs(declaration, asks, admission, served)
    elif served:
        yield Note("anybody is let in, as declared")
    elif not wanted:
        yield _differs(declaration, None, admission, [])
    elif not enforced:
        yield Note(
            "in force, though etcd would not do so with this declaration: it was started with something else"
        )


def _declared(declaration: ListenerDeclaration) -> tuple[Setting | None, bool]:
    """Return what declares client authentication, and whether it is declared; a bundle alone may do so."""
    p = sides.prefix(declaration.side)
    asks = declaration.member.as_read(f"{p}client-cert-auth")
    if asks is not None and asks.on:
        return asks, True
    enforced = declaration.tls.admission is not sides.Admission.ANYBODY
    return declaration.member.as_read(f"{p}trusted-ca-file") if enforced else None, enforced


def _differs(
    declaration: ListenerDeclaration, setting: Setting | None, admission: Admission, served: list[Cell]
) -> Finding:
    cell = served[0] if served else admission.cells[0]
    return not_in_force(
        declaration,
        setting,
        says="" if setting else "clients without a certificate are refused, and nothing in {} asks for one",
        expected=_REFUSED if served else "anybody is let in",
        observed=observed_in(served or admission.cells),
        reproduce=(curl(admission.url, role=admission.role, version=cell.version, protocol=cell.protocol),),
    )
