"""Files that are generated and committed: written anew, or compared with what is there."""

from __future__ import annotations

import difflib
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Writes a file, and leaves one alone that holds this text already."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
        print(f"{path}: written")


def is_current(path: Path, text: str, target: str = "generate") -> bool:
    """Whether a file holds this text; prints what differs. target: what of make writes it."""
    committed = path.read_text(encoding="utf-8") if path.exists() else ""
    if committed == text:
        return True
    print(f"{path}: out of date; run `make {target}` and commit what it writes")
    diff = difflib.unified_diff(
        committed.splitlines(), text.splitlines(), "committed", "generated", lineterm=""
    )
    print("\n".join(diff))
    return False
