"""The table of faults is collected from the tests, and errors in it are reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.fault_table import Fault, faults

MODULE = """
import pytest

FAULTS = {
    "test_second": ("Nothing", "exit 4", "1 s"),
    "test_third[a]": [("A", "x", "2 s"), ("B", "y", "3 s")],
}
BODIES = {"Deep": lambda: 1, "Long": lambda: 2}
FAULT_TABLES = {"BODIES": ("exit 1", "4 s")}

@pytest.mark.fault("A body " "in pieces", outcome="conforms", bound="2 s")
def test_first(): ...
def test_second(): ...
@pytest.mark.parametrize("one", [pytest.param(1, marks=pytest.mark.fault("P", outcome="o", bound="b"))])
def test_third(one): ...
"""


def test_markers_and_tables_are_collected(tmp_path: Path) -> None:
    (tmp_path / "test_module.py").write_text(MODULE, encoding="utf-8")
    assert faults(tmp_path) == [
        Fault("Nothing", "exit 4", "1 s", "test_module.py", "test_second"),
        Fault("A", "x", "2 s", "test_module.py", "test_third[a]"),
        Fault("B", "y", "3 s", "test_module.py", "test_third[a]"),
        Fault("Deep", "exit 1", "4 s", "test_module.py"),
        Fault("Long", "exit 1", "4 s", "test_module.py"),
        Fault("A body in pieces", "conforms", "2 s", "test_module.py", "test_first"),
        Fault("P", "o", "b", "test_module.py", "test_third"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('\nFAULTS = {"test_other": ("a", "b", "c")}\n', "no test of this file"),
        ('\nFAULT_TABLES = {"BODIES": ("a", "b")}\n', "no dictionary of this file"),
        ('\nimport pytest\n@pytest.mark.fault("a", outcome="b")\ndef test_one(): ...\n', "test_module.py:3"),
    ],
)
def test_a_marker_without_a_known_check_is_an_error(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "test_module.py").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=problem):
        faults(tmp_path)
