"""What differs between two runs of the same code on the same cluster, and what is kept in its place.

Every cluster has ports, directories, keys and times of its own. They are replaced in every text by words in
angle brackets, so that all that remains is what the code says. A port keeps the listener that it belongs to:
``https://127.0.0.1:<client-m0>``.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from typing import Any

_TIME = r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?"
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"

_PATTERNS = [
    (re.compile(pattern), instead)
    for pattern, instead in (
        # Names that the program draws.
        (rf"{re.escape(tempfile.gettempdir())}/[\w.-]+", "<directory>"),
        (r"pytest-etcdtls-[0-9a-f]{8,}", "pytest-etcdtls-<token>"),
        # Points in time: ISO 8601, HTTP, OpenSSL, Go.
        (rf"\d{{4}}-\d\d-\d\d[T ]{_TIME}(?: ?(?:UTC|Z|[+-]\d\d:?\d\d))*", "<time>"),
        (rf"<time> to {_TIME} UTC", "<time>"),
        (rf"[A-Z][a-z]{{2}}, \d\d {_MONTH} \d{{4}} {_TIME} GMT", "<time>"),
        (rf"{_MONTH} +\d+ {_TIME} \d{{4}} GMT", "<time>"),
        (r"\b20\d\d-\d\d-\d\d\b", "<date>"),
        (r"(?<![\w.])\d+\.\d+ ?(?=m?s\b)", "<number> "),
        # The last part of a text that is cut, which may have a number of another length before it.
        (r",[^,\n]*…", ",…"),
        # Octets, which are random numbers of a hello, identifiers, or a certificate.
        (r"\\x[0-9a-f]{2}.*", "<octets>"),
        # How much of its own an experiment does in its time.
        (r"\d+ by new connections, \d+ by an open connection", "<number> by new connections and an open one"),
        # Fingerprints, serial numbers, key identifiers, ids of members, encoded certificates.
        (r"\b[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){7,}\b", "<hexadecimal>"),
        (r"(?<![0-9A-Za-z])(?:0x)?(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{14,}(?![0-9A-Za-z])", "<hexadecimal>"),
        (r"(?<![\d.])\d{14,}(?!\d)", "<number>"),
        (r"(?=[A-Za-z0-9+/]*[a-z])(?=[A-Za-z0-9+/]*\d)[A-Za-z0-9+/]{60,}={0,2}", "<base64>"),
        # Ports that the system has chosen for us.
        (r"\b(127(?:\.\d+){3}|\[::1\]):\d{5}\b", r"\1:<port>"),
    )
]


class Volatile:
    """Replaces what differs.

    Args:
        ports: the name of each port of the cluster.
    """

    def __init__(self, ports: Mapping[int, str]) -> None:
        # Small numbers are not drawn, and are in other texts.
        self._ports = {str(port): name for port, name in ports.items() if port >= 10000}
        self._port = re.compile(rf"(?<![0-9A-Za-z.])({'|'.join(self._ports) or '(?!)'})(?![0-9A-Za-z])")

    def text(self, text: str) -> str:
        """Return the text without what differs."""
        text = self._port.sub(lambda match: f"<{self._ports[match[1]]}>", text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def value(self, value: Any) -> Any:
        """Return a JSON value in which every text and every key is without what differs."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {self.text(str(key)): self.value(item) for key, item in value.items()}
            case list() | tuple():
                return [self.value(item) for item in value]
        return value
