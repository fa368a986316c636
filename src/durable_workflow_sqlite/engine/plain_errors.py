"""Errors to plain data and back: class, arguments, text, attributes and notes.

An error is made again as pickle would. Where its class has a `__reduce__` of its own, what that
names is called; else its `__init__` is not, which may want other arguments and do other things.
Whatever way it is written, it is made again there and then, and compared.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, Final, cast

import msgspec

from durable_workflow_sqlite.engine.error_classes import Names, name_of
from durable_workflow_sqlite.engine.plain_values import NotPlainError, PlainReader, PlainWriter
from durable_workflow_sqlite.errors import DurableWorkflowError, ErrorClassNotFoundError

MAX_TEXT_LENGTH: Final = 1000

# By the name of a class: its errors to JSON data, and back.
Pair = tuple[Callable[[Any], object], Callable[[Any], object]]
Pairs = Mapping[str, Pair]

_log = logging.getLogger("durable_workflow_sqlite.engine")

# Python does not pickle the `obj` of an AttributeError either; a group's parts are its arguments.
_NOT_SEEN: Final = ("__dict__", "__weakref__", "obj")
_WITHOUT_ATTRIBUTES: Final = (BaseExceptionGroup, BaseException, Exception, object)
_NEW: Final = (copyreg.__newobj__, copyreg.__newobj_ex__)  # type: ignore[attr-defined]


class ErrorWriter(PlainWriter):
    """Writes errors, and the errors and values in them."""

    def __init__(self, names: Names, pairs: Pairs) -> None:
        super().__init__(names)
        self._pairs = pairs

    def whole(self, error: Exception) -> dict[str, Any]:
        """What an `ErrorReader` makes the error of. Raises if there is no such thing."""
        key = key_for(type(error), self._pairs)
        if key is not None:
            try:
                return self._by_pair(error, key)
            except Exception:  # noqa: BLE001 - whatever a function of the user does
                _log.exception(
                    "the functions of errors= for %s failed on %r; the error is recorded without"
                    " them",
                    key,
                    error,
                )
        kind = self._class_of(error)
        why: Exception = NotPlainError(f"a {type(error).__qualname__} cannot be made again")
        for reduce in _ways_to_reduce(error):
            was_exact = self.is_exact
            try:
                return self._by(reduce, error, kind)
            except Exception as failure:  # noqa: BLE001 - whatever a class of the user does
                self.is_exact, why = was_exact, failure
        raise why

    def error(self, error: Exception) -> dict[str, Any]:
        """An error in another, as in a group. Of what cannot be kept, its class and text are."""
        try:
            return self.whole(error)
        except Exception:  # noqa: BLE001 - whatever a class of the user does
            plain = {"type": name_of(type(error)), "text": str(error)[:MAX_TEXT_LENGTH]}
            self._reader.error(plain)
            self.is_exact = False
            return plain

    @property
    def _reader(self) -> ErrorReader:
        return ErrorReader(self.names, self._pairs)

    def _by_pair(self, error: Exception, key: str) -> dict[str, Any]:
        to_plain, _ = self._pairs[key]
        data = msgspec.json.decode(msgspec.json.encode(to_plain(error)))
        plain = {"type": name_of(type(error)), "by": key, "data": data}
        self._reader.error(plain)
        self.is_exact = False  # nobody can tell what it leaves out
        return plain

    def _class_of(self, error: Exception) -> type[Exception] | None:
        """The error's class, or None if that is not to be found by its name."""
        try:
            found = self.names.error_class(name_of(type(error)))
        except ErrorClassNotFoundError:
            return None
        return found if found is type(error) else None

    def _by(
        self, reduce: Callable[[], Any], error: Exception, kind: type[Exception] | None
    ) -> dict[str, Any]:
        function, arguments, *rest = reduce()
        if any(one is not None for one in rest[1:]):
            raise NotPlainError("an error that is a list or a dict")
        is_plain_class = function is type(error) and isinstance(reduce, _BuiltinReduce)
        if kind is None:
            # A class of no module may name, as what it is copied to, a base that has one.
            kind = function
            if not isinstance(kind, type) or self.names.error_class(name_of(kind)) is not kind:
                raise NotPlainError("its class is not to be found by its name")
            if not isinstance(error, kind) or kind is Exception:
                raise NotPlainError("it is copied to an error of another class")
        plain: dict[str, Any] = {
            "type": name_of(kind),
            "args": [self.value(one) for one in arguments],
            "state": self.value(rest[0] if rest else None),
        }
        if not is_plain_class:
            plain["call"] = self._call(function, kind)
        again = self._reader.error(plain)
        more = self._difference(error, again)
        if more:
            again = self._reader.error(plain | {"more": more})
            plain["more"] = more
        if type(again) is not kind or str(again) != str(error):
            raise NotPlainError(f"what {name_of(kind)} makes of it is not equal")
        if type(error) is not kind or not self._looks_equal(error, again):
            if is_plain_class and self.is_exact:
                raise NotPlainError("it holds data that JSON cannot hold")
            self.is_exact = False  # its class says that this is a copy of it
        return plain

    def _call(self, function: Any, kind: type[Exception]) -> Any:
        if _is_partial(function):
            return {
                "partial": self._call(function.func, kind),
                "args": [self.value(one) for one in function.args],
                "kwargs": {key: self.value(one) for key, one in function.keywords.items()},
            }
        name = _name_of_function(function)
        if self.names.function(name) != function or not _may_be_called(function, kind):
            raise NotPlainError(f"{name} is not called to make an error")
        return name

    def _difference(self, error: Exception, again: Exception) -> dict[str, Any]:
        """The plain attributes and notes that would not come back."""
        found, other = _attributes(error), _attributes(again)
        if isinstance(error, BaseExceptionGroup):
            del found["args"]  # of which some may come back as class and text
        more: dict[str, Any] = {}
        for name, value in found.items():
            with contextlib.suppress(Exception):  # what is not plain is left to be compared
                plain = self.value(value)
                if name not in other or not self._is_written(other[name], plain):
                    setattr(again, name, value)
                    more[name] = plain
        return more

    def _looks_equal(self, error: Exception, again: Exception) -> bool:
        try:
            return self._is_written(_attributes(again), self.value(_attributes(error)))
        except Exception:  # noqa: BLE001 - something is no plain data
            return False

    def _is_written(self, value: object, plain: object) -> bool:
        try:
            return bool(self.value(value) == plain)
        except Exception:  # noqa: BLE001 - it is no plain data
            return False


class ErrorReader(PlainReader):
    """Makes errors of what an `ErrorWriter` wrote."""

    def __init__(self, names: Names, pairs: Pairs) -> None:
        super().__init__(names)
        self._pairs = pairs

    def error(self, plain: dict[str, Any]) -> Exception:
        """Raises ErrorClassNotFoundError, or whatever a class that has changed raises."""
        if "by" in plain:
            _, from_plain = self._pairs[plain["by"]]
            given: object = from_plain(plain["data"])
            if not isinstance(given, Exception):
                raise NotPlainError(
                    f"it was made a {type(given).__qualname__}, which is not an error"
                )
            return given
        kind = self.names.error_class(plain["type"])
        if "text" in plain:
            return with_text(kind, plain["text"])
        arguments = [self.value(one) for one in plain["args"]]
        if "call" in plain:
            error = self._function(plain["call"], kind)(*arguments)
        else:
            error = kind.__new__(kind, *arguments)
            # Not by an __init__ in Python, which may want other arguments and do other things.
            builtin = next(
                one
                for one in kind.__mro__
                if "__init__" in vars(one) and not isinstance(vars(one)["__init__"], FunctionType)
            )
            builtin.__init__(error, *arguments)  # type: ignore[misc]
        if not isinstance(error, Exception):
            raise NotPlainError(f"{type(error).__qualname__} is not a class of errors")
        state = self.value(plain["state"])
        if state is not None:
            error.__setstate__(state)
        for name, value in plain.get("more", {}).items():
            setattr(error, name, self.value(value))
        return error

    def _function(self, call: Any, kind: type[Exception]) -> Callable[..., Any]:
        if isinstance(call, dict):
            partial = cast("dict[str, Any]", call)
            keywords = {key: self.value(one) for key, one in partial["kwargs"].items()}
            arguments = [self.value(one) for one in partial["args"]]
            return functools.partial(
                self._function(partial["partial"], kind), *arguments, **keywords
            )
        function = self.names.function(call)
        if not _may_be_called(function, kind):
            raise NotPlainError(f"{call} is not called to make a {kind.__qualname__}")
        return function


def with_text(kind: type[Exception], text: str | None) -> Exception:
    """An error of which class and text are all that is known. Raises if there cannot be one."""
    arguments = () if text is None else (text,)
    if issubclass(kind, DurableWorkflowError):
        return kind(*arguments)
    # Not by __init__, which may want other arguments than a message.
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    str(error)
    return error


def key_for(kind: type[Exception], pairs: Pairs) -> str | None:
    """The name of the class in `pairs` that is nearest to an error's class."""
    if not pairs:
        return None
    return next((name for name in map(name_of, kind.__mro__) if name in pairs), None)


class _BuiltinReduce:
    """What the builtin base of an error's class says of it."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self) -> Any:
        base = next(
            one
            for one in type(self._error).__mro__
            if one.__module__ == "builtins" and "__reduce__" in vars(one)
        )
        function, arguments, *state = vars(base)["__reduce__"](self._error)
        # A dict that is there and empty says no more than none.
        return (function, arguments, *(one or None for one in state))


def _ways_to_reduce(error: Exception) -> Iterator[Callable[[], Any]]:
    """How the error can be taken apart, the way of its own class first."""
    registered = copyreg.dispatch_table.get(type(error))
    if registered is not None:
        yield functools.partial(registered, error)
    if any(True for _ in _reduce_functions(type(error))):
        yield functools.partial(error.__reduce_ex__, 2)
    yield _BuiltinReduce(error)


def _reduce_functions(kind: type) -> Iterator[Any]:
    for one in kind.__mro__:
        if one.__module__ != "builtins":
            for name in ("__reduce_ex__", "__reduce__"):
                if name in vars(one):
                    yield vars(one)[name]


def _may_be_called(function: Any, kind: type[Exception]) -> bool:
    """Whether an error's class says that it is made by this function.

    That is the class or a base of it, a class method of these, or what its `__reduce__` names in
    its code. Nothing else is called, whatever the file says.
    """
    if isinstance(function, type):
        return issubclass(function, Exception) and function in kind.__mro__
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type):
        return issubclass(owner, Exception) and owner in kind.__mro__
    if function in _NEW:
        return True
    registered = copyreg.dispatch_table.get(kind)
    functions = [*_reduce_functions(kind), *([] if registered is None else [registered])]
    return any(function is one for reduce in functions for one in _named_in(reduce, kind))


def _named_in(reduce: Any, kind: type[Exception]) -> Iterator[Any]:
    """The functions that the code of a `__reduce__` names."""
    if not isinstance(reduce, FunctionType):
        return
    names = reduce.__code__.co_names
    for name in names:
        named = reduce.__globals__.get(name)
        yield named
        yield getattr(kind, name, None)
        if isinstance(named, ModuleType):
            yield from (getattr(named, one, None) for one in names)


def _is_partial(function: object) -> bool:
    return isinstance(function, functools.partial)


def _name_of_function(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type):
        return f"{name_of(owner)}.{function.__name__}"
    return name_of(function)


def _attributes(error: Exception) -> dict[str, Any]:
    """What an error holds: its arguments, its dict, its slots and what its builtin base has."""
    found = {**vars(error), "args": error.args}
    for kind in type(error).__mro__:
        if kind not in _WITHOUT_ATTRIBUTES:
            for name, slot in vars(kind).items():
                if (
                    isinstance(slot, MemberDescriptorType | GetSetDescriptorType)
                    and name not in _NOT_SEEN
                    and name not in found
                ):
                    with contextlib.suppress(Exception):  # it is not set
                        found[name] = slot.__get__(error, kind)
    return found
