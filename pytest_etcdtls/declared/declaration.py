"""What an etcd was told to be: every setting in force, each with the place that says so.

Values only. Does not know how they are read from a file, nor what etcd makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from pytest_etcdtls.declared.urls import DeclaredURL, parse_urls

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
class Place:
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
    place: Place

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

    place: Place
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
