"""What pytest is told: the table of options, their values, and what a command line asks for.

Knows pytest and nothing of etcd. This package's own module is imported at every start of pytest, so
it imports nothing but the table.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest

from pytest_etcdtls.options.table import GROUP, OPTIONS, Kind, Option

_ACTIONS = {Kind.TEXT: "store", Kind.LIST: "append", Kind.FLAG: "store_const"}
_INI_TYPES: dict[Kind, Literal["string", "linelist", "bool"]] = {
    Kind.TEXT: "string",
    Kind.LIST: "linelist",
    Kind.FLAG: "bool",
}


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini twin."""
    group = parser.getgroup("etcdtls", GROUP)
    for option in OPTIONS:
        group.addoption(option.flag, help=option.help, **_arguments(option))
        if option.ini:
            parser.addini(option.name, _ini_help(option), type=_INI_TYPES[option.kind], default=None)


def _arguments(option: Option) -> dict[str, Any]:
    arguments: dict[str, Any] = {"action": _ACTIONS[option.kind], "dest": option.dest, "default": None}
    if option.kind is Kind.FLAG:
        arguments["const"] = option.const
    else:
        arguments["metavar"] = option.metavar
    return arguments


def _ini_help(option: Option) -> str:
    return f"{GROUP}: as {option.flag}"
