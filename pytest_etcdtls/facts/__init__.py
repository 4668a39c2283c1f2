"""What a check can ask for: the facts, by type; and the attempts and responses that they consist of.

``docs/facts.md`` describes each. Names are resolved at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_etcdtls.declared.files import (
        DeclaredFiles,
        DeclaredLeaf,
        HeldCertificates,
    )
    from pytest_etcdtls.facts.access import (
        AcceptedClient,
        AccessMatrix,
        IdentityAttempts,
        ServedClient,
        SplitRevocation,
    )
    from pytest_etcdtls.facts.api import (
        Alarms,
        ClientExchange,
        GatewayAnswer,
        GatewayDial,
        GRPCOverHTTP1,
        MemberLists,
        NegotiatedExchange,
        RangeAnswer,
        UnauthenticatedExchange,
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
        HelloVariants,
        Issuers,
        KubernetesCA,
        PathToTrust,
        PortFits,
        PortPair,
        ServedByMembers,
        ServedChain,
    )
    from pytest_etcdtls.facts.configuration import (
        Declarations,
        DeclaredBundle,
        DeclaredNames,
        DeclaredStart,
        ListenerDeclaration,
        ListenersSeen,
    )
    from pytest_etcdtls.facts.discovery import Discovery
    from pytest_etcdtls.facts.etcd_log import LogComparison
    from pytest_etcdtls.facts.experiments import (
        Experiment,
        ForeignMember,
        RenewalUnderLoad,
        SuiteOffers,
    )
    from pytest_etcdtls.facts.listener import (
        FirstContact,
        ListenerFacts,
        Plaintext,
        Policy,
        UnnamedPorts,
    )
    from pytest_etcdtls.facts.member_list import (
        MemberListings,
        OwnURLs,
    )
    from pytest_etcdtls.facts.members import (
        AdvertisedURLs,
        ClusterClaims,
        MemberCount,
        SideBySide,
    )
    from pytest_etcdtls.facts.protocol import (
        AlpnChoices,
        GroupSupport,
        NewestVersion,
        OldVersions,
        SilentConnection,
        SuiteSupport,
        TLS13Suites,
        UnusualClientHello,
    )
    from pytest_etcdtls.facts.release import (
        EtcdRelease,
        EtcdReleases,
        GoReleases,
        SplitListeners,
    )
    from pytest_etcdtls.tls.attempt import (
        Attempt,
        Ending,
        ForeignSession,
        Renegotiation,
        Response,
        Resumption,
        SessionTickets,
    )

_MODULES = (
    "declared.files",
    "facts.access",
    "facts.api",
    "facts.certificates",
    "facts.configuration",
    "facts.discovery",
    "facts.etcd_log",
    "facts.experiments",
    "facts.listener",
    "facts.member_list",
    "facts.members",
    "facts.protocol",
    "facts.release",
    "tls.attempt",
)

__all__ = [
    "AcceptedClient",
    "AccessMatrix",
    "AdvertisedURLs",
    "Alarms",
    "AlpnChoices",
    "AnnouncedCAs",
    "Attempt",
    "CAsInUse",
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
    "Ending",
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
    "Issuers",
    "KubernetesCA",
    "ListenerDeclaration",
    "ListenerFacts",
    "ListenersSeen",
    "LogComparison",
    "MemberCount",
    "MemberListings",
    "MemberLists",
    "NegotiatedExchange",
    "NewestVersion",
    "OldVersions",
    "OwnURLs",
    "PathToTrust",
    "Plaintext",
    "Policy",
    "PortFits",
    "PortPair",
    "RangeAnswer",
    "Renegotiation",
    "RenewalUnderLoad",
    "Response",
    "Resumption",
    "ServedByMembers",
    "ServedChain",
    "ServedClient",
    "SessionTickets",
    "SideBySide",
    "SilentConnection",
    "SplitListeners",
    "SplitRevocation",
    "SuiteOffers",
    "SuiteSupport",
    "TLS13Suites",
    "UnauthenticatedExchange",
    "UnnamedPorts",
    "UnusualClientHello",
    "VersionAnswers",
]


if not TYPE_CHECKING:  # a type checker reports a name that is not there

    def __getattr__(name: str) -> object:
        for module in _MODULES if name in __all__ else ():
            if (
                value := getattr(importlib.import_module(f"pytest_etcdtls.{module}"), name, None)
            ) is not None:
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
