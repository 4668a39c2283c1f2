"""Reading profiles: those of the package, a user's files, and errors in a file."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from made import made_result

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.facts.listener import Policy
from pytest_etcdtls.pki.thresholds import Thresholds
from pytest_etcdtls.profiles.profiles import (
    NOT_JUDGED,
    THRESHOLDS,
    Profiles,
    Strength,
    builtin,
    outcome_of,
    read_profiles,
    summary_of,
)
from pytest_etcdtls.role import Role

SECTION = '[[section]]\nsection = "1"\ntitle = "t"\n'
TLS, CERT = 'checks = ["tls.*"]', 'checks = ["cert.*"]'


def read(*names: str) -> Profiles:
    return read_profiles(names, Path)


def written(directory: Path, text: str, name: str = "house.toml") -> str:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def house(directory: Path, section: str, name: str = "house.toml") -> Profiles:
    return read(written(directory, f'title = "a house"\n{SECTION}{section}', name))


def test_the_profiles_of_the_package_contradict_each_other_in_nothing() -> None:
    for name in builtin():
        (profile,) = read(name).profiles
        assert profile.name == name
        assert profile.title
        assert any(section.checks for section in profile.sections)
    profiles = read(*builtin())
    without = {
        profile.name
        for profile in profiles.profiles
        if not any(section.not_judged for section in profile.sections)
    }
    assert without == {"kubeadm", "cis-kubernetes"}
    assert profiles.thresholds["tls.version-floor"].tls_versions == frozenset({"TLSv1.3"})
    assert profiles.thresholds["cert.key-strength"].rsa_bits == 3000
    assert profiles.thresholds["cert.key-strength"].keys == frozenset({"secp256r1", "secp384r1"})
    assert profiles.thresholds["cert.lifetime"].lifetime_days == 90
    assert "mozilla-modern" in profiles.thresholds["cert.lifetime"].sources["lifetime_days"]


def test_checks_that_measure_a_threshold_take_the_policy() -> None:
    fields = {name for name in Thresholds.__struct_fields__ if name != "sources"}
    assert fields == set(THRESHOLDS)
    measuring = {id_ for threshold in THRESHOLDS.values() for id_ in threshold.checks}
    for id_ in measuring:
        assert Policy in {need.type for need in catalogue()[id_].needs.values()}, id_
    for check in catalogue().values():
        measured = set(re.findall(r'policy\.of\(\s*"([a-z0-9.-]+)"', inspect.getsource(check.function)))
        assert measured <= measuring, check.id


def test_the_level_of_a_role(tmp_path: Path) -> None:
    profiles = house(tmp_path, 'level = "MUST"\non = ["peer"]\nchecks = ["tls.cbc-suites"]\n')
    check = catalogue()["tls.cbc-suites"]
    assert profiles.level(check, Role.PEER) is Strength.MUST
    assert profiles.level(check, Role.CLIENT) is None
    assert profiles.references("tls.cbc-suites", Role.CLIENT) == ()
    assert profiles.references("tls.cbc-suites", Role.PEER) == ("profile house, 1",)


@pytest.mark.parametrize(
    ("first", "second", "level"),
    [
        ("NOTE", 'level = "SHOULD"', Strength.SHOULD),
        ("SHOULD", 'level = "MUST"', Strength.MUST),
        ("NOTE", "", Strength.SHOULD),
        ("MUST", "", Strength.MUST),
    ],
)
def test_the_strictest_level_counts(tmp_path: Path, first: str, second: str, level: Strength) -> None:
    names = [
        written(
            tmp_path, f'title = "{number}"\n{SECTION}{text}\nchecks = ["tls.cbc-suites"]\n', f"{number}.toml"
        )
        for number, text in enumerate((f'level = "{first}"', second))
    ]
    for order in (names, names[::-1]):
        assert read(*order).level(catalogue()["tls.cbc-suites"], Role.CLIENT) is level


def test_the_strictest_threshold_counts_and_names_its_source(tmp_path: Path) -> None:
    def one(name: str, thresholds: str) -> str:
        section = f'checks = ["cert.key-strength", "cert.lifetime"]\nthresholds = {{ {thresholds} }}\n'
        return written(tmp_path, f'title = "{name}"\n{SECTION}{section}', f"{name}.toml")

    a = one("a", 'rsa_bits = 3072, lifetime_days = 90, keys = ["RSA", "secp256r1"]')
    b = one("b", 'rsa_bits = 2048, lifetime_days = 30, keys = ["RSA", "secp384r1"]')
    for order in ((a, b), (b, a)):
        found = read(*order).thresholds
        assert found["cert.key-strength"].rsa_bits == 3072
        assert found["cert.key-strength"].source("rsa_bits") == " (a 1)"
        assert found["cert.key-strength"].keys == frozenset({"RSA"})
        assert found["cert.lifetime"].lifetime_days == 30
        assert found["cert.lifetime"].source("lifetime_days") == " (b 1)"
        assert found["cert.lifetime"].rsa_bits is None
    c = one("c", 'keys = ["Ed25519"]')
    with pytest.raises(UsageError, match=r"a 1 and c 1 have no entry of keys in common"):
        read(a, c)


def test_lists_of_one_profile_add_up(tmp_path: Path) -> None:
    more = SECTION.replace("1", "2") + 'checks = ["tls.groups"]\nthresholds = { groups = ["x25519"] }\n'
    profiles = house(tmp_path, f'checks = ["tls.groups"]\nthresholds = {{ groups = ["secp256r1"] }}\n{more}')
    assert profiles.thresholds["tls.groups"].groups == frozenset({"secp256r1", "x25519"})
    assert profiles.thresholds["tls.groups"].source("groups") == " (house 1, house 2)"


SECTIONS = [
    ("", r"section\[0\] \(1\): name checks that judge it, or say with not_judged"),
    ('checks = "tls"', r"section\[0\]\.checks: a list is expected"),
    ('checks = ["tls.nothing"]', r"'tls\.nothing' matches no check"),
    (f'{TLS}\nlevel = "must"', r"section\[0\]\.level: unknown value 'must' \(known: MUST, SHOULD, NOTE\)"),
    ('checks = ["mtls.no-certificate"]\nlevel = "NOTE"', r"is a MUST, .*--etcd-waivers"),
    (f"{TLS}\nthresholds = {{ rsa_bits = 3072 }}", r"must name a check"),
    (
        f"{CERT}\nthresholds = {{ rsa_bits = 1024 }}",
        r"thresholds\.rsa_bits: a whole number from 2048 to 8192",
    ),
    (
        f"{CERT}\nthresholds = {{ lifetime_days = true }}",
        r"lifetime_days: a whole number from 1 to 825 .*only shortens",
    ),
    (
        f'{TLS}\nthresholds = {{ tls_versions = ["TLS1.3"] }}',
        r"'TLS1\.3' is not known here; there are TLSv1\.2, TLSv1\.3",
    ),
    (f"{TLS}\nthresholds = {{ groups = [] }}", r"the list is empty"),
    (f"{TLS}\n{SECTION}{TLS}", r"section '1' is there twice"),
]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"house\.toml: the key 'title' is missing"),
        ('title = "t"\nsection = []\n', r"section: a list that is not empty is expected"),
        ("\x00", r"is not TOML"),
        (f'titel = "t"\n{SECTION}', r"unknown key 'titel' \(known: title, note, section\)"),
        *((f'title = "t"\n{SECTION}{section}', message) for section, message in SECTIONS),
        ("a." * 20 + "a = 1", r"a key of more than 16 parts"),
        ("a = " + "[" * 20000, r"nested too deeply"),
    ],
)
def test_errors_in_a_file_are_reported(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=message) as caught:
        read(path)
    assert f"--etcd-profile {path}" in str(caught.value)


def test_missing_names_and_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    section = f'title = "t"\n{SECTION}{TLS}\n'
    alike = (written(tmp_path, section), written(tmp_path / "sub", section))
    for names, message in (
        (("nist",), r"--etcd-profile nist: there is no such profile .*nist-800-52r2"),
        ((str(tmp_path / "gone.toml"),), r"gone\.toml does not exist"),
        ((str(tmp_path),), r"is a directory"),
        (("none", "kubeadm"), r"none goes with no other profile"),
        (alike, r"two profiles have the same name"),
    ):
        with pytest.raises(UsageError, match=message):
            read(*names)


def test_texts_of_a_file_are_printed_safely(tmp_path: Path) -> None:
    text = f'title = "{{peer}} \\u001b[2J"\n{SECTION}not_judged = "{{x}}"\n'
    (profile,) = read(written(tmp_path, text)).profiles
    assert "\x1b" not in profile.title
    assert profile.sections[0].not_judged == "{x}"


def result(check: str, outcome: Outcome, role: str = "client") -> CheckResult:
    return made_result(outcome, check, listener=f"{role}-m0", role=role, findings=())


def test_the_outcome_of_a_section_is_the_worst_of_its_checks(tmp_path: Path) -> None:
    text = f'checks = ["tls.groups", "tls.compression"]\n{SECTION.replace("1", "2")}not_judged = "n"\n'
    profiles = house(tmp_path, text)
    judged, left = profiles.profiles[0].sections
    good = result("tls.groups", Outcome.CONFORMS)
    compression = "tls.compression"
    for outcome, expected in (
        (Outcome.CONFORMS, "conforms"),
        (Outcome.NOT_APPLICABLE, "conforms"),
        (Outcome.VIOLATES, "violates"),
        (Outcome.WARNS, "warns"),
        (Outcome.NOT_VERIFIED, "not-verified"),
        (Outcome.INCONCLUSIVE, "inconclusive"),
        (Outcome.NOT_RUN, "not-verified"),
    ):
        assert outcome_of(judged, [good, result(compression, outcome)]) == expected
    assert outcome_of(judged, [good]) == "not-verified"
    assert outcome_of(judged, []) == "not-verified"
    assert outcome_of(judged, [result("tls.groups", Outcome.VIOLATES)]) == "violates"
    assert outcome_of(left, [good]) == NOT_JUDGED
    assert summary_of(profiles.profiles[0], [good, result(compression, Outcome.VIOLATES)]) == (
        "profile house: 0 of 2 sections passed, 1 failed (1), 1 not judged by this tool"
    )


def test_the_outcome_of_a_section_about_one_port(tmp_path: Path) -> None:
    (profile,) = house(tmp_path, 'on = ["peer"]\nchecks = ["tls.groups"]\n').profiles
    results = [result("tls.groups", Outcome.VIOLATES), result("tls.groups", Outcome.CONFORMS, "peer")]
    assert outcome_of(profile.sections[0], results) == "conforms"
