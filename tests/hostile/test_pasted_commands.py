"""Commands that are printed for pasting: a hostile host, path or name is one word and is not executed."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conforming import add_to_recording
from msgspec import Struct, structs

import pytest_etcdtls
from pytest_etcdtls.checks.registry import Check, catalogue
from pytest_etcdtls.checks.results import Finding, Note, Statement
from pytest_etcdtls.facts.fact import Each
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.run.conforming import conforming
from pytest_etcdtls.target import PortCredentials, Target
from pytest_etcdtls.tls.command import Shell
from pytest_etcdtls.untrusted.printable import shell_word

second_user = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a second user")
PROGRAMS = ("curl", "openssl", "etcdctl", "sleep", "timeout", "grep", "diff", "cat", "ls", "stat")
SHELLS = ("bash", "dash")
HOST = "etcd$(touch${IFS}executed)`touch${IFS}executed`';touch executed;'\";touch executed;\".example"
FILES = (
    "a b;touch executed;$(touch executed).crt\ntouch executed\n",
    "'`touch executed`\r\ntouch executed #\\.key",
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts programs on PATH that do nothing, in the place of those that commands use."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in PROGRAMS:
        (directory / name).write_text(
            '#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done >> "$WORDS"\n', encoding="utf-8"
        )
        (directory / name).chmod(0o755)
    for name in (*SHELLS, "touch"):
        (directory / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("WORDS", str(tmp_path / "words"))
    monkeypatch.chdir(tmp_path)
    for shell in SHELLS:
        _run("touch executed", shell)
        (tmp_path / "executed").unlink()  # what is executed would be seen
    return tmp_path


def _run(line: str, shell: str = "bash") -> None:
    subprocess.run(
        [shell, "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )


PATH_OF_ATTACKER = (
    "-rf/q'\n--- /dev/null\n+++ b/etc/cron.d/x\n::error::x\x1b[2J\u202e';touch executed;"
    "$(touch${IFS}executed)"
)
"""What is before each path, of a declaration, an available file or a log."""


@pytest.mark.program("bash", "dash")
def test_no_host_or_path_is_a_line_an_option_or_a_command(run: Path) -> None:
    said = [statement for check in catalogue().values() for statement in _said(check)]
    texts = [text for one in said for text in _texts_of(one) if "executed" in text]
    assert len(texts) > 30
    for text in texts:
        assert text.isprintable(), text
    findings = [one for one in said if isinstance(one, Finding)]
    lines = {line for finding in findings for line in _shell(*FILES).texts(finding.reproduce)}
    lines = {line for line in lines if "executed" in line}
    assert len(lines) > 50
    for line in sorted(lines):
        for shell in SHELLS:
            # A reader may copy one line of the output.
            for part in {line, *line.split("\n")}:
                _run(part, shell)
            assert not (run / "executed").exists(), f"{shell}: {line}"
    words = (run / "words").read_bytes().decode().split("\0")
    assert any(word.startswith(f"https://{HOST}:") and word.endswith("/version") for word in words)
    assert any(re.fullmatch(rf"{re.escape(HOST)}:\d+", word) for word in words)
    assert set(FILES) <= set(words)
    assert any(word.startswith(f"./{PATH_OF_ATTACKER}") for word in words)
    assert not [word for word in words if word.startswith("-rf")]


def _texts_of(statement: Statement) -> Iterator[str]:
    if isinstance(statement, Finding):
        # Each line of the evidence is shown behind its name.
        yield from (line for text in statement.evidence.values() for line in text.split("\n"))
        yield from (statement.message, statement.expected, statement.observed, statement.remediation)
    else:
        yield statement.text if isinstance(statement, Note) else str(statement.reason)


def _said(check: Check) -> Iterator[Statement]:
    """Yield what a check says of its own counterexample, with hosts and paths of the attacker."""
    add_to_recording()
    observations = conforming(check)
    observations |= dict(check.counterexample(**observations))
    return check.function(**{name: _changed(fact) for name, fact in observations.items()})


def _attacked(text: str) -> str:
    text = text.replace("127.0.0.1", HOST)
    return PATH_OF_ATTACKER + text if text.startswith("/") else text


def _changed(value: Any) -> Any:
    """Return a fact with other texts and paths."""
    if isinstance(value, str) and type(value) is str:
        return _attacked(value)
    if isinstance(value, Path):
        return Path(_attacked(str(value)))
    if isinstance(value, Each):
        return Each.of({_changed(listener): _changed(fact) for listener, fact in value})
    if type(value) is dict:
        return {_changed(name): _changed(its) for name, its in value.items()}
    if type(value) is tuple:
        return tuple(map(_changed, value))
    if isinstance(value, Struct):
        its = {name: _changed(its) for name, its in structs.asdict(value).items()}
        return structs.replace(value, **its)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(
        value, **{field.name: _changed(getattr(value, field.name)) for field in fields(value) if field.init}
    )


def _shell(certificate: str, key: str) -> Shell:
    """Return one in which the good client has these files, on every port."""
    client = Identity(name="client", certificate_file=certificate, key_file=key)
    held = PortCredentials(identities=(client,))
    return Shell(Target(label="live", origin="live", listeners=(), client=held, peer=held))


@pytest.mark.parametrize("user", [None, pytest.param(54321, marks=second_user)], ids=["ours", "other"])
@pytest.mark.parametrize(
    "shell", [pytest.param(shell, marks=pytest.mark.program(shell)) for shell in (*SHELLS, "zsh")]
)
def test_a_word_is_one_word_in_every_shell(shell: str, user: int | None) -> None:
    """Text that is not printable is the same in Bash and Zsh. Dash, without such quotes, executes nothing."""
    words = (
        *FILES,
        HOST,
        PATH_OF_ATTACKER,
        "=touch",
        "~root",
        "!!",
        "a\\'\x01;touch executed",
        "\x07'$(id)'",
    )
    # Not the link on PATH, whose directory the other user may not be able to read.
    program = Path(str(shutil.which(shell))).resolve()
    for word in words:
        ran = subprocess.run(
            [program, "-c", f"printf '<%s>' {shell_word(word)}"],
            capture_output=True,
            cwd="/",
            check=True,
            timeout=60,
            user=user,
        )
        said = ran.stdout.decode()
        if shell != "dash" or word.isprintable():
            assert said == f"<{word}>"
        assert (said.count("<"), said[-1], ran.stderr) == (1, ">", b""), word


# In the source: no text has a value behind a program's name, unless it is quoted there as a word.

WITH_FILES = (
    *("rm", "mv", "cp", "ln", "cat", "ls", "stat", "chmod", "chown", "install", "mkdir", "kill", "diff"),
    *("patch", "grep", "sed", "awk", "printf", "echo", "base64", "env", "sudo", "sh", "bash", "ssh", "scp"),
    *("tee", "openssl", "curl", "etcdctl", "etcdutl", "kubectl", "kubeadm", "crictl", "talosctl", "docker"),
    *("podman", "systemctl", "journalctl", "pip", "python"),
)
QUOTING = ("shell_word", "pasted")
"""The functions that quote a word, and a line of words."""

_WORD = r"[^\s;|&\x01]*[^\s;|&\x01:,]"
COMMAND = re.compile(
    rf"(?:^|[\s(`;|&])(?:{'|'.join(WITH_FILES)})(?: {_WORD})*? [^\s\x01]*\x01",
)
"""A program's name, words of a command, and a value that is not quoted."""

ALLOWED = (
    "ssh -W {host}:{port} cp1",  # an example of --etcd-via
    "docker rm -fv $(\0)\x01",
)


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module, with a NUL for a quoted value, and the next character for another one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(map(_part, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, re.sub(r"\{\w*\}(?! and)", "\1", _without_allowed(node.value))


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    call = part.value
    return "\0" if isinstance(call, ast.Call) and ast.unparse(call.func) in QUOTING else "\1"


def _without_allowed(text: str) -> str:
    for allowed in ALLOWED:
        text = text.replace(allowed, "")
    return text


MODULES = sorted(Path(pytest_etcdtls.__file__).parent.rglob("*.py"))


def test_no_value_follows_a_program_unquoted() -> None:
    assert len(MODULES) > 100
    found = [
        f"{path.name}:{line}: {text!r}"
        for path in MODULES
        for line, text in _texts(path)
        if COMMAND.search(_without_allowed(text))
    ]
    assert not found, "\n".join(found)
