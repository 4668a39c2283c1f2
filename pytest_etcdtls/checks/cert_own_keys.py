"""Members do not share keys."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pytest_etcdtls.observations.chain import ServedByMembers, ServedChain
from pytest_etcdtls.pki.reading import public_key
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import show_leaf
from pytest_etcdtls.results import Finding, Statement


def _one_for_all(served: ServedByMembers) -> Mapping[str, Any]:
    _, first = served.chains[0]
    return {
        "served": replace(
            served,
            chains=tuple(
                (member, replace(chain, certificates=first.certificates)) for member, chain in served.chains
            ),
        )
    }


@check("cert.own-key-per-member", on=frozenset(), counterexample=_one_for_all)
def every_member_has_keys_of_its_own(served: ServedByMembers) -> Iterator[Statement]:
    """Every member serves with keys of its own.

    A key that was copied to every node is stolen from the weakest, stands for all of them, and cannot be
    taken away from one alone.

    Spec: etcd Documentation, transport security model
    Severity: medium
    Level: SHOULD
    Remediation: give each member a pair of its own in --cert-file, --key-file, --peer-cert-file and
        --peer-key-file.
    """
    by_key: dict[str, list[tuple[str, ServedChain]]] = {}
    for member, chain in served.chains:
        by_key.setdefault(_fingerprint(chain), []).append((member, chain))
    for fingerprint, users in by_key.items():
        members = dict.fromkeys(member for member, _ in users)
        if len(members) > 1:
            yield Finding(
                message=f"the members {', '.join(members)} share a key",
                expected="a key of its own for each member",
                observed=", ".join(chain.url for _, chain in users),
                evidence={"SHA-256 of the public key": fingerprint},
                reproduce=tuple(show_leaf(chain.url, '"pub:": the same key') for _, chain in users[:2]),
            )


def _fingerprint(chain: ServedChain) -> str:
    """Return the SHA-256 of the public key; of the whole certificate if its key cannot be read."""
    key = public_key(chain.leaf)
    if key is None:
        return chain.leaf.fingerprint(SHA256()).hex()
    digest = Hash(SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()
