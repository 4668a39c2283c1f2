"""Text of others in terminal, reports and CI logs: no control character, forged line, command of a runner."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hostile.child_run import ChildRun
from hostile.hostile_servers import (
    CONTROLS,
    FORGED,
    Hostile,
    Judging,
    raw_characters,
)
from impostors.impostor import Answer
from report import valid

from pytest_etcdtls.checks.results import Finding
from pytest_etcdtls.errors import MESSAGE_LIMIT, UsageError, escaped
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.certificate import shown
from pytest_etcdtls.pki.go_verify import names_host, subject_alt_names
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, MemberNames, PKIPlan
from pytest_etcdtls.profiles.profiles import read_profiles
from pytest_etcdtls.report import FORMATS
from pytest_etcdtls.report.json import encoded
from pytest_etcdtls.report.text import Line, wrapped
from pytest_etcdtls.untrusted.printable import TEXT_LIMIT, printable

COMMANDS = (
    "::error file=a.py,line=1::owned",
    "::stop-commands::token",
    "::add-mask::etcd",
    "##[error]owned",
    "##[group]owned",
    "##vso[task.setvariable variable=x]owned",
    "##vso[task.complete result=Succeeded;]",
    "##teamcity[buildStatus status='SUCCESS']",
)
ATTACK = " ".join(COMMANDS)
MARKUP = "<script>window.owned=6</script>"
FORGING = replace(
    SERVER,
    common_name=CONTROLS,
    dns_names=("localhost\0.example", f"a\n{FORGED}\n", "b\x1b]0;title\x07", "c\x7f", "a|b`c@d", *COMMANDS),
)
"""A server certificate whose every name is an attack."""


def is_command(line: str) -> bool:
    """Return whether a runner acts on a line of a log.

    GitHub: ``ActionCommand.TryParseV2`` trims the line, wants ``::`` first and another ``::`` behind it;
    ``TryParse`` looks for ``##[`` anywhere. Azure Pipelines looks for ``##vso[`` anywhere, and TeamCity for
    ``##teamcity[``.
    """
    return re.match(r"\s*::.*::", line) is not None or re.search(r"##\w*\[", line) is not None


@pytest.mark.parametrize("columns", [40, 80, 123])
def test_names_and_responses_of_a_server_are_data(
    hostile: Hostile, judge: Judging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    hostile.server = FORGING
    hostile.authority = replace(AUTHORITY, common_name=CONTROLS)
    said = f"\n{ATTACK}{MARKUP}</details>]]>|`@octocat`{CONTROLS}"
    text = json.dumps(dict.fromkeys(("etcdserver", "etcdcluster", "health", "code"), said))
    body = Answer(body=f"{COMMANDS[0]}\n{ATTACK}{CONTROLS}".encode() + b'"etcdserver"', status=500)
    overrides = {
        "/version": Answer(body=text.encode()),
        "/health": body,
        "/metrics": body,
        "/v3/maintenance/status": body,
        "/livez": Answer(status=302, headers={"Location": f"https://x/\x9b31m\x7f{ATTACK}"}),
    }
    url = hostile.etcd(overrides)
    reports = tuple(tmp_path / f"report{suffix}" for suffix in FORMATS)
    judged = judge(*hostile.options(url), "-v", "-rA", "-l", "--etcd-timeout=5", reports=reports)
    assert judged.exit_code == 1
    assert not raw_characters(judged.out)
    lines = judged.output.splitlines()
    assert FORGED in judged.output
    assert FORGED not in [line.strip(" =\r") for line in lines]
    assert any("error file=a.py" in line for line in lines)  # it is shown
    written = judged.written[tmp_path / "report.json"]
    assert not [line for line in (*lines, *written.decode().splitlines()) if is_command(line)]
    assert not {one["check"] for one in judged.report["results"] if one["outcome"] == "broken"}
    assert not raw_characters(written)
    read = valid.read(tmp_path)
    assert MARKUP in read[".html"]
    assert read[".sarif"]["results"]
    # Verdicts are of the names as they are.
    assert judged.outcomes(url)["cert.trusted"] == "conforms"
    assert judged.outcomes(url)["cert.covers-endpoint"] == "conforms"


@pytest.mark.parametrize("before", ["word", "https://127.0.0.1:2379", "x" * 77])
def test_no_width_makes_a_line_a_command(before: str) -> None:
    for width in range(1, 200):
        for first, rest in (("", None), ("", "  "), ("observed  ", None)):
            lines = [line.text for line in wrapped(f"{before} {ATTACK}\n{ATTACK}", width, first, rest)]
            assert not [line for line in lines if is_command(line)]
    assert r"\x3a:error" in "\n".join(line.text for line in wrapped(ATTACK, 30))


def test_other_text_stays_as_it_is() -> None:
    for text in ("# heading", "## heading", "a::b", "[::1]:2379", "etcdtls::live::client::mtls.expired"):
        assert escaped(text) == text
        assert [line.text for line in wrapped(text, 80)] == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, žluťoučký kůň, 日本語 \U0001f642", "plain text, žluťoučký kůň, 日本語 \U0001f642"),
        ("\x00\x07\x1b[2K\r\n\t\x7f", r"\x00\x07\x1b[2K\r\n\t\x7f"),
        ("\x85\x9b\xa0\xad", r"\x85\x9b\xa0\xad"),
        ("\u202e\u2066\u200f\u061c\u200b\u2060\ufeff", r"\u202e\u2066\u200f\u061c\u200b\u2060\ufeff"),
        ("\u2028\u2029\ud800\udfff", r"\u2028\u2029\ud800\udfff"),
        ("\U000e0041", r"\U000e0041"),
        ("\u034f\u115f\u1160\u3164\uffa0\u2800\ufe0f", r"\u034f\u115f\u1160\u3164\uffa0\u2800\ufe0f"),
        ("a\U000e0100b", r"a\U000e0100b"),
        ("##[error]x ##vso[y] #[z] ## [w]", r"\x23#[error]x \x23#vso[y] #[z] ## [w]"),
        (b"\xff\x1b\xc3\xa9", r"\xff\x1bé"),
        (b"", ""),
    ],
)
def test_printable(text: str | bytes, expected: str) -> None:
    assert printable(text) == expected
    assert printable(expected) == expected


@pytest.mark.parametrize("text", ["x" * 10_000, "\x1b" * 10_000, b"\xff" * 10_000, "é" * 10_000])
def test_printable_is_bounded(text: str | bytes) -> None:
    found = printable(text)
    assert len(found) == TEXT_LIMIT
    assert found.endswith("…")
    assert printable(found) == found
    assert len(printable(text, 5)) == 5


def test_names_are_shown_escaped_and_compared_as_they_are() -> None:
    leaf = ClusterPKI.generate(PKIPlan(server=FORGING), [MemberNames("m0")]).servers["m0"].chain[0]
    assert r"DNS:localhost\x00.example" in subject_alt_names(leaf)
    assert names_host(leaf, "localhost\0.example")
    assert not names_host(leaf, r"localhost\x00.example")
    assert not names_host(leaf, "localhost.example")
    assert shown(leaf).isprintable()


def test_a_result_and_a_line_are_printable_by_construction() -> None:
    finding = Finding(
        message=f"a\x1b\n{FORGED}\x85{FORGED}",
        expected="\u202e",
        observed="\ud800",
        evidence={"\x07": "\x1b"},
        reproduce=("curl \\\n  https://x\r",),
    )
    assert finding.message == rf"a\x1b\n{FORGED}\x85{FORGED}"
    assert (finding.expected, finding.observed) == (r"\u202e", r"\ud800")
    assert finding.evidence == {r"\x07": r"\x1b"}
    assert finding.reproduce == ("curl \\\n  https://x" + r"\r",)
    assert Line("\x1b[2K\n").text == r"\x1b[2K\n"
    assert [line.text for line in wrapped(f"a\x85{FORGED}\nb", 80)] == [rf"a\x85{FORGED}", "b"]


@pytest.mark.parametrize("in_file", [False, True])
def test_a_message_about_a_megabyte_keeps_what_was_attempted_and_what_to_do(
    tmp_path: Path, in_file: bool
) -> None:
    name, end = "\x1b" * 1_000_000, "nist-800-52r2, pci-dss"
    if in_file:
        name, end = str(tmp_path / "own.toml"), "matches no check; --etcd-list-checks shows them all"
        section = f'section = "1"\ntitle = "t"\nlevel = "SHOULD"\nchecks = ["{"x" * 1_000_000}"]\n'
        Path(name).write_text(f'title = "t"\n[[section]]\n{section}', encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        read_profiles([name], Path)
    message = str(refused.value)
    assert message.startswith("--etcd-profile ")
    assert message.endswith(end)
    assert (message.isprintable(), len(message)) == (True, MESSAGE_LIMIT)


def test_a_json_report_has_no_control_character() -> None:
    value = {"\x1b\x7f": ["\x9b\u202e\u200b\U000e0041", "\ud800", "žluť 日本語"]}
    text = encoded(value)
    assert not raw_characters(text.encode())
    assert "žluť 日本語" in text
    assert json.loads(text) == {"\x1b\x7f": ["\x9b\u202e\u200b\U000e0041", "\ufffd", "žluť 日本語"]}
    with pytest.raises(ValueError, match="Out of range float"):
        encoded({"x": float("nan")})


NAME = f"x\n{ATTACK}\r\x1b[31m\u202e"
"""A name that a YAML or JSON file can contain."""
ACTS = re.compile("[\x1b\r\u202e]")


@pytest.mark.parametrize("key", ["endpoints", "cacert", "timeout"])
def test_no_value_of_a_cluster_list_is_a_command(tmp_path: Path, key: str) -> None:
    entry = {"label": "theirs", "endpoints": "https://127.0.0.1:1", key: NAME}
    (tmp_path / "clusters.json").write_text(json.dumps([entry]), encoding="utf-8")
    ended = ChildRun(tmp_path, ["--etcd-clusters=clusters.json", "-v", "-rA"]).end()
    assert ended.exit_code == 4, ended.output
    assert r"x\n::error file=a.py" in ended.output
    assert not [line for line in ended.output.split("\n") if is_command(line) or ACTS.search(line)]


def test_no_name_in_a_declaration_is_a_command(tmp_path: Path) -> None:
    url = "https://127.0.0.1:1"
    flags = {"cert-file": f"/{NAME}", "key-file": f"/{NAME}", "trusted-ca-file": f"/{NAME}", NAME: NAME}
    declared = {
        "name": NAME,
        "listen-client-urls": url,
        "advertise-client-urls": url,
        NAME: NAME,
        "client-transport-security": flags,
        "tls-min-version": NAME,
    }
    (tmp_path / "etcd.yaml").write_text(json.dumps(declared), encoding="utf-8")
    report, document = tmp_path / "report.md", tmp_path / "report.json"
    reports = (f"--etcd-report={report}", f"--etcd-report={document}")
    options = ("--etcd-config=etcd.yaml", "--etcd-check=config.*", *reports)
    ended = ChildRun(tmp_path, ["-v", "-rA", "-l", *options]).end()
    assert ended.exit_code == 1, ended.output
    assert "is not here" in ended.output
    assert not re.search(r"(?<!\\)\\u(001b|202e)", document.read_text(encoding="utf-8"))
    for text in (ended.output, report.read_text(encoding="utf-8")):
        lines = text.split("\n")
        assert not [line for line in lines if is_command(line) or ACTS.search(line)]
        assert not [line for line in lines if line.startswith(("error file=", r"\x3a:error file="))]
