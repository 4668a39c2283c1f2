"""Files of trusted CAs as the available etcds read them at their start, and revocation lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from judged import judge, listener_of
from oracle.crls import files, pem, signed
from starting import start_process
from zoo.declarations import renewed

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.files import crl_file
from pytest_etcdtls.errors import ClusterStartError
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.certificates import AnnouncedCAs, subjects
from pytest_etcdtls.pki.authority import CertificateAuthority, build_certificate
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.certificate import read_pool
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, CALayout, Identity, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending, Request
from pytest_etcdtls.tls.connection import make_attempt
from pytest_etcdtls.versions import version_key

IN_FORCE, SINGLE = "config.trusted-ca-in-force", "mtls.announced-ca-single"


@pytest.fixture
def cluster(etcd_binary: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(), etcd_binary) as running:
        yield running


def _twice(authority: CertificateAuthority) -> list[x509.Certificate]:
    return [authority.certificate] * 2


def _renewed_with_its_key(authority: CertificateAuthority) -> list[x509.Certificate]:
    subject = authority.certificate.subject
    renewed = build_certificate(AUTHORITY, authority.key, subject=subject)
    assert renewed != authority.certificate
    return [authority.certificate, renewed]


def _another_name_for_its_key(authority: CertificateAuthority) -> list[x509.Certificate]:
    subject = x509.Name(list(authority.certificate.subject.rdns) * 2)
    return [authority.certificate, build_certificate(AUTHORITY, authority.key, subject=subject)]


@pytest.mark.parametrize(
    ("bundle", "announced"), [(_twice, 1), (_renewed_with_its_key, 2), (_another_name_for_its_key, 2)]
)
def test_a_certificate_is_announced_once_and_a_name_for_each_of_its_certificates(
    cluster: Cluster, bundle: Callable[[CertificateAuthority], list[x509.Certificate]], announced: int
) -> None:
    file = cluster.members[0].file("client-ca.crt")
    file.write_bytes(encode_certificates(bundle(cluster.pki.client_ca)))
    cluster.restart()
    assert judge(cluster.target(), IN_FORCE, Role.CLIENT).outcome is Outcome.CONFORMS
    single = judge(cluster.target(), SINGLE, Role.CLIENT)
    assert single.outcome is (Outcome.CONFORMS if announced == 1 else Outcome.WARNS)
    assert [finding.message for finding in single.findings] == ["2 CAs are announced"] * (announced - 1)


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"valid_for": timedelta(days=3650)}, ""),
        ({"valid_from": timedelta(days=1)}, "is not valid at this time"),
        ({"valid_from": timedelta(-30), "valid_for": timedelta(20)}, "is not valid at this time"),
        ({"extended_key_usage": ("serverAuth",)}, "has the extendedKeyUsage serverAuth"),
        ({"extended_key_usage": ("clientAuth",)}, ""),
        ({"ca": False}, "has CA:FALSE"),
    ],
    ids=str,
)
def test_a_ca_renewed_with_the_same_key_is_judged_by_its_file(
    cluster: Cluster, changes: dict[str, Any], flaw: str
) -> None:
    """Whom it has accepted, etcd then refuses when it is started again, if and only if that was found."""
    file = cluster.members[0].file("client-ca.crt")
    file.write_bytes(renewed(cluster.pki.client_ca, **changes))
    target = cluster.target()
    for result in (judge(target, IN_FORCE, Role.CLIENT), judge(target, "config.chain-closes")):
        assert result.outcome is (Outcome.VIOLATES if flaw else Outcome.CONFORMS), result
        assert [flaw in finding.observed for finding in result.findings] == ([True] if flaw else [])
    with suppress(ClusterStartError):  # its own gateway is refused as well
        cluster.restart()
    accepted = judge(cluster.target(), "mtls.trusted-client", Role.CLIENT)
    assert accepted.outcome is (Outcome.VIOLATES if flaw else Outcome.CONFORMS), accepted


@pytest.mark.parametrize("names_the_ca", [True, False])
def test_a_revoked_ca_in_the_bundle(names_the_ca: bool, etcd_binary: Path) -> None:
    """etcd accepts a client of it that does not send it, and closes one that does."""
    plan = PKIPlan(layout=CALayout.INTERMEDIATE)
    with start_process(ClusterConfig(pki=plan, client_crl_file="crl.der"), etcd_binary) as cluster:
        root, [member] = cluster.pki.client_ca, cluster.members
        [client, *_] = cluster.target().client.identities
        leaf, ca = client.chain
        root.revoke(ca if names_the_ca else leaf)
        bundle = [ca, root.certificate]
        member.replace_files({"crl.der": root.crl("der"), "client-ca.crt": encode_certificates(bundle)})
        with suppress(ClusterStartError):  # which judges health with a client that sends it
            cluster.restart()
        target = cluster.target()
        alone = replace(client, chain=client.chain[:1])
        accepted = []
        for identity in (client, alone):
            target = replace(target, client=replace(target.client, identities=(identity,)))
            accepted.append(judge(target, "mtls.trusted-client", Role.CLIENT).outcome)
            usable = judge(target, "config.trusted-ca-usable")
            assert usable.outcome is (Outcome.VIOLATES if names_the_ca else Outcome.CONFORMS), usable
        assert accepted == [Outcome.VIOLATES, Outcome.CONFORMS if names_the_ca else Outcome.VIOLATES]


CA, OTHER = (CertificateAuthority.create(name) for name in ("a CA", "another CA"))
NEGATIVE = CertificateAuthority.create("negative", profile=replace(AUTHORITY, serial_number=-5))
PEM, OTHER_PEM, NEGATIVE_PEM = (encode_certificates([one.certificate]) for one in (CA, OTHER, NEGATIVE))


def _labelled(label: bytes, headers: bytes = b"") -> bytes:
    block = PEM.replace(b"CERTIFICATE-----", label + b"-----")
    return block.replace(b"-----\n", b"-----\n" + headers, 1)


CONTENTS = {
    "empty": b"",
    "text": b"no certificate\n",
    "der": CA.certificate.public_bytes(Encoding.DER),
    "text-between": b"# text\n" + PEM + b"text\n" + OTHER_PEM + b"trailing junk",
    "crlf": PEM.replace(b"\n", b"\r\n"),
    "byte-order-mark": b"\xef\xbb\xbf" + PEM,
    "byte-order-mark-and-another": b"\xef\xbb\xbf" + PEM + OTHER_PEM,
    "indented": b"  " + PEM.replace(b"\n", b"\n  "),
    "no-newline-between": PEM.rstrip() + OTHER_PEM,
    "no-newline-between-and-another": PEM.rstrip() + OTHER_PEM + PEM,
    "without-end": PEM.rpartition(b"-----END")[0],
    "twice": PEM * 2,
    "headers": _labelled(b"CERTIFICATE", b"Key: value\n\n"),
    "x509-certificate": _labelled(b"X509 CERTIFICATE"),
    "trusted-certificate": _labelled(b"TRUSTED CERTIFICATE"),
    "key": PEM + encode_key(CA.key),
    "traditional-key": encode_key(CA.key, traditional=True) + PEM,
    "encrypted-key": PEM
    + CA.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
    "revocation-list": PEM + CA.crl("pem"),
    "truncated": PEM + OTHER_PEM[:60] + b"\n" + OTHER_PEM[-26:],
    "negative-serial-number": PEM + NEGATIVE_PEM,
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_of_trusted_cas_is_read_as_etcd_reads_it(etcd_binary: Path, name: str) -> None:
    config = ClusterConfig(
        trusted_ca_file="bundle.pem", extra_files={"bundle.pem": CONTENTS[name]}, expects_health=False
    )
    pool = read_pool(CONTENTS[name])
    try:
        with start_process(config, etcd_binary) as cluster:
            listener = listener_of(cluster.target(), Role.CLIENT)
            announced = Observer(cluster.target()).get(AnnouncedCAs, None, listener)
    except ClusterStartError:
        starts, announced = False, None
    else:
        starts = True
    # Without the Go release it is not known whether etcd refuses a certificate of that kind.
    assert pool.doubtful or starts is (pool.refused == "")
    if announced is None:
        return
    for version, names in announced.names:
        assert Counter(name.public_bytes() for name in names) == subjects(pool.certificates), version
    assert all(requested for _, requested in announced.requested)


def test_a_certificate_that_newer_go_refuses(cluster: Cluster) -> None:
    file = cluster.members[0].file("client-ca.crt")
    file.write_bytes(file.read_bytes() + NEGATIVE_PEM)
    result = judge(cluster.target(), "config.trusted-ca-usable")
    expected: dict[tuple[int, ...], Outcome] = {
        (3, 4): Outcome.CONFORMS,
        # It may have been built in a module that selects the defaults of an older Go.
        (3, 5): Outcome.CONFORMS if cluster.version == "3.5.1" else Outcome.NOT_VERIFIED,
    }
    assert result.outcome is expected.get(version_key(cluster.version)[:2], Outcome.VIOLATES)
    if result.outcome is Outcome.CONFORMS:
        cluster.restart()
        assert judge(cluster.target(), IN_FORCE, Role.CLIENT).outcome is Outcome.CONFORMS
    else:
        with pytest.raises(ClusterStartError, match="negative"):
            cluster.restart()


_FILE = "empty-crl.der"


def _ending(listener: Listener, identity: Identity) -> Ending:
    request = Request(purpose="a list", identity=identity, path="/version")
    return make_attempt(listener, request, 5).ending


def test_every_etcd_reads_each_encoding_as_expected(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(client_crl_file=_FILE), etcd_binary) as cluster:
        issuer, (member,) = cluster.pki.authorities.client_issuer, cluster.members
        clients = {name: issuer.issue(CLIENT, name=name) for name in ("unlisted", "first", "second")}
        first, second = (clients[name].chain[0].serial_number for name in ("first", "second"))
        named = files(issuer, first, second)
        # Neither the issuer nor the signature of a list is verified.
        another = CertificateAuthority.create("another CA", profile=AUTHORITY)
        named["DER of another CA"] = signed(another, first)
        named["PEM, two lists of two CAs"] = pem(signed(issuer, first)) + pem(signed(another, second))
        listener = listener_of(cluster.target(), Role.CLIENT)
        path, different = member.file(_FILE), []
        for name, data in named.items():
            member.replace_files({_FILE: data})
            reading = crl_file(_FILE, str(path), data).read_by(cluster.version)
            expected = {
                client: Ending.CLOSED
                if reading.error or identity.chain[0].serial_number in reading.serial_numbers
                else Ending.SERVED
                for client, identity in clients.items()
            }
            seen = {client: _ending(listener, identity) for client, identity in clients.items()}
            if seen != expected:
                different.append(f"{name}: expected {expected}, seen {seen} ({reading.error})")
        assert different == []
