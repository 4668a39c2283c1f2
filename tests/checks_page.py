"""The catalogue of checks as a page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from pytest_etcdtls.checks.registry import Check
from pytest_etcdtls.report.html import SUBJECTS, address
from pytest_etcdtls.role import Role

_CODE = re.compile(
    r"(`[^`]+`"
    r"|--(?:[\w-]|\[[\w-]+\]|\([\w|]+\))*\w(?:=(?:https://)?(?:\.\.\.|[\w|-]+(?:[.=][\w|-]+)*))?"
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
    if roles == {Role.PEER}:
        return text.format(peer="peer-", side="peer")
    if Role.PEER not in roles:
        return text.format(peer="", side="client")
    return text.format(peer="[peer-]", side="(client|peer)")
