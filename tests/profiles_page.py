"""The page about profiles: how they are used, and each of the package with its sections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from checks_page import as_text, cell

from pytest_etcdtls.profiles.profiles import (
    TAKEN_BY,
    Guideline,
    Section,
    builtin,
    read_profiles,
    threshold_text,
)

_HEAD = """\
# Profiles

<!-- exit code 1 -->
```sh
pytest-etcdtls https://10.0.0.11:2379 --profile=nist-800-52r2
```

A profile is a published guideline as levels and thresholds for the checks: it makes a SHOULD a MUST or a
MUST a SHOULD, and restricts TLS versions, cipher suites, key sizes or the validity of a certificate.
`--etcd-profile` is repeatable; in the ini file it is `etcd_profile`. A manifest with kubeadm's layout in
`--etcd-config` selects the profile `kubeadm`. `--etcd-profile=none` or another profile turns this off.

```sh
# what it changes, below each check
pytest-etcdtls --list-checks --profile=nist-800-52r2
pytest-etcdtls --explain=tls.groups --profile=nist-800-52r2
```

At its end, a run prints a line for each profile: how many sections passed, and which failed, have warnings,
were not verified or do not apply. In the JSON report, `profiles` has the outcome of each section, which is
the worst of its checks on all listeners and targets. Results name the sections in their references.

- **A profile is not the whole guideline.** A section, or a part of one, that no check can judge is listed as
  *not judged by this tool*, with the reason. Requirements about people, processes and other software are not
  in a profile.
- **With several profiles, the strictest level and threshold applies.** MUST is stricter than SHOULD, and
  SHOULD is stricter than NOTE. A section without a level means the check's own level. The stricter
  number applies. Lists of several profiles are intersected, and lists of one profile are joined. Lists with
  nothing in common are refused with exit code 4.
- **A threshold only tightens** what a check accepts without a profile. The larger of
  `--etcd-expiry-days` and `expiry_days` applies.
- **NOTE** means that a finding is a remark on the result, and the check conforms. A MUST cannot become a
  NOTE. To accept a finding of a MUST, write a [waiver](fix.md#accept-a-fault), which has a reason
  and an expiry date.
- **A section in which the guideline says shall or must is a MUST.** If the whole guideline only recommends,
  as the BSI's does, its sections are MUSTs too: a profile that is applied requires its recommendations.

## A profile of your own

A profile is a TOML file. Its name without `.toml` is the name of the profile. This is `house.toml`, used as
`--etcd-profile=house.toml`:

```toml
title = "TLS rules of our platform, 2026"
note = "For etcd of the platform team."

[[section]]
section = "1"
title = "TLS 1.3 alone"
says = "Nothing older than TLS 1.3 is accepted."
level = "MUST"
checks = ["tls.version-floor", "tls.tls13-offered"]
thresholds = { tls_versions = ["TLSv1.3"] }

[[section]]
section = "2"
title = "certificates"
says = "ECDSA keys, and half a year at most."
level = "MUST"
on = ["client", "peer"]
checks = ["cert.key-strength", "cert.lifetime"]
thresholds = { keys = ["secp256r1", "secp384r1"], lifetime_days = 183 }

[[section]]
section = "3"
title = "one CA for clients and peers is accepted"
level = "NOTE"
checks = ["mtls.client-certificate-on-peer-port", "mtls.peer-certificate-on-client-port"]

[[section]]
section = "4"
title = "keys are kept in a hardware module"
not_judged = "where a key is kept does not show on the wire"
```

| key of a section | meaning |
|---|---|
| `section`, `title` | number and title, as in the guideline |
| `says` | what it requires, in a few words |
| `level` | `MUST`, `SHOULD` or `NOTE` for its checks; without it, each check has its own |
| `checks` | ids or patterns such as `tls.*` |
| `on` | roles of the listeners that it applies to, such as `client` and `peer`; without it, all |
| `thresholds` | what the checks allow, see below |
| `not_judged` | the part of the section that no check judges, and why; required without checks |

For each threshold, `checks` must contain a check that measures it:

| threshold | meaning | measured by |
|---|---|---|
"""

_THRESHOLDS = {
    "tls_versions": "the only TLS versions that may be accepted: `TLSv1.2`, `TLSv1.3`",
    "cipher_suites": "the only suites that may be accepted in TLS 1.2, by their IANA names",
    "tls13_cipher_suites": "the only suites that TLS 1.3 may accept; up to 5 more connections per listener",
    "groups": "the only groups that may be accepted; hybrid groups are judged only if one of them is listed",
    "groups_one_of": "groups of which at least one must be accepted",
    "keys": "the only types of key: `RSA`, `secp256r1`, `secp384r1`, `secp521r1`, `Ed25519`",
    "rsa_bits": "the minimum size of an RSA key, at least 2048 bits",
    "signature_hashes": "the only hashes of certificate signatures: `sha256`, `sha384`, `sha512`",
    "lifetime_days": "the maximum validity of a served certificate, up to 825 days",
    "expiry_days": "the number of days before expiry from which a check warns",
}


def profiles_page() -> str:
    """Return the page."""
    lines = [_HEAD.rstrip("\n")]
    for name, text in _THRESHOLDS.items():
        lines.append(f"| `{name}` | {text} | {', '.join(f'`{check}`' for check in sorted(TAKEN_BY[name]))} |")
    lines += [
        "",
        "A file that is not TOML, an unknown key or check, and a value out of bounds are refused with exit",
        "code 4 before any connection. The message names file, section and key, and the expected value.",
        "",
    ]
    for profile in read_profiles(builtin(), Path).profiles:
        lines += [*_profile(profile), ""]
    return "\n".join(lines)


def _profile(profile: Guideline) -> Iterator[str]:
    yield f"## {profile.name}"
    yield ""
    yield as_text(profile.title) + "."
    if profile.note:
        yield ""
        yield as_text(profile.note)
    yield ""
    yield "| section | what it is about | level | checks | thresholds | not judged by this tool |"
    yield "|---|---|---|---|---|---|"
    for section in profile.sections:
        yield _section(section)


def _section(section: Section) -> str:
    about = f"**{cell(section.title)}** {cell(section.says)}".strip()
    if section.on:
        about += f" On {', '.join(sorted(section.on))}."
    level = str(section.level) if section.level else ("each check's own" if section.checks else "")
    checks = ", ".join(f"`{check}`" for check in section.checks)
    thresholds = "; ".join(
        f"`{name}` {cell(threshold_text(value))}" for name, value in section.thresholds.given().items()
    )
    return f"| {section.section} | {about} | {level} | {checks} | {thresholds} | {cell(section.not_judged)} |"
