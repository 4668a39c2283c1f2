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
pytest --help
```

lists all options under "etcd TLS conformance".

If an option is given twice, the last value counts, unless the option is repeatable. An option on the command
line replaces the ini option, even if it is a list. An endpoint or `--etcd-config` on the command line
replaces all of these in the ini file. Paths in an ini file are relative to that file. A flag in an ini file
is `true` or `false`.

An option on the command line that has no effect in the run is refused with exit code 4: `--etcd-report`
without the suite, `--etcd-cacert` without an endpoint, `--etcd-size` if the run starts no cluster. In an ini
file or `addopts` it has no effect, since those are for several commands. `--etcd-list-checks` and
`--etcd-explain` run nothing and may be added to any command.

Endpoints and `--etcd-config` are never read from the environment. In an ini file or `addopts` they are used
only with `--etcd-conformance` on the command line.

With this ini file, `pytest --etcd-conformance` judges a cluster:

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
