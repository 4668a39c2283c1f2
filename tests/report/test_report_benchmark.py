"""A flag reader compared with the wire, on real etcds."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from msgspec import structs
from report.broken_cluster import judged
from starting import start_process

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared.reading import from_command_line
from pytest_etcdtls.errors import Reason
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.profiles.profiles import (
    CIS_KUBERNETES,
    NO_PROFILES,
    Guideline,
    Profiles,
    Section,
    Strength,
    read_profiles,
)
from pytest_etcdtls.report import html, json, markdown
from pytest_etcdtls.report.benchmark import compare, is_decided, read_flags
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.report.terminal import summary

GOOD = ("--cert-file=s.crt", "--key-file=s.key", "--client-cert-auth", "--trusted-ca-file=ca.crt")


def _passes(*flags: str, **environment: str) -> set[str]:
    declaration = from_command_line(("etcd", *flags), environment)
    return {item.item for item in read_flags(declaration, "m0") if item.flags_say == "pass"}


def test_flags_and_variables_are_read_one_by_one() -> None:
    assert _passes() == {"2.3", "2.6"}
    assert _passes(*GOOD) == {"2.1", "2.2", "2.3", "2.6", "2.7"}
    assert _passes("--client-cert-auth=false", "--auto-tls") == {"2.6"}
    assert "2.2" in _passes(ETCD_CLIENT_CERT_AUTH="true")
    peers = ("--peer-cert-file=p.crt", "--peer-key-file=p.key", "--peer-client-cert-auth=true")
    assert _passes(*peers, "--peer-auto-tls=true") == {"2.3", "2.4", "2.5"}


def _report(cluster: Cluster, origin: Literal["live", "process"] = "process") -> Report:
    report = judged(replace(cluster.target(), origin=origin), "cis", "!lifecycle")
    return structs.replace(report, profiles=read_profiles([CIS_KUBERNETES], Path))


DIFFERENT: dict[str, tuple[ClusterConfig, dict[str, tuple[bool, Outcome]]]] = {
    "as it should be": (ClusterConfig(), {}),
    "plaintext beside TLS": (ClusterConfig(plain_client_listener=True), {"2.1": (True, Outcome.VIOLATES)}),
    "a trusted CA alone": (ClusterConfig(client_cert_auth=False), {"2.2": (False, Outcome.CONFORMS)}),
    "generated certificates": (
        ClusterConfig(auto_tls=True, cert_file=None, key_file=None),
        {
            "2.1": (False, Outcome.CONFORMS),
            "2.2": (True, Outcome.VIOLATES),
            "2.7": (True, Outcome.VIOLATES),
        },
    ),
    "the system's roots": (ClusterConfig(trusted_ca_file=None), {}),
    "a configuration file": (
        ClusterConfig(config_file=True, config_file_omits=("client_cert_auth", "trusted_ca_file")),
        {"2.2": (True, Outcome.VIOLATES), "2.7": (True, Outcome.VIOLATES)},
    ),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_the_comparison_differs_if_the_wire_contradicts_the_flags(case: str, newest_etcd: Path) -> None:
    config, expected = DIFFERENT[case]
    with start_process(replace(config, expects_health=False), newest_etcd) as cluster:
        report = _report(cluster)
    found = compare(report, report.seen[0])
    assert {one.item for one in found} == {f"2.{number}" for number in range(1, 8)}
    assert {one.item: (one.flags_say == "pass", one.wire_says) for one in found if one.differs} == expected, [
        (one.item, one.wire_says, one.checks) for one in found
    ]


@pytest.fixture(scope="module")
def of_good_etcd(newest_etcd: Path) -> Report:
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        return _report(cluster, "live")


def _with(report: Report, check: str, **changes: object) -> Report:
    """Return the report with another result of a check."""
    results = tuple(structs.replace(one, **changes) if one.check == check else one for one in report.results)
    return structs.replace(report, results=results)


CA = "cert.ca-not-shared-with-kubernetes"
_UNDISPUTED = (Outcome.CONFORMS, Outcome.NOT_APPLICABLE)


def _wire(report: Report) -> dict[str, tuple[str | None, tuple[str, ...]]]:
    return {one.item: (one.wire_says, one.checks) for one in compare(report, report.seen[0])}


def test_unverified_check_makes_item_unverified(of_good_etcd: Report) -> None:
    """Without the CA of Kubernetes nobody knows whether etcd trusts it."""
    assert _wire(of_good_etcd)["2.7"] == (Outcome.NOT_VERIFIED, (CA,))
    text = " ".join(line.text.strip() for line in summary(of_good_etcd, width=80, verbosity=0))
    undecided = [one.item for one in compare(of_good_etcd, of_good_etcd.seen[0]) if not is_decided(one)]
    assert (
        f"agrees with {7 - len(undecided)} of them and leaves {len(undecided)} not verified "
        f"({', '.join(undecided)})" in text
    )


def test_deselected_check_makes_item_unverified(of_good_etcd: Report) -> None:
    def without(*checks: str) -> Report:
        results = tuple(result for result in of_good_etcd.results if result.check not in checks)
        return structs.replace(of_good_etcd, results=results)

    assert _wire(without(CA))["2.7"] == (Outcome.NOT_VERIFIED, (CA,))
    assert _wire(without("cert.generated"))["2.3"] == (None, ())
    found = _wire(without("config.served-file"))
    assert found["2.1"] == (Outcome.NOT_VERIFIED, ("config.served-file",))
    assert found["2.4"][0] is Outcome.CONFORMS


@pytest.mark.parametrize("outcome", [one for one in Outcome if one not in _UNDISPUTED])
def test_each_check_of_an_item_decides_it(of_good_etcd: Report, outcome: Outcome) -> None:
    """Whatever other checks came to: only all of them together agree with the flags."""
    agreed = {item for item, (wire, _) in _wire(of_good_etcd).items() if wire is Outcome.CONFORMS}
    assert len(agreed) == 6
    for item in agreed:
        for check in _wire(of_good_etcd)[item][1]:
            assert _wire(_with(of_good_etcd, check, outcome=outcome))[item] == (outcome, (check,))


def test_a_note_of_a_profile_counts(of_good_etcd: Report) -> None:
    shared = _with(of_good_etcd, CA, outcome=Outcome.CONFORMS, why=Reason("etcd and Kubernetes share a CA"))
    section = Section(section="1", title="CA", level=Strength.NOTE, checks=(CA,))
    profiles = Profiles((Guideline(name=CIS_KUBERNETES, title="house", sections=(section,)),))
    assert _wire(structs.replace(shared, profiles=profiles))["2.7"] == (Outcome.WARNS, (CA,))


@pytest.mark.parametrize("page", [html, markdown])
def test_a_page_has_every_item_of_a_users_configuration(of_good_etcd: Report, page: ModuleType) -> None:
    lost: list[str] = []
    text = unescape(page.render(of_good_etcd, lost))
    items = compare(of_good_etcd, of_good_etcd.seen[0])
    assert lost == []
    assert len(items) == 7
    assert all(f"{item.item} " in text and item.title in text for item in items)
    contradicts = re.compile(r"contradicts the flags(\*\*|</strong>)")
    assert not contradicts.search(text)
    off = _with(of_good_etcd, "cert.generated", outcome=Outcome.VIOLATES)
    assert len(contradicts.findall(page.render(off, lost))) == 2


def test_without_its_profile_nothing_is_compared(of_good_etcd: Report) -> None:
    report = structs.replace(of_good_etcd, profiles=NO_PROFILES)
    assert compare(report, report.seen[0]) == ()
    lost: list[str] = []
    pages = [
        "\n".join(line.text for line in summary(report, width=80, verbosity=1)),
        *(page.render(report, lost) for page in (html, markdown)),
    ]
    assert lost == []
    assert [text for text in pages if "CIS Kubernetes Benchmark, section 2" in text] == []
    assert '"benchmark":[]' in json.render(report, lost).replace(" ", "")
