"""The flags of a version are those that every available etcd of that version knows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pytest_etcdtls.declared.flags import (
    EVERY_FLAG,
    IGNORED,
    KEYS_ONLY,
    MEANT,
    SECTIONS,
    flag_known,
    flag_lines,
    section_key_known,
    top_level_known,
)
from pytest_etcdtls.etcd.sources import binary_version


def _accepted(binary: Path, flag: str) -> bool:
    done = subprocess.run(
        [binary, f"--{flag}=1", "--version"], capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    return "not defined" not in done.stdout + done.stderr


def test_flags(etcd_binary: Path) -> None:
    version = binary_version(etcd_binary)
    known = {name for name in EVERY_FLAG | IGNORED if flag_known(name, version)}
    done = subprocess.run(
        [etcd_binary, "--help"], capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    documented = set(re.findall(r"^\s+--([a-z0-9-]+)", done.stdout + done.stderr, re.MULTILINE))
    assert {name for name in documented - known if _accepted(etcd_binary, name)} == set()
    assert {name for name in known - documented if not _accepted(etcd_binary, name)} == set()
    others = {name for name in EVERY_FLAG - known if name.startswith(("tls-", "listen-", "peer-", "client-"))}
    assert {name for name in others if _accepted(etcd_binary, name)} == set()


def test_etcd_knows_the_suggested_flags_and_refuses_the_misspelt_ones(etcd_binary: Path) -> None:
    version = binary_version(etcd_binary)
    flags = {flag for flags in MEANT.values() for flag in flags if flag_known(flag, version)}
    assert len(flags) >= 6
    assert {flag for flag in flags if not _accepted(etcd_binary, flag)} == set()
    assert {name for name in MEANT if _accepted(etcd_binary, name)} == set()


_PARSED_LATER = {
    *("proxy", "proxy-dial-timeout", "proxy-failure-wait", "proxy-read-timeout", "proxy-refresh-interval"),
    *("proxy-write-timeout", "discovery-fallback"),
}
"""Keys that etcdmain up to 3.5 reads (``configProxy``), after the URLs were judged."""


@pytest.mark.parametrize("section", ["", "client-transport-security", "peer-transport-security"])
def test_keys(etcd_binary: Path, tmp_path: Path, section: str) -> None:
    """A known key is not decoded from a list of mappings; with an unknown one the URL ends etcd."""
    version = binary_version(etcd_binary)
    if section:
        keys = [*SECTIONS["peer-transport-security"], "crl-file", "no-such-key"]
        known = {key for key in keys if section_key_known(key, version)}
    else:
        keys = [*EVERY_FLAG, *IGNORED, *KEYS_ONLY, "no-such-key"]
        known = {key for key in keys if top_level_known(key, version)} - _PARSED_LATER
    found = {key for key in keys if _decoded(etcd_binary, tmp_path, section, key)}
    assert (found - known, known - found) == (set(), set())


def _decoded(binary: Path, directory: Path, section: str, key: str) -> bool:
    path = directory / "etcd.yaml"
    lines = [f"{section}:", f"  {key}: [{{}}]"] if section else [f"{key}: [{{}}]"]
    if key != "listen-client-urls":
        lines.append("listen-client-urls: nonsense")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [binary, f"--config-file={path}"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
        cwd=directory,
    )
    assert done.returncode != 0
    return "cannot unmarshal" in done.stdout + done.stderr


def test_lines_in_words() -> None:
    assert flag_lines("cert-file") == "3.3 and newer"
    assert flag_lines("enable-v2") == "3.3 to 3.5"
    assert flag_lines("ca-file") == "3.3"
    assert flag_lines("nothing") == ""
