"""What the plugin costs those who have it installed and do not use it: nothing heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from programs import run_program

CONTAINERS = {"testcontainers", "docker", "requests", "urllib3", "dotenv", "wrapt"}
PAGE = {"jinja2", "markupsafe"}
HEAVY = {"cryptography", "OpenSSL", "httpx", "httpcore", "h2", "yaml"} | CONTAINERS | PAGE

CHECK = f"""
import sys

def pytest_sessionfinish():
    print("\\nHEAVY", sorted({HEAVY!r} & set(sys.modules)))
    print("OURS", sorted(name for name in sys.modules if name.startswith("pytest_etcdtls")))
"""


def _python(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, in which it must not fail."""
    ran = run_program([sys.executable, "-c", code], directory)
    assert ran.returncode == 0, ran.stderr
    return ran


def imported(directory: Path, *arguments: str) -> tuple[str, str]:
    (directory / "conftest.py").write_text(CHECK, encoding="utf-8")
    (directory / "test_user.py").write_text("def test_user(): pass\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", *arguments]
    ran = run_program(command, directory)
    lines = dict(
        line.split(" ", 1) for line in ran.stdout.splitlines() if line.startswith(("HEAVY ", "OURS "))
    )
    return lines["HEAVY"], lines["OURS"]


@pytest.mark.parametrize("arguments", [[], ["--collect-only"], ["-k", "nothing"]], ids=" ".join)
def test_an_unused_plugin_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    heavy, ours = imported(tmp_path, *arguments)
    assert heavy == "[]"
    assert "'pytest_etcdtls.plugin'" in ours
    for part in ("settings.", "run", "report", "pki", "etcd.cluster", "checks"):
        assert f"'pytest_etcdtls.{part}" not in ours


def test_a_run_imports_containers_and_the_html_report_only_if_needed(tmp_path: Path) -> None:
    heavy, _ = imported(tmp_path, "--pyargs", "pytest_etcdtls", "--etcd-endpoint=https://127.0.0.1:1")
    assert "'h2'" in heavy
    unused = CONTAINERS | PAGE | {"httpx", "httpcore", "yaml"}
    assert [name for name in sorted(unused) if repr(name) in heavy] == []


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, pytest\n"
        "assert pytest.main(['--help']) == 0\n"
        f"sys.exit(str(sorted({HEAVY!r} & set(sys.modules)) or '') or 0)"
    )
    _python(code, tmp_path)


def test_pytest_does_not_rewrite_the_modules_of_a_run(tmp_path: Path) -> None:
    """The code of the user's is rewritten as before, and afterwards Python imports as it did."""
    (tmp_path / "test_user.py").write_text(
        "def test_user():\n    assert len('of the user') == 3\n", encoding="utf-8"
    )
    code = (
        "import sys, pytest\n"
        "before = [type(one) for one in sys.meta_path]\n"
        "pytest.main(['-p', 'no:cacheprovider', '--etcd-endpoint=https://127.0.0.1:1'])\n"
        "assert [type(one) for one in sys.meta_path] == before\n"
        "ours = [one for name, one in sys.modules.items() if name.startswith('pytest_etcdtls.')]\n"
        "for one in ours:\n"
        "    print(type(one.__spec__.loader).__name__, one.__name__)\n"
    )
    ran = _python(code, tmp_path)
    assert "where 11 = len('of the user')" in ran.stdout
    assert "SourceFileLoader pytest_etcdtls.run.runner" in ran.stdout


@pytest.mark.parametrize("frozen", [False, True], ids=["host-froze-nothing", "host-froze-something"])
def test_the_imports_of_a_run_are_frozen_for_the_garbage_collector(tmp_path: Path, frozen: bool) -> None:
    """A host that goes on gets its objects back, and what it froze itself stays frozen."""
    (tmp_path / "conftest.py").write_text(
        "import gc\ndef pytest_collection():\n"
        "    print('\\nDURING', gc.get_freeze_count(), gc.isenabled())\n",
        encoding="utf-8",
    )
    code = (
        "import atexit, gc, pytest\n"
        "atexit.register(lambda: print('\\nEXIT', gc.get_freeze_count()))\n"
        f"gc.freeze() if {frozen} else None\n"
        "print('\\nBEFORE', gc.get_freeze_count())\n"
        "options = ['-s', '-p', 'no:cacheprovider', '--collect-only']\n"
        "pytest.main([*options, '--etcd-endpoint=https://127.0.0.1:1'])\n"
        "print('\\nAFTER', gc.get_freeze_count())\n"
    )
    ran = _python(code, tmp_path)
    lines = [line.split() for line in ran.stdout.splitlines() if line]
    seen = {line[0]: line[1:] for line in lines if line[0] in ("BEFORE", "DURING", "AFTER", "EXIT")}
    if frozen:
        assert all(0 < int(count) <= int(seen["BEFORE"][0]) for count, *_ in seen.values())
    else:
        assert seen["BEFORE"] == seen["AFTER"] == ["0"]
        assert int(seen["DURING"][0]) > 10_000
        assert int(seen["EXIT"][0]) > 10_000
    assert seen["DURING"][1] == "True"


def test_the_package_resolves_its_names_when_they_are_used(tmp_path: Path) -> None:
    code = (
        "import sys, pytest_etcdtls\n"
        f"assert not {HEAVY!r} & set(sys.modules)\n"
        "for name in pytest_etcdtls.__all__:\n"
        "    assert getattr(pytest_etcdtls, name) is not None, name\n"
        "assert set(pytest_etcdtls.__all__) <= set(dir(pytest_etcdtls))\n"
        "try:\n"
        "    pytest_etcdtls.Nothing\n"
        "except AttributeError as error:\n"
        "    assert 'Nothing' in str(error)\n"
        "else:\n"
        "    raise AssertionError\n"
        "try:\n"
        "    from pytest_etcdtls import observe\n"
        "except ImportError as error:\n"
        "    assert str(error) == 'pytest_etcdtls.observe was removed: use Observer(target)'\n"
        "else:\n"
        "    raise AssertionError\n"
        "assert not set(pytest_etcdtls.GONE) & set(pytest_etcdtls.__all__)\n"
        "assert not [name for name in pytest_etcdtls.__all__ if name.lower().startswith('test')]\n"
    )
    _python(code, tmp_path)
