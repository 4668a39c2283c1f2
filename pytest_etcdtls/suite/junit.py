"""The file of ``--junitxml``: a fault is one failure, and its consequences are skipped test cases.

pytest writes each failed item as a failure. A consequence is a failed item, because ``--lf`` has to run it
again, and a report has one outcome for all plugins. A CI server that counts failures would count one wrong
flag fourteen times. So the file is changed after pytest has written it: its format is public, and pytest's
classes for it are not.

pytest opens the file by its name, and would write through a link that somebody else has put there. So it
writes to a private directory, and the file is renamed into place as every report is. pytest has no public way
to give its plugin another path, so the attribute ``logfile`` is another one while the file is written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.report import write_file
from pytest_etcdtls.settings.read import writable

CAUSE: Final = "etcdtls.cause"
"""The property of an item with the violation from which its own follows."""


class JUnitFile:
    """A pytest plugin that writes the file of ``--junitxml`` safely, with consequences as skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def register(cls, config: pytest.Config) -> None:
        """Register the plugin if pytest writes such a file, after a check that it can. Make the directory.

        Raises:
            pytest.UsageError: if it cannot.
        """
        if not (text := config.getoption("xmlpath", None)):
            return
        path = config.invocation_params.dir / os.path.expanduser(os.path.expandvars(text))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writable("--junitxml", text, path)
        except OSError as error:
            raise pytest.UsageError(
                f"--junitxml {text!r}: the directory cannot be created: {error.strerror}"
            ) from error
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        config.pluginmanager.register(cls(path), "etcdtls-junit")

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Have pytest write another file, before its terminal reporter names this one."""
        place = os.path.abspath(self._path)
        plugins = session.config.pluginmanager.get_plugins()
        writer = next((one for one in plugins if getattr(one, "logfile", None) == place), None)
        if writer is None or not is_replaceable(self._path):
            return (yield)
        with TemporaryDirectory() as directory:
            written = Path(directory, "junit.xml")
            writer.logfile = str(written)
            try:
                return (yield)
            finally:
                writer.logfile = place
                if written.exists():
                    self._path.parent.mkdir(parents=True, exist_ok=True)  # as pytest does
                    text = skip_consequences(written.read_text(encoding="utf-8"))
                    write_file(self._path, [text], stat.S_IMODE(written.stat().st_mode))


def is_replaceable(path: Path) -> bool:
    """Return whether a file may be renamed to this path: not to a device or pipe, such as ``/dev/stdout``."""
    directory = os.path.realpath(path.parent)
    if directory == "/dev" or directory.startswith("/proc/"):
        return False
    return path.is_symlink() or path.is_file() or not path.exists()


def skip_consequences(text: str) -> str:
    """Return the file with test cases that follow from another one as skipped, with the cause."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - pytest has just written it
    except ElementTree.ParseError:  # it could not write all of it
        return text
    for suite in root.iter("testsuite"):
        for case in suite.iterfind("testcase"):
            properties = {one.get("name"): one.get("value") for one in case.iter("property")}
            if (failure := case.find("failure")) is None or CAUSE not in properties:
                continue
            failure.tag, failure.text = "skipped", None
            failure.attrib = {"type": "pytest.skip", "message": f"follows from {properties[CAUSE]}"}
            for name, change in (("failures", -1), ("skipped", 1)):
                suite.set(name, str(int(suite.get(name, "0")) + change))
    return f'<?xml version="1.0" encoding="utf-8"?>{ElementTree.tostring(root, "unicode")}'
