"""Traps: settings whose effect differs from what they appear to declare.

A trap is not a wrong setting but a misunderstood one: the operator reads one thing in it and etcd does
another. So a rule compares what is written (:class:`Declaration`) with what comes of it (:class:`Effective`),
and each rule names in its docstring what etcd does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import (
    FLAGS,
    CRLFile,
    Declaration,
    DeclaredMember,
    Form,
    Setting,
    Via,
    bind_problem,
    declared_listeners,
    masked,
    split_http,
)
from pytest_etcdtls.declared.effective import (
    SIDES,
    ClientAuthentication,
    CRLEffect,
    Effective,
    EffectiveListener,
    TLSSide,
    effective,
    has_both_schemes,
    prefix,
)
from pytest_etcdtls.declared.flags import (
    CLIENT_SECTION,
    EVERY_FLAG,
    GO_FIELDS,
    GO_SUITES,
    KEYS_ONLY,
    LINES,
    MEANT,
    RELEASES,
    SECTIONS,
    URL_LISTS,
    flag_lines,
    ignored_settings,
    in_force,
    known_to,
    meant,
    predecessors,
    successor,
    top_level_known,
    variable_of,
)
from pytest_etcdtls.errors import escaped
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.untrusted import file_word, pasted, shell_word
from pytest_etcdtls.versions import has_since, is_before_release, minor_line, version_key

Problem = tuple[str, str, tuple[Setting, ...]]
"""Why etcd does not start, what to write instead, and the settings concerned."""


class Trap(Struct, frozen=True, kw_only=True):
    """Settings in a declaration whose effect differs from what they appear to declare.

    The check ``config.ID`` reports it, and says why it matters.

    Attributes:
        id: the name of the trap, a slug.
        summary: what etcd does, in one sentence.
        remedy: what to write instead, with the names of flags.
        settings: the settings that cause it.
        listeners: the URLs that it concerns; empty for the whole member.
        starts: ``False`` if etcd does not start.
        certain: ``False`` if it depends on something unknown, such as the version.
        harmless: ``True`` if nobody is accepted or refused because of it: the check then warns.
    """

    id: str
    summary: str
    remedy: str
    settings: tuple[Setting, ...] = ()
    listeners: tuple[str, ...] = ()
    starts: bool = True
    certain: bool = True
    harmless: bool = False


class TrapContext(Struct, frozen=True, kw_only=True):
    """A declaration and what is derived from it, in which traps are searched for.

    Attributes:
        declaration: the declaration as it was read.
        seen: the declaration without the settings that this version ignores.
        effective: the configuration that etcd derives from it.
        crls: the CRL files that were read, by declared path.
    """

    declaration: Declaration
    seen: Declaration
    effective: Effective
    crls: Mapping[str, CRLFile] = {}

    @property
    def version(self) -> str | None:
        """The version of etcd; ``None`` if it is not known."""
        return self.effective.version

    def settings(self, *names: str) -> tuple[Setting, ...]:
        """Return the named settings that are given."""
        return tuple(self.seen.settings[name] for name in names if name in self.seen.settings)

    def sides(self) -> tuple[TLSSide, ...]:
        """Return both sides."""
        return tuple(self.effective.sides[side] for side in SIDES)

    def secure(self, side: Side) -> tuple[EffectiveListener, ...]:
        """Return the listeners of a side that serve TLS."""
        return tuple(
            listener
            for listener in self.effective.listeners
            if listener.tls and (listener.role is Role.PEER) == (side == "peer")
        )


def _urls(listeners: tuple[EffectiveListener, ...]) -> tuple[str, ...]:
    """Return the URLs of listeners."""
    return tuple(str(listener.url) for listener in listeners)


def _spellings(settings: tuple[Setting, ...]) -> str:
    """Return how settings are spelled, in one line."""
    return ", ".join(setting.spelled for setting in settings)


def _auto_tls(context: TrapContext) -> Iterator[Trap]:
    """``--auto-tls`` drops the declared TLS settings of its side, or is ignored if a certificate is given."""
    for side in context.sides():
        p = prefix(side.side)
        auto = context.settings(f"{p}auto-tls")
        if not auto or not auto[0].on:
            continue
        dropped = tuple(
            setting for setting in _of_side(context, side) if setting.value and setting.value != "false"
        )
        if side.generated and dropped:
            yield Trap(
                id="auto-tls-drops-client-auth",
                summary=f"--{p}auto-tls accepts every client: it disables {_spellings(dropped)}",
                remedy=f"give --{p}cert-file and --{p}key-file and remove --{p}auto-tls",
                settings=(*auto, *dropped),
                listeners=_urls(context.secure(side.side)),
            )
        elif not side.generated:
            yield Trap(
                id="auto-tls-ignored",
                summary=f"--{p}auto-tls is ignored, since a certificate is given",
                remedy=f"remove --{p}auto-tls",
                settings=(*auto, *context.settings(f"{p}cert-file")),
            )


def _of_side(context: TrapContext, side: TLSSide) -> tuple[Setting, ...]:
    p = prefix(side.side)
    return context.settings(
        f"{p}client-cert-auth",
        f"{p}trusted-ca-file",
        f"{side.side}-crl-file",
        f"{side.side}-cert-allowed-hostname",
        f"{side.side}-cert-allowed-cn",
    )


def _client_auth_without_ca(context: TrapContext) -> Iterator[Trap]:
    """``--client-cert-auth`` without a trusted CA uses the system's root store."""
    for side in context.sides():
        p = prefix(side.side)
        secure = context.secure(side.side)
        if side.client_auth is not ClientAuthentication.SYSTEM_ROOTS or not secure:
            continue
        roots = context.declaration.go_environment.get("SSL_CERT_FILE")
        yield Trap(
            id="client-auth-without-ca",
            summary=f"--{p}client-cert-auth without --{p}trusted-ca-file accepts every client with a "
            f"certificate of any CA in {roots or 'the root store of the system'}, and refuses the cluster's "
            "own clients",
            remedy=f"give --{p}trusted-ca-file with the CA that signs the {'members' if p else 'clients'}",
            settings=context.settings(f"{p}client-cert-auth"),
            listeners=_urls(secure),
        )


def _trusted_ca_alone(context: TrapContext) -> Iterator[Trap]:
    """A trusted CA alone enforces client certificates since 3.4, but not in 3.3."""
    old = version_key(context.version) < (3, 4)
    for side in context.sides():
        p = prefix(side.side)
        given = context.settings(f"{p}trusted-ca-file")
        on = context.seen.on(f"{p}client-cert-auth")
        if not given or on or side.generated or not context.secure(side.side) or (p and not old):
            continue
        yield Trap(
            id="trusted-ca-alone",
            summary=f"--{p}trusted-ca-file alone accepts every client"
            if old
            else "--trusted-ca-file alone enforces client certificates, though --client-cert-auth is not "
            "set, but a certificate's CN is not used as a user name",
            remedy=f"declare it explicitly: --{p}client-cert-auth=true",
            settings=(*given, *context.settings(f"{p}client-cert-auth")),
            listeners=_urls(context.secure(side.side)),
        )


def _http_listener_beside_tls(context: TrapContext) -> Iterator[Trap]:
    """An ``http`` listener accepts every client, regardless of the TLS settings."""
    for side in context.sides():
        plain = tuple(found for found in context.effective.listeners if _is_open(found, side))
        if not plain or not (side.has_certificate or side.requests_certificate):
            continue
        not_declared = [found for found in plain if found.declared.setting is None]
        shared = [found for found in plain if found.tls]
        summary = f"{', '.join(_urls(plain))} answers every client in plaintext, whatever is declared for TLS"
        if not_declared:
            summary += "; etcd opens it because no listening URL is given"
        if shared:
            summary += "; the same port also serves TLS"
        p = prefix(side.side)
        yield Trap(
            id="http-listener-beside-tls",
            summary=summary,
            remedy=f"write https:// in --listen-{side.side}-urls, or remove the URL",
            settings=(
                *dict.fromkeys(found.declared.setting for found in plain if found.declared.setting),
                *context.settings(f"{p}client-cert-auth", f"{p}cert-file"),
            ),
            listeners=_urls(plain),
        )


def _http_listener_not_served(context: TrapContext) -> Iterator[Trap]:
    """An ``http`` URL on the port of an ``https`` one is not served where HTTP has other ports."""
    declared = declared_listeners(context.seen)
    unserved = tuple(
        listener
        for listener in declared
        if listener.role is Role.CLIENT
        and not listener.url.secure
        and has_both_schemes(listener, declared)
        and split_http(context.seen)
    )
    if unserved:
        urls = tuple(str(listener.url) for listener in unserved)
        yield Trap(
            id="http-listener-beside-tls",
            summary=f"{', '.join(urls)} is not served: with --{FLAGS[Role.CLIENT_HTTP]}, a port of gRPC "
            "that is listed with https too serves TLS alone; without it, the port answers everybody",
            remedy=f"remove the http URL from --{FLAGS[Role.CLIENT]}",
            settings=tuple(dict.fromkeys(one.setting for one in unserved if one.setting)),
            listeners=urls,
            harmless=True,
        )


def _is_open(listener: EffectiveListener, side: TLSSide) -> bool:
    roles = (Role.PEER,) if side.side == "peer" else (Role.CLIENT, Role.CLIENT_HTTP)
    return listener.plaintext and listener.role in roles and not listener.url.is_socket


def _crl_traps(context: TrapContext) -> Iterator[Trap]:
    """Yield the traps of each side's CRL."""
    for side in context.sides():
        if side.crl_file is not None and context.secure(side.side):
            yield from _crl_without_client_auth(context, side)
            yield from _unreadable_crl(context, side)
            yield from _crl_ignored_on_grpc(context, side)


def _crl_without_client_auth(context: TrapContext, side: TLSSide) -> Iterator[Trap]:
    if not side.requests_certificate:
        p = prefix(side.side)
        yield Trap(
            id="crl-without-client-auth",
            summary=f"--{side.side}-crl-file refuses no client: no certificate is requested",
            remedy=f"give --{p}client-cert-auth=true and --{p}trusted-ca-file",
            settings=context.settings(f"{side.side}-crl-file"),
            listeners=_urls(context.secure(side.side)),
        )


def _unreadable_crl(context: TrapContext, side: TLSSide) -> Iterator[Trap]:
    if not side.requests_certificate or side.crl_file is None:
        return
    crl = context.crls.get(side.crl_file)
    settings, listeners = context.settings(f"{side.side}-crl-file"), _urls(context.secure(side.side))
    if crl is None or not crl.known:
        where = f"{crl.found} {crl.unread}" if crl and crl.found else f"{side.crl_file} is not here"
        yield Trap(
            id="crl-missing",
            summary=f"{where}; where etcd does not find it or cannot read it, every client with a "
            "certificate is refused",
            remedy="put the CRL there, in DER",
            settings=settings,
            listeners=listeners,
            certain=False,
        )
        return
    reading = crl.read_by(context.version)
    if reading.error:
        summary, remedy = _crl_problem(crl, f"--{side.side}-crl-file", context.version)
        yield Trap(
            id="crl-encoding",
            summary=summary,
            remedy=remedy,
            settings=settings,
            listeners=listeners,
            certain=context.version is not None or bool(crl.up_to_3_5.error and crl.since_3_6.error),
        )
    elif unread := crl.serial_numbers - reading.serial_numbers:
        yield Trap(
            id="crl-one-list",
            summary=f"{side.crl_file} has {crl.lists} lists, of which etcd reads the first alone: "
            f"{len(unread)} revoked {'certificate is' if len(unread) == 1 else 'certificates are'} accepted",
            remedy=_ONE_LIST,
            settings=settings,
            listeners=listeners,
        )


_ONE_LIST: Final = "have one list issued with all serial numbers, in DER: etcd compares nothing else of it"


def _crl_problem(crl: CRLFile, flag: str, version: str | None) -> tuple[str, str]:
    """Return why a version of etcd cannot read a file, and what to do (``pki/go_crl.py`` has the rules)."""
    refused = "every client with a certificate is refused"
    error = "it is empty" if crl.empty else crl.read_by(version).error
    if not crl.lists:
        unreadable = f"{crl.declared} is not a CRL that etcd can read ({error})"
        return f"{unreadable}: {refused}", "replace it by a CRL in DER"
    form = "PEM" if crl.pem else "DER"
    other = str(PurePosixPath(crl.declared).with_suffix(".der"))
    other = f"{other}.new" if other == crl.declared else other
    # The declared path: on the member is what counts, and a replay's copy is gone when this is read.
    files = ("-in", file_word(crl.declared), "-outform", "DER", "-out", file_word(other))
    convert = f"convert it: {pasted('openssl', 'crl', '-inform', form, *files)}"
    convert += f", and give {flag}={shell_word(other)}: every version reads that"
    if version_key(version) < (3, 6):
        return (
            f"etcd up to 3.5 cannot read {crl.declared} ({error}): {refused}",
            _ONE_LIST if crl.lists > 1 else convert,
        )
    kind = "PEM" if crl.pem else "a list of version 1" if crl.up_to_3_5.error == "" else f"no list ({error})"
    reissue = (
        "have the CA issue it in version 2, with extensions: openssl ca -gencrl -crlexts SECTION; in DER"
    )
    return (
        f"{crl.declared} is {kind}, which etcd reads up to 3.5 only: from 3.6 on {refused}",
        _ONE_LIST if crl.lists > 1 else convert if crl.version_2 else reissue,
    )


def _crl_ignored_on_grpc(context: TrapContext, side: TLSSide) -> Iterator[Trap]:
    ignoring = tuple(
        listener
        for listener in context.secure(side.side)
        if listener.crl is CRLEffect.IGNORED and side.crl is not CRLEffect.IGNORED
    )
    if ignoring:
        yield Trap(
            id="crl-ignored-on-grpc",
            summary=f"revoked clients are served by gRPC on {', '.join(_urls(ignoring))}: etcd "
            f"{context.version} does not read the CRL there",
            remedy="upgrade etcd, or remove --listen-client-http-urls",
            settings=context.settings("client-crl-file", "listen-client-http-urls"),
            listeners=_urls(ignoring),
        )


def _allowed_names_without_client_auth(context: TrapContext) -> Iterator[Trap]:
    """Allowed names have no effect if no client certificate is requested."""
    for side in context.sides():
        given = context.settings(f"{side.side}-cert-allowed-hostname", f"{side.side}-cert-allowed-cn")
        if not given or side.generated or side.requests_certificate or not context.secure(side.side):
            continue
        p = prefix(side.side)
        yield Trap(
            id="allowed-names-without-client-auth",
            summary=f"{_spellings(given)} refuses no client: no certificate is requested",
            remedy=f"give --{p}client-cert-auth=true and --{p}trusted-ca-file",
            settings=given,
            listeners=_urls(context.secure(side.side)),
        )


def _allowed_names_as_one(context: TrapContext) -> Iterator[Trap]:
    """Before 3.5.15 a list of allowed names is a single name, which matches no certificate."""
    if has_since(context.version, {"3.5": 15}):
        return
    for setting in context.settings(
        "client-cert-allowed-hostname", "peer-cert-allowed-cn", "peer-cert-allowed-hostname"
    ):
        if "," in setting.value:
            yield Trap(
                id="allowed-names-as-one",
                summary=f"etcd {context.version} reads {setting.written} as one name, so every client "
                "is refused",
                remedy=f"give one name in {setting.spelled}, or upgrade etcd",
                settings=(setting,),
            )


def _san_check_off(context: TrapContext) -> Iterator[Trap]:
    """Without the SAN rule, a stolen member certificate is accepted from any address."""
    for side in context.sides():
        if side.skips_san_rule and side.requests_certificate:
            settings = context.settings(
                f"{side.side}-skip-client-san-verification", "experimental-peer-skip-client-san-verification"
            )
            yield Trap(
                id="san-check-off",
                summary=f"certificates are accepted from any address: {_spellings(settings)} is on",
                remedy="give members certificates with their addresses and remove the flag",
                settings=settings,
            )


_ABOUT_TLS = ("cert", "key-file", "ca-file", "crl", "tls", "cipher-suites", "san-verification", "allowed")


def is_about_tls(name: str) -> bool:
    """Return whether a setting of that name concerns TLS: files, booleans, names, versions, listen URLs."""
    name = name.lower().replace("_", "-")
    return name in URL_LISTS or any(word in name for word in _ABOUT_TLS)


def _config_file_hides_flags(context: TrapContext) -> Iterator[Trap]:
    """With a configuration file, etcd ignores flags and variables; equal values are not reported."""
    hidden = tuple(
        setting
        for setting in context.declaration.hidden
        if is_about_tls(setting.name)
        and not _has_same_value(context.seen.settings.get(setting.name), setting)
    )
    if hidden:
        yield Trap(
            id="config-file-hides-flags",
            summary=f"etcd reads {context.declaration.config_file} and ignores {_spellings(hidden)}",
            remedy="start etcd without the configuration file and with every setting as a flag, or write "
            "these settings into the file, if this etcd has keys for them",
            settings=hidden,
        )


def _has_same_value(in_force: Setting | None, hidden: Setting) -> bool:
    """Return whether the hidden setting equals the one in force. A boolean setting is off by default."""
    if in_force is None:
        return not hidden.value or (hidden.boolean and not hidden.on)
    if in_force.boolean and hidden.boolean:
        return in_force.on is hidden.on
    return in_force.value == hidden.value


def _unknown_keys(context: TrapContext) -> Iterator[Trap]:
    """An unknown key in the configuration file is ignored without a message."""
    for setting in _not_read(context, Via.KEY):
        yield Trap(
            id="unknown-key",
            summary=f"{setting.spelled} is not in force: etcd {_version(context)}has no such key and "
            "does not warn",
            remedy=_advice(context, setting),
            settings=(setting,),
            certain=_names_are_known(context),
        )


def _not_read(context: TrapContext, via: Via) -> Iterator[Setting]:
    """Yield what no version reads, and what this version does not read.

    Of variables only those that concern TLS: others may be another program's. Of keys none that only says
    that something is off, as it is without the key.
    """
    yield from (setting for setting in context.declaration.unknown if setting.via is via)
    for setting in ignored_settings(context.declaration, context.version):
        if setting.via is via and (is_about_tls(setting.name) or (via is Via.KEY and _is_effective(setting))):
            yield setting


def _is_effective(setting: Setting) -> bool:
    """Return whether a key would change something in a version that reads it."""
    if setting.boolean or not setting.value:
        return setting.on or setting.name in KEYS_ONLY  # whose values are mappings
    return True


def _names_are_known(context: TrapContext) -> bool:
    """Return whether the names of that version are known. A newer version may have more."""
    line = minor_line(context.version)
    newest = RELEASES.get(line or "")
    # A release may have other names than the pre-release by which its line is known.
    return line in LINES and (newest == context.version or not is_before_release(newest))


def _version(context: TrapContext) -> str:
    return f"{context.version} " if context.version else ""


def _advice(context: TrapContext, setting: Setting) -> str:
    key = setting.spelled.rpartition(".")[2].lower()
    if "crl" in key:
        return "no documented key is for a CRL: give everything by flags, the CRL by --client-crl-file"
    new, value = successor(setting, context.declaration, context.version) or ("", "")
    if new and top_level_known(new, context.version):
        return f"write it as {new}: {value}" if value != setting.value else f"write it as {new}"
    [key] = MEANT.get(new or key) or [new or key]
    for section, keys in SECTIONS.items():
        for name, flag in keys.items():
            if key in (flag, name):
                return f"write it as {section}: {name}, and see which versions read it"
    if lines := flag_lines(setting.name):
        return f"remove {setting.spelled}: it is a key of etcd {lines}"
    close = meant(key, {*EVERY_FLAG, *SECTIONS, *SECTIONS[CLIENT_SECTION]})
    return _perhaps(close, key) or f"remove {setting.spelled}"


def _perhaps(names: Sequence[str], name: str) -> str:
    """Return that these names may be meant by an unknown one, or that etcd has no such rule; else empty."""
    if name in MEANT and not names:
        return (
            "remove it: etcd has no flag for the common name of clients, and with "
            "--client-cert-allowed-hostname, which compares SANs, it refuses a client without that name"
        )
    return f"perhaps {' or '.join(names)} is meant" if names else ""


def _undocumented_keys(context: TrapContext) -> Iterator[Trap]:
    """Go's field names are accepted as keys, which etcd's documentation does not mention."""
    for setting in context.seen.settings.values():
        if setting.via is Via.KEY and setting.spelled.partition(".")[0].lower() in GO_FIELDS:
            yield Trap(
                id="undocumented-key",
                summary=f"{setting.spelled} is in force, although the key is not documented",
                remedy="start etcd with flags instead of a configuration file",
                settings=(setting,),
            )


_OF_DISTRIBUTIONS: Final = frozenset({"ETCD_STATIC_POD_VERSION"})
"""Variables of OpenShift's operator, whose name is similar to one of etcd's."""


def _unknown_variables(context: TrapContext) -> Iterator[Trap]:
    """An unknown environment variable is ignored with a warning in the log.

    Other programs, such as the script that starts etcd, have variables too. Only variables whose name is
    equal or similar to one that concerns TLS are reported.
    """
    for setting in _not_read(context, Via.VARIABLE):
        if setting.spelled in _OF_DISTRIBUTIONS:
            continue
        name = setting.name.removeprefix("ETCD_").lower().replace("_", "-")
        close = meant(name)
        if not any(map(is_about_tls, (name, *close))) and name not in MEANT:
            continue
        yield Trap(
            id="unknown-variable",
            summary=f"{setting.spelled} is not in force: etcd {_version(context)}does not know it and only "
            "warns",
            remedy="remove it"
            if name in close
            else _perhaps([*map(variable_of, close)], name) or "remove it",
            settings=(setting,),
            certain=_names_are_known(context),
        )


def _flags_unknown_to_version(context: TrapContext) -> Iterator[Trap]:
    """An unknown flag stops etcd."""
    flags = [setting for setting in context.declaration.unknown if setting.via is Via.FLAG]
    given = (*context.declaration.settings.values(), *context.declaration.hidden)
    flags += [
        setting for setting in given if setting.via is Via.FLAG and not known_to(setting, context.version)
    ]
    for setting in flags:
        lines = flag_lines(setting.name)
        close = [f"--{name}" for name in meant(setting.name)]
        known = f"it is a flag of {lines}" if lines else "no version has it"
        new = _newer(setting, context) or _older(setting, context.version)
        yield Trap(
            id="flag-unknown-to-version",
            summary=f"etcd {_version(context)}does not start with {setting.spelled}: {known}",
            remedy=f"give {new} (etcd {flag_lines(new[2:].partition('=')[0])}) instead of {setting.spelled}"
            if new
            else f"remove {setting.spelled}"
            if lines
            else _perhaps(close, setting.name) or f"remove {setting.spelled}",
            settings=(setting,),
            starts=False,
            certain=_names_are_known(context),
        )


def _newer(setting: Setting, context: TrapContext) -> str:
    """Return the flag to give in a version that does not have an older one; empty if there is none."""
    new = successor(setting, context.declaration, context.version)
    return f"--{new[0]}={shell_word(masked(*new))}" if new else ""


def _older(setting: Setting, version: str | None) -> str:
    """Return the flags to give in a version that does not have a newer one; empty if there are none."""
    return " ".join(f"--{name}={value}" for name, value in predecessors(setting, version))


def _variables_beside_flags(context: TrapContext) -> Iterator[Trap]:
    """Since 3.4, etcd does not start if a flag and its variable are both given."""
    for setting in context.declaration.shadowed:
        flag = context.declaration.settings[setting.name]
        old = version_key(context.version) < (3, 4)
        yield Trap(
            id="variable-beside-flag",
            summary=f"{setting.spelled} is ignored, since {flag.spelled} is given"
            if old
            else f"etcd does not start: {setting.spelled} and {flag.spelled} are both given",
            remedy=f"remove one of {setting} and {flag}",
            settings=(setting, flag),
            starts=old,
        )


def _settings_given_twice(context: TrapContext) -> Iterator[Trap]:
    """The last of several flags counts (Go's package flag); of lists of URLs it may be the first.

    Of equal keys in a configuration file, and of equal sections as a whole, the last one is decoded
    (sigs.k8s.io/yaml, not strict). Of equal variables of a container the kubelet takes the last one.
    """
    declaration, started = context.declaration, context.declaration.started_with
    given = (
        *started.variables,
        *(one for one in started.arguments if isinstance(one, Setting) and one.value),
    )
    files = [one for one in given if one.name == "config-file"]  # of which etcd prefers the flag
    in_force = {**declaration.settings, **{one.name: one for one in files}}
    # A drop-in of systemd is there to replace variables.
    layered = Via.VARIABLE if declaration.form is not Form.MANIFEST else None
    again: dict[str, list[Setting]] = {}
    for setting in (*(one for one in declaration.overridden if one.via is not layered), *files[:-1]):
        again.setdefault(setting.name, []).append(setting)
    for name, others in again.items():
        counts = in_force.get(name)
        if all(_has_same_value(counts, other) for other in others):
            continue
        if counts is not None:
            yield Trap(
                id="flag-given-twice",
                summary=f"{counts.spelled} is given {len(others) + 1} times, and etcd takes {counts}",
                remedy=f"remove {' and '.join(map(str, others))}, or the other if that is meant",
                settings=(*others, counts),
            )
        else:
            section, _, key = others[-1].spelled.partition(".")
            yield Trap(
                id="flag-given-twice",
                summary=f"{section} is given again, and etcd drops {others[-1]}",
                remedy=f"write one section {section} with every key that is meant, {key} too",
                settings=(*others,),
            )


def _manifests_beside(context: TrapContext) -> Iterator[Trap]:
    """A kubelet reads every file of its directory, and runs one of several pods with one name."""
    source = escaped(context.declaration.source)
    for other in sorted(context.declaration.beside, key=lambda one: not one.runs):
        pod, file = escaped(other.pod), escaped(other.file)
        if not other.has_same_name:
            summary = (
                f"the kubelet also runs the pod {pod} of {file}, which advertises the same URL: of two etcds "
                "the second finds ports and data in use"
            )
        elif other.runs:
            summary = (
                f"the kubelet runs the pod {pod} of {file} and not of {source}: it reads both, "
                "and of pods with one name the one in the last file by name stays"
            )
        else:
            summary = (
                f"the kubelet reads {file} too, which has the same pod {pod}: when it is written "
                "to, the kubelet runs that one until it lists the directory again"
            )
        yield Trap(
            id="manifest-beside",
            summary=f"{summary}{'; their content is the same now' if other.same else ''}",
            remedy=f"move {file} to another directory: in this one every file is a pod, whatever its "
            "suffix, unless its name begins with a dot",
            harmless=other.has_same_name and (other.same or not other.runs),
        )


def _gateway_off_in_config_file(context: TrapContext) -> Iterator[Trap]:
    """In 3.4, the JSON gateway is on by the flag's default but off with a configuration file."""
    if context.effective.gateway or "enable-grpc-gateway" in context.seen.settings:
        return
    yield Trap(
        id="gateway-off-in-config-file",
        summary="the JSON gateway (/v3/...) does not answer",
        remedy="write enable-grpc-gateway: true into the configuration file if it is wanted",
    )


_TLS_VERSIONS = ("TLS1.2", "TLS1.3")
_NEEDED_BY_HTTP2 = frozenset(
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}
)


def _does_not_start(context: TrapContext) -> Iterator[Trap]:
    """Yield one trap for each reason why etcd does not start, as far as TLS and its ports decide it."""
    for mistake in context.declaration.mistakes:
        if mistake.key is not None and not known_to(mistake.key, context.version):
            continue
        yield Trap(
            id="does-not-start",
            summary=f"{mistake.text} ({mistake.place})",
            remedy="correct the line",
            starts=False,
        )
    for summary, remedy, settings in (problem for rule in _RULES for problem in rule(context)):
        yield Trap(
            id="does-not-start",
            summary=f"etcd does not start: {summary}",
            remedy=remedy,
            settings=settings,
            starts=False,
        )


def _certificates(context: TrapContext) -> Iterator[Problem]:
    for side in context.sides():
        if side.generated or not _reads_pair(context, side):
            continue
        p = prefix(side.side)
        settings = context.settings(f"{p}cert-file", f"{p}key-file")
        if side.certificate is None and side.key is None:
            listeners = context.secure(side.side)
            yield (
                f"{listeners[0].url} needs a certificate, and --{p}cert-file and --{p}key-file are not given",
                f"give --{p}cert-file and --{p}key-file",
                tuple(one.declared.setting for one in listeners[:1] if one.declared.setting),
            )
        elif side.certificate is None or side.key is None:
            missing = "cert-file" if side.certificate is None else "key-file"
            yield f"{_spellings(settings)} is given without --{p}{missing}", f"give --{p}{missing}", settings
        yield from _dialing_pair(context, side)


def _reads_pair(context: TrapContext, side: TLSSide) -> bool:
    """Return whether etcd reads the pair at its start: to serve TLS, and of peers always, to dial."""
    dials = side.side == "peer" and (side.certificate is not None or side.key is not None)
    return bool(context.secure(side.side)) or dials


def _dialing_pair(context: TrapContext, side: TLSSide) -> Iterator[Problem]:
    p = prefix(side.side)
    pair = (f"{p}client-cert-file", f"{p}client-key-file")
    given = context.settings(*pair)
    if len([setting for setting in given if setting.value]) == 1:
        yield f"{_spellings(given)} is given alone", f"give both --{pair[0]} and --{pair[1]}", given


def _names(context: TrapContext) -> Iterator[Problem]:
    for side in context.sides():
        if side.allowed_cn and side.allowed_hostname and _reads_pair(context, side):
            given = context.settings(f"{side.side}-cert-allowed-cn", f"{side.side}-cert-allowed-hostname")
            yield f"{_spellings(given)} exclude each other", "give one of them", given


def _addresses(context: TrapContext) -> Iterator[Problem]:
    declared = declared_listeners(context.seen)
    for listener in declared:
        problem = bind_problem(listener.url)
        if problem and listener.setting:
            yield problem, f"write an address in --{FLAGS[listener.role]}", (listener.setting,)
    ports = {listener.url.address for listener in declared if listener.role is Role.CLIENT_HTTP}
    shared = [found for found in declared if found.role is Role.CLIENT and found.url.address in ports]
    if shared:
        given = context.settings(FLAGS[Role.CLIENT], FLAGS[Role.CLIENT_HTTP])
        yield f"{shared[0].url} is listed in both {_spellings(given)}", "give HTTP a port of its own", given


def _advertised(context: TrapContext) -> Iterator[Problem]:
    listening, advertised = (
        context.settings(FLAGS[Role.CLIENT]),
        context.settings("advertise-client-urls"),
    )
    # What counts is that a flag is set: an empty one is, an empty variable and a key are not.
    given = any(map(_is_set, advertised)) or "advertise-client-urls" in context.seen.started_with.left_out
    if any(map(_is_set, listening)) and not given:
        yield (
            f"{listening[0].spelled} is given without --advertise-client-urls",
            "give --advertise-client-urls",
            listening,
        )


def _is_set(setting: Setting) -> bool:
    return setting.via is Via.FLAG or (setting.via is Via.VARIABLE and bool(setting.value))


def _validity(context: TrapContext) -> Iterator[Problem]:
    given = context.settings("self-signed-cert-validity")
    generates = any(side.generated for side in context.sides())
    if generates and given and given[0].via is not Via.KEY and given[0].value == "0":
        yield f"{given[0].written} is no validity", "give a number of years", given


def _tls_versions(context: TrapContext) -> Iterator[Problem]:
    given = context.settings("tls-min-version", "tls-max-version")
    for setting in given:
        if setting.value and setting.value not in _TLS_VERSIONS:
            yield f"{setting.written} is not a version", f"write {' or '.join(_TLS_VERSIONS)}", (setting,)
    minimum, maximum = context.seen.text("tls-min-version"), context.seen.text("tls-max-version")
    if (minimum, maximum) == ("TLS1.3", "TLS1.2"):
        yield "the lowest TLS version is above the highest", "swap them", given


def _suites(context: TrapContext) -> Iterator[Problem]:
    setting = context.seen.settings.get("cipher-suites")
    # An empty variable or key is none; an empty flag is a list with one empty name.
    if setting is not None and (setting.value or setting.via is Via.FLAG):
        for name in setting.value.split(","):
            if name not in GO_SUITES:
                remedy = f"write Go's names in {setting.spelled}, with commas and no blanks, or remove it"
                yield f"{name!r} in {setting.spelled} is no cipher suite", remedy, (setting,)
    suites = context.seen.words("cipher-suites")
    if not suites:
        return
    given = context.settings("cipher-suites", "tls-min-version")
    if context.seen.text("tls-min-version") == "TLS1.3":
        yield "--cipher-suites do not go with TLS 1.3 alone, whose suites Go decides", "remove them", given
    elif context.secure("client") and not _NEEDED_BY_HTTP2.intersection(suites):
        yield (
            f"{given[0].written} lacks a suite that HTTP/2 needs",
            f"add {' or '.join(sorted(_NEEDED_BY_HTTP2))}",
            given,
        )


def _renamed(context: TrapContext) -> Iterator[Problem]:
    """In 3.6, a flag and its old name with the prefix ``experimental-`` exclude each other."""
    if version_key(context.version)[:2] != (3, 6):
        return
    for name in context.seen.settings:
        if f"experimental-{name}" in context.seen.settings:
            given = context.settings(name, f"experimental-{name}")
            yield f"{_spellings(given)} are two names of one flag", f"keep {given[0].spelled}", given


_RULES: tuple[Callable[[TrapContext], Iterator[Problem]], ...] = (
    _certificates,
    _names,
    _addresses,
    _advertised,
    _validity,
    _tls_versions,
    _suites,
    _renamed,
)

_EVERY: Final[tuple[Callable[[TrapContext], Iterator[Trap]], ...]] = (
    _does_not_start,
    _config_file_hides_flags,
    _unknown_keys,
    _undocumented_keys,
    _unknown_variables,
    _flags_unknown_to_version,
    _variables_beside_flags,
    _settings_given_twice,
    _manifests_beside,
    _gateway_off_in_config_file,
    _auto_tls,
    _client_auth_without_ca,
    _trusted_ca_alone,
    _http_listener_beside_tls,
    _http_listener_not_served,
    _allowed_names_without_client_auth,
    _allowed_names_as_one,
    _san_check_off,
    _crl_traps,
)


def find_traps(
    declaration: Declaration, version: str | None = None, crls: Mapping[str, CRLFile] | None = None
) -> tuple[Trap, ...]:
    """Return the traps of a declaration, beginning with those that prevent etcd from starting.

    The arguments are those of :func:`~pytest_etcdtls.declared.effective.effective`.
    """
    done = effective(declaration, version, crls)
    context = TrapContext(
        declaration=declaration,
        seen=in_force(declaration, done.version),
        effective=done,
        crls=crls or {},
    )
    traps = [trap for look_for in _EVERY for trap in look_for(context)]
    return tuple(sorted(traps, key=lambda trap: trap.starts))


@lru_cache(maxsize=256)
def traps_of(member: DeclaredMember, version: str | None = None) -> tuple[Trap, ...]:
    """Return the traps in a member's declaration for a version, cached by version."""
    return find_traps(member.declaration, version, member.crls)
