"""Facts about a function of the user, kept for as long as the function exists.

A step is often a lambda or a bound method: to hold on to it is to hold on to all that it holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, TypeVar
from weakref import ref

T = TypeVar("T")


def remembered(find: Callable[[Any], T]) -> Callable[[Any], T]:
    """`find` of a function, or of what a partial or a bound method calls, found once for each."""
    known: dict[ref[Any], T] = {}

    def forget(key: ref[Any]) -> None:
        known.pop(key, None)

    @functools.wraps(find)
    def recall(function: Any) -> T:
        if type(function) is not FunctionType:
            function = _inside(function)
        try:
            return known[ref(function)]
        except KeyError:
            found = find(function)
            if found is not function:  # which it would keep alive: a class gives itself
                known[ref(function, forget)] = found
            return found
        except TypeError:  # it cannot be hashed, or not be referred to weakly
            return find(function)

    return recall


def _inside(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, MethodType) and isinstance(function.__func__, FunctionType):
        return function.__func__
    return function
