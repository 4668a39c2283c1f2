"""The pages and tables of ``docs`` that are generated, and writing them: ``python tests/pages.py``.

The texts about options are those of ``--help``; defaults and variables are taken from "(default ...)" and
"else NAME" there.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from hostile.requests_sent import requests_table

import pytest_etcdtls.facts
from pytest_etcdtls.checks.registry import Check, catalogue
from pytest_etcdtls.etcd.presets import PRESETS
from pytest_etcdtls.facts.fact import Fact, facts
from pytest_etcdtls.options import SECTIONS, Kind, Option
from pytest_etcdtls.profiles.profiles import (
    THRESHOLDS,
    Guideline,
    Section,
    builtin,
    read_profiles,
    threshold_text,
)
from pytest_etcdtls.report.document import SCHEMA_VERSION, schema
from pytest_etcdtls.report.html import SUBJECTS, address
from pytest_etcdtls.role import Role

ROOT = Path(__file__).parents[1]

_CODE = re.compile(
    r"(`[^`]+`"
    r"|--(?:[\w-]|\[[\w-]+\]|\([\w|-]+\))*\w(?:=(?:https://)?(?:\.\.\.|[\w|-]+(?:[.=][\w|-]+)*))?"
    r"|(?<![\w/])/[a-z][\w/]*[a-z](?![\w/]))"
)
"""Matches what is code already, a flag with its value, or an HTTP path."""

_SPECIAL = re.compile(r"([\\`*<\[\]]|(?<!\w)_|_(?!\w))")


def as_text(text: str) -> str:
    """Return text as Markdown, with flags and paths as code and all other characters escaped."""
    parts = _CODE.split(text)
    return "".join(
        f"`{part.strip('`')}`" if number % 2 else _SPECIAL.sub(r"\\\1", part)
        for number, part in enumerate(parts)
    )


def cell(text: str) -> str:
    """Return text as Markdown for a table cell, with ``|`` escaped, also in code."""
    return as_text(text).replace("|", r"\|")


def linked(reference: str) -> str:
    """Return a reference as a link if it is an RFC, an advisory or a CVE, else as text."""
    link = address(reference)
    return f"[{reference}]({link})" if link else as_text(reference)


def anchor(heading: str) -> str:
    """Return the fragment that GitHub generates for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def families_table(checks: Iterable[Check]) -> str:
    """Return the families with the number of their checks."""
    rows = (
        f"| [{family}](#{family}) | {len(members)} | {SUBJECTS.get(family, '')} |"
        for family, members in _families(checks).items()
    )
    return "\n".join(["| family | checks | subject |", "|---|--:|---|", *rows])


def checks_by_family(checks: Iterable[Check]) -> str:
    """Return each check in full."""
    lines = []
    for family, members in _families(checks).items():
        lines += ["", f"## {family}"]
        for check in members:
            lines += ["", *_check(check)]
    return "\n".join(lines)


def _families(checks: Iterable[Check]) -> dict[str, list[Check]]:
    ordered = sorted(checks, key=lambda check: check.id)
    return {name: list(members) for name, members in groupby(ordered, key=lambda check: check.family)}


def _check(check: Check) -> Iterator[str]:
    yield f"### `{check.id}`"
    yield ""
    yield f"**{as_text(check.requirement)}** {check.level_text}, {check.severity}; {_judges(check)}."
    for paragraph in check.explanation.split("\n\n"):
        if paragraph:
            yield ""
            yield as_text(" ".join(paragraph.split()))
    yield ""
    yield f"- remediation: {as_text(_with_flags(check.remediation, check.roles))}"
    yield f"- see: {'; '.join(linked(_with_flags(text, check.roles)) for text in check.references)}"
    if check.opt_in:
        yield f"- runs only when asked for: `--etcd-check={check.id}`"


def _judges(check: Check) -> str:
    roles = ", ".join(role for role in Role if role in check.roles)
    return f"on {roles}" if roles else "on the whole target"


def _with_flags(text: str, roles: frozenset[Role]) -> str:
    """Insert the flags of the port, in both spellings if the check judges both ports."""
    known = [role for role in Role if role in roles] or [Role.CLIENT]
    role = f"({'|'.join(known)})" if len(known) > 1 else known[0]
    if roles == {Role.PEER}:
        return text.format(peer="peer-", side="peer", role=role)
    if Role.PEER not in roles:
        return text.format(peer="", side="client", role=role)
    return text.format(peer="[peer-]", side="(client|peer)", role=role)


# Facts: what a check can read, by subject, and which facts connect.


def facts_tables() -> str:
    """Return a table for each module of facts."""
    importlib.import_module("pytest_etcdtls.lifecycle.changes")
    named = [fact for fact in facts().values() if fact.type.__name__ in vars(pytest_etcdtls.facts)]
    ours = sorted(named, key=lambda fact: (fact.module, fact.type.__name__))
    return "\n".join(_facts(ours))


def _facts(every: list[Fact]) -> Iterator[str]:
    for module, group in groupby(every, key=lambda fact: fact.module):
        yield from ("", f"## {module.rpartition('.')[2]}", "")
        yield "| fact | what it is | key | connects |"
        yield "|---|---|---|---|"
        for fact in group:
            key = "" if fact.keys == "none" else fact.keys
            yield f"| `{fact.type.__name__}` | {_about(fact)} | {key} | {'' if fact.is_computed else 'yes'} |"


def _about(fact: Fact) -> str:
    first = (inspect.getdoc(fact.type) or "").partition("\n\n")[0].replace("\n", " ")
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", first).replace("``", "`")
    return cell(text)


# Options.

_DEFAULT = re.compile(r"([\w-]+) \(default\)|\(default:? ([^)]+)\)")
_VARIABLE = re.compile(r"\belse ((?:ETCDCTL|ETCDTLS)_\w+)")


def options_tables() -> str:
    """Return a table for each section of options."""
    return "\n".join(line for title in SECTIONS for line in _options(title))


def _options(title: str) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    yield "| option, ini option | meaning | default | environment |"
    yield "|---|---|---|---|"
    for option in SECTIONS[title]:
        yield f"| {' | '.join(_row(option))} |"


def _row(option: Option) -> Iterator[str]:
    value = f"={option.metavar}" if option.metavar else ""
    yield f"`{option.flag}{value}`<br>" + (f"`{option.name}`" if option.ini else "no ini option")
    yield _of_help(option.help)
    yield _default(option)
    yield ", ".join(f"`{name}`" for name in _VARIABLE.findall(option.help)) or "none"


def _default(option: Option) -> str:
    if option.kind is Kind.FLAG:
        return "off"
    found = _DEFAULT.search(option.help)
    return _of_help(found[1] or found[2]) if found else "none"


def _of_help(text: str) -> str:
    """Return the text of ``--help`` as a cell: options and variables as code."""
    text = text.replace("%%", "%").replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"(?<![\w`])(--[a-z][\w-]*|ETCD\w+_\w+|\[\[waiver\]\])", r"`\1`", text)


def presets_table() -> str:
    """Return the table of presets."""
    rows = [f"| `{preset.name}` | {preset.what} |" for preset in PRESETS.values()]
    return "\n".join(["| preset | configuration |", "|---|---|", *rows])


# Profiles: thresholds, and the sections of each profile of the package.

_THRESHOLDS = {
    "tls_versions": "the only TLS versions that may be accepted: `TLSv1.2`, `TLSv1.3`",
    "cipher_suites": "the only suites that may be accepted in TLS 1.2, by their IANA names",
    "tls13_cipher_suites": "the only suites that TLS 1.3 may accept; up to 5 more connections per listener",
    "groups": "the only groups that may be accepted; hybrid groups are judged only if one of them is listed",
    "groups_one_of": "groups of which at least one must be accepted",
    "keys": "the only types of key: `RSA`, `secp256r1`, `secp384r1`, `secp521r1`, `Ed25519`",
    "rsa_bits": "the minimum size of an RSA key, at least 2048 bits",
    "signature_hashes": "the only hashes of certificate signatures: `sha256`, `sha384`, `sha512`",
    "lifetime_days": "the maximum validity of a served certificate, up to 825 days",
    "expiry_days": "the number of days before expiry from which a check warns",
}


def thresholds_table() -> str:
    """Return the table of what a profile can restrict."""
    rows = (
        f"| `{name}` | {text} | {', '.join(f'`{check}`' for check in sorted(THRESHOLDS[name].checks))} |"
        for name, text in _THRESHOLDS.items()
    )
    return "\n".join(["| threshold | meaning | measured by |", "|---|---|---|", *rows])


def profiles_tables() -> str:
    """Return a table for each profile of the package."""
    profiles = read_profiles(builtin(), Path).profiles
    return "\n".join(line for profile in profiles for line in _profile(profile))


def _profile(profile: Guideline) -> Iterator[str]:
    yield from ("", f"## {profile.name}", "", f"{as_text(profile.title)}.")
    if profile.note:
        yield from ("", as_text(profile.note))
    yield ""
    yield "| section | what it is about | level | checks | thresholds | not judged by this tool |"
    yield "|---|---|---|---|---|---|"
    for section in profile.sections:
        yield _section(section)


def _section(section: Section) -> str:
    about = f"**{cell(section.title)}** {cell(section.says)}".strip()
    if section.on:
        about += f" On {', '.join(sorted(section.on))}."
    level = str(section.level) if section.level else ("each check's own" if section.checks else "")
    checks = ", ".join(f"`{check}`" for check in section.checks)
    thresholds = "; ".join(
        f"`{name}` {cell(threshold_text(value))}" for name, value in section.thresholds.given().items()
    )
    return f"| {section.section} | {about} | {level} | {checks} | {thresholds} | {cell(section.not_judged)} |"


# Pages.


def generated(*, new_checks: bool = True) -> dict[str, str]:
    """Return the text of every generated page, by path below the root.

    Args:
        new_checks: include checks that ``docs/checks.md`` lacks; a release adds them.
    """
    named = re.findall(r"[a-z]+\.[a-z0-9-]+", (ROOT / "docs/checks.md").read_text(encoding="utf-8"))
    checks = [check for check in catalogue().values() if new_checks or check.id in named]
    return {
        "docs/checks.md": _filled(
            "docs/checks.md", families=families_table(checks), checks=checks_by_family(checks)
        ),
        "docs/facts.md": _filled("docs/facts.md", facts=facts_tables()),
        "docs/fixtures.md": _filled("docs/fixtures.md", presets=presets_table()),
        "docs/limits.md": _filled("docs/limits.md", requests=requests_table()),
        "docs/options.md": _filled("docs/options.md", options=options_tables()),
        "docs/profiles.md": _filled(
            "docs/profiles.md", thresholds=thresholds_table(), profiles=profiles_tables()
        ),
        f"pytest_etcdtls/report/schema-v{SCHEMA_VERSION}.json": json.dumps(schema(), indent=2) + "\n",
    }


def _filled(page: str, **tables: str) -> str:
    """Return a page written by hand with each table between its marks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, table in tables.items():
        before, _, rest = text.partition(f"<!-- generated: {name} -->\n")
        text = f"{before}<!-- generated: {name} -->\n{table}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return text


if __name__ == "__main__":
    for name, text in generated().items():
        (ROOT / name).write_text(text, encoding="utf-8")
