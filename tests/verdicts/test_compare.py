"""Every kind of difference is reported, equal files have none, and what differs in two runs is left out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from verdicts.compare import main
from verdicts.files import append, create
from verdicts.volatile import Volatile

CONFORMS: dict[str, Any] = {"outcome": "conforms", "reason": "", "findings": [], "cause": None}
VIOLATES: dict[str, Any] = {
    "outcome": "violates",
    "reason": "",
    "findings": [{"message": "it is expired", "observed": "a", "expected": "b", "remediation": "renew it"}],
    "cause": "cert.trusted on client-m0",
}
SUBJECT: dict[str, Any] = {
    "api": {
        "results": {"client-m0 cert.trusted": CONFORMS, "client-m0 cert.valid-now": VIOLATES},
        "connections": {"client-m0": 7},
    },
    "live": {"exit code": 1, "plan": ["client: at most 9 connections"], "terminal": ["a", "b", "c"]},
}


def compared(directory: Path, old: dict[str, Any], new: dict[str, Any]) -> int:
    for name, subjects in (("old", old), ("new", new)):
        create(directory / name)
        for subject, values in subjects.items():
            append(directory / name, subject, values)
    return main([str(directory / "old"), str(directory / "new")])


def test_equal_files_have_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(tmp_path, {"zoo/a/3.7": SUBJECT}, {"zoo/a/3.7": SUBJECT}) == 0
    assert capsys.readouterr().out == "1 subjects compared, 0 differences\n"


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (
            "api results|client-m0 cert.trusted|outcome",
            "violates",
            "outcome, 2 times in 2 subjects, first zoo/a/3.7: api client-m0",
        ),
        ("api results|client-m0 cert.trusted|reason", "none is needed", "reason, 2 times"),
        ("api results|client-m0 cert.valid-now|cause", None, "cause, 2 times"),
        ("api results|client-m0 cert.trusted", None, "missing check, 2 times"),
        ("api results|client-m0 cert.complete", CONFORMS, "new check, 2 times"),
        ("api connections|client-m0", 10, "connections, 2 times"),
        ("live plan", ["client: at most 10 connections"], "plan, 2 times"),
        ("live terminal", ["a", "B", "c"], "terminal, 2 times"),
        ("live exit code", 0, "exit code, 2 times"),
        ("declared", {"exit code": 0}, "declared, 2 times"),
    ],
)
def test_a_difference_is_reported_once_for_all_subjects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, value: object, line: str
) -> None:
    changed: dict[str, Any] = copy.deepcopy(SUBJECT)
    *place, last = [*path.partition(" ")[:1], *filter(None, path.partition(" ")[2].split("|"))]
    inner = changed
    for part in place:
        inner = inner[part]
    if value is None and last != "cause":
        del inner[last]
    else:
        inner[last] = value
    old, new = ({f"zoo/{name}/3.7": one for name in "ab"} for one in (SUBJECT, changed))
    assert compared(tmp_path, old, new) == 1
    out = capsys.readouterr().out
    assert out.startswith(line)
    assert "2 subjects compared, 1 differences" in out


def test_the_text_of_a_finding_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed: dict[str, Any] = copy.deepcopy(SUBJECT)
    changed["api"]["results"]["client-m0 cert.valid-now"]["findings"][0]["observed"] = "c"
    assert compared(tmp_path, {"zoo/a/3.7": SUBJECT}, {"zoo/a/3.7": changed}) == 1
    assert capsys.readouterr().out.splitlines()[:3] == [
        "findings, 1 times in 1 subjects, first zoo/a/3.7: api client-m0 cert.valid-now / 0 / observed",
        "    - a",
        "    + c",
    ]


def test_a_missing_and_a_new_subject_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(tmp_path, {"zoo/a/3.7": SUBJECT}, {"zoo/b/3.7": SUBJECT}) == 1
    out = capsys.readouterr().out
    assert "missing subject, 1 times in 1 subjects, first zoo/a/3.7" in out
    assert "new subject, 1 times in 1 subjects, first zoo/b/3.7" in out


RACED = {
    "outcome": "warns",
    "findings": [{"observed": "HTTP 503: write: broken pipe", "message": "the port seems to refuse"}],
}
REFUSED = {
    "outcome": "warns",
    "findings": [{"observed": "HTTP 503: tls: unknown certificate authority", "message": "it refuses"}],
}


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            {"connections": {"client-m0": 94}},
            {"connections": {"client-m0": 95}},
            "1 tolerated: an attempt that ended unclear, or the gateway's request, was repeated "
            "(1 times more connections, 0 times fewer)",
        ),
        (
            {"terminal": ["109 connections in <number> s"]},
            {"terminal": ["110 connections in <number> s"]},
            "1 tolerated: an attempt that ended unclear, or the gateway's request, was repeated",
        ),
        (
            {"connections": {"client-m0": 4, "elsewhere": 540}},
            {"connections": {"client-m0": 4, "elsewhere": 1352}},
            "1 tolerated: an experiment sends requests until its time is over "
            "(1 times more connections, 0 times fewer)",
        ),
        (
            {"terminal": ["a", "valid, 89 days left: CN=a", "b", "valid, 89 days left: CN=c"]},
            {"terminal": ["a", "valid, 89 days left: CN=c", "b", "valid, 89 days left: CN=a"]},
            "1 tolerated: threads end in any order, and certificates in the same second",
        ),
        (
            {"results": {"client-m0 api.gateway-works": REFUSED}},
            {"results": {"client-m0 api.gateway-works": RACED}},
            "2 tolerated: the gateway dials etcd, and sees the alert or the end of the connection first",
        ),
    ],
)
def test_differences_between_two_runs_are_tolerated_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: object, new: object, line: str
) -> None:
    assert compared(tmp_path, {"zoo/a/3.7": {"api": old}}, {"zoo/a/3.7": {"api": new}}) == 0
    assert line in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {"terminal": ["refuses 5 of 6 bad identities; accepts none, foreign-ca"]},
            {"terminal": ["refuses 5 of 6 bad identities; accepts foreign-ca, none"]},
        ),
        (
            {"results": {"client-m0 api.gateway-works": REFUSED}},
            {"results": {"client-m0 api.gateway-works": {**RACED, "outcome": "violates"}}},
        ),
        ({"terminal": ["a", "b", "c"]}, {"terminal": ["a", "c", "b"]}),
        (
            {"results": {"client-m0 api.healthy": REFUSED}},
            {"results": {"client-m0 api.healthy": RACED}},
        ),
    ],
)
def test_only_the_listed_differences_are_tolerated(tmp_path: Path, old: object, new: object) -> None:
    assert compared(tmp_path, {"zoo/a/3.7": {"api": old}}, {"zoo/a/3.7": {"api": new}}) == 1


def test_a_reset_is_tolerated_from_a_server_that_breaks_off(tmp_path: Path) -> None:
    reset = {
        "outcome": "inconclusive",
        "reason": "control client: connection reset (Connection reset by peer)",
    }
    old, new = (
        {"api": {"results": {"client-m0 mtls.no-certificate": result}}}
        for result in ({"outcome": "conforms", "reason": ""}, reset)
    )
    assert compared(tmp_path, {"broken/HPACK garbage": old}, {"broken/HPACK garbage": new}) == 0
    assert compared(tmp_path, {"zoo/a/3.7": old}, {"zoo/a/3.7": new}) == 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://127.0.0.1:20001/version", "https://127.0.0.1:<client-m0>/version"),
        ("client-127.0.0.1-20001 answers", "client-127.0.0.1-<client-m0> answers"),
        ("127.0.0.1:45986 was closed", "127.0.0.1:<port> was closed"),
        ("https://10.0.0.11:2379, after 5 s", "https://10.0.0.11:2379, after 5 s"),
        ("96 connections in 0.5 s", "96 connections in <number> s"),
        ("alert 48 unknown_ca in TLS 1.2", "alert 48 unknown_ca in TLS 1.2"),
        ("until 2027-02-26 (89 days left)", "until <date> (89 days left)"),
        ("at 2026-11-28 11:56:40 UTC", "at <time>"),
        (r"HTTP 200: \x00\x00H and more", "HTTP 200: <octets>"),
        ('{"leader":"1", "raftIndex":…', '{"leader":"1",…'),
        ("SHA-256 a2569aaf39c9472d", "SHA-256 <hexadecimal>"),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ],
)
def test_volatile_text(text: str, kept: str) -> None:
    assert Volatile({20001: "client-m0"}).text(text) == kept
