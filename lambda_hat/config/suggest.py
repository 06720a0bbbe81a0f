"""Suggestions for names that do not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "one_of"]


def did_you_mean(word: object, candidates: Iterable[object]) -> str:
    """A question that names the candidate closest to `word`; empty if none is close."""
    if not isinstance(word, str):
        return ""
    by_lower = {candidate.lower(): candidate for candidate in candidates if isinstance(candidate, str)}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean `{by_lower[found[0]]}`?" if found else ""


def one_of(candidates: Iterable[object]) -> str:
    """The candidates as a phrase: "one of `a`, `b`", or "`a`" where there is only one."""
    names = [f"`{str(name).lower() if isinstance(name, bool) else name}`" for name in candidates]
    return names[0] if len(names) == 1 else "one of " + ", ".join(names)
