"""A working directory of somebody else's, each file of which leaves another one if it is executed."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

_ACTS = 'open(__file__ + ".acted", "w").close()\n'

_MODULES = {
    *(sys.stdlib_module_names | packages_distributions().keys()),
    *("pip", "pytest_etcdtls", "sitecustomize", "usercustomize"),
    *("planted", "conftest", "__init__", "test_planted"),
}
"""All that a run imports, and what Python and pytest look for."""

_SETTINGS = {
    "pytest.ini": "[pytest]\naddopts = -p planted\npythonpath = .\n",
    "tox.ini": "[pytest]\naddopts = -p planted\n",
    "setup.cfg": "[tool:pytest]\naddopts = -p planted\n",
    "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "-p planted"\n',
}


def plant(directory: Path) -> None:
    """Write such files into a directory."""
    for name in _MODULES:
        (directory / f"{name}.py").write_text(_ACTS, encoding="utf-8")
    for name in ("encodings", "pytest_etcdtls", "xdist"):  # a package precedes a module of its name
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text(_ACTS, encoding="utf-8")
    for name, text in _SETTINGS.items():
        (directory / name).write_text(text, encoding="utf-8")


def acted(directory: Path) -> list[str]:
    """Return which of these files were executed, and forget it."""
    found = [*directory.rglob("*.py.acted")]
    for path in found:
        path.unlink()
    return sorted(str(path.relative_to(directory)).removesuffix(".acted") for path in found)
