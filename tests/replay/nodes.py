"""Files of one member as on a node, and replays of its declaration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from given import Given
from kubeadm.nodes import changed
from starting import source_of

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.replay import ReplayedEtcd, ReplayPlan
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates
from pytest_etcdtls.pki.profile import CLIENT, CALayout, KeyType, MemberNames, PKIPlan
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.settings.etcd_pid import read_declared
from pytest_etcdtls.settings.read import read_replay
from pytest_etcdtls.target import Target

SHAPES = Path(__file__).parents[1] / "declared" / "shapes"
BAD = (Outcome.VIOLATES, Outcome.INCONCLUSIVE, Outcome.BROKEN)


def node(directory: Path, changes: Mapping[str, str | None] | None = None, shape: str = "v1.34") -> Path:
    """Write what a control plane node has below ``/etc/kubernetes``, and return that directory.

    Args:
        directory: it is made there.
        changes: flags that the manifest has otherwise; ``None`` leaves one out.
        shape: the version of kubeadm.
    """
    root = directory / "node"
    plan = PKIPlan(layout=CALayout.KUBEADM, key_type=KeyType.ECDSA_P256)
    names = MemberNames("cp1", ("cp1", "localhost", "10.0.0.11", "127.0.0.1", "::1"))
    pki = root / "etc" / "kubernetes" / "pki"
    made = ClusterPKI.generate(plan, [names])
    made.write(pki.parent / "made", with_ca_keys=True)
    (pki.parent / "made" / "cp1").rename(pki)
    made.client_ca.revoke(made.client_ca.issue(CLIENT, name="revoked").chain[0])
    encodings: tuple[Literal["pem", "der"], ...] = ("pem", "der")
    for encoding in encodings:
        (pki / "etcd" / f"crl.{encoding}").write_bytes(made.client_ca.crl(encoding))
    (pki / "ca.crt").write_bytes(encode_certificates([CertificateAuthority.create("kubernetes").certificate]))
    (root / "etc" / "kubernetes" / "etcd.yaml").write_text(
        changed((SHAPES / "kubeadm" / f"{shape}.yaml").read_text(encoding="utf-8"), changes or {}),
        encoding="utf-8",
    )
    return root / "etc" / "kubernetes"


def plan_of(kubernetes: Path, *, files: bool = True) -> ReplayPlan:
    """Return the plan of a node, from ``--etcd-config`` and, with ``files``, ``--etcd-pki-dir``."""
    directory = {"etcd_pki_dir": kubernetes / "pki"} if files else {}
    source = Given(etcd_config=kubernetes / "etcd.yaml", **directory)
    return read_replay(source, read_declared(source))


def plan_of_file(path: Path, **options: str | Path) -> ReplayPlan:
    """Return the plan from ``--etcd-config`` without any other file."""
    source = Given(etcd_config=path, **options)
    return read_replay(source, read_declared(source))


@dataclass
class Replayed:
    """A judged replay."""

    etcd: ReplayedEtcd
    target: Target
    observer: Observer
    results: list[CheckResult]

    def of(self, check: str) -> list[CheckResult]:
        """Return the results of a check."""
        return [result for result in self.results if result.check == check]

    def outcomes(self, check: str) -> set[Outcome]:
        """Return the outcomes of a check on all listeners."""
        return {result.outcome for result in self.of(check)}

    @property
    def violated(self) -> set[str]:
        """The checks that do not conform."""
        return {result.check for result in self.results if result.outcome in BAD}

    @property
    def faults(self) -> set[str]:
        """Those of them that follow from no other."""
        return {result.check for result in self.results if result.outcome in BAD and result.cause is None}


@contextmanager
def replayed(
    plan: ReplayPlan, etcd: Path | str, directory: Path, *patterns: str, seconds: float = 60.0
) -> Iterator[Replayed]:
    """Replay a declaration and judge it with the checks that the patterns of ``--etcd-check`` name."""
    source = source_of(etcd)
    running = ReplayedEtcd(plan, source, directory=directory, seconds=seconds)
    try:
        target = running.target(f"etcd-{source.version}")
        observer = Observer(target)
        yield Replayed(running, target, observer, run_checks(observer, select(patterns or ("!lifecycle",))))
    finally:
        running.stop()
