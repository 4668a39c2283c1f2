"""What checks share: judgements on identities and experiments, and shell lines that show a finding.

The lines need no more than openssl, curl and etcdctl. They turn server verification off, since other checks
judge the served certificate. The comment that says what to look for is a line of its own, since an
interactive zsh takes a trailing comment for arguments.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.facts.access import AccessCase, AccessMatrix, Candidate
from pytest_etcdtls.facts.experiments import Experiment, ExperimentAttempt
from pytest_etcdtls.refusal import CLOSED_BY_ETCD, ControlState, rule
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.tls.attempt import Ending, Phase, Response

_TLS_FLAGS = {
    TLSVersion.TLS1_2: "--tlsv1.2 --tls-max 1.2",
    TLSVersion.TLS1_3: "--tlsv1.3",
}
GET_VERSION = r"printf 'GET /version HTTP/1.0\r\n\r\n'"
"""A shell command that prints a request."""
GOOD_CLIENT = ("client.crt", "client.key")
GOOD_PEER = ("peer.crt", "peer.key")
"""Placeholder for certificate and key of the client that a listener accepts; see :func:`with_files`."""

_SERVED = 'an HTTP status line: this client is accepted; "alert" or "Empty reply": it is refused'
_NEGOTIATED = '"Cipher is" and the name of a suite: accepted; "(NONE)" and "alert": refused'
STATUS = "the HTTP status and the body"
ANNOUNCED = '"Acceptable client certificate CA names", or "No client certificate CA names sent"'
IN_PLAINTEXT = 'an HTTP status line: plaintext is answered; "Empty reply" or "reset": it is not'
GROUP = '"Server Temp Key", "Peer Temp Key" or "Negotiated TLS1.3 group"; "alert": refused'
_VALIDITY = '"Not Before" and "Not After"'
_S_CLIENT_FLAGS = {TLSVersion.TLS1_2: "-tls1_2", TLSVersion.TLS1_3: "-tls1_3"}


def curl(
    url: str,
    *,
    role: str,
    path: str | None = None,
    files: tuple[str, str] | None = None,
    version: TLSVersion | None = None,
    protocol: Protocol = Protocol.HTTP1,
    look: str = "",
    then: str = "",
) -> str:
    """Return a curl line for an attempt; for gRPC, an etcdctl line.

    Args:
        url: the listener's.
        role: its role; the request to a metrics listener is ``/health``.
        path: of the URL, by default the path that attempts use.
        files: certificate and key to present.
        version: the only TLS version to offer.
        protocol: the protocol to use.
        look: what to look for in the output; by default, whether the client is accepted.
        then: a command that the output is piped into.
    """
    if protocol is Protocol.GRPC:
        return etcdctl(url, files)
    parts = ["curl", "-sS", "-i", "-k", "--http2" if protocol is Protocol.HTTP2 else "--http1.1"]
    if version is not None:
        parts.append(_TLS_FLAGS[version])
    if files is not None:
        parts += ["--cert", shlex.quote(files[0]), "--key", shlex.quote(files[1])]
    if protocol is Protocol.GATEWAY:
        parts += ["-d", "'{}'", f"{url}{path or '/v3/maintenance/status'}"]
    else:
        parts.append(f"{url}{path or ('/health' if role == 'metrics' else '/version')}")
    return look_for(" ".join([*parts, *(("|", then) if then else ())]), look or _SERVED)


def etcdctl(url: str, files: tuple[str, str] | None, command: str = "endpoint status", look: str = "") -> str:
    """Return an etcdctl line that makes a unary gRPC call."""
    # Up to version 3.5 etcdctl ignores --insecure-skip-tls-verify unless another option enables TLS, and
    # fails with "unknown authority"; --insecure-transport=false is such an option.
    parts = ["etcdctl", f"--endpoints={url}", "--insecure-transport=false", "--insecure-skip-tls-verify"]
    if files is not None:
        parts += [f"--cert={shlex.quote(files[0])}", f"--key={shlex.quote(files[1])}"]
    accepted = f'"{url}," and more in a row: this client is accepted; "deadline exceeded": it is refused'
    return look_for(" ".join([*parts, command]), look or accepted)


def s_client(
    url: str,
    version: TLSVersion | None = None,
    options: str = "",
    files: tuple[str, str] | None = None,
    typed: str = "",
    look: str = "",
) -> str:
    """Return an ``openssl s_client`` line that shows the handshake.

    Args:
        url: the listener's.
        version: the only TLS version to offer.
        options: further options, verbatim.
        files: certificate and key to present.
        typed: a shell command that prints the standard input; without it the connection is closed at once.
        look: what to look for in the output; by default, whether the handshake succeeds.
    """
    parts = ["openssl s_client -connect", url.partition("://")[2]]
    if version is not None:
        parts.append(_S_CLIENT_FLAGS[version])
    if options:
        parts.append(options)
    if files is not None:
        parts += ["-cert", shlex.quote(files[0]), "-key", shlex.quote(files[1])]
    command = f"({typed}; sleep 2) | {' '.join(parts)}" if typed else " ".join([*parts, "</dev/null"])
    return look_for(command, look or _NEGOTIATED)


def show_version(url: str) -> str:
    """Return a shell line that prints the version of etcd."""
    return curl(url, role="client", files=GOOD_CLIENT, look='"etcdserver": the version')


def show_chain(url: str, look: str = "") -> str:
    """Return a shell line that prints the served certificates."""
    look = look or '"s:" and "i:": subject and issuer of each certificate that is served'
    return s_client(url, options="-showcerts", look=look)


def show_file(path: str, look: str = "") -> str:
    """Return a shell line that prints the first certificate of a file."""
    return look_for(f"openssl x509 -in {shlex.quote(path)} -noout -text", look or _VALIDITY)


def show_leaf(url: str, look: str = "") -> str:
    """Return a shell line that prints the served leaf."""
    return look_for(f"{_leaf(url)} -noout -text", look or _VALIDITY)


def compare_leaf(url: str, path: str) -> str:
    """Return a line that compares the served leaf with a file that has one certificate."""
    return look_for(f"{_leaf(url)} | diff - {shlex.quote(path)} && echo same", '"same": it serves that file')


def _leaf(url: str) -> str:
    return f"openssl s_client -connect {url.partition('://')[2]} </dev/null 2>/dev/null | openssl x509"


def look_for(command: str, what: str) -> str:
    """Return a command with a comment that says what to look for in its output."""
    return f"{command}\n# look for {what}"


def with_files(line: str, placeholder: tuple[str, str], files: tuple[str, str] | None) -> str:
    """Return a line with the placeholder replaced by the files of the accepted client."""
    for form in ("--cert {} --key {}", "--cert={} --key={}", "-cert {} -key {}"):
        quoted = form.format(*map(shlex.quote, files)) if files else ""
        line = line.replace(f" {form.format(*placeholder)}", f" {quoted}" if quoted else "")
    return line


def with_attempts(candidate: Candidate, **changes: Any) -> Candidate:  # noqa: ANN401 - fields of Attempt
    """Return the candidate with fields of its attempts changed; for counterexamples."""
    tries = tuple(
        (version, protocol, tuple(replace(attempt, **changes) for attempt in made))
        for version, protocol, made in candidate.tries
    )
    return replace(candidate, tries=tries)


SERVED: Mapping[str, Any] = {
    "ending": Ending.SERVED,
    "phase": Phase.READ,
    "alert": None,
    "response": Response(status=200),
}
"""The fields that change in an attempt that is accepted, for counterexamples."""


def judge(matrix: AccessMatrix, who: str) -> Iterator[Statement]:
    """Judge an identity that must be refused, ``who`` in words, by the refusal table, case by case."""
    served: list[AccessCase] = []
    for case in matrix.cases:
        control = case.control.attempt
        state = ControlState(control.ending) if control else ControlState.NONE_KNOWN
        ruling = rule(case.attempt.ending, state, etcd_closes=matrix.identity in CLOSED_BY_ETCD)
        place = f"{case.version} {case.protocol}"
        match ruling.outcome:
            case Outcome.VIOLATES:
                served.append(case)
            case Outcome.CONFORMS:
                if ruling.note:
                    yield Note(ruling.note)
            case _:
                reason = f"{place}: {case.attempt.describe()}"
                if control is not None:
                    reason += f"; control {case.control.identity}: {control.describe()}"
                yield CannotJudge(
                    ruling.outcome, ruling.note if ruling.outcome is Outcome.NOT_VERIFIED else reason
                )
    if served:
        yield _wrongly_accepted(matrix, served, who)


def observed_in(cases: Iterable[AccessCase]) -> str:
    """Return in words how the attempts of an identity ended, by TLS version and protocol."""
    return "; ".join(f"{case.version} {case.protocol}: {case.attempt.describe()}" for case in cases)


def reproduce_in(matrix: AccessMatrix, cases: Iterable[AccessCase]) -> tuple[str, ...]:
    """Return shell lines that create such an identity and try it in these TLS versions and protocols."""
    lines = (
        curl(
            matrix.url,
            role=matrix.role,
            files=matrix.files,
            version=case.version,
            protocol=case.protocol,
        )
        for case in cases
    )
    return matrix.recipe + tuple(dict.fromkeys(lines))


_NO_REQUEST = (
    "this port requests no certificate and accepts every client, see mtls.no-certificate: set "
    "--{peer}client-cert-auth=true together with --{peer}trusted-ca-file, and give --{peer}cert-file "
    "explicitly (auto-tls drops both)"
)


_UNTRUSTED_IDENTITIES = {
    "none": "a client without a certificate",
    "self-signed": "a self-signed certificate",
    "foreign-ca": "a certificate of a foreign CA",
}


def _wrongly_accepted(matrix: AccessMatrix, served: list[AccessCase], who: str) -> Finding:
    if matrix.instead_of:
        untrusted = _UNTRUSTED_IDENTITIES.get(matrix.identity, matrix.identity)
        message = f"{who} is not refused: {untrusted} is accepted"
    else:
        message = f"{who} is accepted"
    requested = any(case.attempt.certificate_requested for case in served)
    return Finding(
        message=message,
        expected="a certificate alert in every TLS version and protocol",
        observed=observed_in(served),
        evidence={"identity": matrix.identity}
        | ({"certificate": matrix.certificate} if matrix.certificate else {}),
        reproduce=reproduce_in(matrix, served),
        remediation="" if requested or matrix.identity == "none" else _NO_REQUEST,
    )


ACCEPTED = frozenset({Ending.SERVED})
REFUSED = frozenset({Ending.REFUSED})
"""Refused by TLS, with a certificate alert."""
REFUSED_OR_CLOSED = frozenset({Ending.REFUSED, Ending.CLOSED})
"""Refused by TLS, or by etcd itself, which closes the connection after the handshake."""
NO_HANDSHAKE = frozenset({Ending.REFUSED, Ending.OTHER})
"""Refused with any alert: the client's certificate is not the cause."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How the attempts of one identity in one step must end.

    Attributes:
        step: name of the step.
        who: the identity.
        endings: how its attempts may end.
        control: if this expectation fails, only identities that are wrongly accepted are judged.
    """

    step: str
    who: str
    endings: frozenset[Ending]
    control: bool = False


def judge_steps(
    experiment: Experiment, expectations: Sequence[Expected], reproduce: tuple[str, ...] = ()
) -> Iterator[Statement]:
    """Judge an experiment by expectations; ``reproduce`` are shell lines for a finding.

    Raises:
        LookupError: if it has no attempt for an expectation.
    """
    controlled = True
    for expected in (found for found in expectations if found.control):
        others = _others(experiment, expected)
        controlled = controlled and not others
        for made in others:
            yield CannotJudge(Outcome.INCONCLUSIVE, f"{_done(experiment, expected)}; {made.describe()}")
    for expected in (found for found in expectations if not found.control):
        yield from _judge(experiment, expected, reproduce, controlled=controlled)


def _judge(
    experiment: Experiment, expected: Expected, reproduce: tuple[str, ...], *, controlled: bool
) -> Iterator[Statement]:
    others = _others(experiment, expected)
    accepted = [made for made in others if made.attempt.ending is Ending.SERVED]
    not_accepted = [
        made for made in others if expected.endings == ACCEPTED and made.attempt.ending is not Ending.UNCLEAR
    ]
    wrong = accepted or (not_accepted if controlled else [])
    for made in others:
        if made not in wrong:
            yield CannotJudge(Outcome.INCONCLUSIVE, f"{_done(experiment, expected)}; {made.describe()}")
    if wrong:
        becomes = "accepted" if accepted else "not accepted"
        yield finding(
            experiment,
            expected.step,
            wrong,
            message=f"{expected.who}: {becomes} ({_done(experiment, expected)})",
            expected="not accepted" if accepted else "accepted",
            reproduce=reproduce,
        )


def finding(
    experiment: Experiment,
    step: str,
    attempts: Sequence[ExperimentAttempt],
    *,
    message: str,
    expected: str,
    reproduce: tuple[str, ...] = (),
) -> Finding:
    """Return a finding about some attempts of a step."""
    return Finding(
        message=message,
        expected=expected,
        observed="; ".join(made.describe() for made in attempts),
        evidence={
            "etcd": experiment.etcd_version,
            "started with": " ".join(experiment.flags) or "mutual TLS on both ports",
            "step": experiment.step(step).done,
        },
        reproduce=reproduce,
    )


def _others(experiment: Experiment, expected: Expected) -> list[ExperimentAttempt]:
    """Return the attempts that did not end as expected."""
    return [
        made
        for made in experiment.step(expected.step).of(expected.who)
        if made.attempt.ending not in expected.endings
    ]


def _done(experiment: Experiment, expected: Expected) -> str:
    return experiment.step(expected.step).done
