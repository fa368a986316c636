"""The name that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """As the end of a message: "; did you mean 'order'?"; empty where no name is near."""
    import difflib  # only where somebody has made a mistake

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
