"""What a declaration meets in the minor versions of etcd that follow the one that runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import (
    DeclaredMember,
    Form,
    Setting,
    Via,
    version_key,
)
from pytest_etcdtls.declared.effective import (
    SIDES,
    ClientAuthentication,
    Effective,
    effective_of,
    prefix,
)
from pytest_etcdtls.declared.flags import LINES, passed_over, successor
from pytest_etcdtls.declared.traps import Trap, is_about_tls, traps_of

RELEASES: Final = {"3.4": "3.4.45", "3.5": "3.5.33", "3.6": "3.6.16", "3.7": "3.7.3"}
"""The release that stands for each minor line: the newest one that the model is compared with."""

_GO: Final = {
    "3.5": ((0, 16), (7, 17), (8, 19), (10, 20), (15, 21), (16, 22), (21, 23), (23, 24), (31, 25), (34, 26)),
    "3.6": ((0, 23), (5, 24), (12, 25), (15, 26)),
    "3.7": ((0, 26),),
}
"""Minor version of Go whose defaults upstream builds have, by the first patch: ``go`` in server/go.mod."""

_GO_DEFAULTS: Final = (
    (22, True, "with an RSA key, TLS 1.2 clients that offer only RSA key exchange are refused"),
    (23, True, "with an RSA key, TLS 1.2 clients that offer only triple DES are refused"),
    (23, False, "client certificates with a negative serial number are refused"),
    (24, False, "client certificates with an RSA key below 1024 bits are refused"),
    (25, False, "TLS 1.2 clients that accept only SHA-1 signatures are refused"),
)
"""What Go refuses by default from a minor version on, and whether ``--cipher-suites`` decides it."""

_BY_KUBEADM: Final = {
    "experimental-initial-corrupt-check": "true",
    "experimental-watch-progress-notify-interval": "5s",
}
"""What kubeadm writes itself for an etcd up to 3.5. Its upgrade of etcd writes the manifest anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """Something that a declaration meets in a later minor version and not in the one that runs.

    Attributes:
        line: the first minor line in which it happens: ``3.6``.
        summary: what that version does, in one sentence.
        remedy: what to change before the upgrade.
        source: where etcd says so: its changelog or a file of its source.
        settings: the settings that cause it.
        listeners: the URLs that it concerns; empty for the whole member.
        harmless: whether nobody is locked out or let in by it and etcd starts, as far as is known.
    """

    line: str
    summary: str
    remedy: str
    source: str
    settings: tuple[Setting, ...] = ()
    listeners: tuple[str, ...] = ()
    harmless: bool = False

    @property
    def release(self) -> str:
        """The release of that line for which the model was asked."""
        return RELEASES[self.line]


def later_lines(version: str | None) -> tuple[str, ...]:
    """Return the known minor versions of etcd after that of a version; none if the version is not known."""
    return tuple(of for of in LINES if version_key(of) > version_key(version)[:2] and of in RELEASES)


@lru_cache(maxsize=256)
def look_ahead(member: DeclaredMember, version: str) -> tuple[Prospect, ...]:
    """Return what gets worse for a member's declaration in later minor versions, each thing once.

    What the version that runs does already is left out, and so is what depends on something unknown.
    """
    known = {_key(trap) for trap in traps_of(member, version)}
    ignored = {setting.name for setting in passed_over(member.declaration, version)}
    before, found = effective_of(member, version), list[Prospect]()
    for of in later_lines(version):
        traps = [trap for trap in traps_of(member, RELEASES[of]) if _key(trap) not in known and trap.certain]
        known |= {_key(trap) for trap in traps}
        found += [_of_trap(trap, of, member) for trap in traps]
        explained = {setting.name for trap in traps for setting in trap.settings}
        after = effective_of(member, RELEASES[of])
        found += [one for one in _moves(member, before, after, of) if not explained & _names(one)]
        gone = [one for one in passed_over(member.declaration, RELEASES[of]) if one.name not in ignored]
        found += [_ignored(one, of) for one in gone if not is_about_tls(one)]
        ignored |= {setting.name for setting in gone}
        before = after
    return (*found, *_of_go(member, version))


def _of_go(member: DeclaredMember, version: str) -> Iterator[Prospect]:
    """Yield what later versions refuse by other defaults of Go, as upstream builds them."""
    before = _go_of(version)
    if before is None or not any(listener.tls for listener in effective_of(member, version).listeners):
        return
    for of in later_lines(version):
        after = _go_of(RELEASES[of]) or before
        for go, suites, summary in _GO_DEFAULTS:
            if before < go <= after and not (suites and member.declaration.words("cipher-suites")):
                yield Prospect(
                    line=of,
                    summary=f"{summary}: upstream builds it with the defaults of Go 1.{after}",
                    remedy="name the suites in --cipher-suites, or update these clients"
                    if suites
                    else "replace them",
                    source=f"Go release notes 1.{go}; etcd server/go.mod in {RELEASES[of]}",
                    harmless=True,
                )
        before = max(before, after)


def _go_of(version: str) -> int | None:
    major, minor, patch = (*version_key(version), 0, 0, 0)[:3]
    known = [go for first, go in _GO.get(f"{major}.{minor}", ()) if first <= patch]
    return known[-1] if known else None


def _key(trap: Trap) -> tuple[object, ...]:
    named = tuple(setting.spelled for setting in trap.settings)
    # Several values of one setting can keep etcd from starting, and the texts name versions elsewhere.
    return (trap.id, named, trap.summary if trap.id == "does-not-start" else "", trap.listeners)


def _names(prospect: Prospect) -> set[str]:
    return {setting.name for setting in prospect.settings}


def _of_trap(trap: Trap, of: str, member: DeclaredMember) -> Prospect:
    return Prospect(
        line=of,
        summary=trap.summary,
        remedy=trap.remedy,
        source=_SOURCES.get(trap.id, _CHANGELOG).format(line=of),
        settings=trap.settings,
        listeners=trap.listeners,
        harmless=member.declaration.form is Form.MANIFEST
        and bool(trap.settings)
        and all(_BY_KUBEADM.get(one.name) == one.value for one in trap.settings),
    )


_CHANGELOG: Final = "etcd CHANGELOG-{line}.md"
_SOURCES: Final = {
    "crl-encoding": "etcd client/pkg/transport/listener_tls.go, checkCRL: x509.ParseRevocationList since 3.6",
    "unknown-key": "etcd server/embed/config.go, keys of the configuration file in {line}",
    "does-not-start": "etcd server/etcdmain/config.go and server/embed/config.go in {line}",
}


def _moves(member: DeclaredMember, before: Effective, after: Effective, of: str) -> Iterator[Prospect]:
    """Yield what the same settings newly do: whom they refuse, and what is served besides."""
    declaration = member.declaration

    def moved(summary: str, remedy: str, *names: str, harmless: bool = False) -> Prospect:
        given = tuple(declaration.settings[name] for name in names if name in declaration.settings)
        source = _CHANGELOG.format(line=of)
        return Prospect(
            line=of, summary=summary, remedy=remedy, source=source, settings=given, harmless=harmless
        )

    for side in SIDES:
        old, new, p = before.sides[side], after.sides[side], prefix(side)
        nobody, ca = ClientAuthentication.ANYBODY, f"{p}trusted-ca-file"
        if old.admission is nobody and new.admission is not nobody:
            yield moved(
                f"--{ca} alone refuses clients without a certificate of that CA, which are accepted now",
                f"give every client a certificate, or remove --{ca}",
                ca,
            )
        for name in ("cert-allowed-cn", "cert-allowed-hostname"):
            flag, field = f"{side}-{name}", name.removeprefix("cert-").replace("-", "_")
            if getattr(new, field) and not getattr(old, field) and new.admission is not nobody:
                names = " and ".join(one or "no name at all" for one in getattr(new, field))
                yield moved(
                    f"only certificates for {names} are accepted; this etcd ignores that setting",
                    "issue certificates with that name, or remove the setting",
                    flag,
                )
        if old.skips_san_rule and not new.skips_san_rule and new.admission is not nobody:
            old_name, new_name = (f"{x}{side}-skip-client-san-verification" for x in ("experimental-", ""))
            yield moved(
                f"the names in certificates of {side}s are verified again: --{old_name} is not in force",
                f"issue certificates with the addresses of the {side}s, or give --{new_name} from 3.6 on",
                old_name,
                new_name,
            )
    if after.gateway and not before.gateway:
        yield moved(
            "the JSON gateway (/v3/...) is served, which is off now",
            "write enable-grpc-gateway: false into the configuration file if it is not wanted",
            "enable-grpc-gateway",
            harmless=True,  # to the clients of the port, and to nobody else
        )
    if after.pprof and not before.pprof:
        yield moved(
            "profiles (/debug/pprof/) are served on the client port: log level debug switches them on",
            "set --log-level=info",
            "log-level",
        )


def _ignored(setting: Setting, of: str) -> Prospect:
    what = "variable" if setting.via is Via.VARIABLE else "key"
    new = successor(setting, RELEASES[of])
    return Prospect(
        line=of,
        summary=f"{setting.spelled} is ignored: {of} has no such {what}",
        remedy=f"it is {new} there" if new else f"remove {setting.spelled}",
        source=_CHANGELOG.format(line=of),
        settings=(setting,),
        harmless=True,
    )
