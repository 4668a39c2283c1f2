"""What the served certificate may be used for: as a server, as a client where etcd dials, for signatures."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.admission import Acceptance, Candidate
from pytest_etcdtls.observations.attempt import Protocol, Response
from pytest_etcdtls.observations.chain import Dialling, ServedChain
from pytest_etcdtls.pki.auto_tls import is_generated
from pytest_etcdtls.pki.go_verify import allows_servers
from pytest_etcdtls.pki.profile import SERVER
from pytest_etcdtls.pki.reading import is_for, key_usages, purposes
from pytest_etcdtls.pki.specimen import specimen
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import STATUS, curl, show_leaf
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_UNAVAILABLE = 503
GENERATED = Verdict(Outcome.NOT_APPLICABLE, "etcd generated the certificate, see cert.generated")
"""What checks say of a certificate that is as etcd makes it, and is found by a check of its own."""


def _extended(chain: ServedChain) -> str:
    return f"extendedKeyUsage {', '.join(purposes(chain.leaf) or ()) or '(empty)'}"


def _for_clients_only(chain: ServedChain) -> Mapping[str, Any]:
    return {
        "chain": replace(chain, certificates=specimen(replace(SERVER, extended_key_usage=("clientAuth",))))
    }


@check("cert.server-usage", on=EVERY_LISTENER, counterexample=_for_clients_only)
def the_certificate_is_for_servers(chain: ServedChain) -> Iterator[Statement]:
    """The extended key usage, if there is one, allows serverAuth.

    Clients refuse the certificate otherwise. One without the extension may be used for everything.

    Spec: RFC 5280 section 4.2.1.12
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with extendedKeyUsage serverAuth, clientAuth.
    """
    if not allows_servers(chain.leaf):
        yield Finding(
            message="the certificate is not for servers",
            expected="extendedKeyUsage with serverAuth, or none",
            observed=_extended(chain),
            reproduce=(show_leaf(chain.url, '"Extended Key Usage"'),),
        )


def _no_digital_signature(chain: ServedChain) -> Mapping[str, Any]:
    return {
        "chain": replace(
            chain, certificates=specimen(replace(SERVER, key_usage=frozenset({"keyEncipherment"})))
        )
    }


@check("cert.key-usage", on=EVERY_LISTENER, counterexample=_no_digital_signature)
def the_key_may_sign(chain: ServedChain) -> Iterator[Statement]:
    """The key usage, if there is one, allows digitalSignature.

    A server signs in every handshake of TLS 1.3 and of TLS 1.2 with ECDHE. Go does not look at it, which is
    why such a certificate works with etcd and etcdctl; Java and BoringSSL refuse it, and OpenSSL does where
    keyEncipherment is missing as well.

    Spec: RFC 8446 section 4.4.2.2
    Spec: RFC 5280 section 4.2.1.3
    Severity: medium
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with keyUsage digitalSignature (and
        keyEncipherment for an RSA key).
    """
    usages = key_usages(chain.leaf)
    if usages is not None and "digitalSignature" not in usages:
        yield Finding(
            message="the key usage does not allow signatures",
            expected="keyUsage with digitalSignature, or none",
            observed=f"keyUsage {', '.join(sorted(usages)) or '(empty)'}",
            reproduce=(show_leaf(chain.url, '"Key Usage"'),),
        )


def _gateway_down(chain: ServedChain, acceptance: Acceptance, dialling: Dialling) -> Mapping[str, Any]:
    def down(candidate: Candidate) -> Candidate:
        unavailable = Response(status=_UNAVAILABLE, body=b'{"error":"tls: bad certificate","code":14}')
        tries = tuple(
            (version, speech, tuple(replace(attempt, response=unavailable) for attempt in made))
            for version, speech, made in candidate.tries
        )
        return replace(candidate, tries=tries)

    accepted = acceptance.accepted
    return {
        "chain": replace(chain, certificates=specimen(replace(SERVER, extended_key_usage=("serverAuth",)))),
        "acceptance": replace(acceptance, accepted=down(accepted) if accepted else None),
    }


@check(
    "cert.client-usage",
    on=frozenset({Role.CLIENT, Role.CLIENT_HTTP, Role.PEER}),
    counterexample=_gateway_down,
)
def the_certificate_is_for_clients_where_etcd_dials(
    chain: ServedChain, acceptance: Acceptance, dialling: Dialling
) -> Iterator[Statement]:
    """The extended key usage, if there is one, allows clientAuth where etcd dials with the certificate.

    The JSON gateway dials etcd's own client port with it, members dial each other with it. With serverAuth
    alone the gateway answers 503, and the member cannot join others. From 3.5 on etcd can be given another
    certificate for that; whether it was is seen at the gateway, but on the peer port not from outside: a
    cluster of several members is judged only if its configuration is known.

    Spec: RFC 5280 section 4.2.1.12
    Spec: etcd --{peer}cert-file, --{peer}client-cert-file
    Severity: high
    Level: MUST on peer, else SHOULD
    Remediation: issue the certificate of --{peer}cert-file with clientAuth beside serverAuth, or give etcd
        (3.5 and newer) a pair of its own to dial with: --{peer}client-cert-file and --{peer}client-key-file.
    """
    if is_for(chain.leaf, "clientAuth"):
        return
    if is_generated(chain.leaf):
        yield GENERATED
    elif dialling.with_another:
        yield Note("etcd dials with another certificate than the one that it serves")
    elif chain.role != Role.PEER:
        yield from _at_the_gateway(chain, acceptance)
    elif dialling.with_another is None and dialling.members != 1:
        yield Verdict(
            Outcome.NOT_VERIFIED,
            "it has no clientAuth, and members that have found each other may dial with another certificate: "
            "pass --etcd-config",
        )
    else:
        yield _not_for_clients(
            chain, "members cannot dial each other with it", show_leaf(chain.url, '"Extended Key Usage"')
        )


def _at_the_gateway(chain: ServedChain, acceptance: Acceptance) -> Iterator[Statement]:
    accepted = acceptance.accepted
    if accepted is None:
        yield Verdict(
            Outcome.NOT_VERIFIED, "it has no clientAuth; needs an accepted client to try the gateway"
        )
        return
    answers = [found.response for found in accepted.served if found.protocol is Protocol.GATEWAY]
    statuses = {response.status for response in answers if response is not None}
    if _UNAVAILABLE in statuses:
        line = curl(chain.url, role=chain.role, files=accepted.files, protocol=Protocol.GATEWAY, look=STATUS)
        yield _not_for_clients(chain, "the gateway answers 503", line)
    elif statuses:
        yield Note(
            "the gateway works all the same: it dials with another certificate, or nobody is asked for one"
        )
    else:
        yield Verdict(Outcome.NOT_APPLICABLE, f"{chain.url} has no gateway: HTTP is split off")


def _not_for_clients(chain: ServedChain, consequence: str, line: str) -> Finding:
    return Finding(
        message=f"the certificate is not for clients: {consequence}",
        expected="extendedKeyUsage with clientAuth as well, or none",
        observed=_extended(chain),
        reproduce=(line,),
    )
