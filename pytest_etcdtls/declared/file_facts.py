"""The files that a member was told to use, as they are here: certificates, rights to keys, revocation lists.

Values only, and nothing of a private key but whether it belongs to its certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from pytest_etcdtls.declared.crl_file import CRLFile
from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.sides import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFact:
    """One file.

    Attributes:
        said: what led to it, for people: the setting as it is written, with its place.
        path: of it here; ``None`` if it is not here.
        absent: why it is not here, or may not be read by us, and what to do; empty if it was read.
        problem: why it is not what it should be; empty if it is.
        mode: its permission bits; ``None`` where the system has none.
        owner: the user who owns it, likewise.
        original: it is the very file that etcd reads, not a copy.
    """

    said: str
    path: str | None = None
    absent: str = ""
    problem: str = ""
    mode: int | None = None
    owner: int | None = None
    original: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFact:
    """A certificate file and its key file.

    Attributes:
        side: whose settings they are.
        dials: etcd presents it where it is a client, and serves another one.
        chain: certificates of the file, leaf first; empty if they could not be read.
        matches: the key is that of the leaf; ``None`` if one of them could not be read.
    """

    side: Side
    dials: bool
    certificate: FileFact
    key: FileFact
    chain: tuple[x509.Certificate, ...] = ()
    matches: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFact:
    """A file of trusted CAs.

    Attributes:
        certificates: in it; empty if they could not be read.
        keys: files beside it that are called as a CA's key is; they were not opened.
    """

    side: Side
    file: FileFact
    certificates: tuple[x509.Certificate, ...] = ()
    keys: tuple[FileFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFact:
    """A client's pair that lies beside the member's files, and that nobody declared for etcd.

    Attributes:
        name: of the client.
        chain: certificates of the file, leaf first; empty if they could not be read.
    """

    name: str
    certificate: FileFact
    key: FileFact
    chain: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFiles:
    """The files of one member.

    Attributes:
        label: of the member.
        bundles: those that are in force, by side.
        crls: the files of revoked certificates, with the setting that declares each.
        data_owner: the user who owns etcd's data directory, so probably the one etcd runs as; ``None`` if
            that is not to be seen here.
    """

    label: str
    pairs: tuple[PairFact, ...] = ()
    bundles: Mapping[Side, BundleFact] = field(default_factory=dict)
    clients: tuple[ClientFact, ...] = ()
    crls: tuple[tuple[Setting, CRLFile], ...] = ()
    data_owner: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredFiles:
    """The files of all declared members, in the order of their labels.

    Attributes:
        anchors: CAs of servers that the user named.
        reader: the user as whom we read, ``None`` where the system has none.
        observed_at: aware UTC; checks use it as their clock.
    """

    members: tuple[MemberFiles, ...]
    anchors: tuple[x509.Certificate, ...] = ()
    reader: int | None = None
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredLeaf:
    """The certificate in the file that a listener was told to serve.

    Attributes:
        said: the setting as it is written, with its place.
        source: the file's path here.
    """

    certificate: x509.Certificate
    said: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCertificate:
    """A certificate that we hold.

    Attributes:
        what: it is, for people.
        source: where it comes from: a file's path, or words.
    """

    what: str
    source: str
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCertificates:
    """Certificates of one kind, each once, without those that a listener was seen to serve.

    The kinds are what clients present (key ``clients``), the CAs that etcd is told to trust for them
    (``client-cas``), and without a key all others that are declared.

    Attributes:
        observed_at: aware UTC; checks use it as their clock.
    """

    certificates: tuple[HeldCertificate, ...]
    observed_at: datetime
