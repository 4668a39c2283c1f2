"""A configuration file is read as etcd reads it: mistakes stop etcd, and settings in force are in its log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from declared.conftest import Workplace
from declared.declaring import effective, find_traps, read_declaration
from declared.etcd_itself import expected, run
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.sources import binary_version

MEMBER = """\
name: default
data-dir: {dir}/data
listen-peer-urls: http://{peer}
initial-advertise-peer-urls: http://{peer}
initial-cluster: default=http://{peer}
listen-client-urls: https://{client}
advertise-client-urls: https://{client}
log-outputs: [stderr]
logger: zap
"""
SECURITY = """\
client-transport-security:
  cert-file: {pki}/server.crt
  key-file: {pki}/server.key
  client-cert-auth: true
  trusted-ca-file: {pki}/client-ca.crt
"""
GOOD = MEMBER + SECURITY

CASES: Mapping[str, str] = {
    "as it should be": GOOD,
    "capitals in keys": MEMBER
    + SECURITY.replace("client-transport", "Client-Transport").replace("cert-f", "Cert-F"),
    "y for true": GOOD.replace("auth: true", "auth: y"),
    "a string for true": GOOD.replace("auth: true", 'auth: "true"'),
    "a number for true": GOOD.replace("auth: true", "auth: 1"),
    "nothing for true": GOOD.replace("auth: true", "auth:"),
    "a list of URLs": GOOD.replace(
        "listen-client-urls: https://{client}", "listen-client-urls: [https://{client}]"
    ),
    "a slash behind a URL": GOOD.replace(
        "advertise-client-urls: https://{client}", "advertise-client-urls: https://{client}/"
    ),
    "a number for a name": GOOD.replace("default", "123"),
    "suites as a string": GOOD + "cipher-suites: TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n",
    "suites as a list": GOOD + "cipher-suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n",
    "flags for keys": MEMBER + "cert-file: {pki}/server.crt\nkey-file: {pki}/server.key\n",
    "unknown keys": GOOD + "  crl-file: {pki}/crl.der\nclient-crl-file: {pki}/crl.der\n",
    "a field of Go for a key": GOOD + "ClientTLSInfo:\n  CRLFile: {pki}/crl.der\n",
    "another document": GOOD + "---\nclient-transport-security: {}\n",
    "names as a string": GOOD + "  allowed-hostname: one.example\n",
    "a tabulator": GOOD + "\tname: a\n",
}


@pytest.mark.etcd_version("3.4", "3.5.1", "3.7")
@pytest.mark.parametrize("case", CASES)
def test_a_configuration_file_is_read_as_etcd_reads_it(
    case: str, etcd_binary: Path, workplace: Workplace
) -> None:
    path = workplace.directory / "etcd.conf.yml"
    path.write_text(workplace.fill_in(CASES[case]), encoding="utf-8")
    version = binary_version(etcd_binary)
    seen = run(etcd_binary, [f"--config-file={path}"], {}, workplace.directory)
    if "\t" in CASES[case]:
        assert not seen.started
        with pytest.raises(UsageError, match=r"etcd.conf.yml:\d+: not valid YAML"):
            read_declaration(path)
        return
    declaration = read_declaration(path)
    stops = [trap.summary for trap in find_traps(declaration, version) if not trap.starts]
    assert seen.started is not bool(stops), f"{stops}\n{seen.log}"
    if seen.started:
        assert seen.logged("loaded server configuration").text("path") == str(path)
        assert seen.side("client") == expected(effective(declaration, version).sides["client"])
