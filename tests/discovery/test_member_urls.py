"""Endpoints of the URLs that members advertise, and the reasons for URLs without one."""

from __future__ import annotations

import pytest

from pytest_etcdtls.facts.member_list import Endpoint, LocalURLError, canonical, parse
from pytest_etcdtls.target import is_loopback


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("http://etcd-0.etcd.svc:2379", Endpoint("http", "etcd-0.etcd.svc", 2379)),
        ("https://ETCD.Example:2379/", Endpoint("https", "etcd.example", 2379)),
        ("https://[FD00:0::11]:2379", Endpoint("https", "fd00::11", 2379)),
        ("https://[::ffff:10.0.0.11]:2379", Endpoint("https", "10.0.0.11", 2379)),
        ("https://etcd_0.example.:2379", Endpoint("https", "etcd_0.example.", 2379)),
    ],
)
def test_endpoints_of_urls(text: str, place: Endpoint) -> None:
    assert parse(text) == place


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "neither https"),
        ("ftp://10.0.0.11:2379", "neither https"),
        ("https://10.0.0.11", "no port"),
        ("https://10.0.0.11:65536", "not a number"),
        ("https://:2379", "no host"),
        ("https://a b:2379", "blanks"),
        ("https://a\x1b[31m:2379", "control characters"),
        ("https://fd00::11:2379", "brackets"),
        ("https://[fd00::11:2379", "not a URL"),
        ("https://[fe80::1%eth0]:2379", "zone"),
        ("https://user:word@10.0.0.11:2379", "more than"),
        ("https://10.0.0.11:2379/path", "more than"),
        ("https://0.0.0.0:2379", "every address"),
        ("https://[::ffff:0.0.0.0]:2379", "every address"),
        ("https://224.0.0.1:2379", "one machine"),
        ("https://255.255.255.255:2379", "without machines"),
        ("https://" + "a" * 64 + ".example:2379", "neither a name"),
        ("https://" + ".".join(["a" * 60] * 5) + ":2379", "neither a name"),
        ("https://ä.example:2379", "neither a name"),
        ("https://" + "a" * 600 + ":2379", "characters"),
    ],
)
def test_reasons_for_a_url_without_an_endpoint(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse(text)
    assert not isinstance(caught.value, LocalURLError)


@pytest.mark.parametrize("text", ["unix://m0:2379", "unixs:///run/etcd.sock"])
def test_a_unix_socket_is_local(text: str) -> None:
    with pytest.raises(LocalURLError):
        parse(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("etcd.localhost", True),
        ("10.0.0.11", False),
        ("localhost.example", False),
        ("fe80::1%eth0", False),
    ],
)
def test_loopback_in_all_forms(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_hosts_are_compared_in_one_form() -> None:
    assert canonical("FD00:0::11") == canonical("fd00::11")
    assert canonical("Etcd.Example") == "etcd.example"
    assert canonical("fe80::1%eth0") == "fe80::1%eth0"
