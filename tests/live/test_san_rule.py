"""etcd's SAN rule, evaluated for a certificate and our address, and what it excuses; every etcd is real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from hostile.delaying_proxy import DelayingProxy
from oracle.crls import pem, signed, version_1
from starting import start_process

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.refusal import SANRule, san_rule
from pytest_etcdtls.pki.authority import CertificateAuthority, specimen
from pytest_etcdtls.pki.profile import CLIENT, Identity, OtherExtension, Profile
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Ending

BROKEN = ClusterConfig(metrics="https", expects_health=False)
ELSEWHERE, NOWHERE = "192.0.2.1", "etcd.invalid"


def _with_san(general_name: bytes) -> Profile:
    """Return a profile with one name of any type in its subjectAltName."""
    content = b"\x30" + bytes([len(general_name)]) + general_name
    return replace(CLIENT, other_extensions=(OtherExtension("2.5.29.17", content),))


COVERED = replace(CLIENT, subject_alt_names=("127.0.0.1",))
ELSEWHERE_ONLY = replace(CLIENT, subject_alt_names=(ELSEWHERE,))
UNRESOLVED = replace(CLIENT, subject_alt_names=(ELSEWHERE, NOWHERE))
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
    "another-address-as-name": (replace(CLIENT, dns_names=(ELSEWHERE,)), SANRule.CLOSES),
    "another-address-and-a-name": (UNRESOLVED, SANRule.MAY_CLOSE),
    "a-wildcard": (replace(CLIENT, subject_alt_names=("*.invalid",)), SANRule.MAY_CLOSE),
}
ROLES = (Role.PEER, Role.METRICS)


def _listener(target: Target, role: Role) -> Listener:
    return next(listener for listener in target.listeners if listener.role is role)


def _identity(cluster: Cluster, role: Role, profile: Profile, name: str) -> Identity:
    authorities = cluster.pki.authorities
    authority = authorities.peer_issuer if role is Role.PEER else authorities.client_issuer
    return authority.issue(profile, name=name)


def _known(target: Target, *identities: Identity, declared: bool = False) -> Target:
    """Return the target as a user knows it who has these identities alone."""
    client, peer = (
        replace(port, identities=identities, signing_key=None, served=(), revoked=None)
        for port in (target.client, target.peer)
    )
    target = replace(target, client=client, peer=peer, origin="live", etcd_version=None)
    return target if declared else replace(target, declared={})


def _trusted_client(target: Target, role: Role) -> CheckResult:
    return Judge(Observer(target)).result(catalogue()["mtls.trusted-client"], _listener(target, role))


def test_the_rule_is_evaluated_as_etcd_does(etcd_binary: Path) -> None:
    with start_process(BROKEN, etcd_binary) as cluster:
        for role in ROLES:
            for name, (profile, expected) in NAMES.items():
                identity = _identity(cluster, role, profile, name)
                assert san_rule(identity.chain[0], "127.0.0.1") is expected, name
                target = _known(cluster.target(), identity)
                client = Observer(target).get(AcceptedClient, listener=_listener(target, role))
                if expected is SANRule.ACCEPTS:
                    assert client.accepted is not None, (role, name)
                else:
                    assert client.candidates[0].endings == {Ending.CLOSED}, (role, name)


def test_where_our_address_is_not_known_every_name_may_close() -> None:
    assert san_rule(_leaf(COVERED), "") is SANRule.MAY_CLOSE
    assert san_rule(_leaf(ELSEWHERE_ONLY), "") is SANRule.MAY_CLOSE
    assert san_rule(_leaf(URI_ONLY), "") is SANRule.ACCEPTS


def _leaf(profile: Profile) -> x509.Certificate:
    return specimen(profile)[0]


_CA = CertificateAuthority.create("a CA")
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
        for role in ROLES:
            for profile in (COVERED, URI_ONLY, replace(COVERED, subject_alt_names=("127.0.0.1", NOWHERE))):
                target = _known(
                    cluster.target(), _identity(cluster, role, profile, "good"), declared=declared
                )
                result = _trusted_client(target, role)
                assert result.outcome is (Outcome.CONFORMS if readable else Outcome.VIOLATES), result.reason
                assert readable or "is accepted by TLS and closed by etcd" in result.findings[0].message


@pytest.mark.parametrize("profile", [ELSEWHERE_ONLY, UNRESOLVED], ids=["address", "name"])
def test_names_that_do_not_cover_our_address_excuse_a_close(profile: Profile, etcd_binary: Path) -> None:
    with start_process(_locked_out("missing"), etcd_binary) as cluster:
        for role in ROLES:
            target = _known(cluster.target(), _identity(cluster, role, profile, "good"))
            result = _trusted_client(target, role)
            assert (result.outcome, "SAN rule" in result.reason) == (Outcome.NOT_VERIFIED, True)
            # A certificate without names is closed too, so the rule is not the cause.
            target = _known(cluster.target(), *_both(cluster, role, profile))
            assert _trusted_client(target, role).outcome is Outcome.VIOLATES


def _both(cluster: Cluster, role: Role, profile: Profile) -> tuple[Identity, Identity]:
    return _identity(cluster, role, profile, "good"), _identity(cluster, role, CLIENT, "without-names")


@pytest.fixture
def forwarded(newest_etcd: Path) -> Iterator[tuple[Cluster, Target]]:
    """An etcd without revocation lists, and the target whose peer port we reach from another address."""
    with start_process(BROKEN, newest_etcd) as cluster:
        target = _known(cluster.target(), _identity(cluster, Role.PEER, COVERED, "good"), declared=True)
        peer = _listener(target, Role.PEER)
        with closing(DelayingProxy(peer.port, source="127.0.0.2")) as proxy:
            listeners = (replace(peer, port=proxy.port),)
            yield cluster, replace(target, listeners=listeners)


def test_the_declaration_or_the_user_names_a_forwarded_connection(
    forwarded: tuple[Cluster, Target],
) -> None:
    cluster, target = forwarded
    assert _trusted_client(target, Role.PEER).outcome is Outcome.NOT_VERIFIED  # no list is declared
    undeclared = replace(target, declared={})
    (finding,) = _trusted_client(undeclared, Role.PEER).findings
    assert "unless something forwards the connection" in finding.message
    listener = undeclared.listeners[0]
    moved = replace(undeclared, listeners=(replace(listener, connect_to=listener.address),))
    assert _trusted_client(moved, Role.PEER).outcome is Outcome.NOT_VERIFIED
    # etcd sees that address, and accepts a certificate for it.
    seen = _identity(cluster, Role.PEER, replace(CLIENT, subject_alt_names=("127.0.0.2",)), "seen")
    there = replace(undeclared, peer=replace(undeclared.peer, identities=(seen,)))
    assert _trusted_client(there, Role.PEER).outcome is Outcome.CONFORMS


@pytest.mark.etcd_version("3.4", "3.5", "3.6", "3.7")
def test_without_the_rule_no_names_excuse_a_close(etcd_binary: Path) -> None:
    config = replace(_locked_out("missing"), peer_skip_client_san_verification=True)
    with start_process(config, etcd_binary) as cluster:
        identity = _identity(cluster, Role.PEER, ELSEWHERE_ONLY, "good")
        target = replace(_known(cluster.target(), identity, declared=True), etcd_version=cluster.version)
        assert _trusted_client(target, Role.PEER).outcome is Outcome.VIOLATES
