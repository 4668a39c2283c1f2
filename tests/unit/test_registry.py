"""A check that does not follow the contract is refused at import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import pytest
from conforming import sample_listener
from msgspec.structs import replace
from starting import start_process

from pytest_etcdtls.checks import registry
from pytest_etcdtls.checks.registry import Check, catalogue, check, registered
from pytest_etcdtls.checks.results import Finding, Level, Severity, Statement
from pytest_etcdtls.errors import RegistrationError
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.fact import Each, Lazy, Need
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.conforming import observers, prove_check
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Response

GOOD = """Something holds.

Why it matters,
in two lines.

Spec: RFC 5280 section 4.1
Spec: etcd --{peer}cert-file
Severity: high
Level: MUST
Remediation: set --{peer}cert-file, --listen-{role}-urls,
    and --{side}-crl-file.
"""


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_CHECKS", {})


def _register(id_: str = "cert.sample", docstring: str = GOOD, on: Iterable[Role] = {Role.CLIENT}) -> Check:
    def sample(chain: ServedChain, exchange: Annotated[ClientExchange, "/version"]) -> Iterator[Statement]:
        yield from ()

    sample.__doc__ = docstring
    check(id_, on=set(on), counterexample=lambda **_: {})(sample)
    return registered()[id_]


def test_a_check_is_registered_with_all_parts_of_its_docstring() -> None:
    assert "cert.sample" not in catalogue()
    made = _register()
    assert catalogue()["cert.sample"] is made
    assert made.requirement == "Something holds."
    assert made.explanation == "Why it matters,\nin two lines."
    assert made.references == ("RFC 5280 section 4.1", "etcd --{peer}cert-file")
    assert (made.severity, made.level) == (Severity.HIGH, Level.MUST)
    assert made.needs == {"chain": Need(ServedChain), "exchange": Need(ClientExchange, "/version")}
    assert made.family == "cert"
    for role, prefix, side in ((Role.PEER, "peer-", "peer"), (Role.CLIENT_HTTP, "", "client")):
        flags = f"set --{prefix}cert-file, --listen-{role}-urls, and --{side}-crl-file."
        assert made.remedy(role) == flags
    assert made.sources(Role.PEER)[1] == "etcd --peer-cert-file"


def test_a_check_may_take_the_listener_the_target_and_a_fact_of_every_listener() -> None:
    def sample(here: Listener, target: Target, chains: Each[ServedChain]) -> Iterator[Statement]:
        others = [listener for listener in target.listeners if listener is not here]
        alike = [listener for listener in others if chains.at(listener).leaf == chains.at(here).leaf]
        if alike:
            yield Finding("alike", "different", "alike")

    def alike(here: Listener, chains: Each[ServedChain], **_: object) -> dict[str, object]:
        return {"chains": Each.of({listener: chains.at(here) for listener, _ in chains})}

    sample.__doc__ = GOOD
    check("cert.sample", on={Role.PEER}, counterexample=alike)(sample)
    made = registered()["cert.sample"]
    prove_check(made)
    target, peer = observers()[0].target, sample_listener(Role.PEER)
    assert made.given == {"here": Listener, "target": Target}
    assert list(made.reads(target, peer)) == [(there, ServedChain, None) for there in target.listeners]


RANGE = 'POST /v3/kv/range\nContent-Type: application/json\n\n{"key":"aGVhbHRo"}'


def test_a_check_of_a_request_that_is_not_recorded_is_proved_on_a_real_etcd(newest_etcd: Path) -> None:
    def sample(exchange: Annotated[ClientExchange, RANGE]) -> Iterator[Statement]:
        if exchange.attempt.response is None or exchange.attempt.response.status != 200:
            yield Finding(message="refused", expected="HTTP 200", observed=exchange.attempt.describe())

    def refused(exchange: ClientExchange) -> dict[str, object]:
        attempt = replace(exchange.attempt, response=Response(status=403, headers={}, body=b"no"))
        return {"exchange": replace(exchange, tries=(attempt,))}

    sample.__doc__ = GOOD
    check("cert.sample", on={Role.CLIENT}, counterexample=refused)(sample)
    said = "the recording has no request 'POST /v3/kv/range, as client over http/1.1"
    with pytest.raises(
        AssertionError, match=rf"{said}.* ask a real etcd: .*observer=etcd_observer"
    ) as raised:
        prove_check(sample)
    assert "record_conforming" not in str(raised.value)
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        prove_check(sample, observer=Observer(cluster.target()))
    with (
        start_process(ClusterConfig(authentication=True), newest_etcd) as cluster,
        pytest.raises(AssertionError, match="has findings about a conforming etcd"),
    ):
        prove_check("cert.sample", observer=Observer(cluster.target()))


LEVEL = "Level: MUST"


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        *(({"id_": id_}, r"family\.fact") for id_ in ("cert", "Cert.sample", "cert.a b", "cert.sample.x")),
        *(({"id_": id_}, "prefix") for id_ in ("mtls.taken", "mtls.taken-more", "mtls.tak")),
        ({"id_": "config.next-version"}, r"config\.next-version was removed: .* not used again"),
        *(
            ({"docstring": GOOD.replace(*change)}, said)
            for change, said in (
                (("Severity: high\n", ""), "lacks the field Severity"),
                ((LEVEL, "Level: MAY"), "MAY"),
                ((LEVEL, f"{LEVEL}\nLevel: SHOULD"), "Level: twice"),
                (("    and --{side}-crl-file.", "\nand more prose"), "prose after the fields"),
                ((GOOD, ""), "no docstring"),
                # The sample judges the client port alone, so that there is nothing else.
                ((LEVEL, f"{LEVEL} on peer, else SHOULD"), "Level: "),
                ((LEVEL, f"{LEVEL} on client, else SHOULD"), "Level: "),
                ((LEVEL, f"{LEVEL} sometimes"), "Level: "),
                ((LEVEL, "Level: SHOULD, MUST if"), "Level: "),
            )
        ),
    ],
)
def test_an_id_or_a_docstring_is_refused(sample: dict[str, str], said: str) -> None:
    _register("mtls.taken")
    with pytest.raises(RegistrationError, match=said):
        _register(**sample)  # type: ignore[arg-type]


def _not_a_generator(chain: ServedChain) -> Iterator[Statement]:
    return iter(())


def _later(chain: Lazy[ServedChain]) -> Iterator[Statement]:
    yield from ()


def _untyped(chain) -> Iterator[Statement]:  # type: ignore[no-untyped-def]  # noqa: ANN001
    yield from ()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_not_a_generator, "not a generator"),
        (_later, "parameter 'chain' is not annotated with a type of fact"),
        (_untyped, "'chain' is not annotated"),
    ],
)
def test_another_function_is_refused(
    function: Callable[..., Iterator[Statement]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function, "__doc__", GOOD)
    with pytest.raises(RegistrationError, match=said):
        check("cert.sample", on={Role.CLIENT}, counterexample=lambda **_: {})(function)


def test_a_level_may_depend_on_the_role_or_the_finding() -> None:
    made = _register(docstring=GOOD.replace("MUST", "MUST on peer, metrics, else SHOULD"), on=set(Role))
    assert (made.level, made.level_text) == (Level.MUST, "MUST on peer, metrics, else SHOULD")
    assert {role for role in Role if made.level_on(role) is Level.MUST} == {Role.PEER, Role.METRICS}
    assert not made.lowers
    made = _register("cert.other", docstring=GOOD.replace("MUST", "MUST, SHOULD where no client is refused"))
    assert (made.level, made.lowers, made.level_on(Role.CLIENT)) == (Level.MUST, True, Level.MUST)
