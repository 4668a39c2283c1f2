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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import yaml
from process.containers import await_age
from process.restarts import GATEWAY, Answers, compared, kinds

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.flags import SECTIONS
from pytest_etcdtls.declared.running import find_process
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.role import CLUSTER
from truth.asking import Question
from truth.comparing import Comparer, Etcds
from truth.drawing import Scenario, draw
from truth.judging import CHECKS, Verdict, judge
from truth.materials import authority, bundle, key_of, served, trusted_side
from truth.rules import Difference
from truth.setting_up import (
    Arrangement,
    Asked,
    Options,
    Place,
    arrange,
    asked_listeners,
    declaration_of,
    possible,
    side_files,
    write,
    written,
)

MODES = ("endpoints", "files", "process", "rehearsal")
_RESTART = "restart"
_JUDGED = (Outcome.CONFORMS, Outcome.WARNS, Outcome.VIOLATES)

# -- what is drawn ----------------------------------------------------------------------------------------

Settings = Mapping[str, str | None]
"""Values of flags by name; ``None`` for a flag that is removed."""

_STEMS = {"client": "server", "peer": "peer"}
FileEdit = Callable[[str, Scenario, Mapping[str, bytes | None]], Mapping[str, bytes | None]]


def _another_pair(side: str, scenario: Scenario, _: object) -> Mapping[str, bytes | None]:
    """Return the content of a pair of the same kind, newly issued."""
    pair, stem = served(side, scenario), _STEMS[side]
    assert pair.key is not None
    return {f"{stem}.crt": encode_certificates(pair.chain), f"{stem}.key": encode_key(pair.key)}


def _pair_for_another_name(side: str, scenario: Scenario, _: object) -> Mapping[str, bytes | None]:
    name = "peer-served-names" if side == "peer" else "served-names"
    return _another_pair(side, replace(scenario, changed={**scenario.changed, name: "other"}), None)


def _pair_that_expired(side: str, scenario: Scenario, _: object) -> Mapping[str, bytes | None]:
    name = "peer-served-times" if side == "peer" else "served-times"
    return _another_pair(side, replace(scenario, changed={**scenario.changed, name: "expired"}), None)


def _other_bundle(kind: str) -> FileEdit:
    return lambda side, scenario, _: {f"{side}-trusted.crt": bundle(trusted_side(side, scenario), kind)}


FILES: Mapping[str, FileEdit] = {
    "pair renewed": _another_pair,
    "pair for another name": _pair_for_another_name,
    "pair that expired": _pair_that_expired,
    "pair removed": lambda side, *_: {f"{_STEMS[side]}.crt": None, f"{_STEMS[side]}.key": None},
    "key of another pair": lambda side, *_: {
        f"{_STEMS[side]}.key": encode_key(key_of("ecdsa-p256 another"))
    },
    "bundle of another CA": _other_bundle("other"),
    "bundle with one more CA": _other_bundle("ca+other"),
    "bundle with the CA renewed": _other_bundle("renewed"),
    "bundle removed": lambda side, *_: {f"{side}-trusted.crt": None},
    "bundle emptied": lambda side, *_: {f"{side}-trusted.crt": b""},
    "bundle with text": lambda side, _, files: {
        f"{side}-trusted.crt": (files[f"{side}-trusted.crt"] or b"") + b"text\n"
    },
    "crl removed": lambda side, *_: {f"{side}.crl": None},
}
"""Edits of the files of a side of one member, which etcd reads at each handshake or at its start."""

SETTINGS: Mapping[str, Callable[[str, Path, Mapping[str, str]], Settings]] = {
    "authentication off": lambda prefix, *_: {f"{prefix}client-cert-auth": None},
    "authentication and bundle removed": lambda prefix, *_: {
        f"{prefix}client-cert-auth": None,
        f"{prefix}trusted-ca-file": None,
    },
    "another bundle": lambda prefix, directory, _: {
        f"{prefix}trusted-ca-file": written(directory / "edited.crt", _another_ca())
    },
    "a bundle that is missing": lambda prefix, directory, _: {
        f"{prefix}trusted-ca-file": str(directory / "missing.crt")
    },
    "the other pair": lambda prefix, directory, _: {
        f"{prefix}{kind}-file": str(
            directory / f"{'server' if prefix else 'peer'}.{'crt' if kind == 'cert' else 'key'}"
        )
        for kind in ("cert", "key")
    },
    "no TLS": lambda prefix, _, words: {
        name: words[name].replace("https://", "http://")
        for name in [f"listen-{'peer' if prefix else 'client'}-urls"]
    },
    "TLS 1.3 alone": lambda *_: {"tls-min-version": "TLS1.3"},
    "metrics elsewhere": lambda *_: {"listen-metrics-urls": None},
    "log level": lambda *_: {"log-level": "warn"},
}
"""Edits of the settings of one member, which wait for the next start."""


def _another_ca() -> bytes:
    return encode_certificates([authority("other").certificate])


@dataclass(frozen=True)
class ModeDraw:
    """A cluster, what is edited while it runs, and how each mode is told of it.

    Attributes:
        by_file: the members are started with etcd's configuration file, where it can say all.
        edit: what is edited after the start, of :data:`FILES` or :data:`SETTINGS`; empty for nothing.
        side: the side that is edited.
        form: the form of the declaration of members that are started with flags.
        with_client: the run on processes is given the client's files.
        with_file: the run on processes is given the declaration, too.
        with_directory: the declaration is read with ``--etcd-pki-dir``.
        rehearses: the next restart is rehearsed, and follows.
    """

    scenario: Scenario
    by_file: bool = False
    edit: str = ""
    side: str = "client"
    form: str = "process"
    with_client: bool = True
    with_file: bool = False
    with_directory: bool = False
    rehearses: bool = False

    def __str__(self) -> str:
        parts = [
            str(self.scenario),
            "started by file" if self.by_file else f"declared as {self.form}",
            f"{self.edit} ({self.side})" if self.edit else "nothing edited",
            *(name for name in ("with_client", "with_file", "with_directory") if getattr(self, name)),
        ]
        return "; ".join(parts)

    @property
    def edited(self) -> int:
        """The member that is edited, and restarted."""
        return 1 if self.scenario.size > 1 else 0


_OF_THE_TELLING = ("told-declaration", "host")
"""Properties that a mode decides; by another name of the host, other names are covered."""


def draw_modes(seed: int, number: int) -> ModeDraw:
    """Return a draw; every second one is edited, and every second one rehearsed."""
    drawn, rng = draw(seed, number), Random(f"modes/{seed}/{number}")  # noqa: S311 - reproducible
    changed = {name: value for name, value in drawn.changed.items() if name not in _OF_THE_TELLING}
    # With a cluster that is broken anyway, an edit shows nothing.
    if rng.random() < 0.4:
        changed = {name: value for name, value in changed.items() if name in ("members", "layout")}
    edits = ("",) if rng.random() < 0.4 else tuple(rng.choice((FILES, SETTINGS)))
    return ModeDraw(
        Scenario(changed),
        by_file=rng.random() < 0.4,
        edit=rng.choice(edits),
        side=rng.choice(("client", "client", "peer")),
        form=rng.choice(("process", "manifest")),
        with_client=rng.random() < 0.5,
        with_file=rng.random() < 0.4,
        with_directory=rng.random() < 0.3,
        rehearses=rng.random() < 0.5,
    )


# -- how the members are started --------------------------------------------------------------------------

_SECTION_OF = {
    flag: (section, key)
    for section, keys in SECTIONS.items()
    for key, flag in keys.items()
    if key in ("cert-file", "key-file", "client-cert-auth", "trusted-ca-file", "auto-tls")
}
"""The keys of a section that every etcd has."""
_TOP = frozenset(
    {
        *("name", "data-dir", "initial-cluster", "heartbeat-interval", "election-timeout", "log-level"),
        *("initial-election-tick-advance", "unsafe-no-fsync", "tls-min-version", "tls-max-version"),
        *("listen-client-urls", "advertise-client-urls", "listen-peer-urls", "listen-metrics-urls"),
        *("initial-advertise-peer-urls",),
    }
)


def settings_of(words: Sequence[str]) -> dict[str, str]:
    """Return the flags of a command line, by name."""
    split = (word[2:].partition("=") for word in words)
    return {name: value if separator else "true" for name, separator, value in split}


def _changed(words: Sequence[str], settings: Settings) -> list[str]:
    kept = {**settings_of(words), **settings}
    return [f"--{name}={value}" for name, value in kept.items() if value is not None]


def configuration_file(words: Sequence[str]) -> bytes | None:
    """Return etcd's configuration file with the same settings; ``None`` if a flag has no key in it."""
    document: dict[str, object] = {}
    for name, value in settings_of(words).items():
        typed: object = value == "true" if value in ("true", "false") else value
        typed = int(value) if value.isdecimal() else typed
        if name in _SECTION_OF:
            section, key = _SECTION_OF[name]
            under = document.setdefault(section, {})
            assert isinstance(under, dict)
            under[key] = typed
        elif name in _TOP:
            document[name] = typed
        else:
            return None
    return yaml.safe_dump(document, sort_keys=False).encode()


class Members:
    """How each member of a draw is started and declared, now and at the next start."""

    def __init__(self, drawn: ModeDraw, arrangement: Arrangement, place: Place) -> None:
        self._drawn, self._files = drawn, place.directory / "files"
        self._words = [list(words) for words in arrangement.arguments]
        self.by_file = drawn.by_file and all(map(configuration_file, self._words))
        for member in range(len(self._words)):
            self._declare(member)

    @property
    def declarations(self) -> list[str]:
        """The file that declares each member."""
        return [str(self._declaration(member)) for member in range(len(self._words))]

    def _declaration(self, member: int) -> Path:
        return self._files / (f"etcd-m{member}.yml" if self.by_file else f"declaration-m{member}")

    def arguments(self, member: int) -> list[str]:
        """Return the arguments of a member that is started now."""
        if self.by_file:
            return [f"--config-file={self._declaration(member)}"]
        return self._words[member]

    def _declare(self, member: int) -> None:
        words = self._words[member]
        content = configuration_file(words) if self.by_file else None
        write(
            self._declaration(member),
            content or declaration_of(Scenario({"told-declaration": self._drawn.form}), words),
        )

    def edit(self, arrangement: Arrangement, scenario: Scenario) -> None:
        """Edit the files of one member, or its settings, as it was drawn."""
        drawn, member = self._drawn, self._drawn.edited
        directory = self._files / f"m{member}"
        if drawn.edit in FILES:
            own = scenario.of(member)
            pair = arrangement.served[member, drawn.side]
            old = side_files(drawn.side, own, arrangement.good.get(drawn.side, pair), pair)
            for name, content in FILES[drawn.edit](drawn.side, own, old).items():
                if old.get(name) is not None:
                    write(directory / name, content)
        if drawn.edit in SETTINGS:
            words = self._words[member]
            prefix = "peer-" if drawn.side == "peer" else ""
            self._words[member] = _changed(
                words, SETTINGS[drawn.edit](prefix, directory, settings_of(words))
            )
            self._declare(member)


# -- what is compared -------------------------------------------------------------------------------------

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
            if drawn.edit:
                await_age(find_process(etcds.pids[drawn.edited]))
                self._answers(listeners, arrangement)  # now all files are read
                members.edit(arrangement, scenario)
            verdicts = {
                mode: judge(options, (*CHECKS, "tls", _RESTART) if mode == "rehearsal" else CHECKS)
                for mode, options in _options(drawn, arrangement, members, etcds, comparer.place)
            }
            if etcds.failed:
                return made
            found, pairs, reasons = _disagreements(drawn, verdicts)
            if etcds.ended:
                found.append(Difference("healthy", "etcd", "etcd ended while it was judged"))
            restart = ""
            if "rehearsal" in verdicts and not verdicts["rehearsal"].usage:
                restart, more = self._restart(drawn, verdicts["rehearsal"], arrangement, members, etcds, listeners)
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
    ) -> tuple[str, list[Difference]]:
        """Restart the edited member, and compare with what the rehearsal said of it."""
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
        reasons = [
            result.reason
            for result in verdict.results
            if result.check.startswith(f"{_RESTART}.") and result.outcome is Outcome.NOT_VERIFIED
        ]
        if reasons and not of_it:
            return f"not verified: {reasons[0]}", differs
        own = [one for one in listeners if one.member == drawn.edited]
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
        said = {result.check for result, _ in of_it}
        if compared(really, said).differs:
            messages = "; ".join(finding.message for _, finding in of_it)
            text = f"really {sorted(really)}, said {sorted(said)}: {messages}"
            differs.append(Difference("rehearsal", ", ".join(sorted(really ^ said)), text))
        return f"really {sorted(really)}, said {sorted(said)}", differs

    def _answers(self, listeners: Sequence[Asked], arrangement: Arrangement) -> Answers:
        found: dict[tuple[str, str, str], str] = {}
        for listener in listeners:
            seen = self._comparer.look(listener, arrangement)
            for (name, version, protocol), reply in seen.replies.items():
                if "connection refused" in reply.error:
                    answer = "not open"
                else:
                    answer = f"{'accepted' if reply.served else 'refused'} {reply.leaf.hex()}"
                found[f"{listener.role} {listener.url}", name, f"{version} {protocol}"] = answer
            if "http1" in listener.protocols and listener.side in arrangement.good:
                version = "" if listener.tls else "plaintext"
                good, path = arrangement.good[listener.side], "/v3/maintenance/status"
                question = Question(listener, "good", good, version, "http1", path)
                [reply] = self._comparer.go.ask([question], arrangement.roots)
                found[f"{listener.role} {listener.url}", GATEWAY, ""] = str(reply.status)
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
    if os.geteuid() != 0:
        return
    if not drawn.with_client:
        told = {name: value for name, value in told.items() if not _CLIENTS_FILES.fullmatch(name)}
    of_process: Options = {**told, "etcd_pid": ",".join(map(str, etcds.pids))}
    # A setting that was edited beside the process is known to a rehearsal only from its declaration.
    if drawn.with_file or (drawn.edit in SETTINGS and not drawn.by_file):
        of_process["etcd_config"] = members.declarations
    yield "process", of_process
    if drawn.rehearses:
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
    differs = [
        Difference(f"usage of {mode}", "options", verdict.usage)
        for mode, verdict in verdicts.items()
        if verdict.usage
    ]
    explained_, pairs = [], 0
    differs = [one for one in differs if not (why := explained(one, drawn)) or explained_.append(why)]
    for first, second in combinations(verdicts, 2):
        ours, theirs = _subjects(verdicts[first]), _subjects(verdicts[second])
        for subject in sorted(ours.keys() & theirs.keys()):
            pairs += 1
            one, other = ours[subject], theirs[subject]
            if (one.outcome is Outcome.VIOLATES) == (other.outcome is Outcome.VIOLATES):
                continue
            difference = Difference(
                f"{first} and {second}",
                f"{subject[1]} {subject[0]}",
                f"{' '.join(subject)}: {first} {_said(one)}; {second} {_said(other)}",
            )
            if why := explained(difference, drawn):
                explained_.append(why)
            else:
                differs.append(difference)
    return differs, pairs, explained_


def _said(result: CheckResult) -> str:
    why = "; ".join(finding.message for finding in result.findings) or result.reason
    return f"{result.outcome}{': ' if why else ''}{why}"


# -- what differs on purpose ------------------------------------------------------------------------------

EXPLAINED: Sequence[tuple[str, Callable[[ModeDraw], bool], str]] = ()
"""Kinds of differences between modes that are meant, in which draws, and why."""


def explained(difference: Difference, drawn: ModeDraw) -> str:
    """Return why the difference is meant, empty if it is not."""
    return next(
        (why for kind, applies, why in EXPLAINED if re.fullmatch(kind, difference.kind) and applies(drawn)),
        "",
    )
