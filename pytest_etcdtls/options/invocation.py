"""What a command line asks for: the suite or not, on what, and which of its items.

Nobody judges production by accident: only endpoints and declarations that stand on the command line itself
count, or those of a file if ``--etcd-conformance`` stands there. Reads no file of etcd's.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pytest_etcdtls.options.table import LIVE
from pytest_etcdtls.options.values import Values

PACKAGE = __name__.partition(".")[0]
ROOT = "etcdtls"
"""First part of every node id of the suite."""

_ID = re.compile(rf"(\.\./)*{ROOT}(::.*)?")
_DISCOVER = "--etcd-discover"
_PKI_DIR = "--etcd-pki-dir"
_DRY = ("collectonly", "setuponly", "setupplan", "showfixtures", "show_fixtures_per_test", "cacheshow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What the command line asks for.

    Attributes:
        suite: the suite is run.
        asked: and it is the command line that says so, not a file.
        live: where the live endpoints come from; ``None`` if there are none or they do not count.
        ids: node ids of ours that were named, or their prefixes; empty for all.
        alone: nothing but the suite was named.
    """

    suite: bool
    asked: bool
    live: Literal["command line", "ini"] | None
    ids: tuple[str, ...]
    alone: bool


def take_arguments(config: pytest.Config) -> tuple[bool, tuple[str, ...]]:
    """Take what is ours out of ``config.args`` and return it.

    Returns:
        Whether the package was named (``--pyargs pytest_etcdtls``), and the node ids.
    """
    ours = [argument for argument in config.args if _is_id(argument, config)]
    package = [argument for argument in config.args if _is_package(argument, config)]
    config.args[:] = [argument for argument in config.args if argument not in (*ours, *package)]
    return bool(package), tuple(re.sub(r"^(\.\./)+", "", argument) for argument in ours)


def is_dry(config: pytest.Config) -> bool:
    """Return whether pytest was asked to run nothing."""
    return any(config.getoption(name, False) for name in _DRY)


_KEY = pytest.StashKey[Invocation]()


def invocation_of(config: pytest.Config) -> Invocation:
    """Return what the command line asks for, read once; takes our arguments out of ``config.args``.

    Raises:
        pytest.UsageError: if it contradicts itself, or names endpoints in the wrong place.
    """
    if _KEY not in config.stash:
        config.stash[_KEY] = _read(config)
    return config.stash[_KEY]


def _read(config: pytest.Config) -> Invocation:
    words = list(_words(config.invocation_params.args, config.invocation_params.dir))
    package, ids = take_arguments(config)
    conformance = config.getoption("etcd_conformance")
    if conformance is False and (package or ids):
        raise pytest.UsageError(
            f"{PACKAGE} or one of its node ids is named and --no-etcd-conformance rules the suite out: "
            "leave one of them away, or add --etcd-conformance behind it"
        )
    here = "--etcd-conformance" in words
    live = _live(config, words, here, conformance)
    if conformance is not False:
        _refuse_two_clusters(config, live)
    if live is None and _count(_PKI_DIR, words):
        raise pytest.UsageError(
            f"{_PKI_DIR} holds files and no address: add --etcd-config, or --etcd-endpoint of the cluster "
            "that they are of"
        )
    if live is None and _DISCOVER in words:
        raise pytest.UsageError(
            f"{_DISCOVER} asks a live cluster for its members, and no endpoint of one is given: pass "
            f"--etcd-endpoint, or leave {_DISCOVER} away: of an owned cluster every member is judged anyhow"
        )
    return Invocation(
        suite=conformance is True or (conformance is None and (package or bool(ids) or live is not None)),
        asked=here or package or bool(ids) or live == "command line",
        live=live,
        ids=ids,
        alone=(package or bool(ids)) and not config.args,
    )


def _live(
    config: pytest.Config, words: Sequence[str], here: bool, conformance: bool | None
) -> Literal["command line", "ini"] | None:
    given = [option for option in LIVE if config.getoption(option.dest) is not None]
    strangers = [
        option for option in given if len(config.getoption(option.dest)) > _count(option.flag, words)
    ]
    if strangers and not here:
        raise pytest.UsageError(_refusal(strangers[0].flag, "addopts, PYTEST_ADDOPTS or a plugin"))
    if given:
        return "command line"
    in_file = [option for option in LIVE if Values(config).texts(option.name)]
    if not in_file:
        return None
    if conformance is True and not here:
        raise pytest.UsageError(_refusal(in_file[0].name, "the ini file"))
    return "ini" if here else None


def _refuse_two_clusters(config: pytest.Config, live: str | None) -> None:
    """Refuse a cluster to be judged and another to be started, both on the command line.

    Those of a file are for the fixtures, whose clusters are always owned; so are all without the suite.
    """
    options = {"etcd_binary": "--etcd-binary", "etcd_image": "--etcd-image"}
    started = next((name for name in options if config.getoption(name) is not None), None)
    if live is None or started is None:
        return
    named = next(
        (one.flag for one in LIVE if config.getoption(one.dest) is not None), "the ini file's endpoint"
    )
    if named == "--etcd-config":
        raise pytest.UsageError(
            f"{options[started]} starts an etcd, and --etcd-config declares a live one: a declaration is not "
            f"replayed on another etcd yet. Leave {options[started]} away to judge the live cluster, or "
            "--etcd-config to judge the etcd that is started"
        )
    raise pytest.UsageError(
        f"{options[started]} starts an etcd to be judged, and {named} names a live one: leave one of them "
        f"away, or run twice. For the clusters of fixtures beside a live one use {started} in the ini file"
    )


def _refusal(what: str, where: str) -> str:
    return (
        f"{what} comes from {where}, and nobody should judge a cluster by accident: give it on the command "
        "line itself, or put --etcd-conformance there"
    )


def _count(flag: str, words: Sequence[str]) -> int:
    return sum(word == flag or word.startswith(f"{flag}=") for word in words)


def _words(arguments: Sequence[object], directory: Path) -> Iterator[str]:
    """Yield the words of the command line, those in files named by ``@file`` included."""
    for argument in map(str, arguments):
        if not argument.startswith("@"):
            yield argument
            continue
        try:
            text = (directory / argument[1:]).read_text()
        except (OSError, UnicodeDecodeError):
            continue
        yield from _words(text.splitlines(), directory)


def _is_id(argument: str, config: pytest.Config) -> bool:
    if not _ID.fullmatch(argument):
        return False
    return "::" in argument or not (config.invocation_params.dir / argument).exists()


def _is_package(argument: str, config: pytest.Config) -> bool:
    if config.getoption("pyargs") and argument == PACKAGE:
        return True
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = config.invocation_params.dir / argument
    return "::" not in argument and any(path.resolve() == Path(place).resolve() for place in places)
