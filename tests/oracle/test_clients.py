"""The reason why etcd refuses a client is found if and only if Go refuses it, on generated chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from conforming import refused
from cryptography import x509
from oracle.chains import Case, cases
from oracle.clients import GoAnswer, GoClient
from oracle.exceptions import loads

from pytest_etcdtls.checks.refused_clients import UNKNOWN_CA, why_refused
from pytest_etcdtls.facts.access import Access, Candidate
from pytest_etcdtls.facts.listener import BAD_CERTIFICATE
from pytest_etcdtls.facts.refusal_grounds import RefusalGrounds
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.certificate import load
from pytest_etcdtls.pki.profile import CLIENT
from pytest_etcdtls.tls.attempt import Attempt

PER_SEED = 300
UNEXPLAINED = "nothing in the certificate explains"


def _clients(seed: int) -> list[Case]:
    """Return the cases as the messages of clients, without those that this client cannot load."""
    generated = (replace(case, host="") for case in cases(PER_SEED, seed, datetime.now(UTC)))
    return [case for case in generated if all(map(loads, (*case.chain, *case.roots)))]


def _why(case: Case, answer: GoAnswer) -> str:
    roots = tuple(map(load, case.roots))
    alert = UNKNOWN_CA if "unknown authority" in answer.error else BAD_CERTIFICATE
    attempt = refused(
        alert=alert, started_at=case.now, announced_ca=tuple(root.subject.public_bytes() for root in roots)
    )
    return _reason(tuple(map(load, case.chain)), attempt, roots)


def _reason(chain: Sequence[x509.Certificate], attempt: Attempt, roots: tuple[x509.Certificate, ...]) -> str:
    candidate = Candidate(
        identity="client",
        origin="generated",
        issued=False,
        has_names=False,
        cases=Access(),
        chain=tuple(chain),
    )
    return why_refused(candidate, [attempt], RefusalGrounds(bundle=roots, source="ca.crt", is_file=True)).why


def test_a_ca_that_was_created_again_under_its_name() -> None:
    former, present, other = (CertificateAuthority.create(name) for name in ("CA", "CA", "another CA"))
    chain = former.issue(CLIENT, name="client").chain
    for trusted, said in ((present, True), (other, False)):
        roots = (trusted.certificate,)
        names = tuple(root.subject.public_bytes() for root in roots)
        why = _reason(chain, refused(alert=UNKNOWN_CA, announced_ca=names), roots)
        assert ("created again under its old name" in why) is said, why
    unannounced = _reason(chain, refused(alert=UNKNOWN_CA, announced_ca=()), (former.certificate,))
    assert "its CA, CN=CA, is not trusted (trusted: none announced" in unannounced
    names = (former.certificate.subject.public_bytes(),)
    good = refused(alert=BAD_CERTIFICATE, announced_ca=names)
    assert UNEXPLAINED in _reason(chain, good, (former.certificate,))


@pytest.mark.parametrize("seed", range(4))
def test_a_reason_is_found_if_and_only_if_go_refuses(go: GoClient, seed: int) -> None:
    generated = _clients(seed)
    answers = go.ask(generated)
    assert {answer.refused for answer in answers} == {True, False}
    different = []
    for case, answer in zip(generated, answers, strict=True):
        if answer.phase == "roots":
            continue  # etcd does not start
        why = _why(case, answer)
        if "is not judged here" in why:
            continue  # see EXEMPTIONS
        if "fits no signature scheme" in why:
            continue  # a handshake decides that, and Go was asked about the chain alone
        if (UNEXPLAINED not in why) != answer.refused:
            where = f"seed {seed}, case {case.number}: {', '.join(case.mutations)}"
            different.append(f"{where}: Go says {answer}, the reason is {why}")
    assert different == []
