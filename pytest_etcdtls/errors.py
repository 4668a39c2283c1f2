"""Errors, one class per cause.

Every message says what was attempted, what happened and what to do.
"""

from __future__ import annotations


class EtcdTLSError(Exception):
    """Base of all errors that this package raises on purpose."""


class UsageError(EtcdTLSError):
    """The caller asked for something that cannot be done: an option, a file, a value (exit code 4)."""


class NoEtcdError(UsageError):
    """There is no etcd to start a cluster with; the message says what was tried and how to get one."""


class RegistrationError(EtcdTLSError):
    """A check or a probe does not follow its contract (a developer's mistake, found at import)."""


class ClusterStartError(EtcdTLSError):
    """An owned etcd did not start; the message ends with the last lines of its log."""


class UnobservedError(EtcdTLSError):
    """An observation could not be made, so no check that needs it can judge; base class only.

    Args:
        reason: one sentence for the person who reads the report.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotApplicableError(UnobservedError):
    """The subject does not exist here: a feature that this version or configuration lacks."""


class NotVerifiedError(UnobservedError):
    """An input of the observation was not given or is not available; the reason says what to pass."""


class InconclusiveError(UnobservedError):
    """The evidence is missing: timeout, reset, a limit of our own."""


class UnreadableFileError(EtcdTLSError):
    """A file cannot be read, is not a regular one, or exceeds a bound.

    Attributes:
        happened: what is wrong with it, as a sentence without its subject: ``is a directory``.
        advice: what to do.
    """

    def __init__(self, happened: str, advice: str) -> None:
        super().__init__(f"{happened}: {advice}")
        self.happened = happened
        self.advice = advice


class UnreadableJSONError(EtcdTLSError, ValueError):
    """Data that should be JSON is not, or exceeds a bound; the message says which."""


def blocked_sockets(error: BaseException) -> str:
    """Return what to do if pytest-socket has forbidden a connection, empty for every other error."""
    # pytest-socket warns before it raises, and the warning is raised instead if warnings are errors.
    warned = isinstance(error, UserWarning) and str(error).startswith("A test tried to use socket")
    if not warned and type(error).__module__.partition(".")[0] != "pytest_socket":
        return ""
    return (
        "pytest-socket forbids the connection: run without --disable-socket and --allow-hosts, or pass "
        "--force-enable-socket"
    )
