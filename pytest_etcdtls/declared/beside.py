"""Parts of a declaration beside what was seen of them: CA bundles, rules about names, listeners.

Values only. Does not know how any of it was seen, nor whether it agrees.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.listeners import DeclaredListener
from pytest_etcdtls.declared.standing import ListenerDeclaration
from pytest_etcdtls.observations.admission import Admission
from pytest_etcdtls.observations.attempt import Attempt, Way


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredBundle:
    """The bundle that a listener's clients are declared to come from, as its file is now.

    Attributes:
        setting: that declares it, as a reader believes.
        certificates: in the file; empty if they could not be read.
        source: path of the file here.
        accepted: name of the good identity that is accepted on the listener; ``None`` if none is.
        signed: one of the certificates has signed that identity's, directly or by what it sends along.
        absent: why the certificates could not be read, and what to do; empty if they were.
        strangers: names of bad identities that are served though no bundle can hold their CA.
    """

    setting: Setting
    certificates: tuple[x509.Certificate, ...]
    source: str
    accepted: str | None = None
    signed: bool = False
    absent: str = ""
    strangers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """A declared rule about the names in clients' certificates, and what was seen of one that breaks it.

    Attributes:
        setting: that declares it, as a reader believes.
        admission: of a certificate that the rule excludes.
    """

    setting: Setting
    admission: Admission


@dataclass(frozen=True, slots=True)
class DeclaredNames:
    """The rules about names that are declared for a listener; never empty."""

    rules: tuple[NameRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenListener:
    """A listener that is judged, its declaration, and what it was seen to speak.

    Attributes:
        tls: something of TLS came back.
        plaintext: plain HTTP was answered.
        said: what came back, in words.
        refused: the listener's own address refused every TCP connection.
    """

    declaration: ListenerDeclaration
    tls: bool
    plaintext: bool
    said: str
    refused: bool = False

    @property
    def answers(self) -> bool:
        """Whether anything came back."""
        return self.tls or self.plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenListener:
    """A declared listener that is not judged.

    Attributes:
        member: label of the member.
        url: as declared.
        reason: why not, and what to do.
    """

    member: str
    url: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackAttempt:
    """One connection to an address that a member advertises, at the port of a listener declared on loopback.

    Attributes:
        member: label of the member.
        declared: the listener.
        address: IP address and port that were connected to.
        attempt: without a certificate; plain HTTP where http is declared.
    """

    member: str
    declared: DeclaredListener
    address: tuple[str, int]
    attempt: Attempt

    @property
    def answers(self) -> bool:
        """Whether what is declared on loopback alone is spoken there."""
        if not self.declared.url.secure:
            return self.attempt.answers_plaintext
        return self.attempt.way is not Way.UNCLEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackElsewhere:
    """What was tried at other addresses of listeners that are declared on loopback.

    Attributes:
        attempts: one for each address.
        not_tried: why other addresses were not tried, one sentence each.
    """

    attempts: tuple[LoopbackAttempt, ...] = ()
    not_tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenersSeen:
    """The listeners of every declared member.

    Attributes:
        seen: those that are judged, in the target's order.
        unseen: those that are only declared.
        elsewhere: what is declared on loopback, at other addresses.
    """

    seen: tuple[SeenListener, ...]
    unseen: tuple[UnseenListener, ...] = ()
    elsewhere: LoopbackElsewhere = LoopbackElsewhere()

    def beside(self, refusing: SeenListener) -> tuple[SeenListener, ...]:
        """Return the other listeners of the same member that answer."""
        label = refusing.declaration.member.label
        return tuple(one for one in self.seen if one.answers and one.declaration.member.label == label)
