"""The names of identities are the user's: no verdict depends on them; every etcd is real."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from judged import judge, listener_of
from starting import start_process
from zoo.model import explain

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.pki.profile import CLIENT, CALayout, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import PortCredentials


def _named(credentials: PortCredentials, name: str) -> PortCredentials:
    """Return the credentials with that name for each good identity."""
    renamed = tuple(replace(identity, name=name) for identity in credentials.identities)
    return replace(credentials, identities=renamed)


@pytest.mark.parametrize(
    ("client", "peer"),
    [("none", "client"), ("issued", "expired"), ("revoked", "wrong-san")],
)
def test_a_clean_cluster_is_clean_under_any_names(client: str, peer: str, etcd_binary: Path) -> None:
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        good = cluster.target()
        target = replace(good, client=_named(good.client, client), peer=_named(good.peer, peer))
        results, expected = (run_checks(Observer(one), ["!lifecycle"]) for one in (target, good))
    assert {(result.check, result.listener): result.outcome for result in results} == {
        (one.check, one.listener): one.outcome for one in expected
    }, explain(results)


def test_each_of_two_clients_with_one_name_is_judged(newest_etcd: Path) -> None:
    """The first has expired, and the second is the control of everything else."""
    expired = replace(CLIENT, valid_from=timedelta(days=-2), valid_for=timedelta(days=1))
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        good = cluster.target()
        refused = cluster.pki.client_ca.issue(expired, name=good.client.identities[0].name)
        target = replace(good, client=replace(good.client, identities=(refused, *good.client.identities)))
        results = run_checks(Observer(target), ["mtls", "api.gateway-works"])
    violated = {result.check for result in results if result.outcome is Outcome.VIOLATES}
    assert violated == {"mtls.trusted-client"}, explain(results)


@pytest.mark.parametrize(
    ("layout", "own", "outcome"),
    [
        (CALayout.PER_ROLE, True, Outcome.NOT_VERIFIED),
        (CALayout.SHARED, True, Outcome.CONFORMS),
        (CALayout.PER_ROLE, False, Outcome.VIOLATES),
    ],
    ids=["borrowed", "borrowed, one CA", "a peer that is called client"],
)
def test_only_the_client_ports_own_certificate_is_excused_on_a_peer_port(
    layout: CALayout, own: bool, outcome: Outcome, newest_etcd: Path
) -> None:
    with start_process(ClusterConfig(pki=PKIPlan(layout=layout)), newest_etcd) as cluster:
        good = cluster.target()
        client = good.client.identities[0] if own else cluster.pki.client_ca.issue(CLIENT, name="any")
        peer = replace(good.peer, identities=(replace(client, name="client"),), signing_key=None)
        result = judge(replace(good, peer=peer), "mtls.trusted-client", Role.PEER)
    assert result.outcome is outcome, result
    assert ("--etcd-peer-cert" in result.reason) is (outcome is Outcome.NOT_VERIFIED)


def test_a_given_revoked_identity_may_have_any_name(newest_etcd: Path) -> None:
    with start_process(ClusterConfig(client_crl_file="crl.der"), newest_etcd) as cluster:
        good = cluster.target()
        assert good.client.revoked is not None
        target = replace(
            good, client=replace(good.client, revoked=replace(good.client.revoked, name="stolen"))
        )
        observer = Observer(target)
        results = run_checks(observer, ["mtls.revoked-*"])
        listener = listener_of(target, Role.CLIENT)
        assert observer.get(AcceptedClient, listener=listener).accepted is not None
        assert observer.get(AccessMatrix, "revoked", listener).identity == "revoked"
    assert {result.outcome for result in results if result.role == "client"} == {Outcome.CONFORMS}, explain(
        results
    )
