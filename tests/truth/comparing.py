"""Starts the etcds of a draw, judges them, and compares the verdict with what clients really get there.

What must hold is in :mod:`truth.rules`.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starting import SERVES, RunningEtcd, running_etcd

from pytest_etcdtls.etcd.etcd_flags import FlagSet
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.pki.profile import Identity
from truth.asking import GoClient, Question
from truth.drawing import Scenario
from truth.judging import CHECKS, Verdict, judge
from truth.materials import asked_identities, trusted_side
from truth.rules import STRANGERS, Difference, Seen, differences, explained
from truth.setting_up import Arrangement, Asked, Place, arrange, possible

_ASKED_ONCE = (
    *("issued", "expired", "not-yet-valid", "server-auth-only", "wrong-cn", "wrong-san"),
    *("intermediate-missing", "revoked"),
)
"""Identities that are asked with in one protocol only."""

_ENDS = re.compile(r'"level":"(?:fatal|panic)"|^panic: | [CF] \| ', re.MULTILINE)
_ALONE, _JOINS = 60.0, 18.0
"""Seconds in which a single etcd serves, and in which three have found each other or never do."""


class Etcds:
    """The etcds of a draw."""

    def __init__(self, binary: Path, directory: Path, stack: ExitStack) -> None:
        self._binary, self._directory, self._stack = binary, directory, stack
        self._by_member: dict[int, RunningEtcd] = {}

    @classmethod
    @contextmanager
    def started(cls, binary: Path, arguments: Sequence[Sequence[str]], directory: Path) -> Iterator[Etcds]:
        with ExitStack() as stack:
            etcds = cls(binary, directory, stack)
            # The last one leads, and no other can be elected before it is.
            for member, words in reversed([*enumerate(arguments)]):
                etcds.start(member, words)
            yield etcds

    def start(self, member: int, words: Sequence[str]) -> None:
        """Start a member, with a log of its own."""
        log = self._directory / f"log-{member}"
        self._by_member[member] = self._stack.enter_context(running_etcd([self._binary, *words], log))

    def stop(self, member: int) -> None:
        """Stop a member as a service manager does."""
        process = self._by_member[member].process
        process.terminate()
        process.wait()

    @property
    def _every(self) -> Sequence[RunningEtcd]:
        return [*self._by_member.values()]

    @property
    def pids(self) -> tuple[int, ...]:
        """The IDs of the processes, by member."""
        return tuple(etcd.process.pid for _, etcd in sorted(self._by_member.items()))

    def serve(self) -> bool:
        """Wait until all serve clients, and return whether they do."""
        until = time.monotonic() + (_ALONE if len(self._every) == 1 else _JOINS)
        while time.monotonic() < until and not self.ended:
            if all(SERVES.search(one.text) for one in self._every):
                return True
            time.sleep(0.05)
        return False

    @property
    def ended(self) -> bool:
        return any(one.ended for one in self._every)

    @property
    def failed(self) -> bool:
        """Whether one ended for a reason of its own, which may be after it has logged that it serves."""
        return any(one.ended and _ENDS.search(one.text) for one in self._every)


@dataclass(frozen=True)
class Compared:
    """The result of one draw on one etcd.

    Attributes:
        scenario: what was drawn, without what this etcd has no flag for.
        started: whether etcd served clients.
    """

    scenario: Scenario
    version: str
    started: bool = False
    differences: tuple[Difference, ...] = ()
    connections: int = 0
    seen: tuple[Seen, ...] = ()
    verdict: Verdict = field(default_factory=lambda: Verdict(""))
    arguments: tuple[tuple[str, ...], ...] = ()

    def describe(self) -> str:
        """Return what is needed to understand the differences."""
        lines = [f"{self.scenario} on etcd {self.version}"]
        lines += [f"DIFFERS {difference.kind}: {difference.text}" for difference in self.differences]
        lines += ["truth:", *(one.describe() for one in self.seen)]
        lines += [self.verdict.describe(), *(f"etcd {' '.join(argument)}" for argument in self.arguments)]
        return "\n".join(lines)


class Comparer:
    """Compares draws, one after the other, on etcds."""

    def __init__(self, place: Place, go: GoClient) -> None:
        self.place, self.go = place, go
        self._flags: dict[Path, FlagSet] = {}

    def compare(self, drawn: Scenario, binary: Path, *, checks: Sequence[str] = CHECKS) -> Compared:
        """Start an etcd as it was drawn, and compare.

        Args:
            drawn: the draw.
            binary: the etcd.
            checks: the patterns of the checks that are judged; empty for all.
        """
        flags = self.flags_of(binary)
        scenario = possible(drawn, flags)
        arrangement = arrange(scenario, flags, self.place)
        with Etcds.started(binary, arrangement.arguments, self.place.directory) as etcds:

            def not_started() -> Compared:
                return Compared(scenario, flags.version, arguments=arrangement.arguments)

            if not etcds.serve():
                return not_started()
            verdict = judge(arrangement.options, checks)
            seen = tuple(self.look(one, arrangement) for one in arrangement.asked)
            if etcds.failed:  # after one of its listeners served, which etcd 3.6 and later log at once
                return not_started()
            found = [Difference("healthy", "etcd", "etcd ended while it was judged")] if etcds.ended else []
            found += differences(scenario, arrangement, seen, verdict)
        return Compared(
            scenario,
            flags.version,
            started=True,
            differences=tuple(one for one in found if not explained(one, scenario)),
            connections=sum(len(one.replies) for one in seen),
            seen=seen,
            verdict=verdict,
            arguments=arrangement.arguments,
        )

    def flags_of(self, binary: Path) -> FlagSet:
        """Return the flags of an etcd."""
        if binary not in self._flags:
            done = subprocess.run([binary, "--help"], capture_output=True, encoding="utf-8", check=False)
            self._flags[binary] = FlagSet.from_help(binary_version(binary), done.stdout + done.stderr)
        return self._flags[binary]

    def look(self, listener: Asked, arrangement: Arrangement) -> Seen:
        """Ask a listener as each client."""
        questions = list(_questions(listener, arrangement))
        replies = self.go.ask(questions, arrangement.roots)
        return Seen(
            listener,
            {
                (question.name, question.version, question.protocol): reply
                for question, reply in zip(questions, replies, strict=True)
            },
            frozenset(tuple(sorted(reply.announced)) for reply in replies if reply.announced),
        )


def _known(listener: Asked) -> Mapping[str, Identity]:
    common_name = "etcd-peer" if listener.side == "peer" else "client"
    known = asked_identities(trusted_side(listener.side, listener.scenario), common_name)
    return {**known, "plaintext": known["none"]}


def _questions(listener: Asked, arrangement: Arrangement) -> Iterator[Question]:
    known = _known(listener)
    for protocol in listener.protocols:
        if protocol != "http2":
            yield Question(listener, "plaintext", known["none"], "plaintext", protocol)
    if not listener.tls:
        return
    identities: dict[str, Identity] = {name: known[name] for name in STRANGERS}
    if listener.side in arrangement.good:
        identities["good"] = arrangement.good[listener.side]
    for version in ("1.2", "1.3"):
        for name, identity in identities.items():
            for protocol in listener.protocols:
                yield Question(listener, name, identity, version, protocol)
        for name in _ASKED_ONCE:
            yield Question(listener, name, known[name], version, listener.protocols[0])
