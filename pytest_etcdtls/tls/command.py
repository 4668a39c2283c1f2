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
for arguments. Its line breaks are escaped. A command that says nothing to look for belongs to the next one,
as the first of two outputs that are compared does. They are one text to paste.

*Identities.* A command names its identity as the run does. The shell knows the files of one that has files,
and the recipe of one that the run has made in memory, which is pasted in front. Of one that has neither (a
key from a pipe, an identity that a test has made) a comment says which files to write first.

*Addresses.* The rules of ``--etcd-connect-to`` are followed. curl has the same option. ``openssl s_client``
connects to the other address, and is told the server name of the URL. etcdctl can do neither, so its endpoint
is the other address. The zone of an IPv6 address is written as it is, and in etcdctl's URL with ``%25``
(RFC 6874 section 2), since Go's ``net/url`` refuses a bare ``%``.

*Variables.* etcdctl reads each flag from a variable too. It ends with an error if both are there
(``SetPflagsFromEnv`` in etcd's pkg/flags), and a command without a certificate would present that of
``ETCDCTL_CERT``. ``env -u`` takes exported variables away. curl and etcdctl connect through the proxy that
``https_proxy`` and the like name, which the run does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.declared.declaration import authority, is_address
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, PortCredentials, Target
from pytest_etcdtls.untrusted.printable import comment, file_word, pasted

GOOD_CLIENT: Final = ""
"""In the place of an identity's name: the client that the listener accepts."""

STATUS: Final = "the HTTP status and the body"
ANNOUNCED: Final = '"Acceptable client certificate CA names", or "No client certificate CA names sent"'
SERVED_KEYS: Final = '"a:PKEY" and "sigalg" of each certificate that is served'
"""As ``openssl s_client`` prints since OpenSSL 3."""
IN_PLAINTEXT: Final = 'an HTTP status line: plaintext is answered; "Empty reply" or "reset": it is not'
GROUP: Final = (
    '"Server Temp Key", "Peer Temp Key" or "Negotiated TLS1.3 group"; "alert": refused; '
    '"cannot be set": this openssl lacks the group, ML-KEM needs 3.5'
)
ACCEPTED_OR_NOT: Final = 'an HTTP status line: this client is accepted; an error, "curl: (": it is refused'
_NEGOTIATED = '"Cipher is" and the name of a suite: accepted; "(NONE)" and "alert": refused'

GET_VERSION: Final = r"printf 'GET /version HTTP/1.0\r\n\r\n'"
"""A shell command that prints a request."""

_CURL_VERSIONS = {
    TLSVersion.TLS1_2: ("--tlsv1.2", "--tls-max", "1.2"),
    TLSVersion.TLS1_3: ("--tlsv1.3",),
}
S_CLIENT_VERSIONS: Final = {TLSVersion.TLS1_2: "-tls1_2", TLSVersion.TLS1_3: "-tls1_3"}
"""The options of ``openssl s_client`` that offer one TLS version alone."""


class CertificatePart(Struct, frozen=True):
    """A part of a certificate that ``openssl x509`` prints.

    Attributes:
        options: of ``openssl x509``.
        look: what to look for in the output.
        then: a command that the output is piped into.
    """

    options: tuple[str, ...]
    look: str
    then: str = ""


DATES: Final = CertificatePart(("-dates",), '"notBefore" and "notAfter"')
NAMES: Final = CertificatePart(
    ("-ext", "subjectAltName"), '"Subject Alternative Name"; "No extensions": there is none'
)
USAGES: Final = CertificatePart(("-ext", "keyUsage,extendedKeyUsage"), '"Key Usage" and "Extended Key Usage"')
IS_CA: Final = CertificatePart(("-ext", "basicConstraints"), '"CA:TRUE"')
SERIAL: Final = CertificatePart(("-serial",), '"serial="')
ISSUER: Final = CertificatePart(("-subject", "-issuer"), '"subject" and "issuer"')
KEY: Final = CertificatePart(("-pubkey",), '"Public-Key" and the size', "openssl pkey -pubin -noout -text")
HASHED_KEY: Final = CertificatePart(("-pubkey",), "the hash of the public key", "openssl sha256")
SIGNATURE: Final = CertificatePart(
    ("-text",), '"Signature Algorithm"', "grep -e 'Signature Algorithm' -e 'Hash Algorithm'"
)
DIFFERENT: Final = '"Fingerprint": two values, so two certificates'
FINGERPRINT: Final = CertificatePart(("-subject", "-fingerprint", "-sha256"), '"Fingerprint"')


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
        has_file: returns whether a file that a command reads is there.
    """

    target: Target
    identity: Callable[[Listener, str], Identity | None] = lambda _, __: None
    exported: tuple[str, ...] = ()
    has_file: Callable[[str], bool] = lambda _: True

    def texts(self, commands: Iterable[Command | str]) -> tuple[str, ...]:
        """Return the texts to paste here, each with what to look for at its end; a ``str`` as it is.

        The recipe of an identity is in front of the first command that presents it. A text that reads a file
        which is not there is left out.
        """
        texts: list[str] = []
        made: dict[str, None] = {}
        together: list[Command] = []
        for command in commands:
            if isinstance(command, str):
                texts.append(command)
                continue
            together.append(command)
            if not command.looks_for(self):
                continue
            if all(self.has_file(path) for command in together for path in command.reads):
                lines: list[str] = []
                for command in together:
                    recipe = self._recipe(self.client(command))
                    lines += [*(line for line in recipe if line not in made), command.render(self)]
                    made |= dict.fromkeys(recipe)
                texts.append("\n".join(lines))
            together = []
        return tuple(texts)

    def _recipe(self, client: Identity) -> tuple[str, ...]:
        files = _files(client)
        if client.recipe or files in ((), (client.certificate_file, client.key_file)):
            return client.recipe
        certificate, key = files
        return (comment(f"write the certificate {client.name} and its key to {certificate} and {key} first"),)

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
        return next((one for one in side.identities if one.certificate_file or one.recipe), NO_CERTIFICATE)

    def role(self, command: Command) -> str:
        """Return the role of the listener that the command contacts."""
        listener = self.listener(command.url)
        return listener.role if listener else command.role

    @property
    def proxies(self) -> tuple[str, ...]:
        """The exported variables that name a proxy, which curl and etcdctl use and the run does not."""
        return tuple(name for name in self.exported if name.lower() in _PROXIES)

    def redirected(self, url: str) -> tuple[str, int] | None:
        """Return host and port to connect to instead, ``None`` for those of the URL."""
        if listener := self.listener(url):
            return listener.connect_to
        rules = (rule.redirected(*_host_and_port(url)) for rule in self.target.connect_to)
        return next(filter(None, rules), None)

    def socket(self, url: str) -> Listener | None:
        """Return the listener of a URL, if it is a Unix domain socket."""
        listener = self.listener(url)
        return listener if listener and listener.is_socket else None

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
        role: of the listener, if it is not of the target.
        path: what is requested of the URL; by default what attempts request of a listener of that role.
        connect_to: host and port to connect to instead; by default what the target's rules say.
        options: the first words behind the program.
        client: name of the identity to present, or :data:`GOOD_CLIENT`.
        words: the last words, before the URL of curl.
        begins: shell code in front of the words.
        ends: shell code behind them.
        look: what to look for in the output; empty for whether etcdctl is accepted, or if the next command
            says it.
        reads: paths of files, besides those of the client.
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
    reads: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.render(ANY_SHELL)

    def looks_for(self, shell: Shell) -> str:
        """Return what to look for in the output, empty if the next command says it."""
        if self.program is Program.ETCDCTL and not self.look:
            there = self.connect_to or shell.redirected(self.url)
            return _of_status(self._etcdctls_url(there, shell.socket(self.url)))
        return self.look

    def render(self, shell: Shell) -> str:
        """Return the line to paste there, and a comment that says what to look for."""
        there = self.connect_to or shell.redirected(self.url)
        listener = shell.listener(self.url)
        socket = shell.socket(self.url)
        files = _files(shell.client(self))
        proxies = shell.proxies if self.url else ()
        match self.program:
            case Program.CURL:
                usual = "/health" if shell.role(self) == Role.METRICS else "/version"
                direct = ("--noproxy", "*") if proxies else ()
                words = self._curl(there, socket, files, usual if self.path is None else self.path, direct)
            case Program.S_CLIENT:
                words = self._s_client(there, socket, files)
            case Program.ETCDCTL:
                variables = without_variables(shell.exported, proxies)
                words = (*variables, *self._etcdctl(self._etcdctls_url(there, socket), files))
            case Program.ANY:
                words = self.options
        if listener and listener.in_its_network:
            words = ("nsenter", "-t", str(listener.process), "-n", *words)
        line = f"{self.begins}{pasted(*words)}{self.ends}"
        look = self.looks_for(shell)
        return "\n".join([line, comment(f"look for {look}")]) if look else line

    def _curl(
        self,
        there: tuple[str, int] | None,
        socket: Listener | None,
        files: tuple[str, ...],
        path: str,
        direct: tuple[str, ...],
    ) -> tuple[str, ...]:
        connect = ("--connect-to", f"::{authority(*there)}") if there else ()
        url = self.url
        if socket:
            connect, url = ("--unix-socket", str(socket.socket_file)), f"{_scheme(url)}://{socket.name}"
        presented = ("--cert", files[0], "--key", files[1]) if files else ()
        return ("curl", *self.options, *direct, *connect, *presented, *self.words, f"{url}{path}")

    def _s_client(
        self, there: tuple[str, int] | None, socket: Listener | None, files: tuple[str, ...]
    ) -> tuple[str, ...]:
        name: tuple[str, ...] = ()
        if there and not {"-servername", "-noservername"} & {*self.options}:
            # openssl sends the host of -connect by SNI, unless it is an address; with -unix it sends none.
            host = socket.name if socket else _host_and_port(self.url)[0]
            usual, host = ("" if is_address(one) else one for one in ("" if socket else there[0], host))
            name = () if host == usual else ("-servername", host) if host else ("-noservername",)
        presented = ("-cert", files[0], "-key", files[1]) if files else ()
        address = ("-connect", authority(*there) if there else _authority(self.url))
        if socket:
            address = ("-unix", str(socket.socket_file))
        return ("openssl", "s_client", *address, *self.options, *name, *presented)

    def _etcdctl(self, url: str, files: tuple[str, ...]) -> tuple[str, ...]:
        # Up to version 3.5 etcdctl ignores --insecure-skip-tls-verify unless another option enables TLS, and
        # fails with "unknown authority"; --insecure-transport=false is such an option.
        tls = ("--insecure-transport=false", "--insecure-skip-tls-verify")
        presented = (f"--cert={files[0]}", f"--key={files[1]}") if files else ()
        secured = () if url.startswith("http:") else tls
        return ("etcdctl", f"--endpoints={url}", *secured, *presented, *self.words)

    def _etcdctls_url(self, there: tuple[str, int] | None, socket: Listener | None) -> str:
        scheme, _, of_url = self.url.partition("://")
        if socket:
            return f"unix{scheme.removeprefix('unix').removeprefix('http')}://{socket.socket_file}"
        return f"{scheme}://{(authority(*there) if there else of_url).replace('%', '%25')}"


def _scheme(url: str) -> str:
    """Return the scheme of a URL as curl knows it."""
    return url.partition(":")[0].replace("unix", "http")


def _authority(url: str) -> str:
    return url.partition("://")[2]


def _host_and_port(url: str) -> tuple[str, int]:
    host, _, port = _authority(url).rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0


_NOT_A_FILE = ("/dev/", "/proc/")
"""Beginnings of the paths of pipes, which cannot be read again."""


def _files(client: Identity) -> tuple[str, ...]:
    """Return the paths of certificate and key, or the names that a recipe writes; empty for none."""
    if client is NO_CERTIFICATE:
        return ()
    given = ((client.certificate_file, "crt"), (client.key_file, "key"))
    return tuple(
        path if path and not path.startswith(_NOT_A_FILE) else f"{client.name}.{suffix}"
        for path, suffix in given
    )


_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})


def without_variables(exported: Iterable[str], others: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the words in front of etcdctl that take its exported variables away, and others; often none."""
    # ETCDCTL_API is no flag: etcdctl up to 3.3 needs it.
    names = {name for name in exported if name.startswith("ETCDCTL_") and name != "ETCDCTL_API"}
    taken = sorted(names | {*others})
    return ("env", *(word for name in taken for word in ("-u", name))) if taken else ()


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
        role: its role, if it is not of the target.
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
        look=look or ACCEPTED_OR_NOT,
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


def local(*words: str, reads: tuple[str, ...] = (), look: str = "", then: str = "") -> Command:
    """Return a program that contacts no listener and reads these files, its output piped into ``then``."""
    ends = f" | {then}" if then else ""
    return Command(program=Program.ANY, options=words, ends=ends, look=look, reads=reads)


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


def show_file(path: str, part: CertificatePart = DATES) -> Command:
    """Return a command that prints a part of the first certificate of a file."""
    words = ("openssl", "x509", "-in", file_word(path), "-noout", *part.options)
    return local(*words, reads=(path,), look=part.look, then=part.then)


def show_files_certificates(path: str) -> Command:
    """Return a command that prints the names and dates of every certificate of a file."""
    words = ("openssl", "storeutl", "-noout", "-text", "-certs", file_word(path))
    look = '"Subject:" and "Not After"'
    then = "grep -e Subject: -e 'Not Before' -e 'Not After'"
    return local(*words, reads=(path,), then=then, look=look)


def show_leaf(url: str, part: CertificatePart = DATES) -> Command:
    """Return a command that prints a part of the served leaf."""
    words = ("openssl", "x509", "-noout", *part.options)
    return _leaf(url, " | ".join([" ".join(words), *filter(None, [part.then])]), part.look)


def compare(*commands: Command, look: str) -> tuple[Command, ...]:
    """Return commands whose outputs are compared, as one text to paste."""
    *first, last = commands
    return (*(replace(command, look="") for command in first), replace(last, look=look))


def compare_leaf(url: str, path: str) -> Command:
    """Return a command that compares the served leaf with a file that has one certificate."""
    then = f"openssl x509 | {pasted('diff', '-', file_word(path))} && echo same"
    return replace(_leaf(url, then, '"same": it serves that file'), reads=(path,))


def _leaf(url: str, then: str, look: str) -> Command:
    ends = f" </dev/null 2>/dev/null | {then}"
    return Command(program=Program.S_CLIENT, url=url, ends=ends, look=look)
