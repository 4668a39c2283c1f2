"""URL lists as etcd reads them (``client/pkg/types.NewURLs``). Looks nothing up, connects to nothing."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

SCHEMES = ("http", "https", "unix", "unixs")


@dataclass(frozen=True, slots=True)
class DeclaredURL:
    """One URL of a list.

    Attributes:
        scheme: ``http``, ``https``, ``unix`` or ``unixs``, in lower case.
        host: without brackets; of a socket its path.
        port: 0 of a socket.
    """

    scheme: str
    host: str
    port: int

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme in ("https", "unixs")

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix domain socket, which nobody reaches from elsewhere."""
        return self.scheme in ("unix", "unixs")

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of the machine: ``0.0.0.0`` or ``::``."""
        return self.host in ("0.0.0.0", "::", "")  # noqa: S104 - compared, never bound

    @property
    def is_loopback(self) -> bool:
        """Whether only the machine itself reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def address(self) -> str:
        """``host:port``, an IPv6 address in brackets; what etcd tells its listeners apart by."""
        if self.is_socket:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


@dataclass(frozen=True, slots=True)
class URLList:
    """What a list of URLs comes to.

    Attributes:
        urls: without repetitions, in the order in which they are written.
        problems: why etcd refuses the list, one sentence for each URL that it refuses.
    """

    urls: tuple[DeclaredURL, ...]
    problems: tuple[str, ...] = ()


def parse_urls(text: str) -> URLList:
    """Return the URLs of a list with commas; an empty one has none."""
    urls: dict[DeclaredURL, None] = {}
    problems: list[str] = []
    for word in text.split(",") if text else ():
        try:
            urls[_parse(word.strip())] = None
        except ValueError as error:
            problems.append(f"{word.strip()!r}: {error}")
    return URLList(tuple(urls), tuple(problems))


def _parse(text: str) -> DeclaredURL:
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise ValueError("a URL begins with http://, https://, unix:// or unixs://")
    if parts.scheme in ("unix", "unixs"):
        return DeclaredURL(parts.scheme, parts.netloc + parts.path, 0)
    if parts.path:
        raise ValueError("nothing may stand behind the port, not even a slash")
    return DeclaredURL(parts.scheme, (parts.hostname or "").partition("%")[0], _port(parts))


def _port(parts: SplitResult) -> int:
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
        raise ValueError("an IPv6 address stands in brackets")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("its port is not a number up to 65535") from error
    if port is None:
        raise ValueError("it has no port")
    return port


def bind_problem(url: DeclaredURL) -> str | None:
    """Return why etcd refuses to listen there (``embed.checkBindURLs``), ``None`` if it does not."""
    if url.is_socket or url.host == "localhost":
        return None
    try:
        ipaddress.ip_address(url.host)
    except ValueError:
        return f"{url} names a host, and etcd listens on addresses (and localhost) only"
    return None
