"""The run of a pytest session, and how it is shared with xdist workers."""

from __future__ import annotations

import getpass
import os
import sys
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.options import STDIN_IS_TERMINAL, Values, invocation_of, is_dry
from pytest_etcdtls.role import Role
from pytest_etcdtls.runner import Run
from pytest_etcdtls.settings.read import read_settings
from pytest_etcdtls.target import Listener

_LISTENERS = "etcdtls_listeners"


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process is an xdist worker."""
    return hasattr(config, "workerinput")


def tell(workerinput: dict[str, Any], listeners: Sequence[Listener]) -> None:
    """Write the listeners to the input of a worker."""
    workerinput[_LISTENERS] = [asdict(listener) | {"role": str(listener.role)} for listener in listeners]


def received_listeners(config: pytest.Config) -> tuple[Listener, ...]:
    """Return the listeners that the controller sent; none if it sent none or this is not a worker."""
    workerinput: Mapping[str, Any] = getattr(config, "workerinput", {})
    return tuple(_listener(values) for values in workerinput.get(_LISTENERS, ()))


def _listener(values: Mapping[str, Any]) -> Listener:
    there = values["connect_to"]
    return Listener(**{**values, "role": Role(values["role"]), "connect_to": tuple(there) if there else None})


_RUN = pytest.StashKey[Run]()


def run_of(config: pytest.Config) -> Run:
    """Return the run of this process. The clusters that it starts are stopped at ``pytest_unconfigure``.

    Raises:
        pytest.UsageError: if a setting cannot be used.
    """
    if _RUN not in config.stash:
        live = invocation_of(config).live is not None
        waive = not config.getoption("runxfail")
        try:
            settings = read_settings(Values(config), os.environ, live=live, waive=waive, ask=_ask)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        if settings.live is not None and (listeners := received_listeners(config)):
            settings = replace(settings, live=replace(settings.live, listeners=listeners))
        dry = is_dry(config)
        run = Run(
            settings,
            _announce,
            asks=not (dry or is_worker(config)),
            pulls=not (dry or config.getoption("etcd_plan")),
        )
        config.stash[_RUN] = run
        config.add_cleanup(run.stop)
    return config.stash[_RUN]


def tell_worker(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """Discover the members of a live cluster, if requested, and send them to an xdist worker.

    Args:
        config: configuration of the controller.
        workerinput: input of the worker.

    Raises:
        pytest.UsageError: if a setting cannot be used.
    """
    if invocation_of(config).live is None or not Values(config).flag("etcd_discover"):
        return
    run = run_of(config)
    run.discover()
    tell(workerinput, run.targets[0].outline.listeners)


def known_run(config: pytest.Config) -> Run | None:
    """Return the run if it was created."""
    return config.stash.get(_RUN, None)


def _ask(text: str) -> str | None:
    """Ask for a secret on the terminal; return ``None`` if there is none."""
    if not STDIN_IS_TERMINAL:
        return None
    try:
        with warnings.catch_warnings(action="error", category=getpass.GetPassWarning):
            return getpass.getpass(text)
    except (EOFError, OSError, getpass.GetPassWarning):  # also if the terminal cannot hide it
        return None


def _announce(text: str) -> None:
    sys.stderr.write(f"etcd TLS: {text}\n")


def is_distributed(config: pytest.Config) -> bool:
    """Return whether this process is an xdist controller."""
    return bool(
        config.getoption("dist", "no") != "no"
        and config.getoption("tx", None)
        and not config.option.collectonly
    )


def keep_in_one_process(config: pytest.Config) -> None:
    """Start no workers, since there is nothing to run in them."""
    if is_distributed(config):
        config.option.dist = "no"
        config.option.tx = []


class SuitePart(Protocol):
    """The interface of :class:`SuiteSession` that is used here."""

    def suite(self, session: pytest.Session) -> pytest.Collector:
        """Return a collector of the suite."""

    def select(self, items: Iterable[pytest.Item]) -> None:
        """Note which items are left to be run."""


class Distribution:
    """Runs the suite's items in the controller.

    Args:
        config: pytest's configuration.
        suite: the part of the session that collects the items.
    """

    def __init__(self, config: pytest.Config, suite: SuitePart) -> None:
        self._config = config
        self._suite = suite
        self._items: list[pytest.Item] = []
        self._distributed: int | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, bool | None, bool | None]:
        """Run our items, then those of the workers."""
        self._collect(session)
        session.testscollected = len(self._items)
        for number, item in enumerate(self._items):
            following = self._items[number + 1] if number + 1 < len(self._items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Record the number of the workers' tests, which xdist uses as the total."""
        self._distributed = len(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Correct the total number of tests, from which the progress is computed."""
        session: pytest.Session | None = self._config.pluginmanager.get_plugin("session")
        if session is not None and session.testscollected == self._distributed:
            session.testscollected += len(self._items)
            self._distributed = None

    def _collect(self, session: pytest.Session) -> None:
        self._items = list(session.genitems(self._suite.suite(session)))
        self._config.hook.pytest_collection_modifyitems(
            session=session, config=self._config, items=self._items
        )
        self._suite.select(self._items)
