"""Whether the alert on the wire and the line in etcd's log tell the same story.

The table of alerts by cause and Go version was measured on etcd 3.4 to 3.7, built with Go 1.16, 1.19, 1.24
and 1.26. Between two of these either's alert is taken for right. Judges nothing but the agreement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pytest_etcdtls.etcd_log.causes import Cause
from pytest_etcdtls.etcd_log.rejections import Rejection
from pytest_etcdtls.observations.attempt import Attempt, TLSVersion, Way, alert_text
from pytest_etcdtls.observations.greeting import Connection, Greeting, Reply

_OLD, _NEW, _NEWEST = (1, 19), (1, 24), (1, 26)
"""The last Go measured with bad_certificate for everything, the first with alerts of their own, the first
with handshake_failure for no certificate in TLS 1.2."""

_SINCE_1_24: Final[Mapping[Cause, int]] = {Cause.UNKNOWN_CA: 48, Cause.EXPIRED: 45, Cause.NOT_YET_VALID: 45}
_ALWAYS: Final[Mapping[Cause, int]] = {
    Cause.USAGE: 42,
    Cause.EXTENSION: 42,
    Cause.NAME_NOT_ALLOWED: 42,
    Cause.PROTOCOL_VERSION: 70,
    Cause.CIPHER_SUITE: 40,
    Cause.ALPN: 120,
    Cause.SERVED_PAIR: 80,
}
_CLOSES: Final = frozenset({Cause.ADDRESS, Cause.REVOKED, Cause.CRL_UNREADABLE})
"""What etcd itself refuses, after the handshake and without an alert."""

_ENDED_BY_US = frozenset({Cause.GONE, Cause.SILENT, Cause.STOPPING, Cause.REFUSED_BY_CLIENT, Cause.OTHER})
"""What etcd can say of a connection that it did not refuse."""


@dataclass(frozen=True, slots=True)
class Story:
    """What the two ends say about one connection.

    Attributes:
        agree: they say the same.
        on_the_wire: how the attempt ended.
        in_the_log: etcd's reason.
        expected: how an attempt ends for that reason.
    """

    agree: bool
    on_the_wire: str
    in_the_log: str
    expected: str


def compare_story(attempt: Attempt, rejection: Rejection, go_version: str | None = None) -> Story:
    """Return whether an attempt ended as the reason in the log makes it end.

    Args:
        attempt: ours.
        rejection: the line about it.
        go_version: that etcd was built with, ``go1.24.0``; ``None`` accepts the alert of any.
    """
    alerts = expected_alerts(rejection.cause, attempt.version or attempt.asked, go_version)
    if alerts:
        agree = attempt.alert in alerts
        expected = f"alert {' or '.join(alert_text(number) for number in sorted(alerts))}"
    elif rejection.cause in _CLOSES:
        agree = attempt.way is Way.CLOSED
        expected = "close_notify after the handshake, without an alert"
    elif rejection.cause is Cause.PLAINTEXT:
        agree = attempt.version is None and attempt.alert is None and attempt.way is not Way.SERVED
        expected = "the end of the connection without a byte of TLS"
    elif rejection.cause is Cause.HTTP2_ON_PEER_PORT:
        agree = attempt.way in (Way.CLOSED, Way.UNCLEAR)
        expected = "close_notify, or silence, after the handshake"
    elif rejection.cause in (Cause.STOPPING, Cause.OTHER):
        agree = attempt.way is not Way.SERVED
        expected = "the end of the connection"
    else:
        agree = attempt.way is Way.UNCLEAR
        expected = "no verdict: the connection ended on our side"
    return Story(
        agree=agree,
        on_the_wire=attempt.describe(),
        in_the_log=f"{rejection.cause}: {rejection.error}",
        expected=expected,
    )


def fits(connection: Connection, rejection: Rejection, go_version: str | None = None) -> bool:
    """Return whether a connection ended as the reason in the log makes it end; a greeting can be asked too.

    Args:
        connection: ours.
        rejection: a line that may be about it.
        go_version: as in :func:`compare_story`.
    """
    if not isinstance(connection, Greeting):
        return compare_story(connection, rejection, go_version).agree
    if connection.reply is Reply.ALERT:
        return rejection.cause is Cause.OTHER or connection.alert in expected_alerts(
            rejection.cause, None, go_version
        )
    return rejection.cause in _ENDED_BY_US


def expected_alerts(cause: Cause, version: str | None, go_version: str | None) -> frozenset[int]:
    """Return the alerts that Go sends for a cause; empty if it sends none.

    Args:
        cause: of the refusal.
        version: of TLS, ``TLSv1.2`` or ``TLSv1.3``; ``None`` if it is not known.
        go_version: as in :func:`compare_story`.
    """
    if cause in _ALWAYS:
        return frozenset({_ALWAYS[cause]})
    go = _go(go_version)
    if cause in _SINCE_1_24:
        return _between(go, _SINCE_1_24[cause])
    if cause is not Cause.NO_CERTIFICATE:
        return frozenset()
    if version == TLSVersion.TLS1_3:
        return _between(go, 116)
    in_1_2 = _in_1_2(go)
    return in_1_2 if version == TLSVersion.TLS1_2 else in_1_2 | _between(go, 116)


def _in_1_2(go: tuple[int, int] | None) -> frozenset[int]:
    """Return what no certificate comes to in TLS 1.2."""
    if go is not None and go <= _NEW:
        return frozenset({42})
    return frozenset({40}) if go is not None and go >= _NEWEST else frozenset({40, 42})


def _between(go: tuple[int, int] | None, new: int) -> frozenset[int]:
    if go is not None and go <= _OLD:
        return frozenset({42})
    return frozenset({new}) if go is not None and go >= _NEW else frozenset({42, new})


def _go(version: str | None) -> tuple[int, int] | None:
    match = re.search(r"go(\d+)\.(\d+)", version or "")
    return (int(match[1]), int(match[2])) if match else None
