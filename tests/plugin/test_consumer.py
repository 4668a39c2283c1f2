"""A project that uses the plugin: examples/consumer, its own checks, hooks and types."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from plugin.runs import Runner
from programs import run_program
from shown_commands import fenced

from pytest_etcdtls import facts
from pytest_etcdtls.checks.registry import catalogue

CONSUMER = Path(__file__).parents[2] / "examples" / "consumer"
FILE = "--etcd-checks-file=etcd_checks.py"


def test_its_tests_checks_and_hooks_are_run(run: Runner, newest_etcd: Path) -> None:
    for file in CONSUMER.glob("*.py"):
        shutil.copy(file, run.directory)
    ran = run(FILE, f"--etcd-binary={newest_etcd}", "--etcd-conformance", "--etcd-check=company,mtls.no-*")
    assert ran.exit_code == 0, ran.out
    assert {name: out for name, out in ran.outcomes.items() if "company" in name} == {
        "client-m0::company.no-proxy": "conforms",
        "peer-m0::company.no-proxy": "conforms",
    }
    (line,) = (run.directory / "verdicts.txt").read_text(encoding="utf-8").splitlines()
    assert line.startswith("etcd-3.")
    assert line.endswith(f"results={len(ran.outcomes)} faults=0")
    explained = run(FILE, "--etcd-explain=company.no-proxy", report=False)
    assert explained.exit_code == 0
    assert "No proxy answers instead of etcd." in explained.out


CHECK = '''
from pytest_etcdtls import EVERY_LISTENER, check

@check("company.a", on=EVERY_LISTENER, counterexample=dict)
def checked(fact: str):
    """It is so.

    Spec: None
    Severity: low
    Level: MUST
    Remediation: none.
    """
    yield from ()
'''


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "broken.py does not exist", id="missing"),
        pytest.param("def (", "broken.py, line 1: it cannot be imported: SyntaxError", id="syntax"),
        pytest.param("\n1 / 0", "broken.py, line 2: it cannot be imported: ZeroDivisionError", id="error"),
        pytest.param("x = 1", "broken.py has no check: decorate", id="no check"),
        pytest.param(CHECK, "check 'company.a', parameter 'fact': no fact is of type str", id="type"),
        pytest.param(
            "from pytest_etcdtls.facts import ServedChian", "cannot import name 'ServedChian'", id="import"
        ),
    ],
)
def test_a_broken_file_is_a_usage_error(run: Runner, text: str | None, said: str) -> None:
    if text is not None:
        (run.directory / "broken.py").write_text(text, encoding="utf-8")
    ran = run("--etcd-checks-file=broken.py", "--etcd-conformance")
    assert ran.exit_code == 4
    assert said in ran.err
    assert ran.err.startswith("ERROR: --etcd-checks-file: ")
    assert "Traceback" not in ran.err


HOOKS = """
    from dataclasses import replace

    def pytest_etcdtls_cluster_config(cluster_config):
        return {returned}

    def pytest_etcdtls_judged(target):
        raise RuntimeError("no dashboard")
"""


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("42", "returned int: return a ClusterConfig"),
        ("replace(cluster_config, metrics='http')", "changes the listeners of a cluster"),
        ("None", "A hook pytest_etcdtls_judged failed on etcd-"),
    ],
)
def test_a_broken_hook_fails_the_run_with_one_line(
    run: Runner, newest_etcd: Path, returned: str, said: str
) -> None:
    run.write(conftest=HOOKS.format(returned=returned))
    ran = run(f"--etcd-binary={newest_etcd}", "--etcd-conformance", "--etcd-check=listener")
    assert ran.exit_code == 1
    assert said in " ".join(ran.out.split())
    assert "INTERNALERROR" not in ran.out


def test_the_public_facts_are_those_of_the_page() -> None:
    more = {"Access", "Attempt", "Case", "Each", "Ending", "Response", "PresentedClient", "Tried"}
    needed = {need.type.__name__ for check in catalogue().values() for need in check.needs.values()}
    assert {name for name, value in vars(facts).items() if isinstance(value, type)} == needed | more


CHECKERS = {
    "mypy": (sys.executable, "-m", "mypy", "--strict", "--no-incremental"),
    "pyright": ("pyright", "--pythonpath", sys.executable),
}


@pytest.mark.whole
@pytest.mark.parametrize(
    "checker", ["mypy", pytest.param("pyright", marks=pytest.mark.program("pyright", "node"))]
)
def test_a_type_checker_sees_the_names_and_a_typo(checker: str, tmp_path: Path) -> None:
    command = CHECKERS[checker]
    if checker == "mypy" and importlib.util.find_spec("mypy") is None:
        pytest.skip(f"needs {checker}")
    for file in CONSUMER.glob("*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    (tmp_path / "typos.py").write_text(
        "from pytest_etcdtls import ClusterPIK\nfrom pytest_etcdtls.facts import ClientExchagne\n"
        "print(ClusterPIK, ClientExchagne)\n"
        "from pytest_etcdtls import ClusterFactory, EtcdTLSContainer, start_cluster\n"
        "def start(factory: ClusterFactory) -> None:\n"
        "    factory(client_cert_aut=False)\n"
        "    start_cluster(version='3.6', peer_cert_file=1)\n"
        "    EtcdTLSContainer('etcd').with_config(metrics='ftp')\n",
        encoding="utf-8",
    )
    run = run_program([*command, "."], tmp_path)
    errors = [line for line in run.stdout.splitlines() if "error:" in line or " - error" in line]
    assert run.returncode == 1, run.stdout
    assert [line for line in errors if "typos.py" not in line] == []
    for name in ("ClusterPIK", "ClientExchagne", "client_cert_aut", "peer_cert_file", "metrics"):
        assert any(name in line for line in errors), run.stdout


def test_the_page_shows_the_files_of_the_project() -> None:
    files = [path.read_text(encoding="utf-8") for path in CONSUMER.glob("*.py")]
    checked, proved, on_etcd, _, hooks, *_ = fenced("docs/own-checks.md", "python")
    assert [
        code for code in (checked, proved, on_etcd, hooks) if not any(code in file for file in files)
    ] == []
