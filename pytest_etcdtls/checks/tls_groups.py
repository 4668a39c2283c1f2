"""Groups with which keys are exchanged."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.attempt import TLSVersion
from pytest_etcdtls.observations.named_groups import HYBRIDS, MODERN, OTHERS, WEAK, GroupKind
from pytest_etcdtls.observations.protocol import GroupSupport
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import GROUP, s_client
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict


def _old_groups(support: GroupSupport) -> Mapping[str, Any]:
    return {"support": replace(support, accepted=OTHERS[:1], weak=WEAK[-1])}


@check("tls.groups", on=EVERY_LISTENER, counterexample=_old_groups)
def keys_are_exchanged_with_a_modern_group(support: GroupSupport) -> Iterator[Statement]:
    """Keys are exchanged with a group of today, and with none that is weak.

    Today's are X25519, X448, P-256, P-384 and P-521, alone or together with ML-KEM; weak are curves below
    112 bits of strength.

    Spec: RFC 8446 section 9.1
    Spec: RFC 9325 section 4.2.1
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port, which offers them in every version.
    """
    kinds = {group.kind for group in support.accepted}
    names = ", ".join(group.name for group in support.accepted) or "none of the groups offered"
    if not kinds & {GroupKind.MODERN, GroupKind.HYBRID}:
        wanted = ":".join(group.name for group in MODERN)
        yield Finding(
            message="no group of today is accepted",
            expected=f"one of {', '.join(group.name for group in MODERN)}",
            observed=f"{support.version}: {names}",
            reproduce=(s_client(support.url, support.version, f"-groups {wanted}", look=GROUP),),
        )
    if support.weak is not None:
        yield Finding(
            message="a weak group is accepted",
            expected="the alert 40 handshake_failure",
            observed=f"TLSv1.2: {support.weak.name}",
            reproduce=(s_client(support.url, TLSVersion.TLS1_2, f"-groups {support.weak.name}", look=GROUP),),
        )


def _classical(support: GroupSupport) -> Mapping[str, Any]:
    return {"support": replace(support, accepted=MODERN[:4])}


@check("tls.hybrid-group", on=EVERY_LISTENER, counterexample=_classical)
def a_post_quantum_group_is_accepted(support: GroupSupport) -> Iterator[Statement]:
    """A hybrid group with ML-KEM is accepted.

    What is recorded today could otherwise be read by who has a quantum computer later. Go has X25519MLKEM768
    since version 1.24.

    Spec: NIST FIPS 203
    Spec: RFC 8446 section 4.2.7
    Severity: info
    Level: SHOULD
    Remediation: use an etcd that is built with Go 1.24 or newer, and do not set tlsmlkem=0 in GODEBUG.
    """
    if support.version is not TLSVersion.TLS1_3:
        yield Verdict(
            Outcome.NOT_APPLICABLE, "TLS 1.3 is not offered, and before it there are no hybrid groups"
        )
    elif not any(group.kind is GroupKind.HYBRID for group in support.accepted):
        yield Finding(
            message="no post-quantum group is accepted",
            expected=f"one of {', '.join(group.name for group in HYBRIDS)}",
            observed=", ".join(group.name for group in support.accepted),
            reproduce=(s_client(support.url, TLSVersion.TLS1_3, f"-groups {HYBRIDS[0].name}", look=GROUP),),
        )
