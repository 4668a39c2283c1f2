"""What a declaration meets in the minor versions of etcd that follow the one that runs.

A later version is asked as the running one is: its traps that this version does not have, the differences
between the two effective configurations, and the settings that it newly ignores. The Go that a version is
built with refuses more by its defaults, whatever etcd does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import Declaration, DeclaredMember, Form, Setting, Via
from pytest_etcdtls.declared.effective import SIDES, Effective, effective_of, prefix
from pytest_etcdtls.declared.flags import LINES, RELEASES, ignored_settings, successor
from pytest_etcdtls.declared.traps import Trap, traps_of
from pytest_etcdtls.versions import is_before_release, version_key

_GO: Final = {
    "3.5": ((0, 16), (7, 17), (8, 19), (10, 20), (15, 21), (16, 22), (21, 23), (23, 24), (31, 25), (34, 26)),
    "3.6": ((0, 23), (5, 24), (12, 25), (15, 26)),
    "3.7": ((0, 26),),
    "3.8": ((0, 26),),
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
"""What kubeadm writes itself for an etcd up to 3.5. Its upgrade of etcd overwrites the manifest."""
_OF_RANCHER: Final = re.compile(r"/rancher/(k3s|rke2)/")
"""In the data directory of k3s and RKE2, which write those settings as keys, and their file at each start."""


class Prospect(Struct, frozen=True, kw_only=True):
    """Something that a declaration meets in a later minor version and not in the one that runs.

    Attributes:
        line: the first minor line in which it happens: ``3.6``.
        summary: what that version does, in one sentence.
        remedy: what to change before the upgrade.
        source: where etcd says so: its changelog or a file of its source.
        settings: the settings that cause it.
        listeners: the URLs that it concerns; empty for the whole member.
        harmless: whether etcd starts, refuses no more clients and accepts no more, as far as is known.
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

    @property
    def settled(self) -> bool:
        """Whether a release does it. What a pre-release does may change until then."""
        return not is_before_release(self.release)


def later_lines(version: str | None) -> tuple[str, ...]:
    """Return the known minor versions of etcd after that of a version; none if the version is not known."""
    return tuple(of for of in LINES if version_key(of) > version_key(version)[:2] and of in RELEASES)


@lru_cache(maxsize=256)
def look_ahead(member: DeclaredMember, version: str) -> tuple[Prospect, ...]:
    """Return what gets worse for a member's declaration in later minor versions, each thing once.

    What the version that runs does already is left out, and so is what depends on something unknown.
    """
    known = {_key(trap) for trap in traps_of(member, version)}
    ignored = {setting.name for setting in ignored_settings(member.declaration, version)}
    before, prospects = effective_of(member, version), list[Prospect]()
    for of in later_lines(version):
        traps = [trap for trap in traps_of(member, RELEASES[of]) if _key(trap) not in known and trap.certain]
        known |= {_key(trap) for trap in traps}
        prospects += [_of_trap(trap, of, member) for trap in traps]
        explained = {setting.name for trap in traps for setting in trap.settings}
        after = effective_of(member, RELEASES[of])
        prospects += [
            one
            for one in _changes(member, before, after, of)
            if explained.isdisjoint(setting.name for setting in one.settings)
        ]
        gone = [one for one in ignored_settings(member.declaration, RELEASES[of]) if one.name not in ignored]
        prospects += [_ignored(one, member.declaration, of) for one in gone if one.name not in explained]
        ignored |= {setting.name for setting in gone}
        before = after
    return (*prospects, *_of_go(member, version))


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


def _of_trap(trap: Trap, of: str, member: DeclaredMember) -> Prospect:
    return Prospect(
        line=of,
        summary=trap.summary,
        remedy=trap.remedy,
        source=_SOURCES.get(trap.id, _CHANGELOG).format(line=of),
        settings=trap.settings,
        listeners=trap.listeners,
        harmless=bool(trap.settings) and _is_rewritten(member, trap.settings),
    )


def _is_rewritten(member: DeclaredMember, settings: Sequence[Setting]) -> bool:
    """Return whether the program that wrote these settings replaces them when it upgrades etcd."""
    declaration = member.declaration
    if _OF_RANCHER.search(declaration.text("data-dir") or ""):
        return all(one.name in _BY_KUBEADM for one in settings)
    return declaration.form is Form.MANIFEST and all(
        _BY_KUBEADM.get(one.name) == one.value for one in settings
    )


_CHANGELOG: Final = "etcd CHANGELOG-{line}.md"
_SOURCES: Final = {
    "crl-encoding": "etcd client/pkg/transport/listener_tls.go, checkCRL: x509.ParseRevocationList since 3.6",
    "unknown-key": "etcd server/embed/config.go: the keys of the configuration file in etcd {line}",
    "does-not-start": "etcd server/etcdmain/config.go and server/embed/config.go in {line}",
}


def _changes(member: DeclaredMember, before: Effective, after: Effective, of: str) -> Iterator[Prospect]:
    """Yield what changes with the same settings: clients that are refused, and endpoints that are served."""
    declaration = member.declaration

    def change(summary: str, remedy: str, *names: str, harmless: bool = False) -> Prospect:
        given = tuple(declaration.settings[name] for name in names if name in declaration.settings)
        source = _CHANGELOG.format(line=of)
        return Prospect(
            line=of, summary=summary, remedy=remedy, source=source, settings=given, harmless=harmless
        )

    for side in SIDES:
        old, new, p = before.sides[side], after.sides[side], prefix(side)
        ca = f"{p}trusted-ca-file"
        if new.requests_certificate and not old.requests_certificate:
            yield change(
                f"--{ca} alone refuses clients without a certificate of that CA, which are accepted now",
                f"give every client a certificate, or remove --{ca}",
                ca,
            )
        for name in ("cert-allowed-cn", "cert-allowed-hostname"):
            flag, field = f"{side}-{name}", name.removeprefix("cert-").replace("-", "_")
            if getattr(new, field) and not getattr(old, field) and new.requests_certificate:
                names = " and ".join(one or "no name at all" for one in getattr(new, field))
                yield change(
                    f"only certificates for {names} are accepted; this etcd ignores that setting",
                    "issue certificates with that name, or remove the setting",
                    flag,
                )
        if old.skips_san_rule and not new.skips_san_rule and new.requests_certificate:
            old_name, new_name = (f"{x}{side}-skip-client-san-verification" for x in ("experimental-", ""))
            yield change(
                f"the names in certificates of {side}s are verified again: --{old_name} is not in force",
                f"issue certificates with the addresses of the {side}s, or give --{new_name} from 3.6 on",
                old_name,
                new_name,
            )
    if after.gateway and not before.gateway:
        yield change(
            "the JSON gateway (/v3/...) is served, which is off now",
            "write enable-grpc-gateway: false into the configuration file if it is not wanted",
            "enable-grpc-gateway",
            harmless=True,  # to the clients of the port, and to nobody else
        )
    if after.pprof and not before.pprof:
        yield change(
            "profiles (/debug/pprof/) are served on the client port: log level debug switches them on",
            "set --log-level=info",
            "log-level",
        )


def _ignored(setting: Setting, declaration: Declaration, of: str) -> Prospect:
    kind = "variable" if setting.via is Via.VARIABLE else "key"
    new = successor(setting, declaration, RELEASES[of])
    return Prospect(
        line=of,
        summary=f"{setting.spelled} is ignored: {of} has no such {kind}",
        remedy=f"it is --{new[0]} there" if new else f"remove {setting.spelled}",
        source=_CHANGELOG.format(line=of),
        settings=(setting,),
        harmless=True,
    )
