"""Servers of our own: that answer as no etcd does, refuse every handshake or break off; proxies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from hostile.broken_servers import Served
from hostile.handshake_refusers import refusers
from hostile.judging_process import CHECKS
from hostile.test_servers import CASES
from impostors.staging import FakeCluster
from impostors.test_impostors import OVERRIDES
from impostors.test_proxies import BEHIND
from servers import Handler, Server
from zoo import members

from pytest_etcdtls import Bounds, PKIPlan, Role, start_cluster
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames
from verdicts.files import Values
from verdicts.judging import Etcd, through_api

_ALL = ("!lifecycle", "!tls.stalled-handshake")
"""One check waits for a quarter of a minute."""


@contextmanager
def _cluster(directory: Path) -> Iterator[FakeCluster]:
    """Yield a cluster of servers, which are closed at the end."""
    pki = ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])
    pki.write(directory / "pki")
    started: list[Server] = []

    def serve(handler: Handler) -> Server:
        started.append(Server(handler))
        return started[-1]

    try:
        yield FakeCluster(pki, directory / "pki", serve)
    finally:
        for server in started:
            server.close()


IMPOSTORS: Mapping[str, Callable[[FakeCluster], object]] = {
    "client": FakeCluster.put_up,
    "peer": partial(FakeCluster.put_up, role=Role.PEER),
    "an old version": partial(FakeCluster.put_up, version="3.3.10"),
    **{
        check: partial(FakeCluster.put_up, role=role, overrides=answers) for check, role, answers in OVERRIDES
    },
}
"""What puts up a server, by what it answers; the check that finds the answer."""


def judge_impostor(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge a server with the answers of an etcd, except for some."""
    with _cluster(directory) as fake:
        IMPOSTORS[name](fake)
        checks = ("listener", "api", "cert", "mtls", "advisory", "cluster")
        return {"api": through_api(fake.target(), checks, Bounds(timeout=10, concurrency=1))}


FAKES = {fake.name: fake for fake in members.FAKES}


def judge_fake(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge a server of the zoo."""
    with FAKES[name].started(directory) as (files, listener):
        return {"api": through_api(files.target(listener), _ALL, Bounds(timeout=10, concurrency=1))}


REFUSERS = refusers((b"",))


def judge_refuser(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge a server with which no handshake succeeds."""
    with _cluster(directory) as fake:
        chain = fake.pki.leaves["m0"].server.chain
        handlers = refusers(tuple(found.public_bytes(Encoding.DER) for found in chain))
        fake.listeners.append(fake.serve(handlers[name]).listener())
        return {"api": through_api(fake.target(), _ALL, Bounds(timeout=2))}


_ENDLESS = re.compile(r"without end|16 MB|2\^64|octet every|octet at a time")
"""Floods take a processor for as long as the time limit."""

BROKEN = {name: make for _, name, make in CASES if not _ENDLESS.search(name)}


def judge_broken(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge a server that breaks off, lies about lengths, or answers what is no HTTP."""
    with _cluster(directory) as fake:
        fake.listeners.append(fake.serve(BROKEN[name](Served(fake.directory))).listener())
        return {"api": through_api(fake.target(), CHECKS, Bounds(timeout=2))}


PROXIES = BEHIND


def judge_proxy(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge a proxy in front of an etcd."""
    proxy, rules, _ = PROXIES[name]
    with (
        start_cluster(binary=str(etcd.binary)) as cluster,
        proxy(cluster, directory, **rules) as target,
    ):
        return {"api": through_api(target, ["listener", "mtls", "api", "!*.plaintext-*"])}
