"""The command-line and ini-file options, and the invocation that they describe."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import pytest
from msgspec import Struct

from pytest_etcdtls.errors import UnreadableFileError, did_you_mean
from pytest_etcdtls.settings import Source
from pytest_etcdtls.untrusted.regular_files import is_there, read_regular

GROUP = "etcd TLS conformance"
VERBOSITY: Final = "etcdtls"
"""The kind of verbosity (``pytest.Config.get_verbosity``) that decides how much the suite shows."""

STDIN_IS_TERMINAL = sys.stdin is not None and sys.stdin.isatty()
"""Whether a passphrase can be asked for. This module is imported before pytest replaces standard input."""


class Kind(Enum):
    """How an option is given, and argparse's action for it."""

    TEXT = "store"  # the last one given counts
    LIST = "append"
    FLAG = "store_const"


class Option(Struct, frozen=True):
    """One option.

    Attributes:
        flag: the option as on the command line. ``--no-`` and the name of another option sets that to False.
        help: the text for ``--help``; ``%%`` for a percent sign, as argparse requires.
        metavar: the placeholder for its value.
        ini: whether there is an ini option: the flag without leading dashes, underscores for dashes.
        plural: another spelling, with the s of etcdctl's --endpoints; empty if there is none.
    """

    flag: str
    help: str
    metavar: str | None
    kind: Kind
    ini: bool
    plural: str

    @property
    def spellings(self) -> tuple[str, ...]:
        """The option as it may be written on the command line."""
        return (self.flag, self.plural) if self.plural else (self.flag,)

    @property
    def name(self) -> str:
        """The name of the ini option."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def dest(self) -> str:
        """The attribute of ``config.option``."""
        return self.name.removeprefix("no_")


_TABLE = """
A live cluster
--etcd-endpoint URL... (or --etcd-endpoints)
    client listener of a live cluster, as in etcdctl's --endpoints: https://10.0.0.11:2379. Repeatable, commas
    allowed.
--etcd-peer-endpoint URL... (or --etcd-peer-endpoints)
    peer listener: https://10.0.0.11:2380. Repeatable, commas allowed.
--etcd-metrics-endpoint URL... (or --etcd-metrics-endpoints)
    listener of etcd's --listen-metrics-urls. Repeatable, commas allowed.
--etcd-client-http-endpoint URL... (or --etcd-client-http-endpoints)
    listener of etcd's --listen-client-http-urls. Repeatable, commas allowed.
--etcd-connect-to HOST:PORT:ADDR:PORT...
    connect to ADDR:PORT instead of an endpoint's HOST:PORT, as curl's --connect-to. An empty HOST or first
    PORT matches any; an empty ADDR or last PORT keeps that of the endpoint. Names are judged by the URL.
    Repeatable.
--etcd-via COMMAND
    start this command for each connection, with {host} and {port} replaced; its standard input and output
    carry the bytes, as ssh's ProxyCommand: 'ssh -W {host}:{port} cp1'. It inherits PATH, HOME, the locale,
    KUBECONFIG and SSH_AUTH_SOCK, and what --etcd-via-env names.
--etcd-via-env NAME...
    environment variable that the command of --etcd-via inherits too, such as AWS_PROFILE. Repeatable, commas
    allowed.
--etcd-cacert FILE
    PEM bundle with the CAs of the served certificates; else ETCDCTL_CACERT.
--etcd-cert FILE
    client certificate; else ETCDCTL_CERT.
--etcd-key FILE
    its private key; else ETCDCTL_KEY.
--etcd-key-password-file FILE
    file with the passphrases of encrypted private keys, one on each line, tried in turn; else
    ETCDTLS_KEY_PASSWORD; else a prompt, if standard input is a terminal.
--etcd-peer-cacert FILE
    as --etcd-cacert, for peer listeners (default: the same file).
--etcd-peer-cert FILE
    as --etcd-cert, for peer listeners (default: the same file).
--etcd-peer-key FILE
    private key of --etcd-peer-cert.
--etcd-trusted-ca FILE
    bundle of the CAs that etcd trusts for its clients, its --trusted-ca-file (default: --etcd-cacert if the
    client certificate verifies against it, else unknown).
--etcd-peer-trusted-ca FILE
    bundle of the CAs that etcd trusts for its peers, its --peer-trusted-ca-file (default: --etcd-peer-cacert
    if the peer certificate verifies against it, else unknown).
--etcd-ca-key FILE
    private key of a CA in the trusted bundle: the run issues identities (expired, wrong usage ...), in memory
    only.
--etcd-peer-ca-key FILE
    the same for the peers' trusted bundle.
--etcd-kubernetes-ca FILE
    CA of the Kubernetes cluster that uses this etcd: etcd should not trust it.
--etcd-secret FILE|DIR
    Secret of Kubernetes with a client certificate, its key and the CA, as kubectl get secret NAME -o yaml
    writes it (- for standard input), or the directory where it is mounted: of the type kubernetes.io/tls, or
    with the names of kubeadm, Calico, Cilium or Bitnami. It replaces --etcd-cacert, --etcd-cert and
    --etcd-key. With the key of a CA, as in the NAME-etcd of Cluster API, the run issues its clients itself,
    as with --etcd-ca-key. Values are in memory only.
--etcd-user NAME
    user of a cluster with authentication; else ETCDCTL_USER.
--etcd-password-file FILE
    file with that user's password in its first line.
--etcd-expect-cert [HOST=]FILE...
    certificate that client listeners must serve; with HOST, only the listeners of that host. Repeatable.
--etcd-expect-peer-cert [HOST=]FILE...
    the same for peer listeners. Repeatable.
--etcd-pid PID|auto...
    the running etcd as the declaration: its command line, its environment, and the files that these name, as
    the process sees them, also in a container. auto: every member of etcd on this machine, whatever its
    program is called; of a user other than root and you, the first 8. The members of one cluster are one
    target. Needs root, or the user that etcd runs as. With --etcd-config, what the file declares is compared
    with what the process was started with. Repeatable, commas allowed.
--etcd-rehearse
    with --etcd-pid: rehearse the next restart. The program of the running etcd is started once more, with its
    settings, its user and the current files, where nothing is written and nothing gets out. What differs from
    the running etcd is a fault of the family restart. With --etcd-config, what the file declares is
    rehearsed. Needs root (CAP_SYS_ADMIN) and 512 MiB of memory.
--etcd-config FILE...
    declaration of one member of a live cluster: kubeadm's etcd.yaml, etcd's own configuration file, an
    environment file, a systemd unit, or a copy of /proc/PID/environ and cmdline; or of several, as kubectl
    get pod -o yaml prints. It gives the endpoints and credentials that no other option names, and the running
    member is compared with it. Repeatable, one for each member. With --etcd-binary or --etcd-image, the
    declaration of one member is replayed on each of these etcds instead.
--etcd-pki-dir DIR
    directory with the declared files, or copies of them. Each file is found by its whole path, by any suffix
    of the path, or by its name, in the subdirectory with the member's name if there is one. With endpoints
    and no --etcd-config, kubeadm's file names are used, as in /etc/kubernetes/pki/etcd.
--etcd-log [HOST=]FILE|DIR|GLOB...
    etcd's own log, or the newest *.log of a directory or a glob, as
    '/var/log/pods/kube-system_etcd-*/etcd/*.log'; with HOST, that of the member on that host. The connections
    of other clients that etcd rejected are explained. Repeatable.
--etcd-discover
    ask the cluster for its members (by gRPC, its JSON gateway or a peer port's /members) and also judge the
    client and peer listeners that they advertise.
--etcd-label NAME
    name of the cluster in node ids, the last line and reports (default live).

Many live clusters
--etcd-clusters FILE (no ini option)
    judge each cluster of a list in TOML or YAML (- for standard input). An entry has a label, endpoints, and
    any option of a live cluster without --etcd-. The other options apply to all clusters.
--etcd-clusters-trusted (no ini option)
    the list may name password files outside its own directory.
--etcd-shard K/N (no ini option)
    judge part K of N of --etcd-clusters, by a hash of the label. In a Kubernetes Indexed Job, pass N alone.
    The parts may write to the same DIR/ of --etcd-report.

Clusters that the run starts
--etcd-conformance (no ini option)
    run the suite: on the endpoints of the ini file if it has any, else on an owned cluster.
--no-etcd-conformance (no ini option)
    do not run the suite, even if an endpoint is given; fixtures and options still work.
--etcd-backend BACKEND
    how to start an owned cluster: auto (default), container or process. auto uses what is available, and the
    header names it.
--etcd-image IMAGE...
    start owned clusters from this image; with --etcd-config, one etcd with that declaration. Repeatable, one
    target each.
--etcd-binary PATH...
    start owned clusters from this etcd; with --etcd-config, one etcd with that declaration. Repeatable, one
    target each.
--etcd-size N
    members of an owned cluster: 1, 3 or 5 (default 1).
--etcd-key-type TYPE
    keys of an owned cluster: ecdsa-p256 (default), ecdsa-p384, rsa-2048, rsa-4096 or ed25519.
--etcd-start-timeout SECONDS
    time that the start of an owned cluster may take (default 30 s).
--etcd-cluster-scope SCOPE
    scope of the fixture etcd_cluster and of the fixtures that follow it: session (default), module, class or
    function. The marker etcd_cluster_scope has precedence.
--etcd-keep (no ini option)
    leave owned clusters running after the run, with their PKI; the summary says where.

What is judged and reported
--etcd-check PATTERN...
    only these checks: id, glob, family (mtls, cert ...) or source (cis, rfc8446, threat-model ...); !PATTERN
    excludes. Repeatable, commas allowed.
--etcd-checks-file FILE...
    a Python file with checks of your own, added to the catalogue. Repeatable.
--etcd-profile NAME|FILE...
    levels and thresholds of a guideline: kubeadm, nist-800-52r2, bsi-tr-02102-2, mozilla-intermediate,
    mozilla-modern, cis-kubernetes, pci-dss, or a TOML file; none for no profile. Repeatable, commas allowed;
    the strictest of several counts.
--etcd-strict
    a warning of a check of level SHOULD fails the run, as a violation of level MUST does.
--etcd-allow-unverified
    do not fail for a TLS listener on which no check about mutual TLS has a verdict, or that accepts none of
    the available client certificates, nor for a process that --etcd-pid=auto finds and that cannot be judged,
    a cluster of which no client listener is judged, or a rehearsal that does not take place.
--etcd-expiry-days N
    warn about certificates that expire within N days (default 30).
--etcd-waivers FILE
    TOML file of accepted findings: [[waiver]] with check, listener (a glob), reason and expires.
--etcd-write-waivers PATH (no ini option)
    write a proposal for --etcd-waivers from the faults of this run, with the reasons to fill in; an existing
    file is not overwritten.
--etcd-baseline PATH
    report of an earlier run to compare with, .baseline or .json: what is worse fails the run, any other
    difference is shown.
--etcd-fail-on-difference
    fail the run on any difference from the baseline, or between the etcds of this run.
--etcd-report PATH|DIR/...
    write a report to this file. The suffix selects the format: .json for programs, .html for reading, .md for
    a ticket or a job's summary, .sarif for code scanning, .prom for Prometheus, .baseline to commit and
    compare later runs with. With --etcd-clusters, DIR/ gets a JSON report of each cluster, and .html, .md and
    .prom list all clusters. Repeatable.
--etcd-metadata KEY=VALUE...
    additional information about the run for the reports: ticket=OPS-17, commit, environment. At most 50 keys
    of 64 characters; a value is cut at 1024. Repeatable.
--etcd-plan (no ini option)
    print the maximum number of connections per listener and stop, without a connection or a report.
--etcd-list-checks (no ini option)
    print the catalogue of checks and stop.
--etcd-explain ID... (no ini option)
    print one check in full and stop. Repeatable.

Limits on a live cluster
--etcd-timeout SECONDS
    time limit of one connection, in seconds (default 5).
--etcd-concurrency N
    simultaneous connections per listener (default 4).
--etcd-gentle
    one connection at a time, with pauses; of suites and groups, only those that verdicts need.
--etcd-max-connections N
    maximum number of connections per listener (default 200); checks that need more are inconclusive.
--etcd-allow-writes (no ini option)
    allow the fixture etcd_client to write to a live cluster; the suite itself never writes.
"""
"""Each option: its flag, the placeholder of a value, with ... if it is repeatable, and the help."""

_ENTRY = re.compile(
    r"^(?P<flag>--\S+)(?: (?P<metavar>[^\s(]\S*?)(?P<list>\.\.\.)?)?(?: \(or (?P<plural>\S+)\))?"
    r"(?P<command_line> \(no ini option\))?\n(?P<help>(?:    .+\n)+)",
    re.MULTILINE,
)


def _option(entry: re.Match[str]) -> Option:
    return Option(
        flag=entry["flag"],
        help=" ".join(entry["help"].split()),
        metavar=entry["metavar"],
        kind=Kind.LIST if entry["list"] else Kind.TEXT if entry["metavar"] else Kind.FLAG,
        ini=not entry["command_line"],
        plural=entry["plural"] or "",
    )


SECTIONS: Mapping[str, tuple[Option, ...]] = {
    section.partition("\n")[0]: tuple(map(_option, _ENTRY.finditer(section + "\n")))
    for section in _TABLE.strip().split("\n\n")
}
"""The options by subject, as ``docs/options.md`` has them."""

OPTIONS: tuple[Option, ...] = tuple(option for section in SECTIONS.values() for option in section)

_BY_NAME = {option.name: option for option in OPTIONS}

ENDPOINTS = tuple(option for option in OPTIONS if option.flag.endswith("-endpoint"))
"""The options that name live listeners. They have no environment variables."""

LIVE = (*ENDPOINTS, _BY_NAME["etcd_config"], _BY_NAME["etcd_pid"])
"""The options that select the live cluster."""


class Part(Enum):
    """A part of a run."""

    LIVE = "the suite on a live cluster"
    OWNED = "the suite on clusters that the run starts"
    REPLAY = "the suite on etcds that replay a declaration"
    CLUSTERS = "the suite on a list of clusters"
    TESTS = "the user's tests, whose fixtures may start clusters"
    LIVE_TESTS = "the user's tests, whose fixtures use a live cluster"


_SUITE = frozenset({Part.LIVE, Part.OWNED, Part.REPLAY, Part.CLUSTERS})
_OF_A_TARGET = _SUITE - {Part.CLUSTERS}
_LIVE_CLUSTER = frozenset({Part.LIVE, Part.CLUSTERS, Part.LIVE_TESTS})
_FILES = _LIVE_CLUSTER | {Part.REPLAY}
_STARTED = frozenset({Part.OWNED, Part.REPLAY, Part.TESTS})
_EVERYWHERE = frozenset(Part)

PARTS: Mapping[str, frozenset[Part]] = {
    **dict.fromkeys((option.flag for option in OPTIONS), _EVERYWHERE),
    **dict.fromkeys((option.flag for option in SECTIONS["A live cluster"]), _FILES),
    **dict.fromkeys((option.flag for option in SECTIONS["Many live clusters"]), frozenset({Part.CLUSTERS})),
    **dict.fromkeys((option.flag for option in SECTIONS["Clusters that the run starts"]), _STARTED),
    # A replay connects to its own etcd, as no user.
    **dict.fromkeys(("--etcd-connect-to", "--etcd-via", "--etcd-via-env"), _LIVE_CLUSTER),
    **dict.fromkeys(("--etcd-expect-cert", "--etcd-expect-peer-cert"), _LIVE_CLUSTER),
    **dict.fromkeys(("--etcd-log", "--etcd-discover", "--etcd-user", "--etcd-password-file"), _LIVE_CLUSTER),
    "--etcd-label": frozenset({Part.LIVE, Part.LIVE_TESTS}),
    "--etcd-rehearse": frozenset({Part.LIVE}),
    **dict.fromkeys(("--etcd-conformance", "--no-etcd-conformance"), _EVERYWHERE),
    "--etcd-size": _STARTED - {Part.REPLAY},
    "--etcd-cluster-scope": frozenset({Part.TESTS}),
    "--etcd-allow-unverified": _SUITE,
    **dict.fromkeys(("--etcd-baseline", "--etcd-fail-on-difference", "--etcd-write-waivers"), _OF_A_TARGET),
    **dict.fromkeys(("--etcd-report", "--etcd-metadata", "--etcd-plan"), _SUITE),
    "--etcd-allow-writes": frozenset({Part.TESTS, Part.LIVE_TESTS}),
}
"""The parts of a run in which each option has an effect. Elsewhere it is refused on the command line.

In an ini file or ``addopts`` it has no effect there: those are for several commands.
"""


class Values(Source):
    """Reads option values by ini name. The command line overrides the ini file."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def value(self, name: str) -> object:
        """Return the value; ``None`` if it is not given."""
        option = _BY_NAME[name]
        given = self._given(option)
        if given is None and option.ini and not self._replaced(option):
            return self._config.getini(name)
        return given

    def directory(self, name: str) -> Path:
        """Return the directory of the command line, or that of the ini file."""
        inipath = self._config.inipath
        if self._given(_BY_NAME[name]) is not None or inipath is None:
            return self._config.invocation_params.dir
        return inipath.parent

    def _replaced(self, option: Option) -> bool:
        """Return whether the option selects a live cluster, and the command line names another one."""
        return option in LIVE and any(self._given(other) is not None for other in LIVE)

    def _given(self, option: Option) -> object:
        return self._config.getoption(option.dest, None)


Scope = Literal["session", "module", "class", "function"]


def scope_named(name: object, where: str) -> Scope:
    """Return the scope of a fixture of that name.

    Raises:
        pytest.UsageError: if there is no such scope.
    """
    if name not in get_args(Scope):
        meant = did_you_mean(str(name), get_args(Scope))
        raise pytest.UsageError(
            f"{where}: {name!r} is no scope: use session, module, class or function{meant}"
        )
    return cast("Scope", name)


def cluster_scope(config: pytest.Config) -> Scope:
    """Return the scope of ``etcd_cluster`` for tests without a marker.

    Raises:
        pytest.UsageError: if there is no such scope.
    """
    return scope_named(Values(config).text("etcd_cluster_scope") or "session", "--etcd-cluster-scope")


PACKAGE = __name__.partition(".")[0]
ROOT = "etcdtls"
"""The first part of every node ID of the suite."""

_ID = re.compile(rf"(\.\./)*{ROOT}(::.*)?")
_ARGUMENTS_SIZE = 1024 * 1024
_DRY = ("collectonly", "setuponly", "setupplan", "showfixtures", "show_fixtures_per_test", "cacheshow")


class Invocation(Struct, frozen=True, kw_only=True):
    """What the command line selects.

    Attributes:
        suite: whether the suite runs.
        requested: whether the command line, not a file, requests the suite.
        live: where the live endpoints are given; ``None`` if there are none or they are not used.
        replays: the declaration is replayed on the etcds that are started; there is no live cluster.
        fleet: the list of clusters that are judged, as ``--etcd-clusters`` names it.
        ids: the selected node IDs of the suite, or their prefixes; empty for all.
        alone: whether the command line names the suite and nothing else to collect.
    """

    suite: bool
    requested: bool
    live: Literal["command line", "ini"] | None
    replays: bool
    fleet: str | None
    ids: tuple[str, ...]
    alone: bool


def _take_arguments(config: pytest.Config) -> tuple[bool, tuple[str, ...]]:
    """Remove the suite's arguments from ``config.args``.

    Returns:
        Whether the package is named (``--pyargs pytest_etcdtls``), and the node ids.
    """
    ours = [argument for argument in config.args if _is_id(argument, config)]
    package = [argument for argument in config.args if _is_package(argument, config)]
    config.args[:] = [argument for argument in config.args if argument not in (*ours, *package)]
    return bool(package), tuple(re.sub(r"^(\.\./)+", "", argument) for argument in ours)


def is_dry(config: pytest.Config) -> bool:
    """Return whether the options make pytest run no test, such as ``--collect-only``."""
    return any(config.getoption(name, False) for name in _DRY)


_SUMMARY = "etcdtls_summary"


def has_summary(config: pytest.Config) -> bool:
    """Return whether a terminal reporter, in an xdist worker the controller's, writes the end of the run."""
    if (workerinput := getattr(config, "workerinput", None)) is not None:
        return bool(workerinput.get(_SUMMARY, True))
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    # Its class is not public in pytest 8.
    writes = all(hasattr(reporter, name) for name in ("pytest_terminal_summary", "section", "write_line"))
    return writes and not config.getoption("no_summary")


def pass_summary_on(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """Pass on to an xdist worker what :func:`has_summary` returns in it."""
    workerinput[_SUMMARY] = has_summary(config)


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
    package, ids = _take_arguments(config)
    named = package or bool(ids)
    conformance = config.getoption("etcd_conformance")
    if conformance is False and named:
        raise pytest.UsageError(
            f"{PACKAGE} or one of its node ids is named and --no-etcd-conformance rules the suite out: "
            "omit one of them, or add --etcd-conformance after it"
        )
    here = "--etcd-conformance" in words
    fleet = _fleet(config, words, here, conformance)
    live = _live(config, words, here, conformance) if fleet is None else None
    replays = conformance is not False and _replays(config, live)
    requested = here or named or live == "command line" or fleet is not None
    if replays:
        live = None
    suite = requested if conformance is None else conformance
    alone = named and not config.args
    parts = frozenset(_parts(suite=suite, live=live is not None, replays=replays, fleet=fleet, alone=alone))
    _refuse_without_effect(config, words, parts)
    return Invocation(
        suite=suite,
        requested=requested,
        live=live,
        replays=replays,
        fleet=fleet,
        ids=ids,
        alone=alone,
    )


def _parts(*, suite: bool, live: bool, replays: bool, fleet: str | None, alone: bool) -> Iterator[Part]:
    if suite and fleet is not None:
        yield Part.CLUSTERS
    elif suite:
        yield Part.REPLAY if replays else Part.LIVE if live else Part.OWNED
    if not alone:
        yield Part.TESTS
        if live:
            yield Part.LIVE_TESTS


def _refuse_without_effect(config: pytest.Config, words: Sequence[str], parts: frozenset[Part]) -> None:
    """Refuse options of the command line that have no effect in any part of the run.

    Raises:
        pytest.UsageError: for the first one.
    """
    values = Values(config)
    for option in OPTIONS:
        if not _count(option, words) or PARTS.get(option.flag, _EVERYWHERE) & parts:
            continue
        raise pytest.UsageError(f"{option.flag} has no effect here: {_why_no_effect(config, option, parts)}")
    if _count("--etcd-metadata", words) and not values.texts("etcd_report"):
        raise pytest.UsageError(
            "--etcd-metadata is for reports, and none is written: add --etcd-report, or omit --etcd-metadata"
        )
    if _count("--etcd-concurrency", words) and values.flag("etcd_gentle"):
        raise pytest.UsageError(
            "--etcd-gentle makes one connection at a time, and --etcd-concurrency asks for several: omit one "
            "of them, in the ini file as well"
        )


def _why_no_effect(config: pytest.Config, option: Option, parts: frozenset[Part]) -> str:
    """Return why an option has no effect, and what to do."""
    acts, flag = PARTS[option.flag], option.flag
    if acts <= _LIVE_CLUSTER and Part.REPLAY in parts:
        return (
            "it is about a live cluster, and --etcd-config with an etcd to start (--etcd-binary, "
            "--etcd-image) replays the declaration on it: omit one of them"
        )
    if Part.LIVE in acts and Part.LIVE_TESTS in acts:
        in_file = any(Values(config).texts(option.name) for option in LIVE)
        use = (
            "--etcd-conformance, which uses those of the ini file"
            if in_file
            else "--etcd-endpoint or --etcd-config"
        )
        return f"it is about a live cluster, and the command line names none: add {use}, or omit {flag}"
    if acts == {Part.CLUSTERS}:
        return f"it is about a list of clusters: add --etcd-clusters, or omit {flag}"
    if Part.OWNED in acts and not acts <= _SUITE:
        if Part.REPLAY in parts:
            return f"the replayed declaration says how etcd is started: omit {flag}"
        return f"this run starts no cluster: omit {flag}, or the endpoints"
    if Part.TESTS in acts:
        return (
            f"it is about fixtures, and no tests but those of the suite are run: omit {flag}, or name tests"
        )
    if config.getoption("etcd_conformance") is False:
        return "it is about the suite, which --no-etcd-conformance rules out: omit one of them"
    return (
        f"it is about the suite, which is not run: add --etcd-conformance or --etcd-endpoint, or omit {flag}"
    )


_OF_ONE_CLUSTER = (
    *("etcd_binary", "etcd_image", "etcd_label"),
    *("etcd_baseline", "etcd_fail_on_difference", "etcd_write_waivers"),
)


def _fleet(config: pytest.Config, words: Sequence[str], here: bool, conformance: bool | None) -> str | None:
    """Return the list of clusters that are judged, ``None`` if there is none.

    Raises:
        pytest.UsageError: if it does not come from the command line, or with an option about one cluster.
    """
    given: str | None = config.getoption("etcd_clusters")
    if given is None or conformance is False:
        return None
    if not _count("--etcd-clusters", words) and not here:
        raise pytest.UsageError(_refusal("--etcd-clusters", "addopts, PYTEST_ADDOPTS or a plugin"))
    about_one = (*LIVE, *(_BY_NAME[name] for name in _OF_ONE_CLUSTER))
    if other := next((option for option in about_one if config.getoption(option.dest) is not None), None):
        raise pytest.UsageError(
            f"{other.flag} is about one cluster, and --etcd-clusters names a list of them: omit one of them"
            + (", or name that cluster in the list" if other in LIVE else "")
        )
    return given


def _live(
    config: pytest.Config, words: Sequence[str], here: bool, conformance: bool | None
) -> Literal["command line", "ini"] | None:
    given = [option for option in LIVE if config.getoption(option.dest) is not None]
    foreign = [option for option in given if len(config.getoption(option.dest)) > _count(option, words)]
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


def _replays(config: pytest.Config, live: str | None) -> bool:
    """Return whether a declaration is replayed: it is given, and the command line names an etcd to start.

    An etcd given in the ini file is for the fixtures, whose clusters are always owned. The same holds for
    both places if the suite does not run.

    Raises:
        pytest.UsageError: if an endpoint of a live cluster is given too.
    """
    options = {"etcd_binary": "--etcd-binary", "etcd_image": "--etcd-image"}
    started = next((name for name in options if config.getoption(name) is not None), None)
    if live is None or started is None:
        return False
    values = Values(config)
    named = next((option for option in ENDPOINTS if values.texts(option.name)), None)
    if named is None:
        return True
    given = named.flag if config.getoption(named.dest) is not None else "the ini file's endpoint"
    raise pytest.UsageError(
        f"{options[started]} starts an etcd to be judged, and {given} names a live one: omit one of them, "
        f"or run twice. For clusters of fixtures in addition to a live one use {started} in the ini file"
    )


def _refusal(value: str, where: str) -> str:
    return (
        f"{value} comes from {where}, which judges no cluster, to prevent accidental runs: pass it on the "
        "command line, or pass --etcd-conformance there"
    )


def _count(option: Option | str, words: Sequence[str]) -> int:
    spellings = (option,) if isinstance(option, str) else option.spellings
    return sum(word.partition("=")[0] in spellings for word in words)


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
    path = config.invocation_params.dir / argument
    return "::" not in argument and path.resolve() == Path(__file__).resolve().parent


_INI_TYPES: dict[Kind, Literal["string", "linelist", "bool"]] = {
    Kind.TEXT: "string",
    Kind.LIST: "linelist",
    Kind.FLAG: "bool",
}


GONE: Final = {
    "--etcd-fix": "each fault prints the settings to write and to remove: change the declaration by hand",
}
"""Options that were removed, and what to do instead."""


class _Gone(argparse.Action):
    """Refuses an option that was removed."""

    def __call__(self, _: object, __: object, ___: object, option_string: str | None = None) -> None:
        raise pytest.UsageError(f"{option_string} was removed: {GONE[option_string or '']}")


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini option."""
    group = parser.getgroup("etcdtls", GROUP)
    for option in OPTIONS:
        group.addoption(*option.spellings, help=option.help, **arguments_of(option))
        if option.ini:
            parser.addini(
                option.name, f"{GROUP}: as {option.flag}", type=_INI_TYPES[option.kind], default=None
            )
    parser.addini(f"verbosity_{VERBOSITY}", f"{GROUP}: verbosity of its summary", default="auto")
    for flag in GONE:
        group.addoption(flag, action=_Gone, nargs="?", help=argparse.SUPPRESS)


def arguments_of(option: Option) -> dict[str, Any]:
    """Return how argparse reads an option; ``None`` is the value of one that is not given."""
    arguments: dict[str, Any] = {"action": option.kind.value, "dest": option.dest, "default": None}
    if option.kind is Kind.FLAG:
        arguments["const"] = option.name == option.dest
    else:
        arguments["metavar"] = option.metavar
    return arguments
