"""Where settings are collected while they are merged, and what is noticed about them on the way.

Knows which settings must be known; not what they mean, nor in which order they come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pytest_etcdtls.declared.declaration import Mistake, Setting, Via
from pytest_etcdtls.declared.urls import parse_urls
from pytest_etcdtls.declared.vocabulary import IGNORED, SWITCHES, URL_LISTS, names
from pytest_etcdtls.errors import UsageError

NO_FLAGS: Final = frozenset({"ETCD_UNSUPPORTED_ARCH", "ETCD_VERSION"})
"""Variables that etcd knows and that stand for no flag."""

_ADDS_UP: Final = frozenset({"feature-gates"})
"""Flags of which a later one adds to an earlier one."""

_MUST_BE_KNOWN: Final = names(
    """
    cert-file key-file client-cert-auth trusted-ca-file client-crl-file auto-tls client-cert-allowed-hostname
    peer-cert-file peer-key-file peer-client-cert-auth peer-trusted-ca-file peer-crl-file peer-auto-tls
    peer-cert-allowed-cn peer-cert-allowed-hostname listen-client-urls listen-peer-urls listen-metrics-urls
    listen-client-http-urls cipher-suites tls-min-version tls-max-version config-file
    """
)
"""Settings without whose values nothing can be said about TLS."""


@dataclass
class Merger:
    """What has been merged so far."""

    settings: dict[str, Setting] = field(default_factory=dict)
    overridden: list[Setting] = field(default_factory=list)
    shadowed: list[Setting] = field(default_factory=list)
    hidden: list[Setting] = field(default_factory=list)
    unknown: list[Setting] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def put(self, setting: Setting) -> None:
        """Take a setting that goes before those of the same name so far."""
        before = self.settings.get(setting.name)
        if before is not None and setting.name in _ADDS_UP:
            value = f"{before.value},{setting.value}"
            setting = Setting(
                name=setting.name, value=value, spelled=setting.spelled, via=setting.via, place=setting.place
            )
        elif before is not None:
            self.overridden.append(before)
        self.settings[setting.name] = setting

    def check_urls(self, setting: Setting) -> None:
        """Take note of a URL that etcd refuses."""
        if setting.name in URL_LISTS:
            self.mistakes += [
                Mistake(place=setting.place, text=f"etcd stops: {setting.spelled} has {problem}")
                for problem in parse_urls(setting.value).problems
            ]

    def check_variable(self, setting: Setting) -> None:
        """Take note of a variable whose value is none of a switch."""
        is_switch = setting.name in SWITCHES - IGNORED
        if setting.via is Via.VARIABLE and setting.value and is_switch and not setting.boolean:
            text = f"etcd stops: {setting.value!r} is no value of {setting.spelled}; write true or false"
            self.mistakes.append(Mistake(place=setting.place, text=text))

    def not_told(self, setting: Setting, why: str) -> None:
        """Take note of a setting whose value is not known.

        Raises:
            UsageError: if it matters.
        """
        what = f"{setting.place}: the value of {setting.spelled} is not in this file ({why})"
        if setting.name in _MUST_BE_KNOWN:
            raise UsageError(f"{what}: pass a copy with the value written out")
        self.notes.append(what)
