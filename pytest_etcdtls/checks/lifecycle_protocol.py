"""etcd speaks the TLS versions and cipher suites that it was told to speak, and no others."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.checks.lifecycle_pairs import SERVED, with_trials
from pytest_etcdtls.expectation import LET_IN, NO_HANDSHAKE, Expected, judge_steps
from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.observations.experiment import Experiment, SuiteOffer, SuiteOffers
from pytest_etcdtls.observations.greeting import TLS1_2, Reply, ServerHello
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import s_client
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict

_CLIENT_PORT = "https://127.0.0.1:2379"
_REFUSED = '"alert": refused, as it should be'
_STARTED = "started"
_TLS12, _TLS13 = "good client offering TLSv1.2 only", "good client offering TLSv1.3 only"


def _spoken(who: str) -> Any:  # noqa: ANN401
    def counterexample(experiment: Experiment) -> Mapping[str, Any]:
        return {"experiment": with_trials(experiment, _STARTED, who, **SERVED)}

    return counterexample


@check("lifecycle.version-floor", on=set(), counterexample=_spoken(_TLS12))
def no_version_below_the_floor_is_spoken(
    experiment: Annotated[Experiment, "version-floor"],
) -> Iterator[Statement]:
    """With --tls-min-version=TLS1.3 neither port speaks TLS 1.2.

    Spec: etcd --tls-min-version
    Spec: etcd tests, TestTLSMinMaxVersion
    Spec: RFC 8446 section 4.2.1
    Severity: high
    Level: MUST
    Remediation: do not rely on --tls-min-version with this etcd; what stands before it can refuse TLS 1.2.
    """
    yield from judge_steps(
        experiment,
        [Expected(_STARTED, _TLS13, LET_IN), Expected(_STARTED, _TLS12, NO_HANDSHAKE)],
        (s_client(_CLIENT_PORT, TLSVersion.TLS1_2, look=f"{_REFUSED} with --tls-min-version=TLS1.3"),),
    )


@check("lifecycle.version-ceiling", on=set(), counterexample=_spoken(_TLS13))
def no_version_above_the_ceiling_is_spoken(
    experiment: Annotated[Experiment, "version-ceiling"],
) -> Iterator[Statement]:
    """With --tls-max-version=TLS1.2 neither port speaks TLS 1.3.

    Who sets it does so for something in between that cannot do with TLS 1.3, or for cipher suites, which etcd
    cannot choose in TLS 1.3.

    Spec: etcd --tls-max-version
    Spec: etcd tests, TestTLSMinMaxVersion
    Severity: medium
    Level: MUST
    Remediation: do not rely on --tls-max-version with this etcd.
    """
    yield from judge_steps(
        experiment,
        [Expected(_STARTED, _TLS12, LET_IN), Expected(_STARTED, _TLS13, NO_HANDSHAKE)],
        (s_client(_CLIENT_PORT, TLSVersion.TLS1_3, look=f"{_REFUSED} with --tls-max-version=TLS1.2"),),
    )


def _all_accepted(offers: SuiteOffers) -> Mapping[str, Any]:
    def accepted(offer: SuiteOffer) -> SuiteOffer:
        hello = ServerHello(version=TLS1_2, suite=0xC02C)
        greeting = replace(offer.greeting, reply=Reply.SERVER_HELLO, alert=None, server_hello=hello)
        return replace(offer, greeting=greeting)

    return {"offers": replace(offers, offers=tuple(map(accepted, offers.offers)))}


@check("lifecycle.cipher-suites", on=set(), counterexample=_all_accepted)
def only_listed_suites_are_accepted(offers: SuiteOffers) -> Iterator[Statement]:
    """With --cipher-suites both ports accept the listed suites of TLS 1.2, and no other.

    TLS 1.3 has suites of its own, which the flag does not touch.

    Spec: etcd --cipher-suites
    Spec: etcd tests, TestTLSClientCipherSuitesMismatch
    Spec: RFC 5246 section 7.4.1.3
    Severity: medium
    Level: MUST
    Remediation: do not rely on --cipher-suites with this etcd; --tls-min-version=TLS1.3 leaves no suite of
        TLS 1.2 to be chosen.
    """
    for offer in offers.offers:
        if not offer.greeting.answered:
            said = offer.greeting.describe()
            yield Verdict(Outcome.INCONCLUSIVE, f"{offer.role} port, {offer.suite} offered alone: {said}")
    for listed in (True, False):
        wrong = [
            offer
            for offer in offers.offers
            if offer.listed is listed
            and offer.greeting.reply is (Reply.ALERT if listed else Reply.SERVER_HELLO)
        ]
        if wrong:
            yield _not_as_listed(offers, wrong, listed=listed)


def _not_as_listed(offers: SuiteOffers, wrong: list[SuiteOffer], *, listed: bool) -> Finding:
    return Finding(
        message=f"suites that are {'listed are refused' if listed else 'not listed are accepted'}",
        expected="accepted" if listed else "refused",
        observed="; ".join(
            f"{offer.role} port, {offer.suite}: {offer.greeting.describe()}" for offer in wrong
        ),
        evidence={"etcd": offers.etcd_version, "started with": " ".join(offers.flags)},
        reproduce=(
            s_client(
                _CLIENT_PORT,
                TLSVersion.TLS1_2,
                "-cipher ECDHE-ECDSA-AES256-GCM-SHA384",
                look=f"{_REFUSED} with --cipher-suites without this suite",
            ),
        ),
    )
