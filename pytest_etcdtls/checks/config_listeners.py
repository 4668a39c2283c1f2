"""The listeners are those that are declared, and speak what they are declared to speak."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_etcdtls.declared.beside import ListenersSeen, LoopbackAttempt, SeenListener
from pytest_etcdtls.declared.effective_listener import EffectiveListener
from pytest_etcdtls.declared.listeners import FLAGS
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import curl, s_client
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict


def _undeclared(listeners: ListenersSeen) -> Mapping[str, Any]:
    first, *others = listeners.seen
    stray = replace(first, declaration=replace(first.declaration, listener=None))
    return {"listeners": replace(listeners, seen=(stray, *others))}


@check("config.listeners-as-declared", on=set(), counterexample=_undeclared)
def listeners_are_as_declared(listeners: ListenersSeen) -> Iterator[Statement]:
    """Every listener is declared, answers as declared, and on no other address.

    One that nothing declares belongs to something else, or etcd was started with another declaration. So it
    was where a declared listener refuses connections while others of the member answer. A listener that is
    declared on loopback is tried once at the addresses that its member advertises: plain HTTP on every
    address is what such a declaration rules out. Those that are declared and cannot be reached from here are
    not verified.

    Spec: etcd --listen-client-urls, --listen-peer-urls, --listen-metrics-urls, --listen-client-http-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: restart etcd with what is declared, or declare what runs; name endpoints as etcd listens
        there, and with --etcd-connect-to how they are reached.
    """
    for seen in listeners.seen:
        declared = seen.declaration.listener
        if seen.refused and declared is not None and (others := listeners.beside(seen)):
            yield _refusing(seen, declared, others)
        elif not seen.answers:
            yield Verdict(Outcome.NOT_VERIFIED, f"{seen.declaration.url} does not answer: {seen.said}")
        elif declared is None:
            yield _nowhere_declared(seen)
        elif seen.plaintext and not declared.plaintext:
            yield _plaintext(seen, declared)
        elif not seen.plaintext and not declared.tls:
            yield _tls_alone(seen, declared)
    for found in listeners.elsewhere.attempts:
        if found.answers:
            yield _beyond_loopback(found)
    for reason in listeners.elsewhere.not_tried:
        yield Note(reason)
    for unseen in listeners.unseen:
        yield Verdict(Outcome.NOT_VERIFIED, unseen.reason)


def _nowhere_declared(seen: SeenListener) -> Finding:
    declaration = seen.declaration
    same = declaration.member.effective.at(declaration.role)
    return Finding(
        message=f"{declaration.url} answers, and nothing in {declaration.member.told.declaration.source} "
        f"declares such a {declaration.role} listener",
        expected="; ".join(map(_declared, same)) or f"no --{FLAGS[declaration.role]} is declared",
        observed=seen.said,
    )


def _refusing(seen: SeenListener, declared: EffectiveListener, others: Sequence[SeenListener]) -> Finding:
    url = seen.declaration.url
    answering = ", ".join(other.declaration.url for other in others)
    return Finding(
        message=f"{declared.url} is declared, and {url} refuses TCP connections, while the same member "
        f"answers at {answering}: etcd was started with something else, or a firewall refuses in its place",
        expected=_declared(declared),
        observed=seen.said.rpartition("; ")[2],
        reproduce=(curl(url, role=seen.declaration.role),),
    )


def _tls_alone(seen: SeenListener, declared: EffectiveListener) -> Finding:
    return Finding(
        message=f"{declared.url} is declared as http and answers TLS alone: etcd was started with something "
        "else, or something else answers here",
        expected=_declared(declared),
        observed=seen.said,
        reproduce=(s_client(seen.declaration.url),),
    )


def _beyond_loopback(found: LoopbackAttempt) -> Finding:
    attempt, declared = found.attempt, found.declared
    body = attempt.response.body[:60].decode("utf-8", "replace") if attempt.response else ""
    setting = declared.setting or f"{declared.url}, which is etcd's default"
    return Finding(
        message=f"{declared.url} is declared, on loopback alone, and {attempt.url} answers: etcd was started "
        "with something else, or something else answers there",
        expected=f"{setting}: no answer at another address",
        observed=attempt.describe() + (f" {body!r}" if body else ""),
        reproduce=(curl(attempt.url, role=declared.role),),
    )


def _plaintext(seen: SeenListener, declared: EffectiveListener) -> Finding:
    return Finding(
        message=f"{declared.url} is declared as https and answers plaintext: etcd was started with something "
        "else, or something else answers here",
        expected=_declared(declared),
        observed=seen.said,
        reproduce=(
            curl(
                seen.declaration.url.replace("https://", "http://"),
                role=seen.declaration.role,
            ),
        ),
    )


def _declared(listener: EffectiveListener) -> str:
    """Return how a listener is declared, with file and line."""
    setting = listener.declared.setting
    return str(setting) if setting is not None else f"{listener.url}, which is etcd's default"
