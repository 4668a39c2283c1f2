"""Settings that are written where etcd does not look, or under names that it does not know."""

from collections.abc import Iterator

from pytest_etcdtls.checks.config_traps import judge_traps, trap_check
from pytest_etcdtls.declared.standing import Declarations
from pytest_etcdtls.results import Statement


@trap_check("config-file-hides-flags")
def no_configuration_file_hides_flags(declarations: Declarations) -> Iterator[Statement]:
    """No flag or variable about TLS says something else than the configuration file beside it.

    With --config-file etcd ignores all other flags and all environment variables; one line of its log says
    so, at level info. --client-cert-auth given that way admits anybody. Those that the file repeats do no
    harm.

    Spec: etcd --config-file
    Spec: etcd Documentation, configuration options
    Severity: critical
    Level: MUST
    Remediation: write these settings into the configuration file, or do without it.
    """
    yield from judge_traps(declarations, "config-file-hides-flags")


@trap_check("unknown-key")
def every_key_is_known(declarations: Declarations) -> Iterator[Statement]:
    """The configuration file has no key that this etcd does not know.

    etcd passes over unknown and misspelt keys without a word. There is none for a revocation list: named in
    the file, revoked clients are let in.

    Spec: etcd --config-file
    Spec: etcd etcd.conf.yml.sample
    Severity: high
    Level: MUST
    Remediation: write the key as this etcd's etcd.conf.yml.sample has it; a revocation list needs the flag
        --client-crl-file, and everything else then, too.
    """
    yield from judge_traps(declarations, "unknown-key")


@trap_check("undocumented-key")
def every_key_is_documented(declarations: Declarations) -> Iterator[Statement]:
    """The configuration file has no key that is in force by accident.

    Go's decoder takes the name of a field for a key where the field has none of its own. That works today,
    and no documentation says so.

    Spec: etcd etcd.conf.yml.sample
    Severity: low
    Level: SHOULD
    Remediation: start etcd with flags instead of a configuration file.
    """
    yield from judge_traps(declarations, "undocumented-key")


@trap_check("unknown-variable")
def every_variable_is_known(declarations: Declarations) -> Iterator[Statement]:
    """No environment variable is named, or nearly named, like one about TLS that this etcd does not know.

    It ignores them and warns in its log: a misspelt ETCD_CLIENT_CERT_AUTH admits anybody. It may be meant for
    something else than etcd.

    Spec: etcd Documentation, configuration options
    Severity: medium
    Level: SHOULD
    Remediation: spell it as the flag in capitals with underscores, behind ETCD_; name those that are for
        something else otherwise.
    """
    yield from judge_traps(declarations, "unknown-variable")


@trap_check("flag-unknown-to-version")
def every_flag_is_known(declarations: Declarations) -> Iterator[Statement]:
    """Every declared flag is one that the running version of etcd has.

    An unknown one ends etcd before it opens a port. An etcd that runs all the same was started with
    something else: what is declared is not in force, and the next restart fails.

    Spec: etcd CHANGELOG, flags added and removed
    Severity: high
    Level: MUST
    Remediation: give the flags of this version (etcd --help), and restart etcd with them.
    """
    yield from judge_traps(declarations, "flag-unknown-to-version")


@trap_check("variable-beside-flag")
def nothing_is_declared_twice(declarations: Declarations) -> Iterator[Statement]:
    """No setting is given both as a flag and as an environment variable.

    From 3.4 on etcd refuses to choose and ends, even if both are equal; in 3.3 the flag wins.

    Spec: etcd Documentation, configuration options
    Severity: medium
    Level: MUST
    Remediation: remove one of the two, and restart etcd.
    """
    yield from judge_traps(declarations, "variable-beside-flag")


@trap_check("gateway-off-in-config-file")
def a_gateway_that_is_off_is_declared_so(declarations: Declarations) -> Iterator[Statement]:
    """A JSON gateway that does not answer is declared to be off.

    Up to 3.4 a configuration file switches it off by saying nothing, while the flag's default is on.

    Spec: etcd --enable-grpc-gateway
    Severity: info
    Level: SHOULD
    Remediation: write enable-grpc-gateway into the configuration file, true or false.
    """
    yield from judge_traps(declarations, "gateway-off-in-config-file")


@trap_check("does-not-start")
def etcd_starts_with_what_is_declared(declarations: Declarations) -> Iterator[Statement]:
    """The declaration is one with which etcd starts.

    An etcd that runs all the same was started with something else: what is declared is not in force, and
    the next restart fails.

    Spec: etcd Documentation, configuration options
    Severity: high
    Level: MUST
    Remediation: correct the declaration, and restart etcd with it.
    """
    yield from judge_traps(declarations, "does-not-start")
