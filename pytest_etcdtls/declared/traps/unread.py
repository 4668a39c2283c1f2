"""Settings that etcd does not read, or reads from another place than a reader believes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pytest_etcdtls.declared.cures import Step
from pytest_etcdtls.declared.declaration import (
    Change,
    Declaration,
    Form,
    Setting,
    Via,
    ignored_settings,
    known_to,
    masked,
    taken,
)
from pytest_etcdtls.declared.effective import Effective, effective_of
from pytest_etcdtls.declared.flags import (
    CLIENT_SECTION,
    EVERY_FLAG,
    GO_FIELDS,
    KEYS_ONLY,
    LINES,
    MEANT,
    RELEASES,
    SECTIONS,
    flag_known,
    flag_lines,
    has_key,
    is_about_tls,
    meant,
    top_level_known,
    variable_of,
)
from pytest_etcdtls.declared.situation import Situation
from pytest_etcdtls.declared.traps.trap import FoundTrap, spellings, trap
from pytest_etcdtls.untrusted.printable import shell_word
from pytest_etcdtls.versions import is_before_release, minor_line, version_key


def hidden_into_file(case: Situation) -> Iterator[Step]:
    """Write into the configuration file what it hides, if it has keys for all of it.

    What only switches something off is removed: the file decides, and may have it on.
    """
    every = _hidden(effective_of(case.member, case.version))
    written = [setting for setting in every if setting.on or not setting.boolean]
    if all(has_key(setting.name, case.version) for setting in written):
        yield from (Change(setting.name, None, setting.via) for setting in every if setting not in written)
        yield from (Change(setting.name, setting.value, Via.KEY) for setting in written)


@trap("config-file-hides-flags", cure=hidden_into_file)
def no_configuration_file_hides_flags(etcd: Effective) -> Iterator[FoundTrap]:
    """No TLS flag or variable differs from the configuration file.

    With --config-file etcd ignores all other flags and all environment variables, and logs this in one line
    at level info. A --client-cert-auth given as a flag then has no effect, and every client is accepted.
    Settings that the file repeats do no harm.

    Spec: etcd --config-file
    Spec: etcd Documentation, configuration options
    Severity: critical
    Level: MUST
    Remediation: start etcd without the configuration file and with every setting as a flag, or write these
        settings into the file, if this etcd has keys for them.
    """
    if hidden := _hidden(etcd):
        yield FoundTrap(
            summary=f"etcd reads {etcd.member.declaration.config_file} and ignores {spellings(hidden)}",
            remedy="start etcd without the configuration file and with every setting as a flag, or write "
            "these settings into the file, if this etcd has keys for them",
            settings=hidden,
        )


def _hidden(etcd: Effective) -> tuple[Setting, ...]:
    """Return what the configuration file hides, but for equal values."""
    return tuple(
        setting
        for setting in etcd.member.declaration.hidden
        if is_about_tls(setting.name) and taken(etcd.seen.settings.get(setting.name)) != taken(setting)
    )


@trap("unknown-key")
def every_key_is_known(etcd: Effective) -> Iterator[FoundTrap]:
    """The configuration file contains no key that is unknown to this etcd.

    etcd ignores unknown and misspelt keys silently, and keys that were renamed or removed in this version or
    came in a later one. There is no key for a revocation list: if the file names one, revoked clients are
    accepted. The case of letters does not matter, but in 3.6 that of keys that begin with experimental-.

    Spec: etcd --config-file
    Spec: etcd etcd.conf.yml.sample
    Severity: high
    Level: MUST
    Remediation: spell the key as in this etcd's etcd.conf.yml.sample, a renamed one by its new name; what has
        no key there, such as a revocation list (--client-crl-file), must be a flag, and then every other
        setting too.
    """
    for setting in _not_read(etcd, Via.KEY):
        remedy = _advice(etcd, setting)
        yield FoundTrap(
            summary=f"{setting.spelled} is not in force: etcd {_version(etcd)}has no such key and "
            "does not warn",
            remedy=remedy,
            settings=(setting,),
            certain=_names_are_known(etcd, setting),
            of_tls=_may_be_about_tls(setting),
            remediation=f"{setting.spelled}: {remedy}",
        )


def _not_read(etcd: Effective, via: Via) -> Iterator[Setting]:
    """Yield what no version reads, and what this version does not read.

    Of variables only those that concern TLS: others may be another program's. A key that
    only switches something off is left out: it is off without the key too.
    """
    yield from (setting for setting in etcd.member.declaration.unknown if setting.via is via)
    for setting in ignored_settings(etcd.member.declaration, etcd.version):
        if setting.via is via and (is_about_tls(setting.name) or (via is Via.KEY and _is_effective(setting))):
            yield setting


def _is_effective(setting: Setting) -> bool:
    """Return whether a key would change something in a version that reads it."""
    if setting.boolean or not setting.value:
        return setting.on or setting.name in KEYS_ONLY  # whose values are mappings
    return True


def _names_are_known(etcd: Effective, setting: Setting) -> bool:
    """Return whether that version is known not to have the setting. A newer version may have more.

    Whatever the version is, it is not in force if no release has it.
    """
    if etcd.version is None:
        return setting in etcd.member.declaration.unknown
    line = minor_line(etcd.version)
    newest = RELEASES.get(line or "")
    # A release may have other names than the pre-release by which its line is known.
    return line in LINES and (newest == etcd.version or not is_before_release(newest))


def _version(etcd: Effective) -> str:
    return f"{etcd.version} " if etcd.version else ""


def _advice(etcd: Effective, setting: Setting) -> str:
    key = setting.spelled.rpartition(".")[2].lower()
    if "crl" in key:
        return "no documented key is for a CRL: give everything by flags, the CRL by --client-crl-file"
    new, value = successor(setting, etcd.member.declaration, etcd.version) or ("", "")
    if new and top_level_known(new, etcd.version):
        return f"write it as {new}: {value}" if value != setting.value else f"write it as {new}"
    [key] = MEANT.get(new or key) or [new or key]
    for section, keys in SECTIONS.items():
        for name, flag in keys.items():
            if key in (flag, name):
                return f"write it as {section}: {name}, and see which versions read it"
    if lines := flag_lines(setting.name):
        return f"remove {setting.spelled}: it is a key of etcd {lines}"
    return _perhaps(_similar(key), key) or f"remove {setting.spelled}"


def _similar(key: str) -> tuple[str, ...]:
    """Return the keys and sections that may be meant by a key."""
    return meant(key, {*EVERY_FLAG, *SECTIONS, *SECTIONS[CLIENT_SECTION]})


def _may_be_about_tls(setting: Setting) -> bool:
    """Return whether a key that is not read concerns TLS, or what may be meant by it does."""
    _, in_section, key = setting.spelled.lower().rpartition(".")
    similar = (setting.name, *_similar(key))
    return bool(in_section) or any(name in SECTIONS or is_about_tls(name) for name in similar)


def _perhaps(names: Sequence[str], name: str) -> str:
    """Return that these names may be meant by an unknown one, or that etcd has no such rule; else empty."""
    if name in MEANT and not names:
        return (
            "remove it: etcd has no flag for the common name of clients, and with "
            "--client-cert-allowed-hostname, which compares SANs, it refuses a client without that name"
        )
    return f"perhaps {' or '.join(names)} is meant" if names else ""


@trap("undocumented-key")
def every_key_is_documented(etcd: Effective) -> Iterator[FoundTrap]:
    """The configuration file contains no undocumented key.

    Go's decoder accepts the name of a struct field as a key where the field has no tag. Such a key works
    today, but it is not documented and may stop working in another release.

    Spec: etcd etcd.conf.yml.sample
    Severity: low
    Level: SHOULD
    Remediation: start etcd with flags instead of a configuration file.
    """
    for setting in etcd.seen.settings.values():
        if setting.via is Via.KEY and setting.spelled.partition(".")[0].lower() in GO_FIELDS:
            yield FoundTrap(
                summary=f"{setting.spelled} is in force, although the key is not documented",
                remedy="start etcd with flags instead of a configuration file",
                settings=(setting,),
            )


_OF_DISTRIBUTIONS: Final = frozenset({"ETCD_STATIC_POD_VERSION"})
"""Variables of OpenShift's operator, whose name is similar to one of etcd's."""


@trap("unknown-variable")
def every_variable_is_known(etcd: Effective) -> Iterator[FoundTrap]:
    """Every environment variable that looks like a TLS setting is known to this etcd.

    etcd ignores unknown variables and warns in its log. With a misspelt ETCD_CLIENT_CERT_AUTH every client is
    accepted. The variable may also belong to another program.

    Spec: etcd Documentation, configuration options
    Severity: medium
    Level: SHOULD
    Remediation: spell it as ETCD_ followed by the flag's name in capitals with underscores; rename variables
        that belong to another program.
    """
    for setting in _not_read(etcd, Via.VARIABLE):
        if setting.spelled in _OF_DISTRIBUTIONS:
            continue
        name = setting.name.removeprefix("ETCD_").lower().replace("_", "-")
        close = meant(name)
        # Other programs, such as the script that starts etcd, have variables too.
        if not any(map(is_about_tls, (name, *close))) and name not in MEANT:
            continue
        yield FoundTrap(
            summary=f"{setting.spelled} is not in force: etcd {_version(etcd)}does not know it and only "
            "warns",
            remedy="remove it"
            if name in close
            else _perhaps([*map(variable_of, close)], name) or "remove it",
            settings=(setting,),
            certain=_names_are_known(etcd, setting),
        )


@trap("flag-unknown-to-version")
def every_flag_is_known(etcd: Effective) -> Iterator[FoundTrap]:
    """Every declared flag exists in the running version of etcd.

    An unknown flag ends etcd before it opens a port. If etcd runs nevertheless, it was started with other
    settings: the declaration is not in force, and the next restart fails.

    Spec: etcd CHANGELOG, flags added and removed
    Follows: restart.starts
    Severity: high
    Level: MUST
    Remediation: use the flags of this version (etcd --help), and restart etcd with them.
    """
    flags = [setting for setting in etcd.member.declaration.unknown if setting.via is Via.FLAG]
    given = (*etcd.member.declaration.settings.values(), *etcd.member.declaration.hidden)
    flags += [setting for setting in given if setting.via is Via.FLAG and not known_to(setting, etcd.version)]
    for setting in flags:
        lines = flag_lines(setting.name)
        close = [f"--{name}" for name in meant(setting.name)]
        known = f"it is a flag of {lines}" if lines else "no version has it"
        remedy = f"remove {setting.spelled}"
        if new := _newer(setting, etcd):
            remedy = f"give {new} (etcd {flag_lines(new[2:].partition('=')[0])}) instead of {setting.spelled}"
        elif not lines:
            remedy = _perhaps(close, setting.name) or remedy
        yield FoundTrap(
            summary=f"etcd {_version(etcd)}does not start with {setting.spelled}: {known}",
            remedy=remedy,
            settings=(setting,),
            starts=False,
            certain=_names_are_known(etcd, setting),
            remediation=remedy,
        )


def _newer(setting: Setting, etcd: Effective) -> str:
    """Return the flag that replaces an older one in that version; empty if no flag does."""
    new = successor(setting, etcd.member.declaration, etcd.version)
    return f"--{new[0]}={shell_word(masked(*new))}" if new else ""


@trap("variable-beside-flag")
def no_setting_is_declared_twice(etcd: Effective) -> Iterator[FoundTrap]:
    """No setting is given both as a flag and as an environment variable.

    From 3.4 on etcd exits with an error, even if both values are equal; in 3.3 the flag takes precedence.

    Spec: etcd Documentation, configuration options
    Follows: restart.starts
    Severity: medium
    Level: MUST
    Remediation: remove one of the two, and restart etcd.
    """
    for setting in etcd.member.declaration.shadowed:
        flag = etcd.member.declaration.settings[setting.name]
        old = version_key(etcd.version) < (3, 4)
        yield FoundTrap(
            summary=f"{setting.spelled} is ignored, since {flag.spelled} is given"
            if old
            else f"etcd does not start: {setting.spelled} and {flag.spelled} are both given",
            remedy=f"remove one of {setting} and {flag}",
            settings=(setting, flag),
            starts=old,
        )


@trap("flag-given-twice")
def no_flag_is_given_twice(etcd: Effective) -> Iterator[FoundTrap]:
    """No flag is given twice with different values.

    etcd takes the last one, as every program with Go's package flag does, and says nothing. A reader who
    finds the first one believes that it is in force, as where a drop-in or a variable adds flags behind
    others. A list of URLs is even kept if the second one is empty or one of its URLs. A configuration file
    with a key that is given twice is refused.

    Spec: etcd Documentation, configuration options
    Spec: Go flag package
    Severity: medium
    Level: SHOULD
    Remediation: give it once, with the intended value.
    """
    declaration, started = etcd.member.declaration, etcd.member.declaration.started_with
    given = (
        *started.variables,
        *(argument for argument in started.arguments if isinstance(argument, Setting) and argument.value),
    )
    files = [setting for setting in given if setting.name == "config-file"]  # of which etcd prefers the flag
    in_force = {**declaration.settings, **{file.name: file for file in files}}
    # A drop-in of systemd is there to replace variables.
    layered = Via.VARIABLE if declaration.form is not Form.MANIFEST else None
    again: dict[str, list[Setting]] = {}
    overridden = (setting for setting in declaration.overridden if setting.via is not layered)
    for setting in (*overridden, *files[:-1]):
        again.setdefault(setting.name, []).append(setting)
    for name, others in again.items():
        counts = in_force[name]
        if any(taken(counts) != taken(other) for other in others):
            yield FoundTrap(
                summary=f"{counts.spelled} is given {len(others) + 1} times, and etcd takes {counts}",
                remedy=f"remove {' and '.join(map(str, others))}, or the other if that is meant",
                settings=(*others, counts),
            )


@trap("manifest-beside")
def one_manifest_declares_the_pod(etcd: Effective) -> Iterator[FoundTrap]:
    """No other file in the directory of a static pod's manifest declares the same member.

    The kubelet reads every file of that directory whose name does not begin with a dot, also etcd.yaml.bak.
    Of pods with one name it keeps the one in the last file by name, each time that it lists the directory,
    every 20 seconds by default; between two lists it runs the file that was written to last. So a backup is
    started again instead of the changed manifest, with its old certificates and settings. With another
    name it is a second etcd on the same ports and data.

    Spec: Kubernetes kubelet, extractFromDir in pkg/kubelet/config/file.go
    Severity: high
    Level: MUST, SHOULD where the declared file is the one that runs, or both are the same
    Remediation: move the other file to another directory.
    """
    for other in sorted(etcd.member.declaration.beside, key=lambda pod: not pod.runs):
        pod, file = other.pod, other.file
        if not other.has_same_name:
            summary = (
                f"the kubelet also runs the pod {pod} of {file}, which advertises the same URL: the etcd "
                "that starts second finds its ports and data in use"
            )
        elif other.runs:
            summary = (
                f"the kubelet runs the pod {pod} of {file} and not of {etcd.member.declaration.source}: both "
                "files have a pod of that name, and the last file by name counts"
            )
        else:
            summary = (
                f"the kubelet reads {file} too, which has the same pod {pod}: when that file is written, the "
                "kubelet runs its pod until it lists the directory again"
            )
        yield FoundTrap(
            summary=f"{summary}{'; their content is the same now' if other.same else ''}",
            remedy=f"move {file} to another directory: in this one every file is a pod, whatever its "
            "suffix, unless its name begins with a dot",
            harmless=other.has_same_name and (other.same or not other.runs),
        )


@trap("gateway-off-in-config-file")
def a_disabled_gateway_is_declared(etcd: Effective) -> Iterator[FoundTrap]:
    """A JSON gateway that is disabled is declared as disabled.

    Up to 3.4 a configuration file without enable-grpc-gateway disables the gateway, while the flag's default
    is true. Clients of the gateway fail although nothing disables it explicitly.

    Spec: etcd --enable-grpc-gateway
    Severity: info
    Level: SHOULD
    Remediation: write enable-grpc-gateway into the configuration file, true or false.
    """
    if etcd.gateway or "enable-grpc-gateway" in etcd.seen.settings:
        return
    yield FoundTrap(
        summary="the JSON gateway (/v3/...) does not answer",
        remedy="write enable-grpc-gateway: true into the configuration file if it is wanted",
    )


_GATE_OF: Final = {
    "experimental-stop-grpc-service-on-defrag": "StopGRPCServiceOnDefrag",
    "experimental-initial-corrupt-check": "InitialCorruptCheck",
    "experimental-compact-hash-check-enabled": "CompactHashCheck",
    "experimental-txn-mode-write-with-shared-buffer": "TxnModeWriteWithSharedBuffer",
    "experimental-enable-lease-checkpoint": "LeaseCheckpoint",
    "experimental-enable-lease-checkpoint-persist": "LeaseCheckpointPersist",
}
"""Flags that became feature gates in 3.6 (``features.ExperimentalFlagToFeatureMap``)."""

_NEW_NAME: Final = {
    "debug": "log-level=debug",
    "log-output": "log-outputs",
    "log-package-levels": "log-level",
    "experimental-snapshot-catch-up-entries": "snapshot-catchup-entries",
    "ca-file": "trusted-ca-file",
    "peer-ca-file": "peer-trusted-ca-file",
}


def successor(setting: Setting, declaration: Declaration, version: str | None) -> tuple[str, str] | None:
    """Return name and value of the flag that a version has instead of one that is gone; ``None`` for none.

    Several flags became one, ``--feature-gates``: its value has the gates of all that the declaration gives.
    """
    name = setting.name
    if name in _GATE_OF and flag_known("feature-gates", version):
        return "feature-gates", _gates(declaration)
    new, _, value = _NEW_NAME.get(name, name.removeprefix("experimental-")).partition("=")
    return (new, value or setting.value) if new != name and flag_known(new, version) else None


def _gates(declaration: Declaration) -> str:
    given = dict(word.partition("=")[::2] for word in declaration.words("feature-gates"))
    for name, setting in declaration.settings.items():
        if name in _GATE_OF:
            given.setdefault(_GATE_OF[name], "true" if setting.on else "false")
    return ",".join(f"{gate}={value}" for gate, value in given.items())
