"""Draws what is edited while the etcds of a draw run, and writes it, with how each member is started.

A member is started with flags, and declared by a manifest or a copy of its command line, or with etcd's
configuration file, which is the declaration then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import yaml

from pytest_etcdtls.declared.flags import SECTIONS
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from truth.drawing import Scenario, draw
from truth.materials import authority, bundle, key_of, served, trusted_side
from truth.setting_up import Arrangement, Place, declaration_of, side_files, write, written

# -- what is drawn ----------------------------------------------------------------------------------------

Settings = Mapping[str, str | None]
"""Values of flags by name; ``None`` for a flag that is removed."""

_STEMS = {"client": "server", "peer": "peer"}
FileEdit = Callable[[str, Scenario, Mapping[str, bytes | None]], Mapping[str, bytes | None]]


def _another_pair(side: str, scenario: Scenario, _: object) -> Mapping[str, bytes | None]:
    """Return the content of a pair of the same kind, newly issued."""
    pair, stem = served(side, scenario), _STEMS[side]
    assert pair.key is not None
    return {f"{stem}.crt": encode_certificates(pair.chain), f"{stem}.key": encode_key(pair.key)}


def _pair_for_another_name(side: str, scenario: Scenario, _: object) -> Mapping[str, bytes | None]:
    name = "peer-served-names" if side == "peer" else "served-names"
    return _another_pair(side, replace(scenario, changed={**scenario.changed, name: "other"}), None)


def _pair_that_expired(side: str, scenario: Scenario, _: object) -> Mapping[str, bytes | None]:
    name = "peer-served-times" if side == "peer" else "served-times"
    return _another_pair(side, replace(scenario, changed={**scenario.changed, name: "expired"}), None)


def _other_bundle(kind: str) -> FileEdit:
    return lambda side, scenario, _: {f"{side}-trusted.crt": bundle(trusted_side(side, scenario), kind)}


FILES: Mapping[str, FileEdit] = {
    "pair renewed": _another_pair,
    "pair for another name": _pair_for_another_name,
    "pair that expired": _pair_that_expired,
    "pair removed": lambda side, *_: {f"{_STEMS[side]}.crt": None, f"{_STEMS[side]}.key": None},
    "key of another pair": lambda side, *_: {f"{_STEMS[side]}.key": encode_key(key_of("ecdsa-p256 another"))},
    "bundle of another CA": _other_bundle("other"),
    "bundle with one more CA": _other_bundle("ca+other"),
    "bundle with the CA renewed": _other_bundle("renewed"),
    "bundle removed": lambda side, *_: {f"{side}-trusted.crt": None},
    "bundle emptied": lambda side, *_: {f"{side}-trusted.crt": b""},
    "bundle with text": lambda side, _, files: {
        f"{side}-trusted.crt": (files[f"{side}-trusted.crt"] or b"") + b"text\n"
    },
    "crl removed": lambda side, *_: {f"{side}.crl": None},
}
"""Edits of the files of a side of one member, which etcd reads at each handshake or at its start."""

SETTINGS: Mapping[str, Callable[[str, Path, Mapping[str, str]], Settings]] = {
    "authentication off": lambda prefix, *_: {f"{prefix}client-cert-auth": None},
    "authentication and bundle removed": lambda prefix, *_: {
        f"{prefix}client-cert-auth": None,
        f"{prefix}trusted-ca-file": None,
    },
    "another bundle": lambda prefix, directory, _: {
        f"{prefix}trusted-ca-file": written(directory / "edited.crt", _another_ca())
    },
    "a bundle that is missing": lambda prefix, directory, _: {
        f"{prefix}trusted-ca-file": str(directory / "missing.crt")
    },
    "the other pair": lambda prefix, directory, _: {
        f"{prefix}{kind}-file": str(
            directory / f"{'server' if prefix else 'peer'}.{'crt' if kind == 'cert' else 'key'}"
        )
        for kind in ("cert", "key")
    },
    "no TLS": lambda prefix, _, words: {
        name: words[name].replace("https://", "http://")
        for name in [f"listen-{'peer' if prefix else 'client'}-urls"]
    },
    "TLS 1.3 alone": lambda *_: {"tls-min-version": "TLS1.3"},
    "metrics elsewhere": lambda *_: {"listen-metrics-urls": None},
    "log level": lambda *_: {"log-level": "warn"},
}
"""Edits of the settings of one member, which wait for the next start."""


UNJUDGED = frozenset({"log-level"})
"""Flags that decide nothing about TLS, which no check compares."""


def _another_ca() -> bytes:
    return encode_certificates([authority("other").certificate])


@dataclass(frozen=True)
class ModeDraw:
    """A cluster, what is edited while it runs, and how each mode is told of it.

    Attributes:
        by_file: the members are started with etcd's configuration file, where it can say all.
        edit: what is edited after the start, of :data:`FILES` or :data:`SETTINGS`; empty for nothing.
        side: the side that is edited.
        form: the form of the declaration of members that are started with flags.
        with_client: the run on processes is given the client's files.
        with_file: the run on processes is given the declaration, too.
        with_directory: the declaration is read with ``--etcd-pki-dir``.
        rehearses: the next restart is rehearsed, and follows.
    """

    scenario: Scenario
    by_file: bool = False
    edit: str = ""
    side: str = "client"
    form: str = "process"
    with_client: bool = True
    with_file: bool = False
    with_directory: bool = False
    rehearses: bool = False

    def __str__(self) -> str:
        parts = [
            str(self.scenario),
            "started by file" if self.by_file else f"declared as {self.form}",
            f"{self.edit} ({self.side})" if self.edit else "nothing edited",
            *(name for name in ("with_client", "with_file", "with_directory") if getattr(self, name)),
        ]
        return "; ".join(parts)

    @property
    def edited(self) -> int:
        """The member that is edited, and restarted."""
        return 1 if self.scenario.size > 1 else 0


_OF_THE_TELLING = ("told-declaration", "host")
"""Properties that a mode decides; by another name of the host, other names are covered."""


def draw_modes(seed: int, number: int) -> ModeDraw:
    """Return a draw; every second one is edited, and every second one rehearsed."""
    drawn, rng = draw(seed, number), Random(f"modes/{seed}/{number}")  # noqa: S311 - reproducible
    changed = {name: value for name, value in drawn.changed.items() if name not in _OF_THE_TELLING}
    # With a cluster that is broken anyway, an edit shows nothing.
    if rng.random() < 0.4:
        changed = {name: value for name, value in changed.items() if name in ("members", "layout")}
    edits = ("",) if rng.random() < 0.4 else tuple(rng.choice((FILES, SETTINGS)))
    return ModeDraw(
        Scenario(changed),
        by_file=rng.random() < 0.4,
        edit=rng.choice(edits),
        side=rng.choice(("client", "client", "peer")),
        form=rng.choice(("process", "manifest")),
        with_client=rng.random() < 0.5,
        with_file=rng.random() < 0.4,
        with_directory=rng.random() < 0.3,
        rehearses=rng.random() < 0.5,
    )


# -- how the members are started --------------------------------------------------------------------------

_SECTION_OF = {
    flag: (section, key)
    for section, keys in SECTIONS.items()
    for key, flag in keys.items()
    if key in ("cert-file", "key-file", "client-cert-auth", "trusted-ca-file", "auto-tls")
}
"""The keys of a section that every etcd has."""
_TOP = frozenset(
    {
        *("name", "data-dir", "initial-cluster", "heartbeat-interval", "election-timeout", "log-level"),
        *("initial-election-tick-advance", "unsafe-no-fsync", "tls-min-version", "tls-max-version"),
        *("listen-client-urls", "advertise-client-urls", "listen-peer-urls", "listen-metrics-urls"),
        *("initial-advertise-peer-urls",),
    }
)


def settings_of(words: Sequence[str]) -> dict[str, str]:
    """Return the flags of a command line, by name."""
    split = (word[2:].partition("=") for word in words)
    return {name: value if separator else "true" for name, separator, value in split}


def _changed(words: Sequence[str], settings: Settings) -> list[str]:
    kept = {**settings_of(words), **settings}
    return [f"--{name}={value}" for name, value in kept.items() if value is not None]


def configuration_file(words: Sequence[str]) -> bytes | None:
    """Return etcd's configuration file with the same settings; ``None`` if a flag has no key in it."""
    document: dict[str, object] = {}
    for name, value in settings_of(words).items():
        typed: object = value == "true" if value in ("true", "false") else value
        typed = int(value) if value.isdecimal() else typed
        if name in _SECTION_OF:
            section, key = _SECTION_OF[name]
            under = document.setdefault(section, {})
            assert isinstance(under, dict)
            under[key] = typed
        elif name in _TOP:
            document[name] = typed
        else:
            return None
    return yaml.safe_dump(document, sort_keys=False).encode()


class Members:
    """How each member of a draw is started and declared, now and at the next start."""

    def __init__(self, drawn: ModeDraw, arrangement: Arrangement, place: Place) -> None:
        self._drawn, self._files = drawn, place.directory / "files"
        self._words = [list(words) for words in arrangement.arguments]
        self.by_file = drawn.by_file and all(map(configuration_file, self._words))
        for member in range(len(self._words)):
            self._declare(member)

    @property
    def declarations(self) -> list[str]:
        """The file that declares each member."""
        return [str(self._declaration(member)) for member in range(len(self._words))]

    def _declaration(self, member: int) -> Path:
        return self._files / (f"etcd-m{member}.yml" if self.by_file else f"declaration-m{member}")

    def arguments(self, member: int) -> list[str]:
        """Return the arguments of a member that is started now."""
        if self.by_file:
            return [f"--config-file={self._declaration(member)}"]
        return self._words[member]

    def settings(self, member: int) -> dict[str, str]:
        """Return the flags with which a member is started now, by name."""
        return settings_of(self._words[member])

    def _declare(self, member: int) -> None:
        words = self._words[member]
        content = configuration_file(words) if self.by_file else None
        write(
            self._declaration(member),
            content or declaration_of(Scenario({"told-declaration": self._drawn.form}), words),
        )

    def edit(self, arrangement: Arrangement, scenario: Scenario) -> frozenset[str]:
        """Edit the files of one member, or its settings, as it was drawn; return the flags that change."""
        drawn, member = self._drawn, self._drawn.edited
        directory = self._files / f"m{member}"
        if drawn.edit in FILES:
            own = scenario.of(member)
            pair = arrangement.served[member, drawn.side]
            old = side_files(drawn.side, own, arrangement.good.get(drawn.side, pair), pair)
            for name, content in FILES[drawn.edit](drawn.side, own, old).items():
                if old.get(name) is not None:
                    write(directory / name, content)
        if drawn.edit in SETTINGS:
            words = self._words[member]
            prefix = "peer-" if drawn.side == "peer" else ""
            edited = _changed(words, SETTINGS[drawn.edit](prefix, directory, settings_of(words)))
            self._words[member] = edited
            self._declare(member)
            return frozenset(dict(settings_of(words).items() ^ settings_of(edited).items()))
        return frozenset()
