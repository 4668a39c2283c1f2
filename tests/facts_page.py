"""The tables of ``docs/facts.md``: what a check can read, by subject, and which facts connect."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from itertools import groupby

from checks_page import cell

import pytest_etcdtls.facts
from pytest_etcdtls.facts.fact import Fact, facts


def facts_tables() -> str:
    """Return a table for each module of facts."""
    importlib.import_module("pytest_etcdtls.lifecycle.changes")
    named = [fact for fact in facts().values() if fact.type.__name__ in vars(pytest_etcdtls.facts)]
    ours = sorted(named, key=lambda fact: (fact.module, fact.type.__name__))
    return "\n".join(_tables(ours))


def _tables(every: list[Fact]) -> Iterator[str]:
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
