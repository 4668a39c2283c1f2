"""Text of a server in the log of a CI job: no line of the output is a command of the runner."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hostile.child_run import ChildRun
from hostile.hostile_servers import Hostile, Judging, hostile, judge
from impostors.impostor import Answer

from pytest_etcdtls.errors import escaped
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER
from pytest_etcdtls.report.text import wrapped

__all__ = ["hostile", "judge"]

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
WORDS = ("word", "a-longer-word", "https://127.0.0.1:2379", "x" * 77)


def is_command(line: str) -> bool:
    """Return whether a runner acts on a line of a log.

    GitHub: ``ActionCommand.TryParseV2`` trims the line, wants ``::`` first and another ``::`` behind it;
    ``TryParse`` looks for ``##[`` anywhere. Azure Pipelines looks for ``##vso[`` anywhere, and TeamCity for
    ``##teamcity[``.
    """
    return re.match(r"\s*::.*::", line) is not None or re.search(r"##\w*\[", line) is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_the_rule_of_the_runners(command: str) -> None:
    assert is_command(f"  {command}")
    assert not is_command(f"observed: {command}") or "##" in command


@pytest.mark.parametrize("before", WORDS)
def test_no_width_makes_a_line_a_command(before: str) -> None:
    for width in range(1, 200):
        for first, rest in (("", None), ("", "  "), ("observed  ", None)):
            lines = [line.text for line in wrapped(f"{before} {ATTACK}\n{ATTACK}", width, first, rest)]
            assert not [line for line in lines if is_command(line)]
    assert r"\x3a:error" in wrapped_text(ATTACK)


def wrapped_text(text: str) -> str:
    return "\n".join(line.text for line in wrapped(text, 30))


def test_other_text_stays_as_it_is() -> None:
    for text in ("# heading", "## heading", "a::b", "[::1]:2379", "etcdtls::live::client::mtls.expired"):
        assert escaped(text) == text
        assert [line.text for line in wrapped(text, 80)] == [text]


@pytest.mark.parametrize("columns", [40, 80, 123])
def test_no_line_of_a_run_is_a_command(
    hostile: Hostile, judge: Judging, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    hostile.server = replace(SERVER, common_name=COMMANDS[0], dns_names=("localhost", *COMMANDS))
    hostile.authority = replace(AUTHORITY, common_name=ATTACK)
    text = json.dumps({"etcdserver": ATTACK, "etcdcluster": ATTACK, "health": f"\n{ATTACK}", "code": ATTACK})
    body = Answer(body=f"{COMMANDS[0]}\n{ATTACK}".encode(), status=500)
    overrides = {
        "/version": Answer(body=text.encode()),
        "/health": body,
        "/metrics": body,
        "/v3/maintenance/status": body,
        "/livez": Answer(status=302, headers={"Location": f"https://x/{ATTACK}"}),
    }
    judged = judge(*hostile.options(hostile.etcd(overrides)), "-v", "-rA", "-l", "--etcd-timeout=5")
    assert judged.exit_code == 1
    lines = judged.out.decode().splitlines()
    assert not [line for line in lines if is_command(line)]
    assert any("error file=a.py" in line for line in lines)  # it is shown
    (written,) = judged.written.values()
    assert not [line for line in written.decode().splitlines() if is_command(line)]


NAME = f"x\n{ATTACK}\r\x1b[31m\u202e"
"""A name that a YAML or JSON file can contain."""
ACTS = re.compile("[\x1b\r\u202e]")


@pytest.mark.parametrize("key", ["endpoints", "cacert", "config", "log", "pki-dir", "timeout"])
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
