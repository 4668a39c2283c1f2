"""Reads a declaration from a file of any supported kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import (
    Declaration,
    DeclaredMember,
    Form,
    Mount,
    SourceLine,
    Whereabouts,
    exists,
)
from pytest_etcdtls.declared.etcd_yaml import documents, items, looks_like_configuration, place_of, text_of
from pytest_etcdtls.declared.files import read_crl, whereabouts
from pytest_etcdtls.declared.kubernetes import is_manifest, read_manifest
from pytest_etcdtls.declared.merge import assemble
from pytest_etcdtls.declared.shell import (
    Allowance,
    ProgramStart,
    Variable,
    Word,
    find_etcd,
    find_in_script,
    split_commands,
    split_off_etcd,
)
from pytest_etcdtls.declared.systemd import (
    Specifiers,
    drop_ins,
    invocation,
    read_service,
    read_variables,
    root_of,
    unit_name,
)
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.local_file import read_regular
from pytest_etcdtls.untrusted import printable


def from_command_line(
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    source: str = "the command line",
    find: Callable[[str], Path | None] | None = None,
) -> Declaration:
    """Return the declaration in the command line of a running etcd.

    Args:
        argv: the program and its arguments.
        environment: the environment that etcd was started with; variables that are not etcd's are ignored.
        source: a description of where it comes from.
        find: maps a path of ``--config-file`` to a file on this machine; ``None`` takes paths as they are.

    Raises:
        UsageError: if it does not start an etcd server, or its configuration file cannot be read.
    """
    place = SourceLine(source)

    def open_file(path: str, named_at: SourceLine) -> tuple[str, str] | None:
        here = Path(path) if find is None else find(path)
        return None if here is None or not exists(here) else (str(here), _read(here, f"{named_at}:"))

    invocation = ProgramStart(
        program=tuple(Word(text, place) for text in argv),
        environment=tuple(Variable(name, value, place) for name, value in (environment or {}).items()),
    )
    return assemble(invocation, form=Form.COMMAND_LINE, source=source, open_file=open_file)


def read_command_line(text: str, file: str) -> ProgramStart:
    """Return how the commands in a text start etcd.

    Raises:
        UsageError: if no command starts etcd, or several do.
    """
    if "\0" in text:
        return _of_words([Word(part, SourceLine(file)) for part in text.split("\0") if part], file)
    if text.lstrip().startswith(("- ", "[")):
        roots = documents(text, file)
        nodes = items(roots[0]) if roots else []
        return _of_words([Word(text_of(node) or "", place_of(node, file)) for node in nodes], file)
    found = find_in_script(Word(text, SourceLine(file, 1)), ())
    if len(found) != 1:
        raise UsageError(f"{file}: {len(found) or 'no'} commands in it start etcd, and exactly one is wanted")
    return found[0]


def _of_words(words: list[Word], file: str) -> ProgramStart:
    if words and words[0].text.startswith("-"):
        words.insert(0, Word("etcd", words[0].place))
    allowance = Allowance()
    allowance.take("words", words[0].place if words else SourceLine(file), len(words))
    found = find_etcd(words, (), allowance)
    if found is None:
        program = printable(words[0].text) if words else "nothing"
        raise UsageError(f"{file}: this is not etcd's command line but that of {program}")
    return found


_SECTION = re.compile(r"^[ \t]*\[(Unit|Service|Install)\][ \t]*$", re.MULTILINE)
_MENTION = re.compile(r"^[ \t]*[#;].*\bETCD_[A-Z]", re.MULTILINE)
_OF_K3S = re.compile(
    r"^(etcd-arg|write-kubeconfig-mode|cluster-init|node-name|tls-san|kube-apiserver-arg)\s*:", re.M
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")

KINDS = (
    "a Kubernetes manifest (kubeadm: /etc/kubernetes/manifests/etcd.yaml), an etcd.conf.yml, an environment "
    "file with ETCD_ variables, a systemd unit, or a command line"
)


def recognise(text: str, file: str) -> Form:
    """Return the kind of declaration that a text contains.

    Raises:
        UsageError: if it is not a declaration, or its syntax is not valid.
    """
    if _SECTION.search(text):
        return Form.UNIT
    if is_manifest(text):
        return Form.MANIFEST
    lines = list(_significant(text))
    if not lines:
        if _MENTION.search(text):
            return Form.ENVIRONMENT_FILE  # as Debian ships it: only comments
        raise UsageError(f"{file} holds comments only: pass {KINDS}")
    if _is_list(lines[0]) or _starts_etcd(text, file):
        return Form.COMMAND_LINE
    if re.match(r"(export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=", lines[0]):
        return Form.ENVIRONMENT_FILE
    if _OF_K3S.search(text):
        raise UsageError(
            f"{file} is k3s's or RKE2's own configuration: etcd's is the file that they write to "
            "server/db/etcd/config below their data directory, /var/lib/rancher/k3s or /var/lib/rancher/rke2"
        )
    if _PEM.search(text):
        raise UsageError(
            f"{file} holds a {_PEM.findall(text)[0]}, not what etcd was told to be: pass {KINDS}"
        )
    if looks_like_configuration(text, file):
        return Form.YAML
    raise UsageError(f"{file} is none of what etcd is declared with: pass {KINDS}")


def _significant(text: str) -> Iterator[str]:
    for line in text.splitlines():
        stripped = line.strip()
        if stripped and stripped[0] not in "#;" and stripped != "---":
            yield stripped


def _is_list(line: str) -> bool:
    """Return whether a line starts a list of arguments, as in a manifest or ``docker inspect``."""
    return line.startswith(("- ", "[")) or line == "-"


def _starts_etcd(text: str, file: str) -> bool:
    """Return whether a text begins with a flag, or is a script with a command that starts etcd."""
    try:
        commands = list(split_commands(text, SourceLine(file, 1), {}))
    except UsageError:
        return False
    return bool(commands) and (commands[0][0].is_flag or any(map(split_off_etcd, commands)))


MAXIMUM_SIZE: Final = 1024 * 1024
"""The largest accepted size of a declaration in bytes. Real ones have a few kilobytes."""


def read_declaration(
    path: Path, *, pki_dir: Path | None = None, option: str = "--etcd-config"
) -> Declaration:
    """Return the declaration in a file.

    Args:
        path: the file. Its kind is recognised by its content.
        pki_dir: ``--etcd-pki-dir``, where the files that it refers to are searched for first.
        option: the option that named it, for messages.

    Raises:
        UsageError: if the file cannot be read or is not a declaration of etcd.
    """
    try:
        return _read_declaration(path, pki_dir, option)
    except RecursionError as error:
        raise UsageError(f"{option} {path} is nested too deeply to be what etcd is declared with") from error


def _read_declaration(path: Path, pki_dir: Path | None, option: str) -> Declaration:
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


def _started(form: Form, path: Path, text: str, files: _Files, option: str) -> ProgramStart:
    file = str(path)
    if form is Form.YAML:
        place = SourceLine(file)
        return ProgramStart(program=(Word("etcd", place), Word(f"--config-file={file}", place)))
    if form is Form.ENVIRONMENT_FILE:
        return ProgramStart(program=(), environment=tuple(read_variables(text, file)))
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
    _left: int = 4 * MAXIMUM_SIZE

    def open(self, path: str, named_at: SourceLine) -> tuple[str, str] | None:
        """Return path and text of a file.

        It is searched for in ``--etcd-pki-dir``, in the declaration's directory, and at the path as named.

        Raises:
            UsageError: if it cannot be read, or all files together are larger than a declaration needs.
        """
        if path == str(self.declaration):
            return self._counted(path, self.text, named_at)
        for found in self._candidates(path):
            if exists(found):
                return self._counted(str(found), _read(found, f"{named_at}:"), named_at)
        return None

    def _counted(self, path: str, text: str, named_at: SourceLine) -> tuple[str, str]:
        self._left -= len(text)
        if self._left < 0:
            raise UsageError(f"{named_at}: the files named here are larger than 4 MiB together")
        return path, text

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
        UsageError: if it cannot be read, is empty, is not text, or is too large to be a declaration.
    """
    try:
        data = read_regular(path, MAXIMUM_SIZE)
    except UnreadableFileError as error:
        raise UsageError(f"{option} {path} {error}; wanted is {KINDS}") from error
    if not data.strip():
        raise UsageError(f"{option} {path} is empty: pass {KINDS}")
    return _decoded(data, path, option)


def _decoded(data: bytes, path: Path, option: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {path} is not text: pass {KINDS}") from error
    # A copy of /proc/PID/cmdline contains NUL: after each argument, without line ends.
    if "\0" in text and ("\n" in text or not text.endswith("\0")):
        raise UsageError(f"{option} {path} is binary: pass {KINDS}")
    return text.replace("\r\n", "\n")


def declared_member(declaration: Declaration, pki_dir: Path | None = None) -> DeclaredMember:
    """Return the member of a declaration, with its CRL files read."""
    where = whereabouts(declaration, pki_dir)
    settings = [declaration.settings.get(f"{side}-crl-file") for side in ("client", "peer")]
    crls = {setting.value: read_crl(setting, where) for setting in settings if setting and setting.value}
    return DeclaredMember(declaration=declaration, where=where, crls=MappingProxyType(crls))
