"""The projects in ``examples`` run unchanged."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from programs import run_program
from shown_commands import section

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGE = section("docs/first-test.md", "Examples")


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / name, tmp_path / name))


def run(directory: Path, *options: str) -> tuple[int, str]:
    """Run pytest there; besides the package only that directory is imported from."""
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", *options]
    environment = {"PYTHONPATH": f"{EXAMPLES.parent}:{directory}", "COLUMNS": "80"}
    ended = run_program(command, directory, environment, merged=True)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("name", ["infrastructure", "client_library"])
def test_a_suite_passes(name: str, tmp_path: Path, newest_etcd: Path) -> None:
    code, output = run(copied(name, tmp_path), f"--etcd-binary={newest_etcd}")
    assert code == 0, output
    assert " passed" in output
    assert "skipped" not in output.splitlines()[-1]


def test_the_operators_declaration_is_replayed_and_judged(tmp_path: Path, newest_etcd: Path) -> None:
    checks = "--etcd-check=listener,mtls,cert,tls,config"
    directory = copied("operator", tmp_path)
    code, output = run(directory, "--etcd-conformance", f"--etcd-binary={newest_etcd}", checks)
    assert code == 0, output
    assert re.search(r"etcd TLS: \d+ OF \d+ CHECKS CLEAN \(config, listener, mtls and", output)
    assert "2 waived" in output


def test_a_check_of_another_package_judges(tmp_path: Path, newest_etcd: Path) -> None:
    directory = copied("own_checks", tmp_path)
    project = tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [(group, entries)] = project["entry-points"].items()
    # What pip leaves of an installation, without an index.
    installed = directory / "house_etcd_checks-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n", encoding="utf-8"
    )
    (installed / "entry_points.txt").write_text(
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]), encoding="utf-8"
    )
    code, output = run(
        directory, "--pyargs", "pytest_etcdtls", f"--etcd-binary={newest_etcd}", "--etcd-check=house"
    )
    assert code == 0, output
    assert "3 passed" in output
    (directory / "test_house.py").write_text(
        "import pytest, house_etcd_checks\nfrom pytest_etcdtls import prove_check\n"
        "@pytest.mark.parametrize('check', [house_etcd_checks.certificates_are_renewed, "
        "house_etcd_checks.clients_without_alpn_are_answered])\n"
        "def test_it_can_fail(check): prove_check(check)\n",
        encoding="utf-8",
    )
    code, output = run(directory, "test_house.py")
    assert code == 0, output
    assert "2 passed" in output


def test_the_page_has_each_example() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {
        line.split("`")[1].removeprefix("examples/") for line in PAGE.splitlines() if line.startswith("| `")
    }
