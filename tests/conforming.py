"""One conforming sample of every observation type, for the test over all checks.

A check is run on these (it must stay quiet) and on what its counterexample makes of them.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import conforming_declared
import conforming_experiments
import conforming_files
import conforming_members
from conforming_log import SAMPLES as OF_LOGS
from conforming_members import split_revocation
from conforming_tls import SAMPLES as OF_TLS
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.facts.access import (
    AcceptedClient,
    AccessCase,
    AccessMatrix,
    Candidate,
    Control,
    ServedClient,
    SplitRevocation,
)
from pytest_etcdtls.facts.api import (
    Alarms,
    GatewayDial,
    GetExchange,
    MemberLists,
    MemberRecord,
    VersionAnswers,
)
from pytest_etcdtls.facts.certificates import (
    AnnouncedCAs,
    CAsInUse,
    CertificateMessage,
    CertificationPath,
    ClientTrust,
    Dialling,
    ExpectedCertificate,
    HelloVariant,
    HelloVariants,
    Issuers,
    KubernetesCA,
    PathToTrust,
    PortPair,
    ServedByMembers,
    ServedChain,
)
from pytest_etcdtls.facts.configuration import DeclaredNames
from pytest_etcdtls.facts.listener import FirstContact, ListenerFacts, Plaintext, Policy, UnnamedPorts
from pytest_etcdtls.facts.member_list import OwnURLs
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.pki_plan import MemberNames, PKIPlan
from pytest_etcdtls.registry import Need
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Response, StreamEnd

NOW = datetime.now(UTC)
VERSION_BODY = json.dumps({"etcdserver": "3.6.16", "etcdcluster": "3.6.0", "storage": "3.6.0"}).encode()
HEADERS = {"content-type": "application/json", "date": format_datetime(NOW, usegmt=True)}
BODIES = {
    "/version": VERSION_BODY,
    "/health": b'{"health":"true","reason":""}',
}


@functools.cache
def pki() -> ClusterPKI:
    """Return a PKI for all samples."""
    return ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])


@dataclass(frozen=True)
class Place:
    """Where a sample is taken."""

    role: str

    @property
    def url(self) -> str:
        """Its URL."""
        return "https://127.0.0.1:2380" if self.role == "peer" else "https://127.0.0.1:2379"

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What is served there."""
        return (pki().peers if self.role == "peer" else pki().servers)["m0"].chain

    @property
    def trusted(self) -> x509.Certificate:
        """The CA trusted there."""
        return (pki().peer_ca if self.role == "peer" else pki().client_ca).certificate

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """What is spoken there."""
        if self.role == "peer":
            return (Protocol.HTTP1,)
        return (Protocol.HTTP1, Protocol.GATEWAY, Protocol.GRPC)

    def attempt(self, **changes: Any) -> Attempt:
        """Return an attempt that was served, changed as said."""
        facts: dict[str, Any] = {
            "url": self.url,
            "purpose": "sample",
            "identity": "client",
            "protocol": Protocol.HTTP1,
            "asked": TLSVersion.TLS1_3,
            "ending": Ending.SERVED,
            "phase": Phase.READ,
            "started_at": NOW,
            "version": "TLSv1.3",
            "cipher": "TLS_AES_128_GCM_SHA256",
            "group": "x25519",
            "certificate_requested": True,
            "key_proved": True,
            "announced_ca": (self.trusted.subject.public_bytes(),),
            "chain": tuple(certificate.public_bytes(Encoding.DER) for certificate in self.chain),
            "response": Response(status=200, headers=HEADERS, body=VERSION_BODY),
            "first_bytes": b"HTTP/1.1 200 OK",
        }
        return Attempt(**(facts | changes))

    def refused(self, **changes: Any) -> Attempt:
        """Return an attempt that was refused with a certificate alert."""
        facts = {
            "ending": Ending.REFUSED,
            "alert": 42,
            "stream_end": StreamEnd.ALERT,
            "response": None,
            "first_bytes": b"",
        }
        return self.attempt(**(facts | changes))

    def candidate(self, name: str = "client") -> Candidate:
        """Return a good identity that was accepted."""
        return Candidate(
            identity=name,
            origin="generated",
            issued=False,
            has_names=False,
            files=("client.crt", "client.key"),
            tries=tuple(
                (version, protocol, (self.attempt(identity=name, asked=version, protocol=protocol),))
                for version in TLSVersion
                for protocol in self.protocols
            ),
        )


def _answer(place: Place, key: str | None) -> FirstContact:
    attempts = tuple(place.refused(identity="none", asked=version) for version in TLSVersion)
    return FirstContact(url=place.url, role=place.role, tls=attempts)


def _plaintext(place: Place, key: str | None) -> Plaintext:
    attempt = place.attempt(
        identity="none",
        asked=None,
        ending=Ending.UNCLEAR,
        stream_end=StreamEnd.EOF,
        first_bytes=b"",
        response=None,
    )
    return Plaintext(url=place.url, role=place.role, scheme="https", tries=(attempt,), tls_works=True)


def _acceptance(place: Place, key: str | None) -> AcceptedClient:
    candidate = place.candidate()
    return AcceptedClient(
        url=place.url,
        role=place.role,
        candidates=(candidate,),
        accepted=candidate,
        san_rule=place.role == "peer",
        versions=tuple(TLSVersion),
    )


def _served_client(place: Place, key: str | None) -> ServedClient:
    return ServedClient(url=place.url, role=place.role, client=place.candidate())


def _admission(place: Place, key: str | None) -> AccessMatrix:
    name = str(key)
    cells = tuple(
        AccessCase(
            version=version,
            protocol=protocol,
            tries=(place.refused(identity=name, asked=version, protocol=protocol),),
            control=Control(identity="client", tries=(place.attempt(asked=version, protocol=protocol),)),
        )
        for version in TLSVersion
        for protocol in place.protocols
    )
    files = None if name == "none" else (f"{name}.crt", f"{name}.key")
    return AccessMatrix(url=place.url, role=place.role, identity=name, files=files, cells=cells)


def _chain(place: Place, key: str | None) -> ServedChain:
    return ServedChain(
        url=place.url, role=place.role, host="127.0.0.1", certificates=place.chain, observed_at=NOW
    )


def _message(place: Place, key: str | None) -> CertificateMessage:
    return CertificateMessage(
        url=place.url,
        certificates=tuple(found.public_bytes(Encoding.DER) for found in place.chain),
        issuers=_path(place, key).anchors,
    )


def _path(place: Place, key: str | None) -> PathToTrust:
    anchors = ((pki().peer_ca if place.role == "peer" else pki().server_ca).certificate,)
    return PathToTrust(
        url=place.url,
        anchors=anchors,
        source="ca.crt",
        error="",
        path=(place.chain[0], *anchors),
        verified=True,
    )


def _certification_path(place: Place, key: str | None) -> CertificationPath:
    path = _path(place, key)
    return CertificationPath(url=place.url, certificates=path.path, anchors=path.anchors)


def _issuers(place: Place, key: str | None) -> Issuers:
    return Issuers(url=place.url, certificates=_path(place, key).anchors)


def _hellos(place: Place, key: str | None) -> HelloVariants:
    hellos = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3", "ALPN h2": "-alpn h2"}
    return HelloVariants(
        url=place.url,
        variants=tuple(
            HelloVariant(hello=hello, options=options, tries=(place.refused(),))
            for hello, options in hellos.items()
        ),
    )


def _by_members(place: Place, key: str | None) -> ServedByMembers:
    chains = (("m0", _chain(Place("client"), None)), ("m1", _chain(Place("peer"), None)))
    return ServedByMembers(chains=chains)


def _cas_in_use(place: Place, key: str | None) -> CAsInUse:
    return CAsInUse(
        url=place.url,
        known=((place.trusted, "is trusted for clients"),),
        announced=(place.trusted.subject,),
        trust_is_known=True,
    )


@functools.cache
def _kubernetes_ca() -> KubernetesCA:
    certificate = CertificateAuthority.create("kubernetes").certificate
    return KubernetesCA(certificates=(certificate,), source="ca.crt of Kubernetes")


def _announced(place: Place, key: str | None) -> AnnouncedCAs:
    return AnnouncedCAs(
        url=place.url,
        role=place.role,
        requested=tuple((str(version), True) for version in TLSVersion),
        names=tuple((str(version), (place.trusted.subject,)) for version in TLSVersion),
    )


def _exchange(place: Place, key: str | None) -> GetExchange:
    path = str(key)
    if path in conforming_members.NOT_THERE.get(place.role, ()):
        response = Response(status=404, body=b"404 page not found")
    else:
        headers = {"content-type": "application/json"}
        response = Response(status=200, headers=headers, body=BODIES.get(path, b"{}"))
    return GetExchange(url=place.url, role=place.role, path=path, tries=(place.attempt(response=response),))


def _members(place: Place, key: str | None) -> MemberLists:
    member = MemberRecord(
        id="8e9e05c52164694d",
        name="m0",
        peer_urls=("https://127.0.0.1:2380",),
        client_urls=("https://127.0.0.1:2379",),
    )
    return MemberLists(
        url=place.url, by_peer=(member,), by_client=(member,), client_url="https://127.0.0.1:2379"
    )


def _versions(place: Place, key: str | None) -> VersionAnswers:
    body = json.loads(VERSION_BODY)
    return VersionAnswers(answers=(("https://127.0.0.1:2380", body), ("https://127.0.0.1:2379", dict(body))))


def _unnamed_ports(place: Place, key: str | None) -> UnnamedPorts:
    refused = place.attempt(
        url="http://127.0.0.1:2381",
        identity="none",
        asked=None,
        ending=Ending.UNCLEAR,
        phase=Phase.CONNECT,
        stream_end=StreamEnd.CONNECTION_REFUSED,
        first_bytes=b"",
        response=None,
    )
    return UnnamedPorts(tried=(refused,))


def _facts(place: Place, key: str | None) -> ListenerFacts:
    port = 2380 if place.role == "peer" else 2379
    return ListenerFacts(
        url=place.url,
        role=place.role,
        scheme="https",
        host="127.0.0.1",
        port=port,
        member="m0",
        label=f"{place.role}-m0",
    )


def _split_revocation(place: Place, key: str | None) -> SplitRevocation:
    return split_revocation(_admission(place, "revoked"), _admission(Place("client-http"), "revoked"))


def _names(place: Place, key: str | None) -> DeclaredNames:
    identity = "wrong-cn" if place.role == "peer" else "wrong-hostname"
    return conforming_declared.names(place, _admission(place, identity))


_SAMPLES: dict[type[Any], Any] = {
    **conforming_declared.SAMPLES,
    DeclaredNames: _names,
    **conforming_members.SAMPLES,
    **conforming_experiments.SAMPLES,
    **conforming_files.SAMPLES,
    SplitRevocation: _split_revocation,
    FirstContact: _answer,
    Plaintext: _plaintext,
    AcceptedClient: _acceptance,
    ServedClient: _served_client,
    AccessMatrix: _admission,
    CertificateMessage: _message,
    ServedChain: _chain,
    PathToTrust: _path,
    CertificationPath: _certification_path,
    AnnouncedCAs: _announced,
    Issuers: _issuers,
    HelloVariants: _hellos,
    ServedByMembers: _by_members,
    CAsInUse: _cas_in_use,
    KubernetesCA: lambda place, key: _kubernetes_ca(),
    Policy: lambda place, key: Policy(expiry_days=30),
    Dialling: lambda place, key: Dialling(with_another=False),
    Alarms: lambda place, key: Alarms(texts=()),
    GatewayDial: lambda place, key: GatewayDial(
        served=place.chain,
        observed_at=None,
        with_another=False,
        trusted=(place.trusted,),
        trust_source="ca.crt",
        announced=(),
        allowed_hostname=(),
    ),
    OwnURLs: lambda place, key: OwnURLs(url=place.url, role=place.role, member="m0", advertised=(place.url,)),
    GetExchange: _exchange,
    MemberLists: _members,
    VersionAnswers: _versions,
    UnnamedPorts: _unnamed_ports,
    ListenerFacts: _facts,
    ClientTrust: lambda place, key: ClientTrust(certificates=(place.trusted,), source="ca.crt"),
    ExpectedCertificate: lambda place, key: ExpectedCertificate(
        certificate=place.chain[0], source="server.crt"
    ),
    PortPair: lambda place, key: PortPair(
        client=_chain(Place("client"), None), peer=_chain(Place("peer"), None)
    ),
    **OF_TLS,
    **OF_LOGS,
}


def sample(need: Need, role: str) -> Any:
    """Return a conforming observation for what a check asks for on a listener of that role."""
    return _SAMPLES[need.type](Place(role), need.key)
