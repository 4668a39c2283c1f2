"""Writes the declaration of a misconfigured etcd, applies the diff of its remedies, and starts it again."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from kubeadm.judging import target
from starting import start_process, write_manifest, write_unit
from zoo.model import Misconfigured, found

from pytest_etcdtls.cluster.member import Member
from pytest_etcdtls.cluster.sources import binary_version
from pytest_etcdtls.declared.declaration import Declaration, Setting
from pytest_etcdtls.declared.flags import LISTS, SECTIONS, variable_of
from pytest_etcdtls.declared.reading import from_command_line, read_declaration
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.judge import fix, run_checks
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.registry import select
from pytest_etcdtls.results import CheckResult, Outcome

FORMS = ("manifest", "unit", "script", "environment", "yaml")


def write(member: Member, form: str, path: Path) -> None:
    """Write a declaration with which the member could have been started."""
    if form == "manifest":
        write_manifest(member, path)
        if member.variables:
            pod = yaml.safe_load(path.read_text(encoding="utf-8"))
            env = [{"name": name, "value": value} for name, value in member.variables.items()]
            pod["spec"]["containers"][0]["env"] = env
            path.write_text(yaml.safe_dump(pod, sort_keys=False), encoding="utf-8")
    elif form == "unit":
        write_unit(member, path)
        lines = [f"Environment={name}={value}\n" for name, value in member.variables.items()]
        path.write_text(
            path.read_text(encoding="utf-8").replace("Type=notify\n", "".join(["Type=notify\n", *lines])),
            encoding="utf-8",
        )
    elif form == "script":
        assignments = [f"{name}={value}" for name, value in member.variables.items()]
        path.write_text(
            " \\\n  ".join([*assignments, "exec " * (not assignments) + "etcd", *member.argv[1:]]) + "\n",
            encoding="utf-8",
        )
    else:
        settings = from_command_line(member.argv, member.variables).settings.values()
        if form == "yaml" and any("crl" in one.name for one in settings):
            raise UsageError("a configuration file has no key for a CRL")
        text = _environment(settings) if form == "environment" else _yaml(settings)
        path.write_text(text, encoding="utf-8")


def _environment(settings: Iterable[Setting]) -> str:
    return "# etcd\n" + "".join(f'{variable_of(one.name)}="{one.value}"\n' for one in settings)


def _yaml(settings: Iterable[Setting]) -> str:
    keys = {flag: (section, key) for section, of in SECTIONS.items() for key, flag in of.items()}
    document: dict[str, object] = {}
    for setting in settings:
        section, key = keys.get(setting.name, ("", setting.name))
        value: object = yaml.safe_load(setting.value) if not setting.name.endswith("file") else setting.value
        if key in LISTS:
            value = setting.value.split(",")
        place = document.setdefault(section, {}) if section else document
        assert isinstance(place, dict)
        place[key] = value
    return yaml.safe_dump(document, sort_keys=False)


def options(member: Member, declaration: Path) -> Mapping[str, str]:
    """Return what a user passes who has the credentials of a client and of a peer."""
    names = {
        "etcd_cacert": "server-ca.crt",
        "etcd_cert": "client.crt",
        "etcd_key": "client.key",
        "etcd_peer_cacert": "peer-ca.crt",
        "etcd_peer_cert": "peer-client.crt",
        "etcd_peer_key": "peer-client.key",
    }
    return {"etcd_config": str(declaration), **{name: str(member.file(file)) for name, file in names.items()}}


def judged(given: Mapping[str, str]) -> tuple[Observer, list[CheckResult]]:
    observer = Observer(target(**given))
    return observer, run_checks(observer, select(("!lifecycle",)))


@contextmanager
def started(binary: Path, declaration: Declaration) -> Iterator[None]:
    """Start etcd as a declaration says, with new data, until it serves."""
    start = declaration.started_with
    words = [f"--{one.name}={one.value}" if isinstance(one, Setting) else one for one in start.arguments]
    if start.configuration is not None and not words:
        words = [f"--config-file={declaration.source}"]
    shutil.rmtree(declaration.settings["data-dir"].value, ignore_errors=True)
    process = subprocess.Popen(
        [binary, *words],
        env={one.spelled: one.value for one in start.variables} | dict(declaration.go_environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    log: list[str] = []
    assert process.stderr is not None
    rest = threading.Thread(target=process.stderr.read)
    try:
        for line in process.stderr:
            log.append(line)
            if "ready to serve client requests" in line:
                break
        else:
            raise AssertionError("etcd does not start:\n" + "".join(log[-5:]))
        rest.start()
        yield
    finally:
        process.kill()
        if rest.ident:
            rest.join()
        process.stderr.close()
        process.wait()


@dataclass(frozen=True)
class Patched:
    """What was found before and after the diff was applied; without a diff, nothing after it."""

    version: str
    diff: str
    before: list[CheckResult]
    after: list[CheckResult]

    @property
    def before_ids(self) -> set[str]:
        """The ids of the checks with findings before."""
        return _found(self.before)

    @property
    def after_ids(self) -> set[str]:
        """The ids of the checks with findings after it."""
        return _found(self.after)

    @property
    def faults(self) -> set[str]:
        """The ids of the checks that failed the run."""
        return {one.check for one in self.before if one.outcome is Outcome.VIOLATES}

    @property
    def failed(self) -> dict[str, dict[str, set[str]]]:
        """What fails the run after the diff was applied."""
        seen = found(self.after)
        return {name: seen[name] for name in ("violates", "inconclusive", "broken") if seen[name]}


def _found(results: list[CheckResult]) -> set[str]:
    return {one.check for one in results if one.outcome in (Outcome.VIOLATES, Outcome.WARNS)}


def patched(zoo: Misconfigured, binary: Path, form: str, directory: Path) -> Patched:
    """Judge a member of the zoo by its declaration, apply the diff, start it and judge again.

    Raises:
        UsageError: if it cannot be expressed in this version, or in this form.
    """
    if not zoo.is_of(version := binary_version(binary)):
        raise UsageError(version)
    etcd = zoo.etcd(binary, directory) if zoo.etcd else binary
    path = directory / "declaration"
    with start_process(zoo.config, etcd) as cluster:
        if zoo.after_start is not None:
            zoo.after_start(cluster)
        [member] = cluster.members
        write(member, form, path)
        observer, before = judged(options(member, path))
        remedy = fix([(observer, before)])
        if not remedy.diff:
            return Patched(version, "", before, [])
        subprocess.run(
            ["patch", "-p1", "-d", "/", "--no-backup-if-mismatch"],
            input=remedy.diff,
            encoding="utf-8",
            check=True,
            capture_output=True,
        )
        member.server.terminate()
        member.server.stop(5)
        with started(binary, read_declaration(path)):
            _, after = judged(options(member, path))
    return Patched(version, remedy.diff, before, after)
