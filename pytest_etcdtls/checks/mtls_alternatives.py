"""The policy for clients is the same on every way to a listener: under every name, at every address."""

from collections.abc import Iterator

from pytest_etcdtls.checks.judgement import SERVED, changed
from pytest_etcdtls.checks.registry import EVERY_LISTENER, check
from pytest_etcdtls.checks.results import Finding, Level, Note, Statement, not_verified
from pytest_etcdtls.declared.declaration import authority
from pytest_etcdtls.errors import missing
from pytest_etcdtls.facts.alternatives import OtherAddress, ServerAddresses, ServerNames
from pytest_etcdtls.facts.refusal import is_of_etcd
from pytest_etcdtls.pki.certificate import name_list, read_name
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending
from pytest_etcdtls.tls.command import ANNOUNCED, GET_VERSION, Command, s_client

_ACCEPTED = 'an HTTP status line: a client without a certificate is accepted; "alert": it is refused'


_open_under_a_name = changed("names.others.0.tries.*", **SERVED, certificate_requested=False)


@check("mtls.same-for-every-name", on=EVERY_LISTENER, counterexample=_open_under_a_name)
def every_server_name_has_the_same_policy(here: Listener, names: ServerNames) -> Iterator[Statement]:
    """Neither the server name nor the protocols that a client sends decide whether it is accepted.

    etcd has one policy for each port. A proxy in front of it may choose by the name in the ClientHello (SNI)
    or the protocols there (ALPN), and pass one of them to an etcd that accepts every client. Any client can
    send them. The other checks send the name in the URL, and offer no protocol or h2 alone. This one connects
    without a certificate under the names of the served certificate, localhost, an unknown name and none, and
    offers http/1.1, and h2 with http/1.1.

    Spec: RFC 6066 section 3
    Spec: RFC 7301 section 3.1
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: etcd --{peer}client-cert-auth
    Follows: mtls.no-certificate
    Severity: critical
    Level: MUST, SHOULD where only the certificate request differs
    Remediation: let clients reach etcd's own --listen-{role}-urls, not a proxy that chooses by the server
        name or protocol; or require certificates behind each.
    """
    seen = [name for name in (names.usual, *names.others) if name.answers]
    accepted = [name for name in seen if _is_accepted(name.attempt)]
    refused = [name for name in seen if name.attempt.ending in (Ending.REFUSED, Ending.CLOSED)]
    different = [name for name in seen if name.request != names.usual.request]
    if accepted and refused:
        sometimes = (
            "" if names.steady else "; the same hello gets different answers, several servers may answer"
        )
        yield Finding(
            message=f"a client without a certificate is accepted with {accepted[0].way}{sometimes}",
            expected=f"refused as with {refused[0].way}",
            observed="; ".join(f"{name.way}: {name.attempt.describe()}" for name in seen),
            reproduce=tuple(
                s_client(here.url, options=name.options, typed=GET_VERSION, look=_ACCEPTED)
                for name in (accepted[0], refused[0])
            ),
        )
    elif different and not names.steady:
        yield not_verified(
            "the same hello gets different certificate requests: several servers answer in turn. Name each "
            "member by its own address"
        )
    elif different:
        yield Finding(
            message=f"the certificate request is another with {different[0].way}: a proxy chooses by it",
            expected=f"{names.usual.way}: {_request(names.usual.attempt)}, for every name and protocol",
            observed="; ".join(f"{name.way}: {_request(name.attempt)}" for name in different),
            level=Level.SHOULD,
            reproduce=tuple(
                s_client(here.url, options=one.options, look=ANNOUNCED) for one in (names.usual, different[0])
            ),
        )
    if names.untried:
        yield Note(f"{len(names.untried)} further names of the certificate were not tried")


def _is_accepted(attempt: Attempt) -> bool:
    """Return whether etcd answered; a proxy's own answer grants no access."""
    response = attempt.response
    return attempt.ending is Ending.SERVED and response is not None and is_of_etcd(response)


def _request(made: Attempt) -> str:
    if not made.certificate_requested:
        return "no client certificate is requested"
    return f"a certificate of {name_list(map(read_name, made.announced_ca)) or 'any CA'} is requested"


_open_at_an_address = changed("addresses.others.0.tls.*", **SERVED, certificate_requested=False)


@check("mtls.same-for-every-address", on=EVERY_LISTENER, counterexample=_open_at_an_address)
def every_address_has_the_same_policy(here: Listener, addresses: ServerAddresses) -> Iterator[Statement]:
    """Every address of the host in the URL refuses clients without a certificate.

    A name may have several addresses: several records in DNS, or localhost in both families. There may be
    another etcd behind each, and clients connect to any of them. All other checks judge one address. This one
    connects to the others without a certificate, and compares the certificate request. An address that
    accepts no connection is no fault.

    Spec: RFC 1034 section 3.6
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: etcd --{peer}client-cert-auth
    Follows: mtls.no-certificate
    Severity: critical
    Level: MUST, SHOULD where only the certificate request differs
    Remediation: set --{peer}client-cert-auth=true and --{peer}trusted-ca-file on the etcd of every address,
        or remove the address of the other server from the name.
    """
    host, port = here.address
    judged = f"judged: {addresses.judged}"
    for other in addresses.others:
        opened = [made for made in other.attempts if _is_accepted(made)]
        different = list(_with_another_request(addresses, other))
        if opened:
            yield Finding(
                message=f"{other.address} ({host}) accepts a client without a certificate",
                expected=f"refused at every address ({judged})",
                observed="; ".join(
                    f"{made.offered_version or 'plain HTTP'}: {made.describe()}" for made in opened
                ),
                reproduce=(_show(here, other, _ACCEPTED),),
            )
        elif different:
            yield Finding(
                message=f"{other.address} ({host}) requests other client certificates",
                expected=f"the same certificate request at every address ({judged})",
                observed="; ".join(f"{made.offered_version}: {_request(made)}" for made in different),
                level=Level.SHOULD,
                reproduce=(_show(here, other, ANNOUNCED),),
            )
    rest = [other.address for other in addresses.others if other.connects] + list(addresses.untried)
    if rest:
        others = f"{', '.join(rest)} ({judged}). Judge each in a run of its own"
        text = f"{host} has other addresses, judged by their first contact only: {others}"
        passing = f"--etcd-connect-to {here.authority}:{authority(rest[0], port)}"
        yield not_verified(missing(text, "--etcd-connect-to", passing=passing))
    for other in addresses.others:
        if not other.connects:
            yield Note(f"{other.address}: {other.tls[0].describe()}")


def _with_another_request(addresses: ServerAddresses, other: OtherAddress) -> Iterator[Attempt]:
    usual = {attempt.offered_version: attempt for attempt in addresses.usual}
    for made in other.tls:
        known = usual.get(made.offered_version)
        if known is None or None in (made.certificate_requested, known.certificate_requested):
            continue
        if made.certificate_requested != known.certificate_requested or (
            {*made.announced_ca} != {*known.announced_ca}
        ):
            yield made


def _show(here: Listener, other: OtherAddress, look: str) -> Command:
    there = (other.address, here.address[1])
    return s_client(here.url, typed=GET_VERSION, look=look, connect_to=there)
