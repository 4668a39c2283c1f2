"""Reads a declaration from a file of any supported kind.

A file of any kind says how a process is started: arguments, environment variables, perhaps a configuration
file that they name. ``pod`` and ``systemd`` find that start in it (:class:`ProgramStart`), a manifest that of
each member; this module makes settings of it in three steps, as etcd does (server/etcdmain/config.go,
config.parse):

- Arguments are parsed as Go's package flag does: ``-name`` and ``--name`` are the same, a boolean flag takes
  no following word, and the first word that is no flag ends the flags, with which etcd stops. What comes
  after it is read all the same, because it shows what is intended.
- With a configuration file, named by its flag or else by its variable, its keys are all that counts
  (configFromFile). Flags and variables are kept as ``hidden``.
- Without one, a variable counts if its flag is not given (pkg/flags/flag.go, SetFlagsFromEnv). Since 3.4 both
  together are fatal (verifyEnv), so the variable is kept as ``shadowed`` and is a trap.

Nothing is judged here: a value that etcd refuses is a :class:`Mistake` of the declaration. UsageError is for
files that cannot be read, or in which a value that decides about TLS is not written.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from msgspec import Struct, structs

from pytest_etcdtls.declared.declaration import (
    BOOLEANS,
    Declaration,
    DeclaredMember,
    DeclaredPaths,
    Form,
    Mistake,
    Mount,
    Setting,
    SourceLine,
    StartedWith,
    Via,
    advertised,
    declared_listeners,
    exists,
    parse_urls,
    refused_urls,
)
from pytest_etcdtls.declared.files import read_crl
from pytest_etcdtls.declared.flags import EVERY_FLAG, FLAG_OF, IGNORED, SWITCHES, URL_LISTS, names
from pytest_etcdtls.declared.pod import is_manifest, pods_beside, read_pods
from pytest_etcdtls.declared.start import (
    INSTEAD,
    ProgramStart,
    Variable,
    Word,
    is_proxy,
    not_read,
)
from pytest_etcdtls.declared.systemd import (
    OpenFile,
    drop_ins,
    invocation,
    read_service,
    read_variables,
    root_of,
    unit_name,
)
from pytest_etcdtls.declared.yaml_files import (
    looks_like_configuration,
    read_configuration,
)
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.untrusted.printable import is_host
from pytest_etcdtls.untrusted.regular_files import read_regular
from pytest_etcdtls.versions import tag_version

_MOST_WORDS: Final = 2000
"""The most words of a command line. With each flag that etcd has given twice, there are fewer."""


def _boolean_mistake(setting: Setting) -> Mistake | None:
    """Return the mistake that a boolean setting has a value that is not a boolean; ``None`` otherwise."""
    if setting.boolean or setting.name not in SWITCHES - IGNORED:
        return None
    text = f"etcd stops: {setting.shown!r} is not a value of {setting.spelled}; write true or false"
    return Mistake(place=setting.place, text=text)


def _stray(word: Word, before: Setting | None) -> Mistake:
    # The word itself is not shown: behind a flag that etcd does not have it may be a password.
    where = f" after {before.spelled}" if before is not None else ""
    text = f"etcd stops: an argument{where} is not a flag"
    if before is not None and before.name in SWITCHES and before.value == "true" and word.text in BOOLEANS:
        text += f"; a switch takes its value after an equals sign: {before.spelled}={word.text}"
    return Mistake(place=word.place, text=text)


def unknown(setting: Setting) -> bool:
    """Return whether no version of etcd has a flag of that name."""
    return setting.name not in EVERY_FLAG | IGNORED


NO_FLAGS: Final = frozenset({"ETCD_UNSUPPORTED_ARCH", "ETCD_VERSION"})
"""Variables that etcd reads and that do not correspond to a flag."""

_LONGEST_VALUE: Final = 128 * 1024
"""The longest argument that Linux passes to a program, in octets (``MAX_ARG_STRLEN``)."""

_GO: Final = ("GODEBUG", "SSL_CERT_FILE", "SSL_CERT_DIR")
_REQUIRED: Final = names(
    """
    GODEBUG SSL_CERT_FILE SSL_CERT_DIR
    cert-file key-file client-cert-auth trusted-ca-file client-crl-file auto-tls client-cert-allowed-hostname
    peer-cert-file peer-key-file peer-client-cert-auth peer-trusted-ca-file peer-crl-file peer-auto-tls
    peer-cert-allowed-cn peer-cert-allowed-hostname listen-client-urls listen-peer-urls listen-metrics-urls
    listen-client-http-urls cipher-suites tls-min-version tls-max-version config-file
    """
)
"""Settings whose values are required to judge TLS."""


class Merger(Struct):
    """The settings merged so far, in the fields of :class:`Declaration`."""

    settings: dict[str, Setting] = {}
    overridden: list[Setting] = []
    shadowed: list[Setting] = []
    hidden: list[Setting] = []
    unknown: list[Setting] = []
    mistakes: list[Mistake] = []
    notes: list[str] = []
    left_out: set[str] = set()

    def parse(self, words: Sequence[Word]) -> Iterator[Setting | str]:
        """Yield the words that follow the program: each flag with its value, and words with which etcd stops.

        Raises:
            UsageError: if a word that may contain any flags or a required value is not in the file, or there
                are too many words.
        """
        if len(words) > _MOST_WORDS:
            raise UsageError(f"{words[0].place}: a command line of {len(words)} words is too long for etcd")
        before: Setting | None = None
        rest = deque(words)
        while rest:
            word = rest.popleft()
            if word.unresolved and "=" not in word.text:
                raise UsageError(
                    f"{word.place}: the arguments in {', '.join(word.unresolved)} are not in this file: pass "
                    "a copy with them written out"
                )
            if word.text == "--":
                yield word.text
                self.mistakes += [_stray(stray, None) for stray in [*rest][:1]]
                yield from (stray.text for stray in rest)
                return
            if len(word.text) < 2 or not word.text.startswith("-"):
                # Go's package flag stops here, and etcd then ends. The flags after it show what is intended.
                self.mistakes.append(_stray(word, before))
                yield word.text
            elif (flag := self._flag(word, rest)) is not None:
                before = flag if isinstance(flag, Setting) else before
                yield flag

    def _flag(self, word: Word, rest: deque[Word]) -> Setting | str | None:
        """Return a flag, its word if etcd stops with it, or ``None`` if its value is not in the file."""
        dashes = "--" if word.text.startswith("--") else "-"
        name, equals, value = word.text[len(dashes) :].partition("=")
        mistake = None
        unresolved = word.unresolved
        if not name or name.startswith("-"):
            text = "etcd stops: an argument does not have the form of a flag"
            mistake = Mistake(place=word.place, text=text)
        elif not equals and name in SWITCHES:  # Go's flag.Value with IsBoolFlag takes no following word
            value = "true"
        elif not equals and rest and (name in EVERY_FLAG or not rest[0].is_flag):
            following = rest.popleft()  # the value; of an unknown flag, a word that is no flag
            value, unresolved = following.text, (*unresolved, *following.unresolved)
        elif not equals and name in EVERY_FLAG:
            mistake = Mistake(place=word.place, text=f"etcd stops: {word.text} lacks its value")
        setting = Setting(name=name, value=value, spelled=dashes + name, via=Via.FLAG, place=word.place)
        if mistake := mistake or (None if unresolved else _boolean_mistake(setting)):
            self.mistakes.append(mistake)
            return word.text
        if unresolved:
            self.leave_out(setting, ", ".join(unresolved))
            return None
        return setting

    def merge(self, environment: Iterable[Variable], flags: Iterable[Setting]) -> None:
        """Add the settings of an etcd without a configuration file."""
        for variable in environment:
            if not variable.name.startswith("ETCD_") or variable.name in NO_FLAGS:
                continue
            setting = _of_variable(variable)
            if variable.name not in FLAG_OF:
                self.unknown.append(setting)
            elif variable.unresolved:
                self.leave_out(setting, variable.unresolved)
            else:
                self._put(setting)
        of_environment, self.settings = self.settings, {}
        for flag in flags:
            if unknown(flag):
                self.unknown.append(flag)
            else:
                self._put(flag)
        self.shadowed += [setting for name, setting in of_environment.items() if name in self.settings]
        self.settings = of_environment | self.settings
        for setting in self.settings.values():
            self._check_urls(setting)
            if setting.via is Via.VARIABLE and setting.value and (mistake := _boolean_mistake(setting)):
                self.mistakes.append(mistake)

    def hide(self, flags: Iterable[Setting], variables: Iterable[Variable]) -> None:
        """Add flags and variables that a configuration file hides. etcd still parses the flags."""
        for flag in flags:
            if flag.name not in ("config-file", "version"):
                self._check_urls(flag)
                (self.unknown if unknown(flag) else self.hidden).append(flag)
        self.hidden += [
            _of_variable(variable)
            for variable in variables
            if variable.name in FLAG_OF and FLAG_OF[variable.name] != "config-file"
        ]

    def take(self, keys: Iterable[tuple[Setting, str | None]]) -> None:
        """Add the settings of a configuration file."""
        for setting, problem in keys:
            if problem is None:
                self.unknown.append(setting)
            elif problem:
                text = f"etcd stops: {setting.spelled} {problem}"
                self.mistakes.append(Mistake(place=setting.place, text=text, key=setting))
            else:
                self._put(setting)

    def leave_out(self, setting: Setting, why: str) -> None:
        """Record a setting whose value is not known.

        Raises:
            UsageError: if the value is required to judge TLS.
        """
        note = f"{setting.place}: the value of {setting.spelled} is not in this file ({why})"
        if setting.name in _REQUIRED:
            raise UsageError(
                f"{note}: pass a copy with the value written out, or {INSTEAD.removeprefix('pass ')}"
            )
        self.notes.append(note)
        self.left_out.add(setting.name)

    def _put(self, setting: Setting) -> None:
        """Add a setting, which takes precedence over earlier ones of the same name."""
        before = self.settings.get(setting.name)
        if before is not None and setting.name == "feature-gates":  # a later one adds to an earlier one
            value = f"{before.value},{setting.value}"
            if len(value) > _LONGEST_VALUE:
                raise UsageError(f"{setting.place}: the values of {setting.spelled} are too long together")
            setting = replace(setting, value=value)
        elif before is not None and _is_kept(before, setting):
            self.overridden.append(setting)
            return
        elif before is not None:
            self.overridden.append(before)
        self.settings[setting.name] = setting

    def _check_urls(self, setting: Setting) -> None:
        """Record the URLs of a setting that etcd refuses."""
        if setting.name in URL_LISTS:
            self.mistakes += [
                Mistake(place=setting.place, text=f"etcd stops: {setting.spelled} has {problem}")
                for problem in islice(refused_urls(setting.value), 10)
            ]


def _is_kept(before: Setting, later: Setting) -> bool:
    """Return whether etcd keeps the first of two flags: URLs are, if the second is empty or one of them.

    ``UniqueURLs.Set`` in pkg/flags/unique_urls.go.
    """
    if later.name not in URL_LISTS or later.via is not Via.FLAG:
        return False
    return not later.value or later.value in map(str, parse_urls(before.value))


def assemble(invocation: ProgramStart, *, form: Form, source: str, open_file: OpenFile) -> Declaration:
    """Return the declaration for one start of etcd; an environment file alone has no program.

    Raises:
        UsageError: if a required value is not given, or the configuration file cannot be read.
    """
    if is_proxy(invocation):
        command = invocation.program[1]
        raise UsageError(f"{command.place}: etcd {command.text} is a proxy, not a member")
    merger = Merger()
    arguments = [*merger.parse(invocation.program[1:])]
    flags = [argument for argument in arguments if isinstance(argument, Setting)]
    variables = {variable.name: variable for variable in invocation.environment}
    config = _config_file(flags, variables)
    text = None
    if config is None:
        merger.merge(invocation.environment, flags)
    else:
        path, text = _open_configuration(config, open_file)
        merger.hide(flags, variables.values())
        merger.take(read_configuration(text, path))
    of_go = [variables[name] for name in _GO if name in variables]
    for variable in of_go:
        if variable.unresolved:
            merger.leave_out(_of_variable(variable), variable.unresolved)
    own = [
        _of_variable(variable)
        for variable in variables.values()
        if variable.name.startswith("ETCD_") and not variable.unresolved
    ]
    declaration = Declaration(
        form=form,
        source=source,
        settings=MappingProxyType(merger.settings),
        overridden=tuple(merger.overridden),
        shadowed=tuple(merger.shadowed),
        hidden=tuple(merger.hidden),
        unknown=tuple(merger.unknown),
        mistakes=tuple(merger.mistakes),
        config_file=config.value if config else None,
        image=invocation.image,
        version=tag_version(invocation.image),
        pod=invocation.pod,
        owner=invocation.owner,
        mounts=invocation.mounts,
        run_as=invocation.run_as,
        go_environment=MappingProxyType({variable.name: variable.value for variable in of_go}),
        etcdctl=MappingProxyType(
            {name: variable.value for name, variable in variables.items() if name.startswith("ETCDCTL_")}
        ),
        notes=tuple(merger.notes),
        started_with=StartedWith(
            arguments=tuple(arguments),
            variables=tuple(own),
            left_out=frozenset(merger.left_out),
            configuration=text,
        ),
    )
    _refuse_unusable_urls(declaration)
    return declaration


_MOST_URLS: Final = 100
"""URLs of a declaration. Each listener is judged by a hundred checks, and takes a MiB of memory."""


def _refuse_unusable_urls(declaration: Declaration) -> None:
    """Refuse a URL whose host is no name and no address, and more URLs than an etcd has.

    etcd accepts some of those hosts in advertised URLs.
    """
    opened = (listener.url for listener in declared_listeners(declaration))
    urls = dict.fromkeys((*advertised(declaration), *opened))
    if len(urls) > _MOST_URLS:
        raise UsageError(
            f"{declaration.source} declares {len(urls)} URLs, and at most {_MOST_URLS} are judged: omit some"
        )
    for url in urls:
        if not url.is_socket and not url.is_wildcard and not is_host(url.host):
            raise UsageError(
                f"{declaration.source} declares {str(url)!r}, whose host is neither a host name nor an IP "
                "address: correct the URL"
            )


def _config_file(flags: Iterable[Setting], variables: dict[str, Variable]) -> Setting | None:
    given = [flag for flag in flags if flag.name == "config-file"]
    if given and given[-1].value:
        return given[-1]
    variable = variables.get("ETCD_CONFIG_FILE")
    return _of_variable(variable) if variable is not None and variable.value else None


def _of_variable(variable: Variable) -> Setting:
    name = FLAG_OF.get(variable.name, variable.name)
    return Setting(
        name=name,
        value=variable.value,
        spelled=variable.name,
        via=Via.VARIABLE,
        place=variable.place,
    )


def _open_configuration(config: Setting, open_file: OpenFile) -> tuple[str, str]:
    """Return path and text of the configuration file that a setting names."""
    opened = open_file(config.value, config.place)
    if opened is None:
        raise UsageError(
            f"{config.place}: etcd reads {config.written}, and that file is not here: pass that "
            "file itself, or give the directory that it is under as --etcd-pki-dir"
        )
    return opened


def from_command_line(
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    source: str = "the command line",
    find: Callable[[str], Path | None] | None = None,
    form: Form = Form.COMMAND_LINE,
) -> Declaration:
    """Return the declaration in the command line of a running etcd.

    Args:
        argv: the program and its arguments.
        environment: the environment that etcd was started with; variables that are not etcd's are ignored.
        source: a description of where it comes from.
        find: maps a path of ``--config-file`` to a file on this machine; ``None`` takes paths as they are.
        form: of the declaration.

    Raises:
        UsageError: if it does not start an etcd server, or its configuration file cannot be read.
    """
    place = SourceLine(source)

    def open_file(path: str, named_at: SourceLine) -> tuple[str, str] | None:
        here = Path(path) if find is None else find(path)
        return None if here is None or not exists(here) else (str(here), _read(here, f"{named_at}: "))

    invocation = ProgramStart(
        program=tuple(Word(text, place) for text in argv),
        environment=tuple(Variable(name, value, place) for name, value in (environment or {}).items()),
    )
    return assemble(invocation, form=form, source=source, open_file=open_file)


_ASSIGNMENT = re.compile(r"[A-Za-z_][^=]*=")


def read_process(text: str, file: str) -> ProgramStart:
    """Return how etcd was started, from a copy of ``/proc/PID/cmdline``, behind one of ``environ`` or alone.

    Raises:
        UsageError: if its program is not etcd.
    """
    words = [Word(part, SourceLine(file)) for part in text.removesuffix("\0").split("\0")]
    before = list(takewhile(lambda word: not word.text or _ASSIGNMENT.match(word.text), words))
    program = words[len(before) :]
    if not program or not program[0].is_etcd:
        # The first word is not shown: the file may be one with a password.
        raise UsageError(f"{file}: this is not etcd's command line: its program is not etcd")
    pairs = [(word.text.partition("="), word.place) for word in before if word.text]
    return ProgramStart(
        program=tuple(program),
        environment=tuple(Variable(name, value, place) for (name, _, value), place in pairs),
    )


_SECTION = re.compile(r"^[ \t]*\[(Unit|Service|Install)\][ \t]*$", re.MULTILINE)
_MENTION = re.compile(r"^[ \t]*[#;].*\bETCD_[A-Z]", re.MULTILINE)
_OF_TALOS = re.compile(r"^(machine|cluster)[ \t]*:", re.MULTILINE)
_OF_K3S = re.compile(
    r"^(etcd-arg|write-kubeconfig-mode|cluster-init|node-name|tls-san|kube-apiserver-arg)\s*:", re.M
)
_COMMAND = re.compile(
    r"^#!|^[ \t]*(?:(?:exec|env|[A-Za-z_]\w*=\S*)[ \t]+)*"
    r"(?:[^\s=]*/)?(?:etcd|docker|podman|sudo|sh|bash)(?=\s|$)",
    re.MULTILINE,
)
"""A line that begins as a command which starts etcd, or may do so."""
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")

KINDS = (
    "a Kubernetes manifest (kubeadm: /etc/kubernetes/manifests/etcd.yaml), an etcd.conf.yml, an environment "
    "file with ETCD_ variables, a systemd unit, or a copy of /proc/PID/environ and /proc/PID/cmdline"
)


def recognise(text: str, file: str) -> Form:
    """Return the kind of declaration that a text contains.

    Raises:
        UsageError: if it is not a declaration, or its syntax is not valid.
    """
    if _SECTION.search(text):
        return Form.UNIT
    if len({*_OF_TALOS.findall(text)}) > 1:
        raise not_read(SourceLine(file), "Talos' machine configuration")
    if is_manifest(text):
        return Form.MANIFEST
    stripped = map(str.strip, text.splitlines())
    lines = [line for line in stripped if line and line[0] not in "#;" and line != "---"]
    if not lines:
        if _MENTION.search(text):
            return Form.ENVIRONMENT_FILE  # as Debian ships it: only comments
        raise UsageError(f"{file} holds comments only: pass {KINDS}")
    if Word(lines[0], SourceLine(file)).is_flag or _COMMAND.search(text):
        raise not_read(SourceLine(file), "a command or a script")
    if re.match(r"(export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=", lines[0]):
        return Form.ENVIRONMENT_FILE
    if _OF_K3S.search(text):
        raise UsageError(
            f"{file} is k3s's or RKE2's own configuration: etcd's is the file that they write to "
            "server/db/etcd/config below their data directory, /var/lib/rancher/k3s or /var/lib/rancher/rke2"
        )
    if _PEM.search(text):
        raise UsageError(f"{file} holds a {_PEM.findall(text)[0]}, not a declaration of etcd: pass {KINDS}")
    if looks_like_configuration(text, file):
        return Form.YAML
    raise UsageError(f"{file} is not a declaration of etcd: pass {KINDS}")


MAXIMUM_SIZE: Final = 1024 * 1024
"""The largest accepted size of a declaration in bytes. Real ones have a few kilobytes."""


def read_declarations(path: Path, *, pki_dir: Path | None = None) -> tuple[Declaration, ...]:
    """Return the declarations in a file: one, or that of each pod of a manifest that runs etcd.

    Args:
        path: the file of ``--etcd-config``. Its kind is recognised by its content.
        pki_dir: ``--etcd-pki-dir``, where the files that it refers to are searched for first.

    Raises:
        UsageError: if the file cannot be read or is not a declaration of etcd.
    """
    try:
        return tuple(_read_declarations(path, pki_dir))
    except UsageError as error:
        # What is wrong may be in a file that this one names.
        named = "" if str(error).startswith(str(path)) else f" {path}:"
        raise UsageError(f"--etcd-config{named} {error}") from error


def _read_declarations(path: Path, pki_dir: Path | None) -> Iterator[Declaration]:
    text = _read(path)
    form = Form.COMMAND_LINE if "\0" in text else recognise(text, str(path))
    root = root_of(path) if form is Form.UNIT else Path("/")
    files = _Files(declaration=path, text=text, pki_dir=pki_dir, root=root)
    if form is not Form.MANIFEST:
        started = _started(form, path, text, files)
        yield assemble(started, form=form, source=str(path), open_file=files.open)
        return
    beside = tuple(pods_beside(path, text))
    for pod in read_pods(text, str(path)):
        of_pod = structs.replace(files, mounts=pod.mounts)
        declaration = assemble(pod, form=form, source=str(path), open_file=of_pod.open)
        yield replace(declaration, beside=beside)


def _started(form: Form, path: Path, text: str, files: _Files) -> ProgramStart:
    file = str(path)
    if form is Form.YAML:
        place = SourceLine(file)
        return ProgramStart(program=(Word("etcd", place), Word(f"--config-file={file}", place)))
    if form is Form.ENVIRONMENT_FILE:
        return ProgramStart(program=(), environment=tuple(read_variables(text, file)))
    if form is Form.COMMAND_LINE:
        return read_process(text, file)
    texts = [(file, text), *((str(drop_in), _read(drop_in)) for drop_in in drop_ins(path))]
    directives = [directive for each in texts for directive in read_service(*each)]
    return invocation(directives, unit_name(path, text), files.open)


class _Files(Struct):
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
        for candidate in self._candidates(path):
            if exists(candidate):
                text = _read(candidate, f"{named_at}: ")
                return self._counted(str(candidate), text, named_at)
        return None

    def _counted(self, path: str, text: str, named_at: SourceLine) -> tuple[str, str]:
        self._left -= len(text)
        if self._left < 0:
            raise UsageError(f"{named_at}: the files named here are larger than 4 MiB together")
        return path, text

    def _candidates(self, path: str) -> Iterator[Path]:
        if self.pki_dir is not None:
            below = DeclaredPaths(pki_dir=self.pki_dir, mounts=self.mounts).find(path)
            if below is not None:
                yield below
        copy = self.declaration.parent / PurePosixPath(path).name
        if copy != self.declaration:
            yield copy
        named = DeclaredPaths(root=self.root, mounts=self.mounts).find(path)
        if named is not None:
            yield named


def _read(path: Path, named_at: str = "") -> str:
    """Return the text of a file.

    Raises:
        UsageError: if it cannot be read, is empty, is not text, or is too large to be a declaration.
    """
    if path.name == "-":
        raise UsageError("standard input is not read: write the declaration to a file and pass that file")
    try:
        data = read_regular(path, MAXIMUM_SIZE)
    except UnreadableFileError as error:
        of_kubectl = "; of a list of kubectl, the objects of etcd only (-l)" if exists(path) else ""
        raise UsageError(f"{named_at}{path} {error}; pass {KINDS}{of_kubectl}") from error
    if not data.strip():
        raise UsageError(f"{named_at}{path} is empty: pass {KINDS}")
    return _decoded(data, f"{named_at}{path}")


_CONTROL = re.compile(r"[\x01-\x08\x0e-\x1f\x7f]")


def _decoded(data: bytes, where: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(
            f"{where} is UTF-16, as PowerShell's > writes it: write UTF-8 (| Out-File -Encoding utf8)"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not text: pass {KINDS}") from error
    # A copy of /proc/PID/cmdline contains NUL: after each argument.
    if "\0" in text and (_CONTROL.search(text) or not text.endswith("\0")):
        raise UsageError(f"{where} is binary: pass {KINDS}")
    return text.replace("\r\n", "\n")


def declared_member(
    declaration: Declaration, pki_dir: Path | None = None, paths: DeclaredPaths | None = None
) -> DeclaredMember:
    """Return the member of a declaration, with its CRL files read.

    Args:
        declaration: of the member.
        pki_dir: ``--etcd-pki-dir``.
        paths: finds the files, if the declaration is that of a process.
    """
    paths = paths or DeclaredPaths(pki_dir=pki_dir, mounts=declaration.mounts)
    settings = [declaration.settings.get(f"{side}-crl-file") for side in ("client", "peer")]
    crls = {setting.value: read_crl(setting, paths) for setting in settings if setting and setting.value}
    return DeclaredMember(declaration=declaration, paths=paths, crls=MappingProxyType(crls))
