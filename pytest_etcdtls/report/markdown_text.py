"""Plain text as Markdown: flags as code, references as links, nothing else interpreted. Pure."""

from __future__ import annotations

import re

_CODE = re.compile(r"(--[a-z\[(][\w\[\]()|.=-]*[\w\])]|(?<![\w/])/[a-z][\w/]*[a-z](?![\w/]))")
"""A flag with its value, or a path of HTTP."""

_SPECIAL = re.compile(r"([\\`*<\[\]]|(?<!\w)_|_(?!\w))")

_RFC = re.compile(r"RFC (\d+)(?: (section|sections|appendix) ([\w.]+))?")
_ADVISORY = re.compile(r"GHSA(?:-[a-z0-9]{4}){3}")
_CVE = re.compile(r"CVE-\d{4}-\d+")


def as_text(text: str) -> str:
    """Return text in which flags and paths are code and every other character means itself."""
    parts = _CODE.split(text)
    return "".join(
        f"`{part}`" if number % 2 else _SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts)
    )


def cell(text: str) -> str:
    """Return the same for a cell of a table, where a bar would end it, in code too."""
    return as_text(text).replace("|", r"\|")


def linked(reference: str) -> str:
    """Return a reference as a link where it is an RFC, an advisory or a CVE, else as text."""
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
    """Return the fragment under which GitHub links a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
