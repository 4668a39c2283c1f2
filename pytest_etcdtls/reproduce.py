"""Shell lines that show a finding without this tool, each with a comment that says what to look for.

The lines turn server verification off, since other checks judge the served certificate. The comment is a
line of its own, since an interactive zsh takes a trailing comment for arguments.
"""

from __future__ import annotations

import shlex

from pytest_etcdtls.role import Protocol, TLSVersion

_TLS_FLAGS = {
    TLSVersion.TLS1_2: "--tlsv1.2 --tls-max 1.2",
    TLSVersion.TLS1_3: "--tlsv1.3",
}
GET_VERSION = r"printf 'GET /version HTTP/1.0\r\n\r\n'"
"""A shell command that prints a request."""
GOOD_CLIENT = ("client.crt", "client.key")
GOOD_PEER = ("peer.crt", "peer.key")
"""Placeholder for certificate and key of the client that a listener accepts; see :func:`with_files`."""

_SERVED = 'an HTTP status line: this client is accepted; "alert" or "Empty reply": it is refused'
_NEGOTIATED = '"Cipher is" and the name of a suite: accepted; "(NONE)" and "alert": refused'
STATUS = "the HTTP status and the body"
ANNOUNCED = '"Acceptable client certificate CA names", or "No client certificate CA names sent"'
IN_PLAINTEXT = 'an HTTP status line: plaintext is answered; "Empty reply" or "reset": it is not'
GROUP = '"Server Temp Key", "Peer Temp Key" or "Negotiated TLS1.3 group"; "alert": refused'
_VALIDITY = '"Not Before" and "Not After"'
_S_CLIENT_FLAGS = {TLSVersion.TLS1_2: "-tls1_2", TLSVersion.TLS1_3: "-tls1_3"}


def curl(
    url: str,
    *,
    role: str,
    path: str | None = None,
    files: tuple[str, str] | None = None,
    version: TLSVersion | None = None,
    protocol: Protocol = Protocol.HTTP1,
    look: str = "",
    then: str = "",
) -> str:
    """Return a curl line for an attempt; for gRPC, an etcdctl line.

    Args:
        url: the listener's.
        role: its role; the request to a metrics listener is ``/health``.
        path: of the URL, by default the path that attempts use.
        files: certificate and key to present.
        version: the only TLS version to offer.
        protocol: the protocol to use.
        look: what to look for in the output; by default, whether the client is accepted.
        then: a command that the output is piped into.
    """
    if protocol is Protocol.GRPC:
        return etcdctl(url, files)
    parts = ["curl", "-sS", "-i", "-k", "--http2" if protocol is Protocol.HTTP2 else "--http1.1"]
    if version is not None:
        parts.append(_TLS_FLAGS[version])
    if files is not None:
        parts += ["--cert", shlex.quote(files[0]), "--key", shlex.quote(files[1])]
    if protocol is Protocol.GATEWAY:
        parts += ["-d", "'{}'", f"{url}{path or '/v3/maintenance/status'}"]
    else:
        parts.append(f"{url}{path or ('/health' if role == 'metrics' else '/version')}")
    return look_for(" ".join([*parts, *(("|", then) if then else ())]), look or _SERVED)


def etcdctl(url: str, files: tuple[str, str] | None, command: str = "endpoint status", look: str = "") -> str:
    """Return an etcdctl line that makes a unary gRPC call.

    Up to version 3.5 etcdctl ignores --insecure-skip-tls-verify unless another option enables TLS, and fails
    with "unknown authority"; --insecure-transport=false is such an option.
    """
    parts = ["etcdctl", f"--endpoints={url}"]
    parts += ["--insecure-transport=false", "--insecure-skip-tls-verify"]
    if files is not None:
        parts += [f"--cert={shlex.quote(files[0])}", f"--key={shlex.quote(files[1])}"]
    accepted = f'"{url}," and more in a row: this client is accepted; "deadline exceeded": it is refused'
    return look_for(" ".join([*parts, command]), look or accepted)


def s_client(
    url: str,
    version: TLSVersion | None = None,
    options: str = "",
    files: tuple[str, str] | None = None,
    typed: str = "",
    look: str = "",
) -> str:
    """Return an ``openssl s_client`` line that shows the handshake.

    Args:
        url: the listener's.
        version: the only TLS version to offer.
        options: further options, verbatim.
        files: certificate and key to present.
        typed: a shell command that prints the standard input; without it the connection is closed at once.
        look: what to look for in the output; by default, whether the handshake succeeds.
    """
    return look_for(_s_client(url, version, options, files, typed), look or _NEGOTIATED)


def _s_client(
    url: str,
    version: TLSVersion | None = None,
    options: str = "",
    files: tuple[str, str] | None = None,
    typed: str = "",
) -> str:
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


def show_chain(url: str, look: str = "") -> str:
    """Return a line that prints the served certificates."""
    look = look or '"s:" and "i:": subject and issuer of each certificate that is served'
    return s_client(url, options="-showcerts", look=look)


def show_file(path: str, look: str = "") -> str:
    """Return a line that prints the first certificate of a file."""
    return look_for(f"openssl x509 -in {shlex.quote(path)} -noout -text", look or _VALIDITY)


def show_leaf(url: str, look: str = "") -> str:
    """Return a line that prints the served leaf."""
    return look_for(f"{_s_client(url)} 2>/dev/null | openssl x509 -noout -text", look or _VALIDITY)


def compare_leaf(url: str, path: str) -> str:
    """Return a line that compares the served leaf with a file that has one certificate."""
    served = f"{_s_client(url)} 2>/dev/null | openssl x509"
    return look_for(f"{served} | diff - {shlex.quote(path)} && echo same", '"same": it serves that file')


def look_for(command: str, what: str) -> str:
    """Return a command with a comment that says what to look for in its output."""
    return f"{command}\n# look for {what}"


def with_files(line: str, placeholder: tuple[str, str], files: tuple[str, str] | None) -> str:
    """Return a line with the placeholder replaced by the files of the accepted client."""
    for form in ("--cert {} --key {}", "--cert={} --key={}", "-cert {} -key {}"):
        quoted = form.format(*map(shlex.quote, files)) if files else ""
        line = line.replace(f" {form.format(*placeholder)}", f" {quoted}" if quoted else "")
    return line
