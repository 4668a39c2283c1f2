"""What the project's own tests need: the available etcds and container engine, and loud skips without them.

On PATH a test has Python, a shell, coreutils and the programs that it declares, no others (``programs.py``):
``@pytest.mark.program("curl", "openssl")``. If one is missing, the test is skipped, and the end of the run
says so. A fixture of a module or of the session calls the fixture ``program`` instead, which
returns the path: ``program("openssl")``.

Nothing of the plugin is imported at start-up: its entry point loads it, and coverage measures that.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from programs import Programs
from shares import TESTS, TURN, OnEtcd, left_out

from pytest_etcdtls.versions import version_key

IMAGE_REPOSITORY = "pytest-etcdtls/etcd"
_FOREIGN = ("ETCD_", "ETCDCTL_", "PYTEST_ADDOPTS", "PYTEST_PLUGINS")
"""How the names of variables begin that etcd, etcdctl and pytest read."""

_OF_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
"""Variables, in either case, by which clients choose a proxy."""

_OF_A_TERMINAL = ("CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "PY_COLORS")
"""Variables by which pytest and the summary choose what a line looks like."""

_NEEDS = "needs "
"""Every skip for want of something begins with this word, so that the summary can count them."""


_PROGRAMS: list[Programs] = []
"""Those of this machine, once the run is configured."""

_GIVEN: list[Path] = []
"""The etcds of ``--etcd-binary``; no other is used where there is one."""


@functools.cache
def find_binaries() -> dict[str, Path]:
    """Return every available etcd by version, oldest first: from the cache, ``PATH``, the embedded extra.

    With ``--etcd-binary`` these are the given ones and no other.
    """
    from pytest_etcdtls.errors import UsageError
    from pytest_etcdtls.etcd.sources import binary_version, embedded_binary

    etcds = {binary_version(binary): binary for binary in _GIVEN}
    if not _GIVEN:
        on_path = _PROGRAMS[0].find("etcd") if _PROGRAMS else shutil.which("etcd")
        for binary in (embedded_binary(), Path(on_path) if on_path else None):
            with suppress(UsageError):
                etcds |= {binary_version(binary): binary} if binary else {}
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-etcdtls" / "etcd"
        etcds |= {binary.parent.name: binary for binary in cache.glob("*/etcd")}
    return {version: etcds[version] for version in sorted(etcds, key=version_key)}


@functools.cache
def find_images() -> tuple[dict[str, str], str | None]:
    """Return the local images by version, oldest first, and why there are none: no engine, none built."""
    from pytest_etcdtls.errors import UsageError
    from pytest_etcdtls.etcd.engine import engine

    try:
        with engine() as client:
            tags = [tag for image in client.images.list(name=IMAGE_REPOSITORY) for tag in image.tags]
    except UsageError as error:
        return {}, str(error)
    # podman prefixes locally built images with "localhost/"; the short name works there too.
    # The engine returns every tag of an image, those of other repositories too.
    short = {tag.removeprefix("localhost/") for tag in tags}
    images = sorted(tag for tag in short if tag.startswith(f"{IMAGE_REPOSITORY}:"))
    by_version = {image.rpartition(":")[2]: image for image in images}
    missing = None if images else f"no image {IMAGE_REPOSITORY} is built; run make images"
    return {version: by_version[version] for version in sorted(by_version, key=version_key)}, missing


def pytest_configure(config: pytest.Config) -> None:
    """Take the etcds of ``--etcd-binary``, and keep what is set here away from what the tests start.

    A test that is about such a variable sets it itself.
    """
    # A worker of pytest-xdist inherits the PATH of the tests, and is told the machine's.
    of_machine = getattr(config, "workerinput", {}).get("path", os.environ.get("PATH", os.defpath))
    # The nodes of a kubeadm cluster have the programs of this machine; no other tests run with these.
    _PROGRAMS[:] = [Programs(of_machine, whole=bool(os.environ.get("KUBERNETES_VERSION")))]
    os.environ["PATH"] = _PROGRAMS[0].path_of()
    _GIVEN[:] = [Path(binary).absolute() for binary in config.getoption("etcd_binary") or ()]
    find_binaries.cache_clear()
    for name in [*os.environ]:
        foreign = name.startswith(_FOREIGN)
        if foreign or name in _OF_A_TERMINAL or name.lower() in _OF_PROXIES:
            del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist the machine's PATH."""
    node.workerinput["path"] = _PROGRAMS[0].path


def pytest_unconfigure() -> None:
    """Remove the links to programs."""
    while _PROGRAMS:
        _PROGRAMS.pop().close()


def _declared(node: Any) -> set[str]:
    return {name for marker in node.iter_markers("program") for name in marker.args}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have the programs on PATH that the test declares."""
    with _PROGRAMS[0].on_path(_declared(item)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, object, object]:
    """Have the same programs on PATH for a fixture whichever test asks for it first."""
    if request.scope == "function":
        return (yield)
    with _PROGRAMS[0].on_path(_declared(request.node)):
        return (yield)


def pytest_collection_finish() -> None:
    """Take the thousands of items out of what the garbage collector looks through, again and again."""
    gc.collect()
    gc.freeze()


def pytest_report_header() -> list[str]:
    binaries = ", ".join(f"{version} ({path})" for version, path in find_binaries().items())
    images, missing = find_images()
    return [
        f"tests: TESTS={TESTS} TURN={TURN}; make test TESTS=all runs all",
        f"etcd binaries: {binaries or 'none; run make etcd'}",
        f"etcd images: {', '.join(images.values()) or missing}",
    ]


def _wanted(item: pytest.Item, at_hand: list[str]) -> list[str]:
    """Return the versions that the markers let through; ``3.6`` stands for its line."""
    if item.get_closest_marker("oldest_and_newest") is not None:
        return [*dict.fromkeys([*at_hand[:1], *at_hand[-1:]])]
    marker = item.get_closest_marker("etcd_version")
    if marker is None:
        return at_hand
    return [v for v in at_hand if any(v == line or v.startswith(f"{line}.") for line in marker.args)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``etcd_binary`` or ``etcd_image`` once for every version available."""
    if "etcd_binary" in metafunc.fixturenames:
        binaries = find_binaries()
        _parametrize(
            metafunc, "etcd_binary", {v: binaries[v] for v in _wanted(metafunc.definition, list(binaries))}
        )
    if "etcd_image" in metafunc.fixturenames:
        images, _ = find_images()
        _parametrize(
            metafunc, "etcd_image", {v: images[v] for v in _wanted(metafunc.definition, list(images))}
        )


def _parametrize(metafunc: pytest.Metafunc, argument: str, values: dict[str, Path] | dict[str, str]) -> None:
    # With nothing available one item remains, for the skip of pytest_collection_modifyitems to be seen on.
    values = values or {"none": ""}
    metafunc.parametrize(argument, list(values.values()), ids=list(values), scope="session")


def _uses_etcd(item: pytest.Item) -> bool:
    named = {"etcd_binary", "etcd_binaries"} & {*getattr(item, "fixturenames", ())}
    return bool(named) or item.get_closest_marker("container") is not None


def _on_etcd(item: pytest.Item) -> OnEtcd | None:
    """Return it for an item that is for every etcd; not for one that says which versions it needs."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    if item.get_closest_marker("etcd_version") is not None:
        return None
    for argument in ("etcd_binary", "etcd_image"):
        if value := item.callspec.params.get(argument):
            at_hand: Mapping[str, object] = find_binaries() if argument == "etcd_binary" else find_images()[0]
            version = next(version for version, found in at_hand.items() if found == value)
            return OnEtcd(item.nodeid.replace(version, "", 1), version)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if left := left_out(items, _on_etcd, _uses_etcd):
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        items[:] = [item for item in items if item not in left]
    for item in items:
        missing = _missing(item)
        if missing is not None:
            item.add_marker(pytest.mark.skip(reason=_NEEDS + missing))


@functools.cache
def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _missing(item: pytest.Item) -> str | None:
    """Return what this machine lacks for the test."""
    if lacking := _PROGRAMS[0].lacking(_declared(item)):
        return lacking
    if item.get_closest_marker("ipv6") is not None and not _has_ipv6():
        return "IPv6: no port can be bound on ::1"
    if item.get_closest_marker("two_etcds") is not None and len(find_binaries()) < 2:
        return "two versions of etcd: run make etcd"
    container = item.get_closest_marker("container") is not None
    images, problem = find_images() if container else ({}, None)
    if problem is not None:
        return f"a container engine and images: {problem}"
    at_hand = list(images if container else find_binaries())
    if item.get_closest_marker("etcd_version") is not None and not _wanted(item, at_hand):
        lines = " or ".join(item.get_closest_marker("etcd_version").args)  # type: ignore[union-attr]
        return f"etcd {lines}: only {', '.join(at_hand) or 'none'} available; run make etcd images"
    if _uses_etcd(item) and not at_hand:
        return "an etcd: run make etcd"
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once more, and counted, what did not run for want of something."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    lacking = {reason: count for reason, count in reasons.items() if reason.startswith(_NEEDS)}
    if not lacking:
        return
    terminalreporter.section("not run on this machine", sep="=", yellow=True, bold=True)
    for reason, count in lacking.items():
        terminalreporter.write_line(f"{count} test{'s' if count > 1 else ''}: {reason}")


@pytest.fixture(scope="session")
def program() -> Callable[..., str | None]:
    """Put a program on PATH and return its path: for a fixture, whose tests are skipped without it.

    An ``optional`` one that is missing is ``None``.
    """

    def find(name: str, *, optional: bool = False) -> str | None:
        if lacking := _PROGRAMS[0].lacking([name]):
            if optional:
                return None
            pytest.skip(_NEEDS + lacking)
        os.environ["PATH"] = os.pathsep.join([_PROGRAMS[0].path_of([name]), os.environ["PATH"]])
        return _PROGRAMS[0].find(name)

    return find


@pytest.fixture(scope="session")
def etcd_binaries() -> dict[str, Path]:
    """Every etcd available by its version, oldest first. A test that needs one runs or is skipped loudly."""
    if not find_binaries():
        pytest.skip(_NEEDS + "an etcd: run make etcd")
    return dict(find_binaries())


@pytest.fixture(scope="session")
def etcd_images() -> dict[str, str]:
    """Every local image by its etcd's version, oldest first."""
    images, problem = find_images()
    if problem is not None:
        pytest.skip(f"{_NEEDS}a container engine and images: {problem}")
    return dict(images)


@pytest.fixture(scope="session")
def newest_etcd(etcd_binaries: dict[str, Path]) -> Path:
    """The newest available etcd, where the version does not matter."""
    return list(etcd_binaries.values())[-1]
