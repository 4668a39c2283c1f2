"""etcd's arguments as Go's ``flag`` package reads them.

Knows the syntax of flags and which are switches; not what they mean, nor where the words come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_etcdtls.declared.declaration import Mistake, Place, Setting, Via
from pytest_etcdtls.declared.vocabulary import EVERY_FLAG, IGNORED, SWITCHES
from pytest_etcdtls.declared.words import Word


@dataclass(frozen=True, slots=True)
class Argument:
    """One flag as it is given; ``unresolved`` as in :class:`~pytest_etcdtls.declared.words.Word`."""

    setting: Setting
    unresolved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a command line comes to, in its order."""

    given: tuple[Argument, ...]
    mistakes: tuple[Mistake, ...] = ()


def parse_arguments(words: Sequence[Word]) -> Arguments:
    """Return the flags in the words that follow the program.

    Go stops at the first word that is no flag, and etcd then refuses to start. What follows is read all the
    same, since it tells what was meant.
    """
    given: list[Argument] = []
    mistakes: list[Mistake] = []
    rest = _Rest(words)
    for word in rest:
        if word.text == "--":
            mistakes += [_stray(stray, None) for stray in list(rest)[:1]]
        elif len(word.text) < 2 or not word.text.startswith("-"):
            mistakes.append(_stray(word, given[-1].setting if given else None))
        else:
            found = _flag(word, rest)
            if isinstance(found, Mistake):
                mistakes.append(found)
            else:
                given.append(found)
    return Arguments(tuple(given), tuple(mistakes))


class _Rest(Iterator[Word]):
    """The words that are not read yet; the next one can be looked at."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._words = list(reversed(words))

    def __next__(self) -> Word:
        if not self._words:
            raise StopIteration
        return self._words.pop()

    @property
    def following(self) -> Word | None:
        return self._words[-1] if self._words else None


def _flag(word: Word, rest: _Rest) -> Argument | Mistake:
    dashes = "--" if word.text.startswith("--") else "-"
    name, equals, value = word.text[len(dashes) :].partition("=")
    if not name or name.startswith("-"):
        return Mistake(place=word.place, text=f"etcd stops: {word.text!r} is not the form of a flag")
    unresolved = word.unresolved
    if not equals and name in SWITCHES:
        value = "true"
    elif not equals and _takes(name, rest.following):
        following = next(rest)
        value, unresolved = following.text, (*unresolved, *following.unresolved)
    elif not equals and name in EVERY_FLAG:
        return Mistake(place=word.place, text=f"etcd stops: {word.text} lacks its value")
    setting = Setting(name=name, value=value, spelled=dashes + name, via=Via.FLAG, place=word.place)
    return _checked(setting, unresolved)


def _takes(name: str, following: Word | None) -> bool:
    """Return whether the word behind a flag is its value; of an unknown flag only if it is no flag itself."""
    return following is not None and (name in EVERY_FLAG or not following.is_flag)


def _checked(setting: Setting, unresolved: tuple[str, ...]) -> Argument | Mistake:
    if setting.name in SWITCHES - IGNORED and not setting.boolean and not unresolved:
        return Mistake(
            place=setting.place,
            text=f"etcd stops: {setting.value!r} is no value of {setting.spelled}; write true or false",
        )
    return Argument(setting, unresolved)


def _stray(word: Word, before: Setting | None) -> Mistake:
    text = f"etcd stops: {word.text!r} is not a flag"
    if before is not None and before.name in SWITCHES and before.value == "true":
        text += f"; a switch takes its value after an equals sign: {before.spelled}={word.text}"
    return Mistake(place=word.place, text=text)


def unknown(setting: Setting) -> bool:
    """Return whether no etcd has a flag of that name."""
    return setting.name not in EVERY_FLAG | IGNORED


def program_mistake(first: Word | None, place: Place) -> Mistake | None:
    """Return a mistake if the word after the program makes etcd something else than a server."""
    if first is None or first.text not in ("gateway", "grpc-proxy"):
        return None
    return Mistake(place=place, text=f"etcd {first.text} is a proxy, not a member")
