"""Which CAs the listener announces, that it accepts a trusted client, and that it refuses plain HTTP."""

from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Annotated, Any

from cryptography import x509
from msgspec.structs import replace

from pytest_etcdtls.checks.judgement import EVERY_TRY, SERVED, altered, changed, commands_for, observed_in
from pytest_etcdtls.checks.refused_clients import (
    DECODE_ERROR,
    Refused,
    by_list,
    is_unexplained,
    is_unparsable,
    why_refused,
)
from pytest_etcdtls.checks.registry import EVERY_LISTENER, check
from pytest_etcdtls.checks.results import Finding, Note, Statement, inconclusive, not_applicable, not_verified
from pytest_etcdtls.declared.cures import client_certificates, https, trusted_ca
from pytest_etcdtls.declared.effective import ClientAuthentication
from pytest_etcdtls.errors import Reason, missing, needs
from pytest_etcdtls.etcd_log.parse import Cause
from pytest_etcdtls.facts.access import AcceptedClient, Candidate
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.api import OtherPort
from pytest_etcdtls.facts.certificates import AnnouncedCAs, ClientTrust, subjects
from pytest_etcdtls.facts.configuration import ListenerDeclaration
from pytest_etcdtls.facts.declared_files import DeclaredFiles
from pytest_etcdtls.facts.good_identities import Revocation, local_host
from pytest_etcdtls.facts.listener import Plaintext
from pytest_etcdtls.facts.refusal import SANRule, is_of_etcd
from pytest_etcdtls.facts.refusal_grounds import RefusalGrounds
from pytest_etcdtls.pki.certificate import name_list
from pytest_etcdtls.pki.go_parser import DNS, details
from pytest_etcdtls.pki.go_verify import subject_alt_names
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.command import ANNOUNCED, IN_PLAINTEXT, curl, etcdctl, in_plaintext, s_client
from pytest_etcdtls.untrusted.printable import plural, some

_TLS_ALERT = b"\x15\x03"
"""The beginning of a record with an alert: content type 21, then the version (RFC 8446 section 5.1)."""


def _empty(announced: AnnouncedCAs, **_: object) -> Mapping[str, Any]:
    names = tuple((version, ()) for version, _ in announced.names)
    return {"announced": replace(announced, names=names)}


@check("mtls.announced-ca-present", on=EVERY_LISTENER, counterexample=_empty, cure=client_certificates)
def the_listener_announces_its_cas(
    here: Listener,
    announced: AnnouncedCAs,
    client: AcceptedClient | None,
    declaration: ListenerDeclaration | None,
) -> Iterator[Statement]:
    """The listener requests a client certificate and announces at least one CA.

    An etcd with client-cert-auth and no trusted CA file announces none: it trusts every CA in the system's
    root store. One whose trusted CA file is empty or in DER announces none either: it trusts no CA. Both
    refuse the cluster's own clients, with the same alert. If these are accepted, a proxy may terminate TLS.

    Spec: RFC 8446 section 4.2.4
    Spec: RFC 5246 section 7.4.4
    Spec: etcd --{peer}trusted-ca-file
    Follows: mtls.no-certificate, config.client-auth-without-ca, config.trusted-ca-usable
    Severity: critical
    Level: MUST
    Remediation: set --{peer}trusted-ca-file to a file with CA certificates in PEM, and restart etcd;
        --{peer}client-cert-auth alone trusts the system's root CAs.
    """
    names = dict(announced.names)
    without = [version for version, requested in announced.requested if not requested]
    empty = [version for version, requested in announced.requested if requested and not names[version]]
    if without:
        yield Finding(
            message="no client certificate is requested",
            expected="a CertificateRequest with the names of the trusted CAs",
            observed=f"no CertificateRequest in {', '.join(without)}",
            reproduce=(s_client(here.url, look=ANNOUNCED),),
        )
    if empty:
        good = client.accepted.identity if client is not None and client.accepted is not None else ""
        why = "either every CA in the system's root store is trusted, or none; the declaration shows which"
        if good:
            why = f"{good} is accepted, so its CA is in the system's root store, or a proxy terminates TLS"
        declared = declaration.tls if declaration else None
        of_system = declared is not None and declared.client_auth is ClientAuthentication.SYSTEM_ROOTS
        if declared is not None and of_system:
            why = f"every CA in {declared.roots} is trusted"
        yield Finding(
            message=f"the list of announced CAs is empty: {why}",
            expected="the names of the trusted CAs in the CertificateRequest",
            observed=f"an empty list in {', '.join(empty)}",
            reproduce=(s_client(here.url, look=ANNOUNCED),),
            remediation=_PROXY_OR_ROOTS if good and not of_system else "",
        )


_PROXY_OR_ROOTS = (
    "let a proxy that terminates TLS on this port pass TCP through to etcd; without one, set "
    "--{peer}trusted-ca-file to a file with CA certificates in PEM, and restart etcd"
)


def _one_more(announced: AnnouncedCAs, **_: object) -> Mapping[str, Any]:
    names = tuple(
        (version, (*found, x509.Name(list(found[0].rdns) * 2))) for version, found in announced.names
    )
    return {"announced": replace(announced, names=names)}


@check("mtls.announced-ca-expected", on=EVERY_LISTENER, counterexample=_one_more, cure=trusted_ca)
def the_listener_trusts_the_expected_cas(
    here: Listener, announced: AnnouncedCAs, trust: ClientTrust
) -> Iterator[Statement]:
    """The announced CAs are exactly those that etcd is meant to trust.

    etcd accepts every client certificate that an additional CA in the bundle has issued. It announces a name
    once for each certificate in the bundle, so a renewed CA beside the old one of the same name shows.

    Spec: RFC 8446 section 4.2.4
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.7
    Follows: config.trusted-ca-in-force, config.peer-trusted-ca-in-force, config.chain-closes,
        mtls.announced-ca-present, listener.is-etcd
    Severity: high
    Level: MUST
    Remediation: put the CAs of this port's clients, and no other, into the file of --{peer}trusted-ca-file
        and restart etcd: it reads the bundle only at start.
    """
    if trust.declared:
        yield not_applicable("the bundle is known from the declaration alone: see config.trusted-ca-in-force")
        return
    wanted = subjects(trust.certificates)
    expected = name_list(certificate.subject for certificate in trust.certificates)
    versions = [version for version, requested in announced.requested if requested]
    given = dict(announced.names)
    if not versions:
        yield not_applicable("no client certificate is requested, see mtls.announced-ca-present")
        return
    if trust.inferred:
        yield from _judge_inferred(here, announced, trust)
        return
    for version in versions:
        if Counter(name.public_bytes() for name in given[version]) != wanted:
            observed = name_list(given[version]) or "an empty list"
            yield Finding(
                message="other CAs are announced than those that etcd is meant to trust"
                + (trust.remark and f" ({trust.source}: {trust.remark})"),
                expected=f"{expected} ({trust.source})",
                observed=f"{version}: {observed}",
                reproduce=(s_client(here.url, look=ANNOUNCED),),
            )
            return
    if trust.remark:
        yield Note(f"{trust.source}: {trust.remark}")


def _judge_inferred(here: Listener, announced: AnnouncedCAs, trust: ClientTrust) -> Iterator[Statement]:
    """Judge by a bundle that may have more CAs than etcd is meant to trust, such as the system's."""
    known = subjects(trust.certificates)
    others = [name for name in announced.most if name.public_bytes() not in known]
    number = Counter(name.public_bytes() for name in announced.most)
    option = f"--etcd-{here.role.prefix}trusted-ca"
    if not number:
        yield not_applicable("the list of announced CAs is empty, see mtls.announced-ca-present")
    elif number - known:
        trusted = name_list(others or announced.most)
        meant = f"if etcd is meant to trust it, pass the bundle of --{{peer}}trusted-ca-file with {option}"
        if number & known:
            message = f"etcd trusts {trusted}, which {trust.source} does not have"
            advice = f"{meant}; otherwise remove it from that file and restart etcd"
        else:
            message = f"etcd trusts {trusted}, and no CA in {trust.source} against which your client verifies"
            advice = (
                "put the CAs of this port's clients, and no other, into the file of --{peer}trusted-ca-file "
                f"and restart etcd, which reads it at start only; {meant}"
            )
        yield Finding(
            message=message,
            expected=f"no CA that {trust.source} does not have",
            observed=trusted,
            remediation=advice,
            reproduce=(s_client(here.url, look=ANNOUNCED),),
        )
    elif trust.sole_signer:
        yield Note("the only announced CA has signed the good client's certificate")
    elif trust.unannounced or number != known:
        cas = plural(len(trust.certificates) + trust.unannounced, "CA")
        text = f"{trust.source} has {cas}, and etcd's trusted CAs are unknown"
        yield not_verified(missing(text, option, passing=f"etcd's bundle with {option}"))


@check("mtls.announced-ca-single", on=EVERY_LISTENER, counterexample=_one_more)
def the_listener_trusts_one_ca(here: Listener, announced: AnnouncedCAs) -> Iterator[Statement]:
    """The listener announces only one CA.

    A bundle with several CAs is correct while a CA is being replaced. If the old CA stays in it, etcd keeps
    accepting that CA's certificates. The old and the renewed CA may have the same name.

    Spec: RFC 8446 section 4.2.4
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.announced-ca-expected
    Severity: low
    Level: SHOULD
    Remediation: once every client has a certificate of the new CA, remove the old one from
        --{peer}trusted-ca-file and restart etcd.
    """
    names = announced.most
    if len(names) > 1:
        yield Finding(
            message=f"{len(names)} CAs are announced",
            expected="one CA",
            observed=name_list(names),
            reproduce=(s_client(here.url, look=ANNOUNCED),),
        )


_answered = changed("plaintext.tries.*", **SERVED, first_bytes=b"HTTP/1.1 200 OK")


@check("mtls.plaintext-refused", on=EVERY_LISTENER, counterexample=_answered, cure=https)
def plain_http_is_refused(
    here: Listener, plaintext: Plaintext, other: OtherPort | None
) -> Iterator[Statement]:
    """Plain HTTP requests get no answer.

    etcd applies no TLS flags to an http listener. Such a listener accepts every client, even on the same port
    as an https listener. With --listen-client-http-urls an http client URL serves gRPC alone, which answers
    with HTTP/2.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 2.1, 2.4
    Spec: etcd --listen-{role}-urls
    Follows: config.http-listener-beside-tls, config.listeners-as-declared, cluster.peer-urls-https
    Severity: critical
    Level: MUST
    Remediation: name https URLs only in --listen-{role}-urls, with --{peer}cert-file, --{peer}key-file,
        --{peer}client-cert-auth=true and --{peer}trusted-ca-file.
    """
    if here.role is Role.METRICS and here.scheme == "http":
        yield not_applicable("a metrics listener may use plain HTTP")
        return
    if other is not None and other.is_proxy:
        who, remediation = "; every client reaches etcd as the proxy does", _BY_THE_GRPC_PROXY
    else:
        who = remediation = ""
    attempt, over_http2 = plaintext.attempt, plaintext.over_http2
    if over_http2 is not None and over_http2.is_http2:
        attempt = over_http2
    response = attempt.response
    another = plaintext.tls_works and response is not None and not is_of_etcd(response)
    if attempt.answers_plaintext and response is not None and another:
        reason = f"plain HTTP: what answers is not etcd: HTTP {response.status}, '{response.excerpt(60)}'"
        yield inconclusive(reason)
    elif attempt.is_http and not attempt.answers_plaintext:
        yield Note(f"a page is the answer to plain HTTP, not a response of etcd: {attempt.describe()}")
    elif attempt.is_http2:
        yield Finding(
            message=f"{'gRPC' if here.role is Role.CLIENT else 'HTTP/2'} is served in plaintext{who}",
            expected="the connection is closed without a byte of an answer",
            observed="an HTTP/2 SETTINGS frame",
            evidence={"first bytes": attempt.first_text},
            reproduce=(etcdctl(in_plaintext(here.url)),),
            remediation=remediation,
        )
    elif attempt.is_http:
        yield Finding(
            message=f"plain HTTP is answered{who}",
            expected="the connection is closed without a byte of an answer",
            observed=attempt.describe(),
            evidence={"first bytes": attempt.first_text},
            reproduce=(curl(in_plaintext(here.url), look=IN_PLAINTEXT),),
            remediation=remediation,
        )
    elif attempt.first_bytes and not attempt.first_bytes.startswith(_TLS_ALERT):
        yield inconclusive(f"plain HTTP: what answers is neither TLS nor HTTP: '{attempt.first_text}'")
    elif not plaintext.tls_works or not (
        attempt.first_bytes or attempt.stream_end in ("end of stream", "reset")
    ):
        yield inconclusive(f"plain HTTP: {attempt.describe()}")


_BY_THE_GRPC_PROXY = "start the proxy with --cert-file, --key-file and --trusted-ca-file"


def _refused(client: AcceptedClient, **_: object) -> Mapping[str, Any]:
    refused = altered(client, EVERY_TRY, ending=Ending.REFUSED, alert=42, response=None)
    return {"client": replace(refused, accepted=None)}


@check("mtls.trusted-client", on=EVERY_LISTENER, counterexample=_refused, cure=trusted_ca)
def a_trusted_client_is_accepted(
    here: Listener,
    client: AcceptedClient,
    unauthenticated: Annotated[AccessMatrix, "none"],
    grounds: RefusalGrounds,
    files: DeclaredFiles | None,
) -> Iterator[Statement]:
    """A client with a good certificate is accepted.

    Otherwise the cluster's clients have no access, and refusals of bad identities prove nothing, since this
    is their control. The reason is looked for in the certificates, by the rules of Go's verifier. The alert
    is 45 for a certificate or a CA that has expired, 48 if no path leads to a trusted CA, 50 for a
    certificate that Go 1.25 and newer does not parse, 42 for anything else; up to Go 1.19 it is 42 for all.
    If etcd closes the connection after the handshake, the cause is a revocation list: an unreadable one, a
    PEM one on etcd 3.6 and newer, or one with the serial number of a certificate that the client sends. On
    peer and metrics ports it can also be the rule that a certificate's SANs must cover the client's address.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: etcd --{peer}trusted-ca-file, --{side}-crl-file
    Follows: mtls.announced-ca-present, mtls.announced-ca-expected, config.crl-missing, config.crl-encoding,
        config.chain-closes, config.client-auth-without-ca, config.allowed-names-as-one,
        config.trusted-ca-in-force, config.peer-trusted-ca-in-force, config.trusted-ca-usable,
        listener.is-etcd
    Severity: critical
    Level: MUST
    Remediation: give etcd the CA of its clients with --{peer}trusted-ca-file (read only at start), and give
        clients valid certificates of that CA with clientAuth.
    """
    if not client.candidates and unauthenticated.cases.accepted:
        yield not_applicable("clients without a certificate are accepted, see mtls.no-certificate")
        return
    if not client.candidates:
        side = here.role.prefix
        yield not_verified(needs("a client certificate", f"--etcd-{side}cert", f"--etcd-{side}key"))
        return
    accepted = client.accepted
    if accepted is not None:
        for candidate in client.candidates:
            if candidate is not accepted and not candidate.issued and not candidate.borrowed:
                yield from _beside(here, client, candidate, accepted, grounds, files)
        if accepted.cases.over(*accepted.served_protocols).ended(*_FAILED):
            yield _not_accepted(client, accepted, grounds, files)
        yield Note(f"accepted: {accepted.identity} ({accepted.origin})")
        return
    rest = [candidate for candidate in client.candidates if not client.closed_by_san_rule(candidate)]
    if len(rest) < len(client.candidates):
        # TLS accepts the user's certificate. An issued one may lack a name that etcd allows.
        rest = [
            candidate
            for candidate in rest
            if not (candidate.issued and candidate.endings == {Ending.REFUSED})
        ]
    by_rule = [candidate for candidate in client.candidates if client.closed_by_san_rule(candidate)]
    if not rest:
        yield not_verified(_by_san_rule(here, by_rule[0]))
    elif all(candidate.excluded and candidate.endings == {Ending.REFUSED} for candidate in rest):
        option = f"--etcd-{here.role.prefix}cert"
        text = _excluded(rest[0].identity)
        yield not_verified(missing(text, option, passing=f"{option} with one that it allows"))
    elif failed := [
        candidate
        for candidate in rest
        if candidate.endings & {Ending.REFUSED, Ending.CLOSED} or _is_unparsable(candidate, grounds)
    ]:
        wrong = [candidate for candidate in failed if not candidate.borrowed]
        # A list that does not name the client closes its connections only if etcd cannot read the list.
        wrong += [
            candidate for candidate in failed if candidate.revocation in _NOT_REVOKED and _closed(candidate)
        ]
        if wrong and all(_may_lack_names(candidate, grounds) for candidate in wrong):
            side = here.role.prefix
            options = (f"--etcd-{side}cert", f"--etcd-{side}key", "--etcd-config")
            text = f"{_ISSUED} is refused by alert 42, as where etcd allows certain names only"
            passing = "{} and {} of a client, or {}".format(*options)
            yield not_verified(missing(text, *options, passing=passing))
        elif wrong:
            yield _not_accepted(client, wrong[0], grounds, files)
        elif own := [candidate for candidate in by_rule if not candidate.borrowed]:
            yield not_verified(_by_san_rule(here, own[0]))
        elif all(map(_closed, failed)):
            text = (
                "TLS accepted the client port's certificate and etcd closed the connection: the peers' "
                "revocation list contains it, or etcd cannot read that list"
            )
            yield not_verified(missing(text, *_OF_PEERS))
        else:
            text = "the client port's certificate is refused, as expected where peers have a separate CA"
            yield not_verified(missing(text, *_OF_PEERS))
    else:
        yield inconclusive(f"{rest[0].identity}: {rest[0].attempts[0].describe()}")


_FAILED = frozenset({Ending.REFUSED, Ending.CLOSED, Ending.OTHER})
"""How attempts of a client end that the server does not accept."""

_ISSUED = "the client that the run issued with the CA key"

_NOT_REVOKED = (Revocation.NO_LIST, Revocation.NOT_LISTED)

_SHOWN_NAMES = 4
"""Maximum number of a certificate's names that are shown."""


_OF_PEERS = ("--etcd-peer-cert", "--etcd-peer-key")


def _excluded(who: str) -> str:
    return f"a declared rule about names excludes the certificate of {who}, which is refused"


def _by_san_rule(here: Listener, candidate: Candidate) -> Reason:
    """Return why etcd closed the connections of a client, and what to do."""
    names = some(subject_alt_names(candidate.chain[0]), _SHOWN_NAMES)
    ours = local_host(candidate.cases.ended(Ending.CLOSED).attempts[0])
    is_known = ours and not here.is_forwarded
    machine = f"this machine is {ours}" if is_known else "etcd sees the address of what forwards"
    option = f"--etcd-{here.role.prefix}cert"
    ending = (
        f": {candidate.origin} names {names} and {machine}: run on the member, or pass {option} with a "
        f"certificate of the {here.role} CA without SANs"
    )
    patterns = [name for name in details(candidate.chain[0]).texts(DNS) if name.startswith("*.")]
    if patterns and is_known:
        ending = (
            f": {candidate.origin} names {names}, so etcd makes a reverse lookup of {ours}, and finds "
            f"no name below {patterns[0][2:]}: give {ip_address(ours).reverse_pointer} such a name (PTR), or "
            f"pass {option} with a certificate that names {ours}, or without SANs"
        )
    return missing("etcd closed the connection, as its SAN rule explains", option, ending=ending)


def _may_lack_names(candidate: Candidate, grounds: RefusalGrounds) -> bool:
    """Whether a client that the run issued is refused, and nothing but names that etcd allows can be why."""
    return candidate.issued and is_unexplained(candidate, candidate.cases.ended(*_FAILED).attempts, grounds)


def _closed(candidate: Candidate) -> bool:
    return candidate.endings == {Ending.CLOSED}


def _beside(
    here: Listener,
    client: AcceptedClient,
    candidate: Candidate,
    accepted: Candidate,
    grounds: RefusalGrounds,
    files: DeclaredFiles | None,
) -> Iterator[Statement]:
    """Judge a good identity on a listener that does not accept it and accepts another one."""
    who = f"{candidate.identity} ({candidate.origin})"
    cases = candidate.cases.over(*accepted.served_protocols)
    if candidate.excluded and cases.endings == {Ending.REFUSED}:
        yield not_verified(missing(_excluded(who), passing="one that it allows"))
    elif client.closed_by_san_rule(candidate):
        # etcd reads its revocation list, since it accepts the other client.
        if candidate.san_rule is SANRule.CLOSES or candidate.revocation is Revocation.NOT_LISTED:
            yield Note(f"{who} is closed by etcd's SAN rule: its SANs do not cover this client's address")
        else:
            yield not_verified(_by_san_rule(here, candidate))
    elif cases.ended(*_FAILED):
        yield _not_accepted(client, candidate, grounds, files)
    else:
        yield inconclusive(f"{who}: {candidate.attempts[0].describe()}")


def _is_unparsable(candidate: Candidate, grounds: RefusalGrounds) -> bool:
    """Whether Go 1.25 and newer refuses it, by decode_error, since it does not parse a certificate of it."""
    alerts = {attempt.alert for attempt in candidate.attempts}
    return alerts == {DECODE_ERROR} and is_unparsable(candidate.chain, grounds)


def _not_accepted(
    client: AcceptedClient, candidate: Candidate, grounds: RefusalGrounds, files: DeclaredFiles | None
) -> Statement:
    bad = candidate.cases.ended(*_FAILED)
    if client.accepted is not None:
        bad = bad.over(*client.accepted.served_protocols)
    if bad.endings == {Ending.CLOSED}:
        outcome, reason = "accepted by TLS and closed by etcd", _why_closed(client, candidate, grounds)
    else:
        outcome, reason = "refused", why_refused(candidate, bad.attempts, grounds)
    pairs = (pair for member in (files.members if files else ()) for pair in member.pairs)
    own = next((pair for pair in pairs if pair.chain[:1] == candidate.chain[:1]), None)
    if own and reason.cause in (Cause.EXPIRED, Cause.NOT_YET_VALID):
        see = "config.dials-with-valid-certificates" if own.dials else "cert.valid-now"
        return not_applicable(f"{own.certificate.said} is etcd's own, and {reason.why}: see {see}")
    given = f"your client certificate {candidate.identity} ({candidate.origin})"
    who = _ISSUED if candidate.issued else given
    return Finding(
        message=f"{who} is {outcome}: {reason.why}",
        remediation=reason.remedy,
        expected="an answer to every request",
        observed=observed_in(bad),
        evidence={"identity": candidate.identity},
        reproduce=commands_for(bad[:1]),
    )


def _why_closed(client: AcceptedClient, candidate: Candidate, grounds: RefusalGrounds) -> Refused:
    if grounds.revocation and (reason := by_list(candidate.chain, grounds.revocation)):
        return reason
    why = (
        "its revocation list is unreadable, is PEM on 3.6 or newer, or has the serial number of a "
        "certificate that this client sends"
    )
    remedy = (
        "give a --{side}-crl-file that exists, is DER encoded and names no certificate that this client sends"
    )
    if client.san_rule and candidate.has_names:
        why += "; its SANs cover this client's address, unless something forwards the connection"
        remedy += "; behind NAT or a published container port, use a certificate without SANs"
    return Refused(why, remedy)
