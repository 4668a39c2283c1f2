"""The list of ``--etcd-clusters``: its forms, faults in it, and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from given import Given

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.options import SECTIONS
from pytest_etcdtls.settings import MAXIMUM_SIZE
from pytest_etcdtls.settings.cluster_list import KEYS, ClusterList, Shard, read_list, read_shard

TOML = """
[[cluster]]
label = "a"
endpoints = ["https://10.0.0.1:2379", "https://10.0.0.2:2379"]
peer-endpoints = "https://10.0.0.1:2380"
discover = true
expiry-days = 60
[[cluster]]
label = "b"
endpoints = "https://10.1.0.1:2379"
"""
YAML = """
clusters:
  - label: a
    endpoints: ["https://10.0.0.1:2379", "https://10.0.0.2:2379"]
    peer-endpoints: https://10.0.0.1:2380
    discover: yes
    expiry-days: 60
  - {label: b, endpoints: "https://10.1.0.1:2379"}
"""
JSON = """[{"label": "a", "endpoint": "https://10.0.0.1:2379,https://10.0.0.2:2379", "discover": true,
"expiry-days": 60, "peer-endpoint": ["https://10.0.0.1:2380"]}, {"label": "b", "endpoints": ["https://10.1.0.1:2379"]}]"""


def listed(
    text: str, tmp_path: Path, name: str = "-", shard: Shard | None = None, **options: str | bool
) -> ClusterList:
    environment: Mapping[str, str] = {"ETCDCTL_CERT": "/of/one.crt", "ETCDCTL_KEY": "/of/one.key"}
    return ClusterList(name, text, Given(tmp_path, environment, **options), shard or Shard())


@pytest.mark.parametrize(
    ("name", "text"), [("-", TOML), ("x.toml", TOML), ("-", YAML), ("x.yaml", YAML), ("-", JSON)]
)
def test_each_form_has_the_same_meaning(name: str, text: str, tmp_path: Path) -> None:
    of_run: Any = {"etcd_metadata": "read once", "etcd_report": "once.txt"}
    clusters = listed(text, tmp_path, name, etcd_timeout="2", etcd_expiry_days="10", **of_run)
    first, second = (clusters.settings(cluster) for cluster in clusters.clusters)
    [[live], [other]] = first.live, second.live
    assert [listener.url for listener in live.listeners] == [
        *("https://10.0.0.1:2379", "https://10.0.0.2:2379", "https://10.0.0.1:2380")
    ]
    assert (live.discover, other.discover) == (True, False)
    assert (first.expiry_days, second.expiry_days) == (60, 10)
    assert first.bounds.timeout == second.bounds.timeout == 2
    assert not other.client.identities, "etcdctl's variables name one cluster"


ONE = '[[cluster]]\nlabel = "a"\nendpoints = "https://10.0.0.1:2379"\n'


@pytest.mark.parametrize(
    ("text", "values", "said"),
    [
        # What names the cluster of the run is no default, and a pair is from one place.
        ('[[cluster]]\nlabel = "a"\n', {"etcd_endpoint": "https://10.0.0.9:2379"}, "it names no listener"),
        ('[[cluster]]\nlabel = "a"\n', {"etcd_pid": "1"}, "it names no listener"),
        (f'{ONE}cert = "a.crt"\n', {"etcd_key": "other.key"}, "--etcd-cert is given without --etcd-key"),
        # A path is relative to the list.
        (f'{ONE}cacert = "ca.crt"\n', {}, "/there/ca.crt: does not exist"),
    ],
)
def test_options_beside_a_cluster(tmp_path: Path, text: str, values: dict[str, Any], said: str) -> None:
    clusters = listed(text, tmp_path, "there/list.toml", **values)
    with pytest.raises(UsageError, match=said):
        clusters.settings(clusters.clusters[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{ONE}peer-cacrt = ""', "cluster 1 .*unknown key 'peer-cacrt'; did you mean 'peer-cacert'"),
        (f'{ONE}cret = ""', "cluster 1 .*unknown key 'cret'; did you mean 'secret' or 'cert'"),
        ('[[cluster]]\nlabel = "a/b"', "cluster 1 .*it needs a label of letters"),
        ('[[cluster]]\nlabel = "a"\n[[cluster]]\nlabel = "a"', "cluster 2 .*another cluster has that label"),
        ('[[cluster]]\nlabel = "a"\ndiscover = "yes"', "discover must be true or false"),
        ('[[cluster]]\nlabel = "a"\ncacert = ["a"]', "cacert must be a string"),
        ('timeout = 3\n[[cluster]]\nlabel = "a"', "unknown key 'timeout' beside the clusters"),
        ("[[cluster]]\nlabel = ", "is not TOML"),
        ("- label: a\n  label: b", "'label' is given twice"),
        ("- label: [", "not valid YAML"),
        ("a: &a [*a]", "aliases and merged keys"),
        ("---\n- label: a\n---\n- label: b", "is not a list of clusters"),
        ("", "names no cluster"),
    ],
)
def test_the_message_names_the_fault(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"(?s)--etcd-clusters -.*{said}"):
        listed(text, tmp_path)


def test_every_option_of_a_live_cluster_can_be_given_for_one() -> None:
    names = {option.flag.removeprefix("--etcd-") for option in SECTIONS["A live cluster"]}
    names -= {"via", "via-env", "pid", "rehearse"}  # a list, which may be somebody else's, starts no program
    assert names <= {key.removesuffix("s") if key.endswith("endpoints") else key for key in KEYS}


def test_a_list_is_bounded_and_text(tmp_path: Path) -> None:
    for data, said in ((b"x" * (MAXIMUM_SIZE + 1), "larger than 4 MiB"), (b"\xff", "not text in UTF-8")):
        with pytest.raises(UsageError, match=said):
            read_list(Given(tmp_path, None, data), "-")


def test_parts_divide_a_list_and_stay() -> None:
    labels = [f"prod-{number}" for number in range(200)]
    parts = [[label for label in labels if Shard(number, 10).holds(label)] for number in range(1, 11)]
    assert sorted(label for part in parts for label in part) == sorted(labels)
    assert max(map(len, parts)) < 40
    assert [Shard(number, 3).holds("prod-eu-1") for number in (1, 2, 3)] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "index", "part"), [("3/10", None, "3/10"), ("10", "0", "1/10"), (None, "4", "1/1")]
)
def test_a_part_is_named_or_of_an_indexed_job(text: str | None, index: str | None, part: str) -> None:
    assert str(read_shard(text, {"JOB_COMPLETION_INDEX": index} if index else {})) == part


@pytest.mark.parametrize(
    ("text", "said"),
    [("x", "write K/N"), ("3", "JOB_COMPLETION_INDEX")],
)
def test_no_part(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_shard(text, {})
