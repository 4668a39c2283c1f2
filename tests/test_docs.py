"""What the documents and the README say of checks, files, options and links is so."""

from __future__ import annotations

import csv
import importlib.util
import re
from pathlib import Path

import pytest
from pages import anchor, generated
from shown_commands import DOCUMENTS as PAGES
from shown_commands import commands
from zoo.members import ZOO

from pytest_etcdtls.checks.registry import REMOVED, catalogue
from pytest_etcdtls.options import SECTIONS

ROOT = Path(__file__).parents[1]
MATRIX = "run PYTHONPATH=tests python -m data_files"
GENERATED = generated(new_checks=False)
FAMILIES = {check.family for check in catalogue().values()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_checks_headings_and_files_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    gone = REMOVED if page.name == "CHANGELOG.md" else ()
    quoted = re.findall(r"`([a-z]+\.[a-z0-9-]+)`", text)
    ids = {id_ for id_ in quoted if id_.partition(".")[0] in FAMILIES and not id_.endswith((".py", ".md"))}
    assert ids - {*catalogue(), *gone} == set()
    headings = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) - headings == set()
    links = re.findall(r"\]\(((?!https?:)[^)#]+)[^)]*\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name], "run make docs"


def test_the_kill_matrix_has_no_name_that_is_gone() -> None:
    with (ROOT / "docs/data/kill-matrix.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert {row["misconfiguration"] for row in rows} - {member.name for member in ZOO} == set(), MATRIX
    assert {row["check"] for row in rows} - {*catalogue()} == set(), MATRIX


def test_each_of_etcds_tls_tests_has_a_row_with_a_check_or_a_reason() -> None:
    rows = re.findall(
        r"^\| (`Test.*?) \| (.*?) \|",
        (ROOT / "benchmarks/comparison.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(rows) >= 30
    for test, answer in rows:
        assert re.search(r"`[a-z]+\.[a-z0-9-]+`", answer) or answer.startswith(("none:", "the same")), test


def test_commands_fit_the_narrow_page() -> None:
    """Of the site, on which a longer line scrolls."""
    lines = [
        (command.place, line)
        for command in commands()
        for line in command.code.splitlines()
        if ":--" not in command.place
    ]
    assert [(place, line) for place, line in lines if len(line) > 72] == []


TEXTS = [*PAGES, *ROOT.glob("tests/**/*.py")]


def test_the_imports_of_pages_and_test_programs_exist() -> None:
    """Also what stands in a string: nothing else notices that a module has moved."""
    imports = {
        (path.name, module)
        for path in TEXTS
        for module in re.findall(
            r"^\s*from (pytest_etcdtls[.\w]*) import", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert imports
    assert sorted((name, module) for name, module in imports if not _is_module(module)) == []


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_each_security_promise_names_a_test() -> None:
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+/test_[a-z_]+\.py)`", text)
    assert len(set(named)) > 15
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []
    _, _, table = text.partition("## Whom it does not trust")
    rows = [line for line in table.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    assert [row for row in rows if "test_" not in row] == []


def test_the_options_of_the_readme_exist() -> None:
    named = re.findall(r"--etcd-[a-z-]+", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {*named} <= {option.flag for section in SECTIONS.values() for option in section}
