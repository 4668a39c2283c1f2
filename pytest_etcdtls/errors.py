"""Errors, one class per cause.

Every message says what was attempted, what happened and what to do. It may contain names from files of
somebody else, so the escapes of untrusted text are here too, below :mod:`pytest_etcdtls.untrusted`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Final, Self

from msgspec import Struct
from msgspec.structs import force_setattr, replace

if TYPE_CHECKING:
    from pytest_etcdtls.target import StartFailure

MESSAGE_LIMIT: Final = 3072
"""Characters of a line of a message. A line of etcd's log has up to 2,500."""

_ACTS = re.compile(
    # Printable for Python, and without a glyph (Default_Ignorable_Code_Point of the Unicode Character
    # Database, and the empty Braille pattern): two different names would look the same.
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
    # Anywhere in a line: ##[command] of Azure Pipelines and GitHub (ActionCommand.TryParse), ##vso[ of
    # Azure Pipelines, ##teamcity[ of TeamCity.
    r"|#(?=#[A-Za-z]*\[)"
)
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escaped(text: str) -> str:
    """Return an untrusted text with the escapes of ``printable`` (``untrusted/printable.py``), in full."""
    if not text.isprintable():
        text = "".join(map(_escape, text))
    return text if text.isascii() and "##" not in text else _ACTS.sub(lambda match: _code(match[0]), text)


def escaped_line(text: str) -> str:
    """Return one line of output as :func:`escaped` does, also without a leading ``::``.

    GitHub's runner takes a line for a command if its first characters other than white space are ``::``
    (``ActionCommand.TryParseV2``). Pass a text that is divided into lines already.
    """
    text = escaped(text)
    return text.replace("::", r"\x3a:", 1) if text.lstrip().startswith("::") else text


def message_line(text: str) -> str:
    """Return a line of a message, printable and bounded.

    A message begins with what was attempted and ends with what to do: the middle of a long one is left out.
    """
    return _without_middle(escaped_line(_without_middle(text)))


def _without_middle(text: str) -> str:
    half = MESSAGE_LIMIT // 2
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:half]}…{text[1 - half :]}"


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return a question for the end of a message, what a mistyped text resembles most; empty for nothing."""
    near = similar(text, known)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def similar(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return what a mistyped text resembles most: several where none of them is clearly the nearest."""
    from difflib import SequenceMatcher, get_close_matches

    text = text.lower()
    near = get_close_matches(text, sorted(known), 3)
    far = [1 - SequenceMatcher(None, name, text).ratio() for name in near]
    return tuple(name for name, distance in zip(near, far, strict=True) if distance <= 1.5 * far[0])


def open_files_advice(error: OSError) -> str:
    """Return what to do if file descriptors ran out, for the end of a message; empty for other errors."""
    import errno
    import resource

    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return ""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"; this process may open {limit} files: raise that with ulimit -n, or stop clusters earlier"


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    if character in _SHORT:
        return _SHORT[character]
    return _code(character)


def _code(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class ReasonKind(Enum):
    """What is missing: something that is needed, the verdict of another check or of a gate, an answer."""

    OTHER, NEED, CHECK, GATE, SILENT = range(5)


class Reason(Struct, frozen=True):
    """Why something cannot be judged, or what there is to say of it. :func:`in_english` writes it.

    Results are grouped and counted by this value, and nobody reads the English. Its texts are printable.

    Attributes:
        text: what is so; of a need, what is needed; of a gate, its outcome; of a listener, what it does.
        options: which would help.
        passing: how they are passed, if that is more than their names.
        checks: those that say more, or the gate.
        subject: the URL of the silent listener.
        detail: how its connections end, by which listeners of one host are alike.
        begin: what precedes it, with its punctuation.
        ending: the end of the sentence with its punctuation, instead of one about options and checks.
        parts: reasons that hold together; of a gate, its own; with a text, those that are quoted in it.
    """

    text: str = ""
    kind: ReasonKind = ReasonKind.OTHER
    options: tuple[str, ...] = ()
    passing: str = ""
    checks: tuple[str, ...] = ()
    subject: str = ""
    detail: str = ""
    begin: str = ""
    ending: str = ""
    parts: tuple[Reason, ...] = ()

    def __post_init__(self) -> None:
        for name in ("text", "passing", "subject", "detail", "begin", "ending"):
            force_setattr(self, name, "\n".join(map(escaped, getattr(self, name).split("\n"))))

    def __str__(self) -> str:
        return in_english(self)

    @classmethod
    def of(cls, reason: Reason | str) -> Reason:
        """Return the reason with this sentence."""
        return cls(reason) if isinstance(reason, str) else reason

    @classmethod
    def together(cls, reasons: Iterable[Reason | str]) -> Reason:
        """Return reasons in one, each once."""
        each = tuple(dict.fromkeys(map(cls.of, reasons)))
        return each[0] if len(each) == 1 else cls(parts=each)

    @classmethod
    def merged(cls, reasons: Iterable[Reason]) -> Reason:
        """Return one reason for some that differ in the options to pass alone."""
        first, *others = each = list(dict.fromkeys(reasons))
        if not others:
            return first
        parts = tuple(map(cls.merged, zip(*(one.parts for one in each), strict=True)))
        options = tuple(dict.fromkeys(option for one in each for option in one.options))
        passing = dict.fromkeys(one.passing or " and ".join(one.options) for one in each)
        return replace(first, options=options, passing=" and ".join(filter(None, passing)), parts=parts)

    @classmethod
    def gated(cls, gate: str, outcome: str, why: Reason) -> Reason:
        """Return why a check is not judged whose gate has this outcome for this reason."""
        return cls(outcome, ReasonKind.GATE, checks=(gate,), parts=(why,))

    @property
    def headline(self) -> str:
        """What is so, without what to do."""
        bare = replace(self, options=(), passing="", begin="", ending="", parts=())
        return in_english(bare) if self.text or not self.parts else self.parts[0].headline

    def each(self) -> Iterator[Reason]:
        """Yield the single reasons of several."""
        for part in self.parts:
            yield from part.each()
        if not self.parts:
            yield self

    @property
    def every_option(self) -> tuple[str, ...]:
        """The options of all parts, each once."""
        return tuple(
            dict.fromkeys([*self.options, *(one for part in self.parts for one in part.every_option)])
        )

    def without_options(self) -> Reason:
        """Return what is equal for two reasons that differ in the options to pass alone."""
        return replace(self, options=(), passing="", parts=tuple(one.without_options() for one in self.parts))

    def after(self, begin: str) -> Reason:
        """Return the same reason with these words before it."""
        return replace(self, begin=f"{begin}{self.begin}")


def in_english(reason: Reason) -> str:
    """Return a reason as a sentence without its full stop."""
    parts = tuple(dict.fromkeys(map(str, reason.parts)))
    match reason.kind:
        case ReasonKind.NEED:
            text = f"needs {reason.text}"
        case ReasonKind.CHECK:
            text = f"{reason.text}: see {' and '.join(reason.checks)}"
        case ReasonKind.GATE:
            text = ": ".join((f"{reason.checks[0]} {reason.text}", *parts))
        case ReasonKind.SILENT:
            text = f"{reason.subject} {reason.text}"
        case _:
            text = reason.text or "; ".join(parts)
    passing = "" if reason.ending else reason.passing or " and ".join(reason.options)
    return f"{reason.begin}{text}{f': pass {passing}' if passing else reason.ending}"


def needs(text: str, *options: str, passing: str = "", ending: str = "") -> Reason:
    """Return the reason of a check that needs something: ``needs("a client certificate", "--etcd-cert")``."""
    return Reason(text, ReasonKind.NEED, options, passing, ending=ending)


def missing(text: str, *options: str, passing: str = "", ending: str = "") -> Reason:
    """Return a reason, and the options that would help."""
    return Reason(text, options=options, passing=passing, ending=ending)


def see(text: str, *checks: str) -> Reason:
    """Return the reason of a check that waits for the verdict of others."""
    return Reason(text, ReasonKind.CHECK, checks=checks)


def silent(url: str, text: str, ending: str = "", *options: str, detail: str = "") -> Reason:
    """Return why nothing is known of a listener that does not answer, or not as an etcd does."""
    return Reason(text, ReasonKind.SILENT, options, subject=url, detail=detail, ending=ending)


class EtcdTLSError(Exception):
    """Base of all errors that this package raises on purpose.

    A message may quote what others wrote: each of its lines is made printable, and bounded.
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(map(message_line, message.split("\n"))))


class UsageError(EtcdTLSError):
    """The caller asked for something that cannot be done: an option, a file, a value (exit code 4).

    The message is one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.replace("\n", r"\n"))


class NoEtcdError(UsageError):
    """There is no etcd to start a cluster with; the message says what was tried and how to get one.

    The message has several lines.
    """

    def __init__(self, message: str) -> None:
        EtcdTLSError.__init__(self, message)


class RegistrationError(EtcdTLSError):
    """A check or a fact does not follow its contract (a developer's mistake, found at import)."""


class ClusterStartError(EtcdTLSError):
    """An owned etcd did not start; the message ends with the last lines of its log."""


class EtcdFailedError(ClusterStartError):
    """An owned etcd was started, and it ended or does not serve its clients.

    Other errors of a start, such as a missing directory, are not about etcd.

    Attributes:
        failure: of which member, and why.
    """

    def __init__(self, message: str, failure: StartFailure) -> None:
        super().__init__(message)
        self.failure = failure


class UnobservedError(EtcdTLSError):
    """An observation could not be made, so no check that needs it can judge; base class only.

    Args:
        reason: for the person who reads the report: a sentence, or one that says what would help.
        lines: of a log, below it.

    Attributes:
        why: the reason.
    """

    def __init__(self, reason: Reason | str, *lines: str) -> None:
        super().__init__("\n".join(text.replace("\n", r"\n") for text in (str(reason), *lines)))
        self.why = reason if isinstance(reason, Reason) else Reason(str(self))

    def again(self) -> Self:
        """Return the same error, without where it was raised. Its message is printable already."""
        error = type(self).__new__(type(self), *self.args)
        error.why = self.why
        return error


class NotApplicableError(UnobservedError):
    """The subject does not exist here: a feature that this version or configuration lacks."""


class NotVerifiedError(UnobservedError):
    """An input of the observation was not given or is not available; the reason says what to pass."""


class InconclusiveError(UnobservedError):
    """The evidence is missing: timeout, reset, a limit of our own."""


class RunEndedError(EtcdTLSError):
    """The run was interrupted, and a fact that is asked for is not recorded.

    It is no :class:`UnobservedError`: nothing is judged as if the fact could not be obtained.
    """


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
