"""The table of options: one row each, from which the command line and the ini file are made.

Plain data; it knows neither how values are read nor what is done with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

GROUP = "etcd TLS conformance"


class Kind(Enum):
    """How an option is given."""

    TEXT = "one value, the last one given counts"
    LIST = "may be given again"
    FLAG = "has no value"


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        flag: as on the command line.
        help: for ``--help``; ``%%`` for a per cent sign, as argparse wants it.
        metavar: the word for its value.
        ini: it has an ini twin: the flag without the leading dashes, underscores for dashes.
        dest: attribute of ``config.option``, if not :attr:`name`.
        const: what a flag stores.
    """

    flag: str
    help: str
    metavar: str | None = None
    kind: Kind = Kind.TEXT
    ini: bool = True
    dest_: str | None = None
    const: bool = True

    @property
    def name(self) -> str:
        """Name of the ini twin."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def dest(self) -> str:
        """Attribute of ``config.option``."""
        return self.dest_ or self.name


_ALSO = "Repeatable, commas allowed."

ENDPOINTS = (
    Option(
        "--etcd-endpoint",
        "client listener of a live cluster, as etcdctl's --endpoints: https://10.0.0.11:2379. " + _ALSO,
        "URL",
        Kind.LIST,
    ),
    Option("--etcd-peer-endpoint", "peer listener: https://10.0.0.11:2380. " + _ALSO, "URL", Kind.LIST),
    Option(
        "--etcd-metrics-endpoint",
        "listener of etcd's --listen-metrics-urls. " + _ALSO,
        "URL",
        Kind.LIST,
    ),
    Option(
        "--etcd-client-http-endpoint",
        "listener of etcd's --listen-client-http-urls. " + _ALSO,
        "URL",
        Kind.LIST,
    ),
)
"""The options that name live listeners; no environment variable stands in for them."""

CONFIG = Option(
    "--etcd-config",
    "what a member of a live cluster was told to be: kubeadm's etcd.yaml, etcd's own configuration file, an "
    "environment file, a systemd unit or a command line. Gives the endpoints of all roles that no endpoint "
    "option names, and what credentials are not named; the wire is compared with it. Repeatable, one for "
    "each member.",
    "FILE",
    Kind.LIST,
)

LIVE = (*ENDPOINTS, CONFIG)
"""The options that say which live cluster is meant."""

_LIVE = (
    Option(
        "--etcd-connect-to",
        "connect to ADDR:PORT for an endpoint's HOST:PORT, as curl's option of that name: HOST and the first "
        "PORT may be empty for any, ADDR and the last PORT for the same. Names are judged against the URL. "
        "Repeatable.",
        "HOST:PORT:ADDR:PORT",
        Kind.LIST,
    ),
    Option(
        "--etcd-cacert",
        "PEM bundle that what is served must lead to; else ETCDCTL_CACERT.",
        "FILE",
    ),
    Option("--etcd-cert", "client certificate; else ETCDCTL_CERT.", "FILE"),
    Option("--etcd-key", "its private key; else ETCDCTL_KEY.", "FILE"),
    Option("--etcd-peer-cacert", "as --etcd-cacert, for peer listeners (default: that one).", "FILE"),
    Option("--etcd-peer-cert", "as --etcd-cert, for peer listeners (default: that one).", "FILE"),
    Option("--etcd-peer-key", "private key of --etcd-peer-cert.", "FILE"),
    Option(
        "--etcd-trusted-ca",
        "the bundle that etcd was told to trust for its clients, its --trusted-ca-file (default: "
        "--etcd-cacert if the client certificate verifies against it, else unknown).",
        "FILE",
    ),
    Option(
        "--etcd-peer-trusted-ca",
        "the bundle that etcd was told to trust for its peers, its --peer-trusted-ca-file (default: "
        "--etcd-peer-cacert if the peer certificate verifies against it, else unknown).",
        "FILE",
    ),
    Option(
        "--etcd-ca-key",
        "private key of a CA in the trusted bundle: lets the run mint one-day identities (expired, wrong "
        "usage ...), in memory alone.",
        "FILE",
    ),
    Option("--etcd-peer-ca-key", "the same for the peers' trusted bundle.", "FILE"),
    Option(
        "--etcd-kubernetes-ca",
        "CA of the Kubernetes cluster that the etcd serves: etcd should not trust it.",
        "FILE",
    ),
    Option("--etcd-user", "user of a cluster with authentication on; else ETCDCTL_USER.", "NAME"),
    Option("--etcd-password-file", "file with that user's password in its first line.", "FILE"),
    Option(
        "--etcd-expect-cert",
        "certificate that must be served on client listeners, of HOST alone if one is named. Repeatable.",
        "[HOST=]FILE",
        Kind.LIST,
    ),
    Option("--etcd-expect-peer-cert", "the same for peer listeners. Repeatable.", "[HOST=]FILE", Kind.LIST),
    CONFIG,
    Option(
        "--etcd-pki-dir",
        "where the declared files are here, or copies of them: each by its whole path, by any ending of it, "
        "at last by its name; in a directory called as the member, if there is one. With endpoints and no "
        "--etcd-config kubeadm's names are looked for there, as in /etc/kubernetes/pki/etcd.",
        "DIR",
    ),
    Option(
        "--etcd-log",
        "etcd's own log, of HOST's member if one is named: the connections that it rejected are set against "
        "ours. Repeatable.",
        "[HOST=]FILE",
        Kind.LIST,
    ),
    Option(
        "--etcd-discover",
        "ask the cluster for its members (by gRPC, its JSON gateway or a peer port's /members) and judge the "
        "client and peer listeners that they advertise as well.",
        kind=Kind.FLAG,
    ),
)

_OWNED = (
    Option(
        "--etcd-conformance",
        "run the suite here: on the endpoints of the ini file if it has any, else on an owned cluster.",
        kind=Kind.FLAG,
        ini=False,
    ),
    Option(
        "--no-etcd-conformance",
        "no suite, only fixtures and options, even though an endpoint is given.",
        kind=Kind.FLAG,
        ini=False,
        dest_="etcd_conformance",
        const=False,
    ),
    Option(
        "--etcd-backend",
        "how to start an owned cluster: auto (default: what is there, the header says what), container or "
        "process.",
        "BACKEND",
    ),
    Option(
        "--etcd-image",
        "start owned clusters from this image. Repeatable, one target each.",
        "IMAGE",
        Kind.LIST,
    ),
    Option(
        "--etcd-binary",
        "start owned clusters from this etcd. Repeatable, one target each.",
        "PATH",
        Kind.LIST,
    ),
    Option("--etcd-size", "members of an owned cluster: 1, 3 or 5 (default 1).", "N"),
    Option(
        "--etcd-key-type",
        "keys of an owned cluster: ecdsa-p256 (default), ecdsa-p384, rsa-2048, rsa-4096 or ed25519.",
        "TYPE",
    ),
    Option(
        "--etcd-keep",
        "leave owned clusters and their PKI standing after the run; the summary says where.",
        kind=Kind.FLAG,
        ini=False,
    ),
)

_JUDGING = (
    Option(
        "--etcd-check",
        "only these checks: id, glob, family (mtls, cert ...) or source (cis, rfc8446, threat-model ...); "
        "!PATTERN leaves out. Repeatable, commas allowed.",
        "PATTERN",
        Kind.LIST,
    ),
    Option("--etcd-strict", "a SHOULD that is not kept fails as a MUST does.", kind=Kind.FLAG),
    Option(
        "--etcd-allow-unverified",
        "accept a TLS listener on which no check about mutual TLS came to a verdict.",
        kind=Kind.FLAG,
    ),
    Option(
        "--etcd-expiry-days",
        "warn about certificates that expire within N days (default 30).",
        "N",
    ),
    Option(
        "--etcd-waivers",
        "TOML file of accepted findings: [[waiver]] with check, listener (a glob), reason and expires.",
        "FILE",
    ),
    Option(
        "--etcd-report", "write a report there: a name that ends in .json. Repeatable.", "PATH", Kind.LIST
    ),
    Option(
        "--etcd-plan",
        "print per listener how many connections the run would make at most, and stop; touches no network.",
        kind=Kind.FLAG,
        ini=False,
    ),
    Option("--etcd-list-checks", "print the catalogue of checks and stop.", kind=Kind.FLAG, ini=False),
    Option("--etcd-explain", "print one check in full and stop. Repeatable.", "ID", Kind.LIST, ini=False),
)

_BOUNDS = (
    Option("--etcd-timeout", "bound on one connection, in seconds (default 5).", "SECONDS"),
    Option("--etcd-concurrency", "connections at a time per listener (default 4).", "N"),
    Option("--etcd-gentle", "one connection at a time, spaced.", kind=Kind.FLAG),
    Option(
        "--etcd-max-connections",
        "connections per listener at most (default 200); what is not seen because of it is inconclusive.",
        "N",
    ),
    Option(
        "--etcd-allow-writes",
        "let the fixture etcd_client write to a live cluster; the suite itself never does.",
        kind=Kind.FLAG,
        ini=False,
    ),
)

OPTIONS: tuple[Option, ...] = (*ENDPOINTS, *_LIVE, *_OWNED, *_JUDGING, *_BOUNDS)
