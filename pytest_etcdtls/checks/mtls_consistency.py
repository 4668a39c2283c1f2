"""Whether a client is accepted does not depend on the TLS version or the protocol."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.etcd_log.matching import MatchedBy
from pytest_etcdtls.facts.access import IdentityAttempt, IdentityAttempts
from pytest_etcdtls.facts.etcd_log import LogComparison, LoggedAttempt
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import curl, look_for
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.tls.attempt import Ending, Response


def _as_if_accepted(encounter: IdentityAttempt) -> IdentityAttempt:
    served = replace(encounter.attempt, ending=Ending.SERVED, alert=None, response=Response(status=200))
    return replace(encounter, attempt=served)


def _by_version(encounters: IdentityAttempts) -> Mapping[str, Any]:
    here = tuple(
        _as_if_accepted(found) if found.version is TLSVersion.TLS1_2 else found for found in encounters.here
    )
    return {"encounters": replace(encounters, here=here)}


@check("mtls.same-verdict-every-version", on=EVERY_LISTENER, counterexample=_by_version)
def every_tls_version_decides_alike(encounters: IdentityAttempts) -> Iterator[Statement]:
    """Every TLS version accepts and refuses the same clients.

    A proxy that terminates TLS may verify certificates in one version and not in the other. A scanner that
    offers only the newest version does not detect it, and clients with bad certificates are accepted in the
    other.

    Spec: RFC 8446 section 4.4.2.4
    Spec: RFC 5246 section 7.4.6
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS, in every version, on --listen-{side}-urls.
    """
    if len({found.version for found in encounters.here}) < 2:
        yield CannotJudge(Outcome.NOT_APPLICABLE, "only one TLS version is offered")
        return
    for protocol in dict.fromkeys(found.protocol for found in encounters.here):
        of_protocol = [found for found in encounters.here if found.protocol is protocol]
        for identity in dict.fromkeys(found.identity for found in of_protocol):
            yield from _alike([found for found in of_protocol if found.identity == identity], encounters.role)


def _over_grpc(encounters: IdentityAttempts) -> Mapping[str, Any]:
    here = tuple(
        _as_if_accepted(found) if found.protocol is Protocol.GRPC else found for found in encounters.here
    )
    return {"encounters": replace(encounters, here=here)}


@check("mtls.same-verdict-grpc-and-http", on={Role.CLIENT}, counterexample=_over_grpc)
def grpc_and_http_decide_alike(encounters: IdentityAttempts) -> Iterator[Statement]:
    """The same clients are accepted and refused over gRPC and HTTP.

    A client that is refused over one protocol has access over the other. With --listen-client-http-urls two
    listeners decide: before 3.5.32, 3.6.13 and 3.7.0 only the one for HTTP checked the revocation list.

    Spec: etcd --listen-client-http-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate, mtls.self-signed, mtls.foreign-ca, mtls.revoked-grpc,
        advisory.ghsa-3wh4-j44w-pg92-proved
    Severity: high
    Level: MUST
    Remediation: give both listeners the same rules: upgrade etcd, or drop --listen-client-http-urls.
    """
    everything = (*encounters.here, *encounters.split)
    served_protocols = {found.protocol is Protocol.GRPC for found in everything}
    if served_protocols != {True, False}:
        yield _one_alone(grpc=served_protocols == {True})
        return
    for version in dict.fromkeys(found.version for found in everything):
        of_version = [found for found in everything if found.version is version]
        for identity in dict.fromkeys(found.identity for found in of_version):
            of_identity = [found for found in of_version if found.identity == identity]
            yield from _alike(_one_of_each(of_identity), encounters.role)


def _one_alone(*, grpc: bool) -> CannotJudge:
    if grpc:
        reason = "HTTP has a listener of its own: pass --etcd-client-http-endpoint"
        return CannotJudge(Outcome.NOT_VERIFIED, reason)
    return CannotJudge(Outcome.NOT_APPLICABLE, "gRPC was not tried on this listener")


def _one_of_each(encounters: Iterable[IdentityAttempt]) -> list[IdentityAttempt]:
    """Return the attempts that decide for gRPC and for HTTP; of several over HTTP, one that was served."""
    chosen: dict[bool, IdentityAttempt] = {}
    for found in encounters:
        over_grpc = found.protocol is Protocol.GRPC
        if over_grpc not in chosen or found.attempt.ending is Ending.SERVED:
            chosen[over_grpc] = found
    return list(chosen.values())


def _alike(encounters: list[IdentityAttempt], role: str) -> Iterator[Statement]:
    served = [found for found in encounters if found.attempt.ending is Ending.SERVED]
    refused = [found for found in encounters if _is_refused(found)]
    if served and refused:
        yield Finding(
            message=f"the identity {served[0].identity} is accepted in one case and refused in another",
            expected="the same decision in every TLS version and protocol",
            observed="; ".join(_shown(found) for found in encounters),
            evidence={"identity": served[0].identity},
            reproduce=(_line(served[0], role), _line(refused[0], role)),
        )


def _is_refused(encounter: IdentityAttempt) -> bool:
    return encounter.attempt.ending is Ending.REFUSED or (
        encounter.closes and encounter.attempt.ending is Ending.CLOSED
    )


def _shown(encounter: IdentityAttempt) -> str:
    return f"{encounter.url} {encounter.version} {encounter.protocol}: {encounter.attempt.describe()}"


def _line(encounter: IdentityAttempt, role: str) -> str:
    name = encounter.identity
    return curl(
        encounter.url,
        role=role,
        version=encounter.version,
        protocol=encounter.protocol,
        files=None if name == "none" else (f"{name}.crt", f"{name}.key"),
    )


_SHOWN = 3


def _another_story(log: LogComparison) -> Mapping[str, Any]:
    first, *others = log.compared
    return {"log": replace(log, compared=(replace(first, agree=False), *others))}


@check("mtls.log-tells-the-same", on=EVERY_LISTENER, counterexample=_another_story)
def etcd_s_log_tells_what_was_seen_on_the_wire(log: LogComparison) -> Iterator[Statement]:
    """The alert and etcd's log give the same reason for a refusal.

    Where they differ, something between this client and etcd answers in its place, or the log belongs to
    another etcd. The log then misleads operators who look up a refusal. Other checks judge by the wire alone
    and are not affected. Lines that etcd does not write are no fault: from 3.5.24 and 3.6.6 on it does not
    log clients that merely disconnect, and from 3.5 on it drops similar lines from the 101st within a second.

    Spec: RFC 8446 section 6.2
    Spec: etcd --logger, --log-outputs
    Severity: medium
    Level: SHOULD
    Remediation: find out which side is wrong: connect to the member itself, past proxies and load balancers,
        with --etcd-connect-to, and pass the log of that member as --etcd-log=HOST=FILE to compare.
    """
    differing = [one for one in log.compared if not one.agree]
    if log.thinned_out:
        # The line of such a connection may be missing, and the nearest one in time another's.
        differing = [one for one in differing if one.recognised_by != MatchedBy.TIME]
    for identity in dict.fromkeys(one.identity for one in differing):
        yield _differs(log, [one for one in differing if one.identity == identity])
    if log.unlogged and not log.compared:
        yield _nothing_there(log)
    elif log.unlogged:
        who = ", ".join(sorted({one.identity for one in log.unlogged}))
        text = f"{log.source} has no line about {len(log.unlogged)} of our rejected connections"
        why = ": etcd drops similar lines from the 101st within a second" if log.thinned_out else ""
        yield Note(f"{text} ({who}){why}")
    if log.clock_ahead and log.file:
        yield Note(f"times in {log.source} are {log.clock_ahead:+.0f} s from ours")


def _differs(log: LogComparison, differing: list[LoggedAttempt]) -> Finding:
    first = differing[0]
    grep = tuple(
        look_for(f"grep -F {shlex.quote(one.remote_address)} {shlex.quote(log.file)}", '"error"')
        for one in differing[:_SHOWN]
    )
    number = "one connection" if len(differing) == 1 else f"{len(differing)} connections"
    return Finding(
        message=f"the wire and etcd's log differ about {number} with the identity {first.identity}",
        expected=f"for what is in the log, {first.expected}",
        observed="; ".join(_both(one) for one in differing[:_SHOWN])
        + (" ..." if len(differing) > _SHOWN else ""),
        evidence={"log": log.source, "lines recognised by": first.recognised_by},
        reproduce=grep if log.file else (),
    )


def _both(one: LoggedAttempt) -> str:
    place = f"{one.version} {one.protocol}" if one.version else "plaintext"
    return f"{place}: on the wire {one.on_the_wire}, in the log {one.in_the_log}"


def _nothing_there(log: LogComparison) -> CannotJudge:
    if log.nobody:
        return CannotJudge(Outcome.NOT_APPLICABLE, f"etcd does not log {log.nobody}")
    if not log.file:
        reason = f"none of the clients that this port refused is in {log.source}: "
        reason += (
            "etcd drops similar lines from the 101st within a second: run again a second later"
            if log.thinned_out
            else "leave etcd's --log-level at info"
        )
        return CannotJudge(Outcome.NOT_VERIFIED, reason)
    until = f", which ends at {log.latest:%Y-%m-%d %H:%M:%S} UTC" if log.latest else ""
    return CannotJudge(
        Outcome.NOT_VERIFIED,
        f"none of our rejected connections is in {log.source}{until}: pass the log that this "
        "member is writing now, as kubectl logs -f, docker logs -f or journalctl -f write it to a file",
    )
