"""Who is let in depends on who it is, not on the TLS version or the protocol."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.admission import Encounter, Encounters
from pytest_etcdtls.observations.attempt import Protocol, Response, TLSVersion, Way
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import curl
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role


def _let_in(encounter: Encounter) -> Encounter:
    served = replace(encounter.attempt, way=Way.SERVED, alert=None, response=Response(status=200))
    return replace(encounter, attempt=served)


def _by_version(encounters: Encounters) -> Mapping[str, Any]:
    here = tuple(_let_in(found) if found.version is TLSVersion.TLS1_2 else found for found in encounters.here)
    return {"encounters": replace(encounters, here=here)}


@check("mtls.same-verdict-every-version", on=EVERY_LISTENER, counterexample=_by_version)
def every_tls_version_decides_alike(encounters: Encounters) -> Iterator[Statement]:
    """Whoever is let in or refused in one TLS version is so in the other.

    What terminates TLS may verify certificates in one version and forget to in the other; a scanner that
    offers only the newest does not see it.

    Spec: RFC 8446 section 4.4.2.4
    Spec: RFC 5246 section 7.4.6
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS, in every version, on --listen-{side}-urls.
    """
    if len({found.version for found in encounters.here}) < 2:
        yield Verdict(Outcome.NOT_APPLICABLE, "only one TLS version is offered")
        return
    for protocol in dict.fromkeys(found.protocol for found in encounters.here):
        of_protocol = [found for found in encounters.here if found.protocol is protocol]
        for identity in dict.fromkeys(found.identity for found in of_protocol):
            yield from _alike([found for found in of_protocol if found.identity == identity], encounters.role)


def _over_grpc(encounters: Encounters) -> Mapping[str, Any]:
    here = tuple(_let_in(found) if found.protocol is Protocol.GRPC else found for found in encounters.here)
    return {"encounters": replace(encounters, here=here)}


@check("mtls.same-verdict-grpc-and-http", on={Role.CLIENT}, counterexample=_over_grpc)
def grpc_and_http_decide_alike(encounters: Encounters) -> Iterator[Statement]:
    """Whoever is let in or refused over HTTP is so over gRPC.

    Where HTTP is split off, two listeners decide: before 3.5.32, 3.6.13 and 3.7.0 only the one for HTTP
    looked at the revocation list.

    Spec: etcd --listen-client-http-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: give both listeners the same rules: upgrade etcd, or drop --listen-client-http-urls.
    """
    everything = (*encounters.here, *encounters.split)
    spoken = {found.protocol is Protocol.GRPC for found in everything}
    if spoken != {True, False}:
        yield _one_alone(grpc=spoken == {True})
        return
    for version in dict.fromkeys(found.version for found in everything):
        of_version = [found for found in everything if found.version is version]
        for identity in dict.fromkeys(found.identity for found in of_version):
            of_identity = [found for found in of_version if found.identity == identity]
            yield from _alike(_one_of_each(of_identity), encounters.role)


def _one_alone(*, grpc: bool) -> Verdict:
    if grpc:
        reason = "HTTP has a listener of its own: pass --etcd-client-http-endpoint"
        return Verdict(Outcome.NOT_VERIFIED, reason)
    return Verdict(Outcome.NOT_APPLICABLE, "gRPC was not spoken here")


def _one_of_each(encounters: Iterable[Encounter]) -> list[Encounter]:
    """Return what decides for gRPC and for HTTP; of several ways of HTTP, one that was served."""
    chosen: dict[bool, Encounter] = {}
    for found in encounters:
        over_grpc = found.protocol is Protocol.GRPC
        if over_grpc not in chosen or found.attempt.way is Way.SERVED:
            chosen[over_grpc] = found
    return list(chosen.values())


def _alike(encounters: list[Encounter], role: str) -> Iterator[Statement]:
    served = [found for found in encounters if found.attempt.way is Way.SERVED]
    refused = [found for found in encounters if _is_refused(found)]
    if served and refused:
        yield Finding(
            message=f"the identity {served[0].identity} is let in at one place and refused at another",
            expected="the same decision in every TLS version and protocol",
            observed="; ".join(_shown(found) for found in encounters),
            evidence={"identity": served[0].identity},
            reproduce=(_line(served[0], role), _line(refused[0], role)),
        )


def _is_refused(encounter: Encounter) -> bool:
    return encounter.attempt.way is Way.REFUSED or (encounter.closes and encounter.attempt.way is Way.CLOSED)


def _shown(encounter: Encounter) -> str:
    return f"{encounter.url} {encounter.version} {encounter.protocol}: {encounter.attempt.describe()}"


def _line(encounter: Encounter, role: str) -> str:
    name = encounter.identity
    return curl(
        encounter.url,
        role=role,
        version=encounter.version,
        protocol=encounter.protocol,
        files=None if name == "none" else (f"{name}.crt", f"{name}.key"),
    )
