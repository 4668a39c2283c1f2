"""Programs that say that Go has built them, as etcd does: for tests that need no etcd."""

from __future__ import annotations

import atexit
import os
import shutil
import struct
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ETCD = "go.etcd.io/etcd/server/v3"
_FRAME = b"\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6"
_END = b"\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2"
"""What is around the text about the modules (cmd/go/internal/modload, infoStart and infoEnd)."""


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number >= 0x80:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets, number])


def build_information(package: str, modules: Sequence[str] = (), go: str = "go1.26.8") -> bytes:
    """Return the section that Go's linker writes since 1.18."""
    lines = [f"path\t{package}", *(f"dep\t{module}\tv1.0.0\th1:x=" for module in modules), ""]
    text = _FRAME + "\n".join(lines).encode() + _END
    texts = b"".join(_varint(len(one)) + one for one in (go.encode(), text))
    return b"\xff Go buildinf:\x08\x02".ljust(32, b"\0") + texts


def with_section(elf: bytes, name: str, content: bytes) -> bytes:
    """Return a program of 64 bits with one more section, which nothing loads."""
    order = {1: "<", 2: ">"}[elf[5]]
    head = struct.Struct(f"{order}16s2HI3QI6H")
    fields = list(head.unpack_from(elf))
    table = struct.Struct(f"{order}2I4Q2I2Q")
    (start,), count, names = fields[6:7], fields[12], fields[13]
    headers = [list(table.unpack_from(elf, start + number * table.size)) for number in range(count)]
    offset, size = headers[names][4:6]
    texts = elf[offset : offset + size] + name.encode() + b"\0"
    end = len(elf)
    headers[names][4:6] = [end, len(texts)]
    headers.append([size, 1, 0, 0, end + len(texts), len(content), 0, 0, 16, 0])
    fields[6], fields[12] = end + len(texts) + len(content), count + 1
    return b"".join(
        (head.pack(*fields), elf[head.size :], texts, content, *(table.pack(*one) for one in headers))
    )


@cache
def _directory() -> Path:
    made = Path(tempfile.mkdtemp(prefix="go-programs-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    made.chmod(0o755)  # others execute what is in it
    return made


@cache
def built(program: str = "/bin/sh", package: str = ETCD, modules: tuple[str, ...] = (ETCD,)) -> str:
    """Return the path of a copy of a program, which says that Go has built it of a package."""
    copy = _directory() / f"{Path(program).name}-{len(list(_directory().iterdir()))}"
    elf = Path(os.path.realpath(program)).read_bytes()
    copy.write_bytes(with_section(elf, ".go.buildinfo", build_information(package, modules)))
    copy.chmod(0o755)
    return str(copy)


def small(
    section: str = ".go.buildinfo",
    *,
    bits: int = 64,
    order: str = "<",
    pointers: bool = False,
    package: str = ETCD,
) -> bytes:
    """Return the headers of a program with a section of Go, and that section.

    Args:
        section: its name.
        bits: of the program.
        order: of its octets, as in ``struct``.
        pointers: whether it has the texts as before Go 1.18.
        package: what it says that it is built of.
    """
    word, size = {32: ("I", 4), 64: ("Q", 8)}[bits]
    content = build_information(package, (package,))
    address, offset = 0x400000, 0x200
    if pointers:
        text = content[content.index(_FRAME) :]
        content = b"\xff Go buildinf:" + bytes([size, order == ">"])
        content += struct.pack(f"{order}2{word}", 0, address + 32).ljust(16, b"\0")
        content += struct.pack(f"{order}2{word}", address + 32 + 2 * size, len(text)) + text
    names = b"\0.shstrtab\0" + section.encode() + b"\0"
    head = struct.Struct(f"{order}16s2HI3{word}I6H")
    table, segment = (
        struct.Struct(f"{order}2I4{word}2I2{word}"),
        struct.Struct(f"{order}{'2I6Q' if size == 8 else '8I'}"),
    )
    where = (offset, address, address, len(content), len(content))
    load = (1, 6, *where, 16) if size == 8 else (1, *where, 6, 16)
    sections = [
        (0,) * 10,
        (1, 3, 0, 0, offset + len(content), len(names), 0, 0, 1, 0),
        (11, 1, 3, address, offset, len(content), 0, 0, 16, 0),
    ]
    kind = b"\x7fELF" + bytes([bits // 32, 1 + (order == ">"), 1])
    end = offset + len(content) + len(names)
    sizes = (head.size, segment.size, 1, table.size, len(sections), 1)
    elf = head.pack(kind, 2, 0, 1, 0, head.size, end, 0, *sizes) + segment.pack(*load)
    return elf.ljust(offset, b"\0") + content + names + b"".join(table.pack(*one) for one in sections)
