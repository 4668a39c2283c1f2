"""Declared beside observed: how a declaration that is not in force is told, and why it is not."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.standing import ListenerDeclaration
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict


def undeclared(declaration: ListenerDeclaration) -> Iterator[Statement]:
    """Yield not-verified for a listener that nothing declares: another check says so."""
    if declaration.listener is None:
        yield Verdict(
            Outcome.NOT_VERIFIED, f"nothing declares {declaration.url}, see config.listeners-as-declared"
        )


def not_in_force(
    declaration: ListenerDeclaration,
    setting: Setting | None,
    *,
    expected: str,
    observed: str,
    says: str = "",
    reproduce: tuple[str, ...] = (),
) -> Finding:
    """Return the finding that what is declared is not what is seen, with the reason if it is known.

    Args:
        declaration: of the listener.
        setting: that is not in force; ``None`` where something is that nothing declares.
        expected: what would be seen if it were in force.
        observed: what is seen.
        says: what is wrong, where no setting is; ``{}`` stands for the declaration.
        reproduce: shell lines.
    """
    traps = list(declaration.traps_of(setting)) if setting is not None else []
    wrong = says.format(declaration.member.told.declaration.source) if says else f"{setting} is not in force"
    evidence = {
        "declared": str(setting) if setting is not None else "nothing",
        "effective": declaration.listener.describe() if declaration.listener else "nothing",
    }
    if traps:
        evidence["trap"] = ", ".join(f"config.{trap.id}" for trap in traps)
    return Finding(
        message=f"{wrong}: {'; '.join(trap.summary for trap in traps) or _drift(declaration)}",
        expected=expected,
        observed=observed,
        evidence=evidence,
        reproduce=reproduce,
    )


def _drift(declaration: ListenerDeclaration) -> str:
    """Return what may be if etcd would do what is declared."""
    member = declaration.member
    etcd = f"etcd {member.version}" if member.version else "etcd"
    if not member.starts:
        return f"{etcd} does not start with this declaration, so what runs was started with something else"
    return (
        f"{etcd}, started with this declaration, would do otherwise: it was not restarted since the "
        "declaration changed, was started with something else, or something else answers here"
    )
