"""``docs/options.md``: every option with its meaning, ini option, default and environment variable.

The texts are those of ``--help``; defaults and variables are taken from "(default ...)" and "else NAME"
there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_etcdtls.options import SECTIONS, Kind, Option

_DEFAULT = re.compile(r"([\w-]+) \(default\)|\(default:? ([^)]+)\)")
_VARIABLE = re.compile(r"\belse ((?:ETCDCTL|ETCDTLS)_\w+)")

_ABOVE = """\
# Options

```sh
pytest-etcdtls https://10.0.0.11:2379 \\
    --cacert=ca.crt --cert=client.crt --key=client.key
```

Each option has one meaning in `pytest-etcdtls` and in `pytest --pyargs pytest_etcdtls`; the former needs
no `etcd-` in it. Add the most used ones to this command:

| to | pass |
|---|---|
| judge all members, and look for plain HTTP | `--etcd-discover \
--peer-cacert=peer-ca.crt --peer-cert=peer.crt --peer-key=peer.key` |
| print the number of connections and make none | `--etcd-plan` |
| make one connection at a time, with pauses, in about half a minute | `--etcd-gentle` |
| try client certificates that are expired, not yet valid or for servers only | `--etcd-ca-key=ca.key` |
| select checks; exclude some | `--etcd-check=mtls,cis`, `--etcd-check='!cert.*'` |
| list all checks, or print one in full | `--etcd-list-checks`, `--etcd-explain=mtls.no-certificate` |
| apply a [guideline](profiles.md) | `--etcd-profile=nist-800-52r2` |
| compare the served certificate with a file | `--etcd-expect-cert=server.crt` |
| compare refusals with [etcd's own log](declared.md#etcds-own-log) | `--etcd-log=etcd.log` |
| see [settings to change](fix.md#see-the-settings-to-write) | `--etcd-config=etcd.yaml` |
| accept a finding until a date | `--etcd-waivers=waivers.toml` |
| write [reports](reports.md) | `--etcd-report=etcd.json --junitxml=etcd.xml` |
| decrypt an encrypted private key | `--etcd-key-password-file=passphrases` |
| read the client from a [Secret](kubeadm.md#secrets) | `--etcd-secret=secret.yaml` |
| fail on warnings too | `--etcd-strict` |

If an option is given twice, the last value counts, unless the option is repeatable. With TLS
credentials, `10.0.0.11:2379` is read as `https://10.0.0.11:2379`, as etcdctl does. An option that has no
effect in the run is refused with exit code 4.

Under pytest, most have an ini option. The command line replaces it, even if it is a list, and an
endpoint or `--etcd-config` there replaces all of these. Paths in an ini file are relative to it. Without
effect, an ini option is ignored. Endpoints and `--etcd-config` in an ini file or `addopts` are used only
with `--etcd-conformance` on the command line, and never read from the environment:

```ini
[pytest]
etcd_endpoint = https://10.0.0.11:2379
etcd_cacert = ca.crt
etcd_cert = client.crt
etcd_key = client.key
```

`make docs` writes this page.
"""


def options_page() -> str:
    """Return the page."""
    return "\n".join([_ABOVE, *(line for title in SECTIONS for line in _section(title)), ""]).rstrip() + "\n"


def _section(title: str) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield "| option, ini option | meaning | default | environment |"
    yield "|---|---|---|---|"
    for option in SECTIONS[title]:
        yield f"| {' | '.join(_row(option))} |"
    yield ""


def _row(option: Option) -> Iterator[str]:
    value = f"={option.metavar}" if option.metavar else ""
    yield f"`{option.flag}{value}`<br>" + (f"`{option.name}`" if option.ini else "no ini option")
    yield _escaped(option.help)
    yield _default(option)
    yield ", ".join(f"`{name}`" for name in _VARIABLE.findall(option.help)) or "none"


def _default(option: Option) -> str:
    if option.kind is Kind.FLAG:
        return "off"
    found = _DEFAULT.search(option.help)
    return _escaped(found[1] or found[2]) if found else "none"


def _escaped(text: str) -> str:
    """Return the text of ``--help`` as a cell: options and variables as code."""
    text = text.replace("%%", "%").replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"(?<![\w`])(--[a-z][\w-]*|ETCD\w+_\w+|\[\[waiver\]\])", r"`\1`", text)
