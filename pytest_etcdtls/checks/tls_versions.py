"""Protocol versions: none that is old, the new one, and the signal of a fallback."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.observations.attempt import TLSVersion, Way
from pytest_etcdtls.observations.greeting import TLS1_0, Greeting, Reply, ServerHello
from pytest_etcdtls.observations.protocol import NewestVersion, OddHello, OldVersions
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import s_client
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict

_INAPPROPRIATE_FALLBACK = 86
_S_CLIENT_FLAGS = {"TLSv1.0": "-tls1", "TLSv1.1": "-tls1_1"}


def accepted(greeting: Greeting, server_hello: ServerHello) -> Greeting:
    """Return the greeting as if the server had accepted the hello; for counterexamples."""
    return replace(greeting, reply=Reply.SERVER_HELLO, server_hello=server_hello, alert=None)


def _tls10_accepted(old: OldVersions) -> Mapping[str, Any]:
    ssl3, tls10, tls11 = old.greetings
    tls10 = accepted(tls10, ServerHello(version=TLS1_0, suite=0x002F))
    return {"old": replace(old, greetings=(ssl3, tls10, tls11))}


@check("tls.version-floor", on=EVERY_LISTENER, counterexample=_tls10_accepted)
def no_version_below_tls12_is_accepted(old: OldVersions) -> Iterator[Statement]:
    """No protocol version below TLS 1.2 is accepted.

    SSL 3.0, TLS 1.0 and TLS 1.1 rest on MD5 and SHA-1 and have known attacks. etcd has never spoken them, so
    what does is something that stands before it.

    Spec: RFC 8996 sections 4, 5
    Spec: RFC 7568 section 3
    Spec: etcd --tls-min-version
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, or set the minimum of what does to TLS 1.2;
        etcd's own is --tls-min-version, TLS1.2 unless set to TLS1.3.
    """
    found = [greeting for greeting in old.greetings if greeting.reply is Reply.SERVER_HELLO]
    if found:
        lines = (
            s_client(old.url, options=f"{_S_CLIENT_FLAGS[greeting.offered]} -cipher 'ALL:@SECLEVEL=0'")
            for greeting in found
            if greeting.offered in _S_CLIENT_FLAGS
        )
        yield Finding(
            message=f"{', '.join(greeting.offered for greeting in found)} is accepted",
            expected="the alert 70 protocol_version",
            observed="; ".join(f"{greeting.offered}: {greeting.describe()}" for greeting in found),
            reproduce=tuple(lines),
        )
    for greeting in old.greetings:
        if not greeting.answered:
            yield Verdict(Outcome.INCONCLUSIVE, f"{greeting.offered}: {greeting.describe()}")


def _refused(newest: NewestVersion) -> Mapping[str, Any]:
    attempt = replace(newest.attempt, way=Way.OTHER, alert=70, version=None)
    return {"newest": replace(newest, offered=False, attempt=attempt)}


@check("tls.tls13-offered", on=EVERY_LISTENER, counterexample=_refused)
def tls13_is_offered(newest: NewestVersion) -> Iterator[Statement]:
    """TLS 1.3 is offered.

    It has no weak suites, encrypts the certificates of both sides, and alone has post-quantum key exchange.
    etcd 3.5.0 to 3.5.7 pin their maximum to TLS 1.2.

    Spec: RFC 8446 section 1.2
    Spec: etcd --tls-max-version
    Severity: low
    Level: SHOULD
    Remediation: leave --tls-max-version unset or set it to TLS1.3, and use etcd 3.4.25, 3.5.8 or newer.
    """
    if newest.offered and newest.attempt.way is Way.UNCLEAR:
        yield Verdict(Outcome.INCONCLUSIVE, f"TLSv1.3: {newest.attempt.describe()}")
    elif not newest.offered:
        yield Finding(
            message="TLS 1.3 is not offered",
            expected="a handshake in TLS 1.3",
            observed=newest.attempt.describe(),
            reproduce=(s_client(newest.url, TLSVersion.TLS1_3),),
        )


def _ignored(variant: OddHello) -> Mapping[str, Any]:
    return {"variant": replace(variant, odd=variant.plain)}


@check("tls.fallback-signal", on=EVERY_LISTENER, counterexample=_ignored)
def the_signal_of_a_fallback_is_honoured(
    variant: Annotated[OddHello, "fallback"],
) -> Iterator[Statement]:
    """A hello in TLS 1.2 that says it is a fallback is refused, as TLS 1.3 is offered.

    Who can drop packets could otherwise make a client that falls back speak the older version.

    Spec: RFC 7507 section 3
    Severity: low
    Level: SHOULD
    Remediation: let etcd itself terminate TLS on this port; what does so here ignores TLS_FALLBACK_SCSV.
    """
    odd = variant.odd
    if odd.reply is Reply.SERVER_HELLO:
        yield Finding(
            message="TLS_FALLBACK_SCSV is ignored",
            expected="the alert 86 inappropriate_fallback",
            observed=odd.describe(),
            reproduce=(s_client(variant.url, TLSVersion.TLS1_2, "-fallback_scsv"),),
        )
    elif odd.alert != _INAPPROPRIATE_FALLBACK:
        yield Verdict(Outcome.INCONCLUSIVE, f"{odd.purpose}: {odd.describe()}, without the signal accepted")
