"""What is started for a rehearsal: the program of the running etcd, with its settings and the files of now.

Three settings cannot stay as they are, since the etcd of a rehearsal has no data and no other members: those
about the cluster that it joins (``initial-cluster*``, ``discovery*``), ``wal-dir``, and a data directory that
does not exist. A log to the journal or to ``/dev/stderr`` goes to standard error: on the stage there is no
journal, and /proc is that of other processes. Each is changed in the form that has it, since etcd ends if a
flag shadows a variable. A value that etcd refuses stays.

The program is a stranger's, so it gets at most the rights of the process (``stage.py``). A declaration that
gives it another user is rehearsed only if the process could become that user.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from pytest_etcdtls.declared.declaration import (
    FILES,
    Declaration,
    Form,
    Setting,
    Via,
    declared_listeners,
    hosts_of,
    is_address,
)
from pytest_etcdtls.declared.files import ids_of, is_directory
from pytest_etcdtls.declared.flags import FLAG_OF
from pytest_etcdtls.declared.running import PROC, Process, RunningMember
from pytest_etcdtls.declared.yaml_files import edited
from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.run.rehearsal.stage import Plan
from pytest_etcdtls.run.rehearsal.system_calls import filter_program, keyctl
from pytest_etcdtls.tls.connection import addresses_of
from pytest_etcdtls.tls.namespace import network_of
from pytest_etcdtls.untrusted.process_user import ProcessUser, user_of
from pytest_etcdtls.untrusted.regular_files import read_regular

_LARGEST: Final = 4 * 1024 * 1024
_OF_THE_START: Final = frozenset(
    ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
) | {"JOURNAL_STREAM", "INVOCATION_ID"}
"""Variables by which systemd and a program that it started find each other (sd_notify(3))."""
_ONLY_OUTSIDE: Final = frozenset({"systemd/journal", "/dev/stderr", "/dev/stdout"})
"""Outputs of the log that do not exist on the stage."""
_STREAMS: Final = _ONLY_OUTSIDE | {"stderr", "stdout", "default"}
_LISTS: Final = ("log-outputs", "log-output")
"""Settings that are lists in a configuration file."""
_IDs = tuple[int, int, tuple[int, ...]]
"""The IDs of a user, of its group, and of further groups."""
_BECOMES: Final = 1 << 6 | 1 << 7
"""The capabilities ``CAP_SETGID`` and ``CAP_SETUID``."""
_BIND_SERVICE: Final = 1 << 10
"""The capability ``CAP_NET_BIND_SERVICE``."""
_FIRST_HIGH_PORT: Final = 1024
_NAMES: Final = 8
"""Maximum number of names in URLs that are resolved for a rehearsal."""
_SECONDS: Final = 2.0
"""How long the resolver may take for a name."""
_DISCOVERY: Final = ("discovery", "discovery-srv", "discovery-endpoints")


def plan_of(running: RunningMember, declaration: Declaration) -> Plan:
    """Return the plan of a start of the running etcd with a declaration.

    Args:
        running: the running etcd.
        declaration: that of the process itself, or the one that ``--etcd-config`` names for it.

    Raises:
        NotVerifiedError, UnreadableFileError, OSError: if it cannot be rehearsed.
    """
    process, own = running.process, running.declared.declaration
    if process.embedded:
        raise NotVerifiedError("it runs etcd within another program, which is not started again")
    here, user = PROC / str(process.pid), user_of(process.pid)
    for line in _text(here / "mountinfo").splitlines():
        source, place = line.split()[3:5]
        if source.endswith("//deleted") and place in map(declaration.text, FILES):
            source = source.removesuffix("//deleted")
            why = f"{place} is mounted by itself, and {source} was replaced"
            raise NotVerifiedError(f"{why}: a container that is started again has the new file")
    argv = _words(here / "cmdline")
    variables = (word.partition("=")[::2] for word in reversed(_words(here / "environ")) if "=" in word)
    environment = {
        name: value
        for name, value in dict(variables).items()
        if name not in _OF_THE_START and not (user.secure and name.startswith("LD_"))  # ld.so(8)
    }
    ids = user.uid, user.gid, user.groups
    if declaration is not own:
        argv, environment = _declared(declaration, running, argv[0], environment)
        ids = _declared_ids(declaration, process, user)
    configuration, changes = declaration.started_with.configuration, dict(_changes(declaration, running))
    if configuration is not None:
        values = {key: value.split(",") if key in _LISTS else value for key, value in changes.items()}
        configuration = edited(
            configuration,
            lambda keys: {key: keys[key] for key in keys if str(key).lower() not in changes} | values,
        )
    else:
        for name, value in changes.items():
            given = declaration.settings.get(name)
            if given is not None and given.via is Via.VARIABLE:
                environment[given.spelled] = value
            else:
                argv.append(f"--{name}={value}")
    outputs = [output for name in _LISTS for output in declaration.words(name)]
    logs = [output for output in outputs if output not in _STREAMS]
    urls = [one.url for one in declared_listeners(declaration)]
    sockets = [url.host for url in urls if url.is_socket]
    has_low_port = any(url.port < _FIRST_HIGH_PORT for url in urls if not url.is_socket)
    return Plan(
        pid=process.pid,
        seen=user.seen,
        program=argv[0] if argv[0].startswith("/") else "",
        argv=tuple(argv),
        environment={**environment, "GOMAXPROCS": "2"},  # threads and their memory are for two processors
        user=ids[0],
        group=ids[1],
        groups=ids[2],
        capabilities=user.capabilities,
        low_ports=has_low_port and bool(user.capabilities & _BIND_SERVICE),
        umask=user.umask,
        label=user.label,
        working=running.declared.paths.working,
        data=changes.get("data-dir") or _data(declaration),
        system_calls=filter_program(sockets=bool(sockets)).hex(),
        keyctl=keyctl(),
        written=tuple(str(PurePosixPath(path).parent) for path in (*logs, *sockets)),
        logs=tuple(logs),
        config_file=(own if declaration.form is Form.YAML else declaration).config_file or "",
        configuration=configuration,
        hosts="".join(_hosts(declaration, process.pid)),
    )


def _text(path: Path) -> str:
    return read_regular(path, _LARGEST).decode("utf-8", "surrogateescape")


def _words(path: Path) -> list[str]:
    return _text(path).removesuffix("\0").split("\0")


def _data(declaration: Declaration) -> str:
    return declaration.text("data-dir") or f"{declaration.name}.etcd"


def _changes(declaration: Declaration, running: RunningMember) -> Iterator[tuple[str, str]]:
    """Yield the settings with which etcd starts as the only member of a new cluster."""
    given = [name for name in (*_DISCOVERY, "initial-cluster") if declaration.text(name)]
    if len(given) < 2:  # etcd refuses two
        urls = declaration.text("initial-advertise-peer-urls") or "http://localhost:2380"
        yield "initial-cluster", ",".join(f"{declaration.name}={url}" for url in urls.split(","))
        yield from ((name, "") for name in given if name in _DISCOVERY)
        if given == ["discovery-endpoints"] and declaration.text("discovery-token"):
            yield "discovery-token", ""
    if declaration.text("initial-cluster-state") == "existing":
        yield "initial-cluster-state", "new"
    data = _data(declaration)
    if not is_directory(running.declared.paths.of_process(data)):
        data = _data(running.declared.declaration)
        yield "data-dir", data
    if declaration.text("wal-dir"):
        yield "wal-dir", f"{data}/wal"
    for name in _LISTS:
        outputs = declaration.words(name)
        if not _ONLY_OUTSIDE.isdisjoint(outputs):
            yield name, ",".join(dict.fromkeys("stderr" if one in _ONLY_OUTSIDE else one for one in outputs))


def _declared(
    declaration: Declaration, running: RunningMember, program: str, environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment that a declaration gives etcd."""
    started, own = declaration.started_with, running.declared.declaration
    unknown = unknown_of(declaration, own)
    arguments = [one if isinstance(one, str) else f"{one.spelled}={one.value}" for one in started.arguments]
    if declaration.form is Form.YAML:
        arguments = [f"--config-file={own.config_file}"] if own.config_file else []
        if not arguments:
            raise NotVerifiedError(f"{declaration.source} is a configuration file, and it has none")
    arguments += [f"--{name}={one.value}" for name, one in unknown.items() if one.via is Via.FLAG]
    variables = {
        name: value
        for name, value in environment.items()
        if name not in FLAG_OF and name not in own.go_environment
    }
    variables |= dict(declaration.go_environment)
    variables |= {
        one.spelled: one.value for one in (*unknown.values(), *started.variables) if one.via is Via.VARIABLE
    }
    return [program, *arguments], variables


def unknown_of(declaration: Declaration, own: Declaration) -> dict[str, Setting]:
    """Return the settings whose value the process alone has, such as the address of a pod."""
    return {name: own.settings[name] for name in declaration.started_with.left_out & own.settings.keys()}


def _declared_ids(declaration: Declaration, process: Process, user: ProcessUser) -> _IDs:
    """Return the declared IDs of user, group and further groups; those of the process if not known.

    Raises:
        NotVerifiedError: if the process cannot become that user, so it would get the rights of another one.
    """
    declared, ids = declaration.run_as, (user.uid, user.gid, user.groups)
    if declared is None or declared.user in (str(user.uid), ""):
        return ids
    named = not all(text.isdecimal() for text in (declared.user, declared.group, *declared.others) if text)
    if named and os.readlink(PROC / str(process.pid) / "root") != "/":
        return ids  # this machine does not know the users of a container
    try:
        uid, gid, groups = ids_of(declared)
    except KeyError:
        return ids
    then = uid, gid or 0, tuple(sorted(groups))
    if then != ids and (user.uid != 0 or ~user.capabilities & _BECOMES):
        raise NotVerifiedError(
            f"{declaration.source} declares user {uid}, and it runs as user {user.uid}: a rehearsal gives it "
            "no rights of another user"
        )
    return then


def _hosts(declaration: Declaration, process: int) -> Iterator[str]:
    """Yield lines of hosts(5) for the names in URLs. They are resolved where etcd resolves them."""
    names = [
        host
        for host in hosts_of(declaration)
        if re.fullmatch(r"[A-Za-z0-9._-]+", host) and not is_address(host) and host != "localhost"
    ]
    for host in names[:_NAMES]:
        with suppress(OSError), network_of(process):
            for address in sorted(addresses_of(host, _SECONDS))[:1]:
                yield f"\n{address} {host}\n"
