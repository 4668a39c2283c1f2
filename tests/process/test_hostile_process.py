"""Processes of another user that call themselves etcd: what they say of themselves acts nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from go_programs import built
from kubeadm.judging import Given
from plugin.runs import Runner, run

from process.containers import as_root
from pytest_etcdtls.declared.declaration import Declaration, Setting
from pytest_etcdtls.run.remedies import lines
from pytest_etcdtls.settings.etcd_pid import read_declared

__all__ = ["run"]

pytestmark = as_root

OTHER = 54321
"""User ID of the second user."""
URL = "https://127.0.0.1:9"
TEXT = "$(touch P)\n::error::x\x1b[2J\u202e'|[a](javascript:1)<script>"
FILES = ("--cert-file=/etc/shadow", "--key-file=/etc/shadow", "--trusted-ca-file=/etc/shadow")
SECRET = "s3cret-password"
REPORTS = ("r.json", "r.html", "r.md", "r.sarif", "r.xml")

BECOMES = """
import os, sys
os.setgroups([]), os.setgid(54321), os.setuid(54321)
os.dup2(os.open("/etc/shadow", os.O_PATH), 2)
os.execve(sys.argv[1], ["etcd", "-c", "echo; read line", *sys.argv[2:]], {"ETCD_X": "x" * 100_000})
"""


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """Start a process of the other user with the name etcd and these words."""
    with ExitStack() as stack:

        def becoming(*words: str) -> int:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", BECOMES, built(), *words],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            return process.pid

        yield becoming


def test_words_of_a_process_act_nowhere(start: Callable[..., int], run: Runner) -> None:
    pid = start(
        *(f"--name={os.fsdecode(TEXT.encode())}", *FILES, "--client-cert-auth"),
        "--log-outputs=stderr,/etc/shadow,/dev/zero",
        *(f"--listen-client-urls={URL}", f"--advertise-client-urls={URL}"),
    )
    (run.directory / "password").write_text(SECRET, encoding="utf-8")
    ran = run(
        *("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", "--etcd-timeout=1", "-rA", "-vv"),
        *("--etcd-user=root", "--etcd-password-file=password", "--junitxml=r.xml"),
        *(f"--etcd-report={name}" for name in REPORTS[:-1]),
        report=False,
    )
    shadow = Path("/etc/shadow").read_text(encoding="utf-8").splitlines()
    texts = {"terminal": ran.out + ran.err} | {
        name: (run.directory / name).read_text(encoding="utf-8")
        for name in REPORTS
        if (run.directory / name).exists()
    }
    for name, text in texts.items():
        raw = {one for one in text if unicodedata.category(one) in ("Cc", "Cf")} - {*"\n\r\t"}
        assert raw == set(), name
        assert not [line for line in text.split("\n") if line.startswith("::")], name
        assert SECRET not in text, name
        assert not [line for line in shadow if line in text], name
    assert not Path("P").exists()


def test_no_more_listeners_are_judged_than_an_etcd_has(start: Callable[..., int], run: Runner) -> None:
    urls = ",".join(f"https://127.0.0.1:{port}" for port in range(20000, 24000))
    pid = start(f"--listen-client-urls={urls}", f"--advertise-client-urls={URL}")
    ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", report=False)
    assert ran.exit_code == 4
    assert f"process {pid} declares 4002 URLs, and at most 100 are judged" in ran.out + ran.err


def test_a_long_name_is_cut(start: Callable[..., int], run: Runner) -> None:
    name = "a" * 100_000
    pid = start(f"--name={name}", f"--listen-client-urls={URL}", f"--advertise-client-urls={URL}")
    ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", "--etcd-timeout=1", "--etcd-check=listener")
    assert ran.exit_code == 1
    assert "aaa" in ran.out
    assert len(ran.out) < 20_000


@pytest.mark.parametrize("flag", ["listen-client-urls", "advertise-client-urls", "listen-peer-urls"])
def test_a_host_of_a_process_is_no_option(start: Callable[..., int], run: Runner, flag: str) -> None:
    pid = start(f"--{flag}=https://-oProxyCommand=x:9")
    ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pid}", report=False)
    assert ran.exit_code == 4
    assert f"--etcd-pid: process {pid} declares 'https://-oproxycommand=x:9'" in ran.out + ran.err
    assert "neither a host name nor an IP address" in ran.out + ran.err


def test_a_remedy_looks_at_each_setting_once(
    start: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 10,000 variables each remedy took seconds, and Ctrl-C was not answered for minutes."""
    [[member]] = read_declared(
        Given(etcd_pid=str(start(*(f"--unknown-{number}=x" for number in range(9)))))
    ).clusters
    declaration, given, calls = member.declared.declaration, Declaration.given, list[int]()

    def counted(of: Declaration) -> tuple[Setting, ...]:
        calls.append(1)
        return tuple(given.__get__(of))

    monkeypatch.setattr(Declaration, "given", property(counted))
    assert list(lines(declaration, declaration)) == []
    assert len(calls) == 2
