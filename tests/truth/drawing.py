"""Draws clusters that are near a good one: one or two properties of the good cluster are changed.

A draw is a mapping of properties to values. The same seed and number draw the same, on any etcd. A cluster
that is drawn uniformly is nearly always broken in several ways, and one fault then hides the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

BUNDLES = (
    *("ca", "ca+other", "other+ca", "renewed", "old+renewed", "renewed+old", "same-key", "der", "empty"),
    *("key-before", "key-after", "sub-ca", "ca+sub-ca", "duplicate", "text-around", "other", "expired"),
    *("unparsable-after", "leaf", "crlf", "trusted-label", "crl-after", "no-ca-flag", "der-after"),
)
"""What is in the bundle for clients; ``ca`` is the CA of the good client."""

LEAVES = (
    *("good", "no-usage", "server-usage", "any-usage", "code-usage", "expired", "expired-long-ago"),
    *("not-yet-valid", "ends-soon", "address", "other-address", "localhost", "other-name", "wildcard"),
    *("address+other-name", "other-address+localhost", "uri", "mail", "sub-ca", "sub-ca-missing"),
    *("sub-ca-with-root", "sha1", "rsa-1024", "rsa-2048", "p384", "ed25519", "critical", "negative-serial"),
    *("serial-zero", "long-serial", "is-a-ca", "no-key-usage", "encipherment-only", "no-subject"),
    *("sub-ca-expired", "sub-ca-no-flag", "sub-ca-server-usage", "sub-ca-no-cert-sign", "sub-ca-constrained"),
    *("sub-ca-excluded", "sub-sub-ca", "sub-ca-sha1", "foreign", "self-signed", "after-2050"),
    *("address-as-name", "other-key-identifier", "no-key-identifier", "ipv6", "empty-names", "stray-after"),
)
"""What the named good client presents."""

CRLS = (
    *("none", "der", "der-v1", "pem", "pem-text", "pem-two", "pem-crlf", "junk", "missing", "der-newline"),
    *("empty", "stale", "foreign", "a-certificate"),
)
SERVED_NAMES = ("right", "address", "localhost", "other", "none", "cn-only", "wildcard", "ipv6")
SERVED_TIMES = ("right", "expired", "just-expired", "not-yet-valid", "ends-soon", "long")
SERVED_USAGES = ("both", "server", "client", "none", "any")
SERVED_CHAINS = ("direct", "sub-ca", "sub-ca-missing", "with-root", "self-signed", "stray", "sub-ca-expired")
SERVED_KINDS = ("plain", "sha1", "rsa-1024", "critical", "is-a-ca", "no-key-usage", "encipherment-only")
AUTHENTICATION = ("on", "ca-alone", "without-ca", "off")
NAMES = ("none", "right", "other", "wildcard")

PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "layout": ("per-port", "shared", "per-role"),
    "key": ("p256", "p384", "rsa-2048", "ed25519"),
    "client-auth": AUTHENTICATION,
    "client-ca": BUNDLES,
    "client-auto-tls": ("no", "alone", "beside"),
    "client-url": ("https", "http", "https+http", "same-address"),
    "http-url": ("none", "https", "http"),
    "metrics-url": ("none", "https", "http"),
    "client-crl": CRLS,
    "client-crl-names": ("nobody", "good", "server", "sub-ca"),
    "client-hostname": NAMES,
    "suites": ("none", "right", "other-key", "both", "cbc-too"),
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
    "client": LEAVES,
    "peer": LEAVES,
    "told-ca": ("exact", "broader", "other", "none"),
    "told-bundle": ("none", "given"),
    "told-declaration": ("none", "process", "manifest"),
    "told-ca-key": ("no", "yes"),
    "told-client": ("given", "none"),
    "told-peer": ("asked", "not-asked"),
    "told-served": ("no", "yes"),
    "told-log": ("no", "yes"),
    "told-discovery": ("no", "yes"),
    "host": ("127.0.0.1", "localhost"),
}
"""Each property with its values; the first is that of the good cluster."""

_SOLE = ("client-crl-names", "peer-crl-names")
"""Properties that mean nothing on their own: a list is drawn with them."""


@dataclass(frozen=True)
class Scenario:
    """A cluster, its clients, and what the run is told about them.

    Attributes:
        number: which draw it is.
        changed: the properties that are not those of the good cluster.
    """

    number: int
    changed: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.changed.get(name, PROPERTIES[name][0])

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.changed.items()) or "the good cluster"

    def with_changes(self, changes: Mapping[str, str]) -> Scenario:
        """Return the draw with further changes."""
        return Scenario(self.number, {**self.changed, **changes})

    def without(self) -> Iterator[Scenario]:
        """Yield the draw without each of its changes in turn, to find which are needed."""
        for left_out in self.changed:
            rest = {name: value for name, value in self.changed.items() if name != left_out}
            yield Scenario(self.number, rest)


def draw(seed: int, number: int) -> Scenario:
    """Return a draw."""
    rng = Random(f"{seed}/{number}")  # noqa: S311 - reproducible, not secret
    count = rng.choices((0, 1, 2, 3, 4), (1, 8, 9, 4, 1))[0]
    # A property with many values is drawn more often, so that each value is.
    weights = [min(8, len(values) - 1) for values in PROPERTIES.values()]
    changed: dict[str, str] = {}
    while len(changed) < count:
        name = rng.choices(list(PROPERTIES), weights)[0]
        changed[name] = rng.choice(PROPERTIES[name][1:])
        if name in _SOLE:
            crl = name.removesuffix("-names")
            changed.setdefault(crl, rng.choice(PROPERTIES[crl][1:]))
    # Half of the runs know more than the endpoints, since most checks need it.
    if rng.random() < 0.5:
        name = rng.choice([name for name in PROPERTIES if name.startswith("told-")])
        changed.setdefault(name, rng.choice(PROPERTIES[name][1:]))
    return Scenario(number, {name: changed[name] for name in PROPERTIES if name in changed})


def singles() -> list[Scenario]:
    """Return the good cluster with each change alone."""
    each = [(name, value) for name, values in PROPERTIES.items() for value in values[1:] if name not in _SOLE]
    each_list = [
        {name: value, f"{name}-names": named}
        for name in ("client-crl", "peer-crl")
        for value in ("der", "pem", "der-v1")
        for named in PROPERTIES[f"{name}-names"][1:]
    ]
    changes = [{}, *({name: value} for name, value in each), *each_list]
    return [Scenario(number, changed) for number, changed in enumerate(changes)]
