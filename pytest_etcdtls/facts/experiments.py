"""What an etcd does when its files or flags change: experiments on clusters of their own. Facts only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_etcdtls.tls.attempt import Attempt
from pytest_etcdtls.tls.hello import HelloExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentAttempt:
    """One identity tried at one moment of an experiment.

    Attributes:
        who: the identity in words.
        role: of the listener.
        attempt: the attempt that counts.
        on_disk: DER of the certificate that the listener's file held at that moment, where that matters.
    """

    who: str
    role: str
    attempt: Attempt
    on_disk: bytes | None = None

    def describe(self) -> str:
        """Return who came by what, and the end, in words."""
        offered = f" over {self.attempt.asked}" if self.attempt.asked else ""
        return f"{self.who}, {self.role} port, {self.attempt.protocol}{offered}: {self.attempt.describe()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What was done to the cluster, and who was tried then.

    Attributes:
        name: unique in the experiment.
        done: what was done, in words.
    """

    name: str
    done: str
    trials: tuple[ExperimentAttempt, ...]

    def of(self, who: str) -> tuple[ExperimentAttempt, ...]:
        """Return the trials of that identity.

        Raises:
            LookupError: if it was not tried.
        """
        found = tuple(trial for trial in self.trials if trial.who == who)
        if not found:
            raise LookupError(f"{who!r} was not tried in step {self.name!r}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Steps on a cluster that was started for them, from the same etcd as the one that is judged.

    Attributes:
        etcd_version: of that etcd.
        flags: with which the cluster was started beside mutual TLS on both ports.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOffer:
    """One TLS 1.2 cipher suite offered alone.

    Attributes:
        role: of the listener.
        suite: its name in the IANA registry.
        listed: it stands in ``--cipher-suites``.
    """

    role: str
    suite: str
    listed: bool
    greeting: HelloExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOffers:
    """Cipher suites offered one by one to an etcd with ``--cipher-suites``.

    Attributes:
        etcd_version: of that etcd.
        flags: with which the cluster was started beside mutual TLS on both ports.
    """

    etcd_version: str
    flags: tuple[str, ...]
    offers: tuple[SuiteOffer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests of a good client, counted.

    Attributes:
        served: how many were answered well.
        lost: how many were refused, answered with an error, or cut off.
        unclear: how many had no answer in time.
        examples: what became of the first that were not served, in words.
    """

    served: int
    lost: int = 0
    unclear: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalUnderLoad:
    """Requests of good clients while the certificate was renewed again and again, its key kept.

    Attributes:
        etcd_version: of that etcd.
        renewals: how often it was renewed.
        seen: how many of the renewed certificates were served.
        paused: new connections paused while files were replaced, as that is not atomic in a container.
        tallies: by kind of client, in words.
    """

    etcd_version: str
    renewals: int
    seen: int
    paused: bool
    tallies: Mapping[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignMember:
    """A member that came back with a peer certificate of another CA, and then with its own again.

    Attributes:
        etcd_version: of that etcd.
        rejected: the log line with which another member refused it, empty if there was none.
        joined: it took part with the foreign certificate, by its own log.
        joined_again: it took part with its own certificate, by its own log.
    """

    etcd_version: str
    rejected: str
    joined: bool
    joined_again: bool
