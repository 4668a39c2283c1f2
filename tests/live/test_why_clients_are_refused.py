"""The reason of a refusal, and its remedy, are those of Go: every etcd is real and logs the same reason.

One etcd trusts a CA for each row. Up to Go 1.19 its alert is 42 for all of them. The log has the words of
crypto/x509; an etcd whose Go does not have the rule yet accepts the client.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from judged import judge, listener_of
from starting import start_process, start_where_possible

from pytest_etcdtls.checks.refused_clients import why_refused
from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.etcd_log.parse import Cause, parse_log
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.refusal_grounds import RefusalGrounds
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, Identity, OtherExtension, Profile
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target, TrustBundle
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.versions import version_key

_SERVERS = ("serverAuth",)
_CRITICAL = "1.2.3.4"
_ONLY_EXAMPLE = OtherExtension("2.5.29.30", bytes.fromhex("300da00b300982076578616d706c65"), critical=True)
"""nameConstraints that permit the DNS name ``example`` alone."""
_NEEDS_POLICY = OtherExtension("2.5.29.36", bytes.fromhex("3003800100"), critical=True)
"""policyConstraints with requireExplicitPolicy 0."""
_PAST = {"valid_from": timedelta(days=-9), "valid_for": timedelta(days=7)}


class Clients:
    """The certificates of the rows, and the CAs that etcd trusts."""

    def __init__(self) -> None:
        self.trusted: list[x509.Certificate] = []
        self.known: list[x509.Certificate] = []

    def authority(self, name: str, **changes: object) -> CertificateAuthority:
        """Return a new CA that etcd trusts."""
        authority = CertificateAuthority.create(name, profile=replace(AUTHORITY, **changes))  # type: ignore[arg-type]
        self.trusted.append(authority.certificate)
        return authority

    @property
    def bundle(self) -> bytes:
        """The file of ``--trusted-ca-file``."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.trusted)


def _issue(authority: CertificateAuthority, **changes: object) -> Identity:
    return authority.issue(replace(CLIENT, **changes), name="client")  # type: ignore[arg-type]


def _below(clients: Clients, name: str, root: Profile = AUTHORITY, **changes: object) -> Identity:
    """Return a client of an intermediate CA that has these fields changed."""
    above = CertificateAuthority.create(f"{name} root", profile=root)
    clients.trusted.append(above.certificate)
    middle = above.intermediate(f"{name} intermediate", profile=replace(AUTHORITY, **changes))  # type: ignore[arg-type]
    return _issue(middle)


def _created_again(clients: Clients) -> Identity:
    clients.authority("created again")
    return _issue(CertificateAuthority.create("created again"))


def _not_sent(clients: Clients, name: str, *, known: bool) -> Identity:
    identity = _below(clients, name)
    clients.known += identity.chain[1:] if known else ()
    return replace(identity, chain=identity.chain[:1])


class Row(NamedTuple):
    """A client that etcd refuses since a Go release, what is said of it, and a pattern of what etcd logs."""

    make: Callable[[Clients], Identity]
    why: str
    remedy: str
    logged: str
    since: tuple[int, int] = (1, 16)


_UNKNOWN = "certificate signed by unknown authority"
ROWS = {
    "critical extension": Row(
        make=lambda clients: _issue(clients.authority("extension"), unknown_critical_extension=_CRITICAL),
        why="its certificate has the critical extension 1.2.3.4, which Go does not handle",
        remedy="issue this certificate again without that extension",
        logged="unhandled critical extension",
    ),
    "name constraints": Row(
        make=lambda clients: _issue(
            clients.authority("constraints", other_extensions=(_ONLY_EXAMPLE,)),
            subject_alt_names=("client.internal",),
        ),
        why="the DNS name client.internal is not among the names that its CA may certify",
        remedy="issue this certificate without that name",
        logged="not authorized to sign for this name",
    ),
    "policy": Row(
        make=lambda clients: _below(clients, "policy", other_extensions=(_NEEDS_POLICY,)),
        why="that it sends has the extension policyConstraints, which is not judged here, and may be why",
        remedy="again without it",
        logged="candidate chains (with|have) invalid policies|unhandled critical extension",
    ),
    "usage of the root": Row(
        make=lambda clients: _issue(clients.authority("servers only", extended_key_usage=_SERVERS)),
        why="its CA CN=servers only has the extendedKeyUsage serverAuth without clientAuth",
        remedy="again without extendedKeyUsage, replace it in --trusted-ca-file and restart",
        logged="incompatible key usage",
    ),
    "usage of the intermediate": Row(
        make=lambda clients: _below(clients, "usage", extended_key_usage=_SERVERS),
        why="the CA CN=usage intermediate that it sends has the extendedKeyUsage serverAuth",
        remedy="replace it in the client's certificate file",
        logged="incompatible key usage",
    ),
    "path length": Row(
        make=lambda clients: _below(clients, "short", root=replace(AUTHORITY, path_length=0)),
        why="its CA CN=short root has pathlen:0 with 1 CA below",
        remedy="a path length that suffices",
        logged="too many intermediates",
    ),
    "expired root": Row(
        make=lambda clients: _issue(clients.authority("expired", **_PAST)),
        why="its CA CN=expired expired 2 days ago",
        remedy="again with the same key, replace it in --trusted-ca-file and restart etcd",
        logged="expired",
    ),
    "SHA-1": Row(
        make=lambda clients: _issue(clients.authority("sha1"), signature_hash="sha1"),
        why="it is signed with sha1, which etcd's Go refuses",
        remedy="issue a new client certificate, signed with SHA-256",
        logged=f"{_UNKNOWN}.*insecure algorithm ECDSA-SHA1",
        since=(1, 18),
    ),
    "SHA-1 intermediate": Row(
        make=lambda clients: _below(clients, "sha1", signature_hash="sha1"),
        why="the CA CN=sha1 intermediate that it sends is signed with sha1",
        remedy="signed with SHA-256, and replace it in the client's certificate file",
        logged=f"{_UNKNOWN}.*insecure algorithm ECDSA-SHA1",
        since=(1, 18),
    ),
    "CA created again": Row(
        make=_created_again,
        why="its CA has the name of a trusted one, CN=created again, and another key",
        remedy="put the CA that issued this certificate into --trusted-ca-file",
        logged=f"{_UNKNOWN}.*ECDSA verification failure",
    ),
    "intermediate not sent": Row(
        make=lambda clients: _not_sent(clients, "not sent", known=True),
        why="it does not send the intermediate CA CN=not sent intermediate",
        remedy="append the certificate of the intermediate CA to the client's certificate file",
        logged=_UNKNOWN,
    ),
    "unknown intermediate not sent": Row(
        make=lambda clients: _not_sent(clients, "not known", known=False),
        why="its CA, CN=not known intermediate, is not trusted",
        remedy="if it is an intermediate CA, append its certificate",
        logged=_UNKNOWN,
    ),
    "negative serial number": Row(
        make=lambda clients: _issue(clients.authority("negative"), serial_number=-7),
        why="Go does not parse its certificate: the serial number is negative",
        remedy="issue this certificate again with a maintained tool",
        logged="failed to parse client certificate: x509: negative serial number",
        since=(1, 23),
    ),
}


def _judge(target: Target, identity: Identity | None = None) -> CheckResult:
    return _judged(target, identity)[0]


def _judged(
    target: Target, identity: Identity | None = None, known: Iterable[x509.Certificate] | None = None
) -> tuple[CheckResult, Cause | None]:
    """Judge the client port with one identity, by default the first, where these CAs are known as well."""
    listener = listener_of(target, Role.CLIENT)
    client = replace(
        target.client, identities=(identity or target.client.identities[0],), signing_key=None, served=()
    )
    if known is not None:
        client = replace(client, server_ca=TrustBundle(tuple(known), "ca.crt"))
    observer = Observer(replace(target, client=client, listeners=(listener,)))
    result = Judge(observer).result(catalogue()["mtls.trusted-client"], listener)
    [candidate] = observer.get(AcceptedClient, listener=listener).candidates
    bad = candidate.cases.ended(Ending.REFUSED, Ending.OTHER).attempts
    grounds = observer.get(RefusalGrounds, listener=listener)
    return result, why_refused(candidate, bad, grounds).cause if bad else None


def _go(binary: Path) -> tuple[int, int]:
    printed = subprocess.run([binary, "--version"], check=True, capture_output=True, encoding="utf-8").stdout
    major, minor = re.search(r"Go Version: go(\d+)\.(\d+)", printed).groups()  # type: ignore[union-attr]
    return int(major), int(minor)


def _logged_since(cluster: Cluster, before: int) -> str:
    """Return the errors of etcd about certificates, each once."""
    found = re.findall(r"tls: (?:failed to (?:verify|parse)[^\n]*|.*x509)[^\n]*", cluster.log()[before:])
    return "\n".join(dict.fromkeys(found))


_AT_ONCE = 6
"""etcd logs 100 lines about one event in a second, and drops others: so few clients for each etcd."""


_BATCHES = [tuple(ROWS)[first : first + _AT_ONCE] for first in range(0, len(ROWS), _AT_ONCE)]


@pytest.mark.parametrize("names", _BATCHES, ids=lambda names: names[0])
def test_the_reason_is_gos(etcd_binary: Path, names: tuple[str, ...]) -> None:
    clients = Clients()
    identities = {name: ROWS[name].make(clients) for name in names}
    config = ClusterConfig(
        trusted_ca_file="clients.crt", extra_files={"clients.crt": clients.bundle}, expects_health=False
    )
    wrong = []
    go = _go(etcd_binary)
    with start_process(config, etcd_binary) as cluster:
        for name, identity in identities.items():
            row = ROWS[name]
            before = len(cluster.log())
            result, cause = _judged(cluster.target(), identity, known=clients.known)
            logged = _logged_since(cluster, before)
            if go < row.since:
                if result.outcome is not Outcome.CONFORMS:
                    wrong.append(f"{name}: {result.outcome}, and Go {go} has no such rule: {logged}")
                continue
            message = result.findings[0].message if result.findings else result.reason
            for wanted, found in ((row.why, message), (row.remedy, result.remediation)):
                if wanted not in found:
                    wrong.append(f"{name}: {found} [{result.outcome}] LOG {logged[:300]}")
            causes = {line.cause for line in parse_log(cluster.log()[before:]).rejections}
            if cause not in causes and "is not judged here" not in row.why:
                wrong.append(f"{name}: etcd's log says {causes}, the reason {cause}")
            if not re.search(row.logged, logged.replace("\\", "")):
                wrong.append(f"{name}: etcd logs {logged}")
    assert not wrong, "\n".join(wrong)


GOOD = ClusterConfig()
BROKEN = ClusterConfig(expects_health=False)
_EXPIRED = replace(CLIENT, valid_from=timedelta(days=-2), valid_for=timedelta(days=1, hours=21))
_LATER = replace(CLIENT, valid_from=timedelta(days=1))
_FOR_SERVERS = replace(CLIENT, extended_key_usage=("serverAuth",))
_TELLING = [
    (_EXPIRED, "its certificate expired 3 hours ago", "renew this certificate"),
    (_LATER, "its certificate is not valid before", "from then on"),
    (_FOR_SERVERS, "its extendedKeyUsage (serverAuth) has no clientAuth", "with extendedKeyUsage clientAuth"),
    (
        replace(CLIENT, self_signed=True),
        "is not trusted (trusted: ",
        "use a certificate of a CA that is there; or",
    ),
]


def test_the_certificate_gives_the_reason_of_a_refusal(etcd_binary: Path) -> None:
    """Up to Go 1.19 the alert is 42 for every reason."""
    with start_process(GOOD, etcd_binary) as cluster:
        authority = cluster.pki.client_ca
        results = [_judge(cluster.target(), authority.issue(made, name="client")) for made, _, _ in _TELLING]
    for result, (_, why, remedy) in zip(results, _TELLING, strict=True):
        assert result.outcome is Outcome.VIOLATES
        assert why in result.findings[0].message
        assert remedy in result.remediation
        assert "crl" not in result.remediation


def test_without_a_certificate_request_no_proxy_is_suspected(newest_etcd: Path) -> None:
    with start_process(replace(GOOD, client_cert_auth=False, trusted_ca_file=None), newest_etcd) as cluster:
        result = judge(cluster.target(), "mtls.lookalike-ca", Role.CLIENT)
    assert result.outcome is Outcome.VIOLATES
    assert result.remediation.startswith("this port requests no certificate")
    assert "terminates" not in result.remediation


_NO_LIST = b"no list"
_PEM_LIST = CertificateAuthority.create("clients").crl("pem")
_WITH_LISTS_IN_TLS = ("3.5.33", "3.6", "3.7")
"""Where the port for gRPC looks at the revocation list, in tls.Config.VerifyPeerCertificate."""


@pytest.mark.parametrize(
    ("crl", "lines", "why", "remedy"),
    [
        (_NO_LIST, _WITH_LISTS_IN_TLS, "is not a CRL that etcd can read", "replace it with a CRL in DER"),
        (_PEM_LIST, ("3.6", "3.7"), "is PEM, which etcd reads up to 3.5 only", "-outform DER"),
    ],
    ids=["no list", "PEM"],
)
def test_a_revocation_list_refuses_in_the_handshake_of_a_grpc_only_port(
    etcd_binary: Path, crl: bytes, lines: tuple[str, ...], why: str, remedy: str
) -> None:
    config = replace(BROKEN, client_http=True, client_crl_file="list.crl", extra_files={"list.crl": crl})
    with start_where_possible(config, etcd_binary) as cluster:
        result = _judge(cluster.target())
    if not any(binary_version(etcd_binary).startswith(line) for line in lines):
        assert result.outcome is Outcome.CONFORMS
        return
    message = result.findings[0].message
    assert "is refused: a port for gRPC alone reads the revocation list in the handshake" in message
    assert why in message
    assert remedy in result.remediation


def test_a_bundle_that_was_replaced_after_the_start_is_not_in_force(etcd_binary: Path) -> None:
    former = CertificateAuthority.create("former CA").certificate.public_bytes(Encoding.PEM)
    config = replace(BROKEN, trusted_ca_file="clients.crt", extra_files={"clients.crt": former})
    with start_process(config, etcd_binary) as cluster:
        (member,) = cluster.members
        member.file("clients.crt").write_bytes(member.file("client-ca.crt").read_bytes())
        result = _judge(cluster.target())
    message = result.findings[0].message
    assert "etcd was started before its CA, CN=etcd client-port CA, was in " in message
    assert "(trusted: CN=former CA)" in message
    assert result.remediation == "restart etcd, which reads --trusted-ca-file at start only"


def test_a_rule_about_names_is_named(etcd_binary: Path) -> None:
    config = replace(BROKEN, client_cert_allowed_hostname="client.internal")
    with start_process(config, etcd_binary) as cluster:
        target = cluster.target()
        undeclared = replace(
            target, declared={}, client=replace(target.client, allowed_hostname=(), allowed_cn=())
        )
        result, unknown = _judge(target), _judge(undeclared)
    assert result.outcome is Outcome.NOT_VERIFIED
    assert "a declared rule about names excludes" in result.reason
    assert "nothing in the certificate explains: an allowed name may" in unknown.findings[0].message


def test_a_list_in_pem_is_the_reason_whoever_is_on_it(etcd_binary: Path) -> None:
    """etcd 3.6 and newer cannot read it, so a new certificate would not help; older ones find the client."""
    authority = CertificateAuthority.create("lists")
    files = {"list.crl": authority.crl("pem")}
    with start_process(
        replace(BROKEN, client_crl_file="list.crl", extra_files=files), etcd_binary
    ) as cluster:
        authority.revoke(cluster.target().client.identities[0].chain[0])
        (member,) = cluster.members
        member.file("list.crl").write_bytes(authority.crl("pem"))
        result = _judge(cluster.target())
    is_read = version_key(cluster.version) < version_key("3.6")
    message = result.findings[0].message
    assert "closed by etcd" in message
    assert ("revokes its certificate" in message, "is PEM" in message) == (is_read, not is_read), message
