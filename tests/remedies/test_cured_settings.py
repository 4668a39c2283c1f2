"""The printed settings are applied, and etcd started with them: it is CLEAN, and lets nobody new in.

Each misconfigured etcd that its declaration can cure is declared in one of the forms in turn, judged as a
user does who has the declaration, given the settings of all faults, and judged again with new data.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from declared.declaring import read_declaration
from kubeadm.judging import target
from starting import running_etcd, write_manifest
from zoo import baseline
from zoo.members import ZOO
from zoo.model import Misconfigured, explain, found, start_member

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.cures import PLACEHOLDER
from pytest_etcdtls.declared.declaration import Declaration, Setting
from pytest_etcdtls.declared.flags import LISTS, SECTIONS, variable_of
from pytest_etcdtls.declared.reading import declared_member, from_command_line
from pytest_etcdtls.declared.situation import Situation
from pytest_etcdtls.declared.traps.unread import hidden_into_file
from pytest_etcdtls.errors import UnobservedError, UsageError
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.member import Member
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.facts.access_matrix import IdentityAttempts
from pytest_etcdtls.pki.bundle import encode_key
from pytest_etcdtls.report.model import faults
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.remedies import remedy
from pytest_etcdtls.target import Target
from pytest_etcdtls.versions import version_key

FORMS = ("manifest", "process", "environment", "yaml")

CURED = (
    *("client-no-auth", "peers-without-tls", "client-auth-hidden", "rc4", "client-auto-tls", "peer-no-auth"),
    *("v2-enabled", "pprof-enabled", "log-level-debug", "peer-auto-tls"),
    *("client-system-roots", "http-beside-https", "http-url-that-is-not-served", "advertises-nowhere"),
    *("advertises-http", "trusted-ca-alone"),
    *("peer-names-without-client-auth", "crl-without-client-auth"),
    *("versions-not-in-force", "suites-not-in-force", "client-auth-undeclared"),
    *("suites-without-those-of-http2", "tls12-only", "triple-des", "rsa-key-exchange", "cbc"),
    *("no-forward-secrecy", "rsa-key-with-suites-for-ecdsa", "ecdsa-key-with-suites-for-rsa"),
    *("no-suite-fits-and-tls12-only", "client-hostname-not-in-force"),
    *("peer-hostname-not-in-force", "peer-cn-not-in-force", "peer-san-unchecked"),
)
"""What settings can cure. In the others a file is wrong, or what runs is not what is declared."""

BROUGHT_ABOUT = {
    # A rule that is in force again, and that etcd applies to its own gateway, which cannot satisfy it.
    "client-hostname-not-in-force": {"api.gateway-works"},
}
GOOD_CLIENT_WAS_REFUSED = {
    *("client-system-roots", "client-auth-undeclared"),  # without a bundle, system roots are trusted
    "ecdsa-key-with-suites-for-rsa",
    *("rsa-key-with-suites-for-ecdsa", "no-suite-fits-and-tls12-only"),
}
"""Where good clients are accepted again."""
WITHOUT_A_KEY = ("client-hostname-not-in-force", "peer-hostname-not-in-force", "peer-cn-not-in-force")
"""What a configuration file cannot have before etcd 3.6: the remedy is a sentence."""
ITS_OWN_PAIR = {
    "peer-hostname-not-in-force": {"peer-m0"},  # not tried before, since the first good identity was accepted
}
"""Where the member's own pair is accepted, as its peers must accept it."""

NO_OPENING = (
    Misconfigured(
        name="hidden-flag-that-opens",
        what="the configuration file hides a flag that would open the peer port",
        config=ClusterConfig(config_file=True, extra_flags=("--peer-client-cert-auth=false",)),
    ),
    *(one for one in ZOO if one.name in ("client-wrong-ca", "peer-wrong-ca", "client-bundle-empty")),
)
"""Where a change of settings would let somebody in who is refused, or replace the declared bundle."""


def _write(member: Member, form: str, path: Path) -> None:
    """Write a declaration with which the member could have been started."""
    environment = member.server.launch.environment
    settings = from_command_line(member.argv, environment).settings.values()
    if form == "manifest":
        write_manifest(member, path)
        if environment:
            pod = yaml.safe_load(path.read_text(encoding="utf-8"))
            env = [{"name": name, "value": value} for name, value in environment.items()]
            pod["spec"]["containers"][0]["env"] = env
            path.write_text(yaml.safe_dump(pod, sort_keys=False), encoding="utf-8")
    elif form == "process":
        assignments = [f"{name}={value}" for name, value in environment.items()]
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
        path.write_text(yaml.safe_dump(_document(settings), sort_keys=False), encoding="utf-8")


def _document(settings: Iterable[Setting]) -> dict[str, Any]:
    keys = {flag: (section, key) for section, of in SECTIONS.items() for key, flag in of.items()}
    document: dict[str, Any] = {}
    for setting in settings:
        section, key = keys.get(setting.name, ("", setting.name))
        value = yaml.safe_load(setting.value) if not setting.name.endswith("file") else setting.value
        place = document.setdefault(section, {}) if section else document
        place[key] = setting.value.split(",") if key in LISTS else value
    return document


def _options(member: Member, declaration: Path) -> dict[str, str]:
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
def _started(binary: Path, declaration: Declaration, directory: Path) -> Iterator[None]:
    """Start etcd as a declaration says, with new data, until it serves."""
    start = Start.of(declaration)
    shutil.rmtree(declaration.settings["data-dir"].value, ignore_errors=True)
    command: list[str | Path] = [binary, *start.arguments]
    with running_etcd(command, directory / "cured.log", start.variables | start.go) as etcd:
        assert etcd.serves(), f"etcd does not start with {start}:\n{etcd.text[-2000:]}"
        yield


@dataclass(frozen=True)
class Applied:
    """What was found before and after the settings were applied; without any, nothing after it."""

    version: str
    settings: Sequence[str]
    before: list[CheckResult]
    after: list[CheckResult]
    new: set[tuple[str, str]]


def _found(results: list[CheckResult]) -> set[str]:
    return {result.check for result in results if result.outcome in (Outcome.VIOLATES, Outcome.WARNS)}


def _settings(results: list[CheckResult]) -> Iterator[str]:
    """Yield the lines of all faults, also of warnings; the most severe ones last."""
    for outcome in (Outcome.WARNS, Outcome.VIOLATES):
        for fault in reversed(faults(results, outcome)):
            yield from fault.settings


def _with_files(line: str, member: Member) -> str:
    """Write the paths that only the operator knows into a line: those of a good etcd."""
    good, [file] = ClusterConfig(), re.findall(rf"{PLACEHOLDER}/([a-z-]+\.\w+)", line) or [""]
    files = {
        "server.crt": good.cert_file,
        "server.key": good.key_file,
        "peer.crt": good.peer_cert_file,
        "peer.key": good.peer_key_file,
        "ca.crt": good.trusted_ca_file,
        "peer-ca.crt": good.peer_trusted_ca_file,
    }
    return line.replace(f"{PLACEHOLDER}/{file}", str(member.file(files[file] or ""))) if file else line


def _let_in(observer: Observer) -> set[tuple[str, str]]:
    """Return which identities are served on the ports of clients and peers; plain HTTP serves everybody."""
    served = set()
    for listener in observer.target.listeners:
        if listener.scheme == "http":
            served.add((str(listener.role), "everybody"))
            continue
        try:
            cases = observer.get(IdentityAttempts, None, listener).here
        except UnobservedError:
            continue
        served |= {(str(listener.role), case.identity) for case in cases.accepted}
    return served


def applied(
    zoo: Misconfigured, binary: Path, form: str, directory: Path, *, with_keys: bool = True
) -> Applied:
    """Judge a member by its declaration, apply its settings, start it and judge again.

    With the keys of the CAs, all bad identities are tried. These CAs must be in the bundles.

    Raises:
        UsageError: if it cannot be expressed in this version, or in this form.
    """
    path = directory / "declaration"
    with start_member(zoo, binary, directory) as cluster:
        version, [member] = cluster.version, cluster.members
        _write(member, form, path)
        given = {**_options(member, path), **(dict(_keys(cluster, directory)) if with_keys else {})}
        observer = Observer(target(**given))
        before, served = run_checks(observer, select(("!lifecycle",))), _let_in(observer)
        settings = list(dict.fromkeys(_settings(before)))
        if not settings:
            return Applied(version, (), before, [], set())
        member.server.terminate()
        member.server.stop(5)
        start = Start.of(read_declaration(path))
        for line in settings:
            start.apply(_with_files(line, member))
        path = start.write(directory)
        with _started(binary, read_declaration(path), directory):
            known = {role: {name for of, name in served if of == role} for role in ("client", "peer")}
            again = Observer(target(**{**given, "etcd_config": str(path)}))
            after = run_checks(again, select(("!lifecycle",)))
            new = {
                (role, name)
                for role, name in _let_in(again)
                if role in known and not {name, "none", "everybody"} & known[role]
            }
    return Applied(version, settings, before, after, new)


def _keys(cluster: Cluster, directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the options for the keys of the CAs that etcd trusts, so that all bad identities are tried."""
    for option, role in (("etcd_ca_key", Role.CLIENT), ("etcd_peer_ca_key", Role.PEER)):
        if (signing := cluster.target().credentials(role).signing_key) is not None:
            file = directory / f"{option}.pem"
            file.write_bytes(encode_key(signing.key))
            yield option, str(file)


@pytest.mark.parametrize("name", CURED)
def test_settings_cure_their_declaration(name: str, etcd_binary: Path, tmp_path: Path) -> None:
    """On each etcd in another form."""
    number = CURED.index(name) + sum(map(int, binary_version(etcd_binary).split(".")))
    [member] = [one for one in ZOO if one.name == name]
    try:
        done = applied(member, etcd_binary, FORMS[number % len(FORMS)], tmp_path)
    except UsageError as error:
        pytest.skip(f"not to be expressed: {error}")
    if not done.settings and member.proves().isdisjoint(_found(done.before)):
        pytest.skip("this version has no such fault")
    if not done.settings and name in WITHOUT_A_KEY and version_key(done.version) < version_key("3.6"):
        pytest.skip("the configuration file of this version has no key for the rule")
    assert done.settings, explain(done.before)
    _assert_nobody_new(name, done)
    seen = found(done.after)
    failed = [what for what in ("violates", "inconclusive", "broken") if seen[what]]
    assert not failed, f"{done.settings}\n{explain(done.after)}"
    usual = baseline.of(member.config, done.version).values()
    new = _found(done.after) - _found(done.before) - {id_ for ids in usual for id_ in ids}
    assert not new - BROUGHT_ABOUT.get(name, set()), f"{done.settings}\n{explain(done.after)}"


def _assert_nobody_new(name: str, done: Applied) -> None:
    good = {"client", "peer", "client-m0", "peer-m0"} if name in GOOD_CLIENT_WAS_REFUSED else set()
    assert {who for _, who in done.new} <= good | ITS_OWN_PAIR.get(name, set()), done.settings


@pytest.mark.parametrize(
    "flags",
    [("--peer-trusted-ca-file=/other.crt",), ("--peer-auto-tls=true", "--peer-cert-file=")],
)
def test_a_cure_that_admits_more_is_not_proposed(flags: Sequence[str], tmp_path: Path) -> None:
    both = "{cert-file: /s.crt, key-file: /s.key, client-cert-auth: true, trusted-ca-file: /ca.crt}"
    text = f"name: a\nclient-transport-security: {both}\npeer-transport-security: {both}\n"
    (tmp_path / "etcd.yaml").write_text(text, encoding="utf-8")
    member = declared_member(from_command_line(["etcd", f"--config-file={tmp_path}/etcd.yaml", *flags]))
    here = Situation(member=member, version="3.7.3", side="client")
    done = remedy(hidden_into_file, [here], Target(label="m0", origin="live", listeners=()))
    assert done.settings == ()
    assert any(" by hand: " in text for text in done.remarks), done


@pytest.mark.parametrize("member", [pytest.param(one, id=one.name) for one in NO_OPENING])
def test_no_setting_opens_a_port(member: Misconfigured, newest_etcd: Path, tmp_path: Path) -> None:
    done = applied(
        replace(member, checks=()), newest_etcd, "process", tmp_path, with_keys="opens" in member.name
    )
    assert _found(done.before), "it has no fault"
    _assert_nobody_new(member.name, done)
    assert not [line for line in done.settings if "trusted-ca-file" in line]
