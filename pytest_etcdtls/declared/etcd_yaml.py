"""etcd's own configuration file, ``etcd.conf.yml``, as ``embed.ConfigFromFile`` reads it.

Keys are matched regardless of case, as Go's JSON decoder does; the last of equal keys counts; only the first
document is read. Knows which key stands for which flag, not what it means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from yaml.nodes import MappingNode, Node

from pytest_etcdtls.declared.declaration import Mistake, Setting, Via
from pytest_etcdtls.declared.urls import parse_urls
from pytest_etcdtls.declared.vocabulary import SWITCHES, URL_LISTS
from pytest_etcdtls.declared.vocabulary_yaml import (
    GO_FIELDS,
    LISTS,
    SECTIONS,
    SWITCH_KEYS,
    top_level_flag,
)
from pytest_etcdtls.declared.yaml_nodes import (
    Entry,
    boolean_of,
    documents,
    entries,
    is_null,
    items,
    kind_of,
    text_of,
)
from pytest_etcdtls.errors import UsageError

_TEXTS = frozenset({"name", "data-dir", "initial-cluster", "tls-min-version", "tls-max-version"}) | URL_LISTS


@dataclass
class YAMLConfiguration:
    """What a configuration file comes to.

    Attributes:
        given: settings in the order of the file, overridden ones included.
        unknown: keys that no etcd reads.
        mistakes: what keeps etcd from starting.
    """

    given: list[Setting] = field(default_factory=list)
    unknown: list[Setting] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)


def read_configuration(text: str, file: str) -> YAMLConfiguration:
    """Return the settings of a configuration file; an empty one has none.

    Raises:
        UsageError: if it is not YAML, or no mapping.
    """
    roots = documents(text, file)
    found = YAMLConfiguration()
    if not roots:
        return found
    if not isinstance(roots[0], MappingNode):
        raise UsageError(
            f"{file}: an etcd configuration file is a mapping of keys, this is a {kind_of(roots[0])}"
        )
    for entry in _last_ones(entries(roots[0], file)):
        _read_top(entry, file, found)
    return found


def _last_ones(found: Iterator[Entry]) -> list[Entry]:
    """Return the last of each key, regardless of case: a repeated section replaces the first one whole."""
    return list({entry.key.lower(): entry for entry in found}.values())


def _read_top(entry: Entry, file: str, found: YAMLConfiguration) -> None:
    key = entry.key.lower()
    if key in SECTIONS:
        for inner in _last_ones(entries(entry.value, file)):
            flag = SECTIONS[key].get(inner.key.lower())
            _read_key(inner, flag, f"{entry.key}.{inner.key}", found)
    elif key in GO_FIELDS:
        for inner in _last_ones(entries(entry.value, file)):
            flag = f"{GO_FIELDS[key]}-crl-file" if inner.key.lower() == "crlfile" else None
            _read_key(inner, flag, f"{entry.key}.{inner.key}", found)
    else:
        _read_key(entry, top_level_flag(key), entry.key, found)


def _read_key(entry: Entry, flag: str | None, spelled: str, found: YAMLConfiguration) -> None:
    if is_null(entry.value):
        return  # etcd keeps its default
    name = flag or spelled
    value = _value(entry.value, name)
    setting = Setting(name=name, value=value, spelled=spelled, via=Via.KEY, place=entry.place)
    if flag is None:
        found.unknown.append(setting)
        return
    problem = _problem(entry, name)
    if problem:
        text = f"etcd stops: {spelled} {problem}"
        found.mistakes.append(Mistake(place=entry.place, text=text, key=setting))
    else:
        found.given.append(setting)


def _value(node: Node, name: str) -> str:
    members = items(node)
    if members:
        return ",".join(text_of(one) or "" for one in members)
    boolean = boolean_of(node) if name not in _TEXTS else None
    if boolean is not None:
        return "true" if boolean else "false"
    return text_of(node) or ""


def _problem(entry: Entry, name: str) -> str | None:
    """Return why Go's JSON decoder refuses the value, for the keys that matter here."""
    kind, key = kind_of(entry.value), entry.key.lower()
    if key in LISTS:
        return None if kind == "list" else f"is a {kind}, and etcd wants a list: [a, b]"
    if key in SWITCH_KEYS or name in SWITCHES:
        return None if kind == "boolean" else f"is a {kind}, and etcd wants true or false without quotes"
    if (name in _TEXTS or name.endswith("-file")) and kind != "string":
        return f"is a {kind}, and etcd wants a string: put it in quotes" if kind != "list" else _LIST_OF_URLS
    if name in URL_LISTS:
        problems = parse_urls(text_of(entry.value) or "").problems
        return f"has {problems[0]}" if problems else None
    return None


_LIST_OF_URLS = "is a list, and etcd wants one string with commas in it"


def looks_like_configuration(text: str, file: str) -> bool:
    """Return whether a text is a mapping with at least one key of etcd's.

    Raises:
        UsageError: if it is not YAML.
    """
    roots = documents(text, file)
    return bool(roots) and any(
        entry.key.lower() in SECTIONS or top_level_flag(entry.key.lower())
        for entry in entries(roots[0], file)
    )
