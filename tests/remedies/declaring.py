"""Writes the declaration of a misconfigured etcd, applies printed settings to it, and starts it again."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from starting import running_etcd, write_manifest

from pytest_etcdtls.declared.declaration import Declaration, Setting
from pytest_etcdtls.declared.flags import LISTS, SECTIONS, variable_of
from pytest_etcdtls.declared.reading import from_command_line
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.member import Member

FORMS = ("manifest", "process", "environment", "yaml")


def write(member: Member, form: str, path: Path) -> None:
    """Write a declaration with which the member could have been started."""
    settings = from_command_line(member.argv, member.variables).settings.values()
    if form == "manifest":
        write_manifest(member, path)
        if member.variables:
            pod = yaml.safe_load(path.read_text(encoding="utf-8"))
            env = [{"name": name, "value": value} for name, value in member.variables.items()]
            pod["spec"]["containers"][0]["env"] = env
            path.write_text(yaml.safe_dump(pod, sort_keys=False), encoding="utf-8")
    elif form == "process":
        assignments = [f"{name}={value}" for name, value in member.variables.items()]
        words = (*assignments, "etcd", *member.argv[1:])
        path.write_text("".join(f"{word}\0" for word in words), encoding="utf-8")
    elif form == "environment":
        path.write_text(
            "".join(f'{variable_of(setting.name)}="{setting.value}"\n' for setting in settings),
            encoding="utf-8",
        )
    elif any("crl" in setting.name for setting in settings):
        raise UsageError("a configuration file has no key for a CRL")
    else:
        path.write_text(yaml.safe_dump(_keys(settings), sort_keys=False), encoding="utf-8")


def _keys(settings: Iterable[Setting]) -> dict[str, Any]:
    keys = {flag: (section, key) for section, of in SECTIONS.items() for key, flag in of.items()}
    document: dict[str, Any] = {}
    for setting in settings:
        section, key = keys.get(setting.name, ("", setting.name))
        value = yaml.safe_load(setting.value) if not setting.name.endswith("file") else setting.value
        place = document.setdefault(section, {}) if section else document
        place[key] = setting.value.split(",") if key in LISTS else value
    return document


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


@dataclass(kw_only=True)
class Start:
    """What etcd is started with."""

    arguments: list[str]
    variables: dict[str, str]
    configuration: dict[str, Any] | None = None
    go: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, declaration: Declaration) -> Start:
        """Return how a declaration starts etcd."""
        start = declaration.started_with
        words = [
            f"--{argument.name}={argument.value}" if isinstance(argument, Setting) else argument
            for argument in start.arguments
        ]
        return cls(
            arguments=words,
            variables={variable.spelled: variable.value for variable in start.variables},
            configuration=None if start.configuration is None else yaml.safe_load(start.configuration),
            go=dict(declaration.go_environment),
        )

    def apply(self, line: str) -> None:
        """Do what a printed line says: ``- `` removes a setting, ``+ `` writes one."""
        text, _, comment = line[2:].rpartition("  # ")
        writes = {"+ ": True, "- ": False}[line[:2]]
        if text.startswith("--"):
            [word] = shlex.split(text)
            name = word.partition("=")[0]
            others = [argument for argument in self.arguments if argument.partition("=")[0] != name]
            self.arguments = [*others, word] if writes else others
        elif variable := re.fullmatch(r"(ETCD_\w+)=(.*)", text):
            self.variables.pop(variable[1], None)
            if writes:
                [self.variables[variable[1]]] = shlex.split(variable[2]) or [""]
        else:
            assert self.configuration is not None, line
            section = comment.partition(", ")[0] if ", " in comment else ""
            place = self.configuration.setdefault(section, {}) if section else self.configuration
            [(key, value)] = yaml.safe_load(text).items()
            place.pop(key, None)
            if writes:
                place[key] = value

    def write(self, directory: Path) -> Path:
        """Write what it is into files of that directory, and return the copy of a process."""
        words = [argument for argument in self.arguments if not argument.startswith("--config-file=")]
        if self.configuration is not None:
            file = directory / "etcd.conf.yml"
            file.write_text(yaml.safe_dump(self.configuration, sort_keys=False), encoding="utf-8")
            words = [f"--config-file={file}"]
        assignments = [f"{name}={value}" for name, value in (self.variables | self.go).items()]
        start = directory / "started"
        start.write_text("".join(f"{one}\0" for one in (*assignments, "etcd", *words)), encoding="utf-8")
        return start


@contextmanager
def started(binary: Path, declaration: Declaration, directory: Path) -> Iterator[None]:
    """Start etcd as a declaration says, with new data, until it serves."""
    start = Start.of(declaration)
    shutil.rmtree(declaration.settings["data-dir"].value, ignore_errors=True)
    command: list[str | Path] = [binary, *start.arguments]
    with running_etcd(command, directory / "cured.log", start.variables | start.go) as etcd:
        assert etcd.serves(), f"etcd does not start with {start}:\n{etcd.text[-2000:]}"
        yield
