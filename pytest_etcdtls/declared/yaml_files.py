"""YAML: nodes with line numbers, and etcd's configuration file.

Nodes are composed, not loaded: a message needs the line of a value, and what a value means is decided by its
reader, not by YAML. etcd reads its file with sigs.k8s.io/yaml, which makes JSON of YAML 1.1 and decodes that
into Go structs. So ``on`` and ``yes`` are booleans, the case of keys is ignored, and a value of another type
than the Go field's keeps etcd from starting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import yaml
from msgspec import Struct
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pytest_etcdtls.declared.declaration import Setting, SourceLine, Via, refused_urls
from pytest_etcdtls.declared.flags import (
    GO_FIELDS,
    LISTS,
    SECTIONS,
    SWITCH_KEYS,
    SWITCHES,
    URL_LISTS,
    names,
    top_level_flag,
)
from pytest_etcdtls.errors import NotVerifiedError, UsageError

_PREFIX = "tag:yaml.org,2002:"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where PyYAML is built with it, as its wheels are: PyYAML's own takes ten times as long."""
MAXIMUM_SIZE: Final = 1024 * 1024 if hasattr(yaml, "CSafeLoader") else 128 * 1024
"""The largest accepted text in characters."""
_MAXIMUM_VALUES: Final = 40_000
"""The largest accepted number of values, 24 MB in memory. A list of 3000 clusters has fewer."""
_MAXIMUM_DEPTH = 100

_BOOLEANS = {
    **dict.fromkeys(names("y Y yes Yes YES on On ON true True TRUE"), True),
    **dict.fromkeys(names("n N no No NO off Off OFF false False FALSE"), False),
}


def documents(text: str, file: str, maximum: int = MAXIMUM_SIZE) -> list[Node]:
    """Return the root node of each YAML document that is not empty.

    Raises:
        UsageError: if the text is not YAML, or exceeds a bound.
    """
    if len(text) > maximum:
        raise UsageError(f"{file}: larger than {maximum // 1024} KiB: no declaration in YAML is so large")
    try:
        _refuse_excess(yaml.parse(text, Loader=_LOADER), file)
        return [node for node in yaml.compose_all(text, Loader=_LOADER) if not is_null(node)]
    except yaml.YAMLError as error:
        raise _invalid(error, file) from error


def _invalid(error: Exception, file: str) -> UsageError:
    """Return what is wrong, with the line where that shows and the one where what was being read begins."""
    lines = lines_of(error)
    problem, context = getattr(error, "problem", ""), getattr(error, "context", "")
    text = problem or context or str(error).splitlines()[0]
    begin = f" {context} that begins on line {lines[0]}" if len(lines) > 1 else ""
    return UsageError(f"{SourceLine(file, max(lines, default=None))}: not valid YAML: {text}{begin}")


def lines_of(error: object) -> list[int]:
    """Return the lines that an error of YAML names, in their order: the mistake may be on any of them."""
    marks = (getattr(error, name, None) for name in ("context_mark", "problem_mark"))
    return sorted({mark.line + 1 for mark in marks if mark})


def edited(text: str, edit: Callable[[dict[str, Any]], Mapping[str, Any]]) -> str:
    """Return a configuration file that has been read, with other keys and values.

    Raises:
        NotVerifiedError: if it has a value that etcd may read and PyYAML does not, such as ``2001-99-99``.
    """
    try:
        roots = documents(text, "")
        document = yaml.SafeLoader("").construct_document(roots[0]) if roots else {}
    except (yaml.YAMLError, ValueError) as error:
        why = "a value of its configuration file has no type of YAML: put it in quotes"
        raise NotVerifiedError(why) from error
    return yaml.safe_dump(edit(document), sort_keys=False)


def _refuse_excess(events: Iterable[yaml.Event], file: str) -> None:
    """Refuse more values, or deeper ones, than a declaration has, and aliases, which may stand for as many.

    A tag is refused too: etcd reads what ``!!binary`` encodes, and ignores one that it does not know.

    Raises:
        UsageError: if there are such.
    """
    values = depth = 0
    problem = ""
    for event in events:
        values += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or (
            isinstance(event, yaml.ScalarEvent) and event.value == "<<"
        ):
            problem = "aliases and merged keys (*name, <<) are not read: write the values out"
        elif getattr(event, "tag", None):
            problem = "tags (!!binary, !name) are not read: write the value without one"
        elif values > _MAXIMUM_VALUES:
            problem = f"more than {_MAXIMUM_VALUES} values in YAML"
        elif depth > _MAXIMUM_DEPTH:
            problem = "nested too deeply for a declaration of etcd"
        if problem:
            line = event.start_mark.line + 1 if event.start_mark else None
            raise UsageError(f"{SourceLine(file, line)}: {problem}")


class Entry(Struct, frozen=True):
    """A key of a mapping, with its value."""

    key: str
    place: SourceLine
    value: Node


def entries(node: Node | None, file: str) -> Iterator[Entry]:
    """Yield the entries of a mapping; nothing for other nodes."""
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if isinstance(key, ScalarNode):
            yield Entry(key.value, place_of(key, file), value)


def node_at(node: Node | None, *keys: str) -> Node | None:
    """Return the node at a path of keys; the last of equal keys is used."""
    for key in keys:
        if not isinstance(node, MappingNode):
            return None
        node = _values(node).get(key)
    return node


@lru_cache(maxsize=1024)
def _values(node: MappingNode) -> dict[str, Node]:
    return {entry.key: entry.value for entry in entries(node, "")}


def items(node: Node | None) -> list[Node]:
    """Return the items of a sequence; an empty list for other nodes."""
    return list(node.value) if isinstance(node, SequenceNode) else []


def text_of(node: Node | None) -> str | None:
    """Return a scalar as it is written; ``None`` for null and for other nodes."""
    return node.value if isinstance(node, ScalarNode) and not is_null(node) else None


def text_at(node: Node | None, *keys: str) -> str:
    """Return the text of the value at a path of keys; empty if there is none."""
    return text_of(node_at(node, *keys)) or ""


def is_null(node: Node) -> bool:
    """Return whether a node is null or empty."""
    return isinstance(node, ScalarNode) and node.tag == _PREFIX + "null"


def boolean_of(node: Node) -> bool | None:
    """Return the value of a YAML 1.1 boolean, as etcd parses it; ``None`` if it is not a boolean."""
    # The style of a plain scalar is None, and '' with libyaml.
    return _BOOLEANS.get(node.value) if isinstance(node, ScalarNode) and not node.style else None


def kind_of(node: Node) -> str:
    """Return the kind of a node: ``string``, ``number``, ``boolean``, ``list`` or ``mapping``."""
    if isinstance(node, SequenceNode):
        return "list"
    if isinstance(node, MappingNode):
        return "mapping"
    if boolean_of(node) is not None:
        return "boolean"
    return "number" if node.tag in (_PREFIX + "int", _PREFIX + "float") else "string"


def place_of(node: Node, file: str) -> SourceLine:
    """Return the line on which a node begins."""
    return SourceLine(file, node.start_mark.line + 1)


SECTION_FLAGS: Final = SECTIONS | {
    field: {"crlfile": f"{side}-crl-file"} for field, side in GO_FIELDS.items()
}
_TEXTS = frozenset({"name", "data-dir", "initial-cluster", "tls-min-version", "tls-max-version"}) | URL_LISTS


def read_configuration(text: str, file: str) -> Iterator[tuple[Setting, str | None]]:
    """Yield the settings of a configuration file, each with why etcd does not start with its value.

    The reason is empty if etcd decodes the value, and ``None`` for a key that no version of etcd reads.

    Raises:
        UsageError: if the file is not YAML or not a mapping, or a key is given again.
    """
    for root in documents(text, file)[:1]:
        if not isinstance(root, MappingNode):
            raise UsageError(
                f"{file}: an etcd configuration file is a mapping of keys, this is a {kind_of(root)}"
            )
        for entry in _decoded(root, file):
            flags = SECTION_FLAGS.get(entry.key.lower())
            if flags is None:
                yield from _read_key(entry, top_level_flag(entry.key.lower()), entry.key)
                continue
            for inner in _decoded(entry.value, file):
                yield from _read_key(inner, flags.get(inner.key.lower()), f"{entry.key}.{inner.key}")


def _decoded(node: Node, file: str) -> list[Entry]:
    """Return the entries of a mapping, each key once.

    Raises:
        UsageError: if a key is given again, also in other case. Of the two, etcd drops one without a message.
    """
    given: dict[str, Entry] = {}
    for entry in entries(node, file):
        before = given.setdefault(entry.key.lower(), entry)
        if before is not entry:
            raise UsageError(
                f"{entry.place}: the key {entry.key} is given again (line {before.place.line}), and "
                "etcd drops one of the two: keep the one that is meant"
            )
    return list(given.values())


def _read_key(entry: Entry, flag: str | None, spelled: str) -> Iterator[tuple[Setting, str | None]]:
    if not is_null(entry.value):  # of which etcd keeps its default
        name = flag or spelled
        value = _value(entry.value, name)
        setting = Setting(name=name, value=value, spelled=spelled, via=Via.KEY, place=entry.place)
        yield setting, None if flag is None else _problem(entry, name)


def _value(node: Node, name: str) -> str:
    members = items(node)
    if members:
        return ",".join(text_of(member) or "" for member in members)
    boolean = boolean_of(node) if name not in _TEXTS else None
    if boolean is not None:
        return "true" if boolean else "false"
    return text_of(node) or ""


def _problem(entry: Entry, name: str) -> str:
    """Return why etcd does not decode the value of a key; empty if it does. Not every key is checked."""
    kind, key = kind_of(entry.value), entry.key.lower()
    if key in LISTS:
        return "" if kind == "list" else f"is a {kind}, and etcd expects a list: [a, b]"
    if key in SWITCH_KEYS or name in SWITCHES:
        return "" if kind == "boolean" else f"is a {kind}, and etcd expects true or false without quotes"
    if (name in _TEXTS or name.endswith("-file")) and kind != "string":
        return (
            f"is a {kind}, and etcd expects a string: put it in quotes" if kind != "list" else _LIST_OF_URLS
        )
    if name in URL_LISTS:
        return next((f"has {problem}" for problem in refused_urls(text_of(entry.value) or "")), "")
    return ""


_LIST_OF_URLS = "is a list, and etcd expects one comma-separated string"


def looks_like_configuration(text: str, file: str) -> bool:
    """Return whether a text is a mapping with at least one of etcd's keys.

    Raises:
        UsageError: if the text is not YAML.
    """
    roots = documents(text, file)
    return bool(roots) and any(
        entry.key.lower() in SECTIONS or top_level_flag(entry.key.lower())
        for entry in entries(roots[0], file)
    )
