"""etcd's own log beside what we saw on the wire, listener by listener.

The log is read once the attempts are over that are looked up in it, and again for a moment where lines are
missing: etcd writes them after the alert. Connects only where etcd may have left out every single one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.etcd_log.matching import Match, turned_away
from pytest_etcdtls.etcd_log.reading import parse_log
from pytest_etcdtls.etcd_log.sampling import is_thinned_out
from pytest_etcdtls.etcd_log.source import LogSource
from pytest_etcdtls.etcd_log.story import compare_story
from pytest_etcdtls.observations.admission import Acceptance, Encounters
from pytest_etcdtls.observations.attempt import Attempt, Protocol, TLSVersion
from pytest_etcdtls.observations.chain import ServedChain
from pytest_etcdtls.observations.etcd_log import LogComparison, LoggedAttempt, Unlogged
from pytest_etcdtls.observations.listener import Answer, Plaintext
from pytest_etcdtls.observations.release import GoRelease
from pytest_etcdtls.pki.auto_tls import is_generated
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.encounters import split_off
from pytest_etcdtls.probes.looking_up import LookedUp, look_up, printable, read_new
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.target import Listener, Target

_PATIENCE = 1.0
"""Seconds that etcd, and what carries its log to the file, may take to write a line."""
_FIRST_LINE = 5.0
"""Seconds for the first one where it will come, however busy the machine is: in the log of our own etcd."""
_PAUSE = 0.02


def _cost(target: Target, listener: Listener | None, key: str | None) -> int:
    if listener is None or listener.scheme == "http":
        return 0
    has_log = target.origin != "live" or target.log_of(listener) is not None
    return len(TLSVersion) if has_log else 0


@probe(
    LogComparison,
    cost=_cost,
    needs=[
        (Answer, None),
        (ServedChain, None),
        (Acceptance, None),
        (Encounters, None),
        (Plaintext, None),
        (GoRelease, None),
    ],
)
def _comparison(context: Context, key: str | None) -> LogComparison:
    listener = listener_of(context)
    if listener.scheme == "http":
        raise NotApplicableError(f"{listener.url} is asked for plain HTTP: there is no TLS to judge")
    source = context.target.log_of(listener)
    if source is None:
        raise NotVerifiedError(
            "needs etcd's own log, in which it says whom it rejected and why: pass --etcd-log"
        )
    attempts = list(_attempts(context))
    nobody = _nobody(context, listener)
    go_version = _go_version(context) or source.go_version
    looked = _look_for(context, source, () if nobody else attempts, go_version)
    ours = _of(attempts, looked)
    if not ours and not nobody and is_thinned_out(looked.log.rejections):
        attempts += _once_more(context)
        looked = _look_for(context, source, attempts[-len(TLSVersion) :], go_version)
        ours = _of(attempts, looked)
    go_version = go_version or looked.log.startup.go_version
    unlogged = {id(one) for one in looked.matches.unmentioned}
    return LogComparison(
        url=listener.url,
        role=listener.role,
        source=source.name,
        file=str(source.file or ""),
        compared=tuple(_compared(ours, go_version)),
        unlogged=tuple(
            Unlogged(purpose=one.purpose, identity=one.identity, on_the_wire=one.describe())
            for one in attempts
            if id(one) in unlogged
        ),
        latest=looked.log.latest,
        thinned_out=is_thinned_out(looked.log.rejections),
        nobody=nobody,
        clock_ahead=looked.ahead,
        go_version=go_version,
    )


def _of(attempts: Iterable[Attempt], looked: LookedUp) -> list[Match]:
    """Return the lines about these attempts."""
    asked = {id(attempt) for attempt in attempts}
    return [match for match in looked.matches.ours if id(match.connection) in asked]


def _once_more(context: Context) -> list[Attempt]:
    """Connect without a certificate, now that the second is over in which etcd may have left lines out."""
    requests = [
        Request(purpose="no certificate, to be looked up in the log", version=version)
        for version in TLSVersion
    ]
    return [tries[-1] for tries in context.attempt(*requests)]


def _attempts(context: Context) -> Iterator[Attempt]:
    """Yield what was tried on the listener to see who is let in, once that is over."""
    answer = tls_answer(context)
    yield from answer.tls
    for candidate in context.get(Acceptance).candidates:
        for _, _, tries in candidate.tries:
            yield from tries
    yield from (encounter.attempt for encounter in context.get(Encounters).here)
    with suppress(UnobservedError):
        yield from context.get(Plaintext).tries


def _go_version(context: Context) -> str | None:
    try:
        return context.get(GoRelease).text
    except UnobservedError:
        return None


def _look_for(
    context: Context, source: LogSource, attempts: Iterable[Attempt], go_version: str | None
) -> LookedUp:
    """Look until each of the attempts that was turned away has its line, or for as long as one may take."""
    expected = {id(attempt) for attempt in attempts if turned_away(attempt)}
    started, known = time.monotonic(), None
    while True:
        waited = time.monotonic() - started
        text = read_new(source)
        if text != known:
            known, found = text, _look(context, source, text, go_version)
            there = expected & {id(match.connection) for match in found.matches.ours}
            thinned_out = is_thinned_out(found.log.rejections)
        surely = source.file is None and not there and not thinned_out
        if there == expected or waited > (_FIRST_LINE if surely else _PATIENCE) or (there and thinned_out):
            return found
        threading.Event().wait(_PAUSE)


def _look(context: Context, source: LogSource, text: str, go_version: str | None) -> LookedUp:
    return look_up(context, source, parse_log(text, source.name), go_version=go_version)


def _compared(ours: Sequence[Match], go_version: str | None) -> Iterator[LoggedAttempt]:
    for match in ours:
        attempt = match.connection
        if isinstance(attempt, Attempt):
            story = compare_story(attempt, match.rejection, go_version)
            yield LoggedAttempt(
                purpose=attempt.purpose,
                identity=attempt.identity,
                version=attempt.asked,
                protocol=attempt.protocol,
                on_the_wire=story.on_the_wire,
                in_the_log=printable(story.in_the_log),
                expected=story.expected,
                agree=story.agree,
                remote_address=printable(match.rejection.remote_address),
                recognised_by=match.by,
            )


def _nobody(context: Context, listener: Listener) -> str:
    """Return whom etcd does not log, where it logs nobody whom it turns away."""
    accepted = context.get(Acceptance).accepted
    spoken = set(accepted.spoken) if accepted else set()
    if spoken == {Protocol.GRPC} or split_off(context, listener) is not None:
        return "whom a port for gRPC alone turns away"
    with suppress(UnobservedError):
        if is_generated(context.get(ServedChain).leaf):
            return "whom a port with auto-tls turns away"
    return ""
