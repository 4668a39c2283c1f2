"""The declaration of one etcd: every setting in force and where it is written. Values only."""

from __future__ import annotations

import errno
import ipaddress
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

from pytest_etcdtls.declared.flags import (
    EVERY_FLAG,
    GO_FIELDS,
    IGNORED,
    SECTIONS,
    SWITCHES,
    URL_LISTS,
    flag_known,
    meant,
    section_key_known,
    top_level_known,
)
from pytest_etcdtls.errors import escaped
from pytest_etcdtls.role import Role
from pytest_etcdtls.untrusted.process_root import inside, status_of
from pytest_etcdtls.versions import minor_line, version_key

if TYPE_CHECKING:
    from cryptography import x509

SCHEMES = ("http", "https", "unix", "unixs")


def authority(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in brackets (RFC 3986 section 3.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(name: str) -> bool:
    """Return whether a host is an IP address rather than a name; a zone is ignored."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address or name (RFC 6761 section 6.3 for names)."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class DeclaredURL(Struct, frozen=True):
    """One URL of a URL list in a declaration.

    Attributes:
        scheme: ``http``, ``https``, ``unix`` or ``unixs``, in lower case.
        host: the host without brackets; for a Unix domain socket, its path.
        port: the port; 0 for a Unix domain socket.
    """

    scheme: str
    host: str
    port: int

    @property
    def secure(self) -> bool:
        """Whether the scheme uses TLS."""
        return self.scheme in ("https", "unixs")

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix domain socket, which is reachable only on the same machine."""
        return self.scheme in ("unix", "unixs")

    @property
    def is_wildcard(self) -> bool:
        """Whether the host is the unspecified address: ``0.0.0.0`` or ``::``."""
        return self.host in ("0.0.0.0", "::", "")  # noqa: S104 - compared, never bound

    @property
    def is_loopback(self) -> bool:
        """Whether it is reachable only on the same machine."""
        return is_loopback(self.host)

    @property
    def place(self) -> int | str:
        """Its port, or the path of its socket."""
        return self.port or self.host

    @property
    def address(self) -> str:
        """``host:port``, an IPv6 address in brackets. etcd distinguishes its listeners by this."""
        if self.is_socket:
            return self.host
        return authority(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


def parse_urls(text: str) -> tuple[DeclaredURL, ...]:
    """Return the URLs of a comma-separated list, each once, without those that etcd refuses."""
    urls: dict[DeclaredURL, None] = {}
    for word in text.split(","):
        with suppress(ValueError):
            urls[_parse(word.strip())] = None
    return tuple(urls)


def refused_urls(text: str) -> Iterator[str]:
    """Yield why etcd refuses URLs of a list, a sentence for each. An empty text has none."""
    for word in text.split(",") if text else ():
        try:
            _parse(word.strip())
        except ValueError as error:
            # What is before an @ may be a password.
            yield f"{word.rpartition('@')[2].strip()!r}: {error}"


_BRACKETED_IPV4 = re.compile(r"\[(\d+(?:\.\d+){3})\]")
"""As Cilium writes addresses. Go before 1.24.8 and 1.25.2 reads it; with a newer one etcd does not start."""


def _parse(text: str) -> DeclaredURL:
    parts = urlsplit(_BRACKETED_IPV4.sub(r"\1", text, count=1))
    if parts.scheme not in SCHEMES:
        raise ValueError("a URL begins with http://, https://, unix:// or unixs://")
    if parts.scheme in ("unix", "unixs"):
        return DeclaredURL(parts.scheme, unquote(parts.netloc + parts.path), 0)
    if parts.path:  # etcd's types.NewURLs refuses it
        raise ValueError("nothing may follow the port, not even a slash")
    # What follows % is the zone of a link-local address (RFC 6874).
    return DeclaredURL(parts.scheme, (parts.hostname or "").partition("%")[0], port_of(parts))


def port_of(parts: SplitResult) -> int:
    """Return the port of a URL.

    Raises:
        ValueError: if it has none.
    """
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
        raise ValueError("an IPv6 address is written in brackets")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("its port is not a number up to 65535") from error
    if port is None:
        raise ValueError("it has no port")
    return port


def bind_problem(url: DeclaredURL) -> str | None:
    """Return why etcd refuses to listen on a URL (``embed.checkBindURLs``); ``None`` if it does not."""
    if url.is_socket or url.host == "localhost" or is_address(url.host):
        return None
    return f"{url} names a host, and etcd listens on addresses (and localhost) only"


TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
BOOLEANS = TRUE | {"0", "f", "F", "FALSE", "false", "False"}
"""What Go's ``strconv.ParseBool`` accepts, and what of it is true."""

NOT_SHOWN: Final = "(not shown)"
_USER_OF_URL = re.compile(r"(?<=://)[^/?#@\s]*@(?:[^/?#@\s]*@)*")
_WITH_SECRETS: Final = frozenset({"discovery", "discovery-password", "discovery-token", "discovery-user"})
"""etcd's flags whose value is a secret, or has one."""


def masked(name: str, value: str) -> str:
    """Return a value to show: that of a flag of etcd, without users of URLs. No other is shown.

    A declaration has settings of other programs, too, and which of them are secret is not known.
    """
    if name not in EVERY_FLAG | IGNORED or name in _WITH_SECRETS:
        return NOT_SHOWN
    return _USER_OF_URL.sub(f"{NOT_SHOWN}@", value)


class Form(StrEnum):
    """The kind of file that a declaration was read from."""

    MANIFEST = "Kubernetes manifest"
    YAML = "etcd configuration file"
    ENVIRONMENT_FILE = "environment file"
    UNIT = "systemd unit"
    COMMAND_LINE = "command line"
    PROCESS = "process"


class Via(StrEnum):
    """How a setting is given."""

    FLAG = "flag"
    VARIABLE = "environment variable"
    KEY = "key of the configuration file"


class SourceLine(Struct, frozen=True):
    """A line of a file.

    Attributes:
        file: the path as the user named it, or a description of a source that is not a file.
        line: the line number, counted from 1; ``None`` where there are no lines.
    """

    file: str
    line: int | None = None

    def __str__(self) -> str:
        file = escaped(self.file)
        return file if self.line is None else f"{file}:{self.line}"

    @property
    def named(self) -> SourceLine:
        """The same by the path that etcd itself has for the file."""
        return SourceLine(inside(self.file), self.line)

    def below(self, lines: int) -> SourceLine:
        """Return the line that many lines below it."""
        return self if self.line is None else SourceLine(self.file, self.line + lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as it is written in a declaration.

    Attributes:
        name: the name of the flag without dashes, however it was set: ``peer-trusted-ca-file``.
        value: the value as text; the members of a list joined by commas, a boolean as written or ``true``.
        spelled: the name as it is written: ``--cert-file``, ``ETCD_CERT_FILE``,
            ``client-transport-security.cert-file``. Printable.
    """

    name: str
    value: str = field(repr=False)
    spelled: str
    via: Via
    place: SourceLine

    def __post_init__(self) -> None:
        object.__setattr__(self, "spelled", escaped(self.spelled))

    @property
    def shown(self) -> str:
        """The value in one line, as :func:`masked` has it."""
        return escaped(masked(self.name, self.value))

    @property
    def on(self) -> bool:
        """Whether a boolean setting is true; ``False`` for a value that Go does not parse as a boolean."""
        return self.value in TRUE

    @property
    def boolean(self) -> bool:
        """Whether Go's ``strconv.ParseBool`` accepts the value."""
        return self.value in BOOLEANS

    @property
    def written(self) -> str:
        """Name and value as in the file: ``--client-cert-auth=true``."""
        return f"{self.spelled}: {self.shown}" if self.via is Via.KEY else f"{self.spelled}={self.shown}"

    def __str__(self) -> str:
        return f"{self.written} ({self.place.named})"


def first_line(settings: Iterable[Setting]) -> SourceLine | None:
    """Return the place of the first setting that has a line; ``None`` if none has."""
    return next((setting.place for setting in settings if setting.place.line is not None), None)


def taken(setting: Setting | None) -> object:
    """Return what etcd takes for a setting; ``None`` if it is not given, or off, or empty."""
    if setting is None or not setting.value:
        return None
    if setting.boolean:
        return setting.on if setting.on or setting.name == "enable-grpc-gateway" else None
    if setting.name in URL_LISTS:
        return frozenset(parse_urls(setting.value))
    is_set = setting.name == "cipher-suites" or "-allowed-" in setting.name
    return frozenset(setting.value.split(",")) if is_set else setting.value


class Change(Struct, frozen=True):
    """A change of a declaration.

    Attributes:
        name: of the flag, as :attr:`Setting.name`.
        value: the new value; ``None`` removes the setting.
        via: change or remove it only where it is given so; ``None`` for any.
    """

    name: str
    value: str | None
    via: Via | None = None


class Mistake(Struct, frozen=True, kw_only=True):
    """An error in a declaration with which no version of etcd starts.

    Attributes:
        text: how etcd reacts, and what to write instead.
        key: the key of the configuration file that it concerns. A version without this key ignores it.
    """

    place: SourceLine
    text: str
    key: Setting | None = None


class Mount(Struct, frozen=True):
    """A directory or file that is mounted at a path in the container.

    Attributes:
        inside: that path.
        outside: its path on the node (``hostPath``).
    """

    inside: str
    outside: str


class RunAs(Struct, frozen=True, kw_only=True):
    """The user that etcd is declared to run as: a name or an ID, as its groups are.

    Attributes:
        setting: what declares it: ``User=`` or ``runAsUser``.
        group: empty for that of the user.
        others: further groups.
        of_unit: the user also has the groups that this machine gives it.
    """

    place: SourceLine
    setting: str
    user: str
    group: str = ""
    others: tuple[str, ...] = ()
    of_unit: bool = True


STATIC_PODS: Final = frozenset({"manifests", "pod-manifests"})
"""Names of the directories that kubelets read: kubeadm's, OpenShift's and kOps', and RKE2's."""


class PodBeside(Struct, frozen=True):
    """A static pod with etcd in another file of the directory of a manifest.

    Attributes:
        file: its manifest.
        pod: namespace and name.
        runs: the kubelet runs it: instead of the declared pod, or beside it if the names differ.
        has_same_name: it is one pod with the declared one for the kubelet.
        same: both files have the same content.
    """

    file: str
    pod: str
    runs: bool
    has_same_name: bool
    same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedWith:
    """What etcd is started with, in order, as a replay needs it. Values that are not known are left out.

    Attributes:
        arguments: the flags, and other words, with which etcd stops.
        variables: etcd's environment variables.
        left_out: the names of the settings whose value is not known.
        configuration: the text of the configuration file; ``None`` if there is none.
    """

    arguments: tuple[Setting | str, ...] = field(default=(), repr=False)
    variables: tuple[Setting, ...] = ()
    left_out: frozenset[str] = frozenset()
    configuration: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The configuration of one member as its operator wrote it.

    Attributes:
        form: the kind of file that it was read from.
        source: the path as the user named it, or a description.
        pod: of a manifest, the pod, which may be one of several in the file; empty otherwise.
        owner: of a manifest, what overwrites the pod, such as ``EtcdCluster main`` or ``node cp1``; empty if
            it is not known.
        beside: of the manifest of a static pod, others in its directory with the same pod or member.
        settings: the settings in force, by flag name, merged as etcd merges them.
        overridden: settings that a later one of the same kind replaces.
        shadowed: environment variables whose flag is also given.
        hidden: flags and variables that a configuration file makes etcd ignore.
        unknown: settings that no version of etcd has, by spelling.
        mistakes: errors with which no version of etcd starts.
        config_file: the configuration file of ``--config-file``.
        image: the container image.
        version: the version of etcd from the image's tag; ``None`` if the tag does not contain one.
        mounts: directories and files of the node that are mounted in the container.
        run_as: the user that it runs as; ``None`` if that is not declared, or not known.
        go_environment: variables that the Go runtime reads: ``GODEBUG``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``.
        etcdctl: variables for etcdctl in the same environment, such as ``ETCDCTL_CERT``.
        notes: what could not be read and may matter, one sentence each.
        started_with: what etcd is started with, before it is merged.
    """

    form: Form
    source: str
    settings: Mapping[str, Setting]
    overridden: tuple[Setting, ...] = ()
    shadowed: tuple[Setting, ...] = ()
    hidden: tuple[Setting, ...] = ()
    unknown: tuple[Setting, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    config_file: str | None = None
    image: str | None = None
    version: str | None = None
    mounts: tuple[Mount, ...] = ()
    run_as: RunAs | None = None
    go_environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    etcdctl: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    notes: tuple[str, ...] = ()
    pod: str = ""
    owner: str = ""
    beside: tuple[PodBeside, ...] = ()
    started_with: StartedWith = StartedWith()

    @property
    def given(self) -> tuple[Setting, ...]:
        """Every setting that is given, also where it has no effect."""
        every = (*self.settings.values(), *self.overridden, *self.shadowed, *self.hidden, *self.unknown)
        return tuple(dict.fromkeys(every))

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it was read from: its own, and those in which settings are."""
        return tuple(dict.fromkeys((self.source, *(setting.place.file for setting in self.given))))

    @property
    def name(self) -> str:
        """The name of the member; etcd's default if none is given."""
        return self.text("name") or "default"

    def text(self, name: str) -> str | None:
        """Return the value of a setting; ``None`` if it is not given or empty, which etcd treats alike."""
        setting = self.settings.get(name)
        return setting.value if setting is not None and setting.value else None

    def on(self, *names: str) -> bool:
        """Return whether one of these boolean settings is true."""
        return any(self.settings[name].on for name in names if name in self.settings)

    def words(self, name: str) -> tuple[str, ...]:
        """Return the members of a comma-separated list."""
        return tuple(word for word in (self.text(name) or "").split(",") if word)

    def urls(self, name: str) -> tuple[DeclaredURL, ...]:
        """Return the URLs of a setting. URLs that cannot be parsed are left out; they are mistakes."""
        return parse_urls(self.text(name) or "")


FLAGS: Final = {
    Role.CLIENT: "listen-client-urls",
    Role.CLIENT_HTTP: "listen-client-http-urls",
    Role.METRICS: "listen-metrics-urls",
    Role.PEER: "listen-peer-urls",
}
"""The flag that lists the URLs of each role."""

_DEFAULTS: Final = {Role.CLIENT: "http://localhost:2379", Role.PEER: "http://localhost:2380"}
_ADVERTISED: Final = {Role.CLIENT: "advertise-client-urls", Role.PEER: "initial-advertise-peer-urls"}


class DeclaredListener(Struct, frozen=True):
    """One URL that etcd listens on.

    Attributes:
        setting: the setting that declares it; ``None`` for etcd's default.
    """

    role: Role
    url: DeclaredURL
    setting: Setting | None


def declared_listeners(declaration: Declaration) -> tuple[DeclaredListener, ...]:
    """Return the listeners in the order of roles. A list that is missing or empty has etcd's default."""
    listeners: list[DeclaredListener] = []
    for role, flag in FLAGS.items():
        setting = declaration.settings.get(flag) if declaration.text(flag) else None
        text = setting.value if setting else _DEFAULTS.get(role, "")
        listeners += [DeclaredListener(role, url, setting) for url in parse_urls(text)]
    return tuple(listeners)


def advertised(declaration: Declaration, *roles: Role) -> tuple[DeclaredURL, ...]:
    """Return the URLs that a member advertises, for all roles unless some are named."""
    flags = (_ADVERTISED[role] for role in roles or _ADVERTISED if role in _ADVERTISED)
    return tuple(url for flag in flags for url in declaration.urls(flag))


def hosts_of(declaration: Declaration, *roles: Role) -> tuple[str, ...]:
    """Return the member's own names and addresses, without loopback and unspecified addresses.

    If only loopback is declared, return the advertised addresses, or else those that it listens on.
    """
    declared = advertised(declaration, *roles)
    opened = (each.url for each in declared_listeners(declaration) if not roles or each.role in roles)
    every = [url for url in (*declared, *opened) if not (url.is_wildcard or url.is_socket)]
    beyond = [url for url in every if not url.is_loopback]
    return tuple(dict.fromkeys(url.host for url in beyond or declared or every))


def reached_host(listener: DeclaredListener, declaration: Declaration) -> str:
    """Return the host of a listener; on the unspecified address an advertised one, empty if none is known."""
    if not listener.url.is_wildcard:
        return listener.url.host
    roles = (Role.PEER, Role.CLIENT) if listener.role is Role.PEER else (Role.CLIENT, Role.PEER)
    urls = advertised(declaration, *roles)
    return next((url.host for url in urls if not (url.is_wildcard or url.is_socket)), "")


def split_http(declaration: Declaration) -> bool:
    """Return whether HTTP has listeners of its own, so that the client port serves gRPC only."""
    return declaration.text(FLAGS[Role.CLIENT_HTTP]) is not None


SYSTEM: Final = "the system's root store"
ROOTS_FILE, ROOTS_DIRECTORIES = "SSL_CERT_FILE", "SSL_CERT_DIR"
DIRECTORIES_OF_ROOTS: Final = ("/etc/ssl/certs", "/etc/pki/tls/certs")
"""``certDirectories`` in root_linux.go of crypto/x509."""


def roots_in_words(declaration: Declaration) -> str:
    """Return what Go's pool of the system's roots is made of, for a declared etcd (``system_roots.py``)."""
    file, directories = map(declaration.go_environment.get, (ROOTS_FILE, ROOTS_DIRECTORIES))
    if file and directories:
        return f"{file} ({ROOTS_FILE}) and {directories} ({ROOTS_DIRECTORIES})"
    if file:
        return f"{file} ({ROOTS_FILE}), {' and '.join(DIRECTORIES_OF_ROOTS)}"
    return f"the system's file of root CAs and {directories} ({ROOTS_DIRECTORIES})" if directories else SYSTEM


FILES = (
    *("cert-file", "key-file", "trusted-ca-file", "client-cert-file", "client-key-file", "client-crl-file"),
    *("peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-client-cert-file"),
    *("peer-client-key-file", "peer-crl-file"),
)
"""The settings that name a file."""


class DeclaredMember(Struct, frozen=True, kw_only=True, eq=False):
    """A member as it was declared. Values computed from it are cached by its object identity.

    Attributes:
        declaration: the member's declaration.
        paths: finds its files on this machine.
        crls: its CRL files, by declared path.
        others: settings whose file on this machine belongs to another member; the file counts as missing.
    """

    declaration: Declaration
    paths: DeclaredPaths
    crls: Mapping[str, CRLFile]
    others: frozenset[str] = frozenset()

    def file(self, name: str) -> Path | None:
        """Return the path of a setting's file on this machine; ``None`` if it is missing or not declared."""
        text = self.declaration.text(name)
        return None if text is None or name in self.others else self.paths.find(text)


_APISERVER_CLIENT = "apiserver-etcd-client."
"""kubeadm keeps these files in the parent of etcd's directory."""


_NEVER_OPENED: Final[dict[int | None, str]] = {
    errno.ENAMETOOLONG: "has too long a name",
    errno.ELOOP: "has too many symbolic links",
}
"""Errors for which no user can open a file."""


class DeclaredPaths(Struct, frozen=True, kw_only=True):
    """Where the files of declared paths are on this machine.

    Attributes:
        pki_dir: ``--etcd-pki-dir``, the only directory that is searched; ``None`` takes paths as they are.
        root: the directory that is used as ``/``: ``/proc/PID/root`` for the paths of a process.
        working: the working directory of a process, below its root; empty if the declaration is no process.
        mounts: the mounts of the declared container.
    """

    pki_dir: Path | None = None
    root: Path = Path("/")
    working: str = ""
    mounts: tuple[Mount, ...] = ()

    def find(self, declared: str) -> Path | None:
        """Return the file of a declared path on this machine; ``None`` if there is none.

        In ``pki_dir``, the longest suffix of the path that exists there is used.
        """
        return next((path for path in self._candidates(declared) if exists(path)), None)

    def missing(self, declared: str) -> tuple[Path, str] | None:
        """Return where a member that runs here looks for a file, and why it finds none; else ``None``.

        It is ``None`` too where that is not known: of copies, and of a path in the image of a container.
        """
        if self.pki_dir is not None or (self.mounts and not any(self._mounted(declared))):
            return None
        path, absolute = next(self._candidates(declared)), declared.startswith("/")
        try:
            if self.working:  # fails if the process has ended, or its working directory is not known
                status_of(self.of_process("/" if absolute else "."))
            elif not absolute:
                return None
        except (OSError, ValueError):
            return None
        try:
            return (path, f"{path} is a directory") if stat.S_ISDIR(status_of(path).st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            return path, f"{path} does not exist"
        except (OSError, ValueError) as error:
            why = _NEVER_OPENED.get(getattr(error, "errno", 0))
            return (path, f"{path} {why}") if why else None

    def is_original(self, declared: str, path: Path) -> bool:
        """Return whether a path is the file that etcd reads, not a copy at another path."""
        return str(path) in (declared, *self._mounted(declared)) or (
            bool(self.working) and path == self.of_process(declared)
        )

    def of_process(self, declared: str) -> Path:
        """Return the path of a file that a process names."""
        return Path(f"{self.root}/{self.working if not declared.startswith('/') else ''}/{declared}")

    def _candidates(self, declared: str) -> Iterator[Path]:
        if self.working:
            yield self.of_process(declared)
            return
        for path in (*self._mounted(declared), declared):
            parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")]
            if self.pki_dir is None:
                yield self.root.joinpath(*parts) if path.startswith("/") else Path(path)
                continue
            for start in range(len(parts)):
                yield self.pki_dir.joinpath(*parts[start:])
            if parts and parts[-1].startswith(_APISERVER_CLIENT):
                yield self.pki_dir.parent / parts[-1]

    def _mounted(self, declared: str) -> Iterator[str]:
        """Yield what is mounted at a path in the container, the innermost mount first."""
        for mount in sorted(self.mounts, key=lambda mount: len(mount.inside), reverse=True):
            if declared == mount.inside or declared.startswith(f"{mount.inside}/"):
                yield mount.outside + declared[len(mount.inside) :]


def exists(path: Path) -> bool:
    """Return whether there is a regular file; ``False`` too for a name that cannot be looked up."""
    try:
        return stat.S_ISREG(status_of(path).st_mode)
    except (OSError, ValueError):
        return False


class CRLReading(Struct, frozen=True):
    """What one of Go's two functions reads of a CRL file (``pki/go_crl.py``).

    Attributes:
        error: why it refuses the file, in which case etcd refuses every client that presents a certificate;
            empty if it reads the file.
        serial_numbers: the serial numbers without their sign that etcd then refuses.
    """

    error: str = ""
    serial_numbers: frozenset[int] = frozenset()


class CRLFile(Struct, frozen=True, kw_only=True):
    """A declared CRL file and its content.

    Attributes:
        declared: its path as declared.
        path: its path on this machine; ``None`` if it is missing.
        missing: why etcd does not find it either; empty if that is not known.
        unread: why its content is not known although it was found; empty if it is known.
        empty: whether it has no content.
        pem: whether it contains a CRL in PEM.
        version_2: whether the first list is one that etcd since 3.6 reads if it is in DER.
        up_to_3_5: what etcd up to 3.5 reads.
        since_3_6: what later etcds read.
        lists: the number of CRLs in it, whether or not etcd reads them.
        serial_numbers: the serial numbers in all of them, without their sign.
        issuer: the issuer of the first; ``None`` if it cannot be decoded.
        next_update: the earliest nextUpdate, aware UTC; ``None`` if there is none.
    """

    declared: str
    path: str | None = None
    missing: str = ""
    unread: str = ""
    empty: bool = False
    pem: bool = False
    version_2: bool = False
    up_to_3_5: CRLReading = CRLReading()
    since_3_6: CRLReading = CRLReading()
    lists: int = 0
    serial_numbers: frozenset[int] = frozenset()
    issuer: x509.Name | None = None
    next_update: datetime | None = None

    @property
    def known(self) -> bool:
        """Whether its content is known here."""
        return self.path is not None and not self.unread

    def read_by(self, version: str | None) -> CRLReading:
        """Return what a version of etcd reads of it."""
        return self.up_to_3_5 if version_key(version) < (3, 6) else self.since_3_6


def known_to(setting: Setting, version: str | None) -> bool:
    """Return whether a version of etcd reads the setting as it is spelled."""
    if setting.via is not Via.KEY:
        return flag_known(setting.name, version)
    section, dot, key = setting.spelled.rpartition(".")
    if not dot:
        # Go's encoding/json ignores the case of keys. But 3.6 looks for those of old names in the map of all
        # keys, as they are written (configFromFile in server/embed/config.go: FlagsExplicitlySet, cfgMap).
        old_name = minor_line(version) == "3.6" and key.lower().startswith("experimental-")
        return top_level_known(key.lower(), version) and (not old_name or key.islower())
    if section.lower() in GO_FIELDS:
        return True
    return section.lower() in SECTIONS and section_key_known(key.lower(), version)


def ignored_settings(declaration: Declaration, version: str | None) -> tuple[Setting, ...]:
    """Return the keys and variables that this version ignores and another reads. Unknown flags stop etcd."""
    return tuple(
        setting
        for setting in declaration.settings.values()
        if setting.via is not Via.FLAG and not known_to(setting, version)
    )


def in_force(declaration: Declaration, version: str | None) -> Declaration:
    """Return the declaration without the settings that this version ignores.

    etcd does not start with a misspelt flag, so the others are judged as if it were spelled right.
    """
    given = as_meant(declaration, Via.FLAG).settings
    kept = {name: setting for name, setting in given.items() if known_to(setting, version)}
    return replace(declaration, settings=MappingProxyType(kept))


def meant_by(setting: Setting) -> Setting | None:
    """Return the setting that one which no version has resembles; ``None`` for none, or several.

    Its value is shown, so it must have the form of such a value: another may be a secret.
    """
    section, dot, key = setting.name.removeprefix("ETCD_").lower().replace("_", "-").rpartition(".")
    known = SECTIONS.get(section, {}) if dot else {flag: flag for flag in EVERY_FLAG}
    near = meant(key, known)
    if len(near) != 1 or near[0] not in known:
        return None
    name, is_key = known[near[0]], setting.via is Via.KEY
    spelled = f"{section}{dot}{near[0]}" if is_key else setting.spelled
    value = setting.value or ("true" if name in SWITCHES else "")
    form = (
        "|".join(BOOLEANS)
        if name in SWITCHES
        else r"https?://[^@]*"
        if name in URL_LISTS
        else _FILE_OR_VERSION
    )
    return replace(setting, name=name, spelled=spelled, value=value) if re.fullmatch(form, value) else None


_FILE_OR_VERSION = r"/\S*|TLS1\.\d"
"""The form of a value that names a file or a version of TLS."""


def as_meant(declaration: Declaration, *ways: Via) -> Declaration:
    """Return the declaration with misspelt settings that are given in these ways spelled right.

    Those that a configuration file would hide stay as they are.
    """
    read = {Via.KEY} if declaration.config_file else {*Via}
    right = {setting: meant_by(setting) for setting in declaration.unknown if setting.via in read & {*ways}}
    settings = {setting.name: setting for setting in right.values() if setting}
    return replace(
        declaration,
        settings=MappingProxyType({**settings, **declaration.settings}),
        unknown=tuple(setting for setting in declaration.unknown if not right.get(setting)),
    )
