"""Cipher suites of TLS 1.2, and groups. A weak suite is reported once, by the check of its worst weakness."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from pytest_etcdtls.checks.judgement import changed, key_in_words
from pytest_etcdtls.checks.registry import EVERY_LISTENER, Counterexample, check
from pytest_etcdtls.checks.results import Finding, Statement, not_applicable
from pytest_etcdtls.declared.cures import suites
from pytest_etcdtls.facts.certificates import ServedKey
from pytest_etcdtls.facts.listener import Policy
from pytest_etcdtls.facts.protocol import GroupSupport, SuiteSupport, TLS13Suites
from pytest_etcdtls.pki.thresholds import Thresholds
from pytest_etcdtls.role import TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.command import GROUP, s_client
from pytest_etcdtls.tls.suites import HYBRIDS, MODERN, OTHERS, SUITES, WEAK, CipherSuite, GroupKind, Weakness


def accepting(name: str) -> Counterexample:
    """Return a counterexample: this suite is accepted as well."""
    added = tuple(suite for suite in SUITES if suite.name == name)
    return lambda support, **_: {"support": replace(support, accepted=(*support.accepted, *added))}


def cipher_option(suites: Iterable[CipherSuite]) -> str:
    """Return the option of ``openssl s_client`` that offers these suites."""
    # OpenSSL's default security level leaves out weak suites.
    return f"-cipher {':'.join(suite.openssl_name for suite in suites)}:@SECLEVEL=0"


def _weak_suites(here: Listener, support: SuiteSupport, weakness: Weakness, kind: str) -> Iterator[Statement]:
    weak = [suite for suite in support.accepted if suite.weakness is weakness]
    if weak:
        options = cipher_option(weak)
        yield Finding(
            message=f"cipher suites {kind} are accepted",
            expected="the alert 40 handshake_failure",
            observed=", ".join(suite.name for suite in weak)
            + ("" if support.complete else "; not every other suite was offered"),
            reproduce=(s_client(here.url, TLSVersion.TLS1_2, options),),
        )


@check(
    "tls.broken-suites",
    on=EVERY_LISTENER,
    counterexample=accepting("TLS_ECDHE_RSA_WITH_RC4_128_SHA"),
    cure=suites,
)
def no_broken_suite_is_accepted(here: Listener, support: SuiteSupport) -> Iterator[Statement]:
    """No broken, unauthenticated or unencrypted cipher suite is accepted.

    An attacker can read or change the traffic. These are anonymous and NULL suites, export ciphers, RC2, RC4
    and DES. etcd accepts RC4 if --cipher-suites names it.

    Spec: RFC 9325 section 4.1
    Spec: RFC 7465 section 2
    Spec: etcd --cipher-suites
    Severity: high
    Level: MUST
    Remediation: name only suites with ECDHE and AES-GCM in --cipher-suites, or leave it unset.
    """
    yield from _weak_suites(here, support, Weakness.BROKEN, "that protect nothing")


@check(
    "tls.triple-des",
    on=EVERY_LISTENER,
    counterexample=accepting("TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
    cure=suites,
)
def no_suite_with_triple_des_is_accepted(here: Listener, support: SuiteSupport) -> Iterator[Statement]:
    """No cipher suite with triple DES is accepted.

    With blocks of 64 bits, collisions disclose plaintext after some 32 GB, which a watch or a backup over one
    connection can reach. Go before 1.23 accepts it by default, with RSA certificates.

    Spec: CVE-2016-2183
    Spec: RFC 9325 section 4.1
    Spec: etcd --cipher-suites
    Severity: medium
    Level: SHOULD
    Remediation: name only suites with ECDHE and AES-GCM in --cipher-suites, among them
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or its ECDSA counterpart, without which etcd does not start.
    """
    yield from _weak_suites(here, support, Weakness.TRIPLE_DES, "with triple DES")


@check(
    "tls.rsa-key-exchange",
    on=EVERY_LISTENER,
    counterexample=accepting("TLS_RSA_WITH_AES_128_GCM_SHA256"),
    cure=suites,
)
def no_suite_without_forward_secrecy_is_accepted(
    here: Listener, support: SuiteSupport
) -> Iterator[Statement]:
    """No cipher suite without forward secrecy, such as RSA key exchange, is accepted.

    An attacker who obtains the server's key can decrypt all traffic recorded before. Go accepts RSA key
    exchange by default in modules below go 1.22. Suites that are worse for another reason have checks of
    their own.

    Spec: RFC 9325 section 4.1
    Spec: etcd --cipher-suites
    Follows: tls.forward-secrecy
    Severity: medium
    Level: SHOULD
    Remediation: name only suites with ECDHE in --cipher-suites, among them
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or its ECDSA counterpart, without which etcd does not start.
    """
    yield from _weak_suites(here, support, Weakness.STATIC, "without forward secrecy")


@check(
    "tls.cbc-suites",
    on=EVERY_LISTENER,
    counterexample=accepting("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    cure=suites,
)
def no_suite_in_cbc_mode_is_accepted(here: Listener, support: SuiteSupport) -> Iterator[Statement]:
    """No cipher suite in CBC mode is accepted.

    Encryption after authentication led to a series of padding oracle attacks; implementations have
    countermeasures since. Go accepts ECDHE with AES-CBC by default in every version, and so does every etcd
    without --cipher-suites. Suites that are worse for another reason have checks of their own.

    Spec: RFC 9325 section 4.2
    Spec: RFC 7366 section 1
    Spec: etcd --cipher-suites
    Severity: low
    Level: SHOULD
    Remediation: name only suites with ECDHE and AES-GCM in --cipher-suites, among them
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or its ECDSA counterpart, or set --tls-min-version=TLS1.3.
    """
    yield from _weak_suites(here, support, Weakness.CBC, "in CBC mode")


def _static_only(support: SuiteSupport, **_: object) -> Mapping[str, Any]:
    return accepting("TLS_RSA_WITH_AES_128_GCM_SHA256")(replace(support, accepted=()))


@check("tls.forward-secrecy", on=EVERY_LISTENER, counterexample=_static_only, cure=suites)
def a_suite_with_forward_secrecy_is_accepted(
    here: Listener, support: SuiteSupport, key: ServedKey
) -> Iterator[Statement]:
    """In TLS 1.2, a cipher suite with forward secrecy is accepted.

    Otherwise an attacker who obtains the server's key can decrypt recorded traffic of every client. If no
    suite is accepted at all, clients without TLS 1.3 cannot connect. Both happen if --cipher-suites contains
    ECDHE suites only for another type of certificate.

    Spec: RFC 9325 section 4.2
    Spec: etcd --cipher-suites
    Severity: high
    Level: MUST
    Remediation: name suites with ECDHE for the key type of --{peer}cert-file in --cipher-suites:
        TLS_ECDHE_RSA_ for RSA, TLS_ECDHE_ECDSA_ for ECDSA and Ed25519.
    """
    if not support.accepted:
        yield Finding(
            message=f"no client can use TLS 1.2: --cipher-suites has no suite for {key_in_words(key)}",
            expected=f"a suite with ECDHE{f', {key.suites}...' if key.suites else ''}",
            observed="the alert handshake_failure to a hello with every suite and group",
            reproduce=(s_client(here.url, TLSVersion.TLS1_2, "-cipher ALL:@SECLEVEL=0"),),
        )
    elif not any(suite.is_forward_secret for suite in support.accepted):
        yield Finding(
            message="no cipher suite with forward secrecy is accepted in TLS 1.2",
            expected=f"a suite with ECDHE for {key_in_words(key)}",
            observed=", ".join(suite.name for suite in support.accepted),
            reproduce=(s_client(here.url, TLSVersion.TLS1_2, "-cipher ECDHE"),),
        )


def _one_less(support: SuiteSupport, policy: Policy, **_: object) -> Mapping[str, Any]:
    allowed = frozenset(suite.name for suite in support.accepted[1:])
    return {"policy": policy.with_thresholds("tls.allowed-suites", Thresholds(cipher_suites=allowed))}


@check("tls.allowed-suites", on=EVERY_LISTENER, counterexample=_one_less)
def only_listed_suites_are_accepted(
    here: Listener, support: SuiteSupport, policy: Policy
) -> Iterator[Statement]:
    """In TLS 1.2, only cipher suites that the profiles list are accepted.

    Guidelines list suites. Where no profile does, every suite is allowed here: other checks judge weak ones.

    Spec: etcd --cipher-suites
    Severity: medium
    Level: SHOULD
    Remediation: name only suites that the profile lists in --cipher-suites, among them
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or its ECDSA counterpart, without which etcd does not start.
    """
    thresholds = policy.of("tls.allowed-suites")
    listed = thresholds.cipher_suites
    other = [suite for suite in support.accepted if listed is not None and suite.name not in listed]
    if other:
        options = cipher_option(other)
        yield Finding(
            message="cipher suites that the profile does not list are accepted",
            expected=f"a suite of its list{thresholds.source('cipher_suites')}",
            observed=", ".join(suite.name for suite in other),
            reproduce=(s_client(here.url, TLSVersion.TLS1_2, options),),
        )


def _one_tls13_less(suites: TLS13Suites, policy: Policy, **_: object) -> Mapping[str, Any]:
    allowed = Thresholds(tls13_cipher_suites=frozenset({"TLS_AES_128_GCM_SHA256"}))
    return {
        "suites": replace(suites, accepted=("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")),
        "policy": policy.with_thresholds("tls.allowed-tls13-suites", allowed),
    }


@check("tls.allowed-tls13-suites", on=EVERY_LISTENER, counterexample=_one_tls13_less)
def only_listed_suites_of_tls13_are_accepted(
    here: Listener, suites: TLS13Suites, policy: Policy
) -> Iterator[Statement]:
    """In TLS 1.3, only cipher suites that the profiles list are accepted.

    Some guidelines leave out ChaCha20-Poly1305, which Go accepts. Where no profile lists suites, none is
    offered: every suite of TLS 1.3 is strong.

    Spec: RFC 8446 appendix B.4
    Severity: low
    Level: SHOULD
    Remediation: run an etcd that was built with Go 1.24 or newer with the variable GODEBUG=fips140=on, which
        leaves AES-GCM; --cipher-suites does not apply to TLS 1.3.
    """
    thresholds = policy.of("tls.allowed-tls13-suites")
    listed = thresholds.tls13_cipher_suites
    other = [name for name in suites.accepted if listed is not None and name not in listed]
    if other:
        yield Finding(
            message="cipher suites of TLS 1.3 that the profile does not list are accepted",
            expected=f"a suite of its list{thresholds.source('tls13_cipher_suites')}",
            observed=", ".join(other),
            reproduce=(s_client(here.url, TLSVersion.TLS1_3, f"-ciphersuites {':'.join(other)}"),),
        )


@check("tls.groups", on=EVERY_LISTENER, counterexample=changed("support", accepted=OTHERS[:1], weak=WEAK[-1]))
def keys_are_exchanged_with_a_modern_group(
    here: Listener, support: GroupSupport, policy: Policy
) -> Iterator[Statement]:
    """Keys are exchanged with a modern group; no weak or excluded group is accepted.

    Current clients cannot connect without a modern group; with a weak one an attacker may compute the session
    keys. Modern groups are X25519, X448, P-256, P-384 and P-521, alone or combined with ML-KEM. Curves below
    112 bits of strength are weak.

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
            reproduce=(s_client(here.url, support.version, f"-groups {wanted}", look=GROUP),),
        )
    if support.weak is not None:
        yield Finding(
            message="a weak group is accepted",
            expected="the alert 40 handshake_failure",
            observed=f"TLSv1.2: {support.weak.name}",
            reproduce=(s_client(here.url, TLSVersion.TLS1_2, f"-groups {support.weak.name}", look=GROUP),),
        )
    yield from _not_of_the_profile(here, support, policy.of("tls.groups"))


_APPROVED_GROUPS = (
    "etcd has no flag for groups: run one that was built with Go 1.24 or newer with the variable "
    "GODEBUG=fips140=on, which leaves P-256, P-384, P-521 and hybrid groups"
)
_APPROVED = {"secp256r1", "secp384r1", "secp521r1"}
_ALL_GROUPS = (
    "etcd has no setting that takes these groups away: use a profile that lists them, or waive this finding "
    "(--etcd-waivers)"
)


def _not_of_the_profile(here: Listener, support: GroupSupport, thresholds: Thresholds) -> Iterator[Statement]:
    """Yield what the profiles do not allow of the groups, and what they miss."""
    accepted = {group.name: group.kind for group in support.accepted}
    allowed = thresholds.groups
    if allowed is not None:
        judges_hybrids = any(group.name in allowed for group in HYBRIDS)
        other = [
            name
            for name, kind in accepted.items()
            if name not in allowed and (judges_hybrids or kind is not GroupKind.HYBRID)
        ]
        if other:
            yield Finding(
                message="groups that the profile does not list are accepted",
                expected=f"{', '.join(sorted(allowed))} alone{thresholds.source('groups')}",
                observed=f"{support.version}: {', '.join(other)}",
                reproduce=(s_client(here.url, support.version, f"-groups {':'.join(other)}", look=GROUP),),
                remediation=_ALL_GROUPS if _APPROVED & {*other} else _APPROVED_GROUPS,
            )
    for wanted in thresholds.groups_one_of:
        if not wanted & accepted.keys():
            yield Finding(
                message="none of the groups that the profile needs is accepted",
                expected=f"one of {', '.join(sorted(wanted))}{thresholds.source('groups_one_of')}",
                observed=f"{support.version}: {', '.join(accepted) or 'none of the groups offered'}",
                reproduce=(
                    s_client(here.url, support.version, f"-groups {':'.join(sorted(wanted))}", look=GROUP),
                ),
            )


@check("tls.hybrid-group", on=EVERY_LISTENER, counterexample=changed("support", accepted=MODERN[:4]))
def a_post_quantum_group_is_accepted(here: Listener, support: GroupSupport) -> Iterator[Statement]:
    """A hybrid group with ML-KEM is accepted.

    Traffic that is recorded today can otherwise be decrypted later with a quantum computer. Go supports
    X25519MLKEM768 since 1.24.

    Spec: NIST FIPS 203
    Spec: RFC 8446 section 4.2.7
    Severity: info
    Level: SHOULD
    Remediation: use an etcd that is built with Go 1.24 or newer, and do not set tlsmlkem=0 in GODEBUG.
    """
    if support.version is not TLSVersion.TLS1_3:
        yield not_applicable("TLS 1.3 is not offered, and before it there are no hybrid groups")
    elif not any(group.kind is GroupKind.HYBRID for group in support.accepted):
        yield Finding(
            message="no post-quantum group is accepted",
            expected=f"one of {', '.join(group.name for group in HYBRIDS)}",
            observed=", ".join(group.name for group in support.accepted),
            reproduce=(s_client(here.url, TLSVersion.TLS1_3, f"-groups {HYBRIDS[0].name}", look=GROUP),),
        )
