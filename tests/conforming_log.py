"""A conforming sample of what etcd logs of our connections; part of ``conforming``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pytest_etcdtls.etcd_log.events import Cause, Rejection
from pytest_etcdtls.etcd_log.matching import MatchedBy, compare_story
from pytest_etcdtls.facts.etcd_log import LogComparison, LoggedAttempt
from pytest_etcdtls.role import TLSVersion
from pytest_etcdtls.tls.attempt import Attempt


class Place(Protocol):
    """Where a sample is taken."""

    @property
    def url(self) -> str: ...

    @property
    def role(self) -> str: ...

    def refused(self, **changes: Any) -> Attempt: ...


def log_comparison(place: Place, key: str | None) -> LogComparison:
    """Return a log that has a line about every refusal of a client without a certificate."""
    line = Rejection(
        line=1,
        time=None,
        remote_address="127.0.0.1:40000",
        error="tls: client didn't provide a certificate",
        cause=Cause.NO_CERTIFICATE,
    )
    stories = {
        version: compare_story(place.refused(identity="none", asked=version), line) for version in TLSVersion
    }
    return LogComparison(
        url=place.url,
        role=place.role,
        source="/var/log/etcd.log",
        file="/var/log/etcd.log",
        compared=tuple(
            LoggedAttempt(
                purpose="sample",
                identity="none",
                version=version,
                protocol=place.refused().protocol,
                on_the_wire=story.on_the_wire,
                in_the_log=story.in_the_log,
                expected=story.expected,
                agree=story.agree,
                remote_address=line.remote_address,
                recognised_by=MatchedBy.ADDRESS,
            )
            for version, story in stories.items()
        ),
        unlogged=(),
    )


SAMPLES: dict[type[Any], Callable[..., Any]] = {LogComparison: log_comparison}
