"""The tests with other interpreters and other versions of what is needed.

nox runs all sessions but the prereleases; nox -s tests-3.13 or nox -s "make(lowest)" runs one, nox --list
shows them. An interpreter that is not on PATH is skipped. Arguments after -- go to pytest.
"""

from __future__ import annotations

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
FOCUSED = ["tests/unit", "tests/pki", "tests/tls", "tests/plugin/test_owned.py"]
# Not httpx: the prereleases of 1.0 have another interface, without BaseTransport.
RUNTIME = ["pytest", "cryptography", "pyOpenSSL", "testcontainers"]
PARALLEL = ["--numprocesses=auto", "--dist=worksteal", "--timeout=300"]

nox.options.sessions = ["tests", "make"]
nox.options.default_venv_backend = "venv"


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run a focused set with the newest version of everything."""
    session.install("--upgrade", "pip>=25.1")
    session.install("--editable", ".[embedded]", "--group", "test")
    session.run("pytest", *PARALLEL, *(session.posargs or FOCUSED))


@nox.session(python=PYTHONS[-2])
def prereleases(session: nox.Session) -> None:
    """Run the same with prereleases of pytest, cryptography, pyOpenSSL and testcontainers."""
    session.install("--upgrade", "pip>=25.1")
    session.install("--editable", ".[embedded]", "--group", "test")
    session.install("--upgrade", "--pre", *RUNTIME)
    session.run("pytest", *PARALLEL, *(session.posargs or FOCUSED))


@nox.session(python=False)
@nox.parametrize("versions", ["oldest", "lowest"], ids=["oldest", "lowest"])
def make(session: nox.Session, versions: str) -> None:
    """Run make test WITH=oldest (the oldest pytest) or WITH=lowest (the lowest version of everything)."""
    session.run("make", "test", f"WITH={versions}", f"ARGS={' '.join(session.posargs)}", external=True)
