"""What a cure comes to on the members of a target: the settings to write and to remove.

A cure (:mod:`pytest_etcdtls.declared.cures`) lets nobody in who was refused. It replaces neither a declared
trust bundle nor a declared certificate: a wrong leaf is issued again. :func:`remedy` confirms this by the
model of etcd, and that the settings bring about no new trap. Otherwise it proposes none, and the sentence of
the check remains.

Nothing edits a file: the settings are printed as lines in the form of the declaration (:func:`lines`).
Remarks say which available clients will be refused after the restart that every change needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace as with_changes
from datetime import UTC, datetime
from os.path import abspath, exists
from types import MappingProxyType
from typing import Any, Final

from cryptography import x509
from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.checks.results import Finding
from pytest_etcdtls.declared.cures import Cure, Issue, OtherFile, Remark, Restart
from pytest_etcdtls.declared.declaration import (
    Change,
    Declaration,
    DeclaredMember,
    Form,
    Setting,
    SourceLine,
    Via,
    first_line,
    taken,
)
from pytest_etcdtls.declared.effective import (
    SIDES,
    ClientAuthentication,
    Effective,
    TLSSide,
    effective_of,
    prefix,
)
from pytest_etcdtls.declared.files import client_files
from pytest_etcdtls.declared.flags import LISTS, SECTIONS, variable_of
from pytest_etcdtls.declared.situation import Situation, who_overwrites
from pytest_etcdtls.declared.traps import traps_of
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.configuration import Declarations, MemberDeclaration, listener_declaration
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.pki.certificate import MAXIMUM_SIZE, load_certificates, read_pool
from pytest_etcdtls.pki.go_verify import CLIENT_AUTH, verified_path
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.untrusted.printable import shell_word
from pytest_etcdtls.untrusted.regular_files import read_regular


def _clients_after_restart(
    target: Target, member: DeclaredMember, version: str | None, side: Side
) -> Iterator[Remark]:
    """Yield which available clients the declared bundle accepts, and which it locks out."""
    tls = effective_of(member, version).sides[side]
    file = member.file(f"{prefix(side)}trusted-ca-file")
    if tls.trusted_ca is None or file is None:
        return
    try:
        bundle = read_pool(read_regular(file, MAXIMUM_SIZE)).certificates
    except UnreadableFileError:
        return
    clients, now = dict(_clients(target, member, side)), datetime.now(UTC)
    accepted = [
        name
        for name, chain in clients.items()
        if verified_path(chain[0], chain[1:], bundle, now, CLIENT_AUTH) is not None
    ]
    refused = [name for name in clients if name not in accepted]
    port = f"the {side} port"
    if accepted:
        yield Remark(f"after the restart {port} accepts {', '.join(accepted)}")
    if refused:
        yield Remark(
            f"after the restart {port} refuses {', '.join(refused)}: not signed by a CA in "
            f"{tls.trusted_ca}, or not valid now. Before the restart, issue it a certificate of a "
            "CA in that file",
            warns=True,
        )


def _clients(
    target: Target, member: DeclaredMember, side: Side
) -> Iterator[tuple[str, Sequence[x509.Certificate]]]:
    """Yield the clients whose certificates are here, with names for messages."""
    credentials = target.credentials(Role(side))
    # The user's client is tried on peer ports, too. That they refuse it is right.
    seen = {identity.chain[0] for identity in target.client.identities if side == "peer" and identity.chain}
    for identity in credentials.identities:
        if identity.chain and identity.chain[0] not in seen:
            seen.add(identity.chain[0])
            yield f"{identity.name} ({identity.origin})", identity.chain
    for files in client_files(member) if side == "client" else ():
        try:
            chain = load_certificates(files.certificate)
        except UsageError:
            continue
        if chain[0] not in seen:
            seen.add(chain[0])
            yield f"{files.name} ({files.certificate})", chain


class Remedy(Struct, frozen=True, kw_only=True):
    """What to do to the declarations of a target.

    Attributes:
        settings: those to write and to remove, one line each.
        instead: sentences that replace the check's remediation.
        warnings: who is locked out if nothing is done before a restart.
        remarks: the other sentences, which add to the check's remediation as the warnings do.
        place: the first declared setting that it concerns; ``None`` if none has a line.
    """

    settings: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    place: SourceLine | None = None


def remedied(
    cure: Cure | None, findings: Sequence[Finding], recording: Recording, listener: Listener | None
) -> tuple[Remedy, tuple[Finding, ...]]:
    """Return what to do about findings, and the findings with their remediations and places.

    Args:
        cure: of the check, for the findings that have none of their own.
        findings: of one check.
        recording: of the target.
        listener: on which they are; ``None`` for the whole target.
    """
    of_cures: dict[Cure | None, list[Finding]] = {}
    for finding in findings:
        of_cures.setdefault(finding.cure or cure, []).append(finding)
    remedies: dict[Cure | None, Remedy] = {}
    for each, its in of_cures.items():
        cases = situations_of(recording, listener, its)
        remedies[each] = remedy(each, cases, recording.target) if each else Remedy()
    every = remedies.values()
    has_places = all(finding.place or remedies[finding.cure or cure].place for finding in findings)
    line = None if has_places else declared_line(recording, listener, findings)
    whole = Remedy(
        settings=tuple(dict.fromkeys(text for one in every for text in one.settings)),
        warnings=tuple(dict.fromkeys(text for one in every for text in one.warnings)),
        remarks=tuple(dict.fromkeys(text for one in every for text in one.remarks)),
    )
    return whole, tuple(
        with_changes(
            finding,
            place=finding.place or done.place or line,
            # A remediation is a format.
            remediation="; ".join(done.instead).replace("{", "{{").replace("}", "}}") or finding.remediation,
        )
        for finding in findings
        for done in [remedies[finding.cure or cure]]
    )


def remedy(cure: Cure, cases: Iterable[Situation], target: Target) -> Remedy:
    """Return what a cure comes to on these members of a target."""
    settings: list[str] = []
    said: list[Remark] = []
    named: list[Setting] = []
    for case in cases:
        steps = list(cure(case))
        files = [step for step in steps if isinstance(step, OtherFile)]
        changes = [step for step in steps if isinstance(step, Change)]
        changes += [Change(step.name, step.path) for step in files]
        concerned = [step.name for step in (*changes, *steps) if isinstance(step, Change | Issue)]
        named += filter(None, map(case.declaration.settings.get, concerned))
        after = replace(case.member, declaration=changed(case.declaration, changes))
        if why := _against(case, after, {step.name for step in files}):
            said.append(Remark(f"change {case.declaration.source} by hand: {why}"))
            continue
        said += [Remark(step.text, instead=True) for step in files]
        said += [Remark(step.text, instead=step.instead) for step in steps if isinstance(step, Issue)]
        said += [step for step in steps if isinstance(step, Remark)]
        sides: list[Side] = []
        if any(isinstance(step, Restart) for step in steps):
            sides = [case.side]
            said += [Remark(f"restart it with: {case.restart}")] if case.restart else []
        if written := list(lines(case.declaration, after.declaration)):
            settings += written
            said += map(Remark, who_overwrites(case.declaration))
            was, is_now = (effective_of(member, case.version).sides for member in (case.member, after))
            sides += [side for side in SIDES if _trusted(was[side]) != _trusted(is_now[side])]
        for side in sides:
            said += _clients_after_restart(target, after, case.version, side)
    return Remedy(
        settings=tuple(dict.fromkeys(settings)),
        instead=tuple(dict.fromkeys(remark.text for remark in said if remark.instead)),
        warnings=tuple(dict.fromkeys(remark.text for remark in said if remark.warns)),
        remarks=tuple(dict.fromkeys(one.text for one in said if not (one.warns or one.instead))),
        place=first_line(named),
    )


def situations_of(
    recording: Recording, listener: Listener | None, findings: Sequence[Finding]
) -> Iterator[Situation]:
    """Yield the sides of the declared members that findings concern."""
    target, declarations = recording.target, recording.known(Declarations)
    trusted = {
        side: abspath(bundle.source)
        for side in SIDES
        if (bundle := target.credentials(Role(side)).client_trust)
        and not bundle.inferred
        and exists(bundle.source)
    }
    versions = {member.label: member.version for member in declarations.members} if declarations else {}
    quorum = _has_quorum(recording)
    for label, side in _concerned(target, listener, findings):
        running = target.running.get(label)
        yield Situation(
            member=target.declared[label],
            version=versions.get(label, target.etcd_version),
            side=side,
            trusted=trusted.get(side),
            quorum=quorum,
            control_group=running.process.control_group if running else "",
        )


def _concerned(
    target: Target, listener: Listener | None, findings: Sequence[Finding]
) -> Iterator[tuple[str, Side]]:
    """Yield the labels of the declared members that findings concern, each with the sides."""
    for label in target.declared:
        if listener is None:
            yield from ((label, side) for side in _sides(label, findings))
        elif listener.member == label:
            yield label, listener.role.side


def _has_quorum(recording: Recording) -> bool:
    """Return whether etcd has one as far as is known: without it, the client port of a started etcd is shut.

    One that had it before answers, and its ``/health`` says no (``checkHealth`` in etcdhttp/health.go).
    """
    asked = [one for one in recording.target.listeners if one.role is Role.CLIENT]
    contacts = [contact for one in asked if (contact := recording.known(FirstContact, label=one.label))]
    healths = (recording.known(ClientExchange, "/health", one.label) for one in asked)
    answers = [one.attempt.response for one in healths if one and one.attempt.response]
    shut = bool(contacts) and not any(contact.answered for contact in contacts)
    unhealthy = (one.fields for one in answers if one.fields.get("health") == "false")
    # With an alarm, a member list can be changed.
    return not shut and all("ALARM" in str(fields.get("reason")) for fields in unhealthy)


def declared_line(
    recording: Recording, listener: Listener | None, findings: Sequence[Finding]
) -> SourceLine | None:
    """Return the line that declares the listener, or the first one that findings concern; else ``None``."""
    target, declarations = recording.target, recording.known(Declarations)
    members = {member.label: member for member in declarations.members} if declarations else {}
    for label, side in _concerned(target, listener, findings):
        member = members.get(label) or MemberDeclaration.of(
            label, target.declared[label], target.etcd_version
        )
        own = (one for one in target.listeners if one.member == label and one.role.side == side)
        for one in own if listener is None else (listener,):
            found = listener_declaration(target, one, member).listener
            if found and found.declared.setting and (line := first_line([found.declared.setting])):
                return line
    return None


def _sides(label: str, findings: Sequence[Finding]) -> tuple[Side, ...]:
    """Return the sides of a member that findings about the whole target concern."""
    names = [name for finding in findings for name in finding.concerns]
    if not all(finding.concerns for finding in findings):
        return SIDES
    concerned = {role.side for role in Role for name in names if name in (role, f"{role}-{label}")}
    return tuple(side for side in SIDES if side in concerned)


def _trusted(side: TLSSide) -> tuple[str | None, ClientAuthentication]:
    return side.trusted_ca, side.client_auth


def _against(case: Situation, after: DeclaredMember, named: Container[str]) -> str:
    """Return why changed settings are not proposed; empty if they are.

    Args:
        case: the member as it is declared.
        after: the same, changed.
        named: the settings of which it is known that they name the wrong file.
    """
    known = {trap.id for trap in traps_of(case.member, case.version)}
    for trap in traps_of(after, case.version):
        if trap.id not in known and not trap.harmless and trap.certain:
            return f"with the usual settings {trap.summary}"
    before, now = (effective_of(member, case.version) for member in (case.member, after))
    for side in SIDES:
        name = f"{prefix(side)}trusted-ca-file"
        declared = case.declaration.text(name)
        if declared and name not in named and after.declaration.text(name) != declared:
            return f"the usual settings would replace the bundle of --{name}"
        if _admits_more(before, now, side):
            return f"with the usual settings the {side} port would accept clients that it refuses"
    return ""


def _admits_more(before: Effective, after: Effective, side: Side) -> bool:
    """Return whether a port of a side accepts clients that it refused, as far as settings decide."""
    plain = [{one.url.address for one in of.listeners if one.plaintext} for of in (before, after)]
    was, is_now = before.sides[side], after.sides[side]
    opens = not plain[1] <= plain[0]
    if opens or not was.requests_certificate:
        return opens
    return (
        not is_now.requests_certificate
        or (is_now.client_auth is ClientAuthentication.SYSTEM_ROOTS and was.client_auth != is_now.client_auth)
        or any(
            bool(getattr(was, rule)) and not getattr(is_now, rule)
            for rule in ("client_cert_auth", "allowed_cn", "allowed_hostname", "crl_file")
        )
        or (is_now.skips_san_rule and not was.skips_san_rule)
    )


_WITHOUT_EFFECT: Final = ("overridden", "shadowed", "hidden", "unknown")
"""The settings of a declaration that are given and have no effect."""


def _way(declaration: Declaration, change: Change) -> Via:
    """Return how the setting of a change is given: as it is now, else as others are."""
    if change.via is not None:
        return change.via
    if change.name in declaration.settings:
        return declaration.settings[change.name].via
    if declaration.config_file or declaration.form is Form.YAML:
        return Via.KEY
    flags = any(setting.via is Via.FLAG for setting in declaration.settings.values())
    return Via.FLAG if flags else Via.VARIABLE


def _written(declaration: Declaration, change: Change) -> Setting:
    """Return the setting that a change adds, at the line of the one that it replaces."""
    via, name = _way(declaration, change), change.name
    old = [setting.place for setting in declaration.given if (setting.name, setting.via) == (name, via)]
    every = (*declaration.settings.values(), *declaration.hidden)
    files = [setting.place.file for setting in every if setting.via is via]
    own = declaration.config_file if via is Via.KEY and declaration.form is not Form.YAML else None
    place = old[-1] if old else SourceLine(files[0] if files else own or declaration.source)
    spelled = variable_of(name) if via is Via.VARIABLE else f"--{name}" if via is Via.FLAG else name
    for section, keys in SECTIONS.items() if via is Via.KEY else ():
        spelled = next((f"{section}.{key}" for key, flag in keys.items() if flag == name), spelled)
    return Setting(name=name, value=change.value or "", spelled=spelled, via=via, place=place)


def changed(declaration: Declaration, changes: Iterable[Change]) -> Declaration:
    """Return the declaration with these changes. What etcd takes for the same as is given stays."""
    settings, gone = dict(declaration.settings), set[Setting]()
    for change in changes:
        old = [setting for setting in declaration.given if setting.name == change.name]
        old = [setting for setting in old if change.via in (None, setting.via)]
        if change.value is not None:
            written = _written(declaration, change)
            if old and all(taken(setting) == taken(written) for setting in old):
                continue
            settings[change.name] = written
        elif settings.get(change.name) in old:
            del settings[change.name]
        gone.update(old)
    kept: dict[str, Any] = {
        group: tuple(setting for setting in getattr(declaration, group) if setting not in gone)
        for group in _WITHOUT_EFFECT
    }
    return with_changes(declaration, settings=MappingProxyType(settings), **kept)


def lines(before: Declaration, after: Declaration) -> Iterator[str]:
    """Yield the settings to remove and to write as the declaration has them, with file and line.

    Each is ``- `` or ``+ ``, an argument, a variable or a key of etcd's configuration file, and a comment.
    """
    old, new = (dict.fromkeys(declaration.given) for declaration in (before, after))
    removed = [("-", setting) for setting in old if setting not in new]
    written = [("+", setting) for setting in new if setting not in old]
    for sign, setting in sorted((*removed, *written), key=lambda step: step[1].name):
        yield f"{sign} {_line(setting, after.form)}"


_PLAIN: Final = re.compile(r"[\w./:=@%+-]+", re.ASCII)
"""A scalar of YAML that needs no quotation marks."""


def _line(setting: Setting, form: Form) -> str:
    where = [str(setting.place.named)]
    if setting.via is Via.KEY:
        section, _, key = setting.spelled.rpartition(".")
        words = setting.shown.split(",") if key in LISTS else [setting.shown]
        words = [word if _PLAIN.fullmatch(word) else json.dumps(word) for word in words]
        text = f"{key}: [{', '.join(words)}]" if key in LISTS else f"{key}: {words[0]}"
        where = [*filter(None, [section]), *where]
    elif form is Form.MANIFEST:
        text = setting.written
    else:
        text = f"{setting.spelled}={shell_word(setting.shown)}"
    return f"{text}  # {', '.join(where)}"
