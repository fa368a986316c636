"""docs/architecture.md names every module, those of the engine in the order of their layers.

CONTRIBUTING.md names every folder of the repository, and of the tests.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "durable_workflow_sqlite"
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def named_under(heading: str) -> list[str]:
    """The modules in the first column of a section's table, one after the other."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(?:[\w/]+/)?(\w+)\.py`", row)]


def modules(*folders: str) -> list[str]:
    found = [file.stem for folder in folders for file in (PACKAGE / folder).glob("*.py")]
    return sorted(name for name in found if name != "__init__")


def test_every_module_is_named_once() -> None:
    assert sorted(named_under("The engine")) == modules("engine")
    assert sorted(named_under("The store")) == modules("store")
    assert sorted(named_under("The store on PostgreSQL")) == modules("postgres")
    assert sorted(named_under("What people read")) == modules("reading")
    front_ends = ["cli", "dashboard", "integrations", "blocking", "telemetry", "testing"]
    front_ends += [
        f"integrations/{one.parent.name}" for one in PACKAGE.glob("integrations/*/__init__.py")
    ]
    both = named_under("What both sides know") + named_under("The front ends")
    assert sorted(both) == sorted([*modules(*front_ends), *modules(".")])


def test_the_engine_is_told_in_the_order_of_its_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [
        one["layers"]
        for one in contracts["contracts"]
        if one.get("containers") == ["durable_workflow_sqlite.engine"]
    ]
    layer_of = {
        module.strip(): number for number, layer in enumerate(layers) for module in layer.split("|")
    }
    named = [layer_of[name] for name in named_under("The engine")]
    assert named == sorted(named)


def test_every_folder_is_named() -> None:
    named = re.findall(r"^\| `([\w./]+)/` ", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    made = re.compile(r"\.(?!ci$)|__pycache__$|build$|dist$|.*\.egg-info$")
    tops = [one for one in ROOT.iterdir() if one.is_dir() and one.name != "src"]
    inner = [one for top in (PACKAGE, ROOT / "sql") for one in top.iterdir() if one.is_dir()]
    folders = [
        str(one.relative_to(ROOT)) for one in [*tops, PACKAGE, *inner] if not made.match(one.name)
    ]
    assert sorted(named) == sorted(folders)


def test_every_folder_of_the_tests_is_named() -> None:
    named = re.findall(r"^    tests/(\w+) ", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    folders = {file.parent.name for file in (ROOT / "tests").glob("*/*.py")}
    assert sorted(named) == sorted(folders)
