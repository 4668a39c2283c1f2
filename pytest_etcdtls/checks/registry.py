"""The check contract, the catalogue, its selection, and which violation follows from which other.

A check is a decorated generator function with a docstring of a fixed shape. One that does not follow the
contract is refused at import. Checks come from the modules of :mod:`pytest_etcdtls.checks`, the entry-point
group ``pytest_etcdtls.checks`` and the user's files.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import inspect
import pkgutil
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.checks.results import CheckResult, Level, Outcome, Severity, Statement
from pytest_etcdtls.declared.cures import Cure
from pytest_etcdtls.errors import RegistrationError, UnreadableFileError, UsageError, did_you_mean
from pytest_etcdtls.facts.fact import ListenerObservation, Need, Reading, fact_of, need_of
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.untrusted.regular_files import read_regular

GATES = ("listener.answers", "listener.is-etcd")
"""Checks that run before all others of a listener, in this order."""

_ALSO_ON_PROXIES = frozenset({"mtls", "cert", "tls"})
"""Families that judge who is accepted, and in which TLS: on etcd's grpc-proxy as on etcd."""
_OF_ETCD_ALONE = frozenset({"cert.client-usage", "cert.covers-advertised-url"})
"""Checks of these families about a gateway or a member list, of which a grpc-proxy has none of its own."""

CheckFunction = Callable[..., Iterator[Statement]]
Counterexample = Callable[..., Mapping[str, Any]]

TO_CLIENTS: Final = {"client": "client", "peer-": ""}
TO_PEERS: Final = {"client": "peer", "peer-": "peer-"}
"""Words of a check that is the same on both ports."""

EVERY_LISTENER = frozenset(Role)
CLIENT_AND_PEER = frozenset({Role.CLIENT, Role.PEER})
CLIENT_PORTS = frozenset({Role.CLIENT, Role.CLIENT_HTTP})
CLIENT_PORTS_AND_METRICS = CLIENT_PORTS | {Role.METRICS}

_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
_FIELD = re.compile(r"^(Spec|Follows|Severity|Level|Remediation):\s*(.*)$")
_LEVEL_BY_ROLE = re.compile(r"MUST on ([a-z, -]+), else SHOULD")
_LEVEL_BY_FINDING = re.compile(r"MUST, SHOULD (if|for|where) \S.*")


class Check(Struct, frozen=True, kw_only=True):
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
            empty, ``{side}`` is ``peer`` or ``client``, ``{role}`` is the role.
        roles: roles of the listeners that it judges, empty if it judges the whole target.
        needs: parameter name to fact.
        given: names of the parameters that take the ``Listener`` or the ``Target``.
        cure: what to change in a declaration, where that removes the fault.
        function: the generator.
        counterexample: turns conforming observations into violating ones, by parameter name.
        conforming: turns the recorded observations into those of a conforming subject; ``None`` if they are.
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
    given: Mapping[str, type[Any]] = {}
    cure: Cure | None = None

    @property
    def family(self) -> str:
        """Its family."""
        return family_of(self.id)

    def reads(self, target: Target, listener: Listener | None) -> Iterator[ListenerObservation]:
        """Yield the facts that it may read when it judges the listener, ``None`` for the whole target."""
        for need in self.needs.values():
            places = target.listeners if need.reading is Reading.EACH else (listener,)
            yield from ((place, need.type, need.key) for place in places)

    def arguments(
        self, target: Target, listener: Listener | None, read: Callable[[Need], Any]
    ) -> dict[str, Any]:
        """Return the arguments of its function by name, with the facts that ``read`` returns."""
        given = {Listener: listener, Target: target}
        return {name: given[kind] for name, kind in self.given.items()} | {
            name: read(need) for name, need in self.needs.items()
        }

    def level_on(self, role: Role | None) -> Level:
        """Return the level on a listener of that role, without the levels of single findings."""
        return self.level if self.must_on is None or role in self.must_on else Level.SHOULD

    def remedy(self, role: Role | None, remediation: str = "") -> str:
        """Return a remediation, by default the check's own, with the flags of that role's port."""
        return _with_flags(remediation or self.remediation, role)

    @property
    def judges_proxies(self) -> bool:
        """Whether etcd's grpc-proxy is judged as etcd is."""
        return self.family in _ALSO_ON_PROXIES and self.id not in _OF_ETCD_ALONE

    @property
    def is_ours(self) -> bool:
        """Whether this package defines it. Another check may do anything, and take as long as it likes."""
        return self.function.__module__.startswith("pytest_etcdtls.")

    def sources(self, role: Role | None) -> tuple[str, ...]:
        """Return the references with the flags of that role's port."""
        return tuple(_with_flags(reference, role) for reference in self.references)


def _with_flags(text: str, role: Role | None) -> str:
    is_peer = role is Role.PEER
    side = "peer" if is_peer else "client"
    return text.format(peer="peer-" if is_peer else "", side=side, role=role or side)


_CHECKS: dict[str, Check] = {}
_in_order: Mapping[str, Check] = {}
"""The same, sorted by id; built again when a check is added."""


def check(
    id_: str,
    *,
    on: frozenset[Role] | set[Role],
    counterexample: Counterexample,
    conforming: Counterexample | None = None,
    opt_in: bool = False,
    cure: Cure | None = None,
    words: Mapping[str, str] = {},
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a check.

    Args:
        id_: its permanent id, ``family.fact``, lower case with hyphens.
        on: roles of the listeners that it judges; empty for the whole target.
        counterexample: takes the observations of a conforming subject by the check's parameter names, and
            returns replacements with which the check must report a finding.
        conforming: takes the recorded observations by the check's parameter names, ``None`` for one that is
            not recorded, and returns replacements with which the check is silent; needed only for what the
            recorded etcds do not answer (:mod:`pytest_etcdtls.run.conforming`).
        opt_in: run the check only if it is selected by name.
        cure: what to change in a declaration (:mod:`pytest_etcdtls.run.remedies`).
        words: what replaces ``<name>`` in the docstring, for a function that is a check of each port.

    Raises:
        RegistrationError: if the id is taken, removed or a prefix of another, the function is not a
            generator, a parameter has no observation type, or the docstring lacks a field or has an unknown
            value.
    """

    def register(function: CheckFunction) -> CheckFunction:
        if removed := was_removed(id_):
            raise RegistrationError(f"{removed}; a removed id is not used again")
        for other, known in _CHECKS.items():
            again = known.function.__globals__ is not function.__globals__
            if other == id_ and again and place_of(known.function) == place_of(function):
                continue  # one file that is loaded twice, by --etcd-checks-file and by a test that imports it
            if other.startswith(id_) or id_.startswith(other):
                raise RegistrationError(f"check id {id_!r} is taken, or a prefix of {other!r} or the reverse")
        built = _build(id_, frozenset(on), function, counterexample, words)
        global _in_order
        _in_order = {}
        _CHECKS[id_] = replace(built, conforming=conforming, opt_in=opt_in, cure=cure)
        return function

    return register


def place_of(function: CheckFunction) -> tuple[str, int]:
    """Return file and line of a function."""
    code = function.__code__
    return code.co_filename, code.co_firstlineno


def family_of(id_: str) -> str:
    """Return the family of a check, which is the part of its id before the dot."""
    return id_.partition(".")[0]


def registered() -> Mapping[str, Check]:
    """Return the checks registered so far, by id, in order of id."""
    global _in_order
    if len(_in_order) != len(_CHECKS):
        _in_order = MappingProxyType(dict(sorted(_CHECKS.items())))
    return _in_order


def _build(
    id_: str,
    roles: frozenset[Role],
    function: CheckFunction,
    counterexample: Counterexample,
    words: Mapping[str, str],
) -> Check:
    where = f"check {id_!r} ({function.__module__}.{function.__qualname__})"
    if not _ID.fullmatch(id_):
        raise RegistrationError(f"{where}: an id has the form family.fact-in-lower-case")
    if not inspect.isgeneratorfunction(function):
        raise RegistrationError(f"{where} is not a generator: yield findings, do not return them")
    text = inspect.getdoc(function) or ""
    for name, word in words.items():
        text = text.replace(f"<{name}>", word)
    fields, requirement, prose = _parse_docstring(where, text)
    try:
        severity, level = Severity(fields["Severity"][0]), Level(fields["Level"][0].split()[0].strip(","))
    except ValueError as error:
        raise RegistrationError(f"{where}: {error}") from error
    must_on, lowers = _exceptions(where, fields["Level"][0], roles)
    needs, given = _needs(where, function)
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
        needs=needs,
        given=given,
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


def _needs(where: str, function: CheckFunction) -> tuple[dict[str, Need], dict[str, type[Any]]]:
    """Return the facts that a check reads, and which parameters are given, each by parameter."""
    hints = typing.get_type_hints(function, include_extras=True)
    needs: dict[str, Need] = {}
    given: dict[str, type[Any]] = {}
    for name in inspect.signature(function).parameters:
        hint = hints.get(name)
        if hint in (Listener, Target):
            given[name] = hint
            continue
        try:
            need = need_of(hint)
        except RegistrationError:
            need = None
        if need is None or need.reading not in _READINGS or callable(need.of):
            raise RegistrationError(f"{where}: parameter {name!r} is not annotated with a type of fact")
        needs[name] = need
    return needs, given


_READINGS = (Reading.NEEDED, Reading.OPTIONAL, Reading.EACH)
"""How a check may read facts. It reads ``Each`` before its first finding: a missing fact ends the check."""


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


ENTRY_POINT_GROUP = "pytest_etcdtls.checks"

SOURCES: Mapping[str, str] = {
    "cis": "CIS Kubernetes",
    "threat-model": "etcd THREAT_MODEL.md",
    "rfc": "RFC ",
    "etcd": "etcd ",
    "advisory": "GHSA-",
    "cve": "CVE-",
}
"""Values of ``--etcd-check`` that select by source, and how the ``Spec:`` line of that source begins."""


def catalogue() -> Mapping[str, Check]:
    """Return all checks by id, those that a user registers later too.

    Raises:
        RegistrationError: if a check, also a third party's, does not follow the contract.
    """
    import_checks()
    return registered()


@functools.cache
def import_checks() -> None:
    """Import every check module, and those of other distributions.

    Raises:
        RegistrationError: if a check does not follow the contract.
    """
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"pytest_etcdtls.checks.{module.name}")
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            entry.load()
        except RegistrationError:
            raise
        except Exception as error:
            raise RegistrationError(f"the checks of {entry.value!r} cannot be imported: {error!r}") from error


def load_checks(path: Path) -> None:
    """Register the checks of a Python file of the user's.

    Raises:
        UsageError: if it cannot be read or run, or has no check.
        RegistrationError: if a check does not follow the contract.
    """
    before = set(registered())
    try:
        source = read_regular(path, _FILE_SIZE)
    except UnreadableFileError as error:
        raise UsageError(f"{path} {error}") from error
    module = ModuleType(f"etcd_checks_of_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where typing looks for what the annotations of a check name
    try:
        exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102 - the user names it, as a conftest.py
    except RegistrationError as error:
        raise RegistrationError(f"{path}: {error}") from error
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None)
        raise UsageError(
            f"{path}, line {line or '?'}: it cannot be imported: {type(error).__name__}: {error}"
        ) from error
    new = [check for id_, check in registered().items() if id_ not in before]
    if not new:
        raise UsageError(
            f"{path} has no check: decorate a generator function with @pytest_etcdtls.check(...)"
        )
    import pytest_etcdtls.lifecycle.changes  # noqa: F401 - it registers the facts of experiments

    for check in new:
        for name, need in check.needs.items():
            try:
                fact_of(need.type).check_key(need.key)
            except RegistrationError as error:
                raise RegistrationError(f"{path}: check {check.id!r}, parameter {name!r}: {error}") from error


_FILE_SIZE = 1024 * 1024


def select(
    patterns: Sequence[str] = (), *, opt_in: bool = False, named_by: str = "--etcd-check"
) -> list[Check]:
    """Return the checks that the patterns select, in order of id; all checks if there is no pattern.

    Opt-in checks are included only if a pattern selects nothing else: their id, or a glob that matches only
    opt-in checks.

    Args:
        patterns: ids, globs, families or sources (``cis``, ``rfc5280``, ``advisory`` ...);
            ``!pattern`` excludes. If all patterns exclude, they exclude from all checks.
        opt_in: include opt-in checks if every pattern excludes, or there is none.
        named_by: the option, the mark or the function that has the patterns.

    Raises:
        UsageError: if a pattern matches nothing.
    """
    checks = catalogue().values()
    including = [pattern for pattern in patterns if not pattern.startswith("!")]
    wanted = {check.id for check in checks if not including and (opt_in or not check.opt_in)}
    for pattern in including:
        matched = _match(pattern, checks, named_by)
        wanted |= {check.id for check in matched if not check.opt_in} or {check.id for check in matched}
    for pattern in patterns:
        if pattern.startswith("!"):
            wanted -= {check.id for check in _match(pattern[1:], checks, named_by)}
    return [check for check in checks if check.id in wanted]


def _match(pattern: str, checks: Iterable[Check], named_by: str) -> list[Check]:
    matched = [check for check in checks if check.family == pattern or fnmatchcase(check.id, pattern)]
    if not matched:
        matched = [
            check for check in checks if any(_is_from(pattern.lower(), line) for line in check.references)
        ]
    if removed := was_removed(pattern):
        raise UsageError(f"{named_by}: {removed}")
    if not matched:
        meant = _meant(pattern, {name for check in checks for name in (check.id, check.family)})
        raise UsageError(
            f"{named_by} {pattern!r} matches no check: use an id, a glob, a family or a source "
            f"({', '.join(SOURCES)}, rfc5280 ...); --etcd-list-checks shows them all{meant}"
        )
    return matched


def _meant(id_: str, known: Iterable[str]) -> str:
    """Return a question which check is meant: one of the family if there is such a family."""
    family, _, fact = id_.partition(".")
    near = [name for name in known if name.startswith(f"{family}.") or name.endswith(f".{fact}")]
    return did_you_mean(id_, near or known)


def _is_from(source: str, reference: str) -> bool:
    if numbered := re.fullmatch(r"rfc-?(\d+)", source):
        return reference.startswith(f"RFC {numbered[1]} ")
    return source in SOURCES and reference.startswith(SOURCES[source])


def requirement(result: CheckResult) -> str:
    """Return the requirement of the result's check; empty for a check that is not in the catalogue."""
    check = catalogue().get(result.check)
    return check.requirement if check else ""


def why(result: CheckResult) -> str:
    """Return why the requirement matters; empty for a check that is not in the catalogue."""
    check = catalogue().get(result.check)
    return " ".join(check.explanation.split()) if check else ""


REMOVED: Final = {
    "config.next-version": "start that version with the declaration: --etcd-config=FILE --etcd-binary=NEW",
    "mtls.log-tells-the-same": "--etcd-log lists the other clients that etcd rejects, with the reasons",
}
"""Ids of checks that were removed, which are never used again, and what to do instead."""


def was_removed(id_: str) -> str:
    """Return that a check was removed and what to do instead; empty if it was not."""
    return f"{id_} was removed: {REMOVED[id_]}" if id_ in REMOVED else ""


def no_check(pattern: str) -> str:
    """Return that a pattern matches no check, why or what may be meant, for the end of a message."""
    meant = _meant(pattern, catalogue())
    return was_removed(pattern) or f"{pattern!r} matches no check; --etcd-list-checks shows them all{meant}"


FOUND = (Outcome.VIOLATES, Outcome.WARNS)
"""Outcomes with findings that no waiver accepts."""

Lookup = Callable[[str, str], CheckResult | None]
"""Returns the result of a check (id, label of the listener) of one target, ``None`` if it was not run."""


def ancestors(check: Check, checks: Mapping[str, Check]) -> list[str]:
    """Return the ids of the known checks that ``Follows:`` of a check names, in its order."""
    ids: dict[str, None] = {}
    for pattern in check.follows:
        ids |= dict.fromkeys([pattern] if pattern in checks else fnmatch.filter(checks, pattern))
    ids.pop(check.id, None)
    return list(ids)


def causes_of(result: CheckResult, listeners: Sequence[Listener], lookup: Lookup) -> Iterator[CheckResult]:
    """Yield the violations from which a violation may follow directly: it follows from the first one.

    A violation follows from an ancestor's on the same listener, and from one on the whole target that
    concerns the listener, or one of those that it concerns if it is on the whole target itself. Such a
    violation may also follow from an ancestor's on any listener. A violation that fails the run follows only
    from one that fails it, too.

    Args:
        result: a violation.
        listeners: all listeners of the target.
        lookup: the results of the target.
    """
    checks = catalogue()
    whole = result.listener == CLUSTER
    concerned = [
        one
        for one in listeners
        if (whole and _concerns(result, one)) or (not whole and one.label == result.listener)
    ]
    places = (*(one.label for one in listeners), CLUSTER) if whole else (result.listener, CLUSTER)
    for id_ in ancestors(checks[result.check], checks) if result.check in checks else ():
        for place in places:
            ancestor = lookup(id_, place)
            if ancestor is not None and _explains(ancestor, result, concerned):
                yield ancestor


def _explains(ancestor: CheckResult, result: CheckResult, concerned: Sequence[Listener]) -> bool:
    """Whether an ancestor's result is a violation that can be the cause."""
    if ancestor.outcome not in FOUND or (ancestor.outcome, result.outcome) == (
        Outcome.WARNS,
        Outcome.VIOLATES,
    ):
        return False
    if ancestor.listener != CLUSTER or not concerned:
        return True
    return any(_concerns(ancestor, one) for one in concerned)


def _concerns(result: CheckResult, listener: Listener) -> bool:
    """Return whether a finding about the target concerns a listener, by its names."""
    own = (listener.role, f"{listener.role}-{listener.member}", listener.label)
    return any(
        not finding.concerns
        or any(name in own or listener.label.startswith(f"{name}-") for name in finding.concerns)
        for finding in result.findings
    )
