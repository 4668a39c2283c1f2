"""What a live cluster shows of a rule without a CA key: held certificates and served clients decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from judged import judge, listener_of
from kubeadm.judging import target as described
from live.target_kinds import without_ca_keys
from starting import start_process
from zoo.client_access import BAD_IDENTITIES, BROKEN, GOOD, UNAUTHENTICATED_ANSWERED
from zoo.clusters import restart_one_with

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.reading import declared_member, from_command_line
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.bundle import encode_key
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, CALayout, Identity, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target, TrustBundle

OPEN = replace(GOOD, client_cert_auth=False, trusted_ca_file=None, expects_health=False)


def _live(
    cluster: Cluster,
    *arguments: str,
    client: Iterable[Identity] | None = None,
    peer: Iterable[Identity] | None = None,
    cn: tuple[str, ...] = (),
    hostname: tuple[str, ...] = (),
) -> Target:
    """Return a live target without a CA key, with flags that are declared as well.

    Clients and peers are the cluster's own unless they are given. The allowed names of peers (``cn``) and
    clients (``hostname``) are those that the declaration has.
    """
    target = without_ca_keys(cluster.target())
    clients = target.client.identities if client is None else tuple(client)
    peers = target.peer.identities if peer is None else tuple(peer)
    return replace(
        target,
        client=replace(target.client, identities=clients, allowed_hostname=hostname),
        peer=replace(target.peer, identities=peers, allowed_cn=cn),
        declared={"m0": declared_member(from_command_line([*cluster.members[0].argv, *arguments]))},
    )


def _judge(target: Target, role: Role, *ids: str) -> dict[str, CheckResult]:
    judge, listener = Judge(Observer(target)), listener_of(target, role)
    return {id_: judge.result(catalogue()[id_], listener) for id_ in ids}


def _outcomes(results: dict[str, CheckResult]) -> dict[str, str]:
    return {id_: str(result.outcome) for id_, result in results.items()}


def test_an_accepted_client_without_a_certificate_decides_for_all_identities(etcd_binary: Path) -> None:
    with start_process(OPEN, etcd_binary) as cluster:
        target = _live(cluster, "--client-cert-allowed-hostname=a.example", client=())
        target = replace(target, client=replace(target.client, allowed_hostname=("a.example",)))
        results = run_checks(Observer(target), ["listener", "mtls", "api", "config.allowed-names*"])
    of_client = [one for one in results if one.role == Role.CLIENT]
    outcomes = {one.check: one.outcome for one in of_client}
    assert {check for check, outcome in outcomes.items() if outcome is Outcome.VIOLATES} == {
        *(*BAD_IDENTITIES, *UNAUTHENTICATED_ANSWERED, "mtls.announced-ca-present"),
        *("mtls.wrong-hostname", "config.allowed-names-in-force"),
    }
    unverified = {one.check: one.reason for one in of_client if one.outcome is Outcome.NOT_VERIFIED}
    assert unverified == {}
    expired = next(one for one in of_client if one.check == "mtls.expired").findings[0]
    assert expired.message == (
        "an expired client certificate is not refused: a client without a certificate is accepted"
    )
    assert not any("none.crt" in line for line in expired.commands)


def test_a_missing_bundle_is_not_in_force_if_unauthenticated_clients_are_served(newest_etcd: Path) -> None:
    with start_process(OPEN, newest_etcd) as cluster:
        target = _live(cluster, "--client-cert-auth=true", "--trusted-ca-file=/nowhere/ca.crt")
        result = _judge(target, Role.CLIENT, "config.trusted-ca-in-force")["config.trusted-ca-in-force"]
    assert result.outcome is Outcome.VIOLATES
    assert "no certificate is requested" in result.findings[0].observed


NAMES = ("mtls.wrong-cn", "config.allowed-names-in-force")


def test_an_accepted_client_that_violates_the_declared_rule_is_a_finding(newest_etcd: Path) -> None:
    with start_process(GOOD, newest_etcd) as cluster:
        target = _live(cluster, "--peer-cert-allowed-cn=another", cn=("another",))
        results = _judge(target, Role.PEER, *NAMES)
        target = _live(cluster, "--client-cert-allowed-hostname=a.example", hostname=("a.example",))
        of_clients = _judge(target, Role.CLIENT, "mtls.wrong-hostname", NAMES[1])
    for judged in (results, of_clients):
        assert set(_outcomes(judged).values()) == {"violates"}
    (finding,) = results["mtls.wrong-cn"].findings
    assert finding.message == "a peer with another common name than the allowed one is accepted"
    assert finding.evidence["certificate"].startswith("subject CN=etcd-peer")


def test_a_peer_that_satisfies_the_rule_or_is_excluded_proves_nothing(newest_etcd: Path) -> None:
    ids = (*NAMES, "mtls.trusted-client", "mtls.expired", "mtls.wrong-san")
    with start_process(replace(GOOD, peer_cert_allowed_cn="etcd-peer"), newest_etcd) as cluster:
        other = cluster.pki.peer_ca.issue(replace(GOOD.pki.peer_client, common_name="other"), name="peer")
        good, excluded = (
            _judge(_live(cluster, cn=("etcd-peer",), peer=peers), Role.PEER, *ids)
            for peers in (None, (other,))
        )
    assert good.pop("mtls.trusted-client").outcome is Outcome.CONFORMS
    assert set(_outcomes(good | excluded).values()) | set(_outcomes(good).values()) == {"not-verified"}
    assert "--etcd-peer-ca-key" in good["mtls.wrong-cn"].reason
    assert "a declared rule about names excludes" in excluded["mtls.trusted-client"].reason


NAMED = replace(
    GOOD,
    pki=PKIPlan(client=replace(CLIENT, subject_alt_names=("a.example", "b.example"))),
    client_cert_allowed_hostname="b.example",
    expects_health=False,
)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("a.example", "--client-cert-allowed-hostname=a.example (the command line) is not in force"),
        ("", "clients are refused for their names, and nothing in the command line excludes any"),
        ("b.example", ""),
        pytest.param(  # a list, from etcd 3.5.15 on
            "c.example,b.example",
            "--client-cert-allowed-hostname=c.example,b.example (the command line) is not",
            marks=pytest.mark.etcd_version("3.5.33", "3.6", "3.7"),
        ),
    ],
)
def test_with_the_key_of_the_ca_a_declared_name_is_tried(newest_etcd: Path, declared: str, said: str) -> None:
    names = tuple(filter(None, declared.split(",")))
    flag = "--client-cert-allowed-hostname="
    with start_process(NAMED, newest_etcd) as cluster:
        argv = [word for word in cluster.members[0].argv if not word.startswith(flag)]
        argv += [f"{flag}{declared}"] if declared else []
        client = replace(cluster.target().client, allowed_hostname=names)
        target = replace(
            _live(cluster), client=client, declared={"m0": declared_member(from_command_line(argv))}
        )
        result = _judge(target, Role.CLIENT, NAMES[1])[NAMES[1]]
    assert result.outcome is (Outcome.VIOLATES if said else Outcome.CONFORMS)
    assert [finding.message[: len(said)] for finding in result.findings] == ([said] if said else [])


@pytest.mark.etcd_version("3.6", "3.7")
@pytest.mark.parametrize(("restarted", "outcome"), [(True, Outcome.CONFORMS), (False, Outcome.VIOLATES)])
def test_a_common_name_of_clients_from_a_configuration_file(
    newest_etcd: Path, tmp_path: Path, restarted: bool, outcome: Outcome
) -> None:
    """There is a key for it from etcd 3.5.15 on, and no flag."""
    with start_process(replace(BROKEN, config_file=True), newest_etcd) as cluster:
        (file,) = (Path(word.partition("=")[2]) for word in cluster.members[0].argv if "config-file=" in word)
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        document["client-transport-security"]["allowed-cn"] = ["client"]
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        if restarted:
            cluster.restart()
        (tmp_path / "ca.key").write_bytes(encode_key(cluster.pki.client_ca.key))
        (tmp_path / "ca.key").chmod(0o600)
        pair = {name: cluster.members[0].file(f"client.{name}") for name in ("crt", "key")}
        given = {"etcd_config": file, "etcd_ca_key": tmp_path / "ca.key"}
        target = described(**given, etcd_cert=pair["crt"], etcd_key=pair["key"])
        result = _judge(target, Role.CLIENT, NAMES[1])[NAMES[1]]
    assert result.outcome is outcome, result


@pytest.mark.parametrize(("odd", "level"), [(None, "violates"), ("b.example", "conforms")])
def test_with_the_key_of_the_ca_a_member_without_the_rule_is_found(
    etcd_binary: Path, odd: str | None, level: str
) -> None:
    with start_process(replace(NAMED, size=3), etcd_binary) as cluster:
        restart_one_with(cluster, 2, client_cert_allowed_hostname=odd)
        target = cluster.target()
        client = replace(target.client, allowed_hostname=())
        target = replace(target, origin="live", declared={}, client=client)
        result = judge(target, "cluster.same-policy")
    assert str(result.outcome) == level, result
    if odd is None:
        (finding,) = result.findings
        (url,) = (one.url for one in target.listeners if (one.member, one.role) == ("m2", Role.CLIENT))
        assert finding.message == f"{url} judges certificates of the same CA differently than other members"
        assert "--cert issued.crt" in finding.commands[0]


SHARED = replace(GOOD, pki=PKIPlan(layout=CALayout.SHARED))


@pytest.mark.parametrize(("in_force", "outcome"), [(True, "conforms"), (False, "violates")])
def test_a_client_of_the_same_ca_tests_the_rule_about_peers(
    newest_etcd: Path, in_force: bool, outcome: str
) -> None:
    config = replace(SHARED, peer_cert_allowed_cn="etcd-peer") if in_force else SHARED
    with start_process(config, newest_etcd) as cluster:
        target = _live(
            cluster,
            *(() if in_force else ("--peer-cert-allowed-cn=etcd-peer",)),
            cn=("etcd-peer",),
            peer=(cluster.pki.peer_client,),
        )
        assert _outcomes(_judge(target, Role.PEER, *NAMES)) == dict.fromkeys(NAMES, outcome)


REVOKED = ("mtls.revoked-http", "mtls.revoked-grpc")


@pytest.mark.parametrize(("in_force", "outcome"), [(True, "conforms"), (False, "violates")])
def test_a_certificate_that_the_list_revokes_is_held_or_issued(
    newest_etcd: Path, in_force: bool, outcome: str
) -> None:
    config = replace(GOOD, client_crl_file="crl.der") if in_force else GOOD
    with start_process(config, newest_etcd) as cluster:
        crl, pki = cluster.members[0].file("crl.der"), cluster.pki
        flags = () if in_force else (f"--client-crl-file={crl}",)
        good = (pki.client,) if in_force else ()
        held = _judge(_live(cluster, *flags, client=(*good, pki.revoked)), Role.CLIENT, *REVOKED)
        target, key = _live(cluster, *flags), cluster.target().client.signing_key
        neither = _judge(target, Role.CLIENT, REVOKED[0])[REVOKED[0]]
        issued = replace(target, client=replace(target.client, signing_key=key))
        for results in (held, _judge(issued, Role.CLIENT, *REVOKED)):
            assert _outcomes(results) == dict.fromkeys(REVOKED, outcome)
    assert (neither.outcome, "--etcd-ca-key" in neither.reason) == (Outcome.NOT_VERIFIED, True)


CREDENTIALS = (
    *("mtls.client-certificate-strength", "mtls.client-certificate-signature"),
    *("mtls.client-certificate-expires", "mtls.client-ca-strength", "mtls.client-ca-expires"),
)
OWN_CA = PKIPlan(
    layout=CALayout.PER_ROLE, client_authority=replace(AUTHORITY, rsa_bits=1024, valid_for=timedelta(days=10))
)


@pytest.mark.parametrize("known_by", ["--etcd-trusted-ca", "announced"])
def test_a_client_ca_is_judged_wherever_it_is_available(newest_etcd: Path, known_by: str) -> None:
    with start_process(replace(GOOD, pki=OWN_CA, expects_health=False), newest_etcd) as cluster:
        target = _live(cluster)
        trust, served = target.client.client_trust, target.client.server_ca
        assert trust is not None
        assert served is not None
        both = TrustBundle((*served.certificates, *trust.certificates), "cas.crt")
        client = replace(target.client, client_trust=None, server_ca=both)
        target = replace(target, declared={}, client=client if known_by == "announced" else target.client)
        outcomes = {check: str(judge(target, check).outcome) for check in CREDENTIALS}
    assert outcomes == {
        **dict.fromkeys(CREDENTIALS, "conforms"),
        "mtls.client-ca-strength": "violates",
        "mtls.client-ca-expires": "warns",
    }


def test_no_client_and_no_client_ca_is_available(newest_etcd: Path) -> None:
    with start_process(GOOD, newest_etcd) as cluster:
        target = _live(cluster, client=(), peer=())
        client, peer = (replace(port, client_trust=None) for port in (target.client, target.peer))
        target = replace(target, declared={}, client=client, peer=peer)
        assert {judge(target, check).outcome for check in CREDENTIALS} == {Outcome.NOT_APPLICABLE}
