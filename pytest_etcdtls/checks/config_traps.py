"""The checks of traps (:mod:`pytest_etcdtls.declared.traps`), and of the start of an etcd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from pytest_etcdtls.checks.judgement import EVERY_TRY, altered, changed
from pytest_etcdtls.checks.registry import EVERY_LISTENER, CheckFunction, Counterexample, check
from pytest_etcdtls.checks.results import Finding, Level, Note, Statement, not_applicable, not_verified
from pytest_etcdtls.declared.declaration import Setting, Via, first_line
from pytest_etcdtls.declared.effective import SIDES, CRLEffect
from pytest_etcdtls.declared.flags import has_key
from pytest_etcdtls.declared.traps import TRAPS
from pytest_etcdtls.declared.traps.revocation import (
    the_revocation_list_can_be_read,
    the_revocation_list_exists,
    the_revocation_list_is_the_only_one,
)
from pytest_etcdtls.declared.traps.trap import FoundTrap, Trap
from pytest_etcdtls.errors import missing
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.configuration import (
    Declarations,
    ListenerDeclaration,
    MemberDeclaration,
    listeners_of_side,
)
from pytest_etcdtls.facts.declared_files import DeclaredFiles
from pytest_etcdtls.facts.rehearsal import Rehearsals
from pytest_etcdtls.facts.release import ACCEPTED_CLIENT
from pytest_etcdtls.role import Role, Side
from pytest_etcdtls.target import StartFailure, Target
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.command import GOOD_CLIENT, Command, Program, curl, local
from pytest_etcdtls.untrusted.printable import file_word, pasted


def trap_check(
    trap: Trap, *, on: frozenset[Role] = frozenset(), counterexample: Counterexample
) -> Callable[[CheckFunction], CheckFunction]:
    """Register the check of a trap, which its rule describes."""

    def register(judge: CheckFunction) -> CheckFunction:
        judge.__doc__ = trap.rule.__doc__
        return check(f"config.{trap.id}", on=on, counterexample=counterexample, cure=trap.cure)(judge)

    return register


_OF_CONTENT: Final = {the_revocation_list_can_be_read.id, the_revocation_list_is_the_only_one.id}
_WITH_COPY: Final = "--etcd-pki-dir, a directory with a copy"


def _judge_of(id_: str) -> CheckFunction:
    """Return the check of a trap on the whole target: a finding for each, if it is certain.

    What is in a revocation list that could not be read is not known.
    """
    unread = the_revocation_list_exists.id if id_ in _OF_CONTENT else ""

    def judge(
        declarations: Declarations, target: Target, rehearsals: Rehearsals | None
    ) -> Iterator[Statement]:
        for member in declarations.members:
            for trap in member.traps:
                if trap.id == id_:
                    yield _statement(member, trap, target, rehearsals)
                elif trap.id == unread:
                    yield _needs_copy(f"{member.label}: {trap.summary}")

    return judge


def _trapped(id_: str) -> Counterexample:
    """Return the counterexample: the first member's declaration contains that trap."""
    trap = FoundTrap(id=id_, summary="it does something else", remedy="write it otherwise")
    return changed("declarations.members.0", traps=(trap,))


def _needs_copy(text: str, ending: str = "") -> Statement:
    return not_verified(missing(text, "--etcd-pki-dir", passing=_WITH_COPY, ending=ending))


def _why_uncertain(member: MemberDeclaration) -> str:
    if member.version is None:
        return f"which is not known: pass {ACCEPTED_CLIENT}"
    return f"and {member.version} is newer than the versions that are known here: see its release notes"


def _statement(
    member: MemberDeclaration, trap: FoundTrap, target: Target, rehearsals: Rehearsals | None
) -> Statement:
    source = member.declared.declaration.source
    later = {one.url for one in target.unreached if one.member == member.label and one.next_start}
    is_later = later.issuperset(trap.listeners) and bool(trap.listeners)
    if not trap.starts and rehearsals and (started := rehearsals.started_with(source)):
        return Note(f"{member.label}: {trap.summary}; but {started}")
    if is_later and rehearsals:
        return not_applicable(f"{', '.join(trap.listeners)} is opened by a restart: see restart.listeners")
    if not trap.certain:
        return not_verified(
            f"{member.label}: {trap.summary}; this depends on the version of etcd, {_why_uncertain(member)}"
        )
    message = f"{member.label}: {'after a restart, ' if is_later else ''}{trap.summary}"
    if not trap.starts and member.version is not None and not member.replayed:
        message += (
            f"; etcd {member.version} runs, so it was started with other settings, and will not start "
            "again with this"
        )
    evidence = {"member": member.label, "etcd": member.version or "of unknown version"}
    if trap.listeners:
        evidence["listeners"] = ", ".join(trap.listeners)
    if is_later:
        evidence["since"] = "the next start of etcd"
    return Finding(
        message=message,
        expected=trap.remedy,
        concerns=concerned(member, trap.listeners, trap.settings) if trap.of_tls else (member.label,),
        observed="; ".join(map(str, trap.settings)) or source,
        place=first_line(trap.settings),
        evidence=evidence,
        reproduce=(*_lists_shown(member, trap), *_shown(member, trap.settings)),
        level=Level.SHOULD if trap.harmless else None,
        remediation=trap.remediation.replace("{", "{{").replace("}", "}}"),  # a remediation is a format
    )


def _lists_shown(member: MemberDeclaration, trap: FoundTrap) -> Iterator[Command]:
    """Yield commands that show what the trap is about in the files of revocation lists."""
    lists = (member.declared.crls.get(setting.value) for setting in trap.settings)
    for crl in lists if trap.id in _OF_CONTENT else ():
        if crl is None or crl.path is None:
            continue
        file, reads = file_word(crl.path), (crl.path,)
        if crl.pem:
            look = "a line for each list in PEM; DER has no such line"
            yield local("grep", "-na", "BEGIN X509 CRL", file, reads=reads, look=look)
        else:
            look = '"Version 1", or an error'
            yield local(
                "openssl", "crl", "-inform", "DER", "-in", file, "-noout", "-text", reads=reads, look=look
            )


def _shown(member: MemberDeclaration, settings: Iterable[Setting]) -> Iterator[Command]:
    """Yield commands that print settings in their files; what a configuration file hides, in that file."""
    declaration = member.declared.declaration
    in_file = next((given.place.file for given in declaration.settings.values() if given.via is Via.KEY), "")
    names: dict[tuple[str, bool, bool], dict[str, None]] = {}
    for setting in settings:
        if hidden := setting in declaration.hidden:
            key = setting.name.removeprefix("peer-")
            key = key if has_key(setting.name, member.version) else key.removeprefix("client-")
            path, name = in_file or declaration.config_file or "", f'(^|[^-a-z])({key})[": ]'
        else:
            path, name = setting.place.file, setting.spelled.rpartition(".")[2]
        names.setdefault((path, hidden, setting.place.line is None), {})[name] = None
    for (path, hidden, of_process), wanted in names.items():
        patterns = [word for name in wanted for word in ("-e", name)]
        if hidden:
            look = '"not in this file", or another value: etcd reads this file alone'
            options = ("grep", "-nE", *patterns, file_word(path))
            ends = " || echo not in this file"
            yield Command(program=Program.ANY, options=options, ends=ends, look=look, reads=(path,))
        elif of_process:  # an end of a word is a NUL there
            then = f"tr '\\0' '\\n' | {pasted('grep', '-nF', *patterns)}"
            yield local("cat", file_word(path), reads=(path,), then=then, look="what is declared")
        else:
            words = (*patterns, file_word(path))
            yield local("grep", "-nF", *words, reads=(path,), look="what is declared")


def concerned(
    member: MemberDeclaration, urls: tuple[str, ...], settings: tuple[Setting, ...]
) -> tuple[str, ...]:
    """Return the listeners of the side to which URLs or else settings belong, of both if to none."""
    roles = {listener.role for listener in member.effective.listeners if str(listener.url) in urls}
    sides: set[Side] = {role.side for role in roles}
    if not sides:
        sides = {side for setting in settings for side in _sides_of(setting.name)}
    return tuple(
        name for side in SIDES if side in (sides or SIDES) for name in listeners_of_side(member.label, side)
    )


_OF_CLIENTS = ("client-", "cert-file", "key-file", "trusted-ca-file", "auto-tls")


def _sides_of(setting: str) -> tuple[Side, ...]:
    """Return the sides to which a setting applies."""
    if setting.startswith("peer-"):
        return ("peer",)
    return ("client",) if setting.startswith(_OF_CLIENTS) else SIDES


for _trap in TRAPS:
    if not _trap.on_the_wire:
        trap_check(_trap, counterexample=_trapped(_trap.id))(_judge_of(_trap.id))


def _gone(declaration: ListenerDeclaration, client: AcceptedClient, **_: object) -> Mapping[str, Any]:
    trap = FoundTrap(id="crl-missing", summary="it is not here", remedy="put it there", certain=False)
    closed = altered(altered(client, EVERY_TRY, ending=Ending.CLOSED), "candidates.*", has_names=False)
    return {
        "declaration": altered(declaration, "member", traps=(trap,)),
        "client": replace(closed, accepted=None),
    }


@trap_check(the_revocation_list_exists, on=EVERY_LISTENER, counterexample=_gone)
def _judge_missing_list(
    declaration: ListenerDeclaration, client: AcceptedClient, files: DeclaredFiles
) -> Iterator[Statement]:
    of_side = f"{declaration.side}-crl-file"
    lists = [
        crl for member in files.members if member.label == declaration.here.member for crl in member.crls
    ]
    missing = next((crl.missing for setting, crl in lists if setting.name == of_side and crl.missing), "")
    for trap in declaration.traps("crl-missing"):
        accepted = client.accepted and client.accepted.identity
        if declaration.listener is not None and declaration.listener.crl is CRLEffect.IGNORED:
            yield Note("etcd does not read it on this port, see config.crl-ignored-on-grpc")
        elif missing:
            running = "every client with a certificate is refused"
            if accepted:
                running = (
                    f"etcd accepts {accepted}, so it was started without it; started again with it, it "
                    "refuses every client with a certificate"
                )
            yield Finding(
                message=f"the revocation list is missing on the member: {running}",
                expected=trap.remedy,
                observed=missing,
                place=first_line(trap.settings),
                evidence={"declared": "; ".join(map(str, trap.settings))},
                reproduce=tuple(
                    local("ls", "-l", file_word(setting.value), look='"No such file"')
                    for setting in trap.settings
                ),
            )
        elif declaration.member.replayed:
            yield _needs_copy(f"{trap.summary}; the replay has a generated list")
        elif accepted:
            why = f"{accepted} is accepted: etcd finds the list, or was started without it"
            ending = f": run on the member, or pass {_WITH_COPY}"
            yield _needs_copy(f"{trap.summary}; {why}", ending)
        elif closed := [
            found
            for found in client.candidates
            if found.endings == {Ending.CLOSED} and not client.closed_by_san_rule(found)
        ]:
            yield Finding(
                message="the revocation list is missing here and apparently on the member too",
                expected=trap.remedy,
                observed="; ".join(
                    f"{found.identity}: {attempt.offered_version} {attempt.protocol}: {attempt.describe()}"
                    for found in closed
                    for attempt in found.attempts
                ),
                place=first_line(trap.settings),
                evidence={"declared": "; ".join(map(str, trap.settings))},
                reproduce=(curl(declaration.here.url, client=GOOD_CLIENT),),
            )
        else:
            yield _needs_copy(f"{trap.summary}; only an accepted client shows it, and none is accepted")


_not_started = changed("target", failure=StartFailure(member="m0", reason="it ended with status 1"))


@check("config.starts", on=set(), counterexample=_not_started)
def an_etcd_that_is_started_serves_clients(target: Target) -> Iterator[Statement]:
    """An etcd that the run starts serves its clients.

    Otherwise nothing else of it can be judged. It counts whatever checks are selected. Where a declaration is
    replayed, --etcd-config with --etcd-binary or --etcd-image, a member that is updated to this version is
    missing in the cluster until the declaration is corrected. The notes say what a replay replaces. If
    --etcd-pid=auto finds a process that cannot be judged, this is its only check, and says why.

    Spec: etcd Documentation, configuration options
    Follows: config.does-not-start, config.flag-unknown-to-version, config.trusted-ca-usable
    Severity: high
    Level: MUST
    Remediation: correct what etcd's log names before this etcd is rolled out.
    """
    if target.unjudged:
        yield not_verified(target.unjudged)
    for remark in target.remarks if target.replay else ():
        yield Note(remark)
    if failure := target.failure:
        etcd = f"etcd {target.etcd_version} ({target.source})"
        started_with = f"{etcd} and {target.replay}" if target.replay else etcd
        yield Finding(
            message=f"{failure.member} does not start: {failure.reason}",
            expected="it serves its clients",
            observed=failure.reason,
            evidence={"member": failure.member, "started with": started_with, "log": "\n".join(failure.log)},
        )
