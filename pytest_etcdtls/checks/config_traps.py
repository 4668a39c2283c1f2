"""Settings whose effect differs from what their names suggest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.effective import SIDES, CRLEffect
from pytest_etcdtls.declared.traps import Trap
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.configuration import (
    Declarations,
    DeclaredStart,
    ListenerDeclaration,
    MemberDeclaration,
    listeners_of_side,
)
from pytest_etcdtls.facts.declared_files import DeclaredFiles
from pytest_etcdtls.judgement import with_attempts
from pytest_etcdtls.registry import EVERY_LISTENER, CheckFunction, Counterexample, check
from pytest_etcdtls.remedies import (
    SAN_CHECK_OFF,
    Cure,
    client_certificates,
    hidden_into_file,
    https,
    suites,
    without,
)
from pytest_etcdtls.results import CannotJudge, Finding, Level, Note, Outcome, Statement
from pytest_etcdtls.role import Side
from pytest_etcdtls.tls.attempt import Ending


def trap_check(
    id_: str, cure: Cure | None = None
) -> Callable[[Callable[[Declarations], None]], CheckFunction]:
    """Register the check of a trap, on the whole target; its id is ``config.`` plus the trap's id.

    The decorated function has a docstring and no code. The check has a finding for each trap of that id, and
    is not verified for one that is uncertain.
    """

    def register(described: Callable[[Declarations], None]) -> CheckFunction:
        @functools.wraps(described)
        def judge(declarations: Declarations) -> Iterator[Statement]:
            for member in declarations.members:
                for trap in member.traps:
                    if trap.id == id_:
                        yield _statement(member, trap)

        return check(f"config.{id_}", on=set(), counterexample=_trapped(id_), cure=cure)(judge)

    return register


def _trapped(id_: str) -> Counterexample:
    """Return the counterexample: the first member's declaration contains that trap."""

    def with_trap(declarations: Declarations) -> Mapping[str, Any]:
        first, *others = declarations.members
        trap = Trap(id=id_, summary="it does something else", remedy="write it otherwise")
        members = (replace(first, traps=(*first.traps, trap)), *others)
        return {"declarations": Declarations(members)}

    return with_trap


def _why_uncertain(member: MemberDeclaration) -> str:
    if member.version is None:
        return "which is not known: pass a client certificate that is accepted"
    return f"and {member.version} is newer than the versions that are known here: see its release notes"


def _statement(member: MemberDeclaration, trap: Trap) -> Statement:
    if not trap.certain:
        return CannotJudge(
            Outcome.NOT_VERIFIED,
            f"{member.label}: {trap.summary}; this depends on the version of etcd, {_why_uncertain(member)}",
        )
    message = f"{member.label}: {trap.summary}"
    if not trap.starts and member.version is not None and not member.replayed:
        message += (
            f"; etcd {member.version} runs, so it was started with other settings, and will not start "
            "again with this"
        )
    evidence = {"member": member.label, "etcd": member.version or "of unknown version"}
    if trap.listeners:
        evidence["listeners"] = ", ".join(trap.listeners)
    return Finding(
        message=message,
        expected=trap.remedy,
        concerns=concerned(member, trap.listeners, trap.settings),
        observed="; ".join(map(str, trap.settings)) or member.declared.declaration.source,
        evidence=evidence,
        level=Level.SHOULD if trap.harmless else None,
        remediation=_remediation(trap),
    )


def _remediation(trap: Trap) -> str:
    """Return the remedy where it is the whole of what to do; empty where the check's rule is needed too."""
    remedy = ""
    if trap.id in ("flag-unknown-to-version", "crl-encoding"):
        remedy = trap.remedy
    elif trap.id == "unknown-key":
        for setting in trap.settings:
            if setting.spelled.lower().startswith("experimental-"):
                remedy = trap.remedy.replace("write it as", f"write {setting.spelled} as", 1)
    return remedy.replace("{", "{{").replace("}", "}}")  # a remediation is a format


def concerned(
    member: MemberDeclaration, urls: tuple[str, ...], settings: tuple[Setting, ...]
) -> tuple[str, ...]:
    """Return the listeners of the side to which URLs or else settings belong, of both if to none."""
    roles = {listener.role for listener in member.effective.listeners if str(listener.url) in urls}
    sides: set[Side] = {role.side for role in roles}
    if not sides:
        sides = {side for setting in settings for side in _sides_of(setting.name)}
    return tuple(
        name for side in SIDES if side in (sides or SIDES) for name in listeners_of_side(member.label, side)
    )


_OF_CLIENTS = ("client-", "cert-file", "key-file", "trusted-ca-file", "auto-tls")


def _sides_of(setting: str) -> tuple[Side, ...]:
    """Return the sides to which a setting applies."""
    if setting.startswith("peer-"):
        return ("peer",)
    return ("client",) if setting.startswith(_OF_CLIENTS) else SIDES


@trap_check("auto-tls-drops-client-auth", client_certificates)
def auto_tls_keeps_client_authentication(declarations: Declarations) -> None:
    """--auto-tls does not disable declared client authentication.

    With --auto-tls and no certificate, etcd replaces all TLS settings of that side, including
    client-cert-auth and the trusted CA, and starts without an error. Every client is accepted, although the
    flags say that client authentication is on.

    Spec: etcd --auto-tls, --peer-auto-tls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: give --cert-file and --key-file and remove --auto-tls; for peers --peer-cert-file,
        --peer-key-file and --peer-auto-tls.
    """


@trap_check("auto-tls-ignored")
def auto_tls_is_not_ignored(declarations: Declarations) -> None:
    """--auto-tls is not declared together with a certificate.

    etcd then ignores --auto-tls and warns in its log. A reader of the flags takes the served certificate for
    a generated one. If the certificate is later removed from the declaration, every client is accepted.

    Spec: etcd --auto-tls, --peer-auto-tls
    Severity: low
    Level: SHOULD
    Remediation: remove --auto-tls and --peer-auto-tls.
    """


@trap_check("client-auth-without-ca", client_certificates)
def client_authentication_has_a_bundle(declarations: Declarations) -> None:
    """Client authentication is declared together with a CA for clients.

    Without that CA, etcd verifies clients against the system's root store: any client with a certificate of a
    public CA is accepted, and the cluster's own clients are refused.

    Spec: etcd --client-cert-auth, --trusted-ca-file
    Spec: etcd --peer-client-cert-auth, --peer-trusted-ca-file
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: give --trusted-ca-file with the CA that issues client certificates, and
        --peer-trusted-ca-file with the CA of the members.
    """


@trap_check("trusted-ca-alone", client_certificates)
def a_bundle_has_client_authentication(declarations: Declarations) -> None:
    """A trusted CA is declared together with client authentication.

    From 3.4 on, --trusted-ca-file alone enforces client certificates, so a review of the flags reports an
    open cluster that is in fact protected; in 3.3 it has no effect. Without --client-cert-auth the common
    name of a certificate is not used as a user name.

    Spec: etcd --trusted-ca-file, --client-cert-auth
    Severity: low
    Level: SHOULD
    Remediation: declare it explicitly: --client-cert-auth=true, --peer-client-cert-auth=true.
    """


@trap_check("http-listener-beside-tls", https)
def no_http_listener_is_declared_with_tls(declarations: Declarations) -> None:
    """No http listener is declared together with TLS settings for the same side.

    TLS settings apply to https URLs only. The http listener accepts every client, even on the same port. etcd
    also opens a default http listener where TLS is declared but no listen URL is. Only a port for gRPC alone
    (--listen-client-http-urls) that is listed with both schemes serves TLS alone.

    Spec: etcd --listen-client-urls, --listen-peer-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: cluster.peer-urls-https
    Severity: critical
    Level: MUST, SHOULD where the http URL is not served
    Remediation: name https URLs only in --listen-client-urls, --listen-client-http-urls and
        --listen-peer-urls.
    """


@trap_check("allowed-names-without-client-auth", client_certificates)
def allowed_names_have_client_authentication(declarations: Declarations) -> None:
    """Allowed names are declared together with client authentication.

    etcd compares the names with client certificates, and requests those only with --client-cert-auth or a
    trusted CA. Allowed names alone refuse no client.

    Spec: etcd --client-cert-allowed-hostname, --peer-cert-allowed-cn, --peer-cert-allowed-hostname
    Severity: critical
    Level: MUST
    Remediation: give --client-cert-auth=true and --trusted-ca-file, for peers --peer-client-cert-auth=true
        and --peer-trusted-ca-file.
    """


@trap_check("allowed-names-as-one")
def a_list_of_names_is_read_as_one(declarations: Declarations) -> None:
    """A list of allowed names is declared only for an etcd that supports lists.

    Before 3.5.15 etcd reads the whole list as one name. No certificate has that name, so every client is
    refused.

    Spec: etcd --client-cert-allowed-hostname, --peer-cert-allowed-cn, --peer-cert-allowed-hostname
    Severity: high
    Level: MUST
    Remediation: give one name, or upgrade to etcd 3.5.15 or newer.
    """


@trap_check("san-check-off", without(*SAN_CHECK_OFF))
def the_san_rule_is_not_switched_off(declarations: Declarations) -> None:
    """Verification of peer certificate SANs is not disabled.

    Without it a stolen member certificate works from any address.

    Spec: etcd --peer-skip-client-san-verification
    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Follows: mtls.wrong-san
    Severity: medium
    Level: SHOULD
    Remediation: issue member certificates with their addresses and remove the flag, before 3.6
        --experimental-peer-skip-client-san-verification.
    """


@trap_check("crl-without-client-auth", client_certificates)
def a_revocation_list_has_client_authentication(declarations: Declarations) -> None:
    """A revocation list is declared together with client authentication.

    etcd checks revocation only for certificates that clients send. Without client authentication a revoked
    client connects without a certificate and is accepted.

    Spec: etcd --client-crl-file, --peer-crl-file
    Severity: critical
    Level: MUST
    Remediation: give --client-cert-auth=true and --trusted-ca-file, for peers --peer-client-cert-auth=true
        and --peer-trusted-ca-file.
    """


@trap_check("crl-encoding")
def the_revocation_list_can_be_read(declarations: Declarations) -> None:
    """The declared revocation list has an encoding that this etcd can read.

    etcd 3.6 and newer reads DER in version 2 only (Go's x509.ParseRevocationList). etcd up to 3.5 reads DER
    in any version without data after the list, and PEM if the file begins with it (x509.ParseCRL). With a
    list that it cannot read, etcd refuses every client that presents a certificate, after the handshake and
    without an alert.

    Spec: etcd --client-crl-file, --peer-crl-file
    Spec: RFC 5280 section 5.1
    Severity: critical
    Level: MUST
    Remediation: convert it with openssl crl -in crl.pem -outform DER -out crl.der; a list of version 1 has to
        be issued again, with extensions (openssl ca -gencrl -crlexts SECTION). etcd reads it at every
        connection and needs no restart.
    """


@trap_check("crl-one-list")
def the_revocation_list_is_the_only_one(declarations: Declarations) -> None:
    """Every revocation list in the declared file is in force.

    etcd up to 3.5 reads the first PEM block of the file and ignores the others without a message, so clients
    that a later list revokes are accepted. etcd 3.6 and newer reads no PEM at all.

    Spec: etcd --client-crl-file, --peer-crl-file
    Severity: critical
    Level: MUST
    Remediation: have one list issued with the serial numbers of all, in DER; etcd compares serial numbers
        only, so the issuer does not matter. etcd reads it at every connection and needs no restart.
    """


@trap_check("crl-ignored-on-grpc")
def the_revocation_list_applies_to_grpc(declarations: Declarations) -> None:
    """The declared revocation list also applies to the gRPC port.

    With --listen-client-http-urls, etcd before 3.5.32, 3.6.13 and 3.7.0 does not check the list on the gRPC
    port, so revoked clients can read and write keys.

    Spec: GHSA-3wh4-j44w-pg92
    Spec: etcd --client-crl-file, --listen-client-http-urls
    Severity: critical
    Level: MUST
    Remediation: upgrade to etcd 3.5.32, 3.6.13 or 3.7.0, or drop --listen-client-http-urls.
    """


def _gone(declaration: ListenerDeclaration, client: AcceptedClient, **_: object) -> Mapping[str, Any]:
    trap = Trap(id="crl-missing", summary="it is not here", remedy="put it there", certain=False)
    member = replace(declaration.member, traps=(trap,))

    candidates = tuple(
        replace(with_attempts(found, ending=Ending.CLOSED), has_names=False) for found in client.candidates
    )
    return {
        "declaration": replace(declaration, member=member),
        "client": replace(client, accepted=None, candidates=candidates),
    }


@check("config.crl-missing", on=EVERY_LISTENER, counterexample=_gone)
def the_revocation_list_exists(
    declaration: ListenerDeclaration, client: AcceptedClient, files: DeclaredFiles
) -> Iterator[Statement]:
    """The declared revocation list exists at its path.

    etcd reads it at every connection. If the file is missing, etcd closes the connection of every client that
    presents a certificate. On the member's own machine that is a fault, whoever is accepted: an etcd that
    accepts clients was started without the list. Elsewhere a good client whose connection etcd closes shows
    it.

    Spec: etcd --{side}-crl-file
    Severity: critical
    Level: MUST
    Remediation: put a DER encoded list at the path of --{side}-crl-file; etcd needs no restart.
    """
    of_side = f"{declaration.side}-crl-file"
    lists = [
        one for member in files.members if member.label == declaration.here.member for one in member.crls
    ]
    missing = next((crl.missing for setting, crl in lists if setting.name == of_side and crl.missing), "")
    for trap in declaration.traps("crl-missing"):
        accepted = client.accepted and client.accepted.identity
        if declaration.listener is not None and declaration.listener.crl is CRLEffect.IGNORED:
            yield Note("etcd does not read it on this port, see config.crl-ignored-on-grpc")
        elif missing:
            running = "every client with a certificate is refused"
            if accepted:
                running = (
                    f"etcd accepts {accepted}, so it was started without it; started again with it, "
                    + ("it refuses every client with a certificate")
                )
            yield Finding(
                message=f"the revocation list is missing on the member: {running}",
                expected=trap.remedy,
                observed=missing,
                evidence={"declared": "; ".join(map(str, trap.settings))},
            )
        elif accepted:
            yield CannotJudge(
                Outcome.NOT_VERIFIED,
                f"{trap.summary}; {accepted} is accepted: etcd finds the list, or was started "
                "without it: run on the member, or pass --etcd-pki-dir, a directory with a copy",
            )
        elif closed := [
            found
            for found in client.candidates
            if found.endings == {Ending.CLOSED} and not client.closed_by_san_rule(found)
        ]:
            yield Finding(
                message="the revocation list is missing here and apparently on the member too",
                expected=trap.remedy,
                observed="; ".join(
                    f"{found.identity}: {attempt.offered_version} {attempt.protocol}: {attempt.describe()}"
                    for found in closed
                    for attempt in found.attempts
                ),
                evidence={"declared": "; ".join(map(str, trap.settings))},
            )
        else:
            yield CannotJudge(
                Outcome.NOT_VERIFIED,
                f"{trap.summary}; a good client would show it, and none is accepted: pass --etcd-pki-dir, a "
                "directory with a copy",
            )


@trap_check("config-file-hides-flags", hidden_into_file)
def no_configuration_file_hides_flags(declarations: Declarations) -> None:
    """No TLS flag or variable differs from the configuration file.

    With --config-file etcd ignores all other flags and all environment variables, and logs this in one line
    at level info. A --client-cert-auth given as a flag then has no effect, and every client is accepted.
    Settings that the file repeats do no harm.

    Spec: etcd --config-file
    Spec: etcd Documentation, configuration options
    Severity: critical
    Level: MUST
    Remediation: start etcd without the configuration file and with every setting as a flag, or write these
        settings into the file, if this etcd has keys for them.
    """


@trap_check("unknown-key")
def every_key_is_known(declarations: Declarations) -> None:
    """The configuration file contains no key that is unknown to this etcd.

    etcd ignores unknown and misspelt keys silently, and keys that were renamed or removed in this version or
    came in a later one. There is no key for a revocation list: if the file names one, revoked clients are
    accepted. The case of letters does not matter, but in 3.6 that of keys that begin with experimental-.

    Spec: etcd --config-file
    Spec: etcd etcd.conf.yml.sample
    Severity: high
    Level: MUST
    Remediation: spell the key as in this etcd's etcd.conf.yml.sample, a renamed one by its new name; what has
        no key there, such as a revocation list (--client-crl-file), must be a flag, and then every other
        setting too.
    """


@trap_check("undocumented-key")
def every_key_is_documented(declarations: Declarations) -> None:
    """The configuration file contains no undocumented key.

    Go's decoder accepts the name of a struct field as a key where the field has no tag. Such a key works
    today, but it is not documented and may stop working in another release.

    Spec: etcd etcd.conf.yml.sample
    Severity: low
    Level: SHOULD
    Remediation: start etcd with flags instead of a configuration file.
    """


@trap_check("unknown-variable")
def every_variable_is_known(declarations: Declarations) -> None:
    """Every environment variable that looks like a TLS setting is known to this etcd.

    etcd ignores unknown variables and warns in its log. With a misspelt ETCD_CLIENT_CERT_AUTH every client is
    accepted. The variable may also belong to another program.

    Spec: etcd Documentation, configuration options
    Severity: medium
    Level: SHOULD
    Remediation: spell it as ETCD_ followed by the flag's name in capitals with underscores; rename variables
        that belong to another program.
    """


@trap_check("flag-unknown-to-version")
def every_flag_is_known(declarations: Declarations) -> None:
    """Every declared flag exists in the running version of etcd.

    An unknown flag ends etcd before it opens a port. If etcd runs nevertheless, it was started with other
    settings: the declaration is not in force, and the next restart fails.

    Spec: etcd CHANGELOG, flags added and removed
    Severity: high
    Level: MUST
    Remediation: use the flags of this version (etcd --help), and restart etcd with them.
    """


@trap_check("variable-beside-flag")
def no_setting_is_declared_twice(declarations: Declarations) -> None:
    """No setting is given both as a flag and as an environment variable.

    From 3.4 on etcd exits with an error, even if both values are equal; in 3.3 the flag takes precedence.

    Spec: etcd Documentation, configuration options
    Severity: medium
    Level: MUST
    Remediation: remove one of the two, and restart etcd.
    """


@trap_check("flag-given-twice")
def no_flag_is_given_twice(declarations: Declarations) -> None:
    """No flag and no key is given twice with different values.

    etcd takes the last one, as every program with Go's package flag does, and says nothing. A reader who
    finds the first one believes that it is in force, as where a drop-in or a variable adds flags behind
    others. A list of URLs is even kept if the second one is empty or one of its URLs. The same holds for the
    keys of a configuration file; of two equal sections etcd drops the first one with all its keys.

    Spec: etcd Documentation, configuration options
    Spec: Go flag package
    Severity: medium
    Level: SHOULD
    Remediation: give it once, with the value that is meant.
    """


@trap_check("manifest-beside")
def one_manifest_declares_the_pod(declarations: Declarations) -> None:
    """No other file in the directory of a static pod's manifest declares the same member.

    The kubelet reads every file of that directory whose name does not begin with a dot, also etcd.yaml.bak.
    Of pods with one name it keeps the one in the last file by name, each time that it lists the directory,
    every 20 seconds by default; between two lists it runs the file that was written to last. So a backup is
    started again in the place of the changed manifest, with its old certificates and settings. With another
    name it is a second etcd on the same ports and data.

    Spec: Kubernetes kubelet, extractFromDir in pkg/kubelet/config/file.go
    Severity: high
    Level: MUST, SHOULD where the declared file is the one that runs, or both are the same
    Remediation: move the other file to another directory.
    """


@trap_check("gateway-off-in-config-file")
def a_disabled_gateway_is_declared(declarations: Declarations) -> None:
    """A JSON gateway that is disabled is declared as disabled.

    Up to 3.4 a configuration file without enable-grpc-gateway disables the gateway, while the flag's default
    is true. Clients of the gateway fail although nothing disables it explicitly.

    Spec: etcd --enable-grpc-gateway
    Severity: info
    Level: SHOULD
    Remediation: write enable-grpc-gateway into the configuration file, true or false.
    """


@trap_check("does-not-start", suites)
def etcd_starts_with_the_declaration(declarations: Declarations) -> None:
    """The declaration is one with which etcd starts.

    Settings of TLS, their files and the ports are judged. Other values are judged by an etcd that is started
    with them, see config.starts. If etcd runs nevertheless, it was started with other settings: the
    declaration is not in force, and the next restart fails.

    Spec: etcd Documentation, configuration options
    Severity: high
    Level: MUST
    Remediation: correct the declaration, and restart etcd with it.
    """


def _not_started(start: DeclaredStart) -> Mapping[str, Any]:
    return {"start": replace(start, failure="it ended with status 1", log=("fatal",))}


@check("config.starts", on=set(), counterexample=_not_started)
def an_etcd_that_is_started_serves_clients(start: DeclaredStart) -> Iterator[Statement]:
    """An etcd that the run starts serves its clients.

    Otherwise nothing else of it can be judged. It counts whatever checks are selected. Where a declaration is
    replayed, --etcd-config with --etcd-binary or --etcd-image, a member that is updated to this version is
    missing in the cluster until the declaration is corrected. The notes say what a replay replaces.

    Spec: etcd Documentation, configuration options
    Follows: config.does-not-start, config.flag-unknown-to-version, config.trusted-ca-usable
    Severity: high
    Level: MUST
    Remediation: correct what etcd's log names before this etcd is rolled out.
    """
    for remark in start.remarks:
        yield Note(remark)
    if start.failure:
        started_with = f"{start.etcd} and {start.source}" if start.source else start.etcd
        yield Finding(
            message=f"{start.member} does not start: {start.failure}",
            expected="it serves its clients",
            observed=start.failure,
            evidence={"member": start.member, "started with": started_with, "log": "\n".join(start.log)},
        )
