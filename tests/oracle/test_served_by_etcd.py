"""Generated chains served by a real etcd have the same verdicts as without etcd, and as Go.

etcd reads its pair at every handshake, so one process serves them all.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from oracle.chains import Case, cases
from oracle.clients import GoClient, key_pem, why_no_go
from oracle.exceptions import agrees, exemption
from oracle.judging import Verdicts, judge, verdicts
from shares import ALL
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.pki.certificate import load
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import PortCredentials, TrustBundle

COUNT = 2000 if ALL else 100
LEAST_SERVED = COUNT // 4


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def _serve(cluster: Cluster, case: Case) -> None:
    (member,) = cluster.members
    chain = b"".join(map(_pem, case.chain))
    member.replace_files({"server.key": key_pem(case), "server.crt": chain})


def _judged_on(cluster: Cluster, case: Case) -> tuple[Verdicts, tuple[bytes, ...]]:
    """Return the verdicts and the served chain; nothing if etcd cannot serve the case."""
    target = cluster.target()
    bundle = TrustBundle(tuple(load(der) for der in case.roots), "ca.crt")
    target = replace(target, client=PortCredentials(server_ca=bundle), declared={}, expected=())
    listener = next(found for found in target.listeners if found.role is Role.CLIENT)
    listener = replace(listener, host=case.host, connect_to=listener.address)
    observer = Observer(replace(target, listeners=(listener,)))
    answer = observer.get(FirstContact, None, listener)
    served = next((attempt.chain for attempt in answer.tls if attempt.chain), ())
    if not served:
        return Verdicts({}, frozenset(), {}), ()
    return verdicts(observer, listener), served


def _can_be_served(case: Case) -> bool:
    if case.key.private is None:
        return False
    try:
        for der in case.roots:
            load(der)
        key_pem(case)
    except ValueError:
        return False
    return True


@pytest.mark.program("go")
def test_what_an_etcd_serves_is_judged_as_go_judges_it(newest_etcd: Path, tmp_path: Path) -> None:
    if missing := why_no_go():
        pytest.skip(f"needs {missing}")
    # The machine's clock is the client's clock: etcd cannot be told another one.
    candidates = [case for case in cases(COUNT, 77, datetime.now(UTC)) if _can_be_served(case)]
    served, different, broken = 0, [], []
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        for case, answer in zip(candidates, GoClient(tmp_path).ask(candidates), strict=True):
            _serve(cluster, case)
            found, chain = _judged_on(cluster, case)
            if not chain:
                continue
            served += 1
            where = f"case {case.number}: {', '.join(case.mutations)}"
            broken += [f"{where}: {check}: {reason}" for check, reason in found.broken.items()]
            if chain != case.chain:
                different.append(f"{where}: another chain is served")
            elif not agrees(answer, found) and exemption(case, answer, found) is None:
                different.append(f"{where}: Go says {answer}, violated are {sorted(found.violated)}")
            elif found.violated.keys() != judge(case).violated.keys():
                different.append(f"{where}: without an etcd {sorted(judge(case).violated)} violate")
    assert broken == []
    assert different == []
    assert served >= LEAST_SERVED
    print(f"{served} of {COUNT} cases were served by {newest_etcd}")  # noqa: T201 - shown by -rP
