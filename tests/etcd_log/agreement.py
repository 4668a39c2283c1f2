"""How an attempt ends for the reason that etcd logs, by etcd's and Go's source.

Go sends an alert during the handshake. For what etcd checks after the handshake (checkCertSAN and checkCRL in
client/pkg/transport/listener_tls.go), it closes the connection without one.
"""

from __future__ import annotations

from pytest_etcdtls.etcd_log.parse import Cause
from pytest_etcdtls.etcd_log.reasons import EXPLANATIONS
from pytest_etcdtls.role import TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending

_MISSING = {TLSVersion.TLS1_2: 40, TLSVersion.TLS1_3: 116}
"""The alerts for a missing certificate of Go 1.26 and newer."""
_CLOSES = (Cause.ADDRESS, Cause.REVOKED, Cause.CRL_UNREADABLE)


def agrees(attempt: Attempt, cause: Cause) -> bool:
    """Return whether an attempt ended as expected for the cause in the log."""
    alerts = set(EXPLANATIONS[cause].alerts)
    if cause is Cause.NO_CERTIFICATE:
        alerts.add(_MISSING[TLSVersion(attempt.version or attempt.offered_version or "")])
    if alerts:
        return attempt.alert in alerts
    if cause in _CLOSES:
        return attempt.ending is Ending.CLOSED
    if cause is Cause.PLAINTEXT:
        return attempt.version is None and attempt.alert is None and attempt.ending is not Ending.SERVED
    if cause is Cause.HTTP2_ON_PEER_PORT:
        return attempt.ending in (Ending.CLOSED, Ending.UNCLEAR)
    if cause in (Cause.STOPPING, Cause.OTHER):
        return attempt.ending is not Ending.SERVED
    return attempt.ending is Ending.UNCLEAR


def ended_by_etcd(attempt: Attempt) -> bool:
    """Return whether etcd ended the connection, by an alert or by closing it."""
    return attempt.ending in (Ending.REFUSED, Ending.CLOSED, Ending.OTHER)
