"""What a verdict must say of the etcds of a draw, and what it must not.

Each rule is a statement about a listener or the cluster that can be false. Truth is the reply to the Go
client. "Let in" means an HTTP response.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.pki.go_verify import subject_alt_names
from pytest_etcdtls.role import Role
from truth.asking import Reply
from truth.drawing import Scenario
from truth.judging import Verdict
from truth.setting_up import Arrangement, Asked

STRANGERS = ("none", "foreign-ca", "self-signed", "lookalike-ca")
"""Identities that nobody means to let in, whatever the configuration is."""


@dataclass(frozen=True)
class Difference:
    """Something that our verdict and the truth disagree about.

    Attributes:
        rule: the name of the rule that is broken.
        what: the listener and the check, by which differences of one cause are found.
        text: a sentence.
    """

    rule: str
    what: str
    text: str

    @property
    def kind(self) -> str:
        return f"{self.rule}: {self.what}"


@dataclass(frozen=True)
class Seen:
    """What one listener replied.

    Attributes:
        announced: the lists of names of CAs that it announced, each sorted; two CAs may have one name.
    """

    listener: Asked
    replies: Mapping[tuple[str, str, str], Reply]
    announced: frozenset[tuple[bytes, ...]]

    def of(self, name: str) -> list[Reply]:
        """Return the replies to an identity."""
        return [reply for (identity, _, _), reply in self.replies.items() if identity == name]

    def lets_in(self, *names: str) -> list[str]:
        """Return the identities among these that are let in, in some TLS version and protocol."""
        return [name for name in names if any(reply.served for reply in self.of(name))]

    @property
    def is_closed(self) -> bool:
        """Whether nobody listens there."""
        return all("connection refused" in reply.error for reply in self.replies.values())

    @property
    def leaf(self) -> bytes:
        return next((reply.leaf for reply in self.replies.values() if reply.leaf), b"")

    @property
    def verify(self) -> str:
        """Why a Go client refuses what is served, empty if it does not."""
        return next((reply.verify for reply in self.replies.values() if reply.verify), "")

    def describe(self) -> str:
        """Return the replies, those that are alike in one line."""
        lines: dict[str, list[str]] = {}
        for (name, version, protocol), reply in self.replies.items():
            lines.setdefault(str(reply), []).append(f"{name}/{version}/{protocol}")
        text = "".join(f"\n    {reply}: {' '.join(asked)}" for reply, asked in lines.items())
        refused = f"\n    served certificate: {self.verify}" if self.verify else ""
        return f"  {self.listener.role} {self.listener.url}{refused}{text}"


def differences(
    scenario: Scenario, arrangement: Arrangement, seen: tuple[Seen, ...], verdict: Verdict
) -> Iterator[Difference]:
    """Yield what our verdict and the truth about the etcds of a draw disagree about."""
    if verdict.usage:
        yield Difference("usage", "options", f"the run cannot use its options: {verdict.usage}")
        return
    if any(one.is_closed for one in seen):
        return  # it stops, or did not start as a whole
    for one in seen:
        yield from _strangers(one, verdict)
        yield from _good_client(one, arrangement, verdict)
        # Peers are otherwise verified by the declared bundle.
        told = one.listener.side == "client" or scenario["told-peer"] == "asked"
        if scenario["told-ca"] != "none" and told:
            yield from _served(one, verdict)
        yield from _claims(one, arrangement, verdict)
    for role in Role:
        if len(set(_announced(seen, role))) > 1 and verdict.clean:
            yield Difference("same", str(role), "members announce other CAs, and the run is clean")
    yield from _advice(arrangement, verdict)
    for result in verdict.results:
        if result.outcome in (Outcome.BROKEN, Outcome.INCONCLUSIVE):
            yield Difference(str(result.outcome), f"{result.role} {result.check}", result.reason)
    if not verdict.clean and not verdict.problems and _is_fine(scenario, seen):
        for result in verdict.failing:
            if not result.cause:
                said = "; ".join(finding.message for finding in result.findings) or result.reason
                yield Difference(
                    "fine", f"{result.role} {result.check}", f"nothing is wrong, and it says: {said}"
                )
    if verdict.problems and _is_fine(scenario, seen):
        yield Difference("fine", "problem", f"nothing is wrong, and it says: {'; '.join(verdict.problems)}")


def _announced(seen: tuple[Seen, ...], role: Role) -> list[frozenset[tuple[bytes, ...]]]:
    return [one.announced for one in seen if one.listener.role is role and one.announced]


def _strangers(seen: Seen, verdict: Verdict) -> Iterator[Difference]:
    """Whoever is let in without a valid certificate is a fault of that listener."""
    listener = seen.listener
    let_in = seen.lets_in(*STRANGERS)
    plaintext = bool(seen.lets_in("plaintext")) and (listener.tls or listener.role is not Role.METRICS)
    if plaintext:
        let_in.append("plaintext")
    if not let_in:
        return
    who = ", ".join(let_in)
    if verdict.clean:
        yield Difference("open", str(listener.role), f"{listener.url} lets in {who}, and the run is clean")
        return
    blamed = verdict.violated(listener.port, "mtls", "config") or verdict.violated(None, "config", "mtls")
    if not blamed:
        yield Difference(
            "open", f"{listener.role} fault", f"{listener.url} lets in {who}, and nothing names it"
        )


def _good_client(seen: Seen, arrangement: Arrangement, verdict: Verdict) -> Iterator[Difference]:
    """The named good client is let in, or ``mtls.trusted-client`` violates."""
    listener = seen.listener
    if not listener.tls or listener.side not in arrangement.good:
        return
    says = next((one for one in verdict.on(listener.port) if one.check == "mtls.trusted-client"), None)
    let_in, excused = seen.lets_in("good"), _san_rule_refuses(seen, arrangement)
    if not let_in and not excused:
        if verdict.clean:
            text = f"{listener.url} refuses the good client ({seen.of('good')[-1]}), and the run is clean"
            yield Difference("good", str(listener.role), text)
        gates = {"listener.answers", "listener.is-etcd"}
        gated = any(
            one.check in gates and one.outcome is Outcome.VIOLATES for one in verdict.on(listener.port)
        )
        if says is not None and says.outcome is not Outcome.VIOLATES and not gated:
            text = (
                f"{listener.url} refuses the good client ({seen.of('good')[-1]}), and it says: {_said(says)}"
            )
            yield Difference("good", f"{listener.role} mtls.trusted-client", text)
    if says is None or says.outcome is not Outcome.VIOLATES:
        return
    if all(reply.served for reply in seen.of("good")):
        text = f"{listener.url} lets in the good client, and it says: {_said(says)}"
        yield Difference("good let in", str(listener.role), text)


def _san_rule_refuses(seen: Seen, arrangement: Arrangement) -> bool:
    """Return whether etcd's rule on names closes the connections of the good client from here."""
    listener = seen.listener
    on = listener.scenario["peer-san-rule"] == "on"
    rule = listener.role is Role.METRICS or (listener.role is Role.PEER and on)
    names = subject_alt_names(arrangement.good[listener.side].chain[0])
    if not rule or not names or seen.lets_in("good"):
        return False
    # What a name resolves to is known to etcd's resolver alone.
    covered = "IP:127.0.0.1" in names or not any(name.startswith(("IP:", "DNS:")) for name in names)
    # Refused by TLS would be an alert.
    closed = any(reply.handshake and not reply.alert for reply in seen.of("good"))
    return closed and not covered


def _served(seen: Seen, verdict: Verdict) -> Iterator[Difference]:
    """What Go refuses violates a MUST of ``cert``, and ``cert.trusted`` and its kin say what Go says."""
    listener = seen.listener
    if not listener.tls or not seen.leaf:
        return
    faults = verdict.violated(listener.port, "cert")
    # An inconclusive gate is a difference of its own.
    gated = any(
        one.check.startswith("listener.") and one.outcome is Outcome.INCONCLUSIVE
        for one in verdict.on(listener.port)
    )
    if seen.verify and not faults and not gated:
        text = f"a Go client refuses what {listener.url} serves ({seen.verify}), and no check does"
        yield Difference("served", str(listener.role), text)
    for one in faults:
        if not seen.verify and one.check in _AS_GO:
            text = f"a Go client accepts what {listener.url} serves, and it says: {_said(one)}"
            yield Difference("served accepted", f"{listener.role} {one.check}", text)


_AS_GO = frozenset(
    f"cert.{name}"
    for name in (
        *("trusted", "valid-now", "covers-endpoint", "server-usage", "complete", "issuer-is-ca"),
        *("ca-constraints", "critical-extensions", "has-subject-alternative-name", "ca-valid-now"),
    )
)

Claim = Callable[[Seen, Arrangement], bool]


def _lets_in(*names: str) -> Claim:
    return lambda seen, _: bool(seen.lets_in(*names))


def _good_is_not_always_let_in(seen: Seen, _: Arrangement) -> bool:
    return not all(reply.served for reply in seen.of("good"))


def _other_leaf(seen: Seen, arrangement: Arrangement) -> bool:
    own = arrangement.served[seen.listener.member, seen.listener.side].chain[0].public_bytes(Encoding.DER)
    return seen.leaf != own


CLAIMS: Mapping[str, Claim] = {
    "mtls.no-certificate": _lets_in("none"),
    "mtls.foreign-ca": _lets_in("foreign-ca"),
    "mtls.self-signed": _lets_in("self-signed"),
    "mtls.lookalike-ca": _lets_in("lookalike-ca"),
    "mtls.expired": _lets_in("expired"),
    "mtls.not-yet-valid": _lets_in("not-yet-valid"),
    "mtls.server-auth-only": _lets_in("server-auth-only"),
    "mtls.intermediate-missing": _lets_in("intermediate-missing"),
    "mtls.revoked-http": _lets_in("revoked"),
    "mtls.revoked-grpc": _lets_in("revoked"),
    "mtls.wrong-cn": _lets_in("wrong-cn"),
    "mtls.wrong-san": _lets_in("wrong-san"),
    "mtls.plaintext-refused": _lets_in("plaintext"),
    "mtls.trusted-client": _good_is_not_always_let_in,
    "config.client-auth-in-force": _lets_in("none", "foreign-ca", "self-signed"),
    "config.peer-auth-in-force": _lets_in("none", "foreign-ca", "self-signed"),
    "config.allowed-names-in-force": _lets_in("wrong-cn", "issued", "none"),
    "config.served-file": _other_leaf,
    "config.peer-served-file": _other_leaf,
    "cert.matches-expected-file": _other_leaf,
    "api.gateway-needs-certificate": _lets_in("none"),
    "api.grpc-needs-certificate": _lets_in("none"),
    "api.health-needs-certificate": _lets_in("none"),
    "api.metrics-needs-certificate": _lets_in("none"),
    "api.debug-vars": _lets_in("none"),
}
"""What a violation claims about its listener, as far as the replies tell."""


def _claims(seen: Seen, arrangement: Arrangement, verdict: Verdict) -> Iterator[Difference]:
    """What a violation says is so."""
    for one in verdict.on(seen.listener.port):
        claim = CLAIMS.get(one.check)
        if one.outcome is Outcome.VIOLATES and claim is not None and not claim(seen, arrangement):
            # A run without a client of its own may know others, from a declaration.
            if one.check == "mtls.trusted-client" and not seen.of("good"):
                continue
            text = f"it says of {seen.listener.url}: {_said(one)}, and that is not so"
            yield Difference("claim", f"{seen.listener.role} {one.check}", text)


def _is_fine(scenario: Scenario, seen: tuple[Seen, ...]) -> bool:
    """Return whether everything is as a user wants it, so that the run must be clean."""
    odd = [name for name in scenario.changed if ":" in name and scenario.size > 1]
    # Members that cannot dial each other are another fault, which clients do not see.
    dialling = [name for name in scenario.changed if name.startswith(("peer-", "m0:peer-", "m1:peer-"))]
    if (dialling and scenario.size > 1) or any(name.endswith(_RULES) for name in odd):
        return False
    if any(len(set(_announced(seen, role))) > 1 for role in Role):
        return False
    weak = {"served-kind", "client-auto-tls", "peer-auto-tls"}
    if any(
        name.rpartition(":")[2] in weak or (name.endswith("-auth") and value != "ca-alone")
        for name, value in scenario.changed.items()
    ):
        return False
    if scenario["client-url"] != "https" or scenario["peer-url"] != "https":
        return False
    # Asked by that name it covers it, and the member advertises the address.
    if "localhost" in scenario.anywhere("served-names") | scenario.anywhere("peer-served-names"):
        return False
    if scenario["http-url"] == "http" or scenario["client"] in _WEAK or scenario["peer"] in _WEAK:
        return False
    return all(
        not one.listener.tls
        or (
            not one.lets_in(*STRANGERS, "plaintext")
            and not one.verify
            and not (one.listener.scenario[f"{one.listener.side}-crl"] != "none" and one.lets_in("revoked"))
            # etcd's rule on addresses is off: mtls.wrong-san says so.
            and not (one.listener.role is Role.PEER and one.lets_in("wrong-san"))
            and bool(one.of("good"))
            and all(reply.served for reply in _offered(one, "good"))
            and all(reply.served for reply in _offered(one, "issued"))
        )
        for one in seen
    )


_RULES = ("-crl", "-crl-names", "-cn", "-hostname", "-rule", "-auth", "-tls", "-url", "versions")
"""How properties end by which a member accepts other certificates, or none, or listens elsewhere."""
_WEAK = frozenset({"rsa-1024", "ends-soon", "sub-ca-expired"})


def _advice(arrangement: Arrangement, verdict: Verdict) -> Iterator[Difference]:
    """What is not verified for want of an option has none of the options that the reason names."""
    given = {f"--{name.replace('_', '-')}" for name in arrangement.options}
    for result in verdict.results:
        if result.outcome is Outcome.NOT_VERIFIED:
            named = set(re.findall(r"pass (--etcd-[a-z-]+)(?! (?:with|of|that|for it))", result.reason))
            if named and named <= given:
                yield Difference(
                    "advice", f"{result.role} {result.check}", f"it is given, and: {result.reason}"
                )


def _offered(seen: Seen, name: str) -> list[Reply]:
    """Return the replies to an identity in the TLS versions that the listener offers."""
    return [reply for reply in seen.of(name) if reply.alert != "tls: protocol version not supported"]


def _said(result: CheckResult) -> str:
    why = "; ".join(finding.message for finding in result.findings) or result.reason
    return f"{result.check} {result.outcome}{': ' if why else ''}{why}"


# -- what differs on purpose ------------------------------------------------------------------------------


def _bundle_is_guessed(scenario: Scenario) -> bool:
    told = (scenario["told-bundle"], scenario["told-declaration"], scenario["told-ca-key"])
    return told == ("none", "none", "no")


def _openssl_cannot_sign(scenario: Scenario) -> bool:
    ecdsa = any(not key.startswith("rsa") for key in scenario.anywhere("key"))
    return "encipherment-only" in scenario.anywhere("served-kind") and ecdsa


def _names_are_declared(scenario: Scenario) -> bool:
    # The good client has the hostname that all members allow, and one alone may allow another.
    excluded = "other" in scenario.anywhere("peer-cn") or any(
        "other" in scenario.anywhere(name) or scenario.anywhere(name) - {scenario[name], "none"}
        for name in ("peer-hostname", "client-hostname")
    )
    return excluded and scenario["told-declaration"] != "none"


EXPLAINED: Sequence[tuple[str, Callable[[Scenario], bool], str]] = (
    (
        r"usage: .*",
        lambda scenario: bool((scenario.anywhere("client-ca") | scenario.anywhere("peer-ca")) - {"ca"}),
        "an option is refused that names a bundle without a usable CA, or without that of the key",
    ),
    (
        r"inconclusive: .*",
        _openssl_cannot_sign,
        "OpenSSL, which we use, refuses such a certificate in TLS 1.2, which may be the only one",
    ),
    (
        r"good: (client|peer|metrics|client-http) mtls\.trusted-client",
        _names_are_declared,
        "etcd refuses the good client by a rule that is declared; the run says so, and what to pass",
    ),
    (
        r"fine: (client|peer|metrics|client-http) mtls\.announced-ca-expected",
        _bundle_is_guessed,
        "without --etcd-trusted-ca the CAs of --etcd-cacert are those that etcd is meant to trust, if the "
        "good client is of one of them: any other that etcd announces is a fault",
    ),
    (
        r"fine: cluster config\.chain-closes",
        lambda scenario: "excluding" in scenario.anywhere("client-ca") | scenario.anywhere("peer-ca"),
        "etcd's gateway dials etcd with what it serves, and members dial each other: the CA excludes those "
        "names, and none of the Go client",
    ),
    (
        r"fine: (peer cert\.client-usage|cluster config\.chain-closes)",
        lambda scenario: (
            scenario.size == 1
            and ("server" in scenario.anywhere("peer-served-usage") or scenario["peer-dials"] == "foreign")
        ),
        "members dial each other with what they serve to peers, or with a pair for that, and one member has "
        "nobody to dial",
    ),
)
"""Kinds of differences that are meant, in which draws, and why."""


def explained(difference: Difference, scenario: Scenario) -> str:
    """Return why the difference is meant, empty if it is not."""
    return next(
        (
            why
            for kind, applies, why in EXPLAINED
            if re.fullmatch(kind, difference.kind) and applies(scenario)
        ),
        "",
    )
