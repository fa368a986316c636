"""Errors of which the engine is given functions that take them apart and make them again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from durable_workflow_sqlite.engine.error_classes import name_of
from durable_workflow_sqlite.engine.error_codec import ErrorCodec
from tests.engine.test_recorded_errors import KeywordError, PartialError, again, seen


def keyword_codec() -> ErrorCodec:
    return ErrorCodec({KeywordError: (lambda error: [error.status, error.body], _of_list)})


def _of_list(data: Any) -> KeywordError:
    return KeywordError(status=data[0], body=("given", data[1]))


class FarError(PartialError):
    pass


def test_functions_for_a_class_are_for_those_derived_from_it_and_in_groups() -> None:
    codec = keyword_codec()
    for error in (KeywordError(status=1, body=2), FarError(status=1, body=2)):
        kept, back = again(error, codec)
        assert kept == "like"
        assert seen(back) == seen(KeywordError(status=1, body=("given", 2)))
    kept, back = again(ExceptionGroup("x", [FarError(status=1, body=2)]), codec)
    assert kept == "like"
    assert isinstance(back, ExceptionGroup)
    assert seen(back.exceptions[0]) == seen(KeywordError(status=1, body=("given", 2)))


def test_the_functions_of_the_nearest_class_are_taken() -> None:
    unused: Any = (lambda _: 1 / 0, lambda _: None)
    near = (lambda error: "near", lambda data: ValueError(data))
    codec = ErrorCodec({Exception: unused, KeywordError: unused, PartialError: near})
    assert seen(again(FarError(status=1, body=2), codec)[1]) == seen(ValueError("near"))


def test_functions_bring_back_an_error_of_a_class_that_has_no_name_or_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Local(Exception):
        pass

    codec = ErrorCodec({Local: (str, Local)})
    assert seen(again(Local("x"), codec)[1]) == seen(Local("x"))
    error = FarError(status=1, body=2)
    parts = keyword_codec().parts(error)
    monkeypatch.delitem(globals(), "FarError")
    assert isinstance(keyword_codec().rebuild(name_of(type(error)), "x", parts), KeywordError)


@pytest.mark.parametrize(
    "pair",
    [
        (lambda error: 1 / 0, lambda data: ValueError(data)),
        (lambda error: threading.Lock(), lambda data: ValueError(data)),
        (lambda error: 1, lambda data: 1 / 0),
        (lambda error: 1, lambda data: "no error"),
        (lambda error: 1, lambda data: KeyboardInterrupt()),
    ],
)
def test_where_the_functions_fail_that_is_logged_and_the_error_recorded_without_them(
    pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    error = KeywordError(status=1, body=2)
    kept, back = again(error, ErrorCodec({KeywordError: pair}))
    assert kept == "whole"
    assert seen(back) == seen(error)
    assert "the functions of errors= for" in caplog.text


def test_where_the_functions_are_gone_class_and_text_come_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = KeywordError(status=1, body=2)
    back = ErrorCodec().rebuild(name_of(type(error)), str(error), keyword_codec().parts(error))
    assert isinstance(back, KeywordError)
    assert (str(back), vars(back)) == ("status 1", {})
    assert "cannot be recreated as it was recorded" in caplog.text


@pytest.mark.parametrize(
    ("errors", "match"),
    [
        ([KeywordError], "must map"),
        ({"KeywordError": (str, str)}, "is not a class of errors"),
        ({KeyboardInterrupt: (str, str)}, "is not a class of errors"),
        ({ValueError("x"): (str, str)}, "is not a class of errors"),
        ({KeywordError: str}, "KeywordError has"),
        ({KeywordError: (str,)}, "KeywordError has"),
        ({KeywordError: (str, None)}, "KeywordError has"),
    ],
)
def test_what_is_no_pair_of_functions_for_a_class_is_refused(errors: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        ErrorCodec(errors)
