"""The layout of the package: each name once, and no long chains of imports."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest_etcdtls

ROOT = Path(pytest_etcdtls.__file__).parent
DEEPEST = 15
ESCAPES = {"printable", "printable_lines", "escaped", "escaped_line", "message_line"}
READERS = {
    *("declared.declaration", "etcd.admin", "etcd.launch", "etcd_log.parse", "pki.certificate"),
    *("facts.api", "facts.discovery", "facts.member_list", "facts.release", "pki.go_verify"),
    *("profiles.profiles", "settings.read", "settings.secrets", "untrusted.json_text", "untrusted.printable"),
    *("tls.attempt", "tls.connection", "tls.held_ports", "tls.hello", "tls.http", "tls.via"),
}
WRITERS = {
    *("__main__", "checks.results", "declared.cures", "facts.observed", "report.clusters", "report.html"),
    *("report.in_force", "report.json", "report.markdown", "report.openmetrics", "report.text"),
    *("suite.reporting", "suite.state", "suite.waiting"),
}


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}


def _name(path: Path) -> str:
    parts = (ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


@cache
def _modules() -> dict[str, ast.Module]:
    return {_name(path): tree for path, tree in _trees().items()}


def _at_import(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" not in ast.unparse(statement.test):
            yield from _at_import(statement.body)


@cache
def _imported(module: str) -> frozenset[str]:
    found: set[str] = set()
    for statement in _at_import(_modules()[module].body):
        if isinstance(statement, ast.ImportFrom):
            found |= {f"{statement.module}.{alias.name}" for alias in statement.names} | {
                statement.module or ""
            }
        else:
            found |= {alias.name for alias in statement.names}
    return frozenset((found & _modules().keys()) - {module, ROOT.name})


@cache
def _chain(module: str) -> tuple[str, ...]:
    """The longest chain of modules that importing it imports, itself first."""
    return (module, *max((_chain(one) for one in _imported(module)), key=len, default=()))


def test_no_chain_of_imports_is_long() -> None:
    longest = max(map(_chain, _modules()), key=len)
    assert 2 < len(longest) <= DEEPEST, longest


def test_each_class_and_each_module_has_a_unique_name() -> None:
    classes = Counter(
        node.name for tree in _trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    stems = Counter(path.stem for path in _trees() if path.stem != "__init__")
    assert {name for name, count in (classes + stems).items() if count > 1} <= set()
    assert len(classes) > 100


def test_untrusted_text_is_escaped_where_it_comes_in_and_where_it_goes_out() -> None:
    """Errors, findings and remarks are ways out: what is written into their texts is not escaped."""
    escaping = {
        name.removeprefix(f"{ROOT.name}.")
        for name, tree in _modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and ESCAPES & {alias.name for alias in node.names}
    }
    assert escaping == READERS | WRITERS
