"""The command line of a replay: all declared settings, except for ports, paths and other members."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
import yaml
from declared.declaring import GOOD, flags, read_declaration, written

from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.reading import from_command_line
from pytest_etcdtls.errors import NotVerifiedError, UsageError
from pytest_etcdtls.etcd.launch import Launch, MemberPaths
from pytest_etcdtls.etcd.relocation import Place, moved_urls, relocate, replacements

SHAPES = Path(__file__).parents[1] / "declared" / "shapes"
CLUSTER = "a=https://10.0.0.11:2380,b=https://10.0.0.12:2380"


def moved(declaration: Declaration, **additions: str) -> Launch:
    addresses = [url.address for urls in moved_urls(declaration).values() for url in urls]
    place = Place(
        listen="127.0.0.1",
        ports={address: number for number, address in enumerate(dict.fromkeys(addresses), 20001)},
        paths=MemberPaths(
            pki=PurePosixPath("/owned/pki"),
            data=PurePosixPath("/owned/data"),
            config_file=PurePosixPath("/owned/etcd.conf.yml"),
        ),
    )
    return relocate(declaration, "3.7.3", place, additions=additions)


@pytest.mark.parametrize(
    ("declared", "replayed"),
    [
        ("--initial-cluster-state=existing", "--initial-cluster-state=new"),
        ("--discovery=https://discovery.example/x", "--discovery="),
        ("--discovery-srv=example", "--discovery-srv="),
        ("--log-level=error", "--log-level=info"),
        ("--log-level=debug", "--log-level=debug"),
        ("--log-outputs=/var/log/etcd.log", "--log-outputs=stderr"),
        ("--wal-dir=/wal", "--wal-dir=/owned/data/wal"),
        ("--auth-token=jwt,pub-key=/a,priv-key=/b,sign-method=RS256", "--auth-token=simple"),
        ("--enable-distributed-tracing", "--enable-distributed-tracing=false"),
        ("--client-crl-file=/pki/../etc/crl.pem", "--client-crl-file=/owned/pki/pki/etc/crl.pem"),
        ("-cert-file /x/a.crt", "-cert-file=/owned/pki/x/a.crt"),
        ("--no-such-flag=1", "--no-such-flag=1"),
        ("--feature-gates=A=true", "--feature-gates=A=true"),
        (  # one address, whatever its schemes, and no socket
            "--listen-client-urls="
            "http://10.0.0.11:2379,https://10.0.0.11:2379,https://127.0.0.1:2379,unixs://10.0.0.11:0",
            "--listen-client-urls=http://127.0.0.1:20001,https://127.0.0.1:20001,https://127.0.0.1:20002",
        ),
        (
            "--listen-client-urls=unix://a:0,unixs://b:0",
            "--listen-client-urls=unix://replay-of-a-socket:0",
        ),
        # etcd refuses an argument without a flag, a listener on a host name, a flag without its value.
        *((word, word) for word in ("true", "--listen-client-urls=https://etcd.example:2379", "--cert-file")),
    ],
)
def test_one_flag(declared: str, replayed: str) -> None:
    assert replayed in moved(flags(*declared.split(" "))).arguments


def test_a_declared_flag_replaces_additions_and_defaults() -> None:
    given = moved(flags("--log-outputs=default"), **{"log-outputs": "stderr", "election-timeout": "25"})
    assert given.arguments == (
        "--election-timeout=25",
        "--data-dir=/owned/data",
        "--listen-client-urls=http://127.0.0.1:20001",
        "--listen-peer-urls=http://127.0.0.1:20002",
        "--advertise-client-urls=http://localhost:2379",
        "--log-outputs=stderr",
    )


def test_an_overridden_list_is_not_changed() -> None:
    done = moved(
        from_command_line(
            ["etcd", "--listen-peer-urls=https://10.0.0.1:1", "--listen-peer-urls=https://10.0.0.2:2"],
            {"ETCD_LISTEN_PEER_URLS": "https://10.0.0.3:3"},
        )
    )
    assert done.arguments[-2:] == (
        "--listen-peer-urls=https://10.0.0.1:1",
        "--listen-peer-urls=https://127.0.0.1:20002",
    )
    assert done.environment == {"ETCD_LISTEN_PEER_URLS": "https://10.0.0.3:3"}


def test_a_configuration_file_and_the_flags_that_it_hides(tmp_path: Path) -> None:
    config = tmp_path / "etcd.conf.yml"
    config.write_text(
        "name: a\ndata-dir: /d\nlisten-client-urls: https://10.0.0.11:2379\nlog-outputs: [/x]\n"
        "client-transport-security:\n  cert-file: /pki/a.crt\n  client-cert-auth: true\n  crl-file: /c\n"
        "no-such-key: 1\n",
        encoding="utf-8",
    )
    done = moved(
        from_command_line(["etcd", f"--config-file={config}", "--trusted-ca-file=/pki/ca.crt"]), foo="7"
    )
    assert done.arguments == ("--config-file=/owned/etcd.conf.yml", "--trusted-ca-file=/owned/pki/pki/ca.crt")
    assert yaml.safe_load(done.config_file or "") == {
        "name": "a",
        "data-dir": "/owned/data",
        "listen-client-urls": "https://127.0.0.1:20001",
        "log-outputs": ["stderr"],
        "client-transport-security": {
            "cert-file": "/owned/pki/pki/a.crt",
            "client-cert-auth": True,
        },
        "foo": 7,
        "listen-peer-urls": "http://127.0.0.1:20002",
    }


# The names of fields of Go, and one letter that Go takes for another.
@pytest.mark.parametrize(
    "key",
    [
        *("log-output\u017f: [/owned/x]", "ListenMetricsUrls: [{Scheme: unix, Host: /owned/x}]"),
        *("li\u017ften-client-urls: unix:///owned/x", "discovery-config: {endpoints: [https://a.example]}"),
        *(
            "client-tran\u017fport-security: {key-file: /x}",
            "client-transport-security: {tru\u017fted-ca-file: /x}",
        ),
    ],
)
def test_no_key_that_only_go_recognizes_is_passed_on(key: str, tmp_path: Path) -> None:
    added = {"log-outputs": "stderr"}
    replayed, plain = (
        yaml.safe_load(moved(written(tmp_path, text), **added).config_file or "")
        for text in (f"name: a\n{key}\n", "name: a\n")
    )
    assert not replayed.pop("client-transport-security", None)
    assert replayed == plain


def test_a_discovery_that_is_left_out_is_named(tmp_path: Path) -> None:
    declaration = written(tmp_path, "name: a\ndiscovery-config: {endpoints: [https://a.example]}\n")
    assert "discovery-config: not used" in replacements(declaration)


@pytest.mark.parametrize("value", ["2001-99-99", "=", "0x_"])
def test_a_value_that_only_go_reads_passes_no_key_on(value: str, tmp_path: Path) -> None:
    declaration = written(tmp_path, f"name: a\ndata-dir: /d\nno-such-key: {value}\n")
    with pytest.raises(NotVerifiedError, match="has no type of YAML"):
        moved(declaration)


@pytest.mark.parametrize(
    "line", ["data-dir: !!binary L2Q=", "!!binary ZGF0YS1kaXI=: /d", "no-such-key: !x y"]
)
def test_a_tag_is_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tags .* are not read"):
        written(tmp_path, f"name: a\n{line}\n")


def test_settings_that_etcd_requires_with_an_unknown_value_are_added(tmp_path: Path) -> None:
    unit = tmp_path / "etcd.service"
    unit.write_text(
        "[Service]\nExecStart=/usr/bin/etcd --name=%H --initial-advertise-peer-urls=https://10.0.0.1:2380"
        " --listen-client-urls=https://10.0.0.1:2379 --advertise-client-urls=https://%H:2379\n",
        encoding="utf-8",
    )
    arguments = moved(read_declaration(unit)).arguments
    assert "--advertise-client-urls=http://localhost:2379" in arguments
    assert "--initial-cluster=default=https://10.0.0.1:2380" in arguments


def test_values_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    unit = tmp_path / "etcd.service"
    unit.write_text(
        "[Service]\nEnvironment=ETCD_INITIAL_CLUSTER=%H ETCD_INITIAL_CLUSTER_STATE=existing\n"
        "ExecStart=/usr/bin/etcd --listen-client-urls=https://10.0.0.51:2379,unixs://10.0.0.51:0\n",
        encoding="utf-8",
    )
    declaration = read_declaration(unit)
    done = moved(declaration)
    assert "ETCD_INITIAL_CLUSTER" not in done.environment
    assert done.environment["ETCD_INITIAL_CLUSTER_STATE"] == "new"
    said = list(replacements(declaration))
    assert said[:2] == [
        "ETCD_INITIAL_CLUSTER_STATE: new",
        "--listen-client-urls: unixs://10.0.0.51:0 is not opened",
    ]
    assert "left out: " in said[2]
    assert len(said) == 3


def test_differences_to_the_declaration_are_listed() -> None:
    declaration = flags(
        f"--initial-cluster={CLUSTER}", "--log-level=error", "--log-format=console", "--discovery=https://d",
        environment={"SSL_CERT_DIR": "/certs"},
    )  # fmt: skip
    assert list(replacements(declaration)) == [
        "--initial-cluster: only this member",
        "--log-level: info",
        "--log-format: json",
        "--discovery: not used",
        "SSL_CERT_DIR: the root certificates are this machine's",
    ]
    assert not list(replacements(flags("--name=a", *GOOD, "--initial-cluster-state=new")))
