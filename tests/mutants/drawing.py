"""Mutants: one small change of a function each, kept as text.

``mutants.json`` has them. A mutant names the function and the text that it replaces, not line numbers, so it
applies wherever the function moves within its module. Whoever changes the text changes the mutant with it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pytest_etcdtls"


class Mutant(Struct, frozen=True, omit_defaults=True):
    """A change of the package, and what notices it.

    Attributes:
        id: never given to another mutant.
        module: its file, below the package.
        function: its qualified name; a constant of the module is named as a function is.
        old: the lines that it replaces. They occur once in the function.
        killer: a test, as pytest takes it from the command line, or ``zoo:NAME`` for a member of the zoo.
    """

    id: int
    module: str
    function: str
    old: str
    new: str
    killer: str = ""

    @property
    def path(self) -> Path:
        """Its file in the work tree."""
        return PACKAGE / self.module

    def __str__(self) -> str:
        old = [f"- {line}" for line in self.old.splitlines()]
        new = [f"+ {line}" for line in self.new.splitlines()]
        return "\n".join([f"mutant {self.id}, {self.module}, {self.function}:", *old, *new])

    def apply(self, source: str) -> str | None:
        """Return the changed source of the module; ``None`` if the lines are not there exactly once."""
        for name, node in _functions(ast.parse(source)):
            text = ast.get_source_segment(source, node) or ""
            if name == self.function and text.count(self.old) == 1:
                return source.replace(text, text.replace(self.old, self.new), 1)
        return None


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yield each function, method and constant of a module with its name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef))
            yield from ((f"{node.name}.{method.name}", method) for method in methods)
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            yield ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target), node
