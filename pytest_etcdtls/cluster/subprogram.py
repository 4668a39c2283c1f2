"""A function of ours as a program: for what must outlive this process, or be ended before it is done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def command(function: Callable[[str], object], argument: str) -> tuple[str, ...]:
    """Return a command line that calls a module's function with one argument, wherever it is run.

    Args:
        function: importable by its name; it may end the program with :func:`sys.exit`.
        argument: no secret, as command lines can be read by others.
    """
    here = str(Path(__file__).parents[2])
    module, name = function.__module__, function.__name__
    program = f"import sys; sys.path.insert(0, {here!r}); from {module} import {name}; {name}({argument!r})"
    return (sys.executable, "-c", program)
