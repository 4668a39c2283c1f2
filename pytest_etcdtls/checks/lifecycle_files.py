"""What etcd does when its files change: the experiments, each with its checks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec.structs import replace

from pytest_etcdtls.checks.expectations import (
    ACCEPTED,
    NO_HANDSHAKE,
    REFUSED,
    REFUSED_OR_CLOSED,
    Expected,
    attempts_changed,
    experiment_check,
    finding,
    judge_steps,
)
from pytest_etcdtls.checks.judgement import SERVED
from pytest_etcdtls.checks.registry import check
from pytest_etcdtls.checks.results import Finding, Note, Statement, inconclusive, not_verified
from pytest_etcdtls.facts.experiments import Counts, Experiment, RenewalUnderLoad, Step
from pytest_etcdtls.lifecycle.settings import CRL_FILE, runs
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_pair
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.command import ACCEPTED_OR_NOT, curl, local, s_client
from pytest_etcdtls.untrusted.printable import pasted
from pytest_etcdtls.versions import Release

if TYPE_CHECKING:
    from pytest_etcdtls.lifecycle.lab import Clients, Lab

_GOOD_CLIENT, _OTHER_CA, _NAMED = "good client", "client of another CA", "named client"


_AT_HOME = "https://127.0.0.1:2379"
"""The client port of an etcd that the reader starts, with files of the names in these commands."""


def _reproduce(port: str, file: str) -> tuple[str, ...]:
    show = "openssl s_client -connect 127.0.0.1:%s </dev/null 2>/dev/null | openssl x509 -noout -fingerprint"
    return (
        show % port,
        f"{pasted('cp', 'new.crt', f'{file}.crt')}; {pasted('cp', 'new.key', f'{file}.key')}\n"
        "# etcd runs with --cert-file and --key-file of these",
        show % port,
        "openssl x509 -in new.crt -noout -fingerprint\n# look for this fingerprint in the second handshake",
    )


def _reload_pair(lab: "Lab", role: Role) -> Iterator[Step]:
    """Replace the certificate and key of a port, and observe which certificate new handshakes get."""
    served, new, file = lab.served(role), lab.another_pair(role), lab.file_of(role)
    yield Step(name="before", done="the cluster was started", attempts=lab.good_client(role, served))
    lab.member.replace_files(encode_pair(new, file))
    done = f"{file}.crt and {file}.key were replaced by another pair"
    yield Step(name="replaced", done=done, attempts=lab.good_client(role, new))
    lab.member.replace_files(encode_pair(served, file))


_RELOADED = (
    Expected("before", _GOOD_CLIENT, ACCEPTED, control=True),
    Expected("replaced", _GOOD_CLIENT, ACCEPTED),
)
_STALE = attempts_changed("replaced", _GOOD_CLIENT, chain=(b"0",))


@experiment_check("leaf-reload", *_RELOADED, reproduce=_reproduce("2379", "server"), counterexample=_STALE)
def a_new_pair_is_served_without_a_restart(lab: "Lab") -> Iterator[Step]:
    """A renewed certificate is served on the client port without a restart.

    Short-lived certificates depend on it: an etcd that keeps the certificate from its start serves an expired
    one eventually, and every client loses its connection at once.

    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Spec: etcd tests, TestTLSReloadAtomicReplace and TestTLSReloadCopy
    Spec: etcd --cert-file, --key-file
    Severity: high
    Level: MUST
    Remediation: restart this etcd, member by member, after every renewal of --cert-file and --key-file, and
        report it: etcd has read them at every handshake since 3.2.
    """
    return _reload_pair(lab, Role.CLIENT)


@experiment_check("peer-leaf-reload", *_RELOADED, reproduce=_reproduce("2380", "peer"), counterexample=_STALE)
def a_new_peer_pair_is_served_without_a_restart(lab: "Lab") -> Iterator[Step]:
    """A renewed certificate is served on the peer port without a restart.

    Members connect rarely, so a stale certificate is noticed only when a member returns, and then it cannot
    join.

    Spec: etcd Documentation, transport security model, notes for TLS authentication
    Spec: etcd tests, TestTLSReloadAtomicReplace and TestTLSReloadCopy
    Spec: etcd --peer-cert-file, --peer-key-file
    Severity: high
    Level: MUST
    Remediation: restart this etcd, member by member, after every renewal of --peer-cert-file and
        --peer-key-file, and report it: etcd has read them at every handshake since 3.2.
    """
    return _reload_pair(lab, Role.PEER)


@experiment_check(
    "half-pair-refused",
    Expected("half", _GOOD_CLIENT, NO_HANDSHAKE),
    Expected("empty", _GOOD_CLIENT, NO_HANDSHAKE),
    Expected("whole", _GOOD_CLIENT, ACCEPTED),
    reproduce=(
        local("cp", "new.crt", "server.crt"),
        s_client(_AT_HOME, look='"alert internal error": the key of new.crt is not there yet'),
    ),
)
def a_mismatched_pair_is_refused(lab: "Lab") -> Iterator[Step]:
    """Handshakes fail exactly while certificate and key on disk do not match.

    An etcd that serves during the mismatch does not read renewals; one that fails afterwards loses all its
    clients. Handshakes end with the alert internal_error (80) meanwhile. A renewal that changes the key has
    such a moment, however short. A renewal that keeps the key and renames the new certificate over the old
    one has none.

    Spec: etcd --cert-file, --key-file
    Spec: RFC 8446 section 6.2
    Severity: medium
    Level: MUST
    Remediation: if etcd serves during the mismatch, it does not read renewals at all: see
        lifecycle.leaf-reload. If it does not serve a matching pair again, restart etcd after a renewal of
        --cert-file and --key-file, and report it.
    """
    new = {role: lab.another_pair(role) for role in lab.good_clients}

    def after(done: str, name: str, files: Callable[[Role, str], Mapping[str, bytes]]) -> Step:
        """Replace files of both ports, then make attempts on both."""
        for role in new:
            lab.member.replace_files(files(role, lab.file_of(role)))
        attempts = (made for role in new for made in lab.good_client(role, new[role]))
        return Step(name=name, done=done, attempts=tuple(attempts))

    yield after(
        "the certificate was replaced, its key was not yet",
        "half",
        lambda role, file: {f"{file}.crt": encode_certificates(new[role].chain)},
    )
    yield after("the key was replaced too", "whole", lambda role, file: encode_pair(new[role], file))
    yield after("the certificate's file was emptied", "empty", lambda _, file: {f"{file}.crt": b""})
    for role in new:
        lab.member.replace_files(encode_pair(lab.served(role), lab.file_of(role)))


def _one_lost(load: RenewalUnderLoad) -> Mapping[str, Any]:
    counts = Counts(served=10, lost=1, examples=("new connection, http/1.1: unclear in connect: refused",))
    return {"load": replace(load, counts={**load.counts, "new connections": counts})}


@check("lifecycle.rotation-loses-no-request", on=set(), counterexample=_one_lost)
def a_renewal_loses_no_request(load: RenewalUnderLoad) -> Iterator[Statement]:
    """No request of a good client fails while the certificate is renewed.

    Otherwise every renewal interrupts clients. Both open and new connections are judged. The certificate is
    replaced by renaming and its key is kept, so that the files on disk match at any moment. A renewal that
    restarts etcd, as many do, loses the requests in progress.

    Spec: etcd tests, TestTLSReloadAtomicReplace
    Spec: etcd --cert-file, --key-file
    Severity: medium
    Level: MUST
    Remediation: do not restart etcd on a renewal of --cert-file, and replace files by renaming within one
        directory.
    """
    lost = {client: counts for client, counts in load.counts.items() if counts.lost}
    if lost:
        yield Finding(
            message=f"requests are lost while the certificate is renewed {load.renewals} times",
            expected="every request served",
            observed="; ".join(
                f"{client}: {counts.lost} of {counts.lost + counts.served + counts.unclear} lost"
                for client, counts in lost.items()
            ),
            evidence={
                "etcd": load.etcd_version,
                **{client: "; ".join(counts.examples) for client, counts in lost.items()},
            },
            reproduce=(
                "while :; do curl -fsS -k --cert client.crt --key client.key https://127.0.0.1:2379/version"
                " || echo lost; done",
                "cp renewed.crt server.crt.new; mv server.crt.new server.crt"
                '\n# in another shell; look for "lost" in the first shell',
            ),
        )
    for client, counts in load.counts.items():
        if counts.unclear:
            examples = "; ".join(counts.examples)
            yield inconclusive(f"{client}: {counts.unclear} without an answer in time: {examples}")
    if load.seen < load.renewals:
        yield not_verified(f"{load.seen} of {load.renewals} renewals were served: see lifecycle.leaf-reload")
    served = ", ".join(f"{counts.served} by {client}" for client, counts in load.counts.items())
    yield Note(f"{load.renewals} renewals, requests served: {served}")
    if load.paused:
        yield Note("no client connected while files were replaced, which is not atomic in a container")


_PEM_ENDS = Release(3, 6, 0, final=False)
"""The first release that reads a list in DER only."""

_CURL_OTHER_CA = curl(_AT_HOME, client="other")


@runs("ca-bundle")
def _ca_bundle(lab: "Lab") -> Iterator[Step]:
    """Add a CA to the bundles and remove it again, each time with attempts before and after a restart."""
    pki = lab.cluster.pki
    added = CertificateAuthority.create("another CA")
    clients: Clients = {
        _OTHER_CA: {
            Role.CLIENT: added.issue(pki.plan.client, name="client-of-another-ca"),
            Role.PEER: added.issue(pki.plan.peer_client, name="peer-of-another-ca"),
        },
        _GOOD_CLIENT: lab.good_clients,
    }

    def trust(*others: CertificateAuthority) -> None:
        lab.member.replace_files(
            {
                "client-ca.crt": encode_certificates(ca.certificate for ca in (pki.client_ca, *others)),
                "peer-ca.crt": encode_certificates(ca.certificate for ca in (pki.peer_ca, *others)),
            }
        )

    yield lab.step("before", "the bundles hold one CA each", clients)
    trust(added)
    yield lab.step("added", "another CA was added to both bundles", clients)
    lab.cluster.restart()
    yield lab.step("added, restarted", "etcd was restarted", clients)
    trust()
    yield lab.step("removed", "the other CA was taken out of both bundles", clients)
    lab.cluster.restart()
    yield lab.step("removed, restarted", "etcd was restarted", clients)


@check(
    "lifecycle.ca-bundle-read-at-start",
    on=set(),
    counterexample=attempts_changed("removed, restarted", _OTHER_CA, **SERVED),
)
def a_restarted_etcd_trusts_the_new_bundle(
    experiment: Annotated[Experiment, "ca-bundle"],
) -> Iterator[Statement]:
    """After a restart etcd trusts exactly the CAs in the bundle on disk.

    Otherwise a CA cannot be replaced: clients of a new CA are refused, or clients of a removed CA are still
    accepted.

    Spec: etcd --trusted-ca-file, --peer-trusted-ca-file
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: make sure that --trusted-ca-file and --peer-trusted-ca-file name the files that are replaced,
        and that etcd itself is restarted.
    """
    yield from judge_steps(
        experiment,
        [
            Expected("before", _GOOD_CLIENT, ACCEPTED, control=True),
            Expected("before", _OTHER_CA, REFUSED),
            Expected("added, restarted", _OTHER_CA, ACCEPTED),
            Expected("added, restarted", _GOOD_CLIENT, ACCEPTED),
            Expected("removed, restarted", _OTHER_CA, REFUSED),
            Expected("removed, restarted", _GOOD_CLIENT, ACCEPTED),
        ],
        ("cat other-ca.crt >> ca.crt\n# or take it out again; then restart etcd", _CURL_OTHER_CA),
    )


@check(
    "lifecycle.ca-bundle-needs-restart",
    on=set(),
    counterexample=attempts_changed("added", _OTHER_CA, **SERVED),
)
def a_bundle_change_needs_a_restart(experiment: Annotated[Experiment, "ca-bundle"]) -> Iterator[Statement]:
    """A change of the CA bundle has no effect until etcd is restarted.

    etcd reads the bundle only at start, unlike certificates and revocation lists. If a CA is removed and etcd
    is not restarted, the CA stays trusted. An etcd that behaves differently needs other instructions.

    Spec: etcd --trusted-ca-file, --peer-trusted-ca-file
    Spec: etcd issue 11555
    Severity: low
    Level: SHOULD
    Remediation: adapt the instructions for changing the CA in --trusted-ca-file: this etcd does not do what
        every release up to 3.7 does.
    """
    yield from judge_steps(
        experiment,
        [
            Expected("before", _GOOD_CLIENT, ACCEPTED, control=True),
            Expected("added, restarted", _OTHER_CA, ACCEPTED, control=True),
            Expected("added", _OTHER_CA, REFUSED),
            Expected("added", _GOOD_CLIENT, ACCEPTED),
            Expected("removed", _OTHER_CA, ACCEPTED),
            Expected("removed", _GOOD_CLIENT, ACCEPTED),
        ],
        ("cat other-ca.crt >> ca.crt\n# do not restart etcd", _CURL_OTHER_CA),
    )


def _clients_of_crl(lab: "Lab") -> "Clients":
    pki = lab.cluster.pki
    revoked_peer = pki.authorities.peer_issuer.issue(pki.plan.peer_client, name="revoked-peer")
    return {
        _NAMED: {Role.CLIENT: pki.revoked, Role.PEER: revoked_peer},
        _GOOD_CLIENT: lab.good_clients,
    }


def _replace_crl(lab: "Lab", named: Iterable[Identity] = (), encoding: Literal["der", "pem"] = "der") -> None:
    """Replace the CRL by one that lists exactly these identities."""
    signing = lab.cluster.pki.authorities.client_issuer
    # The same name and key, without the certificates that the cluster's own CA has revoked.
    issuer = CertificateAuthority.from_key(signing.certificate, signing.key)
    for identity in named:
        issuer.revoke(identity.chain[0])
    lab.member.replace_files({CRL_FILE: issuer.crl(encoding)})


@experiment_check(
    "crl-reload",
    Expected("empty", _GOOD_CLIENT, ACCEPTED, control=True),
    Expected("empty", _NAMED, ACCEPTED, control=True),
    Expected("listed", _NAMED, REFUSED_OR_CLOSED),
    Expected("listed", _GOOD_CLIENT, ACCEPTED),
    Expected("taken off", _NAMED, ACCEPTED),
    reproduce=(
        local("openssl", "crl", "-in", "list.pem", "-outform", "DER", "-out", "crl.der"),
        curl(
            _AT_HOME, client="revoked", look=f"{ACCEPTED_OR_NOT} (etcd runs with --client-crl-file=crl.der)"
        ),
    ),
)
def a_new_revocation_list_is_in_force_at_once(lab: "Lab") -> Iterator[Step]:
    """A new revocation list applies to the next connection.

    A certificate is revoked because its key was stolen. If the list applies only after a restart, the thief
    has access until then.

    Spec: etcd tests, TestCtlV3GetRevokedCRL
    Spec: etcd --client-crl-file, --peer-crl-file
    Spec: RFC 5280 section 5
    Severity: high
    Level: MUST
    Remediation: restart etcd after every change of --client-crl-file and --peer-crl-file, and report it:
        every release reads them at each connection.
    """
    clients = _clients_of_crl(lab)
    yield lab.step("empty", "the list is empty", clients)
    _replace_crl(lab, clients[_NAMED].values())
    yield lab.step("listed", "the list was replaced by one with the named client's certificate", clients)
    _replace_crl(lab)
    yield lab.step("taken off", "the list was replaced by an empty one again", clients)


_UNREADABLE = (
    local("openssl", "crl", "-inform", "DER", "-in", "crl.der", "-out", "crl.pem"),
    curl(_AT_HOME, client="client", look=f"{ACCEPTED_OR_NOT} (etcd runs with --client-crl-file=crl.pem)"),
)


def _effect_of_pem(experiment: Experiment) -> Iterator[Statement]:
    """Judge the effect of a list in PEM on good clients, by etcd's version, if no revoked one is let in."""
    if not all(made.attempt.ending in REFUSED_OR_CLOSED for made in experiment.step("pem").of(_NAMED)):
        return
    release = Release.parse(experiment.etcd_version)
    if release is None:
        yield not_verified(f"{experiment.etcd_version} is a version without known behaviour")
        return
    reads_pem = release < _PEM_ENDS
    expected = ACCEPTED if reads_pem else REFUSED_OR_CLOSED
    others = [made for made in experiment.step("pem").of(_GOOD_CLIENT) if made.attempt.ending not in expected]
    if any(made.attempt.ending is Ending.UNCLEAR for made in others):
        yield inconclusive("; ".join(made.describe() for made in others))
    elif others:
        yield finding(
            experiment,
            "pem",
            others,
            message="a list in PEM does not have the effect that is known for this version",
            expected="good clients accepted, the list read" if reads_pem else "every client refused",
            reproduce=_UNREADABLE,
        )
    else:
        yield Note(
            "a list in PEM is read" if reads_pem else "with a list in PEM every client is refused: use DER"
        )


@experiment_check(
    "crl-encoding",
    Expected("der", _GOOD_CLIENT, ACCEPTED, control=True),
    Expected("pem", _NAMED, REFUSED_OR_CLOSED),
    Expected("unreadable", _NAMED, REFUSED_OR_CLOSED),
    Expected("unreadable", _GOOD_CLIENT, REFUSED_OR_CLOSED),
    reproduce=_UNREADABLE,
    also=_effect_of_pem,
)
def an_unreadable_list_refuses_every_client(lab: "Lab") -> Iterator[Step]:
    """No client is accepted with a revocation list that this etcd cannot read.

    If clients are accepted with an unreadable list, revoked ones are among them. etcd up to 3.5 reads PEM and
    DER, 3.6 and newer read DER only: after an upgrade with a list in PEM, etcd refuses every client that
    presents a certificate.

    Spec: etcd --client-crl-file, --peer-crl-file
    Spec: RFC 5280 section 5
    Severity: high
    Level: MUST
    Remediation: convert the file of --client-crl-file to DER (`openssl crl -outform DER`) before an upgrade
        to 3.6; if a client is accepted with a list that cannot be read, do not rely on revocation with this
        etcd.
    """
    clients = _clients_of_crl(lab)
    _replace_crl(lab, clients[_NAMED].values(), encoding="pem")
    yield lab.step("pem", "the list with the named client's certificate is encoded as PEM", clients)
    lab.member.replace_files({CRL_FILE: b"this is not a list\n"})
    yield lab.step("unreadable", "the list's file was replaced by a file that is not a list", clients)
    _replace_crl(lab)
    yield lab.step("der", "the list is an empty one in DER", clients)
