"""What is said of chains that only a server of ours serves for us, one fault each.

Which chains are accepted is compared with Go in ``oracle``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from certificates.choosing_server import choosing
from cryptography import x509
from judged import judged
from servers import Handler, Server

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.facts.certificates import PathToTrust
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, SERVER, Identity, Profile
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import PortCredentials, Target, TrustBundle

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
    remark: str = "",
    inferred: bool = False,
) -> dict[str, CheckResult]:
    """Return what does not conform."""
    listener = serve(choosing(lambda hello, number: served)).listener()
    credentials = PortCredentials(
        server_ca=TrustBundle(tuple(anchors), "ca.crt", inferred, remark),
        identities=(client,) if client else (),
    )
    target = Target(label="ours", origin="live", listeners=(listener,), client=credentials)
    results = judged(target, *JUDGED)
    return {result.check: result for result in results if result.outcome is not Outcome.CONFORMS}


def outcomes(results: dict[str, CheckResult]) -> dict[str, str]:
    return {check: str(result.outcome) for check, result in results.items()}


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


def test_the_client_ports_ca_shows_nothing_about_a_peer_whose_certificate_it_does_not_verify(
    serve: Serve,
) -> None:
    other = CertificateAuthority.create("other").certificate
    reason = judge(serve, issue(ROOT), [other], inferred=True)["cert.trusted"].reason
    assert reason.endswith(
        "does not verify the served certificate, as where peers have a separate CA: pass --etcd-peer-cacert"
    )
    assert not judge(serve, issue(ROOT), inferred=True)


def test_a_leaf_that_is_given_as_the_ca_is_named(serve: Serve) -> None:
    leaf, other = issue(ROOT), issue(ROOT)
    found = judge(serve, leaf, other.chain, remark="holds no CA certificate")
    assert (
        "verifies the served certificate: the file holds no CA" in found["cert.trusted"].findings[0].message
    )
    itself = judge(serve, leaf, leaf.chain, remark="holds no CA certificate")["cert.issuer-is-ca"]
    assert itself.reason == "needs a CA certificate in ca.crt, that of the issuer CN=root"


def test_the_order_and_repetition_are_judged(serve: Serve) -> None:
    key = issue(LOW)
    leaf, low, middle = key.chain
    disordered = replace(key, chain=(leaf, middle, low))
    assert outcomes(judge(serve, disordered)) == {"cert.no-stray-certificates": "warns"}
    repeated = replace(key, chain=(*key.chain, low))
    assert outcomes(judge(serve, repeated)) == {"cert.no-stray-certificates": "warns"}


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (replace(AUTHORITY, path_length=0), "pathlen:0 with 1 CA below"),
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


OLD = replace(AUTHORITY, valid_from=-timedelta(days=20), valid_for=timedelta(days=1))


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
        path = Observer(target).get(PathToTrust, None, listener)
        assert path.path != ()
        assert path.verified is not refused
