"""Every probe declares each type of observation that it requests."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest

import pytest_etcdtls.lifecycle.experiment_table
import pytest_etcdtls.observer  # noqa: F401 - imports every module with probes
from pytest_etcdtls.facts.probe import Planned, Probe, probes
from pytest_etcdtls.pki import identities
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target

TARGET = Target(label="t", origin="live", listeners=(), discover=True, user=("root", "password"))


def _asked(function: Callable[..., Any], seen: set[Callable[..., Any]]) -> Iterator[type[Any]]:
    """Yield the types of observations in calls with the context, of a function and those it calls so."""
    if function in seen:
        return
    seen.add(function)
    names = vars(sys.modules[function.__module__])
    for call in ast.walk(ast.parse(inspect.getsource(function))):
        if not isinstance(call, ast.Call):
            continue
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        method = isinstance(call.func, ast.Attribute) and _is_context(call.func.value)
        if not method and not any(_is_context(argument) for argument in arguments):
            continue
        for argument in arguments:
            named = names.get(argument.id) if isinstance(argument, ast.Name) else None
            if isinstance(named, type) and named in probes():
                yield named
        called = names.get(call.func.id) if isinstance(call.func, ast.Name) else None
        if isinstance(called, FunctionType):
            yield from _asked(called, seen)


def _is_context(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "context"


def _led_to(probe: Probe) -> set[type[Any]]:
    found: set[type[Any]] = set()
    left = [probe.observation]
    while left:
        type_ = left.pop()
        for role in (*Role, None):
            listener = role and Listener(
                role=role, scheme="https", host="h", port=1, member="m0", label=str(role)
            )
            for key in (None, *identities.ISSUED_NAMES):
                for needed in probes()[type_].needs(Planned(TARGET, listener, key)):
                    if needed[0] not in found:
                        found.add(needed[0])
                        left.append(needed[0])
    return found


@pytest.mark.parametrize("probe", [pytest.param(p, id=t.__name__) for t, p in probes().items()])
def test_a_probe_declares_every_type_that_it_asks_for(probe: Probe) -> None:
    asked = set(_asked(inspect.unwrap(probe.function), set()))
    missing = sorted(
        type_.__name__ for type_ in asked - _led_to(probe) - {probe.observation, *probe.advertised}
    )
    assert not missing, (
        f"{probe.module}: the probe of {probe.observation.__name__} asks for {', '.join(missing)}; name "
        "them in needs=, so that --etcd-plan counts them"
    )


def test_probes_exist_and_request_observations() -> None:
    every = [type_ for probe in probes().values() for type_ in _asked(inspect.unwrap(probe.function), set())]
    assert len(probes()) > 60
    assert len(every) > 100
