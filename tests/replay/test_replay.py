"""One member's declaration on every etcd: what conforms, what does not start, which clients are refused."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from starting import source_of

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.replay import ReplayedEtcd
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.pki.certificate import load_certificates
from pytest_etcdtls.role import Role
from replay.nodes import SHAPES, node, plan_of, plan_of_file, replayed

SUITES = "--cipher-suites"


@pytest.mark.etcd_version("3.5", "3.6", "3.7")
def test_a_node_s_own_files_are_served_and_clean(etcd_binary: Path, tmp_path: Path) -> None:
    """kubeadm's unchanged manifest of that time, and its files."""
    of_3_5 = source_of(etcd_binary).version.startswith("3.5")
    kubernetes = node(tmp_path, shape="v1.28" if of_3_5 else "v1.34")
    with replayed(plan_of(kubernetes), etcd_binary, tmp_path) as seen:
        assert not seen.violated
        assert [listener.url for listener in seen.target.listeners] == [
            "https://127.0.0.1:2379",
            "https://10.0.0.11:2379",
            "http://127.0.0.1:2381",
            "https://10.0.0.11:2380",
        ]
        assert {listener.label for listener in seen.target.listeners if listener.role is Role.PEER} == {
            "peer-cp1-10.0.0.11-2380"
        }
        [declared] = load_certificates(kubernetes / "pki" / "etcd" / "server.crt")
        client = seen.target.listeners[1]
        assert seen.observer.get(ServedChain, None, client).leaf == declared
        assert seen.outcomes("config.served-file") == {Outcome.CONFORMS, Outcome.NOT_APPLICABLE}
        assert seen.outcomes("config.starts") == {Outcome.CONFORMS}
        assert seen.outcomes("config.listeners-as-declared") == {Outcome.CONFORMS}
        assert {connection.url for connection in seen.observer.connections} <= {
            listener.url for listener in seen.target.listeners
        }, "nothing else is contacted"
        directory = seen.etcd.directory
        for path in (directory, *directory.rglob("*")):
            status = path.lstat()
            wanted = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
            assert path.is_relative_to(directory / "m0" / "data") or stat.S_IMODE(status.st_mode) == wanted
    assert not directory.exists()


@pytest.mark.etcd_version("3.5", "3.6")
@pytest.mark.kills("config.starts")
def test_a_flag_of_a_newer_etcd(etcd_binary: Path, tmp_path: Path) -> None:
    with replayed(plan_of(node(tmp_path)), etcd_binary, tmp_path) as seen:
        if seen.target.etcd_version and seen.target.etcd_version.startswith("3.6"):
            assert not seen.violated
            return
        assert seen.violated == {"config.starts", "config.flag-unknown-to-version"}
        assert seen.faults == {"config.flag-unknown-to-version"}
        [starts] = seen.of("config.starts")
        assert "does not start: it ended with status" in starts.message
        assert "flag provided but not defined: -" in starts.findings[0].evidence["log"]
        [gate] = {result.reason for result in seen.of("listener.answers")}
        assert gate.endswith("does not start: see config.starts")
        assert not seen.observer.connections
        [trap] = seen.of("config.flag-unknown-to-version")
        assert "etcd.yaml:" in trap.findings[0].observed
        assert "was started with other settings" not in trap.message, "it does not run"


@pytest.mark.etcd_version("3.6", "3.7")
def test_a_removed_flag(etcd_binary: Path, tmp_path: Path) -> None:
    with replayed(plan_of_file(SHAPES / "kubeadm" / "v1.28.yaml"), etcd_binary, tmp_path) as seen:
        gone = str(seen.target.etcd_version).startswith("3.7")
        assert seen.faults == ({"config.flag-unknown-to-version"} if gone else set())
        assert seen.target.runs is not gone


@pytest.mark.etcd_version("3.5", "3.6")
@pytest.mark.parametrize("generated", [False, True])
def test_a_pem_crl_refuses_every_client_from_3_6_on(
    *, generated: bool, etcd_binary: Path, tmp_path: Path
) -> None:
    """The declared list counts, also where the keys are not here and are generated."""
    changes = {
        "client-crl-file": "/etc/kubernetes/pki/etcd/crl.pem",
        "feature-gates": None,
        "watch-progress-notify-interval": None,
    }
    kubernetes = node(tmp_path, changes)
    for key in (kubernetes / "pki").rglob("*.key") if generated else ():
        key.unlink()
    plan = plan_of(kubernetes)
    assert ("server.key" in plan.files.generated) is generated
    with replayed(plan, etcd_binary, tmp_path) as seen:
        assert seen.target.runs
        if str(seen.target.etcd_version).startswith("3.5"):
            assert not seen.violated
            assert not generated or Outcome.CONFORMS in seen.outcomes("mtls.revoked-http")
        else:
            assert "mtls.trusted-client" in seen.violated
            assert seen.faults == {"config.crl-encoding"}
            [encoding] = seen.of("config.crl-encoding")
            declared = kubernetes / "pki/etcd/crl.pem"
            shows_list, shows_setting = encoding.findings[0].commands
            assert shows_list.startswith(f"grep -na 'BEGIN X509 CRL' {declared}")
            assert shows_setting.startswith("grep -nF -e --client-crl-file ")


@pytest.mark.parametrize("name", ["crl.pem", "revoked.crl"])
def test_what_is_generated_proves_nothing_of_the_declared(
    name: str, newest_etcd: Path, tmp_path: Path
) -> None:
    """Neither certificates nor a revocation list: their name says nothing. Behaviour is judged."""
    changes = {
        "client-crl-file": f"/etc/kubernetes/pki/etcd/{name}",
        "feature-gates": None,
        "watch-progress-notify-interval": None,
    }
    kubernetes = node(tmp_path, changes)
    with replayed(plan_of(kubernetes, files=False), newest_etcd, tmp_path) as seen:
        assert not seen.violated
        for check in ("config.crl-encoding", "config.crl-one-list", "config.crl-fresh"):
            assert seen.outcomes(check) == {Outcome.NOT_VERIFIED}
        certificates = {one.outcome for one in seen.results if one.check.startswith("cert.")}
        assert certificates == {Outcome.NOT_VERIFIED, Outcome.NOT_APPLICABLE}
        assert seen.outcomes("config.served-file") == {Outcome.NOT_VERIFIED, Outcome.NOT_APPLICABLE}
        for check in ("mtls.trusted-client", "mtls.revoked-http"):
            assert Outcome.CONFORMS in seen.outcomes(check)


SHAPES_READ = (
    ("k3s/config", "3.6", ()),
    ("rke2/etcd.yaml", "3.5.33", ()),
    ("rke2/etcd.yaml", "3.5.1", ("config.unknown-key",)),  # HTTP apart came with 3.5.8
    ("kubespray/etcd.env", "3.5", ()),
    ("kubeadm/v1.34.yaml", "3.7", ()),
    ("systemd/etcd.service", "3.6", ("cluster.peer-urls-https",)),
)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("shape", "line", "faults"), SHAPES_READ, ids=[":".join(row[:2]) for row in SHAPES_READ]
)
def test_an_environment_file_of_a_distribution(
    shape: str, line: str, faults: tuple[str, ...], etcd_binaries: dict[str, Path], tmp_path: Path
) -> None:
    """No certificate is here: keys and certificates are generated, and judged with names as declared."""
    binary = next(
        (path for version, path in etcd_binaries.items() if f"{version}.".startswith(f"{line}.")), None
    )
    if binary is None:
        pytest.skip(f"needs etcd {line}: run make etcd")
    with replayed(plan_of_file(SHAPES / shape), binary, tmp_path) as seen:
        assert seen.faults == set(faults)
        assert seen.target.runs


@pytest.mark.container
@pytest.mark.etcd_version("3.6")
def test_in_a_container(etcd_image: str, tmp_path: Path) -> None:
    with replayed(plan_of(node(tmp_path)), etcd_image, tmp_path) as seen:
        assert not seen.violated
        assert Outcome.CONFORMS in seen.outcomes("config.served-file")
        assert Outcome.CONFORMS in seen.outcomes("mtls.trusted-client")


@pytest.mark.container
def test_auto_tls_in_a_container(etcd_images: dict[str, str], tmp_path: Path) -> None:
    """etcd issues its certificate for the address that it listens on: 0.0.0.0, which no client requests."""
    (tmp_path / "etcd.env").write_text(MEMBER + "ETCD_AUTO_TLS=true\n", encoding="utf-8")
    image = list(etcd_images.values())[-1]
    with replayed(
        plan_of_file(tmp_path / "etcd.env"), image, tmp_path, "cert.covers-endpoint", "mtls"
    ) as seen:
        assert seen.faults == {"cert.covers-endpoint", "mtls.no-certificate"}


def test_a_declaration_that_cannot_be_tried(newest_etcd: Path, tmp_path: Path) -> None:
    """A key of another pair: etcd's message is the only result."""
    kubernetes = node(tmp_path, {"feature-gates": None, "watch-progress-notify-interval": None})
    key = kubernetes / "pki" / "etcd" / "server.key"
    key.write_bytes((kubernetes / "pki" / "etcd" / "peer.key").read_bytes())
    with replayed(plan_of(kubernetes), newest_etcd, tmp_path, "config", "mtls") as seen:
        assert {"config.starts", "config.key-matches-certificate"} <= seen.violated
        secret = key.read_text(encoding="utf-8").splitlines()[1]
        assert not any(secret in str(result) for result in seen.results)
        assert {one.outcome for one in seen.results if one.check.startswith("mtls.")} <= {
            Outcome.NOT_VERIFIED,
            Outcome.NOT_APPLICABLE,
        }


MEMBER = (
    "ETCD_NAME=a\nETCD_LISTEN_CLIENT_URLS=https://10.1.1.1:2379\nETCD_ADVERTISE_CLIENT_URLS=https://10.1.1.1:2379\n"
    "ETCD_PEER_CERT_FILE=/p/peer.pem\nETCD_PEER_KEY_FILE=/p/peer-key.pem\n"
    "ETCD_PEER_TRUSTED_CA_FILE=/p/peer-ca.pem\nETCD_PEER_CLIENT_CERT_AUTH=true\n"
    "ETCD_LISTEN_PEER_URLS=https://10.1.1.1:2380\nETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.1.1.1:2380\n"
)
PAIR = "ETCD_CERT_FILE=/p/a.pem\nETCD_KEY_FILE=/p/a-key.pem\n"
AUTH = "ETCD_CLIENT_CERT_AUTH=true\nETCD_TRUSTED_CA_FILE=/p/ca.pem\n"
NAMES = "ETCD_PEER_CERT_ALLOWED_CN=a\nETCD_CLIENT_CERT_ALLOWED_HOSTNAME=a.example\n"


@pytest.mark.whole
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (PAIR + AUTH + NAMES, None),
        (PAIR + AUTH + "ETCD_LOG_LEVEL=error\nETCD_LOG_OUTPUTS=/nowhere/etcd.log\n", None),
        ("ETCD_AUTO_TLS=true\n" + AUTH, "config.auto-tls-drops-client-auth"),
        (PAIR + "ETCD_CLIENT_CERT_AUTH=true\n", "config.client-auth-without-ca"),
        (PAIR, "mtls.no-certificate"),
    ],
    ids=["names", "quiet", "auto-tls", "no-ca", "nobody-asked"],
)
def test_the_failure_has_the_reason_from_the_log(
    text: str, fault: str | None, newest_etcd: Path, tmp_path: Path
) -> None:
    """The replay itself adds no fault: no name, no address, no missing log."""
    (tmp_path / "etcd.env").write_text(MEMBER + text, encoding="utf-8")
    with replayed(plan_of_file(tmp_path / "etcd.env"), newest_etcd, tmp_path) as seen:
        assert seen.faults == ({fault} if fault else set())


def test_the_start_does_not_wait_for_a_listener_that_etcd_ignores(newest_etcd: Path, tmp_path: Path) -> None:
    """A key that this version does not have: the others are served."""
    config = tmp_path / "etcd.conf.yml"
    config.write_text(
        "name: a\nlisten-client-urls: http://10.0.0.11:2379\nadvertise-client-urls: http://10.0.0.11:2379\n"
        "listen-metric-urls: http://127.0.0.1:2381\n",
        encoding="utf-8",
    )
    with replayed(plan_of_file(config), newest_etcd, tmp_path, "config", "listener") as seen:
        assert seen.target.runs
        assert "config.unknown-key" in seen.violated


def test_an_etcd_that_ended_leaves_no_files(newest_etcd: Path, tmp_path: Path) -> None:
    """Client URLs without an advertised one: etcd names the missing flag, and its files are removed."""
    config = tmp_path / "etcd.env"
    config.write_text("ETCD_LISTEN_CLIENT_URLS=http://10.0.0.11:2379\n", encoding="utf-8")
    plan = plan_of_file(config)
    source = source_of(newest_etcd)
    etcd = ReplayedEtcd(plan, source, directory=tmp_path)
    try:
        assert etcd.failure is not None
        assert "advertise-client-urls" in etcd.failure.reason
        assert etcd.failure.log
        target = etcd.target("x")
        assert (target.runs, target.live, target.configured_by_user) == (False, False, True)
        assert replace(target, failure=None).runs
    finally:
        etcd.stop()
    assert not etcd.directory.exists()
