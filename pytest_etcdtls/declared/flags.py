"""Names and values of etcd's flags, environment variables and configuration keys, by version.

A name decides whether a setting has an effect. etcd ends at an unknown flag, only warns about an unknown
variable (pkg/flags/flag.go, verifyEnv), and says nothing about an unknown key of the configuration file. So
the names of each minor version are needed, and of flags that came in a patch release, that release. Variables
are the flags' names in upper case. Keys are mostly so too, but TLS settings have their keys in two sections
(server/embed/ config.go, configJSON and securityConfig), and the fields of embed.Config that have no JSON tag
can be set by the name of the Go field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pytest_etcdtls.errors import similar
from pytest_etcdtls.versions import has_since, minor_line, version_key

LINES: Final = ("3.3", "3.4", "3.5", "3.6", "3.7", "3.8")
"""The minor lines of etcd whose names are known. A newer line is assumed to have the names of the last."""
RELEASES: Final = {"3.4": "3.4.45", "3.5": "3.5.33", "3.6": "3.6.16", "3.7": "3.7.3", "3.8": "3.8.0-alpha.0"}
"""What stands for each minor line: the newest release, else pre-release, that the model is compared with."""

_FLAGS: Final[Mapping[str, str]] = {
    "3.3 3.4 3.5 3.6 3.7 3.8": """
        advertise-client-urls auth-token auth-token-ttl auto-compaction-mode auto-compaction-retention
        auto-tls cert-file cipher-suites client-cert-auth client-crl-file config-file cors data-dir
        discovery-fallback discovery-srv election-timeout enable-pprof force-new-cluster
        grpc-keepalive-interval grpc-keepalive-min-time grpc-keepalive-timeout heartbeat-interval
        initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token
        initial-election-tick-advance key-file listen-client-urls listen-metrics-urls listen-peer-urls
        max-request-bytes max-snapshots max-txn-ops max-wals metrics name peer-auto-tls peer-cert-allowed-cn
        peer-cert-file peer-client-cert-auth peer-crl-file peer-key-file peer-trusted-ca-file
        quota-backend-bytes snapshot-count strict-reconfig-check trusted-ca-file version wal-dir
    """,
    "3.3 3.4 3.5 3.6": """
        discovery discovery-proxy experimental-corrupt-check-time experimental-initial-corrupt-check
        experimental-peer-skip-client-san-verification
    """,
    "3.4 3.5 3.6 3.7 3.8": """
        backend-batch-interval backend-batch-limit bcrypt-cost client-cert-allowed-hostname
        discovery-srv-name enable-grpc-gateway host-whitelist listen-client-http-urls log-level log-outputs
        logger max-concurrent-streams peer-cert-allowed-hostname pre-vote tls-max-version tls-min-version
        unsafe-no-fsync
    """,
    "3.3 3.4 3.5": """
        enable-v2 experimental-enable-v2v3 proxy proxy-dial-timeout proxy-failure-wait proxy-read-timeout
        proxy-refresh-interval proxy-write-timeout
    """,
    "3.4 3.5 3.6": """
        experimental-compaction-batch-limit experimental-enable-lease-checkpoint
        experimental-enable-lease-checkpoint-persist experimental-warning-apply-duration
        experimental-watch-progress-notify-interval
    """,
    "3.5 3.6 3.7 3.8": """
        backend-bbolt-freelist-type client-cert-file client-key-file enable-log-rotation
        log-rotation-config-json peer-client-cert-file peer-client-key-file raft-read-timeout
        raft-write-timeout self-signed-cert-validity socket-reuse-address socket-reuse-port v2-deprecation
    """,
    "3.3 3.4": "debug log-output log-package-levels",
    "3.5 3.6": """
        experimental-bootstrap-defrag-threshold-megabytes experimental-compact-hash-check-enabled
        experimental-compact-hash-check-time experimental-compaction-sleep-interval
        experimental-distributed-tracing-address experimental-distributed-tracing-instance-id
        experimental-distributed-tracing-sampling-rate experimental-distributed-tracing-service-name
        experimental-downgrade-check-time experimental-enable-distributed-tracing experimental-memory-mlock
        experimental-snapshot-catchup-entries experimental-stop-grpc-service-on-defrag
        experimental-txn-mode-write-with-shared-buffer
    """,
    "3.6 3.7 3.8": """
        bootstrap-defrag-threshold-megabytes compact-hash-check-time compaction-batch-limit
        compaction-sleep-interval corrupt-check-time discovery-cacert discovery-cert discovery-dial-timeout
        discovery-endpoints discovery-insecure-skip-tls-verify discovery-insecure-transport
        discovery-keepalive-time discovery-keepalive-timeout discovery-key discovery-password
        discovery-request-timeout discovery-token discovery-user distributed-tracing-address
        distributed-tracing-instance-id distributed-tracing-sampling-rate distributed-tracing-service-name
        downgrade-check-time enable-distributed-tracing feature-gates log-format max-learners memory-mlock
        peer-skip-client-san-verification snapshot-catchup-entries warning-apply-duration
        warning-unary-request-duration watch-progress-notify-interval
    """,
    "3.3": "ca-file peer-ca-file",
    "3.4": "experimental-backend-bbolt-freelist-type",
    "3.6": "experimental-warning-unary-request-duration",
}


def names(text: str) -> frozenset[str]:
    """Return the whitespace-separated names in a text as a set."""
    return frozenset(text.split())


IGNORED: Final = names(
    """
    cluster-active-size cluster-remove-delay cluster-sync-interval config force max-result-buffer
    max-retry-attempts peer-heartbeat-interval peer-election-timeout retry-interval snapshot v vv
    """
)
"""Flags of etcd 2 that every version accepts, warns about and ignores."""

SWITCHES: Final = IGNORED | names(
    """
    auto-tls client-cert-auth debug discovery-insecure-skip-tls-verify discovery-insecure-transport
    enable-distributed-tracing enable-grpc-gateway enable-log-rotation enable-pprof enable-v2
    experimental-compact-hash-check-enabled experimental-enable-distributed-tracing
    experimental-enable-lease-checkpoint experimental-enable-lease-checkpoint-persist
    experimental-initial-corrupt-check experimental-memory-mlock
    experimental-peer-skip-client-san-verification experimental-stop-grpc-service-on-defrag
    experimental-txn-mode-write-with-shared-buffer force-new-cluster initial-election-tick-advance
    memory-mlock peer-auto-tls peer-client-cert-auth peer-skip-client-san-verification pre-vote
    socket-reuse-address socket-reuse-port strict-reconfig-check unsafe-no-fsync version
    """
)
"""Boolean flags. Without an equals sign they are true, and the next argument is not their value."""

_BY_LINE: Final = {
    of: frozenset(name for lines, names in _FLAGS.items() if of in lines.split() for name in names.split())
    for of in LINES
}

EVERY_FLAG: Final = frozenset().union(*_BY_LINE.values())
"""Flags that at least one known version has."""

_SINCE: Final[Mapping[str, dict[str, int]]] = {
    "tls-min-version": {"3.4": 25, "3.5": 8},
    "tls-max-version": {"3.4": 25, "3.5": 8},
    "listen-client-http-urls": {"3.4": 25, "3.5": 8},
    "max-concurrent-streams": {"3.4": 20, "3.5": 5},
    "unsafe-no-fsync": {"3.4": 10},
    "auth-token-ttl": {"3.4": 10},
    "experimental-enable-lease-checkpoint-persist": {"3.4": 20, "3.5": 2},
    "experimental-compact-hash-check-enabled": {"3.5": 5},
    "experimental-compact-hash-check-time": {"3.5": 5},
    "experimental-distributed-tracing-sampling-rate": {"3.5": 11},
    "experimental-compaction-sleep-interval": {"3.5": 16},
    "experimental-snapshot-catchup-entries": {"3.5": 14},
    "experimental-stop-grpc-service-on-defrag": {"3.5": 14},
}
"""Flags that were added in a patch release, by etcd's changelogs and source: its number, by minor line."""

URL_LISTS: Final = names(
    """
    listen-client-urls listen-peer-urls listen-metrics-urls listen-client-http-urls
    advertise-client-urls initial-advertise-peer-urls
    """
)


_ABOUT_TLS = ("cert", "key-file", "ca-file", "crl", "tls", "cipher-suites", "san-verification", "allowed")


def is_about_tls(name: str) -> bool:
    """Return whether a setting of that name concerns TLS: files, booleans, names, versions, listen URLs."""
    name = name.lower().replace("_", "-")
    return name in URL_LISTS or any(word in name for word in _ABOUT_TLS)


def flag_known(name: str, version: str | None) -> bool:
    """Return whether a version has the flag; for an unknown version, whether any version has it."""
    if name in IGNORED:
        return True
    of = minor_line(version)
    if of is None:
        return name in EVERY_FLAG
    of = of if of in LINES else LINES[-1]
    if name not in _BY_LINE[of]:
        return False
    return name not in _SINCE or has_since(version, _SINCE[name])


def flag_lines(name: str) -> str:
    """Return the versions that have a flag: ``3.3 to 3.5``, ``3.4.25, 3.5.8 and newer``; empty for none."""
    having = [of for of in LINES if name in _BY_LINE[of]]
    if not having:
        return ""
    first = ", ".join(f"{of}.{patch}" for of, patch in _SINCE.get(name, {}).items()) or having[0]
    if having[-1] == LINES[-1]:
        return f"{first} and newer"
    return first if len(having) == 1 else f"{first} to {having[-1]}"


def variable_of(flag: str) -> str:
    """Return the environment variable of a flag: ``ETCD_CERT_FILE`` for ``cert-file``."""
    return "ETCD_" + flag.upper().replace("-", "_")


FLAG_OF: Final = {variable_of(name): name for name in EVERY_FLAG | IGNORED}
"""The flag of each environment variable."""

CLIENT_SECTION: Final = "client-transport-security"
PEER_SECTION: Final = "peer-transport-security"

_SAME_NAME: Final = (
    *("cert-file", "key-file", "client-cert-file", "client-key-file", "client-cert-auth"),
    *("trusted-ca-file", "auto-tls", "ca-file"),
)
_OTHER_NAME: Final = {
    "allowed-cn": "cert-allowed-cn",
    "allowed-hostname": "cert-allowed-hostname",
    "skip-client-san-verification": "skip-client-san-verification",
}

SECTIONS: Final[dict[str, dict[str, str]]] = {
    CLIENT_SECTION: {key: key for key in _SAME_NAME}
    | {key: f"client-{flag}" for key, flag in _OTHER_NAME.items()},
    PEER_SECTION: {key: f"peer-{key}" for key in _SAME_NAME}
    | {key: f"peer-{flag}" for key, flag in _OTHER_NAME.items()},
}
"""The flag that a key corresponds to, by section and key. The client's ``allowed-cn`` and
``skip-client-san-verification`` have no flag; their names follow the same pattern."""

GO_FIELDS: Final[Mapping[str, str]] = {"clienttlsinfo": "client", "peertlsinfo": "peer"}
"""Fields of ``embed.Config`` without a JSON tag, in lower case. Go decodes them by the field's name."""

LISTS: Final = frozenset({"cipher-suites", "log-outputs", "allowed-cn", "allowed-hostname"})
SWITCH_KEYS: Final = frozenset({"client-cert-auth", "auto-tls", "skip-client-san-verification"})

_NO_KEY: Final = names(
    """
    auto-tls ca-file cert-file client-cert-allowed-hostname client-cert-auth client-cert-file
    client-crl-file client-key-file config-file discovery-cacert discovery-cert discovery-dial-timeout
    discovery-endpoints discovery-insecure-skip-tls-verify discovery-insecure-transport
    discovery-keepalive-time discovery-keepalive-timeout discovery-key discovery-password
    discovery-request-timeout discovery-token discovery-user experimental-snapshot-catchup-entries
    key-file peer-auto-tls peer-ca-file peer-cert-allowed-cn peer-cert-allowed-hostname peer-cert-file
    peer-client-cert-auth peer-client-cert-file peer-client-key-file peer-crl-file peer-key-file
    peer-skip-client-san-verification peer-trusted-ca-file raft-read-timeout raft-write-timeout
    socket-reuse-address socket-reuse-port trusted-ca-file version
    """
)
"""Flags without a top-level key of the same name. Those that have a key have it in a section."""

KEYS_ONLY: Final[Mapping[str, dict[str, int]]] = {
    "socket-options": {"3.5": 10},
    "experimental-snapshot-catch-up-entries": {"3.5": 14},
    "discovery-config": {"3.6": 0},
    "grpc-additional-server-options": {"3.6": 0},
}
"""Keys without a flag, and the first patch release that has them."""
_UNTIL: Final = {"experimental-snapshot-catch-up-entries": "3.6", "discovery-fallback": "3.5"}
"""The last minor line that has a key, where it is not that of the flag."""

_SKIPS_SANS: Final = "experimental-peer-skip-client-san-verification"


def top_level_flag(key: str) -> str | None:
    """Return the flag that a top-level key corresponds to in any version; ``None`` if there is none."""
    return key if (key in EVERY_FLAG and key not in _NO_KEY) or key in KEYS_ONLY else None


def top_level_known(key: str, version: str | None) -> bool:
    """Return whether a version reads the top-level key."""
    of = minor_line(version)
    if of is not None and version_key(of) > version_key(_UNTIL.get(key, of)):
        return False
    if key in KEYS_ONLY:
        return has_since(version, KEYS_ONLY[key])
    if key == _SKIPS_SANS:
        return of in (None, "3.6")
    return key not in _NO_KEY | IGNORED and flag_known(key, version)


def section_key_known(key: str, version: str | None) -> bool:
    """Return whether a version reads the key in one of the two sections."""
    if key in ("allowed-cn", "allowed-hostname"):
        return has_since(version, {"3.5": 15})
    if key == "skip-client-san-verification":
        return version_key(version) >= (3, 6)
    if key in ("client-cert-file", "client-key-file"):
        return version_key(version) >= (3, 5)
    if key == "ca-file":
        return version_key(version) < (3, 4)
    return key in _SAME_NAME


def has_key(name: str, version: str | None) -> bool:
    """Return whether a version has a key of the configuration file for a flag."""
    for keys in SECTIONS.values():
        for key, flag in keys.items():
            if flag == name:
                return section_key_known(key, version)
    return top_level_known(name, version)


MEANT: Final[Mapping[str, tuple[str, ...]]] = {
    "crl-file": ("client-crl-file", "peer-crl-file"),
    "revocation-list": ("client-crl-file", "peer-crl-file"),
    **dict.fromkeys(("client-ca-file", "client-ca", "ca-cert", "cacert", "ca"), ("trusted-ca-file",)),
    **dict.fromkeys(("client-trusted-ca-file", "root-ca-file"), ("trusted-ca-file",)),
    **dict.fromkeys(("peer-ca", "peer-cacert", "peer-client-ca-file"), ("peer-trusted-ca-file",)),
    **dict.fromkeys(("server-cert-file", "tls-cert-file"), ("cert-file",)),
    **dict.fromkeys(("server-key-file", "tls-private-key-file"), ("key-file",)),
    **dict.fromkeys(("min-tls-version", "tls-version-min"), ("tls-min-version",)),
    **dict.fromkeys(("max-tls-version", "tls-version-max"), ("tls-max-version",)),
    "client-cert-allowed-cn": (),
    "client-allowed-cn": (),
}
"""Names that other programs have or that seem to follow, and the flags of etcd: the similar ones differ."""


def meant(name: str, among: Iterable[str] = EVERY_FLAG) -> tuple[str, ...]:
    """Return the flags that may be meant by a name that is unknown to etcd; empty if there is none."""
    return MEANT[name] if name in MEANT else similar(name, among)


GO_SUITES: Final = names(
    """
    TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256
    TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 TLS_ECDHE_ECDSA_WITH_RC4_128_SHA
    TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA
    TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305 TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    TLS_ECDHE_RSA_WITH_RC4_128_SHA TLS_RSA_WITH_3DES_EDE_CBC_SHA TLS_RSA_WITH_AES_128_CBC_SHA
    TLS_RSA_WITH_AES_128_CBC_SHA256 TLS_RSA_WITH_AES_128_GCM_SHA256 TLS_RSA_WITH_AES_256_CBC_SHA
    TLS_RSA_WITH_AES_256_GCM_SHA384 TLS_RSA_WITH_RC4_128_SHA
    """
)
"""The names that ``tlsutil.GetCipherSuite`` knows: Go's, and two old ones of ChaCha20."""
