"""Every member is set up like the others."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography import x509

from pytest_etcdtls.observations.cluster import ListenerProfile, MemberCount, SideBySide
from pytest_etcdtls.observations.release import EtcdReleases, Release
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import ANNOUNCED, GOOD_CLIENT, curl, s_client, show_leaf
from pytest_etcdtls.results import Finding, Level, Outcome, Statement, Verdict

_EXPIRY_SPREAD = timedelta(days=30)


def _first_differs(side_by_side: SideBySide, **changes: object) -> Mapping[str, Any]:
    (first, *others), *rows = side_by_side.rows
    changed: ListenerProfile = replace(first, **changes)  # type: ignore[arg-type]
    return {"side_by_side": replace(side_by_side, rows=((changed, *others), *rows))}


def _trusts_another(side_by_side: SideBySide) -> Mapping[str, Any]:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another CA")])
    return _first_differs(side_by_side, announced=frozenset({name}))


@check("cluster.same-ca", on=frozenset(), counterexample=_trusts_another)
def every_member_trusts_the_same_cas(side_by_side: SideBySide) -> Iterator[Statement]:
    """Every member trusts the same CAs for its clients, and every member for its peers.

    The bundle is read at start only. A member that was not restarted after a change, or was given an old
    file, refuses clients that the others let in, or still lets in those of a CA that was dropped.

    Spec: RFC 8446 section 4.2.4
    Spec: etcd --trusted-ca-file, --peer-trusted-ca-file
    Severity: high
    Level: MUST
    Remediation: give every member the same files for --trusted-ca-file and --peer-trusted-ca-file, and
        restart them one by one.
    """
    # One that asks for no certificate has another policy, which is a finding of its own.
    rows = tuple(tuple(seen for seen in row if seen.asked) for row in side_by_side.rows)
    yield from _alike(rows, lambda seen: seen.announced, _names, "trusts other CAs")


def _names(seen: ListenerProfile) -> str:
    return ", ".join(sorted(name.rfc4514_string() for name in seen.announced)) or "none announced"


def _one_version_less(side_by_side: SideBySide) -> Mapping[str, Any]:
    first = side_by_side.rows[0][0]
    return _first_differs(side_by_side, versions=first.versions[:1])


@check("cluster.same-policy", on=frozenset(), counterexample=_one_version_less)
def every_member_has_the_same_policy(side_by_side: SideBySide) -> Iterator[Statement]:
    """Every member offers the same TLS versions and asks for certificates alike.

    A cluster is as open as its weakest member: clients and attackers reach the same keys through each. Which
    versions are too old is judged on each member by tls.version-floor.

    Spec: etcd --client-cert-auth, --peer-client-cert-auth, --tls-min-version, --tls-max-version
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST, SHOULD where TLS versions alone differ
    Remediation: start every member with the same TLS flags, from the same version of etcd.
    """
    yield from _alike(side_by_side.rows, _asks, _policy, "asks for certificates otherwise")
    alike = tuple(row for row in side_by_side.rows if len({_asks(seen) for seen in row}) == 1)
    versions = _alike(alike, lambda seen: seen.versions, _policy, "offers other TLS versions")
    yield from (replace(found, level=Level.SHOULD) for found in versions)


def _asks(seen: ListenerProfile) -> tuple[bool, bool]:
    """Return whether it asks for a certificate in any of its TLS versions, and whether in all."""
    return bool(seen.asked), set(seen.asked) == set(seen.versions)


def _policy(seen: ListenerProfile) -> str:
    return f"offers {', '.join(seen.versions)}, asks for a certificate in {', '.join(seen.asked) or 'none'}"


def _alike(
    rows: tuple[tuple[ListenerProfile, ...], ...],
    fact: Callable[[ListenerProfile], Hashable],
    show: Callable[[ListenerProfile], str],
    message: str,
) -> Iterator[Finding]:
    for row in rows:
        odd = _odd_ones(row, fact)
        if odd:
            usual = next(seen for seen in row if seen not in odd)
            yield Finding(
                message=f"{', '.join(seen.url for seen in odd)} {message} than other members",
                expected=f"{usual.url}: {show(usual)}",
                observed="; ".join(f"{seen.url}: {show(seen)}" for seen in odd),
                reproduce=tuple(s_client(seen.url, look=ANNOUNCED) for seen in (usual, *odd)),
            )


def _odd_ones(
    row: Iterable[ListenerProfile], fact: Callable[[ListenerProfile], Hashable]
) -> list[ListenerProfile]:
    """Return those that differ from the most frequent ones, of equally frequent ones from the first."""
    groups: dict[Hashable, list[ListenerProfile]] = {}
    for seen in row:
        groups.setdefault(fact(seen), []).append(seen)
    usual = max(groups.values(), key=len, default=[])
    return [seen for group in groups.values() if group is not usual for seen in group]


def _forgotten(side_by_side: SideBySide) -> Mapping[str, Any]:
    first = side_by_side.rows[0][0]
    return _first_differs(side_by_side, expires_at=first.expires_at - 2 * _EXPIRY_SPREAD)


@check("cluster.expiry-spread", on=frozenset(), counterexample=_forgotten)
def certificates_expire_together(side_by_side: SideBySide) -> Iterator[Statement]:
    """The certificates that members serve on ports of one kind expire within a month of each other.

    They are renewed together. One that expires much earlier was forgotten, or its renewal failed.

    Spec: RFC 5280 section 4.1.2.5
    Severity: medium
    Level: SHOULD
    Remediation: renew the pair of that member; etcd serves the new one at the next handshake.
    """
    for row in side_by_side.rows:
        first, *_, last = sorted(row, key=lambda seen: seen.expires_at)
        if last.expires_at - first.expires_at > _EXPIRY_SPREAD:
            yield Finding(
                message=f"the certificate of {first.url} expires long before those of other members",
                expected=f"within {_EXPIRY_SPREAD.days} days of {_day(last)} ({last.url})",
                observed=_day(first),
                reproduce=(show_leaf(first.url), show_leaf(last.url)),
            )


def _day(seen: ListenerProfile) -> str:
    return f"{seen.expires_at:%Y-%m-%d}"


def _an_old_release(releases: EtcdReleases, count: MemberCount) -> Mapping[str, Any]:
    first, *others = releases.members
    return {"releases": replace(releases, members=(replace(first, release=Release(3, 4, 0)), *others))}


@check("cluster.same-version", on=frozenset(), counterexample=_an_old_release)
def every_member_runs_the_same_version(releases: EtcdReleases, count: MemberCount) -> Iterator[Statement]:
    """Every member runs the same version of etcd.

    During an upgrade they differ for a while. What stays behind lacks fixes, and may offer other TLS versions
    and suites.

    Spec: etcd Documentation, upgrading etcd clusters
    Severity: low
    Level: SHOULD
    Remediation: finish the upgrade on every member.
    """
    if len(releases.members) < 2:
        yield _one_member(count)
        return
    if len({found.release for found in releases.members}) > 1:
        yield Finding(
            message="members run different versions of etcd",
            expected="one version",
            observed="; ".join(f"{found.url}: {found.release}" for found in releases.members),
            reproduce=tuple(
                curl(found.url, role="client", files=GOOD_CLIENT, look='"etcdserver": the version')
                for found in releases.members
            ),
        )


def _one_member(count: MemberCount) -> Verdict:
    if count.listed == 1:
        return Verdict(Outcome.NOT_APPLICABLE, "the cluster has one member")
    return Verdict(
        Outcome.NOT_VERIFIED, "needs a second member: pass its --etcd-endpoint, or --etcd-discover"
    )
