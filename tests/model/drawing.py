"""Draws configurations of one etcd at random: settings, how they are given and spelled, and files.

The same seed and number draw the same configuration. Most values are valid, so that an etcd often
starts and accepts or refuses clients.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from pytest_etcdtls.declared.flags import CLIENT_SECTION, PEER_SECTION, SECTIONS, SWITCHES, variable_of

PORTS = ("client", "client2", "peer", "metrics", "http")
"""Placeholders of ports on 127.0.0.1; ``{pki}`` and ``{dir}`` are directories."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A configuration of etcd.

    Attributes:
        number: which draw it is.
        arguments: the arguments after the program; they hold placeholders, as do the others.
        variables: the environment.
        file: the text of ``{dir}/etcd.yaml``, which is named by flag or variable; ``None`` without.
    """

    number: int
    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    file: str | None = None

    def fill_in(self, values: Mapping[str, str]) -> Draw:
        """Return the draw with real values for its placeholders."""

        def filled(text: str) -> str:
            for name, value in values.items():
                text = text.replace(f"{{{name}}}", value)
            return text

        return Draw(
            number=self.number,
            arguments=tuple(map(filled, self.arguments)),
            variables={name: filled(value) for name, value in self.variables.items()},
            file=None if self.file is None else filled(self.file),
        )


Weighted = Sequence[tuple[int, str | None]]
"""Values by weight; ``None`` leaves the setting out."""

CLIENT_URLS: Weighted = (
    (52, "https://{client}"),
    (12, "http://{client}"),
    (7, "https://{client},http://{client}"),
    (6, "http://{client},https://{client}"),
    (6, "https://{client},http://{client2}"),
    (6, "https://{client},https://{client2}"),
    (3, "https://{client},https://{client}"),
    (2, "HTTPS://{client}"),
    (1, "https://{client}/"),
    (1, "{client}"),
    (1, "https://{client},"),
    (1, "ftp://{client}"),
    (1, "https://node1:2379"),
)
PEER_URLS: Weighted = (
    (45, "http://{peer}"),
    (50, "https://{peer}"),
    (2, "https://node1:1"),
    (1, "https://:"),
)
METRICS_URLS: Weighted = ((58, None), (13, "http://{metrics}"), (28, "https://{metrics}"), (1, ""))
HTTP_URLS: Weighted = (
    (74, None),
    (16, "https://{http}"),
    (5, "http://{http}"),
    (4, "https://{client}"),
    (1, ""),
)
SWITCH: Weighted = (
    (58, "true"),
    (24, None),
    (6, "false"),
    (3, "T"),
    (3, "0"),
    (2, "yes"),
    (2, "TRUE"),
    (2, ""),
)
RARE_SWITCH: Weighted = ((88, None), (8, "true"), (3, "false"), (1, "yes"))
CRL: Weighted = (
    (60, None),
    (14, "{pki}/crl.der"),
    (13, "{pki}/crl.pem"),
    (6, "{pki}/gone.der"),
    (5, "{pki}/junk"),
    (2, ""),
)
VERSION: Weighted = (
    (76, None),
    (9, "TLS1.2"),
    (9, "TLS1.3"),
    (2, ""),
    (2, "TLS1.1"),
    (1, "1.2"),
    (1, "tls1.2"),
)
_128 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
SUITES: Weighted = (
    (78, None),
    (6, _128),
    (4, f"{_128},TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_RSA_WITH_AES_128_CBC_SHA"),
    (2, f"{_128},TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"),
    (2, f"{_128},TLS_AES_128_GCM_SHA256"),
    (2, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (2, f"{_128},TLS_NO_SUCH_SUITE"),
    (1, f"{_128},ECDHE-ECDSA-AES256-GCM-SHA384"),
    (1, f"{_128}, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (1, _128.lower()),
    (1, ""),
)
EXTRAS: Mapping[str, Weighted] = {
    "pre-vote": SWITCH,
    "strict-reconfig-check": SWITCH,
    "enable-pprof": SWITCH,
    "enable-grpc-gateway": SWITCH,
    "enable-v2": SWITCH,
    "socket-reuse-address": SWITCH,
    "experimental-initial-corrupt-check": SWITCH,
    "experimental-peer-skip-client-san-verification": SWITCH,
    "peer-skip-client-san-verification": SWITCH,
    "experimental-memory-mlock": ((1, "false"),),
    "experimental-corrupt-check-time": ((8, "1m"),),
    "corrupt-check-time": ((8, "1m"),),
    "experimental-watch-progress-notify-interval": ((1, "5s"),),
    "watch-progress-notify-interval": ((1, "5s"),),
    "feature-gates": ((1, "AllAlpha=true"), (1, "")),
    "logger": ((3, "zap"),),
    "log-level": ((4, "info"), (4, "debug")),
    "v2-deprecation": ((1, "write-only"),),
    "self-signed-cert-validity": ((3, "1"), (1, "0")),
    "snapshot-count": ((5, "10000"),),
    "max-snapshots": ((5, "5"),),
    "heartbeat-interval": ((5, "100"),),
    "auto-compaction-mode": ((5, "revision"), (5, "periodic")),
    "auto-compaction-retention": ((5, "1"), (1, "1h")),
    "quota-backend-bytes": ((5, "0"),),
    "cors": ((3, "*"), (1, "https://a.example:443")),
    "host-whitelist": ((1, "*"),),
    "auth-token": ((4, "simple"),),
    "bcrypt-cost": ((3, "10"),),
    "metrics": ((3, "extensive"), (1, "basic")),
    "initial-cluster-state": ((5, "new"),),
    "debug": SWITCH,
    "log-format": ((3, "json"), (1, "console")),
    "max-concurrent-streams": ((3, "100"),),
    "grpc-keepalive-timeout": ((3, "20s"),),
    "discovery-insecure-transport": SWITCH,
    "snapshot": ((1, "true"),),
    "ca-file": ((1, "{pki}/client-ca.crt"),),
}


class Dice(Random):
    """Randomness of one draw.

    Attributes:
        careful: whether rare values, which are mostly wrong, are left out.
    """

    careful = False


def draw(seed: int, number: int) -> Draw:
    """Return one configuration."""
    rng = Dice(f"{seed}/{number}")
    rng.careful = rng.random() < 0.6
    settings = _settings(rng)
    return (_in_a_file if rng.random() < 0.25 else _on_a_line)(number, settings, rng)


def pick(rng: Dice, values: Weighted) -> str | None:
    """Return one of the values by their weight."""
    if rng.careful:
        values = [one for one in values if one[0] > 3 or one[1] is None] or values
    return rng.choices([value for _, value in values], [weight for weight, _ in values])[0]


def _settings(rng: Dice) -> dict[str, str]:
    """Return the values of flags by name, without the way in which they are given."""
    peer = pick(rng, PEER_URLS) or ""
    found: dict[str, str | None] = {
        "listen-client-urls": pick(rng, CLIENT_URLS),
        "advertise-client-urls": pick(rng, ((96, "https://{client}"), (2, None), (2, ""))),
        "listen-peer-urls": peer,
        "listen-metrics-urls": pick(rng, METRICS_URLS),
        "listen-client-http-urls": pick(rng, HTTP_URLS),
        "initial-advertise-peer-urls": "http://{peer}",
        "initial-cluster": "default=http://{peer}",
        **_side(rng, "", "client"),
        **_side(rng, "peer-", "peer"),
        "tls-min-version": pick(rng, VERSION),
        "tls-max-version": pick(rng, VERSION),
        "cipher-suites": pick(rng, SUITES),
    }
    for name in rng.sample(
        sorted(EXTRAS), rng.choices((0, 1, 2, 3), (4, 2, 0, 0) if rng.careful else (2, 4, 2, 1))[0]
    ):
        found[name] = pick(rng, EXTRAS[name])
    return {name: value for name, value in found.items() if value is not None}


def _side(rng: Dice, p: str, side: str) -> dict[str, str | None]:
    """Return the TLS settings of one side."""
    served = "server" if side == "client" else "peer"
    certificates: Weighted = (
        (80, f"{{pki}}/{served}.crt"),
        (9, None),
        (2, "{pki}/gone.crt"),
        (3, f"{{pki}}/{served}.der"),
        (3, "{pki}/other.crt"),
        (1, "{pki}/junk"),
        (2, ""),
    )
    keys: Weighted = (
        (90, f"{{pki}}/{served}.key"),
        (3, None),
        (3, "{pki}/gone.key"),
        (2, "{pki}/junk"),
        (2, ""),
    )
    certificate = pick(rng, certificates)
    key = pick(rng, keys) if certificate or rng.random() < 0.2 else None
    ca = f"{{pki}}/{side}-ca.crt"
    bundles: Weighted = (
        (62, ca),
        (24, None),
        (3, "{pki}/gone.crt"),
        (3, "{pki}/ca.der"),
        (4, "{pki}/junk"),
        (2, f"{{pki}}/{served}.crt"),
        (2, ""),
    )
    mine = "client" if side == "client" else "etcd-peer"
    names: Weighted = ((90, None), (5, "nobody.example"), (3, "nobody.example,other.example"), (2, ""))
    common_names: Weighted = (
        (86, None),
        (5, mine),
        (4, "nobody"),
        (4, f"nobody,{mine}"),
        (1, ""),
    )
    dialled: Weighted = ((93, None), (4, "client"), (1, "gone"))
    own = pick(rng, dialled)
    return {
        f"{p}cert-file": certificate,
        f"{p}key-file": key,
        f"{p}trusted-ca-file": pick(rng, bundles),
        f"{p}client-cert-auth": pick(rng, SWITCH),
        f"{p}auto-tls": pick(rng, RARE_SWITCH),
        f"{side}-crl-file": pick(rng, CRL),
        f"{side}-cert-allowed-hostname": pick(rng, names),
        f"{side}-cert-allowed-cn": pick(rng, common_names) if side == "peer" else None,
        f"{p}client-cert-file": None if own is None else f"{{pki}}/{own}.crt",
        f"{p}client-key-file": None if own is None or rng.random() < 0.1 else f"{{pki}}/{own}.key",
    }


_NEEDED = {"initial-cluster", "initial-advertise-peer-urls", "listen-peer-urls", "listen-client-urls"}
"""Without these an etcd of a draw would take ports of others."""
BASE = {"data-dir": "{dir}/data", "unsafe-no-fsync": "true"}
_TYPOS = ("client-cert-athu", "cert-fil", "peer-client-certauth", "tls-min", "no-such-flag")


def _on_a_line(number: int, settings: Mapping[str, str], rng: Dice) -> Draw:
    arguments: list[str] = [f"--{name}={value}" for name, value in BASE.items()]
    variables: dict[str, str] = {}
    for name in rng.sample(sorted(settings), len(settings)):
        value = settings[name]
        if rng.random() < 0.2:
            variables[variable_of(name)] = value
            if rng.random() < 0.95:
                continue
        arguments += _spelled(name, value, rng)
        if rng.random() < 0.02 and name not in _NEEDED:
            arguments += _spelled(name, value if rng.random() < 0.5 else "", rng)
    odd = rng.random()
    if odd < 0.03:
        arguments.append(f"--{rng.choice(_TYPOS)}{rng.choice(('', '=true'))}")
    elif odd < 0.06:
        variables[variable_of(rng.choice(_TYPOS))] = "true"
    elif odd < 0.08:
        arguments.insert(
            rng.randrange(len(arguments) + 1), rng.choice(("--", "true", "-", "---name=a", "--=a"))
        )
    elif odd < 0.1:
        variables[rng.choice(("ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH"))] = "3"
    return Draw(number=number, arguments=tuple(arguments), variables=variables)


def _spelled(name: str, value: str, rng: Dice) -> list[str]:
    """Return a flag in one of the ways in which Go reads it, or for a switch one in which it does not."""
    dashes = "-" if rng.random() < 0.15 else "--"
    if name in SWITCHES and value == "true" and rng.random() < 0.5:
        return [f"{dashes}{name}"]
    apart = rng.random() < (0.02 if name in SWITCHES else 0.25)
    return [f"{dashes}{name}", value] if apart else [f"{dashes}{name}={value}"]


_KEY_OF = {
    flag: (section, key)
    for section, keys in SECTIONS.items()
    for key, flag in keys.items()
    if key != "ca-file"
}
_NUMBERS = {
    *("snapshot-count", "max-snapshots", "heartbeat-interval", "quota-backend-bytes", "bcrypt-cost"),
    *("self-signed-cert-validity", "max-concurrent-streams"),
}
_DURATIONS = {
    *("experimental-corrupt-check-time", "corrupt-check-time", "grpc-keepalive-timeout"),
    *("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
}
"""Of these a key is a number of nanoseconds, which is not judged."""
_LISTS = {"cipher-suites", "allowed-cn", "allowed-hostname"}


def _in_a_file(number: int, settings: Mapping[str, str], rng: Dice) -> Draw:
    top: list[str] = [f"{name}: {_scalar(name, value, rng)}" for name, value in BASE.items()]
    sections: dict[str, list[str]] = {CLIENT_SECTION: [], PEER_SECTION: []}
    arguments, variables = [], {}
    for name in rng.sample(sorted({*settings} - _DURATIONS), len({*settings} - _DURATIONS)):
        value = settings[name]
        if name in _KEY_OF and rng.random() < 0.97:
            section, key = _KEY_OF[name]
            sections[section].append(f"{_cased(key, rng)}: {_scalar(key, value, rng)}")
        elif rng.random() < 0.95 or name in _NEEDED:
            top.append(f"{_cased(name, rng)}: {_scalar(name, value, rng)}")
        if rng.random() < 0.05:
            arguments += _spelled(name, value, rng)
        elif rng.random() < 0.05:
            variables[variable_of(name)] = value
    if rng.random() < 0.05:
        top.append(f"{rng.choice(_TYPOS)}: true")
    if rng.random() < 0.03:
        top.append("ClientTLSInfo:\n  CRLFile: '{pki}/crl.der'")
    lines = list(top)
    for section, keys in sections.items():
        if keys:
            lines += [f"{_cased(section, rng)}:", *(f"  {key}" for key in keys)]
    if rng.random() < 0.85:
        arguments.insert(0, "--config-file={dir}/etcd.yaml")
    else:
        variables["ETCD_CONFIG_FILE"] = "{dir}/etcd.yaml"
    return Draw(number=number, arguments=tuple(arguments), variables=variables, file="\n".join([*lines, ""]))


def _cased(key: str, rng: Dice) -> str:
    return key.title() if rng.random() < 0.03 else key


def _scalar(name: str, value: str, rng: Dice) -> str:
    """Return a value as YAML, now and then of a kind that etcd does not decode."""
    odd = rng.random() < 0.02
    if name in _LISTS and not odd:
        return json.dumps(value.split(",") if value else [])
    if name in SWITCHES or name in ("client-cert-auth", "auto-tls", "skip-client-san-verification"):
        plain = {"T": "true", "0": "false", "TRUE": "true", "": "false"}.get(value, value)
        return json.dumps(plain) if odd else plain
    if name in _NUMBERS:
        return value or "0"
    if odd and value:
        return value  # plain, where others are quoted
    return json.dumps(value)
