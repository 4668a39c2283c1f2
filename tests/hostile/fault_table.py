"""The faults that tests try, collected from their source; ``docs/data/faults.csv`` has them.

A test names its fault by a marker, or in a table of its module; nothing is imported or run to collect them::

    @pytest.mark.fault("A body compressed twice", outcome="inconclusive", bound="2 s, 64 MiB")
    def test_...

    FAULTS = {"test_...": ("A body compressed twice", "inconclusive", "2 s, 64 MiB")}
    FAULT_TABLES = {"BODIES": ("inconclusive", "2 s, 64 MiB")}

The marker may stand in ``marks=`` of a ``pytest.param`` too. A value of the table may be a list of tuples.
Each key of a dictionary that ``FAULT_TABLES`` names is a fault with the same outcome and bound.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fault:
    """One fault that a test tries.

    Attributes:
        name: what is wrong, or what is done.
        outcome: what the run says of it.
        bound: of time and memory, as the test asserts it.
        path: of the test's file, from ``tests``.
        test: its function; empty where a marker stands outside of one.
    """

    name: str
    outcome: str
    bound: str
    path: str
    test: str = ""


def faults(directory: Path = TESTS) -> list[Fault]:
    """Return the faults of all tests below a directory, by file and in the order of the source.

    Raises:
        ValueError: if a marker or a table does not name fault, outcome and bound, or names no test.
    """
    found: list[Fault] = []
    for path in sorted(directory.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.fault(" in text or "\nFAULT" in text:
            found += _of_module(ast.parse(text), path.relative_to(directory).as_posix())
    return found


def _of_module(module: ast.Module, path: str) -> Iterator[Fault]:
    tests = {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}
    for node in module.body:
        test = node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "pytest.mark.fault":
                yield _of_marker(inner, path, test)
        if (table := _table(node, "FAULTS")) is not None:
            yield from _of_table(table, path, tests)
        if (tables := _table(node, "FAULT_TABLES")) is not None:
            yield from _of_tables(tables, module, path)


def _of_marker(call: ast.Call, path: str, test: str) -> Fault:
    words = {keyword.arg: keyword.value for keyword in call.keywords}
    if len(call.args) != 1 or set(words) != {"outcome", "bound"}:
        raise ValueError(f'{path}:{call.lineno}: write pytest.mark.fault("...", outcome="...", bound="...")')
    name, outcome, bound = (
        ast.literal_eval(part) for part in (call.args[0], words["outcome"], words["bound"])
    )
    return Fault(name, outcome, bound, path, test)


def _table(node: ast.stmt, name: str) -> ast.expr | None:
    if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
        return node.value
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
        return node.value
    return None


def _of_tables(tables: ast.expr, module: ast.Module, path: str) -> Iterator[Fault]:
    for table, (outcome, bound) in ast.literal_eval(tables).items():
        found = [value for node in module.body if (value := _table(node, table)) is not None]
        if len(found) != 1 or not isinstance(found[0], ast.Dict):
            raise ValueError(f"{path}: FAULT_TABLES names {table}, which is no dictionary of this file")
        for key in found[0].keys:
            if key is not None:
                yield Fault(ast.literal_eval(key), outcome, bound, path)


def _of_table(table: ast.expr, path: str, tests: set[str]) -> Iterator[Fault]:
    for test, value in ast.literal_eval(table).items():
        if test.partition("[")[0] not in tests:
            raise ValueError(f"{path}: FAULTS names {test}, which is no test of this file")
        for row in value if isinstance(value, list) else [value]:
            name, outcome, bound = row
            yield Fault(name, outcome, bound, path, test)
