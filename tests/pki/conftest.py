"""OpenSSL's own binary, and one CA of every key type."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import KeyType

OpenSSL = Callable[..., "subprocess.CompletedProcess[str]"]
DEADLINE = 60.0
"""Seconds after which something counts as hanging; it is not an expected duration."""


@pytest.fixture(scope="session")
def openssl(program: Callable[[str], str]) -> OpenSSL:
    """Run ``openssl`` with the arguments and return the result."""
    binary = program("openssl")

    def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        # In an ASCII locale, Python cannot pass other letters as text.
        command: list[str | bytes] = [binary]
        command += [str(argument).encode("utf-8", "surrogateescape") for argument in arguments]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=DEADLINE)
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result

    return run


@functools.cache
def _authority(key_type: KeyType) -> CertificateAuthority:
    return CertificateAuthority.create(f"{key_type} CA", key_type)


@pytest.fixture(params=[key_type for key_type in KeyType if key_type is not KeyType.RSA_4096])
def authority(request: pytest.FixtureRequest) -> CertificateAuthority:
    """A root CA, once of every key type; RSA 4096 takes half a second a key and shows no more than 2048."""
    return _authority(request.param)
