"""Names of flags, compared with those that each binary accepts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.config import SECURITY_FIELDS, ClusterConfig
from pytest_etcdtls.etcd.etcd_flags import FlagSet
from pytest_etcdtls.etcd.sources import binary_flags, binary_version
from pytest_etcdtls.versions import version_key

VALUES = {"self-signed-cert-validity": "1", "log-level": "info", "tls-max-version": "TLS1.3"}
VALUES |= {"tls-min-version": "TLS1.2", "listen-client-http-urls": "https://127.0.0.1:1"}


def _accepts(binary: Path, *arguments: str) -> str:
    """Return etcd's error about its flags; with ``--version`` it parses all of them and ends."""
    run = subprocess.run(
        [binary, *arguments, "--version"], capture_output=True, encoding="utf-8", check=False
    )
    return "" if run.returncode == 0 else run.stderr


def _spelled(flags: FlagSet) -> dict[str, str]:
    found = {}
    for field in (*SECURITY_FIELDS, "listen-client-http-urls", "unsafe-no-fsync"):
        name = field.replace("_", "-")
        try:
            found[name] = flags.spell(name)
        except UsageError:
            continue
    return found


def test_every_name_that_spell_returns_is_a_flag_of_the_binary(etcd_binary: Path) -> None:
    spelled = _spelled(binary_flags(etcd_binary))
    assert len(spelled) > 15
    assert _accepts(etcd_binary, *(f"--{flag}={VALUES.get(n, 'true')}" for n, flag in spelled.items())) == ""


def test_every_name_that_spell_refuses_is_unknown_to_the_binary(etcd_binary: Path) -> None:
    spelled = _spelled(binary_flags(etcd_binary))
    missing = {field.replace("_", "-") for field in SECURITY_FIELDS} - spelled.keys()
    for name in missing:
        assert f"flag provided but not defined: -{name}" in _accepts(etcd_binary, f"--{name}=x")


def test_every_security_field_is_a_field_of_the_configuration() -> None:
    assert set(SECURITY_FIELDS) <= set(ClusterConfig.__dataclass_fields__)


@pytest.mark.etcd_version("3.4.23", "3.5.1")
@pytest.mark.parametrize("name", ["tls-min-version", "listen-client-http-urls"])
def test_a_missing_flag_of_a_version_is_a_usage_error(etcd_binary: Path, name: str) -> None:
    version = binary_version(etcd_binary)
    with pytest.raises(UsageError, match=f"etcd {version} has no --{name}"):
        binary_flags(etcd_binary).spell(name)


def test_experimental_names_are_used_if_there_is_no_other() -> None:
    name = "peer-skip-client-san-verification"
    assert (
        FlagSet.from_help("3.5.33", f"  --experimental-{name} 'false'").spell(name) == f"experimental-{name}"
    )
    both = FlagSet.from_help("3.6.16", f"  --experimental-{name} 'false'\n  --{name} 'false'")
    assert both.spell(name) == name


def test_the_flags_of_a_binary_are_read_once(newest_etcd: Path) -> None:
    assert binary_flags(newest_etcd).names == binary_flags(newest_etcd).names
    assert "cert-file" in binary_flags(newest_etcd)


@pytest.mark.parametrize(
    ("version", "key"), [("3.6.16", (3, 6, 16)), ("3.7.0-rc.1", (3, 7, 0)), ("v3.5.1", (3, 5, 1))]
)
def test_versions_compare_as_numbers(version: str, key: tuple[int, ...]) -> None:
    assert version_key(version) == key
