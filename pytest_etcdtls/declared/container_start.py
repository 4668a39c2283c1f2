"""How a container is started: its command, arguments and variables, as the kubelet reads them.

Knows that etcd is looked for, not what its arguments mean. Does not know where the container stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from yaml.nodes import Node, ScalarNode

from pytest_etcdtls.declared.declaration import Place
from pytest_etcdtls.declared.program import find_etcd
from pytest_etcdtls.declared.words import Invocation, Variable, Word
from pytest_etcdtls.declared.yaml_nodes import entries, items, member, place_of, text_of
from pytest_etcdtls.errors import UsageError

_REFERENCE = re.compile(r"\$(\$)?\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_IMAGE_OF_ETCD = re.compile(r"(^|/)etcd(:|@|$)")


def container_invocation(node: Node, pod: Node, file: str) -> Invocation | None:
    """Return how a container starts etcd, ``None`` if it runs something else.

    Args:
        node: the container.
        pod: the object that it belongs to; a pod that the API server has printed tells its addresses as well.
        file: for places.

    Raises:
        UsageError: if part of what etcd gets is not in the manifest.
    """
    environment = tuple(_environment(node, pod, file))
    variables = {variable.name: variable for variable in environment}
    words = [
        _expanded(one, file, variables) for key in ("command", "args") for one in items(member(node, key))
    ]
    if _has_own_program(node) and words and words[0].text.startswith("-"):
        words.insert(0, Word("etcd", words[0].place))
    begun = find_etcd(words, environment)
    if begun is not None:
        _refuse_sources(node, file)
    return begun


def _has_own_program(node: Node) -> bool:
    image = text_of(member(node, "image")) or ""
    return member(node, "command") is None and _IMAGE_OF_ETCD.search(image) is not None


def _expanded(node: Node, file: str, variables: dict[str, Variable]) -> Word:
    """Return an argument with ``$(NAME)`` replaced as the kubelet does it."""
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        variable = variables.get(match[2])
        if variable is None:
            return match[0]
        if variable.unresolved:
            missing.append(variable.name)
        return variable.value

    text = _REFERENCE.sub(value, text_of(node) or "")
    place = place_of(node, file)
    if isinstance(node, ScalarNode) and node.style in ("|", ">") and place.line is not None:
        place = Place(file, place.line + 1)  # the text begins on the line after the indicator
    return Word(text, place, tuple(missing))


def _environment(node: Node, pod: Node, file: str) -> Iterator[Variable]:
    known: dict[str, Variable] = {}
    for one in items(member(node, "env")):
        name, place = text_of(member(one, "name")), place_of(one, file)
        source = member(one, "valueFrom")
        if name is None:
            continue
        field = text_of(member(pod, *(text_of(member(source, "fieldRef", "fieldPath")) or "").split(".")))
        if field is not None:
            variable = Variable(name, field, place)
        elif source is not None:
            kind = next((entry.key for entry in entries(source, file)), "elsewhere")
            variable = Variable(name, "", place, f"its value comes from a {kind.removesuffix('Ref')}")
        else:
            value = member(one, "value")
            word = _expanded(value, file, known) if value is not None else Word("", place)
            variable = Variable(name, word.text, place, ", ".join(word.unresolved))
        known[name] = variable
        yield variable


def _refuse_sources(node: Node, file: str) -> None:
    sources = items(member(node, "envFrom"))
    if sources:
        raise UsageError(
            f"{place_of(sources[0], file)}: etcd takes variables from elsewhere (envFrom), and they may set "
            "anything: pass a copy of the manifest that has them under env, with their values"
        )
