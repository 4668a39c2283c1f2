"""Every file that a run writes, where somebody else has put a link: what it leads to is not changed."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from plugin.live_etcd import Live
from programs import run_program

from pytest_etcdtls.profiles.waivers import write_proposal
from pytest_etcdtls.report import write_file

OUTPUTS = {
    "target": {
        **{f"r.{suffix}": "--etcd-report" for suffix in ("json", "html", "md", "sarif", "prom", "baseline")},
        **{"r.xml": "--junitxml", "r.toml": "--etcd-write-waivers"},
    },
    "list": {
        **{f"r.{suffix}": "--etcd-report" for suffix in ("html", "md", "prom")},
        **{"reports/a.json": "--etcd-report", "r.xml": "--junitxml"},
    },
}

PLANTING = """
import json, pathlib

def pytest_sessionstart():
    for path, victim, link in json.loads(pathlib.Path("links.json").read_text(encoding="utf-8")):
        getattr(pathlib.Path(path), link)(victim)
"""
"""Plants when the options have been read, since ``--etcd-write-waivers`` refuses a file that is there."""

PROGRAM = [Path(sys.executable).with_name("pytest-etcdtls")]
SUITE = [sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls"]


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to", "dangling"])
@pytest.mark.parametrize("command", [PROGRAM, SUITE], ids=["program", "suite"])
@pytest.mark.parametrize("what", OUTPUTS)
def test_no_file_is_written_through_a_link(
    what: str, command: list[str | Path], link: str, live: Live, tmp_path: Path
) -> None:
    victims = {name: tmp_path / f"{name.replace('/', '-')}.victim" for name in OUTPUTS[what]}
    content = None if link == "dangling" else "of somebody else"
    for victim in victims.values():
        if content:
            victim.write_text(content, encoding="utf-8")
    links = [(name, str(victim), link.replace("dangling", "symlink_to")) for name, victim in victims.items()]
    (tmp_path / "links.json").write_text(json.dumps(links), encoding="utf-8")
    (tmp_path / "planting.py").write_text(PLANTING, encoding="utf-8")
    (tmp_path / "reports").mkdir()
    (tmp_path / "clusters.toml").write_text(
        live.table("a").replace("/server-ca.crt", "/peer-ca.crt"), encoding="utf-8"
    )

    target = live.wrong_anchor if what == "target" else ["--etcd-clusters=clusters.toml"]
    files = [f"{option}={name.removesuffix('a.json')}" for name, option in OUTPUTS[what].items()]
    pytests = [*(["--"] if command is PROGRAM else []), "-p", "planting"]
    environment = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    words = [*command, *target, "--etcd-check=listener,cert.trusted", *files, *pytests]
    ran = run_program(words, tmp_path, environment, merged=True)

    assert ran.returncode == 1, ran.stdout
    found = {
        name: victim.read_text(encoding="utf-8") if victim.exists() else None
        for name, victim in victims.items()
    }
    assert found == dict.fromkeys(victims, content)
    replaced = {
        name
        for name, victim in victims.items()
        if not (tmp_path / name).is_symlink() and (tmp_path / name).read_text(encoding="utf-8") != content
    }
    assert replaced == victims.keys() - {"r.toml"}
    refused = "r.toml could not be written: File exists." in " ".join(ran.stdout.split())
    assert refused == ("r.toml" in victims)


@pytest.mark.parametrize("write", ["report", "waivers"])
def test_a_link_that_is_put_there_while_a_file_is_written(write: str, tmp_path: Path) -> None:
    victim, directory = tmp_path / "victim", tmp_path / "shared"
    victim.touch(0o600)
    directory.mkdir()

    def attacked() -> Iterator[Any]:
        [new] = directory.iterdir()
        new.unlink()
        new.symlink_to(victim)
        yield from ()

    if write == "report":
        write_file(directory / "metrics.prom", attacked())
    else:
        write_proposal(directory / "waivers.toml", attacked(), datetime.now(UTC).date())
    assert victim.read_bytes() == b""
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
