"""Arguments are read as Go's ``flag`` package reads them, and merged with variables as etcd does it."""

from __future__ import annotations

import pytest

from declared.declaring import flags
from pytest_etcdtls.declared.declaration import Via
from pytest_etcdtls.errors import UsageError


@pytest.mark.parametrize("arguments", [("-name=a",), ("--name", "a"), ("-name", "a")])
def test_forms_of_a_flag(arguments: tuple[str, ...]) -> None:
    declaration = flags(*arguments)
    assert declaration.text("name") == "a"
    assert not declaration.mistakes


@pytest.mark.parametrize(
    ("argument", "on"),
    [("--auto-tls", True), ("--auto-tls=true", True), ("--auto-tls=T", True), ("--auto-tls=0", False)],
)
def test_forms_of_a_switch(argument: str, on: bool) -> None:
    assert flags(argument).on("auto-tls") is on


def test_the_last_of_equal_flags_counts_and_the_others_are_overridden() -> None:
    declaration = flags("--name=a", "--client-cert-auth=false", "--name=b", "--client-cert-auth")
    assert (declaration.text("name"), declaration.on("client-cert-auth")) == ("b", True)
    assert [setting.written for setting in declaration.overridden] == ["--name=a", "--client-cert-auth=false"]


def test_feature_gates_add_up() -> None:
    declaration = flags("--feature-gates=A=true", "--feature-gates=B=false")
    assert declaration.text("feature-gates") == "A=true,B=false"


def test_the_word_after_a_switch_is_not_its_value() -> None:
    declaration = flags("--client-cert-auth", "false", "--name=a")
    (mistake,) = declaration.mistakes
    assert "--client-cert-auth=false" in mistake.text
    assert declaration.on("client-cert-auth")
    assert declaration.text("name") == "a", "what follows tells what was meant"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name",), "--name lacks its value"),
        (("---name=a",), "not have the form of a flag"),
        (("--", "--name=a"), "an argument is not a flag"),
        (("--auto-tls=maybe",), "'maybe' is not a value of --auto-tls"),
        (("--listen-client-urls=10.0.0.11:2379",), "begins with http://"),
        (("--listen-client-urls=https://10.0.0.11",), "has no port"),
        (("--listen-client-urls=https://10.0.0.11:2379/v3",), "not even a slash"),
        (("--listen-client-urls=https://fd00::11:2379",), "brackets"),
        (("--listen-client-urls=https://10.0.0.11:99999",), "65535"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str) -> None:
    (mistake,) = flags(*arguments).mistakes
    assert message in mistake.text
    assert mistake.text.startswith("etcd stops: ")


def test_unknown_flags_are_kept_and_shown() -> None:
    declaration = flags("--client-cert-authh", "--name=a", "--frobnicate", "7", "--last")
    assert [setting.written for setting in declaration.unknown] == [
        "--client-cert-authh=(not shown)",
        "--frobnicate=(not shown)",
        "--last=(not shown)",
    ]
    assert declaration.text("name") == "a"
    assert not declaration.mistakes


@pytest.mark.parametrize("word", ["gateway", "grpc-proxy"])
def test_a_proxy_is_not_a_member(word: str) -> None:
    with pytest.raises(UsageError, match="is a proxy, not a member"):
        flags(word, "start")


def test_a_flag_goes_before_its_variable() -> None:
    declaration = flags("--name=a", environment={"ETCD_NAME": "b", "ETCD_DATA_DIR": "/d", "PATH": "/bin"})
    assert {name: one.value for name, one in declaration.settings.items()} == {"name": "a", "data-dir": "/d"}
    assert [setting.written for setting in declaration.shadowed] == ["ETCD_NAME=b"]
    assert declaration.settings["data-dir"].via is Via.VARIABLE


def test_variables_that_are_not_flags() -> None:
    declaration = flags(
        environment={
            "ETCD_FROBNICATE": "7",
            "ETCD_UNSUPPORTED_ARCH": "arm64",
            "ETCDCTL_CERT": "/c",
            "GODEBUG": "x509sha1=1",
            "HOME": "/",
        }
    )
    assert [setting.spelled for setting in declaration.unknown] == ["ETCD_FROBNICATE"]
    assert declaration.etcdctl == {"ETCDCTL_CERT": "/c"}
    assert declaration.go_environment == {"GODEBUG": "x509sha1=1"}


def test_unknown_flags_and_stray_words_do_not_show_secrets() -> None:
    for words in (
        ("--root-password", "hunter2"),
        ("--vault-token=hunter2",),
        ("--api-key=hunter2", "hunter2"),
        ("DB_PASSWORD=hunter2",),
        ("--", "ROOT_TOKEN=hunter2"),
        ("---secret=hunter2",),
        ("--client-secret", "hunter2", "hunter2"),
        ("--passphrase=hunter2",),
        ("--discovery-proxy=http://etcd:hunter2@10.0.0.1:3128",),
        ("--initial-cluster=a=https://u:hunter2@10.0.0.1:2380,b=https://u:x@hunter2@10.0.0.2:2380",),
        ("http://u:hunter2@10.0.0.1",),
        ("--colour", "hunter2", "hunter2", "hunter2"),
        ("--client-cert-auth", "hunter2"),
        ("--colour=hunter2", "MYSQL_PWD=hunter2", "hunter2"),
        ("--discovery=https://discovery.etcd.io/hunter2",),
        ("--discovery-password=hunter2", "--discovery-user=me:hunter2"),
    ):
        variables = {"ETCD_ROOT_PASSWORD": "hunter2", "ETCDCTL_PASSWORD": "hunter2"}
        declaration = flags(*words, environment=variables)
        settings = [*declaration.settings.values(), *declaration.unknown]
        assert "hunter2" not in " ".join(
            [repr(declaration), *map(str, settings), *(one.text for one in declaration.mistakes)]
        )
    shown = flags("--key-file=server.key", "--auth-token=jwt,priv-key=a.key", "--colour=blue", "stray")
    assert [setting.shown for setting in shown.settings.values()] == ["server.key", "jwt,priv-key=a.key"]
    assert [setting.shown for setting in shown.unknown] == ["(not shown)"]
    assert shown.mistakes[0].text == "etcd stops: an argument after --colour is not a flag"


def test_an_ipv6_address_and_a_socket() -> None:
    declaration = flags(
        "--listen-client-urls=https://[fd00::11]:2379, unixs://sock:0,https://[fd00::11]:2379"
    )
    assert [(url.scheme, url.host, url.port) for url in declaration.urls("listen-client-urls")] == [
        ("https", "fd00::11", 2379),
        ("unixs", "sock:0", 0),
    ]
    assert str(declaration.urls("listen-client-urls")[0]) == "https://[fd00::11]:2379"
