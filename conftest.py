"""What holds for every run of pytest in this directory, of the tests and of the suite itself.

What only the tests need, the etcds at hand and the skips without them, is in ``tests/conftest.py``, so that
``pytest --pyargs pytest_etcdtls`` shows here what a user sees elsewhere.
"""

from __future__ import annotations

import signal

pytest_plugins = ["pytester"]
"""pytest allows this in the conftest.py of the root directory only."""


def pytest_configure() -> None:
    """Let Ctrl-C work in what a run starts, also where a shell started the run in the background.

    Such a shell has SIGINT ignored, programs inherit that, and Python then installs no handler of its own.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
