"""Which settings a given version of etcd takes notice of, and which it passes over without a word.

Does not know what the settings mean.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from pytest_etcdtls.declared.declaration import Declaration, Setting, Via
from pytest_etcdtls.declared.vocabulary import flag_known
from pytest_etcdtls.declared.vocabulary_yaml import (
    GO_FIELDS,
    SECTIONS,
    section_key_known,
    top_level_known,
)


def known_to(setting: Setting, version: str | None) -> bool:
    """Return whether that version of etcd reads the setting as it is spelled."""
    if setting.via is not Via.KEY:
        return flag_known(setting.name, version)
    section, dot, key = setting.spelled.rpartition(".")
    if not dot:
        return top_level_known(key.lower(), version)
    if section.lower() in GO_FIELDS:
        return True
    return section.lower() in SECTIONS and section_key_known(key.lower(), version)


def passed_over(declaration: Declaration, version: str | None) -> tuple[Setting, ...]:
    """Return the keys and variables that this version ignores and another reads; flags stop etcd instead."""
    return tuple(
        setting
        for setting in declaration.settings.values()
        if setting.via is not Via.FLAG and not known_to(setting, version)
    )


def in_force(declaration: Declaration, version: str | None) -> Declaration:
    """Return the declaration without what this version does not know."""
    kept = {name: setting for name, setting in declaration.settings.items() if known_to(setting, version)}
    return replace(declaration, settings=MappingProxyType(kept))
