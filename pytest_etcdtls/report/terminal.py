"""The summary of a run for a terminal, and the verdict that ends it.

The verdict is at most 24 lines for one member at 80 columns.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

from cryptography import x509
from msgspec import structs

from pytest_etcdtls.checks.registry import GATES, family_of
from pytest_etcdtls.checks.results import Ancestor, CheckResult, Outcome, Severity
from pytest_etcdtls.errors import ReasonKind
from pytest_etcdtls.facts.discovery import Discovery
from pytest_etcdtls.facts.etcd_log import EtcdLogs, ReadLog, RejectedOthers
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.facts.rehearsal import Rehearsals
from pytest_etcdtls.pki.certificate import fingerprint, shown
from pytest_etcdtls.profiles.profiles import FAILED, outcome_of, summary_of
from pytest_etcdtls.report.benchmark import is_decided, judged_items
from pytest_etcdtls.report.differences import OUTCOME, ComparedTargets, Direction, TargetDifference
from pytest_etcdtls.report.in_force import ListenerRow, members
from pytest_etcdtls.report.model import Fault, Report, version_of
from pytest_etcdtls.report.overview import (
    WITHOUT_VERDICT,
    WORST_FIRST,
    about_commands,
    access_in_words,
    colour_of,
    conclusion,
    exit_reason,
    is_of_several,
    judged,
    numbered,
    places,
    rehearsed,
    since,
    undecided,
    without_evidence,
)
from pytest_etcdtls.report.text import (
    Line,
    bold,
    certificate_card,
    coloured,
    days_left,
    full_result,
    headed,
    section,
    shown_name,
    without_names,
    wrapped,
)
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.hello import Connection, is_served
from pytest_etcdtls.untrusted.printable import plural, some

_SEVERITIES = list(Severity)
_NOT_LOOKED_FOR = "Only the named listeners were judged; --etcd-discover judges every member."


def summary(report: Report, *, width: int, verbosity: int, faults: bool = False) -> Iterator[Line]:
    """Yield the summary.

    Args:
        report: the report of the run.
        width: characters per line. Commands to paste may be longer.
        faults: show each fault in full, since pytest does not.
        verbosity: pytest's verbosity. Below zero, only unused waivers are shown; above zero, also
            certificates and what was not verified, did not apply or was not collected; above one, with every
            reason.
    """
    if verbosity >= 0:
        for seen in report.worst_first:
            yield from _target(seen, report, width, verbosity)
        yield from wrapped(_counts(report), width)
    for number, (_, fault) in enumerate(numbered(report.faults) if faults else ()):
        on, first = _together(fault.listeners, report), fault.first
        shown = _one_line(fault) if number < _IN_FULL else None
        yield from headed(bold(f"{first.check} on {on}"), full_result(first, width, in_verdict=shown))
    unused = report.reviewed.unused
    texts = (f"{one.check} on {one.listener}: {why} ({one.source}: {one.reason})" for one, why in unused)
    yield from headed(bold("unused waivers"), _entries(texts, width))
    if verbosity >= 0:
        results = [result for fault in report.warnings for result in fault.results]
        yield from headed(coloured("warnings", "yellow"), _warnings(results, report, width))
        yield from _waived(_of(report, Outcome.WAIVED), width)
        yield from _grouped("notes of profiles", report.profile_notes, report, width, every=verbosity > 1)
        if verbosity > 0:
            for outcome in (Outcome.NOT_VERIFIED, Outcome.NOT_APPLICABLE):
                heading, results = outcome.replace("-", " "), _of(report, outcome)
                yield from _grouped(heading, results, report, width, every=verbosity > 1)
            left_out = (f"{number}: {reason}" for reason, number in report.left_out.items())
            yield from headed(bold("not collected"), _entries(left_out, width))
        for seen in report.seen:
            if _shows_declared(seen, verbosity):
                yield from _benchmark(report, seen, width, every=verbosity > 0)
            yield from rejected_lines(seen, width, every=verbosity > 1)


def _of(report: Report, outcome: Outcome) -> list[CheckResult]:
    results = [result for result in report.results if result.outcome is outcome]
    return sorted(results, key=lambda result: _SEVERITIES.index(result.severity))


def _counts(report: Report) -> str:
    counts = []
    for outcome in WORST_FIRST:
        if number := report.counts[outcome]:
            text = outcome.replace("-", " ")  # a verb, as in "1 violates", or an adjective
            counts.append(f"{number} {text if number == 1 else text.removesuffix('s')}")
    if left_out := sum(report.left_out.values()):
        counts.append(f"{left_out} not collected")
    return f"{', '.join(counts) or 'nothing was judged'}; {plural(report.connections, 'connection')}"


@section
def _target(seen: Recording, report: Report, width: int, verbosity: int) -> Iterator[Line]:
    version = f", etcd {version_of(seen)}" if version_of(seen) else ""
    yield bold(f"{seen.target.label} ({seen.target.origin}{version})")
    for _, _, fact in seen.facts:
        if isinstance(fact, Discovery):
            yield from wrapped(fact.describe(), width, "  ", "    ")
    is_declared = _shows_declared(seen, verbosity) and any(rows for _, rows in members(seen))
    if verbosity > 0:
        kinds = [] if is_declared else _kinds(report, seen, seen.target.listeners)
        roles = Counter(kind[0].role for kind in kinds)
        for kind in kinds:
            yield from _row(report, seen, kind, width, named=roles[kind[0].role] > 1)
        yield from _certificates(seen, report, width)
    if is_declared:
        yield from _declared(seen, report, width, every=verbosity > 1)
    named = {listener.member for listener in seen.target.listeners}
    if seen.target.live and not seen.target.discover and not named <= seen.target.declared.keys():
        yield from wrapped(_NOT_LOOKED_FOR, width, "  ", "    ")
    unreached = (
        f"{each.role} {each.url}: not judged: {each.reason}" if each.url else f"not judged: {each.reason}"
        for each in seen.target.unreached
    )
    for text in dict.fromkeys(unreached):  # loopback is of each member
        yield from wrapped(text, width, "  ", "    ")


def _certificates(seen: Recording, report: Report, width: int) -> Iterator[Line]:
    """Yield the chains that are served; those that differ in serial numbers alone together."""
    alike: dict[tuple[str, ...], list[tuple[Listener, ServedChain | None]]] = {}
    for listener in seen.target.listeners:
        chain = seen.known(ServedChain, label=listener.label)
        about = tuple(_chain_texts(chain.certificates if chain else (), report.started_at))
        alike.setdefault(about, []).append((listener, chain))
    for texts, served in alike.items():
        on = _together([listener.label for listener, _ in served], report)
        yield from wrapped(f"{on}: {texts[0] if texts else 'no certificate was seen'}", width, "  ", "    ")
        for text in texts[1:]:
            yield from wrapped(text, width, "    ")
        urls: dict[str, list[str]] = {}
        for listener, chain in served:
            urls.setdefault(fingerprint(chain.leaf) if chain else "", []).append(listener.url)
        size = _SHORT if len(urls) > 1 else None
        text = ", ".join(f"{sha[:size]} on {some(on, _NAMED)}".lstrip() for sha, on in urls.items())
        yield from wrapped(text, width, "    SHA-256 " if texts else "    ")


def _chain_texts(chain: Sequence[x509.Certificate], now: datetime) -> Iterator[str]:
    for number, certificate in enumerate(chain):
        card = dict(certificate_card(certificate, now))
        above = f"above, {number}: " if number else ""
        yield f"{above}{card['subject']}, issued by {card['issuer']}"
        # By day: certificates of members are seldom issued in the same second.
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        yield f"{begin:%Y-%m-%d} to {end:%Y-%m-%d} ({days_left(certificate, now)})"
        yield f"{card['key']}, {card['signature']}; {card['key usage']}; {card['extended']}"
        yield card["names"]


def _shows_declared(seen: Recording, verbosity: int) -> bool:
    """Return whether the declaration is shown: a user's always, that of an owned cluster with ``-v``."""
    return seen.target.configured_by_user or verbosity > 0


def _warnings(results: Sequence[CheckResult], report: Report, width: int) -> Iterator[Line]:
    """Yield one block per warning; listeners with the same one share it, also those of several targets."""
    blocks: dict[tuple[str, ...], list[CheckResult]] = {}
    for result in results:
        messages = [finding.message for finding in result.findings]
        blocks.setdefault((result.check, result.remediation, *messages), []).append(result)
    for (check, remediation, *messages), alike in blocks.items():
        listeners = _together([result.listener for result in alike], report)
        targets = ", ".join(dict.fromkeys(result.target for result in alike))
        yield from wrapped(f"{check} ({alike[0].severity}) on {listeners} of {targets}", width, "  ")
        for number, message in enumerate(messages):
            observed: dict[str, list[str]] = {}
            for result in alike:
                observed.setdefault(result.findings[number].observed, []).append(result.listener)
            if len(observed) == 1:
                yield from wrapped(f"{message} (observed: {next(iter(observed))})", width, "    ")
                continue
            yield from wrapped(f"{message}; observed:", width, "    ")
            for text, labels in observed.items():
                yield from wrapped(f"{_together(labels, report)}: {text}", width, "    ", "      ")
        yield from wrapped(remediation, width, "    remedy: ")


@section
def _waived(results: Sequence[CheckResult], width: int) -> Iterator[Line]:
    following = Counter((result.target, result.cause) for result in results if result.cause is not None)
    texts = []
    for fault in (result for result in results if result.cause is None):
        number = following[fault.target, Ancestor(fault.check, fault.listener)]
        verb = "follows" if number == 1 else "follow"
        more = f"; so {_are(number)} {plural(number, 'result')} that {verb} from it" if number else ""
        texts.append(f"{fault.check} on {fault.listener} of {fault.target}: {fault.reason}{more}")
    yield from headed(bold("waived"), _entries(texts, width))


@section
def _grouped(
    heading: str, results: Iterable[CheckResult], report: Report, width: int, *, every: bool
) -> Iterator[Line]:
    """Yield the reasons of results and their numbers: the most frequent, or ``every`` one with its checks."""
    groups = undecided(results)
    texts = []
    for group in groups if every else groups[:_REASONS]:
        of = f": {', '.join(group.checks)} on {_together(group.listeners, report)}" if every else ""
        texts.append(f"{group.number}: {group.reason}{of}")
    if left := [] if every else groups[_REASONS:]:
        options = ", ".join(dict.fromkeys(option for group in left for option in group.options))
        advice = f"pass {options}; -vv has all" if options else "-vv has all"
        number = sum(group.number for group in left)
        texts += [f"{number}: {plural(len(left), 'more reason')}: {advice}"]
    yield from headed(bold(heading), _entries(texts, width))


def _together(labels: Iterable[str], report: Report) -> str:
    """Return labels of listeners; of one target, those of a role or of all listeners in a word."""
    named = dict.fromkeys(labels)
    if len(report.seen) == 1 and len(named) > 1:
        roles = {listener.label: str(listener.role) for listener in report.seen[0].target.listeners}
        if CLUSTER in named:
            return f"{_together([label for label in named if label != CLUSTER], report)} and {CLUSTER}"
        if named.keys() == roles.keys():
            return "every listener"
        of_these = {roles.get(label, "") for label in named}
        if named.keys() == {label for label, role in roles.items() if role in of_these}:
            return " and ".join(f"every {role} port" for role in sorted(of_these))
    return ", ".join(named)


def _entries(texts: Iterable[str], width: int) -> Iterator[Line]:
    for text in texts:
        yield from wrapped(text, width, "  ", "    ")


def _declared(seen: Recording, report: Report, width: int, *, every: bool) -> Iterator[Line]:
    """Yield what is declared of the listeners of each role and what is observed, the same of several once.

    Members that differ in nothing but their names and URLs, as in ``pki/m0/server.crt``, are the same, unless
    ``every`` listener is wanted.
    """
    rows_of: dict[str, list[ListenerRow]] = {}
    names = sorted({listener.member for listener in seen.target.listeners})
    for row in (row for _, rows in members(seen) for row in rows):
        rows_of.setdefault(row.listener.label if every else row.listener.role, []).append(row)
    for rows in rows_of.values():
        first = rows[0].listener
        of = f"{_together([row.listener.label for row in rows], report)}, {first.label} for example"
        yield Line(f"  {of if len(rows) > 1 else f'{first.label} {first.url}'}")
        said: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for row in rows:
            files = [re.escape(one.value) for one in row.declared if one.value.startswith("/")]
            effective = re.sub(rf" ({'|'.join(files) or '$'})(?![^;,])", "", row.effective)
            observed = "; ".join(access_in_words(report, seen, row.listener)) or "not observed"
            written = ", ".join(setting.written for setting in row.declared) or "nothing"
            in_files = ", ".join(dict.fromkeys(setting.place.named.file for setting in row.declared))
            declared = f"{written} ({in_files})" if in_files else written
            for label, text in zip(_COMPARED, (declared, effective, observed), strict=True):
                own = without_names(text.replace(row.listener.url, ""), names)
                said.setdefault((label, own), []).append((row.listener.label, text))
        for (label, _), alike in sorted(said.items(), key=lambda one: _COMPARED.index(one[0][0])):
            on = f"on {_together([one for one, _ in alike], report)}: " if len(alike) < len(rows) else ""
            yield from wrapped(f"{on}{alike[0][1]}", width, f"    {label + ':':<11}")


_COMPARED = ("declared", "effective", "observed")


@section
def _benchmark(report: Report, seen: Recording, width: int, *, every: bool) -> Iterator[Line]:
    """Yield the result of a flag reader, and the items that the wire contradicts, or every item."""
    judged = judged_items(report, seen)
    if not judged:
        return
    passed = sum(item.flags_say == "pass" for item in judged)
    differing = [item for item in judged if item.differs]
    undecided = [item.item for item in judged if not is_decided(item)]
    agreeing = len(judged) - len(undecided)
    wire = f"disagrees with {len(differing)} of them" if differing else f"agrees with {agreeing} of them"
    if undecided:
        wire += f" and leaves {len(undecided)} not verified ({', '.join(dict.fromkeys(undecided))})"
    yield from (Line(), bold(f"CIS Kubernetes Benchmark, section 2, of {seen.target.label}"))
    text = f"a reader of flags passes {passed} of {len(judged)} items; the wire {wire}"
    yield from wrapped(text, width, "  ")
    for item in judged if every else differing:
        by_flags = f"the flags {item.flags_say} ({', '.join(item.reads)})"
        by_wire = f"the wire {item.wire_says} ({', '.join(item.checks)})"
        text = f"{item.item} {item.title}, of {item.member}: {by_flags}, {by_wire}"
        yield from wrapped(text, width, "  ", "    ")


_GROUPS = 5
"""Maximum number of groups that are shown of one log, without ``-vv``."""
_EVERY = 100


@section
def rejected_lines(seen: Recording, width: int, *, every: bool) -> Iterator[Line]:
    """Yield the rejected connections in a target's logs, or for a live target without a log our own ones.

    Args:
        seen: a target and its observations.
        width: characters per line.
        every: show every group, and also logs that contain our connections only.
    """
    heading = bold("etcd's log")
    logs = next((fact.logs for _, _, fact in seen.facts if isinstance(fact, EtcdLogs)), ())
    if seen.target.live and not logs:
        yield from headed(heading, _expected_in_log(seen.connections, width))
        return
    shown = [log for log in logs if seen.target.live or every or log.others or log.problem]
    yield from headed(heading, (line for log in shown for line in _log(log, width, every=every)))


def _log(log: ReadLog, width: int, *, every: bool) -> Iterator[Line]:
    name = f"{log.source} ({', '.join(log.members)})"
    if log.problem:
        yield from wrapped(f"{name} could not be read to the end: {log.problem}", width, "  ", "    ")
        return
    others = sum(group.count for group in log.others)
    end = " (only its end was read)" if log.truncated else ""
    ours = f"{plural(log.ours, 'rejected connection')} {_are(log.ours)} ours"
    yield from wrapped(f"{name}: {ours}, {others} {_are(others)} not{end}", width, "  ", "    ")
    if others and not log.ours:
        text = "NAT, a proxy or a published port changes addresses: then ours are among them"
        yield from wrapped(text, width, "    ", "      ")
    shown = _EVERY if every else _GROUPS
    explained: set[str] = set()
    for group in log.others[:shown]:
        yield from wrapped(_rejected(group), width, "    ", "      ")
        if group.cause not in explained:
            yield from wrapped(f"{group.meaning} {group.advice}", width, "      ")
        explained.add(group.cause)
    left = max(0, len(log.others) - shown)
    if left:
        yield from wrapped(f"and {left} more like these: -vv and --etcd-report have them", width, "    ")


def _rejected(group: RejectedOthers) -> str:
    where = f" on the {group.endpoint} endpoint" if group.endpoint else ""
    host = group.host or "an unknown address"
    local = ", from an address of this run" if group.from_here else ""
    first, last = (f"{when:%Y-%m-%d %H:%M:%S}" if when else "" for when in (group.first, group.last))
    since = f", since {first}" if group.count > 1 and first and group.first != group.last else ""
    when = f"{since}, last at {last} UTC" if last else ""
    times = "once" if group.count == 1 else f"{group.count} times"
    return f"{host}, {times}{where}{when} (line {group.line}): {group.cause}{local}"


def _expected_in_log(connections: Sequence[Connection], width: int) -> Iterator[Line]:
    ended = [one for one in connections if one.local_address and not is_served(one)]
    if not ended:
        return
    hosts = sorted({one.local_address.rpartition(":")[0] or one.local_address for one in ended})
    first, last = (f"{attempt.started_at:%H:%M:%S}" for attempt in (ended[0], ended[-1]))
    when = f"{ended[0].started_at:%Y-%m-%d} {first}" + (f" to {last}" if last != first else "")
    lines = plural(len(ended), '"rejected connection" line')
    text = f"Expect up to {lines} from this run in etcd's log ({', '.join(hosts)}, {when} UTC)"
    yield from wrapped(f"{text}; --etcd-log tells them from those of other clients.", width, "  ", "    ")


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


_SHOWN = 6
"""Maximum number of listeners, of faults with their remedies, and of settings of a fault that are shown."""
_FEW = 4
"""Maximum number of warnings, of reasons without evidence, and of comparisons that are shown."""
_TARGETS = 8
"""Maximum number of targets that are shown each."""
_IN_FULL = 3
"""Maximum number of faults that are shown with their begin and a command, and of warnings in full."""
_LINES = 2
"""Usual number of lines of a fault."""
_FAULT_LINES = 6
"""Maximum number of lines of what is wrong: a message may quote a file or a server."""
_NAMED = 5
"""Maximum number of checks that are named in a line."""
_REASONS = 3
"""Maximum number of options that are named for not-verified checks, and of reasons that ``-v`` shows."""
_CLAUSE = 36
"""Maximum number of characters of the commonest reason if it is longer than two lines."""
_DIFFERENCE_LINES = 12
"""Maximum number of lines about differences."""
_SHORT = 16
"""Hexadecimal digits of a fingerprint."""


def headline(report: Report) -> Line:
    """Return the verdict in one line, as :func:`conclusion` has it, and of what it is."""
    found, of = conclusion(report), judged(report)
    # Of a listener that does not answer, the URL is all that is known.
    subject = f" ({of})" if of and of not in found.text else ""
    return Line(f"etcd TLS: {found.text}{subject}", {colour_of(found.kind): True, "bold": True})


@section
def verdict(report: Report, *, width: int, verbosity: int) -> Iterator[Line]:
    """Yield the verdict.

    Args:
        report: of the run.
        width: characters per line.
        verbosity: pytest's verbosity. Below -1, what each kind of listener accepts and serves is left out;
            above zero too, as warnings and what is not verified: the summary has them in full.
    """
    if -1 <= verbosity <= 0:
        yield from _rows(report, width)
    yield from _faults(report, width, whole=verbosity > 0)
    yield from _without_evidence(report, width)
    if verbosity <= 0:
        yield from _warnings_in_verdict(report, width)
    yield from _profiles(report, width)
    if verbosity <= 0:
        yield from _not_verified(report, width)
    yield from _rehearsed(report, width)
    yield from _differences(report.comparisons, width)
    for problem in report.problems:
        yield from wrapped(problem, width, "  ", colour="red")
    cost = f"{plural(report.connections, 'connection')} in {report.seconds:.1f} s"
    yield from wrapped(f"{cost}; {exit_reason(report)}", width, rest="  ")
    yield headline(report)  # one line, however long, for whoever reads the last line of a file


def _rows(report: Report, width: int) -> Iterator[Line]:
    """Yield each kind of listener of each target; of many kinds those with faults and a line for each target.

    Listeners of one role that accept and refuse the same are of one kind, such as the client ports of healthy
    members. Which of them has a fault is said with the fault.
    """
    wrong = {(result.target, result.listener) for fault in report.faults for result in fault.results}
    judged = [seen for seen in report.worst_first if not seen.target.unjudged]
    kinds = [_kinds(report, seen, seen.target.listeners) for seen in judged[:_TARGETS]]
    left, every = _SHOWN, sum(map(len, kinds)) <= _SHOWN
    for seen, alike in zip(judged, kinds, strict=False):
        label, listeners = seen.target.label, seen.target.listeners
        faulty = [listener for listener in listeners if (label, listener.label) in wrong]
        shown = alike if every else _kinds(report, seen, faulty)[:left]
        left -= 0 if every else len(shown)
        version = f", etcd {version_of(seen)}" if version_of(seen) else ""
        counts = "" if every else f": {plural(len(listeners), 'listener')}, {_faults_of(report, label)}"
        yield bold(f"{label} ({seen.target.origin}{version}){counts}")
        roles = Counter(kind[0].role for kind in alike)
        for kind in shown:
            yield from _row(report, seen, kind, width, named=roles[kind[0].role] > 1)
            yield from _served(report, seen, kind, width)
    if (further := len(judged) - _TARGETS) > 0:
        yield Line(f"and {plural(further, 'more target')}")


def _kinds(report: Report, seen: Recording, listeners: Collection[Listener]) -> list[list[Listener]]:
    kinds: dict[tuple[str, ...], list[Listener]] = {}
    for listener in listeners:
        said = access_in_words(report, seen, listener)
        kinds.setdefault((listener.role, *said), []).append(listener)
    roles = [listener.role for listener in seen.target.listeners]
    return sorted(kinds.values(), key=lambda alike: roles.index(alike[0].role))


def _faults_of(report: Report, target: str) -> str:
    number = sum(any(result.target == target for result in fault.results) for fault in report.faults)
    undecided = sum(
        result.target == target and result.outcome in WITHOUT_VERDICT for result in report.results
    )
    parts = [plural(number, "fault")] if number else []
    parts += [f"{plural(undecided, 'check')} without evidence"] if undecided else []
    return ", ".join(parts) or "no fault"


def _row(
    report: Report, seen: Recording, kind: Sequence[Listener], width: int, *, named: bool
) -> Iterator[Line]:
    """Yield what is known of listeners of one kind; their names if they did not answer, or if ``named``."""
    first, several = kind[0], len(kind) > 1
    texts = [*access_in_words(report, seen, first, s="" if several else "s")]
    if several:
        labels = [listener.label for listener in kind]
        names = f" ({some(labels, _NAMED)})" if named or not texts else ""
        heading, texts = " ".join([f"{len(labels)} {first.role} ports{names}", *texts[:1]]), texts[1:]
        yield from wrapped("; ".join([heading, *texts]), width, "  ", "    ")
    else:
        yield from wrapped(f"{first.label} {first.url}", width, "  ", "    ")
        yield from wrapped("; ".join(texts), width, "    ") if texts else ()


def _served(report: Report, seen: Recording, kind: Sequence[Listener], width: int) -> Iterator[Line]:
    """Yield the certificate that listeners of one kind serve, or how many, and until when."""
    chains = [(listener, seen.known(ServedChain, label=listener.label)) for listener in kind]
    served = [(listener, chain.leaf) for listener, chain in chains if chain is not None]
    if not served:
        return
    said = dict.fromkeys(
        f"{shown(leaf)} by {shown_name(leaf.issuer)}, SHA-256 {fingerprint(leaf)[:_SHORT]}"
        for _, leaf in served
    )
    leaf = min((leaf for _, leaf in served), key=lambda leaf: leaf.not_valid_after_utc)
    left = days_left(leaf, report.started_at).removesuffix(" left")
    ends = {f"{leaf.not_valid_after_utc:%Y-%m-%d}" for _, leaf in served}
    until = f"{'the first ' if len(ends) > 1 else ''}until {min(ends)} ({left})"
    if len(said) == 1:
        serve = "serve" if len(kind) > 1 else "serves"
        yield from wrapped(f"{serve} {next(iter(said))}, {until}", width, "    ")
        return
    issuers = dict.fromkeys(shown_name(leaf.issuer) for _, leaf in served)
    text = f"serve {len(said)} certificates by {some([*issuers], _NAMED)}, {until}"
    yield from wrapped(text, width, "    ")


def _faults(report: Report, width: int, *, whole: bool) -> Iterator[Line]:
    """Yield each fault with what an operator needs next; of many faults, only what is wrong.

    With ``whole``, the text of no fault is cut, and what to look for is below each command.
    """
    most = sys.maxsize if whole else _FAULT_LINES
    for count, (number, fault) in enumerate(numbered(report.faults), 1):
        first, begin = fault.first, f"{number}. "
        following = len(fault.consequences)
        verb = "follows" if following == 1 else "follow"
        others = f"; {plural(following, 'more check')} {verb} from it" if following else ""
        lines: list[Line] = []
        labels = some(fault.listeners, _NAMED)
        shortest = places(fault, report.seen) if len(fault.results) > 1 else labels
        for on in (shortest if is_of_several(fault) else labels, shortest):
            text = f"{first.check} ({first.severity}) on {on}: {first.message}{others}"
            lines = [*_at_most(text, width, begin, most, "red")]
            if len(lines) <= _LINES:
                break
        yield from lines
        if count <= _SHOWN:
            indent, in_full = " " * len(begin), count <= _IN_FULL
            yield from _next_steps(report, fault, width, indent, in_full=in_full)
            command, *look = _one_line(fault).split("\n") if in_full else [""]
            yield from [Line(f"{indent}reproduce: {command}")] if command else []
            yield from (Line(f"{indent}{line}") for line in look if whole)
    if report.faults and (about := about_commands(report)):
        yield from wrapped(about, width)


def _next_steps(report: Report, fault: Fault, width: int, begin: str, *, in_full: bool) -> Iterator[Line]:
    """Yield since when a fault is there, and its remedy, which is never cut."""
    if in_full and (text := since(report, fault)):
        yield from wrapped(text, width, f"{begin}since: ")
    if fault.first.remediation:
        yield from wrapped(fault.first.remediation, width, f"{begin}remedy: ")
    if fault.settings and (not in_full or len(fault.settings) > _SHOWN):
        number = plural(len(fault.settings), "setting")
        yield from wrapped(f"{number} to write: see the report (--etcd-report)", width, begin)
    else:
        yield from (Line(f"{begin}  {line}") for line in fault.settings)  # to paste, so they are not wrapped


def _one_line(fault: Fault) -> str:
    """Return the first command of a fault that is one line, with what to look for in comments below it.

    What follows from a declared setting on a listener shows it better than the declaration does.
    """
    results = (*fault.results, *fault.consequences)
    for result in sorted(results, key=lambda result: family_of(result.check) == "config"):
        for finding in result.findings:
            for text in finding.commands:
                _, *others = text.split("\n")
                if all(line.startswith("#") for line in others) and not text.startswith("#"):
                    return text
    return ""


def _without_evidence(report: Report, width: int) -> Iterator[Line]:
    """Yield why checks have no evidence, each reason once."""
    groups = undecided(without_evidence(report))
    groups.sort(key=lambda group: GATES[0] not in group.checks)
    for group in groups[:_FEW]:
        # Of many checks one is named. The reason is not cut, since it ends with what to do.
        checks = some([*group.checks], _NAMED if len(group.checks) <= _NAMED else 1)
        where = f"{checks} on {some(group.listeners, _NAMED)}"
        yield from wrapped(f"{where}: {group.reason}", width, "? ", colour="red")
    if (left := len(groups) - _FEW) > 0:
        yield coloured(f"? and {plural(left, 'more reason')} why checks have no evidence", "red")


def _at_most(text: str, width: int, begin: str, lines: int, colour: str = "") -> Iterator[Line]:
    """Yield a text in so many lines at most; a longer one is cut after a word and ends in three dots."""
    whole = list(wrapped(text, width, begin, colour=colour))
    if len(whole) <= lines:
        yield from whole
        return
    yield from whole[: lines - 1]
    last = f"{whole[lines - 1].text} {whole[lines].text.strip()}"
    shortened = textwrap.shorten(last, width - len(begin) - 4, placeholder="")
    indent = begin if lines == 1 else " " * len(begin)
    yield Line(f"{indent}{shortened.removeprefix(indent.strip()).strip()} ...", whole[0].markup)


def _warnings_in_verdict(report: Report, width: int) -> Iterator[Line]:
    """Yield each warning, those of a check together: a few in full, of many the last by their names."""
    alike: dict[str, list[CheckResult]] = {}
    for fault in report.warnings:
        alike.setdefault(fault.first.check, []).extend(fault.results)
    few = len(alike) <= _IN_FULL
    for check, results in [*alike.items()][:_FEW]:
        where = _together([result.listener for result in results], report)
        text = f"{check} on {where}: {results[0].message}"
        yield from _at_most(text, width, "! ", _FAULT_LINES if few else _LINES, "yellow")
    if not few:
        names = [*alike][_FEW:]
        more = f"and {plural(len(names), 'more warning')}: {some(names, _NAMED)}; " if names else ""
        yield from wrapped(f"! {more}-v shows warnings in full", width, rest="  ", colour="yellow")


def _profiles(report: Report, width: int) -> Iterator[Line]:
    for profile in report.profiles.profiles:
        outcomes = {outcome_of(section, report.results) for section in profile.sections}
        colour = "red" if outcomes & FAILED else ""
        yield from wrapped(summary_of(profile, report.results), width, rest="  ", colour=colour)


def _differences(compared: Sequence[ComparedTargets], width: int) -> Iterator[Line]:
    """Yield what differs, the most important first, in at most :data:`_DIFFERENCE_LINES` lines."""
    shown = compared[-_FEW:]
    if len(shown) < len(compared):
        yield Line(f"{plural(len(compared) - len(shown), 'more comparison')}: see the report (--etcd-report)")
    headlines = [list(_at_most(targets.headline, width, "", _LINES, "bold")) for targets in shown]
    left = _DIFFERENCE_LINES - sum(map(len, headlines))
    for number, targets in enumerate(shown):
        yield from headlines[number]
        waiting = sum(bool(later.differences or later.remarks) for later in shown[number + 1 :])
        lines = list(_most_important(targets, width, left - 2 * waiting))
        left -= len(lines)
        yield from lines


def _most_important(targets: ComparedTargets, width: int, most: int) -> Iterator[Line]:
    """Yield as many differences as fit into so many lines, with meaning and remedy of some if there is room.

    Both are whole, or there is the remedy alone, or neither.
    """
    differences = targets.shown
    for text in targets.not_started:
        lines = list(_at_most(text, width, "  ", _FAULT_LINES, "red"))
        most -= len(lines)
        yield from lines
    sentences = [list(_sentence(difference, width)) for difference in differences]
    most -= bool(targets.remarks or sum(map(len, sentences)) > most)
    shown, room = 0, max(most, 0)
    while shown < len(sentences) and len(sentences[shown]) <= room:
        room -= len(sentences[shown])
        shown += 1
    for difference, lines in zip(differences[:shown], sentences, strict=False):
        yield from lines
        is_fault = difference.topic == OUTCOME and difference.after == Outcome.VIOLATES  # which is above
        remedies = " ".join(difference.remedies)
        texts = (f"{difference.meaning} {remedies}".strip(), remedies) if not is_fault else ()
        fitting = (list(wrapped(text, width, "    ")) for text in texts if text)
        meaning = next((lines for lines in fitting if len(lines) <= room), [])
        room -= len(meaning)
        yield from meaning
    left = len(differences) - shown
    rest = [f"{left} more: see the report (--etcd-report)"] if left > 0 else []
    if rest or targets.remarks:
        yield from _at_most("; ".join([*rest, *targets.remarks]), width, "  ", 1)


_COLOURS = {Direction.WORSE: "red", Direction.BETTER: "green"}


def _sentence(difference: TargetDifference, width: int) -> Iterator[Line]:
    """Yield where, what and how; what has changed is not cut, the listeners are."""
    direction = difference.direction
    kind = "" if direction is Direction.CHANGED else f"{direction}: "
    colour = _COLOURS.get(direction, "")
    whole = list(wrapped(f"{kind}{difference.sentence}", width, "  ", "    ", colour))
    if len(whole) > _LINES and difference.where:
        where = f"on {plural(len(difference.listeners), 'listener')}"
        text = f"{kind}{where}: {difference.about}: {difference.change}"
        whole = list(_at_most(text, width, "  ", _FAULT_LINES, colour))
    yield from whole


def _not_verified(report: Report, width: int) -> Iterator[Line]:
    unverified = [result for result in report.results if result.outcome is Outcome.NOT_VERIFIED]
    if not unverified:
        return
    # What a gate says is above, with what to do about it.
    gated = [one for one in unverified if one.why.kind is ReasonKind.GATE]
    others = [one.why for one in unverified if one.why.kind is not ReasonKind.GATE]
    options = Counter(option for why in others for option in why.every_option)
    # A reason asks for the listener of a role that the run lacks, or for one of another member.
    given = {listener.role.option for seen in report.seen for listener in seen.target.listeners}
    missing = ", ".join(
        f"{'another ' if option in given else ''}{option} ({count})"
        for option, count in options.most_common(_REASONS)
    )
    advice = [f"pass {missing}"] if missing else []
    without_option = (next(why.each()) for why in others if not why.every_option)
    same = Counter(structs.replace(why, begin="", ending="") for why in without_option)
    for why, count in same.most_common(1):
        if count > max(options.values(), default=0):
            is_need = why.kind is ReasonKind.NEED
            clause = why.text if is_need else why.headline
            if len(clause) > 2 * width:
                clause = textwrap.shorten(clause, _CLAUSE, placeholder=" ...")
            advice.insert(0, f"{count} need {clause}" if is_need else f"{clause} ({count})")
    for gate, needed in reversed(_NEEDED.items()):
        if waiting := [result.listener for result in gated if gate in result.why.checks]:
            labels = some(list(dict.fromkeys(waiting)), _NAMED)
            advice.insert(0, f"{len(waiting)} need {needed.format(labels)}")
    text = f"{plural(len(unverified), 'result')} not verified: {'; '.join([*advice, '-v says why'])}"
    yield from wrapped(text, width, rest="  ")


def _rehearsed(report: Report, width: int) -> Iterator[Line]:
    """Yield what the rehearsal of a restart came to where it is no fault."""
    for seen in report.seen:
        of = f"{seen.target.label}: " if len(report.seen) > 1 else ""
        results, rehearsals = rehearsed(report, seen), seen.known(Rehearsals)
        unverified = [one.why for one in results if one.outcome is Outcome.NOT_VERIFIED]
        if any(f"{why}." in report.problems for why in unverified):
            continue
        members = rehearsals.members if rehearsals else ()
        if unverified and not any(one.failure for one in members):
            yield from wrapped(f"{of}{unverified[0]}", width, rest="  ", colour="yellow")
        elif results and members and not any(one.failure or one.changes for one in members):
            text = f"{of}rehearsed: a restart changes nothing, and none is needed for what is on disk"
            upgrades = dict.fromkeys(one.upgrade for one in members if one.upgrade)
            yield from wrapped("; ".join([text, *upgrades]), width, rest="  ")


_NEEDED = dict(
    zip(GATES, ("an etcd that answers on {}", "{} to be the port of etcd that it is named as"), strict=True)
)
"""What results need whose listener did not pass a gate."""
