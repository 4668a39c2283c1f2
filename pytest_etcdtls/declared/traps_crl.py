"""Traps about certificate revocation lists: read by nobody, or by etcd in a way that locks everybody out."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_etcdtls.declared.crl_file import Encoding
from pytest_etcdtls.declared.sides import Admission, CRLEffect, TLSSide, prefix
from pytest_etcdtls.declared.trap import Situation, Trap, urls
from pytest_etcdtls.declared.version import version_key

_LOCKS_OUT = (
    "etcd reads the file at every connection, after the handshake, and takes any error for a refusal: it "
    "closes the connection without an alert, or on a gRPC port of its own with bad_certificate; who shows no "
    "certificate is refused by TLS as ever."
)


def crl_traps(situation: Situation) -> Iterator[Trap]:
    """Yield what is wrong with the CRL of each side."""
    for side in situation.sides():
        if side.crl_file is not None and situation.secure(side.side):
            yield from _without_effect(situation, side)
            yield from _unreadable(situation, side)
            yield from _not_on_grpc(situation, side)


def _without_effect(situation: Situation, side: TLSSide) -> Iterator[Trap]:
    if side.admission is Admission.ANYBODY:
        p = prefix(side.side)
        yield Trap(
            id="crl-without-client-auth",
            summary=f"--{side.side}-crl-file keeps nobody out: no certificate is asked for",
            why="revoked certificates can only be recognised where clients send one.",
            remedy=f"give --{p}client-cert-auth=true and --{p}trusted-ca-file",
            settings=situation.settings(f"{side.side}-crl-file"),
            listeners=urls(situation.secure(side.side)),
        )


def _unreadable(situation: Situation, side: TLSSide) -> Iterator[Trap]:
    if side.admission is Admission.ANYBODY or side.crl_file is None:
        return
    crl = situation.crls.get(side.crl_file)
    settings, listeners = situation.settings(f"{side.side}-crl-file"), urls(situation.secure(side.side))
    if crl is None or crl.found is None:
        yield Trap(
            id="crl-missing",
            summary=f"{side.crl_file} is not here; where etcd does not find it, everybody who shows a "
            "certificate is refused",
            why=_LOCKS_OUT,
            remedy="put the CRL there, in DER",
            settings=settings,
            listeners=listeners,
            certain=False,
        )
    elif crl.encoding is Encoding.PEM and version_key(situation.version) >= (3, 6):
        yield Trap(
            id="crl-encoding",
            summary=f"{side.crl_file} is PEM, which etcd reads up to 3.5 only: from 3.6 on everybody who "
            "shows a certificate is refused",
            why=f"{_LOCKS_OUT} The log says x509: malformed crl.",
            remedy=f"convert it: openssl crl -in {crl.found} -outform DER -out crl.der",
            settings=settings,
            listeners=listeners,
            certain=situation.version is not None,
        )
    elif crl.encoding is None or crl.encoding is Encoding.NEITHER:
        yield Trap(
            id="crl-encoding",
            summary=f"{side.crl_file} is no CRL that etcd can read: everybody who shows a certificate is "
            "refused",
            why=_LOCKS_OUT,
            remedy="replace it by a CRL in DER",
            settings=settings,
            listeners=listeners,
        )


def _not_on_grpc(situation: Situation, side: TLSSide) -> Iterator[Trap]:
    ignoring = tuple(
        listener
        for listener in situation.secure(side.side)
        if listener.crl is CRLEffect.IGNORED and side.crl is not CRLEffect.IGNORED
    )
    if ignoring:
        yield Trap(
            id="crl-ignored-on-grpc",
            summary=f"revoked clients are served by gRPC on {', '.join(urls(ignoring))}: etcd "
            f"{situation.version} does not look at the CRL there",
            why="with --listen-client-http-urls the client port is gRPC's own, and its TLS never saw the CRL "
            "before 3.5.32, 3.6.13 and 3.7.0 (GHSA-3wh4-j44w-pg92; never fixed in 3.4). HTTP refuses them.",
            remedy="upgrade etcd, or remove --listen-client-http-urls",
            settings=situation.settings("client-crl-file", "listen-client-http-urls"),
            listeners=urls(ignoring),
        )


CRL_TRAPS = (crl_traps,)
