"""A certificate that we cannot parse, served by a real etcd or given to us, breaks nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from oracle.crls import pem
from starting import start_process
from zoo.model import explain, found

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.go_parser import BIT_STRING, OCTET_STRING, SEQUENCE, UTC_TIME, children, encode
from pytest_etcdtls.pki.profile import AUTHORITY, Identity, OtherExtension
from pytest_etcdtls.report.json import jsonable
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import TrustBundle

NO_MASK = OtherExtension("2.5.29.30", bytes.fromhex("300aa008300687047f000001"))
Edit = Callable[[list[bytes]], list[bytes]]
BAD = ("violates", "inconclusive", "broken")
CERT = ("cert", "listener", "mtls", "config")


def without_seconds(fields: list[bytes]) -> list[bytes]:
    times = encode(SEQUENCE, encode(UTC_TIME, b"2001010000Z") + encode(UTC_TIME, b"4901010000Z"))
    return [*fields[:4], times, *fields[5:]]


def critical_is_false(fields: list[bytes]) -> list[bytes]:
    """Write out for basicConstraints that it is not critical, which DER forbids and Go and OpenSSL allow."""
    identifier = bytes.fromhex("0603551d13")
    return [*fields[:7], fields[7].replace(identifier + b"\1\1\xff", identifier + b"\1\1\0")]


def with_policy_constraints(fields: list[bytes]) -> list[bytes]:
    """Add the extension policyConstraints, by which a CA requires certificate policies."""
    extension = encode(SEQUENCE, bytes.fromhex("0603551d24") + encode(OCTET_STRING, b"\x30\x03\x80\x01\0"))
    [others] = children(fields[7])
    extensions = encode(SEQUENCE, b"".join([*children(others), extension]))
    return [*fields[:7], encode(fields[7][0], extensions)]


def edited(identity: Identity, authority: CertificateAuthority, edit: Edit) -> bytes:
    """Return the certificate as PEM, with other fields in TBSCertificate, signed again."""
    tbs, algorithm, _ = children(identity.chain[0].public_bytes(Encoding.DER))
    tbs = encode(SEQUENCE, b"".join(edit(children(tbs))))
    assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
    signature = authority.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return pem(encode(SEQUENCE, tbs + algorithm + encode(BIT_STRING, b"\0" + signature)), "CERTIFICATE")


def judge(edit: Edit, etcd: Path) -> list[CheckResult]:
    with start_process(ClusterConfig(), etcd) as cluster:
        for member in cluster.members:
            pem = edited(cluster.pki.servers[member.name], cluster.pki.server_ca, edit)
            member.replace_files({"server.crt": pem})
        observer = Observer(cluster.target())
        results = run_checks(observer, select(CERT))
        jsonable(observer.facts)
    return results


def test_a_certificate_that_our_library_cannot_parse(newest_etcd: Path) -> None:
    results = judge(critical_is_false, newest_etcd)
    seen = found(results)
    assert "cert.parsable" in seen["warns"]["client"], explain(results)
    assert not any(seen[outcome].get("client") for outcome in BAD), explain(results)
    assert {"cert.trusted", "cert.valid-now"} <= seen["not-verified"]["client"]


def test_a_certificate_with_unjudged_parts_is_never_clean(newest_etcd: Path) -> None:
    results = judge(with_policy_constraints, newest_etcd)
    seen = found(results)
    assert {"cert.well-formed", "cert.ca-constraints"} <= seen["inconclusive"]["client"], explain(results)
    # The file was replaced after the start.
    assert seen["violates"].get("client", set()) == {"cert.matches-expected-file"}, explain(results)
    assert not seen["broken"], explain(results)
    reason = next(result.reason for result in results if result.check == "cert.well-formed")
    assert "has the extension policyConstraints, which is not judged: connect with etcdctl" in reason


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_a_certificate_that_our_openssl_cannot_parse(newest_etcd: Path) -> None:
    results = judge(without_seconds, newest_etcd)
    reason = next(result.reason for result in results if result.check == "listener.answers")
    assert "OpenSSL cannot parse the served certificate" in reason
    assert not found(results)["broken"], explain(results)


def test_a_given_ca_with_a_malformed_extension(newest_etcd: Path) -> None:
    """Go leaves such a CA out of its pool, so its clients trust nobody."""
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        profile = replace(AUTHORITY, other_extensions=(NO_MASK,))
        ca = cluster.pki.server_ca
        malformed = ca.issue(
            replace(profile, common_name="etcd client-port CA", self_signed=True), name="ca", key=ca.key
        ).chain[0]
        target = cluster.target()
        bundle = TrustBundle((malformed,), "ca.crt")
        target = replace(target, client=replace(target.client, server_ca=bundle, client_trust=bundle))
        observer = Observer(target)
        results = run_checks(observer, select(CERT))
        jsonable(observer.facts)
    seen = found(results)
    assert "cert.well-formed" in seen["violates"]["client"], explain(results)
    assert not any(seen[outcome] for outcome in BAD[1:]), explain(results)
