"""An option of the command line has an effect in the run, or is refused with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner

from pytest_etcdtls.options import OPTIONS, PARTS, Kind, invocation_of

VALUES = {
    "--etcd-cluster-scope": "module",
    "--etcd-clusters": "clusters.toml",
    "--etcd-report": "report.json",
}
"""Of options that are read with the invocation. Files are not opened by then."""

OF_LIVE_ALONE = {
    *("--etcd-connect-to", "--etcd-via", "--etcd-via-env"),
    *("--etcd-expect-cert", "--etcd-expect-peer-cert"),
    *("--etcd-log", "--etcd-discover", "--etcd-user", "--etcd-password-file", "--etcd-label"),
    "--etcd-rehearse",
}
OF_FILES = {
    *("--etcd-cacert", "--etcd-cert", "--etcd-key", "--etcd-key-password-file", "--etcd-pki-dir"),
    "--etcd-secret",
    *("--etcd-peer-cacert", "--etcd-peer-cert", "--etcd-peer-key", "--etcd-kubernetes-ca"),
    *("--etcd-trusted-ca", "--etcd-peer-trusted-ca", "--etcd-ca-key", "--etcd-peer-ca-key"),
}
OF_THE_SUITE = {
    *("--etcd-report", "--etcd-metadata", "--etcd-baseline", "--etcd-fail-on-difference"),
    *("--etcd-write-waivers", "--etcd-allow-unverified", "--etcd-plan"),
}
OF_STARTED = {
    *("--etcd-backend", "--etcd-image", "--etcd-binary", "--etcd-size", "--etcd-key-type"),
    *("--etcd-keep", "--etcd-start-timeout"),
}
OF_TESTS = {"--etcd-cluster-scope", "--etcd-allow-writes"}
OF_A_LIST = {"--etcd-shard", "--etcd-clusters-trusted"}
OF_LISTS = {"--etcd-clusters", *OF_A_LIST}
LIVE = {"--etcd-endpoint", "--etcd-peer-endpoint", "--etcd-metrics-endpoint", "--etcd-client-http-endpoint"}
SUITE_ALONE = ("--pyargs", "pytest_etcdtls")
ENDPOINT = "--etcd-endpoint=https://10.0.0.11:2379"
REPLAY = ("--etcd-config=etcd.yaml", "--etcd-binary=/usr/bin/etcd")
ONE_CLUSTER = {
    "--etcd-baseline",
    "--etcd-fail-on-difference",
    "--etcd-write-waivers",
    "--etcd-label",
}

REFUSED: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "fixtures": ((), OF_LIVE_ALONE | OF_FILES | OF_THE_SUITE | OF_A_LIST),
    "fixtures, no suite": (
        ("--no-etcd-conformance",),
        OF_LIVE_ALONE | OF_FILES | OF_THE_SUITE | OF_LISTS,
    ),
    "fixtures on a live cluster": (
        ("--no-etcd-conformance", ENDPOINT),
        OF_THE_SUITE | OF_LISTS | {"--etcd-rehearse"},
    ),
    "owned": (("--etcd-conformance",), OF_LIVE_ALONE | OF_FILES | OF_A_LIST),
    "owned alone": (SUITE_ALONE, OF_LIVE_ALONE | OF_FILES | OF_TESTS | OF_A_LIST),
    "live": ((ENDPOINT,), {"--etcd-image", "--etcd-binary"} | OF_LISTS),
    "live alone": ((*SUITE_ALONE, ENDPOINT), OF_STARTED | OF_TESTS | OF_LISTS),
    "replay": (REPLAY, OF_LIVE_ALONE | LIVE | OF_LISTS),
    "replay alone": (
        (*SUITE_ALONE, *REPLAY),
        OF_LIVE_ALONE | LIVE | OF_LISTS | OF_TESTS | {"--etcd-size"},
    ),
    "clusters": (
        ("--etcd-clusters=clusters.toml",),
        {*LIVE, "--etcd-config", "--etcd-pid", "--etcd-rehearse", "--etcd-image", "--etcd-binary"}
        | ONE_CLUSTER,
    ),
    "clusters alone": (
        (*SUITE_ALONE, "--etcd-clusters=clusters.toml"),
        {*LIVE, "--etcd-config", "--etcd-pid", "--etcd-rehearse"} | OF_STARTED | ONE_CLUSTER | OF_TESTS,
    ),
}
"""For each kind of run the options that have no effect in it, or contradict it."""


def test_every_option_has_a_decision() -> None:
    assert PARTS.keys() == {option.flag for option in OPTIONS}, (
        "a new option says in which parts of a run it has an effect"
    )


@pytest.mark.parametrize("kind", REFUSED)
def test_an_option_has_an_effect_or_is_refused(
    kind: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the others take most of the time
    arguments, expected = REFUSED[kind]
    found = {}
    for option in OPTIONS:
        if option.flag.endswith("etcd-conformance"):
            continue  # these two say what kind of run it is
        more = ["--etcd-report=report.json"] if option.flag == "--etcd-metadata" else []
        value = "" if option.kind is Kind.FLAG else f"={VALUES.get(option.flag, 'https://10.0.0.12:2379')}"
        words = [*arguments, f"{option.flag}{value}", *(more if "fixtures" not in kind else [])]
        try:
            invocation_of(pytester.parseconfig("-petcdtls", *words))
        except pytest.UsageError as error:
            found[option.flag] = str(error)
    assert found.keys() == expected
    for flag, message in found.items():
        assert flag in message, "it names what was given"
        assert any(verb in message for verb in ("omit ", "pass ", "add ")), "and says what to do"


def test_what_is_in_files_and_variables_is_for_several_runs(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the suite nothing is written or compared, and an ordinary run is as it was."""
    run.write(test_user="def test_user(): pass")
    run.ini("etcd_report = ini.json\netcd_baseline = no.json\netcd_cacert = ca.crt\netcd_metadata = a=b")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--etcd-report=added.json --etcd-cert=x.crt --etcd-allow-unverified")
    monkeypatch.setenv("ETCDCTL_CERT", "/nonexistent")
    monkeypatch.setenv("ETCDCTL_CACERT", "/nonexistent")
    ran = run(report=False)
    assert ran.exit_code == 0, ran.out + ran.err
    assert not list(run.directory.glob("*.json"))


def test_a_list_of_clusters_has_no_target_for_fixtures(run: Runner, live: Live, tmp_path: Path) -> None:
    """They would judge an etcd of their own. One that the test names itself is meant."""
    clusters = tmp_path / "clusters.toml"
    clusters.write_text(f'[[cluster]]\nlabel = "a"\nendpoint = "{live.client}"\n', encoding="utf-8")
    run.write(
        test_user="""
        import pytest
        def test_follows(etcd_target): pass
        @pytest.mark.parametrize("etcd_cluster", [{"size": 1}], indirect=True)
        def test_names(etcd_cluster, etcd_target): assert not etcd_target.live
        def test_starts(etcd_cluster): pass
        """
    )
    ran = run(
        f"--etcd-clusters={clusters}", "--etcd-check=cert.trusted", "--etcd-backend=process", report=False
    )
    assert "--etcd-clusters names a list, and this test has one target" in " ".join(ran.out.split())
    assert "2 passed" in ran.out
    assert "1 error" in ran.out
