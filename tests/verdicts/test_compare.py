"""Differences are reported, equal files have none, and what differs in two runs is tolerated or left out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from verdicts.compare import main
from verdicts.record import append
from verdicts.volatile import Volatile

TRUSTED: dict[str, Any] = {"outcome": "conforms", "findings": [], "cause": None}
VALID: dict[str, Any] = {"outcome": "violates", "findings": [{"message": "it is expired", "observed": "a"}]}
SUBJECT: dict[str, Any] = {
    "results": {"client-m0 cert.trusted": TRUSTED, "client-m0 cert.valid-now": VALID},
    "connections": {"client-m0": 7},
    "lines": ["a", "valid, 89 days left: CN=b, CN=c", "d"],
}


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("results", "client-m0 cert.trusted", "outcome"), "violates", "results / cert.trusted / outcome"),
        (
            ("results", "client-m0 cert.valid-now", "findings", 0, "observed"),
            "c",
            "results / cert.valid-now / findings / 0 / observed, 2 times, first zoo/a/3.7\n    - a\n    + c",
        ),
        (("connections", "client-m0"), 10, "connections / "),
        (("connections", "client-m0"), 9, ""),
        (("connections", "client-m0"), 7, ""),
        (("lines", 0), "A", "lines, 2 times, first zoo/a/3.7\n    - a\n    + A\n"),
        (("lines",), ["a", "d", "valid, 89 days left: CN=b, CN=c"], "lines, 2 times, first zoo/a/3.7\n"),
    ],
)
def test_a_difference_is_reported_once_for_all_subjects_unless_it_is_of_chance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: tuple[Any, ...], value: object, line: str
) -> None:
    changed: Any = copy.deepcopy(SUBJECT)
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    for name, values in (("old", SUBJECT), ("new", changed)):
        for subject in ("zoo/a/3.7", "zoo/b/3.7"):
            append(tmp_path / name, subject, values)
    assert main([str(tmp_path / "old"), str(tmp_path / "new")]) == bool(line)
    out = capsys.readouterr().out
    assert out.startswith(line)
    assert ("2 subjects compared, 0 differences" in out) == (not line)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://127.0.0.1:20001/version", "https://127.0.0.1:<client-m0>/version"),
        ("127.0.0.1:45986 was closed", "127.0.0.1:<port> was closed"),
        ("96 connections in 0.5 s", "96 connections in <number> s"),
        ("alert 48 unknown_ca in TLS 1.2", "alert 48 unknown_ca in TLS 1.2"),
        ("at 2026-11-28 11:56:40 UTC", "at <time>"),
        (r"HTTP 200: \x00\x00H and more", "HTTP 200: <octets>"),
        ('{"leader":"1", "raftIndex":…', '{"leader":"1",…'),
        ("SHA-256 a2569aaf39c9472d", "SHA-256 <hexadecimal>"),
    ],
)
def test_volatile_text(text: str, kept: str) -> None:
    assert Volatile({20001: "client-m0"}).text(text) == kept
