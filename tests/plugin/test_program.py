"""The program ``pytest-etcdtls``: the suite alone, with the names of options that etcdctl has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from programs import run_program

from pytest_etcdtls.__main__ import main
from pytest_etcdtls.options import OPTIONS, Kind

PROGRAM = Path(sys.executable).with_name("pytest-etcdtls")


def words(live: Live) -> list[str]:
    """Return the options that judge both ports."""
    return [option.replace("--etcd-", "--", 1) for option in live.options]


def test_it_runs_the_suite_alone(live: Live, tmp_path: Path) -> None:
    """Neither what the directory has, nor what the environment adds, nor another plugin takes part."""
    files = {
        "conftest.py": "raise SystemExit('a conftest.py is loaded')",
        "test_own.py": "def test_own(): raise SystemExit('a test is run')",
        "pytest.ini": "[pytest]\naddopts = --no-such-option\netcd_endpoint = https://127.0.0.1:1",
        "spoils.py": "raise SystemExit('a plugin is loaded')",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    client, *others = words(live)
    environment = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_ADDOPTS": "--no-such-option",
        "PYTEST_PLUGINS": "spoils",
        "PYTHONPATH": str(tmp_path),
    }
    done = run_program([PROGRAM, client.partition("=")[2], *others], tmp_path, environment)
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout.strip().splitlines()
    first, *_, last = shown
    assert first.startswith("live (live, etcd ")
    assert last.startswith("etcd TLS: CLEAN")
    assert len(shown) <= 26  # 16 on an etcd that is not old: that has six warnings more
    assert {path.name for path in tmp_path.iterdir()} == {*files}


def test_a_fault_fails_the_run_and_options_after_two_dashes_are_pytests(live: Live, tmp_path: Path) -> None:
    wrong = f"--cacert={live.files / 'peer-ca.crt'}"
    options = ["-v", "--", "-k", "listener.answers or cert.trusted"]
    done = run_program([PROGRAM, *words(live), wrong, *options], tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("cert.trusted (") == 1
    assert "1 violates, " in done.stdout
    assert "NOT CLEAN: 1 fault" in done.stdout.splitlines()[-1]
    assert "PASSED" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cacrt=ca.crt"], "no option --cacrt (options of pytest follow --); did you mean '--cacert'?"),
        (["10.0.0.11"], "'10.0.0.11' is not an endpoint, such as https://10.0.0.11:2379"),
        (["--cacert"], "argument --cacert: expected one argument"),
        (["clean", "--all"], "there is no option --all"),
        (["merge"], "give --etcd-report=DIR/"),
        (["\x1b[2J"], r"'\x1b[2J' is not an endpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 4
    output, error = capsys.readouterr()
    assert output == ""
    assert said in error


@pytest.mark.parametrize("option", ["--list-checks", "--explain=mtls.no-certificate"])
def test_a_reader_that_closes_the_pipe_ends_the_output(option: str) -> None:
    """As ``| head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        done = subprocess.run([PROGRAM, option], stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    gone = 'rmdir "$PWD"; exec "$0" https://127.0.0.1:1'
    done = run_program(["sh", "-c", gone, PROGRAM], tmp_path)
    assert done.returncode == 4
    assert done.stderr == (
        "ERROR: the working directory cannot be read (No such file or directory): change to one that exists\n"
    )


def test_a_junit_file_that_cannot_be_written_is_refused_before_the_first_connection(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_program([PROGRAM, "https://127.0.0.1:1", "--junitxml=file/no/x.xml"], tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    assert "file/no/x.xml': the directory cannot be created: Not a directory" in done.stderr


def _raising(*_: object) -> int:
    raise KeyboardInterrupt


@pytest.mark.parametrize("ended", [_raising, lambda *_: 2], ids=["raised", "exit-code"])
def test_ctrl_c_before_the_session_is_one_line(
    ended: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pytest, "main", ended)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert main(["https://127.0.0.1:2379"]) == 2
    assert capsys.readouterr() == ("", "etcd TLS: NO VERDICT: interrupted before the first check\n")


@pytest.fixture
def passed_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What pytest is started with, instead of starting it."""
    arguments: list[str] = []

    def start(given: list[str], _: object) -> int:
        arguments.extend(given)
        return 0

    monkeypatch.setattr(pytest, "main", start)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return arguments


@pytest.mark.parametrize("prefix", ["--", "--etcd-"])
def test_each_option_of_the_suite_is_one(prefix: str, passed_on: list[str]) -> None:
    for option in OPTIONS:
        if option.flag.startswith("--etcd-"):
            value = "" if option.kind is Kind.FLAG else "=value"
            assert main([f"{prefix}{option.flag.removeprefix('--etcd-')}{value}"]) == 0
            assert f"{option.flag}{value}" in passed_on


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ([], ["--etcd-pid=auto"]),
        (["--report=etcd.html"], ["--etcd-report=etcd.html", "--etcd-pid=auto"]),
        (
            ["https://etcd:2379", "other:2379"],
            ["--etcd-endpoint=https://etcd:2379", "--etcd-endpoint=other:2379"],
        ),
        (["--clusters=fleet.yaml", "-n4"], ["--etcd-clusters=fleet.yaml"]),
        (["--explain=mtls.foreign-ca"], ["--etcd-explain=mtls.foreign-ca"]),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_without_a_target_it_is_what_runs_here(
    arguments: list[str], target: list[str], passed_on: list[str]
) -> None:
    assert main(arguments) == 0
    assert [word for word in passed_on if word.startswith("--etcd-")] == target
