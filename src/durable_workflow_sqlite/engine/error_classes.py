"""The class of a recorded error, found again by its name: `module:qualname`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final, NamedTuple, cast

from durable_workflow_sqlite.errors import ErrorClassNotFoundError

# A process that multiprocessing has spawned calls the main module of its parent by the second.
_MAIN: Final = ("__main__", "__mp_main__")


def name_of(named: Any) -> str:
    """`module:qualname` of a class or a function."""
    return f"{named.__module__}:{named.__qualname__}"


def name_of_main() -> str | None:
    """What the module `__main__` would be imported as; None if it is not a file, as in a shell."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return None if file is None else Path(file).stem


class Names(NamedTuple):
    """Finds what is recorded by its name, in modules that are loaded or can be imported.

    main: of what was in `__main__`, what that module was then; see `name_of_main`.
    modules: where it is looked for, too, if that module is another one by now.
    given: error classes that are found by these names, wherever they are.
    """

    main: str | None = None
    modules: Sequence[str] = ()
    given: Mapping[str, type[Exception]] = MappingProxyType({})

    def error_class(self, name: str) -> type[Exception]:
        """The class of that name. Raises ErrorClassNotFoundError, from what the import raised."""
        found, cause = self._find(name, _is_error_class)
        if found is not None:
            return cast("type[Exception]", found)
        why = "" if cause is None else f" (importing its module failed: {cause!r})"
        raise ErrorClassNotFoundError(
            f"a step failed with an error of the class {name!r}, which cannot be found now{why}."
            " The execution is left as it is. Bring the class back under that name (an alias is"
            " enough), or give the engine a class of that name:"
            " DurableEngine(errors={Class: (to_plain, from_plain)})",
            error_type=name,
        ) from cause

    def enum_member(self, name: str, member: str) -> Enum:
        """A member of the enum of that name. Raises LookupError if there is none."""
        found, _ = self._find(name, lambda one: isinstance(one, type) and issubclass(one, Enum))
        if found is None:
            raise LookupError(f"there is no enum {name}")
        return cast("type[Enum]", found)[member]

    def function(self, name: str) -> Callable[..., Any]:
        """The class, function or method of that name. Raises LookupError if there is none."""
        found, _ = self._find(name, callable)
        if found is None:
            raise LookupError(f"there is no function {name}")
        return cast("Callable[..., Any]", found)

    def _find(self, name: str, is_it: Callable[[Any], bool]) -> tuple[object, BaseException | None]:
        if name in self.given:
            return self.given[name], None
        module_name, _, qualname = name.partition(":")
        cause: BaseException | None = None
        if not module_name or not qualname or "<locals>" in qualname:
            return None, None
        if module_name in _MAIN:
            candidates = _modules_of_main(self.main, self.modules)
        else:
            module = sys.modules.get(module_name) or _main_as(module_name)
            if module is None:
                module, cause = _imported(module_name)
            candidates = iter(() if module is None else (module,))
        for module in candidates:
            found = _attribute(module, qualname)
            if is_it(found):
                return found, None
        return None, cause


def _attribute(module: ModuleType, qualname: str) -> Any:
    """What a module holds under a name, within its classes too; None if nothing."""
    found: Any = module
    for part in qualname.split("."):
        if not isinstance(found, ModuleType | type):
            return None
        with contextlib.suppress(Exception):  # a module may do anything in its __getattr__
            found = getattr(found, part)
            continue
        return None
    return found


def _modules_of_main(main: str | None, modules: Sequence[str]) -> Iterator[ModuleType]:
    """Where a class of a former `__main__` may be now, the likeliest first. None is imported.

    A script may do its work when it is imported, so that is left to those who know it.
    """
    now = sys.modules.get("__main__")
    if now is not None and (main is None or _last(main) == _last(name_of_main() or main)):
        yield now
    known = [sys.modules[name] for name in modules if name in sys.modules]
    if main is not None:
        if main in sys.modules:
            yield sys.modules[main]
        loaded = (one for one in list(sys.modules.values()) if isinstance(one, ModuleType))
        for module in (*known, *loaded):
            name = getattr(module, "__name__", "")
            if name not in _MAIN and _last(str(name)) == _last(main):
                yield module
    yield from known


def _last(name: str) -> str:
    """What a module's file is called. `python -m package` runs `package.__main__`."""
    return name.removesuffix(".__main__").rpartition(".")[2]


def _main_as(name: str) -> ModuleType | None:
    """The module `__main__`, if it is the file that would be imported under that name."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if main is None or file is None:
        return None
    if main.__spec__ is not None and main.__spec__.name == name:
        return main
    if _last(name) != Path(file).stem and not name.endswith(".__main__"):
        return None
    from importlib.util import find_spec  # few programs come here

    try:
        spec = find_spec(name)
        is_it = spec is not None and spec.origin is not None and Path(spec.origin).samefile(file)
    except (Exception, SystemExit):  # noqa: BLE001 - whatever the package does, or no such package
        # It may be a file of a package, run from within the folder of that package.
        tail = name.split(".")
        is_it = list(Path(file).resolve().with_suffix("").parts[-len(tail) :]) == tail
    return main if is_it else None


def _imported(name: str) -> tuple[ModuleType | None, BaseException | None]:
    try:
        return importlib.import_module(name), None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module does when imported
        return None, error


def _is_error_class(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Exception)
