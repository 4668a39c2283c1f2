"""The diff of a declaration is applied, and etcd started with it: it is CLEAN, and no finding is new.

Each misconfigured etcd that its declaration can cure is declared in one of the forms in turn, judged as a
user does who has the declaration, patched by ``patch``, and judged again with new data.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from kubeadm.judging import Given
from remedies.patching import FORMS, options, patched, write
from starting import start_process
from zoo import baseline
from zoo.members import ZOO
from zoo.model import Misconfigured, explain

from pytest_etcdtls.cluster.sources import binary_version
from pytest_etcdtls.declared.reading import read_declaration
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.settings.read import read_settings

CURED = (
    *("client-no-auth", "peers-without-tls", "client-auth-hidden", "rc4", "client-auto-tls", "peer-no-auth"),
    *("v2-enabled", "pprof-enabled", "log-level-debug", "peer-auto-tls", "client-wrong-ca", "peer-wrong-ca"),
    *("client-system-roots", "http-beside-https", "http-url-that-is-not-served", "advertises-nowhere"),
    *("advertises-http", "auto-tls-beside-a-certificate", "trusted-ca-alone", "peer-names-as-one"),
    *("peer-names-without-client-auth", "flag-gone-in-3-7", "crl-without-client-auth", "misspelt-variable"),
    *("misspelt-key", "key-gone-in-3-7", "key-in-capitals", "undocumented-key", "gateway-off-in-config-file"),
    *("versions-not-in-force", "suites-not-in-force", "client-auth-undeclared", "client-bundle-empty"),
    *("client-bundle-in-der", "flag-of-no-version", "variable-beside-flag", "crl-in-config-file"),
    *("suites-without-those-of-http2", "tls12-only", "triple-des", "rsa-key-exchange", "cbc"),
    *("no-forward-secrecy", "rsa-key-with-suites-for-ecdsa", "ecdsa-key-with-suites-for-rsa"),
    *("ed25519-key-with-suites-for-rsa", "no-suite-fits-and-tls12-only", "client-hostname-not-in-force"),
    *("peer-hostname-not-in-force", "peer-cn-not-in-force", "peer-san-unchecked", "swapped"),
    "same-pair-on-both-ports",
)
"""What a declaration can cure. In the others a file is wrong, or what runs is not what is declared."""

BROUGHT_ABOUT = {
    # A rule that is in force again, and that etcd applies to its own gateway, which cannot satisfy it.
    "client-hostname-not-in-force": {"api.gateway-works"},
}
NOT_YET = {"flag-gone-in-3-7": "3.6", "key-gone-in-3-7": "3.6"}
"""The line of etcd that has the name by which the setting goes on."""
DECLARATION = (
    "ETCD_LISTEN_CLIENT_URLS=https://10.0.0.11:2379\nETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.11:2379\n"
)


def assert_cured(name: str, form: str, etcd: Path, directory: Path) -> None:
    [member] = [one for one in ZOO if one.name == name]
    if binary_version(etcd) < NOT_YET.get(name, ""):
        pytest.skip("this version has the old name alone")
    try:
        done = patched(member, etcd, form, directory)
    except UsageError as error:
        pytest.skip(f"not to be expressed: {error}")
    if not done.diff and not _is_found(member, done.before_ids):
        pytest.skip("this version has no such fault")
    assert done.diff, explain(done.before)
    assert not done.failed, f"{done.diff}\n{explain(done.after)}"
    usual = baseline.warned(done.version, rsa=member._serves_rsa()).values()
    new = done.after_ids - done.before_ids - {id_ for ids in usual for id_ in ids}
    assert not new - BROUGHT_ABOUT.get(name, set()), f"{done.diff}\n{explain(done.after)}"
    assert not member.found_by(done.version).keys() or done.after_ids.isdisjoint(done.faults), done.diff


def _is_found(member: Misconfigured, found: set[str]) -> bool:
    return not member.proves().isdisjoint(found)


@pytest.mark.program("patch")
@pytest.mark.parametrize(("name", "form"), list(zip(CURED[:6], FORMS * 2, strict=False)))
def test_the_diff_cures_the_declaration(name: str, form: str, newest_etcd: Path, tmp_path: Path) -> None:
    assert_cured(name, form, newest_etcd, tmp_path)


@pytest.mark.whole
@pytest.mark.program("patch")
@pytest.mark.parametrize("name", CURED)
def test_every_diff_cures_its_declaration(name: str, etcd_binary: Path, tmp_path: Path) -> None:
    """On each etcd in another form."""
    number = CURED.index(name) + sum(map(int, binary_version(etcd_binary).split(".")))
    assert_cured(name, FORMS[number % len(FORMS)], etcd_binary, tmp_path)


@pytest.mark.program("patch")
def test_the_file_of_a_run_is_applied_as_it_says(newest_etcd: Path, pytester: pytest.Pytester) -> None:
    [member] = [one for one in ZOO if one.name == "peers-without-tls"]
    with start_process(member.config, newest_etcd) as cluster:
        [etcd] = cluster.members
        write(etcd, "manifest", pytester.path / "etcd.yaml")
        before = (pytester.path / "etcd.yaml").read_text(encoding="utf-8")
        given = options(etcd, pytester.path / "etcd.yaml")
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        ran = pytester.runpytest_subprocess(
            *words, "--etcd-fix=fix.diff", "--etcd-report=report.json", "--etcd-check=cluster"
        )
        assert ran.ret == pytest.ExitCode.TESTS_FAILED
        assert (pytester.path / "etcd.yaml").read_text(encoding="utf-8") == before
        printed = next(line for line in ran.outlines if line.startswith("remedies: patch "))
        subprocess.run(["sh", "-c", printed.removeprefix("remedies: ")], check=True, cwd=pytester.path)
        faults = json.loads((pytester.path / "report.json").read_text(encoding="utf-8"))["faults"]
        assert [one["check"] for one in faults if one["diff"] and one["outcome"] == "violates"]
    assert "etcdctl member update ID" in (pytester.path / "fix.diff").read_text(encoding="utf-8")
    settings = read_declaration(pytester.path / "etcd.yaml").settings
    assert settings["listen-peer-urls"].value.startswith("https://")


@pytest.mark.parametrize("kind", ["itself", "link", "hard link", "another file", "earlier one"])
def test_no_file_is_overwritten_but_an_earlier_one(kind: str, tmp_path: Path) -> None:
    declaration, fix = tmp_path / "etcd.conf", tmp_path / "fix.diff"
    declaration.write_text(DECLARATION, encoding="utf-8")
    match kind:
        case "itself":
            fix = declaration
        case "link":
            fix.symlink_to(declaration)
        case "hard link":
            os.link(declaration, fix)
        case "another file":
            fix.write_text("a file of mine\n", encoding="utf-8")
        case _:
            fix.write_text("# pytest-etcdtls: remedies of this run\n", encoding="utf-8")
    given = Given(etcd_config=declaration, etcd_fix=fix)
    if kind == "earlier one":
        assert read_settings(given, {}, live=True).fix == fix
    else:
        with pytest.raises(UsageError, match=r"--etcd-fix .* is not overwritten: name another file"):
            read_settings(given, {}, live=True)


def test_a_declaration_is_needed(tmp_path: Path) -> None:
    given = Given(etcd_endpoint="https://10.0.0.11:2379", etcd_fix=tmp_path / "fix.diff")
    with pytest.raises(UsageError, match=r"--etcd-fix .*--etcd-config"):
        read_settings(given, {}, live=True)


def test_a_declaration_from_a_pipe_has_no_file_to_change(pytester: pytest.Pytester) -> None:
    start = f"{shlex.quote(sys.executable)} -m pytest --pyargs pytest_etcdtls --etcd-fix=fix.diff"
    ran = pytester.run("bash", "-c", f"{start} --etcd-config=<(printf %s {shlex.quote(DECLARATION)})")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["*write the declaration to a file*"])
