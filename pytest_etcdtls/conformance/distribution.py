"""The suite under pytest-xdist: it is judged in the controller, before the distributed tests.

Plan, cap and observations are per run, and so must be the process that judges. Knows nothing of etcd.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Protocol

import pytest


def is_distributed(config: pytest.Config) -> bool:
    """Return whether this process is an xdist controller."""
    return bool(
        config.getoption("dist", "no") != "no"
        and config.getoption("tx", None)
        and not config.option.collectonly
    )


def keep_in_one_process(config: pytest.Config) -> None:
    """Start no workers: there is nothing for them."""
    if is_distributed(config):
        config.option.dist = "no"
        config.option.tx = []


class SuitePart(Protocol):
    """What is needed of the suite's part in the session."""

    def suite(self, session: pytest.Session) -> pytest.Collector:
        """Return a collector of the suite."""

    def select(self, items: Iterable[pytest.Item]) -> None:
        """Note which items are left to be run."""


class Distribution:
    """Runs the suite's items in the controller.

    Args:
        config: pytest's.
        suite: the session's part that knows the items.
    """

    def __init__(self, config: pytest.Config, suite: SuitePart) -> None:
        self._config = config
        self._suite = suite
        self._items: list[pytest.Item] = []
        self._distributed: int | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, bool | None, bool | None]:
        """Run our items, then let the workers have theirs."""
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
        """Note how many tests the workers have; xdist takes that for the number of all."""
        self._distributed = len(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Put the number of all tests right, which the progress is reckoned from."""
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
