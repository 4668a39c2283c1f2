"""Reads a declaration from a file, whatever kind it is, together with the files that it refers to.

Opens files and nothing else. Whatever is wrong with one is a single message that names file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from pytest_etcdtls.declared.command_line import read_command_line
from pytest_etcdtls.declared.crl_file import read_crl
from pytest_etcdtls.declared.declaration import Declaration, Form, Mount, Place
from pytest_etcdtls.declared.environment_file import read_variables
from pytest_etcdtls.declared.files import Whereabouts, whereabouts
from pytest_etcdtls.declared.manifest import read_manifest
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.declared.merge import assemble
from pytest_etcdtls.declared.recognition import KINDS, recognise
from pytest_etcdtls.declared.specifiers import Specifiers
from pytest_etcdtls.declared.systemd_unit import invocation, read_service
from pytest_etcdtls.declared.unit_files import drop_ins, root_of, unit_name
from pytest_etcdtls.declared.words import Invocation, Word
from pytest_etcdtls.errors import UsageError

MAXIMUM_SIZE: Final = 1024 * 1024
"""Octets that a declaration may have; real ones have some kilobytes."""


def read_declaration(
    path: Path, *, pki_dir: Path | None = None, option: str = "--etcd-config"
) -> Declaration:
    """Return what a file declares an etcd to be.

    Args:
        path: the file; its kind is told by its content.
        pki_dir: ``--etcd-pki-dir``, where the files that it refers to are looked for first.
        option: the option that named it, for messages.

    Raises:
        UsageError: if it is not to be had, or is not what an etcd is declared with.
    """
    text = _read(path, option)
    form = Form.COMMAND_LINE if "\0" in text else recognise(text, str(path))
    files = _Files(path, text, pki_dir, root_of(path) if form is Form.UNIT else Path("/"))
    if form is Form.MANIFEST:
        container = read_manifest(text, str(path))
        files.mounts = container.mounts
        started = replace(container.invocation, image=container.image)
    else:
        started = _started(form, path, text, files, option)
    return assemble(started, form=form, source=str(path), open_file=files.open, mounts=files.mounts)


def _started(form: Form, path: Path, text: str, files: _Files, option: str) -> Invocation:
    file = str(path)
    if form is Form.YAML:
        place = Place(file)
        return Invocation(program=(Word("etcd", place), Word(f"--config-file={file}", place)))
    if form is Form.ENVIRONMENT_FILE:
        return Invocation(program=(), environment=tuple(read_variables(text, file)))
    if form is Form.COMMAND_LINE:
        return read_command_line(text, file)
    texts = [(file, text), *((str(one), _read(one, option)) for one in drop_ins(path))]
    return invocation(read_service(texts), Specifiers(unit_name(path, text)), files.open)


@dataclass
class _Files:
    """The files that a declaration refers to."""

    declaration: Path
    text: str
    pki_dir: Path | None
    root: Path
    mounts: tuple[Mount, ...] = ()

    def open(self, path: str, named_at: Place) -> tuple[str, str] | None:
        """Return path and text of a file: under ``--etcd-pki-dir``, else beside, else where it is named."""
        if path == str(self.declaration):
            return path, self.text
        for found in self._candidates(path):
            if found.is_file():
                return str(found), _read(found, f"{named_at}:")
        return None

    def _candidates(self, path: str) -> Iterator[Path]:
        if self.pki_dir is not None:
            under = Whereabouts(pki_dir=self.pki_dir, mounts=self.mounts).find(path)
            if under is not None:
                yield under
        beside = self.declaration.parent / PurePosixPath(path).name
        if beside != self.declaration:
            yield beside
        found = Whereabouts(root=self.root, mounts=self.mounts).find(path)
        if found is not None:
            yield found


def _read(path: Path, option: str) -> str:
    """Return the text of a file.

    Raises:
        UsageError: if it cannot be read, is empty, no text, or too large to be a declaration.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_SIZE + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{option} {path} does not exist") from error
    except IsADirectoryError as error:
        raise UsageError(f"{option} {path} is a directory: name the file in it, {KINDS}") from error
    except PermissionError as error:
        raise UsageError(
            f"{option} {path} may not be read by this user: pass a copy, or run as one who may"
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {path} cannot be read: {error}") from error
    if len(data) > MAXIMUM_SIZE:
        raise UsageError(f"{option} {path} is larger than 1 MiB, no declaration is: pass {KINDS}")
    if not data.strip():
        raise UsageError(f"{option} {path} is empty: pass {KINDS}")
    return _decoded(data, path, option)


def _decoded(data: bytes, path: Path, option: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {path} is not text: pass {KINDS}") from error
    # The kernel separates the arguments of a process by NUL and has no other control characters among them.
    if "\0" in text and ("\n" in text or not text.endswith("\0")):
        raise UsageError(f"{option} {path} is binary: pass {KINDS}")
    return text.replace("\r\n", "\n")


def declared_member(declaration: Declaration, pki_dir: Path | None = None) -> DeclaredMember:
    """Return the member of a declaration; its CRL files are read now."""
    where = whereabouts(declaration, pki_dir)
    settings = [declaration.settings.get(f"{side}-crl-file") for side in ("client", "peer")]
    crls = {setting.value: read_crl(setting, where) for setting in settings if setting and setting.value}
    return DeclaredMember(declaration=declaration, where=where, crls=MappingProxyType(crls))


def read_member(path: Path, pki_dir: Path | None = None) -> DeclaredMember:
    """Return the member that a file declares (``--etcd-config``, ``--etcd-pki-dir``).

    Raises:
        UsageError: if the file cannot be read, or is no declaration of an etcd.
    """
    return declared_member(read_declaration(path, pki_dir=pki_dir), pki_dir)
