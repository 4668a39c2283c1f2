"""Traps about where settings are written: places that etcd does not look at, names that it does not know."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from pytest_etcdtls.declared.declaration import Setting, Via
from pytest_etcdtls.declared.in_force import known_to, passed_over
from pytest_etcdtls.declared.trap import Situation, Trap, spellings
from pytest_etcdtls.declared.version import line, version_key
from pytest_etcdtls.declared.vocabulary import EVERY_FLAG, FLAG_OF, LINES, URL_LISTS, flag_lines
from pytest_etcdtls.declared.vocabulary_yaml import CLIENT_SECTION, GO_FIELDS, SECTIONS

_ABOUT_TLS = ("cert", "key-file", "ca-file", "crl", "tls", "cipher-suites", "san-verification", "allowed")


def is_about_tls(setting: Setting) -> bool:
    """Return whether a setting matters for TLS: files, switches, names, versions, and where etcd listens."""
    return _matters(setting.name)


def _matters(name: str) -> bool:
    name = name.lower().replace("_", "-")
    return name in URL_LISTS or any(word in name for word in _ABOUT_TLS)


def hidden_by_file(situation: Situation) -> Iterator[Trap]:
    """A configuration file makes etcd ignore flags and variables; those that it repeats do no harm."""
    hidden = tuple(
        setting
        for setting in situation.declaration.hidden
        if is_about_tls(setting) and not _says_the_same(situation.seen.settings.get(setting.name), setting)
    )
    if hidden:
        yield Trap(
            id="config-file-hides-flags",
            summary=f"etcd reads {situation.declaration.config_file} and ignores {spellings(hidden)}",
            why="with a configuration file all other flags and all environment variables are ignored; one "
            "line of the log says so, at level info.",
            remedy="write these settings into the configuration file, or do without it",
            settings=hidden,
        )


def _says_the_same(in_force: Setting | None, hidden: Setting) -> bool:
    """Return whether etcd does what the hidden setting says all the same; a switch is off by default."""
    if in_force is None:
        return not hidden.value or (hidden.boolean and not hidden.on)
    if in_force.boolean and hidden.boolean:
        return in_force.on is hidden.on
    return in_force.value == hidden.value


def unknown_keys(situation: Situation) -> Iterator[Trap]:
    """An unknown key in the configuration file is ignored without a word."""
    here = situation.declaration.unknown
    unread = [setting for setting in here if setting.via is Via.KEY]
    unread += [
        setting
        for setting in passed_over(situation.declaration, situation.version)
        if setting.via is Via.KEY and is_about_tls(setting)
    ]
    for setting in unread:
        yield Trap(
            id="unknown-key",
            summary=f"{setting.spelled} is not in force: etcd {_version(situation)}has no such key and says "
            "nothing",
            why="etcd's YAML decoder passes over keys that it does not know.",
            remedy=_advice(setting),
            settings=(setting,),
            certain=_names_are_known(situation),
        )


def _names_are_known(situation: Situation) -> bool:
    """Return whether it is known which names that etcd has: a newer one may have more."""
    return line(situation.version) in LINES


def _version(situation: Situation) -> str:
    return f"{situation.version} " if situation.version else ""


def _advice(setting: Setting) -> str:
    key = setting.spelled.rpartition(".")[2].lower()
    if "crl" in key:
        return "no documented key is for a CRL: give everything by flags, the CRL by --client-crl-file"
    for section, keys in SECTIONS.items():
        for name, flag in keys.items():
            if key in (flag, name):
                return f"write it as {section}: {name}, and see which versions read it"
    names = sorted({*EVERY_FLAG, *SECTIONS, *SECTIONS[CLIENT_SECTION]})
    close = difflib.get_close_matches(key, names, 1)
    return f"perhaps {close[0]} is meant" if close else f"remove {setting.spelled}"


def go_fields(situation: Situation) -> Iterator[Trap]:
    """Go's own names of fields are keys as well, which no documentation mentions."""
    for setting in situation.seen.settings.values():
        if setting.via is Via.KEY and setting.spelled.partition(".")[0].lower() in GO_FIELDS:
            yield Trap(
                id="undocumented-key",
                summary=f"{setting.spelled} is in force, though no documentation has such a key",
                why="Go's decoder takes the name of a field for a key where the field has no name of its "
                "own, so that this works today, by accident.",
                remedy="start etcd with flags instead of a configuration file",
                settings=(setting,),
            )


def unknown_variables(situation: Situation) -> Iterator[Trap]:
    """An unknown environment variable is ignored with a warning in the log.

    Many are for something else, such as the script that starts etcd: only those count that are named, or
    nearly named, like one that matters for TLS.
    """
    unread = [setting for setting in situation.declaration.unknown if setting.via is Via.VARIABLE]
    unread += [
        setting
        for setting in passed_over(situation.declaration, situation.version)
        if setting.via is Via.VARIABLE and is_about_tls(setting)
    ]
    for setting in unread:
        close = difflib.get_close_matches(setting.spelled, sorted(FLAG_OF), 1)
        if not is_about_tls(setting) and not any(_matters(FLAG_OF[name]) for name in close):
            continue
        yield Trap(
            id="unknown-variable",
            summary=f"{setting.spelled} is not in force: etcd {_version(situation)}does not know it and only "
            "warns",
            why="an environment variable stands for a flag in capitals with underscores, and etcd ignores "
            "others.",
            remedy=f"perhaps {close[0]} is meant" if close and close[0] != setting.spelled else "remove it",
            settings=(setting,),
            certain=_names_are_known(situation),
        )


def unknown_flags(situation: Situation) -> Iterator[Trap]:
    """An unknown flag stops etcd."""
    flags = [setting for setting in situation.declaration.unknown if setting.via is Via.FLAG]
    given = (*situation.declaration.settings.values(), *situation.declaration.hidden)
    flags += [
        setting for setting in given if setting.via is Via.FLAG and not known_to(setting, situation.version)
    ]
    for setting in flags:
        lines = flag_lines(setting.name)
        close = difflib.get_close_matches(setting.name, sorted(EVERY_FLAG), 1)
        known = f"it is a flag of {lines}" if lines else "no version has it"
        yield Trap(
            id="flag-unknown-to-version",
            summary=f"etcd {_version(situation)}does not start with {setting.spelled}: {known}",
            why="an unknown flag ends etcd before it reads anything; what runs was started with other flags.",
            remedy=f"remove {setting.spelled}" if lines or not close else f"perhaps --{close[0]} is meant",
            settings=(setting,),
            starts=False,
            certain=_names_are_known(situation),
        )


def variables_beside_flags(situation: Situation) -> Iterator[Trap]:
    """From 3.4 on a flag and its variable together stop etcd."""
    for setting in situation.declaration.shadowed:
        flag = situation.declaration.settings[setting.name]
        old = version_key(situation.version) < (3, 4)
        yield Trap(
            id="variable-beside-flag",
            summary=f"{setting.spelled} is ignored, since {flag.spelled} is given"
            if old
            else f"etcd does not start: {setting.spelled} and {flag.spelled} are both given",
            why="up to 3.3 the flag goes before the variable; from 3.4 on etcd refuses to choose, even if "
            "both are equal or the variable is empty.",
            remedy=f"remove one of {setting} and {flag}",
            settings=(setting, flag),
            starts=old,
        )


def gateway_off(situation: Situation) -> Iterator[Trap]:
    """The configuration file of 3.4 has another default than the flag."""
    if situation.effective.gateway or "enable-grpc-gateway" in situation.seen.settings:
        return
    yield Trap(
        id="gateway-off-in-config-file",
        summary="the JSON gateway (/v3/...) does not answer",
        why=f"etcd {line(situation.version)} switches it on by the flag's default, and the configuration "
        "file has none.",
        remedy="write enable-grpc-gateway: true into the configuration file if it is wanted",
    )


MERGING_TRAPS = (
    hidden_by_file,
    unknown_keys,
    go_fields,
    unknown_variables,
    unknown_flags,
    variables_beside_flags,
    gateway_off,
)
