"""The file of ``--junitxml``: a fault is one failure, and its consequences are skipped test cases.

pytest writes each failed item as a failure. A consequence is a failed item, because ``--lf`` has to run it
again, and a report has one outcome for all plugins. A CI server that counts failures would count one wrong
flag fourteen times. So the file is changed after pytest has written it: its format is public, and pytest's
classes for it are not.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.report import write_file
from pytest_etcdtls.settings.read import writable

CAUSE: Final = "etcdtls.cause"
"""The property of an item with the violation from which its own follows."""


def junit_file(config: pytest.Config) -> Path | None:
    """Return the path of ``--junitxml``; ``None`` if it is not given."""
    text = config.getoption("xmlpath", None)
    return config.invocation_params.dir / os.path.expanduser(os.path.expandvars(text)) if text else None


def require_writable(config: pytest.Config) -> None:
    """Check that pytest can write its file after the run. It makes the directory.

    Raises:
        pytest.UsageError: if it cannot.
    """
    if (path := junit_file(config)) is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable("--junitxml", str(path), path)
    except OSError as error:
        raise pytest.UsageError(
            f"--junitxml {str(path)!r}: the directory cannot be made: {error.strerror}"
        ) from error
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


def skip_consequences(path: Path) -> None:
    """Make test cases that follow from another one skipped, with the cause."""
    from xml.etree import ElementTree

    with suppress(OSError, ElementTree.ParseError):
        tree = ElementTree.parse(path)  # noqa: S314 - pytest has just written it
        changed = False
        for suite in tree.iter("testsuite"):
            skipped = 0
            for case in suite.iterfind("testcase"):
                causes = (one.get("value", "") for one in case.iter("property") if one.get("name") == CAUSE)
                cause, failure = next(causes, ""), case.find("failure")
                if cause and failure is not None:
                    failure.tag, failure.text = "skipped", None
                    failure.attrib.clear()
                    failure.attrib.update(type="pytest.skip", message=f"follows from {cause}")
                    skipped += 1
            for name, change in (("failures", -skipped), ("skipped", skipped)):
                suite.set(name, str(int(suite.get(name, "0")) + change))
            changed |= skipped > 0
        if changed:
            text = ElementTree.tostring(tree.getroot(), "unicode")
            write_file(path, ["<?xml version='1.0' encoding='utf-8'?>\n", text])
