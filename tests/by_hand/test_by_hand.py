"""Every block of ``examples/by_hand/README.md`` does what the page says, and our checks agree with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from by_hand.document import PAGE, Block, Step, read_steps
from by_hand.once import once
from by_hand.ours import IDENTITIES
from by_hand.walk import TOOLS, Walk, require_etcdctl, walk_through
from pytest_etcdtls.etcd.sources import binary_version

RELEASES = ("3.4.23", "3.5.33", "3.6.16", "3.7.3")
"""Those that the page is about."""

STEPS = read_steps()
OPTIONAL = [block for step in STEPS for block in step.blocks if block.needs is not None]
REFUSALS = [
    (step, block, version)
    for step in STEPS
    if IDENTITIES.keys() & step.ours.keys()
    for block in step.blocks
    for version, option in (("TLSv1.2", "-tls1_2"), ("TLSv1.3", "-tls1_3"))
    if option in block.code and "alert number ..." in (block.prints or ())
]
"""Blocks in which openssl is refused as the identities of our checks are, and the TLS version of each."""

ON_EACH_RELEASE = pytest.mark.etcd_version(*RELEASES)


def _name(value: object) -> str | None:
    return value.name if isinstance(value, Step) else None


@pytest.fixture(scope="module")
def walk(
    etcd_binary: Path, tmp_path_factory: pytest.TempPathFactory, program: Callable[..., str | None]
) -> Walk:
    """The results of the page's commands on one etcd."""
    require_etcdctl(etcd_binary)
    for name in TOOLS:
        program(name)
    for block in OPTIONAL:
        program(block.needs, optional=True)
    version = binary_version(etcd_binary)
    return once(
        tmp_path_factory,
        f"by-hand-{version}",
        lambda home: walk_through(STEPS, etcd_binary, version, home),
    )


@pytest.mark.parametrize("release", RELEASES)
def test_the_release_is_available(release: str, etcd_binaries: dict[str, Path]) -> None:
    if release not in etcd_binaries:
        pytest.skip(f"needs etcd {release}: run make etcd")
    assert binary_version(etcd_binaries[release]) == release
    assert release in PAGE.read_text(encoding="utf-8")


@ON_EACH_RELEASE
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_step_does_what_the_page_says(step: Step, walk: Walk) -> None:
    ran = {
        block.line: walk.ran[block.line] for block in step.blocks if not block.needs or block.line in walk.ran
    }
    assert ran
    deviations = [
        f"line {block.line}: {deviation}\n{block.code}{ran[block.line].output}"
        for block in step.blocks
        if block.line in ran
        for deviation in block.deviations(ran[block.line].output, walk.version)
    ]
    assert not deviations, "\n\n".join(deviations)
    assert {line: result.status for line, result in ran.items() if result.status} == {}


@ON_EACH_RELEASE
@pytest.mark.parametrize("step", [step for step in STEPS if step.ours], ids=lambda step: step.name)
def test_our_checks_have_the_outcome_that_the_step_names(step: Step, walk: Walk) -> None:
    assert walk.ours is not None
    outcomes = {check: walk.ours.outcomes(check) for check in step.ours}
    assert outcomes == {check: {outcome} for check, outcome in step.ours.items()}


@ON_EACH_RELEASE
@pytest.mark.parametrize(("step", "block", "version"), REFUSALS, ids=_name)
def test_alerts_on_the_page_are_those_that_our_attempts_receive(
    step: Step, block: Block, version: str, walk: Walk
) -> None:
    """The alerts that openssl printed are those of the plugin's own connections."""
    assert walk.ours is not None
    by_hand = {int(number) for number in re.findall(r"alert number (\d+)", walk.ran[block.line].output)}
    ours = {alert for check in step.ours if check in IDENTITIES for alert in walk.ours.alerts(check, version)}
    assert ours == by_hand


@ON_EACH_RELEASE
@pytest.mark.parametrize(
    "block",
    [pytest.param(block, id=block.needs, marks=pytest.mark.program(block.needs)) for block in OPTIONAL],
)
def test_what_not_every_machine_has(block: Block, walk: Walk) -> None:
    ran = walk.ran[block.line]
    assert block.deviations(ran.output, walk.version) == []
    assert ran.status == 0


@ON_EACH_RELEASE
def test_nothing_is_left(walk: Walk) -> None:
    assert walk.left == []


def test_every_step_has_a_check() -> None:
    without = [step.title for step in STEPS if re.match(r"\d+\. ", step.title) and not step.ours]
    assert without == ["18. All of this, and the other checks, in one run"]
    assert len(REFUSALS) == 4
    assert len(OPTIONAL) == 1
