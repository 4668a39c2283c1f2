"""Draws clusters that are near a good one: one or two properties of the good cluster are changed.

A draw is a mapping of properties to values. The same seed and number draw the same, on any etcd. A cluster
that is drawn uniformly is nearly always broken in several ways, and one fault then hides the others.

A cluster has one member or three, which are at hosts of their own or at ports of one host. A property that
begins with ``m0:`` or ``m1:`` is that of one member alone. What a restart does after files were replaced is
compared in ``process`` and :mod:`truth.modes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

BUNDLES = (
    *("ca", "ca+other", "renewed", "old+renewed", "sub-ca", "ca+sub-ca", "other"),
    *("expired", "not-yet-valid", "server-usage", "excluding"),
)
"""What is in the bundle for clients; ``ca`` is the CA of the good client. ``declared`` reads many others."""

LEAVES = (
    *("good", "no-usage", "server-usage", "code-usage", "expired", "not-yet-valid", "ends-soon", "address"),
    *("other-address", "localhost", "other-name", "wildcard", "other-address+localhost", "uri", "ipv6"),
    *("address-as-name", "empty-names", "sub-ca", "sub-ca-missing", "sub-ca-expired", "sub-ca-server-usage"),
    *("sub-ca-excluded", "foreign", "self-signed", "rsa-1024", "rsa-2048", "ed25519", "critical"),
    *("negative-serial", "no-subject", "stray-after"),
)
"""What the named good client presents. ``oracle`` verifies many other chains."""

CRLS = ("none", "der", "pem", "pem-crlf", "junk", "missing", "stale", "foreign")
"""``declared`` reads many other lists."""
SERVED_NAMES = ("right", "address", "localhost", "other", "none", "cn-only", "wildcard", "ipv6")
SERVED_TIMES = ("right", "expired", "just-expired", "not-yet-valid", "ends-soon", "long")
SERVED_USAGES = ("both", "server", "client", "none", "any")
SERVED_CHAINS = ("direct", "sub-ca", "sub-ca-missing", "with-root", "self-signed", "stray", "sub-ca-expired")
SERVED_KINDS = ("plain", "sha1", "rsa-1024", "critical", "is-a-ca", "no-key-usage", "encipherment-only")
AUTHENTICATION = ("on", "ca-alone", "without-ca", "off")
NAMES = ("none", "right", "other", "wildcard")

PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "members": ("one", "three-hosts", "one-host"),
    "layout": ("per-port", "shared", "per-role"),
    "key": ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"),
    "client-auth": AUTHENTICATION,
    "client-ca": BUNDLES,
    "client-auto-tls": ("no", "alone", "beside"),
    "client-url": ("https", "http", "https+http", "same-address"),
    "http-url": ("none", "https", "http"),
    "metrics-url": ("none", "https", "http"),
    "client-crl": CRLS,
    "client-crl-names": ("nobody", "good", "server", "sub-ca"),
    "client-hostname": NAMES,
    "versions": ("none", "1.2-1.2", "1.3-1.3", "1.2-none", "1.3-none", "none-1.2"),
    "served-names": SERVED_NAMES,
    "served-times": SERVED_TIMES,
    "served-usage": SERVED_USAGES,
    "served-chain": SERVED_CHAINS,
    "served-kind": SERVED_KINDS,
    "peer-auth": AUTHENTICATION,
    "peer-ca": BUNDLES,
    "peer-auto-tls": ("no", "alone", "beside"),
    "peer-url": ("https", "http"),
    "peer-crl": CRLS,
    "peer-crl-names": ("nobody", "good", "server"),
    "peer-cn": ("none", "right", "other", "two"),
    "peer-hostname": NAMES,
    "peer-san-rule": ("on", "skipped"),
    "peer-served-names": SERVED_NAMES,
    "peer-served-times": SERVED_TIMES,
    "peer-served-usage": SERVED_USAGES,
    "peer-served-chain": SERVED_CHAINS,
    "peer-dials": ("with-served", "right", "foreign", "other-address", "server-usage"),
    "client": LEAVES,
    "peer": LEAVES,
    "told-ca": ("exact", "broader", "other", "none"),
    "told-bundle": ("none", "given"),
    "told-declaration": ("none", "process", "manifest"),
    "told-ca-key": ("no", "yes"),
    "told-client": ("given", "none"),
    "told-peer": ("asked", "not-asked"),
    "host": ("127.0.0.1", "localhost"),
}
"""Each property with its values; the first is that of the good cluster."""

_SOLE = ("client-crl-names", "peer-crl-names")
"""Properties that mean nothing on their own: a list is drawn with them."""

_OF_A_CLUSTER = ("members", "layout", "client", "peer", "host")
OF_A_MEMBER = tuple(name for name in PROPERTIES if name not in _OF_A_CLUSTER and not name.startswith("told-"))
"""The properties that one of three members may have alone."""


@dataclass(frozen=True)
class Scenario:
    """A cluster, its clients, and what the run is told about them.

    Attributes:
        changed: the properties that are not those of the good cluster.
        address: of the member that :meth:`of` was asked for.
    """

    changed: Mapping[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"

    def __getitem__(self, name: str) -> str:
        return self.changed.get(name, PROPERTIES[name][0])

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.changed.items()) or "the good cluster"

    @property
    def size(self) -> int:
        return 1 if self["members"] == "one" else 3

    def of(self, member: int) -> Scenario:
        """Return the draw as it is for one member."""
        own = {name: value for name, value in self.changed.items() if ":" not in name}
        if self.size > 1:
            prefix = f"m{member}:"
            own |= {
                name.removeprefix(prefix): value
                for name, value in self.changed.items()
                if name.startswith(prefix)
            }
        host = member + 1 if self["members"] == "three-hosts" else 1
        return Scenario(own, f"127.0.0.{host}")

    def anywhere(self, name: str) -> frozenset[str]:
        """Return the values that a property has for some member."""
        return frozenset(self.of(member)[name] for member in range(self.size))


def draw(seed: int, number: int) -> Scenario:
    """Return a draw."""
    rng = Random(f"{seed}/{number}")  # noqa: S311 - reproducible, not secret
    three = rng.random() < 0.4
    count = rng.choices((0, 1, 2, 3, 4), (8, 4, 1, 0, 0) if three else (1, 8, 9, 4, 1))[0]
    changed: dict[str, str] = {}
    while len(changed) < count:
        _change(changed, "", tuple(PROPERTIES), rng)
    if three:
        changed["members"] = rng.choice(PROPERTIES["members"][1:])
        odd = _change(changed, "m1:", OF_A_MEMBER, rng)
        if odd == "versions" and rng.random() < 0.7:
            # Two members may have no version in common while the third one has all.
            _change(changed, "m0:", (odd,), rng)
    # Half of the runs know more than the endpoints, since most checks need it.
    if rng.random() < 0.5:
        name = rng.choice([name for name in PROPERTIES if name.startswith("told-")])
        changed.setdefault(name, rng.choice(PROPERTIES[name][1:]))
    return Scenario(changed)


def _change(changed: dict[str, str], prefix: str, names: tuple[str, ...], rng: Random) -> str:
    """Change one of these properties and return its name."""
    # A property with many values is drawn more often, so that each value is.
    name = rng.choices(names, [min(8, len(PROPERTIES[name]) - 1) for name in names])[0]
    changed[prefix + name] = rng.choice(PROPERTIES[name][1:])
    crl = name.removesuffix("-names")
    if name in _SOLE:
        changed.setdefault(f"{prefix}{crl}", rng.choice(PROPERTIES[crl][1:]))
    return name
