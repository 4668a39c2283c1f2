"""Published advisories about TLS: proved on the wire where that does no harm, else inferred from the version.

The version identifies the upstream release. A distribution may have fixed it without a new version, so an
inferred finding is a recommendation, and says that it is inferred.
"""

from collections.abc import Iterator, Mapping

from pytest_etcdtls.checks.judgement import SERVED, changed
from pytest_etcdtls.checks.mtls_refusals import OVER_GRPC, OVER_HTTP
from pytest_etcdtls.checks.registry import check
from pytest_etcdtls.checks.results import Finding, Statement, not_verified
from pytest_etcdtls.declared.effective import CRL_ON_GRPC
from pytest_etcdtls.facts.access_matrix import SplitRevocation
from pytest_etcdtls.facts.release import EtcdRelease, EtcdReleases, GoReleases, SplitListeners
from pytest_etcdtls.role import Role
from pytest_etcdtls.tls.command import GOOD_CLIENT, curl, etcdctl, show_version
from pytest_etcdtls.versions import Release, has_since

# A pre-release of 3.8 lacks the fix of stalled handshakes: client/pkg/transport/listener_tls.go of
# 3.8.0-alpha.0 has no tlsHandshakeTimeout.
_SPLIT_SINCE = {"3.4": 25, "3.5": 8}
_STALLED_FIXED = {"3.5": 33, "3.6": 14, "3.7": 1, "3.8": 0}
_UNCHECKED_FIXED = {"3.4": 42, "3.5": 28, "3.6": 9}
_GATEWAY_USER_FIXED = {"3.2": 26, "3.3": 11}
_ETCD_GATEWAY_FIXED = {"3.3": 23, "3.4": 10}


def _inferred(releases: EtcdReleases, fixed: Mapping[str, int], effect: str) -> Iterator[Statement]:
    affected = [found for found in releases.members if not has_since(found.release, fixed)]
    if affected:
        yield _by_version(affected, fixed, effect)


def _or_newer(fixed: Mapping[str, int]) -> str:
    return ", ".join(f"{line}.{patch}" for line, patch in fixed.items()) + " or newer"


def _by_version(affected: list[EtcdRelease], fixed: Mapping[str, int], effect: str) -> Finding:
    return Finding(
        message=f"{effect} (inferred from the version)",
        expected=_or_newer(fixed),
        observed="; ".join(
            f"{found.listener.url}: etcd {found.release} ({found.source})" for found in affected
        ),
        evidence={"kind": "inferred from the version"},
        reproduce=tuple(show_version(found.listener.url) for found in affected),
    )


_old_release = changed("releases.members.0", release=Release(3, 1, 0))


_accepted_over_grpc = changed("split.grpc.cases.*.tries.*", **SERVED)


@check("advisory.ghsa-3wh4-j44w-pg92-proved", on={Role.CLIENT}, counterexample=_accepted_over_grpc)
def the_crl_applies_to_a_separate_grpc_port(split: SplitRevocation) -> Iterator[Statement]:
    """A client that the HTTP port refuses as revoked is refused on the gRPC port too.

    With --listen-client-http-urls, older releases of etcd do not check the revocation list on the gRPC port,
    so revoked clients can read and write keys there. Proved with a revoked certificate.

    Spec: GHSA-3wh4-j44w-pg92
    Spec: etcd --client-crl-file, --listen-client-http-urls
    Follows: config.crl-ignored-on-grpc
    Severity: critical
    Level: MUST
    Remediation: upgrade to etcd 3.5.32, 3.6.13 or 3.7.0, or drop --listen-client-http-urls.
    """
    over_http = split.http.cases.over(*OVER_HTTP)
    over_grpc = split.grpc.cases.over(*OVER_GRPC)
    if not over_grpc or not over_http or over_http.accepted:
        yield not_verified("the revoked certificate is not refused over HTTP either, see mtls.revoked-http")
        return
    if over_grpc.accepted:
        http_url = over_http[0].attempt.url
        yield Finding(
            message="the gRPC port does not look at the revocation list",
            expected=f"a refusal, as on {http_url}",
            observed="; ".join(f"{case.version}: {case.attempt.describe()}" for case in over_grpc.accepted),
            evidence={"kind": "proved", "identity": split.grpc.identity},
            reproduce=(
                etcdctl(over_grpc[0].attempt.url, split.grpc.identity),
                curl(http_url, client=split.http.identity),
            ),
        )


_old_split = changed("listeners.members.0", release=Release(3, 5, 21))


@check("advisory.ghsa-3wh4-j44w-pg92-inferred", on=set(), counterexample=_old_split)
def no_release_ignores_the_crl_on_grpc(listeners: SplitListeners) -> Iterator[Statement]:
    """No member runs a release that ignores the revocation list on the gRPC port.

    With --listen-client-http-urls, revoked clients can read and write keys over gRPC. Judged by the version
    where no revoked certificate is available to prove it and HTTP has a listener of its own. Without
    --client-crl-file it has no effect.

    Spec: GHSA-3wh4-j44w-pg92
    Follows: advisory.ghsa-3wh4-j44w-pg92-proved
    Severity: high
    Level: SHOULD
    Remediation: upgrade to etcd 3.5.32, 3.6.13 or 3.7.0, or drop --listen-client-http-urls.
    """
    affected = [
        found
        for found in listeners.members
        if has_since(found.release, _SPLIT_SINCE) and not has_since(found.release, CRL_ON_GRPC)
    ]
    if affected:
        yield _by_version(affected, CRL_ON_GRPC, "the gRPC port may ignore the revocation list")


@check("advisory.ghsa-6vch-q96h-7gc3-inferred", on=set(), counterexample=_old_release)
def no_release_waits_for_handshakes_forever(releases: EtcdReleases) -> Iterator[Statement]:
    """No member runs a release that waits indefinitely for stalled TLS handshakes.

    Any client that reaches the client port, without a certificate, can open connections until etcd runs out
    of memory. The 3.4 line has no fix.

    Spec: GHSA-6vch-q96h-7gc3
    Severity: high
    Level: SHOULD
    Remediation: upgrade to etcd 3.5.33, 3.6.14 or 3.7.1; restrict access to the port to clients.
    """
    yield from _inferred(releases, _STALLED_FIXED, "stalled handshakes stay open for ever")


@check("advisory.cve-2026-33413-inferred", on=set(), counterexample=_old_release)
def no_release_skips_authorisation(releases: EtcdReleases) -> Iterator[Statement]:
    """No member runs a release that answers some calls without authorisation.

    With authentication enabled, any client with a certificate can make these calls: only transport security
    protects them.

    Spec: CVE-2026-33413
    Spec: GHSA-q8m4-xhhv-38mg
    Severity: medium
    Level: SHOULD
    Remediation: upgrade to etcd 3.4.42, 3.5.28 or 3.6.9; give certificates to trusted clients only.
    """
    yield from _inferred(releases, _UNCHECKED_FIXED, "some calls are not authorised")


@check("advisory.cve-2018-16886-inferred", on=set(), counterexample=_old_release)
def no_release_uses_the_server_name_as_user(releases: EtcdReleases) -> Iterator[Statement]:
    """No member runs a release whose gateway uses the server's common name as user.

    With authentication enabled, every client of the gateway has the rights of the user whose name is the
    common name of the server certificate.

    Spec: CVE-2018-16886
    Severity: high
    Level: SHOULD
    Remediation: upgrade to etcd 3.4 or newer (fixed in 3.2.26 and 3.3.11).
    """
    yield from _inferred(releases, _GATEWAY_USER_FIXED, "the gateway takes the server's name for the user's")


@check("advisory.cve-2020-15136-inferred", on=set(), counterexample=_old_release)
def no_release_has_a_gateway_that_does_not_verify(releases: EtcdReleases) -> Iterator[Statement]:
    """No member runs a release whose etcd gateway does not verify its endpoints.

    The command "etcd gateway" verified TLS only of endpoints from DNS, so it can forward clients to an
    attacker's server. Judged by the version of the members: the gateway's own version is not visible.

    Spec: CVE-2020-15136
    Severity: low
    Level: SHOULD
    Remediation: upgrade to etcd 3.3.23, 3.4.10 or newer, on the gateway as well.
    """
    yield from _inferred(releases, _ETCD_GATEWAY_FIXED, "etcd gateway does not verify its endpoints")


_FIXED_IN_GO = {
    "CVE-2022-41724 (large handshake records panic)": {"1.19": 6, "1.20": 1},
    "CVE-2024-24783 (a client certificate with an unknown key panics)": {"1.21": 8, "1.22": 1},
    "CVE-2023-45288 (HTTP/2 CONTINUATION flood)": {"1.21": 9, "1.22": 2},
    "CVE-2025-68121 (resumption after the CAs have changed)": {"1.24": 13, "1.25": 7, "1.26": 0},
}
"""Vulnerabilities that TLS clients can exploit, with the first fixed releases (Go vulnerability database)."""


def open_faults(release: Release) -> list[str]:
    """Return the vulnerabilities that this Go release still has."""
    return [name for name, fixed in _FIXED_IN_GO.items() if not has_since(release, fixed)]


_old_go = changed("releases.members.0", release=Release(1, 16, 3), text="go1.16.3")


@check("advisory.go-runtime", on=set(), counterexample=_old_go)
def etcd_is_built_with_a_fixed_go(releases: GoReleases) -> Iterator[Statement]:
    """Every member is built with a Go release that has the fixes for TLS servers.

    Clients can exploit the published vulnerabilities of that Go release. They depend on the Go release that
    the binary was built with, not on etcd's version; /metrics shows it. The finding is inferred from it.

    Spec: CVE-2025-68121
    Spec: CVE-2024-24783
    Spec: CVE-2023-45288
    Spec: CVE-2022-41724
    Severity: medium
    Level: SHOULD
    Remediation: upgrade etcd to the newest patch release of its line, or rebuild it with a newer Go.
    """
    for running in releases.members:
        faults = open_faults(running.release)
        if faults:
            yield Finding(
                message=f"etcd was built with {running.text}, which lacks fixes (inferred from the version)",
                expected=f"Go {_or_newer(_FIXED_IN_GO[faults[-1]])}",
                observed=f"{running.listener.url}: {running.text} lacks the fixes of {', '.join(faults)}",
                evidence={"kind": "inferred from the version"},
                reproduce=(
                    curl(
                        running.listener.url,
                        path="/metrics",
                        client=GOOD_CLIENT,
                        look='"server_go_version"',
                        then="grep go_version",
                    ),
                ),
            )
