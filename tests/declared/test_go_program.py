"""The build information of programs: of real ones, and of headers that no compiler of this machine writes."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from go_programs import ETCD, small

from pytest_etcdtls.declared.go_program import GoProgram, read_go_program
from pytest_etcdtls.errors import UnreadableFileError


@pytest.fixture
def program_file(tmp_path: Path) -> Path:
    """The path of a program, which a test writes."""
    return tmp_path / "program"


def test_of_an_etcd(etcd_binary: Path) -> None:
    built = read_go_program(etcd_binary)
    assert built is not None
    assert built.package in (ETCD, "go.etcd.io/etcd")


@pytest.mark.program("strip")
def test_strip_leaves_it(newest_etcd: Path, program_file: Path) -> None:
    shutil.copy(newest_etcd, program_file)
    subprocess.run(["strip", program_file], check=True)
    assert read_go_program(program_file) == read_go_program(newest_etcd)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pointers", [False, True], ids=["since-1.18", "before"])
def test_of_each_form(program_file: Path, bits: int, order: str, pointers: bool) -> None:
    program_file.write_bytes(small(bits=bits, order=order, pointers=pointers))
    assert read_go_program(program_file) == GoProgram(ETCD, frozenset({ETCD}))


def test_of_no_program_of_go() -> None:
    assert read_go_program(Path(os.path.realpath("/bin/sh"))) is None


@pytest.mark.parametrize("section", [".gopclntab", ".data.rel.ro.gopclntab"])
def test_of_an_older_go(program_file: Path, section: str) -> None:
    program_file.write_bytes(small(section))
    assert read_go_program(program_file) == GoProgram()


def test_of_named_files(program_file: Path) -> None:
    program_file.write_bytes(small(package="command-line-arguments"))
    built = read_go_program(program_file)
    assert built is not None
    assert not built.package


def test_pointers_that_the_loader_writes(program_file: Path) -> None:
    """With -buildmode=pie, Go before 1.18 leaves them zero in the file."""
    elf = bytearray(small(pointers=True))
    elf[0x210:0x220] = bytes(16)
    program_file.write_bytes(elf)
    assert read_go_program(program_file) == GoProgram()


HOSTILE = {
    "not ELF": b"#!/bin/sh\n",
    "cut": small()[:-1],
    "empty": b"",
    "neither 32 nor 64 bits": b"\x7fELF\x03\x01".ljust(64, b"\0"),
    "no sections": small()[:40] + bytes(8) + small()[48:60] + bytes(4) + small()[64:],
    "65,535 sections": small()[:60] + b"\xff\xff" + small()[62:],
    "sections far away": small()[:40] + struct.pack("<Q", 2**64 - 1) + small()[48:],
    "a text without an end": small()[:0x220] + b"\xff" * 16 + small()[0x230:],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_to_be_read(program_file: Path, case: str) -> None:
    program_file.write_bytes(HOSTILE[case].ljust(8 * 1024 * 1024 if "sections" in case else 0, b"\0"))
    with pytest.raises(UnreadableFileError):
        read_go_program(program_file)


@pytest.mark.program("go")
@pytest.mark.parametrize("words", [(), ("-buildmode=pie",), ("-ldflags=-s -w",), ("-trimpath", "main.go")])
def test_as_go_reads_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "main.go").write_text("package main\nfunc main() {}\n")
    (tmp_path / "go.mod").write_text("module example.com/tiny\ngo 1.21\n")
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", "tiny", *words], cwd=tmp_path, env=environment, check=True)
    said = subprocess.run(
        ["go", "version", "-m", "tiny"], cwd=tmp_path, capture_output=True, check=True
    ).stdout
    built = read_go_program(tmp_path / "tiny")
    assert built is not None
    package = built.package or "command-line-arguments"
    assert f"\tpath\t{package}\n".encode() in said
    assert all(f"\t{module}\t".encode() in said for module in built.modules)
