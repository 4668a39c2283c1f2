"""The run that a pytest session keeps, made once per process.

The one place that knows both pytest's configuration and our run.
"""

from __future__ import annotations

import os
import sys

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.options.invocation import invocation_of
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
            run = Run(read_settings(Values(config), os.environ, live=live, waive=waive), _announce)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        config.stash[_RUN] = run
        config.add_cleanup(run.stop)
    return config.stash[_RUN]


def known_run(config: pytest.Config) -> Run | None:
    """Return the run if anything asked for it."""
    return config.stash.get(_RUN, None)


def _announce(text: str) -> None:
    sys.stderr.write(f"etcd TLS: {text}\n")
