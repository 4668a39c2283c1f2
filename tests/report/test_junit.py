"""The file of --junitxml, when it is changed after pytest has written it."""

from __future__ import annotations

import stat
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pytest_etcdtls.suite.junit import CAUSE, skip_consequences

WRITTEN = f"""<testsuites><testsuite failures="2" skipped="0">
<testcase name="kůň"><failure message="it fails"/></testcase>
<testcase name="b">
<properties><property name="{CAUSE}" value="a on m0"/></properties><failure message="f">x</failure>
</testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_consequences_are_skipped_and_no_planted_link_is_followed(tmp_path: Path, mode: int) -> None:
    path, victim = tmp_path / "j.xml", tmp_path / "victim"
    path.write_text(WRITTEN, encoding="utf-8")
    path.chmod(mode)
    victim.write_text("of somebody else", encoding="utf-8")
    (tmp_path / "j.xml.part").symlink_to(victim)
    skip_consequences(path)
    suite = ElementTree.parse(path).getroot()[0]  # noqa: S314 - written above
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")
    assert [case[-1].tag for case in suite] == ["failure", "skipped"]
    assert suite[0].get("name") == "kůň"
    assert victim.read_text(encoding="utf-8") == "of somebody else"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert {one.name for one in tmp_path.iterdir()} == {"j.xml", "j.xml.part", "victim"}
