"""The command-line and ini-file options, and the invocation that they describe."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from pytest_etcdtls.errors import UnreadableFileError
from pytest_etcdtls.local_file import is_there, read_regular

GROUP = "etcd TLS conformance"

STDIN_IS_TERMINAL = sys.stdin is not None and sys.stdin.isatty()
"""Whether somebody can be asked. This module is imported before pytest replaces standard input."""


class Kind(Enum):
    """How an option is given."""

    TEXT = "one value, the last one given counts"
    LIST = "may be given again"
    FLAG = "has no value"


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        flag: the option as on the command line.
        help: the text for ``--help``; ``%%`` for a percent sign, as argparse requires.
        metavar: the placeholder for its value.
        ini: whether there is an ini option: the flag without leading dashes, underscores for dashes.
        stored_as: the attribute of ``config.option``, if not :attr:`name`.
        const: the value that a flag stores.
    """

    flag: str
    help: str
    metavar: str | None = None
    kind: Kind = Kind.TEXT
    ini: bool = True
    stored_as: str | None = None
    const: bool = True

    @property
    def name(self) -> str:
        """The name of the ini option."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def dest(self) -> str:
        """The attribute of ``config.option``."""
        return self.stored_as or self.name


_ALSO = "Repeatable, commas allowed."

ENDPOINTS = (
    Option(
        "--etcd-endpoint",
        "client listener of a live cluster, as etcdctl's --endpoints: https://10.0.0.11:2379. " + _ALSO,
        "URL",
        Kind.LIST,
    ),
    Option("--etcd-peer-endpoint", "peer listener: https://10.0.0.11:2380. " + _ALSO, "URL", Kind.LIST),
    Option(
        "--etcd-metrics-endpoint",
        "listener of etcd's --listen-metrics-urls. " + _ALSO,
        "URL",
        Kind.LIST,
    ),
    Option(
        "--etcd-client-http-endpoint",
        "listener of etcd's --listen-client-http-urls. " + _ALSO,
        "URL",
        Kind.LIST,
    ),
)
"""The options that name live listeners. They have no environment variables."""

CONFIG = Option(
    "--etcd-config",
    "declaration of one member of a live cluster: kubeadm's etcd.yaml, etcd's own configuration file, an "
    "environment file, a systemd unit or a command line. Gives the endpoints and credentials that no other "
    "option names; the running member is compared with it. Repeatable, one for each member.",
    "FILE",
    Kind.LIST,
)

LIVE = (*ENDPOINTS, CONFIG)
"""The options that select the live cluster."""

_LIVE = (
    Option(
        "--etcd-connect-to",
        "connect to ADDR:PORT for an endpoint's HOST:PORT, as curl's --connect-to: an empty HOST or first "
        "PORT means any, an empty ADDR or last PORT the same. Names are judged by the URL. Repeatable.",
        "HOST:PORT:ADDR:PORT",
        Kind.LIST,
    ),
    Option(
        "--etcd-cacert",
        "PEM bundle of the CAs of the served certificates; else ETCDCTL_CACERT.",
        "FILE",
    ),
    Option("--etcd-cert", "client certificate; else ETCDCTL_CERT.", "FILE"),
    Option("--etcd-key", "its private key; else ETCDCTL_KEY.", "FILE"),
    Option(
        "--etcd-key-password-file",
        "file with the passphrases of encrypted private keys, one on each line, tried in turn; else "
        "ETCDTLS_KEY_PASSWORD; else asked for, if standard input is a terminal.",
        "FILE",
    ),
    Option("--etcd-peer-cacert", "as --etcd-cacert, for peer listeners (default: the same file).", "FILE"),
    Option("--etcd-peer-cert", "as --etcd-cert, for peer listeners (default: the same file).", "FILE"),
    Option("--etcd-peer-key", "private key of --etcd-peer-cert.", "FILE"),
    Option(
        "--etcd-trusted-ca",
        "the bundle that etcd trusts for its clients, its --trusted-ca-file (default: "
        "--etcd-cacert if the client certificate verifies against it, else unknown).",
        "FILE",
    ),
    Option(
        "--etcd-peer-trusted-ca",
        "the bundle that etcd trusts for its peers, its --peer-trusted-ca-file (default: "
        "--etcd-peer-cacert if the peer certificate verifies against it, else unknown).",
        "FILE",
    ),
    Option(
        "--etcd-ca-key",
        "private key of a CA in the trusted bundle: the run issues one-day identities (expired, wrong "
        "usage ...), in memory only.",
        "FILE",
    ),
    Option("--etcd-peer-ca-key", "the same for the peers' trusted bundle.", "FILE"),
    Option(
        "--etcd-kubernetes-ca",
        "CA of the Kubernetes cluster that uses this etcd: etcd should not trust it.",
        "FILE",
    ),
    Option("--etcd-user", "user of a cluster with authentication on; else ETCDCTL_USER.", "NAME"),
    Option("--etcd-password-file", "file with that user's password in its first line.", "FILE"),
    Option(
        "--etcd-expect-cert",
        "certificate that client listeners must serve, only those of HOST if one is named. Repeatable.",
        "[HOST=]FILE",
        Kind.LIST,
    ),
    Option("--etcd-expect-peer-cert", "the same for peer listeners. Repeatable.", "[HOST=]FILE", Kind.LIST),
    CONFIG,
    Option(
        "--etcd-pki-dir",
        "directory with the declared files, or copies of them: each is found by its whole path, by any "
        "ending of it, or by its name, in a subdirectory with the member's name if there is one. With "
        "endpoints and no --etcd-config, kubeadm's file names are used, as in /etc/kubernetes/pki/etcd.",
        "DIR",
    ),
    Option(
        "--etcd-log",
        "etcd's own log, of HOST's member if one is named: its rejected connections are compared with ours. "
        "Repeatable.",
        "[HOST=]FILE",
        Kind.LIST,
    ),
    Option(
        "--etcd-discover",
        "ask the cluster for its members (by gRPC, its JSON gateway or a peer port's /members) and judge the "
        "client and peer listeners that they advertise as well.",
        kind=Kind.FLAG,
    ),
)

_OWNED = (
    Option(
        "--etcd-conformance",
        "run the suite here: on the endpoints of the ini file if it has any, else on an owned cluster.",
        kind=Kind.FLAG,
        ini=False,
    ),
    Option(
        "--no-etcd-conformance",
        "no suite, only fixtures and options, even if an endpoint is given.",
        kind=Kind.FLAG,
        ini=False,
        stored_as="etcd_conformance",
        const=False,
    ),
    Option(
        "--etcd-backend",
        "how to start an owned cluster: auto (default: what is available; the header names it), container or "
        "process.",
        "BACKEND",
    ),
    Option(
        "--etcd-image",
        "start owned clusters from this image. Repeatable, one target each.",
        "IMAGE",
        Kind.LIST,
    ),
    Option(
        "--etcd-binary",
        "start owned clusters from this etcd. Repeatable, one target each.",
        "PATH",
        Kind.LIST,
    ),
    Option("--etcd-size", "members of an owned cluster: 1, 3 or 5 (default 1).", "N"),
    Option(
        "--etcd-key-type",
        "keys of an owned cluster: ecdsa-p256 (default), ecdsa-p384, rsa-2048, rsa-4096 or ed25519.",
        "TYPE",
    ),
    Option(
        "--etcd-keep",
        "keep owned clusters running after the run, with their PKI; the summary says where.",
        kind=Kind.FLAG,
        ini=False,
    ),
)

_JUDGING = (
    Option(
        "--etcd-check",
        "only these checks: id, glob, family (mtls, cert ...) or source (cis, rfc8446, threat-model ...); "
        "!PATTERN excludes. Repeatable, commas allowed.",
        "PATTERN",
        Kind.LIST,
    ),
    Option(
        "--etcd-strict",
        "a check of level SHOULD that warns fails the run, as one of level MUST does.",
        kind=Kind.FLAG,
    ),
    Option(
        "--etcd-allow-unverified",
        "accept a TLS listener on which no check about mutual TLS came to a verdict.",
        kind=Kind.FLAG,
    ),
    Option(
        "--etcd-expiry-days",
        "warn about certificates that expire within N days (default 30).",
        "N",
    ),
    Option(
        "--etcd-waivers",
        "TOML file of accepted findings: [[waiver]] with check, listener (a glob), reason and expires.",
        "FILE",
    ),
    Option(
        "--etcd-report",
        "write a report to this file, whose name ends in .json. Repeatable.",
        "PATH",
        Kind.LIST,
    ),
    Option(
        "--etcd-plan",
        "print the maximum number of connections per listener and stop; makes none.",
        kind=Kind.FLAG,
        ini=False,
    ),
    Option("--etcd-list-checks", "print the catalogue of checks and stop.", kind=Kind.FLAG, ini=False),
    Option("--etcd-explain", "print one check in full and stop. Repeatable.", "ID", Kind.LIST, ini=False),
)

_BOUNDS = (
    Option("--etcd-timeout", "limit of one connection, in seconds (default 5).", "SECONDS"),
    Option("--etcd-concurrency", "connections at a time per listener (default 4).", "N"),
    Option("--etcd-gentle", "one connection at a time, spaced.", kind=Kind.FLAG),
    Option(
        "--etcd-max-connections",
        "maximum connections per listener (default 200); checks that need more are inconclusive.",
        "N",
    ),
    Option(
        "--etcd-allow-writes",
        "let the fixture etcd_client write to a live cluster; the suite itself never does.",
        kind=Kind.FLAG,
        ini=False,
    ),
)

OPTIONS: tuple[Option, ...] = (*ENDPOINTS, *_LIVE, *_OWNED, *_JUDGING, *_BOUNDS)

_BY_NAME = {option.name: option for option in OPTIONS}


class Values:
    """Reads option values by ini name.

    Args:
        config: the pytest config.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def text(self, name: str) -> str | None:
        """Return the value; ``None`` if it is not given."""
        value = self._value(name)
        return None if value is None else str(value)

    def texts(self, name: str, *, commas: bool = False) -> tuple[str, ...]:
        """Return all values in order, split at commas on request. The command line overrides the ini file."""
        values = self._list(name)
        if commas:
            values = [part for value in values for part in value.split(",")]
        return tuple(value.strip() for value in values)

    def flag(self, name: str) -> bool:
        """Return whether the flag is set."""
        return bool(self._value(name))

    def path(self, name: str) -> Path | None:
        """Return the value as a path. In the ini file, it is relative to the directory of that file."""
        value = self.text(name)
        return None if value is None else self.resolve(name, value)

    def resolve(self, name: str, value: str) -> Path:
        """Return a path in a value of the option, resolved as in :meth:`path`."""
        return self._directory(name) / Path(value).expanduser()

    def _list(self, name: str) -> list[str]:
        value = self._value(name)
        return [str(item) for item in value] if isinstance(value, list) else []

    def _value(self, name: str) -> object:
        option = _BY_NAME[name]
        given = self._given(option)
        if given is None and option.ini and not self._replaced(option):
            return self._config.getini(name)
        return given

    def _replaced(self, option: Option) -> bool:
        """Return whether the option selects a live cluster, and the command line names another one."""
        return option in LIVE and any(self._given(other) is not None for other in LIVE)

    def _given(self, option: Option) -> object:
        return self._config.getoption(option.dest, None)

    def _directory(self, name: str) -> Path:
        inipath = self._config.inipath
        if self._given(_BY_NAME[name]) is not None or inipath is None:
            return self._config.invocation_params.dir
        return inipath.parent


PACKAGE = __name__.partition(".")[0]
ROOT = "etcdtls"
"""The first part of every node ID of the suite."""

_ID = re.compile(rf"(\.\./)*{ROOT}(::.*)?")
_DISCOVER = "--etcd-discover"
_PKI_DIR = "--etcd-pki-dir"
_ARGUMENTS_SIZE = 1024 * 1024
_DRY = ("collectonly", "setuponly", "setupplan", "showfixtures", "show_fixtures_per_test", "cacheshow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What the command line selects.

    Attributes:
        suite: whether the suite runs.
        asked: whether the command line, not a file, requests the suite.
        live: where the live endpoints are given; ``None`` if there are none or they are not used.
        ids: the selected node IDs of the suite, or their prefixes; empty for all.
        alone: whether the command line names the suite and nothing else to collect.
    """

    suite: bool
    asked: bool
    live: Literal["command line", "ini"] | None
    ids: tuple[str, ...]
    alone: bool


def take_arguments(config: pytest.Config) -> tuple[bool, tuple[str, ...]]:
    """Remove the suite's arguments from ``config.args`` and return them.

    Returns:
        Whether the package was named (``--pyargs pytest_etcdtls``), and the node ids.
    """
    ours = [argument for argument in config.args if _is_id(argument, config)]
    package = [argument for argument in config.args if _is_package(argument, config)]
    config.args[:] = [argument for argument in config.args if argument not in (*ours, *package)]
    return bool(package), tuple(re.sub(r"^(\.\./)+", "", argument) for argument in ours)


def is_dry(config: pytest.Config) -> bool:
    """Return whether the options make pytest run no test, such as ``--collect-only``."""
    return any(config.getoption(name, False) for name in _DRY)


_KEY = pytest.StashKey[Invocation]()


def invocation_of(config: pytest.Config) -> Invocation:
    """Return what the command line selects, read once. Remove the suite's arguments from ``config.args``.

    Raises:
        pytest.UsageError: if options contradict each other, or endpoints are given in the wrong place.
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
            "omit one of them, or add --etcd-conformance after it"
        )
    here = "--etcd-conformance" in words
    live = _live(config, words, here, conformance)
    if conformance is not False:
        _refuse_two_clusters(config, live)
    if live is None and _count(_PKI_DIR, words):
        raise pytest.UsageError(
            f"{_PKI_DIR} names files and no address: add --etcd-config, or --etcd-endpoint of the cluster "
            "that they belong to"
        )
    if live is None and _DISCOVER in words:
        raise pytest.UsageError(
            f"{_DISCOVER} asks a live cluster for its members, and no endpoint of one is given: pass "
            f"--etcd-endpoint, or omit {_DISCOVER}: every member of an owned cluster is judged without it"
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
    foreign = [option for option in given if len(config.getoption(option.dest)) > _count(option.flag, words)]
    if foreign and not here:
        raise pytest.UsageError(_refusal(foreign[0].flag, "addopts, PYTEST_ADDOPTS or a plugin"))
    if given:
        return "command line"
    in_file = [option for option in LIVE if Values(config).texts(option.name)]
    if not in_file:
        return None
    if conformance is True and not here:
        raise pytest.UsageError(_refusal(in_file[0].name, "the ini file"))
    return "ini" if here else None


def _refuse_two_clusters(config: pytest.Config, live: str | None) -> None:
    """Refuse a live cluster together with an etcd to start, if both are on the command line.

    An etcd given in the ini file is for the fixtures, whose clusters are always owned. The same holds for
    both places if the suite does not run.
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
            f"applied to another etcd. Omit {options[started]} to judge the live cluster, or --etcd-config "
            "to judge the etcd that is started"
        )
    raise pytest.UsageError(
        f"{options[started]} starts an etcd to be judged, and {named} names a live one: omit one of them, "
        f"or run twice. For clusters of fixtures in addition to a live one use {started} in the ini file"
    )


def _refusal(what: str, where: str) -> str:
    return (
        f"{what} comes from {where}, and no cluster is judged by accident: pass it on the command line, or "
        "pass --etcd-conformance there"
    )


def _count(flag: str, words: Sequence[str]) -> int:
    return sum(word == flag or word.startswith(f"{flag}=") for word in words)


def _words(arguments: Sequence[object], directory: Path) -> Iterator[str]:
    """Yield the command-line arguments, including those in files named by ``@file``."""
    for argument in map(str, arguments):
        if not argument.startswith("@"):
            yield argument
            continue
        try:
            text = read_regular(directory / argument[1:], _ARGUMENTS_SIZE).decode()
        except (UnreadableFileError, UnicodeDecodeError):
            continue
        yield from _words(text.splitlines(), directory)


def _is_id(argument: str, config: pytest.Config) -> bool:
    if not _ID.fullmatch(argument):
        return False
    return "::" in argument or not is_there(config.invocation_params.dir / argument)


def _is_package(argument: str, config: pytest.Config) -> bool:
    if config.getoption("pyargs") and argument == PACKAGE:
        return True
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = config.invocation_params.dir / argument
    return "::" not in argument and any(path.resolve() == Path(place).resolve() for place in places)


_ACTIONS = {Kind.TEXT: "store", Kind.LIST: "append", Kind.FLAG: "store_const"}
_INI_TYPES: dict[Kind, Literal["string", "linelist", "bool"]] = {
    Kind.TEXT: "string",
    Kind.LIST: "linelist",
    Kind.FLAG: "bool",
}


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini option."""
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
