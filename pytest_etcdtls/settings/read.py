"""The settings of one run, read once and checked before any connection.

A value that cannot be used ends the run with one message, before anything is sent: a wrong CA file would
otherwise be seen as a finding about the server. The settings are values. Nothing behind them reads an option,
an ini file or the environment again.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace as replace_fields

from pytest_etcdtls.declared.declaration import DeclaredMember, Form
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.config import START_SECONDS, ClusterConfig
from pytest_etcdtls.etcd_log.parse import LogSource, log_file
from pytest_etcdtls.pki.profile import KeyType
from pytest_etcdtls.profiles.profiles import KUBEADM, NO_PROFILES, NONE, Profiles, read_profiles
from pytest_etcdtls.profiles.waivers import Waiver, read_waivers
from pytest_etcdtls.settings import Source, choice, integer, option, seconds
from pytest_etcdtls.settings.declarations import (
    CONFIG,
    PKI_DIR,
    Members,
    add_declared,
    declared_credentials,
    pki_directory,
    roles_that_dial_with_another,
)
from pytest_etcdtls.settings.endpoints import complete, read_connect_to, read_named, read_via
from pytest_etcdtls.settings.etcd_pid import (
    PID,
    Declared,
    label_of,
    read_declared,
    searches,
    unjudged_target,
)
from pytest_etcdtls.settings.port_credentials import (
    SECRET,
    CredentialSource,
    add_credentials,
    read_by_host,
    read_directory,
    read_expected,
    read_user,
)
from pytest_etcdtls.target import LABEL, LIVE, Bounds, Listener, Target, is_label
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, printable, some
from pytest_etcdtls.untrusted.regular_files import is_there

if TYPE_CHECKING:
    from pytest_etcdtls.etcd.replay import ReplayPlan
    from pytest_etcdtls.etcd.sources import Announce, EtcdSource


class Owned(Struct, frozen=True, kw_only=True):
    """How owned clusters are started.

    Attributes:
        backend: ``auto``, ``container`` or ``process``.
        images: container images; one cluster is started from each.
        binaries: paths, or names to look up on ``PATH``; one cluster from each, after those of the images.
        config: the configuration of the clusters.
        keep: whether they keep running after the run.
        start_seconds: time that the start of one may take.
    """

    backend: str = "auto"
    images: tuple[str, ...] = ()
    binaries: tuple[str, ...] = ()
    config: ClusterConfig = field(default_factory=ClusterConfig)
    keep: bool = False
    start_seconds: float = START_SECONDS

    @property
    def names_several(self) -> bool:
        """Whether options name several etcds."""
        return len(self.images) + len(self.binaries) > 1


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of one run.

    Attributes:
        live: the live cluster, or one for each process of ``--etcd-pid``; empty if owned ones are judged.
        left_out: why ``--etcd-pid=auto`` leaves out processes that look like an etcd, a sentence each.
        replay: the declaration that the etcds of ``--etcd-binary`` and ``--etcd-image`` are started with;
            ``None`` if they are started with ``owned.config``.
        owned: how owned clusters are started.
        patterns: the patterns of ``--etcd-check``.
        profiles: what moves levels and thresholds.
        strict: whether a finding of a SHOULD check is a violation.
        expiry_days: the remaining validity, in days, below which certificates are warned about.
        allow_unverified: whether a TLS listener without a verdict about mutual TLS is accepted.
        waivers: the waivers of the file; empty if waivers are disabled.
        write_waivers: the file in which waivers are proposed.
        baseline: the report of the earlier run to compare with.
        fail_on_difference: whether any difference fails the run.
        reports: the report files to write.
        directories: those that get a report for each cluster of a list.
        metadata: what they say about the run, by key: printable and bounded.
        not_read: the variable that names another cluster than the owned ones; empty if none does.
        bounds: the limits on connections and time.
        allow_writes: whether the fixture ``etcd_client`` may write to a live cluster.
        started_at: when they were read. A waiver must be valid then.
    """

    live: tuple[Target, ...] = ()
    left_out: tuple[str, ...] = ()
    replay: ReplayPlan | None = None
    owned: Owned = field(default_factory=Owned)
    patterns: tuple[str, ...] = ()
    profiles: Profiles = NO_PROFILES
    strict: bool = False
    expiry_days: int = 30
    allow_unverified: bool = False
    waivers: tuple[Waiver, ...] = ()
    write_waivers: Path | None = None
    baseline: Path | None = None
    fail_on_difference: bool = False
    reports: tuple[Path, ...] = ()
    directories: tuple[Path, ...] = ()
    metadata: Mapping[str, str] = {}
    not_read: str = ""
    bounds: Bounds = field(default_factory=Bounds)
    allow_writes: bool = False
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def on(self, target: Target) -> Target:
        """Return a target with what decides how it is judged."""
        return replace(target, expiry_days=self.expiry_days, thresholds=self.profiles.thresholds)


def owned_sources(owned: Owned, announce: Announce | None, *, pulls: bool = True) -> list[EtcdSource]:
    """Return the etcd that each owned cluster is started from.

    Raises:
        UsageError: if there is no etcd to start a cluster from.
    """
    from pytest_etcdtls.etcd.sources import find_etcd

    if not owned.images and not owned.binaries:
        return [find_etcd(owned.backend, announce=announce, pulls=pulls)]
    return [
        *(find_etcd(image=image, announce=announce, pulls=pulls) for image in owned.images),
        *(find_etcd(binary=binary) for binary in owned.binaries),
    ]


REPORT_SUFFIXES = (".json", ".html", ".md", ".sarif", ".prom", ".baseline")
"""The file name suffixes that ``--etcd-report`` accepts."""
FLEET_SUFFIXES = (".html", ".md", ".prom")
"""Those that it accepts for all clusters of ``--etcd-clusters``."""

ENDPOINTS_VARIABLE = "ETCDCTL_ENDPOINTS"
"""etcdctl's variable with endpoints, which a run does not read, to prevent accidental runs."""

_GENTLE_PAUSE = 0.25
_BACKENDS = ("auto", "container", "process")


def read_settings(
    source: Source, *, live: bool, replays: bool = False, fleet: bool = False, waive: bool = True
) -> Settings:
    """Return the settings of a run.

    Args:
        source: the source of the values.
        live: whether the given endpoints are used.
        replays: whether the declaration is replayed on the etcds that are started.
        fleet: whether the clusters of a list are judged.
        waive: whether waivers are in force.

    Raises:
        UsageError: for the first value that is not valid.
    """
    settings = read_judging(source, live=live, replays=replays, waive=waive)
    reports, directories = _reports(source, fleet=fleet)
    return replace_fields(
        settings,
        reports=tuple(reports),
        directories=tuple(directories),
        write_waivers=_new_waivers(source),
        metadata=_metadata(source),
    )


def read_judging(source: Source, *, live: bool, replays: bool = False, waive: bool = True) -> Settings:
    """Return what decides how targets are judged, for a run or for one cluster of a list.

    Raises:
        UsageError: for the first value that is not valid.
    """
    waivers, baseline = source.path("etcd_waivers"), source.path("etcd_baseline")
    declared = read_declared(source) if live or replays else Declared()
    if live and source.flag("etcd_rehearse") and not source.texts(PID):
        raise UsageError(
            "--etcd-rehearse starts the program of a running etcd once more, and no process is named: add "
            "--etcd-pid=auto on the machine of etcd"
        )
    targets = live_targets(source, declared) if live else []
    owned = _owned(source)
    replay = read_replay(source, declared, owned.config.pki.key_type) if replays else None
    profiles = _profiles(
        source,
        [replay.declared]
        if replay
        else [member for target in targets for member in target.declared.values()],
    )
    compares = baseline is not None or (not targets and owned.names_several)
    if source.flag("etcd_fail_on_difference") and not compares:
        raise UsageError(
            "--etcd-fail-on-difference has nothing to compare: pass --etcd-baseline=report.json, or several "
            "--etcd-binary or --etcd-image"
        )
    suites_matter = baseline is not None or any(
        threshold.cipher_suites is not None or threshold.groups is not None or threshold.groups_one_of
        for threshold in profiles.thresholds.values()
    )
    sparing = source.flag("etcd_gentle") and not suites_matter
    return Settings(
        left_out=tuple(printable(why, LINE_LIMIT) for why in declared.left_out),
        live=tuple(replace(target, sparing=sparing and not target.declared) for target in targets),
        replay=replay,
        profiles=profiles,
        expiry_days=max(integer(source, "etcd_expiry_days", 30, least=0), profiles.expiry_days),
        owned=owned,
        patterns=source.texts("etcd_check", commas=True),
        strict=source.flag("etcd_strict"),
        allow_unverified=source.flag("etcd_allow_unverified"),
        waivers=read_waivers(waivers) if waivers is not None and waive else (),
        baseline=baseline,
        fail_on_difference=source.flag("etcd_fail_on_difference"),
        not_read=ENDPOINTS_VARIABLE if not targets and source.environment.get(ENDPOINTS_VARIABLE) else "",
        bounds=_bounds(source),
        allow_writes=source.flag("etcd_allow_writes"),
    )


def live_targets(source: Source, declared: Declared) -> list[Target]:
    """Return the live clusters. A process that was searched for may have no listener to judge.

    Raises:
        UsageError: as :func:`_live_target`; if none of the processes can be judged.
    """
    targets: list[Target] = []
    for cluster in declared.clusters:
        try:
            targets.append(_live_target(source, cluster))
        except UsageError as error:
            if not searches(source):
                raise
            source_of = ", ".join(member.declared.declaration.source for member in cluster)
            why = str(error) if source_of in str(error) else f"{source_of}: {error}"
            targets.append(unjudged_target(label_of(cluster), why))
    targets += declared.unjudged
    if all(reasons := [target.unjudged for target in targets]):
        raise UsageError(f"{option(PID)}: no etcd here can be judged: {some(reasons, _REASONS)}")
    return targets


_REASONS = 8
"""Maximum number of processes whose reason is given where none can be judged."""


def _live_target(source: Source, members: Members) -> Target:
    """Return a live cluster: the listeners that options name or its members declare, and the credentials.

    Raises:
        UsageError: if an endpoint or a file cannot be used.
    """
    via, (named, completed), discover = read_via(source), read_named(source), source.flag("etcd_discover")
    usable, unreached = add_declared(named, members)
    rules = read_connect_to(source)
    listeners = complete(usable, rules, via, may_grow=discover)
    every = {listener.member for listener in listeners} <= {member.label for member in members}
    of_files = CredentialSource()
    if members:
        of_files = declared_credentials(members)
    elif directory := pki_directory(source):
        of_files = read_directory(directory, source.origin(PKI_DIR), listeners)
    target = Target(
        label=_label(source, members),
        origin="live",
        listeners=listeners,
        expected=(*read_expected(source, listeners), *of_files.expected),
        logs={**_logs_of(members), **read_logs(source, listeners, may_grow=discover)},
        user=read_user(source),
        dials_with_another=roles_that_dial_with_another(members) if members and every else None,
        declared=MappingProxyType({member.label: member.declared for member in members}),
        running={each.label: each.running for each in members if each.running},
        apart=members[0].apart if members else "",
        searched=searches(source),
        rehearses=source.flag("etcd_rehearse"),
        unreached=unreached,
        completed=completed,
        connect_to=rules,
        discover=discover,
    )
    return add_credentials(target, source, _secret(source), of_files)


def read_replay(source: Source, declared: Declared, key_type: KeyType | None = None) -> ReplayPlan:
    """Return the declaration to replay on the etcds that are started.

    Args:
        source: the source of the values.
        declared: the members, of which there must be one.
        key_type: of the keys that are made instead of missing ones.

    Raises:
        UsageError: if there are several declarations, one cannot be read, or a file cannot be used.
    """
    from pytest_etcdtls.etcd.replay import ReplayPlan

    if declared.unjudged:
        raise UsageError(f"{option(PID)}: {declared.unjudged[0].unjudged}")
    members = tuple(itertools.chain(*declared.clusters))
    if len(members) != 1:
        raise UsageError(
            f"{option(PID if source.texts(PID) else CONFIG)} names {len(members)} members, and an etcd "
            "replays the declaration of one member: pass one, and run once for each"
        )
    [member] = members
    target = Target(
        label=member.label,
        origin="live",
        listeners=(),
        dials_with_another=roles_that_dial_with_another(members),
        declared={member.label: member.declared},
    )
    target = add_credentials(target, source, _secret(source), declared_credentials(members))
    return ReplayPlan(target=target, key_type=key_type)


def _secret(source: Source) -> CredentialSource:
    if source.text(SECRET) is None:
        return CredentialSource()
    # The reader, and YAML, are imported where there is something to read.
    from pytest_etcdtls.settings.secrets import read_secret_credentials

    return read_secret_credentials(source)


def _logs_of(members: Members) -> Mapping[str, LogSource]:
    """Return the first log of each process that writes one to a file of etcd's."""
    logs: dict[str, LogSource] = {}
    for member in members:
        for path in member.running.logs if member.running else ():
            if member.label not in logs:
                with suppress(UsageError):
                    logs[member.label] = log_file(path, option="--etcd-pid")
    return logs


def _label(source: Source, members: Members) -> str:
    """Return the name of the live cluster: that of its process, if it is one.

    Raises:
        UsageError: if it cannot be part of a node id.
    """
    label = source.text("etcd_label")
    if label is None:
        return label_of(members) if members and members[0].running else LIVE
    if not is_label(label):
        raise UsageError(f"--etcd-label {label!r}: a label has {LABEL}")
    return label


def _profiles(source: Source, declared: Sequence[DeclaredMember]) -> Profiles:
    """Return the named profiles; kubeadm's if none is named and a declaration has kubeadm's layout."""
    names = source.texts("etcd_profile", commas=True)
    manifests = [member.declaration.source for member in declared if is_kubeadm(member)]
    if not names and manifests:
        applied = f"{manifests[0]} has kubeadm's layout; --etcd-profile={NONE} applies none"
        return replace_fields(read_profiles((KUBEADM,), Path), applied=applied)
    return read_profiles(names, lambda name: source.resolve("etcd_profile", name))


def is_kubeadm(member: DeclaredMember) -> bool:
    """Return whether a declaration has kubeadm's layout: one CA for both ports, and kubeadm's file names."""
    declaration = member.declaration
    names = ("cert-file", "peer-cert-file", "trusted-ca-file", "peer-trusted-ca-file")
    files = [PurePosixPath(declaration.text(name) or "") for name in names]
    directory = files[0].parent
    return (
        declaration.form in (Form.MANIFEST, Form.PROCESS)
        and directory.name == "etcd"
        and files == [directory / name for name in ("server.crt", "peer.crt", "ca.crt", "ca.crt")]
    )


def _owned(source: Source) -> Owned:
    images = source.texts("etcd_image")
    binaries = tuple(_binary(source, text) for text in source.texts("etcd_binary"))
    backend = choice(source, "etcd_backend", "auto", _BACKENDS)
    if backend == "process" and images:
        raise UsageError("--etcd-image contradicts --etcd-backend=process: omit one of them")
    if backend == "container" and binaries:
        raise UsageError("--etcd-binary contradicts --etcd-backend=container: omit one of them")
    return Owned(
        backend=backend,
        images=images,
        binaries=binaries,
        config=_config(source),
        keep=source.flag("etcd_keep"),
        start_seconds=seconds(source, "etcd_start_timeout", START_SECONDS),
    )


def _binary(source: Source, text: str) -> str:
    """Return an absolute path, or a plain name unchanged, since that is looked up on ``PATH``.

    Raises:
        UsageError: if it is empty.
    """
    if not text:
        raise UsageError("--etcd-binary is empty: pass the path of an etcd, or etcd for that on PATH")
    path = source.resolve("etcd_binary", text)
    return str(path) if os.sep in text or is_there(path) else text


def _config(source: Source) -> ClusterConfig:
    config = ClusterConfig(size=int(choice(source, "etcd_size", "1", ("1", "3", "5"))))
    if source.text("etcd_key_type") is None:
        return config
    key_type = KeyType(choice(source, "etcd_key_type", "", [str(known) for known in KeyType]))
    return replace(config, pki=replace(config.pki, key_type=key_type))


def _bounds(source: Source) -> Bounds:
    gentle = source.flag("etcd_gentle")
    default = Bounds()
    return Bounds(
        timeout=seconds(source, "etcd_timeout", default.timeout),
        concurrency=1 if gentle else integer(source, "etcd_concurrency", default.concurrency),
        pause=_GENTLE_PAUSE if gentle else 0.0,
        max_connections=integer(source, "etcd_max_connections", default.max_connections),
    )


def _new_waivers(source: Source) -> Path | None:
    path = source.path("etcd_write_waivers")
    if path is not None and os.path.lexists(path):
        raise UsageError(
            f"--etcd-write-waivers {path} exists already, and is not overwritten: name a new file, or pass "
            "this one as --etcd-waivers"
        )
    return None if path is None else writable("--etcd-write-waivers", str(path), path)


def _reports(source: Source, *, fleet: bool) -> tuple[list[Path], list[Path]]:
    """Return the files and the directories of ``--etcd-report``.

    Raises:
        UsageError: for a suffix without a format, and for a path that cannot be written.
    """
    files: list[Path] = []
    directories: list[Path] = []
    for text in source.texts("etcd_report"):
        path = source.resolve("etcd_report", text)
        flag = f"--etcd-report {text!r}"
        if is_directory := text.endswith("/") or path.is_dir():
            if not fleet:
                raise UsageError(
                    f"{flag} is a directory, which gets a report of each cluster of --etcd-clusters: name a "
                    f"file in it, as in {path / 'report.json'}"
                )
        elif fleet and path.suffix not in FLEET_SUFFIXES:
            raise UsageError(
                f"{flag}: the reports on all of --etcd-clusters are {', '.join(FLEET_SUFFIXES)}, and a "
                "directory, as in --etcd-report=reports/, gets a JSON report of each. For another format "
                "judge one cluster alone, with --etcd-endpoint"
            )
        elif path.suffix not in REPORT_SUFFIXES:
            raise UsageError(f"{flag}: the suffix selects the format: use {', '.join(REPORT_SUFFIXES)}")
        writable("--etcd-report", text, path)
        (directories if is_directory else files).append(path)
    return files, directories


_MOST_KEYS, _LONGEST_KEY, _LONGEST_VALUE = 50, 64, 1024


def _metadata(source: Source) -> Mapping[str, str]:
    metadata: dict[str, str] = {}
    for text in source.texts("etcd_metadata"):
        key, between, value = text.partition("=")
        if not between or not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
            raise UsageError(
                f"--etcd-metadata {text!r} is no KEY=VALUE with a printable key of at most "
                f"{_LONGEST_KEY} characters"
            )
        metadata[key] = printable(value, _LONGEST_VALUE)
    if len(metadata) > _MOST_KEYS:
        raise UsageError(f"--etcd-metadata has {len(metadata)} keys: at most {_MOST_KEYS}")
    return metadata


def writable(flag: str, text: str, path: Path) -> Path:
    """Return the path of a file, or of a directory, in which a run writes at its end.

    Raises:
        UsageError: if it could not.
    """
    directory = path if path.is_dir() else path.parent
    if not directory.is_dir():
        problem = "is not a directory" if is_there(directory) else "does not exist"
        raise UsageError(f"{flag} {text!r}: {directory} {problem}")
    if not os.access(directory, os.W_OK):
        raise UsageError(f"{flag} {text!r}: {directory} cannot be written to")
    return path


_NAME = "etcd_log"


_IN_A_DIRECTORY = ("*.log", "etcd/*.log", "kube-system_etcd-*/etcd/*.log")
"""Where the log is in a directory: itself, that of a pod below ``/var/log/pods``, or ``/var/log/pods``."""


def _newest(path: Path, text: str) -> Path:
    """Return the log of a value of ``--etcd-log``: the file, or the newest one of a directory or a glob.

    Raises:
        UsageError: if no file is there.
    """
    if is_there(path) and not path.is_dir():
        return path
    patterns = [str(path / pattern) for pattern in _IN_A_DIRECTORY] if path.is_dir() else [str(path)]
    matches = next(filter(None, ([*filter(os.path.isfile, glob.glob(pattern))] for pattern in patterns)), [])
    if matches:
        return Path(max(matches, key=lambda path: (os.path.getmtime(path), path)))
    if path.is_dir():
        raise UsageError(f"{option(_NAME)} {text!r} is a directory without a file *.log: name etcd's log")
    if glob.has_magic(str(path)):
        raise UsageError(f"{option(_NAME)} {text!r} matches no file that this user may see")
    return path  # whose absence is reported with the other problems of files


def read_logs(
    source: Source, listeners: Sequence[Listener], *, may_grow: bool = False
) -> Mapping[str, LogSource]:
    """Return the logs by host; the log for all hosts has the empty string as key.

    Args:
        source: the source of the values.
        listeners: the named listeners.
        may_grow: whether listeners of other hosts may be discovered later.

    Raises:
        UsageError: if a file does not contain etcd's log, a host is not that of an endpoint, or two files are
            given for one member.
    """
    hosts = {listener.host for listener in listeners}
    return {
        host or "": log_file(_newest(path, text), option=option(_NAME))
        for host, path, text in read_by_host(source, _NAME, hosts, may_grow=may_grow)
    }
