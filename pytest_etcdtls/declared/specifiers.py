"""The specifiers of systemd units, ``%i`` and its like, as far as the unit's name tells (systemd.unit(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_etcdtls.declared.words import Word

_DIRECTORIES = {"t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "E": "/etc"}
_SPECIFIER = re.compile(r"%(.)")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Specifiers:
    """What specifiers stand for in one unit.

    Attributes:
        unit: its full name, ``etcd@one.service``; empty if it is not known.
    """

    unit: str = ""

    def expand(self, word: Word) -> Word:
        """Return the word with its specifiers replaced; those that only the machine knows are unresolved."""
        missing: list[str] = []

        def value(match: re.Match[str]) -> str:
            found = self._value(match[1])
            if found is None:
                missing.append(match[0])
            return match[0] if found is None else found

        return Word(_SPECIFIER.sub(value, word.text), word.place, (*word.unresolved, *missing))

    def _value(self, letter: str) -> str | None:
        if letter == "%":
            return "%"
        if letter in _DIRECTORIES:
            return _DIRECTORIES[letter]
        if not self.unit:
            return None
        stem = self.unit.rpartition(".")[0] or self.unit
        prefix, at_sign, instance = stem.partition("@")
        if at_sign and not instance and letter in "iInN":
            return None  # a template alone: the instance is not known
        values = {
            "n": self.unit,
            "N": stem,
            "p": prefix,
            "P": _unescape(prefix),
            "i": instance,
            "I": _unescape(instance),
        }
        return values.get(letter)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text.replace("-", "/"))
