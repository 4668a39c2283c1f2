"""The files and flags of the etcds of a draw, and the options of the run that judges them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cryptography import x509
from starting import manifest

from pytest_etcdtls.declared.effective import SIDES
from pytest_etcdtls.etcd.etcd_flags import FlagSet
from pytest_etcdtls.etcd.ports import claim_ports
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key, write_files
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Role
from truth.drawing import Scenario
from truth.materials import (
    ALLOWED_CN,
    ALLOWED_NAMES,
    REVOKED,
    authority,
    bundle,
    dials,
    leaf,
    revocation_list,
    served,
    signer_of_served,
    sub_authority,
    trusted_side,
)

_PORTS = ("client", "client2", "peer", "metrics", "http")

Options = dict[str, str | list[str]]


@dataclass(frozen=True)
class Asked:
    """A listener that the run is asked to judge.

    Attributes:
        tls: the scheme of its URL is ``https``.
        protocols: the protocols that it speaks to its clients.
        member: which member it is of.
        scenario: the draw as it is for that member.
    """

    role: Role
    host: str
    port: int
    tls: bool
    protocols: tuple[str, ...]
    member: int
    scenario: Scenario

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def side(self) -> str:
        return "peer" if self.role is Role.PEER else "client"

    @property
    def path(self) -> str:
        return "/health" if self.role is Role.METRICS else "/version"


@dataclass(frozen=True)
class Arrangement:
    """The etcds of a draw and the run that judges them.

    Attributes:
        arguments: of the etcd of each member.
        options: of the run, by name.
        asked: the listeners that the run judges.
        good: the named good client of each side; without the sides that have none.
        served: what each side of each member is configured to serve.
        roots: the CAs by which what a side serves is verified: those that the run is told, or the right one.
    """

    arguments: tuple[tuple[str, ...], ...]
    options: Options
    asked: tuple[Asked, ...]
    good: Mapping[str, Identity]
    served: Mapping[tuple[int, str], Identity]
    roots: Mapping[str, tuple[x509.Certificate, ...]]


@dataclass(frozen=True)
class Place:
    """The directory and the ports of draws, which run one after the other."""

    directory: Path
    ports: Mapping[str, int]

    @classmethod
    @contextmanager
    def within(cls, directory: Path) -> Iterator[Place]:
        """Claim ports while the directory is used."""
        names = [f"{name}-m{member}" for member in range(3) for name in _PORTS]
        claim = claim_ports(len(names), "127.0.0.1")
        try:
            yield cls(directory, dict(zip(names, claim.ports, strict=True)))
        finally:
            claim.release()


_OF_VERSION = {
    "versions": "tls-min-version",
    "http-url": "listen-client-http-urls",
    "peer-san-rule": "peer-skip-client-san-verification",
    "peer-dials": "peer-client-cert-file",
}
"""Properties, and the flag without which a version of etcd has none."""


def possible(scenario: Scenario, flags: FlagSet) -> Scenario:
    """Return the draw without what this etcd has no flag for."""
    absent = {
        name
        for name, flag in _OF_VERSION.items()
        if flag not in flags and f"experimental-{flag}" not in flags
    }
    if scenario.size == 1:
        absent |= {name for name in scenario.changed if name.startswith(("m0:", "m1:"))}
    if scenario["members"] == "three-hosts":
        absent.add("host")
    changed = scenario.changed.items()
    return Scenario(
        {name: value for name, value in changed if not {name, name.rpartition(":")[2]} & absent},
    )


def arrange(scenario: Scenario, flags: FlagSet, place: Place) -> Arrangement:
    """Write the files of a draw and return how its etcds and the run are started."""
    for old in ("data", "files"):
        shutil.rmtree(place.directory / old, ignore_errors=True)
    files = place.directory / "files"
    good: dict[str, Identity] = {side: leaf(side, scenario[side], scenario) for side in SIDES}
    arguments: list[list[str]] = []
    asked: list[Asked] = []
    pairs: dict[tuple[int, str], Identity] = {}
    declared = scenario["told-declaration"] != "none"
    for member in range(scenario.size):
        own, directory = scenario.of(member), files / f"m{member}"
        for side in SIDES:
            pairs[member, side] = served(side, own)
            for name, content in side_files(side, own, good[side], pairs[member, side]).items():
                write(directory / name, content)
        arguments.append(
            [
                *(f"--name=m{member}", f"--data-dir={place.directory / 'data' / f'm{member}'}"),
                *_urls(scenario, member, place),
                *_side_flags("client", own, directory, flags),
                *_side_flags("peer", own, directory, flags),
                *_version_flags(own),
                *_elections(scenario, member),
                *(["--unsafe-no-fsync"] if "unsafe-no-fsync" in flags else []),
            ]
        )
        # A declaration names the listeners; they are asked for by it alone.
        asked += asked_listeners(own, member, place, declared=declared)
    if scenario["told-client"] == "none":
        good.pop("client")
    if scenario["told-peer"] == "not-asked":
        good.pop("peer")
    roots: dict[str, tuple[x509.Certificate, ...]] = {side: _roots(side, scenario) for side in SIDES}
    options = _options(scenario, files, asked, good, roots)
    if declared:
        options = {name: value for name, value in options.items() if not name.endswith("endpoint")}
        options["etcd_config"] = [
            written(files / f"declaration-m{member}", declaration_of(scenario, words))
            for member, words in enumerate(arguments)
        ]
    return Arrangement(tuple(map(tuple, arguments)), options, tuple(asked), good, pairs, roots)


def write(path: Path, content: bytes | None) -> None:
    """Write a file, or remove it (``None``)."""
    if content is None:
        path.unlink(missing_ok=True)
    else:
        write_files(path.parent, {PurePosixPath(path.name): content})


def written(path: Path, content: bytes) -> str:
    """Write a file and return its path."""
    write(path, content)
    return str(path)


def _written_pair(path: Path, identity: Identity) -> tuple[str, str]:
    assert identity.key is not None
    return (
        written(path.with_suffix(".crt"), encode_certificates(identity.chain)),
        written(path.with_suffix(".key"), encode_key(identity.key)),
    )


def _elections(scenario: Scenario, member: int) -> tuple[str, ...]:
    """Return flags by which the last member leads: it can dial both others, which need not dial each other.

    A single member serves when it has elected itself.
    """
    if scenario.size == 1:
        return ("--heartbeat-interval=20", "--election-timeout=100")
    leads = member == scenario.size - 1
    return (
        "--heartbeat-interval=50",
        f"--election-timeout={500 if leads else 5000}",
        f"--initial-election-tick-advance={str(leads).lower()}",
    )


def _urls(scenario: Scenario, member: int, place: Place) -> Iterator[str]:
    def url(one: int, scheme: str, port: str) -> str:
        return f"{scheme}://{scenario.of(one).address}:{place.ports[f'{port}-m{one}']}"

    own = scenario.of(member)
    clients = {
        "https": [url(member, "https", "client")],
        "http": [url(member, "http", "client")],
        "https+http": [url(member, "https", "client"), url(member, "http", "client2")],
        "same-address": [url(member, "https", "client"), url(member, "http", "client")],
    }[own["client-url"]]
    peers = [url(one, scenario.of(one)["peer-url"], "peer") for one in range(scenario.size)]
    yield f"--listen-client-urls={','.join(clients)}"
    yield f"--advertise-client-urls={clients[0]}"
    yield f"--listen-peer-urls={peers[member]}"
    yield f"--initial-advertise-peer-urls={peers[member]}"
    yield f"--initial-cluster={','.join(f'm{one}={peer}' for one, peer in enumerate(peers))}"
    for name, port in (("metrics-url", "metrics"), ("http-url", "http")):
        if own[name] != "none":
            flag = "listen-metrics-urls" if port == "metrics" else "listen-client-http-urls"
            yield f"--{flag}={url(member, own[name], port)}"


def side_files(side: str, scenario: Scenario, good: Identity, pair: Identity) -> dict[str, bytes | None]:
    """Return the content of each file of a side; ``None`` for one that is not there."""
    assert pair.key is not None
    name = _NAMES[side]
    trusted = bundle(trusted_side(side, scenario), scenario[f"{side}-ca"])
    crl = scenario[f"{side}-crl"]
    revoked = _revoked(side, scenario, good, pair)
    listed = None if crl == "none" else revocation_list(trusted_side(side, scenario), crl, revoked)
    found = {
        f"{name}.crt": encode_certificates(pair.chain),
        f"{name}.key": encode_key(pair.key),
        f"{side}-trusted.crt": trusted,
        f"{side}.crl": listed,
    }
    if side == "peer" and scenario["peer-dials"] != "with-served":
        another = dials(scenario)
        assert another.key is not None
        found |= {"dials.crt": encode_certificates(another.chain), "dials.key": encode_key(another.key)}
    return found


_NAMES = {"client": "server", "peer": "peer"}
"""The stem of the files of the pair that a side serves."""


def _side_flags(side: str, scenario: Scenario, directory: Path, flags: FlagSet) -> Iterator[str]:
    prefix = "peer-" if side == "peer" else ""
    auto_tls = scenario[f"{side}-auto-tls"]
    if auto_tls != "alone":
        stem = directory / _NAMES[side]
        yield from (f"--{prefix}cert-file={stem}.crt", f"--{prefix}key-file={stem}.key")
    if side == "peer" and scenario["peer-dials"] != "with-served":
        yield f"--peer-client-cert-file={directory / 'dials.crt'}"
        yield f"--peer-client-key-file={directory / 'dials.key'}"
    if auto_tls != "no":
        yield f"--{prefix}auto-tls"
    authentication = scenario[f"{side}-auth"]
    if authentication in ("on", "without-ca"):
        yield "--peer-client-cert-auth" if side == "peer" else "--client-cert-auth"
    if authentication in ("on", "ca-alone"):
        yield f"--{prefix}trusted-ca-file={directory / f'{side}-trusted.crt'}"
    if scenario[f"{side}-crl"] != "none":
        yield f"--{side}-crl-file={directory / f'{side}.crl'}"
    if (hostname := scenario[f"{side}-hostname"]) != "none":
        yield f"--{side}-cert-allowed-hostname={ALLOWED_NAMES[hostname]}"
    if side == "peer" and (common_name := scenario["peer-cn"]) != "none":
        yield f"--peer-cert-allowed-cn={ALLOWED_CN[common_name]}"
    if side == "peer" and scenario["peer-san-rule"] == "skipped":
        yield f"--{flags.spell('peer-skip-client-san-verification')}"


def _revoked(side: str, scenario: Scenario, good: Identity, pair: Identity) -> frozenset[int]:
    named = {
        "good": lambda: good.chain[0].serial_number,
        "server": lambda: pair.chain[0].serial_number,
        "sub-ca": lambda: sub_authority(trusted_side(side, scenario), "sub-ca").certificate.serial_number,
    }
    also = scenario[f"{side}-crl-names"]
    serials = {REVOKED, *((named[also](),) if also in named else ())}
    return frozenset(serial for serial in serials if 0 < serial < 1 << 159)


def _version_flags(scenario: Scenario) -> Iterator[str]:
    if scenario["versions"] != "none":
        lowest, _, highest = scenario["versions"].partition("-")
        yield from (f"--tls-min-version=TLS{lowest}" for _ in "." if lowest != "none")
        yield from (f"--tls-max-version=TLS{highest}" for _ in "." if highest != "none")


def asked_listeners(scenario: Scenario, member: int, place: Place, *, declared: bool) -> Iterator[Asked]:
    """Yield the listeners of a member that a run is asked for, by options or by the declaration."""
    host = scenario.address if declared or scenario["host"] == "127.0.0.1" else scenario["host"]

    def asked(role: Role, port: str, tls: bool, *protocols: str) -> Asked:
        return Asked(role, host, place.ports[f"{port}-m{member}"], tls, protocols, member, scenario)

    url = scenario["client-url"]
    protocols = ("grpc",) if scenario["http-url"] != "none" else ("http1", "grpc")
    yield asked(Role.CLIENT, "client", url != "http", *protocols)
    if url == "https+http":
        yield asked(Role.CLIENT, "client2", False, *protocols)
    if scenario["told-peer"] == "asked" or declared:
        yield asked(Role.PEER, "peer", scenario["peer-url"] == "https", "http1")
    if scenario["metrics-url"] != "none":
        yield asked(Role.METRICS, "metrics", scenario["metrics-url"] == "https", "http1")
    if scenario["http-url"] != "none":
        yield asked(Role.CLIENT_HTTP, "http", scenario["http-url"] == "https", "http1", "http2")


def _roots(side: str, scenario: Scenario) -> tuple[x509.Certificate, ...]:
    own = authority(signer_of_served(side, scenario)).certificate
    other = authority("other").certificate
    return {
        "exact": (own,),
        "broader": (other, own, authority("client").certificate),
        "other": (other,),
        "none": (own,),
    }[scenario["told-ca"]]


_ENDPOINTS = {
    Role.CLIENT: "etcd_endpoint",
    Role.PEER: "etcd_peer_endpoint",
    Role.METRICS: "etcd_metrics_endpoint",
    Role.CLIENT_HTTP: "etcd_client_http_endpoint",
}


def _options(
    scenario: Scenario,
    files: Path,
    asked: Sequence[Asked],
    good: Mapping[str, Identity],
    roots: Mapping[str, tuple[x509.Certificate, ...]],
) -> Options:
    options: Options = {
        name: [one.url for one in asked if one.role is role]
        for role, name in _ENDPOINTS.items()
        if any(one.role is role for one in asked)
    }
    members = [files / f"m{member}" for member in range(scenario.size)]
    for side in SIDES:
        prefix = "etcd_peer_" if side == "peer" else "etcd_"
        if side == "peer" and scenario["told-peer"] != "asked":
            continue
        if scenario["told-ca"] != "none":
            content = encode_certificates(roots[side])
            options[f"{prefix}cacert"] = written(files / f"told-{side}-ca.crt", content)
        if side in good:
            certificate, key = _written_pair(files / f"good-{side}", good[side])
            options |= {f"{prefix}cert": certificate, f"{prefix}key": key}
        authenticates = scenario[f"{side}-auth"] in ("on", "ca-alone")
        if (scenario["told-bundle"] == "given" or scenario["told-ca-key"] == "yes") and authenticates:
            options[f"{prefix}trusted_ca"] = str(members[-1] / f"{side}-trusted.crt")
            if scenario["told-ca-key"] == "yes":
                trusted = authority(trusted_side(side, scenario))
                options[f"{prefix}ca_key"] = written(files / f"{side}-ca.key", encode_key(trusted.key))
    return options


def declaration_of(scenario: Scenario, arguments: Sequence[str]) -> bytes:
    """Return a declaration of what a member is started with."""
    words = ["etcd", *arguments]
    if scenario["told-declaration"] == "process":
        return "".join(f"{word}\0" for word in words).encode()
    return manifest(words).encode()
