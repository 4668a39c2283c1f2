"""Each client that the user named is judged on its own; the SAN rule excuses a close; every etcd is real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import judged
import pytest
from hostile.delaying_proxy import DelayingProxy
from judged import listener_of
from live.target_kinds import without_ca_keys
from oracle.crls import pem, signed, version_1
from starting import start_process

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.access import SAN_RULE_ROLES, AcceptedClient
from pytest_etcdtls.facts.refusal import SANRule, san_rule
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, Identity, OtherExtension, Profile
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.attempt import Ending

_LISTED = 4711
_UNPARSABLE = OtherExtension("2.5.29.17", bytes.fromhex("30038601ff"))
"""A subjectAltName with a URI that is not ASCII."""
_CA = CertificateAuthority.create("a CA")
"""Of a list etcd compares serial numbers and nothing else."""
_LIST = {"list": signed(_CA, _LISTED)}
BROKEN = ClusterConfig(metrics="https", expects_health=False)
CONFIG = replace(BROKEN, client_crl_file="list", peer_crl_file="list", extra_files=_LIST)
ROLES = (Role.CLIENT, Role.PEER, Role.METRICS)
AWAY, NOWHERE = "192.0.2.1", "etcd.invalid"


def _with_san(general_name: bytes) -> Profile:
    """Return a profile with one name of any type in its subjectAltName."""
    content = b"\x30" + bytes([len(general_name)]) + general_name
    return replace(CLIENT, other_extensions=(OtherExtension("2.5.29.17", content),))


COVERED = replace(CLIENT, subject_alt_names=("127.0.0.1",))
ELSEWHERE_ONLY = replace(CLIENT, subject_alt_names=(AWAY,))
UNRESOLVED = replace(CLIENT, subject_alt_names=(AWAY, NOWHERE))
URI_ONLY = _with_san(b"\x86\x0cspiffe://a/b")
NAMES = {
    "none": (CLIENT, SANRule.ACCEPTS),
    "URI": (URI_ONLY, SANRule.ACCEPTS),
    "email": (_with_san(b"\x81\x03a@b"), SANRule.ACCEPTS),
    "our-address": (COVERED, SANRule.ACCEPTS),
    "our-address-mapped": (_with_san(b"\x87\x10" + bytes(10) + b"\xff\xff\x7f\0\0\x01"), SANRule.ACCEPTS),
    "our-address-and-a-name": (replace(CLIENT, subject_alt_names=("127.0.0.1", NOWHERE)), SANRule.ACCEPTS),
    "our-address-as-name": (replace(CLIENT, dns_names=("127.0.0.1",)), SANRule.ACCEPTS),
    "another-address": (ELSEWHERE_ONLY, SANRule.CLOSES),
    "another-address-as-name": (replace(CLIENT, dns_names=(AWAY,)), SANRule.CLOSES),
    "another-address-and-a-name": (UNRESOLVED, SANRule.MAY_CLOSE),
    "a-wildcard": (replace(CLIENT, subject_alt_names=("*.invalid",)), SANRule.MAY_CLOSE),
}


@pytest.fixture
def cluster(etcd_binary: Path) -> Iterator[Cluster]:
    """Lists with one serial number on both ports."""
    with start_process(CONFIG, etcd_binary) as started:
        yield started


def _authority(cluster: Cluster, role: Role) -> CertificateAuthority:
    authorities = cluster.pki.authorities
    return authorities.peer_issuer if role is Role.PEER else authorities.client_issuer


def _issue(cluster: Cluster, role: Role, profile: Profile, name: str) -> Identity:
    return _authority(cluster, role).issue(profile, name=name)


def _known(
    target: Target, *identities: Identity, named: Identity | None = None, declared: bool = False
) -> Target:
    """Return the target as a user knows it who has these identities alone, and named one of them."""
    target = without_ca_keys(target)
    client, peer = (
        replace(port, identities=identities, named=named) for port in (target.client, target.peer)
    )
    target = replace(target, client=client, peer=peer, etcd_version=None)
    return target if declared else replace(target, declared={})


def judge(target: Target, role: Role) -> CheckResult:
    return judged.judge(target, "mtls.trusted-client", role)


def _beside_a_good_one(
    cluster: Cluster, role: Role, profile: Profile, *, declared: bool = False
) -> CheckResult:
    authority = _authority(cluster, role)
    named, good = authority.issue(profile, name="named"), authority.issue(CLIENT, name="found")
    return judge(_known(cluster.target(), named, good, named=named, declared=declared), role)


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (replace(CLIENT, serial_number=_LISTED), "closed by etcd"),
        (replace(CLIENT, self_signed=True), "refused: its CA"),
        (replace(CLIENT, other_extensions=(_UNPARSABLE,)), "refused: Go does not parse its certificate"),
    ],
    ids=["revoked", "not-trusted", "not-parsed"],
)
def test_another_client_excuses_no_refusal(cluster: Cluster, profile: Profile, words: str) -> None:
    for role in ROLES:
        assert _beside_a_good_one(cluster, role, CLIENT).outcome is Outcome.CONFORMS
        result = _beside_a_good_one(cluster, role, profile)
        assert result.outcome is Outcome.VIOLATES, (role, result.reason)
        assert result.findings[0].message.startswith("your client certificate named ")
        assert words in result.findings[0].message


def test_a_certificate_that_etcd_does_not_parse_shows_nothing_about_roles(cluster: Cluster) -> None:
    target = cluster.target()
    unparsable = _authority(cluster, Role.CLIENT).issue(
        replace(CLIENT, other_extensions=(_UNPARSABLE,)), name="client"
    )
    target = replace(target, client=replace(target.client, identities=(unparsable,), named=unparsable))
    result = judged.judge(target, "mtls.client-certificate-on-peer-port", Role.PEER)
    # Before Go 1.25 the alert is that of a certificate of a CA that is not trusted.
    parsed = {Outcome.CONFORMS: "", Outcome.NOT_VERIFIED: "etcd does not parse this certificate"}
    assert parsed[result.outcome] in result.reason


def test_an_issued_client_excuses_no_refusal(cluster: Cluster) -> None:
    target = cluster.target()
    named = replace(identities.foreign_ca(), name="named")
    target = replace(target, client=replace(target.client, identities=(named,), named=named))
    assert judge(target, Role.CLIENT).outcome is Outcome.VIOLATES


def test_the_declared_list_gives_the_reason_of_a_close(cluster: Cluster) -> None:
    """etcd compares the serial numbers of all certificates that a client sends."""
    for role in ROLES:
        revoked = _beside_a_good_one(cluster, role, replace(CLIENT, serial_number=_LISTED), declared=True)
        middle = _authority(cluster, role).intermediate(
            "revoked CA", profile=replace(AUTHORITY, serial_number=_LISTED)
        )
        named, good = middle.issue(CLIENT, name="named"), _authority(cluster, role).issue(CLIENT, name="good")
        below = judge(_known(cluster.target(), named, good, named=named, declared=True), role)
        for result, whom in ((revoked, "its certificate"), (below, "the CA CN=revoked CA, which it sends")):
            assert f"/list revokes {whom}" in result.findings[0].message
            assert "correct the list of --" in result.remediation


@pytest.mark.parametrize("role", [Role.PEER, Role.METRICS])
@pytest.mark.parametrize(
    ("names", "declared", "outcome"),
    [
        pytest.param((AWAY,), False, Outcome.CONFORMS, id="address"),
        pytest.param((AWAY, NOWHERE), False, Outcome.NOT_VERIFIED, id="name"),
        pytest.param((AWAY, NOWHERE), True, Outcome.CONFORMS, id="name-not-on-the-list"),
    ],
)
def test_the_san_rule_excuses_a_close_without_another_explanation(
    cluster: Cluster, role: Role, names: tuple[str, ...], declared: bool, outcome: Outcome
) -> None:
    result = _beside_a_good_one(cluster, role, replace(CLIENT, subject_alt_names=names), declared=declared)
    assert (result.outcome, "SAN rule" in result.reason) == (outcome, True)


def test_the_reason_is_the_peer_that_the_san_rule_may_close(cluster: Cluster) -> None:
    """The peers' CA did not issue the client's certificate, which is tried last on the peer port."""
    peer = _issue(cluster, Role.PEER, UNRESOLVED, "peer")
    client = _issue(cluster, Role.CLIENT, CLIENT, "client")
    target = _known(cluster.target(), client, named=client)
    target = replace(target, peer=replace(target.peer, identities=(peer, client), named=peer))
    result = judge(target, Role.PEER)
    assert (result.outcome, "SAN rule" in result.reason) == (Outcome.NOT_VERIFIED, True)


@pytest.mark.parametrize("role", [Role.PEER, Role.METRICS])
def test_the_san_rule_excuses_no_revoked_client(cluster: Cluster, role: Role) -> None:
    for names, declared in ((("127.0.0.1",), False), ((AWAY,), True)):
        profile = replace(CLIENT, serial_number=_LISTED, subject_alt_names=names)
        assert _beside_a_good_one(cluster, role, profile, declared=declared).outcome is Outcome.VIOLATES


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_a_port_for_grpc_alone_closes_http_for_everybody(etcd_binary: Path) -> None:
    with start_process(replace(CONFIG, client_http=True), etcd_binary) as cluster:
        assert _beside_a_good_one(cluster, Role.CLIENT, CLIENT).outcome is Outcome.CONFORMS
        (finding,) = _beside_a_good_one(cluster, Role.CLIENT, replace(CLIENT, serial_number=_LISTED)).findings
        assert "42 bad_certificate" in finding.observed
        assert "http/1.1" not in finding.observed


def test_the_rule_is_evaluated_as_etcd_does(etcd_binary: Path) -> None:
    """Where our address is not known, every name or address may close."""
    with start_process(BROKEN, etcd_binary) as cluster:
        for role in SAN_RULE_ROLES:
            for name, (profile, expected) in NAMES.items():
                identity = _issue(cluster, role, profile, name)
                assert san_rule(identity.chain[0], "127.0.0.1") is expected, name
                unknown = SANRule.ACCEPTS if name in ("none", "URI", "email") else SANRule.MAY_CLOSE
                assert san_rule(identity.chain[0], "") is unknown, name
                target = _known(cluster.target(), identity)
                client = Observer(target).get(AcceptedClient, listener=listener_of(target, role))
                if expected is SANRule.ACCEPTS:
                    assert client.accepted is not None, (role, name)
                else:
                    assert client.candidates[0].endings == {Ending.CLOSED}, (role, name)


LISTS = {
    "missing": None,
    "no list": b"no list",
    "PEM": pem(signed(_CA)),
    "version 1": version_1(signed(_CA)),
}
UNREADABLE_SINCE_3_6 = ("PEM", "version 1")
"""``ParseCRL`` of Go's crypto/x509 reads them, ``ParseRevocationList`` does not."""


def _locked_out(name: str) -> ClusterConfig:
    """Return a cluster with that list on both ports, so that nobody with a certificate may get in."""
    content = LISTS[name]
    files = {} if content is None else {"list": content}
    return replace(BROKEN, client_crl_file="list", peer_crl_file="list", extra_files=files)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("declared", [False, True], ids=["undeclared", "declared"])
def test_names_that_cover_our_address_excuse_no_lockout(name: str, declared: bool, etcd_binary: Path) -> None:
    with start_process(_locked_out(name), etcd_binary) as cluster:
        readable = name in UNREADABLE_SINCE_3_6 and cluster.version < "3.6"
        for role in SAN_RULE_ROLES:
            for profile in (COVERED, URI_ONLY, replace(COVERED, subject_alt_names=("127.0.0.1", NOWHERE))):
                target = _known(cluster.target(), _issue(cluster, role, profile, "good"), declared=declared)
                result = judge(target, role)
                assert result.outcome is (Outcome.CONFORMS if readable else Outcome.VIOLATES), result.reason
                assert readable or "is accepted by TLS and closed by etcd" in result.findings[0].message


@pytest.mark.parametrize("profile", [ELSEWHERE_ONLY, UNRESOLVED], ids=["address", "name"])
def test_names_that_do_not_cover_our_address_excuse_a_close(profile: Profile, etcd_binary: Path) -> None:
    with start_process(_locked_out("missing"), etcd_binary) as cluster:
        for role in SAN_RULE_ROLES:
            target = _known(cluster.target(), _issue(cluster, role, profile, "good"))
            result = judge(target, role)
            assert (result.outcome, "SAN rule" in result.reason) == (Outcome.NOT_VERIFIED, True)
            # A certificate without names is closed too, so the rule is not the cause.
            unnamed = _issue(cluster, role, CLIENT, "without-names")
            target = _known(cluster.target(), _issue(cluster, role, profile, "good"), unnamed)
            assert judge(target, role).outcome is Outcome.VIOLATES


def test_the_declaration_or_the_user_names_a_forwarded_connection(newest_etcd: Path) -> None:
    """The peer port of an etcd without revocation lists is reached from another address."""
    with start_process(BROKEN, newest_etcd) as cluster:
        target = _known(cluster.target(), _issue(cluster, Role.PEER, COVERED, "good"), declared=True)
        peer = listener_of(target, Role.PEER)
        with closing(DelayingProxy(peer.port, source="127.0.0.2")) as proxy:
            listener = replace(peer, port=proxy.port)
            target = replace(target, listeners=(listener,))
            assert judge(target, Role.PEER).outcome is Outcome.NOT_VERIFIED  # no list is declared
            undeclared = replace(target, declared={})
            (finding,) = judge(undeclared, Role.PEER).findings
            assert "unless something forwards the connection" in finding.message
            moved = replace(undeclared, listeners=(replace(listener, connect_to=listener.address),))
            assert judge(moved, Role.PEER).outcome is Outcome.NOT_VERIFIED
            # etcd sees that address, and accepts a certificate for it.
            seen = _issue(cluster, Role.PEER, replace(CLIENT, subject_alt_names=("127.0.0.2",)), "seen")
            there = replace(undeclared, peer=replace(undeclared.peer, identities=(seen,)))
            assert judge(there, Role.PEER).outcome is Outcome.CONFORMS


@pytest.mark.etcd_version("3.4", "3.5", "3.6", "3.7")
def test_without_the_rule_no_names_excuse_a_close(etcd_binary: Path) -> None:
    config = replace(_locked_out("missing"), peer_skip_client_san_verification=True)
    with start_process(config, etcd_binary) as cluster:
        identity = _issue(cluster, Role.PEER, ELSEWHERE_ONLY, "good")
        target = replace(_known(cluster.target(), identity, declared=True), etcd_version=cluster.version)
        assert judge(target, Role.PEER).outcome is Outcome.VIOLATES
