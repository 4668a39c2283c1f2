"""Declared rules about names and revocation that keep out nobody, or everybody."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.checks.config_traps import judge_traps, trap_check
from pytest_etcdtls.declared.sides import CRLEffect
from pytest_etcdtls.declared.standing import Declarations, ListenerDeclaration
from pytest_etcdtls.declared.trap import Trap
from pytest_etcdtls.observations.admission import Acceptance, Candidate
from pytest_etcdtls.observations.attempt import Way
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict


@trap_check("allowed-names-without-client-auth")
def allowed_names_have_client_authentication(declarations: Declarations) -> Iterator[Statement]:
    """Allowed names are declared together with client authentication.

    They are compared with certificates that clients are only asked for with --client-cert-auth or a trusted
    CA; alone they keep nobody out.

    Spec: etcd --client-cert-allowed-hostname, --peer-cert-allowed-cn, --peer-cert-allowed-hostname
    Severity: critical
    Level: MUST
    Remediation: give --client-cert-auth=true and --trusted-ca-file, for peers --peer-client-cert-auth=true
        and --peer-trusted-ca-file.
    """
    yield from judge_traps(declarations, "allowed-names-without-client-auth")


@trap_check("allowed-names-as-one")
def a_list_of_names_is_read_as_one(declarations: Declarations) -> Iterator[Statement]:
    """A list of allowed names is declared only for an etcd that reads lists.

    Before 3.5.15 the whole list is one single name, which nobody has, so nobody is let in.

    Spec: etcd --client-cert-allowed-hostname, --peer-cert-allowed-cn, --peer-cert-allowed-hostname
    Severity: high
    Level: MUST
    Remediation: give one name, or upgrade to etcd 3.5.15 or newer.
    """
    yield from judge_traps(declarations, "allowed-names-as-one")


@trap_check("san-check-off")
def the_san_rule_is_not_switched_off(declarations: Declarations) -> Iterator[Statement]:
    """The rule that a member's certificate must fit its address is not switched off.

    Without it a stolen member certificate works from anywhere.

    Spec: etcd --peer-skip-client-san-verification
    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Severity: medium
    Level: SHOULD
    Remediation: give members certificates with their addresses and remove the switch, before 3.6
        --experimental-peer-skip-client-san-verification.
    """
    yield from judge_traps(declarations, "san-check-off")


@trap_check("crl-without-client-auth")
def a_revocation_list_has_client_authentication(declarations: Declarations) -> Iterator[Statement]:
    """A revocation list is declared together with client authentication.

    Revoked certificates are recognised only where clients send one; alone the list keeps nobody out.

    Spec: etcd --client-crl-file, --peer-crl-file
    Severity: critical
    Level: MUST
    Remediation: give --client-cert-auth=true and --trusted-ca-file, for peers --peer-client-cert-auth=true
        and --peer-trusted-ca-file.
    """
    yield from judge_traps(declarations, "crl-without-client-auth")


@trap_check("crl-encoding")
def the_revocation_list_can_be_read(declarations: Declarations) -> Iterator[Statement]:
    """The declared revocation list is one that this etcd can read.

    From 3.6 on that is DER alone; 3.4 and 3.5 read PEM too. One that cannot be read refuses everybody who
    shows a certificate, after the handshake and without an alert.

    Spec: etcd --client-crl-file, --peer-crl-file
    Spec: RFC 5280 section 5
    Severity: critical
    Level: MUST
    Remediation: convert it with openssl crl -in crl.pem -outform DER -out crl.der; it is read at every
        connection, etcd need not be restarted.
    """
    yield from judge_traps(declarations, "crl-encoding")


@trap_check("crl-ignored-on-grpc")
def the_revocation_list_counts_for_grpc(declarations: Declarations) -> Iterator[Statement]:
    """The declared revocation list counts on the port for gRPC, too.

    With --listen-client-http-urls etcd does not look at it there before 3.5.32, 3.6.13 and 3.7.0, and revoked
    clients read and write keys.

    Spec: GHSA-3wh4-j44w-pg92
    Spec: etcd --client-crl-file, --listen-client-http-urls
    Severity: critical
    Level: MUST
    Remediation: upgrade to etcd 3.5.32, 3.6.13 or 3.7.0, or drop --listen-client-http-urls.
    """
    yield from judge_traps(declarations, "crl-ignored-on-grpc")


def _gone(declaration: ListenerDeclaration, acceptance: Acceptance) -> Mapping[str, Any]:
    trap = Trap(id="crl-missing", summary="it is not here", why="", remedy="put it there", certain=False)
    member = replace(declaration.member, traps=(trap,))

    def closed(found: Candidate) -> Candidate:
        tries = tuple((v, p, tuple(replace(a, way=Way.CLOSED) for a in made)) for v, p, made in found.tries)
        return replace(found, has_names=False, tries=tries)

    candidates = tuple(map(closed, acceptance.candidates))
    return {
        "declaration": replace(declaration, member=member),
        "acceptance": replace(acceptance, accepted=None, candidates=candidates),
    }


@check("config.crl-missing", on=EVERY_LISTENER, counterexample=_gone)
def the_revocation_list_is_there(
    declaration: ListenerDeclaration, acceptance: Acceptance
) -> Iterator[Statement]:
    """The declared revocation list is where etcd looks for it.

    It looks at every connection, and closes those of all who show a certificate if there is none. Judged
    where the file is not to be found here: whether etcd finds it is told by the good client.

    Spec: etcd --{side}-crl-file
    Severity: critical
    Level: MUST
    Remediation: put a DER encoded list where --{side}-crl-file says; etcd need not be restarted.
    """
    for trap in declaration.traps("crl-missing"):
        if declaration.listener is not None and declaration.listener.crl is CRLEffect.IGNORED:
            yield Note("etcd does not look at it on this port, see config.crl-ignored-on-grpc")
        elif acceptance.accepted is not None:
            yield Note(f"{trap.summary}; here the good client {acceptance.accepted.identity} is let in")
        elif closed := [found for found in acceptance.candidates if _is_closed(acceptance, found)]:
            yield Finding(
                message="the revocation list is neither here nor, by all that is seen, where etcd looks",
                expected=trap.remedy,
                observed="; ".join(
                    f"{found.identity}: {attempt.asked} {attempt.protocol}: {attempt.describe()}"
                    for found in closed
                    for attempt in found.attempts
                ),
                evidence={"declared": "; ".join(map(str, trap.settings)), "why": trap.why},
            )
        else:
            yield Verdict(
                Outcome.NOT_VERIFIED,
                f"{trap.summary}; a good client would tell, and none is let in: pass --etcd-pki-dir, a "
                "directory with a copy",
            )


def _is_closed(acceptance: Acceptance, candidate: Candidate) -> bool:
    return candidate.ways == {Way.CLOSED} and not acceptance.closed_by_san_rule(candidate)
