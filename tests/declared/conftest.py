"""A PKI in files, and ports, for etcds that a test starts with its own arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_etcdtls.etcd.ports import claim_ports
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan


@dataclass(frozen=True)
class Workplace:
    """The directory, files and ports of a test's etcd; ``{pki}`` and the like in a text stand for them."""

    directory: Path
    pki: Path
    client: int
    peer: int
    other: int
    metrics: int
    http: int

    def fill_in(self, text: str) -> str:
        """Replace ``{pki}``, ``{dir}``, ``{client}``, ``{peer}`` and ``{other}``."""
        values = {
            "{pki}": str(self.pki),
            "{dir}": str(self.directory),
            "{client}": f"127.0.0.1:{self.client}",
            "{peer}": f"127.0.0.1:{self.peer}",
            "{other}": f"127.0.0.1:{self.other}",
        }
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    def member(self) -> list[str]:
        """Return the arguments that every etcd of a test needs."""
        return [
            f"--data-dir={self.directory}/data",
            self.fill_in("--listen-peer-urls=http://{peer}"),
            self.fill_in("--initial-advertise-peer-urls=http://{peer}"),
            self.fill_in("--initial-cluster=default=http://{peer}"),
            "--log-outputs=stderr",
        ]


@pytest.fixture(scope="session")
def pki_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member's PKI, ``server.crt``, ``peer.crt``, ``client-ca.crt`` and so on in one directory."""
    directory = tmp_path_factory.mktemp("pki")
    pki = ClusterPKI.generate(PKIPlan(), [MemberNames("m0", ("localhost", "127.0.0.1"))])
    pki.write(directory)
    for path in (directory / "m0").glob("*"):
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


@pytest.fixture
def workplace(tmp_path: Path, pki_files: Path) -> Iterator[Workplace]:
    """Ports and a directory for one etcd."""
    claim = claim_ports(5, "127.0.0.1")
    try:
        yield Workplace(tmp_path, pki_files, *claim.ports)
    finally:
        claim.release()
