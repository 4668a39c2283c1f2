"""A member comes back with a peer certificate of another CA, everything else being right.

Same subject, same names, its own data: only the signature is another. Waits for what the logs say.
"""

from __future__ import annotations

import re
import threading
import time

from pytest_etcdtls.cluster.interface import Cluster
from pytest_etcdtls.errors import ClusterStartError
from pytest_etcdtls.experiments.bench import Bench, as_files
from pytest_etcdtls.observations.experiment import ForeignMember
from pytest_etcdtls.pki.authority import CertificateAuthority

_SECONDS = 15.0
_GLANCE_SECONDS = 0.01
_REJECTED = re.compile(r"^.*rejected connection.*unknown authority.*$", re.MULTILINE)
_TIMES = 2
"""How often each of the others must have refused it: it has tried again in vain."""

_LAST = 2
"""Index of the member that comes back; the other two are a quorum."""


def comes_back(bench: Bench) -> ForeignMember:
    """Restart a member with a foreign peer certificate, then with its own."""
    cluster, pki = bench.cluster, bench.cluster.pki
    names = pki.members[_LAST]
    own = pki.peers[names.name]
    foreign = CertificateAuthority.create("another CA").issue(pki.plan.peer, name="peer", hosts=names.hosts)
    before = [len(member.log()) for member in cluster.members[:_LAST]]
    cluster.stop_member(_LAST)
    cluster.members[_LAST].replace_files(as_files(foreign, "peer"))
    cluster.start_member(_LAST, wait=False)
    rejected, joined = _await_word(cluster, before)
    cluster.stop_member(_LAST)
    cluster.members[_LAST].replace_files(as_files(own, "peer"))
    try:
        cluster.start_member(_LAST)
        joined_again = True
    except ClusterStartError:
        joined_again = False
    return ForeignMember(
        etcd_version=cluster.version, rejected=rejected, joined=joined, joined_again=joined_again
    )


def _await_word(cluster: Cluster, before: list[int]) -> tuple[str, bool]:
    """Wait until the others say that they refused it, or it says that it serves clients."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        refused = [
            _REJECTED.findall(member.log()[length:])
            for member, length in zip(cluster.members, before, strict=False)
        ]
        if cluster.members[_LAST].ready:
            return "", True
        if all(len(lines) >= _TIMES for lines in refused):
            return str(refused[0][0]).strip(), False
        threading.Event().wait(_GLANCE_SECONDS)
    return "", False
