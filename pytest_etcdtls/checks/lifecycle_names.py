"""etcd admits only whom it was told to admit: by hostname, by common name, by address."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pytest_etcdtls.checks.lifecycle_pairs import SERVED, with_trials
from pytest_etcdtls.expectation import KEPT_OUT, LET_IN, REFUSED, Expected, judge_steps
from pytest_etcdtls.observations.experiment import Experiment
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import look_for
from pytest_etcdtls.results import Statement

_STARTED = "started"


def _let_in(who: str) -> Any:  # noqa: ANN401
    def counterexample(experiment: Experiment) -> Mapping[str, Any]:
        return {"experiment": with_trials(experiment, _STARTED, who, **SERVED)}

    return counterexample


def _curl(port: int, where: str) -> str:
    command = f"curl -sS -i -k --http1.1 --cert other.crt --key other.key https://127.0.0.1:{port}/version"
    return look_for(command, f"an HTTP status line: the client is let in ({where})")


@check("lifecycle.allowed-hostname", on=set(), counterexample=_let_in("client with another hostname"))
def only_clients_with_the_hostname_are_admitted(
    experiment: Annotated[Experiment, "allowed-hostname"],
) -> Iterator[Statement]:
    """With --client-cert-allowed-hostname only certificates that cover that hostname are admitted.

    Where one CA signs for many, the hostname is what tells etcd's clients from the others. A hostname that
    stands in the common name only does not count.

    Spec: etcd --client-cert-allowed-hostname
    Spec: RFC 6125 section 6.4.4
    Severity: high
    Level: MUST
    Remediation: do not rely on --client-cert-allowed-hostname with this etcd; give etcd's clients a CA of
        their own.
    """
    yield from judge_steps(
        experiment,
        [
            Expected(_STARTED, "client with the hostname", LET_IN),
            Expected(_STARTED, "client with another hostname", REFUSED),
            Expected(_STARTED, "client with the hostname as common name only", REFUSED),
        ],
        (_curl(2379, "etcd runs with --client-cert-allowed-hostname"),),
    )


@check("lifecycle.peer-allowed-cn", on=set(), counterexample=_let_in("peer with another common name"))
def only_peers_with_the_common_name_are_admitted(
    experiment: Annotated[Experiment, "peer-allowed-cn"],
) -> Iterator[Statement]:
    """With --peer-cert-allowed-cn only certificates with that common name are admitted as peers.

    Where one CA signs for clients and peers it is what keeps a client off the peer port.

    Spec: etcd --peer-cert-allowed-cn
    Spec: etcd tests, TestEtcdPeerCNAuth
    Severity: high
    Level: MUST
    Remediation: do not rely on --peer-cert-allowed-cn with this etcd; give the peers a CA of their own.
    """
    yield from judge_steps(
        experiment,
        [
            Expected(_STARTED, "peer with the common name", LET_IN),
            Expected(_STARTED, "peer with another common name", REFUSED),
            Expected(_STARTED, "peer without a common name", REFUSED),
        ],
        (_curl(2380, "etcd runs with --peer-cert-allowed-cn"),),
    )


@check("lifecycle.peer-allowed-hostname", on=set(), counterexample=_let_in("peer with another hostname"))
def only_peers_with_the_hostname_are_admitted(
    experiment: Annotated[Experiment, "peer-allowed-hostname"],
) -> Iterator[Statement]:
    """With --peer-cert-allowed-hostname only certificates that cover that hostname are admitted as peers.

    Spec: etcd --peer-cert-allowed-hostname
    Spec: etcd tests, TestEtcdPeerNameAuth
    Severity: high
    Level: MUST
    Remediation: do not rely on --peer-cert-allowed-hostname with this etcd; give the peers a CA of their own.
    """
    yield from judge_steps(
        experiment,
        [
            Expected(_STARTED, "peer with the hostname", LET_IN),
            Expected(_STARTED, "peer with another hostname", REFUSED),
            Expected(_STARTED, "peer with the hostname as common name only", REFUSED),
        ],
        (_curl(2380, "etcd runs with --peer-cert-allowed-hostname"),),
    )


@check("lifecycle.peer-san", on=set(), counterexample=_let_in("peer with another address"))
def a_peer_comes_from_where_its_certificate_says(
    experiment: Annotated[Experiment, "peer-san"],
) -> Iterator[Statement]:
    """A peer whose certificate names addresses is admitted from these only, one without names from anywhere.

    A member's key that was stolen is then of no use from elsewhere. etcd closes such a connection after the
    handshake, without an alert.

    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Spec: etcd --peer-skip-client-san-verification
    Severity: high
    Level: MUST
    Remediation: do not set --peer-skip-client-san-verification (up to 3.5 with experimental- before it).
    """
    yield from judge_steps(
        experiment,
        [
            Expected(_STARTED, "peer with our address", LET_IN),
            Expected(_STARTED, "peer with our address among others", LET_IN),
            Expected(_STARTED, "peer without a name", LET_IN),
            Expected(_STARTED, "peer with another address", KEPT_OUT),
        ],
        (_curl(2380, "other.crt has the subjectAltName IP:192.0.2.1"),),
    )
