"""etcd's own logs, as the user named them.

Reads files, opens no connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd_log.source import FileLog, LogSource
from pytest_etcdtls.settings.expected import split_host
from pytest_etcdtls.settings.source import Source, option
from pytest_etcdtls.target import Listener

_NAME = "etcd_log"


def read_logs(
    source: Source, listeners: Sequence[Listener], *, more: bool = False
) -> Mapping[str, LogSource]:
    """Return the logs by host, the one for all hosts under the empty string.

    Args:
        source: of the values.
        listeners: that were named.
        more: listeners of other hosts may be found later.

    Raises:
        UsageError: if a file holds no etcd's log, a host is none of the endpoints', or two files claim one
            member.
    """
    claimed: dict[str, str] = {}
    logs: dict[str, LogSource] = {}
    hosts = sorted({listener.host for listener in listeners})
    for text in dict.fromkeys(source.texts(_NAME)):
        host, path = split_host(source, _NAME, text)
        if host is not None and host not in hosts and not more:
            known = ", ".join(hosts) or "none"
            raise UsageError(f"{option(_NAME)} {text!r} fits no listener given: their hosts are {known}")
        for other, first in claimed.items():
            if host is None or other in ("", host):
                whom = host or other or "every member"
                raise UsageError(
                    f"{option(_NAME)} {first!r} and {text!r} both claim {whom}: name the host of each, as "
                    "HOST=FILE"
                )
        claimed[host or ""] = text
        logs[host or ""] = FileLog.of(path, option=option(_NAME))
    return logs
