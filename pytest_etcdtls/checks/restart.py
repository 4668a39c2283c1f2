"""What the next restart of etcd changes, by rehearsal (``--etcd-rehearse``)."""

import dataclasses
from collections.abc import Iterator

from pytest_etcdtls.checks.judgement import changed
from pytest_etcdtls.checks.registry import Counterexample, check
from pytest_etcdtls.checks.results import Finding, Note, Statement, not_verified
from pytest_etcdtls.facts.behaviour import GATEWAY, BehaviourChange
from pytest_etcdtls.facts.rehearsal import LISTENER, Rehearsal, Rehearsals
from pytest_etcdtls.facts.release import ACCEPTED_CLIENT
from pytest_etcdtls.target import StartFailure

_does_not_start = changed(
    "rehearsals.members.0",
    failure=StartFailure(member="process 1", reason="it ends with status 1: no such file: ca.crt"),
)


@check("restart.starts", on=set(), counterexample=_does_not_start)
def etcd_starts_again(rehearsals: Rehearsals) -> Iterator[Statement]:
    """With its settings and the files of now, etcd starts again.

    A running etcd has read its settings and its CA bundles when it started. A file that was removed, emptied
    or made unreadable since, or a setting that it refuses, shows at the next restart: the member is lost when
    the machine is rebooted. With --etcd-rehearse its program is started once more, where nothing is written
    and nothing gets out.

    Spec: etcd embed.StartEtcd
    Follows: config.key-matches-certificate
    Severity: high
    Level: MUST
    Remediation: mend what etcd's message names before etcd is restarted; until then it runs with what it read
        when it started.
    """
    for rehearsal in rehearsals.members:
        if rehearsal.failure is not None:
            yield Finding(
                message=f"{_after(rehearsal, rehearsals)} etcd does not start: {rehearsal.failure.reason}"
                f"{_because(rehearsal)}",
                expected="etcd starts with what is on disk",
                observed=rehearsal.failure.reason,
                evidence=_evidence(rehearsal) | {"log": "\n".join(rehearsal.failure.log)},
            )
    yield from map(not_verified, rehearsals.refused)


def _changed(topic: str, about: str, before: str, after: str) -> Counterexample:
    listeners = ("client-10.0.0.11-2379",)
    change = BehaviourChange(topic=topic, subjects=(about,), listeners=listeners, before=before, after=after)
    return changed("rehearsals.members.0", changes=(change,), causes=("ca.crt was changed",))


@check(
    "restart.listeners",
    on=set(),
    counterexample=_changed(LISTENER, "https://10.0.0.11:2379", "open", "not open"),
)
def the_same_listeners(rehearsals: Rehearsals) -> Iterator[Statement]:
    """A restart opens the listeners that are open now.

    Clients and the other members know the member by its URLs. An edited list of them is in force after the
    next restart only.

    Spec: etcd --listen-client-urls
    Severity: high
    Level: MUST
    Remediation: change the URLs back, or restart etcd when its clients and the other members know them.
    """
    yield from _changes(rehearsals, LISTENER)


@check(
    "restart.clients",
    on=set(),
    counterexample=_changed("access", "client (TLS 1.2, TLS 1.3)", "accepted", "refused"),
)
def the_same_clients(rehearsals: Rehearsals) -> Iterator[Statement]:
    """A restart accepts the clients and peers that are accepted now, and no other.

    etcd reads its CA bundles when it starts. A bundle that was renewed since refuses, after the restart, who
    has a certificate of the old CA, or accepts who was refused. Every identity of the run is presented to the
    rehearsed etcd as it was to the running one.

    Spec: etcd --trusted-ca-file
    Severity: critical
    Level: MUST
    Remediation: before etcd is restarted, issue those clients certificates that are accepted then, have the
        bundle hold both CAs until they have them, or undo the change.
    """
    for statement in _changes(rehearsals, "access"):
        if isinstance(statement, Finding) and statement.observed == "accepted":
            undo = "undo the change before etcd is restarted, unless those clients are to be let in"
            statement = dataclasses.replace(statement, remediation=undo)
        yield statement


@check(
    "restart.announced-ca",
    on=set(),
    counterexample=_changed("announced", "announced CAs (TLS 1.3)", "CN=old", "CN=new"),
)
def the_same_announced_cas(rehearsals: Rehearsals) -> Iterator[Statement]:
    """A restart requests client certificates of the CAs that are announced now.

    What etcd announces in its request for a certificate are the subjects in the bundle that it read when it
    started. Another list after the restart is another bundle: a CA that is trusted then, or is not any more.

    Spec: RFC 8446 section 4.2.4
    Follows: restart.clients
    Severity: high
    Level: MUST
    Remediation: restart etcd if the bundle is as it should be, while somebody watches; otherwise undo the
        change.
    """
    yield from _changes(rehearsals, "announced")


@check(
    "restart.certificate",
    on=set(),
    counterexample=_changed("certificate", "certificate", "CN=a (SHA-256 01)", "CN=b (SHA-256 02)"),
)
def the_same_certificate(rehearsals: Rehearsals) -> Iterator[Statement]:
    """A restart serves the certificate that is served now.

    etcd reads the files of its certificate and key for each connection, so a renewed file is served without a
    restart. Another certificate after the restart is that of another file: an edited setting.

    Spec: etcd --cert-file
    Severity: high
    Level: MUST
    Remediation: change the setting back, or restart etcd when its clients trust what is served then.
    """
    yield from _changes(rehearsals, "certificate")


@check(
    "restart.protocol",
    on=set(),
    counterexample=_changed("versions", "TLS versions", "TLS 1.2; TLS 1.3", "TLS 1.3"),
)
def the_same_protocol(rehearsals: Rehearsals) -> Iterator[Statement]:
    """A restart negotiates the TLS versions, cipher suites, groups and ALPN names of now.

    They are those of the settings, and of the Go release that the program was built with. An edited setting
    or a program that was replaced shows at the next restart.

    Spec: etcd --tls-min-version
    Follows: restart.clients
    Severity: medium
    Level: SHOULD
    Remediation: see that every client can negotiate what is offered then, or undo the change.
    """
    yield from _changes(rehearsals, "versions", "suites", "groups", "alpn")


@check(
    "restart.gateway",
    on=set(),
    counterexample=_changed(GATEWAY, "JSON gateway", "works", "does not work"),
)
def the_same_gateway(rehearsals: Rehearsals) -> Iterator[Statement]:
    """The JSON gateway works after a restart if it works now.

    The gateway is a client of etcd's own client port. It keeps one connection, with the certificate of
    --client-cert-file, else of --cert-file, which that port verified when the connection was made. If this
    certificate has expired since, or was replaced by one that the port refuses, the gateway works until etcd
    is restarted, and its clients get status 503 then. Of http and https client listeners, releases from
    3.4.25 and 3.5.8 on dial one, which they pick at each start. With a certificate that the https listener
    refuses, the gateway works or not by chance. Older releases with both at one address serve gRPC in plain
    text, and so the gateway, by chance.

    Spec: etcd --client-cert-file, --cert-file, --enable-grpc-gateway
    Follows: restart.clients, restart.certificate, cert.*, config.dials-with-valid-certificates,
        config.chain-closes
    Severity: high
    Level: MUST
    Remediation: before etcd is restarted, renew the pair with which the gateway dials etcd, that of
        --client-cert-file, else of --cert-file: from a CA of --trusted-ca-file, with clientAuth; or change
        the setting back.
    """
    needed = f"select the family api, too, and pass {ACCEPTED_CLIENT}"
    for statement in _changes(rehearsals, GATEWAY, needed=needed):
        if isinstance(statement, Finding) and (statement.expected, statement.observed) == _MENDED:
            yield Note(statement.message)
        else:
            yield statement


_MENDED = ("does not work", "works")


def _changes(
    rehearsals: Rehearsals, *topics: str, needed: str = "select the families mtls, cert and tls, too"
) -> Iterator[Statement]:
    """Yield the changes of these topics, or what is needed to observe them."""
    for rehearsal in rehearsals.members:
        yield from _changes_of(rehearsal, _after(rehearsal, rehearsals), *topics, needed=needed)
    yield from map(not_verified, rehearsals.refused)


def _changes_of(rehearsal: Rehearsal, after: str, *topics: str, needed: str) -> Iterator[Statement]:
    if rehearsal.failure is not None:
        yield not_verified(f"{after} etcd does not start: see restart.starts")
        return
    if not {LISTENER, *rehearsal.compared}.intersection(topics):
        what = "of the JSON gateway" if GATEWAY in topics else "of that"
        yield not_verified(f"nothing {what} was observed of the running etcd: {needed}")
        return
    for change in rehearsal.changes:
        if change.topic in topics:
            yield Finding(
                message=f"{after}, {change.text}{_because(rehearsal)}",
                expected=change.before,
                observed=change.after,
                evidence=_evidence(rehearsal),
                concerns=change.listeners,
            )
    for unknown in rehearsal.unknown:
        if unknown.topic in topics:
            yield not_verified(f"{after}, {unknown.text}")


def _after(rehearsal: Rehearsal, rehearsals: Rehearsals) -> str:
    return f"after a restart of {rehearsal.member}" if len(rehearsals.members) > 1 else "after a restart"


def _because(rehearsal: Rehearsal) -> str:
    return f"; {rehearsal.causes[0]}" if rehearsal.causes else ""


def _evidence(rehearsal: Rehearsal) -> dict[str, str]:
    changed = {"changed since the start": "\n".join(rehearsal.causes)} if rehearsal.causes else {}
    return {"started with": rehearsal.source, **changed}
