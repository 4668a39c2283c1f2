"""The JSON report, version 1: its members, from which ``report/schema-v1.json`` is generated.

The same types are written and read. What a report has beyond them is skipped, so that a report of a later
version with more members can be read. A member with a default was added later, or belongs to some runs only.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from pytest_etcdtls.checks.results import Ancestor, CheckResult, Level, Outcome, Severity
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.facts.behaviour import Behaviour
from pytest_etcdtls.profiles.toml_files import typed
from pytest_etcdtls.role import CLUSTER, Role

SCHEMA_VERSION: Final = 1
"""Version of the report that is written and read."""
MAXIMUM_SIZE: Final = 32 * 1024 * 1024
"""The largest accepted size of a report, in octets. One of four targets has 5 MiB."""

_TOOL: Final = "pytest-etcdtls"

Name = Annotated[str, Meta(max_length=512)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
RoleName = Annotated[str, Meta(extra_json_schema={"enum": [*map(str, Role), CLUSTER]})]
CheckId = Annotated[Name, Meta(description="Permanent id.", pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$")]
VerdictLine = Annotated[
    str,
    Meta(
        description="One line: CLEAN; or one that begins with CLEAN, ALSO AFTER A RESTART, CLEAN BUT FOR, "
        "1 OF 196 CHECKS CLEAN, NO FAULT FOUND FROM OUTSIDE, NOT CLEAN, CLEAN NOW, NOT AFTER A RESTART, NOT "
        "AS BEFORE or NO VERDICT."
    ),
]
Observation = Annotated[
    dict[str, Any],
    Meta(
        description="The further members depend on the kind. An attempt is given by its number, "
        '{"attempt": 7}, in `attempts`.',
        extra_json_schema={
            "required": ["kind", "target", "role", "url"],
            "properties": {
                "kind": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
                "target": {"type": "string"},
                "role": {"enum": [*map(str, Role), CLUSTER]},
                "url": {"type": "string"},
                "key": {"type": "string", "description": "Which one of that kind."},
            },
        },
    ),
]
AttemptEntry = Annotated[
    dict[str, Any],
    Meta(
        description="One connection to a listener, or a further request on it, as observed.",
        extra_json_schema={
            "required": ["attempt", "url", "purpose", "identity", "ending"],
            "properties": {
                "attempt": {"type": "integer", "minimum": 0, "description": "Its number."},
                "url": {"type": "string"},
                "purpose": {"type": "string"},
                "identity": {"type": "string"},
                "ending": {"type": "string"},
            },
        },
    ),
]


class Tool(Struct, frozen=True, kw_only=True):
    """What made the report."""

    name: Literal["pytest-etcdtls"]
    version: str
    python: str
    openssl: Annotated[str, Meta(description="The OpenSSL that made the handshakes.")]


class ListenerEntry(Struct, frozen=True, kw_only=True):
    """A listener of a target."""

    role: Name
    url: str
    label: Name


class DeclaredListenerEntry(Struct, frozen=True, kw_only=True):
    """What is declared for a listener, and what it does."""

    label: str
    url: str
    declared: Annotated[
        tuple[str, ...],
        Meta(description="Settings with file and line; empty if nothing declares the listener."),
    ]
    effective: Annotated[str, Meta(description="What this version of etcd makes of them.")]
    observed: Annotated[str, Meta(description="The observed behaviour; empty if it was not observed.")]


class TrapEntry(Struct, frozen=True, kw_only=True):
    """A setting that does not do what its name says."""

    id: str
    summary: str


class DeclarationEntry(Struct, frozen=True, kw_only=True):
    """The declaration of a member."""

    member: str
    source: Annotated[str, Meta(description="The file, or words.")]
    form: str
    etcd_version: str | None
    listeners: tuple[DeclaredListenerEntry, ...]
    unknown: Annotated[tuple[str, ...], Meta(description="Settings that no etcd knows.")]
    hidden: Annotated[
        tuple[str, ...],
        Meta(description="Flags and variables that a configuration file makes etcd ignore."),
    ]
    traps: tuple[TrapEntry, ...]
    notes: tuple[str, ...]


class UnreachedListener(Struct, frozen=True, kw_only=True):
    """A declared listener that was not judged."""

    member: str
    role: str
    url: str
    reason: str
    next_start: Annotated[bool, Meta(description="It is opened when etcd is started again.")] = False


class BenchmarkEntry(Struct, frozen=True, kw_only=True):
    """An item of a benchmark: the result of a reader of flags, and what was observed on the wire."""

    source: str
    item: str
    member: str
    title: str
    reads: tuple[str, ...]
    flags_say: Literal["pass", "fail"]
    wire_says: Annotated[
        str | None,
        Meta(
            description="The worst outcome of the checks that judge the same, not-verified if some of them "
            "were not selected; null if none was."
        ),
    ]
    checks: Annotated[tuple[str, ...], Meta(description="The checks with this outcome.")]
    differs: Annotated[bool, Meta(description="The wire contradicts the flags.")]


SettingLines = Annotated[
    tuple[str, ...],
    Meta(
        description="Settings of the declaration that cure it, one in each line: + is to be written, - to be "
        "removed, and each line ends with its file and line in a comment."
    ),
]


class TargetEntry(Struct, frozen=True, kw_only=True):
    """A target."""

    label: Name
    origin: Literal["live", "process", "container"]
    etcd_version: Name | None
    source: Annotated[str | None, Meta(description="Image or binary of an owned cluster.")]
    listeners: tuple[ListenerEntry, ...]
    declared: tuple[DeclarationEntry, ...]
    unreached: tuple[UnreachedListener, ...]
    benchmark: tuple[BenchmarkEntry, ...]
    behaviour: Annotated[tuple[Behaviour, ...], Meta(description="A baseline is compared with it.")] = ()


class FindingEntry(Struct, frozen=True, kw_only=True):
    """A violated expectation."""

    message: str
    expected: str
    observed: str
    evidence: dict[str, str]
    reproduce: Annotated[
        tuple[str, ...],
        Meta(description="Texts to paste into a shell; the last line of each says what to look for."),
    ]


class ResultEntry(Struct, frozen=True, kw_only=True):
    """The result of a check on a listener, or on the whole target."""

    check: CheckId
    level: Level
    severity: Severity
    target: Name
    listener: Annotated[
        Name, Meta(description="Label of the listener, cluster for a check about the whole target.")
    ]
    role: RoleName
    url: str
    outcome: Outcome
    reason: str
    findings: tuple[FindingEntry, ...]
    remediation: str
    settings: SettingLines = ()
    references: tuple[str, ...]
    seconds: Seconds
    cause: Annotated[
        Ancestor | None,
        Meta(
            description="The violation from which this one follows; null for a fault, and without findings."
        ),
    ]

    @classmethod
    def of(cls, result: CheckResult) -> Self:
        """Return the entry of a result.

        It has no level, remediation and concerns of single findings: the result has the first two, and the
        causes show the third.
        """
        findings = tuple(
            FindingEntry(
                message=finding.message,
                expected=finding.expected,
                observed=finding.observed,
                evidence=dict(finding.evidence),
                reproduce=finding.commands,
            )
            for finding in result.findings
        )
        known = asdict(result) | {"findings": findings, "reason": result.reason}
        del known["remedies"], known["why"]
        return cls(remediation=result.remediation, **known)


class FaultEntry(Struct, frozen=True, kw_only=True):
    """A violation that follows from no other one. One that only warns is an entry too."""

    check: Name
    target: Name
    outcome: Annotated[Outcome, Meta(description="violates or warns")]
    severity: Severity
    listeners: Annotated[tuple[str, ...], Meta(min_length=1)]
    message: str
    remediation: str
    settings: SettingLines = ()
    consequences: tuple[Ancestor, ...]


class DifferenceEntry(Struct, frozen=True, kw_only=True):
    """A difference between a target and the one before it, or its counterpart in the baseline."""

    between: tuple[str, str]
    baseline: Annotated[bool, Meta(description="The first of the two targets is of an earlier run.")]
    topic: str
    subject: Annotated[str, Meta(description="What differs, for people.")]
    subjects: tuple[str, ...]
    details: tuple[str, ...]
    listeners: tuple[str, ...]
    before: str
    after: str
    judgement: Literal["worse", "better", "changed"]
    follows: Annotated[bool, Meta(description="A violation that follows from another one, or followed.")]
    meaning: str
    source: Annotated[str, Meta(description="Where that is documented, empty if that is not known.")]
    remedies: Annotated[
        tuple[str, ...], Meta(description="What to do about it; empty if nothing is to be done.")
    ] = ()


class ProfileSection(Struct, frozen=True, kw_only=True):
    """A section of a guideline."""

    section: str
    title: str
    outcome: Annotated[str, Meta(description="The worst outcome of its checks; not-judged if it has none.")]
    checks: tuple[str, ...]
    not_judged: Annotated[
        str,
        Meta(description="What of the section no check judges, and why; empty if nothing."),
    ]


class ProfileEntry(Struct, frozen=True, kw_only=True):
    """A profile, and the outcome of each section of its guideline."""

    name: str
    title: str
    sections: Annotated[tuple[ProfileSection, ...], Meta(min_length=1)]


class ConnectionEntry(Struct, frozen=True, kw_only=True):
    """A connection."""

    url: str
    purpose: str
    identity: str
    tls: Annotated[
        str | None,
        Meta(description="Negotiated version, else the only one offered; null for plaintext or none."),
    ]
    alpn: str
    outcome: Literal["served", "answered", "refused", "other", "closed", "unclear"]
    alert: Annotated[int, Meta(ge=0, le=255)] | None
    milliseconds: Seconds


class Summary(Struct, frozen=True, kw_only=True, rename="kebab"):
    """The number of faults that fail the run, of results by outcome, and of connections."""

    faults: Count
    conforms: Count
    violates: Count
    warns: Count
    waived: Count
    not_applicable: Count
    not_verified: Count
    inconclusive: Count
    broken: Count
    not_run: Count
    not_collected: Count = 0
    connections: Count


class Document(Struct, frozen=True, kw_only=True):
    """A report."""

    schema_version: Literal[1]
    tool: Tool
    started_at: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$", description="UTC.")]
    seconds: Seconds
    partial: Annotated[bool, Meta(description="The run ended before everything selected was judged.")]
    verdict: VerdictLine | UnsetType = UNSET
    metadata: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=1024)]],
        Meta(
            max_length=50,
            description="Metadata of the run, from --etcd-metadata and the hook "
            "pytest_etcdtls_report_metadata.",
        ),
    ] = {}
    targets: tuple[TargetEntry, ...]
    results: tuple[ResultEntry, ...]
    faults: tuple[FaultEntry, ...]
    differences: tuple[DifferenceEntry, ...] = ()
    profiles: tuple[ProfileEntry, ...] = ()
    observations: tuple[Observation, ...]
    attempts: tuple[AttemptEntry, ...] = ()
    connections: tuple[ConnectionEntry, ...]
    summary: Summary


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the report."""
    made = msgspec.json.schema(Document)
    for entry in made["$defs"].values():
        if "description" in entry:  # which msgspec takes from a docstring as it is, before 0.23
            entry["description"] = cleandoc(entry["description"])
        if "properties" in entry:
            entry["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Report of {_TOOL}, version {SCHEMA_VERSION}",
        **made,
    }


def as_document(value: object, where: str, advice: str) -> Document:
    """Return a JSON value that is a report of this tool and of the version that is read.

    Raises:
        UsageError: if it is not. The message begins with ``where``, names the member that is wrong, and ends
            with ``advice``.
    """
    tool = value.get("tool") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(tool, dict) or tool.get("name") != _TOOL:
        raise UsageError(f"{where}: it is JSON, and no report of {_TOOL}. {advice}")
    version = value.get("schema_version")
    if isinstance(version, bool) or version != SCHEMA_VERSION:
        made = f"{_TOOL} {tool.get('version')}"
        raise UsageError(
            f"{where}: it has schema version {version} and was written by {made}; this "
            f"one reads version {SCHEMA_VERSION}. {advice}"
        )
    return typed(value, Document, where, advice)
