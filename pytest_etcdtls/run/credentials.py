"""Valid and invalid credentials by name: as files, SSL contexts, HTTP clients and environment variables."""

from __future__ import annotations

import os
import re
import ssl
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import httpx
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.declared.declaration import exists
from pytest_etcdtls.errors import EtcdTLSError, NotVerifiedError, UsageError
from pytest_etcdtls.etcd.watchdog import GuardedDirectory
from pytest_etcdtls.facts.bad_identities import ClientIdentity
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key, write_files
from pytest_etcdtls.pki.identities import ISSUED_NAMES
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.untrusted.process_root import looked_up

_GOOD = {"client": "client-certificate", "peer": "peer-certificate", "server": "server-certificate"}
"""Names of the good identities, and of the facts that hold them."""

NAMES = (*_GOOD, "none", "self-signed", "foreign-ca", "lookalike-ca", "revoked", *ISSUED_NAMES)
"""All names of credentials. ``issued`` and ``intermediate-sent`` are the valid counterparts of others."""

_READS = re.compile(
    r"/v3(alpha|beta)?/("
    r"kv/range|maintenance/status|maintenance/hash|cluster/member/list|lease/leases|(kv/)?lease/timetolive|"
    r"auth/(status|authenticate|user/get|user/list|role/get|role/list))"
)
"""Paths of etcd's JSON gateway whose POST changes no data."""


class WriteRefusedError(EtcdTLSError):
    """A request that may change data on a live cluster was not sent."""


class Credentials(Mapping[str, "Credential"]):
    """The identities of a listener's clients by name, each made at its first use.

    ``credentials["expired"]`` raises :class:`~pytest_etcdtls.NotVerifiedError` for an identity that needs a
    key that was not given, such as that of a live cluster's CA, and
    :class:`~pytest_etcdtls.NotApplicableError` for one that breaks no rule of this cluster. The message says
    what to pass.

    Args:
        observer: the observer of the target.
        listener: the listener that the identities are for (default: the first client listener).
        allow_writes: whether clients may change data on a live cluster.

    Attributes:
        allow_writes: whether clients may change data.
        timeout: seconds that a client waits (``--etcd-timeout``).
    """

    def __init__(
        self, observer: Observer, *, listener: Listener | None = None, allow_writes: bool = False
    ) -> None:
        self._observer = observer
        self.allow_writes = allow_writes or not observer.target.live
        self.timeout = observer.bounds.timeout
        self.listener = listener or _first(observer.target, Role.CLIENT)
        self._known: dict[str, Credential] = {}
        self._directory: Path | None = None

    def on(self, where: Listener | str) -> Credentials:
        """Return the identities for another listener, or for the first one of a role (``peer``)."""
        target = self._observer.target
        listener = where if isinstance(where, Listener) else _first(target, Role(where))
        return Credentials(self._observer, listener=listener, allow_writes=self.allow_writes)

    def __getitem__(self, name: str) -> Credential:
        __tracebackhide__ = name not in NAMES  # pytest shows the line of the test
        if name not in NAMES:
            raise KeyError(f"there is no credential {name!r}: there are {', '.join(NAMES)}")
        if name not in self._known:
            fact = self._observer.get(ClientIdentity, _GOOD.get(name, name), self.listener)
            self._known[name] = Credential(self, fact.identity)
        return self._known[name]

    def of(self, identity: Identity) -> Credential:
        """Return an identity of the caller's, as ``cluster.pki.client_ca.issue(...)`` returns it."""
        return Credential(self, identity)

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

    @property
    def target(self) -> Target:
        """The target of the listener."""
        return self._observer.target

    @property
    def directory(self) -> Path:
        """A new directory (0700) for the files of owned clusters.

        It is removed with this object, or at the end of this process, even if that is killed.
        """
        if self._directory is None:
            try:
                home = GuardedDirectory()
            except OSError as error:
                raise UsageError(f"the directory for credentials cannot be created: {error}") from error
            self._directory = home.path
            # tempfile.TemporaryDirectory would emit a ResourceWarning here, because nobody closes it.
            weakref.finalize(self, home.remove)
        return self._directory


def _first(target: Target, role: Role) -> Listener:
    if listener := target.first_of(role):
        return listener
    raise NotVerifiedError(f"{target.label} has no {role} listener: pass its endpoint")


class Credential:
    """One identity of :class:`Credentials`.

    Attributes:
        identity: the certificates and the key.
        listener: the listener that it is for.
    """

    def __init__(self, credentials: Credentials, identity: Identity) -> None:
        self._credentials = credentials
        self.identity = identity
        self.listener = credentials.listener

    @property
    def certificate_pem(self) -> bytes:
        """The certificates to send as PEM, leaf first; empty for ``none``."""
        return encode_certificates(self.identity.chain)

    @property
    def key_pem(self) -> bytes:
        """The private key as unencrypted PEM; empty for ``none``."""
        return b"" if self.identity.key is None else encode_key(self.identity.key)

    def files(self) -> tuple[Path, Path]:
        """Return the files of certificate and key: those that were given, else new ones (0600).

        Raises:
            UsageError: for ``none``, and for an identity that was issued for a live cluster, since no key is
                written to disk for one.
        """
        identity = self.identity
        if identity.certificate_file and identity.key_file:
            return Path(identity.certificate_file), Path(identity.key_file)
        if identity.key is None:
            raise UsageError(f"the identity {identity.name} has no files")
        if self._credentials.target.live:
            raise UsageError(
                f"the identity {identity.name} is in memory only, since no key is written to disk for a live "
                "cluster: use ssl_context(), client() or the PEM"
            )
        directory = self._credentials.directory
        contents = {
            PurePosixPath(f"{identity.name}.crt"): self.certificate_pem,
            PurePosixPath(f"{identity.name}.key"): self.key_pem,
        }
        certificate, key = (directory / name for name in contents)
        if not key.exists():
            write_files(directory, contents)
        return certificate, key

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context that presents the identity, and trusts the target's CA, else those of the system.

        The key is not written to disk for it.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust = self._credentials.target.credentials(self.listener.role).server_ca
        if trust is None:
            context.load_default_certs()
        else:
            pem = b"".join(found.public_bytes(Encoding.PEM) for found in trust.certificates)
            context.load_verify_locations(cadata=pem.decode("ascii"))
        _present(context, self.identity)
        return context

    def client(self) -> httpx.Client:
        """Return an HTTP client of the listener that presents the identity. The caller closes it.

        On a live cluster it raises :class:`WriteRefusedError` for requests other than reads, unless writes
        are allowed.

        Raises:
            UsageError: if a process carries the connections of the listener, which httpx cannot use.
            httpx.InvalidURL: if httpx does not take the host of the listener.
        """
        held, listener = self._credentials, self.listener
        if listener.is_socket:
            raise UsageError(
                f"{listener.url} is a Unix domain socket, which etcd_client does not connect to: judge it by "
                "its checks, or give etcd a client URL with a port"
            )
        if listener.in_its_network:
            raise UsageError(
                f"{listener.url} is in the network namespace of process {listener.process}, which "
                f"etcd_client does not enter: run pytest in it (nsenter -t {listener.process} -n)"
            )
        if listener.via:
            raise UsageError(
                f"{listener.url} is reached by --etcd-via, which etcd_client cannot use: forward a port, and "
                "name it with --etcd-connect-to"
            )
        transport = ReadOnlyTransport(listener, self.ssl_context(), held.allow_writes)
        return httpx.Client(base_url=listener.url, transport=transport, timeout=held.timeout)

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which etcdctl uses the identity on the listener.

        ``ETCDCTL_CACERT`` is among them if the CA of the listener is in a file.

        Raises:
            UsageError: as :meth:`files`.
        """
        variables = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": self.listener.url}
        trust = self._credentials.target.credentials(self.listener.role).server_ca
        if trust is not None and exists(Path(trust.source)):
            variables["ETCDCTL_CACERT"] = trust.source
        if self.identity.key is not None:
            certificate, key = self.files()
            variables |= {"ETCDCTL_CERT": str(certificate), "ETCDCTL_KEY": str(key)}
        return variables

    def __repr__(self) -> str:
        return f"<credential {self.identity.name} for {self.listener.label}>"


def _present(context: ssl.SSLContext, identity: Identity) -> None:
    """Have a client's context present an identity, whose key is not written to disk for it."""
    if identity.key is None:
        return
    if identity.certificate_file and identity.key_file:
        certificate_file, key_file = Path(identity.certificate_file), Path(identity.key_file)
        with looked_up(certificate_file, reads=True) as certificate, looked_up(key_file, reads=True) as key:
            # Without a passphrase, OpenSSL would read one from the terminal.
            context.load_cert_chain(certificate, key, identity.passphrase or b"")
        return
    # ssl.SSLContext.load_cert_chain reads files only; this one is in memory until it is closed.
    descriptor = os.memfd_create("etcdtls")
    with open(descriptor, "wb") as file:
        file.write(encode_certificates(identity.chain) + encode_key(identity.key))
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


class ReadOnlyTransport(httpx.HTTPTransport):
    """A transport that connects to a fixed address and refuses requests that are not reads."""

    def __init__(self, listener: Listener, context: ssl.SSLContext, allow_writes: bool) -> None:
        super().__init__(verify=context)
        self._listener = listener
        self._allow_writes = allow_writes

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request.

        Raises:
            WriteRefusedError: if the request may change data on a live cluster.
        """
        reads = request.method in ("GET", "HEAD", "OPTIONS") or (
            request.method == "POST" and _READS.fullmatch(request.url.path)
        )
        if not reads and not self._allow_writes:
            raise WriteRefusedError(
                f"{request.method} {request.url}: a live cluster is only read; "
                "--etcd-allow-writes lets it write"
            )
        if request.url.netloc == httpx.URL(self._listener.url).netloc:
            # RFC 6066 section 3: the name is sent without a trailing dot.
            request.extensions = {**request.extensions, "sni_hostname": self._listener.name.rstrip(".")}
            if there := self._listener.connect_to:
                request.url = request.url.copy_with(host=there[0], port=there[1])
        return super().handle_request(request)
