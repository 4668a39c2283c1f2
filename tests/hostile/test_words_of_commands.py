"""No text of the package has a value behind a program's name, unless it is quoted there as a word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest_etcdtls

PROGRAMS = (
    *("rm", "mv", "cp", "ln", "cat", "ls", "stat", "chmod", "chown", "install", "mkdir", "kill", "diff"),
    *("patch", "grep", "sed", "awk", "printf", "echo", "base64", "env", "sudo", "sh", "bash", "ssh", "scp"),
    *("tee", "openssl", "curl", "etcdctl", "etcdutl", "kubectl", "kubeadm", "crictl", "talosctl", "docker"),
    *("podman", "systemctl", "journalctl", "pip", "python"),
)
QUOTING = ("shell_word", "pasted")
"""The functions that quote a word, and a line of words."""

_WORD = r"[^\s;|&\x01]*[^\s;|&\x01:,]"
COMMAND = re.compile(
    rf"(?:^|[\s(`;|&])(?:{'|'.join(PROGRAMS)})(?: {_WORD})*? [^\s\x01]*\x01",
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
