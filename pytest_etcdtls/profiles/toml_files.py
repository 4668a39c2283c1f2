"""TOML files of users, and what is read from TOML and JSON as typed values.

A mistake is one message with the file, the place in it and what belongs there. msgspec decodes the tables.
Its messages are for programmers, and :data:`_IN_WORDS` has them as an operator says it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from enum import EnumType
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.untrusted.regular_files import read_regular

T = TypeVar("T")

Text = Annotated[str, msgspec.Meta(pattern=r"\S")]
"""A text that is not empty."""

_DEEP_KEY = re.compile(r"^[ \t]*\[{0,2}(?:[^\n\"'#=.]{0,80}\.){16}", re.MULTILINE)
"""tomllib takes time that grows with the cube of the number of parts of a dotted key."""
_MAXIMUM_SIZE: Final = 1024 * 1024
"""The largest accepted size of a file, in octets."""
_MAXIMUM_VALUES: Final = 200_000
"""The most accepted characters that begin a value, most of which are in texts. A list of 10,000 clusters has
fewer."""


def read_toml(path: Path, where: str) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Args:
        path: the file.
        where: the option with the file, the beginning of every message.

    Raises:
        UsageError: if it cannot be read, is not TOML, or is nested too deeply.
    """
    try:
        text = read_regular(path, _MAXIMUM_SIZE).decode("utf-8")
    except UnreadableFileError as error:
        raise UsageError(f"{where} {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not TOML: {error}") from error
    return parse_toml(text, where)


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
        UsageError: if it is not TOML, or nested too deeply.
    """
    import tomllib  # for a run with such a file

    if _DEEP_KEY.search(text):
        raise UsageError(f"{where} has a key of more than 16 parts, and no key there has a dot in it")
    if sum(map(text.count, "[{,=.")) > _MAXIMUM_VALUES:
        raise UsageError(f"{where} has more than {_MAXIMUM_VALUES} values: split it into several files")
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also for a number of more digits than Python converts
        raise UsageError(f"{where} is not TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{where}: values are nested too deeply") from error


def typed(value: object, type_: type[T], where: str, advice: str = "") -> T:
    """Return what was read from a user's file as a value of a type; ``advice`` ends the message of a mistake.

    Raises:
        UsageError: if it is something else. The message names the place in the file, as in
            ``waiver[0].expires``, and what belongs there.
    """
    try:
        # A date is a date of TOML, and not a text.
        return msgspec.convert(value, type_, builtin_types=(dt.date, dt.datetime))
    except msgspec.ValidationError as error:
        message, at = _PLACE.fullmatch(str(error)).groups("")  # type: ignore[union-attr] # matches every text
        text = _in_words(message)
        if text.startswith("unknown"):
            text += f" (known: {', '.join(_known(_type_at(type_, at)))})"
        place = f"{at}: " if at else ""
        raise UsageError(f"{where}: {place}{text}{f'. {advice}' if advice else ''}") from error


_PLACE: Final = re.compile(r"(.*?)(?: - at `\$\.?([\w.\[\]]*)`)?", re.DOTALL)


def _type_at(type_: Any, at: str) -> Any:  # noqa: ANN401 - a type, or a generic of one
    """Return the type of the value at a place such as ``section[0].level``.

    The name of an unknown key may look like a place, which leads nowhere.
    """
    for step in re.findall(r"\w+|\[", re.sub(r"\d+\]", "", at)):
        if step == "[":
            type_ = (*get_args(type_), None)[0]
        else:
            type_ = get_type_hints(type_, include_extras=True).get(step) if type_ else None
        while get_origin(type_) in (Annotated, Union, UnionType):
            type_ = get_args(type_)[0]
    return type_


def _known(type_: Any) -> Iterable[str]:  # noqa: ANN401 - as above
    """Return the keys of a table, or the values of an enumeration."""
    return type_ if isinstance(type_, EnumType) else getattr(type_, "__struct_fields__", ())


_IN_WORDS: Final = (
    (r", got .*", ""),
    (r"Object contains unknown field `(.*)`", r"unknown key '\1'"),
    (r"Object missing required field `(.*)`", r"the key '\1' is missing"),
    (r"`str` matching regex '\\\\S'", "a text that is not empty"),
    (r"`str` matching regex ('.*')", r"a text that matches \1"),
    (r"Expected (.*)", r"\1 is expected"),
    (r"Invalid enum value (.*)", r"unknown value \1"),
    (r"`date`(.*)", r"a date such as 2030-01-31, without quotes and time\1"),
    (r"`str( \| null)?`", "a text in quotation marks"),
    (r"`int( \| null)?`", "a whole number"),
    (r"`float( \| null)?`", "a number"),
    (r"`array( \| null)?` of length >= 1", "a list that is not empty"),
    (r"`array( \| null)?`", "a list"),
    (r"`object( \| null)?`", "a table"),
    (r"`bool( \| null)?`", "true or false"),
    (r"`datetime`", "a date with a time"),
)
"""What msgspec says of a value, and how an operator says it."""


def _in_words(text: str) -> str:
    for pattern, words in _IN_WORDS:
        text = re.sub(pattern, words, text)
    return text
