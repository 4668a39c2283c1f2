"""The tables of ``docs/options.md``: every option with its meaning, ini option, default and variable.

The texts are those of ``--help``; defaults and variables are taken from "(default ...)" and "else NAME"
there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_etcdtls.options import SECTIONS, Kind, Option

_DEFAULT = re.compile(r"([\w-]+) \(default\)|\(default:? ([^)]+)\)")
_VARIABLE = re.compile(r"\belse ((?:ETCDCTL|ETCDTLS)_\w+)")


def options_tables() -> str:
    """Return a table for each section of options."""
    return "\n".join(line for title in SECTIONS for line in _section(title))


def _section(title: str) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    yield "| option, ini option | meaning | default | environment |"
    yield "|---|---|---|---|"
    for option in SECTIONS[title]:
        yield f"| {' | '.join(_row(option))} |"


def _row(option: Option) -> Iterator[str]:
    value = f"={option.metavar}" if option.metavar else ""
    yield f"`{option.flag}{value}`<br>" + (f"`{option.name}`" if option.ini else "no ini option")
    yield _escaped(option.help)
    yield _default(option)
    yield ", ".join(f"`{name}`" for name in _VARIABLE.findall(option.help)) or "none"


def _default(option: Option) -> str:
    if option.kind is Kind.FLAG:
        return "off"
    found = _DEFAULT.search(option.help)
    return _escaped(found[1] or found[2]) if found else "none"


def _escaped(text: str) -> str:
    """Return the text of ``--help`` as a cell: options and variables as code."""
    text = text.replace("%%", "%").replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"(?<![\w`])(--[a-z][\w-]*|ETCD\w+_\w+|\[\[waiver\]\])", r"`\1`", text)
