"""The files and flags of the etcd of a draw, and the options of the run that judges it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml
from cryptography import x509

from pytest_etcdtls.cluster.etcd_flags import FlagSet
from pytest_etcdtls.cluster.ports import claim_ports
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
    leaf,
    revocation_list,
    served,
    signer_of_served,
    sub_authority,
    trusted_side,
)

_PORTS = ("client", "client2", "peer", "metrics", "http")
_SUITES = {
    "ecdsa": ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    "rsa": ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
}

Options = dict[str, str | Path | list[str] | bool]


@dataclass(frozen=True)
class Asked:
    """A listener that the run is asked to judge.

    Attributes:
        tls: the scheme of its URL is ``https``.
        protocols: the protocols that it speaks to its clients.
    """

    role: Role
    host: str
    port: int
    tls: bool
    protocols: tuple[str, ...]

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
    """The etcd of a draw and the run that judges it.

    Attributes:
        arguments: of etcd.
        options: of the run, by name.
        asked: the listeners that the run judges.
        good: the named good client of each side; without the sides that have none.
        served: what each side is configured to serve.
        roots: the CAs by which what a side serves is verified: those that the run is told, or the right one.
    """

    arguments: tuple[str, ...]
    options: Options
    asked: tuple[Asked, ...]
    good: Mapping[str, Identity]
    served: Mapping[str, Identity]
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
        claim = claim_ports(len(_PORTS), "127.0.0.1")
        try:
            yield cls(directory, dict(zip(_PORTS, claim.ports, strict=True)))
        finally:
            claim.release()


_OF_VERSION = {
    "versions": "tls-min-version",
    "http-url": "listen-client-http-urls",
    "peer-san-rule": "peer-skip-client-san-verification",
}
"""Properties, and the flag without which a version of etcd has none."""


def possible(scenario: Scenario, flags: FlagSet) -> Scenario:
    """Return the draw without what this etcd has no flag for."""
    absent = {
        name
        for name, flag in _OF_VERSION.items()
        if flag not in flags and f"experimental-{flag}" not in flags
    }
    return Scenario(
        scenario.number, {name: value for name, value in scenario.changed.items() if name not in absent}
    )


def arrange(scenario: Scenario, flags: FlagSet, place: Place) -> Arrangement:
    """Write the files of a draw and return how etcd and the run are started."""
    shutil.rmtree(place.directory / "data", ignore_errors=True)
    shutil.rmtree(place.directory / "files", ignore_errors=True)
    files = _Files(place.directory / "files")
    good = {side: leaf(side, scenario[side], scenario) for side in ("client", "peer")}
    pairs = {side: served(side, scenario) for side in ("client", "peer")}
    urls = _urls(scenario, place)
    arguments = [
        *("--name=m0", f"--data-dir={place.directory / 'data'}"),
        *(f"--{name}={value}" for name, value in urls.items()),
        *_side_flags("client", scenario, files, good["client"], pairs, flags),
        *_side_flags("peer", scenario, files, good["peer"], pairs, flags),
        *_common_flags(scenario),
        *("--heartbeat-interval=20", "--election-timeout=100"),  # it serves when it has elected itself
    ]
    arguments += ["--unsafe-no-fsync"] if "unsafe-no-fsync" in flags else []
    if scenario["told-log"] == "yes":
        # 3.4 writes to a file with this logger alone.
        arguments += ["--logger=zap", f"--log-outputs=stderr,{files.directory / 'etcd.log'}"]
    asked = _asked(scenario, place)
    if scenario["told-client"] == "none":
        good.pop("client")
    if scenario["told-peer"] == "not-asked":
        good.pop("peer")
    roots = {side: _roots(side, scenario) for side in ("client", "peer")}
    options = _options(scenario, files, asked, good, roots)
    if scenario["told-log"] == "yes":
        options["etcd_log"] = [files.write("etcd.log", b"")]
    if scenario["told-discovery"] == "yes":
        options["etcd_discover"] = True
    if scenario["told-declaration"] != "none":
        # A declaration names the listeners; they are asked for by it alone.
        asked = tuple(one for one in _asked(scenario, place, declared=True))
        options = {name: value for name, value in options.items() if not name.endswith("endpoint")}
        options["etcd_config"] = files.write("declaration", _declaration(scenario, arguments))
    return Arrangement(tuple(arguments), options, asked, good, pairs, roots)


class _Files:
    """Writes files and returns their paths."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, content: bytes) -> str:
        write_files(self.directory, {PurePosixPath(name): content})
        return str(self.directory / name)

    def pair(self, name: str, identity: Identity) -> tuple[str, str]:
        assert identity.key is not None
        return (
            self.write(f"{name}.crt", encode_certificates(identity.chain)),
            self.write(f"{name}.key", encode_key(identity.key)),
        )


def _urls(scenario: Scenario, place: Place) -> dict[str, str]:
    def url(scheme: str, port: str) -> str:
        return f"{scheme}://127.0.0.1:{place.ports[port]}"

    clients = {
        "https": [url("https", "client")],
        "http": [url("http", "client")],
        "https+http": [url("https", "client"), url("http", "client2")],
        "same-address": [url("https", "client"), url("http", "client")],
    }[scenario["client-url"]]
    peer = url(scenario["peer-url"], "peer")
    found = {
        "listen-client-urls": ",".join(clients),
        "advertise-client-urls": clients[0],
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"m0={peer}",
    }
    for name, port in (("metrics-url", "metrics"), ("http-url", "http")):
        if scenario[name] != "none":
            flag = "listen-metrics-urls" if port == "metrics" else "listen-client-http-urls"
            found[flag] = url(scenario[name], port)
    return found


def _side_flags(
    side: str,
    scenario: Scenario,
    files: _Files,
    good: Identity,
    pairs: Mapping[str, Identity],
    flags: FlagSet,
) -> Iterator[str]:
    prefix = "peer-" if side == "peer" else ""
    auto_tls = scenario[f"{side}-auto-tls"]
    if auto_tls != "alone":
        certificate, key = files.pair("peer" if side == "peer" else "server", pairs[side])
        yield from (f"--{prefix}cert-file={certificate}", f"--{prefix}key-file={key}")
    if auto_tls != "no":
        yield f"--{prefix}auto-tls"
    authentication = scenario[f"{side}-auth"]
    if authentication in ("on", "without-ca"):
        yield "--peer-client-cert-auth" if side == "peer" else "--client-cert-auth"
    if authentication in ("on", "ca-alone"):
        content = bundle(trusted_side(side, scenario), scenario[f"{side}-ca"], good)
        yield f"--{prefix}trusted-ca-file={files.write(f'{side}-trusted.crt', content)}"
    crl = scenario[f"{side}-crl"]
    if crl != "none":
        content_ = revocation_list(trusted_side(side, scenario), crl, _revoked(side, scenario, good, pairs))
        path = str(files.directory / f"{side}.crl")
        if content_ is not None:
            files.write(f"{side}.crl", content_)
        yield f"--{'peer' if side == 'peer' else 'client'}-crl-file={path}"
    if (hostname := scenario[f"{side}-hostname"]) != "none":
        option = "peer-cert-allowed-hostname" if side == "peer" else "client-cert-allowed-hostname"
        yield f"--{option}={ALLOWED_NAMES[hostname]}"
    if side == "peer" and (common_name := scenario["peer-cn"]) != "none":
        yield f"--peer-cert-allowed-cn={ALLOWED_CN[common_name]}"
    if side == "peer" and scenario["peer-san-rule"] == "skipped":
        yield f"--{flags.spell('peer-skip-client-san-verification')}"


def _revoked(side: str, scenario: Scenario, good: Identity, pairs: Mapping[str, Identity]) -> frozenset[int]:
    named = {
        "good": lambda: good.chain[0].serial_number,
        "server": lambda: pairs[side].chain[0].serial_number,
        "sub-ca": lambda: sub_authority(trusted_side(side, scenario), "sub-ca").certificate.serial_number,
    }
    also = scenario[f"{side}-crl-names"]
    serials = {REVOKED, *((named[also](),) if also in named else ())}
    return frozenset(serial for serial in serials if 0 < serial < 1 << 159)


def _common_flags(scenario: Scenario) -> Iterator[str]:
    kind = "rsa" if scenario["key"].startswith("rsa") or scenario["served-kind"] == "rsa-1024" else "ecdsa"
    other = "ecdsa" if kind == "rsa" else "rsa"
    suites = {
        "right": _SUITES[kind],
        "other-key": _SUITES[other],
        "both": (*_SUITES[kind], *_SUITES[other]),
        "cbc-too": (*_SUITES[kind], f"TLS_ECDHE_{kind.upper()}_WITH_AES_128_CBC_SHA"),
    }.get(scenario["suites"], ())
    if suites:
        yield f"--cipher-suites={','.join(suites)}"
    if scenario["versions"] != "none":
        lowest, _, highest = scenario["versions"].partition("-")
        yield from (f"--tls-min-version=TLS{lowest}" for _ in "." if lowest != "none")
        yield from (f"--tls-max-version=TLS{highest}" for _ in "." if highest != "none")


def _asked(scenario: Scenario, place: Place, *, declared: bool = False) -> tuple[Asked, ...]:
    """Return the listeners that a run is asked for, by options or by the declaration."""
    host = "127.0.0.1" if declared else scenario["host"]
    split = scenario["http-url"] != "none"
    found = []
    url = scenario["client-url"]
    protocols = ("grpc",) if split else ("http1", "grpc")
    found.append(Asked(Role.CLIENT, host, place.ports["client"], url != "http", protocols))
    if url == "https+http":
        found.append(Asked(Role.CLIENT, host, place.ports["client2"], False, protocols))
    if scenario["told-peer"] == "asked" or declared:
        found.append(Asked(Role.PEER, host, place.ports["peer"], scenario["peer-url"] == "https", ("http1",)))
    for name, port, role in (
        ("metrics-url", "metrics", Role.METRICS),
        ("http-url", "http", Role.CLIENT_HTTP),
    ):
        if scenario[name] != "none":
            protocols = ("http1",) if role is Role.METRICS else ("http1", "http2")
            found.append(Asked(role, host, place.ports[port], scenario[name] == "https", protocols))
    return tuple(found)


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
    files: _Files,
    asked: tuple[Asked, ...],
    good: Mapping[str, Identity],
    roots: Mapping[str, tuple[x509.Certificate, ...]],
) -> Options:
    options: Options = {
        name: [one.url for one in asked if one.role is role]
        for role, name in _ENDPOINTS.items()
        if any(one.role is role for one in asked)
    }
    for side in ("client", "peer"):
        prefix = "etcd_peer_" if side == "peer" else "etcd_"
        if side == "peer" and scenario["told-peer"] != "asked":
            continue
        if scenario["told-ca"] != "none":
            options[f"{prefix}cacert"] = files.write(f"told-{side}-ca.crt", encode_certificates(roots[side]))
        if side in good:
            certificate, key = files.pair(f"good-{side}", good[side])
            options |= {f"{prefix}cert": certificate, f"{prefix}key": key}
        authenticates = scenario[f"{side}-auth"] in ("on", "ca-alone")
        if (scenario["told-bundle"] == "given" or scenario["told-ca-key"] == "yes") and authenticates:
            options[f"{prefix}trusted_ca"] = str(files.directory / f"{side}-trusted.crt")
            if scenario["told-ca-key"] == "yes":
                trusted = authority(trusted_side(side, scenario))
                options[f"{prefix}ca_key"] = files.write(f"{side}-ca.key", encode_key(trusted.key))
        if scenario["told-served"] == "yes" and scenario[f"{side}-auto-tls"] != "alone":
            expected = "etcd_expect_peer_cert" if side == "peer" else "etcd_expect_cert"
            name = "peer.crt" if side == "peer" else "server.crt"
            if any(one.tls and one.side == side for one in asked):
                options[expected] = [str(files.directory / name)]
    return options


def _declaration(scenario: Scenario, arguments: list[str]) -> bytes:
    words = ["etcd", *arguments]
    if scenario["told-declaration"] == "process":
        return "".join(f"{word}\0" for word in words).encode()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "etcd"},
        "spec": {"containers": [{"name": "etcd", "command": words}]},
    }
    return yaml.safe_dump(pod).encode()
