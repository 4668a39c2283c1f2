"""Shell lines that show a finding without this tool.

Pure text. Server verification is off in them, since trust in what is served has checks of its own.
"""

from __future__ import annotations

import shlex

from pytest_etcdtls.observations.attempt import Protocol, TLSVersion

_TLS_FLAGS = {
    TLSVersion.TLS1_2: "--tlsv1.2 --tls-max 1.2",
    TLSVersion.TLS1_3: "--tlsv1.3",
}
GET_VERSION = r"printf 'GET /version HTTP/1.0\r\n\r\n'"
"""A shell command that prints a request."""
_S_CLIENT_FLAGS = {TLSVersion.TLS1_2: "-tls1_2", TLSVersion.TLS1_3: "-tls1_3"}


def curl(
    url: str,
    *,
    role: str,
    path: str | None = None,
    files: tuple[str, str] | None = None,
    version: TLSVersion | None = None,
    protocol: Protocol = Protocol.HTTP1,
) -> str:
    """Return a curl line for an attempt; for gRPC an etcdctl line, which speaks it.

    Args:
        url: the listener's.
        role: its role; a metrics listener is asked for ``/health``.
        path: of the URL, by default the one that attempts use.
        files: certificate and key to present.
        version: the only TLS version to offer.
        protocol: what to speak.
    """
    if protocol is Protocol.GRPC:
        return etcdctl(url, files)
    parts = ["curl", "-sS", "-k", "--http2" if protocol is Protocol.HTTP2 else "--http1.1"]
    if version is not None:
        parts.append(_TLS_FLAGS[version])
    if files is not None:
        parts += ["--cert", shlex.quote(files[0]), "--key", shlex.quote(files[1])]
    if protocol is Protocol.GATEWAY:
        parts += ["-d", "'{}'", f"{url}{path or '/v3/maintenance/status'}"]
    else:
        parts.append(f"{url}{path or ('/health' if role == 'metrics' else '/version')}")
    return " ".join(parts)


def etcdctl(url: str, files: tuple[str, str] | None, command: str = "endpoint status") -> str:
    """Return an etcdctl line that makes a unary gRPC call."""
    parts = ["ETCDCTL_API=3", "etcdctl", f"--endpoints={url}", "--insecure-skip-tls-verify"]
    if files is not None:
        parts += [f"--cert={shlex.quote(files[0])}", f"--key={shlex.quote(files[1])}"]
    return " ".join([*parts, command])


def s_client(
    url: str,
    version: TLSVersion | None = None,
    options: str = "",
    files: tuple[str, str] | None = None,
    typed: str = "",
) -> str:
    """Return an ``openssl s_client`` line that shows the handshake.

    Args:
        url: the listener's.
        version: the only TLS version to offer.
        options: further ones, verbatim.
        files: certificate and key to present.
        typed: a shell command that prints what is typed in; without one the connection is closed at once.
    """
    parts = ["openssl s_client -connect", url.partition("://")[2]]
    if version is not None:
        parts.append(_S_CLIENT_FLAGS[version])
    if options:
        parts.append(options)
    if files is not None:
        parts += ["-cert", shlex.quote(files[0]), "-key", shlex.quote(files[1])]
    if typed:
        return f"({typed}; sleep 2) | {' '.join(parts)}"
    return " ".join([*parts, "</dev/null"])


def show_chain(url: str) -> str:
    """Return a line that prints the served certificates."""
    return s_client(url, options="-showcerts")


def show_file(path: str) -> str:
    """Return a line that prints the first certificate of a file."""
    return f"openssl x509 -in {shlex.quote(path)} -noout -text"


def show_leaf(url: str) -> str:
    """Return a line that prints the served leaf."""
    return s_client(url) + " 2>/dev/null | openssl x509 -noout -text"
