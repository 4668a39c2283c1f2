"""Dataclasses whose methods are not compiled before their first use.

The standard library compiles up to six functions for each dataclass when it is defined. For the hundreds of
dataclasses of this package that took a seventh of a run. Here ``__init__`` is compiled at its first use, and
the other methods are shared. Type checkers see the decorator of the standard library.
"""

from __future__ import annotations

import dataclasses
import reprlib
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> object:
        """Make a class a dataclass, as :func:`dataclasses.dataclass` does; without ``InitVar``.

        A class that inherits from a dataclass, or has rare options, is left to the standard library.
        """
        return _made(cls, options) if cls else lambda cls: _made(cls, options)


def _made(cls: type[Any], options: dict[str, bool]) -> type[Any]:
    if options.keys() - {"frozen", "slots", "kw_only"} or any(map(dataclasses.is_dataclass, cls.__bases__)):
        return dataclasses.dataclass(**options)(cls)
    # Without a docstring, dataclasses.dataclass makes one of the signature, and takes twice as long.
    cls.__doc__ = cls.__doc__ or cls.__name__
    slots, frozen = options.get("slots", False), options.get("frozen", False)
    bare = {"init": False, "repr": False, "eq": False, "slots": slots}
    cls = dataclasses.dataclass(**bare, kw_only=options.get("kw_only", False))(cls)
    # dataclasses._process_class reads it to decide whether a class may inherit from this one.
    cls.__dataclass_params__.frozen = frozen
    for name, method in _methods(cls, frozen=frozen, slots=slots).items():
        if name not in vars(cls):
            setattr(cls, name, method)
    return cls


def _methods(cls: type[Any], *, frozen: bool, slots: bool) -> dict[str, object]:
    names = [one.name for one in dataclasses.fields(cls) if one.compare]
    key: Callable[[object], object] = attrgetter(*names) if names else lambda _: ()

    def equal(self: object, other: object) -> bool:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    methods = {"__init__": _CompiledAtFirstUse(cls), "__repr__": _repr, "__eq__": equal, "__hash__": None}
    if frozen:
        methods |= {
            "__hash__": lambda self: hash(key(self)),
            "__setattr__": _refuse_to_set,
            "__delattr__": _refuse_to_delete,
        }
    if frozen and slots:
        methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
    return methods


class _CompiledAtFirstUse:
    """A descriptor that replaces itself by the compiled ``__init__`` of a dataclass at its first use."""

    def __init__(self, cls: type[Any]) -> None:
        self._class = cls

    def __get__(self, instance: object, owner: type[Any]) -> object:
        self._class.__init__ = made = _compile_init(self._class)
        return made.__get__(instance, owner)


class _Absent:
    """The default of a parameter whose value a factory makes."""

    def __repr__(self) -> str:
        return "<factory>"


_ABSENT: Final = _Absent()


def _compile_init(cls: type[Any]) -> Any:  # noqa: ANN401 - a function
    positional, by_keyword = ["self"], list[str]()
    body: list[str] = []
    bound: dict[str, object] = {"__set": object.__setattr__, "__absent": _ABSENT}
    annotations: dict[str, object] = {}
    for field in dataclasses.fields(cls):
        name, default, value = field.name, f"__of_{field.name}", field.name
        parameter = name
        if field.default is not dataclasses.MISSING:
            bound[default], parameter = field.default, f"{name}={default}"
            if not field.init:
                value = default
        elif field.default_factory is not dataclasses.MISSING:
            bound[default], parameter = field.default_factory, f"{name}=__absent"
            value = f"{default}() if {name} is __absent else {name}" if field.init else f"{default}()"
        elif not field.init:
            continue
        if field.init:
            (by_keyword if field.kw_only else positional).append(parameter)
            annotations[name] = field.type
        body.append(f"  __set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("  self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *by_keyword] if by_keyword else [])])
    text = [f"def make({', '.join(bound)}):", f" def __init__({parameters}):", *(body or ["  pass"])]
    made: dict[str, Any] = {}
    # In the namespace of its module, where typing.get_type_hints looks its annotations up.
    exec("\n".join([*text, " return __init__"]), vars(sys.modules[cls.__module__]), made)  # noqa: S102 - our own
    init = made["make"](**bound)
    init.__annotations__ = annotations | {"return": None}
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


@reprlib.recursive_repr()
def _repr(self: Any) -> str:  # noqa: ANN401 - a dataclass
    shown = (one.name for one in dataclasses.fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _refuse_to_set(_: object, name: str, __: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[object]:  # noqa: ANN401 - a dataclass
    return [getattr(self, one.name) for one in dataclasses.fields(self)]


def _set_state(self: Any, state: list[object]) -> None:  # noqa: ANN401 - a dataclass
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
