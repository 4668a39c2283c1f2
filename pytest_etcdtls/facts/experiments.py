"""Experiments on owned clusters: what etcd does when its files or flags change. Facts only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from pytest_etcdtls.tls.attempt import Attempt


class ExperimentAttempt(Struct, frozen=True, kw_only=True):
    """One attempt with one identity in a step of an experiment.

    Attributes:
        who: the identity in words.
        attempt: the attempt that counts.
        on_disk: DER of the certificate in the listener's file at that time, where relevant.
    """

    who: str
    role: str
    attempt: Attempt
    on_disk: bytes | None = None

    def describe(self) -> str:
        """Return the identity, the connection and how the attempt ended, in words."""
        offered = f" over {self.attempt.offered_version}" if self.attempt.offered_version else ""
        return f"{self.who}, {self.role} port, {self.attempt.protocol}{offered}: {self.attempt.describe()}"


class Step(Struct, frozen=True, kw_only=True):
    """A change to the cluster, and the attempts made after it.

    Attributes:
        name: unique in the experiment.
        done: what was done, in words.
    """

    name: str
    done: str
    attempts: tuple[ExperimentAttempt, ...]

    def of(self, who: str) -> tuple[ExperimentAttempt, ...]:
        """Return the attempts of that identity.

        Raises:
            LookupError: if it was not tried.
        """
        attempts = tuple(made for made in self.attempts if made.who == who)
        if not attempts:
            raise LookupError(f"{who!r} was not tried in step {self.name!r}")
        return attempts


class Experiment(Struct, frozen=True, kw_only=True):
    """Steps on a cluster that was started for the experiment, from the same etcd as the judged one.

    Attributes:
        etcd_version: of that etcd.
        flags: of the cluster, in addition to those for mutual TLS on both ports.
        steps: in the order in which they were taken.
    """

    name: str
    etcd_version: str
    flags: tuple[str, ...]
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """Return the step of that name.

        Raises:
            LookupError: if there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise LookupError(f"experiment {self.name!r} has no step {name!r}")


class Counts(Struct, frozen=True, kw_only=True):
    """Counts of a good client's requests.

    Attributes:
        served: requests answered without an error.
        lost: requests refused, answered with an error, or cut off.
        unclear: requests without an answer in time.
        examples: how the first requests that were not served ended, in words.
    """

    served: int
    lost: int = 0
    unclear: int = 0
    examples: tuple[str, ...] = ()


class RenewalUnderLoad(Struct, frozen=True, kw_only=True):
    """Requests of good clients while the certificate was renewed repeatedly with the same key.

    Attributes:
        etcd_version: of that etcd.
        renewals: number of renewals.
        seen: number of renewed certificates that were served.
        paused: new connections paused while files were replaced, since that is not atomic in a container.
        counts: by kind of client.
    """

    etcd_version: str
    renewals: int
    seen: int
    paused: bool
    counts: Mapping[str, Counts] = {}


class ForeignMember(Struct, frozen=True, kw_only=True):
    """A member restarted with a peer certificate of another CA, and then with its own again.

    Attributes:
        etcd_version: of that etcd.
        rejected: the line in another member's log that it was rejected, empty if there was none.
        joined: according to its own log, it joined with the foreign certificate.
        joined_again: according to its own log, it joined with its own certificate.
    """

    etcd_version: str
    rejected: str
    joined: bool
    joined_again: bool


def is_of_experiment(type_: type[Any]) -> bool:
    """Return whether a type of observation is that of an experiment."""
    return type_.__module__ == __name__
