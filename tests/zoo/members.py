"""The whole zoo: what every other module of this folder has in its ``ZOO`` and ``FAKES``."""

from __future__ import annotations

import importlib
from pathlib import Path

from impostors.impostor import Answers
from zoo.model import Misconfigured

_MODULES = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if path.stem not in {"conftest", "members"} and not path.stem.startswith("test_")
)

_IMPORTED = [importlib.import_module(f"zoo.{module}") for module in _MODULES]

FILES: dict[str, str] = {
    member.name: f"tests/zoo/{module.__name__.rpartition('.')[2]}.py"
    for module in _IMPORTED
    for member in getattr(module, "ZOO", [])
}
"""The file in which each member is defined, by its name, for messages."""

ZOO: list[Misconfigured] = [member for module in _IMPORTED for member in getattr(module, "ZOO", [])]
"""In order of module and definition; adding one touches its module only."""

FAKES: dict[str, Answers] = {
    check: answers for module in _IMPORTED for check, answers in getattr(module, "FAKES", {}).items()
}
"""Answers of servers of ours in place of an etcd, by the check that finds them."""
