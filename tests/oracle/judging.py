"""Judges a generated case as if a listener served it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from conforming import refused
from oracle.chains import Case

from pytest_etcdtls.checks.registry import GATES, Check, catalogue, select
from pytest_etcdtls.checks.results import CheckResult, Finding, Level, Outcome
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.pki.certificate import load
from pytest_etcdtls.role import Role, TLSVersion
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Listener, PortCredentials, Target, TrustBundle

NEED_CONNECTIONS = frozenset({"cert.same-for-every-hello", "cert.client-usage", "cert.covers-advertised-url"})
"""Checks of the family that are not about the chain alone but about what else the listener answers."""


@dataclass(frozen=True)
class Verdicts:
    """The outcomes of the checks of the family ``cert``.

    Attributes:
        violated: MUST checks that violate, with their findings.
        warned: SHOULD checks that warn.
        unjudged: checks that are inconclusive since a certificate has what is not judged.
        broken: broken and other inconclusive ones, with the reason: all evidence is there.
        unloadable: what this client cannot load of the CA file; then nothing was judged, since the option
            that names the file is a usage error.
    """

    violated: Mapping[str, tuple[Finding, ...]]
    warned: frozenset[str]
    broken: Mapping[str, str]
    unloadable: str = ""
    unjudged: frozenset[str] = frozenset()


@functools.cache
def checks() -> tuple[Check, ...]:
    """Return the checks that judge a chain."""
    chosen = select(("cert",))
    return tuple(check for check in chosen if Role.CLIENT in check.roles and check.id not in NEED_CONNECTIONS)


def judge(case: Case) -> Verdicts:
    """Judge a case."""
    try:
        anchors = tuple(load(der) for der in case.roots)
    except ValueError as error:
        return Verdicts({}, frozenset(), {}, str(error))
    listener = Listener(
        role=Role.CLIENT, scheme="https", host=case.host, port=2379, member="m0", label="client-m0"
    )
    target = Target(
        label="oracle",
        origin="live",
        listeners=(listener,),
        client=PortCredentials(server_ca=TrustBundle(anchors, "ca.crt")),
    )
    # The hosts of cases are no hosts of ours: a check that would dial one is inconclusive, and stands out.
    observer = Observer(target, Bounds(max_connections=0))
    attempt = refused(
        url=listener.url,
        identity="none",
        offered_version=TLSVersion.TLS1_3,
        started_at=case.now,
        chain=case.chain,
    )
    answer = FirstContact(tls=(attempt,))
    observer.recording.add((listener.label, FirstContact, None), answer)
    made = _Judge(observer, listener)
    results = [made.result(check, listener) for check in checks()]
    unjudged = frozenset(
        found.check
        for found in results
        if found.outcome is Outcome.INCONCLUSIVE and "which is not judged" in found.reason
    )
    return Verdicts(
        unjudged=unjudged,
        violated={found.check: found.findings for found in results if found.outcome is Outcome.VIOLATES},
        warned=frozenset(found.check for found in results if found.outcome is Outcome.WARNS),
        broken={
            found.check: found.reason
            for found in results
            if found.outcome in (Outcome.BROKEN, Outcome.INCONCLUSIVE) and found.check not in unjudged
        },
    )


class _Judge(Judge):
    """A judge of a listener that has passed its gates."""

    def __init__(self, observer: Observer, listener: Listener) -> None:
        super().__init__(observer)
        for gate in GATES:
            self._results[gate, listener.label] = CheckResult(
                check=gate,
                level=Level.MUST,
                severity=catalogue()[gate].severity,
                target=observer.target.label,
                listener=listener.label,
                role=listener.role,
                url=listener.url,
                outcome=Outcome.CONFORMS,
            )
