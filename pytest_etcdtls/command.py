"""Commands to paste, which show a finding without this tool.

A check knows what a client does to see the finding: URL, identity, TLS version, request. It does not know how
the listener is reached, where the identity's files are, or what the reader's shell exports. So a check yields
a :class:`Command`, and the run renders it once, for a :class:`Shell`, when the result is complete. The line
that is rendered is for people: nothing searches or changes it. Text that a check yields is taken as it is.

*Programs.* A command needs curl, openssl or etcdctl. It does not verify the server, since other checks judge
the served certificate.

*Words.* A line is pasted into a shell, and hosts, paths and names come from files and servers. Each word is
quoted by itself, in ``$'...'`` if it is not printable (``shell_word``). So no word breaks the line, and a
command is one line. Only ``begins`` and ``ends`` are code of a shell, which this package writes.

*Comments.* What to look for is a line of its own, since an interactive zsh takes a comment behind a command
for arguments. Its line breaks are escaped.

*Identities.* A command names its identity as the run does. The shell knows the files of one that has files,
and the recipe of one that the run has made in memory, which is pasted in front.

*Addresses.* The rules of ``--etcd-connect-to`` are followed. curl has the same option. ``openssl s_client``
connects to the other address, and is told the server name of the URL. etcdctl can do neither, so its endpoint
is the other address. The zone of an IPv6 address is written as it is, and in etcdctl's URL with ``%25``
(RFC 6874 section 2), since Go's ``net/url`` refuses a bare ``%``.

*Variables.* etcdctl reads each flag from a variable too. It ends with an error if both are there
(``SetPflagsFromEnv`` in etcd's pkg/flags), and a command without a certificate would present that of
``ETCDCTL_CERT``. ``env -u`` takes exported variables away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import authority
from pytest_etcdtls.errors import escaped
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, PortCredentials, Target, is_address
from pytest_etcdtls.untrusted import shell_word

GOOD_CLIENT: Final = ""
"""In the place of an identity's name: the client that the listener accepts."""

STATUS: Final = "the HTTP status and the body"
ANNOUNCED: Final = '"Acceptable client certificate CA names", or "No client certificate CA names sent"'
IN_PLAINTEXT: Final = 'an HTTP status line: plaintext is answered; "Empty reply" or "reset": it is not'
GROUP: Final = '"Server Temp Key", "Peer Temp Key" or "Negotiated TLS1.3 group"; "alert": refused'
_SERVED = 'an HTTP status line: this client is accepted; "alert" or "Empty reply": it is refused'
_NEGOTIATED = '"Cipher is" and the name of a suite: accepted; "(NONE)" and "alert": refused'
_VALIDITY = '"Not Before" and "Not After"'

GET_VERSION: Final = r"printf 'GET /version HTTP/1.0\r\n\r\n'"
"""A shell command that prints a request."""

_CURL_VERSIONS = {
    TLSVersion.TLS1_2: ("--tlsv1.2", "--tls-max", "1.2"),
    TLSVersion.TLS1_3: ("--tlsv1.3",),
}
S_CLIENT_VERSIONS: Final = {TLSVersion.TLS1_2: "-tls1_2", TLSVersion.TLS1_3: "-tls1_3"}
"""The options of ``openssl s_client`` that offer one TLS version alone."""


class Program(StrEnum):
    """What a command renders as."""

    CURL = "curl"
    ETCDCTL = "etcdctl"
    S_CLIENT = "openssl s_client"
    ANY = ""
    """A program that contacts no listener; its name is the first of the options."""


class Shell(Struct, frozen=True):
    """Where commands are pasted.

    Attributes:
        target: the cluster, with its listeners, rules and credentials.
        identity: returns the identity that was presented to a listener under a name, ``None`` if none was.
        exported: names of the environment variables.
    """

    target: Target
    identity: Callable[[Listener, str], Identity | None] = lambda _, __: None
    exported: tuple[str, ...] = ()

    def lines(self, commands: Iterable[Command | str]) -> tuple[str, ...]:
        """Return what is pasted here, with the recipes of identities in front; text as it is."""
        lines: list[str] = []
        for command in commands:
            if isinstance(command, str):
                lines.append(command)
            else:
                recipe = self.client(command).recipe
                lines += [*(line for line in recipe if line not in lines), command.render(self)]
        return tuple(lines)

    def client(self, command: Command) -> Identity:
        """Return the identity that the command presents, for its files and the recipe of them."""
        name, listener = command.client, self.listener(command.url)
        if name == NO_CERTIFICATE.name or command.url.startswith("http:"):
            return NO_CERTIFICATE
        if listener and (identity := self.identity(listener, name)):
            return identity
        if name != GOOD_CLIENT:
            return Identity(name=name)
        side = self.target.credentials(Role.PEER if self.role(command) == Role.PEER else Role.CLIENT)
        return next((one for one in side.identities if one.certificate_file), NO_CERTIFICATE)

    def role(self, command: Command) -> str:
        """Return the role of the listener that the command contacts."""
        listener = self.listener(command.url)
        return listener.role if listener else command.role

    def redirected(self, url: str) -> tuple[str, int] | None:
        """Return host and port to connect to instead, ``None`` for those of the URL."""
        if listener := self.listener(url):
            return listener.connect_to
        rules = (rule.redirected(*_host_and_port(url)) for rule in self.target.connect_to)
        return next(filter(None, rules), None)

    def listener(self, url: str) -> Listener | None:
        """Return the listener at the host and the port of a URL, whatever its scheme."""
        of_url = _authority(url)
        return next((found for found in self.target.listeners if found.authority == of_url), None)


def _usual(name: str) -> PortCredentials:
    return PortCredentials(identities=(Identity(name=name, certificate_file=f"{name}.crt"),))


ANY_SHELL: Final = Shell(
    Target(label="", origin="live", listeners=(), client=_usual("client"), peer=_usual("peer"))
)
"""Where nothing is known but the usual names of files."""


class Command(Struct, frozen=True, kw_only=True):
    """One request to a listener, or one look at a file.

    Attributes:
        program: the program that makes it.
        url: scheme, host and port; with ``http``, nothing of TLS is in the command.
        role: of the listener, if it is none of the target's.
        path: what is requested of the URL; by default what attempts request of a listener of that role.
        connect_to: host and port to connect to instead; by default what the target's rules say.
        options: the first words behind the program.
        client: name of the identity to present, or :data:`GOOD_CLIENT`.
        words: the last words, before the URL of curl.
        begins: shell code in front of the words.
        ends: shell code behind them.
        look: what to look for in the output; empty for what the program prints by itself, or nothing.
    """

    program: Program
    url: str = ""
    role: str = Role.CLIENT
    path: str | None = None
    connect_to: tuple[str, int] | None = None
    options: tuple[str, ...] = ()
    client: str = NO_CERTIFICATE.name
    words: tuple[str, ...] = ()
    begins: str = ""
    ends: str = ""
    look: str = ""

    def __str__(self) -> str:
        return self.render(ANY_SHELL)

    def render(self, shell: Shell) -> str:
        """Return the line to paste there, and a comment that says what to look for."""
        there = self.connect_to or shell.redirected(self.url)
        files = _files(shell.client(self))
        look = self.look
        match self.program:
            case Program.CURL:
                usual = "/health" if shell.role(self) == Role.METRICS else "/version"
                words = self._curl(there, files, usual if self.path is None else self.path)
            case Program.S_CLIENT:
                words = self._s_client(there, files)
            case Program.ETCDCTL:
                url = self._etcdctls_url(there)
                words = (*without_variables(shell.exported), *self._etcdctl(url, files))
                look = look or _of_status(url)
            case Program.ANY:
                words = self.options
        line = f"{self.begins}{' '.join(map(shell_word, words))}{self.ends}"
        return f"{line}\n# look for {escaped(look)}" if look else line

    def _curl(self, there: tuple[str, int] | None, files: tuple[str, ...], path: str) -> tuple[str, ...]:
        connect = ("--connect-to", f"::{authority(*there)}") if there else ()
        presented = ("--cert", files[0], "--key", files[1]) if files else ()
        return ("curl", *self.options, *connect, *presented, *self.words, f"{self.url}{path}")

    def _s_client(self, there: tuple[str, int] | None, files: tuple[str, ...]) -> tuple[str, ...]:
        name: tuple[str, ...] = ()
        if there and not {"-servername", "-noservername"} & {*self.options}:
            # openssl sends the host of -connect by SNI, unless it is an address.
            usual, host = ("" if is_address(one) else one for one in (there[0], _host_and_port(self.url)[0]))
            name = () if host == usual else ("-servername", host) if host else ("-noservername",)
        presented = ("-cert", files[0], "-key", files[1]) if files else ()
        address = authority(*there) if there else _authority(self.url)
        return ("openssl", "s_client", "-connect", address, *self.options, *name, *presented)

    def _etcdctl(self, url: str, files: tuple[str, ...]) -> tuple[str, ...]:
        # Up to version 3.5 etcdctl ignores --insecure-skip-tls-verify unless another option enables TLS, and
        # fails with "unknown authority"; --insecure-transport=false is such an option.
        tls = ("--insecure-transport=false", "--insecure-skip-tls-verify")
        presented = (f"--cert={files[0]}", f"--key={files[1]}") if files else ()
        secured = () if url.startswith("http:") else tls
        return ("etcdctl", f"--endpoints={url}", *secured, *presented, *self.words)

    def _etcdctls_url(self, there: tuple[str, int] | None) -> str:
        scheme, _, of_url = self.url.partition("://")
        return f"{scheme}://{(authority(*there) if there else of_url).replace('%', '%25')}"


def _authority(url: str) -> str:
    return url.partition("://")[2]


def _host_and_port(url: str) -> tuple[str, int]:
    host, _, port = _authority(url).rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0


def _files(client: Identity) -> tuple[str, ...]:
    """Return the paths of certificate and key, or the names that a recipe writes; empty for none."""
    if client is NO_CERTIFICATE:
        return ()
    return client.certificate_file or f"{client.name}.crt", client.key_file or f"{client.name}.key"


def without_variables(exported: Iterable[str]) -> tuple[str, ...]:
    """Return the words in front of etcdctl that take exported variables away, empty if there are none."""
    # ETCDCTL_API is no flag: etcdctl up to 3.3 needs it.
    names = sorted(one for one in exported if one.startswith("ETCDCTL_") and one != "ETCDCTL_API")
    return ("env", *(word for name in names for word in ("-u", name))) if names else ()


def _of_status(url: str) -> str:
    if url.startswith("http:"):
        return f'"{url}," and more in a row: gRPC is served in plaintext; "deadline exceeded": it is not'
    return f'"{url}," and more in a row: this client is accepted; "deadline exceeded": it is refused'


def curl(
    url: str,
    *,
    role: str = Role.CLIENT,
    path: str | None = None,
    client: str = NO_CERTIFICATE.name,
    version: TLSVersion | None = None,
    protocol: Protocol = Protocol.HTTP1,
    options: str = "",
    body: str = "{}",
    look: str = "",
    then: str = "",
) -> Command:
    """Return a request over HTTP; for gRPC, a call by etcdctl.

    Args:
        url: the listener's.
        role: its role, if it is none of the target's.
        path: of the URL, by default the path that attempts use.
        client: name of the identity to present, or :data:`GOOD_CLIENT`.
        version: the only TLS version to offer.
        protocol: the protocol to use.
        options: further options, words between spaces.
        body: of a request to the gateway.
        look: what to look for in the output; by default, whether the client is accepted.
        then: a command that the output is piped into.
    """
    if protocol is Protocol.GRPC:
        return etcdctl(url, client)
    over = "--http2" if protocol is Protocol.HTTP2 else "--http1.1"
    gateway = protocol is Protocol.GATEWAY
    return Command(
        program=Program.CURL,
        url=url,
        role=role,
        path=path or ("/v3/maintenance/status" if gateway else None),
        options=("-sS", "-i", "-k", over, *(_CURL_VERSIONS[version] if version else ()), *options.split()),
        client=client,
        words=("-d", body) if gateway else (),
        ends=f" | {then}" if then else "",
        look=look or _SERVED,
    )


def in_plaintext(url: str) -> str:
    """Return the URL with the scheme ``http``."""
    return f"http://{_authority(url)}"


def etcdctl(
    url: str,
    client: str = NO_CERTIFICATE.name,
    command: str = "endpoint status",
    look: str = "",
) -> Command:
    """Return a unary gRPC call; ``command`` has words between spaces."""
    return Command(program=Program.ETCDCTL, url=url, client=client, words=tuple(command.split()), look=look)


def s_client(
    url: str,
    version: TLSVersion | None = None,
    options: str = "",
    client: str = NO_CERTIFICATE.name,
    typed: str = "",
    look: str = "",
    connect_to: tuple[str, int] | None = None,
) -> Command:
    """Return a handshake by ``openssl s_client``.

    Args:
        url: the listener's.
        version: the only TLS version to offer.
        options: further options, words between spaces.
        client: name of the identity to present, or :data:`GOOD_CLIENT`.
        typed: a shell command that prints the standard input; without it the connection is closed at once.
        look: what to look for in the output; by default, whether the handshake succeeds.
        connect_to: another address of the listener's host, with its port.
    """
    return Command(
        program=Program.S_CLIENT,
        url=url,
        connect_to=connect_to,
        options=(*((S_CLIENT_VERSIONS[version],) if version else ()), *options.split()),
        client=client,
        begins=f"({typed}; sleep 2) | " if typed else "",
        ends="" if typed else " </dev/null",
        look=look or _NEGOTIATED,
    )


def local(*words: str, look: str = "", then: str = "") -> Command:
    """Return a program that contacts no listener, its output piped into ``then``."""
    return Command(program=Program.ANY, options=words, ends=f" | {then}" if then else "", look=look)


def send_nothing(url: str, look: str) -> Command:
    """Return a connection on which nothing is sent, for 30 seconds at most."""
    return Command(
        program=Program.CURL,
        url=f"telnet://{_authority(url)}",
        path="",
        options=("-sS",),
        begins="time timeout 30 ",
        look=look,
    )


def show_version(url: str) -> Command:
    """Return a command that prints the version of etcd."""
    return curl(url, client=GOOD_CLIENT, look='"etcdserver": the version')


def show_chain(url: str, look: str = "") -> Command:
    """Return a command that prints the served certificates."""
    look = look or '"s:" and "i:": subject and issuer of each certificate that is served'
    return s_client(url, options="-showcerts", look=look)


def show_file(path: str, look: str = "") -> Command:
    """Return a command that prints the first certificate of a file."""
    return local("openssl", "x509", "-in", path, "-noout", "-text", look=look or _VALIDITY)


def show_leaf(url: str, look: str = "") -> Command:
    """Return a command that prints the served leaf."""
    return _leaf(url, "-noout -text", look or _VALIDITY)


def compare_leaf(url: str, path: str) -> Command:
    """Return a command that compares the served leaf with a file that has one certificate."""
    return _leaf(url, f"| diff - {shell_word(path)} && echo same", '"same": it serves that file')


def _leaf(url: str, then: str, look: str) -> Command:
    ends = f" </dev/null 2>/dev/null | openssl x509 {then}"
    return Command(program=Program.S_CLIENT, url=url, ends=ends, look=look)
