"""What a test or an option requests: which etcd, which preset, what is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from msgspec import Struct

from pytest_etcdtls.errors import UsageError, did_you_mean
from pytest_etcdtls.etcd.config import ClusterConfig, ClusterOptions
from pytest_etcdtls.etcd.presets import PRESETS
from pytest_etcdtls.etcd.sources import EtcdSource, find_etcd, find_version
from pytest_etcdtls.pki.profile import KeyType

_CHOICES = ("version", "binary", "image", "preset", "key_type")


class ClusterChoices(ClusterOptions, total=False):
    """The keyword arguments that start a cluster: those of the configuration, and which etcd and preset.

    Attributes:
        version: ``3.6`` or ``3.6.16``, one that is available.
        binary: path of an etcd, or a name on ``PATH``.
        image: name of a container image.
        preset: name of one of :data:`~pytest_etcdtls.PRESETS`.
        key_type: type of all keys: ``ecdsa-p256``, ``rsa-2048`` ...
    """

    version: str
    binary: str | Path
    image: str
    preset: str
    key_type: str | KeyType


class ClusterRequest(Struct, frozen=True, kw_only=True):
    """A cluster that a test requests.

    Attributes:
        version: ``3.6`` or ``3.6.16``, one that is available.
        binary: path of an etcd, or a name on ``PATH``.
        image: name of a container image.
        preset: name of a preset, for ``base``.
        base: the configuration that the changes apply to; ``None`` for that of the options.
        key_type: type of all keys.
        changes: fields of :class:`ClusterConfig`.
    """

    version: str | None = None
    binary: str | Path | None = None
    image: str | None = None
    preset: str | None = None
    base: ClusterConfig | None = None
    key_type: str | KeyType | None = None
    changes: Mapping[str, Any] = {}

    @classmethod
    def of(cls, wanted: object) -> Self:
        """Return the request for a version or a preset by name, a configuration, or keyword arguments.

        Raises:
            UsageError: if it is none of them.
        """
        match wanted:
            case cls():
                return wanted
            case ClusterConfig():
                return cls(base=wanted)
            case str():
                # No release of etcd begins with a letter, and no preset with a digit.
                return cls(version=wanted) if wanted[:1].isdecimal() else cls(preset=wanted)
            case Mapping():
                return cls.read(None, wanted)
        raise UsageError(
            f"{wanted!r} names no cluster: give a version of etcd, a preset, a ClusterConfig, or a dict of "
            f"its fields and {', '.join(_CHOICES)}"
        )

    @classmethod
    def read(cls, base: ClusterConfig | None, arguments: Mapping[Any, Any]) -> Self:
        """Return the request for keyword arguments.

        Raises:
            UsageError: for an unknown one.
        """
        fields = {found.name for found in dataclasses.fields(ClusterConfig)}
        if unknown := sorted(set(map(str, arguments)) - fields - set(_CHOICES)):
            meant = did_you_mean(unknown[0], (*fields, *_CHOICES))
            flag = unknown[0].replace("_", "-")
            raise UsageError(
                f"ClusterConfig has no field {unknown[0]!r}; besides its fields there are "
                f"{', '.join(_CHOICES)}, and extra_flags=('--{flag}=...',) for other flags of etcd{meant}"
            )
        chosen = {name: value for name, value in arguments.items() if name in _CHOICES}
        return cls(base=base, changes={n: v for n, v in arguments.items() if n in fields}, **chosen)

    @property
    def names_etcd(self) -> bool:
        """Whether it names the etcd to start."""
        return (self.version, self.binary, self.image) != (None, None, None)

    def source(
        self, default: Callable[[], EtcdSource], given: Callable[[], Sequence[EtcdSource]] = tuple
    ) -> EtcdSource:
        """Return the etcd to start, which ``default`` returns if the request does not name one.

        Args:
            default: finds an etcd.
            given: returns the etcds that options name; a version is looked for among these first.

        Raises:
            UsageError: if the etcd is not available, or two are named.
        """
        if [self.version, self.binary, self.image].count(None) < 2:
            raise UsageError("version, binary and image each name an etcd: give one of them")
        if self.version is not None:
            return find_version(self.version, given())
        if self.names_etcd:
            return find_etcd(image=self.image, binary=self.binary)
        return default()

    def config(self, default: ClusterConfig) -> ClusterConfig:
        """Return the configuration. The changes apply to the default if the request does not name one.

        Raises:
            UsageError: for an unknown preset or key type, or a value that no cluster can be started with.
        """
        base = self.base or default
        if self.preset is not None:
            if self.preset not in PRESETS:
                known, meant = ", ".join(PRESETS), did_you_mean(self.preset, PRESETS)
                raise UsageError(f"there is no preset {self.preset!r}: {known}{meant}")
            base = PRESETS[self.preset].config
        config = replace(base, **self.changes)
        if self.key_type is None:
            return config
        try:
            key_type = KeyType(self.key_type)
        except ValueError:
            meant = did_you_mean(str(self.key_type), KeyType)
            known = ", ".join(KeyType)
            raise UsageError(f"there is no key type {str(self.key_type)!r}: {known}{meant}") from None
        return replace(config, pki=replace(config.pki, key_type=key_type))
