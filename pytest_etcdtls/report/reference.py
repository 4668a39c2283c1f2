"""The catalogue of checks as Markdown pages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from pytest_etcdtls.registry import Check, Need
from pytest_etcdtls.results import Level
from pytest_etcdtls.role import Role

_CODE = re.compile(r"(--[a-z\[(][\w\[\]()|.=-]*[\w\])]|(?<![\w/])/[a-z][\w/]*[a-z](?![\w/]))")
"""Matches a flag with its value, or an HTTP path."""

_SPECIAL = re.compile(r"([\\`*<\[\]]|(?<!\w)_|_(?!\w))")

_RFC = re.compile(r"RFC (\d+)(?: (section|sections|appendix) ([\w.]+))?")
_ADVISORY = re.compile(r"GHSA(?:-[a-z0-9]{4}){3}")
_CVE = re.compile(r"CVE-\d{4}-\d+")


def as_text(text: str) -> str:
    """Return text as Markdown, with flags and paths as code and all other characters escaped."""
    parts = _CODE.split(text)
    return "".join(
        f"`{part}`" if number % 2 else _SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts)
    )


def cell(text: str) -> str:
    """Return text as Markdown for a table cell, with ``|`` escaped, also in code."""
    return as_text(text).replace("|", r"\|")


def linked(reference: str) -> str:
    """Return a reference as a link if it is an RFC, an advisory or a CVE, else as text."""
    address = _address(reference)
    return f"[{reference}]({address})" if address else as_text(reference)


def _address(reference: str) -> str:
    if match := _RFC.match(reference):
        number, kind, place = match.groups()
        fragment = f"#{'appendix' if kind == 'appendix' else 'section'}-{place.rstrip('.,')}" if place else ""
        return f"https://www.rfc-editor.org/rfc/rfc{number}{fragment}"
    if match := _ADVISORY.match(reference):
        return f"https://github.com/advisories/{match[0]}"
    if match := _CVE.match(reference):
        return f"https://www.cve.org/CVERecord?id={match[0]}"
    return ""


def anchor(heading: str) -> str:
    """Return the fragment that GitHub generates for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


SUBJECTS: Mapping[str, str] = {
    "advisory": "published advisories that touch TLS: proved on the wire, or inferred from the version",
    "api": "what answers, and to whom",
    "cert": "the served chain: trust, names, validity, usage, keys and signatures",
    "cluster": "every member alike, and reachable under what it advertises",
    "config": "what the cluster was told to be against what it is",
    "lifecycle": "what happens when files and flags change; on clusters of our own only",
    "listener": "the two gates before all other checks of a listener",
    "log": "what etcd's own log says",
    "mtls": "who is let in and who is not",
    "tls": "versions, suites, groups and what else a handshake agrees on",
}
"""Subject of each check family."""

_MANY = 6
"""Maximum number of proofs that are named for one check."""


def catalogue_page(checks: Iterable[Check], proofs: Mapping[str, Sequence[str]]) -> str:
    """Return the page.

    Args:
        checks: the checks in order of id.
        proofs: the faults that each check was seen to find, by check id, in Markdown.
    """
    families = {name: list(members) for name, members in groupby(checks, key=lambda check: check.family)}
    lines = ["# The checks", "", *_totals(families), ""]
    lines += ["| family | checks | subject |", "|---|---|---|"]
    lines += [
        f"| [{name}](#{name}) | {len(members)} | {SUBJECTS.get(name, '')} |"
        for name, members in families.items()
    ]
    for name, members in families.items():
        lines += ["", *_family(name, members, proofs)]
    return "\n".join([*lines, ""])


def _totals(families: Mapping[str, Sequence[Check]]) -> Iterator[str]:
    checks = [check for members in families.values() for check in members]
    must = sum(check.level is Level.MUST for check in checks)
    partly = sum(check.level_text != check.level for check in checks)
    opt_in = sum(check.opt_in for check in checks)
    yield f"{len(checks)} checks in {len(families)} families: {must} MUST ({partly} of them SHOULD on some"
    yield f"listeners or for some findings), {len(checks) - must} SHOULD;"
    yield f"only when asked for: {opt_in}. `pytest --etcd-list-checks` prints them,"
    yield "`pytest --etcd-explain ID` one in full, and `--etcd-check` selects. Written by `make docs`."


def _family(name: str, checks: Sequence[Check], proofs: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield "| check | level | severity | requirement |"
    yield "|---|---|---|---|"
    for check in checks:
        link = f"[`{check.id}`](#{anchor(check.id)})"
        yield f"| {link} | {check.level_text} | {check.severity} | {cell(check.requirement)} |"
    for check in checks:
        yield ""
        yield from _check(check, proofs.get(check.id, ()))


def _check(check: Check, proofs: Sequence[str]) -> Iterator[str]:
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
    yield f"- needs: {'; '.join(dict.fromkeys(_need(need) for need in check.needs.values()))}"
    if check.opt_in:
        yield f"- runs only when asked for: `--etcd-check={check.id}`"
    if proofs:
        yield f"- proved on: {_some(proofs)}"


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


def _need(need: Need) -> str:
    what = (inspect.getdoc(need.type) or "").partition("\n")[0].rstrip(".")
    key = f" of `{need.key}`" if need.key else ""
    return f"`{need.type.__name__}`{key} ({as_text(what[:1].lower() + what[1:])})"


def _some(proofs: Sequence[str]) -> str:
    shown = ", ".join(proofs[:_MANY])
    return f"{shown} and {len(proofs) - _MANY} more" if len(proofs) > _MANY else shown
