"""Unions of classes that msgspec cannot tell apart: each value is stored with its class's name.

`Card | Cash` is stored as `{"$type": "Card", ...}`. A value may be stored without a name, since
the annotation named one class then. It is read as the one class that it fits.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Any, Final, Union, cast

import msgspec

from durable_workflow_sqlite.engine.type_parts import (
    bare,
    class_of,
    field_names,
    fields_of,
    is_model,
    is_record,
    members,
    reachable,
)

TAG: Final = "$type"


def needs_tags(type_: Any) -> bool:
    """Whether values of a type hold a union, at any depth, whose members need their names."""
    try:
        return _cached_need(type_)
    except TypeError:  # it cannot be hashed; or it raises that again
        return _find_need(type_)


def _find_need(type_: Any) -> bool:
    return any(_is_tagged(one) for one in reachable(type_))


_cached_need = functools.lru_cache(maxsize=4096)(_find_need)


class TaggedCodec:
    """Values of one type, to plain data with the names of classes, and back."""

    def __init__(
        self,
        type_: Any,
        write: Callable[[Any], Any],
        read: Callable[[type, Any], Any],
    ) -> None:
        """write, read: the hooks of msgspec. Raises TypeError for a type that cannot be stored."""
        self._type = type_
        self._encoder = msgspec.json.Encoder(enc_hook=write)
        self._read_hook = read
        for one in reachable(type_):
            self._check(one)

    def decode(self, text: str) -> Any:
        return self._read(self._type, msgspec.json.decode(text))

    def plain(self, value: object) -> Any:
        """What is to be written as JSON for a value."""
        return self._write(self._type, value)

    # To plain data

    def _write(self, type_: Any, value: Any) -> Any:
        type_ = bare(type_)
        if not needs_tags(type_):
            return value
        if options := members(type_):
            return self._write_one_of(options, value, is_tagged=_is_tagged(type_))
        if fields := _record_fields(type_):
            if type(value) is not class_of(type_):
                return value
            return {name: self._write(hint, getattr(value, name)) for name, hint in fields.items()}
        origin, args = typing.get_origin(type_), typing.get_args(type_)
        if not isinstance(value, _kind_of(type_)):
            return value
        if origin is dict:
            items = cast("dict[Any, Any]", value).items()
            return {key: self._write(args[1], one) for key, one in items}
        if origin is tuple and args[-1] is not Ellipsis:
            return [self._write(arg, one) for arg, one in zip(args, value, strict=True)]
        return [self._write(args[0], one) for one in value]

    def _write_one_of(self, options: tuple[Any, ...], value: Any, *, is_tagged: bool) -> Any:
        for option in options:
            kind = class_of(bare(option))
            if type(value) is kind and (is_record(kind) or is_model(kind)):
                data = self._write(option, value)
                if not is_tagged:
                    return data
                plain: dict[str, Any] = self._converted(data, Any)
                if TAG in plain:
                    raise TypeError(f"a {kind.__qualname__} has a field {TAG!r} of its own")
                return {TAG: kind.__name__, **plain}
        for option in options:
            if needs_tags(option) and isinstance(value, _kind_of(bare(option))):
                return self._write(option, value)
        kind = cast("Any", type(value))
        if is_record(kind) or is_model(kind):
            names = ", ".join(class_of(bare(one)).__name__ for one in options if _is_object(one))
            raise TypeError(f"{kind.__qualname__} is not one of {names}; name its class, too")
        return value

    # And back

    def _read(self, type_: Any, data: Any) -> Any:
        type_ = bare(type_)
        if not needs_tags(type_):
            return self._converted(data, type_)
        if options := members(type_):
            return self._read_one_of(options, data)
        if fields := _record_fields(type_):
            return self._read_record(class_of(type_), fields, data)
        origin: Any = typing.get_origin(type_)
        args = typing.get_args(type_)
        if not isinstance(data, dict if origin is dict else list):
            raise TypeError(f"it is not {'an object' if origin is dict else 'an array'} of JSON")
        if origin is dict:
            given = cast("dict[str, Any]", data)
            as_keys: Any = types.GenericAlias(dict, (args[0], None))
            keys = self._converted(dict.fromkeys(given), as_keys)
            values = (self._read(args[1], one) for one in given.values())
            return dict[Any, Any](zip(keys, values, strict=True))
        items = cast("list[Any]", data)
        if origin is tuple and args[-1] is not Ellipsis:
            return tuple(self._read(arg, one) for arg, one in zip(args, items, strict=True))
        make: Any = origin if origin in (tuple, set, frozenset) else list
        return make(self._read(args[0], one) for one in items)

    def _read_one_of(self, options: tuple[Any, ...], data: Any) -> Any:
        if isinstance(data, dict):
            return self._read_object(options, cast("dict[str, Any]", data))
        for option in options:
            if isinstance(data, list) and issubclass(_kind_of(bare(option)), _ARRAYS):
                return self._read(option, data)
        rest = [one for one in options if not needs_tags(one) and not _is_object(one)]
        return self._converted(data, _union(rest))

    def _read_object(self, options: tuple[Any, ...], data: dict[str, Any]) -> Any:
        objects = {class_of(bare(one)).__name__: one for one in options if _is_object(one)}
        if TAG in data:
            rest = {name: one for name, one in data.items() if name != TAG}
            if data[TAG] not in objects:
                raise TypeError(
                    f"it is a {data[TAG]!r}, which is not one of {', '.join(objects)}; a class"
                    " that is stored must keep its name"
                )
            return self._read(objects[data[TAG]], rest)
        fitting: list[Any] = []
        for option in objects.values():
            if not data.keys() <= _keys(class_of(bare(option))):
                continue
            try:
                fitting.append(self._read(option, data))
            except (TypeError, ValueError, msgspec.MsgspecError):
                continue
        fitting += [self._read(one, data) for one in options if class_of(bare(one)) is dict]
        if len(fitting) != 1:
            fits = "none" if not fitting else "more than one"
            raise TypeError(
                f"it has no {TAG!r} that names its class, and fits {fits} of {', '.join(objects)}"
            )
        return fitting[0]

    def _read_record(self, kind: Any, fields: dict[str, Any], data: Any) -> Any:
        from dataclasses import fields as fields_of_dataclass  # whoever has one has loaded this

        if not isinstance(data, dict):
            return self._converted(data, kind)  # which says what is wrong
        given = cast("dict[str, Any]", data)
        values = {name: self._read(fields[name], given[name]) for name in fields if name in given}
        later = {field.name for field in fields_of_dataclass(kind) if not field.init}
        made = kind(**{name: one for name, one in values.items() if name not in later})
        for name in later & values.keys():
            object.__setattr__(made, name, values[name])
        return made

    def _converted(self, data: Any, type_: Any) -> Any:
        """By way of JSON: `convert` and `to_builtins` have no hook for keys (msgspec 0.22)."""
        buffer = bytearray()
        self._encoder.encode_into(data, buffer)
        return msgspec.json.decode(buffer, type=type_, dec_hook=self._read_hook)

    # What can be stored

    def _check(self, type_: Any) -> None:
        if not needs_tags(type_):
            msgspec.json.Decoder(type_, dec_hook=self._read_hook)
            return
        options = members(type_)
        if options:
            if _is_tagged(type_):
                _check_union(type_, options)
            arrays = [one for one in options if issubclass(_kind_of(bare(one)), _ARRAYS)]
            dicts = [one for one in options if _kind_of(bare(one)) is dict]
            if len(arrays) > 1 or len(dicts) > 1:
                raise TypeError(f"two members of `{type_}` look the same in JSON")
        elif not _record_fields(type_) and _kind_of(type_) is type(None):
            raise TypeError(
                f"{class_of(type_).__qualname__} holds a union of classes, which only a dataclass"
                " and the containers list, tuple, set, frozenset and dict can"
            )


def _check_union(type_: Any, options: tuple[Any, ...]) -> None:
    names = [class_of(bare(one)).__name__ for one in options if _is_object(one)]
    if len(names) != len(set(names)):
        raise TypeError(f"two classes of `{type_}` have the same name, by which they are stored")
    rest = [one for one in options if not _is_object(one)]
    if any(_kind_of(bare(one)) is dict or typing.is_typeddict(class_of(bare(one))) for one in rest):
        raise TypeError(f"`{type_}` has a dict beside a class, and in JSON both look the same")
    scalars = [one for one in rest if not needs_tags(one)]
    if scalars:
        msgspec.json.Decoder(_union(scalars))


def _is_tagged(type_: Any) -> bool:
    """Whether it is a union of classes that only their names tell apart."""
    options = members(type_)
    if not any(_is_object(one) for one in options):
        return False
    if len([one for one in options if bare(one) not in (None, type(None))]) == 1:
        return False
    kinds = [class_of(bare(one)) for one in options if _is_object(one)]
    if any(is_model(kind) for kind in kinds):
        return True
    structs = [kind for kind in kinds if issubclass(kind, msgspec.Struct)]
    if len(structs) == len(kinds):
        return len(kinds) > 1 and any(kind.__struct_config__.tag is None for kind in structs)
    return len(kinds) > 1


def _is_object(type_: Any) -> bool:
    kind = class_of(bare(type_))
    return is_record(kind) or is_model(kind)


def _record_fields(type_: Any) -> dict[str, Any]:
    return fields_of(type_) if hasattr(class_of(type_), "__dataclass_fields__") else {}


def _keys(kind: Any) -> set[str]:
    """What the fields of a class are called in JSON."""
    if issubclass(kind, msgspec.Struct):
        return {*kind.__struct_encode_fields__, str(kind.__struct_config__.tag_field)}
    if is_model(kind):
        fields: dict[str, Any] = getattr(kind, "__pydantic_fields__", {})
        return {
            getattr(field, "serialization_alias", None) or name for name, field in fields.items()
        }
    return set(field_names(kind))


def _kind_of(type_: Any) -> Any:
    """The class of a container that may hold a tagged union; NoneType for all else."""
    kind = class_of(type_)
    return kind if kind in (*_ARRAYS, dict) else type(None)


def _union(options: list[Any]) -> Any:
    return Union[tuple(options)] if options else None  # noqa: UP007 - it is made here


_ARRAYS: Final = (list, tuple, set, frozenset)
