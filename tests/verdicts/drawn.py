"""Drawn configurations, and certificate chains that are drawn and served by an etcd; always the same ones."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from oracle.chains import Case, cases
from oracle.clients import key_pem
from truth.comparing import Etcds
from truth.drawing import draw
from truth.setting_up import Place, arrange, possible

from pytest_etcdtls import Cluster, Role, start_cluster
from pytest_etcdtls.etcd.etcd_flags import FlagSet
from pytest_etcdtls.pki.certificate import load
from pytest_etcdtls.target import PortCredentials, TrustBundle
from verdicts.clusters import words_of
from verdicts.files import Values
from verdicts.judging import Etcd, through_api, through_pytest
from verdicts.volatile import Volatile

_SEED = 7
_DRAWS = 20
_CHAINS = 40
"""Chains that one etcd serves, one after the other."""


def draws(version: str) -> Sequence[str]:
    """Return the numbers of the draws, the same ones on each etcd."""
    return [str(number) for number in range(_DRAWS)]


def judge_draw(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge a drawn cluster by a run of pytest with the drawn options."""
    with Place.within(directory) as place:
        printed = subprocess.run([etcd.binary, "--help"], capture_output=True, encoding="utf-8", check=False)
        flags = FlagSet.from_help(etcd.version, printed.stdout + printed.stderr)
        scenario = possible(draw(_SEED, int(name)), flags)
        arrangement = arrange(scenario, flags, place)
        with Etcds.started(etcd.binary, arrangement.arguments, directory) as started:
            if not started.serve:
                return {"drawn": str(scenario), "not started": "etcd ends, or serves no client"}
            arrangement.replace()
            (directory / "run").mkdir()
            volatile = Volatile({port: role for role, port in place.ports.items()})
            found = through_pytest(words_of(arrangement.options), volatile, directory / "run")
    return {"drawn": str(scenario), "live": found}


def chains(version: str) -> Sequence[str]:
    """Return the numbers of the first chains, a subject each."""
    return [str(_CHAINS * number) for number in range(3)]


def judge_chains(name: str, etcd: Etcd, directory: Path) -> dict[str, Values]:
    """Judge chains that an etcd serves by the checks of certificates."""
    first = int(name)
    found: dict[str, Values] = {}
    with start_cluster(binary=str(etcd.binary)) as cluster:
        for case in list(cases(first + _CHAINS, _SEED, datetime.now(UTC)))[first:]:
            if case.key.private is not None and _serve(cluster, case):
                found[f"{case.number} {', '.join(case.mutations)}"] = _judge_chain(cluster, case)
    return found


def _serve(cluster: Cluster, case: Case) -> bool:
    """Let etcd serve a chain, which it reads at every handshake; false if it cannot be written."""
    try:
        for der in case.roots:
            load(der)
        key = key_pem(case)
    except ValueError:
        return False
    served = "".join(map(ssl.DER_cert_to_PEM_cert, case.chain)).encode()
    cluster.members[0].replace_files({"server.key": key, "server.crt": served})
    return True


def _judge_chain(cluster: Cluster, case: Case) -> Values:
    target = cluster.target()
    bundle = TrustBundle(tuple(load(der) for der in case.roots), "ca.crt")
    (listener,) = (one for one in target.listeners if one.role is Role.CLIENT)
    listener = replace(listener, host=case.host, connect_to=listener.address)
    client = PortCredentials(server_ca=bundle)
    target = replace(target, client=client, listeners=(listener,), declared={}, expected=())
    return {"api": through_api(target, ["listener", "cert"])}
