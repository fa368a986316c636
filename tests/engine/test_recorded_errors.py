"""What comes back of the error of a step, and that it is what the first run saw."""

from __future__ import annotations

import copyreg
import functools
import http
import json
import subprocess
import threading
import urllib.error
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.message import Message
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pydantic
import pytest

from durable_workflow_sqlite import ErrorClassNotFoundError, StepTimeoutError
from durable_workflow_sqlite.engine.error_codec import ErrorCodec


class Shop:
    class DeclinedError(Exception):
        def __init__(self, message: str, code: int) -> None:
            super().__init__(message)
            self.code = code


class SlotsError(Exception):
    __slots__ = ("__secret", "place")

    def __init__(self, place: str) -> None:
        super().__init__("at a place")
        self.place = place
        self.__secret = 1


class KeywordError(Exception):
    """As those of model clients: made with keywords, which no default of pickle can do."""

    def __init__(self, *, status: int, body: object) -> None:
        super().__init__(f"status {status}")
        self.status, self.body = status, body

    def __reduce__(self) -> Any:
        return _keyword_error, (type(self), {"status": self.status, "body": self.body})


def _keyword_error(kind: type[KeywordError], keywords: dict[str, Any]) -> KeywordError:
    return kind(**keywords)


class PartialError(KeywordError):
    def __reduce__(self) -> Any:
        return functools.partial(type(self), status=self.status, body=self.body), ()


class ClassMethodError(KeywordError):
    @classmethod
    def of(cls, status: int) -> ClassMethodError:
        return cls(status=status, body=None)

    def __reduce__(self) -> Any:
        return self.of, (self.status,)


class StateError(Exception):
    """What its `__setstate__` makes of its state is no mere dict."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__("two numbers")
        self.total = first + second

    def __reduce_ex__(self, protocol: object) -> Any:
        return vars(copyreg)["__newobj__"], (type(self), "two numbers"), {"sum": self.total}

    def __setstate__(self, state: Any) -> None:
        self.total = state["sum"]


class RegisteredError(Exception):
    def __init__(self, one: int, *, two: int) -> None:
        super().__init__("registered")
        self.both = (one, two)


def _registered(one: int, two: int) -> RegisteredError:
    return RegisteredError(one, two=two)


copyreg.pickle(RegisteredError, lambda error: (_registered, error.both))


class ForgetfulError(Exception):
    """Its `__reduce__` leaves out what was set later."""

    def __init__(self, one: int) -> None:
        super().__init__(f"number {one}")
        self.one = one

    def __reduce__(self) -> Any:
        return type(self), (self.one,)


def with_more(error: Exception, **more: object) -> Exception:
    error.add_note("a note")
    for name, value in more.items():
        setattr(error, name, value)
    return error


def caught(action: Callable[[], object]) -> Exception:
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


class Model(pydantic.BaseModel):
    number: int


WHOLE: list[Exception] = [
    ValueError(),
    ValueError(None, 1, 2.5, True, b"x", (1, [2])),
    KeyError("k"),
    Shop.DeclinedError("declined", 402),
    StepTimeoutError("late", workflow_execution_id="one", step_name="pay", step_index=3),
    subprocess.CalledProcessError(1, ["a", Path("b")], b"out", "err"),
    json.JSONDecodeError("bad", "{", 1),
    with_more(json.JSONDecodeError("bad", "{", 1)),
    caught(b"\xff".decode),
    OSError(2, "none", "f"),
    OSError(17, "there", "f", None, "g"),
    ConnectionResetError(104, "reset"),
    urllib.error.URLError("no route"),
    ImportError("no", name="n", path="p"),
    NameError("no", name="n"),
    caught(lambda: compile("a b", "file", "exec")),
    StopIteration(3),
    ExceptionGroup("two", [ValueError("a"), ExceptionGroup("in", [Shop.DeclinedError("b", 3)])]),
    SlotsError("here"),
    KeywordError(status=404, body={"a": [1]}),
    PartialError(status=404, body=None),
    ClassMethodError.of(404),
    StateError(1, 2),
    RegisteredError(1, two=2),
    ForgetfulError(1),
    with_more(ForgetfulError(1), later="x"),
    with_more(ValueError("x"), at=datetime(2026, 1, 1, tzinfo=UTC), took=timedelta(1)),
    with_more(
        ValueError("x"), cost=Decimal("1.10"), id=uuid.UUID(int=1), status=http.HTTPStatus(404)
    ),
    with_more(ValueError("x"), seen={1, 2}, frozen=frozenset("ab"), by={1: "a"}, kind=KeyError),
    with_more(ValueError("x"), inner=OSError(2, "none")),
    httpx.ConnectError("no route"),
    caught(lambda: Model(number="x")),  # type: ignore[arg-type]
]


def _name(error: Exception) -> str:
    return f"{type(error).__module__}:{type(error).__qualname__}"


def again(error: Exception, codec: ErrorCodec | None = None) -> tuple[str, Exception | None]:
    """How much is kept of an error, and what comes back in another process."""
    codec = codec or ErrorCodec()
    parts = codec.parts(error)
    kept = msgspec.json.decode(parts)["kept"]
    assert codec.is_whole(parts) == (kept == "whole")
    return kept, codec.rebuild(_name(error), str(error), parts)


def seen(error: object) -> Any:
    if isinstance(error, Exception):
        slots = {name: getattr(error, name, None) for name in ("errno", "name", "place", "value")}
        if isinstance(error, SlotsError):
            slots["secret"] = error._SlotsError__secret  # type: ignore[attr-defined]
        return type(error), str(error), seen(error.args), seen(vars(error)), seen(slots)
    if isinstance(error, dict):
        return {key: seen(one) for key, one in error.items()}
    return [seen(one) for one in error] if isinstance(error, list | tuple) else error


@pytest.mark.parametrize("error", WHOLE, ids=lambda error: type(error).__name__)
def test_an_error_comes_back_equal(error: Exception) -> None:
    kept, back = again(error)
    assert kept == "whole"
    assert seen(back) == seen(error)
    assert again(back or error)[0] == "whole"


def test_an_error_of_http_comes_back_with_what_a_workflow_asks_of_it() -> None:
    request = httpx.Request("GET", "https://me:pw@x.org/a?b=1", headers={"authorization": "s3cret"})
    response = httpx.Response(
        404, json={"a": 1}, request=request, headers={"set-cookie": "s3cret", "retry-after": "3"}
    )
    error = httpx.HTTPStatusError("not there", request=request, response=response)
    kept, back = again(error)
    assert kept == "like"
    assert isinstance(back, httpx.HTTPStatusError)
    assert back.response.status_code == 404
    assert back.response.json() == {"a": 1}
    assert back.response.headers["retry-after"] == "3"
    assert (back.request.method, str(back.request.url)) == ("GET", "https://x.org/a?b=1")
    assert "s3cret" not in ErrorCodec().parts(error)
    assert "pw" not in ErrorCodec().parts(error)


def test_an_error_of_urllib_comes_back_without_the_body_that_was_not_read() -> None:
    headers = Message()
    headers["Retry-After"] = "3"
    kept, back = again(urllib.error.HTTPError("http://x", 429, "slow down", headers, None))
    assert kept == "like"
    assert isinstance(back, urllib.error.HTTPError)
    assert (back.code, back.reason, back.url) == (429, "slow down", "http://x")
    assert back.headers["retry-after"] == "3"
    assert str(back) == "HTTP Error 429: slow down"
    back.close()


def test_of_an_error_that_holds_what_is_not_plain_class_and_text_come_back() -> None:
    kept, back = again(with_more(Shop.DeclinedError("declined", 402), lock=threading.Lock()))
    assert kept == "text"
    assert seen(back)[:4] == (Shop.DeclinedError, "declined", ["declined"], {})


def test_an_error_in_a_group_that_holds_what_is_not_plain_comes_back_by_class_and_text() -> None:
    members = [with_more(ValueError("a", 1), lock=threading.Lock()), KeyError("k")]
    kept, back = again(ExceptionGroup("two", members))
    assert kept == "like"
    assert isinstance(back, ExceptionGroup)
    assert [repr(one) for one in back.exceptions] == ["ValueError(\"('a', 1)\")", "KeyError('k')"]


def test_an_error_of_a_class_without_a_name_is_known_to_have_none() -> None:
    class Local(Exception):
        pass

    assert again(Local("x")) == ("nothing", None)
    made: Any = type("MadeError", (Shop.DeclinedError,), {})
    assert again(made("x", 1)) == ("nothing", None)


def test_an_error_of_a_made_class_comes_back_as_the_base_that_its_reduce_names() -> None:
    class Base(ForgetfulError):
        def __reduce__(self) -> Any:
            return ForgetfulError, (self.one,)

    kept, back = again(Base(3))
    assert kept == "like"
    assert seen(back) == seen(ForgetfulError(3))


def test_a_class_that_is_gone_is_an_error_and_an_alias_brings_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec = ErrorCodec()
    error = Shop.DeclinedError("declined", 402)
    records = {
        codec.parts(error),
        ErrorCodec(keeps_whole=False).parts(error),
    }
    assert len(records) == 2
    monkeypatch.delattr(Shop, "DeclinedError")
    for parts in records:
        with pytest.raises(ErrorClassNotFoundError, match="left as it is") as found:
            codec.rebuild(_name(error), "declined", parts)
        assert found.value.error_type == _name(error)
        assert "Shop.DeclinedError" in str(found.value) and "errors=" in str(found.value)
    with pytest.raises(ErrorClassNotFoundError, match=r"DeclinedError"):
        codec.rebuild("builtins:ExceptionGroup", "x", _parts_of_group(error))
    monkeypatch.setattr(Shop, "DeclinedError", KeyError, raising=False)
    for parts in records:
        assert isinstance(codec.rebuild(_name(error), "declined", parts), KeyError)


def _parts_of_group(error: Exception) -> str:
    inner = {"error": {"type": _name(error), "args": ["declined"], "state": None}}
    group = {"type": "builtins:ExceptionGroup", "args": ["x", [inner]], "state": None}
    return msgspec.json.encode({"kept": "whole", "main": None, "error": group}).decode()


def test_with_a_formatter_nothing_but_the_class_is_recorded() -> None:
    codec = ErrorCodec({KeywordError: (vars, lambda data: KeywordError(**data))}, keeps_whole=False)
    parts = codec.parts(KeywordError(status=404, body="4111"))
    assert "4111" not in parts and "404" not in parts
    back = codec.rebuild(_name(KeywordError(status=1, body=1)), "status ***", parts)
    assert isinstance(back, KeywordError)
    assert back.args == ("status ***",)


def test_records_of_earlier_versions_come_back_as_before() -> None:
    codec = ErrorCodec()
    name = _name(Shop.DeclinedError("", 0))
    old = {"type": name, "args": ["declined"], "state": {"dict": {"code": 402}}}
    parts = msgspec.json.encode(old).decode()
    assert codec.is_whole(parts)
    assert seen(codec.rebuild(name, "declined", parts)) == seen(Shop.DeclinedError("declined", 402))
    assert seen(codec.rebuild(name, "declined", None))[1:4] == ("declined", ["declined"], {})
    assert not codec.is_whole(None)
    assert codec.rebuild("gone:Error", "x", None) is None
    with pytest.raises(ErrorClassNotFoundError):  # it was found, or it would not have been kept
        codec.rebuild("gone:Error", "x", parts.replace(name, "gone:Error"))


@pytest.mark.parametrize("call", ["subprocess:run", "os:system", "builtins:eval", "gone:call"])
def test_nothing_is_called_that_the_class_does_not_name(
    call: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "made"
    error = {"type": "subprocess:CalledProcessError", "state": None, "args": [f"touch {target}"]}
    partial = {"partial": call, "args": [], "kwargs": {"shell": True}}
    for called in (call, partial):
        parts = msgspec.json.encode({"kept": "whole", "error": error | {"call": called}}).decode()
        ErrorCodec().rebuild("subprocess:CalledProcessError", "x", parts)
        assert "cannot be recreated as it was recorded" in caplog.text
        assert not target.exists()
