"""Traps about the names in certificates: allowed names that keep out nobody or everybody, no SAN rule."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_etcdtls.declared.sides import Admission, prefix
from pytest_etcdtls.declared.trap import Situation, Trap, spellings, urls
from pytest_etcdtls.declared.version import has


def names_without_client_auth(situation: Situation) -> Iterator[Trap]:
    """Allowed names are compared with certificates that nobody is asked for."""
    for side in situation.sides():
        given = situation.settings(f"{side.side}-cert-allowed-hostname", f"{side.side}-cert-allowed-cn")
        if (
            not given
            or side.generated
            or side.admission is not Admission.ANYBODY
            or not situation.secure(side.side)
        ):
            continue
        p = prefix(side.side)
        yield Trap(
            id="allowed-names-without-client-auth",
            summary=f"{spellings(given)} keeps nobody out: no certificate is asked for",
            why="names are compared after a client's certificate has been verified, and without "
            f"--{p}client-cert-auth and a trusted CA no client sends one. etcd's own gateway is refused all "
            "the same.",
            remedy=f"give --{p}client-cert-auth=true and --{p}trusted-ca-file",
            settings=given,
            listeners=urls(situation.secure(side.side)),
        )


def names_as_one(situation: Situation) -> Iterator[Trap]:
    """Before 3.5.15 a list of allowed names is one name, which nobody has."""
    if has(situation.version, {"3.5": 15}):
        return
    for setting in situation.settings(
        "client-cert-allowed-hostname", "peer-cert-allowed-cn", "peer-cert-allowed-hostname"
    ):
        if "," in setting.value:
            yield Trap(
                id="allowed-names-as-one",
                summary=f"etcd {situation.version} takes {setting.written} for one single name, so nobody is "
                "let in",
                why="lists with commas are understood from 3.5.15 and 3.6 on.",
                remedy=f"give one name in {setting.spelled}, or upgrade etcd",
                settings=(setting,),
            )


def san_rule_off(situation: Situation) -> Iterator[Trap]:
    """A stolen member certificate works from anywhere."""
    for side in situation.sides():
        if side.skips_san_rule and side.admission is not Admission.ANYBODY:
            found = situation.settings(
                f"{side.side}-skip-client-san-verification", "experimental-peer-skip-client-san-verification"
            )
            yield Trap(
                id="san-check-off",
                summary=f"certificates are accepted from any address: {spellings(found)} is on",
                why="where it applies, on peer and https metrics listeners, etcd compares the names in a "
                "client's certificate with the address that it comes from.",
                remedy="give members certificates with their addresses and remove the switch",
                settings=found,
            )


NAME_TRAPS = (names_without_client_auth, names_as_one, san_rule_off)
