"""The build information of a Go program: its main package, and the modules of which it is built.

Go's linker writes it into each program since Go 1.13, to a section of its own, and ``strip`` leaves it there.
Here it is read from ELF files as debug/buildinfo does (buildinfo.go, readRawBuildInfo and elfExe), because
a machine with an etcd need not have Go. Since Go 1.18 the texts follow a header of 32 octets. Before, the
header has pointers to them: addresses in memory, which the segments of the file map to offsets.

The file may be anybody's. A few headers and the section are read, each within a bound and where the file
says, and nothing of it is executed or mapped: a mapping of a file that is cut while it is read ends the run.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from msgspec import Struct

from pytest_etcdtls.errors import UnreadableFileError
from pytest_etcdtls.untrusted.regular_files import open_regular

_LARGEST: Final = 256 * 1024
"""Octets of one header, table or text that are read: those of the largest programs have about 30 KiB."""
_MAGIC: Final = b"\xff Go buildinf:"
_HEADER, _POINTERS, _INLINE = 32, 16, 0x2
"""The size of the header, the offset of its pointers, and the flag without which it has them."""
_FRAME: Final = 16
"""Octets before and after the text about the modules (cmd/go/internal/modload, ModInfoProg)."""
_OF_FILES: Final = "command-line-arguments"
"""The import path of what is built from named files."""
_LOAD: Final = 1
"""``PT_LOAD``: the type of a segment that is mapped."""

Read = Callable[[int, int], bytes]


class GoProgram(Struct, frozen=True):
    """The build information of a program.

    Attributes:
        package: the import path of its main package; empty if the program does not say, as one older than Go
            1.13, or of another build system.
        modules: the paths of the modules of which packages are in it, the main one included.
    """

    package: str = ""
    modules: frozenset[str] = frozenset()


def read_go_program(path: Path) -> GoProgram | None:
    """Return the build information of a program; ``None`` if it is not one of Go's compiler.

    Raises:
        UnreadableFileError: if it may not be read, or is not an ELF file with sections.
    """
    with open_regular(path) as file:

        def read(offset: int, size: int) -> bytes:
            data = os.pread(file.fileno(), size, offset) if size <= _LARGEST else b""
            return data if len(data) == size else _invalid()

        try:
            return _in_elf(read)
        except (struct.error, OSError, OverflowError, ValueError, IndexError) as error:
            raise UnreadableFileError(f"cannot be read ({error})", "check the path") from error


def _invalid() -> NoReturn:
    raise ValueError("not a valid ELF file with sections")


def _in_elf(read: Read) -> GoProgram | None:
    kind = read(0, 16)
    if not kind.startswith(b"\x7fELF"):
        _invalid()
    word, order = {1: "I", 2: "Q"}.get(kind[4], ""), {1: "<", 2: ">"}.get(kind[5], "")
    head = struct.Struct(f"{order}2HI3{word}I6H") if word and order else _invalid()
    *_, segments, sections, _, _, segment_size, segment_count, size, count, name_table = head.unpack(
        read(16, head.size)
    )
    # sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size (elf(5))
    table = [*struct.iter_unpack(f"{order}2I4{word}2I2{word}", read(sections, size * count))]
    names = read(*table[name_table][4:6])
    offsets = {names[one[0] :].partition(b"\0")[0]: one[4:6] for one in table}
    if b".go.buildinfo" not in offsets:
        # Every program of Go has a table of its functions. Its name has a prefix with -buildmode=pie.
        return GoProgram() if any(name.endswith(b".gopclntab") for name in offsets) else None
    section = read(*offsets[b".go.buildinfo"])
    if not section.startswith(_MAGIC) or len(section) < _HEADER:
        return GoProgram()
    if section[len(_MAGIC) + 1] & _INLINE:
        _, rest = _text(section[_HEADER:])
        text, _ = _text(rest)
        return _parsed(text)
    entry = struct.Struct(f"{order}2I6Q" if word == "Q" else f"{order}8I")
    loads = [
        (fields[3:1:-1], fields[5]) if word == "Q" else (fields[2:0:-1], fields[4])
        for fields in entry.iter_unpack(read(segments, segment_size * segment_count))
        if fields[0] == _LOAD
    ]

    def at(address: int, length: int) -> bytes:
        for (start, offset), in_file in loads:
            if start <= address and address + length <= start + in_file:
                return read(offset + address - start, length)
        return b""  # where the loader writes the pointer, as with -buildmode=pie

    pointers = struct.Struct(f"{order}2{word}")
    _, modules = pointers.unpack_from(section, _POINTERS)
    header = at(modules, pointers.size)
    return _parsed(at(*pointers.unpack(header)) if header else b"")


def _text(data: bytes) -> tuple[bytes, bytes]:
    """Return the text at the beginning, behind its length (encoding/binary, Uvarint), and what follows it."""
    length = shift = 0
    for number, octet in enumerate(data[:10], 1):
        length |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            end = number + length
            return (data[number:end], data[end:]) if end <= len(data) else _invalid()
    return _invalid()


def _parsed(text: bytes) -> GoProgram:
    """Return what the text about the modules says (runtime/debug, ParseBuildInfo)."""
    package, modules = "", set[str]()
    for line in text[_FRAME:-_FRAME].decode("utf-8", "backslashreplace").split("\n"):
        kind, _, rest = line.partition("\t")
        value = rest.partition("\t")[0]
        if kind == "path" and value != _OF_FILES:
            package = value
        elif kind in ("mod", "dep"):
            modules.add(value)
    return GoProgram(package, frozenset(modules))
