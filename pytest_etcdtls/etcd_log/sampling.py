"""What etcd leaves out of its log: from the 101st line on that is alike in one second.

Measured on 3.5.1 to 3.7.3, whose loggers are zap's with its sampling; 3.4's text leaves nothing out. Knows no
connection of ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from pytest_etcdtls.etcd_log.rejections import Rejection

IN_A_SECOND: Final = 100
"""Lines that are alike and written in one second; of the others it is one in a hundred."""


def is_thinned_out(rejections: Iterable[Rejection]) -> bool:
    """Return whether so many connections were rejected in some second that etcd left lines out."""
    times: dict[str | None, list[datetime]] = defaultdict(list)
    for rejection in rejections:
        if rejection.time is not None:
            times[rejection.endpoint].append(rejection.time)
    return any(
        last - first <= timedelta(seconds=1)
        for alike in map(sorted, times.values())
        for first, last in zip(alike, alike[IN_A_SECOND - 1 :], strict=False)
    )
