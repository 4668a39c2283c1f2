"""Where the files that a declaration names are here: as they are, or under the directory that the user names.

Finds and opens files; does not know what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_etcdtls.declared.declaration import Declaration, Mount, Setting
from pytest_etcdtls.errors import UsageError

_BESIDE = "apiserver-etcd-client."
"""kubeadm keeps these beside etcd's directory, not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where declared files are here.

    Attributes:
        pki_dir: ``--etcd-pki-dir``: nothing is looked for anywhere else; ``None`` takes paths as they are.
        root: directory that stands for ``/``.
        mounts: of the container that the declaration is about.
    """

    pki_dir: Path | None = None
    root: Path = Path("/")
    mounts: tuple[Mount, ...] = ()

    def find(self, declared: str) -> Path | None:
        """Return where a declared path is here, ``None`` if it is not.

        Under ``pki_dir`` the longest suffix of the path that exists there counts.
        """
        return next((path for path in self._candidates(declared) if exists(path)), None)

    def is_original(self, declared: str, found: Path) -> bool:
        """Return whether what was found is the very file that etcd reads, not a copy under another path."""
        return str(found) in (declared, *self._on_the_node(declared))

    def _candidates(self, declared: str) -> Iterator[Path]:
        for path in (*self._on_the_node(declared), declared):
            parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..", ".")]
            if self.pki_dir is None:
                yield self.root.joinpath(*parts) if path.startswith("/") else Path(path)
                continue
            for start in range(len(parts)):
                yield self.pki_dir.joinpath(*parts[start:])
            if parts and parts[-1].startswith(_BESIDE):
                yield self.pki_dir.parent / parts[-1]

    def _on_the_node(self, declared: str) -> Iterator[str]:
        """Yield the path on the node of a path in the container, the innermost mount first."""
        for mount in sorted(self.mounts, key=lambda mount: len(mount.inside), reverse=True):
            if declared == mount.inside or declared.startswith(f"{mount.inside}/"):
                yield mount.outside + declared[len(mount.inside) :]


def exists(path: Path) -> bool:
    """Return whether there is such a file; one in a directory that may not be entered is not."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_directory(path: Path) -> bool:
    """Return whether there is such a directory; one below a directory that may not be entered is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


def require(setting: Setting, where: Whereabouts) -> Path:
    """Return where the file of a setting is here.

    Raises:
        UsageError: if it is not; the message names the line that declares it.
    """
    found = where.find(setting.value)
    if found is not None:
        return found
    if where.pki_dir is None:
        advice = "read the declaration where etcd runs, or name the directory with copies by --etcd-pki-dir"
    else:
        advice = f"no ending of that path is a file under --etcd-pki-dir {where.pki_dir}"
    raise UsageError(f"{setting.place}: {setting.written} is not here: {advice}")


def whereabouts(declaration: Declaration, pki_dir: Path | None) -> Whereabouts:
    """Return where the files of a declaration are here."""
    return Whereabouts(pki_dir=pki_dir, mounts=declaration.mounts)
