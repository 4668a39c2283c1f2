"""How long what was declared is good for."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from shlex import quote
from typing import Any

from pytest_etcdtls.checks.cert_validity import when
from pytest_etcdtls.checks.mtls_client_credentials import expiring
from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.file_facts import DeclaredFiles, HeldCertificates, MemberFiles
from pytest_etcdtls.observations.policy import Policy
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import look_for
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict


def _an_hour_left(held: HeldCertificates, policy: Policy) -> Mapping[str, Any]:
    ends = held.certificates[0].certificate.not_valid_after_utc
    return {"held": replace(held, observed_at=ends - timedelta(hours=1))}


@check("config.credentials-expire-soon", on=set(), counterexample=_an_hour_left)
def credentials_do_not_expire_soon(held: HeldCertificates, policy: Policy) -> Iterator[Statement]:
    """Declared certificates that no listener was seen to serve are valid for a while.

    Such a pair may be served after the next change of files or restart. What listeners serve, what clients
    present and their CAs have checks of their own. The bound is --etcd-expiry-days.

    Spec: RFC 5280 section 4.1.2.5
    Severity: medium
    Level: SHOULD
    Remediation: renew the certificate; etcd needs no restart for that.
    """
    yield from expiring(held, policy)


def _never_renewed(files: DeclaredFiles) -> Mapping[str, Any]:
    ends = [crl.next_update for member in files.members for _, crl in member.crls if crl.next_update]
    return {"files": replace(files, observed_at=ends[0] + timedelta(days=1))}


@check("config.crl-fresh", on=set(), counterexample=_never_renewed)
def revocation_lists_are_renewed(files: DeclaredFiles) -> Iterator[Statement]:
    """No declared revocation list is past the date by which it should have been renewed.

    etcd looks at serial numbers alone and takes a list of any age, so who was revoked since is let in. It
    reads the file at each connection.

    Spec: RFC 5280 section 5.1.2.5
    Spec: etcd --client-crl-file, --peer-crl-file
    Severity: medium
    Level: SHOULD
    Remediation: have the CA issue the list anew before each nextUpdate, and put it in the place of the old
        one.
    """
    lists = [(member, setting, crl) for member in files.members for setting, crl in member.crls]
    if not lists:
        yield Verdict(Outcome.NOT_APPLICABLE, "no revocation list is declared")
    for member, setting, crl in lists:
        if crl.found is None:
            yield _not_here(member, setting)
        elif crl.next_update is None:
            yield Note(f"{crl.found} does not say when it is to be renewed")
        elif files.observed_at > crl.next_update:
            yield Finding(
                message=f"{member.label}: a revocation list is out of date",
                expected=f"a list that is to be renewed after {when(files.observed_at)}",
                observed=f"{crl.found}: nextUpdate {when(crl.next_update)}",
                evidence={"declared": str(setting), "issuer": crl.issuer},
                reproduce=(
                    look_for(f"openssl crl -in {quote(crl.found)} -noout -nextupdate", '"nextUpdate"'),
                ),
            )


def _not_here(member: MemberFiles, setting: Setting) -> Verdict:
    files = [file for pair in member.pairs for file in (pair.certificate, pair.key)]
    if any(file.original for file in files):
        reason = f"{member.label}: there is no file where {setting} says, see config.crl-missing"
        return Verdict(Outcome.NOT_APPLICABLE, reason)
    return Verdict(Outcome.NOT_VERIFIED, f"{member.label}: the file of {setting} is not here")
