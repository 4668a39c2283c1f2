from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from given import Given

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import CALayout, MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.settings.port_credentials import key_passphrases
from pytest_etcdtls.settings.read import Settings, read_settings
from pytest_etcdtls.suite.session import header
from pytest_etcdtls.suite.state import SessionValues
from pytest_etcdtls.target import Listener, Target

ENDPOINT = "https://10.0.0.11:2379"
PEER = "https://10.0.0.11:2380"


def settings(directory: Path, environment: Mapping[str, str] | None = None, **values: Any) -> Settings:
    source = Given(directory, environment, **values)
    return read_settings(source, live="etcd_endpoint" in values or "etcd_peer_endpoint" in values)


def target(directory: Path, environment: Mapping[str, str] | None = None, **values: Any) -> Target:
    [live] = Run(settings(directory, environment, **{"etcd_endpoint": ENDPOINT, **values})).targets
    return live.outline


def listeners(directory: Path, **values: Any) -> tuple[Listener, ...]:
    return target(directory, **values).listeners


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PKI on disk, with CA keys: client-ca.crt, client.crt, m0/server.crt and so on."""
    directory = tmp_path_factory.mktemp("pki")
    pki = ClusterPKI.generate(PKIPlan(layout=CALayout.PER_PORT), [MemberNames("m0")])
    pki.write(directory, with_ca_keys=True)
    return directory


# endpoints


def test_a_listener_of_every_role_has_a_label_fit_for_node_ids(tmp_path: Path) -> None:
    found = listeners(
        tmp_path,
        etcd_endpoint=f"{ENDPOINT},https://10.0.0.12:2379",
        etcd_peer_endpoint=PEER,
        etcd_metrics_endpoint="http://10.0.0.11:2381",
        etcd_client_http_endpoint="https://10.0.0.11:2382/",
    )
    assert [(listener.label, listener.member, listener.url) for listener in found] == [
        ("client-10.0.0.11-2379", "10.0.0.11", ENDPOINT),
        ("client-10.0.0.12-2379", "10.0.0.12", "https://10.0.0.12:2379"),
        ("peer-10.0.0.11-2380", "10.0.0.11", PEER),
        ("metrics-10.0.0.11-2381", "10.0.0.11", "http://10.0.0.11:2381"),
        ("client-http-10.0.0.11-2382", "10.0.0.11", "https://10.0.0.11:2382"),
    ]


@pytest.mark.parametrize(
    ("urls", "labels"),
    [
        (["https://[fe80::1%25eth0]:2379"], ["client-fe80--1-eth0-2379"]),
        (["https://[1:2::3]:4", "https://1-2--3:4"], ["client-1-2--3-4", "client-1-2--3-4-2"]),
        ([ENDPOINT, "http://10.0.0.11:2379"], ["client-10.0.0.11-2379", "client-10.0.0.11-2379-http"]),
    ],
)
def test_labels_are_unique_and_fit_for_node_ids(tmp_path: Path, urls: list[str], labels: list[str]) -> None:
    assert [listener.label for listener in listeners(tmp_path, etcd_endpoint=urls)] == labels


@pytest.mark.parametrize(
    ("values", "environment"),
    [({"etcd_cacert": "server-ca.crt"}, {}), ({}, {"ETCDCTL_CACERT": "server-ca.crt"})],
)
def test_an_endpoint_without_a_scheme_is_https_with_tls_credentials(
    files: Path, values: dict[str, Any], environment: dict[str, str]
) -> None:
    environment = {name: str(files / file) for name, file in environment.items()}
    read = settings(
        files, environment, etcd_endpoint="10.0.0.11:2379", etcd_peer_endpoint="[fd00::11]:2380", **values
    )
    [live] = read.live
    assert [listener.url for listener in live.listeners] == [
        "https://10.0.0.11:2379",
        "https://[fd00::11]:2380",
    ]
    assert [text.partition(",")[0] for text in live.completed] == [
        "10.0.0.11:2379 is read as https://10.0.0.11:2379",
        "[fd00::11]:2380 is read as https://[fd00::11]:2380",
    ]


def test_a_certificate_without_its_key_names_the_variable_that_is_set(files: Path) -> None:
    environment = {"ETCDCTL_KEY": str(files / "client.key")}
    with pytest.raises(UsageError, match=r"--etcd-cert is given without --etcd-key.*ETCDCTL_KEY is set"):
        settings(files, environment, etcd_endpoint=ENDPOINT, etcd_cert="client.crt")
    with pytest.raises(UsageError) as caught:
        settings(files, {}, etcd_endpoint=ENDPOINT, etcd_cert="client.crt")
    assert "ETCDCTL_KEY" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "there"),
    [
        ("::127.0.0.1:12379", ("127.0.0.1", 12379)),
        ("10.0.0.11:2379::12379", ("10.0.0.11", 12379)),
        (":2379:[::1]:", ("::1", 2379)),
    ],
)
def test_connect_to_has_curls_form(tmp_path: Path, rule: str, there: tuple[str, int]) -> None:
    (listener,) = listeners(tmp_path, etcd_connect_to=rule)
    assert (listener.address, listener.url) == (there, ENDPOINT)


# credentials


def test_good_identities_are_in_the_order_of_the_attempts_and_peers_get_those_of_clients(files: Path) -> None:
    live = target(
        files,
        etcd_cert="client.crt",
        etcd_key="client.key",
        etcd_peer_cert="peer-client.crt",
        etcd_peer_key="peer-client.key",
    )
    assert [identity.name for identity in live.client.identities] == ["client"]
    assert [identity.name for identity in live.peer.identities] == ["peer", "client"]
    live = target(files, etcd_cacert="server-ca.crt", etcd_cert="client.crt", etcd_key="client.key")
    assert live.client.server_ca is not None
    assert live.peer.server_ca == replace(live.client.server_ca, inferred=True)
    assert live.peer.identities == live.client.identities


def test_the_anchor_is_the_trusted_bundle_if_the_good_certificate_leads_to_it(files: Path) -> None:
    live = target(files, etcd_cacert="client-ca.crt", etcd_cert="client.crt", etcd_key="client.key")
    assert live.client.server_ca is not None
    assert live.client.client_trust == replace(live.client.server_ca, inferred=True)
    named = target(files, etcd_trusted_ca="client-ca.crt", etcd_cert="client.crt", etcd_key="client.key")
    assert named.client.client_trust == live.client.server_ca
    others: tuple[dict[str, Any], ...] = ({"etcd_cacert": "peer-ca.crt"}, {})
    for values in others:
        unknown = target(files, etcd_cert="client.crt", etcd_key="client.key", **values)
        assert unknown.client.client_trust is None


def test_a_certificate_that_is_no_ca_is_trusted_alone_and_has_no_ca_key(files: Path) -> None:
    live = target(files, etcd_cacert="client.crt", etcd_cert="client.crt", etcd_key="client.key")
    assert live.client.client_trust is None
    assert f"trust {files}/client.crt, which holds no CA certificate" in " ".join(
        header(Run(Settings(live=(live,))), every=True)
    )


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        ("pem", ""),
        ("der", "it is DER, and etcd reads PEM alone"),
        ("with a key", "etcd does not start with it"),
    ],
)
def test_the_trusted_bundle_is_etcds_own_file(files: Path, content: str, remark: str) -> None:
    pem = (files / "client-ca.crt").read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    contents = {
        "pem": pem,
        "der": certificate.public_bytes(Encoding.DER),
        "with a key": pem + (files / "client-ca.key").read_bytes(),
    }
    (files / "own.pem").write_bytes(contents[content])
    trusted = target(files, etcd_trusted_ca="own.pem").client.client_trust
    assert trusted is not None
    assert trusted.certificates == (certificate,)
    assert trusted.remark.startswith(remark)
    assert bool(trusted.remark) is bool(remark)


def test_the_trust_of_peers_is_not_guessed_from_the_clients_anchor(files: Path) -> None:
    live = target(files, etcd_cacert="client-ca.crt", etcd_cert="client.crt", etcd_key="client.key")
    assert live.peer.client_trust is None
    own = target(
        files,
        etcd_peer_cacert="peer-ca.crt",
        etcd_peer_cert="peer-client.crt",
        etcd_peer_key="peer-client.key",
    )
    assert own.peer.server_ca is not None
    assert own.peer.client_trust == replace(own.peer.server_ca, inferred=True)
    assert own.client.client_trust is None


def test_a_chain_leads_to_its_root_through_an_intermediate(tmp_path: Path) -> None:
    pki = ClusterPKI.generate(PKIPlan(layout=CALayout.INTERMEDIATE), [MemberNames("m0")])
    pki.write(tmp_path)
    live = target(tmp_path, etcd_cacert="client-ca.crt", etcd_cert="client.crt", etcd_key="client.key")
    assert len(live.client.identities[0].chain) == 2
    assert live.client.client_trust is not None


def test_a_ca_key_is_matched_by_its_public_key(files: Path) -> None:
    live = target(files, etcd_trusted_ca="client-ca.crt", etcd_ca_key="client-ca.key")
    key = live.client.signing_key
    assert key is not None
    assert key.certificate.public_key() == key.key.public_key()
    assert "PRIVATE" not in repr(live)
    assert "key=" not in repr(key)


def test_etcdctls_variables_provide_credentials(files: Path) -> None:
    environment = {
        "ETCDCTL_CACERT": str(files / "server-ca.crt"),
        "ETCDCTL_CERT": str(files / "client.crt"),
        "ETCDCTL_KEY": str(files / "client.key"),
        "ETCDCTL_USER": "root:s3cret",
        "ETCDCTL_ENDPOINTS": "https://production:2379",
    }
    live = target(files, environment)
    assert live.client.server_ca is not None
    assert [identity.origin for identity in live.client.identities] == [str(files / "client.crt")]
    # Peer ports get it too, for which the user has named none.
    assert (live.client.named, live.peer.named) == (live.client.identities[0], None)
    assert live.user == ("root", "s3cret")
    assert "s3cret" not in repr(live)
    assert [listener.url for listener in live.listeners] == [ENDPOINT]


def test_an_option_precedes_etcdctls_variable_and_a_pair_is_not_split(files: Path) -> None:
    environment = {"ETCDCTL_CERT": str(files / "client.crt"), "ETCDCTL_KEY": str(files / "client.key")}
    live = target(files, environment, etcd_cert="peer-client.crt", etcd_key="peer-client.key")
    assert live.client.identities[0].origin == str(files / "peer-client.crt")
    with pytest.raises(UsageError, match="without --etcd-key"):
        target(files, environment, etcd_cert="peer-client.crt")


def test_a_user_of_the_environment_needs_a_password_if_a_cluster_is_live(files: Path) -> None:
    with pytest.raises(UsageError, match="ETCDCTL_USER"):
        target(files, {"ETCDCTL_USER": "root"})
    assert settings(files, {"ETCDCTL_USER": "root", "ETCDCTL_CERT": "missing"}).live == ()


# expected certificates


def test_an_expected_certificate_is_for_every_https_listener_of_its_side(files: Path) -> None:
    live = target(
        files,
        etcd_endpoint=[ENDPOINT, "https://10.0.0.12:2379"],
        etcd_peer_endpoint=PEER,
        etcd_metrics_endpoint=["https://10.0.0.11:2381", "http://10.0.0.12:2381"],
        etcd_expect_cert=["10.0.0.11=m0/server.crt", "10.0.0.12=client.crt"],
        etcd_expect_peer_cert="m0/peer.crt",
    )
    assert [(found.role, found.host, found.port, Path(found.source).name) for found in live.expected] == [
        (Role.CLIENT, "10.0.0.11", 2379, "server.crt"),
        (Role.METRICS, "10.0.0.11", 2381, "server.crt"),
        (Role.CLIENT, "10.0.0.12", 2379, "client.crt"),
        (Role.PEER, "10.0.0.11", 2380, "peer.crt"),
    ]


def test_the_host_of_an_expected_certificate_may_be_in_brackets_or_missing(files: Path) -> None:
    (files / "a=b.crt").write_bytes((files / "m0/server.crt").read_bytes())
    for host, expect in (("[fd00::11]", "[fd00::11]=m0/server.crt"), ("10.0.0.11", "a=b.crt")):
        live = target(files, etcd_endpoint=f"https://{host}:2379", etcd_expect_cert=expect)
        assert live.expected[0].host == host.strip("[]")


# refusals

URLS = [
    ("10.0.0.11:2379", "no scheme"),
    (
        "10.0.0.11:2379",
        "pass --etcd-endpoint=https://10.0.0.11:2379, or --etcd-endpoint=http://10.0.0.11:2379",
    ),
    ("", "is empty"),
    ("unix:///run/etcd.sock", "https or http"),
    ("https://10.0.0.11", "no port"),
    ("https://10.0.0.11:70000", "range"),
    ("https://:2379", "no host"),
    ("https://fd00::11:2379", "in brackets"),
    ("https://[fd00::zz]:2379", "fd00::zz"),
    ("https://[10.0.0.11:2379", "not a URL"),
    ("https://-oProxyCommand.example:2379", "not a host name"),
    ("https://under_score..x:2379", "not a host name (1 to 63 characters between dots, 253 at most)"),
    (f"https://{'a' * 64}.example:2379", "correct it, and write it as etcdctl does"),
    (f"https://{'a.' * 127}a:2379", "not a host name"),
    ("https://etcd$(touch${IFS}x).example:2379", "not a host name"),
    ("https://[fe80::1%$(touch${IFS}x)]:2379", "not an IPv6 address"),
    ("https://[fe80::1%]:2379", "fe80::1%"),
    ("https://10.0.0.11:2379/health", "after the port"),
    ("https://root:s3cret@10.0.0.11:2379", "--etcd-password-file"),
    ([ENDPOINT, ENDPOINT.upper().replace("HTTPS", "https")], "given twice"),
]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        *(({"etcd_endpoint": url}, says) for url, says in URLS),
        ({"etcd_peer_endpoint": ENDPOINT}, "as client and as peer listener"),
        (
            {"etcd_metrics_endpoint": "10.0.0.11:2381", "etcd_cacert": "server-ca.crt"},
            "https://10.0.0.11:2381, or --etcd-metrics-endpoint=http://10.0.0.11:2381",
        ),
        ({"etcd_connect_to": "10.0.0.12:2379:127.0.0.1:1"}, "matches none"),
        ({"etcd_connect_to": "127.0.0.1:1"}, "HOST:PORT:ADDR:PORT"),
        ({"etcd_connect_to": "10.0.0.11:2379:127.0.0.1:99999"}, "65535"),
        ({"etcd_ca_key": "client-ca.key"}, "--etcd-trusted-ca"),
        ({"etcd_ca_key": "peer-ca.key", "etcd_trusted_ca": "client-ca.crt"}, "is the key of none"),
        ({"etcd_ca_key": "client.key", "etcd_trusted_ca": "client.crt"}, "is the key of none"),
        ({"etcd_key": "client.key"}, "without --etcd-cert"),
        ({"etcd_peer_cert": "peer-client.crt"}, "without --etcd-peer-key"),
        ({"etcd_cert": "client.crt", "etcd_key": "peer-client.key"}, "--etcd-key"),
        ({"etcd_cacert": "missing.crt"}, "--etcd-cacert"),
        ({"etcd_trusted_ca": "."}, "--etcd-trusted-ca"),
        ({"etcd_kubernetes_ca": "missing.crt"}, "--etcd-kubernetes-ca"),
        ({"etcd_user": "root"}, "--etcd-password-file"),
        ({"etcd_password_file": "client.crt"}, "go together"),
        ({"etcd_user": "root:s3cret", "etcd_password_file": "client.crt"}, "the name alone"),
        ({"etcd_user": "root", "etcd_password_file": "missing"}, "missing does not exist: check the path"),
        ({"etcd_user": "root", "etcd_password_file": "empty"}, "its first line is empty"),
        ({"etcd_expect_cert": ["m0/server.crt", "client.crt"]}, "both claim"),
        ({"etcd_expect_cert": ["m0/server.crt", "10.0.0.11=client.crt"]}, "both claim"),
        ({"etcd_expect_cert": ["10.0.0.99=m0/server.crt"]}, "matches no listener"),
        ({"etcd_expect_cert": ["10.0.0.11=missing.crt"]}, "--etcd-expect-cert"),
        ({"etcd_expect_cert": ["client.key"]}, "--etcd-expect-cert"),
        ({"etcd_size": "2"}, "--etcd-size '2': use one of 1, 3, 5"),
        ({"etcd_key_type": "dsa"}, "--etcd-key-type 'dsa': use one of ecdsa-p256"),
        ({"etcd_backend": "proces"}, "did you mean 'process'?"),
        ({"etcd_profile": ["kubeadmn"]}, "did you mean 'kubeadm'?"),
        ({"etcd_backend": "process", "etcd_image": "etcd:1"}, "--etcd-image"),
        ({"etcd_backend": "container", "etcd_binary": "/etcd"}, "--etcd-binary"),
        ({"etcd_timeout": "soon"}, "--etcd-timeout"),
        ({"etcd_timeout": "nan"}, "--etcd-timeout"),
        ({"etcd_timeout": "0"}, "--etcd-timeout '0' is not a number of seconds above 0, at most 3600"),
        ({"etcd_concurrency": "0"}, "--etcd-concurrency"),
        ({"etcd_max_connections": "-1"}, "--etcd-max-connections"),
        ({"etcd_expiry_days": "1.5"}, "--etcd-expiry-days"),
        ({"etcd_report": "report.txt"}, ".json"),
        ({"etcd_report": "missing/report.json"}, "does not exist"),
        ({"etcd_waivers": "missing.toml"}, "--etcd-waivers"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_message(files: Path, values: dict[str, Any], says: str) -> None:
    (files / "empty").write_text("\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        target(files, **values)
    said = str(caught.value)
    assert says in said
    assert "s3cret" not in said
    assert "10.0.0.11:2379 is given" in said or any(f"--{name.replace('_', '-')}" in said for name in values)


# everything else


def test_bounds_are_those_of_the_options(tmp_path: Path) -> None:
    bounds = settings(tmp_path, etcd_timeout="0.5", etcd_concurrency="2", etcd_max_connections="7").bounds
    assert (bounds.timeout, bounds.concurrency, bounds.pause, bounds.max_connections) == (0.5, 2, 0.0, 7)
    gentle = settings(tmp_path, etcd_gentle=True, etcd_concurrency="8").bounds
    assert gentle.concurrency == 1
    assert gentle.pause > 0


def test_gentle_runs_search_only_for_suites_that_decide_a_verdict_unless_they_are_listed(
    tmp_path: Path,
) -> None:
    assert not target(tmp_path).sparing
    assert target(tmp_path, etcd_gentle=True).sparing
    assert not target(tmp_path, etcd_gentle=True, etcd_profile=["mozilla-modern"]).sparing


def test_a_binary_is_a_path_or_a_name_on_path(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    owned = settings(tmp_path, etcd_binary=["etcd", "bin/etcd", "here"]).owned
    assert owned.binaries == ("etcd", str(tmp_path / "bin/etcd"), str(tmp_path / "here"))


def test_thresholds_go_into_the_target(files: Path) -> None:
    live = target(files, etcd_expiry_days="7", etcd_kubernetes_ca="peer-ca.crt")
    assert live.expiry_days == 7
    assert live.kubernetes_ca is not None
    assert settings(files, etcd_expiry_days="7").expiry_days == 7


def test_the_question_for_a_passphrase_is_one_printable_line(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("getpass.getpass", asked.append)
    monkeypatch.setattr("pytest_etcdtls.suite.state.STDIN_IS_TERMINAL", True)
    path = Path("/q\n::error::\x1b[2J\u202e.key")
    assert key_passphrases(SessionValues(pytestconfig), path, "--etcd-config") == []
    assert asked == [r"Passphrase of --etcd-config /q\n::error::\x1b[2J\u202e.key: "]
