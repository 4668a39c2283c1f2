"""A CA is added to the trusted bundles and taken out again, before and after a restart.

Source: etcd issue 11555, which asks for what is not done: reading the bundle again while etcd runs.
"""

from __future__ import annotations

from pytest_etcdtls.experiments.bench import Bench, step
from pytest_etcdtls.observations.experiment import Experiment, Trial
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.files import encode_certificates
from pytest_etcdtls.target import Role


def bundle(bench: Bench) -> Experiment:
    """Add a CA to the bundles and take it out again, each time before and after a restart."""
    pki = bench.cluster.pki
    added = CertificateAuthority.create("another CA")
    theirs = {
        Role.CLIENT: added.issue(pki.plan.client, name="client-of-another-ca"),
        Role.PEER: added.issue(pki.plan.peer_client, name="peer-of-another-ca"),
    }
    ours = {Role.CLIENT: pki.client, Role.PEER: pki.peer_client}

    def trust(*more: CertificateAuthority) -> None:
        bench.member.replace_files(
            {
                "client-ca.crt": encode_certificates(ca.certificate for ca in (pki.client_ca, *more)),
                "peer-ca.crt": encode_certificates(ca.certificate for ca in (pki.peer_ca, *more)),
            }
        )

    def tried() -> list[Trial]:
        return [
            trial
            for who, identities in (("client of another CA", theirs), ("good client", ours))
            for role, identity in identities.items()
            for trial in bench.trials(who, role, identity)
        ]

    before = tried()
    trust(added)
    added_running = tried()
    bench.cluster.restart()
    added_restarted = tried()
    trust()
    removed_running = tried()
    bench.cluster.restart()
    removed_restarted = tried()
    return bench.experiment(
        "ca-bundle",
        step("before", "the bundles hold one CA each", before),
        step("added", "another CA was added to both bundles", added_running),
        step("added, restarted", "etcd was restarted", added_restarted),
        step("removed", "the other CA was taken out of both bundles", removed_running),
        step("removed, restarted", "etcd was restarted", removed_restarted),
    )
