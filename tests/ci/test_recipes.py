"""The recipes for CI: their scripts are run with a real etcd, as a CI runner does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from planting import acted, plant
from programs import run_program
from starting import start_process

from pytest_etcdtls.etcd.config import ClusterConfig

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
GITHUB, GITLAB = (ROOT / "examples/ci" / name for name in ("github-actions.yml", "gitlab-ci.yml"))
BUMP = ROOT / "examples/bump"
FEW = ("--etcd-check=listener", "--etcd-check=cert.trusted", "--etcd-check=mtls.no-certificate")


def _loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as ``docs/ci.md`` says, without an index."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, f"--wheel-dir={directory}", str(ROOT)], check=True)
    [built] = directory.iterdir()
    return built


@pytest.fixture
def job(tmp_path: Path, wheel: Path) -> Iterator[Path]:
    """The repository of a job, with the wheel and in ``.venv`` a Python of its own without the package.

    The packages that it requires are those of this environment: the job has no index. Everything that it
    could import is in the repository, too, and nothing of that is imported.
    """
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / ".venv")], check=True)
    (tmp_path / "packages").mkdir()
    for path in Path(pytest.__file__).parents[1].iterdir():
        if "pytest_etcdtls" not in path.name:
            (tmp_path / "packages" / path.name).symlink_to(path)
    repository = tmp_path / "repository"
    repository.mkdir()
    plant(repository)
    shutil.copy(wheel, repository)
    yield repository
    assert acted(repository) == []


def _bash(script: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as GitHub's runner does, with the files that it gives to steps, and without an index."""
    environment = {
        "PATH": f"{directory.parent / '.venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(directory.parent / "packages"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "GITHUB_STEP_SUMMARY": str(directory / "summary.md"),
        "GITHUB_OUTPUT": str(directory / "output"),
    }
    command = ["bash", "-eo", "pipefail", "-c", script]
    return run_program(command, directory, environment | variables, merged=True)


def _act(job: Path, options: str, reports: str = "reports") -> subprocess.CompletedProcess[str]:
    """Run both steps of the action, which installs its own checkout."""
    install, judge = _loaded(ACTION)["runs"]["steps"]
    assert install["env"] == {"PACKAGE": "${{ inputs.package || github.action_path }}"}
    assert _loaded(ACTION)["inputs"]["package"]["default"] == ""
    assert set(judge["env"].values()) == {"${{ inputs.options }}", "${{ inputs.reports }}"}
    installed = _bash(install["run"], job, PACKAGE=str(ROOT))
    assert installed.returncode == 0, installed.stdout
    return _bash(judge["run"], job, OPTIONS=options, REPORTS=reports)


@pytest.mark.program("bash")
def test_the_action_writes_reports_and_a_summary(newest_etcd: Path, job: Path) -> None:
    ran = _act(job, "\n".join([f"--etcd-binary={newest_etcd}", "", *FEW]), "my reports")
    assert ran.returncode == 0, ran.stdout
    written = {path.suffix for path in (job / "my reports").iterdir()}
    assert written == {".json", ".html", ".md", ".sarif", ".xml"}
    assert "CHECKS CLEAN (`cert.trusted`, listener, `mtls.no-certificate`)" in (job / "summary.md").read_text(
        encoding="utf-8"
    )
    [output] = (job / "output").read_text(encoding="utf-8").splitlines()
    assert json.loads((job / output.removeprefix("sarif=")).read_text(encoding="utf-8"))["version"] == "2.1.0"


@pytest.mark.program("bash")
def test_the_action_fails_as_pytest_does(newest_etcd: Path, job: Path) -> None:
    (job / "reports").mkdir()
    (job / "reports/etcd-tls.md").symlink_to("/etc/hostname")  # of the checkout, so not for the summary
    ran = _act(job, f"--etcd-binary={newest_etcd}\n--etcd-check=no-such-check; touch injected")
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no-such-check" in ran.stdout
    assert not (job / "injected").exists()
    assert not (job / "summary.md").exists()


@pytest.mark.program("bash")
def test_an_input_of_the_action_adds_no_output(tmp_path: Path) -> None:
    script = _loaded(ACTION)["runs"]["steps"][1]["run"]
    ran = _bash(script, tmp_path, OPTIONS="--help", REPORTS="reports\nsarif=/etc/shadow")
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "without line breaks" in ran.stdout
    assert not (tmp_path / "output").exists()


def test_scripts_contain_no_expression() -> None:
    """An expression in a script is replaced before a shell reads it, so that its value could be commands."""
    steps = [*_loaded(ACTION)["runs"]["steps"]]
    for workflow in (GITHUB, BUMP / GITHUB.name):
        steps += [step for job in _loaded(workflow)["jobs"].values() for step in job["steps"]]
    scripts = [step["run"] for step in steps if "run" in step]
    assert len(scripts) == 4
    assert not [script for script in scripts if "${{" in script]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    # A tag can be moved to another commit.
    assert all(re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", one) for one in used)


def test_nothing_is_installed_from_an_index() -> None:
    """A name that nobody has claimed there is not to be installed by anybody."""
    for recipe in (GITHUB, GITLAB, BUMP / "bump.sh"):
        assert re.findall(r"pip install (.+)", recipe.read_text(encoding="utf-8")) == [
            "--quiet ./pytest_etcdtls-*.whl"
        ]


def _commands(output: str) -> list[str]:
    """Return the lines on which GitHub's runner acts: none after stop-commands, until its token."""
    acted, token = [], ""
    for line in output.splitlines():
        match = re.match(r"\s*::([^:\s]+)[^:]*::(.*)", line)
        if match and (not token or match[1] == token):
            acted.append(line.strip())
            token = match[2] if match[1] == "stop-commands" else ""
    return acted


@pytest.mark.program("bash")
def test_the_runner_takes_no_line_of_the_run_for_a_command(job: Path) -> None:
    attack = "\n::error::owned\n::stop-commands::mine\n::mine::\n"
    (job / "checks.py").write_text(f"import atexit\natexit.register(print, {attack!r})\n", encoding="utf-8")
    ran = _act(job, "--checks-file=checks.py\nhttps://127.0.0.1:1")
    assert "\n::error::owned\n" in ran.stdout
    first, last = _commands(ran.stdout)
    token = first.removeprefix("::stop-commands::")
    assert (len(token), last) == (64, f"::{token}::")
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR


@pytest.mark.container
@pytest.mark.program("bash")
def test_the_workflow_judges_a_release(etcd_images: dict[str, str], job: Path) -> None:
    [script] = [step["run"] for step in _loaded(GITHUB)["jobs"]["each-release"]["steps"] if "run" in step]
    *_, new = etcd_images.values()
    ran = _bash(script.replace('"--image=$IMAGE"', f'"--image=$IMAGE" {" ".join(FEW)}'), job, IMAGE=new)
    assert ran.returncode == 0, ran.stdout


def _try(repository: Path, etcd: Path) -> tuple[int, str]:
    """Try an etcd as the recipe of GitLab does; return the exit code and the page, without marks of code."""
    script = "\n".join(_loaded(BUMP / GITLAB.name)["etcd-bump"]["script"])
    ran = _bash(script.replace("$name/etcd", str(etcd)), repository)
    assert ran.returncode in (0, 1), ran.stdout
    page, folded, _ = (repository / "etcd-tls/bump.md").read_text(encoding="utf-8").partition("<details>")
    assert folded
    assert len(page.splitlines()) < 40, "it is longer than a page"
    return ran.returncode, page.replace("`", "")


GATES = "--feature-gates=CompactHashCheck=true,InitialCorruptCheck=true"
GONE = {
    "compact-hash-check-enabled": GATES,
    "corrupt-check-time": "--corrupt-check-time=1h",
    "initial-corrupt-check": GATES,
    "watch-progress-notify-interval": "--watch-progress-notify-interval=5s",
}


@pytest.mark.two_etcds
@pytest.mark.program("bash", "sed", "openssl")
def test_a_bump_step_by_step(etcd_binaries: dict[str, Path], job: Path) -> None:
    """Each step as its reviewer reads it, does what the page says and takes the etcd into use."""
    if not {"3.6.16", "3.7.3"} <= etcd_binaries.keys():
        pytest.skip("needs etcd 3.6.16 and 3.7.3; run make etcd")
    repository = Path(shutil.copytree(BUMP, job, dirs_exist_ok=True))
    declaration, baseline = repository / "etcd.yaml", repository / "etcd.baseline"
    recipe, few = repository / "bump.sh", "--check=config,listener,mtls.trusted-client,api.version-body"
    recipe.write_text(
        recipe.read_text(encoding="utf-8").replace('"$@" --j', f'"$@" {few} --j'), encoding="utf-8"
    )

    status, page = _try(repository, etcd_binaries["3.6.16"])
    assert status == 1
    first = page[page.index("1. ") : page.index("**Nothing to do")]
    assert first.startswith("1. **worse:** cp1: /etc/kubernetes/pki/etcd/crl.pem is PEM")
    assert "every client with a certificate is refused" in first
    crl = "/etc/kubernetes/pki/etcd/crl"
    assert f"openssl crl -inform PEM -in {crl}.pem -outform DER -out {crl}.der" in first
    assert f"give --client-crl-file={crl}.der" in first
    assert page.count("**worse:**") == 1
    assert "no result in the baseline" not in page, "it is older than the checks"
    convert = ["openssl", "crl", "-inform", "PEM", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der"]
    subprocess.run(convert, cwd=repository, check=True)
    declaration.write_text(
        declaration.read_text(encoding="utf-8").replace(f"{crl}.pem", f"{crl}.der"), encoding="utf-8"
    )
    status, page = _try(repository, etcd_binaries["3.6.16"])
    assert (status, page.count("**worse:**")) == (0, 0)
    assert "fields of /version: new storage" in page
    shutil.move(repository / "etcd-tls/bump.baseline", baseline)

    status, page = _try(repository, etcd_binaries["3.7.3"])
    assert status == 1
    quoted = page.index(
        "cp1 does not start: it ended with status 2: flag provided but not defined: -experimental-"
    )
    assert quoted < page.index("1. **worse:** cp1: etcd 3.7.3 does not start with")
    for old, new in GONE.items():
        assert f"- give {new} (etcd 3.6 and newer) instead of --experimental-{old}\n" in page
        text = declaration.read_text(encoding="utf-8")
        line = "" if new in text else f"    - {new}\n"
        declaration.write_text(re.sub(rf"    - --experimental-{old}\b.*\n", line, text), encoding="utf-8")
    status, page = _try(repository, etcd_binaries["3.7.3"])
    assert status == 0
    assert "→ etcd-3.7.3" in page
    assert page.rstrip().endswith(": no difference")
    shutil.move(repository / "etcd-tls/bump.baseline", baseline)

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-etcdtls" / "next"
    *_, following = [None, *sorted(cache.glob("*/etcd"))]
    if following is None:
        pytest.skip("the last step needs the next etcd; run make etcd ARGS='--into=next next'")
    _, page = _try(repository, following)
    assert f" of the baseline → etcd-{following.parent.name}" in page


@pytest.mark.program("bash")
def test_gitlab_shows_the_fault_as_a_failed_test_and_as_code_quality(newest_etcd: Path, job: Path) -> None:
    """The etcd accepts clients without a certificate."""
    recipe = _loaded(GITLAB)["etcd-tls"]
    before = _bash("\n".join(recipe["before_script"]), job)
    assert before.returncode == 0, before.stdout
    with start_process(ClusterConfig(client_cert_auth=False, trusted_ca_file=None), newest_etcd) as cluster:
        member = cluster.members[0]
        files = {"CA": "server-ca.crt", "CERT": "client.crt", "KEY": "client.key"}
        variables = {f"ETCD_{name}": str(member.file(file)) for name, file in files.items()}
        script = "\n".join(recipe["script"])
        ran = _bash(script, job, ETCD_ENDPOINT=member.client_url, **variables)
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout
    after = _bash("\n".join(recipe["after_script"]), job)
    assert after.returncode == 0, after.stdout
    reports = recipe["artifacts"]["reports"]
    suite = ET.parse(job / reports["junit"]).getroot()  # noqa: S314 - written by pytest
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert "mtls.no-certificate" in failed
    quality = json.loads((job / reports["codequality"]).read_text(encoding="utf-8"))
    [fault] = [one for one in quality if one["check_name"] == "mtls.no-certificate"]
    assert fault["severity"] in {"critical", "blocker"}
    assert fault["fingerprint"] not in [one["fingerprint"] for one in quality if one is not fault]
    assert set(fault) == {"description", "check_name", "fingerprint", "severity", "location"}
    assert set(recipe["artifacts"]["paths"]) <= {path.name for path in job.iterdir()}
