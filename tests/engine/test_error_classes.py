"""The class of a recorded error is found again, whatever file is `__main__` by then."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import ErrorClassNotFoundError
from durable_workflow_sqlite.engine.error_codec import ErrorCodec

APP = """
    import json, sys, threading
    from durable_workflow_sqlite.engine.error_codec import ErrorCodec
    from durable_workflow_sqlite.engine.failures import error_type

    print("import", __name__)

    class Shop:
        class DeclinedError(Exception):
            pass

    def store():
        whole, text = Shop.DeclinedError("no", 402), Shop.DeclinedError("no")
        text.lock = threading.Lock()
        for error in (whole, ExceptionGroup("two", [whole]), text):
            print(json.dumps([error_type(error), str(error), ErrorCodec().parts(error)]))

    def rebuild(*modules):
        for line in sys.stdin:
            error = ErrorCodec().rebuild(*json.loads(line), modules)
            if isinstance(error, ExceptionGroup):
                (error,) = error.exceptions
            kind = type(error)
            print("back", kind.__module__, kind.__qualname__, *error.args)
            assert kind is Shop.DeclinedError

    if __name__ == "__main__":
        store() if sys.argv[1:] == ["store"] else rebuild(__name__)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    for file in ("app.py", "shop/app.py", "shop/__main__.py"):
        (tmp_path / file).write_text(textwrap.dedent(APP))
    (tmp_path / "flows.py").write_text("from shop.app import Shop\n")
    return tmp_path


def run(folder: Path, *args: str, stdin: str = "") -> list[str]:
    done = subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def stored(folder: Path, *args: str) -> str:
    return "\n".join(line for line in run(folder, *args) if line.startswith("["))


def back(module: str) -> list[str]:
    whole = f"back {module} Shop.DeclinedError no 402"
    return [whole, whole, f"back {module} Shop.DeclinedError no"]


STORE_APP = ["-c", "import app; app.store()"]
STORE_SHOP_APP = ["-c", "import shop.app; shop.app.store()"]

RUN_AS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "script twice": (["app.py", "store"], ["app.py"], ["import __main__", *back("__main__")]),
    "script, then module": (
        ["app.py", "store"],
        ["-c", "import app; app.rebuild('app')"],
        ["import app", *back("app")],
    ),
    "script, then a module that nobody names": (
        ["app.py", "store"],
        ["-c", "import app; app.rebuild()"],
        ["import app", *back("app")],
    ),
    "script, then module of a package": (
        ["shop/app.py", "store"],
        ["-c", "import shop.app; shop.app.rebuild()"],
        ["import shop.app", *back("shop.app")],
    ),
    "module as main, then module": (
        ["-m", "shop.app", "store"],
        ["-c", "import shop.app; shop.app.rebuild()"],
        ["import shop.app", *back("shop.app")],
    ),
    "package as main, then a module that has the class": (
        ["-m", "shop", "store"],
        ["-c", "import flows, shop.app; shop.app.rebuild('flows')"],
        ["import shop.app", *back("shop.app")],
    ),
    "module, then script": (STORE_APP, ["app.py"], ["import __main__", *back("__main__")]),
    "module, then module as main": (
        STORE_SHOP_APP,
        ["-m", "shop.app"],
        ["import __main__", *back("__main__")],
    ),
    "module of a package, then script": (
        STORE_SHOP_APP,
        ["shop/app.py"],
        ["import __main__", *back("__main__")],
    ),
    "module, then nobody has imported it": (
        STORE_APP,
        [
            "-c",
            "import sys, json; from durable_workflow_sqlite.engine.error_codec import ErrorCodec\n"
            "for line in sys.stdin: print(type(ErrorCodec().rebuild(*json.loads(line))).__name__)",
        ],
        ["import app", "DeclinedError", "ExceptionGroup", "DeclinedError"],
    ),
}


FIRST_RUN_AS = (
    "script twice",
    "script, then module",
    "module as main, then module",
    "package as main, then a module that has the class",
    "module, then nobody has imported it",
)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "process",
    [
        one if one in FIRST_RUN_AS else pytest.param(one, marks=pytest.mark.campaign)
        for one in RUN_AS
    ],
)
def test_a_class_is_found_whatever_its_file_is_run_as(process: str, folder: Path) -> None:
    first, second, expected = RUN_AS[process]
    assert run(folder, *second, stdin=stored(folder, *first)) == expected


@pytest.mark.campaign
def test_a_script_is_not_imported_to_find_its_class(folder: Path) -> None:
    """It may do its work when it is imported."""
    look = """
        import sys, json
        from durable_workflow_sqlite import ErrorClassNotFoundError
        from durable_workflow_sqlite.engine.error_codec import ErrorCodec
        for line in sys.stdin:
            try:
                ErrorCodec().rebuild(*json.loads(line), ["json", "not_loaded"])
            except ErrorClassNotFoundError as error:
                print(error.error_type)
    """
    lines = run(folder, "-c", textwrap.dedent(look), stdin=stored(folder, "app.py", "store"))
    assert lines == ["__main__:Shop.DeclinedError"] * 3


@pytest.mark.parametrize("trouble", ["1 / 0", "raise SystemExit(3)", "import not_there", "x ="])
def test_a_module_that_cannot_be_imported_is_told_of(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_app.py").write_text(trouble)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ErrorClassNotFoundError, match="importing its module failed") as caught:
        ErrorCodec().rebuild("broken_app:Error", "x", '{"kept":"text"}')
    assert caught.value.__cause__ is not None
    assert type(caught.value.__cause__).__name__ in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["", ":", "json", "json:", ":x", "json:loads", "json:decoder.JSONDecoder.decode", ".x:y"],
)
def test_what_is_no_class_of_errors_is_not_taken_for_one(name: str) -> None:
    with pytest.raises(ErrorClassNotFoundError):
        ErrorCodec().rebuild(name, "x", '{"kept":"text"}')
    nested: dict[str, Any] = {"type": name, "args": [], "state": None}
    with pytest.raises(ErrorClassNotFoundError):
        ErrorCodec().rebuild("x:y", "x", json.dumps({"kept": "whole", "error": nested}))
