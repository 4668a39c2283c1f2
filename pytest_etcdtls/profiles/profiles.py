"""Profiles: levels and thresholds of published guidelines, each with the section that says so.

A profile is a TOML file. Those of the package are in ``guidelines``; a user's own file has the same format. A
profile moves the level of a check and tightens what the check allows; it never loosens it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from pytest_etcdtls.checks.registry import Check, catalogue, no_check
from pytest_etcdtls.checks.results import CheckResult, Level, Outcome
from pytest_etcdtls.errors import UsageError, did_you_mean
from pytest_etcdtls.pki.thresholds import (
    LIFETIME_OF_THE_CHECKS,
    NO_THRESHOLDS,
    RSA_BITS_OF_THE_CHECKS,
    Thresholds,
)
from pytest_etcdtls.profiles.toml_files import Text, parse_toml, read_toml, typed
from pytest_etcdtls.role import CLUSTER, Role, TLSVersion
from pytest_etcdtls.tls.suites import GROUPS, SUITES, TLS13_NAMES
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, printable, some
from pytest_etcdtls.untrusted.regular_files import is_there

KUBEADM: Final = "kubeadm"
"""The profile that is used if a declaration is kubeadm's and no profile is named."""

CIS_KUBERNETES: Final = "cis-kubernetes"
"""The profile with which reports compare the items of the benchmark with the wire."""

NONE: Final = "none"
"""A name that selects no profile, not even kubeadm's."""

NOT_JUDGED: Final = "not-judged"
"""The outcome of a section that no check of this tool judges."""

_SUFFIX = ".toml"


class Strength(StrEnum):
    """The level that a profile gives a check, strictest first."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    NOTE = "NOTE"
    """What it finds is a remark on the result and changes no outcome; only for checks of level SHOULD."""


_STRICTEST_FIRST = list(Strength)


class _SectionTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section as a file has it."""

    section: Text
    title: Text
    says: str = ""
    level: Strength | None = None
    on: tuple[Role, ...] = ()
    checks: tuple[str, ...] = ()
    thresholds: Mapping[str, Any] = {}
    not_judged: str = ""


class Section(_SectionTable, frozen=True, kw_only=True):
    """One section of a guideline.

    Attributes:
        section: its number or name, as the guideline has it.
        title: its title, or what it is about.
        says: what it requires, paraphrased.
        level: the level of its checks; ``None`` for each check's own.
        checks: the ids of the checks that judge it.
        on: the roles of the listeners that it is about; empty for all of them and for the whole target.
        thresholds: what those checks allow.
        not_judged: what of the section no check judges, and why; empty if it is judged in full.
    """

    thresholds: Thresholds = NO_THRESHOLDS  # type: ignore[assignment] # of the mapping in the file

    def concerns(self, check: str, role: str | None) -> bool:
        """Return whether it is about that check on a listener of that role, ``None`` for any."""
        return check in self.checks and (role is None or not self.on or role in self.on)


class Guideline(Struct, frozen=True, kw_only=True):
    """One profile.

    Attributes:
        name: as on the command line; a file's name without its suffix.
        title: the guideline, with its version.
        note: what the profile leaves open.
    """

    name: str
    title: str
    sections: tuple[Section, ...]
    note: str = ""


class Profiles(Struct, frozen=True, dict=True):
    """The profiles of a run. Of several the strictest level and threshold counts.

    Attributes:
        applied: why they are applied, if the user did not name them; else empty.
    """

    profiles: tuple[Guideline, ...] = ()
    applied: str = ""

    def level(self, check: Check, role: Role | None) -> Strength | None:
        """Return the level that the profiles give a check on a role; ``None`` if they leave it as it is.

        A section that names the check and no level means the check's own.
        """
        named = role or CLUSTER
        given = [section.level for _, section in self._sections() if section.concerns(check.id, named)]
        if not any(given):
            return None
        own = Strength(check.level_on(role))
        return min((level or own for level in given), key=_STRICTEST_FIRST.index)

    @cached_property
    def thresholds(self) -> Mapping[str, Thresholds]:
        """What the profiles allow, by the id of the check that measures it.

        Raises:
            UsageError: if two profiles allow nothing in common.
        """
        by_check: dict[str, Thresholds] = {}
        for profile in self.profiles:
            for id_, added in _thresholds_of(profile).items():
                by_check[id_] = _joined(by_check.get(id_, NO_THRESHOLDS), added)
        return MappingProxyType(by_check)

    @property
    def expiry_days(self) -> int:
        """The most days before an expiry that a profile requires a warning; 0 if none does."""
        return max((threshold.expiry_days or 0 for threshold in self.thresholds.values()), default=0)

    def references(self, check: str, role: str | None = None) -> tuple[str, ...]:
        """Return the sections that name a check on a role (default: on any), with the name of the profile."""
        return tuple(
            f"profile {profile.name}, {section.section}"
            for profile, section in self._sections()
            if section.concerns(check, role)
        )

    def _sections(self) -> Iterator[tuple[Guideline, Section]]:
        return ((profile, section) for profile in self.profiles for section in profile.sections)


_PACKAGE: Final = "pytest_etcdtls.profiles"
NO_PROFILES: Final = Profiles()


def _joined(own: Thresholds, other: Thresholds, *, lists_add_up: bool = False) -> Thresholds:
    """Return the stricter of both, threshold by threshold.

    Args:
        own: the thresholds so far.
        other: those of another section or profile.
        lists_add_up: lists are joined, so that an entry of either is allowed.

    Raises:
        UsageError: if two lists have nothing in common.
    """
    given, added = own.given(), other.given()
    changes: dict[str, Any] = {}
    sources = dict(own.sources)
    for name, value in added.items():
        stricter = THRESHOLDS[name].stricter
        if lists_add_up and isinstance(value, frozenset):
            stricter = frozenset.__or__
        changes[name] = stricter(given[name], value) if name in given else value
        if changes[name] == frozenset():
            both = f"{own.sources.get(name)} and {other.sources.get(name)}"
            raise UsageError(
                f"--etcd-profile: {both} have no entry of {name} in common: name one of them, and judge "
                "the other in a run of its own"
            )
        if name not in given or (changes[name] == value != given[name]):
            sources[name] = other.sources.get(name, "")
        elif changes[name] != given[name] or lists_add_up:
            sources[name] = f"{sources.get(name)}, {other.sources.get(name)}"
    return replace(own, **changes, sources=MappingProxyType(sources))


def _thresholds_of(profile: Guideline) -> dict[str, Thresholds]:
    """Return what one profile allows, by check. Lists of its sections add up: each is about another thing."""
    by_check: dict[str, Thresholds] = {}
    for section in profile.sections:
        for id_ in section.checks:
            given = section.thresholds.given()
            taken = {name: value for name, value in given.items() if id_ in THRESHOLDS[name].checks}
            if taken:
                added = Thresholds(**taken, sources=section.thresholds.sources)
                by_check[id_] = _joined(by_check.get(id_, NO_THRESHOLDS), added, lists_add_up=True)
    return by_check


WORST_OF_SECTION = (
    *(Outcome.VIOLATES, Outcome.BROKEN, Outcome.INCONCLUSIVE, Outcome.WARNS, Outcome.WAIVED),
    *(Outcome.NOT_RUN, Outcome.NOT_VERIFIED, Outcome.CONFORMS, Outcome.NOT_APPLICABLE),
)
"""The order in which the outcomes of its checks decide a section: one that is not verified leaves it open."""


def outcome_of(section: Section, results: Iterable[CheckResult]) -> str:
    """Return the worst outcome of the checks of a section, on all listeners and targets.

    A section with a check that was not run is not verified, unless another check found something.
    """
    if not section.checks:
        return NOT_JUDGED
    judged = [result for result in results if section.concerns(result.check, result.role)]
    outcomes = {result.outcome for result in judged}
    if {*section.checks} - {result.check for result in judged}:
        outcomes.add(Outcome.NOT_RUN)
    worst = next(outcome for outcome in WORST_OF_SECTION if outcome in outcomes)
    return str(Outcome.NOT_VERIFIED if worst is Outcome.NOT_RUN else worst)


FAILED: Final = frozenset({Outcome.VIOLATES, Outcome.BROKEN, Outcome.INCONCLUSIVE})
"""Outcomes of a section that fail the run."""


def summary_of(profile: Guideline, results: Sequence[CheckResult]) -> str:
    """Return in one line which sections of a profile passed, failed, and were not verified."""
    outcomes = {section.section: outcome_of(section, results) for section in profile.sections}

    def count(word: str, *chosen: str, named: bool = True) -> str:
        names = [name for name, outcome in outcomes.items() if outcome in chosen]
        return f"{len(names)} {word}" + (f" ({', '.join(names)})" if named else "") if names else ""

    parts = [
        count("failed", *FAILED),
        count("with warnings", Outcome.WARNS),
        count("waived", Outcome.WAIVED),
        count("not verified", Outcome.NOT_VERIFIED),
        count("not applicable", Outcome.NOT_APPLICABLE, named=False),
        count("not judged by this tool", NOT_JUDGED, named=False),
    ]
    passed = sum(outcome == Outcome.CONFORMS for outcome in outcomes.values())
    counts = ", ".join([f"{passed} of {len(outcomes)} sections passed", *filter(None, parts)])
    return f"profile {profile.name}: {counts}"


class Threshold(Struct, frozen=True):
    """A threshold that a section may set.

    Attributes:
        checks: those that measure it.
        stricter: returns the stricter of two values.
        allowed: what a list may contain; empty for a number.
        numbers: the least and the greatest number, and why.
    """

    checks: Set[str]
    stricter: Callable[[Any, Any], Any] = frozenset.__and__
    allowed: Set[str] = frozenset()
    numbers: tuple[int, int, str] = (0, 0, "")


_KEY_STRENGTH: Final = {
    *("cert.key-strength", "cert.issuer-key-strength"),
    *("mtls.client-certificate-strength", "mtls.client-ca-strength"),
}
_EXPIRY: Final = {
    *("cert.expires-soon", "cert.ca-expires-soon", "config.credentials-expire-soon"),
    *("mtls.client-certificate-expires", "mtls.client-ca-expires"),
}
_SIGNATURES: Final = {"cert.signature-hash", "mtls.client-certificate-signature"}
_GROUPS: Final = {group.name for group in GROUPS.values()}
_BITS: Final = (RSA_BITS_OF_THE_CHECKS, 8192, "what Go accepts, and the checks without a profile")
_DAYS: Final = (1, LIFETIME_OF_THE_CHECKS, "a profile only shortens what cert.lifetime accepts")


def _all_of(first: tuple[object, ...], second: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(dict.fromkeys((*first, *second)))


THRESHOLDS: Final[Mapping[str, Threshold]] = {
    "tls_versions": Threshold({"tls.version-floor"}, allowed={*map(str, TLSVersion)}),
    "cipher_suites": Threshold({"tls.allowed-suites"}, allowed={suite.name for suite in SUITES}),
    "tls13_cipher_suites": Threshold({"tls.allowed-tls13-suites"}, allowed={*TLS13_NAMES.values()}),
    "groups": Threshold({"tls.groups"}, allowed=_GROUPS),
    "groups_one_of": Threshold({"tls.groups"}, _all_of, _GROUPS),
    "keys": Threshold(_KEY_STRENGTH, allowed={"RSA", "Ed25519", "secp256r1", "secp384r1", "secp521r1"}),
    "rsa_bits": Threshold(_KEY_STRENGTH, max, numbers=_BITS),
    "signature_hashes": Threshold(_SIGNATURES, allowed={"sha256", "sha384", "sha512"}),
    "lifetime_days": Threshold({"cert.lifetime"}, min, numbers=_DAYS),
    "expiry_days": Threshold(_EXPIRY, max, numbers=(0, 3650, "days before a certificate ends")),
}


def builtin() -> tuple[str, ...]:
    """Return the names of the profiles of the package, in order."""
    names = (entry.name for entry in files(_PACKAGE).joinpath("guidelines").iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def read_profiles(names: Sequence[str], resolve: Callable[[str], Path]) -> Profiles:
    """Return the profiles of these names and files, each once.

    Args:
        names: the values of ``--etcd-profile``.
        resolve: makes a path of the name of a file.

    Raises:
        UsageError: if there is no such profile, a file cannot be used, or two profiles contradict each other.
    """
    if NONE in names and len(names) > 1:
        raise UsageError(f"--etcd-profile {NONE} goes with no other profile: omit it, or the others")
    wanted = [name for name in dict.fromkeys(names) if name != NONE]
    profiles = Profiles(tuple(_read(name, resolve) for name in wanted))
    used = [profile.name for profile in profiles.profiles]
    if len(set(used)) < len(used):
        raise UsageError(
            f"--etcd-profile: two profiles have the same name, of {', '.join(used)}: rename a file"
        )
    _ = profiles.thresholds  # contradictions are found here, before any connection
    return profiles


def _read(name: str, resolve: Callable[[str], Path]) -> Guideline:
    where = f"--etcd-profile {name}"
    if name in builtin():
        text = files(_PACKAGE).joinpath("guidelines", name + _SUFFIX).read_text(encoding="utf-8")
        return _profile(where, name, parse_toml(text, where))
    path = resolve(name)
    if not name.endswith(_SUFFIX) and not is_there(path):
        raise UsageError(
            f"{where}: there is no such profile and no such file; there are {', '.join(builtin())}"
            f"{did_you_mean(name, builtin())}"
        )
    return _profile(where, _shown(path.name.removesuffix(_SUFFIX)), read_toml(path, where))


class _ProfileFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: Text
    note: str = ""
    section: Annotated[tuple[_SectionTable, ...], Meta(min_length=1)]


def _profile(where: str, name: str, content: Mapping[str, Any]) -> Guideline:
    file = typed(content, _ProfileFile, where)
    known = [table.section for table in file.section]
    for section in known:
        if known.count(section) > 1:
            raise UsageError(f"{where}: section {section!r} is there twice: put its checks in one table")
    return Guideline(
        name=name,
        title=_shown(file.title),
        note=_shown(file.note),
        sections=tuple(
            _section(f"{where}: section[{number}] ({_shown(table.section)})", name, table)
            for number, table in enumerate(file.section)
        ),
    )


def _section(where: str, profile: str, table: _SectionTable) -> Section:
    checks = _checks(where, table.checks)
    for id_ in checks if table.level is Strength.NOTE else ():
        if catalogue()[id_].level is Level.MUST:
            raise UsageError(
                f"{where}: key level: {id_} is a MUST, and a profile can lower it to SHOULD and not to NOTE; "
                "accept a finding of it by --etcd-waivers, where it has a reason and ends on a day"
            )
    if not checks and not table.not_judged:
        raise UsageError(
            f"{where}: name checks that judge it, or say with not_judged why none does, so that nobody takes "
            "the profile for complete"
        )
    texts = {name: _shown(getattr(table, name)) for name in ("section", "title", "says", "not_judged")}
    thresholds = _thresholds(where, f"{profile} {texts['section']}", table.thresholds, checks)
    return Section(**asdict(table) | texts | {"checks": checks, "thresholds": thresholds})


def _shown(text: str) -> str:
    return printable(" ".join(text.split()), LINE_LIMIT)


def _checks(where: str, patterns: Sequence[str]) -> tuple[str, ...]:
    ids: dict[str, None] = {}
    for pattern in patterns:
        matched = [id_ for id_ in catalogue() if fnmatchcase(id_, pattern)]
        if not matched:
            raise UsageError(f"{where}: key checks: {no_check(pattern)}")
        ids |= dict.fromkeys(matched)
    return tuple(ids)


def _thresholds(where: str, source: str, given: Mapping[str, Any], checks: Sequence[str]) -> Thresholds:
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in THRESHOLDS:
            raise UsageError(
                f"{where}: key thresholds: unknown key {name!r}; there are {', '.join(THRESHOLDS)}"
                f"{did_you_mean(name, THRESHOLDS)}"
            )
        place, threshold = f"{where}: key thresholds.{name}", THRESHOLDS[name]
        if not threshold.checks & {*checks}:
            takers = ", ".join(sorted(threshold.checks))
            raise UsageError(f"{place}: the section must name a check that measures it: {takers}")
        read = _list if threshold.allowed else _number
        values[name] = read(place, threshold, value)
    if "groups_one_of" in values:
        values["groups_one_of"] = (values["groups_one_of"],)
    return Thresholds(**values, sources=MappingProxyType(dict.fromkeys(values, source)))


def _number(where: str, threshold: Threshold, value: object) -> int:
    least, most, why = threshold.numbers
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{where}: a whole number from {least} to {most} is expected ({why})")
    return value


def _list(where: str, threshold: Threshold, value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f'{where}: a list of texts is expected, such as ["one", "two"]')
    for text in value:
        if text not in threshold.allowed:
            known = sorted(threshold.allowed)
            meant = did_you_mean(text, known)
            raise UsageError(f"{where}: {text!r} is not known here; there are {some(known, 12)}{meant}")
    if not value:
        raise UsageError(f"{where}: the list is empty, and something must be allowed")
    return frozenset(value)


def threshold_text(value: object) -> str:
    """Return the value of a threshold in words."""
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    if isinstance(value, tuple):
        return " and ".join(f"one of {threshold_text(item)}" for item in value)
    return str(value)
