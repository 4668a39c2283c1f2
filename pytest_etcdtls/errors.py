"""What can go wrong, split by whose fault it is.

Every message says what was attempted, what happened and what to do. Nothing in this module knows
how an error is shown.
"""

from __future__ import annotations


class EtcdTLSError(Exception):
    """Base of all errors that this package raises on purpose."""


class UsageError(EtcdTLSError):
    """The caller asked for something that cannot be done: an option, a file, a value (exit code 4)."""


class RegistrationError(EtcdTLSError):
    """A check or a probe does not keep its contract (a developer's mistake, found at import)."""


class ClusterStartError(EtcdTLSError):
    """An owned etcd did not come up; the message ends with the last lines of its log."""


class UnobservedError(EtcdTLSError):
    """A fact could not be had, so nothing that needs it can be judged; not instantiated itself.

    Args:
        reason: one sentence for the person who reads the report.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotApplicableError(UnobservedError):
    """The subject does not exist here: a feature that this version or configuration lacks."""


class NotVerifiedError(UnobservedError):
    """What the fact needs was not given or is not to be had; the reason says what to pass."""


class InconclusiveError(UnobservedError):
    """The evidence could not be got: time-out, reset, a limit of our own."""
