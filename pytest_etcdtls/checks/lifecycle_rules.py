"""Rules about names, TLS parameters and users, tested on clusters that are started for this.

Each experiment stands before its checks.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pytest_etcdtls.checks.expectations import (
    ACCEPTED,
    NO_HANDSHAKE,
    REFUSED,
    REFUSED_OR_CLOSED,
    Expected,
    attempts_changed,
    experiment_check,
    finding,
)
from pytest_etcdtls.checks.judgement import changed
from pytest_etcdtls.checks.registry import check
from pytest_etcdtls.checks.results import Finding, Statement, inconclusive
from pytest_etcdtls.facts.experiments import (
    Experiment,
    ExperimentAttempt,
    ForeignMember,
    Step,
)
from pytest_etcdtls.lifecycle.settings import ADMITTED, LISTED
from pytest_etcdtls.pki.identities import WRONG_ADDRESS
from pytest_etcdtls.pki.profile import PEER
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.tls.attempt import Response
from pytest_etcdtls.tls.command import STATUS, Command, curl, etcdctl, s_client

if TYPE_CHECKING:
    from pytest_etcdtls.lifecycle.lab import Lab

_STARTED = "started"


def _curl(port: int, where: str) -> Command:
    look = f"an HTTP status line: the client is accepted ({where})"
    return curl(f"https://127.0.0.1:{port}", client="other", look=look)


def _with_hostnames(lab: "Lab", who: str, role: Role, done: str, *addresses: str) -> Step:
    """Connect to a port with the allowed hostname, with another, and with none."""
    named = lab.issue(role, "named", subject_alt_names=(ADMITTED, *addresses))
    other = lab.issue(role, "other-name", subject_alt_names=("other.invalid", *addresses))
    nameless = lab.issue(role, "no-name", common_name=ADMITTED)
    clients = {
        f"{who} with the hostname": {role: named},
        f"{who} with another hostname": {role: other},
        f"{who} with the hostname as common name only": {role: nameless},
    }
    return lab.step(_STARTED, f"etcd was started to allow {ADMITTED}{done}", clients)


@experiment_check(
    "allowed-hostname",
    Expected(_STARTED, "client with the hostname", ACCEPTED),
    Expected(_STARTED, "client with another hostname", REFUSED),
    Expected(_STARTED, "client with the hostname as common name only", REFUSED),
    reproduce=(_curl(2379, "etcd runs with --client-cert-allowed-hostname"),),
)
def only_clients_with_the_hostname_are_accepted(lab: "Lab") -> Iterator[Step]:
    """--client-cert-allowed-hostname refuses certificates without that hostname.

    Where one CA issues certificates for many purposes, only the hostname distinguishes etcd's clients from
    others. A hostname in the common name alone does not count.

    Spec: etcd --client-cert-allowed-hostname
    Spec: RFC 6125 section 6.4.4
    Severity: high
    Level: MUST
    Remediation: do not rely on --client-cert-allowed-hostname with this etcd; give etcd's clients a CA of
        their own.
    """
    yield _with_hostnames(lab, "client", Role.CLIENT, "")


@experiment_check(
    "peer-allowed-cn",
    Expected(_STARTED, "peer with the common name", ACCEPTED),
    Expected(_STARTED, "peer with another common name", REFUSED),
    Expected(_STARTED, "peer without a common name", REFUSED),
    reproduce=(_curl(2380, "etcd runs with --peer-cert-allowed-cn"),),
)
def only_peers_with_the_common_name_are_accepted(lab: "Lab") -> Iterator[Step]:
    """--peer-cert-allowed-cn refuses peer certificates with another common name.

    Where one CA issues certificates for clients and peers, only this rule refuses clients on the peer port.

    Spec: etcd --peer-cert-allowed-cn
    Spec: etcd tests, TestEtcdPeerCNAuth
    Severity: high
    Level: MUST
    Remediation: do not rely on --peer-cert-allowed-cn with this etcd; give the peers a CA of their own.
    """
    role = Role.PEER
    clients = {
        "peer with the common name": {role: lab.issue(role, "named")},
        "peer with another common name": {role: lab.issue(role, "other-cn", common_name="another-peer")},
        "peer without a common name": {role: lab.issue(role, "no-cn", common_name=None, organization="etcd")},
    }
    yield lab.step(_STARTED, f"etcd was started to allow {PEER.common_name}", clients)


@experiment_check(
    "peer-allowed-hostname",
    Expected(_STARTED, "peer with the hostname", ACCEPTED),
    Expected(_STARTED, "peer with another hostname", REFUSED),
    Expected(_STARTED, "peer with the hostname as common name only", REFUSED),
    reproduce=(_curl(2380, "etcd runs with --peer-cert-allowed-hostname"),),
)
def only_peers_with_the_hostname_are_accepted(lab: "Lab") -> Iterator[Step]:
    """--peer-cert-allowed-hostname refuses peer certificates without that hostname.

    Where one CA issues certificates for clients and peers, only this rule refuses clients on the peer port.

    Spec: etcd --peer-cert-allowed-hostname
    Spec: etcd tests, TestEtcdPeerNameAuth
    Severity: high
    Level: MUST
    Remediation: do not rely on --peer-cert-allowed-hostname with this etcd; give the peers a CA of their own.
    """
    # The peer port also requires that a certificate with SANs covers the client's address.
    us = lab.seen_as(Role.PEER)
    yield _with_hostnames(lab, "peer", Role.PEER, f"; the client's address is {us}", us)


@experiment_check(
    "peer-san",
    Expected(_STARTED, "peer with our address", ACCEPTED),
    Expected(_STARTED, "peer with our address among others", ACCEPTED),
    Expected(_STARTED, "peer without a name", ACCEPTED),
    Expected(_STARTED, "peer with another address", REFUSED_OR_CLOSED),
    reproduce=(_curl(2380, "other.crt has the subjectAltName IP:192.0.2.1"),),
)
def a_peer_is_accepted_only_from_its_addresses(lab: "Lab") -> Iterator[Step]:
    """A peer whose certificate has SANs is accepted only from these addresses.

    Otherwise a stolen member key works from any address. A certificate without SANs is accepted from
    anywhere. etcd closes a refused connection after the handshake, without an alert.

    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Spec: etcd --peer-skip-client-san-verification
    Severity: high
    Level: MUST
    Remediation: do not set --peer-skip-client-san-verification (up to 3.5 with experimental- before it).
    """
    us = lab.seen_as(Role.PEER)
    named = {
        "peer with another address": (WRONG_ADDRESS,),
        "peer with our address": (us,),
        "peer with our address among others": (WRONG_ADDRESS, us),
        "peer without a name": (),
    }
    clients = {
        who: {Role.PEER: lab.issue(Role.PEER, "peer", subject_alt_names=names)}
        for who, names in named.items()
    }
    yield lab.step(_STARTED, f"the client's address is {us}", clients)


_CLIENT_PORT = "https://127.0.0.1:2379"
_REFUSED = '"alert": refused, as it should be'
_TLS12, _TLS13 = "good client offering TLSv1.2 only", "good client offering TLSv1.3 only"


def _versions(lab: "Lab") -> Iterator[Step]:
    """Offer each TLS version separately, on both ports."""
    attempts = (
        lab.attempt(f"good client offering {version} only", role, identity, version=version)
        for role, identity in lab.good_clients.items()
        for version in TLSVersion
    )
    done = f"etcd was started with {' '.join(lab.flags)}"
    yield Step(name=_STARTED, done=done, attempts=tuple(attempts))


@experiment_check(
    "version-floor",
    Expected(_STARTED, _TLS13, ACCEPTED),
    Expected(_STARTED, _TLS12, NO_HANDSHAKE),
    reproduce=(s_client(_CLIENT_PORT, TLSVersion.TLS1_2, look=f"{_REFUSED} with --tls-min-version=TLS1.3"),),
)
def no_version_below_the_minimum_is_negotiated(lab: "Lab") -> Iterator[Step]:
    """With --tls-min-version=TLS1.3 neither port accepts TLS 1.2.

    Clients could otherwise still negotiate the version that the flag excludes.

    Spec: etcd --tls-min-version
    Spec: etcd tests, TestTLSMinMaxVersion
    Spec: RFC 8446 section 4.2.1
    Severity: high
    Level: MUST
    Remediation: do not rely on --tls-min-version with this etcd; a proxy in front of it can refuse TLS 1.2.
    """
    return _versions(lab)


@experiment_check(
    "version-ceiling",
    Expected(_STARTED, _TLS12, ACCEPTED),
    Expected(_STARTED, _TLS13, NO_HANDSHAKE),
    reproduce=(s_client(_CLIENT_PORT, TLSVersion.TLS1_3, look=f"{_REFUSED} with --tls-max-version=TLS1.2"),),
)
def no_version_above_the_maximum_is_negotiated(lab: "Lab") -> Iterator[Step]:
    """With --tls-max-version=TLS1.2 neither port accepts TLS 1.3.

    The flag is set for middleboxes that do not support TLS 1.3, or for cipher suites, which etcd cannot
    configure in TLS 1.3. Neither works if TLS 1.3 is negotiated.

    Spec: etcd --tls-max-version
    Spec: etcd tests, TestTLSMinMaxVersion
    Severity: medium
    Level: MUST
    Remediation: do not rely on --tls-max-version with this etcd.
    """
    return _versions(lab)


_UNLISTED = {
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
}
"""Every etcd offers them by default."""


@experiment_check(
    "cipher-suites",
    *(Expected(_STARTED, f"good client offering {suite} only", ACCEPTED) for suite in LISTED),
    *(Expected(_STARTED, f"good client offering {suite} only", NO_HANDSHAKE) for suite in _UNLISTED),
    reproduce=(
        s_client(
            _CLIENT_PORT,
            TLSVersion.TLS1_2,
            "-cipher ECDHE-ECDSA-AES256-GCM-SHA384",
            look=f"{_REFUSED} with --cipher-suites without this suite",
        ),
    ),
)
def only_listed_suites_are_accepted(lab: "Lab") -> Iterator[Step]:
    """With --cipher-suites both ports accept only the listed suites in TLS 1.2.

    A suite that was left out on purpose would remain in use, or a listed one would not work. TLS 1.3 has
    suites of its own, which the flag does not affect.

    Spec: etcd --cipher-suites
    Spec: etcd tests, TestTLSClientCipherSuitesMismatch
    Spec: RFC 5246 section 7.4.1.3
    Severity: medium
    Level: MUST
    Remediation: do not rely on --cipher-suites with this etcd; --tls-min-version=TLS1.3 excludes all suites
        of TLS 1.2.
    """
    attempts = (
        lab.attempt(
            f"good client offering {suite} only", role, identity, version=TLSVersion.TLS1_2, suites=name
        )
        for role, identity in lab.good_clients.items()
        for suite, name in (LISTED | _UNLISTED).items()
    )
    done = f"etcd was started with {' '.join(lab.flags)}"
    yield Step(name=_STARTED, done=done, attempts=tuple(attempts))


_GRPC, _GATEWAY = "over gRPC", "over the gateway"
_READER = "certificate with the user's name, key that the user may read"
_TOKEN = "token of root"  # noqa: S105 - names a client


_DENIED = Response(status=200, headers={"grpc-status": "7"})


@check("lifecycle.cn-is-user", on=set(), counterexample=attempts_changed(_GRPC, _READER, response=_DENIED))
def the_common_name_is_the_user(experiment: Annotated[Experiment, "users"]) -> Iterator[Statement]:
    """With authentication on, a certificate's common name is the gRPC user name.

    Clients that use certificates instead of passwords would lose their rights or get another user's. No
    password is needed: a client whose certificate has the name of a user has that user's rights, and any
    other has none.

    Spec: etcd Documentation, role-based access control, TLS common name
    Spec: etcd tests, TestCtlV3AuthCertCN
    Severity: high
    Level: MUST
    Remediation: use passwords or tokens with this etcd, and check what --client-cert-auth does in it: without
        it no certificate is a user.
    """
    attempts = experiment.step(_GRPC).attempts
    yield from _unanswered(attempts)
    for made in attempts:
        response = made.attempt.response
        status = response.headers.get("grpc-status") if response is not None else None
        if status is not None and (status == "0") != (made.who == _READER):
            yield finding(
                experiment,
                _GRPC,
                [made],
                message=f"{made.who}: the key {'is read' if status == '0' else 'cannot be read'}",
                expected="the key is read" if made.who == _READER else "permission denied",
                reproduce=(
                    etcdctl(
                        _CLIENT_PORT,
                        "reader",
                        "get granted",
                        'the key, or "permission denied"',
                    ),
                ),
            )


def _unanswered(attempts: tuple[ExperimentAttempt, ...]) -> Iterator[Statement]:
    for made in attempts:
        if made.attempt.response is None:
            yield inconclusive(made.describe())


@check(
    "lifecycle.cn-ignored-by-gateway",
    on=set(),
    counterexample=attempts_changed(
        _GATEWAY, "certificate without a common name", response=Response(status=200)
    ),
)
def the_gateway_derives_no_user_from_a_certificate(
    experiment: Annotated[Experiment, "users"],
) -> Iterator[Statement]:
    """With authentication on, the JSON gateway derives no user from a certificate.

    The gateway connects to etcd with the server's certificate. Before 3.3.11 etcd took that certificate's
    common name as the user, so every client of the gateway had that user's rights.

    Spec: CVE-2018-16886
    Spec: etcd Documentation, role-based access control, TLS common name
    Spec: etcd tests, TestCurlV3AuthClientTLSCertAuth
    Severity: critical
    Level: MUST
    Remediation: disable the gateway with --enable-grpc-gateway=false, and let no user have the name in the
        certificate of --cert-file.
    """
    attempts = experiment.step(_GATEWAY).attempts
    yield from _unanswered(attempts)
    for made in attempts:
        response = made.attempt.response
        if response is None:
            continue
        served = response.status == 200
        if made.who == _TOKEN and not served:
            yield inconclusive(f"the gateway serves no client: {made.describe()}")
        if made.who != _TOKEN and served:
            yield finding(
                experiment,
                _GATEWAY,
                [made],
                message=f"{made.who}: the gateway reads a key",
                expected="refused without a token",
                reproduce=(
                    curl(
                        _CLIENT_PORT,
                        path="/v3/kv/range",
                        client="client",
                        protocol=Protocol.GATEWAY,
                        body='{"key": "Z3JhbnRlZA=="}',
                        look='"kvs": the key is read without a token, while authentication is on',
                    ),
                ),
            )


_BY_GATEWAY = "good client by the gateway"


def _not_by_gateway(experiment: Experiment) -> Iterator[Statement]:
    attempts = experiment.step(_STARTED).of(_BY_GATEWAY)
    yield from _unanswered(attempts)
    others = [made for made in attempts if made.attempt.response and made.attempt.response.status != 200]
    if others:
        yield finding(
            experiment,
            _STARTED,
            others,
            message="the gateway does not work with its own client certificate",
            expected="HTTP 200",
            reproduce=(curl(_CLIENT_PORT, client="client", protocol=Protocol.GATEWAY, look=STATUS),),
        )


@experiment_check(
    "separate-client-certificate",
    Expected(_STARTED, "good client", ACCEPTED, control=True),
    also=_not_by_gateway,
    counterexample=attempts_changed(_STARTED, _BY_GATEWAY, response=Response(status=503)),
)
def the_gateway_uses_its_own_client_certificate(lab: "Lab") -> Iterator[Step]:
    """With --client-cert-file the gateway works with a server-only certificate.

    Without that flag etcd connects to its own port with the served certificate, which then needs the usage
    clientAuth in addition to serverAuth. Many CAs no longer issue such certificates.

    Spec: etcd --client-cert-file, --client-key-file
    Spec: RFC 5280 section 4.2.1.12
    Severity: medium
    Level: MUST
    Remediation: issue the certificate of --cert-file with the usages serverAuth and clientAuth.
    """
    client = lab.cluster.pki.client
    yield Step(
        name=_STARTED,
        done="etcd serves a certificate for servers only and was given another one to dial with",
        attempts=(
            lab.attempt("good client", Role.CLIENT, client),
            lab.attempt(_BY_GATEWAY, Role.CLIENT, client, Protocol.GATEWAY),
        ),
    )


_joined = changed("member", rejected="", joined=True)


@check("lifecycle.member-with-foreign-certificate-cannot-join", on=set(), counterexample=_joined)
def a_member_with_a_foreign_certificate_does_not_join(member: ForeignMember) -> Iterator[Statement]:
    """A member with a peer certificate of another CA cannot join the cluster.

    A member holds the whole key space and has a vote. The check also expects the member to join again with
    its own certificate.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: etcd --peer-client-cert-auth, --peer-trusted-ca-file
    Spec: CIS Kubernetes 2.5
    Severity: critical
    Level: MUST
    Remediation: set --peer-client-cert-auth=true together with --peer-trusted-ca-file, and give
        --peer-cert-file explicitly.
    """
    if member.joined:
        yield Finding(
            message="a member with a peer certificate of another CA joins the cluster",
            expected="the other members refuse its connections",
            observed="it reports that it serves clients, which requires a leader",
            evidence={"etcd": member.etcd_version},
            reproduce=(
                "cp foreign.crt peer.crt; cp foreign.key peer.key\n# of one of three; restart that one",
            ),
        )
    elif not member.rejected:
        yield inconclusive("it did not join, and no other member has logged a refusal")
    elif not member.joined_again:
        yield inconclusive("the member does not join the cluster with its own certificate (peer.crt) either")
