"""--etcd-profile on a command line and in an ini file: terminal, report, catalogue, the page's example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner

from pytest_etcdtls.profiles.profiles import builtin

PAGE = Path(__file__).parents[2] / "docs" / "profiles.md"
SOME = "--etcd-check=tls,cert.key-strength,cert.lifetime"


def sections(ran_report: dict[str, object], number: int = 0) -> dict[str, str]:
    profiles = ran_report["profiles"]
    assert isinstance(profiles, list)
    return {section["section"]: section["outcome"] for section in profiles[number]["sections"]}


def test_the_ini_file_may_name_one_and_without_a_profile_the_report_has_none(run: Runner, live: Live) -> None:
    run.ini("etcd_profile = cis-kubernetes")
    ran = run(*live.options, "--etcd-check=mtls.no-certificate")
    assert [profile["name"] for profile in ran.report["profiles"]] == ["cis-kubernetes"]
    ran = run(*live.options, "--etcd-check=tls", "--etcd-profile=none")
    assert ran.exit_code == 0, ran.out
    assert ran.report["profiles"] == []
    assert "sections passed" not in ran.out
    suites = [result for result in ran.report["results"] if result["check"].startswith("tls.allowed-")]
    outcomes = {suite["outcome"] for suite in suites}
    assert outcomes - {"not-applicable"} == {"conforms"}  # an etcd may have no TLS 1.3
    assert not any("suites of TLS 1.3" in connection["purpose"] for connection in ran.report["connections"])


@pytest.mark.etcd_version("3.7")
def test_the_summary_and_the_report_have_every_section(run: Runner, live: Live) -> None:
    ran = run(*live.options, SOME, "--etcd-profile=mozilla-modern", "--etcd-profile=kubeadm")
    assert ran.exit_code == 1
    first, second = ran.report["profiles"]
    assert (first["name"], second["name"]) == ("mozilla-modern", "kubeadm")
    assert sections(ran.report) == {
        "tls_versions": "violates",
        "ciphersuites": "conforms",
        "tls_curves": "warns",
        "certificate_types": "conforms",
        "certificate_signatures": "not-verified",
        "maximum_certificate_lifespan": "conforms",
        "hsts_min_age": "not-judged",
        "ocsp_staple": "not-judged",
        "server_preferred_order": "not-judged",
    }
    assert set(sections(ran.report, 1).values()) == {"not-verified"}, "none of its checks was selected"
    assert (
        "profile mozilla-modern: 3 of 9 sections passed, 1 failed (tls_versions), 1 with warnings "
        "(tls_curves), 1 not verified (certificate_signatures), 3 not judged by this tool"
    ) in " ".join(ran.out.split())
    floor = ran.result_of("tls.version-floor", live.client_label)
    assert (floor["level"], floor["outcome"]) == ("MUST", "violates")
    assert "profile mozilla-modern, tls_versions" in floor["references"]
    assert "(mozilla-modern tls_versions)" in floor["findings"][0]["expected"]
    assert "--tls-min-version=TLS1.3" in floor["remediation"]


@pytest.mark.etcd_version("3.6", "3.7")
def test_a_profile_stays_within_the_plan(run: Runner, live: Live) -> None:
    ran = run(*live.options, "--etcd-profile=nist-800-52r2,bsi-tr-02102-2", "--etcd-plan", report=False)
    assert ran.exit_code == 0, ran.err
    planned = {
        url: int(number) for url, number in re.findall(r"(https://\S+): at most (\d+) connections?", ran.out)
    }
    judged = run(*live.options, "--etcd-profile=nist-800-52r2,bsi-tr-02102-2", "--etcd-check=tls")
    made = [connection["url"] for connection in judged.report["connections"]]
    assert any(connection["purpose"] == "suites of TLS 1.3" for connection in judged.report["connections"])
    assert all(made.count(url) <= planned[url] for url in {live.client, live.peer})


def test_the_catalogue_shows_the_difference(run: Runner) -> None:
    plain = run("--etcd-list-checks", report=False)
    ran = run("--etcd-list-checks", "--etcd-profile=bsi-tr-02102-2,kubeadm", report=False)
    assert (plain.exit_code, ran.exit_code) == (0, 0)
    assert " -> " not in plain.out
    differences = dict(re.findall(r"^(\S+)  .*\n +-> (.*)$", ran.out, re.MULTILINE))
    assert differences["tls.triple-des"] == "MUST instead of SHOULD (bsi-tr-02102-2, 3.3.1.1)"
    assert "rsa_bits: 3000" in differences["cert.key-strength"]
    assert differences["mtls.server-certificate-as-client"].startswith("NOTE instead of SHOULD (kubeadm, ")
    assert "mtls.no-certificate" not in differences
    explained = run("--etcd-explain=tls.triple-des", "--etcd-profile=bsi-tr-02102-2", report=False)
    assert re.search(r"profile: +MUST instead of SHOULD", explained.out)


@pytest.mark.parametrize("more", [["--etcd-conformance"], ["--etcd-list-checks"]])
def test_a_missing_profile_is_a_usage_error(run: Runner, more: list[str]) -> None:
    ran = run("--etcd-profile=nist", *more, report=False)
    assert ran.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "--etcd-profile nist: there is no such profile and no such file" in ran.err
    assert all(name in ran.err for name in builtin())
    assert "Traceback" not in ran.out + ran.err


def test_the_example_of_the_page(run: Runner, live: Live) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (run.directory / "house.toml").write_text(text, encoding="utf-8")
    ran = run(*live.options, SOME, "--etcd-profile=house.toml")
    assert ran.exit_code == 1, ran.out + ran.err
    assert sections(ran.report) == {"1": "violates", "2": "conforms", "3": "not-verified", "4": "not-judged"}


def test_a_profile_warns_of_an_expiry_earlier(run: Runner, live: Live) -> None:
    (run.directory / "house.toml").write_text(
        'title = "t"\n[[section]]\nsection = "1"\ntitle = "t"\nlevel = "MUST"\n'
        'checks = ["cert.expires-soon"]\nthresholds = { expiry_days = 3650 }\n',
        encoding="utf-8",
    )
    ran = run(*live.options, "--etcd-check=cert.expires-soon", "--etcd-profile=house.toml")
    assert set(ran.outcomes.values()) == {"violates"}
    ran = run(*live.options, "--etcd-check=cert.expires-soon", "--etcd-profile=none")
    assert set(ran.outcomes.values()) == {"conforms"}
