"""Our dataclasses behave as those of the standard library, and compile nothing before its first use."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import pickle
import typing
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, field, replace
from pathlib import Path
from typing import Any

import pytest

import pytest_etcdtls.dataclass
from pytest_etcdtls.dataclass import dataclass

Make = Callable[..., Any]


def _pair(body: Callable[[], type], **options: bool) -> tuple[Any, Any]:
    """Return one class as our dataclass and as one of the standard library."""
    return dataclass(**options)(body()), dataclasses.dataclass(**options)(body())


def _value() -> type:
    class Value:
        """A value."""

        number: int
        secret: str = field(repr=False)
        name: str = "none"
        many: list[int] = field(default_factory=list)
        aside: int = field(default=7, compare=False)
        made: dict[str, int] = field(default_factory=dict, init=False)
        fixed: int = field(default=3, init=False)
        last: tuple[int, ...] = field(default=(), kw_only=True)

    return Value


def _checked() -> type:
    class Checked:
        number: int

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("negative")

    return Checked


def _empty() -> type:
    class Empty:
        """Without a field."""

    return Empty


OPTIONS: tuple[dict[str, bool], ...] = (
    {},
    {"frozen": True},
    {"slots": True},
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "kw_only": True},
    {"frozen": True, "slots": True, "order": True},
    {"frozen": True, "slots": True, "eq": False},
)
EACH = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")


@EACH
def test_signature_fields_and_annotations_are_the_same(options: dict[str, bool]) -> None:
    for body in (_value, _checked, _empty):
        ours, theirs = _pair(body, **options)
        assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
        assert [one.name for one in dataclasses.fields(ours)] == [
            one.name for one in dataclasses.fields(theirs)
        ]
        assert ours.__match_args__ == theirs.__match_args__
        assert typing.get_type_hints(ours.__init__) == typing.get_type_hints(theirs.__init__)
        assert ours.__init__.__qualname__ == theirs.__init__.__qualname__
        assert ours.__init__.__module__ == theirs.__init__.__module__


def _shown(make: Make, *arguments: object, **keywords: object) -> tuple[str, list[object]]:
    one = make(*arguments, **keywords)
    return repr(one), [getattr(one, each.name) for each in dataclasses.fields(one)]


@EACH
def test_instances_and_their_repr_are_the_same(options: dict[str, bool]) -> None:
    ours, theirs = _pair(_value, **options)
    given = {"number": 1, "secret": "hidden"}
    for more in ({}, {"name": "x", "many": [1], "aside": 8, "last": (2,)}):
        assert _shown(ours, **given, **more) == _shown(theirs, **given, **more)
    assert "hidden" not in repr(ours(**given))
    assert ours(**given).many is not ours(**given).many
    if not options.get("kw_only"):
        assert _shown(ours, 1, "hidden", "x") == _shown(theirs, 1, "hidden", "x")


@EACH
@pytest.mark.parametrize(
    "keywords",
    [{}, {"number": 1}, {"number": 1, "secret": "", "other": 2}, {"number": 1, "secret": "", "made": {}}],
)
def test_wrong_arguments_have_the_same_message(options: dict[str, bool], keywords: dict[str, object]) -> None:
    said = []
    for make in _pair(_value, **options):
        with pytest.raises(TypeError) as refused:
            make(**keywords)
        said.append(str(refused.value))
    assert said[0] == said[1]


@EACH
def test_equality_and_hashes_are_the_same(options: dict[str, bool]) -> None:
    for make in _pair(_checked, **options):
        same = options.get("eq", True)
        assert (make(number=1) == make(number=1)) is same
        assert make(number=1) != make(number=2)
        assert make(number=1) != 1
        if options.get("frozen"):
            assert (hash(make(number=1)) == hash(make(number=1))) is same
        else:
            with pytest.raises(TypeError, match="unhashable"):
                hash(make(number=1))
        if options.get("order"):
            assert make(number=1) < make(number=2)
    ours, _ = _pair(_value, **options)
    assert (ours(number=1, secret="") == ours(number=1, secret="", aside=9)) is options.get("eq", True)
    empty, _ = _pair(_empty, **options)
    assert (empty() == empty()) is options.get("eq", True)


def test_another_class_with_the_same_fields_is_not_equal() -> None:
    ours, theirs = _pair(_checked, frozen=True)
    assert ours(1) != theirs(1)
    assert ours(1) != _pair(_checked, frozen=True)[0](1)


@EACH
def test_a_frozen_class_refuses_assignment_and_another_does_not(options: dict[str, bool]) -> None:
    ours, _ = _pair(_checked, **options)
    one = ours(number=1)
    if not options.get("frozen"):
        one.number = 2
        assert one == ours(number=2)
        return
    changes: tuple[Callable[[], None], ...] = (
        lambda: setattr(one, "number", 2),
        lambda: setattr(one, "other", 2),
        lambda: delattr(one, "number"),
    )
    for change in changes:
        with pytest.raises((FrozenInstanceError, TypeError)):
            change()
    assert one.number == 1


@EACH
def test_a_copy_with_changes_is_checked_as_a_new_one(options: dict[str, bool]) -> None:
    ours, _ = _pair(_checked, **options)
    assert replace(ours(number=1), number=2).number == 2
    with pytest.raises(ValueError, match="negative"):
        replace(ours(number=1), number=-1)
    with pytest.raises(ValueError, match="negative"):
        ours(number=-1)


@dataclass(frozen=True, slots=True)
class Slotted:
    """With slots, which pickle would set one by one."""

    number: int
    many: tuple[int, ...] = ()


@dataclass(frozen=True)
class Unslotted:
    """Without slots."""

    number: int


@dataclass(slots=True)
class Changeable:
    """Not frozen."""

    number: int


@dataclass(frozen=True, slots=True)
class Inheriting(Slotted):
    """A dataclass of a dataclass."""

    more: int = 5


@dataclasses.dataclass(frozen=True)
class Theirs(Unslotted):
    """A user's own dataclass that inherits from one of ours."""

    more: int = 5


EXAMPLES = [Slotted(1, (2,)), Unslotted(1), Changeable(1), Inheriting(1, (2,), 3), Theirs(1, 2)]


@pytest.mark.parametrize("one", EXAMPLES, ids=lambda one: type(one).__name__)
def test_a_value_survives_pickling_and_copying(one: Any) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(one, protocol)) == one  # noqa: S301 - our own
    assert copy.copy(one) == copy.deepcopy(one) == one
    assert dataclasses.asdict(one)["number"] == 1


def test_a_class_may_inherit_as_from_one_of_the_standard_library() -> None:
    assert Inheriting(1) == Inheriting(1, (), 5)
    assert [one.name for one in dataclasses.fields(Inheriting)] == ["number", "many", "more"]
    with pytest.raises(FrozenInstanceError):
        Theirs(1).more = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):
        dataclasses.dataclass(type("Unfrozen", (Unslotted,), {}))

    class Sub(Unslotted):
        def __init__(self) -> None:
            super().__init__(4)

    assert Sub().number == 4
    assert str(inspect.signature(Sub)) == "() -> 'None'"


def test_own_methods_are_kept() -> None:
    @dataclass(frozen=True, slots=True)
    class Own:
        number: int

        def __repr__(self) -> str:
            return "own"

    assert repr(Own(1)) == "own"


def test_nothing_is_compiled_before_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_init = pytest_etcdtls.dataclass._compile_init

    def record(cls: type[Any]) -> object:
        compiled.append(cls.__name__)
        return compile_init(cls)

    monkeypatch.setattr(pytest_etcdtls.dataclass, "_compile_init", record)
    # What the standard library compiles with, up to Python 3.12.
    monkeypatch.setattr(
        dataclasses, "_create_fn", lambda name, *_, **__: compiled.append(name), raising=False
    )
    made: Any = dataclass(frozen=True, slots=True)(_checked())
    assert compiled == []
    assert made(1) == made(1)
    assert compiled == ["Checked"]


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses":
            yield from (name.name for name in node.names)


def test_the_package_has_no_dataclass_that_is_compiled_at_once() -> None:
    root = Path(pytest_etcdtls.__file__).parent
    paths = [path for path in root.rglob("*.py") if path.name != "dataclass.py"]
    assert len(paths) > 100
    assert [path.name for path in paths if "dataclass" in _imports(path)] == []
