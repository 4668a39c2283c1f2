"""Every remedy on every available etcd: a run has a part, `make test TESTS=all` all."""

from __future__ import annotations

from pathlib import Path

import pytest
from remedies.test_remedies import MEMBERS, ROUNDS, cured, ids
from zoo.model import Misconfigured


@pytest.mark.parametrize("member", ids(MEMBERS))
def test_every_remedy_removes_the_finding(member: Misconfigured, etcd_binary: Path, tmp_path: Path) -> None:
    assert cured(member, etcd_binary, tmp_path) <= ROUNDS
