"""The presets as a page of Markdown, with the warnings of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from presets.known import KNOWN
from presets.model import Expectation, Known
from zoo import baseline

from pytest_etcdtls.cluster.presets import PRESETS

VERSIONS = ("3.4.23", "3.5.1", "3.5.33", "3.6.16", "3.7.3")
"""Those that the presets are judged on."""

_HEAD = """\
# Presets

Presets are correctly configured clusters, selected by name. Start one in a test:

```python
from pytest_etcdtls import PRESETS


def test_my_service_with_kubeadms_certificates(etcd_cluster_factory) -> None:
    cluster = etcd_cluster_factory(PRESETS["kubeadm"].config)
```

or change one with `dataclasses.replace`. A preset that needs a flag raises a `UsageError` on an etcd without
that flag.

All checks judge every preset, except for the family `lifecycle` and the checks that run only when
`--etcd-check` names them. The versions of etcd are {versions}.
Every preset is clean: no check is violated, inconclusive or broken. These tables list exactly the warnings
of each preset and the checks that cannot be verified on it. The tests compare for equality. `make docs`
writes this page.
"""


def presets_page() -> str:
    """Return the page."""
    head = _HEAD.format(versions=", ".join(VERSIONS[:-1]) + f" and {VERSIONS[-1]}")
    return "\n".join([head, *_presets(), "", *_everywhere(), ""])


def _presets() -> Iterator[str]:
    yield "| preset | configuration | differences from the warnings below |"
    yield "|---|---|---|"
    for preset in PRESETS.values():
        yield f"| `{preset.name}` | {preset.what} | {'; '.join(_known(KNOWN[preset.name]))} |"


def _known(known: Known) -> Iterator[str]:
    yield from _listed("warned: ", known.warned)
    yield from _listed("not warned: ", known.not_warned)
    yield from _listed("not verified: ", known.not_verified)
    for version, instead in known.by_version.items():
        yield f"on {version} {', '.join(_known(instead)) or 'nothing'}"


def _listed(label: str, expectation: Expectation) -> Iterator[str]:
    if expectation:
        yield label + ", ".join(f"{_ids(ids)} on {listener}" for listener, ids in expectation.items())


def _ids(ids: Iterable[str]) -> str:
    return ", ".join(f"`{check}`" for check in sorted(ids))


def _everywhere() -> Iterator[str]:
    """Yield the warnings of a cluster of each version with the default configuration."""
    yield "## Warnings on every cluster"
    yield ""
    yield "| etcd | on client | on every other https listener | on the cluster | with RSA keys served |"
    yield "|---|---|---|---|---|"
    for version in VERSIONS:
        plain, rsa = baseline.warned(version), baseline.warned(version, rsa=True)
        columns = (plain["client"], plain["peer"], plain.get("cluster", ()), rsa["peer"] - plain["peer"])
        yield f"| {version} | {' | '.join(_ids(ids) for ids in columns)} |"
