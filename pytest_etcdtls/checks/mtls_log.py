"""etcd's own log about the connections that it turned away."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.etcd_log import LogComparison, LoggedAttempt
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import look_for
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict

_SHOWN = 3


def _another_story(log: LogComparison) -> Mapping[str, Any]:
    first, *others = log.compared
    return {"log": replace(log, compared=(replace(first, agree=False), *others))}


@check("mtls.log-tells-the-same", on=EVERY_LISTENER, counterexample=_another_story)
def etcd_s_log_tells_what_was_seen_on_the_wire(log: LogComparison) -> Iterator[Statement]:
    """The alert on the wire and the line in etcd's log give the same reason for a refusal.

    They are the two ends of one connection. Where they differ, something between us and etcd answers in its
    place, or the log is another's: operators who look for a refusal there are led astray, and one of the two
    is wrong about who is let in. The verdicts of all other checks are from the wire and stand. Lines that
    etcd does not write are no fault: from 3.5.24 and 3.6.6 on it keeps to itself who merely went away, and
    from 3.5 on what is alike from the 101st in a second on.

    Spec: RFC 8446 section 6.2
    Spec: etcd --logger, --log-outputs
    Severity: medium
    Level: SHOULD
    Remediation: find out which end is wrong: connect to the member itself, past proxies and load balancers,
        with --etcd-connect-to, and pass the log of that very member as --etcd-log=HOST=FILE to compare.
    """
    differing = [one for one in log.compared if not one.agree]
    for identity in dict.fromkeys(one.identity for one in differing):
        yield _differs(log, [one for one in differing if one.identity == identity])
    if log.unlogged and not log.compared:
        yield _nothing_there(log)
    elif log.unlogged:
        who = ", ".join(sorted({one.identity for one in log.unlogged}))
        text = f"{log.source} has no line about {len(log.unlogged)} of our connections that were turned away"
        why = ": etcd leaves out what is alike from the 101st in a second on" if log.thinned_out else ""
        yield Note(f"{text} ({who}){why}")
    if log.clock_ahead and log.file:
        yield Note(f"times in {log.source} are {log.clock_ahead:+.0f} s from ours")


def _differs(log: LogComparison, told: list[LoggedAttempt]) -> Finding:
    first = told[0]
    grep = tuple(
        look_for(f"grep -F {shlex.quote(one.remote_address)} {shlex.quote(log.file)}", '"error"')
        for one in told[:_SHOWN]
    )
    number = "one connection" if len(told) == 1 else f"{len(told)} connections"
    return Finding(
        message=f"the wire and etcd's log differ about {number} with the identity {first.identity}",
        expected=f"for what is in the log, {first.expected}",
        observed="; ".join(_both(one) for one in told[:_SHOWN]) + (" ..." if len(told) > _SHOWN else ""),
        evidence={"log": log.source, "lines recognised by": first.recognised_by},
        reproduce=grep if log.file else (),
    )


def _both(one: LoggedAttempt) -> str:
    place = f"{one.version} {one.protocol}" if one.version else "plaintext"
    return f"{place}: on the wire {one.on_the_wire}, in the log {one.in_the_log}"


def _nothing_there(log: LogComparison) -> Verdict:
    if log.nobody:
        return Verdict(Outcome.NOT_APPLICABLE, f"etcd does not log {log.nobody}")
    if not log.file:
        reason = f"nobody whom this port turned away is in {log.source}: leave etcd's --log-level at info"
        return Verdict(Outcome.NOT_VERIFIED, reason)
    until = f", which ends at {log.latest:%Y-%m-%d %H:%M:%S} UTC" if log.latest else ""
    return Verdict(
        Outcome.NOT_VERIFIED,
        f"none of our connections that were turned away is in {log.source}{until}: pass the log that this "
        "member is writing now, as kubectl logs -f, docker logs -f or journalctl -f put it into a file",
    )
