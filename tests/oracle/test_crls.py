"""Revocation lists are read as Go reads them for etcd, on named files and on mutated ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from oracle.clients import GoClient, GoList, GoLists
from oracle.crls import files, mutated

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.go_crl import RevocationList, parse_crl, parse_revocation_list
from pytest_etcdtls.pki.go_parser import MalformedError
from pytest_etcdtls.pki.go_pem import decode

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def named() -> dict[str, bytes]:
    """Files by name."""
    return files(CertificateAuthority.create("lists"), 4711, 815)


def test_named_files(go: GoClient, named: dict[str, bytes]) -> None:
    different = [
        f"{name}: {problem}"
        for (name, data), answer in zip(named.items(), go.read_lists(list(named.values())), strict=True)
        for problem in _differences(data, answer)
    ]
    assert different == []


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files(go: GoClient, named: dict[str, bytes], seed: int) -> None:
    data = list(mutated(named, 2000, seed))
    answers = go.read_lists(data)
    assert len({bool(answer.parse_crl.error) for answer in answers}) == 2
    assert len({bool(answer.parse_revocation_list.error) for answer in answers}) == 2
    different = [
        f"seed {seed}, number {number}: {problem}"
        for number, (one, answer) in enumerate(zip(data, answers, strict=True))
        for problem in _differences(one, answer, lenient=True)
    ]
    assert different == []


def _differences(data: bytes, answer: GoLists, *, lenient: bool = False) -> list[str]:
    found = []
    for name, parse in (("parse_crl", parse_crl), ("parse_revocation_list", parse_revocation_list)):
        expected, seen = getattr(answer, name), _read(parse, data)
        if parse is parse_crl and seen.error and lenient:
            continue  # encoding/asn1 is more lenient with malformed data
        if (bool(expected.error), sorted(expected.serials)) != (bool(seen.error), sorted(seen.serials)):
            found.append(f"{name}: Go {expected}, here {seen}")
        elif seen.next_update and seen.next_update != expected.next_update:
            found.append(f"{name}: nextUpdate, Go {expected.next_update}, here {seen.next_update}")
    block = next(decode(data), None)
    ours = None if block is None else (block.label.encode(), block.content)
    if ours != answer.block:
        found.append(f"PEM: Go {answer.block}, here {ours}")
    return found


def _read(parse: Callable[[bytes], RevocationList], data: bytes) -> GoList:
    try:
        found = parse(data)
    except MalformedError as error:
        return GoList(str(error), (), 0)
    end = found.next_update
    return GoList("", tuple(found.serial_numbers), int((end - EPOCH).total_seconds()) if end else 0)
