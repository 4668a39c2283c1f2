"""Another pair of certificate and key on disk, and half a pair.

Source: etcd's ``TestTLSReloadAtomicReplace`` and ``TestTLSReloadCopy``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.experiments.bench import Bench, as_files, step
from pytest_etcdtls.experiments.renewals import renew_under_load
from pytest_etcdtls.observations.experiment import Experiment, RenewalUnderLoad, Trial
from pytest_etcdtls.pki.files import encode_certificates
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.target import Role


@dataclass(frozen=True, slots=True)
class Port:
    """One of the two ports: whose pair is served there, and who is a good client."""

    role: Role
    file: str
    served: Identity
    client: Identity


def port(bench: Bench, role: Role) -> Port:
    """Return what belongs to a port of the first member."""
    pki, name = bench.cluster.pki, bench.member.name
    if role is Role.PEER:
        return Port(role, "peer", pki.peers[name], pki.peer_client)
    return Port(role, "server", pki.servers[name], pki.client)


def another_pair(bench: Bench, role: Role, *, same_key: bool = False) -> Identity:
    """Issue what the first member could serve on that port as well."""
    pki, plan, tree = bench.cluster.pki, bench.cluster.config.pki, bench.cluster.pki.authorities
    peer = role is Role.PEER
    issuer, profile = (tree.peer_issuer, plan.peer) if peer else (tree.server_issuer, plan.server)
    key = port(bench, role).served.key if same_key else None
    return issuer.issue(profile, name=port(bench, role).file, key=key, hosts=pki.members[0].hosts)


def reload(bench: Bench, role: Role) -> Experiment:
    """Replace the pair of a port by another, and see what the next handshake gets."""
    side, new = port(bench, role), another_pair(bench, role)
    before = _good(bench, side, side.served)
    bench.member.replace_files(as_files(new, side.file))
    after = _good(bench, side, new)
    bench.member.replace_files(as_files(side.served, side.file))
    return bench.experiment(
        "leaf-reload" if role is Role.CLIENT else "peer-leaf-reload",
        step("before", "the cluster was started", before),
        step("replaced", f"{side.file}.crt and {side.file}.key were replaced by another pair", after),
    )


def half_a_pair(bench: Bench) -> Experiment:
    """Replace a certificate before its key, empty its file, and see who is served."""
    sides = [port(bench, role) for role in (Role.CLIENT, Role.PEER)]
    new = {side.role: another_pair(bench, side.role) for side in sides}

    def put(files: Callable[[Port], Mapping[str, bytes]]) -> list[Trial]:
        """Replace files of both ports, then try both."""
        bench.member.replace_files({name: data for side in sides for name, data in files(side).items()})
        return [trial for side in sides for trial in _good(bench, side, new[side.role])]

    half = put(lambda side: {f"{side.file}.crt": encode_certificates(new[side.role].chain)})
    whole = put(lambda side: as_files(new[side.role], side.file))
    empty = put(lambda side: {f"{side.file}.crt": b""})
    put(lambda side: as_files(side.served, side.file))
    return bench.experiment(
        "half-pair-refused",
        step("half", "the certificate was replaced, its key was not yet", half),
        step("whole", "the key was replaced too", whole),
        step("empty", "the certificate's file was emptied", empty),
    )


def renewals(bench: Bench) -> RenewalUnderLoad:
    """Renew the certificate of the client port under load."""
    served = port(bench, Role.CLIENT).served
    return renew_under_load(bench, served, lambda: another_pair(bench, Role.CLIENT, same_key=True))


def _good(bench: Bench, side: Port, on_disk: Identity) -> tuple[Trial, ...]:
    return bench.trials("good client", side.role, side.client, der(on_disk.chain[0]))


def der(certificate: x509.Certificate) -> bytes:
    """Return the certificate as it goes over the wire."""
    return certificate.public_bytes(Encoding.DER)
