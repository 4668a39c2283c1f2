"""What a check can ask for: the facts, by type; and the attempts and responses that they consist of.

Each is described by its docstring. Names are resolved at first use.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_etcdtls.facts.access import AcceptedClient, Access, Case, PresentedClient, ServedClient
    from pytest_etcdtls.facts.access_matrix import AccessMatrix, IdentityAttempts, SplitRevocation
    from pytest_etcdtls.facts.alternatives import HelloVariants, ServerAddresses, ServerNames
    from pytest_etcdtls.facts.api import (
        ClientExchange,
        GRPCOverHTTP1,
        NegotiatedExchange,
        OtherPort,
        UnauthenticatedExchange,
    )
    from pytest_etcdtls.facts.calls import GatewayAnswer, GatewayDial, RangeAnswer
    from pytest_etcdtls.facts.certificates import (
        AnnouncedCAs,
        CertificateMessage,
        CertificationPath,
        ClientTrust,
        DeclaredLeaf,
        Dialling,
        ExpectedCertificate,
        Issuers,
        KubernetesCA,
        PathToTrust,
        ServedByMembers,
        ServedChain,
        ServedKey,
    )
    from pytest_etcdtls.facts.clock import MemberClock
    from pytest_etcdtls.facts.configuration import (
        Declarations,
        DeclaredBundle,
        DeclaredNames,
        DeclaredStart,
        ListenerDeclaration,
    )
    from pytest_etcdtls.facts.declared_files import DeclaredFiles, HeldCertificates, TrustedFiles
    from pytest_etcdtls.facts.discovery import Discovery, LoopbackElsewhere
    from pytest_etcdtls.facts.etcd_log import EtcdLogs, LogComparison
    from pytest_etcdtls.facts.experiments import (
        Experiment,
        ForeignMember,
        RenewalUnderLoad,
        SuiteOffers,
    )
    from pytest_etcdtls.facts.fact import Each
    from pytest_etcdtls.facts.listener import (
        BrokenConnections,
        FirstContact,
        Plaintext,
        Policy,
        TLSContact,
        Tried,
        UnnamedPorts,
    )
    from pytest_etcdtls.facts.member_list import (
        MemberListing,
        MemberListings,
        OwnURLs,
    )
    from pytest_etcdtls.facts.members import (
        AdvertisedURLs,
        ClusterClaims,
        IssuedClients,
        SideBySide,
    )
    from pytest_etcdtls.facts.peer_connections import PeerConnections
    from pytest_etcdtls.facts.process_comparison import ProcessComparison
    from pytest_etcdtls.facts.protocol import (
        AlpnChoices,
        GroupSupport,
        OldVersions,
        SilentConnection,
        SuiteSupport,
        TLS13Suites,
        UnusualClientHello,
    )
    from pytest_etcdtls.facts.refusal_grounds import RefusalGrounds
    from pytest_etcdtls.facts.rehearsal import Rehearsal
    from pytest_etcdtls.facts.release import (
        EtcdRelease,
        EtcdReleases,
        GoReleases,
        SplitListeners,
    )
    from pytest_etcdtls.facts.sessions import (
        ForeignSession,
        Renegotiation,
        Resumption,
        SessionTickets,
    )
    from pytest_etcdtls.facts.stopping import SecondLook
    from pytest_etcdtls.tls.attempt import (
        Attempt,
        Ending,
        Response,
    )

__all__ = [
    "AcceptedClient",
    "Access",
    "AccessMatrix",
    "AdvertisedURLs",
    "AlpnChoices",
    "AnnouncedCAs",
    "Attempt",
    "BrokenConnections",
    "Case",
    "CertificateMessage",
    "CertificationPath",
    "ClientExchange",
    "ClientTrust",
    "ClusterClaims",
    "Declarations",
    "DeclaredBundle",
    "DeclaredFiles",
    "DeclaredLeaf",
    "DeclaredNames",
    "DeclaredStart",
    "Dialling",
    "Discovery",
    "Each",
    "Ending",
    "EtcdLogs",
    "EtcdRelease",
    "EtcdReleases",
    "ExpectedCertificate",
    "Experiment",
    "FirstContact",
    "ForeignMember",
    "ForeignSession",
    "GRPCOverHTTP1",
    "GatewayAnswer",
    "GatewayDial",
    "GoReleases",
    "GroupSupport",
    "HeldCertificates",
    "HelloVariants",
    "IdentityAttempts",
    "IssuedClients",
    "Issuers",
    "KubernetesCA",
    "ListenerDeclaration",
    "LogComparison",
    "LoopbackElsewhere",
    "MemberClock",
    "MemberListing",
    "MemberListings",
    "NegotiatedExchange",
    "OldVersions",
    "OtherPort",
    "OwnURLs",
    "PathToTrust",
    "PeerConnections",
    "Plaintext",
    "Policy",
    "PresentedClient",
    "ProcessComparison",
    "RangeAnswer",
    "RefusalGrounds",
    "Rehearsal",
    "Renegotiation",
    "RenewalUnderLoad",
    "Response",
    "Resumption",
    "SecondLook",
    "ServedByMembers",
    "ServedChain",
    "ServedClient",
    "ServedKey",
    "ServerAddresses",
    "ServerNames",
    "SessionTickets",
    "SideBySide",
    "SilentConnection",
    "SplitListeners",
    "SplitRevocation",
    "SuiteOffers",
    "SuiteSupport",
    "TLS13Suites",
    "TLSContact",
    "Tried",
    "TrustedFiles",
    "UnauthenticatedExchange",
    "UnnamedPorts",
    "UnusualClientHello",
]


if not TYPE_CHECKING:  # a type checker reports a name that is not there

    def __getattr__(name: str) -> object:
        for module in pkgutil.iter_modules(__path__) if name in __all__ else ():
            value = getattr(importlib.import_module(f"{__name__}.{module.name}"), name, None)
            if value is not None:
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
