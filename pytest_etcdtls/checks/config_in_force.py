"""Whether what is declared is in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from cryptography import x509
from msgspec.structs import replace

from pytest_etcdtls.checks.api_answers import repeat, show, unanswered
from pytest_etcdtls.checks.config_files import BUNDLE_BACK, CA_BACK
from pytest_etcdtls.checks.judgement import SERVED, changed, commands_for, judge, observed_in, ruling_of
from pytest_etcdtls.checks.mtls_refusals import as_if_accepted
from pytest_etcdtls.checks.registry import (
    CLIENT_PORTS,
    CLIENT_PORTS_AND_METRICS,
    EVERY_LISTENER,
    TO_CLIENTS,
    TO_PEERS,
    check,
)
from pytest_etcdtls.checks.results import (
    CannotJudge,
    Finding,
    Note,
    Outcome,
    Statement,
    inconclusive,
    not_applicable,
    not_verified,
)
from pytest_etcdtls.checks.tls_suites import accepting, cipher_option
from pytest_etcdtls.declared.cures import restarted
from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.effective import TLS_VERSIONS, ClientAuthentication, prefix
from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.facts.access import Access, Candidate
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.calls import GatewayAnswer
from pytest_etcdtls.facts.certificates import AnnouncedCAs, subjects
from pytest_etcdtls.facts.configuration import (
    DeclaredBundle,
    DeclaredNames,
    ListenerDeclaration,
    NameRule,
)
from pytest_etcdtls.facts.declared_files import DeclaredFiles
from pytest_etcdtls.facts.listener import PROTOCOL_VERSION, FirstContact
from pytest_etcdtls.facts.protocol import SuiteSupport
from pytest_etcdtls.facts.release import ACCEPTED_CLIENT
from pytest_etcdtls.pki.certificate import name_list, name_text
from pytest_etcdtls.pki.go_verify import subject_alt_names
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Response
from pytest_etcdtls.tls.command import ANNOUNCED, STATUS, Command, curl, s_client
from pytest_etcdtls.tls.suites import SUITES
from pytest_etcdtls.versions import version_key

_REFUSED = "a client without a certificate is refused"


@check(
    "config.peer-auth-in-force",
    on={Role.PEER},
    counterexample=as_if_accepted,
    cure=restarted,
    words={"Clients": "Peers", "cis": "2.5"} | TO_PEERS,
)
@check(
    "config.client-auth-in-force",
    on=CLIENT_PORTS,
    counterexample=as_if_accepted,
    cure=restarted,
    words={"Clients": "Clients", "cis": "2.2"} | TO_CLIENTS,
)
def declared_client_authentication_is_in_force(
    declaration: ListenerDeclaration, matrix: Annotated[AccessMatrix, "none"]
) -> Iterator[Statement]:
    """<Clients> without a certificate are refused if, and only if, that is declared.

    If it is not in force, every <client> is accepted although the declaration says
    --<peer->client-cert-auth=true. --<peer->auto-tls disables the flag, a configuration file hides it, or it
    was added without a restart of etcd.

    Spec: etcd --<peer->client-cert-auth, --<peer->trusted-ca-file
    Spec: CIS Kubernetes <cis>
    Follows: restart.starts, restart.listeners, restart.clients, restart.announced-ca, restart.protocol
    Follows: config.*flags, config.does-not-start, config.*flag*, config.unknown-*,
        config.auto-tls-drops-client-auth, config.allowed-names-without-client-auth
    Severity: critical
    Level: MUST
    Remediation: set --<peer->client-cert-auth=true, --<peer->trusted-ca-file and --<peer->cert-file where
        etcd reads them, and restart it.
    """
    yield from _judge_client_auth(declaration, matrix)


@check("config.metrics-as-declared", on={Role.METRICS}, counterexample=as_if_accepted, cure=restarted)
def declared_metrics_authentication_is_in_force(
    declaration: ListenerDeclaration, matrix: Annotated[AccessMatrix, "none"]
) -> Iterator[Statement]:
    """An https metrics listener applies the client port's declared authentication.

    --listen-metrics-urls has no TLS flags of its own: its https URLs use those of the client port, including
    client authentication. If that is not in force, clients without a certificate read the metrics. On http
    URLs every client reads them, as declared.

    Spec: etcd --listen-metrics-urls, --client-cert-auth
    Follows: restart.starts, restart.listeners, restart.clients, restart.announced-ca, restart.protocol
    Follows: config.*flags, config.does-not-start, config.*flag*, config.unknown-*
    Severity: high
    Level: MUST
    Remediation: set --client-cert-auth=true, --trusted-ca-file and --cert-file where etcd reads them, and
        restart it.
    """
    yield from _judge_client_auth(declaration, matrix)


def _judge_client_auth(declaration: ListenerDeclaration, matrix: AccessMatrix) -> Iterator[Statement]:
    _must_be_declared(declaration)
    served = matrix.cases.accepted
    unclear = matrix.cases.where(lambda case: case.attempt.ending not in (Ending.SERVED, Ending.REFUSED))
    setting, required = _declared_client_auth(declaration)
    enforced = declaration.tls.client_auth is not ClientAuthentication.ANYBODY
    if not served and unclear:
        outcomes = {ruling_of(case).outcome for case in unclear}
        outcome = outcomes.pop() if len(outcomes) == 1 else Outcome.INCONCLUSIVE
        yield CannotJudge(outcome, observed_in(unclear))
    elif served and required:
        yield _client_auth_not_in_force(declaration, setting, matrix, served)
    elif served:
        yield Note("every client is accepted, as declared")
    elif not required:
        yield _client_auth_not_in_force(declaration, None, matrix, Access())
    elif not enforced:
        yield Note(
            "in force, although this declaration does not enforce it: etcd was started with other settings"
        )


def _declared_client_auth(declaration: ListenerDeclaration) -> tuple[Setting | None, bool]:
    """Return the setting that declares client authentication, and whether it does; a bundle alone may.

    A misspelt one declares it too: that etcd accepts everybody then follows from its spelling.
    """
    member, p = declaration.member, prefix(declaration.side)
    switch, bundle = f"{p}client-cert-auth", f"{p}trusted-ca-file"
    flag = member.as_read(switch) or member.misspelt(switch)
    if flag is not None and flag.on:
        return flag, True
    misspelt = member.misspelt(bundle)
    if declaration.tls.client_auth is not ClientAuthentication.ANYBODY:
        return member.as_read(bundle) or misspelt, True
    return misspelt, misspelt is not None


def _client_auth_not_in_force(
    declaration: ListenerDeclaration, setting: Setting | None, matrix: AccessMatrix, served: Access
) -> Finding:
    case = served[0] if served else matrix.cases[0]
    return not_in_force(
        declaration,
        setting,
        message=""
        if setting
        else "clients without a certificate are refused, and nothing in {} requires one",
        expected=_REFUSED if served else "every client is accepted",
        observed=observed_in(served or matrix.cases),
        reproduce=commands_for([case]),
    )


def _another(bundle: DeclaredBundle, announced: AnnouncedCAs, **_: object) -> Mapping[str, Any]:
    foreign = x509.Name(list(bundle.certificates[0].subject.rdns) * 2)
    return {
        "announced": replace(announced, names=tuple((version, (foreign,)) for version, _ in announced.names))
    }


@check(
    "config.peer-trusted-ca-in-force",
    on={Role.PEER},
    counterexample=_another,
    cure=restarted,
    words={"CAs": "CAs trusted for peers", "auth": "peer-auth-in-force"} | TO_PEERS,
)
@check(
    "config.trusted-ca-in-force",
    on=CLIENT_PORTS_AND_METRICS,
    counterexample=_another,
    cure=restarted,
    words={"CAs": "trusted CAs", "auth": "client-auth-in-force, config.metrics-as-declared"} | TO_CLIENTS,
)
def the_declared_bundle_is_trusted(
    declaration: ListenerDeclaration,
    bundle: DeclaredBundle,
    announced: AnnouncedCAs,
    files: DeclaredFiles | None,
) -> Iterator[Statement]:
    """The <CAs> are those in the current --<peer->trusted-ca-file.

    etcd reads --<peer->trusted-ca-file only at start. Until a restart it refuses <client>s of a CA that was
    added, and accepts <client>s of a CA that was removed, or of one that Go refuses as it is in the file now,
    such as one that has expired.

    Spec: etcd --<peer->trusted-ca-file
    Spec: RFC 8446 section 4.2.4
    Spec: CIS Kubernetes 2.7
    Follows: restart.starts, restart.listeners, restart.clients, restart.announced-ca, restart.protocol
    Follows: config.*flags, config.does-not-start, config.*flag*, config.unknown-*,
        config.auto-tls-drops-client-auth, config.<auth>, config.trusted-ca-usable, config.chain-closes
    Severity: high
    Level: MUST
    Remediation: restart etcd, which reads the bundle only at start; set --<peer->trusted-ca-file where etcd
        reads it.
    """
    _must_be_declared(declaration)
    unusable = _unusable(declaration, files)
    if observed := next(_differences(bundle, announced), ""):
        names = name_list(found.subject for found in bundle.certificates)
        names = names or ("the CAs in that file" if bundle.absent else "no CA")
        yield not_in_force(
            declaration,
            bundle.setting,
            expected=f"trusted: {names} ({bundle.source})",
            observed=observed,
            remediation=BUNDLE_BACK if unusable else "",
            reproduce=(s_client(declaration.here.url, look=ANNOUNCED),),
        )
    elif bundle.flaw:
        yield not_in_force(
            declaration,
            bundle.setting,
            expected=f"{bundle.accepted}, whom etcd accepts, is accepted with {bundle.source} too",
            observed=f"Go does not accept it: {bundle.flaw}",
            remediation=CA_BACK,
        )
    elif bundle.absent:
        yield not_verified(f"{unusable}: see config.trusted-ca-usable" if unusable else bundle.absent)
    elif bundle.written and bundle.accepted is None:
        yield not_verified(
            f"{declaration.here.url} announces the names of the CAs in {bundle.source}, but its CAs may have "
            f"other keys: {bundle.written}; pass {ACCEPTED_CLIENT}"
        )


def _unusable(declaration: ListenerDeclaration, files: DeclaredFiles | None) -> str:
    """Return why etcd does not start again with the file of trusted CAs; empty if it does, or may."""
    members = (
        [member for member in files.members if member.label == declaration.member.label] if files else []
    )
    bundles = (member.bundles.get(declaration.side) for member in members)
    return next((bundle.file.problem for bundle in bundles if bundle), "")


def _differences(bundle: DeclaredBundle, announced: AnnouncedCAs) -> Iterator[str]:
    """Yield how the trusted CAs differ from the declared ones, the strongest evidence first."""
    wanted = subjects(bundle.certificates)
    names = dict(announced.names)
    for version, requested in announced.requested:
        trusted = Counter(name.public_bytes() for name in names[version])
        if not requested:
            yield f"{version}: no certificate is requested"
        elif trusted != wanted and not (trusted and bundle.absent):
            yield f"{version}: {name_list(names[version]) or 'no CA'}"
    if bundle.untrusted:
        yield f"{', '.join(bundle.untrusted)} is accepted, which no declared CA can have signed"
    if bundle.accepted is not None and not bundle.certificates and not bundle.absent:
        yield f"{bundle.accepted} is accepted, and the file contains no CA"
    elif bundle.accepted is not None and not bundle.signed and not bundle.absent:
        yield (
            f"{bundle.accepted} is accepted, whose certificate none of them has signed: the trusted CA has "
            "the same name and another key"
        )


_broken = changed("names.rules.*.matrix.cases.*.tries.*", **SERVED)


@check("config.allowed-names-in-force", on={Role.CLIENT, Role.CLIENT_HTTP, Role.PEER}, counterexample=_broken)
def declared_rules_about_names_are_in_force(
    declaration: ListenerDeclaration, names: DeclaredNames
) -> Iterator[Statement]:
    """A certificate is refused for its names if, and only if, a declared rule excludes them.

    Where the CA also issues certificates for others, only such a rule refuses them. Generated certificates
    (--auto-tls) disable the rule, and a configuration file without it hides the flag. With the key of the CA,
    a certificate with a declared name is issued: etcd refuses it if it was started with other names.

    Spec: etcd --{side}-cert-allowed-hostname, --peer-cert-allowed-cn
    Follows: restart.starts, restart.listeners, restart.clients, restart.announced-ca, restart.protocol
    Follows: config.*flags, config.does-not-start, config.*flag*, config.unknown-*,
        config.allowed-names-without-client-auth
    Severity: high
    Level: MUST
    Remediation: set --{side}-cert-allowed-hostname, or for peers --peer-cert-allowed-cn, where etcd reads it,
        and restart it; the certificates of the members need that name too, since etcd refuses its own gateway
        and its peers without it.
    """
    _must_be_declared(declaration)
    kept = [rule for rule in names.rules if not rule.matrix.cases.accepted]
    if names.refused is not None and len(kept) == len(names.rules):
        yield _not_allowed(declaration, names, names.refused)
        return
    for rule in names.rules:
        if rule in kept:
            yield from judge(rule.matrix, "a client whose names are not allowed")
        else:
            yield _not_kept(declaration, rule)


def _not_allowed(declaration: ListenerDeclaration, names: DeclaredNames, refused: Candidate) -> Finding:
    leaf = refused.chain[0]
    has = ", ".join((name_text(leaf.subject), *subject_alt_names(leaf)))
    return not_in_force(
        declaration,
        names.rules[0].setting if names.rules else None,
        message="" if names.rules else "clients are refused for their names, and nothing in {} excludes any",
        expected=f"a certificate of the accepted client's CA is accepted with allowed names ({has})",
        observed=observed_in(refused.cases),
        remediation="" if names.rules else _DECLARE_NAMES,
        reproduce=commands_for(refused.cases),
    )


_DECLARE_NAMES = (
    "restart etcd, or declare the names: --{side}-cert-allowed-hostname, or for peers --peer-cert-allowed-cn"
)


def _not_kept(declaration: ListenerDeclaration, rule: NameRule) -> Finding:
    served = rule.matrix.cases.accepted
    return not_in_force(
        declaration,
        rule.setting,
        expected=f"a certificate that is not allowed is refused ({rule.matrix.certificate})",
        observed=observed_in(served),
        reproduce=commands_for(served),
    )


_CHACHA = "_CHACHA20_POLY1305"


_floor_missed = changed("answer.tls.*", ending=Ending.OTHER, phase=Phase.HANDSHAKE, alert=PROTOCOL_VERSION)


@check("config.version-range-in-force", on=EVERY_LISTENER, counterexample=_floor_missed)
def declared_versions_are_in_force(
    declaration: ListenerDeclaration, answer: FirstContact
) -> Iterator[Statement]:
    """The listener supports the declared TLS versions; by default TLS 1.2 is included.

    Clients that the declaration supports cannot connect, or a version that it excludes is still accepted.
    --tls-min-version and --tls-max-version apply to every TLS listener of the member. Without a maximum Go
    decides whether TLS 1.3 is supported; etcd 3.5.0 to 3.5.7 do not support it.

    Spec: etcd --tls-min-version, --tls-max-version
    Spec: RFC 8446 section 4.2.1
    Follows: restart.starts, restart.listeners, restart.clients, restart.announced-ca, restart.protocol
    Follows: config.*flags, config.does-not-start, config.*flag*, config.unknown-*
    Severity: high
    Level: MUST
    Remediation: set --tls-min-version and --tls-max-version where etcd reads them, and restart it.
    """
    if not answer.tls:
        yield not_applicable(f"{declaration.here.url} is asked for plain HTTP: there is no TLS to judge")
        return
    _must_be_declared(declaration)
    for attempt in answer.tls:
        if attempt.offered_version is None:
            continue
        # A version in which our TLS library refuses the certificate is supported.
        if attempt.ending is Ending.UNCLEAR and attempt.offered_version not in answer.unusable:
            yield inconclusive(f"{attempt.offered_version}: {attempt.describe()}")
        else:
            # A version in which no suite fits is supported all the same: see tls.forward-secrecy.
            negotiated = attempt.offered_version in (*answer.offered, *answer.without_suite)
            yield from _judge_version(declaration, attempt, attempt.offered_version, negotiated=negotiated)


def _judge_version(
    declaration: ListenerDeclaration, attempt: Attempt, version: TLSVersion, *, negotiated: bool
) -> Iterator[Statement]:
    minimum, maximum = (declaration.member.as_read(f"tls-{end}-version") for end in ("min", "max"))
    floor = (TLS_VERSIONS.get(minimum.value) if minimum else None) or TLSVersion.TLS1_2
    ceiling = TLS_VERSIONS.get(maximum.value) if maximum else None
    if negotiated and version < floor:
        setting = minimum
    elif negotiated and ceiling is not None and version > ceiling:
        setting = maximum
    elif not negotiated and floor <= version <= (ceiling or floor):
        # Without a maximum Go decides which versions above the minimum are supported.
        setting = maximum if version is ceiling else minimum
    else:
        return
    yield not_in_force(
        declaration,
        setting,
        message="" if setting else f"{version} is not supported, and nothing in {{}} excludes it",
        expected=f"{version} is {'refused' if negotiated else 'supported'}",
        observed=f"{version}: {attempt.describe()}",
        reproduce=(s_client(attempt.url, version),),
    )


@check(
    "config.suites-in-force", on=EVERY_LISTENER, counterexample=accepting("TLS_RSA_WITH_AES_128_GCM_SHA256")
)
def declared_suites_are_in_force(
    declaration: ListenerDeclaration, support: SuiteSupport
) -> Iterator[Statement]:
    """In TLS 1.2 only declared cipher suites are accepted, where any are declared.

    A suite that was left out on purpose remains in use. TLS 1.3 has suites of its own, which --cipher-suites
    does not affect. A declared suite that is not accepted is no fault: suites for another key type cannot be
    used, and HTTP/2 forbids some.

    Spec: etcd --cipher-suites
    Spec: RFC 5246 section 7.4.1.3
    Follows: restart.starts, restart.listeners, restart.clients, restart.announced-ca, restart.protocol
    Follows: config.*flags, config.does-not-start, config.*flag*, config.unknown-*
    Severity: medium
    Level: MUST
    Remediation: set --cipher-suites where etcd reads it, and restart it.
    """
    _must_be_declared(declaration)
    setting = declaration.member.as_read("cipher-suites")
    if setting is None or not setting.value:
        yield not_applicable("no --cipher-suites are declared: Go decides")
        return
    # Go's legacy names of two suites lack the suffix _SHA256 (crypto/tls/cipher_suites.go).
    listed = {f"{name}_SHA256" if name.endswith(_CHACHA) else name for name in setting.value.split(",")}
    accepted = {suite.name: suite for suite in support.accepted}
    others = sorted(accepted.keys() - listed)
    if others:
        options = cipher_option(accepted[name] for name in others)
        yield not_in_force(
            declaration,
            setting,
            expected="no other suite of TLS 1.2 is accepted",
            observed=f"accepted as well: {', '.join(others)}",
            reproduce=(s_client(declaration.here.url, TLSVersion.TLS1_2, options),),
        )
    elif missing := sorted(listed & {suite.name for suite in SUITES} - accepted.keys()):
        yield Note(f"declared and not accepted here: {', '.join(missing)}")


_ABSENT = 404


_off = changed("answer.tries.*", response=Response(status=_ABSENT))


@check("config.gateway-as-declared", on=CLIENT_PORTS, counterexample=_off)
def the_gateway_is_as_declared(
    declaration: ListenerDeclaration, answer: GatewayAnswer
) -> Iterator[Statement]:
    """The JSON gateway answers if the declaration enables it, and only then.

    Clients of the gateway fail, or an API that was meant to be disabled is served. The gateway is enabled by
    default, but in 3.4 it is disabled by a configuration file that does not mention it.

    Spec: etcd --enable-grpc-gateway
    Follows: restart.starts, restart.listeners, restart.clients, restart.protocol, restart.gateway
    Follows: config.*flags, config.does-not-start, config.*flag*, config.unknown-*
    Severity: low
    Level: MUST
    Remediation: set --enable-grpc-gateway where etcd reads it, and restart it.
    """
    _must_be_declared(declaration)
    if version_key(declaration.member.version) < (3, 4):
        yield not_applicable("the gateway of etcd 3.3 has another path")
    elif answer.attempt.response is None:
        yield inconclusive(f"{declaration.here.url} gateway: {answer.attempt.describe()}")
    else:
        is_on = answer.attempt.response.status != _ABSENT
        if is_on is not declaration.member.effective.gateway:
            line = curl(declaration.here.url, client=answer.identity, protocol=Protocol.GATEWAY, look=STATUS)
            yield _not_as_declared(
                declaration, "enable-grpc-gateway", answer.attempt.response, line, part="JSON gateway"
            )


_served = changed("exchange.tries.*", response=Response(status=200, body=b"profiles"))


@check("config.pprof-as-declared", on=CLIENT_PORTS, counterexample=_served)
def profiles_are_as_declared(
    declaration: ListenerDeclaration, exchange: Annotated[ClientExchange, "/debug/pprof/"]
) -> Iterator[Statement]:
    """Profiles are served if, and only if, that is declared.

    Unexpected profiles expose etcd's memory contents. From 3.5 on --log-level=debug enables them as well;
    before, --debug does.

    Spec: etcd --enable-pprof, --log-level
    Follows: restart.starts, restart.listeners, restart.clients, restart.announced-ca, restart.protocol
    Follows: config.*flags, config.does-not-start, config.*flag*, config.unknown-*
    Severity: low
    Level: MUST
    Remediation: set --enable-pprof and --log-level where etcd reads them, and restart it.
    """
    _must_be_declared(declaration)
    yield from unanswered(exchange)
    response = exchange.attempt.response
    if response is not None and (response.status != _ABSENT) is not declaration.member.effective.pprof:
        yield _not_as_declared(
            declaration, "enable-pprof", response, repeat(exchange), part="handler of profiles"
        )


def _not_as_declared(
    declaration: ListenerDeclaration, name: str, response: Response, line: Command, *, part: str
) -> Finding:
    answers = response.status != _ABSENT
    return not_in_force(
        declaration,
        declaration.member.as_read(name),
        message=f"the {part} {'answers' if answers else 'does not answer'}, and {{}} does not declare that",
        expected="HTTP 404" if answers else "an answer",
        observed=show(response),
        reproduce=(line,),
    )


def _must_be_declared(declaration: ListenerDeclaration) -> None:
    if declaration.listener is None:
        raise NotVerifiedError(f"nothing declares {declaration.here.url}, see config.listeners-as-declared")


def not_in_force(
    declaration: ListenerDeclaration,
    setting: Setting | None,
    *,
    expected: str,
    observed: str,
    message: str = "",
    remediation: str = "",
    reproduce: tuple[Command | str, ...] = (),
) -> Finding:
    """Return the finding that a declaration is not in force, with the reason if it is known.

    Args:
        declaration: the listener's declaration.
        setting: the setting that is not in force; ``None`` if something undeclared is in force.
        expected: what would be observed if the setting were in force.
        observed: what is observed.
        message: without the reason, if there is no setting; ``{}`` stands for the declaration's source.
        remediation: what to do, if it is not what the check says.
        reproduce: commands to paste.
    """
    traps = list(declaration.traps_of(setting)) if setting is not None else []
    message = message.format(declaration.member.declared.declaration.source) or f"{setting} is not in force"
    evidence = {
        "declared": str(setting) if setting is not None else "nothing",
        "effective": declaration.listener.describe() if declaration.listener else "nothing",
    }
    if traps:
        evidence["trap"] = ", ".join(f"config.{trap.id}" for trap in traps)
    return Finding(
        message=f"{message}: {'; '.join(trap.summary for trap in traps) or _drift(declaration)}",
        expected=expected,
        observed=observed,
        place=setting.place if setting is not None else None,
        evidence=evidence,
        remediation=remediation,
        reproduce=reproduce,
    )


def _drift(declaration: ListenerDeclaration) -> str:
    """Return the possible reasons why etcd's behaviour differs from a declaration that it would follow."""
    member = declaration.member
    etcd = f"etcd {member.version}" if member.version else "etcd"
    if not member.starts:
        return f"{etcd} does not start with this declaration, so it was started with other settings"
    return (
        f"{etcd}, started with this declaration, would behave differently: it was not restarted since the "
        "declaration changed, was started with other settings, or another server answers here"
    )
