"""Commands that are printed for pasting: a hostile host, path or name is one word and is not executed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from pytest_etcdtls.command import (
    GOOD_CLIENT,
    Command,
    Shell,
    compare_leaf,
    curl,
    etcdctl,
    s_client,
    show_chain,
    show_file,
    show_leaf,
)
from pytest_etcdtls.conforming import conforming
from pytest_etcdtls.facts.fact import Each
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.registry import Check, catalogue
from pytest_etcdtls.results import Finding
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.target import PortCredentials, Target

PROGRAMS = ("curl", "openssl", "etcdctl", "sleep", "timeout", "grep", "diff", "cat", "ls", "stat")
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
    for name in ("bash", "touch"):
        (directory / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("WORDS", str(tmp_path / "words"))
    monkeypatch.chdir(tmp_path)
    _run("touch executed")
    (tmp_path / "executed").unlink()  # what is executed would be seen
    return tmp_path


def _run(line: str) -> None:
    subprocess.run(
        ["bash", "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )


@pytest.mark.program("bash")
@pytest.mark.fault(
    "A host or a path with commands of a shell, in every command that a check prints",
    outcome="it is one word of the command, and nothing of it is executed",
    bound="60 s for each command",
)
def test_no_command_of_a_check_executes_a_host_or_a_path(run: Path) -> None:
    lines = {line for check in catalogue().values() for line in _lines(check) if "executed" in line}
    assert len(lines) > 50
    for line in sorted(lines):
        _run(line)
        for part in line.split("\n"):  # a reader may copy one line of the output
            _run(part)
        assert not (run / "executed").exists(), line
    words = (run / "words").read_bytes().decode().split("\0")
    assert any(word.startswith(f"https://{HOST}:") and word.endswith("/version") for word in words)
    assert any(re.fullmatch(rf"{re.escape(HOST)}:\d+", word) for word in words)
    assert set(FILES) <= set(words)


def _lines(check: Check) -> Iterator[str]:
    """Yield the commands of the findings about the check's own counterexample."""
    observations = {name: _elsewhere(fact) for name, fact in conforming(check).items()}
    changed = check.counterexample(**observations)
    for found in check.function(**(observations | dict(changed))):
        if isinstance(found, Finding):
            yield from _shell(*FILES).texts(found.reproduce)


def _elsewhere(value: Any) -> Any:
    """Return a fact in which every listener is at the hostile host."""
    if isinstance(value, str) and type(value) is str:
        return value.replace("127.0.0.1", HOST)
    if isinstance(value, Each):
        return Each.of({_elsewhere(listener): _elsewhere(fact) for listener, fact in value})
    if isinstance(value, tuple):
        return type(value)(map(_elsewhere, value))
    if isinstance(value, Struct):
        return structs.replace(
            value, **{name: _elsewhere(its) for name, its in structs.asdict(value).items()}
        )
    if not is_dataclass(value) or isinstance(value, type):
        return value
    its = {one.name: _elsewhere(getattr(value, one.name)) for one in fields(value) if one.init}
    return replace(value, **its)


def _shell(certificate: str, key: str) -> Shell:
    """Return one in which the good client has these files, on every port."""
    client = Identity(name="client", certificate_file=certificate, key_file=key)
    held = PortCredentials(identities=(client,))
    return Shell(Target(label="live", origin="live", listeners=(), client=held, peer=held))


hosts = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" "),
    min_size=1,
    max_size=40,
)
"""What ``shlex`` reads as a shell does: it does not know ``$'...'``."""


@settings(deadline=None)
@given(host=hosts, certificate=hosts, key=hosts)
def test_a_command_has_exactly_the_intended_words(host: str, certificate: str, key: str) -> None:
    url, shell = f"https://{host}:2379", _shell(certificate, key)
    authority = url.partition("://")[2]

    def words(command: Command) -> list[str]:
        return shlex.split(command.render(shell).partition("\n# look for")[0])

    cert, tls = ["--cert", certificate, "--key", key], ["--tlsv1.3"]
    assert words(curl(url, client=GOOD_CLIENT, version=TLSVersion.TLS1_3)) == [
        *("curl", "-sS", "-i", "-k", "--http1.1", *tls, *cert, f"{url}/version"),
    ]
    gateway = words(curl(url, role="client", protocol=Protocol.GATEWAY))
    assert gateway[-3:] == ["-d", "{}", f"{url}/v3/maintenance/status"]
    assert words(etcdctl(url, GOOD_CLIENT)) == [
        *(
            "etcdctl",
            f"--endpoints={url.replace('%', '%25')}",
            "--insecure-transport=false",
            "--insecure-skip-tls-verify",
        ),
        *(f"--cert={certificate}", f"--key={key}", "endpoint", "status"),
    ]
    shown = words(s_client(url, TLSVersion.TLS1_2, f"-groups {host}", GOOD_CLIENT))
    assert shown[:5] == ["openssl", "s_client", "-connect", authority, "-tls1_2"]
    assert shown[5:-1] == ["-groups", *host.split(), "-cert", certificate, "-key", key]
    assert authority in words(show_chain(url))
    assert words(show_leaf(url))[3] == authority
    assert certificate in words(compare_leaf(url, certificate))
    assert words(show_file(certificate))[3] == certificate
