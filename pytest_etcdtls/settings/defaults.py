"""What we hold for a kind of port where no option says otherwise, wherever it was found.

Values only.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.target import TrustBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class PortDefaults:
    """Credentials that nobody named, for client ports or for peer ports.

    Attributes:
        server_ca: trust anchors for what is served.
        client_trust: the bundle that etcd was told to trust there.
        identities: good identities, in the order in which they are tried.
        served: key pairs that members serve there.
        allowed_cn: the only common names that etcd was told to admit there.
        allowed_hostname: names, one of which a certificate must cover to be admitted there.
    """

    server_ca: TrustBundle | None = None
    client_trust: TrustBundle | None = None
    identities: tuple[Identity, ...] = ()
    served: tuple[Identity, ...] = ()
    allowed_cn: tuple[str, ...] = ()
    allowed_hostname: tuple[str, ...] = ()
