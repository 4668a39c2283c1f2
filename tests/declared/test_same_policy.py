"""Declarations of several members: rules about certificates in which they differ."""

from __future__ import annotations

import pytest
from oracle.crls import files, signed

from declared.declaring import GOOD, flags
from pytest_etcdtls.checks.membership import every_member_has_the_same_policy
from pytest_etcdtls.checks.results import Finding, Level
from pytest_etcdtls.declared.declaration import CRLFile, DeclaredMember, DeclaredPaths
from pytest_etcdtls.declared.files import crl_file
from pytest_etcdtls.facts.configuration import Declarations, MemberDeclaration
from pytest_etcdtls.facts.members import SideBySide
from pytest_etcdtls.pki.authority import CertificateAuthority

AUTHORITY = CertificateAuthority.create("lists")
LISTS = files(AUTHORITY, 4711, 815) | {"two": signed(AUTHORITY, 4711, 815), "none": signed(AUTHORITY)}
CRL = "--client-crl-file=/pki/crl"
PEER_CRL = "--peer-crl-file=/pki/crl"
NAMES = "--peer-cert-allowed-cn=member"
SKIPS = "--experimental-peer-skip-client-san-verification"


def _members(version: str, *declared: tuple[str, ...]) -> tuple[MemberDeclaration, ...]:
    """Return members with these flags; a word without dashes is the name of what their list has."""
    found = []
    for number, words in enumerate(declared):
        name = next((word for word in words if not word.startswith("--")), "")
        crl = crl_file("/pki/crl", "/pki/crl", LISTS[name]) if name else CRLFile(declared="/pki/crl")
        declaration = flags(*GOOD, *(word for word in words if word.startswith("--")))
        member = DeclaredMember(declaration=declaration, paths=DeclaredPaths(), crls={"/pki/crl": crl})
        found.append(MemberDeclaration.of(f"m{number}", member, version))
    return tuple(found)


@pytest.mark.parametrize(
    ("declared", "level", "named"),
    [
        (((CRL, "DER"), (), (CRL, "DER")), Level.MUST, "m1"),
        (((CRL, "none"), (), (CRL, "none")), Level.SHOULD, "m1"),
        (((CRL,), (CRL,), ()), Level.MUST, "m2"),
        (((CRL, "DER"), (CRL, "DER"), (CRL, "two")), Level.MUST, "m2"),
        (((PEER_CRL, "DER"), (), ()), Level.MUST, "m0"),
        (((NAMES,), (NAMES,), ("--peer-cert-allowed-cn=other",)), Level.MUST, "m2"),
        (((NAMES,), (NAMES,), (f"{NAMES},member",)), None, ""),
        (((SKIPS,), (), ()), Level.SHOULD, "m0"),
        (((CRL, "DER"), (CRL, "DER"), (CRL, "DER")), None, ""),
        # Encoding and extensions of a list do not matter; one that is not here is not compared.
        (((CRL, "DER"), (CRL, "DER without extensions"), (CRL,)), None, ""),
        # Etcd does not read it there, which config.crl-encoding reports.
        (((CRL, "DER"), (CRL, "DER"), (CRL, "PEM")), None, ""),
        ((), None, ""),
    ],
)
def test_rules_in_which_members_differ(
    declared: tuple[tuple[str, ...], ...], level: Level | None, named: str
) -> None:
    members = Declarations(_members("3.6.16", *declared))
    judge = every_member_has_the_same_policy
    found = list(judge(side_by_side=SideBySide(rows=()), declared=members, issued=None))
    assert all(isinstance(one, Finding) for one in found)
    assert [one.level or Level.MUST for one in found if isinstance(one, Finding)] == [level] * bool(level)
    assert all(f"of {named} are" in one.message for one in found if isinstance(one, Finding))


def test_nothing_is_said_of_a_list_without_effect_or_a_member_that_requests_no_certificate() -> None:
    """Up to 3.5 the second list in a file counts for nothing; the other is seen on the wire."""
    both = _members("3.5.33", (CRL, "PEM"), (CRL, "PEM, two lists"))
    declaration = flags(*(flag for flag in GOOD if "trusted-ca" not in flag and "cert-auth" not in flag))
    member = DeclaredMember(declaration=declaration, paths=DeclaredPaths(), crls={})
    opened = (*_members("3.6.16", (CRL, "DER")), MemberDeclaration.of("m1", member, "3.6.16"))
    for members in map(Declarations, (both, opened)):
        judge = every_member_has_the_same_policy
        assert not list(judge(side_by_side=SideBySide(rows=()), declared=members, issued=None))
