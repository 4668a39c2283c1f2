"""Fixtures that follow an override of ``etcd_cluster`` or ``etcd_target``, or another scope of it.

The plugin's fixtures have the scope ``session``, so that a user's fixture of any scope may request them.
pytest keeps the value of such a fixture for the session, and it may request none of a narrower scope. So
where tests see an override, or have another scope by a marker or a parameter, the fixtures that follow are
registered once more, for these tests and with that scope. They are the same functions.

pytest resolves the fixtures of a test when it makes the test from a function. It uses what was registered
last at the module or class. So :func:`follow` is called before the first function, before each one with
markers of its own, and after that one.

``pytest.register_fixture`` is for this, from pytest 9.1 on. Not public are what it calls in earlier versions,
and which definitions of a fixture a node sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, cast, get_args

import pytest

from pytest_etcdtls.options import Scope, cluster_scope, scope_named

CLUSTER, TARGET = "etcd_cluster", "etcd_target"
"""The fixtures that may be overridden and that others follow."""

_OF_A_TARGET = ("_etcd_judged", "etcd_observer", "etcd_credentials", "etcd_client")
_FOLLOWERS: Mapping[str, tuple[str, ...]] = {
    CLUSTER: ("_etcd_shared", "etcd_target", *_OF_A_TARGET),
    TARGET: _OF_A_TARGET,
}
"""The fixtures of session scope that follow. Those of function scope see what the test sees."""

MARKER = "etcd_cluster_scope"
ScopeName = Literal["function", "class", "module", "package", "session"]
_SCOPES: Sequence[ScopeName] = get_args(ScopeName)

Definition = pytest.FixtureDef[Any]
Source = tuple[Definition, ScopeName]
"""What a fixture follows: a definition, and its scope in the test."""

_FOLLOWED = pytest.StashKey[dict[Definition, Source]]()


def definitions(node: pytest.Collector | pytest.Item, name: str) -> Sequence[Definition]:
    """Return the definitions of a fixture that a node sees, the nearest one last."""
    return node.session._fixturemanager.getfixturedefs(name, node) or ()


def is_ours(definition: Definition) -> bool:
    """Return whether a fixture is the plugin's, and no override of it."""
    return definition.func.__module__ == "pytest_etcdtls.fixtures"


def overridden(item: pytest.Item, name: str) -> bool:
    """Return whether the fixture of that name that a test uses overrides ours."""
    visible = definitions(item, name)
    return bool(visible) and not is_ours(visible[-1])


def follow(
    collector: pytest.Collector, own: Sequence[pytest.Mark], scoped_cluster: Callable[..., object]
) -> None:
    """Let the fixtures of the next functions follow ``etcd_cluster`` and ``etcd_target``.

    Args:
        collector: the module or class.
        own: the markers of the next function.
        scoped_cluster: the function of the plugin's ``etcd_cluster`` in another scope than ``session``.

    Raises:
        pytest.UsageError: if a marker names no scope.
    """
    if not (clusters := definitions(collector, CLUSTER)):
        return  # the plugin's fixtures are disabled
    marks = [*own, *collector.iter_markers()]
    plugins, cluster = next(filter(is_ours, clusters)), clusters[-1]
    if is_ours(cluster) and (scope := _wanted_scope(collector.config, marks)) != cluster.scope:
        function = plugins.func if scope == "session" else scoped_cluster
        cluster = _register(collector, CLUSTER, function, scope)
    source = cluster, _scope(collector, marks, cluster)
    sources = dict.fromkeys(_FOLLOWERS[CLUSTER], source)
    target = definitions(collector, TARGET)[-1]
    if not is_ours(target):
        sources |= dict.fromkeys(_FOLLOWERS[TARGET], (target, _scope(collector, marks, target)))
    followed = collector.config.stash.setdefault(_FOLLOWED, {})
    for name, source in sources.items():
        nearest = definitions(collector, name)[-1]
        if is_ours(nearest) and followed.get(nearest, (plugins, "session")) != source:
            followed[_register(collector, name, nearest.func, source[1])] = source


def _register(
    node: pytest.Collector, name: str, function: Callable[..., object], scope: ScopeName
) -> Definition:
    """Register a fixture for the tests below a node, and return its definition."""
    if hasattr(pytest, "register_fixture"):
        pytest.register_fixture(name=name, func=function, node=node, scope=scope)
    else:
        register = node.session._fixturemanager._register_fixture
        register(name=name, func=function, nodeid=node.nodeid, scope=scope)
    return definitions(node, name)[-1]


def _wanted_scope(config: pytest.Config, marks: Iterable[pytest.Mark]) -> Scope:
    """Return the scope of the plugin's ``etcd_cluster`` that the nearest marker names, else the option."""
    for mark in marks:
        if mark.name == MARKER:
            return scope_named(mark.args[0] if len(mark.args) == 1 else mark.args, f"@pytest.mark.{MARKER}")
    return cluster_scope(config)


def _scope(collector: pytest.Collector, marks: Iterable[pytest.Mark], definition: Definition) -> ScopeName:
    """Return the scope of a fixture in a test. As in pytest, a parameter beside direct ones narrows it."""
    for mark in marks:
        if mark.name != "parametrize" or definition.argname not in (names := parameters(mark)):
            continue
        if scope := mark.kwargs.get("scope"):
            return cast("ScopeName", scope)
        indirect = mark.kwargs.get("indirect", mark.args[2] if len(mark.args) > 2 else False)
        if len(names) > 1 and indirect is not True and len(indirect or ()) < len(names):
            return "function"
        visible = (definitions(collector, name) for name in names)
        return min((definitions[-1].scope for definitions in visible if definitions), key=_SCOPES.index)
    return definition.scope


def parameters(mark: pytest.Mark) -> list[str]:
    """Return the names of the arguments that a marker ``parametrize`` gives."""
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
