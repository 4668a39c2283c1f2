"""What a program that we start inherits: the environment variables of a list, and those that an option names.

Every program is started with :func:`child_environment`; a test over the source holds it. A child must not
inherit secrets (``ETCDTLS_KEY_PASSWORD``, ``ETCDCTL_USER``, tokens of a CI job), or settings of etcd and of
Go's TLS (``ETCD_*``, ``GODEBUG``, ``SSL_CERT_FILE``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

_INHERITED: Final = frozenset(
    {
        *("PATH", "HOME", "TMPDIR", "TMP", "TEMP", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT"),
        # A dynamically linked etcd or Python, and a container engine of this user, are found by these.
        *("LD_LIBRARY_PATH", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"),
    }
)
_OF_THE_ENGINE: Final = (
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
    *("DOCKER_API_VERSION", "SSH_AUTH_SOCK", "TC_HOST", "TESTCONTAINERS_HOST_OVERRIDE"),
    *("TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE", "TESTCONTAINERS_RYUK_DISABLED", "PYTHONPATH"),
)
"""By these Python finds docker-py, and docker-py, testcontainers and ssh find the engine. None is secret."""


def child_environment(also: Iterable[str] = (), *, engine: bool = False) -> dict[str, str]:
    """Return the environment of a child process: the named variables and no other.

    Args:
        also: names of further variables.
        engine: whether the child uses the container engine.
    """
    names = {*_INHERITED, *also, *(_OF_THE_ENGINE if engine else ())}
    return {name: value for name, value in os.environ.items() if name in names}
