"""YAML as a tree of nodes that know their lines. Does not know what the document is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pytest_etcdtls.declared.declaration import Place
from pytest_etcdtls.errors import UsageError

_PREFIX = "tag:yaml.org,2002:"
_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"})


def documents(text: str, file: str) -> list[Node]:
    """Return the root of each document that is not empty.

    Raises:
        UsageError: if it is not YAML.
    """
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1) if mark else Place(file)
        raise UsageError(f"{place}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise UsageError(f"{file}: nested too deeply to be what etcd is declared with") from error
    return [node for node in nodes if not is_null(node)]


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping, with its value."""

    key: str
    place: Place
    value: Node


def entries(node: Node | None, file: str) -> Iterator[Entry]:
    """Yield the entries of a mapping, merged ones (``<<``) first; nothing for anything else."""
    if not isinstance(node, MappingNode):
        return
    own = []
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            continue
        if key.tag == _PREFIX + "merge" and value is not node:
            merged = value.value if isinstance(value, SequenceNode) else [value]
            for one in reversed(merged):
                yield from (entry for entry in entries(one, file) if entry.key != "<<")
        else:
            own.append(Entry(key.value, place_of(key, file), value))
    yield from own


def member(node: Node | None, *keys: str) -> Node | None:
    """Return the node under a path of keys; the last of equal keys counts."""
    for key in keys:
        found = [entry.value for entry in entries(node, "") if entry.key == key]
        node = found[-1] if found else None
    return node


def items(node: Node | None) -> list[Node]:
    """Return the members of a sequence; none of anything else."""
    return list(node.value) if isinstance(node, SequenceNode) else []


def text_of(node: Node | None) -> str | None:
    """Return a scalar as it is written; ``None`` for null and for what is no scalar."""
    return node.value if isinstance(node, ScalarNode) and not is_null(node) else None


def is_null(node: Node) -> bool:
    """Return whether a node is null or empty."""
    return isinstance(node, ScalarNode) and node.tag == _PREFIX + "null"


def boolean_of(node: Node) -> bool | None:
    """Return what a plain scalar means as a boolean in YAML 1.1, which etcd reads; ``None`` if it is none."""
    if not isinstance(node, ScalarNode) or node.style is not None:
        return None
    if node.value in _TRUE | _FALSE:
        return node.value in _TRUE
    return None


def kind_of(node: Node) -> str:
    """Return what a node is, in JSON's words: ``string``, ``number``, ``boolean``, ``list``, ``mapping``."""
    if isinstance(node, SequenceNode):
        return "list"
    if isinstance(node, MappingNode):
        return "mapping"
    if boolean_of(node) is not None:
        return "boolean"
    return "number" if node.tag in (_PREFIX + "int", _PREFIX + "float") else "string"


def place_of(node: Node, file: str) -> Place:
    """Return the line on which a node begins."""
    return Place(file, node.start_mark.line + 1)
