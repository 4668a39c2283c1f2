"""Each client that the user named is judged on its own, whatever other is accepted; every etcd is real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from oracle.crls import signed
from starting import start_process

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, PEER, Identity, OtherExtension, Profile
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target

_LISTED = 4711
_UNPARSABLE = OtherExtension("2.5.29.17", bytes.fromhex("30038601ff"))
"""A subjectAltName with a URI that is not ASCII."""
_CA = CertificateAuthority.create("a CA")
"""Of a list etcd compares serial numbers and nothing else."""
_LIST = {"list": signed(_CA, _LISTED)}
CONFIG = ClusterConfig(
    metrics="https",
    expects_health=False,
    client_crl_file="list",
    peer_crl_file="list",
    extra_files=_LIST,
)
ROLES = (Role.CLIENT, Role.PEER, Role.METRICS)


@pytest.fixture
def cluster(etcd_binary: Path) -> Iterator[Cluster]:
    """Lists with one serial number on both ports."""
    with start_process(CONFIG, etcd_binary) as started:
        yield started


def _authority(cluster: Cluster, role: Role) -> CertificateAuthority:
    authorities = cluster.pki.authorities
    return authorities.peer_issuer if role is Role.PEER else authorities.client_issuer


def _with_another(target: Target, named: Identity, other: Identity, *, declared: bool = False) -> Target:
    """Return the target as a user knows it who named one identity, where the run found another one."""
    client, peer = (
        replace(port, identities=(named, other), named=named, signing_key=None, served=(), revoked=None)
        for port in (target.client, target.peer)
    )
    target = replace(target, client=client, peer=peer, origin="live", etcd_version=None)
    return target if declared else replace(target, declared={})


def _judge(target: Target, role: Role) -> CheckResult:
    listener = next(listener for listener in target.listeners if listener.role is role)
    return Judge(Observer(target)).result(catalogue()["mtls.trusted-client"], listener)


def _beside_a_good_one(
    cluster: Cluster, role: Role, profile: Profile, *, declared: bool = False
) -> CheckResult:
    authority = _authority(cluster, role)
    named, good = authority.issue(profile, name="named"), authority.issue(CLIENT, name="found")
    return _judge(_with_another(cluster.target(), named, good, declared=declared), role)


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
    peer = next(listener for listener in target.listeners if listener.role is Role.PEER)
    check = catalogue()["mtls.client-certificate-on-peer-port"]
    result = Judge(Observer(target)).result(check, peer)
    # Before Go 1.25 the alert is that of a certificate of a CA that is not trusted.
    parsed = {Outcome.CONFORMS: "", Outcome.NOT_VERIFIED: "etcd does not parse this certificate"}
    assert parsed[result.outcome] in result.reason


def test_an_issued_client_excuses_no_refusal(cluster: Cluster) -> None:
    target = cluster.target()
    named = replace(identities.foreign_ca(), name="named")
    target = replace(target, client=replace(target.client, identities=(named,), named=named))
    assert _judge(target, Role.CLIENT).outcome is Outcome.VIOLATES


def test_a_good_client_beside_others_is_accepted(cluster: Cluster) -> None:
    for role in ROLES:
        assert _beside_a_good_one(cluster, role, CLIENT).outcome is Outcome.CONFORMS


def test_the_declared_list_gives_the_reason_of_a_close(cluster: Cluster) -> None:
    """etcd compares the serial numbers of all certificates that a client sends."""
    for role in ROLES:
        revoked = _beside_a_good_one(cluster, role, replace(CLIENT, serial_number=_LISTED), declared=True)
        middle = _authority(cluster, role).intermediate(
            "revoked CA", profile=replace(AUTHORITY, serial_number=_LISTED)
        )
        named, good = middle.issue(CLIENT, name="named"), _authority(cluster, role).issue(CLIENT, name="good")
        below = _judge(_with_another(cluster.target(), named, good, declared=True), role)
        for result in (revoked, below):
            assert "/list revokes " in result.findings[0].message


ELSEWHERE, BY_NAME = ("192.0.2.1",), ("192.0.2.1", "etcd.invalid")


@pytest.mark.parametrize("role", [Role.PEER, Role.METRICS])
@pytest.mark.parametrize(
    ("names", "declared", "outcome"),
    [
        pytest.param(ELSEWHERE, False, Outcome.CONFORMS, id="address"),
        pytest.param(BY_NAME, False, Outcome.NOT_VERIFIED, id="name"),
        pytest.param(BY_NAME, True, Outcome.CONFORMS, id="name-not-on-the-list"),
    ],
)
def test_the_san_rule_excuses_a_close_without_another_explanation(
    cluster: Cluster, role: Role, names: tuple[str, ...], declared: bool, outcome: Outcome
) -> None:
    result = _beside_a_good_one(cluster, role, replace(CLIENT, subject_alt_names=names), declared=declared)
    assert (result.outcome, "SAN rule" in result.reason) == (outcome, True)


def test_the_reason_is_the_peer_that_the_san_rule_may_close(
    cluster: Cluster,
) -> None:
    """The peers' CA did not issue the client's certificate, which is tried last on the peer port."""
    target = cluster.target()
    named = _authority(cluster, Role.PEER).issue(replace(CLIENT, subject_alt_names=BY_NAME), name="peer")
    client = replace(_authority(cluster, Role.CLIENT).issue(CLIENT, name="client"), name="client")
    target = replace(
        target,
        origin="live",
        declared={},
        etcd_version=None,
        client=replace(target.client, identities=(client,), named=client),
        peer=replace(
            target.peer, identities=(named, client), named=named, signing_key=None, served=(), revoked=None
        ),
    )
    result = _judge(target, Role.PEER)
    assert (result.outcome, "SAN rule" in result.reason) == (Outcome.NOT_VERIFIED, True)


@pytest.mark.parametrize("role", [Role.PEER, Role.METRICS])
def test_the_san_rule_excuses_no_revoked_client(cluster: Cluster, role: Role) -> None:
    for names, declared in ((("127.0.0.1",), False), (ELSEWHERE, True)):
        profile = replace(CLIENT, serial_number=_LISTED, subject_alt_names=names)
        assert _beside_a_good_one(cluster, role, profile, declared=declared).outcome is Outcome.VIOLATES


def test_a_declared_rule_about_names_is_not_a_fault_of_the_listener(etcd_binary: Path) -> None:
    config = ClusterConfig(peer_cert_allowed_cn=str(PEER.common_name))
    with start_process(config, etcd_binary) as cluster:
        authority = _authority(cluster, Role.PEER)
        named = authority.issue(replace(CLIENT, common_name="another"), name="named")
        good = authority.issue(replace(CLIENT, common_name=PEER.common_name), name="found")
        result = _judge(_with_another(cluster.target(), named, good, declared=True), Role.PEER)
    assert result.outcome is Outcome.NOT_VERIFIED
    assert "a declared rule about names excludes the certificate of named" in result.reason


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_a_port_for_grpc_alone_closes_http_for_everybody(etcd_binary: Path) -> None:
    with start_process(replace(CONFIG, client_http=True), etcd_binary) as cluster:
        assert _beside_a_good_one(cluster, Role.CLIENT, CLIENT).outcome is Outcome.CONFORMS
        (finding,) = _beside_a_good_one(cluster, Role.CLIENT, replace(CLIENT, serial_number=_LISTED)).findings
        assert "42 bad_certificate" in finding.observed
        assert "http/1.1" not in finding.observed
