"""Credentials by name, on an owned cluster and on a live one."""

from __future__ import annotations

from pathlib import Path

from plugin.live_etcd import Live
from plugin.runs import Runner

from pytest_etcdtls import PEER, ClusterConfig, start_cluster
from pytest_etcdtls.pki.bundle import encode_key

NAMED = """
    import httpx, pytest
    from pytest_etcdtls import NotApplicableError
    from pytest_etcdtls.run.credentials import NAMES

    SERVED = {served}
    NO_RULE = {no_rule}

    @pytest.mark.parametrize("where", [*SERVED])
    def test_names(etcd_credentials, where):
        credentials = etcd_credentials.on(where)
        assert sorted(credentials) == sorted(NAMES)
        for name in NAMES:
            if name in NO_RULE[where]:
                with pytest.raises(NotApplicableError):
                    credentials[name]
                continue
            with credentials[name].client() as client:
                if name in SERVED[where]:
                    assert client.get("/version").json()["etcdserver"], name
                else:
                    with pytest.raises(httpx.TransportError):
                        client.get("/version")
"""
SERVED = {
    "client": {"client", "server", "issued", "intermediate-sent", "wrong-san"},
    "peer": {"peer", "server", "issued", "intermediate-sent"},
}


def test_every_name_on_an_owned_cluster(run: Runner, newest_etcd: Path) -> None:
    run.write(
        test_names=NAMED.format(
            served={"client": SERVED["client"]},
            no_rule={"client": {"wrong-cn", "wrong-hostname", "revoked"}},
        ),
        test_forms="""
        import ssl, stat, subprocess
        import pytest
        from pytest_etcdtls import UsageError
        from pytest_etcdtls.run.credentials import Credential

        def test_forms(etcd_credentials, etcd_cluster, etcd_target):
            with pytest.raises(KeyError, match="there are client, peer"):
                etcd_credentials["no-eku"]
            expired = etcd_credentials["expired"]
            assert expired is etcd_credentials["expired"]
            certificate, key = expired.files()
            assert certificate.read_bytes() == expired.certificate_pem
            assert stat.S_IMODE(key.stat().st_mode) == 0o600
            assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
            assert isinstance(expired.ssl_context(), ssl.SSLContext)
            given = etcd_credentials["client"].environment()
            assert given["ETCDCTL_CERT"] == str(etcd_cluster.members[0].file("client.crt"))
            assert given["ETCDCTL_CACERT"] == str(etcd_cluster.members[0].file("server-ca.crt"))
            assert given["ETCDCTL_ENDPOINTS"] == etcd_cluster.members[0].client_url
            assert "PRIVATE" not in repr(expired) and b"PRIVATE" in expired.key_pem
            with pytest.raises(UsageError, match="has no files"):
                etcd_credentials["none"].files()

        def test_files_go_with_the_credentials(etcd_observer):
            import gc
            from pytest_etcdtls import Credentials

            credentials = Credentials(etcd_observer)
            directory = credentials["foreign-ca"].files()[0].parent
            del credentials
            gc.collect()
            assert not directory.exists()

        def test_other_listener(etcd_credentials):
            with etcd_credentials.on("peer")["peer"].client() as client:
                assert client.get("/version").status_code == 200

        @pytest.mark.parametrize("etcd_cluster", [{"client_crl_file": "crl.der"}], indirect=True)
        def test_revoked(etcd_credentials):
            assert etcd_credentials["revoked"].identity.name == "revoked"
        """,
    )
    ran = run(f"--etcd-binary={newest_etcd}", "-Werror", report=False)
    ran.result.assert_outcomes(passed=5)


def test_without_a_ca_key_a_live_cluster_has_identities_that_need_no_key(run: Runner, live: Live) -> None:
    run.write(
        test_user="""
        import pytest
        from pytest_etcdtls import NotVerifiedError, UsageError, WriteRefusedError

        def test_live(etcd_credentials):
            with pytest.raises(NotVerifiedError, match="--etcd-ca-key"):
                etcd_credentials["expired"]
            foreign = etcd_credentials["foreign-ca"]
            assert foreign.ssl_context()
            with pytest.raises(UsageError, match="no key is written to disk for a live"):
                foreign.files()
            with etcd_credentials["client"].client() as client:
                assert client.get("/version").status_code == 200
                with pytest.raises(WriteRefusedError):
                    client.post("/v3/kv/put", json={"key": "Zm9v"})
        """
    )
    ran = run(*live.options, "--no-etcd-conformance", report=False)
    ran.result.assert_outcomes(passed=1)


def test_with_a_ca_key_a_live_cluster_has_every_name(run: Runner, newest_etcd: Path) -> None:
    config = ClusterConfig(client_crl_file="crl.der", peer_cert_allowed_cn=str(PEER.common_name))
    with start_cluster(config, binary=newest_etcd) as cluster:
        member, options = cluster.members[0], [*Live.of(cluster).options]
        for prefix, authority in (("", cluster.pki.client_ca), ("peer-", cluster.pki.peer_ca)):
            (run.directory / f"{prefix}ca.key").write_bytes(encode_key(authority.key))
            options.append(f"--etcd-{prefix}ca-key={prefix}ca.key")
        (run.directory / "etcd.cmdline").write_text(
            "".join(f"{word}\0" for word in member.argv), encoding="utf-8"
        )
        no_rule = {"client": {"wrong-cn", "wrong-hostname"}, "peer": {"wrong-hostname", "revoked"}}
        run.write(test_names=NAMED.format(served=SERVED, no_rule=no_rule))
        ran = run(*options, "--etcd-config=etcd.cmdline", "--no-etcd-conformance", report=False)
        ran.result.assert_outcomes(passed=2)
    assert list(run.directory.glob("**/*.key")) == [run.directory / "ca.key", run.directory / "peer-ca.key"]
