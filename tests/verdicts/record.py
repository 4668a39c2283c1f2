"""Keeps what the code judges as a file: ``python -m verdicts.record OUT.json.gz``.

``tests`` must be on the path. The subjects are the zoo and the presets on each etcd, and runs with other
options on the newest. Exit code 1 if something could not be judged.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from starting import write_manifest
from zoo.judging import start_member
from zoo.members import ZOO

from pytest_etcdtls import PRESETS, Cluster, ClusterStartError, UsageError, start_cluster
from pytest_etcdtls.versions import version_key
from verdicts.judging import Values, through_api, through_pytest
from verdicts.volatile import Volatile

_FOREIGN = ("ETCD_", "ETCDCTL_", "PYTEST_", "PYTHONDONTWRITEBYTECODE")
"""How the names of variables begin that etcd, etcdctl and pytest read. Without compiled modules each run of
pytest compiles the whole plugin."""

RUNS: Mapping[str, Sequence[str]] = {
    "owned": ("--etcd-conformance",),
    "three members": ("--etcd-size=3", "--etcd-check=listener,mtls,cluster,config"),
    "discovered": ("{live}", "--etcd-discover", "-v"),
    "with its log": ("{live}", "--etcd-log={log}"),
    "strict": ("{live}", "--etcd-strict", "-v"),
    "gentle": ("{live}", "--etcd-gentle"),
    "profiles": ("{live}", "--etcd-profile=nist-800-52r2", "--etcd-profile=cis-kubernetes"),
    "verbose": ("{live}", "-vv"),
    "one check": ("{live}", "--etcd-check=mtls.no-certificate"),
    "two processes": ("{live}", "-n2"),
}
"""Runs of pytest; ``{live}`` stands for the declaration and the credentials of the default cluster."""


class Subject(NamedTuple):
    """What is judged, on an etcd. What is alike on all of them is judged on the newest."""

    group: str
    name: str
    version: str
    binary: Path
    newest: bool

    def __str__(self) -> str:
        return f"{self.group}/{self.name}/{self.version}"


def _subjects(binaries: Mapping[str, Path], versions: Sequence[str]) -> Iterator[Subject]:
    newest = max(binaries, key=version_key)
    if newest in versions:
        yield from (Subject("runs", name, newest, binaries[newest], True) for name in RUNS)
    for version in versions:
        rest = version, binaries[version], version == newest
        yield from (Subject("presets", name, *rest) for name in PRESETS)
        yield from (Subject("zoo", member.name, *rest) for member in ZOO if member.is_of(version))


def _judge(subject: Subject) -> Values:
    directory = Path(tempfile.mkdtemp(prefix="verdicts-"))
    try:
        return _JUDGES[subject.group](subject, directory)
    except (UsageError, ClusterStartError) as error:
        # A release that has no such flag, or that does not start so.
        return {"not started": Volatile({}).text(f"{type(error).__name__}: {error}")}
    except Exception:
        return {"failed": traceback.format_exc()}
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _judge_member(subject: Subject, directory: Path) -> Values:
    [member] = [member for member in ZOO if member.name == subject.name]
    with start_member(member, subject.binary, directory) as cluster:
        found = {"api": through_api(cluster.target(), member.checks)}
        if subject.newest:
            found["declared"] = _through_pytest(cluster, _declared(cluster, directory), directory)
    return found


def _judge_preset(subject: Subject, directory: Path) -> Values:
    with start_cluster(PRESETS[subject.name].config, binary=str(subject.binary)) as cluster:
        live = [
            f"--etcd-{option}={url}"
            for member in cluster.members
            for option, url in (
                ("endpoint", member.client_url),
                ("peer-endpoint", member.peer_url),
                ("metrics-endpoint", member.metrics_url),
                ("client-http-endpoint", member.client_http_url),
            )
            if url
        ]
        found = {"api": through_api(cluster.target(), ["!lifecycle"])}
        found["live"] = _through_pytest(cluster, live, directory, ("md", "sarif", "html"))
        if subject.newest:
            found["declared"] = _through_pytest(cluster, _declared(cluster, directory), directory)
    return found


def _judge_run(subject: Subject, directory: Path) -> Values:
    first, *others = RUNS[subject.name]
    if first != "{live}":
        words = [*RUNS[subject.name], f"--etcd-binary={subject.binary}"]
        return {"run": through_pytest(words, Volatile({}), directory)}
    with start_cluster(binary=str(subject.binary)) as cluster:
        log = cluster.directory / cluster.members[0].name / "etcd.log"
        options = [*_declared(cluster, directory), *(option.format(log=log) for option in others)]
        return {"run": _through_pytest(cluster, options, directory, ("md",))}


_JUDGES = {"zoo": _judge_member, "presets": _judge_preset, "runs": _judge_run}


def _declared(cluster: Cluster, directory: Path) -> list[str]:
    """Return the options that name the declaration of each member."""
    for member in cluster.members:
        write_manifest(member, directory / f"{member.name}.yaml")
    return [f"--etcd-config={directory / member.name}.yaml" for member in cluster.members]


_FILES = {
    "--etcd-cacert": "server-ca.crt",
    "--etcd-cert": "client.crt",
    "--etcd-key": "client.key",
    "--etcd-peer-cacert": "peer-ca.crt",
    "--etcd-peer-cert": "peer-client.crt",
    "--etcd-peer-key": "peer-client.key",
    "--etcd-trusted-ca": "client-ca.crt",
    "--etcd-peer-trusted-ca": "peer-ca.crt",
}


def _through_pytest(
    cluster: Cluster, options: Sequence[str], directory: Path, formats: Sequence[str] = ()
) -> Values:
    """Judge a cluster by a run of pytest, with those of its credentials that it has."""
    declared = any(option.startswith("--etcd-config") for option in options)
    files = {
        option: cluster.members[0].file(name)
        for option, name in _FILES.items()
        if not (declared and "trusted" in option)
    }
    words = [*options, *(f"{option}={path}" for option, path in files.items() if path.exists())]
    if cluster.user is not None:
        name, password = cluster.user
        (directory / "password").write_text(password, encoding="utf-8")
        words += [f"--etcd-user={name}", f"--etcd-password-file={directory / 'password'}"]
    ports = {listener.address[1]: listener.label for listener in cluster.target().listeners}
    place = directory / ("declared" if declared else "live")
    place.mkdir()
    return through_pytest(words, Volatile(ports), place, formats)


def append(path: Path, name: str, values: Values) -> None:
    """Append a subject: a line of JSON, compressed by itself. A run that ends early loses nothing."""
    line = json.dumps({"subject": name, "values": values}, ensure_ascii=False)
    with path.open("ab") as file:
        file.write(gzip.compress(f"{line}\n".encode()))


def read(path: Path) -> dict[str, Values]:
    """Return the subjects of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        subjects: list[dict[str, Any]] = list(map(json.loads, file))
    return {subject["subject"]: subject["values"] for subject in subjects}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say and return the exit code."""
    parser = argparse.ArgumentParser(prog="verdicts.record", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path, metavar="OUT.json.gz")
    parser.add_argument("--only", action="append", choices=list(_JUDGES), help="this group; repeatable")
    parser.add_argument("--name", action="append", help="these subjects alone; repeatable")
    parser.add_argument("--etcd", action="append", metavar="VERSION", help="on this etcd; repeatable")
    parser.add_argument("--jobs", type=int, default=2, help="subjects at a time (default 2)")
    options = parser.parse_args(arguments)
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    binaries: dict[str, Path] = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))[
        "find_binaries"
    ]()
    subjects = [
        subject
        for subject in _subjects(binaries, options.etcd or list(binaries))
        if (options.only is None or subject.group in options.only)
        and (options.name is None or subject.name in options.name)
    ]
    options.output.write_bytes(b"")
    failed = 0
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(_judge, subject): str(subject) for subject in subjects}
        for number, done in enumerate(as_completed(waiting), 1):
            values = done.result()
            append(options.output, waiting[done], values)
            if "failed" in values:
                failed += 1
                print(f"{waiting[done]} could not be judged: {values['failed']}", flush=True)
            if not number % 20 or number == len(subjects):
                print(f"{number} of {len(subjects)}, now {waiting[done]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
