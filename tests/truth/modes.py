"""Compares the modes of a run on one drawn cluster, and a rehearsal with the restart that follows it.

The modes are what a user names: ``endpoints`` with a client's files, the ``files`` that declare each member,
and the processes (``process``), perhaps with ``--etcd-rehearse`` (``rehearsal``). They ask the same etcds, so
what one mode says of a listener is never the opposite of what another one says. A mode that knows less does
not judge, and is not compared. What differs on purpose is in :data:`EXPLAINED`.

Half of the clusters are edited while they run: a pair is renewed, a bundle is replaced, a setting is changed
in the file of a member. That is where a file says one thing and the process another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit

from process.containers import await_age
from process.restarts import ANNOUNCED, GATEWAY, Answers, compared, kinds

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.running import find_process
from pytest_etcdtls.pki.certificate import load_identity
from pytest_etcdtls.role import CLUSTER, Role
from truth.asking import Question
from truth.comparing import Comparer, Etcds
from truth.editing import SETTINGS, UNJUDGED, Members, ModeDraw
from truth.judging import CHECKS, Verdict, judge
from truth.rules import Difference
from truth.setting_up import Arrangement, Asked, Options, Place, arrange, asked_listeners, possible

_RESTART = "restart"
_JUDGED = (Outcome.CONFORMS, Outcome.WARNS, Outcome.VIOLATES)

Subject = tuple[str, str, str]
"""A check, and the role and the URL of its listener without the host."""


@dataclass(frozen=True)
class ModesCompared:
    """The result of one draw on one etcd.

    Attributes:
        drawn: what was drawn.
        started: whether etcd served clients.
        differences: what differs, except on purpose.
        pairs: how many pairs of verdicts about the same listener were compared.
        explained: how many of them differ on purpose, by reason.
        restart: what the comparison with the real restart came to; empty without one.
        verdicts: by mode.
    """

    drawn: ModeDraw
    version: str
    started: bool = False
    differences: tuple[Difference, ...] = ()
    pairs: int = 0
    explained: tuple[str, ...] = ()
    restart: str = ""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    arguments: tuple[tuple[str, ...], ...] = ()

    def describe(self) -> str:
        """Return what is needed to understand the differences."""
        lines = [f"{self.drawn} on etcd {self.version}"]
        lines += [f"DIFFERS {difference.kind}: {difference.text}" for difference in self.differences]
        lines += [f"{mode}: {verdict.line} {verdict.usage}" for mode, verdict in self.verdicts.items()]
        lines += [f"restart: {self.restart}", *(f"etcd {' '.join(words)}" for words in self.arguments)]
        return "\n".join(lines)


class ModesComparer:
    """Compares the modes on draws, one after the other."""

    def __init__(self, comparer: Comparer) -> None:
        self._comparer = comparer

    def compare(self, drawn: ModeDraw, binary: Path) -> ModesCompared:
        """Start the etcds of a draw, edit them, judge them in each mode, and restart them if it is drawn."""
        comparer = self._comparer
        flags = comparer.flags_of(binary)
        scenario = possible(drawn.scenario, flags)
        arrangement = arrange(scenario, flags, comparer.place)
        members = Members(drawn, arrangement, comparer.place)
        drawn = replace(drawn, scenario=scenario, by_file=members.by_file)
        words = tuple(tuple(members.arguments(member)) for member in range(scenario.size))
        made = ModesCompared(drawn, flags.version, arguments=arrangement.arguments)
        with Etcds.started(binary, words, comparer.place.directory) as etcds:
            if not etcds.serve():
                return made
            listeners = [
                one
                for member in range(scenario.size)
                for one in asked_listeners(scenario.of(member), member, comparer.place, declared=True)
            ]
            changed = frozenset[str]()
            if drawn.edit:
                await_age(find_process(etcds.pids[drawn.edited]))
                self._answers(listeners, arrangement)  # now all files are read
                changed = members.edit(arrangement, scenario)
            verdicts = {
                mode: judge(options, (*CHECKS, "tls", _RESTART) if mode == "rehearsal" else CHECKS)
                for mode, options in _options(drawn, arrangement, members, etcds, comparer.place)
            }
            if etcds.failed:
                return made
            found, pairs, reasons = _disagreements(drawn, verdicts)
            found += _unsaid(drawn, changed, verdicts)
            if etcds.ended:
                found.append(Difference("healthy", "etcd", "etcd ended while it was judged"))
            restart = ""
            if "rehearsal" in verdicts and not verdicts["rehearsal"].usage:
                restart, more = self._restart(
                    drawn,
                    verdicts["rehearsal"],
                    arrangement,
                    members,
                    etcds,
                    listeners,
                    picks="listen-client-http-urls" in flags,  # since then, with 3.4.25 and 3.5.8
                )
                found += more
        return replace(
            made,
            started=True,
            differences=tuple(found),
            pairs=pairs,
            explained=tuple(reasons),
            restart=restart,
            verdicts=verdicts,
        )

    def _restart(
        self,
        drawn: ModeDraw,
        verdict: Verdict,
        arrangement: Arrangement,
        members: Members,
        etcds: Etcds,
        listeners: Sequence[Asked],
        *,
        picks: bool,
    ) -> tuple[str, list[Difference]]:
        """Restart the edited member, and compare with what the rehearsal said of it.

        With ``picks`` the gateway dials one of the client listeners, instead of the one that is asked.
        """
        findings = [
            (result, finding)
            for result in verdict.results
            if result.check.startswith(f"{_RESTART}.")
            for finding in result.findings
        ]
        of_it = [
            (result, finding)
            for result, finding in findings
            if drawn.scenario.size == 1 or f"after a restart of {_name(drawn.edited)}" in finding.message
        ]
        others = [finding.message for pair in findings if pair not in of_it for finding in pair[1:]]
        differs = [Difference("rehearsal", "another member", text) for text in others]
        unknown = {
            result.check: result.reason
            for result in verdict.results
            if result.check.startswith(f"{_RESTART}.") and result.outcome is Outcome.NOT_VERIFIED
        }
        if not of_it and (why := unknown.get("restart.starts")):
            return f"not verified: {why}", differs
        own = [one for one in listeners if one.member == drawn.edited]
        seen = set[str]()
        before = self._answers(own, arrangement)
        etcds.stop(drawn.edited)
        etcds.start(drawn.edited, members.arguments(drawn.edited))
        serves = etcds.serve()
        if etcds.ended:
            really = {"restart.starts"}
        elif not serves:
            return "it does not find the others", differs
        else:
            really = kinds(before, self._answers(own, arrangement))
            if picks and self._gateway_by_chance(own, members.settings(drawn.edited), arrangement):
                really.add("restart.gateway")
            seen = set(really)  # also what the rehearsal can only say as that of another check
            really -= unknown.keys()
        said = {result.check for result, _ in of_it}
        if compared((seen or really) if said else really, said).differs or "restart.gateway" in really ^ said:
            messages = "; ".join(finding.message for _, finding in of_it)
            text = f"really {sorted(really)}, said {sorted(said)}: {messages}"
            difference = Difference("rehearsal", ", ".join(sorted(really ^ said)), text)
            differs += [] if explained(difference, drawn) else [difference]
        return f"really {sorted(really)}, said {sorted(said)}", differs

    def _gateway_by_chance(
        self, listeners: Sequence[Asked], settings: Mapping[str, str], arrangement: Arrangement
    ) -> bool:
        """Return whether one client listener accepts the gateway and another one refuses it.

        The gateway dials the one that comes first in a map of Go (embed.pickGRPCGatewayServeContext), in
        plain text or with the served pair.
        """
        urls = [urlsplit(url) for url in settings["listen-client-urls"].split(",")]
        secure = {url.port for url in urls if url.scheme == "https"}
        if not secure or not {url.port for url in urls} - secure or "cert-file" not in settings:
            return False
        pair = load_identity(Path(settings["cert-file"]), Path(settings["key-file"]), "gateway")
        questions = [
            Question(listener, "gateway", pair, version, "grpc")
            for listener in listeners
            if listener.role is Role.CLIENT and listener.tls
            for version in ("1.2", "1.3")
        ]
        return not any(reply.served for reply in self._comparer.go.ask(questions, arrangement.roots))

    def _answers(self, listeners: Sequence[Asked], arrangement: Arrangement) -> Answers:
        found: dict[tuple[str, str, str], str] = {}
        for listener in listeners:
            seen = self._comparer.look(listener, arrangement)
            place = f"{listener.role} {listener.url}"
            found[place, ANNOUNCED, ""] = str(sorted(seen.announced))
            for (name, version, protocol), reply in seen.replies.items():
                if "connection refused" in reply.error:
                    answer = "not open"
                else:
                    answer = f"accepted {reply.leaf.hex()}" if reply.served else "refused"
                found[place, name, f"{version} {protocol}"] = answer
            if "http1" in listener.protocols and listener.side in arrangement.good:
                version = "" if listener.tls else "plaintext"
                good, path = arrangement.good[listener.side], "/v3/maintenance/status"
                question = Question(listener, "good", good, version, "http1", path)
                [reply] = self._comparer.go.ask([question], arrangement.roots)
                found[place, GATEWAY, ""] = str(reply.status)
        return found


def _name(member: int) -> str:
    return f"m{member}"


_CLIENTS_FILES = re.compile(r"etcd_(peer_)?(cert|key)")


def _options(
    drawn: ModeDraw, arrangement: Arrangement, members: Members, etcds: Etcds, place: Place
) -> Iterator[tuple[str, Options]]:
    """Yield each mode with the options of its run."""
    yield "endpoints", arrangement.options
    told = {name: value for name, value in arrangement.options.items() if not name.endswith("endpoint")}
    directory: Options = {"etcd_pki_dir": str(place.directory / "files")} if drawn.with_directory else {}
    yield "files", {**told, "etcd_config": members.declarations, **directory}
    if not drawn.with_client:
        told = {name: value for name, value in told.items() if not _CLIENTS_FILES.fullmatch(name)}
    of_process: Options = {**told, "etcd_pid": ",".join(map(str, etcds.pids))}
    # A setting that was edited beside the process is known to a rehearsal only from its declaration.
    if drawn.with_file or (drawn.edit in SETTINGS and not drawn.by_file):
        of_process["etcd_config"] = members.declarations
    yield "process", of_process
    if drawn.rehearses and os.geteuid() == 0:  # a stage has namespaces of its own
        yield "rehearsal", {**of_process, "etcd_rehearse": "true"}


def _subjects(verdict: Verdict) -> Mapping[Subject, CheckResult]:
    """Return the verdicts by what they are about, which has another label in each mode."""
    found = {}
    for result in verdict.results:
        if result.outcome in _JUDGED and not result.check.startswith(f"{_RESTART}."):
            url = urlsplit(result.url)
            place = "" if result.listener == CLUSTER else f"{url.scheme} port {url.port}"
            found[result.check, str(result.role), place] = result
    return found


def _disagreements(
    drawn: ModeDraw, verdicts: Mapping[str, Verdict]
) -> tuple[list[Difference], int, list[str]]:
    """Return what two modes contradict each other about, how much was compared, and what is explained."""
    # An option that no mode can use is no contradiction.
    refused = {mode: verdict.usage for mode, verdict in verdicts.items() if verdict.usage}
    found = [
        Difference(f"usage of {mode}", "options", why)
        for mode, why in refused.items()
        if len(refused) < len(verdicts)
    ]
    pairs = 0
    for first, second in combinations(verdicts, 2):
        ours, theirs = _subjects(verdicts[first]), _subjects(verdicts[second])
        for subject in sorted(ours.keys() & theirs.keys()):
            pairs += 1
            one, other = ours[subject], theirs[subject]
            if (one.outcome is Outcome.VIOLATES) == (other.outcome is Outcome.VIOLATES):
                continue
            text = f"{' '.join(subject)}: {first} {_said(one)}; {second} {_said(other)}"
            found.append(Difference(f"{first} and {second}", f"{subject[1]} {subject[0]}", text))
    reasons = [explained(difference, drawn) for difference in found]
    differs = [difference for difference, why in zip(found, reasons, strict=True) if not why]
    return differs, pairs, [*filter(None, reasons)]


def _unsaid(
    drawn: ModeDraw, changed: frozenset[str], verdicts: Mapping[str, Verdict]
) -> Iterator[Difference]:
    """Yield each run on processes that does not say that the declaration beside them was edited, or does."""
    check = "config.process-as-declared"
    edited = bool(changed - UNJUDGED)
    if edited and not _is_declared_otherwise(drawn):
        return
    for mode in {"process", "rehearsal"} & verdicts.keys():
        verdict = verdicts[mode]
        says = check in {result.check for result in verdict.failing}
        if not verdict.usage and says is not edited:
            yield Difference(mode, check, f"{drawn.edit or 'nothing edited'}, and it says so: {says}")


def _said(result: CheckResult) -> str:
    why = "; ".join(finding.message for finding in result.findings) or result.reason
    return f"{result.outcome}{': ' if why else ''}{why}"


# -- what differs on purpose ------------------------------------------------------------------------------


def _has_other_clients(drawn: ModeDraw) -> bool:
    return not drawn.with_client


def _infers_the_bundle(drawn: ModeDraw) -> bool:
    return drawn.scenario["told-bundle"] == "none" and drawn.scenario["told-ca-key"] == "no"


_RULES = ("-crl", "-crl-names", "-cn", "-hostname", "-rule")
"""How properties end by which one member may refuse a client that no identity of the run shows."""


def _has_rules_of_its_own(drawn: ModeDraw) -> bool:
    odd = any(":" in name and name.endswith(_RULES) for name in drawn.scenario.changed)
    return odd or drawn.edit == "crl removed"


def _is_declared_otherwise(drawn: ModeDraw) -> bool:
    return drawn.edit in SETTINGS and not drawn.by_file


EXPLAINED: Sequence[tuple[str, Callable[[ModeDraw], bool], str]] = (
    (
        r"endpoints and .*: cluster cluster\.same-policy",
        _has_rules_of_its_own,
        "rules about names and revoked certificates are compared where members are declared: without a "
        "client whom one of them refuses, they are not seen from outside",
    ),
    (
        r"endpoints and .*: \S+ mtls\.announced-ca-expected",
        _infers_the_bundle,
        "without --etcd-trusted-ca, --etcd-cacert stands for the bundle (_judge_inferred), and a declaration "
        "names another one",
    ),
    (
        r"(endpoints|files) and (process|rehearsal): (client|peer|metrics|client-http) mtls\.trusted-client",
        _has_other_clients,
        "the run on processes is not given the client's files, and presents pairs that the processes name",
    ),
    (
        r"files and (process|rehearsal): \S+ config\..*",
        _is_declared_otherwise,
        "the settings of a running process are judged, and config.process-as-declared says that the "
        "declaration has others",
    ),
)
"""Kinds of differences between modes that are meant, in which draws, and why."""


def explained(difference: Difference, drawn: ModeDraw) -> str:
    """Return why the difference is meant, empty if it is not."""
    return next(
        (why for kind, applies, why in EXPLAINED if re.fullmatch(kind, difference.kind) and applies(drawn)),
        "",
    )
