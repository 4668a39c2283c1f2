"""The declaration of one etcd: every setting in force and where it is written. Values only."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.role import Role

UNKNOWN_IS_NEWEST = (99,)
"""What an unknown version is compared as: etcd as it is today."""


def version_key(version: str | None) -> tuple[int, ...]:
    """Return a version as numbers: ``v3.6.4-0`` as (3, 6, 4), ``None`` as the newest."""
    match = re.search(r"\d+(\.\d+){1,2}", version or "")
    return tuple(int(number) for number in match[0].split(".")) if match else UNKNOWN_IS_NEWEST


def line(version: str | None) -> str | None:
    """Return the minor line, ``3.6`` for ``3.6.16``; ``None`` if the version is not known."""
    key = version_key(version)
    return None if key == UNKNOWN_IS_NEWEST else ".".join(map(str, key[:2]))


def has(version: str | None, first: dict[str, int], newer: bool = True) -> bool:
    """Return whether a version has what came with different patch releases of different lines.

    Args:
        version: to ask about.
        first: by line, the first patch release that has it.
        newer: whether the lines above all of these have it.
    """
    key = version_key(version)
    own = ".".join(map(str, key[:2]))
    if own in first:
        return (key[2] if len(key) > 2 else 0) >= first[own]
    return newer and key > max(version_key(known) for known in first)


def tag_version(image: str | None) -> str | None:
    """Return the version that an image's tag names: ``3.6.4`` for ``registry.k8s.io/etcd:3.6.4-0``."""
    match = re.search(r":v?(3\.\d+\.\d+)(?![\d.])[^/]*$", image or "")
    return match[1] if match else None


SCHEMES = ("http", "https", "unix", "unixs")


@dataclass(frozen=True, slots=True)
class DeclaredURL:
    """One URL of a list.

    Attributes:
        scheme: ``http``, ``https``, ``unix`` or ``unixs``, in lower case.
        host: without brackets; of a socket its path.
        port: 0 of a socket.
    """

    scheme: str
    host: str
    port: int

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme in ("https", "unixs")

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix domain socket, which nobody reaches from elsewhere."""
        return self.scheme in ("unix", "unixs")

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of the machine: ``0.0.0.0`` or ``::``."""
        return self.host in ("0.0.0.0", "::", "")  # noqa: S104 - compared, never bound

    @property
    def is_loopback(self) -> bool:
        """Whether only the machine itself reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def address(self) -> str:
        """``host:port``, an IPv6 address in brackets; what etcd tells its listeners apart by."""
        if self.is_socket:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


@dataclass(frozen=True, slots=True)
class URLList:
    """What a list of URLs comes to.

    Attributes:
        urls: without repetitions, in the order in which they are written.
        problems: why etcd refuses the list, one sentence for each URL that it refuses.
    """

    urls: tuple[DeclaredURL, ...]
    problems: tuple[str, ...] = ()


def parse_urls(text: str) -> URLList:
    """Return the URLs of a list with commas; an empty one has none."""
    urls: dict[DeclaredURL, None] = {}
    problems: list[str] = []
    for word in text.split(",") if text else ():
        try:
            urls[_parse(word.strip())] = None
        except ValueError as error:
            problems.append(f"{word.strip()!r}: {error}")
    return URLList(tuple(urls), tuple(problems))


def _parse(text: str) -> DeclaredURL:
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise ValueError("a URL begins with http://, https://, unix:// or unixs://")
    if parts.scheme in ("unix", "unixs"):
        return DeclaredURL(parts.scheme, parts.netloc + parts.path, 0)
    if parts.path:
        raise ValueError("nothing may stand behind the port, not even a slash")
    return DeclaredURL(parts.scheme, (parts.hostname or "").partition("%")[0], _port(parts))


def _port(parts: SplitResult) -> int:
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
        raise ValueError("an IPv6 address stands in brackets")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("its port is not a number up to 65535") from error
    if port is None:
        raise ValueError("it has no port")
    return port


def bind_problem(url: DeclaredURL) -> str | None:
    """Return why etcd refuses to listen there (``embed.checkBindURLs``), ``None`` if it does not."""
    if url.is_socket or url.host == "localhost":
        return None
    try:
        ipaddress.ip_address(url.host)
    except ValueError:
        return f"{url} names a host, and etcd listens on addresses (and localhost) only"
    return None


_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_SECRETS = ("password", "secret", "discovery-user", "discovery-token")


class Form(StrEnum):
    """What kind of file a declaration was read from."""

    MANIFEST = "Kubernetes manifest"
    YAML = "etcd configuration file"
    ENVIRONMENT_FILE = "environment file"
    UNIT = "systemd unit"
    COMMAND_LINE = "command line"


class Via(StrEnum):
    """How a setting is made."""

    FLAG = "flag"
    VARIABLE = "environment variable"
    KEY = "key of the configuration file"


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a file.

    Attributes:
        file: its path as it was named, or words for what is no file.
        line: counted from 1; ``None`` where there are no lines.
    """

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as it was written.

    Attributes:
        name: of the flag, without dashes, whichever way it was set: ``peer-trusted-ca-file``.
        value: text; the members of a list joined by commas, a switch as it was written or ``true``.
        spelled: as it is written there: ``--cert-file``, ``ETCD_CERT_FILE``,
            ``client-transport-security.cert-file``.
    """

    name: str
    value: str = field(repr=False)
    spelled: str
    via: Via
    place: SourceLine

    @property
    def shown(self) -> str:
        """The value, unless it may be a password."""
        return "(not shown)" if any(word in self.name.lower() for word in _SECRETS) else self.value

    @property
    def on(self) -> bool:
        """Whether a switch is switched on; ``False`` for what Go does not take for a boolean."""
        return self.value in _TRUE

    @property
    def boolean(self) -> bool:
        """Whether Go's ``strconv.ParseBool`` accepts the value."""
        return self.value in _TRUE | _FALSE

    @property
    def written(self) -> str:
        """Spelling and value as in the file: ``--client-cert-auth=true``."""
        return f"{self.spelled}: {self.shown}" if self.via is Via.KEY else f"{self.spelled}={self.shown}"

    def __str__(self) -> str:
        return f"{self.written} ({self.place})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Something with which no version of etcd starts.

    Attributes:
        text: what etcd makes of it, and what to write instead.
        key: of the configuration file that it is about: a version that does not know it passes it over.
    """

    place: SourceLine
    text: str
    key: Setting | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the node that a container sees under another path (``hostPath``)."""

    inside: str
    outside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What one member was told to be.

    Attributes:
        form: what it was read from.
        source: the file's path as it was named, or words.
        settings: those in force, by flag name, as etcd itself merges them.
        overridden: those that a later one of the same kind replaced.
        shadowed: environment variables whose flag is given as well.
        hidden: flags and variables that a configuration file makes etcd ignore.
        unknown: names that no etcd has, by spelling.
        mistakes: what keeps every etcd from starting.
        config_file: the configuration file that etcd was told to read.
        image: of the container.
        version: of etcd, as far as the image's tag tells.
        mounts: what the container sees of the node.
        go_environment: variables that Go itself heeds: ``GODEBUG``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``.
        etcdctl: variables for etcdctl that stand beside etcd's own, such as ``ETCDCTL_CERT``.
        notes: what could not be read here and may matter, one sentence each.
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
    go_environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    etcdctl: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    notes: tuple[str, ...] = ()

    def text(self, name: str) -> str | None:
        """Return the value of a setting; ``None`` if it is not given or empty, which to etcd is the same."""
        setting = self.settings.get(name)
        return setting.value if setting is not None and setting.value else None

    def on(self, *names: str) -> bool:
        """Return whether one of these switches is switched on."""
        return any(self.settings[name].on for name in names if name in self.settings)

    def words(self, name: str) -> tuple[str, ...]:
        """Return the members of a list that is written with commas."""
        return tuple(word for word in (self.text(name) or "").split(",") if word)

    def urls(self, name: str) -> tuple[DeclaredURL, ...]:
        """Return the URLs of a setting, those that cannot be read left out (they are mistakes)."""
        return parse_urls(self.text(name) or "").urls


FLAGS: Final = {
    Role.CLIENT: "listen-client-urls",
    Role.CLIENT_HTTP: "listen-client-http-urls",
    Role.METRICS: "listen-metrics-urls",
    Role.PEER: "listen-peer-urls",
}
"""The flag that lists the URLs of each role."""

_DEFAULTS: Final = {Role.CLIENT: "http://localhost:2379", Role.PEER: "http://localhost:2380"}
_ADVERTISED: Final = {Role.CLIENT: "advertise-client-urls", Role.PEER: "initial-advertise-peer-urls"}


@dataclass(frozen=True, slots=True)
class DeclaredListener:
    """One URL that etcd listens on.

    Attributes:
        setting: that declares it; ``None`` for etcd's default.
    """

    role: Role
    url: DeclaredURL
    setting: Setting | None


def declared_listeners(declaration: Declaration) -> tuple[DeclaredListener, ...]:
    """Return the listeners in the order of roles; a list that is not given, or empty, is etcd's default."""
    found: list[DeclaredListener] = []
    for role, flag in FLAGS.items():
        setting = declaration.settings.get(flag) if declaration.text(flag) else None
        text = setting.value if setting else _DEFAULTS.get(role, "")
        found += [DeclaredListener(role, url, setting) for url in parse_urls(text).urls]
    return tuple(found)


def advertised(declaration: Declaration, role: Role) -> tuple[DeclaredURL, ...]:
    """Return the URLs that a member tells others to use, empty for roles that are not advertised."""
    return declaration.urls(_ADVERTISED[role]) if role in _ADVERTISED else ()


def split_http(declaration: Declaration) -> bool:
    """Return whether HTTP is split off the client port, which then speaks gRPC alone."""
    return declaration.text(FLAGS[Role.CLIENT_HTTP]) is not None


FILES = (
    *("cert-file", "key-file", "trusted-ca-file", "client-cert-file", "client-key-file", "client-crl-file"),
    *("peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-client-cert-file"),
    *("peer-client-key-file", "peer-crl-file"),
)
"""The settings that name a file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeclaredMember:
    """A member as it was declared. What is computed of it is kept by its identity.

    Attributes:
        declaration: what it was told to be.
        where: where its files are here.
        crls: its CRL files, by declared path.
        others: settings of which the file here is known to be another member's; it counts as not here.
    """

    declaration: Declaration
    where: Whereabouts
    crls: Mapping[str, CRLFile]
    others: frozenset[str] = frozenset()

    def file(self, name: str) -> Path | None:
        """Return where the file of a setting is here; ``None`` if it is not, or none is declared."""
        text = self.declaration.text(name)
        return None if text is None or name in self.others else self.where.find(text)

    def required(self, name: str) -> Path | None:
        """Return where the file of a setting is here; ``None`` if none is declared.

        Raises:
            UsageError: if one is declared and is not here; the message names the line.
        """
        if self.declaration.text(name) is None:
            return None
        return require(self.declaration.settings[name], self.where)


_APISERVER_CLIENT = "apiserver-etcd-client."
"""kubeadm keeps these beside etcd's directory, not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where declared files are here.

    Attributes:
        pki_dir: ``--etcd-pki-dir``: nothing is looked for anywhere else; ``None`` takes paths as they are.
        root: directory that stands for ``/``.
        mounts: of the container that the declaration is about.
    """

    pki_dir: Path | None = None
    root: Path = Path("/")
    mounts: tuple[Mount, ...] = ()

    def find(self, declared: str) -> Path | None:
        """Return where a declared path is here, ``None`` if it is not.

        Under ``pki_dir`` the longest suffix of the path that exists there counts.
        """
        return next((path for path in self._candidates(declared) if exists(path)), None)

    def is_original(self, declared: str, found: Path) -> bool:
        """Return whether what was found is the very file that etcd reads, not a copy under another path."""
        return str(found) in (declared, *self._on_the_node(declared))

    def _candidates(self, declared: str) -> Iterator[Path]:
        for path in (*self._on_the_node(declared), declared):
            parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")]
            if self.pki_dir is None:
                yield self.root.joinpath(*parts) if path.startswith("/") else Path(path)
                continue
            for start in range(len(parts)):
                yield self.pki_dir.joinpath(*parts[start:])
            if parts and parts[-1].startswith(_APISERVER_CLIENT):
                yield self.pki_dir.parent / parts[-1]

    def _on_the_node(self, declared: str) -> Iterator[str]:
        """Yield the path on the node of a path in the container, the innermost mount first."""
        for mount in sorted(self.mounts, key=lambda mount: len(mount.inside), reverse=True):
            if declared == mount.inside or declared.startswith(f"{mount.inside}/"):
                yield mount.outside + declared[len(mount.inside) :]


def exists(path: Path) -> bool:
    """Return whether there is such a file; one in a directory that may not be entered is not."""
    try:
        return path.is_file()
    except OSError:
        return False


def require(setting: Setting, where: Whereabouts) -> Path:
    """Return where the file of a setting is here.

    Raises:
        UsageError: if it is not; the message names the line that declares it.
    """
    found = where.find(setting.value)
    if found is not None:
        return found
    if where.pki_dir is None:
        advice = "read the declaration where etcd runs, or name the directory with copies by --etcd-pki-dir"
    else:
        advice = f"no ending of that path is a file under --etcd-pki-dir {where.pki_dir}"
    raise UsageError(f"{setting.place}: {setting.written} is not here: {advice}")


class Encoding(StrEnum):
    """How a CRL is encoded."""

    PEM = "PEM"
    DER = "DER"
    NEITHER = "neither PEM nor DER"


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLFile:
    """A CRL file that was looked at.

    Attributes:
        declared: its path as it is declared.
        found: its path here; ``None`` if it is not here.
        encoding: ``None`` if it is not here, or could not be read.
        issuer: of the list, RFC 4514; empty if it cannot be decoded.
        next_update: when the list should be replaced, aware UTC; ``None`` if it does not say.
        serial_numbers: of the revoked certificates.
    """

    declared: str
    found: str | None = None
    encoding: Encoding | None = None
    issuer: str = ""
    next_update: datetime | None = None
    serial_numbers: frozenset[int] = frozenset()
