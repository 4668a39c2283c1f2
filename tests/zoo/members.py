"""The whole zoo: the members of every module beside this one that has a ``ZOO``."""

from __future__ import annotations

import importlib
from pathlib import Path

from zoo.model import Misconfigured

_MODULES = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if path.stem not in {"conftest", "members"} and not path.stem.startswith("test_")
)

ZOO: list[Misconfigured] = [
    member for module in _MODULES for member in getattr(importlib.import_module(f"zoo.{module}"), "ZOO", [])
]
"""In order of module and definition; adding one touches its module only."""
