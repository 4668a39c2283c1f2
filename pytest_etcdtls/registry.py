"""The check contract: a decorated generator function with a docstring of a fixed shape.

A check that does not follow the contract is refused at import.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_origin

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import RegistrationError
from pytest_etcdtls.results import Level, Severity, Statement
from pytest_etcdtls.role import CLUSTER as CLUSTER
from pytest_etcdtls.role import Role

CheckFunction = Callable[..., Iterator[Statement]]
Counterexample = Callable[..., Mapping[str, Any]]

EVERY_LISTENER = frozenset(Role)

_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
_FIELD = re.compile(r"^(Spec|Follows|Severity|Level|Remediation):\s*(.*)$")
_LEVEL_BY_ROLE = re.compile(r"MUST on ([a-z, -]+), else SHOULD")
_LEVEL_BY_FINDING = re.compile(r"MUST, SHOULD (if|for|where) \S.*")


@dataclass(frozen=True, slots=True)
class Need:
    """An observation that a check needs.

    Attributes:
        type: the observation's class.
        key: which one of that class, from ``Annotated[Type, "key"]``; ``None`` if there is only one.
    """

    type: type[Any]
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One registered check.

    Attributes:
        id: permanent, ``family.fact``.
        requirement: the requirement, the first line of the docstring.
        explanation: the prose of the docstring.
        references: the ``Spec:`` lines.
        level: the strictest level of its findings.
        level_text: the level as written in the docstring: ``MUST on peer, else SHOULD``.
        must_on: roles on which the level is MUST; ``None`` if the level does not depend on the role.
        lowers: single findings may be SHOULD (``Finding.level``); the docstring says which.
        remediation: like ``references`` with placeholders for the port's flags: ``{peer}`` is ``peer-`` or
            empty, ``{side}`` is ``peer`` or ``client``.
        roles: roles of the listeners that it judges, empty if it judges the whole target.
        needs: parameter name to observation.
        function: the generator.
        counterexample: turns conforming observations into violating ones, by parameter name.
        conforming: turns the samples of its observations into those of a conforming subject; ``None`` if they
            are.
        opt_in: it runs only if it is selected by name, since it takes long.
        follows: ids or globs of the checks from which a violation of this one may follow.
    """

    id: str
    requirement: str
    explanation: str
    references: tuple[str, ...]
    severity: Severity
    level: Level
    level_text: str
    remediation: str
    roles: frozenset[Role]
    needs: Mapping[str, Need]
    function: CheckFunction
    counterexample: Counterexample
    conforming: Counterexample | None = None
    opt_in: bool = False
    must_on: frozenset[Role] | None = None
    lowers: bool = False
    follows: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The part of the id before the dot."""
        return self.id.partition(".")[0]

    def level_on(self, role: Role | None) -> Level:
        """Return the level on a listener of that role, without the levels of single findings."""
        return self.level if self.must_on is None or role in self.must_on else Level.SHOULD

    def remedy(self, role: Role | None, remediation: str = "") -> str:
        """Return a remediation, by default the check's own, with the flags of that role's port."""
        return _with_flags(remediation or self.remediation, role)

    def sources(self, role: Role | None) -> tuple[str, ...]:
        """Return the references with the flags of that role's port."""
        return tuple(_with_flags(reference, role) for reference in self.references)


def _with_flags(text: str, role: Role | None) -> str:
    is_peer = role is Role.PEER
    return text.format(peer="peer-" if is_peer else "", side="peer" if is_peer else "client")


_CHECKS: dict[str, Check] = {}
_in_order: Mapping[str, Check] = {}
"""The same, sorted by id; made anew when there are others."""


def check(
    id_: str,
    *,
    on: frozenset[Role] | set[Role],
    counterexample: Counterexample,
    conforming: Counterexample | None = None,
    opt_in: bool = False,
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a check.

    Args:
        id_: its permanent id, ``family.fact``, lower case with hyphens.
        on: roles of the listeners that it judges; empty for the whole target.
        counterexample: takes the observations of a conforming subject by the check's parameter names, and
            returns replacements with which the check must report a finding.
        conforming: takes the samples of the observations by the check's parameter names, and returns
            replacements with which the check is silent; needed only where a good etcd does not answer as the
            sample says.
        opt_in: run the check only if it is selected by name.

    Raises:
        RegistrationError: if the id is taken or a prefix of another, the function is not a generator,
            a parameter has no observation type, or the docstring lacks a field or has an unknown value.
    """

    def register(function: CheckFunction) -> CheckFunction:
        for other, known in _CHECKS.items():
            again = known.function.__globals__ is not function.__globals__
            if other == id_ and again and place_of(known.function) == place_of(function):
                continue  # one file that is loaded twice, by --etcd-checks-file and by a test that imports it
            if other.startswith(id_) or id_.startswith(other):
                raise RegistrationError(f"check id {id_!r} is taken, or a prefix of {other!r} or the reverse")
        built = _build(id_, frozenset(on), function, counterexample)
        global _in_order
        _in_order = {}
        _CHECKS[id_] = replace(built, conforming=conforming, opt_in=opt_in)
        return function

    return register


def place_of(function: CheckFunction) -> tuple[str, int]:
    """Return file and line of a function."""
    code = function.__code__
    return code.co_filename, code.co_firstlineno


def registered() -> Mapping[str, Check]:
    """Return the checks registered so far, by id, in order of id."""
    global _in_order
    if len(_in_order) != len(_CHECKS):
        _in_order = MappingProxyType(dict(sorted(_CHECKS.items())))
    return _in_order


def _build(
    id_: str, roles: frozenset[Role], function: CheckFunction, counterexample: Counterexample
) -> Check:
    where = f"check {id_!r} ({function.__module__}.{function.__qualname__})"
    if not _ID.fullmatch(id_):
        raise RegistrationError(f"{where}: an id has the form family.fact-in-lower-case")
    if not inspect.isgeneratorfunction(function):
        raise RegistrationError(f"{where} is not a generator: yield findings, do not return them")
    fields, requirement, prose = _parse_docstring(where, inspect.getdoc(function) or "")
    try:
        severity, level = Severity(fields["Severity"][0]), Level(fields["Level"][0].split()[0].strip(","))
    except ValueError as error:
        raise RegistrationError(f"{where}: {error}") from error
    must_on, lowers = _exceptions(where, fields["Level"][0], roles)
    return Check(
        id=id_,
        requirement=requirement,
        explanation=prose,
        references=tuple(fields["Spec"]),
        severity=severity,
        level=level,
        level_text=fields["Level"][0],
        must_on=must_on,
        lowers=lowers,
        remediation=fields["Remediation"][0],
        roles=roles,
        needs=_needs(where, function),
        function=function,
        counterexample=counterexample,
        follows=tuple(name.strip() for text in fields.get("Follows", []) for name in text.split(",")),
    )


def _exceptions(where: str, text: str, roles: frozenset[Role]) -> tuple[frozenset[Role] | None, bool]:
    """Return the roles on which the level is MUST, if it varies, and whether findings may lower it."""
    if text in tuple(Level):
        return None, False
    if _LEVEL_BY_FINDING.fullmatch(text):
        return None, True
    match = _LEVEL_BY_ROLE.fullmatch(text)
    names = set(match[1].split(", ")) if match else set()
    must_on = frozenset(role for role in roles if role.value in names)
    if not names or len(must_on) != len(names) or not must_on < roles:
        raise RegistrationError(
            f"{where}: Level: {text!r} is not MUST, SHOULD, 'MUST on ROLE, ROLE, else SHOULD' with some of "
            "the roles that are judged, or 'MUST, SHOULD if|for|where ...'"
        )
    return must_on, False


def _needs(where: str, function: CheckFunction) -> dict[str, Need]:
    hints = typing.get_type_hints(function, include_extras=True)
    needs: dict[str, Need] = {}
    for name in inspect.signature(function).parameters:
        hint = hints.get(name)
        if get_origin(hint) is Annotated:
            observation, key, *_ = get_args(hint)
            needs[name] = Need(observation, str(key))
        elif isinstance(hint, type):
            needs[name] = Need(hint)
        else:
            raise RegistrationError(f"{where}: parameter {name!r} is not annotated with an observation type")
    return needs


def _parse_docstring(where: str, text: str) -> tuple[dict[str, list[str]], str, str]:
    """Split a docstring into fields, first line and prose; fields may continue on indented lines."""
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise RegistrationError(f"{where} has no docstring: its first line is the requirement")
    fields: dict[str, list[str]] = {}
    prose: list[str] = []
    for line in lines[1:]:
        if match := _FIELD.match(line):
            name, value = match.groups()
            fields.setdefault(name, []).append(value.strip())
        elif fields and line.startswith(" "):
            fields[name][-1] += " " + line.strip()
        elif fields and line.strip():
            raise RegistrationError(f"{where}: prose after the fields: {line.strip()!r}")
        else:
            prose.append(line)
    for name in ("Spec", "Severity", "Level", "Remediation"):
        if not all(fields.get(name, [""])):
            raise RegistrationError(f"{where}: the docstring lacks the field {name}:")
        if name != "Spec" and len(fields[name]) > 1:
            raise RegistrationError(f"{where}: the docstring has {name}: twice")
    return fields, lines[0].strip(), "\n".join(prose).strip()
