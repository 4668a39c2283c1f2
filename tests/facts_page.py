"""The index of facts as a page of Markdown: what a check can request, and its connections."""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks_page import cell
from msgspec import Struct
from zoo.matrix import killed_elsewhere
from zoo.members import ZOO

import pytest_etcdtls.lifecycle.experiment_table  # noqa: F401 - samples and probes of experiments
from pytest_etcdtls.facts.api import Exchange
from pytest_etcdtls.facts.fact import Fact, Need, Planned, facts
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.registry import catalogue
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, PortCredentials, Target

_HEAD = """\
# The facts

A check requests a fact by annotating a parameter with its type: see [Checks of your own](own-checks.md).
If the fact has a key, write `Annotated[Type, "key"]`. The column "connections" counts the connections of the
observation itself, on an `https` client listener with one client certificate. The number in parentheses
includes all observations that it needs, if none of them was made before. A run makes each observation once.
Retries are not included. All {number} facts can be imported from `pytest_etcdtls.facts`. This page is written
by `make docs`.
"""

_PROOFS = """\
## Needs and proofs

Every check is proved by a fault that it finds: on a misconfigured etcd of [the kill matrix](kill-matrix.md),
which names it, or in a test of its own with another real etcd or a fake server.

| check | facts | proved by |
|---|---|---|"""

_INTERNAL = "Only other facts use these, because they hold keys or are reported in another form"


def facts_page() -> str:
    """Return the page."""
    needed = {need.type for check in catalogue().values() for need in check.needs.values()}
    by_module: dict[str, list[Fact]] = defaultdict(list)
    for type_ in needed:
        by_module[type_.__module__].append(facts()[type_])
    lines = [_HEAD.format(number=len(needed))]
    for module, of_it in sorted(by_module.items()):
        lines += [f"## {module.removeprefix('pytest_etcdtls.')}", "", f"{_path(module)}", ""]
        lines += [
            "| type | key | connections | what it is | fields and properties |",
            "|---|---|---|---|---|",
        ]
        lines += [_line(fact) for fact in sorted(of_it, key=lambda fact: fact.type.__name__)]
        lines.append("")
    internal = sorted(type_.__name__ for type_ in set(facts()) - needed)
    lines += ["## Internal", "", f"{_INTERNAL}: {', '.join(f'`{name}`' for name in internal)}.", ""]
    return "\n".join([*lines, _PROOFS, *_proofs(), ""])


def _proofs() -> Iterator[str]:
    elsewhere = killed_elsewhere()
    in_zoo = Counter(check for member in ZOO for check in member.proves())
    for check in catalogue().values():
        needs = ", ".join(dict.fromkeys(_need(need) for need in check.needs.values()))
        proofs = []
        if number := in_zoo[check.id]:
            proofs.append(f"{number} misconfigured cluster{'s' if number > 1 else ''}")
        proofs += [f"[{Path(file).name}](../{file})" for file in dict.fromkeys(elsewhere.get(check.id, ()))]
        yield f"| `{check.id}` | {needs} | {', '.join(proofs)} |"


def _need(need: Need) -> str:
    return f"`{need.type.__name__}`" + (f" of `{need.key}`" if need.key else "")


def _path(module: str) -> str:
    path = f"{module.replace('.', '/')}.py"
    return f"[{path}](../{path})"


def _line(fact: Fact) -> str:
    type_ = fact.type
    what = (inspect.getdoc(type_) or "").partition("\n")[0]
    struct = issubclass(type_, Struct)
    names = type_.__struct_fields__ if struct else [field.name for field in dataclasses.fields(type_)]
    fields = [f"`{name}`" for name in names]
    fields += [f"`{name}`" for name, value in inspect.getmembers(type_) if isinstance(value, property)]
    columns = (
        f"`{fact.type.__name__}`",
        _keys(fact),
        _connections(fact),
        cell(what.replace("``", "")),
    )
    return f"| {' | '.join(columns)} | {', '.join(dict.fromkeys(fields))} |"


def _keys(fact: Fact) -> str:
    used = _used_keys(fact.type)
    shown = ", ".join(f"`{key}`" for key in used[:3]) + (" ..." if len(used) > 3 else "")
    if issubclass(fact.type, Exchange):
        return f"any request: {shown}"
    return {"none": "", "optional": f"none, {shown}", "needed": shown}[fact.keys]


def _used_keys(type_: type[Any]) -> list[str]:
    needs = (need for check in catalogue().values() for need in check.needs.values())
    return sorted({need.key for need in needs if need.type is type_ and need.key is not None})


def _connections(fact: Fact) -> str:
    key = next(iter(_used_keys(fact.type)), None) if fact.keys == "needed" else None
    client = Listener(
        role=Role.CLIENT, scheme="https", host="127.0.0.1", port=2379, member="m0", label="client-m0"
    )
    credentials = PortCredentials(identities=(ClusterPKI.generate(PKIPlan(), [MemberNames("m0")]).client,))
    target = Target(label="t", origin="live", listeners=(client,), client=credentials)
    asked = sum(
        facts()[type_].connections(Planned(target, client, of)) for type_, of in _all(fact, target, key)
    )
    own = fact.connections(Planned(target, client, key))
    return f"{own} ({asked})" if asked else "0"


def _all(fact: Fact, target: Target, key: str | None) -> Iterator[tuple[type[Any], str | None]]:
    seen: set[tuple[type[Any], str | None]] = set()
    left = [(fact.type, key)]
    while left:
        if (one := left.pop()) in seen:
            continue
        seen.add(one)
        yield one
        type_, of = one
        reads = facts()[type_].reads(Planned(target, target.listeners[0], of))
        left += [(need.type, key_of_it) for need, key_of_it in reads]
