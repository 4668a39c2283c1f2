"""What the annotations of a fact mean, and which are refused. The facts are those of the package."""

from __future__ import annotations

from typing import Annotated

import pytest

from pytest_etcdtls.errors import RegistrationError
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.fact import (
    Each,
    Elsewhere,
    Need,
    Planned,
    Reading,
    fact,
    facts,
    need_of,
    same_key,
)
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import find_fact
from pytest_etcdtls.target import Listener, Target

LISTENER = Listener(
    role=Role.CLIENT, scheme="https", host="127.0.0.1", port=2379, member="m0", label="client-m0"
)
TARGET = Target(label="t", origin="live", listeners=(LISTENER,))


@pytest.mark.parametrize(
    ("annotation", "need"),
    [
        (FirstContact, Need(FirstContact)),
        (FirstContact | None, Need(FirstContact, None, Reading.OPTIONAL)),
        (
            Annotated[ClientExchange, "/health"] | None,
            Need(ClientExchange, "/health", Reading.OPTIONAL),
        ),
        (Annotated[ClientExchange, same_key], Need(ClientExchange, same_key)),
        (Each[Annotated[ClientExchange, "/health"]], Need(ClientExchange, "/health", Reading.EACH)),
        (Elsewhere[FirstContact], Need(FirstContact, None, Reading.ELSEWHERE)),
    ],
)
def test_an_annotation_says_what_is_read_and_how(annotation: object, need: Need) -> None:
    assert need_of(annotation) == need


@pytest.mark.parametrize("annotation", [FirstContact | ClientExchange | None, list[FirstContact], "x", None])
def test_another_annotation_is_refused(annotation: object) -> None:
    with pytest.raises(RegistrationError, match="is no type of fact"):
        need_of(annotation)


@pytest.mark.parametrize("annotations", [{}, {"return": None}, {"return": "Nowhere"}])
def test_a_fact_without_its_type_is_refused(annotations: dict[str, object]) -> None:
    def make() -> object:
        return None

    make.__annotations__ = annotations
    with pytest.raises(
        RegistrationError, match=r"test_facts\..*make: a function that makes a fact is annotated"
    ):
        fact(make)


def test_the_parameters_of_every_fact_are_known_facts() -> None:
    """A fact that nobody makes, or a Wire without connections=, would show only where the fact is used."""
    for each in facts().values():
        for key in (None, "none", "revoked", "/version"):
            for need, _ in each.reads(Planned(TARGET, LISTENER, key)):
                assert find_fact(need.type).type is need.type, f"{each.module} reads it"
