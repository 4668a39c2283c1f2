"""Trust, completeness and issuers of chains that only a server of ours serves for us, one fault each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest
from certificates.choosing_server import choosing
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from servers import Handler, Server

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.facts.certificates import PathToTrust
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, SERVER, Identity, KeyType, Profile, generate_key
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, PortCredentials, Target, TrustBundle

Serve = Callable[[Handler], Server]

JUDGED = (
    "cert.trusted",
    "cert.complete",
    "cert.issuer-is-ca",
    "cert.ca-constraints",
    "cert.no-stray-certificates",
)
ROOT = CertificateAuthority.create("root")
MIDDLE = ROOT.intermediate("middle")
LOW = MIDDLE.intermediate("low")


def issue(authority: CertificateAuthority, profile: Profile = SERVER) -> Identity:
    return authority.issue(profile, name="server", hosts=("localhost", "127.0.0.1"))


def judge(
    serve: Serve,
    served: Identity,
    anchors: Sequence[x509.Certificate] = (ROOT.certificate,),
    client: Identity | None = None,
    checks: Sequence[str] = JUDGED,
) -> dict[str, CheckResult]:
    """Return what does not conform."""
    listener = serve(choosing(lambda hello, number: served)).listener()
    credentials = PortCredentials(
        server_ca=TrustBundle(tuple(anchors), "ca.crt"), identities=(client,) if client else ()
    )
    target = Target(label="ours", origin="live", listeners=(listener,), client=credentials)
    results = run_checks(Observer(target, Bounds(timeout=10)), select(checks))
    return {result.check: result for result in results if result.outcome is not Outcome.CONFORMS}


def outcomes(results: dict[str, CheckResult]) -> dict[str, str]:
    return {check: str(result.outcome) for check, result in results.items()}


def test_a_whole_chain_conforms_with_the_root_served_too(serve: Serve) -> None:
    whole = issue(LOW)
    assert judge(serve, whole) == {}
    assert judge(serve, replace(whole, chain=(*whole.chain, ROOT.certificate))) == {}


def test_an_intermediate_as_anchor_needs_no_more(serve: Serve) -> None:
    whole = issue(LOW)
    assert judge(serve, replace(whole, chain=whole.chain[:2]), [MIDDLE.certificate]) == {}
    assert judge(serve, replace(whole, chain=whole.chain[:1]), [LOW.certificate, ROOT.certificate]) == {}


def test_a_missing_intermediate_that_a_client_has_is_named(serve: Serve) -> None:
    whole = issue(LOW)
    found = judge(serve, replace(whole, chain=whole.chain[:2]), client=MIDDLE.issue(CLIENT, name="client"))
    assert outcomes(found) == {"cert.complete": "violates"}
    assert found["cert.complete"].findings[0].evidence["missing"] == "CN=middle"


def test_an_unknown_missing_intermediate_is_no_path(serve: Serve) -> None:
    whole = issue(LOW)
    found = judge(serve, replace(whole, chain=whole.chain[:2]))
    assert outcomes(found) == {"cert.trusted": "violates", "cert.complete": "not-verified"}
    assert "CN=middle" in found["cert.trusted"].findings[0].observed


def test_a_new_ca_with_the_old_name_is_distinguished(serve: Serve) -> None:
    found = judge(serve, issue(ROOT), [CertificateAuthority.create("root").certificate])
    assert outcomes(found) == {"cert.trusted": "violates", "cert.issuer-is-ca": "not-verified"}
    assert "another key" in found["cert.trusted"].findings[0].observed


def test_the_order_and_repetition_are_judged(serve: Serve) -> None:
    leaf, low, middle = issue(LOW).chain
    key = issue(LOW)
    disordered = replace(key, chain=(key.chain[0], middle, low))
    assert outcomes(judge(serve, disordered)) == {"cert.no-stray-certificates": "warns"}
    repeated = replace(key, chain=(*key.chain, low))
    assert outcomes(judge(serve, repeated)) == {"cert.no-stray-certificates": "warns"}
    assert leaf not in repeated.chain


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (replace(AUTHORITY, path_length=0), "pathlen:0 with 1 CAs below"),
        (replace(AUTHORITY, extended_key_usage=("clientAuth",)), "extendedKeyUsage clientAuth"),
        (replace(AUTHORITY, key_usage=frozenset({"digitalSignature"})), "keyUsage digitalSignature"),
        (replace(AUTHORITY, ca=False), "CA:FALSE"),
    ],
)
def test_a_ca_that_may_not_issue_is_found(serve: Serve, profile: Profile, words: str) -> None:
    root = CertificateAuthority.create("root", profile=profile)
    found = judge(serve, issue(root.intermediate("middle")), [root.certificate])
    assert outcomes(found) == {"cert.issuer-is-ca": "violates"}
    assert found["cert.issuer-is-ca"].findings[0].observed == words


def test_usages_of_a_ca_that_suffice_conform(serve: Serve) -> None:
    profile = replace(AUTHORITY, path_length=1, extended_key_usage=("serverAuth", "clientAuth"))
    root = CertificateAuthority.create("root", profile=profile)
    assert judge(serve, issue(root.intermediate("middle")), [root.certificate]) == {}


@pytest.mark.parametrize(
    ("permitted", "outcome"), [("127.0.0.1", {}), ("10.0.0.1", {"cert.ca-constraints": "violates"})]
)
def test_names_that_a_ca_may_not_certify_are_found(
    serve: Serve, permitted: str, outcome: dict[str, str]
) -> None:
    constrained = _constrained(x509.IPAddress(ip_network(permitted)))
    found = judge(serve, issue(constrained), [constrained.certificate])
    assert outcomes(found) == outcome
    for result in found.values():
        assert "the address 127.0.0.1 is not among the names" in result.findings[0].message


PATH = (*JUDGED, "cert.ca-valid-now", "cert.critical-extensions", "cert.signature-hash")
OLD = replace(AUTHORITY, valid_from=-timedelta(days=20), valid_for=timedelta(days=1))


@pytest.mark.parametrize(
    "fault",
    [
        OLD,
        replace(AUTHORITY, ca=False),
        replace(AUTHORITY, unknown_critical_extension="1.2.3.4"),
        replace(AUTHORITY, signature_hash="sha1"),
        replace(AUTHORITY, extended_key_usage=("clientAuth",)),
    ],
    ids=["expired", "no CA", "unknown critical extension", "SHA-1", "for clients"],
)
@pytest.mark.parametrize("first", [True, False])
def test_another_certificate_of_the_same_ca_conforms(serve: Serve, fault: Profile, first: bool) -> None:
    """Clients take any path that is valid."""
    key = generate_key(KeyType.ECDSA_P256)
    certificates = [
        ROOT.issue(replace(profile, common_name="middle"), name="middle", key=key).chain[0]
        for profile in (AUTHORITY, fault)
    ]
    served = issue(CertificateAuthority.from_key(certificates[0], key))
    counterparts = certificates[::-1] if first else certificates
    assert judge(serve, replace(served, chain=(served.chain[0], *counterparts)), checks=PATH) == {}
    alone = judge(serve, replace(served, chain=(served.chain[0], certificates[1])), checks=PATH)
    assert [str(found.outcome) for found in alone.values()] == ["violates"]


def test_a_cross_signed_root_leads_to_either_anchor(serve: Serve) -> None:
    key = generate_key(KeyType.ECDSA_P256)
    profile = replace(AUTHORITY, common_name="new root")
    own = ROOT.issue(replace(profile, self_signed=True), name="new root", key=key).chain[0]
    cross = ROOT.issue(profile, name="cross", key=key).chain[0]
    served = issue(CertificateAuthority.from_key(own, key))
    chain = replace(served, chain=(served.chain[0], cross))
    for anchors in ([own], [ROOT.certificate], [own, ROOT.certificate]):
        assert judge(serve, chain, anchors, checks=PATH) == {}
    other = CertificateAuthority.create("root").certificate
    assert outcomes(judge(serve, chain, [other], checks=PATH)) == {"cert.trusted": "violates"}


def _constrained(permitted: x509.GeneralName) -> CertificateAuthority:
    """Return a CA whose certificate has nameConstraints, which profiles do not make."""
    plain = CertificateAuthority.create("constrained").certificate
    key = generate_key(KeyType.ECDSA_P256)
    builder = x509.CertificateBuilder(
        issuer_name=plain.subject,
        subject_name=plain.subject,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=plain.not_valid_before_utc,
        not_valid_after=plain.not_valid_after_utc,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.NameConstraints([permitted], None), critical=True)
    return CertificateAuthority.from_key(builder.sign(key, SHA256()), key)


def test_a_critical_extension_of_names_without_names_is_not_handled(serve: Serve) -> None:
    """Some libraries write one for a certificate that has a common name alone."""
    key = generate_key(KeyType.ECDSA_P256)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=ROOT.certificate.not_valid_before_utc,
        not_valid_after=ROOT.certificate.not_valid_after_utc,
    )
    empty = x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, b"\x30\x00")
    certificate = builder.add_extension(empty, critical=True).sign(key, SHA256())
    served = Identity(name="server", chain=(certificate,), key=key)
    found = judge(
        serve,
        served,
        [certificate],
        checks=["cert.critical-extensions", "cert.has-subject-alternative-name", "cert.covers-endpoint"],
    )
    assert outcomes(found) == {
        "cert.critical-extensions": "violates",
        "cert.has-subject-alternative-name": "violates",
        "cert.covers-endpoint": "not-verified",
    }


@pytest.mark.parametrize("profile", [replace(AUTHORITY, ca=False), OLD], ids=["no CA", "expired"])
def test_no_password_goes_to_a_server_that_clients_refuse(serve: Serve, profile: Profile) -> None:
    """The holder of any certificate of the CA can sign one for a server; clients do not take it."""
    middle = ROOT.issue(replace(profile, common_name="somebody"), name="somebody")
    assert middle.key is not None
    forged = issue(CertificateAuthority.from_key(middle.chain[0], middle.key))
    served = replace(forged, chain=(forged.chain[0], middle.chain[0]))
    for presented, refused in ((served, True), (issue(MIDDLE), False)):
        listener = serve(choosing(lambda hello, number, shown=presented: shown)).listener()  # type: ignore[misc]
        credentials = PortCredentials(server_ca=TrustBundle((ROOT.certificate,), "ca.crt"))
        target = Target(label="ours", origin="live", listeners=(listener,), client=credentials)
        path = Observer(target, Bounds(timeout=10)).get(PathToTrust, None, listener)
        assert path.path != ()
        assert path.verified is not refused
