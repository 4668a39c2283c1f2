"""The run that a pytest session keeps, made once per process.

The one place that knows both pytest's configuration and our run.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.options.invocation import invocation_of, is_dry
from pytest_etcdtls.options.sharing import is_worker, tell, told
from pytest_etcdtls.options.values import Values
from pytest_etcdtls.run import Run
from pytest_etcdtls.settings.read import read_settings

_RUN = pytest.StashKey[Run]()


def run_of(config: pytest.Config) -> Run:
    """Return the run of this process; what it starts is stopped when pytest is unconfigured.

    Raises:
        pytest.UsageError: if a setting cannot be used.
    """
    if _RUN not in config.stash:
        live = invocation_of(config).live is not None
        waive = not config.getoption("runxfail")
        try:
            settings = read_settings(Values(config), os.environ, live=live, waive=waive)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        if settings.live is not None and (listeners := told(config)):
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
    """Ask a live cluster for its members, if that is wanted, and tell an xdist worker, which does not ask.

    Args:
        config: of the controller.
        workerinput: what the worker is told.

    Raises:
        pytest.UsageError: if a setting cannot be used.
    """
    if invocation_of(config).live is None or not Values(config).flag("etcd_discover"):
        return
    run = run_of(config)
    run.discover()
    tell(workerinput, run.targets[0].outline.listeners)


def known_run(config: pytest.Config) -> Run | None:
    """Return the run if anything asked for it."""
    return config.stash.get(_RUN, None)


def _announce(text: str) -> None:
    sys.stderr.write(f"etcd TLS: {text}\n")
