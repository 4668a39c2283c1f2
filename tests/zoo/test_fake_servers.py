"""Every faulty answer of a server of ours is found, by exactly the checks that should find it."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo.fake_server import FakeEtcd
from zoo.members import FAKES


@pytest.mark.parametrize("fake", [pytest.param(fake, id=fake.name) for fake in FAKES])
def test_exactly_the_right_checks_find_it(fake: FakeEtcd, tmp_path: Path) -> None:
    good = fake.findings(tmp_path / "good", good=True)
    found = {check: result for check, result in fake.findings(tmp_path / "bad").items() if check not in good}
    assert set(found) == fake.proves(), [
        finding.message for result in found.values() for finding in result.findings
    ]
