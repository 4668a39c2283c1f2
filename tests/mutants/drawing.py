"""Mutants: one small change of a function each, kept as text.

``mutants.json`` has them. A mutant names the function and the text that it replaces, not line numbers, so it
applies wherever the function moves within its module. Once the text is changed, it applies no more and is
replaced by another mutant of the same group: ``python -m mutants.run --update``.

The operators are the usual ones of mutation testing. They change the text at the place of a syntax node. The
libraries for this (mutmut, cosmic-ray) make every mutant anew from the source of each run, and have no list.
"""

from __future__ import annotations

import ast
import functools
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pytest_etcdtls"

GROUPS = {
    "checks": (107, ["checks/*.py"]),
    "facts": (45, ["facts/*.py"]),
    "declared": (11, ["declared/**/*.py"]),
    "judge": (27, ["run/judge.py", "checks/judgement.py", "checks/registry.py", "run/runner.py"]),
    "refusal": (10, ["facts/refusal.py"]),
}
"""How many mutants each part of the package has, and its files."""


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
        for name, node in functions(ast.parse(source)):
            begin, end = _lines_of(source, node)
            if name == self.function and source.count(self.old, begin, end) == 1:
                return source[:begin] + source[begin:end].replace(self.old, self.new) + source[end:]
        return None


def draw(existing: Sequence[Mutant], seed: int, *, after: int) -> Iterator[Mutant]:
    """Yield the mutants that the groups lack, drawn from the present source, with ids from ``after`` on."""
    rng, number = random.Random(seed), after  # noqa: S311
    for count, patterns in GROUPS.values():
        files = sorted(path for pattern in patterns for path in PACKAGE.glob(pattern))
        modules = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in files}
        lacking = count - sum(mutant.module in modules for mutant in existing)
        every = [change for module in modules.items() for change in changes(*module)]
        taken = {(mutant.module, mutant.function, mutant.new) for mutant in existing}
        rng.shuffle(every)
        for module, function, old, new in every:
            if lacking > 0 and (module, function, new) not in taken:
                number, lacking = number + 1, lacking - 1
                yield Mutant(number, module, function, old, new)


class Change(NamedTuple):
    """What a mutant does, before it has a number."""

    module: str
    function: str
    old: str
    new: str


def changes(module: str, source: str) -> Iterator[Change]:
    """Yield every change that the operators make of a module."""
    for name, function in functions(ast.parse(source)):
        begin, end = _lines_of(source, function)
        for node in _nodes(function):
            for first, last, text in _operators(node, source):
                start, stop = source.rfind("\n", 0, first) + 1, source.index("\n", last)
                # Lines above are added until the text is unique.
                while start > begin and source.count(source[start:stop], begin, end) > 1:
                    start = source.rfind("\n", 0, start - 1) + 1
                old, new = source[start:stop], source[start:first] + text + source[last:stop]
                if source.count(old, begin, end) == 1:
                    yield Change(module, name, old, new)


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yield each function, method and constant of a module with its name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef))
            yield from ((f"{node.name}.{method.name}", method) for method in methods)
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            yield ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target), node


def _nodes(function: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(function, ast.FunctionDef):
        todo: list[ast.AST] = list(function.body)
    else:
        todo = [function]
    while todo:
        node = todo.pop()
        # The positions within an f-string are wrong in Python 3.11. A program without a fault does not need
        # strict= of zip.
        if not isinstance(node, ast.JoinedStr) and getattr(node, "arg", "") != "strict":
            yield node
            todo += ast.iter_child_nodes(node)


_COMPARISONS = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
_NAMES = {
    "any": "all",
    "all": "any",
    "Outcome.CONFORMS": "Outcome.VIOLATES",
    "Outcome.VIOLATES": "Outcome.CONFORMS",
    "Outcome.NOT_VERIFIED": "Outcome.INCONCLUSIVE",
    "Outcome.INCONCLUSIVE": "Outcome.NOT_VERIFIED",
    "Outcome.NOT_APPLICABLE": "Outcome.CONFORMS",
    "Level.MUST": "Level.SHOULD",
    "Level.SHOULD": "Level.MUST",
}


def _operators(node: ast.AST, source: str) -> Iterator[tuple[int, int, str]]:
    """Yield where the text changes, from and to, and the text in its place."""
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield _negated(test, source)
        case ast.comprehension(ifs=[test, *_]):
            yield _negated(test, source)
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            yield _between(left, right, source, *_COMPARISONS[type(operator)])
        case ast.BoolOp(op=operator, values=[*_, left, right]):
            swapped = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
            yield _between(left, right, source, *swapped)
        case ast.UnaryOp(op=ast.Not()):
            begin, _ = _span(node, source)
            yield begin, begin + len("not "), ""
        case ast.Constant(value=bool() as value):
            yield _replaced(node, source, repr(not value))
        case ast.Constant(value=int() as value):
            yield _replaced(node, source, repr(value + 1))
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
            yield _replaced(node, source, "yield from ()")
        case ast.Return(value=value) if value is not None and ast.unparse(value) != "None":
            yield _replaced(node, source, "return None")
        case ast.Continue():
            yield _replaced(node, source, "break")
        case ast.Name() | ast.Attribute() if (name := ast.unparse(node)) in _NAMES:
            yield _replaced(node, source, _NAMES[name])


def _negated(test: ast.expr, source: str) -> tuple[int, int, str]:
    begin, end = _span(test, source)
    return begin, end, f"not ({source[begin:end]})"


def _replaced(node: ast.expr | ast.stmt, source: str, text: str) -> tuple[int, int, str]:
    return *_span(node, source), text


def _between(left: ast.expr, right: ast.expr, source: str, old: str, new: str) -> tuple[int, int, str]:
    begin, end = _span(left, source)[1], _span(right, source)[0]
    return begin, end, re.sub(rf"(?<!\S){old}(?!\S)", new, source[begin:end], count=1)


def _span(node: ast.expr | ast.stmt, source: str) -> tuple[int, int]:
    """Return begin and end of a node, in characters; Python counts columns in octets."""
    starts, lines = _line_starts(source)

    def place(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    return place(node.lineno, node.col_offset), place(node.end_lineno or 0, node.end_col_offset or 0)


@functools.cache
def _line_starts(source: str) -> tuple[list[int], list[str]]:
    lines = source.splitlines(keepends=True)
    return list(itertools.accumulate(map(len, lines), initial=0)), lines


def _lines_of(source: str, function: ast.stmt) -> tuple[int, int]:
    begin, end = _span(function, source)
    return source.rfind("\n", 0, begin) + 1, source.find("\n", end) + 1 or len(source)
