"""Processes that carry connections: what is said of them, and that none is left."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pytest_etcdtls.target import Carrier
from pytest_etcdtls.tls.via import CarriedSocket, words_of


def _carried(script: str, *words: str, program: Sequence[str] = ("sh", "-c")) -> CarriedSocket:
    carried = CarriedSocket(Carrier(shlex.join([*program, script, *words])), "cp1", 2379)
    carried.settimeout(30)
    return carried


def _all_of(carried: CarriedSocket) -> bytes:
    return b"".join(iter(lambda: carried.recv(4096), b""))


@pytest.mark.parametrize(
    ("host", "command", "words"),
    [
        ("cp1", "ssh -W {host}:{port} 'a b'", ["ssh", "-W", "cp1:2379", "a b"]),
        ("fd00::1", "ssh -W {host}:{port} cp1", ["ssh", "-W", "[fd00::1]:2379", "cp1"]),
        ("fd00::1", "socat - TCP:[{host}]:{port}", ["socat", "-", "TCP:[fd00::1]:2379"]),
    ],
)
def test_words(host: str, command: str, words: list[str]) -> None:
    assert words_of(command, host, 2379) == words


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("true", "passed on nothing"),
        ("echo .", "may have dropped an alert, as OpenBSD's nc does: use socat"),
        ("kill -9 $$", "was ended by signal 9"),
        (r"printf '\033[31mno  pod\n' >&2; exit 1", r"ended with status 1: \x1b[31mno pod"),
        # It closes its output and runs on.
        ("echo no pod >&2; exec >&-; read line", "said: no pod"),
    ],
)
def test_what_is_said(script: str, text: str) -> None:
    with closing(_carried(script)) as carried:
        _all_of(carried)
        assert carried.why_ended() == f"the command of --etcd-via {text}"


def test_the_end_of_many_words_is_quoted() -> None:
    """A process that writes much to standard error goes on, and its last words are kept."""
    program = 'import os; os.write(2, b"error\\n" * 200_000 + b"no pod\\n"); print("done"); os._exit(1)'
    with closing(_carried(program, program=(sys.executable, "-uc"))) as carried:
        assert _all_of(carried) == b"done\n"
        said = carried.why_ended()
    assert said.startswith("the command of --etcd-via ended with status 1: …")
    assert said.endswith(" no pod")
    assert len(said) < 400


def _fifo(directory: Path) -> Path:
    """Return a FIFO, which is at its end when no process has it open that wrote to it."""
    path = directory / "written"
    os.mkfifo(path)
    return path


CHILDREN = "exec >$0; (echo child; exec sleep 1000) & echo started; wait"


def test_closing_kills_its_children(tmp_path: Path) -> None:
    carried = _carried(CHILDREN, str(fifo := _fifo(tmp_path)))
    with fifo.open(encoding="utf-8") as written:
        assert {written.readline(), written.readline()} == {"child\n", "started\n"}
        carried.close()
        assert written.read() == ""


def test_its_group_is_killed_before_the_id_can_be_reused() -> None:
    with closing(_carried("echo $$; sleep 1000 >&- & exit 1")) as carried:
        process = int(_all_of(carried))
        assert carried.why_ended().endswith("ended with status 1")
        assert _state(process) == "Z"
    with pytest.raises(FileNotFoundError):
        _state(process)


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def test_a_process_group_whose_id_may_be_reused_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    carried = _carried("echo $$")
    os.waitpid(int(_all_of(carried)), 0)
    killed: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, _: killed.append(group))
    assert carried.why_ended().endswith("use socat")
    carried.close()
    assert killed == []


def test_the_end_of_the_program_kills_what_is_open(tmp_path: Path) -> None:
    """So after Ctrl-C: threads that are abandoned do not close their connections."""
    command = shlex.join(["sh", "-c", CHILDREN, str(fifo := _fifo(tmp_path))])
    program = (
        "import sys; from pytest_etcdtls.target import Carrier;"
        "from pytest_etcdtls.tls.via import CarriedSocket; "
        "open_ = CarriedSocket(Carrier(sys.argv[1]), 'cp1', 2379); sys.stdin.read()"
    )
    started = subprocess.Popen([sys.executable, "-c", program, command], stdin=subprocess.PIPE)
    with started, fifo.open(encoding="utf-8") as written:
        assert {written.readline(), written.readline()} == {"child\n", "started\n"}
        started.communicate()
        assert written.read() == ""


def test_a_process_of_another_user_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sudo`` cannot be killed by who has called it."""
    carried = _carried("exec >$0; echo $$; exec sleep 1000", str(fifo := _fifo(tmp_path)))
    with fifo.open(encoding="utf-8") as written:
        process = int(written.readline())

        def denied(group: int, number: int) -> None:
            raise PermissionError

        with monkeypatch.context() as patched:
            patched.setattr(os, "killpg", denied)
            carried.close()
        os.kill(process, signal.SIGKILL)
        assert written.read() == ""
