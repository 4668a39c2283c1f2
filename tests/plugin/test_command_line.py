"""Options: help, precedence, sources of endpoints, and messages with exit code 4."""

from __future__ import annotations

import re
import socket

import pytest
from plugin.live_etcd import Live
from plugin.runs import Ran, Runner, nobody_came, url_of

from pytest_etcdtls.options import OPTIONS

URL = "--etcd-endpoint=https://127.0.0.1:2"
LIST = "--etcd-clusters=clusters.toml"
ALONE = ("--pyargs", "pytest_etcdtls")


def refused(ran: Ran) -> str:
    """Return the one message of a run that ended with exit code 4, before anything."""
    assert ran.exit_code == 4
    assert not ran.path.exists()
    assert "Traceback" not in ran.err + ran.out
    assert ran.err.count("ERROR: ") == 1
    return " ".join(ran.err.split())


def test_help_has_every_option_and_its_ini_option(run: Runner) -> None:
    ran = run("--help", report=False)
    assert ran.exit_code == 0
    words = set(re.findall(r"--?[a-z-]+|etcd_[a-z_]+", ran.out))
    for option in OPTIONS:
        assert option.flag in words
        assert (option.name in words) is option.ini


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--etcd-endpint=https://h:1"], "unrecognized arguments: --etcd-endpint=https://h:1"),
        (["--etcd-end=https://h:1"], "unrecognized arguments: --etcd-end=https://h:1"),
        (["--etcd-endpoint=10.0.0.11:2379"], "no scheme"),
        ([URL, "--etcd-label=a::b"], "a label has letters, digits"),
        ([URL, "--etcd-cacert=~nobody-has-this-name/ca.crt"], "~nobody-has-this-name/ca.crt: does not exist"),
        ([URL, "--etcd-check=mtls.no-certificat"], "did you mean 'mtls.no-certificate'?"),
        (["--etcd-explain=cert.trustd"], "did you mean 'cert.trusted'?"),
        (["--etcd-explain=tls.no-certificate"], "did you mean 'mtls.no-certificate'?"),
        (["--etcd-explain=mtls.groups"], "did you mean 'tls.groups'?"),
        ([URL, "--etcd-binary=etcd"], "--etcd-binary starts an etcd to be judged, and --etcd-endpoint names"),
        (["--etcd-conformance", "--etcd-binary="], "--etcd-binary is empty: pass the path of an etcd"),
        ([URL, "--etcd-config=etcd.yaml", "--etcd-binary=etcd"], "and --etcd-endpoint names a live one"),
        (
            ["--etcd-config=etcd.yaml", "--etcd-binary=etcd", "--etcd-log=x"],
            "--etcd-log has no effect here: it is about a live",
        ),
        (["--etcd-pki-dir=."], "names none: add --etcd-endpoint or --etcd-config, or omit --etcd-pki-dir"),
        ([URL, "etcdtls::live::client-127.0.0.1-2::cert"], "not found"),
        (
            [URL, "etcdtls::live::client-127.0.0.1-2::config.served-file"],
            "config.served-file is left out, there is no declaration: pass --etcd-config",
        ),
        (["--etcd-explain=typo"], "'typo' matches no check"),
        ([URL, "--etcd-check=config.next-version"], "was removed: start that version with the declaration"),
        ([URL, "--etcd-fix=fix.diff"], "--etcd-fix was removed: each fault prints the settings"),
        (["--no-etcd-conformance", *ALONE], "rules the suite out"),
        (["--etcd-conformance", "--etcd-binary=/nonexistent/etcd"], "/nonexistent/etcd"),
        ([URL, "--etcd-baseline=missing.json"], "ERROR: --etcd-baseline"),
        ([URL, "--etcd-baseline=missing.json", "--etcd-plan"], "ERROR: --etcd-baseline"),
        ([URL, "--etcd-fail-on-difference"], "ERROR: --etcd-fail-on-difference"),
        ([URL, "--etcd-write-waivers=pytest.ini"], "ERROR: --etcd-write-waivers"),
        ([URL, "--etcd-write-waivers=missing/waivers.toml"], "ERROR: --etcd-write-waivers"),
        ([URL, "--etcd-via=nc {host}"], "does not name {host} and {port}, as in"),
        ([URL, "--etcd-via=no-such-program {host} {port}"], "there is no program no-such-program"),
        ([URL, "--etcd-via=sh -c 'x {host} {port}"], "is not a valid shell command (No closing quotation)"),
        ([URL, "--etcd-via-env=A"], "--etcd-via-env A is for the command of --etcd-via"),
        ([URL, "--etcd-via=sh {host} {port}", "--etcd-via-env=A=b"], "'A=b' is not a variable name"),
        (
            ["--no-etcd-conformance", "--etcd-report=x.json"],
            "--etcd-report has no effect here: it is about the suite, which --no-etcd-conformance rules out",
        ),
        (
            ["--etcd-fail-on-difference"],
            "it is about the suite, which is not run: add --etcd-conformance or --etcd-endpoint, or omit",
        ),
        (["--etcd-cert=client.crt"], "add --etcd-conformance, which uses those of the ini file"),
        ([*ALONE, "--etcd-cacert=ca.crt"], "about a live cluster, and the command line names none"),
        ([*ALONE, URL, "--etcd-size=3"], "this run starts no cluster: omit"),
        (["--etcd-conformance", "--etcd-metadata=ticket=1"], "for reports, and none is written"),
        (["--etcd-conformance", "--etcd-gentle", "--etcd-concurrency=4"], "makes one connection at a time"),
        (["--etcd-clusters=none.toml"], "none.toml does not exist"),
        ([LIST, "--etcd-baseline=b.json"], "--etcd-baseline is about one cluster"),
        ([LIST, "--etcd-report=x.sarif"], "one cluster alone, with --etcd-endpoint"),
        ([LIST, "--etcd-report=none/x/"], "none does not exist"),
        (["--etcd-conformance", "--etcd-report=x/"], "a report of each cluster of --etcd-clusters"),
        ([LIST, "etcdtls::b"], "has that label"),
        (["--etcd-shard=1/4"], "--etcd-shard has no effect here: it is about a list of clusters"),
    ],
)
def test_an_unusable_setting_is_one_message_and_exit_code_4(
    run: Runner, arguments: list[str], says: str
) -> None:
    run.ini("etcd_endpoint = https://10.0.0.11:2379" if "ini file" in says else "")
    listed = '[[cluster]]\nlabel = "a"\nendpoints = "https://10.0.0.1:2379"\n'
    (run.directory / "clusters.toml").write_text(listed, encoding="utf-8")
    assert says in refused(run(*arguments, report=False))
    assert not list(run.directory.glob("*.json"))


def test_an_unusable_setting_is_one_message_under_xdist(run: Runner) -> None:
    assert "missing.crt" in refused(run(URL, "--etcd-cacert=missing.crt", "-n2", report=False))


# Where endpoints may come from.


@pytest.mark.parametrize(
    ("addopts", "beside", "says"),
    [
        ("--etcd-endpoint={}", (), "--etcd-conformance"),
        ("--etcd-endpoint={}", (URL,), "--etcd-conformance"),
        ("--etcd-config=missing.yaml", (), "--etcd-conformance"),
        ("--etcd-conformance\netcd_endpoint = {}", (), "ini file"),
        (None, (), "PYTEST_ADDOPTS"),
    ],
)
def test_a_cluster_in_addopts_is_refused(
    run: Runner,
    listening: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    addopts: str | None,
    beside: tuple[str, ...],
    says: str,
) -> None:
    if addopts is None:
        monkeypatch.setenv("PYTEST_ADDOPTS", f"--etcd-endpoint={url_of(listening)}")
    else:
        run.ini(f"addopts = {addopts.format(url_of(listening))}")
    assert says in refused(run(*beside, report=False))
    assert nobody_came(listening)


def test_the_last_line_names_unread_endpoints_of_etcdctl(
    run: Runner, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", url_of(listening))
    ran = run("--etcd-conformance", "--etcd-check=listener.answers", "--etcd-allow-unverified", report=False)
    *_, last = re.split(r"\n(?=etcd TLS: )", ran.out.strip())
    assert "that this run started, not that of ETCDCTL_ENDPOINTS" in " ".join(last.split())
    assert nobody_came(listening)


@pytest.mark.parametrize("where", ["addopts", "etcd_endpoint"])
def test_endpoints_of_the_ini_file_are_used_if_the_command_line_requests_it(
    run: Runner, live: Live, where: str
) -> None:
    run.ini(
        f"addopts = --etcd-endpoint={live.client}" if where == "addopts" else f"etcd_endpoint = {live.client}"
    )
    ran = run("--etcd-conformance", "--etcd-check=cert.valid-now")
    assert ran.outcomes == {f"{live.client_label}::cert.valid-now": "conforms"}


@pytest.mark.parametrize("setting", ["etcd_endpoint = {}", "etcd_config = missing.yaml"])
def test_a_cluster_of_the_ini_file_alone_is_not_used(
    run: Runner, listening: socket.socket, setting: str
) -> None:
    run.ini(setting.format(url_of(listening)))
    run.write(test_user="def test_user(): pass")
    ran = run(report=False)
    assert ran.exit_code == 0
    ran.result.assert_outcomes(passed=1)
    assert nobody_came(listening)


def test_endpoints_of_the_command_line_replace_those_of_the_ini_file(run: Runner, live: Live) -> None:
    """They are written as for etcdctl, or are in a file of arguments."""
    place = live.client.partition("://")[2]
    (run.directory / "arguments.txt").write_text(f"--etcd-endpoint={live.client}\n", encoding="utf-8")
    run.ini("etcd_endpoint = https://127.0.0.1:1\netcd_peer_endpoint = https://127.0.0.1:2")
    for argument in (f"--etcd-endpoints={place}", "@arguments.txt"):
        ran = run(argument, live.credentials[0], "--etcd-conformance", "--etcd-check=cert.valid-now")
        assert ran.outcomes == {f"{live.client_label}::cert.valid-now": "conforms"}
        assert (f"{place} is read as https://{place}" in " ".join(ran.out.split())) is ("=" in argument)


# Precedence.


def test_the_command_line_has_precedence_over_the_ini_file(run: Runner, live: Live) -> None:
    run.ini("etcd_check =\n    mtls\n    tls\netcd_timeout = never")
    ran = run(*live.options, "--etcd-check=cert.valid-now", "--etcd-timeout=5")
    assert set(ran.outcomes) == {
        f"{live.client_label}::cert.valid-now",
        f"{live.peer_label}::cert.valid-now",
    }


def test_a_falsy_value_is_a_value(run: Runner, live: Live) -> None:
    run.ini("etcd_expiry_days = 40\netcd_user = root")
    assert "--etcd-user" in refused(run(*live.options, "--etcd-user=", report=False))


def test_the_ini_file_has_precedence_over_the_environment_and_its_paths_are_relative_to_it(
    run: Runner, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCDCTL_CACERT", str(live.files / "peer-ca.crt"))
    (run.directory / "server-ca.crt").write_bytes((live.files / "server-ca.crt").read_bytes())
    run.ini("etcd_cacert = server-ca.crt")
    (run.directory / "below").mkdir()
    monkeypatch.chdir(run.directory / "below")
    options = (f"--etcd-endpoint={live.client}", "--etcd-check=cert.trusted", f"--rootdir={run.directory}")
    assert (
        run(*options, "-c", str(run.directory / "pytest.ini")).result_of("cert.trusted")["outcome"]
        == "conforms"
    )
    (run.directory / "pytest.ini").unlink()
    assert run(*options).result_of("cert.trusted")["outcome"] == "violates"


# Answers without a session.


@pytest.mark.parametrize("patterns", [(), ("--etcd-check=cert",), ("--etcd-check=tls.stalled-handshake*",)])
def test_the_header_counts_the_checks_as_the_list_does(run: Runner, patterns: tuple[str, ...]) -> None:
    ran = run("--etcd-list-checks", *patterns, report=False)
    assert ran.exit_code == 0
    line = re.search(r"^mtls\.no-certificate +MUST +critical +\S", ran.out, re.MULTILINE)
    assert (line is None) is bool(patterns)
    header = run(URL, "--collect-only", *patterns, report=False).out
    [checks] = re.findall(r"^(?:1 check|[02-9] checks|\d\d+ checks)$", ran.out, re.MULTILINE)
    assert re.search(rf"^etcd TLS: pytest-etcdtls .*, {checks}$", header, re.MULTILINE)
    asked_for = re.findall(r"^1 more, only when asked for: (tls.stalled-handshake)$", ran.out, re.MULTILINE)
    lines = len(re.findall(r"^[a-z]\S+ +(?:MUST|SHOULD) +", ran.out, re.MULTILINE))
    assert lines == int(checks.split()[0]) + len(asked_for)


def test_a_check_is_explained(run: Runner) -> None:
    ran = run("--etcd-explain=cert.trusted", report=False)
    assert ran.exit_code == 0
    for words in ("cert.trusted", "MUST", "RFC 5280", "remedy: ", "client, peer"):
        assert words in ran.out
    assert "--cert-file" in ran.out, "with the flags of each side, as runs on it print them"
    assert "--peer-cert-file" in ran.out
    assert "{peer}" not in ran.out


def test_the_plan_makes_no_connection(run: Runner, listening: socket.socket) -> None:
    ran = run(f"--etcd-endpoint={url_of(listening)}", "--etcd-plan")
    assert ran.exit_code == 0
    assert re.search(
        r"^live client-127\.0\.0\.1-\d+, https://\S+: at most [1-9]\d* connections$", ran.out, re.MULTILINE
    )
    assert nobody_came(listening)
    assert not ran.path.exists()


def test_checks_stopped_by_the_cap_are_inconclusive_as_planned(run: Runner, live: Live) -> None:
    options = (f"--etcd-endpoint={live.client}", *live.credentials, "--etcd-max-connections=4")
    plan = run(*options, "--etcd-plan", report=False)
    assert "at most 4 connections" in plan.out
    assert "is inconclusive" in plan.out
    ran = run(*options)
    assert ran.exit_code == 1
    assert ran.connections == 4
    assert ran.counts["inconclusive"]
    assert any("--etcd-max-connections" in result["reason"] for result in ran.report["results"])
