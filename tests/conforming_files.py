"""Conforming samples of the files that members were told to use; part of ``conforming``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pytest_etcdtls.declared.declaration import CRLFile, Encoding, Setting, SourceLine, Via
from pytest_etcdtls.declared.files import (
    BundleFact,
    DeclaredFiles,
    DeclaredLeaf,
    FileFact,
    HeldCertificate,
    HeldCertificates,
    MemberFiles,
    PairFact,
)
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.pki_plan import MemberNames, PKIPlan

NOW: Final = datetime.now(UTC)


@functools.cache
def _pki() -> ClusterPKI:
    return ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])


def _file(name: str, mode: int) -> FileFact:
    return FileFact(said=f"--{name} (etcd.yaml)", path=f"/pki/{name}", mode=mode, owner=0, original=True)


@functools.cache
def _files() -> DeclaredFiles:
    pki = _pki()
    server = PairFact(
        side="client",
        dials=False,
        certificate=_file("server.crt", 0o644),
        key=_file("server.key", 0o600),
        chain=pki.servers["m0"].chain,
        matches=True,
    )
    peer = PairFact(
        side="peer",
        dials=False,
        certificate=_file("peer.crt", 0o644),
        key=_file("peer.key", 0o600),
        chain=pki.peers["m0"].chain,
        matches=True,
    )
    ca, peer_ca = pki.client_ca.certificate, pki.peer_ca.certificate
    setting = Setting(
        name="client-crl-file",
        value="/pki/crl.der",
        spelled="--client-crl-file",
        via=Via.FLAG,
        place=SourceLine("etcd.yaml", 9),
    )
    crl = CRLFile(
        declared="/pki/crl.der",
        found="/pki/crl.der",
        encoding=Encoding.DER,
        next_update=NOW + timedelta(days=7),
    )
    member = MemberFiles(
        label="m0",
        pairs=(server, peer),
        bundles={
            "client": BundleFact(side="client", file=_file("ca.crt", 0o644), certificates=(ca,)),
            "peer": BundleFact(side="peer", file=_file("peer-ca.crt", 0o644), certificates=(peer_ca,)),
        },
        crls=((setting, crl),),
        data_owner=0,
    )
    return DeclaredFiles(members=(member,), reader=0, observed_at=NOW)


def _held(key: str | None) -> HeldCertificates:
    certificate = _pki().client_ca.certificate if key == "client-cas" else _pki().client.chain[0]
    one = HeldCertificate(what="the certificate of client", source="/pki/client.crt", certificate=certificate)
    return HeldCertificates(certificates=(one,), observed_at=NOW)


def _leaf(place: Any, key: str | None) -> DeclaredLeaf:
    return DeclaredLeaf(
        certificate=place.chain[0], said="--cert-file=/pki/server.crt (etcd.yaml:7)", source="server.crt"
    )


SAMPLES: Final[dict[type[Any], Callable[..., Any]]] = {
    DeclaredFiles: lambda place, key: _files(),
    DeclaredLeaf: _leaf,
    HeldCertificates: lambda place, key: _held(key),
}
